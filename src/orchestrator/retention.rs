//! Every pod of ours in the cluster, what became of it, and when it goes. A pod is deleted only on purpose, this very object by its uid.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use log::Level;

use super::announce::Told;
use super::deadline::Deadline;
use super::event::{Answer, Body, PodCall};
use super::kept::Revision;
use super::obstacle;
use super::pod_state::{self, NO_EXIT_CODE, Observation};
use super::refusal::{Remedy, refusal};
use super::simulation::{Creation, Doubt, Model, Run, Simulation, remember_deploys};
use super::{DOUBT, Orchestrator, SAID_AGAIN, Tell};
use crate::clock::{Now, UnixTime};
use crate::ids::{DeployId, ModelId, PodName, SimulationId, SimulatorName, Uid};
use crate::kube::error::Error;
use crate::kube::pod::Pod;
use crate::kube::record::{Over, Progress};

/// A request that comes again so soon after the end of its simulation may be a redelivery.
const END_REMEMBERED: Duration = Duration::from_secs(10 * 60);
/// And it comes soon after a connection, however long ago the end was: a broker that was killed may have lost our acknowledgement.
const END_REMEMBERED_CONNECTED: Duration = Duration::from_secs(60);
/// What nobody was told must not be forgotten, nor what the broker may deliver again.
const END_UNTOLD: Duration = Duration::from_secs(30);
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
    /// Of what was last seen of it, where it is a number.
    version: Option<u64>,
    /// Absent or unreadable where somebody changed it.
    pub deploy: Option<DeployId>,
    /// The same.
    pub number: Option<usize>,
    /// The model's container.
    pub container: String,
    /// The model's container runs no more.
    pub ended: bool,
    /// When it was first seen to run.
    pub runs_since: Option<Instant>,
    /// Why it was to go, as it said at last.
    pub disruption: Option<String>,
    /// Whose kubelet looks after it; empty until it has one.
    pub node: String,
    pub delete_by: Option<UnixTime>,
    /// It goes first, as its simulation runs anew, or its model has another one.
    pub replaced: bool,
    /// When the record says that there is to be another one: before that, a restart would miss it.
    pub replaced_by: Revision,
    /// The log of its model is being read.
    pub log_awaited: bool,
    /// What its container left as a message when it failed, until it is said with its log.
    pub last_word: String,
    /// The API server says that it is not there; the watch, which may be behind, has not said so yet.
    pub gone: bool,
    /// That it is deleted was said.
    pub delete_said: bool,
    /// That it cannot be changed was said.
    trouble_said: bool,
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
    pub deploys: Vec<DeployId>,
    pub repeats: Vec<DeployId>,
    earlier_deploys: Vec<DeployId>,
    /// Numbers of models that were given up: their create may work after all, or their pod still run.
    given_up: BTreeSet<usize>,
    /// The broker has acknowledged the announcement of the end.
    pub told: bool,
    /// When the end was announced; before this process began, where there is none.
    pub at: Option<Instant>,
    pub delete_by: UnixTime,
}

impl Orchestrator {
    /// All models have ended, and the broker knows of each.
    pub(super) fn end(&mut self, id: SimulationId, now: Now) {
        let told_at = self.simulations.get(&id).and_then(|simulation| simulation.end_told_at);
        if told_at.is_none() {
            self.say(Level::Info, format!("All models for simulation {id} have terminated. Send out AllModelsHaveTerminated."));
            self.announce(&id, Body::AllModelsHaveTerminated, Told::EndOfAll);
        }
        self.say(Level::Info, format!("Removing simulation {id} from cache."));
        let Some(simulation) = self.simulations.remove(&id) else { return };
        // From the announcement on, not from the container's end: a kubelet may be late to tell, and its clock wrong.
        let delete_by = self.server_time(now).plus_seconds(simulation.keep_logs_hours * 3600.0);
        let ended = Ended::of(&simulation, told_at.unwrap_or(now.instant), delete_by);
        self.remember_end(&id, ended, self.recordable(&id, &simulation), now);
        if told_at.is_some() {
            self.on_end_told(&id, now);
        }
    }

