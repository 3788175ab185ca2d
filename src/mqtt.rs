//! The broker: connects, subscribes, translates, publishes, and comes back for ever. It decides nothing about simulations.
//!
//! [`open`] gives two ends. The state thread has the [`Publisher`], which never blocks: what is published waits in the outbox, whose size
//! the core bounds. The thread `mqtt` has the [`Connection`]. The two share the outbox alone; its lock is never held while an event is
//! sent, as that may block.
//!
//! Nothing is retained, and all but `ModelsReady` is QoS 1. A message counts as published when the broker acknowledged it, and is kept
//! until then, over any number of connections; it may arrive twice, never not at all.
//!
//! `ModelsReady` is QoS 2: a second one would reset a running simulation. It counts as published when the broker has passed it on, and is
//! passed on once, over any number of connections of one session. Where the broker has lost the session it may have passed it on or not:
//! then it is given up, and the core hears that. One that no connection has sent is the core's again when the next one begins, as its
//! receiver may be back later than we are. It takes one answer more than the others: what is published behind it may arrive before it.
//!
//! What comes in at QoS 1 is acknowledged when the core says so, on the connection that brought it or never; what says nothing to us, at
//! once. What is not acknowledged comes again with the next connection. Acknowledgements go out as they are given. MQTT 3.1.1 asks for the
//! order of the messages (4.6.0-2): one that waits for the cluster would then hold up all behind it, and brokers go by the packet id.
//!
//! A broker that answers pings and does not acknowledge a message of ours is left after a minute.

pub mod message;
pub mod outbox;
pub mod topic;

mod patience;

use std::fmt;
use std::mem;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};
use log::{debug, error, info, warn};
use rumqttc::mqttbytes::{self, QoS};
use rumqttc::{Client, ConnectReturnCode, ConnectionError, MqttOptions, Outgoing, Packet, StateError};
use rumqttc::{PubRel, Publish, Request, SubAck, Subscribe, SubscribeFilter, SubscribeReasonCode};

use crate::clock;
use crate::config::MqttSettings;
use crate::ids::{Shown, SimulatorName};
use crate::orchestrator::event::{BadRequest, Body, BrokerEvent, Delivery, Event, Message, MessageId};
use crate::supervise::Beat;
use outbox::{Again, Begun, Outbox};
use patience::{Owed, Patience};
use topic::{Filters, Incoming};

/// A request for 10 000 models, the most that we plan for, is 6 MB. A broker's `message_size_limit` should be below.
const MAX_PACKET_BYTES: usize = 16 * 1024 * 1024;
/// A broker that is gone without a word is noticed after twice this.
const KEEP_ALIVE: Duration = Duration::from_secs(15);
/// musl's resolver takes 5 s where a search suffix answers SERVFAIL.
const CONNECTION_TIMEOUT_SECONDS: u64 = 10;
/// rumqttc is back after connecting, and at each keep-alive with the same time again to send a ping.
pub const RECEIVE_TIME_MAX: Duration = KEEP_ALIVE.saturating_add(Duration::from_secs(CONNECTION_TIMEOUT_SECONDS));
/// rumqttc's queue allocates as it grows, so that this costs nothing: never full, it never blocks the state thread.
/// Not `usize::MAX`, to which flume adds one.
const REQUESTS: usize = u32::MAX as usize;
/// rumqttc stops taking requests, our acknowledgements among them, when so many publishes are in flight, or when the next packet id is
/// still taken. Ten times the outbox's window: it does neither, but for a broker that leaves one out while it acknowledges hundreds.
const MAX_IN_FLIGHT: u16 = 10 * outbox::WINDOW;

const FIRST_BACKOFF: Duration = Duration::from_millis(500);
/// All services of a cluster come back to a broker at once; it is up again within seconds, or it takes minutes.
const MAX_BACKOFF: Duration = Duration::from_secs(30);
/// A connection that lived this long was a good one: the next trouble is a new one.
const GOOD_AFTER: Duration = Duration::from_secs(10);
/// So many short connections in a row are no restart of a broker. Two clients with one id throw each other out 3 000 times a second.
const SHORT_CONNECTIONS: u32 = 3;
/// The first time the message may have been QoS 0, or its sender gone: only what comes again is kept by the broker.
const OVERSIZED_IN_A_ROW: u32 = 2;

