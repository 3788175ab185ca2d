//! What is right, from what was asked, what the SO heard, and what became of the pods. It knows nothing of the service but what it has
//! said in two lines of its log, and these excuse only what nobody can know, and of the broker what it says to have sent to whom; each excuse
//! is counted.

use std::collections::{BTreeMap, BTreeSet};

use devkit::so::Heard;

use crate::delivery::Deliveries;
use crate::load::{Plan, Role};
use crate::witness::SeenPod;

/// The API server's dates are whole seconds.
const DATES_DIFFER: f64 = 1.0;

/// A verdict without an exit code.
const NO_CODE: i32 = -1;

/// A line for each finding.
#[derive(Default)]
pub(crate) struct Findings {
    pub(crate) lost: Vec<String>,
    pub(crate) wrong: Vec<String>,
    pub(crate) leaked: Vec<String>,
    pub(crate) deleted: Vec<String>,
    /// Simulations that failed openly, as the service died in the moment in which it sent `ModelsReady`.
    pub(crate) failed_openly: Vec<String>,
    /// Sent once, and passed on twice: a broker that was killed forgets whom it had told.
    pub(crate) repeated_by_broker: usize,
    /// Simulations of which one model's ready never reached the service: a broker that was killed forgets what it has just sent.
    pub(crate) forgotten_by_broker: usize,
    /// Models of whose end the administrator saw nothing. Their plan says what they did.
    pub(crate) unseen: usize,
}

/// What the service said of a simulation: how often.
#[derive(Clone, Copy, Default)]
pub(crate) struct Said {
    pub(crate) sends_models_ready: usize,
    pub(crate) fails_in_doubt: usize,
}

/// Of one simulation.
struct Case<'a> {
    plan: &'a Plan,
    /// In order: the model, where it is about one, the message, and its exit code, where there is one.
    heard: Vec<(Option<&'a str>, &'a str, Option<i32>)>,
    pods: Vec<&'a SeenPod>,
    said: Said,
    is_forgotten_by_broker: bool,
}

/// When the run is over. `keep_seconds` is how long each pod had to stay.
pub(crate) fn judge(
    plans: &[Plan],
    heard: &[Heard],
    pods: &BTreeMap<String, SeenPod>,
    said: &BTreeMap<String, Said>,
    deliveries: &Deliveries,
    keep_seconds: f64,
) -> Findings {
    let mut findings = Findings::default();
    for plan in plans {
        let about = heard.iter().filter_map(|heard| Some((heard, heard.about()?)));
        let about = about.filter(|(_, about)| about.simulation == plan.simulation && about.from == "mso");
        let case = Case {
            plan,
            heard: about.map(|(heard, about)| (about.model, about.message, heard.end().map(|(_, code)| code))).collect(),
            pods: pods.values().filter(|pod| pod.simulation == plan.simulation).collect(),
            said: said.get(&plan.simulation).copied().unwrap_or_default(),
            is_forgotten_by_broker: plan.ready_topics().any(|topic| deliveries.is_forgotten(&topic)),
        };
        findings.forgotten_by_broker += usize::from(case.is_forgotten_by_broker);
        case.judge_ends(&mut findings);
        case.judge_verdicts(&mut findings);
        case.judge_models_ready(&mut findings);
        case.judge_deletes(keep_seconds, &mut findings);
        if case.said.fails_in_doubt > 0 {
            findings.failed_openly.push(plan.simulation.clone());
        }
    }
    findings
}

