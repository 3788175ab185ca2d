//! The Kubernetes client: a few calls on ureq. It retries nothing, but once with a new token after a 401, and decides nothing.
//!
//! Time limits are those of ureq's phases: its limits for a whole request start a thread for each.

pub mod answer;
mod credentials;
pub mod error;
pub mod event;
pub mod pod;
pub mod record;
pub mod request;
mod watch;

use std::collections::BTreeSet;
use std::io::BufReader;
use std::sync::Mutex;
use std::time::Duration;

use serde::de::DeserializeOwned;
use serde_json::Value;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc2822;
use ureq::http::{self, StatusCode, Uri, header};
use ureq::tls::TlsConfig;
use ureq::{Agent, Body};

use crate::clock::{self, UnixTime};
use crate::config::{KubernetesSettings, PodSettings};
use crate::ids::{PodName, RecordName, Shown};
use crate::orchestrator::event::{Answer, PodCall, RecordAnswer, RecordCall};
use crate::secret::Secret;
use crate::supervise::{Beat, lock};
use credentials::{TokenSource, Trust, bearer};
use error::Error;
use event::{PodEvent, PodEvents};
use pod::{Pod, SIMULATOR_LABEL};
use record::{ConfigMap, FOUND_BYTES_MAX, FOUND_MAX, Found, SIMULATION_LABEL};
use request::Request;
pub use watch::{Page, PodList, Watch, WatchEvent};

/// TCP and TLS.
const CONNECT_TIME: Duration = Duration::from_secs(10);
const SEND_TIME: Duration = Duration::from_secs(10);
const ANSWER_TIME: Duration = Duration::from_secs(30);
const BODY_TIME: Duration = Duration::from_secs(30);

/// ureq's own limit would start a thread. The C library asks each name server twice for 5 s, for each search suffix perhaps.
const RESOLVE_TIME: Duration = Duration::from_secs(30);

/// What one call can take: all its phases, and all of them again with another token.
pub const CALL_TIME_MAX: Duration = RESOLVE_TIME
    .saturating_add(CONNECT_TIME)
    .saturating_add(SEND_TIME.saturating_mul(2))
    .saturating_add(ANSWER_TIME)
    .saturating_add(BODY_TIME)
    .saturating_mul(2);

/// What bounds a log: its size has no limit, and only its end is held.
const LOG_TIME: Duration = Duration::from_secs(20);

/// The API server sends a bookmark each minute, so that a watch which says nothing for this long is dead.
pub const WATCH_IDLE_TIME: Duration = Duration::from_secs(90);

/// A connection has two of these. ureq's own size takes 37 MB for 64 connections.
const BUFFER_BYTES: usize = 16 * 1024;

/// client-go's: <https://github.com/kubernetes/client-go/blob/master/tools/pager/pager.go>
const PAGE_PODS: usize = 500;

/// A piece of a request has up to 900 kB, and a page is held whole.
const PAGE_RECORDS: usize = 10;

const PAGE_EVENTS: usize = 500;

/// Ten times what we plan for, of about a kilobyte each.
const PODS_MAX: usize = 100_000;

/// A page, or all pods at once, while it is parsed; never held.
const LIST_BYTES_MAX: u64 = 1024 * 1024 * 1024;

/// etcd takes 1.5 MiB for an object, and JSON may write one byte as six.
const OBJECT_BYTES_MAX: u64 = 16 * 1024 * 1024;

/// Longer, and a server's mistake would stop us.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(60);

/// Texts of `Warning:` headers that are remembered, so as not to be logged again. More are not logged.
const WARNINGS_MAX: usize = 32;

/// One namespace of one API server. For any number of threads.
pub struct Client {
    /// `https://host:port`
    address: String,
    namespace: String,
    pods: PodSettings,
    agents: Mutex<Agents>,
    token: TokenSource,
    warned: Mutex<BTreeSet<String>>,
}

impl Client {
    /// Connects to nothing yet. `connections` are kept open at most while they are idle: as many as there are threads that call.
    ///
    /// # Errors
    /// A setting cannot be used: the host, the token, or the CA's file.
    pub fn new(settings: &KubernetesSettings, pods: &PodSettings, connections: usize) -> Result<Self, String> {
        let host = if settings.host.contains(':') { format!("[{}]", settings.host) } else { settings.host.clone() };
        let address = format!("https://{host}:{}", settings.port);
        let is_host = address.parse::<Uri>().is_ok_and(|uri| !host.is_empty() && uri.host() == Some(&host) && uri.path() == "/");
        if !is_host {
            return Err(format!("KUBERNETES_HOST is {}, which is no host name and no address", Shown::of(&settings.host)));
        }
        Ok(Self {
            address,
            namespace: settings.namespace.clone(),
            pods: pods.clone(),
            agents: Mutex::new(Agents::new(Trust::new(&settings.tls)?, connections)),
            token: TokenSource::new(&settings.token)?,
            warned: Mutex::default(),
        })
    }

