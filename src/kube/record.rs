//! The record of a simulation: ConfigMaps of ours, their names and the text in them. When they are written, and what follows from them, is
//! decided elsewhere.
//!
//! A request is immutable and in pieces, as an object of the API has at most 1 MiB; the progress of a run is one small object. Both are
//! JSON in `data`, for people to read.

use std::collections::BTreeMap;
use std::fmt;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::{Value, json};

use super::error::Error;
use super::pod::{DEPLOY_ANNOTATION, SIMULATOR_LABEL, Variable, or_default};
use crate::clock::UnixTime;
use crate::ids::{DeployId, InvalidId, ModelId, PodName, RecordName, SimulationId, SimulatorId, SimulatorName, Uid};
use crate::orchestrator::event::{DeployRequest, ModelConfiguration};
use crate::secret::Secret;

/// What another version of this service writes, this one leaves alone.
const FORMAT: &str = "1";
const FORMAT_ANNOTATION: &str = "mso.dots/format";
/// On a piece: when it was asked for, in Unix seconds.
const ASKED_ANNOTATION: &str = "mso.dots/asked";
pub(super) const SIMULATION_LABEL: &str = "simulation_id";

/// The key in `data`.
const REQUEST: &str = "request";
const PROGRESS: &str = "progress";

/// An object has at most 1 MiB, with its metadata.
const PIECE_BYTES_MAX: usize = 900_000;

/// One that is over keeps one as long as its pods are kept: one simulation every two seconds, and logs kept for a day.
pub(super) const FOUND_MAX: usize = 50_000;
/// Twice what the requests of all simulations that run may hold. The memory limit in k8s/ goes with it.
pub(super) const FOUND_BYTES_MAX: usize = 128 * 1024 * 1024;

/// A ConfigMap to create.
#[derive(Clone, Debug, PartialEq)]
pub struct NewRecord {
    pub name: RecordName,
    pub simulation: SimulationId,
    pub content: Content,
}

/// With what stands in a model's variables.
#[derive(Clone, Debug, PartialEq)]
pub enum Content {
    /// A part of a request's text, never changed.
    Piece {
        deploy: DeployId,
        /// When it was asked for, in the API server's time. A create that was tried for long says nothing of that.
        asked_at: Option<UnixTime>,
        text: Secret,
    },
    Progress {
        text: String,
    },
}

/// A ConfigMap of ours as the cluster has it.
#[derive(Clone, Debug, PartialEq)]
pub struct Record {
    pub name: RecordName,
    pub uid: Uid,
    /// Opaque. A change names it, and is refused where it is old.
    pub version: String,
    pub simulation: SimulationId,
    pub content: Content,
}

impl NewRecord {
    /// All pieces of a request, in order.
    pub fn pieces(simulator: &SimulatorName, request: &DeployRequest, asked_at: UnixTime) -> Vec<Self> {
        let text = request_text(request);
        let parts = split(&text);
        let count = parts.len();
        let piece = |(index, part): (usize, &str)| Self {
            name: RecordName::of_piece(simulator, &request.simulation, &request.id, index, count),
            simulation: request.simulation.clone(),
            content: Content::Piece { deploy: request.id.clone(), asked_at: Some(asked_at), text: Secret::new(part) },
        };
        parts.into_iter().enumerate().map(piece).collect()
    }

    pub(super) fn manifest(&self, simulator: &SimulatorName) -> Value {
        let mut annotations = json!({FORMAT_ANNOTATION: FORMAT});
        let (key, text) = match &self.content {
            Content::Piece { deploy, asked_at, text } => {
                annotations[DEPLOY_ANNOTATION] = json!(deploy.as_str());
                if let Some(asked_at) = asked_at {
                    annotations[ASKED_ANNOTATION] = json!(format!("{:.3}", asked_at.0));
                }
                (REQUEST, text.reveal())
            }
            Content::Progress { text } => (PROGRESS, text.as_str()),
        };
        json!({
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {
                "name": self.name.as_str(),
                "labels": {SIMULATOR_LABEL: simulator.as_str(), SIMULATION_LABEL: self.simulation.as_str()},
                "annotations": annotations,
            },
            "immutable": key == REQUEST,
            "data": {key: text},
        })
    }
}

