//! What a request asks for: its path and its query, decoded, and what its body must be. Pure: it knows no object.

use serde_json::Value;

use super::schema::Validation;
use super::selector::Selector;
use super::status::{Cause, Status};
use super::store::{Key, Resource};

/// What an HTTP request says, as far as the cluster reads it.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    pub method: &'a str,
    /// Path and query, percent-encoded.
    pub target: &'a str,
    /// Empty where there is none.
    pub content_type: &'a str,
    /// The bearer token. Empty where there is none.
    pub token: &'a str,
    pub body: &'a [u8],
}

/// # Errors
/// 400 or 415: there is no object of this kind in the body.
pub(super) fn parse_object(kind: &str, request: &Request<'_>) -> Result<Value, Status> {
    let content_type = request.content_type.split(';').next().unwrap_or_default().trim();
    if !matches!(content_type, "application/json" | "") {
        let message = "the body of the request was in an unknown format - accepted media types include: application/json, \
            application/yaml, application/vnd.kubernetes.protobuf";
        return Err(Status::new(415, "UnsupportedMediaType", message));
    }
    let unrecognized = |problem: &str| {
        let shown = if request.body.is_empty() { "<empty>".into() } else { String::from_utf8_lossy(request.body) };
        let message = format!(
            "the object provided is unrecognized (must be of type {kind}): couldn't get version/kind; json parse error: {problem} ({shown})"
        );
        Status::bad_request(message)
    };
    let sent: Value = serde_json::from_slice(request.body).map_err(|error| unrecognized(&json_problem(&error)))?;
    if !sent.is_object() {
        return Err(unrecognized("json: cannot unmarshal this into an object"));
    }
    let (of_kind, version) = (sent["kind"].as_str().unwrap_or(kind), sent["apiVersion"].as_str().unwrap_or("v1"));
    let cannot = |why: &str| Status::bad_request(format!("{of_kind} in version {version:?} cannot be handled as a {kind}: {why}"));
    if version != "v1" {
        return Err(cannot(&format!("no kind {of_kind:?} is registered for version {version:?} in scheme \"pkg/runtime/scheme.go:110\"")));
    }
    if of_kind != kind {
        return Err(cannot(&format!("converting (v1.{of_kind}) to (core.{kind}): unknown conversion")));
    }
    Ok(sent)
}

/// Null where there are none.
///
/// # Errors
/// 422, and 500 for a body that is no JSON.
pub(super) fn delete_options(request: &Request<'_>) -> Result<Value, Status> {
    if request.body.is_empty() {
        return Ok(Value::Null);
    }
    let options: Value = serde_json::from_slice(request.body)
        .map_err(|error| Status::new(500, "", format!("couldn't get version/kind; json parse error: {}", json_problem(&error))))?;
    let policy = &options["propagationPolicy"];
    if !matches!(policy.as_str(), None | Some("Foreground" | "Background" | "Orphan")) {
        let cause = Cause::unsupported("propagationPolicy", policy, &["Foreground", "Background", "Orphan", "nil"]);
        return Err(Status::invalid("DeleteOptions.meta.k8s.io", "", &[cause]));
    }
    Ok(options)
}

/// What Go's decoder says, as far as it can be told from what ours does.
pub(super) fn json_problem(error: &serde_json::Error) -> String {
    if error.is_eof() { "unexpected end of JSON input".to_owned() } else { format!("invalid JSON: {error}") }
}

pub(super) fn parse_version(text: &str) -> Result<u64, String> {
    let invalid = |_| format!("resourceVersion: Invalid value: {text:?}: strconv.ParseUint: parsing {text:?}: invalid syntax");
    text.parse().map_err(invalid)
}

/// As a real one's tokens have it, where a list goes on at whatever version is the last one by then.
const PRESENT: &str = "-1";

/// Opaque to clients: the version, none for the present, and the last object that was listed.
pub(super) fn continue_token(version: Option<u64>, last: &Key) -> String {
    let version = version.map_or_else(|| PRESENT.to_owned(), |version| version.to_string());
    format!("{version}/{}/{}", last.namespace, last.name)
}

