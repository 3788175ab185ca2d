//! What cannot be compared with mosquitto: where ours answers otherwise on purpose, its limits, and what only a broker within a test does.

#![expect(clippy::unwrap_used, reason = "in a test a panic is the report")]

#[path = "broker/client.rs"]
mod client;
#[path = "broker/packets.rs"]
mod packets;

use devkit::broker::{Broker, ConnectionId, Input, Output, Server};
use devkit::mosquitto;
use mso::clock;
use rumqttc::mqttbytes::v4::{Connect, ConnectReturnCode, Packet, PubAck};

use client::Client;
use packets::{
    IN_FLIGHT, Q0, Q1, Q2, clean, connect, lasting, numbered, packet_bytes, publish, refused, string, subscribe, subscribed, with_will,
};

/// Mosquitto 2.0.11 sends up to twenty more with the first acknowledgement.
#[test]
fn one_acknowledgement_makes_room_for_one_message() {
    let server = Server::start().unwrap();
    let mut client = Client::clean(server.address(), "client");
    client.subscribe("t", Q1);
    let mut publisher = Client::clean(server.address(), "publisher");
    for id in 1..=IN_FLIGHT + 2 {
        publisher.publish("t", &id.to_string());
    }
    for id in 1..=IN_FLIGHT {
        client.expect(numbered(id, "t", &id.to_string()));
    }
    for id in 1..=2 {
        client.acknowledge(id);
        client.expect(numbered(IN_FLIGHT + id, "t", &(IN_FLIGHT + id).to_string()));
        client.quiet();
    }
}

/// Mosquitto 2.0.11 counts those of QoS 0 too, and keeps some of QoS 1 back until the client connects again.
#[test]
fn messages_of_both_qos_that_waited_come_in_order() {
    let server = Server::start().unwrap();
    Client::lasting(server.address(), "client", false).subscribe_and_leave("t");
    let mut publisher = Client::clean(server.address(), "publisher");
    for id in 1..=IN_FLIGHT + 1 {
        publisher.publish_at("t", Q0, &format!("before {id}"));
        publisher.publish("t", &id.to_string());
    }
    publisher.publish_at("t", Q0, "last");
    let mut client = Client::lasting(server.address(), "client", true);
    for id in 1..=IN_FLIGHT {
        client.expect(publish("t", Q0, &format!("before {id}")));
        client.expect(numbered(id, "t", &id.to_string()));
    }
    client.expect(publish("t", Q0, &format!("before {}", IN_FLIGHT + 1)));
    client.quiet();
    client.acknowledge(1);
    client.expect(numbered(IN_FLIGHT + 1, "t", &(IN_FLIGHT + 1).to_string()));
    client.expect(publish("t", Q0, "last"));
    client.quiet();
}

/// Mosquitto 2.0.11 closes the connection at the third on one connection.
#[test]
fn a_message_at_qos_2_may_be_sent_again_and_again() {
    let server = Server::start().unwrap();
    let mut client = Client::clean(server.address(), "client");
    client.subscribe("t", Q1);
    let mut publisher = Client::clean(server.address(), "publisher");
    for dup in [false, true, true, false] {
        publisher.is_held(1, "t", "x", dup);
    }
    publisher.release(1);
    client.receive_and_acknowledge(1, "t", "x");
    client.quiet();
}

/// Mosquitto passes over them.
#[test]
fn an_acknowledgement_that_belongs_to_a_delivery_at_qos_2_closes_the_connection() {
    let server = Server::start().unwrap();
    for bytes in [[0x50, 2, 0, 1], [0x70, 2, 0, 1]] {
        let mut client = Client::clean(server.address(), "client");
        client.send_bytes(&bytes);
        client.closed();
    }
}

#[test]
fn a_subscription_and_a_will_at_qos_2_are_taken_at_1() {
    let server = Server::start().unwrap();
    let mut heir = Client::clean(server.address(), "heir");
    heir.send(subscribe(&[("will", Q2)]));
    heir.expect(subscribed(&[("will", Q1)]));
    drop(Client::connect(server.address(), with_will(Q2, false), false));
    heir.receive_and_acknowledge(1, "will", "gone");
}

#[test]
fn mqtt_5_is_refused() {
    let server = Server::start().unwrap();
    let mut client = Client::open(server.address());
    // A session that expires after 60 s is a property.
    client.send_bytes(&packet_bytes(0x10, &[&string("MQTT")[..], &[5, 2, 0, 0, 5, 17, 0, 0, 0, 60], &string("client")].concat()));
    client.expect(refused(ConnectReturnCode::RefusedProtocolVersion));
    client.closed();
}

#[test]
fn a_packet_over_the_limit_closes_the_connection_before_it_is_read() {
    let server = Server::start().unwrap();
    let mut client = Client::clean(server.address(), "client");
    // 64 MiB and one byte; nothing of it is sent.
    client.send_bytes(&[0x30, 0x81, 0x80, 0x80, 0x20]);
    client.closed();
}

#[test]
fn a_broker_that_forgets_has_no_session_and_no_retained_message() {
    let server = Server::start().unwrap();
    let mut client = Client::lasting(server.address(), "client", false);
    client.publish_retained("t", Q1, "x");
    server.forget();
    client.closed();
    let mut client = Client::lasting(server.address(), "client", false);
    client.subscribe("t", Q1);
    client.quiet();
}

