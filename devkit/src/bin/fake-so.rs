//! A simulation orchestrator for one simulation, at a command line: it deploys the models, takes them through a few steps, and says what it
//! hears.

use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use devkit::so::{Heard, Session, So, model_configuration};
use mso::clock;
use mso::proto::DeployModels;
use signal_hook::consts::{SIGINT, SIGTERM};

const HELP: &str = "\
Plays one simulation against a running mso: sends DeployModels, gives the models their parameters and steps once all are ready, then ends them.
It says what it hears, and exits with 0 when all models have ended well. Ctrl-C ends the models; a second one ends it at once.

Usage: fake-so [options] SIMULATION MODEL=IMAGE...

  --broker HOST:PORT     as this machine reaches it; 127.0.0.1:1883 unless given
  --simulator NAME       mso's SIMULATOR_NAME; dots-so unless given
  --keep-logs-hours N    how long the pods stay afterwards; 1 unless given
  --steps N              3 unless given
  --env NAME=VALUE       a variable of each model; any number of these
  -h, --help

Each model also has SIMULATOR_NAME, SIMULATION_ID and MODEL_ID. Not beside an SO of the same name: those in use fail at messages about a
simulation that they did not begin.";

/// Between two looks at signals and the connection.
const SLICE: Duration = Duration::from_secs(1);

/// The first thing that one hears comes when a model is ready or has ended: after a few seconds where its node has the image.
const SILENCE: Duration = Duration::from_secs(8);

struct Arguments {
    host: String,
    port: u16,
    simulator: String,
    keep_logs_hours: f64,
    steps: u32,
    variables: Vec<(String, String)>,
    simulation: String,
    /// Ids and images.
    models: Vec<(String, String)>,
}

fn main() -> ExitCode {
    let arguments = match arguments() {
        Ok(Some(arguments)) => arguments,
        Ok(None) => {
            println!("{HELP}");
            return ExitCode::SUCCESS;
        }
        Err(problem) => {
            eprintln!("fake-so: {problem}\nTry fake-so --help.");
            return ExitCode::from(2);
        }
    };
    match run(&arguments) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(problem) => {
            eprintln!("fake-so: {problem}");
            ExitCode::FAILURE
        }
    }
}

/// `None`: only help is wanted.
fn arguments() -> Result<Option<Arguments>, lexopt::Error> {
    use lexopt::prelude::{Long, Short, Value, ValueExt};
    let mut given = Arguments {
        host: "127.0.0.1".to_owned(),
        port: 1883,
        simulator: "dots-so".to_owned(),
        keep_logs_hours: 1.0,
        steps: 3,
        variables: Vec::new(),
        simulation: String::new(),
        models: Vec::new(),
    };
    let mut arguments = lexopt::Parser::from_env();
    while let Some(argument) = arguments.next()? {
        match argument {
            Long("help") | Short('h') => return Ok(None),
            Long("broker") => {
                (given.host, given.port) = arguments.value()?.parse_with(|text| {
                    let (host, port) = text.rsplit_once(':').ok_or("it takes HOST:PORT")?;
                    Ok::<_, &str>((host.to_owned(), port.parse().map_err(|_| "it takes HOST:PORT")?))
                })?;
            }
            Long("simulator") => given.simulator = arguments.value()?.string()?,
            Long("keep-logs-hours") => given.keep_logs_hours = arguments.value()?.parse()?,
            Long("steps") => given.steps = arguments.value()?.parse()?,
            Long("env") => given.variables.push(arguments.value()?.parse_with(pair)?),
            Value(simulation) if given.simulation.is_empty() => given.simulation = simulation.string()?,
            Value(model) => given.models.push(model.parse_with(pair)?),
            other => return Err(other.unexpected()),
        }
    }
    if given.models.is_empty() {
        return Err("it takes a simulation's id and at least one MODEL=IMAGE".into());
    }
    Ok(Some(given))
}

fn pair(text: &str) -> Result<(String, String), &'static str> {
    text.split_once('=').map(|(name, value)| (name.to_owned(), value.to_owned())).ok_or("it takes NAME=VALUE")
}

