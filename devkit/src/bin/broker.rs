//! The broker as a program, for a demonstration: arguments, log, signals.

use std::ffi::OsString;
use std::io::{self, Write};
use std::net::SocketAddr;
use std::process::ExitCode;
use std::thread;
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, bounded};
use devkit::broker::Server;
use log::{LevelFilter, Log, Metadata, Record};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

const HELP: &str = "\
A small MQTT 3.1.1 broker (QoS 0 and 1) for demonstrations and tests. It keeps nothing when it ends.

Usage: broker [ADDRESS:PORT | --help]

It listens on 0.0.0.0:1883 where no address is given; port 0 takes a free one. SIGTERM and SIGINT end it.";

const EVERYWHERE: &str = "0.0.0.0:1883";

/// That nobody has read yet. What comes while there are as many is not written.
const MAX_WAITING_LINES: usize = 1000;
/// Nobody may read. Twice this is well within the time that a container has to end.
const FLUSH_LIMIT: Duration = Duration::from_secs(1);

fn main() -> ExitCode {
    let address = match wanted_address() {
        Ok(Some(address)) => address,
        Ok(None) => return ExitCode::SUCCESS,
        Err(problem) => {
            eprintln!("broker: {problem}\nTry broker --help.");
            return ExitCode::from(2);
        }
    };
    match run(address) {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => {
            eprintln!("broker: {problem}");
            ExitCode::FAILURE
        }
    }
}

/// `None` where --help was all.
fn wanted_address() -> Result<Option<SocketAddr>, lexopt::Error> {
    use lexopt::prelude::{Long, Short, Value, ValueExt};
    let mut arguments = lexopt::Parser::from_env();
    let mut address = OsString::from(EVERYWHERE);
    while let Some(argument) = arguments.next()? {
        match argument {
            Long("help") | Short('h') => {
                println!("{HELP}");
                return Ok(None);
            }
            Value(value) => address = value,
            other => return Err(other.unexpected()),
        }
    }
    address.parse().map(Some)
}

fn run(address: SocketAddr) -> Result<(), String> {
    // The kernel gives process 1 of a container no default action for these.
    let mut signals = Signals::new([SIGTERM, SIGINT]).map_err(|error| format!("failed to listen for signals: {error}"))?;
    let (lines, waiting) = bounded(MAX_WAITING_LINES);
    let write = move || write(&waiting);
    thread::Builder::new().name("log".to_owned()).spawn(write).map_err(|error| format!("failed to start a thread: {error}"))?;
    log::set_boxed_logger(Box::new(Lines(lines))).map_err(|error| format!("failed to set up the log: {error}"))?;
    log::set_max_level(LevelFilter::Info);
    let mut server = Server::listen(address).map_err(|error| format!("failed to listen on {address}: {error}"))?;
    writeln!(io::stdout(), "listening on {}", server.address()).map_err(|error| format!("standard output: {error}"))?;
    signals.forever().next();
    server.stop();
    log::logger().flush();
    Ok(())
}

/// The log on standard output, a line each. Who wants times has them from what collects the lines.
///
/// The broker says them in the midst of its work, and must not wait for who reads them: a thread of their own writes them.
struct Lines(Sender<Line>);

enum Line {
    Of(String),
    /// To be told when all before it are written.
    Flush(Sender<()>),
}

impl Log for Lines {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target().starts_with("devkit")
    }

    fn log(&self, record: &Record<'_>) {
        if self.enabled(record.metadata()) {
            let _ = self.0.try_send(Line::Of(record.args().to_string()));
        }
    }

    fn flush(&self) {
        let (written, is_written) = bounded(1);
        let _ = self.0.send_timeout(Line::Flush(written), FLUSH_LIMIT);
        let _ = is_written.recv_timeout(FLUSH_LIMIT);
    }
}

/// The body of the thread `log`.
fn write(lines: &Receiver<Line>) {
    for line in lines {
        match line {
            // There is nowhere to say that the log cannot be written, and the broker goes on without.
            Line::Of(line) => drop(writeln!(io::stdout(), "{line}")),
            Line::Flush(written) => drop(written.send(())),
        }
    }
}
