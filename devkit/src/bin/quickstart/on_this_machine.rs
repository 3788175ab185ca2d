//! The demonstration's surroundings on this machine: devkit's broker and cluster, and the service as a process.

use std::path::PathBuf;
use std::process::Command;

use devkit::program::{Program, build};
use devkit::service::settings;
use devkit::so::{Session, So};
use devkit::{broker, cluster};

use crate::SIMULATOR;
use crate::screen::{Screen, Style};
use crate::story::Stage;

/// The fake model's.
const IMAGE: &str = "fake-model";

pub(crate) struct OnThisMachine {
    // In the order in which they end.
    pub(crate) stage: Stage,
    _cluster: cluster::Server,
    _broker: broker::Server,
    folder: PathBuf,
}

impl OnThisMachine {
    /// # Errors
    /// The programs do not build, or a port or process is not to be had.
    pub(crate) fn start(screen: Screen) -> Result<Self, String> {
        screen.line(Style::Dim, "Building mso and the fake model …");
        let (program, fake_model) = (build("mso", "mso")?, build("devkit", "fake-model")?);
        let failed = |what: &'static str| move |error: std::io::Error| format!("{what}: {error}");
        let broker = broker::Server::start().map_err(failed("the broker"))?;
        let images = [(IMAGE.to_owned(), cluster::Image::of(fake_model))];
        let cluster = cluster::Server::start(images.into()).map_err(failed("the cluster"))?;
        let (host, port) = (broker.address().ip().to_string(), broker.address().port());
        let so = So::connect(&host, port, "quickstart", SIMULATOR, Session::Clean)?;

        // No settings of the person who tries this, nor a .env of anybody's.
        let folder = std::env::temp_dir().join(format!("mso-quickstart-{}", std::process::id()));
        std::fs::create_dir(&folder).map_err(failed("a folder for mso"))?;
        let mut command = Command::new(program);
        command.env_clear().envs(settings(&broker, &cluster, SIMULATOR)).current_dir(&folder);
        let mso = Program::start(&mut command).map_err(failed("mso"))?;
        screen.follow(mso.output.clone())?;

        let api = cluster.api();
        let pods = move |simulation: &str| {
            let list = api.get(&format!("/api/v1/namespaces/dots/pods?labelSelector=simulation_id%3D{simulation}"));
            let list = list.map_err(|error| error.to_string())?.body;
            let name = |pod: &serde_json::Value| pod["metadata"]["name"].as_str().unwrap_or_default().to_owned();
            Ok(list["items"].as_array().into_iter().flatten().map(name).collect())
        };
        let stage = Stage { so, mso, image: IMAGE.to_owned(), broker: (host, port), pods: Box::new(pods) };
        Ok(Self { stage, _cluster: cluster, _broker: broker, folder })
    }
}

impl Drop for OnThisMachine {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir(&self.folder);
    }
}
