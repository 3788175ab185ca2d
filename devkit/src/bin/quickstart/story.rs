//! The two simulations, what the SO says and hears, and whether all came as it should.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use devkit::feed::Feed;
use devkit::program::Program;
use devkit::so::{Heard, So, model_configuration};
use mso::clock;
use mso::proto::DeployModels;

use crate::SIMULATOR;
use crate::screen::{Screen, Style};

/// For one simulation: a cluster may have to pull the image first.
const LIMIT: Duration = Duration::from_secs(180);

/// Between two looks at whether somebody wants to stop, and whether the service still runs.
const SLICE: Duration = Duration::from_millis(200);

/// What the service says when it hears what is sent to it, and when it knows its pods.
const STARTED: [&str; 2] = ["connected to the broker", "pods of ours"];

/// So that one sees the pods go.
const KEEP_SECONDS: f64 = 3.6;
/// The API server's clock, which counts here, is known to a second.
const CLOCK_SECONDS: f64 = 1.0;

/// The names of a simulation's pods that are there.
pub(crate) type PodsOf = Box<dyn Fn(&str) -> Result<Vec<String>, String>>;

/// All who take part.
pub(crate) struct Stage {
    pub(crate) so: So,
    /// The service, or what shows its log.
    pub(crate) mso: Program,
    /// The fake model's, as a pod names it.
    pub(crate) image: String,
    /// As a pod reaches it.
    pub(crate) broker: (String, u16),
    pub(crate) pods: PodsOf,
}

/// True where all happened that should.
///
/// # Errors
/// It was interrupted, or the service ended.
pub(crate) fn tell(stage: &mut Stage, screen: Screen, interrupted: &AtomicBool) -> Result<bool, String> {
    let mut story = Story { stage, screen, interrupted, checks: Vec::new() };
    story.begin()?;
    let all_came = story.all_goes_well()? && story.four_models()?;
    Ok(story.end() && all_came)
}

struct Story<'a> {
    stage: &'a mut Stage,
    screen: Screen,
    interrupted: &'a AtomicBool,
    /// What should have happened, in words, and whether it did.
    checks: Vec<(String, bool)>,
}

/// A model's id, what it is told to do, and the exit code that this comes to.
struct Model<'a> {
    id: &'a str,
    told: &'a [(&'a str, &'a str)],
    code: i32,
}

const GOES_WELL: &str = "all-goes-well";
const THREE_MODELS: [Model<'_>; 3] = [
    Model { id: "heat-pump", told: &[], code: 0 },
    Model { id: "battery", told: &[], code: 0 },
    Model { id: "network", told: &[], code: 0 },
];

/// Upstream's own demonstration.
const FOUR: &str = "four-models";
const FOUR_MODELS: [Model<'_>; 4] = [
    Model { id: "model-0", told: &[("EXIT_AFTER_SECONDS", "10")], code: 0 },
    Model {
        id: "model-1",
        told: &[("READY_AFTER_SECONDS", "never"), ("EXIT_AFTER_SECONDS", "2"), ("EXIT_CODE", "1"), ("LOG_LINES", "3")],
        code: 1,
    },
    Model { id: "model-2", told: &[("EXIT_AFTER_SECONDS", "5"), ("EXIT_CODE", "2"), ("LOG_LINES", "3")], code: 2 },
    Model { id: "model-3", told: &[("EXIT_AFTER_SECONDS", "10")], code: 0 },
];

