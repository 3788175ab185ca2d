//! The body of the threads `deployer-N` and `logs-N`: one call to the Kubernetes API at a time, its outcome back. Nothing is decided here, nothing retried.

use crossbeam_channel::{Receiver, Sender};

use crate::kube::Client;
use crate::orchestrator::event::{CallOutcome, Event, PodCall};

/// Ends when one of its channels is closed.
pub fn run(client: &Client, calls: &Receiver<(PodCall, u32)>, events: &Sender<Event>) {
    for (call, attempt) in calls {
        let result = client.call(&call);
        if events.send(Event::Call(CallOutcome { call, attempt, result })).is_err() {
            return;
        }
    }
}
