//! The room `mqtt` with a broker of each test's own: devkit's, or on the real ground a mosquitto.
//!
//! Nothing here sleeps for a fixed time; what does not come within [`PATIENCE`] never comes. It is long as a table is: a promise of the
//! room each, and all take the same service and peer, at the end.

#![allow(clippy::unwrap_used, reason = "in a test a panic is the report")]

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Mutex, OnceLock};
use std::thread;
use std::time::Duration;

use crossbeam_channel::{Receiver, bounded, unbounded};
use devkit::broker::{Clients, Fault};
use devkit::wait;
use mso::clock;
use mso::config::MqttSettings;
use mso::ids::{SimulatorName, TopicSegment};
use mso::mqtt::{self, Publisher};
use mso::orchestrator::event::{Body, BrokerEvent, Delivery, Event, Message, MessageId};
use mso::orchestrator::pod_state::Verdict;
use mso::proto;
use mso::secret::Secret;
use mso::supervise::{Beat, Supervisor};
use prost::Message as _;
use rumqttc::{Client, ConnectReturnCode, MqttOptions, Packet, QoS};
use support::broker::Broker;
use support::{Ground, ground};

/// Past the longest back-off, on a machine with other work.
const PATIENCE: Duration = Duration::from_secs(60);
const OVER_THE_LIMIT_BYTES: usize = 17_000_000;
/// Types of packets.
const PUBLISH: u8 = 3;
const PING_REQUEST: u8 = 12;

#[test]
fn a_request_and_a_ready_model_arrive_as_events() {
    let broker = Broker::own(ground());
    let ours = Service::start(broker.port, "");
    ours.wait_until_connected();
    let so = Peer::connect(broker.port, "so", "/lifecycle/mso/dots-so/#");
    so.publish("/lifecycle/dots-so/mso/sim-1/DeployModels", QoS::AtMostOnce, &request("m"));
    let BrokerEvent::DeployModels { simulation, request, delivery: None } = ours.next() else { panic!("no request") };
    assert_eq!(simulation.as_str(), "sim-1");
    assert_eq!(request.unwrap().models[0].pod.as_str(), "essim-sim-1-m");
    so.publish("/lifecycle/model/mso/sim-1/m/ReadyForProcessing", QoS::AtMostOnce, &[]);
    let BrokerEvent::ReadyForProcessing { model, .. } = ours.next() else { panic!("no ready model") };
    assert_eq!(model.as_str(), "m");
}

#[test]
fn what_is_no_request_is_logged_and_dropped() {
    let broker = Broker::own(ground());
    let ours = Service::start(broker.port, "");
    ours.wait_until_connected();
    let so = Peer::connect(broker.port, "so", "/lifecycle/mso/dots-so/#");
    let topic = |simulation: &str| format!("/lifecycle/dots-so/mso/{simulation}/DeployModels");
    let case = broker.port;
    so.publish(&topic(&format!("undecodable-{case}")), QoS::AtLeastOnce, b"hello");
    so.publish(&format!("/lifecycle/model/mso/_bad-{case}/m/ReadyForProcessing"), QoS::AtLeastOnce, &[]);
    so.publish(&topic("good"), QoS::AtLeastOnce, &request("m"));
    let BrokerEvent::DeployModels { simulation, .. } = ours.next() else { panic!("no request") };
    assert_eq!(simulation.as_str(), "good");
    assert_eq!(logged(&format!("WARN dropped a message: topic \"{}\": failed to decode", topic(&format!("undecodable-{case}")))), 1);
    assert_eq!(logged(&format!("the simulation id \"_bad-{case}\" has '_' at an end: it takes")), 1);
}

#[test]
fn a_retained_request_is_done_when_it_is_published_and_not_with_each_connection() {
    let broker = Broker::own(ground());
    let ours = Service::start(broker.port, "");
    ours.wait_until_connected();
    let so = Peer::connect(broker.port, "so", "/lifecycle/mso/dots-so/#");
    let retained = format!("/lifecycle/dots-so/mso/retained-{}/DeployModels", broker.port);
    so.client.publish(&retained, QoS::AtLeastOnce, true, request("m")).unwrap();
    ours.publisher.acknowledge(ours.next_message().1.unwrap());
    ours.wait_until_the_broker_has_read_all();
    // Not with the broker killed: mosquitto forgets our last acknowledgement, and rightly delivers again.
    ours.stop();
    let ours = Service::start(broker.port, "");
    wait_for("the retained message to be refused", || logged(&format!("topic \"{retained}\": it is retained")) > 0);
    so.publish("/lifecycle/dots-so/mso/next/DeployModels", QoS::AtLeastOnce, &request("m"));
    let next = ours.events_until(|event| matches!(event, BrokerEvent::DeployModels { .. }));
    let BrokerEvent::DeployModels { simulation, .. } = next.last().unwrap() else { panic!("no request") };
    assert_eq!(simulation.as_str(), "next");
}

#[test]
fn what_we_publish_arrives_byte_for_byte_and_not_retained() {
    let broker = Broker::own(ground());
    let so = Peer::connect(broker.port, "so", "/lifecycle/mso/dots-so/#");
    let ours = Service::start(broker.port, "");
    ours.wait_until_connected();
    let model = || TopicSegment::new("m").unwrap();
    let bodies = [
        (Body::ModelsReady, "/lifecycle/mso/dots-so/s/ModelsReady", vec![]),
        (
            Body::ModelHasTerminated { model: model(), verdict: Verdict::succeeded("") },
            "/lifecycle/mso/dots-so/s/m/ModelHasTerminated",
            vec![],
        ),
        (
            Body::ModelHasTerminated { model: model(), verdict: Verdict::failed(3, "", "") },
            "/lifecycle/mso/dots-so/s/m/ModelHasTerminated",
            vec![8, 1, 16, 3],
        ),
        (Body::AllModelsHaveTerminated, "/lifecycle/mso/dots-so/s/AllModelsHaveTerminated", vec![]),
    ];
    for (id, (body, ..)) in (1..).zip(&bodies) {
        ours.publisher.publish(&Message { id, simulation: TopicSegment::new("s").unwrap(), body: body.clone() });
    }
    let in_words = |topic: &str, payload: &[u8], retain: bool| format!("{topic} {payload:?} {retain}");
    // ModelsReady takes longer.
    let mut arrived: Vec<String> = (0..bodies.len())
        .map(|_| so.messages.recv_timeout(PATIENCE).unwrap())
        .map(|message| in_words(&message.topic, &message.payload, message.retain))
        .collect();
    let mut expected: Vec<String> = bodies.iter().map(|(_, topic, payload)| in_words(topic, payload, false)).collect();
    arrived.sort();
    expected.sort();
    assert_eq!(arrived, expected);
    let mut published = ours.published(bodies.len());
    published.sort_unstable();
    assert_eq!(published, (1..=4).collect::<Vec<_>>());
    let late = Peer::connect(broker.port, "late", "/lifecycle/mso/dots-so/#");
    late.publish("/lifecycle/mso/dots-so/only", QoS::AtLeastOnce, &[]);
    assert_eq!(late.messages.recv_timeout(PATIENCE).unwrap().topic, "/lifecycle/mso/dots-so/only", "nothing was retained");
}

