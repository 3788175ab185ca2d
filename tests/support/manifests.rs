//! The manifests in k8s/, as a test puts them to use in its own namespace of a real cluster.

use devkit::kubectl::kubectl;
use serde_json::{Value, json};

/// The objects of one of the kustomizations under k8s/, each namespace in it renamed.
pub(crate) fn manifests(folder: &str, namespace_of: impl Fn(&str) -> String) -> Vec<Value> {
    let path = format!("{}/k8s/{folder}", env!("CARGO_MANIFEST_DIR"));
    let text = kubectl(&["create", "--dry-run=client", "-o", "json", "-k", &path], "").expect("the manifests can be read");
    let mut objects: Vec<Value> =
        serde_json::Deserializer::from_str(&text).into_iter().map(|object| object.expect("kubectl writes JSON")).collect();
    let rename = |name: &mut Value| {
        if let Some(old) = name.as_str() {
            *name = namespace_of(old).into();
        }
    };
    for object in &mut objects {
        let kind = object["kind"].as_str().unwrap_or_default().to_owned();
        match kind.as_str() {
            "Namespace" => rename(&mut object["metadata"]["name"]),
            _ => rename(&mut object["metadata"]["namespace"]),
        }
        match kind.as_str() {
            "RoleBinding" => rename(&mut object["subjects"][0]["namespace"]),
            "Deployment" if object["metadata"]["name"] == "mso" => rename(variable(object, "KUBERNETES_NAMESPACE")),
            _ => {}
        }
    }
    objects
}

/// The value of a variable of the Deployment's only container; made where it is missing.
pub(crate) fn variable<'a>(deployment: &'a mut Value, name: &str) -> &'a mut Value {
    let env = deployment["spec"]["template"]["spec"]["containers"][0]["env"].as_array_mut().expect("the container has variables");
    let index = env.iter().position(|variable| variable["name"] == name).unwrap_or_else(|| {
        env.push(json!({"name": name}));
        env.len() - 1
    });
    &mut env[index]["value"]
}

pub(crate) fn apply(objects: &[Value]) {
    let list = json!({"apiVersion": "v1", "kind": "List", "items": objects});
    kubectl(&["apply", "-f", "-"], &list.to_string()).expect("the cluster takes these objects");
}

pub(crate) const ADMISSION_API: &str = "admissionregistration.k8s.io/v1";

/// For policies and webhooks.
pub(crate) fn creates_of_pods() -> Value {
    json!([{"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["pods"]}])
}

/// What stands in no namespace, and is gone when the test is over.
pub(crate) struct ClusterWide {
    objects: Value,
}

impl ClusterWide {
    pub(crate) fn new(objects: Vec<Value>) -> Self {
        let these = Self { objects: json!({"apiVersion": "v1", "kind": "List", "items": objects}) };
        apply(&objects);
        these
    }
}

impl Drop for ClusterWide {
    fn drop(&mut self) {
        if let Err(error) = kubectl(&["delete", "-f", "-", "--ignore-not-found"], &self.objects.to_string()) {
            eprintln!("something is left in the cluster: {error}");
        }
    }
}
