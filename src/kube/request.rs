//! Each call as data: what is sent. Pure: nothing here knows of connections.
//!
//! The pod that is created here is the contract with everyone who looks at pods; its tests show it whole.

use std::io::{self, Read};

use serde_json::{Value, json};
use ureq::http::Method;

use super::pod::{
    DEPLOY_ANNOTATION, MODELS_ANNOTATION, MODELS_READY_ANNOTATION, NODE_LABEL, NUMBER_ANNOTATION, NewPod, SIMULATOR_LABEL,
    STOP_DEADLINE_SECONDS,
};
use crate::config::PodSettings;
use crate::ids::{PodName, SimulatorName, Uid};
use crate::kube::record::{self, ModelsReady};
use crate::orchestrator::event::{PodCall, RecordCall};

/// What people read when a model failed.
const LOG_LINES: u32 = 30;

/// Of those lines, what a log can carry. A line may be of any length, and its end says more than its beginning.
const LOG_TAIL_BYTES: usize = 64 * 1024;

const GOOGLE_VOLUME: &str = "google-credentials";
const GOOGLE_FOLDER: &str = "/run/secrets/gcp/";

/// Without `Debug`: a body holds values that no log may show.
pub struct Request {
    pub method: Method,
    /// With its query.
    pub path: String,
    pub body: Option<Body>,
}

pub struct Body {
    pub content_type: &'static str,
    pub bytes: Vec<u8>,
}

impl Request {
    pub fn of(call: &PodCall, namespace: &str, settings: &PodSettings) -> Self {
        let path = format!("{}/{}", pods(namespace), call.pod());
        match call {
            PodCall::Create(pod) => Self {
                method: Method::POST,
                path: format!("{}?fieldValidation=Warn", pods(namespace)),
                body: Some(Body::json(&manifest(pod, settings))),
            },
            PodCall::Get(_) => Self { method: Method::GET, path, body: None },
            PodCall::Label { pod, uid } => {
                let patch = json!({"metadata": {"uid": uid.as_str(), "labels": labels(pod, settings)}});
                Self { method: Method::PATCH, path, body: Some(Body::merge_patch(&patch)) }
            }
            PodCall::SetDeleteBy { uid, delete_by, .. } => {
                let labels = json!({"delete_by_datetime": python_float(delete_by.0)});
                let patch = json!({"metadata": {"uid": uid.as_str(), "labels": labels}});
                Self { method: Method::PATCH, path, body: Some(Body::merge_patch(&patch)) }
            }
            PodCall::Mark { uid, models_ready, models, .. } => {
                let annotations = json!({MODELS_READY_ANNOTATION: models_ready.as_str(), MODELS_ANNOTATION: models.to_string()});
                let patch = json!({"metadata": {"uid": uid.as_str(), "annotations": annotations}});
                Self { method: Method::PATCH, path, body: Some(Body::merge_patch(&patch)) }
            }
            PodCall::Stop { uid, .. } => {
                let patch = json!({"metadata": {"uid": uid.as_str()}, "spec": {"activeDeadlineSeconds": STOP_DEADLINE_SECONDS}});
                Self { method: Method::PATCH, path, body: Some(Body::merge_patch(&patch)) }
            }
            PodCall::Delete { uid, .. } => Self { method: Method::DELETE, path, body: Some(Body::deletion(uid)) },
        }
    }

    pub fn of_record(call: &RecordCall, namespace: &str, simulator: &SimulatorName) -> Self {
        let path = |name| format!("{}/{name}", config_maps(namespace));
        match call {
            RecordCall::Create(record) => {
                Self { method: Method::POST, path: config_maps(namespace), body: Some(Body::json(&record.manifest(simulator))) }
            }
            RecordCall::Get(name) => Self { method: Method::GET, path: path(name), body: None },
            RecordCall::Update { name, version, text } => {
                Self { method: Method::PATCH, path: path(name), body: Some(Body::merge_patch(&record::update(version, text))) }
            }
            RecordCall::Delete { name, uid } => Self { method: Method::DELETE, path: path(name), body: Some(Body::deletion(uid)) },
        }
    }

