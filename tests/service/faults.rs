//! What a real broker and a real API server cannot be told to do: these are played on devkit's ground alone.

use devkit::broker::{Clients, Fault};
use devkit::cluster::{self, FaultKind, Status};

use crate::support::Ground;
use crate::support::service::{SUBSCRIBED, Service};
use crate::support::stage::Stage;

/// Of the service, at its broker.
fn service_on(stage: &Stage) -> Clients {
    Clients::named(&format!("mso-{}", stage.simulator))
}

/// The next so many creates of pods.
fn creates(times: u32, kind: FaultKind) -> cluster::Fault {
    cluster::Fault { method: "POST", target: "/pods".to_owned(), times, kind }
}

#[test]
fn a_message_whose_acknowledgement_is_lost_is_sent_again() {
    let stage = Stage::on(Ground::Devkit);
    let mso = stage.start_mso();
    let simulation = stage.simulation();
    simulation.deploy(0.0, &["model-0", "model-1"]);
    simulation.hear("ModelsReady");
    stage.run_one_more();
    stage.broker.server().misbehave(service_on(&stage), Fault::LoseAcknowledgement);
    simulation.end_models(&["model-0"]);
    mso.count(SUBSCRIBED, 2);
    simulation.end_models(&["model-1"]);
    simulation.hear("AllModelsHaveTerminated");
    let mut heard = simulation.heard();
    let first = "model-0/ModelHasTerminated".to_owned();
    assert_eq!(heard.iter().filter(|message| **message == first).count(), 2);
    heard.dedup();
    assert_eq!(heard, ["ModelsReady", &first, "model-1/ModelHasTerminated", "AllModelsHaveTerminated"]);
}

#[test]
fn a_broker_that_takes_connections_and_says_nothing_is_left_and_tried_again() {
    let stage = Stage::on(Ground::Devkit);
    stage.broker.server().misbehave(service_on(&stage), Fault::SayNothing);
    let mso = Service::launch(&stage.settings());
    mso.line("no connection to the broker");
    stage.broker.server().behave();
    mso.line(SUBSCRIBED);
    stage.run_one_more();
}

#[test]
fn a_second_signal_ends_the_stop_that_waits_for_a_silent_broker() {
    let stage = Stage::on(Ground::Devkit);
    let mut mso = stage.start_mso();
    let simulation = stage.simulation();
    simulation.deploy(0.0, &["model-0"]);
    simulation.hear("ModelsReady");
    stage.broker.server().misbehave(service_on(&stage), Fault::SayNothing);
    simulation.end_models(&["model-0"]);
    mso.line("Send out ModelHasTerminated.");
    mso.stops_at_once_on_a_second_signal();
}

#[test]
fn a_create_whose_answer_is_lost_makes_one_pod_all_the_same() {
    let stage = Stage::on(Ground::Devkit);
    let _mso = stage.start_mso();
    stage.namespace.server().misbehave(creates(1, FaultKind::LoseAnswer));
    let simulation = stage.simulation();
    simulation.deploy(0.0, &["model-0"]);
    simulation.hear("ModelsReady");
    assert_eq!(stage.namespace.server().faults_left(), 0, "an answer was lost");
    assert_eq!(stage.namespace.pods().len(), 1);
    simulation.end_models(&["model-0"]);
    simulation.hear("AllModelsHaveTerminated");
    assert_eq!(simulation.heard(), ["ModelsReady", "model-0/ModelHasTerminated", "AllModelsHaveTerminated"]);
}

#[test]
fn creates_that_are_refused_for_now_are_tried_again() {
    let quota = Status::exceeded_quota("any", "none", 0);
    for refusal in [Status::too_many_requests(1), Status::unavailable(), quota] {
        let stage = Stage::on(Ground::Devkit);
        let _mso = stage.start_mso();
        stage.namespace.server().misbehave(creates(2, FaultKind::Refuse(refusal)));
        stage.run_one_more();
        assert_eq!(stage.namespace.server().faults_left(), 0, "it was refused twice");
    }
}
