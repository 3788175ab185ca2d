//! Requests, and the creates that they ask for: what is new is created, what is there is left, what is refused is told.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::sync::Arc;
use std::time::{Duration, Instant};

use log::Level;

use super::announce::Told;
use super::deadline::Deadline;
use super::event::{Answer, BadRequest, Body, DeployRequest, MessageId, PodCall, Question, Verb};
use super::held::{Arrival, addressable_models};
use super::pod_state::Verdict;
use super::refusal::{Refusal, Remedy, refusal};
use super::retention::Ended;
use super::simulation::{Creation, Model, Simulation, remember_deploys};
use super::{DOUBT, Orchestrator, Tell, words};
use crate::clock::Now;
use crate::config::ReportErrors;
use crate::ids::{DeployId, ModelId, PodName, RecordName, Shown, SimulationId, TopicSegment, Uid};
use crate::kube::error::Error;
use crate::kube::pod::{NewPod, Pod};
use crate::kube::record::Found;

/// Of all simulations that run; upstream aims at 400 in one.
pub(super) const MAX_MODELS: usize = 100_000;
/// Of what requests hold, of all simulations that run. 10 000 models as planned for are 6 MB. The memory limit in k8s/ goes with it.
pub(super) const MAX_BYTES: usize = 64 * 1024 * 1024;
/// Of one simulation, those that add models: each has a place in its record, which is written with each change.
const MAX_REQUESTS: usize = 100;
/// Why a request is refused that would be more than we hold.
pub(super) const TOO_MUCH: &str = "TooManyModels";
/// A persistent session delivers again what was not acknowledged, right after it is resumed.
pub(super) const REDELIVERY: Duration = Duration::from_secs(10);
/// Stands in the topic of an `ErrorOccurred` where no model of it is known. The SO in use takes it for one that it does not know.
const NO_MODEL: &str = "mso";
/// An old pod has its grace, 30 s by default, and then the kubelet some time to say that it is gone.
pub(super) const NAME_IS_FREE_AFTER: Duration = Duration::from_secs(90);
const TERMINATING_POLL: Duration = Duration::from_secs(5);
/// After a pod's grace it should be gone.
const TERMINATING_LIMIT_SECONDS: f64 = 60.0;
/// A right to delete may be given in time.
const REPLACED_LIMIT: Duration = Duration::from_secs(5 * 60);
/// With the pauses between them, some two minutes: a Role may be mended.
const QUESTION_ATTEMPTS: u32 = 7;
/// What an answer is behind, a cache of the API server's, say, is soon there.
const OLD_ANSWER_AGAIN: Duration = Duration::from_secs(1);
/// How many models a log line names.
const MODELS_NAMED: usize = 50;

impl Orchestrator {
    /// A good request: for a new run, or for more models of one that runs. Where it begins nothing, what tells the end of its simulation.
    pub(super) fn deploy(&mut self, request: DeployRequest, came: Arrival, now: Now) -> Option<MessageId> {
        let id = request.simulation.clone();
        if self.is_redelivery(&request, came) {
            let text = format!("DeployModels for simulation {id}, which has ended, came again after a reconnect: not run again.");
            self.say(Level::Warn, text);
            return None;
        }
        let too_much = self.size_problem(&request).map(|problem| (TOO_MUCH, problem));
        if let Some((reason, problem)) = too_much.or_else(|| Some(("RecordNotRead", self.unread_problem(&id)?))) {
            let bad = BadRequest { reason: reason.to_owned(), problem, models: addressable_models(Ok(request)) };
            return self.refuse(&TopicSegment::from(&id), &bad, now);
        }
        let is_new = !self.simulations.contains_key(&id);
        if is_new && request.models.is_empty() {
            self.say(Level::Warn, format!("DeployModels for simulation {id} names no models."));
            self.say(Level::Info, format!("All models for simulation {id} have terminated. Send out AllModelsHaveTerminated."));
            return Some(self.publish(TopicSegment::from(&id), Body::AllModelsHaveTerminated));
        }
        if is_new {
            // Of its last run, at the latest now, nothing is waited for any more.
            self.deadlines.cancel(&Deadline::RequestIsLost(id.clone()));
            self.runs += 1;
            self.simulations.insert(id.clone(), Simulation::new(self.runs, request.keep_logs_hours, came.at));
            self.replace_pods_of_ended_run(&id);
        }
        let simulation = self.simulations.get_mut(&id)?;
        simulation.lost.retain(|lost| *lost != request.id);
        if simulation.is_added_to_by(&request) {
            self.record_request(&request, now);
        } else if !simulation.deploys.contains(&request.id) && !simulation.repeats.contains(&request.id) {
            // To record what it asks for would make nothing of it, and whoever repeats a request would fill the cluster.
            remember_deploys(&mut simulation.repeats, [request.id.clone()]);
            self.fact_waited_for(&id);
        }
        self.add_models(request, now);
        self.fail_behind_unrecorded(&id);
        self.mark_what_is_done(&id, came.at, now);
        self.await_done(&id, now);
        self.touched.insert(id);
        None
    }

