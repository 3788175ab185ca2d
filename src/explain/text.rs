//! The facts for people: a few lines, what is wrong first, and what to do next last. Pure.

use std::collections::BTreeMap;
use std::fmt::Write;

use super::facts::{Model, Simulation, State, Summary};
use super::{Evidence, Source};
use crate::check::Grade;
use crate::clock::UnixTime;
use crate::kube::record::ModelsReady;
use crate::orchestrator::pod_state::NO_EXIT_CODE;
use crate::orchestrator::words;

/// Of what is alike: a line for a person, not a list.
const NAMED: usize = 10;

/// Where the words of a model's fields begin.
const INDENT: usize = 14;

pub(super) fn of_all(source: &Source, simulations: &[&Summary], is_colored: bool) -> String {
    let mut text = head(source);
    if simulations.is_empty() {
        text += "no simulation: nothing was asked for, or with another SIMULATOR_NAME or KUBERNETES_NAMESPACE\n";
    }
    let width = simulations.iter().map(|summary| summary.id.chars().count()).max().unwrap_or_default();
    for summary in simulations {
        let line = format!("{} {:<width$}  {}", summary.grade().mark(), summary.id, counts(summary, source.at));
        line_of(&mut text, &summary.grade().paint(&line, is_colored));
    }
    if simulations.iter().any(|summary| summary.grade() > Grade::Good) {
        text += "\n→ mso explain SIMULATION\n";
    }
    text
}

pub(super) fn of_simulation(source: &Source, simulation: &Simulation, is_colored: bool) -> String {
    let Simulation { summary, models } = simulation;
    let mut text = head(source);
    let line = format!("{} {}  {}", summary.grade().mark(), summary.id, counts(summary, source.at));
    line_of(&mut text, &summary.grade().paint(&line, is_colored));
    line_of(&mut text, &format!("  {}", announced(summary)));
    if let Some(done) = done(summary, source.at) {
        line_of(&mut text, &format!("  {done}"));
    }
    for note in &summary.notes {
        line_of(&mut text, &format!("  {note}"));
    }
    let mut alike: BTreeMap<(State, &str, Option<i32>), Vec<&Model>> = BTreeMap::new();
    for model in models {
        alike.entry((model.state, &model.reason, model.exit_code)).or_default().push(model);
    }
    let is_fine = |state: State| state.grade() == Grade::Good;
    for ((state, ..), models) in alike.iter().filter(|((state, ..), _)| !is_fine(*state)) {
        let Some(first) = models.first() else { continue };
        let names = named(models.iter().map(|model| model.id.as_str()));
        let since = models.iter().filter_map(|model| model.since).min_by(|one, other| one.0.total_cmp(&other.0));
        let line = format!("{} {names}  {}", state.grade().mark(), how(first));
        line_of(&mut text, &format!("\n{}", state.grade().paint(&line, is_colored)));
        field(&mut text, "why", &first.message);
        field(&mut text, "since", &time(since, first.limit_seconds, source.at));
        field(&mut text, "→", &first.next);
    }
    let fine: Vec<String> = alike
        .iter()
        .filter(|((state, ..), _)| is_fine(*state))
        .map(|((state, ..), models)| format!("{} {}", models.len(), word(*state)))
        .collect();
    if !fine.is_empty() {
        let line = format!("{} {}", Grade::Good.mark(), fine.join(", "));
        line_of(&mut text, &format!("\n{}", Grade::Good.paint(&line, is_colored)));
    }
    if let Some(worst) = models.iter().filter(|model| !is_fine(model.state)).min_by_key(|model| model.state) {
        line_of(&mut text, &format!("\n→ mso explain {} {}", summary.id, worst.id));
    }
    text
}

