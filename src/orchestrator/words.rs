//! A failure in words for whoever reads the SO's screen or our log: what happened, where, and what to do.

use std::collections::BTreeMap;

use super::deploy::{FEW_MODELS, named};
use super::done::CANCELLED;
use super::obstacle::Obstacle;
use super::pod_state::{NO_EXIT_CODE, Verdict};
use super::simulation::Model;
use crate::ids::{ModelId, PodName, SimulationId};

/// Of causes in one message: there are as many as Kubernetes has words.
const CAUSES_TOLD: usize = 10;
/// Stands before how long it waited.
pub(super) const WAITED: &str = " (for ";

/// What a code means that is not the program's own word.
/// <https://tldp.org/LDP/abs/html/exitcodes.html>, <https://kubernetes.io/docs/tasks/debug/debug-application/determine-reason-pod-failure/>
pub(crate) fn exit_code(code: i32) -> Option<&'static str> {
    Some(match code {
        126 => "its command is not executable",
        127 => "its command is not there",
        128 => "it could not be started",
        130 => "SIGINT ended it",
        134 => "it aborted (SIGABRT)",
        137 => "it was killed (SIGKILL: out of memory, evicted, or slow to end when told to)",
        139 => "it touched memory that is not its own (SIGSEGV)",
        143 => "it was told to end (SIGTERM)",
        255 => "it ended with -1, or its runtime lost it",
        _ => return None,
    })
}

/// One sentence of what happened and where, and one of what to do. `pod` and `node` are empty where there is none.
pub(super) fn failure(model: &str, pod: &str, node: &str, verdict: &Verdict) -> String {
    let at = match (pod, node) {
        ("", _) => String::new(),
        (pod, "") => format!(" (pod {pod})"),
        (pod, node) => format!(" (pod {pod} on node {node})"),
    };
    let code = match verdict.exit_code {
        NO_EXIT_CODE => String::new(),
        code => {
            let meaning = exit_code(code).map_or(String::new(), |words| format!(", {words}"));
            format!(" with exit code {code}{meaning}")
        }
    };
    let why = verdict.why();
    let what = if verdict.reason == CANCELLED { "was ended" } else { "failed" };
    format!("Model {model}{at} {what}{code}: {}. {}", why.trim_end_matches('.'), advice(&verdict.reason))
}

/// A model that failed, in the words of [`failure`].
pub(super) struct Failure<'a> {
    pub model: &'a Model,
    /// Empty where there is none.
    pub node: &'a str,
    pub verdict: &'a Verdict,
    pub message: String,
}

/// Why a simulation fails, each cause once.
pub(super) fn error<'a>(
    id: &SimulationId,
    failures: &[Failure<'_>],
    unready: &[ModelId],
    waits: impl Iterator<Item = (&'a ModelId, &'a Obstacle)>,
) -> String {
    let mut causes: BTreeMap<(&str, i32, String), (&str, Vec<ModelId>)> = BTreeMap::new();
    for Failure { model, node, verdict, message } in failures {
        let key = (verdict.reason.as_str(), verdict.exit_code, cause(&verdict.message, &model.pod.name, node));
        causes.entry(key).or_insert((message, Vec::new())).1.push(model.pod.model.clone());
    }
    let mut text = format!("Simulation {id} fails.");
    let more = causes.len().saturating_sub(CAUSES_TOLD);
    for (message, models) in causes.into_values().take(CAUSES_TOLD) {
        text += &format!(" {message}");
        if models.len() > 1 {
            text += &format!(" So did {}.", named(&models[1..], FEW_MODELS));
        }
    }
    if more > 0 {
        text += &format!(" And {more} more causes: mso explain {id} shows them.");
    }
    if !unready.is_empty() {
        let models = named(unready, FEW_MODELS);
        text += &format!(" Models {models} ended well and never said that they are ready: their logs may say why.");
    }
    let mut obstacles: BTreeMap<&str, (&Obstacle, Vec<ModelId>)> = BTreeMap::new();
    for (model, obstacle) in waits {
        obstacles.entry(&obstacle.reason).or_insert((obstacle, Vec::new())).1.push(model.clone());
    }
    for (reason, (obstacle, models)) in obstacles.into_iter().take(CAUSES_TOLD) {
        text += &format!(" Models {} {}, {reason}: {}.", named(&models, FEW_MODELS), obstacle.kind.state(), obstacle.message);
    }
    text
}

