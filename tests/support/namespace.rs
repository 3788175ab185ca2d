//! A namespace of one test's own, with the account `mso` in it. The test is its administrator, through the same API on either ground.

use std::path::PathBuf;
use std::process::Command;
use std::sync::LazyLock;

use devkit::api::Api;
use devkit::cluster::{Fault, FaultKind, Image, Server, Status};
use devkit::kubectl::kubectl;
use devkit::program::build;
use serde_json::{Value, json};

use super::manifests::{apply, manifests};
use super::{FAKE_MODEL, Ground, eventually, required, unique};

/// Gone with all that is in it when the test is over.
pub(crate) struct Namespace {
    pub(crate) name: String,
    /// The administrator's.
    api: Api,
    address: (String, u16),
    folder: PathBuf,
    cluster: Cluster,
}

enum Cluster {
    Devkit(Server),
    Real(RealNamespace),
}

/// What finds the namespaces of tests that were killed.
const LEFT_BY_TESTS: &str = "mso-test";

/// On the cluster that `KUBECONFIG` names; deleted when dropped.
pub(crate) struct RealNamespace {
    pub(crate) name: String,
}

impl RealNamespace {
    pub(crate) fn new() -> Self {
        let name = format!("mso-test-{}", unique());
        let metadata = json!({"name": name, "labels": {LEFT_BY_TESTS: "true"}});
        apply(&[json!({"apiVersion": "v1", "kind": "Namespace", "metadata": metadata})]);
        Self { name }
    }

    pub(crate) fn kubectl(&self, arguments: &[&str]) -> String {
        kubectl(&[&["-n", &self.name], arguments].concat(), "").unwrap_or_else(|error| panic!("kubectl {arguments:?}: {error}"))
    }
}

impl Drop for RealNamespace {
    fn drop(&mut self) {
        if let Err(error) = kubectl(&["delete", "namespace", &self.name, "--wait=false", "--ignore-not-found"], "") {
            eprintln!("namespace {} is left: {error}", self.name);
        }
    }
}

const CA_FILE: &str = "ca.crt";

/// While this secret is there, the token is valid.
const LIFE_OF_THE_TOKEN: &str = "life-of-the-token";

const CONFIG_MAPS: &str = "/configmaps";

/// Of what a test refuses by quota.
const QUOTA: &str = "none";

/// The account with which a test on a real cluster is the administrator of its namespace.
const ADMINISTRATOR: &str = "test";

/// Longer than any test.
const TOKEN_LIFE: &str = "--duration=48h";

impl Namespace {
    pub(crate) fn with_account(ground: Ground) -> Self {
        match ground {
            Ground::Devkit => Self::on_devkit(),
            Ground::Real => Self::on_real_cluster(),
        }
    }

    fn on_devkit() -> Self {
        static FAKE_MODEL_PROGRAM: LazyLock<PathBuf> =
            LazyLock::new(|| build("devkit", "fake-model").unwrap_or_else(|problem| panic!("{problem}")));
        let fake_model = FAKE_MODEL_PROGRAM.clone();
        let server = Server::start([(FAKE_MODEL.to_owned(), Image::of(fake_model))].into()).expect("there is a free port");
        let address = (server.host().to_owned(), server.port());
        Self { name: "dots".to_owned(), api: server.api(), address, folder: folder_with(server.ca_pem()), cluster: Cluster::Devkit(server) }
    }

