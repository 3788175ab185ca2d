//! Which call to the API goes out when: queues, a window, and holds. What a hold is for is decided by the table of refusals.
//!
//! The window keeps the commands that are out few, so that a hold or a changed mind reaches what still waits.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use super::SAID_AGAIN;
use super::event::{PodCall, Verb};
use super::refusal::{Pause, Reason};

/// Each worker has the next call at hand when it ends one, and no more.
const CALLS_PER_WORKER: usize = 2;

pub(super) struct Calls {
    /// In the order in which they go: what makes room before the creates.
    queues: BTreeMap<Verb, Queue>,
    /// Those that wait by themselves, by when, and in the order of their coming.
    later: BTreeMap<(Instant, u64), (PodCall, u32)>,
    later_count: u64,
    in_flight: usize,
    window: usize,
    /// Opened by the first complete list: before it nobody knows what is there already.
    open: bool,
    pub all: Hold,
}

#[derive(Default)]
struct Queue {
    waiting: VecDeque<(PodCall, u32)>,
    hold: Hold,
}

impl Calls {
    pub(super) fn new(workers: usize) -> Self {
        Self {
            queues: BTreeMap::new(),
            later: BTreeMap::new(),
            later_count: 0,
            in_flight: 0,
            window: workers * CALLS_PER_WORKER,
            open: false,
            all: Hold::default(),
        }
    }

    pub(super) fn open(&mut self) {
        self.open = true;
    }

    pub(super) fn push(&mut self, call: PodCall, attempt: u32) {
        self.queue(call.verb()).waiting.push_back((call, attempt));
    }

    pub(super) fn hold_of(&mut self, verb: Verb) -> &mut Hold {
        &mut self.queue(verb).hold
    }

    fn queue(&mut self, verb: Verb) -> &mut Queue {
        self.queues.entry(verb).or_default()
    }

    pub(super) fn push_at(&mut self, at: Instant, call: PodCall, attempt: u32) {
        self.later_count += 1;
        self.later.insert((at, self.later_count), (call, attempt));
    }

    /// The next call that may go out now. It counts as in flight from here on.
    pub(super) fn next(&mut self, now: Instant) -> Option<(PodCall, u32)> {
        while let Some(entry) = self.later.first_entry().filter(|entry| entry.key().0 <= now) {
            let (call, attempt) = entry.remove();
            self.push(call, attempt);
        }
        if !self.open || self.in_flight >= self.window || self.all.holds(now) {
            return None;
        }
        let call = self.queues.values_mut().filter(|queue| !queue.hold.holds(now)).find_map(|queue| queue.waiting.pop_front())?;
        self.in_flight += 1;
        Some(call)
    }

    /// The outcome of one came back, or it was not wanted any more.
    pub(super) fn done(&mut self) {
        self.in_flight -= 1;
    }

    pub(super) fn in_flight(&self) -> usize {
        self.in_flight
    }

    /// When a call that waits by itself is due, or a hold ends that something waits behind.
    pub(super) fn next_deadline(&self, now: Instant) -> Option<Instant> {
        let waiting = self.queues.values().filter(|queue| !queue.waiting.is_empty());
        let hold = waiting.filter_map(|queue| self.all.until.max(queue.hold.until)).filter(|&until| until > now).min();
        let later = self.later.first_key_value().map(|((at, _), _)| *at);
        [hold, later].into_iter().flatten().min()
    }
}

/// A pause that many calls share: what stands in the way of one stands in the way of all.
#[derive(Default)]
pub(super) struct Hold {
    until: Option<Instant>,
    /// How many pauses there were since the last success.
    rounds: u32,
    /// What stands in the way, and since when.
    obstacle: Option<(Reason, Instant)>,
    said_at: Option<Instant>,
}

impl Hold {
    fn holds(&self, now: Instant) -> bool {
        self.until.is_some_and(|until| now < until)
    }

    /// Begins a pause, or joins the one that is.
    pub(super) fn begin(&mut self, reason: Reason, pause: &Pause, now: Instant, jitter: &mut fastrand::Rng) {
        if self.obstacle.is_none_or(|(before, _)| before != reason) {
            self.obstacle = Some((reason, now));
        }
        let wait = if self.holds(now) {
            pause.at_least
        } else {
            self.rounds += 1;
            backoff(pause.base, pause.cap, self.rounds - 1, jitter).max(pause.at_least)
        };
        self.until = self.until.max(Some(now + wait));
    }

    /// Since when this stands in the way; now, where it does not.
    pub(super) fn since(&self, reason: Reason, now: Instant) -> Instant {
        self.obstacle.filter(|(present, _)| *present == reason).map_or(now, |(_, since)| since)
    }

    /// True the first time in each hold, and now and then while it lasts.
    pub(super) fn is_to_be_said(&mut self, now: Instant) -> bool {
        let is_due = self.said_at.is_none_or(|at| now.saturating_duration_since(at) >= SAID_AGAIN);
        if is_due {
            self.said_at = Some(now);
        }
        is_due
    }

    /// A call went through; one that was under way when the pause began proves nothing. True where it was said that calls wait.
    pub(super) fn end(&mut self, now: Instant) -> bool {
        !self.holds(now) && std::mem::take(self).said_at.is_some()
    }
}

/// Doubling from `base` to `cap`, and of that a random part above one half, so that clients do not come together again.
pub(super) fn backoff(base: Duration, cap: Duration, attempt: u32, jitter: &mut fastrand::Rng) -> Duration {
    let whole = base.saturating_mul(1 << attempt.min(16)).min(cap);
    whole.mul_f64(0.5 + jitter.f64() / 2.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_back_off_doubles_to_its_cap_and_never_falls_below_half() {
        let mut jitter = fastrand::Rng::with_seed(1);
        let (base, cap) = (Duration::from_millis(500), Duration::from_secs(30));
        for attempt in 0..40 {
            let whole = base.saturating_mul(1 << attempt.min(16)).min(cap);
            let pause = backoff(base, cap, attempt, &mut jitter);
            assert!(whole / 2 <= pause && pause <= whole, "{attempt}: {pause:?} of {whole:?}");
        }
    }

    #[test]
    fn a_hold_lasts_as_long_as_the_server_asked_whatever_was_under_way_when_it_began() {
        let mut jitter = fastrand::Rng::with_seed(1);
        let mut hold = Hold::default();
        let pause = |at_least_seconds| Pause {
            base: Duration::from_millis(500),
            cap: Duration::from_secs(30),
            at_least: Duration::from_secs(at_least_seconds),
        };
        let start = crate::clock::now().instant;
        let at = |seconds| start + Duration::from_secs(seconds);
        hold.begin(Reason::ApiUnavailable, &pause(0), at(0), &mut jitter);
        hold.begin(Reason::Throttled, &pause(30), at(0), &mut jitter);
        hold.end(at(1));
        assert!(hold.holds(at(29)));
        assert_eq!(hold.since(Reason::Throttled, at(29)), at(0));
        assert_eq!(hold.since(Reason::ExceededQuota, at(29)), at(29), "another obstacle begins anew");
        hold.end(at(31));
        assert_eq!(hold.since(Reason::Throttled, at(31)), at(31), "a success ends it");
    }
}
