//! The cluster called directly, in simulated time: the test plays the containers.

#![expect(clippy::unwrap_used, reason = "helpers of tests, too")]

use devkit::cluster::{
    Answer, Cluster, ContainerEffect, ContainerId, ContainerStart, Content, Fault, FaultKind, Reply, Request, Signal, Status, Watch,
    WatchStep,
};
use mso::clock::UnixTime;
use serde_json::{Value, json};

const PODS: &str = "/api/v1/namespaces/dots/pods";
const CONFIG_MAPS: &str = "/api/v1/namespaces/dots/configmaps";

/// A cluster and its time.
struct Stage {
    cluster: Cluster,
    now: UnixTime,
}

impl Stage {
    fn new() -> Self {
        let mut cluster = Cluster::new(["image".to_owned()]);
        cluster.accept("token");
        Self { cluster, now: UnixTime(1_700_000_000.0) }
    }

    fn reply(&mut self, method: &str, target: &str, body: &Value) -> Reply {
        let body = if body.is_null() { Vec::new() } else { body.to_string().into_bytes() };
        let content_type = if method == "PATCH" { "application/merge-patch+json" } else { "application/json" };
        self.cluster.handle(&Request { method, target, content_type, token: "token", body: &body }, self.now)
    }

    #[track_caller]
    fn ask(&mut self, method: &str, target: &str, body: &Value) -> (u16, Value) {
        match self.reply(method, target, body) {
            Reply::Answer(Answer { code, body: Content::Json(body), .. }) => (code, body),
            other => panic!("{other:?}"),
        }
    }

    fn create(&mut self, name: &str, spec: Value) {
        let mut pod =
            json!({"metadata": {"name": name}, "spec": {"restartPolicy": "Never", "containers": [{"name": "c", "image": "image"}]}});
        pod["spec"].as_object_mut().unwrap().extend(spec.as_object().unwrap().clone());
        let (code, body) = self.ask("POST", PODS, &pod);
        assert_eq!(code, 201, "{body}");
    }

    fn status(&mut self, name: &str) -> Value {
        self.ask("GET", &format!("{PODS}/{name}"), &Value::Null).1["status"].take()
    }

    fn pass(&mut self, seconds: f64) {
        self.now = self.now.plus_seconds(seconds);
        self.cluster.handle_timeout(self.now);
    }

    #[track_caller]
    fn start(&mut self) -> ContainerStart {
        let Some(ContainerEffect::Start(start)) = self.cluster.poll_effect() else { panic!("nothing is to be started") };
        self.cluster.container_started(&start.id, self.now);
        *start
    }

    #[track_caller]
    fn assert_signal(&mut self, id: &ContainerId, signal: Signal) {
        assert_eq!(self.cluster.poll_effect(), Some(ContainerEffect::Signal { id: id.clone(), signal }));
    }

    #[track_caller]
    fn watch(&mut self, query: &str) -> Watch {
        match self.reply("GET", &format!("{PODS}?watch=true&{query}"), &Value::Null) {
            Reply::Watch(watch) => *watch,
            other => panic!("{other:?}"),
        }
    }

    /// Types and names of what there is to say now.
    fn events(&self, watch: &mut Watch) -> Vec<Value> {
        std::iter::from_fn(|| match self.cluster.poll_watch(watch, self.now) {
            WatchStep::Event(event) => Some(event),
            WatchStep::Wait(_) | WatchStep::End => None,
        })
        .collect()
    }

    fn version(&mut self) -> String {
        self.ask("GET", PODS, &Value::Null).1["metadata"]["resourceVersion"].as_str().unwrap().to_owned()
    }
}

fn names(page: &Value) -> Vec<&str> {
    page["items"].as_array().unwrap().iter().map(|item| item["metadata"]["name"].as_str().unwrap()).collect()
}

fn types(events: &[Value]) -> Vec<&str> {
    events.iter().map(|event| event["type"].as_str().unwrap()).collect()
}