    fn on_real_cluster() -> Self {
        let namespace = RealNamespace::new();
        let name = namespace.name.clone();
        let mut objects = manifests("base", |_| name.clone());
        objects.retain(|object| object["kind"] != "Namespace" && object["kind"] != "Deployment");
        objects.push(json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": ADMINISTRATOR, "namespace": name}}));
        objects.push(json!({
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "RoleBinding",
            "metadata": {"name": ADMINISTRATOR, "namespace": name},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "admin"},
            "subjects": [{"kind": "ServiceAccount", "name": ADMINISTRATOR, "namespace": name}],
        }));
        apply(&objects);
        let ask = |arguments: &[&str]| kubectl(&[&["-n", name.as_str()], arguments].concat(), "").ok();
        // Without it no pod can be created.
        eventually("the namespace's default account", || ask(&["get", "serviceaccount", "default"]));
        let ca = || ask(&["get", "configmap", "kube-root-ca.crt", "-o", r"jsonpath={.data.ca\.crt}"]);
        let ca = eventually("the namespace's CA", ca);
        let token = ask(&["create", "token", ADMINISTRATOR, TOKEN_LIFE]).expect("an account has tokens");
        let (host, port) = api_address();
        let api = Api::new(&format!("https://{host}:{port}"), Some(&ca), &token).expect("the cluster's CA is one");
        Self { name, api, address: (host, port), folder: folder_with(&ca), cluster: Cluster::Real(namespace) }
    }

    /// The API server's host and port, as this process reaches it.
    pub(crate) fn api_address(&self) -> (String, u16) {
        self.address.clone()
    }

    /// In a folder of this namespace's own.
    pub(crate) fn file(&self, name: &str, text: &str) -> PathBuf {
        let path = self.folder.join(name);
        std::fs::write(&path, text).expect("the file can be written");
        path
    }

    /// The API server's, which every pod here has mounted.
    pub(crate) fn ca_file(&self) -> PathBuf {
        self.folder.join(CA_FILE)
    }

    /// The account `mso`'s.
    pub(crate) fn token(&self) -> String {
        match &self.cluster {
            Cluster::Devkit(server) => server.token(),
            Cluster::Real(namespace) => namespace.kubectl(&["create", "token", "mso", TOKEN_LIFE]),
        }
    }

    /// The same, to be revoked.
    pub(crate) fn revocable_token(&self) -> String {
        match &self.cluster {
            Cluster::Devkit(server) => server.token(),
            Cluster::Real(namespace) => {
                namespace.kubectl(&["create", "secret", "generic", LIFE_OF_THE_TOKEN]);
                let bound = format!("--bound-object-name={LIFE_OF_THE_TOKEN}");
                namespace.kubectl(&["create", "token", "mso", "--bound-object-kind=Secret", &bound])
            }
        }
    }

    /// Each create of a pod, by a quota of none.
    pub(crate) fn refuse_pods(&self) {
        match &self.cluster {
            Cluster::Devkit(server) => {
                let kind = FaultKind::Refuse(Status::exceeded_quota("any", QUOTA, 0));
                server.misbehave(Fault { method: "POST", target: "/pods".to_owned(), times: u32::MAX, kind });
            }
            Cluster::Real(namespace) => drop(namespace.kubectl(&["create", "quota", QUOTA, "--hard=pods=0"])),
        }
    }

    /// To the account `mso`, from when this returns on.
    pub(crate) fn forbid_config_maps(&self) {
        match &self.cluster {
            Cluster::Devkit(server) => {
                for method in ["GET", "POST", "PATCH", "DELETE"] {
                    let forbidden = Status::forbidden_object("configmaps", "any", "User \"mso\" cannot use resource \"configmaps\"");
                    server.misbehave(Fault { method, target: CONFIG_MAPS.to_owned(), times: u32::MAX, kind: FaultKind::Refuse(forbidden) });
                }
            }
            Cluster::Real(namespace) => {
                let role = namespace.kubectl(&["get", "role", "mso", "-o", "json"]);
                let mut role: Value = serde_json::from_str(&role).expect("kubectl writes JSON");
                let rules = role["rules"].as_array_mut().expect("a Role has rules");
                rules.retain(|rule| rule["resources"] != json!(["configmaps"]));
                apply(&[role]);
                let api = self.api.with_token(&self.token());
                eventually("the end of the right", || (api.get(&self.config_maps()).ok()?.code == 403).then_some(()));
            }
        }
    }