#[test]
fn nothing_is_lost_when_the_broker_is_restarted_twice() {
    let broker = Broker::own(ground());
    let so = Peer::connect(broker.port, "so", "/lifecycle/mso/dots-so/#");
    let ours = Service::start(broker.port, "");
    ours.wait_until_connected();
    // Each time the first half is under way, and the second published while nobody is there.
    for round in 0..2 {
        for id in 1..=250 {
            ours.publish(round * 500 + id);
        }
        broker.stop();
        for id in 251..=500 {
            ours.publish(round * 500 + id);
        }
        broker.start();
        ours.events_until(|event| matches!(event, BrokerEvent::Connected));
    }
    assert_eq!(ours.published_so_far(1000), (1..=1000).collect::<Vec<_>>(), "each is reported once");
    so.wait_for_all(1..=1000);
}

#[test]
fn nothing_is_lost_when_a_broker_without_our_session_takes_over() {
    let broker = Broker::own(ground());
    let so = Peer::connect(broker.port, "so", "/lifecycle/mso/dots-so/#");
    let ours = Service::start(broker.port, "");
    ours.wait_until_connected();
    for id in 1..=500 {
        ours.publish(id);
    }
    broker.kill();
    for id in 501..=1000 {
        ours.publish(id);
    }
    let before = published(&ours.events_until(|event| matches!(event, BrokerEvent::Disconnected)));
    // It knows the SO, so that nothing can pass before it is subscribed.
    broker.start_without_the_session_of("mso-dots-so");
    assert!(before.len() <= 500, "some were left for the other broker");
    assert_eq!(ours.published_so_far(1000), (1..=1000).collect::<Vec<_>>(), "each is reported once");
    so.wait_for_all((1..=1000).filter(|id| !before.contains(id)));
}

/// Its receiver is not back as soon as we are.
#[test]
fn models_ready_that_no_connection_has_sent_comes_back_and_what_was_published_with_it_goes_out() {
    let broker = Broker::own(ground());
    let ours = Service::start(broker.port, "");
    ours.wait_until_connected();
    broker.kill();
    ours.events_until(|event| matches!(event, BrokerEvent::Disconnected));
    ours.publish(1);
    ours.publisher.publish(&models_ready(2));
    ours.publish(3);
    broker.start();
    let so = Peer::connect(broker.port, "so", "/lifecycle/mso/dots-so/#");
    let before = ours.events_until(|event| matches!(event, BrokerEvent::Connected));
    assert!(before.iter().any(|event| matches!(event, BrokerEvent::Unsent(2))), "said before we are connected: {before:?}");
    ours.publisher.publish(&models_ready(4));
    ours.events_until(|event| matches!(event, BrokerEvent::Published(4)));
    ours.publish(5);
    let topics = so.topics_until("/lifecycle/mso/dots-so/s/5/ModelHasTerminated");
    assert_eq!(count_models_ready(&topics), 1, "{topics:?}");
}

#[test]
fn models_ready_is_heard_once_though_its_connection_breaks() {
    let broker = Broker::own(ground());
    let so = Peer::connect(broker.port, "so", "/lifecycle/mso/dots-so/#");
    let ours = Service::start(broker.port, "");
    ours.wait_until_connected();
    let mut events = Vec::new();
    // At the third we back off for half a minute.
    for id in 1..=2 {
        ours.publisher.publish(&models_ready(id));
        events.extend(break_connection(broker.port, &ours));
        events.extend(ours.events_until(|event| matches!(event, BrokerEvent::Connected)));
    }
    let is_settled = |event: &BrokerEvent| matches!(event, BrokerEvent::Published(_) | BrokerEvent::Unsent(_));
    while events.iter().filter(|event| is_settled(event)).count() < 2 {
        events.push(ours.next());
    }
    ours.publish(3);
    let topics = so.topics_until("/lifecycle/mso/dots-so/s/3/ModelHasTerminated");
    assert_eq!(count_models_ready(&topics), published(&events).len(), "{topics:?} after {events:?}");
}

/// Mosquitto cannot be told to misbehave: devkit's broker on either ground.
#[test]
fn models_ready_whose_acknowledgement_is_lost_is_heard_once() {
    for fault in [Fault::LoseAcknowledgement, Fault::LoseCompletion] {
        let broker = Broker::own(Ground::Devkit);
        let so = Peer::connect(broker.port, "so", "/lifecycle/mso/dots-so/#");
        let ours = Service::start(broker.port, "");
        ours.wait_until_connected();
        broker.server().misbehave(Clients::named("mso-dots-so"), fault.clone());
        ours.publisher.publish(&models_ready(1));
        let events = ours.events_until(|event| matches!(event, BrokerEvent::Published(1)));
        assert!(events.iter().any(|event| matches!(event, BrokerEvent::Disconnected)), "{fault:?} was not: {events:?}");
        ours.publish(2);
        assert_eq!(ours.published_so_far(2), [1, 2], "each is reported once");
        let topics = so.topics_until("/lifecycle/mso/dots-so/s/2/ModelHasTerminated");
        assert_eq!(count_models_ready(&topics), 1, "{fault:?}: {topics:?}");
    }
}

