//! A simulated Kubernetes cluster with one node: the part of the API server, the scheduler and the kubelet that mso and its tests see.
//!
//! [`Cluster`] is a state machine: a request and the time in, an [`Answer`] or a [`Watch`] out. It does no I/O, has no thread, reads no
//! clock and draws no random number: the same requests at the same times give the same answers, byte for byte. Called directly it runs in
//! simulated time; [`Server`] puts it behind HTTPS, with local processes as its containers.
//!
//! # How it differs from a real one
//!
//! What is here answers as a real API server does (compared with 1.34, field by field, in tests/cluster.rs). What is not:
//!
//! - **Pods share this machine**: its files, its network (two models that listen on one port clash), the user and the `PATH` of the program
//!   that holds the cluster. Nothing is mounted in them, no working directory is set, and they have no `KUBERNETES_*` variables.
//! - **A container** is a process and what that starts, for as long as the process runs: then all of it is killed. SIGTERM reaches all of
//!   it, and not the first process alone. What leaves the process group (`setsid`) is out of reach, and so is everything once the program
//!   that holds the cluster is killed or interrupted itself. A container is never started again, whatever its `restartPolicy`.
//! - **No effect** have `imagePullPolicy`, pull secrets, `resources`, probes, lifecycle hooks, init containers, security contexts and
//!   `envFrom`. A variable `valueFrom` anything but a secret is empty.
//! - **Secrets** there are none: what needs one waits for it, as with a real one that lacks it.
//! - **RBAC** there is none: each accepted token may do everything. Quotas and such are played by a [`Fault`].
//! - **ConfigMaps** are kept, and nothing else: no pod can mount one or take its variables from one, `binaryData` is taken as it is, and
//!   `kube-root-ca.crt`, which each namespace has in a real cluster, is not there.
//! - **No object is too large** that comes in a request within [`BODY_BYTES_MAX`] and keeps its own limits. A real one's etcd refuses what
//!   is over 1.5 MiB with a 500; a ConfigMap can be that by its keys, as its limit counts the values alone.
//! - **A page** is the last one where nothing follows that is selected. A real one may promise another then, which is empty.
//! - **Of the API** there are pods, their logs and ConfigMaps, and nothing else: no namespaces (see [`Server::create_namespace`]), events,
//!   `exec`. No PUT, no DELETE of a collection, no `generateName`, no watch with `sendInitialEvents`, no strategic merge patches and
//!   server-side apply, no field selectors; JSON only. `propagationPolicy` has no effect, and no patch changes `kind` or `apiVersion`.

mod configmap;
mod container;
mod dates;
mod names;
mod node;
mod node_status;
mod object;
mod pod;
mod read;
mod request;
mod schema;
mod selector;
mod status;
mod store;
mod watch;

mod connection;
mod process;
mod server;

use std::collections::BTreeSet;
use std::sync::Arc;

use mso::clock::UnixTime;
use serde_json::{Value, json};

pub use container::{ContainerEffect, ContainerId, ContainerStart, Signal};
pub use process::{Image, Images};
pub use request::Request;
pub use server::{CA_FILE, Server};
pub use status::Status;
pub use watch::{Watch, WatchStep};

use node::Node;
use request::{Path, Target, delete_options, json_problem, parse_object, verb};
use store::{Key, Resource, Store};

/// A real API server's limit of a request's body.
pub const BODY_BYTES_MAX: usize = 3 * 1024 * 1024;