#[test]
fn a_container_that_ignores_sigterm_is_killed_after_its_grace_and_the_event_shows_its_end() {
    let mut stage = Stage::new();
    stage.create("p", json!({"terminationGracePeriodSeconds": 30}));
    let id = stage.start().id;
    let version = stage.version();
    let mut watch = stage.watch(&format!("resourceVersion={version}"));
    stage.pass(5.0);
    assert_eq!(stage.ask("DELETE", &format!("{PODS}/p"), &Value::Null).1["metadata"]["deletionTimestamp"], "2023-11-14T22:13:55Z");
    stage.assert_signal(&id, Signal::Term);
    stage.pass(29.0);
    assert_eq!(stage.cluster.poll_effect(), None, "its grace is not over");
    assert_eq!(stage.cluster.poll_timeout(), Some(stage.now.plus_seconds(1.0)));
    stage.pass(1.0);
    stage.assert_signal(&id, Signal::Kill);
    assert_eq!(stage.cluster.poll_timeout(), None, "it is killed once");
    stage.cluster.container_ended(&id, 137, stage.now);
    let events = stage.events(&mut watch);
    let last = events.last().unwrap();
    assert_eq!(last["type"], "DELETED");
    assert_eq!(last["object"]["status"]["containerStatuses"][0]["state"]["terminated"]["exitCode"], 137);
    assert_eq!(stage.ask("GET", &format!("{PODS}/p"), &Value::Null).0, 404);
}

#[test]
fn a_second_delete_may_leave_less_time_and_never_more() {
    let mut stage = Stage::new();
    stage.now = stage.now.plus_seconds(0.9);
    stage.create("p", json!({}));
    let id = stage.start().id;
    let delete = |stage: &mut Stage, seconds: u32| {
        stage.ask("DELETE", &format!("{PODS}/p?gracePeriodSeconds={seconds}"), &Value::Null);
    };
    delete(&mut stage, 30);
    stage.assert_signal(&id, Signal::Term);
    assert_eq!(stage.cluster.poll_timeout(), Some(stage.now.plus_seconds(30.0)), "all of its grace");
    stage.pass(1.0);
    delete(&mut stage, 60);
    assert_eq!(stage.cluster.poll_timeout(), Some(stage.now.plus_seconds(29.0)));
    delete(&mut stage, 5);
    assert_eq!(stage.cluster.poll_timeout(), Some(stage.now.plus_seconds(5.0)));
}

#[test]
fn a_pod_deleted_at_once_is_gone_while_its_container_still_runs() {
    let mut stage = Stage::new();
    stage.create("p", json!({}));
    let id = stage.start().id;
    stage.ask("DELETE", &format!("{PODS}/p?gracePeriodSeconds=0"), &Value::Null);
    stage.create("p", json!({}));
    stage.assert_signal(&id, Signal::Kill);
    let second = stage.start().id;
    stage.cluster.container_ended(&id, 137, stage.now);
    assert_eq!(stage.status("p")["phase"], "Running", "the end of the first is not the second's");
    stage.cluster.container_ended(&second, 0, stage.now);
    assert_eq!(stage.status("p")["phase"], "Succeeded");
}

#[test]
fn a_pod_deleted_before_its_container_was_started_starts_none() {
    let mut stage = Stage::new();
    stage.create("p", json!({}));
    stage.ask("DELETE", &format!("{PODS}/p"), &Value::Null);
    assert_eq!(stage.cluster.poll_effect(), None);
    assert_eq!(stage.ask("GET", &format!("{PODS}/p"), &Value::Null).0, 404);

    stage.create("q", json!({}));
    let Some(ContainerEffect::Start(start)) = stage.cluster.poll_effect() else { panic!("nothing is to be started") };
    stage.ask("DELETE", &format!("{PODS}/q?gracePeriodSeconds=0"), &Value::Null);
    stage.cluster.container_started(&start.id, stage.now);
    stage.assert_signal(&start.id, Signal::Kill);
}

#[test]
fn a_deadline_stops_the_container_and_fails_the_pod_whatever_its_code() {
    let mut stage = Stage::new();
    stage.create("p", json!({"activeDeadlineSeconds": 60}));
    let id = stage.start().id;
    stage.pass(59.0);
    assert_eq!(stage.cluster.poll_effect(), None);
    stage.pass(1.0);
    stage.assert_signal(&id, Signal::Term);
    stage.cluster.container_ended(&id, 0, stage.now);
    let status = stage.status("p");
    assert_eq!((&status["phase"], &status["reason"]), (&json!("Failed"), &json!("DeadlineExceeded")));
    assert_eq!(status["containerStatuses"][0]["state"]["terminated"]["exitCode"], 0);
}

