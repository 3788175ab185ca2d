//! Each cause for which a model does not run or ends, provoked; and what the SO is told of it.

use serde_json::{Value, json};

use crate::support::service::Service;
use crate::support::stage::{FAILED_WITHOUT_CODE, Simulation, Stage};
use crate::support::{Ground, LIMIT, manifests::apply, required};

/// In seconds. A kubelet that is busy says at its first try only that it has not heard yet what it needs; the next one is 10 to 15 s later.
pub(crate) const KUBELET_TRIES_TWICE: &str = "20";

/// One model, which fails without a code: the reason and the message that the SO is told.
pub(crate) fn fails_without_code(simulation: &Simulation<'_>) -> (String, String) {
    simulation.hear("AllModelsHaveTerminated");
    assert_eq!(
        simulation.heard(),
        [&format!("model-0/ModelHasTerminated {FAILED_WITHOUT_CODE}"), "model-0/ErrorOccurred", "AllModelsHaveTerminated"]
    );
    let (reason, message) = simulation.why("model-0");
    assert_eq!(simulation.error(), format!("Simulation {} fails. {message}", simulation.id));
    (reason, message)
}

/// For each container.
fn demand_much_cpu(stage: &Stage) {
    let metadata = json!({"name": "much", "namespace": stage.namespace.name});
    let limits = json!([{"type": "Container", "defaultRequest": {"cpu": "1000"}, "default": {"cpu": "1000"}}]);
    apply(&[json!({"apiVersion": "v1", "kind": "LimitRange", "metadata": metadata, "spec": {"limits": limits}})]);
}

/// Of each container.
fn limit_memory(stage: &Stage) {
    let metadata = json!({"name": "small", "namespace": stage.namespace.name});
    let limits = json!([{"type": "Container", "default": {"memory": "24Mi"}, "defaultRequest": {"memory": "24Mi"}}]);
    apply(&[json!({"apiVersion": "v1", "kind": "LimitRange", "metadata": metadata, "spec": {"limits": limits}})]);
}

pub(crate) fn assert_names(text: &str, words: &[&str]) {
    for word in words {
        assert!(text.contains(word), "{word:?} is not in {text:?}");
    }
}

#[test]
fn an_image_that_cannot_be_pulled_fails_its_model_in_time_and_its_pod_is_stopped() {
    let stage = Stage::new();
    let mso = stage.start_mso_with("IMAGE_PULL_TIMEOUT", "3");
    let simulation = stage.simulation();
    let mut model = simulation.model("model-0", &[]);
    model.image_url += "-that-does-not-exist";
    simulation.send(&simulation.request(0.0, vec![model]));
    let (reason, message) = fails_without_code(&simulation);
    assert!(["ErrImagePull", "ImagePullBackOff"].contains(&reason.as_str()), "{reason}");
    assert_names(&message, &[&simulation.pod_name("model-0"), "-that-does-not-exist", "does the tag exist", "start the simulation again"]);
    mso.line(&format!("Models [model-0] of simulation {} wait, ", simulation.id));
    stage.namespace.wait_until_gone(&simulation.pod_name("model-0"));
}

#[test]
#[ignore = "only on the real ground: devkit's node has no registries"]
fn a_registry_that_refuses_connections_fails_its_model_in_time_and_is_told_so() {
    let stage = Stage::on(Ground::Real);
    let _mso = stage.start_mso_with("IMAGE_PULL_TIMEOUT", "3");
    let simulation = stage.simulation();
    let mut model = simulation.model("model-0", &[]);
    "127.0.0.1:1/none:1".clone_into(&mut model.image_url);
    simulation.send(&simulation.request(0.0, vec![model]));
    let (reason, message) = fails_without_code(&simulation);
    assert!(["ErrImagePull", "ImagePullBackOff"].contains(&reason.as_str()), "{reason}");
    assert_names(&message, &["127.0.0.1:1/none:1", "connection refused", "start the simulation again"]);
    stage.namespace.wait_until_gone(&simulation.pod_name("model-0"));
}

#[test]
fn a_secret_that_is_not_there_fails_its_model_in_time_and_is_named() {
    let stage = Stage::new();
    let mut settings = stage.settings();
    settings.insert("AWS_K8S_SECRET".to_owned(), "no-such-secret".to_owned());
    settings.insert("CONTAINER_CONFIG_TIMEOUT".to_owned(), KUBELET_TRIES_TWICE.to_owned());
    let _mso = Service::start(&settings);
    let simulation = stage.simulation();
    simulation.deploy(0.0, &["model-0"]);
    let (reason, message) = fails_without_code(&simulation);
    assert_eq!(reason, "CreateContainerConfigError");
    assert_names(&message, &["no-such-secret", "The events of its pod say more"]);
}

