//! A failure in words for whoever reads the SO's screen or our log: what happened, where, and what to do.

use std::collections::BTreeMap;

use super::deploy::named;
use super::done::CANCELLED;
use super::obstacle::Obstacle;
use super::pod_state::{NO_EXIT_CODE, Verdict};
use crate::ids::{ModelId, SimulationId};

/// Of causes in one message: there are as many as Kubernetes has words.
const CAUSES_TOLD: usize = 10;
/// How many models are named beside a cause.
const MODELS_NAMED: usize = 10;

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
    format!("Model {model}{at} failed{code}: {}. {}", why.trim_end_matches('.'), advice(&verdict.reason))
}

/// Why a simulation fails, each cause once. The verdicts have the words of [`failure`].
pub(super) fn error<'a>(
    id: &SimulationId,
    failures: &[(ModelId, Verdict)],
    waits: impl Iterator<Item = (&'a ModelId, &'a Obstacle)>,
) -> String {
    let mut causes: BTreeMap<(&str, i32), (&str, Vec<ModelId>)> = BTreeMap::new();
    for (model, verdict) in failures {
        let cause = causes.entry((&verdict.reason, verdict.exit_code)).or_insert((&verdict.message, Vec::new()));
        cause.1.push(model.clone());
    }
    let mut text = format!("Simulation {id} fails.");
    for (message, models) in causes.into_values().take(CAUSES_TOLD) {
        text += &format!(" {message}");
        if models.len() > 1 {
            text += &format!(" So did {}.", named(&models[1..], MODELS_NAMED));
        }
    }
    let mut obstacles: BTreeMap<&str, (&Obstacle, Vec<ModelId>)> = BTreeMap::new();
    for (model, obstacle) in waits {
        obstacles.entry(&obstacle.reason).or_insert((obstacle, Vec::new())).1.push(model.clone());
    }
    for (reason, (obstacle, models)) in obstacles.into_iter().take(CAUSES_TOLD) {
        text += &format!(" Models {} {}, {reason}: {}.", named(&models, MODELS_NAMED), obstacle.kind.state(), obstacle.message);
    }
    text
}

/// Of those reasons whose words do not say it themselves.
pub(crate) fn advice(reason: &str) -> &'static str {
    match reason {
        "OOMKilled" => "Raise its memory limit, or let it need less.",
        "Error" | "StartError" | "ContainerCannotRun" => "The log of its pod says why.",
        "ErrImagePull"
        | "ImagePullBackOff"
        | "RegistryUnavailable"
        | "InvalidImageName"
        | "ErrImageNeverPull"
        | "ImageInspectError"
        | "SignatureValidationFailed" => "Mend the image's name or the right to pull it, and start the simulation again.",
        "Unschedulable" | "SchedulerError" => "Make room on a node for models, and start the simulation again.",
        "ContainerCreating" | "CreateContainerConfigError" | "CreateContainerError" | "RunContainerError" => {
            "The events of its pod say more: mend that, and start the simulation again."
        }
        "ExceededQuota" | "QuotaRequiresResources" => "Change the quota of the namespace, or let other simulations end first.",
        "Forbidden" | "Unauthorized" => "Give the service its rights: mso check names them.",
        "PodAdmissionFailed" | "InvalidPod" => "Change the request, or what the cluster admits.",
        "Evicted" | "Preempting" | "NodeShutdown" | "Terminated" | "Shutdown" => "Start the simulation again, on nodes with more room.",
        "PodDeleted" | "PodReplaced" => "Somebody deleted its pod: start the simulation again.",
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
    use super::*;
    use crate::orchestrator::obstacle::Kind;

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
    fn an_error_tells_each_cause_once_and_what_else_waits() {
        let model = |id: &str| ModelId::new(id).unwrap();
        let failed = |id: &str, reason: &str, words: &str| (model(id), Verdict::failed_without_code(reason, words));
        let failures = [
            failed("a", "ErrImagePull", "Model sim/a failed: no such tag."),
            failed("b", "OOMKilled", "Model sim/b failed: too much."),
            failed("c", "ErrImagePull", "Model sim/c failed: no such tag."),
            (model("f"), Verdict::failed(3, "Error", "Model sim/f failed with exit code 3.")),
            (model("g"), Verdict::failed(4, "Error", "Model sim/g failed with exit code 4.")),
        ];
        let obstacle = Obstacle { kind: Kind::Unschedulable, reason: "Unschedulable".to_owned(), message: "no node".to_owned() };
        let threat = Obstacle { kind: Kind::Disruption, reason: "Disruption".to_owned(), message: "soon".to_owned() };
        let (d, e) = (model("d"), model("e"));
        assert_eq!(
            error(&SimulationId::new("sim").unwrap(), &failures, [(&d, &obstacle), (&e, &threat)].into_iter()),
            "Simulation sim fails. Model sim/a failed: no such tag. So did [c]. Model sim/f failed with exit code 3. Model sim/g failed \
             with exit code 4. Model sim/b failed: too much. Models [e] are in danger, Disruption: soon. Models [d] wait, Unschedulable: no node."
        );
    }
}
