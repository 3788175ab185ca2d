//! A simulation orchestrator that does what those in use do, and complains about what would break them.
//!
//! It sends a request, gives each model its parameters when it hears `ModelsReady`, takes the models through their steps where it is told
//! to, and ends a simulation by `SimulationDone` to each model. Like those in use it does nothing about `ModelHasTerminated` and
//! `AllModelsHaveTerminated`. It computes nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use crossbeam_channel::{Sender, bounded};
use mso::clock::{self, UnixTime};
use mso::proto;
use prost::Message;
use rumqttc::{Client, Connection, Event, Incoming, MqttOptions, Outgoing, QoS};

use crate::feed::Feed;

/// Above what the service takes: a test may try what is too much.
const PACKET_BYTES_MAX: usize = 64 * 1024 * 1024;

/// rumqttc's queue allocates as it grows. Never full, it never blocks the thread that also reads.
const QUEUE: usize = u32::MAX as usize;

/// For the broker to take the first connection and the subscription.
const CONNECT_LIMIT: Duration = Duration::from_secs(30);

/// The library connects again at once and without end.
const PAUSE: Duration = Duration::from_millis(200);

/// A model of a request.
pub fn model_configuration<'a>(
    id: &str,
    image: &str,
    variables: impl IntoIterator<Item = (&'a str, &'a str)>,
) -> proto::ModelConfiguration {
    let variable = |(name, value): (&str, &str)| proto::EnvironmentVariable { name: name.to_owned(), value: value.to_owned() };
    proto::ModelConfiguration {
        model_id: id.to_owned(),
        image_url: image.to_owned(),
        environment_variables: variables.into_iter().map(variable).collect(),
    }
}

/// What an outage of the broker, or of the connection, takes from the SO.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Session {
    /// As those in use have it: QoS 0, and nothing is kept for it.
    Clean,
    /// QoS 1, and the broker keeps what was sent meanwhile.
    Lasting,
}

/// A message that reached the SO, from the service or from a model.
#[derive(Clone, Debug)]
pub struct Heard {
    pub topic: String,
    pub payload: Vec<u8>,
    pub at: UnixTime,
}

impl Heard {
    /// What the topic says; none where it has too few parts.
    pub fn about(&self) -> Option<About<'_>> {
        let parts: Vec<&str> = self.topic.split('/').collect();
        let (from, simulation, model, message) = match parts[..] {
            [_, _, from, _, simulation, message] => (from, simulation, None, message),
            [_, _, from, _, simulation, model, message] => (from, simulation, Some(model), message),
            _ => return None,
        };
        Some(About { from, simulation, model, message })
    }

    /// The model and its exit code, where this is `ModelHasTerminated`.
    pub fn end(&self) -> Option<(&str, i32)> {
        let About { model, message, .. } = self.about()?;
        let end = proto::ModelHasTerminated::decode(self.payload.as_slice()).ok().filter(|_| message == "ModelHasTerminated")?;
        Some((model?, end.exit_code))
    }
}

/// `/lifecycle/<from>/<so>/<simulation>/[<model>/]<message>`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct About<'a> {
    /// `mso` or `model`.
    pub from: &'a str,
    pub simulation: &'a str,
    pub model: Option<&'a str>,
    pub message: &'a str,
}

/// Any number of simulations of one simulator name.
pub struct So {
    simulator: String,
    client: Client,
    qos: QoS,
    /// All that came, in order.
    pub heard: Arc<Feed<Heard>>,
    desk: Arc<Mutex<Desk>>,
    is_over: Arc<AtomicBool>,
}

impl So {
    /// Has subscribed when this returns. `simulator` is the service's `SIMULATOR_NAME`; `id` tells the client apart at its broker.
    ///
    /// # Errors
    /// There is no connection to the broker, or it does not take the subscription within half a minute.
    pub fn connect(host: &str, port: u16, id: &str, simulator: &str, session: Session) -> Result<Self, String> {
        let mut options = MqttOptions::new(id, host, port);
        options.set_clean_session(session == Session::Clean).set_max_packet_size(PACKET_BYTES_MAX, PACKET_BYTES_MAX);
        let (client, mut connection) = Client::new(options, QUEUE);
        connection.eventloop.network_options.set_tcp_nodelay(true);

        let qos = if session == Session::Clean { QoS::AtMostOnce } else { QoS::AtLeastOnce };
        let is_over = Arc::default();
        let so = Self { simulator: simulator.to_owned(), client, qos, heard: Arc::default(), desk: Arc::default(), is_over };
        let (subscribed, when_subscribed) = bounded(1);
        let ears = Ears { speaker: so.speaker(), heard: so.heard.clone(), desk: so.desk.clone(), is_over: so.is_over.clone(), subscribed };
        thread::Builder::new()
            .name("so".to_owned())
            .spawn(move || ears.listen(connection))
            .map_err(|error| format!("failed to start a thread: {error}"))?;
        let until = clock::now().instant + CONNECT_LIMIT;
        while when_subscribed.recv_timeout(PAUSE).is_err() {
            if let Some(problem) = so.connection_problem() {
                return Err(format!("no connection to the broker at {host}:{port}: {problem}"));
            }
            if clock::now().instant >= until {
                return Err(format!("the broker at {host}:{port} takes no subscription"));
            }
        }
        Ok(so)
    }