/// The kubelet tells only in the pod's events what it waits for: they are read when it has waited for two minutes.
#[test]
#[ignore = "only on the real ground: devkit's node has no volumes"]
fn a_secret_of_a_volume_that_is_not_there_fails_its_model_in_time_in_the_words_of_its_events() {
    let stage = Stage::on(Ground::Real);
    let mut settings = stage.settings();
    settings.insert("GOOGLE_APPLICATION_CREDENTIALS_K8S_SECRET".to_owned(), "no-such-secret".to_owned());
    settings.insert("CONTAINER_CREATING_TIMEOUT".to_owned(), "135".to_owned());
    let mso = Service::start(&settings);
    let simulation = stage.simulation();
    simulation.deploy(0.0, &["model-0"]);
    simulation.hear_within(3 * LIMIT, "AllModelsHaveTerminated");
    let (reason, message) = fails_without_code(&simulation);
    assert_eq!(reason, "ContainerCreating");
    assert_names(&message, &["FailedMount", "no-such-secret", "mso explain shows them"]);
    mso.line("does not come to run. Its events: FailedMount: ");
}

#[test]
fn the_so_is_told_what_the_code_of_a_crash_means() {
    let stage = Stage::new();
    let _mso = stage.start_mso();
    let simulation = stage.simulation();
    let crashes = [("1", "The log of its pod says why"), ("137", "SIGKILL"), ("139", "SIGSEGV"), ("143", "SIGTERM")];
    let models = crashes
        .iter()
        .enumerate()
        .map(|(number, (code, _))| simulation.model(&format!("model-{number}"), &[("EXIT_AFTER_SECONDS", "1"), ("EXIT_CODE", code)]));
    simulation.send(&simulation.request(0.0, models.collect()));
    simulation.hear("AllModelsHaveTerminated");
    for (number, (code, words)) in crashes.iter().enumerate() {
        let (reason, message) = simulation.why(&format!("model-{number}"));
        assert_eq!(reason, "Error");
        assert_names(&message, &[&format!("failed with exit code {code}"), words, &simulation.pod_name(&format!("model-{number}"))]);
    }
}

#[test]
#[ignore = "only on the real ground: devkit's cluster runs each image's program"]
fn an_image_whose_command_is_not_there_is_told_with_its_name() {
    let stage = Stage::on(Ground::Real);
    let _mso = stage.start_mso();
    let simulation = stage.simulation();
    let mut model = simulation.model("model-0", &[]);
    model.image_url = required("MSO_TEST_IMAGE_WITHOUT_COMMAND", "an image whose command is /no-such-command, as a pod names it");
    simulation.send(&simulation.request(0.0, vec![model]));
    simulation.hear("AllModelsHaveTerminated");
    assert_eq!(simulation.heard(), ["model-0/ModelHasTerminated 08 01 10 80 01", "model-0/ErrorOccurred", "AllModelsHaveTerminated"]);
    let (reason, message) = simulation.why("model-0");
    assert_eq!(reason, "StartError");
    assert_names(&message, &["/no-such-command", "no such file or directory"]);
    assert_eq!(simulation.error(), format!("Simulation {} fails. {message}", simulation.id));
}

#[test]
#[ignore = "only on the real ground: devkit's node has room for everything"]
fn a_pod_for_which_there_is_too_little_cpu_fails_its_model_in_time_and_is_deleted() {
    let stage = Stage::on(Ground::Real);
    let _mso = stage.start_mso_with("UNSCHEDULABLE_TIMEOUT", "3");
    demand_much_cpu(&stage);
    let simulation = stage.simulation();
    simulation.deploy(0.0, &["model-0"]);
    let (reason, message) = fails_without_code(&simulation);
    assert_eq!(reason, "Unschedulable");
    assert_names(&message, &["Insufficient cpu", "Make room on a node"]);
    stage.namespace.wait_until_gone(&simulation.pod_name("model-0"));
}

#[test]
#[ignore = "only on the real ground: devkit's cluster admits every pod"]
fn pod_security_that_refuses_a_pod_is_told_at_once() {
    let stage = Stage::on(Ground::Real);
    let _mso = stage.start_mso();
    stage.namespace.enforce_restricted_pods();
    let simulation = stage.simulation();
    simulation.deploy(0.0, &["model-0"]);
    let (reason, message) = fails_without_code(&simulation);
    assert_eq!(reason, "PodAdmissionFailed");
    assert_names(&message, &["violates PodSecurity", "what the cluster admits"]);
}

