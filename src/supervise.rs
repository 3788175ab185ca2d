//! The one place that spawns threads. Each has a name and a heartbeat, and its end is reported, however it comes. What follows from that is
//! decided elsewhere: an early end stops the process (main.rs), a thread that hangs makes it not alive (status.rs).

use std::fmt;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, unbounded};

use crate::clock;

pub struct Supervisor {
    ends: Sender<End>,
    threads: Threads,
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
        (Self { ends, threads: Threads::default() }, receiver)
    }

    /// All threads, those to come too.
    pub fn threads(&self) -> Threads {
        self.threads.clone()
    }

    /// We stop: from here on it is no trouble that threads end, and nobody is told of those that hang.
    pub fn expect_ends(&self) {
        lock(&self.threads.0).clear();
    }

    /// `limit` is the longest that one piece of the thread's work can take while all is well with the thread itself, whatever its
    /// neighbours do: past that it hangs.
    ///
    /// # Errors
    /// The system gives no more threads.
    pub fn spawn(&self, name: impl Into<String>, limit: Duration, body: impl FnOnce(&Beat) + Send + 'static) -> io::Result<()> {
        let name = name.into();
        let beat = Beat::default();
        beat.works();
        let report = ReportOnDrop { thread: name.clone(), beat: beat.clone(), ends: self.ends.clone() };
        let known = Thread { name: name.clone(), limit, beat };
        thread::Builder::new().name(name).spawn(move || {
            let report = report;
            body(&report.beat);
        })?;
        lock(&self.threads.0).push(known);
        Ok(())
    }
}

/// What a thread is at: it says so itself. The default's is nobody's, and nobody looks at it.
#[derive(Clone, Default)]
pub struct Beat(Arc<Mutex<Doing>>);

#[derive(Clone, Copy, Default)]
enum Doing {
    #[default]
    Waiting,
    WorkingSince(Instant),
    Ended,
}

impl Beat {
    /// A new piece of work begins.
    pub fn works(&self) {
        *lock(&self.0) = Doing::WorkingSince(clock::now().instant);
    }

    /// Waits for work, or for the time to go on. That may take for ever. What comes after it is a new piece of work.
    pub fn wait<T>(&self, body: impl FnOnce() -> T) -> T {
        *lock(&self.0) = Doing::Waiting;
        let result = body();
        self.works();
        result
    }
}

/// For those who want to know how the threads are.
#[derive(Clone, Default)]
pub struct Threads(Arc<Mutex<Vec<Thread>>>);

struct Thread {
    name: String,
    limit: Duration,
    beat: Beat,
}

impl Threads {
    /// Each thread that hangs or has ended, in a line that says so; nothing where all is well.
    pub fn troubles(&self, now: Instant) -> Vec<String> {
        lock(&self.0).iter().filter_map(|thread| thread.trouble(now)).collect()
    }
}

impl Thread {
    fn trouble(&self, now: Instant) -> Option<String> {
        let Self { name, limit, beat } = self;
        match *lock(&beat.0) {
            Doing::Waiting => None,
            Doing::Ended => Some(format!("thread {name} has ended")),
            Doing::WorkingSince(began_at) => {
                let time = now.saturating_duration_since(began_at);
                let text =
                    || format!("thread {name} hangs: it is at one thing for {} s, its limit is {} s", time.as_secs(), limit.as_secs());
                (time > *limit).then(text)
            }
        }
    }
}

/// From Drop, so that a panic reports too.
struct ReportOnDrop {
    thread: String,
    beat: Beat,
    ends: Sender<End>,
}

impl Drop for ReportOnDrop {
    fn drop(&mut self) {
        *lock(&self.beat.0) = Doing::Ended;
        // Nobody listens only where the process is ending.
        let _ = self.ends.send(End { thread: std::mem::take(&mut self.thread), panicked: thread::panicking() });
    }
}

/// For what is whole at each step: a thread that panicked under it left nothing half done.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: Duration = Duration::from_secs(10);

    #[test]
    fn a_thread_that_returns_and_one_that_panics_are_both_reported_by_name_and_not_well() {
        let (supervisor, ends) = Supervisor::new();
        supervisor.spawn("returns", LIMIT, |_| {}).unwrap();
        let end = ends.recv().unwrap();
        assert_eq!((end.thread.as_str(), end.panicked), ("returns", false));
        supervisor.spawn("panics", LIMIT, |beat| beat.wait(|| panic!("on purpose"))).unwrap();
        let end = ends.recv().unwrap();
        assert_eq!((end.thread.as_str(), end.panicked), ("panics", true));
        assert_eq!(supervisor.threads().troubles(clock::now().instant), ["thread returns has ended", "thread panics has ended"]);
        supervisor.expect_ends();
        assert_eq!(supervisor.threads().troubles(clock::now().instant), [""; 0], "as we stop");
    }

    #[test]
    fn a_thread_hangs_that_is_at_one_thing_past_its_limit_and_one_that_waits_does_not() {
        let (supervisor, _ends) = Supervisor::new();
        let threads = supervisor.threads();
        let (pieces, work) = unbounded::<()>();
        let (told, tells) = unbounded();
        let body = move |beat: &Beat| {
            while beat.wait(|| work.recv()).is_ok() {
                told.send(()).unwrap();
                work.recv().unwrap();
            }
        };
        supervisor.spawn("busy", LIMIT, body).unwrap();
        pieces.send(()).unwrap();
        tells.recv().unwrap();
        let now = clock::now().instant;
        assert_eq!(threads.troubles(now), [""; 0]);
        let troubles = threads.troubles(now + LIMIT);
        assert!(troubles.len() == 1 && troubles[0].starts_with("thread busy hangs: it is at one thing for 1"), "{troubles:?}");
        assert!(troubles[0].ends_with(" s, its limit is 10 s"), "{troubles:?}");
        pieces.send(()).unwrap();
        let waits = || threads.troubles(clock::now().instant + 100 * LIMIT).is_empty();
        while !waits() {
            thread::yield_now();
        }
    }
}
