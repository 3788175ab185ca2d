//! What becomes of the pods, as the administrator sees it: by a list and a watch of its own, apart from the service's.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use devkit::api::{Api, Lost};
use mso::clock::{self, UnixTime};
use serde_json::Value;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::support::namespace::Namespace;
use crate::support::spawn;

/// Where the API server is away.
const PAUSE: Duration = Duration::from_millis(200);

#[derive(Clone, Debug)]
pub(crate) struct SeenPod {
    pub(crate) simulation: String,
    pub(crate) model: String,
    /// The container's end, as the kubelet told it: its exit code, and when, to a second.
    pub(crate) ended: Option<(i32, UnixTime)>,
    /// When that was first seen: it is being deleted, or gone.
    pub(crate) deleted_at: Option<UnixTime>,
}

/// Looks until it is dropped.
pub(crate) struct Witness {
    /// By uid.
    pods: Arc<Mutex<BTreeMap<String, SeenPod>>>,
    is_over: Arc<AtomicBool>,
}

impl Witness {
    /// Its thread may outlive the test in a watch, and holds nothing of the namespace, which goes when the test is over.
    pub(crate) fn of(namespace: &Namespace) -> Self {
        let witness = Self { pods: Arc::default(), is_over: Arc::default() };
        let (pods, is_over) = (witness.pods.clone(), witness.is_over.clone());
        let (api, path) = (namespace.api().clone(), format!("/api/v1/namespaces/{}/pods", namespace.name));
        spawn("witness", move || {
            while !is_over.load(Ordering::Relaxed) {
                // Nothing is missed by it: it looks again.
                let _ = look(&api, &path, &pods);
                thread::sleep(PAUSE);
            }
        });
        witness
    }

    pub(crate) fn pods(&self) -> BTreeMap<String, SeenPod> {
        self.pods.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Drop for Witness {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Relaxed);
    }
}

/// Until the watch ends.
fn look(api: &Api, path: &str, pods: &Mutex<BTreeMap<String, SeenPod>>) -> Result<(), Lost> {
    let list = api.get(path)?;
    let Some(items) = list.body["items"].as_array() else { return Ok(()) };
    {
        let mut pods = pods.lock().unwrap_or_else(PoisonError::into_inner);
        items.iter().for_each(|pod| see(&mut pods, pod, false));
        let is_listed = |uid: &str| items.iter().any(|pod| pod["metadata"]["uid"] == uid);
        for (_, seen) in pods.iter_mut().filter(|(uid, _)| !is_listed(uid)) {
            seen.deleted_at.get_or_insert(clock::now().unix);
        }
    }
    let version = text(&list.body["metadata"]["resourceVersion"]);
    for event in api.watch(&format!("{path}?watch=true&resourceVersion={version}"))? {
        let Ok(event) = event else { return Ok(()) };
        let is_gone = match event["type"].as_str() {
            Some("ADDED" | "MODIFIED") => false,
            Some("DELETED") => true,
            _ => return Ok(()),
        };
        see(&mut pods.lock().unwrap_or_else(PoisonError::into_inner), &event["object"], is_gone);
    }
    Ok(())
}

fn see(pods: &mut BTreeMap<String, SeenPod>, pod: &Value, is_gone: bool) {
    let label = |name: &str| text(&pod["metadata"]["labels"][name]);
    let seen = pods.entry(text(&pod["metadata"]["uid"])).or_insert_with(|| SeenPod {
        simulation: label("simulation_id"),
        model: label("model_id"),
        ended: None,
        deleted_at: None,
    });
    if seen.ended.is_none() {
        seen.ended = end_of(&pod["status"]["containerStatuses"][0]["state"]["terminated"]);
    }
    if is_gone || !pod["metadata"]["deletionTimestamp"].is_null() {
        seen.deleted_at.get_or_insert(clock::now().unix);
    }
}

fn end_of(terminated: &Value) -> Option<(i32, UnixTime)> {
    let code = i32::try_from(terminated["exitCode"].as_i64()?).ok()?;
    let at = OffsetDateTime::parse(terminated["finishedAt"].as_str()?, &Rfc3339).ok()?;
    Some((code, at.into()))
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}
