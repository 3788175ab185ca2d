//! The body of the thread `status`: answers `GET /livez` and `GET /readyz`, for the kubelet's probes and for people. It reads what others
//! publish, and judges the watch by its age. Nothing waits for it, and it changes nothing.
//!
//! - `/livez`: 200, or 503 with each thread that hangs or has ended. Only a new start mends that.
//! - `/readyz`: 200, or 503 with each reason why the service cannot do its work now. It goes on trying; a new start would not help.
//!
//! One thread has all clients and waits for none of them. With a thread for each there would be threads without number, or a few clients
//! that keep out all others by saying nothing.

use std::collections::BTreeMap;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use log::{error, info};
use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Token};

use crate::clock;
use crate::kube::WATCH_IDLE_TIME;
use crate::orchestrator::Readiness;
use crate::supervise::{Beat, Threads, lock};

/// One turn of the thread is at most [`CLIENTS_MAX`] small requests and answers.
pub const LIMIT: Duration = Duration::from_secs(10);

/// A watch that says nothing is given up after its idle time. That is said by then, and another one begins.
const WATCH_AGE_MAX: Duration = WATCH_IDLE_TIME.saturating_add(Duration::from_secs(30));

/// From its connection to the end of its request: longer than any probe waits for its answer.
const CLIENT_TIME: Duration = Duration::from_secs(5);
/// At once. One more and the oldest goes: a probe says all that it has to say as soon as it is connected.
const CLIENTS_MAX: usize = 64;
/// A probe sends about 100 bytes, a browser about 1 000.
const REQUEST_BYTES_MAX: usize = 4096;
const HEADERS_MAX: usize = 64;
/// Any socket takes so many lines at once, and 256 deployers may hang together.
const LINES_MAX: usize = 20;

const LISTENER: Token = Token(0);

/// Listens; answers when it runs.
pub struct Server {
    poll: Poll,
    listener: TcpListener,
    address: SocketAddr,
    /// In the order in which they came, and in which their time is over.
    clients: BTreeMap<Token, Client>,
    newest: Token,
    was_alive: bool,
}

struct Client {
    stream: TcpStream,
    received: Vec<u8>,
    until: Instant,
}

impl Server {
    /// Port 0 is any that is free. All of IPv6, `[::]`, takes IPv4 too, and is all of IPv4 on a machine without IPv6.
    ///
    /// # Errors
    /// The address is taken, or is not this machine's.
    pub fn bind(address: SocketAddr) -> io::Result<Self> {
        let mut listener = match TcpListener::bind(address) {
            Err(error) if address.ip() == Ipv6Addr::UNSPECIFIED && error.kind() != ErrorKind::AddrInUse => {
                TcpListener::bind(SocketAddr::from((Ipv4Addr::UNSPECIFIED, address.port())))?
            }
            bound => bound?,
        };
        let address = listener.local_addr()?;
        let poll = Poll::new()?;
        poll.registry().register(&mut listener, LISTENER, Interest::READABLE)?;
        Ok(Self { poll, listener, address, clients: BTreeMap::new(), newest: LISTENER, was_alive: true })
    }

    /// With the port that it has.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Returns only where the system does not say any more what is to be read.
    pub fn run(mut self, threads: &Threads, readiness: &Mutex<Readiness>, beat: &Beat) {
        let mut events = Events::with_capacity(CLIENTS_MAX + 1);
        let mut more_wait = false;
        loop {
            let oldest = self.clients.first_key_value();
            let left = oldest.map(|(_, client)| client.until.saturating_duration_since(clock::now().instant));
            let timeout = if more_wait { Some(Duration::ZERO) } else { left };
            match beat.wait(|| self.poll.poll(&mut events, timeout)) {
                Err(error) if error.kind() != ErrorKind::Interrupted => return error!("failed to wait for those who ask: {error}"),
                Ok(()) | Err(_) => {}
            }
            let now = clock::now().instant;
            // Before anybody is let in for whom one of these may have to go.
            for token in events.iter().map(|event| event.token()).filter(|&token| token != LISTENER) {
                self.serve(token, threads, readiness, now);
            }
            self.clients.retain(|_, client| now < client.until);
            more_wait = self.let_in(now);
        }
    }

