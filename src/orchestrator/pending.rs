//! Models that do not do their work yet: what stands in the way, since when, when it is said, and when the model is given up for it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use log::Level;

use super::deadline::Deadline;
use super::deploy::{FEW_MODELS, named};
use super::event::{Command, Question};
use super::obstacle::{Kind, Obstacle};
use super::pod_state::{Verdict, one_line};
use super::words::WAITED;
use super::{Orchestrator, SAID_AGAIN, Tell};
use crate::clock::{Now, UnixTime};
use crate::config::Limits;
use crate::ids::{ModelId, SimulationId};
use crate::kube::error::Error;
use crate::kube::event::PodEvent;

/// What begins or ends for many models is one line; and they are looked at no more often than that.
const SAID_TOGETHER: Duration = Duration::from_secs(1);
/// A model that takes long to load is looked after by nobody else.
const NOT_READY_AGAIN: Duration = Duration::from_secs(15 * 60);
/// Of each reason the newest.
const EVENTS_TOLD: usize = 3;

/// What stands in the way of a model.
pub(super) struct Pending {
    pub obstacle: Obstacle,
    since: Instant,
    /// For how long it was so before, where its time stood still since then.
    before: Duration,
    said: Option<(Instant, Obstacle)>,
    /// What the cluster has said of its pod.
    events: String,
    /// Its time is over, and its pod is asked for.
    asked: bool,
}

impl Pending {
    /// When there is something to say of it, or its time is over.
    fn due_at(&self, limits: &Limits) -> Option<Instant> {
        let say_at = self.say_at();
        let overdue_at =
            self.obstacle.kind.limit(limits).map(|limit| self.since + limit.saturating_sub(self.before)).filter(|_| !self.asked);
        [say_at, overdue_at].into_iter().flatten().min()
    }

    /// What stands in the way so long that it is worth a word.
    pub(super) fn said(&self) -> Option<&Obstacle> {
        self.said.as_ref().map(|(_, obstacle)| obstacle)
    }

    fn is_overdue(&self, limits: &Limits, now: Instant) -> bool {
        self.obstacle.kind.limit(limits).is_some_and(|limit| self.waited(now) >= limit)
    }

    fn waited(&self, now: Instant) -> Duration {
        self.before + now.saturating_duration_since(self.since)
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
        if model.ready && !obstacle.kind.is_of_pod() {
            return self.on_no_obstacle(id, model_id, now);
        }
        let new =
            |since| Pending { obstacle: obstacle.clone(), since, before: Duration::ZERO, said: None, events: String::new(), asked: false };
        let pending = match model.pending.take() {
            Some(pending) if pending.obstacle.kind == obstacle.kind => Pending { obstacle, ..pending },
            Some(pending) if pending.obstacle.kind.is_pull() && obstacle.kind.is_pull() => {
                let before = if obstacle.kind == Kind::ImagePullHeld { pending.waited(now.instant) } else { pending.before };
                Pending { obstacle, since: now.instant, before, ..pending }
            }
            Some(pending) => {
                self.say_no_obstacle(id, model_id, pending, now);
                new(now.instant)
            }
            // This process may have come after it.
            None => new(age.and_then(|age| now.instant.checked_sub(age)).unwrap_or(now.instant)),
        };
        let due_at = pending.due_at(&self.limits);
        if let Some(model) = self.model_mut(id, model_id) {
            model.pending = Some(pending);
        }
        if let Some(at) = due_at {
            self.deadlines.set_at_latest(at.max(now.instant + SAID_TOGETHER), Deadline::PendingIsDue(id.clone()));
        }
    }

    pub(super) fn on_no_obstacle(&mut self, id: &SimulationId, model_id: &ModelId, now: Now) {
        if let Some(pending) = self.model_mut(id, model_id).and_then(|model| model.pending.take()) {
            self.say_no_obstacle(id, model_id, pending, now);
        }
    }

    fn say_no_obstacle(&mut self, id: &SimulationId, model_id: &ModelId, pending: Pending, now: Now) {
        if pending.said.is_none() {
            return;
        }
        if let Some(simulation) = self.simulations.get_mut(id) {
            let state = pending.obstacle.kind.state_when_over();
            simulation.unblocked.entry((state, pending.obstacle.reason)).or_default().push(model_id.clone());
        }
        self.deadlines.set_at_latest(now.instant + SAID_TOGETHER, Deadline::PendingIsDue(id.clone()));
    }

