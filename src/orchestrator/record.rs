//! When a simulation's record is written, and what waits for it. What it says is derived from the facts at the moment of the write, so that
//! whatever changed meanwhile goes with the next one.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use log::Level;

use super::calls::backoff;
use super::deadline::Deadline;
use super::deploy::verdict;
use super::event::{Command, DeployRequest, RecordAnswer, RecordCall, RecordOutcome};
use super::pod_state::Verdict;
use super::refusal::{Pause, Reason, Remedy, refusal};
use super::simulation::{Model, Simulation};
use super::{DENIED_LIMIT, Orchestrator, Tell};
use crate::clock::Now;
use crate::ids::{DeployId, RecordName, SimulationId, Uid};
use crate::kube::error::Error;
use crate::kube::record::{Content, NewRecord, Progress, Record};

/// Facts that nobody waits for are written in company.
const WRITE_PAUSE: Duration = Duration::from_secs(1);
const RETRY_FIRST: Duration = Duration::from_millis(500);
const RETRY_MAX: Duration = Duration::from_secs(30);

/// Counts the changes of a simulation's facts.
pub(super) type Revision = u64;

/// What the cluster has of a simulation's record.
pub(super) struct Kept {
    pub name: RecordName,
    /// Each ConfigMap that is there; those that are pieces with the request that they are of.
    pub objects: BTreeMap<RecordName, (Uid, Option<DeployId>)>,
    /// Of the progress, where there is one.
    pub version: Option<String>,
    /// As the progress was last seen or written.
    pub text: String,
    /// Pieces that are not known to be there yet.
    pieces_due: BTreeMap<RecordName, PieceDue>,
    /// Requests whose pieces could not be written in time: their models have failed, and those of later ones do.
    given_up: BTreeSet<DeployId>,
    changed: Revision,
    /// Somebody waits for this one.
    wanted: Revision,
    written: Revision,
    in_flight: Option<Write>,
    /// One of which no answer came: it may have been done, which is asked before the next one.
    unanswered: Option<Write>,
    asking: bool,
    /// How many of the run's requests the progress in the cluster names: those that were whole. Models are numbered through them.
    pub named: usize,
    not_before: Option<Instant>,
    failures: u32,
    /// Of a run that is over; of one that goes on it is derived from the simulation.
    pub over: Option<Progress>,
    /// It is being deleted.
    pub goes: bool,
}

struct PieceDue {
    deploy: DeployId,
    asked_at: Instant,
    /// A try of which no answer came may have worked.
    may_be_there: bool,
}

struct Write {
    revision: Revision,
    text: String,
    named: usize,
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
            asking: false,
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
        self.objects.insert(record.name.clone(), (record.uid.clone(), deploy));
    }

    /// How many of these requests, from the first one on, are in the cluster with all their pieces.
    fn whole(&self, deploys: &[DeployId]) -> usize {
        let is_whole =
            |deploy: &&DeployId| !self.given_up.contains(*deploy) && self.pieces_due.values().all(|piece| piece.deploy != **deploy);
        deploys.iter().take_while(is_whole).count()
    }

    pub(super) fn has_piece_due(&self) -> bool {
        !self.pieces_due.is_empty()
    }

    pub(super) fn is_written(&self) -> bool {
        self.written == self.changed
    }
}

impl Orchestrator {
    /// The request's pieces go out; when they are whole, the progress that names it.
    pub(super) fn record_request(&mut self, request: &DeployRequest, now: Now) {
        let id = &request.simulation;
        if !self.keeps_records {
            return;
        }
        let name = RecordName::of_progress(&self.simulator, id);
        let kept = self.records.entry(id.clone()).or_insert_with(|| Kept::new(name));
        if kept.over.take().is_some() {
            kept.named = 0;
            kept.given_up.clear();
        }
        for piece in NewRecord::pieces(&self.simulator, request) {
            if !kept.objects.contains_key(&piece.name) {
                let due = PieceDue { deploy: request.id.clone(), asked_at: now.instant, may_be_there: false };
                kept.pieces_due.insert(piece.name.clone(), due);
                self.commands.push_back(Command::Record { call: RecordCall::Create(Arc::new(piece)), attempt: 0 });
            }
        }
        self.fact_waited_for(id);
    }

