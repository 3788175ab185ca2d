//! Which neighbour fails when, and for how long: decided by the seed before anything runs.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use fastrand::Rng;

/// The service starts among neighbours that are well.
const FIRST: f64 = 5.0;

/// How often the service falls silent for long. A run has one at least.
const LONG_STOP_EACH: f64 = 600.0;

/// Longer than a broker waits for a client that says nothing.
const LONG_STOP: std::ops::Range<f64> = 30.0..60.0;

/// One fault in so many of a link lasts long.
const LONG_CUT_IN: usize = 8;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Fault {
    ServiceKilled,
    ServiceStopped,
    BrokerKilled,
    /// It takes as long as it takes.
    ApiServerKilled,
    BrokerSilent,
    BrokerCut,
    ApiSilent,
    ApiCut,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::ServiceKilled => "service killed",
            Self::ServiceStopped => "service stopped",
            Self::BrokerKilled => "broker killed",
            Self::ApiServerKilled => "API server killed",
            Self::BrokerSilent => "broker silent",
            Self::BrokerCut => "broker cut off",
            Self::ApiSilent => "API silent",
            Self::ApiCut => "API cut off",
        })
    }
}

pub(crate) struct Step {
    /// From the begin of the run.
    pub(crate) at: Duration,
    pub(crate) fault: Fault,
    pub(crate) lasts: Duration,
}

/// A lane for each neighbour and for each way to one: within a lane one fault follows the other, the lanes overlap.
pub(crate) struct Schedule {
    pub(crate) lanes: Vec<Vec<Step>>,
}

impl Schedule {
    pub(crate) fn of(seed: u64, whole: Duration) -> Self {
        let mut rng = Rng::with_seed(seed);
        let whole = whole.as_secs_f64();
        let mut long_stop_at = between(&mut rng, &(FIRST..(whole / 2.0).clamp(FIRST + 1.0, LONG_STOP_EACH)));
        let service = lane(&mut rng, whole, 3.0..9.0, |rng, at| {
            if at >= long_stop_at {
                long_stop_at += LONG_STOP_EACH;
                return (Fault::ServiceStopped, between(rng, &LONG_STOP));
            }
            if rng.usize(..3) == 0 {
                (Fault::ServiceStopped, between(rng, &(0.2..6.0)))
            } else {
                (Fault::ServiceKilled, between(rng, &(0.0..5.0)))
            }
        });
        let broker = lane(&mut rng, whole, 15.0..40.0, |rng, _| (Fault::BrokerKilled, between(rng, &(0.0..4.0))));
        let api_server = lane(&mut rng, whole, 30.0..70.0, |_, _| (Fault::ApiServerKilled, 0.0));
        let to_broker = lane(&mut rng, whole, 12.0..35.0, |rng, _| link_fault(rng, Fault::BrokerSilent, Fault::BrokerCut));
        let to_api = lane(&mut rng, whole, 12.0..35.0, |rng, _| link_fault(rng, Fault::ApiSilent, Fault::ApiCut));
        Self { lanes: vec![service, broker, api_server, to_broker, to_api] }
    }

    pub(crate) fn count(&self) -> BTreeMap<Fault, usize> {
        let mut counts = BTreeMap::new();
        for step in self.lanes.iter().flatten() {
            *counts.entry(step.fault).or_default() += 1;
        }
        counts
    }
}

impl fmt::Display for Schedule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut steps: Vec<&Step> = self.lanes.iter().flatten().collect();
        steps.sort_by_key(|step| step.at);
        for step in steps {
            writeln!(f, "{:8.2} s: {} for {:.2} s", step.at.as_secs_f64(), step.fault, step.lasts.as_secs_f64())?;
        }
        Ok(())
    }
}

/// Faults with such pauses between them, none of which outlasts the run.
fn lane(rng: &mut Rng, whole: f64, pause: std::ops::Range<f64>, mut next: impl FnMut(&mut Rng, f64) -> (Fault, f64)) -> Vec<Step> {
    let mut steps = Vec::new();
    let mut at = FIRST + between(rng, &(0.0..pause.start));
    while at < whole {
        let (fault, lasts) = next(rng, at);
        if at + lasts < whole {
            steps.push(Step { at: Duration::from_secs_f64(at), fault, lasts: Duration::from_secs_f64(lasts) });
            at += lasts;
        }
        at += between(rng, &pause);
    }
    steps
}

fn link_fault(rng: &mut Rng, silent: Fault, cut: Fault) -> (Fault, f64) {
    let fault = if rng.bool() { silent } else { cut };
    let lasts = if rng.usize(..LONG_CUT_IN) == 0 { 20.0..45.0 } else { 0.2..8.0 };
    (fault, between(rng, &lasts))
}

fn between(rng: &mut Rng, range: &std::ops::Range<f64>) -> f64 {
    range.start + rng.f64() * (range.end - range.start)
}
