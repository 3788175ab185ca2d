//! What is right, apart from the code that is judged: it knows what was asked for, what each container did and what the SO heard, and
//! nothing of how the service works; but it believes of a `ModelsReady` that it was being sent where the record says so and that can be.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::report::{Asked, Heard, PodLife, Report, Word};

/// No packet is on its way for longer.
const ON_ITS_WAY: Duration = Duration::from_secs(1);

/// The service may be without the API for so long, and learns of nothing.
const API_IS_AWAY: Duration = Duration::from_secs(200);
/// A watch shows what happened within this time.
const IS_SHOWN: Duration = Duration::from_secs(5);
/// A delete is on its way while a node takes the pod.
const NODE_IS_SHOWN_AFTER: Duration = Duration::from_millis(100);

/// In which an identical request is taken for a redelivery.
const AFTER_A_RECONNECT: Duration = Duration::from_secs(10);
/// What was not acknowledged comes again as soon as there are connection and API again: no fault lasts for longer, nor what follows it.
const COMES_AGAIN_WITHIN: Duration = Duration::from_secs(250);

/// For so long the service takes ConfigMaps that it may not write for a passing matter, at the least, and at the most.
const IS_FORBIDDEN_AFTER: Duration = Duration::from_secs(110);
const IS_FORBIDDEN_WITHIN: Duration = Duration::from_secs(200);

const NO_EXIT_CODE: i32 = -1;

/// A run of a simulation: from its request, or the first request after its last end, to its end.
struct Run<'a> {
    simulation: &'a str,
    asked: Vec<&'a Asked>,
    heard: Vec<&'a Heard>,
    pods: Vec<&'a PodLife>,
    /// Since when it may fail as nobody knows whether its `ModelsReady` went out.
    in_doubt_at: Option<Duration>,
    /// Since when its SO has ended it: what does not end by itself is ended.
    done_at: Option<Duration>,
    /// Since when nobody goes on with it, and its pods stay: its record may not be read, and nothing else tells of it.
    left_alone_at: Option<Duration>,
    /// It may have failed as it had no record: of a model that had no pod then nothing told.
    has_lost_what_has_no_pod: bool,
    /// Pods of a run before it that was left alone: the names are theirs, and they may be taken for its own.
    in_the_way: Vec<&'a PodLife>,
}

/// What is wrong with a run of the world. Nothing: it is right.
pub fn wrongs(report: &Report) -> Vec<String> {
    let mut wrongs = Vec::new();
    if let Some(why) = &report.halted {
        wrongs.push(format!("the service ended itself: {why}"));
    }
    let runs = runs(report);
    for (index, run) in runs.iter().enumerate() {
        if is_taken_for_a_redelivery(run, &runs[..index], report) {
            continue;
        }
        judge_models(run, &mut wrongs);
        judge_words(run, report, &mut wrongs);
        judge_verdicts(run, report, &mut wrongs);
        judge_pods(run, &mut wrongs);
    }
    judge_deletions(report, &runs, &mut wrongs);
    let may_stay = |name: &String| runs.iter().any(|run| run.left_alone_at.is_some() && run.pods.iter().any(|pod| pod.name == *name));
    wrongs.extend(report.left.iter().filter(|name| !may_stay(name)).map(|left| format!("left over: {left}")));
    if report.unanswered > 0 {
        wrongs.push(format!("{} messages or calls have no answer", report.unanswered));
    }
    wrongs
}

