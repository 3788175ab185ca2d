//! The program: arguments, settings, log, threads, exit code.

use std::io;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, bounded, select, unbounded};
use log::{error, info, warn};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use signal_hook::low_level::signal_name;

use mso::config::{self, Config, MOUNTED_ACCOUNT, Tls};
use mso::kube::Client;
use mso::orchestrator::Orchestrator;
use mso::orchestrator::event::Event;
use mso::state::{self, Outlets};
use mso::supervise::{End, Supervisor};
use mso::{clock, deployer, logging, mqtt, pods};

const HELP: &str = "\
mso, the Model Services Orchestrator: makes the models of a DOTS simulation exist in Kubernetes.

Usage: mso [--help | --version]

All settings are environment variables, and a file .env in the working directory is read too:
  SIMULATOR_NAME, MQTT_HOST, MQTT_PORT, MQTT_USERNAME, MQTT_PASSWORD,
  KUBERNETES_HOST, KUBERNETES_PORT, KUBERNETES_NAMESPACE, KUBERNETES_API_TOKEN, KUBERNETES_API_TOKEN_FILE,
  KUBERNETES_CA_FILE, KUBERNETES_VERIFY_TLS, KUBERNETES_PULL_IMAGE_SECRET_NAME,
  GOOGLE_APPLICATION_CREDENTIALS_K8S_SECRET, AWS_K8S_SECRET, DEPLOY_PARALLELISM, LOG_LEVEL, LOG_FORMAT
README.md says what each means. The values in force are logged at start.";

/// Edges wait when the state thread is this far behind.
const MAX_EVENTS_WAITING: usize = 1024;
/// Logs of crashed models, which can be long, are read beside everything else.
const LOG_WORKERS: usize = 2;
/// Kubernetes and people expect a stopped process to be gone by two seconds.
const STOP_LIMIT: Duration = Duration::from_millis(1700);
const HARD_STOP_LIMIT: Duration = Duration::from_millis(1850);

fn main() -> ExitCode {
    match wants_to_run() {
        Ok(true) => {}
        Ok(false) => return ExitCode::SUCCESS,
        Err(problem) => {
            eprintln!("mso: {problem}\nTry mso --help.");
            return ExitCode::from(2);
        }
    }
    let config = match read_config() {
        Ok(config) => config,
        Err(problems) => {
            for problem in problems {
                eprintln!("{problem}");
            }
            return ExitCode::FAILURE;
        }
    };
    if let Err(error) = logging::init(config.log) {
        eprintln!("failed to set up the log: {error}");
        return ExitCode::FAILURE;
    }
    match run(&config) {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => {
            error!("{problem}");
            ExitCode::FAILURE
        }
    }
}

/// Answers --help and --version. False where that was all.
fn wants_to_run() -> Result<bool, lexopt::Error> {
    use lexopt::prelude::{Long, Short};
    let mut arguments = lexopt::Parser::from_env();
    match arguments.next()? {
        None => Ok(true),
        Some(Long("help") | Short('h')) => {
            println!("{HELP}");
            Ok(false)
        }
        Some(Long("version") | Short('V')) => {
            println!("mso {}", env!("CARGO_PKG_VERSION"));
            Ok(false)
        }
        Some(other) => Err(other.unexpected()),
    }
}

fn read_config() -> Result<Config, Vec<String>> {
    let variables = config::environment().map_err(|problem| vec![problem])?;
    Config::read(&variables, Path::new(MOUNTED_ACCOUNT)).map_err(|errors| errors.iter().map(ToString::to_string).collect())
}