#[test]
#[ignore = "only on the real ground: devkit's cluster has no quotas"]
fn a_quota_that_demands_limits_is_told_at_once() {
    let stage = Stage::on(Ground::Real);
    let _mso = stage.start_mso();
    stage.namespace.kubectl(&["create", "quota", "demanding", "--hard=limits.cpu=4"]);
    let simulation = stage.simulation();
    simulation.deploy(0.0, &["model-0"]);
    let (reason, message) = fails_without_code(&simulation);
    assert_eq!(reason, "QuotaRequiresResources");
    assert_names(&message, &["must specify limits.cpu", "Change the quota"]);
}

#[test]
#[ignore = "only on the real ground: devkit's node has room for everything"]
fn a_cancelled_simulation_gives_back_at_once_what_has_no_node() {
    let stage = Stage::on(Ground::Real);
    let _mso = stage.start_mso();
    demand_much_cpu(&stage);
    let simulation = stage.simulation();
    simulation.deploy(0.0, &["model-0"]);
    stage.namespace.wait_for_phase(&simulation.pod_name("model-0"), "Pending");
    stage.so.publish(&format!("/lifecycle/{}/mso/{}/SimulationDone", stage.simulator, simulation.id), Vec::new());
    simulation.hear("AllModelsHaveTerminated");
    assert_eq!(simulation.heard(), [&format!("model-0/ModelHasTerminated {FAILED_WITHOUT_CODE}"), "AllModelsHaveTerminated"]);
    assert_eq!(simulation.why("model-0").0, "Cancelled");
    stage.namespace.wait_until_gone(&simulation.pod_name("model-0"));
}

/// Two minutes are its grace.
#[test]
#[ignore = "only on the real ground: it takes two minutes"]
fn a_model_that_hangs_before_it_is_ready_is_stopped_after_simulation_done_and_its_log_stays() {
    let stage = Stage::on(Ground::Real);
    let mso = stage.start_mso();
    let simulation = stage.simulation();
    // It hears nothing that is for model-0.
    let hangs = simulation.model("model-0", &[("READY_AFTER_SECONDS", "never"), ("MODEL_ID", "another")]);
    simulation.send(&simulation.request(1.0, vec![hangs, simulation.model("model-1", &[])]));
    stage.namespace.wait_for_phase(&simulation.pod_name("model-0"), "Running");
    mso.line(&format!("Model {}/model-1 is ready.", simulation.id));
    simulation.end_models(&["model-0", "model-1"]);
    simulation.hear_within(3 * LIMIT, "AllModelsHaveTerminated");
    let cancelled = format!("model-0/ModelHasTerminated {FAILED_WITHOUT_CODE}");
    assert_eq!(simulation.heard(), ["model-1/ModelHasTerminated", &cancelled, "AllModelsHaveTerminated"]);
    stage.namespace.wait_for_phase(&simulation.pod_name("model-0"), "Failed");
}

#[test]
#[ignore = "only on the real ground: devkit's cluster has no quotas"]
fn a_quota_that_is_used_up_at_the_third_model_fails_that_one_in_time() {
    let stage = Stage::on(Ground::Real);
    let mso = stage.start_mso_with("QUOTA_TIMEOUT", "3");
    stage.namespace.kubectl(&["create", "quota", "small", "--hard=pods=2"]);
    let simulation = stage.simulation();
    // They end by themselves, after the third has been given up.
    let models = (0..3).map(|number| simulation.model(&format!("model-{number}"), &[("EXIT_AFTER_SECONDS", "20")]));
    simulation.send(&simulation.request(0.0, models.collect()));
    let error = simulation.error();
    assert_names(&error, &["ExceededQuota", "exceeded quota: small", "limited: pods=2", "Change the quota"]);
    mso.line("Creates of pods wait, ExceededQuota: ");
    simulation.hear("AllModelsHaveTerminated");
    let failed = simulation.heard().iter().filter(|heard| heard.ends_with(FAILED_WITHOUT_CODE)).count();
    assert_eq!(failed, 1, "{:?}", simulation.heard());
}

#[test]
#[ignore = "only on the real ground: devkit's containers have no memory limit"]
fn a_model_that_takes_too_much_memory_is_told_as_oom_killed() {
    let stage = Stage::on(Ground::Real);
    let _mso = stage.start_mso();
    limit_memory(&stage);
    let simulation = stage.simulation();
    simulation.send(&simulation.request(0.0, vec![simulation.model("model-0", &[("LOG_BYTES_IN_ONE_LINE", "100000000")])]));
    simulation.hear("model-0/ModelHasTerminated 08 01 10 89 01");
    let (reason, message) = simulation.why("model-0");
    assert_eq!(reason, "OOMKilled");
    assert_names(&message, &["exit code 137", "Raise its memory limit"]);
}