/// Mosquitto cannot be told to misbehave: devkit's broker on either ground.
#[test]
fn models_ready_in_flight_to_a_broker_that_lost_our_session_is_doubtful_and_not_sent_again() {
    for (fault, heard) in [(Fault::LoseAcknowledgement, 0), (Fault::LoseCompletion, 1)] {
        let broker = Broker::own(Ground::Devkit);
        let so = Peer::connect(broker.port, "so", "/lifecycle/mso/dots-so/#");
        let ours = Service::start(broker.port, "");
        ours.wait_until_connected();
        let on_ours = || Clients::named("mso-dots-so");
        broker.server().misbehave(on_ours(), fault.clone());
        broker.server().misbehave(on_ours(), Fault::RefuseConnections(ConnectReturnCode::ServiceUnavailable));
        ours.publisher.publish(&models_ready(1));
        ours.events_until(|event| matches!(event, BrokerEvent::Disconnected));
        ours.publish(2);
        ours.publisher.publish(&models_ready(3));
        broker.server().forget_session("mso-dots-so");
        broker.server().behave();
        let events = ours.events_until(|event| matches!(event, BrokerEvent::Connected));
        let [BrokerEvent::Unsent(3), BrokerEvent::Doubtful(1), BrokerEvent::Connected] = events[..] else { panic!("{events:?}") };
        assert_eq!(ours.published_so_far(1), [2]);
        let topics = so.topics_until("/lifecycle/mso/dots-so/s/2/ModelHasTerminated");
        assert_eq!(count_models_ready(&topics), heard, "{fault:?}: {topics:?}");
    }
}

/// Mosquitto cannot be told to misbehave: devkit's broker on either ground.
#[test]
fn nothing_is_lost_when_a_broker_closes_at_each_message() {
    const CONNECT_SUBSCRIBE_AND_ONE_MESSAGE: u32 = 3;
    let broker = Broker::own(Ground::Devkit);
    let so = Peer::connect(broker.port, "so", "/lifecycle/mso/dots-so/#");
    broker.server().misbehave(Clients::named("mso-dots-so"), Fault::CloseAtPacket(CONNECT_SUBSCRIBE_AND_ONE_MESSAGE + 1));
    let ours = Service::start(broker.port, "");
    for id in 1..=500 {
        ours.publish(id);
    }
    // At the third we back off for half a minute.
    wait_for("two connections to be closed", || broker.log().matches("Client mso-dots-so is cut off, as asked.").count() >= 2);
    broker.server().behave();
    assert_eq!(ours.published_so_far(500), (1..=500).collect::<Vec<_>>(), "each is reported once");
    so.wait_for_all(1..=500);
}

/// Mosquitto cannot be told to misbehave: devkit's broker on either ground.
#[test]
fn nothing_is_lost_when_the_acknowledgement_of_a_message_is() {
    let broker = Broker::own(Ground::Devkit);
    let so = Peer::connect(broker.port, "so", "/lifecycle/mso/dots-so/#");
    for _ in 0..2 {
        broker.server().misbehave(Clients::named("mso-dots-so"), Fault::LoseAcknowledgement);
    }
    let ours = Service::start(broker.port, "");
    for id in 1..=500 {
        ours.publish(id);
    }
    assert_eq!(ours.published_so_far(500), (1..=500).collect::<Vec<_>>(), "each is reported once");
    let arrived = so.wait_for_all(1..=500);
    assert!(arrived > 500, "what was not acknowledged was sent again");
}

/// Mosquitto cannot be told to misbehave: devkit's broker on either ground.
#[test]
fn a_broker_that_accepts_and_says_nothing_is_left_and_nothing_is_lost() {
    let broker = Broker::own(Ground::Devkit);
    let so = Peer::connect(broker.port, "so", "/lifecycle/mso/dots-so/#");
    broker.server().misbehave(Clients::named("mso-dots-so"), Fault::SayNothing);
    let ours = Service::start(broker.port, "");
    for id in 1..=500 {
        ours.publish(id);
    }
    wait_for("the silence to be said", || logged(&format!("WARN no connection to the broker at 127.0.0.1:{} ", broker.port)) == 1);
    broker.server().behave();
    assert_eq!(ours.published_so_far(500), (1..=500).collect::<Vec<_>>(), "each is reported once");
    assert_eq!(so.wait_for_all(1..=500), 500, "none was sent before");
}

/// Mosquitto cannot be told to misbehave: devkit's broker on either ground.
#[test]
#[ignore = "takes a minute and more: the deadline is the real one"]
fn a_broker_that_acknowledges_no_subscription_or_no_message_for_a_minute_is_named_and_left_and_nothing_is_lost() {
    let brokers = [Broker::own(Ground::Devkit), Broker::own(Ground::Devkit)];
    let [without_sub_ack, without_pub_ack] = &brokers;
    let hang = |broker: &Broker| broker.server().misbehave(Clients::named("mso-dots-so"), Fault::AcknowledgeNothing);
    let sos = [without_sub_ack, without_pub_ack].map(|broker| Peer::connect(broker.port, "so", "/lifecycle/mso/dots-so/#"));
    hang(without_sub_ack);
    let ours = [without_sub_ack, without_pub_ack].map(|broker| Service::start(broker.port, ""));
    ours[1].wait_until_connected();
    hang(without_pub_ack);
    ours.iter().for_each(|ours| ours.publish(1));
    let on = |broker: &Broker| format!("WARN no connection to the broker at 127.0.0.1:{} (as mso-dots-so): ", broker.port);
    let said = [
        format!("{}it answers, but has not acknowledged our subscription for 60 s: ", on(without_sub_ack)),
        format!(
            "{}it answers, but has not acknowledged our message to \"/lifecycle/mso/dots-so/s/1/ModelHasTerminated\" for 60 s: ",
            on(without_pub_ack)
        ),
    ];
    for said in &said {
        wait_at_most(PATIENCE * 3, "the silence to be said", || logged(said) == 1);
    }
    for ((broker, ours), so) in brokers.iter().zip(ours).zip(sos) {
        // It may have come back to the same.
        broker.server().behave();
        broker.kill();
        broker.start();
        assert_eq!(ours.published_so_far(1), [1]);
        so.wait_for_all([1]);
    }
}

/// A broker of a few bytes, as neither of the others leaves out one message and goes on with the next.
#[test]
#[ignore = "takes a minute: the deadline is the real one"]
fn one_message_that_is_not_acknowledged_while_others_are_is_named_and_sent_again_with_the_next_connection() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let ours = Service::start(port, "");
    let mut client = accept_and_subscribe(&listener);
    ours.wait_until_connected();
    ours.publish(1);
    let (_, lost) = read_any_packet(&mut client);
    let mut last = 1;
    while let Ok((header, packet)) = try_read_packet(&mut client) {
        match header >> 4 {
            PUBLISH => client.write_all(&pub_ack(&packet)).unwrap(),
            PING_REQUEST => {
                client.write_all(&[0xd0, 0]).unwrap();
                last += 1;
                assert!(last < 10, "the connection stays though a message is in flight for two minutes");
                ours.publish(last);
            }
            other => panic!("a packet of type {other}"),
        }
    }
    let said = format!(
        "WARN no connection to the broker at 127.0.0.1:{port} (as mso-dots-so): it answers, but has not acknowledged our message to \
         \"/lifecycle/mso/dots-so/s/1/ModelHasTerminated\" for 60 s: "
    );
    wait_for("the message to be named", || logged(&said) == 1);
    let (mut client, _) = listener.accept().unwrap();
    read_packet(&mut client);
    let session_present = [0x20, 2, 1, 0];
    client.write_all(&session_present).unwrap();
    let subscribe = read_packet(&mut client);
    client.write_all(&sub_ack(&subscribe)).unwrap();
    let again = read_any_packet(&mut client);
    assert_eq!(again, (0x3a, lost), "the same once more, and marked so");
    client.write_all(&pub_ack(&again.1)).unwrap();
    ours.events_until(|event| matches!(event, BrokerEvent::Published(1)));
}

