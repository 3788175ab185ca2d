//! How the API server refuses: each `Status` that the cluster answers with is made here, in the words of a real one.
//!
//! <https://kubernetes.io/docs/reference/kubernetes-api/common-definitions/status/>

use std::collections::BTreeSet;

use serde_json::{Value, json};

/// A refusal.
#[derive(Clone, Debug, PartialEq)]
pub struct Status {
    /// The HTTP status code.
    pub code: u16,
    /// A word for programs; empty for most of 500.
    pub reason: &'static str,
    pub message: String,
    /// Null where there is nothing more to say.
    pub details: Value,
    /// Where a list goes on; empty for most.
    pub r#continue: String,
    /// The header `Retry-After`.
    pub retry_after_seconds: Option<u32>,
}

impl Status {
    pub fn new(code: u16, reason: &'static str, message: impl Into<String>) -> Self {
        Self { code, reason, message: message.into(), details: Value::Null, r#continue: String::new(), retry_after_seconds: None }
    }

    /// 429, with a time to wait.
    pub fn too_many_requests(retry_after_seconds: u32) -> Self {
        let details = json!({"retryAfterSeconds": retry_after_seconds});
        let status = Self::new(429, "TooManyRequests", "Too many requests, please try again later.");
        Self { details, retry_after_seconds: Some(retry_after_seconds), ..status }
    }

    /// 503, as an API server says it that is not ready yet.
    pub fn unavailable() -> Self {
        Self::new(503, "ServiceUnavailable", "the server is currently unable to handle the request")
    }

    /// As the quota `quota` for `used` pods refuses one more: 403.
    pub fn exceeded_quota(pod: &str, quota: &str, used: usize) -> Self {
        let why = format!("exceeded quota: {quota}, requested: pods=1, used: pods={used}, limited: pods={used}");
        Self::forbidden_object("pods", pod, &why)
    }

    /// 403 for one object.
    pub fn forbidden_object(resource: &str, name: &str, why: &str) -> Self {
        let details = json!({"name": name, "kind": resource});
        Self { details, ..Self::new(403, "Forbidden", format!("{resource} {name:?} is forbidden: {why}")) }
    }

    pub(super) fn bad_request(message: impl Into<String>) -> Self {
        Self::new(400, "BadRequest", message)
    }

    pub(super) fn unauthorized() -> Self {
        Self::new(401, "Unauthorized", "Unauthorized")
    }

    pub(super) fn anonymous(verb: &str, resource: &str, namespace: &str) -> Self {
        let message = format!(
            "{resource} is forbidden: User \"system:anonymous\" cannot {verb} resource \"{resource}\" in API group \"\" in the namespace {namespace:?}"
        );
        Self { details: json!({"kind": resource}), ..Self::new(403, "Forbidden", message) }
    }

    pub(super) fn not_found(resource: &str, name: &str) -> Self {
        let details = json!({"name": name, "kind": resource});
        Self { details, ..Self::new(404, "NotFound", format!("{resource} {name:?} not found")) }
    }

    /// No such path.
    pub(super) fn no_resource() -> Self {
        Self { details: json!({}), ..Self::new(404, "NotFound", "the server could not find the requested resource") }
    }

    pub(super) fn method_not_allowed() -> Self {
        let message = "the server does not allow this method on the requested resource";
        Self { details: json!({}), ..Self::new(405, "MethodNotAllowed", message) }
    }

    pub(super) fn already_exists(resource: &str, name: &str) -> Self {
        let details = json!({"name": name, "kind": resource});
        Self { details, ..Self::new(409, "AlreadyExists", format!("{resource} {name:?} already exists")) }
    }

    /// `of` is the resource for a patch and the kind for a delete, as in a real one's answers.
    pub(super) fn conflict(of: &str, name: &str, why: &str) -> Self {
        let details = json!({"name": name, "kind": of});
        Self { details, ..Self::new(409, "Conflict", format!("Operation cannot be fulfilled on {of} {name:?}: {why}")) }
    }

    /// A resource version that is too old to watch from.
    pub(super) fn expired(version: u64, oldest: u64) -> Self {
        Self::new(410, "Expired", format!("too old resource version: {version} ({oldest})"))
    }

    /// A page that cannot be of the first one's moment any more. `rest` continues the list at the present.
    pub(super) fn expired_continue(rest: String) -> Self {
        let message = "The provided continue parameter is too old to display a consistent list result. You can start a new list without \
            the continue parameter, or use the continue token in this response to retrieve the remainder of the results. Continuing with the \
            provided token results in an inconsistent list - objects that were created, modified, or deleted between the time the first chunk \
            was returned and now may show up in the list.";
        Self { r#continue: rest, ..Self::new(410, "Expired", message) }
    }

    pub(super) fn too_large() -> Self {
        Self::new(413, "RequestEntityTooLarge", format!("Request entity too large: limit is {}", super::BODY_BYTES_MAX))
    }

    pub(super) fn too_large_version(version: u64, current: u64) -> Self {
        let cause = json!({"reason": "ResourceVersionTooLarge", "message": "Too large resource version"});
        let message = format!("Timeout: Too large resource version: {version}, current: {current}");
        Self {
            details: json!({"causes": [cause], "retryAfterSeconds": 1}),
            retry_after_seconds: Some(1),
            ..Self::new(504, "Timeout", message)
        }
    }

    /// 422 with a cause for each field. `kind` is with its group where it has one: `ListOptions.meta.k8s.io`.
    pub(super) fn invalid(kind: &str, name: &str, causes: &[Cause]) -> Self {
        // A real one says each thing once in the message, and as often as it found it in the causes; here it is once in both.
        let mut said = BTreeSet::new();
        let causes: Vec<&Cause> = causes.iter().filter(|cause| said.insert((&cause.field, &cause.message))).collect();
        let texts: Vec<String> = causes.iter().map(|cause| format!("{}: {}", cause.field, cause.message)).collect();
        let all = if let [only] = texts.as_slice() { only.clone() } else { format!("[{}]", texts.join(", ")) };
        let listed: Vec<Value> =
            causes.iter().map(|cause| json!({"reason": cause.reason, "message": cause.message, "field": cause.field})).collect();
        let (short_kind, group) = kind.split_once('.').unwrap_or((kind, ""));
        let mut details = json!({"kind": short_kind, "causes": listed});
        for (key, value) in [("name", name), ("group", group)] {
            if !value.is_empty() {
                details[key] = value.into();
            }
        }
        Self { details, ..Self::new(422, "Invalid", format!("{kind} {name:?} is invalid: {all}")) }
    }

    /// No refusal: what a delete of an object is answered with that has nothing to show any more.
    pub(super) fn deleted(resource: &str, name: &str, uid: &str) -> Value {
        let details = json!({"name": name, "kind": resource, "uid": uid});
        json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "details": details})
    }

