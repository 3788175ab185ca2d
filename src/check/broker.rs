//! The broker: whether it can be reached, lets us in, and lets us read what is for us.

use std::time::Duration;

use rumqttc::{Client, ConnectReturnCode, ConnectionError, Event, Incoming, Outgoing};

use super::Finding;
use crate::clock;
use crate::config::MqttSettings;
use crate::ids::SimulatorName;
use crate::mqtt;
use crate::mqtt::topic::Filters;

/// For the connection and the subscription together.
const LIMIT: Duration = Duration::from_secs(15);

pub(super) fn check(settings: &MqttSettings, simulator: &SimulatorName, say: &mut dyn FnMut(Finding)) {
    let address = format!("{}:{}", settings.host, settings.port);
    let (client, mut connection) = Client::new(mqtt::options_of_a_visitor(settings, simulator), 10);
    let until = clock::now().instant + LIMIT;
    loop {
        match connection.recv_timeout(until.saturating_duration_since(clock::now().instant)) {
            Ok(Ok(Event::Incoming(Incoming::ConnAck(_)))) => {
                let user = if settings.username.is_empty() { "without a user".to_owned() } else { format!("as {}", settings.username) };
                say(Finding::good("broker", format!("{address} lets us in, {user}")));
                // The queue has room.
                let _ = client.try_subscribe_many(mqtt::subscription(simulator).filters);
            }
            Ok(Ok(Event::Incoming(Incoming::SubAck(answer)))) => {
                say(subscribed(&mqtt::refused_filters(&answer, simulator), simulator));
                let _ = client.try_disconnect();
            }
            Ok(Ok(Event::Outgoing(Outgoing::Disconnect))) => return,
            Ok(Ok(_)) => {}
            Ok(Err(error)) => return say(refused(&address, &error)),
            Err(_) => return say(silent(&address)),
        }
    }
}

fn subscribed(Filters { needed, helpful }: &Filters<Vec<String>>, simulator: &SimulatorName) -> Finding {
    let remedy = "allow our user to read that: with mosquitto, a line `topic read …` for it in its acl_file";
    let refuses = |filters: &[String]| format!("the broker refuses the subscription to {}", filters.join(" and "));
    if !needed.is_empty() {
        return Finding::bad("subscriptions", refuses(needed), remedy);
    }
    if !helpful.is_empty() {
        let text = format!("{}: models that an SO has ended early, and that do not end by themselves, run on", refuses(helpful));
        return Finding::warning("subscriptions", text, remedy);
    }
    let text =
        format!("the requests of {simulator:?} and what models say can be subscribed to; what an acl_file then holds back is not seen");
    Finding::good("subscriptions", text)
}

fn refused(address: &str, error: &ConnectionError) -> Finding {
    match error {
        ConnectionError::ConnectionRefused(code @ (ConnectReturnCode::BadUserNamePassword | ConnectReturnCode::NotAuthorized)) => {
            let text = format!("{address} answers, and refuses us: {code:?}");
            Finding::bad("broker", text, "check MQTT_USERNAME and MQTT_PASSWORD")
        }
        ConnectionError::ConnectionRefused(code) => {
            Finding::bad("broker", format!("{address} answers, and refuses us: {code:?}"), "its log says why")
        }
        error => {
            Finding::bad("broker", format!("{address} cannot be reached: {error}"), "check MQTT_HOST and MQTT_PORT, and whether it runs")
        }
    }
}

fn silent(address: &str) -> Finding {
    let text = format!("{address} takes the connection and does not answer within {} s", LIMIT.as_secs());
    Finding::bad("broker", text, "check that MQTT_PORT is that of MQTT 3.1.1 without TLS or WebSocket")
}