    /// Create, get and patch answer with the pod, delete with nothing: the pod may be there for a while.
    ///
    /// # Errors
    /// See [`Error`]. After `Lost` and `Unreadable` the call may have been done.
    pub fn call(&self, call: &PodCall) -> Result<Answer, Error> {
        let request = Request::of(call, &self.namespace, &self.pods);
        let response = self.send(Purpose::Call, &request)?;
        self.log_warnings(&response, call);
        answer::of_call(call, &self.read_body(response)?, &self.address)
    }

    /// All but delete answer with the record.
    ///
    /// # Errors
    /// See [`Error`]. `Unreadable` also where the name is somebody else's. After `Lost` and `Unreadable` the call may have been done.
    pub fn call_record(&self, call: &RecordCall) -> Result<RecordAnswer, Error> {
        let response = self.send(Purpose::Call, &Request::of_record(call, &self.namespace, &self.pods.simulator))?;
        answer::of_record_call(call, &self.read_body(response)?, &self.pods.simulator, &self.address)
    }

    /// All records of ours, as far as the limits go. Those behind, and what is none that we can use, are logged and left alone.
    ///
    /// # Errors
    /// See [`Error`].
    pub fn list_records(&self, beat: &Beat) -> Result<Found, Error> {
        let mut found = Found::default();
        let mut next = String::new();
        loop {
            let page = self.page_of_records(&next, beat)?;
            for config_map in page.items {
                let name = config_map.name().to_owned();
                match config_map.into_record(&self.pods.simulator) {
                    Ok(record) => found.add(record),
                    Err(problem) => {
                        log::warn!("The ConfigMap {name} has our mark, and is left alone: {problem}.");
                        found.unusable.push(name);
                    }
                }
                if let Some(first) = &found.left_out_from {
                    self.say_left_out(first);
                    return Ok(found);
                }
            }
            next = page.metadata.r#continue;
            if next.is_empty() {
                return Ok(found);
            }
        }
    }

    /// Where the server has forgotten the first page's moment, this one is of now. It fits to those before: pieces never change, nobody but
    /// us writes them, and we write nothing until we have read all.
    fn page_of_records(&self, next: &str, beat: &Beat) -> Result<Page<ConfigMap>, Error> {
        let ask = |next: &str| {
            beat.works();
            let request = Request::list_records(&self.namespace, &self.pods.simulator, PAGE_RECORDS, next);
            self.page(&request).map(|(page, _)| page)
        };
        ask(next).or_else(|error| match error.rest_of_list() {
            Some(rest) => ask(rest),
            None => Err(error),
        })
    }

    fn say_left_out(&self, first: &RecordName) {
        log::error!(
            "There are more than {FOUND_MAX} ConfigMaps with our mark, or more than {FOUND_BYTES_MAX} bytes in them: those from {first} on, in \
             the order of their names, are left alone, and their simulations are not known and not begun anew. Delete those of simulations \
             that are over, and start this service again: kubectl -n {} get configmaps -l {SIMULATOR_LABEL}={} -L {SIMULATION_LABEL}",
            self.namespace,
            self.pods.simulator
        );
    }

    /// A question that is asked once: the answer as it came.
    ///
    /// # Errors
    /// See [`Error`].
    pub fn ask(&self, request: &Request) -> Result<Reply, Error> {
        let response = self.send(Purpose::Call, request)?;
        let server_time = server_time(&response);
        let warnings = response.headers().get_all(header::WARNING).iter().filter_map(|value| value.to_str().ok());
        let warnings = warnings.map(str::to_owned).collect();
        let body = serde_json::from_slice(&self.read_body(response)?).map_err(|error| Error::from_json(error, &self.address))?;
        Ok(Reply { body, warnings, server_time })
    }

    /// The last lines of a container's log, safe to print.
    ///
    /// # Errors
    /// See [`Error`].
    pub fn read_log(&self, pod: &PodName, container: &str) -> Result<String, Error> {
        let response = self.send(Purpose::Log, &Request::log(&self.namespace, pod, container))?;
        request::log_tail(response.into_body().into_reader()).map_err(|error| Error::from_body(error, &self.address))
    }

