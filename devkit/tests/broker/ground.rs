//! What a case is played on: our broker, or a mosquitto.

use std::net::SocketAddr;
use std::path::Path;

use devkit::broker::Server;
use devkit::mosquitto::Mosquitto;
use devkit::wait;

use crate::client::PATIENCE;

pub(crate) enum Ground {
    Ours(Server),
    Mosquitto(Mosquitto),
}

impl Ground {
    pub(crate) fn ours() -> Self {
        Self::Ours(Server::start().unwrap())
    }

    pub(crate) fn mosquitto() -> Self {
        // Ours passes what is larger than people are told to let pass: the service's limit is to be tried too.
        let settings = [("message_size_limit", "0")];
        Self::Mosquitto(Mosquitto::start(Path::new(env!("CARGO_TARGET_TMPDIR")), &settings).unwrap())
    }

    pub(crate) fn address(&self) -> SocketAddr {
        match self {
            Self::Ours(server) => server.address(),
            Self::Mosquitto(mosquitto) => mosquitto.address(),
        }
    }

    /// The broker has seen that this client is gone, which it does at its own time.
    pub(crate) fn wait_until_gone(&self, client_id: &str) {
        let line = format!("Client {client_id} closed its connection.");
        let is_gone = wait::until(PATIENCE, || self.log().contains(&line).then_some(()));
        assert!(is_gone.is_some(), "{client_id} is not gone:\n{}", self.log());
    }

    fn log(&self) -> String {
        match self {
            Self::Ours(server) => server.log().join("\n"),
            Self::Mosquitto(mosquitto) => mosquitto.log(),
        }
    }

    pub(crate) fn stop(&mut self) {
        match self {
            Self::Ours(server) => server.stop(),
            Self::Mosquitto(mosquitto) => mosquitto.stop().unwrap(),
        }
    }

    /// Ours is stopped in order here too. Mosquitto has written what it answered to one client when it answers the next.
    pub(crate) fn kill(&mut self) {
        match self {
            Self::Ours(server) => server.stop(),
            Self::Mosquitto(mosquitto) => mosquitto.kill(),
        }
    }

    pub(crate) fn restart(&mut self) {
        match self {
            Self::Ours(server) => server.restart().unwrap(),
            Self::Mosquitto(mosquitto) => mosquitto.restart().unwrap(),
        }
    }
}