pub fn open(settings: &MqttSettings, simulator: &SimulatorName) -> (Publisher, Connection) {
    let options = options(settings, format!("mso-{simulator}"));
    let name = format!("the broker at {}:{} (as {})", settings.host, settings.port, options.client_id());
    let (client, mut rumqttc) = Client::new(options, REQUESTS);
    rumqttc.eventloop.network_options.set_tcp_nodelay(true);
    rumqttc.eventloop.network_options.set_connection_timeout(CONNECTION_TIMEOUT_SECONDS);
    let outbox = Arc::new(Mutex::new(Outbox::default()));
    let (stop, stopped) = bounded(1);
    let connection = Connection {
        broker: name,
        simulator: simulator.clone(),
        rumqttc,
        client: client.clone(),
        outbox: outbox.clone(),
        stopped,
        connected_at: None,
        announced: false,
        patience: Patience::default(),
        unheard: false,
        troubles: Troubles::default(),
    };
    (Publisher { simulator: simulator.clone(), client, outbox, stop }, connection)
}

/// As the service connects, but beside it: nothing is kept for it.
pub fn options_of_a_visitor(settings: &MqttSettings, simulator: &SimulatorName) -> MqttOptions {
    let mut options = options(settings, format!("mso-{simulator}-check"));
    options.set_clean_session(true).set_manual_acks(false);
    options
}

fn options(settings: &MqttSettings, id: String) -> MqttOptions {
    // rumqttc puts ":port" behind it.
    let host = if settings.host.contains(':') { format!("[{}]", settings.host) } else { settings.host.clone() };
    let mut options = MqttOptions::new(id, host, settings.port);
    options.set_clean_session(false).set_keep_alive(KEEP_ALIVE).set_max_packet_size(MAX_PACKET_BYTES, MAX_PACKET_BYTES);
    options.set_inflight(MAX_IN_FLIGHT).set_manual_acks(true);
    if !settings.username.is_empty() {
        options.set_credentials(&settings.username, settings.password.reveal());
    }
    options
}

/// For the state thread: never blocks.
pub struct Publisher {
    simulator: SimulatorName,
    client: Client,
    outbox: Arc<Mutex<Outbox>>,
    stop: Sender<()>,
}

impl Publisher {
    /// [`BrokerEvent::Published`] follows, once, when the broker has the message; for `ModelsReady` perhaps [`BrokerEvent::Unsent`] or
    /// [`BrokerEvent::Doubtful`] instead. Ids must grow.
    ///
    /// Its size needs no check: the topic has at most 64 200 bytes, the payload a dozen.
    pub fn publish(&self, message: &Message) {
        let mut outbox = lock(&self.outbox);
        outbox.add(message.id, packet(message, &self.simulator));
        hand_over(&mut outbox, &self.client);
    }

    /// Nothing happens where the connection that brought it has ended.
    pub fn acknowledge(&self, delivery: Delivery) {
        acknowledge(&lock(&self.outbox), &self.client, delivery);
    }

    /// Ends the connection when the broker has acknowledged all that was published; at once when there is no connection.
    ///
    /// Not before the acknowledgements: closing a socket with unread ones in it resets the connection, and the broker then throws away what
    /// it has not read yet.
    pub fn disconnect(&self) {
        let outbox = lock(&self.outbox);
        // Full: said before. Gone: it ended.
        let _ = self.stop.try_send(());
        say_goodbye_if_empty(&outbox, &self.client);
    }
}

/// To the state thread. It may make the sender wait, and with that the broker: the connection is not read meanwhile.
pub struct Inlet<'a> {
    pub events: Sender<Event>,
    /// A place is taken for each request before that is handed over, and freed when it was handled: behind all events before it.
    pub requests: Sender<()>,
    /// Of the thread that waits.
    pub beat: &'a Beat,
}