/// Takes a node that kills this process alone: with cgroup v1, or with `singleProcessOOMKill` for its kubelet.
#[test]
#[ignore = "only on the real ground: devkit's containers have no memory limit"]
fn a_model_that_loses_a_process_to_the_memory_limit_and_ends_well_is_told_as_a_success_with_a_warning() {
    let stage = Stage::on(Ground::Real);
    let mso = stage.start_mso();
    limit_memory(&stage);
    let simulation = stage.simulation();
    simulation.send(&simulation.request(0.0, vec![simulation.model("model-0", &[("CHILD_MEMORY_BYTES", "100000000")])]));
    simulation.hear("ModelsReady");
    simulation.end_models(&["model-0"]);
    simulation.hear("AllModelsHaveTerminated");
    assert_eq!(simulation.heard(), ["ModelsReady", "model-0/ModelHasTerminated", "AllModelsHaveTerminated"]);
    assert_names(&mso.line("now has exit code 0"), &["WARN", "OOMKilled"]);
}

#[test]
#[ignore = "only on the real ground: devkit's cluster evicts nothing"]
fn a_pod_that_is_evicted_as_a_drain_does_it_is_told_so() {
    let stage = Stage::on(Ground::Real);
    let _mso = stage.start_mso();
    let simulation = stage.simulation();
    simulation.deploy(0.0, &["model-0"]);
    simulation.hear("ModelsReady");
    stage.namespace.evict_pod(&simulation.pod_name("model-0"));
    simulation.hear("AllModelsHaveTerminated");
    let (reason, message) = simulation.why("model-0");
    assert_eq!(reason, "PodDeleted");
    assert_names(&message, &["EvictionByEvictionAPI", "Start the simulation again"]);
}

#[test]
fn a_pod_that_a_person_deletes_gently_or_by_force_is_told_as_deleted_by_others() {
    let stage = Stage::new();
    let _mso = stage.start_mso_with("REPORT_ERRORS", "always");
    let delete_with = |delete: &dyn Fn(&str)| {
        let simulation = stage.simulation();
        simulation.deploy(0.0, &["model-0"]);
        simulation.hear("ModelsReady");
        delete(&simulation.pod_name("model-0"));
        simulation.hear("AllModelsHaveTerminated");
        let (reason, message) = simulation.why("model-0");
        assert_eq!(reason, "PodDeleted");
        // Whether the pod is still there to be named when this is told is a matter of moments.
        assert_names(&message, &[&format!("Model {}/model-0", simulation.id), "Start the simulation again"]);
        assert_eq!(simulation.error(), format!("Simulation {} fails. {message}", simulation.id));
        stage.namespace.wait_until_gone(&simulation.pod_name("model-0"));
        (simulation.heard().remove(1), message)
    };
    let (heard, message) = delete_with(&|pod| stage.namespace.delete_pod(pod));
    assert_eq!(heard, "model-0/ModelHasTerminated 08 01 10 8f 01");
    assert_names(&message, &["exit code 143, it was told to end (SIGTERM)", "somebody deleted its pod"]);
    // The kubelet may tell how its container ended, or be too late.
    let (_, message) = delete_with(&|pod| stage.namespace.delete_pod_by_force(pod));
    let words = ["somebody deleted its pod", "the pod was deleted, and not by this service"];
    assert!(words.iter().any(|words| message.contains(words)), "{message}");
}

/// The service sees nothing of it until the new pod is there, whose uid this is.
fn replace_pod(stage: &Stage, mso: &Service, simulation: &Simulation<'_>, replacement: impl FnOnce(Value) -> Value) -> String {
    simulation.deploy(0.0, &["model-0"]);
    simulation.hear("ModelsReady");
    let name = simulation.pod_name("model-0");
    let pod = stage.namespace.pod(&name).expect("the model runs");
    let before = pod["metadata"]["uid"].as_str().expect("a pod has a uid").to_owned();
    mso.freeze();
    stage.namespace.delete_pod_by_force(&name);
    stage.namespace.create(&replacement(pod));
    mso.thaw();
    simulation.hear("AllModelsHaveTerminated");
    let (reason, message) = simulation.why("model-0");
    assert_eq!(reason, "PodReplaced");
    assert_eq!(
        simulation.heard(),
        ["ModelsReady", &format!("model-0/ModelHasTerminated {FAILED_WITHOUT_CODE}"), "AllModelsHaveTerminated"]
    );
    let now = stage.namespace.pod(&name).expect("it is left alone")["metadata"]["uid"].as_str().expect("a pod has a uid").to_owned();
    assert_names(&message, &[&format!("the pod was {before}"), &format!("one with uid {now} has its name"), "start the simulation again"]);
    now
}

