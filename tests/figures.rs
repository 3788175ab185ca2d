//! Figures, printed for a person: `cargo test --release --test figures -- --ignored --nocapture`. Asserted is only what cannot be noise.

mod support;

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use devkit::feed::Feed;
use mso::clock::{self, UnixTime};
use mso::config::Config;
use mso::ids::{DeployId, ModelId, PodName, SimulationId, SimulatorId};
use mso::kube::pod::NewPod;
use mso::kube::{Client, WatchEvent};
use mso::orchestrator::event::PodCall;
use mso::supervise::Beat;
use serde_json::json;

use support::manifests::apply;
use support::service::{LISTED, Service, Settings};
use support::stage::{SIMULATOR_ID, Stage};
use support::{Ground, eventually, spawn, unique};

const MODELS: usize = 100;
const IN_FLIGHT: usize = 16;

fn since(begin: Instant) -> Duration {
    clock::now().instant - begin
}

/// Of an odd number of runs.
fn median<T: PartialOrd + Copy + Debug>(values: &[T]) -> T {
    let mut sorted = values.to_vec();
    sorted.sort_by(|one, other| one.partial_cmp(other).expect("no figure is NaN"));
    sorted[sorted.len() / 2]
}

fn client(stage: &Stage) -> Client {
    let config = Config::read(&stage.settings(), Path::new("/")).expect("the settings are right");
    Client::new(&config.kubernetes, &config.pods, IN_FLIGHT).expect("the settings are right")
}

/// As in the field: at INFO.
fn settings(stage: &Stage) -> Settings {
    let mut settings = stage.settings();
    settings.remove("LOG_LEVEL");
    settings
}

#[test]
#[ignore = "figures: only on the real ground, with nothing else running"]
fn from_exec_to_subscribed_and_memory_at_rest() {
    let stage = Stage::on(Ground::Real);
    let settings = settings(&stage);
    let mut times = Vec::new();
    let mut memory = Vec::new();
    for _ in 0..5 {
        let begin = clock::now().instant;
        let mso = Service::start(&settings);
        times.push(since(begin));
        mso.line(LISTED);
        memory.push(mso.memory_kb("VmRSS"));
    }
    println!("from exec to subscribed: median {:?} of {times:?}", median(&times));
    println!("resident at rest: median {} kB of {memory:?}", median(&memory));
}

#[test]
#[ignore = "figures: only on the real ground, with nothing else running"]
fn a_hundred_creates_beside_a_plain_loop() {
    let stage = Stage::on(Ground::Real);
    apply(&[too_large_for_any_node(&stage)]);
    let mso = Service::start(&settings(&stage));
    let client = Arc::new(client(&stage));
    let mut by_mso = Vec::new();
    let mut by_loop = Vec::new();
    for round in 1..=5 {
        by_loop.push(plain_loop(&client));
        let simulation = stage.simulation();
        let ids: Vec<String> = (0..MODELS).map(|number| format!("model-{number}")).collect();
        let begin = clock::now().instant;
        simulation.deploy(0.0, &ids.iter().map(String::as_str).collect::<Vec<_>>());
        mso.count("Successfully deployed model", round * MODELS);
        by_mso.push(since(begin));
    }
    assert_eq!(stage.namespace.pods().len(), 10 * MODELS);
    println!("{MODELS} models from DeployModels to the last create: median {:?} of {by_mso:?}", median(&by_mso));
    println!("{MODELS} creates in a plain loop, {IN_FLIGHT} in flight: median {:?} of {by_loop:?}", median(&by_loop));
    println!("resident: {} kB now, {} kB at most", mso.memory_kb("VmRSS"), mso.memory_kb("VmHWM"));
}

/// As upstream's requests are: fourteen variables a model, 6 MB in all.
#[test]
#[ignore = "figures: only on the real ground, with nothing else running"]
fn ten_thousand_models_over_two_restarts() {
    const ALL: usize = 10_000;
    let stage = Stage::on(Ground::Real);
    apply(&[too_large_for_any_node(&stage)]);
    let simulation = stage.simulation();
    let variables: Vec<(String, String)> = (0..10).map(|number| (format!("VARIABLE_{number}"), "x".repeat(40))).collect();
    let variables: Vec<(&str, &str)> = variables.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    let models = (0..ALL).map(|number| simulation.model(&format!("model-{number}"), &variables)).collect();
    let settings = settings(&stage);
    let mso = Service::start(&settings);
    let begin = clock::now().instant;
    simulation.send(&simulation.request(0.0, models));
    let made = |mso: &Service| mso.lines_with("Successfully deployed").len();
    eventually("half of the pods", || (made(&mso) >= ALL / 2).then_some(()));
    println!("half of {ALL} models: {:?}; resident at most {} kB", since(begin), mso.memory_kb("VmHWM"));
    drop(mso);
    let mso = Service::launch(&settings);
    let begin = clock::now().instant;
    mso.line("goes on: of its 10000 models");
    println!("half of them are adopted after {:?}", since(begin));
    let there = |mso: &Service| made(mso) + mso.lines_with("already exists, adopted").len();
    eventually("all pods", || (there(&mso) == ALL).then_some(()));
    println!("the other half: {:?}; resident at most {} kB", since(begin), mso.memory_kb("VmHWM"));
    // What was learned last is recorded within a second, and at a stop.
    drop(mso);
    let mso = Service::launch(&settings);
    let begin = clock::now().instant;
    eventually("all pods", || (there(&mso) == ALL).then_some(()));
    println!("all are adopted after {:?}; resident at most {} kB", since(begin), mso.memory_kb("VmHWM"));
    assert_eq!(made(&mso), 0, "nothing is made again");
    let records = stage.namespace.kubectl(&["get", "configmaps", "-l", &format!("simulation_id={}", simulation.id), "-o", "json"]);
    let records: serde_json::Value = serde_json::from_str(&records).expect("kubectl speaks JSON");
    for record in records["items"].as_array().into_iter().flatten() {
        println!("{}: {} bytes", record["metadata"]["name"], record["data"].to_string().len());
    }
}

