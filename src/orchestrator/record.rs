//! When a simulation's record is written, and what waits for it. What it says is derived from the facts at the moment of the write, so that
//! whatever changed meanwhile goes with the next one.

use std::sync::Arc;
use std::time::{Duration, Instant};

use log::Level;

use super::deadline::Deadline;
use super::deploy::verdict;
use super::event::{Command, DeployRequest, RecordAnswer, RecordCall, RecordOutcome};
use super::kept::{Kept, PieceDue, ProgressCall, Revision, Trouble, Write, doom_pieces};
use super::pod_state::Verdict;
use super::refusal::{Reason, Remedy, refusal};
use super::retention::KnownPod;
use super::simulation::{Creation, Model, Simulation};
use super::{Orchestrator, Tell};
use crate::clock::Now;
use crate::ids::{DeployId, RecordName, SimulationId, TopicSegment};
use crate::kube::error::Error;
use crate::kube::record::{Content, NewRecord, Progress, Record};

/// Facts that nobody waits for are written in company.
const WRITE_PAUSE: Duration = Duration::from_secs(1);
/// A record goes when nothing of it is under way any more.
const GOES_AGAIN: Duration = Duration::from_secs(30);

impl Orchestrator {
    /// The request's pieces go out; when they are whole, the progress that names it.
    pub(super) fn record_request(&mut self, request: &DeployRequest, now: Now) {
        let id = &request.simulation;
        // A run that goes on without a record has none that would name its earlier requests: it goes on by what stands on its pods.
        let goes_on = self.simulations.get(id).is_some_and(|simulation| !simulation.deploys.is_empty());
        if !self.keeps_records || (goes_on && !self.records.contains_key(id)) {
            return;
        }
        let (name, asked_at) = (RecordName::of_progress(&self.simulator, id), self.server_time(now));
        let kept = self.records.entry(id.clone()).or_insert_with(|| Kept::new(name));
        if kept.over.take().is_some() {
            kept.named = 0;
            kept.given_up.clear();
            // An acknowledgement waits for the progress that says so: until then it says that this very request is over, perhaps.
            kept.changed += 1;
        }
        let mut missing = NewRecord::pieces(&self.simulator, request, asked_at);
        missing.retain(|piece| !kept.objects.contains_key(&piece.name));
        if missing.is_empty() {
            self.fact_waited_for(id);
            return;
        }
        for piece in missing {
            let due = PieceDue {
                deploy: request.id.clone(),
                asked_at: now.instant,
                in_flight: false,
                may_be_there: false,
                refused: None,
                piece: Arc::new(piece),
            };
            kept.pieces_due.insert(due.piece.name.clone(), due);
        }
        self.touched_records.insert(id.clone());
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
        self.want_recorded(id)
    }

    /// Something waits for all facts so far to be written.
    pub(super) fn want_recorded(&mut self, id: &SimulationId) -> Revision {
        let Some(kept) = self.records.get_mut(id) else { return 0 };
        kept.wanted = kept.changed;
        self.touched_records.insert(id.clone());
        kept.changed
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
        let next = [self.create_pieces(id, now), self.write_progress(id, now), self.delete_doomed(id, now)];
        if let Some(at) = next.into_iter().flatten().min() {
            self.deadlines.set(at, Deadline::RecordIsDue(id.clone()));
        }
    }

    /// One after the other: the records of other simulations are not to wait behind a large request. When to look again.
    fn create_pieces(&mut self, id: &SimulationId, now: Now) -> Option<Instant> {
        let kept = self.records.get_mut(id)?;
        if kept.pieces_due.values().any(|due| due.in_flight) {
            return None;
        }
        let Some((name, due)) = kept.pieces_due.iter_mut().next() else {
            kept.piece_trouble = Trouble::default();
            return None;
        };
        let later = kept.piece_trouble.waits_until(now.instant);
        if later.is_none() {
            due.in_flight = true;
            let call = if due.refused.is_some() { RecordCall::Get(name.clone()) } else { RecordCall::Create(due.piece.clone()) };
            self.commands.push_back(Command::Record { simulation: id.clone(), call });
        }
        later
    }

    /// When to look again.
    fn delete_doomed(&mut self, id: &SimulationId, now: Now) -> Option<Instant> {
        let kept = self.records.get_mut(id)?;
        let later = kept.delete_trouble.waits_until(now.instant);
        for (name, object) in kept.objects.iter_mut().filter(|(_, object)| object.is_doomed && !object.in_flight) {
            if later.is_some() {
                return later;
            }
            object.in_flight = true;
            let call = RecordCall::Delete { name: name.clone(), uid: object.uid.clone() };
            self.commands.push_back(Command::Record { simulation: id.clone(), call });
        }
        None
    }

