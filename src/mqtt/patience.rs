//! How long the broker has owed us an acknowledgement. Pure: it reads no clock. rumqttc only sees to it that pings are answered.

use std::fmt;
use std::mem;
use std::time::Duration;

use super::KEEP_ALIVE;

/// Four keep-alives. A broker that takes no more than 100 messages a second acknowledges all that are in flight within one; one that is
/// slower, busy or writes to a slow disk still acknowledges something meanwhile, and then has its time again.
pub(super) const LIMIT: Duration = KEEP_ALIVE.saturating_mul(4);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Owed {
    /// Of our SUBSCRIBE. Acknowledgements of messages are none of it.
    Subscription,
    /// Of any of so many messages. From the first that was sent, or the last that was acknowledged.
    Messages(usize),
}

/// For one connection.
#[derive(Debug, Default)]
pub(super) struct Patience {
    owed: Option<Owed>,
    /// While something was owed and we listened: what lies unread because we were at something else is not late.
    waited: Duration,
}

impl Patience {
    /// What the broker owes us from here on.
    pub(super) fn owes(&mut self, owed: Option<Owed>) {
        if self.owed.as_ref().map(mem::discriminant) != owed.as_ref().map(mem::discriminant) {
            self.waited = Duration::ZERO;
        }
        self.owed = owed;
    }

    /// A message moved on: a PUBACK, PUBREC or PUBCOMP came.
    pub(super) fn acknowledged(&mut self) {
        if let Some(Owed::Messages(_)) = self.owed {
            self.waited = Duration::ZERO;
        }
    }

    pub(super) fn listened(&mut self, time: Duration) {
        if self.owed.is_some() {
            self.waited += time;
        }
    }

    /// What the broker has owed us for longer than the limit.
    pub(super) fn overdue(&self) -> Option<Owed> {
        self.owed.filter(|_| self.waited >= LIMIT)
    }
}

impl fmt::Display for Owed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Subscription => f.write_str("our subscription"),
            Self::Messages(1) => f.write_str("the message in flight"),
            Self::Messages(count) => write!(f, "any of the {count} messages in flight"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn owed(owed: Owed) -> Patience {
        let mut patience = Patience::default();
        patience.owes(Some(owed));
        patience
    }

    #[test]
    fn what_is_not_acknowledged_within_the_limit_is_overdue() {
        for what in [Owed::Subscription, Owed::Messages(3)] {
            let mut patience = owed(what);
            patience.listened(LIMIT - SECOND);
            assert_eq!(patience.overdue(), None);
            patience.listened(SECOND);
            assert_eq!(patience.overdue(), Some(what));
        }
    }

    #[test]
    fn a_broker_that_owes_nothing_may_be_silent_and_has_all_its_time_for_the_next_message() {
        let mut patience = Patience::default();
        patience.listened(100 * LIMIT);
        assert_eq!(patience.overdue(), None);
        patience.owes(Some(Owed::Messages(1)));
        patience.listened(LIMIT - SECOND);
        assert_eq!(patience.overdue(), None);
        patience.owes(None);
        patience.owes(Some(Owed::Messages(1)));
        patience.listened(LIMIT - SECOND);
        assert_eq!(patience.overdue(), None);
    }

    #[test]
    fn a_slow_broker_that_goes_on_acknowledging_is_never_overdue() {
        let mut patience = owed(Owed::Messages(100));
        for _ in 0..1000 {
            patience.listened(LIMIT - SECOND);
            assert_eq!(patience.overdue(), None);
            patience.acknowledged();
            patience.owes(Some(Owed::Messages(100)));
        }
    }

    #[test]
    fn messages_that_follow_each_other_do_not_put_off_the_limit() {
        let mut patience = Patience::default();
        for count in 1..=60 {
            patience.owes(Some(Owed::Messages(count)));
            assert_eq!(patience.overdue(), None);
            patience.listened(SECOND);
        }
        assert_eq!(patience.overdue(), Some(Owed::Messages(60)));
    }

    #[test]
    fn acknowledged_messages_do_not_stand_for_the_subscription() {
        let mut patience = owed(Owed::Subscription);
        for _ in 0..60 {
            patience.listened(SECOND);
            patience.acknowledged();
            patience.owes(Some(Owed::Subscription));
        }
        assert_eq!(patience.overdue(), Some(Owed::Subscription));
        patience.owes(Some(Owed::Messages(2)));
        assert_eq!(patience.overdue(), None, "the messages have their time after it");
    }
}
