//! What keeps a model from its work, or threatens it, as its pod says it: the table, read from top to bottom. Pure.
//!
//! The words are the kubelet's and the scheduler's:
//! <https://github.com/kubernetes/kubernetes/blob/master/pkg/kubelet/images/types.go>,
//! <https://github.com/kubernetes/kubernetes/blob/master/pkg/kubelet/kuberuntime/kuberuntime_container.go>.

use std::time::Duration;

use super::pod_state::one_line;
use crate::clock::UnixTime;
use crate::config::Limits;
use crate::kube::pod::{Condition, ContainerStatus, NODE_LABEL, Pod, Waiting};

/// What stands in the way. How long it may, [`Limits`] say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// No node takes it.
    Unschedulable,
    /// Somebody holds it back on purpose, and will let it go.
    Gated,
    /// The sandbox, the volumes, the network, the image: the kubelet is at it.
    Creating,
    ImagePull,
    /// The kubelet's own limit for pulls, which passes.
    ImagePullHeld,
    /// No try will make it better.
    ImageUnusable,
    ImageInspect,
    ContainerConfig,
    /// It needs what is slow to come.
    VolumeSubpath,
    ContainerStart,
    /// The container runs. Its model may load for long, and is none that stands in the way once it is ready.
    NotReady,
    /// Somebody deletes the pod; it has this grace.
    Terminating(Duration),
    /// The node does not report: the container may run or not.
    NodeLost,
    /// The pod is about to be evicted, preempted or deleted, as its condition says.
    Disruption,
}

/// Anybody may set centuries, which a clock cannot count.
const LONGEST_GRACE: Duration = Duration::from_secs(365 * 24 * 60 * 60);

impl Kind {
    /// Both are about the pull of an image, in which the time of one does not count.
    pub fn is_pull(self) -> bool {
        matches!(self, Self::ImagePull | Self::ImagePullHeld)
    }

    /// `None`: for ever.
    pub fn limit(self, limits: &Limits) -> Option<Duration> {
        match self {
            Self::Unschedulable => limits.unschedulable,
            Self::Gated | Self::ImagePullHeld | Self::Disruption => None,
            Self::Creating => limits.container_creating,
            Self::ImagePull => limits.image_pull,
            Self::ImageUnusable => limits.image_unusable,
            Self::ImageInspect => limits.image_inspect,
            Self::ContainerConfig => limits.container_config,
            Self::VolumeSubpath => limits.volume_subpath,
            Self::ContainerStart => limits.container_start,
            Self::NotReady => limits.ready,
            Self::Terminating(grace) => limits.terminating.map(|limit| grace.min(LONGEST_GRACE) + limit),
            Self::NodeLost => limits.node_lost,
        }
    }

    /// Of the pod, whatever its model does: also of one that is ready.
    pub fn is_of_pod(self) -> bool {
        matches!(self, Self::Terminating(_) | Self::NodeLost | Self::Disruption)
    }

    /// The model's container has not run.
    pub fn is_before_the_run(self) -> bool {
        self != Self::NotReady && !self.is_of_pod()
    }