/// What the SO was told, each thing once and without its time: to be compared with an undisturbed run. `ModelsReady` may go out where the
/// service could not see that a model had failed.
pub fn words(report: &Report) -> BTreeSet<(String, Word)> {
    let unseen =
        |failed_at: Duration| report.blind.iter().any(|blind| blind.contains(&failed_at) || blind.contains(&(failed_at + IS_SHOWN)));
    let is_excused = |run: &Run<'_>, heard: &Heard| {
        heard.word == Word::ModelsReady && first_failure(run).is_some_and(|failed_at| failed_at < heard.at && unseen(failed_at))
    };
    // Which of the two goes out depends on that; it is judged by itself.
    let is_judged_apart = |heard: &&Heard| heard.word == Word::ErrorOccurred;
    let heard = |run: &Run<'_>| {
        let heard = run.heard.iter().filter(|heard| !is_excused(run, heard) && !is_judged_apart(heard));
        heard.map(|heard| (run.simulation.to_owned(), heard.word.clone())).collect::<Vec<_>>()
    };
    runs(report).iter().flat_map(heard).collect()
}

fn runs(report: &Report) -> Vec<Run<'_>> {
    let mut runs: Vec<Run<'_>> = Vec::new();
    for asked in &report.asked {
        let is_over = |run: &Run<'_>| {
            report.heard.iter().any(|heard| {
                heard.simulation == run.simulation
                    && heard.word == Word::AllModelsHaveTerminated
                    && heard.at < asked.at
                    && run.asked.iter().any(|of_run| of_run.at < heard.at)
            })
        };
        match runs.iter_mut().rev().find(|run| run.simulation == asked.simulation) {
            Some(run) if !is_over(run) => run.asked.push(asked),
            _ => {
                runs.push(Run {
                    simulation: &asked.simulation,
                    asked: vec![asked],
                    heard: Vec::new(),
                    pods: Vec::new(),
                    in_doubt_at: None,
                    done_at: report.done.iter().find(|(_, of)| *of == asked.simulation).map(|(at, _)| *at),
                    left_alone_at: None,
                    has_lost_what_has_no_pod: false,
                    in_the_way: Vec::new(),
                });
            }
        }
    }
    let of = |runs: &[Run<'_>], simulation: &str, at: Duration| {
        runs.iter().rposition(|run| run.simulation == simulation && run.asked[0].at <= at)
    };
    for pod in report.pods.values() {
        let run = of(&runs, &Report::of_pod(&pod.name).0, pod.created_at).expect("pods are made of what was asked for");
        runs[run].pods.push(pod);
    }
    for heard in &report.heard {
        // After a crash the end of a run may be told again when the next one is asked for already.
        let has_begun = |run: &Run<'_>| run.pods.iter().map(|pod| pod.created_at).min().is_none_or(|begun_at| begun_at <= heard.at);
        let Some(last) = of(&runs, &heard.simulation, heard.at) else { continue };
        let earlier = runs[..last].iter().rposition(|run| run.simulation == heard.simulation);
        let run = earlier.filter(|_| !has_begun(&runs[last])).unwrap_or(last);
        runs[run].heard.push(heard);
    }
    for (at, simulation) in &report.in_window {
        // Whatever the record says: before all have said ready there is nothing to send, and what the SO has heard is soon recorded.
        let Some(run) = of(&runs, simulation, *at).map(|index| &mut runs[index]) else { continue };
        let killed_at = report.told_again_after.iter().rev().find(|killed_at| *killed_at <= at).unwrap_or(at);
        let is_recorded = |heard: &&Heard| heard.word == Word::ModelsReady && heard.at + ON_ITS_WAY < *killed_at;
        let must_be_recorded = report.only_killed && run.heard.iter().any(is_recorded);
        if all_ready_at(run, run.asked[0], *at).is_some() && !must_be_recorded {
            run.in_doubt_at.get_or_insert(*at);
        }
    }
    runs.iter_mut().for_each(|run| judge_restarts_without_records(run, report));
    for index in 1..runs.len() {
        let (before, rest) = runs.split_at_mut(index);
        let is_left = |run: &&Run<'_>| run.simulation == rest[0].simulation && run.left_alone_at.is_some();
        rest[0].in_the_way = before.iter().filter(is_left).flat_map(|run| run.pods.clone()).collect();
    }
    runs
}

