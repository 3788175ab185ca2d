//! The program: arguments, settings, log, signals, exit code.

use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use crossbeam_channel::{bounded, select};
use log::{error, info, warn};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use signal_hook::low_level::signal_name;

use mso::check::{self, Grade};
use mso::clock;
use mso::config::{self, Config, MOUNTED_ACCOUNT, Tls};
use mso::explain::{self, Problem, Question};
use mso::kube::Client;
use mso::logging;
use mso::service::Service;
use mso::status;
use mso::supervise::Supervisor;

const HELP: &str = "\
mso, the Model Services Orchestrator: makes the models of a DOTS simulation exist in Kubernetes.

Usage: mso                    the service
       mso check [--strict]   whether it could do its work with these settings: exit code 2 where not, 1 for warnings with --strict
       mso explain [SIMULATION [MODEL]] [--json]
                              what the cluster says of the simulations, whether the service runs or not: why one waits or has failed, and
                              what to do. Exit code 1 where there is none with that name, 2 where the cluster does not answer
       mso --help | --version

All settings are environment variables, and a file .env in the working directory is read too:
  SIMULATOR_NAME, MQTT_HOST, MQTT_PORT, MQTT_USERNAME, MQTT_PASSWORD,
  KUBERNETES_HOST, KUBERNETES_PORT, KUBERNETES_NAMESPACE, KUBERNETES_API_TOKEN, KUBERNETES_API_TOKEN_FILE,
  KUBERNETES_CA_FILE, KUBERNETES_VERIFY_TLS, KUBERNETES_PULL_IMAGE_SECRET_NAME, KUBERNETES_IMAGE_PULL_POLICY,
  GOOGLE_APPLICATION_CREDENTIALS_K8S_SECRET, AWS_K8S_SECRET, DEPLOY_PARALLELISM,
  UNSCHEDULABLE_TIMEOUT, CONTAINER_CREATING_TIMEOUT, IMAGE_PULL_TIMEOUT, IMAGE_UNUSABLE_TIMEOUT, IMAGE_INSPECT_TIMEOUT,
  CONTAINER_CONFIG_TIMEOUT, VOLUME_SUBPATH_TIMEOUT, CONTAINER_START_TIMEOUT,
  API_TIMEOUT, DENIED_TIMEOUT, QUOTA_TIMEOUT, READY_TIMEOUT,
  TERMINATING_TIMEOUT, NODE_LOST_TIMEOUT, DONE_GRACE, SIMULATION_TIMEOUT,
  RECREATE_NEVER_STARTED, REPORT_ERRORS,
  STATUS_ADDRESS, LOG_LEVEL, LOG_FORMAT
README.md says what each means. The values in force are logged at start.";

/// After what the service itself takes to stop, and before the two seconds in which Kubernetes and people expect the process to be gone.
const HARD_STOP_LIMIT: Duration = Duration::from_millis(1850);

/// One stop may be two signals: a terminal's and that of the program which passes it on, or both of `timeout`'s.
const SAME_STOP: Duration = Duration::from_millis(200);

/// For the two threads here, which do nothing but wait.
const WAITING_LIMIT: Duration = Duration::from_secs(10);