#[test]
fn an_image_is_pulled_again_and_again_until_it_is_there() {
    let mut stage = Stage::new();
    stage.create("p", json!({"containers": [{"name": "c", "image": "late"}]}));
    let mut seen = Vec::new();
    while seen.len() < 6 {
        let until = stage.cluster.poll_timeout().unwrap();
        let waited = until.seconds_since(stage.now);
        stage.pass(waited);
        let reason = stage.status("p")["containerStatuses"][0]["state"]["waiting"]["reason"].take();
        seen.push(format!("{waited:.0} s {}", reason.as_str().unwrap()));
    }
    #[rustfmt::skip]
    let expected = ["1 s ErrImagePull", "10 s ImagePullBackOff", "10 s ErrImagePull", "10 s ImagePullBackOff", "20 s ErrImagePull", "10 s ImagePullBackOff"];
    assert_eq!(seen, expected);
    stage.cluster.add_image("late");
    let until = stage.cluster.poll_timeout().unwrap();
    stage.pass(until.seconds_since(stage.now));
    assert_eq!(stage.start().image, "late");
    assert_eq!(stage.status("p")["phase"], "Running");
}

#[test]
fn a_pod_waits_for_a_node_with_its_label() {
    let mut stage = Stage::new();
    stage.create("p", json!({"nodeSelector": {"type": "gpu"}}));
    assert_eq!(stage.cluster.poll_effect(), None);
    assert_eq!(stage.status("p")["conditions"][0]["reason"], "Unschedulable");
    stage.cluster.label_node("type", Some("gpu"), stage.now);
    stage.start();
    assert_eq!(stage.status("p")["phase"], "Running");
}

#[test]
fn a_container_gets_what_its_pod_says_and_the_last_of_two_values() {
    let mut stage = Stage::new();
    let env = json!([{"name": "A", "value": "1"}, {"name": "B", "value": "<$(A)>"}, {"name": "A", "value": "2"}, {"name": "C", "value": "$$(A) $(D)"}]);
    stage.create("p", json!({"containers": [{"name": "c", "image": "image", "command": ["run"], "args": ["$(A)"], "env": env}]}));
    let start = stage.start();
    assert_eq!((start.hostname.as_str(), start.command, start.args), ("p", vec!["run".to_owned()], vec!["2".to_owned()]));
    let env: Vec<String> = start.env.iter().map(|(name, value)| format!("{name}={value}")).collect();
    assert_eq!(env, ["B=<1>", "A=2", "C=$(A) $(D)"]);
}

#[test]
fn a_watch_has_a_bookmark_each_minute_and_ends_in_its_time() {
    let mut stage = Stage::new();
    let version = stage.version();
    let mut watch = stage.watch(&format!("resourceVersion={version}&allowWatchBookmarks=true&timeoutSeconds=150"));
    let mut silent = stage.watch(&format!("resourceVersion={version}&timeoutSeconds=150"));
    stage.create("p", json!({"nodeSelector": {"type": "none"}}));
    assert_eq!(types(&stage.events(&mut watch)), ["ADDED", "MODIFIED"]);
    for _ in 0..2 {
        stage.pass(60.0);
        let events = stage.events(&mut watch);
        assert_eq!(types(&events), ["BOOKMARK"]);
        assert_eq!(events[0]["object"]["metadata"]["resourceVersion"], stage.version());
    }
    stage.pass(30.0);
    assert_eq!(stage.cluster.poll_watch(&mut watch, stage.now), WatchStep::End);
    assert_eq!(types(&stage.events(&mut silent)), ["ADDED", "MODIFIED"], "what happened is said before the end");
}

