//! `mso explain`, as a person runs it: what it says of models in trouble while the service runs and after it has stopped, and its exit code.

mod support;

use std::process::{Command, Output};

use serde_json::{Value, json};

use support::service::{Service, Settings};
use support::stage::{Simulation, Stage};
use support::{Ground, eventually};

fn explain(settings: &Settings, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_mso"));
    command.arg("explain").args(arguments).env_clear().envs(settings).current_dir(std::env::temp_dir());
    command.output().expect("the program can be started")
}

/// What it says, once it says all of this.
fn explained(settings: &Settings, arguments: &[&str], words: &[&str]) -> String {
    let mut last = String::new();
    let found = devkit::wait::until(support::LIMIT, || {
        let output = explain(settings, arguments);
        last = format!("{}{}", text(&output.stdout), text(&output.stderr));
        (output.status.success() && words.iter().all(|word| last.contains(word))).then(|| last.clone())
    });
    found.unwrap_or_else(|| panic!("mso explain {arguments:?} does not say all of {words:?}:\n{last}"))
}

fn refused(settings: &Settings, arguments: &[&str], code: i32) -> String {
    let output = explain(settings, arguments);
    let problem = text(&output.stderr).to_owned();
    assert_eq!((output.status.code(), text(&output.stdout), problem.lines().count()), (Some(code), "", 1), "{problem}");
    problem
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).expect("it writes text")
}

/// One model that does its work, one whose image is not there, one that has crashed and two that do not say that they are ready.
fn deploy_troubles(simulation: &Simulation<'_>) {
    let mut unpullable = simulation.model("unpullable", &[]);
    unpullable.image_url += "-that-does-not-exist";
    let never = [("READY_AFTER_SECONDS", "never")];
    let crashed = [("EXIT_AFTER_SECONDS", "1"), ("EXIT_CODE", "139"), ("LOG_LINES", "40")];
    let models = vec![
        simulation.model("good", &[]),
        unpullable,
        simulation.model("crashed", &crashed),
        simulation.model("slow-1", &never),
        simulation.model("slow-2", &never),
    ];
    simulation.send(&simulation.request(1.0, models));
}

#[test]
fn each_trouble_is_explained_while_the_service_runs_and_after_it_has_stopped() {
    let stage = Stage::new();
    let settings = stage.settings();
    // An SO that is told of the failure ends them all.
    let mut mso = stage.start_mso_with("REPORT_ERRORS", "never");
    let simulation = stage.simulation();
    deploy_troubles(&simulation);
    let id = simulation.id.as_str();
    let all_is_explained = || {
        explained(&settings, &[], &[&format!("✗ {id}  5 models: 1 failed, 3 waiting, 1 ready; since 20"), "→ mso explain SIMULATION"]);
        let of_simulation = [
            "ModelsReady was not sent",
            "✗ crashed  failed with exit code 139 (it touched memory that is not its own (SIGSEGV)): Error",
            "! slow-1, slow-2  waiting: WaitingForReady",
            "! unpullable  waiting: ",
            "ImagePull",
            "does the tag exist",
            "; it is given up after 5 min",
            "✓ 1 ready",
            &format!("→ mso explain {id} crashed"),
        ];
        explained(&settings, &[id], &of_simulation);
        let crashed = explained(
            &settings,
            &[id, "crashed"],
            &[
                &format!("✗ {id}/crashed  failed with exit code 139"),
                "SIGSEGV",
                "→ its log says why, all of it: kubectl -n ",
                "│ line 40 of 40",
            ],
        );
        assert_eq!(crashed.matches("│ ").count(), 30, "{crashed}");
        let pod = simulation.pod_name("unpullable");
        let of_unpullable = [
            pod.as_str(),
            "made 20",
            "phase Pending",
            "-that-does-not-exist",
            "conditions    ",
            "Ready=False",
            "log           none: ",
            "→ push the image",
        ];
        explained(&settings, &[id, "unpullable"], &of_unpullable);
        let of_slow =
            [&format!("! {id}/slow-1  waiting: WaitingForReady") as &str, "has not said that it is ready", "publish ReadyForProcessing"];
        let slow = explained(&settings, &[id, "slow-1"], &of_slow);
        assert!(!slow.contains('\x1b'), "a pipe has no colors: {slow:?}");
        explained(&settings, &[id, "good"], &[&format!("✓ {id}/good  ready"), "phase Running"]);
    };
    all_is_explained();
    mso.stops_in_time_on("TERM");
    all_is_explained();
}

