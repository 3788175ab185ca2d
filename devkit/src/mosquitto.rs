//! A mosquitto of one's own, as a process on this machine: set as people are told to set theirs, but for what a process of one's own needs.
//!
//! How mosquitto is to be set is not decided here: k8s/demonstration/mosquitto.conf says it, with the reasons.

use std::fs;
use std::io::{self, ErrorKind};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use rumqttc::{Event, Incoming, MqttOptions};

use crate::program::Program;
use crate::wait;

/// What people are told.
pub const CONFIGURATION: &str = include_str!("../../k8s/demonstration/mosquitto.conf");

/// Debian has it where only root looks for programs.
const PROGRAMS: [&str; 2] = ["mosquitto", "/usr/sbin/mosquitto"];

/// For it to read what it kept and listen, or to write what it keeps and end, while others keep the machine busy.
const LIMIT: Duration = Duration::from_secs(60);

/// Killed when dropped, and its files deleted.
pub struct Mosquitto {
    /// Its own: what it keeps, its configuration and its log.
    folder: PathBuf,
    port: u16,
    settings: Vec<(String, String)>,
    /// `None`: it was stopped or killed.
    program: Option<Program>,
}

impl Mosquitto {
    /// On a free port of all addresses, so that pods reach it too; with these settings, name and value, in the place of what people are
    /// told. Its files are in a folder of its own in `directory`.
    ///
    /// # Errors
    /// It is not installed, or what it says of its settings; or the folder cannot be made.
    pub fn start(directory: &Path, settings: &[(&str, &str)]) -> Result<Self, String> {
        let port = free_port()?;
        let folder = directory.join(format!("mosquitto-{}-{port}", std::process::id()));
        fs::create_dir(&folder).map_err(|error| format!("failed to make {}: {error}", folder.display()))?;
        let settings = settings.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let mut mosquitto = Self { folder, port, settings, program: None };
        mosquitto.restart()?;
        Ok(mosquitto)
    }

    /// Where it listens, or listened before it was stopped: on loopback.
    pub fn address(&self) -> SocketAddr {
        loopback(self.port)
    }

    /// As the system takes it down: what has reached it is kept.
    ///
    /// # Errors
    /// It does not end; it is killed then.
    pub fn stop(&mut self) -> Result<(), String> {
        let Some(mut program) = self.program.take() else { return Ok(()) };
        program.signal("TERM").map_err(|error| self.problem(&program, &format!("failed to stop: {error}")))?;
        program.wait(LIMIT).map(drop).ok_or_else(|| self.problem(&program, "does not end"))
    }

    /// Where it stands. What it has not written by then is lost, be it acknowledged.
    pub fn kill(&mut self) {
        self.program = None;
    }

    /// Listens at the same address again, with what it kept. It is killed first where it runs.
    ///
    /// # Errors
    /// As those of [`start`](Self::start); or somebody else took the port meanwhile.
    pub fn restart(&mut self) -> Result<(), String> {
        self.listen(self.port)
    }

    /// This client's session is gone; everything else that it kept is as it was. It is stopped when this returns.
    ///
    /// # Errors
    /// As those of [`restart`](Self::restart) and [`stop`](Self::stop); or it does not let the client in.
    pub fn forget_session(&mut self, client_id: &str) -> Result<(), String> {
        self.stop()?;
        // Where the client itself does not find it.
        let port = free_port()?;
        self.listen(port)?;
        let mut options = MqttOptions::new(client_id, Ipv4Addr::LOCALHOST.to_string(), port);
        // MQTT 3.1.1, 3.1.2.4: the session that was kept is discarded, and this one is not kept.
        options.set_clean_session(true);
        let (_client, mut connection) = rumqttc::Client::new(options, 1);
        match connection.recv() {
            Ok(Ok(Event::Incoming(Incoming::ConnAck(_)))) => self.stop(),
            other => Err(format!("mosquitto does not let {client_id} in: {other:?}")),
        }
    }

    /// Since the first start: who came, who left and why.
    pub fn log(&self) -> String {
        // There is none before its first line.
        fs::read_to_string(self.log_file()).unwrap_or_default()
    }

    /// Returns when it listens.
    fn listen(&mut self, port: u16) -> Result<(), String> {
        self.kill();
        let file = self.folder.join("mosquitto.conf");
        fs::write(&file, self.configuration(port)).map_err(|error| format!("failed to write {}: {error}", file.display()))?;
        let mut program = start_program(&file)?;
        let listens = wait::until(LIMIT, || match program.end() {
            Some(_) => Some(false),
            None => TcpStream::connect(loopback(port)).is_ok().then_some(true),
        });
        match listens {
            Some(true) => {
                self.program = Some(program);
                Ok(())
            }
            Some(false) => Err(self.problem(&program, "ended at once")),
            None => Err(self.problem(&program, "does not listen")),
        }
    }

    fn configuration(&self, port: u16) -> String {
        let own = [
            ("listener", format!("{port} {}", Ipv4Addr::UNSPECIFIED)),
            ("persistence_location", format!("{}/", self.folder.display())),
            ("log_dest", format!("file {}", self.log_file().display())),
            // Started by root it would become a user who may not write here.
            ("user", "root".to_owned()),
        ];
        let asked_for = self.settings.iter().map(|(name, value)| (name.as_str(), value.clone()));
        with_settings(CONFIGURATION, &own.into_iter().chain(asked_for).collect::<Vec<_>>())
    }

    fn log_file(&self) -> PathBuf {
        self.folder.join("log")
    }

    fn problem(&self, program: &Program, what: &str) -> String {
        format!("mosquitto {what}; it says: {}{}", program.output.read(|lines| lines.join("\n")), self.log())
    }
}

impl Drop for Mosquitto {
    fn drop(&mut self) {
        self.kill();
        // What is left there is in nobody's way.
        let _ = fs::remove_dir_all(&self.folder);
    }
}

fn start_program(configuration: &Path) -> Result<Program, String> {
    for program in PROGRAMS {
        match Program::start(Command::new(program).arg("-c").arg(configuration)) {
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            result => return result.map_err(|error| format!("{program} cannot be started: {error}")),
        }
    }
    Err("mosquitto is not installed: on Debian, apt-get install mosquitto".to_owned())
}

/// A setting may stand there once: mosquitto refuses some that come again.
fn with_settings(configuration: &str, settings: &[(&str, String)]) -> String {
    let is_kept = |line: &&str| !settings.iter().any(|(name, _)| line.split(' ').next() == Some(name));
    let kept = configuration.lines().filter(is_kept).map(str::to_owned);
    kept.chain(settings.iter().map(|(name, value)| format!("{name} {value}"))).map(|line| line + "\n").collect()
}

fn free_port() -> Result<u16, String> {
    let port = |listener: TcpListener| -> io::Result<u16> { Ok(listener.local_addr()?.port()) };
    TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0)).and_then(port).map_err(|error| format!("the system gives no port: {error}"))
}

fn loopback(port: u16) -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, port))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_setting_takes_the_place_of_its_namesake_and_the_others_stay() {
        let told = "listener 1883\n# A reason.\nallow_anonymous true\n\npersistence true\npersistence_location /data/\n";
        let settings = [("listener", "1884 0.0.0.0".to_owned()), ("persistence", "false".to_owned()), ("user", "root".to_owned())];
        let expected =
            "# A reason.\nallow_anonymous true\n\npersistence_location /data/\nlistener 1884 0.0.0.0\npersistence false\nuser root\n";
        assert_eq!(with_settings(told, &settings), expected);
    }
}
