//! What becomes of simulations.

use std::time::Duration;

use devkit::so::Heard;
use mso::clock;
use serde_json::{Value, json};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::support::eventually;
use crate::support::service::{REQUEST_AGAIN, Service};
use crate::support::stage::{FAILED_WITHOUT_CODE, SIMULATOR_ID, Stage};

#[test]
fn a_simulation_in_which_all_goes_well() {
    const KEEP_LOGS_HOURS: f64 = 0.003;
    let stage = Stage::new();
    let mut settings = stage.settings();
    settings.insert("KUBERNETES_PULL_IMAGE_SECRET_NAME".to_owned(), "pull-secret".to_owned());
    let mso = Service::start(&settings);
    let simulation = stage.simulation();
    simulation.send(
        &simulation.request(KEEP_LOGS_HOURS, vec![simulation.model("Model-0", &[("LAST", "a value")]), simulation.model("Model-1", &[])]),
    );
    simulation.hear("ModelsReady");

    let name = simulation.pod_name("Model-0");
    let mut pod = stage.namespace.pod(&name).expect("the model has a pod");
    pod["spec"]["nodeName"].take();
    assert_eq!(pod["spec"], pod_spec(&stage, &simulation.id, &name), "{pod:#}");
    let labels = json!({
        "simulator_id": SIMULATOR_ID, "simulation_id": simulation.id, "model_id": "Model-0", "keep_logs_hours": "0.003",
        "mso.dots/simulator": stage.simulator,
    });
    assert_eq!(pod["metadata"]["labels"], labels);
    assert_eq!(pod["metadata"]["annotations"]["mso.dots/models"], "2");
    let deploy = pod["metadata"]["annotations"]["mso.dots/deploy"].as_str().unwrap();
    assert!(deploy.len() == 16 && deploy.bytes().all(|digit| digit.is_ascii_hexdigit()), "{deploy}");

    simulation.end_models(&["Model-0", "Model-1"]);
    simulation.hear("AllModelsHaveTerminated");
    let delete_by = eventually("delete_by_datetime", || {
        let label = stage.namespace.pod(&name)?["metadata"]["labels"]["delete_by_datetime"].take();
        label.as_str()?.parse::<f64>().ok()
    });
    // Within the time from the container's end to now; the API server's clock, which counts here, is known to a second.
    let bounds = finished_at(&stage, &name) - 1.0..clock::now().unix.0 + 1.0;
    assert!(bounds.contains(&(delete_by - KEEP_LOGS_HOURS * 3600.0)), "{delete_by} is not {KEEP_LOGS_HOURS} hours after one of {bounds:?}");
    stage.namespace.wait_until_gone(&name);
    assert!(clock::now().unix.0 >= delete_by, "deleted before its time");
    stage.namespace.wait_until_gone(&simulation.pod_name("Model-1"));

    let mut heard = simulation.heard();
    heard[1..3].sort();
    assert_eq!(heard, ["ModelsReady", "Model-0/ModelHasTerminated", "Model-1/ModelHasTerminated", "AllModelsHaveTerminated"]);
    let from_service = |heard: &[Heard]| heard.iter().filter(|heard| heard.topic.starts_with("/lifecycle/mso/")).count();
    assert_eq!(stage.so.heard.read(from_service), 4, "nothing else is published");
    hear_the_contracts_words(&mso, &simulation.id, &name);
}

fn finished_at(stage: &Stage, pod: &str) -> f64 {
    let pod = stage.namespace.pod(pod).expect("the pod is there");
    let date = pod["status"]["containerStatuses"][0]["state"]["terminated"]["finishedAt"].as_str().expect("the container has ended");
    OffsetDateTime::parse(date, &Rfc3339).expect("it is a date").unix_timestamp() as f64
}

