//! The cases, by what they are about: the connection, malformed packets, topics, messages, retained ones, sessions, what is in flight,
//! takeovers, wills, size and speed, restarts. None knows on which broker it is played.
//!
//! One file, as it is one list: a case is a page at most, stands alone, and is found by its name in tests/broker.rs.

use std::net::TcpStream;
use std::time::Duration;

use bytes::BytesMut;
use mso::clock;
use rumqttc::mqttbytes::v4::{Connect, ConnectReturnCode, LastWill, Packet, PubAck, PubComp, PubRec, PubRel, Publish, UnsubAck};

use crate::client::{Client, MAX_PACKET_BYTES};
use crate::ground::Ground;
use crate::packets::{
    IN_FLIGHT, Q0, Q1, Q2, again, clean, connect, connect_bytes, connected, lasting, numbered, packet_bytes, publish, publish_packet,
    refused, retained, string, subscribe, subscribed, unsubscribe, with_will,
};

pub(crate) fn a_connection_begins_with_a_connect(ground: &mut Ground) {
    let mut client = Client::open(ground.address());
    client.send(Packet::PingReq);
    client.closed();
    let mut client = Client::open(ground.address());
    client.send(publish("t", Q0, "x"));
    client.closed();
    let mut client = Client::open(ground.address());
    client.send(connect("client"));
    client.expect(connected(false));
    client.quiet();
}

pub(crate) fn a_malformed_connect_closes_the_connection(ground: &mut Ground) {
    let plain = |flags: u8, rest: &[u8]| connect_bytes(0x10, "MQTT", 4, flags, "client", rest);
    let topic_and_message = |topic: &str| [string(topic), string("m")].concat();
    for (what, bytes) in [
        ("the reserved flag", plain(0x03, &[])),
        ("flags of the packet", connect_bytes(0x12, "MQTT", 4, 0x02, "client", &[])),
        ("a password without a user", plain(0x42, &string("secret"))),
        ("a user that is not there", plain(0x82, &[])),
        ("another protocol", connect_bytes(0x10, "MQTX", 4, 0x02, "client", &[])),
        ("a client id with a tab", connect_bytes(0x10, "MQTT", 4, 0x02, "a\tb", &[])),
        ("a will at QoS 3", plain(0x1E, &topic_and_message("t"))),
        ("a will with a wildcard", plain(0x06, &topic_and_message("t/+"))),
        ("a will without a topic", plain(0x06, &topic_and_message(""))),
        ("a retained will and no will", plain(0x22, &[])),
    ] {
        let mut client = Client::open(ground.address());
        client.send_bytes(&bytes);
        assert_eq!(client.receive(), None, "{what}");
    }
}

pub(crate) fn another_protocol_level_is_refused(ground: &mut Ground) {
    for level in [3, 6] {
        let mut client = Client::open(ground.address());
        client.send_bytes(&connect_bytes(0x10, "MQTT", level, 0x02, "client", &[]));
        client.expect(refused(ConnectReturnCode::RefusedProtocolVersion));
        client.closed();
    }
}

pub(crate) fn an_empty_client_id_is_given_a_name_only_for_a_clean_session(ground: &mut Ground) {
    let mut one = Client::connect(ground.address(), clean(""), false);
    let mut another = Client::connect(ground.address(), clean(""), false);
    one.quiet();
    another.quiet();
    let mut client = Client::open(ground.address());
    client.send(lasting(""));
    client.expect(refused(ConnectReturnCode::BadClientId));
    client.closed();
}

pub(crate) fn a_second_connect_closes_the_connection(ground: &mut Ground) {
    let mut client = Client::clean(ground.address(), "client");
    client.send(connect("client"));
    client.closed();
}

