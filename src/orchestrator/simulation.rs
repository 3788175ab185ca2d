//! A simulation that runs: its models, and how many of them are where. It holds facts; what follows from them is the orchestrator's.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Instant;

use super::pod_state::Verdict;
use crate::ids::{DeployId, ModelId, Uid};
use crate::kube::pod::NewPod;

/// Counts the runs of this process: a simulation id may come again.
pub(super) type Run = u64;

pub(super) struct Simulation {
    pub run: Run,
    pub keep_logs_hours: f64,
    /// The requests that it came with, the first one first in time but not in order.
    pub deploys: BTreeSet<DeployId>,
    /// The requests of runs before this one: a create of theirs may still work.
    pub earlier_deploys: BTreeSet<DeployId>,
    pub models: BTreeMap<ModelId, Model>,
    /// What the models' configurations hold.
    pub bytes: usize,
    pub ready: usize,
    pub ended: usize,
    pub failed: usize,
    pub models_ready_sent: bool,
    /// `ModelHasTerminated` that the broker has not acknowledged: the end of all waits for them.
    pub unacknowledged: usize,
}

pub(super) struct Model {
    pub pod: Arc<NewPod>,
    /// When it was asked for: what stands in the way of its create has its time from then.
    pub asked_at: Instant,
    pub creation: Creation,
    /// How many lists there had been when its create went out.
    pub lists_before: u64,
    pub ready: bool,
    /// The pod that runs it, once one is known.
    pub uid: Option<Uid>,
    pub verdict: Option<Verdict>,
    /// A verdict that is believed when it stays so until then.
    pub doubt: Option<Verdict>,
}

/// How far the create of a model's pod is. It says what an answer to the question who has the name means.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Creation {
    /// To be made, under way, or to be made again.
    Due,
    /// An old pod has the name and goes.
    WaitsForName,
    /// Somebody has the name: asking who.
    NameTaken,
    /// It was refused for good, unless an earlier try made it after all: asking.
    Refused(Verdict),
    Done,
}

impl Simulation {
    pub(super) fn new(run: Run, keep_logs_hours: f64) -> Self {
        Self {
            run,
            keep_logs_hours,
            deploys: BTreeSet::new(),
            earlier_deploys: BTreeSet::new(),
            models: BTreeMap::new(),
            bytes: 0,
            ready: 0,
            ended: 0,
            failed: 0,
            models_ready_sent: false,
            unacknowledged: 0,
        }
    }

    /// Every model has announced itself, none has failed, and nobody was told yet.
    pub(super) fn models_ready_is_due(&self) -> bool {
        self.ready == self.models.len() && self.failed == 0 && !self.models_ready_sent
    }

    pub(super) fn has_ended(&self) -> bool {
        self.ended == self.models.len()
    }

    /// True the first time. A model that has ended is not ready any more.
    pub(super) fn set_ready(&mut self, id: &ModelId) -> bool {
        let Some(model) = self.models.get_mut(id).filter(|model| !model.ready && model.verdict.is_none()) else { return false };
        model.ready = true;
        self.ready += 1;
        true
    }

    /// True the first time: a verdict never changes.
    pub(super) fn set_verdict(&mut self, id: &ModelId, verdict: &Verdict) -> bool {
        let Some(model) = self.models.get_mut(id).filter(|model| model.verdict.is_none()) else { return false };
        model.verdict = Some(verdict.clone());
        self.ended += 1;
        self.failed += usize::from(!verdict.success);
        true
    }
}

impl Model {
    pub(super) fn new(pod: Arc<NewPod>, asked_at: Instant) -> Self {
        Self { pod, asked_at, creation: Creation::Due, lists_before: 0, ready: false, uid: None, verdict: None, doubt: None }
    }

    /// It has no pod, and may yet get one.
    pub(super) fn waits_for_pod(&self) -> bool {
        self.uid.is_none() && self.verdict.is_none()
    }

    /// It has ended without ever having had a pod.
    pub(super) fn was_given_up(&self) -> bool {
        self.uid.is_none() && self.verdict.is_some()
    }

    /// The same image, variables and pod, whatever request they came with.
    pub(super) fn has_configuration_of(&self, other: &NewPod) -> bool {
        self.pod.name == other.name && self.pod.image == other.image && self.pod.variables == other.variables
    }
}