    /// Sends the request. The simulation goes on until [`So::end`], or until a model reports an error.
    pub fn deploy(&self, simulation: &str, request: &proto::DeployModels) {
        self.begin(simulation, request, None);
    }

    /// Sends the request, and when the models are ready takes them through so many steps, and ends them.
    pub fn play(&self, simulation: &str, request: &proto::DeployModels, steps: u32) {
        self.begin(simulation, request, Some(steps));
    }

    /// A request that need not be one.
    pub fn deploy_bytes(&self, simulation: &str, payload: Vec<u8>) {
        lock(&self.desk).simulations.entry(simulation.to_owned()).or_default();
        self.publish(&format!("/lifecycle/{}/mso/{simulation}/DeployModels", self.simulator), payload);
    }

    /// `SimulationDone` to all models of a request.
    pub fn end_all(&self, simulation: &str) {
        let mut desk = lock(&self.desk);
        if let Some(known) = desk.simulations.get_mut(simulation) {
            known.end(simulation, &self.speaker());
        }
    }

    /// `SimulationDone` to one model.
    pub fn end(&self, simulation: &str, model: &str) {
        self.speaker().tell(simulation, model, "SimulationDone", proto::SimulationDone {}.encode_to_vec());
    }

    pub fn publish(&self, topic: &str, payload: Vec<u8>) {
        self.speaker().publish(topic, payload);
    }

    /// Why there is no connection to the broker, where there is none.
    pub fn connection_problem(&self) -> Option<String> {
        lock(&self.desk).connection_problem.clone()
    }

    /// What reached the SO and would have broken one of those in use, in order.
    pub fn complaints(&self) -> Vec<String> {
        lock(&self.desk).complaints.clone()
    }

    fn begin(&self, simulation: &str, request: &proto::DeployModels, steps: Option<u32>) {
        let models = request.model_configurations.iter().map(|model| model.model_id.clone()).collect();
        lock(&self.desk).simulations.insert(simulation.to_owned(), Simulation { models, steps, ..Simulation::default() });
        self.deploy_bytes(simulation, request.encode_to_vec());
    }

    fn speaker(&self) -> Speaker {
        Speaker { simulator: self.simulator.clone(), client: self.client.clone(), qos: self.qos }
    }
}

impl Drop for So {
    fn drop(&mut self) {
        // One that has no connection is told by the flag.
        self.is_over.store(true, Ordering::Relaxed);
        let _ = self.client.try_disconnect();
    }
}

/// What the SO knows.
#[derive(Default)]
struct Desk {
    simulations: BTreeMap<String, Simulation>,
    complaints: Vec<String>,
    connection_problem: Option<String>,
}

#[derive(Default)]
struct Simulation {
    models: BTreeSet<String>,
    /// How many are left. `None`: it ends when somebody says so.
    steps: Option<u32>,
    /// Those that have not answered yet.
    awaited: BTreeSet<String>,
    is_ready: bool,
    is_done: bool,
}

impl Simulation {
    /// The next step, or the end.
    fn go_on(&mut self, id: &str, speaker: &Speaker) {
        match self.steps {
            None => {}
            Some(0) => self.end(id, speaker),
            Some(left) => {
                self.steps = Some(left - 1);
                let step = proto::NewStep { parameters_dict: "{}".to_owned() }.encode_to_vec();
                self.tell_all(id, speaker, "NewStep", &step);
            }
        }
    }

    fn end(&mut self, id: &str, speaker: &Speaker) {
        self.is_done = true;
        self.tell_all(id, speaker, "SimulationDone", &[]);
    }

