//! What happened in a run, as everybody but the service saw it: facts for the judge.

use std::collections::BTreeMap;
use std::ops::Range;
use std::time::Duration;

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Word {
    ModelsReady,
    /// 0 is a success.
    ModelHasTerminated {
        model: String,
        success: bool,
        exit_code: i32,
    },
    ErrorOccurred,
    AllModelsHaveTerminated,
}

/// What the SO received. Its session lasts, so that it loses nothing.
#[derive(Clone, Debug)]
pub struct Heard {
    pub at: Duration,
    pub simulation: String,
    pub word: Word,
}

#[derive(Clone, Debug)]
pub struct Asked {
    pub at: Duration,
    pub simulation: String,
    pub models: Vec<String>,
    pub keep_logs_hours: f64,
}

/// One pod object that there was.
#[derive(Clone, Debug)]
pub struct PodLife {
    pub name: String,
    pub created_at: Duration,
    pub had_node: bool,
    /// By itself, and not by a signal.
    pub ended: Option<(Duration, i32)>,
    pub said_ready_at: Option<Duration>,
    /// It was told to end: by the service, or by whoever deleted it.
    pub was_signalled: bool,
    /// Seconds since 1970, as its label says.
    pub delete_by: Option<f64>,
    pub deleted_by_hand_at: Option<Duration>,
    /// The code of its container, as its status showed it to the service's watch.
    pub code_shown: Option<i32>,
    pub gone_at: Option<Duration>,
}

/// The service asked for it, and it was done.
#[derive(Clone, Debug)]
pub struct Deletion {
    pub at: Duration,
    pub unix: f64,
    pub uid: String,
}

/// One process of the service.
#[derive(Clone, Debug)]
pub struct ProcessLife {
    pub began_at: Duration,
    pub killed_at: Duration,
    /// ConfigMaps were allowed when it began.
    pub reads_records: bool,
    /// When it was first told that ConfigMaps are forbidden.
    pub refused_at: Option<Duration>,
}

#[derive(Clone, Debug, Default)]
pub struct Report {
    pub processes: Vec<ProcessLife>,
    pub records_were_forbidden: bool,
    pub heard: Vec<Heard>,
    pub asked: Vec<Asked>,
    /// When the SO said `SimulationDone` to somebody, and of which simulation.
    pub done: Vec<(Duration, String)>,
    /// By uid.
    pub pods: BTreeMap<String, PodLife>,
    pub deletions: Vec<Deletion>,
    /// When the service was killed, or lost its connection to the broker: what it had told may come again.
    pub told_again_after: Vec<Duration>,
    /// When the service was subscribed after it.
    pub connected: Vec<Duration>,
    /// Simulations whose `ModelsReady` was being sent, as their record says, when a process began or the broker lost its session; and when.
    pub in_window: Vec<(Duration, String)>,
    /// When the service saw nothing of the pods: between a watch, or its beginning, and the next answer to a watch or list.
    pub blind: Vec<Range<Duration>>,
    /// Requests that came to the service a second time, as it had not acknowledged them: of which simulation, and when.
    pub redelivered: Vec<(Duration, String)>,
    /// Nothing goes wrong but that the service is killed: what it sends is answered at once.
    pub only_killed: bool,
    /// Nothing goes wrong but this, and that pods are deleted by hand: what a watch shows the service sees.
    pub sees_all: bool,
    /// What the service begins with after it was killed.
    pub lists_are_old: bool,
    /// What the cluster still has at the end that is the service's.
    pub left: Vec<String>,
    /// What the service said as it ended itself.
    pub halted: Option<String>,
    /// Requests that nobody has answered by the end, and messages that the broker still keeps for the service.
    pub unanswered: usize,
}

impl Report {
    pub fn goes_blind(&mut self, at: Duration) {
        if self.blind.last().is_none_or(|blind| blind.end != Duration::MAX) {
            self.blind.push(at..Duration::MAX);
        }
    }

    pub fn sees_again(&mut self, at: Duration) {
        if let Some(blind) = self.blind.last_mut() {
            blind.end = blind.end.min(at);
        }
    }

    /// The simulation that a pod belongs to, and its model.
    pub fn of_pod(name: &str) -> (String, String) {
        let rest = name.strip_prefix("so-").unwrap_or(name);
        let (simulation, model) = rest.rsplit_once('-').unwrap_or((rest, ""));
        (simulation.to_owned(), model.to_owned())
    }
}