/// No container is started, so that only creates are measured.
fn too_large_for_any_node(stage: &Stage) -> serde_json::Value {
    json!({
        "apiVersion": "v1", "kind": "LimitRange", "metadata": {"name": "too-large", "namespace": stage.namespace.name},
        "spec": {"limits": [{"type": "Container", "defaultRequest": {"cpu": "1000"}}]},
    })
}

fn plain_loop(client: &Client) -> Duration {
    const VALID: &str = "these names are valid";
    let simulator = SimulatorId::new(SIMULATOR_ID).expect(VALID);
    let simulation = SimulationId::new(&format!("Loop-{}", unique())).expect(VALID);
    let pods: Vec<NewPod> = (0..MODELS)
        .map(|number| {
            let model = ModelId::new(&format!("model-{number}")).expect(VALID);
            NewPod {
                name: PodName::of(&simulator, &simulation, &model).expect(VALID),
                simulator: simulator.clone(),
                simulation: simulation.clone(),
                model,
                number,
                deploy: DeployId::new("0123456789abcdef").expect(VALID),
                models: MODELS,
                keep_logs_hours: 0.0,
                is_recorded: true,
                image: Ground::Real.model_image(),
                variables: Vec::new(),
            }
        })
        .collect();
    let next = AtomicUsize::new(0);
    let begin = clock::now().instant;
    std::thread::scope(|scope| {
        for _ in 0..IN_FLIGHT {
            scope.spawn(|| {
                while let Some(pod) = pods.get(next.fetch_add(1, Ordering::Relaxed)) {
                    client.call(&PodCall::Create(Arc::new(pod.clone()))).expect("the API takes the pod");
                }
            });
        }
    });
    since(begin)
}

#[test]
#[ignore = "figures: only on the real ground, with nothing else running"]
fn from_a_containers_end_to_model_has_terminated() {
    let stage = Stage::on(Ground::Real);
    let _mso = Service::start(&settings(&stage));
    let seen = watch_ends(client(&stage));
    let simulation = stage.simulation();
    let ids: Vec<String> = (0..21).map(|number| format!("model-{number}")).collect();
    let ids: Vec<&str> = ids.iter().map(String::as_str).collect();
    simulation.deploy(1.0, &ids);
    simulation.hear("ModelsReady");
    let mut from_the_end = Vec::new();
    let mut from_the_watch = Vec::new();
    for id in &ids {
        simulation.end_models(&[id]);
        let heard = simulation.hear(&format!("{id}/ModelHasTerminated")).at;
        let pod = simulation.pod_name(id);
        let log = stage.namespace.kubectl(&["logs", &pod]);
        let ended = log.trim_end().rsplit(' ').next().and_then(|time| time.parse().ok()).expect("the model says when it ends");
        from_the_end.push(heard.seconds_since(UnixTime(ended)));
        let ends = eventually("the end in a watch", || seen.read(|ends| ends.iter().cloned().collect::<BTreeMap<_, _>>().remove(&pod)));
        from_the_watch.push(heard.seconds_since(ends));
    }
    println!("from a model's last line to ModelHasTerminated at a subscriber: median {:.3} s of {from_the_end:.3?}", median(&from_the_end));
    println!("of that after another watch has seen the end: median {:.4} s of {from_the_watch:.4?}", median(&from_the_watch));
}

/// When another client's watch sees each container's end.
fn watch_ends(client: Client) -> Arc<Feed<(String, UnixTime)>> {
    const LONGER_THAN_THE_TEST_SECONDS: u32 = 290;
    let seen = Arc::<Feed<_>>::default();
    let feed = seen.clone();
    let version = client.list_pods(&Beat::default()).expect("the API answers").resource_version;
    spawn("watch", move || {
        let watch = client.watch_pods(&version, LONGER_THAN_THE_TEST_SECONDS).expect("the API answers");
        for event in watch.map_while(Result::ok) {
            if let WatchEvent::Changed(pod) = event
                && pod.status.container_statuses.iter().any(|status| status.state.terminated.is_some())
            {
                feed.push((pod.metadata.name, clock::now().unix));
            }
        }
    });
    seen
}
