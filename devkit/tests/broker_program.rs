//! The broker as a program: its arguments, its log, its end.

#![expect(clippy::unwrap_used, reason = "in a test a panic is the report")]

#[path = "broker/client.rs"]
mod client;
#[path = "broker/packets.rs"]
mod packets;

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::process::{Child, ChildStdout, Command, Stdio};

use devkit::program::Program;
use devkit::wait;

use client::{Client, PATIENCE};

const LISTENING: &str = "listening on ";

#[test]
fn it_listens_and_ends_on_sigterm_with_0() {
    let mut program = Program::start(Command::new(env!("CARGO_BIN_EXE_broker")).arg("127.0.0.1:0")).unwrap();
    let address = program.output.wait(PATIENCE, |lines| lines.first()?.strip_prefix(LISTENING)?.parse().ok());
    Client::clean(address.expect("it says where"), "client").quiet();
    program.signal("TERM").unwrap();
    assert_eq!(program.wait(PATIENCE).expect("it ends").code(), Some(0));
    // What it wrote last may still be on its way here.
    let is_said = |lines: &[String]| lines.iter().any(|line| line.starts_with("New client connected as client")).then_some(());
    assert!(program.output.wait(PATIENCE, is_said).is_some());
}

#[test]
fn a_log_that_nobody_reads_holds_up_neither_its_clients_nor_its_end() {
    let (mut program, address, _unread) = start_unread();
    // A line has its client's id, and a pipe takes 64 KiB.
    for letter in ["a", "b", "c", "d"] {
        Client::clean(address, &letter.repeat(60_000)).quiet();
    }
    Client::clean(address, "client").quiet();
    assert!(Command::new("kill").arg(program.0.id().to_string()).status().unwrap().success());
    let status = wait::until(PATIENCE, || program.0.try_wait().unwrap());
    assert_eq!(status.expect("it ends").code(), Some(0));
}

#[test]
fn it_says_how_it_is_used_and_what_it_does_not_take() {
    let run = |argument| Command::new(env!("CARGO_BIN_EXE_broker")).arg(argument).output().unwrap();
    let help = run("--help");
    assert!(help.status.success());
    assert!(String::from_utf8(help.stdout).unwrap().contains("Usage: broker [ADDRESS:PORT | --help]"));
    for wrong in ["--what", "1883"] {
        let refused = run(wrong);
        assert_eq!(refused.status.code(), Some(2));
        assert!(String::from_utf8(refused.stderr).unwrap().contains("Try broker --help."));
    }
}

/// Killed when dropped.
struct Unread(Child);

impl Drop for Unread {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Only its first line is read; the pipe stays open while the last of these lives.
fn start_unread() -> (Unread, SocketAddr, BufReader<ChildStdout>) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_broker"));
    let mut program = Unread(command.arg("127.0.0.1:0").stdout(Stdio::piped()).spawn().unwrap());
    let mut out = BufReader::new(program.0.stdout.take().unwrap());
    let mut line = String::new();
    out.read_line(&mut line).unwrap();
    let address = line.trim().strip_prefix(LISTENING).unwrap_or_else(|| panic!("it says {line:?}")).parse().unwrap();
    (program, address, out)
}
