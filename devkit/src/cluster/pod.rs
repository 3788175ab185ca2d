//! Which pods the API server takes, what it fills in, and what may change later. Pure.
//!
//! <https://kubernetes.io/docs/reference/kubernetes-api/workload-resources/pod-v1/>

use serde_json::{Map, Value, json};

use super::names;
use super::object::{self, Creation, add_problems, check_labels, is_empty, list, list_mut, text};
use super::schema::{self, Validation};
use super::status::{Cause, Status};
use super::store::Resource;

const GRACE_SECONDS: u64 = 30;

/// The pod as it is stored, and what the server warns of.
///
/// # Errors
/// 400 where the types are wrong, 422 where the values are.
pub(super) fn prepare(sent: &Value, creation: &Creation<'_>, validation: Validation) -> Result<(Value, Vec<String>), Status> {
    let (mut pod, mut warnings) = object::created(Resource::Pods, &schema::POD, sent, creation, validation)?;
    pod["metadata"]["generation"] = 1.into();
    add_defaults(object::fields(&mut pod, "spec"));
    pod["status"] = json!({"phase": "Pending", "qosClass": qos_class(&pod["spec"])});
    let mut causes = Vec::new();
    object::check_metadata(&pod, &mut causes);
    check_spec(&pod["spec"], &mut causes);
    object::refuse_for(&causes, &pod)?;
    if pod["spec"]["automountServiceAccountToken"] != false {
        mount_token(&mut pod["spec"], &creation.suffix);
    }
    warnings.extend(hidden_variables(&pod["spec"]));
    Ok((pod, warnings))
}

/// The pod after a merge patch, and what the server warns of.
///
/// # Errors
/// 400, 409 or 422.
pub(super) fn patched(pod: &Value, patch: &Value, validation: Validation) -> Result<(Value, Vec<String>), Status> {
    let (mut merged, warnings) = object::patched(Resource::Pods, &schema::POD, pod, patch, validation)?;
    merged["status"] = pod["status"].clone();
    let mut causes = Vec::new();
    object::check_update(pod, &merged, &mut causes);
    check_spec_update(&pod["spec"], &merged["spec"], &mut causes);
    object::refuse_for(&causes, pod)?;
    if merged["spec"] != pod["spec"] {
        merged["metadata"]["generation"] = (pod["metadata"]["generation"].as_u64().unwrap_or(1) + 1).into();
    }
    Ok((merged, warnings))
}

fn add_defaults(spec: &mut Map<String, Value>) {
    let mut default = |key: &str, value: Value| {
        spec.entry(key.to_owned()).or_insert(value);
    };
    let tolerates = |key: &str| json!({"key": key, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 300});
    default("restartPolicy", "Always".into());
    default("terminationGracePeriodSeconds", GRACE_SECONDS.into());
    default("dnsPolicy", "ClusterFirst".into());
    default("serviceAccountName", "default".into());
    default("securityContext", json!({}));
    default("schedulerName", "default-scheduler".into());
    default("tolerations", json!([tolerates("node.kubernetes.io/not-ready"), tolerates("node.kubernetes.io/unreachable")]));
    default("priority", 0.into());
    default("enableServiceLinks", true.into());
    default("preemptionPolicy", "PreemptLowerPriority".into());
    let account = spec["serviceAccountName"].clone();
    spec.insert("serviceAccount".to_owned(), account);
    // One that is below zero counts as one second.
    if spec["terminationGracePeriodSeconds"].as_i64().is_some_and(|seconds| seconds < 0) {
        spec.insert("terminationGracePeriodSeconds".to_owned(), 1.into());
    }
    for volume in list_mut(spec.get_mut("volumes")) {
        if let Some(secret) = volume.get_mut("secret").and_then(Value::as_object_mut) {
            secret.entry("defaultMode").or_insert_with(|| 0o644.into());
        }
    }
    for container in list_mut(spec.get_mut("containers")) {
        add_container_defaults(container);
    }
}

fn add_container_defaults(container: &mut Map<String, Value>) {
    // What is latest may change.
    let image = container.get("image").and_then(Value::as_str).unwrap_or_default();
    let name = image.rsplit('/').next().unwrap_or_default();
    let is_latest = !name.contains('@') && name.split_once(':').is_none_or(|(_, tag)| tag == "latest");
    let pull_policy = if is_latest { "Always" } else { "IfNotPresent" };
    container.entry("imagePullPolicy").or_insert_with(|| pull_policy.into());
    container.entry("resources").or_insert_with(|| json!({}));
    container.entry("terminationMessagePath").or_insert_with(|| "/dev/termination-log".into());
    container.entry("terminationMessagePolicy").or_insert_with(|| "File".into());
    for variable in list_mut(container.get_mut("env")) {
        if is_empty(variable.get("value")) {
            variable.remove("value");
        }
    }
    if container.get("env").and_then(Value::as_array).is_some_and(Vec::is_empty) {
        container.remove("env");
    }
}

/// As the admission plugin for service accounts does.
fn mount_token(spec: &mut Value, suffix: &str) {
    let name = format!("kube-api-access-{suffix}");
    let volume = json!({"name": name, "projected": {"defaultMode": 0o644, "sources": [
        {"serviceAccountToken": {"expirationSeconds": 3607, "path": "token"}},
        {"configMap": {"name": "kube-root-ca.crt", "items": [{"key": "ca.crt", "path": "ca.crt"}]}},
        {"downwardAPI": {"items": [{"path": "namespace", "fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.namespace"}}]}},
    ]}});
    let mount = json!({"name": name, "readOnly": true, "mountPath": "/var/run/secrets/kubernetes.io/serviceaccount"});
    let push = |list: &mut Value, item: Value| match list {
        Value::Array(items) => items.push(item),
        _ => *list = json!([item]),
    };
    push(&mut spec["volumes"], volume);
    for container in spec["containers"].as_array_mut().into_iter().flatten() {
        push(&mut container["volumeMounts"], mount.clone());
    }
}

