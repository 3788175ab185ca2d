//! Which of our messages the broker has not acknowledged, and which packet id each of them has. Pure: it sends nothing.
//!
//! rumqttc forgets or reorders messages when a connection breaks, and does not say which message a packet id belongs to. So each message
//! is kept here until it is acknowledged, rumqttc is emptied when a connection ends, and filled again from here when the next one begins.
//! While online it takes messages in the order in which they were handed over, and says `Outgoing::Publish` in that order.

use std::collections::{BTreeMap, VecDeque};

use crate::orchestrator::event::MessageId;

/// What rumqttc makes a PUBLISH of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Packet {
    pub(super) topic: String,
    pub(super) payload: Vec<u8>,
}

#[derive(Debug, Default)]
pub(super) struct Outbox {
    /// Not acknowledged. Ids grow, so that this is the order in which they were published.
    unacknowledged: BTreeMap<MessageId, Packet>,
    /// Handed to rumqttc on this connection, and not sent by it so far.
    queued: VecDeque<MessageId>,
    /// Sent, on this connection or an earlier one of the same session. Never more than rumqttc's window.
    in_flight: BTreeMap<u16, MessageId>,
    online: bool,
}

/// What to hand to rumqttc at the beginning of a connection.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Backlog {
    /// The broker may have these: with their old packet ids, before all others.
    /// MQTT 3.1.1, 4.4.0-1: <https://docs.oasis-open.org/mqtt/mqtt/v3.1.1/os/mqtt-v3.1.1-os.html#_Toc398718101>
    pub(super) again: Vec<(u16, Packet)>,
    pub(super) first: Vec<Packet>,
}

impl Outbox {
    /// The packet, where rumqttc is to have it now.
    pub(super) fn add(&mut self, id: MessageId, packet: Packet) -> Option<Packet> {
        self.unacknowledged.insert(id, packet.clone());
        self.online.then(|| {
            self.queued.push_back(id);
            packet
        })
    }

    pub(super) fn is_online(&self) -> bool {
        self.online
    }

    /// The broker has everything.
    pub(super) fn is_empty(&self) -> bool {
        self.unacknowledged.is_empty()
    }

    /// rumqttc sent a PUBLISH with this packet id.
    pub(super) fn sent(&mut self, packet_id: u16) {
        if self.in_flight.contains_key(&packet_id) {
            return; // again, on a later connection
        }
        if let Some(id) = self.queued.pop_front() {
            self.in_flight.insert(packet_id, id);
        }
    }

    /// The message that the broker now has.
    pub(super) fn acknowledged(&mut self, packet_id: u16) -> Option<MessageId> {
        let id = self.in_flight.remove(&packet_id)?;
        self.unacknowledged.remove(&id);
        Some(id)
    }

    /// The connection ended; nothing of ours is left in rumqttc.
    pub(super) fn offline(&mut self) {
        self.online = false;
        self.queued.clear();
    }

    /// A connection began, and the broker does or does not remember the last one.
    pub(super) fn online(&mut self, session_present: bool) -> Backlog {
        self.online = true;
        if !session_present {
            self.in_flight.clear();
        }
        let packet_ids: BTreeMap<MessageId, u16> = self.in_flight.iter().map(|(packet_id, id)| (*id, *packet_id)).collect();
        let mut backlog = Backlog { again: Vec::new(), first: Vec::new() };
        for (id, packet) in &self.unacknowledged {
            if let Some(packet_id) = packet_ids.get(id) {
                backlog.again.push((*packet_id, packet.clone()));
            } else {
                self.queued.push_back(*id);
                backlog.first.push(packet.clone());
            }
        }
        backlog
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packet(id: MessageId) -> Packet {
        Packet { topic: format!("/{id}"), payload: Vec::new() }
    }

    fn backlog(again: &[(u16, MessageId)], first: &[MessageId]) -> Backlog {
        Backlog {
            again: again.iter().map(|(packet_id, id)| (*packet_id, packet(*id))).collect(),
            first: first.iter().map(|id| packet(*id)).collect(),
        }
    }

    /// Online, with messages 1 to `count` handed over.
    fn online_with(count: MessageId) -> Outbox {
        let mut outbox = Outbox::default();
        assert_eq!(outbox.online(false), backlog(&[], &[]));
        for id in 1..=count {
            assert_eq!(outbox.add(id, packet(id)), Some(packet(id)));
        }
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
        assert_eq!(outbox.online(true), backlog(&[], &[]));
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
        assert_eq!(outbox.add(1, packet(1)), None);
        assert_eq!(outbox.add(2, packet(2)), None);
        assert_eq!(outbox.online(false), backlog(&[], &[1, 2]));
        assert_eq!(outbox.add(3, packet(3)), Some(packet(3)));
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
        outbox.add(5, packet(5));
        // In the order of publishing, though packet ids went round: 4.6.0-1.
        assert_eq!(outbox.online(true), backlog(&[(100, 1), (2, 3)], &[4, 5]));
        outbox.sent(100);
        outbox.sent(2);
        outbox.sent(3);
        assert_eq!([100, 2, 3].map(|packet_id| outbox.acknowledged(packet_id)), [Some(1), Some(3), Some(4)]);
    }

    #[test]
    fn a_session_that_the_broker_lost_begins_anew_in_the_old_order() {
        let mut outbox = online_with(3);
        outbox.sent(9);
        outbox.sent(10);
        outbox.offline();
        assert_eq!(outbox.online(false), backlog(&[], &[1, 2, 3]));
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
        assert_eq!(outbox.online(true), backlog(&[(1, 1), (2, 2), (3, 3)], &[4]));
        outbox.sent(1);
        assert_eq!(outbox.acknowledged(1), Some(1));
        outbox.offline();
        assert_eq!(outbox.online(true), backlog(&[(2, 2), (3, 3)], &[4]));
        outbox.offline();
        assert_eq!(outbox.online(false), backlog(&[], &[2, 3, 4]));
        outbox.sent(4);
        outbox.offline();
        assert_eq!(outbox.online(true), backlog(&[(4, 2)], &[3, 4]));
    }

    #[test]
    fn a_message_acknowledged_before_it_was_sent_again_is_done() {
        let mut outbox = online_with(2);
        outbox.sent(1);
        outbox.sent(2);
        outbox.offline();
        outbox.online(true);
        assert_eq!(outbox.acknowledged(2), Some(2));
        outbox.offline();
        assert_eq!(outbox.online(true), backlog(&[(1, 1)], &[]));
    }

    /// rumqttc holds back a message whose packet id is taken, and sends it after that one's acknowledgement.
    #[test]
    fn a_message_held_back_for_its_packet_id_was_never_sent() {
        let mut outbox = online_with(2);
        outbox.sent(1);
        outbox.offline();
        assert_eq!(outbox.online(true), backlog(&[(1, 1)], &[2]));
        outbox.sent(1);
        assert_eq!(outbox.acknowledged(1), Some(1));
        outbox.sent(1);
        assert_eq!(outbox.acknowledged(1), Some(2));
    }
}
