//! One RTP packet (RFC 3550 §5.1): a bounds-checked view of a received one, and writing one to send.
//!
//! ```text
//!  0                   1                   2                   3
//! |V=2|P|X|  CC   |M|     PT      |       sequence number         |
//! |                           timestamp                           |
//! |           synchronization source (SSRC) identifier            |
//! |       contributing sources, CC × 32 bit; header extension     |
//! ```
//!
//! Receiving is our own because the `rtp` crate panics on a header extension (RFC 8285) whose element is longer than the packet, takes
//! any version, and leaks extension bytes into the payload after element id 15. Contributing sources and extensions are skipped unread.

use rtp::header::Header;
use thiserror::Error;
use webrtc_util::marshal::Marshal;

/// Length of a header without contributing sources and extension.
pub const HEADER_BYTES: usize = 12;

/// Whether a datagram on a port of both is RTCP (RFC 5761 §4): RTP does not use the payload types that its packet types would be.
pub fn is_rtcp(bytes: &[u8]) -> bool {
    bytes.get(1).is_some_and(|second| (64..=95).contains(&(second & 0x7f)))
}

/// Why a datagram is not an RTP packet. Always the sender's fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum PacketError {
    /// Fewer bytes than the fixed header has.
    #[error("RTP packet of {0} bytes is shorter than its 12-byte header")]
    Short(usize),
    /// The version is not 2.
    #[error("RTP version {0}, only version 2 is spoken")]
    Version(u8),
    /// The contributing sources do not fit into the packet.
    #[error("RTP packet ends inside its list of {0} contributing sources")]
    Contributors(u8),
    /// The header extension does not fit into the packet.
    #[error("RTP packet ends inside its header extension")]
    Extension,
    /// The padding count is zero or larger than what is there.
    #[error("RTP padding of {0} bytes does not fit into the packet")]
    Padding(u8),
}

/// A received packet, borrowed from its datagram.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PacketView<'a> {
    /// The marker bit: first packet of a talkspurt.
    pub marker: bool,
    /// The payload type, 0–127.
    pub payload_type: u8,
    /// The sequence number.
    pub sequence: u16,
    /// The timestamp of the first payload byte, in clock-rate units.
    pub timestamp: u32,
    /// The synchronization source.
    pub ssrc: u32,
    /// What it carries, padding removed; may be empty.
    pub payload: &'a [u8],
}

impl<'a> PacketView<'a> {
    /// Reads a datagram.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, PacketError> {
        let Some((header, mut rest)) = bytes.split_first_chunk::<HEADER_BYTES>() else {
            return Err(PacketError::Short(bytes.len()));
        };
        let version = header[0] >> 6;
        if version != 2 {
            return Err(PacketError::Version(version));
        }
        let contributors = header[0] & 0x0f;
        rest = rest.get(usize::from(contributors) * 4..).ok_or(PacketError::Contributors(contributors))?;
        if header[0] & 0x10 != 0 {
            let (extension, behind) = rest.split_first_chunk::<4>().ok_or(PacketError::Extension)?;
            let words = usize::from(u16::from_be_bytes([extension[2], extension[3]]));
            rest = behind.get(words * 4..).ok_or(PacketError::Extension)?;
        }
        if header[0] & 0x20 != 0 {
            let padding = rest.last().copied().unwrap_or(0);
            let kept = rest.len().checked_sub(usize::from(padding)).filter(|_| padding != 0);
            rest = &rest[..kept.ok_or(PacketError::Padding(padding))?];
        }
        Ok(Self {
            marker: header[1] & 0x80 != 0,
            payload_type: header[1] & 0x7f,
            sequence: u16::from_be_bytes([header[2], header[3]]),
            timestamp: u32::from_be_bytes([header[4], header[5], header[6], header[7]]),
            ssrc: u32::from_be_bytes([header[8], header[9], header[10], header[11]]),
            payload: rest,
        })
    }
}

/// Writes `packet` to the front of `buffer` and returns its length; 0 when it does not fit. Allocates nothing.
pub fn write_packet(buffer: &mut [u8], packet: &PacketView<'_>) -> usize {
    let header = Header {
        version: 2,
        marker: packet.marker,
        payload_type: packet.payload_type & 0x7f,
        sequence_number: packet.sequence,
        timestamp: packet.timestamp,
        ssrc: packet.ssrc,
        ..Header::default()
    };
    let length = HEADER_BYTES + packet.payload.len();
    let Some(room) = buffer.get_mut(..length) else { return 0 };
    if header.marshal_to(room).is_err() {
        return 0;
    }
    room[HEADER_BYTES..].copy_from_slice(packet.payload);
    length
}

#[cfg(test)]
mod tests {
    use super::*;
    use webrtc_util::marshal::Unmarshal;