/// The contract's words, for the model `Model-0`.
fn hear_the_contracts_words(mso: &Service, id: &str, pod: &str) {
    let lines = [
        "Adding models [".to_owned(),
        format!("Deploying pod {pod}"),
        format!("Successfully deployed model Model-0 for simulation {id}"),
        format!("All models in simulation {id} are running. Send out ModelsReady."),
        format!("Model {id}/Model-0 now has exit code 0 due to: "),
        format!("Model {id}/Model-0 has terminated. Marking as ModelState.TERMINATED_SUCCESSFULL."),
        format!("Model {id}/Model-0 has terminated. Send out ModelHasTerminated."),
        format!("All models for simulation {id} have terminated. Send out AllModelsHaveTerminated."),
        format!("Removing simulation {id} from cache."),
        format!("Deleting pod {pod}"),
    ];
    mso.lines_in_order(&lines);
}

/// As the API server fills it in. What the service sends is the containers, and the settings that are not the server's own.
fn pod_spec(stage: &Stage, simulation: &str, name: &str) -> Value {
    let tolerates = |key: &str| json!({"key": key, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 300});
    json!({
        "automountServiceAccountToken": false,
        "containers": [{
            "name": name,
            "image": stage.model_image(),
            "imagePullPolicy": "Always",
            "env": [
                {"name": "MQTT_HOST", "value": stage.broker.pod_host},
                {"name": "MQTT_PORT", "value": stage.broker.pod_port.to_string()},
                {"name": "SIMULATION_ID", "value": simulation},
                {"name": "MODEL_ID", "value": "Model-0"},
                {"name": "LAST", "value": "a value"},
            ],
            "resources": {},
            "terminationMessagePath": "/dev/termination-log",
            "terminationMessagePolicy": "FallbackToLogsOnError",
        }],
        "dnsPolicy": "ClusterFirst",
        "enableServiceLinks": false,
        "imagePullSecrets": [{"name": "pull-secret"}],
        "nodeName": null,
        "nodeSelector": {"type": "worker"},
        "preemptionPolicy": "PreemptLowerPriority",
        "priority": 0,
        "restartPolicy": "Never",
        "schedulerName": "default-scheduler",
        "securityContext": {},
        "serviceAccount": "default",
        "serviceAccountName": "default",
        "terminationGracePeriodSeconds": 30,
        "tolerations": [tolerates("node.kubernetes.io/not-ready"), tolerates("node.kubernetes.io/unreachable")],
    })
}

#[test]
fn models_that_crash_before_and_after_they_are_ready() {
    let stage = Stage::new();
    let mso = stage.start_mso();
    let simulation = stage.simulation();
    let good = [("EXIT_AFTER_SECONDS", "10")];
    let crashes_first = [("READY_AFTER_SECONDS", "never"), ("EXIT_AFTER_SECONDS", "0"), ("EXIT_CODE", "1"), ("LOG_LINES", "40")];
    let crashes_later = [("EXIT_AFTER_SECONDS", "5"), ("EXIT_CODE", "2")];
    let models = vec![
        simulation.model("model-0", &good),
        simulation.model("model-1", &crashes_first),
        simulation.model("model-2", &crashes_later),
        simulation.model("model-3", &good),
    ];
    simulation.send(&simulation.request(24.0, models));
    simulation.hear("AllModelsHaveTerminated");

    let mut heard = simulation.heard();
    assert_eq!(heard.pop().as_deref(), Some("AllModelsHaveTerminated"));
    heard.sort();
    // Of whichever of the two is seen first.
    let errors: Vec<String> = heard.extract_if(.., |heard| heard.ends_with("/ErrorOccurred")).collect();
    assert_eq!(errors.len(), 1, "{errors:?}");
    let expected = [
        "model-0/ModelHasTerminated",
        "model-1/ModelHasTerminated 08 01 10 01",
        "model-2/ModelHasTerminated 08 01 10 02",
        "model-3/ModelHasTerminated",
    ];
    assert_eq!(heard, expected);

    let id = &simulation.id;
    mso.line(&format!("Model {id}/model-1 now has exit code 1 due to: Error"));
    mso.line(&format!("Model {id}/model-1 has terminated. Marking as ModelState.TERMINATED_FAILED."));
    mso.line(&format!("Retrieving last log lines for pod {}", simulation.pod_name("model-1")));
    mso.line(&format!("Pod {SIMULATOR_ID}.{id}.model-1 crashed with status 1 and the last 30 log lines are:"));
    mso.line(&format!("Pod {SIMULATOR_ID}.{id}.model-2 crashed with status 2 and the last 30 log lines are:"));
    // The model says how it ends, in one line more.
    let log = mso.log();
    assert!(log.iter().any(|line| line == "    | line 12 of 40") && log.iter().all(|line| !line.ends_with("line 11 of 40")));
}