/// A broker of a few bytes: what it sends is read by nobody else.
#[test]
fn a_thread_that_waits_for_the_state_thread_does_not_hang() {
    let ready = b"/lifecycle/model/mso/s/m/ReadyForProcessing";
    let request_topic = b"/lifecycle/dots-so/mso/s/DeployModels";
    let cases = [
        ("a place for a request", 0, publish_packet(request_topic, &request("m"))),
        ("a place for an event", 1, [publish_packet(ready, &[]), publish_packet(ready, &[])].concat()),
    ];
    for (awaited, places, packets) in cases {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let settings = settings(listener.local_addr().unwrap().port(), "");
        let (publisher, connection) = mqtt::open(&settings, &SimulatorName::new("dots-so").unwrap());
        let (events_in, events) = bounded(1);
        let (requests_in, requests) = bounded(places);
        let (supervisor, ends) = Supervisor::new();
        let body = move |beat: &Beat| connection.run(&mqtt::Inlet { events: events_in, requests: requests_in, beat });
        supervisor.spawn("mqtt", PATIENCE, body).unwrap();
        let mut client = accept_and_subscribe(&listener);
        assert!(matches!(events.recv_timeout(PATIENCE), Ok(Event::Broker(BrokerEvent::Connected))));
        client.write_all(&packets).unwrap();
        // While it reads it is at work, so that this is said of what it waits for.
        let waits = || supervisor.threads().troubles(clock::now().instant + 100 * PATIENCE).is_empty();
        wait_for(awaited, waits);
        drop((events, requests, publisher));
        drop(client);
        assert_eq!(ends.recv_timeout(PATIENCE).map(|end| end.panicked), Ok(false), "{awaited}");
    }
}

/// Mosquitto cannot be told to keep one client out: devkit's broker on either ground.
#[test]
fn nothing_is_lost_when_an_empty_broker_takes_over() {
    let broker = Broker::own(Ground::Devkit);
    let so = Peer::connect(broker.port, "so", "/lifecycle/mso/dots-so/#");
    let ours = Service::start(broker.port, "");
    ours.wait_until_connected();
    for id in 1..=500 {
        ours.publish(id);
    }
    // It does not know the SO either: nothing of ours may come before that is subscribed.
    broker.server().misbehave(Clients::named("mso-dots-so"), Fault::RefuseConnections(ConnectReturnCode::ServiceUnavailable));
    broker.server().forget();
    for id in 501..=1000 {
        ours.publish(id);
    }
    let before = published(&ours.events_until(|event| matches!(event, BrokerEvent::Disconnected)));
    so.wait_until_subscribed();
    broker.server().behave();
    assert_eq!(ours.published_so_far(1000), (1..=1000).collect::<Vec<_>>(), "each is reported once");
    so.wait_for_all((1..=1000).filter(|id| !before.contains(id)));
}

#[test]
fn a_broker_that_is_away_at_the_start_is_waited_for_and_said_once() {
    let broker = Broker::own(ground());
    broker.kill();
    let ours = Service::start(broker.port, "");
    ours.publish(1);
    let tries = format!("DEBUG still without the broker at 127.0.0.1:{} ", broker.port);
    wait_for("the second try", || logged(&tries) >= 1);
    broker.start();
    ours.wait_until_connected();
    assert_eq!(ours.published(1), [1]);
    assert_eq!(logged(&format!("WARN no connection to the broker at 127.0.0.1:{} ", broker.port)), 1);
    assert_eq!(logged(&format!("INFO connected to the broker at 127.0.0.1:{} ", broker.port)), 1);
}

#[test]
fn a_message_over_the_limit_costs_the_session_and_the_next_request_works() {
    let broker = Broker::that_passes_what_is_too_large(ground());
    let ours = Service::start(broker.port, "");
    ours.wait_until_connected();
    let so = Peer::connect(broker.port, "so", "/lifecycle/mso/dots-so/#");
    so.publish("/lifecycle/dots-so/mso/huge/DeployModels", QoS::AtLeastOnce, &vec![0; OVER_THE_LIMIT_BYTES]);
    let on_broker = format!("the broker at 127.0.0.1:{} (as mso-dots-so)", broker.port);
    ours.events_until(|event| matches!(event, BrokerEvent::Disconnected));
    wait_for("the session to be dropped", || logged(&format!("INFO {on_broker}: our session there is dropped")) == 1);
    ours.wait_until_connected();
    so.publish("/lifecycle/dots-so/mso/next/DeployModels", QoS::AtLeastOnce, &request("m"));
    let BrokerEvent::DeployModels { simulation, .. } = ours.next() else { panic!("no request") };
    assert_eq!(simulation.as_str(), "next");
    assert_eq!(logged(&format!("WARN no connection to {on_broker}: it sends a message of 17000044 bytes: the limit is 16777216")), 1);
    assert_eq!(logged(&format!("ERROR {on_broker} sends a message over the limit again and again")), 1);
    // The session is a lasting one again.
    broker.kill();
    broker.start();
    ours.events_until(|event| matches!(event, BrokerEvent::Connected));
    assert_eq!(logged(&format!("{on_broker} answers; session present: true")), 2, "at the redelivery, and now");
}

#[test]
fn what_is_sent_while_we_are_away_is_kept_for_us() {
    let broker = Broker::own(ground());
    let so = Peer::connect(broker.port, "so", "/lifecycle/mso/dots-so/#");
    let ours = Service::start(broker.port, "");
    ours.wait_until_connected();
    ours.stop();
    so.publish("/lifecycle/dots-so/mso/sim-1/DeployModels", QoS::AtMostOnce, &request("m"));
    so.publish("/lifecycle/mso/dots-so/marker", QoS::AtLeastOnce, &[]);
    so.messages.recv_timeout(PATIENCE).unwrap();
    let ours = Service::start(broker.port, "");
    let events = ours.events_until(|event| matches!(event, BrokerEvent::DeployModels { .. }));
    assert!(events.len() <= 2, "{events:?}");
}

