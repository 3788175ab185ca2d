//! What is known of each simulation and each of its models, from the pods and the records alone. Pure.
//!
//! The pod says how its model is, read as the service itself reads it; the record says what was asked for, who has said ready, and which
//! end was told. Where they differ the record is right: what was told stays so.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use super::recorded::{Asked, RecordOfOne, Recorded};
use crate::check::Grade;
use crate::clock::UnixTime;
use crate::config::Limits;
use crate::ids::PodName;
use crate::kube::pod::{Condition, ContainerStatus, NODE_LABEL, Pod};
use crate::kube::record::{ModelsReady, Record};
use crate::kube::request::log_tail;
use crate::orchestrator::done::unwanted;
use crate::orchestrator::obstacle::Kind;
use crate::orchestrator::pod_state::{Observation, STOPPED, Verdict, model_container, observe, one_line};
use crate::orchestrator::words;

/// What a failure is called of which only the code was recorded.
const GIVEN_UP: &str = "GivenUp";

#[derive(Debug)]
pub(super) struct Simulation {
    pub summary: Summary,
    /// In the order in which they were asked for, as far as that is known.
    pub models: Vec<Model>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Summary {
    pub id: String,
    pub models: usize,
    pub ready: usize,
    /// Of which no record tells whether they are ready.
    pub running: usize,
    pub succeeded: usize,
    pub failed: usize,
    pub waiting: usize,
    /// When it was asked for, or its first pod was made.
    pub since: Option<UnixTime>,
    /// When it was told that all have ended.
    pub over_since: Option<UnixTime>,
    /// When its pods go.
    pub delete_by: Option<UnixTime>,
    /// When its SO said last that it is done: to us, or to its models.
    pub done_at: Option<UnixTime>,
    /// Since when all of it is to end, as its SO or `SIMULATION_TIMEOUT` wants it.
    pub cancelled_at: Option<UnixTime>,
    /// Whether `ModelsReady` went out; none: there is no record of it.
    pub models_ready: Option<ModelsReady>,
    pub notes: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) enum State {
    Failed,
    /// Its pod was made and is not there, and its end was not told.
    Gone,
    /// It was asked for, and no pod was made of it.
    NotMade,
    /// Something keeps it from its work.
    Waits,
    /// Whether it has said that it is ready no record tells.
    Runs,
    Ready,
    Succeeded,
}

impl State {
    pub(super) fn grade(self) -> Grade {
        match self {
            Self::Failed | Self::Gone => Grade::Bad,
            Self::NotMade | Self::Waits => Grade::Warning,
            Self::Runs | Self::Ready | Self::Succeeded => Grade::Good,
        }
    }
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Model {
    pub id: String,
    pub state: State,
    /// Since it is in this state.
    pub since: Option<UnixTime>,
    /// Of one that has ended; -1 where no container gave one.
    pub exit_code: Option<i32>,
    /// A short name. Empty where there is nothing to say.
    pub reason: String,
    /// For a person, one line. May be empty.
    pub message: String,
    /// How long it may wait so by the settings; none: for ever.
    pub limit_seconds: Option<u64>,
    pub pod: Option<PodSeen>,
    /// What to do; empty where all is well.
    pub next: String,
    /// Of the pod that it has, or had.
    #[serde(skip)]
    pub pod_name: Option<PodName>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct PodSeen {
    pub name: String,
    pub uid: String,
    /// The model's.
    pub container: String,
    pub image: String,
    /// Empty where no node has taken it.
    pub node: String,
    pub phase: String,
    pub made_at: Option<UnixTime>,
    /// Those that are not as they should be.
    pub conditions: Vec<ConditionSeen>,
    /// What the container left as its last word, safe to print.
    pub termination_message: String,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ConditionSeen {
    pub r#type: String,
    pub status: String,
    pub reason: String,
    pub message: String,
}

/// All that the cluster knows of, those with trouble first.
pub(super) fn simulations(pods: &[Pod], records: Vec<Record>, limits: &Limits, namespace: &str) -> Vec<Simulation> {
    let mut by_id: BTreeMap<String, (Vec<Record>, Vec<&Pod>)> = BTreeMap::new();
    for record in records {
        by_id.entry(record.simulation.to_string()).or_default().0.push(record);
    }
    for pod in pods {
        if let (Some(simulation), Some(_)) = (&pod.metadata.labels.simulation_id, &pod.metadata.labels.model_id) {
            by_id.entry(simulation.clone()).or_default().1.push(pod);
        }
    }
    let settings = Settings { limits, namespace };
    let mut all: Vec<Simulation> = by_id.into_iter().map(|(id, (records, pods))| settings.simulation(id, records, pods)).collect();
    all.sort_by_key(|simulation| std::cmp::Reverse(simulation.summary.grade()));
    all
}

impl Summary {
    pub(super) fn grade(&self) -> Grade {
        match (self.failed, self.waiting) {
            (0, 0) => Grade::Good,
            (0, _) => Grade::Warning,
            _ => Grade::Bad,
        }
    }
}

struct Settings<'a> {
    limits: &'a Limits,
    namespace: &'a str,
}

impl Settings<'_> {
    fn simulation(&self, id: String, records: Vec<Record>, pods: Vec<&Pod>) -> Simulation {
        let mut notes = Vec::new();
        let is_recorded = !records.is_empty();
        let record = RecordOfOne::read(&id, records, &mut notes);
        let (of_run, of_earlier): (Vec<&Pod>, Vec<&Pod>) = pods.into_iter().partition(|pod| record.is_of_run(pod));
        if !of_earlier.is_empty() {
            notes.push(format!("pods of an earlier run of it are there: {}", of_earlier.len()));
        }
        let was_sent = of_run.iter().any(|pod| pod.metadata.annotations.models_ready.as_deref() == Some(ModelsReady::Sent.as_str()));
        let mut by_model: BTreeMap<&str, &Pod> =
            of_run.iter().filter_map(|pod| Some((pod.metadata.labels.model_id.as_deref()?, *pod))).collect();
        let mut numbers = BTreeSet::new();
        let mut models = Vec::new();
        for (number, asked) in record.asked.iter().enumerate() {
            numbers.insert(number);
            let pod = by_model.remove(asked.id.as_str());
            models.push(self.model(&asked.id, pod, Some(asked), &record.of(Some(number), was_sent)));
        }
        // The request goes with the simulation's end, and is not there at all where ConfigMaps are forbidden.
        let mut unasked: Vec<(Option<usize>, &str, &Pod)> = by_model
            .iter()
            .map(|(id, pod)| (pod.metadata.annotations.number.as_deref().and_then(|number| number.parse().ok()), *id, *pod))
            .collect();
        unasked.sort_by_key(|(number, id, _)| (*number, *id));
        for (number, id, pod) in unasked {
            numbers.extend(number);
            models.push(self.model(id, Some(pod), None, &record.of(number, was_sent)));
        }
        let nameless: Vec<i32> = record
            .progress
            .iter()
            .flat_map(|it| &it.ended)
            .filter(|(number, _)| !numbers.contains(*number))
            .map(|(_, code)| *code)
            .collect();
        let nameless_failed = nameless.iter().filter(|code| **code != 0).count();
        if !nameless.is_empty() {
            let count = nameless.len();
            notes.push(format!(
                "{count} more of its models have ended, {nameless_failed} of them failed: their pods are gone, and their names with them"
            ));
        }
        if !is_recorded {
            notes.push("there is no record of it: who has said ready, and what has no pod, is not known".to_owned());
        }
        let count = |states: &[State]| models.iter().filter(|model| states.contains(&model.state)).count();
        let asked_at = record.asked.iter().filter_map(|asked| asked.asked_at);
        let made_at = of_run.iter().filter_map(|pod| Some(pod.metadata.creation_timestamp?.0));
        let over = record.progress.as_ref().and_then(|progress| progress.over);
        let summary = Summary {
            id,
            models: models.len() + nameless.len(),
            ready: count(&[State::Ready]),
            running: count(&[State::Runs]),
            succeeded: count(&[State::Succeeded]) + nameless.len() - nameless_failed,
            failed: count(&[State::Failed, State::Gone]) + nameless_failed,
            waiting: count(&[State::Waits, State::NotMade]),
            since: asked_at.chain(made_at).min_by(|one, other| one.0.total_cmp(&other.0)),
            over_since: over.map(|over| over.at),
            delete_by: over.map(|over| over.delete_by),
            done_at: record.progress.as_ref().and_then(|progress| progress.done_at),
            cancelled_at: record.progress.as_ref().and_then(|progress| progress.cancelled).map(|cancelled| cancelled.at),
            models_ready: record.progress.as_ref().map(|progress| progress.models_ready).or(was_sent.then_some(ModelsReady::Sent)),
            notes,
        };
        Simulation { summary, models }
    }

    fn model(&self, id: &str, pod: Option<&Pod>, asked: Option<&Asked>, recorded: &Recorded) -> Model {
        let image = asked.map(|asked| asked.image.as_str());
        let pod_name = asked.map(|asked| asked.pod.clone()).or_else(|| PodName::new(&pod?.metadata.name).ok());
        let seen = pod.map(|pod| (pod, model_container(pod, image), observe(pod, image)));
        let mut model = Model {
            id: id.to_owned(),
            state: State::NotMade,
            since: None,
            exit_code: None,
            reason: String::new(),
            message: String::new(),
            limit_seconds: None,
            pod: seen.as_ref().map(|(pod, container, _)| PodSeen::of(pod, container)),
            next: String::new(),
            pod_name,
        };
        let verdict = verdict(recorded, seen.as_ref().map(|(_, _, observation)| observation));
        match (verdict, seen) {
            (Some(verdict), seen) => self.ended(&mut model, &verdict, seen.as_ref().map(|(pod, container, _)| (*pod, *container))),
            (None, Some((pod, _, observation))) => self.alive(&mut model, pod, observation, recorded),
            (None, None) if recorded.is_made => {
                model.state = State::Gone;
                model.reason = "PodDeleted".to_owned();
                model.message = "its pod was made, and is not there: somebody deleted it, and the service has not told so yet".to_owned();
                model.next = "see that the service runs: it tells the model as failed; then start the simulation again".to_owned();
            }
            (None, None) => {
                model.since = asked.and_then(|asked| asked.asked_at);
                model.reason = "NotMade".to_owned();
                model.message =
                    "it was asked for, and no pod was made of it yet: the service is at it or not there, or the API server refuses it"
                        .to_owned();
                let namespace = self.namespace;
                model.next =
                    format!("mso check: it tries a create that is none; kubectl -n {namespace} logs deployment/mso says what it waits for");
            }
        }
        model
    }

    fn ended(&self, model: &mut Model, verdict: &Verdict, seen: Option<(&Pod, &str)>) {
        model.state = if verdict.success { State::Succeeded } else { State::Failed };
        model.exit_code = Some(verdict.exit_code);
        model.reason = one_line(&verdict.reason);
        model.message.clone_from(&verdict.message);
        let end = seen.and_then(|(pod, container)| container_status(pod, container)?.state.terminated.as_ref()?.finished_at);
        model.since = end.map(|at| at.0);
        let (namespace, pod) = (self.namespace, seen.map_or("", |(pod, _)| pod.metadata.name.as_str()));
        model.next = match verdict.reason.as_str() {
            _ if verdict.success => String::new(),
            GIVEN_UP => format!("kubectl -n {namespace} logs deployment/mso names what it waited for; so do the events"),
            "Error" => format!("its log says why, all of it: kubectl -n {namespace} logs {pod}"),
            reason => words::advice(reason).to_owned(),
        };
    }

    fn alive(&self, model: &mut Model, pod: &Pod, observation: Observation, recorded: &Recorded) {
        let (namespace, name) = (self.namespace, &pod.metadata.name);
        model.state = State::Waits;
        match observation {
            Observation::Waits(obstacle, since) if obstacle.kind == Kind::NotReady && recorded.is_ready != Some(false) => {
                model.state = if recorded.is_ready.is_some() { State::Ready } else { State::Runs };
                model.since = since;
            }
            Observation::Waits(obstacle, since) => {
                model.since = since;
                model.limit_seconds = obstacle.kind.limit(self.limits).map(|limit| limit.as_secs());
                model.next = self.next(obstacle.kind, name);
                model.reason = one_line(&obstacle.reason);
                model.message = obstacle.message;
            }
            Observation::Alive | Observation::Ended(_) | Observation::Restarts(_) | Observation::Doubtful(_) => {
                model.since = pod.metadata.creation_timestamp.map(|at| at.0);
                model.reason = "Pending".to_owned();
                model.message = "nobody has looked at its pod yet: no scheduler, or no kubelet".to_owned();
                model.next = format!("kubectl -n {namespace} describe pod {name}");
            }
        }
    }

    fn next(&self, kind: Kind, pod: &str) -> String {
        let (namespace, (label, value)) = (self.namespace, NODE_LABEL);
        let describe = format!("kubectl -n {namespace} describe pod {pod}");
        match kind {
            Kind::Unschedulable => {
                format!("make room on a node with the label {label}={value}, or kubectl label node NODE {label}={value}")
            }
            Kind::Gated => "whoever put the scheduling gate on it is to take it off".to_owned(),
            Kind::Creating => format!("wait; if it stays so: {describe}"),
            Kind::ImagePull => {
                "push the image, mend its name in the request, or set KUBERNETES_PULL_IMAGE_SECRET_NAME: mso check looks at that secret"
                    .to_owned()
            }
            Kind::ImagePullHeld => "wait: the kubelet holds back many pulls at once".to_owned(),
            Kind::ImageUnusable => {
                "mend the image's name in the request, or KUBERNETES_IMAGE_PULL_POLICY, and start the simulation again".to_owned()
            }
            Kind::ImageInspect | Kind::VolumeSubpath | Kind::ContainerStart => format!("{describe}: its events say more"),
            Kind::ContainerConfig => format!("make the Secret or ConfigMap that it names: kubectl -n {namespace} get secrets,configmaps"),
            Kind::Terminating(_) => format!("kubectl -n {namespace} get pod {pod} -o yaml: a finalizer or its node may hold it"),
            Kind::NodeLost => "kubectl get nodes: bring its node back, or start the simulation again".to_owned(),
            Kind::Disruption => "start the simulation again when its pod is gone".to_owned(),
            Kind::NotReady => {
                format!("kubectl -n {namespace} logs {pod}: it is to publish ReadyForProcessing at the broker that its variables name")
            }
        }
    }
}

/// How the model ended, if it has. What was recorded was told, but not why: the kubelet forgets what a container waited for, once it is
/// stopped.
fn verdict(recorded: &Recorded, observation: Option<&Observation>) -> Option<Verdict> {
    let of_pod = observation.and_then(|observation| match observation {
        Observation::Ended(verdict) | Observation::Restarts(verdict) | Observation::Doubtful(verdict) => Some(verdict),
        Observation::Alive | Observation::Waits(..) => None,
    });
    let Some(code) = recorded.exit_code else { return of_pod.cloned() };
    if let Some(by) = recorded.ended_for {
        return Some(unwanted(by));
    }
    let was_stopped = of_pod.is_some_and(|verdict| verdict.reason == STOPPED);
    match of_pod {
        Some(verdict) if verdict.exit_code == code && !was_stopped => Some(verdict.clone()),
        _ if code == 0 => Some(Verdict::succeeded("Succeeded")),
        _ => {
            let why = if was_stopped { "it waited too long" } else { "its pod could not be made, waited too long, or was deleted" };
            Some(Verdict::failed(code, GIVEN_UP, &format!("the service gave it up, and told the SO why: {why}")))
        }
    }
}

impl PodSeen {
    fn of(pod: &Pod, container: &str) -> Self {
        let end = container_status(pod, container).and_then(|status| status.state.terminated.as_ref());
        let has_ended = end.is_some() || ["Failed", "Succeeded"].contains(&pod.status.phase.as_str());
        // `ContainersReady` says what `Ready` says.
        let is_odd = |type_of: &str, status: &str| match type_of {
            "DisruptionTarget" => status == "True",
            "PodScheduled" => status != "True",
            "Ready" | "Initialized" | "PodReadyToStartContainers" => status != "True" && !has_ended,
            _ => false,
        };
        let conditions = pod.status.conditions.iter().filter(|condition| is_odd(&condition.r#type, &condition.status));
        let seen = |condition: &Condition| ConditionSeen {
            r#type: condition.r#type.clone(),
            status: condition.status.clone(),
            reason: one_line(&condition.reason),
            message: one_line(&condition.message),
        };
        let termination_message = end.map_or("", |end| end.message.as_str());
        Self {
            name: pod.metadata.name.clone(),
            uid: pod.metadata.uid.clone(),
            container: container.to_owned(),
            image: pod.spec.containers.iter().find(|it| it.name == container).map_or(String::new(), |it| one_line(&it.image)),
            node: pod.spec.node_name.clone(),
            phase: pod.status.phase.clone(),
            made_at: pod.metadata.creation_timestamp.map(|at| at.0),
            conditions: conditions.map(seen).collect(),
            termination_message: log_tail(termination_message.as_bytes()).unwrap_or_default(),
        }
    }
}

fn container_status<'a>(pod: &'a Pod, container: &str) -> Option<&'a ContainerStatus> {
    pod.status.container_statuses.iter().find(|status| status.name == container)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::ids::{DeployId, ModelId, RecordName, SimulationId, SimulatorId, SimulatorName, Uid};
    use crate::kube::record::{CancelledBy, Content, NewRecord, Over, Progress};
    use crate::orchestrator::event::{DeployRequest, ModelConfiguration};