pub(crate) fn a_malformed_packet_closes_the_connection(ground: &mut Ground) {
    let subscribe = |first: u8, id: u16, options: u8| packet_bytes(first, &[&id.to_be_bytes()[..], &string("a"), &[options]].concat());
    let unsubscribe = |first: u8, id: u16| packet_bytes(first, &[&id.to_be_bytes()[..], &string("a")].concat());
    for (what, bytes) in [
        ("packet type 0", vec![0x00, 0]),
        ("packet type 15", vec![0xF0, 0]),
        ("a length of five bytes", vec![0xC0, 0x80, 0x80, 0x80, 0x80, 0x01]),
        ("a PUBLISH at QoS 3", packet_bytes(0x36, &[&string("t")[..], &[0, 1]].concat())),
        ("a PUBLISH with packet id 0", packet_bytes(0x32, &[&string("t")[..], &[0, 0]].concat())),
        ("a PUBLISH with nothing in it", vec![0x30, 0]),
        ("a topic past the end of its packet", packet_bytes(0x30, &[0, 9, b't'])),
        ("a topic that is no UTF-8", packet_bytes(0x30, &[0, 1, 0xFF])),
        ("a filter that is no UTF-8", packet_bytes(0x82, &[0, 1, 0, 1, 0xFF, 0])),
        ("a PUBACK with packet id 0", vec![0x40, 2, 0, 0]),
        ("a PUBREL without its flag", vec![0x60, 2, 0, 1]),
        ("a PUBREL with packet id 0", vec![0x62, 2, 0, 0]),
        ("a CONNACK", vec![0x20, 2, 0, 0]),
        ("a SUBSCRIBE without its flag", subscribe(0x80, 1, 0)),
        ("a SUBSCRIBE with packet id 0", subscribe(0x82, 0, 0)),
        ("a SUBSCRIBE at QoS 3", subscribe(0x82, 1, 3)),
        ("a SUBSCRIBE with a reserved bit", subscribe(0x82, 1, 5)),
        ("a SUBSCRIBE to nothing", vec![0x82, 2, 0, 1]),
        ("an UNSUBSCRIBE without its flag", unsubscribe(0xA0, 1)),
        ("an UNSUBSCRIBE with packet id 0", unsubscribe(0xA2, 0)),
        ("an UNSUBSCRIBE from nothing", vec![0xA2, 2, 0, 1]),
        ("a DISCONNECT with a flag", vec![0xE1, 0]),
        ("a DISCONNECT with a body", vec![0xE0, 1, 0]),
    ] {
        let mut client = Client::clean(ground.address(), "client");
        client.send_bytes(&bytes);
        assert_eq!(client.receive(), None, "{what}");
    }
}

pub(crate) fn what_is_odd_but_harmless_is_passed_over(ground: &mut Ground) {
    let mut client = Client::clean(ground.address(), "client");
    client.send_bytes(&[0xC1, 0]);
    client.expect(Packet::PingResp);
    client.send_bytes(&[0xC0, 0x80, 0]);
    client.expect(Packet::PingResp);
    client.send_bytes(&[0x42, 2, 0, 5]);
    client.quiet();
    client.send(Packet::Publish(Publish { dup: true, ..publish_packet("t", Q0, "x") }));
    client.quiet();
}

pub(crate) fn a_bad_topic_closes_the_connection(ground: &mut Ground) {
    for topic in ["", "a/+", "a/#", "a+b", "a\0b", "a\tb", "a\nb", "a\u{7f}", "a\u{85}", "\u{fdd0}", "\u{ffff}", &"/".repeat(201)] {
        for qos in [Q0, Q1, Q2] {
            let mut client = Client::clean(ground.address(), "client");
            client.send(publish(topic, qos, "x"));
            assert_eq!(client.receive(), None, "{topic:?}");
        }
    }
    let mut client = Client::clean(ground.address(), "client");
    for topic in ["/", "a b", "a//b", "ä/ö", "$data/a", &"/".repeat(200)] {
        client.publish(topic, "x");
    }
}

pub(crate) fn a_bad_filter_closes_the_connection(ground: &mut Ground) {
    for filter in ["", "a+", "a/+b/c", "a#", "a/#/b", "#/a", "a\0b", "a\tb", &"/".repeat(201)] {
        let mut client = Client::clean(ground.address(), "client");
        client.send(subscribe(&[("good", Q1), (filter, Q1)]));
        assert_eq!(client.receive(), None, "{filter:?}");
        let mut client = Client::clean(ground.address(), "client");
        client.send(unsubscribe(filter));
        assert_eq!(client.receive(), None, "{filter:?}");
    }
    let mut client = Client::clean(ground.address(), "client");
    for filter in ["/", "+", "#", "/+/#", "a//b", "$data/#", &"/".repeat(200)] {
        client.subscribe(filter, Q1);
    }
}

pub(crate) fn a_message_goes_to_those_who_subscribed(ground: &mut Ground) {
    let mut one = Client::clean(ground.address(), "one");
    let mut another = Client::clean(ground.address(), "another");
    let mut nobody = Client::clean(ground.address(), "nobody");
    one.subscribe("/lifecycle/+/mso/#", Q1);
    another.subscribe("/lifecycle/so/mso/s/DeployModels", Q1);
    let mut publisher = Client::clean(ground.address(), "publisher");
    publisher.publish("/lifecycle/so/mso/s/DeployModels", "request");
    publisher.publish("/lifecycle/so/mso/s/SimulationDone", "");
    for client in [&mut one, &mut another] {
        client.receive_and_acknowledge(1, "/lifecycle/so/mso/s/DeployModels", "request");
    }
    one.receive_and_acknowledge(2, "/lifecycle/so/mso/s/SimulationDone", "");
    for client in [&mut one, &mut another, &mut nobody, &mut publisher] {
        client.quiet();
    }
}

