//! What is told, when, and what follows from the broker's acknowledgement of it. Also when we acknowledge what was told to us.

use std::time::Duration;

use log::Level;

use super::deadline::Deadline;
use super::deploy::{FEW_MODELS, named};
use super::event::{Body, Command, Delivery, Message, MessageId};
use super::pending::Pending;
use super::pod_state::Verdict;
use super::simulation::{Announced, Model, Reported, Simulation};
use super::words::{self, Failure};
use super::{Orchestrator, Tell};
use crate::clock::Now;
use crate::ids::{ModelId, SimulationId, TopicSegment};

/// What a model says before it ends is on its way for less.
const READY_AFTER_END: Duration = Duration::from_secs(10);

/// What a message told.
#[derive(Clone, Debug)]
pub(super) enum Told {
    ModelsReady,
    End(ModelId),
    Error,
    EndOfAll,
}

impl Orchestrator {
    pub(super) fn on_published(&mut self, id: MessageId, now: Now) {
        self.acknowledge_what_was_told(id);
        if self.on_blind_published(id) {
            return;
        }
        let Some((id, run, told)) = self.unacknowledged.remove(&id) else { return };
        if let Some(simulation) = self.simulations.get_mut(&id).filter(|simulation| simulation.run == run) {
            simulation.unacknowledged -= 1;
            self.touched.insert(id.clone());
            match told {
                Told::ModelsReady => {
                    simulation.models_ready = Announced::Acknowledged;
                    self.fact_waited_for(&id);
                }
                Told::End(model) => {
                    simulation.set_told(&model);
                    self.fact(&id);
                }
                Told::Error => {
                    simulation.error = Reported::Acknowledged;
                    self.fact(&id);
                }
                Told::EndOfAll => {}
            }
        } else if self.ended.get(&id).is_some_and(|ended| ended.run == run) {
            self.on_end_told(&id, now);
        }
    }

    /// `ModelsReady` waits again, for the broker and for its receiver.
    pub(super) fn on_unsent(&mut self, message: MessageId) {
        if let Some(id) = self.take_back(message) {
            self.send_models_ready_later(&id);
        }
    }

    /// As after a kill in that moment.
    pub(super) fn on_doubtful(&mut self, message: MessageId) {
        if let Some(id) = self.take_back(message) {
            let why = "the broker lost our session while we sent ModelsReady, and a second one would reset it";
            self.fail_running(&id, "BrokerLostSession", why);
        }
    }

    /// Its acknowledgement is not awaited any more: the simulation that it was about, where that run goes on.
    fn take_back(&mut self, message: MessageId) -> Option<SimulationId> {
        let (id, run, _) = self.unacknowledged.remove(&message)?;
        let simulation = self.simulations.get_mut(&id).filter(|simulation| simulation.run == run)?;
        simulation.unacknowledged -= 1;
        self.touched.insert(id.clone());
        Some(id)
    }

    /// Whether `ModelsReady` went out is not known: those that have not ended by themselves fail.
    pub(super) fn fail_running(&mut self, id: &SimulationId, reason: &str, why: &str) {
        let Some(simulation) = self.simulations.get_mut(id) else { return };
        simulation.models_ready = Announced::GivenUp;
        let running = simulation.models.values_mut().filter(|model| model.verdict.is_none());
        let running = running.map(|model| {
            model.ended_by_us = true;
            model.pod.model.clone()
        });
        let running: Vec<ModelId> = running.collect();
        if !running.is_empty() {
            self.say(Level::Error, format!("Simulation {id} fails: {why}."));
        }
        for model in running {
            self.conclude(id, &model, Verdict::failed_without_code(reason, why), Tell::WhenRecorded);
        }
    }

    /// A second one would reset a running simulation: that it is being sent is recorded before it goes out.
    pub(super) fn settle_models_ready(&mut self, id: &SimulationId, now: Now) {
        if !self.simulations.get(id).is_some_and(Simulation::models_ready_is_due) {
            return;
        }
        if !self.may_be_heard(id, now) {
            return self.send_models_ready_later(id);
        }
        let Some(simulation) = self.simulations.get(id) else { return };
        let revision = match simulation.models_ready {
            Announced::WhenRecorded(revision) => revision,
            _ => self.fact_waited_for(id),
        };
        let is_recorded = self.is_recorded(id, revision);
        let Some(simulation) = self.simulations.get_mut(id) else { return };
        simulation.models_ready = if is_recorded { Announced::Published } else { Announced::WhenRecorded(revision) };
        if !is_recorded {
            return;
        }
        self.say(Level::Info, format!("All models in simulation {id} are running. Send out ModelsReady."));
        self.announce(id, Body::ModelsReady, Told::ModelsReady);
    }