    /// A fact of this simulation has changed. It is written soon.
    pub(super) fn fact(&mut self, id: &SimulationId) {
        if let Some(kept) = self.records.get_mut(id) {
            kept.changed += 1;
            self.touched_records.insert(id.clone());
        }
    }

    /// The same, and something waits for it to be written: see [`Self::is_recorded`].
    pub(super) fn fact_waited_for(&mut self, id: &SimulationId) -> Revision {
        self.fact(id);
        self.records.get_mut(id).map_or(0, |kept| {
            kept.wanted = kept.changed;
            kept.changed
        })
    }

    pub(super) fn is_recorded(&self, id: &SimulationId, revision: Revision) -> bool {
        self.records.get(id).is_none_or(|kept| kept.written >= revision)
    }

    /// A restart would find what was asked for.
    pub(super) fn is_request_recorded(&self, id: &SimulationId, deploy: &DeployId) -> bool {
        let named = |simulation: &Simulation, kept: &Kept| simulation.deploys.iter().take(kept.named).any(|named| named == deploy);
        self.simulations.get(id).zip(self.records.get(id)).is_none_or(|(simulation, kept)| named(simulation, kept))
    }

    /// Nothing that a restart would have to know is missing in the cluster.
    pub(super) fn is_all_recorded(&self, id: &SimulationId) -> bool {
        self.records.get(id).is_none_or(Kept::is_written)
    }

    pub(super) fn settle_record(&mut self, id: &SimulationId, now: Now) {
        let is_free = |kept: &&Kept| kept.in_flight.is_none() && !kept.asking && !kept.goes;
        let Some(kept) = self.records.get(id).filter(|kept| is_free(kept) && !kept.is_written()) else { return };
        let waits = kept.failures > 0 || kept.wanted <= kept.written;
        if let Some(at) = kept.not_before.filter(|&at| waits && now.instant < at) {
            return self.deadlines.set(at, Deadline::RecordIsDue(id.clone()));
        }
        if kept.unanswered.is_some() {
            return self.ask_for_progress(id);
        }
        let progress = match (self.simulations.get(id), &kept.over) {
            (Some(simulation), _) => {
                let mut progress = simulation.progress();
                progress.deploys.truncate(kept.whole(&simulation.deploys));
                progress
            }
            (None, Some(progress)) => progress.clone(),
            (None, None) => return,
        };
        if progress.deploys.is_empty() && self.simulations.contains_key(id) {
            return; // its first piece is awaited
        }
        let text = progress.to_text();
        let Some(kept) = self.records.get_mut(id) else { return };
        kept.in_flight = Some(Write { revision: kept.changed, text: text.clone(), named: progress.deploys.len() });
        let name = kept.name.clone();
        let call = match kept.version.clone() {
            Some(version) => RecordCall::Update { name, version, text },
            None => RecordCall::Create(Arc::new(NewRecord { name, simulation: id.clone(), content: Content::Progress { text } })),
        };
        self.commands.push_back(Command::Record { call, attempt: 0 });
    }

    fn ask_for_progress(&mut self, id: &SimulationId) {
        let Some(kept) = self.records.get_mut(id) else { return };
        kept.asking = true;
        let call = RecordCall::Get(kept.name.clone());
        self.commands.push_back(Command::Record { call, attempt: 0 });
    }

    pub(super) fn on_record(&mut self, outcome: RecordOutcome, now: Now) {
        let RecordOutcome { call, attempt, result } = outcome;
        let name = match &call {
            RecordCall::Create(record) => &record.name,
            RecordCall::Get(name) | RecordCall::Update { name, .. } | RecordCall::Delete { name, .. } => name,
        };
        let of = |(_, kept): &(&SimulationId, &Kept)| kept.name == *name || name.as_str().starts_with(&format!("{}-", kept.name));
        let Some(id) = self.records.iter().find(of).map(|(id, _)| id.clone()) else { return };
        let name = name.clone();
        match (result, call) {
            (Ok(RecordAnswer::Done), _) => self.on_record_deleted(&id, &name, now),
            (Ok(RecordAnswer::Record(record)), RecordCall::Get(_)) => self.judge_record(&id, &record, now),
            (Ok(RecordAnswer::Record(record)), _) => self.on_record_written(&id, &record, now),
            (Err(error), RecordCall::Delete { .. }) if error.is_not_found() || error.is_conflict() => {
                self.on_record_deleted(&id, &name, now)
            }
            (Err(error), call) => self.on_record_failed(&id, call, attempt, &error, now),
        }
    }

