//! The one table of deadlines. Each says why we wake.

use std::collections::BTreeMap;
use std::time::Instant;

use super::event::PodCall;
use crate::ids::{ModelId, PodName, SimulationId, Uid};

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Deadline {
    /// A call that failed is made again.
    CallAgain { call: PodCall, attempt: u32 },
    /// The name that this model waits for should be free: its create is made, and the answer judged.
    NameIsFree { simulation: SimulationId, model: ModelId },
    /// A doubtful end has stayed so.
    DoubtIsOver { simulation: SimulationId, model: ModelId, uid: Uid },
    /// `ModelsReady` has waited for the SO to subscribe again.
    SubscribersAreBack(SimulationId),
    /// A pod's `delete_by` has come, or what was refused of it is tried again.
    PodIsDue(PodName),
    /// Nobody deployed the model that said ready.
    ReadyIsForgotten { simulation: SimulationId, model: ModelId },
    /// An ended simulation need not be known any more.
    EndIsForgotten(SimulationId),
}

#[derive(Default)]
pub(super) struct Deadlines {
    by_time: BTreeMap<(Instant, u64), Deadline>,
    /// Keeps apart what falls on the same instant, in the order of its coming.
    count: u64,
}

impl Deadlines {
    pub(super) fn set(&mut self, at: Instant, deadline: Deadline) {
        self.count += 1;
        self.by_time.insert((at, self.count), deadline);
    }

    pub(super) fn next(&self) -> Option<Instant> {
        self.by_time.first_key_value().map(|((at, _), _)| *at)
    }

    pub(super) fn take_expired(&mut self, now: Instant) -> Option<Deadline> {
        let entry = self.by_time.first_entry().filter(|entry| entry.key().0 <= now)?;
        Some(entry.remove())
    }
}
