//! Which fields an object has, and of what type: what the API server's decoder knows. Pure.
//!
//! What mso, its tests and people at kubectl send is known to the leaves. Other fields of a pod are known by name and taken as they are.

use serde_json::{Map, Value};

use super::status::Status;

/// What becomes of fields that nobody knows: `fieldValidation=`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Validation {
    Ignore,
    Warn,
    Strict,
}

#[derive(Debug)]
pub(super) enum Type {
    /// Taken as it is.
    Any,
    Bool,
    Int(&'static str),
    String,
    /// Of strings to strings.
    Map,
    List(&'static Type),
    /// The Go struct's name, for messages.
    Struct(&'static str, &'static [(&'static str, Type)]),
}

use Type::{Any, Bool, Int, List, String as Text, Struct};

pub(super) static POD: Type =
    Struct("Pod", &[("kind", Text), ("apiVersion", Text), ("metadata", METADATA), ("spec", POD_SPEC), ("status", Any)]);

pub(super) static CONFIG_MAP: Type = Struct(
    "ConfigMap",
    &[("kind", Text), ("apiVersion", Text), ("metadata", METADATA), ("data", Type::Map), ("binaryData", Any), ("immutable", Bool)],
);

const METADATA: Type = Struct(
    "ObjectMeta",
    &[
        ("name", Text),
        ("generateName", Text),
        ("namespace", Text),
        ("selfLink", Text),
        ("uid", Text),
        ("resourceVersion", Text),
        ("generation", Int("int64")),
        ("creationTimestamp", Any),
        ("deletionTimestamp", Any),
        ("deletionGracePeriodSeconds", Int("int64")),
        ("labels", Type::Map),
        ("annotations", Type::Map),
        ("ownerReferences", Any),
        ("finalizers", List(&Text)),
        ("managedFields", Any),
    ],
);

const POD_SPEC: Type = Struct(
    "PodSpec",
    &[
        ("activeDeadlineSeconds", Int("int64")),
        ("affinity", Any),
        ("automountServiceAccountToken", Bool),
        ("containers", List(&CONTAINER)),
        ("dnsConfig", Any),
        ("dnsPolicy", Text),
        ("enableServiceLinks", Bool),
        ("ephemeralContainers", Any),
        ("hostAliases", Any),
        ("hostIPC", Bool),
        ("hostNetwork", Bool),
        ("hostPID", Bool),
        ("hostUsers", Bool),
        ("hostname", Text),
        ("hostnameOverride", Text),
        ("imagePullSecrets", Any),
        ("initContainers", Any),
        ("nodeName", Text),
        ("nodeSelector", Type::Map),
        ("os", Any),
        ("overhead", Any),
        ("preemptionPolicy", Text),
        ("priority", Int("int32")),
        ("priorityClassName", Text),
        ("readinessGates", Any),
        ("resourceClaims", Any),
        ("resources", Any),
        ("restartPolicy", Text),
        ("runtimeClassName", Text),
        ("schedulerName", Text),
        ("schedulingGates", Any),
        ("securityContext", Any),
        ("serviceAccount", Text),
        ("serviceAccountName", Text),
        ("setHostnameAsFQDN", Bool),
        ("shareProcessNamespace", Bool),
        ("subdomain", Text),
        ("terminationGracePeriodSeconds", Int("int64")),
        ("tolerations", Any),
        ("topologySpreadConstraints", Any),
        ("volumes", Any),
    ],
);

const CONTAINER: Type = Struct(
    "Container",
    &[
        ("args", List(&Text)),
        ("command", List(&Text)),
        ("env", List(&VARIABLE)),
        ("envFrom", Any),
        ("image", Text),
        ("imagePullPolicy", Text),
        ("lifecycle", Any),
        ("livenessProbe", Any),
        ("name", Text),
        ("ports", Any),
        ("readinessProbe", Any),
        ("resizePolicy", Any),
        ("resources", Any),
        ("restartPolicy", Text),
        ("restartPolicyRules", Any),
        ("securityContext", Any),
        ("startupProbe", Any),
        ("stdin", Bool),
        ("stdinOnce", Bool),
        ("terminationMessagePath", Text),
        ("terminationMessagePolicy", Text),
        ("tty", Bool),
        ("volumeDevices", Any),
        ("volumeMounts", Any),
        ("workingDir", Text),
    ],
);

const VARIABLE: Type = Struct("EnvVar", &[("name", Text), ("value", Text), ("valueFrom", Any)]);

/// The object without what nobody knows, and the warnings about that.
///
/// # Errors
/// 400: a field has another type, or is unknown and the validation is strict.
pub(super) fn decode(kind: &str, r#type: &Type, sent: &Value, validation: Validation) -> Result<(Value, Vec<String>), Status> {
    let cannot = |problem: &str| Status::bad_request(format!("{kind} in version \"v1\" cannot be handled as a {kind}: {problem}"));
    let mut decoder = Decoder { unknown: Vec::new(), owner: kind };
    let decoded = decoder.decode(r#type, sent, "", "").map_err(|problem| cannot(&format!("json: {problem}")))?;
    let problems: Vec<String> = decoder.unknown.iter().map(|path| format!("unknown field {path:?}")).collect();
    match validation {
        Validation::Strict if !problems.is_empty() => Err(cannot(&format!("strict decoding error: {}", problems.join(", ")))),
        Validation::Ignore => Ok((decoded, Vec::new())),
        Validation::Strict | Validation::Warn => Ok((decoded, problems)),
    }
}

struct Decoder<'a> {
    /// With indices, as in `spec.containers[0].nothing`.
    unknown: Vec<String>,
    /// The struct that the field is in which is looked at.
    owner: &'a str,
}

impl Decoder<'_> {
    /// `path` has indices and `go_path` has not.
    fn decode(&mut self, r#type: &Type, value: &Value, path: &str, go_path: &str) -> Result<Value, String> {
        let is_right = match (r#type, value) {
            (Any, _) | (_, Value::Null) => return Ok(value.clone()),
            (Struct(name, fields), Value::Object(sent)) => return self.decode_struct(name, fields, sent, path, go_path),
            (List(item), Value::Array(items)) => {
                let mut decoded = Vec::with_capacity(items.len());
                for (index, value) in items.iter().enumerate() {
                    decoded.push(self.decode(item, value, &format!("{path}[{index}]"), go_path)?);
                }
                return Ok(decoded.into());
            }
            (Type::Map, Value::Object(sent)) => {
                if let Some(other) = sent.values().find(|value| !(value.is_string() || value.is_null())) {
                    return Err(self.mismatch(&Text, other, go_path));
                }
                // Where there is null, Go makes an empty string of it.
                let text = |value: &Value| if value.is_null() { "".into() } else { value.clone() };
                return Ok(sent.iter().map(|(key, value)| (key.clone(), text(value))).collect());
            }
            (Bool, Value::Bool(_)) | (Text, Value::String(_)) => true,
            (Int(_), Value::Number(number)) => number.is_i64(),
            _ => false,
        };
        if is_right { Ok(value.clone()) } else { Err(self.mismatch(r#type, value, go_path)) }
    }

    fn decode_struct(
        &mut self,
        name: &str,
        fields: &[(&str, Type)],
        sent: &Map<String, Value>,
        path: &str,
        go_path: &str,
    ) -> Result<Value, String> {
        let below = |path: &str, key: &str| if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") };
        let mut decoded = Map::new();
        for (key, value) in sent {
            let Some((_, r#type)) = fields.iter().find(|(known, _)| known == key) else {
                self.unknown.push(below(path, key));
                continue;
            };
            let mut decoder = Decoder { unknown: std::mem::take(&mut self.unknown), owner: name };
            let value = decoder.decode(r#type, value, &below(path, key), &below(go_path, key));
            self.unknown = decoder.unknown;
            let value = value?;
            if !value.is_null() {
                decoded.insert(key.clone(), value);
            }
        }
        Ok(decoded.into())
    }

    fn mismatch(&self, r#type: &Type, value: &Value, go_path: &str) -> String {
        let found = match value {
            Value::Null => "null",
            Value::Bool(_) => "bool",
            Value::Number(_) => "number",
            Value::String(_) => "string",
            Value::Array(_) => "array",
            Value::Object(_) => "object",
        };
        format!("cannot unmarshal {found} into Go struct field {}.{go_path} of type {}", self.owner, go_type(r#type))
    }
}

fn go_type(r#type: &Type) -> String {
    match r#type {
        Any => "interface {}".to_owned(),
        Bool => "bool".to_owned(),
        Int(name) => (*name).to_owned(),
        Text => "string".to_owned(),
        Type::Map => "map[string]string".to_owned(),
        List(item) => format!("[]{}", go_type(item)),
        Struct(name, _) => format!("v1.{name}"),
    }
}
