//! Requests, and the creates that they ask for: what is new is created, what is there is left, what is refused is told.

use std::collections::btree_map::Entry;
use std::sync::Arc;
use std::time::{Duration, Instant};

use log::Level;

use super::Orchestrator;
use super::deadline::Deadline;
use super::event::{Answer, BadRequest, Body, DeployRequest, PodCall};
use super::pod_state::Verdict;
use super::refusal::{Remedy, refusal};
use super::simulation::{Creation, Model, Simulation};
use crate::clock::Now;
use crate::ids::{ModelId, PodName, SimulationId, TopicSegment, Uid};
use crate::kube::error::Error;
use crate::kube::pod::{NewPod, Pod};

/// Models of all simulations that run. One is about 2 kB with its variables; upstream aims at 400 in a simulation.
const MAX_MODELS: usize = 100_000;
/// A persistent session delivers again what was not acknowledged, right after it is resumed.
const REDELIVERY: Duration = Duration::from_secs(10);
/// An old pod has its grace, 30 s by default, and then the kubelet some time to say that it is gone.
const NAME_IS_FREE_AFTER: Duration = Duration::from_secs(90);
const TERMINATING_POLL: Duration = Duration::from_secs(5);
/// After a pod's grace it should be gone.
const TERMINATING_LIMIT_SECONDS: f64 = 60.0;
/// How many models a log line names.
const MODELS_NAMED: usize = 50;

impl Orchestrator {
    /// A good request: for a new run, or for more models of one that runs.
    pub(super) fn deploy(&mut self, request: DeployRequest, now: Now) {
        let id = request.simulation.clone();
        if self.is_redelivery(&request, now.instant) {
            return self.say(
                Level::Warn,
                format!("DeployModels for simulation {id}, which has ended, came again after a reconnect: not run again."),
            );
        }
        let running: usize = self.simulations.values().map(|simulation| simulation.models.len()).sum();
        if running + request.models.len() > MAX_MODELS {
            let problem =
                format!("modelConfigurations has {} models: with those that run that is more than {MAX_MODELS}", request.models.len());
            let models = request.models.iter().map(|configuration| TopicSegment::from(&configuration.model)).collect();
            return self.refuse(&TopicSegment::from(&id), &BadRequest { problem, models });
        }
        let is_new = !self.simulations.contains_key(&id);
        if is_new && request.models.is_empty() {
            self.say(Level::Warn, format!("DeployModels for simulation {id} names no models."));
            self.say(Level::Info, format!("All models for simulation {id} have terminated. Send out AllModelsHaveTerminated."));
            self.publish(TopicSegment::from(&id), Body::AllModelsHaveTerminated);
            return;
        }
        if is_new {
            self.runs += 1;
            self.simulations.insert(id.clone(), Simulation::new(self.runs, request.keep_logs_hours));
            self.replace_pods_of_ended_run(&id);
        }
        self.add_models(request, now);
        self.touched.insert(id);
    }

    /// Nobody may wait for models that will never be.
    pub(super) fn refuse(&mut self, simulation: &TopicSegment, bad: &BadRequest) {
        let runs = SimulationId::new(simulation.as_str()).is_ok_and(|id| self.simulations.contains_key(&id));
        if runs {
            return self.say(
                Level::Error,
                format!("DeployModels for simulation {simulation} is refused, and the simulation goes on without it: {}", bad.problem),
            );
        }
        self.say(Level::Error, format!("DeployModels for simulation {simulation} is refused, and all its models fail: {}", bad.problem));
        for model in &bad.models {
            let body = Body::ModelHasTerminated { model: model.clone(), success: false, exit_code: super::pod_state::NO_EXIT_CODE };
            self.publish(simulation.clone(), body);
        }
        self.publish(simulation.clone(), Body::AllModelsHaveTerminated);
    }

    fn is_redelivery(&self, request: &DeployRequest, now: Instant) -> bool {
        let (Some(ended), Some(connected_at)) = (self.ended.get(&request.simulation), self.broker.connected_at) else { return false };
        let came_at_once = now.saturating_duration_since(connected_at) < REDELIVERY;
        came_at_once && ended.at < connected_at && ended.deploys.contains(&request.id)
    }

