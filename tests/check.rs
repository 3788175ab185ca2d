//! `mso check`, as a person runs it: what it finds, what it says of it, and its exit code.

mod support;

use std::process::{Command, Output};

use support::broker::Broker;
use support::manifests::apply;
use support::service::Settings;
use support::stage::Stage;
use support::{Ground, ground};

/// Nothing listens there.
const CLOSED_PORT: &str = "1";

fn check(settings: &Settings, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_mso"));
    command.arg("check").args(arguments).env_clear().envs(settings).current_dir(std::env::temp_dir());
    command.output().expect("the program can be started")
}

/// What it says of these settings, and its exit code.
fn findings(settings: &Settings, arguments: &[&str]) -> (String, i32) {
    let output = check(settings, arguments);
    let text = String::from_utf8(output.stdout).expect("it writes text");
    (text, output.status.code().expect("nobody killed it"))
}

fn with(mut settings: Settings, name: &str, value: &str) -> Settings {
    settings.insert(name.to_owned(), value.to_owned());
    settings
}

#[test]
fn a_broker_and_an_api_server_that_are_not_there_are_named_with_the_settings_to_check() {
    let settings = [
        ("MQTT_PORT", CLOSED_PORT),
        ("KUBERNETES_PORT", CLOSED_PORT),
        ("KUBERNETES_API_TOKEN", "a-secret-token"),
        ("KUBERNETES_CA_FILE", concat!(env!("CARGO_MANIFEST_DIR"), "/tests/support/another-ca.crt")),
    ];
    let settings = settings.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
    let (text, code) = findings(&settings, &[]);
    assert!(text.contains("✗ broker         localhost:1 cannot be reached") && text.contains("→ check MQTT_HOST and MQTT_PORT"), "{text}");
    assert!(text.contains("✗ Kubernetes     no answer: https://localhost:1") && text.contains("→ check KUBERNETES_HOST"), "{text}");
    assert!(!text.contains("a-secret-token") && !text.contains('\x1b'), "{text}");
    assert_eq!(code, 2);
}

#[test]
fn settings_that_are_missing_are_named_and_the_code_says_that_it_cannot_work() {
    let output = check(&Settings::new(), &[]);
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("Missing environment variable KUBERNETES_API_TOKEN"));
}

#[test]
fn a_broker_that_lets_nobody_in_is_found_with_what_to_check() {
    let broker = Broker::that_lets_nobody_in(ground());
    let stage = Stage::new();
    let settings = with(with(stage.settings(), "MQTT_HOST", &broker.host), "MQTT_PORT", &broker.port.to_string());
    let (text, code) = findings(&settings, &[]);
    assert!(text.contains("answers, and refuses us: NotAuthorized") && text.contains("→ check MQTT_USERNAME and MQTT_PASSWORD"), "{text}");
    assert_eq!(code, 2);
}

#[test]
#[ignore = "only on the real ground: devkit's cluster has no rights, nodes and quotas to ask for"]
fn all_that_is_needed_is_there_and_what_may_not_be_seen_is_a_warning() {
    let stage = Stage::on(Ground::Real);
    let (text, code) = findings(&stage.settings(), &[]);
    for subject in ["broker", "subscriptions", "Kubernetes", "certificate", "clock", "token", "rights", "a model's pod"] {
        assert!(text.contains(&format!("✓ {subject:<14} ")), "{subject}: {text}");
    }
    for subject in ["namespace", "nodes", "quota", "limit range"] {
        assert!(text.contains(&format!("! {subject:<14} not checked: we may not read it")), "{subject}: {text}");
    }
    assert_eq!(code, 0, "{text}");
    assert_eq!(findings(&stage.settings(), &["--strict"]).1, 1);
}