pub(super) fn of_model(summary: &Summary, model: &Model, evidence: &Evidence, source: &Source, is_colored: bool) -> String {
    let grade = model.state.grade();
    let mut text = head(source);
    line_of(&mut text, &grade.paint(&format!("{} {}/{}  {}", grade.mark(), summary.id, model.id, how(model)), is_colored));
    field(&mut text, "why", &model.message);
    field(&mut text, "since", &time(model.since, model.limit_seconds, source.at));
    match &model.pod {
        None => field(&mut text, "pod", &model.pod_name.as_ref().map_or("none".to_owned(), |name| format!("none; its name is {name}"))),
        Some(pod) => {
            let made = pod.made_at.map_or(String::new(), |at| format!(", made {at} ({} ago)", span(source.at.seconds_since(at))));
            field(&mut text, "pod", &format!("{}{made}, phase {}", pod.name, pod.phase));
            field(&mut text, "image", &pod.image);
            field(&mut text, "node", if pod.node.is_empty() { "none yet" } else { &pod.node });
            let conditions = pod.conditions.iter().map(|it| format!("{}={} {}: {}", it.r#type, it.status, it.reason, it.message));
            fields(&mut text, "conditions", conditions.map(|line| line.trim_end_matches([':', ' ']).to_owned()));
        }
    }
    match &evidence.events_problem {
        Some(problem) => field(&mut text, "events", &format!("not shown: {problem}")),
        None => fields(&mut text, "events", events(evidence, source.at).into_iter()),
    }
    let message = model.pod.as_ref().map_or("", |pod| pod.termination_message.as_str());
    if !words::is_end_of_log(message, evidence.log.iter().map(String::as_str)) {
        fields(&mut text, "last word", message.lines().map(str::to_owned));
    }
    match &evidence.log_problem {
        Some(problem) => field(&mut text, "log", &format!("none: {problem}")),
        None if model.pod.is_some() && evidence.log.is_empty() => field(&mut text, "log", "empty"),
        None => fields(&mut text, "log", evidence.log.iter().map(|line| format!("│ {line}"))),
    }
    if !model.next.is_empty() {
        line_of(&mut text, &format!("\n→ {}", model.next));
    }
    text
}

/// Those that a line has room for.
pub(super) fn named<'a>(mut names: impl ExactSizeIterator<Item = &'a str>) -> String {
    let more = names.len().saturating_sub(NAMED);
    let named: Vec<&str> = names.by_ref().take(NAMED).collect();
    let named = named.join(", ");
    if more == 0 { named } else { format!("{named} and {more} more") }
}

fn head(source: &Source) -> String {
    let simulator = if source.simulator.is_empty() { "without a name" } else { &source.simulator };
    let mut text = format!("simulator {simulator} in namespace {}, {}\n", source.namespace, source.at);
    for note in &source.notes {
        line_of(&mut text, &format!("! {note}"));
    }
    text.push('\n');
    text
}

fn counts(summary: &Summary, now: UnixTime) -> String {
    let counts = [
        (summary.failed, "failed"),
        (summary.waiting, "waiting"),
        (summary.running, "running"),
        (summary.ready, "ready"),
        (summary.succeeded, "ended well"),
    ];
    let counts: Vec<String> = counts.iter().filter(|(count, _)| *count > 0).map(|(count, what)| format!("{count} {what}")).collect();
    let models = if summary.models == 1 { "1 model".to_owned() } else { format!("{} models", summary.models) };
    let (word, at) = match summary.over_since {
        Some(over) => ("over since", Some(over)),
        None => ("since", summary.since),
    };
    let since = at.map_or(String::new(), |at| format!("; {word} {at} ({} ago)", span(now.seconds_since(at))));
    format!("{models}: {}{since}", counts.join(", "))
}

fn announced(summary: &Summary) -> String {
    let ready = match summary.models_ready {
        None => "whether ModelsReady was sent is not known",
        Some(ModelsReady::No) => "ModelsReady was not sent",
        Some(ModelsReady::Sending) => "ModelsReady was being sent: whether it went out is not known",
        Some(ModelsReady::Sent) => "ModelsReady was sent",
    };
    match summary.delete_by {
        Some(at) => format!("{ready}; it is over, and its pods are kept until {at}"),
        None => ready.to_owned(),
    }
}

/// Nobody wants it any more, and it has not ended.
fn done(summary: &Summary, now: UnixTime) -> Option<String> {
    let at = |at: UnixTime| format!("{at} ({} ago)", span(now.seconds_since(at)));
    match (summary.over_since, summary.cancelled_at, summary.done_at) {
        (Some(_), ..) | (None, None, None) => None,
        (None, Some(since), _) => Some(format!("it is cancelled, {}: what runs is ended after two minutes", at(since))),
        (None, None, Some(since)) => {
            let what = "its SO has told its models that it is done";
            Some(format!("{what}, {}: a new request for it waits for their end, ten minutes at most", at(since)))
        }
    }
}

/// What a model is at, in a few words.
fn how(model: &Model) -> String {
    let code = model.exit_code.filter(|code| ![0, NO_EXIT_CODE].contains(code)).map_or(String::new(), |code| {
        let meaning = words::exit_code(code).map_or(String::new(), |words| format!(" ({words})"));
        format!(" with exit code {code}{meaning}")
    });
    let reason = if model.reason.is_empty() || model.state == State::Succeeded { String::new() } else { format!(": {}", model.reason) };
    format!("{}{code}{reason}", word(model.state))
}

fn word(state: State) -> &'static str {
    match state {
        State::Failed => "failed",
        State::Gone => "gone",
        State::NotMade => "not made",
        State::Waits => "waiting",
        State::Runs => "running",
        State::Ready => "ready",
        State::Succeeded => "ended well",
    }
}

