//! How a process begins with what the one before it left: records, once, before the first list of pods is looked at. The pods in that list
//! then are taken as those that a watch shows.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use log::Level;

use super::deadline::Deadline;
use super::done::unwanted;
use super::event::{BadRequest, Body, DeployRequest};
use super::held::{Arrival, Held, addressable_models};
use super::kept::{Kept, doom_pieces};
use super::pod_state::Verdict;
use super::retention::KnownPod;
use super::simulation::{Announced, Creation, Reported, Simulation};
use super::{Orchestrator, SUBSCRIBERS_RETURN};
use crate::clock::{Now, UnixTime};
use crate::ids::{DeployId, ModelId, RecordName, SimulationId, TopicSegment};
use crate::kube::pod::{NewPod, Pod};
use crate::kube::record::{Content, Over, Progress, Record, read_request};
use crate::secret::Secret;

/// A broker delivers again right after the connection; a slow one has a minute, and nobody waits for longer.
const REQUEST_AWAITED: Duration = Duration::from_secs(60);

type Pieces = BTreeMap<DeployId, Vec<(RecordName, Secret)>>;

impl Orchestrator {
    pub(super) fn adopt_records(&mut self, pods: &[Pod], now: Now) {
        let mut by_simulation: BTreeMap<SimulationId, Vec<Record>> = BTreeMap::new();
        for record in std::mem::take(&mut self.found.records) {
            by_simulation.entry(record.simulation.clone()).or_default().push(record);
        }
        // The broker may have gone down with us.
        if !by_simulation.is_empty() {
            self.broker.subscribers_at = self.broker.connected_at.map(|at| at + SUBSCRIBERS_RETURN);
            self.broker.is_known_to_others = true;
        }
        for (id, records) in by_simulation {
            self.adopt_record(id, records, pods, now);
        }
    }

    fn adopt_record(&mut self, id: SimulationId, records: Vec<Record>, pods: &[Pod], now: Now) {
        let name = RecordName::of_progress(&self.simulator, &id);
        let mut kept = Kept::new(name.clone());
        let (mut pieces, mut progress) = (Pieces::new(), Ok(None));
        for record in records {
            kept.note(&record);
            match record.content {
                Content::Piece { deploy, text, .. } => pieces.entry(deploy).or_default().push((record.name, text)),
                Content::Progress { text } => progress = Progress::read(&text).map(Some),
            }
        }
        self.records.insert(id.clone(), kept);
        let mut progress = match progress {
            Ok(Some(progress)) => progress,
            Ok(None) => Progress::default(),
            Err(problem) => {
                self.say(Level::Error, format!("The record {name} of simulation {id} is damaged: {problem}. Its pods are left alone."));
                self.await_request(&id, now);
                return self.forget_run(&id, now);
            }
        };
        if let Some(over) = progress.over {
            self.take_cut_off_requests(&id, &progress, &pieces, now);
            return self.adopt_end(&id, progress, over, now);
        }
        // Each piece goes as soon as its request is read: together they may be large.
        let mut requests = Vec::new();
        let mut problem = None;
        while let (Some(deploy), None) = (progress.deploys.get(requests.len()), &problem) {
            match read_request(&id, deploy, pieces.get(deploy).map_or(&[], Vec::as_slice)) {
                Ok(request) => {
                    pieces.remove(deploy);
                    requests.push(request);
                }
                Err(why) => problem = Some(format!("The record {name} of simulation {id} lacks request {deploy}: {why}.")),
            }
        }
        if let Some(problem) = &problem
            && (requests.is_empty() || was_made_of_more(&progress, &requests, &id, pods))
        {
            self.say(Level::Error, format!("{problem} Its pods are left alone."));
            self.take_cut_off_requests(&id, &progress, &pieces, now);
            self.await_request(&id, now);
            return self.forget_run(&id, now);
        }
        // What follows a request that is lost is begun, where it is whole, as if it came now.
        let lost = progress.deploys.split_off(requests.len());
        self.take_cut_off_requests(&id, &progress, &pieces, now);
        if requests.is_empty() {
            return self.forget_run(&id, now);
        }
        self.runs += 1;
        let keep_logs_hours = requests.first().map_or(0.0, |request| request.keep_logs_hours);
        let begun_at = self.records.get(&id).and_then(Kept::asked_at).map_or(now, |asked_at| self.moment(asked_at, now));
        let simulation = Simulation::new(self.runs, keep_logs_hours, begun_at.instant);
        self.simulations.insert(id.clone(), simulation);
        let named = requests.len();
        for request in requests {
            self.add_models(request, now);
        }
        self.apply_progress(&id, &progress, now);
        if let Some(kept) = self.records.get_mut(&id) {
            kept.named = named;
        }
        if let Some(problem) = problem {
            self.go_on_without(&id, &problem, lost, now);
        }
        self.say_adopted(&id);
        self.touched.insert(id);
    }