/// The merge patch that puts a progress in the place of the one with this version.
pub(super) fn update(version: &str, text: &str) -> Value {
    json!({"metadata": {"resourceVersion": version}, "data": {PROGRESS: text}})
}

/// The part of a ConfigMap that we read.
#[derive(Debug, Deserialize)]
pub struct ConfigMap {
    metadata: Metadata,
    #[serde(default, deserialize_with = "or_default")]
    data: BTreeMap<String, String>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Metadata {
    name: String,
    uid: String,
    resource_version: String,
    #[serde(default, deserialize_with = "or_default")]
    labels: BTreeMap<String, String>,
    #[serde(default, deserialize_with = "or_default")]
    annotations: BTreeMap<String, String>,
}

impl ConfigMap {
    pub fn name(&self) -> &str {
        &self.metadata.name
    }

    /// # Errors
    /// Why it is no record that this version of ours can use.
    pub fn into_record(mut self, simulator: &SimulatorName) -> Result<Record, String> {
        let Metadata { name, uid, resource_version, labels, annotations } = self.metadata;
        if labels.get(SIMULATOR_LABEL).map(String::as_str) != Some(simulator.as_str()) {
            return Err("it is not ours".to_owned());
        }
        match annotations.get(FORMAT_ANNOTATION).map(String::as_str) {
            Some(FORMAT) => {}
            Some(other) => return Err(format!("its format is {other:?}, and this version of the service reads {FORMAT:?}")),
            None => return Err("it has no format".to_owned()),
        }
        let id = |error: InvalidId| error.to_string();
        let simulation = SimulationId::new(labels.get(SIMULATION_LABEL).ok_or("it names no simulation")?).map_err(id)?;
        let content = match (self.data.remove(REQUEST), self.data.remove(PROGRESS)) {
            (Some(text), None) => {
                let deploy = annotations.get(DEPLOY_ANNOTATION).ok_or("it names no request")?;
                let asked_at = annotations.get(ASKED_ANNOTATION).and_then(|text| text.parse().ok()).filter(|time: &f64| time.is_finite());
                Content::Piece { deploy: DeployId::new(deploy).map_err(id)?, asked_at: asked_at.map(UnixTime), text: Secret::new(text) }
            }
            (None, Some(text)) => Content::Progress { text },
            _ => return Err("it has neither a request nor a progress".to_owned()),
        };
        Ok(Record {
            name: RecordName::new(&name).map_err(id)?,
            uid: Uid::new(&uid).map_err(id)?,
            version: resource_version,
            simulation,
            content,
        })
    }

    /// # Errors
    /// It is somebody else's, or of another version of ours.
    pub(super) fn expected(self, simulator: &SimulatorName) -> Result<Record, Error> {
        let name = self.name().to_owned();
        self.into_record(simulator).map_err(|problem| Error::Unreadable(format!("ConfigMap {name}: {problem}")))
    }
}

/// What is taken of the records at start.
#[derive(Clone, Debug, Default)]
pub struct Found {
    pub records: Vec<Record>,
    /// Names of ConfigMaps with our mark that are none, or none that this version can use.
    pub unusable: Vec<String>,
    /// From this name on they are left out: there are too many.
    pub left_out_from: Option<RecordName>,
    bytes: usize,
}

impl Found {
    /// In the order of their names, as the API lists them. Where there is one too many its simulation is left out as a whole.
    pub fn add(&mut self, record: Record) {
        self.bytes += match &record.content {
            Content::Piece { text, .. } => text.reveal().len(),
            Content::Progress { text } => text.len(),
        };
        if self.records.len() + self.unusable.len() >= FOUND_MAX || self.bytes > FOUND_BYTES_MAX {
            self.records.retain(|other| other.simulation != record.simulation);
            self.left_out_from = Some(record.name);
        } else {
            self.records.push(record);
        }
    }
}

/// Facts of a run that neither its requests nor its pods tell. Models are numbered through its requests, in order.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Progress {
    pub deploys: Vec<DeployId>,
    /// Of this run, and without a model that the others had not: such a request is only known again.
    pub repeats: Vec<DeployId>,
    /// Of runs before this one: a create of theirs may still work.
    pub earlier_deploys: Vec<DeployId>,
    /// Pods of a run before this one that are there, and of the same request as this one's: nothing else tells them apart.
    pub replaced: Vec<Uid>,
    /// Whose pod was made.
    pub created: Bits,
    pub ready: Bits,
    /// Exit codes of those that have ended; 0 is a success.
    pub ended: BTreeMap<usize, i32>,
    /// Whose end the broker has.
    pub told: Bits,
    pub models_ready: ModelsReady,
    /// The broker has the `ErrorOccurred` of its simulation.
    pub error_reported: bool,
    /// Who was sent `SimulationDone`.
    pub done: Bits,
    /// When the last of those came, in the API server's time as the next one.
    pub done_at: Option<UnixTime>,
    pub cancelled: Option<Cancelled>,
    /// Whom we ended, and for whom. A verdict never changes.
    pub unwanted: BTreeMap<usize, CancelledBy>,
    /// Once the broker has the announcement that all have ended.
    pub over: Option<Over>,
}

