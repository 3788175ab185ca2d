//! Requests that wait: what one means depends on what runs, which is not known at the beginning, and not while a run's end is recorded.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use log::Level;

use super::announce::Told;
use super::deadline::Deadline;
use super::deploy::{FEW_MODELS, MAX_BYTES, MAX_MODELS, REDELIVERY, TOO_MUCH, named};
use super::event::{BadRequest, Command, Delivery, DeployRequest, MessageId};
use super::kept::Kept;
use super::pod_state::Verdict;
use super::refusal::Refusal;
use super::simulation::{Reported, Simulation};
use super::{Orchestrator, Tell};
use crate::clock::Now;
use crate::ids::{DeployId, ModelId, SimulationId, TopicSegment};

/// That wait together: for each one a simulation is told that it failed, if it comes to that.
const MAX_HELD_REQUESTS: usize = 1000;

/// For models of the last run, which write their results or hang. Nobody but us knows why the next one does not begin.
const LAST_RUN_AWAITED: Duration = Duration::from_secs(10 * 60);

/// A request that waits to be handled.
pub(super) struct Held {
    pub simulation: TopicSegment,
    pub request: Result<DeployRequest, BadRequest>,
    pub came: Arrival,
}

#[derive(Clone, Copy)]
pub(super) struct Arrival {
    pub at: Instant,
    /// Since when there was a connection to the broker then.
    pub connected_at: Option<Instant>,
    pub delivery: Option<Delivery>,
}

/// A request that came at QoS 1 and is refused: the broker keeps it until it has what is told of it.
pub(super) struct Refused {
    simulation: TopicSegment,
    request: Result<DeployId, BadRequest>,
    /// None where that connection is gone: it is delivered again.
    delivery: Option<Delivery>,
}

/// A simulation that was told as failed before it was known what runs: it may be one that does.
pub(super) struct ToldBlindly {
    at: Instant,
    problem: String,
    /// Whose end the broker has.
    told: BTreeSet<ModelId>,
    /// What it has not acknowledged yet.
    unacknowledged: BTreeMap<MessageId, Told>,
}

impl Orchestrator {
    pub(super) fn on_request(&mut self, simulation: TopicSegment, request: Result<DeployRequest, BadRequest>, came: Arrival, now: Now) {
        if self.is_being_refused(&simulation, &request, came) {
            return;
        }
        match (self.why_it_waits(&request, came), request) {
            (Some(why), request) => self.hold_request(Held { simulation, request, came }, why, now),
            (None, Ok(request)) => {
                let id = request.simulation.clone();
                let refused = Refused::of(&simulation, &Ok(&request.id), came);
                match (self.deploy(request, came, now), came.delivery) {
                    (Some(end), _) => self.acknowledge_when_told(Some(end), refused),
                    (None, Some(delivery)) => self.acknowledge_later(&id, delivery),
                    (None, None) => {}
                }
            }
            (None, Err(bad)) => {
                let end = self.refuse(&simulation, &bad, now);
                self.acknowledge_when_told(end, Refused::of(&simulation, &Err(&bad), came));
            }
        }
    }

    /// It is delivered again, and its answers are on their way since it came first.
    fn is_being_refused(&mut self, simulation: &TopicSegment, request: &Result<DeployRequest, BadRequest>, came: Arrival) -> bool {
        if came.delivery.is_none() || !came.is_right_after_a_reconnect() {
            return false;
        }
        let is_same = |refused: &&mut Refused| {
            refused.delivery.is_none()
                && refused.simulation == *simulation
                && refused.request.as_ref() == request.as_ref().map(|request| &request.id)
        };
        let Some(same) = self.refused.values_mut().flatten().find(is_same) else { return false };
        same.delivery = came.delivery;
        true
    }

    /// With the end of its simulation the broker has all that is told of it; none is told where the simulation goes on without it.
    fn acknowledge_when_told(&mut self, end: Option<MessageId>, refused: impl IntoIterator<Item = Refused>) {
        match end {
            Some(end) => self.refused.entry(end).or_default().extend(refused),
            None => self.commands.extend(refused.into_iter().filter_map(|refused| refused.delivery).map(Command::Acknowledge)),
        }
    }

