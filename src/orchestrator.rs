//! The core: one struct owns what is known of every simulation, and says what to do next.
//!
//! [`Orchestrator::handle`] applies one event to the facts and then settles: what follows from the facts is derived in one place for each
//! kind of thing (a simulation, a pod, a call that waits), from whatever order they came in. It does no I/O, reads no clock, starts
//! nothing and cannot fail. A command is never assumed to have worked: its outcome comes back as an event.
//!
//! - [`event`]: what comes in and goes out
//! - `deploy`: requests, and the creates that they ask for
//! - `held`: requests that wait until it is known what they mean
//! - `announce`: what is told, and what was acknowledged
//! - `done`: models that are not wanted any more
//! - `unheard`: who may have said ready while we did not listen
//! - `retention`: every pod of ours in the cluster, and when it goes
//! - [`pod_state`], [`obstacle`], `refusal`: the tables that read how a pod ended, what holds it up, and a failed create
//! - `pending`: models that do not do their work yet, and how long they may
//! - `recreate`: pods that a node turned away
//! - `labels`: pods that the watch does not show, as somebody took their labels
//! - `words`: a failure for whoever reads the SO's screen
//! - `record`, `kept`, `adopt`: what survives us: when it is written, what the cluster has of it, and how a process begins with what the
//!   one before it left
//! - `marks`: what stands in their place where ConfigMaps are forbidden
//! - `simulation`, `calls`, `deadline`: the facts, the queue of calls, the table of deadlines

pub mod event;
pub mod obstacle;
pub mod pod_state;

mod adopt;
mod announce;
mod calls;
mod deadline;
mod deploy;
pub(crate) mod done;
mod held;
mod kept;
mod labels;
mod marks;
mod pending;
mod record;
mod recreate;
mod refusal;
mod retention;
mod simulation;
mod unheard;
pub(crate) mod words;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::{Duration, Instant};

use log::Level;

use crate::clock::{Now, UnixTime};
use crate::config::{Limits, ReportErrors, Rules};
use crate::ids::{ModelId, PodName, SimulationId, SimulatorName, Uid};
use crate::kube::error::Error;
use crate::kube::pod::NewPod;
use crate::kube::record::Found;
use crate::kube::request::log_tail;
use announce::Told;
use calls::{Calls, Hold, backoff};
use deadline::{Deadline, Deadlines};
use done::CANCELLED;
use event::{BrokerEvent, CallOutcome, Command, CrashLog, Delivery, Event, MessageId, PodCall, PodsEvent, Verb};
use held::{Arrival, Held, Refused, ToldBlindly};
use kept::{Kept, Revision};
use pod_state::{NO_EXIT_CODE, SUCCESS_WITH_A_LOSS, Verdict};
use refusal::{Reason, Remedy, refusal};
use retention::{Ended, KnownPod};
use simulation::{Run, Simulation};

/// A model may say ready before its request is known here; later it is another simulator's.
const READY_KEPT: Duration = Duration::from_secs(60);
/// Each is some 100 bytes; any client of the broker can send them.
const MAX_READIES_KEPT: usize = 100_000;
/// An SO has a clean session: after an outage of the broker it may not have subscribed again yet, and nothing in MQTT 3.1.1 tells.
const SUBSCRIBERS_RETURN: Duration = Duration::from_secs(5);
/// How long the kubelet has to correct a status that it does not know.
const DOUBT: Duration = Duration::from_secs(30);
/// What a person has to mend is said again while it lasts.
const SAID_AGAIN: Duration = Duration::from_secs(5 * 60);
/// A log is worth a few tries, not an endless one: the pod may be gone.
const LOG_ATTEMPTS: u32 = 3;
/// More than this between our clock and the API server's makes dates in logs misleading.
pub const CLOCK_SKEW_SECONDS: f64 = 60.0;