pub(crate) fn a_message_has_the_lower_qos_of_its_publisher_and_its_subscription(ground: &mut Ground) {
    let mut client = Client::clean(ground.address(), "client");
    client.subscribe("zero", Q0);
    client.subscribe("one", Q1);
    let mut publisher = Client::clean(ground.address(), "publisher");
    for topic in ["zero", "one"] {
        for qos in [Q0, Q1, Q2] {
            publisher.publish_at(topic, qos, "x");
        }
    }
    for topic in ["zero", "zero", "zero", "one"] {
        client.expect(publish(topic, Q0, "x"));
    }
    client.receive_and_acknowledge(1, "one", "x");
    client.receive_and_acknowledge(2, "one", "x");
    client.quiet();
}

pub(crate) fn a_message_at_qos_2_is_passed_on_once_when_it_is_released(ground: &mut Ground) {
    let mut client = Client::clean(ground.address(), "client");
    client.subscribe("t", Q1);
    let mut publisher = Client::clean(ground.address(), "publisher");
    publisher.is_held(7, "t", "x", false);
    publisher.is_held(7, "t", "x", true);
    publisher.is_held(8, "t", "y", false);
    client.quiet();
    publisher.release(8);
    client.receive_and_acknowledge(1, "t", "y");
    publisher.release(7);
    client.receive_and_acknowledge(2, "t", "x");
    // Again, as when the PUBCOMP was lost.
    publisher.release(7);
    client.quiet();
    // A new message.
    publisher.is_held(7, "t", "x", false);
    publisher.release(7);
    client.receive_and_acknowledge(3, "t", "x");
    client.quiet();
}

pub(crate) fn another_message_with_the_packet_id_of_one_that_is_held_replaces_it(ground: &mut Ground) {
    let mut client = Client::clean(ground.address(), "client");
    client.subscribe("t", Q1);
    let mut publisher = Client::clean(ground.address(), "publisher");
    publisher.is_held(7, "t", "x", false);
    publisher.is_held(7, "t", "y", false);
    publisher.release(7);
    client.receive_and_acknowledge(1, "t", "y");
    client.quiet();
}

pub(crate) fn a_release_of_nothing_is_answered(ground: &mut Ground) {
    let mut client = Client::clean(ground.address(), "client");
    client.release(5);
    client.quiet();
}

pub(crate) fn what_is_held_lasts_as_long_as_the_session(ground: &mut Ground) {
    let mut client = Client::clean(ground.address(), "client");
    client.subscribe("t", Q1);
    let mut publisher = Client::lasting(ground.address(), "publisher", false);
    publisher.is_held(1, "t", "released", false);
    publisher.is_held(2, "t", "sent again", false);
    drop(publisher);
    ground.wait_until_gone("publisher");
    let mut publisher = Client::lasting(ground.address(), "publisher", true);
    publisher.quiet();
    publisher.release(1);
    client.receive_and_acknowledge(1, "t", "released");
    publisher.is_held(2, "t", "sent again", true);
    publisher.release(2);
    client.receive_and_acknowledge(2, "t", "sent again");
    publisher.is_held(3, "t", "left", false);
    let mut publisher = Client::clean(ground.address(), "publisher");
    publisher.release(3);
    client.quiet();
}

pub(crate) fn a_client_sees_its_own_message_before_the_acknowledgement(ground: &mut Ground) {
    let mut client = Client::clean(ground.address(), "client");
    client.subscribe("t", Q1);
    client.send(Packet::Publish(Publish { pkid: 77, ..publish_packet("t", Q1, "x") }));
    client.receive_and_acknowledge(1, "t", "x");
    client.expect(Packet::PubAck(PubAck::new(77)));
    client.is_held(78, "t", "y", false);
    client.send(Packet::PubRel(PubRel::new(78)));
    client.receive_and_acknowledge(2, "t", "y");
    client.expect(Packet::PubComp(PubComp::new(78)));
    client.quiet();
}

