//! Every pod of ours in the cluster, what became of it, and when it goes. A pod is deleted only on purpose, this very object by its uid.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use log::Level;

use super::deadline::Deadline;
use super::event::{Answer, Body, PodCall};
use super::pod_state::{self, Observation, Verdict};
use super::refusal::{Remedy, refusal};
use super::simulation::{Creation, Model, Run};
use super::{DOUBT, Orchestrator};
use crate::clock::{Now, UnixTime};
use crate::ids::{DeployId, ModelId, PodName, SimulationId, SimulatorName, Uid};
use crate::kube::error::Error;
use crate::kube::pod::Pod;

/// A request that comes again so soon after the end of its simulation may be a redelivery.
const END_REMEMBERED: Duration = Duration::from_secs(10 * 60);
/// A date may be centuries ahead; a monotonic clock may not.
const LONGEST_WAIT: Duration = Duration::from_secs(24 * 60 * 60);
/// A date is kept to less than a microsecond: what rounding leaves of a wait must not be waited for again and again.
const SHORTEST_WAIT: Duration = Duration::from_millis(1);
/// A Role may be mended.
const REFUSED_CHANGE_AGAIN: Duration = Duration::from_secs(30);

/// A pod with our mark, as the cluster last showed it.
pub(super) struct KnownPod {
    pub name: PodName,
    pub uid: Uid,
    pub simulation: SimulationId,
    pub model: ModelId,
    /// Absent or unreadable where somebody changed it.
    pub deploy: Option<DeployId>,
    /// The model's container.
    pub container: String,
    /// The model's container runs no more.
    pub ended: bool,
    /// It has a node, so that a kubelet looks after it.
    bound: bool,
    pub delete_by: Option<UnixTime>,
    /// A list that was asked for before says nothing of it.
    pub known_since: Instant,
    /// It goes first, as its simulation runs anew.
    pub replaced: bool,
    /// "A.S.M crashed with status N", while its log is awaited.
    pub crashed: Option<String>,
    /// That it cannot be changed was said.
    trouble_told: bool,
    /// Each is asked once, and again where it failed.
    stop_asked: bool,
    delete_by_asked: bool,
    delete_asked: bool,
}

/// What is to be done with a pod.
enum Next {
    Nothing,
    /// So many seconds from now there is something.
    Wait(f64),
    Stop,
    SetDeleteBy(UnixTime),
    Delete,
}

/// A simulation whose end was announced.
pub(super) struct Ended {
    pub run: Run,
    pub deploys: BTreeSet<DeployId>,
    /// The broker has acknowledged the announcement of the end.
    pub told: bool,
    /// When the end was announced.
    pub at: Instant,
    pub delete_by: UnixTime,
}

impl Orchestrator {
    /// All models have ended, and the broker knows of each.
    pub(super) fn end(&mut self, id: SimulationId, now: Now) {
        self.say(Level::Info, format!("All models for simulation {id} have terminated. Send out AllModelsHaveTerminated."));
        self.announce(&id, Body::AllModelsHaveTerminated);
        self.say(Level::Info, format!("Removing simulation {id} from cache."));
        let Some(simulation) = self.simulations.remove(&id) else { return };
        // From the announcement on, not from the container's end: a kubelet may be late to tell, and its clock wrong.
        let delete_by = self.server_time(now).plus_seconds(simulation.keep_logs_hours * 3600.0);
        let ended = Ended { run: simulation.run, deploys: simulation.deploys, told: false, at: now.instant, delete_by };
        self.deadlines.set(now.instant + END_REMEMBERED, Deadline::EndIsForgotten(id.clone()));
        self.ended.insert(id, ended);
    }

    pub(super) fn forget_end(&mut self, id: &SimulationId, now: Now) {
        let is_old = |ended: &Ended| now.instant.saturating_duration_since(ended.at) >= END_REMEMBERED;
        if !self.ended.get(id).is_some_and(is_old) {
            return;
        }
        if self.pods.values().any(|known| known.simulation == *id) {
            self.deadlines.set(now.instant + END_REMEMBERED, Deadline::EndIsForgotten(id.clone()));
        } else {
            self.ended.remove(id);
        }
    }

    /// A new run begins: pods whose run was announced as ended make room.
    pub(super) fn replace_pods_of_ended_run(&mut self, id: &SimulationId) {
        let ended = self.ended.remove(id);
        for known in self.pods.values_mut().filter(|known| known.simulation == *id) {
            if ended.is_some() || known.delete_by.is_some() {
                known.replaced = true;
                self.touched_pods.insert(known.name.clone());
            }
        }
    }

    pub(super) fn touch_pods_of(&mut self, id: &SimulationId) {
        let names = self.pods.values().filter(|known| known.simulation == *id).map(|known| known.name.clone());
        self.touched_pods.extend(names);
    }

