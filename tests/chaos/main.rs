//! The service among a mosquitto and a real cluster that fail, while simulations run: killed, stopped, cut off from either, at moments that
//! a seed decides. A judge that is no part of it says afterwards whether anything was lost, wrong, left over, or deleted too early.
//!
//! `CHAOS_SECONDS` is how long the faults go on; then all neighbours are well, and what has begun comes to its end. `CHAOS_SEED` plays one
//! schedule again; how the threads of a run meet, it does not decide.

#[path = "../support/mod.rs"]
mod support;

mod delivery;
mod judge;
mod load;
mod process;
mod schedule;
mod witness;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread::{self, Builder, Scope, ScopedJoinHandle};
use std::time::{Duration, Instant};

use devkit::wait;
use fastrand::Rng;
use mso::clock;

use delivery::{Deliveries, between};
use judge::{Findings, Said, judge};
use load::Plan;
use process::Process;
use schedule::{Fault, Schedule, Step};
use support::link::Link;
use support::stage::Stage;
use support::{Ground, LIMIT, ground};
use witness::Witness;

const SECONDS: u64 = 180;

/// Simulations at a time. A node takes no more than 110 pods, those that wait for their deletion among them.
const PLAYERS: u64 = 4;

const KEEP_LOGS_HOURS: f64 = 0.002;

/// Once all is well: for what has begun to come to its end, and again for its pods to go. After kills of the API server the scheduler was seen
/// to do nothing for 150 s.
const PATIENCE: Duration = Duration::from_secs(300);

/// The service keeps a record for ten minutes after the end of its simulation, and a restart may begin them anew. A run that is shorter than
/// this does not wait for it.
const RECORDS_STAY: Duration = Duration::from_secs(1200);

#[test]
#[ignore = "takes a real API server down again and again, and all that runs beside it; for minutes"]
fn nothing_is_lost_or_wrong_while_the_service_and_its_neighbours_are_killed_and_cut_off() {
    assert_eq!(ground(), Ground::Real, "devkit's neighbours stop in order");
    let seed = number("CHAOS_SEED").unwrap_or_else(|| fastrand::u64(..1 << 32));
    let whole = Duration::from_secs(number("CHAOS_SECONDS").unwrap_or(SECONDS));
    let schedule = Schedule::of(seed, whole);
    println!("CHAOS_SEED={seed} CHAOS_SECONDS={}\n{schedule}", whole.as_secs());

    let stage = Stage::with_own_broker();
    let witness = Witness::of(&stage.namespace);
    let (api_host, api_port) = stage.namespace.api_address();
    let links = Links { to_broker: Link::to(&stage.broker.host, stage.broker.port), to_api: Link::to(&api_host, api_port) };
    let mut settings = stage.settings();
    settings.insert("MQTT_PORT".to_owned(), links.to_broker.port.to_string());
    settings.insert("KUBERNETES_PORT".to_owned(), links.to_api.port.to_string());
    let deliveries = || Deliveries::read(&stage.broker.log(), &format!("mso-{}", stage.simulator));
    let process = Process::start(settings);
    let log = process.log().to_owned();
    println!("the service's log: {}", log.display());
    // Before that the broker has nobody to keep a request for.
    wait::until(LIMIT, || deliveries().has_subscribed().then_some(())).expect("the service subscribes");

    let plans = Mutex::new(Vec::new());
    let is_over = AtomicBool::new(false);
    let begin = clock::now().instant;
    let waits_for_records = whole >= RECORDS_STAY;
    let ends = thread::scope(|scope| {
        let (stage, deliveries, links, plans, is_over) = (&stage, &deliveries, &links, &plans, &is_over);
        let (service, neighbours) = schedule.lanes.split_first().expect("the service has a lane");
        let service = start(scope, "service", move || process.play(service, begin, is_over));
        let lanes = neighbours.iter().map(|lane| start(scope, "faults", move || play_lane(lane, begin, stage, links)));
        let mut workers: Vec<_> = lanes.collect();
        let players = (0..PLAYERS).map(|player| {
            start(scope, "player", move || play_simulations(player, seed.wrapping_add(player), stage, deliveries, plans, begin + whole))
        });
        workers.extend(players);
        let has_failed = workers.into_iter().map(ScopedJoinHandle::join).filter(Result::is_err).count() > 0;
        if !has_failed {
            // What is not gone then is a finding.
            wait::until(PATIENCE, || witness.pods().values().all(|pod| pod.deleted_at.is_some()).then_some(()));
            wait::until(RECORDS_STAY, || (!waits_for_records || stage.namespace.records(&stage.simulator).is_empty()).then_some(()));
        }
        is_over.store(true, Ordering::Relaxed);
        let ends = service.join().expect("the service is kept running");
        assert!(!has_failed, "a thread of the test has panicked");
        ends
    });

    let plans = plans.into_inner().unwrap_or_else(PoisonError::into_inner);
    let pods = witness.pods();
    let mut findings = stage.so.heard.read(|heard| judge(&plans, heard, &pods, &said(&log), &deliveries(), KEEP_LOGS_HOURS * 3600.0));
    findings.leaked.extend(pods.values().filter(|pod| pod.deleted_at.is_none()).map(|pod| format!("{pod:?}")));
    let records = stage.namespace.records(&stage.simulator);
    if waits_for_records {
        findings.leaked.extend(records.iter().map(|name| format!("ConfigMap {name}")));
    }
    println!("{}", closing_line(seed, whole, &schedule, &plans, &findings, ends.len(), records.len()));
    println!("failed openly: {:?}", findings.failed_openly);
    assert!(!plans.is_empty(), "nothing was asked of the service");
    let kinds = [("lost", &findings.lost), ("wrong", &findings.wrong), ("leaked", &findings.leaked), ("deleted", &findings.deleted)];
    let lines = kinds.into_iter().chain([("ended by itself", &ends)]);
    let lines: Vec<String> = lines.flat_map(|(kind, lines)| lines.iter().map(move |line| format!("{kind}: {line}"))).collect();
    assert!(lines.is_empty(), "the service's log: {}\n{}", log.display(), lines.join("\n"));
    // That of a run that went well is of no use.
    let _ = fs::remove_file(&log);
}

