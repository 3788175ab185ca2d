//! The SO's connection to the broker, and all that it hears.

use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::{Sender, bounded};
use mso::clock::{self, UnixTime};
use rumqttc::{Client, Connection, Event, Incoming, MqttOptions, Outgoing, QoS};

use super::broker::Broker;
use super::feed::Feed;
use super::{LIMIT, spawn, unique};

/// Above what the service takes.
const PACKET_BYTES_MAX: usize = 64 * 1024 * 1024;

#[derive(Clone, Debug)]
pub(crate) struct Heard {
    pub(crate) topic: String,
    pub(crate) payload: Vec<u8>,
    pub(crate) retained: bool,
    pub(crate) at: UnixTime,
}

pub(crate) struct So {
    client: Client,
    pub(crate) heard: Arc<Feed<Heard>>,
}

impl So {
    /// Has subscribed when this returns. Its session outlives the connection, so that an outage of the broker takes nothing from the test.
    pub(crate) fn connect(broker: &Broker, simulator: &str) -> Self {
        let mut options = MqttOptions::new(format!("so-{}", unique()), &broker.host, broker.port);
        options.set_clean_session(false).set_max_packet_size(PACKET_BYTES_MAX, PACKET_BYTES_MAX);
        let (client, mut connection) = Client::new(options, 100);
        let mut network = connection.eventloop.network_options();
        network.set_tcp_nodelay(true);
        connection.eventloop.set_network_options(network);

        let so = Self { client, heard: Arc::default() };
        let (subscribed, when_subscribed) = bounded(1);
        let (client, heard, filter) = (so.client.clone(), so.heard.clone(), format!("/lifecycle/mso/{simulator}/#"));
        spawn("so", move || listen(connection, &client, &filter, &heard, &subscribed));
        when_subscribed.recv_timeout(LIMIT).expect("the broker takes the subscription");
        so
    }

    pub(crate) fn publish(&self, topic: &str, payload: Vec<u8>) {
        self.client.publish(topic, QoS::AtLeastOnce, false, payload).expect("the connection is there");
    }
}

impl Drop for So {
    fn drop(&mut self) {
        let _ = self.client.try_disconnect();
    }
}

fn listen(mut connection: Connection, client: &Client, filter: &str, heard: &Feed<Heard>, subscribed: &Sender<()>) {
    for event in connection.iter() {
        match event {
            Ok(Event::Incoming(Incoming::ConnAck(_))) => client.try_subscribe(filter, QoS::AtLeastOnce).expect("there is room"),
            Ok(Event::Incoming(Incoming::SubAck(_))) => drop(subscribed.try_send(())),
            Ok(Event::Incoming(Incoming::Publish(message))) => heard.push(Heard {
                topic: message.topic,
                payload: message.payload.to_vec(),
                retained: message.retain,
                at: clock::now().unix,
            }),
            Ok(Event::Outgoing(Outgoing::Disconnect)) => return,
            Ok(_) => {}
            // The library connects again at once and without end.
            Err(_) => std::thread::sleep(Duration::from_millis(200)),
        }
    }
}
