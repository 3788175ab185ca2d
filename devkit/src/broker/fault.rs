//! What the broker does wrong when it is asked to. It only says what; the broker does it.

use std::time::Duration;

use rumqttc::mqttbytes::v4::ConnectReturnCode;

/// Whom a fault hurts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Clients {
    All,
    /// The client with this id.
    Named(String),
}

impl Clients {
    pub fn named(client_id: &str) -> Self {
        Self::Named(client_id.to_owned())
    }

    pub(super) fn include(&self, client_id: &str) -> bool {
        match self {
            Self::All => true,
            Self::Named(named) => named == client_id,
        }
    }
}

/// From when it is asked for until [`behave`](super::Broker::behave), where it does not say otherwise.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Each CONNECT is answered with this code, and the connection closed. Connections that stand stay.
    RefuseConnections(ConnectReturnCode),
    /// Nothing that comes is handled, and nothing answered: a CONNECT, or what comes on a connection that stands.
    /// What others publish is still sent on connections that stand.
    SayNothing,
    /// A SUBSCRIBE, an UNSUBSCRIBE, a PUBLISH or a PUBREL is not handled, and not acknowledged. CONNECT and pings are answered: a broker that
    /// is there, and hangs behind.
    AcknowledgeNothing,
    /// Each connection is closed at its packet of this number, which is not handled any more. Its CONNECT is number 1.
    CloseAtPacket(u32),
    /// A PUBLISH at QoS 2 closes the connection, as with `max_qos 1` in mosquitto.
    TakeNoQos2,
    /// All that is sent is sent so much later, in order.
    Delay(Duration),
    /// Once: the next PUBLISH of QoS 1 or 2 is taken, but instead of its PUBACK or PUBREC the client sees the connection close.
    LoseAcknowledgement,
    /// Once: the next PUBREL is done, but instead of its PUBCOMP the client sees the connection close.
    LoseCompletion,
    /// What goes to these clients at QoS 1 goes there a second time, with a packet id of its own: as when its publisher repeats it after a
    /// lost PUBACK.
    DeliverTwice,
}
