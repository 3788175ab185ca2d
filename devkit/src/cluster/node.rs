//! The scheduler, and the one node with its kubelet: which pods run, and what their status says, as a real kubelet writes it. Pure: it
//! starts nothing. What it wants done to containers it says in [`ContainerEffect`]s; what comes of that is told to it.
//!
//! Absent on purpose: init containers, probes, restarts (a container that has ended stays so whatever the policy), resources.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use mso::clock::UnixTime;
use serde_json::{Value, json};

use super::container::{
    Container, ContainerEffect, ContainerId, ContainerStart, Signal, State, Why, expanded, variables, waits_for_volume,
};
use super::dates::rfc3339;
use super::node_status;
use super::object::{list, text};
use super::store::{Key, Resource, Store};

const NODE_NAME: &str = "node";

/// From the beginning of a pull that fails to the status that says so.
const PULL_SECONDS: f64 = 1.0;

/// A kubelet's: from there on it doubles.
const PULL_BACK_OFF_SECONDS: f64 = 10.0;
const PULL_BACK_OFF_SECONDS_MAX: f64 = 300.0;

/// A container that never was: what a kubelet writes where it finds none, and for one that could not start.
const CODE_UNKNOWN: i32 = 137;
const CODE_START_ERROR: i32 = 128;

#[derive(Debug)]
pub(super) struct Node {
    pub(super) labels: BTreeMap<String, String>,
    /// Those that can be pulled.
    images: BTreeSet<String>,
    /// By the pod's uid. Also pods that have ended: their logs are here.
    pub(super) runs: BTreeMap<String, Run>,
    /// Containers of pods that are gone, until they have ended.
    orphans: BTreeSet<ContainerId>,
    effects: VecDeque<ContainerEffect>,
    /// Changes in the store up to here were seen.
    seen: u64,
    pods: u64,
}

#[derive(Debug)]
pub(super) struct Run {
    key: Key,
    pub(super) started_at: UnixTime,
    pub(super) ip: String,
    /// In the pod's order.
    pub(super) containers: Vec<Container>,
    pub(super) stop: Option<Stop>,
    pub(super) is_past_deadline: bool,
}

/// SIGTERM was sent.
#[derive(Debug)]
pub(super) struct Stop {
    grace_seconds: f64,
    /// When SIGKILL comes; none where it was sent.
    kill_at: Option<UnixTime>,
}

impl Stop {
    /// A second delete may leave less time.
    fn shorten(&mut self, grace_seconds: f64, now: UnixTime) {
        if grace_seconds < self.grace_seconds && self.kill_at.is_some() {
            *self = Self { grace_seconds, kill_at: Some(now.plus_seconds(grace_seconds)) };
        }
    }
}

impl Run {
    fn all_ended(&self) -> bool {
        self.containers.iter().all(|container| matches!(container.state, State::Ended { .. }))
    }

    fn container(&mut self, name: &str) -> Option<&mut Container> {
        self.containers.iter_mut().find(|container| container.name == name)
    }
}

impl Node {
    pub(super) fn new(images: BTreeSet<String>, seen: u64) -> Self {
        Self {
            labels: BTreeMap::from([("type".to_owned(), "worker".to_owned())]),
            images,
            runs: BTreeMap::new(),
            orphans: BTreeSet::new(),
            effects: VecDeque::new(),
            seen,
            pods: 0,
        }
    }

    pub(super) fn poll_effect(&mut self) -> Option<ContainerEffect> {
        self.effects.pop_front()
    }

    pub(super) fn add_image(&mut self, image: &str) {
        self.images.insert(image.to_owned());
    }

    /// When something is to be done that nobody asks for.
    pub(super) fn poll_timeout(&self, store: &Store) -> Option<UnixTime> {
        let times = self.runs.values().flat_map(|run| {
            let again = run.containers.iter().filter_map(|container| match container.state {
                State::Waiting { again_at, .. } if run.stop.is_none() => Some(again_at),
                _ => None,
            });
            let kill = run.stop.as_ref().and_then(|stop| stop.kill_at);
            again.chain(kill).chain(deadline(run, store))
        });
        times.reduce(|first, time| if time < first { time } else { first })
    }