    /// As the body of an answer, and as the object of an ERROR event.
    pub fn to_json(&self) -> Value {
        let mut body = json!({
            "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "message": self.message, "code": self.code,
        });
        if !self.reason.is_empty() {
            body["reason"] = self.reason.into();
        }
        if !self.r#continue.is_empty() {
            body["metadata"]["continue"] = self.r#continue.as_str().into();
        }
        if !self.details.is_null() {
            body["details"] = self.details.clone();
        }
        body
    }
}

/// One field that was refused.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Cause {
    reason: &'static str,
    field: String,
    message: String,
}

impl Cause {
    pub(super) fn required(field: impl Into<String>) -> Self {
        Self { reason: "FieldValueRequired", field: field.into(), message: "Required value".to_owned() }
    }

    pub(super) fn required_because(field: impl Into<String>, why: &str) -> Self {
        Self { reason: "FieldValueRequired", field: field.into(), message: format!("Required value: {why}") }
    }

    /// Strings are quoted, all else is written as JSON.
    pub(super) fn invalid(field: impl Into<String>, value: &Value, why: &str) -> Self {
        Self { reason: "FieldValueInvalid", field: field.into(), message: format!("Invalid value: {value}: {why}") }
    }

    pub(super) fn duplicate(field: impl Into<String>, value: &Value) -> Self {
        Self { reason: "FieldValueDuplicate", field: field.into(), message: format!("Duplicate value: {value}") }
    }

    pub(super) fn unsupported(field: impl Into<String>, value: &Value, supported: &[&str]) -> Self {
        let supported: Vec<String> = supported.iter().map(|value| format!("{value:?}")).collect();
        let message = format!("Unsupported value: {value}: supported values: {}", supported.join(", "));
        Self { reason: "FieldValueNotSupported", field: field.into(), message }
    }

    pub(super) fn forbidden(field: impl Into<String>, why: &str) -> Self {
        Self { reason: "FieldValueForbidden", field: field.into(), message: format!("Forbidden: {why}") }
    }

    pub(super) fn too_long(field: impl Into<String>, bytes_max: usize) -> Self {
        Self { reason: "FieldValueTooLong", field: field.into(), message: format!("Too long: may not be more than {bytes_max} bytes") }
    }
}
