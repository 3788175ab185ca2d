//! All objects, the version of each, and what happened to them of late: what etcd and the watch cache are in a real cluster.
//! It knows nothing of what is in an object but its `metadata`. Pure: time is passed in.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use mso::clock::UnixTime;
use serde_json::Value;

/// A kind of object, with the words that the API has for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Resource {
    ConfigMaps,
    Pods,
}

impl Resource {
    pub(super) const ALL: [Self; 2] = [Self::ConfigMaps, Self::Pods];

    /// As in a path.
    pub(super) fn plural(self) -> &'static str {
        match self {
            Self::ConfigMaps => "configmaps",
            Self::Pods => "pods",
        }
    }

    pub(super) fn kind(self) -> &'static str {
        match self {
            Self::ConfigMaps => "ConfigMap",
            Self::Pods => "Pod",
        }
    }
}

/// Lists are in this order, as in etcd.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Key {
    pub(super) resource: Resource,
    pub(super) namespace: String,
    pub(super) name: String,
}

/// One write.
#[derive(Debug)]
pub(super) struct Change {
    pub(super) version: u64,
    pub(super) key: Key,
    /// None where the object was created.
    pub(super) before: Option<Arc<Value>>,
    /// Of this version. Of a deletion: as it last was.
    pub(super) object: Arc<Value>,
    pub(super) is_deletion: bool,
    at: UnixTime,
}

/// A real API server has etcd forget what is older: its `--etcd-compaction-interval`.
const HISTORY_SECONDS: f64 = 300.0;

/// Some hundred MB at the most, whatever happens within that time.
const HISTORY_CHANGES_MAX: usize = 100_000;

/// As of a cluster that has run for a while, so that a version of before is too old here as well.
const FIRST_VERSION: u64 = 1_000;

#[derive(Debug)]
pub(super) struct Store {
    /// Of the last write.
    version: u64,
    objects: BTreeMap<Key, Arc<Value>>,
    /// With a version after `compacted`, in order.
    changes: VecDeque<Change>,
    compacted: u64,
}

impl Store {
    pub(super) fn new() -> Self {
        Self { version: FIRST_VERSION, objects: BTreeMap::new(), changes: VecDeque::new(), compacted: FIRST_VERSION }
    }

    pub(super) fn version(&self) -> u64 {
        self.version
    }

    /// What happened up to this version is forgotten.
    pub(super) fn compacted(&self) -> u64 {
        self.compacted
    }

    pub(super) fn get(&self, key: &Key) -> Option<&Arc<Value>> {
        self.objects.get(key)
    }

    /// In the order of their names. `namespace`: none is all.
    pub(super) fn list<'a>(&'a self, resource: Resource, namespace: Option<&'a str>) -> impl Iterator<Item = (&'a Key, &'a Arc<Value>)> {
        let from = Key { resource, namespace: namespace.unwrap_or_default().to_owned(), name: String::new() };
        let is_in = move |key: &Key| key.resource == resource && namespace.is_none_or(|namespace| namespace == key.namespace);
        self.objects.range(from..).take_while(move |(key, _)| is_in(key))
    }

    /// The same as they were at a version that is not forgotten.
    pub(super) fn list_at(&self, version: u64, resource: Resource, namespace: Option<&str>) -> BTreeMap<Key, Arc<Value>> {
        let mut objects: BTreeMap<Key, Arc<Value>> =
            self.list(resource, namespace).map(|(key, object)| (key.clone(), object.clone())).collect();
        let is_in = |key: &Key| key.resource == resource && namespace.is_none_or(|namespace| namespace == key.namespace);
        for change in self.changes_after(version).rev().filter(|change| is_in(&change.key)) {
            match &change.before {
                Some(before) => objects.insert(change.key.clone(), before.clone()),
                None => objects.remove(&change.key),
            };
        }
        objects
    }

    pub(super) fn changes_after(&self, version: u64) -> impl DoubleEndedIterator<Item = &Change> {
        let first = self.changes.partition_point(|change| change.version <= version);
        self.changes.range(first..)
    }

    /// Creates or replaces it; where nothing is different, nothing is written. The object as it is now.
    pub(super) fn put(&mut self, key: Key, mut object: Value, now: UnixTime) -> Arc<Value> {
        let before = self.objects.get(&key).cloned();
        if let Some(before) = &before {
            object["metadata"]["resourceVersion"] = before["metadata"]["resourceVersion"].clone();
            if **before == object {
                return before.clone();
            }
        }
        let object = self.with_next_version(object);
        self.objects.insert(key.clone(), object.clone());
        self.record(Change { version: self.version, key, before, object: object.clone(), is_deletion: false, at: now });
        object
    }

    /// `object` is how it last was. As it was deleted.
    pub(super) fn delete(&mut self, key: &Key, object: Value, now: UnixTime) -> Arc<Value> {
        let before = self.objects.remove(key);
        let object = self.with_next_version(object);
        self.record(Change { version: self.version, key: key.clone(), before, object: object.clone(), is_deletion: true, at: now });
        object
    }

    /// Forgets all that happened.
    pub(super) fn compact(&mut self) {
        self.compacted = self.version;
        self.changes.clear();
    }

    fn with_next_version(&mut self, mut object: Value) -> Arc<Value> {
        self.version += 1;
        object["metadata"]["resourceVersion"] = self.version.to_string().into();
        Arc::new(object)
    }

    fn record(&mut self, change: Change) {
        let now = change.at;
        self.changes.push_back(change);
        while let Some(oldest) = self.changes.front()
            && (self.changes.len() > HISTORY_CHANGES_MAX || now.seconds_since(oldest.at) > HISTORY_SECONDS)
        {
            self.compacted = oldest.version;
            self.changes.pop_front();
        }
    }
}
