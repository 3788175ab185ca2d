//! Which of our messages the broker has not acknowledged, and which packet id each of them has. Pure: it sends nothing.
//!
//! rumqttc forgets or reorders messages when a connection breaks, and does not say which message a packet id belongs to. So each message
//! is kept here until it is acknowledged, rumqttc is emptied when a connection ends, and filled again from here when the next one begins.
//! While online it takes messages in the order in which they were handed over, and says `Outgoing::Publish` in that order.
//!
//! Of a message at QoS 2 the broker says first that it holds it, and at its release that it has passed it on (MQTT 3.1.1, 4.3.3). rumqttc
//! releases it on the connection on which the broker says the first; on a later one it is to be told to.
//!
//! rumqttc has no more than a window of them at a time. Past its own it reads no requests at all until the broker acknowledges something;
//! an acknowledgement of ours would wait there for one of the broker's, and a broker that waits for ours before it goes on would wait for
//! ever.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ops::Bound;

use rumqttc::mqttbytes::QoS;

use crate::orchestrator::event::MessageId;

/// In flight at once: enough that no broker nearby is waited for, few enough that any takes them.
pub const WINDOW: u16 = 100;

/// What rumqttc makes a PUBLISH of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Packet {
    pub topic: String,
    pub payload: Vec<u8>,
    /// At least once; or exactly once. Then it is also given up where it has not gone out on this connection, as on the next one its
    /// receiver may not be there yet.
    pub qos: QoS,
}

/// What rumqttc is to send again.
#[derive(Debug, PartialEq, Eq)]
pub enum Again {
    Publish(u16, Packet),
    /// The PUBREL of a message that the broker holds.
    Release(u16),
}

/// What follows from a connection that begins.
#[derive(Debug)]
pub struct Begun {
    /// To arrive once, not sent, and given up.
    pub unsent: Vec<MessageId>,
    /// To arrive once, sent in a session that the broker has lost, and given up.
    pub doubtful: Vec<MessageId>,
    pub again: Vec<Again>,
}

#[derive(Debug, Default)]
pub struct Outbox {
    /// Not acknowledged. Ids grow, so that this is the order in which they were published.
    unacknowledged: BTreeMap<MessageId, Packet>,
    /// The last one that was sent or handed to rumqttc, if any: those behind it wait for room in the window.
    handed_over: Option<MessageId>,
    /// Handed to rumqttc on this connection, and not sent by it so far.
    queued: VecDeque<MessageId>,
    /// Sent, on this connection or an earlier one of the same session. With those queued and released never more than the window.
    in_flight: BTreeMap<u16, MessageId>,
    /// The broker holds them, and is to pass them on; in the order in which it said so. rumqttc may give their packet ids to others.
    released: Vec<(u16, MessageId)>,
    /// At QoS 2, sent on this connection or the one that ended last, and the broker did not say that it holds them.
    unheld: BTreeSet<u16>,
    online: bool,
    /// How many began.
    connections: u64,
}

impl Outbox {
    pub fn add(&mut self, id: MessageId, packet: Packet) {
        self.unacknowledged.insert(id, packet);
    }

    /// What rumqttc is to have next, while there is room in the window.
    pub fn take_next(&mut self) -> Option<Packet> {
        if !self.online || self.in_flight.len() + self.released.len() + self.queued.len() >= usize::from(WINDOW) {
            return None;
        }
        let behind = self.handed_over.map_or(Bound::Unbounded, Bound::Excluded);
        let (id, packet) = self.unacknowledged.range((behind, Bound::Unbounded)).next()?;
        self.handed_over = Some(*id);
        self.queued.push_back(*id);
        Some(packet.clone())
    }

    pub fn is_online(&self) -> bool {
        self.online
    }

    /// The number of the connection that began last.
    pub fn connection(&self) -> u64 {
        self.connections
    }

    /// The broker has everything.
    pub fn is_empty(&self) -> bool {
        self.unacknowledged.is_empty()
    }

    /// Of the message that was sent with this packet id and is not acknowledged.
    pub fn topic_in_flight(&self, packet_id: u16) -> Option<&str> {
        self.topic(*self.in_flight.get(&packet_id)?)
    }

    /// Of the message that the broker holds, and is to pass on.
    pub fn topic_released(&self, packet_id: u16) -> Option<&str> {
        let (_, id) = self.released.iter().find(|(released, _)| *released == packet_id)?;
        self.topic(*id)
    }