pub struct Orchestrator {
    simulator: SimulatorName,
    limits: Limits,
    report_errors: ReportErrors,
    recreate_never_started: usize,
    simulations: BTreeMap<SimulationId, Simulation>,
    /// Simulations whose end was announced, while their pods are kept and for a while longer.
    ended: BTreeMap<SimulationId, Ended>,
    /// Every pod of ours that the cluster is known to have.
    pods: BTreeMap<PodName, KnownPod>,
    /// Who said ready before their request came.
    readies: BTreeSet<(SimulationId, ModelId)>,
    /// Of what `SimulationDone` came before it was known what it means; and when.
    dones: BTreeMap<(SimulationId, Option<ModelId>), Instant>,
    /// Requests that came before it was known what runs, or while the record that is in their way goes.
    held_requests: Vec<Held>,
    handle_held_requests: bool,
    /// By the message that tells the end of their simulations.
    refused: BTreeMap<MessageId, Vec<Refused>>,
    told_blindly: BTreeMap<SimulationId, ToldBlindly>,
    /// ConfigMaps can be had, as far as we know.
    keeps_records: bool,
    /// What an earlier process left: the records until the first list of pods, and what was not read of them.
    found: Found,
    records: BTreeMap<SimulationId, Kept>,
    /// What came at QoS 1, and is acknowledged when the record of this simulation holds all that is known by now.
    deliveries: Vec<(SimulationId, Option<Revision>, Delivery)>,
    touched_records: BTreeSet<SimulationId>,
    /// Whose acknowledgement by the broker is awaited.
    unacknowledged: BTreeMap<MessageId, (SimulationId, Run, Told)>,
    messages: MessageId,
    runs: Run,
    calls: Calls,
    deadlines: Deadlines,
    broker: Broker,
    api: Api,
    stopping: bool,
    commands: VecDeque<Command>,
    jitter: fastrand::Rng,
    touched: BTreeSet<SimulationId>,
    touched_pods: BTreeSet<PodName>,
}

/// When an end is told. It must not be another one after a restart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Tell {
    /// It stands in the status of the pod, which is kept.
    Now,
    /// It stands nowhere else.
    WhenRecorded,
    /// It will stand nowhere, as its request is given up: a next process is not to find that.
    WhenForgotten,
    /// Nobody can write it, as the API is away. Killed before it can, this process has told what the next one does not know.
    Unrecorded,
}

#[derive(Default)]
struct Broker {
    connected_at: Option<Instant>,
    /// Nothing that waits for subscribers goes out before.
    subscribers_at: Option<Instant>,
    /// Others may have lost their connection with ours, or with that of the process before this one.
    is_known_to_others: bool,
    /// See `unheard`.
    listens_since: Option<Instant>,
}

/// What the service needs to do its work, as far as the core knows of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Readiness {
    /// Connected and subscribed.
    pub broker_connected: bool,
    /// There was a complete list of the pods.
    pub pods_listed: bool,
    /// When list or watch last said anything; none while they fail.
    pub watch_heard_at: Option<Instant>,
}

#[derive(Default)]
struct Api {
    /// How many complete lists there were.
    lists: u64,
    /// The API server's time, and ours when we heard it.
    time: Option<(UnixTime, Instant)>,
    skew_told: bool,
    away_since: Option<Instant>,
    /// See [`Readiness`].
    watch_heard_at: Option<Instant>,
    /// Since when the list or watch is refused.
    refused_since: Option<Instant>,
    refused_said_at: Option<Instant>,
}

impl Orchestrator {
    /// `simulator` is the mark by which a pod is ours; `workers` is how many calls are made at once; the seed is for the jitter of retries.
    pub fn new(simulator: SimulatorName, rules: Rules, workers: usize, seed: u64) -> Self {
        Self {
            simulator,
            limits: rules.limits,
            report_errors: rules.report_errors,
            recreate_never_started: rules.recreate_never_started,
            simulations: BTreeMap::new(),
            ended: BTreeMap::new(),
            pods: BTreeMap::new(),
            readies: BTreeSet::new(),
            dones: BTreeMap::new(),
            held_requests: Vec::new(),
            handle_held_requests: false,
            refused: BTreeMap::new(),
            told_blindly: BTreeMap::new(),
            keeps_records: true,
            found: Found::default(),
            records: BTreeMap::new(),
            deliveries: Vec::new(),
            touched_records: BTreeSet::new(),
            unacknowledged: BTreeMap::new(),
            messages: 0,
            runs: 0,
            calls: Calls::new(workers),
            deadlines: Deadlines::default(),
            broker: Broker::default(),
            api: Api::default(),
            stopping: false,
            commands: VecDeque::new(),
            jitter: fastrand::Rng::with_seed(seed),
            touched: BTreeSet::new(),
            touched_pods: BTreeSet::new(),
        }
    }