    pub(super) fn on_listed(&mut self, pods: Vec<Pod>, asked_at: Instant, now: Now) {
        let listed: BTreeSet<String> = pods.iter().map(|pod| pod.metadata.name.clone()).collect();
        let first = !std::mem::replace(&mut self.api.listed, true);
        for pod in pods {
            self.observe(&pod, now);
        }
        let missing = |known: &&KnownPod| !listed.contains(known.name.as_str()) && known.known_since < asked_at;
        let missing: Vec<PodName> = self.pods.values().filter(missing).map(|known| known.name.clone()).collect();
        for name in missing {
            self.on_missing(&name);
        }
        if first {
            self.calls.open();
            self.say_what_is_left();
            let running: Vec<SimulationId> = self.simulations.keys().cloned().collect();
            for id in running {
                self.replace_pods_of_ended_run(&id);
            }
        }
    }

    /// Pods of an earlier process of ours, of which nobody told this one.
    fn say_what_is_left(&mut self) {
        let unknown = |known: &&KnownPod| !self.simulations.contains_key(&known.simulation) && known.delete_by.is_none();
        let left: BTreeSet<SimulationId> = self.pods.values().filter(unknown).map(|known| known.simulation.clone()).collect();
        for id in left {
            let count = self.pods.values().filter(|known| known.simulation == id && known.delete_by.is_none()).count();
            let text = format!(
                "Simulation {id} has pods of an earlier run of this service, which did not see their end ({count}): they are left alone."
            );
            self.say(Level::Warn, text);
        }
    }

    /// The cluster showed a pod: what it says of itself and of its model.
    pub(super) fn observe(&mut self, pod: &Pod, now: Now) {
        let Some(mut seen) = KnownPod::read(pod, &self.simulator, now.instant) else {
            return self.say(Level::Debug, format!("Pod {} is not ours: left alone.", pod.metadata.name));
        };
        match self.pods.remove(&seen.name) {
            Some(before) if before.uid == seen.uid => seen.keep(before),
            Some(before) => self.on_replaced(&before, &seen.uid),
            None => self.say_if_delete_by_is_unreadable(pod),
        }
        let image = self.model_with_pod(&seen).map(|model| model.pod.image.clone());
        let observation = pod_state::observe(pod, image.as_deref());
        seen.container = pod_state::model_container(pod, image.as_deref()).to_owned();
        seen.ended = matches!(observation, Observation::Ended(_));
        let (name, id, model, uid) = (seen.name.clone(), seen.simulation.clone(), seen.model.clone(), seen.uid.clone());
        let may_be_taken = !seen.replaced && pod.metadata.deletion_timestamp.is_none();
        let is_its_pod = self.model_with_pod(&seen).is_some_and(|model| model.uid.as_ref().map_or(may_be_taken, |ours| *ours == uid));
        self.pods.insert(name.clone(), seen);
        self.touched_pods.insert(name.clone());
        if is_its_pod {
            self.take_pod(&name, &id, &model, &uid);
            self.observe_model(&id, &model, uid, observation, now);
        }
    }

    /// From here on this very pod runs the model.
    fn take_pod(&mut self, name: &PodName, id: &SimulationId, model_id: &ModelId, uid: &Uid) {
        let Some(model) = self.model_mut(id, model_id).filter(|model| model.uid.is_none()) else { return };
        model.uid = Some(uid.clone());
        if matches!(model.creation, Creation::NameTaken | Creation::Refused(_) | Creation::WaitsForName) {
            model.creation = Creation::Done;
            self.say(Level::Info, format!("Pod {name} of model {id}/{model_id} already exists, adopted (uid {uid})."));
        }
    }

    fn observe_model(&mut self, id: &SimulationId, model_id: &ModelId, uid: Uid, observation: Observation, now: Now) {
        let Some(model) = self.model_mut(id, model_id) else { return };
        match observation {
            Observation::Alive => model.doubt = None,
            Observation::Ended(verdict) => self.conclude(id, model_id, verdict),
            Observation::Doubtful(verdict) => {
                if model.verdict.is_none() && model.doubt.replace(verdict).is_none() {
                    let deadline = Deadline::DoubtIsOver { simulation: id.clone(), model: model_id.clone(), uid };
                    self.deadlines.set(now.instant + DOUBT, deadline);
                }
            }
        }
    }

    fn say_if_delete_by_is_unreadable(&mut self, pod: &Pod) {
        if let Some(text) = &pod.metadata.labels.delete_by_datetime
            && parse_delete_by(text).is_none()
        {
            self.say(
                Level::Warn,
                format!("Pod {} has delete_by_datetime {text:?}, which is not Unix seconds: it is left alone.", pod.metadata.name),
            );
        }
    }

