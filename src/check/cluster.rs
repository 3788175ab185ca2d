//! The cluster: whether the API server can be reached and trusted, what it lets us do, and whether a model's pod would find its place.

use serde_json::Value;

use super::Finding;
use crate::clock;
use crate::config::{Config, Tls, Token};
use crate::ids::{DeployId, ModelId, PodName, SimulationId, SimulatorId};
use crate::kube::error::Error;
use crate::kube::pod::{NODE_LABEL, NewPod};
use crate::kube::request::{Request, percent_encoded};
use crate::kube::{Client, Reply};
use crate::orchestrator::CLOCK_SKEW_SECONDS;

/// What the service asks for, and what it lacks where that is not allowed. `None`: it cannot work then.
const RIGHTS: [(&str, &[&str], Option<&str>); 4] = [
    ("pods", &["get", "list", "watch", "create", "patch", "delete"], None),
    ("pods/log", &["get"], Some("the logs of crashes are not shown")),
    ("events", &["list"], Some("why a pod does not come to run is not said")),
    ("configmaps", &["get", "list", "create", "patch", "delete"], Some("a restart fails what is not ready yet, and tells ends again")),
];

type Say<'a> = &'a mut dyn FnMut(Finding);

struct Cluster<'a> {
    config: &'a Config,
    client: Client,
    namespace: String,
}

pub(super) fn check(config: &Config, say: Say<'_>) {
    let client = match Client::new(&config.kubernetes, &config.pods, 1) {
        Ok(client) => client,
        Err(problem) => return say(Finding::bad("Kubernetes", problem, "mend this setting")),
    };
    let cluster = Cluster { config, client, namespace: config.kubernetes.namespace.clone() };
    let Some(user) = cluster.reach(say) else { return };
    cluster.find_namespace(say);
    let may_create = cluster.ask_for_rights(&user, say);
    cluster.look_for_nodes(say);
    cluster.look_for_pull_secret(say);
    cluster.look_at_quotas(say);
    cluster.look_at_limit_ranges(say);
    if may_create {
        cluster.rehearse(say);
    }
}

