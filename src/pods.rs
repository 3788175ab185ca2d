//! The body of the thread `pods`: lists the pods of ours, then watches, resumes, and lists again where a watch cannot go on.
//!
//! [`Follower`] says what comes next, and is pure; the thread around it asks, sends and sleeps. What a pod means for a model is decided
//! elsewhere.

use std::convert::Infallible;
use std::ops::RangeInclusive;
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::Sender;

use crate::clock;
use crate::kube::error::Error;
use crate::kube::record::Found;
use crate::kube::{Client, PodList, WATCH_IDLE_TIME, WatchEvent};
use crate::orchestrator::event::{Event, PodsEvent};
use crate::supervise::Beat;

/// Under five minutes, as load balancers may cut what is older; random, so that clients do not come together.
pub const WATCH_SECONDS: RangeInclusive<u32> = 240..=290;

/// A watch that ends sooner and without an event is cut by something between us and the API server. At once again would be a busy loop.
const WATCH_TIME_MIN: Duration = Duration::from_secs(1);

/// Until a right to ConfigMaps is asked for again.
const FORBIDDEN_PAUSE: Duration = Duration::from_secs(2);

// client-go's: https://github.com/kubernetes/client-go/blob/master/tools/cache/reflector.go
const PAUSE_FIRST: Duration = Duration::from_millis(800);
const PAUSE_MAX: Duration = Duration::from_secs(30);
const HEALTHY_TIME: Duration = Duration::from_secs(120);

/// Ends when `events` is closed.
pub fn run(client: &Client, denied: Option<Duration>, events: &Sender<Event>, beat: &Beat) {
    let Err(Closed) = follow(client, denied, &|event| beat.wait(|| events.send(Event::Pods(event))).map_err(|_| Closed), beat);
}

/// Nobody listens any more.
struct Closed;

type Send<'a> = &'a dyn Fn(PodsEvent) -> Result<(), Closed>;

fn follow(client: &Client, denied: Option<Duration>, send: Send<'_>, beat: &Beat) -> Result<Infallible, Closed> {
    let mut follower = Follower::new(denied);
    loop {
        let Turn { events, pause } = match follower.asks(clock::now().instant) {
            Ask::Records => {
                let result = client.list_records(beat);
                follower.records_are_read(result, clock::now().instant, fastrand::f64())
            }
            Ask::List { is_first } => {
                let result = client.list_pods(beat);
                if let Ok(list) = &result {
                    let level = if is_first { log::Level::Info } else { log::Level::Debug };
                    log::log!(level, "{} pods of ours", list.pods.len());
                }
                follower.pods_are_listed(result, fastrand::f64())
            }
            Ask::Watch { from } => {
                let error = watch(client, &from, &mut follower, send, beat)?;
                follower.watch_has_ended(error, clock::now().instant, fastrand::f64())
            }
        };
        events.into_iter().try_for_each(send)?;
        if !pause.is_zero() {
            beat.wait(|| thread::sleep(pause));
        }
    }
}

/// Passes on what happens until the watch ends. Why it did; `None` where the API server ended it in order.
fn watch(client: &Client, from: &str, follower: &mut Follower, send: Send<'_>, beat: &Beat) -> Result<Option<Error>, Closed> {
    beat.works();
    let watch = match client.watch_pods(from, fastrand::u32(WATCH_SECONDS)) {
        Ok(watch) => watch,
        Err(error) => return Ok(Some(error)),
    };
    if let Some(time) = watch.server_time {
        send(PodsEvent::ServerTime(time))?;
    }
    beat.works();
    for event in watch {
        beat.works();
        match event {
            Ok(event) => send(follower.watch_says(event))?,
            Err(error) => return Ok(Some(error)),
        }
    }
    Ok(None)
}

/// What comes next, and what there is to remember for it.
#[derive(Debug)]
pub struct Follower {
    next: Ask,
    /// How long the right to ConfigMaps is waited for. An API server that has just begun knows no Roles, and a Role may be deleted and applied
    /// anew; what runs is not known without the records. None: for ever.
    denied: Option<Duration>,
    forbidden_since: Option<Instant>,
    watch_began_at: Option<Instant>,
    /// Bookmarks too.
    watch_events: u64,
    /// Since all was well.
    failures: u32,
}

/// Of the API server.
#[derive(Clone, Debug, PartialEq)]
pub enum Ask {
    /// Once, before the first list: what an earlier process of ours left. It is tried for as long as it takes, but for a right that does not come.
    Records,
    List {
        is_first: bool,
    },
    Watch {
        /// This version, which goes on with each event.
        from: String,
    },
}

/// What follows from an answer: this is sent, and the next thing asked for after a pause.
#[derive(Debug)]
pub struct Turn {
    pub events: Vec<PodsEvent>,
    pub pause: Duration,
}

