//! Packets as bytes. rumqttc reads and writes them; here stands what it lets pass and a broker must not. It knows no connection.

use bytes::BytesMut;
use rumqttc::mqttbytes::v4::Packet;
use rumqttc::mqttbytes::{self, Error};

/// What is larger closes the connection before it fills the memory. Far above the service's limit, and above what mosquitto is told to pass
/// (`message_size_limit`), as tests send the service more than it takes.
pub(super) const MAX_PACKET_BYTES: usize = 64 * 1024 * 1024;

/// Types of packets, in the first half byte.
const CONNECT: u8 = 1;
const PUBLISH: u8 = 3;

const LEVEL_OF_3_1_1: u8 = 4;

/// Takes the first packet off the stream; `None` while it is not all there.
///
/// # Errors
/// What stands at the front of the stream is no packet of MQTT 3.1.1, or is over [`MAX_PACKET_BYTES`]. Nothing after it can be read.
pub(super) fn read(stream: &mut BytesMut) -> Result<Option<Packet>, Error> {
    let length = match mqttbytes::check(stream.iter(), MAX_PACKET_BYTES) {
        Ok(header) => header.frame_length(),
        Err(Error::InsufficientBytes(_)) => return Ok(None),
        Err(error) => return Err(error),
    };
    let mut frame = stream.split_to(length);
    // It has no bits that are reserved, and may be large.
    if frame[0] >> 4 == PUBLISH {
        return Packet::read(&mut frame, MAX_PACKET_BYTES).map(Some);
    }
    let bytes = frame.clone();
    if bytes[0] >> 4 == CONNECT {
        check_connect(&bytes)?;
    }
    let packet = Packet::read(&mut frame, MAX_PACKET_BYTES)?;
    if let Packet::PubRel(_) | Packet::Subscribe(_) | Packet::Unsubscribe(_) | Packet::Disconnect = packet {
        // rumqttc passes over reserved bits and what is too much, and writes none. Of other packets mosquitto passes over them too.
        let mut written = BytesMut::new();
        packet.write(&mut written, MAX_PACKET_BYTES)?;
        if written != bytes {
            return Err(Error::MalformedPacket);
        }
    }
    Ok(Some(packet))
}

/// The level before anything else: a packet of another one reads differently behind it.
fn check_connect(bytes: &[u8]) -> Result<(), Error> {
    let length_bytes = 1 + bytes[1..].iter().take_while(|byte| **byte & 0x80 != 0).count();
    // The name, "MQTT" with two bytes of length before it, is rumqttc's to check.
    let Some([level, flags, ..]) = bytes.get(1 + length_bytes + 6..) else { return Err(Error::MalformedPacket) };
    let (username, password) = (flags & 0x80 != 0, flags & 0x40 != 0);
    if *level != LEVEL_OF_3_1_1 {
        return Err(Error::InvalidProtocolLevel(*level));
    }
    if bytes[0] & 0x0F != 0 || flags & 0x01 != 0 || password && !username {
        return Err(Error::IncorrectPacketFormat);
    }
    Ok(())
}
