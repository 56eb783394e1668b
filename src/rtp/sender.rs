//! The sending half of a call's RTP (RFC 3550 §5.1): one SSRC, from the answer to the BYE, in packets of the length that the far side wants.
//!
//! Sound comes in by ticks of 20 ms. Packets of 40 and 60 ms leave with every second and third tick, those of 10 ms two at a time, and those
//! of 30 ms with two ticks of three; Opus, which has no frames of 30 ms, leaves in those of 20. The timestamp follows the ticks, spoken or skipped, so that the far side can tell a missed tick from a
//! lost packet. Digits take the place of speech while they last: as telephone events (RFC 4733), or as tones where the far side takes no
//! events.

use std::time::Duration;

use super::dtmf::{DtmfGenerator, EventPacket};
use super::jitter::MAX_PAYLOAD_BYTES;
use super::packet::{PacketView, write_packet};
use crate::codec::{Codec, Encoder, LONGEST_SOUND, TelephoneEvents, opus};
use crate::pcm::{self, FRAME_SAMPLES, Frame, PTIME};

/// Room that any packet of [`Sender`] fits into.
pub const MAX_PACKET_BYTES: usize = super::packet::HEADER_BYTES + MAX_PAYLOAD_BYTES;
/// Sound that waits: less than the longest packet, and a tick.
const WAITING_SAMPLES: usize = LONGEST_SOUND + FRAME_SAMPLES;
/// Digits that are tones are counted in these a second.
const TONE_CLOCK: u32 = 8000;
/// Times that a packet can have, in ms.
const PTIMES_MS: std::ops::RangeInclusive<u64> = 10..=60;

/// What was sent so far, for RTCP.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SenderFigures {
    /// Our synchronization source.
    pub ssrc: u32,
    /// Packets sent.
    pub packets: u32,
    /// Payload bytes sent.
    pub octets: u32,
    /// The timestamp of the next tick.
    pub timestamp: u32,
    /// Timestamp units a second.
    pub clock_rate: u32,
}

/// Sound that is not sent yet.
#[derive(Debug)]
struct Waiting {
    sound: [i16; WAITING_SAMPLES],
    length: usize,
    /// The timestamp of its first sample.
    timestamp: u32,
    /// A talkspurt begins with it.
    marker: bool,
    /// So many samples of it are sent without waiting for more.
    due: usize,
}

impl Waiting {
    /// Appends what belongs to `timestamp`; what waits ends there, or nothing waits.
    fn put(&mut self, timestamp: u32, marker: bool, frame: &Frame) {
        if self.length == 0 {
            (self.timestamp, self.marker) = (timestamp, marker);
        } else if marker {
            self.marker = true;
        }
        let room = &mut self.sound[self.length..];
        let length = frame.len().min(room.len());
        room[..length].copy_from_slice(&frame[..length]);
        self.length += length;
    }

    /// Fills `sound` from the front, or with silence what is lacking, and passes over `units` of the clock; gives its timestamp and marker.
    fn take(&mut self, sound: &mut [i16], units: u32) -> (u32, bool) {
        let taken = sound.len().min(self.length);
        sound[..taken].copy_from_slice(&self.sound[..taken]);
        self.sound.copy_within(taken..self.length, 0);
        self.length -= taken;
        self.due = self.due.saturating_sub(taken);
        let timestamp = self.timestamp;
        self.timestamp = timestamp.wrapping_add(units);
        (timestamp, std::mem::take(&mut self.marker))
    }

    fn clear(&mut self) {
        (self.length, self.due) = (0, 0);
    }
}

/// Makes the packets of one call. Allocates nothing.
#[derive(Debug)]
pub struct Sender {
    codec: Codec,
    telephone_event: Option<TelephoneEvents>,
    /// The time of a packet that the far side wants, in ms.
    ptime_ms: u64,
    sequence: u16,
    figures: SenderFigures,
    dtmf: DtmfGenerator,
    encoder: Encoder,
    waiting: Waiting,
    /// The telephone event of this tick.
    event: Option<EventPacket>,
}

impl Sender {
    /// Begins at a random SSRC, sequence number and timestamp (RFC 3550 §5.1); digits are sent as `telephone_event`. The
    /// sequence begins in the lower half: a peer that misses the first packets of SRTP knows nevertheless that it has not wrapped.
    pub fn new(codec: Codec, telephone_event: Option<TelephoneEvents>) -> Self {
        Self::starting_at(codec, telephone_event, fastrand::u32(..), fastrand::u16(..1 << 15), fastrand::u32(..))
    }

