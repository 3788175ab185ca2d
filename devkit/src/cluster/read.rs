//! What is asked and changes nothing: lists, watches and logs.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use mso::clock::UnixTime;
use serde_json::{Value, json};

use super::container::{State, Why};
use super::request::{Target, continue_token, parse_continue, parse_version};
use super::status::{Cause, Status};
use super::store::{Key, Resource};
use super::{Answer, Cluster, Content, Reply, Watch, object, watch};

/// How long a watch lasts that does not say: a real one chooses between this and twice as long.
const WATCH_SECONDS: f64 = 1800.0;

impl Cluster {
    pub(super) fn list(&self, resource: Resource, namespace: Option<&str>, target: &Target) -> Result<Answer, Status> {
        let selector = target.selector()?;
        let limit: i64 = target.number("limit")?.unwrap_or(0);
        let next = target.query("continue").unwrap_or_default();
        let (version, after) = if next.is_empty() {
            (self.list_version(target)?, None)
        } else {
            if !matches!(target.query("resourceVersion"), None | Some("")) {
                return Err(Status::bad_request("specifying resource version is not allowed when using continue"));
            }
            let (version, after) = parse_continue(next, resource)
                .ok_or_else(|| Status::bad_request("invalid continue token: continue key is not valid: it was not made by this server"))?;
            let version = version.unwrap_or_else(|| self.store.version());
            if version < self.store.compacted() {
                return Err(Status::expired_continue(continue_token(None, &after)));
            }
            (version, Some(after))
        };
        let objects: BTreeMap<Key, Arc<Value>> = self.store.list_at(version, resource, namespace);
        let is_next = |key: &Key| after.as_ref().is_none_or(|after| key > after);
        let mut selected =
            objects.iter().filter(|(key, object)| is_next(key) && selector.matches(&object["metadata"]["labels"])).peekable();
        let mut items = Vec::new();
        let mut metadata = json!({"resourceVersion": version.to_string()});
        while let Some((key, object)) = selected.next() {
            let mut item = Value::clone(object);
            if let Value::Object(fields) = &mut item {
                fields.remove("kind");
                fields.remove("apiVersion");
            }
            items.push(item);
            if limit > 0 && items.len() as i64 == limit && selected.peek().is_some() {
                metadata["continue"] = continue_token(Some(version), key).into();
                if selector.is_empty() {
                    metadata["remainingItemCount"] = selected.count().into();
                }
                break;
            }
        }
        let kind = format!("{}List", resource.kind());
        Ok(Answer::json(200, json!({"kind": kind, "apiVersion": "v1", "metadata": metadata, "items": items})))
    }