    pub fn log(namespace: &str, pod: &PodName, container: &str) -> Self {
        // No `limitBytes`: it cuts the end off.
        let path = format!("{}/{pod}/log?container={}&tailLines={LOG_LINES}", pods(namespace), percent_encoded(container));
        Self { method: Method::GET, path, body: None }
    }

    /// One page of all records of ours.
    pub fn list_records(namespace: &str, simulator: &SimulatorName, limit: usize, next: &str) -> Self {
        let path = format!("{}?{}&limit={limit}&continue={}", config_maps(namespace), selector(simulator), percent_encoded(next));
        Self { method: Method::GET, path, body: None }
    }

    /// One page of the events about a pod: this very one, or, without a uid, each that had the name.
    pub fn list_events(namespace: &str, pod: &PodName, uid: &str, limit: usize, next: &str) -> Self {
        let of_uid = if uid.is_empty() { String::new() } else { format!(",involvedObject.uid={uid}") };
        let selector = percent_encoded(&format!("involvedObject.kind=Pod,involvedObject.name={pod}{of_uid}"));
        let next = percent_encoded(next);
        let path =
            format!("/api/v1/namespaces/{}/events?fieldSelector={selector}&limit={limit}&continue={next}", percent_encoded(namespace));
        Self { method: Method::GET, path, body: None }
    }

    /// One page of our pods, or, without a limit, all of them. No `resourceVersion`: the most recent state, never an older one from a
    /// cache. <https://kubernetes.io/docs/reference/using-api/api-concepts/#retrieving-large-results-sets-in-chunks>
    pub fn list(namespace: &str, simulator: &SimulatorName, limit: Option<usize>, next: &str) -> Self {
        let mut path = format!("{}?{}", pods(namespace), selector(simulator));
        if let Some(limit) = limit {
            path += &format!("&limit={limit}");
        }
        if !next.is_empty() {
            path += &format!("&continue={}", percent_encoded(next));
        }
        Self { method: Method::GET, path, body: None }
    }

    pub fn watch(namespace: &str, simulator: &SimulatorName, resource_version: &str, timeout_seconds: u32) -> Self {
        let (pods, selector, version) = (pods(namespace), selector(simulator), percent_encoded(resource_version));
        let path =
            format!("{pods}?watch=true&allowWatchBookmarks=true&{selector}&resourceVersion={version}&timeoutSeconds={timeout_seconds}");
        Self { method: Method::GET, path, body: None }
    }
}

/// What `mso check` asks. None of it changes anything.
impl Request {
    pub fn get(path: String) -> Self {
        Self { method: Method::GET, path, body: None }
    }

    /// Who we are.
    pub fn self_review() -> Self {
        let review = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"});
        let path = "/apis/authentication.k8s.io/v1/selfsubjectreviews".to_owned();
        Self { method: Method::POST, path, body: Some(Body::json(&review)) }
    }

    /// Whether we may do this in the namespace.
    pub fn access_review(namespace: &str, verb: &str, resource: &str) -> Self {
        let (resource, subresource) = resource.split_once('/').unwrap_or((resource, ""));
        let review = json!({
            "apiVersion": "authorization.k8s.io/v1",
            "kind": "SelfSubjectAccessReview",
            "spec": {
                "resourceAttributes": {"namespace": namespace, "verb": verb, "resource": resource, "subresource": subresource},
            },
        });
        let path = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews".to_owned();
        Self { method: Method::POST, path, body: Some(Body::json(&review)) }
    }

    /// All that a create goes through but the last step.
    /// <https://kubernetes.io/docs/reference/using-api/api-concepts/#dry-run>
    pub fn rehearsal(pod: &NewPod, namespace: &str, settings: &PodSettings) -> Self {
        let path = format!("{}?dryRun=All", pods(namespace));
        Self { method: Method::POST, path, body: Some(Body::json(&manifest(pod, settings))) }
    }
}

impl Body {
    fn json(value: &Value) -> Self {
        Self { content_type: "application/json", bytes: value.to_string().into_bytes() }
    }

