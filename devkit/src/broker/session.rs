//! One client's session: its subscriptions, what is on its way to it, and what it has yet to release. It survives connections, and knows
//! none.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use rumqttc::mqttbytes::QoS;
use rumqttc::mqttbytes::v4::Publish;

use super::topic;

/// As mosquitto's `max_inflight_messages`: so many of QoS 1 are sent before one must be acknowledged.
const MAX_IN_FLIGHT: usize = 20;
/// A client that stays away must not fill the memory. As k8s/demonstration/mosquitto.conf has it, with its reason: `max_queued_messages`.
const MAX_QUEUED_MESSAGES: usize = 100_000;

#[derive(Clone, Debug)]
pub(super) struct Message {
    pub(super) topic: String,
    pub(super) payload: Bytes,
    /// 0 or 1.
    pub(super) qos: QoS,
    /// Comes of a subscription, not of its publisher just now.
    pub(super) retained: bool,
}

impl Message {
    fn publish(self, packet_id: u16, dup: bool) -> Publish {
        Publish { dup, qos: self.qos, retain: self.retained, topic: self.topic, pkid: packet_id, payload: self.payload }
    }
}

#[derive(Default)]
pub(super) struct Session {
    /// By filter.
    pub(super) subscriptions: BTreeMap<String, QoS>,
    /// Sent and not acknowledged, in the order in which they were sent first.
    in_flight: VecDeque<(u16, Message)>,
    queued: VecDeque<Message>,
    /// How many found the queue full since the client was last here.
    dropped: u64,
    last_packet_id: u16,
    /// What came at QoS 2 and is not released, by packet id.
    held: BTreeMap<u16, Publish>,
}

impl Session {
    /// The QoS that was granted for the topic; `None` where nothing was subscribed to.
    ///
    /// Where filters overlap a message goes out once, and as mosquitto does it, the first filter that its search comes upon decides.
    pub(super) fn granted(&self, topic: &str) -> Option<QoS> {
        let matching = self.subscriptions.iter().filter(|(filter, _)| topic::matches(filter, topic));
        matching.min_by_key(|(filter, _)| topic::search_order(filter)).map(|(_, qos)| *qos)
    }

    /// For a client that is not there. Where the queue is full the message is dropped, as mosquitto drops it.
    pub(super) fn queue(&mut self, message: Message) {
        if self.queued.len() >= MAX_QUEUED_MESSAGES {
            self.dropped += 1;
        } else {
            self.queued.push_back(message);
        }
    }

    /// For a client that is there: what to send now, if anything. QoS 0 waits for no acknowledgement of another message.
    pub(super) fn send(&mut self, message: Message) -> Option<Publish> {
        if message.qos == QoS::AtMostOnce {
            return Some(message.publish(0, false));
        }
        if self.in_flight.len() < MAX_IN_FLIGHT {
            return Some(self.put_in_flight(message));
        }
        self.queue(message);
        None
    }

    pub(super) fn kept(&self) -> usize {
        self.in_flight.len() + self.queued.len()
    }

    pub(super) fn take_dropped(&mut self) -> u64 {
        std::mem::take(&mut self.dropped)
    }

    /// What to send now that there is room.
    pub(super) fn acknowledged(&mut self, packet_id: u16) -> Vec<Publish> {
        self.in_flight.retain(|(id, _)| *id != packet_id);
        self.fill()
    }

    /// It came at QoS 2. Again, it is the same message; another one under the packet id of one that is held replaces that, as in mosquitto.
    pub(super) fn hold(&mut self, publish: Publish) {
        self.held.insert(publish.pkid, publish);
    }

    /// What is to be passed on now, where it was not yet.
    pub(super) fn release(&mut self, packet_id: u16) -> Option<Publish> {
        self.held.remove(&packet_id)
    }

    /// What to send to a client that came back: what it did not acknowledge, again, then what was queued.
    pub(super) fn resume(&mut self) -> Vec<Publish> {
        let mut again: Vec<Publish> = self.in_flight.iter().map(|(id, message)| message.clone().publish(*id, true)).collect();
        again.extend(self.fill());
        again
    }

    fn fill(&mut self) -> Vec<Publish> {
        let mut publishes = Vec::new();
        while let Some(message) = self.queued.pop_front() {
            if message.qos == QoS::AtMostOnce {
                publishes.push(message.publish(0, false));
            } else if self.in_flight.len() < MAX_IN_FLIGHT {
                publishes.push(self.put_in_flight(message));
            } else {
                self.queued.push_front(message);
                break;
            }
        }
        publishes
    }

    fn put_in_flight(&mut self, message: Message) -> Publish {
        // At most 20 are taken, and 0 is none.
        loop {
            self.last_packet_id = self.last_packet_id.wrapping_add(1);
            if self.last_packet_id != 0 && self.in_flight.iter().all(|(id, _)| *id != self.last_packet_id) {
                break;
            }
        }
        self.in_flight.push_back((self.last_packet_id, message.clone()));
        message.publish(self.last_packet_id, false)
    }
}
