//! Local processes as containers: started, heard and ended as the cluster asks for it. It decides nothing.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::{self, PipeReader, Read};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use log::warn;

use super::{ContainerId, ContainerStart, Signal};

/// For what a group wrote before its end to be read. Only a process that left the group, as a daemon does, keeps the output open for
/// longer.
const OUTPUT_LIMIT: Duration = Duration::from_secs(2);

/// By the name that pods have for it.
pub type Images = BTreeMap<String, Image>;

/// A program of this machine that stands for an image. A pod's `command` is run instead of both, its `args` instead of the arguments.
#[derive(Clone, Debug)]
pub struct Image {
    pub program: PathBuf,
    pub arguments: Vec<String>,
}

impl Image {
    /// Without arguments.
    pub fn of(program: impl Into<PathBuf>) -> Self {
        Self { program: program.into(), arguments: Vec::new() }
    }
}

/// What a process does.
pub(super) enum Output {
    Wrote(Vec<u8>),
    /// 128 + n where signal n ended it.
    Ended(i32),
}

/// Without what this process's own environment says, but for `PATH`.
///
/// What a process starts is in its group, and ends with it.
///
/// # Errors
/// There is no such program, or no more processes: in the words of a container runtime.
pub(super) fn start(start: &ContainerStart, image: &Image, report: impl Fn(Output) + Clone + Send + 'static) -> Result<Process, String> {
    let argv: Vec<OsString> = match start.command.as_slice() {
        [] => {
            let arguments = if start.args.is_empty() { &image.arguments } else { &start.args };
            [image.program.clone().into_os_string()].into_iter().chain(arguments.iter().map(OsString::from)).collect()
        }
        command => command.iter().chain(&start.args).map(OsString::from).collect(),
    };
    spawn(start, &argv, report).map_err(|error| start_error(&argv[0].to_string_lossy(), &error))
}

fn spawn(start: &ContainerStart, argv: &[OsString], report: impl Fn(Output) + Clone + Send + 'static) -> io::Result<Process> {
    let (output, input) = io::pipe()?;
    let mut command = Command::new(&argv[0]);
    command.args(&argv[1..]).env_clear().stdin(Stdio::null()).stdout(input.try_clone()?).stderr(input).env("HOSTNAME", &start.hostname);
    if let Some(path) = std::env::var_os("PATH") {
        command.env("PATH", path);
    }
    command.envs(start.env.iter().map(|(name, value)| (name, value))).process_group(0);

    // The threads come first, so that there is no process that nobody hears or waits for.
    let (said_all, has_said_all) = crossbeam_channel::bounded(1);
    let read = {
        let report = report.clone();
        move || {
            read_output(output, report);
            // Nobody waits for it where the process has left its output to another.
            let _ = said_all.send(());
        }
    };
    thread::Builder::new().name(format!("output of {}", start.hostname)).spawn(read)?;
    let (hand_over, handed_over) = crossbeam_channel::bounded::<(Child, Process)>(1);
    let wait = move || {
        // Nothing comes where there was no such program.
        let Ok((mut child, process)) = handed_over.recv() else { return };
        let status = child.wait();
        process.end();
        if has_said_all.recv_timeout(OUTPUT_LIMIT).is_err() {
            warn!("a process outside of group {} keeps its output open", process.group);
        }
        report(Output::Ended(exit_code(status)));
    };
    thread::Builder::new().name(format!("container {}", start.hostname)).spawn(wait)?;

    // With `command` goes our end of the pipe, which would never close.
    let child = command.spawn()?;
    let process = Process { group: child.id(), has_ended: Arc::default() };
    hand_over.send((child, process.clone())).expect("the thread waits for it");
    Ok(process)
}

/// The body of a thread.
fn read_output(mut output: PipeReader, report: impl Fn(Output)) {
    let mut chunk = [0; 16 * 1024];
    loop {
        match output.read(&mut chunk) {
            Ok(count @ 1..) => report(Output::Wrote(chunk[..count].to_vec())),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Ok(0) | Err(_) => return,
        }
    }
}

/// In the words of containerd and runc.
fn start_error(program: &str, error: &io::Error) -> String {
    let why = match error.kind() {
        io::ErrorKind::NotFound if program.starts_with('/') => format!("stat {program}: no such file or directory"),
        io::ErrorKind::NotFound => "executable file not found in $PATH".to_owned(),
        io::ErrorKind::PermissionDenied => "permission denied".to_owned(),
        _ => error.to_string(),
    };
    format!(
        "failed to create containerd task: failed to create shim task: OCI runtime create failed: runc create failed: \
         unable to start container process: exec: {program:?}: {why}: unknown"
    )
}

/// The process of a container and all that it starts: one group, whose number is the first one's.
#[derive(Clone)]
pub(super) struct Process {
    pub(super) group: u32,
    /// Held while a signal is sent, so that none is sent to a number that may be another's.
    has_ended: Arc<Mutex<bool>>,
}

impl Process {
    /// To the whole group; to none that has ended. It is on its way when this returns: whoever asks holds the cluster meanwhile.
    pub(super) fn signal(&self, signal: Signal) {
        let process = self.clone();
        let send_if_it_runs = move || {
            let has_ended = process.lock();
            if !*has_ended {
                send(signal, process.group);
            }
        };
        if let Err(error) = thread::Builder::new().name("signal".to_owned()).spawn(send_if_it_runs) {
            warn!("failed to send SIG{} to the process group {}: {error}", signal.name(), self.group);
        }
    }

    /// When the first process has ended: what it leaves behind ends as well, as with process 1 of a PID namespace. As long as there is any
    /// of it, the number is nobody else's.
    fn end(&self) {
        let mut has_ended = self.lock();
        send(Signal::Kill, self.group);
        *has_ended = true;
    }

    fn lock(&self) -> MutexGuard<'_, bool> {
        self.has_ended.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The standard library sends SIGKILL alone, and to one process; unsafe code is not for a test's cluster.
fn send(signal: Signal, group: u32) {
    let name = signal.name();
    let mut kill = Command::new("sh");
    kill.args(["-c", r#"kill -s "$0" -- "-$1""#, name, &group.to_string()]);
    // That nothing is left in the group is no news.
    if let Err(error) = kill.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status() {
        warn!("failed to send SIG{name} to the process group {group}: {error}");
    }
}

fn exit_code(status: io::Result<ExitStatus>) -> i32 {
    const UNKNOWN: i32 = 255;
    let Ok(status) = status else { return UNKNOWN };
    status.code().or_else(|| status.signal().map(|signal| 128 + signal)).unwrap_or(UNKNOWN)
}

/// All that run.
#[derive(Default)]
pub(super) struct Processes {
    running: BTreeMap<ContainerId, Process>,
}

impl Processes {
    pub(super) fn insert(&mut self, id: ContainerId, process: Process) {
        self.running.insert(id, process);
    }

    pub(super) fn get(&self, id: &ContainerId) -> Option<&Process> {
        self.running.get(id)
    }

    pub(super) fn remove(&mut self, id: &ContainerId) -> Option<Process> {
        self.running.remove(id)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.running.is_empty()
    }

    pub(super) fn kill_all(&self) {
        for process in self.running.values() {
            process.signal(Signal::Kill);
        }
    }
}
