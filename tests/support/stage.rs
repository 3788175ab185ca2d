//! All that one test needs: its broker, its namespace, its simulator name, its SO; and simulations on it.

use std::sync::Arc;
use std::time::Duration;

use mso::proto::{DeployModels, ErrorOccurred, ModelConfiguration, ModelHasTerminated};
use prost::Message;

use devkit::so::{Heard, Session, So, model_configuration};

use super::broker::Broker;
use super::namespace::Namespace;
use super::service::{Service, Settings};
use super::{Ground, LIMIT, ground, unique};

/// What every request of these tests names.
pub(crate) const SIMULATOR_ID: &str = "Test-SO";

/// The payload of `ModelHasTerminated` for a model that failed with -1.
pub(crate) const FAILED_WITHOUT_CODE: &str = "08 01 10 ff ff ff ff ff ff ff ff ff 01";

/// As upstream's lifecycle.proto defines it.
#[derive(Clone, PartialEq, prost::Message)]
struct UpstreamModelHasTerminated {
    #[prost(int32, tag = "1")]
    status: i32,
    #[prost(int32, tag = "2")]
    exit_code: i32,
}

pub(crate) struct Stage {
    ground: Ground,
    // Ends before its broker does.
    pub(crate) so: So,
    pub(crate) namespace: Arc<Namespace>,
    pub(crate) broker: Arc<Broker>,
    /// `SIMULATOR_NAME`.
    pub(crate) simulator: String,
}

impl Stage {
    pub(crate) fn new() -> Self {
        Self::on(ground())
    }

    /// For what only one of the grounds can play.
    pub(crate) fn on(ground: Ground) -> Self {
        Self::of(ground, Arc::new(Namespace::with_account(ground)), Arc::new(Broker::shared(ground)), Session::Clean)
    }

    /// With a broker that may be killed, which takes nothing from the SO.
    pub(crate) fn with_own_broker() -> Self {
        Self::with_lasting_session_in(Broker::own(ground()))
    }

    /// With a broker that passes more to the service than that takes.
    pub(crate) fn with_broker_that_passes_what_is_too_large() -> Self {
        Self::with_lasting_session_in(Broker::that_passes_what_is_too_large(ground()))
    }

    fn with_lasting_session_in(broker: Broker) -> Self {
        Self::of(ground(), Arc::new(Namespace::with_account(ground())), Arc::new(broker), Session::Lasting)
    }

    /// In a real namespace, with a broker in it.
    pub(crate) fn with_broker_in(namespace: Namespace, broker: Broker) -> Self {
        Self::of(Ground::Real, Arc::new(namespace), Arc::new(broker), Session::Clean)
    }

    /// Another simulator in the same namespace.
    pub(crate) fn beside(&self) -> Self {
        Self::of(self.ground, self.namespace.clone(), self.broker.clone(), Session::Clean)
    }

    fn of(ground: Ground, namespace: Arc<Namespace>, broker: Arc<Broker>, session: Session) -> Self {
        let simulator = format!("so-{}", unique());
        let so = So::connect(&broker.host, broker.port, &simulator, &simulator, session).expect("the broker takes the SO");
        Self { ground, namespace, broker, simulator, so }
    }

    /// Those with which the service runs outside of the cluster.
    pub(crate) fn settings(&self) -> Settings {
        let (api_host, api_port) = self.namespace.api_address();
        let settings = [
            ("SIMULATOR_NAME", self.simulator.clone()),
            ("KUBERNETES_HOST", api_host),
            ("KUBERNETES_PORT", api_port.to_string()),
            ("KUBERNETES_NAMESPACE", self.namespace.name.clone()),
            ("KUBERNETES_API_TOKEN", self.namespace.token()),
            ("KUBERNETES_CA_FILE", self.namespace.ca_file().display().to_string()),
            ("MQTT_HOST", self.broker.host.clone()),
            ("MQTT_PORT", self.broker.port.to_string()),
            // Others run beside it.
            ("STATUS_ADDRESS", "off".to_owned()),
            ("LOG_LEVEL", "DEBUG".to_owned()),
        ];
        settings.map(|(name, value)| (name.to_owned(), value)).into()
    }

    pub(crate) fn start_mso(&self) -> Service {
        Service::start(&self.settings())
    }

    /// With one setting more.
    pub(crate) fn start_mso_with(&self, setting: &str, value: &str) -> Service {
        let mut settings = self.settings();
        settings.insert(setting.to_owned(), value.to_owned());
        Service::start(&settings)
    }

    pub(crate) fn model_image(&self) -> String {
        self.ground.model_image()
    }

    pub(crate) fn simulation(&self) -> Simulation<'_> {
        self.simulation_called(&format!("Sim-{}", unique()))
    }

    pub(crate) fn simulation_called(&self, id: &str) -> Simulation<'_> {
        Simulation { stage: self, id: id.to_owned() }
    }

    /// The service still does its work: a simulation with one model runs to its end, and its pod goes.
    pub(crate) fn run_one_more(&self) {
        let simulation = self.simulation();
        simulation.deploy(0.0, &["model-0"]);
        simulation.hear("ModelsReady");
        simulation.end_models(&["model-0"]);
        simulation.hear("AllModelsHaveTerminated");
        assert_eq!(simulation.heard(), ["ModelsReady", "model-0/ModelHasTerminated", "AllModelsHaveTerminated"]);
        self.namespace.wait_until_gone(&simulation.pod_name("model-0"));
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        let complaints = self.so.complaints();
        if std::thread::panicking() {
            eprintln!("what the SO heard:");
            self.so.heard.read(|heard| heard.iter().for_each(|heard| eprintln!("{:.3} {} {:?}", heard.at.0, heard.topic, heard.payload)));
            eprintln!("what would have broken an SO in use: {complaints:?}");
            eprintln!("the log of the broker:\n{}", self.broker.log());
            eprintln!("the log of the cluster:\n{}", self.namespace.cluster_log());
            eprintln!("the pods:\n{}", self.namespace.describe_pods());
        } else {
            assert!(complaints.is_empty(), "an SO in use would have failed: {complaints:#?}");
        }
    }
}