    /// Applies one event, then settles. No I/O, no clock, cannot fail.
    pub fn handle(&mut self, event: Event, now: Now) {
        match event {
            Event::Broker(event) => self.on_broker(event, now),
            Event::Pods(event) => self.on_pods(event, now),
            Event::Call(outcome) => self.on_call(outcome, now),
            Event::Record(outcome) => self.on_record(outcome, now),
            Event::LogRead { log, result } => self.on_log_read(log, &result, now),
            Event::EventsRead { question, result } => self.on_events_read(&question, result),
            Event::Timeout => {}
            Event::Stop => {
                self.stopping = true;
                // Nothing waits for company any more.
                self.touched_records.extend(self.records.keys().cloned());
            }
        }
        while let Some(deadline) = self.deadlines.take_expired(now.instant) {
            self.on_deadline(deadline, now);
        }
        self.settle(now);
        self.acknowledge_what_is_recorded();
    }

    /// The next command. Take all of them before waiting.
    pub fn poll_command(&mut self) -> Option<Command> {
        self.commands.pop_front()
    }

    /// When to call `handle(Event::Timeout, _)` next. Early or late is harmless.
    pub fn poll_timeout(&self, now: Now) -> Option<Instant> {
        let calls = if self.stopping { None } else { self.calls.next_deadline(now.instant) };
        [self.deadlines.next(), calls].into_iter().flatten().min()
    }

    /// Nothing is in flight: no call, no message that the broker has not acknowledged, and no fact that is not recorded.
    pub fn is_idle(&self) -> bool {
        self.calls.in_flight() == 0
            && self.unacknowledged.is_empty()
            && self.refused.is_empty()
            && self.records.values().all(Kept::is_at_rest)
    }

    pub fn readiness(&self) -> Readiness {
        Readiness {
            broker_connected: self.broker.connected_at.is_some(),
            pods_listed: self.api.lists > 0,
            watch_heard_at: self.api.watch_heard_at,
        }
    }

    fn on_broker(&mut self, event: BrokerEvent, now: Now) {
        match event {
            BrokerEvent::Connected => {
                self.broker.connected_at = Some(now.instant);
                if self.broker.is_known_to_others {
                    self.broker.subscribers_at = Some(now.instant + SUBSCRIBERS_RETURN);
                }
                self.broker.is_known_to_others = true;
                self.await_readies(now);
                self.touched.extend(self.simulations.keys().cloned());
            }
            BrokerEvent::Disconnected => {
                self.broker.connected_at = None;
                self.forget_deliveries();
                self.touched.extend(self.simulations.keys().cloned());
            }
            BrokerEvent::Published(id) => self.on_published(id, now),
            BrokerEvent::Unsent(id) => self.on_unsent(id),
            BrokerEvent::Doubtful(id) => self.on_doubtful(id),
            BrokerEvent::DeployModels { simulation, request, delivery } => {
                let came = Arrival { at: now.instant, connected_at: self.broker.connected_at, delivery };
                self.on_request(simulation, request, came, now);
            }
            BrokerEvent::ReadyForProcessing { simulation, model, delivery } => {
                self.on_ready(simulation.clone(), model, now);
                if let Some(delivery) = delivery {
                    self.acknowledge_later(&simulation, delivery);
                }
            }
            BrokerEvent::SimulationDone { simulation, model, delivery } => {
                self.on_done(&simulation, model.as_ref(), now);
                if let Some(delivery) = delivery {
                    self.acknowledge_later(&simulation, delivery);
                }
            }
        }
    }

