//! A model that computes nothing: it connects, says that it is ready, answers its SO, and ends as its environment tells it to.

use std::fmt::Display;
use std::io::Write;
use std::process::{Command, ExitCode, ExitStatus, Stdio};
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::time::{Duration, Instant};

use mso::clock;
use mso::proto::ErrorOccurred;
use prost::Message;
use rumqttc::{Client, Connection, Event, Incoming, MqttOptions, Outgoing, QoS};

/// What no test asks for as EXIT_CODE, so that a broken fake model is not taken for one that plays a failure.
const BROKEN: u8 = 99;

/// What a shell reports for a process that SIGTERM ended.
const TERMINATED: i32 = 128 + signal_hook::consts::SIGTERM;

/// How long the broker may take for our last messages.
const GOODBYE: Duration = Duration::from_secs(2);

// What a fake model tells its child.
const LOG_BYTES_IN_ONE_LINE: &str = "LOG_BYTES_IN_ONE_LINE";
const CHILD_MEMORY_BYTES: &str = "CHILD_MEMORY_BYTES";

fn main() -> ExitCode {
    match run() {
        Ok(code) => ExitCode::from(code),
        Err(problem) => {
            eprintln!("fake-model: {problem}");
            ExitCode::from(BROKEN)
        }
    }
}

struct Settings {
    mqtt_host: String,
    mqtt_port: u16,
    simulation: String,
    model: String,
    /// From the start on. `None`: never.
    ready_after: Option<Duration>,
    /// Ready until the broker has acknowledged it, over outages; and a broker that is not there yet is waited for. Models in use say it
    /// once, at QoS 0, and give up.
    ready_at_least_once: bool,
    /// From the start on. `None`: at `SimulationDone`.
    exit_after: Option<Duration>,
    /// At once, when the broker goes away.
    exit_when_disconnected: bool,
    exit_code: u8,
    /// When the parameters come. As models in use do on an exception: `ErrorOccurred` to the SO, and an end with code 0.
    fail_at_parameters: bool,
    /// Printed at the start.
    log_lines: usize,
    /// One more line, of this length.
    log_bytes_in_one_line: usize,
    /// At the start a child takes so much memory, be it killed for that. It is another fake model, which writes a line of this length to nobody.
    child_memory_bytes: usize,
}

impl Settings {
    fn read() -> Result<Self, String> {
        Ok(Self {
            mqtt_host: required("MQTT_HOST")?,
            mqtt_port: parsed("MQTT_PORT")?.unwrap_or(1883),
            simulation: required("SIMULATION_ID")?,
            model: required("MODEL_ID")?,
            ready_after: match std::env::var("READY_AFTER_SECONDS").as_deref() {
                Ok("never") => None,
                _ => Some(seconds("READY_AFTER_SECONDS")?.unwrap_or(Duration::ZERO)),
            },
            ready_at_least_once: parsed("READY_AT_LEAST_ONCE")?.unwrap_or(false),
            exit_after: seconds("EXIT_AFTER_SECONDS")?,
            exit_when_disconnected: parsed("EXIT_WHEN_DISCONNECTED")?.unwrap_or(false),
            exit_code: parsed("EXIT_CODE")?.unwrap_or(0),
            fail_at_parameters: parsed("FAIL_AT_PARAMETERS")?.unwrap_or(false),
            log_lines: parsed("LOG_LINES")?.unwrap_or(0),
            log_bytes_in_one_line: parsed(LOG_BYTES_IN_ONE_LINE)?.unwrap_or(0),
            child_memory_bytes: parsed(CHILD_MEMORY_BYTES)?.unwrap_or(0),
        })
    }
}

fn required(name: &str) -> Result<String, String> {
    std::env::var(name).map_err(|error| format!("{name}: {error}"))
}

fn parsed<T: FromStr<Err: Display>>(name: &str) -> Result<Option<T>, String> {
    match std::env::var(name) {
        Err(_) => Ok(None),
        Ok(text) => text.parse().map(Some).map_err(|error| format!("{name} is {text:?}: {error}")),
    }
}

fn seconds(name: &str) -> Result<Option<Duration>, String> {
    let Some(seconds) = parsed(name)? else { return Ok(None) };
    Duration::try_from_secs_f64(seconds).map(Some).map_err(|error| format!("{name} is {seconds}: {error}"))
}

/// What the broker has to say.
enum News {
    Connected,
    /// The only message at QoS 1.
    ReadyAcknowledged,
    /// The SO has something to say.
    Told {
        simulator: String,
        message: String,
    },
    Disconnected,
    Failed(String),
}

