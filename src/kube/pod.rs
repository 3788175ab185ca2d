//! The part of a `Pod` that we read, and the `Pod` that we write.
//!
//! What is not named here is skipped while parsing and never held: 10 000 whole pods are 440 MB, these fields of them a few.
//! Names are the API's: <https://kubernetes.io/docs/reference/kubernetes-api/workload-resources/pod-v1/>.

use serde::de::IgnoredAny;
use serde::{Deserialize, Deserializer};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::error::Error;
use crate::clock::UnixTime;
use crate::ids::{DeployId, ModelId, PodName, SimulationId, SimulatorId};
use crate::secret::Secret;

/// Models run where it is.
pub const NODE_LABEL: (&str, &str) = ("type", "worker");

/// Whose pod this is. Every list and watch selects by it, and nothing without it is ever touched.
pub const SIMULATOR_LABEL: &str = "mso.dots/simulator";

/// What stops a pod at once and leaves its log: the least that the API takes. Ours alone set it: no pod is made with a deadline.
pub const STOP_DEADLINE_SECONDS: i64 = 1;

/// Which request a pod came with.
pub const DEPLOY_ANNOTATION: &str = "mso.dots/deploy";

/// How many models that request has; on a first pod that was marked, its simulation.
pub const MODELS_ANNOTATION: &str = "mso.dots/models";

/// How far `ModelsReady` of its simulation is, where no record says it: `no` on each pod, and `sent` on the first one.
pub const MODELS_READY_ANNOTATION: &str = "mso.dots/models-ready";

/// Which of its simulation's models a pod runs, as the record numbers them.
pub const NUMBER_ANNOTATION: &str = "mso.dots/number";

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Pod {
    pub metadata: Metadata,
    pub spec: Spec,
    pub status: Status,
}

impl Pod {
    /// Any JSON object reads as a pod, as each field has a default. Without these two it is none.
    pub(super) fn checked(self) -> Result<Self, Error> {
        if self.metadata.name.is_empty() || self.metadata.uid.is_empty() {
            return Err(Error::Unreadable("a pod without name or uid".to_owned()));
        }
        Ok(self)
    }

    /// Somebody is about to delete it, or has: <https://kubernetes.io/docs/concepts/workloads/pods/disruptions/#pod-disruption-conditions>.
    pub fn disruption(&self) -> Option<&Condition> {
        self.status.conditions.iter().find(|condition| condition.r#type == "DisruptionTarget" && condition.status == "True")
    }
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Metadata {
    pub name: String,
    pub uid: String,
    /// Sent back as it is to resume a watch.
    pub resource_version: String,
    /// When the pod's grace ends, not when the delete was asked for.
    pub deletion_timestamp: Option<Timestamp>,
    pub deletion_grace_period_seconds: Option<u64>,
    pub creation_timestamp: Option<Timestamp>,
    #[serde(deserialize_with = "or_default")]
    pub labels: Labels,
    #[serde(deserialize_with = "or_default")]
    pub annotations: Annotations,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct Labels {
    #[serde(rename = "mso.dots/simulator")]
    pub mark: Option<String>,
    pub simulator_id: Option<String>,
    pub simulation_id: Option<String>,
    pub model_id: Option<String>,
    pub keep_logs_hours: Option<String>,
    pub delete_by_datetime: Option<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct Annotations {
    #[serde(rename = "mso.dots/deploy")]
    pub deploy: Option<String>,
    #[serde(rename = "mso.dots/number")]
    pub number: Option<String>,
    #[serde(rename = "mso.dots/models")]
    pub models: Option<String>,
    #[serde(rename = "mso.dots/models-ready")]
    pub models_ready: Option<String>,
    #[serde(rename = "kubectl.kubernetes.io/default-container")]
    pub default_container: Option<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Spec {
    /// Empty until a node was found.
    pub node_name: String,
    pub active_deadline_seconds: Option<i64>,
    #[serde(deserialize_with = "or_default")]
    pub containers: Vec<Container>,
    /// Ours have none; a webhook may add some.
    #[serde(deserialize_with = "or_default")]
    pub readiness_gates: Vec<IgnoredAny>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct Container {
    pub name: String,
    pub image: String,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Status {
    pub phase: String,
    pub reason: String,
    pub message: String,
    #[serde(deserialize_with = "or_default")]
    pub conditions: Vec<Condition>,
    #[serde(deserialize_with = "or_default")]
    pub container_statuses: Vec<ContainerStatus>,
    /// Ours have none; a webhook may add some.
    #[serde(deserialize_with = "or_default")]
    pub init_container_statuses: Vec<ContainerStatus>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Condition {
    pub r#type: String,
    pub status: String,
    pub reason: String,
    pub message: String,
    pub last_transition_time: Option<Timestamp>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct ContainerStatus {
    pub name: String,
    #[serde(deserialize_with = "or_default")]
    pub state: ContainerState,
    #[serde(deserialize_with = "or_default")]
    pub last_state: ContainerState,
}

/// At most one is there; none is legal and means waiting.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct ContainerState {
    pub waiting: Option<Waiting>,
    pub running: Option<Running>,
    pub terminated: Option<Terminated>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct Waiting {
    pub reason: String,
    pub message: String,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Running {
    pub started_at: Option<Timestamp>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Terminated {
    pub exit_code: i32,
    pub reason: String,
    pub message: String,
    pub finished_at: Option<Timestamp>,
}

/// An RFC 3339 date, as the API writes each of its dates.
#[derive(Clone, Copy, Debug, PartialEq, PartialOrd)]
pub struct Timestamp(pub UnixTime);

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        OffsetDateTime::parse(&text, &Rfc3339).map(|date| Self(date.into())).map_err(serde::de::Error::custom)
    }
}

/// The API writes `null` where a list or a map is empty.
pub(super) fn or_default<'de, D: Deserializer<'de>, T: Default + Deserialize<'de>>(deserializer: D) -> Result<T, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

/// A pod to create: what differs from model to model. What all have in common is in [`PodSettings`](crate::config::PodSettings).
#[derive(Clone, Debug, PartialEq)]
pub struct NewPod {
    pub name: PodName,
    pub simulator: SimulatorId,
    pub simulation: SimulationId,
    pub model: ModelId,
    /// In its simulation, through the requests in order.
    pub number: usize,
    pub deploy: DeployId,
    /// How many models the request has that this one came with.
    pub models: usize,
    pub keep_logs_hours: f64,
    /// Its request is in the simulation's record.
    pub is_recorded: bool,
    pub image: String,
    /// In the request's order, each name once.
    pub variables: Vec<Variable>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Variable {
    pub name: String,
    pub value: Secret,
}