    fn on_record_written(&mut self, id: &SimulationId, record: &Record, now: Now) {
        let Some(kept) = self.records.get_mut(id) else { return };
        kept.note(record);
        if kept.pieces_due.remove(&record.name).is_some() {
            self.fact_waited_for(id);
        }
        let Some(kept) = self.records.get_mut(id) else { return };
        if matches!(record.content, Content::Progress { .. }) {
            kept.failures = 0;
            kept.unanswered = None;
            kept.not_before = Some(now.instant + WRITE_PAUSE);
            if let Some(write) = kept.in_flight.take() {
                kept.written = write.revision;
                kept.named = write.named;
            }
            self.handle_held_requests = true;
            self.discard_old_pieces(id);
            if self.ended.contains_key(id) {
                self.touch_pods_of(id);
            }
            self.touched_records.insert(id.clone());
        }
        self.touched.insert(id.clone());
    }

    /// Somebody has the name, or has changed it since: is it what we wrote?
    fn judge_record(&mut self, id: &SimulationId, record: &Record, now: Now) {
        let Some(kept) = self.records.get_mut(id) else { return };
        let Content::Progress { text } = &record.content else { return self.on_record_written(id, record, now) };
        kept.asking = false;
        match kept.unanswered.take() {
            Some(write) if write.text == *text => {
                kept.in_flight = Some(write);
                self.on_record_written(id, record, now);
            }
            // Somebody labelled it, say.
            _ if kept.text == *text => {
                kept.note(record);
                self.touched_records.insert(id.clone());
            }
            _ => {
                let text = format!(
                    "The record {} of simulation {id} was changed by somebody else: a second service serves the same simulator. Ending.",
                    record.name
                );
                self.commands.push_back(Command::Halt(text));
            }
        }
    }