fn qos_class(spec: &Value) -> &'static str {
    let containers = || list(&spec["containers"]);
    let is_bare = |container: &Value| is_empty(container["resources"].get("limits")) && is_empty(container["resources"].get("requests"));
    let is_guaranteed = |container: &Value| {
        let (limits, requests) = (&container["resources"]["limits"], &container["resources"]["requests"]);
        ["cpu", "memory"].iter().all(|key| limits.get(key).is_some() && requests.get(key).is_none_or(|request| *request == limits[key]))
    };
    if containers().all(is_bare) {
        "BestEffort"
    } else if containers().all(is_guaranteed) {
        "Guaranteed"
    } else {
        "Burstable"
    }
}

fn check_spec(spec: &Value, causes: &mut Vec<Cause>) {
    if list(&spec["containers"]).next().is_none() {
        causes.push(Cause::required("spec.containers"));
    }
    let mut seen = Vec::new();
    for (index, container) in list(&spec["containers"]).enumerate() {
        let field = format!("spec.containers[{index}]");
        check_container(&field, container, causes);
        let name = text(&container["name"]);
        if !name.is_empty() && seen.contains(&name) {
            causes.push(Cause::duplicate(format!("{field}.name"), &container["name"]));
        }
        seen.push(name);
    }
    check_choice("spec.restartPolicy", &spec["restartPolicy"], &["Always", "OnFailure", "Never"], causes);
    check_deadline(&spec["activeDeadlineSeconds"], causes);
    check_labels("spec.nodeSelector", &spec["nodeSelector"], causes);
}

fn check_container(field: &str, container: &Value, causes: &mut Vec<Cause>) {
    let name = &container["name"];
    if is_empty(Some(name)) {
        causes.push(Cause::required(format!("{field}.name")));
    } else {
        add_problems(&format!("{field}.name"), name, names::dns_label_problems(text(name)), causes);
    }
    let image = text(&container["image"]);
    if image.is_empty() {
        causes.push(Cause::required(format!("{field}.image")));
    } else if image.trim() != image {
        causes.push(Cause::invalid(format!("{field}.image"), &container["image"], "must not have leading or trailing whitespace"));
    }
    let policies = ["File", "FallbackToLogsOnError"];
    check_choice(&format!("{field}.terminationMessagePolicy"), &container["terminationMessagePolicy"], &policies, causes);
    for (index, variable) in list(&container["env"]).enumerate() {
        let field = format!("{field}.env[{index}].name");
        let name = &variable["name"];
        if is_empty(Some(name)) {
            causes.push(Cause::required(field));
        } else {
            add_problems(&field, name, names::variable_name_problems(text(name)), causes);
        }
    }
    let policies = ["Always", "IfNotPresent", "Never"];
    check_choice(&format!("{field}.imagePullPolicy"), &container["imagePullPolicy"], &policies, causes);
}

fn check_choice(field: &str, value: &Value, choices: &[&str], causes: &mut Vec<Cause>) {
    if !choices.contains(&text(value)) {
        causes.push(Cause::unsupported(field, value, choices));
    }
}

fn check_deadline(seconds: &Value, causes: &mut Vec<Cause>) {
    if !seconds.is_null() && !seconds.as_i64().is_some_and(|seconds| (1..=i64::from(i32::MAX)).contains(&seconds)) {
        causes.push(Cause::invalid("spec.activeDeadlineSeconds", seconds, "must be between 1 and 2147483647, inclusive"));
    }
}

/// Of what a pod is, its deadline alone may change, and only to an earlier one.
fn check_spec_update(before: &Value, after: &Value, causes: &mut Vec<Cause>) {
    const FIELD: &str = "spec.activeDeadlineSeconds";
    let (old, new) = (&before["activeDeadlineSeconds"], &after["activeDeadlineSeconds"]);
    if old != new {
        let too_late = new.as_i64().zip(old.as_i64()).is_some_and(|(new, old)| new > old);
        match new {
            Value::Null => causes.push(Cause::invalid(FIELD, new, "must not update from a positive integer to nil value")),
            _ if too_late => causes.push(Cause::invalid(FIELD, new, "must be less than or equal to previous value")),
            _ => check_deadline(new, causes),
        }
    }
    let without_deadline = |spec: &Value| {
        let mut spec = spec.clone();
        object::fields_of(&mut spec).remove("activeDeadlineSeconds");
        spec
    };
    if without_deadline(before) != without_deadline(after) {
        causes.push(Cause::forbidden(
            "spec",
            "pod updates may not change fields other than `spec.containers[*].image`,`spec.initContainers[*].image`,\
             `spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing tolerations),\
             `spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)\n",
        ));
    }
}

fn hidden_variables(spec: &Value) -> Vec<String> {
    let mut warnings = Vec::new();
    for (container, index) in list(&spec["containers"]).zip(0..) {
        let mut seen: Vec<&str> = Vec::new();
        for (variable, position) in list(&container["env"]).zip(0..) {
            let name = text(&variable["name"]);
            if seen.contains(&name) {
                warnings.push(format!(
                    "spec.containers[{index}].env[{position}]: hides previous definition of {name:?}, which may be dropped when using apply"
                ));
            }
            seen.push(name);
        }
    }
    warnings
}
