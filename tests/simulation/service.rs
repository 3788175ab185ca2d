//! One process of the service: its core and its outbox, and around them, in the place of its threads, what translates between those and
//! the world. It decides nothing; what the thread `pods` decides is the product's own.

use std::time::{Duration, Instant};

use devkit::broker::{ConnectionId, Input, Output};
use mso::clock::UnixTime;
use mso::config::PodSettings;
use mso::config::Rules;
use mso::ids::{SimulationId, SimulatorName};
use mso::kube::error::Error;
use mso::kube::pod::Pod;
use mso::kube::record::{ConfigMap, Found};
use mso::kube::request::Request;
use mso::kube::{Page, PodList, Watch, answer};
use mso::mqtt;
use mso::mqtt::outbox::{Again, Begun, Outbox, Packet as Outgoing};
use mso::orchestrator::Orchestrator;
use mso::orchestrator::event::{BrokerEvent, CallOutcome, Command, CrashLog, Event, PodCall, PodsEvent, RecordCall, RecordOutcome};
use mso::pods::{Ask, Follower, Turn, WATCH_SECONDS};
use rumqttc::mqttbytes::v4::{Connect, Packet, PubAck, PubRel, Publish};
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::world::{Item, NAMESPACE, START, World};

const WORKERS: usize = 2;
const ADDRESS: &str = "https://api";
const RETRY: Duration = Duration::from_secs(1);

pub struct Process {
    pub core: Orchestrator,
    outbox: Outbox,
    pub connection: Option<ConnectionId>,
    /// The core thinks that we are connected.
    is_announced: bool,
    packet_id: u16,
    pub to_broker_due: Duration,
    pub from_broker_due: Duration,
    follower: Follower,
    /// The records of the pages so far.
    found: Found,
    /// The number of the watch that goes on, and of none before it.
    watch: Option<u64>,
}

/// A request to the API server, and what its answer is for.
pub enum Call {
    Pod { call: PodCall, attempt: u32 },
    Record { simulation: SimulationId, call: RecordCall },
    Log(CrashLog),
    Records,
    Pods { is_first: bool },
    Watch { number: u64 },
}

fn simulator() -> SimulatorName {
    SimulatorName::new("so").expect("it is one")
}

impl Process {
    pub fn new(seed: u64) -> Self {
        Self {
            core: Orchestrator::new(simulator(), Rules::default(), WORKERS, seed),
            outbox: Outbox::default(),
            connection: None,
            is_announced: false,
            packet_id: 0,
            to_broker_due: Duration::ZERO,
            from_broker_due: Duration::ZERO,
            follower: Follower::new(Rules::default().limits.denied),
            found: Found::default(),
            watch: None,
        }
    }
}

impl World {
    pub fn service_wakes(&mut self) {
        self.tell(Event::Timeout);
    }

    /// An event, and what the core makes of it.
    fn tell(&mut self, event: Event) {
        let now = self.now();
        let Some(process) = &mut self.process else { return };
        process.core.handle(event, now);
        while let Some(command) = self.process.as_mut().and_then(|process| process.core.poll_command()) {
            self.carry_out(command);
        }
    }

    fn carry_out(&mut self, command: Command) {
        match command {
            Command::Say(level, text) => self.say(&format!("    {level} {text}")),
            Command::Halt(why) => {
                self.say(&format!("    the service ends itself: {why}"));
                self.report.halted = Some(why);
            }
            Command::Publish(message) => {
                let Some(process) = &mut self.process else { return };
                process.outbox.add(message.id, mqtt::packet(&message, &simulator()));
                self.hand_over();
            }
            Command::Acknowledge(delivery) => {
                let Some(process) = &self.process else { return };
                if process.outbox.is_online() && process.outbox.connection() == delivery.connection {
                    self.send_packet(format!("acknowledge packet {}", delivery.packet_id), Packet::PubAck(PubAck::new(delivery.packet_id)));
                }
            }
            Command::Call { call, attempt } => {
                let request = Request::of(&call, NAMESPACE, &PodSettings::new(simulator()));
                self.send_call(in_words(&call), Call::Pod { call, attempt }, request);
            }
            Command::Record { simulation, call } => {
                let request = Request::of_record(&call, NAMESPACE, &simulator());
                let words = record_in_words(&call);
                self.send_call(words, Call::Record { simulation, call }, request);
            }
            // Nothing waits for them.
            Command::ReadEvents(_) => {}
            Command::ReadLog(log) => {
                let request = Request::log(NAMESPACE, &log.pod, &log.container);
                self.send_call(format!("read the log of {}", log.pod), Call::Log(log), request);
            }
        }
    }

