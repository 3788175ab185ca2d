//! The broker behind TCP: sockets, one thread and the clock. What a packet means is not its business.
//!
//! One thread waits for all sockets at once, and handles what came in the order in which it came. With a thread for each connection a
//! message at QoS 0 would be lost on a subscriber whose goodbye came first, every few hundred times; mosquitto, which is built like this,
//! does not do that, and tests rely on it. Nothing blocks on a client: what one does not take waits in a buffer, and past a limit its
//! connection ends.

use std::collections::{BTreeMap, VecDeque};
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use bytes::{Buf, BytesMut};
use log::{info, warn};
use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Registry, Token, Waker};
use mso::clock;
use rumqttc::mqttbytes::v4::Packet;

use super::packet;
use super::{Broker, Clients, ConnectionId, Fault, Input, Output};
use crate::wait;

/// Twenty messages in flight of twelve megabytes each fit. Past it the client's connection is closed: at QoS 0 nothing else bounds what
/// waits.
const MAX_WAITING_BYTES: usize = 256 * 1024 * 1024;
/// What is read of one client before it is the next one's turn.
const READ_BYTES: usize = 64 * 1024;
/// How much news one look at the sockets brings; more comes with the next.
const EVENTS: usize = 1024;
/// On a stop: enough turns for all that the system keeps of what one client sent. A client that goes on sending does not hold it up for
/// ever.
const LAST_TURNS: usize = 500;
/// Where the system gives no connection, for want of files say.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// A test reads its end; the program prints it all.
const MAX_LOG_LINES: usize = 10_000;

/// Connections have their number.
const LISTENER: Token = Token(usize::MAX);
const WAKER: Token = Token(usize::MAX - 1);

/// A broker that listens. Dropped, it stops.
pub struct Server {
    core: Arc<Mutex<Core>>,
    address: SocketAddr,
    /// `None`: stopped.
    running: Option<Running>,
}

struct Running {
    waker: Waker,
    thread: JoinHandle<()>,
}

#[derive(Default)]
struct Core {
    broker: Broker,
    connections: BTreeMap<ConnectionId, Connection>,
    connections_so_far: u64,
    is_stopping: bool,
    log: VecDeque<String>,
}

struct Connection {
    stream: TcpStream,
    received: BytesMut,
    /// Written, and not taken by the system yet.
    waiting: BytesMut,
}

impl Server {
    /// On a free port of the loopback.
    ///
    /// # Errors
    /// The system gives no port or no thread.
    pub fn start() -> io::Result<Self> {
        Self::listen(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))
    }

    /// # Errors
    /// The address cannot be listened on, or the system gives no thread.
    pub fn listen(address: SocketAddr) -> io::Result<Self> {
        let mut server = Self { core: Arc::default(), address, running: None };
        server.restart()?;
        Ok(server)
    }

    /// Where it listens, or listened before it was stopped.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Stopped in order: what has reached it counts. That is handled and answered first, so that no test depends on how fast a thread is.
    /// Then all connections are closed, and nobody listens; no will is said. Lasting sessions with what is queued for them, and retained
    /// messages, are kept.
    pub fn stop(&mut self) {
        let Some(Running { waker, thread }) = self.running.take() else { return };
        lock(&self.core).is_stopping = true;
        // It fails only where the thread has ended, and one that panicked has said so.
        let _ = waker.wake();
        let _ = thread.join();
    }

    /// Listens at the same address again, with what was kept. It is stopped first where it is not.
    ///
    /// # Errors
    /// Somebody else took the port meanwhile, or the system gives no thread.
    pub fn restart(&mut self) -> io::Result<()> {
        self.stop();
        let poll = Poll::new()?;
        let waker = Waker::new(poll.registry(), WAKER)?;
        let mut listener = wait::for_port(|| TcpListener::bind(self.address))?;
        self.address = listener.local_addr()?;
        poll.registry().register(&mut listener, LISTENER, Interest::READABLE)?;
        lock(&self.core).is_stopping = false;
        let core = Arc::clone(&self.core);
        let sockets = Sockets {
            poll,
            events: Events::with_capacity(EVENTS),
            listener,
            readable: Vec::new(),
            buffer: vec![0; READ_BYTES],
            is_accept_due: false,
        };
        let thread = thread::Builder::new().name("broker".to_owned()).spawn(move || sockets.run(&core))?;
        self.running = Some(Running { waker, thread });
        Ok(())
    }

    /// An empty broker takes its place: all connections are closed, sessions and retained messages are gone. Faults stay.
    pub fn forget(&self) {
        let mut core = lock(&self.core);
        core.broker.forget();
        core.connections.clear();
    }

    /// This client's session and connection are gone; everything else is as it was.
    pub fn forget_session(&self, client_id: &str) {
        let now = clock::now().instant;
        let mut core = lock(&self.core);
        core.broker.forget_session(client_id, now);
        core.carry_out(now);
    }

    /// One fault beside those that were asked for before.
    pub fn misbehave(&self, clients: Clients, fault: Fault) {
        lock(&self.core).broker.misbehave(clients, fault);
    }

    /// No fault any more.
    pub fn behave(&self) {
        lock(&self.core).broker.behave();
    }

    /// The filters of this client's session.
    pub fn subscriptions(&self, client_id: &str) -> Vec<String> {
        lock(&self.core).broker.subscriptions(client_id)
    }

    /// Who came, who left and why, in mosquitto's words where it has some: "Client so disconnected."; the last ten thousand lines.
    pub fn log(&self) -> Vec<String> {
        lock(&self.core).log.iter().cloned().collect()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop();
    }
}