    pub(super) fn acknowledge_what_was_told(&mut self, message: MessageId) {
        let refused = self.refused.remove(&message).unwrap_or_default();
        self.commands.extend(refused.into_iter().filter_map(|refused| refused.delivery).map(Command::Acknowledge));
    }

    /// Acknowledged on another connection they acknowledge nothing: the broker delivers again.
    pub(super) fn forget_deliveries(&mut self) {
        self.deliveries.clear();
        self.refused.values_mut().flatten().for_each(|refused| refused.delivery = None);
    }

    /// What a request means depends on what runs.
    pub(super) fn why_it_waits(&self, request: &Result<DeployRequest, BadRequest>, came: Arrival) -> Option<&'static str> {
        if self.api.lists == 0 {
            return Some("what runs is not known yet");
        }
        let request = request.as_ref().ok()?;
        let id = &request.simulation;
        let is_of_run = |simulation: &Simulation| simulation.deploys.contains(&request.id) || simulation.repeats.contains(&request.id);
        let is_for_next_run =
            |simulation: &Simulation| simulation.is_done() && !(is_of_run(simulation) && came.is_right_after_a_reconnect());
        if self.simulations.get(id).is_some_and(is_for_next_run) {
            return Some("its last run is done, and has not ended");
        }
        if self.simulations.get(id).is_some_and(|simulation| simulation.end_may_be_told) {
            return Some("all models of its last run have ended, and that is told once more");
        }
        // A restart would take the run before for the one that is asked for.
        let is_ending = self.ended.get(id).is_some_and(|ended| !ended.told || !self.is_all_recorded(id));
        let is_losing = self.records.get(id).is_some_and(Kept::is_losing);
        (is_ending || is_losing).then_some("the end of its last run is not recorded yet")
    }

    pub(super) fn handle_held(&mut self, now: Now) {
        self.handle_held_requests = false;
        for held in std::mem::take(&mut self.held_requests) {
            if self.why_it_waits(&held.request, held.came).is_some() {
                self.keep_held(held);
            } else {
                self.on_request(held.simulation, held.request, held.came, now);
            }
        }
        self.forget_dones();
    }

    fn hold_request(&mut self, held: Held, why: &str, now: Now) {
        let is_same = |other: &Held| match (&other.request, &held.request) {
            (Ok(other), Ok(request)) => (&other.simulation, &other.id) == (&request.simulation, &request.id),
            (Err(bad), Err(same)) => other.simulation == held.simulation && bad == same,
            (Ok(_), Err(_)) | (Err(_), Ok(_)) => false,
        };
        if let Some(same) = self.held_requests.iter_mut().find(|other| is_same(other)) {
            // Delivered again, or asked for again: what counts is when it came first, and there is not one more to hold.
            if let Some(delivery) = held.came.delivery {
                self.commands.extend(same.came.delivery.replace(delivery).map(Command::Acknowledge));
            }
            return;
        }
        let together = || self.held_requests.iter().chain([&held]);
        let (bytes, models) = (together().map(Held::bytes).sum::<usize>(), together().map(Held::models).sum::<usize>());
        if bytes > MAX_BYTES || models > MAX_MODELS || self.held_requests.len() == MAX_HELD_REQUESTS {
            let problem = "too many requests wait for the Kubernetes API".to_owned();
            let refused = held.as_refused();
            let end = self.refuse(
                &held.simulation,
                &BadRequest { reason: TOO_MUCH.to_owned(), problem, models: addressable_models(held.request) },
                now,
            );
            return self.acknowledge_when_told(end, refused);
        }
        self.say(Level::Info, format!("DeployModels for simulation {} waits: {why}.", held.simulation));
        self.keep_held(held);
    }

    fn keep_held(&mut self, held: Held) {
        if let Ok(request) = &held.request
            && self.simulations.get(&request.simulation).is_some_and(Simulation::is_done)
        {
            self.deadlines.set_at_latest(held.came.at + LAST_RUN_AWAITED, Deadline::LastRunIsAwaited(request.simulation.clone()));
        }
        self.held_requests.push(held);
    }

    /// What was done long ago and has not ended may never end.
    pub(super) fn give_up_what_awaits_the_last_run(&mut self, id: &SimulationId, now: Now) {
        let Some(simulation) = self.simulations.get(id).filter(|simulation| simulation.is_done()) else { return };
        let running = simulation.models.values().filter(|model| model.verdict.is_none());
        let running: Vec<ModelId> = running.map(|model| model.pod.model.clone()).collect();
        if running.is_empty() {
            // What is to be told of its end, or recorded, has limits of its own.
            return self.deadlines.set(now.instant + LAST_RUN_AWAITED, Deadline::LastRunIsAwaited(id.clone()));
        }
        let (running, seconds) = (named(&running, FEW_MODELS), LAST_RUN_AWAITED.as_secs());
        let problem = format!(
            "the last run of this simulation is done, and its models {running} have not ended in {seconds} s: delete their pods, or set \
             DONE_GRACE"
        );
        let is_overdue = |held: &Held| held.is_for(id) && now.instant.saturating_duration_since(held.came.at) >= LAST_RUN_AWAITED;
        self.refuse_held(&TopicSegment::from(id), is_overdue, "LastRunGoesOn", &problem, now);
        if let Some(next) = self.held_requests.iter().filter(|held| held.is_for(id)).map(|held| held.came.at).min() {
            self.deadlines.set(next + LAST_RUN_AWAITED, Deadline::LastRunIsAwaited(id.clone()));
        }
    }

    /// What they wait for has been in the way for too long: for those of one simulation, or for all.
    pub(super) fn give_up_held(&mut self, refusal: &Refusal, only: Option<&SimulationId>, since: Instant, now: Now) {
        let Some(limit) = refusal.reason.limit(&self.limits) else { return };
        let is_overdue = |asked_at: Instant| now.instant.saturating_duration_since(asked_at.max(since)) >= limit;
        let only = only.map(TopicSegment::from);
        let held = self.held_requests.iter().filter(|held| only.as_ref().is_none_or(|only| held.simulation == *only));
        let overdue: BTreeSet<TopicSegment> = held.filter(|held| is_overdue(held.came.at)).map(|held| held.simulation.clone()).collect();
        for id in overdue {
            self.refuse_held(&id, |held| held.simulation == id, &refusal.reason.to_string(), &refusal.message, now);
        }
    }

    /// All of them as one: each model is told once.
    fn refuse_held(&mut self, id: &TopicSegment, is_refused: impl Fn(&Held) -> bool, reason: &str, problem: &str, now: Now) {
        let (held, rest): (Vec<Held>, Vec<Held>) = std::mem::take(&mut self.held_requests).into_iter().partition(is_refused);
        self.held_requests = rest;
        let refused: Vec<Refused> = held.iter().filter_map(Held::as_refused).collect();
        let mut seen = BTreeSet::new();
        let models = held.into_iter().flat_map(|held| addressable_models(held.request));
        let models = models.filter(|model| seen.insert(model.clone())).collect();
        let end = self.refuse(id, &BadRequest { reason: reason.to_owned(), problem: problem.to_owned(), models }, now);
        self.acknowledge_when_told(end, refused);
    }

    /// For the first list to judge. Those that are too many to be remembered run where a record of them turns up.
    pub(super) fn remember_told_blindly(
        &mut self,
        simulation: &TopicSegment,
        problem: &str,
        messages: BTreeMap<MessageId, Told>,
        now: Now,
    ) {
        let Ok(id) = SimulationId::new(simulation.as_str()) else { return };
        let remembered = self.told_blindly.values().map(|blind| blind.told.len() + blind.unacknowledged.len()).sum::<usize>();
        let is_one_too_many = self.told_blindly.len() == MAX_HELD_REQUESTS && !self.told_blindly.contains_key(&id);
        if is_one_too_many || remembered + messages.len() > MAX_MODELS {
            let text = format!("That simulation {id} was told as failed is not remembered, as too many were: if it runs, it goes on.");
            return self.say(Level::Warn, text);
        }
        let new = ToldBlindly { at: now.instant, problem: problem.to_owned(), told: BTreeSet::new(), unacknowledged: BTreeMap::new() };
        self.told_blindly.entry(id).or_insert(new).unacknowledged.extend(messages);
    }

    /// True where it was one of those.
    pub(super) fn on_blind_published(&mut self, message: MessageId) -> bool {
        for blind in self.told_blindly.values_mut() {
            if let Some(told) = blind.unacknowledged.remove(&message) {
                if let Told::End(model) = told {
                    blind.told.insert(model);
                }
                return true;
            }
        }
        false
    }

    pub(super) fn was_told_blindly(&self, id: &SimulationId) -> bool {
        self.told_blindly.contains_key(id)
    }

    /// What was told is so from here on: of those that run after all, no model does any more.
    pub(super) fn end_what_was_told_blindly(&mut self) {
        for (id, blind) in std::mem::take(&mut self.told_blindly) {
            let Some(running) = self.simulations.get_mut(&id) else { continue };
            running.end_told_at = Some(blind.at);
            let alive = running.models.values_mut().filter(|model| model.verdict.is_none());
            let alive = alive.map(|model| {
                model.ended_by_us = true;
                model.pod.model.clone()
            });
            let alive: Vec<ModelId> = alive.collect();
            let problem = &blind.problem;
            self.say(Level::Error, format!("Simulation {id} was told as failed when nobody knew that it runs: it ends. {problem}"));
            for model in alive {
                self.conclude(&id, &model, Verdict::failed_without_code("ToldAsFailed", problem), Tell::WhenRecorded);
            }
            self.take_for_told(&id, blind);
        }
    }

    fn take_for_told(&mut self, id: &SimulationId, ToldBlindly { told, unacknowledged, .. }: ToldBlindly) {
        let Some(running) = self.simulations.get_mut(id) else { return };
        for model in &told {
            running.untold.remove(model);
            running.set_told(model);
        }
        // Of two one would be too many: it has what it says by now.
        running.error = Reported::Published;
        running.unacknowledged += unacknowledged.len();
        for (message, told) in unacknowledged {
            if let Told::End(model) = &told {
                running.untold.remove(model);
            }
            self.unacknowledged.insert(message, (id.clone(), running.run, told));
        }
    }
}

