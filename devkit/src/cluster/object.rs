//! What is the same for objects of every kind: the metadata that the API server makes and checks, merge patches, and how their JSON is
//! read and written. It knows no kind. Pure.
//!
//! <https://kubernetes.io/docs/reference/kubernetes-api/common-definitions/object-meta/>

use serde_json::{Map, Value, json};

use super::names;
use super::schema::{self, Type, Validation};
use super::status::{Cause, Status};
use super::store::Resource;

/// Of all keys and values together.
const ANNOTATIONS_BYTES_MAX: usize = 256 * 1024;

/// Of the server: what a client sends for them is not kept.
const SERVER_FIELDS: [&str; 6] =
    ["uid", "resourceVersion", "generation", "creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds"];

/// What a new object is made with beside what was sent.
pub(super) struct Creation<'a> {
    pub(super) namespace: &'a str,
    pub(super) uid: String,
    /// RFC 3339.
    pub(super) created: String,
    /// For the name of the token's volume in a pod: five characters.
    pub(super) suffix: String,
}

/// A new object as it was sent, with the server's metadata, and what the server warns of. Nothing but types is checked yet.
///
/// # Errors
/// 400, or 500 where a resource version was sent.
pub(super) fn created(
    resource: Resource,
    r#type: &Type,
    sent: &Value,
    creation: &Creation<'_>,
    validation: Validation,
) -> Result<(Value, Vec<String>), Status> {
    let (mut object, warnings) = schema::decode(resource.kind(), r#type, sent, validation)?;
    let metadata = fields(&mut object, "metadata");
    if !metadata.get("namespace").is_none_or(|namespace| namespace == "" || namespace == creation.namespace) {
        return Err(Status::bad_request("the namespace of the provided object does not match the namespace sent on the request"));
    }
    if !is_empty(metadata.get("resourceVersion")) {
        return Err(Status::new(500, "", "resourceVersion should not be set on objects to be created"));
    }
    for field in SERVER_FIELDS {
        metadata.remove(field);
    }
    metadata.insert("namespace".to_owned(), creation.namespace.into());
    metadata.insert("uid".to_owned(), creation.uid.clone().into());
    metadata.insert("creationTimestamp".to_owned(), creation.created.clone().into());
    drop_empty_metadata(metadata);
    object["apiVersion"] = "v1".into();
    object["kind"] = resource.kind().into();
    Ok((object, warnings))
}

/// The object after a merge patch, and what the server warns of. Nothing but types and the patch's preconditions is checked yet.
///
/// # Errors
/// 400, 409 or 422, or 500 for a resource version that is none.
pub(super) fn patched(
    resource: Resource,
    r#type: &Type,
    before: &Value,
    patch: &Value,
    validation: Validation,
) -> Result<(Value, Vec<String>), Status> {
    let mut merged = before.clone();
    merge(&mut merged, patch);
    let (mut merged, warnings) = schema::decode(resource.kind(), r#type, &merged, validation).map_err(|status| {
        let cause = Cause::invalid("patch", &merged.to_string().into(), &status.message);
        Status::invalid("", "", &[cause])
    })?;
    let metadata = fields(&mut merged, "metadata");
    let name = text(&before["metadata"]["name"]);
    if let Some(other) = metadata.get("name").and_then(Value::as_str).filter(|other| *other != name) {
        return Err(Status::bad_request(format!("the name of the object ({other}) does not match the name on the URL ({name})")));
    }
    if metadata.get("namespace") != before["metadata"].get("namespace") {
        return Err(Status::bad_request("the namespace of the provided object does not match the namespace sent on the request"));
    }
    let version = metadata.get("resourceVersion").map(text).unwrap_or_default();
    // An empty one asks for nothing.
    if !version.is_empty() && version != before["metadata"]["resourceVersion"] {
        if version.parse::<u64>().is_err() {
            return Err(Status::new(500, "", format!("strconv.ParseUint: parsing {version:?}: invalid syntax")));
        }
        let why = "the object has been modified; please apply your changes to the latest version and try again";
        return Err(Status::conflict(resource.plural(), name, why));
    }
    // One that another object was meant by is left for `check_update`.
    let meant_uid = metadata.get("uid").filter(|uid| !is_empty(Some(uid))).cloned();
    for field in SERVER_FIELDS.iter().chain(&["name"]) {
        metadata.remove(*field);
        if let Some(value) = before["metadata"].get(field) {
            metadata.insert((*field).to_owned(), value.clone());
        }
    }
    if let Some(uid) = meant_uid {
        metadata.insert("uid".to_owned(), uid);
    }
    drop_empty_metadata(metadata);
    merged["apiVersion"] = "v1".into();
    merged["kind"] = resource.kind().into();
    Ok((merged, warnings))
}