impl Cluster<'_> {
    /// As whom; none where there is nothing more to ask.
    fn reach(&self, say: Say<'_>) -> Option<String> {
        let address = format!("{}:{}", self.config.kubernetes.host, self.config.kubernetes.port);
        let reply = match self.client.ask(&Request::get("/version".to_owned())) {
            Ok(reply) => reply,
            Err(Error::Refused(status)) if status.code == 401 => {
                say(Finding::good("Kubernetes", format!("{address} answers")));
                let remedy = match &self.config.kubernetes.token {
                    Token::Fixed(_) => format!("a token that is not valid for long: kubectl -n {} create token ACCOUNT", self.namespace),
                    Token::File(path) => format!("look at {}: it is to hold the token of an account of this cluster", path.display()),
                };
                say(Finding::bad("token", "it is not valid here, or not any more", remedy));
                return None;
            }
            // Some clusters keep their version to themselves.
            Err(Error::Refused(status)) if status.code == 403 => Reply { body: Value::Null, warnings: Vec::new(), server_time: None },
            Err(error @ Error::Refused(_)) => {
                say(Finding::bad("Kubernetes", format!("{address} answers: {error}"), "check KUBERNETES_HOST and KUBERNETES_PORT"));
                return None;
            }
            Err(error) => {
                let remedy = "check KUBERNETES_HOST, KUBERNETES_PORT and KUBERNETES_CA_FILE; in a pod none of them is needed";
                say(Finding::bad("Kubernetes", error.to_string(), remedy));
                return None;
            }
        };
        let version = reply.body["gitVersion"].as_str().unwrap_or("it does not tell its version");
        say(Finding::good("Kubernetes", format!("{address} answers: {version}")));
        say(match &self.config.kubernetes.tls {
            Tls::Verified(path) => Finding::good("certificate", format!("a CA in {} vouches for it", path.display())),
            Tls::Unverified => {
                let text = "it is not verified, as KUBERNETES_VERIFY_TLS is false: whoever answers gets the token";
                Finding::warning("certificate", text, "set KUBERNETES_CA_FILE, and take KUBERNETES_VERIFY_TLS away")
            }
        });
        say_clock(&reply, say);
        // Kubernetes before 1.28 does not know the question.
        let user = self.client.ask(&Request::self_review()).map(|reply| text(&reply.body["status"]["userInfo"]["username"]));
        let user = user.unwrap_or_else(|_| "the token's account".to_owned());
        say(Finding::good("token", format!("it is that of {user}")));
        Some(user)
    }

    fn find_namespace(&self, say: Say<'_>) {
        let namespace = &self.namespace;
        match self.client.ask(&Request::get(format!("/api/v1/namespaces/{}", percent_encoded(namespace)))) {
            Ok(reply) if text(&reply.body["status"]["phase"]) == "Terminating" => {
                let text = format!("{namespace} is being deleted");
                say(Finding::bad("namespace", text, format!("kubectl get namespace {namespace} -o yaml says what it waits for")));
            }
            Ok(reply) => {
                let level = text(&reply.body["metadata"]["labels"]["pod-security.kubernetes.io/enforce"]);
                let level =
                    if level.is_empty() { "no pod security is enforced".to_owned() } else { format!("pod security {level} is enforced") };
                say(Finding::good("namespace", format!("{namespace} is there; {level}")));
            }
            Err(error) if error.is_not_found() => {
                say(Finding::bad("namespace", format!("{namespace} is not there"), format!("kubectl create namespace {namespace}")));
            }
            Err(error) => say(unseen("namespace", &error, &format!("kubectl get namespace {namespace}"))),
        }
    }

    /// Whether pods may be created.
    fn ask_for_rights(&self, user: &str, say: Say<'_>) -> bool {
        let namespace = &self.namespace;
        let mut may_create = true;
        for (resource, verbs, lost) in RIGHTS {
            let mut missing = Vec::new();
            for verb in verbs {
                match self.client.ask(&Request::access_review(namespace, verb, resource)) {
                    Ok(reply) if reply.body["status"]["allowed"] == true => {}
                    Ok(_) => missing.push(*verb),
                    Err(error) => {
                        say(unseen("rights", &error, &format!("kubectl auth can-i --list -n {namespace} --as {user}")));
                        return true;
                    }
                }
            }
            if missing.is_empty() {
                say(Finding::good("rights", format!("on {resource} in {namespace}: {}", verbs.join(", "))));
                continue;
            }
            may_create &= !(resource == "pods" && missing.contains(&"create"));
            let name = format!("mso-{}", resource.replace('/', "-"));
            let remedy = format!(
                "kubectl -n {namespace} create role {name} --verb={} --resource={resource}\n\
                 kubectl -n {namespace} create rolebinding {name} --role={name} --user={user}",
                missing.join(",")
            );
            let text = format!("{user} may not {} {resource} in {namespace}", missing.join(", "));
            say(match lost {
                None => Finding::bad("rights", text, remedy),
                Some(lost) => Finding::warning("rights", format!("{text}: {lost}"), remedy),
            });
        }
        may_create
    }

    fn look_for_nodes(&self, say: Say<'_>) {
        let (label, value) = NODE_LABEL;
        let path = format!("/api/v1/nodes?labelSelector={}", percent_encoded(&format!("{label}={value}")));
        let nodes = match self.client.ask(&Request::get(path)) {
            Ok(reply) => items(&reply.body),
            Err(error) => return say(unseen("nodes", &error, &format!("kubectl get nodes -l {label}={value}"))),
        };
        let is_ready = |node: &Value| {
            let conditions = node["status"]["conditions"].as_array();
            conditions.is_some_and(|conditions| conditions.iter().any(|it| it["type"] == "Ready" && it["status"] == "True"))
        };
        let takes_pods = |node: &&Value| is_ready(node) && node["spec"]["unschedulable"] != true;
        let usable = nodes.iter().filter(takes_pods).count();
        say(match (nodes.len(), usable) {
            (0, _) => {
                let text = format!("none has the label {label}={value}: no model can be scheduled");
                Finding::bad("nodes", text, format!("kubectl label node NODE {label}={value}"))
            }
            (all, 0) => {
                let text = format!("of {all} with the label {label}={value} none is ready and schedulable");
                Finding::bad("nodes", text, "kubectl get nodes; kubectl uncordon NODE")
            }
            (all, usable) => Finding::good("nodes", format!("{usable} of {all} with the label {label}={value} take pods")),
        });
    }

    fn look_for_pull_secret(&self, say: Say<'_>) {
        let Some(name) = &self.config.pods.pull_secret else { return };
        let namespace = &self.namespace;
        let path = format!("/api/v1/namespaces/{}/secrets/{}", percent_encoded(namespace), percent_encoded(name));
        say(match self.client.ask(&Request::get(path)) {
            Ok(reply) if text(&reply.body["type"]).starts_with("kubernetes.io/dockerc") => {
                Finding::good("pull secret", format!("{name} is there"))
            }
            Ok(reply) => {
                let text =
                    format!("{name} is of type {}, and images are pulled with kubernetes.io/dockerconfigjson", text(&reply.body["type"]));
                Finding::bad("pull secret", text, format!("kubectl -n {namespace} create secret docker-registry {name} …"))
            }
            Err(error) if error.is_not_found() => {
                let text = format!("{name} is not there: images of a private registry cannot be pulled");
                Finding::bad("pull secret", text, format!("kubectl -n {namespace} create secret docker-registry {name} …"))
            }
            Err(error) => unseen("pull secret", &error, &format!("kubectl -n {namespace} get secret {name}")),
        });
    }

    fn look_at_quotas(&self, say: Say<'_>) {
        let namespace = &self.namespace;
        let quotas = match self.client.ask(&Request::get(format!("/api/v1/namespaces/{}/resourcequotas", percent_encoded(namespace)))) {
            Ok(reply) => items(&reply.body),
            Err(error) => return say(unseen("quota", &error, &format!("kubectl -n {namespace} describe resourcequota"))),
        };
        if quotas.is_empty() {
            return say(Finding::good("quota", format!("none in {namespace}")));
        }
        for quota in quotas {
            let name = text(&quota["metadata"]["name"]);
            let (hard, used) = (&quota["status"]["hard"], &quota["status"]["used"]);
            let resources: Vec<&String> = hard.as_object().into_iter().flat_map(|hard| hard.keys()).collect();
            let shown: Vec<String> =
                resources.iter().map(|resource| format!("{resource} {} of {}", text(&used[*resource]), text(&hard[*resource]))).collect();
            let shown = format!("{name}: {} used", shown.join(", "));
            // Written otherwise, or over the limit: the rehearsal finds it.
            let is_full = |resource: &&&String| is_of_pods(resource) && used[**resource] == hard[**resource];
            let full: Vec<&str> = resources.iter().filter(is_full).map(|resource| resource.as_str()).collect();
            say(if full.is_empty() {
                Finding::good("quota", shown)
            } else {
                let text = format!("{shown}: no more pods while {} is used up", full.join(" and "));
                Finding::warning("quota", text, format!("kubectl -n {namespace} edit resourcequota {name}"))
            });
        }
    }

    fn look_at_limit_ranges(&self, say: Say<'_>) {
        let namespace = &self.namespace;
        let ranges = match self.client.ask(&Request::get(format!("/api/v1/namespaces/{}/limitranges", percent_encoded(namespace)))) {
            Ok(reply) => items(&reply.body),
            Err(error) => return say(unseen("limit range", &error, &format!("kubectl -n {namespace} describe limitrange"))),
        };
        let names: Vec<String> = ranges.iter().map(|range| text(&range["metadata"]["name"])).collect();
        say(Finding::good("limit range", if names.is_empty() { format!("none in {namespace}") } else { names.join(", ") }));
    }

    /// A create that goes through all but its last step.
    fn rehearse(&self, say: Say<'_>) {
        let reply = self.client.ask(&Request::rehearsal(&sample(), &self.namespace, &self.config.pods));
        say(match reply {
            Ok(reply) if reply.warnings.is_empty() => Finding::good("a model's pod", "it would be admitted"),
            Ok(reply) => {
                let text = format!("it would be admitted, and the API server warns: {}", reply.warnings.join("; "));
                Finding::warning("a model's pod", text, "see what it warns of")
            }
            Err(error) => {
                let text = format!("it would be refused: {error}");
                Finding::bad("a model's pod", text, remedy_of_refusal(&error.to_string(), &self.namespace))
            }
        });
    }
}