/// Where ConfigMaps are forbidden a restart fails each simulation whose `ModelsReady` has not gone out or that has lost a pod. One that has
/// a record is left alone, where the service was killed before it knew that it may not write them and had marked the pods.
fn judge_restarts_without_records(run: &mut Run<'_>, report: &Report) {
    let mut has_lacked_records = false;
    for pair in report.processes.windows(2) {
        let [before, next] = pair else { continue };
        if next.began_at < run.asked[0].at {
            continue;
        }
        let refused_for = before.refused_at.map_or(Duration::ZERO, |at| before.killed_at.saturating_sub(at));
        has_lacked_records |= !before.reads_records || refused_for >= IS_FORBIDDEN_AFTER;
        if !next.reads_records && before.reads_records && refused_for < IS_FORBIDDEN_WITHIN {
            run.left_alone_at.get_or_insert(next.began_at);
        } else if next.reads_records {
            run.left_alone_at = None;
        }
        let is_marked = |heard: &&Heard| heard.word == Word::ModelsReady && heard.at + ON_ITS_WAY < before.killed_at;
        let lacks_a_pod = run.pods.iter().any(|pod| pod.deleted_by_hand_at.is_some());
        let goes_on = run.heard.iter().any(is_marked) && !lacks_a_pod;
        if (has_lacked_records || !next.reads_records) && !goes_on {
            run.in_doubt_at.get_or_insert(next.began_at);
            run.has_lost_what_has_no_pod = true;
            // Its request is acknowledged before its pods are made.
            if run.pods.iter().all(|pod| pod.created_at >= next.began_at) {
                run.left_alone_at.get_or_insert(next.began_at);
            }
        }
    }
}

/// When the last model of this request said ready, of those pods that there were at this time.
fn all_ready_at(run: &Run<'_>, asked: &Asked, at: Duration) -> Option<Duration> {
    let ready_at = |model: &String| {
        let of_model = run.pods.iter().filter(|pod| Report::of_pod(&pod.name).1 == *model && pod.created_at <= at);
        // What a pod said says nothing of the one that was made in its place.
        of_model.max_by_key(|pod| pod.created_at).and_then(|pod| pod.said_ready_at).filter(|ready_at| *ready_at <= at)
    };
    let times: Option<Vec<Duration>> = asked.models.iter().map(ready_at).collect();
    times?.into_iter().max()
}

/// A request like the one of the run before that comes again after a reconnect may be that one, delivered by a broker that forgot its
/// acknowledgement: it is not run again.
fn is_taken_for_a_redelivery(run: &Run<'_>, before: &[Run<'_>], report: &Report) -> bool {
    let [asked] = run.asked.as_slice() else { return false };
    let is_alike =
        |earlier: &Run<'_>| earlier.simulation == run.simulation && earlier.asked.iter().any(|of_it| of_it.models == asked.models);
    let came_again = report.redelivered.iter().any(|(at, simulation)| simulation == run.simulation && *at >= asked.at);
    let came_after_a_reconnect = report.told_again_after.iter().any(|lost_at| {
        let connected_at = report.connected.iter().find(|at| *at > lost_at);
        connected_at.is_some_and(|connected_at| (*lost_at..*connected_at + AFTER_A_RECONNECT).contains(&asked.at))
    });
    let Some(earlier) = before.iter().rev().find(|earlier| is_alike(earlier)) else { return false };
    let is_of_earlier = |heard: &&Heard| earlier.heard.iter().any(|before| before.word == heard.word);
    run.pods.is_empty() && run.heard.iter().all(is_of_earlier) && (came_again || came_after_a_reconnect)
}

/// There is no word and no pod of a model that the run did not ask for.
fn judge_models(run: &Run<'_>, wrongs: &mut Vec<String>) {
    let asked: BTreeSet<&String> = run.asked.iter().flat_map(|asked| &asked.models).collect();
    let told = run.heard.iter().filter_map(|heard| match &heard.word {
        Word::ModelHasTerminated { model, .. } => Some(model.clone()),
        Word::ModelsReady | Word::ErrorOccurred | Word::AllModelsHaveTerminated => None,
    });
    let made = run.pods.iter().map(|pod| Report::of_pod(&pod.name).1);
    for model in told.chain(made).filter(|model| !asked.contains(model)) {
        wrongs.push(format!("{}/{model}: nobody asked for it", run.simulation));
    }
}