    /// The newest events about a pod, the last one last. `uid` is empty where only its name is known.
    ///
    /// # Errors
    /// See [`Error`].
    pub fn list_events(&self, pod: &PodName, uid: &str) -> Result<Vec<PodEvent>, Error> {
        let mut newest = PodEvents::default();
        let mut next = String::new();
        loop {
            let request = Request::list_events(&self.namespace, pod, uid, PAGE_EVENTS, &next);
            let (page, _) = self.page(&request)?;
            newest.add(page.items);
            next = page.metadata.r#continue;
            if next.is_empty() {
                return Ok(newest.into_vec());
            }
        }
    }

    /// All pods with our mark, at one moment which is not before this call. Each page is a piece of work: of all together nobody can say
    /// how long they take.
    ///
    /// # Errors
    /// See [`Error`]. What was read until then is thrown away.
    pub fn list_pods(&self, beat: &Beat) -> Result<PodList, Error> {
        match self.list(Some(PAGE_PODS), beat) {
            // Later pages are of the first one's moment, which the server may forget before we are through.
            Err(error) if error.is_expired() => self.list(None, beat),
            result => result,
        }
    }

    /// What happens to pods with our mark after `resource_version`. The server ends the watch after `timeout_seconds`.
    ///
    /// # Errors
    /// See [`Error`]. That the version is too old is said here or by the first event.
    pub fn watch_pods(&self, resource_version: &str, timeout_seconds: u32) -> Result<Watch, Error> {
        let request = Request::watch(&self.namespace, &self.pods.simulator, resource_version, timeout_seconds);
        let response = self.send(Purpose::Watch, &request)?;
        let server_time = server_time(&response);
        Ok(Watch::new(response.into_body().into_reader(), &self.address, server_time))
    }

    fn list(&self, limit: Option<usize>, beat: &Beat) -> Result<PodList, Error> {
        let mut list = PodList::default();
        let mut next = String::new();
        loop {
            beat.works();
            let (page, server_time) = self.page::<Pod>(&Request::list(&self.namespace, &self.pods.simulator, limit, &next))?;
            list.server_time = server_time;
            for pod in page.items {
                list.pods.push(pod.checked()?);
            }
            if list.pods.len() > PODS_MAX {
                return Err(Error::Unreadable(format!("{}: more than {PODS_MAX} pods", self.address)));
            }
            if page.metadata.resource_version.is_empty() {
                return Err(Error::Unreadable(format!("{}: a list without a resource version", self.address)));
            }
            list.resource_version = page.metadata.resource_version;
            next = page.metadata.r#continue;
            if next.is_empty() {
                return Ok(list);
            }
        }
    }

    /// And when the API server sent it.
    fn page<T: DeserializeOwned>(&self, request: &Request) -> Result<(Page<T>, Option<UnixTime>), Error> {
        let response = self.send(Purpose::Call, request)?;
        let server_time = server_time(&response);
        let body = response.into_body().into_with_config().limit(LIST_BYTES_MAX).reader();
        let page = serde_json::from_reader(BufReader::new(body)).map_err(|error| Error::from_json(error, &self.address))?;
        Ok((page, server_time))
    }

    /// Sends it and sees to the token. What comes back is a success.
    fn send(&self, purpose: Purpose, request: &Request) -> Result<http::Response<Body>, Error> {
        let agent = lock(&self.agents).newest(purpose);
        let token = self.token.current()?;
        let mut response = self.send_with(&agent, request, &token)?;
        if response.status() == StatusCode::UNAUTHORIZED
            && let Some(newer) = self.token.newer_than(&token)
        {
            // What it says does not matter, but that it is read.
            let _ = self.read_body(response);
            response = self.send_with(&agent, request, &newer)?;
        }
        if response.status().is_success() {
            return Ok(response);
        }
        let code = response.status().as_u16();
        let retry_after = retry_after(&response);
        // Where the body is lost or too large, the code still says what there is to say.
        let body = self.read_body(response).unwrap_or_default();
        Err(answer::refusal(code, retry_after, &body))
    }

