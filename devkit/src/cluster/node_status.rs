//! A pod's status in a kubelet's words. Pure: it reads a [`Run`] and writes to the store.

use mso::clock::UnixTime;
use serde_json::{Value, json};

use super::container::{Container, State, Why};
use super::dates::rfc3339;
use super::node::Run;
use super::object::list;
use super::store::{Key, Store};

/// The node's address as pods are told it.
const NODE_IP: &str = "127.0.0.1";

const DEADLINE_MESSAGE: &str = "Pod was active on the node longer than the specified deadline";

/// While the pod has not ended: also when its containers have.
pub(super) fn write(run: &Run, uid: &str, key: &Key, store: &mut Store, now: UnixTime) {
    let Some(pod) = store.get(key) else { return };
    // The end is written once, and stays.
    let phase = match pod["status"]["phase"].as_str() {
        Some(ended @ ("Succeeded" | "Failed")) => ended.to_owned(),
        _ if run.containers.iter().any(|container| container.has_run()) && !is_start_error(run) => "Running".to_owned(),
        _ => "Pending".to_owned(),
    };
    put(run, uid, key, &phase, store, now);
}

/// All containers have ended.
pub(super) fn write_final(run: &Run, uid: &str, key: &Key, store: &mut Store, now: UnixTime) {
    let failed = run.is_past_deadline || run.containers.iter().any(|container| !matches!(container.state, State::Ended { code: 0, .. }));
    put(run, uid, key, if failed { "Failed" } else { "Succeeded" }, store, now);
}

/// The pod has failed before its containers are said to have ended.
pub(super) fn write_failed(run: &Run, uid: &str, key: &Key, store: &mut Store, now: UnixTime) {
    put(run, uid, key, "Failed", store, now);
}

/// What containerd says of an image that its registry does not know.
fn not_found(image: &str) -> String {
    format!(
        "rpc error: code = NotFound desc = failed to pull and unpack image {image:?}: failed to resolve reference {image:?}: {image}: not found"
    )
}

impl Container {
    fn has_run(&self) -> bool {
        matches!(self.state, State::Running { .. } | State::Ended { started_at: Some(_), .. })
    }
}

fn is_start_error(run: &Run) -> bool {
    run.containers.iter().any(|container| matches!(container.state, State::Ended { reason: "StartError", .. }))
}

fn put(run: &Run, uid: &str, key: &Key, phase: &str, store: &mut Store, now: UnixTime) {
    let Some(pod) = store.get(key).filter(|pod| pod["metadata"]["uid"] == uid) else { return };
    let mut pod = Value::clone(pod);
    pod["status"] = status(run, uid, phase, &pod, now);
    store.put(key.clone(), pod, now);
}

fn status(run: &Run, uid: &str, phase: &str, pod: &Value, now: UnixTime) -> Value {
    let has_ended = matches!(phase, "Succeeded" | "Failed");
    let makes_sandbox = |container: &Container| match &container.state {
        State::Waiting { why, .. } => *why != Why::Pulling,
        State::Running { .. } | State::Ended { started_at: Some(_), .. } => true,
        State::Mounting | State::Creating | State::Ended { started_at: None, .. } => false,
    };
    let has_sandbox = pod["status"].get("podIP").is_some() || run.containers.iter().any(makes_sandbox);
    let mut status = json!({
        "phase": phase,
        "qosClass": pod["status"]["qosClass"],
        "observedGeneration": pod["metadata"]["generation"],
        "conditions": conditions(run, phase, has_sandbox && !has_ended && !never_ran(run), pod, now),
        "hostIP": NODE_IP,
        "hostIPs": [{"ip": NODE_IP}],
        "startTime": rfc3339(run.started_at),
        "containerStatuses": run.containers.iter().map(|container| container_status(container, uid, pod)).collect::<Vec<_>>(),
    });
    if has_sandbox {
        status["podIP"] = run.ip.clone().into();
        status["podIPs"] = json!([{"ip": run.ip}]);
    }
    if has_ended && run.is_past_deadline {
        status["reason"] = "DeadlineExceeded".into();
        status["message"] = DEADLINE_MESSAGE.into();
    }
    status
}

/// It was stopped before any container was there.
fn never_ran(run: &Run) -> bool {
    run.stop.is_some() && !run.containers.iter().any(Container::has_run)
}

