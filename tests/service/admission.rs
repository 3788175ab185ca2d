//! What stands between a create and its pod: admission policies and webhooks, each for the test's own namespace.

use serde_json::{Value, json};

use super::failures::{KUBELET_TRIES_TWICE, assert_names, fails_without_code};
use crate::support::manifests::{ADMISSION_API, ClusterWide, creates_of_pods};
use crate::support::stage::Stage;
use crate::support::webhook::{self, Webhook};
use crate::support::{Ground, eventually};

#[test]
#[ignore = "only on the real ground: devkit's cluster has no admission policies"]
fn an_admission_policy_that_denies_is_told_at_once() {
    let stage = Stage::on(Ground::Real);
    let _mso = stage.start_mso();
    let name = format!("deny-{}", stage.namespace.name);
    let validations = json!([{"expression": "false", "message": "no models on Tuesdays"}]);
    let policy = json!({"matchConstraints": {"resourceRules": creates_of_pods(), "namespaceSelector": stage.namespace.selector()}, "validations": validations});
    let _policy = ClusterWide::new(vec![
        json!({"apiVersion": ADMISSION_API, "kind": "ValidatingAdmissionPolicy", "metadata": {"name": name}, "spec": policy}),
        json!({
            "apiVersion": ADMISSION_API, "kind": "ValidatingAdmissionPolicyBinding", "metadata": {"name": name},
            "spec": {"policyName": name, "validationActions": ["Deny"]},
        }),
    ]);
    stage.namespace.wait_until_pods_are_denied();
    let simulation = stage.simulation();
    simulation.deploy(0.0, &["model-0"]);
    let (reason, message) = fails_without_code(&simulation);
    assert_names(&format!("{reason}: {message}"), &["no models on Tuesdays", "what the cluster admits"]);
}

const WEBHOOK: &str = "does-not-answer.test.dots";

/// At an address that is nobody's: <https://datatracker.ietf.org/doc/html/rfc5737>.
fn webhook_that_does_not_answer(stage: &Stage) -> ClusterWide {
    let webhook = ClusterWide::new(vec![json!({
        "apiVersion": ADMISSION_API, "kind": "ValidatingWebhookConfiguration", "metadata": {"name": format!("silent-{}", stage.namespace.name)},
        "webhooks": [{
            "name": WEBHOOK, "clientConfig": {"url": "https://192.0.2.1/"}, "timeoutSeconds": 1, "failurePolicy": "Fail",
            "rules": creates_of_pods(), "namespaceSelector": stage.namespace.selector(), "sideEffects": "None", "admissionReviewVersions": ["v1"],
        }],
    })]);
    stage.namespace.wait_until_pods_are_denied();
    webhook
}

#[test]
#[ignore = "only on the real ground: devkit's cluster calls no webhooks"]
fn a_webhook_that_does_not_answer_fails_in_time_the_models_whose_pods_it_holds_up_and_is_named() {
    let stage = Stage::on(Ground::Real);
    let mso = stage.start_mso_with("API_TIMEOUT", "4");
    let _webhook = webhook_that_does_not_answer(&stage);
    let simulation = stage.simulation();
    simulation.deploy(0.0, &["model-0"]);
    let (reason, message) = fails_without_code(&simulation);
    assert_eq!(reason, "ApiUnavailable");
    assert_names(&message, &["failed calling webhook", WEBHOOK]);
    mso.line("Creates of pods wait, ApiUnavailable: ");
}

#[test]
#[ignore = "only on the real ground: devkit's cluster calls no webhooks"]
fn a_webhook_that_is_mended_in_time_costs_no_model() {
    let stage = Stage::on(Ground::Real);
    let mso = stage.start_mso();
    let webhook = webhook_that_does_not_answer(&stage);
    let simulation = stage.simulation();
    simulation.deploy(0.0, &["model-0"]);
    assert_names(&mso.line("Creates of pods wait, ApiUnavailable: "), &[WEBHOOK]);
    drop(webhook);
    simulation.hear("ModelsReady");
    simulation.end_models(&["model-0"]);
    simulation.hear("AllModelsHaveTerminated");
    assert_eq!(simulation.heard(), ["ModelsReady", "model-0/ModelHasTerminated", "AllModelsHaveTerminated"]);
}

/// A fake model beside a model, or before it.
fn injected(stage: &Stage, variables: &[(&str, &str)]) -> Value {
    let port = stage.broker.pod_port.to_string();
    let connection = [("MQTT_HOST", stage.broker.pod_host.as_str()), ("MQTT_PORT", &port), ("SIMULATION_ID", "-"), ("MODEL_ID", "mesh")];
    let env: Vec<Value> = connection.iter().chain(variables).map(|(name, value)| json!({"name": name, "value": value})).collect();
    json!({"name": "mesh", "image": stage.model_image(), "env": env})
}

