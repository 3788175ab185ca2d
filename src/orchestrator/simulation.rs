//! A simulation that runs: its models, and how many of them are where. It holds facts; what follows from them is the orchestrator's.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Instant;

use super::event::DeployRequest;
use super::kept::Revision;
use super::labels::LostLabels;
use super::marks::Mark;
use super::pending::Pending;
use super::pod_state::{NO_EXIT_CODE, Verdict};
use crate::clock::Now;
use crate::config::ReportErrors;
use crate::ids::{DeployId, ModelId, Uid};
use crate::kube::pod::NewPod;
use crate::kube::record::{Cancelled, CancelledBy, ModelsReady, Progress};

/// Counts the runs of this process: a simulation id may come again.
pub(super) type Run = u64;

/// Each stands in each progress. A late create belongs to the last few runs, and a redelivery to what came last.
const DEPLOYS_REMEMBERED: usize = 32;

pub(super) struct Simulation {
    pub run: Run,
    pub keep_logs_hours: f64,
    /// When it was asked for.
    pub begun_at: Instant,
    /// When the last `SimulationDone` of it came, to whomever.
    pub done_at: Option<Now>,
    /// Since when all of it is to end, and for whom.
    pub cancelled: Option<(Now, CancelledBy)>,
    /// That models go on after `SimulationDone` was said.
    pub overrun_said: bool,
    /// The requests that it came with, in order: models are numbered through them.
    pub deploys: Vec<DeployId>,
    /// Those of which no pod is made until a restart would find them.
    pub unrecorded: Vec<DeployId>,
    /// Requests that added no model, the last ones: they are not recorded, but known again.
    pub repeats: Vec<DeployId>,
    /// Requests of it that an earlier process had, and of which nothing is known but that.
    pub lost: Vec<DeployId>,
    /// The requests of runs before this one, the last ones: a create of theirs may still work.
    pub earlier_deploys: Vec<DeployId>,
    /// Pods of those runs that an earlier process found: they go first.
    pub replaced: BTreeSet<Uid>,
    pub models: BTreeMap<ModelId, Model>,
    /// What its requests hold.
    pub bytes: usize,
    pub ready: usize,
    pub ended: usize,
    pub failed: usize,
    pub models_ready: Announced,
    /// Since when a model has ended well that never said that it is ready, so that `ModelsReady` cannot be.
    pub unready_end_since: Option<Instant>,
    /// It has been so for long enough that none of them will say so any more.
    pub unready_end_is_certain: bool,
    /// `ErrorOccurred`, of which there is one.
    pub error: Reported,
    /// Models that have ended, which is told when the record holds it.
    pub untold: BTreeMap<ModelId, Revision>,
    /// Those among them whose request is given up, while a next process may find it.
    pub untold_until_forgotten: BTreeSet<ModelId>,
    /// All had ended when this process began: the one before it may have told the end. Who heard that asks for a new run.
    pub end_may_be_told: bool,
    /// `ModelHasTerminated` that the broker has not acknowledged: the end of all waits for them.
    pub unacknowledged: usize,
    /// What its first pod says, as far as we wrote it.
    pub mark: Option<Mark>,
    pub is_being_marked: bool,
    /// Of whom it was said that they wait, and who do not any more, by what is said of that and what it was for.
    pub unblocked: BTreeMap<(&'static str, String), Vec<ModelId>>,
    /// When `AllModelsHaveTerminated` went out, where that was before we knew that it runs.
    pub end_told_at: Option<Instant>,
}

pub(super) struct Model {
    pub pod: Arc<NewPod>,
    /// When it was asked for: what stands in the way of its create has its time from then.
    pub asked_at: Instant,
    pub creation: Creation,
    /// How many lists there had been when its create went out.
    pub lists_before: u64,
    pub ready: bool,
    /// It was sent `SimulationDone`.
    pub was_sent_done: bool,
    /// The pod that runs it, once one is known.
    pub uid: Option<Uid>,
    pub verdict: Option<Verdict>,
    /// For whom it was ended, where it was for that.
    pub unwanted: Option<CancelledBy>,
    /// We gave it up while its pod ran.
    pub ended_by_us: bool,
    /// A create of this process went without an answer: the pod that turns up may be of that one.
    pub may_be_created: bool,
    /// See [`Simulation::doubt_ready`].
    earlier_pod_was_ready: bool,
    /// The broker has the verdict.
    pub told: bool,
    pub doubt: Option<Doubt>,
    pub pending: Option<Pending>,
    pub lost_labels: Option<LostLabels>,
    /// How often its pod was made again.
    pub recreations: usize,
}

/// A verdict that the kubelet may correct.
pub(super) struct Doubt {
    pub verdict: Verdict,
    pub since: Instant,
}

/// How far `ModelsReady` is. A second one would reset a running simulation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Announced {
    No,
    /// With this revision the record says that it is being sent; then it goes out.
    WhenRecorded(Revision),
    /// By us; by an earlier process of ours, perhaps.
    Published,
    Acknowledged,
    /// Whether it went out is not known, and none goes out any more: what ran then has failed.
    GivenUp,
}

