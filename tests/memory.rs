//! What the service holds at most, whatever is sent to it. On devkit's ground alone: what waits in that broker is this process's.

mod support;

use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::Arc;

use devkit::feed::Feed;
use mso::clock;
use mso::config::Config;
use mso::ids::{DeployId, ModelId, PodName, RecordName, SimulationId, SimulatorId, SimulatorName};
use mso::kube::pod::Variable;
use mso::kube::record::{Content, NewRecord, Over, Progress};
use mso::orchestrator::event::{DeployRequest, ModelConfiguration, RecordCall};
use mso::secret::Secret;
use mso::{kube, proto};
use prost::Message as _;
use rumqttc::{Client, Event, MqttOptions, Packet, QoS};
use support::broker::Broker;
use support::namespace::Namespace;
use support::service::{self, SUBSCRIBED, Settings};
use support::{Ground, LIMIT, eventually, memory_kb, spawn};

const SIMULATOR: &str = "dots-so";
const VALID: &str = "these names are valid";
const LARGE_BYTES: usize = 6_000_000;
/// Together less than the 256 MiB at which devkit's broker gives a client up.
const LARGE: usize = 40;
/// Each makes a line of the log, and a pipe holds 64 KiB: it is full when a few of the large ones, with those between them, were handled.
const SMALL_BEFORE: usize = 300;
const SMALL_BETWEEN: usize = 15;
/// The core keeps 64 MiB of those that came before it knows what runs. Beside that a few are read, decoded or waiting for it: 103 MB in all
/// were measured, and 246 MB where all wait for it.
const LIMIT_KB: u64 = 128 * 1024;

/// As large as a request can be. Eight of them are just below the 128 MiB that are read of records.
const RECORDED_BYTES: usize = 16_000_000;
/// Of the 512 MiB in k8s/ what is not for the broker's side: 64 MiB that wait, 160 MiB of packets, and 32 MiB for the one that is decoded.
/// 213 MB were measured: the records, and more and more of what those of a simulation that goes on say.
const START_LIMIT_KB: u64 = 256 * 1024;

#[test]
fn requests_of_6_mb_that_come_faster_than_they_are_handled_wait_in_the_broker() {
    let broker = Broker::own(Ground::Devkit);
    let mut mso = Service::start(broker.port);
    // The state thread hangs at its log, which nobody reads.
    publish_all(broker.port);
    let (mut before, mut unchanged) = (0, 0);
    eventually("the service to take no more", || {
        let now = mso.memory_kb("VmRSS");
        unchanged = if now == before { unchanged + 1 } else { 0 };
        before = now;
        (unchanged == 20).then_some(())
    });
    let hung = mso.memory_kb("VmHWM");
    let log = mso.read_log();
    // Kept, or refused.
    let handled =
        |log: &[String]| log.iter().filter(|line| line.contains("DeployModels for simulation") && line.contains("large-")).count();
    log.wait(LIMIT, |log| (handled(log) == LARGE).then_some(())).expect("each is handled");
    let peak = mso.memory_kb("VmHWM");
    assert!(peak < LIMIT_KB, "{hung} kB while the state thread hung, {peak} kB at the most");
}

/// Half of them are of a simulation that goes on, which is as much as may run.
#[test]
#[ignore = "takes a minute or two: 128 MB go through devkit's cluster twice"]
fn a_start_with_all_the_records_that_are_read_leaves_room_for_what_the_broker_sends() {
    let (broker, namespace) = (Broker::own(Ground::Devkit), Namespace::with_account(Ground::Devkit));
    let settings = settings(&broker, &namespace);
    let running: Vec<DeployRequest> = (0..4).map(|number| recorded("running", number)).collect();
    // Its pods are gone, so that none is made.
    let created = (0..running.iter().map(|request| request.models.len()).sum()).collect();
    record(&settings, &running, |progress| Progress { created, ..progress });
    for number in 4..8 {
        let now = clock::now().unix;
        let over = Some(Over { at: now, delete_by: now });
        record(&settings, &[recorded(&format!("over-{number}"), number)], |progress| Progress { over, ..progress });
    }
    let mso = service::Service::start(&settings);
    mso.line("Simulation running goes on: of its 40 models");
    mso.line("Removing simulation running from cache.");
    let peak = mso.memory_kb("VmHWM");
    println!("{peak} kB at the most");
    assert!(peak < START_LIMIT_KB, "{peak} kB");
}

fn settings(broker: &Broker, namespace: &Namespace) -> Settings {
    let (api_host, api_port) = namespace.api_address();
    let settings = [
        ("SIMULATOR_NAME", SIMULATOR.to_owned()),
        ("MQTT_HOST", broker.host.clone()),
        ("MQTT_PORT", broker.port.to_string()),
        ("KUBERNETES_HOST", api_host),
        ("KUBERNETES_PORT", api_port.to_string()),
        ("KUBERNETES_NAMESPACE", namespace.name.clone()),
        ("KUBERNETES_API_TOKEN", namespace.token()),
        ("KUBERNETES_CA_FILE", namespace.ca_file().display().to_string()),
        ("STATUS_ADDRESS", "off".to_owned()),
    ];
    settings.map(|(name, value)| (name.to_owned(), value)).into()
}

