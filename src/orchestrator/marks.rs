//! What stands on the pods in the place of a record: of simulations that were begun, or had to go on, without one as ConfigMaps were
//! forbidden. One whose pods are all there, and whose `ModelsReady` went out, goes on after a restart; any other one fails openly.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Instant;

use log::Level;

use super::Orchestrator;
use super::adopt::keep_logs_hours;
use super::event::{Answer, PodCall};
use super::retention::KnownPod;
use super::simulation::{Announced, Creation, Model, Simulation};
use crate::clock::Now;
use crate::ids::{SimulationId, SimulatorId};
use crate::kube::error::Error;
use crate::kube::pod::{NewPod, Pod};
use crate::kube::record::ModelsReady;

/// What a simulation's first pod says.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Mark {
    /// Never that it is being sent: then it may not have gone out.
    pub was_sent: bool,
    /// How many the simulation has.
    pub models: usize,
}

impl Orchestrator {
    pub(super) fn settle_mark(&mut self, id: &SimulationId) {
        if self.records.contains_key(id) {
            return;
        }
        let Some(simulation) = self.simulations.get_mut(id) else { return };
        let mark = Mark { was_sent: simulation.models_ready == Announced::Acknowledged, models: simulation.models.len() };
        if simulation.mark == Some(mark) || simulation.is_being_marked {
            return;
        }
        let first = simulation.models.values().find(|model| model.pod.number == 0);
        let Some((name, uid)) = first.and_then(|first| Some((first.pod.name.clone(), first.uid.clone()?))) else { return };
        simulation.is_being_marked = true;
        let models_ready = if mark.was_sent { ModelsReady::Sent } else { ModelsReady::No };
        self.calls.push(PodCall::Mark { name, uid, simulation: id.clone(), models_ready, models: mark.models }, 0);
    }

    pub(super) fn on_marked(&mut self, call: PodCall, attempt: u32, result: Result<Answer, Error>, now: Now) {
        let PodCall::Mark { name, uid, simulation: id, models_ready, models } = &call else { return };
        let of_this_run = |simulation: &&mut Simulation| simulation.models.values().any(|model| model.uid.as_ref() == Some(uid));
        let Some(simulation) = self.simulations.get_mut(id).filter(of_this_run) else { return };
        match result {
            Err(error) if !error.is_not_found() && !error.is_conflict() => {
                if attempt == 0 {
                    let text =
                        format!("Pod {name} cannot be marked: {error}. Trying again; until then simulation {id} fails at a restart.");
                    self.say(Level::Warn, text);
                }
                self.call_again(call, attempt, &error, now);
            }
            // Or it is gone, and there is nothing to mark.
            Ok(_) | Err(_) => {
                simulation.mark = Some(Mark { was_sent: *models_ready == ModelsReady::Sent, models: *models });
                simulation.is_being_marked = false;
                self.touched.insert(id.clone());
            }
        }
    }

