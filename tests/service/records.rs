//! Simulations whose record the cluster does not take.

use serde_json::Value;

use crate::support::stage::{FAILED_WITHOUT_CODE, Simulation, Stage};
use crate::support::{Ground, eventually};

/// As where a Role is deleted and applied anew.
#[test]
fn a_right_to_config_maps_that_comes_after_the_start_is_waited_for_and_nothing_is_lost() {
    let stage = Stage::new();
    let mso = stage.start_mso();
    let simulation = stage.simulation();
    simulation.deploy(0.0, &["model-0"]);
    simulation.hear("ModelsReady");
    mso.wait_until_recorded("modelsReady", "sent");
    drop(mso);
    stage.namespace.forbid_config_maps();
    let mso = stage.start_mso();
    let said = mso.line("ConfigMaps may not be read: 403");
    assert!(said.contains("WARN") && said.contains("configmaps"), "{said}");
    stage.namespace.allow_config_maps();
    mso.line(&format!("Simulation {} goes on", simulation.id));
    run_to_the_end(&stage, &simulation);
    assert_eq!(mso.lines_with("ConfigMaps may not be").len(), 1, "said once");
}

#[test]
fn where_config_maps_are_forbidden_it_says_what_is_lost_and_simulations_run() {
    let stage = Stage::new();
    stage.namespace.forbid_config_maps();
    let mso = stage.start_mso_with("DENIED_TIMEOUT", "3");
    let simulation = stage.simulation();
    simulation.deploy(0.0, &["model-0"]);
    let said = mso.line("ConfigMaps may not be read and written: 403");
    assert!(
        said.contains("WARN") && said.contains("A restart of this service fails") && said.contains("allow get, list, create"),
        "{said}"
    );
    run_to_the_end(&stage, &simulation);
    stage.run_one_more();
    assert_eq!(mso.lines_with("ConfigMaps may not be read and written").len(), 1);
}

/// With -9, and nothing but the pods to go by.
#[test]
fn where_config_maps_are_forbidden_a_kill_fails_openly_what_was_not_ready_and_nothing_else() {
    let stage = Stage::new();
    stage.namespace.forbid_config_maps();
    let mso = stage.start_mso_with("DENIED_TIMEOUT", "3");
    let (running, waiting) = (stage.simulation(), stage.simulation());
    running.deploy(0.0, &["model-0"]);
    running.hear("ModelsReady");
    let first = running.pod_name("model-0");
    let mark = |pod: Value| pod["metadata"]["annotations"]["mso.dots/models-ready"].as_str().map(str::to_owned);
    eventually("the mark on the first pod", || stage.namespace.pod(&first).and_then(mark).filter(|mark| mark == "sent"));
    waiting.send(&waiting.request(0.0, vec![waiting.model("model-0", &[("READY_AFTER_SECONDS", "never")])]));
    stage.namespace.wait_for_phase(&waiting.pod_name("model-0"), "Running");
    drop(mso);

    let _mso = stage.start_mso_with("DENIED_TIMEOUT", "3");
    waiting.hear("AllModelsHaveTerminated");
    assert_eq!(
        waiting.heard(),
        [&format!("model-0/ModelHasTerminated {FAILED_WITHOUT_CODE}"), "model-0/ErrorOccurred", "AllModelsHaveTerminated"]
    );
    assert_eq!(running.heard(), ["ModelsReady"]);
    run_to_the_end(&stage, &running);
}

#[test]
fn a_simulation_waits_for_room_for_its_request_in_a_quota_and_runs_when_there_is_some() {
    let stage = Stage::new();
    stage.namespace.fill_with_config_maps();
    waits_for_room(&stage, "A part of the record of simulation");
}

#[test]
#[ignore = "only on the real ground: devkit's cluster counts no ConfigMaps"]
fn a_simulation_waits_for_room_for_its_progress_in_a_quota_and_runs_when_there_is_some() {
    let stage = Stage::on(Ground::Real);
    stage.namespace.fill_with_config_maps();
    stage.namespace.leave_room_for_config_maps(1);
    waits_for_room(&stage, "The record of simulation");
}

/// What becomes of it where there is none in time, tests/transcripts say: that takes a quarter of an hour.
fn waits_for_room(stage: &Stage, what: &str) {
    let mso = stage.start_mso();
    let simulation = stage.simulation();
    simulation.deploy(0.0, &["model-0"]);
    let said = mso.line(&format!("{what} {} cannot be written", simulation.id));
    assert!(said.contains("WARN") && said.contains("exceeded quota: none"), "{said}");
    // It is tried again, and not said again.
    mso.count("RecordOutcome", mso.lines_with("RecordOutcome").len() + 2);
    assert_eq!(mso.lines_with("cannot be written").len(), 1);
    assert_eq!(stage.namespace.pods(), [0; 0], "no pod is made of what is not recorded");
    assert_eq!(simulation.heard(), [""; 0]);

    stage.namespace.leave_room_for_config_maps(10);
    run_to_the_end(stage, &simulation);
    stage.run_one_more();
}

fn run_to_the_end(stage: &Stage, simulation: &Simulation<'_>) {
    simulation.hear("ModelsReady");
    simulation.end_models(&["model-0"]);
    simulation.hear("AllModelsHaveTerminated");
    assert_eq!(simulation.heard(), ["ModelsReady", "model-0/ModelHasTerminated", "AllModelsHaveTerminated"]);
    stage.namespace.wait_until_gone(&simulation.pod_name("model-0"));
}