    /// The watch says that it is gone; the event holds its last status.
    pub(super) fn on_deleted(&mut self, pod: &Pod, now: Now) {
        let Some(seen) = KnownPod::read(pod, &self.simulator, now.instant) else { return };
        if self.pods.get(&seen.name).is_none_or(|known| known.uid != seen.uid) {
            return;
        }
        let image = self.model_with_pod(&seen).filter(|model| model.uid.as_ref() == Some(&seen.uid)).map(|model| model.pod.image.clone());
        match pod_state::observe(pod, image.as_deref()) {
            Observation::Ended(verdict) if image.is_some() => {
                self.on_vanished(&seen.name);
                self.conclude(&seen.simulation, &seen.model, verdict);
            }
            Observation::Ended(_) | Observation::Alive | Observation::Doubtful(_) => self.on_missing(&seen.name),
        }
    }

    /// It is not there: of a model that runs that is asked for by name before it counts.
    fn on_missing(&mut self, name: &PodName) {
        let Some(known) = self.pods.get(name) else { return };
        let (simulation, model, uid) = (known.simulation.clone(), known.model.clone(), known.uid.clone());
        if self.is_run_by(&simulation, &model, &uid) {
            self.calls.push(PodCall::Get { name: name.clone(), simulation, model }, 0);
        } else {
            self.on_vanished(name);
        }
    }

    /// A pod that no model depends on is gone.
    pub(super) fn on_vanished(&mut self, name: &PodName) {
        let Some(known) = self.pods.remove(name) else { return };
        if !known.delete_asked && known.delete_by.is_some() {
            self.say(Level::Info, format!("Pod {name} was deleted before its time: its log is no longer available."));
        }
        self.create_when_name_is_free(&known.simulation, &known.model);
    }

    fn on_replaced(&mut self, known: &KnownPod, uid: &Uid) {
        if self.is_run_by(&known.simulation, &known.model, &known.uid) {
            let message = format!("the pod was {}, and now one with uid {uid} has its name", known.uid);
            self.conclude(&known.simulation, &known.model, Verdict::failed_without_code("PodReplaced", &message));
        }
    }

    /// This pod runs this model, which has not ended.
    fn is_run_by(&self, id: &SimulationId, model: &ModelId, uid: &Uid) -> bool {
        let model = self.simulations.get(id).and_then(|simulation| simulation.models.get(model));
        model.is_some_and(|model| model.uid.as_ref() == Some(uid) && model.verdict.is_none())
    }

    /// The running model that this pod was made for.
    fn model_with_pod(&self, known: &KnownPod) -> Option<&Model> {
        let model = self.simulations.get(&known.simulation)?.models.get(&known.model)?;
        (model.pod.name == known.name && Some(&model.pod.deploy) == known.deploy.as_ref()).then_some(model)
    }

    pub(super) fn settle_pod(&mut self, name: &PodName, now: Now) {
        let Some(known) = self.pods.get(name) else { return };
        let next = self.next_for(known, self.server_time(now));
        let Some(known) = self.pods.get_mut(name) else { return };
        let (name, uid) = (name.clone(), known.uid.clone());
        let (asked, call) = match next {
            Next::Nothing => return,
            Next::Wait(seconds) => {
                let wait = Duration::try_from_secs_f64(seconds).map_or(LONGEST_WAIT, |wait| wait.clamp(SHORTEST_WAIT, LONGEST_WAIT));
                return self.deadlines.set(now.instant + wait, Deadline::PodIsDue(name));
            }
            Next::Stop => (&mut known.stop_asked, PodCall::Stop { name, uid }),
            Next::SetDeleteBy(delete_by) => (&mut known.delete_by_asked, PodCall::SetDeleteBy { name, uid, delete_by }),
            Next::Delete if known.delete_asked => return,
            Next::Delete => (&mut known.delete_asked, PodCall::Delete { name, uid }),
        };
        *asked = true;
        self.calls.push(call, 0);
    }

    /// What was decided on may be wrong by the time that it goes out: a pod without a node, say, may have got one.
    pub(super) fn is_to_be_deleted(&self, name: &PodName, uid: &Uid, now: Now) -> bool {
        let known = self.pods.get(name).filter(|known| known.uid == *uid);
        known.is_some_and(|known| matches!(self.next_for(known, self.server_time(now)), Next::Delete))
    }