    /// rumqttc sent a PUBLISH with this packet id.
    pub fn sent(&mut self, packet_id: u16) {
        // Already in flight: sent again, on a later connection.
        if !self.in_flight.contains_key(&packet_id)
            && let Some(id) = self.queued.pop_front()
        {
            self.in_flight.insert(packet_id, id);
        }
        let packet = self.in_flight.get(&packet_id).and_then(|id| self.unacknowledged.get(id));
        if packet.is_some_and(|packet| packet.qos == QoS::ExactlyOnce) {
            self.unheld.insert(packet_id);
        }
    }

    /// A message at QoS 2 went out on this connection, or the one that ended last, and the broker did not say that it holds it.
    pub fn awaits_hold(&self) -> bool {
        !self.unheld.is_empty()
    }

    /// A PUBACK: the message that the broker now has.
    pub fn acknowledged(&mut self, packet_id: u16) -> Option<MessageId> {
        let id = self.in_flight.remove(&packet_id)?;
        self.unacknowledged.remove(&id);
        Some(id)
    }

    /// A PUBREC: the broker holds the message, which must not be sent again.
    pub fn held(&mut self, packet_id: u16) {
        self.unheld.remove(&packet_id);
        if let Some(id) = self.in_flight.remove(&packet_id) {
            self.released.push((packet_id, id));
        }
    }

    /// A PUBCOMP: the message that the broker has passed on.
    pub fn completed(&mut self, packet_id: u16) -> Option<MessageId> {
        let position = self.released.iter().position(|(released, _)| *released == packet_id)?;
        let (_, id) = self.released.remove(position);
        self.unacknowledged.remove(&id);
        Some(id)
    }

    /// The connection ended; nothing of ours is left in rumqttc.
    pub fn offline(&mut self) {
        self.online = false;
        self.queued.clear();
    }

    /// A connection begins, of the session before it or of a new one.
    pub fn begin(&mut self, session_present: bool) -> Begun {
        let unsent = self.take_unsent();
        let doubtful = if session_present { Vec::new() } else { self.take_doubtful() };
        Begun { unsent, doubtful, again: self.online() }
    }

    /// What is to arrive once and was not sent is given up.
    fn take_unsent(&mut self) -> Vec<MessageId> {
        let sent: BTreeSet<MessageId> = self.sent_ones().collect();
        self.give_up(|id| !sent.contains(&id))
    }

    /// The broker has lost the session. What is to arrive once and was sent is given up: it may have arrived.
    fn take_doubtful(&mut self) -> Vec<MessageId> {
        let sent: BTreeSet<MessageId> = self.sent_ones().collect();
        self.in_flight.clear();
        self.released.clear();
        self.give_up(|id| sent.contains(&id))
    }

    /// The broker may have what this returns: rumqttc is to send that again, with the old packet ids and in this order,
    /// before all others.
    /// MQTT 3.1.1, 4.4.0-1: <https://docs.oasis-open.org/mqtt/mqtt/v3.1.1/os/mqtt-v3.1.1-os.html#_Toc398718101>
    fn online(&mut self) -> Vec<Again> {
        self.online = true;
        self.connections += 1;
        self.unheld.clear();
        self.handed_over = self.sent_ones().max();
        let packet_ids: BTreeMap<MessageId, u16> = self.in_flight.iter().map(|(packet_id, id)| (*id, *packet_id)).collect();
        let publish = |(id, packet): (&MessageId, &Packet)| Some(Again::Publish(*packet_ids.get(id)?, packet.clone()));
        let releases = self.released.iter().map(|(packet_id, _)| Again::Release(*packet_id));
        releases.chain(self.unacknowledged.iter().filter_map(publish)).collect()
    }

    fn topic(&self, id: MessageId) -> Option<&str> {
        self.unacknowledged.get(&id).map(|packet| packet.topic.as_str())
    }

    fn sent_ones(&self) -> impl Iterator<Item = MessageId> {
        self.in_flight.values().copied().chain(self.released.iter().map(|(_, id)| *id))
    }

    /// Of what is to arrive once.
    fn give_up(&mut self, is_given_up: impl Fn(MessageId) -> bool) -> Vec<MessageId> {
        let is_given_up = |(id, packet): &(&MessageId, &Packet)| packet.qos == QoS::ExactlyOnce && is_given_up(**id);
        let given_up: Vec<MessageId> = self.unacknowledged.iter().filter(is_given_up).map(|(id, _)| *id).collect();
        self.unacknowledged.retain(|id, _| !given_up.contains(id));
        given_up
    }
}

#[cfg(test)]
mod tests {
    use std::ops::RangeInclusive;

    use super::*;

