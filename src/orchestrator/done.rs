//! Models that are not wanted any more, as their SO says or as their simulation has lived for too long; and when they are ended for it.
//!
//! `SimulationDone` to a model is also the normal end: models write their results after it, and end by themselves. One to us cancels the
//! simulation. Whichever it was, nothing of this run begins any more.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use log::Level;

use super::deadline::Deadline;
use super::deploy::{FEW_MODELS, named};
use super::pod_state::Verdict;
use super::retention::KnownPod;
use super::simulation::{Announced, Creation, Model, Simulation};
use super::{Orchestrator, Tell};
use crate::clock::{Now, UnixTime};
use crate::config::Limits;
use crate::ids::{ModelId, SimulationId, TopicSegment};
use crate::kube::record::CancelledBy;

/// Why a model is ended that its SO does not want any more.
pub(super) const CANCELLED: &str = "Cancelled";

/// Models end within seconds of what ends their simulation, where they end at all.
const GRACE: Duration = Duration::from_secs(2 * 60);
/// Before it is known what runs, and while a request waits; each is some 100 bytes.
const MAX_DONES_KEPT: usize = 100_000;

impl Orchestrator {
    pub(super) fn on_done(&mut self, id: &SimulationId, model: Option<&ModelId>, now: Now) {
        self.mark_done(id, model, now);
        // What it means for a run that has not begun is not known yet.
        let is_held = self.api.lists == 0 || self.held_requests.iter().any(|held| held.is_for(id));
        if is_held && self.dones.len() == MAX_DONES_KEPT {
            let of = model.map_or(String::new(), |model| format!("/{model}"));
            self.say(Level::Warn, format!("SimulationDone to {id}{of} is forgotten: {MAX_DONES_KEPT} wait already to be understood."));
        } else if is_held {
            self.dones.insert((id.clone(), model.cloned()), now.instant);
        }
    }

    /// It was said before this run was begun, and after it was asked for.
    pub(super) fn mark_what_is_done(&mut self, id: &SimulationId, asked_at: Instant, now: Now) {
        let (of_it, others): (BTreeMap<_, _>, _) = std::mem::take(&mut self.dones).into_iter().partition(|((of, _), _)| of == id);
        self.dones = others;
        for ((id, model), _) in of_it.into_iter().filter(|(_, at)| *at >= asked_at) {
            self.mark_done(&id, model.as_ref(), now);
        }
    }

    /// What was said before the first list, of simulations that turn out to run. What waits to be begun keeps its own.
    /// What follows from it is due with the rest of them.
    pub(super) fn mark_what_was_done_before(&mut self, now: Now) {
        let of_running: Vec<(SimulationId, Option<ModelId>)> =
            self.dones.keys().filter(|(id, _)| self.simulations.contains_key(id)).cloned().collect();
        for (id, model) in of_running {
            self.note_done(&id, model.as_ref(), now);
        }
    }

    /// Before it is known what runs.
    pub(super) fn is_said_to_be_done(&self, simulation: &TopicSegment) -> bool {
        self.dones.keys().any(|(id, _)| id.as_str() == simulation.as_str())
    }

    /// Those that no request waits to hear of.
    pub(super) fn forget_dones(&mut self) {
        self.dones.retain(|(id, _), _| self.held_requests.iter().any(|held| held.is_for(id)));
    }

    fn mark_done(&mut self, id: &SimulationId, model: Option<&ModelId>, now: Now) {
        if !self.note_done(id, model, now) {
            return;
        }
        match model {
            None => self.on_done_due(id, now),
            Some(model) => {
                self.end_what_has_no_pod(id, model, now);
                self.await_done(id, now);
            }
        }
    }

    /// False where nobody here is meant, or a model was told before.
    fn note_done(&mut self, id: &SimulationId, model: Option<&ModelId>, now: Now) -> bool {
        let at = Now { unix: self.server_time(now), ..now };
        let Some(simulation) = self.simulations.get_mut(id) else { return false };
        if let Some(model) = model {
            let Some(known) = simulation.models.get_mut(model).filter(|known| !known.was_sent_done) else { return false };
            known.was_sent_done = true;
        }
        let is_first = simulation.done_at.replace(at).is_none();
        match model {
            None => self.cancel(id, at, CancelledBy::So),
            Some(_) if is_first => self.say(Level::Info, format!("Simulation {id} is done, as its SO tells its models.")),
            Some(_) => {}
        }
        self.record_done(id);
        true
    }

