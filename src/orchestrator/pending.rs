//! Models that do not do their work yet: what stands in the way, since when, when it is said, and when the model is given up for it.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use log::Level;

use super::deadline::Deadline;
use super::deploy::named;
use super::obstacle::{Kind, Obstacle};
use super::pod_state::Verdict;
use super::{Orchestrator, SAID_AGAIN, Tell};
use crate::clock::{Now, UnixTime};
use crate::config::Limits;
use crate::ids::{ModelId, SimulationId};

/// What begins or ends for many models is one line; and they are looked at no more often than that.
const SAID_TOGETHER: Duration = Duration::from_secs(1);
/// A model that takes long to load is looked after by nobody else.
const NOT_READY_AGAIN: Duration = Duration::from_secs(15 * 60);
/// How many models a line names.
const MODELS_NAMED: usize = 10;

/// What stands in the way of a model.
pub(super) struct Pending {
    pub obstacle: Obstacle,
    since: Instant,
    said: Option<(Instant, Obstacle)>,
}

impl Pending {
    /// When there is something to say of it, or the model is to be given up.
    fn due_at(&self, limits: &Limits) -> Option<Instant> {
        let say_at = self.say_at();
        let given_up_at = self.obstacle.kind.limit(limits).map(|limit| self.since + limit);
        [say_at, given_up_at].into_iter().flatten().min()
    }

    fn say_at(&self) -> Option<Instant> {
        match &self.said {
            None => Some(self.since + self.obstacle.kind.warn_after()),
            Some((at, _)) if self.obstacle.kind == Kind::NotReady => Some(*at + NOT_READY_AGAIN),
            // The kubelet says one thing in two ways by turns.
            Some((at, said)) => (*said != self.obstacle).then(|| *at + SAID_AGAIN),
        }
    }
}

impl Orchestrator {
    /// The pod shows it. `began` is the server's time.
    pub(super) fn on_obstacle(&mut self, id: &SimulationId, model_id: &ModelId, obstacle: Obstacle, began: Option<UnixTime>, now: Now) {
        let age = began.and_then(|began| Duration::try_from_secs_f64(self.server_time(now).seconds_since(began)).ok());
        let Some(model) = self.model_mut(id, model_id).filter(|model| model.verdict.is_none()) else { return };
        if model.ready {
            return self.on_no_obstacle(id, model_id, now);
        }
        let before = model.pending.as_ref().filter(|pending| pending.obstacle.kind == obstacle.kind);
        let since = match &model.pending {
            Some(_) => before.map_or(now.instant, |pending| pending.since),
            // This process may have come after it.
            None => age.and_then(|age| now.instant.checked_sub(age)).unwrap_or(now.instant),
        };
        let said = before.and_then(|pending| pending.said.clone());
        if before.is_none() {
            self.on_no_obstacle(id, model_id, now);
        }
        let pending = Pending { obstacle, since, said };
        let due_at = pending.due_at(&self.limits);
        if let Some(model) = self.model_mut(id, model_id) {
            model.pending = Some(pending);
        }
        if let Some(at) = due_at {
            self.deadlines.set_at_latest(at.max(now.instant + SAID_TOGETHER), Deadline::PendingIsDue(id.clone()));
        }
    }

    pub(super) fn on_no_obstacle(&mut self, id: &SimulationId, model_id: &ModelId, now: Now) {
        let Some(pending) = self.model_mut(id, model_id).and_then(|model| model.pending.take()).filter(|pending| pending.said.is_some())
        else {
            return;
        };
        if let Some(simulation) = self.simulations.get_mut(id) {
            simulation.unblocked.entry(pending.obstacle.reason).or_default().push(model_id.clone());
        }
        self.deadlines.set_at_latest(now.instant + SAID_TOGETHER, Deadline::PendingIsDue(id.clone()));
    }

    pub(super) fn on_pending_due(&mut self, id: &SimulationId, now: Now) {
        self.say_pending(id, now);
        self.give_up_pending(id, now);
        let Some(simulation) = self.simulations.get(id) else { return };
        let pending = simulation.models.values().filter_map(|model| model.pending.as_ref());
        if let Some(at) = pending.filter_map(|pending| pending.due_at(&self.limits)).min() {
            self.deadlines.set(at.max(now.instant + SAID_TOGETHER), Deadline::PendingIsDue(id.clone()));
        }
    }

    fn say_pending(&mut self, id: &SimulationId, now: Now) {
        let Some(simulation) = self.simulations.get_mut(id) else { return };
        let mut lines: BTreeMap<(String, String), Vec<ModelId>> = BTreeMap::new();
        for (model_id, model) in &mut simulation.models {
            let is_due = |pending: &&mut Pending| pending.say_at().is_some_and(|at| at <= now.instant);
            if let Some(pending) = model.pending.as_mut().filter(is_due) {
                pending.said = Some((now.instant, pending.obstacle.clone()));
                let Obstacle { reason, message, .. } = pending.obstacle.clone();
                lines.entry((reason, message)).or_default().push(model_id.clone());
            }
        }
        for (reason, models) in std::mem::take(&mut simulation.unblocked) {
            self.say(Level::Info, format!("Models {} of simulation {id} do not wait any more: {reason}.", named(&models, MODELS_NAMED)));
        }
        for ((reason, message), models) in lines {
            self.say(Level::Warn, format!("Models {} of simulation {id} wait, {reason}: {message}", named(&models, MODELS_NAMED)));
        }
    }

    fn give_up_pending(&mut self, id: &SimulationId, now: Now) {
        let Some(simulation) = self.simulations.get_mut(id) else { return };
        let mut overdue = Vec::new();
        for (model_id, model) in &mut simulation.models {
            let Some(Pending { obstacle, since, .. }) = &model.pending else { continue };
            let waited = now.instant.saturating_duration_since(*since);
            if obstacle.kind.limit(&self.limits).is_some_and(|limit| waited >= limit) {
                let message = format!("{} (for {} s)", obstacle.message, waited.as_secs());
                overdue.push((model_id.clone(), Verdict::failed_without_code(&obstacle.reason, &message)));
                model.ended_by_us = true;
            }
        }
        for (model, verdict) in overdue {
            self.conclude(id, &model, verdict, Tell::WhenRecorded);
        }
    }
}
