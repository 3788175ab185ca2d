//! Pods that a node turned away before their container began, as it had less room than the scheduler thought: made again, as often as
//! `RECREATE_NEVER_STARTED` allows. Nothing of the model has run, and nobody was told of it.

use log::Level;

use super::Orchestrator;
use super::deploy::NAME_IS_FREE_AFTER;
use super::pod_state::{self, Verdict};
use crate::clock::Now;
use crate::ids::{ModelId, PodName, SimulationId};
use crate::kube::pod::Pod;

impl Orchestrator {
    /// The model of this pod has ended so. True where it is to have another one instead.
    pub(super) fn recreate(&mut self, pod: &Pod, name: &PodName, id: &SimulationId, model_id: &ModelId, why: &Verdict, now: Now) -> bool {
        let most = self.recreate_never_started;
        let Some(simulation) = self.simulations.get_mut(id).filter(|simulation| !simulation.is_done()) else { return false };
        let Some(model) = simulation.models.get_mut(model_id) else { return false };
        let is_wanted = model.verdict.is_none() && !model.ready;
        if !is_wanted || model.recreations >= most || !pod_state::was_turned_away(pod) {
            return false;
        }
        model.recreations += 1;
        model.uid = None;
        model.pending = None;
        let count = model.recreations;
        let revision = self.fact_waited_for(id);
        if let Some(known) = self.pods.get_mut(name) {
            known.replaced = true;
            known.replaced_by = revision;
        }
        self.say(Level::Warn, format!("Pod {name} never started: {}. It is made again ({count} of {most}).", why.why()));
        self.wait_for_name(id, model_id, NAME_IS_FREE_AFTER, now);
        self.touched_pods.insert(name.clone());
        true
    }
}