fn run() -> Result<u8, String> {
    // The kernel gives process 1 of a container no default action for SIGTERM.
    signal_hook::flag::register_conditional_shutdown(signal_hook::consts::SIGTERM, TERMINATED, Arc::new(AtomicBool::new(true)))
        .map_err(|error| format!("SIGTERM: {error}"))?;
    let settings = Settings::read()?;
    let started = now();
    write_log(&settings).map_err(|error| format!("standard output: {error}"))?;
    if settings.child_memory_bytes > 0 {
        let ended = run_child(settings.child_memory_bytes).map_err(|error| format!("child: {error}"))?;
        println!("the child ended: {ended}");
    }

    let (client, connection) = connect(&settings);
    let (news, heard) = mpsc::channel();
    std::thread::Builder::new()
        .name("mqtt".to_owned())
        .spawn(move || listen(connection, &news))
        .map_err(|error| format!("thread: {error}"))?;

    let from_so = format!("/lifecycle/+/model/{}/{}/+", settings.simulation, settings.model);
    let to = |whom: &str, message: &str| format!("/lifecycle/model/{whom}/{}/{}/{message}", settings.simulation, settings.model);
    let failed = |error: rumqttc::ClientError| format!("mqtt: {error}");
    let after = |delay: Duration| started + delay;
    let exit_at = settings.exit_after.map(after);
    let mut ready_at = settings.ready_after.map(after);
    let mut exit_code = settings.exit_code;
    let mut connected = false;
    let mut ready_in_doubt = false;
    let ready_qos = if settings.ready_at_least_once { QoS::AtLeastOnce } else { QoS::AtMostOnce };
    loop {
        // A model is ready once, and not before it is connected.
        let next = [exit_at, ready_at.filter(|_| connected)].into_iter().flatten().min();
        let Some(event) = wait(&heard, next) else {
            if exit_at.is_some_and(|at| at <= now()) {
                break;
            }
            client.publish(to("mso", "ReadyForProcessing"), ready_qos, false, "").map_err(failed)?;
            println!("ready for processing");
            ready_at = None;
            ready_in_doubt = settings.ready_at_least_once;
            continue;
        };
        match event {
            News::Connected => {
                connected = true;
                client.subscribe(&from_so, QoS::AtLeastOnce).map_err(failed)?;
                if ready_in_doubt {
                    ready_at = Some(now());
                }
            }
            News::ReadyAcknowledged => ready_in_doubt = false,
            News::Told { simulator, message } => {
                let answer = match message.as_str() {
                    "SimulationDone" => break,
                    "ModelParameters" if settings.fail_at_parameters => {
                        println!("an error occurred");
                        let error = ErrorOccurred { error_message: "the fake model was told to fail".to_owned() }.encode_to_vec();
                        client.publish(to(&simulator, "ErrorOccurred"), QoS::AtMostOnce, false, error).map_err(failed)?;
                        exit_code = 0;
                        break;
                    }
                    "ModelParameters" => "Parameterized",
                    "NewStep" => "CalculationsDone",
                    _ => continue,
                };
                println!("{message}: {answer}");
                client.publish(to(&simulator, answer), QoS::AtMostOnce, false, "").map_err(failed)?;
            }
            News::Failed(problem) if connected && settings.exit_when_disconnected => {
                println!("{problem}");
                connected = false;
                break;
            }
            News::Failed(problem) if connected || settings.ready_at_least_once => println!("{problem}; connecting again"),
            News::Failed(problem) => return Err(problem),
            News::Disconnected => {}
        }
    }
    if connected && client.disconnect().is_ok() {
        let until = now() + GOODBYE;
        while !matches!(wait(&heard, Some(until)), None | Some(News::Disconnected | News::Failed(_))) {}
    }
    println!("ending with code {exit_code} at {:.3}", clock::now().unix.0);
    Ok(exit_code)
}

/// Each at once: what a test looks for may be the last line.
fn write_log(settings: &Settings) -> std::io::Result<()> {
    let mut out = std::io::stdout().lock();
    for line in 1..=settings.log_lines {
        writeln!(out, "line {line} of {}", settings.log_lines)?;
    }
    if settings.log_bytes_in_one_line > 0 {
        out.write_all(&vec![b'x'; settings.log_bytes_in_one_line])?;
        writeln!(out)?;
    }
    out.flush()
}

fn run_child(memory_bytes: usize) -> std::io::Result<ExitStatus> {
    let mut child = Command::new(std::env::current_exe()?);
    child.env_remove(CHILD_MEMORY_BYTES).env(LOG_BYTES_IN_ONE_LINE, memory_bytes.to_string()).env("EXIT_AFTER_SECONDS", "0");
    child.stdout(Stdio::null()).status()
}

fn connect(settings: &Settings) -> (Client, Connection) {
    let id = format!("fake-model-{}-{}", settings.simulation, settings.model);
    let mut options = MqttOptions::new(id, &settings.mqtt_host, settings.mqtt_port);
    options.set_clean_session(true);
    let (client, mut connection) = Client::new(options, 10);
    let mut network = connection.eventloop.network_options();
    network.set_tcp_nodelay(true);
    connection.eventloop.set_network_options(network);
    (client, connection)
}

fn listen(mut connection: Connection, news: &Sender<News>) {
    for event in connection.iter() {
        let item = match event {
            Ok(Event::Incoming(Incoming::ConnAck(_))) => News::Connected,
            Ok(Event::Incoming(Incoming::PubAck(_))) => News::ReadyAcknowledged,
            Ok(Event::Incoming(Incoming::Publish(publish))) => {
                let part = |number| publish.topic.split('/').nth(number).unwrap_or_default().to_owned();
                News::Told { simulator: part(2), message: part(6) }
            }
            Ok(Event::Outgoing(Outgoing::Disconnect)) => News::Disconnected,
            Ok(_) => continue,
            Err(error) => {
                // The library connects again at once and without end.
                std::thread::sleep(Duration::from_secs(1));
                News::Failed(format!("broker: {error}"))
            }
        };
        if news.send(item).is_err() {
            return;
        }
    }
}

/// `None`: the time has come.
fn wait(heard: &mpsc::Receiver<News>, until: Option<Instant>) -> Option<News> {
    const FOR_EVER: Duration = Duration::from_secs(1 << 30);
    let left = until.map_or(FOR_EVER, |until| until.saturating_duration_since(now()));
    match heard.recv_timeout(left) {
        Ok(news) => Some(news),
        Err(RecvTimeoutError::Timeout) => None,
        Err(RecvTimeoutError::Disconnected) => Some(News::Failed("the mqtt thread has ended".to_owned())),
    }
}

fn now() -> Instant {
    clock::now().instant
}
