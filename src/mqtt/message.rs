//! Payloads to the domain and back. Whether a request is good is decided here; what becomes of it is not.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use prost::encoding::{DecodeContext, WireType, decode_key, skip_field};
use prost::{DecodeError, Message as _};

use crate::ids::{DeployId, ModelId, PodName, Shown, SimulationId, SimulatorId, TopicSegment, short_hash};
use crate::kube::pod::Variable;
use crate::orchestrator::event::{BadRequest, Body, DeployRequest, ModelConfiguration};
use crate::orchestrator::pod_state::Verdict;
use crate::proto;
use crate::secret::Secret;

/// Why one is refused that no try makes better.
const INVALID_REQUEST: &str = "InvalidRequest";

/// Ten years. Longer is a mistake in the unit.
const MAX_KEEP_LOGS_HOURS: f64 = 87_600.0;

/// Twice what we plan for in one request.
const MAX_MODELS: usize = 20_000;
/// A real model has 14.
const MAX_VARIABLES: usize = 20 * MAX_MODELS;
/// Of the ids in the topics that answer a bad request, enough for 20 000 models with ids of a label's length. Both ids may be 32 kB long,
/// and each model's topic repeats the simulation's: 54 kB of a request would become 250 MB of answers.
const MAX_ANSWER_BYTES: usize = 4 * 1024 * 1024;

pub fn encode(body: &Body) -> Vec<u8> {
    match body {
        Body::ModelsReady => proto::ModelsReady {}.encode_to_vec(),
        // A success has no bytes at all.
        Body::ModelHasTerminated { verdict: Verdict { success: true, .. }, .. } => proto::ModelHasTerminated::default().encode_to_vec(),
        Body::ModelHasTerminated { verdict: Verdict { exit_code, reason, message, .. }, .. } => proto::ModelHasTerminated {
            status: proto::TerminationStatus::Failed.into(),
            exit_code: *exit_code,
            reason: reason.clone(),
            message: message.clone(),
        }
        .encode_to_vec(),
        Body::ErrorOccurred { message, .. } => proto::ErrorOccurred { error_message: message.clone() }.encode_to_vec(),
        Body::AllModelsHaveTerminated => proto::AllModelsHaveTerminated {}.encode_to_vec(),
    }
}

/// The request, or what is wrong with it.
///
/// # Errors
/// The bytes are no `DeployModels`. The error names the field, and shows no value.
pub fn decode_deploy_models(simulation: &TopicSegment, payload: &[u8]) -> Result<Result<DeployRequest, BadRequest>, DecodeError> {
    if let Some(problem) = size_problem(payload)? {
        return Ok(Err(BadRequest { reason: INVALID_REQUEST.to_owned(), problem, models: Vec::new() }));
    }
    Ok(deploy_request(simulation, proto::DeployModels::decode(payload)?))
}

fn deploy_request(simulation: &TopicSegment, message: proto::DeployModels) -> Result<DeployRequest, BadRequest> {
    let addressable = addressable_models(simulation, &message);
    checked(simulation, message).map_err(|problem| BadRequest { reason: INVALID_REQUEST.to_owned(), problem, models: addressable })
}

/// Counted before anything is decoded: an empty model is 2 bytes on the wire and 72 in memory, so that 16 MiB of them are 600 MB.
fn size_problem(payload: &[u8]) -> Result<Option<String>, DecodeError> {
    const MODEL_CONFIGURATIONS: u32 = 2;
    const ENVIRONMENT_VARIABLES: u32 = 3;
    let (mut models, mut variables) = (0, 0);
    for_each_field(payload, MODEL_CONFIGURATIONS, |model| {
        models += 1;
        for_each_field(model, ENVIRONMENT_VARIABLES, |_| {
            variables += 1;
            Ok(())
        })
    })?;
    Ok(if models > MAX_MODELS {
        Some(format!("modelConfigurations has {models} entries: it takes {MAX_MODELS} at most"))
    } else if variables > MAX_VARIABLES {
        Some(format!("modelConfigurations has {variables} environmentVariables in all: it takes {MAX_VARIABLES} at most"))
    } else {
        None
    })
}