/// All of it is to end.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Cancelled {
    /// In the API server's time.
    pub at: UnixTime,
    pub by: CancelledBy,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CancelledBy {
    So,
    /// `SIMULATION_TIMEOUT`.
    Timeout,
}

/// In the API server's time.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Over {
    pub at: UnixTime,
    /// When its pods go.
    pub delete_by: UnixTime,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ModelsReady {
    #[default]
    No,
    /// It may have gone out, and may not.
    Sending,
    Sent,
}

impl ModelsReady {
    /// As it stands in a record, and on a pod.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::No => "no",
            Self::Sending => "sending",
            Self::Sent => "sent",
        }
    }
}

/// As it stands in the cluster.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct ProgressText {
    deploys: Vec<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    repeats: Vec<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    earlier_deploys: Vec<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    replaced: Vec<String>,
    #[serde(default)]
    created: Bits,
    #[serde(default)]
    ready: Bits,
    #[serde(default)]
    ended: Bits,
    #[serde(default)]
    failed: Bits,
    /// Of the failed ones, in order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    exit_codes: Vec<i32>,
    #[serde(default)]
    told: Bits,
    #[serde(default)]
    models_ready: ModelsReady,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    error_reported: bool,
    #[serde(default, skip_serializing_if = "Bits::is_empty")]
    done: Bits,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    done_at: Option<f64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    cancelled_at: Option<f64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    cancelled_by: Option<CancelledBy>,
    #[serde(default, skip_serializing_if = "Bits::is_empty")]
    unwanted: Bits,
    /// Those among them that were ended as their simulation had lived for too long.
    #[serde(default, skip_serializing_if = "Bits::is_empty")]
    timed_out: Bits,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    over_at: Option<f64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    delete_by: Option<f64>,
}

impl Progress {
    pub fn to_text(&self) -> String {
        let texts = |ids: &[DeployId]| ids.iter().map(ToString::to_string).collect();
        let failures = self.ended.iter().filter(|(_, code)| **code != 0);
        let text = ProgressText {
            deploys: texts(&self.deploys),
            repeats: texts(&self.repeats),
            earlier_deploys: texts(&self.earlier_deploys),
            replaced: self.replaced.iter().map(ToString::to_string).collect(),
            created: self.created.clone(),
            ready: self.ready.clone(),
            ended: self.ended.keys().copied().collect(),
            failed: failures.clone().map(|(number, _)| *number).collect(),
            exit_codes: failures.map(|(_, code)| *code).collect(),
            told: self.told.clone(),
            models_ready: self.models_ready,
            error_reported: self.error_reported,
            done: self.done.clone(),
            done_at: self.done_at.map(|at| at.0),
            cancelled_at: self.cancelled.map(|cancelled| cancelled.at.0),
            cancelled_by: self.cancelled.map(|cancelled| cancelled.by),
            unwanted: self.unwanted.keys().copied().collect(),
            timed_out: self.unwanted.iter().filter(|(_, by)| **by == CancelledBy::Timeout).map(|(number, _)| *number).collect(),
            over_at: self.over.map(|over| over.at.0),
            delete_by: self.over.map(|over| over.delete_by.0),
        };
        serde_json::to_string(&text).expect("its keys are strings and its numbers finite")
    }

