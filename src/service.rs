//! All threads of the service and the channels between them: put together here, and taken apart again. It decides nothing.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, bounded, unbounded};
use log::info;

use crate::config::Config;
use crate::kube::Client;
use crate::orchestrator::Orchestrator;
use crate::orchestrator::event::Event;
use crate::state::{self, Outlets};
use crate::supervise::{End, Supervisor};
use crate::{clock, deployer, mqtt, pods};

/// Edges wait when the state thread is this far behind.
const MAX_EVENTS_WAITING: usize = 1024;
/// Logs of crashed models, which can be long, are read beside everything else.
const LOG_WORKERS: usize = 2;
/// Kubernetes and people expect a stopped process to be gone by two seconds.
const STOP_LIMIT: Duration = Duration::from_millis(1700);

/// Runs until it is told to stop, whatever becomes of the broker and the API.
pub struct Service {
    events: Sender<Event>,
    publisher: Arc<mqtt::Publisher>,
}

impl Service {
    /// Connects in the background, for as long as it takes. A thread that ends before [`Service::stop`] is a fault: the supervisor's
    /// receiver hears of it.
    ///
    /// # Errors
    /// The system gives no more threads.
    pub fn start(config: &Config, client: Client, supervisor: &Supervisor) -> io::Result<Self> {
        let client = Arc::new(client);
        let (events_in, events) = bounded(MAX_EVENTS_WAITING);
        let (calls_in, calls) = unbounded();
        let (logs_in, logs) = unbounded();
        let (publisher, connection) = mqtt::open(&config.mqtt, &config.simulator);
        let publisher = Arc::new(publisher);
        let outlets = Outlets { publisher: publisher.clone(), calls: calls_in, logs: logs_in };
        let orchestrator = Orchestrator::new(config.simulator.clone(), config.deploy_parallelism, fastrand::u64(..));

        supervisor.spawn("state", move || state::run(orchestrator, &events, &outlets))?;
        let broker_events = events_in.clone();
        supervisor.spawn("mqtt", move || connection.run(&broker_events))?;
        let (pods_client, pods_events) = (client.clone(), events_in.clone());
        supervisor.spawn("pods", move || pods::run(&pods_client, &pods_events))?;
        for i in 0..config.deploy_parallelism {
            let (client, calls, events) = (client.clone(), calls.clone(), events_in.clone());
            supervisor.spawn(format!("deployer-{i}"), move || deployer::run(&client, &calls, &events))?;
        }
        for i in 0..LOG_WORKERS {
            let (client, logs, events) = (client.clone(), logs.clone(), events_in.clone());
            supervisor.spawn(format!("logs-{i}"), move || deployer::read_logs(&client, &logs, &events))?;
        }
        Ok(Self { events: events_in, publisher })
    }

    /// Ends the state thread, then the connection to the broker, in less than two seconds. The other threads hold nothing: they end when
    /// they next look up.
    ///
    /// # Errors
    /// This thread has panicked meanwhile.
    pub fn stop(self, ends: &Receiver<End>) -> Result<(), End> {
        let stop_by = clock::now().instant + STOP_LIMIT;
        if self.events.send_deadline(Event::Stop, stop_by).is_ok() {
            wait_for("state", ends, stop_by)?;
        }
        self.publisher.disconnect();
        wait_for("mqtt", ends, stop_by)?;
        info!("Stopped.");
        Ok(())
    }
}

/// Threads end in any order now; one that panics is still a fault.
fn wait_for(thread: &str, ends: &Receiver<End>, until: Instant) -> Result<(), End> {
    while let Ok(end) = ends.recv_deadline(until) {
        if end.panicked {
            return Err(end);
        }
        if end.thread == thread {
            break;
        }
    }
    Ok(())
}
