//! The body of the thread `pods`: lists the pods of ours, then watches, resumes, and lists again where a watch cannot go on.
//!
//! It passes on what it sees. What that means for a model is decided elsewhere.

use std::convert::Infallible;
use std::ops::RangeInclusive;
use std::thread;
use std::time::Duration;

use crossbeam_channel::Sender;

use crate::clock;
use crate::kube::error::Error;
use crate::kube::{Client, WATCH_IDLE_TIME, WatchEvent};
use crate::orchestrator::event::{Event, PodsEvent};
use crate::supervise::Beat;

/// Under five minutes, as load balancers may cut what is older; random, so that clients do not come together.
const WATCH_SECONDS: RangeInclusive<u32> = 240..=290;

/// A watch that ends sooner and without an event is cut by something between us and the API server. At once again would be a busy loop.
const WATCH_TIME_MIN: Duration = Duration::from_secs(1);

/// An API server that has just begun knows no Roles for a moment, and a Role may be deleted and applied anew. What runs is not known without
/// the records: it is worth as long a wait as a right that is taken away later.
const ROLES_KNOWN_AFTER: Duration = Duration::from_secs(2 * 60);
const FORBIDDEN_PAUSE: Duration = Duration::from_secs(2);

// client-go's: https://github.com/kubernetes/client-go/blob/master/tools/cache/reflector.go
const PAUSE_FIRST: Duration = Duration::from_millis(800);
const PAUSE_MAX: Duration = Duration::from_secs(30);
const HEALTHY_TIME: Duration = Duration::from_secs(120);

/// Ends when `events` is closed.
pub fn run(client: &Client, events: &Sender<Event>, beat: &Beat) {
    let Err(Closed) = follow(client, &|event| beat.wait(|| events.send(Event::Pods(event))).map_err(|_| Closed), beat);
}

/// Nobody listens any more.
struct Closed;

type Send<'a> = &'a dyn Fn(PodsEvent) -> Result<(), Closed>;

fn follow(client: &Client, send: Send<'_>, beat: &Beat) -> Result<Infallible, Closed> {
    // From where to watch; none before a list, and where only a list helps.
    let mut position: Option<String> = None;
    let mut listed_before = false;
    let mut failures = 0;
    read_records(client, send, beat)?;
    loop {
        let (problem, is_failure) = match &mut position {
            None => match list(client, send, beat, !listed_before)? {
                Ok(version) => {
                    listed_before = true;
                    position = Some(version);
                    continue;
                }
                Err(error) => (Some(error), true),
            },
            Some(version) => {
                let ended = watch(client, send, beat, version)?;
                if ended.time >= HEALTHY_TIME {
                    failures = 0;
                }
                if ended.needs_list() {
                    position = None;
                }
                let expired = ended.is_expired();
                (ended.problem(), !expired)
            }
        };
        let Some(error) = problem else { continue };
        let wait = pause(&mut failures, &error, fastrand::f64());
        log::debug!("pods: {error}; in {wait:?} {}", if position.is_some() { "the watch goes on" } else { "they are listed" });
        if is_failure {
            send(PodsEvent::Failed(error))?;
        }
        beat.wait(|| thread::sleep(wait));
    }
}

/// Once, before the first list: what an earlier process of ours left. It tries for as long as it takes, but for a right that does not come.
fn read_records(client: &Client, send: Send<'_>, beat: &Beat) -> Result<(), Closed> {
    let mut failures = 0;
    let mut forbidden_at = None;
    loop {
        let error = match client.list_records(beat) {
            Ok(found) => return send(PodsEvent::Records(found)),
            Err(error) => error,
        };
        log::debug!("records: {error}");
        let wait = if error.code() == Some(403) {
            let now = clock::now().instant;
            if forbidden_at.is_none() {
                let minutes = ROLES_KNOWN_AFTER.as_secs() / 60;
                log::warn!("ConfigMaps may not be read: {error}. Requests wait for that right, {minutes} minutes at most.");
            }
            if now.saturating_duration_since(*forbidden_at.get_or_insert(now)) >= ROLES_KNOWN_AFTER {
                return send(PodsEvent::RecordsForbidden(error));
            }
            FORBIDDEN_PAUSE
        } else {
            forbidden_at = None;
            let wait = pause(&mut failures, &error, fastrand::f64());
            send(PodsEvent::Failed(error))?;
            wait
        };
        beat.wait(|| thread::sleep(wait));
    }
}

/// The version to watch from.
fn list(client: &Client, send: Send<'_>, beat: &Beat, is_first: bool) -> Result<Result<String, Error>, Closed> {
    let list = match client.list_pods(beat) {
        Ok(list) => list,
        Err(error) => return Ok(Err(error)),
    };
    let level = if is_first { log::Level::Info } else { log::Level::Debug };
    log::log!(level, "{} pods of ours", list.pods.len());
    if let Some(time) = list.server_time {
        send(PodsEvent::ServerTime(time))?;
    }
    send(PodsEvent::Listed(list.pods))?;
    Ok(Ok(list.resource_version))
}