impl Story<'_> {
    fn begin(&mut self) -> Result<(), String> {
        match self.wait_for_lines(&STARTED.map(str::to_owned))? {
            true => Ok(()),
            false => Err("mso does not reach its broker and its cluster: its log is above".to_owned()),
        }
    }

    /// False: something did not come, and what follows would not come either.
    fn all_goes_well(&mut self) -> Result<bool, String> {
        const STEPS: u32 = 3;
        self.screen.heading("1. A simulation in which all goes well: three models, three steps, the end");
        self.says(GOES_WELL, &THREE_MODELS);
        self.stage.so.play(GOES_WELL, &self.request(GOES_WELL, &THREE_MODELS), STEPS);
        let Some(last) = self.hear(GOES_WELL)? else { return Ok(false) };
        self.screen.line(Style::Dim, &format!("(The pods stay for keepLogsHours, which is {KEEP_SECONDS} s here.)"));
        let until = now() + LIMIT;
        while now() < until && !(self.stage.pods)(GOES_WELL)?.is_empty() {
            self.look()?;
            std::thread::sleep(SLICE);
        }
        let kept_seconds = clock::now().unix.seconds_since(last.at);
        let went = (self.stage.pods)(GOES_WELL)?.is_empty() && kept_seconds > KEEP_SECONDS - CLOCK_SECONDS;
        self.check(GOES_WELL, &format!("the pods stayed for keepLogsHours, {KEEP_SECONDS} s, and then went"), went);
        Ok(went)
    }

    fn four_models(&mut self) -> Result<bool, String> {
        self.screen.heading("2. Four models: 1 crashes before it is ready, 2 after it; 0 and 3 end well after ten seconds");
        self.says(FOUR, &FOUR_MODELS);
        self.stage.so.deploy(FOUR, &self.request(FOUR, &FOUR_MODELS));
        if self.hear(FOUR)?.is_none() {
            return Ok(false);
        }
        for Model { id, code, .. } in FOUR_MODELS.iter().filter(|model| model.code != 0) {
            let words = format!("Pod {SIMULATOR}.{FOUR}.{id} crashed with status {code} and the last 30 log lines are:");
            let said = self.wait_for_lines(&[words])?;
            self.check(FOUR, &format!("mso's log has the last lines of {id}"), said);
        }
        Ok(true)
    }

    /// Over all that was heard, also after it should have been over.
    fn end(mut self) -> bool {
        let heard = self.stage.so.heard.read(<[Heard]>::to_vec);
        let of = |simulation: &str| -> Vec<&Heard> {
            let is_of = |heard: &&Heard| heard.about().is_some_and(|about| about.from == "mso" && about.simulation == simulation);
            heard.iter().filter(is_of).collect()
        };
        let count = |heard: &[&Heard], message: &str| heard.iter().filter(|heard| is(heard, message)).count();
        let went_well = of(GOES_WELL);
        let ready_first = went_well.first().is_some_and(|heard| is(heard, "ModelsReady")) && count(&went_well, "ModelsReady") == 1;
        self.check(GOES_WELL, "ModelsReady came first, and once", ready_first);
        self.check(FOUR, "no ModelsReady came, as one model never was ready", count(&of(FOUR), "ModelsReady") == 0);
        for (simulation, models) in [(GOES_WELL, &THREE_MODELS[..]), (FOUR, &FOUR_MODELS[..])] {
            let heard = of(simulation);
            let ends: Vec<(&str, i32)> = heard.iter().filter_map(|heard| heard.end()).collect();
            for Model { id, code, .. } in models {
                let came: Vec<i32> = ends.iter().filter(|(model, _)| model == id).map(|(_, code)| *code).collect();
                self.check(simulation, &format!("{id} ended with code {code}, and that was said once"), came == [*code]);
            }
            let is_last = heard.last().is_some_and(|heard| is(heard, "AllModelsHaveTerminated"));
            let once = count(&heard, "AllModelsHaveTerminated") == 1;
            self.check(simulation, "AllModelsHaveTerminated came last, and once", is_last && once && ends.len() == models.len());
        }
        self.checks.sort_by_key(|(words, _)| words.starts_with(FOUR));
        let complaints = self.stage.so.complaints();
        let words = format!("nothing came that would have broken an SO in use {}", complaints.join("; "));
        self.checks.push((words.trim_end().to_owned(), complaints.is_empty()));

        self.screen.heading("What happened");
        for (words, happened) in &self.checks {
            let (mark, style) = if *happened { ('✓', Style::Good) } else { ('✗', Style::Bad) };
            self.screen.line(style, &format!("  {mark} {words}"));
        }
        let all = self.checks.iter().all(|(_, happened)| *happened);
        self.screen.line(Style::Bold, if all { "\nAll of it happened." } else { "\nNot all of it happened." });
        all
    }

    fn request(&self, simulation: &str, models: &[Model<'_>]) -> DeployModels {
        let (host, port) = &self.stage.broker;
        let port = port.to_string();
        let configuration = |model: &Model<'_>| {
            let connection = [("MQTT_HOST", host.as_str()), ("MQTT_PORT", &port), ("SIMULATION_ID", simulation), ("MODEL_ID", model.id)];
            model_configuration(model.id, &self.stage.image, connection.iter().chain(model.told).copied())
        };
        DeployModels {
            simulator_id: SIMULATOR.to_owned(),
            model_configurations: models.iter().map(configuration).collect(),
            keep_logs_hours: KEEP_SECONDS / 3600.0,
        }
    }

    /// Shows what the SO hears until the simulation's end, which it gives.
    fn hear(&mut self, simulation: &str) -> Result<Option<Heard>, String> {
        let until = now() + LIMIT;
        let feed = self.stage.so.heard.clone();
        for number in 0.. {
            let Some(heard) = self.wait(&feed, until, |heard| heard.get(number).cloned())? else { break };
            let Some(about) = heard.about().filter(|about| about.simulation == simulation) else { continue };
            let what = match about.model {
                Some(model) => format!("{model}: {}", about.message),
                None => about.message.to_owned(),
            };
            match heard.end() {
                _ if about.from == "model" => self.screen.line(Style::Plain, &format!("SO   ◀ {what}")),
                None => self.screen.line(Style::In, &format!("SO   ◀ {what}")),
                Some((_, 0)) => self.screen.line(Style::In, &format!("SO   ◀ {what}, it ended well")),
                Some((_, code)) => self.screen.line(Style::In, &format!("SO   ◀ {what}, it failed with code {code}")),
            }
            if about.message == "AllModelsHaveTerminated" {
                // The log may come later than the messages.
                self.wait_for_lines(&[format!("Removing simulation {simulation} from cache.")])?;
                return Ok(Some(heard));
            }
        }
        self.screen.line(Style::Bad, &format!("SO   ◀ nothing more in {} s", LIMIT.as_secs()));
        Ok(None)
    }

    fn check(&mut self, simulation: &str, words: &str, happened: bool) {
        self.checks.push((format!("{simulation}: {words}"), happened));
    }

    fn says(&self, simulation: &str, models: &[Model<'_>]) {
        let ids: Vec<&str> = models.iter().map(|model| model.id).collect();
        self.screen.line(Style::Out, &format!("SO   ▶ {simulation}: DeployModels with {}", ids.join(", ")));
    }

    /// Whether the service's log came to have all of these.
    fn wait_for_lines(&mut self, texts: &[String]) -> Result<bool, String> {
        let log = self.stage.mso.output.clone();
        let all = |lines: &[String]| texts.iter().all(|text| lines.iter().any(|line| line.contains(text))).then_some(());
        Ok(self.wait(&log, now() + LIMIT, all)?.is_some())
    }

    /// `None`: it did not come in time.
    fn wait<T, R>(&mut self, feed: &Feed<T>, until: Instant, mut find: impl FnMut(&[T]) -> Option<R>) -> Result<Option<R>, String> {
        loop {
            let left = until.saturating_duration_since(now());
            let found = feed.wait(SLICE.min(left), &mut find);
            if found.is_some() || left.is_zero() {
                return Ok(found);
            }
            self.look()?;
        }
    }

    fn look(&mut self) -> Result<(), String> {
        if self.interrupted.load(Ordering::Relaxed) {
            return Err("interrupted".to_owned());
        }
        match self.stage.mso.end() {
            None => Ok(()),
            Some(status) => Err(format!("mso has ended, or its log has ({status}): its last lines are above")),
        }
    }
}

fn now() -> Instant {
    clock::now().instant
}

fn is(heard: &Heard, message: &str) -> bool {
    heard.about().is_some_and(|about| about.message == message)
}
