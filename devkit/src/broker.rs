//! A small MQTT 3.1.1 broker for tests and demonstrations. It answers as a mosquitto that is set as k8s/demonstration/mosquitto.conf says,
//! and does wrong what it is asked to do wrong.
//!
//! [`Broker`] owns sessions, retained messages and faults. It is a state machine: no I/O, no clock, no threads, nothing random; packets and
//! times go in, packets come out. The same inputs at the same times give the same outputs. [`Server`] puts it behind TCP.
//!
//! It takes messages at QoS 0, 1 and 2, and sends at 0 and 1: a subscription at QoS 2 is granted 1, as is a will. Of QoS 2 it takes as many
//! at once as there are packet ids, where mosquitto lets those over twenty wait. It has no users, no rights, no `$SYS` and no shared
//! subscriptions. A password must be UTF-8. Reading a packet's bytes is not its business.

mod fault;
mod packet;
mod server;
mod session;
mod topic;

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use rumqttc::mqttbytes::v4::{
    ConnAck, Connect, ConnectReturnCode, LastWill, Packet, PubAck, PubComp, PubRec, Publish, SubAck, Subscribe, SubscribeReasonCode,
    UnsubAck, Unsubscribe,
};
use rumqttc::mqttbytes::{Error, Protocol, QoS};

pub use fault::{Clients, Fault};
pub use server::Server;
use session::{Message, Session};
use topic::{is_valid_filter, is_valid_string, is_valid_topic};

/// Who connects and sends no CONNECT is not waited for longer; as mosquitto.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(60);

/// One network connection. The driver numbers them, and uses no number twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ConnectionId(pub u64);

/// What happens to a connection.
#[derive(Debug)]
pub enum Input {
    Opened,
    Packet(Packet),
    /// What came is no packet; the rest of the stream cannot be read.
    Malformed(Error),
    /// By the client, or by the network. Nothing follows.
    Closed,
}

/// What to do with a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    Packet(Packet),
    /// When what was sent before has gone out, as far as the client takes it. Nothing follows.
    Close,
}

/// After each [`handle`](Self::handle), [`handle_timeout`](Self::handle_timeout) and [`kill`](Self::kill) the driver takes outputs and
/// lines of the log until there are none, then waits for the next input or for [`poll_timeout`](Self::poll_timeout).
#[derive(Default)]
pub struct Broker {
    connections: BTreeMap<ConnectionId, Connection>,
    /// By client id. One without a connection lasts.
    clients: BTreeMap<String, Client>,
    /// By topic.
    retained: BTreeMap<String, Message>,
    faults: Vec<(Clients, Fault)>,
    /// By when each is due, then by its number.
    outputs: BTreeMap<(Instant, u64), (ConnectionId, Output)>,
    outputs_so_far: u64,
    ids_given: u64,
    log: VecDeque<String>,
}

struct Connection {
    /// From its CONNECT on.
    client_id: Option<String>,
    will: Option<LastWill>,
    /// `None`: for ever.
    patience: Option<Duration>,
    heard_at: Instant,
    packets: u32,
    /// What is sent next is not due before.
    last_due: Instant,
}

struct Client {
    connection: Option<ConnectionId>,
    clean_session: bool,
    session: Session,
}

impl Broker {
    /// Inputs of a connection that is not open, or that was closed from here, do nothing.
    pub fn handle(&mut self, id: ConnectionId, input: Input, now: Instant) {
        match input {
            Input::Opened => {
                let patience = Some(CONNECT_TIMEOUT);
                let connection = Connection { client_id: None, will: None, patience, heard_at: now, packets: 0, last_due: now };
                self.connections.insert(id, connection);
            }
            Input::Packet(packet) => self.handle_packet(id, packet, now),
            Input::Malformed(error) => self.handle_malformed(id, &error, now),
            Input::Closed => self.leave(id, "closed its connection", Will::Said, now),
        }
    }

    /// To be called when [`poll_timeout`](Self::poll_timeout) says. Early or late is harmless.
    pub fn handle_timeout(&mut self, now: Instant) {
        let is_over = |connection: &Connection| connection.deadline().is_some_and(|deadline| deadline <= now);
        let over: Vec<_> = self.connections.iter().filter(|(_, connection)| is_over(connection)).map(|(id, _)| *id).collect();
        for id in over {
            self.close(id, "has exceeded timeout", now);
        }
    }