impl Turn {
    fn at_once(events: Vec<PodsEvent>) -> Self {
        Self { events, pause: Duration::ZERO }
    }
}

/// `jitter` is from 0 to 1.
impl Follower {
    pub fn new(denied: Option<Duration>) -> Self {
        Self { next: Ask::Records, denied, forbidden_since: None, watch_began_at: None, watch_events: 0, failures: 0 }
    }

    pub fn asks(&mut self, now: Instant) -> Ask {
        self.watch_began_at = Some(now);
        self.watch_events = 0;
        self.next.clone()
    }

    pub fn records_are_read(&mut self, result: Result<Found, Error>, now: Instant, jitter: f64) -> Turn {
        let done = match result {
            Ok(found) => PodsEvent::Records(found),
            Err(error) if error.code() == Some(403) => {
                if self.forbidden_since.is_none() {
                    let at_most = self.denied.map_or(String::new(), |denied| format!(", {} s at most", denied.as_secs()));
                    log::warn!("ConfigMaps may not be read: {error}. Requests wait for that right{at_most}.");
                }
                let since = *self.forbidden_since.get_or_insert(now);
                if self.denied.is_none_or(|denied| now.saturating_duration_since(since) < denied) {
                    log::debug!("records: {error}; in {FORBIDDEN_PAUSE:?} again");
                    return Turn { events: Vec::new(), pause: FORBIDDEN_PAUSE };
                }
                PodsEvent::RecordsForbidden(error)
            }
            Err(error) => {
                self.forbidden_since = None;
                return self.failed(error, jitter);
            }
        };
        self.failures = 0;
        self.next = Ask::List { is_first: true };
        Turn::at_once(vec![done])
    }

    pub fn pods_are_listed(&mut self, result: Result<PodList, Error>, jitter: f64) -> Turn {
        match result {
            Ok(PodList { pods, resource_version, server_time }) => {
                self.next = Ask::Watch { from: resource_version };
                Turn::at_once(server_time.map(PodsEvent::ServerTime).into_iter().chain([PodsEvent::Listed(pods)]).collect())
            }
            Err(error) => self.failed(error, jitter),
        }
    }

    pub fn watch_says(&mut self, event: WatchEvent) -> PodsEvent {
        self.watch_events += 1;
        self.next = Ask::Watch { from: event.resource_version().to_owned() };
        match event {
            WatchEvent::Changed(pod) => PodsEvent::Changed(Box::new(pod)),
            WatchEvent::Deleted(pod) => PodsEvent::Deleted(Box::new(pod)),
            WatchEvent::Bookmark(_) => PodsEvent::Bookmark,
        }
    }

    /// `error` is `None` where the API server ended it in order.
    pub fn watch_has_ended(&mut self, error: Option<Error>, now: Instant, jitter: f64) -> Turn {
        let time = self.watch_began_at.map_or(Duration::ZERO, |began_at| now.saturating_duration_since(began_at));
        let ended = Ended { error, events: self.watch_events, time };
        if ended.time >= HEALTHY_TIME {
            self.failures = 0;
        }
        if ended.needs_list() {
            self.next = Ask::List { is_first: false };
        }
        let is_expired = ended.is_expired();
        let Some(error) = ended.problem() else { return Turn::at_once(Vec::new()) };
        let turn = self.failed(error, jitter);
        if is_expired { Turn { events: Vec::new(), ..turn } } else { turn }
    }

    fn failed(&mut self, error: Error, jitter: f64) -> Turn {
        let pause = pause(&mut self.failures, &error, jitter);
        log::debug!("{error}; in {pause:?}: {:?}", self.next);
        Turn { events: vec![PodsEvent::Failed(error)], pause }
    }
}

/// How a watch ended.
struct Ended {
    /// None where the API server ended it in order.
    error: Option<Error>,
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

/// Doubles with each failure. `jitter` adds up to as much again.
fn pause(failures: &mut u32, error: &Error, jitter: f64) -> Duration {
    let wait = PAUSE_FIRST.saturating_mul(1 << (*failures).min(16)).min(PAUSE_MAX);
    *failures = failures.saturating_add(1);
    wait.mul_f64(1.0 + jitter).max(error.retry_after().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::UnixTime;
    use crate::kube::error::{Cause, Details, Status};

    const DENIED: Duration = Duration::from_secs(120);

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
            let (mut follower, began_at) = watching("5");
            let bookmark = |number: u64| follower.watch_says(WatchEvent::Bookmark(number.to_string()));
            (0..events).map(bookmark).for_each(|event| assert!(matches!(event, PodsEvent::Bookmark)));
            let is_expired = error.as_ref().is_some_and(Error::is_expired);
            let turn = follower.watch_has_ended(error, began_at + Duration::from_millis(time_ms), 0.0);
            assert_eq!(!turn.pause.is_zero(), pauses, "{phrase}: pause");
            let failed = matches!(turn.events.as_slice(), [PodsEvent::Failed(_)]);
            assert_eq!(failed, pauses && !is_expired, "{phrase}: {:?}", turn.events);
            let from = if events == 0 { "5".to_owned() } else { (events - 1).to_string() };
            let next = if lists { Ask::List { is_first: false } } else { Ask::Watch { from } };
            assert_eq!(follower.asks(began_at), next, "{phrase}");
        }
    }