    /// The broker has it that this simulation is over.
    pub(super) fn on_end_told(&mut self, id: &SimulationId, now: Now) {
        let at = self.server_time(now);
        let Some(ended) = self.ended.get_mut(id) else { return };
        ended.told = true;
        if let Some(progress) = self.records.get_mut(id).and_then(|kept| kept.over.as_mut()) {
            progress.over = Some(Over { at, delete_by: ended.delete_by });
        }
        self.fact_waited_for(id);
        self.touch_pods_of(id);
        self.handle_held_requests = true;
    }

    pub(super) fn remember_end(&mut self, id: &SimulationId, ended: Ended, progress: Progress, now: Now) {
        let age = progress.over.and_then(|over| Duration::try_from_secs_f64(self.server_time(now).seconds_since(over.at)).ok());
        let rest = END_REMEMBERED.saturating_sub(age.unwrap_or_default()).max(END_REMEMBERED_CONNECTED);
        if let Some(kept) = self.records.get_mut(id) {
            kept.over = Some(progress);
        }
        self.deadlines.set(now.instant + rest, Deadline::EndIsForgotten(id.clone()));
        self.ended.insert(id.clone(), ended);
    }

    /// What its progress says is all that is known of it.
    pub(super) fn remember_end_of_earlier_process(&mut self, id: &SimulationId, progress: Progress, delete_by: UnixTime, now: Now) {
        self.runs += 1;
        self.remember_end(id, Ended::of_earlier_process(self.runs, &progress, delete_by), progress, now);
    }

    pub(super) fn forget_end(&mut self, id: &SimulationId, now: Now) {
        let is_old = |ended: &Ended| ended.at.is_none_or(|at| now.instant.saturating_duration_since(at) >= END_REMEMBERED);
        if !self.ended.get(id).is_some_and(is_old) {
            return;
        }
        let is_told = self.ended.get(id).is_some_and(|ended| ended.told);
        let was_connected = |at| now.instant.saturating_duration_since(at) >= END_REMEMBERED_CONNECTED;
        if !is_told || !self.is_all_recorded(id) || !self.broker.connected_at.is_some_and(was_connected) {
            return self.deadlines.set(now.instant + END_UNTOLD, Deadline::EndIsForgotten(id.clone()));
        }
        // By now the watch has nothing more to say of those that are gone.
        self.pods.retain(|_, known| known.simulation != *id || !known.gone);
        if self.pods.values().any(|known| known.simulation == *id) {
            self.deadlines.set(now.instant + END_REMEMBERED, Deadline::EndIsForgotten(id.clone()));
        } else if self.records.contains_key(id) {
            self.delete_record(id, now);
        } else {
            self.ended.remove(id);
        }
    }

    /// A new run begins: pods whose run was announced as ended make room.
    pub(super) fn replace_pods_of_ended_run(&mut self, id: &SimulationId) {
        let ended = self.ended.remove(id);
        // Of a run without requests nothing was known, nor whether it had ended.
        let was_ended = ended.as_ref().is_some_and(|ended| !ended.deploys.is_empty());
        if let (Some(ended), Some(simulation)) = (ended, self.simulations.get_mut(id)) {
            remember_deploys(&mut simulation.earlier_deploys, ended.earlier_deploys.into_iter().chain(ended.deploys));
        }
        for known in self.pods.values_mut().filter(|known| known.simulation == *id) {
            if was_ended || known.delete_by.is_some() {
                known.replaced = true;
                self.touched_pods.insert(known.name.clone());
            }
        }
    }

    pub(super) fn touch_pods_of(&mut self, id: &SimulationId) {
        let names = self.pods.values().filter(|known| known.simulation == *id).map(|known| known.name.clone());
        self.touched_pods.extend(names);
    }

    pub(super) fn touch_replaced_pods_of(&mut self, id: &SimulationId) {
        let names = self.pods.values().filter(|known| known.replaced && known.simulation == *id).map(|known| known.name.clone());
        self.touched_pods.extend(names);
    }