#[derive(Clone, Debug)]
pub enum Reply {
    Answer(Answer),
    /// It is answered with 200 and then with what [`Cluster::poll_watch`] says.
    Watch(Box<Watch>),
    /// The request was done, or not, and its answer is lost: see [`Fault`].
    Lost,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Answer {
    /// The HTTP status code.
    pub code: u16,
    pub body: Content,
    /// For headers `Warning`, without their code.
    pub warnings: Vec<String>,
    /// For a header `Retry-After`.
    pub retry_after_seconds: Option<u32>,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Content {
    None,
    Json(Value),
    /// A log.
    Text(Vec<u8>),
}

impl Answer {
    fn json(code: u16, body: Value) -> Self {
        Self { code, body: Content::Json(body), warnings: Vec::new(), retry_after_seconds: None }
    }

    fn refusal(status: &Status) -> Self {
        Self { retry_after_seconds: status.retry_after_seconds, ..Self::json(status.code, status.to_json()) }
    }
}

/// What is done to requests that would be answered otherwise.
#[derive(Clone, Debug)]
pub struct Fault {
    /// As `POST`.
    pub method: &'static str,
    /// Contained in the target of the request; empty is in each.
    pub target: String,
    /// So many requests, at least one, and then no more.
    pub times: u32,
    pub kind: FaultKind,
}

#[derive(Clone, Debug)]
pub enum FaultKind {
    /// It is not done.
    Refuse(Status),
    /// It is not done, and not answered.
    Drop,
    /// It is done, and not answered.
    LoseAnswer,
}

/// See the module.
#[derive(Debug)]
pub struct Cluster {
    store: Store,
    node: Node,
    namespaces: BTreeSet<String>,
    tokens: BTreeSet<String>,
    faults: Vec<Fault>,
    /// Objects so far: what uids are made of.
    created: u64,
}

impl Cluster {
    /// With the namespace `dots`, and a node with the label `type=worker` that can pull these images and no other.
    pub fn new(images: impl IntoIterator<Item = String>) -> Self {
        let store = Store::new();
        let node = Node::new(images.into_iter().collect(), store.version());
        let namespaces = BTreeSet::from(["dots".to_owned()]);
        Self { store, node, namespaces, tokens: BTreeSet::new(), faults: Vec::new(), created: 0 }
    }

    pub fn create_namespace(&mut self, name: &str) {
        self.namespaces.insert(name.to_owned());
    }

    /// Whoever bears it may do everything.
    pub fn accept(&mut self, token: &str) {
        self.tokens.insert(token.to_owned());
    }

    /// From now on it is answered with 401. Watches that run go on, as with a real API server.
    pub fn revoke(&mut self, token: &str) {
        self.tokens.remove(token);
    }

    /// From now on it can be pulled: for whoever plays the containers. A [`Server`] runs the images that it was started with.
    pub fn add_image(&mut self, image: &str) {
        self.node.add_image(image);
    }

    /// Sets a label of the node, or removes it. Pods that find the node by it are bound.
    pub fn label_node(&mut self, key: &str, value: Option<&str>, now: UnixTime) {
        self.node.label(key, value, &mut self.store, now);
    }

    /// One fault beside those that were asked for before. The first that fits a request is done to it.
    pub fn misbehave(&mut self, fault: Fault) {
        self.faults.push(fault);
    }

    /// No fault any more.
    pub fn behave(&mut self) {
        self.faults.clear();
    }

    /// Of those that were asked for, how many have not met all of their requests yet. A test that ends with none has seen what it asked
    /// for.
    pub fn faults_left(&self) -> usize {
        self.faults.len()
    }

    /// Forgets what happened until now: lists cannot go on, and watches cannot begin before.
    pub fn compact(&mut self) {
        self.store.compact();
    }

    /// Answers one request.
    pub fn handle(&mut self, request: &Request<'_>, now: UnixTime) -> Reply {
        let fault = self.take_fault(request);
        match &fault {
            Some(FaultKind::Refuse(status)) => return Reply::Answer(Answer::refusal(status)),
            Some(FaultKind::Drop) => return Reply::Lost,
            Some(FaultKind::LoseAnswer) | None => {}
        }
        let reply = self.reply(request, now).unwrap_or_else(|status| Reply::Answer(Answer::refusal(&status)));
        self.node.settle(&mut self.store, now);
        if fault.is_some() { Reply::Lost } else { reply }
    }

    /// What a watch says next.
    pub fn poll_watch(&self, watch: &mut Watch, now: UnixTime) -> WatchStep {
        watch.next(&self.store, now)
    }

    /// What whoever plays the containers has to do next. Take all of them.
    pub fn poll_effect(&mut self) -> Option<ContainerEffect> {
        self.node.poll_effect()
    }

    /// When to call [`Cluster::handle_timeout`] next. Early or late is harmless.
    pub fn poll_timeout(&self) -> Option<UnixTime> {
        self.node.poll_timeout(&self.store)
    }

    pub fn handle_timeout(&mut self, now: UnixTime) {
        self.node.handle_timeout(&mut self.store, now);
    }

    pub fn container_started(&mut self, id: &ContainerId, now: UnixTime) {
        self.node.container_started(id, &mut self.store, now);
    }

    /// Instead of [`Cluster::container_started`], in the runtime's words.
    pub fn container_failed_to_start(&mut self, id: &ContainerId, message: &str, now: UnixTime) {
        self.node.container_failed_to_start(id, message, &mut self.store, now);
    }

    /// To its log.
    pub fn container_wrote(&mut self, id: &ContainerId, bytes: &[u8]) {
        self.node.container_wrote(id, bytes);
    }

    /// `code` is 128 + n for one that signal n ended.
    pub fn container_ended(&mut self, id: &ContainerId, code: i32, now: UnixTime) {
        self.node.container_ended(id, code, &mut self.store, now);
    }

    fn take_fault(&mut self, request: &Request<'_>) -> Option<FaultKind> {
        let fits = |fault: &Fault| fault.method == request.method && request.target.contains(&fault.target);
        let index = self.faults.iter().position(fits)?;
        let fault = &mut self.faults[index];
        fault.times = fault.times.saturating_sub(1);
        let kind = fault.kind.clone();
        if fault.times == 0 {
            self.faults.remove(index);
        }
        Some(kind)
    }

    fn reply(&mut self, request: &Request<'_>, now: UnixTime) -> Result<Reply, Status> {
        let target = Target::parse(request.target);
        if !request.token.is_empty() && !self.tokens.contains(request.token) {
            return Err(Status::unauthorized());
        }
        let Path { resource, namespace, name, subresource } = target.path().ok_or_else(Status::no_resource)?;
        if request.token.is_empty() {
            return Err(Status::anonymous(verb(request.method, name), resource.plural(), namespace.unwrap_or_default()));
        }
        if request.body.len() > BODY_BYTES_MAX {
            return Err(Status::too_large());
        }
        let key = |name: &str| Key { resource, namespace: namespace.unwrap_or_default().to_owned(), name: name.to_owned() };
        let answer = match (request.method, name, subresource) {
            ("GET", None, None) if target.flag("watch") => return self.watch(resource, namespace, &target, now),
            ("GET", None, None) => self.list(resource, namespace, &target)?,
            ("POST", None, None) if namespace.is_some() => self.create(&key(""), request, &target, now)?,
            ("GET", Some(name), None) => Answer::json(200, Value::clone(self.find(&key(name))?)),
            ("PATCH", Some(name), None) => self.patch(&key(name), request, &target, now)?,
            ("DELETE", Some(name), None) => self.delete(&key(name), request, &target, now)?,
            ("GET", Some(name), Some("log")) if resource == Resource::Pods => self.log(&key(name), &target)?,
            (_, _, Some(_)) => return Err(Status::no_resource()),
            _ => return Err(Status::method_not_allowed()),
        };
        Ok(Reply::Answer(answer))
    }

    fn find(&self, key: &Key) -> Result<&Arc<Value>, Status> {
        self.store.get(key).ok_or_else(|| Status::not_found(key.resource.plural(), &key.name))
    }

    fn create(&mut self, collection: &Key, request: &Request<'_>, target: &Target, now: UnixTime) -> Result<Answer, Status> {
        let kind = collection.resource.kind();
        let sent = parse_object(kind, request)?;
        if !self.namespaces.contains(&collection.namespace) {
            return Err(Status::not_found("namespaces", &collection.namespace));
        }
        let number = self.created + 1;
        let creation = object::Creation {
            namespace: &collection.namespace,
            uid: format!("00000000-0000-4000-8000-{number:012x}"),
            created: dates::rfc3339(now),
            suffix: format!("{:0>5}", number % 100_000),
        };
        let (object, warnings) = match collection.resource {
            Resource::ConfigMaps => configmap::prepare(&sent, &creation, target.validation())?,
            Resource::Pods => pod::prepare(&sent, &creation, target.validation())?,
        };
        let key = Key { name: object::text(&object["metadata"]["name"]).to_owned(), ..collection.clone() };
        if self.store.get(&key).is_some() {
            return Err(Status::already_exists(key.resource.plural(), &key.name));
        }
        self.created = number;
        let created = self.store.put(key, object, now);
        Ok(Answer { warnings, ..Answer::json(201, Value::clone(&created)) })
    }

    fn patch(&mut self, key: &Key, request: &Request<'_>, target: &Target, now: UnixTime) -> Result<Answer, Status> {
        if request.content_type != "application/merge-patch+json" {
            return Err(Status { details: json!({}), ..Status::new(415, "UnsupportedMediaType", "415: Unsupported Media Type") });
        }
        let patch: Value = serde_json::from_slice(request.body)
            .map_err(|error| Status::bad_request(format!("error decoding patch: {}", json_problem(&error))))?;
        let before = self.find(key)?.clone();
        let (object, warnings) = match key.resource {
            Resource::ConfigMaps => configmap::patched(&before, &patch, target.validation())?,
            Resource::Pods => pod::patched(&before, &patch, target.validation())?,
        };
        let waits_for_finalizers = before["metadata"]["deletionGracePeriodSeconds"] == 0;
        let patched = if waits_for_finalizers && object["metadata"].get("finalizers").is_none() {
            // The event shows what was there before the patch.
            self.store.delete(key, Value::clone(&before), now);
            Arc::new(object)
        } else {
            self.store.put(key.clone(), object, now)
        };
        Ok(Answer { warnings, ..Answer::json(200, Value::clone(&patched)) })
    }

    fn delete(&mut self, key: &Key, request: &Request<'_>, target: &Target, now: UnixTime) -> Result<Answer, Status> {
        let options = delete_options(request)?;
        let object = self.find(key)?.clone();
        check_preconditions(key, &object, &options["preconditions"])?;
        let asked =
            options["gracePeriodSeconds"].as_i64().or_else(|| target.query("gracePeriodSeconds").and_then(|text| text.parse().ok()));
        let deleted = match key.resource {
            Resource::ConfigMaps => configmap::delete(key, &object, &mut self.store, now),
            Resource::Pods => Value::clone(&self.delete_pod(key, &object, asked, now)),
        };
        Ok(Answer::json(200, deleted))
    }

    /// With grace where something may run, else at once.
    fn delete_pod(&mut self, key: &Key, pod: &Arc<Value>, asked: Option<i64>, now: UnixTime) -> Arc<Value> {
        let may_run = pod["spec"].get("nodeName").is_some() && !matches!(object::text(&pod["status"]["phase"]), "Succeeded" | "Failed");
        let grace = match asked.unwrap_or_else(|| pod["spec"]["terminationGracePeriodSeconds"].as_i64().unwrap_or(0)) {
            _ if !may_run => 0,
            // One that is below zero counts as one second.
            negative if negative < 0 => 1,
            seconds => seconds,
        };
        let left = pod["metadata"].get("deletionTimestamp").and_then(|_| pod["metadata"]["deletionGracePeriodSeconds"].as_i64());
        // A second delete may leave less time, and never more.
        if left.is_some_and(|left| left == 0 || asked.is_none() || grace >= left) {
            return pod.clone();
        }
        let mut deleted = Value::clone(pod);
        let metadata = &mut deleted["metadata"];
        metadata["deletionTimestamp"] = dates::rfc3339(now.plus_seconds(grace as f64)).into();
        metadata["deletionGracePeriodSeconds"] = grace.into();
        if left.is_none() {
            metadata["generation"] = (metadata["generation"].as_u64().unwrap_or(1) + 1).into();
        }
        let marked = self.store.put(key.clone(), deleted, now);
        if grace == 0 && marked["metadata"].get("finalizers").is_none() {
            return self.store.delete(key, Value::clone(&marked), now);
        }
        marked
    }
}

/// As a kubelet ends a deletion with grace: the object goes, but where finalizers hold it.
fn finish_deletion(store: &mut Store, key: &Key, now: UnixTime) {
    let Some(object) = store.get(key) else { return };
    let mut object = Value::clone(object);
    object["metadata"]["deletionTimestamp"] = dates::rfc3339(now).into();
    object["metadata"]["deletionGracePeriodSeconds"] = 0.into();
    let marked = store.put(key.clone(), object, now);
    if marked["metadata"].get("finalizers").is_none() {
        store.delete(key, Value::clone(&marked), now);
    }
}

/// # Errors
/// 409: it is another object, or another version of it, than was meant.
fn check_preconditions(key: &Key, object: &Value, preconditions: &Value) -> Result<(), Status> {
    let metadata = &object["metadata"];
    let fails = |field: &str| preconditions[field].as_str().filter(|value| metadata[field] != *value);
    let kind = key.resource.kind();
    if let Some(uid) = fails("uid") {
        let actual = object::text(&metadata["uid"]);
        let why = format!(
            "the UID in the precondition ({uid}) does not match the UID in record ({actual}). The object might have been deleted and then recreated"
        );
        return Err(Status::conflict(kind, &key.name, &why));
    }
    if let Some(version) = fails("resourceVersion") {
        let actual = object::text(&metadata["resourceVersion"]);
        let why = format!(
            "the ResourceVersion in the precondition ({version}) does not match the ResourceVersion in record ({actual}). The object might have been modified"
        );
        return Err(Status::conflict(kind, &key.name, &why));
    }
    Ok(())
}
