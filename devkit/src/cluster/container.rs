//! One container: its state, its log, and what it is started with. Pure.

use std::collections::BTreeSet;

use mso::clock::UnixTime;
use serde_json::Value;

use super::object::{list, text};

/// A kubelet keeps more of a log, and in a file.
const LOG_BYTES_MAX: usize = 16 * 1024 * 1024;

/// <https://kubernetes.io/docs/tasks/debug/debug-application/determine-reason-pod-failure/#customizing-the-termination-message>
const TERMINATION_MESSAGE_BYTES_MAX: usize = 2048;
const TERMINATION_MESSAGE_LINES_MAX: usize = 80;

/// One container of one pod object.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ContainerId {
    /// The pod's.
    pub uid: String,
    /// The container's name.
    pub name: String,
}

/// What whoever plays the containers has to do.
#[derive(Clone, Debug, PartialEq)]
pub enum ContainerEffect {
    Start(Box<ContainerStart>),
    Signal { id: ContainerId, signal: Signal },
}

#[derive(Clone, Debug, PartialEq)]
pub struct ContainerStart {
    pub id: ContainerId,
    /// The pod's name.
    pub hostname: String,
    pub image: String,
    /// Instead of the image's program; empty where the pod does not say.
    pub command: Vec<String>,
    /// Instead of the image's arguments; empty where the pod does not say.
    pub args: Vec<String>,
    /// In the pod's order, each name once: the last value counts.
    pub env: Vec<(String, String)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    Term,
    Kill,
}

impl Signal {
    /// As `kill -s` takes it.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Term => "TERM",
            Self::Kill => "KILL",
        }
    }
}

#[derive(Debug)]
pub(super) struct Container {
    pub(super) name: String,
    pub(super) image: String,
    pub(super) state: State,
    log: Vec<u8>,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) enum State {
    /// It cannot start, and is tried again.
    Waiting {
        why: Why,
        again_at: UnixTime,
        /// How long the next [`Why::BackingOff`] lasts.
        back_off_seconds: f64,
    },
    /// For a volume that is of a secret, which does not come: there are none here.
    Mounting,
    /// It was asked to start.
    Creating,
    Running {
        started_at: UnixTime,
    },
    Ended {
        code: i32,
        reason: &'static str,
        message: String,
        started_at: Option<UnixTime>,
        finished_at: Option<UnixTime>,
    },
}

/// Why a container cannot start.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Why {
    /// Its image is not there, which nobody knows yet.
    Pulling,
    PullFailed,
    /// After a failed pull, before the next.
    BackingOff,
    /// A variable of it is of this secret. There are none here.
    NoSecret(String),
}

impl Why {
    /// As `waiting.reason`.
    pub(super) fn reason(&self) -> &'static str {
        match self {
            Self::Pulling => "ContainerCreating",
            Self::PullFailed => "ErrImagePull",
            Self::BackingOff => "ImagePullBackOff",
            Self::NoSecret(_) => "CreateContainerConfigError",
        }
    }
}

impl Container {
    pub(super) fn new(spec: &Value) -> Self {
        let (name, image) = (text(&spec["name"]).to_owned(), text(&spec["image"]).to_owned());
        Self { name, image, state: State::Mounting, log: Vec::new() }
    }

    /// A kubelet that looks at a pod whose pull has failed finds that it is too early for the next.
    pub(super) fn see_back_off(&mut self) {
        if let State::Waiting { why: why @ Why::PullFailed, .. } = &mut self.state {
            *why = Why::BackingOff;
        }
    }

    /// Its last lines; none is all.
    pub(super) fn log_tail(&self, lines: Option<usize>) -> &[u8] {
        lines.map_or(self.log.as_slice(), |lines| last_lines(&self.log, lines))
    }

    pub(super) fn write(&mut self, bytes: &[u8]) {
        self.log.extend_from_slice(bytes);
        if self.log.len() > LOG_BYTES_MAX {
            // Half at a time, so that not each write moves it all.
            let from = self.log.len() - LOG_BYTES_MAX / 2;
            self.log.drain(..from);
        }
    }

    /// What `FallbackToLogsOnError` makes of its log.
    pub(super) fn termination_message(&self) -> String {
        let lines = last_lines(&self.log, TERMINATION_MESSAGE_LINES_MAX);
        let from = lines.len().saturating_sub(TERMINATION_MESSAGE_BYTES_MAX);
        String::from_utf8_lossy(&lines[from..]).into_owned()
    }
}

/// Whether a container mounts what is of a secret. Volumes that none mounts do not count.
pub(super) fn waits_for_volume(pod: &Value) -> bool {
    let mounted: BTreeSet<&str> =
        list(&pod["spec"]["containers"]).flat_map(|container| list(&container["volumeMounts"])).map(|mount| text(&mount["name"])).collect();
    list(&pod["spec"]["volumes"])
        .any(|volume| volume.get("secret").is_some_and(|secret| secret["optional"] != true) && mounted.contains(text(&volume["name"])))
}

/// # Errors
/// The secret that a variable is of.
pub(super) fn variables(spec: &Value) -> Result<Vec<(String, String)>, String> {
    let mut env: Vec<(String, String)> = Vec::new();
    for variable in list(&spec["env"]) {
        let name = text(&variable["name"]);
        let secret = &variable["valueFrom"]["secretKeyRef"];
        if secret["optional"] == true {
            continue;
        }
        if let Some(secret) = secret["name"].as_str() {
            return Err(secret.to_owned());
        }
        let value = expanded(text(&variable["value"]), &env);
        env.retain(|(before, _)| before != name);
        env.push((name.to_owned(), value));
    }
    Ok(env)
}

/// `$(NAME)` is the value of a variable that is known by then, `$$` a dollar; all else stands as it is.
/// <https://kubernetes.io/docs/tasks/inject-data-application/define-interdependent-environment-variables/>
pub(super) fn expanded(text: &str, env: &[(String, String)]) -> String {
    let mut expanded = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('$') {
        expanded += before;
        let reference = after.strip_prefix('(').and_then(|inner| inner.split_once(')'));
        rest = if let Some(after) = after.strip_prefix('$') {
            expanded.push('$');
            after
        } else if let Some((name, after)) = reference {
            match env.iter().find(|(known, _)| known == name) {
                Some((_, value)) => expanded += value,
                None => expanded += &format!("$({name})"),
            }
            after
        } else {
            expanded.push('$');
            after
        };
    }
    expanded + rest
}

/// A last line without an end counts.
fn last_lines(log: &[u8], lines: usize) -> &[u8] {
    let body = log.strip_suffix(b"\n").unwrap_or(log);
    if lines == 0 {
        return &[];
    }
    let breaks = body.iter().enumerate().rev().filter(|(_, byte)| **byte == b'\n');
    let from = breaks.map(|(index, _)| index + 1).nth(lines - 1).unwrap_or(0);
    &log[from..]
}