#[test]
fn a_pod_whose_name_somebody_elses_pod_has_taken_is_told_as_replaced_and_the_other_one_is_left_alone() {
    let stage = Stage::new();
    let mso = stage.start_mso();
    let simulation = stage.simulation();
    let of_somebody_else = |pod: Value| {
        let container = json!({"name": "other", "image": pod["spec"]["containers"][0]["image"]});
        json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": pod["metadata"]["name"]}, "spec": {"restartPolicy": "Never", "containers": [container]}})
    };
    let now = replace_pod(&stage, &mso, &simulation, of_somebody_else);
    stage.run_one_more();
    assert_eq!(stage.namespace.pod_uids(), [(simulation.pod_name("model-0"), now)]);
}

/// `kubectl get -o yaml | kubectl replace --force -f -`, say: the same labels and annotations.
#[test]
fn a_pod_that_is_made_anew_by_hand_is_told_as_replaced_as_its_model_has_lost_its_work() {
    let stage = Stage::new();
    let mso = stage.start_mso();
    let simulation = stage.simulation();
    let the_same = |mut pod: Value| {
        for name in ["uid", "resourceVersion", "creationTimestamp"] {
            pod["metadata"].as_object_mut().expect("a pod has metadata").remove(name);
        }
        for name in ["nodeName", "volumes"] {
            pod["spec"].as_object_mut().expect("a pod has a spec").remove(name);
        }
        pod["status"].take();
        pod
    };
    replace_pod(&stage, &mso, &simulation, the_same);
    stage.run_one_more();
}

#[test]
#[ignore = "only on the real ground: devkit's cluster has no finalizers"]
fn a_pod_behind_a_finalizer_is_told_as_deleted_when_its_container_ends() {
    let stage = Stage::on(Ground::Real);
    let _mso = stage.start_mso();
    let simulation = stage.simulation();
    simulation.deploy(0.0, &["model-0"]);
    simulation.hear("ModelsReady");
    let pod = simulation.pod_name("model-0");
    let finalizers = |text: &str| stage.namespace.kubectl(&["patch", "pod", &pod, "--type=merge", "-p", text]);
    finalizers(r#"{"metadata":{"finalizers":["test.dots/holds"]}}"#);
    stage.namespace.delete_pod(&pod);
    simulation.hear("AllModelsHaveTerminated");
    assert_eq!(simulation.why("model-0").0, "PodDeleted");
    assert!(stage.namespace.pod(&pod).is_some(), "it is still there");
    finalizers(r#"{"metadata":{"finalizers":null}}"#);
    stage.namespace.wait_until_gone(&pod);
}

#[test]
#[ignore = "only on the real ground: devkit's cluster has one namespace"]
fn a_namespace_that_is_deleted_fails_what_runs() {
    let stage = Stage::on(Ground::Real);
    let _mso = stage.start_mso();
    let simulation = stage.simulation();
    simulation.deploy(0.0, &["model-0"]);
    simulation.hear("ModelsReady");
    stage.namespace.kubectl(&["delete", "namespace", &stage.namespace.name, "--wait=false"]);
    simulation.hear("AllModelsHaveTerminated");
    assert_eq!(simulation.why("model-0").0, "PodDeleted");
}

#[test]
#[ignore = "only on the real ground: devkit's cluster has no Roles"]
fn the_right_to_create_pods_that_is_taken_away_fails_in_time_what_has_none() {
    let stage = Stage::on(Ground::Real);
    let mso = stage.start_mso_with("DENIED_TIMEOUT", "3");
    let first = stage.simulation();
    first.send(&first.request(0.0, vec![first.model("model-0", &[("READY_AT_LEAST_ONCE", "true")])]));
    first.hear("ModelsReady");
    stage.namespace.forbid_creates_of_pods();
    let second = stage.simulation();
    second.deploy(0.0, &["model-0"]);
    second.hear("AllModelsHaveTerminated");
    let (reason, message) = second.why("model-0");
    assert_eq!(reason, "Forbidden");
    assert_names(&message, &["cannot create resource", "mso check names them"]);
    assert!(mso.log().iter().any(|line| line.contains("ERROR") && line.contains("Forbidden")));
    first.end_models(&["model-0"]);
    first.hear("AllModelsHaveTerminated");
}