    const DEPLOY: &str = "00000000000000ab";
    const SCHEDULED: &str = "2026-01-01T12:00:10Z";

    fn pod(model: &str, number: usize, status: &Value) -> Pod {
        let name = format!("so-sim-{model}");
        serde_json::from_value(json!({
            "metadata": {
                "name": name, "uid": format!("uid-{model}"), "creationTimestamp": "2026-01-01T12:00:00Z",
                "labels": {"simulation_id": "sim", "model_id": model},
                "annotations": {"mso.dots/deploy": DEPLOY, "mso.dots/number": number.to_string()},
            },
            "spec": {"nodeName": "n1", "containers": [{"name": name, "image": "model:1"}]},
            "status": status,
        }))
        .unwrap()
    }

    fn container(model: &str, state: &Value) -> Value {
        let phase = if state.get("running").is_some() { "Running" } else { "Pending" };
        let scheduled = json!([{"type": "PodScheduled", "status": "True", "lastTransitionTime": SCHEDULED}]);
        json!({"phase": phase, "conditions": scheduled, "containerStatuses": [{"name": format!("so-sim-{model}"), "state": state}]})
    }

    fn running(model: &str) -> Value {
        container(model, &json!({"running": {"startedAt": "2026-01-01T12:01:00Z"}}))
    }