/// The body of the thread `mqtt`.
pub struct Connection {
    /// For the log: where, and as whom.
    broker: String,
    simulator: SimulatorName,
    rumqttc: rumqttc::Connection,
    client: Client,
    outbox: Arc<Mutex<Outbox>>,
    stopped: Receiver<()>,
    /// When the ConnAck of this connection came.
    connected_at: Option<Instant>,
    /// The core thinks that we are connected.
    announced: bool,
    patience: Patience,
    /// Nobody takes our events any more.
    unheard: bool,
    troubles: Troubles,
}

/// Why [`Connection::serve`] came back.
enum End {
    /// We are to stop, and did.
    Stopped,
    Lost(Loss),
}

/// Why a connection ended, or did not come about.
enum Loss {
    /// The broker, or something between, closed the connection.
    Closed(String),
    /// Anything else of the network or the protocol.
    Failed(String),
    /// The broker does not want us.
    Refused(ConnectReturnCode),
    /// The broker sent a packet over our limit.
    Oversized { bytes: usize },
    /// The broker answers pings and does not acknowledge this; in words for the log.
    Unacknowledged(String),
    /// The broker does not let us read these.
    SubscriptionRefused(Vec<String>),
    /// We had the broker forget our session, and are to begin one.
    SessionDropped,
}

/// What went wrong since the last good connection.
#[derive(Default)]
struct Troubles {
    failures: u32,
    short_connections: u32,
    /// In a row, while the broker was to take a `ModelsReady`.
    closed_at_qos_2: u32,
    oversized: u32,
    /// What the log says of this outage so far.
    said: Option<String>,
}

impl Connection {
    /// Returns after [`Publisher::disconnect`], and in the same way when the receiver of the events is gone. While it tries to connect that
    /// can take the 10 s of the attempt.
    pub fn run(mut self, inlet: &Inlet<'_>) {
        let mut delay = Duration::ZERO;
        while !inlet.beat.wait(|| self.stops_within(delay)) {
            let End::Lost(loss) = self.serve(inlet) else { return };
            self.cut_off(inlet);
            delay = self.delay_after(&loss);
        }
    }

    /// True also when the publisher is gone.
    fn stops_within(&self, delay: Duration) -> bool {
        self.unheard || !matches!(self.stopped.recv_timeout(delay), Err(RecvTimeoutError::Timeout))
    }

    fn is_stopping(&self) -> bool {
        self.unheard || !self.stopped.is_empty()
    }

    /// One connection, from connecting to its end.
    fn serve(&mut self, inlet: &Inlet<'_>) -> End {
        loop {
            // It comes back at each keep-alive at the latest: where it does not, waiting on would be hanging.
            inlet.beat.works();
            let began_at = clock::now().instant;
            let received = self.rumqttc.recv();
            // A process that was stopped meanwhile has not listened.
            self.patience.listened((clock::now().instant - began_at).min(RECEIVE_TIME_MAX));
            let end = match received {
                Ok(Ok(event)) => self.handle(&event, inlet).and_then(|()| self.broker_acknowledges()),
                Ok(Err(error)) => Err(End::Lost(error.into())),
                // All clients are gone; we have one ourselves.
                Err(rumqttc::RecvError) => Err(End::Stopped),
            };
            if let Err(end) = end {
                return end;
            }
        }
    }

    fn broker_acknowledges(&self) -> Result<(), End> {
        let Some(owed) = self.patience.overdue() else { return Ok(()) };
        let outbox = lock(&self.outbox);
        let message =
            |topic: Option<&str>| topic.map_or_else(|| "a message".to_owned(), |topic| format!("our message to {}", Shown::of(topic)));
        let what = match owed {
            Owed::Subscription => "our subscription".to_owned(),
            Owed::Message(packet_id) => message(outbox.topic_in_flight(packet_id)),
            Owed::Release(packet_id) => message(outbox.topic_released(packet_id)),
        };
        Err(End::Lost(Loss::Unacknowledged(what)))
    }