/// The service's only ways to its neighbours.
struct Links {
    to_broker: Link,
    to_api: Link,
}

fn number(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|error| panic!("{name} is {text:?}: {error}")))
}

fn start<'scope, T: Send + 'scope>(
    scope: &'scope Scope<'scope, '_>,
    name: &str,
    body: impl FnOnce() -> T + Send + 'scope,
) -> ScopedJoinHandle<'scope, T> {
    Builder::new().name(name.to_owned()).spawn_scoped(scope, body).expect("the system has one more thread")
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn play_lane(lane: &[Step], begin: Instant, stage: &Stage, links: &Links) {
    for step in lane {
        thread::sleep((begin + step.at).saturating_duration_since(clock::now().instant));
        match step.fault {
            Fault::BrokerKilled => stage.broker.kill(),
            Fault::ApiServerKilled => stage.namespace.restart_api_server(),
            Fault::BrokerSilent => links.to_broker.silence(),
            Fault::BrokerCut => links.to_broker.cut(),
            Fault::ApiSilent => links.to_api.silence(),
            Fault::ApiCut => links.to_api.cut(),
            Fault::ServiceKilled | Fault::ServiceStopped => panic!("its lane is played where its process is"),
        }
        thread::sleep(step.lasts);
        match step.fault {
            Fault::BrokerKilled => stage.broker.start(),
            Fault::BrokerSilent | Fault::BrokerCut => links.to_broker.mend(),
            Fault::ApiSilent | Fault::ApiCut => links.to_api.mend(),
            Fault::ApiServerKilled | Fault::ServiceKilled | Fault::ServiceStopped => {}
        }
    }
}

/// One after the other, until the faults are over.
fn play_simulations(player: u64, seed: u64, stage: &Stage, deliveries: &impl Fn() -> Deliveries, plans: &Mutex<Vec<Plan>>, end: Instant) {
    let mut rng = Rng::with_seed(seed);
    for number in 0.. {
        if clock::now().instant >= end {
            return;
        }
        let plan = Plan::draw(&mut rng, &format!("Chaos-{player}-{number}"));
        lock(plans).push(plan.clone());
        load::play(stage, &plan, KEEP_LOGS_HOURS, end + PATIENCE, deliveries);
    }
}

/// By simulation, in the log of all of the service's processes.
fn said(log: &Path) -> BTreeMap<String, Said> {
    let text = fs::read(log).expect("the log is there");
    let mut said: BTreeMap<String, Said> = BTreeMap::new();
    for line in String::from_utf8_lossy(&text).lines() {
        if let Some(id) = between(line, "All models in simulation ", " are running. Send out ModelsReady.") {
            said.entry(id.to_owned()).or_default().sends_models_ready += 1;
        } else if let Some(id) = between(line, "Simulation ", " fails: ").filter(|_| line.ends_with(", and a second one would reset it.")) {
            said.entry(id.to_owned()).or_default().fails_in_doubt += 1;
        }
    }
    said
}

fn closing_line(
    seed: u64,
    whole: Duration,
    schedule: &Schedule,
    plans: &[Plan],
    findings: &Findings,
    ends: usize,
    records: usize,
) -> String {
    let models: usize = plans.iter().map(|plan| plan.roles.len()).sum();
    let faults: Vec<String> = schedule.count().iter().map(|(fault, times)| format!("{fault} {times}")).collect();
    format!(
        "chaos: seed {seed}, {} s, {} simulations, {models} models; {}; ended by itself {ends}, failed openly {}, repeated by the broker {}, \
         forgotten by it {}, ends unseen {}, records left {records}; lost {}, wrong {}, leaked {}, deleted {}",
        whole.as_secs(),
        plans.len(),
        faults.join(", "),
        findings.failed_openly.len(),
        findings.repeated_by_broker,
        findings.forgotten_by_broker,
        findings.unseen,
        findings.lost.len(),
        findings.wrong.len(),
        findings.leaked.len(),
        findings.deleted.len(),
    )
}
