//! Models that are not wanted any more, as their SO says or as their simulation has lived for too long; and when they are ended for it.
//!
//! `SimulationDone` to a model is also the normal end: models write their results after it, and end by themselves. One to us cancels the
//! simulation. Whichever it was, nothing of this run begins any more.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use log::Level;

use super::deadline::Deadline;
use super::deploy::named;
use super::pod_state::Verdict;
use super::retention::KnownPod;
use super::simulation::{Announced, Creation, Model, Simulation};
use super::{Orchestrator, Tell};
use crate::clock::{Now, UnixTime};
use crate::config::Limits;
use crate::ids::{ModelId, SimulationId};

/// Why a model is ended that its SO does not want any more.
pub(super) const CANCELLED: &str = "Cancelled";

/// Models end within seconds of what ends their simulation, where they end at all.
const GRACE: Duration = Duration::from_secs(2 * 60);
/// Before it is known what runs, and while a request waits; each is some 100 bytes.
const MAX_DONES_KEPT: usize = 100_000;
/// How many models a line names.
const MODELS_NAMED: usize = 10;

impl Orchestrator {
    pub(super) fn on_done(&mut self, id: &SimulationId, model: Option<&ModelId>, now: Now) {
        self.mark_done(id, model, now);
        // What it means for a run that has not begun is not known yet.
        let is_held = self.api.lists == 0 || self.held_requests.iter().any(|held| held.is_for(id));
        if is_held && self.dones.len() < MAX_DONES_KEPT {
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
    pub(super) fn mark_what_was_done_before(&mut self, now: Now) {
        let of_running: Vec<(SimulationId, Option<ModelId>)> =
            self.dones.keys().filter(|(id, _)| self.simulations.contains_key(id)).cloned().collect();
        for (id, model) in of_running {
            self.mark_done(&id, model.as_ref(), now);
        }
    }

    /// Those that no request waits to hear of.
    pub(super) fn forget_dones(&mut self) {
        self.dones.retain(|(id, _), _| self.held_requests.iter().any(|held| held.is_for(id)));
    }

    fn mark_done(&mut self, id: &SimulationId, model: Option<&ModelId>, now: Now) {
        let at = Now { unix: self.server_time(now), ..now };
        let Some(simulation) = self.simulations.get_mut(id) else { return };
        let is_first = match model {
            None => simulation.cancelled_at.is_none(),
            Some(model) => {
                let Some(known) = simulation.models.get_mut(model).filter(|known| !known.is_done) else { return };
                known.is_done = true;
                simulation.done_at.is_none()
            }
        };
        simulation.done_at = Some(at);
        match model {
            None if is_first => self.cancel(id, at, &format!("Simulation {id} is cancelled by its SO")),
            Some(_) if is_first => self.say(Level::Info, format!("Simulation {id} is done, as its SO tells its models.")),
            _ => {}
        }
        self.note_done(id);
        match model {
            None => self.on_done_due(id, now),
            Some(_) => self.await_done(id, now),
        }
    }

    /// What has no node goes at once; the rest has its grace.
    fn cancel(&mut self, id: &SimulationId, at: Now, why: &str) {
        let Some(simulation) = self.simulations.get_mut(id) else { return };
        simulation.cancelled_at = Some(at);
        let seconds = GRACE.as_secs();
        self.say(Level::Info, format!("{why}: what has not begun goes at once, what runs is ended in {seconds} s."));
    }

    fn note_done(&mut self, id: &SimulationId) {
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
        if has_lived_too_long && simulation.cancelled_at.is_none() {
            let at = Now { unix: self.server_time(now), ..now };
            self.cancel(id, at, &format!("Simulation {id} has lived for SIMULATION_TIMEOUT"));
            self.note_done(id);
        }
        self.end_what_has_no_pod(id, now);
        self.ask_for_what_is_over(id, now);
        self.say_what_goes_on(id, now);
        self.await_done(id, now);
    }

    /// Wakes when there is next something to do of it.
    pub(super) fn await_done(&mut self, id: &SimulationId, now: Now) {
        let Some(simulation) = self.simulations.get(id) else { return };
        let (done_at, cancelled_at) = (simulation.done_at.map(|at| at.instant), simulation.cancelled_at.map(|at| at.instant));
        let ends = [
            simulation.dies_at(&self.limits),
            done_at.map(|at| at + GRACE),
            done_at.zip(self.limits.done).map(|(at, limit)| at + limit),
            cancelled_at.map(|at| at + GRACE),
        ];
        if let Some(at) = ends.into_iter().flatten().filter(|at| *at > now.instant).min() {
            self.deadlines.set(at, Deadline::DoneIsDue(id.clone()));
        }
    }

    fn end_what_has_no_pod(&mut self, id: &SimulationId, now: Now) {
        let Some(simulation) = self.simulations.get(id) else { return };
        let has_none = |model: &&Model| model.waits_for_pod() && model.creation != Creation::Lost;
        let over = simulation.models.values().filter(|model| has_none(model) && simulation.is_over(model, None, &self.limits, now));
        let over: Vec<ModelId> = over.map(|model| model.pod.model.clone()).collect();
        over.iter().for_each(|model| self.end_model(id, model));
    }

    /// It may have ended by itself, or have got a node, while the watch was cut or this process was not there.
    fn ask_for_what_is_over(&mut self, id: &SimulationId, now: Now) {
        let Some(simulation) = self.simulations.get(id) else { return };
        let is_over = |model: &&Model| {
            let known = self.pods.get(&model.pod.name).filter(|known| model.uid.as_ref() == Some(&known.uid));
            model.uid.is_some() && simulation.is_over(model, known, &self.limits, now)
        };
        let over: Vec<_> = simulation.models.values().filter(is_over).map(|model| (model.pod.clone(), model.uid.clone())).collect();
        over.into_iter().for_each(|(pod, uid)| self.ask_about(&pod, uid));
    }

    /// The API server has just shown its pod.
    pub(super) fn end_what_is_over(&mut self, id: &SimulationId, model_id: &ModelId, now: Now) {
        let Some(simulation) = self.simulations.get(id) else { return };
        let Some(model) = simulation.models.get(model_id).filter(|model| model.uid.is_some()) else { return };
        if simulation.is_over(model, self.pods.get(&model.pod.name), &self.limits, now) {
            self.end_model(id, model_id);
        }
    }

    fn end_model(&mut self, id: &SimulationId, model_id: &ModelId) {
        let Some(simulation) = self.simulations.get_mut(id) else { return };
        let verdict = match simulation.done_at {
            Some(_) => cancelled(),
            None => Verdict::failed_without_code("SimulationTimeout", "its simulation has lived for longer than it may"),
        };
        if let Some(model) = simulation.models.get_mut(model_id) {
            model.ended_by_us = true;
        }
        self.conclude(id, model_id, verdict, Tell::WhenRecorded);
    }

    /// It writes its results, perhaps, or it hangs.
    fn say_what_goes_on(&mut self, id: &SimulationId, now: Now) {
        let Some(simulation) = self.simulations.get_mut(id) else { return };
        let grace_is_over = simulation.done_at.is_some_and(|at| now.instant.saturating_duration_since(at.instant) >= GRACE);
        let goes_on = |model: &&Model| model.is_done && model.ready && model.verdict.is_none();
        let models: Vec<ModelId> = simulation.models.values().filter(goes_on).map(|model| model.pod.model.clone()).collect();
        if grace_is_over && !models.is_empty() && !std::mem::replace(&mut simulation.overrun_said, true) {
            let (models, seconds) = (named(&models, MODELS_NAMED), GRACE.as_secs());
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

pub(super) fn cancelled() -> Verdict {
    Verdict::failed_without_code(CANCELLED, "its SO has ended the simulation")
}

impl Simulation {
    /// Its SO has ended it, or its time is over.
    pub(super) fn is_done(&self) -> bool {
        self.done_at.is_some() || self.cancelled_at.is_some()
    }

    fn dies_at(&self, limits: &Limits) -> Option<Instant> {
        limits.simulation.map(|limit| self.begun_at + limit)
    }

    /// It is not wanted any more, and has had its grace.
    fn is_over(&self, model: &Model, pod: Option<&KnownPod>, limits: &Limits, now: Now) -> bool {
        let is_past = |at: Option<Now>, grace| at.is_some_and(|at| now.instant.saturating_duration_since(at.instant) >= grace);
        let has_no_node = pod.is_none_or(|pod| pod.node.is_empty());
        let is_cancelled = self.cancelled_at.is_some() && (has_no_node || is_past(self.cancelled_at, GRACE));
        let is_done = match (model.is_done, model.ready) {
            (false, _) => false,
            (true, false) => is_past(self.done_at, GRACE),
            (true, true) => limits.done.is_some_and(|grace| is_past(self.done_at, grace)),
        };
        model.verdict.is_none() && (is_cancelled || is_done)
    }
}
