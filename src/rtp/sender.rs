//! The sending half of a call's RTP (RFC 3550 §5.1): one SSRC, one packet of 20 ms a tick, from the answer to the BYE.
//!
//! The timestamp follows the ticks, spoken or skipped, so that the far side can tell a missed tick from a lost packet. Digits
//! take the place of speech while they last: as telephone events (RFC 4733), or as tones where the far side takes no events.

use std::time::Duration;

use super::dtmf::DtmfGenerator;
use super::packet::{PacketView, write_packet};
use crate::codec::Codec;
use crate::pcm::{FRAME_SAMPLES, Frame};

/// Room that any packet of [`Sender`] fits into.
pub const MAX_PACKET_BYTES: usize = super::packet::HEADER_BYTES + FRAME_SAMPLES;

const STEP: u32 = FRAME_SAMPLES as u32;

/// What was sent so far, for RTCP.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SenderFigures {
    /// Our synchronization source.
    pub ssrc: u32,
    /// Packets sent.
    pub packets: u32,
    /// Payload bytes sent.
    pub octets: u32,
    /// The timestamp that the next tick will carry.
    pub timestamp: u32,
}

/// Makes the packets of one call. Allocates nothing.
#[derive(Debug)]
pub struct Sender {
    codec: Codec,
    telephone_event: Option<u8>,
    sequence: u16,
    figures: SenderFigures,
    dtmf: DtmfGenerator,
}

impl Sender {
    /// Begins at a random SSRC, sequence number and timestamp (RFC 3550 §5.1); digits are sent as payload type `telephone_event`. The
    /// sequence begins in the lower half: a peer that misses the first packets of SRTP knows nevertheless that it has not wrapped.
    pub fn new(codec: Codec, telephone_event: Option<u8>) -> Self {
        Self::starting_at(codec, telephone_event, fastrand::u32(..), fastrand::u16(..1 << 15), fastrand::u32(..))
    }

    /// Begins at given numbers.
    pub fn starting_at(codec: Codec, telephone_event: Option<u8>, ssrc: u32, sequence: u16, timestamp: u32) -> Self {
        let figures = SenderFigures { ssrc, timestamp, ..SenderFigures::default() };
        Self { codec, telephone_event, sequence, figures, dtmf: DtmfGenerator::default() }
    }

    /// Our synchronization source.
    pub fn ssrc(&self) -> u32 {
        self.figures.ssrc
    }

    /// What was sent so far.
    pub fn figures(&self) -> SenderFigures {
        self.figures
    }

    /// Writes the packet of this tick into `out` (at least [`MAX_PACKET_BYTES`]) and returns its length; 0 when there is no room.
    /// `marker` says that a talkspurt begins. While a digit is being sent, `frame` is not heard.
    pub fn packet(&mut self, frame: &Frame, marker: bool, out: &mut [u8]) -> usize {
        let mut speech = [0; FRAME_SAMPLES];
        let event = self.dtmf.tick(self.figures.timestamp, FRAME_SAMPLES as u16);
        let packet = match (&event, self.telephone_event) {
            (Some(event), Some(payload_type)) => PacketView {
                marker: event.marker,
                payload_type,
                sequence: self.sequence,
                timestamp: event.timestamp,
                ssrc: self.figures.ssrc,
                payload: &event.payload,
            },
            (event, _) => {
                let tone = event.map(|event| event.tone(self.figures.timestamp));
                self.codec.encode(tone.as_ref().unwrap_or(frame), &mut speech);
                PacketView {
                    marker: event.map_or(marker, |event| event.marker),
                    payload_type: self.codec.payload_type(),
                    sequence: self.sequence,
                    timestamp: self.figures.timestamp,
                    ssrc: self.figures.ssrc,
                    payload: &speech,
                }
            }
        };
        let length = write_packet(out, &packet);
        self.skip();
        if length > 0 {
            self.sequence = self.sequence.wrapping_add(1);
            self.figures.packets = self.figures.packets.wrapping_add(1);
            self.figures.octets = self.figures.octets.wrapping_add(packet.payload.len() as u32);
        }
        length
    }

    /// Lets a tick pass with a packet that carries nothing: a header of the agreed payload type. It keeps the way through a NAT or a
    /// relay open while there is nothing to be heard (RFC 6263 §4), and its number, so that no packet is missed. Written into `out`;
    /// returns its length.
    pub fn keepalive(&mut self, out: &mut [u8]) -> usize {
        let packet = PacketView {
            marker: false,
            payload_type: self.codec.payload_type(),
            sequence: self.sequence,
            timestamp: self.figures.timestamp,
            ssrc: self.figures.ssrc,
            payload: &[],
        };
        let length = write_packet(out, &packet);
        self.skip();
        if length > 0 {
            self.sequence = self.sequence.wrapping_add(1);
            self.figures.packets = self.figures.packets.wrapping_add(1);
        }
        length
    }

    /// Goes on in another codec, with telephone events as another payload type. Source, numbers and time go on as they are
    /// (RFC 3264 §8.3.2); a digit that is under way is not cut off.
    pub fn renegotiate(&mut self, codec: Codec, telephone_event: Option<u8>) {
        self.codec = codec;
        self.telephone_event = telephone_event;
    }