#[test]
fn what_was_not_acknowledged_comes_again_after_our_end_and_what_was_does_not() {
    let broker = Broker::own(ground());
    let ours = Service::start(broker.port, "");
    ours.wait_until_connected();
    let so = Peer::connect(broker.port, "so", "/lifecycle/mso/dots-so/#");
    so.request("kept", QoS::AtLeastOnce);
    so.request("done", QoS::AtLeastOnce);
    so.publish("/lifecycle/model/mso/kept/m/ReadyForProcessing", QoS::AtLeastOnce, &[]);
    let (kept, _) = ours.next_message();
    assert_eq!(kept, "kept");
    let (done, delivery) = ours.next_message();
    assert_eq!(done, "done");
    ours.publisher.acknowledge(delivery.unwrap());
    assert_eq!(ours.next_message().0, "kept/m");
    ours.wait_until_the_broker_has_read_all();
    ours.stop();
    let ours = Service::start(broker.port, "");
    so.request("next", QoS::AtLeastOnce);
    let arrived: Vec<_> = (0..3).map(|_| ours.next_message()).collect();
    assert_eq!(arrived.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(), ["kept", "kept/m", "next"]);
    for (_, delivery) in arrived {
        ours.publisher.acknowledge(delivery.unwrap());
    }
    ours.wait_until_the_broker_has_read_all();
    ours.stop();
    let ours = Service::start(broker.port, "");
    so.request("last", QoS::AtLeastOnce);
    assert_eq!(ours.next_message().0, "last");
}

#[test]
fn an_acknowledgement_of_an_earlier_connection_acknowledges_nothing() {
    let broker = Broker::own(ground());
    let ours = Service::start(broker.port, "");
    ours.wait_until_connected();
    let so = Peer::connect(broker.port, "so", "/lifecycle/mso/dots-so/#");
    so.request("kept", QoS::AtLeastOnce);
    let (_, first) = ours.next_message();
    break_connection(broker.port, &ours);
    ours.publisher.acknowledge(first.unwrap());
    let (name, second) = ours.next_message();
    assert_eq!((name.as_str(), second.unwrap().packet_id), ("kept", first.unwrap().packet_id), "a packet id is all that a broker sees");
    ours.publisher.acknowledge(first.unwrap());
    ours.wait_until_the_broker_has_read_all();
    ours.stop();
    let ours = Service::start(broker.port, "");
    let (name, third) = ours.next_message();
    assert_eq!(name, "kept");
    ours.publisher.acknowledge(third.unwrap());
    ours.wait_until_the_broker_has_read_all();
    ours.stop();
    let ours = Service::start(broker.port, "");
    so.request("next", QoS::AtLeastOnce);
    assert_eq!(ours.next_message().0, "next");
}

/// Mosquitto sends 20 before one must be acknowledged; devkit's broker does as it does.
#[test]
fn unacknowledged_requests_hold_back_others_and_ready_models_at_qos_0_pass() {
    let broker = Broker::own(ground());
    let ours = Service::start(broker.port, "");
    ours.wait_until_connected();
    let so = Peer::connect(broker.port, "so", "/lifecycle/mso/dots-so/#");
    for number in 0..25 {
        so.request(&number.to_string(), QoS::AtLeastOnce);
    }
    so.publish("/lifecycle/model/mso/s/m/ReadyForProcessing", QoS::AtMostOnce, &[]);
    let held: Vec<_> = (0..20).map(|_| ours.next_message()).collect();
    assert_eq!(ours.next_message(), ("s/m".to_owned(), None));
    assert_eq!(ours.wait_until_the_broker_has_read_all().len(), 1, "what it sends for an acknowledgement would have come before");
    // In any order.
    for (number, (_, delivery)) in held.into_iter().rev().take(5).enumerate() {
        ours.publisher.acknowledge(delivery.unwrap());
        assert_eq!(ours.next_message().0, (20 + number).to_string());
    }
}

#[test]
fn messages_that_say_nothing_to_us_hold_up_no_others() {
    let broker = Broker::own(ground());
    let ours = Service::start(broker.port, "");
    ours.wait_until_connected();
    let so = Peer::connect(broker.port, "so", "/lifecycle/mso/dots-so/#");
    // One place is left of the twenty.
    for number in 0..19 {
        so.request(&number.to_string(), QoS::AtLeastOnce);
        assert_eq!(ours.next_message().0, number.to_string());
    }
    for _ in 0..25 {
        so.publish("/lifecycle/dots-so/mso/s/DeployModels", QoS::AtLeastOnce, b"hello");
        so.publish("/lifecycle/model/mso/_bad/m/ReadyForProcessing", QoS::AtLeastOnce, &[]);
    }
    so.request("good", QoS::AtLeastOnce);
    assert_eq!(ours.next_message().0, "good");
}

#[test]
fn retained_messages_hold_up_no_others() {
    let broker = Broker::own(ground());
    let so = Peer::connect(broker.port, "so", "/lifecycle/mso/dots-so/#");
    for number in 0..50 {
        let topic = format!("/lifecycle/dots-so/mso/retained-{number}/DeployModels");
        so.client.publish(topic, QoS::AtLeastOnce, true, request("m")).unwrap();
    }
    so.publish("/lifecycle/mso/dots-so/marker", QoS::AtLeastOnce, &[]);
    so.messages.recv_timeout(PATIENCE).unwrap();
    let ours = Service::start(broker.port, "");
    ours.wait_until_connected();
    so.request("good", QoS::AtLeastOnce);
    assert_eq!(ours.next_message().0, "good");
}

/// A broker may wait for us before it goes on: then our acknowledgement must not wait for it.
#[test]
fn an_acknowledgement_passes_though_the_broker_acknowledges_nothing() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let ours = Service::start(listener.local_addr().unwrap().port(), "");
    let mut client = accept_and_subscribe(&listener);
    ours.wait_until_connected();
    for id in 1..=500 {
        ours.publish(id);
    }
    // All that it sends before it wants to hear something.
    let is_publish = |header: u8| header >> 4 == PUBLISH;
    for _ in 0..100 {
        assert!(is_publish(read_any_packet(&mut client).0));
    }
    let topic = b"/lifecycle/model/mso/s/m/ReadyForProcessing";
    let length = u8::try_from(topic.len()).unwrap();
    client.write_all(&[&[0x32, length + 4, 0, length], &topic[..], &[0x12, 0x34]].concat()).unwrap();
    let (_, delivery) = ours.next_message();
    ours.publisher.acknowledge(delivery.unwrap());
    client.set_read_timeout(Some(PATIENCE)).unwrap();
    assert_eq!(read_any_packet(&mut client), (0x40, vec![0x12, 0x34]));
    // And room for one more message is used at once.
    client.write_all(&[0x40, 2, 0, 2]).unwrap();
    assert!(is_publish(read_any_packet(&mut client).0));
}