fn judge_words(run: &Run<'_>, report: &Report, wrongs: &mut Vec<String>) {
    let simulation = run.simulation;
    let mut wrong = |what: &str| wrongs.push(format!("{simulation}: {what}"));
    let times = |word: &Word| run.heard.iter().filter(|heard| heard.word == *word).map(|heard| heard.at).collect::<Vec<_>>();
    // What was heard may have been on its way by then.
    let may_come_again = |first: Duration, again: Duration| {
        let from = first.saturating_sub(ON_ITS_WAY).max(again.saturating_sub(COMES_AGAIN_WITHIN));
        report.told_again_after.iter().any(|at| (from..=again).contains(at))
    };

    let models_ready = times(&Word::ModelsReady);
    if models_ready.len() > 1 {
        wrong(&format!("ModelsReady {} times", models_ready.len()));
    }
    let failed_at = first_failure(run);
    let by = models_ready.first().copied().unwrap_or(Duration::MAX);
    // Where one request is left alone, the next one is of a run of its own.
    let is_first = |(index, _): &(usize, &&Asked)| *index == 0 || run.left_alone_at.is_some();
    let all_ready_at = run.asked.iter().enumerate().filter(is_first).find_map(|(_, asked)| all_ready_at(run, asked, by));
    if let Some(at) = models_ready.first() {
        if all_ready_at.is_none() {
            wrong("ModelsReady before all said ready");
        }
        let is_known = |failure: &Duration| *failure + API_IS_AWAY < *at;
        if failed_at.as_ref().is_some_and(is_known) {
            wrong("ModelsReady although a model had failed long before");
        }
    } else if all_ready_at.is_some() && failed_at.is_none() && run.in_doubt_at.or(run.done_at).is_none() && run.left_alone_at.is_none() {
        wrong("no ModelsReady although all said ready and none has failed");
    } else if all_ready_at.is_some() && run.left_alone_at.is_none() && goes_on_unheard(run) {
        wrong("neither ModelsReady nor a failure");
    }

    let ends = times(&Word::AllModelsHaveTerminated);
    if ends.is_empty() && run.left_alone_at.is_none() {
        wrong("no AllModelsHaveTerminated");
    }
    for pair in ends.windows(2) {
        if !may_come_again(pair[0], pair[1]) {
            wrong("AllModelsHaveTerminated again, for no reason");
        }
    }
    let is_failure = |heard: &&&Heard| matches!(heard.word, Word::ModelHasTerminated { success: false, .. });
    let failures: Vec<Duration> = run.heard.iter().filter(is_failure).map(|heard| heard.at).collect();
    let errors = times(&Word::ErrorOccurred);
    for pair in errors.windows(2) {
        if !may_come_again(pair[0], pair[1]) {
            wrong("ErrorOccurred again, for no reason");
        }
    }
    // Without records a restart knows of ModelsReady by a pod that may have gone.
    let knows_of_it = run.in_doubt_at.is_none() && !report.records_were_forbidden;
    match (failures.first(), errors.first()) {
        (None, Some(_)) => wrong("ErrorOccurred, and no model has failed"),
        (Some(failed_at), Some(at)) if at < failed_at => wrong("ErrorOccurred before the failure"),
        (Some(failed_at), Some(_)) if knows_of_it && models_ready.first().is_some_and(|ready_at| ready_at < failed_at) => {
            wrong("ErrorOccurred after ModelsReady");
        }
        (Some(_), None) if models_ready.is_empty() && run.left_alone_at.or(run.done_at).is_none() => {
            wrong("neither ModelsReady nor ErrorOccurred")
        }
        _ => {}
    }
    if knows_of_it && errors.first().zip(ends.first()).is_some_and(|(error, end)| error > end) {
        wrong("ErrorOccurred after AllModelsHaveTerminated");
    }
    for model in run.asked.iter().flat_map(|asked| &asked.models).collect::<BTreeSet<_>>() {
        let verdicts: Vec<&&Heard> =
            run.heard.iter().filter(|heard| matches!(&heard.word, Word::ModelHasTerminated { model: of, .. } if of == model)).collect();
        let has_pod = run.pods.iter().any(|pod| Report::of_pod(&pod.name).1 == *model);
        let is_lost = run.has_lost_what_has_no_pod && !has_pod;
        if verdicts.is_empty() && run.left_alone_at.is_none() && !is_lost {
            wrong(&format!("{model}: no verdict"));
        }
        for pair in verdicts.windows(2) {
            if pair[0].word != pair[1].word {
                wrong(&format!("{model}: {:?} and then {:?}", pair[0].word, pair[1].word));
            } else if !may_come_again(pair[0].at, pair[1].at) {
                wrong(&format!("{model}: its verdict again, for no reason"));
            }
        }
        if let (Some(verdict), Some(end)) = (verdicts.first(), ends.first())
            && verdict.at > *end
        {
            wrong(&format!("{model}: its verdict after AllModelsHaveTerminated"));
        }
    }
}

