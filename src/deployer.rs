//! The bodies of the threads `deployer-N`, `records-N` and `logs-N`: one call to the Kubernetes API at a time, its outcome back. Nothing is
//! decided here, nothing retried. Each ends when one of its channels is closed.

use crossbeam_channel::{Receiver, Sender};

use crate::kube::Client;
use crate::orchestrator::event::{CallOutcome, CrashLog, Event, PodCall, RecordCall, RecordOutcome};
use crate::supervise::Beat;

pub fn run(client: &Client, calls: &Receiver<(PodCall, u32)>, events: &Sender<Event>, beat: &Beat) {
    while let Ok((call, attempt)) = beat.wait(|| calls.recv()) {
        let result = client.call(&call);
        if events.send(Event::Call(CallOutcome { call, attempt, result })).is_err() {
            return;
        }
    }
}

pub fn keep_records(client: &Client, calls: &Receiver<(RecordCall, u32)>, events: &Sender<Event>, beat: &Beat) {
    while let Ok((call, attempt)) = beat.wait(|| calls.recv()) {
        let result = client.call_record(&call);
        if events.send(Event::Record(RecordOutcome { call, attempt, result })).is_err() {
            return;
        }
    }
}

pub fn read_logs(client: &Client, logs: &Receiver<CrashLog>, events: &Sender<Event>, beat: &Beat) {
    while let Ok(log) = beat.wait(|| logs.recv()) {
        let result = client.read_log(&log.pod, &log.container);
        if events.send(Event::LogRead { log, result }).is_err() {
            return;
        }
    }
}
