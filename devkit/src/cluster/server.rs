//! The cluster behind HTTPS on loopback, with local processes as its containers. It translates: what is answered, [`Cluster`] decides.
//!
//! A thread listens, a thread for each connection answers, a thread plays the node, and two for each process hear what it writes and wait
//! for its end. All end with the server.

use std::collections::VecDeque;
use std::io;
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use log::info;
use mso::clock::{self, Now, UnixTime};
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use super::connection::Connection;
use super::process::{self, Images, Output, Processes};
use super::{Cluster, ContainerEffect, ContainerId, Fault, dates};
use crate::api::Api;
use crate::wait;

// How the files in tls/ were made; what else comes of it was thrown away, the CA's key above all. In 2020 (by Debian's faketime), so that
// they are valid also where a clock is behind.
//
//     new="-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes"
//     openssl req -x509 $new -keyout ca.key -out ca.crt -days 36500 -subj "/CN=devkit CA" -addext keyUsage=critical,keyCertSign
//     openssl req $new -keyout localhost.key -out localhost.csr -subj /CN=localhost -addext basicConstraints=CA:FALSE \
//       -addext subjectAltName=DNS:localhost,DNS:kubernetes,IP:127.0.0.1 -addext extendedKeyUsage=serverAuth
//     openssl x509 -req -in localhost.csr -copy_extensions copy -CA ca.crt -CAkey ca.key -days 36500 -out localhost.crt

/// Of the CA that signed the server's.
const CA: &str = include_str!("tls/ca.crt");

/// The same, as a file for those who want one.
pub const CA_FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/src/cluster/tls/ca.crt");

/// For `localhost`, `kubernetes` and 127.0.0.1.
const CERTIFICATE: &str = include_str!("tls/localhost.crt");

/// Everybody has it. It vouches for a server on loopback alone, which nobody trusts but those that a test or the quickstart points there.
const KEY: &str = include_str!("tls/localhost.key");

/// Where nothing is due; so that a thread looks around all the same.
const WAIT_MAX: Duration = Duration::from_secs(60);

/// For killed processes to be gone, and for their last words.
const KILL_SECONDS: f64 = 5.0;

/// A test reads its end; as the broker's.
const LOG_LINES_MAX: usize = 10_000;

const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Dropping it ends all that it started.
///
/// ```
/// use devkit::cluster::{Image, Images, Server};
/// use serde_json::json;
///
/// let model = Image { program: "/bin/sh".into(), arguments: vec!["-c".to_owned(), "echo done".to_owned()] };
/// let server = Server::start(Images::from([("model:1".to_owned(), model)])).unwrap();
/// // mso is pointed there with KUBERNETES_HOST, KUBERNETES_PORT, KUBERNETES_API_TOKEN and a file for KUBERNETES_CA_FILE.
/// let (_host, _port, _token, _ca) = (server.host(), server.port(), server.token(), server.ca_pem());
///
/// let pods = "/api/v1/namespaces/dots/pods";
/// let pod = json!({"metadata": {"name": "m"}, "spec": {"restartPolicy": "Never", "containers": [{"name": "m", "image": "model:1"}]}});
/// assert_eq!(server.api().post(pods, &pod).unwrap().code, 201);
/// let events = server.api().watch(&format!("{pods}?watch=true")).unwrap().map(Result::unwrap);
/// let ended = events.map(|event| event["object"]["status"]["phase"].clone()).find(|phase| phase == "Succeeded");
/// assert!(ended.is_some());
/// ```
pub struct Server {
    shared: Arc<Shared>,
    port: u16,
    administrator: String,
    node: Option<JoinHandle<()>>,
}

pub(super) struct Shared {
    began: Now,
    images: Images,
    pub(super) tls: Arc<ServerConfig>,
    state: Mutex<State>,
    /// Something has happened.
    pub(super) changed: Condvar,
}

pub(super) struct State {
    pub(super) cluster: Cluster,
    processes: Processes,
    /// None while the API is stopped.
    listener: Option<JoinHandle<()>>,
    /// One more for each stop: what belongs to an earlier one ends.
    pub(super) generation: u64,
    connections: Vec<(TcpStream, JoinHandle<()>)>,
    is_ending: bool,
    log: VecDeque<String>,
}