    pub(super) fn on_listed(&mut self, pods: &[Pod], now: Now) {
        let mut cannot_go_on = Vec::new();
        if self.api.lists == 0 {
            self.adopt_records(pods, now);
            cannot_go_on = self.adopt_from_pods(pods, now);
        }
        self.api.lists += 1;
        // Once etcd was restored from a backup they begin lower.
        self.pods.values_mut().for_each(|known| known.version = None);
        for pod in pods {
            self.observe(pod, now);
        }
        let listed: BTreeSet<&str> = pods.iter().map(|pod| pod.metadata.name.as_str()).collect();
        let missing: Vec<PodName> = self.pods.keys().filter(|name| !listed.contains(name.as_str())).cloned().collect();
        for name in missing {
            self.on_missing(&name);
        }
        if self.api.lists == 1 {
            self.calls.open();
            self.begin_with_what_is_listed(&cannot_go_on, now);
            self.await_readies(now);
            self.clean_up_what_has_ended(pods, now);
            self.say_what_is_left(now);
            self.acknowledge_what_came_before();
            self.handle_held_requests = true;
        }
    }

    /// Pods of an earlier process of ours, of which nobody told this one. Where records may not be read somebody waits for them, perhaps.
    pub(super) fn say_what_is_left(&mut self, now: Now) {
        let unknown = |known: &&KnownPod| !self.is_known(&known.simulation) && known.delete_by.is_none();
        let left: BTreeSet<SimulationId> = self.pods.values().filter(unknown).map(|known| known.simulation.clone()).collect();
        if !self.keeps_records && !left.is_empty() {
            self.deadlines.set(now.instant + SAID_AGAIN, Deadline::LeftIsSaidAgain);
        }
        for id in left {
            let count = self.pods.values().filter(|known| known.simulation == id && known.delete_by.is_none()).count();
            let pods = format!("Simulation {id} has pods of an earlier run of this service, which did not see their end ({count})");
            if self.keeps_records {
                self.say(Level::Warn, format!("{pods}: they are left alone."));
            } else {
                let text = format!(
                    "{pods}, and its record may not be read: nobody is told how they end, and that they are ready is not heard. Allow get, \
                     list, create, patch and delete on configmaps, and restart this service: then it goes on. Or delete these pods."
                );
                self.say(Level::Error, text);
            }
        }
    }

    /// It runs, or it is known that it is over.
    pub(super) fn is_known(&self, id: &SimulationId) -> bool {
        self.simulations.contains_key(id) || self.ended.contains_key(id)
    }

    /// The cluster showed a pod: what it says of itself and of its model.
    pub(super) fn observe(&mut self, pod: &Pod, now: Now) {
        let Some(mut seen) = KnownPod::read(pod, &self.simulator) else {
            self.say(Level::Debug, format!("Pod {} is not ours: left alone.", pod.metadata.name));
            return self.on_unshown(pod);
        };
        match self.pods.get(&seen.name) {
            Some(before) if before.uid == seen.uid && (&before.simulation, &before.model) != (&seen.simulation, &seen.model) => {
                return self.on_unshown(pod);
            }
            Some(before) if before.uid != seen.uid && self.is_run_by(&before.simulation, &before.model, &before.uid) => {
                // A watch that is behind may still show the pod before ours. Who is there now is asked by name.
                return self.on_missing(&seen.name.clone());
            }
            // The answer to a call from before an event of the watch.
            Some(before) if before.is_newer_than(&seen) => return,
            Some(_) => {}
            None => self.say_what_is_odd(pod, &seen),
        }
        let image = self.model_with_pod(&seen).map(|model| model.pod.image.clone());
        let observation = pod_state::observe(pod, image.as_deref());
        seen.container = pod_state::model_container(pod, image.as_deref()).to_owned();
        if self.is_run_by(&seen.simulation, &seen.model, &seen.uid) {
            seen.last_word = pod_state::last_word(pod, &seen.container).to_owned();
        }
        let phase_is_final = ["Failed", "Succeeded"].contains(&pod.status.phase.as_str());
        seen.ended = phase_is_final || matches!(observation, Observation::Ended(_));
        seen.runs_since = (pod.status.phase == "Running").then_some(now.instant);
        if let Some(before) = self.pods.remove(&seen.name).filter(|before| before.uid == seen.uid) {
            seen.keep(before);
        }
        seen.replaced |= self.is_of_earlier_run(&seen)
            || self.simulations.get(&seen.simulation).is_some_and(|simulation| simulation.replaced.contains(&seen.uid));
        let (name, id, model, uid) = (seen.name.clone(), seen.simulation.clone(), seen.model.clone(), seen.uid.clone());
        let is_its_pod = self.model_with_pod(&seen).is_some_and(|model| match &model.uid {
            Some(ours) => *ours == uid,
            None => self.is_made_for(pod, model) && !seen.replaced && !seen.gone,
        });
        self.pods.insert(name.clone(), seen);
        self.touched_pods.insert(name.clone());
        if is_its_pod {
            self.take_pod(&name, &id, &model, &uid);
            if let Observation::Ended(verdict) = &observation
                && self.recreate(pod, &name, &id, &model, verdict, now)
            {
                return;
            }
            // What stands in the status of a pod that goes is gone with it.
            let tell = if pod.metadata.deletion_timestamp.is_some() { Tell::WhenRecorded } else { Tell::Now };
            self.observe_model(&id, &model, uid, observation, tell, now);
        }
    }

