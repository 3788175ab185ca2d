//! What a pod's status says of its model: the table, read from top to bottom. Pure; nothing is decided here of what follows.
//!
//! The words are the kubelet's: <https://kubernetes.io/docs/concepts/workloads/pods/pod-lifecycle/>.

use super::obstacle::{self, Obstacle};
use crate::clock::UnixTime;
use crate::kube::pod::{ContainerStatus, Pod, STOP_DEADLINE_SECONDS, Status, Terminated};

/// A model without an exit code of its container has this one: no process can end with it.
pub const NO_EXIT_CODE: i32 = -1;

/// Why a model ended whose pod we had stopped, where what we stopped it for is not known.
pub const STOPPED: &str = "Stopped";

/// Of a model that ended well, which a person should look at all the same.
pub const SUCCESS_WITH_A_LOSS: &str = "Success, although a process of it was OOMKilled";

/// The kubelet writes messages of any length.
const MESSAGE_CHARS: usize = 1024;

/// How a model ended. It never changes once it was told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    pub success: bool,
    pub exit_code: i32,
    /// A short name; what kubectl shows where Kubernetes has a word for it.
    pub reason: String,
    /// For a person, one line. May be empty.
    pub message: String,
}

impl Verdict {
    pub fn failed(exit_code: i32, reason: &str, message: &str) -> Self {
        Self { success: false, exit_code, reason: reason.to_owned(), message: one_line(message) }
    }

    /// A failure for which no container gave a code.
    pub fn failed_without_code(reason: &str, message: &str) -> Self {
        Self::failed(NO_EXIT_CODE, reason, message)
    }

    pub fn succeeded(reason: &str) -> Self {
        Self { success: true, exit_code: 0, reason: reason.to_owned(), message: String::new() }
    }

    /// As an earlier process of ours recorded it, which did not record why.
    pub(super) fn recorded(exit_code: i32) -> Self {
        let reason = if exit_code == NO_EXIT_CODE { "ServiceRestarted" } else { "Error" };
        let message = "the service restarted before it had told why";
        Self { success: exit_code == 0, exit_code, reason: reason.to_owned(), message: message.to_owned() }
    }

    /// Reason and message, as they stand behind "due to".
    pub fn why(&self) -> String {
        if self.message.is_empty() { self.reason.clone() } else { format!("{}: {}", self.reason, self.message) }
    }
}

#[derive(Clone, Debug, PartialEq)]
pub enum Observation {
    /// There is nothing to say of it.
    Alive,
    /// The model does not do its work yet, unless it has said that it does, and why; since when, as the server says.
    Waits(Obstacle, Option<UnixTime>),
    Ended(Verdict),
    /// It has ended, and is started again.
    Restarts(Verdict),
    /// It looks ended, but the kubelet may correct itself: believed when it stays so.
    Doubtful(Verdict),
}

/// What the pod says of the model whose request named `image`.
pub fn observe(pod: &Pod, image: Option<&str>) -> Observation {
    if was_stopped(pod) {
        let message = "this service stopped it, and restarted before it had told why";
        return Observation::Ended(Verdict::failed_without_code(STOPPED, message));
    }
    let container = model_container(pod, image);
    let status = pod.status.container_statuses.iter().find(|status| status.name == container);
    match (status.and_then(|status| terminated(pod, status)), pod.status.phase.as_str()) {
        (Some(terminated), _) => container_ended(pod, terminated),
        (None, "Succeeded") => Observation::Ended(Verdict::succeeded("Succeeded")),
        (None, "Failed") => pod_failed(pod, status),
        (None, _) if restarts(status) => Observation::Restarts(restarted(status)),
        (None, _) => match obstacle::of(pod, container) {
            Some(obstacle) => {
                let since = obstacle::since(pod, container, obstacle.kind);
                Observation::Waits(obstacle, since)
            }
            None => Observation::Alive,
        },
    }
}

