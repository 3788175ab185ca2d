//! The cluster that `KUBECONFIG` names, through kubectl.

use std::ffi::OsStr;
use std::io::Write;
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use serde_json::{Value, json};

use super::{eventually, unique};

/// # Errors
/// What kubectl says.
pub(crate) fn kubectl(arguments: &[impl AsRef<OsStr>], input: &str) -> Result<String, String> {
    let mut child = Command::new("kubectl")
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("kubectl is in PATH");
    child.stdin.take().expect("it is piped").write_all(input.as_bytes()).expect("kubectl reads its input");
    let output = child.wait_with_output().expect("kubectl ends");
    if output.status.success() {
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    } else {
        Err(String::from_utf8_lossy(&output.stderr).into_owned())
    }
}

/// The API server's host and port, as this process reaches it.
pub(crate) fn api_address() -> (String, String) {
    static ADDRESS: OnceLock<(String, String)> = OnceLock::new();
    let read = || {
        let config = parsed(&kubectl(&["config", "view", "--minify", "-o", "json"], "").expect("KUBECONFIG names a cluster"));
        let server = config["clusters"][0]["cluster"]["server"].as_str().expect("a cluster has a server").to_owned();
        let address = server.strip_prefix("https://").expect("the API is on https").trim_end_matches('/');
        let (host, port) = address.rsplit_once(':').unwrap_or((address, "443"));
        (host.to_owned(), port.to_owned())
    };
    ADDRESS.get_or_init(read).clone()
}

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
            "Deployment" => rename(variable(object, "KUBERNETES_NAMESPACE")),
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

fn parsed(json: &str) -> Value {
    serde_json::from_str(json).expect("kubectl writes JSON")
}

/// Gone with all that is in it when the test is over.
pub(crate) struct Namespace {
    pub(crate) name: String,
}

impl Namespace {
    pub(crate) fn new() -> Self {
        let namespace = Self { name: format!("mso-test-{}", unique()) };
        kubectl(&["create", "namespace", &namespace.name], "").expect("a namespace can be made");
        namespace
    }

    /// With the account `mso` and the Role of k8s/.
    pub(crate) fn with_account() -> Self {
        let namespace = Self::new();
        let mut objects = manifests("base", |_| namespace.name.clone());
        objects.retain(|object| object["kind"] != "Namespace" && object["kind"] != "Deployment");
        apply(&objects);
        // Without it no pod can be created.
        eventually("the namespace's default account", || namespace.try_kubectl(&["get", "serviceaccount", "default"]).ok());
        namespace
    }

    /// # Errors
    /// What kubectl says.
    pub(crate) fn try_kubectl(&self, arguments: &[&str]) -> Result<String, String> {
        kubectl(&[&["-n", &self.name], arguments].concat(), "")
    }

    pub(crate) fn kubectl(&self, arguments: &[&str]) -> String {
        self.try_kubectl(arguments).unwrap_or_else(|error| panic!("kubectl {arguments:?}: {error}"))
    }

    /// The CA that every pod here has mounted.
    pub(crate) fn ca(&self) -> String {
        eventually("the namespace's CA", || {
            self.try_kubectl(&["get", "configmap", "kube-root-ca.crt", "-o", r"jsonpath={.data.ca\.crt}"]).ok()
        })
    }

    pub(crate) fn token(&self, account: &str) -> String {
        self.kubectl(&["create", "token", account, "--duration=1h"])
    }

    pub(crate) fn pod(&self, name: &str) -> Option<Value> {
        self.try_kubectl(&["get", "pod", name, "-o", "json"]).ok().map(|json| parsed(&json))
    }

    pub(crate) fn pods(&self) -> Vec<Value> {
        let mut list = parsed(&self.kubectl(&["get", "pods", "-o", "json"]));
        list["items"].as_array_mut().map(std::mem::take).expect("a list has items")
    }

    /// Names and uids, sorted.
    pub(crate) fn pod_uids(&self) -> Vec<(String, String)> {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let mut uids: Vec<_> = self.pods().iter().map(|pod| (text(&pod["metadata"]["name"]), text(&pod["metadata"]["uid"]))).collect();
        uids.sort();
        uids
    }

    pub(crate) fn wait_until_gone(&self, pod: &str) {
        eventually(&format!("the end of pod {pod}"), || self.pod(pod).is_none().then_some(()));
    }

    pub(crate) fn wait_for_phase(&self, pod: &str, phase: &str) {
        eventually(&format!("phase {phase} of pod {pod}"), || (self.pod(pod)?["status"]["phase"] == phase).then_some(()));
    }

    /// A pod that the service did not make.
    pub(crate) fn create_pod(&self, name: &str, labels: &[(&str, &str)], image: &str, variables: &[(&str, &str)]) {
        let labels: serde_json::Map<String, Value> = labels.iter().map(|(name, value)| ((*name).to_owned(), (*value).into())).collect();
        let env: Vec<Value> = variables.iter().map(|(name, value)| json!({"name": name, "value": value})).collect();
        apply(&[json!({
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": name, "namespace": self.name, "labels": labels},
            "spec": {"restartPolicy": "Never", "containers": [{"name": name, "image": image, "env": env}]},
        })]);
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        if let Err(error) = kubectl(&["delete", "namespace", &self.name, "--wait=false", "--ignore-not-found"], "") {
            eprintln!("namespace {} is left: {error}", self.name);
        }
    }
}