    fn add_models(&mut self, request: DeployRequest, now: Now) {
        let DeployRequest { id: deploy, simulator, simulation: id, models: configurations, keep_logs_hours: _ } = request;
        let Some(simulation) = self.simulations.get_mut(&id) else { return };
        let (mut added, mut unchanged, mut changed) = (Vec::new(), 0, Vec::new());
        let models = configurations.len();
        for configuration in configurations {
            let pod = NewPod {
                name: configuration.pod,
                simulator: simulator.clone(),
                simulation: id.clone(),
                model: configuration.model,
                deploy: deploy.clone(),
                models,
                keep_logs_hours: simulation.keep_logs_hours,
                image: configuration.image,
                variables: configuration.variables,
            };
            match simulation.models.entry(pod.model.clone()) {
                Entry::Occupied(model) if model.get().has_configuration_of(&pod) => unchanged += 1,
                Entry::Occupied(model) => changed.push(model.key().clone()),
                Entry::Vacant(place) => {
                    added.push(pod.model.clone());
                    place.insert(Model::new(Arc::new(pod), now.instant));
                }
            }
        }
        simulation.deploys.insert(deploy);
        if !added.is_empty() {
            self.say(Level::Info, format!("Adding models {} for simulation {id} to inventory", named(&added)));
        }
        if unchanged > 0 {
            self.say(
                Level::Info,
                format!("DeployModels for simulation {id}, which runs, came again: {unchanged} of its models are unchanged."),
            );
        }
        if !changed.is_empty() {
            let models = named(&changed);
            self.say(Level::Warn, format!("DeployModels for simulation {id}, which runs, changes models that stay as they are: {models}"));
        }
        for model in added {
            if self.readies.remove(&(id.clone(), model.clone())) {
                self.on_ready(id.clone(), model.clone(), now);
            }
            self.begin_create(&id, &model, now);
        }
    }

    fn begin_create(&mut self, id: &SimulationId, model_id: &ModelId, now: Now) {
        let Some(model) = self.simulations.get_mut(id).and_then(|simulation| simulation.models.get_mut(model_id)) else { return };
        if self.pods.get(&model.pod.name).is_some_and(|known| known.replaced) {
            model.creation = Creation::WaitsForName;
            let deadline = Deadline::NameIsFree { simulation: id.clone(), model: model_id.clone() };
            self.deadlines.set(now.instant + NAME_IS_FREE_AFTER, deadline);
        } else {
            model.creation = Creation::Due;
            self.calls.push(PodCall::Create(model.pod.clone()), 0);
        }
    }

    /// The old pod is gone, or should be: the API server knows.
    pub(super) fn create_when_name_is_free(&mut self, id: &SimulationId, model_id: &ModelId) {
        let model = self.simulations.get_mut(id).and_then(|simulation| simulation.models.get_mut(model_id));
        let Some(model) = model.filter(|model| model.creation == Creation::WaitsForName) else { return };
        model.creation = Creation::Due;
        self.calls.push(PodCall::Create(model.pod.clone()), 0);
    }

    /// A create that was decided on may have lost its sense while it waited.
    pub(super) fn is_wanted(&self, call: &PodCall, now: Now) -> bool {
        match call {
            PodCall::Create(pod) => {
                self.model_of(pod).is_some_and(|model| model.creation == Creation::Due && model.uid.is_none() && model.verdict.is_none())
            }
            PodCall::Get { simulation, model, .. } => {
                let model = self.simulations.get(simulation).and_then(|running| running.models.get(model));
                model.is_some_and(|model| model.verdict.is_none())
            }
            PodCall::SetDeleteBy { name, uid, .. } | PodCall::Stop { name, uid } => {
                self.pods.get(name).is_some_and(|known| known.uid == *uid)
            }
            PodCall::Delete { name, uid } => self.is_to_be_deleted(name, uid, now),
            PodCall::ReadLog { .. } => true,
        }
    }

    pub(super) fn say_call(&mut self, call: &PodCall, attempt: u32) {
        match call {
            PodCall::Create(pod) if attempt == 0 => self.say(Level::Info, format!("Deploying pod {}", pod.name)),
            PodCall::Delete { name, .. } if attempt == 0 => self.say(Level::Info, format!("Deleting pod {name}")),
            PodCall::Create(_)
            | PodCall::Get { .. }
            | PodCall::SetDeleteBy { .. }
            | PodCall::Stop { .. }
            | PodCall::Delete { .. }
            | PodCall::ReadLog { .. } => {}
        }
    }