/// How far `ErrorOccurred` is. Only over a crash of ours may it go out twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reported {
    No,
    Published,
    Acknowledged,
}

impl Announced {
    /// What the record says of it.
    pub(super) fn recorded(self) -> ModelsReady {
        match self {
            Self::No => ModelsReady::No,
            Self::WhenRecorded(_) | Self::Published | Self::GivenUp => ModelsReady::Sending,
            Self::Acknowledged => ModelsReady::Sent,
        }
    }

    /// By an earlier process, of which the record says this.
    pub(super) fn by_earlier_process(recorded: ModelsReady) -> Self {
        match recorded {
            ModelsReady::No => Self::No,
            ModelsReady::Sending => Self::Published,
            ModelsReady::Sent => Self::Acknowledged,
        }
    }
}

/// How far the create of a model's pod is. It says what an answer to the question who has the name means.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Creation {
    /// Its request is not recorded yet.
    WaitsForRecord,
    /// To be made, under way, or to be made again.
    Due,
    /// An old pod has the name and goes.
    WaitsForName,
    /// Somebody has the name: asking who.
    NameTaken,
    /// It was refused for good, unless an earlier try made it after all: asking.
    Refused(Verdict),
    /// It was made before this process began, and the cluster does not show it: asking.
    Lost,
    Done,
}

impl Simulation {
    pub(super) fn new(run: Run, keep_logs_hours: f64, begun_at: Instant) -> Self {
        Self {
            run,
            keep_logs_hours,
            begun_at,
            done_at: None,
            cancelled: None,
            overrun_said: false,
            deploys: Vec::new(),
            unrecorded: Vec::new(),
            repeats: Vec::new(),
            lost: Vec::new(),
            earlier_deploys: Vec::new(),
            replaced: BTreeSet::new(),
            models: BTreeMap::new(),
            bytes: 0,
            ready: 0,
            ended: 0,
            failed: 0,
            models_ready: Announced::No,
            unready_end_since: None,
            unready_end_is_certain: false,
            error: Reported::No,
            untold: BTreeMap::new(),
            untold_until_forgotten: BTreeSet::new(),
            end_may_be_told: false,
            unacknowledged: 0,
            mark: None,
            is_being_marked: false,
            unblocked: BTreeMap::new(),
            end_told_at: None,
        }
    }

    /// Every model that was asked for has a pod, or had one, and has announced itself; none has failed, and nobody was told yet.
    pub(super) fn models_ready_is_due(&self) -> bool {
        self.ready == self.models.len()
            && self.failed == 0
            && self.lost.is_empty()
            && !self.unready_end_is_certain
            && !self.is_done()
            && matches!(self.models_ready, Announced::No | Announced::WhenRecorded(_))
            && !self.models.values().any(Model::waits_for_pod)
    }

    /// Who waits for a model that failed is to know, and does not yet. What else has failed by then is told with it. Once it has ended the
    /// simulation, it would make a failure of a success.
    pub(super) fn error_is_due(&self, report: ReportErrors) -> bool {
        let is_wanted = match report {
            ReportErrors::Never => false,
            ReportErrors::BeforeReady => self.models_ready != Announced::Acknowledged,
            ReportErrors::Always => true,
        };
        let has_failed = || self.failed > 0 && self.failures().next().is_some();
        let is_unready = || self.unready_end_is_certain && self.unready_ends().next().is_some();
        is_wanted && self.done_at.is_none() && self.error == Reported::No && (has_failed() || is_unready())
    }

    /// Models that have failed, which is told.
    pub(super) fn failures(&self) -> impl Iterator<Item = (&Model, &Verdict)> {
        let verdicts = self.models.values().filter_map(|model| Some((model, model.verdict.as_ref()?)));
        verdicts.filter(|(model, verdict)| !verdict.success && !self.untold.contains_key(&model.pod.model))
    }

    /// Models that have ended well and never said that they are ready, while that is waited for. What they said came to us before the
    /// broker's word that it has their end, where it came at all.
    pub(super) fn unready_ends(&self) -> impl Iterator<Item = &Model> {
        let is_one = |model: &&Model| model.told && !model.ready && model.verdict.as_ref().is_some_and(|verdict| verdict.success);
        let is_awaited = self.ended > self.failed && self.models_ready == Announced::No;
        self.models.values().filter(is_one).filter(move |_| is_awaited)
    }

    /// The broker has all that was to be told, and nothing waits to be told.
    pub(super) fn is_all_told(&self) -> bool {
        self.unacknowledged == 0 && self.untold.is_empty() && !self.models_ready_is_due()
    }

    /// It has models that this one has not.
    pub(super) fn is_added_to_by(&self, request: &DeployRequest) -> bool {
        request.models.iter().any(|configuration| !self.models.contains_key(&configuration.model))
    }

    pub(super) fn has_ended(&self) -> bool {
        self.ended == self.models.len()
    }