    /// The watch has shown more of it since.
    pub(super) fn is_old(&self, pod: &Pod) -> bool {
        let known = self.pods.get(pod.metadata.name.as_str());
        known.zip(KnownPod::read(pod, &self.simulator)).is_some_and(|(known, seen)| known.is_newer_than(&seen))
    }

    /// A create of a run that ended has worked after the next run began.
    fn is_of_earlier_run(&self, known: &KnownPod) -> bool {
        let Some(deploy) = &known.deploy else { return false };
        let running = self.simulations.get(&known.simulation).map(|simulation| (&simulation.deploys, &simulation.earlier_deploys));
        let ended = self.ended.get(&known.simulation).map(|ended| (&ended.deploys, &ended.earlier_deploys));
        running.or(ended).is_some_and(|(deploys, earlier)| earlier.contains(deploy) && !deploys.contains(deploy))
    }

    /// It has our mark and this model's request, and no run of it was announced as ended. One that goes is of a run before, unless this
    /// model's was made before this process began.
    pub(super) fn is_made_for(&self, pod: &Pod, model: &Model) -> bool {
        let metadata = &pod.metadata;
        metadata.labels.mark.as_deref() == Some(self.simulator.as_str())
            && metadata.annotations.deploy.as_deref() == Some(model.pod.deploy.as_str())
            && metadata.labels.delete_by_datetime.is_none()
            && (metadata.deletion_timestamp.is_none() || model.creation == Creation::Lost)
    }

    /// From here on this very pod runs the model.
    fn take_pod(&mut self, name: &PodName, id: &SimulationId, model_id: &ModelId, uid: &Uid) {
        let Some(model) = self.model_mut(id, model_id).filter(|model| model.waits_for_pod()) else { return };
        model.uid = Some(uid.clone());
        let is_adopted = matches!(
            model.creation,
            Creation::NameTaken | Creation::Refused(_) | Creation::WaitsForName | Creation::WaitsForRecord | Creation::Lost
        );
        if is_adopted {
            model.creation = Creation::Done;
            if let Some(simulation) = self.simulations.get_mut(id) {
                simulation.trust_ready(model_id);
            }
            self.say(Level::Info, format!("Pod {name} of model {id}/{model_id} already exists, adopted (uid {uid})."));
        }
        self.fact(id);
        // Where there is no record nothing else does.
        self.touched.insert(id.clone());
    }

