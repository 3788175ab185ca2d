//! The deterministic simulation: the core, the simulated cluster and the simulated broker on one thread and in simulated time, with a judge
//! that knows nothing of how the service works. One workload and one plan of faults are one run, which can be played again.
//!
//! - `workload`: which simulations are asked for, and what their models do
//! - `plan`: what goes wrong
//! - `world`: the run itself; `service`: the service in it; `neighbours`, `people`, `faults`: what is around that
//! - `report`, `judge`: what happened, and whether it is right

#![allow(clippy::unwrap_used, unreachable_pub, reason = "this is all test code")]

mod faults;
mod judge;
mod neighbours;
mod people;
mod plan;
mod report;
mod service;
mod workload;
mod world;

use std::collections::BTreeSet;
use std::time::Duration;

use plan::{Fault, Moment, Plan, Strike, When};
use report::Word;
use workload::Workload;
use world::World;

/// How long a killed service is gone.
const DOWN: Duration = Duration::from_secs(1);
/// Of all plans `cargo test` plays one in so many; with SIMULATION=all it plays each. A prime: plans come in threes, eights and fifteens, and
/// of each kind some are to be played.
const SHARE: usize = 61;
const SWARMS: u64 = 3000;
/// How old a list is at most, in changes of the cluster.
const LIST_AGE_MAX: usize = 8;

/// A workload with what it says to the SO where nothing goes wrong.
struct Reference {
    workload: Workload,
    undisturbed: World,
    words: BTreeSet<(String, Word)>,
}

fn references() -> Vec<Reference> {
    let reference = |workload: Workload| {
        let undisturbed = World::play(&workload, &Plan::default());
        Reference { words: judge::words(&undisturbed.report), undisturbed, workload }
    };
    workload::all().into_iter().map(reference).collect()
}

/// Plays the plans of a test, judges each run, and says what there was.
///
/// PLAN=n plays the one with this number, twice: the same plan must give the same run.
fn play_all<'a>(test: &str, plans: impl IntoIterator<Item = (&'a Reference, Plan)>) {
    let only: Option<usize> = std::env::var("PLAN").ok().map(|number| number.parse().expect("PLAN is a number"));
    let is_whole = std::env::var("SIMULATION").is_ok_and(|value| value == "all");
    let (mut runs, mut effects, mut in_window, mut simulated) = (0, 0, 0, Duration::ZERO);
    for (number, (reference, plan)) in plans.into_iter().enumerate() {
        let is_wanted = only.map_or(is_whole || number % SHARE == 0, |only| only == number);
        if !is_wanted {
            continue;
        }
        let world = World::play(&reference.workload, &plan);
        let mut wrongs = judge::wrongs(&world.report);
        if is_comparable(&plan, &world) && judge::words(&world.report) != reference.words {
            wrongs.push("the SO heard other things than undisturbed".to_owned());
        }
        if only.is_some() && World::play(&reference.workload, &plan).trace != world.trace {
            wrongs.push("the same plan gave another run".to_owned());
        }
        assert!(
            wrongs.is_empty(),
            "{}\n{}: {plan}\n{wrongs:#?}\nagain: PLAN={number} cargo test --test simulation {test}",
            world.trace.join("\n"),
            reference.workload.name
        );
        runs += 1;
        effects += world.effects.len();
        simulated += world.since;
        in_window += u32::from(!world.report.in_window.is_empty());
    }
    assert!(runs > 0, "there is a plan");
    let hours = simulated.as_secs() / 3600;
    println!("{test}: {runs} runs, {effects} effects, {hours} simulated hours; ModelsReady in doubt in {in_window}");
}

/// What the service does about `ModelsReady` that may have gone out, and what a person does to a pod, changes what the SO hears.
fn is_comparable(plan: &Plan, world: &World) -> bool {
    let is_by_hand = |strike: &Strike| matches!(strike.fault, Fault::PodIsDeleted);
    let lacks_records = world.report.records_were_forbidden && world.incarnation > 1;
    // What ends by itself and what is ended then is a matter of time.
    let is_ended = !world.workload.dones.is_empty();
    !is_ended && world.report.in_window.is_empty() && !lacks_records && !plan.strikes.iter().any(is_by_hand)
}

#[test]
fn each_workload_comes_to_its_right_end_where_nothing_goes_wrong() {
    for Reference { workload, undisturbed, .. } in references() {
        let wrongs = judge::wrongs(&undisturbed.report);
        assert!(wrongs.is_empty(), "{}\n{}: {wrongs:#?}", undisturbed.trace.join("\n"), workload.name);
        let again = World::play(&workload, &Plan::default());
        assert!(undisturbed.trace == again.trace, "{}: the same plan gave another run", workload.name);
    }
}