/// Of ten models.
fn recorded(simulation: &str, number: usize) -> DeployRequest {
    let (simulator, simulation) = (SimulatorId::new("essim").expect(VALID), SimulationId::new(simulation).expect(VALID));
    let model = |index: usize| {
        let model = ModelId::new(&format!("m-{number}-{index}")).expect(VALID);
        let variable = Variable { name: "A".to_owned(), value: Secret::new("x".repeat(RECORDED_BYTES / 10)) };
        let pod = PodName::of(&simulator, &simulation, &model).expect(VALID);
        ModelConfiguration { model, pod, image: "image".to_owned(), variables: vec![variable] }
    };
    let id = DeployId::new(&format!("{number:016x}")).expect(VALID);
    DeployRequest { id, models: (0..10).map(model).collect(), simulator, simulation, keep_logs_hours: 1.0 }
}

/// As the service leaves a simulation, with this progress.
fn record(settings: &Settings, requests: &[DeployRequest], progress: impl FnOnce(Progress) -> Progress) {
    let config = Config::read(settings, Path::new("/")).expect("the settings are right");
    let client = kube::Client::new(&config.kubernetes, &config.pods, 1).expect("the settings are right");
    let create = |record| drop(client.call_record(&RecordCall::Create(Arc::new(record))).expect("the API takes it"));
    let simulator = SimulatorName::new(SIMULATOR).expect(VALID);
    let simulation = requests[0].simulation.clone();
    requests.iter().flat_map(|request| NewRecord::pieces(&simulator, request, clock::now().unix)).for_each(create);
    let deploys = requests.iter().map(|request| request.id.clone()).collect();
    let text = progress(Progress { deploys, ..Progress::default() }).to_text();
    create(NewRecord { name: RecordName::of_progress(&simulator, &simulation), simulation, content: Content::Progress { text } });
}

/// It is subscribed, and will not reach an API server.
struct Service {
    process: Child,
    /// `None`: somebody reads it.
    log: Option<BufReader<ChildStdout>>,
}

impl Service {
    fn start(broker_port: u16) -> Self {
        let settings = [
            ("SIMULATOR_NAME", SIMULATOR.to_owned()),
            ("MQTT_HOST", "127.0.0.1".to_owned()),
            ("MQTT_PORT", broker_port.to_string()),
            ("KUBERNETES_HOST", "127.0.0.1".to_owned()),
            ("KUBERNETES_PORT", "1".to_owned()),
            ("KUBERNETES_API_TOKEN", "token".to_owned()),
            ("KUBERNETES_VERIFY_TLS", "false".to_owned()),
            ("STATUS_ADDRESS", "off".to_owned()),
        ];
        let mut command = Command::new(env!("CARGO_BIN_EXE_mso"));
        command.env_clear().envs(settings).current_dir(env!("CARGO_TARGET_TMPDIR")).stdin(Stdio::null()).stdout(Stdio::piped());
        let mut process = command.spawn().expect("the service can be started");
        let mut log = BufReader::new(process.stdout.take().expect("it is piped"));
        assert!(log.by_ref().lines().map_while(Result::ok).any(|line| line.contains(SUBSCRIBED)));
        Self { process, log: Some(log) }
    }

    fn read_log(&mut self) -> Arc<Feed<String>> {
        let lines = self.log.take().expect("it is read once").lines();
        let feed = Arc::<Feed<String>>::default();
        let read = feed.clone();
        spawn("log", move || lines.map_while(Result::ok).for_each(|line| feed.push(line)));
        read
    }

    /// Of the fields in `/proc/<pid>/status`, in kB.
    fn memory_kb(&self, field: &str) -> u64 {
        memory_kb(self.process.id(), field)
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// First the small ones. Returns when the broker has them all.
fn publish_all(broker_port: u16) {
    let mut options = MqttOptions::new("so", "127.0.0.1", broker_port);
    options.set_max_packet_size(2 * LARGE_BYTES, 2 * LARGE_BYTES);
    let (client, mut connection) = Client::new(options, 10);
    spawn("so", move || {
        let publish = |qos, name: String, bytes| {
            let topic = format!("/lifecycle/dots-so/mso/{name}/DeployModels");
            client.publish(topic, qos, false, request(bytes)).expect("the connection reads on");
        };
        (0..SMALL_BEFORE).for_each(|number| publish(QoS::AtMostOnce, format!("small-{number}"), 0));
        for large in 1..=LARGE {
            publish(QoS::AtMostOnce, format!("large-{large}"), LARGE_BYTES);
            (0..SMALL_BETWEEN).for_each(|number| publish(QoS::AtMostOnce, format!("small-{number}-after-{large}"), 0));
        }
        publish(QoS::AtLeastOnce, "last".to_owned(), 0);
    });
    let acknowledged = connection.iter().any(|event| matches!(event.expect("the broker is there"), Event::Incoming(Packet::PubAck(_))));
    assert!(acknowledged);
}

/// So many bytes are in the variables of ten models.
fn request(bytes: usize) -> Vec<u8> {
    let model = |number| proto::ModelConfiguration {
        model_id: format!("m-{number}"),
        image_url: "image".to_owned(),
        environment_variables: vec![proto::EnvironmentVariable { name: "A".to_owned(), value: "x".repeat(bytes / 10) }],
    };
    let model_configurations = (0..10).map(model).collect();
    proto::DeployModels { simulator_id: "essim".to_owned(), model_configurations, keep_logs_hours: 0.0 }.encode_to_vec()
}