    /// What has no node goes at once; the rest has its grace.
    fn cancel(&mut self, id: &SimulationId, at: Now, by: CancelledBy) {
        let Some(simulation) = self.simulations.get_mut(id).filter(|simulation| simulation.cancelled.is_none()) else { return };
        simulation.cancelled = Some((at, by));
        let why = match by {
            CancelledBy::So => "is cancelled by its SO",
            CancelledBy::Timeout => "has lived for SIMULATION_TIMEOUT",
        };
        let seconds = GRACE.as_secs();
        self.say(Level::Info, format!("Simulation {id} {why}: what has not begun goes at once, what runs is ended in {seconds} s."));
    }

    /// `ModelsReady` is not to go out any more.
    fn record_done(&mut self, id: &SimulationId) {
        if let Some(simulation) = self.simulations.get_mut(id)
            && let Announced::WhenRecorded(_) = simulation.models_ready
        {
            simulation.models_ready = Announced::No;
        }
        self.fact(id);
        self.touched.insert(id.clone());
    }

    /// Some models may be over, or the simulation has lived for too long.
    pub(super) fn on_done_due(&mut self, id: &SimulationId, now: Now) {
        let Some(simulation) = self.simulations.get(id) else { return };
        let has_lived_too_long = simulation.dies_at(&self.limits).is_some_and(|at| at <= now.instant);
        let waiting: Vec<ModelId> =
            simulation.models.values().filter(|model| model.waits_for_pod()).map(|model| model.pod.model.clone()).collect();
        if has_lived_too_long && simulation.cancelled.is_none() {
            self.cancel(id, Now { unix: self.server_time(now), ..now }, CancelledBy::Timeout);
            self.record_done(id);
        }
        waiting.iter().for_each(|model| self.end_what_has_no_pod(id, model, now));
        self.ask_for_what_is_over(id, now);
        self.say_what_goes_on(id, now);
        self.await_done(id, now);
    }

    /// Wakes when there is next something to do of it.
    pub(super) fn await_done(&mut self, id: &SimulationId, now: Now) {
        let Some(simulation) = self.simulations.get(id) else { return };
        let done_at = simulation.done_at.map(|at| at.instant);
        let ends = [
            simulation.dies_at(&self.limits),
            done_at.map(|at| at + GRACE),
            done_at.zip(self.limits.done).map(|(at, limit)| at + limit),
            simulation.cancelled.map(|(at, _)| at.instant + GRACE),
        ];
        if let Some(at) = ends.into_iter().flatten().filter(|at| *at > now.instant).min() {
            self.deadlines.set(at, Deadline::DoneIsDue(id.clone()));
        }
    }

    fn end_what_has_no_pod(&mut self, id: &SimulationId, model_id: &ModelId, now: Now) {
        let Some(simulation) = self.simulations.get(id) else { return };
        let has_none = |model: &&Model| model.waits_for_pod() && model.creation != Creation::Lost;
        let Some(model) = simulation.models.get(model_id).filter(has_none) else { return };
        if let Some(by) = simulation.over_for(model, None, &self.limits, now) {
            self.end_model(id, model_id, by);
        }
    }

    /// It may have ended by itself, or have got a node, while the watch was cut or this process was not there.
    fn ask_for_what_is_over(&mut self, id: &SimulationId, now: Now) {
        let Some(simulation) = self.simulations.get(id) else { return };
        let is_over = |model: &&Model| {
            let known = self.pods.get(&model.pod.name).filter(|known| model.uid.as_ref() == Some(&known.uid));
            model.uid.is_some() && simulation.over_for(model, known, &self.limits, now).is_some()
        };
        let over: Vec<_> = simulation.models.values().filter(is_over).map(|model| (model.pod.clone(), model.uid.clone())).collect();
        over.into_iter().for_each(|(pod, uid)| self.ask_about(&pod, uid));
    }