/// Of a container that leaves no message of its own the kubelet takes the end of its log, of another length than ours.
pub(crate) fn is_end_of_log<'a>(message: &str, log: impl Iterator<Item = &'a str>) -> bool {
    let log: Vec<&str> = log.collect();
    let mut lines = message.lines().rev().zip(log.iter().rev());
    // A first line may be cut.
    message.is_empty() || (!log.is_empty() && lines.all(|(line, of_log)| of_log.ends_with(line)))
}

/// What is the same for all whom it befalls: not which pod, on which node, for how long, and what is said of it beside.
fn cause(message: &str, pod: &PodName, node: &str) -> String {
    let message = message.split(WAITED).next().unwrap_or_default();
    message.replace(pod.as_str(), "").replace(&format!("node {node}"), "node")
}

/// Of those reasons whose words do not say it themselves.
pub(crate) fn advice(reason: &str) -> &'static str {
    match reason {
        "OOMKilled" => "Raise its memory limit, or let it need less.",
        "Error" => "The log of its pod says why.",
        "StartError" | "ContainerCannotRun" => "Mend the command of its image.",
        "ApiUnavailable" => "See to the API server, or the webhook that it names.",
        "ErrImagePull"
        | "ImagePullBackOff"
        | "RegistryUnavailable"
        | "InvalidImageName"
        | "ErrImageNeverPull"
        | "ImageInspectError"
        | "SignatureValidationFailed" => "Mend the image's name or the right to pull it, and start the simulation again.",
        "Unschedulable" | "SchedulerError" => "Make room on a node for models, and start the simulation again.",
        "ContainerCreating" => "What keeps it waiting its events say: mso explain shows them.",
        "NodeAffinity" => "Let its node have the labels that the pod selects, and start the simulation again.",
        "InitContainerFailed" => "The log of that container says why.",
        "CreateContainerConfigError" | "CreateContainerError" | "RunContainerError" => {
            "The events of its pod say more: mend that, and start the simulation again."
        }
        "ExceededQuota" => "Change the quota of the namespace, or let other simulations end first.",
        "QuotaRequiresResources" => "Change the quota, or give the namespace a LimitRange with defaults.",
        "Forbidden" | "Unauthorized" => "Give the service its rights: mso check names them.",
        "PodAdmissionFailed" | "InvalidPod" => "Change the request, or what the cluster admits.",
        "Evicted" | "Preempting" | "NodeShutdown" | "Terminated" | "Shutdown" => "Start the simulation again, on nodes with more room.",
        "PodReplaced" => "Somebody deleted its pod: start the simulation again.",
        "WaitingForReady" => "See what it does in the log of its pod, or give it more time: READY_TIMEOUT.",
        CANCELLED => "It was asked for.",
        "SimulationTimeout" => "Raise SIMULATION_TIMEOUT where simulations live for longer.",
        "InvalidRequest" => "Mend the request.",
        "RecordNotRead" | "TooManyModels" => "Do that, or let other simulations end first.",
        "NameConflict" => "Wait until the other pod is gone, or take another simulation id.",
        _ => "Start the simulation again.",
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::clock;
    use crate::ids::{DeployId, SimulatorId};
    use crate::kube::pod::NewPod;
    use crate::orchestrator::obstacle::Kind;
    use crate::orchestrator::simulation::Creation;

    #[test]
    fn a_failure_says_what_happened_where_and_what_to_do() {
        let killed = Verdict::failed(137, "OOMKilled", "");
        assert_eq!(
            failure("sim/m1", "so-sim-m1", "n1", &killed),
            "Model sim/m1 (pod so-sim-m1 on node n1) failed with exit code 137, it was killed (SIGKILL: out of memory, evicted, or slow to \
             end when told to): OOMKilled. Raise its memory limit, or let it need less."
        );
        let refused = Verdict::failed_without_code("ExceededQuota", "exceeded quota: q.");
        assert_eq!(
            failure("sim/m1", "", "", &refused),
            "Model sim/m1 failed: ExceededQuota: exceeded quota: q. Change the quota of the namespace, or let other simulations end first."
        );
        let crashed = Verdict::failed(3, "Error", "");
        assert_eq!(
            failure("sim/m1", "p", "", &crashed),
            "Model sim/m1 (pod p) failed with exit code 3: Error. The log of its pod says why."
        );
    }

    #[test]
    fn a_last_word_that_is_the_end_of_the_log_is_not_said_twice() {
        let log = ["first line", "second", "third"];
        for end_of_log in ["", "third", "line\nsecond\nthird", "before\nfirst line\nsecond\nthird"] {
            assert!(is_end_of_log(end_of_log, log.into_iter()), "{end_of_log:?}");
        }
        assert!(!is_end_of_log("out of fuel", log.into_iter()));
        assert!(!is_end_of_log("out of fuel", std::iter::empty()), "there is no log");
    }

    fn model(id: &str) -> Model {
        let (simulator, simulation, model) =
            (SimulatorId::new("so").unwrap(), SimulationId::new("sim").unwrap(), ModelId::new(id).unwrap());
        let pod = NewPod {
            name: PodName::of(&simulator, &simulation, &model).unwrap(),
            simulator,
            simulation,
            model,
            number: 0,
            deploy: DeployId::new("00000000000000ab").unwrap(),
            models: 1,
            keep_logs_hours: 0.0,
            is_recorded: true,
            image: String::new(),
            variables: Vec::new(),
        };
        Model::new(Arc::new(pod), Creation::Done, clock::now().instant)
    }

    #[test]
    fn an_error_tells_each_cause_once_and_what_else_waits() {
        let failed = |id: &str, reason: &str, why: &str| (model(id), Verdict::failed_without_code(reason, why));
        let crashed = |id: &str, code: i32| (model(id), Verdict::failed(code, "Error", ""));
        let failed = [
            failed("a", "ErrImagePull", "no such tag x:1"),
            failed("b", "OOMKilled", ""),
            failed("c", "ErrImagePull", "no such tag x:1"),
            failed("e", "ErrImagePull", "no such tag y:2"),
            crashed("f", 3),
            crashed("g", 4),
            failed("h", "PodAdmissionFailed", "pod so-sim-h is too rich"),
            failed("i", "PodAdmissionFailed", "pod so-sim-i is too rich (for 3 s)"),
        ];
        let words = |model: &Model, verdict: &Verdict| format!("{}: {}.", model.pod.model, verdict.why());
        let failures: Vec<Failure<'_>> =
            failed.iter().map(|(model, verdict)| Failure { model, node: "n1", verdict, message: words(model, verdict) }).collect();
        let obstacle = Obstacle { kind: Kind::Unschedulable, reason: "Unschedulable".to_owned(), message: "no node".to_owned() };
        let threat = Obstacle { kind: Kind::Disruption, reason: "Disruption".to_owned(), message: "soon".to_owned() };
        let (d, e) = (ModelId::new("d").unwrap(), ModelId::new("e").unwrap());
        assert_eq!(
            error(&SimulationId::new("sim").unwrap(), &failures, &[], [(&d, &obstacle), (&e, &threat)].into_iter()),
            "Simulation sim fails. a: ErrImagePull: no such tag x:1. So did [c]. e: ErrImagePull: no such tag y:2. f: Error. g: Error. \
             b: OOMKilled. h: PodAdmissionFailed: pod so-sim-h is too rich. So did [i]. Models [e] are in danger, Disruption: soon. Models \
             [d] wait, Unschedulable: no node."
        );
        let many: Vec<Verdict> = (1..14).map(|code| Verdict::failed(code, "Error", "")).collect();
        let a = model("a");
        let many: Vec<Failure<'_>> =
            many.iter().map(|verdict| Failure { model: &a, node: "", verdict, message: verdict.exit_code.to_string() }).collect();
        let text = error(&SimulationId::new("sim").unwrap(), &many, &[d], std::iter::empty());
        assert_eq!(
            text,
            "Simulation sim fails. 1 2 3 4 5 6 7 8 9 10 And 3 more causes: mso explain sim shows them. Models [d] ended well and \
                    never said that they are ready: their logs may say why."
        );
    }
}