    fn handle(&mut self, event: &rumqttc::Event, inlet: &Inlet<'_>) -> Result<(), End> {
        match event {
            rumqttc::Event::Incoming(Packet::ConnAck(ack)) => self.connected(ack.session_present, inlet)?,
            rumqttc::Event::Incoming(Packet::SubAck(ack)) => self.subscribed(ack, inlet)?,
            rumqttc::Event::Incoming(Packet::Publish(publish)) => self.receive(publish, inlet),
            rumqttc::Event::Incoming(Packet::PubAck(ack)) => {
                self.patience.acknowledged(Owed::Message(ack.pkid));
                self.taken(|outbox| outbox.acknowledged(ack.pkid), inlet);
            }
            // rumqttc answers with the PUBREL.
            rumqttc::Event::Incoming(Packet::PubRec(ack)) => {
                self.patience.acknowledged(Owed::Message(ack.pkid));
                lock(&self.outbox).held(ack.pkid);
            }
            rumqttc::Event::Incoming(Packet::PubComp(ack)) => {
                self.patience.acknowledged(Owed::Release(ack.pkid));
                self.taken(|outbox| outbox.completed(ack.pkid), inlet);
            }
            rumqttc::Event::Outgoing(Outgoing::Subscribe(_)) => self.patience.sent(Owed::Subscription),
            rumqttc::Event::Outgoing(Outgoing::PubRel(packet_id)) => self.patience.sent(Owed::Release(*packet_id)),
            rumqttc::Event::Outgoing(Outgoing::Publish(packet_id)) => {
                self.patience.sent(Owed::Message(*packet_id));
                lock(&self.outbox).sent(*packet_id);
            }
            rumqttc::Event::Outgoing(Outgoing::Disconnect) => return Err(End::Stopped),
            _ => {}
        }
        Ok(())
    }

    fn connected(&mut self, session_present: bool, inlet: &Inlet<'_>) -> Result<(), End> {
        let options = &mut self.rumqttc.eventloop.mqtt_options;
        if options.clean_session() {
            options.set_clean_session(false);
            return Err(End::Lost(Loss::SessionDropped));
        }
        debug!("{} answers; session present: {session_present}", self.broker);
        self.connected_at = Some(clock::now().instant);
        self.patience = Patience::default();
        let mut outbox = lock(&self.outbox);
        // Asked under the lock: from here on `disconnect` finds us online.
        if self.is_stopping() {
            return Err(End::Stopped);
        }
        let Begun { unsent, doubtful, again } = outbox.begin(session_present);
        // rumqttc takes `pending` without regard to its limit, and loses what then collides: no more than the outbox's window goes there.
        let pending = &mut self.rumqttc.eventloop.pending;
        pending.push_back(Request::Subscribe(subscription(&self.simulator)));
        pending.extend(again.into_iter().map(|again| match again {
            Again::Release(packet_id) => Request::PubRel(PubRel::new(packet_id)),
            Again::Publish(packet_id, packet) => {
                let publish = Publish::new(packet.topic, packet.qos, packet.payload);
                Request::Publish(Publish { pkid: packet_id, dup: true, ..publish })
            }
        }));
        hand_over(&mut outbox, &self.client);
        drop(outbox);
        unsent.into_iter().for_each(|id| self.tell(inlet, BrokerEvent::Unsent(id)));
        doubtful.into_iter().for_each(|id| self.tell(inlet, BrokerEvent::Doubtful(id)));
        Ok(())
    }

    fn subscribed(&mut self, ack: &SubAck, inlet: &Inlet<'_>) -> Result<(), End> {
        let Filters { needed, helpful } = refused_filters(ack, &self.simulator);
        if !needed.is_empty() {
            return Err(End::Lost(Loss::SubscriptionRefused(needed)));
        }
        if !helpful.is_empty() {
            warn!(
                "{} refuses the subscription to {}: models that an SO has ended early, and that do not end by themselves, run on",
                self.broker,
                helpful.join(" and ")
            );
        }
        self.patience.acknowledged(Owed::Subscription);
        info!("connected to {}", self.broker);
        self.announced = true;
        self.troubles.said = None;
        self.tell(inlet, BrokerEvent::Connected);
        Ok(())
    }

    /// The broker has a message, perhaps.
    fn taken(&mut self, take: impl FnOnce(&mut Outbox) -> Option<MessageId>, inlet: &Inlet<'_>) {
        let mut outbox = lock(&self.outbox);
        let Some(id) = take(&mut outbox) else { return };
        hand_over(&mut outbox, &self.client);
        drop(outbox);
        self.tell(inlet, BrokerEvent::Published(id));
        self.leave_if_done();
    }

