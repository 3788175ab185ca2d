//! One command that shows the whole job: two simulations with a broker, a cluster and an SO around the service, and at the end what
//! happened. It exits with 0 only if all of it happened.

mod in_cluster;
mod on_this_machine;
mod screen;
mod story;

use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

use crate::in_cluster::InCluster;
use crate::on_this_machine::OnThisMachine;
use crate::screen::Screen;

const HELP: &str = "\
Shows what mso does: two simulations from the request of their simulation orchestrator (SO) to the end of their last model.

Usage: cargo quickstart [--cluster --image NAME]

Without options all of it runs on this machine: a small broker, a simulated cluster whose pods are processes, mso, an SO.

  --cluster      in the cluster that kubectl's current context names, in a namespace of its own, which is deleted afterwards.
                 Nodes with the label type=worker run the models.
  --image NAME   the image for that, as the cluster's nodes know it: what the Dockerfile's target `demonstration` makes.
                 It is pulled where a node does not have it.";

/// `SIMULATOR_NAME`.
const SIMULATOR: &str = "dots-so";

fn main() -> ExitCode {
    let image = match arguments() {
        Ok(Arguments::Help) => {
            println!("{HELP}");
            return ExitCode::SUCCESS;
        }
        Ok(Arguments::OnThisMachine) => None,
        Ok(Arguments::InCluster { image }) => Some(image),
        Err(problem) => {
            eprintln!("quickstart: {problem}\nTry cargo quickstart --help.");
            return ExitCode::from(2);
        }
    };
    match run(image.as_deref()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(problem) => {
            eprintln!("quickstart: {problem}");
            ExitCode::FAILURE
        }
    }
}

enum Arguments {
    Help,
    OnThisMachine,
    InCluster { image: String },
}

fn arguments() -> Result<Arguments, lexopt::Error> {
    use lexopt::prelude::{Long, Short, ValueExt};
    let mut in_cluster = false;
    let mut image = None;
    let mut arguments = lexopt::Parser::from_env();
    while let Some(argument) = arguments.next()? {
        match argument {
            Long("help") | Short('h') => return Ok(Arguments::Help),
            Long("cluster") => in_cluster = true,
            Long("image") => image = Some(arguments.value()?.string()?),
            other => return Err(other.unexpected()),
        }
    }
    match (in_cluster, image) {
        (false, None) => Ok(Arguments::OnThisMachine),
        (true, Some(image)) => Ok(Arguments::InCluster { image }),
        (true, None) => Err("--cluster needs --image NAME: nodes run images".into()),
        (false, Some(_)) => Err("--image is for --cluster: on this machine no image is needed".into()),
    }
}

/// True where all happened that should.
fn run(image: Option<&str>) -> Result<bool, String> {
    let interrupted = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM, SIGHUP] {
        signal_hook::flag::register(signal, interrupted.clone()).map_err(|error| format!("signals: {error}"))?;
    }
    let screen = Screen::new();
    let Some(image) = image else {
        return story::tell(&mut OnThisMachine::start(screen)?.stage, screen, &interrupted);
    };
    let mut surroundings = InCluster::start(image, screen, &interrupted)?;
    let told = story::tell(&mut surroundings.stage, screen, &interrupted);
    if !matches!(told, Ok(true)) && !interrupted.load(Ordering::Relaxed) {
        surroundings.show_evidence();
    }
    told
}
