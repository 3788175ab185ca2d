//! The script: requests, with names and uids carried from earlier answers. What is answered is recorded, normalized.

#[path = "configmaps.rs"]
mod configmaps;

use std::collections::BTreeMap;

use devkit::api::Answer;
use serde_json::{Value, json};

use crate::ground::{Ground, wait_for};
use crate::normal::normal;

/// An answer each: `case`, and what was said.
pub(crate) fn run(ground: &Ground) -> Vec<Value> {
    let mut script = Script { ground, pods: format!("/api/v1/namespaces/{}/pods", ground.namespace), record: Vec::new() };
    script.refused_pods();
    script.created_pods();
    script.lists();
    script.watches();
    script.patches();
    script.deletes_of_pods_that_do_not_run();
    script.config_maps();
    script.pods_that_run();
    script.record
}

struct Script<'a> {
    ground: &'a Ground,
    /// The path of the namespace's pods.
    pods: String,
    record: Vec<Value>,
}

/// How the names of pods and ConfigMaps begin at which a watch is not read any further; last where names are in order.
const END_MARK: &str = "zz-end-";

/// A pod that no node takes.
fn pod(name: &str) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "labels": {"app": "pod"}},
        "spec": {
            "automountServiceAccountToken": false,
            "containers": [{"name": "c", "image": "registry/none:1"}],
            "nodeSelector": {"type": "no-such-node"},
            "restartPolicy": "Never",
        },
    })
}

fn with(mut object: Value, pointer: &str, value: Value) -> Value {
    let (parent, key) = pointer.rsplit_once('/').expect("a pointer has a slash");
    let parent = object.pointer_mut(parent).expect("the parent is there");
    match parent {
        Value::Array(items) => items.push(value),
        parent => parent[key] = value,
    }
    object
}