    /// From this version, and since when.
    fn watching(version: &str) -> (Follower, Instant) {
        let now = clock::now().instant;
        let mut follower = Follower::new(Some(DENIED));
        follower.records_are_read(Ok(Found::default()), now, 0.0);
        let list = PodList { resource_version: version.to_owned(), server_time: Some(UnixTime(7.0)), ..PodList::default() };
        let turn = follower.pods_are_listed(Ok(list), 0.0);
        assert!(matches!(turn.events.as_slice(), [PodsEvent::ServerTime(UnixTime(7.0)), PodsEvent::Listed(_)]), "{turn:?}");
        assert_eq!(follower.asks(now), Ask::Watch { from: version.to_owned() });
        (follower, now)
    }

    #[test]
    fn what_fails_is_asked_for_again_and_the_first_list_comes_after_the_records() {
        let now = clock::now().instant;
        let mut follower = Follower::new(Some(DENIED));
        let lost = || Error::Lost(String::new());
        assert_eq!(follower.asks(now), Ask::Records);
        let turn = follower.records_are_read(Err(lost()), now, 0.0);
        assert!(matches!(turn.events.as_slice(), [PodsEvent::Failed(_)]) && turn.pause == PAUSE_FIRST, "{turn:?}");
        assert_eq!(follower.asks(now), Ask::Records);
        let turn = follower.records_are_read(Ok(Found::default()), now, 0.0);
        assert!(matches!(turn.events.as_slice(), [PodsEvent::Records(_)]) && turn.pause.is_zero(), "{turn:?}");
        for pause in [PAUSE_FIRST, PAUSE_FIRST * 2] {
            assert_eq!(follower.asks(now), Ask::List { is_first: true });
            let turn = follower.pods_are_listed(Err(lost()), 0.0);
            assert!(matches!(turn.events.as_slice(), [PodsEvent::Failed(_)]) && turn.pause == pause, "{turn:?}");
        }
        follower.pods_are_listed(Ok(PodList::default()), 0.0);
        assert_eq!(follower.asks(now), Ask::Watch { from: String::new() });
    }

    #[test]
    fn records_are_done_without_once_they_were_forbidden_all_the_time_that_an_api_server_needs_to_know_its_roles() {
        let began_at = clock::now().instant;
        let mut follower = Follower::new(Some(DENIED));
        let forbidden = |follower: &mut Follower, at| follower.records_are_read(Err(refused(403)), at, 0.0);
        let waits = |turn: &Turn| turn.events.is_empty() && turn.pause == FORBIDDEN_PAUSE;
        let almost = DENIED.checked_sub(Duration::from_millis(1)).unwrap();
        assert!(waits(&forbidden(&mut follower, began_at)));
        assert!(waits(&forbidden(&mut follower, began_at + almost)));
        follower.records_are_read(Err(refused(500)), began_at + almost, 0.0);
        let again_at = began_at + DENIED;
        assert!(waits(&forbidden(&mut follower, again_at)), "another answer came in between");
        assert_eq!(follower.asks(again_at), Ask::Records);
        let turn = forbidden(&mut follower, again_at + DENIED);
        assert!(matches!(turn.events.as_slice(), [PodsEvent::RecordsForbidden(_)]) && turn.pause.is_zero(), "{turn:?}");
        assert_eq!(follower.asks(again_at), Ask::List { is_first: true });
    }

    #[test]
    fn a_watch_of_minutes_ends_what_failed_before_it() {
        let (mut follower, began_at) = watching("5");
        let mut fails_after = |time| {
            follower.asks(began_at);
            follower.watch_has_ended(Some(Error::Lost(String::new())), began_at + time, 0.0).pause
        };
        let almost = HEALTHY_TIME.checked_sub(Duration::from_millis(1)).unwrap();
        let pauses = [Duration::ZERO, WATCH_TIME_MIN, almost, HEALTHY_TIME].map(|time| fails_after(time).as_millis());
        assert_eq!(pauses, [800, 1_600, 3_200, 800]);
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
