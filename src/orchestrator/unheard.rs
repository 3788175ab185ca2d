//! Models that run, and may have said ready while we did not listen: named, so that nobody waits for them in ignorance. One that takes long
//! to load looks the same, and nothing follows from it. Where the broker keeps what is sent at QoS 0 for an absent client, all of them are
//! heard before this is said.

use std::time::{Duration, Instant};

use log::Level;

use super::deadline::Deadline;
use super::simulation::{Announced, Model, Simulation};
use super::{Orchestrator, deploy};
use crate::clock::Now;
use crate::ids::{ModelId, SimulationId};

/// A broker hands over what it kept within moments, and a model says ready right after it has begun: one that begins with a connection
/// has its time too.
const HEARD_WITHIN: Duration = Duration::from_secs(60);

impl Orchestrator {
    /// From here on we listen, and what runs is known: both are so for the first time in this process, or again.
    pub(super) fn await_readies(&mut self, now: Now) {
        if self.broker.connected_at.is_none() || self.api.lists == 0 {
            return;
        }
        self.broker.listens_since = Some(now.instant);
        for id in self.simulations.keys() {
            self.deadlines.set(now.instant + HEARD_WITHIN, Deadline::ReadiesAreOverdue(id.clone()));
        }
    }

    pub(super) fn name_the_unheard(&mut self, id: &SimulationId) {
        let Some(since) = self.broker.listens_since.filter(|_| self.broker.connected_at.is_some()) else { return };
        let Some(simulation) = self.simulations.get(id).filter(|simulation| waits_for_readies(simulation)) else { return };
        let unheard = simulation.models.iter().filter(|(_, model)| !model.ready && self.ran_at(model, since));
        let unheard: Vec<ModelId> = unheard.map(|(id, _)| id.clone()).collect();
        if unheard.is_empty() {
            return;
        }
        let (names, seconds) = (deploy::named(&unheard, deploy::FEW_MODELS), HEARD_WITHIN.as_secs());
        let text = format!(
            "Models {names} of simulation {id} run since before we were connected, {seconds} s ago, and have not said that they are ready. \
             One that still loads will say so yet; what one said while we were away may be lost: then no ModelsReady goes out for this \
             simulation, and it is to be started again. A broker that keeps QoS 0 for who is away (mosquitto: queue_qos0_messages true) \
             loses nothing."
        );
        self.say(Level::Warn, text);
    }

    fn ran_at(&self, model: &Model, at: Instant) -> bool {
        let pod = self.pods.get(&model.pod.name).filter(|known| model.verdict.is_none() && Some(&known.uid) == model.uid.as_ref());
        pod.and_then(|known| known.runs_since).is_some_and(|since| since <= at)
    }
}

/// Otherwise no ModelsReady goes out, or none any more, whoever is heard.
fn waits_for_readies(simulation: &Simulation) -> bool {
    simulation.models_ready == Announced::No && simulation.failed == 0
}