    fn tell_all(&mut self, id: &str, speaker: &Speaker, message: &str, payload: &[u8]) {
        self.awaited.clone_from(&self.models);
        for model in &self.models {
            speaker.tell(id, model, message, payload.to_vec());
        }
    }
}

fn lock(desk: &Mutex<Desk>) -> MutexGuard<'_, Desk> {
    desk.lock().unwrap_or_else(PoisonError::into_inner)
}

struct Speaker {
    simulator: String,
    client: Client,
    qos: QoS,
}

impl Speaker {
    fn tell(&self, simulation: &str, model: &str, message: &str, payload: Vec<u8>) {
        // A broker closes the connection on a topic with such an id, and what comes meanwhile is lost.
        if model.chars().any(|char| char.is_control() || "+#/".contains(char)) {
            return;
        }
        self.publish(&format!("/lifecycle/{}/model/{simulation}/{model}/{message}", self.simulator), payload);
    }

    fn publish(&self, topic: &str, payload: Vec<u8>) {
        // Only a connection that is at its end refuses.
        let _ = self.client.try_publish(topic, self.qos, false, payload);
    }
}

/// The thread that reads.
struct Ears {
    speaker: Speaker,
    heard: Arc<Feed<Heard>>,
    desk: Arc<Mutex<Desk>>,
    is_over: Arc<AtomicBool>,
    subscribed: Sender<()>,
}

impl Ears {
    fn listen(self, mut connection: Connection) {
        let filters = ["mso", "model"].map(|from| format!("/lifecycle/{from}/{}/#", self.speaker.simulator));
        for event in connection.iter() {
            match event {
                Ok(Event::Incoming(Incoming::ConnAck(_))) => {
                    let filters = filters.iter().map(|filter| rumqttc::SubscribeFilter::new(filter.clone(), self.speaker.qos));
                    let _ = self.speaker.client.try_subscribe_many(filters);
                }
                Ok(Event::Incoming(Incoming::SubAck(_))) => {
                    lock(&self.desk).connection_problem = None;
                    // Full: nobody waits any more.
                    let _ = self.subscribed.try_send(());
                }
                Ok(Event::Incoming(Incoming::Publish(message))) => self.hear(&message),
                Ok(Event::Outgoing(Outgoing::Disconnect)) => return,
                Ok(_) => {}
                Err(_) if self.is_over.load(Ordering::Relaxed) => return,
                Err(error) => {
                    lock(&self.desk).connection_problem = Some(error.to_string());
                    thread::sleep(PAUSE);
                }
            }
        }
    }

    fn hear(&self, message: &rumqttc::Publish) {
        let heard = Heard { topic: message.topic.clone(), payload: message.payload.to_vec(), at: clock::now().unix };
        let mut desk = lock(&self.desk);
        if let Err(complaint) = self.act(&mut desk, &heard, message.retain) {
            desk.complaints.push(format!("{}: {complaint}", heard.topic));
        }
        drop(desk);
        self.heard.push(heard);
    }

    /// What an SO in use does about it, or how it breaks.
    fn act(&self, desk: &mut Desk, heard: &Heard, is_retained: bool) -> Result<(), String> {
        if is_retained {
            return Err("it is retained, and comes again with each connection".to_owned());
        }
        let Some(About { from, simulation: id, model, message }) = heard.about() else {
            return Err("a topic without a simulation and a message raises an exception".to_owned());
        };
        let Some(simulation) = desk.simulations.get_mut(id) else {
            return Err("a simulation that it does not know raises an exception".to_owned());
        };
        match (from, message) {
            ("mso", "ModelsReady") => {
                if simulation.is_ready {
                    return Err("a second ModelsReady resets a running simulation".to_owned());
                }
                simulation.is_ready = true;
                let parameters = proto::ModelParameters { parameters_dict: "{}".to_owned() }.encode_to_vec();
                simulation.tell_all(id, &self.speaker, "ModelParameters", &parameters);
            }
            ("model", "Parameterized" | "CalculationsDone") => {
                let was_awaited = model.is_some_and(|model| simulation.awaited.remove(model));
                if was_awaited && simulation.awaited.is_empty() && !simulation.is_done {
                    simulation.go_on(id, &self.speaker);
                }
            }
            (_, "ErrorOccurred") => {
                proto::ErrorOccurred::decode(heard.payload.as_slice())
                    .map_err(|error| format!("it blocks the simulation for ever: {error}"))?;
                if simulation.is_done {
                    return Err("after SimulationDone it turns a success into a failure".to_owned());
                }
                simulation.end(id, &self.speaker);
            }
            _ => {}
        }
        Ok(())
    }
}
