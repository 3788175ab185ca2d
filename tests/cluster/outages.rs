//! The broker, the token and the certificate fail; what would take the cluster down stands in tests/outage.rs.

use std::time::Duration;

use crate::support::broker::Broker;
use crate::support::cluster::{api_address, kubectl};
use crate::support::eventually;
use crate::support::service::{BROKER_AWAY, SUBSCRIBED, Service};
use crate::support::stage::Stage;

/// A CA that has signed nothing.
const ANOTHER_CA: &str = include_str!("../support/another-ca.crt");

#[test]
#[ignore = "needs a Kubernetes cluster (KUBECONFIG, kubectl), mosquitto and the fake model's image: see README"]
fn the_broker_is_killed_while_models_run_and_while_one_ends() {
    let stage = Stage::on(Broker::own());
    let mso = stage.start_mso();
    let simulation = stage.simulation();
    let ends_alone = simulation.model("model-0", &[("EXIT_AFTER_SECONDS", "25"), ("EXIT_CODE", "4")]);
    simulation.send(&simulation.request(0.0, vec![ends_alone, simulation.model("model-1", &[])]));
    simulation.hear("ModelsReady");
    // What came before these messages was acknowledged, and is not sent again.
    stage.run_one_more();
    stage.broker.kill();
    mso.line(&format!("Model {}/model-0 has terminated. Send out ModelHasTerminated.", simulation.id));
    stage.broker.start();
    simulation.hear("model-0/ModelHasTerminated 08 01 10 04");
    // The model has a clean session, and may not be back yet.
    eventually("the end of model-1", || {
        simulation.end_models(&["model-1"]);
        simulation.heard().iter().any(|message| message == "model-1/ModelHasTerminated").then_some(())
    });
    simulation.hear("AllModelsHaveTerminated");
    assert_eq!(
        simulation.heard(),
        ["ModelsReady", "model-0/ModelHasTerminated 08 01 10 04", "model-1/ModelHasTerminated", "AllModelsHaveTerminated"]
    );
    stage.run_one_more();
}

#[test]
#[ignore = "needs a Kubernetes cluster (KUBECONFIG, kubectl), mosquitto and the fake model's image: see README"]
fn the_broker_comes_after_the_service() {
    let stage = Stage::on(Broker::own());
    stage.broker.kill();
    let mso = Service::launch(&stage.settings());
    mso.line(BROKER_AWAY);
    stage.broker.start();
    mso.line(SUBSCRIBED);
    stage.run_one_more();
}

#[test]
#[ignore = "needs a Kubernetes cluster (KUBECONFIG, kubectl), a broker and the fake model's image: see README"]
fn a_token_that_is_no_longer_valid_is_replaced_by_the_one_in_its_file() {
    let stage = Stage::new();
    stage.namespace.kubectl(&["create", "secret", "generic", "life-of-the-token"]);
    let token = stage.namespace.kubectl(&["create", "token", "mso", "--bound-object-kind=Secret", "--bound-object-name=life-of-the-token"]);
    let file = stage.file("token");
    std::fs::write(&file, &token).unwrap();
    let mut settings = stage.settings();
    settings.remove("KUBERNETES_API_TOKEN");
    settings.insert("KUBERNETES_API_TOKEN_FILE".to_owned(), file.clone());
    let mso = Service::start(&settings);
    stage.run_one_more();

    stage.namespace.kubectl(&["delete", "secret", "life-of-the-token"]);
    eventually("the end of the token", || is_refused(&stage, &token).then_some(()));
    let simulation = stage.simulation();
    simulation.deploy(0.0, &["model-0"]);
    mso.line("401");
    std::fs::write(&file, stage.namespace.token("mso")).unwrap();
    simulation.hear("ModelsReady");
    simulation.end_models(&["model-0"]);
    simulation.hear("AllModelsHaveTerminated");
    assert_eq!(simulation.heard(), ["ModelsReady", "model-0/ModelHasTerminated", "AllModelsHaveTerminated"]);
}

fn is_refused(stage: &Stage, token: &str) -> bool {
    let (host, port) = api_address();
    let arguments = [
        // The administrator's certificate would count before the token.
        "--kubeconfig=/dev/null".to_owned(),
        format!("--server=https://{host}:{port}"),
        format!("--certificate-authority={}", stage.file("ca.crt")),
        format!("--token={token}"),
        format!("--namespace={}", stage.namespace.name),
        "get".to_owned(),
        "pods".to_owned(),
    ];
    kubectl(&arguments, "").is_err()
}

#[test]
#[ignore = "needs a Kubernetes cluster (KUBECONFIG, kubectl), a broker and the fake model's image: see README"]
fn a_certificate_that_is_not_trusted_is_said_and_tried_again() {
    const STOP_LIMIT: Duration = Duration::from_secs(2);
    let stage = Stage::new();
    std::fs::write(stage.file("ca.crt"), ANOTHER_CA).unwrap();
    let mut mso = stage.start_mso();
    mso.line("certificate");
    assert!(!mso.has_ended());
    let (status, time) = mso.end_by("TERM");
    assert!(status.success() && time < STOP_LIMIT, "{status} after {time:?}");
}

#[test]
#[ignore = "needs a Kubernetes cluster (KUBECONFIG, kubectl), a broker and the fake model's image: see README"]
fn without_verification_it_works_and_says_so() {
    let stage = Stage::new();
    let mut settings = stage.settings();
    settings.remove("KUBERNETES_CA_FILE");
    settings.insert("KUBERNETES_VERIFY_TLS".to_owned(), "false".to_owned());
    let mso = Service::start(&settings);
    assert!(mso.line("KUBERNETES_VERIFY_TLS is false").contains("WARN"));
    stage.run_one_more();
}