pub(crate) fn wildcards_match_as_they_should(ground: &mut Ground) {
    let mut publisher = Client::clean(ground.address(), "publisher");
    for (filter, topics, others) in [
        ("a/#", &["a", "a/", "a/b/c"][..], &["ab", "/a", "b/a"][..]),
        ("a/+", &["a/b", "a/"], &["a", "a/b/c"]),
        ("/+/b", &["/a/b", "//b"], &["a/b", "/a/a/b", "/a"]),
        ("+/+", &["a/b", "/a", "/"], &["a", "a/b/c", "$data/a"]),
        ("+/a/#", &["b/a", "/a/b"], &["a", "$data/a"]),
        ("#", &["a", "/a", "a//b"], &["$data/a"]),
        ("$data/#", &["$data", "$data/a"], &["data/a"]),
        ("a", &["a"], &["A", "/a", "a/"]),
    ] {
        let mut client = Client::clean(ground.address(), "client");
        client.subscribe(filter, Q0);
        for topic in topics.iter().chain(others) {
            publisher.publish(topic, topic);
        }
        for topic in topics {
            client.expect(publish(topic, Q0, topic));
        }
        client.quiet();
        client.send(Packet::Disconnect);
        client.closed();
    }
}

pub(crate) fn a_subscription_again_replaces_the_qos(ground: &mut Ground) {
    let mut client = Client::clean(ground.address(), "client");
    client.subscribe("t", Q1);
    client.subscribe("t", Q0);
    client.publish_to_itself("t", Q0);
    client.subscribe("t", Q1);
    client.publish_to_itself("t", Q1);
    client.quiet();
}

pub(crate) fn overlapping_subscriptions_deliver_once(ground: &mut Ground) {
    for (filters, qos) in [
        (&[("a/b", Q0), ("a/+", Q1), ("a/#", Q1)][..], Q0),
        (&[("a/b", Q1), ("a/+", Q0), ("a/#", Q0)], Q1),
        (&[("a/#", Q1), ("a/+", Q0)], Q0),
        (&[("a/b/#", Q0), ("a/b", Q1)], Q0),
        (&[("a/b/#", Q1), ("a/b", Q0)], Q1),
        (&[("+/b", Q0), ("a/#", Q1)], Q1),
        (&[("+/b", Q0), ("#", Q1)], Q0),
        (&[("+/#", Q0), ("#", Q1), ("+/+", Q1)], Q1),
    ] {
        let mut client = Client::clean(ground.address(), "client");
        client.send(subscribe(filters));
        client.expect(subscribed(filters));
        let mut publisher = Client::clean(ground.address(), "publisher");
        publisher.publish("a/b", "x");
        match client.receive() {
            Some(Packet::Publish(publish)) => assert_eq!(publish.qos, qos, "{filters:?}"),
            other => panic!("{other:?}"),
        }
        client.quiet();
    }
}

pub(crate) fn after_an_unsubscribe_nothing_comes(ground: &mut Ground) {
    let mut client = Client::clean(ground.address(), "client");
    client.subscribe("a/+", Q1);
    client.subscribe("b", Q1);
    client.send(unsubscribe("a/+"));
    client.expect(Packet::UnsubAck(UnsubAck { pkid: 1 }));
    // Of what it never subscribed to.
    client.send(unsubscribe("c"));
    client.expect(Packet::UnsubAck(UnsubAck { pkid: 1 }));
    let mut publisher = Client::clean(ground.address(), "publisher");
    publisher.publish("a/b", "x");
    publisher.publish("b", "y");
    client.receive_and_acknowledge(1, "b", "y");
    client.quiet();
}

pub(crate) fn a_retained_message_comes_with_the_subscription(ground: &mut Ground) {
    let mut early = Client::clean(ground.address(), "early");
    early.subscribe("kept/#", Q1);
    let mut publisher = Client::clean(ground.address(), "publisher");
    publisher.publish_retained("kept/a", Q1, "first");
    publisher.publish_retained("kept/a", Q1, "last");
    publisher.publish_retained("kept/b", Q0, "at 0");
    publisher.publish("kept/c", "not kept");
    early.receive_and_acknowledge(1, "kept/a", "first");
    early.receive_and_acknowledge(2, "kept/a", "last");
    early.expect(publish("kept/b", Q0, "at 0"));
    early.receive_and_acknowledge(3, "kept/c", "not kept");
    let mut late = Client::clean(ground.address(), "late");
    late.subscribe("kept/a", Q1);
    late.expect(Packet::Publish(Publish { pkid: 1, retain: true, ..publish_packet("kept/a", Q1, "last") }));
    late.subscribe("kept/b", Q1);
    late.expect(retained("kept/b", "at 0"));
    late.subscribe("kept/c", Q1);
    late.quiet();
    let mut at_0 = Client::clean(ground.address(), "at 0");
    at_0.subscribe("kept/a", Q0);
    at_0.expect(retained("kept/a", "last"));
    at_0.quiet();
}