pub(super) fn parse_continue(token: &str, resource: Resource) -> Option<(Option<u64>, Key)> {
    let mut parts = token.splitn(3, '/');
    let version = match parts.next()? {
        PRESENT => None,
        version => Some(version.parse().ok()?),
    };
    let (namespace, name) = (parts.next()?.to_owned(), parts.next()?.to_owned());
    Some((version, Key { resource, namespace, name }))
}

pub(super) fn verb(method: &str, name: Option<&str>) -> &'static str {
    match (method, name) {
        ("POST", _) => "create",
        ("PATCH", _) => "patch",
        ("PUT", _) => "update",
        ("DELETE", Some(_)) => "delete",
        ("DELETE", None) => "deletecollection",
        (_, None) => "list",
        (_, Some(_)) => "get",
    }
}

/// Which object, or which collection of them.
#[derive(Clone, Copy)]
pub(super) struct Path<'a> {
    pub(super) resource: Resource,
    /// None is all.
    pub(super) namespace: Option<&'a str>,
    /// None is the collection.
    pub(super) name: Option<&'a str>,
    pub(super) subresource: Option<&'a str>,
}

/// A path and its query, decoded.
pub(super) struct Target {
    segments: Vec<String>,
    query: Vec<(String, String)>,
}

impl Target {
    pub(super) fn parse(target: &str) -> Self {
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let pair = |pair: &str| {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            (decoded(&key.replace('+', " ")), decoded(&value.replace('+', " ")))
        };
        Self {
            segments: path.split('/').filter(|segment| !segment.is_empty()).map(decoded).collect(),
            query: query.split('&').filter(|text| !text.is_empty()).map(pair).collect(),
        }
    }

    /// None: nothing that is here.
    pub(super) fn path(&self) -> Option<Path<'_>> {
        let segments: Vec<&str> = self.segments.iter().map(String::as_str).collect();
        let (namespace, plural, rest) = match segments.as_slice() {
            ["api", "v1", "namespaces", namespace, plural, rest @ ..] => (Some(*namespace), *plural, rest),
            ["api", "v1", plural] => (None, *plural, &[] as &[&str]),
            _ => return None,
        };
        let resource = Resource::ALL.into_iter().find(|resource| resource.plural() == plural)?;
        let (name, subresource) = match rest {
            [] => (None, None),
            [name] => (Some(*name), None),
            [name, subresource] => (Some(*name), Some(*subresource)),
            _ => return None,
        };
        Some(Path { resource, namespace, name, subresource })
    }

    pub(super) fn query(&self, key: &str) -> Option<&str> {
        self.query.iter().find(|(name, _)| name == key).map(|(_, value)| value.as_str())
    }

    pub(super) fn flag(&self, key: &str) -> bool {
        matches!(self.query(key), Some("true" | "1"))
    }

    /// # Errors
    /// 400: it is none.
    pub(super) fn number<T: std::str::FromStr>(&self, key: &str) -> Result<Option<T>, Status> {
        let parse =
            |text: &str| text.parse().map_err(|_| Status::bad_request(format!("strconv.ParseInt: parsing {text:?}: invalid syntax")));
        self.query(key).map(parse).transpose()
    }

    /// # Errors
    /// 400: it is none.
    pub(super) fn selector(&self) -> Result<Selector, Status> {
        Selector::parse(self.query("labelSelector").unwrap_or_default()).map_err(Status::bad_request)
    }

    pub(super) fn validation(&self) -> Validation {
        match self.query("fieldValidation") {
            Some("Strict") => Validation::Strict,
            Some("Ignore") => Validation::Ignore,
            _ => Validation::Warn,
        }
    }
}

/// What is no percent-encoding stands as it is.
fn decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        let hex = tail.get(..2).filter(|_| *first == b'%').and_then(|hex| std::str::from_utf8(hex).ok());
        match hex.and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
            Some(byte) => {
                bytes.push(byte);
                rest = &tail[2..];
            }
            None => {
                bytes.push(*first);
                rest = tail;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}