impl Server {
    /// Serves at once, at a free port.
    ///
    /// # Errors
    /// There is no port or no thread to be had.
    pub fn start(images: Images) -> io::Result<Self> {
        let mut cluster = Cluster::new(images.keys().cloned());
        let administrator = new_token()?;
        cluster.accept(&administrator);
        let state = State {
            cluster,
            processes: Processes::default(),
            listener: None,
            generation: 0,
            connections: Vec::new(),
            is_ending: false,
            log: VecDeque::new(),
        };
        let shared = Arc::new(Shared {
            began: clock::now(),
            images,
            tls: tls_config().map_err(io::Error::other)?,
            state: Mutex::new(state),
            changed: Condvar::new(),
        });
        let node = {
            let shared = shared.clone();
            thread::Builder::new().name("node".to_owned()).spawn(move || run_node(&shared))?
        };
        let mut server = Self { shared, port: 0, administrator, node: Some(node) };
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        server.port = listener.local_addr()?.port();
        server.listen(listener)?;
        Ok(server)
    }

    pub fn host(&self) -> &'static str {
        "127.0.0.1"
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// The certificate of the CA that signed the server's, as PEM.
    pub fn ca_pem(&self) -> &'static str {
        CA
    }

    /// A new one that is accepted.
    ///
    /// # Panics
    /// The system gives no random numbers.
    pub fn token(&self) -> String {
        let token = new_token().expect("the system gave random numbers at the start");
        self.shared.lock().cluster.accept(&token);
        token
    }

    pub fn revoke(&self, token: &str) {
        self.shared.lock().cluster.revoke(token);
    }

    pub fn create_namespace(&self, name: &str) {
        self.shared.lock().cluster.create_namespace(name);
    }

    /// As the administrator.
    pub fn api(&self) -> Api {
        let address = format!("https://{}:{}", self.host(), self.port);
        Api::new(&address, Some(CA), &self.administrator).expect("the certificate is one of ours")
    }

    /// One fault beside those that were asked for before. The first that fits a request is done to it.
    pub fn misbehave(&self, fault: Fault) {
        self.shared.lock().cluster.misbehave(fault);
    }

    /// No fault any more.
    pub fn behave(&self) {
        self.shared.lock().cluster.behave();
    }

    /// See [`Cluster::faults_left`].
    pub fn faults_left(&self) -> usize {
        self.shared.lock().cluster.faults_left()
    }

    /// Requests with their answers' codes, and what became of processes: `2026-01-31T12:00:00.000Z GET /api/v1/namespaces/dots/pods 200`;
    /// the last ten thousand lines. No tokens.
    pub fn log(&self) -> Vec<String> {
        self.shared.lock().log.iter().cloned().collect()
    }

    /// As a kube-apiserver that is killed: all connections are closed and nobody listens. What is in the cluster stays, and pods run on.
    pub fn stop(&self) {
        let (listener, connections) = {
            let mut state = self.shared.lock();
            state.generation += 1;
            (state.listener.take(), std::mem::take(&mut state.connections))
        };
        self.shared.changed.notify_all();
        if let Some(listener) = listener {
            // It waits in `accept`, from which only a connection frees it, and files may be short for a moment.
            while !listener.is_finished() {
                drop(TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)));
                thread::sleep(ACCEPT_PAUSE);
            }
            join(listener);
        }
        // One that was accepted at the last moment is among these, or saw the new generation.
        let late = std::mem::take(&mut self.shared.lock().connections);
        for (stream, thread) in connections.into_iter().chain(late) {
            // One that the client closed is not connected any more.
            let _ = stream.shutdown(Shutdown::Both);
            join(thread);
        }
    }

    /// Serves again, at the same port.
    ///
    /// # Errors
    /// Another program has taken the port, or there is no thread to be had.
    pub fn restart(&self) -> io::Result<()> {
        self.stop();
        self.listen(wait::for_port(|| TcpListener::bind((Ipv4Addr::LOCALHOST, self.port)))?)
    }

    fn listen(&self, listener: TcpListener) -> io::Result<()> {
        let generation = self.shared.lock().generation;
        let shared = self.shared.clone();
        let accept = move || {
            loop {
                match listener.accept() {
                    Ok((stream, _)) => {
                        if !shared.serve(stream, generation) {
                            return;
                        }
                    }
                    // Out of file descriptors: others close some.
                    Err(_) => thread::sleep(ACCEPT_PAUSE),
                }
            }
        };
        let thread = thread::Builder::new().name("listener".to_owned()).spawn(accept)?;
        self.shared.lock().listener = Some(thread);
        Ok(())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop();
        self.shared.lock().is_ending = true;
        self.shared.changed.notify_all();
        if let Some(node) = self.node.take() {
            join(node);
        }
    }
}

/// A thread that panicked has said so.
fn join(thread: JoinHandle<()>) {
    let _ = thread.join();
}

impl Shared {
    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        // Whatever panicked, its processes must still be ended.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// By a clock that nobody sets.
    pub(super) fn now(&self) -> UnixTime {
        let passed = clock::now().instant.saturating_duration_since(self.began.instant);
        self.began.unix.plus_seconds(passed.as_secs_f64())
    }