pub(crate) fn retained_messages_come_again_with_each_matching_filter(ground: &mut Ground) {
    let mut publisher = Client::clean(ground.address(), "publisher");
    publisher.publish_retained("kept/a", Q1, "x");
    publisher.publish_retained("$data/a", Q1, "x");
    let mut client = Client::clean(ground.address(), "client");
    client.send(subscribe(&[("kept/+", Q0), ("kept/#", Q0), ("other", Q0), ("#", Q0)]));
    client.expect(subscribed(&[("kept/+", Q0), ("kept/#", Q0), ("other", Q0), ("#", Q0)]));
    for _ in 0..3 {
        client.expect(retained("kept/a", "x"));
    }
    client.subscribe("kept/+", Q0);
    client.expect(retained("kept/a", "x"));
    client.quiet();
}

pub(crate) fn a_retained_message_at_qos_2_is_retained_when_it_is_released(ground: &mut Ground) {
    let mut publisher = Client::clean(ground.address(), "publisher");
    publisher.send(Packet::Publish(Publish { retain: true, ..publish_packet("kept", Q2, "x") }));
    publisher.expect(Packet::PubRec(PubRec::new(1)));
    let mut client = Client::clean(ground.address(), "client");
    client.subscribe("kept", Q0);
    client.quiet();
    publisher.release(1);
    client.expect(publish("kept", Q0, "x"));
    client.subscribe("kept", Q0);
    client.expect(retained("kept", "x"));
    client.quiet();
}

pub(crate) fn an_empty_retained_message_clears(ground: &mut Ground) {
    let mut client = Client::clean(ground.address(), "client");
    client.subscribe("kept", Q0);
    let mut publisher = Client::clean(ground.address(), "publisher");
    publisher.publish_retained("kept", Q1, "x");
    publisher.publish_retained("kept", Q1, "");
    publisher.publish_retained("kept", Q1, "");
    client.expect(publish("kept", Q0, "x"));
    client.expect(publish("kept", Q0, ""));
    client.expect(publish("kept", Q0, ""));
    client.subscribe("kept", Q0);
    client.quiet();
}

pub(crate) fn a_retained_message_for_an_absent_session_is_not_marked_so(ground: &mut Ground) {
    Client::lasting(ground.address(), "client", false).subscribe_and_leave("kept");
    let mut publisher = Client::clean(ground.address(), "publisher");
    publisher.publish_retained("kept", Q1, "x");
    let mut client = Client::lasting(ground.address(), "client", true);
    client.receive_and_acknowledge(1, "kept", "x");
    client.quiet();
}

pub(crate) fn a_clean_session_leaves_nothing(ground: &mut Ground) {
    Client::clean(ground.address(), "client").subscribe_and_leave("t");
    let mut publisher = Client::clean(ground.address(), "publisher");
    publisher.publish("t", "x");
    let mut client = Client::lasting(ground.address(), "client", false);
    publisher.publish("t", "x");
    client.quiet();
}

pub(crate) fn a_lasting_session_keeps_its_subscriptions(ground: &mut Ground) {
    Client::lasting(ground.address(), "client", false).subscribe_and_leave("t/#");
    let mut client = Client::lasting(ground.address(), "client", true);
    Client::clean(ground.address(), "publisher").publish("t/a", "x");
    client.receive_and_acknowledge(1, "t/a", "x");
    client.quiet();
}

pub(crate) fn a_clean_connect_ends_a_lasting_session(ground: &mut Ground) {
    Client::lasting(ground.address(), "client", false).subscribe_and_leave("t");
    let mut publisher = Client::clean(ground.address(), "publisher");
    publisher.publish("t", "x");
    let mut client = Client::clean(ground.address(), "client");
    client.quiet();
    client.send(Packet::Disconnect);
    client.closed();
    let mut client = Client::lasting(ground.address(), "client", false);
    publisher.publish("t", "x");
    client.quiet();
}

pub(crate) fn an_absent_session_gets_what_was_published_in_order(ground: &mut Ground) {
    let mut client = Client::lasting(ground.address(), "client", false);
    client.subscribe("at-0/#", Q0);
    client.subscribe_and_leave("at-1/#");
    let mut publisher = Client::clean(ground.address(), "publisher");
    publisher.publish_at("at-1/a", Q1, "1");
    publisher.publish_at("at-1/b", Q0, "2");
    publisher.publish_at("at-0/c", Q1, "3");
    publisher.publish_at("at-0/d", Q0, "4");
    publisher.publish_at("at-1/a", Q1, "5");
    let mut client = Client::lasting(ground.address(), "client", true);
    client.receive_and_acknowledge(1, "at-1/a", "1");
    client.expect(publish("at-1/b", Q0, "2"));
    client.expect(publish("at-0/c", Q0, "3"));
    client.expect(publish("at-0/d", Q0, "4"));
    client.receive_and_acknowledge(2, "at-1/a", "5");
    client.quiet();
}

