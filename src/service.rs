//! All threads of the service and the channels between them: put together here, and taken apart again. It decides nothing.

use std::io;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, bounded, unbounded};
use log::info;

use crate::config::Config;
use crate::kube::{CALL_TIME_MAX, Client};
use crate::orchestrator::event::Event;
use crate::orchestrator::{Orchestrator, Readiness};
use crate::state::{self, Outlets};
use crate::supervise::{Beat, End, Supervisor};
use crate::{clock, deployer, mqtt, pods};

/// Edges wait when the state thread is this far behind.
const MAX_EVENTS_WAITING: usize = 1024;
/// Of those, requests, the one that is handled among them: with all that they hold they are by far the largest, up to a packet of 16 MiB.
const MAX_REQUESTS_WAITING: usize = 2;
/// A simulation has one write of its progress in flight, and one of a piece of a request: a large one does not hold up those of others.
const RECORD_WORKERS: usize = 2;
/// Logs of crashed models, which can be long, are read beside everything else.
const LOG_WORKERS: usize = 2;
/// Kubernetes and people expect a stopped process to be gone by two seconds.
const STOP_LIMIT: Duration = Duration::from_millis(1700);

/// The longest that a piece of work takes where nothing hangs. An event at 10 000 models takes well under a second; this is for a machine
/// that is busy with other things, and for a log that is slow to take its lines.
const STATE_LIMIT: Duration = Duration::from_secs(30);
/// Then there may be a request to decode: a piece of work as the state thread's.
const MQTT_LIMIT: Duration = mqtt::RECEIVE_TIME_MAX.saturating_add(STATE_LIMIT);
/// One call, or one event of a watch, which is silent for 90 s at most; then its outcome to hand over.
const API_LIMIT: Duration = CALL_TIME_MAX.saturating_add(STATE_LIMIT);

/// Runs until it is told to stop, whatever becomes of the broker and the API.
pub struct Service {
    events: Sender<Event>,
    publisher: Arc<mqtt::Publisher>,
    readiness: Arc<Mutex<Readiness>>,
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
        let (requests_in, requests) = bounded(MAX_REQUESTS_WAITING);
        let (calls_in, calls) = unbounded();
        let (records_in, records) = unbounded();
        let (readings_in, readings) = unbounded();
        let (publisher, connection) = mqtt::open(&config.mqtt, &config.simulator);
        let publisher = Arc::new(publisher);
        let readiness = Arc::<Mutex<Readiness>>::default();
        let outlets = Outlets {
            publisher: publisher.clone(),
            calls: calls_in,
            records: records_in,
            readings: readings_in,
            readiness: readiness.clone(),
        };
        let orchestrator = Orchestrator::new(config.simulator.clone(), config.rules.clone(), config.deploy_parallelism, fastrand::u64(..));

        supervisor.spawn("state", STATE_LIMIT, move |beat| state::run(orchestrator, &events, &requests, &outlets, beat))?;
        let mqtt_events = events_in.clone();
        let serve = move |beat: &Beat| connection.run(&mqtt::Inlet { events: mqtt_events, requests: requests_in, beat });
        supervisor.spawn("mqtt", MQTT_LIMIT, serve)?;
        let (pods_client, pods_events) = (client.clone(), events_in.clone());
        let denied = config.rules.limits.denied;
        supervisor.spawn("pods", API_LIMIT, move |beat| pods::run(&pods_client, denied, &pods_events, beat))?;
        for i in 0..config.deploy_parallelism {
            let (client, calls, events) = (client.clone(), calls.clone(), events_in.clone());
            supervisor.spawn(format!("deployer-{i}"), API_LIMIT, move |beat| deployer::run(&client, &calls, &events, beat))?;
        }
        for i in 0..RECORD_WORKERS {
            let (client, records, events) = (client.clone(), records.clone(), events_in.clone());
            supervisor.spawn(format!("records-{i}"), API_LIMIT, move |beat| deployer::keep_records(&client, &records, &events, beat))?;
        }
        for i in 0..LOG_WORKERS {
            let (client, readings, events) = (client.clone(), readings.clone(), events_in.clone());
            supervisor.spawn(format!("logs-{i}"), API_LIMIT, move |beat| deployer::read(&client, &readings, &events, beat))?;
        }
        Ok(Self { events: events_in, publisher, readiness })
    }

    /// The state thread's, as of its last event.
    pub fn readiness(&self) -> Arc<Mutex<Readiness>> {
        self.readiness.clone()
    }

    /// Ends the state thread, then the connection to the broker, in less than two seconds. What the other threads are at was begun by
    /// it, and waited for as long as there was time: they end when they next look up.
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
