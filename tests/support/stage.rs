//! All that one test needs: its namespace, its simulator name, its SO; and simulations on it.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use mso::proto::{DeployModels, EnvironmentVariable, ModelConfiguration};
use prost::Message;

use super::broker::Broker;
use super::cluster::{Namespace, api_address};
use super::service::{Service, Settings};
use super::so::{Heard, So};
use super::{LIMIT, model_image, unique};

/// What every request of these tests names.
pub(crate) const SIMULATOR_ID: &str = "Test-SO";

/// The payload of `ModelHasTerminated` for a model that failed with -1.
pub(crate) const FAILED_WITHOUT_CODE: &str = "08 01 10 ff ff ff ff ff ff ff ff ff 01";

pub(crate) struct Stage {
    pub(crate) namespace: Arc<Namespace>,
    pub(crate) broker: Arc<Broker>,
    /// `SIMULATOR_NAME`.
    pub(crate) simulator: String,
    pub(crate) so: So,
    /// For the CA's file and others.
    pub(crate) folder: PathBuf,
}

impl Stage {
    pub(crate) fn new() -> Self {
        Self::on(Broker::shared())
    }

    pub(crate) fn on(broker: Broker) -> Self {
        Self::of(Arc::new(Namespace::with_account()), Arc::new(broker))
    }

    /// Another simulator in the same namespace.
    pub(crate) fn beside(&self) -> Self {
        Self::of(self.namespace.clone(), self.broker.clone())
    }

    fn of(namespace: Arc<Namespace>, broker: Arc<Broker>) -> Self {
        let simulator = format!("so-{}", unique());
        let so = So::connect(&broker, &simulator);
        let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(&simulator);
        std::fs::create_dir_all(&folder).expect("the test's folder can be made");
        std::fs::write(folder.join("ca.crt"), namespace.ca()).expect("the CA can be written");
        Self { namespace, broker, simulator, so, folder }
    }

    /// Those with which the service runs outside of the cluster.
    pub(crate) fn settings(&self) -> Settings {
        let (api_host, api_port) = api_address();
        let settings = [
            ("SIMULATOR_NAME", self.simulator.clone()),
            ("KUBERNETES_HOST", api_host),
            ("KUBERNETES_PORT", api_port),
            ("KUBERNETES_NAMESPACE", self.namespace.name.clone()),
            ("KUBERNETES_API_TOKEN", self.namespace.token("mso")),
            ("KUBERNETES_CA_FILE", self.file("ca.crt")),
            ("MQTT_HOST", self.broker.host.clone()),
            ("MQTT_PORT", self.broker.port.to_string()),
            ("LOG_LEVEL", "DEBUG".to_owned()),
        ];
        settings.map(|(name, value)| (name.to_owned(), value)).into()
    }

    pub(crate) fn start_mso(&self) -> Service {
        Service::start(&self.settings())
    }

    pub(crate) fn file(&self, name: &str) -> String {
        self.folder.join(name).display().to_string()
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
        let _ = std::fs::remove_dir_all(&self.folder);
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
        let variable = |&(name, value): &(&str, &str)| EnvironmentVariable { name: name.to_owned(), value: value.to_owned() };
        ModelConfiguration {
            model_id: id.to_owned(),
            image_url: model_image(),
            environment_variables: connection.iter().chain(variables).map(variable).collect(),
        }
    }

    pub(crate) fn request(&self, keep_logs_hours: f64, models: Vec<ModelConfiguration>) -> DeployModels {
        DeployModels { simulator_id: SIMULATOR_ID.to_owned(), model_configurations: models, keep_logs_hours }
    }

    /// Models that are ready at once and end when they are told to.
    pub(crate) fn deploy(&self, keep_logs_hours: f64, models: &[&str]) {
        self.send(&self.request(keep_logs_hours, models.iter().map(|id| self.model(id, &[])).collect()));
    }

    pub(crate) fn send(&self, request: &DeployModels) {
        self.send_bytes(request.encode_to_vec());
    }

    pub(crate) fn send_bytes(&self, payload: Vec<u8>) {
        self.stage.so.publish(&format!("/lifecycle/{}/mso/{}/DeployModels", self.stage.simulator, self.id), payload);
    }

    /// As the SO ends a simulation.
    pub(crate) fn end_models(&self, models: &[&str]) {
        for model in models {
            self.stage.so.publish(&format!("/lifecycle/{}/model/{}/{model}/SimulationDone", self.stage.simulator, self.id), Vec::new());
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

    fn shown(&self, heard: &Heard) -> Option<String> {
        let rest = heard.topic.strip_prefix(&format!("/lifecycle/mso/{}/{}/", self.stage.simulator, self.id))?;
        let bytes: String = heard.payload.iter().map(|byte| format!(" {byte:02x}")).collect();
        let retained = if heard.retained { " retained" } else { "" };
        Some(format!("{rest}{bytes}{retained}"))
    }
}
