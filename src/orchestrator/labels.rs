//! Labels that somebody took from a pod of ours: the watch selects by them, so that its end would never be seen.

use std::time::{Duration, Instant};

use log::Level;

use super::Orchestrator;
use super::deadline::Deadline;
use super::event::PodCall;
use super::simulation::Creation;
use crate::clock::Now;
use crate::ids::{ModelId, SimulationId, Uid};
use crate::kube::pod::Pod;

/// How often a pod is asked for that the watch does not show.
const ASKED_AGAIN: Duration = Duration::from_secs(60);

/// What became of the labels that somebody took.
pub(super) enum LostLabels {
    PutBack(Instant),
    /// They were taken again.
    LeftSo,
}

impl Orchestrator {
    /// A pod that was asked for by name, with the labels by which it is this model's: they are put back once.
    pub(super) fn with_its_labels(&mut self, mut pod: Box<Pod>, id: &SimulationId, model_id: &ModelId, now: Now) -> Box<Pod> {
        let mark = self.simulator.as_str();
        let labels = &mut pod.metadata.labels;
        let are = [&labels.mark, &labels.simulation_id, &labels.model_id].map(Option::as_deref);
        if are == [Some(mark), Some(id.as_str()), Some(model_id.as_str())] {
            return pod;
        }
        let Some(model) = self.simulations.get_mut(id).and_then(|simulation| simulation.models.get_mut(model_id)) else { return pod };
        let is_its_pod = match &model.uid {
            Some(uid) => uid.as_str() == pod.metadata.uid,
            // It was made before this process began.
            None => model.creation == Creation::Lost && pod.metadata.annotations.deploy.as_deref() == Some(model.pod.deploy.as_str()),
        };
        let Some(uid) = Uid::new(&pod.metadata.uid).ok().filter(|_| is_its_pod) else { return pod };
        labels.mark = Some(mark.to_owned());
        labels.simulation_id = Some(id.to_string());
        labels.model_id = Some(model_id.to_string());
        let what = format!("Pod {} of model {id}/{model_id} has lost labels of ours", model.pod.name);
        match model.lost_labels {
            None => {
                model.lost_labels = Some(LostLabels::PutBack(now.instant));
                self.calls.push(PodCall::Label { pod: model.pod.clone(), uid }, 0);
                self.say(Level::Warn, format!("{what}, by which it is watched: they are put back."));
            }
            Some(LostLabels::PutBack(at)) if now.instant.saturating_duration_since(at) >= ASKED_AGAIN => {
                model.lost_labels = Some(LostLabels::LeftSo);
                let seconds = ASKED_AGAIN.as_secs();
                self.say(Level::Warn, format!("{what} again: it is left so, and asked for every {seconds} s until it has ended."));
            }
            Some(LostLabels::PutBack(_) | LostLabels::LeftSo) => {}
        }
        self.deadlines.set(now.instant + ASKED_AGAIN, Deadline::LabelsAreLost { simulation: id.clone(), model: model_id.clone() });
        pod
    }

    /// They were not put back: they are lost as before.
    pub(super) fn forget_labelling(&mut self, call: &PodCall) {
        if let PodCall::Label { pod, .. } = call
            && let Some(model) = self.model_mut(&pod.simulation, &pod.model)
        {
            model.lost_labels = None;
        }
    }

    /// Whether they are back, and how its model is.
    pub(super) fn ask_what_has_lost_labels(&mut self, id: &SimulationId, model_id: &ModelId) {
        let Some(model) = self.model(id, model_id).filter(|model| model.verdict.is_none()) else { return };
        let (pod, uid) = (model.pod.clone(), model.uid.clone());
        self.ask_about(&pod, uid);
    }
}
