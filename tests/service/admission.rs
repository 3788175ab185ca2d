//! What stands between a create and its pod: admission policies and webhooks, each for the test's own namespace.

use serde_json::{Value, json};

use super::failures::{assert_names, fails_without_code};
use crate::support::Ground;
use crate::support::manifests::ClusterWide;
use crate::support::stage::Stage;

const API_VERSION: &str = "admissionregistration.k8s.io/v1";

fn creates_of_pods() -> Value {
    json!([{"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["pods"]}])
}

fn only_in(stage: &Stage) -> Value {
    json!({"matchLabels": {"kubernetes.io/metadata.name": stage.namespace.name}})
}

#[test]
#[ignore = "only on the real ground: devkit's cluster has no admission policies"]
fn an_admission_policy_that_denies_is_told_at_once() {
    let stage = Stage::on(Ground::Real);
    let _mso = stage.start_mso();
    let name = format!("deny-{}", stage.namespace.name);
    let validations = json!([{"expression": "false", "message": "no models on Tuesdays"}]);
    let policy =
        json!({"matchConstraints": {"resourceRules": creates_of_pods(), "namespaceSelector": only_in(&stage)}, "validations": validations});
    let _policy = ClusterWide::new(vec![
        json!({"apiVersion": API_VERSION, "kind": "ValidatingAdmissionPolicy", "metadata": {"name": name}, "spec": policy}),
        json!({
            "apiVersion": API_VERSION, "kind": "ValidatingAdmissionPolicyBinding", "metadata": {"name": name},
            "spec": {"policyName": name, "validationActions": ["Deny"]},
        }),
    ]);
    stage.namespace.wait_until_pods_are_denied();
    let simulation = stage.simulation();
    simulation.deploy(0.0, &["model-0"]);
    let (reason, message) = fails_without_code(&simulation);
    assert_names(&format!("{reason}: {message}"), &["no models on Tuesdays", "what the cluster admits"]);
}
