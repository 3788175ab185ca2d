//! The API server is killed. A real one takes the whole cluster along: there these tests run alone, one after the other,
//! `-- api_server:: --include-ignored --test-threads=1`, and `MSO_TEST_RESTART_APISERVER` is the shell command that kills it and starts it again.

mod nodes;

use std::thread;

use crate::support::eventually;
use crate::support::link::Link;
use crate::support::service::{API_AWAY, API_BACK, LISTED, Service};
use crate::support::stage::Stage;

#[test]
fn the_api_server_is_killed_while_a_simulation_runs() {
    let stage = Stage::new();
    let mso = stage.start_mso();
    let simulation = stage.simulation();
    simulation.deploy(0.0, &["model-0", "model-1"]);
    simulation.hear("ModelsReady");
    stage.namespace.restart_api_server();
    simulation.end_models(&["model-0"]);
    simulation.hear("model-0/ModelHasTerminated");
    simulation.end_models(&["model-1"]);
    simulation.hear("AllModelsHaveTerminated");
    assert_eq!(simulation.heard(), ["ModelsReady", "model-0/ModelHasTerminated", "model-1/ModelHasTerminated", "AllModelsHaveTerminated"]);
    stage.run_one_more();
    assert_eq!(mso.lines_with(API_AWAY).len(), 1);
    assert_eq!(mso.lines_with(API_BACK).len(), 1);
}

#[test]
fn the_api_server_is_killed_in_the_middle_of_a_deploy() {
    let stage = Stage::new();
    let mso = stage.start_mso();
    let simulation = stage.simulation();
    let ids: Vec<String> = (0..50).map(|number| format!("model-{number}")).collect();
    let ids: Vec<&str> = ids.iter().map(String::as_str).collect();
    simulation.deploy(0.0, &ids);
    mso.line("Successfully deployed model");
    stage.namespace.restart_api_server();
    simulation.hear("ModelsReady");
    assert_eq!(stage.namespace.pods().len(), ids.len());
    simulation.end_models(&ids);
    simulation.hear("AllModelsHaveTerminated");
    let mut heard = simulation.heard();
    assert_eq!((heard.remove(0).as_str(), heard.pop().as_deref()), ("ModelsReady", Some("AllModelsHaveTerminated")));
    heard.sort();
    let mut expected: Vec<String> = ids.iter().map(|id| format!("{id}/ModelHasTerminated")).collect();
    expected.sort();
    assert_eq!(heard, expected);
}

/// Of each try it hears nothing, or of an end; and an API server that has just begun refuses what it will allow.
#[test]
fn the_api_server_is_killed_while_a_request_is_recorded() {
    let stage = Stage::new();
    let (host, port) = stage.namespace.api_address();
    let link = Link::to(&host, port);
    let mut settings = stage.settings();
    settings.insert("KUBERNETES_HOST".to_owned(), "127.0.0.1".to_owned());
    settings.insert("KUBERNETES_PORT".to_owned(), link.port.to_string());
    let mso = Service::start(&settings);
    mso.line(LISTED);
    link.silence();
    let simulation = stage.simulation();
    simulation.deploy(0.0, &["model-0", "model-1"]);
    mso.line("Create(NewRecord");
    thread::scope(|scope| {
        let restart = scope.spawn(|| stage.namespace.restart_api_server());
        let is_away = || stage.namespace.api().get("/version").is_err();
        eventually("the end of the API server", || (restart.is_finished() || is_away()).then_some(()));
        link.mend();
    });
    simulation.hear("ModelsReady");
    assert_eq!(stage.namespace.pods().len(), 2);
    for model in ["model-0", "model-1"] {
        simulation.end_models(&[model]);
        simulation.hear(&format!("{model}/ModelHasTerminated"));
    }
    simulation.hear("AllModelsHaveTerminated");
    assert_eq!(simulation.heard(), ["ModelsReady", "model-0/ModelHasTerminated", "model-1/ModelHasTerminated", "AllModelsHaveTerminated"]);
    mso.line("A part of the record of simulation");
    assert_eq!(mso.lines_with("ConfigMaps may not be read and written"), [""; 0]);
    stage.run_one_more();
}