    /// # Errors
    /// It is damaged.
    pub fn read(text: &str) -> Result<Self, String> {
        let text: ProgressText = serde_json::from_str(text).map_err(|error| error.to_string())?;
        let ids = |texts: &[String]| -> Result<Vec<DeployId>, String> {
            texts.iter().map(|text| DeployId::new(text).map_err(|error| error.to_string())).collect()
        };
        let mut ended: BTreeMap<usize, i32> = text.ended.iter().map(|number| (number, 0)).collect();
        let failed: Vec<usize> = text.failed.iter().collect();
        if failed.len() != text.exit_codes.len() {
            return Err(format!("exitCodes: there are {}, and {} have failed", text.exit_codes.len(), failed.len()));
        }
        ended.extend(failed.into_iter().zip(text.exit_codes));
        let for_whom = |number| if text.timed_out.contains(number) { CancelledBy::Timeout } else { CancelledBy::So };
        let cancelled = match (text.cancelled_at, text.cancelled_by) {
            (Some(at), Some(by)) => Some(Cancelled { at: UnixTime(at), by }),
            // Until this was written, only the SO's wish had a moment of its own.
            (Some(at), None) => {
                let by = if text.done_at.is_some() { CancelledBy::So } else { CancelledBy::Timeout };
                Some(Cancelled { at: UnixTime(at), by })
            }
            (None, _) => None,
        };
        let over = match (text.over_at, text.delete_by) {
            (Some(at), Some(delete_by)) => Some(Over { at: UnixTime(at), delete_by: UnixTime(delete_by) }),
            (Some(_), None) => return Err("deleteBy: missing beside overAt".to_owned()),
            (None, _) => None,
        };
        Ok(Self {
            deploys: ids(&text.deploys)?,
            repeats: ids(&text.repeats)?,
            earlier_deploys: ids(&text.earlier_deploys)?,
            replaced: text.replaced.iter().map(|uid| Uid::new(uid).map_err(|error| error.to_string())).collect::<Result<_, _>>()?,
            created: text.created,
            ready: text.ready,
            ended,
            told: text.told,
            models_ready: text.models_ready,
            error_reported: text.error_reported,
            done: text.done,
            done_at: text.done_at.map(UnixTime),
            cancelled,
            unwanted: text.unwanted.iter().map(|number| (number, for_whom(number))).collect(),
            over,
        })
    }

    /// Of this run or one before it.
    pub fn names(&self, deploy: &DeployId) -> bool {
        [&self.deploys, &self.repeats, &self.earlier_deploys].into_iter().any(|deploys| deploys.contains(deploy))
    }
}

/// A set of numbers, in hexadecimal where it is written: the first digit holds 0 to 3, 0 being its highest bit.
#[derive(Clone, Default, PartialEq)]
pub struct Bits(Vec<u8>);

impl Bits {
    pub fn insert(&mut self, number: usize) {
        let digit = number / 4;
        if self.0.len() <= digit {
            self.0.resize(digit + 1, 0);
        }
        self.0[digit] |= 8 >> (number % 4);
    }

    pub fn contains(&self, number: usize) -> bool {
        self.0.get(number / 4).is_some_and(|digit| digit & (8 >> (number % 4)) != 0)
    }

    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// One more than the highest.
    pub fn end(&self) -> usize {
        self.iter().last().map_or(0, |number| number + 1)
    }

    fn iter(&self) -> impl Iterator<Item = usize> {
        (0..self.0.len() * 4).filter(|number| self.contains(*number))
    }
}

impl FromIterator<usize> for Bits {
    fn from_iter<T: IntoIterator<Item = usize>>(numbers: T) -> Self {
        let mut bits = Self::default();
        numbers.into_iter().for_each(|number| bits.insert(number));
        bits
    }
}

impl fmt::Display for Bits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|digit| write!(f, "{digit:x}"))
    }
}

impl fmt::Debug for Bits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.iter()).finish()
    }
}