    fn send_call(&mut self, words: String, call: Call, request: Request) {
        if let Some(effect) = self.effect(words) {
            self.send_to_api(effect, call, request);
        }
    }

    pub fn service_is_answered(&mut self, call: Call, result: Result<Vec<u8>, Error>) {
        match call {
            Call::Pod { call, attempt } => {
                let result = result.and_then(|body| answer::of_call(&call, &body, ADDRESS));
                self.tell(Event::Call(CallOutcome { call, attempt, result }));
            }
            Call::Record { simulation, call } => {
                let result = result.and_then(|body| answer::of_record_call(&call, &body, &simulator(), ADDRESS));
                self.tell(Event::Record(RecordOutcome { simulation, call, result }));
            }
            Call::Log(log) => {
                let result = result.map(|body| String::from_utf8_lossy(&body).into_owned());
                self.tell(Event::LogRead { log, result });
            }
            Call::Records => self.records_are_read(result),
            Call::Pods { .. } => self.pods_are_listed(result),
            Call::Watch { number } => self.watch_is_answered(number, result),
        }
    }

    // The thread `pods`, and the client's pages.

    pub fn service_follows_pods(&mut self) {
        let now = self.now().instant;
        let Some(process) = &mut self.process else { return };
        match process.follower.asks(now) {
            Ask::Records => {
                process.found = Found::default();
                self.read_records_from("");
            }
            Ask::List { is_first } => {
                let request = Request::list(NAMESPACE, &simulator(), Some(500), "");
                self.send_call("list pods".to_owned(), Call::Pods { is_first }, request);
            }
            Ask::Watch { from } => {
                self.watches += 1;
                let number = self.watches;
                process.watch = Some(number);
                let seconds = self.random.u32(WATCH_SECONDS);
                let request = Request::watch(NAMESPACE, &simulator(), &from, seconds);
                self.send_call(format!("watch pods from {from}"), Call::Watch { number }, request);
            }
        }
    }

    fn read_records_from(&mut self, next: &str) {
        let request = Request::list_records(NAMESPACE, &simulator(), 2, next);
        self.send_call("read records".to_owned(), Call::Records, request);
    }

    fn records_are_read(&mut self, result: Result<Vec<u8>, Error>) {
        let Some(process) = &mut self.process else { return };
        let result = match result {
            Ok(body) => {
                let page: Page<ConfigMap> = a_list(&body);
                page.items.into_iter().for_each(|item| process.found.add(item.into_record(&simulator()).expect("a record")));
                if !page.metadata.r#continue.is_empty() {
                    return self.read_records_from(&page.metadata.r#continue);
                }
                Ok(std::mem::take(&mut process.found))
            }
            Err(error) => match error.rest_of_list() {
                Some(rest) => return self.read_records_from(rest),
                None => Err(error),
            },
        };
        self.takes_turn(|follower, now, jitter| follower.records_are_read(result, now, jitter));
    }

    fn pods_are_listed(&mut self, result: Result<Vec<u8>, Error>) {
        if result.is_ok() {
            self.report.sees_again(self.since);
        }
        let server_time = Some(self.server_time());
        let list = result.map(|body| {
            let page: Page<Pod> = a_list(&body);
            PodList { pods: page.items, resource_version: page.metadata.resource_version, server_time }
        });
        self.takes_turn(|follower, _, jitter| follower.pods_are_listed(list, jitter));
    }