#[test]
fn a_model_that_was_given_up_is_explained_also_when_its_pod_is_gone() {
    let stage = Stage::new();
    let mut settings = stage.settings();
    settings.extend([("IMAGE_PULL_TIMEOUT", "2"), ("REPORT_ERRORS", "never")].map(|(name, value)| (name.to_owned(), value.to_owned())));
    let _mso = Service::start(&settings);
    let simulation = stage.simulation();
    let mut model = simulation.model("model-0", &[]);
    model.image_url += "-that-does-not-exist";
    // The other one keeps the simulation from being over.
    simulation.send(&simulation.request(1.0, vec![model, simulation.model("model-1", &[])]));
    simulation.why("model-0");
    let id = simulation.id.as_str();
    explained(
        &stage.settings(),
        &[id, "model-0"],
        &[&format!("✗ {id}/model-0  failed: GivenUp"), "phase Failed", "it waited too long", "→ kubectl -n "],
    );
    stage.namespace.delete_pod_by_force(&simulation.pod_name("model-0"));
    stage.namespace.wait_until_gone(&simulation.pod_name("model-0"));
    let gone = [&format!("✗ {id}/model-0  failed: GivenUp") as &str, "pod           none; its name is ", "kubectl -n "];
    explained(&stage.settings(), &[id, "model-0"], &gone);
}

#[test]
fn a_model_whose_pod_is_refused_is_explained_while_it_waits_and_when_it_was_given_up() {
    let stage = Stage::new();
    stage.namespace.refuse_pods();
    let mso = stage.start_mso();
    let simulation = stage.simulation();
    simulation.deploy(1.0, &["model-0"]);
    let id = simulation.id.as_str();
    let waits =
        [&format!("! {id}/model-0  not made: NotMade") as &str, "pod           none; its name is ", "since         20", "→ mso check: "];
    explained(&stage.settings(), &[id, "model-0"], &waits);
    mso.line("Creates of pods wait, ExceededQuota");
    drop(mso);
    explained(&stage.settings(), &[id], &["1 model: 1 waiting; since 20", "! model-0  not made"]);
    let _mso = stage.start_mso_with("QUOTA_TIMEOUT", "1");
    simulation.hear("AllModelsHaveTerminated");
    explained(&stage.settings(), &[id], &["1 model: 1 failed; over since 20", "1 more of its models have ended, 1 of them failed"]);
}

#[test]
fn programs_get_the_same_facts_as_json() {
    let stage = Stage::new();
    let settings = stage.settings();
    let _mso = stage.start_mso_with("REPORT_ERRORS", "never");
    let simulation = stage.simulation();
    simulation.send(&simulation.request(
        1.0,
        vec![
                simulation.model("good", &[]),
                simulation.model(
                    "crashed",
                    &[("READY_AFTER_SECONDS", "never"), ("EXIT_AFTER_SECONDS", "1"), ("EXIT_CODE", "3"), ("LOG_LINES", "2")],
                ),
            ],
    ));
    simulation.why("crashed");
    let id = simulation.id.as_str();
    let facts = |arguments: &[&str]| -> Value { serde_json::from_str(&explained(&settings, arguments, &[])).expect("it is JSON") };
    eventually("the ready one", || (facts(&["--json"])["simulations"][0]["ready"] == 1).then_some(()));
    let all = facts(&["--json"]);
    assert_eq!(all["source"]["simulator"], stage.simulator);
    let summary = &all["simulations"][0];
    assert_eq!((&summary["id"], &summary["models"], &summary["failed"]), (&json!(id), &json!(2), &json!(1)), "{all:#}");
    assert_eq!((&summary["modelsReady"], &summary["overSince"]), (&json!("no"), &Value::Null), "{all:#}");
    let of_simulation = facts(&[id, "--json"]);
    let states: Vec<&Value> = of_simulation["models"].as_array().expect("models are a list").iter().map(|model| &model["state"]).collect();
    assert_eq!(states, [&json!("ready"), &json!("failed")], "{of_simulation:#}");
    let of_model = facts(&["--json", id, "crashed"]);
    let (model, evidence) = (&of_model["model"], &of_model["evidence"]);
    assert_eq!((&model["exitCode"], &model["reason"]), (&json!(3), &json!("Error")), "{of_model:#}");
    assert_eq!(model["pod"]["name"], simulation.pod_name("crashed"), "{of_model:#}");
    assert!(model["next"].is_string() && evidence["log"].as_array().is_some_and(|log| log.len() >= 2), "{of_model:#}");
}