/// As models in use do on an exception: their SO ends the simulation then.
#[test]
fn a_model_that_reports_an_error_and_ends_with_0_has_ended_well() {
    let stage = Stage::new();
    let _mso = stage.start_mso();
    let simulation = stage.simulation();
    let reports = simulation.model("model-0", &[("FAIL_AT_PARAMETERS", "true")]);
    simulation.send(&simulation.request(0.0, vec![reports, simulation.model("model-1", &[])]));
    simulation.hear("AllModelsHaveTerminated");
    let heard = simulation.heard_sorted();
    assert_eq!(heard, ["AllModelsHaveTerminated", "ModelsReady", "model-0/ModelHasTerminated", "model-1/ModelHasTerminated"]);
}

#[test]
fn a_hundred_models() {
    const SLOW_NODE: Duration = Duration::from_secs(400);
    let stage = Stage::new();
    let _mso = stage.start_mso();
    let simulation = stage.simulation();
    let ids: Vec<String> = (0..100).map(|number| format!("model-{number}")).collect();
    let ids: Vec<&str> = ids.iter().map(String::as_str).collect();
    simulation.deploy(0.0, &ids);
    simulation.hear_within(SLOW_NODE, "ModelsReady");
    assert_eq!(stage.namespace.pods().len(), 100);
    simulation.end_models(&ids);
    simulation.hear_within(SLOW_NODE, "AllModelsHaveTerminated");

    let mut heard = simulation.heard();
    assert_eq!((heard.remove(0).as_str(), heard.pop().as_deref()), ("ModelsReady", Some("AllModelsHaveTerminated")));
    heard.sort();
    let mut expected: Vec<String> = ids.iter().map(|id| format!("{id}/ModelHasTerminated")).collect();
    expected.sort();
    assert_eq!(heard, expected);
    eventually("the end of all pods", || stage.namespace.pods().is_empty().then_some(()));
}

#[test]
fn two_simulations_at_once_with_the_same_model_ids() {
    let stage = Stage::new();
    let _mso = stage.start_mso();
    let [first, second] = [stage.simulation(), stage.simulation()];
    for simulation in [&first, &second] {
        simulation.deploy(0.0, &["model-0", "model-1"]);
    }
    first.hear("ModelsReady");
    second.hear("ModelsReady");
    first.end_models(&["model-0", "model-1"]);
    first.hear("AllModelsHaveTerminated");
    assert_eq!(second.heard(), ["ModelsReady"]);
    second.end_models(&["model-0", "model-1"]);
    second.hear("AllModelsHaveTerminated");
    assert_eq!(first.heard_sorted(), second.heard_sorted());
    assert_eq!(
        first.heard_sorted(),
        ["AllModelsHaveTerminated", "ModelsReady", "model-0/ModelHasTerminated", "model-1/ModelHasTerminated"]
    );
}

#[test]
fn two_instances_for_different_simulators_in_one_namespace() {
    let stage = Stage::new();
    let beside = stage.beside();
    let _first_mso = stage.start_mso();
    let _second_mso = beside.start_mso();
    let [kept, dropped] = [stage.simulation(), beside.simulation()];
    kept.deploy(24.0, &["model-0"]);
    dropped.deploy(0.0, &["model-0"]);
    kept.hear("ModelsReady");
    dropped.hear("ModelsReady");
    let kept_uid = uid(&stage, &kept.pod_name("model-0"));

    dropped.end_models(&["model-0"]);
    dropped.hear("AllModelsHaveTerminated");
    stage.namespace.wait_until_gone(&dropped.pod_name("model-0"));
    assert_eq!(kept.heard(), ["ModelsReady"]);
    kept.end_models(&["model-0"]);
    kept.hear("AllModelsHaveTerminated");
    beside.run_one_more();
    assert_eq!(uid(&stage, &kept.pod_name("model-0")), kept_uid);
}