    /// No pod was made of these requests. What they asked for is not known any more: where that is waited for, the simulation cannot go on
    /// unless they come again.
    fn go_on_without(&mut self, id: &SimulationId, problem: &str, lost: Vec<DeployId>, now: Now) {
        self.fact(id);
        let Some(simulation) = self.simulations.get_mut(id) else { return };
        if simulation.models_ready == Announced::Acknowledged {
            return self.say(Level::Warn, format!("{problem} No pod was made of it: the simulation goes on without it."));
        }
        simulation.lost = lost;
        let seconds = REQUEST_AWAITED.as_secs();
        self.say(Level::Error, format!("{problem} No pod was made of it: unless it comes again within {seconds} s, the simulation fails."));
        self.deadlines.set(now.instant + REQUEST_AWAITED, Deadline::RequestIsLost(id.clone()));
    }

    /// All that is still wanted of it stands in its progress.
    fn adopt_end(&mut self, id: &SimulationId, progress: Progress, over: Over, now: Now) {
        if let Some(kept) = self.records.get_mut(id) {
            doom_pieces(&mut kept.objects, |deploy| progress.names(deploy));
            self.touched_records.insert(id.clone());
        }
        self.remember_end_of_earlier_process(id, progress, over.delete_by, now);
    }

    /// All their pieces are there, and no progress names them: they are begun as if they came now.
    fn take_cut_off_requests(&mut self, id: &SimulationId, progress: &Progress, pieces: &Pieces, now: Now) {
        let cut_off = || pieces.iter().filter(|(deploy, _)| !progress.names(deploy));
        if self.was_told_blindly(id) && cut_off().next().is_some() {
            self.say(Level::Warn, format!("A request for simulation {id} was cut off, and told as failed since: it is not begun."));
            if let Some(kept) = self.records.get_mut(id) {
                doom_pieces(&mut kept.objects, |deploy| !progress.names(deploy));
                self.touched_records.insert(id.clone());
            }
            return;
        }
        for (deploy, pieces) in cut_off() {
            match read_request(id, deploy, pieces) {
                Ok(request) if self.was_cut_off_long_ago(id, deploy, now) => self.refuse_what_was_cut_off(request, now),
                Ok(request) => {
                    // What came since is about it, though this process has only now found it.
                    let asked_at = self.asked_at(id, deploy).map_or(now, |asked_at| self.moment(asked_at, now));
                    let came = Arrival { at: asked_at.instant, connected_at: Some(now.instant), delivery: None };
                    self.held_requests.push(Held { simulation: TopicSegment::from(id), request: Ok(request), came });
                }
                Err(problem) => {
                    let text = format!(
                        "A request for simulation {id} was cut off before it was recorded whole: {problem}. It is begun if it comes again."
                    );
                    self.say(Level::Warn, text);
                    self.await_request(id, now);
                }
            }
        }
    }

    /// So long that it may have been told as failed, when nobody could write that. Who asks for it again asks for a run.
    fn was_cut_off_long_ago(&self, id: &SimulationId, deploy: &DeployId, now: Now) -> bool {
        let limit = self.limits.api.map_or(f64::INFINITY, |limit| limit.as_secs_f64());
        let is_old = |asked_at| self.server_time(now).seconds_since(asked_at) >= limit;
        let is_asked_again = |held: &Held| held.request.as_ref().is_ok_and(|request| (&request.simulation, &request.id) == (id, deploy));
        self.asked_at(id, deploy).is_some_and(is_old) && !self.held_requests.iter().any(is_asked_again)
    }

    /// As the pieces of this request say.
    fn asked_at(&self, id: &SimulationId, deploy: &DeployId) -> Option<UnixTime> {
        let pieces = self.records.get(id)?.objects.values();
        pieces.filter(|piece| piece.deploy.as_ref() == Some(deploy)).find_map(|piece| piece.asked_at)
    }