    pub(super) fn handle_timeout(&mut self, store: &mut Store, now: UnixTime) {
        let uids: Vec<String> = self.runs.keys().cloned().collect();
        for uid in uids {
            let Some(run) = self.runs.get_mut(&uid) else { continue };
            if deadline(run, store).is_some_and(|deadline| deadline <= now) {
                run.is_past_deadline = true;
                run.containers.iter_mut().for_each(Container::see_back_off);
                let grace = store.get(&run.key).map_or(0.0, |pod| pod["spec"]["terminationGracePeriodSeconds"].as_f64().unwrap_or(0.0));
                self.begin_stop(&uid, grace, now);
                self.write_status(&uid, store, now);
                self.end_what_never_ran(&uid, store, now);
            } else if run.stop.as_ref().is_some_and(|stop| stop.kill_at.is_some_and(|at| at <= now)) {
                run.stop = Some(Stop { grace_seconds: 0.0, kill_at: None });
                self.signal_running(&uid, Signal::Kill);
            } else if run.stop.is_none() {
                self.try_again(&uid, now, store);
            }
        }
        self.settle(store, now);
    }

    /// Sees what changed in the store, until nothing does any more.
    pub(super) fn settle(&mut self, store: &mut Store, now: UnixTime) {
        loop {
            let mut changed = Vec::new();
            for change in store.changes_after(self.seen).filter(|change| change.key.resource == Resource::Pods) {
                if change.is_deletion
                    && let Some((uid, run)) = self.runs.remove_entry(text(&change.object["metadata"]["uid"]))
                {
                    self.abandon(&uid, run);
                }
                changed.push(change.key.clone());
            }
            self.seen = store.version();
            if changed.is_empty() {
                return;
            }
            for key in changed {
                self.sync(&key, store, now);
            }
        }
    }

    /// Asks for a node again for each pod that has none.
    pub(super) fn label(&mut self, key: &str, value: Option<&str>, store: &mut Store, now: UnixTime) {
        match value {
            Some(value) => self.labels.insert(key.to_owned(), value.to_owned()),
            None => self.labels.remove(key),
        };
        let keys: Vec<Key> = store.list(Resource::Pods, None).map(|(key, _)| key.clone()).collect();
        for key in keys {
            self.sync(&key, store, now);
        }
        self.settle(store, now);
    }

    pub(super) fn container_started(&mut self, id: &ContainerId, store: &mut Store, now: UnixTime) {
        if self.orphans.contains(id) {
            self.effects.push_back(ContainerEffect::Signal { id: id.clone(), signal: Signal::Kill });
            return;
        }
        let Some(run) = self.runs.get_mut(&id.uid) else { return };
        let is_stopping = run.stop.is_some();
        let Some(container) = run.container(&id.name).filter(|container| container.state == State::Creating) else { return };
        container.state = State::Running { started_at: now };
        if is_stopping {
            self.effects.push_back(ContainerEffect::Signal { id: id.clone(), signal: Signal::Term });
        }
        self.write_status(&id.uid, store, now);
        self.settle(store, now);
    }

    pub(super) fn container_wrote(&mut self, id: &ContainerId, bytes: &[u8]) {
        let Some(container) = self.runs.get_mut(&id.uid).and_then(|run| run.container(&id.name)) else { return };
        container.write(bytes);
    }

    pub(super) fn container_ended(&mut self, id: &ContainerId, code: i32, store: &mut Store, now: UnixTime) {
        let reason = if code == 0 { "Completed" } else { "Error" };
        self.end(id, code, reason, String::new(), store, now);
    }

    pub(super) fn container_failed_to_start(&mut self, id: &ContainerId, message: &str, store: &mut Store, now: UnixTime) {
        self.end(id, CODE_START_ERROR, "StartError", message.to_owned(), store, now);
    }