/// Nobody hears of a failure, and its containers run for long after it could be told.
fn goes_on_unheard(run: &Run<'_>) -> bool {
    let is_failure = |heard: &&Heard| matches!(heard.word, Word::ModelHasTerminated { success: false, .. });
    let runs_on = |pod: &&PodLife| pod.ended.zip(run.in_doubt_at).is_some_and(|((ended_at, _), at)| ended_at > at + IS_FORBIDDEN_WITHIN);
    !run.heard.iter().any(is_failure) && run.pods.iter().any(runs_on)
}

/// When the first container of the run ended by itself with a failure, or was ended, before it could say ready or after.
fn first_failure(run: &Run<'_>) -> Option<Duration> {
    let failed = |pod: &&PodLife| pod.ended.filter(|(_, code)| *code != 0).map(|(at, _)| at).or(pod.deleted_by_hand_at);
    let ended_early = |pod: &&PodLife| pod.ended.filter(|_| pod.said_ready_at.is_none()).map(|(at, _)| at);
    // One that was deleted before the service knew of it was made again.
    let was_made_again = |pod: &&&PodLife| run.pods.iter().any(|other| other.name == pod.name && other.created_at > pod.created_at);
    run.pods.iter().filter(|pod| !was_made_again(pod)).filter_map(|pod| failed(pod).or_else(|| ended_early(pod))).min()
}

/// Each verdict is what the container did.
fn judge_verdicts(run: &Run<'_>, report: &Report, wrongs: &mut Vec<String>) {
    for heard in &run.heard {
        let Word::ModelHasTerminated { model, success, exit_code } = &heard.word else { continue };
        if *success != (*exit_code == 0) {
            wrongs.push(format!("{}/{model}: success {success} with exit code {exit_code}", run.simulation));
        }
        let pods: Vec<&&PodLife> = run.pods.iter().filter(|pod| Report::of_pod(&pod.name).1 == *model).collect();
        let is_own_end = |pod: &&&PodLife| pod.ended.is_some_and(|(at, code)| code == *exit_code && at <= heard.at);
        let may_be_missed = |pod: &&&PodLife| !report.sees_all || pod.code_shown.is_none_or(|code| code == *exit_code);
        let is_by_hand = |pod: &&&PodLife| !success && pod.deleted_by_hand_at.is_some_and(|at| at <= heard.at) && may_be_missed(pod);
        let of_model = |pod: &&&PodLife| Report::of_pod(&pod.name).1 == *model;
        let has_such_an_end = |pod: &&PodLife| *exit_code == NO_EXIT_CODE || is_own_end(&pod);
        let is_in_the_way = run.in_the_way.iter().filter(of_model).any(has_such_an_end);
        let was_ended_openly = *exit_code == NO_EXIT_CODE && [run.in_doubt_at, run.done_at].into_iter().flatten().any(|at| at <= heard.at);
        if !pods.iter().any(|pod| is_own_end(pod) || is_by_hand(pod)) && !was_ended_openly && !is_in_the_way {
            wrongs.push(format!("{}/{model}: told {exit_code}, which is not how it ended: {pods:?}", run.simulation));
        }
    }
}

