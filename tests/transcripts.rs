//! Transcripts of the core: events in (`>`), exactly these commands out (`<`). `UPDATE_EXPECT=1 cargo test --test transcripts` writes
//! them anew; read the difference before you commit it.

#![allow(clippy::unwrap_used, reason = "this is all test code")]

mod words;

use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use mso::clock::{UnixTime, now};
use mso::config::{Limits, ReportErrors, Rules};
use mso::ids::{DeployId, ModelId, RecordName, SimulationId, SimulatorName, TopicSegment};
use mso::kube::error::{Error, Status};
use mso::kube::record::{Content, Found, Progress};
use mso::orchestrator::Orchestrator;
use mso::orchestrator::event::{
    Answer, BadRequest, BrokerEvent, CallOutcome, Command, CrashLog, DeployRequest, Event, MessageId, ModelConfiguration, PodCall,
    PodsEvent, Question, RecordCall, RecordOutcome,
};
use mso::secret::Secret;
use serde_json::{Value, json};

use crate::words::records::Records;
use crate::words::{
    START, at_qos_1, deploy_event, drain, ended, in_words, now_at, parsed, pod, ready_event, refused, request, unschedulable, waiting, with,
};

const HOUR: f64 = 1.0;

/// Two of them are more than a piece of a record.
fn large_model(id: &str) -> ModelConfiguration {
    let mut model = request(1, "sim", &[id], HOUR).models.remove(0);
    model.variables[0].value = Secret::new("é".repeat(300_000));
    model
}

fn bad_request(simulation: &str, models: &[&str]) -> (String, Event) {
    let models = models.iter().map(|model| TopicSegment::new(model).unwrap()).collect();
    let bad = BadRequest { reason: "InvalidRequest".to_owned(), problem: "keepLogsHours is NaN: it takes 0 to 87600".to_owned(), models };
    let simulation = TopicSegment::new(simulation).unwrap();
    let words = format!("a bad DeployModels for {simulation}");
    (words, Event::Broker(BrokerEvent::DeployModels { simulation, request: Err(bad), delivery: None }))
}

/// Plays what surrounds the core, one step at a time, and writes down what is said.
struct Session {
    rules: Rules,
    core: Orchestrator,
    start: Instant,
    since: Duration,
    text: String,
    calls: Vec<(PodCall, u32)>,
    logs: Vec<CrashLog>,
    questions: Vec<Question>,
    messages: Vec<MessageId>,
    records: Records,
    record_calls: Vec<(SimulationId, RecordCall)>,
}

impl Session {
    fn new() -> Self {
        Self::with(Rules::default())
    }

    fn with(rules: Rules) -> Self {
        let core = Orchestrator::new(SimulatorName::new("so").unwrap(), rules.clone(), 2, 7);
        Self {
            rules,
            core,
            start: now().instant,
            since: Duration::ZERO,
            text: String::new(),
            calls: Vec::new(),
            logs: Vec::new(),
            questions: Vec::new(),
            messages: Vec::new(),
            records: Records::default(),
            record_calls: Vec::new(),
        }
    }

    /// Connected, and the cluster has no pods of ours.
    fn begun() -> Self {
        let mut session = Self::new();
        session.connected();
        session.listed(vec![]);
        session
    }

    fn handle(&mut self, words: &str, event: Event) {
        self.text += &format!("> {words}\n");
        self.core.handle(event, now_at(self.start, self.since));
        self.write_commands();
        self.record();
    }

    /// Each call about a record is done at once.
    fn record(&mut self) {
        while !self.record_calls.is_empty() {
            self.recorded();
        }
    }

    /// All calls about records are done.
    fn recorded(&mut self) {
        self.text += "> the record is kept\n";
        for (simulation, call) in std::mem::take(&mut self.record_calls) {
            let result = self.records.carry_out(&call);
            self.core.handle(Event::Record(RecordOutcome { simulation, call, result }), now_at(self.start, self.since));
            self.write_commands();
        }
    }

    fn list_fails(&mut self) {
        self.handle("the list fails", Event::Pods(PodsEvent::Failed(Error::Lost("connection refused".to_owned()))));
    }

    /// kill -9, and a new process among what is there.
    fn restarted(&mut self, pods: Vec<Value>) {
        self.killed();
        self.finds(pods);
    }

    /// kill -9, and a new process to which the API server has not answered yet.
    fn killed(&mut self) {
        self.killed_while_the_broker_is_away();
        self.connected();
    }

    fn killed_while_the_broker_is_away(&mut self) {
        self.text += "> kill -9, and a new process\n";
        self.core = Orchestrator::new(SimulatorName::new("so").unwrap(), self.rules.clone(), 2, 7);
        self.calls.clear();
        self.logs.clear();
        self.messages.clear();
        self.record_calls.clear();
    }

    /// What the process before left.
    fn finds(&mut self, pods: Vec<Value>) {
        self.handle("the records", Event::Pods(PodsEvent::Records(self.records.found())));
        self.listed(pods);
    }

    fn finds_records_forbidden(&mut self, pods: Vec<Value>) {
        let error = refused(403, "User \"u\" cannot list resource \"configmaps\"");
        self.handle("the records are forbidden", Event::Pods(PodsEvent::RecordsForbidden(error)));
        self.listed(pods);
    }

    /// For as long as a request is held at most.
    fn is_away(&mut self) {
        self.list_fails();
        self.passes(300.0);
        self.list_fails();
    }

    fn write_commands(&mut self) {
        for command in drain(&mut self.core) {
            self.text += &format!("    < {}\n", in_words(&command));
            match command {
                Command::Call { call, attempt } => self.calls.push((call, attempt)),
                Command::Publish(message) => self.messages.push(message.id),
                Command::ReadLog(log) => self.logs.push(log),
                Command::ReadEvents(question) => self.questions.push(question),
                Command::Record { simulation, call } => self.record_calls.push((simulation, call)),
                Command::Acknowledge(_) | Command::Say(..) | Command::Halt(_) => {}
            }
        }
    }

    fn connected(&mut self) {
        self.handle("the broker is there, we are subscribed", Event::Broker(BrokerEvent::Connected));
    }

    fn disconnected(&mut self) {
        self.handle("the broker is gone", Event::Broker(BrokerEvent::Disconnected));
    }

    fn listed(&mut self, pods: Vec<Value>) {
        let server_time = UnixTime(START + self.since.as_secs_f64());
        self.core.handle(Event::Pods(PodsEvent::ServerTime(server_time)), now_at(self.start, self.since));
        let names: Vec<&str> = pods.iter().map(|pod| pod["metadata"]["name"].as_str().unwrap()).collect();
        let words = format!("the list of pods: [{}]", names.join(", "));
        self.handle(&words, Event::Pods(PodsEvent::Listed(pods.into_iter().map(parsed).collect())));
    }

    fn deploys(&mut self, deploy: u8, simulation: &str, models: &[&str], keep_logs_hours: f64) {
        let words = format!("DeployModels {deploy} for {simulation}: [{}], keepLogsHours {keep_logs_hours}", models.join(", "));
        self.handle(&words, deploy_event(request(deploy, simulation, models, keep_logs_hours)));
    }

    fn deploys_badly(&mut self, simulation: &str, models: &[&str]) {
        let (words, event) = bad_request(simulation, models);
        self.handle(&words, event);
    }

    fn deploys_badly_at_qos_1(&mut self, simulation: &str, models: &[&str], packet_id: u16) {
        let (words, event) = bad_request(simulation, models);
        self.handle(&format!("{words}, at QoS 1"), at_qos_1(event, packet_id));
    }

    fn ready(&mut self, simulation: &str, model: &str) {
        self.handle(&format!("ReadyForProcessing of {simulation}/{model}"), ready_event(simulation, model));
    }

    /// The broker acknowledges all that was published.
    fn acknowledged(&mut self) {
        self.broker_takes(self.messages.len());
    }

    /// So many of them.
    fn broker_takes(&mut self, messages: usize) {
        for id in self.messages.drain(..messages).collect::<Vec<_>>() {
            self.handle("PUBACK", Event::Broker(BrokerEvent::Published(id)));
        }
    }

    fn answered(&mut self, call_in_words: &str, words: &str, result: Result<Answer, Error>) {
        let command = |(call, attempt): &(PodCall, u32)| in_words(&Command::Call { call: call.clone(), attempt: *attempt });
        let position = self.calls.iter().position(|call| command(call).starts_with(&format!("call {call_in_words}")));
        let (call, attempt) = self.calls.remove(position.unwrap_or_else(|| panic!("no {call_in_words:?} in flight:\n{}", self.text)));
        self.handle(&format!("{call_in_words}: {words}"), Event::Call(CallOutcome { call, attempt, result }));
    }

    fn created(&mut self, shown: &Value) {
        let name = shown["metadata"]["name"].as_str().unwrap();
        self.answered(&format!("create {name}"), "created", Ok(Answer::Pod(Box::new(parsed(shown.clone())))));
    }

    fn got(&mut self, shown: &Value) {
        let name = shown["metadata"]["name"].as_str().unwrap();
        let uid = shown["metadata"]["uid"].as_str().unwrap();
        self.answered(&format!("get {name}"), &format!("here, with uid {uid}"), Ok(Answer::Pod(Box::new(parsed(shown.clone())))));
    }

    fn done(&mut self, call_in_words: &str) {
        self.answered(call_in_words, "done", Ok(Answer::Done));
    }

    fn fails(&mut self, call_in_words: &str, error: Error) {
        self.answered(call_in_words, &error.to_string(), Err(error));
    }

    fn log_is(&mut self, lines: &str) {
        let log = self.logs.remove(0);
        self.handle(&format!("the log of {}: {lines:?}", log.pod), Event::LogRead { log, result: Ok(lines.to_owned()) });
    }