    fn packet(id: MessageId) -> Packet {
        Packet { topic: format!("/{id}"), payload: Vec::new(), qos: QoS::AtLeastOnce }
    }

    fn exactly_once(id: MessageId) -> Packet {
        Packet { qos: QoS::ExactlyOnce, ..packet(id) }
    }

    fn add(outbox: &mut Outbox, ids: RangeInclusive<MessageId>) {
        ids.for_each(|id| outbox.add(id, packet(id)));
    }

    /// What rumqttc takes now, in order.
    fn handed_over(outbox: &mut Outbox) -> Vec<MessageId> {
        std::iter::from_fn(|| outbox.take_next()).map(|packet| packet.topic[1..].parse().unwrap()).collect()
    }

    /// A connection begins: what is sent again, and what is handed over.
    fn online(outbox: &mut Outbox, session_present: bool) -> (Vec<(u16, MessageId)>, Vec<MessageId>) {
        if !session_present {
            assert!(outbox.take_doubtful().is_empty());
        }
        let again = outbox.online().into_iter().map(|again| match again {
            Again::Publish(packet_id, packet) => (packet_id, packet.topic[1..].parse().unwrap()),
            Again::Release(packet_id) => panic!("{packet_id} is released"),
        });
        (again.collect(), handed_over(outbox))
    }

    fn backlog(again: &[(u16, MessageId)], first: &[MessageId]) -> (Vec<(u16, MessageId)>, Vec<MessageId>) {
        (again.to_vec(), first.to_vec())
    }

    /// Online, with messages 1 to `count` handed over.
    fn online_with(count: MessageId) -> Outbox {
        let mut outbox = Outbox::default();
        assert_eq!(online(&mut outbox, false), backlog(&[], &[]));
        add(&mut outbox, 1..=count);
        assert_eq!(handed_over(&mut outbox), (1..=count).collect::<Vec<_>>());
        outbox
    }

    #[test]
    fn an_acknowledgement_names_the_message_that_was_sent_with_its_packet_id() {
        let mut outbox = online_with(3);
        outbox.sent(7);
        outbox.sent(8);
        assert_eq!(outbox.acknowledged(8), Some(2));
        outbox.sent(8);
        assert_eq!(outbox.acknowledged(8), Some(3));
        assert_eq!(outbox.acknowledged(7), Some(1));
        assert!(outbox.is_empty());
        outbox.offline();
        assert_eq!(online(&mut outbox, true), backlog(&[], &[]));
    }

    #[test]
    fn an_acknowledgement_of_nothing_names_nothing() {
        let mut outbox = online_with(1);
        assert_eq!(outbox.acknowledged(1), None);
        outbox.sent(1);
        assert_eq!(outbox.acknowledged(1), Some(1));
        assert_eq!(outbox.acknowledged(1), None);
    }

    #[test]
    fn what_is_published_offline_goes_out_with_the_next_connection() {
        let mut outbox = Outbox::default();
        add(&mut outbox, 1..=2);
        assert!(handed_over(&mut outbox).is_empty());
        assert_eq!(online(&mut outbox, false), backlog(&[], &[1, 2]));
        add(&mut outbox, 3..=3);
        assert_eq!(handed_over(&mut outbox), [3]);
        outbox.sent(1);
        outbox.sent(2);
        outbox.sent(3);
        assert_eq!([1, 2, 3].map(|packet_id| outbox.acknowledged(packet_id)), [Some(1), Some(2), Some(3)]);
    }

    #[test]
    fn a_session_that_the_broker_kept_goes_on_with_its_packet_ids() {
        let mut outbox = online_with(4);
        outbox.sent(100);
        outbox.sent(1);
        outbox.sent(2);
        assert_eq!(outbox.acknowledged(1), Some(2));
        outbox.offline();
        add(&mut outbox, 5..=5);
        // In the order of publishing, though packet ids went round: 4.6.0-1.
        assert_eq!(online(&mut outbox, true), backlog(&[(100, 1), (2, 3)], &[4, 5]));
        outbox.sent(100);
        outbox.sent(2);
        outbox.sent(3);
        assert_eq!([100, 2, 3].map(|packet_id| outbox.acknowledged(packet_id)), [Some(1), Some(3), Some(4)]);
    }

