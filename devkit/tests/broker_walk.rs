//! The broker's state machine in simulated time: a publisher and a subscriber, whose connections break at random, on a broker that is
//! killed and misbehaves at random. Checked after every step: what the broker must keep to whatever happens.
//!
//! A walk that fails names its seed: `SEED=n cargo test -p devkit --test broker_walk` walks it again.

#![expect(clippy::unwrap_used, reason = "in a test a panic is the report")]

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use devkit::broker::{Broker, Clients, ConnectionId, Fault, Input, Output};
use mso::clock;
use rumqttc::mqttbytes::QoS;
use rumqttc::mqttbytes::v4::{Connect, Packet, PubAck, Publish, Subscribe};

const WALKS: u64 = 300;
const STEPS: usize = 400;
/// As mosquitto's `max_inflight_messages`.
const MAX_IN_FLIGHT: usize = 20;
const MAX_DELAY_MS: u64 = 50;

#[test]
fn at_qos_1_nothing_is_lost_whatever_breaks() {
    let seeds = match std::env::var("SEED") {
        Ok(seed) => seed.parse().unwrap()..=seed.parse().unwrap(),
        Err(_) => 1..=WALKS,
    };
    for seed in seeds {
        println!("SEED={seed}");
        Walk::new(seed).go();
    }
}

#[test]
fn the_same_inputs_give_the_same_outputs() {
    for seed in 1..=10 {
        assert_eq!(Walk::new(seed).go(), Walk::new(seed).go(), "SEED={seed}");
    }
}

struct Walk {
    random: fastrand::Rng,
    broker: Broker,
    start: Instant,
    now: Instant,
    connections: u64,
    publisher: ConnectionId,
    subscriber: ConnectionId,
    /// The last number that was published.
    published: u16,
    /// Published, and not acknowledged.
    unacknowledged: BTreeSet<u16>,
    /// On the subscriber's connection: packet id and number.
    in_flight: BTreeMap<u16, u16>,
    received: BTreeSet<u16>,
    /// All that came out, and when.
    transcript: Vec<(Duration, ConnectionId, Output)>,
}

impl Walk {
    fn new(seed: u64) -> Self {
        let now = clock::now().instant;
        Self {
            random: fastrand::Rng::with_seed(seed),
            broker: Broker::default(),
            start: now,
            now,
            connections: 0,
            publisher: ConnectionId(0),
            subscriber: ConnectionId(0),
            published: 0,
            unacknowledged: BTreeSet::new(),
            in_flight: BTreeMap::new(),
            received: BTreeSet::new(),
            transcript: Vec::new(),
        }
    }

    fn go(mut self) -> Vec<(Duration, ConnectionId, Output)> {
        self.connect_subscriber();
        let subscribe = Subscribe { pkid: 1, ..Subscribe::new("numbers/#", QoS::AtLeastOnce) };
        self.handle(self.subscriber, Packet::Subscribe(subscribe));
        self.connect_publisher();
        for _ in 0..STEPS {
            self.step();
            let pause_ms = self.random.u64(0..MAX_DELAY_MS);
            self.pass(pause_ms);
        }
        self.broker.behave();
        self.pass(MAX_DELAY_MS);
        self.reconnect_publisher();
        self.reconnect_subscriber();
        self.pass(MAX_DELAY_MS);
        while let Some((id, _)) = self.in_flight.pop_first() {
            self.handle(self.subscriber, Packet::PubAck(PubAck::new(id)));
            self.pass(0);
        }
        assert!(self.unacknowledged.is_empty(), "never acknowledged: {:?}", self.unacknowledged);
        assert_eq!(self.received.len(), usize::from(self.published), "of {} only these arrived: {:?}", self.published, self.received);
        self.transcript
    }