    fn refuse_what_was_cut_off(&mut self, request: DeployRequest, now: Now) {
        if let Some(kept) = self.records.get_mut(&request.simulation) {
            doom_pieces(&mut kept.objects, |deploy| *deploy == request.id);
            self.touched_records.insert(request.simulation.clone());
        }
        let problem = "it was cut off before it was recorded, longer than API_TIMEOUT ago: it may have been told as failed then".to_owned();
        let came = Arrival { at: now.instant, connected_at: Some(now.instant), delivery: None };
        let simulation = TopicSegment::from(&request.simulation);
        let request = Err(BadRequest { reason: "ServiceRestarted".to_owned(), problem, models: addressable_models(Ok(request)) });
        self.held_requests.push(Held { simulation, request, came });
    }

    /// The facts of the process before this one.
    fn apply_progress(&mut self, id: &SimulationId, progress: &Progress, now: Now) {
        let done_at = progress.done_at.map(|at| self.moment(at, now));
        let cancelled = progress.cancelled.map(|cancelled| (self.moment(cancelled.at, now), cancelled.by));
        let Some(simulation) = self.simulations.get_mut(id) else { return };
        simulation.repeats.clone_from(&progress.repeats);
        simulation.earlier_deploys.clone_from(&progress.earlier_deploys);
        simulation.replaced.extend(progress.replaced.iter().cloned());
        simulation.models_ready = Announced::by_earlier_process(progress.models_ready);
        (simulation.done_at, simulation.cancelled) = (done_at, cancelled);
        if progress.error_reported {
            simulation.error = Reported::Acknowledged;
        }
        let mut untold = Vec::new();
        let ids: Vec<ModelId> = simulation.models.keys().cloned().collect();
        for model_id in ids {
            let Some(model) = simulation.models.get_mut(&model_id) else { continue };
            let number = model.pod.number;
            if progress.created.contains(number) {
                model.creation = Creation::Lost;
            }
            model.was_sent_done = progress.done.contains(number);
            model.unwanted = progress.unwanted.get(&number).copied();
            if progress.ready.contains(number) {
                simulation.set_ready(&model_id);
            }
            if let Some(code) = progress.ended.get(&number) {
                let verdict = progress.unwanted.get(&number).map_or_else(|| Verdict::recorded(*code), |by| unwanted(*by));
                simulation.set_verdict(&model_id, &verdict);
                if progress.told.contains(number) {
                    simulation.set_told(&model_id);
                } else {
                    untold.push(model_id);
                }
            }
        }
        simulation.untold.extend(untold.into_iter().map(|model| (model, 0)));
    }

    pub(super) fn say_adopted(&mut self, id: &SimulationId) {
        let Some(simulation) = self.simulations.get(id) else { return };
        let (models, ready, ended) = (simulation.models.len(), simulation.ready, simulation.ended);
        let text = format!("Simulation {id} goes on: of its {models} models {ready} have said ready and {ended} have ended.");
        self.say(Level::Info, text);
    }

    fn fail_what_was_cut_off(&mut self) {
        let cut_off = self.simulations.iter().filter(|(_, simulation)| simulation.models_ready == Announced::Published);
        let ids: Vec<SimulationId> = cut_off.map(|(id, _)| id.clone()).collect();
        for id in ids {
            let why = "the service ended while it sent ModelsReady, and a second one would reset it";
            self.fail_running(&id, "ServiceRestarted", why);
        }
    }

    /// The list has been looked at: who has a pod has it now. Some simulations cannot go on.
    pub(super) fn begin_with_what_is_listed(&mut self, cannot_go_on: &[SimulationId], now: Now) {
        self.end_what_was_told_blindly();
        for simulation in self.simulations.values_mut() {
            simulation.end_may_be_told = simulation.ended == simulation.models.len();
        }
        self.fail_what_was_cut_off();
        for id in cannot_go_on {
            self.fail_running(id, "ServiceRestarted", "the service restarted, and had no record of it, as ConfigMaps were forbidden");
        }
        let models = self.simulations.values().flat_map(|simulation| simulation.models.values());
        let lost = models.filter(|model| model.creation == Creation::Lost && model.waits_for_pod());
        let pods: Vec<Arc<NewPod>> = lost.map(|model| model.pod.clone()).collect();
        pods.iter().for_each(|pod| self.ask(pod));
        self.mark_what_was_done_before(now);
        for id in self.simulations.keys() {
            self.deadlines.set(now.instant, Deadline::DoneIsDue(id.clone()));
        }
        self.touched.extend(self.simulations.keys().cloned());
    }

