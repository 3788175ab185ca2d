//! The only way from the service to one of its neighbours: a TCP proxy that falls silent, or cuts all connections, when it is told to.
//!
//! It knows no protocol. Silent, it keeps what was sent and passes it on afterwards, be the sender dead by then: as a network does whose
//! packets are lost and sent again. Only what waits for TCP's own acknowledgement sees no difference.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use super::spawn;

const BUFFER_BYTES: usize = 16 * 1024;

/// Whatever waits there is let go when it is dropped.
pub(crate) struct Link {
    /// On 127.0.0.1.
    pub(crate) port: u16,
    way: Arc<Way>,
}

struct Way {
    host: String,
    port: u16,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    is_silent: bool,
    is_cut: bool,
    is_over: bool,
    accepted: u64,
    /// Both ends of each.
    connections: BTreeMap<u64, [TcpStream; 2]>,
}

impl Link {
    pub(crate) fn to(host: &str, port: u16) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("there is a free port");
        let own_port = listener.local_addr().expect("it is bound").port();
        let way = Arc::new(Way { host: host.to_owned(), port, state: Mutex::default(), changed: Condvar::new() });
        let accepting = way.clone();
        spawn("link", move || {
            for near in listener.incoming() {
                if accepting.lock().is_over {
                    return;
                }
                let Ok(near) = near else { continue };
                let way = accepting.clone();
                spawn("link", move || way.join(near));
            }
        });
        Self { port: own_port, way }
    }

    /// Nothing passes, and nobody is told.
    pub(crate) fn silence(&self) {
        self.way.change(|state| state.is_silent = true);
    }

    /// All connections end, and so does each new one.
    pub(crate) fn cut(&self) {
        self.way.change(|state| {
            state.is_cut = true;
            state.connections.values().flatten().for_each(close);
        });
    }

    pub(crate) fn mend(&self) {
        self.way.change(|state| (state.is_silent, state.is_cut) = (false, false));
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.way.change(|state| {
            state.is_over = true;
            state.connections.values().flatten().for_each(close);
        });
        // So that the thread that accepts looks up.
        let _ = TcpStream::connect((Ipv4Addr::LOCALHOST, self.port));
    }
}

impl Way {
    /// Both directions, to the end of the connection.
    fn join(self: Arc<Self>, near: TcpStream) {
        if !self.is_open_after_silence() {
            return;
        }
        let Ok(far) = TcpStream::connect((self.host.as_str(), self.port)) else { return };
        for end in [&near, &far] {
            let _ = end.set_nodelay(true);
        }
        let clone = |end: &TcpStream| end.try_clone().expect("the system has one more descriptor");
        let number = {
            let mut state = self.lock();
            state.accepted += 1;
            let number = state.accepted;
            state.connections.insert(number, [clone(&near), clone(&far)]);
            number
        };
        let (way, from, to) = (self.clone(), clone(&far), clone(&near));
        spawn("link", move || way.pass(from, to, number));
        self.pass(near, far, number);
    }

    fn pass(&self, mut from: TcpStream, mut to: TcpStream, number: u64) {
        let mut buffer = vec![0; BUFFER_BYTES];
        // An end of the connection is kept back too.
        while let Ok(length) = from.read(&mut buffer) {
            if !self.is_open_after_silence() || length == 0 || to.write_all(&buffer[..length]).is_err() {
                break;
            }
        }
        self.is_open_after_silence();
        close(&from);
        close(&to);
        self.lock().connections.remove(&number);
    }

    fn is_open_after_silence(&self) -> bool {
        let is_silent = |state: &mut State| state.is_silent && !state.is_cut && !state.is_over;
        let state = self.changed.wait_while(self.lock(), is_silent).unwrap_or_else(PoisonError::into_inner);
        !state.is_cut && !state.is_over
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.lock());
        self.changed.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn close(end: &TcpStream) {
    // It may have ended by itself.
    let _ = end.shutdown(Shutdown::Both);
}
