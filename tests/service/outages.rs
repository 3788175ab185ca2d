//! The broker, the token and the certificate fail; the API server's outages stand in api_server.rs.

use crate::support::eventually;
use crate::support::service::{BROKER_AWAY, SUBSCRIBED, Service};
use crate::support::stage::Stage;

/// A CA that has signed nothing.
const ANOTHER_CA: &str = include_str!("../support/another-ca.crt");

#[test]
fn the_broker_is_killed_while_models_run_and_while_one_ends() {
    let stage = Stage::with_own_broker();
    let mso = stage.start_mso();
    let simulation = stage.simulation();
    let ends_alone = simulation.model("model-0", &[("EXIT_WHEN_DISCONNECTED", "true"), ("EXIT_CODE", "4")]);
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
fn the_broker_comes_after_the_service() {
    let stage = Stage::with_own_broker();
    stage.broker.kill();
    let mso = Service::launch(&stage.settings());
    mso.line(BROKER_AWAY);
    stage.broker.start();
    mso.line(SUBSCRIBED);
    stage.run_one_more();
}

#[test]
fn a_token_that_is_no_longer_valid_is_replaced_by_the_one_in_its_file() {
    let stage = Stage::new();
    let token = stage.namespace.revocable_token();
    let mso = start_with_token_file(&stage, &token);
    stage.run_one_more();
    // Nothing of that is under way any more: what was asked for is deleted, and how it went is kept.
    eventually("the record of what is over", || (stage.namespace.records(&stage.simulator).len() == 1).then_some(()));

    stage.namespace.revoke(&token);
    let simulation = stage.simulation();
    simulation.deploy(0.0, &["model-0"]);
    mso.line("401 Unauthorized");
    stage.namespace.file("token", &stage.namespace.token());
    simulation.hear("ModelsReady");
    simulation.end_models(&["model-0"]);
    simulation.hear("AllModelsHaveTerminated");
    assert_eq!(simulation.heard(), ["ModelsReady", "model-0/ModelHasTerminated", "AllModelsHaveTerminated"]);
    assert_eq!(complaints_about_the_token(&mso).len(), 1, "{:?}", complaints_about_the_token(&mso));
}

/// As the kubelet does it: the new one is in the file well before the old one's end.
#[test]
fn a_token_that_rotates_while_a_simulation_runs_is_not_noticed() {
    let stage = Stage::new();
    let token = stage.namespace.revocable_token();
    let mso = start_with_token_file(&stage, &token);
    let simulation = stage.simulation();
    simulation.deploy(0.0, &["model-0", "model-1"]);
    simulation.hear("ModelsReady");
    stage.namespace.file("token", &stage.namespace.token());
    stage.namespace.revoke(&token);
    simulation.end_models(&["model-0"]);
    simulation.hear("model-0/ModelHasTerminated");
    simulation.end_models(&["model-1"]);
    simulation.hear("AllModelsHaveTerminated");
    assert_eq!(simulation.heard(), ["ModelsReady", "model-0/ModelHasTerminated", "model-1/ModelHasTerminated", "AllModelsHaveTerminated"]);
    stage.run_one_more();
    assert_eq!(complaints_about_the_token(&mso), [""; 0]);
}

fn start_with_token_file(stage: &Stage, token: &str) -> Service {
    let mut settings = stage.settings();
    settings.remove("KUBERNETES_API_TOKEN");
    settings.insert("KUBERNETES_API_TOKEN_FILE".to_owned(), stage.namespace.file("token", token).display().to_string());
    Service::start(&settings)
}

/// What a person sees, who does not read DEBUG.
fn complaints_about_the_token(mso: &Service) -> Vec<String> {
    mso.lines_with("Unauthorized").into_iter().filter(|line| !line.contains("DEBUG")).collect()
}

#[test]
fn a_certificate_that_is_not_trusted_is_said_until_the_file_holds_its_ca() {
    let stage = Stage::new();
    let mut settings = stage.settings();
    let file = stage.namespace.file("changing-ca.crt", ANOTHER_CA);
    settings.insert("KUBERNETES_CA_FILE".to_owned(), file.display().to_string());
    let mut mso = Service::start(&settings);
    mso.line("certificate");
    assert!(!mso.has_ended());
    std::fs::copy(stage.namespace.ca_file(), file).unwrap();
    stage.run_one_more();
    mso.stops_in_time_on("TERM");
}

#[test]
fn without_verification_it_works_and_says_so() {
    let stage = Stage::new();
    let mut settings = stage.settings();
    settings.remove("KUBERNETES_CA_FILE");
    settings.insert("KUBERNETES_VERIFY_TLS".to_owned(), "false".to_owned());
    let mso = Service::start(&settings);
    assert!(mso.line("KUBERNETES_VERIFY_TLS is false").contains("WARN"));
    stage.run_one_more();
}
