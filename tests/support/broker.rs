//! The broker: the one that the environment names, or a mosquitto of the test's own that it can kill.

use std::io::ErrorKind;
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;

use super::{eventually, required, unique};

pub(crate) struct Broker {
    pub(crate) host: String,
    pub(crate) port: u16,
    /// As a pod reaches it.
    pub(crate) pod_host: String,
    pub(crate) pod_port: u16,
    own: Option<Mosquitto>,
}

impl Broker {
    pub(crate) fn shared() -> Self {
        let (host, port) = split(&std::env::var("MSO_TEST_BROKER").unwrap_or_else(|_| "127.0.0.1:1883".to_owned()));
        let (pod_host, pod_port) = in_pod();
        Self { host, port, pod_host, pod_port, own: None }
    }

    /// Pods reach this machine where they reach the shared one.
    pub(crate) fn own() -> Self {
        let mosquitto = Mosquitto::new();
        let port = mosquitto.port;
        Self { host: "127.0.0.1".to_owned(), port, pod_host: in_pod().0, pod_port: port, own: Some(mosquitto) }
    }

    pub(crate) fn kill(&self) {
        self.mosquitto().kill();
    }

    /// Again, with all that it had written.
    pub(crate) fn start(&self) {
        self.mosquitto().start();
    }

    fn mosquitto(&self) -> &Mosquitto {
        self.own.as_ref().expect("the broker is the test's own")
    }
}

fn in_pod() -> (String, u16) {
    split(&required("MSO_TEST_BROKER_IN_POD", "the broker's host:port as a pod reaches it"))
}

fn split(address: &str) -> (String, u16) {
    let (host, port) = address.rsplit_once(':').unwrap_or_else(|| panic!("{address:?} is not host:port"));
    (host.to_owned(), port.parse().unwrap_or_else(|_| panic!("{address:?} is not host:port")))
}

struct Mosquitto {
    folder: PathBuf,
    port: u16,
    process: Mutex<Option<Child>>,
}

impl Mosquitto {
    fn new() -> Self {
        let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("mosquitto-{}", unique()));
        std::fs::create_dir_all(&folder).expect("the test's folder can be made");
        let port = TcpListener::bind("0.0.0.0:0").and_then(|listener| listener.local_addr()).expect("there is a free port").port();
        // Acknowledged is written, as the one in the field has it. Started by root it would become a user who may not write here.
        let config = format!(
            "user root\nlistener {port} 0.0.0.0\nallow_anonymous true\nset_tcp_nodelay true\nqueue_qos0_messages true\npersistence true\n\
             autosave_interval 1\nautosave_on_changes true\npersistence_location {}/\n",
            folder.display()
        );
        std::fs::write(folder.join("mosquitto.conf"), config).expect("the configuration can be written");
        let mosquitto = Self { folder, port, process: Mutex::default() };
        mosquitto.start();
        mosquitto
    }

    fn start(&self) {
        let spawn = |program: &str| {
            Command::new(program).arg("-c").arg(self.folder.join("mosquitto.conf")).stdout(Stdio::null()).stderr(Stdio::null()).spawn()
        };
        // Debian has it where only root looks for programs.
        let process = match spawn("mosquitto") {
            Err(error) if error.kind() == ErrorKind::NotFound => spawn("/usr/sbin/mosquitto"),
            result => result,
        };
        *self.process.lock().expect("no test panics here") = Some(process.expect("mosquitto is installed"));
        eventually("mosquitto", || TcpStream::connect(("127.0.0.1", self.port)).ok());
    }

    fn kill(&self) {
        if let Some(mut process) = self.process.lock().expect("no test panics here").take() {
            process.kill().and_then(|()| process.wait()).expect("mosquitto can be killed");
        }
    }
}

impl Drop for Mosquitto {
    fn drop(&mut self) {
        self.kill();
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}