    /// By an SO with a clean session; else this simulation is settled again when it may.
    fn may_be_heard(&mut self, id: &SimulationId, now: Now) -> bool {
        let subscribers_at = self.broker.subscribers_at.filter(|&at| now.instant < at);
        if let Some(at) = subscribers_at {
            self.deadlines.set(at, Deadline::SubscribersAreBack(id.clone()));
        }
        self.broker.connected_at.is_some() && subscribers_at.is_none()
    }

    /// Meanwhile the record is not to say that it is being sent.
    fn send_models_ready_later(&mut self, id: &SimulationId) {
        let Some(simulation) = self.simulations.get_mut(id) else { return };
        if simulation.models_ready != Announced::No {
            simulation.models_ready = Announced::No;
            self.fact(id);
        }
    }

    /// Ends that stand nowhere but in the record, once they stand there. None overtakes a `ModelsReady`, which takes an answer more.
    pub(super) fn tell_what_is_recorded(&mut self, id: &SimulationId) {
        let Some(simulation) = self.simulations.get(id).filter(|simulation| simulation.models_ready != Announced::Published) else {
            return;
        };
        let may_be_found = |model: &ModelId| {
            let deploy = simulation.models.get(model).map(|model| &model.pod.deploy);
            self.records.get(id).zip(deploy).is_some_and(|(kept, deploy)| kept.may_be_found(deploy))
        };
        let is_awaited = |model: &ModelId| simulation.untold_until_forgotten.contains(model) && may_be_found(model);
        let recorded = simulation.untold.iter().filter(|(_, revision)| self.is_recorded(id, **revision));
        let models: Vec<ModelId> = recorded.map(|(model, _)| model.clone()).filter(|model| !is_awaited(model)).collect();
        for model in models {
            self.tell_end(id, &model);
        }
    }

    fn tell_end(&mut self, id: &SimulationId, model_id: &ModelId) {
        let Some(simulation) = self.simulations.get_mut(id) else { return };
        simulation.untold.remove(model_id);
        simulation.untold_until_forgotten.remove(model_id);
        let Some(simulation) = self.simulations.get(id) else { return };
        let Some((model, mut verdict)) = simulation.models.get(model_id).and_then(|model| Some((model, model.verdict.clone()?))) else {
            return;
        };
        if !verdict.success {
            verdict.message = self.failure(id, model, &verdict).message;
        }
        self.touched_pods.insert(model.pod.name.clone());
        self.say(Level::Info, format!("Model {id}/{model_id} has terminated. Send out ModelHasTerminated."));
        self.announce(id, Body::ModelHasTerminated { model: model_id.into(), verdict }, Told::End(model_id.clone()));
    }

    /// Its end may be seen before what it said.
    pub(super) fn watch_unready_ends(&mut self, id: &SimulationId, now: Now) {
        let Some(simulation) = self.simulations.get_mut(id).filter(|simulation| !simulation.unready_end_is_certain) else { return };
        if simulation.has_ended() || simulation.is_done() || simulation.unready_ends().next().is_none() {
            simulation.unready_end_since = None;
            return;
        }
        let certain_at = *simulation.unready_end_since.get_or_insert(now.instant) + READY_AFTER_END;
        if now.instant < certain_at {
            return self.deadlines.set(certain_at, Deadline::UnreadyEndIsCertain(id.clone()));
        }
        simulation.unready_end_is_certain = true;
        let models: Vec<ModelId> = simulation.unready_ends().map(|model| model.pod.model.clone()).collect();
        let names = named(&models, FEW_MODELS);
        self.say(
            Level::Warn,
            format!("Models {names} of simulation {id} ended well and never said that they are ready: no ModelsReady goes out."),
        );
    }