impl Script<'_> {
    fn refused_pods(&mut self) {
        let container = "/spec/containers/0";
        #[rustfmt::skip]
        let cases = [
            ("without an image", with(pod("p"), &format!("{container}/image"), "".into())),
            ("with an image of spaces", with(pod("p"), &format!("{container}/image"), " x".into())),
            ("with a name that is none", with(pod("p"), "/metadata/name", "P_3".into())),
            ("with a name that is too long", with(pod("p"), "/metadata/name", "a".repeat(254).into())),
            ("without a name", with(pod("p"), "/metadata/name", "".into())),
            ("with a container's name that is none", with(pod("p"), &format!("{container}/name"), "C.d".into())),
            ("with a container's name that is too long", with(pod("p"), &format!("{container}/name"), "c".repeat(64).into())),
            ("without a container's name", with(pod("p"), &format!("{container}/name"), "".into())),
            ("with a label's value that is none", with(pod("p"), "/metadata/labels", json!({"x": "bad value!"}))),
            ("with a label's value that is too long", with(pod("p"), "/metadata/labels", json!({"x": "v".repeat(64)}))),
            ("with a label's key that is none", with(pod("p"), "/metadata/labels", json!({"-y": "1"}))),
            ("with a label's key that is too long", with(pod("p"), "/metadata/labels", json!({"k".repeat(64): "1"}))),
            ("with a label's key without a name", with(pod("p"), "/metadata/labels", json!({"a.b/": "1"}))),
            ("with a label's prefix that is none", with(pod("p"), "/metadata/labels", json!({"A_b/c": "1"}))),
            ("with an annotation that is none", with(pod("p"), "/metadata/annotations", json!({"x y": "any value!"}))),
            ("with annotations that are too long", with(pod("p"), "/metadata/annotations", json!({"a": "x".repeat(256 * 1024)}))),
            ("with variables that have no names", with(pod("p"), &format!("{container}/env"), json!([{"name": "1=A", "value": "1"}, {"name": ""}, {"name": "a b"}]))),
            ("without containers", with(pod("p"), "/spec/containers", json!([]))),
            ("with two containers of one name", with(pod("p"), "/spec/containers/-", json!({"name": "c", "image": "x"}))),
            ("with a node selector that is none", with(pod("p"), "/spec/nodeSelector", json!({"a b": "c d"}))),
            ("with a policy that is none", with(pod("p"), "/spec/restartPolicy", "Sometimes".into())),
            ("with a deadline of nothing", with(pod("p"), "/spec/activeDeadlineSeconds", 0.into())),
            ("with other policies that are none", with(with(pod("p"), &format!("{container}/imagePullPolicy"), "Maybe".into()), &format!("{container}/terminationMessagePolicy"), "x".into())),
            ("for another namespace", with(pod("p"), "/metadata/namespace", "other".into())),
            ("that is a ConfigMap", with(pod("p"), "/kind", "ConfigMap".into())),
            ("of another version", with(pod("p"), "/apiVersion", "v2".into())),
            ("whose containers are a text", with(pod("p"), "/spec/containers", "x".into())),
            ("with a variable that is a number", with(pod("p"), &format!("{container}/env"), json!([{"name": "A", "value": 1}]))),
            ("with a label that is a number", with(pod("p"), "/metadata/labels", json!({"a": 1}))),
            ("that is nothing", json!({})),
        ];
        let pods = self.pods.clone();
        for (case, pod) in cases {
            self.post(&format!("a pod {case}"), &pods, &pod);
        }
        let unknown = with(pod("p"), "/spec/containers/0/nothing", 1.into());
        self.post("an unknown field, strictly", &format!("{pods}?fieldValidation=Strict"), &unknown);
        for (case, body) in [("broken", "{\"a\":"), ("missing", "")] {
            self.send(&format!("JSON that is {case}"), "POST", &pods, "application/json", body.as_bytes());
        }
        self.send("a text", "POST", &pods, "text/plain", pod("p").to_string().as_bytes());
        let large = with(pod("p"), "/metadata/annotations", json!({"a": "x".repeat(3 * 1024 * 1024)}));
        self.post("a body of more than three megabytes", &pods, &large);
        self.post("a namespace that is not there", "/api/v1/namespaces/no-such-namespace/pods", &pod("p"));
        self.get("the list of a namespace that is not there", "/api/v1/namespaces/no-such-namespace/pods");
        self.get("a resource that is not there", &format!("/api/v1/namespaces/{}/nothings", self.ground.namespace));
        self.get("a pod that is not there", &format!("{pods}/none"));
        self.get("the log of a pod that is not there", &format!("{pods}/none/log"));
        self.delete("a pod that is not there, to be deleted", &format!("{pods}/none"), &Value::Null);
        self.patch("a pod that is not there, to be patched", &format!("{pods}/none"), &json!({"metadata": {"uid": "x"}}));
        self.send("a method that is not there", "PUT", &pods, "application/json", b"{}");
        for (case, token) in [("no token", ""), ("a token that is none", "wrong")] {
            let answer = self.ground.api.with_token(token).get(&pods).unwrap();
            self.note(case, &answer);
        }
    }

    fn created_pods(&mut self) {
        let pods = self.pods.clone();
        self.post("a pod", &pods, &pod("first"));
        self.post("a pod again", &pods, &pod("first"));
        let env = json!([{"name": "A", "value": "1"}, {"name": "EMPTY", "value": ""}, {"name": "A", "value": "2"}]);
        let warned = with(with(pod("warned"), "/spec/containers/0/env", env), "/spec/containers/0/nothing", 1.into());
        self.post(
            "a pod with a variable twice and an unknown field",
            &format!("{pods}?fieldValidation=Warn"),
            &with(warned, "/nothing", 1.into()),
        );
        let mut bare = pod("bare");
        bare["spec"] = json!({"containers": [{"name": "c", "image": "none"}], "nodeSelector": {"type": "no-such-node"}});
        bare.as_object_mut().unwrap().remove("kind");
        self.post("a pod with nothing but an image", &pods, &bare);
        let limited = json!({"limits": {"cpu": "1", "memory": "1Gi"}, "requests": {"cpu": "1", "memory": "1Gi"}});
        let limited = with(pod("limited"), "/spec/containers/0/resources", limited);
        self.post("a pod with resources", &pods, &limited);
        let volume = json!([{"name": "v", "secret": {"secretName": "none"}}]);
        let secret = with(with(pod("secret"), "/spec/volumes", volume), "/spec/imagePullSecrets", json!([{"name": "pull"}]));
        self.post("a pod with a secret", &pods, &secret);
        self.wait_until("first", |pod| pod["status"]["conditions"].is_array());
        self.get("a pod that no node takes", &format!("{pods}/first"));
        self.get("its log", &format!("{pods}/first/log"));
        self.get("the log of a container that it has not", &format!("{pods}/first/log?container=x"));
        self.get("a negative number of log lines", &format!("{pods}/first/log?tailLines=-1"));
        self.get("no number of log lines", &format!("{pods}/first/log?tailLines=x"));
    }

    fn lists(&mut self) {
        let pods = self.pods.clone();
        for number in 0..5 {
            let labels = json!({"app": "list", "n": number.to_string()});
            self.ground.api.post(&pods, &with(pod(&format!("list-{number}")), "/metadata/labels", labels)).unwrap();
            self.wait_until(&format!("list-{number}"), |pod| pod["status"]["conditions"].is_array());
        }
        self.get("a list", &format!("{pods}?labelSelector=app%3Dlist"));
        #[rustfmt::skip]
        let selectors = [
            "app%3D%3Dlist,n!%3D2", "n%20in%20(1,2)", "app%20%3D%20list,n%20notin%20(1,%202)", "!app", "n,app%3Dlist", "none%3D", "a%20b", "%3Dx", "app%3Dlist,", "n%20in%20(1",
            "app%3Dlist%20m", "app%3D%C3%A9", "-x%3D1", "app%3Dlist,,n%3D1", "(", ",",
        ];
        for selector in selectors {
            let answer = self.ground.api.get(&format!("{pods}?labelSelector={selector}")).unwrap();
            let names = names(&answer);
            let body = if answer.code == 200 { json!({"names": names}) } else { normal(self.ground, &answer.body) };
            self.record.push(json!({"case": format!("the selector {selector}"), "code": answer.code, "body": body}));
        }
        let selected = format!("{pods}?limit=2&labelSelector=app%3Dlist");
        let first = self.page("the first page", &selected);
        // What happens now is not in the pages that follow.
        self.ground.api.delete(&format!("{pods}/list-4"), &Value::Null).unwrap();
        let token = |page: &Answer| page.body["metadata"]["continue"].as_str().unwrap_or_default().replace('=', "%3D");
        let second = self.page("the second page", &format!("{selected}&continue={}", token(&first)));
        self.page("the last page", &format!("{selected}&continue={}", token(&second)));
        self.page("a page without a selector", &format!("{pods}?limit=2"));
        self.get("a page that is none", &format!("{pods}?limit=2&continue=bad"));
        self.get("a page at a version", &format!("{selected}&resourceVersion=1&continue={}", token(&first)));
        self.get("no limit", &format!("{pods}?limit=x"));
        let version = first.body["metadata"]["resourceVersion"].as_str().unwrap_or_default();
        let selected = format!("{pods}?labelSelector=app%3Dlist");
        for (case, query) in [
            ("a list at any version", "&resourceVersion=0".to_owned()),
            ("a list not older than a version", format!("&resourceVersion={version}")),
            ("a list not older than a version, in words", format!("&resourceVersionMatch=NotOlderThan&resourceVersion={version}")),
            ("a list at a version", format!("&resourceVersionMatch=Exact&resourceVersion={version}")),
        ] {
            self.page(case, &format!("{selected}{query}"));
        }
        for (case, query) in [
            ("a match without a version", "resourceVersionMatch=Exact"),
            ("a match that is none", "resourceVersionMatch=foo&resourceVersion=1"),
            ("a match of any version", "resourceVersionMatch=Exact&resourceVersion=0"),
            ("a version that is none", "resourceVersion=x"),
            ("a version from the future", "resourceVersion=999999999"),
        ] {
            self.get(case, &format!("{pods}?{query}"));
        }
    }

    fn watches(&mut self) {
        let pods = self.pods.clone();
        let label = |value: Value| json!({"metadata": {"labels": {"watched": value}}});
        let version = self.version();
        let path = format!("{pods}/watched");
        self.ground.api.post(&pods, &pod("watched")).unwrap();
        self.wait_until("watched", |pod| pod["status"]["conditions"].is_array());
        for value in ["1".into(), "2".into(), Value::Null, "3".into()] {
            self.ground.api.patch(&path, &label(value)).unwrap();
        }
        let present = self.version();
        self.ground.api.delete(&path, &Value::Null).unwrap();
        self.mark_end("with-labels", json!({"app": "list", "watched": "x"}));
        self.mark_end("without-labels", json!({}));
        let watch = format!("{pods}?watch=true&timeoutSeconds=60");
        self.events("a watch of all", &format!("{watch}&resourceVersion={version}"));
        self.events("a watch of those with a label", &format!("{watch}&labelSelector=watched&resourceVersion={version}"));
        self.events("a watch of those without it", &format!("{watch}&labelSelector=!watched&resourceVersion={version}"));
        self.events("a watch from there on", &format!("{watch}&resourceVersion={present}"));
        self.events("a watch that begins with what is there", &format!("{watch}&labelSelector=app%3Dlist"));
        self.events("a watch from any version", &format!("{watch}&labelSelector=app%3Dlist&resourceVersion=0"));
        self.events("a watch from the future", &format!("{pods}?watch=true&timeoutSeconds=1&resourceVersion=999999999"));
        self.get("a watch from a version that is none", &format!("{watch}&resourceVersion=x"));
        self.get("a watch at exactly a version", &format!("{watch}&resourceVersionMatch=Exact&resourceVersion=1"));
        self.get("a watch with a selector that is none", &format!("{watch}&labelSelector=a%20b"));
    }

    fn patches(&mut self) {
        let path = format!("{}/first", self.pods);
        let uid = self.ground.api.get(&path).unwrap().body["metadata"]["uid"].clone();
        let cases = [
            ("labels and annotations", json!({"metadata": {"labels": {"app": null, "z": "1"}, "annotations": {"k": "v"}}})),
            ("the same again", json!({"metadata": {"labels": {"z": "1"}}})),
            ("another pod", json!({"metadata": {"uid": "another", "labels": {"z": "2"}}})),
            ("this very pod", json!({"metadata": {"uid": uid, "labels": {"z": "2"}}})),
            ("another version", json!({"metadata": {"resourceVersion": "1", "labels": {"z": "3"}}})),
            ("the name", json!({"metadata": {"name": "other"}})),
            ("the namespace", json!({"metadata": {"namespace": "other"}})),
            ("a label that is none", json!({"metadata": {"labels": {"z": "bad value"}}})),
            ("a deadline", json!({"spec": {"activeDeadlineSeconds": 1000}})),
            ("a later deadline", json!({"spec": {"activeDeadlineSeconds": 2000}})),
            ("an earlier deadline", json!({"spec": {"activeDeadlineSeconds": 500}})),
            ("a deadline of nothing", json!({"spec": {"activeDeadlineSeconds": 0}})),
            ("no deadline", json!({"spec": {"activeDeadlineSeconds": null}})),
            ("a policy", json!({"spec": {"restartPolicy": "Always"}})),
            ("the node selector", json!({"spec": {"nodeSelector": {"type": "worker"}}})),
            ("the status", json!({"status": {"phase": "Failed"}})),
            ("when it was created", json!({"metadata": {"creationTimestamp": null}})),
            ("an unknown field", json!({"nothing": 1})),
            ("no labels any more", json!({"metadata": {"labels": null, "annotations": {"k": null}}})),
        ];
        for (case, patch) in cases {
            self.patch(&format!("a patch of {case}"), &path, &patch);
        }
        self.send("a patch that is an object", "PATCH", &path, "application/json", b"{}");
        self.send("a patch that is broken", "PATCH", &path, "application/merge-patch+json", b"[");
    }

    fn deletes_of_pods_that_do_not_run(&mut self) {
        let pods = self.pods.clone();
        let path = format!("{pods}/first");
        let uid = self.ground.api.get(&path).unwrap().body["metadata"]["uid"].clone();
        self.delete("a delete of another pod", &path, &json!({"preconditions": {"uid": "another"}}));
        self.delete("a delete of another version", &path, &json!({"preconditions": {"resourceVersion": "1"}}));
        self.delete("a delete with a policy that is none", &path, &json!({"propagationPolicy": "Nope"}));
        self.send("a delete with broken options", "DELETE", &path, "application/json", b"{");
        self.delete("a delete", &path, &json!({"preconditions": {"uid": uid}, "propagationPolicy": "Background"}));
        self.delete("a delete again", &path, &json!({"preconditions": {"uid": uid}}));
        self.delete("a delete at once", &format!("{pods}/list-0?gracePeriodSeconds=0"), &Value::Null);
        self.delete("a delete with less than no grace", &format!("{pods}/list-1"), &json!({"gracePeriodSeconds": -1}));
        let path = format!("{pods}/held");
        let version = self.version();
        self.ground.api.post(&pods, &with(pod("held"), "/metadata/finalizers", json!(["devkit.test/hold"]))).unwrap();
        self.wait_until("held", |pod| pod["status"]["conditions"].is_array());
        self.delete("a delete that a finalizer holds", &path, &Value::Null);
        self.get("what it holds", &path);
        self.delete("a delete at once that it holds", &path, &json!({"gracePeriodSeconds": 0}));
        self.patch("a patch that lets it go", &path, &json!({"metadata": {"finalizers": null}}));
        self.get("what it held", &path);
        self.mark_end("held", json!({}));
        self.events("its events", &format!("{pods}?watch=true&timeoutSeconds=60&resourceVersion={version}"));
    }

    /// What becomes of them is compared by the states that a watch shows, each once: how often a kubelet writes the same is its own affair.
    fn pods_that_run(&mut self) {
        let pods = self.pods.clone();
        let version = self.version();
        let create = |name: &str, variables: &[(&str, &str)], change: &dyn Fn(Value) -> Value| {
            let answer = self.ground.api.post(&pods, &change(self.model(name, variables))).unwrap();
            assert_eq!(answer.code, 201, "{}", answer.body);
        };
        let as_it_is = |pod: Value| pod;
        let ends = |seconds: &'static str, code: &'static str| [("EXIT_AFTER_SECONDS", seconds), ("EXIT_CODE", code), ("LOG_LINES", "3")];
        create("succeeds", &ends("2", "0"), &as_it_is);
        create("fails", &ends("2", "3"), &as_it_is);
        let by_reference = [("EXIT_AFTER_SECONDS", "2"), ("CODE", "4"), ("EXIT_CODE", "$(CODE)"), ("KEPT", "$$(CODE) $(NONE) $CODE $")];
        create("fails-by-a-variable-of-a-variable", &by_reference, &as_it_is);
        create("has-no-program", &[], &|pod| with(pod, "/spec/containers/0/command", json!(["/no-such-program"])));
        create("fails-silently", &ends("2", "3"), &|pod| with(pod, "/spec/containers/0/terminationMessagePolicy", "File".into()));
        create("goes-with-grace", &[], &as_it_is);
        create("goes-at-once", &[], &as_it_is);
        create("has-no-image", &[], &|pod| with(pod, "/spec/containers/0/image", format!("{}-none", self.ground.image).into()));
        create("has-no-image-either", &[], &|pod| {
            with(
                with(pod, "/spec/containers/0/image", format!("{}-none", self.ground.image).into()),
                "/spec/activeDeadlineSeconds",
                6.into(),
            )
        });
        create("has-a-deadline", &[], &|pod| with(pod, "/spec/activeDeadlineSeconds", 6.into()));
        create("gets-a-deadline", &[], &as_it_is);
        create("has-no-secret", &[], &|pod| {
            let variable = json!({"name": "S", "valueFrom": {"secretKeyRef": {"name": "none", "key": "k"}}});
            with(pod, "/spec/containers/0/env/-", variable)
        });
        create("waits-for-a-volume", &[], &|pod| {
            let mounted = with(
                pod,
                "/spec/containers/0/volumeMounts",
                json!([{"name": "v", "mountPath": "/v"}, {"name": "v", "mountPath": "/w", "readOnly": true}]),
            );
            with(mounted, "/spec/volumes", json!([{"name": "v", "secret": {"secretName": "none"}}]))
        });
        create("mounts-no-volume", &ends("2", "0"), &|pod| {
            with(pod, "/spec/volumes", json!([{"name": "v", "secret": {"secretName": "none"}}]))
        });
        for name in ["goes-with-grace", "goes-at-once", "gets-a-deadline"] {
            self.wait_until(name, |pod| pod["status"]["phase"] == "Running");
        }
        self.get("a pod that runs", &format!("{pods}/goes-with-grace"));
        self.get("its log, as it writes nothing", &format!("{pods}/goes-with-grace/log"));
        self.get("its log of before", &format!("{pods}/goes-with-grace/log?previous=true"));
        self.delete("a delete with grace", &format!("{pods}/goes-with-grace"), &json!({"propagationPolicy": "Background"}));
        self.delete("a delete without grace", &format!("{pods}/goes-at-once"), &json!({"gracePeriodSeconds": 0}));
        self.patch("a deadline that is over", &format!("{pods}/gets-a-deadline"), &json!({"spec": {"activeDeadlineSeconds": 1}}));
        self.wait_until("has-no-secret", |pod| waiting(pod) == "CreateContainerConfigError");
        self.get("a pod without its secret", &format!("{pods}/has-no-secret"));
        self.get("its log, as it waits", &format!("{pods}/has-no-secret/log"));
        self.wait_until("waits-for-a-volume", |pod| waiting(pod) == "ContainerCreating");
        self.get("a pod without its volume", &format!("{pods}/waits-for-a-volume"));
        self.get("its log, as it waits for it", &format!("{pods}/waits-for-a-volume/log"));
        for name in [
            "succeeds",
            "fails",
            "fails-by-a-variable-of-a-variable",
            "has-no-program",
            "fails-silently",
            "mounts-no-volume",
            "has-a-deadline",
            "gets-a-deadline",
            "has-no-image-either",
        ] {
            self.wait_until(name, has_ended);
            self.get(&format!("the pod that {name}"), &format!("{pods}/{name}"));
            self.get("its log", &format!("{pods}/{name}/log?container=c"));
        }
        self.get("two lines of a log", &format!("{pods}/fails/log?tailLines=2"));
        self.get("no line of a log", &format!("{pods}/fails/log?tailLines=0"));
        self.get("more lines than there are", &format!("{pods}/fails/log?tailLines=30"));
        self.wait_until("has-no-image", |pod| matches!(waiting(pod), "ErrImagePull" | "ImagePullBackOff"));
        self.delete("a delete of a pod that has ended", &format!("{pods}/fails"), &Value::Null);
        for name in ["has-no-image", "waits-for-a-volume", "has-no-secret"] {
            self.ground.api.delete(&format!("{pods}/{name}"), &Value::Null).unwrap();
        }
        for name in ["goes-with-grace", "goes-at-once", "has-no-image", "waits-for-a-volume", "has-no-secret"] {
            wait_for(name, || (self.ground.api.get(&format!("{pods}/{name}")).unwrap().code == 404).then_some(()));
        }
        self.mark_end("models", json!({"app": "model"}));
        self.states(&format!("{pods}?watch=true&timeoutSeconds=60&labelSelector=app%3Dmodel&resourceVersion={version}"));
    }

    /// A fake model that is never ready, and ends as it is told.
    fn model(&self, name: &str, variables: &[(&str, &str)]) -> Value {
        let (host, port) = &self.ground.broker;
        let fixed = [
            ("MQTT_HOST", host.as_str()),
            ("MQTT_PORT", port),
            ("SIMULATION_ID", "sim"),
            ("MODEL_ID", name),
            ("READY_AFTER_SECONDS", "never"),
        ];
        let env: Vec<Value> = fixed.iter().chain(variables).map(|(name, value)| json!({"name": name, "value": value})).collect();
        let mut model = pod(name);
        model["metadata"]["labels"] = json!({"app": "model"});
        model["spec"]["nodeSelector"] = json!({"type": "worker"});
        let policy = "FallbackToLogsOnError";
        model["spec"]["containers"] = json!([{"name": "c", "image": self.ground.image, "env": env, "terminationMessagePolicy": policy}]);
        model
    }

    fn post(&mut self, case: &str, path: &str, body: &Value) {
        let answer = self.ground.api.post(path, body).unwrap();
        self.note(case, &answer);
    }

    fn get(&mut self, case: &str, path: &str) {
        let answer = self.ground.api.get(path).unwrap();
        self.note(case, &answer);
    }

    fn patch(&mut self, case: &str, path: &str, body: &Value) {
        let answer = self.ground.api.patch(path, body).unwrap();
        self.note(case, &answer);
    }

    fn delete(&mut self, case: &str, path: &str, options: &Value) {
        let answer = self.ground.api.delete(path, options).unwrap();
        self.note(case, &answer);
    }

    fn send(&mut self, case: &str, method: &str, path: &str, content_type: &str, body: &[u8]) {
        let answer = self.ground.api.send(method, path, content_type, body).unwrap();
        self.note(case, &answer);
    }

    fn note(&mut self, case: &str, answer: &Answer) {
        let warnings: Vec<&str> = answer.headers.get_all("Warning").iter().filter_map(|value| value.to_str().ok()).collect();
        self.record.push(json!({
            "case": case,
            "code": answer.code,
            "content type": answer.header("Content-Type"),
            "retry after": answer.header("Retry-After"),
            "has a date": !answer.header("Date").is_empty(),
            "warnings": warnings,
            "body": normal(self.ground, &answer.body),
        }));
    }

    /// Only which pods, and whether there are more.
    fn page(&mut self, case: &str, path: &str) -> Answer {
        let answer = self.ground.api.get(path).unwrap();
        let metadata = normal(self.ground, &answer.body["metadata"]);
        self.record.push(json!({"case": case, "code": answer.code, "names": names(&answer), "metadata": metadata}));
        answer
    }

    /// A pod at which to stop reading a watch: all that came before was said by then, and no time limit need be waited for.
    fn mark_end(&self, name: &str, labels: Value) {
        let name = format!("{END_MARK}{name}");
        self.ground.api.post(&self.pods, &with(pod(&name), "/metadata/labels", labels)).unwrap();
        self.wait_until(&name, |pod| pod["status"]["conditions"].is_array());
    }

    /// Up to the first mark.
    fn watch(&self, path: &str) -> impl Iterator<Item = Value> {
        let is_mark = |event: &Value| event["object"]["metadata"]["name"].as_str().is_some_and(|name| name.starts_with(END_MARK));
        self.ground.api.watch(path).unwrap().map(Result::unwrap).take_while(move |event| !is_mark(event))
    }

    /// Whole.
    fn events(&mut self, case: &str, path: &str) {
        let events: Vec<Value> = self.watch(path).map(|event| normal(self.ground, &event)).collect();
        self.record.push(json!({"case": case, "events": events}));
    }

    /// For each pod the states that it went through, and how it was last.
    fn states(&mut self, path: &str) {
        let mut pods: BTreeMap<String, (Vec<String>, Value)> = BTreeMap::new();
        for event in self.watch(path) {
            let (states, last) = pods.entry(event["object"]["metadata"]["name"].as_str().unwrap_or_default().to_owned()).or_default();
            let state = state(&event);
            if states.last() != Some(&state) {
                states.push(state);
            }
            *last = normal(self.ground, &event["object"]);
            // Whether the kubelet still names the address of a pod that ends hangs on which of the two is faster.
            if let Some(status) = last["status"].as_object_mut() {
                status.remove("podIP");
                status.remove("podIPs");
            }
        }
        for (name, (states, last)) in pods {
            self.record.push(json!({"case": format!("what became of the pod that {name}"), "states": states, "last": last}));
        }
    }

    fn version(&self) -> String {
        let list = self.ground.api.get(&format!("{}?labelSelector=none", self.pods)).unwrap();
        list.body["metadata"]["resourceVersion"].as_str().expect("a list has a version").to_owned()
    }

    fn wait_until(&self, name: &str, is_so: impl Fn(&Value) -> bool) {
        wait_for(name, || is_so(&self.ground.api.get(&format!("{}/{name}", self.pods)).unwrap().body).then_some(()));
    }
}