fn conditions(run: &Run, phase: &str, can_start: bool, pod: &Value, now: UnixTime) -> Vec<Value> {
    let unready: Vec<&str> = run
        .containers
        .iter()
        .filter(|container| !matches!(container.state, State::Running { .. }))
        .map(|container| container.name.as_str())
        .collect();
    let all_ended = run.containers.iter().all(|container| matches!(container.state, State::Ended { .. }));
    let all_succeeded = run.containers.iter().all(|container| matches!(container.state, State::Ended { code: 0, .. }));
    let not_ready = format!("containers with unready status: [{}]", unready.join(" "));
    let (is_ready, reason, message) = match phase {
        _ if run.is_past_deadline => (false, "PodFailed", ""),
        _ if all_ended && all_succeeded => (false, "PodCompleted", ""),
        _ if never_ran(run) => (false, "ContainersNotReady", not_ready.as_str()),
        _ if all_ended => (false, "PodFailed", ""),
        _ if unready.is_empty() => (true, "", ""),
        _ => (false, "ContainersNotReady", not_ready.as_str()),
    };
    let initialized_reason = if all_ended && all_succeeded { "PodCompleted" } else { "" };
    let parts = [
        ("PodReadyToStartContainers", can_start, "", ""),
        ("Initialized", true, initialized_reason, ""),
        ("Ready", is_ready, reason, message),
        ("ContainersReady", is_ready, reason, message),
        ("PodScheduled", true, "", ""),
    ];
    parts.into_iter().map(|(r#type, is_true, reason, message)| condition(r#type, is_true, reason, message, pod, now)).collect()
}

fn condition(r#type: &str, is_true: bool, reason: &str, message: &str, pod: &Value, now: UnixTime) -> Value {
    let status = if is_true { "True" } else { "False" };
    let before = list(&pod["status"]["conditions"]).find(|before| before["type"] == r#type && before["status"] == status);
    let since = before.map_or_else(|| rfc3339(now).into(), |before| before["lastTransitionTime"].clone());
    let mut condition = json!({
        "type": r#type, "status": status, "observedGeneration": pod["metadata"]["generation"],
        "lastProbeTime": null, "lastTransitionTime": since,
    });
    if !reason.is_empty() {
        condition["reason"] = reason.into();
    }
    if !message.is_empty() {
        condition["message"] = message.into();
    }
    condition
}

fn container_status(container: &Container, uid: &str, pod: &Value) -> Value {
    let is_running = matches!(container.state, State::Running { .. });
    let id = format!("simulated://{uid}/{}", container.name);
    let state = match &container.state {
        State::Mounting | State::Creating => json!({"waiting": {"reason": "ContainerCreating"}}),
        State::Waiting { why, .. } => {
            let mut waiting = json!({"reason": why.reason()});
            match why {
                Why::Pulling => {}
                Why::PullFailed => waiting["message"] = not_found(&container.image).into(),
                Why::BackingOff => {
                    let message = format!("Back-off pulling image {:?}: ErrImagePull: {}", container.image, not_found(&container.image));
                    waiting["message"] = message.into();
                }
                Why::NoSecret(name) => waiting["message"] = format!("secret {name:?} not found").into(),
            }
            json!({"waiting": waiting})
        }
        State::Running { started_at } => json!({"running": {"startedAt": rfc3339(*started_at)}}),
        State::Ended { code, reason, message, started_at, finished_at } => {
            let mut terminated =
                json!({"exitCode": code, "reason": reason, "startedAt": started_at.map(rfc3339), "finishedAt": finished_at.map(rfc3339)});
            if !message.is_empty() {
                terminated["message"] = message.clone().into();
            }
            if started_at.is_some() {
                terminated["containerID"] = id.clone().into();
            }
            json!({"terminated": terminated})
        }
    };
    let mut status = json!({
        "name": container.name, "state": state, "lastState": {}, "ready": is_running, "restartCount": 0,
        "image": container.image, "imageID": "", "started": is_running,
    });
    if container.has_run() {
        status["containerID"] = id.into();
        status["imageID"] = format!("simulated://{}", container.image).into();
        status["resources"] = json!({});
    }
    let spec = list(&pod["spec"]["containers"]).find(|spec| spec["name"] == container.name);
    let mounts: Vec<Value> = spec.into_iter().flat_map(|spec| list(&spec["volumeMounts"])).map(mount_status).collect();
    if !mounts.is_empty() {
        status["volumeMounts"] = mounts.into();
    }
    status
}

fn mount_status(mount: &Value) -> Value {
    let mut status = json!({"name": mount["name"], "mountPath": mount["mountPath"]});
    if mount["readOnly"] == true {
        status["readOnly"] = true.into();
        status["recursiveReadOnly"] = "Disabled".into();
    }
    status
}