    /// What is said of models that have it.
    pub fn state(self) -> &'static str {
        if self.is_of_pod() { "are in danger" } else { "wait" }
    }

    pub fn state_when_over(self) -> &'static str {
        if self.is_of_pod() { "are in danger no more" } else { "do not wait any more" }
    }

    /// How long it is nothing special. What should not be is said at once.
    pub fn warn_after(self) -> Duration {
        match self {
            // An autoscaler needs minutes, and a scheduler that is busy some seconds.
            Self::Unschedulable | Self::Gated => Duration::from_secs(30),
            Self::Creating => Duration::from_secs(2 * 60),
            Self::NotReady => Duration::from_secs(5 * 60),
            Self::ImagePull
            | Self::ImagePullHeld
            | Self::ImageUnusable
            | Self::ImageInspect
            | Self::ContainerConfig
            | Self::VolumeSubpath
            | Self::ContainerStart
            | Self::Terminating(_)
            | Self::NodeLost
            | Self::Disruption => Duration::ZERO,
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Obstacle {
    pub kind: Kind,
    /// As kubectl shows it.
    pub reason: String,
    /// For a person, one line: what is in the way, and where to look.
    pub message: String,
}

/// What keeps the model in `container` of this pod from its work; none where it has ended, or waits for its turn at the scheduler.
pub fn of(pod: &Pod, container: &str) -> Option<Obstacle> {
    if let Some(threat) = threat(pod) {
        return Some(threat);
    }
    let status = &pod.status;
    let model = status.container_statuses.iter().find(|status| status.name == container);
    if model.is_some_and(|model| model.state.running.is_some()) {
        let message = "its container runs, and has not said that it is ready: its log may say why".to_owned();
        return Some(Obstacle { kind: Kind::NotReady, reason: "WaitingForReady".to_owned(), message });
    }
    if model.is_some_and(|model| model.state.terminated.is_some()) {
        return None;
    }
    // Before the model begins these hold it up; a sidecar among them goes on beside it, and is nobody's business then.
    if let Some((init, waiting)) = status.init_container_statuses.iter().find_map(|init| Some((init, waiting(init)?))) {
        return Some(of_waiting(waiting, pod, &format!("init container {}: ", init.name)));
    }
    if let Some(waiting) = model.and_then(waiting) {
        return Some(of_waiting(waiting, pod, ""));
    }
    if status.phase == "Running" {
        return None;
    }
    match scheduled(pod) {
        Some(condition) if condition.status == "False" => Some(of_scheduler(condition)),
        Some(_) => Some(creating(pod, "ContainerCreating", "")),
        // Nobody has looked at it yet.
        None if pod.spec.node_name.is_empty() => None,
        None => Some(creating(pod, "ContainerCreating", "")),
    }
}

/// What threatens a pod that has not ended.
fn threat(pod: &Pod) -> Option<Obstacle> {
    let node = &pod.spec.node_name;
    let why = why_it_goes(pod).map(|why| format!(" ({why})")).unwrap_or_default();
    if pod.metadata.deletion_timestamp.is_some() {
        let grace = Duration::from_secs(pod.metadata.deletion_grace_period_seconds.unwrap_or_default());
        let message = format!("somebody deletes its pod{why}; where it does not go, node {node} is out of reach, or a finalizer holds it");
        return Some(Obstacle { kind: Kind::Terminating(grace), reason: "PodDeleted".to_owned(), message });
    }
    if is_of_lost_node(pod) {
        let message = format!("node {node} does not report: whether the container runs is not known");
        return Some(Obstacle { kind: Kind::NodeLost, reason: "NodeNotReady".to_owned(), message });
    }
    if !["Pending", "Running", "Succeeded", "Failed", ""].contains(&pod.status.phase.as_str()) {
        let message = format!("its pod has phase {:?}, which says nothing", one_line(&pod.status.phase));
        return Some(Obstacle { kind: Kind::NodeLost, reason: "UnexpectedPhase".to_owned(), message });
    }
    let why = why_it_goes(pod)?;
    Some(Obstacle { kind: Kind::Disruption, reason: "Disruption".to_owned(), message: format!("its pod is about to go ({why})") })
}

/// The node controller sets `Ready` to false and nothing else, and the kubelet never does one without the other, unless somebody added a
/// gate: <https://github.com/kubernetes/kubernetes/blob/v1.34.0/pkg/controller/util/node/controller_utils.go#L78>
fn is_of_lost_node(pod: &Pod) -> bool {
    let is = |r#type: &str, status: &str| pod.status.conditions.iter().any(|it| it.r#type == r#type && it.status == status);
    is("Ready", "False") && is("ContainersReady", "True") && pod.spec.readiness_gates.is_empty()
}

/// In words, where its disruption is announced.
pub fn why_it_goes(pod: &Pod) -> Option<String> {
    let condition = pod.disruption()?;
    Some(format!("{}: {}", condition.reason, one_line(&condition.message)))
}

/// When the kubelet began; when the pod was made, where no node takes it; when the container began, where it runs.
pub fn since(pod: &Pod, container: &str, kind: Kind) -> Option<UnixTime> {
    let created = pod.metadata.creation_timestamp;
    let began = match kind {
        Kind::Unschedulable | Kind::Gated => created,
        Kind::Terminating(grace) => {
            let gone_by = pod.metadata.deletion_timestamp?;
            return Some(gone_by.0.plus_seconds(-grace.as_secs_f64()));
        }
        // Nobody says.
        Kind::NodeLost | Kind::Disruption => None,
        Kind::NotReady => {
            let model = pod.status.container_statuses.iter().find(|status| status.name == container);
            model.and_then(|model| model.state.running.as_ref()).and_then(|running| running.started_at)
        }
        _ => scheduled(pod).and_then(|condition| condition.last_transition_time).or(created),
    };
    began.map(|at| at.0)
}

fn scheduled(pod: &Pod) -> Option<&Condition> {
    pod.status.conditions.iter().find(|condition| condition.r#type == "PodScheduled")
}

/// A state that says nothing means waiting.
fn waiting(status: &ContainerStatus) -> Option<&Waiting> {
    status.state.waiting.as_ref().filter(|waiting| !["", "PodInitializing"].contains(&waiting.reason.as_str()))
}

fn of_scheduler(condition: &Condition) -> Obstacle {
    let (label, value) = NODE_LABEL;
    let said = one_line(&condition.message);
    let asks_for_label = ["node affinity", "node selector"].iter().any(|words| said.contains(words));
    let hint = if asks_for_label { format!("; is there a node with the label {label}={value}?") } else { String::new() };
    let kind = if condition.reason == "SchedulingGated" { Kind::Gated } else { Kind::Unschedulable };
    Obstacle { kind, reason: condition.reason.clone(), message: said + &hint }
}

fn of_waiting(waiting: &Waiting, pod: &Pod, whose: &str) -> Obstacle {
    let said = one_line(&waiting.message);
    let kind = match waiting.reason.as_str() {
        "ErrImagePull" | "ImagePullBackOff" if said.contains("pull QPS exceeded") => Kind::ImagePullHeld,
        "ErrImagePull" | "ImagePullBackOff" | "RegistryUnavailable" => Kind::ImagePull,
        "InvalidImageName" | "ErrImageNeverPull" | "SignatureValidationFailed" => Kind::ImageUnusable,
        "ImageInspectError" => Kind::ImageInspect,
        "CreateContainerConfigError" if is_slow_volume(&said) => Kind::VolumeSubpath,
        "CreateContainerConfigError" => Kind::ContainerConfig,
        "CreateContainerError" | "RunContainerError" | "PreCreateHookError" | "PreStartHookError" | "PostStartHookError" => {
            Kind::ContainerStart
        }
        _ => return creating(pod, &waiting.reason, &format!("{whose}{said}")),
    };
    let hint = match kind {
        Kind::ImagePull if ["connection refused", "no such host", "i/o timeout"].iter().any(|words| said.contains(words)) => {
            "; does the node reach the image's registry?"
        }
        Kind::ImagePull => "; does the tag exist, and may the node pull it (KUBERNETES_PULL_IMAGE_SECRET_NAME)?",
        Kind::ImageUnusable => "; no try will make it better",
        _ => "",
    };
    Obstacle { kind, reason: waiting.reason.clone(), message: format!("{whose}{said}{hint}") }
}

fn is_slow_volume(said: &str) -> bool {
    said.contains("failed to create subPath directory") || said.contains("context deadline exceeded")
}

fn creating(pod: &Pod, reason: &str, said: &str) -> Obstacle {
    let said = if said.is_empty() { format!("the kubelet of node {} is at it", pod.spec.node_name) } else { said.to_owned() };
    Obstacle { kind: Kind::Creating, reason: reason.to_owned(), message: said }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn pod(status: &Value) -> Pod {
        let metadata = json!({"name": "p", "uid": "u", "creationTimestamp": "2026-01-01T12:00:00Z"});
        serde_json::from_value(json!({"metadata": metadata, "spec": {"nodeName": "n1"}, "status": status})).unwrap()
    }

    fn scheduled() -> Value {
        json!([{"type": "PodScheduled", "status": "True", "lastTransitionTime": "2026-01-01T12:00:30Z"}])
    }

    fn waiting(reason: &str, message: &str) -> Option<Obstacle> {
        let state = json!({"waiting": {"reason": reason, "message": message}});
        let statuses = json!([{"name": "sidecar", "state": {"running": {}}}, {"name": "p", "state": state}]);
        of(&pod(&json!({"phase": "Pending", "conditions": scheduled(), "containerStatuses": statuses})), "p")
    }

    fn unscheduled(reason: &str, message: &str) -> Option<Obstacle> {
        let condition = json!({"type": "PodScheduled", "status": "False", "reason": reason, "message": message});
        of(&pod(&json!({"phase": "Pending", "conditions": [condition]})), "p")
    }

    fn obstacle(kind: Kind, reason: &str, message: &str) -> Option<Obstacle> {
        Some(Obstacle { kind, reason: reason.to_owned(), message: message.to_owned() })
    }

    #[test]
    fn row_15_a_pod_at_which_no_scheduler_has_looked_has_no_obstacle() {
        let mut pod = pod(&json!({"phase": "Pending"}));
        pod.spec.node_name.clear();
        assert_eq!(of(&pod, "p"), None);
    }

    #[test]
    fn row_16_unschedulable_and_where_it_asks_for_the_label_a_hint() {
        assert_eq!(
            unscheduled("Unschedulable", "0/1 nodes are available: 1 node(s) didn't match Pod's node affinity/selector."),
            obstacle(
                Kind::Unschedulable,
                "Unschedulable",
                "0/1 nodes are available: 1 node(s) didn't match Pod's node affinity/selector.; is there a node with the label type=worker?"
            )
        );
        let full = "0/1 nodes are available: 1 Insufficient cpu.";
        assert_eq!(unscheduled("Unschedulable", full), obstacle(Kind::Unschedulable, "Unschedulable", full));
    }

    #[test]
    fn row_17_gated_never_times_out_and_a_scheduler_error_does() {
        assert_eq!(unscheduled("SchedulingGated", "g"), obstacle(Kind::Gated, "SchedulingGated", "g"));
        assert_eq!(Kind::Gated.limit(&Limits::default()), None);
        assert_eq!(unscheduled("SchedulerError", "e"), obstacle(Kind::Unschedulable, "SchedulerError", "e"));
    }

    #[test]
    fn row_18_container_creating_an_empty_state_and_no_statuses_are_one() {
        let expected = obstacle(Kind::Creating, "ContainerCreating", "the kubelet of node n1 is at it");
        let of_statuses = |statuses: Value| of(&pod(&json!({"conditions": scheduled(), "containerStatuses": statuses})), "p");
        assert_eq!(waiting("ContainerCreating", ""), expected);
        assert_eq!(waiting("PodInitializing", ""), expected);
        assert_eq!(of_statuses(json!([{"name": "p", "state": {"waiting": {}}}])), expected);
        assert_eq!(of_statuses(json!([{"name": "p", "state": {}}])), expected);
        assert_eq!(of_statuses(json!(null)), expected);
        assert_eq!(waiting("NotYetInvented", "why"), obstacle(Kind::Creating, "NotYetInvented", "why"));
    }

    #[test]
    fn row_19_and_20_an_image_that_cannot_be_pulled_has_one_clock_and_a_pull_that_is_held_has_none() {
        let hint = "; does the tag exist, and may the node pull it (KUBERNETES_PULL_IMAGE_SECRET_NAME)?";
        for reason in ["ErrImagePull", "ImagePullBackOff", "RegistryUnavailable"] {
            assert_eq!(waiting(reason, "not found"), obstacle(Kind::ImagePull, reason, &format!("not found{hint}")));
        }
        assert_eq!(waiting("ErrImagePull", "pull QPS exceeded"), obstacle(Kind::ImagePullHeld, "ErrImagePull", "pull QPS exceeded"));
        assert_eq!(Kind::ImagePullHeld.limit(&Limits::default()), None);
    }

    #[test]
    fn row_21_an_image_whose_name_is_none_or_that_is_not_to_be_used() {
        for reason in ["InvalidImageName", "ErrImageNeverPull", "SignatureValidationFailed"] {
            assert_eq!(waiting(reason, "why"), obstacle(Kind::ImageUnusable, reason, "why; no try will make it better"));
        }
    }

    #[test]
    fn row_22_image_inspect_error() {
        assert_eq!(waiting("ImageInspectError", "why"), obstacle(Kind::ImageInspect, "ImageInspectError", "why"));
    }

    #[test]
    fn row_23_a_configuration_that_cannot_be_had_and_a_volume_that_is_slow_has_more_time() {
        let reason = "CreateContainerConfigError";
        assert_eq!(waiting(reason, "secret \"s\" not found"), obstacle(Kind::ContainerConfig, reason, "secret \"s\" not found"));
        for said in ["failed to create subPath directory for volumeMount", "context deadline exceeded"] {
            assert_eq!(waiting(reason, said), obstacle(Kind::VolumeSubpath, reason, said));
        }
    }

    #[test]
    fn row_24_a_container_that_cannot_be_made_or_run_and_hooks_that_fail() {
        for reason in ["CreateContainerError", "RunContainerError", "PreCreateHookError", "PreStartHookError", "PostStartHookError"] {
            assert_eq!(waiting(reason, "why"), obstacle(Kind::ContainerStart, reason, "why"));
        }
    }

    #[test]
    fn row_51_an_init_container_that_waits_is_named_and_has_the_same_time() {
        let init = json!([{"name": "mesh", "state": {"waiting": {"reason": "ErrImageNeverPull", "message": "why"}}}]);
        let pod = pod(&json!({"phase": "Pending", "conditions": scheduled(), "initContainerStatuses": init}));
        let expected = obstacle(Kind::ImageUnusable, "ErrImageNeverPull", "init container mesh: why; no try will make it better");
        assert_eq!(of(&pod, "p"), expected);
    }

    #[test]
    fn row_52_a_sidecar_that_backs_off_beside_a_model_that_runs_or_ran_is_no_obstacle() {
        let sidecar = json!([{"name": "mesh", "state": {"waiting": {"reason": "CrashLoopBackOff", "message": "why"}}}]);
        let beside = |state: Value| {
            let statuses = json!([{"name": "p", "state": state}]);
            let status = json!({"phase": "Running", "initContainerStatuses": sidecar, "containerStatuses": statuses});
            of(&pod(&status), "p").map(|obstacle| obstacle.kind)
        };
        assert_eq!(beside(json!({"running": {}})), Some(Kind::NotReady));
        assert_eq!(beside(json!({"terminated": {"exitCode": 0}})), None);
    }

    #[test]
    fn row_26_a_container_that_runs_waits_for_its_model_to_be_ready_for_ever_and_one_that_ended_for_nothing() {
        let with = |state: Value| {
            let statuses = json!([{"name": "p", "state": state}]);
            of(&pod(&json!({"phase": "Running", "conditions": scheduled(), "containerStatuses": statuses})), "p")
        };
        assert_eq!(with(json!({"running": {}})).map(|obstacle| obstacle.kind), Some(Kind::NotReady));
        assert_eq!(Kind::NotReady.limit(&Limits::default()), None);
        assert_eq!(with(json!({"terminated": {"exitCode": 0}})), None);
    }

    #[test]
    fn time_counts_from_the_creation_from_the_node_and_from_the_container() {
        let running = json!([{"name": "p", "state": {"running": {"startedAt": "2026-01-01T12:01:00Z"}}}]);
        let pod = pod(&json!({"conditions": scheduled(), "containerStatuses": running}));
        let unix = |text: &str| serde_json::from_value::<crate::kube::pod::Timestamp>(json!(text)).unwrap().0;
        assert_eq!(since(&pod, "p", Kind::Unschedulable), Some(unix("2026-01-01T12:00:00Z")));
        assert_eq!(since(&pod, "p", Kind::Creating), Some(unix("2026-01-01T12:00:30Z")));
        assert_eq!(since(&pod, "p", Kind::NotReady), Some(unix("2026-01-01T12:01:00Z")));
    }

    fn with_condition(r#type: &str, status: &str, reason: &str) -> Pod {
        let conditions = json!([{"type": r#type, "status": status, "reason": reason, "message": "why"}]);
        let running = json!([{"name": "p", "state": {"running": {}}}]);
        pod(&json!({"phase": "Running", "conditions": conditions, "containerStatuses": running}))
    }

    #[test]
    fn row_42_a_phase_that_nobody_knows_is_a_node_that_is_lost() {
        let message = "its pod has phase \"Unknown\", which says nothing";
        assert_eq!(of(&pod(&json!({"phase": "Unknown"})), "p"), obstacle(Kind::NodeLost, "UnexpectedPhase", message));
    }

    #[test]
    fn row_43_a_pod_that_is_about_to_be_disrupted_is_said_and_its_model_goes_on() {
        let found = of(&with_condition("DisruptionTarget", "True", "EvictionByEvictionAPI"), "p");
        assert_eq!(found, obstacle(Kind::Disruption, "Disruption", "its pod is about to go (EvictionByEvictionAPI: why)"));
        assert_eq!(Kind::Disruption.limit(&Limits::default()), None);
    }

    #[test]
    fn row_44_a_node_that_does_not_report_is_waited_for_as_long_as_the_operator_says() {
        let mut pod = with_condition("Ready", "False", "");
        assert_ne!(of(&pod, "p").map(|found| found.kind), Some(Kind::NodeLost), "its containers are not ready");
        pod.status.conditions.push(Condition { r#type: "ContainersReady".to_owned(), status: "True".to_owned(), ..Condition::default() });
        let found = of(&pod, "p");
        pod.spec.readiness_gates = vec![serde::de::IgnoredAny];
        assert_ne!(of(&pod, "p").map(|found| found.kind), Some(Kind::NodeLost), "somebody's gate is closed");
        let message = "node n1 does not report: whether the container runs is not known";
        assert_eq!(found, obstacle(Kind::NodeLost, "NodeNotReady", message));
        assert_eq!(Kind::NodeLost.limit(&Limits::default()), None);
    }

    #[test]
    fn row_45_a_pod_that_somebody_deletes_has_its_grace_and_a_minute() {
        let mut pod = with_condition("DisruptionTarget", "True", "DeletionByTaintManager");
        pod.metadata.deletion_timestamp = pod.metadata.creation_timestamp;
        pod.metadata.deletion_grace_period_seconds = Some(30);
        let Obstacle { kind, reason, message } = of(&pod, "p").unwrap();
        assert_eq!((kind.limit(&Limits::default()), reason.as_str()), (Some(Duration::from_secs(90)), "PodDeleted"));
        assert!(message.contains("DeletionByTaintManager: why") && message.contains("n1"), "{message}");
        let created = pod.metadata.creation_timestamp.unwrap().0;
        assert_eq!(since(&pod, "p", kind), Some(created.plus_seconds(-30.0)), "the timestamp has the grace in it");
    }
}
