//! Packets, as the tests write them.

#![allow(dead_code, reason = "each test program uses its part")]

use rumqttc::mqttbytes::QoS;
use rumqttc::mqttbytes::v4::{
    ConnAck, Connect, ConnectReturnCode, LastWill, Packet, Publish, SubAck, Subscribe, SubscribeFilter, SubscribeReasonCode, Unsubscribe,
};

/// As mosquitto's `max_inflight_messages`.
pub(crate) const IN_FLIGHT: u16 = 20;

pub(crate) const Q0: QoS = QoS::AtMostOnce;
pub(crate) const Q1: QoS = QoS::AtLeastOnce;
pub(crate) const Q2: QoS = QoS::ExactlyOnce;

pub(crate) fn clean(id: &str) -> Connect {
    Connect { keep_alive: 0, ..Connect::new(id) }
}

pub(crate) fn lasting_connect(id: &str) -> Connect {
    Connect { clean_session: false, ..clean(id) }
}

pub(crate) fn with_will(qos: QoS, retain: bool) -> Connect {
    Connect { last_will: Some(LastWill::new("will", "gone", qos, retain)), ..clean("dying") }
}

pub(crate) fn connect(id: &str) -> Packet {
    Packet::Connect(clean(id))
}

pub(crate) fn lasting(id: &str) -> Packet {
    Packet::Connect(lasting_connect(id))
}

pub(crate) fn connected(session_present: bool) -> Packet {
    Packet::ConnAck(ConnAck { session_present, code: ConnectReturnCode::Success })
}

pub(crate) fn refused(code: ConnectReturnCode) -> Packet {
    Packet::ConnAck(ConnAck { session_present: false, code })
}

pub(crate) fn publish_packet(topic: &str, qos: QoS, payload: &str) -> Publish {
    Publish { pkid: u16::from(qos != Q0), ..Publish::new(topic, qos, payload) }
}

/// Its packet id, where it has one, is 1.
pub(crate) fn publish(topic: &str, qos: QoS, payload: &str) -> Packet {
    Packet::Publish(publish_packet(topic, qos, payload))
}

/// At QoS 1.
pub(crate) fn numbered(id: u16, topic: &str, payload: &str) -> Packet {
    Packet::Publish(Publish { pkid: id, ..publish_packet(topic, Q1, payload) })
}

/// At QoS 1.
pub(crate) fn again(id: u16, topic: &str, payload: &str) -> Packet {
    Packet::Publish(Publish { pkid: id, dup: true, ..publish_packet(topic, Q1, payload) })
}

/// At QoS 0.
pub(crate) fn retained(topic: &str, payload: &str) -> Packet {
    Packet::Publish(Publish { retain: true, ..publish_packet(topic, Q0, payload) })
}

pub(crate) fn subscribe(filters: &[(&str, QoS)]) -> Packet {
    let filters = filters.iter().map(|(filter, qos)| SubscribeFilter::new((*filter).to_owned(), *qos));
    Packet::Subscribe(Subscribe { pkid: 1, filters: filters.collect() })
}

pub(crate) fn subscribed(filters: &[(&str, QoS)]) -> Packet {
    Packet::SubAck(SubAck::new(1, filters.iter().map(|(_, qos)| SubscribeReasonCode::Success(*qos)).collect()))
}

pub(crate) fn unsubscribe(filter: &str) -> Packet {
    Packet::Unsubscribe(Unsubscribe { pkid: 1, topics: vec![filter.to_owned()] })
}

/// As the library would not write it.
pub(crate) fn connect_bytes(first: u8, protocol: &str, level: u8, flags: u8, client_id: &str, rest: &[u8]) -> Vec<u8> {
    packet_bytes(first, &[&string(protocol)[..], &[level, flags, 0, 0], &string(client_id), rest].concat())
}

/// A packet of less than 128 bytes.
pub(crate) fn packet_bytes(first: u8, body: &[u8]) -> Vec<u8> {
    [&[first, u8::try_from(body.len()).unwrap()][..], body].concat()
}

pub(crate) fn string(text: &str) -> Vec<u8> {
    [&u16::try_from(text.len()).unwrap().to_be_bytes()[..], text.as_bytes()].concat()
}
