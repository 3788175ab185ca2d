//! Topics to types and back, each the other's inverse. Nothing else in the service knows how a topic is written.

use std::fmt;

use crate::ids::{InvalidId, ModelId, Shown, SimulationId, SimulatorName, TopicSegment};
use crate::orchestrator::event::{Body, Message};

/// What a message that reached us is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Incoming {
    /// The simulation is what the topic says, which need not be a valid id: it is the request then that is bad, and is answered.
    DeployModels {
        simulation: TopicSegment,
    },
    ReadyForProcessing {
        simulation: SimulationId,
        model: ModelId,
    },
    /// To us, of a simulation; or to one of its models.
    SimulationDone {
        simulation: SimulationId,
        model: Option<ModelId>,
    },
}

/// What we listen to, and nothing else: the broker carries thousands of messages a second that are others'.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Filters<List = [String; 2]> {
    /// Without these nothing begins.
    pub needed: List,
    /// Without these nothing ends early.
    pub helpful: List,
}

pub fn filters(simulator: &SimulatorName) -> Filters {
    Filters {
        needed: [deploy_models(simulator, "+"), ready_for_processing("+", "+")],
        helpful: [simulation_done(simulator, "mso", "+"), simulation_done(simulator, "model", "+/+")],
    }
}

impl Filters {
    /// In the order in which the broker answers.
    pub fn all(self) -> impl Iterator<Item = String> {
        self.needed.into_iter().chain(self.helpful)
    }
}

/// # Errors
/// The topic is none of ours, or one of its parts is not what it should be.
pub fn parse(topic: &str, simulator: &SimulatorName) -> Result<Incoming, InvalidTopic> {
    let invalid = |part| move |problem| InvalidTopic::Part { topic: Shown::of(topic), part, problem };
    let parts: Vec<&str> = topic.split('/').collect();
    match parts[..] {
        ["", "lifecycle", so, "mso", simulation, "DeployModels"] if so == simulator.as_str() => {
            Ok(Incoming::DeployModels { simulation: TopicSegment::new(simulation).map_err(invalid("simulation id"))? })
        }
        ["", "lifecycle", "model", "mso", simulation, model, "ReadyForProcessing"] => Ok(Incoming::ReadyForProcessing {
            simulation: SimulationId::new(simulation).map_err(invalid("simulation id"))?,
            model: ModelId::new(model).map_err(invalid("model id"))?,
        }),
        ["", "lifecycle", so, "mso", simulation, "SimulationDone"] if so == simulator.as_str() => {
            Ok(Incoming::SimulationDone { simulation: SimulationId::new(simulation).map_err(invalid("simulation id"))?, model: None })
        }
        ["", "lifecycle", so, "model", simulation, model, "SimulationDone"] if so == simulator.as_str() => Ok(Incoming::SimulationDone {
            simulation: SimulationId::new(simulation).map_err(invalid("simulation id"))?,
            model: Some(ModelId::new(model).map_err(invalid("model id"))?),
        }),
        _ => Err(InvalidTopic::NotOurs { topic: Shown::of(topic), filters: filters(simulator) }),
    }
}

/// Where a message of ours goes. At most 64 200 bytes, as a [`TopicSegment`] has its limit: MQTT takes 65 535.
pub fn of(message: &Message, simulator: &SimulatorName) -> String {
    let simulation = &message.simulation;
    match &message.body {
        Body::ModelsReady => format!("/lifecycle/mso/{simulator}/{simulation}/ModelsReady"),
        Body::ModelHasTerminated { model, .. } => format!("/lifecycle/mso/{simulator}/{simulation}/{model}/ModelHasTerminated"),
        Body::ErrorOccurred { model, .. } => format!("/lifecycle/mso/{simulator}/{simulation}/{model}/ErrorOccurred"),
        Body::AllModelsHaveTerminated => format!("/lifecycle/mso/{simulator}/{simulation}/AllModelsHaveTerminated"),
    }
}

fn deploy_models(simulator: &SimulatorName, simulation: &str) -> String {
    format!("/lifecycle/{simulator}/mso/{simulation}/DeployModels")
}

fn ready_for_processing(simulation: &str, model: &str) -> String {
    format!("/lifecycle/model/mso/{simulation}/{model}/ReadyForProcessing")
}

fn simulation_done(simulator: &SimulatorName, to: &str, about: &str) -> String {
    format!("/lifecycle/{simulator}/{to}/{about}/SimulationDone")
}

/// Why a topic says nothing to us.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum InvalidTopic {
    /// It has not the form of any topic that we subscribed to.
    NotOurs { topic: Shown, filters: Filters },
    /// It has the form, but one part is not the id that it should be.
    Part { topic: Shown, part: &'static str, problem: InvalidId },
}

impl fmt::Display for InvalidTopic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotOurs { topic, filters } => {
                write!(f, "topic {topic} is none of {}", filters.clone().all().collect::<Vec<_>>().join(", "))
            }
            Self::Part { topic, part, problem } => write!(f, "topic {topic}: the {part} {problem}"),
        }
    }
}