impl Case<'_> {
    fn judge_ends(&self, findings: &mut Findings) {
        let id = &self.plan.simulation;
        let told =
            |model: &str| self.heard.iter().position(|(about, message, _)| *about == Some(model) && *message == "ModelHasTerminated");
        let all_at = self.heard.iter().position(|(_, message, _)| *message == "AllModelsHaveTerminated");
        if all_at.is_none() {
            findings.lost.push(format!("{id}: no AllModelsHaveTerminated; heard: {:?}", self.heard));
        }
        for model in self.plan.roles.keys() {
            match (told(model), all_at) {
                (None, _) => findings.lost.push(format!("{id}: no end of {model}; heard: {:?}", self.heard)),
                (Some(at), Some(all_at)) if at > all_at => findings.wrong.push(format!("{id}: {model} ended after all had ended")),
                _ => {}
            }
        }
    }

    fn judge_verdicts(&self, findings: &mut Findings) {
        let id = &self.plan.simulation;
        for (model, role) in &self.plan.roles {
            let told = self.heard.iter().filter(|(about, message, _)| *about == Some(model) && *message == "ModelHasTerminated");
            let codes: BTreeSet<Option<i32>> = told.map(|(_, _, code)| *code).collect();
            let seen = self.pods.iter().filter(|pod| pod.model == *model).find_map(|pod| pod.ended);
            findings.unseen += usize::from(seen.is_none());
            let was = seen.map_or(role.code(), |(code, _)| code);
            let is_right = |code: &Option<i32>| *code == Some(was) || (self.said.fails_in_doubt > 0 && *code == Some(NO_CODE));
            if codes.len() > 1 || !codes.iter().all(is_right) {
                findings.wrong.push(format!("{id}: {model} was told to have ended with {codes:?}, its container with {was}"));
            }
        }
    }

    fn judge_models_ready(&self, findings: &mut Findings) {
        let id = &self.plan.simulation;
        let times = self.heard.iter().filter(|(_, message, _)| *message == "ModelsReady").count();
        let is_sent_once = self.said.sends_models_ready == 1;
        if times > 1 && is_sent_once {
            findings.repeated_by_broker += 1;
        } else if times > 1 {
            findings.wrong.push(format!("{id}: {times} times ModelsReady"));
        }
        let roles = self.plan.roles.values();
        let may_be_missing = self.said.fails_in_doubt > 0 || self.is_forgotten_by_broker;
        if times == 0 && !may_be_missing && roles.clone().all(|role| *role == Role::EndsWhenTold) {
            findings.lost.push(format!("{id}: no ModelsReady, and all were ready"));
        }
        if times > 0 && roles.clone().any(|role| matches!(role, Role::CrashesBeforeReady(_))) {
            findings.wrong.push(format!("{id}: ModelsReady, and one never was ready"));
        }
    }

    /// A pod goes after the end of its simulation, which comes after that of its last container, and no other takes its place.
    fn judge_deletes(&self, keep_seconds: f64, findings: &mut Findings) {
        let id = &self.plan.simulation;
        for model in self.plan.roles.keys() {
            let pods = self.pods.iter().filter(|pod| pod.model == *model).count();
            if pods != 1 {
                findings.wrong.push(format!("{id}: {model} had {pods} pods"));
            }
        }
        let last_end = self.pods.iter().filter_map(|pod| pod.ended).map(|(_, at)| at.0).fold(0.0, f64::max);
        if self.said.fails_in_doubt > 0 {
            // What is left of it is ended by the service.
            return;
        }
        for pod in self.pods.iter().filter(|pod| pod.ended.is_none() && pod.deleted_at.is_some()) {
            findings.deleted.push(format!("{id}: the pod of {} before its container had ended", pod.model));
        }
        for pod in &self.pods {
            if pod.deleted_at.is_some_and(|at| at.0 < last_end + keep_seconds - DATES_DIFFER) {
                findings
                    .deleted
                    .push(format!("{id}: the pod of {} before its time: {pod:?}, and the last one ended at {last_end}", pod.model));
            }
        }
    }
}

/// A judge that finds nothing proves nothing: each finding is made once.
#[cfg(test)]
mod tests {
    use mso::clock::UnixTime;
    use mso::proto::ModelHasTerminated;
    use prost::Message;

    use super::*;

    const ENDED_AT: f64 = 100.0;
    const KEEP: f64 = 7.2;

    struct Run {
        heard: Vec<Heard>,
        pods: BTreeMap<String, SeenPod>,
        said: BTreeMap<String, Said>,
        broker_log: String,
    }

    /// Of one simulation with two models, in which all goes well.
    fn run() -> Run {
        let messages =
            [("ModelsReady", 0), ("model-0/ModelHasTerminated", 0), ("model-1/ModelHasTerminated", 0), ("AllModelsHaveTerminated", 0)];
        let pod = |model: &str| SeenPod {
            simulation: "Sim".to_owned(),
            model: model.to_owned(),
            ended: Some((0, UnixTime(ENDED_AT))),
            deleted_at: Some(UnixTime(ENDED_AT + KEEP)),
        };
        Run {
            heard: messages.map(|(message, code)| heard(message, code)).into(),
            pods: ["model-0", "model-1"].map(|model| (format!("uid-{model}"), pod(model))).into(),
            said: [("Sim".to_owned(), Said { sends_models_ready: 1, fails_in_doubt: 0 })].into(),
            broker_log: String::new(),
        }
    }