    fn next_for(&self, known: &KnownPod, server_time: UnixTime) -> Next {
        let ended = self.ended.get(&known.simulation);
        let is_told = ended.is_none_or(|ended| ended.told);
        if known.replaced || (self.has_outlived_its_model(known) && !known.bound) {
            Next::Delete
        } else if self.has_outlived_its_model(known) && !known.stop_asked {
            Next::Stop
        } else if self.simulations.contains_key(&known.simulation) || !is_told {
            Next::Nothing
        } else if let Some(at) = known.delete_by {
            let seconds = at.seconds_since(server_time);
            match known.ended {
                true if seconds <= 0.0 => Next::Delete,
                true => Next::Wait(seconds),
                false => Next::Nothing,
            }
        } else {
            let of_this_run = ended.filter(|ended| known.deploy.as_ref().is_some_and(|deploy| ended.deploys.contains(deploy)));
            match of_this_run {
                Some(ended) if known.crashed.is_none() && !known.delete_by_asked => Next::SetDeleteBy(ended.delete_by),
                _ => Next::Nothing,
            }
        }
    }

    /// Its model has ended without it: a create that was given up and worked after all.
    fn has_outlived_its_model(&self, known: &KnownPod) -> bool {
        let of_ended_run = || {
            let ended = self.ended.get(&known.simulation);
            ended.is_some_and(|ended| known.deploy.as_ref().is_some_and(|deploy| ended.deploys.contains(deploy)))
        };
        !known.ended && (self.model_with_pod(known).is_some_and(|model| model.verdict.is_some()) || of_ended_run())
    }

    pub(super) fn on_changed(&mut self, call: &PodCall, result: Result<Answer, Error>, now: Now) {
        let Err(error) = result else { return };
        // Meanwhile another pod may have the name: of that one nothing was asked.
        let Some(known) = self.pods.get_mut(call.pod()).filter(|known| call.uid() == Some(&known.uid)) else { return };
        let (name, told) = (known.name.clone(), std::mem::replace(&mut known.trouble_told, true));
        if error.is_not_found() {
            return self.on_vanished(&name);
        }
        self.decide_again(call);
        match refusal(&error).remedy {
            Remedy::HoldAll(_) | Remedy::HoldCreates(_) => {}
            Remedy::AskWhoHasTheName | Remedy::Again(_) | Remedy::GiveUp => {
                self.touched_pods.remove(&name);
                self.deadlines.set(now.instant + REFUSED_CHANGE_AGAIN, Deadline::PodIsDue(name.clone()));
                if !told {
                    self.say(Level::Error, format!("Pod {name} cannot be changed or deleted: {error}. Trying again."));
                }
            }
        }
    }

    /// What was asked of a pod was not done: what is to be done is derived anew, as it may have changed.
    pub(super) fn decide_again(&mut self, call: &PodCall) {
        let Some(known) = self.pods.get_mut(call.pod()).filter(|known| call.uid() == Some(&known.uid)) else { return };
        match call {
            PodCall::SetDeleteBy { .. } => known.delete_by_asked = false,
            PodCall::Stop { .. } => known.stop_asked = false,
            PodCall::Delete { .. } => known.delete_asked = false,
            PodCall::Create(_) | PodCall::Get { .. } | PodCall::ReadLog { .. } => return,
        }
        self.touched_pods.insert(call.pod().clone());
    }
}

impl KnownPod {
    /// Nothing where the pod lacks our mark or one of our labels: it is not ours, whatever the rest says.
    fn read(pod: &Pod, mark: &SimulatorName, now: Instant) -> Option<Self> {
        let metadata = &pod.metadata;
        metadata.labels.mark.as_deref().filter(|value| *value == mark.as_str())?;
        Some(Self {
            name: PodName::new(&metadata.name).ok()?,
            uid: Uid::new(&metadata.uid).ok()?,
            simulation: SimulationId::new(metadata.labels.simulation_id.as_deref()?).ok()?,
            model: ModelId::new(metadata.labels.model_id.as_deref()?).ok()?,
            deploy: metadata.annotations.deploy.as_deref().and_then(|deploy| DeployId::new(deploy).ok()),
            container: String::new(),
            ended: false,
            bound: !pod.spec.node_name.is_empty(),
            delete_by: metadata.labels.delete_by_datetime.as_deref().and_then(parse_delete_by),
            known_since: now,
            replaced: false,
            crashed: None,
            trouble_told: false,
            stop_asked: false,
            delete_by_asked: false,
            delete_asked: false,
        })
    }

    /// What the cluster does not tell.
    fn keep(&mut self, before: Self) {
        self.known_since = before.known_since;
        self.replaced = before.replaced;
        self.crashed = before.crashed;
        self.trouble_told = before.trouble_told;
        self.stop_asked = before.stop_asked;
        self.delete_by_asked = before.delete_by_asked;
        self.delete_asked = before.delete_asked;
    }
}

/// Anyone can write the label: only a number of seconds is one.
fn parse_delete_by(text: &str) -> Option<UnixTime> {
    text.parse().ok().filter(|seconds: &f64| seconds.is_finite()).map(UnixTime)
}
