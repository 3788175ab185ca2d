//! The service as a kubelet keeps it: started again whenever it has ended. What all of its processes say is one file.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use mso::clock;

use crate::schedule::{Fault, Step};
use crate::support::service::Settings;
use crate::support::unique;

/// Between two looks at whether it runs.
const LOOK: Duration = Duration::from_millis(50);

/// Before one that ended by itself is started again.
const BACK_OFF: Duration = Duration::from_secs(1);

pub(crate) struct Process {
    settings: Settings,
    log: PathBuf,
    output: File,
    child: Child,
    /// How each ended that ended by itself.
    ends: Vec<String>,
}

impl Process {
    pub(crate) fn start(settings: Settings) -> Self {
        let log = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("chaos-{}.log", unique()));
        let output = File::create(&log).expect("the log can be made");
        let child = launch(&settings, &output);
        Self { settings, log, output, child, ends: Vec::new() }
    }

    pub(crate) fn log(&self) -> &Path {
        &self.log
    }

    /// Plays the service's lane, and keeps it running until all is over. How each ended that ended by itself.
    pub(crate) fn play(mut self, lane: &[Step], begin: Instant, is_over: &AtomicBool) -> Vec<String> {
        for step in lane {
            while clock::now().instant < begin + step.at && !is_over.load(Ordering::Relaxed) {
                self.look();
            }
            match step.fault {
                Fault::ServiceKilled => {
                    self.kill();
                    thread::sleep(step.lasts);
                    self.child = launch(&self.settings, &self.output);
                }
                Fault::ServiceStopped => {
                    self.signal("STOP");
                    thread::sleep(step.lasts);
                    self.signal("CONT");
                }
                other => panic!("{other} is not the service's"),
            }
        }
        while !is_over.load(Ordering::Relaxed) {
            self.look();
        }
        std::mem::take(&mut self.ends)
    }

    fn look(&mut self) {
        thread::sleep(LOOK);
        let Some(status) = self.child.try_wait().expect("it is our child") else { return };
        self.ends.push(format!("{status} at {:.3}", clock::now().unix.0));
        thread::sleep(BACK_OFF);
        self.child = launch(&self.settings, &self.output);
    }

    fn kill(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// One that has ended by itself a moment ago takes none.
    fn signal(&self, signal: &str) {
        let _ = Command::new("sh").args(["-c", "kill \"$1\" \"$2\"", "kill", &format!("-{signal}"), &self.child.id().to_string()]).status();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

fn launch(settings: &Settings, output: &File) -> Child {
    let output = || output.try_clone().expect("the system has one more descriptor");
    let mut command = Command::new(env!("CARGO_BIN_EXE_mso"));
    command.env_clear().envs(settings).current_dir(env!("CARGO_TARGET_TMPDIR"));
    command.stdin(Stdio::null()).stdout(output()).stderr(output()).spawn().expect("the service can be started")
}