    fn heard(message: &str, code: i32) -> Heard {
        let payload = ModelHasTerminated { status: i32::from(code != 0), exit_code: code, ..ModelHasTerminated::default() }.encode_to_vec();
        Heard { topic: format!("/lifecycle/mso/so/Sim/{message}"), payload, at: UnixTime(ENDED_AT) }
    }

    /// How many: lost, wrong, deleted.
    fn findings(run: &Run) -> [usize; 3] {
        let roles = ["model-0", "model-1"].map(|model| (model.to_owned(), Role::EndsWhenTold)).into();
        let plan = Plan { simulation: "Sim".to_owned(), roles };
        let findings = judge(&[plan], &run.heard, &run.pods, &run.said, &Deliveries::read(&run.broker_log, "mso-so"), KEEP);
        [findings.lost.len(), findings.wrong.len(), findings.deleted.len()]
    }

    fn findings_after(change: impl FnOnce(&mut Run)) -> [usize; 3] {
        let mut run = run();
        change(&mut run);
        findings(&run)
    }

    #[test]
    fn nothing_is_found_where_all_went_well() {
        assert_eq!(findings(&run()), [0, 0, 0]);
    }

    #[test]
    fn each_message_that_is_missing_is_lost() {
        for missing in 0..run().heard.len() {
            assert_eq!(findings_after(|run| drop(run.heard.remove(missing))), [1, 0, 0]);
        }
    }

    #[test]
    fn models_ready_may_be_missing_where_the_broker_forgot_a_ready_that_it_had() {
        let forgotten = "mosquitto starting\nReceived PUBLISH from model (d0, q1, r0, m1, \
                         '/lifecycle/model/mso/Sim/model-0/ReadyForProcessing', ...)\nmosquitto starting\nSending CONNACK to mso-so (1, 0)\n";
        let change = |run: &mut Run| {
            run.heard.remove(0);
            run.broker_log = forgotten.to_owned();
        };
        assert_eq!(findings_after(change), [0, 0, 0]);
    }

    #[test]
    fn a_code_that_is_not_the_container_s_or_that_changes_is_wrong() {
        assert_eq!(findings_after(|run| run.heard[1] = heard("model-0/ModelHasTerminated", -1)), [0, 1, 0]);
        assert_eq!(findings_after(|run| run.heard.push(heard("model-0/ModelHasTerminated", 3))), [0, 1, 0]);
        assert_eq!(findings_after(|run| run.heard.push(heard("model-0/ModelHasTerminated", 0))), [0, 0, 0]);
    }

    #[test]
    fn a_second_models_ready_that_the_service_sent_and_an_end_after_the_last_are_wrong() {
        let twice = |times| {
            findings_after(|run| {
                run.heard.insert(0, heard("ModelsReady", 0));
                run.said.insert("Sim".to_owned(), Said { sends_models_ready: times, fails_in_doubt: 0 });
            })
        };
        assert_eq!((twice(1), twice(2)), ([0, 0, 0], [0, 1, 0]));
        assert_eq!(findings_after(|run| run.heard.swap(2, 3)), [0, 1, 0]);
    }

    #[test]
    fn a_pod_that_goes_before_its_time_or_its_end_is_deleted_and_one_that_comes_again_is_wrong() {
        let change = |run: &mut Run, change: fn(&mut SeenPod)| run.pods.values_mut().take(1).for_each(change);
        assert_eq!(findings_after(|run| change(run, |pod| pod.deleted_at = Some(UnixTime(ENDED_AT + KEEP / 2.0)))), [0, 0, 1]);
        assert_eq!(findings_after(|run| change(run, |pod| pod.ended = None)), [0, 0, 1]);
        let again = |run: &mut Run| run.pods.insert("another uid".to_owned(), run.pods["uid-model-0"].clone());
        assert_eq!(findings_after(|run| drop(again(run))), [0, 1, 0]);
    }
}