    /// What was forbidden is allowed again.
    pub(crate) fn allow_config_maps(&self) {
        match &self.cluster {
            Cluster::Devkit(server) => server.behave(),
            Cluster::Real(namespace) => {
                let role = namespace.kubectl(&["get", "role", "mso", "-o", "json"]);
                let mut role: Value = serde_json::from_str(&role).expect("kubectl writes JSON");
                let verbs = ["get", "list", "create", "patch", "delete"];
                let rule = json!({"apiGroups": [""], "resources": ["configmaps"], "verbs": verbs});
                role["rules"].as_array_mut().expect("a Role has rules").push(rule);
                apply(&[role]);
            }
        }
    }

    /// Each create of one is refused by a quota from when this returns on.
    pub(crate) fn fill_with_config_maps(&self) {
        match &self.cluster {
            Cluster::Devkit(server) => {
                let full = "exceeded quota: none, requested: count/configmaps=1, used: count/configmaps=1, limited: count/configmaps=1";
                let kind = FaultKind::Refuse(Status::forbidden_object("configmaps", "any", full));
                server.misbehave(Fault { method: "POST", target: CONFIG_MAPS.to_owned(), times: u32::MAX, kind });
            }
            Cluster::Real(_) => self.set_quota_of_config_maps(0),
        }
    }

    /// The quota is raised to leave room for so many more. devkit's cluster does not count, and has no quota any more.
    pub(crate) fn leave_room_for_config_maps(&self, room: usize) {
        match &self.cluster {
            Cluster::Devkit(server) => server.behave(),
            Cluster::Real(_) => self.set_quota_of_config_maps(room),
        }
    }

    fn set_quota_of_config_maps(&self, room: usize) {
        let list = self.api.get(&self.config_maps()).expect("the API answers").body;
        let used = list["items"].as_array().expect("a list has items").len();
        let hard = json!({"count/configmaps": (used + room).to_string()});
        let metadata = json!({"name": QUOTA, "namespace": self.name});
        apply(&[json!({"apiVersion": "v1", "kind": "ResourceQuota", "metadata": metadata, "spec": {"hard": hard}})]);
        // It is in force when it has been counted, and the API server has heard of that.
        let (try_only, probe) = (format!("{}?dryRun=All", self.config_maps()), json!({"metadata": {"name": "probe"}}));
        let code = if room == 0 { 403 } else { 201 };
        eventually("the quota", || (self.api.post(&try_only, &probe).ok()?.code == code).then_some(()));
    }

    /// For tests that only a real cluster can play: pod security refuses those of models from here on.
    pub(crate) fn enforce_restricted_pods(&self) {
        let label = "pod-security.kubernetes.io/enforce=restricted";
        kubectl(&["label", "namespace", &self.name, label], "").expect("an administrator may");
    }

    /// For tests that only a real cluster can play: to the account `mso`, from when this returns on. The Role as it was.
    pub(crate) fn forbid_creates_of_pods(&self) -> Value {
        let role = self.kubectl(&["get", "role", "mso", "-o", "json"]);
        let mut role: Value = serde_json::from_str(&role).expect("kubectl writes JSON");
        role["metadata"].as_object_mut().expect("metadata is an object").remove("resourceVersion");
        let before = role.clone();
        let rules = role["rules"].as_array_mut().expect("a Role has rules");
        let of_pods = rules.iter_mut().find(|rule| rule["resources"] == json!(["pods"])).expect("the Role has one of pods");
        of_pods["verbs"].as_array_mut().expect("a rule has verbs").retain(|verb| verb != "create");
        apply(&[role]);
        let api = self.api.with_token(&self.token());
        eventually("the end of the right", || (self.try_to_create_a_pod(&api) == 403).then_some(()));
        before
    }

    pub(crate) fn wait_until_pods_are_denied(&self) {
        self.try_to_create_pods_until("the denial", |code| code != 201);
    }

