//! What the broker does wrong when it is asked to.

#![expect(clippy::unwrap_used, reason = "in a test a panic is the report")]

#[path = "broker/client.rs"]
mod client;
#[path = "broker/packets.rs"]
mod packets;

use std::time::Duration;

use devkit::broker::{Broker, Clients, ConnectionId, Fault, Input, Output, Server};
use mso::clock;
use rumqttc::mqttbytes::v4::{Connect, ConnectReturnCode, Packet, PubAck, PubRel, Publish};

use client::Client;
use packets::{Q0, Q1, Q2, clean, connect, connected, publish, publish_packet, refused, subscribe};

#[test]
fn refused_connections_hear_the_code_and_others_do_not() {
    let server = Server::start().unwrap();
    server.misbehave(Clients::named("mso-dots-so"), Fault::RefuseConnections(ConnectReturnCode::NotAuthorized));
    let mut client = Client::open(server.address());
    client.send(connect("mso-dots-so"));
    client.expect(refused(ConnectReturnCode::NotAuthorized));
    client.closed();
    Client::clean(server.address(), "so").quiet();
    server.behave();
    Client::clean(server.address(), "mso-dots-so").quiet();
}

#[test]
fn a_broker_that_says_nothing_takes_the_connection_and_answers_again_when_it_behaves() {
    let server = Server::start().unwrap();
    let mut standing = Client::clean(server.address(), "mso-standing");
    let mut so = Client::clean(server.address(), "so");
    server.misbehave(Clients::named("mso-dots-so"), Fault::SayNothing);
    server.misbehave(Clients::named("mso-standing"), Fault::SayNothing);
    let mut ours = Client::open(server.address());
    ours.send(connect("mso-dots-so"));
    standing.send(Packet::PingReq);
    standing.says_nothing_while(&mut so);
    ours.says_nothing_while(&mut so);
    server.behave();
    standing.quiet();
    Client::clean(server.address(), "mso-dots-so").quiet();
}

#[test]
fn a_broker_that_acknowledges_nothing_lets_clients_in_and_answers_pings() {
    let server = Server::start().unwrap();
    let mut so = Client::clean(server.address(), "so");
    so.subscribe("t", Q1);
    server.misbehave(Clients::named("mso-dots-so"), Fault::AcknowledgeNothing);
    let mut ours = Client::clean(server.address(), "mso-dots-so");
    ours.send(subscribe(&[("t", Q1)]));
    ours.send(Packet::Publish(Publish { pkid: 2, ..publish_packet("t", Q1, "x") }));
    ours.send(Packet::Publish(Publish { pkid: 3, ..publish_packet("t", Q2, "y") }));
    ours.send(Packet::PubRel(PubRel::new(3)));
    ours.quiet();
    so.quiet();
    assert!(server.subscriptions("mso-dots-so").is_empty());
    server.behave();
    ours.subscribe("t", Q1);
}

#[test]
fn a_connection_is_closed_at_its_nth_packet() {
    let server = Server::start().unwrap();
    server.misbehave(Clients::All, Fault::CloseAtPacket(3));
    for _ in 0..2 {
        let mut client = Client::clean(server.address(), "client");
        client.send(Packet::PingReq);
        client.expect(Packet::PingResp);
        client.send(Packet::PingReq);
        client.closed();
    }
    server.behave();
    server.misbehave(Clients::All, Fault::CloseAtPacket(1));
    let mut client = Client::open(server.address());
    client.send(connect("client"));
    client.closed();
}

#[test]
fn a_delay_holds_back_what_is_sent_to_one_client_in_order() {
    let delay = Duration::from_millis(300);
    let server = Server::start().unwrap();
    let mut client = Client::clean(server.address(), "client");
    client.subscribe("t", Q1);
    let mut so = Client::clean(server.address(), "so");
    server.misbehave(Clients::named("client"), Fault::Delay(delay));
    let began = clock::now().instant;
    so.publish("t", "1");
    server.behave();
    so.publish("t", "2");
    client.receive_and_acknowledge(1, "t", "1");
    assert!(clock::now().instant - began >= delay);
    client.receive_and_acknowledge(2, "t", "2");
}