pub(crate) struct Simulation<'a> {
    stage: &'a Stage,
    pub(crate) id: String,
}

impl Simulation<'_> {
    /// A fake model; what `variables` tell it, src/bin/fake-model.rs of devkit says.
    pub(crate) fn model(&self, id: &str, variables: &[(&str, &str)]) -> ModelConfiguration {
        let port = self.stage.broker.pod_port.to_string();
        let connection =
            [("MQTT_HOST", self.stage.broker.pod_host.as_str()), ("MQTT_PORT", &port), ("SIMULATION_ID", &self.id), ("MODEL_ID", id)];
        model_configuration(id, &self.stage.model_image(), connection.iter().chain(variables).copied())
    }

    pub(crate) fn request(&self, keep_logs_hours: f64, models: Vec<ModelConfiguration>) -> DeployModels {
        DeployModels { simulator_id: SIMULATOR_ID.to_owned(), model_configurations: models, keep_logs_hours }
    }

    /// Models that are ready at once and end when they are told to.
    pub(crate) fn deploy(&self, keep_logs_hours: f64, models: &[&str]) {
        self.send(&self.request(keep_logs_hours, models.iter().map(|id| self.model(id, &[])).collect()));
    }

    pub(crate) fn send(&self, request: &DeployModels) {
        self.stage.so.deploy(&self.id, request);
    }

    pub(crate) fn send_bytes(&self, payload: Vec<u8>) {
        self.stage.so.deploy_bytes(&self.id, payload);
    }

    /// As the SO ends a simulation.
    pub(crate) fn end_models(&self, models: &[&str]) {
        for model in models {
            self.stage.so.end(&self.id, model);
        }
    }

    pub(crate) fn pod_name(&self, model: &str) -> String {
        format!("{SIMULATOR_ID}-{}-{model}", self.id).to_lowercase()
    }

    /// Waits for a message, as [`Simulation::heard`] writes it.
    pub(crate) fn hear(&self, message: &str) -> Heard {
        self.hear_within(LIMIT, message)
    }

    pub(crate) fn hear_within(&self, limit: Duration, message: &str) -> Heard {
        let find = |heard: &[Heard]| heard.iter().find(|heard| self.shown(heard).as_deref() == Some(message)).cloned();
        self.stage.so.heard.wait(limit, find).unwrap_or_else(|| panic!("waited in vain for {message:?}; heard: {:#?}", self.heard()))
    }

    /// All messages of this simulation, in order: what follows the simulation's id in the topic, and the payload's bytes.
    pub(crate) fn heard(&self) -> Vec<String> {
        self.stage.so.heard.read(|heard| heard.iter().filter_map(|heard| self.shown(heard)).collect())
    }

    /// The same, where the order in which models ended does not matter.
    pub(crate) fn heard_sorted(&self) -> Vec<String> {
        let mut heard = self.heard();
        heard.sort();
        heard
    }

    /// What the SO was told of why a model failed: the short name, and what is for a person.
    pub(crate) fn why(&self, model: &str) -> (String, String) {
        let of_model = |heard: &&Heard| heard.end().is_some_and(|(of, _)| of == model) && self.shown(heard).is_some();
        let told = |heard: &[Heard]| heard.iter().find(of_model).map(|heard| heard.payload.clone());
        let payload = self.stage.so.heard.wait(LIMIT, told).unwrap_or_else(|| panic!("no end of {model}; heard: {:#?}", self.heard()));
        let end = ModelHasTerminated::decode(payload.as_slice()).expect("it is one");
        (end.reason, end.message)
    }

    /// What the SO shows to its user of a simulation that failed.
    pub(crate) fn error(&self) -> String {
        let topic = format!("/lifecycle/mso/{}/{}/", self.stage.simulator, self.id);
        let is_error = |heard: &&Heard| heard.topic.starts_with(&topic) && heard.topic.ends_with("/ErrorOccurred");
        let told = |heard: &[Heard]| heard.iter().find(is_error).map(|heard| heard.payload.clone());
        let payload = self.stage.so.heard.wait(LIMIT, told).unwrap_or_else(|| panic!("no error; heard: {:#?}", self.heard()));
        ErrorOccurred::decode(payload.as_slice()).expect("it is one").error_message
    }

    fn shown(&self, heard: &Heard) -> Option<String> {
        let rest = heard.topic.strip_prefix(&format!("/lifecycle/mso/{}/{}/", self.stage.simulator, self.id))?;
        if let Some(of_model) = rest.strip_suffix("/ErrorOccurred") {
            ErrorOccurred::decode(heard.payload.as_slice()).expect("it is one");
            return Some(format!("{of_model}/ErrorOccurred"));
        }
        let payload = match heard.end() {
            // What a receiver of before makes of it.
            Some(_) => {
                UpstreamModelHasTerminated::decode(heard.payload.as_slice()).expect("it skips what it does not know").encode_to_vec()
            }
            None => heard.payload.clone(),
        };
        let bytes: String = payload.iter().map(|byte| format!(" {byte:02x}")).collect();
        Some(format!("{rest}{bytes}"))
    }
}