pub(crate) fn what_is_not_acknowledged_comes_again_in_order_and_marked(ground: &mut Ground) {
    let mut client = Client::lasting(ground.address(), "client", false);
    client.subscribe("t", Q1);
    let mut publisher = Client::clean(ground.address(), "publisher");
    for payload in ["1", "2", "3", "4"] {
        publisher.publish("t", payload);
    }
    for (id, payload) in [(1, "1"), (2, "2"), (3, "3"), (4, "4")] {
        client.expect(numbered(id, "t", payload));
    }
    client.acknowledge(2);
    client.quiet();
    drop(client);
    ground.wait_until_gone("client");
    publisher.publish("t", "5");
    let mut client = Client::lasting(ground.address(), "client", true);
    for (id, payload) in [(1, "1"), (3, "3"), (4, "4")] {
        client.expect(again(id, "t", payload));
    }
    client.expect(numbered(5, "t", "5"));
    for id in [1, 3, 4, 5] {
        client.acknowledge(id);
    }
    client.quiet();
    drop(client);
    let mut client = Client::lasting(ground.address(), "client", true);
    client.quiet();
    publisher.publish("t", "6");
    client.expect(numbered(6, "t", "6"));
}

pub(crate) fn twenty_messages_are_in_flight_and_the_others_wait(ground: &mut Ground) {
    let mut client = Client::lasting(ground.address(), "client", false);
    client.subscribe("t", Q1);
    let mut publisher = Client::clean(ground.address(), "publisher");
    for id in 1..=IN_FLIGHT + 5 {
        publisher.publish("t", &id.to_string());
    }
    for id in 1..=IN_FLIGHT {
        client.expect(numbered(id, "t", &id.to_string()));
    }
    client.quiet();
    drop(client);
    let mut client = Client::lasting(ground.address(), "client", true);
    for id in 1..=IN_FLIGHT {
        client.expect(again(id, "t", &id.to_string()));
    }
    client.quiet();
    for id in 1..=IN_FLIGHT {
        client.acknowledge(id);
    }
    for id in IN_FLIGHT + 1..=IN_FLIGHT + 5 {
        client.receive_and_acknowledge(id, "t", &id.to_string());
    }
    client.quiet();
}

pub(crate) fn acknowledgements_may_come_in_any_order(ground: &mut Ground) {
    let mut client = Client::clean(ground.address(), "client");
    client.subscribe("t", Q1);
    let mut publisher = Client::clean(ground.address(), "publisher");
    for id in 1..=IN_FLIGHT + 2 {
        publisher.publish("t", &id.to_string());
    }
    for id in 1..=IN_FLIGHT {
        client.expect(numbered(id, "t", &id.to_string()));
    }
    client.acknowledge(IN_FLIGHT);
    client.expect(numbered(IN_FLIGHT + 1, "t", &(IN_FLIGHT + 1).to_string()));
    client.acknowledge(7);
    client.expect(numbered(IN_FLIGHT + 2, "t", &(IN_FLIGHT + 2).to_string()));
    client.quiet();
}

pub(crate) fn an_acknowledgement_of_nothing_is_passed_over(ground: &mut Ground) {
    let mut client = Client::clean(ground.address(), "client");
    client.acknowledge(5);
    client.subscribe("t", Q1);
    Client::clean(ground.address(), "publisher").publish("t", "x");
    client.receive_and_acknowledge(1, "t", "x");
    client.acknowledge(1);
    client.quiet();
}

pub(crate) fn messages_at_qos_0_pass_those_that_wait(ground: &mut Ground) {
    let mut client = Client::clean(ground.address(), "client");
    client.subscribe("t", Q1);
    let mut publisher = Client::clean(ground.address(), "publisher");
    for id in 1..=IN_FLIGHT + 1 {
        publisher.publish("t", &id.to_string());
    }
    publisher.publish_at("t", Q0, "at 0");
    for id in 1..=IN_FLIGHT {
        client.expect(numbered(id, "t", &id.to_string()));
    }
    client.expect(publish("t", Q0, "at 0"));
    client.quiet();
}

