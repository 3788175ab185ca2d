//! Pods that are not this process's: other programs', and its own from before.

use serde_json::json;

use crate::support::manifests::apply;
use crate::support::service::EARLIER_RUN;
use crate::support::stage::{SIMULATOR_ID, Simulation, Stage};
use crate::support::{Ground, eventually};

/// Long ago.
const PAST: &str = "1000000000.5";
/// Not soon.
const FUTURE: &str = "9999999999.5";

#[test]
fn pods_without_our_mark_are_never_touched() {
    let stage = Stage::new();
    let labels = [
        ("simulator_id", "Other"),
        ("simulation_id", "Sim"),
        ("model_id", "model"),
        ("keep_logs_hours", "0.0"),
        ("delete_by_datetime", PAST),
    ];
    let of_another = [&labels[..], &[("mso.dots/simulator", "another")]].concat();
    let ended = [("MQTT_HOST", "not used"), ("SIMULATION_ID", "-"), ("MODEL_ID", "-"), ("EXIT_AFTER_SECONDS", "0")];
    stage.namespace.create_pod("our-labels", &labels, &stage.model_image(), &ended);
    stage.namespace.create_pod("the-mark-of-another", &of_another, &stage.model_image(), &ended);
    stage.namespace.create_pod("no-labels", &[], &stage.model_image(), &ended);
    for pod in ["our-labels", "the-mark-of-another", "no-labels"] {
        stage.namespace.wait_for_phase(pod, "Succeeded");
    }
    let before = stage.namespace.pod_uids();
    let _mso = stage.start_mso();
    stage.run_one_more();
    assert_eq!(stage.namespace.pod_uids(), before);
}

#[test]
fn pods_of_an_earlier_run_go_only_when_they_have_ended_and_their_time_is_over() {
    let stage = Stage::new();
    let create = |name: &str, exit_after: &str, delete_by: Option<&str>| {
        let mut labels = vec![
            ("mso.dots/simulator", stage.simulator.as_str()),
            ("simulator_id", "Earlier"),
            ("simulation_id", "Sim"),
            ("model_id", name),
            ("keep_logs_hours", "0.0"),
        ];
        labels.extend(delete_by.map(|time| ("delete_by_datetime", time)));
        let port = stage.broker.pod_port.to_string();
        let variables =
            [("MQTT_HOST", stage.broker.pod_host.as_str()), ("MQTT_PORT", &port), ("SIMULATION_ID", &stage.simulator), ("MODEL_ID", name)];
        let variables = [&variables[..], &[("EXIT_AFTER_SECONDS", exit_after)]].concat();
        stage.namespace.create_pod(name, &labels, &stage.model_image(), &variables);
    };
    create("ended-and-over", "0", Some(PAST));
    create("ended-and-not-over", "0", Some(FUTURE));
    create("ended-without-a-time", "0", None);
    create("running-and-over", "100000", Some(PAST));
    create("running-without-a-time", "100000", None);
    for pod in ["ended-and-over", "ended-and-not-over", "ended-without-a-time"] {
        stage.namespace.wait_for_phase(pod, "Succeeded");
    }
    for pod in ["running-and-over", "running-without-a-time"] {
        stage.namespace.wait_for_phase(pod, "Running");
    }
    let mut expected = stage.namespace.pod_uids();
    expected.retain(|(name, _)| name != "ended-and-over");

    let mso = stage.start_mso();
    stage.namespace.wait_until_gone("ended-and-over");
    mso.line(EARLIER_RUN);
    stage.run_one_more();
    assert_eq!(stage.namespace.pod_uids(), expected);
}

#[test]
fn labels_that_a_person_takes_are_put_back_and_the_end_of_the_model_is_told() {
    let stage = Stage::new();
    let mso = stage.start_mso();
    let simulation = stage.simulation();
    simulation.deploy(0.0, &["model-0", "model-1"]);
    simulation.hear("ModelsReady");
    for (model, label) in [("model-0", "mso.dots/simulator"), ("model-1", "model_id")] {
        let pod = simulation.pod_name(model);
        let labels = || stage.namespace.pod(&pod).map(|pod| pod["metadata"]["labels"].clone());
        let before = labels();
        stage.namespace.take_label(&pod, label);
        mso.line(&format!(
            "Pod {pod} of model {}/{model} has lost labels of ours, by which it is watched: they are put back.",
            simulation.id
        ));
        eventually("the labels", || (labels() == before).then_some(()));
    }
    simulation.end_models(&["model-0", "model-1"]);
    simulation.hear("AllModelsHaveTerminated");
    stage.namespace.wait_until_gone(&simulation.pod_name("model-0"));
    stage.namespace.wait_until_gone(&simulation.pod_name("model-1"));
}

