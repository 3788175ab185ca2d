//! The API server and the broker, as the service reaches them: what arrives there, and what comes back.

use std::time::Duration;

use devkit::broker::{ConnectionId, Input, Output};
use devkit::cluster::{Answer, ContainerEffect, Content, Reply, Request, Signal, WatchStep};
use mso::clock::UnixTime;
use mso::kube::answer;
use mso::kube::error::Error;
use mso::orchestrator::event::PodCall;
use serde_json::{Value, json};

use crate::plan::Moment;
use crate::report::{Deletion, PodLife};
use crate::service::Call;
use crate::world::{ALL_PODS, InFlight, Item, SO, THEIRS, TO_API, TO_BROKER, TOKEN, World, ask, lost, text};

const CONTAINER_STARTS: Duration = Duration::from_millis(300);
const CONTAINER_STOPS: Duration = Duration::from_millis(100);
/// As long as a client waits for a connection.
const CONNECTS_WITHIN: Duration = Duration::from_secs(10);
/// The cache that an API server lists from may be so far behind.
const CACHE_LAGS: Duration = Duration::from_secs(5);
/// How long a watch leaves out an event that a later one may cover.
const HIDDEN: Duration = Duration::from_secs(5);

impl World {
    pub fn arrives(&mut self, in_flight: InFlight) {
        let effect = in_flight.effect;
        let result = if self.since < self.api_is_away_until { Err(lost("connection refused")) } else { self.api_answers(&in_flight) };
        let code = match &result {
            Ok(_) => "done".to_owned(),
            Err(error) => error.to_string(),
        };
        self.say(&format!("    #{effect} at the API server: {code}"));
        let latency = self.latency(TO_API);
        self.after(latency, Item::Answered(in_flight, result));
        self.cluster_changed();
        self.cut(effect, Moment::Between);
    }

    pub fn api_answers(&mut self, InFlight { call, request, incarnation, .. }: &InFlight) -> Result<Vec<u8>, Error> {
        let no_bytes = Vec::new();
        let (content_type, body) = request.body.as_ref().map_or(("", &no_bytes), |body| (body.content_type, &body.bytes));
        let method = request.method.as_str();
        if self.records_are_forbidden && request.path.contains("/configmaps") {
            if let Some(life) = self.report.processes.last_mut() {
                life.refused_at.get_or_insert(self.since);
            }
            let status = json!({"code": 403, "reason": "Forbidden", "message": "User \"mso\" cannot touch resource \"configmaps\""});
            return Err(answer::refusal(403, None, status.to_string().as_bytes()));
        }
        let reply = self.cluster.handle(&Request { method, target: &request.path, content_type, token: TOKEN, body }, self.unix());
        match reply {
            Reply::Watch(watch) => {
                if let Call::Watch { number, .. } = call
                    && *incarnation == self.incarnation
                {
                    self.watch = Some((*number, *watch));
                    self.watch_due = self.since;
                }
                Ok(Vec::new())
            }
            Reply::Answer(answer) => {
                let bytes = match &answer.body {
                    Content::None => Vec::new(),
                    Content::Json(value) => value.to_string().into_bytes(),
                    Content::Text(bytes) => bytes.clone(),
                };
                if !(200..300).contains(&answer.code) {
                    let retry_after = answer.retry_after_seconds.map(|seconds| Duration::from_secs(seconds.into()));
                    return Err(answer::refusal(answer.code, retry_after, &bytes));
                }
                if let Call::Pod { call: PodCall::Delete { uid, .. }, .. } = call {
                    let UnixTime(unix) = self.unix();
                    self.report.deletions.push(Deletion { at: self.since, unix, uid: uid.to_string() });
                }
                let is_first_list = matches!(call, Call::Pods { is_first: true }) && self.incarnation > 1;
                Ok(self.old_list().filter(|_| is_first_list).unwrap_or(bytes))
            }
            Reply::Lost => Err(lost("the answer is lost")),
        }
    }

    /// As many changes old as the plan says; among other faults, of the last moments.
    fn old_list(&self) -> Option<Vec<u8>> {
        let is_late = |(at, _): &(Duration, Vec<u8>)| self.plan.is_jittery && *at + CACHE_LAGS < self.since;
        let missed = self.old_lists.iter().rev().take(self.plan.list_age).take_while(|list| !is_late(list)).count();
        let is_wanted = missed > 0 && (self.plan.is_jittery || missed == self.plan.list_age);
        let (_, list) = self.old_lists.iter().rev().nth(missed).filter(|_| is_wanted)?;
        Some(list.clone())
    }

    /// As an administrator does it.
    pub fn administer(&mut self, method: &'static str, target: &str, body: &Value) -> Value {
        let bytes = if body.is_null() { Vec::new() } else { body.to_string().into_bytes() };
        let request = Request { method, target, ..ask(&bytes) };
        match self.cluster.handle(&request, self.unix()) {
            Reply::Answer(Answer { body: Content::Json(value), .. }) => value,
            Reply::Lost => Value::Null,
            other => panic!("{method} {target}: {other:?}"),
        }
    }