pub(crate) fn packet_ids_begin_again_after_the_last(ground: &mut Ground) {
    let mut client = Client::clean(ground.address(), "client");
    client.subscribe("t", Q1);
    // Many at once, as it is 65 535; fewer than may be in flight.
    let ids: Vec<u16> = (1..=u16::MAX).chain(1..=3).collect();
    for ids in ids.chunks(15) {
        let mut publishes = BytesMut::new();
        let mut acknowledgements = BytesMut::new();
        for id in ids {
            publish("t", Q1, "x").write(&mut publishes, MAX_PACKET_BYTES).unwrap();
            Packet::PubAck(PubAck::new(*id)).write(&mut acknowledgements, MAX_PACKET_BYTES).unwrap();
        }
        client.send_bytes(&publishes);
        for id in ids {
            client.expect(numbered(*id, "t", "x"));
            client.expect(Packet::PubAck(PubAck::new(1)));
        }
        client.send_bytes(&acknowledgements);
    }
}

pub(crate) fn a_second_client_with_the_id_takes_over(ground: &mut Ground) {
    let mut first = Client::clean(ground.address(), "client");
    first.subscribe("t", Q1);
    let mut second = Client::clean(ground.address(), "client");
    first.closed();
    Client::clean(ground.address(), "publisher").publish("t", "x");
    second.quiet();
}

pub(crate) fn a_takeover_of_a_lasting_session_goes_on_with_it(ground: &mut Ground) {
    let mut first = Client::lasting(ground.address(), "client", false);
    first.subscribe("t", Q1);
    let mut publisher = Client::clean(ground.address(), "publisher");
    publisher.publish("t", "1");
    first.expect(numbered(1, "t", "1"));
    let mut second = Client::lasting(ground.address(), "client", true);
    first.closed();
    second.expect(again(1, "t", "1"));
    second.acknowledge(1);
    publisher.publish("t", "2");
    second.receive_and_acknowledge(2, "t", "2");
    second.quiet();
    // From a clean one there is nothing to go on with.
    let mut third = Client::clean(ground.address(), "client");
    second.closed();
    third.subscribe("t", Q1);
    let mut fourth = Client::lasting(ground.address(), "client", false);
    third.closed();
    publisher.publish("t", "3");
    fourth.quiet();
}

pub(crate) fn a_takeover_says_the_will_only_where_the_session_ends(ground: &mut Ground) {
    let mut heir = Client::clean(ground.address(), "heir");
    heir.subscribe("will", Q1);
    let mut told = 0;
    for (first, second, is_said) in [(true, true, true), (true, false, true), (false, true, true), (false, false, false)] {
        let id = format!("client-{first}-{second}");
        let with = |clean_session| Connect { clean_session, last_will: Some(LastWill::new("will", &*id, Q1, false)), ..Connect::new(&id) };
        let mut old = Client::connect(ground.address(), with(first), false);
        let _new = Client::connect(ground.address(), Connect { last_will: None, ..with(second) }, !first && !second);
        old.closed();
        if is_said {
            told += 1;
            heir.receive_and_acknowledge(told, "will", &id);
        }
        heir.quiet();
    }
}

pub(crate) fn a_will_is_said_when_the_connection_breaks(ground: &mut Ground) {
    let mut heir = Client::clean(ground.address(), "heir");
    heir.subscribe("will", Q1);
    drop(Client::connect(ground.address(), with_will(Q1, false), false));
    heir.receive_and_acknowledge(1, "will", "gone");
    drop(Client::connect(ground.address(), with_will(Q0, false), false));
    heir.expect(publish("will", Q0, "gone"));
    heir.quiet();
}

pub(crate) fn a_will_is_said_after_a_protocol_error(ground: &mut Ground) {
    let mut heir = Client::clean(ground.address(), "heir");
    heir.subscribe("will", Q1);
    for (id, bytes) in [(1, &packet_bytes(0x30, &string("a/+"))[..]), (2, &[0xC0, 0x80, 0x80, 0x80, 0x80, 0x01]), (3, &[0xE1, 0])] {
        let mut client = Client::connect(ground.address(), with_will(Q1, false), false);
        client.send_bytes(bytes);
        client.closed();
        heir.receive_and_acknowledge(id, "will", "gone");
    }
    // Not after this one.
    let mut client = Client::connect(ground.address(), with_will(Q1, false), false);
    client.send(connect("dying"));
    client.closed();
    heir.quiet();
}

pub(crate) fn a_will_is_not_said_after_a_goodbye(ground: &mut Ground) {
    let mut heir = Client::clean(ground.address(), "heir");
    heir.subscribe("will", Q1);
    let mut client = Client::connect(ground.address(), with_will(Q1, false), false);
    client.send(Packet::Disconnect);
    client.closed();
    heir.quiet();
}