fn say_clock(reply: &Reply, say: Say<'_>) {
    let Some(theirs) = reply.server_time else { return };
    let skew = clock::now().unix.seconds_since(theirs);
    say(if skew.abs() > CLOCK_SKEW_SECONDS {
        let text = format!("this machine's differs from the API server's by {skew:.0} s: dates in logs mislead");
        Finding::warning("clock", text, "timedatectl; a time service on both machines")
    } else {
        Finding::good("clock", "it agrees with the API server's")
    });
}

/// What a model's pod takes of a quota.
fn is_of_pods(resource: &str) -> bool {
    ["pods", "count/pods", "cpu", "memory"].contains(&resource) || resource.starts_with("requests.") || resource.starts_with("limits.")
}

/// In the words of Kubernetes' admission plugins.
fn remedy_of_refusal(error: &str, namespace: &str) -> String {
    if error.contains("exceeded quota") {
        format!("wait until others end, or kubectl -n {namespace} edit resourcequota")
    } else if error.contains("failed quota") {
        format!("a LimitRange with defaults for what the quota demands: kubectl -n {namespace} describe resourcequota")
    } else if error.contains("violates PodSecurity") {
        format!("kubectl label --overwrite namespace {namespace} pod-security.kubernetes.io/enforce=baseline")
    } else if error.contains("webhook") {
        "kubectl get validatingwebhookconfigurations,mutatingwebhookconfigurations".to_owned()
    } else {
        "what the API server says is to be mended".to_owned()
    }
}

/// Nobody's model.
fn sample() -> NewPod {
    let name = "mso-check";
    NewPod {
        name: PodName::new(name).expect("it is a DNS label"),
        simulator: SimulatorId::new(name).expect("it is a label value"),
        simulation: SimulationId::new(name).expect("it is a label value"),
        model: ModelId::new(name).expect("it is a label value"),
        number: 0,
        deploy: DeployId::new(&"0".repeat(16)).expect("it has 16 hex digits"),
        models: 1,
        keep_logs_hours: 0.0,
        is_recorded: true,
        image: "mso-check".to_owned(),
        variables: Vec::new(),
    }
}

/// What we may not read says nothing of whether it is right.
fn unseen(subject: &'static str, error: &Error, command: &str) -> Finding {
    let why = if error.code() == Some(403) { "we may not read it".to_owned() } else { error.to_string() };
    Finding::warning(subject, format!("not checked: {why}"), format!("as an administrator: {command}"))
}

fn items(list: &Value) -> Vec<Value> {
    list["items"].as_array().cloned().unwrap_or_default()
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}