    /// When to look again.
    fn write_progress(&mut self, id: &SimulationId, now: Now) -> Option<Instant> {
        let is_free = |kept: &&Kept| kept.in_flight.is_none() && !kept.goes;
        let kept = self.records.get(id).filter(|kept| is_free(kept) && !kept.is_written())?;
        let waits_for_company = !kept.is_waited_for() && !self.stopping;
        let company = kept.written_at.map(|at| at + WRITE_PAUSE).filter(|&at| waits_for_company && now.instant < at);
        if let Some(at) = company.max(kept.write_trouble.waits_until(now.instant)) {
            return Some(at);
        }
        if kept.is_unanswered {
            self.ask_for_progress(id);
            return None;
        }
        let progress = match (self.simulations.get(id), &kept.over) {
            (Some(simulation), _) => self.recordable(id, simulation),
            (None, over) => over.clone()?,
        };
        let kept = self.records.get_mut(id)?;
        if progress.deploys.is_empty() {
            // Its first piece is awaited; or none was kept, so that there is nothing to say of it.
            if kept.over.is_some() {
                kept.written = kept.changed;
                self.touch_pods_of(id);
            }
            return None;
        }
        let text = progress.to_text();
        let lost = self.simulations.get(id).map_or(0, |simulation| simulation.lost.len());
        let write = Write { revision: kept.changed, text: text.clone(), named: progress.deploys.len() - lost };
        kept.in_flight = Some(ProgressCall::Write(write));
        let name = kept.name.clone();
        let call = match kept.version.clone() {
            Some(version) => RecordCall::Update { name, version, text },
            None => RecordCall::Create(Arc::new(NewRecord { name, simulation: id.clone(), content: Content::Progress { text } })),
        };
        self.commands.push_back(Command::Record { simulation: id.clone(), call });
        None
    }

    /// What its record can say: of requests that are in the cluster with all their pieces.
    pub(super) fn recordable(&self, id: &SimulationId, simulation: &Simulation) -> Progress {
        let mut progress = simulation.progress();
        // They have the names of its own: the same request names the same pods.
        let named = simulation.models.values().filter_map(|model| self.pods.get(&model.pod.name));
        let is_mistakable = |known: &&KnownPod| {
            known.replaced && !known.gone && known.deploy.as_ref().is_some_and(|deploy| simulation.deploys.contains(deploy))
        };
        progress.replaced = named.filter(is_mistakable).map(|known| known.uid.clone()).collect();
        if let Some(kept) = self.records.get(id) {
            progress.deploys.truncate(kept.whole(&simulation.deploys));
        }
        progress.deploys.extend_from_slice(&simulation.lost);
        progress
    }

    fn ask_for_progress(&mut self, id: &SimulationId) {
        let Some(kept) = self.records.get_mut(id) else { return };
        kept.in_flight = Some(ProgressCall::Get);
        let call = RecordCall::Get(kept.name.clone());
        self.commands.push_back(Command::Record { simulation: id.clone(), call });
    }

    pub(super) fn on_record(&mut self, outcome: RecordOutcome, now: Now) {
        let RecordOutcome { simulation: id, call, result } = outcome;
        let is_of_progress = self.records.get(&id).is_some_and(|kept| kept.name == *call.name());
        match (&call, &result) {
            (_, Err(error)) if self.is_forbidden_for_good(&id, &call, error, now) => self.keep_no_records(error),
            (_, Ok(RecordAnswer::Done)) => self.on_object_deleted(&id, call.name(), now),
            (RecordCall::Delete { name, .. }, Err(error)) => self.on_delete_failed(&id, name, error, now),
            (RecordCall::Get(_), Ok(RecordAnswer::Record(record))) if is_of_progress => self.judge_progress(&id, record, now),
            (_, Ok(RecordAnswer::Record(record))) if is_of_progress => self.on_progress_written(&id, record, now),
            (_, Ok(RecordAnswer::Record(record))) => self.on_piece_kept(&id, record),
            (_, Err(error)) if is_of_progress => self.on_progress_failed(&id, &call, error, now),
            (_, Err(error)) => self.on_piece_failed(&id, &call, error, now),
        }
        self.touched.insert(id.clone());
        self.touched_records.insert(id);
    }