    fn on_ready(&mut self, simulation: SimulationId, model: ModelId, now: Now) {
        if let Some(running) = self.simulations.get_mut(&simulation)
            && running.models.contains_key(&model)
        {
            if running.set_ready(&model) {
                self.say(Level::Debug, format!("Model {simulation}/{model} is ready."));
                self.fact(&simulation);
                self.touched.insert(simulation);
            } else {
                self.say(Level::Debug, format!("Model {simulation}/{model} said ready again, or after it failed: ignored."));
            }
        } else if self.ended.contains_key(&simulation) {
            self.say(Level::Debug, format!("Model {simulation}/{model} said ready after the end of its simulation: ignored."));
        } else if self.readies.len() == MAX_READIES_KEPT {
            let text =
                format!("Model {simulation}/{model} said ready and is not known; {MAX_READIES_KEPT} such are kept already: forgotten.");
            self.say(Level::Warn, text);
        } else {
            self.say(Level::Debug, format!("Model {simulation}/{model} said ready and is not known: kept for a while."));
            self.readies.insert((simulation.clone(), model.clone()));
            self.deadlines.set(now.instant + READY_KEPT, Deadline::ReadyIsForgotten { simulation, model });
        }
    }

    fn on_pods(&mut self, event: PodsEvent, now: Now) {
        self.api.watch_heard_at = if let PodsEvent::Failed(_) = event { None } else { Some(now.instant) };
        match event {
            PodsEvent::Records(found) => self.found = found,
            PodsEvent::RecordsForbidden(error) => self.keep_no_records(&error),
            PodsEvent::Listed(pods) => {
                self.watch_answers(now);
                self.on_listed(&pods, now);
            }
            PodsEvent::Changed(pod) => self.observe(&pod, now),
            PodsEvent::Deleted(pod) => self.on_deleted(&pod),
            PodsEvent::Bookmark => {}
            PodsEvent::ServerTime(time) => {
                self.watch_answers(now);
                self.on_server_time(time, now);
            }
            PodsEvent::Failed(error) => self.on_watch_failed(&error, now),
        }
    }

    fn on_server_time(&mut self, time: UnixTime, now: Now) {
        self.api.time = Some((time, now.instant));
        let skew = now.unix.seconds_since(time);
        if skew.abs() > CLOCK_SKEW_SECONDS && !self.api.skew_told {
            self.api.skew_told = true;
            self.say(
                Level::Warn,
                format!("This machine's clock differs from the API server's by {skew:.0} s; the API server's is used for dates."),
            );
        }
    }

    /// The API server's time, going on from when we last heard it.
    fn server_time(&self, now: Now) -> UnixTime {
        self.api.time.map_or(now.unix, |(time, at)| time.plus_seconds(now.instant.saturating_duration_since(at).as_secs_f64()))
    }

    fn on_watch_failed(&mut self, error: &Error, now: Now) {
        let refusal = refusal(error);
        if let Error::Refused(status) = error
            && status.code < 500
        {
            self.api.refused_since.get_or_insert(now.instant);
            if self.api.refused_said_at.is_none_or(|at| now.instant.saturating_duration_since(at) >= SAID_AGAIN) {
                self.api.refused_said_at = Some(now.instant);
                let level = if refusal.reason == Reason::Throttled { Level::Warn } else { Level::Error };
                self.say(level, format!("The pods cannot be watched: {}. Trying again.", refusal.message));
            }
        } else {
            self.api_is_away(&refusal.message, now);
        }
        if self.api.lists == 0 {
            let since = self.api.away_since.or(self.api.refused_since).unwrap_or(now.instant);
            self.give_up_held(&refusal, None, since, now);
        }
    }

    fn api_is_away(&mut self, why: &str, now: Now) {
        if self.api.away_since.is_none() {
            self.api.away_since = Some(now.instant);
            self.say(Level::Warn, format!("The Kubernetes API is away: {why}. Trying again until it answers."));
        }
    }

    fn api_answers(&mut self, now: Now) {
        if let Some(since) = self.api.away_since.take() {
            let seconds = now.instant.saturating_duration_since(since).as_secs_f64();
            self.say(Level::Info, format!("The Kubernetes API answers again, after {seconds:.1} s."));
        }
    }

    fn watch_answers(&mut self, now: Now) {
        if self.api.away_since.is_some() {
            self.calls.all = Hold::default();
        }
        self.api_answers(now);
        self.api.refused_said_at = None;
        if self.api.refused_since.take().is_some() {
            self.say(Level::Info, "The pods can be watched again.".to_owned());
        }
    }