#[test]
fn a_wrong_password_is_said_once_and_not_tried_in_a_busy_loop() {
    let broker = Broker::that_lets_nobody_in(ground());
    let began = clock::now().instant;
    let ours = Service::start(broker.port, "somebody");
    let tries = format!("DEBUG still without the broker at 127.0.0.1:{} ", broker.port);
    wait_for("the third try", || logged(&tries) >= 2);
    // At least the halves of 0.5 s and 1 s.
    assert!(clock::now().instant - began > Duration::from_millis(700), "no back-off");
    let said = format!(
        "WARN no connection to the broker at 127.0.0.1:{} (as mso-dots-so): it refuses us (NotAuthorized): check MQTT_USERNAME",
        broker.port
    );
    assert_eq!(logged(&said), 1);
    ours.stop();
}

#[test]
fn a_second_client_with_our_id_is_named() {
    let broker = Broker::own(ground());
    let _other = Peer::connect(broker.port, "mso-dots-so", "/nothing");
    let _ours = Service::start(broker.port, "");
    let said = format!(
        "WARN the broker at 127.0.0.1:{} (as mso-dots-so) closed 3 connections in a row at once: another client may use this id",
        broker.port
    );
    wait_for("the second client to be named", || logged(&said) == 1);
}

#[test]
fn a_broker_that_closes_at_each_models_ready_may_take_no_qos_2_and_that_is_named() {
    let broker = Broker::that_takes_no_qos_2(ground());
    let ours = Service::start(broker.port, "");
    ours.wait_until_connected();
    ours.publish(1);
    ours.events_until(|event| matches!(event, BrokerEvent::Published(1)));
    ours.publisher.publish(&models_ready(2));
    let on_broker = format!("the broker at 127.0.0.1:{} (as mso-dots-so)", broker.port);
    let said = format!("ERROR {on_broker} closed 3 connections in a row at a ModelsReady, which goes at QoS 2");
    wait_for("the QoS to be named", || logged(&said) == 1);
    assert_eq!(logged(&format!("WARN {on_broker} closed 3 connections in a row at once")), 0, "no other client is blamed");
}

#[test]
fn a_stop_waits_until_the_broker_has_what_was_published_and_says_goodbye() {
    let broker = Broker::own(ground());
    let so = Peer::connect(broker.port, "so", "/lifecycle/mso/dots-so/#");
    let ours = Service::start(broker.port, "");
    ours.wait_until_connected();
    for id in 1..=500 {
        ours.publish(id);
    }
    ours.stop();
    so.wait_for_all(1..=500);
    wait_for("the broker to hear our goodbye", || broker.log().contains("Client mso-dots-so disconnected."));
}

#[test]
fn a_stop_while_offline_returns_at_once() {
    let port = free_port();
    let ours = Service::start(port, "");
    // A back-off of 1 to 2 s and more has begun.
    wait_for("the fourth try", || logged(&format!("DEBUG still without the broker at 127.0.0.1:{port} ")) >= 3);
    let began = clock::now().instant;
    ours.stop();
    let took = clock::now().instant - began;
    // Less than the shortest back-off that may be under way.
    assert!(took < Duration::from_secs(1), "it took {took:?}");
}

/// Mosquitto's files of rights grant every subscription, so that the broker here is a few bytes.
#[test]
fn a_refused_subscription_is_an_error_that_names_the_filter() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let ours = Service::start(port, "");
    let (mut client, _) = listener.accept().unwrap();
    read_packet(&mut client);
    client.write_all(&[0x20, 2, 0, 0]).unwrap();
    let subscribe = read_packet(&mut client);
    client.write_all(&[0x90, 6, subscribe[0], subscribe[1], 0x80, 0x01, 0x01, 0x01]).unwrap();
    let error = format!(
        "ERROR no connection to the broker at 127.0.0.1:{port} (as mso-dots-so): \
         it refuses the subscription to /lifecycle/dots-so/mso/+/DeployModels: allow our user to read that"
    );
    wait_for("the refusal to be said", || logged(&error) == 1);
    assert_eq!(client.read_to_end(&mut Vec::new()).unwrap(), 0, "the connection is closed");
    assert!(ours.events.is_empty(), "and was never announced");
    ours.stop();
}

/// Rights from before the service read these.
#[test]
fn a_refused_subscription_to_simulation_done_is_a_warning_and_the_service_serves() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let ours = Service::start(port, "");
    let (mut client, _) = listener.accept().unwrap();
    read_packet(&mut client);
    client.write_all(&[0x20, 2, 0, 0]).unwrap();
    let subscribe = read_packet(&mut client);
    client.write_all(&[0x90, 6, subscribe[0], subscribe[1], 0x01, 0x01, 0x80, 0x80]).unwrap();
    ours.wait_until_connected();
    let warning = format!(
        "WARN the broker at 127.0.0.1:{port} (as mso-dots-so) refuses the subscription to /lifecycle/dots-so/mso/+/SimulationDone and \
         /lifecycle/dots-so/model/+/+/SimulationDone: models that an SO has ended early, and that do not end by themselves, run on"
    );
    assert_eq!(logged(&warning), 1);
    client.shutdown(std::net::Shutdown::Both).unwrap();
    ours.stop();
}

/// rumqttc reads in bulk: what it acknowledged is in its buffer when it finds the error behind it.
#[test]
fn what_was_read_before_a_connection_broke_is_not_lost() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let ours = Service::start(listener.local_addr().unwrap().port(), "");
    let (mut client, _) = listener.accept().unwrap();
    read_packet(&mut client);
    client.write_all(&[0x20, 2, 0, 0]).unwrap();
    let sub_ack = sub_ack(&read_packet(&mut client));
    let publish = publish_packet(b"/lifecycle/model/mso/s/m/ReadyForProcessing", &[]);
    let no_packet = [0, 0];
    client.write_all(&[&sub_ack[..], &publish, &no_packet].concat()).unwrap();
    ours.wait_until_connected();
    assert!(matches!(ours.next(), BrokerEvent::ReadyForProcessing { .. }));
    assert!(matches!(ours.next(), BrokerEvent::Disconnected));
    // Leaves no second connection to wait for.
    drop(listener);
    ours.stop();
}