    /// Simulations without a record, of pods that are marked so. Those that cannot go on are given back.
    pub(super) fn adopt_from_pods(&mut self, pods: &[Pod], now: Now) -> Vec<SimulationId> {
        let mut by_simulation: BTreeMap<SimulationId, Vec<(NewPod, Option<&str>)>> = BTreeMap::new();
        // Where records are kept there are none, and nothing is read of any pod.
        let is_left = |pod: &&Pod| pod.metadata.labels.delete_by_datetime.is_none();
        let is_marked = |pod: &Pod| pod.metadata.annotations.models_ready.is_some();
        let marked: BTreeSet<&Option<String>> =
            pods.iter().filter(is_left).filter(|pod| is_marked(pod)).map(|pod| &pod.metadata.labels.simulation_id).collect();
        for pod in pods.iter().filter(is_left).filter(|pod| marked.contains(&pod.metadata.labels.simulation_id)) {
            if let Some(left) = self.as_it_was_made(pod).filter(|left| !self.is_of_run_before(left, &pod.metadata.uid)) {
                by_simulation.entry(left.simulation.clone()).or_default().push((left, pod.metadata.annotations.models_ready.as_deref()));
            }
        }
        let mut cannot_go_on = Vec::new();
        for (id, mut left) in by_simulation {
            let was_sent = left.iter().any(|(_, mark)| *mark == Some(ModelsReady::Sent.as_str()));
            if let Some(recorded) = self.simulations.get_mut(&id).filter(|_| was_sent) {
                // Its record is from before ConfigMaps were forbidden.
                recorded.models_ready = Announced::Acknowledged;
            }
            if self.is_known(&id) || self.unread_problem(&id).is_some() || left.iter().all(|(_, mark)| mark.is_none()) {
                continue;
            }
            left.sort_by_key(|(pod, _)| pod.number);
            let first = left.first().filter(|(pod, _)| pod.number == 0);
            let mark = first.map(|(pod, mark)| Mark { was_sent: *mark == Some(ModelsReady::Sent.as_str()), models: pod.models });
            let is_whole = left.iter().enumerate().all(|(number, (pod, _))| pod.number == number && pod.models <= left.len());
            let goes_on = is_whole && was_sent;
            let of_it = pods.iter().filter(|pod| pod.metadata.labels.simulation_id.as_deref() == Some(id.as_str()));
            let made_at =
                of_it.filter_map(|pod| pod.metadata.creation_timestamp).map(|at| at.0).min_by(|one, other| one.0.total_cmp(&other.0));
            let begun_at = made_at.map_or(now, |at| self.moment(at, now)).instant;
            self.adopt_unrecorded(&id, left.into_iter().map(|(pod, _)| pod), mark, goes_on, begun_at);
            if !goes_on {
                cannot_go_on.push(id);
            }
        }
        cannot_go_on
    }

    /// A recorded run has begun since.
    fn is_of_run_before(&self, left: &NewPod, uid: &str) -> bool {
        let is_replaced = |recorded: &Simulation| recorded.replaced.iter().any(|replaced| replaced.as_str() == uid);
        let recorded = self.simulations.get(&left.simulation);
        recorded.is_some_and(|recorded| !recorded.deploys.contains(&left.deploy) || is_replaced(recorded))
    }

    /// Of these pods, in the order of their numbers.
    fn adopt_unrecorded(
        &mut self,
        id: &SimulationId,
        pods: impl Iterator<Item = NewPod>,
        mark: Option<Mark>,
        goes_on: bool,
        begun_at: Instant,
    ) {
        self.runs += 1;
        let mut simulation = Simulation::new(self.runs, 0.0, begun_at);
        for pod in pods {
            if !simulation.deploys.contains(&pod.deploy) {
                simulation.deploys.push(pod.deploy.clone());
            }
            simulation.keep_logs_hours = pod.keep_logs_hours;
            let model = pod.model.clone();
            simulation.models.insert(model.clone(), Model::new(Arc::new(pod), Creation::Lost, begun_at));
            if goes_on {
                simulation.set_ready(&model);
            }
        }
        simulation.mark = mark;
        if goes_on {
            simulation.models_ready = Announced::Acknowledged;
        }
        self.simulations.insert(id.clone(), simulation);
        if goes_on {
            self.say_adopted(id);
        }
    }

    /// Of what it was made of, only its variables are not known any more.
    fn as_it_was_made(&self, pod: &Pod) -> Option<NewPod> {
        let KnownPod { name, simulation, model, deploy, number, .. } = KnownPod::read(pod, &self.simulator)?;
        let container = pod.spec.containers.iter().find(|container| container.name == name.as_str())?;
        Some(NewPod {
            image: container.image.clone(),
            simulator: SimulatorId::new(pod.metadata.labels.simulator_id.as_deref()?).ok()?,
            name,
            simulation,
            model,
            number: number?,
            deploy: deploy?,
            models: pod.metadata.annotations.models.as_deref()?.parse().ok()?,
            keep_logs_hours: keep_logs_hours(pod)?,
            is_recorded: false,
            variables: Vec::new(),
        })
    }
}
