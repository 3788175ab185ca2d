//! devkit's SO, with devkit's broker between it and a service and models that the test plays.

use std::collections::BTreeSet;
use std::thread;
use std::time::Duration;

use crossbeam_channel::{Receiver, unbounded};
use devkit::broker::Server;
use devkit::so::{Session, So, model_configuration};
use mso::proto::DeployModels;
use rumqttc::{Client, Event, Incoming, MqttOptions, QoS};

const LIMIT: Duration = Duration::from_secs(30);

/// Whatever the SO talks to.
struct Others {
    client: Client,
    /// The topics of what the SO says.
    heard: Receiver<String>,
}

impl Others {
    fn connect(broker: &Server) -> Self {
        let (client, mut connection) = Client::new(MqttOptions::new("others", "127.0.0.1", broker.address().port()), 100);
        let (said, heard) = unbounded();
        let (subscribed, when_subscribed) = unbounded();
        client.subscribe("/lifecycle/my-so/#", QoS::AtLeastOnce).expect("the connection is there");
        let listen = move || {
            for event in connection.iter().map_while(Result::ok) {
                match event {
                    Event::Incoming(Incoming::Publish(message)) => drop(said.send(message.topic)),
                    Event::Incoming(Incoming::SubAck(_)) => drop(subscribed.send(())),
                    _ => {}
                }
            }
        };
        thread::Builder::new().name("others".to_owned()).spawn(listen).expect("there is a thread");
        when_subscribed.recv_timeout(LIMIT).expect("the broker takes the subscription");
        Self { client, heard }
    }

    fn say(&self, topic: &str) {
        self.client.publish(topic, QoS::AtLeastOnce, false, "").expect("the connection is there");
    }

    /// The next messages, in whatever order.
    fn hear(&self, count: usize) -> BTreeSet<String> {
        (0..count).map(|_| self.heard.recv_timeout(LIMIT).expect("the SO says more")).collect()
    }
}

fn request(models: &[&str]) -> DeployModels {
    let models = models.iter().map(|id| model_configuration(id, "image", []));
    DeployModels { simulator_id: "my-so".to_owned(), model_configurations: models.collect(), keep_logs_hours: 0.0 }
}

fn set(topics: &[&str]) -> BTreeSet<String> {
    topics.iter().map(|&topic| topic.to_owned()).collect()
}

#[test]
fn a_simulation_is_taken_through_its_steps_to_its_end() {
    let broker = Server::start().expect("there is a free port");
    let others = Others::connect(&broker);
    let so = So::connect("127.0.0.1", broker.address().port(), "so", "my-so", Session::Clean).expect("the broker takes the SO");
    so.play("s", &request(&["a", "b"]), 1);
    assert_eq!(others.hear(1), set(&["/lifecycle/my-so/mso/s/DeployModels"]));
    others.say("/lifecycle/mso/my-so/s/ModelsReady");
    assert_eq!(others.hear(2), set(&["/lifecycle/my-so/model/s/a/ModelParameters", "/lifecycle/my-so/model/s/b/ModelParameters"]));
    for (answer, next) in [("Parameterized", "NewStep"), ("CalculationsDone", "SimulationDone")] {
        others.say(&format!("/lifecycle/model/my-so/s/a/{answer}"));
        // Twice is once.
        others.say(&format!("/lifecycle/model/my-so/s/a/{answer}"));
        others.say(&format!("/lifecycle/model/my-so/s/b/{answer}"));
        let topic = |model: &str| format!("/lifecycle/my-so/model/s/{model}/{next}");
        assert_eq!(others.hear(2), BTreeSet::from([topic("a"), topic("b")]));
    }
    assert_eq!(so.complaints(), [""; 0]);
}

#[test]
fn a_model_that_reports_an_error_ends_the_simulation() {
    let broker = Server::start().expect("there is a free port");
    let others = Others::connect(&broker);
    let so = So::connect("127.0.0.1", broker.address().port(), "so", "my-so", Session::Clean).expect("the broker takes the SO");
    so.deploy("s", &request(&["a", "b"]));
    others.hear(1);
    others.say("/lifecycle/model/my-so/s/a/ErrorOccurred");
    assert_eq!(others.hear(2), set(&["/lifecycle/my-so/model/s/a/SimulationDone", "/lifecycle/my-so/model/s/b/SimulationDone"]));
    // What they say after that begins nothing.
    for model in ["a", "b"] {
        others.say(&format!("/lifecycle/model/my-so/s/{model}/Parameterized"));
    }
    so.heard.wait(LIMIT, |heard| (heard.len() == 3).then_some(())).expect("all of it arrives");
    so.end("s", "last");
    assert_eq!(others.hear(1), set(&["/lifecycle/my-so/model/s/last/SimulationDone"]));
}

#[test]
fn what_would_break_an_so_in_use_is_complained_about() {
    let broker = Server::start().expect("there is a free port");
    let others = Others::connect(&broker);
    let so = So::connect("127.0.0.1", broker.address().port(), "so", "my-so", Session::Clean).expect("the broker takes the SO");
    so.deploy("s", &request(&["a"]));
    others.hear(1);
    let cases = [
        ("/lifecycle/mso/my-so/other/ModelsReady", "a simulation that it does not know"),
        ("/lifecycle/mso/my-so/s", "without a simulation and a message"),
        ("/lifecycle/mso/my-so/s/ModelsReady", ""),
        ("/lifecycle/mso/my-so/s/ModelsReady", "a second ModelsReady"),
    ];
    for (topic, _) in &cases {
        others.say(topic);
    }
    let error = |payload: &[u8]| {
        others.client.publish("/lifecycle/mso/my-so/s/a/ErrorOccurred", QoS::AtLeastOnce, false, payload).expect("the connection is there");
    };
    error(&[0xff]);
    // The first fails the simulation, as it should.
    error(&[]);
    error(&[]);
    so.heard.wait(LIMIT, |heard| (heard.len() == cases.len() + 3).then_some(())).expect("all of it arrives");
    let complaints = so.complaints();
    let of_errors = ["blocks the simulation", "turns a success into a failure"];
    let expected = cases.iter().map(|(_, complaint)| *complaint).filter(|complaint| !complaint.is_empty()).chain(of_errors);
    assert_eq!(complaints.len(), 5, "{complaints:#?}");
    for (complaint, expected) in complaints.iter().zip(expected) {
        assert!(complaint.contains(expected), "{complaint}");
    }
}