/// Passes on what happens until the watch ends. `version` goes on with each event.
fn watch(client: &Client, send: Send<'_>, beat: &Beat, version: &mut String) -> Result<Ended, Closed> {
    let began_at = clock::now().instant;
    let mut events = 0;
    let ended = |error, events| Ended { error, events, time: clock::now().instant.saturating_duration_since(began_at) };
    beat.works();
    let watch = match client.watch_pods(version, fastrand::u32(WATCH_SECONDS)) {
        Ok(watch) => watch,
        Err(error) => return Ok(ended(Some(error), events)),
    };
    if let Some(time) = watch.server_time {
        send(PodsEvent::ServerTime(time))?;
    }
    beat.works();
    for event in watch {
        beat.works();
        let event = match event {
            Ok(event) => event,
            Err(error) => return Ok(ended(Some(error), events)),
        };
        events += 1;
        event.resource_version().clone_into(version);
        match event {
            WatchEvent::Changed(pod) => send(PodsEvent::Changed(Box::new(pod)))?,
            WatchEvent::Deleted(pod) => send(PodsEvent::Deleted(Box::new(pod)))?,
            WatchEvent::Bookmark(_) => send(PodsEvent::Bookmark)?,
        }
    }
    Ok(ended(None, events))
}

/// How a watch ended.
struct Ended {
    /// None where the API server ended it in order.
    error: Option<Error>,
    /// Bookmarks too.
    events: u64,
    time: Duration,
}

impl Ended {
    /// Whether to list before the next watch, as going on from the same version would fail again or miss something.
    fn needs_list(&self) -> bool {
        // A watch from a version that the server has not come to yet is no error: it is silent (seen with 1.34). That is how it looks
        // after etcd was restored from a backup.
        let silent = self.events == 0 && self.time >= WATCH_IDLE_TIME;
        silent
            || self.error.as_ref().is_some_and(|error| match error {
                Error::Unreadable(_) => true,
                Error::Refused(_) => error.is_expired() || error.is_from_the_future(),
                Error::Lost(_) => false,
            })
    }

    /// A version too old is no failure: a list comes next and speaks for itself.
    fn is_expired(&self) -> bool {
        self.error.as_ref().is_some_and(Error::is_expired)
    }

    /// Why to pause before the next one; none where it ended as it should.
    fn problem(self) -> Option<Error> {
        let cut = self.error.is_none() && self.events == 0 && self.time < WATCH_TIME_MIN;
        self.error.or_else(|| cut.then(|| Error::Lost(format!("the watch was ended after {} ms", self.time.as_millis()))))
    }
}

/// Doubles with each failure. `jitter`, from 0 to 1, adds up to as much again.
fn pause(failures: &mut u32, error: &Error, jitter: f64) -> Duration {
    let wait = PAUSE_FIRST.saturating_mul(1 << (*failures).min(16)).min(PAUSE_MAX);
    *failures = failures.saturating_add(1);
    wait.mul_f64(1.0 + jitter).max(error.retry_after().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kube::error::{Cause, Details, Status};

    fn refused(code: u16) -> Error {
        Error::Refused(Box::new(Status { code, ..Status::default() }))
    }

    #[test]
    fn what_comes_after_a_watch() {
        let too_large = Cause { reason: "ResourceVersionTooLarge".to_owned(), ..Cause::default() };
        let from_the_future = Status { code: 504, details: Details { causes: vec![too_large], ..Details::default() }, ..Status::default() };
        let (at_once, pause) = (false, true);
        let (watch, list) = (false, true);
        #[rustfmt::skip]
        let cases = [
            ("ended in order, after five minutes", None, 5, 290_000, at_once, watch),
            ("ended in order, early, with an event", None, 1, 10, at_once, watch),
            ("ended in order, early, without any", None, 0, 999, pause, watch),
            ("ended in order, a little later, without any", None, 0, 1_000, at_once, watch),
            ("ended in order, silent all the time", None, 0, 250_000, at_once, list),
            ("refused connection", Some(Error::Lost("connection refused".to_owned())), 0, 1, pause, watch),
            ("silent after bookmarks", Some(Error::Lost("time limit".to_owned())), 3, 270_000, pause, watch),
            ("silent from the beginning", Some(Error::Lost("time limit".to_owned())), 0, 90_001, pause, list),
            ("too many requests", Some(refused(429)), 0, 1, pause, watch),
            ("a server in trouble", Some(refused(500)), 0, 1, pause, watch),
            ("no server behind the proxy", Some(refused(503)), 0, 1, pause, watch),
            ("a token refused", Some(refused(401)), 0, 1, pause, watch),
            ("watching forbidden", Some(refused(403)), 0, 1, pause, watch),
            ("a version too old", Some(refused(410)), 0, 1, pause, list),
            ("a version too old, said after events", Some(refused(410)), 9, 1, pause, list),
            ("a version too large", Some(Error::Refused(Box::new(from_the_future))), 0, 1, pause, list),
            ("an event that cannot be read", Some(Error::Unreadable("?".to_owned())), 9, 9, pause, list),
        ];
        for (phrase, error, events, time_ms, pauses, lists) in cases {
            let ended = Ended { error, events, time: Duration::from_millis(time_ms) };
            assert_eq!(ended.needs_list(), lists, "{phrase}: list");
            assert_eq!(ended.problem().is_some(), pauses, "{phrase}: pause");
        }
    }

    #[test]
    fn pauses_double_up_to_a_minute_and_heed_the_server() {
        let lost = Error::Lost(String::new());
        let mut failures = 0;
        let waits: Vec<u64> = (0..8).map(|_| pause(&mut failures, &lost, 0.0).as_millis() as u64).collect();
        assert_eq!(waits, [800, 1_600, 3_200, 6_400, 12_800, 25_600, 30_000, 30_000]);
        assert_eq!(pause(&mut failures, &lost, 1.0), Duration::from_secs(60));
        failures = u32::MAX;
        assert_eq!(pause(&mut failures, &lost, 0.0), PAUSE_MAX);
        let busy = Error::Refused(Box::new(Status { code: 429, retry_after: Some(Duration::from_secs(40)), ..Status::default() }));
        failures = 0;
        assert_eq!(pause(&mut failures, &busy, 1.0), Duration::from_secs(40));
    }
}