fn lock(core: &Mutex<Core>) -> MutexGuard<'_, Core> {
    core.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What the thread has for itself.
struct Sockets {
    poll: Poll,
    events: Events,
    listener: TcpListener,
    /// Of these there may be more to read; the system does not say it again.
    readable: Vec<ConnectionId>,
    buffer: Vec<u8>,
    /// Clients wait, and the system does not say it again.
    is_accept_due: bool,
}

impl Sockets {
    /// The body of the thread `broker`.
    fn run(mut self, core: &Mutex<Core>) {
        loop {
            let wait = self.wait(&lock(core));
            self.look(wait);
            let mut core = lock(core);
            self.turn(&mut core);
            if core.is_stopping {
                return self.finish(&mut core);
            }
        }
    }

    /// `None`: until something comes.
    fn wait(&self, core: &Core) -> Option<Duration> {
        if !self.readable.is_empty() || core.is_stopping {
            return Some(Duration::ZERO);
        }
        let until_due = core.broker.poll_timeout().map(|at| at.saturating_duration_since(clock::now().instant));
        let until_accept = self.is_accept_due.then_some(ACCEPT_PAUSE);
        [until_due, until_accept].into_iter().flatten().min()
    }

    fn look(&mut self, wait: Option<Duration>) {
        if let Err(error) = self.poll.poll(&mut self.events, wait) {
            self.events.clear();
            if error.kind() != io::ErrorKind::Interrupted {
                warn!("failed to wait for clients: {error}");
            }
        }
    }

    /// Handles what came, one buffer of each connection.
    fn turn(&mut self, core: &mut Core) {
        let now = clock::now().instant;
        let left_over = std::mem::take(&mut self.readable);
        let mut readable: Vec<ConnectionId> = Vec::new();
        for event in &self.events {
            match event.token() {
                LISTENER => self.is_accept_due = true,
                // It has done what it is for.
                WAKER => {}
                Token(number) => {
                    let id = ConnectionId(number as u64);
                    if event.is_writable() {
                        core.flush(id, now);
                    }
                    if event.is_readable() || event.is_read_closed() || event.is_error() {
                        readable.push(id);
                    }
                }
            }
        }
        if self.is_accept_due {
            self.is_accept_due = core.accept(&self.listener, self.poll.registry(), now).is_err();
        }
        // Most of these have nothing more; what one gets now is later than the news of the others.
        let left_over: Vec<_> = left_over.into_iter().filter(|id| !readable.contains(id)).collect();
        for id in readable.into_iter().chain(left_over) {
            if core.read(id, &mut self.buffer, now) {
                self.readable.push(id);
            }
        }
        core.broker.handle_timeout(now);
        core.carry_out(now);
    }

