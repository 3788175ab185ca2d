//! Which names and label values Kubernetes takes, and what it says of others. Pure.
//!
//! <https://kubernetes.io/docs/concepts/overview/working-with-objects/names/>

/// Of a label's value, the name part of its key, and a DNS label.
const LABEL_CHARS_MAX: usize = 63;

/// Of a DNS subdomain: an object's name, the prefix of a label's key. And of the key of a ConfigMap's value.
const SUBDOMAIN_CHARS_MAX: usize = 253;

const SUBDOMAIN_RULE: &str = "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start \
    and end with an alphanumeric character (e.g. 'example.com', regex used for validation is \
    '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')";

const DNS_LABEL_RULE: &str = "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end \
    with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')";

const LABEL_VALUE_RULE: &str = "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start \
    and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for validation is \
    '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')";

const NAME_RULE: &str = "must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an \
    alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is \
    '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')";

const CONFIG_KEY_RULE: &str = "a valid config key must consist of alphanumeric characters, '-', '_' or '.' (e.g. 'key.name',  or \
    'KEY_NAME',  or 'key-name', regex used for validation is '[-._a-zA-Z0-9]+')";

const VARIABLE_NAME_RULE: &str = "a valid environment variable name must consist only of printable ASCII characters other than '='";

/// The name of a pod, a ConfigMap and most other objects.
pub(super) fn subdomain_problems(name: &str) -> Vec<String> {
    problems(name.len(), SUBDOMAIN_CHARS_MAX, name.split('.').all(is_dns_label), SUBDOMAIN_RULE)
}

/// The name of a container.
pub(super) fn dns_label_problems(name: &str) -> Vec<String> {
    problems(name.len(), LABEL_CHARS_MAX, is_dns_label(name), DNS_LABEL_RULE)
}

pub(super) fn label_value_problems(value: &str) -> Vec<String> {
    problems(value.len(), LABEL_CHARS_MAX, value.is_empty() || is_label_text(value), LABEL_VALUE_RULE)
}

/// The key of a label or an annotation: a name, with or without `prefix/` before it.
pub(super) fn qualified_name_problems(key: &str) -> Vec<String> {
    let (prefix, name) = key.split_once('/').map_or((None, key), |(prefix, name)| (Some(prefix), name));
    let mut found = match prefix {
        Some("") => vec!["prefix part must be non-empty".to_owned()],
        Some(prefix) => subdomain_problems(prefix).iter().map(|problem| format!("prefix part {problem}")).collect(),
        None => Vec::new(),
    };
    if name.is_empty() {
        found.push("name part must be non-empty".to_owned());
    }
    found
        .extend(problems(name.len(), LABEL_CHARS_MAX, is_label_text(name), NAME_RULE).iter().map(|problem| format!("name part {problem}")));
    found
}

/// The name of an environment variable, as servers from 1.34 on take it.
pub(super) fn variable_name_problems(name: &str) -> Vec<String> {
    let is_name = name.bytes().all(|byte| (b' '..=b'~').contains(&byte) && byte != b'=');
    problems(name.len(), usize::MAX, is_name, VARIABLE_NAME_RULE)
}

/// The key of a ConfigMap's value: it can be a file's name.
pub(super) fn config_key_problems(key: &str) -> Vec<String> {
    let is_key = !key.is_empty() && key.bytes().all(is_label_byte);
    let mut found = problems(key.len(), SUBDOMAIN_CHARS_MAX, is_key, CONFIG_KEY_RULE);
    match key {
        "." => found.push("must not be '.'".to_owned()),
        ".." => found.push("must not be '..'".to_owned()),
        _ if key.starts_with("..") => found.push("must not start with '..'".to_owned()),
        _ => {}
    }
    found
}

fn problems(length: usize, length_max: usize, is_well_formed: bool, rule: &str) -> Vec<String> {
    let mut found = Vec::new();
    if length > length_max {
        found.push(format!("must be no more than {length_max} characters"));
    }
    if !is_well_formed {
        found.push(rule.to_owned());
    }
    found
}

fn is_dns_label(text: &str) -> bool {
    let is_inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    !text.is_empty() && text.bytes().all(is_inner) && !text.starts_with('-') && !text.ends_with('-')
}

fn is_label_text(text: &str) -> bool {
    let is_end = |byte: Option<u8>| byte.is_some_and(|byte| byte.is_ascii_alphanumeric());
    text.bytes().all(is_label_byte) && is_end(text.bytes().next()) && is_end(text.bytes().last())
}

fn is_label_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-_.".contains(&byte)
}