    fn observe_model(&mut self, id: &SimulationId, model_id: &ModelId, uid: Uid, observation: Observation, tell: Tell, now: Now) {
        let Some(model) = self.model_mut(id, model_id) else { return };
        match observation {
            Observation::Alive | Observation::Waits(..) => {
                model.doubt = None;
                self.deadlines.cancel(&Deadline::DoubtIsOver { simulation: id.clone(), model: model_id.clone(), uid });
                match observation {
                    Observation::Waits(obstacle, began) => self.on_obstacle(id, model_id, obstacle, began, now),
                    _ => self.on_no_obstacle(id, model_id, now),
                }
            }
            Observation::Ended(verdict) => self.conclude(id, model_id, verdict, tell),
            Observation::Restarts(verdict) => {
                // It has what it needs to go on for ever.
                model.ended_by_us = model.verdict.is_none() || model.ended_by_us;
                self.conclude(id, model_id, verdict, tell);
            }
            Observation::Doubtful(verdict) => {
                if model.verdict.is_some() {
                    return;
                }
                let since = model.doubt.as_ref().map_or(now.instant, |doubt| doubt.since);
                if model.doubt.replace(Doubt { verdict, since }).is_none() {
                    let deadline = Deadline::DoubtIsOver { simulation: id.clone(), model: model_id.clone(), uid };
                    self.deadlines.set(now.instant + DOUBT, deadline);
                }
            }
        }
    }

    /// At the first sight of a pod.
    fn say_what_is_odd(&mut self, pod: &Pod, seen: &KnownPod) {
        let name = &seen.name;
        if let Some(text) = &pod.metadata.labels.delete_by_datetime
            && seen.delete_by.is_none()
        {
            self.say(Level::Warn, format!("Pod {name} has delete_by_datetime {text:?}, which is not Unix seconds: it is left alone."));
        }
        let is_of_other_request = |simulation: &Simulation| {
            let knows = |deploy| simulation.deploys.contains(deploy) || simulation.earlier_deploys.contains(deploy);
            !seen.deploy.as_ref().is_some_and(knows)
        };
        if self.api.lists > 0 && self.simulations.get(&seen.simulation).is_some_and(is_of_other_request) {
            self.say(Level::Warn, format!("Pod {name} is of an earlier run of simulation {}: it is left alone.", seen.simulation));
        }
    }

    /// As what it was known to be.
    fn on_unshown(&mut self, pod: &Pod) {
        let known = self.pods.get(pod.metadata.name.as_str()).filter(|known| known.uid.as_str() == pod.metadata.uid);
        if let Some(name) = known.map(|known| known.name.clone()) {
            self.on_missing(&name);
        }
    }

    /// The watch says that it is gone; the event holds its last status.
    pub(super) fn on_deleted(&mut self, pod: &Pod) {
        let Some(seen) = KnownPod::read(pod, &self.simulator) else { return self.on_unshown(pod) };
        if self.pods.get(&seen.name).is_none_or(|known| known.uid != seen.uid) {
            return;
        }
        let model = self.model_with_pod(&seen).filter(|model| model.uid.as_ref() == Some(&seen.uid));
        let image = model.map(|model| model.pod.image.clone());
        match pod_state::observe(pod, image.as_deref()) {
            Observation::Ended(verdict) if image.is_some() => {
                self.on_vanished(&seen.name);
                self.conclude(&seen.simulation, &seen.model, verdict, Tell::WhenRecorded);
            }
            Observation::Ended(_) | Observation::Alive | Observation::Waits(..) | Observation::Restarts(_) | Observation::Doubtful(_) => {
                self.on_missing(&seen.name)
            }
        }
    }