    /// Pods are made of what a restart would find.
    pub(super) fn create_what_is_recorded(&mut self, id: &SimulationId, now: Now) {
        let Some(simulation) = self.simulations.get(id) else { return };
        let is_recorded = |deploy: &&DeployId| self.is_request_recorded(id, deploy);
        let recorded: Vec<DeployId> = simulation.unrecorded.iter().filter(is_recorded).cloned().collect();
        if recorded.is_empty() {
            return;
        }
        let is_due = |model: &&Model| model.creation == Creation::WaitsForRecord && recorded.contains(&model.pod.deploy);
        let mut due: Vec<(usize, ModelId)> =
            simulation.models.values().filter(is_due).map(|model| (model.pod.number, model.pod.model.clone())).collect();
        due.sort();
        if let Some(simulation) = self.simulations.get_mut(id) {
            simulation.unrecorded.retain(|deploy| !recorded.contains(deploy));
        }
        for (_, model) in due {
            self.begin_create(id, &model, now);
        }
    }

    /// Together with what runs it would be more than we hold.
    fn size_problem(&self, request: &DeployRequest) -> Option<String> {
        let adds_to = self.simulations.get(&request.simulation).filter(|simulation| simulation.is_added_to_by(request));
        if adds_to.is_some_and(|simulation| simulation.deploys.len() >= MAX_REQUESTS) {
            return Some(format!(
                "simulation: it has {MAX_REQUESTS} requests that added models, which is the most: put its models in fewer"
            ));
        }
        let models = request.models.len() + self.simulations.values().map(|simulation| simulation.models.len()).sum::<usize>();
        let bytes = request.bytes() + self.simulations.values().map(|simulation| simulation.bytes).sum::<usize>();
        if models > MAX_MODELS {
            Some(format!("modelConfigurations: with those that run it would be {models} models, and {MAX_MODELS} is the most"))
        } else {
            (bytes > MAX_BYTES)
                .then(|| format!("modelConfigurations: with those that run it would be {bytes} bytes, and {MAX_BYTES} is the most"))
        }
    }

    /// It may have a record that was not read: whether it runs is not known, nor when it ended.
    pub(super) fn unread_problem(&self, id: &SimulationId) -> Option<String> {
        let Found { unusable, left_out_from, .. } = &self.found;
        if (unusable.is_empty() && left_out_from.is_none()) || self.simulations.contains_key(id) {
            return None;
        }
        let name = RecordName::of_progress(&self.simulator, id);
        let is_of_it = |other: &str| other.starts_with(name.as_str());
        if let Some(other) = unusable.iter().find(|other| is_of_it(other)) {
            return Some(format!("simulation: its ConfigMap {other} is none that this version can use: delete it, and restart"));
        }
        // The first one may be a piece.
        let from = left_out_from.as_ref().filter(|from| **from <= name || is_of_it(from.as_str()))?;
        Some(format!(
            "simulation: ConfigMaps from {from} on were too many to be read at start, and {name} may be one: delete old ones, and restart"
        ))
    }

