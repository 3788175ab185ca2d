//! What goes into the core, and what comes out: the table of contents of the service.

use std::fmt;
use std::sync::Arc;

use super::pod_state::Verdict;
use crate::clock::UnixTime;
use crate::ids::{DeployId, ModelId, PodName, RecordName, SimulationId, SimulatorId, TopicSegment, Uid};
use crate::kube::error::Error;
use crate::kube::event::PodEvent;
use crate::kube::pod::{NewPod, Pod, Variable};
use crate::kube::record::{Found, ModelsReady, NewRecord, Record};

#[derive(Clone, Debug)]
pub enum Event {
    Broker(BrokerEvent),
    Pods(PodsEvent),
    Call(CallOutcome),
    Record(RecordOutcome),
    LogRead {
        log: CrashLog,
        result: Result<String, Error>,
    },
    EventsRead {
        question: Question,
        result: Result<Vec<PodEvent>, Error>,
    },
    /// The deadline that `poll_timeout` named may have come.
    Timeout,
    /// We are to end: what is in flight is finished, nothing new begins.
    Stop,
}

#[derive(Clone, Debug)]
pub enum BrokerEvent {
    /// Connected and subscribed.
    Connected,
    Disconnected,
    /// The broker acknowledged this message.
    Published(MessageId),
    /// The connection ended before this `ModelsReady` was sent, and it never will be.
    Unsent(MessageId),
    /// The broker lost our session when this `ModelsReady` had been sent and not acknowledged: it may have been passed on. It is never sent
    /// again.
    Doubtful(MessageId),
    DeployModels {
        simulation: TopicSegment,
        request: Result<DeployRequest, BadRequest>,
        /// `None` at QoS 0.
        delivery: Option<Delivery>,
    },
    ReadyForProcessing {
        simulation: SimulationId,
        model: ModelId,
        /// `None` at QoS 0.
        delivery: Option<Delivery>,
    },
    SimulationDone {
        simulation: SimulationId,
        /// It was sent to this one, and may be the normal end; `None`: to us, which cancels all of it.
        model: Option<ModelId>,
        /// `None` at QoS 0.
        delivery: Option<Delivery>,
    },
}

/// One delivery of a message to us that the broker wants acknowledged. Until then it keeps the message, and delivers it again, on the
/// next connection: as another delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Delivery {
    /// Counts the connections of this process. A packet id means nothing on another one.
    pub connection: u64,
    pub packet_id: u16,
}

#[derive(Clone, Debug)]
pub enum PodsEvent {
    /// Records of ours, before the first list of pods.
    Records(Found),
    /// We may not read ConfigMaps: what there is to know stands on the pods.
    RecordsForbidden(Error),
    /// Every pod of ours at one moment. What the watch showed before is older, what it shows next is newer.
    Listed(Vec<Pod>),
    /// Added or modified.
    Changed(Box<Pod>),
    /// Gone, as it last was.
    Deleted(Box<Pod>),
    /// Nothing happened, and the watch goes on.
    Bookmark,
    /// The API server's clock, from the Date header of an answer.
    ServerTime(UnixTime),
    /// The list or watch failed and is tried again.
    Failed(Error),
}

/// What a call came to. The call comes back, so that the core need not remember it.
#[derive(Clone, Debug)]
pub struct CallOutcome {
    pub call: PodCall,
    pub attempt: u32,
    pub result: Result<Answer, Error>,
}

/// What a call about a record came to.
#[derive(Clone, Debug)]
pub struct RecordOutcome {
    pub simulation: SimulationId,
    pub call: RecordCall,
    pub result: Result<RecordAnswer, Error>,
}

#[derive(Clone, Debug, PartialEq)]
pub enum RecordAnswer {
    Record(Box<Record>),
    Done,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Answer {
    Pod(Box<Pod>),
    Done,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Command {
    Publish(Message),
    /// Nothing of this message can be lost any more: the broker may forget it. It does nothing when the connection has ended.
    Acknowledge(Delivery),
    /// Do this; the outcome comes back with the same attempt.
    Call {
        call: PodCall,
        attempt: u32,
    },
    /// Apart from the calls about pods, which it must not wait behind.
    Record {
        simulation: SimulationId,
        call: RecordCall,
    },
    /// Apart from the other calls: a long log would hold up a create.
    ReadLog(CrashLog),
    /// What the cluster says of a pod that does not come to run. Not every account may ask.
    ReadEvents(Question),
    Say(log::Level, String),
    /// Going on would do damage: say why, and end with a code that is not 0.
    Halt(String),
}

/// The log of a model that failed, to be read and said.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct CrashLog {
    pub pod: PodName,
    pub container: String,
    /// "A.S.M crashed with status N": the pod may be forgotten by the time that its log is here.
    pub crash: Box<str>,
    /// The container's own message, raw.
    pub last_word: Box<str>,
    pub attempt: u32,
}

/// Counts the messages of this process.
pub type MessageId = u64;

#[derive(Clone, Debug, PartialEq)]
pub struct Message {
    pub id: MessageId,
    pub simulation: TopicSegment,
    pub body: Body,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Body {
    ModelsReady,
    ModelHasTerminated {
        model: TopicSegment,
        verdict: Verdict,
    },
    /// Of the simulation, by one of its models.
    ErrorOccurred {
        model: TopicSegment,
        message: String,
    },
    AllModelsHaveTerminated,
}

/// As a Role allows them: what stands in the way of one call stands in the way of all with the same verb.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verb {
    Get,
    Patch,
    Delete,
    Create,
}

impl fmt::Display for Verb {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Get => "Reads of pods",
            Self::Patch => "Changes of pods",
            Self::Delete => "Deletes of pods",
            Self::Create => "Creates of pods",
        })
    }
}