    #[test]
    fn what_is_to_arrive_once_is_sent_on_its_connection_or_given_up() {
        let mut outbox = online_with(1);
        outbox.add(2, exactly_once(2));
        outbox.add(3, exactly_once(3));
        assert_eq!(handed_over(&mut outbox), [2, 3]);
        outbox.sent(1);
        outbox.sent(2);
        outbox.offline();
        outbox.add(4, exactly_once(4));
        add(&mut outbox, 5..=5);
        assert_eq!(outbox.take_unsent(), [3, 4], "the broker may have 2");
        assert_eq!(online(&mut outbox, true), backlog(&[(1, 1), (2, 2)], &[5]));
    }

    /// 1 is at QoS 1, the others at QoS 2: 2 and 3 were sent as 12 and 13.
    fn online_with_some_exactly_once() -> Outbox {
        let mut outbox = online_with(1);
        (2..=3).for_each(|id| outbox.add(id, exactly_once(id)));
        assert_eq!(handed_over(&mut outbox), [2, 3]);
        [11, 12, 13].iter().for_each(|packet_id| outbox.sent(*packet_id));
        outbox
    }

    #[test]
    fn what_is_to_arrive_once_is_published_when_the_broker_has_passed_it_on() {
        let mut outbox = online_with_some_exactly_once();
        assert_eq!(outbox.completed(12), None, "it was not released");
        outbox.held(12);
        assert_eq!(outbox.acknowledged(12), None);
        outbox.held(12);
        assert_eq!(outbox.completed(12), Some(2));
        assert_eq!(outbox.completed(12), None);
    }

    #[test]
    fn what_the_broker_holds_is_released_again_on_the_next_connection_and_not_sent_again() {
        let mut outbox = online_with_some_exactly_once();
        outbox.add(4, packet(4));
        outbox.held(13);
        outbox.held(12);
        outbox.offline();
        assert!(outbox.take_unsent().is_empty());
        // In the order of the PUBRECs: 4.6.0-4.
        assert_eq!(outbox.online(), [Again::Release(13), Again::Release(12), Again::Publish(11, packet(1))]);
        assert_eq!(handed_over(&mut outbox), [4]);
        assert_eq!(outbox.completed(13), Some(3));
        outbox.offline();
        assert_eq!(outbox.online(), [Again::Release(12), Again::Publish(11, packet(1))]);
        assert_eq!((outbox.completed(12), outbox.acknowledged(11)), (Some(2), Some(1)));
        assert_eq!(handed_over(&mut outbox), [4]);
    }

    #[test]
    fn what_the_broker_does_not_hold_yet_is_sent_again_on_the_next_connection() {
        let mut outbox = online_with_some_exactly_once();
        outbox.held(12);
        outbox.offline();
        let again = |packet_id, packet| Again::Publish(packet_id, packet);
        assert_eq!(outbox.online(), [Again::Release(12), again(11, packet(1)), again(13, exactly_once(3))]);
        outbox.held(13);
        assert_eq!(outbox.completed(13), Some(3));
    }

    #[test]
    fn what_may_have_arrived_when_the_broker_lost_the_session_is_given_up() {
        let mut outbox = online_with_some_exactly_once();
        outbox.add(4, exactly_once(4));
        add(&mut outbox, 5..=5);
        outbox.held(12);
        outbox.offline();
        assert_eq!(outbox.take_unsent(), [4]);
        assert_eq!(outbox.take_doubtful(), [2, 3]);
        assert_eq!(online(&mut outbox, true), backlog(&[], &[1, 5]));
        assert_eq!((outbox.completed(12), outbox.completed(13)), (None, None), "these packet ids were the lost session's");
    }

    /// rumqttc gives out a packet id again when its PUBLISH is acknowledged, before its release is.
    #[test]
    fn a_message_with_the_packet_id_of_one_that_is_released_is_told_from_it() {
        let mut outbox = online_with_some_exactly_once();
        outbox.held(12);
        add(&mut outbox, 4..=4);
        assert_eq!(handed_over(&mut outbox), [4]);
        outbox.sent(12);
        assert_eq!(outbox.acknowledged(12), Some(4));
        assert_eq!(outbox.completed(12), Some(2));
    }

    #[test]
    fn what_the_broker_holds_takes_its_place_in_the_window() {
        let mut outbox = online_with_some_exactly_once();
        let last = MessageId::from(WINDOW);
        add(&mut outbox, 4..=last + 1);
        assert_eq!(handed_over(&mut outbox).last(), Some(&last));
        outbox.held(12);
        assert!(handed_over(&mut outbox).is_empty());
        assert_eq!(outbox.completed(12), Some(2));
        assert_eq!(handed_over(&mut outbox), [last + 1]);
    }