    fn step(&mut self) {
        match self.random.u32(0..100) {
            0..45 => self.publish(self.published + 1),
            45..88 => self.acknowledge(),
            88..91 => self.reconnect_publisher(),
            91..94 => self.reconnect_subscriber(),
            94 => {
                self.broker.kill();
                self.connect_publisher();
                self.connect_subscriber();
            }
            95 => self.broker.misbehave(Clients::named("publisher"), Fault::LoseAcknowledgement),
            96 => self.broker.misbehave(Clients::All, Fault::Delay(Duration::from_millis(self.random.u64(1..MAX_DELAY_MS)))),
            97 => self.broker.misbehave(Clients::named("subscriber"), Fault::DeliverTwice),
            98 => self.broker.misbehave(Clients::named("publisher"), Fault::CloseAtPacket(self.random.u32(20..40))),
            _ => self.broker.behave(),
        }
    }

    fn publish(&mut self, number: u16) {
        self.published = self.published.max(number);
        self.unacknowledged.insert(number);
        let publish = Publish { pkid: number, ..Publish::new(format!("numbers/{number}"), QoS::AtLeastOnce, number.to_string()) };
        self.handle(self.publisher, Packet::Publish(publish));
    }

    /// Any of those that it holds.
    fn acknowledge(&mut self) {
        if let Some(id) = self.random.choice(self.in_flight.keys().copied().collect::<Vec<_>>()) {
            self.in_flight.remove(&id);
            self.handle(self.subscriber, Packet::PubAck(PubAck::new(id)));
        }
    }

    /// It says nothing, or the broker hears of it too late.
    fn reconnect_publisher(&mut self) {
        if self.random.bool() {
            self.broker.handle(self.publisher, Input::Closed, self.now);
        }
        self.connect_publisher();
    }

    fn reconnect_subscriber(&mut self) {
        if self.random.bool() {
            self.broker.handle(self.subscriber, Input::Closed, self.now);
        }
        self.connect_subscriber();
    }

    fn connect_publisher(&mut self) {
        self.publisher = self.open("publisher", true);
        for number in self.unacknowledged.clone() {
            self.publish(number);
        }
    }

    fn connect_subscriber(&mut self) {
        self.in_flight.clear();
        self.subscriber = self.open("subscriber", false);
    }

    fn open(&mut self, client_id: &str, clean_session: bool) -> ConnectionId {
        self.connections += 1;
        let id = ConnectionId(self.connections);
        self.broker.handle(id, Input::Opened, self.now);
        self.handle(id, Packet::Connect(Connect { clean_session, keep_alive: 0, ..Connect::new(client_id) }));
        id
    }

    fn handle(&mut self, id: ConnectionId, packet: Packet) {
        self.broker.handle(id, Input::Packet(packet), self.now);
    }

    /// Time passes, and what is due comes out.
    fn pass(&mut self, milliseconds: u64) {
        let until = self.now + Duration::from_millis(milliseconds);
        while let Some(at) = self.broker.poll_timeout().filter(|at| *at <= until) {
            self.now = self.now.max(at);
            self.broker.handle_timeout(self.now);
            while let Some((id, output)) = self.broker.poll_output(self.now) {
                self.transcript.push((self.now - self.start, id, output.clone()));
                self.take(id, output);
            }
            while self.broker.poll_log().is_some() {}
        }
        self.now = until;
    }

    /// What comes for a connection that is no more is lost.
    fn take(&mut self, id: ConnectionId, output: Output) {
        match output {
            Output::Packet(Packet::PubAck(ack)) if id == self.publisher => drop(self.unacknowledged.remove(&ack.pkid)),
            Output::Packet(Packet::Publish(publish)) if id == self.subscriber => self.receive(&publish),
            Output::Close if id == self.publisher => self.connect_publisher(),
            Output::Close if id == self.subscriber => self.connect_subscriber(),
            _ => {}
        }
    }

    fn receive(&mut self, publish: &Publish) {
        let number: u16 = std::str::from_utf8(&publish.payload).unwrap().parse().unwrap();
        assert_eq!(publish.topic, format!("numbers/{number}"));
        let before = self.in_flight.insert(publish.pkid, number);
        assert_eq!(before, None, "packet id {} stands for two messages", publish.pkid);
        assert!(self.in_flight.len() <= MAX_IN_FLIGHT, "{} are in flight", self.in_flight.len());
        let is_first = self.received.insert(number);
        let last = self.received.last().copied();
        assert!(!is_first || last == Some(number), "{number} came for the first time after {last:?}");
    }
}