#[test]
fn what_was_published_goes_out_though_nobody_hears_of_it() {
    let broker = Broker::own(ground());
    let so = Peer::connect(broker.port, "so", "/lifecycle/mso/dots-so/#");
    let Service { publisher, events, thread, .. } = Service::start(broker.port, "");
    for id in 1..=500 {
        publisher.publish(&terminated(id));
    }
    drop(events);
    thread.join().unwrap();
    so.wait_for_all(1..=500);
}

/// A broker of a few bytes: whoever comes is let in, without a session, and may read what it asks for.
fn accept_and_subscribe(listener: &TcpListener) -> TcpStream {
    let (mut client, _) = listener.accept().unwrap();
    read_packet(&mut client);
    client.write_all(&[0x20, 2, 0, 0]).unwrap();
    let subscribe = read_packet(&mut client);
    client.write_all(&sub_ack(&subscribe)).unwrap();
    client
}

fn sub_ack(subscribe: &[u8]) -> [u8; 8] {
    [0x90, 6, subscribe[0], subscribe[1], 1, 1, 1, 1]
}

/// At QoS 0.
fn publish_packet(topic: &[u8], payload: &[u8]) -> Vec<u8> {
    let byte = |length: usize| u8::try_from(length).unwrap();
    let length = byte(2 + topic.len() + payload.len());
    assert!(length < 128, "one byte of length");
    [&[0x30, length, 0, byte(topic.len())], topic, payload].concat()
}

/// For a PUBLISH at QoS 1.
fn pub_ack(publish: &[u8]) -> [u8; 4] {
    let packet_id = 2 + usize::from(u16::from_be_bytes([publish[0], publish[1]]));
    [0x40, 2, publish[packet_id], publish[packet_id + 1]]
}

/// The variable part and payload of the next packet, which is short.
fn read_packet(client: &mut TcpStream) -> Vec<u8> {
    read_any_packet(client).1
}

/// With its first byte.
fn read_any_packet(client: &mut TcpStream) -> (u8, Vec<u8>) {
    try_read_packet(client).unwrap()
}

fn try_read_packet(client: &mut TcpStream) -> io::Result<(u8, Vec<u8>)> {
    let mut header = [0; 2];
    client.read_exact(&mut header)?;
    // Its length is a number of base 128, the lowest digit first; none here has more than two.
    let mut length = usize::from(header[1] & 0x7f);
    if header[1] & 0x80 != 0 {
        let mut digit = [0];
        client.read_exact(&mut digit)?;
        length += usize::from(digit[0]) << 7;
    }
    let mut rest = vec![0; length];
    client.read_exact(&mut rest)?;
    Ok((header[0], rest))
}

/// Another client takes our session over and is gone at once; returns when we know that we are not connected any more, with what happened
/// meanwhile.
fn break_connection(port: u16, ours: &Service) -> Vec<BrokerEvent> {
    let mut client = TcpStream::connect(("127.0.0.1", port)).unwrap();
    client.write_all(b"\x10\x17\x00\x04MQTT\x04\x00\x00\x0f\x00\x0bmso-dots-so").unwrap();
    client.read_exact(&mut [0; 4]).unwrap();
    drop(client);
    ours.events_until(|event| matches!(event, BrokerEvent::Disconnected))
}

fn request(model: &str) -> Vec<u8> {
    let model = proto::ModelConfiguration { model_id: model.to_owned(), image_url: "image".to_owned(), environment_variables: Vec::new() };
    proto::DeployModels { simulator_id: "essim".to_owned(), model_configurations: vec![model], keep_logs_hours: 0.0 }.encode_to_vec()
}

/// Told by its topic.
fn terminated(id: MessageId) -> Message {
    let body = Body::ModelHasTerminated { model: TopicSegment::new(&id.to_string()).unwrap(), verdict: Verdict::succeeded("") };
    Message { id, simulation: TopicSegment::new("s").unwrap(), body }
}

fn models_ready(id: MessageId) -> Message {
    Message { id, simulation: TopicSegment::new("s").unwrap(), body: Body::ModelsReady }
}

fn count_models_ready(topics: &[String]) -> usize {
    topics.iter().filter(|topic| topic.ends_with("/ModelsReady")).count()
}

fn published(events: &[BrokerEvent]) -> BTreeSet<MessageId> {
    events.iter().filter_map(|event| if let BrokerEvent::Published(id) = event { Some(*id) } else { None }).collect()
}

fn wait_for(what: &str, condition: impl FnMut() -> bool) {
    wait_at_most(PATIENCE, what, condition);
}

fn wait_at_most(limit: Duration, what: &str, mut condition: impl FnMut() -> bool) {
    let is_met = wait::until(limit, || condition().then_some(()));
    assert!(is_met.is_some(), "waited for {what}; the log:\n{}", log_lines().lock().unwrap().join("\n"));
}

fn settings(port: u16, username: &str) -> MqttSettings {
    MqttSettings { host: "127.0.0.1".to_owned(), port, username: username.to_owned(), password: Secret::new("wrong") }
}

/// The room under test, on its thread.
struct Service {
    publisher: Publisher,
    events: Receiver<Event>,
    /// Counts how often each was reported.
    published: Mutex<BTreeMap<MessageId, u32>>,
    thread: thread::JoinHandle<()>,
}

impl Service {
    fn start(port: u16, username: &str) -> Self {
        capture_log();
        let (publisher, connection) = mqtt::open(&settings(port, username), &SimulatorName::new("dots-so").unwrap());
        let (sender, events) = unbounded();
        let body = move || connection.run(&mqtt::Inlet { events: sender, requests: unbounded().0, beat: &Beat::default() });
        let thread = thread::Builder::new().name("mqtt".to_owned()).spawn(body).unwrap();
        Self { publisher, events, published: Mutex::default(), thread }
    }

    fn publish(&self, id: MessageId) {
        self.publisher.publish(&terminated(id));
    }

    fn next(&self) -> BrokerEvent {
        match self.events.recv_timeout(PATIENCE) {
            Ok(Event::Broker(event)) => {
                if let BrokerEvent::Published(id) = event {
                    *self.published.lock().unwrap().entry(id).or_default() += 1;
                }
                event
            }
            other => panic!("{other:?}; the log:\n{}", log_lines().lock().unwrap().join("\n")),
        }
    }

    fn wait_until_connected(&self) {
        let event = self.next();
        assert!(matches!(event, BrokerEvent::Connected), "{event:?}");
    }