    fn watch_is_answered(&mut self, number: u64, result: Result<Vec<u8>, Error>) {
        match result {
            Err(error) => self.watch_has_ended(Some(error)),
            // The watch may have said all that it had to say, and ended, before this.
            Ok(_) if self.is_watching(number) => {
                self.report.sees_again(self.since);
                self.tell(Event::Pods(PodsEvent::ServerTime(self.server_time())));
            }
            Ok(_) => {}
        }
    }

    fn is_watching(&self, number: u64) -> bool {
        self.process.as_ref().is_some_and(|process| process.watch == Some(number))
    }

    pub fn service_watches(&mut self, number: u64, event: Option<Value>) {
        if !self.is_watching(number) {
            return;
        }
        let Some(event) = event else { return self.watch_has_ended(None) };
        let line = format!("{event}\n");
        match Watch::new(std::io::Cursor::new(line), ADDRESS, None).next().expect("a line is an event") {
            Err(error) => self.watch_has_ended(Some(error)),
            Ok(event) => {
                let Some(process) = &mut self.process else { return };
                let event = process.follower.watch_says(event);
                self.tell(Event::Pods(event));
            }
        }
    }

    fn watch_has_ended(&mut self, error: Option<Error>) {
        let Some(process) = &mut self.process else { return };
        // What it would still say is of no use.
        process.watch = None;
        self.report.goes_blind(self.since);
        self.takes_turn(|follower, now, jitter| follower.watch_has_ended(error, now, jitter));
    }

    fn takes_turn(&mut self, turn: impl FnOnce(&mut Follower, Instant, f64) -> Turn) {
        let (now, jitter) = (self.now().instant, self.random.f64());
        let Some(process) = &mut self.process else { return };
        let Turn { events, pause } = turn(&mut process.follower, now, jitter);
        events.into_iter().for_each(|event| self.tell(Event::Pods(event)));
        if pause.is_zero() {
            self.service_follows_pods();
        } else {
            self.after(pause, Item::FollowsPods { incarnation: self.incarnation });
        }
    }

    /// The Date header has whole seconds.
    fn server_time(&self) -> UnixTime {
        UnixTime(START + self.since.as_secs() as f64)
    }

    // The thread `mqtt`, and rumqttc.

    pub fn service_connects(&mut self) {
        let connection = self.new_connection();
        let Some(process) = &mut self.process else { return };
        process.connection = Some(connection);
        process.to_broker_due = self.since;
        process.from_broker_due = self.since;
        let mut connect = Connect::new("mso-so");
        connect.clean_session = false;
        connect.keep_alive = 0;
        self.send_to_broker(connection, Input::Opened, None);
        self.send_packet("connect".to_owned(), Packet::Connect(connect));
    }

    fn send_packet(&mut self, words: String, packet: Packet) {
        let Some(effect) = self.effect(words) else { return };
        let Some(connection) = self.process.as_ref().and_then(|process| process.connection) else { return };
        self.send_to_broker(connection, Input::Packet(packet), Some(effect));
    }

    pub fn service_hears(&mut self, connection: ConnectionId, output: Output) {
        if self.process.as_ref().is_none_or(|process| process.connection != Some(connection)) {
            return;
        }
        match output {
            Output::Close => self.connection_is_lost(),
            Output::Packet(packet) => self.receives(packet),
        }
    }

    fn connection_is_lost(&mut self) {
        let Some(process) = &mut self.process else { return };
        process.connection = None;
        process.outbox.offline();
        if std::mem::take(&mut process.is_announced) {
            self.tell(Event::Broker(BrokerEvent::Disconnected));
        }
        self.after(RETRY, Item::Connects { incarnation: self.incarnation });
    }

