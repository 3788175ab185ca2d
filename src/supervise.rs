//! The one place that spawns threads. Each has a name, and its end is reported, however it comes.

use std::fmt;
use std::io;
use std::thread;

use crossbeam_channel::{Receiver, Sender, unbounded};

pub struct Supervisor {
    ends: Sender<End>,
}

/// A thread has ended.
#[derive(Debug)]
pub struct End {
    pub thread: String,
    pub panicked: bool,
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let how = if self.panicked { "panicked" } else { "ended" };
        write!(f, "thread {} {how}", self.thread)
    }
}

impl Supervisor {
    /// The receiver hears of each thread's end.
    pub fn new() -> (Self, Receiver<End>) {
        let (ends, receiver) = unbounded();
        (Self { ends }, receiver)
    }

    /// # Errors
    /// The system gives no more threads.
    pub fn spawn(&self, name: impl Into<String>, body: impl FnOnce() + Send + 'static) -> io::Result<()> {
        let name = name.into();
        let report = ReportOnDrop { thread: name.clone(), ends: self.ends.clone() };
        thread::Builder::new().name(name).spawn(move || {
            let _report = report;
            body();
        })?;
        Ok(())
    }
}

/// From Drop, so that a panic reports too.
struct ReportOnDrop {
    thread: String,
    ends: Sender<End>,
}

impl Drop for ReportOnDrop {
    fn drop(&mut self) {
        // Nobody listens only where the process is ending.
        let _ = self.ends.send(End { thread: std::mem::take(&mut self.thread), panicked: thread::panicking() });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_that_returns_and_one_that_panics_are_both_reported_by_name() {
        let (supervisor, ends) = Supervisor::new();
        supervisor.spawn("returns", || {}).unwrap();
        let end = ends.recv().unwrap();
        assert_eq!((end.thread.as_str(), end.panicked), ("returns", false));
        supervisor.spawn("panics", || panic!("on purpose")).unwrap();
        let end = ends.recv().unwrap();
        assert_eq!((end.thread.as_str(), end.panicked), ("panics", true));
    }
}
