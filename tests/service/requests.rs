//! Requests as other encoders write them, and requests that nobody should send.

use mso::proto::{DeployModels, EnvironmentVariable, ModelConfiguration};
use prost::Message;

use crate::support::service::{SESSION_DROPPED, SUBSCRIBED};
use crate::support::stage::{FAILED_WITHOUT_CODE, SIMULATOR_ID, Simulation, Stage};

/// What the service takes at most.
const MESSAGE_BYTES_MAX: usize = 16 * 1024 * 1024;

struct Case {
    phrase: &'static str,
    request: DeployModels,
    /// The models of which the SO hears that they have failed.
    failed: Vec<String>,
}

impl Case {
    fn of(phrase: &'static str, request: DeployModels, failed: &[&str]) -> Self {
        Self { phrase, request, failed: failed.iter().map(|&id| id.to_owned()).collect() }
    }
}

#[test]
fn a_bad_request_ends_its_simulation_at_once_and_the_next_one_works() {
    let stage = Stage::new();
    let mso = stage.start_mso();
    // Each has a simulation of its own; the fake models in it are never started.
    let cases: Vec<(Simulation<'_>, Case)> = bad_requests(&stage.simulation()).into_iter().map(|case| (stage.simulation(), case)).collect();
    // One after the other: a broker drops QoS 0 for an SO that is slow to read, and together they have some seventy answers.
    for (simulation, Case { phrase, request, failed, .. }) in &cases {
        simulation.send(request);
        simulation.hear("AllModelsHaveTerminated");
        let mut heard = simulation.heard();
        assert_eq!(heard.pop().as_deref(), Some("AllModelsHaveTerminated"), "{phrase}");
        heard.sort();
        let mut expected: Vec<String> = failed.iter().map(|id| format!("{id}/ModelHasTerminated {FAILED_WITHOUT_CODE}")).collect();
        expected.extend(failed.first().map(|id| format!("{id}/ErrorOccurred")));
        expected.sort();
        assert_eq!(heard, expected, "{phrase}");
    }
    stage.run_one_more();
    assert_eq!(stage.namespace.pods(), [0; 0], "none of them has left a pod");
    let longest = mso.log().iter().filter(|line| !line.contains("DEBUG")).map(String::len).max();
    assert!(longest < Some(1000), "a value from outside is cut: {longest:?}");
}

fn bad_requests(simulation: &Simulation<'_>) -> Vec<Case> {
    let model = |id: &str| simulation.model(id, &[]);
    let keeping = |hours: f64| simulation.request(hours, vec![model("model-0"), model("model-1")]);
    let of = |models: &[&str]| simulation.request(1.0, models.iter().map(|id| model(id)).collect());
    let with_variable = |name: &str, value: &str| {
        let mut request = of(&["model-0"]);
        request.model_configurations[0].environment_variables.push(EnvironmentVariable { name: name.to_owned(), value: value.to_owned() });
        request
    };
    let with_image = |image: &str| {
        let mut request = of(&["model-0"]);
        request.model_configurations[0].image_url = image.to_owned();
        request
    };
    let by = |simulator: &str| DeployModels { simulator_id: simulator.to_owned(), ..of(&["model-0"]) };
    let different = ModelConfiguration { image_url: "another".to_owned(), ..model("model-0") };
    let long = "m".repeat(10_000);
    vec![
        Case::of("keepLogsHours is not a number", keeping(f64::NAN), &["model-0", "model-1"]),
        Case::of("keepLogsHours is infinite", keeping(f64::INFINITY), &["model-0", "model-1"]),
        Case::of("keepLogsHours is negative", keeping(-1.0), &["model-0", "model-1"]),
        Case::of("keepLogsHours is over ten years", keeping(87_601.0), &["model-0", "model-1"]),
        Case::of("a model id with a slash, which cannot be told", of(&["model/0", "model-1"]), &["model-1"]),
        Case::of("a model id with a plus", of(&["model+0", "model-1"]), &["model-1"]),
        Case::of("a model id with a hash", of(&["model#0", "model-1"]), &["model-1"]),
        Case::of("a model id with a TAB", of(&["model\t0", "model-1"]), &["model-1"]),
        Case::of("a model id with NUL", of(&["model\0", "model-1"]), &["model-1"]),
        Case::of("an empty model id", of(&["", "model-1"]), &["model-1"]),
        Case::of("a model id with an underscore at its end", of(&["model_", "model-1"]), &["model_", "model-1"]),
        Case::of("a model id that no pod can have in its name", of(&["model_0"]), &["model_0"]),
        Case::of("a model id of 10 kB", of(&[&long]), &[&long]),
        Case::of("model ids that are one in lower case", of(&["Model-0", "model-0"]), &["Model-0", "model-0"]),
        Case::of("one model id twice, differently", simulation.request(1.0, vec![model("model-0"), different]), &["model-0"]),
        Case::of("no models", of(&[]), &[]),
        Case::of("an empty simulator id", by(""), &["model-0"]),
        Case::of("a simulator id with a slash", by("test/so"), &["model-0"]),
        Case::of("a variable without a name", with_variable("", "value"), &["model-0"]),
        Case::of("a variable's name with an equals sign", with_variable("A=B", "value"), &["model-0"]),
        Case::of("a variable's value with NUL", with_variable("NAME", "a\0b"), &["model-0"]),
        Case::of("no image", with_image(""), &["model-0"]),
        Case::of("a pod that is too large for the cluster", with_variable("LARGE", &"x".repeat(4_000_000)), &["model-0"]),
    ]
}

#[test]
fn a_simulation_id_that_no_pod_can_have() {
    let stage = Stage::new();
    let mso = stage.start_mso();
    let ids = ["sim_".to_owned(), "Wärme pumpe".to_owned(), "s".repeat(64), "s".repeat(10_000)];
    for id in &ids {
        let simulation = stage.simulation_called(id);
        simulation.deploy(1.0, &["model-0"]);
        simulation.hear("AllModelsHaveTerminated");
        assert_eq!(
            simulation.heard(),
            [&format!("model-0/ModelHasTerminated {FAILED_WITHOUT_CODE}"), "model-0/ErrorOccurred", "AllModelsHaveTerminated"],
            "{id}"
        );
    }
    mso.line("/mso/sim_/DeployModels\": the topic's simulation id \"sim_\" has '_' at an end: it takes 1 to 63 letters");
    stage.run_one_more();
}

#[test]
fn a_bad_request_for_a_simulation_that_runs_changes_nothing() {
    let stage = Stage::new();
    let mso = stage.start_mso();
    let simulation = stage.simulation();
    simulation.deploy(0.0, &["model-0"]);
    simulation.hear("ModelsReady");
    simulation.deploy(f64::NAN, &["model-0", "model-1"]);
    mso.line("keepLogsHours");
    stage.run_one_more();
    assert_eq!(simulation.heard(), ["ModelsReady"]);
    simulation.end_models(&["model-0"]);
    simulation.hear("AllModelsHaveTerminated");
    assert_eq!(simulation.heard(), ["ModelsReady", "model-0/ModelHasTerminated", "AllModelsHaveTerminated"]);
}

#[test]
fn bytes_that_are_no_request_are_dropped() {
    let stage = Stage::new();
    let mso = stage.start_mso();
    let simulation = stage.simulation();
    simulation.send_bytes(b"\xff\xff\xff".to_vec());
    mso.line(&simulation.id);
    stage.run_one_more();
    assert_eq!(simulation.heard(), [""; 0]);
}

#[test]
fn a_message_over_the_limit_costs_the_session_and_the_next_request_works() {
    let stage = Stage::with_broker_that_passes_what_is_too_large();
    let mso = stage.start_mso();
    let simulation = stage.simulation();
    simulation.send_bytes(vec![0; MESSAGE_BYTES_MAX + 1]);
    mso.lines_in_order(&[SESSION_DROPPED, SUBSCRIBED]);
    stage.run_one_more();
    assert_eq!(simulation.heard(), [""; 0]);
}

/// A few bytes each on the wire, and many times that once decoded.
#[test]
fn millions_of_small_things_in_one_message_do_not_fill_the_memory() {
    /// Half of the Deployment's limit, in k8s/.
    const MEMORY_KB_MAX: u64 = 128 * 1024;
    const EMPTY_MODEL: &[u8] = b"\x12\x00";
    const SHORT_VARIABLE: &[u8] = b"\x1a\x03\x0a\x01a";
    let stage = Stage::with_broker_that_passes_what_is_too_large();
    let mso = stage.start_mso();
    let most = |thing: &[u8]| thing.repeat((MESSAGE_BYTES_MAX - 1000) / thing.len());
    let [models, variables] = [stage.simulation(), stage.simulation()];
    models.send_bytes([&models.request(0.0, vec![]).encode_to_vec(), &most(EMPTY_MODEL)[..]].concat());
    models.hear("AllModelsHaveTerminated");

    let all = most(SHORT_VARIABLE);
    let mut bytes = variables.request(0.0, vec![]).encode_to_vec();
    bytes.push(0x12);
    prost::encode_length_delimiter(all.len(), &mut bytes).unwrap();
    variables.send_bytes([bytes, all].concat());
    variables.hear("AllModelsHaveTerminated");
    stage.run_one_more();
    assert!(mso.memory_kb("VmHWM") < MEMORY_KB_MAX, "{} kB", mso.memory_kb("VmHWM"));
}

#[test]
fn a_request_as_other_encoders_write_it() {
    let stage = Stage::new();
    let _mso = stage.start_mso();
    let simulation = stage.simulation();
    let variable = |name: &str, value: &str| EnvironmentVariable { name: name.to_owned(), value: value.to_owned() };
    let mut model = simulation.model("model-0", &[("TWICE", "first")]);
    model.environment_variables.extend([variable("TWICE", "last"), variable("EMPTY", "")]);
    // Fields in another order, one that nobody knows, none for keepLogsHours, and the model twice.
    let mut bytes = Vec::new();
    for field in 0..2 {
        let models = DeployModels { model_configurations: vec![model.clone()], ..DeployModels::default() };
        bytes.extend(models.encode_to_vec());
        bytes.extend([0x98, 0x06, field]);
    }
    bytes.extend(DeployModels { simulator_id: SIMULATOR_ID.to_owned(), ..DeployModels::default() }.encode_to_vec());
    simulation.send_bytes(bytes);

    simulation.hear("ModelsReady");
    let pod = stage.namespace.pod(&simulation.pod_name("model-0")).expect("the model has a pod");
    assert_eq!(pod["metadata"]["labels"]["keep_logs_hours"], "0.0");
    let env = pod["spec"]["containers"][0]["env"].as_array().unwrap();
    let values = |name: &str| -> Vec<_> {
        env.iter().filter(|variable| variable["name"] == name).map(|variable| variable["value"].as_str()).collect()
    };
    assert_eq!(values("TWICE"), [Some("last")]);
    assert_eq!(values("EMPTY").len(), 1);
    simulation.end_models(&["model-0"]);
    simulation.hear("AllModelsHaveTerminated");
    assert_eq!(simulation.heard(), ["ModelsReady", "model-0/ModelHasTerminated", "AllModelsHaveTerminated"]);
}
