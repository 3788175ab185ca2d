//! The broker: devkit's; or a mosquitto, the one that the environment names or one of the test's own.

use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

use devkit::broker::{Clients, Fault, Server};
use devkit::kubectl::{Kubectl, PortForward};
use devkit::mosquitto::Mosquitto;
use rumqttc::ConnectReturnCode;

use super::{Ground, required};

pub(crate) struct Broker {
    pub(crate) host: String,
    pub(crate) port: u16,
    /// As a pod reaches it.
    pub(crate) pod_host: String,
    pub(crate) pod_port: u16,
    program: Program,
}

enum Program {
    Devkit(Mutex<Server>),
    Shared,
    Own(Mutex<Mosquitto>),
    /// A pod, and the way to it.
    Pod(PortForward),
}

impl Broker {
    /// For a test that leaves it alone.
    pub(crate) fn shared(ground: Ground) -> Self {
        match ground {
            Ground::Devkit => Self::devkit(),
            Ground::Real => {
                let (host, port) = split(&std::env::var("MSO_TEST_BROKER").unwrap_or_else(|_| "127.0.0.1:1883".to_owned()));
                let (pod_host, pod_port) = in_pod();
                Self { host, port, pod_host, pod_port, program: Program::Shared }
            }
        }
    }

    /// Pods reach this machine where they reach the shared one.
    pub(crate) fn own(ground: Ground) -> Self {
        match ground {
            Ground::Devkit => Self::devkit(),
            // What it passes on to whom, too.
            Ground::Real => Self::mosquitto(&[("log_type", "all")]),
        }
    }

    /// One's own, which passes on more than the service takes. As people are told to set it, mosquitto would keep that to itself.
    pub(crate) fn that_passes_what_is_too_large(ground: Ground) -> Self {
        match ground {
            Ground::Devkit => Self::devkit(),
            Ground::Real => Self::mosquitto(&[("message_size_limit", "0")]),
        }
    }

    pub(crate) fn that_takes_no_qos_2(ground: Ground) -> Self {
        match ground {
            Ground::Devkit => {
                let broker = Self::devkit();
                broker.server().misbehave(Clients::All, Fault::TakeNoQos2);
                broker
            }
            Ground::Real => Self::mosquitto(&[("max_qos", "1")]),
        }
    }

    pub(crate) fn that_lets_nobody_in(ground: Ground) -> Self {
        match ground {
            Ground::Devkit => {
                let broker = Self::devkit();
                broker.server().misbehave(Clients::All, Fault::RefuseConnections(ConnectReturnCode::NotAuthorized));
                broker
            }
            Ground::Real => Self::mosquitto(&[("allow_anonymous", "false")]),
        }
    }

    /// A pod of the cluster that `KUBECONFIG` names.
    pub(crate) fn pod(namespace: &str, pod: &str, address: &str) -> Self {
        const PORT: u16 = 1883;
        let way = Kubectl::default().port_forward(namespace, pod, PORT).expect("kubectl reaches the pod");
        Self { host: "127.0.0.1".to_owned(), port: way.port, pod_host: address.to_owned(), pod_port: PORT, program: Program::Pod(way) }
    }

    fn devkit() -> Self {
        let server = Server::start().expect("there is a free port");
        let (host, port) = (server.address().ip().to_string(), server.address().port());
        Self { pod_host: host.clone(), pod_port: port, host, port, program: Program::Devkit(Mutex::new(server)) }
    }

    fn mosquitto(settings: &[(&str, &str)]) -> Self {
        let mosquitto = Mosquitto::start(Path::new(env!("CARGO_TARGET_TMPDIR")), settings).expect("mosquitto starts");
        let (host, port) = (mosquitto.address().ip().to_string(), mosquitto.address().port());
        Self { host, port, pod_host: in_pod().0, pod_port: port, program: Program::Own(Mutex::new(mosquitto)) }
    }

    /// In order: what has reached it is handled and answered, and counts.
    pub(crate) fn stop(&self) {
        match &self.program {
            Program::Devkit(_) => self.server().stop(),
            Program::Shared | Program::Pod(_) => panic!("it is not this test's to stop"),
            Program::Own(mosquitto) => lock(mosquitto).stop().expect("mosquitto stops"),
        }
    }

    /// Mosquitto where it stands: it forgets what it has acknowledged, has sent on to a client that is connected, and is not acknowledged
    /// by that yet. devkit's broker is stopped.
    pub(crate) fn kill(&self) {
        match &self.program {
            Program::Devkit(_) => self.server().stop(),
            Program::Shared | Program::Pod(_) => panic!("it is not this test's to kill"),
            Program::Own(mosquitto) => lock(mosquitto).kill(),
        }
    }

    /// Again, with all that it had kept.
    pub(crate) fn start(&self) {
        match &self.program {
            Program::Devkit(_) => self.server().restart().expect("its port is free"),
            Program::Shared | Program::Pod(_) => panic!("it runs"),
            Program::Own(mosquitto) => lock(mosquitto).restart().expect("mosquitto starts again"),
        }
    }

    /// Again, but it knows nothing of this client.
    pub(crate) fn start_without_the_session_of(&self, client: &str) {
        match &self.program {
            Program::Devkit(_) => self.server().forget_session(client),
            Program::Shared | Program::Pod(_) => panic!("it runs"),
            Program::Own(mosquitto) => lock(mosquitto).forget_session(client).expect("mosquitto forgets"),
        }
        self.start();
    }

    /// Who came, who left and why: in mosquitto's words.
    pub(crate) fn log(&self) -> String {
        match &self.program {
            Program::Devkit(_) => self.server().log().join("\n"),
            Program::Shared | Program::Pod(_) => "(not this test's alone)".to_owned(),
            Program::Own(mosquitto) => lock(mosquitto).log(),
        }
    }

    /// devkit's, for what mosquitto cannot be told to do.
    pub(crate) fn server(&self) -> MutexGuard<'_, Server> {
        match &self.program {
            Program::Devkit(server) => lock(server),
            Program::Shared | Program::Own(_) | Program::Pod(_) => panic!("only devkit's broker misbehaves when asked"),
        }
    }
}

fn in_pod() -> (String, u16) {
    split(&required("MSO_TEST_BROKER_IN_POD", "the broker's host:port as a pod reaches it"))
}

fn split(address: &str) -> (String, u16) {
    let (host, port) = address.rsplit_once(':').unwrap_or_else(|| panic!("{address:?} is not host:port"));
    (host.to_owned(), port.parse().unwrap_or_else(|_| panic!("{address:?} is not host:port")))
}

/// A test that failed while it held it tells its log.
fn lock<T>(program: &Mutex<T>) -> MutexGuard<'_, T> {
    program.lock().unwrap_or_else(PoisonError::into_inner)
}
