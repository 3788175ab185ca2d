//! The names that cross every room: parsed once at an edge, trusted after.
//!
//! An id that came from outside exists only as one of these types; the text of one that was refused exists only in its [`InvalidId`].

use std::borrow::Borrow;
use std::fmt;
use std::sync::Arc;

/// A label value's limit, and a DNS label's.
/// <https://kubernetes.io/docs/concepts/overview/working-with-objects/labels/#syntax-and-character-set>
const LABEL_BYTES: usize = 63;

/// Two of these and the fixed parts stay under MQTT's 65 535 bytes for a topic.
const TOPIC_SEGMENT_BYTES: usize = 32_000;

/// How much of a refused value a log line shows.
const SHOWN_CHARS: usize = 80;

macro_rules! ids {
    ($($(#[$doc:meta])* $name:ident, $check:expr;)*) => {$(
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Arc<str>);

        impl $name {
            /// # Errors
            /// What is wrong with the value, and what would be right.
            pub fn new(value: &str) -> Result<Self, InvalidId> {
                let check: fn(&str) -> Option<String> = $check;
                match check(value) {
                    None => Ok(Self(value.into())),
                    Some(problem) => Err(InvalidId { value: Shown::of(value), problem }),
                }
            }

            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(&self.0, f)
            }
        }

        impl Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }
    )*};
}

ids! {
    /// Whose service this is: `SIMULATOR_NAME`, lower-cased. It is the `<so>` of the topics and the mark on every pod of ours.
    /// It may be empty.
    SimulatorName, |value| if value.is_empty() { None } else if let Some(upper) = value.chars().find(char::is_ascii_uppercase) {
        Some(format!("has {upper:?}, which is not lower-case"))
    } else { label_value_problem(value) };
    /// The simulator as its request names it.
    SimulatorId, label_value_problem;
    /// One simulation of an SO; unique on its broker.
    SimulationId, label_value_problem;
    /// One model of a simulation. Other simulations may have a model with the same id.
    ModelId, label_value_problem;
    /// A pod's name, and its container's.
    PodName, dns_label_problem;
    /// Kubernetes' own id of one pod; a later pod with the same name has another. Opaque.
    Uid, |_| None;
    /// Which request a pod belongs to: 16 hex digits of SHA-256 over the decoded request.
    DeployId, |value| {
        let hex = value.len() == 16 && value.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte));
        (!hex).then(|| "is not 16 hex digits".to_owned())
    };
    /// A ConfigMap of ours.
    RecordName, dns_label_problem;
    /// Text that can stand between two slashes of a topic that we publish. Brokers close the connection on some of what this refuses.
    TopicSegment, topic_segment_problem;
}

impl PodName {
    /// `<simulatorId>-<simulationId>-<modelId>`, each lower-cased.
    ///
    /// # Errors
    /// The parts are valid, but not their sum: too long, or with a dot or an underscore, which a container's name may not have.
    pub fn of(simulator: &SimulatorId, simulation: &SimulationId, model: &ModelId) -> Result<Self, InvalidId> {
        Self::new(&format!("{simulator}-{simulation}-{model}").to_ascii_lowercase())
    }
}

impl RecordName {
    /// `mso-<hash>`. Simulation ids differ by case, which names cannot.
    pub fn of_progress(simulator: &SimulatorName, simulation: &SimulationId) -> Self {
        let hash = short_hash(format!("{simulator}\0{simulation}").as_bytes());
        Self::new(&format!("mso-{hash}")).expect("hexadecimal digits stand in a name")
    }

    /// `mso-<hash>-<deploy id>-<index>-of-<count>`
    pub fn of_piece(simulator: &SimulatorName, simulation: &SimulationId, deploy: &DeployId, index: usize, count: usize) -> Self {
        let progress = Self::of_progress(simulator, simulation);
        Self::new(&format!("{progress}-{deploy}-{index}-of-{count}")).expect("its parts stand in a name")
    }

    /// Which piece this is, and of how many.
    pub fn piece(&self) -> Option<(usize, usize)> {
        let mut parts = self.0.rsplit('-');
        let count = parts.next()?.parse().ok()?;
        let index = parts.nth(1)?.parse().ok()?;
        (index < count).then_some((index, count))
    }
}

/// 16 hex digits of SHA-256.
pub(crate) fn short_hash(bytes: &[u8]) -> String {
    let digest = ring::digest::digest(&ring::digest::SHA256, bytes);
    digest.as_ref().iter().take(8).map(|byte| format!("{byte:02x}")).collect()
}

impl From<&SimulationId> for TopicSegment {
    fn from(id: &SimulationId) -> Self {
        Self(id.0.clone())
    }
}

impl From<&ModelId> for TopicSegment {
    fn from(id: &ModelId) -> Self {
        Self(id.0.clone())
    }
}

/// A value that cannot be the id that it was meant to be. Reads on after the name of the field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InvalidId {
    value: Shown,
    problem: String,
}

impl fmt::Display for InvalidId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.value, self.problem)
    }
}

impl std::error::Error for InvalidId {}

/// A value from outside as a log line may show it: quoted, escaped, cut.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shown(String);

impl Shown {
    pub fn of(value: &str) -> Self {
        let mut shown: String = value.chars().take(SHOWN_CHARS).collect();
        let cut = shown.len() < value.len();
        shown = format!("{shown:?}");
        if cut {
            shown += &format!("… ({} bytes)", value.len());
        }
        Self(shown)
    }
}

impl fmt::Display for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

