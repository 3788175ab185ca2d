//! The one table of deadlines. Each says why we wake, and stands in it once: set again, it moves.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use super::event::CrashLog;
use crate::ids::{ModelId, PodName, SimulationId, Uid};

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Deadline {
    /// The name that this model waits for should be free: its create is made, and the answer judged.
    NameIsFree { simulation: SimulationId, model: ModelId },
    /// A doubtful end has stayed so.
    DoubtIsOver { simulation: SimulationId, model: ModelId, uid: Uid },
    /// `ModelsReady` has waited for the SO to subscribe again.
    SubscribersAreBack(SimulationId),
    /// A pod's `delete_by` has come, or what was refused of it is tried again.
    PodIsDue(PodName),
    /// Who ran when we began to listen should have been heard.
    ReadiesAreOverdue(SimulationId),
    /// Of models that are not wanted any more, or of a simulation that has lived for long.
    DoneIsDue(SimulationId),
    /// Of what its models wait for there is something to say, or one is to be given up.
    PendingIsDue(SimulationId),
    /// Nobody deployed the model that said ready.
    ReadyIsForgotten { simulation: SimulationId, model: ModelId },
    /// The log of a crash could not be read and is tried again.
    LogIsReadAgain(CrashLog),
    /// Facts of a simulation are written in company, or a part of its record again where that failed.
    RecordIsDue(SimulationId),
    /// A request of which only a part was recorded did not come again.
    RequestIsLost(SimulationId),
    /// The watch does not show the pod of this model.
    LabelsAreLost { simulation: SimulationId, model: ModelId },
    /// A model that ended well should have said that it is ready.
    UnreadyEndIsCertain(SimulationId),
    /// Requests wait for the end of a run that is done.
    LastRunIsAwaited(SimulationId),
    /// Pods whose record may not be read are said again.
    LeftIsSaidAgain,
    /// An ended simulation need not be known any more.
    EndIsForgotten(SimulationId),
}

#[derive(Default)]
pub(super) struct Deadlines {
    in_order: BTreeSet<(Instant, Deadline)>,
    times: BTreeMap<Deadline, Instant>,
}

impl Deadlines {
    pub(super) fn set(&mut self, at: Instant, deadline: Deadline) {
        self.cancel(&deadline);
        self.times.insert(deadline.clone(), at);
        self.in_order.insert((at, deadline));
    }

    pub(super) fn set_at_latest(&mut self, at: Instant, deadline: Deadline) {
        if self.times.get(&deadline).is_none_or(|before| at < *before) {
            self.set(at, deadline);
        }
    }

    pub(super) fn cancel(&mut self, deadline: &Deadline) {
        if let Some(at) = self.times.remove(deadline) {
            self.in_order.remove(&(at, deadline.clone()));
        }
    }

    pub(super) fn next(&self) -> Option<Instant> {
        self.in_order.first().map(|(at, _)| *at)
    }

    pub(super) fn take_expired(&mut self, now: Instant) -> Option<Deadline> {
        let (_, deadline) = self.in_order.first().filter(|(at, _)| *at <= now)?.clone();
        self.cancel(&deadline);
        Some(deadline)
    }
}