/// By its node, before any container of it began. The kubelet writes these words before those of whoever refused it (seen with 1.34).
pub fn was_turned_away(pod: &Pod) -> bool {
    let Status { phase, reason, message, container_statuses, init_container_statuses, .. } = &pod.status;
    let is_named = ["NodeAffinity", "Preempting", "UnexpectedAdmissionError", "NodeShutdown"].contains(&reason.as_str());
    let began = |status: &ContainerStatus| {
        status.state.running.is_some() || status.state.terminated.is_some() || status.last_state.terminated.is_some()
    };
    phase == "Failed"
        && reason != "Evicted"
        && (is_named || reason.starts_with("OutOf") || message.starts_with("Pod was rejected: "))
        && pod.metadata.deletion_timestamp.is_none()
        && !container_statuses.iter().chain(init_container_statuses).any(began)
}

/// By us: the kubelet ends so what has the deadline that we set. What that model's end was told for is known, unless we have restarted.
fn was_stopped(pod: &Pod) -> bool {
    pod.status.reason == "DeadlineExceeded" && pod.spec.active_deadline_seconds == Some(STOP_DEADLINE_SECONDS)
}

/// Which of the pod's containers is the model: webhooks add containers, in front too.
pub fn model_container<'a>(pod: &'a Pod, image: Option<&str>) -> &'a str {
    let containers = &pod.spec.containers;
    let named = |name: &str| containers.iter().find(|container| container.name == name);
    named(&pod.metadata.name)
        .or_else(|| named(pod.metadata.annotations.default_container.as_deref()?))
        .or_else(|| containers.iter().find(|container| Some(container.image.as_str()) == image))
        .or_else(|| containers.first())
        .map_or(&pod.metadata.name, |container| &container.name)
}

/// Of a container that failed: it wrote it, or the kubelet took the end of its log.
pub fn last_word<'a>(pod: &'a Pod, container: &str) -> &'a str {
    let status = pod.status.container_statuses.iter().find(|status| status.name == container);
    let end = status.and_then(|status| terminated(pod, status)).filter(|end| end.exit_code != 0);
    end.map_or("", |end| &end.message)
}

/// The container's end; that of its last run only where there will be no other.
fn terminated<'a>(pod: &Pod, status: &'a ContainerStatus) -> Option<&'a Terminated> {
    let runs_no_more = pod.status.phase == "Failed" || pod.metadata.deletion_timestamp.is_some();
    let last = status.last_state.terminated.as_ref().filter(|_| status.state.waiting.is_some() && runs_no_more);
    status.state.terminated.as_ref().or(last)
}

/// And the model's container has no end to tell of it.
fn pod_failed(pod: &Pod, model: Option<&ContainerStatus>) -> Observation {
    let message = &pod.status.message;
    let ended_init = pod.status.init_container_statuses.iter().find_map(|init| {
        let end = init.state.terminated.as_ref().filter(|end| end.exit_code != 0)?;
        Some((init, end))
    });
    match (pod.status.reason.as_str(), ended_init, model) {
        ("", Some((init, end)), _) => {
            let why = format!("init container {} ended with code {}: {} {}", init.name, end.exit_code, end.reason, end.message);
            Observation::Ended(Verdict::failed(end.exit_code, "InitContainerFailed", &why))
        }
        ("", None, Some(model)) => {
            let waiting = model.state.waiting.as_ref().map_or("it runs, as its status has it", |waiting| waiting.reason.as_str());
            let why = format!("the pod failed before its container started: {waiting}");
            Observation::Doubtful(Verdict::failed_without_code("Failed", &why))
        }
        ("", None, None) => Observation::Ended(Verdict::failed_without_code("Failed without container status", message)),
        (reason, ..) => Observation::Ended(Verdict::failed_without_code(reason, message)),
    }
}

/// We ask that it never does: a webhook has changed that.
fn restarts(model: Option<&ContainerStatus>) -> bool {
    let waiting = model.and_then(|model| model.state.waiting.as_ref());
    waiting.is_some_and(|waiting| waiting.reason == "CrashLoopBackOff")
}

fn restarted(model: Option<&ContainerStatus>) -> Verdict {
    let code = model.and_then(|model| model.last_state.terminated.as_ref()).map(|end| end.exit_code);
    // A code of 0 is a success wherever it is recorded.
    Verdict::failed(
        code.filter(|code| *code != 0).unwrap_or(NO_EXIT_CODE),
        "CrashLoopBackOff",
        "it ended and is started again, as its restartPolicy was changed",
    )
}

