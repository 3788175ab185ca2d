//! The cluster itself is taken down: these run alone, one after the other (`--test-threads=1`).
//!
//! `MSO_TEST_RESTART_APISERVER` is the shell command that kills the API server and starts it again.

mod support;

use std::process::{Command, Stdio};

use support::service::{API_AWAY, API_BACK};
use support::stage::Stage;

/// `false`: there is no way to do it here.
fn restart_api_server() -> bool {
    let Ok(command) = std::env::var("MSO_TEST_RESTART_APISERVER") else {
        eprintln!("passed over: MSO_TEST_RESTART_APISERVER is not set: it is the command that kills the API server and starts it again");
        return false;
    };
    // What it starts may keep its output open, and outlives the test.
    let done = Command::new("sh").args(["-c", &command]).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status();
    assert!(done.expect("there is a shell").success(), "{command}");
    true
}

#[test]
#[ignore = "takes the cluster down: needs MSO_TEST_RESTART_APISERVER, and what the tests of tests/cluster need"]
fn the_api_server_is_killed_while_a_simulation_runs() {
    let stage = Stage::new();
    let mso = stage.start_mso();
    let simulation = stage.simulation();
    simulation.deploy(0.0, &["model-0", "model-1"]);
    simulation.hear("ModelsReady");
    if !restart_api_server() {
        return;
    }
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
#[ignore = "takes the cluster down: needs MSO_TEST_RESTART_APISERVER, and what the tests of tests/cluster need"]
fn the_api_server_is_killed_in_the_middle_of_a_deploy() {
    let stage = Stage::new();
    let mso = stage.start_mso();
    let simulation = stage.simulation();
    let ids: Vec<String> = (0..50).map(|number| format!("model-{number}")).collect();
    let ids: Vec<&str> = ids.iter().map(String::as_str).collect();
    simulation.deploy(0.0, &ids);
    mso.line("Successfully deployed model");
    if !restart_api_server() {
        return;
    }
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
