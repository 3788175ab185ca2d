//! What the tests of the core share: events in few words, commands in words that a person can read.

#![allow(dead_code, unreachable_pub, reason = "each test program uses its part")]

pub mod records;

use std::time::{Duration, Instant};

use mso::clock::{Now, UnixTime};
use mso::ids::{DeployId, ModelId, PodName, RecordName, SimulationId, SimulatorId, TopicSegment};
use mso::kube::error::{Details, Error, Status};
use mso::kube::pod::{Pod, Variable};
use mso::kube::record::{Content, NewRecord, Progress};
use mso::orchestrator::Orchestrator;
use mso::orchestrator::event::{Body, BrokerEvent, Command, Delivery, DeployRequest, Event, ModelConfiguration, PodCall, RecordCall};
use mso::orchestrator::pod_state::Verdict;
use mso::secret::Secret;
use serde_json::{Value, json};

/// The simulated wall clock, and the API server's, begin here.
pub const START: f64 = 1_000_000.0;

pub fn now_at(start: Instant, since: Duration) -> Now {
    Now { instant: start + since, unix: UnixTime(START + since.as_secs_f64()) }
}

pub fn request(deploy: u8, simulation: &str, models: &[&str], keep_logs_hours: f64) -> DeployRequest {
    let (simulator, simulation) = (SimulatorId::new("so").unwrap(), SimulationId::new(simulation).unwrap());
    let configuration = |text: &&str| {
        let (id, image) = text.split_once('=').unwrap_or((text, "model:1"));
        let model = ModelId::new(id).unwrap();
        let pod = PodName::of(&simulator, &simulation, &model).unwrap();
        let variables = vec![Variable { name: "A".to_owned(), value: Secret::new("secret") }];
        ModelConfiguration { model, pod, image: image.to_owned(), variables }
    };
    let models = models.iter().map(configuration).collect();
    let id = DeployId::new(&format!("{deploy:016x}")).unwrap();
    DeployRequest { id, simulator, models, simulation, keep_logs_hours }
}

pub fn deploy_event(request: DeployRequest) -> Event {
    let simulation = TopicSegment::from(&request.simulation);
    Event::Broker(BrokerEvent::DeployModels { simulation, request: Ok(request), delivery: None })
}

pub fn ready_event(simulation: &str, model: &str) -> Event {
    let (simulation, model) = (SimulationId::new(simulation).unwrap(), ModelId::new(model).unwrap());
    Event::Broker(BrokerEvent::ReadyForProcessing { simulation, model, delivery: None })
}

/// The same message at QoS 1.
pub fn at_qos_1(mut event: Event, packet_id: u16) -> Event {
    if let Event::Broker(BrokerEvent::DeployModels { delivery, .. } | BrokerEvent::ReadyForProcessing { delivery, .. }) = &mut event {
        *delivery = Some(Delivery { connection: 1, packet_id });
    }
    event
}

pub fn refused(code: u16, message: &str) -> Error {
    Error::Refused(Box::new(Status { code, message: message.to_owned(), details: Details::default(), ..Status::default() }))
}

/// A pod of ours as the API server shows it, running on a node. Models are named from `m1` on, in their requests' order.
pub fn pod(deploy: u8, simulation: &str, model: &str, uid: &str) -> Value {
    let name = format!("so-{simulation}-{model}");
    let number = model.trim_start_matches(char::is_alphabetic).parse::<usize>().map_or(0, |number| number - 1);
    json!({
        "metadata": {
            "name": name, "uid": uid,
            "labels": {
                "mso.dots/simulator": "so", "simulator_id": "so", "simulation_id": simulation, "model_id": model, "keep_logs_hours": "1.0",
            },
            "annotations": {
                "mso.dots/deploy": format!("{deploy:016x}"), "mso.dots/models": "1", "mso.dots/number": number.to_string(),
            },
        },
        "spec": {"nodeName": "node", "containers": [{"name": name, "image": "model:1"}]},
        "status": {"phase": "Running", "containerStatuses": [{"name": name, "state": {"running": {}}}]},
    })
}

/// The same pod with its container ended.
pub fn ended(mut pod: Value, exit_code: i32, reason: &str) -> Value {
    pod["status"]["phase"] = json!(if exit_code == 0 { "Succeeded" } else { "Failed" });
    pod["status"]["containerStatuses"][0]["state"] = json!({"terminated": {"exitCode": exit_code, "reason": reason}});
    pod
}

/// The same pod with its container waiting, on its node since the start.
pub fn waiting(mut pod: Value, reason: &str, message: &str) -> Value {
    pod["status"]["phase"] = json!("Pending");
    pod["status"]["conditions"] = json!([{"type": "PodScheduled", "status": "True", "lastTransitionTime": "1970-01-12T13:46:40Z"}]);
    pod["status"]["containerStatuses"][0]["state"] = json!({"waiting": {"reason": reason, "message": message}});
    pod
}

/// The same pod, made at the start, for which there is no node.
pub fn unschedulable(mut pod: Value, message: &str) -> Value {
    let condition = json!({"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": message});
    pod["metadata"]["creationTimestamp"] = json!("1970-01-12T13:46:40Z");
    pod["spec"]["nodeName"] = json!("");
    pod["status"] = json!({"phase": "Pending", "conditions": [condition]});
    pod
}

