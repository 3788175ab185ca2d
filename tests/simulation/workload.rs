//! The reference workloads: which simulations are asked for and when, and what their models do. Data alone.

use std::collections::BTreeMap;
use std::time::Duration;

#[derive(Clone, Debug)]
pub struct Workload {
    pub name: &'static str,
    pub requests: Vec<Request>,
    /// When the SO says `SimulationDone`, of which simulation, and to whom: a model, or us.
    pub dones: Vec<(Duration, &'static str, Option<&'static str>)>,
    /// By pod name; in each of its runs.
    pub behaviours: BTreeMap<String, Behaviour>,
    /// By then all is over and cleaned up, whatever went wrong in the first minutes.
    pub horizon: Duration,
}

#[derive(Clone, Debug)]
pub struct Request {
    pub when: When,
    pub simulation: &'static str,
    pub models: Vec<&'static str>,
    pub keep_logs_hours: f64,
}

#[derive(Clone, Copy, Debug)]
pub enum When {
    At(Duration),
    /// So long after this simulation's end was heard for the first time.
    AfterEndOf(&'static str, Duration),
}

#[derive(Clone, Copy, Debug)]
pub struct Behaviour {
    /// After its start.
    pub says_ready: Option<Duration>,
    pub ends: Ends,
}

#[derive(Clone, Copy, Debug)]
pub enum Ends {
    AfterStart(Duration, i32),
    /// It waits for its parameters, which the SO sends at `ModelsReady`.
    AfterModelsReady(Duration, i32),
}

const fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

const GOOD: Behaviour = Behaviour { says_ready: Some(seconds(2)), ends: Ends::AfterModelsReady(seconds(10), 0) };
const CRASHES_BEFORE_READY: Behaviour = Behaviour { says_ready: None, ends: Ends::AfterStart(seconds(3), 1) };
const CRASHES_AFTER_READY: Behaviour = Behaviour { says_ready: Some(seconds(2)), ends: Ends::AfterModelsReady(seconds(4), 3) };
/// Before others have said ready.
const CRASHES_EARLY: Behaviour = Behaviour { says_ready: Some(seconds(1)), ends: Ends::AfterStart(seconds(2), 1) };
const DONE_EARLY: Behaviour = Behaviour { says_ready: Some(seconds(1)), ends: Ends::AfterStart(seconds(2), 0) };
/// It does not wait for the others.
const ENDS_BY_ITSELF: Behaviour = Behaviour { says_ready: Some(seconds(1)), ends: Ends::AfterStart(seconds(8), 0) };

/// For longer than it takes the service to believe that something is forbidden.
const RUNS_LONG: Behaviour = Behaviour { says_ready: Some(seconds(2)), ends: Ends::AfterModelsReady(seconds(400), 0) };
const IS_READY_LATE: Behaviour = Behaviour { says_ready: Some(seconds(200)), ends: Ends::AfterModelsReady(seconds(200), 0) };

/// Past the horizon.
const HANGS: Behaviour = Behaviour { says_ready: None, ends: Ends::AfterStart(seconds(3600), 0) };
const HANGS_WHEN_READY: Behaviour = Behaviour { says_ready: Some(seconds(2)), ends: Ends::AfterStart(seconds(3600), 0) };

const SLOW: Behaviour = Behaviour { says_ready: Some(seconds(6)), ends: Ends::AfterStart(seconds(10), 0) };

fn at(seconds: u64, simulation: &'static str, models: &[&'static str]) -> Request {
    Request { when: When::At(Duration::from_secs(seconds)), simulation, models: models.to_vec(), keep_logs_hours: 0.02 }
}

fn workload<const N: usize>(name: &'static str, requests: Vec<Request>, behaviours: [(&str, Behaviour); N]) -> Workload {
    let behaviours = behaviours.map(|(model, behaviour)| (format!("so-{model}"), behaviour)).into();
    Workload { name, requests, dones: Vec::new(), behaviours, horizon: seconds(45 * 60) }
}

