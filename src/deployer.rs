//! The bodies of the threads `deployer-N`, `records-N` and `logs-N`: one call to the Kubernetes API at a time, its outcome back. Nothing is
//! decided here, nothing retried. Each ends when one of its channels is closed.

use crossbeam_channel::{Receiver, Sender};

use crate::ids::{SimulationId, Uid};
use crate::kube::Client;
use crate::orchestrator::event::{CallOutcome, CrashLog, Event, PodCall, Question, RecordCall, RecordOutcome};
use crate::supervise::Beat;

pub fn run(client: &Client, calls: &Receiver<(PodCall, u32)>, events: &Sender<Event>, beat: &Beat) {
    for_each(calls, events, beat, |(call, attempt)| {
        let result = client.call(&call);
        Event::Call(CallOutcome { call, attempt, result })
    });
}

pub fn keep_records(client: &Client, calls: &Receiver<(SimulationId, RecordCall)>, events: &Sender<Event>, beat: &Beat) {
    for_each(calls, events, beat, |(simulation, call)| {
        let result = client.call_record(&call);
        Event::Record(RecordOutcome { simulation, call, result })
    });
}

/// What explains a failure, and nothing waits for.
pub enum Reading {
    Log(CrashLog),
    Events(Question),
}

pub fn read(client: &Client, readings: &Receiver<Reading>, events: &Sender<Event>, beat: &Beat) {
    for_each(readings, events, beat, |reading| match reading {
        Reading::Log(log) => {
            let result = client.read_log(&log.pod, &log.container);
            Event::LogRead { log, result }
        }
        Reading::Events(question) => {
            let result = client.list_events(&question.name, question.uid.as_ref().map_or("", Uid::as_str));
            Event::EventsRead { question, result }
        }
    });
}

fn for_each<T>(work: &Receiver<T>, events: &Sender<Event>, beat: &Beat, carry_out: impl Fn(T) -> Event) {
    while let Ok(piece) = beat.wait(|| work.recv()) {
        let event = carry_out(piece);
        if beat.wait(|| events.send(event)).is_err() {
            return;
        }
    }
}
