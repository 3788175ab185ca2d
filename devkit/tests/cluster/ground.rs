//! Where the script runs: the simulated cluster, or the real one that `KUBECONFIG` names.

use std::time::Duration;

use devkit::api::Api;
use devkit::broker;
use devkit::cluster::{Image, Server};
use devkit::kubectl::kubectl;
use devkit::wait;
use serde_json::Value;

/// The administrator of a cluster, with a namespace of the script's own.
pub(crate) struct Ground {
    pub(crate) api: Api,
    pub(crate) namespace: String,
    /// What continues a list behind `list-1` as it is now: a server says so with a 410 once it has forgotten the list's own version, which
    /// no client can bring about. Opaque to clients, so that each cluster's is of its own kind.
    pub(crate) rest_as_it_is_now: &'static str,
    /// The fake model's.
    pub(crate) image: String,
    /// As a pod reaches it: host and port.
    pub(crate) broker: (String, String),
    _cluster: AnyCluster,
}

enum AnyCluster {
    Simulated { _server: Server, _broker: broker::Server },
    Real { namespace: String },
}

impl Ground {
    pub(crate) fn simulated() -> Self {
        let image = "fake-model:1".to_owned();
        let server = Server::start([(image.clone(), Image::of(env!("CARGO_BIN_EXE_fake-model")))].into()).unwrap();
        let broker = broker::Server::start().unwrap();
        server.create_namespace("devkit-conformance");
        Self {
            api: server.api(),
            namespace: "devkit-conformance".to_owned(),
            rest_as_it_is_now: "-1/devkit-conformance/list-1",
            image,
            broker: (broker.address().ip().to_string(), broker.address().port().to_string()),
            _cluster: AnyCluster::Simulated { _server: server, _broker: broker },
        }
    }

    /// `MSO_TEST_MODEL_IMAGE` names the fake model's image, and `MSO_TEST_BROKER_IN_POD` a broker, as pods reach them.
    pub(crate) fn real() -> Self {
        let required = |name: &str| std::env::var(name).unwrap_or_else(|_| panic!("{name} is not set"));
        let broker = required("MSO_TEST_BROKER_IN_POD");
        let (host, port) = broker.rsplit_once(':').expect("a broker is host:port");
        let namespace = format!("devkit-conformance-{}", std::process::id());
        ask_kubectl(&["create", "namespace", &namespace]);
        let cluster = AnyCluster::Real { namespace: namespace.clone() };
        ask_kubectl(&["-n", &namespace, "create", "serviceaccount", "administrator"]);
        let account = format!("--serviceaccount={namespace}:administrator");
        ask_kubectl(&["create", "clusterrolebinding", &namespace, "--clusterrole=cluster-admin", &account]);
        let token = ask_kubectl(&["-n", &namespace, "create", "token", "administrator"]);
        let config: Value = serde_json::from_str(&ask_kubectl(&["config", "view", "--minify", "-o", "json"])).unwrap();
        let address = config["clusters"][0]["cluster"]["server"].as_str().expect("a cluster has a server");
        let ca = wait_for("the CA", || {
            let ca = ask_kubectl(&[
                "-n",
                &namespace,
                "get",
                "configmap",
                "kube-root-ca.crt",
                "--ignore-not-found",
                "-o",
                r"jsonpath={.data.ca\.crt}",
            ]);
            (!ca.is_empty()).then_some(ca)
        });
        wait_for("the default account", || {
            let account = ask_kubectl(&["-n", &namespace, "get", "serviceaccount", "default", "--ignore-not-found", "-o", "name"]);
            (!account.is_empty()).then_some(())
        });
        Self {
            api: Api::new(address, Some(&ca), &token).unwrap(),
            // {"v":"meta.k8s.io/v1","rv":-1,"start":"list-1\u0000"}
            rest_as_it_is_now: "eyJ2IjoibWV0YS5rOHMuaW8vdjEiLCJydiI6LTEsInN0YXJ0IjoibGlzdC0xXHUwMDAwIn0",
            image: required("MSO_TEST_MODEL_IMAGE"),
            broker: (host.to_owned(), port.to_owned()),
            namespace,
            _cluster: cluster,
        }
    }
}

impl Drop for AnyCluster {
    fn drop(&mut self) {
        if let Self::Real { namespace } = self {
            for kind in ["namespace", "clusterrolebinding"] {
                if let Err(error) = kubectl(&["delete", kind, namespace, "--wait=false"], "") {
                    eprintln!("{kind} {namespace} is left: {error}");
                }
            }
        }
    }
}

fn ask_kubectl(arguments: &[&str]) -> String {
    kubectl(arguments, "").unwrap_or_else(|error| panic!("kubectl {arguments:?}: {error}"))
}

/// Asks again until there is an answer.
pub(crate) fn wait_for<T>(what: &str, ask: impl FnMut() -> Option<T>) -> T {
    const LIMIT: Duration = Duration::from_secs(60);
    wait::until(LIMIT, ask).unwrap_or_else(|| panic!("waited in vain for {what}"))
}