/// Each model has one pod, but where somebody deleted one that had not been told of.
fn judge_pods(run: &Run<'_>, wrongs: &mut Vec<String>) {
    let mut made: BTreeMap<&str, u32> = BTreeMap::new();
    for pod in run.pods.iter().filter(|pod| pod.deleted_by_hand_at.is_none()) {
        *made.entry(pod.name.as_str()).or_default() += 1;
    }
    for (name, times) in made {
        if times > 1 {
            wrongs.push(format!("{name} was created {times} times"));
        }
    }
    for model in run.asked.iter().flat_map(|asked| &asked.models) {
        let has_pod = run.pods.iter().any(|pod| Report::of_pod(&pod.name).1 == *model);
        let is_in_the_way = run.in_the_way.iter().any(|pod| Report::of_pod(&pod.name).1 == *model);
        if !has_pod && run.in_doubt_at.or(run.done_at).or(run.left_alone_at).is_none() && !is_in_the_way {
            wrongs.push(format!("{}/{model} never had a pod", run.simulation));
        }
    }
}

/// A pod goes past its time, for a new run, or, ended by the service, before it had a node.
fn judge_deletions(report: &Report, runs: &[Run<'_>], wrongs: &mut Vec<String>) {
    for deletion in &report.deletions {
        let Some(pod) = report.pods.get(&deletion.uid) else {
            wrongs.push(format!("{} was deleted and is not the service's", deletion.uid));
            continue;
        };
        let simulation = Report::of_pod(&pod.name).0;
        let is_past_its_time =
            pod.delete_by.is_some_and(|at| at <= deletion.unix + 1e-6) && logs_were_kept(&simulation, pod, deletion.at, report);
        let is_replaced = report.asked.iter().any(|asked| {
            asked.simulation == simulation
                && (pod.created_at..=deletion.at).contains(&asked.at)
                && report.heard.iter().any(|heard| {
                    heard.simulation == simulation
                        && heard.word == Word::AllModelsHaveTerminated
                        && (pod.created_at..=asked.at).contains(&heard.at)
                })
        });
        // The service knows of a node what it was shown; a node may take a pod in the moment in which it goes.
        let seemed_without_node = !pod.had_node || report.lists_are_old || deletion.at <= pod.created_at + NODE_IS_SHOWN_AFTER;
        let is_ended_before_it_began = seemed_without_node
            && runs.iter().any(|run| {
                run.simulation == simulation && [run.in_doubt_at, run.done_at].into_iter().flatten().any(|at| at <= deletion.at)
            });
        if !is_past_its_time && !is_replaced && !is_ended_before_it_began {
            wrongs.push(format!("{} was deleted at {:?} and nobody asked for it: {pod:?}", pod.name, deletion.at));
        }
    }
}

/// From the end of the pod's run on, as its request said. The API server's date has whole seconds.
fn logs_were_kept(simulation: &str, pod: &PodLife, until: Duration, report: &Report) -> bool {
    let of_run =
        |heard: &&Heard| heard.simulation == simulation && heard.word == Word::AllModelsHaveTerminated && heard.at >= pod.created_at;
    let asked = report.asked.iter().rev().find(|asked| asked.simulation == simulation && asked.at <= pod.created_at);
    match (report.heard.iter().find(of_run), asked) {
        (Some(end), Some(asked)) => until + Duration::from_secs(1) >= end.at + Duration::from_secs_f64(asked.keep_logs_hours * 3600.0),
        _ => false,
    }
}