    /// An API server that has just begun knows no Roles, and a Role may be applied anew.
    fn is_forbidden_for_good(&self, id: &SimulationId, call: &RecordCall, error: &Error, now: Now) -> bool {
        let refusal = refusal(error);
        let trouble = self.records.get(id).map(|kept| kept.trouble_of(call));
        let is_overdue = |trouble: &Trouble| trouble.is_overdue(&refusal, &self.limits, trouble.since(now.instant), now.instant);
        refusal.reason == Reason::Forbidden && trouble.is_some_and(is_overdue)
    }

    fn on_piece_kept(&mut self, id: &SimulationId, piece: &Record) {
        let Some(kept) = self.records.get_mut(id) else { return };
        kept.note(piece);
        kept.pieces_due.remove(&piece.name);
        kept.doom_given_up();
        if kept.piece_trouble.end() {
            self.say(Level::Info, format!("The parts of the record of simulation {id} can be written again."));
        }
        self.fact_waited_for(id);
    }

    fn on_progress_written(&mut self, id: &SimulationId, record: &Record, now: Now) {
        let Some(kept) = self.records.get_mut(id) else { return };
        kept.note(record);
        let was_said = kept.write_trouble.end();
        kept.written_at = Some(now.instant);
        kept.is_unanswered = false;
        kept.doubtful.clear();
        if let Some(ProgressCall::Write(write)) = kept.in_flight.take() {
            kept.written = write.revision;
            kept.named = write.named;
        }
        if kept.is_written() && kept.over.as_ref().is_some_and(|progress| progress.over.is_some()) {
            // Of what is over nobody wants to know what was asked for, and it may be 6 MB.
            doom_pieces(&mut kept.objects, |_| true);
        }
        if was_said {
            self.say(Level::Info, format!("The record of simulation {id} is written again."));
        }
        self.handle_held_requests = true;
        self.doom_old_pieces(id);
        if self.ended.contains_key(id) {
            self.touch_pods_of(id);
        }
        self.touch_replaced_pods_of(id);
        self.touched.insert(id.clone());
    }

    /// Somebody has the name, or has changed it since: is it what we wrote?
    fn judge_progress(&mut self, id: &SimulationId, record: &Record, now: Now) {
        let (Some(kept), Content::Progress { text }) = (self.records.get_mut(id), &record.content) else { return };
        kept.is_unanswered = false;
        if let Some(done) = kept.doubtful.iter().position(|write| write.text == *text) {
            kept.in_flight = Some(ProgressCall::Write(kept.doubtful.remove(done)));
            self.on_progress_written(id, record, now);
        } else if kept.text == *text {
            // Somebody labelled it, say.
            kept.in_flight = None;
            kept.note(record);
        } else {
            let text = format!(
                "The record {} of simulation {id} was changed by somebody else: a second service serves the same simulator. Ending.",
                record.name
            );
            self.commands.push_back(Command::Halt(text));
        }
    }

    fn on_progress_failed(&mut self, id: &SimulationId, call: &RecordCall, error: &Error, now: Now) {
        let refusal = refusal(error);
        let Some(kept) = self.records.get_mut(id) else { return };
        let in_flight = kept.in_flight.take();
        if error.is_not_found() && !matches!(call, RecordCall::Create(_)) {
            // Or nothing ever had the name.
            kept.is_unanswered = false;
            kept.objects.remove(call.name());
            if kept.version.take().is_some() {
                self.say(Level::Warn, format!("The record {} of simulation {id} was deleted: it is written anew.", call.name()));
            }
            return;
        }
        let is_taken = refusal.remedy == Remedy::AskWhoHasTheName;
        if let Some(ProgressCall::Write(write)) = in_flight
            && (is_taken || error.may_be_done())
        {
            kept.is_unanswered = true;
            kept.doubt(write);
        }
        if is_taken {
            return self.ask_for_progress(id);
        }
        // Written anew, with what is known by then.
        kept.write_trouble.go_on(&refusal, &mut self.jitter, now.instant);
        let since = kept.write_trouble.since(now.instant);
        let is_waited_for = kept.is_waited_for();
        let level = kept.write_trouble.is_to_be_said(is_waited_for, now.instant);
        let is_refused = matches!(call, RecordCall::Create(_)) && refusal.remedy == Remedy::GiveUp;
        let is_overdue = kept.write_trouble.is_overdue(&refusal, &self.limits, since, now.instant);
        let named = kept.named;
        if let Some(level) = level {
            let waits = if is_waited_for { "; what is to be told or acknowledged waits" } else { "" };
            self.say(level, format!("The record of simulation {id} cannot be written: {}. Trying again{waits}.", refusal.message));
        }
        if is_refused || is_overdue {
            let unnamed = self.simulations.get(id).and_then(|simulation| simulation.deploys.get(named)).cloned();
            if let Some(deploy) = unnamed {
                self.fail_unrecorded(id, &deploy, &verdict(&refusal));
            }
        }
        self.give_up_held(&refusal, Some(id), since, now);
    }

