//! kubectl, and through it a real cluster.

use std::ffi::OsStr;
use std::io::{ErrorKind, Write};
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::program::Program;

/// For kubectl to reach the pod's node.
const FORWARD_LIMIT: Duration = Duration::from_secs(30);

/// What kubectl prints, given this input, at the cluster of its current context.
///
/// # Errors
/// What kubectl says, or that it is not there.
pub fn kubectl(arguments: &[impl AsRef<OsStr>], input: &str) -> Result<String, String> {
    Kubectl::default().run(arguments, input)
}

/// kubectl with one context.
#[derive(Clone, Debug, Default)]
pub struct Kubectl {
    /// Empty: whichever is current at each call.
    context: String,
}

impl Kubectl {
    /// The current context, and the same one from now on, whoever changes it meanwhile.
    ///
    /// # Errors
    /// There is none, or no kubectl.
    pub fn pinned() -> Result<Self, String> {
        let context = kubectl(&["config", "current-context"], "")?;
        Ok(Self { context: context.trim().to_owned() })
    }

    pub fn context(&self) -> &str {
        &self.context
    }

    pub fn command(&self) -> Command {
        let mut command = Command::new("kubectl");
        if !self.context.is_empty() {
            command.arg(format!("--context={}", self.context));
        }
        command
    }

    /// What kubectl prints, given this input.
    ///
    /// # Errors
    /// What kubectl says, or that it is not there.
    pub fn run(&self, arguments: &[impl AsRef<OsStr>], input: &str) -> Result<String, String> {
        let mut command = self.command();
        command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        // Whoever interrupts us from a terminal does not interrupt what we clean up with.
        command.process_group(0);
        let mut child = command.spawn().map_err(|error| match error.kind() {
            ErrorKind::NotFound => "kubectl is not in PATH".to_owned(),
            _ => format!("kubectl cannot be started: {error}"),
        })?;
        let mut pipe = child.stdin.take().expect("it is piped");
        // One that does not read it to the end says why.
        let _ = pipe.write_all(input.as_bytes());
        drop(pipe);
        let output = child.wait_with_output().map_err(|error| format!("kubectl: {error}"))?;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        if output.status.success() { Ok(text(&output.stdout)) } else { Err(text(&output.stderr).trim().to_owned()) }
    }

    /// # Errors
    /// What kubectl says.
    pub fn port_forward(&self, namespace: &str, pod: &str, port: u16) -> Result<PortForward, String> {
        let arguments = ["-n", namespace, "port-forward", "--address=127.0.0.1", &format!("pod/{pod}"), &format!(":{port}")];
        let kubectl = Program::start(self.command().args(arguments)).map_err(|error| format!("kubectl: {error}"))?;
        // Forwarding from 127.0.0.1:40123 -> 1883
        let local = |line: &String| line.strip_prefix("Forwarding from 127.0.0.1:")?.split(' ').next()?.parse().ok();
        match kubectl.output.wait(FORWARD_LIMIT, |lines| lines.iter().find_map(local)) {
            Some(port) => Ok(PortForward { port, _kubectl: kubectl }),
            None => Err(format!("kubectl port-forward: {}", kubectl.output.read(|lines| lines.join("; ")))),
        }
    }
}

/// A port of this machine that leads to one of a pod's, until it is dropped.
pub struct PortForward {
    /// On 127.0.0.1.
    pub port: u16,
    _kubectl: Program,
}