    fn receives(&mut self, packet: Packet) {
        let Some(process) = &mut self.process else { return };
        match packet {
            Packet::ConnAck(ack) => self.session_begins(ack.session_present),
            Packet::SubAck(_) => {
                process.is_announced = true;
                self.report.connected.push(self.since);
                self.tell(Event::Broker(BrokerEvent::Connected));
            }
            Packet::Publish(publish) => {
                self.note_redelivery(&publish);
                let Some(process) = &self.process else { return };
                let delivery = mqtt::delivery(&publish, process.outbox.connection());
                let event = mqtt::translate(&publish, delivery, &simulator());
                self.tell(Event::Broker(event.unwrap_or_else(|problem| panic!("{problem}"))));
            }
            Packet::PubAck(ack) => {
                let id = process.outbox.acknowledged(ack.pkid);
                self.is_published(id);
            }
            Packet::PubRec(ack) => {
                process.outbox.held(ack.pkid);
                self.send_packet(format!("release packet {}", ack.pkid), Packet::PubRel(PubRel::new(ack.pkid)));
            }
            Packet::PubComp(ack) => {
                let id = process.outbox.completed(ack.pkid);
                self.is_published(id);
            }
            other => panic!("the broker sends {other:?}"),
        }
    }

    fn session_begins(&mut self, session_present: bool) {
        let Some(process) = &mut self.process else { return };
        let Begun { unsent, doubtful, again } = process.outbox.begin(session_present);
        let mut subscribe = mqtt::subscription(&simulator());
        subscribe.pkid = u16::MAX;
        self.send_packet("subscribe".to_owned(), Packet::Subscribe(subscribe));
        for again in again {
            match again {
                Again::Release(id) => self.send_packet(format!("release packet {id} again"), Packet::PubRel(PubRel::new(id))),
                Again::Publish(id, packet) => self.send_publish(id, packet, true),
            }
        }
        self.hand_over();
        unsent.into_iter().for_each(|id| self.tell(Event::Broker(BrokerEvent::Unsent(id))));
        doubtful.into_iter().for_each(|id| self.tell(Event::Broker(BrokerEvent::Doubtful(id))));
    }

    fn is_published(&mut self, id: Option<u64>) {
        if let Some(id) = id {
            self.hand_over();
            self.tell(Event::Broker(BrokerEvent::Published(id)));
        }
    }

    fn hand_over(&mut self) {
        while let Some(process) = &mut self.process
            && let Some(packet) = process.outbox.take_next()
        {
            // A run publishes far less than there are packet ids.
            process.packet_id += 1;
            let id = process.packet_id;
            process.outbox.sent(id);
            self.send_publish(id, packet, false);
        }
    }

    fn send_publish(&mut self, id: u16, packet: Outgoing, dup: bool) {
        let again = if dup { " again" } else { "" };
        let words = format!("publish {}{again}", packet.topic.rsplit('/').next().unwrap_or_default());
        let publish = Publish::new(packet.topic, packet.qos, packet.payload);
        self.send_packet(words, Packet::Publish(Publish { pkid: id, dup, ..publish }));
    }
}

fn a_list<T: DeserializeOwned>(body: &[u8]) -> Page<T> {
    serde_json::from_slice(body).expect("a list")
}

fn in_words(call: &PodCall) -> String {
    let pod = call.pod();
    match call {
        PodCall::Create(_) => format!("create pod {pod}"),
        PodCall::Get(_) => format!("get pod {pod}"),
        PodCall::Label { .. } => format!("label {pod}"),
        PodCall::SetDeleteBy { .. } => format!("set delete_by of {pod}"),
        PodCall::Mark { .. } => format!("mark pod {pod}"),
        PodCall::Stop { .. } => format!("stop pod {pod}"),
        PodCall::Delete { .. } => format!("delete pod {pod}"),
    }
}

fn record_in_words(call: &RecordCall) -> String {
    let name = call.name();
    match call {
        RecordCall::Create(_) if name.piece().is_some() => format!("create piece {name}"),
        RecordCall::Create(_) => format!("create progress {name}"),
        RecordCall::Get(_) => format!("get record {name}"),
        RecordCall::Update { text, .. } => format!("update progress {name}: {text}"),
        RecordCall::Delete { .. } => format!("delete record {name}"),
    }
}