    fn request(models: &[&str]) -> Vec<Record> {
        let (simulator, simulation) = (SimulatorId::new("so").unwrap(), SimulationId::new("sim").unwrap());
        let model = |id: &&str| {
            let model = ModelId::new(id).unwrap();
            let pod = PodName::of(&simulator, &simulation, &model).unwrap();
            ModelConfiguration { model, pod, image: "model:1".to_owned(), variables: Vec::new() }
        };
        let models = models.iter().map(model).collect();
        let id = DeployId::new(DEPLOY).unwrap();
        let request = DeployRequest { id, simulator: simulator.clone(), simulation: simulation.clone(), models, keep_logs_hours: 1.0 };
        let pieces = NewRecord::pieces(&SimulatorName::new("so").unwrap(), &request, UnixTime(7.0));
        pieces.into_iter().map(|piece| record(piece.name, piece.content)).collect()
    }

    fn progress(change: impl FnOnce(&mut Progress)) -> Record {
        let mut progress = Progress { deploys: vec![DeployId::new(DEPLOY).unwrap()], ..Progress::default() };
        change(&mut progress);
        let name = RecordName::of_progress(&SimulatorName::new("so").unwrap(), &SimulationId::new("sim").unwrap());
        record(name, Content::Progress { text: progress.to_text() })
    }