    /// The next message to us, past other events: what it is about, as "simulation" or "simulation/model".
    fn next_message(&self) -> (String, Option<Delivery>) {
        loop {
            match self.next() {
                BrokerEvent::DeployModels { simulation, delivery, .. } => return (simulation.to_string(), delivery),
                BrokerEvent::ReadyForProcessing { simulation, model, delivery } => return (format!("{simulation}/{model}"), delivery),
                BrokerEvent::SimulationDone { simulation, model, delivery } => {
                    let about = model.map_or_else(|| simulation.to_string(), |model| format!("{simulation}/{model}"));
                    return (about, delivery);
                }
                BrokerEvent::Connected | BrokerEvent::Disconnected => {}
                BrokerEvent::Published(_) | BrokerEvent::Unsent(_) | BrokerEvent::Doubtful(_) => {}
            }
        }
    }

    fn events_until(&self, is_last: impl Fn(&BrokerEvent) -> bool) -> Vec<BrokerEvent> {
        let mut events = Vec::new();
        while !events.last().is_some_and(&is_last) {
            events.push(self.next());
        }
        events
    }

    /// The next reports, of a connection that holds.
    fn published(&self, count: usize) -> Vec<MessageId> {
        let mut ids = Vec::new();
        while ids.len() < count {
            match self.next() {
                BrokerEvent::Published(id) => ids.push(id),
                event => assert!(matches!(event, BrokerEvent::Connected), "{event:?}"),
            }
        }
        ids
    }

    /// All reports from the start, in the order of their ids, one entry each; waits until there are so many.
    fn published_so_far(&self, count: usize) -> Vec<MessageId> {
        while self.published.lock().unwrap().len() < count {
            self.next();
        }
        self.stop_and_drain();
        let published = self.published.lock().unwrap();
        published.iter().flat_map(|(id, times)| std::iter::repeat_n(*id, *times as usize)).collect()
    }

    /// It handles what we send in order. For a service that has published nothing else. Returns what happened meanwhile.
    fn wait_until_the_broker_has_read_all(&self) -> Vec<BrokerEvent> {
        self.publish(1);
        self.events_until(|event| matches!(event, BrokerEvent::Published(1)))
    }

    fn stop_and_drain(&self) {
        self.publisher.disconnect();
        wait_for("the thread to end", || self.thread.is_finished());
        while !self.events.is_empty() {
            self.next();
        }
    }

    fn stop(self) {
        self.publisher.disconnect();
        wait_for("the thread to end", || self.thread.is_finished());
    }
}

/// Another client: the SO, say. It comes back with its session, for ever.
struct Peer {
    client: Client,
    messages: Receiver<rumqttc::Publish>,
    subscribed: Receiver<()>,
}

impl Peer {
    /// Returns once it is subscribed.
    fn connect(port: u16, id: &str, filter: &str) -> Self {
        let mut options = MqttOptions::new(id, "127.0.0.1", port);
        options.set_clean_session(false).set_max_packet_size(20_000_000, 20_000_000);
        let (client, mut connection) = Client::new(options, 100);
        connection.eventloop.network_options.set_tcp_nodelay(true);
        let (sender, messages) = unbounded();
        let (subscribed_sender, subscribed) = unbounded();
        let (own, filter) = (client.clone(), filter.to_owned());
        let body = move || {
            for event in connection.iter() {
                match event {
                    Ok(rumqttc::Event::Incoming(Packet::ConnAck(_))) => own.subscribe(&filter, QoS::AtLeastOnce).unwrap(),
                    Ok(rumqttc::Event::Incoming(Packet::SubAck(_))) => drop(subscribed_sender.send(())),
                    Ok(rumqttc::Event::Incoming(Packet::Publish(publish))) => drop(sender.send(publish)),
                    Ok(rumqttc::Event::Outgoing(rumqttc::Outgoing::Disconnect)) => return,
                    Ok(_) => {}
                    Err(_) => thread::sleep(Duration::from_millis(5)),
                }
            }
        };
        thread::Builder::new().name(id.to_owned()).spawn(body).unwrap();
        let peer = Self { client, messages, subscribed };
        peer.wait_until_subscribed();
        peer
    }

    fn wait_until_subscribed(&self) {
        self.subscribed.recv_timeout(PATIENCE).unwrap();
    }

    fn publish(&self, topic: &str, qos: QoS, payload: &[u8]) {
        self.client.publish(topic, qos, false, payload).unwrap();
    }

    fn request(&self, simulation: &str, qos: QoS) {
        self.publish(&format!("/lifecycle/dots-so/mso/{simulation}/DeployModels"), qos, &request("m"));
    }

    /// What arrives, up to the first with this topic.
    fn topics_until(&self, last: &str) -> Vec<String> {
        let mut topics = Vec::new();
        while topics.last().is_none_or(|topic| topic != last) {
            let message = self.messages.recv_timeout(PATIENCE);
            topics.push(message.unwrap_or_else(|_| panic!("{last} never arrived: {topics:?}")).topic);
        }
        topics
    }

    /// Waits until each of these messages of [`Service::publish`] arrived at least once.
    /// How many came, with those that came again.
    fn wait_for_all(&self, ids: impl IntoIterator<Item = MessageId>) -> usize {
        let mut arrived = 0;
        let mut missing: BTreeSet<String> = ids.into_iter().map(|id| format!("/lifecycle/mso/dots-so/s/{id}/ModelHasTerminated")).collect();
        while !missing.is_empty() {
            let message = self.messages.recv_timeout(PATIENCE);
            let message = message.unwrap_or_else(|_| panic!("{} never arrived: {missing:?}", missing.len()));
            missing.remove(&message.topic);
            arrived += 1;
        }
        arrived
    }
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// How many lines of the room's log, of all tests, contain this. Each broker has its port to be told by.
fn logged(text: &str) -> usize {
    log_lines().lock().unwrap().iter().filter(|line| line.contains(text)).count()
}

fn log_lines() -> &'static Mutex<Vec<String>> {
    static LINES: OnceLock<Mutex<Vec<String>>> = OnceLock::new();
    LINES.get_or_init(Mutex::default)
}

fn capture_log() {
    struct Capture;
    impl log::Log for Capture {
        fn enabled(&self, metadata: &log::Metadata<'_>) -> bool {
            metadata.target() == "mso::mqtt"
        }
        fn log(&self, record: &log::Record<'_>) {
            if self.enabled(record.metadata()) {
                log_lines().lock().unwrap().push(format!("{} {}", record.level(), record.args()));
            }
        }
        fn flush(&self) {}
    }
    if log::set_logger(&Capture).is_ok() {
        log::set_max_level(log::LevelFilter::Debug);
    }
}