#[derive(Clone, Debug, PartialEq)]
pub enum PodCall {
    Create(Arc<NewPod>),
    Get(Question),
    /// Puts back the labels with which it was made.
    Label {
        pod: Arc<NewPod>,
        uid: Uid,
    },
    /// Sets the label that says when the pod goes.
    SetDeleteBy {
        name: PodName,
        uid: Uid,
        delete_by: UnixTime,
    },
    /// Sets the annotations that say how far `ModelsReady` of its simulation is, and how many models that has.
    Mark {
        name: PodName,
        uid: Uid,
        simulation: SimulationId,
        models_ready: ModelsReady,
        models: usize,
    },
    /// Stops the pod's containers and leaves its log: `activeDeadlineSeconds: 1`.
    Stop {
        name: PodName,
        uid: Uid,
    },
    Delete {
        name: PodName,
        uid: Uid,
    },
}

/// One call about a ConfigMap of ours.
#[derive(Clone, Debug, PartialEq)]
pub enum RecordCall {
    Create(Arc<NewRecord>),
    /// Somebody has the name: who?
    Get(RecordName),
    /// Refused where the version is old.
    Update {
        name: RecordName,
        version: String,
        text: String,
    },
    Delete {
        name: RecordName,
        uid: Uid,
    },
}

impl RecordCall {
    pub fn name(&self) -> &RecordName {
        match self {
            Self::Create(record) => &record.name,
            Self::Get(name) | Self::Update { name, .. } | Self::Delete { name, .. } => name,
        }
    }
}

/// What became of a model's pod, or who has its name?
#[derive(Clone, Debug, PartialEq)]
pub struct Question {
    pub name: PodName,
    pub simulation: SimulationId,
    pub model: ModelId,
    /// The pod that was believed to be there when it was asked.
    pub uid: Option<Uid>,
}

impl PodCall {
    pub fn verb(&self) -> Verb {
        match self {
            Self::Create(_) => Verb::Create,
            Self::Get(_) => Verb::Get,
            Self::Label { .. } | Self::SetDeleteBy { .. } | Self::Mark { .. } | Self::Stop { .. } => Verb::Patch,
            Self::Delete { .. } => Verb::Delete,
        }
    }

    pub fn pod(&self) -> &PodName {
        match self {
            Self::Create(pod) | Self::Label { pod, .. } => &pod.name,
            Self::Get(question) => &question.name,
            Self::SetDeleteBy { name, .. } | Self::Mark { name, .. } | Self::Stop { name, .. } | Self::Delete { name, .. } => name,
        }
    }

    /// Of the very pod that is meant, where there is one.
    pub fn uid(&self) -> Option<&Uid> {
        match self {
            Self::Label { uid, .. }
            | Self::SetDeleteBy { uid, .. }
            | Self::Mark { uid, .. }
            | Self::Stop { uid, .. }
            | Self::Delete { uid, .. } => Some(uid),
            Self::Get(question) => question.uid.as_ref(),
            Self::Create(_) => None,
        }
    }
}

/// What an SO asked for, good as a whole.
#[derive(Clone, Debug, PartialEq)]
pub struct DeployRequest {
    pub id: DeployId,
    pub simulator: SimulatorId,
    pub simulation: SimulationId,
    /// In the request's order, each id once.
    pub models: Vec<ModelConfiguration>,
    /// From 0 to 87 600.
    pub keep_logs_hours: f64,
}

#[derive(Clone, Debug, PartialEq)]
pub struct ModelConfiguration {
    pub model: ModelId,
    pub pod: PodName,
    pub image: String,
    /// In the request's order, each name once.
    pub variables: Vec<Variable>,
}

impl DeployRequest {
    /// What holding it takes, but for a constant.
    pub fn bytes(&self) -> usize {
        self.models.iter().map(ModelConfiguration::bytes).sum()
    }
}

impl ModelConfiguration {
    pub fn bytes(&self) -> usize {
        let variables = self.variables.iter().map(|variable| variable.name.len() + variable.value.reveal().len());
        self.image.len() + variables.sum::<usize>()
    }
}

/// Why a request cannot be done, and whom to tell.
#[derive(Clone, Debug, PartialEq)]
pub struct BadRequest {
    /// A short name, as it is told.
    pub reason: String,
    /// Field, value and what would be right.
    pub problem: String,
    /// The models whose ids can stand in a topic, in the request's order, each once.
    pub models: Vec<TopicSegment>,
}
