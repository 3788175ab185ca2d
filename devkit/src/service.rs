//! The service itself, within this process: for tests of an SO or of a model whose author has not built its program.

use std::path::Path;
use std::time::Duration;

use crossbeam_channel::Receiver;
use mso::config::{Config, MOUNTED_ACCOUNT, Variables};
use mso::kube::Client;
use mso::service::Service;
use mso::supervise::{End, Supervisor};

use crate::{broker, cluster, wait};

/// For the service to reach its broker, on loopback.
const START_LIMIT: Duration = Duration::from_secs(30);

/// Stopped when dropped; the pods go on.
pub struct Mso {
    service: Option<Service>,
    ends: Receiver<End>,
}

impl Mso {
    /// Hears what is sent to it when this returns. `simulator` is its `SIMULATOR_NAME`, all else is as where nothing is set.
    ///
    /// # Errors
    /// A name that no simulator can have; or the broker does not let it in.
    pub fn start(broker: &broker::Server, cluster: &cluster::Server, simulator: &str) -> Result<Self, String> {
        let config = Config::read(&settings(broker, cluster, simulator), Path::new(MOUNTED_ACCOUNT))
            .map_err(|errors| errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))?;
        let client = Client::new(&config.kubernetes, &config.pods, config.deploy_parallelism)?;
        let (supervisor, ends) = Supervisor::new();
        let service = Service::start(&config, client, &supervisor).map_err(|error| format!("failed to start a thread: {error}"))?;
        let mso = Self { service: Some(service), ends };
        let client_id = format!("mso-{}", config.simulator);
        wait::until(START_LIMIT, || (!broker.subscriptions(&client_id).is_empty()).then_some(()))
            .ok_or_else(|| format!("the service does not subscribe at its broker: {}", broker.log().join("; ")))?;
        Ok(mso)
    }
}

impl Drop for Mso {
    fn drop(&mut self) {
        if let Some(service) = self.service.take()
            && let Err(end) = service.stop(&self.ends)
        {
            log::error!("while the service stopped {end}");
        }
    }
}

/// Those of a service beside this broker and this cluster. All others are as where nothing is set.
pub fn settings(broker: &broker::Server, cluster: &cluster::Server, simulator: &str) -> Variables {
    let settings = [
        ("SIMULATOR_NAME", simulator.to_owned()),
        ("MQTT_HOST", broker.address().ip().to_string()),
        ("MQTT_PORT", broker.address().port().to_string()),
        ("KUBERNETES_HOST", cluster.host().to_owned()),
        ("KUBERNETES_PORT", cluster.port().to_string()),
        ("KUBERNETES_API_TOKEN", cluster.token()),
        ("KUBERNETES_CA_FILE", cluster::CA_FILE.to_owned()),
        // Many of them may run side by side.
        ("STATUS_ADDRESS", "off".to_owned()),
    ];
    settings.map(|(name, value)| (name.to_owned(), value)).into()
}