    /// Nobody may wait for models that will never be. The last message that says so, where any does.
    pub(super) fn refuse(&mut self, simulation: &TopicSegment, bad: &BadRequest, now: Now) -> Option<MessageId> {
        let shown = Shown::of(simulation.as_str());
        let last_run = SimulationId::new(simulation.as_str()).ok().and_then(|id| self.simulations.get(&id));
        if last_run.is_some_and(|running| !running.is_done()) {
            let text = format!("DeployModels for simulation {shown} is refused, and the simulation goes on without it: {}", bad.problem);
            self.say(Level::Error, text);
            return None;
        }
        // Of its own models the last run has yet to tell.
        let is_of_last_run = |model: &TopicSegment| {
            let model = ModelId::new(model.as_str());
            model.is_ok_and(|model| last_run.is_some_and(|last| last.models.contains_key(&model)))
        };
        let models: Vec<&TopicSegment> = bad.models.iter().filter(|model| !is_of_last_run(model)).collect();
        let has_ended = last_run.is_none();
        self.say(Level::Error, format!("DeployModels for simulation {shown} is refused, and all its models fail: {}", bad.problem));
        let mut told = BTreeMap::new();
        for model in models {
            let mut verdict = Verdict::failed_without_code(&bad.reason, &bad.problem);
            verdict.message = words::failure(&format!("{simulation}/{model}"), "", "", &verdict);
            let body = Body::ModelHasTerminated { model: model.clone(), verdict };
            let message = self.publish(simulation.clone(), body);
            told.extend(ModelId::new(model.as_str()).ok().map(|model| (message, Told::End(model))));
        }
        if self.report_errors != ReportErrors::Never && !self.is_said_to_be_done(simulation) {
            let message = format!("Simulation {simulation} fails: its DeployModels is refused: {}", bad.problem);
            let no_model = || TopicSegment::new(NO_MODEL).expect("it has none of a topic's own characters");
            let model = bad.models.first().cloned().unwrap_or_else(no_model);
            told.insert(self.publish(simulation.clone(), Body::ErrorOccurred { model, message }), Told::Error);
        }
        if !has_ended {
            return told.keys().next_back().copied();
        }
        let end = self.publish(simulation.clone(), Body::AllModelsHaveTerminated);
        told.insert(end, Told::EndOfAll);
        if self.api.lists == 0 {
            self.remember_told_blindly(simulation, &bad.problem, told, now);
        }
        Some(end)
    }

    fn is_redelivery(&self, request: &DeployRequest, came: Arrival) -> bool {
        let is_of = |ended: &&Ended| ended.deploys.contains(&request.id) || ended.repeats.contains(&request.id);
        let Some(ended) = self.ended.get(&request.simulation).filter(is_of) else { return false };
        came.is_right_after_a_reconnect() && came.connected_at.is_none_or(|at| ended.at.is_none_or(|ended_at| ended_at < at))
    }