    fn record(name: RecordName, content: Content) -> Record {
        let simulation = SimulationId::new("sim").unwrap();
        Record { name, uid: Uid::new("uid").unwrap(), version: "1".to_owned(), simulation, content }
    }

    fn read(pods: &[Pod], records: Vec<Record>) -> Simulation {
        let mut all = simulations(pods, records, &Limits::default(), "dots");
        assert_eq!(all.len(), 1);
        all.remove(0)
    }

    fn states(simulation: &Simulation) -> Vec<(&str, State, &str)> {
        simulation.models.iter().map(|model| (model.id.as_str(), model.state, model.reason.as_str())).collect()
    }

    #[test]
    fn each_model_is_as_its_pod_and_its_record_say() {
        let models = ["ready", "slow", "pulls", "crashed", "not-made", "gone", "given-up", "stopping", "cancelled"];
        let mut records = request(&models);
        records.push(progress(|progress| {
            progress.created = [0, 1, 2, 3, 5, 6, 7, 8].into_iter().collect();
            progress.ready = [0].into_iter().collect();
            progress.ended = BTreeMap::from([(3, 3), (6, -1), (7, -1), (8, -1)]);
            // An SO tells all of them, also those that have failed before.
            progress.done = (0..9).collect();
            progress.unwanted = BTreeMap::from([(8, CancelledBy::So)]);
        }));
        let pulls = container("pulls", &json!({"waiting": {"reason": "ErrImagePull", "message": "no\nimage"}}));
        let ended =
            json!({"terminated": {"exitCode": 3, "reason": "Error", "finishedAt": "2026-01-01T12:02:00Z", "message": "a\u{1b}[1mb"}});
        let mut crashed = container("crashed", &ended);
        crashed["phase"] = json!("Failed");
        let mut stopped = pod("given-up", 6, &json!({"phase": "Failed", "reason": "DeadlineExceeded", "message": "too long"}));
        stopped.spec.active_deadline_seconds = Some(1);
        let pods = [
            pod("ready", 0, &running("ready")),
            pod("slow", 1, &running("slow")),
            pod("pulls", 2, &pulls),
            pod("crashed", 3, &crashed),
            stopped,
            // The kubelet has not ended it yet.
            pod("stopping", 7, &running("stopping")),
        ];
        let simulation = read(&pods, records);
        let expected = [
            ("ready", State::Ready, ""),
            ("slow", State::Waits, "WaitingForReady"),
            ("pulls", State::Waits, "ErrImagePull"),
            ("crashed", State::Failed, "Error"),
            ("not-made", State::NotMade, "NotMade"),
            ("gone", State::Gone, "PodDeleted"),
            ("given-up", State::Failed, "GivenUp"),
            ("stopping", State::Failed, "GivenUp"),
            ("cancelled", State::Failed, "Cancelled"),
        ];
        assert_eq!(states(&simulation), expected);
        let Summary { ready, waiting, failed, models_ready, since, .. } = simulation.summary;
        assert_eq!((ready, waiting, failed, models_ready, since), (1, 3, 5, Some(ModelsReady::No), Some(UnixTime(7.0))));
        let [_, slow, pulls, crashed, not_made, ..] = simulation.models.as_slice() else { panic!() };
        assert_eq!(slow.since.map(|at| at.to_string()).as_deref(), Some("2026-01-01T12:01:00Z"));
        assert_eq!(pulls.since.map(|at| at.to_string()).as_deref(), Some(SCHEDULED));
        assert_eq!((pulls.limit_seconds, slow.limit_seconds), (Some(300), None));
        assert!(pulls.message.starts_with("no image; does the tag exist"), "{}", pulls.message);
        assert_eq!(crashed.pod.as_ref().unwrap().termination_message, "a\\u{1b}[1mb");
        assert_eq!(crashed.since.map(|at| at.to_string()).as_deref(), Some("2026-01-01T12:02:00Z"));
        assert_eq!((&not_made.pod_name, not_made.since), (&PodName::new("so-sim-not-made").ok(), Some(UnixTime(7.0))));
        assert!(simulation.models.iter().all(|model| model.next.is_empty() == (model.state == State::Ready)), "{:#?}", simulation.models);
    }

