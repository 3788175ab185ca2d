//! What a watch has to say next. Pure: the caller holds the [`Watch`] and asks the cluster.
//!
//! <https://kubernetes.io/docs/reference/using-api/api-concepts/#efficient-detection-of-changes>

use std::collections::VecDeque;

use mso::clock::UnixTime;
use serde_json::{Value, json};

use super::selector::Selector;
use super::status::Status;
use super::store::{Change, Resource, Store};

/// A real API server: "about each minute".
const BOOKMARK_SECONDS: f64 = 60.0;

/// A watch that runs. Nothing of it is in the cluster: one that is given up is dropped.
#[derive(Clone, Debug)]
pub struct Watch {
    pub(super) resource: Resource,
    /// None is all.
    pub(super) namespace: Option<String>,
    pub(super) selector: Selector,
    /// What happened up to here was said.
    pub(super) version: u64,
    /// What is said before anything that happens.
    pub(super) first: VecDeque<Value>,
    pub(super) ends_at: UnixTime,
    /// None: not asked for.
    pub(super) bookmark_at: Option<UnixTime>,
    pub(super) has_ended: bool,
}

#[derive(Clone, Debug, PartialEq)]
pub enum WatchStep {
    /// `{"type": …, "object": …}`
    Event(Value),
    /// Nothing now. Ask again when something happened in the cluster, and at this time.
    Wait(UnixTime),
    /// The server ends the watch.
    End,
}

impl Watch {
    /// One that says only that its version is too old.
    pub(super) fn refused(mut self, status: &Status) -> Self {
        self.first = VecDeque::from([event("ERROR", status.to_json())]);
        self.has_ended = true;
        self
    }

    pub(super) fn next(&mut self, store: &Store, now: UnixTime) -> WatchStep {
        if let Some(first) = self.first.pop_front() {
            return WatchStep::Event(first);
        }
        if self.has_ended || self.version < store.compacted() {
            // A watch that is far behind is ended as well; the next one is told that its version is too old.
            return WatchStep::End;
        }
        for change in store.changes_after(self.version) {
            self.version = change.version;
            if let Some(event) = self.event_of(change) {
                return WatchStep::Event(event);
            }
        }
        if now >= self.ends_at {
            return WatchStep::End;
        }
        // One from the future stays there.
        self.version = self.version.max(store.version());
        match &mut self.bookmark_at {
            Some(at) if *at <= now => {
                *at = now.plus_seconds(BOOKMARK_SECONDS);
                WatchStep::Event(bookmark(self.resource, store.version()))
            }
            Some(at) => WatchStep::Wait(if *at < self.ends_at { *at } else { self.ends_at }),
            None => WatchStep::Wait(self.ends_at),
        }
    }

    /// An object that leaves the selector is deleted for those who watch, and one that enters is added.
    fn event_of(&self, change: &Change) -> Option<Value> {
        if change.key.resource != self.resource || self.namespace.as_ref().is_some_and(|namespace| *namespace != change.key.namespace) {
            return None;
        }
        let matches = |object: &Value| self.selector.matches(&object["metadata"]["labels"]);
        let was = change.before.as_deref().filter(|before| matches(before));
        let is = !change.is_deletion && matches(&change.object);
        match (was, is) {
            (None, false) => None,
            (None, true) => Some(event("ADDED", Value::clone(&change.object))),
            (Some(_), true) => Some(event("MODIFIED", Value::clone(&change.object))),
            (Some(_), false) if change.is_deletion => Some(event("DELETED", Value::clone(&change.object))),
            (Some(before), false) => {
                let mut gone = before.clone();
                gone["metadata"]["resourceVersion"] = change.version.to_string().into();
                Some(event("DELETED", gone))
            }
        }
    }
}

pub(super) fn first_bookmark(now: UnixTime) -> UnixTime {
    now.plus_seconds(BOOKMARK_SECONDS)
}

pub(super) fn event(r#type: &str, object: Value) -> Value {
    json!({"type": r#type, "object": object})
}

fn bookmark(resource: Resource, version: u64) -> Value {
    let mut object = json!({"kind": resource.kind(), "apiVersion": "v1", "metadata": {"resourceVersion": version.to_string()}});
    match resource {
        Resource::ConfigMaps => {}
        Resource::Pods => {
            object["spec"] = json!({"containers": null});
            object["status"] = json!({});
        }
    }
    event("BOOKMARK", object)
}