    fn finish(&mut self, core: &mut Core) {
        for _ in 0..LAST_TURNS {
            self.look(Some(Duration::ZERO));
            if self.events.is_empty() && self.readable.is_empty() {
                break;
            }
            self.turn(core);
        }
        core.broker.kill();
        core.connections.clear();
    }
}

impl Core {
    /// All who wait.
    fn accept(&mut self, listener: &TcpListener, registry: &Registry, now: Instant) -> io::Result<()> {
        loop {
            let opened = match listener.accept() {
                Ok((stream, _)) => self.open(stream, registry, now),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(()),
                Err(error) => return Err(error).inspect_err(|error| warn!("failed to accept a connection: {error}")),
            };
            if let Err(error) = opened {
                info!("a client was gone at once: {error}");
            }
        }
    }

    fn open(&mut self, mut stream: TcpStream, registry: &Registry, now: Instant) -> io::Result<()> {
        stream.set_nodelay(true)?;
        self.connections_so_far += 1;
        let id = ConnectionId(self.connections_so_far);
        registry.register(&mut stream, Token(self.connections_so_far as usize), Interest::READABLE | Interest::WRITABLE)?;
        self.connections.insert(id, Connection { stream, received: BytesMut::new(), waiting: BytesMut::new() });
        self.broker.handle(id, Input::Opened, now);
        Ok(())
    }

    /// True: there may be more.
    fn read(&mut self, id: ConnectionId, buffer: &mut [u8], now: Instant) -> bool {
        let Some(connection) = self.connections.get_mut(&id) else { return false };
        match connection.stream.read(buffer) {
            Ok(length) if length > 0 => connection.received.extend_from_slice(&buffer[..length]),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return false,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => return true,
            Ok(_) | Err(_) => {
                self.end(id, now);
                return false;
            }
        }
        // Each packet may end the connection.
        while let Some(connection) = self.connections.get_mut(&id) {
            let input = match packet::read(&mut connection.received) {
                Ok(Some(packet)) => Input::Packet(packet),
                Ok(None) => return true,
                Err(error) => Input::Malformed(error),
            };
            self.broker.handle(id, input, now);
            self.carry_out(now);
        }
        false
    }

    fn carry_out(&mut self, now: Instant) {
        while let Some((id, output)) = self.broker.poll_output(now) {
            match output {
                Output::Packet(packet) => self.send(id, &packet, now),
                // What the system has not taken by now, the client did not read in time.
                Output::Close => drop(self.connections.remove(&id)),
            }
        }
        while let Some(line) = self.broker.poll_log() {
            self.note(line);
        }
    }

    fn send(&mut self, id: ConnectionId, packet: &Packet, now: Instant) {
        let Some(connection) = self.connections.get_mut(&id) else { return };
        if let Err(error) = packet.write(&mut connection.waiting, usize::MAX) {
            warn!("failed to write a packet: {error}");
            return self.end(id, now);
        }
        self.flush(id, now);
        if self.connections.get(&id).is_some_and(|connection| connection.waiting.len() > MAX_WAITING_BYTES) {
            self.note(format!("Connection {} is not read: more than {MAX_WAITING_BYTES} bytes wait there.", id.0));
            self.end(id, now);
        }
    }

    /// Until the system takes no more; it says when it does again.
    fn flush(&mut self, id: ConnectionId, now: Instant) {
        let Some(connection) = self.connections.get_mut(&id) else { return };
        while !connection.waiting.is_empty() {
            match connection.stream.write(&connection.waiting) {
                Ok(length) if length > 0 => connection.waiting.advance(length),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Ok(_) | Err(_) => return self.end(id, now),
            }
        }
    }

    /// Ended by the client, or by the network.
    fn end(&mut self, id: ConnectionId, now: Instant) {
        self.connections.remove(&id);
        self.broker.handle(id, Input::Closed, now);
    }

    fn note(&mut self, line: String) {
        info!("{line}");
        if self.log.len() == MAX_LOG_LINES {
            self.log.pop_front();
        }
        self.log.push_back(line);
    }
}