    #[test]
    fn a_request_that_no_process_has_begun_is_not_made() {
        let simulation = read(&[], request(&["m1", "m2"]));
        assert_eq!(states(&simulation), [("m1", State::NotMade, "NotMade"), ("m2", State::NotMade, "NotMade")]);
    }

    #[test]
    fn of_a_simulation_that_is_over_those_without_a_pod_are_counted() {
        let over = progress(|progress| {
            progress.created = [0, 1].into_iter().collect();
            progress.ended = BTreeMap::from([(0, 0), (1, 0), (2, -1)]);
            progress.models_ready = ModelsReady::Sent;
            progress.over = Some(Over { at: UnixTime(70.0), delete_by: UnixTime(3670.0) });
        });
        let mut succeeded = container("m1", &json!({"terminated": {"exitCode": 0, "reason": "Completed"}}));
        succeeded["phase"] = json!("Succeeded");
        let Simulation { summary, models } = read(&[pod("m1", 0, &succeeded)], vec![over]);
        assert_eq!((models.len(), models[0].state), (1, State::Succeeded));
        assert_eq!((summary.models, summary.succeeded, summary.failed, summary.over_since), (3, 2, 1, Some(UnixTime(70.0))));
        assert_eq!(summary.notes, ["2 more of its models have ended, 1 of them failed: their pods are gone, and their names with them"]);
    }

