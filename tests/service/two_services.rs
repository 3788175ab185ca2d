//! Two services of one simulator name, as by mistake, or as when a node comes back that was given up.

use serde_json::Value;

use crate::support::eventually;
use crate::support::service::{SUBSCRIBED, Service};
use crate::support::stage::{Simulation, Stage};

const MODELS: [&str; 2] = ["model-0", "model-1"];

const ANOTHER_HAS_THE_ID: &str = "another client may use this id";

#[test]
fn a_second_service_that_begins_beside_the_first_is_named_and_leaves_its_simulation_alone() {
    let stage = Stage::new();
    let mut first = stage.start_mso();
    let simulation = begin(&stage, &first);
    let pods = stage.namespace.pod_uids();
    let second = Service::launch(&stage.settings());
    second.line("goes on: of its 2 models 2 have said ready");
    let says_so = |service: &Service| !service.lines_with(ANOTHER_HAS_THE_ID).is_empty();
    eventually("a word about two clients with one id", || (says_so(&first) || says_so(&second)).then_some(()));
    assert_eq!(stage.namespace.pod_uids(), pods);
    assert_none_is_stopped(&stage);
    drop(second);

    assert!(!first.has_ended());
    assert_eq!(simulation.heard(), ["ModelsReady"]);
    for model in MODELS {
        simulation.end_models(&[model]);
        simulation.hear(&format!("{model}/ModelHasTerminated"));
    }
    simulation.hear("AllModelsHaveTerminated");
    assert_eq!(simulation.heard(), ["ModelsReady", "model-0/ModelHasTerminated", "model-1/ModelHasTerminated", "AllModelsHaveTerminated"]);
    stage.run_one_more();
}

#[test]
fn a_service_that_comes_back_when_another_has_taken_over_says_so_and_ends() {
    let stage = Stage::new();
    let mut first = stage.start_mso();
    let simulation = begin(&stage, &first);
    let pods = stage.namespace.pod_uids();
    first.freeze();
    let mut second = stage.start_mso();
    second.line("goes on: of its 2 models 2 have said ready");
    simulation.end_models(&["model-0"]);
    simulation.hear("model-0/ModelHasTerminated");
    second.wait_until_recorded("told", "8");

    first.thaw();
    first.fails();
    let said = first.line(&format!("of simulation {} was changed by somebody else", simulation.id));
    assert!(said.contains("ERROR") && said.contains("a second service serves the same simulator"), "{said}");
    assert_eq!(stage.namespace.pod_uids(), pods);
    assert_none_is_stopped(&stage);
    simulation.end_models(&["model-1"]);
    simulation.hear("AllModelsHaveTerminated");
    let mut heard = simulation.heard();
    assert_eq!(heard.iter().filter(|message| *message == "ModelsReady").count(), 1);
    // The first one may have told that model's end as well before it looked at the record.
    heard.sort();
    heard.dedup();
    assert_eq!(heard, ["AllModelsHaveTerminated", "ModelsReady", "model-0/ModelHasTerminated", "model-1/ModelHasTerminated"]);
    stage.run_one_more();
    assert!(!second.has_ended());
}

/// All of it is recorded.
fn begin<'a>(stage: &'a Stage, mso: &Service) -> Simulation<'a> {
    mso.line(SUBSCRIBED);
    let simulation = stage.simulation();
    simulation.deploy(0.0, &MODELS);
    simulation.hear("ModelsReady");
    mso.wait_until_recorded("modelsReady", "sent");
    simulation
}

fn assert_none_is_stopped(stage: &Stage) {
    for pod in stage.namespace.pods() {
        assert_eq!(pod["metadata"]["deletionTimestamp"], Value::Null, "{pod:#}");
        assert_eq!(pod["spec"]["activeDeadlineSeconds"], Value::Null, "{pod:#}");
    }
}
