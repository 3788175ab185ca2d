//! A raw client of any Kubernetes API: paths and JSON in, code and JSON out. It knows no resource, retries nothing and decides nothing.
//!
//! For whoever plays the administrator, on a real cluster and on the simulated one with the same code.

use std::fmt;
use std::io::{self, BufRead, BufReader, Read};
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use ureq::http::{self, HeaderMap, header};
use ureq::tls::{Certificate, PemItem, RootCerts, TlsConfig, parse_pem};
use ureq::{Agent, Body};

/// TCP and TLS.
const CONNECT_TIME: Duration = Duration::from_secs(10);
const SEND_TIME: Duration = Duration::from_secs(30);
const ANSWER_TIME: Duration = Duration::from_secs(60);
const BODY_TIME: Duration = Duration::from_secs(60);

/// An API server sends a bookmark each minute where it was asked to.
const WATCH_IDLE_TIME: Duration = Duration::from_secs(90);

/// A list of ten thousand pods is some 50 MB.
const BODY_BYTES_MAX: u64 = 1024 * 1024 * 1024;

/// For the threads of one test.
const CONNECTIONS_MAX: usize = 16;

/// One API server, and how to be let in. For any number of threads.
#[derive(Clone)]
pub struct Api {
    /// `https://host:port`
    address: String,
    token: String,
    tls: TlsConfig,
    agent: Agent,
}

/// What the API server said, whatever it said: also a refusal is an answer.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The HTTP status code.
    pub code: u16,
    /// A log, and what is no JSON, is a string. Null where there is none.
    pub body: Value,
    pub headers: HeaderMap,
}

impl Answer {
    /// A header's value, empty where it is not there.
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }
}

/// No whole answer came. What was asked may have been done.
#[derive(Debug)]
pub struct Lost(String);

impl fmt::Display for Lost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "no answer: {}", self.0)
    }
}

impl std::error::Error for Lost {}

impl Api {
    /// Connects to nothing yet. `address` is `https://host:port`. Without a CA (PEM) no certificate is verified.
    ///
    /// # Errors
    /// The CA is no PEM, or holds no certificate.
    pub fn new(address: &str, ca_pem: Option<&str>, token: &str) -> Result<Self, String> {
        let builder = TlsConfig::builder().unversioned_rustls_crypto_provider(Arc::new(rustls::crypto::ring::default_provider()));
        let tls = match ca_pem {
            Some(pem) => builder.root_certs(RootCerts::from(certificates(pem)?)).build(),
            None => builder.disable_verification(true).build(),
        };
        let agent = agent(&tls, Some(BODY_TIME), None);
        Ok(Self { address: address.trim_end_matches('/').to_owned(), token: token.trim().to_owned(), tls, agent })
    }

    /// The same API server for another bearer of a token; an empty one is none.
    #[must_use]
    pub fn with_token(&self, token: &str) -> Self {
        Self { address: self.address.clone(), token: token.trim().to_owned(), tls: self.tls.clone(), agent: self.agent.clone() }
    }

    /// # Errors
    /// No whole answer came.
    pub fn get(&self, path: &str) -> Result<Answer, Lost> {
        self.send("GET", path, "", &[])
    }

    /// # Errors
    /// No whole answer came.
    pub fn post(&self, path: &str, body: &Value) -> Result<Answer, Lost> {
        self.send("POST", path, "application/json", body.to_string().as_bytes())
    }

    /// A merge patch: null removes.
    ///
    /// # Errors
    /// No whole answer came.
    pub fn patch(&self, path: &str, body: &Value) -> Result<Answer, Lost> {
        self.send("PATCH", path, "application/merge-patch+json", body.to_string().as_bytes())
    }

    /// With `DeleteOptions` as its body; none where it is null.
    ///
    /// # Errors
    /// No whole answer came.
    pub fn delete(&self, path: &str, options: &Value) -> Result<Answer, Lost> {
        if options.is_null() {
            return self.send("DELETE", path, "", &[]);
        }
        self.send("DELETE", path, "application/json", options.to_string().as_bytes())
    }

