//! `/livez` and `/readyz` of the whole service, as the kubelet asks them; and those who ask in bad faith. On devkit's ground alone, as a
//! broker and an API server go away here.

mod support;

use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use support::service::Service;
use support::stage::Stage;
use support::{Ground, LIMIT, eventually};

const NO_BROKER: &str = "the broker: not connected and subscribed\n";
const NO_LIST: &str = "the pods: their first list is not complete\n";
const NO_WATCH: &str = "the pods: their watch has failed and is tried again\n";

/// The service, and where it says how it is.
fn start(stage: &Stage) -> (Service, SocketAddr) {
    let mut settings = stage.settings();
    settings.insert("STATUS_ADDRESS".to_owned(), "127.0.0.1:0".to_owned());
    let mso = Service::launch(&settings);
    let line = mso.line("/livez and /readyz are answered at");
    let address = line.rsplit(' ').next().and_then(|address| address.parse().ok());
    (mso, address.unwrap_or_else(|| panic!("there is no address in {line:?}")))
}

fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).expect("it listens");
    stream.set_read_timeout(Some(LIMIT)).expect("the limit is not zero");
    stream
}

/// Code and text.
fn get(address: SocketAddr, path: &str) -> (u16, String) {
    let mut stream = connect(address);
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {address}\r\nUser-Agent: kube-probe/1.34\r\nAccept: */*\r\nConnection: close\r\n\r\n")
        .expect("it listens");
    let answer = io::read_to_string(stream).unwrap_or_else(|error| panic!("no answer to {path}: {error}"));
    let (head, text) = answer.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no answer to {path}: {answer:?}"));
    let code = head.split(' ').nth(1).and_then(|code| code.parse().ok()).unwrap_or_else(|| panic!("no code: {head}"));
    assert!(head.contains(&format!("Content-Length: {}", text.len())), "{head}");
    (code, text.to_owned())
}

fn assert_alive(address: SocketAddr) {
    assert_eq!(get(address, "/livez"), (200, "ok\n".to_owned()));
}

fn wait_until_ready(address: SocketAddr) {
    eventually("the service to be ready", || (get(address, "/readyz") == (200, "ok\n".to_owned())).then_some(()));
}

fn wait_until_not_ready(address: SocketAddr, reasons: &str) {
    eventually(reasons, || (get(address, "/readyz") == (503, reasons.to_owned())).then_some(()));
}

#[test]
fn it_is_ready_while_broker_and_api_are_there_and_alive_without_them() {
    let stage = Stage::on(Ground::Devkit);
    stage.broker.kill();
    stage.namespace.server().stop();
    let (_mso, address) = start(&stage);
    wait_until_not_ready(address, &format!("{NO_BROKER}{NO_LIST}"));
    assert_alive(address);
    stage.namespace.server().restart().expect("its port is free");
    wait_until_not_ready(address, NO_BROKER);
    stage.broker.start();
    wait_until_ready(address);

    stage.broker.kill();
    wait_until_not_ready(address, NO_BROKER);
    assert_alive(address);
    stage.broker.start();
    wait_until_ready(address);

    stage.namespace.server().stop();
    wait_until_not_ready(address, NO_WATCH);
    assert_alive(address);
    stage.namespace.server().restart().expect("its port is free");
    wait_until_ready(address);
    assert_eq!(get(address, "/").0, 404);
}

#[test]
fn a_hundred_clients_that_say_nothing_keep_nobody_waiting() {
    let stage = Stage::on(Ground::Devkit);
    let (_mso, address) = start(&stage);
    let silent: Vec<TcpStream> = (0..100).map(|_| connect(address)).collect();
    assert_alive(address);
    wait_until_ready(address);
    drop(silent);
    assert_alive(address);
}

#[test]
fn a_client_that_says_one_byte_after_another_is_closed_when_its_time_is_over() {
    let stage = Stage::on(Ground::Devkit);
    let (_mso, address) = start(&stage);
    let mut slow = connect(address);
    slow.set_read_timeout(Some(Duration::from_millis(200))).expect("the limit is not zero");
    eventually("the connection to be closed", || {
        let written = slow.write(b"G");
        match (written, slow.read(&mut [0])) {
            (Ok(_), Err(error)) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted) => {
                assert_alive(address);
                None
            }
            (_, Ok(count)) => {
                assert_eq!(count, 0, "it has not asked for anything yet");
                Some(())
            }
            (_, Err(_)) => Some(()),
        }
    });
    assert_alive(address);
}

#[test]
fn a_request_of_a_megabyte_is_not_taken() {
    let stage = Stage::on(Ground::Devkit);
    let (mso, address) = start(&stage);
    let before = mso.memory_kb("VmHWM");
    for _ in 0..20 {
        let mut stream = connect(address);
        // It is closed before all of this is read; what the answer is then, the network may have thrown away.
        let _ = stream.write_all(&[b'A'; 1_000_000]);
        let mut answer = String::new();
        let _ = stream.read_to_string(&mut answer);
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 4"), "{answer}");
    }
    let grown = mso.memory_kb("VmHWM") - before;
    assert!(grown < 8_000, "it has grown by {grown} kB");
    assert_alive(address);
}