    /// All that has failed by now, in one message; and what its models wait for. An SO that is not there would wait for ever; and while
    /// we are away, it may have ended the simulation itself.
    pub(super) fn report_error(&mut self, id: &SimulationId, now: Now) {
        if !self.simulations.get(id).is_some_and(|simulation| simulation.error_is_due(self.report_errors)) || !self.may_be_heard(id, now) {
            return;
        }
        let Some(simulation) = self.simulations.get(id) else { return };
        let failures: Vec<Failure<'_>> = simulation.failures().map(|(model, verdict)| self.failure(id, model, verdict)).collect();
        let waits = simulation.models.iter().filter_map(|(model, known)| Some((model, known.pending.as_ref().and_then(Pending::said)?)));
        let unready: Vec<ModelId> = simulation.unready_ends().map(|model| model.pod.model.clone()).collect();
        let message = words::error(id, &failures, &unready, waits);
        let Some(model) = failures.first().map(|failure| failure.model.pod.model.clone()).or_else(|| unready.first().cloned()) else {
            return;
        };
        if let Some(simulation) = self.simulations.get_mut(id) {
            simulation.error = Reported::Published;
        }
        self.say(Level::Info, format!("Simulation {id} fails. Send out ErrorOccurred."));
        self.announce(id, Body::ErrorOccurred { model: TopicSegment::from(&model), message }, Told::Error);
    }

    /// Who reads it at the SO knows neither pods nor nodes.
    fn failure<'a>(&'a self, id: &SimulationId, model: &'a Model, verdict: &'a Verdict) -> Failure<'a> {
        let known = self.pods.get(&model.pod.name).filter(|known| model.uid.as_ref() == Some(&known.uid));
        let (pod, node) = known.map_or(("", ""), |known| (known.name.as_str(), known.node.as_str()));
        Failure { model, node, verdict, message: words::failure(&format!("{id}/{}", model.pod.model), pod, node, verdict) }
    }

    /// Publishes for a simulation that runs; the broker's acknowledgement is awaited.
    pub(super) fn announce(&mut self, id: &SimulationId, body: Body, told: Told) {
        let Some(simulation) = self.simulations.get_mut(id) else { return };
        simulation.unacknowledged += 1;
        let run = simulation.run;
        let message = self.publish(TopicSegment::from(id), body);
        self.unacknowledged.insert(message, (id.clone(), run, told));
    }

    pub(super) fn publish(&mut self, simulation: TopicSegment, body: Body) -> MessageId {
        self.messages += 1;
        self.commands.push_back(Command::Publish(Message { id: self.messages, simulation, body }));
        self.messages
    }

    /// A restart must not need it any more. Before the first list nobody knows what there is to record of it.
    pub(super) fn acknowledge_later(&mut self, id: &SimulationId, delivery: Delivery) {
        let revision = (self.api.lists > 0).then(|| self.want_recorded(id));
        self.deliveries.push((id.clone(), revision, delivery));
    }

    /// Now it is known what there is to record of what came before the first list.
    pub(super) fn acknowledge_what_came_before(&mut self) {
        for (id, _, delivery) in std::mem::take(&mut self.deliveries) {
            self.acknowledge_later(&id, delivery);
        }
    }

    /// In the order in which the broker sent it: killed in between, we get what came last again, and not a request without what ended it.
    pub(super) fn acknowledge_what_is_recorded(&mut self) {
        let mut recorded = Vec::new();
        for (id, revision, delivery) in std::mem::take(&mut self.deliveries) {
            match revision {
                Some(revision) if self.is_recorded(&id, revision) && self.is_whole_or_told(&id) => recorded.push(delivery),
                revision => self.deliveries.push((id, revision, delivery)),
            }
        }
        recorded.sort_by_key(|delivery| delivery.packet_id);
        self.commands.extend(recorded.into_iter().map(Command::Acknowledge));
    }

    /// Without a record a restart knows of it by its pods alone: one is there, or none is waited for any more.
    fn is_told_of_by_a_pod(&self, id: &SimulationId) -> bool {
        self.simulations.get(id).is_none_or(|simulation| !simulation.models.values().all(Model::waits_for_pod))
    }

    /// Its requests are in the cluster; of those that never will be, the broker has all that is told.
    fn is_whole_or_told(&self, id: &SimulationId) -> bool {
        let Some(kept) = self.records.get(id) else { return self.is_told_of_by_a_pod(id) };
        let is_told = match self.simulations.get(id) {
            Some(simulation) => simulation.is_all_told(),
            None => self.ended.get(id).is_none_or(|ended| ended.told),
        };
        kept.has_all_pieces() && (kept.given_up.is_empty() || is_told)
    }
}