#[test]
fn a_lost_acknowledgement_closes_the_connection_after_the_message_was_passed_on() {
    let server = Server::start().unwrap();
    let mut so = Client::clean(server.address(), "so");
    so.subscribe("t", Q1);
    let mut client = Client::clean(server.address(), "client");
    server.misbehave(Clients::named("client"), Fault::LoseAcknowledgement);
    client.publish_at("t", Q0, "needs none");
    client.send(Packet::Publish(Publish { pkid: 1, ..publish_packet("t", Q1, "x") }));
    client.closed();
    so.expect(publish("t", Q0, "needs none"));
    so.receive_and_acknowledge(1, "t", "x");
    // Once.
    Client::clean(server.address(), "client").publish("t", "y");
    so.receive_and_acknowledge(2, "t", "y");
}

#[test]
fn at_qos_2_each_of_the_two_acknowledgements_can_be_lost_and_the_message_is_passed_on_once() {
    let server = Server::start().unwrap();
    let mut so = Client::clean(server.address(), "so");
    so.subscribe("t", Q1);
    let mut client = Client::lasting(server.address(), "client", false);
    server.misbehave(Clients::named("client"), Fault::LoseAcknowledgement);
    server.misbehave(Clients::named("client"), Fault::LoseCompletion);
    client.send(publish("t", Q2, "x"));
    client.closed();
    let mut client = Client::lasting(server.address(), "client", true);
    client.is_held(1, "t", "x", true);
    so.quiet();
    client.send(Packet::PubRel(PubRel::new(1)));
    client.closed();
    so.receive_and_acknowledge(1, "t", "x");
    Client::lasting(server.address(), "client", true).release(1);
    so.quiet();
}

#[test]
fn a_broker_that_takes_no_qos_2_closes_at_it_and_takes_the_others() {
    let server = Server::start().unwrap();
    let mut so = Client::clean(server.address(), "so");
    so.subscribe("t", Q1);
    server.misbehave(Clients::named("client"), Fault::TakeNoQos2);
    let mut client = Client::clean(server.address(), "client");
    client.publish("t", "x");
    client.send(publish("t", Q2, "y"));
    client.closed();
    so.receive_and_acknowledge(1, "t", "x");
    so.quiet();
}

#[test]
fn a_message_at_qos_1_is_delivered_twice_and_one_at_qos_0_once() {
    let server = Server::start().unwrap();
    server.misbehave(Clients::named("client"), Fault::DeliverTwice);
    let mut client = Client::clean(server.address(), "client");
    client.subscribe("t", Q1);
    let mut so = Client::clean(server.address(), "so");
    so.publish("t", "x");
    so.publish_at("t", Q0, "at 0");
    client.receive_and_acknowledge(1, "t", "x");
    client.receive_and_acknowledge(2, "t", "x");
    client.expect(publish("t", Q0, "at 0"));
    client.quiet();
}

/// The state machine alone, in simulated time.
#[test]
fn in_simulated_time_a_delayed_message_and_a_silent_client_are_seen_to_the_nanosecond() {
    let start = clock::now().instant;
    let at = |milliseconds| start + Duration::from_millis(milliseconds);
    let id = ConnectionId(1);
    let mut broker = Broker::default();
    broker.misbehave(Clients::All, Fault::Delay(Duration::from_millis(100)));
    broker.handle(id, Input::Opened, start);
    broker.handle(id, Input::Packet(Packet::Connect(Connect { keep_alive: 10, ..clean("client") })), start);
    assert_eq!(broker.poll_output(start), None);
    assert_eq!(broker.poll_timeout(), Some(at(100)));
    assert_eq!(broker.poll_output(at(100) - Duration::from_nanos(1)), None);
    assert_eq!(broker.poll_output(at(100)), Some((id, Output::Packet(connected(false)))));
    assert_eq!(broker.poll_timeout(), Some(at(15_000)));
    broker.handle(id, Input::Packet(Packet::PubAck(PubAck::new(1))), at(7_000));
    broker.handle_timeout(at(22_000) - Duration::from_nanos(1));
    assert_eq!(broker.poll_output(at(30_000)), None);
    broker.handle_timeout(at(22_000));
    assert_eq!(broker.poll_output(at(22_099)), None);
    assert_eq!(broker.poll_output(at(22_100)), Some((id, Output::Close)));
    assert_eq!(broker.poll_timeout(), None);
}