impl std::error::Error for InvalidTopic {}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::orchestrator::pod_state::Verdict;

    fn so() -> SimulatorName {
        SimulatorName::new("dots-so").unwrap()
    }

    fn segment(text: &str) -> TopicSegment {
        TopicSegment::new(text).unwrap()
    }

    #[test]
    fn what_is_written_is_read_back() {
        let nobody = SimulatorName::new("").unwrap();
        let model = SimulatorName::new("model").unwrap();
        let cases = [
            ("a plain simulation", so(), "sim-1", "/lifecycle/dots-so/mso/sim-1/DeployModels"),
            ("an SO without a name", nobody, "sim-1", "/lifecycle//mso/sim-1/DeployModels"),
            ("an SO called model", model, "sim-1", "/lifecycle/model/mso/sim-1/DeployModels"),
            ("a simulation that is no valid id", so(), "_Wärme 1", "/lifecycle/dots-so/mso/_Wärme 1/DeployModels"),
        ];
        for (phrase, simulator, simulation, topic) in cases {
            assert_eq!(deploy_models(&simulator, simulation), topic, "{phrase}");
            assert_eq!(parse(topic, &simulator), Ok(Incoming::DeployModels { simulation: segment(simulation) }), "{phrase}");
        }
        let topic = "/lifecycle/model/mso/Sim.1/Model_2/ReadyForProcessing";
        let ready =
            Incoming::ReadyForProcessing { simulation: SimulationId::new("Sim.1").unwrap(), model: ModelId::new("Model_2").unwrap() };
        assert_eq!(ready_for_processing("Sim.1", "Model_2"), topic);
        assert_eq!(parse(topic, &so()), Ok(ready));
        let simulation = SimulationId::new("sim-1").unwrap();
        let model = ModelId::new("m").unwrap();
        for (to, about, model) in [("mso", "sim-1", None), ("model", "sim-1/m", Some(model))] {
            let done = Incoming::SimulationDone { simulation: simulation.clone(), model };
            assert_eq!(parse(&simulation_done(&so(), to, about), &so()), Ok(done));
        }
    }

    #[test]
    fn a_topic_that_says_nothing_to_us_is_refused_with_its_part_and_what_would_be_right() {
        let cases = [
            ("another SO's request", "/lifecycle/essim/mso/s/DeployModels", "is none of /lifecycle/dots-so/mso/+/DeployModels, "),
            ("another message", "/lifecycle/dots-so/mso/s/SimulationPaused", "is none of"),
            ("the end of another SO's simulation", "/lifecycle/essim/mso/s/SimulationDone", "is none of"),
            ("the end of no model", "/lifecycle/dots-so/model/s//SimulationDone", "the model id \"\" is empty"),
            ("without the slash in front", "lifecycle/dots-so/mso/s/DeployModels", "is none of"),
            ("with a slash at the end", "/lifecycle/dots-so/mso/s/DeployModels/", "is none of"),
            ("in other letters", "/lifecycle/dots-so/mso/s/deployModels", "is none of"),
            ("a part too many", "/lifecycle/dots-so/mso/s/m/DeployModels", "is none of"),
            ("nothing", "", "topic \"\" is none of"),
            (
                "a request for no simulation",
                "/lifecycle/dots-so/mso//DeployModels",
                "the simulation id \"\" is empty: a part of a topic takes",
            ),
            ("a request with a tab", "/lifecycle/dots-so/mso/a\tb/DeployModels", "the simulation id \"a\\tb\" has '\\t'"),
            ("ready, in no simulation", "/lifecycle/model/mso//m/ReadyForProcessing", "the simulation id \"\" is empty: it takes 1 to 63"),
            ("ready, and no model", "/lifecycle/model/mso/s//ReadyForProcessing", "the model id \"\" is empty"),
            ("ready, with a bad end", "/lifecycle/model/mso/s/m_/ReadyForProcessing", "the model id \"m_\" has '_' at an end"),
            ("ready, on the short form", "/lifecycle/model/mso/m/ReadyForProcessing", "is none of"),
        ];
        for (phrase, topic, problem) in cases {
            let error = parse(topic, &so()).unwrap_err().to_string();
            assert!(error.contains(problem) && error.contains(&Shown::of(topic).to_string()), "{phrase}: {error}");
        }
        let error = parse(&format!("/{}", "x".repeat(60_000)), &so()).unwrap_err().to_string();
        assert!(error.len() < 500, "a long topic is cut: {error}");
    }

    #[test]
    fn we_subscribe_to_what_is_ours_alone() {
        assert_eq!(
            filters(&so()).all().collect::<Vec<_>>(),
            [
                "/lifecycle/dots-so/mso/+/DeployModels",
                "/lifecycle/model/mso/+/+/ReadyForProcessing",
                "/lifecycle/dots-so/mso/+/SimulationDone",
                "/lifecycle/dots-so/model/+/+/SimulationDone",
            ]
        );
        assert_eq!(filters(&SimulatorName::new("").unwrap()).needed[0], "/lifecycle//mso/+/DeployModels");
    }

    #[test]
    fn each_message_of_ours_has_its_topic() {
        let model = segment("Model 1");
        let cases = [
            (Body::ModelsReady, "/lifecycle/mso/dots-so/sim/ModelsReady"),
            (
                Body::ModelHasTerminated { model, verdict: Verdict::failed(3, "Error", "") },
                "/lifecycle/mso/dots-so/sim/Model 1/ModelHasTerminated",
            ),
            (Body::ErrorOccurred { model: segment("m"), message: String::new() }, "/lifecycle/mso/dots-so/sim/m/ErrorOccurred"),
            (Body::AllModelsHaveTerminated, "/lifecycle/mso/dots-so/sim/AllModelsHaveTerminated"),
        ];
        for (body, topic) in cases {
            assert_eq!(of(&Message { id: 1, simulation: segment("sim"), body }, &so()), topic);
        }
    }

    #[test]
    fn the_longest_topic_fits_mqtt() {
        let longest = segment(&"x".repeat(32_000));
        let body = Body::ModelHasTerminated { model: longest.clone(), verdict: Verdict::failed(3, "Error", "") };
        let simulator = SimulatorName::new(&"s".repeat(63)).unwrap();
        assert!(of(&Message { id: 1, simulation: longest, body }, &simulator).len() <= 64_200);
    }
}