    fn on_call(&mut self, outcome: CallOutcome, now: Now) {
        let CallOutcome { call, attempt, result } = outcome;
        self.calls.done();
        match &result {
            Ok(_) => {
                self.api_answers(now);
                if self.calls.all.end(now.instant) {
                    self.say(Level::Info, "Calls to the Kubernetes API succeed again.".to_owned());
                }
                let verb = call.verb();
                if self.calls.hold_of(verb).end(now.instant) {
                    self.say(Level::Info, format!("{verb} succeed again."));
                }
            }
            Err(error) => self.hold(call.verb(), error, now),
        }
        match call {
            PodCall::Create(pod) => self.on_created(&pod, attempt, result, now),
            PodCall::Mark { .. } => self.on_marked(call, attempt, result, now),
            PodCall::Get(question) => self.on_got(question, attempt, result, now),
            PodCall::Label { .. } | PodCall::SetDeleteBy { .. } | PodCall::Stop { .. } | PodCall::Delete { .. } => {
                self.on_changed(&call, result, now)
            }
        }
    }

    /// What stands in the way of one call stands in the way of others too.
    fn hold(&mut self, verb: Verb, error: &Error, now: Now) {
        let refusal = refusal(error);
        let (hold, what, pause) = match &refusal.remedy {
            Remedy::HoldAll(pause) => (&mut self.calls.all, "Calls to the Kubernetes API".to_owned(), pause),
            Remedy::HoldVerb(pause) => (self.calls.hold_of(verb), verb.to_string(), pause),
            Remedy::AskWhoHasTheName | Remedy::Again(_) | Remedy::GiveUp => return,
        };
        hold.begin(refusal.reason, pause, now.instant, &mut self.jitter);
        let is_away = refusal.reason == Reason::ApiUnavailable && matches!(refusal.remedy, Remedy::HoldAll(_));
        if is_away {
            self.api_is_away(&refusal.message, now);
        } else if hold.is_to_be_said(now.instant) {
            // Only a person can end that one.
            let level = if refusal.reason == Reason::Forbidden { Level::Error } else { Level::Warn };
            self.say(level, format!("{what} wait, {}: {}", refusal.reason, refusal.message));
        }
    }

    /// A call that failed goes out again: with the others after a hold, or by itself after a while.
    fn call_again(&mut self, call: PodCall, attempt: u32, error: &Error, now: Now) {
        let pause = match refusal(error).remedy {
            Remedy::HoldAll(_) | Remedy::HoldVerb(_) => return self.calls.push(call, attempt + 1),
            Remedy::Again(pause) => pause,
            Remedy::AskWhoHasTheName | Remedy::GiveUp => {
                backoff(Duration::from_secs(1), Duration::from_secs(60), attempt, &mut self.jitter)
            }
        };
        self.calls.push_at(now.instant + pause, call, attempt + 1);
    }

    fn on_log_read(&mut self, log: CrashLog, result: &Result<String, Error>, now: Now) {
        let crash = &log.crash;
        let text = match result {
            Err(error) if log.attempt < LOG_ATTEMPTS && matches!(refusal(error).remedy, Remedy::HoldAll(_)) => {
                let pause = Duration::from_secs(1 << log.attempt).max(error.retry_after().unwrap_or_default());
                let again = CrashLog { attempt: log.attempt + 1, ..log };
                return self.deadlines.set(now.instant + pause, Deadline::LogIsReadAgain(again));
            }
            Ok(lines) if lines.is_empty() => format!("Pod {crash} and wrote no log."),
            Ok(lines) => format!("Pod {crash} and the last 30 log lines are:{}", set_off(lines)),
            Err(error) => format!("Pod {crash} and its log cannot be read: {error}"),
        };
        let last_word = log_tail(log.last_word.as_bytes()).unwrap_or_default();
        let is_said = words::is_end_of_log(&last_word, result.as_deref().unwrap_or_default().lines());
        let last_word = if is_said { String::new() } else { format!("\nIts container left the message:{}", set_off(&last_word)) };
        self.say(Level::Warn, format!("{text}{last_word}"));
        if let Some(known) = self.pods.get_mut(&log.pod) {
            known.log_awaited = false;
            self.touched_pods.insert(log.pod);
        }
    }