/// <https://www.rfc-editor.org/rfc/rfc7386>
fn merge(target: &mut Value, patch: &Value) {
    let Value::Object(patch) = patch else {
        *target = patch.clone();
        return;
    };
    if !target.is_object() {
        *target = json!({});
    }
    let Value::Object(target) = target else { return };
    for (key, value) in patch {
        if value.is_null() {
            target.remove(key);
        } else {
            merge(target.entry(key.clone()).or_insert(Value::Null), value);
        }
    }
}

/// Of an object that was changed.
pub(super) fn check_update(before: &Value, after: &Value, causes: &mut Vec<Cause>) {
    if after["metadata"]["uid"] != before["metadata"]["uid"] {
        causes.push(Cause::invalid("metadata.uid", &after["metadata"]["uid"], "field is immutable"));
    }
    check_metadata(after, causes);
}

pub(super) fn check_metadata(object: &Value, causes: &mut Vec<Cause>) {
    let metadata = &object["metadata"];
    let name = &metadata["name"];
    if is_empty(Some(name)) {
        causes.push(Cause::required_because("metadata.name", "name or generateName is required"));
    } else {
        add_problems("metadata.name", name, names::subdomain_problems(text(name)), causes);
    }
    check_labels("metadata.labels", &metadata["labels"], causes);
    let mut annotations_bytes = 0;
    for (key, value) in map(&metadata["annotations"]) {
        annotations_bytes += key.len() + text(value).len();
        add_problems("metadata.annotations", &key.as_str().into(), names::qualified_name_problems(&key.to_lowercase()), causes);
    }
    if annotations_bytes > ANNOTATIONS_BYTES_MAX {
        causes.push(Cause::too_long("metadata.annotations", ANNOTATIONS_BYTES_MAX));
    }
}

pub(super) fn check_labels(field: &str, labels: &Value, causes: &mut Vec<Cause>) {
    for (key, value) in map(labels) {
        add_problems(field, &key.as_str().into(), names::qualified_name_problems(key), causes);
        add_problems(field, value, names::label_value_problems(text(value)), causes);
    }
}

pub(super) fn add_problems(field: &str, value: &Value, problems: Vec<String>, causes: &mut Vec<Cause>) {
    causes.extend(problems.iter().map(|problem| Cause::invalid(field, value, problem)));
}

/// # Errors
/// 422 where there is a cause for it.
pub(super) fn refuse_for(causes: &[Cause], object: &Value) -> Result<(), Status> {
    if causes.is_empty() {
        return Ok(());
    }
    Err(Status::invalid(text(&object["kind"]), text(&object["metadata"]["name"]), causes))
}

fn drop_empty_metadata(metadata: &mut Map<String, Value>) {
    drop_empty(metadata, &["labels", "annotations", "finalizers", "ownerReferences"]);
}

pub(super) fn drop_empty(fields: &mut Map<String, Value>, keys: &[&str]) {
    for key in keys {
        if is_empty(fields.get(*key)) {
            fields.remove(*key);
        }
    }
}

/// Missing, null, or nothing in it.
pub(super) fn is_empty(value: Option<&Value>) -> bool {
    match value {
        None | Some(Value::Null) => true,
        Some(Value::String(text)) => text.is_empty(),
        Some(Value::Array(items)) => items.is_empty(),
        Some(Value::Object(fields)) => fields.is_empty(),
        Some(Value::Bool(_) | Value::Number(_)) => false,
    }
}

/// Of what is below this key.
pub(super) fn fields<'a>(value: &'a mut Value, key: &str) -> &'a mut Map<String, Value> {
    fields_of(&mut value[key])
}

/// Made where they are not there.
pub(super) fn fields_of(value: &mut Value) -> &mut Map<String, Value> {
    if !value.is_object() {
        *value = json!({});
    }
    value.as_object_mut().expect("it was just made one")
}

pub(super) fn map(value: &Value) -> impl Iterator<Item = (&String, &Value)> {
    value.as_object().into_iter().flatten()
}

pub(super) fn list(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

pub(super) fn list_mut(value: Option<&mut Value>) -> impl Iterator<Item = &mut Map<String, Value>> {
    value.and_then(Value::as_array_mut).into_iter().flatten().filter_map(Value::as_object_mut)
}

/// Empty where it is no string.
pub(super) fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}
