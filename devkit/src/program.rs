//! A program that runs beside us, and what it writes; and how one of the workspace is built.

use std::io::{self, BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use crate::feed::Feed;
use crate::wait;

/// Builds one of the workspace's programs, in the profile that this one has.
///
/// # Errors
/// What cargo says, or that it is not there.
pub fn build(package: &str, program: &str) -> Result<PathBuf, String> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR")).with_file_name("Cargo.toml");
    let mut command = Command::new(cargo);
    command.args(["build", "--quiet", "--message-format=json-render-diagnostics", "--package", package, "--bin", program]);
    command.arg("--manifest-path").arg(manifest).stderr(Stdio::inherit());
    // Those of the package that cargo runs us for; some build scripts run again where they have changed.
    for (name, _) in std::env::vars_os() {
        if ["CARGO_MANIFEST_", "CARGO_PKG_"].iter().any(|prefix| name.to_string_lossy().starts_with(prefix)) {
            command.env_remove(name);
        }
    }
    if !cfg!(debug_assertions) {
        command.arg("--release");
    }
    let output = command.output().map_err(|error| format!("cargo: {error}"))?;
    // A message a line: https://doc.rust-lang.org/cargo/reference/external-tools.html#json-messages
    let path_in = |line: &str| {
        let message: serde_json::Value = serde_json::from_str(line).ok()?;
        let is_this = message["reason"] == "compiler-artifact" && message["target"]["name"] == program;
        Some(PathBuf::from(message["executable"].as_str().filter(|_| is_this)?))
    };
    match String::from_utf8_lossy(&output.stdout).lines().find_map(path_in) {
        Some(path) if output.status.success() => Ok(path),
        _ => Err(format!("cargo build: {}", output.status)),
    }
}

/// Killed when dropped.
pub struct Program {
    process: Child,
    /// Standard output and standard error, line by line. Bytes that are no text are replaced.
    pub output: Arc<Feed<String>>,
}

impl Program {
    /// # Errors
    /// The program cannot be started, or the system gives no more threads.
    pub fn start(command: &mut Command) -> io::Result<Self> {
        let mut process = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
        let output = Arc::<Feed<String>>::default();
        let pipes: [Option<Box<dyn Read + Send>>; 2] =
            [process.stdout.take().map(|pipe| Box::new(pipe) as _), process.stderr.take().map(|pipe| Box::new(pipe) as _)];
        let program = Self { process, output };
        for pipe in pipes.into_iter().flatten() {
            let output = program.output.clone();
            thread::Builder::new().name("output".to_owned()).spawn(move || {
                for line in BufReader::new(pipe).split(b'\n').map_while(Result::ok) {
                    output.push(String::from_utf8_lossy(&line).into_owned());
                }
            })?;
        }
        Ok(program)
    }

    pub fn id(&self) -> u32 {
        self.process.id()
    }

    /// How it ended, if it has.
    pub fn end(&mut self) -> Option<ExitStatus> {
        self.process.try_wait().expect("it is our child")
    }

    /// `None`: it did not end within `limit`.
    pub fn wait(&mut self, limit: Duration) -> Option<ExitStatus> {
        wait::until(limit, || self.end())
    }

    /// As `kill -SIGNAL` does it: `TERM`, `INT`, `KILL`.
    ///
    /// # Errors
    /// The process has ended, or there is no such signal.
    pub fn signal(&self, signal: &str) -> io::Result<()> {
        // The standard library sends SIGKILL alone.
        let sent = Command::new("sh").args(["-c", "kill \"$1\" \"$2\"", "kill", &format!("-{signal}"), &self.id().to_string()]).status()?;
        if sent.success() { Ok(()) } else { Err(io::Error::other(format!("kill -{signal} did not reach process {}", self.id()))) }
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