    fn send_with(&self, agent: &Agent, request: &Request, token: &Secret) -> Result<http::Response<Body>, Error> {
        let bearer = bearer(token).map_err(Error::Lost)?;
        let builder = http::Request::builder()
            .method(&request.method)
            .uri(format!("{}{}", self.address, request.path))
            .header(header::AUTHORIZATION, bearer);
        let result = match &request.body {
            None => builder.body(()).map_err(ureq::Error::from).and_then(|request| agent.run(request)),
            Some(content) => {
                let builder = builder.header(header::CONTENT_TYPE, content.content_type);
                builder.body(content.bytes.as_slice()).map_err(ureq::Error::from).and_then(|request| agent.run(request))
            }
        };
        result.map_err(|error| {
            if error::is_untrusted(&error) {
                lock(&self.agents).trust.look_again();
            }
            Error::from_http(error, &self.address)
        })
    }

    /// To its end, or the connection could not be used again.
    fn read_body(&self, response: http::Response<Body>) -> Result<Vec<u8>, Error> {
        let body = response.into_body().into_with_config().limit(OBJECT_BYTES_MAX);
        body.read_to_vec().map_err(|error| Error::from_http(error, &self.address))
    }

    /// Each text once: the API server may have the same to say about each pod.
    fn log_warnings(&self, response: &http::Response<Body>, call: &PodCall) {
        for warning in response.headers().get_all(header::WARNING).iter().filter_map(|value| value.to_str().ok()) {
            let text = warning.replace(call.pod().as_str(), "POD");
            let mut warned = lock(&self.warned);
            if warned.len() < WARNINGS_MAX && warned.insert(text) {
                log::warn!("The API server warns about pod {}: {warning}. It is not said again of other pods.", call.pod());
            }
        }
    }
}

/// What came back to a question.
pub struct Reply {
    pub body: Value,
    /// As the headers have them: <https://www.rfc-editor.org/rfc/rfc7234#section-5.5>.
    pub warnings: Vec<String>,
    pub server_time: Option<UnixTime>,
}

/// All trust the same CA.
struct Agents {
    trust: Trust,
    calls: Agent,
    logs: Agent,
    connections: usize,
}

impl Agents {
    fn new(trust: Trust, connections: usize) -> Self {
        let of = |purpose| agent(&trust.tls, connections, purpose);
        Self { calls: of(Purpose::Call), logs: of(Purpose::Log), trust, connections }
    }

    fn newest(&mut self, purpose: Purpose) -> Agent {
        if self.trust.look() {
            // Idle connections go with the agents that made them: nobody vouches for their other end any more. What is under way ends as
            // it began, a watch within minutes.
            self.calls = agent(&self.trust.tls, self.connections, Purpose::Call);
            self.logs = agent(&self.trust.tls, self.connections, Purpose::Log);
        }
        match purpose {
            Purpose::Call => self.calls.clone(),
            Purpose::Log => self.logs.clone(),
            // A connection that may have died unseen is never used again.
            Purpose::Watch => agent(&self.trust.tls, 1, Purpose::Watch),
        }
    }
}

/// What for: it says how long an answer's body may take.
#[derive(Clone, Copy)]
enum Purpose {
    Call,
    Log,
    Watch,
}

fn agent(tls: &TlsConfig, connections: usize, purpose: Purpose) -> Agent {
    let (whole, idle) = match purpose {
        Purpose::Call => (Some(BODY_TIME), None),
        Purpose::Log => (Some(LOG_TIME), None),
        Purpose::Watch => (None, Some(WATCH_IDLE_TIME)),
    };
    Agent::config_builder()
        .http_status_as_error(false)
        .https_only(true)
        .max_redirects(0)
        // HTTPS_PROXY is not for us.
        .proxy(None)
        .tls_config(tls.clone())
        .user_agent(concat!("mso/", env!("CARGO_PKG_VERSION")))
        .accept("application/json, */*")
        .input_buffer_size(BUFFER_BYTES)
        .output_buffer_size(BUFFER_BYTES)
        .max_idle_connections(connections)
        .max_idle_connections_per_host(connections)
        .timeout_connect(Some(CONNECT_TIME))
        .timeout_send_request(Some(SEND_TIME))
        .timeout_send_body(Some(SEND_TIME))
        .timeout_recv_response(Some(ANSWER_TIME))
        .timeout_recv_body(whole)
        .timeout_per_read(idle)
        .build()
        .into()
}

fn server_time<T>(response: &http::Response<T>) -> Option<UnixTime> {
    http_date(response.headers().get(header::DATE)?.to_str().ok()?)
}