    fn serve(&mut self, token: Token, threads: &Threads, readiness: &Mutex<Readiness>, now: Instant) {
        let Some(client) = self.clients.get_mut(&token) else { return };
        let question = match client.read() {
            Ok(None) => return,
            Ok(Some(question)) => question,
            Err(_) => {
                self.clients.remove(&token);
                return;
            }
        };
        let facts = *lock(readiness);
        let troubles = threads.troubles(now);
        let answer = match question {
            Question::Livez => health(&troubles),
            Question::Readyz => health(&not_ready(facts, now)),
            Question::Bad(status) => response(status, ""),
        };
        // What a new connection does not take at once, nobody waits for.
        let _ = client.stream.write_all(answer.as_bytes());
        self.clients.remove(&token);
        // After the answer, as the log itself may be what hangs.
        self.say(&troubles);
    }

    /// The kubelet's events say that a probe failed, and not why.
    fn say(&mut self, troubles: &[String]) {
        match (self.was_alive, troubles.is_empty()) {
            (true, false) => error!("Not alive: {}.", troubles.join("; ")),
            (false, true) => info!("Alive again."),
            (true, true) | (false, false) => {}
        }
        self.was_alive = troubles.is_empty();
    }

    /// True where there may be more. No more at once than there is room for: none of these goes before it was listened to.
    fn let_in(&mut self, now: Instant) -> bool {
        for _ in 0..CLIENTS_MAX {
            let mut stream = match self.listener.accept() {
                Ok((stream, _)) => stream,
                Err(error) if matches!(error.kind(), ErrorKind::Interrupted | ErrorKind::ConnectionAborted) => continue,
                // Nobody waits; or files are short, and the next one who comes wakes us again.
                Err(_) => return false,
            };
            self.newest = Token(self.newest.0 + 1);
            if self.poll.registry().register(&mut stream, self.newest, Interest::READABLE).is_ok() {
                self.clients.insert(self.newest, Client { stream, received: Vec::new(), until: now + CLIENT_TIME });
            }
            if self.clients.len() > CLIENTS_MAX {
                self.clients.pop_first();
            }
        }
        true
    }
}

