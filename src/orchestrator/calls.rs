//! Which call to the API goes out when: a queue, a window, and holds. What a hold is for is decided in deploy.rs.
//!
//! The window keeps the commands that are out few, so that a hold or a changed mind reaches what still waits.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::event::PodCall;

/// Each worker has the next call at hand when it ends one, and no more.
const CALLS_PER_WORKER: usize = 2;

pub(super) struct Calls {
    creates: VecDeque<(PodCall, u32)>,
    /// Few, and what makes room: they go before the creates.
    others: VecDeque<(PodCall, u32)>,
    in_flight: usize,
    window: usize,
    /// Opened by the first complete list: before it nobody knows what is there already.
    open: bool,
    pub all: Hold,
    pub only_creates: Hold,
}

impl Calls {
    pub(super) fn new(workers: usize) -> Self {
        Self {
            creates: VecDeque::new(),
            others: VecDeque::new(),
            in_flight: 0,
            window: workers * CALLS_PER_WORKER,
            open: false,
            all: Hold::default(),
            only_creates: Hold::default(),
        }
    }

    pub(super) fn open(&mut self) {
        self.open = true;
    }

    pub(super) fn push(&mut self, call: PodCall, attempt: u32) {
        match call {
            PodCall::Create(_) => self.creates.push_back((call, attempt)),
            _ => self.others.push_back((call, attempt)),
        }
    }

    /// The next call that may go out now. It counts as in flight from here on.
    pub(super) fn next(&mut self, now: Instant) -> Option<(PodCall, u32)> {
        if !self.open || self.in_flight >= self.window || self.all.holds(now) {
            return None;
        }
        let call = match self.others.pop_front() {
            Some(call) => call,
            None if self.only_creates.holds(now) => return None,
            None => self.creates.pop_front()?,
        };
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

    /// When a hold ends that something waits behind.
    pub(super) fn next_deadline(&self, now: Instant) -> Option<Instant> {
        let waits = !self.others.is_empty() || !self.creates.is_empty();
        let holds = [self.all.until, self.only_creates.until.filter(|_| self.others.is_empty())];
        holds.into_iter().flatten().filter(|&until| waits && until > now).max()
    }
}

/// A pause that many calls share: what stands in the way of one stands in the way of all.
#[derive(Default)]
pub(super) struct Hold {
    until: Option<Instant>,
    /// How many pauses there were since the last success.
    rounds: u32,
    said: bool,
}

impl Hold {
    fn holds(&self, now: Instant) -> bool {
        self.until.is_some_and(|until| now < until)
    }

    /// Begins a pause, or joins the one that is. `pause` is told how many there were before. True where it is `to_say` and was not said yet.
    pub(super) fn begin(&mut self, now: Instant, pause: impl FnOnce(u32) -> Duration, to_say: bool) -> bool {
        if !self.holds(now) {
            self.until = Some(now + pause(self.rounds));
            self.rounds += 1;
        }
        to_say && !std::mem::replace(&mut self.said, true)
    }

    /// A call went through. True where it was said that calls wait.
    pub(super) fn end(&mut self) -> bool {
        std::mem::take(self).said
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
}
