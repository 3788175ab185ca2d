//! The service's process, and its log.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::time::Duration;

use mso::clock;

use super::feed::Feed;
use super::{LIMIT, spawn, unique};

// What the service says; the contract fixes none of these.
/// It hears what is sent to it.
pub(crate) const SUBSCRIBED: &str = "connected to";
/// The first list is there.
pub(crate) const LISTED: &str = "pods of ours";
pub(crate) const API_AWAY: &str = "The Kubernetes API is away";
pub(crate) const API_BACK: &str = "The Kubernetes API answers again";
pub(crate) const BROKER_AWAY: &str = "no connection to the broker";
pub(crate) const EARLIER_RUN: &str = "pods of an earlier run";
pub(crate) const REQUEST_AGAIN: &str = "came again";
pub(crate) const SESSION_DROPPED: &str = "dropping our session";

pub(crate) type Settings = BTreeMap<String, String>;

/// Killed when the test is over; where the test failed, its log is shown.
pub(crate) struct Service {
    process: Child,
    log: Arc<Feed<String>>,
    /// Empty: no `.env` of the developer is read.
    folder: PathBuf,
}

impl Service {
    /// Hears what is sent to it.
    pub(crate) fn start(settings: &Settings) -> Self {
        let service = Self::launch(settings);
        service.line(SUBSCRIBED);
        service
    }

    /// May be anywhere in its start.
    pub(crate) fn launch(settings: &Settings) -> Self {
        let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("mso-{}", unique()));
        std::fs::create_dir_all(&folder).expect("the test's folder can be made");
        let mut command = Command::new(env!("CARGO_BIN_EXE_mso"));
        command.env_clear().envs(settings).current_dir(&folder);
        Self::of(command, folder)
    }

    /// The log of the service that runs as a pod.
    pub(crate) fn in_namespace(namespace: &str) -> Self {
        let mut command = Command::new("kubectl");
        command.args(["-n", namespace, "logs", "--follow", "deployment/mso"]);
        let service = Self::of(command, PathBuf::new());
        service.line(SUBSCRIBED);
        service
    }

    fn of(mut command: Command, folder: PathBuf) -> Self {
        let mut process =
            command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the program can be started");
        let log = Arc::default();
        record(process.stdout.take().expect("it is piped"), &log);
        record(process.stderr.take().expect("it is piped"), &log);
        Self { process, log, folder }
    }

    /// Waits for the first line with this text.
    pub(crate) fn line(&self, text: &str) -> String {
        let find = |lines: &[String]| lines.iter().find(|line| line.contains(text)).cloned();
        self.log.wait(LIMIT, find).unwrap_or_else(|| panic!("mso did not say {text:?}"))
    }

    /// Waits for lines with these texts, in this order, with whatever between them.
    pub(crate) fn lines_in_order(&self, texts: &[impl AsRef<str>]) {
        let first_missing = |lines: &[String]| {
            let mut lines = lines.iter();
            texts.iter().map(AsRef::as_ref).find(|&text| !lines.any(|line| line.contains(text))).map(str::to_owned)
        };
        if self.log.wait(LIMIT, |lines| first_missing(lines).is_none().then_some(())).is_none() {
            panic!("mso did not say, or not in its order: {:?}", self.log.read(first_missing));
        }
    }

    /// Waits until there are as many lines with this text.
    pub(crate) fn count(&self, text: &str, lines: usize) {
        let find = |log: &[String]| (log.iter().filter(|line| line.contains(text)).count() >= lines).then_some(());
        self.log.wait(LIMIT, find).unwrap_or_else(|| panic!("mso did not say {text:?} {lines} times"));
    }

    pub(crate) fn lines_with(&self, text: &str) -> Vec<String> {
        self.log.read(|lines| lines.iter().filter(|line| line.contains(text)).cloned().collect())
    }

    pub(crate) fn log(&self) -> Vec<String> {
        self.log.read(<[String]>::to_vec)
    }

    /// Of the fields in `/proc/<pid>/status`, in kB.
    pub(crate) fn memory_kb(&self, field: &str) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.process.id())).expect("the service runs");
        let line = status.lines().find(|line| line.starts_with(field)).expect("the kernel says so");
        line.split_whitespace().nth(1).and_then(|number| number.parse().ok()).expect("it is a number")
    }

    pub(crate) fn has_ended(&mut self) -> bool {
        self.process.try_wait().expect("it is our child").is_some()
    }

    /// Sends the signal and waits for the end: how it ended, and after how long.
    pub(crate) fn end_by(&mut self, signal: &str) -> (ExitStatus, Duration) {
        let sent = clock::now().instant;
        let pid = self.process.id();
        let kill = Command::new("sh").args(["-c", &format!("kill -{signal} {pid}")]).status().expect("there is a shell");
        assert!(kill.success(), "the service runs until the signal comes");
        while clock::now().instant < sent + LIMIT {
            if let Some(status) = self.process.try_wait().expect("it is our child") {
                return (status, clock::now().instant - sent);
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        panic!("mso did not end on {signal}");
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        if !self.has_ended() {
            self.process.kill().and_then(|()| self.process.wait()).expect("our child can be killed");
        }
        if std::thread::panicking() {
            eprintln!("the log of mso:\n{}", self.log().join("\n"));
        }
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

fn record(output: impl Read + Send + 'static, log: &Arc<Feed<String>>) {
    let log = log.clone();
    spawn("log", move || {
        for line in BufReader::new(output).split(b'\n').map_while(Result::ok) {
            log.push(String::from_utf8_lossy(&line).into_owned());
        }
    });
}