    /// Begins at given numbers.
    pub fn starting_at(
        codec: Codec,
        telephone_event: Option<TelephoneEvents>,
        ssrc: u32,
        sequence: u16,
        timestamp: u32,
    ) -> Self {
        let figures = SenderFigures { ssrc, timestamp, clock_rate: codec.clock_rate(), packets: 0, octets: 0 };
        let waiting = Waiting { sound: [0; WAITING_SAMPLES], length: 0, timestamp, marker: false, due: 0 };
        Self {
            codec,
            telephone_event,
            ptime_ms: PTIME.as_millis() as u64,
            sequence,
            figures,
            dtmf: DtmfGenerator::default(),
            encoder: Encoder::new(codec),
            waiting,
            event: None,
        }
    }

    /// Sends packets of `ptime` from now on, as near as 10 to 60 ms and whole 10 ms come to it, and as the codec can.
    pub fn set_ptime(&mut self, ptime: Duration) {
        self.ptime_ms = (ptime.as_millis() as u64).clamp(*PTIMES_MS.start(), *PTIMES_MS.end()) / 10 * 10;
    }

    /// Samples of a packet.
    fn packet_samples(&self) -> usize {
        let ms = match (self.codec, self.ptime_ms) {
            // It has no frames of these lengths.
            (Codec::Opus(_), 30) => 20,
            (Codec::Opus(_), 50) => 40,
            (_, ms) => ms,
        };
        pcm::samples_in(Duration::from_millis(ms)) as usize
    }

    /// Timestamp units of so many samples.
    fn units(&self, samples: usize) -> u32 {
        (samples as u64 * u64::from(self.codec.clock_rate()) / u64::from(pcm::RATE)) as u32
    }

    /// Makes what `codec` takes, should it be agreed on later. Allocates for Opus.
    pub fn prepare(&mut self, codec: Codec) {
        self.encoder.prepare(codec);
    }

    /// Our synchronization source.
    pub fn ssrc(&self) -> u32 {
        self.figures.ssrc
    }

    /// What was sent so far.
    pub fn figures(&self) -> SenderFigures {
        self.figures
    }

    /// Takes the sound of this tick and writes the packet that is due, if any, into `out` (at least [`MAX_PACKET_BYTES`]); returns its length,
    /// and 0 when there is none or no room. More may be due: see [`Self::poll`]. `marker` says that a talkspurt begins. While a digit is being
    /// sent, `frame` is not heard.
    pub fn packet(&mut self, frame: &Frame, marker: bool, out: &mut [u8]) -> usize {
        let timestamp = self.figures.timestamp;
        let event_clock = self.telephone_event.map_or(TONE_CLOCK, |events| events.clock_rate);
        let event = self.dtmf.tick(timestamp, event_clock);
        self.skip();
        if self.waiting.timestamp.wrapping_add(self.units(self.waiting.length)) != timestamp {
            // Ticks were skipped, or an event took their place.
            self.waiting.due = self.waiting.length;
        }
        if event.is_some() && self.telephone_event.is_some() {
            self.waiting.due = self.waiting.length;
            self.event = event;
            return self.poll(out);
        }
        let tone = event.map(|event| {
            let since = timestamp.wrapping_sub(event.timestamp) / (self.codec.clock_rate() / TONE_CLOCK);
            event.tone(since)
        });
        let first = if self.waiting.due > 0 { self.poll(out) } else { 0 };
        let marker = event.map_or(marker, |event| event.marker);
        self.waiting.put(timestamp, marker, tone.as_ref().unwrap_or(frame));
        if first > 0 { first } else { self.poll(out) }
    }

    /// Writes the next packet that is due into `out`; returns its length, and 0 when there is none or no room.
    pub fn poll(&mut self, out: &mut [u8]) -> usize {
        let whole = self.packet_samples();
        let due = match self.waiting.due {
            0 if self.waiting.length >= whole => whole,
            due => due.min(whole),
        };
        if due > 0 {
            // Opus has frames of some lengths only.
            let length = match self.codec {
                Codec::Opus(_) => opus::FRAMES.into_iter().find(|&frame| frame >= due).unwrap_or(whole),
                _ => due,
            };
            let mut sound = [0; LONGEST_SOUND];
            let (timestamp, marker) = self.waiting.take(&mut sound[..length], self.units(due));
            let mut payload = [0; MAX_PAYLOAD_BYTES];
            let length = self.encoder.encode(self.codec, &sound[..length], &mut payload);
            return self.write(self.codec.payload_type(), timestamp, marker, &payload[..length], out);
        }
        match (self.event.take(), self.telephone_event) {
            (Some(event), Some(TelephoneEvents { payload_type, .. })) => {
                self.write(payload_type, event.timestamp, event.marker, &event.payload, out)
            }
            _ => 0,
        }
    }