    #[test]
    fn a_session_that_the_broker_lost_begins_anew_in_the_old_order() {
        let mut outbox = online_with(3);
        outbox.sent(9);
        outbox.sent(10);
        outbox.offline();
        assert_eq!(online(&mut outbox, false), backlog(&[], &[1, 2, 3]));
        outbox.sent(11);
        outbox.sent(12);
        assert_eq!(outbox.acknowledged(12), Some(2));
        assert_eq!(outbox.acknowledged(10), None, "this packet id was the lost session's");
        assert_eq!(outbox.acknowledged(11), Some(1));
    }

    #[test]
    fn a_connection_that_breaks_while_sending_again_loses_nothing() {
        let mut outbox = online_with(4);
        outbox.sent(1);
        outbox.sent(2);
        outbox.sent(3);
        outbox.offline();
        assert_eq!(online(&mut outbox, true), backlog(&[(1, 1), (2, 2), (3, 3)], &[4]));
        outbox.sent(1);
        assert_eq!(outbox.acknowledged(1), Some(1));
        outbox.offline();
        assert_eq!(online(&mut outbox, true), backlog(&[(2, 2), (3, 3)], &[4]));
        outbox.offline();
        assert_eq!(online(&mut outbox, false), backlog(&[], &[2, 3, 4]));
        outbox.sent(4);
        outbox.offline();
        assert_eq!(online(&mut outbox, true), backlog(&[(4, 2)], &[3, 4]));
    }

    #[test]
    fn a_message_acknowledged_before_it_was_sent_again_is_done() {
        let mut outbox = online_with(2);
        outbox.sent(1);
        outbox.sent(2);
        outbox.offline();
        online(&mut outbox, true);
        assert_eq!(outbox.acknowledged(2), Some(2));
        outbox.offline();
        assert_eq!(online(&mut outbox, true), backlog(&[(1, 1)], &[]));
    }

    /// rumqttc holds back a message whose packet id is taken, and sends it after that one's acknowledgement.
    #[test]
    fn a_message_held_back_for_its_packet_id_was_never_sent() {
        let mut outbox = online_with(2);
        outbox.sent(1);
        outbox.offline();
        assert_eq!(online(&mut outbox, true), backlog(&[(1, 1)], &[2]));
        outbox.sent(1);
        assert_eq!(outbox.acknowledged(1), Some(1));
        outbox.sent(1);
        assert_eq!(outbox.acknowledged(1), Some(2));
    }

    #[test]
    fn no_more_than_a_window_is_with_rumqttc_and_an_acknowledgement_makes_room_for_one() {
        let window = MessageId::from(WINDOW);
        let mut outbox = online_with(window);
        add(&mut outbox, window + 1..=window + 3);
        assert!(handed_over(&mut outbox).is_empty());
        outbox.sent(1);
        assert!(handed_over(&mut outbox).is_empty(), "sent is not acknowledged");
        assert_eq!(outbox.acknowledged(1), Some(1));
        assert_eq!(handed_over(&mut outbox), [window + 1]);
        (2..=WINDOW).for_each(|packet_id| outbox.sent(packet_id));
        outbox.offline();
        let (again, first) = online(&mut outbox, true);
        assert_eq!((again.len(), first), (usize::from(WINDOW) - 1, vec![window + 1]));
        outbox.offline();
        assert_eq!(online(&mut outbox, false), backlog(&[], &(2..=window + 1).collect::<Vec<_>>()));
    }

    #[test]
    fn a_hold_is_awaited_of_what_went_out_at_qos_2_on_the_connection_or_the_one_that_ended() {
        let mut outbox = online_with(1);
        outbox.add(2, exactly_once(2));
        assert_eq!(handed_over(&mut outbox), [2]);
        outbox.sent(11);
        assert!(!outbox.awaits_hold(), "1 is at QoS 1");
        outbox.sent(12);
        assert!(outbox.awaits_hold());
        outbox.offline();
        assert!(outbox.awaits_hold(), "the connection ended at it");
        assert_eq!(online(&mut outbox, true), backlog(&[(11, 1), (12, 2)], &[]));
        assert!(!outbox.awaits_hold(), "it was not sent again yet");
        outbox.sent(12);
        assert!(outbox.awaits_hold());
        outbox.held(12);
        assert!(!outbox.awaits_hold());
    }

    #[test]
    fn each_connection_has_a_number_of_its_own() {
        let mut outbox = online_with(0);
        let first = outbox.connection();
        outbox.offline();
        assert_eq!((outbox.connection(), outbox.is_online()), (first, false));
        online(&mut outbox, true);
        assert_ne!(outbox.connection(), first);
    }
}