/// Gone at once; with the kubelet's code for a container that it cannot find; with the code of a model that took the signal.
const DELETED: [&str; 3] = [FAILED_WITHOUT_CODE, "08 01 10 89 01", "08 01 10 8f 01"];

fn uid(stage: &Stage, pod: &str) -> Value {
    stage.namespace.pod(pod).expect("the pod is there")["metadata"]["uid"].take()
}

#[test]
fn a_pod_deleted_by_hand() {
    let stage = Stage::new();
    let _mso = stage.start_mso();
    let simulation = stage.simulation();
    simulation.deploy(0.0, &["model-0", "model-1"]);
    simulation.hear("ModelsReady");
    stage.namespace.delete_pod_by_force(&simulation.pod_name("model-0"));
    simulation.end_models(&["model-1"]);
    simulation.hear("AllModelsHaveTerminated");
    let mut heard = simulation.heard_sorted();
    let failure = heard.remove(2);
    assert!(DELETED.iter().any(|code| failure == format!("model-0/ModelHasTerminated {code}")), "{failure}");
    assert_eq!(heard, ["AllModelsHaveTerminated", "ModelsReady", "model-1/ModelHasTerminated"]);
}

#[test]
fn an_image_that_does_not_exist_keeps_nothing_else_waiting() {
    let stage = Stage::new();
    let _mso = stage.start_mso();
    let simulation = stage.simulation();
    let mut without_image = simulation.model("model-0", &[]);
    without_image.image_url += "-that-does-not-exist";
    simulation.send(&simulation.request(0.0, vec![without_image, simulation.model("model-1", &[("EXIT_AFTER_SECONDS", "1")])]));
    simulation.hear("model-1/ModelHasTerminated");
    stage.run_one_more();
    assert_eq!(simulation.heard(), ["model-1/ModelHasTerminated"]);
    stage.namespace.delete_pod(&simulation.pod_name("model-0"));
    simulation.hear("AllModelsHaveTerminated");
    let mut heard = simulation.heard();
    let failure = heard.remove(1);
    assert!(DELETED.iter().any(|code| failure == format!("model-0/ModelHasTerminated {code}")), "{failure}");
    assert_eq!(heard, ["model-1/ModelHasTerminated", "model-0/ErrorOccurred", "AllModelsHaveTerminated"]);
}

#[test]
fn a_log_of_ten_megabytes_in_one_line() {
    const LINE_BYTES_MAX: usize = 66_000;
    const MEMORY_KB_MAX: u64 = 32 * 1024;
    let stage = Stage::new();
    let mso = stage.start_mso();
    let simulation = stage.simulation();
    let variables = [("LOG_BYTES_IN_ONE_LINE", "10000000"), ("EXIT_AFTER_SECONDS", "1"), ("EXIT_CODE", "3")];
    simulation.send(&simulation.request(0.0, vec![simulation.model("model-0", &variables)]));
    simulation.hear("model-0/ModelHasTerminated 08 01 10 03");
    mso.line("crashed with status 3 and the last 30 log lines are:");
    mso.line("ending with code 3 at");
    let longest = mso.log().iter().map(String::len).max();
    assert!(longest < Some(LINE_BYTES_MAX), "{longest:?}");
    assert!(mso.memory_kb("VmHWM") < MEMORY_KB_MAX, "{} kB", mso.memory_kb("VmHWM"));
}

#[test]
fn an_identical_request_again_changes_nothing() {
    let stage = Stage::new();
    let mso = stage.start_mso();
    let simulation = stage.simulation();
    simulation.deploy(24.0, &["model-0", "model-1"]);
    simulation.hear("ModelsReady");
    let pods = stage.namespace.pod_uids();
    simulation.deploy(24.0, &["model-0", "model-1"]);
    mso.line(REQUEST_AGAIN);
    simulation.end_models(&["model-0", "model-1"]);
    simulation.hear("AllModelsHaveTerminated");
    assert_eq!(stage.namespace.pod_uids(), pods);
    assert_eq!(
        simulation.heard_sorted(),
        ["AllModelsHaveTerminated", "ModelsReady", "model-0/ModelHasTerminated", "model-1/ModelHasTerminated"]
    );
}