    fn end(&mut self, id: &ContainerId, code: i32, reason: &'static str, message: String, store: &mut Store, now: UnixTime) {
        if self.orphans.remove(id) {
            return;
        }
        let Some(run) = self.runs.get_mut(&id.uid) else { return };
        let (key, is_stopping) = (run.key.clone(), run.stop.is_some());
        let Some(container) = run.container(&id.name) else { return };
        let started_at = match container.state {
            State::Running { started_at } => started_at,
            State::Creating => UnixTime(0.0),
            State::Mounting | State::Waiting { .. } | State::Ended { .. } => return,
        };
        let falls_back = store.get(&key).is_some_and(|pod| {
            list(&pod["spec"]["containers"])
                .any(|spec| spec["name"] == id.name && spec["terminationMessagePolicy"] == "FallbackToLogsOnError")
        });
        let message = if message.is_empty() && code != 0 && falls_back { container.termination_message() } else { message };
        container.state = State::Ended { code, reason, message, started_at: Some(started_at), finished_at: Some(now) };
        if !is_stopping {
            // A kubelet writes the container's end before the pod's.
            self.write_status(&id.uid, store, now);
        }
        self.end_of_pod(&id.uid, store, now);
        self.settle(store, now);
    }

    fn sync(&mut self, key: &Key, store: &mut Store, now: UnixTime) {
        let Some(pod) = store.get(key).cloned() else { return };
        let uid = text(&pod["metadata"]["uid"]).to_owned();
        let is_deleted = pod["metadata"].get("deletionTimestamp").is_some();
        if pod["spec"].get("nodeName").is_none() {
            if !is_deleted {
                self.schedule(key, &pod, store, now);
            }
            return;
        }
        let has_ended = matches!(text(&pod["status"]["phase"]), "Succeeded" | "Failed");
        if !self.runs.contains_key(&uid) {
            if has_ended || is_deleted {
                return;
            }
            self.admit(&uid, key, &pod, store, now);
        }
        let grace = pod["metadata"]["deletionGracePeriodSeconds"].as_f64().unwrap_or(0.0);
        if is_deleted && !has_ended && self.runs.get(&uid).is_some_and(|run| run.stop.is_none()) {
            self.begin_stop(&uid, grace, now);
            self.write_status(&uid, store, now);
            self.end_what_never_ran(&uid, store, now);
            return;
        }
        if is_deleted && let Some(stop) = self.runs.get_mut(&uid).and_then(|run| run.stop.as_mut()) {
            stop.shorten(grace, now);
        }
        self.write_status(&uid, store, now);
    }

    fn schedule(&mut self, key: &Key, pod: &Value, store: &mut Store, now: UnixTime) {
        let selector = pod["spec"]["nodeSelector"].as_object();
        let fits = selector.into_iter().flatten().all(|(label, value)| self.labels.get(label).map(String::as_str) == value.as_str());
        let is_said = list(&pod["status"]["conditions"]).any(|condition| condition["type"] == "PodScheduled");
        if !fits && is_said {
            return;
        }
        let mut pod = pod.clone();
        let mut condition = json!({"type": "PodScheduled", "lastProbeTime": null, "lastTransitionTime": rfc3339(now)});
        if fits {
            pod["spec"]["nodeName"] = NODE_NAME.into();
            condition["status"] = "True".into();
        } else {
            condition["status"] = "False".into();
            condition["observedGeneration"] = pod["metadata"]["generation"].clone();
            condition["reason"] = "Unschedulable".into();
            condition["message"] = "0/1 nodes are available: 1 node(s) didn't match Pod's node affinity/selector. no new claims to \
                deallocate, preemption: 0/1 nodes are available: 1 Preemption is not helpful for scheduling."
                .into();
        }
        pod["status"]["conditions"] = json!([condition]);
        store.put(key.clone(), pod, now);
    }

