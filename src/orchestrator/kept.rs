//! What the cluster has of a simulation's record, what it lacks, and which calls about it are under way.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Instant;

use crate::ids::{DeployId, RecordName, Uid};
use crate::kube::record::{Content, NewRecord, Progress, Record};

/// Counts the changes of a simulation's facts.
pub(super) type Revision = u64;

/// What the cluster has of a simulation's record.
pub(super) struct Kept {
    pub name: RecordName,
    /// Each ConfigMap that is there.
    pub objects: BTreeMap<RecordName, Object>,
    /// Of the progress, where there is one.
    pub version: Option<String>,
    /// As the progress was last seen or written.
    pub text: String,
    /// Pieces that are not known to be there yet.
    pub pieces_due: BTreeMap<RecordName, PieceDue>,
    /// Requests whose pieces could not be written in time: their models have failed, and those of later ones do.
    pub given_up: BTreeSet<DeployId>,
    pub changed: Revision,
    /// Somebody waits for this one.
    pub wanted: Revision,
    pub written: Revision,
    pub in_flight: Option<ProgressCall>,
    /// One of which no answer came: it may have been done, which is asked before the next one.
    pub unanswered: Option<Write>,
    /// How many of the run's requests the progress in the cluster names: those that were whole. Models are numbered through them.
    pub named: usize,
    pub not_before: Option<Instant>,
    /// Of calls about the progress, or of deletes, since one worked.
    pub failures: u32,
    /// Of a run that is over; of one that goes on it is derived from the simulation.
    pub over: Option<Progress>,
    /// It is being deleted.
    pub goes: bool,
}

pub(super) struct Object {
    pub uid: Uid,
    /// The request that it is a piece of; none: it is the progress.
    pub deploy: Option<DeployId>,
    pub delete_asked: bool,
}

pub(super) struct PieceDue {
    pub piece: Arc<NewRecord>,
    pub deploy: DeployId,
    pub asked_at: Instant,
    pub in_flight: bool,
    pub not_before: Instant,
    pub failures: u32,
    /// A try of which no answer came may have worked.
    pub may_be_there: bool,
}

pub(super) enum ProgressCall {
    Write(Write),
    /// Is it what we wrote?
    Get,
}

pub(super) struct Write {
    pub revision: Revision,
    pub text: String,
    pub named: usize,
}

impl Kept {
    pub(super) fn new(name: RecordName) -> Self {
        Self {
            name,
            objects: BTreeMap::new(),
            version: None,
            text: String::new(),
            pieces_due: BTreeMap::new(),
            given_up: BTreeSet::new(),
            changed: 0,
            wanted: 0,
            written: 0,
            in_flight: None,
            unanswered: None,
            named: 0,
            not_before: None,
            failures: 0,
            over: None,
            goes: false,
        }
    }

    pub(super) fn note(&mut self, record: &Record) {
        let deploy = match &record.content {
            Content::Piece { deploy, .. } => Some(deploy.clone()),
            Content::Progress { text } => {
                self.version = Some(record.version.clone());
                self.text.clone_from(text);
                None
            }
        };
        self.objects.insert(record.name.clone(), Object { uid: record.uid.clone(), deploy, delete_asked: false });
    }

    /// How many of these requests, from the first one on, are in the cluster with all their pieces.
    pub(super) fn whole(&self, deploys: &[DeployId]) -> usize {
        let is_whole = |deploy: &&DeployId| !self.given_up.contains(*deploy) && self.pieces_due.values().all(|due| due.deploy != **deploy);
        deploys.iter().take_while(is_whole).count()
    }

    pub(super) fn has_piece_due(&self) -> bool {
        !self.pieces_due.is_empty()
    }

    pub(super) fn is_at_rest(&self) -> bool {
        self.in_flight.is_none() && self.is_written() && self.pieces_due.is_empty()
    }

    pub(super) fn is_written(&self) -> bool {
        self.written == self.changed
    }
}