    /// Writes a packet with the next number; one that finds no room does not use it up.
    fn write(&mut self, payload_type: u8, timestamp: u32, marker: bool, payload: &[u8], out: &mut [u8]) -> usize {
        let (sequence, ssrc) = (self.sequence, self.figures.ssrc);
        let length = write_packet(out, &PacketView { marker, payload_type, sequence, timestamp, ssrc, payload });
        if length > 0 {
            self.sequence = self.sequence.wrapping_add(1);
            self.figures.packets = self.figures.packets.wrapping_add(1);
            self.figures.octets = self.figures.octets.wrapping_add(payload.len() as u32);
        }
        length
    }

    /// Lets a tick pass with a packet that carries nothing: a header of the agreed payload type. It keeps the way through a NAT or a
    /// relay open while there is nothing to be heard (RFC 6263 §4), and its number, so that no packet is missed. Written into `out`;
    /// returns its length.
    pub fn keepalive(&mut self, out: &mut [u8]) -> usize {
        let timestamp = self.figures.timestamp;
        self.waiting.clear();
        self.skip();
        self.write(self.codec.payload_type(), timestamp, false, &[], out)
    }

    /// Goes on in another codec, with telephone events as another payload type. Source, numbers and time go on as they are
    /// (RFC 3264 §8.3.2, RFC 7160 where the clock has another rate); a digit that is under way is not cut off.
    pub fn renegotiate(&mut self, codec: Codec, telephone_event: Option<TelephoneEvents>) {
        if codec.clock_rate() != self.codec.clock_rate() {
            // What waits was timed by the old one, and is less than a packet.
            self.waiting.clear();
        }
        self.codec = codec;
        self.figures.clock_rate = codec.clock_rate();
        self.telephone_event = telephone_event;
    }

    /// Lets a tick pass without a packet.
    pub fn skip(&mut self) {
        self.figures.timestamp = self.figures.timestamp.wrapping_add(self.codec.units(PTIME));
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
    use crate::codec::g711::Law;
    use crate::pcm::telephone;

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
        assert_eq!(
            sender.figures(),
            SenderFigures { ssrc: 7, packets: 3, octets: 480, timestamp: 480, clock_rate: 8000 }
        );
    }