/// Calls `found` for each string, bytes or message with this number. Where the message is cut off it ends; who decodes it says so.
fn for_each_field(mut message: &[u8], number: u32, mut found: impl FnMut(&[u8]) -> Result<(), DecodeError>) -> Result<(), DecodeError> {
    while !message.is_empty() {
        let (tag, wire_type) = decode_key(&mut message)?;
        if tag == number && wire_type == WireType::LengthDelimited {
            let length = prost::decode_length_delimiter(&mut message)?;
            let Some((field, rest)) = message.split_at_checked(length) else { return Ok(()) };
            found(field)?;
            message = rest;
        } else {
            skip_field(wire_type, tag, &mut message, DecodeContext::default())?;
        }
    }
    Ok(())
}

/// Those that can be told that they ended: in order, each once, as far as the limit goes.
fn addressable_models(simulation: &TopicSegment, message: &proto::DeployModels) -> Vec<TopicSegment> {
    let mut bytes = 0;
    let mut seen = std::collections::BTreeSet::new();
    let ids = message.model_configurations.iter().map(|configuration| configuration.model_id.as_str());
    let addressable = ids.filter(|id| seen.insert(*id)).filter_map(|id| TopicSegment::new(id).ok());
    addressable
        .take_while(|id| {
            bytes += simulation.as_str().len() + id.as_str().len();
            bytes <= MAX_ANSWER_BYTES
        })
        .collect()
}

fn checked(simulation: &TopicSegment, message: proto::DeployModels) -> Result<DeployRequest, String> {
    let id = deploy_id(&message);
    let simulation = SimulationId::new(simulation.as_str()).map_err(|error| format!("the topic's simulation id {error}"))?;
    let simulator = SimulatorId::new(&message.simulator_id).map_err(|error| format!("simulatorId {error}"))?;
    let keep_logs_hours = keep_logs_hours(message.keep_logs_hours)?;
    let mut models: Vec<ModelConfiguration> = Vec::new();
    let mut index_by_pod: BTreeMap<PodName, usize> = BTreeMap::new();
    for (index, configuration) in message.model_configurations.into_iter().enumerate() {
        let field = format!("modelConfigurations[{index}]");
        let model = model_configuration(&field, &simulator, &simulation, configuration)?;
        match index_by_pod.entry(model.pod.clone()) {
            Entry::Vacant(vacant) => {
                vacant.insert(models.len());
                models.push(model);
            }
            Entry::Occupied(first) if models[*first.get()] == model => {}
            Entry::Occupied(first) => return Err(clash(&field, &models[*first.get()].model, &model.model)),
        }
    }
    Ok(DeployRequest { id, simulator, simulation, models, keep_logs_hours })
}

/// Over the request as we understood it, encoded again: fields unknown to us, and the order of fields, do not count.
fn deploy_id(message: &proto::DeployModels) -> DeployId {
    DeployId::new(&short_hash(&message.encode_to_vec())).expect("eight bytes are 16 hex digits")
}

fn keep_logs_hours(hours: f64) -> Result<f64, String> {
    if (0.0..=MAX_KEEP_LOGS_HOURS).contains(&hours) {
        // Makes -0.0, which is in the range, 0.0.
        Ok(hours.abs())
    } else {
        Err(format!("keepLogsHours is {hours}: it takes a number from 0 to {MAX_KEEP_LOGS_HOURS}"))
    }
}

fn model_configuration(
    field: &str,
    simulator: &SimulatorId,
    simulation: &SimulationId,
    configuration: proto::ModelConfiguration,
) -> Result<ModelConfiguration, String> {
    let model = ModelId::new(&configuration.model_id).map_err(|error| format!("{field}.modelID {error}"))?;
    let pod = PodName::of(simulator, simulation, &model)
        .map_err(|error| format!("{field}.modelID {}: its pod's name {error}", Shown::of(model.as_str())))?;
    let variables = variables(field, configuration.environment_variables)?;
    Ok(ModelConfiguration { model, pod, image: configuration.image_url, variables })
}

fn clash(field: &str, first: &ModelId, second: &ModelId) -> String {
    if first == second {
        format!("{field}.modelID \"{second}\" was given before with another configuration: a model takes one")
    } else {
        format!("{field}.modelID \"{second}\" is \"{first}\" once lower-cased: pods' names are, so each model takes its own")
    }
}