    pub(super) fn on_created(&mut self, pod: Arc<NewPod>, attempt: u32, result: Result<Answer, Error>, now: Now) {
        match result {
            Ok(answer) => {
                if self.calls.only_creates.end() {
                    self.say(Level::Info, "Pods can be created again.".to_owned());
                }
                if let Some(model) = self.model_of_mut(&pod) {
                    model.creation = Creation::Done;
                    self.say(Level::Info, format!("Successfully deployed model {} for simulation {}", pod.model, pod.simulation));
                }
                if let Answer::Pod(created) = answer
                    && !self.was_seen(&pod, &created)
                {
                    self.observe(&created, now);
                }
            }
            Err(error) => self.on_create_failed(&pod, attempt, &error, now),
        }
    }

    /// The watch was faster than the answer, and may have told more since.
    fn was_seen(&self, pod: &NewPod, created: &Pod) -> bool {
        self.model_of(pod).is_some_and(|model| model.uid.as_ref().is_some_and(|uid| uid.as_str() == created.metadata.uid))
    }

    fn on_create_failed(&mut self, pod: &Arc<NewPod>, attempt: u32, error: &Error, now: Now) {
        let refusal = refusal(error);
        if let Remedy::HoldAll(pause) | Remedy::HoldCreates(pause) = &refusal.remedy {
            self.give_up_overdue(refusal.reason, &refusal.message, pause.limit, now);
        }
        let Some(model) = self.model_of_mut(pod) else { return };
        if model.uid.is_some() || model.verdict.is_some() || model.creation != Creation::Due {
            return;
        }
        match refusal.remedy {
            Remedy::AskWhoHasTheName => {
                model.creation = Creation::NameTaken;
                self.ask(pod);
            }
            Remedy::GiveUp => {
                model.creation = Creation::Refused(Verdict::failed_without_code(refusal.reason, &refusal.message));
                self.ask(pod);
            }
            Remedy::Again(_) | Remedy::HoldAll(_) | Remedy::HoldCreates(_) => {
                self.call_again(PodCall::Create(pod.clone()), attempt, error, now)
            }
        }
    }

    /// A time limit is the namespace's or the API's, not a model's: it ends every create that still waits for the same.
    pub(super) fn give_up_overdue(&mut self, reason: &str, message: &str, limit: Option<Duration>, now: Now) {
        let Some(limit) = limit else { return };
        let verdict = Verdict::failed_without_code(reason, message);
        let is_overdue = |model: &&Model| {
            let waits = model.creation == Creation::Due && model.uid.is_none() && model.verdict.is_none();
            waits && now.instant.saturating_duration_since(model.asked_at) >= limit
        };
        let overdue: Vec<Arc<NewPod>> = (self.simulations.values())
            .flat_map(|simulation| simulation.models.values())
            .filter(is_overdue)
            .map(|model| model.pod.clone())
            .collect();
        // Where the API itself is away there is nobody to ask; a pod that is there after all is stopped when it shows.
        let can_ask = self.api.listed && self.api.away_since.is_none();
        for pod in overdue {
            if can_ask {
                if let Some(model) = self.model_of_mut(&pod) {
                    model.creation = Creation::Refused(verdict.clone());
                }
                self.ask(&pod);
            } else {
                self.conclude(&pod.simulation, &pod.model, verdict.clone());
            }
        }
    }

    fn ask(&mut self, pod: &NewPod) {
        let call = PodCall::Get { name: pod.name.clone(), simulation: pod.simulation.clone(), model: pod.model.clone() };
        self.calls.push(call, 0);
    }

    pub(super) fn on_got(
        &mut self,
        name: PodName,
        id: SimulationId,
        model_id: ModelId,
        attempt: u32,
        result: Result<Answer, Error>,
        now: Now,
    ) {
        match result {
            Ok(Answer::Pod(pod)) => {
                self.observe(&pod, now);
                self.judge_name(&name, &id, &model_id, &pod, now);
            }
            Ok(Answer::Log(_) | Answer::Done) => {}
            Err(error) if error.is_not_found() => self.on_name_is_free(&name, &id, &model_id),
            Err(error) => {
                let refused = match self.model_mut(&id, &model_id).map(|model| &model.creation) {
                    Some(Creation::Refused(verdict)) => Some(verdict.clone()),
                    _ => None,
                };
                match refused {
                    Some(verdict) => self.conclude(&id, &model_id, verdict),
                    None => self.call_again(PodCall::Get { name, simulation: id, model: model_id }, attempt, &error, now),
                }
            }
        }
    }