    /// Of this very object.
    fn deletion(uid: &Uid) -> Self {
        Self::json(&json!({"preconditions": {"uid": uid.as_str()}, "propagationPolicy": "Background"}))
    }

    /// <https://kubernetes.io/docs/reference/using-api/api-concepts/#patch-and-apply>
    fn merge_patch(value: &Value) -> Self {
        Self { content_type: "application/merge-patch+json", bytes: value.to_string().into_bytes() }
    }
}

fn pods(namespace: &str) -> String {
    format!("/api/v1/namespaces/{}/pods", percent_encoded(namespace))
}

fn config_maps(namespace: &str) -> String {
    format!("/api/v1/namespaces/{}/configmaps", percent_encoded(namespace))
}

fn selector(simulator: &SimulatorName) -> String {
    format!("labelSelector={}", percent_encoded(&format!("{SIMULATOR_LABEL}={simulator}")))
}

fn manifest(pod: &NewPod, settings: &PodSettings) -> Value {
    let mut container = json!({
        "name": pod.name.as_str(),
        "image": pod.image,
        "imagePullPolicy": settings.pull_policy.as_str(),
        "env": variables(pod, settings),
        "terminationMessagePolicy": "FallbackToLogsOnError",
    });
    let mut spec = json!({
        "restartPolicy": "Never",
        "nodeSelector": {NODE_LABEL.0: NODE_LABEL.1},
        "automountServiceAccountToken": false,
        "enableServiceLinks": false,
    });
    if let Some(secret) = &settings.pull_secret {
        spec["imagePullSecrets"] = json!([{"name": secret}]);
    }
    if let Some(secret) = &settings.google_secret {
        spec["volumes"] = json!([{"name": GOOGLE_VOLUME, "secret": {"secretName": secret}}]);
        container["volumeMounts"] = json!([{"name": GOOGLE_VOLUME, "mountPath": GOOGLE_FOLDER, "readOnly": true}]);
    }
    spec["containers"] = json!([container]);
    let mut annotations = json!({
        DEPLOY_ANNOTATION: pod.deploy.as_str(),
        MODELS_ANNOTATION: pod.models.to_string(),
        NUMBER_ANNOTATION: pod.number.to_string(),
    });
    if !pod.is_recorded {
        annotations[MODELS_READY_ANNOTATION] = json!(ModelsReady::No.as_str());
    }
    json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": pod.name.as_str(),
            "labels": labels(pod, settings),
            "annotations": annotations,
        },
        "spec": spec,
    })
}

fn labels(pod: &NewPod, settings: &PodSettings) -> Value {
    json!({
        SIMULATOR_LABEL: settings.simulator.as_str(),
        "simulator_id": pod.simulator.as_str(),
        "simulation_id": pod.simulation.as_str(),
        "model_id": pod.model.as_str(),
        "keep_logs_hours": python_float(pod.keep_logs_hours),
    })
}

/// The message's pairs in order, then what our settings add. Where both have a name, the message's value stands: it was asked for.
fn variables(pod: &NewPod, settings: &PodSettings) -> Vec<Value> {
    let mut variables: Vec<Value> =
        pod.variables.iter().map(|variable| json!({"name": variable.name, "value": variable.value.reveal()})).collect();
    let mut add = |name: &str, key: &str, value: Value| {
        if pod.variables.iter().all(|variable| variable.name != name) {
            variables.push(json!({"name": name, key: value}));
        }
    };
    if settings.google_secret.is_some() {
        let file = format!("{GOOGLE_FOLDER}application_default_credentials.json");
        add("GOOGLE_APPLICATION_CREDENTIALS", "value", file.into());
    }
    if let Some(secret) = &settings.aws_secret {
        for name in ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_DEFAULT_REGION"] {
            add(name, "valueFrom", json!({"secretKeyRef": {"name": secret, "key": name.to_ascii_lowercase()}}));
        }
    }
    variables
}

