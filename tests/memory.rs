//! What the service holds at most, whatever is sent to it. On devkit's ground alone: what waits in that broker is this process's.

mod support;

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::Arc;

use devkit::feed::Feed;
use mso::proto;
use prost::Message as _;
use rumqttc::{Client, Event, MqttOptions, Packet, QoS};
use support::broker::Broker;
use support::service::SUBSCRIBED;
use support::{Ground, LIMIT, eventually, memory_kb, spawn};

const LARGE_BYTES: usize = 6_000_000;
/// Together less than the 256 MiB at which devkit's broker gives a client up.
const LARGE: usize = 40;
/// Each makes a line of the log, and a pipe holds 64 KiB: it is full when a few of the large ones, with those between them, were handled.
const SMALL_BEFORE: usize = 300;
const SMALL_BETWEEN: usize = 15;
/// The core keeps 64 MiB of those that came before it knows what runs. Beside that a few are read, decoded or waiting for it: 103 MB in all
/// were measured, and 246 MB where all wait for it.
const LIMIT_KB: u64 = 128 * 1024;

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

/// It is subscribed, and will not reach an API server.
struct Service {
    process: Child,
    /// `None`: somebody reads it.
    log: Option<BufReader<ChildStdout>>,
}

impl Service {
    fn start(broker_port: u16) -> Self {
        let settings = [
            ("SIMULATOR_NAME", "dots-so".to_owned()),
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