impl Client {
    /// None while it has not said all.
    ///
    /// # Errors
    /// It has left.
    fn read(&mut self) -> io::Result<Option<Question>> {
        let mut bytes = [0; 1024];
        loop {
            match self.stream.read(&mut bytes) {
                Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
                Ok(count) => self.received.extend_from_slice(&bytes[..count]),
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(None),
                Err(error) => return Err(error),
            }
            let question = Question::parse(&self.received);
            if question.is_some() {
                return Ok(question);
            }
        }
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Question {
    Livez,
    Readyz,
    /// Answered by this status, and headers that it takes.
    Bad(&'static str),
}

impl Question {
    /// None where more has to come.
    fn parse(bytes: &[u8]) -> Option<Self> {
        let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
        let mut request = httparse::Request::new(&mut headers);
        Some(match request.parse(bytes) {
            Ok(httparse::Status::Complete(_)) => match (request.method, request.path.map(without_query)) {
                (Some("GET"), Some("/livez")) => Self::Livez,
                (Some("GET"), Some("/readyz")) => Self::Readyz,
                (_, Some("/livez" | "/readyz")) => Self::Bad("405 Method Not Allowed\r\nAllow: GET"),
                _ => Self::Bad("404 Not Found"),
            },
            Ok(httparse::Status::Partial) if bytes.len() < REQUEST_BYTES_MAX => return None,
            Ok(httparse::Status::Partial) | Err(httparse::Error::TooManyHeaders) => Self::Bad("431 Request Header Fields Too Large"),
            Err(_) => Self::Bad("400 Bad Request"),
        })
    }
}

fn without_query(path: &str) -> &str {
    path.split('?').next().unwrap_or_default()
}

/// Each reason why the service cannot do its work now.
fn not_ready(facts: Readiness, now: Instant) -> Vec<String> {
    let Readiness { broker_connected, pods_listed, watch_heard_at } = facts;
    let mut reasons = Vec::new();
    if !broker_connected {
        reasons.push("the broker: not connected and subscribed".to_owned());
    }
    if !pods_listed {
        reasons.push("the pods: their first list is not complete".to_owned());
    }
    match watch_heard_at.map(|at| now.saturating_duration_since(at)) {
        Some(age) if age > WATCH_AGE_MAX => {
            reasons.push(format!("the pods: their watch is silent for {} s, its limit is {} s", age.as_secs(), WATCH_AGE_MAX.as_secs()));
        }
        None if pods_listed => reasons.push("the pods: their watch has failed and is tried again".to_owned()),
        Some(_) | None => {}
    }
    reasons
}

fn health(problems: &[String]) -> String {
    if problems.is_empty() {
        return response("200 OK", "ok\n");
    }
    let mut text: String = problems.iter().take(LINES_MAX).map(|problem| format!("{problem}\n")).collect();
    if problems.len() > LINES_MAX {
        text.push_str(&format!("and {} more\n", problems.len() - LINES_MAX));
    }
    response("503 Service Unavailable", &text)
}

fn response(status: &str, text: &str) -> String {
    let length = text.len();
    format!("HTTP/1.1 {status}\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{text}")
}

#[cfg(test)]
mod tests {
    use std::net;
    use std::sync::Arc;

    use super::*;
    use crate::supervise::Supervisor;

    #[test]
    fn a_request_is_understood_once_it_is_complete() {
        const ROOM: usize = REQUEST_BYTES_MAX;
        let bad = |status| Some(Question::Bad(status));
        let (not_found, malformed) = (bad("404 Not Found"), bad("400 Bad Request"));
        let not_allowed = || bad("405 Method Not Allowed\r\nAllow: GET");
        let too_large = || bad("431 Request Header Fields Too Large");
        let kubelet =
            "GET /livez HTTP/1.1\r\nHost: 10.0.0.7:8080\r\nUser-Agent: kube-probe/1.34\r\nAccept: */*\r\nConnection: close\r\n\r\n";
        let many_headers = format!("GET /livez HTTP/1.1\r\n{}\r\n", "a: b\r\n".repeat(HEADERS_MAX + 1));
        #[rustfmt::skip]
        let cases = [
            ("as the kubelet asks", kubelet.to_owned(), Some(Question::Livez)),
            ("ready?", "GET /readyz HTTP/1.0\r\n\r\n".to_owned(), Some(Question::Readyz)),
            ("with a query", "GET /readyz?verbose HTTP/1.1\r\n\r\n".to_owned(), Some(Question::Readyz)),
            ("all but its last byte", kubelet[..kubelet.len() - 1].to_owned(), None),
            ("nothing", String::new(), None),
            ("another path", "GET /livez/ HTTP/1.1\r\n\r\n".to_owned(), not_found),
            ("another method", "POST /livez HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc".to_owned(), not_allowed()),
            ("only the head", "HEAD /readyz HTTP/1.1\r\n\r\n".to_owned(), not_allowed()),
            ("TLS", "\u{16}\u{3}\u{1}".to_owned(), malformed),
            ("a path one byte short of the limit", format!("GET /{}", "a".repeat(ROOM - 6)), None),
            ("a path at the limit", format!("GET /{}", "a".repeat(ROOM - 5)), too_large()),
            ("too many headers", many_headers, too_large()),
        ];
        for (phrase, text, expected) in cases {
            assert_eq!(Question::parse(text.as_bytes()), expected, "{phrase}");
        }
    }

    #[test]
    fn it_is_ready_when_broker_list_and_watch_are_there() {
        let now = clock::now().instant + 10 * WATCH_AGE_MAX;
        let ready = Readiness { broker_connected: true, pods_listed: true, watch_heard_at: Some(now - WATCH_AGE_MAX) };
        let silent = now - WATCH_AGE_MAX - Duration::from_secs(1);
        let broker = "the broker: not connected and subscribed";
        let cases: &[(&str, Readiness, &[&str])] = &[
            ("all is well, the watch is just young enough", ready, &[]),
            ("at the start", Readiness::default(), &[broker, "the pods: their first list is not complete"]),
            ("no broker", Readiness { broker_connected: false, ..ready }, &[broker]),
            ("a first list that goes on", Readiness { pods_listed: false, ..ready }, &["the pods: their first list is not complete"]),
            ("no watch", Readiness { watch_heard_at: None, ..ready }, &["the pods: their watch has failed and is tried again"]),
            (
                "a silent watch",
                Readiness { watch_heard_at: Some(silent), ..ready },
                &["the pods: their watch is silent for 121 s, its limit is 120 s"],
            ),
        ];
        for (phrase, facts, expected) in cases {
            assert_eq!(not_ready(*facts, now), *expected, "{phrase}");
        }
    }

    #[test]
    fn what_is_wrong_is_said_in_as_many_lines_as_a_socket_takes() {
        let problems: Vec<String> = (0..LINES_MAX + 3).map(|number| format!("thread deployer-{number} hangs")).collect();
        let answer = health(&problems);
        assert!(answer.starts_with("HTTP/1.1 503 ") && answer.ends_with("\nthread deployer-19 hangs\nand 3 more\n"), "{answer}");
    }

    /// Says `GET path` to it, and gives the answer.
    fn ask(address: SocketAddr, path: &str) -> String {
        let mut stream = net::TcpStream::connect(address).unwrap();
        write!(stream, "GET {path} HTTP/1.1\r\n\r\n").unwrap();
        io::read_to_string(stream).unwrap()
    }

    fn serve(server: Server, supervisor: &Supervisor) {
        let (threads, readiness) = (supervisor.threads(), Arc::<Mutex<Readiness>>::default());
        supervisor.spawn("status", LIMIT, move |beat| server.run(&threads, &readiness, beat)).unwrap();
    }

    #[test]
    fn a_kubelet_with_ipv4_addresses_is_answered_where_all_of_ipv6_is_listened_at() {
        let (supervisor, _ends) = Supervisor::new();
        let server = Server::bind(SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0))).unwrap();
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, server.address().port()));
        serve(server, &supervisor);
        assert!(ask(address, "/livez").starts_with("HTTP/1.1 200 OK\r\n"));
    }

    #[test]
    fn a_thread_that_hangs_is_named_by_livez_until_it_goes_on() {
        let (supervisor, _ends) = Supervisor::new();
        let server = Server::bind(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
        let address = server.address();
        serve(server, &supervisor);
        let get = |path: &str| ask(address, path);
        let alive = |answer: &str| answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.ends_with("\r\n\r\nok\n");
        let answer = get("/livez");
        assert!(alive(&answer), "{answer}");

        let (go_on, stuck) = crossbeam_channel::bounded::<()>(0);
        let body = move |beat: &Beat| {
            stuck.recv().unwrap();
            beat.wait(|| stuck.recv()).unwrap();
        };
        supervisor.spawn("pods", Duration::ZERO, body).unwrap();
        let answer = get("/livez");
        assert!(answer.starts_with("HTTP/1.1 503 Service Unavailable\r\n"), "{answer}");
        assert!(answer.contains("thread pods hangs: it is at one thing for ") && answer.ends_with(" s, its limit is 0 s\n"), "{answer}");
        assert!(get("/readyz").contains("the broker: not connected"), "that is another question");

        go_on.send(()).unwrap();
        while !alive(&get("/livez")) {}
        go_on.send(()).unwrap();
        while !get("/livez").contains("thread pods has ended\n") {}
    }
}