/// As Python prints a float: the shortest digits that read back the same, with an exponent below 1e-4 and from 1e16 on.
/// A label value has to begin with a letter or digit, so -0.0 prints as 0.0.
fn python_float(value: f64) -> String {
    let value = if value == 0.0 { 0.0 } else { value };
    let scientific = format!("{value:e}");
    match scientific.split_once('e').map(|(mantissa, exponent)| (mantissa, exponent.parse::<i32>())) {
        Some((mantissa, Ok(exponent))) if !(-4..16).contains(&exponent) => {
            let sign = if exponent < 0 { '-' } else { '+' };
            format!("{mantissa}e{sign}{:02}", exponent.unsigned_abs())
        }
        _ if value.is_finite() && value.fract() == 0.0 => format!("{value}.0"),
        _ => value.to_string(),
    }
}

/// All but what RFC 3986 calls unreserved.
pub fn percent_encoded(text: &str) -> String {
    text.bytes().fold(String::with_capacity(text.len()), |mut encoded, byte| {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            encoded += &format!("%{byte:02X}");
        }
        encoded
    })
}

/// A log read to its end: the last of it, safe to print. Never more than twice [`LOG_TAIL_BYTES`] are held.
///
/// # Errors
/// The log broke off, so that what was read is not its end.
pub(crate) fn log_tail(mut log: impl Read) -> io::Result<String> {
    let mut chunk = [0; 16 * 1024];
    let mut kept = Vec::new();
    let mut cut = false;
    loop {
        match log.read(&mut chunk)? {
            0 => return Ok(printable(&kept, cut)),
            count => kept.extend_from_slice(&chunk[..count]),
        }
        if kept.len() > LOG_TAIL_BYTES {
            kept.drain(..kept.len() - LOG_TAIL_BYTES);
            cut = true;
        }
    }
}