    fn receive(&mut self, publish: &Publish, inlet: &Inlet<'_>) {
        debug!("received {} bytes on {}", publish.payload.len(), Shown::of(&publish.topic));
        let delivery = delivery(publish, lock(&self.outbox).connection());
        match translate(publish, delivery, &self.simulator) {
            Ok(event) => self.tell(inlet, event),
            Err(problem) => {
                warn!("dropped a message: {problem}");
                if let Some(delivery) = delivery {
                    acknowledge(&lock(&self.outbox), &self.client, delivery);
                }
            }
        }
    }

    fn tell(&mut self, inlet: &Inlet<'_>, event: BrokerEvent) {
        // However long that takes: a state thread that hangs is its own to tell.
        let told = inlet.beat.wait(|| {
            if matches!(event, BrokerEvent::DeployModels { .. }) {
                // Nobody frees places any more: nobody takes events either.
                let _ = inlet.requests.send(());
            }
            inlet.events.send(Event::Broker(event))
        });
        if told.is_err() {
            self.unheard = true;
            self.leave_if_done();
        }
    }

    fn leave_if_done(&self) {
        if self.is_stopping() {
            say_goodbye_if_empty(&lock(&self.outbox), &self.client);
        }
    }

    /// Leaves rumqttc without a connection and without anything of ours in it. What it had read by then is still handled: at QoS 0 it does
    /// not come again.
    fn cut_off(&mut self, inlet: &Inlet<'_>) {
        for event in mem::take(&mut self.rumqttc.eventloop.state.events) {
            // Whatever it asks for, the connection is at its end.
            let _ = self.handle(&event, inlet);
        }
        let mut outbox = lock(&self.outbox);
        let eventloop = &mut self.rumqttc.eventloop;
        // It empties the queue too; until we are offline nobody adds to that, as that takes the lock.
        eventloop.clean();
        eventloop.pending.clear();
        // Left there, it blocks the next connection for good: <https://github.com/bytebeamio/rumqtt/issues/1056>.
        eventloop.state.collision = None;
        outbox.offline();
        drop(outbox);
        if mem::take(&mut self.announced) {
            self.tell(inlet, BrokerEvent::Disconnected);
        }
    }

    /// Says what there is to say, and how long to wait.
    fn delay_after(&mut self, loss: &Loss) -> Duration {
        let lived = self.connected_at.take().map(|connected_at| clock::now().instant - connected_at);
        let troubles = &mut self.troubles;
        let was_good = !matches!(loss, Loss::Unacknowledged(_));
        if was_good && lived.is_some_and(|lived| lived >= GOOD_AFTER) {
            *troubles = Troubles::default();
        }
        troubles.say(loss, &self.broker);
        let oversized = matches!(loss, Loss::Oversized { .. });
        let short = lived.is_some_and(|lived| lived < GOOD_AFTER) && matches!(loss, Loss::Closed(_));
        let at_qos_2 = matches!(loss, Loss::Closed(_)) && lock(&self.outbox).awaits_hold();
        troubles.closed_at_qos_2 = if at_qos_2 { troubles.closed_at_qos_2 + 1 } else { 0 };
        troubles.oversized = if oversized { troubles.oversized + 1 } else { 0 };
        troubles.short_connections = if short { troubles.short_connections + 1 } else { 0 };
        if troubles.oversized == OVERSIZED_IN_A_ROW {
            error!(
                "{} sends a message over the limit again and again: dropping our session there. All that it kept for us is lost, requests and \
                 ready messages too; set its message_size_limit below {MAX_PACKET_BYTES}",
                self.broker
            );
            self.rumqttc.eventloop.mqtt_options.set_clean_session(true);
        }
        if troubles.closed_at_qos_2 == SHORT_CONNECTIONS {
            error!(
                "{} closed {SHORT_CONNECTIONS} connections in a row at a ModelsReady, which goes at QoS 2: let the broker take that (mosquitto: \
                 max_qos 2, which is its default), or no simulation of ours begins",
                self.broker
            );
        } else if troubles.short_connections == SHORT_CONNECTIONS && troubles.closed_at_qos_2 < SHORT_CONNECTIONS {
            warn!("{} closed {SHORT_CONNECTIONS} connections in a row at once: another client may use this id", self.broker);
        }
        if let Loss::SessionDropped = loss {
            return Duration::ZERO;
        }
        let delay = if troubles.short_connections >= SHORT_CONNECTIONS { MAX_BACKOFF } else { backoff(troubles.failures) };
        troubles.failures = troubles.failures.saturating_add(1);
        delay.mul_f64(0.5 + fastrand::f64() / 2.0)
    }
}

