//! A client that sends what it is told to, and does nothing of itself.

#![allow(dead_code, reason = "each test program uses its part")]

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use bytes::BytesMut;
use rumqttc::mqttbytes::v4::{Connect, Packet, PubAck, PubComp, PubRec, PubRel, Publish};
use rumqttc::mqttbytes::{Error, QoS};

use crate::packets::{Q0, Q1, Q2, clean, connected, lasting_connect, numbered, publish, publish_packet, subscribe, subscribed};

/// What does not come within this never comes.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);
pub(crate) const MAX_PACKET_BYTES: usize = 100 * 1024 * 1024;

pub(crate) struct Client {
    stream: TcpStream,
    received: BytesMut,
}

impl Client {
    pub(crate) fn open(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        Self { stream, received: BytesMut::new() }
    }

    pub(crate) fn connect(address: SocketAddr, connect: Connect, session_present: bool) -> Self {
        let mut client = Self::open(address);
        client.send(Packet::Connect(connect));
        client.expect(connected(session_present));
        client
    }

    pub(crate) fn clean(address: SocketAddr, id: &str) -> Self {
        Self::connect(address, clean(id), false)
    }

    pub(crate) fn lasting(address: SocketAddr, id: &str, session_present: bool) -> Self {
        Self::connect(address, lasting_connect(id), session_present)
    }

    pub(crate) fn send(&mut self, packet: Packet) {
        let mut bytes = BytesMut::new();
        packet.write(&mut bytes, MAX_PACKET_BYTES).unwrap();
        self.send_bytes(&bytes);
    }

    pub(crate) fn send_bytes(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).unwrap();
    }

    /// `None`: the connection is closed.
    pub(crate) fn receive(&mut self) -> Option<Packet> {
        let mut buffer = vec![0; 64 * 1024];
        loop {
            match Packet::read(&mut self.received, MAX_PACKET_BYTES) {
                Ok(packet) => return Some(packet),
                Err(Error::InsufficientBytes(_)) => {}
                Err(error) => panic!("{error}"),
            }
            match self.stream.read(&mut buffer) {
                Ok(0) => return None,
                Ok(length) => self.received.extend_from_slice(&buffer[..length]),
                Err(error) if error.kind() == ErrorKind::ConnectionReset => return None,
                // A process that was stopped and goes on: signal(7) says so of sockets with a time limit.
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => panic!("{error}"),
            }
        }
    }

    /// Exactly this comes next.
    #[track_caller]
    pub(crate) fn expect(&mut self, packet: Packet) {
        let received = self.receive();
        // Payloads are not printed.
        if let (Some(Packet::Publish(received)), Packet::Publish(expected)) = (&received, &packet)
            && received.payload.len() < 100
        {
            assert_eq!(received.payload, expected.payload);
        }
        assert!(received.as_ref() == Some(&packet), "{received:?} came and not {packet:?}");
    }

    #[track_caller]
    pub(crate) fn closed(&mut self) {
        assert_eq!(self.receive(), None);
    }

    /// All that was sent is handled, and nothing came.
    #[track_caller]
    pub(crate) fn quiet(&mut self) {
        self.send(Packet::PingReq);
        self.expect(Packet::PingResp);
    }

    /// While somebody else is answered a hundred times.
    #[track_caller]
    pub(crate) fn says_nothing_while(&mut self, other: &mut Self) {
        for _ in 0..100 {
            other.quiet();
        }
        self.stream.set_nonblocking(true).unwrap();
        assert_eq!(self.stream.read(&mut [0]).unwrap_err().kind(), ErrorKind::WouldBlock);
        self.stream.set_nonblocking(false).unwrap();
    }

    #[track_caller]
    pub(crate) fn subscribe(&mut self, filter: &str, qos: QoS) {
        self.send(subscribe(&[(filter, qos)]));
        self.expect(subscribed(&[(filter, qos)]));
    }

    #[track_caller]
    pub(crate) fn subscribe_and_leave(&mut self, filter: &str) {
        self.subscribe(filter, Q1);
        self.send(Packet::Disconnect);
        self.closed();
    }

    /// At QoS 1.
    #[track_caller]
    pub(crate) fn publish(&mut self, topic: &str, payload: &str) {
        self.publish_at(topic, Q1, payload);
    }

    /// Returns when the broker has it.
    #[track_caller]
    pub(crate) fn publish_at(&mut self, topic: &str, qos: QoS, payload: &str) {
        self.send(publish(topic, qos, payload));
        self.is_taken(qos);
    }

    #[track_caller]
    pub(crate) fn publish_retained(&mut self, topic: &str, qos: QoS, payload: &str) {
        self.send(Packet::Publish(Publish { retain: true, ..publish_packet(topic, qos, payload) }));
        self.is_taken(qos);
    }

    #[track_caller]
    fn is_taken(&mut self, qos: QoS) {
        match qos {
            Q0 => self.quiet(),
            Q1 => self.expect(Packet::PubAck(PubAck::new(1))),
            Q2 => {
                self.expect(Packet::PubRec(PubRec::new(1)));
                self.release(1);
            }
        }
    }

    /// What was sent at QoS 2; returns when it is passed on.
    #[track_caller]
    pub(crate) fn release(&mut self, id: u16) {
        self.send(Packet::PubRel(PubRel::new(id)));
        self.expect(Packet::PubComp(PubComp::new(id)));
    }

    /// At QoS 2: the broker holds it.
    #[track_caller]
    pub(crate) fn is_held(&mut self, id: u16, topic: &str, payload: &str, dup: bool) {
        self.send(Packet::Publish(Publish { pkid: id, dup, ..publish_packet(topic, Q2, payload) }));
        self.expect(Packet::PubRec(PubRec::new(id)));
    }

    /// The first message that it gets, at this QoS.
    #[track_caller]
    pub(crate) fn publish_to_itself(&mut self, topic: &str, qos: QoS) {
        self.send(publish(topic, Q1, "x"));
        self.expect(publish(topic, qos, "x"));
        self.expect(Packet::PubAck(PubAck::new(1)));
    }

    /// At QoS 1.
    #[track_caller]
    pub(crate) fn receive_and_acknowledge(&mut self, id: u16, topic: &str, payload: &str) {
        self.expect(numbered(id, topic, payload));
        self.acknowledge(id);
    }

    pub(crate) fn acknowledge(&mut self, id: u16) {
        self.send(Packet::PubAck(PubAck::new(id)));
    }
}
