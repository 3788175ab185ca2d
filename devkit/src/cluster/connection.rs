//! HTTP/1.1 over TLS: requests are read, answers and watches are written. What is answered, [`Cluster`](super::Cluster) decides.

use std::io::{self, BufWriter, ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};

use rustls::{ServerConnection, StreamOwned};

use super::server::Shared;
use super::{Answer, BODY_BYTES_MAX, Content, Reply, Request, Watch, WatchStep, dates};

/// What Go's server takes is more, and what is sent here is far less.
const HEAD_BYTES_MAX: usize = 64 * 1024;
const HEADERS_MAX: usize = 64;

/// Of a body that is too large anyway.
const BODY_BYTES_READ_MAX: usize = 4 * BODY_BYTES_MAX;

/// One client's.
pub(super) struct Connection<'a> {
    shared: &'a Shared,
    stream: StreamOwned<ServerConnection, TcpStream>,
    /// Read, and not yet looked at.
    pending: Vec<u8>,
    generation: u64,
}

/// A request's head.
struct Head {
    method: String,
    target: String,
    content_type: String,
    token: String,
    body_bytes: usize,
    /// The client does not use the connection again.
    closes: bool,
}

impl<'a> Connection<'a> {
    pub(super) fn new(shared: &'a Shared, stream: TcpStream, generation: u64) -> io::Result<Self> {
        stream.set_nodelay(true)?;
        let connection = ServerConnection::new(shared.tls.clone()).map_err(io::Error::other)?;
        Ok(Self { shared, stream: StreamOwned::new(connection, stream), pending: Vec::new(), generation })
    }

    pub(super) fn run(&mut self) -> io::Result<()> {
        while let Some(head) = self.read_head()? {
            let closes = head.closes || head.body_bytes > BODY_BYTES_MAX;
            // What is left unread when the connection closes may take the answer with it.
            let body = self.read_body(head.body_bytes.min(BODY_BYTES_READ_MAX))?;
            let request =
                Request { method: &head.method, target: &head.target, content_type: &head.content_type, token: &head.token, body: &body };
            let reply = {
                let mut state = self.shared.lock();
                if state.generation != self.generation {
                    return Ok(());
                }
                let now = self.shared.now();
                let reply = state.cluster.handle(&request, now);
                state.note(now, &format!("{} {} {}", head.method, head.target, outcome(&reply)));
                reply
            };
            self.shared.changed.notify_all();
            match reply {
                Reply::Answer(answer) => self.write_answer(&answer, closes)?,
                Reply::Watch(watch) => return self.write_watch(*watch),
                Reply::Lost => return Ok(()),
            }
            if closes {
                break;
            }
        }
        self.stream.conn.send_close_notify();
        self.stream.flush()
    }

    /// None where the client closed the connection.
    fn read_head(&mut self) -> io::Result<Option<Head>> {
        loop {
            if let Some((head, length)) = parse_head(&self.pending)? {
                self.pending.drain(..length);
                return Ok(Some(head));
            }
            if self.pending.len() > HEAD_BYTES_MAX {
                return Err(invalid("a head that is too long"));
            }
            if self.read_more()? == 0 {
                return Ok(None);
            }
        }
    }

    fn read_body(&mut self, length: usize) -> io::Result<Vec<u8>> {
        while self.pending.len() < length {
            if self.read_more()? == 0 {
                return Err(ErrorKind::UnexpectedEof.into());
            }
        }
        Ok(self.pending.drain(..length).collect())
    }

    /// For good, whoever else holds a handle of it.
    pub(super) fn close(&self) {
        // One that the client closed is not connected any more.
        let _ = self.stream.sock.shutdown(Shutdown::Both);
    }

    fn read_more(&mut self) -> io::Result<usize> {
        let mut chunk = [0; 16 * 1024];
        let count = loop {
            match self.stream.read(&mut chunk) {
                // A process that was stopped and goes on: signal(7) says so of sockets with a time limit.
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                read => break read?,
            }
        };
        self.pending.extend_from_slice(&chunk[..count]);
        Ok(count)
    }