impl Arrival {
    /// A persistent session delivers again then.
    pub(super) fn is_right_after_a_reconnect(self) -> bool {
        // A resumed session delivers again before it answers our subscription (seen with mosquitto).
        self.connected_at.is_none_or(|at| self.at.saturating_duration_since(at) < REDELIVERY)
    }
}

impl Refused {
    fn of(simulation: &TopicSegment, request: &Result<&DeployId, &BadRequest>, came: Arrival) -> Option<Self> {
        let request = request.map(DeployId::clone).map_err(BadRequest::clone);
        came.delivery.map(|delivery| Self { simulation: simulation.clone(), request, delivery: Some(delivery) })
    }
}

impl Held {
    pub(super) fn is_for(&self, id: &SimulationId) -> bool {
        self.simulation.as_str() == id.as_str()
    }

    fn as_refused(&self) -> Option<Refused> {
        Refused::of(&self.simulation, &self.request.as_ref().map(|request| &request.id), self.came)
    }

    /// What holding it takes, but for a constant a model.
    fn bytes(&self) -> usize {
        match &self.request {
            Ok(request) => request.bytes(),
            Err(bad) => bad.models.iter().map(|model| model.as_str().len()).sum(),
        }
    }

    fn models(&self) -> usize {
        self.request.as_ref().map_or_else(|bad| bad.models.len(), |request| request.models.len())
    }
}

