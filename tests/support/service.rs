//! The service's process, and its log.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use devkit::program::Program;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::{LIMIT, memory_kb, unique};

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
    program: Program,
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
        Self { program: Program::start(&mut command).expect("the service can be started"), folder }
    }

    /// The log of the service that runs as a pod.
    pub(crate) fn in_namespace(namespace: &str) -> Self {
        let mut command = Command::new("kubectl");
        command.args(["-n", namespace, "logs", "--follow", "deployment/mso"]);
        let service = Self { program: Program::start(&mut command).expect("kubectl is in PATH"), folder: PathBuf::new() };
        service.line(SUBSCRIBED);
        service
    }

    /// Waits for the first line with this text.
    pub(crate) fn line(&self, text: &str) -> String {
        let find = |lines: &[String]| lines.iter().find(|line| line.contains(text)).cloned();
        self.program.output.wait(LIMIT, find).unwrap_or_else(|| panic!("mso did not say {text:?}"))
    }

    /// Waits for lines with these texts, in this order, with whatever between them.
    pub(crate) fn lines_in_order(&self, texts: &[impl AsRef<str>]) {
        let first_missing = |lines: &[String]| {
            let mut lines = lines.iter();
            texts.iter().map(AsRef::as_ref).find(|&text| !lines.any(|line| line.contains(text))).map(str::to_owned)
        };
        if self.program.output.wait(LIMIT, |lines| first_missing(lines).is_none().then_some(())).is_none() {
            panic!("mso did not say, or not in its order: {:?}", self.program.output.read(first_missing));
        }
    }

    /// Waits until a record with this in its progress is in the cluster.
    pub(crate) fn wait_until_recorded(&self, key: &str, value: &str) {
        self.lines_in_order(&[format!(r#"\"{key}\":\"{value}"#), "Record(RecordOutcome".to_owned()]);
    }

    /// Waits until there are as many lines with this text.
    pub(crate) fn count(&self, text: &str, lines: usize) {
        let find = |log: &[String]| (log.iter().filter(|line| line.contains(text)).count() >= lines).then_some(());
        self.program.output.wait(LIMIT, find).unwrap_or_else(|| panic!("mso did not say {text:?} {lines} times"));
    }

    pub(crate) fn lines_with(&self, text: &str) -> Vec<String> {
        self.program.output.read(|lines| lines.iter().filter(|line| line.contains(text)).cloned().collect())
    }

    pub(crate) fn log(&self) -> Vec<String> {
        self.program.output.read(<[String]>::to_vec)
    }

    /// Of the fields in `/proc/<pid>/status`, in kB.
    pub(crate) fn memory_kb(&self, field: &str) -> u64 {
        memory_kb(self.program.id(), field)
    }

    pub(crate) fn has_ended(&mut self) -> bool {
        self.program.end().is_some()
    }

    /// As on a machine that hangs.
    pub(crate) fn freeze(&self) {
        self.program.signal("STOP").expect("the service runs");
    }

    pub(crate) fn thaw(&self) {
        self.program.signal("CONT").expect("the service is there");
    }

    /// It ends by itself, with a code that is not 0.
    pub(crate) fn fails(&mut self) {
        let status = self.program.wait(LIMIT).expect("mso ends by itself");
        assert!(!status.success(), "{status}");
    }

    /// Sends the signal. It ends with code 0, and by its own account in time.
    pub(crate) fn stops_in_time_on(&mut self, signal: &str) {
        const STOP_SECONDS_MAX: f64 = 2.0;
        self.program.signal(signal).expect("the service runs until the signal comes");
        let status = self.program.wait(LIMIT).unwrap_or_else(|| panic!("mso did not end on {signal}"));
        assert!(status.success(), "{status}");
        let seconds = time_of(&self.line("Stopped.")) - time_of(&self.line("Stopping on"));
        assert!(seconds < STOP_SECONDS_MAX, "it took {seconds} s");
    }

    /// It ends with code 0, and sooner than the first signal alone would end it where the broker says nothing.
    pub(crate) fn stops_at_once_on_a_second_signal(&mut self) {
        const SAME_STOP: Duration = Duration::from_millis(250);
        self.program.signal("TERM").expect("the service runs until the signal comes");
        self.program.signal("INT").expect("the first stop waits for the broker");
        self.line("Stopping on");
        assert!(self.program.wait(SAME_STOP).is_none(), "two signals at once are one");
        self.program.signal("INT").expect("it still waits");
        let status = self.program.wait(LIMIT).expect("it ends on a signal");
        assert!(status.success(), "{status}");
        assert!(!self.log().iter().any(|line| line.contains("Stopped.")), "the first stop went on to its end");
    }
}

/// Seconds since 1970.
fn time_of(line: &str) -> f64 {
    let date = line.split(' ').next().unwrap_or_default();
    let date = OffsetDateTime::parse(date, &Rfc3339).unwrap_or_else(|error| panic!("{error}: {line}"));
    date.unix_timestamp_nanos() as f64 / 1e9
}

impl Drop for Service {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("the log of mso:\n{}", self.log().join("\n"));
        }
        // It is killed after that, and looks at nothing in there any more.
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}