fn names(list: &Answer) -> Vec<&str> {
    list.body["items"].as_array().into_iter().flatten().filter_map(|item| item["metadata"]["name"].as_str()).collect()
}

fn waiting(pod: &Value) -> &str {
    pod["status"]["containerStatuses"][0]["state"]["waiting"]["reason"].as_str().unwrap_or_default()
}

/// And a kubelet has nothing more to write of it: its sandbox goes last.
fn has_ended(pod: &Value) -> bool {
    let status = &pod["status"];
    matches!(status["phase"].as_str(), Some("Succeeded" | "Failed"))
        && status["containerStatuses"][0]["state"]["terminated"].is_object()
        && status["conditions"][0]["status"] == "False"
}

/// What tells one state from another: `MODIFIED Failed, DeadlineExceeded, terminated 143 Error, not ready`.
fn state(event: &Value) -> String {
    let (object, status) = (&event["object"], &event["object"]["status"]);
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let mut parts = vec![format!("{} {}", text(&event["type"]), text(&status["phase"]))];
    let mut add = |part: String| parts.push(part);
    if !status["reason"].is_null() {
        add(text(&status["reason"]));
    }
    if object["spec"]["nodeName"].is_null() {
        add("no node".to_owned());
    }
    let state = &status["containerStatuses"][0]["state"];
    if state["running"].is_object() {
        add("running".to_owned());
    }
    if state["terminated"].is_object() {
        add(format!("terminated {} {}", state["terminated"]["exitCode"], text(&state["terminated"]["reason"])));
    }
    if !waiting(object).is_empty() {
        add(format!("waiting {}", waiting(object)));
    }
    let conditions = status["conditions"].as_array().into_iter().flatten();
    for condition in conditions.filter(|condition| condition["type"] == "Ready") {
        add(format!("ready {} {}", text(&condition["status"]), text(&condition["reason"])));
    }
    if !object["metadata"]["deletionTimestamp"].is_null() {
        add(format!("to go within {} s", object["metadata"]["deletionGracePeriodSeconds"]));
    }
    parts.join(", ")
}
