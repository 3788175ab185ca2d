//! The demonstration's surroundings in a real cluster: one pod with the service and devkit's broker, in a namespace of its own; the SO
//! stays on this machine and reaches the broker through kubectl.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use devkit::kubectl::{Kubectl, PortForward};
use devkit::program::Program;
use devkit::so::{Session, So};
use mso::clock;
use serde_json::{Value, json};

use crate::SIMULATOR;
use crate::screen::{Screen, Style};
use crate::story::Stage;

/// Of the pod, and of its container with the service.
const MSO: &str = "mso";
const BROKER_PORT: u16 = 1883;

/// For a node to pull the image and start the pod.
const START_LIMIT: Duration = Duration::from_secs(180);
const PAUSE: Duration = Duration::from_millis(500);

/// Longer than the demonstration takes at its slowest. Where it is killed and cannot clean up, the pod with rights in it ends by this.
const LIFE_SECONDS: u32 = 900;

/// Where a container waits for one of these, a person has to do something.
const HOPELESS: [&str; 5] =
    ["ImagePullBackOff", "ErrImageNeverPull", "InvalidImageName", "CreateContainerConfigError", "CreateContainerError"];

/// The service's account and its Role, as they are in use.
const ACCOUNT: &str = include_str!("../../../../k8s/base/account.yaml");

pub(crate) struct InCluster {
    // In the order in which they end.
    pub(crate) stage: Stage,
    _broker: PortForward,
    namespace: Namespace,
}

impl InCluster {
    /// # Errors
    /// What kubectl says, or what a person has to see to first.
    pub(crate) fn start(image: &str, screen: Screen, interrupted: &AtomicBool) -> Result<Self, String> {
        let kubectl = Kubectl::pinned()?;
        let workers = kubectl.run(&["get", "nodes", "--selector=type=worker", "--output=name"], "")?;
        if workers.trim().is_empty() {
            return Err("no node has the label type=worker, which models run on: kubectl label node NAME type=worker".to_owned());
        }
        let namespace = Namespace::create(kubectl, screen)?;
        match Self::start_in(&namespace, image, screen, interrupted) {
            Ok((stage, broker)) => Ok(Self { stage, _broker: broker, namespace }),
            Err(problem) => {
                if !interrupted.load(Ordering::Relaxed) {
                    namespace.show_evidence();
                }
                Err(problem)
            }
        }
    }

    fn start_in(namespace: &Namespace, image: &str, screen: Screen, interrupted: &AtomicBool) -> Result<(Stage, PortForward), String> {
        let Namespace { kubectl, name, .. } = namespace;
        kubectl.run(&["apply", "--filename=-"], &ACCOUNT.replace("namespace: dots", &format!("namespace: {name}")))?;
        kubectl.run(&["apply", "--filename=-"], &pod(name, image).to_string())?;
        let address = namespace.started(interrupted)?;

        let broker = kubectl.port_forward(name, MSO, BROKER_PORT)?;
        let so = So::connect("127.0.0.1", broker.port, "quickstart", SIMULATOR, Session::Clean)?;
        let logs = ["--namespace", name, "logs", "--follow", MSO, "--container", MSO];
        let mso = Program::start(kubectl.command().args(logs)).map_err(|error| format!("kubectl: {error}"))?;
        screen.follow(mso.output.clone())?;
        let (own, own_name) = (kubectl.clone(), name.clone());
        let pods = move |simulation: &str| {
            let selector = format!("--selector=simulation_id={simulation}");
            let names = own.run(&["--namespace", &own_name, "get", "pods", &selector, "--output=name"], "")?;
            Ok(names.lines().map(str::to_owned).collect())
        };
        Ok((Stage { so, mso, image: image.to_owned(), broker: (address, BROKER_PORT), pods: Box::new(pods) }, broker))
    }

    /// Before the namespace goes, and all that could be looked at with it.
    pub(crate) fn show_evidence(&self) {
        self.namespace.show_evidence();
    }
}

/// Deleted with all that is in it when dropped.
struct Namespace {
    kubectl: Kubectl,
    name: String,
    screen: Screen,
}

impl Namespace {
    fn create(kubectl: Kubectl, screen: Screen) -> Result<Self, String> {
        // Another person may try it in the same cluster at the same time.
        let name = format!("mso-quickstart-{:x}", (clock::now().unix.0 * 1000.0) as u64);
        screen.line(Style::Dim, &format!("In the cluster of kubectl's context {}, namespace {name} …", kubectl.context()));
        let metadata = json!({"name": name, "labels": {"app.kubernetes.io/part-of": "mso-quickstart"}});
        kubectl.run(&["create", "--filename=-"], &json!({"apiVersion": "v1", "kind": "Namespace", "metadata": metadata}).to_string())?;
        Ok(Self { kubectl, name, screen })
    }

