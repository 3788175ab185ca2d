//! How long what stands in the way of a model may do so before the model is given up.

use std::time::Duration;

/// `None`: for ever.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// No node takes the pod. An autoscaler needs minutes.
    pub unschedulable: Option<Duration>,
    /// Sandbox, volumes, network; and the pull of a large image.
    pub container_creating: Option<Duration>,
    /// The image cannot be pulled: a tag may be pushed yet, and a registry comes back.
    pub image_pull: Option<Duration>,
    /// The image's name is none, or it is not to be used.
    pub image_unusable: Option<Duration>,
    pub image_inspect: Option<Duration>,
    /// A Secret or ConfigMap that is not there, or a variable that cannot be set.
    pub container_config: Option<Duration>,
    /// The same, where it waits for a volume.
    pub volume_subpath: Option<Duration>,
    /// The container runtime or a hook fails.
    pub container_start: Option<Duration>,
    /// The API server is away, or a webhook before it.
    pub api: Option<Duration>,
    /// A right is missing, or the token is not valid: each is given within moments, or not at all.
    pub denied: Option<Duration>,
    /// Other simulations end and give their quota back.
    pub quota: Option<Duration>,
    /// The container runs, and its model does not say that it is ready.
    pub ready: Option<Duration>,
    /// A pod that somebody deleted is still there, after its grace.
    pub terminating: Option<Duration>,
    /// The node of a pod does not report. It may come back, and the container with it.
    pub node_lost: Option<Duration>,
    /// A model that was ready goes on after `SimulationDone`: it may write its results.
    pub done: Option<Duration>,
    /// A simulation lives, from its request on: an SO may be gone for good.
    pub simulation: Option<Duration>,
}

/// A setting in seconds, and what it is where it is not set; 0 is for ever.
pub(super) struct Setting {
    pub name: &'static str,
    pub seconds: usize,
    pub of: fn(&mut Limits) -> &mut Option<Duration>,
}

pub(super) const SETTINGS: [Setting; 16] = [
    Setting { name: "UNSCHEDULABLE_TIMEOUT", seconds: 1800, of: |limits| &mut limits.unschedulable },
    Setting { name: "CONTAINER_CREATING_TIMEOUT", seconds: 900, of: |limits| &mut limits.container_creating },
    Setting { name: "IMAGE_PULL_TIMEOUT", seconds: 300, of: |limits| &mut limits.image_pull },
    Setting { name: "IMAGE_UNUSABLE_TIMEOUT", seconds: 5, of: |limits| &mut limits.image_unusable },
    Setting { name: "IMAGE_INSPECT_TIMEOUT", seconds: 120, of: |limits| &mut limits.image_inspect },
    Setting { name: "CONTAINER_CONFIG_TIMEOUT", seconds: 60, of: |limits| &mut limits.container_config },
    Setting { name: "VOLUME_SUBPATH_TIMEOUT", seconds: 600, of: |limits| &mut limits.volume_subpath },
    Setting { name: "CONTAINER_START_TIMEOUT", seconds: 120, of: |limits| &mut limits.container_start },
    Setting { name: "API_TIMEOUT", seconds: 300, of: |limits| &mut limits.api },
    Setting { name: "DENIED_TIMEOUT", seconds: 120, of: |limits| &mut limits.denied },
    Setting { name: "QUOTA_TIMEOUT", seconds: 900, of: |limits| &mut limits.quota },
    Setting { name: "READY_TIMEOUT", seconds: 0, of: |limits| &mut limits.ready },
    Setting { name: "TERMINATING_TIMEOUT", seconds: 60, of: |limits| &mut limits.terminating },
    Setting { name: "NODE_LOST_TIMEOUT", seconds: 0, of: |limits| &mut limits.node_lost },
    Setting { name: "DONE_GRACE", seconds: 0, of: |limits| &mut limits.done },
    Setting { name: "SIMULATION_TIMEOUT", seconds: 0, of: |limits| &mut limits.simulation },
];

impl Limits {
    const NONE: Self = Self {
        unschedulable: None,
        container_creating: None,
        image_pull: None,
        image_unusable: None,
        image_inspect: None,
        container_config: None,
        volume_subpath: None,
        container_start: None,
        api: None,
        denied: None,
        quota: None,
        ready: None,
        terminating: None,
        node_lost: None,
        done: None,
        simulation: None,
    };

    /// Each as it may be set.
    pub(super) fn settings(&self) -> impl Iterator<Item = (&'static str, String)> {
        let mut limits = self.clone();
        SETTINGS.iter().map(move |setting| (setting.name, (setting.of)(&mut limits).map_or(0, |limit| limit.as_secs()).to_string()))
    }

    pub(super) fn set(&mut self, setting: &Setting, seconds: usize) {
        *(setting.of)(self) = (seconds > 0).then(|| Duration::from_secs(seconds as u64));
    }
}

impl Default for Limits {
    fn default() -> Self {
        let mut limits = Self::NONE;
        SETTINGS.iter().for_each(|setting| limits.set(setting, setting.seconds));
        limits
    }
}