/// A number of seconds, or a date, which is held against the clock of whom it came from.
/// <https://www.rfc-editor.org/rfc/rfc9110#field.retry-after>
fn retry_after<T>(response: &http::Response<T>) -> Option<Duration> {
    let value = response.headers().get(header::RETRY_AFTER)?.to_str().ok()?.trim();
    let seconds = match value.parse::<u64>() {
        Ok(seconds) => seconds as f64,
        Err(_) => http_date(value)?.seconds_since(server_time(response).unwrap_or_else(|| clock::now().unix)),
    };
    Some(RETRY_AFTER_MAX.mul_f64((seconds / RETRY_AFTER_MAX.as_secs_f64()).clamp(0.0, 1.0)))
}

/// RFC 9110's date is one of RFC 2822's, with `GMT`.
fn http_date(text: &str) -> Option<UnixTime> {
    OffsetDateTime::parse(text, &Rfc2822).ok().map(UnixTime::from)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::config::{Tls, Token};

    #[test]
    fn retry_after_is_seconds_or_a_date_and_never_more_than_a_minute() {
        let wait = |value: &str, date: &str| {
            let response = http::Response::builder().header("Retry-After", value).header("Date", date).body(()).unwrap();
            retry_after(&response).map(|wait| wait.as_secs_f64())
        };
        let date = "Mon, 23 Nov 2026 22:45:13 GMT";
        let cases: &[(&str, &str, Option<f64>)] = &[
            ("a number", "7", Some(7.0)),
            ("none", "0", Some(0.0)),
            ("an hour", "3600", Some(60.0)),
            ("more than a number holds", "99999999999999999999999", None),
            ("a date 20 s later", "Mon, 23 Nov 2026 22:45:33 GMT", Some(20.0)),
            ("a date of the past", "Mon, 23 Nov 2026 22:45:00 GMT", Some(0.0)),
            ("a date far away", "Mon, 23 Nov 2099 22:45:00 GMT", Some(60.0)),
            ("nonsense", "soon", None),
            ("a negative number", "-1", None),
        ];
        for (phrase, value, expected) in cases {
            assert_eq!(wait(value, date), *expected, "{phrase}");
        }
    }

    #[test]
    fn the_servers_time_is_its_date_header() {
        let response = http::Response::builder().header("Date", "Sun, 06 Nov 1994 08:49:37 GMT").body(()).unwrap();
        assert_eq!(server_time(&response), Some(UnixTime(784111777.0)));
    }

    fn settings(tls: Tls) -> KubernetesSettings {
        KubernetesSettings {
            host: "localhost".to_owned(),
            port: 6443,
            token: Token::Fixed(Secret::new("token")),
            tls,
            namespace: "dots".to_owned(),
        }
    }

    fn client(settings: &KubernetesSettings) -> Result<Client, String> {
        let simulator = crate::ids::SimulatorName::new("").unwrap();
        Client::new(settings, &PodSettings::new(simulator), 1)
    }

    #[test]
    fn a_setting_that_cannot_be_used_is_named_at_start() {
        let folder = std::env::temp_dir().join(format!("mso-kube-settings-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let file = |name: &str, text: &str| {
            fs::write(folder.join(name), text).unwrap();
            Tls::Verified(folder.join(name))
        };
        let not_a_certificate = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        let cases: &[(&str, KubernetesSettings, &str)] = &[
            ("no CA file", settings(Tls::Verified(folder.join("missing"))), "cannot be read"),
            ("an empty CA file", settings(file("empty", "")), "empty holds no certificate"),
            ("a CA file with something else", settings(file("other", not_a_certificate)), "other holds no certificate"),
            ("a token of two lines", KubernetesSettings { token: Token::Fixed(Secret::new("a\nb")), ..settings(Tls::Unverified) }, "token"),
            ("a URL", KubernetesSettings { host: "http://a".to_owned(), ..settings(Tls::Unverified) }, "KUBERNETES_HOST"),
            ("no host", KubernetesSettings { host: String::new(), ..settings(Tls::Unverified) }, "KUBERNETES_HOST"),
            ("a path", KubernetesSettings { host: "a/b".to_owned(), ..settings(Tls::Unverified) }, "KUBERNETES_HOST"),
        ];
        for (phrase, settings, expected) in cases {
            let problem = client(settings).err().unwrap_or_default();
            assert!(problem.contains(expected), "{phrase}: {problem:?}");
        }
        fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn an_ipv6_address_gets_its_brackets() {
        let client = client(&KubernetesSettings { host: "fd00::1".to_owned(), ..settings(Tls::Unverified) }).unwrap();
        assert_eq!(client.address, "https://[fd00::1]:6443");
    }
}