/// A name given twice keeps the place of its last pair, whose value wins: what that value refers to as `$(OTHER)` still stands before it.
fn variables(field: &str, pairs: Vec<proto::EnvironmentVariable>) -> Result<Vec<Variable>, String> {
    for (index, pair) in pairs.iter().enumerate() {
        let field = format!("{field}.environmentVariables[{index}]");
        if let Some(problem) = variable_name_problem(&pair.name) {
            return Err(format!("{field}.name {} {problem}", Shown::of(&pair.name)));
        }
        if pair.value.contains('\0') {
            return Err(format!("{field}.value, of {}, has a NUL: it takes any text without", Shown::of(&pair.name)));
        }
    }
    let last: BTreeMap<String, usize> = pairs.iter().enumerate().map(|(index, pair)| (pair.name.clone(), index)).collect();
    let kept = pairs.into_iter().enumerate().filter(|(index, pair)| last[&pair.name] == *index);
    Ok(kept.map(|(_, pair)| Variable { name: pair.name, value: Secret::new(pair.value) }).collect())
}

/// As Kubernetes from 1.34 on; an older API server is stricter, and says so itself.
/// <https://kubernetes.io/docs/tasks/inject-data-application/define-environment-variable-container/>
fn variable_name_problem(name: &str) -> Option<String> {
    const RIGHT: &str = "it takes printable ASCII characters without '='";
    if name.is_empty() {
        return Some(format!("is empty: {RIGHT}"));
    }
    let wrong = name.chars().find(|&char| !matches!(char, ' '..='~') || char == '=')?;
    Some(format!("has {wrong:?}: {RIGHT}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn segment(text: &str) -> TopicSegment {
        TopicSegment::new(text).unwrap()
    }

    fn model(id: &str, variables: &[(&str, &str)]) -> proto::ModelConfiguration {
        let pair = |(name, value): &(&str, &str)| proto::EnvironmentVariable { name: (*name).to_owned(), value: (*value).to_owned() };
        proto::ModelConfiguration {
            model_id: id.to_owned(),
            image_url: "registry/model:1".to_owned(),
            environment_variables: variables.iter().map(pair).collect(),
        }
    }

    fn request(models: Vec<proto::ModelConfiguration>) -> proto::DeployModels {
        proto::DeployModels { simulator_id: "Essim".to_owned(), model_configurations: models, keep_logs_hours: 24.0 }
    }

    fn accepted(message: proto::DeployModels) -> DeployRequest {
        deploy_request(&segment("Sim-1"), message).unwrap()
    }

    fn pairs(model: &ModelConfiguration) -> Vec<(&str, &str)> {
        model.variables.iter().map(|variable| (variable.name.as_str(), variable.value.reveal())).collect()
    }

    /// One length-delimited field, as any encoder writes it.
    fn field(number: u8, content: &[u8]) -> Vec<u8> {
        let length = u8::try_from(content.len()).unwrap();
        assert!(length < 128, "one byte of length");
        [&[number << 3 | 2, length], content].concat()
    }

    #[test]
    fn our_messages_are_these_bytes() {
        let terminated = |success, exit_code| Body::ModelHasTerminated {
            model: segment("m"),
            verdict: Verdict { success, exit_code, reason: String::new(), message: String::new() },
        };
        let explained = Body::ModelHasTerminated { model: segment("m"), verdict: Verdict::failed(3, "R", "why") };
        let cases: &[(&str, Body, &[u8])] = &[
            ("all models are ready", Body::ModelsReady, &[]),
            ("all models have terminated", Body::AllModelsHaveTerminated, &[]),
            ("a model succeeded", terminated(true, 0), &[]),
            ("a model failed with code 3", terminated(false, 3), &[0x08, 0x01, 0x10, 0x03]),
            ("a model failed with code 137", terminated(false, 137), &[0x08, 0x01, 0x10, 0x89, 0x01]),
            ("a model failed, and why", explained, &[0x08, 0x01, 0x10, 0x03, 0x1a, 0x01, b'R', 0x22, 0x03, b'w', b'h', b'y']),
            ("a model failed with code 0", terminated(false, 0), &[0x08, 0x01]),
            (
                "a model that never ran",
                terminated(false, -1),
                &[0x08, 0x01, 0x10, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01],
            ),
        ];
        for (phrase, body, bytes) in cases {
            assert_eq!(encode(body), *bytes, "{phrase}");
        }
    }

    #[test]
    fn a_request_that_is_small_on_the_wire_and_large_in_memory_is_refused_before_it_is_decoded() {
        let no_model = [0x12, 0x00];
        let model_of_empty_variables = |count: usize| request(vec![model("m", &vec![("", ""); count])]).encode_to_vec();
        let problem = |payload: &[u8]| decode_deploy_models(&segment("sim"), payload).unwrap().unwrap_err().problem;
        assert!(problem(&no_model.repeat(MAX_MODELS)).contains("simulatorId \"\" is empty"), "as many as are allowed");
        assert_eq!(problem(&no_model.repeat(MAX_MODELS + 1)), "modelConfigurations has 20001 entries: it takes 20000 at most");
        assert!(problem(&model_of_empty_variables(MAX_VARIABLES)).contains("environmentVariables[0].name \"\" is empty"));
        assert!(problem(&model_of_empty_variables(MAX_VARIABLES + 1)).contains("has 400001 environmentVariables in all"));
    }

    #[test]
    fn a_bad_request_with_a_long_id_does_not_multiply_in_its_answer() {
        let models: Vec<_> = (0..5_000).map(|i| model(&i.to_string(), &[])).collect();
        let long = segment(&"s".repeat(30_000));
        let bad = decode_deploy_models(&long, &request(models.clone()).encode_to_vec()).unwrap().unwrap_err();
        assert_eq!(bad.models.len(), MAX_ANSWER_BYTES / 30_004);
        let bad = decode_deploy_models(&segment("_"), &request(models).encode_to_vec()).unwrap().unwrap_err();
        assert_eq!(bad.models.len(), 5_000);
    }

    #[test]
    fn a_request_becomes_models_with_pods() {
        let request = accepted(request(vec![model("Model1", &[("A", "1"), ("B", "2")]), model("m2", &[])]));
        assert_eq!(request.simulator.as_str(), "Essim");
        assert_eq!(request.simulation.as_str(), "Sim-1");
        assert_eq!(request.keep_logs_hours, 24.0);
        let pods: Vec<&str> = request.models.iter().map(|model| model.pod.as_str()).collect();
        assert_eq!(pods, ["essim-sim-1-model1", "essim-sim-1-m2"]);
        assert_eq!(request.models[0].image, "registry/model:1");
        assert_eq!(pairs(&request.models[0]), [("A", "1"), ("B", "2")]);
        assert!(!format!("{request:?}").contains("\"1\""), "values are hidden: {request:?}");
    }

    #[test]
    fn what_other_encoders_write_is_read() {
        let pair = |name: &[u8], value: &[u8]| field(3, &[field(1, name), field(2, value)].concat());
        let model = [field(1, b"m"), field(2, b"i")].concat();
        let simulator = field(1, b"so");
        let hours = [&[0x19][..], &1.5_f64.to_le_bytes()].concat();
        let plain = [simulator.clone(), field(2, &model), hours.clone()].concat();
        let cases: &[(&str, Vec<u8>, usize, f64)] = &[
            ("in order", plain, 1, 1.5),
            ("fields out of order", [hours.clone(), field(2, &model), simulator.clone()].concat(), 1, 1.5),
            (
                "fields unknown to us",
                [simulator.clone(), field(2, &[model.clone(), field(9, b"new")].concat()), field(15, b"x"), hours.clone()].concat(),
                1,
                1.5,
            ),
            (
                "an unknown number and an unknown fixed32",
                [simulator.clone(), vec![0x50, 0x07, 0x5d, 1, 2, 3, 4], field(2, &model), hours.clone()].concat(),
                1,
                1.5,
            ),
            (
                "a single field twice: the last counts",
                [field(1, b"x y"), simulator.clone(), field(2, &model), hours.clone()].concat(),
                1,
                1.5,
            ),
            ("no keepLogsHours", [simulator.clone(), field(2, &model)].concat(), 1, 0.0),
            (
                "keepLogsHours written though it is 0",
                [simulator.clone(), field(2, &model), vec![0x19, 0, 0, 0, 0, 0, 0, 0, 0]].concat(),
                1,
                0.0,
            ),
            ("keepLogsHours is -0.0", [simulator.clone(), field(2, &model), vec![0x19, 0, 0, 0, 0, 0, 0, 0, 0x80]].concat(), 1, 0.0),
            ("no models", [simulator.clone(), hours.clone()].concat(), 0, 1.5),
            (
                "a length in more bytes than it needs",
                [vec![0x0a, 0x82, 0x00], b"so".to_vec(), field(2, &model), hours.clone()].concat(),
                1,
                1.5,
            ),
            ("a variable with an empty value", [simulator, field(2, &[model, pair(b"A", b"")].concat()), hours].concat(), 1, 1.5),
        ];
        for (phrase, bytes, models, hours) in cases {
            let request = decode_deploy_models(&segment("Sim-1"), bytes).unwrap().unwrap();
            assert_eq!(request.models.len(), *models, "{phrase}");
            assert_eq!(request.keep_logs_hours.to_bits(), hours.to_bits(), "{phrase}");
            assert_eq!(request.simulator.as_str(), "so", "{phrase}");
        }
    }

    #[test]
    fn what_is_no_request_is_not_decoded() {
        let cases: &[(&str, &[u8])] = &[
            ("cut in the middle", &[0x0a, 0x05, b's']),
            ("a simulatorId that is not UTF-8", &[0x0a, 0x01, 0xff]),
            ("a number where text should be", &[0x08, 0x01]),
            ("a field number of zero", &[0x02, 0x00]),
            ("a group that never ends", &[0x7b]),
            ("text", b"hello, this is no protobuf"),
        ];
        for (phrase, bytes) in cases {
            assert!(decode_deploy_models(&segment("Sim-1"), bytes).is_err(), "{phrase}");
        }
    }

    #[test]
    fn equal_requests_have_one_id_whoever_encoded_them() {
        let message = request(vec![model("m", &[("A", "1")])]);
        let id = accepted(message.clone()).id;
        let with_unknown_field = [message.encode_to_vec(), field(15, b"x")].concat();
        assert_eq!(decode_deploy_models(&segment("Sim-1"), &with_unknown_field).unwrap().unwrap().id, id);
        assert_ne!(accepted(request(vec![model("m", &[("A", "2")])])).id, id);
        // So that a restart after an upgrade still knows what it deployed.
        assert_eq!(id.as_str(), "c0d506f5afaed5cf");
    }

    #[test]
    fn a_variable_given_twice_has_its_last_value_at_its_last_place() {
        let request = accepted(request(vec![model("m", &[("A", "1"), ("B", "2"), ("A", "$(B)"), ("C", "3")])]));
        assert_eq!(pairs(&request.models[0]), [("B", "2"), ("A", "$(B)"), ("C", "3")]);
    }

    #[test]
    fn a_model_given_twice_alike_is_one_model() {
        let request = accepted(request(vec![model("m", &[("A", "1")]), model("n", &[]), model("m", &[("A", "0"), ("A", "1")])]));
        let ids: Vec<&str> = request.models.iter().map(|model| model.model.as_str()).collect();
        assert_eq!(ids, ["m", "n"]);
    }

    #[test]
    fn kubernetes_takes_odd_names_of_variables() {
        let names = ["A", "a.b-c", "1", " ", "PATH/x", "~", "`$(x)`"];
        let variables: Vec<(&str, &str)> = names.iter().map(|name| (*name, "v")).collect();
        assert_eq!(accepted(request(vec![model("m", &variables)])).models[0].variables.len(), names.len());
    }

    #[test]
    fn a_bad_request_names_field_and_value_and_what_would_be_right() {
        let hours = |keep_logs_hours| proto::DeployModels { keep_logs_hours, ..request(vec![model("m", &[])]) };
        let simulator = |id: &str| proto::DeployModels { simulator_id: id.to_owned(), ..request(vec![model("m", &[])]) };
        let one = |id: &str| request(vec![model(id, &[])]);
        let variable = |name: &str, value: &str| request(vec![model("m", &[]), model("n", &[("OK", "s3cret"), (name, value)])]);
        let long = "x".repeat(10_000);
        let other_image = proto::ModelConfiguration { image_url: "other".to_owned(), ..model("m", &[]) };
        let cases: &[(&str, proto::DeployModels, &str, &[&str])] = &[
            ("hours that are no number", hours(f64::NAN), "keepLogsHours is NaN: it takes a number from 0 to 87600", &["m"]),
            ("hours without end", hours(f64::INFINITY), "keepLogsHours is inf: it takes", &["m"]),
            ("hours before the beginning", hours(f64::NEG_INFINITY), "keepLogsHours is -inf: it takes", &["m"]),
            ("negative hours", hours(-0.5), "keepLogsHours is -0.5: it takes", &["m"]),
            ("more than ten years", hours(87_600.1), "keepLogsHours is 87600.1: it takes", &["m"]),
            ("no simulator", simulator(""), "simulatorId \"\" is empty: it takes", &["m"]),
            ("a simulator with a slash", simulator("a/b"), "simulatorId \"a/b\" has '/'", &["m"]),
            ("a model without id", one(""), "modelConfigurations[0].modelID \"\" is empty", &[]),
            ("a model with a slash", one("a/b"), "modelConfigurations[0].modelID \"a/b\" has '/'", &[]),
            ("a model with a plus", one("a+b"), "modelConfigurations[0].modelID \"a+b\" has '+'", &[]),
            ("a model with a hash", one("#"), "modelConfigurations[0].modelID \"#\" has '#'", &[]),
            ("a model with a tab", one("a\tb"), "modelConfigurations[0].modelID \"a\\tb\" has '\\t'", &[]),
            ("a model with a NUL", one("a\0b"), "modelConfigurations[0].modelID \"a\\0b\" has '\\0'", &[]),
            ("a model with an underscore at its end", one("a_"), "modelConfigurations[0].modelID \"a_\" has '_' at an end", &["a_"]),
            ("a model with a space", one("a b"), "modelConfigurations[0].modelID \"a b\" has ' '", &["a b"]),
            ("a model of 10 kB", one(&long), "(10000 bytes) is 10000 characters long", &[&long]),
            (
                "a model that no pod can be named after",
                one("a.b"),
                "modelConfigurations[0].modelID \"a.b\": its pod's name \"essim-sim-1-a.b\" has '.'",
                &["a.b"],
            ),
            ("a pod's name of 64 characters", one(&"m".repeat(52)), "\" is 64 characters long: a pod's name takes", &[&"m".repeat(52)]),
            (
                "the second model is bad",
                request(vec![model("a", &[]), model("b/", &[])]),
                "modelConfigurations[1].modelID \"b/\" has",
                &["a"],
            ),
            (
                "one model in two ways",
                request(vec![model("m", &[]), other_image]),
                "modelConfigurations[1].modelID \"m\" was given before with another configuration",
                &["m"],
            ),
            (
                "models that are one in small letters",
                request(vec![model("M", &[]), model("m", &[])]),
                "modelConfigurations[1].modelID \"m\" is \"M\" once lower-cased",
                &["M", "m"],
            ),
            (
                "a variable without a name",
                variable("", "v"),
                "modelConfigurations[1].environmentVariables[1].name \"\" is empty: it takes printable",
                &["m", "n"],
            ),
            ("a variable with an equals sign", variable("A=B", "v"), "environmentVariables[1].name \"A=B\" has '='", &["m", "n"]),
            ("a variable with an umlaut", variable("Ä", "v"), "environmentVariables[1].name \"Ä\" has 'Ä'", &["m", "n"]),
            ("a variable with a line feed", variable("A\n", "v"), "environmentVariables[1].name \"A\\n\" has '\\n'", &["m", "n"]),
            (
                "a value with a NUL",
                variable("A", "s3cret\0"),
                "modelConfigurations[1].environmentVariables[1].value, of \"A\", has a NUL",
                &["m", "n"],
            ),
        ];
        for (phrase, message, problem, models) in cases {
            let bad = decode_deploy_models(&segment("Sim-1"), &message.encode_to_vec()).unwrap().unwrap_err();
            assert!(bad.problem.contains(problem), "{phrase}: {}", bad.problem);
            assert!(bad.problem.len() < 700 && !bad.problem.contains("s3cret"), "{phrase}: {}", bad.problem);
            let told: Vec<&str> = bad.models.iter().map(TopicSegment::as_str).collect();
            assert_eq!(told, *models, "{phrase}");
        }
        let bad = deploy_request(&segment("Sim 1"), request(vec![model("m", &[])])).unwrap_err();
        assert!(bad.problem.starts_with("the topic's simulation id \"Sim 1\" has ' ': it takes"), "{}", bad.problem);
    }
}