    /// As `(type, reason, message)`, the newest last.
    fn events_are(&mut self, events: &[(&str, &str, &str)]) {
        let question = self.questions.remove(0);
        let event = |(r#type, reason, message): &(&str, &str, &str)| {
            serde_json::from_value(json!({"type": r#type, "reason": reason, "message": message})).unwrap()
        };
        let words = format!("the events of {}: {events:?}", question.name);
        self.handle(&words, Event::EventsRead { question, result: Ok(events.iter().map(event).collect()) });
    }

    fn log_cannot_be_read(&mut self, error: Error) {
        let log = self.logs.remove(0);
        self.handle(&format!("the log of {}: {error}", log.pod), Event::LogRead { log, result: Err(error) });
    }

    fn shows(&mut self, words: &str, shown: &Value) {
        let name = shown["metadata"]["name"].as_str().unwrap();
        self.handle(&format!("the watch shows {name}: {words}"), Event::Pods(PodsEvent::Changed(Box::new(parsed(shown.clone())))));
    }

    fn deleted(&mut self, shown: &Value) {
        let name = shown["metadata"]["name"].as_str().unwrap();
        self.handle(&format!("the watch says that {name} is gone"), Event::Pods(PodsEvent::Deleted(Box::new(parsed(shown.clone())))));
    }

    /// Time passes; the core is woken whenever it asked for it.
    fn passes(&mut self, seconds: f64) {
        self.text += &format!("> {seconds} s pass\n");
        let until = self.since + Duration::from_secs_f64(seconds);
        let mut wakes = 0;
        while let Some(at) = self.core.poll_timeout(now_at(self.start, self.since)).filter(|&at| at <= self.start + until) {
            self.since = self.since.max(at.saturating_duration_since(self.start));
            self.core.handle(Event::Timeout, now_at(self.start, self.since));
            self.write_commands();
            self.record();
            wakes += 1;
            assert!(wakes < 1000, "a wake-up leads nowhere:\n{}", self.text);
        }
        self.since = until;
    }

    fn matches(self, name: &str) {
        let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/transcripts").join(name).with_extension("txt");
        if std::env::var_os("UPDATE_EXPECT").is_some() {
            fs::write(&path, &self.text).unwrap();
        }
        let expected = fs::read_to_string(&path).unwrap_or_default();
        assert_eq!(self.text, expected, "{} differs: UPDATE_EXPECT=1 writes it anew", path.display());
    }
}

#[test]
fn a_simulation_in_which_all_goes_well() {
    let mut session = Session::begun();
    let (m1, m2) = (pod(1, "sim", "m1", "u1"), pod(1, "sim", "m2", "u2"));
    session.deploys(1, "sim", &["m1", "m2"], HOUR);
    session.created(&m1);
    session.created(&m2);
    session.ready("sim", "m2");
    session.ready("sim", "m1");
    session.acknowledged();
    session.shows("exit 0", &ended(m1.clone(), 0, "Completed"));
    session.shows("exit 0", &ended(m2.clone(), 0, "Completed"));
    session.acknowledged();
    session.shows("exit 0, before the broker has acknowledged the end", &ended(m1.clone(), 0, "Completed"));
    session.acknowledged();
    let stamped =
        |pod: &Value| with(ended(pod.clone(), 0, "Completed"), "/metadata/labels/delete_by_datetime", json!((START + 3600.0).to_string()));
    for (name, pod) in [("so-sim-m1", &m1), ("so-sim-m2", &m2)] {
        session.done(&format!("set delete_by of {name}"));
        session.shows("stamped", &stamped(pod));
    }
    session.passes(3599.0);
    session.passes(2.0);
    for (name, pod) in [("so-sim-m1", &m1), ("so-sim-m2", &m2)] {
        session.done(&format!("delete {name}"));
        session.deleted(&stamped(pod));
    }
    session.matches("all_goes_well");
}

#[test]
fn a_model_that_fails_is_told_with_its_code_and_log_and_there_is_no_models_ready() {
    let mut session = Session::begun();
    let (m1, m2) = (pod(1, "sim", "m1", "u1"), pod(1, "sim", "m2", "u2"));
    session.deploys(1, "sim", &["m1", "m2"], 0.0);
    session.created(&m1);
    session.created(&m2);
    session.ready("sim", "m2");
    session.shows("exit 1", &ended(m1.clone(), 1, "Error"));
    session.ready("sim", "m1");
    session.shows("exit 1, again", &ended(m1.clone(), 1, "Error"));
    session.shows("exit 0", &ended(m2, 0, "Completed"));
    session.acknowledged();
    session.acknowledged();
    session.log_is("Traceback:\nno");
    session.matches("a_model_fails");
}

#[test]
fn models_that_fail_together_are_one_error_and_a_later_failure_is_none() {
    let mut session = Session::begun();
    let pods = ["m1", "m2", "m3"].map(|model| pod(1, "sim", model, &format!("u-{model}")));
    session.deploys(1, "sim", &["m1", "m2", "m3"], 0.0);
    pods.iter().for_each(|pod| session.created(pod));
    session.shows("exit 1", &ended(pods[0].clone(), 1, "Error"));
    session.shows("exit 2", &ended(pods[1].clone(), 2, "Error"));
    session.acknowledged();
    session.passes(1.0);
    session.restarted(vec![ended(pods[0].clone(), 1, "Error"), ended(pods[1].clone(), 2, "Error"), pods[2].clone()]);
    session.shows("exit 3", &ended(pods[2].clone(), 3, "Error"));
    session.acknowledged();
    session.acknowledged();
    session.matches("one_error");
}

/// Killed between the verdict and the error.
#[test]
fn an_error_that_the_broker_has_not_acknowledged_goes_out_again_after_a_restart() {
    let mut session = Session::begun();
    let (m1, m2) = (pod(1, "sim", "m1", "u1"), pod(1, "sim", "m2", "u2"));
    session.deploys(1, "sim", &["m1", "m2"], 0.0);
    session.created(&m1);
    session.created(&m2);
    session.shows("exit 1", &ended(m1.clone(), 1, "Error"));
    session.broker_takes(1);
    session.passes(1.0);
    session.restarted(vec![ended(m1, 1, "Error"), m2]);
    session.passes(5.0);
    session.matches("an_error_after_a_restart");
}

#[test]
fn what_fails_after_models_ready_is_an_error_only_where_the_operator_wants_that() {
    for (report_errors, transcript) in
        [(ReportErrors::Never, "errors_never"), (ReportErrors::BeforeReady, "errors_before_ready"), (ReportErrors::Always, "errors_always")]
    {
        let mut session = Session::with(Rules { report_errors, ..Rules::default() });
        session.connected();
        session.listed(vec![]);
        let m1 = pod(1, "sim", "m1", "u1");
        session.deploys(1, "sim", &["m1"], 0.0);
        session.created(&m1);
        session.ready("sim", "m1");
        session.acknowledged();
        session.shows("exit 1", &ended(m1, 1, "Error"));
        session.acknowledged();
        session.deploys_badly("another", &["m1"]);
        session.matches(transcript);
    }
}

#[test]
fn a_pod_that_is_refused_fails_its_model_and_the_rest_goes_on() {
    let mut session = Session::begun();
    session.deploys(1, "sim", &["m1", "m2"], HOUR);
    session.fails("create so-sim-m1", refused(422, "Pod \"so-sim-m1\" is invalid"));
    session.created(&pod(1, "sim", "m2", "u2"));
    session.fails("get so-sim-m1", refused(404, "not found"));
    session.matches("a_pod_is_refused");
}

#[test]
fn a_create_whose_answer_was_lost_is_adopted() {
    let mut session = Session::begun();
    session.deploys(1, "sim", &["m1"], HOUR);
    session.fails("create so-sim-m1", Error::Lost("timed out".to_owned()));
    session.passes(1.0);
    session.fails("create so-sim-m1", refused(409, "pods \"so-sim-m1\" already exists"));
    session.got(&pod(1, "sim", "m1", "u1"));
    session.ready("sim", "m1");
    session.matches("a_create_whose_answer_was_lost");
}

#[test]
fn a_create_that_worked_is_not_counted_as_refused_by_a_later_answer() {
    let mut session = Session::begun();
    session.deploys(1, "sim", &["m1", "m2"], HOUR);
    session.fails("create so-sim-m1", Error::Lost("timed out".to_owned()));
    session.passes(1.0);
    session.fails("create so-sim-m1", refused(403, "violates PodSecurity \"restricted:latest\""));
    session.got(&pod(1, "sim", "m1", "u1"));
    session.matches("a_create_that_worked_and_is_refused_later");
}

#[test]
fn what_came_at_qos_1_is_acknowledged() {
    let mut session = Session::begun();
    let request = request(1, "sim", &["m1"], HOUR);
    let simulation = TopicSegment::from(&request.simulation);
    session.handle("DeployModels 1 for sim: [m1], at QoS 1", at_qos_1(deploy_event(request), 1));
    session.created(&pod(1, "sim", "m1", "u1"));
    session.handle("ReadyForProcessing of sim/m1, at QoS 1", at_qos_1(ready_event("sim", "m1"), 2));
    let bad =
        BadRequest { reason: "InvalidRequest".to_owned(), problem: "keepLogsHours is NaN: it takes 0 to 87600".to_owned(), models: vec![] };
    let bad = Event::Broker(BrokerEvent::DeployModels { simulation, request: Err(bad), delivery: None });
    session.handle("a bad DeployModels for sim, at QoS 1", at_qos_1(bad, 3));
    session.handle("ReadyForProcessing of another/m1, at QoS 1", at_qos_1(ready_event("another", "m1"), 4));
    session.handle("ReadyForProcessing of sim/m1, at QoS 0", ready_event("sim", "m1"));
    session.matches("what_came_at_qos_1");
}

/// Whatever becomes of us meanwhile, the broker has either the request or all that is told of it.
#[test]
fn a_ready_at_qos_1_that_came_before_the_first_list_is_acknowledged_when_the_list_is_there() {
    let mut session = Session::begun();
    let m1 = pod(1, "sim", "m1", "u1");
    session.deploys(1, "sim", &["m1"], HOUR);
    session.created(&m1);
    session.killed();
    session.handle("ReadyForProcessing of sim/m1, at QoS 1", at_qos_1(ready_event("sim", "m1"), 1));
    session.handle("ReadyForProcessing of another/m1, at QoS 1", at_qos_1(ready_event("another", "m1"), 2));
    session.finds(vec![m1]);
    session.matches("a_ready_at_qos_1_before_the_list");
}

#[test]
fn where_config_maps_are_forbidden_a_request_at_qos_1_is_acknowledged_when_a_pod_tells_of_it() {
    let mut session = Session::new();
    session.connected();
    session.finds_records_forbidden(vec![]);
    let request = request(1, "sim", &["m1", "m2"], HOUR);
    session.handle("DeployModels 1 for sim: [m1, m2], at QoS 1", at_qos_1(deploy_event(request), 1));
    session.created(&pod(1, "sim", "m1", "u1"));
    session.matches("a_request_at_qos_1_without_records");
}

#[test]
fn what_is_refused_at_qos_1_is_acknowledged_when_the_broker_has_its_end() {
    let mut session = Session::begun();
    session.deploys_badly_at_qos_1("sim", &["m1"], 1);
    session.broker_takes(1);
    session.disconnected();
    session.connected();
    session.deploys_badly_at_qos_1("sim", &["m1"], 2);
    session.broker_takes(2);
    session.handle("DeployModels 1 for sim: [], at QoS 1", at_qos_1(deploy_event(request(1, "sim", &[], HOUR)), 3));
    session.broker_takes(1);
    session.records.refuses_pieces = true;
    session.handle("DeployModels 2 for sim: [m1], at QoS 1", at_qos_1(deploy_event(request(2, "sim", &["m1"], HOUR)), 4));
    session.broker_takes(1);
    session.passes(5.0);
    session.broker_takes(1);
    session.broker_takes(1);
    session.matches("what_is_refused_at_qos_1");
}

#[test]
fn a_request_that_waited_at_qos_1_and_is_given_up_is_acknowledged_when_the_broker_has_its_end() {
    let mut session = Session::new();
    session.connected();
    session.handle("DeployModels 1 for sim: [m1], at QoS 1", at_qos_1(deploy_event(request(1, "sim", &["m1"], HOUR)), 1));
    session.handle("DeployModels 2 for sim: [m2], at QoS 1", at_qos_1(deploy_event(request(2, "sim", &["m2"], HOUR)), 2));
    session.is_away();
    session.disconnected();
    session.connected();
    session.handle("DeployModels 1 for sim: [m1], at QoS 1", at_qos_1(deploy_event(request(1, "sim", &["m1"], HOUR)), 3));
    session.handle("DeployModels 2 for sim: [m2], at QoS 1", at_qos_1(deploy_event(request(2, "sim", &["m2"], HOUR)), 4));
    session.broker_takes(3);
    session.broker_takes(1);
    session.finds(vec![]);
    session.matches("what_was_given_up_at_qos_1");
}

#[test]
fn a_new_process_goes_on_where_the_old_one_was_killed() {
    let mut session = Session::begun();
    let [m1, m2] = [("m1", "u1"), ("m2", "u2")].map(|(model, uid)| pod(1, "sim", model, uid));
    session.deploys(1, "sim", &["m1", "m2", "m3"], HOUR);
    session.created(&m1);
    session.created(&m2);
    session.ready("sim", "m1");
    session.passes(1.0);
    // Its answer never came: m3 is created by the next process.
    session.restarted(vec![m1.clone(), ended(m2, 0, "Completed")]);
    session.created(&pod(1, "sim", "m3", "u3"));
    session.ready("sim", "m3");
    session.acknowledged();
    session.matches("a_new_process_goes_on");
}

/// What they said at QoS 0 is lost where the broker does not keep it.
#[test]
fn models_that_run_since_before_a_reconnect_and_are_not_heard_are_named() {
    let mut session = Session::begun();
    let models = ["heard", "pulled", "ended", "late", "silent"];
    session.deploys(1, "sim", &models, HOUR);
    let pods = models.map(|model| pod(1, "sim", model, &format!("uid-{model}")));
    let with_phase = |pod: &Value, phase: &str| with(pod.clone(), "/status/phase", json!(phase));
    session.created(&pods[0]);
    session.created(&with_phase(&pods[1], "Pending"));
    pods[2..].iter().for_each(|pod| session.created(pod));
    session.ready("sim", "heard");
    session.deploys(2, "whole", &["m1"], HOUR);
    session.created(&pod(2, "whole", "m1", "uid-whole"));
    session.ready("whole", "m1");
    session.disconnected();
    session.passes(5.0);
    session.connected();
    session.passes(30.0);
    session.shows("running", &pods[1]);
    session.shows("ended", &ended(pods[2].clone(), 0, "Completed"));
    session.ready("sim", "late");
    session.passes(29.0);
    session.passes(1.0);
    session.passes(3600.0);
    session.matches("models_not_heard_after_a_reconnect");
}

#[test]
fn of_the_models_not_heard_after_a_restart_ten_are_named_and_again_after_the_next_connection() {
    let mut session = Session::begun();
    let models: Vec<String> = (1..=13).map(|number| format!("m{number:02}")).collect();
    let names: Vec<&str> = models.iter().map(String::as_str).collect();
    session.deploys(1, "sim", &names, HOUR);
    let pods: Vec<Value> = names.iter().map(|name| pod(1, "sim", name, &format!("uid-{name}"))).collect();
    pods.iter().for_each(|pod| session.created(pod));
    session.passes(1.0);
    session.restarted(pods);
    session.passes(60.0);
    session.disconnected();
    session.passes(60.0);
    session.connected();
    session.passes(20.0);
    names[1..].iter().for_each(|name| session.ready("sim", name));
    session.passes(40.0);
    session.matches("models_not_heard_after_a_restart");
}

#[test]
fn a_pod_that_was_deleted_while_nobody_looked_is_not_created_again() {
    let mut session = Session::begun();
    session.deploys(1, "sim", &["m1"], HOUR);
    session.created(&pod(1, "sim", "m1", "u1"));
    session.passes(1.0);
    session.restarted(vec![]);
    session.fails("get so-sim-m1", refused(404, "not found"));
    session.acknowledged();
    session.passes(5.0);
    session.acknowledged();
    session.acknowledged();
    session.matches("a_pod_deleted_while_nobody_looked");
}

/// Somebody deleted it, or drains its node; it has its grace.
#[test]
fn a_pod_that_goes_when_a_new_process_begins_is_its_models_until_it_is_gone() {
    let m1 = pod(1, "sim", "m1", "u1");
    let goes = |pod: Value| with(pod, "/metadata/deletionTimestamp", json!("1970-01-12T13:46:42Z"));
    let done = goes(ended(m1.clone(), 0, "Completed"));
    let begun = |pods: Vec<Value>| {
        let mut session = Session::begun();
        session.deploys(1, "sim", &["m1"], HOUR);
        session.created(&m1);
        session.passes(2.0);
        session.restarted(pods);
        session
    };

    let mut session = begun(vec![goes(m1.clone())]);
    session.shows("exit 0", &done);
    session.deleted(&done);
    session.acknowledged();
    session.acknowledged();
    session.matches("a_pod_that_goes_at_a_start_and_ends");

    let mut session = begun(vec![goes(ended(m1.clone(), 3, "Error"))]);
    session.log_is("");
    session.acknowledged();
    session.passes(5.0);
    session.acknowledged();
    session.matches("a_pod_that_goes_at_a_start_has_ended");

    let mut session = begun(vec![goes(m1.clone())]);
    session.deleted(&done);
    session.acknowledged();
    session.matches("a_pod_that_goes_at_a_start_is_gone");

    let mut session = Session::begun();
    session.deploys(1, "sim", &["m1"], HOUR);
    session.created(&m1);
    session.passes(2.0);
    session.restarted(vec![]);
    // The list was older than the pod.
    session.got(&goes(m1.clone()));
    session.shows("exit 0", &done);
    session.acknowledged();
    session.matches("a_pod_that_goes_at_a_start_is_not_listed");
}

#[test]
fn models_ready_that_was_sent_is_not_sent_again() {
    let mut session = Session::begun();
    let m1 = pod(1, "sim", "m1", "u1");
    session.deploys(1, "sim", &["m1"], HOUR);
    session.created(&m1);
    session.ready("sim", "m1");
    session.acknowledged();
    session.restarted(vec![m1.clone()]);
    session.ready("sim", "m1");
    session.shows("exit 0", &ended(m1, 0, "Completed"));
    session.acknowledged();
    session.acknowledged();
    session.matches("models_ready_is_not_sent_again");
}

#[test]
fn a_simulation_whose_models_ready_may_or_may_not_have_gone_out_fails_openly() {
    let mut session = Session::begun();
    let m1 = pod(1, "sim", "m1", "u1");
    session.deploys(1, "sim", &["m1"], HOUR);
    session.created(&m1);
    session.ready("sim", "m1");
    session.restarted(vec![m1.clone()]);
    session.acknowledged();
    session.answered("stop so-sim-m1", "stopped", Ok(Answer::Pod(Box::new(parsed(m1)))));
    session.passes(5.0);
    session.acknowledged();
    session.acknowledged();
    session.matches("models_ready_cut_off");
}

#[test]
fn of_a_simulation_that_was_over_only_the_pods_are_cleaned_up() {
    let mut session = Session::begun();
    let m1 = pod(1, "sim", "m1", "u1");
    let over = ended(m1.clone(), 0, "Completed");
    session.deploys(1, "sim", &["m1"], HOUR);
    session.created(&m1);
    session.shows("exit 0", &over);
    session.acknowledged();
    session.acknowledged();
    session.restarted(vec![over.clone()]);
    session.done("set delete_by of so-sim-m1");
    let stamped = with(over, "/metadata/labels/delete_by_datetime", json!((START + 3600.0).to_string()));
    session.shows("stamped", &stamped);
    session.passes(3601.0);
    session.done("delete so-sim-m1");
    session.deleted(&stamped);
    session.passes(3600.0);
    session.matches("a_simulation_that_was_over");
}

/// Else one that is killed again and again would keep every record.
#[test]
fn the_record_of_a_simulation_that_is_over_goes_in_its_time_over_restarts_too() {
    let mut session = Session::begun();
    let m1 = pod(1, "sim", "m1", "u1");
    let over = ended(m1.clone(), 0, "Completed");
    session.deploys(1, "sim", &["m1"], 0.0);
    session.created(&m1);
    session.shows("exit 0", &over);
    session.acknowledged();
    session.acknowledged();
    session.deleted(&over);
    for _ in 0..3 {
        session.passes(190.0);
        session.restarted(vec![]);
    }
    session.passes(61.0);
    session.matches("a_record_over_restarts");
}

#[test]
fn a_kill_while_the_record_of_a_simulation_that_was_over_goes_tells_nothing_again() {
    let mut session = Session::begun();
    let m1 = pod(1, "sim", "m1", "u1");
    session.deploys(1, "sim", &["m1"], 0.0);
    session.created(&m1);
    session.shows("exit 0", &ended(m1, 0, "Completed"));
    session.acknowledged();
    session.acknowledged();
    session.records.loses_its_pieces();
    session.restarted(vec![]);
    session.passes(3600.0);
    session.matches("a_kill_while_a_record_goes");
}

#[test]
fn models_ready_that_did_not_leave_before_the_connection_broke_waits_for_subscribers_too() {
    let mut session = Session::begun();
    session.deploys(1, "sim", &["m1"], HOUR);
    session.created(&pod(1, "sim", "m1", "u1"));
    session.ready("sim", "m1");
    session.disconnected();
    let id = session.messages.remove(0);
    session.handle("ModelsReady was not sent", Event::Broker(BrokerEvent::Unsent(id)));
    session.connected();
    session.passes(4.9);
    session.passes(0.2);
    session.acknowledged();
    session.matches("models_ready_that_did_not_leave");
}

#[test]
fn models_ready_that_did_not_leave_is_not_sent_once_a_model_has_failed() {
    let mut session = Session::begun();
    session.deploys(1, "sim", &["m1"], HOUR);
    session.created(&pod(1, "sim", "m1", "u1"));
    session.ready("sim", "m1");
    session.disconnected();
    session.shows("exit 1", &ended(pod(1, "sim", "m1", "u1"), 1, "Error"));
    let id = session.messages.remove(0);
    session.handle("ModelsReady was not sent", Event::Broker(BrokerEvent::Unsent(id)));
    session.connected();
    session.passes(6.0);
    session.acknowledged();
    session.acknowledged();
    session.matches("models_ready_that_did_not_leave_and_a_failure");
}

#[test]
fn running_pods_outlive_the_loss_of_their_progress_and_are_their_models_again() {
    let mut session = Session::begun();
    let m1 = pod(1, "sim", "m1", "u1");
    session.deploys(1, "sim", &["m1"], HOUR);
    session.created(&m1);
    session.passes(2.0);
    session.records.loses_its_progress();
    session.restarted(vec![m1.clone()]);
    session.fails("create so-sim-m1", refused(409, "already exists"));
    session.got(&m1);
    session.matches("a_progress_is_lost");
}

#[test]
fn running_pods_outlive_the_damage_of_their_record_and_a_request_again_takes_them_up() {
    let mut session = Session::begun();
    let m1 = pod(1, "sim", "m1", "u1");
    session.deploys(1, "sim", &["m1"], HOUR);
    session.created(&m1);
    session.passes(2.0);
    session.records.is_damaged();
    session.restarted(vec![m1.clone()]);
    session.passes(30.0);
    session.deploys(1, "sim", &["m1"], HOUR);
    session.fails("create so-sim-m1", refused(409, "already exists"));
    session.got(&m1);
    session.matches("a_record_is_damaged");
}

#[test]
fn a_simulation_ends_whose_request_was_recorded_in_part_and_does_not_come_again() {
    let mut session = Session::begun();
    let request = DeployRequest { models: vec![large_model("m1"), large_model("m2")], ..request(1, "sim", &[], HOUR) };
    session.core.handle(deploy_event(request), now_at(session.start, session.since));
    session.write_commands();
    let (simulation, piece) = session.record_calls.remove(0);
    let result = session.records.carry_out(&piece);
    session.core.handle(Event::Record(RecordOutcome { simulation, call: piece, result }), now_at(session.start, session.since));
    session.restarted(vec![pod(1, "another", "m1", "u1")]);
    session.passes(61.0);
    session.passes(3600.0);
    session.matches("a_request_recorded_in_part");
}

#[test]
fn nobody_is_told_of_an_end_while_pods_of_a_lost_request_run() {
    let mut session = Session::begun();
    let m1 = pod(1, "sim", "m1", "u1");
    session.deploys(1, "sim", &["m1"], HOUR);
    session.created(&m1);
    session.passes(2.0);
    session.records.loses_its_pieces();
    session.restarted(vec![m1.clone()]);
    session.passes(61.0);
    session.matches("a_request_is_lost_while_its_pods_run");
}

#[test]
fn a_piece_that_a_quota_has_no_room_for_fails_its_request_in_time() {
    fails_its_request_in_time(|records| &mut records.is_full, "a_piece_that_cannot_be_created");
}

#[test]
fn a_progress_that_cannot_be_created_fails_its_request_in_time() {
    fails_its_request_in_time(|records| &mut records.has_room_for_pieces_only, "a_progress_that_cannot_be_created");
}

fn fails_its_request_in_time(obstacle: fn(&mut Records) -> &mut bool, transcript: &str) {
    let mut session = Session::begun();
    *obstacle(&mut session.records) = true;
    session.deploys(1, "sim", &["m1"], HOUR);
    session.passes(1000.0);
    session.acknowledged();
    session.acknowledged();
    *obstacle(&mut session.records) = false;
    session.passes(3600.0);
    assert_eq!(session.records.all(), [], "nothing is begun by the next process");
    session.matches(transcript);
}

/// Nobody looks for one line of some hours ago.
#[test]
fn a_record_that_cannot_be_written_for_long_is_said_again_and_so_is_its_end() {
    let mut session = Session::begun();
    session.deploys(1, "sim", &["m1"], HOUR);
    session.created(&pod(1, "sim", "m1", "u1"));
    session.records.updates_are_away = true;
    session.passes(400.0);
    session.ready("sim", "m1");
    session.passes(301.0);
    session.records.updates_are_away = false;
    session.passes(31.0);
    session.matches("a_record_that_cannot_be_written_for_long");
}

#[test]
fn the_pieces_of_a_request_are_written_one_after_the_other() {
    let mut session = Session::begun();
    let models = (1..=4).map(|number| large_model(&format!("m{number}"))).collect();
    session.handle("DeployModels 1 for sim, of 2.4 MB", deploy_event(DeployRequest { models, ..request(1, "sim", &[], HOUR) }));
    session.matches("a_request_in_pieces");
}

/// Of its piece nobody could say whether it was written.
#[test]
fn a_request_that_was_told_as_failed_is_not_begun_by_the_next_process() {
    let mut session = Session::begun();
    session.records.answers_are_lost = true;
    session.deploys(1, "sim", &["m1"], HOUR);
    session.passes(330.0);
    session.acknowledged();
    session.acknowledged();
    session.killed();
    session.records.answers_are_lost = false;
    session.finds(vec![]);
    session.acknowledged();
    session.passes(3600.0);
    assert_eq!(session.records.all(), [], "nothing is left for the next process");
    session.matches("a_request_told_as_failed_is_not_begun");
}

/// Whoever asks again asks for a run.
#[test]
fn an_old_request_that_was_cut_off_is_begun_where_it_comes_again() {
    let mut session = Session::begun();
    session.core.handle(deploy_event(request(1, "sim", &["m1"], HOUR)), now_at(session.start, session.since));
    session.write_commands();
    let (_, piece) = session.record_calls.remove(0);
    session.records.carry_out(&piece).unwrap();
    session.killed_while_the_broker_is_away();
    session.passes(600.0);
    session.connected();
    session.deploys(1, "sim", &["m1"], HOUR);
    session.finds(vec![]);
    session.matches("an_old_request_that_was_cut_off");
}

#[test]
fn what_is_told_of_a_request_that_cannot_be_recorded_waits_until_none_of_it_is_left() {
    let mut session = Session::begun();
    session.records.has_room_for_pieces_only = true;
    session.records.deletes_are_away = true;
    session.deploys(1, "sim", &["m1"], HOUR);
    session.passes(1000.0);
    session.records.deletes_are_away = false;
    session.passes(31.0);
    session.matches("a_request_that_cannot_be_recorded_nor_deleted");
}

#[test]
fn a_write_that_a_proxy_repeated_is_not_taken_for_that_of_a_second_service() {
    let mut session = Session::begun();
    session.deploys(1, "sim", &["m1"], HOUR);
    session.created(&pod(1, "sim", "m1", "u1"));
    session.records.repeats_the_next_update = true;
    session.passes(2.0);
    session.matches("a_write_that_a_proxy_repeated");
}

#[test]
fn a_request_behind_one_that_could_not_be_recorded_does_not_begin_after_a_restart() {
    let mut session = Session::begun();
    let m1 = pod(1, "sim", "m1", "u1");
    session.deploys(1, "sim", &["m1"], HOUR);
    session.created(&m1);
    session.passes(2.0);
    session.records.refuses_pieces = true;
    session.deploys(2, "sim", &["m2"], HOUR);
    session.records.refuses_pieces = false;
    session.deploys(3, "sim", &["m3"], HOUR);
    session.acknowledged();
    session.passes(2.0);
    session.restarted(vec![m1]);
    session.matches("a_request_behind_one_that_could_not_be_recorded");
}

#[test]
fn a_request_that_comes_again_while_its_old_piece_goes_is_recorded_anew() {
    let mut session = Session::begun();
    session.deploys(1, "sim", &["m1"], HOUR);
    session.fails("create so-sim-m1", refused(422, "Pod \"so-sim-m1\" is invalid"));
    session.fails("get so-sim-m1", refused(404, "not found"));
    session.acknowledged();
    session.records.deletes_are_away = true;
    session.acknowledged();
    session.deploys(1, "sim", &["m1"], HOUR);
    session.records.deletes_are_away = false;
    session.passes(2.0);
    session.matches("a_request_again_while_its_old_piece_goes");
}

#[test]
fn an_end_that_nobody_was_told_is_not_forgotten() {
    let mut session = Session::begun();
    session.deploys(1, "sim", &["m1"], HOUR);
    session.fails("create so-sim-m1", refused(422, "Pod \"so-sim-m1\" is invalid"));
    session.fails("get so-sim-m1", refused(404, "not found"));
    session.acknowledged();
    session.disconnected();
    session.passes(700.0);
    session.restarted(vec![]);
    session.acknowledged();
    session.passes(700.0);
    session.matches("an_end_that_nobody_was_told");
}

#[test]
fn models_ready_that_waits_for_the_broker_again_is_not_recorded_as_being_sent() {
    let mut session = Session::begun();
    session.deploys(1, "sim", &["m1"], HOUR);
    session.created(&pod(1, "sim", "m1", "u1"));
    session.core.handle(ready_event("sim", "m1"), now_at(session.start, session.since));
    session.core.handle(Event::Broker(BrokerEvent::Disconnected), now_at(session.start, session.since));
    session.write_commands();
    session.record();
    session.passes(2.0);
    session.restarted(vec![pod(1, "sim", "m1", "u1")]);
    session.passes(5.0);
    session.matches("models_ready_that_waits_again");
}

#[test]
fn a_kill_while_the_pods_of_an_identical_run_before_go_does_not_mix_up_the_two_runs() {
    let mut session = Session::begun();
    let old = ended(pod(1, "sim", "m1", "u1"), 3, "Error");
    session.deploys(1, "sim", &["m1"], HOUR);
    session.created(&pod(1, "sim", "m1", "u1"));
    session.shows("exit 3", &old);
    session.log_is("");
    session.acknowledged();
    session.acknowledged();
    session.deploys(1, "sim", &["m1"], HOUR);
    session.restarted(vec![old.clone()]);
    session.done("delete so-sim-m1");
    session.deleted(&old);
    session.created(&pod(1, "sim", "m1", "u2"));
    session.passes(2.0);
    session.matches("a_kill_while_the_pods_of_the_run_before_go");
}

#[test]
fn what_is_not_recorded_yet_is_recorded_before_a_stop() {
    let mut session = Session::begun();
    session.deploys(1, "sim", &["m1", "m2"], HOUR);
    session.created(&pod(1, "sim", "m1", "u1"));
    session.created(&pod(1, "sim", "m2", "u2"));
    session.ready("sim", "m1");
    assert!(!session.core.is_idle(), "that waits for company");
    session.handle("SIGTERM", Event::Stop);
    assert!(session.core.is_idle());
    session.matches("what_is_recorded_before_a_stop");
}

#[test]
fn models_ready_in_flight_to_a_broker_that_lost_our_session_fails_what_has_not_ended() {
    let mut session = Session::begun();
    let (m1, m2) = (pod(1, "sim", "m1", "u1"), pod(1, "sim", "m2", "u2"));
    session.deploys(1, "sim", &["m1", "m2"], HOUR);
    session.created(&m1);
    session.created(&m2);
    session.ready("sim", "m1");
    session.ready("sim", "m2");
    session.disconnected();
    let id = session.messages.remove(0);
    session.shows("exit 0", &ended(m1, 0, "Completed"));
    session.handle(
        "the broker has no session of ours: whether it passed ModelsReady on is not known",
        Event::Broker(BrokerEvent::Doubtful(id)),
    );
    session.connected();
    session.passes(6.0);
    session.answered("stop so-sim-m2", "stopped", Ok(Answer::Pod(Box::new(parsed(m2)))));
    session.acknowledged();
    session.acknowledged();
    session.matches("models_ready_in_doubt");
}

#[test]
fn where_config_maps_are_forbidden_models_ready_in_doubt_is_not_marked_as_sent() {
    let mut session = Session::new();
    session.connected();
    session.finds_records_forbidden(vec![]);
    session.deploys(1, "sim", &["m1"], HOUR);
    let m1 = marked(pod(1, "sim", "m1", "u1"), "no");
    session.created(&m1);
    session.ready("sim", "m1");
    session.done("mark so-sim-m1");
    session.disconnected();
    let id = session.messages.remove(0);
    session.handle(
        "the broker has no session of ours: whether it passed ModelsReady on is not known",
        Event::Broker(BrokerEvent::Doubtful(id)),
    );
    session.connected();
    // Before the pod is stopped.
    session.killed();
    session.finds_records_forbidden(vec![m1.clone()]);
    session.answered("stop so-sim-m1", "stopped", Ok(Answer::Pod(Box::new(parsed(m1)))));
    session.acknowledged();
    session.passes(5.0);
    session.acknowledged();
    session.acknowledged();
    session.matches("models_ready_in_doubt_without_records");
}

#[test]
fn records_that_are_forbidden_for_a_moment_are_written_after_it() {
    let mut session = Session::begun();
    session.deploys(1, "sim", &["m1"], HOUR);
    session.records.are_forbidden = true;
    session.created(&pod(1, "sim", "m1", "u1"));
    session.ready("sim", "m1");
    session.passes(30.0);
    session.records.are_forbidden = false;
    session.passes(30.0);
    session.matches("records_forbidden_for_a_moment");
}

#[test]
fn models_ready_goes_out_after_a_restart_though_a_model_was_done_before_it() {
    let mut session = Session::begun();
    let (m1, m2) = (pod(1, "sim", "m1", "u1"), pod(1, "sim", "m2", "u2"));
    session.deploys(1, "sim", &["m1", "m2"], HOUR);
    session.created(&m1);
    session.created(&m2);
    session.ready("sim", "m1");
    session.shows("exit 0", &ended(m1.clone(), 0, "Completed"));
    session.passes(1.0);
    session.restarted(vec![ended(m1, 0, "Completed"), m2]);
    session.ready("sim", "m2");
    session.passes(6.0);
    session.matches("models_ready_after_one_was_done");
}

#[test]
fn a_ready_counts_that_is_heard_after_the_end_of_its_model() {
    let mut session = Session::begun();
    let (m1, m2) = (pod(1, "sim", "m1", "u1"), pod(1, "sim", "m2", "u2"));
    session.deploys(1, "sim", &["m1", "m2"], HOUR);
    session.created(&m1);
    session.created(&m2);
    session.shows("exit 0", &ended(m1, 0, "Completed"));
    session.ready("sim", "m1");
    session.ready("sim", "m2");
    session.matches("ready_after_the_end");
}

/// Of a simulation of two.
fn one_of_two(model: &str, uid: &str) -> Value {
    with(pod(1, "sim", model, uid), "/metadata/annotations/mso.dots~1models", json!("2"))
}

/// Made without a record.
fn marked(pod: Value, models_ready: &str) -> Value {
    with(pod, "/metadata/annotations/mso.dots~1models-ready", json!(models_ready))
}

#[test]
fn where_config_maps_are_forbidden_the_first_pod_says_that_models_ready_went_out() {
    let mut session = Session::new();
    session.connected();
    session.finds_records_forbidden(vec![]);
    session.deploys(1, "sim", &["m1", "m2"], HOUR);
    session.created(&one_of_two("m1", "u1"));
    session.created(&one_of_two("m2", "u2"));
    session.ready("sim", "m1");
    session.ready("sim", "m2");
    session.done("mark so-sim-m1");
    session.acknowledged();
    session.fails("mark so-sim-m1", refused(403, "User \"u\" cannot patch resource \"pods\""));
    session.passes(40.0);
    session.done("mark so-sim-m1");
    session.matches("models_ready_is_marked");
}

#[test]
fn where_config_maps_are_forbidden_models_ready_goes_out_also_where_a_model_is_faster_than_the_answer_to_its_create() {
    let mut session = Session::new();
    session.connected();
    session.finds_records_forbidden(vec![]);
    session.deploys(1, "sim", &["m1"], HOUR);
    session.ready("sim", "m1");
    session.created(&pod(1, "sim", "m1", "u1"));
    session.matches("ready_before_the_answer_without_records");
}

#[test]
fn where_config_maps_are_forbidden_models_ready_goes_out_although_the_first_pod_is_gone_by_then() {
    let mut session = Session::new();
    session.connected();
    session.finds_records_forbidden(vec![]);
    session.deploys(1, "sim", &["m1", "m2"], HOUR);
    let m1 = one_of_two("m1", "u1");
    session.created(&m1);
    session.created(&one_of_two("m2", "u2"));
    session.ready("sim", "m1");
    session.done("mark so-sim-m1");
    session.shows("exit 0", &ended(m1.clone(), 0, "Completed"));
    session.deleted(&ended(m1, 0, "Completed"));
    session.ready("sim", "m2");
    session.acknowledged();
    session.shows("exit 0", &ended(one_of_two("m2", "u2"), 0, "Completed"));
    session.acknowledged();
    session.matches("models_ready_without_the_first_pod");
}

#[test]
fn where_config_maps_are_forbidden_a_simulation_goes_on_whose_pods_are_all_there_and_marked() {
    let mut session = Session::new();
    session.connected();
    session.deploys(1, "sim", &["m1", "m2"], HOUR);
    let m2 = marked(one_of_two("m2", "u2"), "no");
    session.finds_records_forbidden(vec![ended(marked(one_of_two("m1", "u1"), "sent"), 0, "Completed"), m2.clone()]);
    session.acknowledged();
    session.shows("exit 0", &ended(m2, 0, "Completed"));
    session.acknowledged();
    session.acknowledged();
    session.matches("a_marked_simulation_goes_on");
}

#[test]
fn a_simulation_that_was_begun_without_a_record_goes_on_also_when_records_are_allowed_again() {
    let mut session = Session::begun();
    session.killed();
    session.finds(vec![
        marked(one_of_two("m1", "u1"), "sent"),
        marked(one_of_two("m2", "u2"), "no"),
        marked(pod(2, "other", "m1", "u3"), "no"),
    ]);
    session.acknowledged();
    session.matches("marked_simulations_and_records_again");
}

#[test]
fn a_simulation_that_was_begun_without_a_record_stays_without_one_whatever_is_added_to_it() {
    let mut session = Session::begun();
    session.killed();
    session.finds(vec![marked(pod(1, "sim", "m1", "u1"), "sent")]);
    session.deploys(2, "sim", &["m2"], HOUR);
    let (m1, m2) = (marked(one_of_two("m1", "u1"), "sent"), marked(pod(2, "sim", "m2", "u2"), "no"));
    session.done("mark so-sim-m1");
    session.created(&m2);
    session.passes(2.0);
    session.restarted(vec![m1.clone(), m2.clone()]);
    session.shows("exit 0", &ended(m1, 0, "Completed"));
    session.shows("exit 0", &ended(m2, 0, "Completed"));
    session.acknowledged();
    session.acknowledged();
    session.deploys(3, "sim", &["m1"], HOUR);
    session.matches("a_marked_simulation_and_more_models");
}

#[test]
fn a_simulation_fails_openly_that_was_begun_without_a_record_and_of_which_too_little_is_known() {
    let of_three = |pod| with(pod, "/metadata/annotations/mso.dots~1models", json!("3"));
    let (m1, m2) = (one_of_two("m1", "u1"), one_of_two("m2", "u2"));
    let cases = [
        ("models_ready_may_not_have_gone_out", vec![ended(marked(m1.clone(), "no"), 0, "Completed"), marked(m2.clone(), "no")]),
        ("a_marked_simulation_lacks_its_last_pod", vec![of_three(marked(m1, "sent")), marked(m2.clone(), "no")]),
        ("a_marked_simulation_lacks_its_first_pod", vec![marked(m2, "no")]),
    ];
    for (name, pods) in cases {
        let mut session = Session::new();
        session.connected();
        session.finds_records_forbidden(pods);
        session.acknowledged();
        session.acknowledged();
        session.matches(name);
    }
}

#[test]
fn pods_whose_record_may_not_be_read_are_left_alone() {
    let mut session = Session::new();
    session.connected();
    let (m1, m2) = (one_of_two("m1", "u1"), ended(one_of_two("m2", "u2"), 0, "Completed"));
    session.finds_records_forbidden(vec![m1.clone(), m2.clone()]);
    session.passes(301.0);
    session.deleted(&m1);
    session.deleted(&m2);
    session.passes(3600.0);
    session.matches("pods_whose_record_may_not_be_read");
}

/// The next process, which may read it, tells how they ended.
#[test]
fn pods_whose_record_may_not_be_read_are_left_alone_though_all_have_ended() {
    let mut session = Session::begun();
    let m1 = pod(1, "sim", "m1", "u1");
    session.deploys(1, "sim", &["m1"], HOUR);
    session.created(&m1);
    session.passes(2.0);
    let over = ended(m1, 0, "Completed");
    session.killed();
    session.finds_records_forbidden(vec![over.clone()]);
    session.passes(200.0);
    session.restarted(vec![over]);
    session.acknowledged();
    session.acknowledged();
    session.matches("ended_pods_whose_record_may_not_be_read");
}

#[test]
fn a_model_whose_pod_was_lost_without_a_record_is_told_when_its_request_comes_again() {
    let mut session = Session::new();
    session.connected();
    session.finds_records_forbidden(vec![marked(one_of_two("m1", "u1"), "no")]);
    session.deploys(1, "sim", &["m1", "m2"], HOUR);
    session.acknowledged();
    session.passes(1.0);
    session.matches("a_request_comes_again_without_a_record");
}

#[test]
fn records_that_are_forbidden_for_good_leave_a_mark_on_what_runs() {
    let mut session = Session::begun();
    session.deploys(1, "sim", &["m1", "m2"], HOUR);
    session.created(&one_of_two("m1", "u1"));
    session.created(&one_of_two("m2", "u2"));
    session.ready("sim", "m1");
    session.ready("sim", "m2");
    session.acknowledged();
    session.records.are_forbidden = true;
    session.shows("exit 0", &ended(one_of_two("m2", "u2"), 0, "Completed"));
    session.passes(300.0);
    session.done("mark so-sim-m1");
    session.matches("records_forbidden_for_good");
}

/// It waited for the broker when ConfigMaps were forbidden.
#[test]
fn a_mark_that_models_ready_went_out_counts_although_an_older_record_says_that_it_did_not() {
    let mut session = Session::begun();
    session.deploys(1, "sim", &["m1"], HOUR);
    session.created(&pod(1, "sim", "m1", "u1"));
    session.disconnected();
    session.ready("sim", "m1");
    session.passes(2.0);
    session.restarted(vec![marked(pod(1, "sim", "m1", "u1"), "sent")]);
    session.passes(10.0);
    session.matches("a_mark_is_newer_than_a_record");
}

#[test]
fn a_mark_on_a_pod_of_the_run_before_says_nothing_of_the_run_that_is_recorded() {
    let over = marked(ended(pod(1, "sim", "m1", "u1"), 0, "Completed"), "sent");
    for (case, deploy) in [("another", 2), ("the_same", 1)] {
        let mut session = Session::begun();
        session.killed();
        session.finds(vec![over.clone()]);
        session.acknowledged();
        session.acknowledged();
        session.deploys(deploy, "sim", &["m1"], HOUR);
        session.restarted(vec![over.clone()]);
        session.done("delete so-sim-m1");
        session.deleted(&over);
        session.created(&pod(deploy, "sim", "m1", "u2"));
        session.ready("sim", "m1");
        session.passes(6.0);
        session.matches(&format!("a_mark_of_the_run_before_{case}_request"));
    }
}

#[test]
fn pods_of_a_record_that_was_not_read_are_left_alone_though_all_have_ended() {
    let simulator = SimulatorName::new("so").unwrap();
    let name = RecordName::of_progress(&simulator, &SimulationId::new("sim").unwrap());
    let mut too_many = Found::default();
    too_many.left_out_from = Some(name.clone());
    let mut of_another_format = Found::default();
    of_another_format.unusable.push(name.to_string());
    for (case, found) in [("left_out", too_many), ("unusable", of_another_format)] {
        let mut session = Session::new();
        session.connected();
        session.handle("the records", Event::Pods(PodsEvent::Records(found)));
        let (m1, m2) = (pod(1, "sim", "m1", "u1"), marked(pod(1, "sim", "m2", "u2"), "no"));
        session.listed(vec![ended(m1, 0, "Completed"), ended(m2, 0, "Completed")]);
        session.deploys(1, "sim", &["m1"], HOUR);
        session.matches(&format!("pods_of_a_record_that_was_{case}"));
    }
}

#[test]
fn the_same_request_again_is_acknowledged_when_its_new_run_is_recorded_and_not_before() {
    let mut session = Session::begun();
    session.deploys(1, "sim", &["m1"], 0.0);
    session.created(&pod(1, "sim", "m1", "u1"));
    session.shows("exit 0", &ended(pod(1, "sim", "m1", "u1"), 0, "Completed"));
    session.acknowledged();
    session.acknowledged();
    session.records.updates_are_away = true;
    session.handle("DeployModels 1 again, at QoS 1", at_qos_1(deploy_event(request(1, "sim", &["m1"], 0.0)), 9));
    session.passes(3.0);
    session.records.updates_are_away = false;
    session.passes(3.0);
    session.matches("the_same_request_again_is_acknowledged");
}

#[test]
fn a_pod_of_the_process_before_that_the_watch_shows_before_its_create_goes_out_stays_ready() {
    let mut session = Session::begun();
    let models = ["m1", "m2", "m3", "m4", "m5", "m6"];
    session.deploys(1, "sim", &models, HOUR);
    session.ready("sim", "m6");
    session.passes(1.0);
    session.restarted(vec![]);
    // Only some creates go out at once.
    session.shows("running", &pod(1, "sim", "m6", "u6"));
    for (model, uid) in [("m1", "u1"), ("m2", "u2"), ("m3", "u3"), ("m4", "u4"), ("m5", "u5")] {
        session.created(&pod(1, "sim", model, uid));
        session.ready("sim", model);
    }
    session.passes(6.0);
    session.matches("ready_of_a_pod_whose_create_did_not_go_out");
}

/// As where it was given up while nobody knew whether the progress names it, and deleted.
#[test]
fn a_simulation_goes_on_without_a_later_request_whose_pieces_are_gone_unless_a_pod_was_made_of_it() {
    for was_made in [false, true] {
        let mut session = Session::begun();
        let m1 = pod(1, "sim", "m1", "u1");
        session.deploys(1, "sim", &["m1"], HOUR);
        session.created(&m1);
        session.ready("sim", "m1");
        session.acknowledged();
        session.deploys(2, "sim", &["m2"], HOUR);
        if was_made {
            session.created(&pod(2, "sim", "m2", "u2"));
        }
        session.passes(2.0);
        session.records.loses_the_pieces_of(2);
        session.restarted(vec![m1.clone()]);
        session.shows("exit 0", &ended(m1, 0, "Completed"));
        session.passes(2.0);
        session.matches(if was_made { "a_later_request_is_lost_that_had_a_pod" } else { "a_later_request_is_lost" });
    }
}

#[test]
fn a_pod_that_somebody_deletes_is_said_and_its_model_given_up_where_it_does_not_go() {
    let mut session = Session::begun();
    let (m1, m2) = (pod(1, "sim", "m1", "u1"), pod(1, "sim", "m2", "u2"));
    session.deploys(1, "sim", &["m1", "m2"], HOUR);
    session.created(&m1);
    session.created(&m2);
    session.ready("sim", "m1");
    session.ready("sim", "m2");
    session.acknowledged();
    let deleted =
        with(with(m1, "/metadata/deletionTimestamp", json!("2023-11-14T22:13:50Z")), "/metadata/deletionGracePeriodSeconds", json!(30));
    session.shows("deleted, with its grace", &deleted);
    session.passes(2.0);
    session.passes(88.0);
    session.got(&deleted);
    session.acknowledged();
    session.matches("a_pod_that_does_not_go");
}

#[test]
fn a_node_that_is_lost_is_said_and_so_is_that_it_is_back_and_what_took_a_pod_away() {
    let mut session = Session::begun();
    let m1 = pod(1, "sim", "m1", "u1");
    let condition = |r#type: &str, reason: &str| {
        let condition = json!([{"type": r#type, "status": "True", "reason": reason, "message": "why"}]);
        with(m1.clone(), "/status/conditions", condition)
    };
    session.deploys(1, "sim", &["m1"], HOUR);
    session.created(&m1);
    session.ready("sim", "m1");
    session.acknowledged();
    let lost = json!([{"type": "Ready", "status": "False"}, {"type": "ContainersReady", "status": "True"}]);
    session.shows("of a node that is lost", &with(m1.clone(), "/status/conditions", lost));
    session.passes(1.0);
    session.shows("of a node that is back", &m1);
    session.passes(1.0);
    let evicted = condition("DisruptionTarget", "EvictionByEvictionAPI");
    session.shows("about to be evicted", &evicted);
    session.passes(1.0);
    session.deleted(&evicted);
    session.fails("get so-sim-m1", refused(404, "not found"));
    session.matches("a_lost_node_and_an_eviction");
}

#[test]
fn a_pod_that_its_node_turned_away_is_made_again_as_often_as_is_set_and_anew_by_each_process() {
    let rules = Rules { recreate_never_started: 1, ..Rules::default() };
    let mut session = Session::with(rules);
    session.connected();
    session.listed(vec![]);
    let [m1, m2] = ["m1", "m2"].map(|model| pod(1, "sim", model, &format!("u-{model}")));
    let turned_away = |pod: &Value| with(pod.clone(), "/status", json!({"phase": "Failed", "reason": "OutOfcpu", "message": "no room"}));
    session.deploys(1, "sim", &["m1", "m2"], 0.0);
    session.created(&m1);
    session.created(&m2);
    session.ready("sim", "m2");
    session.shows("turned away", &turned_away(&m1));
    session.killed();
    session.finds(vec![turned_away(&m1), m2.clone()]);
    session.deleted(&turned_away(&m1));
    let again = pod(1, "sim", "m1", "u-again");
    session.created(&again);
    session.shows("turned away again", &turned_away(&again));
    session.deleted(&turned_away(&again));
    let at_last = pod(1, "sim", "m1", "u-at-last");
    session.created(&at_last);
    session.shows("turned away again", &turned_away(&at_last));
    session.shows("turned away, after it was ready", &turned_away(&m2));
    session.matches("turned_away");
}

fn with_label(pod: &Value, label: &str, value: Value) -> Value {
    let mut changed = pod.clone();
    changed["metadata"]["labels"][label] = value;
    changed
}

#[test]
fn labels_that_somebody_takes_are_put_back_once_and_the_end_of_the_model_is_seen_without_them() {
    let mut session = Session::begun();
    let [m1, m2] = ["m1", "m2"].map(|model| pod(1, "sim", model, &format!("u-{model}")));
    session.deploys(1, "sim", &["m1", "m2"], 0.0);
    session.created(&m1);
    session.created(&m2);
    let unmarked = with_label(&m1, "mso.dots/simulator", Value::Null);
    // A watch says so of what its selector does not select any more, as it was before.
    session.deleted(&m1);
    session.got(&unmarked);
    session.done("label so-sim-m1");
    session.shows("its labels again", &m1);
    let renamed = with_label(&m2, "model_id", json!("another"));
    session.shows("another model's name", &renamed);
    session.got(&renamed);
    session.fails("label so-sim-m2", refused(404, "not found"));
    session.deleted(&m1);
    session.got(&unmarked);
    session.passes(60.0);
    session.got(&unmarked);
    session.got(&m2);
    session.passes(60.0);
    session.got(&ended(unmarked, 3, "Error"));
    session.matches("labels_are_taken");
}

#[test]
fn a_pod_that_lost_our_mark_before_a_restart_is_found_by_its_name() {
    let mut session = Session::begun();
    let m1 = pod(1, "sim", "m1", "u1");
    session.deploys(1, "sim", &["m1"], 0.0);
    session.created(&m1);
    session.ready("sim", "m1");
    session.acknowledged();
    session.restarted(vec![]);
    session.got(&with_label(&m1, "mso.dots/simulator", Value::Null));
    session.done("label so-sim-m1");
    session.shows("its labels again", &m1);
    session.shows("exit 0", &ended(m1, 0, "Completed"));
    session.matches("labels_were_taken_before_a_restart");
}

fn done_event(simulation: &str, model: Option<&str>) -> Event {
    let model = model.map(|model| ModelId::new(model).unwrap());
    Event::Broker(BrokerEvent::SimulationDone { simulation: SimulationId::new(simulation).unwrap(), model, delivery: None })
}

impl Session {
    /// As the SO in use ends a simulation.
    fn done_says_the_so_to(&mut self, simulation: &str, models: &[&str]) {
        for model in models {
            self.handle(&format!("SimulationDone to {simulation}/{model}"), done_event(simulation, Some(model)));
        }
    }

    fn cancels(&mut self, simulation: &str) {
        self.handle(&format!("SimulationDone to us for {simulation}"), done_event(simulation, None));
    }
}

fn without_node(pod: Value) -> Value {
    with(unschedulable(pod, "0/1 nodes are available"), "/spec/nodeName", json!(""))
}

#[test]
fn a_cancelled_simulation_ends_at_once_what_has_not_begun_and_the_rest_after_its_grace() {
    let mut session = Session::begun();
    let pods = ["m1", "m2", "m3"].map(|model| pod(1, "sim", model, &format!("u-{model}")));
    let waits = without_node(pods[1].clone());
    session.deploys(1, "sim", &["m1", "m2", "m3", "m4", "m5"], 0.0);
    session.created(&pods[0]);
    session.created(&waits);
    session.created(&pods[2]);
    session.ready("sim", "m1");
    session.cancels("sim");
    session.got(&waits);
    session.shows("exit 0", &ended(pods[0].clone(), 0, "Completed"));
    session.created(&pod(1, "sim", "m4", "u-m4"));
    session.passes(60.0);
    session.cancels("sim");
    session.passes(60.0);
    session.got(&pods[2]);
    session.acknowledged();
    session.acknowledged();
    session.matches("a_cancelled_simulation");
}

#[test]
fn a_model_that_was_told_to_end_has_its_grace_and_one_that_was_ready_may_write_its_results() {
    for (done, transcript) in [(None, "done_says_the_so"), (Some(Duration::from_secs(600)), "done_says_the_so_with_a_grace")] {
        let mut session = Session::with(Rules { limits: Limits { done, ..Limits::default() }, ..Rules::default() });
        session.connected();
        session.listed(vec![]);
        let (m1, m2) = (pod(1, "sim", "m1", "u1"), pod(1, "sim", "m2", "u2"));
        session.deploys(1, "sim", &["m1", "m2"], 0.0);
        session.created(&m1);
        session.created(&m2);
        session.ready("sim", "m1");
        session.done_says_the_so_to("sim", &["m1", "m2", "m3"]);
        session.passes(120.0);
        session.got(&m2);
        session.passes(480.0);
        if done.is_some() {
            session.got(&m1);
        } else {
            session.shows("exit 0", &ended(m1, 0, "Completed"));
        }
        session.acknowledged();
        session.matches(transcript);
    }
}

#[test]
fn after_simulation_done_there_is_neither_models_ready_nor_an_error() {
    let mut session = Session::begun();
    let (m1, m2) = (pod(1, "sim", "m1", "u1"), pod(1, "sim", "m2", "u2"));
    session.deploys(1, "sim", &["m1", "m2"], 0.0);
    session.created(&m1);
    session.created(&m2);
    session.ready("sim", "m1");
    session.done_says_the_so_to("sim", &["m1", "m2"]);
    session.ready("sim", "m2");
    session.shows("exit 1", &ended(m1, 1, "Error"));
    session.shows("exit 0", &ended(m2, 0, "Completed"));
    session.acknowledged();
    session.matches("neither_ready_nor_error_after_done");
}

#[test]
fn a_restart_knows_who_was_told_to_end_and_when() {
    let mut session = Session::begun();
    let (m1, m2) = (pod(1, "sim", "m1", "u1"), pod(2, "other", "m1", "u2"));
    session.deploys(1, "sim", &["m1"], 0.0);
    session.deploys(2, "other", &["m1", "m2"], 0.0);
    session.created(&m1);
    session.created(&m2);
    session.done_says_the_so_to("sim", &["m1"]);
    session.cancels("other");
    session.passes(60.0);
    session.restarted(vec![m1.clone(), m2.clone()]);
    session.passes(60.0);
    session.got(&m1);
    session.got(&m2);
    session.matches("a_restart_after_done");
}

/// Ended by its SO, it would make a failure of a success.
#[test]
fn what_fails_while_the_broker_is_away_is_no_error_where_its_so_has_ended_the_simulation_meanwhile() {
    let mut session = Session::with(Rules { report_errors: ReportErrors::Always, ..Rules::default() });
    session.connected();
    session.listed(vec![]);
    let m1 = pod(1, "sim", "m1", "u1");
    session.deploys(1, "sim", &["m1"], 0.0);
    session.created(&m1);
    session.ready("sim", "m1");
    session.acknowledged();
    session.disconnected();
    session.shows("exit 1", &ended(m1, 1, "Error"));
    session.connected();
    session.done_says_the_so_to("sim", &["m1"]);
    session.acknowledged();
    session.passes(6.0);
    session.acknowledged();
    session.matches("a_failure_while_the_broker_is_away");
}

#[test]
fn what_is_done_before_it_is_known_what_runs_is_ended_when_it_is() {
    let mut session = Session::begun();
    let m1 = without_node(pod(1, "sim", "m1", "u1"));
    session.deploys(1, "sim", &["m1"], 0.0);
    session.created(&m1);
    session.passes(1.0);
    session.killed();
    session.cancels("sim");
    session.cancels("nobody-knows");
    session.deploys(2, "later", &["m1", "m2"], 0.0);
    session.done_says_the_so_to("later", &["m1"]);
    session.finds(vec![m1.clone()]);
    session.got(&m1);
    session.passes(120.0);
    session.matches("done_before_the_list");
}

/// Both came to the process before, which had recorded the one and not the other.
#[test]
fn what_is_done_is_so_too_where_its_request_was_cut_off() {
    let mut session = Session::begun();
    session.core.handle(deploy_event(request(1, "sim", &["m1"], 0.0)), now_at(session.start, session.since));
    session.write_commands();
    let (simulation, piece) = session.record_calls.remove(0);
    let result = session.records.carry_out(&piece);
    session.core.handle(Event::Record(RecordOutcome { simulation, call: piece, result }), now_at(session.start, session.since));
    session.passes(5.0);
    session.killed();
    session.cancels("sim");
    session.passes(5.0);
    session.finds(vec![]);
    session.matches("done_and_cut_off");
}

#[test]
fn a_request_for_a_simulation_that_is_done_is_of_its_next_run() {
    let mut session = Session::begun();
    let m1 = pod(1, "sim", "m1", "u1");
    session.deploys(1, "sim", &["m1"], 0.0);
    session.created(&m1);
    session.ready("sim", "m1");
    session.acknowledged();
    session.passes(20.0);
    session.done_says_the_so_to("sim", &["m1"]);
    session.deploys(1, "sim", &["m1"], 0.0);
    session.shows("exit 0", &ended(m1, 0, "Completed"));
    session.acknowledged();
    session.acknowledged();
    session.matches("a_request_after_done");
}

#[test]
fn a_request_that_waits_for_a_run_that_is_done_and_hangs_fails_openly() {
    let mut session = Session::begun();
    let m1 = pod(1, "sim", "m1", "u1");
    session.deploys(1, "sim", &["m1"], 0.0);
    session.created(&m1);
    session.ready("sim", "m1");
    session.acknowledged();
    session.done_says_the_so_to("sim", &["m1"]);
    session.deploys(2, "sim", &["m1", "m2"], 0.0);
    session.passes(60.0);
    session.deploys(3, "sim", &["m1", "m3"], 0.0);
    session.passes(540.0);
    session.acknowledged();
    session.passes(60.0);
    session.shows("exit 0", &ended(m1, 0, "Completed"));
    session.matches("a_request_after_done_for_a_run_that_hangs");
}

#[test]
fn a_simulation_that_lives_for_too_long_is_ended_also_over_a_restart() {
    let simulation = Some(Duration::from_secs(3600));
    let rules = Rules { limits: Limits { simulation, ..Limits::default() }, ..Rules::default() };
    let mut session = Session::with(rules);
    session.connected();
    session.listed(vec![]);
    let m1 = pod(1, "sim", "m1", "u1");
    session.deploys(1, "sim", &["m1"], 0.0);
    session.created(&m1);
    session.passes(3000.0);
    session.killed();
    session.finds(vec![m1.clone()]);
    session.passes(600.0);
    session.passes(120.0);
    session.got(&m1);
    session.matches("a_simulation_lives_too_long");
}

#[test]
fn a_simulation_that_lives_for_too_long_is_told_so_also_where_one_model_was_done_before() {
    let simulation = Some(Duration::from_secs(3600));
    let rules = Rules { limits: Limits { simulation, ..Limits::default() }, ..Rules::default() };
    let mut session = Session::with(rules);
    session.connected();
    session.listed(vec![]);
    let pods = vec![pod(1, "sim", "m1", "u1"), pod(1, "sim", "m2", "u2")];
    session.deploys(1, "sim", &["m1", "m2"], 0.0);
    pods.iter().for_each(|pod| session.created(pod));
    session.ready("sim", "m1");
    session.done_says_the_so_to("sim", &["m1"]);
    session.passes(3600.0);
    session.passes(120.0);
    session.got(&pods[0]);
    session.got(&pods[1]);
    session.killed();
    session.finds(pods);
    session.matches("a_simulation_lives_too_long_after_one_was_done");
}

/// As where many images are pulled at once, one of which is not there.
#[test]
fn time_in_which_the_kubelet_holds_a_pull_back_does_not_count_and_the_rest_of_it_does() {
    let mut session = Session::begun();
    let m1 = pod(1, "sim", "m1", "u1");
    let [fails, held] = ["not found", "pull QPS exceeded"].map(|why| waiting(m1.clone(), "ErrImagePull", why));
    session.deploys(1, "sim", &["m1"], 0.0);
    session.created(&fails);
    session.passes(200.0);
    session.shows("held back", &held);
    session.passes(200.0);
    session.shows("not found", &fails);
    session.passes(98.0);
    session.shows("not found", &fails);
    session.passes(2.0);
    session.got(&fails);
    session.matches("a_pull_that_is_held_back");
}

#[test]
fn a_pod_that_is_deleted_with_a_grace_of_centuries_is_waited_for_like_others() {
    let mut session = Session::begun();
    let m1 = pod(1, "sim", "m1", "u1");
    session.deploys(1, "sim", &["m1"], 0.0);
    session.created(&m1);
    let mut goes = with(m1, "/metadata/deletionTimestamp", json!("9999-01-01T00:00:00Z"));
    goes["metadata"]["deletionGracePeriodSeconds"] = json!(i64::MAX);
    session.shows("to be deleted", &goes);
    session.passes(1.0);
    session.matches("a_grace_of_centuries");
}

#[test]
fn what_is_cancelled_while_its_record_cannot_be_written_is_told_when_that_is_given_up() {
    let mut session = Session::begun();
    session.records.is_full = true;
    session.deploys(1, "sim", &["m1"], 0.0);
    session.cancels("sim");
    session.passes(1000.0);
    session.acknowledged();
    session.acknowledged();
    session.matches("cancelled_without_a_record");
}

#[test]
fn a_model_that_ends_well_and_never_was_ready_is_an_error_for_the_others() {
    let mut session = Session::begun();
    let pods = ["m1", "m2", "m3"].map(|model| pod(1, "sim", model, &format!("u-{model}")));
    session.deploys(1, "sim", &["m1", "m2", "m3"], 0.0);
    pods.iter().for_each(|pod| session.created(pod));
    session.ready("sim", "m1");
    session.shows("exit 0", &ended(pods[1].clone(), 0, "Completed"));
    session.passes(20.0);
    session.acknowledged();
    session.passes(5.0);
    // What it said came late.
    session.ready("sim", "m2");
    session.passes(6.0);
    session.shows("exit 0", &ended(pods[2].clone(), 0, "Completed"));
    session.acknowledged();
    session.passes(10.0);
    session.acknowledged();
    session.matches("an_end_without_ready");
}

#[test]
fn what_a_container_left_as_its_message_is_said_beside_its_log_unless_that_ends_so() {
    let crashed = |message: &str| {
        let mut session = Session::begun();
        let m1 = pod(1, "sim", "m1", "u1");
        session.deploys(1, "sim", &["m1"], 0.0);
        session.created(&m1);
        let mut crash = ended(m1, 1, "Error");
        crash["status"]["containerStatuses"][0]["state"]["terminated"]["message"] = json!(message);
        session.shows("exit 1", &crash);
        session
    };
    let mut session = crashed("out of\u{1b} fuel");
    session.log_is("begins\nends");
    session.matches("a_last_word");
    let mut session = crashed("out of fuel");
    for _ in 0..4 {
        session.log_cannot_be_read(refused(503, "away"));
        session.passes(20.0);
    }
    session.matches("a_last_word_and_no_log");
    let mut session = crashed("ns\nends");
    session.log_is("begins\nends");
    session.matches("a_last_word_that_is_the_end_of_the_log");
}

#[test]
fn the_events_of_a_pod_that_does_not_come_to_run_are_said_and_told_when_it_is_given_up() {
    let mut session = Session::begun();
    let pods = ["m1", "m2"].map(|model| waiting(pod(1, "sim", model, &format!("u-{model}")), "ContainerCreating", ""));
    session.deploys(1, "sim", &["m1", "m2"], 0.0);
    pods.iter().for_each(|pod| session.created(pod));
    session.passes(120.0);
    session.events_are(&[
        ("Warning", "FailedMount", "secret \"x\" not found, at first"),
        ("Normal", "Scheduled", "to n1"),
        ("Warning", "FailedMount", "secret \"x\"\nnot found"),
        ("Warning", "FailedCreatePodSandBox", "no network"),
    ]);
    session.passes(780.0);
    pods.iter().for_each(|pod| session.got(pod));
    session.matches("events_of_what_does_not_run");
}

/// What the watch shows stays true, also where it may not be asked for.
#[test]
fn a_model_that_is_not_wanted_is_ended_also_where_its_pod_may_not_be_read() {
    let mut session = Session::begun();
    let m1 = pod(1, "sim", "m1", "u1");
    session.deploys(1, "sim", &["m1"], 0.0);
    session.created(&m1);
    session.cancels("sim");
    session.passes(120.0);
    for _ in 0..8 {
        session.fails("get so-sim-m1", refused(403, "User \"u\" cannot get resource \"pods\""));
        session.passes(70.0);
    }
    session.acknowledged();
    session.matches("cancelled_and_not_to_be_read");
}

/// A second request was recorded, and its pieces are gone: of its model nothing is known.
fn with_a_lost_request() -> (Session, Vec<Value>) {
    let mut session = Session::begun();
    let pods = vec![pod(1, "sim", "m1", "u1"), pod(1, "sim", "m2", "u2")];
    session.deploys(1, "sim", &["m1", "m2"], HOUR);
    pods.iter().for_each(|pod| session.created(pod));
    session.passes(1.0);
    session.deploys(2, "sim", &["m3"], HOUR);
    session.records.loses_the_pieces_of(2);
    session.restarted(pods.clone());
    session.ready("sim", "m1");
    session.ready("sim", "m2");
    (session, pods)
}

#[test]
fn a_simulation_that_lost_a_request_before_models_ready_fails_openly_also_over_another_restart() {
    let (mut session, pods) = with_a_lost_request();
    session.passes(30.0);
    session.restarted(pods);
    session.passes(61.0);
    session.matches("a_request_is_lost_before_models_ready");
}

#[test]
fn a_simulation_that_lost_a_request_goes_on_where_it_comes_again() {
    let (mut session, _) = with_a_lost_request();
    session.passes(2.0);
    session.deploys(2, "sim", &["m3"], HOUR);
    session.created(&pod(2, "sim", "m3", "u3"));
    session.ready("sim", "m3");
    session.passes(61.0);
    session.matches("a_lost_request_comes_again");
}

#[test]
fn a_request_behind_one_that_is_lost_is_begun() {
    let mut session = Session::begun();
    let m1 = pod(1, "sim", "m1", "u1");
    session.deploys(1, "sim", &["m1"], HOUR);
    session.created(&m1);
    session.deploys(2, "sim", &["m2"], HOUR);
    session.deploys(3, "sim", &["m3"], HOUR);
    session.records.loses_the_pieces_of(2);
    session.restarted(vec![m1]);
    session.matches("a_request_behind_a_lost_one");
}

/// That it was made was not recorded yet.
#[test]
fn pods_are_left_alone_where_one_of_them_is_of_a_request_that_is_lost() {
    let mut session = Session::begun();
    let m1 = pod(1, "sim", "m1", "u1");
    session.deploys(1, "sim", &["m1"], HOUR);
    session.created(&m1);
    session.deploys(2, "sim", &["m2"], HOUR);
    session.records.loses_the_pieces_of(2);
    session.restarted(vec![m1, pod(2, "sim", "m2", "u2")]);
    session.matches("a_pod_of_a_lost_request");
}

#[test]
fn an_answer_that_is_older_than_what_the_watch_has_shown_is_asked_for_again() {
    let mut session = Session::begun();
    let of_version = |pod: Value, version: &str| with(pod, "/metadata/resourceVersion", json!(version));
    let m1 = pod(1, "sim", "m1", "u1");
    session.deploys(1, "sim", &["m1"], HOUR);
    session.created(&of_version(m1.clone(), "5"));
    session.deleted(&of_version(m1.clone(), "8"));
    session.shows("here again, as it seems", &of_version(m1.clone(), "7"));
    session.got(&of_version(m1, "6"));
    session.passes(1.0);
    session.fails("get so-sim-m1", refused(404, "not found"));
    session.matches("an_old_answer");
}

#[test]
fn a_simulation_takes_a_hundred_requests_that_add_models_and_no_more() {
    let mut session = Session::begun();
    let mut is_refused_after = |requests: u64| {
        let mut more = request(1, "sim", &["m1", &format!("n{requests}")], HOUR);
        more.id = DeployId::new(&format!("{requests:016x}")).unwrap();
        session.text.clear();
        session.handle("one more", deploy_event(more));
        session.text.contains("is refused, and the simulation goes on without it: simulation: it has 100 requests")
    };
    assert!(!(0..100).any(&mut is_refused_after));
    assert!(is_refused_after(100));
    session.text.clear();
    session.deploys(200, "sim", &["m1", "n1"], HOUR);
    session.matches("a_request_too_many_that_adds_nothing");
}

#[test]
fn pods_without_a_record_that_have_all_ended_go_in_their_time() {
    let mut session = Session::begun();
    session.killed();
    let kept_for = |hours: &str, pod| with(pod, "/metadata/labels/keep_logs_hours", json!(hours));
    let m1 = kept_for("0.5", ended(one_of_two("m1", "u1"), 0, "Completed"));
    let (m2, still_runs) = (kept_for("inf", ended(one_of_two("m2", "u2"), 3, "Error")), pod(2, "other", "m1", "u3"));
    session.finds(vec![m1, m2, still_runs]);
    session.matches("pods_without_a_record");
}

#[test]
fn one_refusal_after_a_long_outage_does_not_give_records_up() {
    let mut session = Session::begun();
    session.deploys(1, "sim", &["m1"], HOUR);
    session.records.updates_are_away = true;
    session.created(&pod(1, "sim", "m1", "u1"));
    session.passes(130.0);
    session.records.updates_are_away = false;
    session.records.are_forbidden = true;
    session.passes(31.0);
    session.records.are_forbidden = false;
    session.passes(40.0);
    session.matches("records_forbidden_after_an_outage");
}

#[test]
fn models_ready_waits_for_the_models_of_a_second_request() {
    let mut session = Session::begun();
    session.deploys(1, "sim", &["m1"], HOUR);
    session.created(&pod(1, "sim", "m1", "u1"));
    session.deploys(2, "sim", &["m1", "m2"], HOUR);
    session.ready("sim", "m1");
    session.passes(2.0);
    session.created(&pod(2, "sim", "m2", "u2"));
    session.ready("sim", "m2");
    session.matches("models_ready_waits_for_a_second_request");
}

#[test]
fn a_simulation_runs_anew_although_the_right_to_delete_its_record_was_taken_away() {
    let mut session = Session::begun();
    let m1 = pod(1, "sim", "m1", "u1");
    session.deploys(1, "sim", &["m1"], 0.0);
    session.created(&m1);
    session.shows("exit 0", &ended(m1.clone(), 0, "Completed"));
    session.acknowledged();
    session.acknowledged();
    session.deleted(&m1);
    session.records.are_forbidden = true;
    session.passes(3600.0);
    session.deploys(1, "sim", &["m1"], HOUR);
    session.created(&pod(1, "sim", "m1", "u2"));
    session.matches("records_forbidden_while_one_goes");
}

#[test]
fn a_record_that_somebody_else_changed_ends_the_service() {
    let mut session = Session::begun();
    session.deploys(1, "sim", &["m1"], HOUR);
    session.records.is_changed_by_another_service();
    session.created(&pod(1, "sim", "m1", "u1"));
    session.passes(1.0);
    session.matches("a_second_service");
}

#[test]
fn a_watch_that_is_faster_than_the_answer_changes_nothing() {
    let mut session = Session::begun();
    let m1 = pod(1, "sim", "m1", "u1");
    session.deploys(1, "sim", &["m1"], HOUR);
    session.shows("exit 3", &ended(m1.clone(), 3, "Error"));
    session.created(&m1);
    session.matches("a_watch_that_is_faster_than_the_answer");
}

#[test]
fn a_foreign_pod_with_the_name_fails_the_model_and_is_left_alone() {
    let mut session = Session::begun();
    session.deploys(1, "sim", &["m1"], HOUR);
    session.fails("create so-sim-m1", refused(409, "pods \"so-sim-m1\" already exists"));
    session.got(&with(pod(1, "sim", "m1", "theirs"), "/metadata/labels/mso.dots~1simulator", json!(null)));
    session.acknowledged();
    session.acknowledged();
    session.passes(1e6);
    session.matches("a_foreign_pod_has_the_name");
}

#[test]
fn a_pod_that_is_still_going_is_waited_for_and_not_for_ever() {
    let mut session = Session::begun();
    let going = with(pod(9, "sim", "m1", "old"), "/metadata/deletionTimestamp", json!("1970-01-12T13:47:10Z"));
    session.deploys(1, "sim", &["m1"], HOUR);
    for _ in 0..2 {
        session.fails("create so-sim-m1", refused(409, "object is being deleted: pods \"so-sim-m1\" already exists"));
        session.got(&going);
        session.passes(60.0);
    }
    session.fails("create so-sim-m1", refused(409, "object is being deleted: pods \"so-sim-m1\" already exists"));
    session.got(&going);
    session.matches("a_pod_that_is_still_going");
}

#[test]
fn a_quota_holds_all_creates_and_lets_them_go_on_or_fail_together() {
    let mut session = Session::begun();
    session.deploys(1, "sim", &["m1", "m2", "m3", "m4", "m5", "m6"], HOUR);
    let full = || refused(403, "pods \"p\" is forbidden: exceeded quota: q, requested: pods=1, used: pods=1, limited: pods=1");
    session.created(&pod(1, "sim", "m1", "u1"));
    session.fails("create so-sim-m2", full());
    session.fails("create so-sim-m3", full());
    session.fails("create so-sim-m4", full());
    session.passes(1.0);
    session.created(&pod(1, "sim", "m5", "u5"));
    session.fails("create so-sim-m6", full());
    session.passes(14.0 * 60.0);
    session.fails("create so-sim-m2", full());
    session.passes(61.0);
    session.fails("create so-sim-m3", full());
    for model in ["m2", "m3", "m4", "m6"] {
        session.fails(&format!("get so-sim-{model}"), refused(404, "not found"));
    }
    session.matches("a_quota");
}

#[test]
fn an_api_server_that_is_away_is_said_once_and_waited_for() {
    let mut session = Session::begun();
    session.deploys(1, "sim", &["m1", "m2"], HOUR);
    session.handle("the watch breaks", Event::Pods(PodsEvent::Failed(Error::Lost("connection refused".to_owned()))));
    session.fails("create so-sim-m1", Error::Lost("connection refused".to_owned()));
    session.fails("create so-sim-m2", Error::Lost("connection refused".to_owned()));
    session.passes(1.0);
    session.created(&pod(1, "sim", "m1", "u1"));
    session.created(&pod(1, "sim", "m2", "u2"));
    session.matches("an_api_server_that_is_away");
}

#[test]
fn an_api_server_that_stays_away_fails_what_could_not_be_created() {
    let mut session = Session::new();
    session.connected();
    session.deploys(1, "sim", &["m1", "m2"], HOUR);
    session.list_fails();
    session.passes(299.0);
    session.list_fails();
    session.passes(1.0);
    session.list_fails();
    session.acknowledged();
    session.matches("an_api_server_that_stays_away");
}

#[test]
fn what_was_told_as_failed_while_the_api_was_away_does_not_run_when_its_record_turns_up() {
    let mut session = Session::begun();
    let [m1, m2] = [("m1", "u1"), ("m2", "u2")].map(|(model, uid)| pod(1, "sim", model, uid));
    session.deploys(1, "sim", &["m1", "m2", "m3"], HOUR);
    session.created(&m1);
    session.created(&m2);
    session.deploys(2, "sim", &["m4"], HOUR);
    session.passes(2.0);
    session.killed();
    session.deploys(1, "sim", &["m1", "m2", "m3"], HOUR);
    session.is_away();
    session.acknowledged();
    session.finds(vec![m1.clone(), ended(m2.clone(), 0, "Completed")]);
    session.answered("stop so-sim-m1", "stopped", Ok(Answer::Pod(Box::new(parsed(m1.clone())))));
    session.log_is("");
    session.acknowledged();
    session.done("set delete_by of so-sim-m2");
    session.shows("stopped", &ended(m1, 137, "DeadlineExceeded"));
    session.deploys(1, "sim", &["m1"], HOUR);
    session.matches("a_record_of_what_was_given_up");
}

#[test]
fn what_was_told_as_failed_while_the_api_was_away_counts_as_told_when_the_broker_has_it() {
    let mut session = Session::begun();
    let m1 = pod(1, "sim", "m1", "u1");
    session.deploys(1, "sim", &["m1", "m2"], HOUR);
    session.created(&m1);
    session.passes(2.0);
    session.killed();
    session.deploys(1, "sim", &["m1", "m2"], HOUR);
    session.is_away();
    session.finds(vec![m1]);
    session.acknowledged();
    session.matches("what_was_told_before_the_list_is_acknowledged_after_it");
}

#[test]
fn a_request_that_was_cut_off_and_is_told_as_failed_while_the_api_is_away_is_not_begun() {
    let mut session = Session::begun();
    session.core.handle(deploy_event(request(1, "sim", &["m1"], HOUR)), now_at(session.start, session.since));
    session.write_commands();
    let (_, piece) = session.record_calls.remove(0);
    session.records.carry_out(&piece).unwrap();
    session.killed();
    session.deploys(1, "sim", &["m1"], HOUR);
    session.is_away();
    session.acknowledged();
    session.finds(vec![]);
    session.passes(3600.0);
    assert_eq!(session.records.all(), [], "nothing is left for the next process");
    session.matches("a_cut_off_request_that_was_given_up");
}

#[test]
fn a_pod_that_appears_after_its_model_was_given_up_is_ended() {
    let mut session = Session::begun();
    session.deploys(1, "sim", &["m1", "m2"], HOUR);
    session.fails("create so-sim-m1", Error::Lost("timed out".to_owned()));
    session.passes(301.0);
    session.fails("create so-sim-m2", Error::Lost("timed out".to_owned()));
    session.acknowledged();
    session.acknowledged();
    session.passes(1.0);
    session.shows("running", &pod(1, "sim", "m1", "u1"));
    session.shows("without a node", &with(pod(1, "sim", "m2", "u2"), "/spec/nodeName", json!("")));
    session.matches("a_pod_that_appears_after_its_model_was_given_up");
}

#[test]
fn a_pod_that_appears_after_the_end_of_its_simulation_and_a_restart_is_ended() {
    let mut session = Session::begun();
    session.deploys(1, "sim", &["m1", "m2"], HOUR);
    session.created(&pod(1, "sim", "m1", "u1"));
    session.shows("exit 3", &ended(pod(1, "sim", "m1", "u1"), 3, "Error"));
    session.fails("create so-sim-m2", refused(422, "invalid"));
    session.fails("get so-sim-m2", refused(404, "not found"));
    session.acknowledged();
    session.acknowledged();
    session.acknowledged();
    session.restarted(vec![pod(1, "sim", "m1", "u1"), pod(1, "sim", "m2", "u2")]);
    session.matches("a_pod_that_appears_after_the_end_and_a_restart");
}

#[test]
fn a_simulation_whose_record_may_be_among_those_that_were_left_out_is_refused_openly() {
    let mut session = Session::begun();
    session.killed();
    let simulator = SimulatorName::new("so").unwrap();
    let (one, other) = ("sim-2", "sim");
    let name = |id| RecordName::of_progress(&simulator, &SimulationId::new(id).unwrap());
    assert!(name(other) < name(one));
    let mut found = Found::default();
    found.left_out_from = Some(name(one));
    session.handle("the records, as many as are read", Event::Pods(PodsEvent::Records(found)));
    session.listed(vec![]);
    session.deploys(1, one, &["m1"], HOUR);
    session.deploys(2, other, &["m1"], HOUR);
    session.matches("records_that_were_left_out");
}

#[test]
fn the_same_request_again_changes_nothing_and_more_models_are_added() {
    let mut session = Session::begun();
    session.deploys(1, "sim", &["m1"], HOUR);
    session.created(&pod(1, "sim", "m1", "u1"));
    session.ready("sim", "m1");
    session.acknowledged();
    session.deploys(1, "sim", &["m1"], HOUR);
    session.deploys(2, "sim", &["m1=model:2", "m2"], HOUR);
    session.created(&pod(2, "sim", "m2", "u2"));
    session.ready("sim", "m2");
    session.matches("the_same_request_again");
}

/// What is recorded of each would add up without end.
#[test]
fn a_request_that_adds_no_model_is_not_recorded_and_known_again_after_the_end() {
    let mut session = Session::begun();
    let m1 = pod(1, "sim", "m1", "u1");
    session.deploys(1, "sim", &["m1"], HOUR);
    session.created(&m1);
    session.passes(2.0);
    session.handle("DeployModels 2 for sim: [m1=model:2], at QoS 1", at_qos_1(deploy_event(request(2, "sim", &["m1=model:2"], HOUR)), 1));
    session.restarted(vec![m1.clone()]);
    session.shows("exit 0", &ended(m1, 0, "Completed"));
    session.acknowledged();
    session.acknowledged();
    session.passes(60.0);
    session.disconnected();
    session.connected();
    session.handle("DeployModels 2 for sim: [m1=model:2], at QoS 1", at_qos_1(deploy_event(request(2, "sim", &["m1=model:2"], HOUR)), 2));
    session.matches("a_request_that_adds_no_model");
}

#[test]
fn what_requests_hold_that_change_models_is_counted_as_long_as_it_is_recorded() {
    let mut session = Session::begun();
    let of_6_mb = |deploy: u8| {
        let large = (1..=10).map(|number| ModelConfiguration { image: format!("model:{deploy}"), ..large_model(&format!("m{number}")) });
        let new = large_model(&format!("n{deploy}"));
        DeployRequest { models: large.chain([new]).collect(), ..request(deploy, "sim", &[], HOUR) }
    };
    let is_refused = |session: &Session| session.text.contains("is the most");
    let accepted = (1..100).take_while(|deploy| {
        session.handle("6 MB of models, one of them new", deploy_event(of_6_mb(*deploy)));
        !is_refused(&session)
    });
    assert_eq!(accepted.count(), 10, "of 64 MiB");
}

#[test]
fn of_many_runs_before_the_requests_of_the_last_ones_are_remembered() {
    let mut session = Session::begun();
    for deploy in 1..=40 {
        session.deploys(deploy, "sim", &["m1"], HOUR);
        session.created(&pod(deploy, "sim", "m1", &format!("u{deploy}")));
        session.deleted(&ended(pod(deploy, "sim", "m1", &format!("u{deploy}")), 0, "Completed"));
        session.acknowledged();
        session.acknowledged();
    }
    let texts = session.records.all().into_iter().filter_map(|record| match record.content {
        Content::Progress { text } => Some(text),
        Content::Piece { .. } => None,
    });
    let progress: Vec<Progress> = texts.map(|text| Progress::read(&text).unwrap()).collect();
    let earlier: Vec<String> = progress[0].earlier_deploys.iter().map(ToString::to_string).collect();
    assert_eq!(earlier, (8..40).map(|deploy| format!("{deploy:016x}")).collect::<Vec<_>>());
}

#[test]
fn a_simulation_that_runs_anew_has_its_old_pods_deleted_first() {
    let mut session = Session::begun();
    let old = ended(pod(1, "sim", "m1", "u1"), 0, "Completed");
    session.deploys(1, "sim", &["m1"], HOUR);
    session.created(&pod(1, "sim", "m1", "u1"));
    session.shows("exit 0", &old);
    session.acknowledged();
    session.acknowledged();
    session.done("set delete_by of so-sim-m1");
    session.passes(60.0);
    session.deploys(1, "sim", &["m1"], HOUR);
    session.done("delete so-sim-m1");
    session.shows("still there", &old);
    session.deleted(&old);
    session.created(&pod(1, "sim", "m1", "u2"));
    session.ready("sim", "m1");
    session.matches("a_simulation_runs_anew");
}

#[test]
fn a_request_that_the_broker_delivers_again_after_the_end_is_not_run_again() {
    let mut session = Session::begun();
    session.deploys(1, "sim", &["m1"], HOUR);
    session.created(&pod(1, "sim", "m1", "u1"));
    session.shows("exit 0", &ended(pod(1, "sim", "m1", "u1"), 0, "Completed"));
    session.acknowledged();
    session.acknowledged();
    session.passes(60.0);
    session.disconnected();
    session.deploys(1, "sim", &["m1"], HOUR);
    session.connected();
    session.deploys(1, "sim", &["m1"], HOUR);
    session.passes(11.0);
    session.deploys(1, "sim", &["m1"], HOUR);
    session.matches("a_redelivery");
}

/// It may have forgotten our acknowledgement, if it was killed too.
#[test]
fn a_request_that_a_broker_delivers_again_which_was_away_for_long_is_not_run_again() {
    let mut session = Session::begun();
    let m1 = pod(1, "sim", "m1", "u1");
    session.deploys(1, "sim", &["m1"], 0.0);
    session.created(&m1);
    session.shows("exit 0", &ended(m1.clone(), 0, "Completed"));
    session.acknowledged();
    session.acknowledged();
    session.deleted(&ended(m1, 0, "Completed"));
    session.killed_while_the_broker_is_away();
    session.finds(vec![]);
    session.passes(3600.0);
    session.deploys(1, "sim", &["m1"], 0.0);
    session.connected();
    session.passes(9.0);
    session.deploys(1, "sim", &["m1"], 0.0);
    session.passes(50.0);
    session.disconnected();
    session.passes(60.0);
    session.deploys(1, "sim", &["m1"], 0.0);
    session.connected();
    session.passes(90.0);
    session.matches("a_redelivery_by_a_broker_that_was_away");
}

/// By when it came first it is no redelivery, whatever the broker does with it since.
#[test]
fn a_request_for_a_new_run_that_waited_over_a_reconnect_is_run() {
    let mut session = Session::begun();
    session.deploys(1, "sim", &["m1"], HOUR);
    session.created(&pod(1, "sim", "m1", "u1"));
    session.shows("exit 0", &ended(pod(1, "sim", "m1", "u1"), 0, "Completed"));
    session.acknowledged();
    session.passes(60.0);
    session.handle("DeployModels 1 for sim: [m1], at QoS 1", at_qos_1(deploy_event(request(1, "sim", &["m1"], HOUR)), 1));
    session.disconnected();
    session.connected();
    session.handle("DeployModels 1 for sim: [m1], at QoS 1", at_qos_1(deploy_event(request(1, "sim", &["m1"], HOUR)), 2));
    session.acknowledged();
    session.matches("a_request_that_waited_over_a_reconnect");
}

#[test]
fn a_request_that_is_repeated_while_the_api_is_away_is_given_up_in_the_time_of_the_first() {
    let mut session = Session::new();
    session.connected();
    session.deploys(1, "sim", &["m1"], HOUR);
    session.list_fails();
    session.passes(200.0);
    session.deploys(1, "sim", &["m1"], HOUR);
    session.passes(100.0);
    session.list_fails();
    session.matches("a_request_that_is_repeated");
}

#[test]
fn a_request_that_comes_again_after_a_quick_end_is_run_again_though_we_are_newly_connected() {
    let mut session = Session::begun();
    for uid in ["u1", "u2"] {
        session.deploys(1, "sim", &["m1"], HOUR);
        session.created(&pod(1, "sim", "m1", uid));
        session.deleted(&ended(pod(1, "sim", "m1", uid), 0, "Completed"));
        session.acknowledged();
        session.acknowledged();
    }
    session.matches("a_request_again_after_a_quick_end");
}

#[test]
fn a_bad_request_ends_at_once_unless_its_simulation_runs() {
    let mut session = Session::begun();
    session.deploys_badly("sim", &["m1", "Wärmepumpe"]);
    session.deploys(1, "sim", &["m1"], HOUR);
    session.deploys_badly("sim", &["m1"]);
    session.matches("a_bad_request");
}

#[test]
fn a_request_without_models_ends_at_once() {
    let mut session = Session::begun();
    session.deploys(1, "sim", &[], HOUR);
    session.matches("no_models");
}

#[test]
fn a_pod_that_was_deleted_by_hand_fails_its_model() {
    let mut session = Session::begun();
    let (m1, m2) = (pod(1, "sim", "m1", "u1"), pod(1, "sim", "m2", "u2"));
    session.deploys(1, "sim", &["m1", "m2"], HOUR);
    session.created(&m1);
    session.created(&m2);
    session.deleted(&m1);
    session.fails("get so-sim-m1", refused(404, "not found"));
    session.acknowledged();
    session.deleted(&ended(m2, 137, "Error"));
    session.matches("a_pod_deleted_by_hand");
}

#[test]
fn a_pod_that_is_missing_in_a_new_list_is_asked_for_by_name() {
    let mut session = Session::begun();
    session.deploys(1, "sim", &["m1", "m2"], HOUR);
    session.created(&pod(1, "sim", "m1", "u1"));
    session.created(&pod(1, "sim", "m2", "u2"));
    session.passes(1.0);
    session.listed(vec![]);
    session.got(&pod(1, "sim", "m1", "u1"));
    session.got(&pod(2, "sim", "m2", "another"));
    session.matches("a_pod_missing_in_a_new_list");
}

#[test]
fn models_ready_waits_for_the_broker_and_for_subscribers_to_come_back() {
    let mut session = Session::begun();
    session.deploys(1, "sim", &["m1"], HOUR);
    session.created(&pod(1, "sim", "m1", "u1"));
    session.disconnected();
    session.ready("sim", "m1");
    session.connected();
    session.passes(4.9);
    session.passes(0.2);
    session.matches("models_ready_waits_for_subscribers");
}

#[test]
fn pods_of_an_earlier_run_are_left_alone_unless_they_ended_and_their_time_is_over() {
    let mut session = Session::new();
    session.connected();
    let stamp = |pod: Value, text: &str| with(pod, "/metadata/labels/delete_by_datetime", json!(text));
    let past = (START - 1.0).to_string();
    session.listed(vec![
        pod(1, "unknown", "running", "u1"),
        ended(pod(1, "unknown", "ended", "u2"), 0, "Completed"),
        stamp(ended(pod(1, "old", "past", "u3"), 0, "Completed"), &past),
        stamp(pod(1, "old", "past-but-running", "u4"), &past),
        stamp(ended(pod(1, "old", "later", "u5"), 0, "Completed"), &(START + 10.0).to_string()),
        stamp(ended(pod(1, "old", "unreadable", "u6"), 0, "Completed"), "tomorrow"),
        stamp(ended(pod(1, "old", "endless", "u7"), 0, "Completed"), "1e300"),
        with(stamp(ended(pod(1, "old", "no-label", "u8"), 0, "Completed"), &past), "/metadata/labels/model_id", json!(null)),
    ]);
    session.passes(11.0);
    session.matches("pods_of_an_earlier_run");
}

#[test]
fn a_status_that_the_kubelet_may_correct_is_believed_after_half_a_minute() {
    let mut session = Session::begun();
    let (m1, m2) = (pod(1, "sim", "m1", "u1"), pod(1, "sim", "m2", "u2"));
    let lost = |pod: &Value| with(ended(pod.clone(), 137, "ContainerStatusUnknown"), "/status/phase", json!("Running"));
    session.deploys(1, "sim", &["m1", "m2"], HOUR);
    session.created(&m1);
    session.created(&m2);
    session.shows("ContainerStatusUnknown", &lost(&m1));
    session.shows("ContainerStatusUnknown", &lost(&m2));
    session.passes(20.0);
    session.shows("running after all", &m1);
    session.passes(11.0);
    session.got(&lost(&m2));
    session.matches("a_doubtful_status");
}

#[test]
fn a_status_that_the_kubelet_corrects_while_the_api_is_away_is_not_believed() {
    let mut session = Session::begun();
    let m1 = pod(1, "sim", "m1", "u1");
    session.deploys(1, "sim", &["m1"], HOUR);
    session.created(&m1);
    session.shows("ContainerStatusUnknown", &with(ended(m1.clone(), 137, "ContainerStatusUnknown"), "/status/phase", json!("Running")));
    session.list_fails();
    session.passes(60.0);
    session.fails("get so-sim-m1", Error::Lost("connection refused".to_owned()));
    session.passes(60.0);
    session.got(&m1);
    session.passes(60.0);
    session.matches("a_doubtful_status_while_the_api_is_away");
}

const NOT_FOUND: &str = "failed to resolve reference \"r/model:1\": not found";

#[test]
fn an_image_that_cannot_be_pulled_is_said_once_and_fails_its_model_after_five_minutes() {
    let mut session = Session::begun();
    let (m1, m2) = (pod(1, "sim", "m1", "u1"), pod(1, "sim", "m2", "u2"));
    session.deploys(1, "sim", &["m1", "m2"], HOUR);
    session.created(&waiting(m1.clone(), "ContainerCreating", ""));
    session.created(&m2);
    session.passes(20.0);
    session.shows("ErrImagePull", &waiting(m1.clone(), "ErrImagePull", NOT_FOUND));
    session.passes(10.0);
    for _ in 0..3 {
        session.shows("ImagePullBackOff", &waiting(m1.clone(), "ImagePullBackOff", "Back-off pulling image \"r/model:1\""));
        session.passes(45.0);
        session.shows("ErrImagePull", &waiting(m1.clone(), "ErrImagePull", NOT_FOUND));
        session.passes(45.0);
    }
    session.passes(20.0);
    session.got(&waiting(m1.clone(), "ErrImagePull", NOT_FOUND));
    session.done("stop so-sim-m1");
    session.shows("as we stopped it", &with(ended(m1, 137, "Error"), "/status/reason", json!("DeadlineExceeded")));
    session.matches("an_image_that_cannot_be_pulled");
}

#[test]
fn an_image_that_comes_after_all_is_said_and_its_model_runs() {
    let mut session = Session::begun();
    let m1 = pod(1, "sim", "m1", "u1");
    session.deploys(1, "sim", &["m1"], HOUR);
    session.created(&waiting(m1.clone(), "ErrImagePull", NOT_FOUND));
    session.passes(200.0);
    session.shows("running", &m1);
    session.passes(200.0);
    session.matches("an_image_that_comes_after_all");
}

#[test]
fn a_model_that_does_not_say_that_it_is_ready_is_named_after_five_minutes_and_each_fifteen() {
    let mut session = Session::begun();
    let (m1, m2) = (pod(1, "sim", "m1", "u1"), pod(1, "sim", "m2", "u2"));
    session.deploys(1, "sim", &["m1", "m2"], HOUR);
    session.created(&m1);
    session.created(&m2);
    session.ready("sim", "m1");
    session.passes(310.0);
    session.passes(900.0);
    session.ready("sim", "m2");
    session.passes(2.0);
    session.matches("a_model_that_is_not_ready");
}

#[test]
fn models_for_which_there_is_no_node_are_said_in_one_line_and_deleted_after_half_an_hour() {
    let mut session = Session::begun();
    let (m1, m2) = (pod(1, "sim", "m1", "u1"), pod(1, "sim", "m2", "u2"));
    let full = "0/1 nodes are available: 1 Insufficient cpu.";
    session.deploys(1, "sim", &["m1", "m2"], HOUR);
    session.created(&unschedulable(m1.clone(), full));
    session.created(&unschedulable(m2.clone(), full));
    session.passes(31.0);
    session.shows("on a node", &waiting(m2.clone(), "ContainerCreating", ""));
    session.passes(60.0);
    session.shows("running", &m2);
    session.passes(1800.0);
    session.got(&unschedulable(m1.clone(), full));
    session.matches("no_node");
}

#[test]
fn a_model_is_not_given_up_on_an_old_sight_of_its_pod() {
    let mut session = Session::begun();
    let m1 = pod(1, "sim", "m1", "u1");
    session.deploys(1, "sim", &["m1"], HOUR);
    session.created(&waiting(m1.clone(), "ErrImagePull", NOT_FOUND));
    session.list_fails();
    session.passes(400.0);
    session.fails("get so-sim-m1", Error::Lost("connection refused".to_owned()));
    session.passes(60.0);
    session.got(&m1);
    session.passes(60.0);
    session.matches("an_old_sight_of_a_pod");
}

#[test]
fn an_answer_that_is_older_than_what_the_watch_has_shown_takes_nothing_of_it_back() {
    let mut session = Session::begun();
    let of_version = |pod: Value, version: &str| with(pod, "/metadata/resourceVersion", json!(version));
    let m1 = pod(1, "sim", "m1", "u1");
    session.deploys(1, "sim", &["m1"], HOUR);
    session.shows("InvalidImageName", &of_version(waiting(m1.clone(), "InvalidImageName", "why"), "12"));
    session.created(&of_version(with(m1.clone(), "/status", json!({"phase": "Pending"})), "9"));
    session.passes(7.0);
    session.got(&of_version(waiting(m1, "InvalidImageName", "why"), "12"));
    session.matches("an_answer_older_than_the_watch");
}

#[test]
fn a_pod_that_failed_before_its_container_began_goes_in_its_time() {
    let mut session = Session::begun();
    let m1 = with(waiting(pod(1, "sim", "m1", "u1"), "ContainerCreating", ""), "/status/phase", json!("Failed"));
    session.deploys(1, "sim", &["m1"], 0.0);
    session.created(&m1);
    session.passes(31.0);
    session.got(&m1);
    session.log_is("");
    session.acknowledged();
    session.acknowledged();
    session.done("set delete_by of so-sim-m1");
    session.shows("stamped", &with(m1, "/metadata/labels/delete_by_datetime", json!((START + 31.0).to_string())));
    session.passes(1.0);
    session.matches("a_pod_that_failed_before_it_began");
}

#[test]
fn a_container_that_is_started_again_though_it_never_is_to_be_is_stopped() {
    let mut session = Session::begun();
    let m1 = waiting(pod(1, "sim", "m1", "u1"), "CrashLoopBackOff", "back-off");
    let m1 = with(m1, "/status/containerStatuses/0/lastState", json!({"terminated": {"exitCode": 7, "reason": "Error"}}));
    session.deploys(1, "sim", &["m1"], HOUR);
    session.created(&m1);
    session.matches("a_container_that_is_started_again");
}

#[test]
fn obstacles_that_differ_in_their_words_alone_are_one_line() {
    let mut session = Session::begun();
    let waits = |model: &str, uid: &str, port: u32| {
        waiting(pod(1, "sim", model, uid), "ErrImagePull", &format!("read udp 10.0.3.7:{port}->10.96.0.10:53: i/o timeout"))
    };
    session.deploys(1, "sim", &["m1", "m2", "m3"], HOUR);
    session.created(&waits("m1", "u1", 48231));
    session.created(&waits("m2", "u2", 48232));
    session.created(&waits("m3", "u3", 48233));
    session.passes(2.0);
    session.matches("obstacles_in_other_words");
}

#[test]
fn a_failure_that_was_recorded_and_not_told_is_told_by_the_next_process() {
    let mut session = Session::begun();
    let m1 = waiting(pod(1, "sim", "m1", "u1"), "InvalidImageName", "why");
    session.deploys(1, "sim", &["m1"], HOUR);
    session.created(&m1);
    session.passes(7.0);
    session.got(&m1);
    session.restarted(vec![m1]);
    session.passes(5.0);
    session.matches("a_failure_that_was_not_told");
}

#[test]
fn the_time_of_what_stands_in_the_way_goes_on_over_a_restart() {
    let mut session = Session::begun();
    let m1 = waiting(pod(1, "sim", "m1", "u1"), "CreateContainerConfigError", "secret \"s\" not found");
    session.deploys(1, "sim", &["m1"], HOUR);
    session.created(&m1);
    session.passes(40.0);
    session.restarted(vec![m1.clone()]);
    session.passes(19.0);
    session.passes(2.0);
    session.got(&m1);
    session.matches("an_obstacle_over_a_restart");
}

#[test]
fn the_log_of_a_crash_is_read_again_where_the_api_server_is_overloaded() {
    let mut session = Session::begun();
    let m1 = pod(1, "sim", "m1", "u1");
    session.deploys(1, "sim", &["m1"], HOUR);
    session.created(&m1);
    session.shows("exit 1", &ended(m1, 1, "Error"));
    let busy =
        Status { code: 429, message: "too many requests".to_owned(), retry_after: Some(Duration::from_secs(7)), ..Status::default() };
    session.log_cannot_be_read(Error::Refused(Box::new(busy)));
    session.passes(7.0);
    session.log_is("Traceback:");
    session.matches("a_log_from_a_busy_api_server");
}

#[test]
fn a_ready_that_comes_before_its_request_is_kept_for_a_minute() {
    let mut session = Session::begun();
    session.ready("sim", "m1");
    session.ready("late", "m1");
    session.deploys(1, "sim", &["m1"], HOUR);
    session.answered("create so-sim-m1", "it is there", Err(refused(409, "already exists")));
    session.answered("get so-sim-m1", "it is ours", Ok(Answer::Pod(Box::new(parsed(pod(1, "sim", "m1", "u1"))))));
    session.passes(61.0);
    session.deploys(1, "late", &["m1"], HOUR);
    session.matches("a_ready_before_its_request");
}

/// The process before this one made it, and could not record that; somebody deleted it since.
#[test]
fn what_the_pod_before_said_is_not_the_ready_of_one_that_is_made_in_its_place() {
    let mut session = Session::begun();
    session.deploys(1, "sim", &["m1"], HOUR);
    session.ready("sim", "m1");
    session.passes(1.0);
    session.restarted(vec![]);
    session.created(&pod(1, "sim", "m1", "u2"));
    session.ready("sim", "m1");
    session.passes(5.0);
    session.matches("ready_of_the_pod_before");
}

#[test]
fn what_the_pod_before_said_is_not_the_ready_of_ours_that_was_made_without_an_answer() {
    let mut session = Session::begun();
    session.deploys(1, "sim", &["m1"], HOUR);
    session.ready("sim", "m1");
    session.passes(1.0);
    session.restarted(vec![]);
    session.fails("create so-sim-m1", Error::Lost("timed out".to_owned()));
    session.passes(1.0);
    session.fails("create so-sim-m1", refused(409, "already exists"));
    session.answered("get so-sim-m1", "ours", Ok(Answer::Pod(Box::new(parsed(pod(1, "sim", "m1", "u2"))))));
    session.passes(5.0);
    session.ready("sim", "m1");
    session.matches("ready_of_the_pod_before_and_a_lost_answer");
}

#[test]
fn a_pod_of_the_process_before_that_an_old_list_lacks_stays_ready() {
    let mut session = Session::begun();
    let m1 = pod(1, "sim", "m1", "u1");
    session.deploys(1, "sim", &["m1"], HOUR);
    session.ready("sim", "m1");
    session.passes(1.0);
    session.restarted(vec![]);
    session.shows("running", &m1);
    session.fails("create so-sim-m1", refused(409, "already exists"));
    session.passes(5.0);
    session.matches("ready_of_a_pod_that_an_old_list_lacks");
}

#[test]
fn nothing_new_begins_while_stopping() {
    let mut session = Session::begun();
    session.deploys(1, "sim", &["m1", "m2", "m3", "m4", "m5", "m6"], HOUR);
    session.handle("SIGTERM", Event::Stop);
    for model in ["m1", "m2", "m3", "m4"] {
        assert!(!session.core.is_idle());
        session.created(&pod(1, "sim", model, model));
    }
    assert!(session.core.is_idle());
    session.matches("stopping");
}

#[test]
fn a_request_that_comes_before_the_first_list_is_not_answered_by_the_pods_of_an_earlier_run() {
    let mut session = Session::new();
    session.connected();
    session.deploys(1, "sim", &["m1"], HOUR);
    let stamp = json!((START + 3600.0).to_string());
    session.listed(vec![with(ended(pod(1, "sim", "m1", "u1"), 0, "Completed"), "/metadata/labels/delete_by_datetime", stamp)]);
    session.matches("a_request_before_the_first_list");
}

#[test]
fn a_late_answer_takes_nothing_back_of_what_the_watch_has_shown() {
    let mut session = Session::begun();
    let pending = with(with(pod(1, "sim", "m1", "u1"), "/spec/nodeName", json!("")), "/status", json!({"phase": "Pending"}));
    session.deploys(1, "sim", &["m1"], HOUR);
    session.shows("running", &pod(1, "sim", "m1", "u1"));
    session.shows("exit 0", &ended(pod(1, "sim", "m1", "u1"), 0, "Completed"));
    session.acknowledged();
    session.acknowledged();
    session.created(&pending);
    session.matches("a_late_answer");
}

#[test]
fn a_watch_that_is_behind_shows_the_old_pod_and_the_new_one_stays_the_models() {
    let mut session = Session::begun();
    let old = ended(pod(1, "sim", "m1", "u1"), 0, "Completed");
    session.deploys(1, "sim", &["m1"], HOUR);
    session.created(&pod(1, "sim", "m1", "u1"));
    session.shows("exit 0", &old);
    session.acknowledged();
    session.acknowledged();
    session.fails("set delete_by of so-sim-m1", refused(404, "not found"));
    session.deploys(1, "sim", &["m1"], HOUR);
    session.shows("as it was, late", &old);
    session.created(&pod(1, "sim", "m1", "u2"));
    session.shows("as it was, very late", &old);
    session.got(&pod(1, "sim", "m1", "u2"));
    session.deleted(&old);
    session.ready("sim", "m1");
    session.matches("a_watch_that_is_behind");
}

#[test]
fn one_lost_answer_does_not_fail_what_waits_for_something_else() {
    let mut session = Session::begun();
    session.deploys(1, "sim", &["m1", "m2"], HOUR);
    session.fails("create so-sim-m1", refused(403, "exceeded quota: q"));
    session.fails("create so-sim-m2", refused(403, "exceeded quota: q"));
    session.passes(400.0);
    session.fails("create so-sim-m1", Error::Lost("cut".to_owned()));
    session.passes(60.0);
    session.created(&pod(1, "sim", "m1", "u1"));
    session.matches("one_lost_answer");
}

#[test]
fn that_pods_may_not_be_deleted_is_said_once_and_few_are_tried_until_the_role_is_mended() {
    let mut session = Session::begun();
    let models = ["m1", "m2", "m3", "m4", "m5", "m6"];
    let pods = models.map(|model| ended(pod(1, "sim", model, &format!("u-{model}")), 0, "Completed"));
    session.deploys(1, "sim", &models, 0.0);
    pods.iter().for_each(|pod| session.created(pod));
    session.acknowledged();
    session.acknowledged();
    for model in models {
        session.done(&format!("set delete_by of so-sim-{model}"));
    }
    for pod in &pods {
        session.shows("stamped", &with(pod.clone(), "/metadata/labels/delete_by_datetime", json!(START.to_string())));
    }
    let forbidden = || refused(403, "User \"u\" cannot delete resource \"pods\"");
    session.fails("delete", forbidden());
    session.fails("delete", forbidden());
    session.fails("delete", forbidden());
    session.fails("delete", forbidden());
    session.passes(30.0);
    while !session.calls.is_empty() {
        session.done("delete");
    }
    session.matches("pods_that_may_not_be_deleted");
}

#[test]
fn an_old_pod_that_may_not_be_deleted_fails_the_new_run_in_time() {
    let mut session = Session::begun();
    let old = ended(pod(1, "sim", "m1", "u1"), 0, "Completed");
    session.deploys(1, "sim", &["m1"], HOUR);
    session.created(&pod(1, "sim", "m1", "u1"));
    session.shows("exit 0", &old);
    session.acknowledged();
    session.acknowledged();
    session.done("set delete_by of so-sim-m1");
    session.deploys(1, "sim", &["m1"], HOUR);
    session.fails("delete so-sim-m1", refused(403, "User \"u\" cannot delete resource \"pods\""));
    session.passes(301.0);
    session.fails("create so-sim-m1", refused(409, "already exists"));
    session.got(&old);
    session.matches("an_old_pod_that_may_not_be_deleted");
}

#[test]
fn a_name_that_is_taken_by_a_pod_that_we_may_not_read_fails_the_model_in_time() {
    let mut session = Session::begun();
    session.deploys(1, "sim", &["m1"], HOUR);
    session.fails("create so-sim-m1", refused(409, "already exists"));
    for _ in 0..8 {
        session.fails("get so-sim-m1", refused(403, "cannot get resource \"pods\""));
        session.passes(60.0);
    }
    session.matches("a_name_taken_by_a_pod_that_we_may_not_read");
}

#[test]
fn an_answer_to_a_question_of_an_earlier_run_says_nothing_of_this_one() {
    let mut session = Session::begun();
    let (m1, m2) = (pod(1, "sim", "m1", "u1"), pod(1, "sim", "m2", "u2"));
    session.deploys(1, "sim", &["m1", "m2"], HOUR);
    session.created(&m1);
    session.created(&m2);
    session.passes(1.0);
    session.listed(vec![m2.clone()]);
    session.shows("exit 0 after all", &ended(m1, 0, "Completed"));
    session.shows("exit 0", &ended(m2, 0, "Completed"));
    session.acknowledged();
    session.acknowledged();
    session.deploys(2, "sim", &["m1"], HOUR);
    session.fails("get so-sim-m1", refused(404, "not found"));
    session.matches("an_answer_to_a_question_of_an_earlier_run");
}

#[test]
fn a_log_that_was_read_is_said_though_its_pod_is_gone_by_then() {
    let mut session = Session::begun();
    let m1 = ended(pod(1, "sim", "m1", "u1"), 3, "Error");
    session.deploys(1, "sim", &["m1"], HOUR);
    session.created(&pod(1, "sim", "m1", "u1"));
    session.shows("exit 3", &m1);
    session.deleted(&m1);
    session.log_is("the reason");
    session.matches("a_log_of_a_pod_that_is_gone");
}

#[test]
fn a_pod_that_is_gone_and_may_not_be_asked_for_fails_its_model_in_time() {
    let mut session = Session::begun();
    let m1 = pod(1, "sim", "m1", "u1");
    session.deploys(1, "sim", &["m1"], HOUR);
    session.created(&m1);
    session.deleted(&m1);
    for _ in 0..8 {
        session.fails("get so-sim-m1", refused(403, "cannot get resource \"pods\""));
        session.passes(60.0);
    }
    session.matches("a_pod_that_may_not_be_asked_for");
}

#[test]
fn one_ready_that_comes_again_and_again_does_not_add_up() {
    let mut session = Session::new();
    session.connected();
    for _ in 0..2000 {
        session.core.handle(ready_event("sim", "m1"), now_at(session.start, session.since));
    }
    // Kept until there is a list, once a minute: `passes` fails where there are a thousand wake-ups.
    session.passes(600.0);
}

#[test]
fn a_create_of_the_run_before_does_not_pass_for_one_of_this_run() {
    let mut session = Session::begun();
    let old = ended(pod(1, "sim", "m1", "u1"), 0, "Completed");
    session.deploys(1, "sim", &["m1"], HOUR);
    session.shows("exit 0", &old);
    session.acknowledged();
    session.acknowledged();
    session.deploys(1, "sim", &["m1"], HOUR);
    session.created(&pod(1, "sim", "m1", "u1"));
    session.done("delete so-sim-m1");
    session.deleted(&old);
    session.created(&pod(1, "sim", "m1", "u2"));
    session.ready("sim", "m1");
    session.matches("a_create_of_the_run_before");
}

#[test]
fn a_pod_that_a_webhook_took_our_mark_from_fails_its_model() {
    let mut session = Session::begun();
    let unmarked = with(pod(1, "sim", "m1", "u1"), "/metadata/labels/mso.dots~1simulator", json!(null));
    session.deploys(1, "sim", &["m1"], HOUR);
    session.created(&unmarked);
    session.got(&unmarked);
    session.matches("a_pod_without_our_mark");
}

#[test]
fn a_pod_that_begins_has_an_empty_state_and_one_that_is_evicted_then_has_none() {
    let mut session = Session::begun();
    let begins = with(pod(1, "sim", "m1", "u1"), "/status", json!({"phase": "Pending"}));
    let waits = with(begins.clone(), "/status/containerStatuses", json!([{"name": "so-sim-m1", "state": {}}]));
    session.deploys(1, "sim", &["m1"], HOUR);
    session.created(&begins);
    session.shows("an empty state", &waits);
    session.shows("evicted", &with(begins, "/status", json!({"phase": "Failed", "reason": "Evicted", "message": "low on memory"})));
    session.matches("a_pod_that_is_evicted_as_it_begins");
}

#[test]
fn a_sidecar_in_front_of_the_model_says_nothing_of_it() {
    let mut session = Session::begun();
    let sidecar = json!({"name": "sidecar", "image": "mesh"});
    let meshed = with(pod(1, "sim", "m1", "u1"), "/spec/containers", json!([sidecar, {"name": "so-sim-m1", "image": "model:1"}]));
    let statuses =
        |of_sidecar: Value, of_model: Value| json!([{"name": "sidecar", "state": of_sidecar}, {"name": "so-sim-m1", "state": of_model}]);
    let exit = |code: i32| json!({"terminated": {"exitCode": code, "reason": "Error"}});
    session.deploys(1, "sim", &["m1"], HOUR);
    session.created(&meshed);
    let sidecar_ended = statuses(exit(1), json!({"running": {}}));
    session.shows("the sidecar ended", &with(meshed.clone(), "/status/containerStatuses", sidecar_ended));
    session.shows("the model ended", &with(meshed, "/status/containerStatuses", statuses(exit(1), exit(3))));
    session.matches("a_sidecar");
}

#[test]
fn a_success_that_lost_a_process_to_the_memory_limit_is_warned_of() {
    let mut session = Session::begun();
    session.deploys(1, "sim", &["m1"], HOUR);
    session.created(&pod(1, "sim", "m1", "u1"));
    session.shows("exit 0, although a child ran out of memory", &ended(pod(1, "sim", "m1", "u1"), 0, "OOMKilled"));
    session.matches("a_success_that_lost_a_process");
}

#[test]
fn a_pod_goes_in_the_time_of_the_api_server() {
    let mut session = Session::begun();
    session.handle("the API server's clock is an hour ahead of ours", Event::Pods(PodsEvent::ServerTime(UnixTime(START + 3600.0))));
    session.deploys(1, "sim", &["m1"], HOUR);
    session.created(&pod(1, "sim", "m1", "u1"));
    session.shows("exit 0", &ended(pod(1, "sim", "m1", "u1"), 0, "Completed"));
    session.acknowledged();
    session.acknowledged();
    session.matches("a_clock_that_is_behind");
}

#[test]
fn models_ready_is_sent_although_a_short_model_has_ended_by_then() {
    let mut session = Session::begun();
    let [m1, m2] = [("m1", "u1"), ("m2", "u2")].map(|(model, uid)| pod(1, "sim", model, uid));
    session.deploys(1, "sim", &["m1", "m2"], HOUR);
    session.created(&m1);
    session.created(&m2);
    session.ready("sim", "m1");
    session.shows("exit 0", &ended(m1, 0, "Completed"));
    session.ready("sim", "m2");
    session.matches("models_ready_after_a_short_model");
}