    fn on_deadline(&mut self, deadline: Deadline, now: Now) {
        match deadline {
            Deadline::LogIsReadAgain(log) => self.commands.push_back(Command::ReadLog(log)),
            Deadline::NameIsFree { simulation, model } => self.create_when_name_is_free(&simulation, &model),
            Deadline::DoubtIsOver { simulation, model, uid } => {
                if let Some(doubtful) = self.model(&simulation, &model).filter(|model| model.doubt.is_some()) {
                    // What corrects it may be under way, or have come while the watch was cut.
                    let pod = doubtful.pod.clone();
                    self.ask_about(&pod, Some(uid));
                }
            }
            Deadline::SubscribersAreBack(simulation) | Deadline::UnreadyEndIsCertain(simulation) => {
                self.touched.insert(simulation);
            }
            Deadline::PodIsDue(name) => {
                self.touched_pods.insert(name);
            }
            Deadline::ReadyIsForgotten { simulation, model } => {
                if self.api.lists > 0 {
                    self.readies.remove(&(simulation, model));
                } else {
                    self.deadlines.set(now.instant + READY_KEPT, Deadline::ReadyIsForgotten { simulation, model });
                }
            }
            Deadline::EndIsForgotten(simulation) => self.forget_end(&simulation, now),
            Deadline::RecordIsDue(simulation) => {
                self.touched_records.insert(simulation);
            }
            Deadline::DoneIsDue(simulation) => self.on_done_due(&simulation, now),
            Deadline::PendingIsDue(simulation) => self.on_pending_due(&simulation, now),
            Deadline::ReadiesAreOverdue(simulation) => self.name_the_unheard(&simulation),
            Deadline::LabelsAreLost { simulation, model } => self.ask_what_has_lost_labels(&simulation, &model),
            Deadline::LastRunIsAwaited(simulation) => self.give_up_what_awaits_the_last_run(&simulation, now),
            Deadline::LeftIsSaidAgain => self.say_what_is_left(now),
            Deadline::RequestIsLost(simulation) => self.tell_lost_request(&simulation, now),
        }
    }

    fn settle(&mut self, now: Now) {
        loop {
            if self.handle_held_requests {
                self.handle_held(now);
            } else if let Some(id) = self.touched.pop_first() {
                self.settle_simulation(id, now);
            } else if let Some(name) = self.touched_pods.pop_first() {
                self.settle_pod(&name, now);
            } else if let Some(id) = self.touched_records.pop_first() {
                self.settle_record(&id, now);
            } else if self.stopping || !self.issue_call(now) {
                return;
            }
        }
    }

    /// False where no call may go out now.
    fn issue_call(&mut self, now: Now) -> bool {
        let Some((call, attempt)) = self.calls.next(now.instant) else { return false };
        if self.is_wanted(&call, now) {
            self.say_call(&call, attempt);
            self.note_lists_before(&call);
            self.commands.push_back(Command::Call { call, attempt });
        } else {
            self.calls.done();
            self.decide_again(&call);
        }
        true
    }

    fn settle_simulation(&mut self, id: SimulationId, now: Now) {
        self.create_what_is_recorded(&id, now);
        self.tell_what_is_recorded(&id);
        self.watch_unready_ends(&id, now);
        self.report_error(&id, now);
        self.settle_models_ready(&id, now);
        self.settle_mark(&id);
        let Some(simulation) = self.simulations.get(&id) else { return };
        if simulation.has_ended() && simulation.is_all_told() && !simulation.error_is_due(self.report_errors) {
            self.end(id, now);
        }
    }

