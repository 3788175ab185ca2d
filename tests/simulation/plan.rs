//! What goes wrong in a run, and when: data alone. The world does it.

use std::fmt;
use std::time::Duration;

/// One run is a workload and one of these.
#[derive(Clone, Debug, Default)]
pub struct Plan {
    /// Of latencies, retries' jitter and what is drawn.
    pub seed: u64,
    /// Latencies are drawn; else each is the same.
    pub is_jittery: bool,
    pub strikes: Vec<Strike>,
    /// These events of watches, by their numbers, are not shown where a later one of the same pod comes soon.
    pub hidden: Vec<usize>,
    /// Lists of a process that begins again are so many of the cluster's changes old; where latencies are drawn, at the most, and of the last
    /// moments.
    pub list_age: usize,
}

#[derive(Clone, Debug)]
pub struct Strike {
    pub when: When,
    pub fault: Fault,
}

#[derive(Clone, Copy, Debug)]
pub enum When {
    At(Duration),
    /// An effect of the service is a request to the API server or a packet to the broker. They are counted from 0.
    Effect(usize, Moment),
    /// The first effect arrives whose words begin so.
    First(&'static str),
}

/// Of an effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moment {
    /// It is not done any more.
    Before,
    /// It is done, and its answer not here.
    Between,
    /// Its answer was handled.
    After,
}

#[derive(Clone, Copy, Debug)]
pub enum Fault {
    /// The service: kill -9, and a new process after so long.
    Kill {
        down: Duration,
    },
    /// With what it acknowledged kept, as a mosquitto that saves on changes.
    BrokerIsKilled {
        down: Duration,
    },
    /// Another broker is in its place, and empty but for the lasting session of the SO.
    BrokerForgetsUs,
    /// The service's connection to it.
    ConnectionBreaks,
    /// What is sent between the service and the broker is lost for so long, and then the connection.
    BrokerIsUnreachable {
        time: Duration,
    },
    /// Requests are not done and not answered; watches break.
    ApiIsAway {
        time: Duration,
    },
    /// Answered with 429.
    ApiThrottles {
        requests: u32,
    },
    /// All requests, for so long.
    ApiIsOverloaded {
        time: Duration,
    },
    ApiFails {
        requests: u32,
    },
    /// Answered with 403, as by an API server that has just begun.
    RolesAreUnknown {
        requests: u32,
    },
    /// All requests for ConfigMaps, from now on.
    RecordsAreForbidden,
    RecordsAreAllowed,
    /// Requests that change something are done, and not answered.
    AnswersAreLost {
        requests: u32,
    },
    WatchBreaks,
    /// What happened is forgotten: a watch can only begin with a list.
    HistoryIsForgotten,
    /// One of the pods that run, drawn, is deleted by somebody.
    PodIsDeleted,
}

impl Plan {
    pub fn of(when: When, fault: Fault) -> Self {
        Self { strikes: vec![Strike { when, fault }], ..Self::default() }
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "seed {}", self.seed)?;
        for Strike { when, fault } in &self.strikes {
            write!(f, "; {when:?}: {fault:?}")?;
        }
        if !self.hidden.is_empty() {
            write!(f, "; watch events {:?} are hidden", self.hidden)?;
        }
        if self.list_age > 0 {
            write!(f, "; lists are {} events old", self.list_age)?;
        }
        Ok(())
    }
}