    /// Until something happens, or until then.
    pub(super) fn wait<'a>(&self, state: MutexGuard<'a, State>, until: Option<UnixTime>) -> MutexGuard<'a, State> {
        let left = until.map_or(WAIT_MAX, |until| {
            let seconds = until.seconds_since(self.now()).clamp(0.0, WAIT_MAX.as_secs_f64());
            // Not just before the time has come.
            Duration::from_secs_f64(seconds) + Duration::from_millis(1)
        });
        self.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0
    }

    /// Whether to go on listening.
    fn serve(self: &Arc<Self>, stream: TcpStream, generation: u64) -> bool {
        let mut state = self.lock();
        if state.generation != generation {
            return false;
        }
        state.connections.retain(|(_, thread)| !thread.is_finished());
        let Ok(handle) = stream.try_clone() else { return true };
        let shared = self.clone();
        let answer = move || {
            let Ok(mut connection) = Connection::new(&shared, stream, generation) else { return };
            // The client went away, or spoke something else than HTTP over TLS: that is its own affair.
            let _ = connection.run();
            // The handle in `connections` would keep it open.
            connection.close();
        };
        if let Ok(thread) = thread::Builder::new().name("connection".to_owned()).spawn(answer) {
            state.connections.push((handle, thread));
        }
        true
    }
}

impl State {
    pub(super) fn note(&mut self, now: UnixTime, line: &str) {
        info!("{line}");
        if self.log.len() == LOG_LINES_MAX {
            self.log.pop_front();
        }
        self.log.push_back(format!("{} {line}", dates::rfc3339_with_milliseconds(now)));
    }
}

/// The body of the thread `node`.
fn run_node(shared: &Arc<Shared>) {
    let mut state = shared.lock();
    while !state.is_ending {
        state.cluster.handle_timeout(shared.now());
        while let Some(effect) = state.cluster.poll_effect() {
            carry_out(shared, &mut state, effect);
        }
        // Watches look whether anything was written.
        shared.changed.notify_all();
        let until = state.cluster.poll_timeout();
        state = shared.wait(state, until);
    }
    state.processes.kill_all();
    let until = shared.now().plus_seconds(KILL_SECONDS);
    while !state.processes.is_empty() && shared.now() < until {
        state = shared.wait(state, Some(until));
    }
}

fn carry_out(shared: &Arc<Shared>, state: &mut State, effect: ContainerEffect) {
    match effect {
        ContainerEffect::Signal { id, signal } => {
            if let Some(process) = state.processes.get(&id) {
                process.signal(signal);
                let line = format!("process group {} gets SIG{}", process.group, signal.name());
                state.note(shared.now(), &line);
            }
        }
        ContainerEffect::Start(start) => {
            let id = start.id.clone();
            let report = {
                let (shared, id) = (shared.clone(), id.clone());
                move |output| take_output(&shared, &id, output)
            };
            let image = shared.images.get(&start.image);
            let started = image.ok_or_else(|| format!("no such image: {}", start.image));
            match started.and_then(|image| process::start(&start, image, report)) {
                Ok(process) => {
                    let line = format!("container {} of pod {} is process group {}", id.name, start.hostname, process.group);
                    state.note(shared.now(), &line);
                    state.processes.insert(id.clone(), process);
                    state.cluster.container_started(&id, shared.now());
                }
                Err(message) => {
                    state.note(shared.now(), &format!("container {} of pod {} cannot start: {message}", id.name, start.hostname));
                    state.cluster.container_failed_to_start(&id, &message, shared.now());
                }
            }
        }
    }
}

fn take_output(shared: &Shared, id: &ContainerId, output: Output) {
    let mut state = shared.lock();
    match output {
        Output::Wrote(bytes) => state.cluster.container_wrote(id, &bytes),
        Output::Ended(code) => {
            if let Some(process) = state.processes.remove(id) {
                state.note(shared.now(), &format!("process group {} has ended with {code}", process.group));
            }
            state.cluster.container_ended(id, code, shared.now());
            drop(state);
            shared.changed.notify_all();
        }
    }
}

/// One that nobody guesses: who has it starts any program as the user whose server this is.
fn new_token() -> io::Result<String> {
    let mut bytes = [0; 16];
    let random = rustls::crypto::ring::default_provider().secure_random;
    random.fill(&mut bytes).map_err(|_| io::Error::other("the system gives no random numbers"))?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

fn tls_config() -> Result<Arc<ServerConfig>, rustls::Error> {
    let certificate = CertificateDer::from_pem_slice(CERTIFICATE.as_bytes()).expect("the file beside this one is PEM");
    let key = PrivateKeyDer::from_pem_slice(KEY.as_bytes()).expect("the file beside this one is PEM");
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
    Ok(Arc::new(builder.with_no_client_auth().with_single_cert(vec![certificate], key)?))
}