fn run(config: &Config) -> Result<(), String> {
    info!("mso {} starts with these settings:", env!("CARGO_PKG_VERSION"));
    for (name, value) in config.settings() {
        info!("{name}={value}");
    }
    if config.simulator.as_str().is_empty() {
        warn!("SIMULATOR_NAME is empty: only an SO without a name is heard.");
    }
    if matches!(config.kubernetes.tls, Tls::Unverified) {
        warn!("KUBERNETES_VERIFY_TLS is false: whoever answers for the API server gets the token.");
    }
    let signals = Signals::new([SIGTERM, SIGINT]).map_err(|error| format!("failed to listen for signals: {error}"))?;
    let client = Client::new(&config.kubernetes, &config.pods, config.deploy_parallelism)?;
    let (supervisor, ends) = Supervisor::new();
    let service = start(config, client, signals, &supervisor).map_err(|error| format!("failed to start a thread: {error}"))?;
    select! {
        recv(service.signals) -> signal => {
            // First of all, as the log itself may be what hangs: a full pipe that nobody reads.
            supervisor.spawn("stop-limit", || {
                std::thread::sleep(HARD_STOP_LIMIT);
                std::process::exit(0);
            }).map_err(|error| format!("failed to start a thread: {error}"))?;
            let name = signal.ok().and_then(signal_name).unwrap_or("a signal");
            info!("Stopping on {name}: what is in flight is finished, pods are left running.");
            service.stop(&ends)
        }
        recv(ends) -> end => Err(how_it_ended(end.ok())),
    }
}

fn how_it_ended(end: Option<End>) -> String {
    match end {
        Some(End { thread, panicked: true }) => format!("Thread {thread} panicked: stopping."),
        Some(End { thread, panicked: false }) => format!("Thread {thread} ended early: stopping."),
        None => "All threads ended early: stopping.".to_owned(),
    }
}

struct Service {
    events: Sender<Event>,
    publisher: Arc<mqtt::Publisher>,
    signals: Receiver<i32>,
}

fn start(config: &Config, client: Client, mut signals: Signals, supervisor: &Supervisor) -> io::Result<Service> {
    let (events_in, events) = bounded(MAX_EVENTS_WAITING);
    let (calls_in, calls) = unbounded();
    let (logs_in, logs) = unbounded();
    let (signals_in, signals_out) = bounded(1);
    let client = Arc::new(client);
    let (publisher, connection) = mqtt::open(&config.mqtt, &config.simulator);
    let publisher = Arc::new(publisher);

    let outlets = Outlets { publisher: publisher.clone(), calls: calls_in, logs: logs_in };
    let orchestrator = Orchestrator::new(config.simulator.clone(), config.deploy_parallelism, fastrand::u64(..));
    supervisor.spawn("state", move || state::run(orchestrator, &events, &outlets))?;
    let broker_events = events_in.clone();
    supervisor.spawn("mqtt", move || connection.run(&broker_events))?;
    let (pods_client, pods_events) = (client.clone(), events_in.clone());
    supervisor.spawn("pods", move || pods::run(&pods_client, &pods_events))?;
    for i in 0..config.deploy_parallelism {
        let (client, calls, events) = (client.clone(), calls.clone(), events_in.clone());
        supervisor.spawn(format!("deployer-{i}"), move || deployer::run(&client, &calls, &events))?;
    }
    for i in 0..LOG_WORKERS {
        let (client, logs, events) = (client.clone(), logs.clone(), events_in.clone());
        supervisor.spawn(format!("logs-{i}"), move || deployer::read_logs(&client, &logs, &events))?;
    }
    supervisor.spawn("signals", move || {
        for signal in signals.forever() {
            // One is enough: a full channel means that we stop already.
            let _ = signals_in.try_send(signal);
        }
    })?;
    Ok(Service { events: events_in, publisher, signals: signals_out })
}

impl Service {
    /// Ends the state thread, then the connection to the broker. The others hold nothing and end with the process.
    fn stop(&self, ends: &Receiver<End>) -> Result<(), String> {
        let stop_by = clock::now().instant + STOP_LIMIT;
        if self.events.send_deadline(Event::Stop, stop_by).is_ok() {
            wait_for("state", ends, stop_by)?;
        }
        self.publisher.disconnect();
        wait_for("mqtt", ends, stop_by)?;
        info!("Stopped.");
        Ok(())
    }
}

/// Threads end in any order now; one that panics is still a fault.
fn wait_for(thread: &str, ends: &Receiver<End>, until: Instant) -> Result<(), String> {
    while let Ok(end) = ends.recv_deadline(until) {
        if end.panicked {
            return Err(how_it_ended(Some(end)));
        }
        if end.thread == thread {
            break;
        }
    }
    Ok(())
}