/// Before it, after it, and between its arrival there and the answer here.
#[test]
fn the_service_is_killed_at_each_effect() {
    let references = references();
    let plans = references.iter().flat_map(|reference| {
        let effects = 0..reference.undisturbed.effects.len();
        let moments = [Moment::Before, Moment::Between, Moment::After];
        let cuts = effects.flat_map(move |effect| moments.map(|moment| When::Effect(effect, moment)));
        cuts.map(move |when| (reference, Plan::of(when, Fault::Kill { down: DOWN })))
    });
    play_all("the_service_is_killed_at_each_effect", plans);
}

/// As a list after a gap in a watch would.
#[test]
fn each_event_of_a_watch_is_hidden_that_a_later_one_covers() {
    let references = references();
    let plans = references.iter().flat_map(|reference| {
        let events = &reference.undisturbed.watch_events;
        let is_covered = |number: &usize| !events[*number].is_empty() && events[number + 1..].contains(&events[*number]);
        let covered: Vec<usize> = (0..events.len()).filter(is_covered).collect();
        covered.into_iter().map(move |number| (reference, Plan { hidden: vec![number], ..Plan::default() }))
    });
    play_all("each_event_of_a_watch_is_hidden_that_a_later_one_covers", plans);
}

#[test]
fn a_killed_service_begins_with_a_list_that_is_old() {
    let references = references();
    let plans = references.iter().flat_map(|reference| {
        let effects = 0..reference.undisturbed.effects.len();
        effects.flat_map(move |effect| {
            (1..=LIST_AGE_MAX).map(move |list_age| {
                let kill = Plan::of(When::Effect(effect, Moment::Between), Fault::Kill { down: DOWN });
                (reference, Plan { list_age, ..kill })
            })
        })
    });
    play_all("a_killed_service_begins_with_a_list_that_is_old", plans);
}

/// Each by the first effect that begins with these words.
const STAGES: [&str; 14] = [
    "connect",
    "list pods",
    "create piece",
    "create progress",
    "acknowledge",
    "create pod",
    "update progress",
    "publish ModelsReady",
    "release",
    "publish ModelHasTerminated",
    "publish AllModelsHaveTerminated",
    "set delete_by",
    "delete pod",
    "delete record",
];

const fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

const FAULTS: [Fault; 15] = [
    Fault::Kill { down: DOWN },
    Fault::Kill { down: seconds(30) },
    Fault::BrokerIsKilled { down: seconds(5) },
    Fault::BrokerForgetsUs,
    Fault::ConnectionBreaks,
    Fault::BrokerIsUnreachable { time: seconds(40) },
    Fault::ApiIsAway { time: seconds(3) },
    Fault::ApiIsAway { time: seconds(100) },
    Fault::ApiThrottles { requests: 5 },
    Fault::ApiFails { requests: 5 },
    Fault::RolesAreUnknown { requests: 3 },
    Fault::AnswersAreLost { requests: 1 },
    Fault::WatchBreaks,
    Fault::HistoryIsForgotten,
    Fault::PodIsDeleted,
];

#[test]
fn each_fault_strikes_at_each_stage_of_life() {
    let references = references();
    let plans = references
        .iter()
        .flat_map(|reference| STAGES.iter().flat_map(move |stage| FAULTS.map(|fault| (reference, Plan::of(When::First(stage), fault)))));
    play_all("each_fault_strikes_at_each_stage_of_life", plans);
}

/// It begins again while the pod has its grace.
#[test]
fn the_service_is_killed_when_a_pod_is_deleted_by_hand() {
    let references = references();
    let plans = references.iter().flat_map(|reference| {
        STAGES.iter().map(move |stage| {
            let faults = [Fault::PodIsDeleted, Fault::Kill { down: Duration::from_millis(10) }];
            let strikes = faults.map(|fault| Strike { when: When::First(stage), fault }).to_vec();
            (reference, Plan { strikes, ..Plan::default() })
        })
    });
    play_all("the_service_is_killed_when_a_pod_is_deleted_by_hand", plans);
}

/// Away for longer than a request waits for it: so nothing is asked for meanwhile.
#[test]
fn an_api_server_that_is_away_or_overloaded_for_minutes_delays_what_is_told_and_no_more() {
    let references = references();
    let away = |stage| Plan::of(When::First(stage), Fault::ApiIsAway { time: seconds(600) });
    let overloaded = |stage| Plan::of(When::First(stage), Fault::ApiIsOverloaded { time: seconds(180) });
    let plans = references.iter().flat_map(|reference| {
        let is_asked_once = reference.workload.requests.len() == 1;
        let away = ["publish ModelsReady", "publish ModelHasTerminated"].map(away).into_iter().filter(move |_| is_asked_once);
        away.chain(STAGES.map(overloaded)).map(move |plan| (reference, plan))
    });
    play_all("an_api_server_that_is_away_or_overloaded_for_minutes_delays_what_is_told_and_no_more", plans);
}