/// True where all models ended well.
fn run(arguments: &Arguments) -> Result<bool, String> {
    let interrupted = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM] {
        // The second time at once.
        signal_hook::flag::register_conditional_shutdown(signal, 1, interrupted.clone())
            .and_then(|_| signal_hook::flag::register(signal, interrupted.clone()))
            .map_err(|error| format!("signals: {error}"))?;
    }
    let id = format!("fake-so-{}", std::process::id());
    let so = So::connect(&arguments.host, arguments.port, &id, &arguments.simulator, Session::Clean)?;
    println!("▶ {}: DeployModels (to the mso of {})", arguments.simulation, arguments.simulator);
    so.play(&arguments.simulation, &request(arguments), arguments.steps);
    let mut game = Game { so, simulation: &arguments.simulation, is_ready: false, is_ending: false, ends: Vec::new() };
    let mut heard = 0;
    let mut hint_at = Some(clock::now().instant + SILENCE);
    let mut is_interrupted = false;
    loop {
        if let Some(message) = game.so.heard.wait(SLICE, |all| all.get(heard).cloned()) {
            heard += 1;
            hint_at = None;
            if game.hear(&message) {
                let all_well = game.ends.iter().all(|code| *code == 0);
                return Ok(all_well && game.ends.len() == arguments.models.len());
            }
        } else if interrupted.load(Ordering::Relaxed) && !is_interrupted {
            is_interrupted = true;
            game.end("interrupted");
            println!("waiting for the models to end; a second Ctrl-C ends this at once");
        } else if game.is_ending {
            // Again and again: a model that has just begun may not have subscribed yet.
            game.so.end_all(game.simulation);
        } else if hint_at.is_some_and(|at| clock::now().instant >= at) {
            hint_at = None;
            let Arguments { host, port, simulator, simulation, .. } = arguments;
            println!(
                "nothing heard yet: is mso at {host}:{port}, with SIMULATOR_NAME={simulator}? \
                 Or a pod is not running: kubectl -n dots get pods -l simulation_id={simulation}"
            );
        }
        if let Some(problem) = game.so.connection_problem() {
            return Err(format!("the connection to the broker is lost: {problem}"));
        }
    }
}

fn request(arguments: &Arguments) -> DeployModels {
    let configuration = |(id, image): &(String, String)| {
        let own = [("SIMULATOR_NAME", arguments.simulator.as_str()), ("SIMULATION_ID", &arguments.simulation), ("MODEL_ID", id)];
        let given = arguments.variables.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        model_configuration(id, image, own.into_iter().chain(given))
    };
    DeployModels {
        simulator_id: arguments.simulator.clone(),
        model_configurations: arguments.models.iter().map(configuration).collect(),
        keep_logs_hours: arguments.keep_logs_hours,
    }
}

struct Game<'a> {
    so: So,
    simulation: &'a str,
    is_ready: bool,
    is_ending: bool,
    /// The models' exit codes.
    ends: Vec<i32>,
}

impl Game<'_> {
    /// Whether it was the last.
    fn hear(&mut self, heard: &Heard) -> bool {
        let Some(about) = heard.about().filter(|about| about.simulation == self.simulation) else { return false };
        let what = about.model.map_or_else(|| about.message.to_owned(), |model| format!("{model}: {}", about.message));
        match heard.end() {
            None => println!("◀ {what}"),
            Some((_, code)) => {
                println!("◀ {what}, code {code}");
                self.ends.push(code);
                // An SO in use would wait for ever; nobody is here to tell it.
                if code != 0 {
                    self.end("a model has failed");
                } else if !self.is_ready {
                    self.end("a model has ended before all were ready, so that ModelsReady does not come");
                }
            }
        }
        self.is_ready |= about.message == "ModelsReady";
        about.message == "AllModelsHaveTerminated"
    }

    fn end(&mut self, why: &str) {
        if !self.is_ending {
            println!("▶ SimulationDone to each model: {why}");
            self.is_ending = true;
            self.so.end_all(self.simulation);
        }
    }
}