fn container_ended(pod: &Pod, end: &Terminated) -> Observation {
    let phase_is_final = ["Failed", "Succeeded"].contains(&pod.status.phase.as_str());
    let pod_failed = pod.status.phase == "Failed" && !pod.status.reason.is_empty();
    match (end.exit_code, end.reason.as_str()) {
        (0, _) if pod_failed && !ended_before_disruption(pod, end) => {
            let message = format!("{} (container exit code 0)", pod.status.message);
            Observation::Ended(Verdict::failed_without_code(&pod.status.reason, &message))
        }
        // The kubelet says so of a container in which only a child ran out of memory.
        (0, "OOMKilled") => Observation::Ended(Verdict::succeeded(SUCCESS_WITH_A_LOSS)),
        (0, _) if was_killed_by_its_deletion(pod, end) => {
            Observation::Ended(Verdict::failed_without_code("PodDeleted", &format!("{} (container exit code 0)", why_deleted(pod))))
        }
        (0, _) => Observation::Ended(Verdict::succeeded("Success!")),
        (code, "ContainerStatusUnknown") if !phase_is_final && pod.metadata.deletion_timestamp.is_none() => {
            Observation::Doubtful(Verdict::failed(code, "ContainerStatusUnknown", &end.message))
        }
        (code, _) if was_killed_by_its_deletion(pod, end) => Observation::Ended(Verdict::failed(code, "PodDeleted", &why_deleted(pod))),
        (code, _) if pod_failed => Observation::Ended(Verdict::failed(code, &pod.status.reason, &pod.status.message)),
        (code, "") => Observation::Ended(Verdict::failed(code, "Error", "")),
        // The runtime's words.
        (code, reason @ ("StartError" | "ContainerCannotRun" | "ContainerStatusUnknown")) => {
            Observation::Ended(Verdict::failed(code, reason, &end.message))
        }
        // The message of a container that ran is the end of its log: that is for our log, and not for every screen.
        (code, reason) => Observation::Ended(Verdict::failed(code, reason, "")),
    }
}

/// It ended after somebody had deleted its pod. The dates are of two clocks: one that ended on its own in that very second is taken for killed.
fn was_killed_by_its_deletion(pod: &Pod, end: &Terminated) -> bool {
    let grace = pod.metadata.deletion_grace_period_seconds.unwrap_or_default() as f64;
    match (pod.metadata.deletion_timestamp, end.finished_at) {
        (Some(gone_by), Some(finished)) => finished.0.seconds_since(gone_by.0) >= -grace,
        _ => false,
    }
}

fn why_deleted(pod: &Pod) -> String {
    let why = obstacle::why_it_goes(pod).map(|why| format!(" ({why})")).unwrap_or_default();
    format!("somebody deleted its pod{why}")
}

/// A model that was done before its pod was evicted has done its work.
fn ended_before_disruption(pod: &Pod, end: &Terminated) -> bool {
    match (end.finished_at, pod.disruption().and_then(|condition| condition.last_transition_time)) {
        (Some(finished), Some(disrupted)) => finished < disrupted,
        _ => false,
    }
}

