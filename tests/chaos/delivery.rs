//! What became of each message for the service, in the words of the broker's log.
//!
//! A mosquitto that is killed forgets what it has sent to a client and the client has not acknowledged yet, though it has acknowledged it to
//! the publisher and saves each change: what is in flight to a client that is connected is no change to it (2.0.11, `db__message_insert`).

use std::collections::BTreeMap;

/// One process of the broker after the other, counted from one.
type Life = usize;

#[derive(Default)]
pub(crate) struct Deliveries {
    messages: BTreeMap<String, Message>,
    has_subscribed: bool,
    /// The last in which the service was connected.
    connected_in: Life,
}

#[derive(Default)]
struct Message {
    /// The last in which the broker had it.
    had_in: Life,
    /// The service has acknowledged it.
    is_taken: bool,
}

impl Deliveries {
    /// Of those that were published, and passed on to this client, at QoS 1. The broker logs all types.
    pub(crate) fn read(log: &str, client: &str) -> Self {
        let mut deliveries = Self::default();
        let mut life = 0;
        let mut in_flight: BTreeMap<&str, &str> = BTreeMap::new();
        let (connected, subscribed) = (format!("Sending CONNACK to {client} "), format!("Sending SUBACK to {client}"));
        let (sent, acknowledged) = (format!("Sending PUBLISH to {client} "), format!("Received PUBACK from {client} "));
        for line in log.lines() {
            if line.ends_with(" starting") {
                life += 1;
                in_flight.clear();
            } else if line.contains(&connected) {
                deliveries.connected_in = life;
            } else if line.ends_with(&subscribed) {
                deliveries.has_subscribed = true;
            } else if line.contains("Received PUBLISH from ") || line.contains(&sent) {
                let Some(topic) = between(line, "'", "'") else { continue };
                deliveries.messages.entry(topic.to_owned()).or_default().had_in = life;
                if let Some(id) = between(line, ", m", ",").filter(|_| line.contains(&sent)) {
                    in_flight.insert(id, topic);
                }
            } else if line.contains(&acknowledged) {
                let topic = between(line, "Mid: ", ",").and_then(|id| in_flight.remove(id));
                if let Some(message) = topic.and_then(|topic| deliveries.messages.get_mut(topic)) {
                    message.is_taken = true;
                }
            }
        }
        deliveries
    }

    pub(crate) fn has_subscribed(&self) -> bool {
        self.has_subscribed
    }

    pub(crate) fn has_come(&self, topic: &str) -> bool {
        self.messages.contains_key(topic)
    }

    /// It has come, and the service has been connected to a later process of the broker and was not sent it.
    pub(crate) fn is_forgotten(&self, topic: &str) -> bool {
        self.messages.get(topic).is_some_and(|message| !message.is_taken && message.had_in < self.connected_in)
    }
}

pub(crate) fn between<'a>(line: &'a str, before: &str, after: &str) -> Option<&'a str> {
    let (_, rest) = line.split_once(before)?;
    rest.split_once(after).map(|(between, _)| between)
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: &str = "1: mosquitto version 2.0.11 starting\n1: Sending CONNACK to mso-so (0, 0)\n";
    const CAME: &str = "1: Received PUBLISH from model (d0, q1, r0, m1, 'ready', ... (0 bytes))\n";
    const SENT: &str = "1: Sending PUBLISH to mso-so (d0, q1, r0, m7, 'ready', ... (0 bytes))\n";
    const TAKEN: &str = "1: Received PUBACK from mso-so (Mid: 7, RC:0)\n";

    fn is_forgotten(log: &[&str]) -> bool {
        Deliveries::read(&log.concat(), "mso-so").is_forgotten("ready")
    }

    #[test]
    fn what_the_service_acknowledged_or_is_sent_again_is_not_forgotten() {
        assert!(!is_forgotten(&[START, CAME, SENT, TAKEN, START]));
        assert!(!is_forgotten(&[START, CAME, SENT]));
        assert!(!is_forgotten(&[START, CAME, SENT, START, SENT]));
        assert!(!is_forgotten(&[START, CAME, SENT, "1: mosquitto version 2.0.11 starting\n"]));
    }

    #[test]
    fn what_a_later_broker_does_not_send_again_is_forgotten() {
        assert!(is_forgotten(&[START, CAME, SENT, START]));
        assert!(is_forgotten(&[START, CAME, SENT, START, TAKEN]));
    }
}
