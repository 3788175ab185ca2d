//! `docs/limits.md` names every bound of the service, and none that is not there.

#![allow(clippy::unwrap_used, reason = "this is all test code")]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// Constants that bound nothing.
const OTHERS: [&str; 5] = [
    "explain/text.rs INDENT",
    "config.rs STATUS_PORT",
    "orchestrator/pod_state.rs NO_EXIT_CODE",
    "mqtt/message.rs MODEL_CONFIGURATIONS",
    "mqtt/message.rs ENVIRONMENT_VARIABLES",
];
const TYPES: [&str; 9] = ["usize", "u16", "u32", "u64", "i32", "f64", "Duration", "RangeInclusive<u32>", "LevelFilter"];

#[test]
fn every_limit_is_in_the_table_and_every_row_is_of_a_limit() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut limits = BTreeSet::new();
    for file in rust_files(&root.join("src")) {
        let name = file.strip_prefix(root.join("src")).unwrap().display().to_string();
        let text = fs::read_to_string(&file).unwrap();
        let code = text.split("#[cfg(test)]").next().unwrap();
        limits.extend(code.lines().filter_map(constant).map(|constant| format!("{name} {constant}")));
    }
    limits.retain(|limit| !OTHERS.contains(&limit.as_str()));
    assert!(limits.len() > 50, "{limits:?}");
    let table = fs::read_to_string(root.join("docs/limits.md")).unwrap();
    let named: BTreeSet<String> = table.split('`').skip(1).step_by(2).filter(|text| text.contains(".rs ")).map(str::to_owned).collect();
    assert_eq!(limits.difference(&named).collect::<Vec<_>>(), [""; 0], "the table lacks these");
    assert_eq!(named.difference(&limits).collect::<Vec<_>>(), [""; 0], "these are no limits");
}

#[test]
fn every_timeout_that_can_be_set_is_in_the_table() {
    let table = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/limits.md")).unwrap();
    let timeouts = mso::config::NAMES.iter().filter(|name| name.ends_with("_TIMEOUT"));
    let missing: Vec<&&str> = timeouts.filter(|name| !table.contains(&format!("`{name}`"))).collect();
    assert_eq!(missing, [&""; 0]);
}

/// The name of a constant that may be a limit.
fn constant(line: &str) -> Option<&str> {
    let (_, declaration) = line.split_once("const ").filter(|(before, _)| before.trim().is_empty() || before.trim().starts_with("pub"))?;
    let (name, rest) = declaration.split_once(": ")?;
    let (its_type, _) = rest.split_once(" =")?;
    TYPES.contains(&its_type).then_some(name)
}

fn rust_files(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let (folders, files): (Vec<_>, Vec<_>) = entries.partition(|path| path.is_dir());
    files.into_iter().chain(folders.iter().flat_map(|folder| rust_files(folder))).collect()
}