impl Troubles {
    /// Once an outage, and again when the broker refuses us for another reason: a person has to mend that.
    fn say(&mut self, loss: &Loss, broker: &str) {
        let text = loss.to_string();
        let refused = matches!(loss, Loss::Refused(_) | Loss::SubscriptionRefused(_));
        let news = match &self.said {
            None => true,
            Some(said) => refused && *said != text,
        };
        match loss {
            Loss::SessionDropped => return info!("{broker}: {text}"),
            _ if !news => return debug!("still without {broker}: {text}"),
            Loss::SubscriptionRefused(_) => error!("no connection to {broker}: {text}; trying again for ever"),
            Loss::Closed(_) | Loss::Failed(_) | Loss::Refused(_) | Loss::Oversized { .. } | Loss::Unacknowledged(_) => {
                warn!("no connection to {broker}: {text}; trying again for ever")
            }
        }
        self.said = Some(text);
    }
}

impl From<ConnectionError> for Loss {
    fn from(error: ConnectionError) -> Self {
        match error {
            ConnectionError::ConnectionRefused(code) => Self::Refused(code),
            ConnectionError::MqttState(StateError::Deserialization(mqttbytes::Error::PayloadSizeLimitExceeded(bytes))) => {
                Self::Oversized { bytes }
            }
            ConnectionError::MqttState(
                StateError::ConnectionAborted | StateError::Io(_) | StateError::Deserialization(mqttbytes::Error::Io(_)),
            ) => Self::Closed(error.to_string()),
            _ => Self::Failed(error.to_string()),
        }
    }
}

impl fmt::Display for Loss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Closed(error) | Self::Failed(error) => f.write_str(error),
            Self::Refused(code @ (ConnectReturnCode::BadUserNamePassword | ConnectReturnCode::NotAuthorized)) => {
                write!(f, "it refuses us ({code:?}): check MQTT_USERNAME and MQTT_PASSWORD")
            }
            Self::Refused(code) => write!(f, "it refuses us ({code:?})"),
            Self::Oversized { bytes } => write!(f, "it sends a message of {bytes} bytes: the limit is {MAX_PACKET_BYTES}"),
            Self::Unacknowledged(what) => {
                let seconds = patience::LIMIT.as_secs();
                write!(f, "it answers, but has not acknowledged {what} for {seconds} s: look at its log, its load and its disk")
            }
            Self::SubscriptionRefused(filters) => {
                write!(f, "it refuses the subscription to {}: allow our user to read that", filters.join(" and "))
            }
            Self::SessionDropped => write!(f, "our session there is dropped, a new one begins"),
        }
    }
}

/// Why a message says nothing to us.
pub enum Unusable {
    Topic(topic::InvalidTopic),
    Payload {
        topic: Shown,
        error: prost::DecodeError,
    },
    /// Nothing of the protocol is retained, and this would come with each of our connections. Its first delivery is not marked so,
    /// not even to a session that was offline (MQTT 3.1.1, 3.3.1-9): no request is lost.
    Retained {
        topic: Shown,
    },
}

impl fmt::Display for Unusable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Topic(error) => write!(f, "{error}"),
            Self::Payload { topic, error } => write!(f, "topic {topic}: {error}; it takes a DeployModels of lifecycle.proto"),
            Self::Retained { topic } => {
                write!(f, "topic {topic}: it is retained; publish without retain, and an empty retained message to clear it")
            }
        }
    }
}

/// A message of ours as it goes out.
pub fn packet(message: &Message, simulator: &SimulatorName) -> outbox::Packet {
    outbox::Packet {
        topic: topic::of(message, simulator),
        payload: message::encode(&message.body),
        qos: if message.body == Body::ModelsReady { QoS::ExactlyOnce } else { QoS::AtLeastOnce },
    }
}