    /// The model has ended. The first verdict stays.
    fn conclude(&mut self, id: &SimulationId, model_id: &ModelId, verdict: Verdict, tell: Tell) {
        let Some(simulation) = self.simulations.get_mut(id) else { return };
        let pending = simulation.models.get(model_id).and_then(|model| model.pending.as_ref());
        let never_ran = verdict.exit_code == NO_EXIT_CODE && pending.is_some_and(|pending| pending.obstacle.kind.is_before_the_run());
        if !simulation.set_verdict(model_id, &verdict) {
            return;
        }
        let model = &simulation.models[model_id];
        let (pod, uid, is_unwanted) = (model.pod.clone(), model.uid.clone(), model.unwanted.is_some());
        let Verdict { success, exit_code, .. } = verdict;
        let state = if success { "TERMINATED_SUCCESSFULL" } else { "TERMINATED_FAILED" };
        let is_well = success && verdict.reason != SUCCESS_WITH_A_LOSS;
        let level = if is_well || verdict.reason == CANCELLED { Level::Info } else { Level::Warn };
        self.say(level, format!("Model {id}/{model_id} now has exit code {exit_code} due to: {}.", verdict.why()));
        self.say(level, format!("Model {id}/{model_id} has terminated. Marking as ModelState.{state}."));
        let revision = match tell {
            Tell::WhenRecorded => self.fact_waited_for(id),
            Tell::Now | Tell::WhenForgotten | Tell::Unrecorded => {
                self.fact(id);
                0
            }
        };
        if let Some(simulation) = self.simulations.get_mut(id) {
            simulation.untold.insert(model_id.clone(), revision);
            if tell == Tell::WhenForgotten {
                simulation.untold_until_forgotten.insert(model_id.clone());
            }
        }
        if never_ran {
            self.say(Level::Info, format!("Pod {} has no log: its container did not run.", pod.name));
        } else if !success && !is_unwanted {
            self.read_log(&pod, uid.as_ref(), exit_code);
        }
        self.touched.insert(id.clone());
        self.touched_pods.insert(pod.name.clone());
    }

    fn read_log(&mut self, pod: &NewPod, uid: Option<&Uid>, exit_code: i32) {
        let Some(known) = self.pods.get_mut(&pod.name).filter(|known| Some(&known.uid) == uid && !known.gone) else { return };
        known.log_awaited = true;
        let crash = format!("{}.{}.{} crashed with status {exit_code}", pod.simulator, pod.simulation, pod.model);
        let last_word = std::mem::take(&mut known.last_word).into_boxed_str();
        let log =
            CrashLog { pod: pod.name.clone(), container: known.container.clone(), crash: crash.into_boxed_str(), last_word, attempt: 0 };
        self.say(Level::Info, format!("Retrieving last log lines for pod {}", pod.name));
        self.commands.push_back(Command::ReadLog(log));
    }

    fn say(&mut self, level: Level, text: String) {
        self.commands.push_back(Command::Say(level, text));
    }
}

/// From our own lines, which a model may imitate.
fn set_off(lines: &str) -> String {
    format!("\n    | {}", lines.replace('\n', "\n    | "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock;

    #[test]
    fn readiness_follows_broker_list_and_watch() {
        let start = clock::now();
        let at = |seconds| Now { instant: start.instant + Duration::from_secs(seconds), ..start };
        let mut core = Orchestrator::new(SimulatorName::new("dots-so").unwrap(), Rules::default(), 1, 0);
        assert_eq!(core.readiness(), Readiness::default());
        core.handle(Event::Broker(BrokerEvent::Connected), at(1));
        core.handle(Event::Pods(PodsEvent::ServerTime(start.unix)), at(2));
        let listing = Readiness { broker_connected: true, pods_listed: false, watch_heard_at: Some(at(2).instant) };
        assert_eq!(core.readiness(), listing);
        core.handle(Event::Pods(PodsEvent::Listed(Vec::new())), at(3));
        let ready = |seconds| Readiness { broker_connected: true, pods_listed: true, watch_heard_at: Some(at(seconds).instant) };
        assert_eq!(core.readiness(), ready(3));
        core.handle(Event::Pods(PodsEvent::Bookmark), at(60));
        assert_eq!(core.readiness(), ready(60), "a watch where nothing happens");
        core.handle(Event::Timeout, at(90));
        core.handle(Event::Broker(BrokerEvent::Disconnected), at(91));
        assert_eq!(core.readiness(), Readiness { broker_connected: false, ..ready(60) });
        core.handle(Event::Pods(PodsEvent::Failed(Error::Lost("cut".to_owned()))), at(92));
        assert_eq!(core.readiness(), Readiness { broker_connected: false, pods_listed: true, watch_heard_at: None });
    }
}