    fn write_answer(&mut self, answer: &Answer, closes: bool) -> io::Result<()> {
        let (content_type, body) = match &answer.body {
            Content::None => ("", Vec::new()),
            Content::Json(value) => ("application/json", value.to_string().into_bytes()),
            Content::Text(bytes) => ("text/plain", bytes.clone()),
        };
        let mut head = self.head(answer.code, content_type);
        for warning in &answer.warnings {
            head += &format!("Warning: 299 - {}\r\n", serde_json::Value::from(warning.as_str()));
        }
        if let Some(seconds) = answer.retry_after_seconds {
            head += &format!("Retry-After: {seconds}\r\n");
        }
        if closes {
            head += "Connection: close\r\n";
        }
        // Those of this code have none, and say nothing of it.
        if answer.code != 204 {
            head += &format!("Content-Length: {}\r\n", body.len());
        }
        let mut writer = BufWriter::new(&mut self.stream);
        write!(writer, "{head}\r\n")?;
        writer.write_all(&body)?;
        writer.flush()
    }

    /// Until it ends, the client goes away, or the API is stopped.
    fn write_watch(&mut self, mut watch: Watch) -> io::Result<()> {
        let head = self.head(200, "application/json") + "Transfer-Encoding: chunked\r\n\r\n";
        self.stream.write_all(head.as_bytes())?;
        self.stream.flush()?;
        while let Some(event) = self.next_event(&mut watch) {
            let line = format!("{event}\n");
            write!(self.stream, "{:x}\r\n{line}\r\n", line.len())?;
            self.stream.flush()?;
        }
        if self.shared.lock().generation == self.generation {
            self.stream.write_all(b"0\r\n\r\n")?;
            self.stream.conn.send_close_notify();
            self.stream.flush()?;
        }
        Ok(())
    }

    fn next_event(&self, watch: &mut Watch) -> Option<serde_json::Value> {
        let mut state = self.shared.lock();
        while state.generation == self.generation {
            match state.cluster.poll_watch(watch, self.shared.now()) {
                WatchStep::Event(event) => return Some(event),
                WatchStep::End => return None,
                WatchStep::Wait(until) => state = self.shared.wait(state, Some(until)),
            }
        }
        None
    }

    /// Without the empty line that ends it.
    fn head(&self, code: u16, content_type: &str) -> String {
        let reason = ureq::http::StatusCode::from_u16(code).ok().and_then(|code| code.canonical_reason()).unwrap_or_default();
        let date = dates::http_date(self.shared.now());
        let mut head = format!("HTTP/1.1 {code} {reason}\r\nCache-Control: no-cache, private\r\nDate: {date}\r\n");
        if !content_type.is_empty() {
            head += &format!("Content-Type: {content_type}\r\n");
        }
        head
    }
}

/// For the log.
fn outcome(reply: &Reply) -> String {
    match reply {
        Reply::Answer(answer) => answer.code.to_string(),
        Reply::Watch(_) => "200".to_owned(),
        Reply::Lost => "has no answer, as asked".to_owned(),
    }
}

/// With its length in bytes; none where it is not whole yet.
fn parse_head(bytes: &[u8]) -> io::Result<Option<(Head, usize)>> {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let mut parsed = httparse::Request::new(&mut headers);
    let httparse::Status::Complete(length) = parsed.parse(bytes).map_err(invalid)? else { return Ok(None) };
    let header = |name: &str| {
        let header = parsed.headers.iter().find(|header| header.name.eq_ignore_ascii_case(name));
        header.and_then(|header| std::str::from_utf8(header.value).ok()).unwrap_or_default().trim()
    };
    if !header("Transfer-Encoding").is_empty() {
        return Err(invalid("a body in chunks"));
    }
    let length_text = header("Content-Length");
    let head = Head {
        method: parsed.method.unwrap_or_default().to_owned(),
        target: parsed.path.unwrap_or_default().to_owned(),
        content_type: header("Content-Type").to_owned(),
        token: header("Authorization").strip_prefix("Bearer ").unwrap_or_default().to_owned(),
        body_bytes: if length_text.is_empty() { 0 } else { length_text.parse().map_err(invalid)? },
        closes: header("Connection").eq_ignore_ascii_case("close"),
    };
    Ok(Some((head, length)))
}

fn invalid(problem: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> io::Error {
    io::Error::new(ErrorKind::InvalidData, problem)
}