#[test]
#[ignore = "only on the real ground: devkit's cluster calls no webhooks"]
fn an_injected_init_container_that_fails_fails_its_model_and_is_named() {
    let stage = Stage::on(Ground::Real);
    let _mso = stage.start_mso();
    let init = injected(&stage, &[("EXIT_AFTER_SECONDS", "0"), ("EXIT_CODE", "3")]);
    let _webhook = Webhook::that_patches(&stage.namespace, &json!([{"op": "add", "path": "/spec/initContainers", "value": [init]}]));
    let simulation = stage.simulation();
    simulation.deploy(0.0, &["model-0"]);
    simulation.hear("AllModelsHaveTerminated");
    assert_eq!(simulation.heard(), ["model-0/ModelHasTerminated 08 01 10 03", "model-0/ErrorOccurred", "AllModelsHaveTerminated"]);
    let (reason, message) = simulation.why("model-0");
    assert_eq!(reason, "InitContainerFailed");
    assert_names(&message, &["init container mesh ended with code 3: Error"]);
    assert_eq!(simulation.error(), format!("Simulation {} fails. {message}", simulation.id));
    stage.namespace.wait_until_gone(&simulation.pod_name("model-0"));
}

/// In front of the model's container.
fn inject_sidecar(stage: &Stage, variables: &[(&str, &str)]) -> Webhook {
    let patch = json!([{"op": "add", "path": "/spec/containers/0", "value": injected(stage, variables)}]);
    Webhook::that_patches(&stage.namespace, &patch)
}

#[test]
#[ignore = "only on the real ground: devkit's cluster calls no webhooks"]
fn an_injected_sidecar_that_goes_on_keeps_no_model_from_its_end_and_goes_with_its_pod() {
    let stage = Stage::on(Ground::Real);
    let _mso = stage.start_mso();
    let _webhook = inject_sidecar(&stage, &[("EXIT_AFTER_SECONDS", "100000")]);
    let simulation = stage.simulation();
    simulation.deploy(1.0, &["model-0", "model-1"]);
    simulation.hear("ModelsReady");
    simulation.end_models(&["model-0", "model-1"]);
    simulation.hear("AllModelsHaveTerminated");
    for model in ["model-0", "model-1"] {
        let pod = stage.namespace.pod(&simulation.pod_name(model)).expect("its log is kept");
        assert_eq!(pod["status"]["phase"], "Running");
        assert_eq!(pod["spec"]["containers"][0]["name"], "mesh");
    }
    let ends = ["model-0/ModelHasTerminated", "model-1/ModelHasTerminated"];
    assert_eq!(simulation.heard_sorted(), [&["AllModelsHaveTerminated", "ModelsReady"], &ends[..]].concat());
    stage.run_one_more();
}

#[test]
#[ignore = "only on the real ground: devkit's cluster calls no webhooks"]
fn an_injected_sidecar_that_fails_beside_a_running_model_fails_nothing() {
    let stage = Stage::on(Ground::Real);
    let _mso = stage.start_mso();
    let _webhook = inject_sidecar(&stage, &[("EXIT_AFTER_SECONDS", "0"), ("EXIT_CODE", "3")]);
    let simulation = stage.simulation();
    simulation.deploy(1.0, &["model-0"]);
    simulation.hear("ModelsReady");
    let name = simulation.pod_name("model-0");
    eventually("the sidecar's end", || {
        let statuses = stage.namespace.pod(&name)?["status"]["containerStatuses"].take();
        let sidecar = statuses.as_array()?.iter().find(|status| status["name"] == "mesh")?;
        (sidecar["state"]["terminated"]["exitCode"] == 3).then_some(())
    });
    simulation.end_models(&["model-0"]);
    simulation.hear("AllModelsHaveTerminated");
    assert_eq!(simulation.heard(), ["ModelsReady", "model-0/ModelHasTerminated", "AllModelsHaveTerminated"]);
    stage.namespace.wait_for_phase(&name, "Failed");
    stage.run_one_more();
}

#[test]
#[ignore = "only on the real ground: devkit's cluster calls no webhooks"]
fn a_webhook_that_denies_is_told_at_once_and_is_named() {
    let stage = Stage::on(Ground::Real);
    let _mso = stage.start_mso();
    let _webhook = Webhook::that_answers(&stage.namespace, json!({"allowed": false, "status": {"message": "no models on Wednesdays"}}));
    let simulation = stage.simulation();
    simulation.deploy(0.0, &["model-0"]);
    let (reason, message) = fails_without_code(&simulation);
    assert_eq!(reason, "PodAdmissionFailed");
    assert_names(&message, &[webhook::NAME, "no models on Wednesdays", "what the cluster admits"]);
}

#[test]
#[ignore = "only on the real ground: devkit's cluster calls no webhooks"]
fn a_config_map_that_the_cluster_refers_to_and_that_is_not_there_fails_the_model_in_time_and_is_named() {
    let stage = Stage::on(Ground::Real);
    let _mso = stage.start_mso_with("CONTAINER_CONFIG_TIMEOUT", KUBELET_TRIES_TWICE);
    let from = json!([{"configMapRef": {"name": "no-such-config-map"}}]);
    let _webhook = Webhook::that_patches(&stage.namespace, &json!([{"op": "add", "path": "/spec/containers/0/envFrom", "value": from}]));
    let simulation = stage.simulation();
    simulation.deploy(0.0, &["model-0"]);
    let (reason, message) = fails_without_code(&simulation);
    assert_eq!(reason, "CreateContainerConfigError");
    assert_names(&message, &["configmap \"no-such-config-map\" not found", "The events of its pod say more"]);
}