    /// Any request. Without a content type there is no body.
    ///
    /// # Errors
    /// No whole answer came.
    pub fn send(&self, method: &str, path: &str, content_type: &str, body: &[u8]) -> Result<Answer, Lost> {
        let response = self.run(&self.agent, method, path, content_type, body)?;
        let (parts, body) = response.into_parts();
        let bytes = body.into_with_config().limit(BODY_BYTES_MAX).read_to_vec().map_err(|error| self.lost(error))?;
        let is_json = parts.headers.get(header::CONTENT_TYPE).is_some_and(|value| value.as_bytes().starts_with(b"application/json"));
        let body = match serde_json::from_slice(&bytes) {
            Ok(value) if is_json => value,
            _ if bytes.is_empty() => Value::Null,
            _ => Value::String(String::from_utf8_lossy(&bytes).into_owned()),
        };
        Ok(Answer { code: parts.status.as_u16(), body, headers: parts.headers })
    }

    /// A list's path with `watch=true`: the events, as they come. It ends where the server ends it.
    ///
    /// # Errors
    /// No answer came. A refusal is a watch with a code of its own, whose only line is the `Status`.
    pub fn watch(&self, path: &str) -> Result<Watch, Lost> {
        // Of its own: a watch keeps its connection.
        let agent = agent(&self.tls, None, Some(WATCH_IDLE_TIME));
        let response = self.run(&agent, "GET", path, "", &[])?;
        let code = response.status().as_u16();
        Ok(Watch { code, lines: BufReader::new(Box::new(response.into_body().into_reader())) })
    }

    fn run(&self, agent: &Agent, method: &str, path: &str, content_type: &str, body: &[u8]) -> Result<http::Response<Body>, Lost> {
        let mut builder = http::Request::builder().method(method).uri(format!("{}{path}", self.address));
        if !self.token.is_empty() {
            builder = builder.header(header::AUTHORIZATION, format!("Bearer {}", self.token));
        }
        let result = if content_type.is_empty() {
            builder.body(()).map_err(ureq::Error::from).and_then(|request| agent.run(request))
        } else {
            let builder = builder.header(header::CONTENT_TYPE, content_type);
            builder.body(body).map_err(ureq::Error::from).and_then(|request| agent.run(request))
        };
        result.map_err(|error| self.lost(error))
    }

    fn lost(&self, error: impl fmt::Display) -> Lost {
        Lost(format!("{}: {error}", self.address))
    }
}

/// Lines of JSON: `{"type": …, "object": …}`.
pub struct Watch {
    /// The HTTP status code.
    pub code: u16,
    lines: BufReader<Box<dyn Read + Send>>,
}

impl Iterator for Watch {
    type Item = io::Result<Value>;

    fn next(&mut self) -> Option<Self::Item> {
        let mut line = String::new();
        match self.lines.read_line(&mut line) {
            Ok(0) => None,
            Ok(_) => Some(serde_json::from_str(&line).map_err(io::Error::from)),
            Err(error) => Some(Err(error)),
        }
    }
}

fn agent(tls: &TlsConfig, body_time: Option<Duration>, idle_time: Option<Duration>) -> Agent {
    Agent::config_builder()
        .http_status_as_error(false)
        .max_redirects(0)
        // HTTPS_PROXY is not for us.
        .proxy(None)
        .tls_config(tls.clone())
        .max_idle_connections(CONNECTIONS_MAX)
        .max_idle_connections_per_host(CONNECTIONS_MAX)
        .timeout_connect(Some(CONNECT_TIME))
        .timeout_send_request(Some(SEND_TIME))
        .timeout_send_body(Some(SEND_TIME))
        .timeout_recv_response(Some(ANSWER_TIME))
        .timeout_recv_body(body_time)
        .timeout_per_read(idle_time)
        .build()
        .into()
}

fn certificates(pem: &str) -> Result<Vec<Certificate<'static>>, String> {
    let mut certificates = Vec::new();
    for item in parse_pem(pem.as_bytes()) {
        if let PemItem::Certificate(certificate) = item.map_err(|error| format!("the CA is no PEM: {error}"))? {
            certificates.push(certificate);
        }
    }
    if certificates.is_empty() {
        return Err("the CA holds no certificate".to_owned());
    }
    Ok(certificates)
}