/// The pod that the service would make of a request that waits, on a node that does not take it.
fn create_a_pod_that_its_node_turns_away(stage: &Stage, simulation: &Simulation<'_>, model: &str) {
    let name = simulation.pod_name(model);
    let records = || stage.namespace.records(&stage.simulator);
    let deploy = eventually("the record of the request", || {
        let piece = records().into_iter().find(|record| record.ends_with("-0-of-1"))?;
        piece.strip_suffix("-0-of-1")?.rsplit('-').next().map(str::to_owned)
    });
    let node = stage.namespace.kubectl(&["get", "nodes", "-o", "jsonpath={.items[0].metadata.name}"]);
    let labels = json!({
        "mso.dots/simulator": stage.simulator, "simulator_id": SIMULATOR_ID, "simulation_id": simulation.id, "model_id": model,
        "keep_logs_hours": "0.0",
    });
    let annotations = json!({"mso.dots/deploy": deploy, "mso.dots/models": "1", "mso.dots/number": "0"});
    stage.namespace.create(&json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "labels": labels, "annotations": annotations},
        "spec": {"nodeName": node, "nodeSelector": {"no": "node"}, "restartPolicy": "Never", "containers": [{"name": name, "image": "none"}]},
    }));
}

#[test]
#[ignore = "only on the real ground: devkit's node turns no pod away"]
fn a_pod_that_its_node_turned_away_is_made_again_where_that_is_set_and_else_fails_its_model() {
    let stage = Stage::on(Ground::Real);
    let role = stage.namespace.forbid_creates_of_pods();
    {
        let mso = stage.start_mso();
        let simulation = stage.simulation();
        simulation.deploy(0.0, &["model-0"]);
        mso.line("Creates of pods wait, Forbidden");
        create_a_pod_that_its_node_turns_away(&stage, &simulation, "model-0");
        let (reason, message) = simulation.why("model-0");
        assert_eq!(reason, "NodeAffinity");
        assert!(message.contains("Pod was rejected: ") && message.contains("start the simulation again"), "{message}");
        simulation.hear("AllModelsHaveTerminated");
        stage.namespace.wait_until_gone(&simulation.pod_name("model-0"));
    }
    let mso = stage.start_mso_with("RECREATE_NEVER_STARTED", "1");
    let simulation = stage.simulation();
    simulation.deploy(0.0, &["model-0"]);
    mso.line("Creates of pods wait, Forbidden");
    create_a_pod_that_its_node_turns_away(&stage, &simulation, "model-0");
    mso.line(&format!("Pod {} never started: NodeAffinity: Pod was rejected: ", simulation.pod_name("model-0")));
    apply(&[role]);
    simulation.hear("ModelsReady");
    simulation.end_models(&["model-0"]);
    simulation.hear("AllModelsHaveTerminated");
    assert_eq!(simulation.heard(), ["ModelsReady", "model-0/ModelHasTerminated", "AllModelsHaveTerminated"]);
}

#[test]
fn a_signal_ends_the_service_and_a_restart_leaves_the_pods_running() {
    for signal in ["TERM", "INT"] {
        let stage = Stage::new();
        let mut mso = stage.start_mso();
        let simulation = stage.simulation();
        simulation.deploy(0.0, &["model-0", "model-1"]);
        simulation.hear("ModelsReady");
        let pods = stage.namespace.pod_uids();
        mso.stops_in_time_on(signal);

        let mso = stage.start_mso();
        mso.line("goes on: of its 2 models 2 have said ready");
        stage.run_one_more();
        assert_eq!(stage.namespace.pod_uids(), pods);
        for (name, _) in &pods {
            assert_eq!(stage.namespace.pod(name).unwrap()["status"]["phase"], "Running");
        }
        assert_eq!(simulation.heard(), ["ModelsReady"]);
        simulation.end_models(&["model-0", "model-1"]);
        simulation.hear("AllModelsHaveTerminated");
    }
}

#[test]
fn a_signal_in_the_middle_of_a_deploy_ends_the_service_in_time() {
    let stage = Stage::new();
    let mut mso = stage.start_mso();
    let simulation = stage.simulation();
    let ids: Vec<String> = (0..50).map(|number| format!("model-{number}")).collect();
    simulation.deploy(0.0, &ids.iter().map(String::as_str).collect::<Vec<_>>());
    mso.line("Deploying pod");
    mso.stops_in_time_on("TERM");
}