    pub(super) fn on_pending_due(&mut self, id: &SimulationId, now: Now) {
        self.say_pending(id, now);
        self.ask_for_overdue(id, now);
        let Some(simulation) = self.simulations.get(id) else { return };
        let pending = simulation.models.values().filter_map(|model| model.pending.as_ref());
        if let Some(at) = pending.filter_map(|pending| pending.due_at(&self.limits)).min() {
            self.deadlines.set(at.max(now.instant + SAID_TOGETHER), Deadline::PendingIsDue(id.clone()));
        }
    }

    fn say_pending(&mut self, id: &SimulationId, now: Now) {
        let Some(simulation) = self.simulations.get_mut(id) else { return };
        // Messages may hold what differs from try to try: a port, an id.
        let mut lines: BTreeMap<String, (&str, String, Vec<ModelId>)> = BTreeMap::new();
        let mut questions = Vec::new();
        for (model_id, model) in &mut simulation.models {
            let is_due = |pending: &&mut Pending| pending.say_at().is_some_and(|at| at <= now.instant);
            if let Some(pending) = model.pending.as_mut().filter(is_due) {
                pending.said = Some((now.instant, pending.obstacle.clone()));
                let Obstacle { kind, reason, message } = pending.obstacle.clone();
                let line = lines.entry(reason).or_insert((kind.state(), message, Vec::new()));
                // One for all that wait for the same.
                if kind == Kind::Creating && line.2.is_empty() {
                    let (name, uid) = (model.pod.name.clone(), model.uid.clone());
                    questions.push(Question { name, simulation: id.clone(), model: model_id.clone(), uid });
                }
                line.2.push(model_id.clone());
            }
        }
        let unblocked = std::mem::take(&mut simulation.unblocked);
        self.commands.extend(questions.into_iter().map(Command::ReadEvents));
        for ((state, reason), models) in unblocked {
            self.say(Level::Info, format!("Models {} of simulation {id} {state}: {reason}.", named(&models, FEW_MODELS)));
        }
        for (reason, (state, message, models)) in lines {
            self.say(Level::Warn, format!("Models {} of simulation {id} {state}, {reason}: {message}", named(&models, FEW_MODELS)));
        }
    }

    /// The kubelet says in events alone what keeps it from a container.
    pub(super) fn on_events_read(&mut self, question: &Question, result: Result<Vec<PodEvent>, Error>) {
        let Question { name, simulation: id, model: model_id, uid } = question;
        let mut warnings: Vec<PodEvent> = result.unwrap_or_default().into_iter().rev().filter(|event| event.r#type == "Warning").collect();
        let mut reasons = BTreeSet::new();
        warnings.retain(|event| reasons.insert(event.reason.clone()));
        let warnings = warnings.iter().take(EVENTS_TOLD).map(|event| format!("{}: {}", one_line(&event.reason), one_line(&event.message)));
        let events = warnings.collect::<Vec<_>>().join("; ");
        let Some(model) = self.model_mut(id, model_id).filter(|model| model.uid == *uid && !events.is_empty()) else { return };
        let Some(pending) = model.pending.as_mut().filter(|pending| pending.obstacle.kind == Kind::Creating) else { return };
        pending.events.clone_from(&events);
        self.say(Level::Warn, format!("Pod {name} of model {id}/{model_id} does not come to run. Its events: {events}"));
    }

    /// What the last sight of its pod says may be old, where the watch was cut or this process stopped: its pod is asked for.
    fn ask_for_overdue(&mut self, id: &SimulationId, now: Now) {
        let Some(simulation) = self.simulations.get_mut(id) else { return };
        let mut overdue = Vec::new();
        for model in simulation.models.values_mut() {
            let is_overdue = |pending: &&mut Pending| !pending.asked && pending.is_overdue(&self.limits, now.instant);
            let Some(pending) = model.pending.as_mut().filter(is_overdue) else { continue };
            pending.asked = true;
            overdue.push((model.pod.clone(), model.uid.clone()));
        }
        overdue.into_iter().for_each(|(pod, uid)| self.ask_about(&pod, uid));
    }

    /// The API server has just shown its pod.
    pub(super) fn give_up_what_is_overdue(&mut self, id: &SimulationId, model_id: &ModelId, now: Now) {
        let Some(model) = self.simulations.get_mut(id).and_then(|simulation| simulation.models.get_mut(model_id)) else { return };
        let Some(pending) = model.pending.as_ref().filter(|pending| pending.is_overdue(&self.limits, now.instant)) else { return };
        let waited = pending.waited(now.instant);
        let events = if pending.events.is_empty() { String::new() } else { format!("; its events: {}", pending.events) };
        let message = format!("{}{WAITED}{} s){events}", pending.obstacle.message, waited.as_secs());
        let verdict = Verdict::failed_without_code(&pending.obstacle.reason, &message);
        model.ended_by_us = true;
        self.conclude(id, model_id, verdict, Tell::WhenRecorded);
    }
}