    fn on_record_failed(&mut self, id: &SimulationId, call: RecordCall, attempt: u32, error: &Error, now: Now) {
        let refusal = refusal(error);
        if refusal.reason == Reason::Forbidden {
            return self.keep_no_records(error);
        }
        let is_progress = matches!(&call, RecordCall::Update { .. })
            || matches!(&call, RecordCall::Create(record) if matches!(record.content, Content::Progress { .. }));
        match (&call, error) {
            (RecordCall::Update { name, .. }, error) if error.is_not_found() => {
                self.say(Level::Warn, format!("The record {name} of simulation {id} was deleted: it is written anew."));
                if let Some(kept) = self.records.get_mut(id) {
                    kept.version = None;
                    kept.objects.remove(name);
                    kept.in_flight = None;
                    self.touched_records.insert(id.clone());
                }
                return;
            }
            (RecordCall::Update { name, .. }, error) if error.is_conflict() => {
                if let Some(kept) = self.records.get_mut(id).filter(|kept| kept.name == *name) {
                    kept.in_flight = None;
                }
                return self.ask_for_progress(id);
            }
            (RecordCall::Get(name), error) if error.is_not_found() => {
                // What had the name is gone, or nothing had it: it is written anew.
                if let Some(kept) = self.records.get_mut(id).filter(|kept| kept.name == *name) {
                    (kept.version, kept.unanswered, kept.asking) = (None, None, false);
                    self.touched_records.insert(id.clone());
                    return;
                }
                let due = self.records.get(id).and_then(|kept| kept.pieces_due.get(name));
                if let Some(deploy) = due.map(|piece| piece.deploy.clone()) {
                    let why = Verdict::failed_without_code("RecordDeleted", "a part of the record was deleted while it was written");
                    return self.fail_unrecorded(id, &deploy, &why);
                }
            }
            (RecordCall::Create(_), _) if is_progress && refusal.remedy == Remedy::AskWhoHasTheName => {
                if let Some(kept) = self.records.get_mut(id) {
                    kept.in_flight = None;
                }
                return self.ask_for_progress(id);
            }
            (RecordCall::Create(record), _) if refusal.remedy == Remedy::AskWhoHasTheName => {
                let call = RecordCall::Get(record.name.clone());
                return self.commands.push_back(Command::Record { call, attempt: 0 });
            }
            _ => {}
        }
        let wait = match &refusal.remedy {
            Remedy::HoldAll(pause) | Remedy::HoldCreates(pause) => {
                backoff(pause.base, pause.cap, attempt, &mut self.jitter).max(pause.at_least)
            }
            Remedy::Again(_) | Remedy::AskWhoHasTheName | Remedy::GiveUp => backoff(RETRY_FIRST, RETRY_MAX, attempt, &mut self.jitter),
        };
        let may_be_done = matches!(error, Error::Lost(_) | Error::Unreadable(_)) || error.code().is_some_and(|code| code >= 500);
        let Some(kept) = self.records.get_mut(id) else { return };
        if is_progress {
            // Written anew, with what is known by then.
            let is_news = kept.failures == 0;
            kept.failures += 1;
            kept.unanswered = kept.in_flight.take().filter(|_| may_be_done);
            let wait = backoff(RETRY_FIRST, RETRY_MAX, kept.failures, &mut self.jitter).max(wait.min(RETRY_MAX));
            kept.not_before = Some(now.instant + wait);
            self.deadlines.set(now.instant + wait, Deadline::RecordIsDue(id.clone()));
            if is_news {
                self.say(Level::Warn, format!("The record of simulation {id} cannot be written: {}. Trying again.", refusal.message));
            }
            if let Remedy::HoldAll(Pause { limit: Some(limit), .. }) = refusal.remedy
                && let Some(since) = now.instant.checked_sub(limit)
            {
                self.give_up_held(&refusal, Some(limit), since, now);
            }
            return;
        }
        if let RecordCall::Create(piece) = &call
            && let Some(due) = kept.pieces_due.get_mut(&piece.name)
        {
            due.may_be_there |= may_be_done;
            let (deploy, since, may_be_there) = (due.deploy.clone(), due.asked_at, due.may_be_there);
            let limit = match &refusal.remedy {
                Remedy::HoldAll(pause) | Remedy::HoldCreates(pause) => pause.limit,
                Remedy::GiveUp => Some(Duration::ZERO),
                Remedy::Again(_) | Remedy::AskWhoHasTheName => Some(DENIED_LIMIT),
            };
            if limit.is_some_and(|limit| now.instant.saturating_duration_since(since) >= limit) {
                if !may_be_there {
                    kept.pieces_due.remove(&piece.name);
                }
                self.fail_unrecorded(id, &deploy, &verdict(&refusal));
                if !may_be_there {
                    return;
                }
            }
        }
        if attempt == 0 {
            self.say(Level::Warn, format!("A part of the record of simulation {id} cannot be written: {}. Trying again.", refusal.message));
        }
        self.record_calls_later.push((now.instant + wait, call, attempt + 1));
        self.deadlines.set(now.instant + wait, Deadline::RecordCallIsDue);
    }

