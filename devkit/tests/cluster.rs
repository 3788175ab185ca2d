//! The simulated cluster answers as a real one does.
//!
//! One script of requests (cluster/script.rs) runs against it and against the cluster that `KUBECONFIG` names. Answers are compared field
//! by field, but for what must differ (cluster/normal.rs). What the real one answered last is kept in cluster.golden.json, so that the
//! simulated one is compared where there is no real one:
//! `UPDATE_EXPECT=1 cargo test -p devkit --test cluster -- --include-ignored` writes it anew.

#![expect(clippy::unwrap_used, reason = "helpers of tests, too")]

#[path = "cluster/ground.rs"]
mod ground;
#[path = "cluster/normal.rs"]
mod normal;
#[path = "cluster/script.rs"]
mod script;

use std::fs;
use std::path::PathBuf;

use serde_json::Value;

use ground::Ground;

#[test]
fn the_simulated_cluster_answers_as_a_real_one_did() {
    let golden: Vec<Value> = serde_json::from_str(&fs::read_to_string(golden_file()).unwrap()).unwrap();
    compare("the real cluster, when it was asked last", &golden, &script::run(&Ground::simulated()));
}

#[test]
#[ignore = "needs a Kubernetes cluster (KUBECONFIG, kubectl), a broker and the fake model's image"]
fn the_simulated_cluster_answers_as_a_real_one_does() {
    let real = script::run(&Ground::real());
    if std::env::var_os("UPDATE_EXPECT").is_some() {
        // A case a line.
        let lines: Vec<String> = real.iter().map(Value::to_string).collect();
        fs::write(golden_file(), format!("[\n{}\n]\n", lines.join(",\n"))).unwrap();
    }
    compare("the real cluster", &real, &script::run(&Ground::simulated()));
}

fn golden_file() -> PathBuf {
    [env!("CARGO_MANIFEST_DIR"), "tests", "cluster.golden.json"].iter().collect()
}

/// All differences at once.
#[track_caller]
fn compare(what: &str, expected: &[Value], simulated: &[Value]) {
    let mut differences = Vec::new();
    for (expected, simulated) in expected.iter().zip(simulated) {
        let mut found = Vec::new();
        differ("", expected, simulated, &mut found);
        if !found.is_empty() {
            differences.push(format!("{}\n{}", expected["case"], found.join("\n")));
        }
    }
    if expected.len() != simulated.len() {
        differences.push(format!("{} answers instead of {}", simulated.len(), expected.len()));
    }
    assert!(differences.is_empty(), "in what the simulated cluster answers, otherwise than {what}:\n{}", differences.join("\n"));
}

fn differ(path: &str, expected: &Value, simulated: &Value, found: &mut Vec<String>) {
    match (expected, simulated) {
        (Value::Object(left), Value::Object(right)) => {
            let keys: std::collections::BTreeSet<&String> = left.keys().chain(right.keys()).collect();
            for key in keys {
                let of = |fields: &serde_json::Map<String, Value>| fields.get(key).cloned().unwrap_or_else(|| "<missing>".into());
                differ(&format!("{path}.{key}"), &of(left), &of(right), found);
            }
        }
        (Value::Array(left), Value::Array(right)) if left.len() == right.len() => {
            for (index, (left, right)) in left.iter().zip(right).enumerate() {
                differ(&format!("{path}[{index}]"), left, right, found);
            }
        }
        _ if expected == simulated => {}
        _ => found.push(format!("  {path}\n    real:      {expected}\n    simulated: {simulated}")),
    }
}
