//! What the cluster has of a simulation's record, what it lacks, and which calls about it are under way.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use log::Level;

use super::SAID_AGAIN;
use super::calls::backoff;
use super::event::RecordCall;
use super::pod_state::Verdict;
use super::refusal::{Reason, Refusal, Remedy};
use crate::clock::UnixTime;
use crate::config::Limits;
use crate::ids::{DeployId, RecordName, Uid};
use crate::kube::record::{Content, NewRecord, Progress, Record};

const RETRY_FIRST: Duration = Duration::from_millis(500);
const RETRY_MAX: Duration = Duration::from_secs(30);
/// Each has at most 64 KiB, and is tried in half a minute: what has not landed after so many others never will.
const DOUBTFUL_MAX: usize = 8;

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
    /// No answer came of the last write: whether it was done is asked before the next one.
    pub is_unanswered: bool,
    /// Writes since one worked that may have been done, or may be yet: what stands there may be one of these.
    pub doubtful: Vec<Write>,
    /// How many of the run's requests the progress in the cluster names: those that were whole. Models are numbered through them.
    pub named: usize,
    pub written_at: Option<Instant>,
    pub piece_trouble: Trouble,
    pub write_trouble: Trouble,
    pub delete_trouble: Trouble,
    /// Of a run that is over; of one that goes on it is derived from the simulation.
    pub over: Option<Progress>,
    /// It is being deleted.
    pub goes: bool,
}

pub(super) struct Object {
    pub uid: Uid,
    /// The request that it is a piece of; none: it is the progress.
    pub deploy: Option<DeployId>,
    /// When that was asked for, in the API server's time.
    pub asked_at: Option<UnixTime>,
    /// It is being deleted, and does not count as there.
    pub is_doomed: bool,
    pub in_flight: bool,
}

pub(super) struct PieceDue {
    pub piece: Arc<NewRecord>,
    pub deploy: DeployId,
    pub asked_at: Instant,
    pub in_flight: bool,
    /// A try of which no answer came may have worked.
    pub may_be_there: bool,
    /// Its request fails, unless the piece is there after all.
    pub refused: Option<Verdict>,
}

/// What stands in the way of a call.
#[derive(Default)]
pub(super) struct Trouble {
    failures: u32,
    /// What it is, and since when.
    obstacle: Option<(Reason, Instant)>,
    not_before: Option<Instant>,
    said_at: Option<Instant>,
}

impl Trouble {
    pub(super) fn go_on(&mut self, refusal: &Refusal, jitter: &mut fastrand::Rng, now: Instant) {
        let (base, cap, at_least) = match &refusal.remedy {
            Remedy::HoldAll(pause) | Remedy::HoldVerb(pause) => (pause.base, pause.cap, pause.at_least),
            Remedy::Again(_) | Remedy::AskWhoHasTheName | Remedy::GiveUp => (RETRY_FIRST, RETRY_MAX, Duration::ZERO),
        };
        self.not_before = Some(now + backoff(base, cap, self.failures, jitter).max(at_least));
        if self.obstacle.is_none_or(|(reason, _)| reason != refusal.reason) {
            self.obstacle = Some((refusal.reason, now));
        }
        self.failures += 1;
    }

    /// How it is said, when it begins and now and then while it lasts. To be woken for: what lasts, and something waits for it.
    pub(super) fn is_to_be_said(&mut self, is_waited_for: bool, now: Instant) -> Option<Level> {
        if self.said_at.is_some_and(|at| now.saturating_duration_since(at) < SAID_AGAIN) {
            return None;
        }
        let is_first = self.said_at.replace(now).is_none();
        Some(if is_waited_for && !is_first { Level::Error } else { Level::Warn })
    }

    /// True where it was said.
    pub(super) fn end(&mut self) -> bool {
        std::mem::take(self).said_at.is_some()
    }

    pub(super) fn since(&self, now: Instant) -> Instant {
        self.obstacle.map_or(now, |(_, since)| since)
    }