/// What the broker is to be told of this message. We subscribe at QoS 1: nothing comes at QoS 2.
pub fn delivery(publish: &Publish, connection: u64) -> Option<Delivery> {
    (publish.qos == QoS::AtLeastOnce).then_some(Delivery { connection, packet_id: publish.pkid })
}

/// What a message says to us.
///
/// # Errors
/// Nothing: why.
pub fn translate(publish: &Publish, delivery: Option<Delivery>, simulator: &SimulatorName) -> Result<BrokerEvent, Unusable> {
    if publish.retain {
        return Err(Unusable::Retained { topic: Shown::of(&publish.topic) });
    }
    match topic::parse(&publish.topic, simulator).map_err(Unusable::Topic)? {
        Incoming::DeployModels { simulation } => {
            let payload = |error| Unusable::Payload { topic: Shown::of(&publish.topic), error };
            let request = message::decode_deploy_models(&simulation, &publish.payload).map_err(payload)?;
            let with_topic =
                |bad: BadRequest| BadRequest { problem: format!("topic {}: {}", Shown::of(&publish.topic), bad.problem), ..bad };
            let request = request.map_err(with_topic);
            Ok(BrokerEvent::DeployModels { simulation, request, delivery })
        }
        // These messages have no fields; what later ones may add is not for us.
        Incoming::ReadyForProcessing { simulation, model } => Ok(BrokerEvent::ReadyForProcessing { simulation, model, delivery }),
        Incoming::SimulationDone { simulation, model } => Ok(BrokerEvent::SimulationDone { simulation, model, delivery }),
    }
}

/// To all that is for us, and nothing else.
pub fn subscription(simulator: &SimulatorName) -> Subscribe {
    Subscribe::new_many(topic::filters(simulator).all().map(|path| SubscribeFilter { path, qos: QoS::AtLeastOnce }))
}

/// Of that subscription, what the broker does not let us read.
pub fn refused_filters(ack: &SubAck, simulator: &SimulatorName) -> Filters<Vec<String>> {
    let Filters { needed, helpful } = topic::filters(simulator);
    let mut codes = ack.return_codes.iter();
    let mut refused = |filters: [String; 2]| {
        let with_codes = filters.into_iter().zip(codes.by_ref());
        with_codes.filter(|(_, code)| **code == SubscribeReasonCode::Failure).map(|(filter, _)| filter).collect()
    };
    Filters { needed: refused(needed), helpful: refused(helpful) }
}

fn backoff(failures: u32) -> Duration {
    // 2^6 × 0.5 s is past the maximum.
    (FIRST_BACKOFF * 2_u32.pow(failures.min(6))).min(MAX_BACKOFF)
}

/// What rumqttc is to have by now. Under the lock, so that the outbox and rumqttc's queue have one order.
fn hand_over(outbox: &mut Outbox, client: &Client) {
    while let Some(packet) = outbox.take_next() {
        // Never full, and the topic has no wildcards. Closed: the connection was stopped, and the process ends.
        let _ = client.try_publish(packet.topic, packet.qos, false, packet.payload);
    }
}

/// Under the lock, so that no connection ends in between: on the next one the packet id may be another message's.
fn acknowledge(outbox: &Outbox, client: &Client, delivery: Delivery) {
    if outbox.is_online() && outbox.connection() == delivery.connection {
        // Of a PUBLISH rumqttc reads the QoS and the packet id. Never full; closed: the process ends.
        let publish = Publish::new("", QoS::AtLeastOnce, []);
        let _ = client.try_ack(&Publish { pkid: delivery.packet_id, ..publish });
    }
}

/// The thread ends when rumqttc has sent the DISCONNECT; a second one is not read any more.
fn say_goodbye_if_empty(outbox: &Outbox, client: &Client) {
    if outbox.is_online() && outbox.is_empty() {
        let _ = client.try_disconnect();
    }
}

fn lock(outbox: &Mutex<Outbox>) -> MutexGuard<'_, Outbox> {
    outbox.lock().expect("nothing panics while it holds the outbox")
}