    /// Of what the API server takes moments to know: by its answer's code, or otherwise.
    pub(crate) fn try_to_create_pods_until(&self, what: &str, is_known: impl Fn(u16) -> bool) {
        eventually(what, || is_known(self.try_to_create_a_pod(&self.api)).then_some(()));
    }

    /// Of a policy or webhook that is for this namespace alone.
    pub(crate) fn selector(&self) -> Value {
        json!({"matchLabels": {"kubernetes.io/metadata.name": self.name}})
    }

    fn try_to_create_a_pod(&self, api: &Api) -> u16 {
        let spec = json!({"containers": [{"name": "probe", "image": "none"}]});
        let probe = json!({"metadata": {"name": "probe"}, "spec": spec});
        api.post(&format!("{}?dryRun=All", self.path("")), &probe).expect("the API answers").code
    }

    /// As `kubectl drain` does it.
    pub(crate) fn evict_pod(&self, name: &str) {
        let eviction = json!({"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": name, "namespace": self.name}});
        let answer = self.api.post(&format!("{}/eviction", self.path(name)), &eviction).expect("the API answers");
        assert_eq!(answer.code, 201, "{}", answer.body);
    }

    /// It is refused when this returns.
    pub(crate) fn revoke(&self, token: &str) {
        match &self.cluster {
            Cluster::Devkit(server) => server.revoke(token),
            Cluster::Real(namespace) => drop(namespace.kubectl(&["delete", "secret", LIFE_OF_THE_TOKEN])),
        }
        let api = self.api.with_token(token);
        eventually("the end of the token", || (api.get(&self.path("")).ok()?.code == 401).then_some(()));
    }

    /// As when the API server is killed and started again. A real one takes every other test along.
    pub(crate) fn restart_api_server(&self) {
        match &self.cluster {
            Cluster::Devkit(server) => {
                server.stop();
                server.restart().expect("its port is free");
            }
            Cluster::Real(_) => {
                let command = required("MSO_TEST_RESTART_APISERVER", "the command that kills the API server and starts it again");
                // What it starts may keep its output open, and outlives the test.
                let quiet = || std::process::Stdio::null();
                let done = Command::new("sh").args(["-c", &command]).stdin(quiet()).stdout(quiet()).stderr(quiet()).status();
                assert!(done.expect("there is a shell").success(), "{command}");
            }
        }
    }

    /// The administrator's.
    pub(crate) fn api(&self) -> &Api {
        &self.api
    }

    /// For what a real cluster cannot be told to do.
    pub(crate) fn server(&self) -> &Server {
        match &self.cluster {
            Cluster::Devkit(server) => server,
            Cluster::Real(_) => panic!("a real cluster does as it does"),
        }
    }

    /// For tests that only a real cluster can play.
    pub(crate) fn kubectl(&self, arguments: &[&str]) -> String {
        match &self.cluster {
            Cluster::Devkit(_) => panic!("kubectl speaks to real clusters"),
            Cluster::Real(namespace) => namespace.kubectl(arguments),
        }
    }

    pub(crate) fn pod(&self, name: &str) -> Option<Value> {
        let answer = self.api.get(&self.path(name)).expect("the API answers");
        match answer.code {
            200 => Some(answer.body),
            404 => None,
            _ => panic!("{}", answer.body),
        }
    }

    /// The names of the ConfigMaps that the service of this simulator keeps here.
    pub(crate) fn records(&self, simulator: &str) -> Vec<String> {
        let path = format!("{}?labelSelector=mso.dots/simulator={simulator}", self.config_maps());
        let list = self.api.get(&path).expect("the API answers").body;
        let records = list["items"].as_array().expect("a list has items");
        records.iter().map(|record| record["metadata"]["name"].as_str().unwrap_or_default().to_owned()).collect()
    }

    pub(crate) fn pods(&self) -> Vec<Value> {
        let mut list = self.api.get(&self.path("")).expect("the API answers").body;
        list["items"].as_array_mut().map(std::mem::take).expect("a list has items")
    }

    pub(crate) fn delete_pod(&self, name: &str) {
        self.delete(name, &json!({}));
    }

    pub(crate) fn delete_pod_by_force(&self, name: &str) {
        self.delete(name, &json!({"gracePeriodSeconds": 0}));
    }

    fn delete(&self, name: &str, options: &Value) {
        let answer = self.api.delete(&self.path(name), options).expect("the API answers");
        assert_eq!(answer.code, 200, "{}", answer.body);
    }

    fn path(&self, pod: &str) -> String {
        format!("/api/v1/namespaces/{}/pods/{pod}", self.name).trim_end_matches('/').to_owned()
    }

    fn config_maps(&self) -> String {
        format!("/api/v1/namespaces/{}{CONFIG_MAPS}", self.name)
    }

    /// For a test that has failed: what was asked and answered.
    pub(crate) fn cluster_log(&self) -> String {
        match &self.cluster {
            Cluster::Devkit(server) => server.log().join("\n"),
            Cluster::Real(_) => "(not this test's alone)".to_owned(),
        }
    }

    /// For a test that has failed: what became of each, and the end of its log.
    pub(crate) fn describe_pods(&self) -> String {
        let describe = |pod: &Value| {
            let name = pod["metadata"]["name"].as_str().unwrap_or_default();
            let log = self.api.get(&format!("{}/log?tailLines=10", self.path(name)));
            let log = log.map_or_else(|error| error.to_string(), |answer| answer.body.as_str().unwrap_or_default().to_owned());
            format!("{name}: {}\n{log}", pod["status"])
        };
        match self.api.get(&self.path("")) {
            Ok(list) => list.body["items"].as_array().into_iter().flatten().map(describe).collect::<Vec<_>>().join("\n"),
            Err(error) => error.to_string(),
        }
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

    pub(crate) fn take_label(&self, pod: &str, label: &str) {
        let answer = self.api.patch(&self.path(pod), &json!({"metadata": {"labels": {label: null}}})).expect("the API answers");
        assert_eq!(answer.code, 200, "{}", answer.body);
    }

    /// A pod that the service did not make.
    pub(crate) fn create_pod(&self, name: &str, labels: &[(&str, &str)], image: &str, variables: &[(&str, &str)]) {
        let labels: serde_json::Map<String, Value> = labels.iter().map(|(name, value)| ((*name).to_owned(), (*value).into())).collect();
        let env: Vec<Value> = variables.iter().map(|(name, value)| json!({"name": name, "value": value})).collect();
        let pod = json!({
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": name, "labels": labels},
            "spec": {"restartPolicy": "Never", "containers": [{"name": name, "image": image, "env": env}]},
        });
        self.create(&pod);
    }

    pub(crate) fn create(&self, pod: &Value) {
        let answer = self.api.post(&self.path(""), pod).expect("the API answers");
        assert_eq!(answer.code, 201, "{}", answer.body);
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

fn folder_with(ca: &str) -> PathBuf {
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(unique());
    std::fs::create_dir_all(&folder).expect("the folder can be made");
    std::fs::write(folder.join(CA_FILE), ca).expect("the CA can be written");
    folder
}

/// The API server that kubectl speaks to.
fn api_address() -> (String, u16) {
    let config = kubectl(&["config", "view", "--minify", "-o", "json"], "").expect("KUBECONFIG names a cluster");
    let config: Value = serde_json::from_str(&config).expect("kubectl writes JSON");
    let server = config["clusters"][0]["cluster"]["server"].as_str().expect("a cluster has a server");
    let address = server.strip_prefix("https://").expect("the API is on https").trim_end_matches('/');
    let (host, port) = address.rsplit_once(':').unwrap_or((address, "443"));
    (host.to_owned(), port.parse().expect("a port is a number"))
}