/// Who is told that it ended, where it cannot be begun.
pub(super) fn addressable_models(request: Result<DeployRequest, BadRequest>) -> Vec<TopicSegment> {
    match request {
        Ok(request) => request.models.iter().map(|configuration| TopicSegment::from(&configuration.model)).collect(),
        Err(bad) => bad.models,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock;
    use crate::config::Rules;
    use crate::ids::{PodName, SimulatorId, SimulatorName};
    use crate::orchestrator::event::{Body, BrokerEvent, Event, ModelConfiguration};

    /// Nothing is known of what runs.
    fn core() -> Orchestrator {
        Orchestrator::new(SimulatorName::new("so").unwrap(), Rules::default(), 1, 0)
    }

    fn bad(models: Vec<TopicSegment>) -> Result<DeployRequest, BadRequest> {
        Err(BadRequest { reason: "InvalidRequest".to_owned(), problem: "keepLogsHours is NaN".to_owned(), models })
    }

    fn good(simulation: &str, models: usize) -> Result<DeployRequest, BadRequest> {
        let (simulator, simulation) = (SimulatorId::new("so").unwrap(), SimulationId::new(simulation).unwrap());
        let configuration = |number| {
            let model = ModelId::new(&format!("m{number}")).unwrap();
            let pod = PodName::of(&simulator, &simulation, &model).unwrap();
            ModelConfiguration { model, pod, image: String::new(), variables: Vec::new() }
        };
        let models = (0..models).map(configuration).collect();
        Ok(DeployRequest { id: DeployId::new(&"0".repeat(16)).unwrap(), simulator, simulation, models, keep_logs_hours: 0.0 })
    }

    /// What is done at once.
    fn commands(core: &mut Orchestrator, simulation: &str, request: Result<DeployRequest, BadRequest>, packet_id: u16) -> Vec<Command> {
        let delivery = Some(Delivery { connection: 1, packet_id });
        let event = BrokerEvent::DeployModels { simulation: TopicSegment::new(simulation).unwrap(), request, delivery };
        core.handle(Event::Broker(event), clock::now());
        std::iter::from_fn(|| core.poll_command()).filter(|command| !matches!(command, Command::Say(..))).collect()
    }

    fn is_refused(commands: &[Command]) -> bool {
        commands.iter().any(|command| matches!(command, Command::Publish(message) if message.body == Body::AllModelsHaveTerminated))
    }

    /// 4 MB of them.
    fn long_ids() -> Vec<TopicSegment> {
        (0..200).map(|number| TopicSegment::new(&format!("{number:020000}")).unwrap()).collect()
    }

    #[test]
    fn bad_requests_that_wait_hold_no_more_bytes_than_good_ones() {
        let (mut core, ids) = (core(), long_ids());
        let mut waiting = 0;
        while !is_refused(&commands(&mut core, &format!("s{waiting}"), bad(ids.clone()), 1)) {
            waiting += 1;
            assert!(waiting < 20, "4 MB each");
        }
        assert_eq!(waiting, MAX_BYTES / 4_000_000);
    }

    #[test]
    fn requests_that_wait_hold_no_more_models_than_may_run() {
        let mut core = core();
        let mut waiting = 0;
        while !is_refused(&commands(&mut core, &format!("s{waiting}"), good(&format!("s{waiting}"), MAX_MODELS / 4), 1)) {
            waiting += 1;
            assert!(waiting < 6);
        }
        assert_eq!(waiting, 4);
    }

    #[test]
    fn a_bad_request_that_comes_again_while_it_waits_is_one() {
        let mut core = core();
        let models = || vec![TopicSegment::new("Wärmepumpe").unwrap()];
        assert_eq!(commands(&mut core, "s", bad(models()), 1), []);
        let first = Command::Acknowledge(Delivery { connection: 1, packet_id: 1 });
        assert_eq!(commands(&mut core, "s", bad(models()), 2), [first]);
        assert_eq!(core.held_requests.len(), 1);
        assert_eq!(commands(&mut core, "s", bad(Vec::new()), 3), [], "another one");
        assert_eq!(commands(&mut core, "another", bad(models()), 4), [], "for another simulation");
        assert_eq!(core.held_requests.len(), 3);
    }
}