    /// The kubelet takes the pod on.
    fn admit(&mut self, uid: &str, key: &Key, pod: &Value, store: &mut Store, now: UnixTime) {
        self.pods += 1;
        let run = Run {
            key: key.clone(),
            started_at: now,
            // Of the block that is there for documentation and tests: 198.18.0.0/15.
            ip: format!("198.18.{}.{}", self.pods / 256 % 256, self.pods % 256),
            containers: list(&pod["spec"]["containers"]).map(Container::new).collect(),
            stop: None,
            is_past_deadline: false,
        };
        self.runs.insert(uid.to_owned(), run);
        self.write_status(uid, store, now);
        for container in list(&pod["spec"]["containers"]) {
            self.start(uid, pod, container, PULL_BACK_OFF_SECONDS, now);
        }
    }

    /// Asks for a container to be started, or has it wait.
    fn start(&mut self, uid: &str, pod: &Value, spec: &Value, back_off_seconds: f64, now: UnixTime) {
        let id = ContainerId { uid: uid.to_owned(), name: text(&spec["name"]).to_owned() };
        let image = text(&spec["image"]);
        let state = if waits_for_volume(pod) {
            State::Mounting
        } else if !self.images.contains(image) {
            State::Waiting { why: Why::Pulling, again_at: now.plus_seconds(PULL_SECONDS), back_off_seconds }
        } else {
            match variables(spec) {
                Ok(env) => {
                    let strings = |value: &Value| list(value).map(|item| expanded(text(item), &env)).collect();
                    self.effects.push_back(ContainerEffect::Start(Box::new(ContainerStart {
                        id: id.clone(),
                        hostname: text(&pod["metadata"]["name"]).to_owned(),
                        image: image.to_owned(),
                        command: strings(&spec["command"]),
                        args: strings(&spec["args"]),
                        env,
                    })));
                    State::Creating
                }
                Err(secret) => {
                    State::Waiting { why: Why::NoSecret(secret), again_at: now.plus_seconds(PULL_BACK_OFF_SECONDS), back_off_seconds }
                }
            }
        };
        if let Some(container) = self.runs.get_mut(uid).and_then(|run| run.container(&id.name)) {
            container.state = state;
        }
    }

    /// What waits goes on: from a pull to its failure, from there to waiting, from there to the next pull.
    fn try_again(&mut self, uid: &str, now: UnixTime, store: &mut Store) {
        let Some(run) = self.runs.get_mut(uid) else { return };
        let is_due = |container: &Container| matches!(container.state, State::Waiting { again_at, .. } if again_at <= now);
        if !run.containers.iter().any(is_due) {
            return;
        }
        let Some(pod) = store.get(&run.key).cloned() else { return };
        let mut starts = Vec::new();
        for container in &mut run.containers {
            let State::Waiting { why, again_at, back_off_seconds } = &mut container.state else { continue };
            if *again_at > now {
                continue;
            }
            let is_there = self.images.contains(&container.image);
            let (next, seconds) = match why {
                Why::Pulling => (Why::PullFailed, PULL_BACK_OFF_SECONDS),
                Why::PullFailed if !is_there => (Why::BackingOff, *back_off_seconds),
                Why::BackingOff if !is_there => {
                    *back_off_seconds = (*back_off_seconds * 2.0).min(PULL_BACK_OFF_SECONDS_MAX);
                    (Why::PullFailed, PULL_BACK_OFF_SECONDS)
                }
                Why::PullFailed | Why::BackingOff | Why::NoSecret(_) => {
                    starts.push((container.name.clone(), *back_off_seconds));
                    continue;
                }
            };
            *why = next;
            *again_at = now.plus_seconds(seconds);
        }
        for (name, back_off_seconds) in starts {
            if let Some(spec) = list(&pod["spec"]["containers"]).find(|spec| spec["name"] == name) {
                self.start(uid, &pod, spec, back_off_seconds, now);
            }
        }
        self.write_status(uid, store, now);
    }

    fn begin_stop(&mut self, uid: &str, grace_seconds: f64, now: UnixTime) {
        if let Some(run) = self.runs.get_mut(uid) {
            run.stop = Some(Stop { grace_seconds, kill_at: Some(now.plus_seconds(grace_seconds)) });
            self.signal_running(uid, Signal::Term);
        }
    }