    /// For what has waited since then.
    pub(super) fn is_overdue(&self, refusal: &Refusal, limits: &Limits, asked_at: Instant, now: Instant) -> bool {
        let (reason, since) = self.obstacle.unwrap_or((refusal.reason, now));
        let waited = now.saturating_duration_since(since.max(asked_at));
        reason == refusal.reason && refusal.reason.limit(limits).is_some_and(|limit| waited >= limit)
    }

    /// When to look again, where that is not now.
    pub(super) fn waits_until(&self, now: Instant) -> Option<Instant> {
        self.not_before.filter(|&at| now < at)
    }
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
            is_unanswered: false,
            doubtful: Vec::new(),
            named: 0,
            written_at: None,
            piece_trouble: Trouble::default(),
            write_trouble: Trouble::default(),
            delete_trouble: Trouble::default(),
            over: None,
            goes: false,
        }
    }

    pub(super) fn note(&mut self, record: &Record) {
        let (deploy, asked_at) = match &record.content {
            Content::Piece { deploy, asked_at, .. } => (Some(deploy.clone()), *asked_at),
            Content::Progress { text } => {
                self.version = Some(record.version.clone());
                self.text.clone_from(text);
                (None, None)
            }
        };
        let object = Object { uid: record.uid.clone(), deploy, asked_at, is_doomed: false, in_flight: false };
        self.objects.insert(record.name.clone(), object);
    }

    /// When the first of its requests was asked for, in the API server's time.
    pub(super) fn asked_at(&self) -> Option<UnixTime> {
        let times = self.objects.values().filter_map(|object| object.asked_at);
        times.reduce(|first, other| if other < first { other } else { first })
    }

    /// What stands in the way of this call.
    pub(super) fn trouble_of(&self, call: &RecordCall) -> &Trouble {
        match call {
            RecordCall::Delete { .. } => &self.delete_trouble,
            _ if *call.name() == self.name => &self.write_trouble,
            _ => &self.piece_trouble,
        }
    }

    /// How many of these requests, from the first one on, are in the cluster with all their pieces.
    pub(super) fn whole(&self, deploys: &[DeployId]) -> usize {
        let is_whole = |deploy: &&DeployId| !self.given_up.contains(*deploy) && self.pieces_due.values().all(|due| due.deploy != **deploy);
        deploys.iter().take_while(is_whole).count()
    }

    /// A next process is not to begin what was told as failed.
    pub(super) fn doom_given_up(&mut self) {
        doom_pieces(&mut self.objects, |deploy| self.given_up.contains(deploy));
        self.pieces_due.retain(|_, due| due.in_flight || due.may_be_there || !self.given_up.contains(&due.deploy));
    }

    /// A next process may find something of this request.
    pub(super) fn may_be_found(&self, deploy: &DeployId) -> bool {
        self.objects.values().any(|object| object.deploy.as_ref() == Some(deploy))
            || self.pieces_due.values().any(|due| due.deploy == *deploy)
    }

    /// Of this write it is not known whether it was done.
    pub(super) fn doubt(&mut self, write: Write) {
        if self.doubtful.len() == DOUBTFUL_MAX {
            self.doubtful.remove(0);
        }
        self.doubtful.push(write);
    }

    /// What goes is not to be counted on.
    pub(super) fn is_losing(&self) -> bool {
        self.goes || self.objects.values().any(|object| object.is_doomed)
    }

    pub(super) fn has_all_pieces(&self) -> bool {
        self.pieces_due.is_empty()
    }

    /// Something waits for facts that are not written.
    pub(super) fn is_waited_for(&self) -> bool {
        self.wanted > self.written
    }

    pub(super) fn is_at_rest(&self) -> bool {
        self.in_flight.is_none() && self.is_written() && self.has_all_pieces()
    }

    pub(super) fn is_written(&self) -> bool {
        self.written == self.changed
    }
}

/// The pieces of these requests are to be deleted.
pub(super) fn doom_pieces(objects: &mut BTreeMap<RecordName, Object>, is_to_go: impl Fn(&DeployId) -> bool) {
    for object in objects.values_mut() {
        object.is_doomed |= object.deploy.as_ref().is_some_and(&is_to_go);
    }
}
