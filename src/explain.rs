//! `mso explain`: what the cluster alone says of the simulations and their models, with the service up or down. It starts nothing and
//! changes nothing.
//!
//! `facts` says what is known of each, from its pod and its record, which `recorded` reads; `text` writes it for people. For programs the
//! same facts are JSON.

mod facts;
mod recorded;
mod text;

use std::fmt;
use std::io::{self, Write};

use serde::Serialize;
use serde_json::{Value, json};

use crate::check::is_colored;
use crate::clock::{self, UnixTime};
use crate::config::Config;
use crate::ids::Shown;
use crate::kube::Client;
use crate::kube::error::Error;
use crate::kube::event::PodEvent;
use crate::kube::record::Found;
use crate::orchestrator::pod_state::one_line;
use crate::supervise::Beat;
use facts::{Model, Simulation};

/// What a person wants to know of; none is all.
#[derive(Clone, Debug, Default)]
pub struct Question {
    pub simulation: Option<String>,
    /// Of the simulation.
    pub model: Option<String>,
    pub is_json: bool,
}

#[derive(Debug)]
pub enum Problem {
    /// There is none with this name.
    Unknown(String),
    /// The API server did not tell.
    Cluster(String),
    /// The output is gone.
    Output(io::Error),
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unknown(text) | Self::Cluster(text) => f.write_str(text),
            Self::Output(error) => write!(f, "standard output: {error}"),
        }
    }
}

impl std::error::Error for Problem {}

/// Where it all is from, and what could not be seen.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Source {
    simulator: String,
    namespace: String,
    /// By the API server's clock.
    at: UnixTime,
    notes: Vec<String>,
}

/// What the cluster has beside the pod and the record of a model.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Evidence {
    events: Vec<EventSeen>,
    /// Why there are none to see.
    events_problem: Option<String>,
    log: Vec<String>,
    log_problem: Option<String>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct EventSeen {
    at: Option<UnixTime>,
    r#type: String,
    reason: String,
    count: u32,
    message: String,
}

/// # Errors
/// See [`Problem`].
pub fn run(config: &Config, question: &Question) -> Result<(), Problem> {
    let client = Client::new(&config.kubernetes, &config.pods, 1).map_err(Problem::Cluster)?;
    let (source, simulations) = look(config, &client)?;
    let mut output = io::stdout().lock();
    let is_colored = is_colored(&output);
    let Some(id) = &question.simulation else {
        let summaries: Vec<_> = simulations.iter().map(|simulation| &simulation.summary).collect();
        let json = || json!({"source": source, "simulations": summaries});
        return write(&mut output, question, json, || text::of_all(&source, &summaries, is_colored));
    };
    let of = format!("of simulator {:?} in namespace {}", source.simulator, source.namespace);
    let simulation = find(&source, "simulation", id, &of, &simulations, |simulation| &simulation.summary.id)?;
    let Simulation { summary, models } = simulation;
    let Some(id) = &question.model else {
        let json = || json!({"source": source, "simulation": summary, "models": models});
        return write(&mut output, question, json, || text::of_simulation(&source, simulation, is_colored));
    };
    let model = find(&source, "model", id, &format!("of simulation {}", summary.id), models, |model| &model.id)?;
    let evidence = gather(&client, model, &source.namespace);
    let json = || json!({"source": source, "simulation": summary, "model": model, "evidence": evidence});
    write(&mut output, question, json, || text::of_model(summary, model, &evidence, &source, is_colored))
}

fn write(output: &mut impl Write, question: &Question, json: impl Fn() -> Value, text: impl Fn() -> String) -> Result<(), Problem> {
    let answer = if question.is_json { format!("{:#}", json()) } else { text() };
    writeln!(output, "{}", answer.trim_end()).and_then(|()| output.flush()).map_err(Problem::Output)
}

/// Records before pods: whose pod is recorded as made then is seen, unless it is gone.
fn look(config: &Config, client: &Client) -> Result<(Source, Vec<Simulation>), Problem> {
    let lost = |what: &str, error: Error| {
        Problem::Cluster(format!("failed to read the {what}: {}; `mso check` looks closer", one_line(&error.to_string())))
    };
    let mut notes = Vec::new();
    let found = match client.list_records(&Beat::default()) {
        Ok(found) => found,
        Err(error) if error.code() == Some(403) => {
            notes.push("the records may not be read: who has said ready, and what has no pod, is not known".to_owned());
            Found::default()
        }
        Err(error) => return Err(lost("records", error)),
    };
    if !found.unusable.is_empty() {
        notes.push(format!("of another version, or damaged: ConfigMaps {}", found.unusable.join(", ")));
    }
    if let Some(first) = &found.left_out_from {
        notes.push(format!("there are too many records: those from {first} on are left out"));
    }
    let list = client.list_pods(&Beat::default()).map_err(|error| lost("pods", error))?;
    let source = Source {
        simulator: config.simulator.to_string(),
        namespace: config.kubernetes.namespace.clone(),
        at: list.server_time.unwrap_or_else(|| clock::now().unix),
        notes,
    };
    let simulations = facts::simulations(&list.pods, found.records, &config.rules.limits, &source.namespace);
    Ok((source, simulations))
}

fn find<'a, T>(source: &Source, kind: &str, id: &str, of: &str, all: &'a [T], id_of: impl Fn(&T) -> &str) -> Result<&'a T, Problem> {
    all.iter().find(|one| id_of(one) == id).ok_or_else(|| {
        let there_are = match text::named(all.iter().map(id_of)) {
            names if names.is_empty() => "there is none".to_owned(),
            names => format!("there is {names}"),
        };
        let notes: String = source.notes.iter().map(|note| format!("; {note}")).collect();
        Problem::Unknown(format!("no {kind} {} {of}: {there_are}{notes}", Shown::of(id)))
    })
}

/// What cannot be had is said in its place.
fn gather(client: &Client, model: &Model, namespace: &str) -> Evidence {
    let mut evidence = Evidence { events: Vec::new(), events_problem: None, log: Vec::new(), log_problem: None };
    let Some(name) = model.pod_name.as_ref() else { return evidence };
    // The events of one that is gone are left.
    let uid = model.pod.as_ref().map_or("", |pod| pod.uid.as_str());
    match client.list_events(name, uid) {
        Ok(events) => evidence.events = events.into_iter().map(EventSeen::of).collect(),
        Err(error) => {
            let command = format!("kubectl -n {namespace} get events --field-selector involvedObject.name={name}");
            let why = if error.code() == Some(403) { "we may not list them".to_owned() } else { one_line(&error.to_string()) };
            evidence.events_problem = Some(format!("{why}; as an administrator: {command}"));
        }
    }
    let Some(pod) = model.pod.as_ref() else { return evidence };
    match client.read_log(name, &pod.container) {
        Ok(log) => evidence.log = log.lines().map(str::to_owned).collect(),
        Err(error) => evidence.log_problem = Some(one_line(&error.to_string())),
    }
    evidence
}

impl EventSeen {
    fn of(event: PodEvent) -> Self {
        Self {
            at: event.at(),
            r#type: one_line(&event.r#type),
            reason: one_line(&event.reason),
            count: event.count(),
            message: one_line(&event.message),
        }
    }
}