#[test]
fn what_reached_a_broker_before_it_was_stopped_is_handled_and_answered() {
    let mut server = Server::start().unwrap();
    Client::lasting(server.address(), "client", false).subscribe_and_leave("t");
    let mut publisher = Client::clean(server.address(), "publisher");
    for id in 1..=IN_FLIGHT {
        publisher.send(publish("t", Q1, &id.to_string()));
    }
    server.stop();
    for _ in 1..=IN_FLIGHT {
        publisher.expect(Packet::PubAck(PubAck::new(1)));
    }
    publisher.closed();
    server.restart().unwrap();
    let mut client = Client::lasting(server.address(), "client", true);
    for id in 1..=IN_FLIGHT {
        client.receive_and_acknowledge(id, "t", &id.to_string());
    }
}

#[test]
fn a_client_that_reads_nothing_is_cut_off_before_what_waits_for_it_fills_the_memory() {
    let server = Server::start().unwrap();
    let mut slow = Client::clean(server.address(), "slow");
    slow.subscribe("t", Q0);
    let mut publisher = Client::clean(server.address(), "publisher");
    let payload = "x".repeat(32 * 1024 * 1024);
    let line = "Client slow closed its connection.";
    // 256 MiB may wait, and a little is in the system's buffers.
    for _ in 0..10 {
        publisher.publish("t", &payload);
    }
    assert!(server.log().iter().any(|logged| logged == line), "{:?}", server.log());
}

#[test]
fn one_session_is_forgotten_and_the_others_are_not() {
    let mut server = Server::start().unwrap();
    let mut one = Client::lasting(server.address(), "one", false);
    drop(Client::lasting(server.address(), "another", false));
    server.forget_session("one");
    one.closed();
    drop(Client::lasting(server.address(), "one", false));
    server.stop();
    server.forget_session("another");
    server.restart().unwrap();
    Client::lasting(server.address(), "one", true).quiet();
    Client::lasting(server.address(), "another", false).quiet();
}

#[test]
fn the_log_says_who_came_and_how_they_left() {
    let server = Server::start().unwrap();
    let mut client = Client::connect(server.address(), Connect { keep_alive: 60, ..clean("polite") }, false);
    client.send(Packet::Disconnect);
    client.closed();
    let mut client = Client::lasting(server.address(), "rude", false);
    client.send(publish("#", Q0, ""));
    client.closed();
    let expected = [
        "New client connected as polite (c1, k60).",
        "Client polite disconnected.",
        "New client connected as rude (c0, k0).",
        "Client rude disconnected due to protocol error.",
    ];
    assert_eq!(server.log(), expected);
}

/// Mosquitto gives the id a second time.
#[test]
fn a_packet_id_that_is_not_acknowledged_is_given_to_no_other_message() {
    let now = clock::now().instant;
    let [client, publisher] = [1, 2].map(ConnectionId);
    let mut broker = Broker::default();
    for id in [client, publisher] {
        broker.handle(id, Input::Opened, now);
        broker.handle(id, Input::Packet(connect(&id.0.to_string())), now);
    }
    broker.handle(client, Input::Packet(subscribe(&[("t", Q1)])), now);
    let mut ids = Vec::new();
    for _ in 0..=u16::MAX {
        broker.handle(publisher, Input::Packet(publish("t", Q1, "x")), now);
        while let Some((_, output)) = broker.poll_output(now) {
            let Output::Packet(Packet::Publish(publish)) = output else { continue };
            ids.push(publish.pkid);
            if publish.pkid != 1 {
                broker.handle(client, Input::Packet(Packet::PubAck(PubAck::new(publish.pkid))), now);
            }
        }
    }
    assert_eq!(ids[..3], [1, 2, 3]);
    assert_eq!(ids[ids.len() - 2..], [u16::MAX, 2]);
}

#[test]
fn what_is_too_much_for_an_absent_session_is_dropped_and_said() {
    // As people are told to set mosquitto.
    let limit: usize =
        mosquitto::CONFIGURATION.lines().find_map(|line| line.strip_prefix("max_queued_messages ")).unwrap().parse().unwrap();
    let now = clock::now().instant;
    let mut broker = Broker::default();
    let [client, publisher, back] = [1, 2, 3].map(ConnectionId);
    broker.handle(client, Input::Opened, now);
    broker.handle(client, Input::Packet(lasting("client")), now);
    broker.handle(client, Input::Packet(subscribe(&[("t", Q1)])), now);
    broker.handle(client, Input::Closed, now);
    broker.handle(publisher, Input::Opened, now);
    broker.handle(publisher, Input::Packet(connect("publisher")), now);
    for _ in 0..limit + 2 {
        broker.handle(publisher, Input::Packet(publish("t", Q0, "x")), now);
    }
    while broker.poll_output(now).is_some() {}
    broker.handle(back, Input::Opened, now);
    broker.handle(back, Input::Packet(lasting("client")), now);
    // And its CONNACK.
    assert_eq!(std::iter::from_fn(|| broker.poll_output(now)).count(), limit + 1);
    let log: Vec<_> = std::iter::from_fn(|| broker.poll_log()).collect();
    assert_eq!(log.last().unwrap(), "Client client was away for too long: 2 messages were dropped.");
}
