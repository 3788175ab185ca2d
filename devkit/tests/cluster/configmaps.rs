//! The script's part about ConfigMaps: what a client does that keeps records in them.

use serde_json::{Value, json};

use super::{END_MARK, Script, with};
use crate::normal::normal;

const MEBIBYTE: usize = 1024 * 1024;

fn config_map(name: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "labels": {"app": "record"}}, "data": {"key": "value"}})
}

fn with_data(data: Value) -> Value {
    with(config_map("c"), "/data", data)
}

impl Script<'_> {
    pub(super) fn config_maps(&mut self) {
        let path = format!("/api/v1/namespaces/{}/configmaps", self.ground.namespace);
        let version = self.version();
        self.refused_config_maps(&path);
        self.created_config_maps(&path);
        self.large_config_maps(&path);
        self.lists_of_config_maps(&path);
        self.patches_of_config_maps(&path);
        self.patches_of_one_that_is_immutable(&path);
        self.deletes_of_config_maps(&path);
        self.ground.api.post(&path, &config_map(&format!("{END_MARK}records"))).unwrap();
        let watch = format!("{path}?watch=true&timeoutSeconds=60");
        self.events("a watch of ConfigMaps", &format!("{watch}&labelSelector=app%3Drecord&resourceVersion={version}"));
        self.events("a watch that begins with the ConfigMaps that are there", &format!("{watch}&labelSelector=app%3Drecord"));
    }

    fn refused_config_maps(&mut self, path: &str) {
        let cases = [
            ("with a name that is none", with(config_map("c"), "/metadata/name", "C_3".into())),
            ("with a name that is too long", with(config_map("c"), "/metadata/name", "a".repeat(254).into())),
            ("without a name", with(config_map("c"), "/metadata/name", "".into())),
            ("with a label's value that is none", with(config_map("c"), "/metadata/labels", json!({"x": "bad value!"}))),
            ("with a label's key that is none", with(config_map("c"), "/metadata/labels", json!({"-y": "1"}))),
            ("with an annotation that is none", with(config_map("c"), "/metadata/annotations", json!({"x y": "any value!"}))),
            ("with annotations that are too long", with(config_map("c"), "/metadata/annotations", json!({"a": "x".repeat(256 * 1024)}))),
            ("with a key that is none", with_data(json!({"a/b": "1"}))),
            ("with an empty key", with_data(json!({"": "1"}))),
            ("with a key that is too long", with_data(json!({"k".repeat(254): "1"}))),
            ("with a key that is this directory", with_data(json!({".": "1"}))),
            ("with a key that is the directory above", with_data(json!({"..": "1"}))),
            ("with a key that begins like it", with_data(json!({"..a": "1"}))),
            ("with a name and a key that are none", with(with_data(json!({"a b": "1"})), "/metadata/name", "C_3".into())),
            ("whose data is a text", with_data("x".into())),
            ("with a value that is a number", with_data(json!({"a": 1}))),
            ("that is immutable in words", with(config_map("c"), "/immutable", "yes".into())),
            ("for another namespace", with(config_map("c"), "/metadata/namespace", "other".into())),
            ("with a version", with(config_map("c"), "/metadata/resourceVersion", "1".into())),
            ("that is a Pod", with(config_map("c"), "/kind", "Pod".into())),
            ("that is nothing", json!({})),
            ("with one byte more than a mebibyte", with_data(json!({"a": "x".repeat(MEBIBYTE), "b": "x"}))),
            ("with 1.2 MB", with_data(json!({"a": "x".repeat(1_200_000)}))),
            ("with 3.5 MB", with_data(json!({"a": "x".repeat(3_500_000)}))),
        ];
        for (case, config_map) in cases {
            self.post(&format!("a ConfigMap {case}"), path, &config_map);
        }
        let unknown = with(config_map("c"), "/nothing", 1.into());
        self.post("a ConfigMap with an unknown field, strictly", &format!("{path}?fieldValidation=Strict"), &unknown);
        self.post("a ConfigMap in a namespace that is not there", "/api/v1/namespaces/no-such-namespace/configmaps", &config_map("c"));
        self.get("a ConfigMap that is not there", &format!("{path}/none"));
        self.patch("a ConfigMap that is not there, to be patched", &format!("{path}/none"), &json!({"data": {"a": "1"}}));
        self.delete("a ConfigMap that is not there, to be deleted", &format!("{path}/none"), &Value::Null);
        let answer = self.ground.api.with_token("").get(path).unwrap();
        self.note("ConfigMaps without a token", &answer);
    }

    fn created_config_maps(&mut self, path: &str) {
        self.post("a ConfigMap", path, &config_map("first"));
        // As whoever lost the answer to the create does.
        self.post("a ConfigMap again", path, &config_map("first"));
        self.get("what it is", &format!("{path}/first"));
        let annotated = with(config_map("annotated"), "/metadata/annotations", json!({"devkit.test/format": "1"}));
        self.post("a ConfigMap with annotations", path, &annotated);
        self.post("a ConfigMap with a longest key", path, &with(config_map("longest"), "/data", json!({"k".repeat(253): "1"})));
        self.post("a ConfigMap with odd keys", path, &with(config_map("odd"), "/data", json!({"-": "1", "_": "2", ".a": "3", "A.B": "4"})));
        self.post("a ConfigMap of empty values", path, &with(config_map("hollow"), "/data", json!({"a": "", "b": null})));
        self.post("a ConfigMap of no data", path, &with(config_map("empty"), "/data", json!({})));
        self.post("a ConfigMap with binary data", path, &with(config_map("binary"), "/binaryData", json!({"b": "AQID"})));
        self.post("a ConfigMap that may change", path, &with(config_map("mutable"), "/immutable", false.into()));
        self.post("a ConfigMap that is immutable", path, &with(config_map("immutable"), "/immutable", true.into()));
        let warned = with(config_map("warned"), "/nothing", 1.into());
        self.post("a ConfigMap with an unknown field", &format!("{path}?fieldValidation=Warn"), &warned);
    }

    /// Of these only how much was kept.
    fn large_config_maps(&mut self, path: &str) {
        for (case, name, bytes) in [("of 900 kB", "large", 900_000), ("of a mebibyte", "largest", MEBIBYTE)] {
            let large = with(config_map(name), "/data", json!({"a": "x".repeat(bytes)}));
            // Not among the events at the end.
            let answer = self.ground.api.post(path, &with(large, "/metadata/labels", json!({"app": "large"}))).unwrap();
            let kept = self.ground.api.get(&format!("{path}/{name}")).unwrap().body["data"]["a"].as_str().map(str::len);
            self.record.push(json!({"case": format!("a ConfigMap {case}"), "code": answer.code, "bytes": kept}));
        }
        self.patch("a patch of more than a mebibyte", &format!("{path}/large"), &json!({"data": {"b": "x".repeat(200_000)}}));
        self.patch("a patch of 3.5 MB", &format!("{path}/large"), &json!({"data": {"b": "x".repeat(3_500_000)}}));
    }

    fn lists_of_config_maps(&mut self, path: &str) {
        for number in 0..5 {
            let labels = json!({"app": "list", "n": number.to_string()});
            self.ground.api.post(path, &with(config_map(&format!("list-{number}")), "/metadata/labels", labels)).unwrap();
        }
        self.get("a list of ConfigMaps", &format!("{path}?labelSelector=app%3Dlist"));
        self.page("those of some numbers", &format!("{path}?labelSelector=app%3Dlist,n%20in%20(1,2)"));
        let selected = format!("{path}?limit=2&labelSelector=app%3Dlist");
        let first = self.page("the first page of ConfigMaps", &selected);
        // What happens now is not in the pages that follow.
        self.ground.api.delete(&format!("{path}/list-4"), &Value::Null).unwrap();
        let token = |page: &devkit::api::Answer| page.body["metadata"]["continue"].as_str().unwrap_or_default().replace('=', "%3D");
        let second = self.page("the second page of ConfigMaps", &format!("{selected}&continue={}", token(&first)));
        self.page("the last page of ConfigMaps", &format!("{selected}&continue={}", token(&second)));
        let rest = format!("{path}?limit=10&labelSelector=app%3Dlist&continue={}", self.ground.rest_as_it_is_now);
        self.page("the rest of the ConfigMaps as they are now", &rest);
        self.page("a page of ConfigMaps that are now", &format!("{path}?limit=10&labelSelector=app%3Dlist"));
        let version = first.body["metadata"]["resourceVersion"].as_str().unwrap_or_default();
        let query = format!("labelSelector=app%3Dlist&resourceVersionMatch=Exact&resourceVersion={version}");
        self.page("a list of ConfigMaps at a version", &format!("{path}?{query}"));
    }

    fn patches_of_config_maps(&mut self, path: &str) {
        let path = format!("{path}/first");
        let before = self.ground.api.get(&path).unwrap().body["metadata"].clone();
        let (uid, version) = (&before["uid"], &before["resourceVersion"]);
        let versioned = |value: &str| json!({"metadata": {"resourceVersion": version}, "data": {"key": value}});
        for (case, patch) in [("nothing", json!({})), ("the same data", json!({"data": {"key": "value"}}))] {
            let answer = self.ground.api.patch(&path, &patch).unwrap();
            let keeps_version = answer.body["metadata"]["resourceVersion"] == *version;
            let body = normal(self.ground, &answer.body);
            self.record.push(json!({"case": format!("a patch of {case}"), "body": body, "keeps its version": keeps_version}));
        }
        let cases = [
            ("this version", versioned("1")),
            ("this version, again", versioned("2")),
            ("this version, to what is there", versioned("1")),
            ("any version", json!({"data": {"key": "3", "other": "4"}})),
            ("a key that goes", json!({"data": {"key": null}})),
            ("all keys", json!({"data": null})),
            ("another ConfigMap", json!({"metadata": {"uid": "another"}, "data": {"key": "5"}})),
            ("this very ConfigMap", json!({"metadata": {"uid": uid}, "data": {"key": "5"}})),
            ("another version of another ConfigMap", json!({"metadata": {"uid": "another", "resourceVersion": "1"}})),
            ("an empty version", json!({"metadata": {"uid": "", "resourceVersion": ""}, "data": {"key": "6"}})),
            ("a version that is none", json!({"metadata": {"resourceVersion": "x"}, "data": {"key": "7"}})),
            ("another name", json!({"metadata": {"name": "other"}})),
            ("another namespace", json!({"metadata": {"namespace": "other"}})),
            ("a key that is none", json!({"data": {"a b": "1"}})),
            ("labels and annotations of a ConfigMap", json!({"metadata": {"labels": {"z": "1"}, "annotations": {"k": "v"}}})),
            ("a label of a ConfigMap that is none", json!({"metadata": {"labels": {"z": "bad value"}}})),
            ("an unknown field of a ConfigMap", json!({"nothing": 1})),
            ("its kind that goes", json!({"kind": null})),
            ("its data to be immutable", json!({"immutable": true, "data": {"key": "8"}})),
            ("its data when it is", json!({"data": {"key": "9"}})),
        ];
        for (case, patch) in cases {
            self.patch(&format!("a patch of {case}"), &path, &patch);
        }
        self.send("a patch of a ConfigMap that is broken", "PATCH", &path, "application/merge-patch+json", b"[");
    }

    fn patches_of_one_that_is_immutable(&mut self, path: &str) {
        let path = format!("{path}/immutable");
        let cases = [
            ("a value", json!({"data": {"key": "other"}})),
            ("a key more", json!({"data": {"more": "1"}})),
            ("no data", json!({"data": null})),
            ("binary data", json!({"binaryData": {"b": "AQID"}})),
            ("that it may change", json!({"immutable": false})),
            ("that it may change, and all", json!({"immutable": null, "data": null, "binaryData": {"b": "AQID"}})),
            ("a key that is none", json!({"data": {"a b": "1"}})),
            ("the same", json!({"immutable": true, "data": {"key": "value"}})),
            ("labels", json!({"metadata": {"labels": {"z": "1"}}})),
        ];
        for (case, patch) in cases {
            self.patch(&format!("a patch of an immutable ConfigMap: {case}"), &path, &patch);
        }
    }

    fn deletes_of_config_maps(&mut self, path: &str) {
        let first = format!("{path}/first");
        let metadata = self.ground.api.get(&first).unwrap().body["metadata"].clone();
        let (uid, version) = (&metadata["uid"], &metadata["resourceVersion"]);
        self.delete("a delete of another ConfigMap", &first, &json!({"preconditions": {"uid": "another"}}));
        self.delete("a delete of another version of it", &first, &json!({"preconditions": {"resourceVersion": "1"}}));
        let meant = json!({"preconditions": {"uid": uid, "resourceVersion": version}, "propagationPolicy": "Background"});
        self.delete("a delete of a ConfigMap", &first, &meant);
        self.delete("a delete of a ConfigMap again", &first, &meant);
        self.get("a ConfigMap that was deleted", &first);
        self.delete("a delete of a ConfigMap with a grace", &format!("{path}/mutable"), &json!({"gracePeriodSeconds": 30}));
        self.delete("a delete of an immutable ConfigMap", &format!("{path}/immutable"), &Value::Null);
        let held = format!("{path}/held");
        self.ground.api.post(path, &with(config_map("held"), "/metadata/finalizers", json!(["devkit.test/hold"]))).unwrap();
        self.delete("a delete of a ConfigMap that a finalizer holds", &held, &Value::Null);
        self.delete("a delete of it again", &held, &Value::Null);
        self.patch("a patch of a ConfigMap that is held", &held, &json!({"data": {"key": "1"}}));
        self.patch("a patch that lets a ConfigMap go", &held, &json!({"data": {"key": "2"}, "metadata": {"finalizers": null}}));
        self.get("a ConfigMap that was held", &held);
        // The names are free again.
        self.post("a ConfigMap where one was", path, &config_map("first"));
    }
}