#[test]
fn what_is_forgotten_is_said_so_in_a_real_ones_words() {
    let mut stage = Stage::new();
    for name in ["a", "b", "c"] {
        stage.create(name, json!({}));
    }
    let (_, page) = stage.ask("GET", &format!("{PODS}?limit=2"), &Value::Null);
    let (next, version) = (page["metadata"]["continue"].as_str().unwrap(), stage.version());
    stage.create("d", json!({}));
    let mut behind = stage.watch(&format!("resourceVersion={version}"));
    stage.cluster.compact();
    let forgotten = stage.version();
    assert_eq!(stage.cluster.poll_watch(&mut behind, stage.now), WatchStep::End);

    let expired = json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "reason": "Expired", "code": 410,
        "message": format!("too old resource version: {version} ({forgotten})"),
    });
    let mut watch = stage.watch(&format!("resourceVersion={version}"));
    assert_eq!(stage.events(&mut watch), [json!({"type": "ERROR", "object": expired})]);
    assert_eq!(stage.cluster.poll_watch(&mut watch, stage.now), WatchStep::End);
    let mut present = stage.watch(&format!("resourceVersion={forgotten}"));
    assert!(stage.events(&mut present).is_empty(), "from there on it can be watched");

    let (code, body) = stage.ask("GET", &format!("{PODS}?limit=2&continue={next}"), &Value::Null);
    assert_eq!((code, &body["reason"]), (410, &json!("Expired")));
    assert!(body["message"].as_str().unwrap().starts_with("The provided continue parameter is too old"), "{body}");
    // The rest as it is now, and what follows is of that moment.
    stage.create("e", json!({}));
    let next = body["metadata"]["continue"].as_str().unwrap();
    let (_, page) = stage.ask("GET", &format!("{PODS}?limit=2&continue={next}"), &Value::Null);
    assert_eq!((names(&page), &page["metadata"]["resourceVersion"]), (vec!["c", "d"], &json!(stage.version())));
    let next = page["metadata"]["continue"].as_str().unwrap();
    stage.ask("DELETE", &format!("{PODS}/e"), &json!({"gracePeriodSeconds": 0}));
    let (_, page) = stage.ask("GET", &format!("{PODS}?limit=2&continue={next}"), &Value::Null);
    assert_eq!((names(&page), &page["metadata"]["continue"]), (vec!["e"], &Value::Null));
    let (code, body) = stage.ask("GET", &format!("{PODS}?resourceVersionMatch=Exact&resourceVersion={version}"), &Value::Null);
    assert_eq!((code, &body["message"]), (410, &json!("The resourceVersion for the provided list is too old.")));
}

#[test]
fn after_five_minutes_the_past_is_forgotten() {
    let mut stage = Stage::new();
    let version = stage.version();
    stage.create("a", json!({"nodeSelector": {"type": "none"}}));
    stage.pass(299.0);
    stage.create("b", json!({"nodeSelector": {"type": "none"}}));
    let mut watch = stage.watch(&format!("resourceVersion={version}"));
    assert_eq!(types(&stage.events(&mut watch)), ["ADDED", "MODIFIED", "ADDED", "MODIFIED"]);
    stage.pass(2.0);
    stage.create("c", json!({"nodeSelector": {"type": "none"}}));
    let mut watch = stage.watch(&format!("resourceVersion={version}"));
    assert_eq!(types(&stage.events(&mut watch)), ["ERROR"]);
}

#[test]
fn faults_are_done_to_the_requests_that_they_name() {
    let mut stage = Stage::new();
    let fault = |kind| Fault { method: "POST", target: "/pods".to_owned(), times: 1, kind };
    stage.cluster.misbehave(fault(FaultKind::Refuse(Status::too_many_requests(7))));
    stage.cluster.misbehave(fault(FaultKind::Drop));
    stage.cluster.misbehave(fault(FaultKind::LoseAnswer));
    let pod = json!({"metadata": {"name": "p"}, "spec": {"containers": [{"name": "c", "image": "image"}]}});
    assert_eq!(stage.ask("GET", PODS, &Value::Null).0, 200, "a fault of another method");
    assert_eq!(stage.cluster.faults_left(), 3);
    let Reply::Answer(refused) = stage.reply("POST", PODS, &pod) else { panic!("it is answered") };
    assert_eq!((refused.code, refused.retry_after_seconds), (429, Some(7)));
    assert!(matches!(stage.reply("POST", PODS, &pod), Reply::Lost));
    assert_eq!(stage.ask("GET", &format!("{PODS}/p"), &Value::Null).0, 404, "it was not done");
    assert!(matches!(stage.reply("POST", PODS, &pod), Reply::Lost));
    assert_eq!(stage.ask("GET", &format!("{PODS}/p"), &Value::Null).0, 200, "it was done");
    assert_eq!(stage.ask("POST", PODS, &pod).0, 409, "faults are over");
    assert_eq!(stage.cluster.faults_left(), 0);
}

