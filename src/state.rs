//! The body of the thread `state`: the only one that holds the [`Orchestrator`]. Drain, wait, handle one.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender};
use log::{debug, error, log};

use crate::clock;
use crate::deployer::Reading;
use crate::ids::SimulationId;
use crate::mqtt::Publisher;
use crate::orchestrator::event::{BrokerEvent, Command, Event, PodCall, RecordCall};
use crate::orchestrator::{Orchestrator, Readiness};
use crate::supervise::{Beat, lock};

/// A stop waits this long for answers and acknowledgements. What has not come by then is found again by whoever looks next.
const STOP_LIMIT: Duration = Duration::from_millis(1200);

/// A list of 10 000 pods is an event too.
const LOGGED_CHARS: usize = 2000;

/// Where the commands go. None of these sends blocks: the domain bounds what is in them.
pub struct Outlets {
    pub publisher: Arc<Publisher>,
    pub calls: Sender<(PodCall, u32)>,
    pub records: Sender<(SimulationId, RecordCall)>,
    pub readings: Sender<Reading>,
    /// As of the last event: a state thread that hangs is the heartbeat's to tell.
    pub readiness: Arc<Mutex<Readiness>>,
}

/// In `requests` each request has a place until it was handled.
///
/// Returns after [`Event::Stop`], when nothing is in flight or the limit has come; or when nobody sends events any more.
pub fn run(mut orchestrator: Orchestrator, events: &Receiver<Event>, requests: &Receiver<()>, outlets: &Outlets, beat: &Beat) {
    let mut stop_by: Option<Instant> = None;
    loop {
        while let Some(command) = orchestrator.poll_command() {
            if !carry_out(command, outlets) {
                return;
            }
        }
        *lock(&outlets.readiness) = orchestrator.readiness();
        let now = clock::now();
        if let Some(stop_by) = stop_by
            && (orchestrator.is_idle() || now.instant >= stop_by)
        {
            return;
        }
        let wake_at = [orchestrator.poll_timeout(now), stop_by].into_iter().flatten().min();
        let received = beat.wait(|| match wake_at {
            Some(at) => events.recv_deadline(at),
            None => events.recv().map_err(|_| RecvTimeoutError::Disconnected),
        });
        let event = match received {
            Ok(event) => event,
            Err(RecvTimeoutError::Timeout) => Event::Timeout,
            Err(RecvTimeoutError::Disconnected) => return,
        };
        debug!("{:.LOGGED_CHARS$}", format!("{event:?}"));
        let now = clock::now();
        if matches!(event, Event::Stop) {
            stop_by = Some(now.instant + STOP_LIMIT);
        }
        let is_request = matches!(event, Event::Broker(BrokerEvent::DeployModels { .. }));
        orchestrator.handle(event, now);
        if is_request {
            // Its place is free. Who sends one takes it first.
            let _ = requests.try_recv();
        }
    }
}

/// False: we are to end at once.
fn carry_out(command: Command, outlets: &Outlets) -> bool {
    match command {
        Command::Say(level, text) => log!(level, "{text}"),
        Command::Halt(why) => {
            error!("{why}");
            return false;
        }
        Command::Publish(message) => {
            debug!("{message:?}");
            outlets.publisher.publish(&message);
        }
        Command::Acknowledge(delivery) => {
            debug!("acknowledge {delivery:?}");
            outlets.publisher.acknowledge(delivery);
        }
        // Workers are gone only where one has died, which ends the process.
        Command::Call { call, attempt } => {
            debug!("{:.LOGGED_CHARS$}", format!("{call:?}, attempt {attempt}"));
            let _ = outlets.calls.send((call, attempt));
        }
        Command::Record { simulation, call } => {
            debug!("{:.LOGGED_CHARS$}", format!("{call:?}"));
            let _ = outlets.records.send((simulation, call));
        }
        Command::ReadLog(log) => {
            debug!("{log:?}");
            let _ = outlets.readings.send(Reading::Log(log));
        }
        Command::ReadEvents(question) => {
            debug!("{question:?}");
            let _ = outlets.readings.send(Reading::Events(question));
        }
    }
    true
}