    #[test]
    fn without_a_record_a_model_that_runs_is_ready_only_where_its_pods_say_that_all_were() {
        let mut pods = [pod("m1", 0, &running("m1")), pod("m2", 1, &running("m2"))];
        assert_eq!(states(&read(&pods, Vec::new())), [("m1", State::Runs, ""), ("m2", State::Runs, "")]);
        assert_eq!(read(&pods, Vec::new()).summary.models_ready, None);
        pods[0].metadata.annotations.models_ready = Some("sent".to_owned());
        assert_eq!(states(&read(&pods, Vec::new())), [("m1", State::Ready, ""), ("m2", State::Ready, "")]);
    }

    #[test]
    fn a_pod_of_an_earlier_run_is_none_of_this_ones() {
        let mut records = request(&["m1"]);
        records.push(progress(|progress| progress.replaced = vec![Uid::new("uid-m1").unwrap()]));
        let simulation = read(&[pod("m1", 0, &running("m1"))], records);
        assert_eq!(states(&simulation), [("m1", State::NotMade, "NotMade")]);
        assert_eq!(simulation.summary.notes, ["pods of an earlier run of it are there: 1"]);
    }

    #[test]
    fn only_conditions_that_are_not_as_they_should_be_are_shown() {
        let mut pod = pod("m1", 0, &running("m1"));
        let condition = |of: &str, status: &str| json!({"type": of, "status": status, "reason": "R", "message": "m"});
        let conditions = json!([
            condition("PodScheduled", "True"),
            condition("Ready", "False"),
            condition("ContainersReady", "False"),
            condition("DisruptionTarget", "True"),
            condition("PodResizePending", "True"),
        ]);
        pod.status.conditions = serde_json::from_value(conditions).unwrap();
        let shown = |pod: &Pod| -> Vec<String> { PodSeen::of(pod, "so-sim-m1").conditions.into_iter().map(|it| it.r#type).collect() };
        assert_eq!(shown(&pod), ["Ready", "DisruptionTarget"]);
        pod.status.phase = "Succeeded".to_owned();
        assert_eq!(shown(&pod), ["DisruptionTarget"]);
    }

    #[test]
    fn those_with_trouble_come_first() {
        let mut fine = pod("m1", 0, &running("m1"));
        fine.metadata.labels.simulation_id = Some("a".to_owned());
        let waits = pod("m1", 0, &container("m1", &json!({"waiting": {"reason": "ErrImagePull"}})));
        let mut failed = pod("m1", 0, &json!({"phase": "Failed", "reason": "Evicted"}));
        failed.metadata.labels.simulation_id = Some("z".to_owned());
        let all = simulations(&[fine, waits, failed], Vec::new(), &Limits::default(), "dots");
        assert_eq!(all.iter().map(|simulation| simulation.summary.id.as_str()).collect::<Vec<_>>(), ["z", "sim", "a"]);
    }
}