    fn run(&self, arguments: &[&str]) -> Result<String, String> {
        self.kubectl.run(&[&["--namespace", self.name.as_str()], arguments].concat(), "")
    }

    /// The pod's address, once it is ready.
    fn started(&self, interrupted: &AtomicBool) -> Result<String, String> {
        let until = clock::now().instant + START_LIMIT;
        loop {
            let pod = self.run(&["get", "pod", MSO, "--output=json"])?;
            let pod: Value = serde_json::from_str(&pod).map_err(|error| format!("kubectl: {error}"))?;
            let status = &pod["status"];
            let list = |name: &str| status[name].as_array().map_or(&[][..], Vec::as_slice);
            if list("conditions").iter().any(|condition| condition["type"] == "Ready" && condition["status"] == "True") {
                return Ok(status["podIP"].as_str().unwrap_or_default().to_owned());
            }
            for container in list("containerStatuses") {
                let name = container["name"].as_str().unwrap_or_default();
                let (waiting, terminated) = (&container["state"]["waiting"], &container["state"]["terminated"]);
                if waiting["reason"].as_str().is_some_and(|reason| HOPELESS.contains(&reason)) {
                    return Err(format!("the container {name} does not start: {}", reason_and_message(waiting)));
                }
                if !terminated.is_null() {
                    let code = &terminated["exitCode"];
                    return Err(format!("the container {name} has ended with code {code}: {}", reason_and_message(terminated)));
                }
            }
            if interrupted.load(Ordering::Relaxed) {
                return Err("interrupted".to_owned());
            }
            if clock::now().instant >= until {
                return Err(format!("the pod with mso and the broker is not ready after {} s", START_LIMIT.as_secs()));
            }
            thread::sleep(PAUSE);
        }
    }

    fn show_evidence(&self) {
        for arguments in
            [&["get", "pods"][..], &["get", "events", "--sort-by=.lastTimestamp"], &["logs", MSO, "--container", MSO, "--tail=20"]]
        {
            self.screen.line(Style::Bold, &format!("\nkubectl {}", arguments.join(" ")));
            let said = self.run(arguments).unwrap_or_else(|problem| problem);
            self.screen.line(Style::Plain, said.trim_end());
        }
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        self.screen.line(Style::Dim, &format!("Deleting namespace {} …", self.name));
        let wanted = self.kubectl.run(&["delete", "namespace", &self.name, "--wait=false"], "");
        let gone =
            wanted.and_then(|_| self.kubectl.run(&["wait", "--for=delete", &format!("namespace/{}", self.name), "--timeout=120s"], ""));
        if let Err(problem) = gone {
            self.screen.line(Style::Bad, &format!("The namespace {} may be left: {problem}", self.name));
        }
    }
}

/// Kubernetes' own words on why a container waits or has ended.
fn reason_and_message(state: &Value) -> String {
    let words: Vec<&str> = [&state["reason"], &state["message"]].into_iter().filter_map(Value::as_str).collect();
    words.join(": ")
}

/// With a policy that lets nobody from outside the namespace speak to the broker. The image's own command is the fake model, which is what
/// the service starts.
fn pod(namespace: &str, image: &str) -> Value {
    let container = |name: &str, program: &str, variables: &[(&str, &str)]| {
        let env: Vec<_> = variables.iter().map(|(name, value)| json!({"name": name, "value": value})).collect();
        json!({
            "name": name, "image": image, "imagePullPolicy": "IfNotPresent", "command": [program], "env": env,
            "securityContext": {"allowPrivilegeEscalation": false, "readOnlyRootFilesystem": true, "capabilities": {"drop": ["ALL"]}},
        })
    };
    let settings = [
        ("SIMULATOR_NAME", SIMULATOR),
        ("MQTT_HOST", "127.0.0.1"),
        ("KUBERNETES_NAMESPACE", namespace),
        ("KUBERNETES_IMAGE_PULL_POLICY", "IfNotPresent"),
    ];
    let pod = json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": MSO, "namespace": namespace},
        "spec": {
            "serviceAccountName": "mso",
            "enableServiceLinks": false,
            "restartPolicy": "Never",
            "activeDeadlineSeconds": LIFE_SECONDS,
            "terminationGracePeriodSeconds": 5,
            "securityContext": {"runAsNonRoot": true, "runAsUser": 65532, "runAsGroup": 65532, "seccompProfile": {"type": "RuntimeDefault"}},
            "containers": [container("broker", "/broker", &[]), container(MSO, "/mso", &settings)],
        },
    });
    let policy = json!({
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {"name": MSO, "namespace": namespace},
        "spec": {"podSelector": {}, "policyTypes": ["Ingress"], "ingress": [{"from": [{"podSelector": {}}]}]},
    });
    json!({"apiVersion": "v1", "kind": "List", "items": [policy, pod]})
}