    /// Nobody has the name: our pod is gone, or was never there.
    fn on_name_is_free(&mut self, name: &PodName, id: &SimulationId, model_id: &ModelId) {
        let Some(model) = self.model_mut(id, model_id) else { return };
        match (&model.uid, &model.creation) {
            (Some(_), _) => {
                let verdict = Verdict::failed_without_code("PodDeleted", "the pod was deleted, and not by this service");
                self.on_vanished(name);
                self.conclude(id, model_id, verdict);
            }
            (None, Creation::Refused(verdict)) => {
                let verdict = verdict.clone();
                self.conclude(id, model_id, verdict);
            }
            (None, _) => {
                model.creation = Creation::WaitsForName;
                self.create_when_name_is_free(id, model_id);
            }
        }
    }

    /// Rows 2 to 4, and 48: somebody has the name of this model's pod, and it was seen.
    fn judge_name(&mut self, name: &PodName, id: &SimulationId, model_id: &ModelId, pod: &Pod, now: Now) {
        let server_time = self.server_time(now);
        let is_replaced = self.pods.get(name).is_some_and(|known| known.replaced);
        let goes = pod.metadata.deletion_timestamp.map(|at| at.0);
        let Some(model) = self.model_mut(id, model_id).filter(|model| model.verdict.is_none()) else { return };
        let uid_there = Uid::new(&pod.metadata.uid).ok();
        let taken = match &model.uid {
            Some(ours) if Some(ours) == uid_there.as_ref() => {
                model.creation = Creation::Done;
                return;
            }
            Some(ours) => {
                let message = format!("the pod was {ours}, and now one with uid {} has its name", pod.metadata.uid);
                return self.conclude(id, model_id, Verdict::failed_without_code("PodReplaced", &message));
            }
            None => model.creation.clone(),
        };
        let patience = goes.is_none_or(|at| server_time.seconds_since(at) < TERMINATING_LIMIT_SECONDS);
        match taken {
            Creation::Refused(verdict) => self.conclude(id, model_id, verdict),
            _ if (goes.is_some() || is_replaced) && patience => {
                let Some(model) = self.model_mut(id, model_id) else { return };
                model.creation = Creation::WaitsForName;
                let deadline = Deadline::NameIsFree { simulation: id.clone(), model: model_id.clone() };
                self.deadlines.set(now.instant + TERMINATING_POLL, deadline);
            }
            _ => {
                let labels = &pod.metadata.labels;
                let whose = |label: &Option<String>| label.clone().unwrap_or_default();
                let state = if goes.is_some() { "there already, and does not end" } else { "there already" };
                let (model, simulation) = (whose(&labels.model_id), whose(&labels.simulation_id));
                let message = format!("a pod named {name} is {state}, for model {model:?} of simulation {simulation:?}");
                self.conclude(id, model_id, Verdict::failed_without_code("NameConflict", &message));
            }
        }
    }

    /// The model that this pod was made for, in the run that asked for it.
    fn model_of(&self, pod: &NewPod) -> Option<&Model> {
        let model = self.simulations.get(&pod.simulation)?.models.get(&pod.model)?;
        (model.pod.deploy == pod.deploy).then_some(model)
    }

    fn model_of_mut(&mut self, pod: &NewPod) -> Option<&mut Model> {
        let model = self.simulations.get_mut(&pod.simulation)?.models.get_mut(&pod.model)?;
        (model.pod.deploy == pod.deploy).then_some(model)
    }

    pub(super) fn model_mut(&mut self, id: &SimulationId, model: &ModelId) -> Option<&mut Model> {
        self.simulations.get_mut(id)?.models.get_mut(model)
    }
}

fn named(models: &[ModelId]) -> String {
    let shown: Vec<&str> = models.iter().take(MODELS_NAMED).map(ModelId::as_str).collect();
    match models.len() - shown.len() {
        0 => format!("[{}]", shown.join(", ")),
        more => format!("[{}, … and {more} more]", shown.join(", ")),
    }
}