#[test]
fn one_version_counts_the_writes_of_pods_and_config_maps() {
    let mut stage = Stage::new();
    let before: u64 = stage.version().parse().unwrap();
    let mut pods = stage.watch(&format!("resourceVersion={before}&allowWatchBookmarks=true"));
    let record = json!({"metadata": {"name": "r"}, "data": {"key": "1"}});
    let version_of = |object: &Value| object["metadata"]["resourceVersion"].as_str().unwrap().parse::<u64>().unwrap();
    assert_eq!(version_of(&stage.ask("POST", CONFIG_MAPS, &record).1), before + 1);
    assert_eq!(version_of(&stage.ask("GET", PODS, &Value::Null).1), before + 1, "a list of pods is as new");
    let path = format!("{CONFIG_MAPS}/r");
    assert_eq!(version_of(&stage.ask("PATCH", &path, &json!({"data": {"key": "1"}})).1), before + 1, "nothing was written");
    assert_eq!(version_of(&stage.ask("PATCH", &path, &json!({"data": {"key": "2"}})).1), before + 2);
    assert_eq!(stage.ask("DELETE", &path, &Value::Null).1["status"], "Success");
    assert_eq!(version_of(&stage.ask("GET", CONFIG_MAPS, &Value::Null).1), before + 3);
    assert!(stage.events(&mut pods).is_empty(), "who watches pods hears nothing of ConfigMaps");
    stage.pass(60.0);
    let bookmark = stage.events(&mut pods).remove(0);
    assert_eq!(version_of(&bookmark["object"]), before + 3);
}

#[test]
fn a_config_map_whose_answer_was_lost_is_there_and_a_lost_patch_is_a_conflict_the_second_time() {
    let mut stage = Stage::new();
    let fault = |method, kind| Fault { method, target: "/configmaps".to_owned(), times: 1, kind };
    stage.cluster.misbehave(fault("POST", FaultKind::LoseAnswer));
    stage.cluster.misbehave(fault("PATCH", FaultKind::LoseAnswer));
    stage.cluster.misbehave(fault("PATCH", FaultKind::Drop));
    stage.cluster.misbehave(fault("DELETE", FaultKind::Refuse(Status::unavailable())));
    let record = json!({"metadata": {"name": "r"}, "data": {"key": "1"}});
    stage.create("p", json!({}));
    assert!(matches!(stage.reply("POST", CONFIG_MAPS, &record), Reply::Lost), "a pod's create has not met its fault");
    assert_eq!(stage.ask("POST", CONFIG_MAPS, &record).1["reason"], "AlreadyExists");
    let path = format!("{CONFIG_MAPS}/r");
    let before = stage.ask("GET", &path, &Value::Null).1;
    let patch = json!({"metadata": {"resourceVersion": before["metadata"]["resourceVersion"]}, "data": {"key": "2"}});
    assert!(matches!(stage.reply("PATCH", &path, &patch), Reply::Lost));
    assert!(matches!(stage.reply("PATCH", &path, &json!({"data": {"key": "3"}})), Reply::Lost));
    assert_eq!(stage.ask("PATCH", &path, &patch).1["reason"], "Conflict");
    assert_eq!(stage.ask("GET", &path, &Value::Null).1["data"]["key"], "2", "the first was done, and the second was not");
    assert_eq!(stage.ask("DELETE", &path, &Value::Null).0, 503);
    assert_eq!(stage.ask("DELETE", &path, &Value::Null).0, 200);
    assert_eq!(stage.cluster.faults_left(), 0);
}

#[test]
fn a_token_is_good_until_it_is_revoked() {
    let mut stage = Stage::new();
    assert_eq!(stage.ask("GET", PODS, &Value::Null).0, 200);
    stage.cluster.revoke("token");
    assert_eq!(stage.ask("GET", PODS, &Value::Null).0, 401);
}

#[test]
fn the_same_requests_at_the_same_times_give_the_same_answers() {
    let run = || {
        let mut stage = Stage::new();
        let mut watch = stage.watch("");
        for name in ["b", "a"] {
            stage.create(name, json!({}));
            stage.pass(0.5);
        }
        let first = stage.start().id;
        stage.cluster.container_wrote(&first, b"a line\n");
        stage.cluster.container_ended(&first, 3, stage.now);
        stage.ask("DELETE", &format!("{PODS}/a"), &Value::Null);
        let mut transcript: Vec<String> = stage.events(&mut watch).iter().map(Value::to_string).collect();
        transcript.push(stage.ask("GET", PODS, &Value::Null).1.to_string());
        transcript
    };
    assert_eq!(run(), run());
}