pub fn all() -> Vec<Workload> {
    vec![
        workload("happy", vec![at(5, "sim-a", &["m1", "m2"])], [("sim-a-m1", GOOD), ("sim-a-m2", GOOD)]),
        workload(
            "crash before ready",
            vec![at(5, "sim-a", &["m1", "m2"])],
            [("sim-a-m1", CRASHES_BEFORE_READY), ("sim-a-m2", ENDS_BY_ITSELF)],
        ),
        workload(
            "crash after ready, before the others are",
            vec![at(5, "sim-a", &["m1", "m2"])],
            [("sim-a-m1", CRASHES_EARLY), ("sim-a-m2", SLOW)],
        ),
        workload(
            "one is done before the others are ready",
            vec![at(5, "sim-a", &["m1", "m2"])],
            [("sim-a-m1", DONE_EARLY), ("sim-a-m2", SLOW)],
        ),
        workload("crash after ready", vec![at(5, "sim-a", &["m1", "m2"])], [("sim-a-m1", CRASHES_AFTER_READY), ("sim-a-m2", GOOD)]),
        workload("all fail", vec![at(5, "sim-a", &["m1", "m2"])], [("sim-a-m1", CRASHES_BEFORE_READY), ("sim-a-m2", CRASHES_BEFORE_READY)]),
        workload(
            "two overlap",
            vec![at(5, "sim-a", &["m1", "m2"]), at(7, "sim-b", &["m1", "m2", "m3"])],
            [("sim-a-m1", GOOD), ("sim-a-m2", GOOD), ("sim-b-m1", CRASHES_AFTER_READY), ("sim-b-m2", GOOD), ("sim-b-m3", GOOD)],
        ),
        workload(
            "one runs long and one is ready late",
            vec![at(5, "sim-a", &["m1", "m2"]), at(7, "sim-b", &["m1", "m2"])],
            [("sim-a-m1", RUNS_LONG), ("sim-a-m2", CRASHES_AFTER_READY), ("sim-b-m1", RUNS_LONG), ("sim-b-m2", IS_READY_LATE)],
        ),
        workload(
            "the same id again",
            vec![at(5, "sim-a", &["m1", "m2"]), Request { when: When::AfterEndOf("sim-a", seconds(15)), ..at(0, "sim-a", &["m1", "m2"]) }],
            [("sim-a-m1", GOOD), ("sim-a-m2", GOOD)],
        ),
        workload(
            "the same id again with another request",
            vec![at(5, "sim-a", &["m1", "m2"]), Request { when: When::AfterEndOf("sim-a", seconds(15)), ..at(0, "sim-a", &["m2", "m3"]) }],
            [("sim-a-m1", GOOD), ("sim-a-m2", GOOD), ("sim-a-m3", CRASHES_AFTER_READY)],
        ),
        workload(
            "a second request while it runs",
            vec![at(5, "sim-a", &["m1", "m2"]), at(6, "sim-a", &["m2", "m3"])],
            [("sim-a-m1", GOOD), ("sim-a-m2", GOOD), ("sim-a-m3", GOOD)],
        ),
        workload(
            "logs are not kept",
            vec![Request { keep_logs_hours: 0.0, ..at(5, "sim-a", &["m1", "m2"]) }],
            [("sim-a-m1", GOOD), ("sim-a-m2", CRASHES_AFTER_READY)],
        ),
        Workload {
            dones: vec![(seconds(20), "sim-a", None)],
            ..workload(
                "cancelled",
                vec![at(5, "sim-a", &["m1", "m2", "m3"])],
                [("sim-a-m1", HANGS), ("sim-a-m2", HANGS_WHEN_READY), ("sim-a-m3", SLOW)],
            )
        },
        Workload {
            dones: vec![(seconds(12), "sim-a", Some("m1")), (seconds(12), "sim-a", Some("m2"))],
            ..workload("done before all are ready", vec![at(5, "sim-a", &["m1", "m2"])], [("sim-a-m1", HANGS), ("sim-a-m2", SLOW)])
        },
        Workload {
            dones: vec![(seconds(16), "sim-a", Some("m1")), (seconds(16), "sim-a", Some("m2"))],
            ..workload("done, and all end by themselves", vec![at(5, "sim-a", &["m1", "m2"])], [("sim-a-m1", GOOD), ("sim-a-m2", GOOD)])
        },
    ]
}