    fn on_piece_failed(&mut self, id: &SimulationId, call: &RecordCall, error: &Error, now: Now) {
        let refusal = refusal(error);
        let Some(kept) = self.records.get_mut(id) else { return };
        let Some(due) = kept.pieces_due.get_mut(call.name()) else { return };
        let is_create = matches!(call, RecordCall::Create(_));
        if is_create && refusal.remedy == Remedy::AskWhoHasTheName {
            let call = RecordCall::Get(call.name().clone());
            return self.commands.push_back(Command::Record { simulation: id.clone(), call });
        }
        due.in_flight = false;
        due.may_be_there = (due.may_be_there || error.may_be_done()) && !error.is_not_found();
        kept.piece_trouble.go_on(&refusal, &mut self.jitter, now.instant);
        let is_overdue = kept.piece_trouble.is_overdue(&refusal, &self.limits, due.asked_at, now.instant);
        let is_refused = is_create && refusal.remedy == Remedy::GiveUp;
        if is_refused || is_overdue || kept.given_up.contains(&due.deploy) {
            due.refused.get_or_insert_with(|| verdict(&refusal));
        }
        let (may_be_there, deploy) = (due.may_be_there, due.deploy.clone());
        let Some(verdict) = due.refused.clone() else {
            if let Some(level) = kept.piece_trouble.is_to_be_said(true, now.instant) {
                let problem = &refusal.message;
                let text =
                    format!("A part of the record of simulation {id} cannot be written: {problem}. Trying again; its request waits.");
                self.say(level, text);
            }
            return;
        };
        if !may_be_there {
            kept.pieces_due.remove(call.name());
        }
        // Whether it is there is asked first, but not waited for any longer than for the piece.
        if !may_be_there || is_overdue {
            self.fail_unrecorded(id, &deploy, &verdict);
        }
        if is_overdue {
            self.tell_what_may_be_found(id, now);
        }
    }

    /// We may not: from here on nothing waits for a record, and what there is to know stands on the pods.
    pub(super) fn keep_no_records(&mut self, error: &Error) {
        if !self.keeps_records {
            return;
        }
        self.keeps_records = false;
        let text = format!(
            "ConfigMaps may not be read and written: {error}. What is in them from before is left as it is. A restart of this service fails \
             each simulation of now whose models are not all ready or have lost a pod, and tells ends again; allow get, list, create, patch \
             and delete on configmaps, and restart: from there on nothing is lost."
        );
        self.say(Level::Warn, text);
        for (id, _) in std::mem::take(&mut self.records).into_iter().filter(|(_, kept)| kept.goes) {
            self.ended.remove(&id);
        }
        let models = self.simulations.values_mut().flat_map(|simulation| simulation.models.values_mut());
        for model in models.filter(|model| model.creation == Creation::WaitsForRecord) {
            Arc::make_mut(&mut model.pod).is_recorded = false;
        }
        self.touched.extend(self.simulations.keys().cloned());
        self.touched_pods.extend(self.pods.keys().cloned());
        self.handle_held_requests = true;
    }

    /// This request and those after it could not be recorded, so that no pod is made of them: nor by the next process.
    fn fail_unrecorded(&mut self, id: &SimulationId, deploy: &DeployId, verdict: &Verdict) {
        let Some(simulation) = self.simulations.get(id) else { return };
        // The progress names requests in order: without this one it cannot name those after it.
        let unnamed: Vec<DeployId> = simulation.deploys.iter().skip_while(|of| *of != deploy).cloned().collect();
        let of_unnamed = |model: &&Model| unnamed.contains(&model.pod.deploy);
        let models: Vec<_> = simulation.models.values().filter(of_unnamed).map(|model| model.pod.model.clone()).collect();
        if let Some(kept) = self.records.get_mut(id) {
            kept.given_up.extend(unnamed);
            kept.doom_given_up();
            self.touched_records.insert(id.clone());
        }
        for model in models {
            self.conclude(id, &model, verdict.clone(), Tell::WhenForgotten);
            // One that was ended before waits for a record that there will not be.
            if let Some(simulation) = self.simulations.get_mut(id)
                && let Some(revision) = simulation.untold.get_mut(&model)
            {
                *revision = 0;
                simulation.untold_until_forgotten.insert(model);
            }
        }
    }

