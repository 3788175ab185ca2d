//! The service is killed, and a new one goes on with what the cluster and the broker have kept.

use crate::support::eventually;
use crate::support::service::Service;
use crate::support::stage::Stage;

/// As by `kill -9`.
fn kill(mso: Service) {
    drop(mso);
}

#[test]
fn what_ended_while_nobody_looked_is_told_and_models_ready_is_not_told_again() {
    let stage = Stage::new();
    let mso = stage.start_mso();
    let simulation = stage.simulation();
    simulation.deploy(0.0, &["model-0", "model-1"]);
    simulation.hear("ModelsReady");
    mso.wait_until_recorded("modelsReady", "sent");
    kill(mso);
    simulation.end_models(&["model-0"]);
    let name = simulation.pod_name("model-0");
    eventually("the end of the pod", || (stage.namespace.pod(&name)?["status"]["phase"] == "Succeeded").then_some(()));

    let _mso = stage.start_mso();
    simulation.hear("model-0/ModelHasTerminated");
    simulation.end_models(&["model-1"]);
    simulation.hear("AllModelsHaveTerminated");
    let expected = ["ModelsReady", "model-0/ModelHasTerminated", "model-1/ModelHasTerminated", "AllModelsHaveTerminated"];
    assert_eq!(simulation.heard(), expected);
    stage.namespace.wait_until_gone(&simulation.pod_name("model-1"));
}

#[test]
fn a_deploy_that_was_cut_off_in_the_middle_is_finished() {
    let stage = Stage::new();
    let mso = stage.start_mso();
    let simulation = stage.simulation();
    let ids: Vec<String> = (0..30).map(|number| format!("model-{number}")).collect();
    let models: Vec<&str> = ids.iter().map(String::as_str).collect();
    // At QoS 0 what reaches the process in its last moment is lost with it.
    let ready_later = |id: &&str| simulation.model(id, &[("READY_AFTER_SECONDS", "3")]);
    simulation.send(&simulation.request(0.0, models.iter().map(ready_later).collect()));
    mso.line("Deploying pod");
    kill(mso);

    let _mso = stage.start_mso();
    simulation.hear("ModelsReady");
    assert_eq!(stage.namespace.pod_uids().len(), models.len());
    simulation.end_models(&models);
    simulation.hear("AllModelsHaveTerminated");
    let heard = simulation.heard();
    assert_eq!(heard.len(), models.len() + 2, "{heard:?}");
}

#[test]
fn a_model_that_said_ready_stays_ready() {
    let stage = Stage::new();
    let mso = stage.start_mso();
    let simulation = stage.simulation();
    let models = vec![simulation.model("early", &[]), simulation.model("late", &[("READY_AFTER_SECONDS", "5")])];
    simulation.send(&simulation.request(0.0, models));
    mso.line(&format!("Model {}/early is ready.", simulation.id));
    mso.wait_until_recorded("ready", "8");
    kill(mso);

    let _mso = stage.start_mso();
    simulation.hear("ModelsReady");
    simulation.end_models(&["early", "late"]);
    simulation.hear("AllModelsHaveTerminated");
}