/// ConfigMaps are forbidden from the start: that, and the effects but for those in which it waits for that right.
fn without_records(reference: &Reference) -> (Strike, Vec<usize>) {
    let forbidden = Strike { when: When::At(Duration::ZERO), fault: Fault::RecordsAreForbidden };
    let world = World::play(&reference.workload, &Plan { strikes: vec![forbidden.clone()], ..Plan::default() });
    (forbidden, effects_but_for_waiting(&world, 0))
}

fn effects_but_for_waiting(world: &World, from: usize) -> Vec<usize> {
    let waits = |effect: usize| effect > 0 && [effect - 1, effect].iter().all(|effect| world.effects[*effect] == "read records");
    (from..world.effects.len()).filter(|effect| !waits(*effect)).collect()
}

#[test]
fn a_service_that_may_keep_no_records_is_killed_at_each_effect() {
    let references = references();
    let plans = references.iter().flat_map(|reference| {
        let (forbidden, effects) = without_records(reference);
        let moments = [Moment::Before, Moment::Between, Moment::After];
        let cuts = effects.into_iter().flat_map(move |effect| moments.map(|moment| When::Effect(effect, moment)));
        cuts.map(move |when| {
            let kill = Strike { when, fault: Fault::Kill { down: DOWN } };
            (reference, Plan { strikes: vec![forbidden.clone(), kill], ..Plan::default() })
        })
    });
    play_all("a_service_that_may_keep_no_records_is_killed_at_each_effect", plans);
}

#[test]
fn a_service_that_might_keep_no_records_is_killed_at_each_effect_and_may_from_then_on() {
    let references = references();
    let plans = references.iter().flat_map(|reference| {
        let (forbidden, effects) = without_records(reference);
        effects.into_iter().map(move |effect| {
            let when = When::Effect(effect, Moment::Between);
            let [allowed, kill] = [Fault::RecordsAreAllowed, Fault::Kill { down: DOWN }].map(|fault| Strike { when, fault });
            (reference, Plan { strikes: vec![forbidden.clone(), allowed, kill], ..Plan::default() })
        })
    });
    play_all("a_service_that_might_keep_no_records_is_killed_at_each_effect_and_may_from_then_on", plans);
}

/// Nothing but a restart lacks them.
#[test]
fn records_that_are_forbidden_from_any_effect_on_change_nothing() {
    let references = references();
    let plans = references.iter().flat_map(|reference| {
        let effects = 0..reference.undisturbed.effects.len();
        effects.map(move |effect| (reference, Plan::of(When::Effect(effect, Moment::Between), Fault::RecordsAreForbidden)))
    });
    play_all("records_that_are_forbidden_from_any_effect_on_change_nothing", plans);
}

#[test]
fn the_service_is_killed_at_each_effect_after_records_are_forbidden() {
    let references = references();
    let plans = references.iter().flat_map(|reference| {
        STAGES.iter().flat_map(move |stage| {
            let forbidden = Strike { when: When::First(stage), fault: Fault::RecordsAreForbidden };
            let world = World::play(&reference.workload, &Plan { strikes: vec![forbidden.clone()], ..Plan::default() });
            let first = world.effects.iter().position(|effect| effect.starts_with(stage)).unwrap_or(world.effects.len());
            effects_but_for_waiting(&world, first + 1).into_iter().map(move |effect| {
                let kill = Strike { when: When::Effect(effect, Moment::Between), fault: Fault::Kill { down: DOWN } };
                (reference, Plan { strikes: vec![forbidden.clone(), kill], ..Plan::default() })
            })
        })
    });
    play_all("the_service_is_killed_at_each_effect_after_records_are_forbidden", plans);
}

/// Three to six faults at any time, and latencies that differ.
#[test]
fn swarms_of_faults_change_nothing_but_the_time() {
    let references = references();
    let plans = (0..SWARMS).map(|seed| {
        let mut random = fastrand::Rng::with_seed(seed);
        let reference = random.choice(references.iter()).unwrap();
        let strikes = (0..random.u32(3..=6)).map(|_| {
            let at = Duration::from_secs_f64(random.f64() * 40.0);
            // A broker that forgets what it had for the service loses it for good.
            let fault =
                std::iter::repeat_with(|| *random.choice(FAULTS.iter()).unwrap()).find(|fault| !matches!(fault, Fault::BrokerForgetsUs));
            Strike { when: When::At(at), fault: fault.unwrap() }
        });
        let strikes = strikes.collect();
        let list_age = if seed % 4 == 0 { random.usize(1..=LIST_AGE_MAX) } else { 0 };
        (reference, Plan { seed, is_jittery: true, strikes, list_age, ..Plan::default() })
    });
    play_all("swarms_of_faults_change_nothing_but_the_time", plans.collect::<Vec<_>>());
}