    /// Extension element of 16 bytes announced, 3 there: `rtp` 0.17 panics on it.
    const HOSTILE: [u8; 20] = [0x90, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 1, 0xbe, 0xde, 0, 1, 0x1f, 0, 0, 0];

    /// What the `rtp` crate makes of it; `None` when it panics.
    fn oracle(bytes: &[u8]) -> Option<Result<rtp::packet::Packet, webrtc_util::Error>> {
        std::panic::catch_unwind(|| rtp::packet::Packet::unmarshal(&mut &bytes[..])).ok()
    }

    #[test]
    fn what_is_written_is_read_back_by_both() {
        let packet = PacketView {
            marker: true,
            payload_type: 101,
            sequence: 0xfffe,
            timestamp: 0xdead_beef,
            ssrc: 0x0102_0304,
            payload: &[1, 2, 3],
        };
        let mut buffer = [0xaa; 64];
        let length = write_packet(&mut buffer, &packet);
        assert_eq!(length, 15);
        assert_eq!(PacketView::parse(&buffer[..length]), Ok(packet));
        let theirs = oracle(&buffer[..length]).unwrap().unwrap();
        assert_eq!((theirs.header.sequence_number, theirs.header.marker), (0xfffe, true));
        assert_eq!(write_packet(&mut buffer[..14], &packet), 0);
    }

    #[test]
    fn the_datagram_that_kills_the_rtp_crate_is_an_ordinary_packet_here() {
        let hook = std::panic::take_hook();
        std::panic::set_hook(Box::new(|_| {}));
        let killed = oracle(&HOSTILE).is_none();
        std::panic::set_hook(hook);
        assert!(killed, "the crate is repaired: the note at the head of this file can go");
        assert_eq!(PacketView::parse(&HOSTILE).unwrap().payload, [0u8; 0]);
    }

    #[test]
    fn each_fault_has_its_name() {
        let mut packet = HOSTILE;
        assert_eq!(PacketView::parse(&packet[..11]), Err(PacketError::Short(11)));
        assert_eq!(PacketView::parse(&packet[..19]), Err(PacketError::Extension));
        assert_eq!(PacketView::parse(&packet[..15]), Err(PacketError::Extension));
        packet[0] = 0x40;
        assert_eq!(PacketView::parse(&packet), Err(PacketError::Version(1)));
        packet[0] = 0x83;
        assert_eq!(PacketView::parse(&packet), Err(PacketError::Contributors(3)));
        packet[0] = 0xa0;
        assert_eq!(PacketView::parse(&packet), Err(PacketError::Padding(0)));
        packet[19] = 9;
        assert_eq!(PacketView::parse(&packet), Err(PacketError::Padding(9)));
        packet[19] = 8;
        assert_eq!(PacketView::parse(&packet).unwrap().payload, [0u8; 0]);
        assert_eq!(PacketView::parse(&packet[..12]), Err(PacketError::Padding(0)));
    }

    #[test]
    fn on_random_packets_view_and_rtp_crate_agree_wherever_the_crate_is_sound() {
        let hook = std::panic::take_hook();
        std::panic::set_hook(Box::new(|_| {}));
        let mut random = fastrand::Rng::with_seed(0x0ff0);
        let (mut compared, mut panicked) = (0, 0);
        for _ in 0..60_000 {
            let mut bytes: Vec<u8> = (0..random.usize(..64)).map(|_| random.u8(..)).collect();
            if let Some(first) = bytes.first_mut() {
                // Mostly version 2 with few contributing sources, so that the inner fields are reached.
                *first = 0x80 | (*first & 0x33);
            }
            let known_profile = random.bool() && bytes.len() > 16;
            if known_profile && bytes[0] & 0x0f == 0 {
                bytes[12..16].copy_from_slice(&[0xbe, 0xde, 0, random.u8(..6)]);
            }
            let ours = PacketView::parse(&bytes);
            let Some(theirs) = oracle(&bytes) else {
                panicked += 1;
                continue;
            };
            let (Ok(view), Ok(packet)) = (ours, theirs) else { continue };
            // RFC 8285 elements: the crate stops at id 15 and takes the rest for payload.
            if packet.header.extension && packet.header.extension_profile == 0xbede {
                continue;
            }
            compared += 1;
            let header = &packet.header;
            assert_eq!(
                (view.marker, view.payload_type, view.sequence, view.timestamp, view.ssrc),
                (header.marker, header.payload_type, header.sequence_number, header.timestamp, header.ssrc)
            );
            if bytes[0] & 0x20 == 0 && !(header.extension && header.extension_profile == 0x1000) {
                assert_eq!(view.payload, &packet.payload[..], "{bytes:02x?}");
            }
        }
        std::panic::set_hook(hook);
        assert!(compared > 5_000 && panicked > 100, "compared {compared}, the crate panicked {panicked} times");
    }
}