    /// Lets a tick pass without a packet.
    pub fn skip(&mut self) {
        self.figures.timestamp = self.figures.timestamp.wrapping_add(STEP);
    }

    /// Queues a digit; false when it is none, or when too many wait.
    pub fn dial(&mut self, digit: char, duration: Duration) -> bool {
        self.dtmf.dial(digit, duration)
    }

    /// Whether digits wait or are being sent.
    pub fn is_dialling(&self) -> bool {
        self.dtmf.is_busy()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pcm::tone;

    fn sent(sender: &mut Sender, marker: bool) -> (u16, u32, u8, bool, usize) {
        let mut out = [0; MAX_PACKET_BYTES];
        let length = sender.packet(&[1000; FRAME_SAMPLES], marker, &mut out);
        let view = PacketView::parse(&out[..length]).unwrap();
        (view.sequence, view.timestamp, view.payload_type, view.marker, view.payload.len())
    }

    #[test]
    fn sequence_follows_packets_and_timestamp_follows_ticks_across_both_wraps() {
        let mut sender = Sender::starting_at(Codec::Pcma, None, 7, 65534, u32::MAX - 159);
        assert_eq!(sent(&mut sender, true), (65534, u32::MAX - 159, 8, true, 160));
        assert_eq!(sent(&mut sender, false), (65535, 0, 8, false, 160));
        sender.skip();
        assert_eq!(sent(&mut sender, false), (0, 320, 8, false, 160));
        assert_eq!(sender.figures(), SenderFigures { ssrc: 7, packets: 3, octets: 480, timestamp: 480 });
    }

    #[test]
    fn a_digit_takes_the_place_of_speech_and_speech_goes_on_in_time() {
        let mut sender = Sender::starting_at(Codec::Pcmu, Some(121), 7, 0, 0);
        assert!(sender.dial('9', Duration::from_millis(20)));
        assert_eq!(sent(&mut sender, false), (0, 0, 121, true, 4));
        assert_eq!(sent(&mut sender, false), (1, 0, 121, false, 4));
        assert_eq!(sent(&mut sender, false), (2, 0, 121, false, 4));
        assert_eq!(sent(&mut sender, false), (3, 480, 0, false, 160));
        assert!(!sender.is_dialling());
    }

    #[test]
    fn a_digit_is_a_tone_in_place_of_speech_where_no_telephone_events_are_taken() {
        let mut sender = Sender::starting_at(Codec::Pcma, None, 7, 0, u32::MAX - 300);
        assert!(sender.dial('9', Duration::from_millis(100)));
        let mut heard = Vec::new();
        for tick in 0..8 {
            let mut out = [0; MAX_PACKET_BYTES];
            let length = sender.packet(&[1000; FRAME_SAMPLES], false, &mut out);
            let view = PacketView::parse(&out[..length]).unwrap();
            assert_eq!((view.payload_type, view.marker), (8, tick == 0));
            let mut frame = [0; FRAME_SAMPLES];
            Codec::Pcma.decode(view.payload, &mut frame);
            heard.extend(frame);
        }
        let (digit, rest) = heard.split_at(5 * FRAME_SAMPLES);
        let shares = [852.0, 1477.0].map(|hz| tone::share_of(hz, digit));
        assert!(shares[0] > 0.35 && shares[1] > 0.55, "{shares:?}");
        let (pause, speech) = rest.split_at(2 * FRAME_SAMPLES);
        assert!(pause.iter().all(|sample| sample.abs() < 16) && speech.iter().all(|sample| *sample > 900));
        assert!(!sender.is_dialling());
    }

    #[test]
    fn another_codec_goes_on_in_the_same_numbers_and_time() {
        let mut sender = Sender::starting_at(Codec::Pcmu, None, 7, 10, 800);
        assert_eq!(sent(&mut sender, false), (10, 800, 0, false, 160));
        sender.renegotiate(Codec::Pcma, Some(96));
        assert_eq!(sent(&mut sender, false), (11, 960, 8, false, 160));
        assert!(sender.dial('1', Duration::from_millis(40)));
        assert_eq!(sent(&mut sender, false).2, 96);
    }

    #[test]
    fn a_keepalive_is_a_header_in_its_place_and_no_packet_is_missed() {
        let mut sender = Sender::starting_at(Codec::Pcma, None, 7, 10, 800);
        let mut out = [0; MAX_PACKET_BYTES];
        let length = sender.keepalive(&mut out);
        let view = PacketView::parse(&out[..length]).unwrap();
        assert_eq!((view.sequence, view.timestamp, view.payload_type, view.payload), (10, 800, 8, &[][..]));
        assert_eq!(sent(&mut sender, true), (11, 960, 8, true, 160));
        assert_eq!((sender.figures().packets, sender.figures().octets), (2, 160));
    }

    #[test]
    fn a_buffer_that_is_too_small_gets_nothing_and_time_goes_on() {
        let mut sender = Sender::starting_at(Codec::Pcmu, None, 7, 5, 0);
        assert_eq!(sender.packet(&[0; FRAME_SAMPLES], false, &mut [0; 100]), 0);
        assert_eq!(sent(&mut sender, false).0, 5);
        assert_eq!(sender.figures().timestamp, 320);
    }
}