    /// Whether anything is left of what was given up cannot be found out: of what is so old a next process begins only what a progress
    /// names, one that was written without an answer.
    fn tell_what_may_be_found(&mut self, id: &SimulationId, now: Now) {
        let Some(simulation) = self.simulations.get_mut(id) else { return };
        let Simulation { models, untold_until_forgotten, .. } = simulation;
        let Some(limit) = self.limits.api else { return };
        let is_old = |model: &Model| now.instant.saturating_duration_since(model.asked_at) >= limit;
        untold_until_forgotten.retain(|model| !models.get(model).is_some_and(is_old));
    }

    /// Of a request that comes after one that could not be recorded.
    pub(super) fn fail_behind_unrecorded(&mut self, id: &SimulationId) {
        let (Some(simulation), Some(kept)) = (self.simulations.get(id), self.records.get(id)) else { return };
        let Some(earliest) = simulation.deploys.iter().find(|deploy| kept.given_up.contains(*deploy)).cloned() else { return };
        let verdict = Verdict::failed_without_code("Unrecorded", "an earlier request for this simulation could not be recorded");
        self.fail_unrecorded(id, &earliest, &verdict);
    }

    /// Those of the run before are not needed once the progress of this one is there.
    fn doom_old_pieces(&mut self, id: &SimulationId) {
        let (Some(simulation), Some(kept)) = (self.simulations.get(id), self.records.get_mut(id)) else { return };
        doom_pieces(&mut kept.objects, |deploy| !simulation.deploys.contains(deploy));
    }

    /// Pieces first: a progress without them says what it is, and pieces without a progress look like a request.
    pub(super) fn delete_record(&mut self, id: &SimulationId, now: Now) {
        let Some(kept) = self.records.get_mut(id) else { return };
        if !kept.has_all_pieces() || kept.in_flight.is_some() || kept.is_unanswered {
            return self.deadlines.set(now.instant + GOES_AGAIN, Deadline::EndIsForgotten(id.clone()));
        }
        if kept.objects.is_empty() {
            self.records.remove(id);
            self.ended.remove(id);
            return;
        }
        kept.goes = true;
        doom_pieces(&mut kept.objects, |_| true);
        if kept.objects.values().all(|object| object.deploy.is_none()) {
            kept.objects.values_mut().for_each(|progress| progress.is_doomed = true);
        }
        self.touched_records.insert(id.clone());
    }

    fn on_object_deleted(&mut self, id: &SimulationId, name: &RecordName, now: Now) {
        let Some(kept) = self.records.get_mut(id) else { return };
        kept.objects.remove(name);
        if kept.delete_trouble.end() {
            self.say(Level::Info, format!("The record of simulation {id} can be deleted again."));
        }
        self.handle_held_requests = true;
        if self.records.get(id).is_some_and(|kept| kept.goes) {
            self.delete_record(id, now);
        }
    }

    fn on_delete_failed(&mut self, id: &SimulationId, name: &RecordName, error: &Error, now: Now) {
        if error.is_not_found() || error.is_conflict() {
            return self.on_object_deleted(id, name, now);
        }
        let Some(kept) = self.records.get_mut(id) else { return };
        let Some(object) = kept.objects.get_mut(name) else { return };
        object.in_flight = false;
        let refusal = refusal(error);
        kept.delete_trouble.go_on(&refusal, &mut self.jitter, now.instant);
        let since = kept.delete_trouble.since(now.instant);
        let is_overdue = kept.delete_trouble.is_overdue(&refusal, &self.limits, since, now.instant);
        let is_waited_for = self.held_requests.iter().any(|held| held.simulation == TopicSegment::from(id));
        if let Some(level) = kept.delete_trouble.is_to_be_said(is_waited_for, now.instant) {
            self.say(level, format!("The record of simulation {id} cannot be deleted: {}. Trying again.", refusal.message));
        }
        if is_overdue {
            self.tell_what_may_be_found(id, now);
        }
        self.give_up_held(&refusal, Some(id), since, now);
    }
}