fn label_value_problem(value: &str) -> Option<String> {
    const RIGHT: &str = "it takes 1 to 63 letters, digits, '-', '_' and '.', with a letter or digit at both ends";
    let is_inner = |char: char| char.is_ascii_alphanumeric() || "-_.".contains(char);
    if value.is_empty() {
        Some(format!("is empty: {RIGHT}"))
    } else if let Some(char) = value.chars().find(|&char| !is_inner(char)) {
        Some(format!("has {char:?}: {RIGHT}"))
    } else if let Some(end) = [value.chars().next(), value.chars().last()].into_iter().flatten().find(|end| !end.is_ascii_alphanumeric()) {
        Some(format!("has {end:?} at an end: {RIGHT}"))
    } else {
        (value.len() > LABEL_BYTES).then(|| format!("is {} characters long: {RIGHT}", value.len()))
    }
}

fn dns_label_problem(value: &str) -> Option<String> {
    const RIGHT: &str = "a pod's name takes 1 to 63 lower-case letters, digits and '-', with a letter or digit at both ends";
    if let Some(char) = value.chars().find(|char| !(char.is_ascii_lowercase() || char.is_ascii_digit() || *char == '-')) {
        Some(format!("has {char:?}: {RIGHT}"))
    } else if value.is_empty() || value.starts_with('-') || value.ends_with('-') {
        Some(format!("is empty or has '-' at an end: {RIGHT}"))
    } else {
        (value.len() > LABEL_BYTES).then(|| format!("is {} characters long: {RIGHT}", value.len()))
    }
}

fn topic_segment_problem(value: &str) -> Option<String> {
    const RIGHT: &str = "a part of a topic takes 1 to 32000 bytes of printable text without '/', '+' and '#'";
    if value.is_empty() {
        Some(format!("is empty: {RIGHT}"))
    } else if let Some(char) = value.chars().find(|&char| is_unprintable(char) || "/+#".contains(char)) {
        Some(format!("has {char:?}: {RIGHT}"))
    } else {
        (value.len() > TOPIC_SEGMENT_BYTES).then(|| format!("is {} bytes long: {RIGHT}", value.len()))
    }
}

/// Controls, and what breaks a line or turns its direction.
fn is_unprintable(char: char) -> bool {
    char.is_control() || matches!(char, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_model_id_is_a_label_value() {
        let sixty_three = "m".repeat(63);
        let sixty_four = "m".repeat(64);
        let cases: &[(&str, &str, Option<&str>)] = &[
            ("letters and digits", "Model1", None),
            ("every inner character", "a-b_c.D", None),
            ("one character", "7", None),
            ("63 characters", &sixty_three, None),
            ("64 characters", &sixty_four, Some("is 64 characters long")),
            ("empty", "", Some("is empty")),
            ("a slash", "a/b", Some("has '/'")),
            ("a plus", "a+b", Some("has '+'")),
            ("a hash", "#", Some("has '#'")),
            ("a tab", "a\tb", Some("has '\\t'")),
            ("NUL", "a\0", Some("has '\\0'")),
            ("an umlaut", "wärme", Some("has 'ä'")),
            ("an underscore at the front", "_a", Some("has '_' at an end")),
            ("a dot at the end", "a.", Some("has '.' at an end")),
        ];
        for (phrase, value, problem) in cases {
            match (ModelId::new(value), problem) {
                (Ok(id), None) => assert_eq!(id.as_str(), *value, "{phrase}"),
                (Err(error), Some(problem)) => assert!(error.to_string().contains(problem), "{phrase}: {error}"),
                (result, _) => panic!("{phrase}: {result:?}"),
            }
        }
    }

    #[test]
    fn a_pods_name_is_its_ids_lower_cased_and_fits_a_container() {
        let name = |simulator, simulation, model| {
            PodName::of(&SimulatorId::new(simulator).unwrap(), &SimulationId::new(simulation).unwrap(), &ModelId::new(model).unwrap())
        };
        assert_eq!(name("Essim", "Sim-1", "Model1").unwrap().as_str(), "essim-sim-1-model1");
        assert!(name("essim", "sim.1", "model").unwrap_err().to_string().contains("has '.'"));
        assert!(name("essim", "sim_1", "model").unwrap_err().to_string().contains("has '_'"));
        assert!(name("essim", &"s".repeat(50), "model12").unwrap_err().to_string().contains("is 64 characters long"));
    }

    #[test]
    fn a_topic_segment_takes_what_brokers_take() {
        assert!(TopicSegment::new("Wärmepumpe 1").is_ok());
        for refused in ["", "a/b", "a+", "#", "a\tb", "a\0b", "a\u{7f}", "a\u{85}", "a\u{2028}", "a\u{202e}b"] {
            assert!(TopicSegment::new(refused).is_err(), "{refused:?}");
        }
        assert!(TopicSegment::new(&"x".repeat(10_000)).is_ok());
        assert!(TopicSegment::new(&"x".repeat(40_000)).is_err());
    }

    #[test]
    fn a_long_value_is_cut_and_escaped_in_a_message() {
        let error = ModelId::new(&"\n".repeat(10_000)).unwrap_err().to_string();
        assert!(error.len() < 500 && error.contains("(10000 bytes)") && !error.contains('\n'), "{error}");
    }

    #[test]
    fn the_simulator_name_is_lower_case_or_empty() {
        assert!(SimulatorName::new("").is_ok());
        assert!(SimulatorName::new("dots-so").is_ok());
        assert!(SimulatorName::new("dots/so").is_err());
        assert!(SimulatorName::new("Essim").is_err());
    }
}
