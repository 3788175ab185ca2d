//! What must differ between two clusters, taken out of their answers. Each rule has a name and a reason; all else is compared.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::ground::Ground;

/// The part of a pod that the two ways to run a container have words of their own for.
const RUNTIME_WORDS: &[(&str, &str)] = &[("containerID", "<container>"), ("imageID", "<image id>")];

/// Addresses and the node's name.
const PLACE_WORDS: &[(&str, &str)] = &[("nodeName", "<node>"), ("hostIP", "<ip>"), ("podIP", "<ip>"), ("ip", "<ip>")];

/// Opaque to clients.
const OPAQUE_WORDS: &[(&str, &str)] = &[("resourceVersion", "<version>"), ("continue", "<token>"), ("remainingItemCount", "<count>")];

/// An answer's body, or an event's object.
pub(crate) fn normal(ground: &Ground, value: &Value) -> Value {
    match value {
        Value::Object(fields) => {
            let mut normalized = serde_json::Map::new();
            for (key, value) in fields {
                // Who wrote which field: mso writes all of its own.
                if key == "managedFields" {
                    continue;
                }
                let words = RUNTIME_WORDS.iter().chain(PLACE_WORDS).chain(OPAQUE_WORDS).find(|(word, _)| word == key);
                let value = match words {
                    Some((_, placeholder)) if !(value == "" || value.is_object()) => (*placeholder).into(),
                    _ if key == "causes" => without_repeats(normal(ground, value)),
                    _ => normal(ground, value),
                };
                normalized.insert(key.clone(), value);
            }
            normalized.into()
        }
        Value::Array(items) => items.iter().map(|item| normal(ground, item)).collect(),
        Value::String(text) => text_without_particulars(ground, text).into(),
        other => other.clone(),
    }
}

/// A real API server says the same cause up to four times, as it validates a change in several places.
fn without_repeats(causes: Value) -> Value {
    let Value::Array(causes) = causes else { return causes };
    let mut seen = BTreeSet::new();
    causes.into_iter().filter(|cause| seen.insert(cause.to_string())).collect()
}

fn text_without_particulars(ground: &Ground, text: &str) -> String {
    if is_time(text) {
        return "<time>".to_owned();
    }
    if text == ground.broker.0 || text == ground.broker.1 {
        return "<broker>".to_owned();
    }
    if is_image(text, &ground.image) {
        return "<image>".to_owned();
    }
    let text = text.replace(&ground.image, "<image>").replace(&ground.namespace, "<namespace>");
    // What changed in a spec is shown there as a difference between two Go structs.
    let text = text.split_once("\n@@").map_or(text.as_str(), |(before, _)| before);
    let text = replace_words(text.trim_end_matches('\n'), is_uid, "<uid>");
    let text = if text.contains("esource version") || text.contains("ResourceVersion") {
        replace_words(&text, |word| word.bytes().all(|byte| byte.is_ascii_digit()), "<version>")
    } else {
        text
    };
    // The server makes a name of it.
    const TOKEN_VOLUME: &str = "kube-api-access-";
    if text.starts_with(TOKEN_VOLUME) && text.len() == TOKEN_VOLUME.len() + 5 {
        return format!("{TOKEN_VOLUME}<suffix>");
    }
    // Where JSON is broken each parser has its own words.
    if let Some((before, _)) = text.split_once("json parse error: ") {
        return format!("{before}json parse error: <problem>");
    }
    if let Some((before, _)) = text.split_once("continue key is not valid: ") {
        return format!("{before}continue key is not valid: <problem>");
    }
    // The fake model says when.
    if let Some((before, _)) = text.split_once(" at 1") {
        return format!("{before} at <time>");
    }
    text
}

fn is_time(text: &str) -> bool {
    // 1970 is said of a container that never started.
    text.len() == 20 && text.ends_with('Z') && text.as_bytes()[10] == b'T' && text != "1970-01-01T00:00:00Z"
}

/// A node that has the same content under another tag may name that one.
fn is_image(text: &str, image: &str) -> bool {
    let repository = |name: &str| name.rsplit_once(':').map(|(repository, _)| repository.to_owned());
    !text.contains(char::is_whitespace) && !text.ends_with("-none") && repository(text).is_some() && repository(text) == repository(image)
}

fn is_uid(word: &str) -> bool {
    word.len() == 36 && word.bytes().filter(|byte| *byte == b'-').count() == 4
}

fn replace_words(text: &str, is_particular: impl Fn(&str) -> bool, placeholder: &str) -> String {
    let mut replaced = String::new();
    let mut rest = text;
    while !rest.is_empty() {
        let is_inner = |char: char| char.is_ascii_alphanumeric() || char == '-';
        let length = rest.find(|char| !is_inner(char)).unwrap_or(rest.len());
        let (word, after) = rest.split_at(length);
        replaced += if !word.is_empty() && is_particular(word) { placeholder } else { word };
        let mark = after.chars().next().map_or(0, char::len_utf8);
        replaced += &after[..mark];
        rest = &after[mark..];
    }
    replaced
}