    /// The state that a list is of: the most recent one, or exactly an older one.
    fn list_version(&self, target: &Target) -> Result<u64, Status> {
        const FIELD: &str = "resourceVersionMatch";
        let invalid = |cause: Cause| Status::invalid("ListOptions.meta.k8s.io", "", &[cause]);
        let r#match = target.query(FIELD).unwrap_or_default();
        let asked = target.query("resourceVersion").unwrap_or_default();
        let current = self.store.version();
        if !r#match.is_empty() && asked.is_empty() {
            return Err(invalid(Cause::forbidden(FIELD, "resourceVersionMatch is forbidden unless resourceVersion is provided")));
        }
        if !matches!(r#match, "" | "Exact" | "NotOlderThan") {
            return Err(invalid(Cause::unsupported(FIELD, &r#match.into(), &["Exact", "NotOlderThan", ""])));
        }
        if r#match == "Exact" && asked == "0" {
            return Err(invalid(Cause::forbidden(FIELD, "resourceVersionMatch \"exact\" is forbidden for resourceVersion \"0\"")));
        }
        if asked.is_empty() {
            return Ok(current);
        }
        let version = parse_version(asked).map_err(|problem| Status::bad_request(format!("invalid resource version: {problem}")))?;
        if version > current {
            return Err(Status::too_large_version(version, current));
        }
        if r#match == "Exact" && version < self.store.compacted() {
            let message = "The resourceVersion for the provided list is too old.";
            return Err(Status::new(410, "Expired", message));
        }
        Ok(if r#match == "Exact" { version } else { current })
    }

    pub(super) fn watch(&self, resource: Resource, namespace: Option<&str>, target: &Target, now: UnixTime) -> Result<Reply, Status> {
        const FIELD: &str = "resourceVersionMatch";
        let selector = target.selector()?;
        let r#match = target.query(FIELD).unwrap_or_default();
        let mut causes = Vec::new();
        if !r#match.is_empty() {
            causes.push(Cause::forbidden(FIELD, "resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided"));
        }
        if !matches!(r#match, "" | "NotOlderThan") {
            causes.push(Cause::unsupported(FIELD, &r#match.into(), &["NotOlderThan"]));
        }
        if !causes.is_empty() {
            return Err(Status::invalid("ListOptions.meta.k8s.io", "", &causes));
        }
        let asked = match target.query("resourceVersion").unwrap_or_default() {
            "" => 0,
            text => parse_version(text).map_err(|problem| Status::new(500, "", problem))?,
        };
        let seconds = target.number("timeoutSeconds")?.map_or(WATCH_SECONDS, |seconds: u32| f64::from(seconds));
        let has_bookmarks = target.flag("allowWatchBookmarks");
        let sends_state = asked == 0;
        let mut watch = Watch {
            resource,
            namespace: namespace.map(str::to_owned),
            selector,
            version: if sends_state { self.store.version() } else { asked },
            first: VecDeque::new(),
            ends_at: now.plus_seconds(seconds),
            bookmark_at: has_bookmarks.then(|| watch::first_bookmark(now)),
            has_ended: false,
        };
        if sends_state {
            let objects = self.store.list(resource, namespace).map(|(_, object)| object);
            let selected = objects.filter(|object| watch.selector.matches(&object["metadata"]["labels"]));
            watch.first = selected.map(|object| watch::event("ADDED", Value::clone(object))).collect();
        } else if asked < self.store.compacted() {
            watch = watch.refused(&Status::expired(asked, self.store.compacted()));
        }
        Ok(Reply::Watch(Box::new(watch)))
    }

    /// <https://kubernetes.io/docs/reference/kubernetes-api/workload-resources/pod-v1/#get-read-log-of-the-specified-pod>
    pub(super) fn log(&self, key: &Key, target: &Target) -> Result<Answer, Status> {
        let pod = self.find(key)?;
        let lines: Option<i64> = target.number("tailLines")?;
        if lines.is_some_and(|lines| lines < 0) {
            let cause = Cause::invalid("tailLines", &lines.into(), "must be greater than or equal to 0");
            return Err(Status::invalid("PodLogOptions", &key.name, &[cause]));
        }
        let names: Vec<&str> = object::list(&pod["spec"]["containers"]).map(|container| object::text(&container["name"])).collect();
        let name = match (target.query("container").unwrap_or_default(), names.as_slice()) {
            ("", [only]) => *only,
            ("", _) => {
                let choice = names.join(" ");
                let message = format!("a container name must be specified for pod {}, choose one of: [{choice}]", key.name);
                return Err(Status::bad_request(message));
            }
            (name, names) if names.contains(&name) => name,
            (name, _) => return Err(Status::bad_request(format!("container {name} is not valid for pod {}", key.name))),
        };
        if pod["spec"].get("nodeName").is_none() {
            return Ok(Answer { code: 204, body: Content::None, warnings: Vec::new(), retry_after_seconds: None });
        }
        if target.flag("previous") {
            return Err(Status::bad_request(format!("previous terminated container {name:?} in pod {:?} not found", key.name)));
        }
        let refuse = |why: &str| Err(Status::bad_request(format!("container {name:?} in pod {:?} is {why}", key.name)));
        let run = self.node.runs.get(object::text(&pod["metadata"]["uid"]));
        let Some(container) = run.and_then(|run| run.containers.iter().find(|container| container.name == name)) else {
            return refuse("not available");
        };
        match &container.state {
            State::Mounting | State::Creating => refuse("waiting to start: ContainerCreating"),
            State::Waiting { why: Why::PullFailed, .. } => refuse("waiting to start: image can't be pulled"),
            State::Waiting { why: Why::BackingOff, .. } => refuse("waiting to start: trying and failing to pull image"),
            State::Waiting { why, .. } => refuse(&format!("waiting to start: {}", why.reason())),
            State::Ended { started_at: None, .. } => refuse("terminated"),
            State::Running { .. } | State::Ended { .. } => {
                let log = container.log_tail(lines.and_then(|lines| usize::try_from(lines).ok()));
                Ok(Answer { code: 200, body: Content::Text(log.to_vec()), warnings: Vec::new(), retry_after_seconds: None })
            }
        }
    }
}