    /// The next output that is due.
    pub fn poll_output(&mut self, now: Instant) -> Option<(ConnectionId, Output)> {
        let first = self.outputs.first_entry()?;
        (first.key().0 <= now).then(|| first.remove())
    }

    /// When a client's silence has lasted too long, or an output is due.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let output = self.outputs.keys().next().map(|(due, _)| *due);
        self.connections.values().filter_map(Connection::deadline).chain(output).min()
    }

    /// The next line of the log, in mosquitto's words where it has some: who came, who left and why.
    pub fn poll_log(&mut self) -> Option<String> {
        self.log.pop_front()
    }

    /// The filters of this client's session.
    pub fn subscriptions(&self, client_id: &str) -> Vec<String> {
        self.clients.get(client_id).map(|client| client.session.subscriptions.keys().cloned().collect()).unwrap_or_default()
    }

    /// Messages for this client that it has not acknowledged, or has not been sent yet.
    pub fn kept_for(&self, client_id: &str) -> usize {
        self.clients.get(client_id).map_or(0, |client| client.session.kept())
    }

    /// One fault beside those that were asked for before.
    pub fn misbehave(&mut self, clients: Clients, fault: Fault) {
        self.faults.push((clients, fault));
    }

    /// No fault any more.
    pub fn behave(&mut self) {
        self.faults.clear();
    }

    /// A process that is killed, and started again from what it keeps: the connections are gone, and no will is said. Lasting sessions with
    /// what is queued for them, and retained messages, are as they were.
    pub fn kill(&mut self) {
        self.connections.clear();
        self.outputs.clear();
        self.clients.retain(|_, client| !client.clean_session);
        for client in self.clients.values_mut() {
            client.connection = None;
        }
    }

    /// A process that is killed, and its files deleted. Faults stay.
    pub fn forget(&mut self) {
        self.kill();
        self.clients.clear();
        self.retained.clear();
    }

    /// This client's session is gone, as from another broker's files. Its connection is closed; no will is said.
    pub fn forget_session(&mut self, client_id: &str, now: Instant) {
        let Some(client) = self.clients.get_mut(client_id) else { return };
        client.clean_session = true;
        match client.connection {
            Some(id) => self.dismiss(id, "has its session forgotten", Will::Unsaid, now),
            None => drop(self.clients.remove(client_id)),
        }
    }

    fn handle_packet(&mut self, id: ConnectionId, packet: Packet, now: Instant) {
        let Some(connection) = self.connections.get_mut(&id) else { return };
        connection.heard_at = now;
        connection.packets += 1;
        let packets = connection.packets;
        let client_id = match (&connection.client_id, &packet) {
            (Some(client_id), _) => client_id.clone(),
            (None, Packet::Connect(connect)) => connect.client_id.clone(),
            (None, _) => return self.close(id, "sent no CONNECT first", now),
        };
        if self.find_fault(&client_id, |fault| matches!(fault, Fault::SayNothing).then_some(())).is_some() {
            return;
        }
        let close_at = self.find_fault(&client_id, |fault| if let Fault::CloseAtPacket(number) = fault { Some(*number) } else { None });
        if close_at.is_some_and(|number| packets >= number) {
            return self.close(id, "is cut off, as asked", now);
        }
        let wants_acknowledgement =
            matches!(packet, Packet::Subscribe(_) | Packet::Unsubscribe(_) | Packet::Publish(_) | Packet::PubRel(_));
        let hangs = |fault: &Fault| matches!(fault, Fault::AcknowledgeNothing).then_some(());
        if wants_acknowledgement && self.find_fault(&client_id, hangs).is_some() {
            return;
        }
        match packet {
            Packet::Connect(connect) => self.connect(id, connect, now),
            Packet::Publish(publish) => self.receive(id, &client_id, publish, now),
            Packet::PubAck(ack) => self.acknowledged(id, &client_id, ack.pkid, now),
            Packet::PubRel(release) => self.release(id, &client_id, release.pkid, now),
            Packet::Subscribe(subscribe) => self.subscribe(id, &client_id, subscribe, now),
            Packet::Unsubscribe(unsubscribe) => self.unsubscribe(id, &client_id, unsubscribe, now),
            Packet::PingReq => self.emit(id, Output::Packet(Packet::PingResp), now),
            Packet::Disconnect => self.dismiss(id, "disconnected", Will::Unsaid, now),
            // Nothing was sent at QoS 2.
            Packet::PubRec(_) | Packet::PubComp(_) => self.violation(id, now),
            // A broker's own.
            Packet::ConnAck(_) | Packet::SubAck(_) | Packet::UnsubAck(_) | Packet::PingResp => self.violation(id, now),
        }
    }

    fn handle_malformed(&mut self, id: ConnectionId, error: &Error, now: Instant) {
        let is_new = self.connections.get(&id).is_some_and(|connection| connection.client_id.is_none());
        if is_new && matches!(error, Error::InvalidProtocolLevel(_)) {
            self.refuse(id, ConnectReturnCode::RefusedProtocolVersion, now);
        }
        self.close(id, &format!("disconnected due to malformed packet ({error})"), now);
    }

    fn connect(&mut self, id: ConnectionId, connect: Connect, now: Instant) {
        let is_second = self.connections.get(&id).is_some_and(|connection| connection.client_id.is_some());
        if is_second {
            // Mosquitto keeps the will for itself here too.
            return self.dismiss(id, "disconnected due to protocol error", Will::Unsaid, now);
        }
        let will_is_valid = connect.last_will.as_ref().is_none_or(|will| is_valid_topic(&will.topic));
        if !will_is_valid || !is_valid_string(&connect.client_id) {
            return self.violation(id, now);
        }
        if let Some(code) = self.refusal(&connect) {
            self.refuse(id, code, now);
            return self.close(id, &format!("is refused ({code:?})"), now);
        }
        let client_id = if connect.client_id.is_empty() { self.new_client_id() } else { connect.client_id };
        self.take_over(&client_id, connect.clean_session, now);
        let session_present = self.clients.contains_key(&client_id);
        let client = self.clients.entry(client_id.clone()).or_insert_with(|| Client {
            connection: None,
            clean_session: connect.clean_session,
            session: Session::default(),
        });
        client.connection = Some(id);
        let dropped = client.session.take_dropped();
        let publishes = client.session.resume();
        let Some(connection) = self.connections.get_mut(&id) else { return };
        connection.will = connect.last_will;
        connection.client_id = Some(client_id.clone());
        // MQTT 3.1.1, 3.1.2.10: one and a half times what the client says; 0 is none.
        connection.patience = (connect.keep_alive > 0).then(|| Duration::from_secs(connect.keep_alive.into()) * 3 / 2);
        let clean = u8::from(connect.clean_session);
        self.log.push_back(format!("New client connected as {client_id} (c{clean}, k{}).", connect.keep_alive));
        if dropped > 0 {
            self.log.push_back(format!("Client {client_id} was away for too long: {dropped} messages were dropped."));
        }
        let ack = ConnAck { session_present, code: ConnectReturnCode::Success };
        self.emit(id, Output::Packet(Packet::ConnAck(ack)), now);
        self.send(id, publishes, now);
    }

    fn refusal(&self, connect: &Connect) -> Option<ConnectReturnCode> {
        if connect.protocol != Protocol::V4 {
            return Some(ConnectReturnCode::RefusedProtocolVersion);
        }
        if connect.client_id.is_empty() && !connect.clean_session {
            return Some(ConnectReturnCode::BadClientId);
        }
        self.find_fault(&connect.client_id, |fault| if let Fault::RefuseConnections(code) = fault { Some(*code) } else { None })
    }

    fn refuse(&mut self, id: ConnectionId, code: ConnectReturnCode, now: Instant) {
        let ack = ConnAck { session_present: false, code };
        self.emit(id, Output::Packet(Packet::ConnAck(ack)), now);
    }

    fn new_client_id(&mut self) -> String {
        loop {
            self.ids_given += 1;
            let id = format!("auto-{}", self.ids_given);
            if !self.clients.contains_key(&id) {
                return id;
            }
        }
    }

    /// Ends the connection that the client has, and a session that is not to be resumed.
    fn take_over(&mut self, client_id: &str, clean_session: bool, now: Instant) {
        let Some(client) = self.clients.get_mut(client_id) else { return };
        // Mosquitto keeps the will of a session that goes on for itself.
        let will = if clean_session || client.clean_session { Will::Said } else { Will::Unsaid };
        client.clean_session |= clean_session;
        match client.connection {
            Some(old) => self.dismiss(old, "already connected, closing old connection", will, now),
            None if client.clean_session => drop(self.clients.remove(client_id)),
            None => {}
        }
    }

    fn receive(&mut self, id: ConnectionId, client_id: &str, publish: Publish, now: Instant) {
        if !is_valid_topic(&publish.topic) {
            return self.violation(id, now);
        }
        let packet_id = publish.pkid;
        match publish.qos {
            QoS::AtMostOnce => self.pass_on(publish, now),
            QoS::AtLeastOnce => {
                // Before its acknowledgement: that is the order in which a client sees its own message.
                self.pass_on(publish, now);
                self.answer(id, client_id, Packet::PubAck(PubAck::new(packet_id)), &Fault::LoseAcknowledgement, now);
            }
            QoS::ExactlyOnce => {
                if self.find_fault(client_id, |fault| matches!(fault, Fault::TakeNoQos2).then_some(())).is_some() {
                    return self.close(id, "sent a message at QoS 2, which is not taken, as asked", now);
                }
                let Some(client) = self.clients.get_mut(client_id) else { return };
                client.session.hold(publish);
                self.answer(id, client_id, Packet::PubRec(PubRec::new(packet_id)), &Fault::LoseAcknowledgement, now);
            }
        }
    }

    /// What was sent at QoS 2. One that is not held was released before, and its client did not hear of that.
    fn release(&mut self, id: ConnectionId, client_id: &str, packet_id: u16, now: Instant) {
        if packet_id == 0 {
            return self.violation(id, now);
        }
        let Some(client) = self.clients.get_mut(client_id) else { return };
        if let Some(publish) = client.session.release(packet_id) {
            self.pass_on(publish, now);
        }
        self.answer(id, client_id, Packet::PubComp(PubComp::new(packet_id)), &Fault::LoseCompletion, now);
    }

    fn pass_on(&mut self, publish: Publish, now: Instant) {
        let Publish { qos, retain, topic, payload, .. } = publish;
        let qos = at_most_once_or_at_least_once(qos);
        self.publish(&Message { topic, payload, qos, retained: false }, retain, now);
    }

    /// Unless the answer is to be lost.
    fn answer(&mut self, id: ConnectionId, client_id: &str, answer: Packet, loss: &Fault, now: Instant) {
        if self.take_fault(client_id, loss) {
            return self.close(id, "gets no acknowledgement, as asked", now);
        }
        self.emit(id, Output::Packet(answer), now);
    }

    fn acknowledged(&mut self, id: ConnectionId, client_id: &str, packet_id: u16, now: Instant) {
        if packet_id == 0 {
            return self.violation(id, now);
        }
        let Some(client) = self.clients.get_mut(client_id) else { return };
        let publishes = client.session.acknowledged(packet_id);
        self.send(id, publishes, now);
    }

    fn subscribe(&mut self, id: ConnectionId, client_id: &str, subscribe: Subscribe, now: Instant) {
        if subscribe.pkid == 0 || !subscribe.filters.iter().all(|filter| is_valid_filter(&filter.path)) {
            return self.violation(id, now);
        }
        let Some(client) = self.clients.get_mut(client_id) else { return };
        let mut return_codes = Vec::new();
        let mut publishes = Vec::new();
        for filter in subscribe.filters {
            let granted = at_most_once_or_at_least_once(filter.qos);
            return_codes.push(SubscribeReasonCode::Success(granted));
            // Once for each filter, and again for one that stood already.
            for message in self.retained.values().filter(|message| topic::matches(&filter.path, &message.topic)) {
                let retained = Message { qos: lower(message.qos, granted), retained: true, ..message.clone() };
                publishes.extend(client.session.send(retained));
            }
            client.session.subscriptions.insert(filter.path, granted);
        }
        let ack = SubAck { pkid: subscribe.pkid, return_codes };
        self.emit(id, Output::Packet(Packet::SubAck(ack)), now);
        self.send(id, publishes, now);
    }

    fn unsubscribe(&mut self, id: ConnectionId, client_id: &str, unsubscribe: Unsubscribe, now: Instant) {
        let Unsubscribe { pkid, topics: filters } = unsubscribe;
        if pkid == 0 || filters.is_empty() || !filters.iter().all(|filter| is_valid_filter(filter)) {
            return self.violation(id, now);
        }
        let Some(client) = self.clients.get_mut(client_id) else { return };
        for filter in &filters {
            client.session.subscriptions.remove(filter);
        }
        self.emit(id, Output::Packet(Packet::UnsubAck(UnsubAck { pkid })), now);
    }

    /// To everybody who subscribed, and into the retained ones.
    fn publish(&mut self, message: &Message, retain: bool, now: Instant) {
        if retain && message.payload.is_empty() {
            self.retained.remove(&message.topic);
        } else if retain {
            self.retained.insert(message.topic.clone(), message.clone());
        }
        let mut sends = Vec::new();
        for (client_id, client) in &mut self.clients {
            let Some(granted) = client.session.granted(&message.topic) else { continue };
            let message = Message { qos: lower(message.qos, granted), ..message.clone() };
            let is_twice = |(clients, fault): &(Clients, Fault)| *fault == Fault::DeliverTwice && clients.include(client_id);
            let times = if message.qos == QoS::AtLeastOnce && self.faults.iter().any(is_twice) { 2 } else { 1 };
            for message in std::iter::repeat_n(message, times) {
                match client.connection {
                    Some(id) => sends.extend(client.session.send(message).map(|publish| (id, publish))),
                    None => client.session.queue(message),
                }
            }
        }
        for (id, publish) in sends {
            self.emit(id, Output::Packet(Packet::Publish(publish)), now);
        }
    }

    fn send(&mut self, id: ConnectionId, publishes: Vec<Publish>, now: Instant) {
        for publish in publishes {
            self.emit(id, Output::Packet(Packet::Publish(publish)), now);
        }
    }

    fn violation(&mut self, id: ConnectionId, now: Instant) {
        self.close(id, "disconnected due to protocol error", now);
    }

    /// The client did not say goodbye.
    fn close(&mut self, id: ConnectionId, why: &str, now: Instant) {
        self.dismiss(id, why, Will::Said, now);
    }

    /// Ended from here, when what was sent before has gone out.
    fn dismiss(&mut self, id: ConnectionId, why: &str, will: Will, now: Instant) {
        self.emit(id, Output::Close, now);
        self.leave(id, why, will, now);
    }

    /// Ended by whomever: nothing more goes out.
    fn leave(&mut self, id: ConnectionId, why: &str, will: Will, now: Instant) {
        let Some(connection) = self.connections.remove(&id) else { return };
        let Some(client_id) = connection.client_id else {
            return self.log.push_back(format!("Client <unknown> {why}."));
        };
        self.log.push_back(format!("Client {client_id} {why}."));
        if let Some(client) = self.clients.get_mut(&client_id) {
            client.connection = None;
            if client.clean_session {
                self.clients.remove(&client_id);
            }
        }
        if let (Some(LastWill { topic, message, qos, retain }), Will::Said) = (connection.will, will) {
            let qos = at_most_once_or_at_least_once(qos);
            self.publish(&Message { topic, payload: message, qos, retained: false }, retain, now);
        }
    }

    fn emit(&mut self, id: ConnectionId, output: Output, now: Instant) {
        let Some(connection) = self.connections.get(&id) else { return };
        let client_id = connection.client_id.clone().unwrap_or_default();
        let delay = self.find_fault(&client_id, |fault| if let Fault::Delay(delay) = fault { Some(*delay) } else { None });
        let due = connection.last_due.max(now + delay.unwrap_or_default());
        if let Some(connection) = self.connections.get_mut(&id) {
            connection.last_due = due;
        }
        self.outputs_so_far += 1;
        self.outputs.insert((due, self.outputs_so_far), (id, output));
    }

    /// The one that was asked for first.
    fn find_fault<T>(&self, client_id: &str, pick: impl Fn(&Fault) -> Option<T>) -> Option<T> {
        self.faults.iter().filter(|(clients, _)| clients.include(client_id)).find_map(|(_, fault)| pick(fault))
    }

    /// True where it was asked for; then it is done with.
    fn take_fault(&mut self, client_id: &str, wanted: &Fault) -> bool {
        let is_asked_for = |(clients, fault): &(Clients, Fault)| fault == wanted && clients.include(client_id);
        let position = self.faults.iter().position(is_asked_for);
        position.map(|position| self.faults.remove(position)).is_some()
    }
}

impl Connection {
    fn deadline(&self) -> Option<Instant> {
        self.patience.map(|patience| self.heard_at + patience)
    }
}

/// Of a connection that ends.
enum Will {
    Said,
    Unsaid,
}

fn lower(one: QoS, other: QoS) -> QoS {
    if (one as u8) < other as u8 { one } else { other }
}

/// Nothing is sent at QoS 2.
fn at_most_once_or_at_least_once(qos: QoS) -> QoS {
    lower(qos, QoS::AtLeastOnce)
}