    pub(super) fn add_models(&mut self, request: DeployRequest, now: Now) {
        let bytes = request.bytes();
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
                number: simulation.models.len(),
                deploy: deploy.clone(),
                models,
                keep_logs_hours: simulation.keep_logs_hours,
                is_recorded: self.records.contains_key(&id),
                image: configuration.image,
                variables: configuration.variables,
            };
            match simulation.models.entry(pod.model.clone()) {
                // The same request is the same, also where its variables are not known any more.
                Entry::Occupied(model) if model.get().pod.deploy == pod.deploy || model.get().has_configuration_of(&pod) => unchanged += 1,
                Entry::Occupied(model) => changed.push(model.key().clone()),
                Entry::Vacant(place) => {
                    added.push(pod.model.clone());
                    place.insert(Model::new(Arc::new(pod), Creation::WaitsForRecord, now.instant));
                }
            }
        }
        let came_before = simulation.deploys.contains(&deploy) || simulation.repeats.contains(&deploy);
        if !came_before {
            simulation.bytes += bytes;
            simulation.deploys.push(deploy.clone());
            simulation.unrecorded.push(deploy);
        }
        // What is adopted is said in its own words.
        if !added.is_empty() && self.api.lists > 0 {
            self.say(Level::Info, format!("Adding models {} for simulation {id} to inventory", named(&added, MODELS_NAMED)));
        }
        if unchanged > 0 && self.api.lists > 0 {
            self.say(
                Level::Info,
                format!("DeployModels for simulation {id}, which runs, came again: {unchanged} of its models are unchanged."),
            );
        }
        if !changed.is_empty() {
            let models = named(&changed, MODELS_NAMED);
            self.say(Level::Warn, format!("DeployModels for simulation {id}, which runs, changes models that stay as they are: {models}"));
        }
        if came_before {
            self.fail_what_was_lost(&id, &added);
        }
        for model in added {
            if self.readies.remove(&(id.clone(), model.clone())) {
                self.on_ready(id.clone(), model.clone(), now);
            }
        }
    }

    /// An earlier process made pods of their request, and had no record of it: a pod of theirs that was not made, or is gone, was all that
    /// could tell of them.
    fn fail_what_was_lost(&mut self, id: &SimulationId, models: &[ModelId]) {
        for model in models {
            let verdict =
                Verdict::failed_without_code("ServiceRestarted", "its pod was not there when the service restarted without a record");
            self.conclude(id, model, verdict, Tell::WhenRecorded);
        }
    }

    fn begin_create(&mut self, id: &SimulationId, model_id: &ModelId, now: Now) {
        if let Some(simulation) = self.simulations.get_mut(id) {
            simulation.doubt_ready(model_id);
        }
        let Some(model) = self.model_mut(id, model_id) else { return };
        model.creation = Creation::Due;
        let pod = model.pod.clone();
        if self.pods.get(&pod.name).is_some_and(|known| known.replaced && !known.gone) {
            self.wait_for_name(id, model_id, NAME_IS_FREE_AFTER, now);
        } else {
            self.calls.push(PodCall::Create(pod), 0);
        }
    }

    pub(super) fn wait_for_name(&mut self, id: &SimulationId, model_id: &ModelId, wait: Duration, now: Now) {
        let Some(model) = self.model_mut(id, model_id) else { return };
        model.creation = Creation::WaitsForName;
        let deadline = Deadline::NameIsFree { simulation: id.clone(), model: model_id.clone() };
        self.deadlines.set(now.instant + wait, deadline);
    }

    /// The old pod is gone, or should be: the API server knows.
    pub(super) fn create_when_name_is_free(&mut self, id: &SimulationId, model_id: &ModelId) {
        let waiting = self.model_mut(id, model_id).filter(|model| model.creation == Creation::WaitsForName);
        let Some(model) = waiting else { return };
        model.creation = Creation::Due;
        let create = PodCall::Create(model.pod.clone());
        self.calls.push(create, 0);
    }

    /// A call that was decided on may have lost its sense while it waited.
    pub(super) fn is_wanted(&self, call: &PodCall, now: Now) -> bool {
        match call {
            PodCall::Create(pod) => self.model_of(pod).is_some_and(|model| model.creation == Creation::Due && model.waits_for_pod()),
            PodCall::Get(question) => self.is_open(question),
            PodCall::Label { uid, .. } | PodCall::SetDeleteBy { uid, .. } | PodCall::Mark { uid, .. } | PodCall::Stop { uid, .. } => {
                self.pods.get(call.pod()).is_some_and(|known| known.uid == *uid && !known.gone)
            }
            PodCall::Delete { name, uid } => self.is_to_be_deleted(name, uid, now),
        }
    }

    pub(super) fn note_lists_before(&mut self, call: &PodCall) {
        let lists = self.api.lists;
        if let PodCall::Create(pod) = call
            && let Some(model) = self.model_of_mut(pod)
        {
            model.lists_before = lists;
        }
    }

    pub(super) fn say_call(&mut self, call: &PodCall, attempt: u32) {
        match call {
            PodCall::Create(pod) if attempt == 0 => self.say(Level::Info, format!("Deploying pod {}", pod.name)),
            PodCall::Delete { name, .. } => {
                if self.pods.get_mut(name).is_some_and(|known| !std::mem::replace(&mut known.delete_said, true)) {
                    self.say(Level::Info, format!("Deleting pod {name}"));
                }
            }
            PodCall::Create(_)
            | PodCall::Get(_)
            | PodCall::Label { .. }
            | PodCall::SetDeleteBy { .. }
            | PodCall::Mark { .. }
            | PodCall::Stop { .. } => {}
        }
    }

    pub(super) fn on_created(&mut self, pod: &Arc<NewPod>, attempt: u32, result: Result<Answer, Error>, now: Now) {
        let error = match result {
            Ok(answer) => return self.on_create_done(pod, &answer, now),
            Err(error) => error,
        };
        let refusal = refusal(&error);
        let since = match &refusal.remedy {
            Remedy::HoldAll(_) => Some(self.calls.all.since(refusal.reason, now.instant)),
            Remedy::HoldVerb(_) => Some(self.calls.hold_of(Verb::Create).since(refusal.reason, now.instant)),
            Remedy::AskWhoHasTheName | Remedy::Again(_) | Remedy::GiveUp => None,
        };
        if let Some(since) = since {
            self.give_up_overdue(&refusal, since, now);
        }
        let Some(model) = self.model_of_mut(pod).filter(|model| model.verdict.is_none() && model.creation == Creation::Due) else { return };
        model.may_be_created |= error.may_be_done();
        if model.uid.is_some() {
            return self.on_made_before(pod);
        }
        match refusal.remedy {
            Remedy::AskWhoHasTheName => {
                model.creation = Creation::NameTaken;
                self.ask(pod);
            }
            Remedy::GiveUp => {
                model.creation = Creation::Refused(verdict(&refusal));
                self.ask(pod);
            }
            Remedy::Again(_) | Remedy::HoldAll(_) | Remedy::HoldVerb(_) => {
                self.call_again(PodCall::Create(pod.clone()), attempt, &error, now);
            }
        }
    }

    /// The watch has shown the pod of this create meanwhile, which did not make it.
    pub(super) fn on_made_before(&mut self, pod: &NewPod) {
        let is_so = |model: &&mut Model| model.creation == Creation::Due && model.uid.is_some() && model.verdict.is_none();
        let Some(model) = self.model_of_mut(pod).filter(is_so) else { return };
        model.creation = Creation::Done;
        if let Some(simulation) = self.simulations.get_mut(&pod.simulation) {
            simulation.trust_ready(&pod.model);
            self.fact(&pod.simulation);
            self.touched.insert(pod.simulation.clone());
        }
    }

    fn on_create_done(&mut self, pod: &NewPod, answer: &Answer, now: Now) {
        if let Answer::Pod(created) = answer {
            self.observe(created, now);
        }
        let lists = self.api.lists;
        let Some(model) = self.model_of_mut(pod) else { return };
        if model.uid.is_some() {
            model.creation = Creation::Done;
            let was_listed_meanwhile = model.lists_before != lists && model.verdict.is_none();
            self.say(Level::Info, format!("Successfully deployed model {} for simulation {}", pod.model, pod.simulation));
            if was_listed_meanwhile {
                // The list did not know of it, or knows that it is gone.
                self.on_missing(&pod.name);
            }
        } else if model.creation == Creation::Due && model.verdict.is_none() {
            // Made, and not ours: a webhook took our mark, or it was made for the run before this one.
            model.creation = Creation::NameTaken;
            self.ask(pod);
        }
    }

    /// What stands in the way stands in the way of every create that still waits: when its time is over they fail together.
    fn give_up_overdue(&mut self, refusal: &Refusal, since: Instant, now: Now) {
        let Some(limit) = refusal.reason.limit(&self.limits) else { return };
        let is_overdue =
            |model: &&Model| model.waits_for_pod() && now.instant.saturating_duration_since(model.asked_at.max(since)) >= limit;
        let models = self.simulations.values().flat_map(|simulation| simulation.models.values());
        let overdue: Vec<(Arc<NewPod>, Creation)> =
            models.filter(is_overdue).map(|model| (model.pod.clone(), model.creation.clone())).collect();
        // Where the API itself is away there is nobody to ask; a pod that is there after all is stopped when it shows.
        let can_ask = self.api.lists > 0 && self.api.away_since.is_none();
        for (pod, creation) in overdue {
            match creation {
                Creation::Due if can_ask => {
                    if let Some(model) = self.model_of_mut(&pod) {
                        model.creation = Creation::Refused(verdict(refusal));
                    }
                    self.ask(&pod);
                }
                // Nobody knows how long it stays away: the record cannot be waited for.
                Creation::Refused(verdict) if !can_ask => self.conclude(&pod.simulation, &pod.model, verdict, Tell::Unrecorded),
                Creation::Due | Creation::NameTaken | Creation::WaitsForName if !can_ask => {
                    self.conclude(&pod.simulation, &pod.model, verdict(refusal), Tell::Unrecorded);
                }
                // Their own questions are under way, and have a limit of their own.
                Creation::Due
                | Creation::NameTaken
                | Creation::WaitsForName
                | Creation::WaitsForRecord
                | Creation::Refused(_)
                | Creation::Lost
                | Creation::Done => {}
            }
        }
    }

    /// Who has the name of a pod that could not be created?
    pub(super) fn ask(&mut self, pod: &NewPod) {
        self.ask_about(pod, None);
    }

    /// What is with the pod that this model has, or that has its name?
    pub(super) fn ask_about(&mut self, pod: &NewPod, uid: Option<Uid>) {
        let question = Question { name: pod.name.clone(), simulation: pod.simulation.clone(), model: pod.model.clone(), uid };
        self.calls.push(PodCall::Get(question), 0);
    }

    /// What was believed when it was asked is still believed: else the answer is to another question.
    fn is_open(&self, question: &Question) -> bool {
        let model = self.model(&question.simulation, &question.model);
        model.is_some_and(|model| model.verdict.is_none() && model.uid == question.uid)
    }

    pub(super) fn on_got(&mut self, question: Question, attempt: u32, result: Result<Answer, Error>, now: Now) {
        if !self.is_open(&question) {
            return;
        }
        let Question { name, simulation: id, model: model_id, uid } = question.clone();
        let Some(model) = self.model(&id, &model_id) else { return };
        let creation = model.creation.clone();
        let error = match result {
            Ok(Answer::Pod(pod)) => {
                let pod = self.with_its_labels(pod, &id, &model_id, now);
                if self.is_old(&pod) {
                    return self.calls.push_at(now.instant + OLD_ANSWER_AGAIN, PodCall::Get(question), attempt);
                }
                self.judge_name(&name, &id, &model_id, &pod, now);
                self.observe(&pod, now);
                self.believe_what_has_stayed(&id, &model_id, now);
                self.give_up_what_is_overdue(&id, &model_id, now);
                return self.end_what_is_over(&id, &model_id, now);
            }
            Ok(Answer::Done) => return,
            Err(error) => error,
        };
        let is_refused = !matches!(refusal(&error).remedy, Remedy::HoldAll(_) | Remedy::Again(_));
        match (uid, creation) {
            (Some(uid), _) if error.is_not_found() => {
                self.on_gone(&name, &uid);
                let why = self.pods.get(&name).and_then(|known| known.disruption.clone());
                self.conclude(&id, &model_id, deleted_by_others(why), Tell::WhenRecorded);
            }
            (None, Creation::Refused(verdict)) if error.is_not_found() || is_refused => {
                self.conclude(&id, &model_id, verdict, Tell::WhenRecorded)
            }
            (None, Creation::NameTaken) if error.is_not_found() => {
                self.wait_for_name(&id, &model_id, Duration::ZERO, now);
            }
            (None, Creation::Lost) if error.is_not_found() => self.conclude(&id, &model_id, deleted_by_others(None), Tell::WhenRecorded),
            // It was answered otherwise since.
            (None, Creation::WaitsForRecord | Creation::Due | Creation::WaitsForName | Creation::Done) => {}
            (uid, _) if is_refused && attempt >= QUESTION_ATTEMPTS => {
                // The watch may show it all the same.
                self.believe_what_has_stayed(&id, &model_id, now);
                self.give_up_what_is_overdue(&id, &model_id, now);
                self.end_what_is_over(&id, &model_id, now);
                let (reason, state) = match uid {
                    Some(_) => ("PodDeleted", "does not show any more"),
                    None => ("NameConflict", "is there already"),
                };
                let message = format!("a pod named {name} {state}, and cannot be read: {error}");
                self.conclude(&id, &model_id, Verdict::failed_without_code(reason, &message), Tell::WhenRecorded);
            }
            _ if is_refused && attempt == 0 => {
                self.say(Level::Error, format!("Pod {name} of model {id}/{model_id} cannot be read: {error}. Trying again."));
                self.call_again(PodCall::Get(question), attempt, &error, now);
            }
            _ => self.call_again(PodCall::Get(question), attempt, &error, now),
        }
    }

    /// The API server says it anew, and the kubelet has had its time to correct it.
    fn believe_what_has_stayed(&mut self, id: &SimulationId, model_id: &ModelId, now: Now) {
        let doubt = self.model(id, model_id).and_then(|model| model.doubt.as_ref());
        if let Some(doubt) = doubt.filter(|doubt| now.instant.saturating_duration_since(doubt.since) >= DOUBT) {
            let verdict = doubt.verdict.clone();
            self.conclude(id, model_id, verdict, Tell::WhenRecorded);
        }
    }

    /// A pod with the name of this model's was seen. Is it the model's, does it go, or is it in the way?
    fn judge_name(&mut self, name: &PodName, id: &SimulationId, model_id: &ModelId, pod: &Pod, now: Now) {
        let Some(model) = self.model(id, model_id) else { return };
        if let Some(ours) = &model.uid {
            if ours.as_str() != pod.metadata.uid {
                let message = format!("the pod was {ours}, and now one with uid {} has its name", pod.metadata.uid);
                self.conclude(id, model_id, Verdict::failed_without_code("PodReplaced", &message), Tell::WhenRecorded);
            }
            return;
        }
        let goes_at = pod.metadata.deletion_timestamp.map(|at| at.0);
        let is_replaced = self.pods.get(name).is_some_and(|known| known.replaced && known.uid.as_str() == pod.metadata.uid);
        if self.is_made_for(pod, model) && !is_replaced {
            return; // `observe` takes it
        }
        let is_patient = match goes_at {
            Some(at) => self.server_time(now).seconds_since(at) < TERMINATING_LIMIT_SECONDS,
            None => is_replaced && now.instant.saturating_duration_since(model.asked_at) < REPLACED_LIMIT,
        };
        match model.creation.clone() {
            Creation::Refused(verdict) => self.conclude(id, model_id, verdict, Tell::WhenRecorded),
            Creation::Lost => self.conclude(id, model_id, deleted_by_others(None), Tell::WhenRecorded),
            Creation::WaitsForRecord => {}
            Creation::Due | Creation::NameTaken | Creation::WaitsForName | Creation::Done if is_patient => {
                self.wait_for_name(id, model_id, TERMINATING_POLL, now);
            }
            Creation::Due | Creation::NameTaken | Creation::WaitsForName | Creation::Done => {
                let state = if is_replaced || goes_at.is_some() { "there already, and does not go" } else { "there already" };
                let labels = &pod.metadata.labels;
                let whose = |label: &Option<String>| label.clone().unwrap_or_default();
                let (model, simulation) = (whose(&labels.model_id), whose(&labels.simulation_id));
                let message = format!("a pod named {name} is {state}, for model {model:?} of simulation {simulation:?}");
                self.conclude(id, model_id, Verdict::failed_without_code("NameConflict", &message), Tell::WhenRecorded);
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

    pub(super) fn model(&self, id: &SimulationId, model: &ModelId) -> Option<&Model> {
        self.simulations.get(id)?.models.get(model)
    }

    pub(super) fn model_mut(&mut self, id: &SimulationId, model: &ModelId) -> Option<&mut Model> {
        self.simulations.get_mut(id)?.models.get_mut(model)
    }
}

pub(super) fn verdict(refusal: &Refusal) -> Verdict {
    Verdict::failed_without_code(&refusal.reason.to_string(), &refusal.message)
}

/// Why is what its pod said of it while it was there.
pub(super) fn deleted_by_others(why: Option<String>) -> Verdict {
    let why = why.map(|why| format!(" ({why})")).unwrap_or_default();
    Verdict::failed_without_code("PodDeleted", &format!("the pod was deleted, and not by this service{why}"))
}

/// How many models a line names that is said again and again, or stands on a screen.
pub(super) const FEW_MODELS: usize = 10;

pub(super) fn named(models: &[ModelId], most: usize) -> String {
    let shown: Vec<&str> = models.iter().take(most).map(ModelId::as_str).collect();
    match models.len() - shown.len() {
        0 => format!("[{}]", shown.join(", ")),
        more => format!("[{}, … and {more} more]", shown.join(", ")),
    }
}