    /// True the first time. Its end, where that is a success, may have been seen before what it said: that makes no difference.
    pub(super) fn set_ready(&mut self, id: &ModelId) -> bool {
        let has_failed = |model: &Model| model.verdict.as_ref().is_some_and(|verdict| !verdict.success);
        let Some(model) = self.models.get_mut(id).filter(|model| !model.ready && !has_failed(model)) else { return false };
        model.ready = true;
        model.pending.take_if(|pending| !pending.obstacle.kind.is_of_pod());
        self.ready += 1;
        true
    }

    /// A pod of it is to be made, so that who said ready was another one: one that is gone, or one that is there and not known yet.
    pub(super) fn doubt_ready(&mut self, id: &ModelId) {
        let Some(model) = self.models.get_mut(id).filter(|model| model.ready && model.verdict.is_none()) else { return };
        model.ready = false;
        model.earlier_pod_was_ready = true;
        self.ready -= 1;
    }

    /// Its pod was there before its create of this process: unless one went without an answer, that pod is who said ready.
    pub(super) fn trust_ready(&mut self, id: &ModelId) {
        let Some(model) = self.models.get_mut(id) else { return };
        if std::mem::take(&mut model.earlier_pod_was_ready) && !model.may_be_created {
            self.set_ready(id);
        }
    }

    pub(super) fn set_told(&mut self, id: &ModelId) {
        if let Some(model) = self.models.get_mut(id) {
            model.told = true;
        }
    }

    /// True the first time: a verdict never changes.
    pub(super) fn set_verdict(&mut self, id: &ModelId, verdict: &Verdict) -> bool {
        let Some(model) = self.models.get_mut(id).filter(|model| model.verdict.is_none()) else { return false };
        model.verdict = Some(verdict.clone());
        model.pending = None;
        self.ended += 1;
        self.failed += usize::from(!verdict.success);
        true
    }

    /// What its record is to say.
    pub(super) fn progress(&self) -> Progress {
        let numbers = |is: &dyn Fn(&Model) -> bool| self.models.values().filter(|model| is(model)).map(|model| model.pod.number).collect();
        let codes = self.models.values().filter_map(|model| Some((model.pod.number, model.verdict.as_ref()?.exit_code)));
        Progress {
            deploys: self.deploys.clone(),
            repeats: self.repeats.clone(),
            earlier_deploys: self.earlier_deploys.clone(),
            replaced: Vec::new(),
            created: numbers(&|model| model.has_or_had_pod()),
            ready: numbers(&|model| model.ready),
            ended: codes.collect(),
            told: numbers(&|model| model.told),
            models_ready: self.models_ready.recorded(),
            error_reported: self.error == Reported::Acknowledged,
            done: numbers(&|model| model.was_sent_done),
            done_at: self.done_at.map(|at| at.unix),
            cancelled: self.cancelled.map(|(at, by)| Cancelled { at: at.unix, by }),
            unwanted: self.models.values().filter_map(|model| Some((model.pod.number, model.unwanted?))).collect(),
            over: None,
        }
    }
}

/// With the newest last; the oldest are forgotten.
pub(super) fn remember_deploys(deploys: &mut Vec<DeployId>, new: impl IntoIterator<Item = DeployId>) {
    for deploy in new {
        deploys.retain(|known| *known != deploy);
        deploys.push(deploy);
    }
    deploys.drain(..deploys.len().saturating_sub(DEPLOYS_REMEMBERED));
}

impl Model {
    pub(super) fn new(pod: Arc<NewPod>, creation: Creation, asked_at: Instant) -> Self {
        Self {
            pod,
            asked_at,
            creation,
            lists_before: 0,
            ready: false,
            was_sent_done: false,
            uid: None,
            verdict: None,
            unwanted: None,
            ended_by_us: false,
            may_be_created: false,
            earlier_pod_was_ready: false,
            told: false,
            doubt: None,
            pending: None,
            lost_labels: None,
            recreations: 0,
        }
    }

    /// Once it had one, a pod that is missing was deleted.
    pub(super) fn has_or_had_pod(&self) -> bool {
        self.uid.is_some() || matches!(self.creation, Creation::Done | Creation::Lost)
    }

    /// It has no pod, and may yet get one.
    pub(super) fn waits_for_pod(&self) -> bool {
        self.uid.is_none() && self.verdict.is_none()
    }

    /// It has ended, and not by itself: a pod of it that runs, or appears, is stopped. One whose container ended, as the record says, may
    /// still be shown as it was before.
    pub(super) fn was_given_up(&self) -> bool {
        let has_no_code = self.verdict.as_ref().is_some_and(|verdict| verdict.exit_code == NO_EXIT_CODE);
        self.ended_by_us || (has_no_code && self.uid.is_none())
    }

    /// The same image, variables and pod, whatever request they came with.
    pub(super) fn has_configuration_of(&self, other: &NewPod) -> bool {
        self.pod.name == other.name && self.pod.image == other.image && self.pod.variables == other.variables
    }
}
