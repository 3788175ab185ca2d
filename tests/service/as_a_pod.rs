//! The service as a pod of the cluster, under the manifests in k8s/.

use devkit::kubectl::kubectl;
use serde_json::{Value, json};

use crate::support::broker::Broker;
use crate::support::manifests::{apply, manifests, variable};
use crate::support::namespace::{Namespace, RealNamespace};
use crate::support::service::Service;
use crate::support::stage::Stage;
use crate::support::{Ground, service_image};

/// Puts the Deployment among these objects on the test's broker, with the test's image.
fn set_up(objects: &mut [Value], stage: &Stage) {
    let deployment = objects.iter_mut().find(|object| object["kind"] == "Deployment").expect("there is a Deployment");
    *variable(deployment, "SIMULATOR_NAME") = stage.simulator.clone().into();
    *variable(deployment, "MQTT_HOST") = stage.broker.pod_host.clone().into();
    *variable(deployment, "MQTT_PORT") = stage.broker.pod_port.to_string().into();
    deployment["spec"]["template"]["spec"]["containers"][0]["image"] = service_image().into();
}

/// Waits until it hears what is sent to it.
fn started(namespace: &str) -> Service {
    kubectl(&["-n", namespace, "rollout", "status", "deployment/mso", "--timeout=120s"], "")
        .unwrap_or_else(|error| panic!("{error}\n{}", kubectl(&["-n", namespace, "get", "events"], "").unwrap_or_default()));
    Service::in_namespace(namespace)
}

#[test]
#[ignore = "only on the real ground: the service itself runs as a pod"]
fn beside_its_models_under_the_smallest_role() {
    let stage = Stage::on(Ground::Real);
    let mut objects = manifests(".", |_| stage.namespace.name.clone());
    set_up(&mut objects, &stage);
    apply(&objects);
    let _mso = started(&stage.namespace.name);
    stage.run_one_more();
    let checked = stage.namespace.kubectl(&["exec", "deployment/mso", "--", "/mso", "check"]);
    for subject in ["broker", "subscriptions", "Kubernetes", "certificate", "token", "rights", "a model's pod"] {
        assert!(checked.contains(&format!("✓ {subject:<14} ")), "{subject}: {checked}");
    }
}

#[test]
#[ignore = "only on the real ground: the service itself runs as a pod"]
fn under_restricted_pod_security_with_its_models_in_another_namespace() {
    let stage = Stage::on(Ground::Real);
    let system = RealNamespace::new();
    let mut objects = manifests("restricted", |name| match name {
        "dots" => stage.namespace.name.clone(),
        _ => system.name.clone(),
    });
    set_up(&mut objects, &stage);
    apply(&objects);
    let _mso = started(&system.name);
    stage.run_one_more();
    let enforced =
        system.kubectl(&["get", "namespace", &system.name, "-o", r"jsonpath={.metadata.labels.pod-security\.kubernetes\.io/enforce}"]);
    assert_eq!(enforced, "restricted");
}

#[test]
#[ignore = "only on the real ground: the service itself runs as a pod"]
fn with_the_mosquitto_of_the_demonstration() {
    let namespace = Namespace::with_account(Ground::Real);
    let mut objects = manifests("demonstration", |_| namespace.name.clone());
    let is_service = |object: &mut Value| object["kind"] == "Deployment" && object["metadata"]["name"] == "mso";
    let mut service: Vec<Value> = objects.extract_if(.., is_service).collect();
    let mosquitto = objects.iter_mut().find(|object| object["kind"] == "Deployment").expect("mosquitto is a Deployment");
    if let Ok(image) = std::env::var("MSO_TEST_MOSQUITTO_IMAGE") {
        mosquitto["spec"]["template"]["spec"]["containers"][0]["image"] = image.into();
    }
    apply(&objects);
    namespace.kubectl(&["rollout", "status", "deployment/mosquitto-demonstration", "--timeout=120s"]);
    let selected = [
        "get",
        "pods",
        "--selector=app.kubernetes.io/name=mosquitto-demonstration",
        "-o",
        "jsonpath={.items[0].metadata.name} {.items[0].status.podIP}",
    ];
    let pod = namespace.kubectl(&selected);
    let (pod, address) = pod.split_once(' ').expect("the pod has an address");
    let broker = Broker::pod(&namespace.name, pod, address);

    let stage = Stage::with_broker_in(namespace, broker);
    set_up(&mut service, &stage);
    apply(&service);
    let _mso = started(&stage.namespace.name);
    stage.run_one_more();
}

/// As today's deployments have it: its token in the environment, the API by its service's name, an account that mounts only the CA for it.
#[test]
#[ignore = "only on the real ground: the service itself runs as a pod"]
fn with_the_account_and_the_role_of_the_field() {
    const ACCOUNT: &str = "simulation";
    let stage = Stage::on(Ground::Real);
    let namespace = &stage.namespace.name;
    let mut objects = manifests(".", |_| namespace.clone());
    objects.retain(|object| object["kind"] == "Deployment");
    set_up(&mut objects, &stage);
    objects.extend(field_account(namespace, ACCOUNT));
    apply(&objects[1..]);
    let deployment = &mut objects[0];
    *variable(deployment, "KUBERNETES_HOST") = "kubernetes.default".into();
    *variable(deployment, "KUBERNETES_PORT") = "443".into();
    *variable(deployment, "KUBERNETES_API_TOKEN") = stage.namespace.kubectl(&["create", "token", ACCOUNT]).into();
    deployment["spec"]["template"]["spec"]["serviceAccountName"] = "default".into();
    apply(&objects[..1]);
    let _mso = started(namespace);
    stage.run_one_more();
}

fn field_account(namespace: &str, account: &str) -> [Value; 3] {
    let metadata = json!({"name": account, "namespace": namespace});
    let rule = json!({
        "apiGroups": [""],
        "resources": ["pods", "pods/log", "events", "configmaps"],
        "verbs": ["get", "list", "watch", "create", "update", "patch", "delete"],
    });
    [
        json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": metadata}),
        json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role", "metadata": metadata, "rules": [rule]}),
        json!({
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "RoleBinding",
            "metadata": metadata,
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": account},
            "subjects": [{"kind": "ServiceAccount", "name": account, "namespace": namespace}],
        }),
    ]
}