fn printable(mut bytes: &[u8], cut: bool) -> String {
    let is_inside_char = |byte: &u8| byte & 0b1100_0000 == 0b1000_0000;
    if cut {
        let begun = bytes.iter().take(3).take_while(|byte| is_inside_char(byte)).count();
        bytes = &bytes[begun..];
    }
    let text = String::from_utf8_lossy(bytes);
    text.trim_end_matches(['\n', '\r']).chars().fold(String::with_capacity(text.len()), |mut safe, char| {
        match char {
            '\n' | '\t' => safe.push(char),
            char if char.is_control() => safe.extend(char.escape_default()),
            char => safe.push(char),
        }
        safe
    })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::clock::UnixTime;
    use crate::config::PullPolicy;
    use crate::ids::{DeployId, ModelId, RecordName, SimulationId, SimulatorId};
    use crate::kube::pod::Variable;
    use crate::orchestrator::event::Question;
    use crate::secret::Secret;

    fn settings() -> PodSettings {
        PodSettings::new(SimulatorName::new("dots-so").unwrap())
    }

    fn new_pod(variables: &[(&str, &str)]) -> NewPod {
        let variable = |&(name, value): &(&str, &str)| Variable { name: name.to_owned(), value: Secret::new(value) };
        NewPod {
            name: name(),
            simulator: SimulatorId::new("SO").unwrap(),
            simulation: SimulationId::new("Sim-1").unwrap(),
            model: ModelId::new("M1").unwrap(),
            number: 1,
            deploy: DeployId::new("0123456789abcdef").unwrap(),
            models: 3,
            keep_logs_hours: 24.0,
            is_recorded: true,
            image: "registry/model:1".to_owned(),
            variables: variables.iter().map(variable).collect(),
        }
    }

    fn name() -> PodName {
        PodName::new("so-sim-1-m1").unwrap()
    }

    fn uid() -> Uid {
        Uid::new("a-uid").unwrap()
    }

    #[track_caller]
    fn assert_request(call: PodCall, settings: &PodSettings, expected: &str) {
        assert_eq!(shown(&Request::of(&call, "dots", settings)), expected.trim());
    }

    fn shown(request: &Request) -> String {
        let mut text = format!("{} {}", request.method, request.path);
        if let Some(body) = &request.body {
            let value: Value = serde_json::from_slice(&body.bytes).unwrap();
            text += &format!("\n{}\n{}", body.content_type, serde_json::to_string_pretty(&value).unwrap());
        }
        text
    }

    #[test]
    fn a_model_becomes_a_pod_as_the_contract_says() {
        let expected = r#"
POST /api/v1/namespaces/dots/pods?fieldValidation=Warn
application/json
{
  "apiVersion": "v1",
  "kind": "Pod",
  "metadata": {
    "annotations": {
      "mso.dots/deploy": "0123456789abcdef",
      "mso.dots/models": "3",
      "mso.dots/number": "1"
    },
    "labels": {
      "keep_logs_hours": "24.0",
      "model_id": "M1",
      "mso.dots/simulator": "dots-so",
      "simulation_id": "Sim-1",
      "simulator_id": "SO"
    },
    "name": "so-sim-1-m1"
  },
  "spec": {
    "automountServiceAccountToken": false,
    "containers": [
      {
        "env": [
          {
            "name": "Z",
            "value": "1"
          },
          {
            "name": "A",
            "value": "say \"hello\""
          }
        ],
        "image": "registry/model:1",
        "imagePullPolicy": "Always",
        "name": "so-sim-1-m1",
        "terminationMessagePolicy": "FallbackToLogsOnError"
      }
    ],
    "enableServiceLinks": false,
    "nodeSelector": {
      "type": "worker"
    },
    "restartPolicy": "Never"
  }
}"#;
        assert_request(PodCall::Create(Arc::new(new_pod(&[("Z", "1"), ("A", "say \"hello\"")]))), &settings(), expected);
    }

    #[test]
    fn what_our_settings_add_comes_with_the_pod_and_yields_to_the_message() {
        let name = |text: &str| Some(text.to_owned());
        let settings = PodSettings {
            pull_policy: PullPolicy::IfNotPresent,
            pull_secret: name("pull"),
            google_secret: name("gcp"),
            aws_secret: name("aws"),
            ..settings()
        };
        let request = Request::of(&PodCall::Create(Arc::new(new_pod(&[("AWS_DEFAULT_REGION", "mine")]))), "dots", &settings);
        let body: Value = serde_json::from_slice(&request.body.unwrap().bytes).unwrap();
        assert_eq!(
            body["spec"],
            json!({
                "automountServiceAccountToken": false,
                "containers": [{
                    "env": [
                        {"name": "AWS_DEFAULT_REGION", "value": "mine"},
                        {"name": "GOOGLE_APPLICATION_CREDENTIALS", "value": "/run/secrets/gcp/application_default_credentials.json"},
                        {"name": "AWS_ACCESS_KEY_ID", "valueFrom": {"secretKeyRef": {"name": "aws", "key": "aws_access_key_id"}}},
                        {"name": "AWS_SECRET_ACCESS_KEY", "valueFrom": {"secretKeyRef": {"name": "aws", "key": "aws_secret_access_key"}}},
                    ],
                    "image": "registry/model:1",
                    "imagePullPolicy": "IfNotPresent",
                    "name": "so-sim-1-m1",
                    "terminationMessagePolicy": "FallbackToLogsOnError",
                    "volumeMounts": [{"name": "google-credentials", "mountPath": "/run/secrets/gcp/", "readOnly": true}],
                }],
                "enableServiceLinks": false,
                "imagePullSecrets": [{"name": "pull"}],
                "nodeSelector": {"type": "worker"},
                "restartPolicy": "Never",
                "volumes": [{"name": "google-credentials", "secret": {"secretName": "gcp"}}],
            })
        );
    }

    #[test]
    fn what_is_done_to_a_pod_names_this_very_object() {
        let new = new_pod(&[]);
        let question = Question { name: name(), simulation: new.simulation, model: new.model, uid: None };
        assert_request(PodCall::Get(question), &settings(), "GET /api/v1/namespaces/dots/pods/so-sim-1-m1");
        let expected = r#"
PATCH /api/v1/namespaces/dots/pods/so-sim-1-m1
application/merge-patch+json
{
  "metadata": {
    "labels": {
      "delete_by_datetime": "1657273230.082123"
    },
    "uid": "a-uid"
  }
}"#;
        assert_request(PodCall::SetDeleteBy { name: name(), uid: uid(), delete_by: UnixTime(1657273230.082123) }, &settings(), expected);
        let expected = r#"
PATCH /api/v1/namespaces/dots/pods/so-sim-1-m1
application/merge-patch+json
{
  "metadata": {
    "annotations": {
      "mso.dots/models": "3",
      "mso.dots/models-ready": "sent"
    },
    "uid": "a-uid"
  }
}"#;
        let simulation = SimulationId::new("Sim-1").unwrap();
        let mark = PodCall::Mark { name: name(), uid: uid(), simulation, models_ready: ModelsReady::Sent, models: 3 };
        assert_request(mark, &settings(), expected);
        let expected = r#"
PATCH /api/v1/namespaces/dots/pods/so-sim-1-m1
application/merge-patch+json
{
  "metadata": {
    "uid": "a-uid"
  },
  "spec": {
    "activeDeadlineSeconds": 1
  }
}"#;
        assert_request(PodCall::Stop { name: name(), uid: uid() }, &settings(), expected);
        let expected = r#"
PATCH /api/v1/namespaces/dots/pods/so-sim-1-m1
application/merge-patch+json
{
  "metadata": {
    "labels": {
      "keep_logs_hours": "24.0",
      "model_id": "M1",
      "mso.dots/simulator": "dots-so",
      "simulation_id": "Sim-1",
      "simulator_id": "SO"
    },
    "uid": "a-uid"
  }
}"#;
        assert_request(PodCall::Label { pod: Arc::new(new_pod(&[])), uid: uid() }, &settings(), expected);
        let expected = r#"
DELETE /api/v1/namespaces/dots/pods/so-sim-1-m1
application/json
{
  "preconditions": {
    "uid": "a-uid"
  },
  "propagationPolicy": "Background"
}"#;
        assert_request(PodCall::Delete { name: name(), uid: uid() }, &settings(), expected);
        let log = Request::log("dots", &name(), "a b");
        assert_eq!(log.path, "/api/v1/namespaces/dots/pods/so-sim-1-m1/log?container=a%20b&tailLines=30");
    }

    #[test]
    fn a_record_is_changed_only_as_the_version_that_is_known_and_deleted_only_as_the_object_that_is_known() {
        let record = RecordName::new("mso-5f3fb791ee13522e").unwrap();
        let call = |call| shown(&Request::of_record(&call, "dots", &SimulatorName::new("dots-so").unwrap()));
        let update = RecordCall::Update { name: record.clone(), version: "7".to_owned(), text: "{}".to_owned() };
        let expected = r#"
PATCH /api/v1/namespaces/dots/configmaps/mso-5f3fb791ee13522e
application/merge-patch+json
{
  "data": {
    "progress": "{}"
  },
  "metadata": {
    "resourceVersion": "7"
  }
}"#;
        assert_eq!(call(update), expected.trim());
        let expected = r#"
DELETE /api/v1/namespaces/dots/configmaps/mso-5f3fb791ee13522e
application/json
{
  "preconditions": {
    "uid": "a-uid"
  },
  "propagationPolicy": "Background"
}"#;
        assert_eq!(call(RecordCall::Delete { name: record.clone(), uid: uid() }), expected.trim());
        assert_eq!(call(RecordCall::Get(record)), "GET /api/v1/namespaces/dots/configmaps/mso-5f3fb791ee13522e");
    }

    #[test]
    fn events_are_those_of_one_pod_or_of_all_that_had_its_name() {
        let of_name = "/api/v1/namespaces/dots/events?fieldSelector=involvedObject.kind%3DPod%2CinvolvedObject.name%3Dso-sim-1-m1";
        let by_name = Request::list_events("dots", &name(), "", 500, "");
        assert_eq!(by_name.path, format!("{of_name}&limit=500&continue="));
        let by_uid = Request::list_events("dots", &name(), "a-uid", 500, "more/");
        assert_eq!(by_uid.path, format!("{of_name}%2CinvolvedObject.uid%3Da-uid&limit=500&continue=more%2F"));
    }

    #[test]
    fn lists_and_watches_select_by_our_mark() {
        let simulator = SimulatorName::new("dots-so").unwrap();
        let path = |request: Request| request.path;
        assert_eq!(
            path(Request::list("dots", &simulator, Some(500), "")),
            "/api/v1/namespaces/dots/pods?labelSelector=mso.dots%2Fsimulator%3Ddots-so&limit=500"
        );
        assert_eq!(
            path(Request::list("dots", &simulator, Some(500), "a+/=")),
            "/api/v1/namespaces/dots/pods?labelSelector=mso.dots%2Fsimulator%3Ddots-so&limit=500&continue=a%2B%2F%3D"
        );
        let nameless = SimulatorName::new("").unwrap();
        assert_eq!(
            path(Request::list("d/ts", &nameless, None, "")),
            "/api/v1/namespaces/d%2Fts/pods?labelSelector=mso.dots%2Fsimulator%3D"
        );
        assert_eq!(
            path(Request::watch("dots", &simulator, "77", 290)),
            "/api/v1/namespaces/dots/pods?watch=true&allowWatchBookmarks=true&labelSelector=mso.dots%2Fsimulator%3Ddots-so\
             &resourceVersion=77&timeoutSeconds=290"
        );
    }

    #[test]
    fn a_float_prints_as_python_prints_it() {
        // Each pair is what python3 prints.
        let cases: &[(f64, &str)] = &[
            (24.0, "24.0"),
            (0.0, "0.0"),
            (-0.0, "0.0"),
            (0.01, "0.01"),
            (0.1 + 0.2, "0.30000000000000004"),
            (1.0 / 3.0, "0.3333333333333333"),
            (1e-4, "0.0001"),
            (0.00012345, "0.00012345"),
            (5e-5, "5e-05"),
            (1e-5, "1e-05"),
            (1.5e-5, "1.5e-05"),
            (5e-324, "5e-324"),
            (1e-100, "1e-100"),
            (87_600.0, "87600.0"),
            (1657273230.0, "1657273230.0"),
            (1657273230.082123, "1657273230.082123"),
            (123456789012345680.0, "1.2345678901234568e+17"),
            (1e16, "1e+16"),
            (9999999999999998.0, "9999999999999998.0"),
        ];
        for (value, expected) in cases {
            assert_eq!(python_float(*value), *expected);
        }
    }

    #[test]
    fn the_end_of_a_log_is_kept_and_safe_to_print() {
        let tail = |log: &[u8]| log_tail(log).unwrap();
        assert_eq!(tail(b""), "");
        assert_eq!(tail(b"one\ntwo\tthree\n"), "one\ntwo\tthree");
        assert_eq!(tail(b"windows\r\n"), "windows");
        assert_eq!(tail(b"red \x1b[31m, a bell \x07, back\rspace"), "red \\u{1b}[31m, a bell \\u{7}, back\\rspace");
        assert_eq!(tail(b"not UTF-8: \xff."), "not UTF-8: \u{fffd}.");
        assert_eq!(tail("wärme\n".as_bytes()), "wärme");
    }

    #[test]
    fn of_ten_megabytes_of_one_line_the_end_is_kept_and_cut_between_characters() {
        let line = "ä€🌡".repeat(10 * 1024 * 1024 / 9) + "THE END\n";
        let tail = log_tail(line.as_bytes()).unwrap();
        assert!(tail.ends_with("🌡THE END") && tail.len() <= LOG_TAIL_BYTES && tail.len() > LOG_TAIL_BYTES - 10);
        assert!(!tail.contains('\u{fffd}'));
    }

    #[test]
    fn a_log_that_breaks_off_has_no_end_to_show() {
        struct BreaksOff(usize);
        impl Read for BreaksOff {
            fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
                self.0 = self.0.checked_sub(1).ok_or(io::ErrorKind::UnexpectedEof)?;
                buffer.fill(b'x');
                Ok(buffer.len())
            }
        }
        assert!(log_tail(BreaksOff(10)).is_err());
    }
}
