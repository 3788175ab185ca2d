//! What the SO does meanwhile: small simulations, one after the other, several at a time.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use fastrand::Rng;
use mso::clock;
use prost::Message;

use devkit::so::Heard;

use crate::delivery::Deliveries;
use crate::support::stage::Stage;

/// Between two looks at what the broker made of what was sent.
const LOOK_AFTER: Duration = Duration::from_secs(5);

/// A model that is away from its broker hears nothing of its end: it is told again.
const TELL_AGAIN_AFTER: Duration = Duration::from_secs(3);

/// Of one that runs, or has failed.
const FIRST_NEWS: [&str; 3] = ["ModelsReady", "ModelHasTerminated", "AllModelsHaveTerminated"];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    EndsWhenTold,
    /// With this code.
    CrashesBeforeReady(u8),
    CrashesWhenReady(u8),
}

impl Role {
    pub(crate) fn code(self) -> i32 {
        match self {
            Self::EndsWhenTold => 0,
            Self::CrashesBeforeReady(code) | Self::CrashesWhenReady(code) => code.into(),
        }
    }

    fn variables(self) -> Vec<(&'static str, String)> {
        let mut variables = vec![("READY_AT_LEAST_ONCE", "true".to_owned()), ("EXIT_CODE", self.code().to_string())];
        match self {
            Self::EndsWhenTold => {}
            Self::CrashesBeforeReady(_) => {
                variables.extend([("READY_AFTER_SECONDS", "never".to_owned()), ("EXIT_AFTER_SECONDS", "2".to_owned())])
            }
            Self::CrashesWhenReady(_) => variables.push(("EXIT_AFTER_SECONDS", "6".to_owned())),
        }
        variables
    }
}

/// One simulation, and what its models do.
#[derive(Clone)]
pub(crate) struct Plan {
    pub(crate) simulation: String,
    pub(crate) roles: BTreeMap<String, Role>,
}

impl Plan {
    /// Half of them end well.
    pub(crate) fn draw(rng: &mut Rng, simulation: &str) -> Self {
        let mut roles: BTreeMap<String, Role> =
            (0..rng.usize(2..=6)).map(|number| (format!("model-{number}"), Role::EndsWhenTold)).collect();
        let code = rng.u8(1..=9);
        let odd = match rng.usize(..4) {
            0 => Some(Role::CrashesBeforeReady(code)),
            1 => Some(Role::CrashesWhenReady(code)),
            _ => None,
        };
        if let Some(role) = odd {
            roles.insert("model-0".to_owned(), role);
        }
        Self { simulation: simulation.to_owned(), roles }
    }
}

/// What the SO and the models say to the service, all of it at QoS 1.
impl Plan {
    pub(crate) fn request_topic(&self, simulator: &str) -> String {
        format!("/lifecycle/{simulator}/mso/{}/DeployModels", self.simulation)
    }

    pub(crate) fn ready_topics(&self) -> impl Iterator<Item = String> + '_ {
        self.roles.keys().map(|model| format!("/lifecycle/model/mso/{}/{model}/ReadyForProcessing", self.simulation))
    }
}

/// Until it has ended, as far as the SO is told, or the time is over. A request is sent once more only where the broker has lost it.
pub(crate) fn play(stage: &Stage, plan: &Plan, keep_logs_hours: f64, until: Instant, deliveries: impl Fn() -> Deliveries) {
    let simulation = stage.simulation_called(&plan.simulation);
    let model = |(id, role): (&String, &Role)| {
        let variables = role.variables();
        simulation.model(id, &variables.iter().map(|(name, value)| (*name, value.as_str())).collect::<Vec<_>>())
    };
    let request = simulation.request(keep_logs_hours, plan.roles.iter().map(model).collect());
    simulation.send(&request);
    let wait = |messages: &[&str], limit: Duration| {
        let is_it =
            |heard: &Heard| heard.about().is_some_and(|about| about.simulation == plan.simulation && messages.contains(&about.message));
        stage.so.heard.wait(limit, |heard| heard.iter().any(is_it).then_some(())).is_some()
    };
    let is_over = || clock::now().instant >= until;

    while !wait(&FIRST_NEWS, LOOK_AFTER) && !is_over() {
        let deliveries = deliveries();
        let request_topic = plan.request_topic(&stage.simulator);
        if !deliveries.has_come(&request_topic) || deliveries.is_forgotten(&request_topic) {
            simulation.send_bytes(request.encode_to_vec());
        } else if plan.ready_topics().any(|topic| deliveries.is_forgotten(&topic)) {
            break;
        }
    }
    let models: Vec<&str> = plan.roles.keys().map(String::as_str).collect();
    while !is_over() {
        simulation.end_models(&models);
        if wait(&["AllModelsHaveTerminated"], TELL_AGAIN_AFTER) {
            return;
        }
    }
}