/// The same pod with a value at a JSON pointer.
pub fn with(mut pod: Value, pointer: &str, value: Value) -> Value {
    let (parent, key) = pointer.rsplit_once('/').unwrap();
    pod.pointer_mut(parent).unwrap()[key.replace("~1", "/")] = value;
    pod
}

pub fn parsed(pod: Value) -> Pod {
    serde_json::from_value(pod).unwrap()
}

pub fn drain(core: &mut Orchestrator) -> Vec<Command> {
    std::iter::from_fn(|| core.poll_command()).collect()
}

pub fn in_words(command: &Command) -> String {
    match command {
        Command::Say(level, text) => format!("log {level}: {}", text.replace('\n', "\n           ")),
        Command::Publish(message) => match &message.body {
            Body::ModelsReady => format!("publish ModelsReady for {}", message.simulation),
            Body::ErrorOccurred { model, message: text } => format!("publish ErrorOccurred for {}/{model}: {text}", message.simulation),
            Body::AllModelsHaveTerminated => format!("publish AllModelsHaveTerminated for {}", message.simulation),
            Body::ModelHasTerminated { model, verdict: Verdict { success, exit_code, reason, message: text } } => {
                let status = if *success { "SUCCESSFULL".to_owned() } else { format!("FAILED, {reason}: {text:?}") };
                format!("publish ModelHasTerminated for {}/{model}: exit code {exit_code}, {status}", message.simulation)
            }
        },
        Command::Acknowledge(delivery) => format!("acknowledge packet {} of connection {}", delivery.packet_id, delivery.connection),
        Command::Call { call, attempt } => {
            let again = if *attempt > 0 { format!(" (try {})", attempt + 1) } else { String::new() };
            match call {
                PodCall::Create(pod) => format!("call create {}{again}", pod.name),
                PodCall::Get(question) => format!("call get {}{again}", question.name),
                PodCall::Label { pod, uid } => format!("call label {} ({uid}){again}", pod.name),
                PodCall::SetDeleteBy { name, uid, delete_by } => {
                    format!("call set delete_by of {name} ({uid}) to {:.0} s after the start{again}", delete_by.0 - START)
                }
                PodCall::Mark { name, models_ready, models, .. } => {
                    format!("call mark {name}: ModelsReady {}, {models} models{again}", models_ready.as_str())
                }
                PodCall::Stop { name, uid } => format!("call stop {name} ({uid}){again}"),
                PodCall::Delete { name, uid } => format!("call delete {name} ({uid}){again}"),
            }
        }
        Command::Halt(why) => format!("end at once: {why}"),
        Command::Record { call, .. } => match call {
            RecordCall::Create(record) => format!("record create {}", content_in_words(record)),
            RecordCall::Update { text, .. } => format!("record update progress{}", progress_in_words(text)),
            RecordCall::Get(name) => format!("record get {}", record_name_in_words(name)),
            RecordCall::Delete { name, uid } => format!("record delete {} ({uid})", record_name_in_words(name)),
        },
        Command::ReadEvents(question) => format!("read events of {}", question.name),
        Command::ReadLog(log) => {
            let again = if log.attempt > 0 { format!(" (try {})", log.attempt + 1) } else { String::new() };
            format!("read log of {}, container {}{again}", log.pod, log.container)
        }
    }
}

fn content_in_words(record: &NewRecord) -> String {
    match &record.content {
        Content::Piece { .. } => record_name_in_words(&record.name),
        Content::Progress { text } => format!("progress{}", progress_in_words(text)),
    }
}

/// Hashes say nothing to a reader.
fn record_name_in_words(name: &RecordName) -> String {
    let parts: Vec<&str> = name.as_str().split('-').collect();
    match parts[..] {
        [_, _, deploy, index, _, count] => format!("request {} piece {index} of {count}", u64::from_str_radix(deploy, 16).unwrap()),
        _ => "progress".to_owned(),
    }
}

fn progress_in_words(text: &str) -> String {
    let progress = Progress::read(text).unwrap();
    let mut words = String::new();
    let mut add = |name: &str, value: String| {
        if value != "{}" && value != "No" && value != "None" {
            words += &format!(", {name} {value}");
        }
    };
    add("created", format!("{:?}", progress.created));
    add("ready", format!("{:?}", progress.ready));
    add("ended", format!("{:?}", progress.ended));
    add("told", format!("{:?}", progress.told));
    add("ModelsReady", format!("{:?}", progress.models_ready));
    add("error", if progress.error_reported { "reported".to_owned() } else { "No".to_owned() });
    add("done", format!("{:?}", progress.done));
    add("unwanted", format!("{:?}", progress.unwanted));
    add("cancelled", progress.cancelled.map_or("None".to_owned(), |it| format!("{:.0} s after the start by {:?}", it.at.0 - START, it.by)));
    add("over", progress.over.map_or("None".to_owned(), |over| format!("{:.0} s after the start", over.at.0 - START)));
    words
}