    /// Pods whose record is gone, of simulations none of whose pods runs: whatever it was that they ran is over. Where records may not be
    /// read nobody knows that one is gone.
    pub(super) fn clean_up_what_has_ended(&mut self, pods: &[Pod], now: Now) {
        if !self.keeps_records || self.pods.values().all(|known| self.is_known(&known.simulation)) {
            return;
        }
        let mut by_simulation: BTreeMap<SimulationId, Vec<(&Pod, &KnownPod)>> = BTreeMap::new();
        for pod in pods {
            let known = KnownPod::read(pod, &self.simulator).and_then(|known| self.pods.get(&known.name));
            if let Some(known) = known.filter(|known| !self.is_known(&known.simulation)) {
                by_simulation.entry(known.simulation.clone()).or_default().push((pod, known));
            }
        }
        let mut over = Vec::new();
        for (id, left) in by_simulation {
            let is_over = left.iter().all(|(_, known)| known.ended && known.deploy.is_some());
            let is_cleaned_up = left.iter().all(|(_, known)| known.delete_by.is_some());
            let hours = left.iter().filter_map(|(pod, _)| keep_logs_hours(pod)).reduce(f64::max);
            if let Some(hours) = hours.filter(|_| is_over && !is_cleaned_up && self.unread_problem(&id).is_none()) {
                over.push((id, hours, left.iter().filter_map(|(_, known)| known.deploy.clone()).collect()));
            }
        }
        for (id, hours, deploys) in over {
            self.say(Level::Info, format!("Simulation {id} has no record, and its pods have all ended: they go in {hours} hours."));
            let delete_by = self.server_time(now).plus_seconds(hours * 3600.0);
            self.remember_end_of_earlier_process(&id, Progress { deploys, ..Progress::default() }, delete_by, now);
            self.touch_pods_of(&id);
        }
    }

    /// Nothing is known of its models. Its record goes like that of a run which is over.
    fn forget_run(&mut self, id: &SimulationId, now: Now) {
        self.remember_end_of_earlier_process(id, Progress::default(), self.server_time(now), now);
    }

    /// Whoever sent it at QoS 1 sends it again.
    fn await_request(&mut self, id: &SimulationId, now: Now) {
        if self.was_told_blindly(id) {
            return;
        }
        self.deadlines.set(now.instant + REQUEST_AWAITED, Deadline::RequestIsLost(id.clone()));
    }

    /// Nobody may wait for a request that was cut off. While pods of it run there is something to wait for.
    pub(super) fn tell_lost_request(&mut self, id: &SimulationId, now: Now) {
        if let Some(simulation) = self.simulations.get_mut(id) {
            if !std::mem::take(&mut simulation.lost).is_empty() {
                self.fail_running(id, "ServiceRestarted", "a request of it was lost when the service restarted, and did not come again");
            }
            return;
        }
        if self.pods.values().any(|known| known.simulation == *id && !known.ended) {
            return self.await_request(id, now);
        }
        self.say(Level::Error, format!("Simulation {id} ends: its request is not whole in its record, and did not come again."));
        self.publish(TopicSegment::from(id), Body::AllModelsHaveTerminated);
        self.delete_record(id, now);
    }
}

/// As `keep_logs_hours` on it says.
pub(super) fn keep_logs_hours(pod: &Pod) -> Option<f64> {
    pod.metadata.labels.keep_logs_hours.as_deref()?.parse().ok().filter(|hours: &f64| hours.is_finite() && *hours >= 0.0)
}

/// A pod was made of a request that is not among these.
fn was_made_of_more(progress: &Progress, requests: &[DeployRequest], id: &SimulationId, pods: &[Pod]) -> bool {
    let lost = &progress.deploys[requests.len()..];
    // That one was made may not be recorded yet.
    let is_of_lost = |pod: &Pod| {
        let deploy = pod.metadata.annotations.deploy.as_deref();
        pod.metadata.labels.simulation_id.as_deref() == Some(id.as_str()) && lost.iter().any(|lost| Some(lost.as_str()) == deploy)
    };
    progress.created.end() > count_models(requests) || pods.iter().any(is_of_lost)
}

/// As they are numbered.
fn count_models(requests: &[DeployRequest]) -> usize {
    let models = requests.iter().flat_map(|request| &request.models).map(|configuration| &configuration.model);
    models.collect::<BTreeSet<_>>().len()
}
