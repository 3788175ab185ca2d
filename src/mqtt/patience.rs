//! How long the broker has owed us an acknowledgement. Pure: it reads no clock. rumqttc only sees to it that pings are answered.
//!
//! What counts is what was sent first of all that is owed, from when it became the first. A broker that is slow and takes what we send in
//! order acknowledges that next, however much is behind it; one that has lost one message and goes on with others does not.

use std::collections::VecDeque;
use std::time::Duration;

use super::KEEP_ALIVE;

/// Four keep-alives: for a broker that is busy or writes to a slow disk. It has them anew for each packet.
pub(super) const LIMIT: Duration = KEEP_ALIVE.saturating_mul(4);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Owed {
    /// Of our SUBSCRIBE, which is sent before all else.
    Subscription,
    /// Of a PUBLISH with this packet id.
    Message(u16),
    /// Of a PUBREL with this packet id, which a later PUBLISH may have too.
    Release(u16),
}

/// For one connection.
#[derive(Debug, Default)]
pub(super) struct Patience {
    /// In the order in which they were sent; no more than a window and the subscription.
    owed: VecDeque<Owed>,
    /// While the first was the first and we listened: what lies unread because we were at something else is not late.
    waited: Duration,
}

impl Patience {
    /// From here on the broker owes us this.
    pub(super) fn sent(&mut self, owed: Owed) {
        if self.owed.is_empty() {
            self.waited = Duration::ZERO;
        }
        self.owed.push_back(owed);
    }

    pub(super) fn acknowledged(&mut self, owed: Owed) {
        let Some(position) = self.owed.iter().position(|other| *other == owed) else { return };
        self.owed.remove(position);
        if position == 0 {
            self.waited = Duration::ZERO;
        }
    }

    pub(super) fn listened(&mut self, time: Duration) {
        self.waited += time;
    }

    /// What the broker has owed us for longer than the limit.
    pub(super) fn overdue(&self) -> Option<Owed> {
        self.owed.front().copied().filter(|_| self.waited >= LIMIT)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn owed(owed: impl IntoIterator<Item = Owed>) -> Patience {
        let mut patience = Patience::default();
        owed.into_iter().for_each(|owed| patience.sent(owed));
        patience
    }

    #[test]
    fn what_is_not_acknowledged_within_the_limit_is_overdue() {
        for what in [Owed::Subscription, Owed::Message(3), Owed::Release(3)] {
            let mut patience = owed([what]);
            patience.listened(LIMIT - SECOND);
            assert_eq!(patience.overdue(), None);
            patience.listened(SECOND);
            assert_eq!(patience.overdue(), Some(what));
        }
    }

    #[test]
    fn a_broker_that_owes_nothing_may_be_silent_and_has_all_its_time_for_the_next_message() {
        let mut patience = Patience::default();
        for _ in 0..2 {
            patience.listened(100 * LIMIT);
            assert_eq!(patience.overdue(), None);
            patience.sent(Owed::Message(1));
            patience.listened(LIMIT - SECOND);
            assert_eq!(patience.overdue(), None);
            patience.acknowledged(Owed::Message(1));
        }
    }

    /// At 100 a second the oldest of a window waits for a second, at one a second for 100, and at one a minute for most of two hours.
    #[test]
    fn a_slow_broker_that_goes_on_acknowledging_is_never_overdue() {
        for pace in [SECOND / 100, SECOND, LIMIT - SECOND] {
            let mut patience = owed((1..=100).map(Owed::Message));
            for packet_id in 1..=1000 {
                patience.listened(pace);
                assert_eq!(patience.overdue(), None);
                patience.acknowledged(Owed::Message(packet_id));
                patience.sent(Owed::Message(packet_id + 100));
            }
        }
    }

    #[test]
    fn a_slow_broker_comes_to_a_release_after_what_was_sent_before_it() {
        let mut patience = owed((1..=100).map(Owed::Message));
        for packet_id in 1..=100 {
            patience.listened(SECOND);
            patience.acknowledged(Owed::Message(packet_id));
            patience.sent(if packet_id == 1 { Owed::Release(1) } else { Owed::Message(packet_id + 100) });
        }
        assert_eq!(patience.overdue(), None);
        patience.listened(LIMIT);
        assert_eq!(patience.overdue(), Some(Owed::Release(1)));
    }

    #[test]
    fn one_message_that_is_not_acknowledged_is_overdue_whatever_becomes_of_those_behind_it() {
        let mut patience = owed([Owed::Message(1)]);
        for packet_id in 2..=60 {
            patience.sent(Owed::Message(packet_id));
            patience.listened(SECOND);
            assert_eq!(patience.overdue(), None);
            patience.acknowledged(Owed::Message(packet_id));
        }
        patience.listened(SECOND);
        assert_eq!(patience.overdue(), Some(Owed::Message(1)));
    }

    #[test]
    fn messages_that_follow_each_other_do_not_put_off_the_limit() {
        let mut patience = Patience::default();
        for packet_id in 1..=60 {
            patience.sent(Owed::Message(packet_id));
            assert_eq!(patience.overdue(), None);
            patience.listened(SECOND);
        }
        assert_eq!(patience.overdue(), Some(Owed::Message(1)));
    }

    #[test]
    fn acknowledged_messages_do_not_stand_for_the_subscription() {
        let mut patience = owed([Owed::Subscription, Owed::Message(1), Owed::Message(2)]);
        patience.listened(LIMIT);
        patience.acknowledged(Owed::Message(1));
        assert_eq!(patience.overdue(), Some(Owed::Subscription));
        patience.acknowledged(Owed::Subscription);
        assert_eq!(patience.overdue(), None, "the message has its time after it");
    }

    #[test]
    fn a_message_is_told_from_a_release_with_its_packet_id() {
        let mut patience = owed([Owed::Release(1), Owed::Message(1)]);
        patience.acknowledged(Owed::Message(1));
        patience.listened(LIMIT);
        assert_eq!(patience.overdue(), Some(Owed::Release(1)));
    }
}