#[test]
#[ignore = "only on the real ground: devkit's cluster knows no Roles"]
fn rights_that_are_missing_are_named_with_the_commands_that_give_them() {
    let stage = Stage::on(Ground::Real);
    let namespace = &stage.namespace.name;
    stage.namespace.kubectl(&[
        "patch",
        "role",
        "mso",
        "--type=json",
        "-p",
        r#"[{"op":"replace","path":"/rules/0/verbs","value":["get","list","watch"]}]"#,
    ]);
    stage.namespace.forbid_config_maps();
    let (text, code) = findings(&stage.settings(), &[]);
    let user = format!("system:serviceaccount:{namespace}:mso");
    assert!(text.contains(&format!("✗ rights         {user} may not create, patch, delete pods in {namespace}")), "{text}");
    assert!(
        text.contains(&format!("! rights         {user} may not get, list, create, patch, delete configmaps in {namespace}: a restart")),
        "{text}"
    );
    assert_eq!(code, 2);
    let commands = text.lines().map(str::trim).map(|line| line.trim_start_matches("→ ")).filter(|line| line.starts_with("kubectl -n"));
    for command in commands.filter(|line| line.contains("role")) {
        let done = Command::new("sh").args(["-c", command]).output().expect("there is a shell");
        assert!(done.status.success(), "{command}: {}", String::from_utf8_lossy(&done.stderr));
    }
    let is_mended = || {
        let (text, code) = findings(&stage.settings(), &[]);
        (code == 0 && text.matches("✓ rights ").count() == 4).then_some(())
    };
    support::eventually("the rights that the commands give", is_mended);
}

#[test]
#[ignore = "only on the real ground: devkit's cluster admits every pod"]
fn what_would_refuse_a_pod_is_found_by_a_create_that_is_none() {
    let stage = Stage::on(Ground::Real);
    stage.namespace.kubectl(&["create", "quota", "demanding", "--hard=limits.cpu=4"]);
    let found = |says: &str, remedy: &str| {
        let find =
            || Some(findings(&stage.settings(), &[])).filter(|(text, code)| *code == 2 && text.contains(says) && text.contains(remedy));
        support::eventually(says, find);
    };
    found("must specify limits.cpu", "→ a LimitRange with defaults for what the quota demands");
    stage.namespace.kubectl(&["delete", "quota", "demanding"]);
    stage.namespace.enforce_restricted_pods();
    found("violates PodSecurity", "→ kubectl label --overwrite namespace");
    assert!(stage.namespace.pods().is_empty());
}

#[test]
#[ignore = "only on the real ground: devkit's cluster has no nodes, quotas and secrets to look at"]
fn an_account_that_may_look_sees_nodes_quotas_limit_ranges_and_the_pull_secret() {
    let stage = Stage::on(Ground::Real);
    let namespace = &stage.namespace.name;
    let binding = |kind: &str, name: &str| {
        serde_json::json!({
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": kind,
            "metadata": {"name": format!("{namespace}-{name}"), "namespace": namespace},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": name},
            "subjects": [{"kind": "ServiceAccount", "name": "mso", "namespace": namespace}],
        })
    };
    apply(&[binding("RoleBinding", "admin")]);
    stage.namespace.kubectl(&["create", "quota", "pods", "--hard=pods=0"]);
    let settings = with(stage.settings(), "KUBERNETES_PULL_IMAGE_SECRET_NAME", "pull");
    let found = |says: &[&str]| {
        let find = || Some(findings(&settings, &[]).0).filter(|text| says.iter().all(|line| text.contains(line)));
        support::eventually(&says.join(", "), find);
    };
    found(&[
        "is there; no pod security is enforced",
        "! quota          pods: pods 0 of 0 used: no more pods while pods is used up",
        "✓ limit range    none in",
        "✗ pull secret    pull is not there",
        "exceeded quota",
    ]);
    stage.namespace.kubectl(&["delete", "quota", "pods"]);
    stage.namespace.kubectl(&[
        "create",
        "secret",
        "docker-registry",
        "pull",
        "--docker-server=r",
        "--docker-username=u",
        "--docker-password=p",
    ]);
    found(&["✓ quota          none in", "✓ pull secret    pull is there", "✓ a model's pod  it would be admitted"]);
}