pub(crate) fn a_will_can_be_retained(ground: &mut Ground) {
    let mut heir = Client::clean(ground.address(), "heir");
    heir.subscribe("will", Q1);
    drop(Client::connect(ground.address(), with_will(Q1, true), false));
    heir.receive_and_acknowledge(1, "will", "gone");
    let mut late = Client::clean(ground.address(), "late");
    late.subscribe("will", Q0);
    late.expect(retained("will", "gone"));
}

pub(crate) fn a_silent_client_is_cut_off_after_its_keep_alive(ground: &mut Ground) {
    let mut heir = Client::clean(ground.address(), "heir");
    heir.subscribe("will", Q1);
    let began = clock::now().instant;
    let mut client = Client::connect(ground.address(), Connect { keep_alive: 1, ..with_will(Q1, false) }, false);
    client.closed();
    let took = clock::now().instant - began;
    // Mosquitto counts in whole seconds.
    assert!(took >= Duration::from_secs(1), "it took {took:?}");
    heir.receive_and_acknowledge(1, "will", "gone");
}

pub(crate) fn a_message_of_17_megabytes_passes(ground: &mut Ground) {
    let payload = "x".repeat(17_000_000);
    let mut client = Client::clean(ground.address(), "client");
    client.subscribe("t", Q1);
    Client::clean(ground.address(), "publisher").publish("t", &payload);
    client.receive_and_acknowledge(1, "t", &payload);
}

pub(crate) fn a_burst_arrives_complete_and_in_order(ground: &mut Ground) {
    let mut client = Client::clean(ground.address(), "client");
    client.subscribe("t", Q1);
    let mut publisher = Client::clean(ground.address(), "publisher");
    for id in 1..=2000 {
        publisher.send(Packet::Publish(Publish { pkid: id, ..publish_packet("t", Q1, &id.to_string()) }));
    }
    for id in 1..=2000 {
        client.receive_and_acknowledge(id, "t", &id.to_string());
    }
    for id in 1..=2000 {
        publisher.expect(Packet::PubAck(PubAck::new(id)));
    }
    client.quiet();
}

pub(crate) fn a_client_that_does_not_read_holds_up_nobody(ground: &mut Ground) {
    let mut slow = Client::clean(ground.address(), "slow");
    slow.subscribe("t", Q1);
    let mut client = Client::clean(ground.address(), "client");
    client.subscribe("t", Q1);
    let mut publisher = Client::clean(ground.address(), "publisher");
    let payload = "x".repeat(1_000_000);
    for id in 1..=IN_FLIGHT * 2 {
        publisher.publish("t", &payload);
        client.receive_and_acknowledge(id, "t", &payload);
    }
    for id in 1..=IN_FLIGHT * 2 {
        slow.receive_and_acknowledge(id, "t", &payload);
    }
}

pub(crate) fn sessions_and_retained_messages_survive_a_restart(ground: &mut Ground) {
    let mut client = Client::lasting(ground.address(), "client", false);
    client.subscribe("t/#", Q1);
    let mut publisher = Client::lasting(ground.address(), "publisher", false);
    publisher.publish_retained("t/kept", Q1, "1");
    publisher.publish("t", "2");
    client.expect(numbered(1, "t/kept", "1"));
    client.expect(numbered(2, "t", "2"));
    client.acknowledge(1);
    client.quiet();
    drop(client);
    ground.wait_until_gone("client");
    publisher.publish("t", "3");
    publisher.publish_at("t", Q0, "4");
    publisher.is_held(9, "t", "5", false);
    let mut bystander = Client::clean(ground.address(), "bystander");
    ground.stop();
    bystander.closed();
    assert!(TcpStream::connect(ground.address()).is_err(), "nobody listens");
    ground.restart();
    let mut publisher = Client::lasting(ground.address(), "publisher", true);
    publisher.quiet();
    let mut client = Client::lasting(ground.address(), "client", true);
    client.expect(again(2, "t", "2"));
    client.expect(numbered(3, "t", "3"));
    client.expect(publish("t", Q0, "4"));
    client.quiet();
    publisher.release(9);
    client.expect(numbered(4, "t", "5"));
    client.quiet();
    let mut late = Client::clean(ground.address(), "late");
    late.subscribe("t/kept", Q0);
    late.expect(retained("t/kept", "1"));
}

pub(crate) fn no_will_is_said_by_a_broker_that_is_killed(ground: &mut Ground) {
    Client::lasting(ground.address(), "heir", false).subscribe_and_leave("will");
    let mut client = Client::connect(ground.address(), with_will(Q1, true), false);
    ground.kill();
    client.closed();
    ground.restart();
    let mut heir = Client::lasting(ground.address(), "heir", true);
    heir.quiet();
}