    /// Those that wait by themselves and are due.
    pub(super) fn call_records_again(&mut self, now: Now) {
        let (due, later): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.record_calls_later).into_iter().partition(|(at, ..)| *at <= now.instant);
        self.commands.extend(due.into_iter().map(|(_, call, attempt)| Command::Record { call, attempt }));
        self.record_calls_later = later;
        if let Some(next) = self.record_calls_later.iter().map(|(at, ..)| *at).min() {
            self.deadlines.set(next, Deadline::RecordCallIsDue);
        }
    }

    /// We may not: from here on nothing waits for a record, and what there is to know stands on the pods.
    pub(super) fn keep_no_records(&mut self, error: &Error) {
        if !self.keeps_records {
            return;
        }
        self.keeps_records = false;
        let text = format!(
            "ConfigMaps may not be read and written: {error}. Simulations that run now are not known after a restart of this service; \
             allow get, list, create, patch and delete on configmaps to keep them."
        );
        self.say(Level::Warn, text);
        for (id, _) in std::mem::take(&mut self.records).into_iter().filter(|(_, kept)| kept.goes) {
            self.ended.remove(&id);
        }
        self.touched.extend(self.simulations.keys().cloned());
        self.touched_pods.extend(self.pods.keys().cloned());
        self.handle_held_requests = true;
    }

    /// Its pieces could not be kept, and without them no pod is made.
    fn fail_unrecorded(&mut self, id: &SimulationId, deploy: &DeployId, verdict: &Verdict) {
        let Some(simulation) = self.simulations.get(id) else { return };
        // The progress names requests in order: without this one it cannot name those after it.
        let unnamed: Vec<DeployId> = simulation.deploys.iter().skip_while(|of| *of != deploy).cloned().collect();
        let of_unnamed = |model: &&Model| unnamed.contains(&model.pod.deploy);
        let models: Vec<_> = simulation.models.values().filter(of_unnamed).map(|model| model.pod.model.clone()).collect();
        if let Some(kept) = self.records.get_mut(id) {
            kept.given_up.extend(unnamed);
        }
        for model in models {
            self.conclude(id, &model, verdict.clone(), Tell::Now);
        }
    }

    /// Of a request that comes after one that could not be recorded.
    pub(super) fn fail_behind_unrecorded(&mut self, id: &SimulationId) {
        let (Some(simulation), Some(kept)) = (self.simulations.get(id), self.records.get(id)) else { return };
        let Some(earliest) = simulation.deploys.iter().find(|deploy| kept.given_up.contains(*deploy)).cloned() else { return };
        let verdict = Verdict::failed_without_code("Unrecorded", "an earlier request for this simulation could not be recorded");
        self.fail_unrecorded(id, &earliest, &verdict);
    }

    /// Those of the run before are not needed once the progress of this one is there.
    fn discard_old_pieces(&mut self, id: &SimulationId) {
        let (Some(simulation), Some(kept)) = (self.simulations.get(id), self.records.get(id)) else { return };
        let is_old = |deploy: &Option<DeployId>| deploy.as_ref().is_some_and(|deploy| !simulation.deploys.contains(deploy));
        let old = kept.objects.iter().filter(|(_, (_, deploy))| is_old(deploy));
        let calls: Vec<_> = old.map(|(name, (uid, _))| RecordCall::Delete { name: name.clone(), uid: uid.clone() }).collect();
        self.commands.extend(calls.into_iter().map(|call| Command::Record { call, attempt: 0 }));
    }

    /// Pieces first: a progress without them says what it is, and pieces without a progress look like a request.
    pub(super) fn delete_record(&mut self, id: &SimulationId, now: Now) {
        let Some(kept) = self.records.get_mut(id) else { return };
        if !kept.pieces_due.is_empty() {
            return self.deadlines.set(now.instant + RETRY_MAX, Deadline::EndIsForgotten(id.clone()));
        }
        kept.goes = true;
        let is_alone = kept.objects.len() == 1;
        let next = kept.objects.iter().filter(|(_, (_, deploy))| deploy.is_some() || is_alone);
        let calls: Vec<_> = next.map(|(name, (uid, _))| RecordCall::Delete { name: name.clone(), uid: uid.clone() }).collect();
        if calls.is_empty() {
            self.records.remove(id);
            self.ended.remove(id);
        }
        self.commands.extend(calls.into_iter().map(|call| Command::Record { call, attempt: 0 }));
    }

    fn on_record_deleted(&mut self, id: &SimulationId, name: &RecordName, now: Now) {
        let Some(kept) = self.records.get_mut(id) else { return };
        kept.objects.remove(name);
        let only_progress_is_left = kept.objects.len() <= 1;
        if kept.goes && only_progress_is_left {
            self.delete_record(id, now);
        }
        self.handle_held_requests = true;
    }
}

impl Simulation {
    /// What its record is to say.
    pub(super) fn progress(&self) -> Progress {
        let numbers = |is: &dyn Fn(&Model) -> bool| self.models.values().filter(|model| is(model)).map(|model| model.number).collect();
        let codes = self.models.values().filter_map(|model| Some((model.number, model.verdict.as_ref()?.exit_code)));
        Progress {
            deploys: self.deploys.clone(),
            earlier_deploys: self.earlier_deploys.iter().cloned().collect::<BTreeSet<_>>().into_iter().collect(),
            created: numbers(&|model| model.has_or_had_pod()),
            ready: numbers(&|model| model.ready),
            ended: codes.collect(),
            told: numbers(&|model| model.told),
            models_ready: self.models_ready,
            over_at: None,
        }
    }
}