    /// It is not there: of a model that runs that is asked for by name before it counts.
    pub(super) fn on_missing(&mut self, name: &PodName) {
        let Some(known) = self.pods.get(name) else { return };
        let (simulation, model, uid) = (known.simulation.clone(), known.model.clone(), known.uid.clone());
        if self.is_run_by(&simulation, &model, &uid) {
            let Some(pod) = self.model(&simulation, &model).map(|model| model.pod.clone()) else { return };
            self.ask_about(&pod, Some(uid));
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

    /// The API server says that it is not there: its name is free, and whatever the watch still shows of it is old.
    pub(super) fn on_gone(&mut self, name: &PodName, uid: &Uid) {
        let Some(known) = self.pods.get_mut(name).filter(|known| known.uid == *uid) else { return };
        known.gone = true;
        let (simulation, model) = (known.simulation.clone(), known.model.clone());
        self.create_when_name_is_free(&simulation, &model);
    }

    /// This pod runs this model, which has not ended.
    fn is_run_by(&self, id: &SimulationId, model: &ModelId, uid: &Uid) -> bool {
        self.model(id, model).is_some_and(|model| model.uid.as_ref() == Some(uid) && model.verdict.is_none())
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
        let is_told = self.ended.get(&known.simulation).is_none_or(|ended| ended.told) && self.is_all_recorded(&known.simulation);
        if known.gone {
            Next::Nothing
        } else if known.replaced {
            if self.is_recorded(&known.simulation, known.replaced_by) { Next::Delete } else { Next::Nothing }
        } else if self.is_of_model_given_up(known) && known.node.is_empty() {
            // After a restart nothing but the record would say that it was us.
            if self.is_verdict_told(known) { Next::Delete } else { Next::Nothing }
        } else if self.is_of_model_given_up(known) && !known.stop_asked {
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
            match self.ended_run_of(known) {
                Some(ended) if !known.log_awaited && !known.delete_by_asked => Next::SetDeleteBy(ended.delete_by),
                _ => Next::Nothing,
            }
        }
    }

    /// Its model was given up before it appeared: its create worked after all.
    fn is_of_model_given_up(&self, known: &KnownPod) -> bool {
        let of_running = self.model_with_pod(known).is_some_and(Model::was_given_up);
        let of_ended = || self.ended_run_of(known).zip(known.number).is_some_and(|(ended, number)| ended.given_up.contains(&number));
        !known.ended && (of_running || of_ended())
    }

    /// It is not before the record holds it, where that can be written.
    fn is_verdict_told(&self, known: &KnownPod) -> bool {
        self.simulations.get(&known.simulation).is_none_or(|simulation| !simulation.untold.contains_key(&known.model))
    }

    /// The run that asked for it, where its end was announced.
    fn ended_run_of(&self, known: &KnownPod) -> Option<&Ended> {
        let deploy = known.deploy.as_ref()?;
        self.ended.get(&known.simulation).filter(|ended| ended.deploys.contains(deploy))
    }

    pub(super) fn on_changed(&mut self, call: &PodCall, result: Result<Answer, Error>, now: Now) {
        let Err(error) = result else { return };
        self.forget_labelling(call);
        // Meanwhile another pod may have the name: of that one nothing was asked.
        let Some(known) = self.pods.get_mut(call.pod()).filter(|known| call.uid() == Some(&known.uid)) else { return };
        let (name, uid) = (known.name.clone(), known.uid.clone());
        known.forget_asking(call);
        if error.is_not_found() || (error.is_conflict() && !error.is_write_conflict()) {
            self.on_gone(&name, &uid);
        } else if let Remedy::HoldAll(_) | Remedy::HoldVerb(_) = refusal(&error).remedy {
            self.touched_pods.insert(name);
        } else {
            let is_news = !std::mem::replace(&mut known.trouble_said, true);
            self.deadlines.set(now.instant + REFUSED_CHANGE_AGAIN, Deadline::PodIsDue(name.clone()));
            if is_news {
                self.say(Level::Error, format!("Pod {name} cannot be changed or deleted: {error}. Trying again."));
            }
        }
    }

    /// What was decided on is not right any more: what is to be done is derived anew.
    pub(super) fn decide_again(&mut self, call: &PodCall) {
        if let PodCall::Create(pod) = call {
            return self.on_made_before(pod);
        }
        self.forget_labelling(call);
        if let Some(known) = self.pods.get_mut(call.pod()).filter(|known| call.uid() == Some(&known.uid)) {
            known.forget_asking(call);
            self.touched_pods.insert(call.pod().clone());
        }
    }
}

impl Ended {
    fn of(simulation: &Simulation, at: Instant, delete_by: UnixTime) -> Self {
        let given_up = simulation.models.values().filter(|model| model.was_given_up()).map(|model| model.pod.number);
        Self {
            run: simulation.run,
            deploys: simulation.deploys.clone(),
            repeats: simulation.repeats.clone(),
            earlier_deploys: simulation.earlier_deploys.clone(),
            given_up: given_up.collect(),
            told: false,
            at: Some(at),
            delete_by,
        }
    }

    /// The broker knows.
    fn of_earlier_process(run: Run, progress: &Progress, delete_by: UnixTime) -> Self {
        let without_code = progress.ended.iter().filter(|(_, code)| **code == NO_EXIT_CODE);
        Self {
            run,
            deploys: progress.deploys.clone(),
            repeats: progress.repeats.clone(),
            earlier_deploys: progress.earlier_deploys.clone(),
            given_up: without_code.map(|(number, _)| *number).collect(),
            told: true,
            at: None,
            delete_by,
        }
    }
}

impl KnownPod {
    /// Nothing where the pod lacks our mark or one of our labels: it is not ours, whatever the rest says.
    pub(super) fn read(pod: &Pod, mark: &SimulatorName) -> Option<Self> {
        let metadata = &pod.metadata;
        metadata.labels.mark.as_deref().filter(|value| *value == mark.as_str())?;
        Some(Self {
            name: PodName::new(&metadata.name).ok()?,
            uid: Uid::new(&metadata.uid).ok()?,
            simulation: SimulationId::new(metadata.labels.simulation_id.as_deref()?).ok()?,
            model: ModelId::new(metadata.labels.model_id.as_deref()?).ok()?,
            version: metadata.resource_version.parse().ok(),
            deploy: metadata.annotations.deploy.as_deref().and_then(|deploy| DeployId::new(deploy).ok()),
            number: metadata.annotations.number.as_deref().and_then(|number| number.parse().ok()),
            container: String::new(),
            ended: false,
            runs_since: None,
            disruption: obstacle::why_it_goes(pod),
            node: pod.spec.node_name.clone(),
            delete_by: metadata.labels.delete_by_datetime.as_deref().and_then(parse_delete_by),
            replaced: false,
            replaced_by: 0,
            log_awaited: false,
            last_word: String::new(),
            gone: false,
            delete_said: false,
            trouble_said: false,
            stop_asked: false,
            delete_by_asked: false,
            delete_asked: false,
        })
    }

    /// Versions of objects of one type may be compared as numbers, by promise since Kubernetes 1.35, and by etcd's since ever:
    /// <https://www.kubernetes.dev/resources/keps/5504/>. One that is none says nothing.
    fn is_newer_than(&self, seen: &Self) -> bool {
        self.uid == seen.uid && self.version.zip(seen.version).is_some_and(|(known, seen)| known > seen)
    }

    /// It was not done.
    fn forget_asking(&mut self, call: &PodCall) {
        match call {
            PodCall::SetDeleteBy { .. } => self.delete_by_asked = false,
            PodCall::Stop { .. } => self.stop_asked = false,
            PodCall::Delete { .. } => self.delete_asked = false,
            PodCall::Create(_) | PodCall::Get(_) | PodCall::Label { .. } | PodCall::Mark { .. } => {}
        }
    }

    /// What the cluster does not tell, or told before: an answer to a call may be older than what the watch said.
    fn keep(&mut self, before: Self) {
        self.replaced = before.replaced;
        self.replaced_by = before.replaced_by;
        self.ended |= before.ended;
        self.runs_since = before.runs_since.or(self.runs_since);
        if self.node.is_empty() {
            self.node = before.node;
        }
        self.disruption = self.disruption.take().or(before.disruption);
        self.log_awaited = before.log_awaited;
        self.gone = before.gone;
        self.delete_said = before.delete_said;
        self.trouble_said = before.trouble_said;
        self.stop_asked = before.stop_asked;
        self.delete_by_asked = before.delete_by_asked;
        self.delete_asked = before.delete_asked;
    }
}

/// Anyone can write the label: only a number of seconds is one.
fn parse_delete_by(text: &str) -> Option<UnixTime> {
    text.parse().ok().filter(|seconds: &f64| seconds.is_finite()).map(UnixTime)
}