    #[test]
    fn a_digit_takes_the_place_of_speech_and_speech_goes_on_in_time() {
        let mut sender = Sender::starting_at(Codec::Pcmu, Some(121.into()), 7, 0, 0);
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
            let mut frame = telephone::SILENCE;
            Law::A.decode(view.payload, &mut frame);
            heard.extend(frame);
        }
        let (digit, rest) = heard.split_at(5 * telephone::FRAME_SAMPLES);
        let shares = [852.0, 1477.0].map(|hz| telephone::share_of(hz, digit));
        assert!(shares[0] > 0.35 && shares[1] > 0.55, "{shares:?}");
        let (pause, speech) = rest.split_at(2 * telephone::FRAME_SAMPLES);
        assert!(pause[20..].iter().all(|sample| sample.abs() < 16) && speech[20..].iter().all(|sample| *sample > 900));
        assert!(!sender.is_dialling());
    }

    #[test]
    fn another_codec_goes_on_in_the_same_numbers_and_time() {
        let mut sender = Sender::starting_at(Codec::Pcmu, None, 7, 10, 800);
        assert_eq!(sent(&mut sender, false), (10, 800, 0, false, 160));
        sender.renegotiate(Codec::Pcma, Some(96.into()));
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

    /// The timestamps and lengths of what is sent in each of these ticks; `.` in place of the frame: the tick is skipped.
    fn ticks(sender: &mut Sender, plan: &str) -> Vec<Vec<(u32, usize)>> {
        let mut out = [0; MAX_PACKET_BYTES];
        let mut tick = |what: char| {
            let mut packets = Vec::new();
            let mut length = if what == '.' {
                sender.skip();
                0
            } else {
                sender.packet(&[1000; FRAME_SAMPLES], false, &mut out)
            };
            while length > 0 {
                let view = PacketView::parse(&out[..length]).unwrap();
                packets.push((view.timestamp, view.payload.len()));
                length = sender.poll(&mut out);
            }
            packets
        };
        plan.chars().map(&mut tick).collect()
    }

    #[test]
    fn packets_are_as_long_as_the_far_side_wants_them() {
        for (ms, plan, expected) in [
            (10, "xx", vec![vec![(0, 80), (80, 80)], vec![(160, 80), (240, 80)]]),
            (20, "xx", vec![vec![(0, 160)], vec![(160, 160)]]),
            (30, "xxxx", vec![vec![], vec![(0, 240)], vec![(240, 240)], vec![]]),
            (40, "xxxx", vec![vec![], vec![(0, 320)], vec![], vec![(320, 320)]]),
            (60, "xxxx", vec![vec![], vec![], vec![(0, 480)], vec![]]),
            (1000, "xxx", vec![vec![], vec![], vec![(0, 480)]]),
            // What was said before a tick that was missed is not put behind it.
            (40, "x.xx", vec![vec![], vec![], vec![(0, 160)], vec![(320, 320)]]),
        ] {
            for codec in [Codec::G722, Codec::Pcmu, Codec::Pcma] {
                let mut sender = Sender::starting_at(codec, None, 7, 0, 0);
                sender.set_ptime(Duration::from_millis(ms));
                assert_eq!(ticks(&mut sender, plan), expected, "{ms} ms, {codec:?}");
            }
        }
    }

    #[test]
    fn opus_goes_in_packets_of_the_lengths_it_has_on_a_clock_of_its_own() {
        for (ms, plan, expected) in [
            (10, "xx", vec![vec![0, 480], vec![960, 1440]]),
            (20, "xx", vec![vec![0], vec![960]]),
            (30, "xx", vec![vec![0], vec![960]]),
            (40, "xxxx", vec![vec![], vec![0], vec![], vec![1920]]),
            (60, "xxxx", vec![vec![], vec![], vec![0], vec![]]),
            (40, "x.xx", vec![vec![], vec![], vec![0], vec![1920]]),
        ] {
            let mut sender = Sender::starting_at(Codec::ALL[1], None, 7, 0, 0);
            sender.set_ptime(Duration::from_millis(ms));
            let sent: Vec<Vec<u32>> = ticks(&mut sender, plan)
                .into_iter()
                .map(|packets| {
                    packets.into_iter().inspect(|(_, length)| assert!(*length > 0)).map(|(at, _)| at).collect()
                })
                .collect();
            assert_eq!(sent, expected, "{ms} ms");
        }
    }

    #[test]
    fn over_a_change_of_clock_the_numbers_go_on_and_a_digit_is_counted_on_the_clock_that_was_agreed_for_it() {
        let opus = Codec::ALL[1];
        let mut sender = Sender::starting_at(
            opus,
            Some(TelephoneEvents { payload_type: 110, clock_rate: 48_000, narrow: None }),
            7,
            0,
            0,
        );
        assert_eq!(ticks(&mut sender, "x")[0][0].0, 0);
        assert!(sender.dial('9', Duration::from_millis(40)));
        let mut out = [0; MAX_PACKET_BYTES];
        for duration in [960u16, 1920, 1920, 1920] {
            let length = sender.packet(&[0; FRAME_SAMPLES], false, &mut out);
            let view = PacketView::parse(&out[..length]).unwrap();
            assert_eq!(
                (view.payload_type, view.timestamp, &view.payload[2..]),
                (110, 960, &duration.to_be_bytes()[..])
            );
        }
        sender.renegotiate(Codec::Pcma, None);
        assert_eq!(ticks(&mut sender, "xx"), [[(5 * 960, 160)], [(5 * 960 + 160, 160)]]);
        assert_eq!(sender.figures().clock_rate, 8000);
    }

    #[test]
    fn a_digit_does_not_wait_for_a_packet_to_be_full_and_no_speech_is_lost_before_it() {
        let mut sender = Sender::starting_at(Codec::G722, Some(101.into()), 7, 0, 0);
        sender.set_ptime(Duration::from_millis(60));
        assert_eq!(ticks(&mut sender, "x"), [vec![]]);
        assert!(sender.dial('9', Duration::from_millis(20)));
        assert_eq!(ticks(&mut sender, "x"), [vec![(0, 160), (160, 4)]]);
    }
}