    /// The API server has just shown its pod.
    pub(super) fn end_what_is_over(&mut self, id: &SimulationId, model_id: &ModelId, now: Now) {
        let Some(simulation) = self.simulations.get(id) else { return };
        let Some(model) = simulation.models.get(model_id).filter(|model| model.uid.is_some()) else { return };
        if let Some(by) = simulation.over_for(model, self.pods.get(&model.pod.name), &self.limits, now) {
            self.end_model(id, model_id, by);
        }
    }

    fn end_model(&mut self, id: &SimulationId, model_id: &ModelId, by: CancelledBy) {
        if let Some(model) = self.model_mut(id, model_id) {
            model.ended_by_us = true;
            model.unwanted = Some(by);
        }
        self.conclude(id, model_id, unwanted(by), Tell::WhenRecorded);
    }

    /// It writes its results, perhaps, or it hangs.
    fn say_what_goes_on(&mut self, id: &SimulationId, now: Now) {
        let Some(simulation) = self.simulations.get_mut(id) else { return };
        let grace_is_over = simulation.done_at.is_some_and(|at| now.instant.saturating_duration_since(at.instant) >= GRACE);
        let goes_on = |model: &&Model| model.was_sent_done && model.ready && model.verdict.is_none();
        let models: Vec<ModelId> = simulation.models.values().filter(goes_on).map(|model| model.pod.model.clone()).collect();
        if grace_is_over && !models.is_empty() && !std::mem::replace(&mut simulation.overrun_said, true) {
            let (models, seconds) = (named(&models, FEW_MODELS), GRACE.as_secs());
            let until = match self.limits.done {
                Some(limit) => format!("ended {} s after it (DONE_GRACE)", limit.as_secs()),
                None => "left to end by themselves, as DONE_GRACE is 0".to_owned(),
            };
            self.say(Level::Warn, format!("Models {models} of simulation {id} go on {seconds} s after SimulationDone: they are {until}."));
        }
    }

    /// A moment that the record of an earlier process names.
    pub(super) fn moment(&self, unix: UnixTime, now: Now) -> Now {
        let age = Duration::try_from_secs_f64(self.server_time(now).seconds_since(unix)).unwrap_or_default();
        Now { instant: now.instant.checked_sub(age).unwrap_or(now.instant), unix }
    }
}

pub(crate) fn unwanted(by: CancelledBy) -> Verdict {
    let (reason, message) = match by {
        CancelledBy::So => (CANCELLED, "its SO has ended the simulation"),
        CancelledBy::Timeout => ("SimulationTimeout", "its simulation has lived for longer than it may"),
    };
    Verdict::failed_without_code(reason, message)
}

impl Simulation {
    /// Its SO has ended it, or its time is over.
    pub(super) fn is_done(&self) -> bool {
        self.done_at.is_some() || self.cancelled.is_some()
    }

    fn dies_at(&self, limits: &Limits) -> Option<Instant> {
        limits.simulation.map(|limit| self.begun_at + limit)
    }

    /// For whom it is not wanted any more, once it has had its grace. What has no pod needs none.
    fn over_for(&self, model: &Model, pod: Option<&KnownPod>, limits: &Limits, now: Now) -> Option<CancelledBy> {
        let is_past = |at: Option<Now>, grace| at.is_some_and(|at| now.instant.saturating_duration_since(at.instant) >= grace);
        let has_no_node = pod.is_none_or(|pod| pod.node.is_empty());
        let is_cancelled = self.cancelled.is_some_and(|(at, _)| has_no_node || is_past(Some(at), GRACE));
        let is_done = match (model.was_sent_done, model.ready) {
            (false, _) => false,
            (true, false) => model.waits_for_pod() || is_past(self.done_at, GRACE),
            (true, true) => limits.done.is_some_and(|grace| is_past(self.done_at, grace)),
        };
        match model.verdict {
            Some(_) => None,
            None if is_done => Some(CancelledBy::So),
            None => self.cancelled.filter(|_| is_cancelled).map(|(_, by)| by),
        }
    }
}
