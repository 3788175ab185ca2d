//! What a simulation's record tells a reader who is not the service. Pure.

use std::collections::{BTreeMap, BTreeSet};

use crate::clock::UnixTime;
use crate::ids::{DeployId, PodName, RecordName, SimulationId};
use crate::kube::pod::Pod;
use crate::kube::record::{CancelledBy, Content, Progress, Record, read_request};
use crate::secret::Secret;

/// A simulation's record.
pub(super) struct RecordOfOne {
    pub progress: Option<Progress>,
    /// In the order of their numbers, as far as the requests are there.
    pub asked: Vec<Asked>,
}

impl RecordOfOne {
    pub(super) fn read(id: &str, records: Vec<Record>, notes: &mut Vec<String>) -> Self {
        let mut pieces: BTreeMap<DeployId, Vec<(RecordName, Secret)>> = BTreeMap::new();
        let mut asked_at = BTreeMap::new();
        let mut progress = None;
        for record in records {
            match record.content {
                Content::Piece { deploy, asked_at: at, text } => {
                    asked_at.insert(deploy.clone(), at);
                    pieces.entry(deploy).or_default().push((record.name, text));
                }
                Content::Progress { text } => match Progress::read(&text) {
                    Ok(read) => progress = Some(read),
                    Err(problem) => notes.push(format!("its record {} is damaged: {problem}", record.name)),
                },
            }
        }
        let is_over = progress.as_ref().is_some_and(|progress| progress.over.is_some());
        let named = progress.as_ref().map_or(Vec::new(), |progress| progress.deploys.clone());
        let is_named = |deploy: &DeployId| progress.as_ref().is_some_and(|progress| progress.names(deploy));
        let begun_next: Vec<DeployId> = pieces.keys().filter(|deploy| !is_named(deploy)).cloned().collect();
        let (mut asked, mut ids) = (Vec::new(), BTreeSet::new());
        let Ok(simulation) = SimulationId::new(id) else { return Self { progress, asked } };
        for deploy in named.iter().chain(&begun_next).filter(|_| !is_over) {
            let asked_at = asked_at.get(deploy).copied().flatten();
            match read_request(&simulation, deploy, &pieces.remove(deploy).unwrap_or_default()) {
                Ok(request) => {
                    for model in request.models {
                        if ids.insert(model.model.clone()) {
                            asked.push(Asked { id: model.model.to_string(), image: model.image, pod: model.pod, asked_at });
                        }
                    }
                }
                Err(problem) => {
                    notes.push(format!("a request is not whole in its record: {problem}"));
                    // The numbers of what comes behind are not known.
                    break;
                }
            }
        }
        Self { progress, asked }
    }

    pub(super) fn of(&self, number: Option<usize>, was_sent: bool) -> Recorded {
        let progress = self.progress.as_ref().zip(number);
        Recorded {
            is_made: progress.is_some_and(|(progress, number)| progress.created.contains(number)),
            is_ready: match progress {
                Some((progress, number)) => Some(progress.ready.contains(number)),
                None => was_sent.then_some(true),
            },
            exit_code: progress.and_then(|(progress, number)| progress.ended.get(&number).copied()),
            ended_for: progress.and_then(|(progress, number)| progress.unwanted.get(&number).copied()),
        }
    }

    pub(super) fn is_of_run(&self, pod: &Pod) -> bool {
        let Some(progress) = &self.progress else { return true };
        let deploy = pod.metadata.annotations.deploy.as_deref();
        let is_known = deploy.is_none_or(|deploy| progress.deploys.iter().chain(&progress.repeats).any(|of_run| of_run.as_str() == deploy));
        is_known && progress.replaced.iter().all(|replaced| replaced.as_str() != pod.metadata.uid)
    }
}

/// What the record says of one model.
pub(super) struct Recorded {
    pub is_made: bool,
    /// None: nothing is recorded of it.
    pub is_ready: Option<bool>,
    pub exit_code: Option<i32>,
    pub ended_for: Option<CancelledBy>,
}

/// What a request asks for.
pub(super) struct Asked {
    pub id: String,
    pub image: String,
    pub pod: PodName,
    pub asked_at: Option<UnixTime>,
}