#[test]
fn a_name_that_is_unknown_is_said_with_the_names_that_there_are() {
    let stage = Stage::new();
    let settings = stage.settings();
    explained(&settings, &[], &["no simulation: nothing was asked for, or with another SIMULATOR_NAME"]);
    assert!(refused(&settings, &["nobody"], 1).contains("no simulation \"nobody\" of simulator \"so-"));
    let _mso = stage.start_mso();
    let simulation = stage.simulation();
    simulation.deploy(1.0, &["model-0", "model-1"]);
    simulation.hear("ModelsReady");
    let id = simulation.id.as_str();
    assert!(refused(&settings, &["nobody"], 1).contains(&format!("there is {id}")));
    let problem = refused(&settings, &[id, "nobody", "--json"], 1);
    assert!(problem.contains(&format!("no model \"nobody\" of simulation {id}: there is model-0, model-1")), "{problem}");
    explained(&settings, &[id], &["ModelsReady was sent", "✓ 2 ready"]);
    assert_eq!(explain(&settings, &[id, "model-0", "more"]).status.code(), Some(2));
}

#[test]
fn a_simulation_that_is_over_is_explained_as_long_as_its_pods_are_kept() {
    let stage = Stage::new();
    let _mso = stage.start_mso();
    let simulation = stage.simulation();
    simulation.deploy(1.0, &["model-0"]);
    simulation.hear("ModelsReady");
    simulation.end_models(&["model-0"]);
    simulation.hear("AllModelsHaveTerminated");
    let id = simulation.id.as_str();
    explained(
        &stage.settings(),
        &[id],
        &["1 model: 1 ended well; over since 20", "it is over, and its pods are kept until 20", "✓ 1 ended well"],
    );
    explained(&stage.settings(), &[id, "model-0"], &[&format!("✓ {id}/model-0  ended well"), "phase Succeeded"]);
}

#[test]
fn an_api_server_that_is_away_and_a_token_that_is_bad_are_one_line_and_code_2() {
    let stage = Stage::new();
    let mut settings = stage.settings();
    settings.insert("KUBERNETES_API_TOKEN".to_owned(), "not-a-token".to_owned());
    assert!(refused(&settings, &[], 2).contains("401 Unauthorized"));
    settings.insert("KUBERNETES_PORT".to_owned(), "1".to_owned());
    assert!(refused(&settings, &[], 2).contains("no answer: https://"));
}

#[test]
fn where_records_may_not_be_read_the_pods_alone_are_explained() {
    let stage = Stage::new();
    let _mso = stage.start_mso();
    let simulation = stage.simulation();
    simulation.deploy(1.0, &["model-0"]);
    simulation.hear("ModelsReady");
    stage.namespace.forbid_config_maps();
    let words = [
        "! the records may not be read",
        &format!("✓ {}  1 model: 1 running; since 20", simulation.id),
        "there is no record of it",
        "whether ModelsReady was sent is not known",
        "✓ 1 running",
    ];
    explained(&stage.settings(), &[&simulation.id], &words);
    assert!(refused(&stage.settings(), &["nobody"], 1).contains("; the records may not be read"), "one may be there all the same");
}

#[test]
#[ignore = "only on the real ground: devkit's cluster has no events and no Roles"]
fn events_are_shown_to_an_account_that_may_list_them_and_to_another_what_to_type() {
    let stage = Stage::on(Ground::Real);
    let settings = stage.settings();
    let _mso = stage.start_mso();
    let simulation = stage.simulation();
    deploy_troubles(&simulation);
    let id = simulation.id.as_str();
    explained(&settings, &[id, "unpullable"], &[" ago Warning Failed", "Failed to pull image"]);
    explained(&settings, &[id, "good"], &[" ago Normal Scheduled: ", " ago Normal Started: "]);
    let hint = format!("involvedObject.name={}", simulation.pod_name("unpullable"));
    stage.namespace.kubectl(&["patch", "role", "mso", "--type=json", "-p", r#"[{"op":"remove","path":"/rules/2"}]"#]);
    explained(&settings, &[id, "unpullable"], &["events        not shown: we may not list them; as an administrator: kubectl -n ", &hint]);
}