fn main() -> ExitCode {
    let command = match command() {
        Ok(command) => command,
        Err(problem) => {
            eprintln!("mso: {problem}\nTry mso --help.");
            return ExitCode::from(2);
        }
    };
    if let Command::Say(text) = command {
        println!("{text}");
        return ExitCode::SUCCESS;
    }
    let config = match read_config() {
        Ok(config) => config,
        Err(problems) => {
            for problem in problems {
                eprintln!("{problem}");
            }
            return if let Command::Run = command { ExitCode::FAILURE } else { ExitCode::from(2) };
        }
    };
    match command {
        Command::Check { is_strict } => return check(&config, is_strict),
        Command::Explain(question) => return explain(&config, &question),
        Command::Run | Command::Say(_) => {}
    }
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

enum Command {
    Run,
    Check { is_strict: bool },
    Explain(Question),
    Say(String),
}

fn command() -> Result<Command, lexopt::Error> {
    use lexopt::prelude::{Long, Short, Value};
    let mut arguments = lexopt::Parser::from_env();
    match arguments.next()? {
        None => Ok(Command::Run),
        Some(Long("help") | Short('h')) => Ok(Command::Say(HELP.to_owned())),
        Some(Long("version") | Short('V')) => Ok(Command::Say(format!("mso {}", env!("CARGO_PKG_VERSION")))),
        Some(Value(name)) if name == "check" => match arguments.next()? {
            None => Ok(Command::Check { is_strict: false }),
            Some(Long("strict")) => Ok(Command::Check { is_strict: true }),
            Some(other) => Err(other.unexpected()),
        },
        Some(Value(name)) if name == "explain" => question(arguments).map(Command::Explain),
        Some(other) => Err(other.unexpected()),
    }
}

fn question(mut arguments: lexopt::Parser) -> Result<Question, lexopt::Error> {
    use lexopt::prelude::{Long, Value, ValueExt};
    let mut question = Question::default();
    while let Some(argument) = arguments.next()? {
        match argument {
            Long("json") => question.is_json = true,
            Value(id) if question.simulation.is_none() => question.simulation = Some(id.string()?),
            Value(id) if question.model.is_none() => question.model = Some(id.string()?),
            other => return Err(other.unexpected()),
        }
    }
    Ok(question)
}

fn check(config: &Config, is_strict: bool) -> ExitCode {
    match check::run(config) {
        Ok(Grade::Good) => ExitCode::SUCCESS,
        Ok(Grade::Warning) => ExitCode::from(u8::from(is_strict)),
        Ok(Grade::Bad) => ExitCode::from(2),
        Err(error) => {
            eprintln!("mso: standard output: {error}");
            ExitCode::from(2)
        }
    }
}

fn explain(config: &Config, question: &Question) -> ExitCode {
    match explain::run(config, question) {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => {
            eprintln!("mso: {problem}");
            ExitCode::from(if let Problem::Unknown(_) = problem { 1 } else { 2 })
        }
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
    let mut signals = Signals::new([SIGTERM, SIGINT]).map_err(|error| format!("failed to listen for signals: {error}"))?;
    let client = Client::new(&config.kubernetes, &config.pods, config.deploy_parallelism)?;
    let status =
        match config.status {
            Some(address) => Some(status::Server::bind(address).map_err(|error| {
                format!("failed to listen at STATUS_ADDRESS={address}: {error}; it takes an address that is free, or off")
            })?),
            None => None,
        };
    let (signals_in, signals_out) = bounded(1);
    let no_thread = |error| format!("failed to start a thread: {error}");
    let (supervisor, ends) = Supervisor::new();
    supervisor
        .spawn("signals", WAITING_LIMIT, move |beat| {
            let mut signals = signals.forever();
            let Some(first) = beat.wait(|| signals.next()) else { return };
            let first_at = clock::now().instant;
            // There is room for it.
            let _ = signals_in.try_send(first);
            while beat.wait(|| signals.next()).is_some() {
                if clock::now().instant - first_at >= SAME_STOP {
                    // Without a word, as the log itself may be what hangs. It is what was asked for, so the code is the same.
                    std::process::exit(0);
                }
            }
        })
        .map_err(no_thread)?;
    let service = Service::start(config, client, &supervisor).map_err(no_thread)?;
    if let Some(server) = status {
        info!("/livez and /readyz are answered at {}", server.address());
        let (threads, readiness) = (supervisor.threads(), service.readiness());
        supervisor.spawn("status", status::LIMIT, move |beat| server.run(&threads, &readiness, beat)).map_err(no_thread)?;
    }
    select! {
        recv(signals_out) -> signal => {
            // First of all, as the log itself may be what hangs: a full pipe that nobody reads.
            supervisor.spawn("stop-limit", WAITING_LIMIT, |beat| {
                beat.wait(|| std::thread::sleep(HARD_STOP_LIMIT));
                std::process::exit(0);
            }).map_err(no_thread)?;
            let name = signal.ok().and_then(signal_name).unwrap_or("a signal");
            supervisor.expect_ends();
            info!("Stopping on {name}: what is in flight is finished, pods are left running.");
            service.stop(&ends).map_err(|end| format!("While stopping {end}."))
        }
        recv(ends) -> end => Err(format!("{}: stopping.", end.expect("the supervisor has a sender"))),
    }
}