impl Serialize for Bits {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Bits {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let digit = |char: char| char.to_digit(16).map(|digit| digit as u8).ok_or_else(|| D::Error::custom("no hexadecimal digit"));
        text.chars().map(digit).collect::<Result<_, _>>().map(Self)
    }
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct RequestText {
    simulator_id: String,
    keep_logs_hours: f64,
    models: Vec<ModelText>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct ModelText {
    id: String,
    image: String,
    variables: Vec<(String, String)>,
}

fn request_text(request: &DeployRequest) -> String {
    let pair = |variable: &Variable| (variable.name.clone(), variable.value.reveal().to_owned());
    let model = |model: &ModelConfiguration| ModelText {
        id: model.model.to_string(),
        image: model.image.clone(),
        variables: model.variables.iter().map(pair).collect(),
    };
    let text = RequestText {
        simulator_id: request.simulator.to_string(),
        keep_logs_hours: request.keep_logs_hours,
        models: request.models.iter().map(model).collect(),
    };
    serde_json::to_string(&text).expect("its keys are strings and its numbers finite")
}

/// The request that these pieces were made of, in whatever order they came.
///
/// # Errors
/// A piece is missing, or they are damaged.
pub fn read_request(simulation: &SimulationId, deploy: &DeployId, pieces: &[(RecordName, Secret)]) -> Result<DeployRequest, String> {
    let mut by_index: BTreeMap<usize, &str> = BTreeMap::new();
    let mut count = 0;
    for (name, text) in pieces {
        let (index, of) = name.piece().ok_or_else(|| format!("{name} names no piece"))?;
        by_index.insert(index, text.reveal());
        count = of;
    }
    if count == 0 {
        return Err("none of its pieces is there".to_owned());
    }
    if by_index.len() != count {
        return Err(format!("{} of its {count} pieces are there", by_index.len()));
    }
    let text: String = by_index.into_values().collect();
    let text: RequestText = serde_json::from_str(&text).map_err(|error| error.to_string())?;
    let id = |error: InvalidId| error.to_string();
    let simulator = SimulatorId::new(&text.simulator_id).map_err(id)?;
    let model = |model: ModelText| -> Result<ModelConfiguration, String> {
        let model_id = ModelId::new(&model.id).map_err(id)?;
        let variable = |(name, value): (String, String)| Variable { name, value: Secret::new(value) };
        Ok(ModelConfiguration {
            pod: PodName::of(&simulator, simulation, &model_id).map_err(id)?,
            model: model_id,
            image: model.image,
            variables: model.variables.into_iter().map(variable).collect(),
        })
    };
    let models = text.models.into_iter().map(model).collect::<Result<_, _>>()?;
    Ok(DeployRequest { id: deploy.clone(), simulator, simulation: simulation.clone(), models, keep_logs_hours: text.keep_logs_hours })
}

fn split(mut text: &str) -> Vec<&str> {
    let mut parts = Vec::new();
    while text.len() > PIECE_BYTES_MAX {
        let end = (0..=PIECE_BYTES_MAX).rev().find(|end| text.is_char_boundary(*end)).expect("0 is one");
        let (part, rest) = text.split_at(end);
        parts.push(part);
        text = rest;
    }
    parts.push(text);
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    fn simulator() -> SimulatorName {
        SimulatorName::new("so").unwrap()
    }

    fn request(models: &[(&str, &str)]) -> DeployRequest {
        let (simulator, simulation) = (SimulatorId::new("so").unwrap(), SimulationId::new("sim").unwrap());
        let model = |(id, value): &(&str, &str)| {
            let model = ModelId::new(id).unwrap();
            let pod = PodName::of(&simulator, &simulation, &model).unwrap();
            let variables = vec![Variable { name: "A".to_owned(), value: Secret::new(*value) }];
            ModelConfiguration { model, pod, image: "model:1".to_owned(), variables }
        };
        let id = DeployId::new("00000000000000ab").unwrap();
        DeployRequest { id, models: models.iter().map(model).collect(), simulator, simulation, keep_logs_hours: 1.5 }
    }

    fn found(simulation: &str, text: String) -> Record {
        let simulation = SimulationId::new(simulation).unwrap();
        let name = RecordName::of_progress(&simulator(), &simulation);
        Record { name, uid: Uid::new("uid").unwrap(), version: "1".to_owned(), simulation, content: Content::Progress { text } }
    }

    #[test]
    fn records_over_a_limit_are_left_out_with_all_of_their_simulation() {
        let cases = [("too many", FOUND_MAX - 2, 0), ("too large", 7, FOUND_BYTES_MAX / 9)];
        for (phrase, before, bytes) in cases {
            let mut records = Found::default();
            (0..before).for_each(|number| records.add(found(&format!("s-{number}"), "x".repeat(bytes))));
            records.add(found("last", "x".repeat(bytes)));
            records.add(found("last", "x".repeat(bytes)));
            assert_eq!(records.left_out_from, None, "{phrase}");
            let one_too_many = found("last", "x".repeat(bytes + 9));
            records.add(one_too_many.clone());
            assert_eq!(records.left_out_from, Some(one_too_many.name), "{phrase}");
            assert_eq!(records.records.len(), before, "{phrase}");
            assert!(records.records.iter().all(|record| record.simulation.as_str() != "last"), "{phrase}");
        }
    }

    /// Its pieces' names and texts, the last first.
    fn pieces(request: &DeployRequest) -> Vec<(RecordName, Secret)> {
        let piece = |record: NewRecord| match record.content {
            Content::Piece { text, .. } => (record.name, text),
            Content::Progress { .. } => panic!("a request has pieces"),
        };
        NewRecord::pieces(&simulator(), request, UnixTime(1.5)).into_iter().map(piece).rev().collect()
    }

    #[test]
    fn a_request_of_several_pieces_is_read_back_in_whatever_order_they_come() {
        // Two bytes each, so that a cut may fall into one.
        let large = "é".repeat(800_000);
        let request = request(&[("m1", &format!("x{large}")), ("m2", "")]);
        let pieces = pieces(&request);
        let names: Vec<&str> = pieces.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["mso-5f3fb791ee13522e-00000000000000ab-1-of-2", "mso-5f3fb791ee13522e-00000000000000ab-0-of-2"]);
        assert!(pieces.iter().all(|(_, text)| text.reveal().len() <= PIECE_BYTES_MAX));
        assert_eq!(read_request(&request.simulation, &request.id, &pieces), Ok(request));
    }

    #[test]
    fn a_request_that_lacks_a_piece_is_not_whole() {
        let request = request(&[("m1", &"x".repeat(1_000_000))]);
        let problem = |pieces: &[(RecordName, Secret)]| read_request(&request.simulation, &request.id, pieces).unwrap_err();
        assert_eq!(problem(&pieces(&request)[..1]), "1 of its 2 pieces are there");
        assert_eq!(problem(&[]), "none of its pieces is there");
    }

    #[test]
    fn a_piece_stands_in_the_cluster_for_the_next_version_to_read() {
        let piece = NewRecord::pieces(&simulator(), &request(&[("m1", "1")]), UnixTime(1.5)).remove(0);
        let expected = json!({
            "apiVersion": "v1", "kind": "ConfigMap",
            "metadata": {
                "name": "mso-5f3fb791ee13522e-00000000000000ab-0-of-1",
                "labels": {"mso.dots/simulator": "so", "simulation_id": "sim"},
                "annotations": {"mso.dots/format": "1", "mso.dots/deploy": "00000000000000ab", "mso.dots/asked": "1.500"},
            },
            "immutable": true,
            "data": {
                "request": r#"{"simulatorId":"so","keepLogsHours":1.5,"models":[{"id":"m1","image":"model:1","variables":[["A","1"]]}]}"#,
            },
        });
        assert_eq!(piece.manifest(&simulator()), expected);
        let mut stored = expected;
        stored["metadata"]["uid"] = json!("u");
        stored["metadata"]["resourceVersion"] = json!("7");
        let record = serde_json::from_value::<ConfigMap>(stored).unwrap().into_record(&simulator()).unwrap();
        assert_eq!((record.name, record.content), (piece.name, piece.content));
    }

    #[test]
    fn a_progress_stands_in_the_cluster_for_the_next_version_to_read() {
        let progress = Progress {
            deploys: vec![DeployId::new("00000000000000ab").unwrap()],
            repeats: vec![DeployId::new("00000000000000ef").unwrap()],
            earlier_deploys: vec![DeployId::new("00000000000000cd").unwrap()],
            replaced: vec![Uid::new("u-1").unwrap()],
            created: [0, 1, 5].into_iter().collect(),
            ready: [1].into_iter().collect(),
            ended: BTreeMap::from([(0, 0), (1, 3), (5, -1)]),
            told: [0].into_iter().collect(),
            models_ready: ModelsReady::Sent,
            error_reported: true,
            done: [0, 1].into_iter().collect(),
            done_at: Some(UnixTime(0.5)),
            cancelled: Some(Cancelled { at: UnixTime(0.75), by: CancelledBy::Timeout }),
            unwanted: BTreeMap::from([(1, CancelledBy::So), (5, CancelledBy::Timeout)]),
            over: Some(Over { at: UnixTime(1.5), delete_by: UnixTime(3601.5) }),
        };
        let text = concat!(
            r#"{"deploys":["00000000000000ab"],"repeats":["00000000000000ef"],"earlierDeploys":["00000000000000cd"],"replaced":["u-1"],"created":"c4","ready":"4","ended":"c4","#,
            r#""failed":"44","exitCodes":[3,-1],"told":"8","modelsReady":"sent","errorReported":true,"done":"c","doneAt":0.5,"cancelledAt":0.75,"cancelledBy":"timeout","unwanted":"44","timedOut":"04","overAt":1.5,"deleteBy":3601.5}"#
        );
        assert_eq!(progress.to_text(), text);
        assert_eq!(Progress::read(text), Ok(progress));
    }

    #[test]
    fn who_cancelled_a_simulation_is_known_also_of_a_record_from_before_that_was_written() {
        for (text, by) in [
            (r#"{"deploys":[],"doneAt":1.0,"cancelledAt":1.5}"#, CancelledBy::So),
            (r#"{"deploys":[],"cancelledAt":1.5}"#, CancelledBy::Timeout),
        ] {
            assert_eq!(Progress::read(text).unwrap().cancelled, Some(Cancelled { at: UnixTime(1.5), by }), "{text}");
        }
    }

    #[test]
    fn a_damaged_progress_is_no_success() {
        for (text, problem) in [
            ("", "EOF while parsing a value"),
            (r#"{"deploys":["x y"]}"#, "x y"),
            (r#"{"deploys":[],"ready":"g"}"#, "no hexadecimal digit"),
            (r#"{"deploys":[],"ended":"8","failed":"8"}"#, "exitCodes: there are 0, and 1 have failed"),
            (r#"{"deploys":[],"overAt":1.5}"#, "deleteBy: missing beside overAt"),
        ] {
            let error = Progress::read(text).unwrap_err();
            assert!(error.contains(problem), "{text:?}: {error}");
        }
    }

    #[test]
    fn what_is_none_of_our_records_says_why() {
        let ours = json!({
            "metadata": {
                "name": "mso-5f3fb791ee13522e", "uid": "u", "resourceVersion": "7",
                "labels": {"mso.dots/simulator": "so", "simulation_id": "sim"}, "annotations": {"mso.dots/format": "1"},
            },
            "data": {"progress": "{}"},
        });
        let read = |pointer: &str, value: Value| {
            let mut map = ours.clone();
            *map.pointer_mut(pointer).unwrap() = value;
            serde_json::from_value::<ConfigMap>(map).unwrap().into_record(&simulator())
        };
        let record = read("/metadata/uid", json!("u")).unwrap();
        assert_eq!((record.version.as_str(), record.content), ("7", Content::Progress { text: "{}".to_owned() }));
        for (pointer, value, problem) in [
            ("/metadata/labels", json!({}), "it is not ours"),
            ("/metadata/annotations", json!({}), "it has no format"),
            ("/metadata/annotations", json!({"mso.dots/format": "2"}), "its format is \"2\", and this version of the service reads \"1\""),
            ("/metadata/labels", json!({"mso.dots/simulator": "so"}), "it names no simulation"),
            ("/data", json!({"request": "{}"}), "it names no request"),
            ("/data", Value::Null, "it has neither a request nor a progress"),
        ] {
            assert_eq!(read(pointer, value.clone()).unwrap_err(), problem, "{pointer} {value}");
        }
    }
}
