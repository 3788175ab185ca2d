//! Which ConfigMaps the API server takes, what may change later, and how one goes. Pure.
//!
//! <https://kubernetes.io/docs/reference/kubernetes-api/config-and-storage-resources/config-map-v1/>

use std::sync::Arc;

use mso::clock::UnixTime;
use serde_json::Value;

use super::dates;
use super::names;
use super::object::{self, Creation, add_problems, map, text};
use super::schema::{self, Validation};
use super::status::{Cause, Status};
use super::store::{Key, Resource, Store};

/// Of all values together. A real API server does not count the keys: against these stands the limit of the request.
const DATA_BYTES_MAX: usize = 1024 * 1024;

/// The ConfigMap as it is stored, and what the server warns of.
///
/// # Errors
/// 400 where the types are wrong, 422 where the values are.
pub(super) fn prepare(sent: &Value, creation: &Creation<'_>, validation: Validation) -> Result<(Value, Vec<String>), Status> {
    let (mut config_map, warnings) = object::created(Resource::ConfigMaps, &schema::CONFIG_MAP, sent, creation, validation)?;
    drop_empty_data(&mut config_map);
    let mut causes = Vec::new();
    object::check_metadata(&config_map, &mut causes);
    check_data(&config_map, &mut causes);
    object::refuse_for(&causes, &config_map)?;
    Ok((config_map, warnings))
}

/// The ConfigMap after a merge patch, and what the server warns of.
///
/// # Errors
/// 400, 409 or 422.
pub(super) fn patched(config_map: &Value, patch: &Value, validation: Validation) -> Result<(Value, Vec<String>), Status> {
    let (mut merged, warnings) = object::patched(Resource::ConfigMaps, &schema::CONFIG_MAP, config_map, patch, validation)?;
    drop_empty_data(&mut merged);
    let mut causes = Vec::new();
    object::check_update(config_map, &merged, &mut causes);
    check_immutable(config_map, &merged, &mut causes);
    check_data(&merged, &mut causes);
    object::refuse_for(&causes, config_map)?;
    Ok((merged, warnings))
}

/// Without grace. What it is answered with: the object only where finalizers hold it.
pub(super) fn delete(key: &Key, config_map: &Arc<Value>, store: &mut Store, now: UnixTime) -> Value {
    let metadata = &config_map["metadata"];
    if metadata.get("finalizers").is_none() {
        store.delete(key, Value::clone(config_map), now);
        return Status::deleted(key.resource.plural(), &key.name, text(&metadata["uid"]));
    }
    let mut held = Value::clone(config_map);
    if metadata.get("deletionTimestamp").is_none() {
        held["metadata"]["deletionTimestamp"] = dates::rfc3339(now).into();
        held["metadata"]["deletionGracePeriodSeconds"] = 0.into();
    }
    Value::clone(&store.put(key.clone(), held, now))
}

fn drop_empty_data(config_map: &mut Value) {
    object::drop_empty(object::fields_of(config_map), &["data", "binaryData"]);
}

fn check_data(config_map: &Value, causes: &mut Vec<Cause>) {
    let mut bytes = 0;
    for (key, value) in map(&config_map["data"]) {
        bytes += text(value).len();
        add_problems(&format!("data[{key}]"), &key.as_str().into(), names::config_key_problems(key), causes);
    }
    if bytes > DATA_BYTES_MAX {
        // How a real one writes the path of the whole object.
        causes.push(Cause::too_long("[]", DATA_BYTES_MAX));
    }
}

/// Labels and annotations may change all the same.
fn check_immutable(before: &Value, after: &Value, causes: &mut Vec<Cause>) {
    if before["immutable"] != true {
        return;
    }
    for field in ["immutable", "data", "binaryData"] {
        if before[field] != after[field] {
            causes.push(Cause::forbidden(field, "field is immutable when `immutable` is set"));
        }
    }
}