    /// Who plays the containers, who notes what happens to pods, and the service's watch see what there is to see.
    pub fn cluster_changed(&mut self) {
        while let Some(effect) = self.cluster.poll_effect() {
            match effect {
                ContainerEffect::Start(start) => {
                    self.containers.insert(start.id.clone(), start.hostname);
                    self.after(CONTAINER_STARTS, Item::ContainerStarts(start.id));
                }
                ContainerEffect::Signal { id, signal } => {
                    if let Some(pod) = self.report.pods.get_mut(&id.uid) {
                        pod.was_signalled = true;
                    }
                    let (wait, code) = if signal == Signal::Term { (CONTAINER_STOPS, 143) } else { (Duration::ZERO, 137) };
                    self.after(wait, Item::ContainerEnds { id, code, is_signalled: true });
                }
            }
        }
        let mut has_changed = false;
        let now = self.unix();
        while let WatchStep::Event(event) = self.cluster.poll_watch(&mut self.changes, now) {
            has_changed = true;
            self.note(&event);
        }
        if has_changed && self.plan.list_age > 0 {
            let target = format!("{ALL_PODS}?labelSelector=mso.dots/simulator=so");
            let list = self.administer("GET", &target, &Value::Null).to_string();
            self.old_lists.push((self.since, list.into_bytes()));
        }
        self.watch_speaks();
    }

    pub fn note(&mut self, event: &Value) {
        let object = &event["object"];
        let (name, uid) = (text(&object["metadata"]["name"]), text(&object["metadata"]["uid"]));
        if name == THEIRS {
            return;
        }
        let life = self.report.pods.entry(uid.to_owned()).or_insert_with(|| PodLife {
            name: name.to_owned(),
            created_at: self.since,
            had_node: false,
            ended: None,
            said_ready_at: None,
            was_signalled: false,
            delete_by: None,
            deleted_by_hand_at: None,
            code_shown: None,
            gone_at: None,
        });
        life.had_node |= object["spec"].get("nodeName").is_some();
        life.delete_by = text(&object["metadata"]["labels"]["delete_by_datetime"]).parse().ok().or(life.delete_by);
        if let Some(code) = object["status"]["containerStatuses"][0]["state"]["terminated"]["exitCode"].as_i64()
            && self.watch.is_some()
        {
            life.code_shown = i32::try_from(code).ok();
        }
        if event["type"] == "DELETED" {
            life.gone_at = Some(self.since);
        }
    }

    pub fn watch_speaks(&mut self) {
        self.watch_speaks_at = None;
        let Some((number, mut watch)) = self.watch.take() else { return };
        loop {
            let step = self.cluster.poll_watch(&mut watch, self.unix());
            let event = match step {
                WatchStep::Wait(at) => {
                    self.watch_speaks_at = Some(at);
                    self.watch = Some((number, watch));
                    return;
                }
                WatchStep::End => None,
                WatchStep::Event(event) => Some(event),
            };
            let is_end = event.is_none();
            if let Some(event) = &event {
                let shown = self.watch_events.len();
                self.watch_events.push(text(&event["object"]["metadata"]["uid"]).to_owned());
                if self.plan.hidden.contains(&shown) {
                    let event = Some(event.clone());
                    self.after(HIDDEN, Item::WatchSays { watch: number, event, unless_covered: Some(shown) });
                    continue;
                }
            }
            let latency = self.latency(TO_API);
            self.watch_due = self.watch_due.max(self.since + latency);
            self.at(self.watch_due, Item::WatchSays { watch: number, event, unless_covered: None });
            if is_end {
                return;
            }
        }
    }

    pub fn new_connection(&mut self) -> ConnectionId {
        self.connections += 1;
        ConnectionId(self.connections)
    }

    pub fn reaches_broker(&mut self, connection: ConnectionId, input: Input, effect: Option<usize>) {
        let is_closed = matches!(input, Input::Closed);
        if self.since < self.broker_is_unreachable_until && !is_closed {
            if let Input::Opened = input {
                self.after(CONNECTS_WITHIN, Item::FromBroker { connection, output: Output::Close });
            }
            return;
        }
        if !self.broker_is_up {
            return self.after(TO_BROKER, Item::FromBroker { connection, output: Output::Close });
        }
        self.broker.handle(connection, input, self.now().instant);
        self.broker_speaks();
        if let Some(effect) = effect {
            self.say(&format!("    #{effect} at the broker"));
            self.cut(effect, Moment::Between);
        }
    }

    pub fn broker_speaks(&mut self) {
        while let Some((connection, output)) = self.broker.poll_output(self.now().instant) {
            if connection == SO {
                self.so_receives(output);
                continue;
            }
            let is_unreachable = self.since < self.broker_is_unreachable_until;
            if self.process.as_ref().is_some_and(|process| process.connection == Some(connection)) && !is_unreachable {
                let latency = self.latency(TO_BROKER);
                let process = self.process.as_mut().expect("it was there just now");
                process.from_broker_due = process.from_broker_due.max(self.since + latency);
                let due = process.from_broker_due;
                self.at(due, Item::FromBroker { connection, output });
            }
        }
    }

    pub fn broker_is_back(&mut self) {
        self.broker_is_up = true;
        self.so_connects();
        self.people_publish();
    }
}