    fn signal_running(&mut self, uid: &str, signal: Signal) {
        let Some(run) = self.runs.get(uid) else { return };
        let running = run.containers.iter().filter(|container| matches!(container.state, State::Running { .. }));
        for container in running {
            let id = ContainerId { uid: uid.to_owned(), name: container.name.clone() };
            self.effects.push_back(ContainerEffect::Signal { id, signal });
        }
    }

    /// A pod that is stopped does not wait for containers that never came to be.
    fn end_what_never_ran(&mut self, uid: &str, store: &mut Store, now: UnixTime) {
        let never_started = self.take_back_starts(uid);
        let Some(run) = self.runs.get_mut(uid) else { return };
        let never_ran = |container: &Container| match container.state {
            State::Mounting | State::Waiting { .. } => true,
            State::Creating => never_started.contains(&container.name),
            State::Running { .. } | State::Ended { .. } => false,
        };
        let indices: Vec<usize> = (0..run.containers.len()).filter(|index| never_ran(&run.containers[*index])).collect();
        if indices.is_empty() {
            return;
        }
        if run.is_past_deadline {
            node_status::write_failed(run, uid, &run.key, store, now);
        } else {
            for index in &indices {
                run.containers[*index].state = State::Mounting;
            }
            node_status::write(run, uid, &run.key, store, now);
        }
        for index in indices {
            run.containers[index].state = State::Ended {
                code: CODE_UNKNOWN,
                reason: "ContainerStatusUnknown",
                message: "The container could not be located when the pod was terminated".to_owned(),
                started_at: None,
                finished_at: None,
            };
        }
        self.end_of_pod(uid, store, now);
    }

    /// A pod object is gone, and its containers may run on for a moment.
    fn abandon(&mut self, uid: &str, run: Run) {
        let never_started = self.take_back_starts(uid);
        for container in run.containers {
            let id = ContainerId { uid: uid.to_owned(), name: container.name };
            match container.state {
                State::Running { .. } => {
                    self.effects.push_back(ContainerEffect::Signal { id: id.clone(), signal: Signal::Kill });
                    self.orphans.insert(id);
                }
                State::Creating if !never_started.contains(&id.name) => {
                    self.orphans.insert(id);
                }
                State::Mounting | State::Creating | State::Waiting { .. } | State::Ended { .. } => {}
            }
        }
    }

    /// The names of the pod's containers that nobody was asked to start yet, and now will not be.
    fn take_back_starts(&mut self, uid: &str) -> BTreeSet<String> {
        let mut names = BTreeSet::new();
        self.effects.retain(|effect| match effect {
            ContainerEffect::Start(start) if start.id.uid == uid => !names.insert(start.id.name.clone()),
            ContainerEffect::Start(_) | ContainerEffect::Signal { .. } => true,
        });
        names
    }

    /// Once all containers have ended.
    fn end_of_pod(&mut self, uid: &str, store: &mut Store, now: UnixTime) {
        let Some(run) = self.runs.get_mut(uid) else { return };
        if !run.all_ended() {
            return;
        }
        if let Some(stop) = &mut run.stop {
            stop.kill_at = None;
        }
        node_status::write_final(run, uid, &run.key, store, now);
        let Some(pod) = store.get(&run.key) else { return };
        if pod["metadata"].get("deletionTimestamp").is_some() {
            let key = run.key.clone();
            super::finish_deletion(store, &key, now);
        }
    }

    fn write_status(&mut self, uid: &str, store: &mut Store, now: UnixTime) {
        if let Some(run) = self.runs.get(uid) {
            node_status::write(run, uid, &run.key, store, now);
        }
    }
}

/// When the pod has been on the node for too long. None where that does not matter any more.
fn deadline(run: &Run, store: &Store) -> Option<UnixTime> {
    if run.stop.is_some() || run.all_ended() {
        return None;
    }
    let seconds = store.get(&run.key)?["spec"]["activeDeadlineSeconds"].as_f64()?;
    Some(run.started_at.plus_seconds(seconds))
}
