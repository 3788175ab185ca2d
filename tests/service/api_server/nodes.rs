//! No node takes models for as long as a test lasts, and so none of others: these run alone too.

use devkit::kubectl::kubectl;

use crate::failures::{assert_names, fails_without_code};
use crate::support::Ground;
use crate::support::stage::Stage;

/// Those that have the label are as they were when it is dropped.
struct Nodes {
    names: Vec<String>,
    undo: &'static [&'static str],
}

impl Nodes {
    fn change(change: &[&str], undo: &'static [&'static str]) -> Self {
        let names = kubectl(&["get", "nodes", "-l", "type=worker", "-o", "name"], "").expect("an administrator may");
        let nodes = Self { names: names.lines().map(str::to_owned).collect(), undo };
        nodes.run(change).expect("an administrator may");
        nodes
    }

    fn run(&self, command: &[&str]) -> Result<String, String> {
        let names = self.names.iter().map(String::as_str);
        kubectl(&command[..1].iter().copied().chain(names).chain(command[1..].iter().copied()).collect::<Vec<_>>(), "")
    }
}

impl Drop for Nodes {
    fn drop(&mut self) {
        if let Err(error) = self.run(self.undo) {
            eprintln!("{:?} take no models any more: {error}", self.names);
        }
    }
}

#[test]
#[ignore = "only on the real ground: devkit's node takes everything"]
fn no_node_with_the_label_fails_the_models_in_time_and_the_label_is_named() {
    let stage = Stage::on(Ground::Real);
    let _mso = stage.start_mso_with("UNSCHEDULABLE_TIMEOUT", "3");
    let _nodes = Nodes::change(&["label", "type-"], &["label", "type=worker"]);
    let simulation = stage.simulation();
    simulation.deploy(0.0, &["model-0"]);
    let (reason, message) = fails_without_code(&simulation);
    assert_eq!(reason, "Unschedulable");
    assert_names(&message, &["node affinity/selector", "is there a node with the label type=worker?", "Make room on a node"]);
    stage.namespace.wait_until_gone(&simulation.pod_name("model-0"));
}

#[test]
#[ignore = "only on the real ground: devkit's node takes everything"]
fn a_cordoned_node_fails_new_models_in_time_and_is_told_so_and_what_runs_on_it_goes_on() {
    let stage = Stage::on(Ground::Real);
    let _mso = stage.start_mso_with("UNSCHEDULABLE_TIMEOUT", "3");
    let first = stage.simulation();
    first.deploy(0.0, &["model-0"]);
    first.hear("ModelsReady");
    let nodes = Nodes::change(&["cordon"], &["uncordon"]);
    let second = stage.simulation();
    second.deploy(0.0, &["model-0"]);
    let (reason, message) = fails_without_code(&second);
    assert_eq!(reason, "Unschedulable");
    assert_names(&message, &["were unschedulable", "Make room on a node"]);
    first.end_models(&["model-0"]);
    first.hear("AllModelsHaveTerminated");
    assert_eq!(first.heard(), ["ModelsReady", "model-0/ModelHasTerminated", "AllModelsHaveTerminated"]);
    drop(nodes);
    stage.run_one_more();
}
