//! Where ConfigMaps are forbidden: what stands on the pods is all that the next process finds. A simulation whose pods are all there, and
//! whose `ModelsReady` is known to have gone out, goes on; any other one fails openly.

use std::collections::BTreeMap;
use std::sync::Arc;

use log::Level;

use super::Orchestrator;
use super::event::{Answer, PodCall};
use super::refusal::{Remedy, refusal};
use super::retention::KnownPod;
use super::simulation::{Announced, Creation, Model, Simulation};
use crate::clock::Now;
use crate::ids::{SimulationId, SimulatorId};
use crate::kube::error::Error;
use crate::kube::pod::{NewPod, Pod};
use crate::kube::record::{ModelsReady, Progress};

impl Orchestrator {
    /// A simulation's first pod says what a record would say of `ModelsReady`.
    pub(super) fn settle_mark(&mut self, id: &SimulationId) {
        if self.keeps_records {
            return;
        }
        let Some(simulation) = self.simulations.get_mut(id) else { return };
        let models_ready = simulation.models_ready.recorded();
        if models_ready == simulation.marked || simulation.is_being_marked {
            return;
        }
        let first = simulation.models.values().find(|model| model.pod.number == 0);
        let Some((name, uid)) = first.and_then(|first| Some((first.pod.name.clone(), first.uid.clone()?))) else { return };
        simulation.is_being_marked = true;
        self.calls.push(PodCall::MarkModelsReady { name, uid, simulation: id.clone(), models_ready }, 0);
    }

    pub(super) fn on_marked(&mut self, call: PodCall, attempt: u32, result: Result<Answer, Error>, now: Now) {
        let PodCall::MarkModelsReady { name, uid, simulation: id, models_ready } = &call else { return };
        let of_this_run = |simulation: &&mut Simulation| simulation.models.values().any(|model| model.uid.as_ref() == Some(uid));
        let Some(simulation) = self.simulations.get_mut(id).filter(of_this_run) else { return };
        let refused = match result {
            Ok(_) => None,
            Err(error) if matches!(refusal(&error).remedy, Remedy::HoldAll(_) | Remedy::Again(_)) => {
                return self.call_again(call, attempt, &error, now);
            }
            Err(error) => Some(error),
        };
        // Refused, it is as good as it gets: the next process finds it missing.
        simulation.marked = *models_ready;
        simulation.is_being_marked = false;
        self.touched.insert(id.clone());
        if let Some(error) = refused {
            self.say(
                Level::Warn,
                format!("Pod {name} cannot be marked: {error}. Simulation {id} fails at the next start of this service."),
            );
        }
    }

    /// Which of the simulations cannot go on.
    pub(super) fn adopt_from_pods(&mut self, pods: &[Pod], now: Now) -> Vec<SimulationId> {
        let mut cannot_go_on = Vec::new();
        if self.keeps_records {
            return cannot_go_on;
        }
        let mut by_simulation: BTreeMap<SimulationId, Vec<(NewPod, bool)>> = BTreeMap::new();
        for pod in pods {
            if let Some(left) = self.as_it_was_made(pod).filter(|_| pod.metadata.labels.delete_by_datetime.is_none()) {
                let was_sent = pod.metadata.annotations.models_ready.as_deref() == Some(ModelsReady::Sent.as_str());
                by_simulation.entry(left.simulation.clone()).or_default().push((left, was_sent));
            }
        }
        for (id, mut left) in by_simulation {
            left.sort_by_key(|(pod, _)| pod.number);
            let is_whole = left.iter().enumerate().all(|(number, (pod, _))| pod.number == number && pod.models <= left.len());
            let goes_on = is_whole && left.iter().any(|(_, was_sent)| *was_sent);
            self.runs += 1;
            let mut simulation = Simulation::new(self.runs, left.first().map_or(0.0, |(pod, _)| pod.keep_logs_hours));
            // Either it does, or it is to stay as it is.
            simulation.marked = ModelsReady::Sent;
            if goes_on {
                simulation.models_ready = Announced::Acknowledged;
            }
            for (pod, _) in left {
                if !simulation.deploys.contains(&pod.deploy) {
                    simulation.deploys.push(pod.deploy.clone());
                }
                let model = pod.model.clone();
                simulation.models.insert(model.clone(), Model::new(Arc::new(pod), Creation::Lost, now.instant));
                if goes_on {
                    simulation.set_ready(&model);
                }
            }
            self.simulations.insert(id.clone(), simulation);
            if goes_on {
                self.say_adopted(&id);
            } else {
                cannot_go_on.push(id);
            }
        }
        cannot_go_on
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
            variables: Vec::new(),
        })
    }

    /// Pods without a record, of simulations none of whose pods runs: whatever it was that they ran is over.
    pub(super) fn clean_up_what_has_ended(&mut self, pods: &[Pod], now: Now) {
        let mut by_simulation: BTreeMap<SimulationId, Vec<&Pod>> = BTreeMap::new();
        for pod in pods {
            let known = KnownPod::read(pod, &self.simulator).and_then(|known| self.pods.get(&known.name));
            if let Some(known) = known.filter(|known| !self.is_known(&known.simulation)) {
                by_simulation.entry(known.simulation.clone()).or_default().push(pod);
            }
        }
        for (id, pods) in by_simulation {
            let left: Vec<&KnownPod> = self.pods.values().filter(|known| known.simulation == id).collect();
            let Some(hours) = pods.iter().filter_map(|pod| keep_logs_hours(pod)).reduce(f64::max) else { continue };
            if left.iter().any(|known| !known.ended) || left.iter().all(|known| known.delete_by.is_some()) {
                continue;
            }
            let deploys = left.iter().filter_map(|known| known.deploy.clone()).collect();
            let delete_by = self.server_time(now).plus_seconds(hours * 3600.0);
            self.say(Level::Info, format!("Simulation {id} has no record, and its pods have all ended: they go in {hours} hours."));
            self.remember_end_of_earlier_process(&id, Progress { deploys, ..Progress::default() }, delete_by, now);
            self.touch_pods_of(&id);
        }
    }
}

/// As `keep_logs_hours` on it says.
fn keep_logs_hours(pod: &Pod) -> Option<f64> {
    pod.metadata.labels.keep_logs_hours.as_deref()?.parse().ok().filter(|hours: &f64| hours.is_finite() && *hours >= 0.0)
}