/// Since when, and for how long it may.
fn time(since: Option<UnixTime>, limit_seconds: Option<u64>, now: UnixTime) -> String {
    let since = since.map_or(String::new(), |at| format!("{at} ({} ago)", span(now.seconds_since(at))));
    match limit_seconds {
        Some(seconds) => format!("{since}; it is given up after {}", span(seconds as f64)).trim_start_matches("; ").to_owned(),
        None => since,
    }
}

fn events(evidence: &Evidence, now: UnixTime) -> Vec<String> {
    if evidence.events.is_empty() {
        return vec!["none; Kubernetes forgets them after an hour".to_owned()];
    }
    let shown = |event: &super::EventSeen| {
        let ago = event.at.map_or(String::new(), |at| format!("{} ago ", span(now.seconds_since(at))));
        let times = if event.count > 1 { format!(" ({} times)", event.count) } else { String::new() };
        format!("{ago}{} {}{times}: {}", event.r#type, event.reason, event.message)
    };
    evidence.events.iter().map(shown).collect()
}

/// In the unit that says enough.
fn span(seconds: f64) -> String {
    let seconds = seconds.max(0.0);
    match seconds {
        ..120.0 => format!("{seconds:.0} s"),
        ..7200.0 => format!("{:.0} min", seconds / 60.0),
        ..172_800.0 => format!("{:.0} h", seconds / 3600.0),
        _ => format!("{:.0} d", seconds / 86400.0),
    }
}

fn field(text: &mut String, name: &str, value: &str) {
    if !value.is_empty() {
        fields(text, name, std::iter::once(value.to_owned()));
    }
}

fn fields(text: &mut String, name: &str, values: impl Iterator<Item = String>) {
    for (index, value) in values.enumerate() {
        let name = if index == 0 { name } else { "" };
        line_of(text, &format!("  {name:<INDENT$}{value}"));
    }
}

fn line_of(text: &mut String, line: &str) {
    let _ = writeln!(text, "{}", line.trim_end());
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source() -> Source {
        Source { simulator: "so".to_owned(), namespace: "dots".to_owned(), at: UnixTime(1000.0), notes: Vec::new() }
    }

    fn model(id: &str, state: State, reason: &str) -> Model {
        Model {
            id: id.to_owned(),
            state,
            since: Some(UnixTime(700.0)),
            exit_code: (state == State::Failed).then_some(137),
            reason: reason.to_owned(),
            message: format!("why {id}"),
            limit_seconds: (state == State::Waits).then_some(900),
            pod: None,
            next: "do something".to_owned(),
            pod_name: None,
        }
    }

    #[test]
    fn those_that_wait_for_the_same_are_one_line_and_those_that_are_well_are_counted() {
        let mut models: Vec<Model> = (0..12).map(|number| model(&format!("w-{number}"), State::Waits, "Unschedulable")).collect();
        models.push(model("killed", State::Failed, "OOMKilled"));
        models.extend(["a", "b"].map(|id| model(id, State::Ready, "")));
        let summary = Summary {
            id: "sim".to_owned(),
            models: 15,
            ready: 2,
            running: 0,
            succeeded: 0,
            failed: 1,
            waiting: 12,
            since: Some(UnixTime(0.0)),
            over_since: None,
            delete_by: None,
            done_at: Some(UnixTime(900.0)),
            cancelled_at: None,
            models_ready: Some(ModelsReady::No),
            notes: Vec::new(),
        };
        let simulation = Simulation { summary, models };
        let expected = "\
simulator so in namespace dots, 1970-01-01T00:16:40Z

✗ sim  15 models: 1 failed, 12 waiting, 2 ready; since 1970-01-01T00:00:00Z (17 min ago)
  ModelsReady was not sent
  its SO has told its models that it is done, 1970-01-01T00:15:00Z (100 s ago): a new request for it waits for their end, ten minutes at most

✗ killed  failed with exit code 137 (it was killed (SIGKILL: out of memory, evicted, or slow to end when told to)): OOMKilled
  why           why killed
  since         1970-01-01T00:11:40Z (5 min ago)
  →             do something

! w-0, w-1, w-2, w-3, w-4, w-5, w-6, w-7, w-8, w-9 and 2 more  waiting: Unschedulable
  why           why w-0
  since         1970-01-01T00:11:40Z (5 min ago); it is given up after 15 min
  →             do something

✓ 2 ready

→ mso explain sim killed
";
        assert_eq!(of_simulation(&source(), &simulation, false), expected);
        let colored = of_simulation(&source(), &simulation, true);
        assert!(colored.contains("\x1b[31m✗ killed") && colored.contains("\x1b[32m✓ 2 ready\x1b[0m\n"), "{colored:?}");
    }

    #[test]
    fn a_span_is_in_the_unit_that_says_enough() {
        let spans = [-3.0, 0.0, 119.0, 300.0, 7200.0, 172_800.0].map(span);
        assert_eq!(spans, ["0 s", "0 s", "119 s", "5 min", "2 h", "2 d"]);
    }
}