/// Words from outside as one line of a log.
pub fn one_line(text: &str) -> String {
    let line: String = text.trim().chars().take(MESSAGE_CHARS).map(|char| if char.is_control() { ' ' } else { char }).collect();
    line
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn ended(success: bool, exit_code: i32, why: &str) -> Observation {
        let (reason, message) = why.split_once(": ").unwrap_or((why, ""));
        Observation::Ended(Verdict { success, exit_code, reason: reason.to_owned(), message: message.to_owned() })
    }

    fn pod(status: Value) -> Pod {
        let metadata = json!({"name": "so-sim-m1", "uid": "u1"});
        let spec = json!({"containers": [{"name": "so-sim-m1", "image": "model:1"}]});
        serde_json::from_value(json!({"metadata": metadata, "spec": spec, "status": status})).unwrap()
    }

    fn restarted_with(code: i32) -> Verdict {
        Verdict::failed(code, "CrashLoopBackOff", "it ended and is started again, as its restartPolicy was changed")
    }

    /// What stands in the way of one that has not ended is another table's.
    fn ends(observation: Observation) -> Observation {
        if let Observation::Waits(..) = observation { Observation::Alive } else { observation }
    }

    fn container(state: Value) -> Value {
        json!([{"name": "so-sim-m1", "state": state}])
    }

    #[test]
    fn each_status_says_how_the_model_ended() {
        let terminated = |code: i32, reason: &str| container(json!({"terminated": {"exitCode": code, "reason": reason, "message": "why"}}));
        let cases = [
            ("the container runs", json!({"phase": "Running", "containerStatuses": container(json!({"running": {}}))}), Observation::Alive),
            ("no status at all", json!({"phase": "Pending"}), Observation::Alive),
            ("an empty state means waiting", json!({"phase": "Pending", "containerStatuses": container(json!({}))}), Observation::Alive),
            (
                "exit 0 while the phase still says Running",
                json!({"phase": "Running", "containerStatuses": terminated(0, "Completed")}),
                ended(true, 0, "Success!"),
            ),
            ("exit 0", json!({"phase": "Succeeded", "containerStatuses": terminated(0, "Completed")}), ended(true, 0, "Success!")),
            ("exit 3", json!({"phase": "Failed", "containerStatuses": terminated(3, "Error")}), ended(false, 3, "Error")),
            (
                "out of memory",
                json!({"phase": "Failed", "containerStatuses": terminated(137, "OOMKilled")}),
                ended(false, 137, "OOMKilled"),
            ),
            (
                "exit 0 although a child ran out of memory",
                json!({"phase": "Succeeded", "containerStatuses": terminated(0, "OOMKilled")}),
                ended(true, 0, "Success, although a process of it was OOMKilled"),
            ),
            (
                "the kubelet lost sight of the container",
                json!({"phase": "Running", "containerStatuses": terminated(137, "ContainerStatusUnknown")}),
                Observation::Doubtful(Verdict::failed(137, "ContainerStatusUnknown", "why")),
            ),
            (
                "and says that this is final",
                json!({"phase": "Failed", "containerStatuses": terminated(137, "ContainerStatusUnknown")}),
                ended(false, 137, "ContainerStatusUnknown: why"),
            ),
            (
                "the command is not there",
                json!({"phase": "Failed", "containerStatuses": terminated(128, "StartError")}),
                ended(false, 128, "StartError: why"),
            ),
            (
                "evicted before a container was",
                json!({"phase": "Failed", "reason": "Evicted", "message": "low on memory"}),
                ended(false, -1, "Evicted: low on memory"),
            ),
            (
                "evicted, the container killed",
                json!({"phase": "Failed", "reason": "Evicted", "message": "low on memory", "containerStatuses": terminated(137, "Error")}),
                ended(false, 137, "Evicted: low on memory"),
            ),
            (
                "evicted, the container ended with 0 when told to",
                json!({"phase": "Failed", "reason": "Evicted", "message": "low on memory", "containerStatuses": terminated(0, "Completed")}),
                ended(false, -1, "Evicted: low on memory (container exit code 0)"),
            ),
            (
                "37: past a deadline that somebody set",
                json!({"phase": "Failed", "reason": "DeadlineExceeded", "message": "m", "containerStatuses": terminated(143, "Error")}),
                ended(false, 143, "DeadlineExceeded: m"),
            ),
            (
                "25: started again, though it is never to be",
                json!({"phase": "Running", "containerStatuses": [{
                    "name": "so-sim-m1",
                    "state": {"waiting": {"reason": "CrashLoopBackOff"}},
                    "lastState": {"terminated": {"exitCode": 7, "reason": "Error"}},
                }]}),
                Observation::Restarts(restarted_with(7)),
            ),
            (
                "25: the same after exit 0, which is no success any more",
                json!({"phase": "Running", "containerStatuses": [{
                    "name": "so-sim-m1",
                    "state": {"waiting": {"reason": "CrashLoopBackOff"}},
                    "lastState": {"terminated": {"exitCode": 0, "reason": "Completed"}},
                }]}),
                Observation::Restarts(restarted_with(-1)),
            ),
            (
                "39: failed, and there is no container status",
                json!({"phase": "Failed"}),
                ended(false, -1, "Failed without container status"),
            ),
            (
                "40: failed, and its container has not begun, which the kubelet may correct",
                json!({"phase": "Failed", "containerStatuses": container(json!({"waiting": {"reason": "ContainerCreating"}}))}),
                Observation::Doubtful(Verdict::failed_without_code(
                    "Failed",
                    "the pod failed before its container started: ContainerCreating",
                )),
            ),
            (
                "51: an init container failed",
                json!({
                    "phase": "Failed",
                    "initContainerStatuses": [{"name": "mesh", "state": {"terminated": {"exitCode": 2, "reason": "Error", "message": "no route"}}}],
                    "containerStatuses": container(json!({"waiting": {"reason": "PodInitializing"}})),
                }),
                ended(false, 2, "InitContainerFailed: init container mesh ended with code 2: Error no route"),
            ),
            ("succeeded, the container's status lost", json!({"phase": "Succeeded"}), ended(true, 0, "Succeeded")),
            ("a phase that we do not know", json!({"phase": "Unknown"}), Observation::Alive),
        ];
        for (row, status, expected) in cases {
            assert_eq!(ends(observe(&pod(status), Some("model:1"))), expected, "{row}");
        }
    }

    #[test]
    fn a_model_that_was_done_before_its_eviction_succeeded() {
        let status = |finished: &str| {
            json!({
                "phase": "Failed", "reason": "Evicted",
                "conditions": [{"type": "DisruptionTarget", "status": "True", "lastTransitionTime": "2026-01-01T12:00:00Z"}],
                "containerStatuses": container(json!({"terminated": {"exitCode": 0, "reason": "Completed", "finishedAt": finished}})),
            })
        };
        assert_eq!(observe(&pod(status("2026-01-01T11:59:59Z")), None), ended(true, 0, "Success!"));
        assert_eq!(observe(&pod(status("2026-01-01T12:00:01Z")), None), ended(false, -1, "Evicted: (container exit code 0)"));
    }

    #[test]
    fn the_last_runs_end_counts_only_where_no_other_run_comes() {
        let statuses = json!([{
            "name": "so-sim-m1",
            "state": {"waiting": {"reason": "ContainerCreating"}},
            "lastState": {"terminated": {"exitCode": 2, "reason": "Error"}},
        }]);
        let running = pod(json!({"phase": "Running", "containerStatuses": statuses}));
        assert_eq!(ends(observe(&running, None)), Observation::Alive);
        let failed = pod(json!({"phase": "Failed", "containerStatuses": statuses}));
        assert_eq!(observe(&failed, None), ended(false, 2, "Error"));
        let mut deleted = running;
        deleted.metadata.deletion_timestamp = serde_json::from_value(json!("2026-01-01T00:00:00Z")).unwrap();
        assert_eq!(observe(&deleted, None), ended(false, 2, "Error"));
    }

    #[test]
    fn the_model_is_the_container_with_the_pods_name_and_a_sidecar_is_not() {
        let with = |containers: Value, annotations: Value| -> Pod {
            serde_json::from_value(json!({
                "metadata": {"name": "p", "annotations": annotations}, "spec": {"containers": containers},
            }))
            .unwrap()
        };
        let sidecar = json!({"name": "sidecar", "image": "mesh"});
        let cases = [
            ("by name, a sidecar in front", with(json!([sidecar, {"name": "p"}]), json!(null)), "p"),
            ("by annotation", with(json!([sidecar, {"name": "x"}]), json!({"kubectl.kubernetes.io/default-container": "x"})), "x"),
            ("by image", with(json!([sidecar, {"name": "y", "image": "model:1"}]), json!({})), "y"),
            ("the first", with(json!([{"name": "z"}, sidecar]), json!({})), "z"),
            ("none", with(json!(null), json!(null)), "p"),
        ];
        for (phrase, pod, expected) in cases {
            assert_eq!(model_container(&pod, Some("model:1")), expected, "{phrase}");
        }
        let mut meshed = with(json!([sidecar, {"name": "p"}]), json!({}));
        meshed.status = serde_json::from_value(json!({"phase": "Running", "containerStatuses": [
            {"name": "sidecar", "state": {"running": {}}},
            {"name": "p", "state": {"terminated": {"exitCode": 0, "reason": "Completed"}}},
        ]}))
        .unwrap();
        assert_eq!(observe(&meshed, None), ended(true, 0, "Success!"), "the sidecar keeps the pod running");
    }

    #[test]
    fn a_pod_past_the_deadline_with_which_we_stop_was_stopped_by_us_whatever_its_code() {
        for code in [0, 143] {
            let state = json!({"terminated": {"exitCode": code, "reason": "Error"}});
            let mut pod = pod(json!({"phase": "Failed", "reason": "DeadlineExceeded", "containerStatuses": container(state)}));
            pod.spec.active_deadline_seconds = Some(1);
            let why = "Stopped: this service stopped it, and restarted before it had told why";
            assert_eq!(observe(&pod, None), ended(false, -1, why));
        }
    }

    #[test]
    fn row_46_what_ended_as_its_pod_was_deleted_failed_by_that_whatever_its_code() {
        let deleted = |code: i32, finished: &str| {
            let state = json!({"terminated": {"exitCode": code, "reason": "Error", "finishedAt": finished}});
            let mut pod = pod(json!({"phase": "Running", "containerStatuses": container(state)}));
            pod.metadata.deletion_timestamp = serde_json::from_value(json!("2026-01-01T12:00:30Z")).unwrap();
            pod.metadata.deletion_grace_period_seconds = Some(30);
            observe(&pod, None)
        };
        assert_eq!(deleted(143, "2026-01-01T12:00:05Z"), ended(false, 143, "PodDeleted: somebody deleted its pod"));
        let why = "PodDeleted: somebody deleted its pod (container exit code 0)";
        assert_eq!(deleted(0, "2026-01-01T12:00:05Z"), ended(false, -1, why));
        assert_eq!(deleted(0, "2026-01-01T11:59:59Z"), ended(true, 0, "Success!"), "it was done before");
        assert_eq!(deleted(3, "2026-01-01T11:59:59Z"), ended(false, 3, "Error"), "it was done before");
    }

    #[test]
    fn a_pod_was_turned_away_where_its_node_refused_it_and_no_container_began() {
        let status =
            |reason: &str, state: Value| json!({"phase": "Failed", "reason": reason, "containerStatuses": [{"name": "c", "state": state}]});
        let waiting = json!({"waiting": {"reason": "ContainerCreating"}});
        for (phrase, expected, status) in [
            ("no container is known", true, json!({"phase": "Failed", "reason": "NodeAffinity"})),
            ("it waited", true, status("OutOfcpu", waiting.clone())),
            ("it ended", false, status("Evicted", json!({"terminated": {"exitCode": 137}}))),
            ("it runs, as its status has it", false, status("NodeShutdown", json!({"running": {}}))),
            ("nobody says why", false, json!({"phase": "Failed"})),
            ("its node was lost", false, json!({"phase": "Failed", "reason": "NodeLost"})),
            (
                "another one refused it",
                true,
                json!({"phase": "Failed", "reason": "TopologyAffinityError", "message": "Pod was rejected: x"}),
            ),
            ("it was evicted", false, json!({"phase": "Failed", "reason": "Evicted", "message": "Pod was rejected: disk"})),
            ("it had its time", false, status("DeadlineExceeded", waiting)),
            ("it has not failed", false, json!({"phase": "Pending", "reason": "NodeAffinity"})),
        ] {
            let mut pod: Pod = serde_json::from_value(json!({"metadata": {"name": "p", "uid": "u"}, "status": status})).unwrap();
            assert_eq!(was_turned_away(&pod), expected, "{phrase}");
            pod.metadata.deletion_timestamp = Some(serde_json::from_value(json!("2026-01-01T12:00:00Z")).unwrap());
            assert!(!was_turned_away(&pod), "{phrase}, and somebody deletes it");
        }
    }
}
