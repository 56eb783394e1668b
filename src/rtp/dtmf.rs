//! Telephone events (RFC 4733): the digits a caller presses, in and out.
//!
//! ```text
//! |     event     |E|R| volume    |          duration             |
//! ```
//!
//! Only events 0–15. A long press in several segments (§2.5.1.3) is one digit; we send none so long. The marker bit is not
//! relied on, since gateways forget it.

use std::time::{Duration, Instant};

use crate::pcm::{self, Frame, PTIME, telephone, tone};

/// Without a further packet for so long the digit is over, even if its end was lost.
const END_BY_SILENCE: Duration = Duration::from_millis(120);
/// Longest duration that a segment can say.
const SEGMENT: u32 = 0xffff;
/// The digits in the order of their events.
pub(crate) const DIGITS: &[u8; 16] = b"0123456789*#ABCD";
const QUEUE: usize = 32;
/// Level of the digits sent, in −dBm0.
const VOLUME: u8 = 10;
/// Packets that carry the end of a digit (§2.5.1.4).
const END_PACKETS: u8 = 3;

/// A digit that was pressed and released.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Dtmf {
    /// One of `0`–`9`, `*`, `#`, `A`–`D`.
    pub digit: char,
    /// How long it was held.
    pub duration: Duration,
}

#[derive(Debug, Clone, Copy)]
struct Pressed {
    /// Of its last segment.
    timestamp: u32,
    event: u8,
    /// Of its last segment, and of those before it.
    duration: u16,
    before: u32,
    last: Instant,
    /// Already reported; the rest of its packets are repetitions.
    ended: bool,
}

/// Puts received telephone-event packets together to digits, each once. Allocates nothing.
#[derive(Debug)]
pub struct DtmfDetector {
    pressed: Option<Pressed>,
    digits: Queue<Dtmf>,
    clock_rate: u32,
}

impl Default for DtmfDetector {
    /// For the clock rate that all had before Opus.
    fn default() -> Self {
        Self::new(8000)
    }
}

impl DtmfDetector {
    /// Nothing is pressed; durations come in `clock_rate` units a second.
    pub fn new(clock_rate: u32) -> Self {
        Self { pressed: None, digits: Queue::default(), clock_rate }
    }

    /// Durations come in so many units a second from now on.
    pub fn set_clock_rate(&mut self, clock_rate: u32) {
        self.clock_rate = clock_rate;
    }

    /// Takes the payload of a telephone-event packet; false when it is malformed or no digit.
    pub fn handle_packet(&mut self, now: Instant, timestamp: u32, payload: &[u8]) -> bool {
        let Some(&[event, flags, high, low]) = payload.first_chunk::<4>() else { return false };
        if usize::from(event) >= DIGITS.len() {
            return false;
        }
        let duration = u16::from_be_bytes([high, low]);
        match &mut self.pressed {
            Some(pressed) if pressed.timestamp == timestamp && pressed.event == event => {
                pressed.duration = pressed.duration.max(duration);
                pressed.last = now;
            }
            // The next segment of a long press (§2.5.1.3): the one before was as long as can be said.
            Some(pressed)
                if pressed.event == event
                    && !pressed.ended
                    && recent(pressed, now)
                    && timestamp == pressed.timestamp.wrapping_add(SEGMENT) =>
            {
                pressed.before += SEGMENT;
                (pressed.timestamp, pressed.duration, pressed.last) = (timestamp, duration, now);
            }
            // A straggler of the digit before.
            Some(pressed) if (timestamp.wrapping_sub(pressed.timestamp) as i32) < 0 && recent(pressed, now) => {
                return true;
            }
            _ => {
                self.end();
                self.pressed = Some(Pressed { timestamp, event, duration, before: 0, last: now, ended: false });
            }
        }
        if flags & 0x80 != 0 {
            self.end();
        }
        true
    }

    /// Ends a digit whose end was lost.
    pub fn handle_timeout(&mut self, now: Instant) {
        if self.pressed.is_some_and(|pressed| !pressed.ended && !recent(&pressed, now)) {
            self.end();
        }
    }

    /// The next digit that is complete.
    pub fn poll(&mut self) -> Option<Dtmf> {
        self.digits.pop()
    }

    /// Forgets what was pressed but not released, for a new source.
    pub fn reset(&mut self) {
        self.end();
        self.pressed = None;
    }

    fn end(&mut self) {
        if let Some(pressed) = &mut self.pressed
            && !std::mem::replace(&mut pressed.ended, true)
        {
            let digit = char::from(DIGITS[usize::from(pressed.event)]);
            self.digits.push(Dtmf {
                digit,
                duration: pcm::duration_at(self.clock_rate, u64::from(pressed.before) + u64::from(pressed.duration)),
            });
        }
    }
}

fn recent(pressed: &Pressed, now: Instant) -> bool {
    now.saturating_duration_since(pressed.last) <= END_BY_SILENCE
}

/// Makes the payloads of telephone-event packets, one a tick, with a pause of two ticks between digits. Allocates nothing.
#[derive(Debug, Default)]
pub struct DtmfGenerator {
    waiting: Queue<(u8, Duration)>,
    sending: Option<Sending>,
    pause: u8,
}

#[derive(Debug, Clone, Copy)]
struct Sending {
    event: u8,
    timestamp: u32,
    duration: u16,
    until: u16,
    clock_rate: u32,
    ends_left: u8,
}

/// What one tick of a digit puts on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EventPacket {
    /// First packet of the digit.
    pub marker: bool,
    /// The timestamp of the digit's beginning.
    pub timestamp: u32,
    /// The four payload bytes.
    pub payload: [u8; 4],
}

impl EventPacket {
    /// The sound of the tick that is `since` samples of the telephone band behind the digit's beginning, for a peer that takes no telephone
    /// events: the digit's tone, and silence behind it. The digit was counted at 8000 units a second.
    pub fn tone(&self, since: u32) -> Frame {
        let [event, _, high, low] = self.payload;
        const SAMPLES: usize = telephone::WIDER as usize;
        let first = since as usize;
        let digit = char::from(DIGITS[usize::from(event) % DIGITS.len()]);
        tone::key_frame(digit, SAMPLES * first, SAMPLES * usize::from(u16::from_be_bytes([high, low])))
    }
}

impl DtmfGenerator {
    /// Queues a digit of `duration` (at least 20 ms, at most 8 s, and what can be counted on the clock); false when it is no digit or 32 of
    /// them wait already.
    pub fn dial(&mut self, digit: char, duration: Duration) -> bool {
        let Some(event) = DIGITS.iter().position(|&d| char::from(d) == digit.to_ascii_uppercase()) else {
            return false;
        };
        self.waiting.push((event as u8, duration.clamp(PTIME, Duration::from_secs(8))))
    }

    /// Whether digits wait or are being sent.
    pub fn is_busy(&self) -> bool {
        self.sending.is_some() || !self.waiting.is_empty()
    }

    /// What the tick with `timestamp` sends in place of speech, counted in `clock_rate` units a second; `None` when no digit is due.
    pub fn tick(&mut self, timestamp: u32, clock_rate: u32) -> Option<EventPacket> {
        let units = |time| pcm::samples_at(clock_rate, time).min(u64::from(u16::MAX)) as u16;
        let mut marker = false;
        if self.sending.is_none() {
            if self.pause > 0 {
                self.pause -= 1;
                return None;
            }
            let (event, duration) = self.waiting.pop()?;
            marker = true;
            let until = units(duration);
            self.sending = Some(Sending { event, timestamp, duration: 0, until, clock_rate, ends_left: END_PACKETS });
        }
        let sending = self.sending.as_mut()?;
        if sending.clock_rate != clock_rate {
            // Agreed anew while it is pressed.
            let same = |duration: u16| units(pcm::duration_at(sending.clock_rate, u64::from(duration)));
            (sending.duration, sending.until) = (same(sending.duration), same(sending.until));
            sending.clock_rate = clock_rate;
        }
        sending.duration = sending.duration.saturating_add(units(PTIME)).min(sending.until);
        let ended = sending.duration == sending.until;
        let [high, low] = sending.duration.to_be_bytes();
        let flags = if ended { 0x80 | VOLUME } else { VOLUME };
        let packet = EventPacket { marker, timestamp: sending.timestamp, payload: [sending.event, flags, high, low] };
        if ended {
            sending.ends_left -= 1;
            if sending.ends_left == 0 {
                self.sending = None;
                self.pause = 2;
            }
        }
        Some(packet)
    }
}

/// A bounded queue without allocation.
#[derive(Debug)]
struct Queue<T> {
    items: [Option<T>; QUEUE],
    first: usize,
    length: usize,
}

impl<T: Copy> Default for Queue<T> {
    fn default() -> Self {
        Self { items: [None; QUEUE], first: 0, length: 0 }
    }
}

impl<T: Copy> Queue<T> {
    /// Appends; false when the queue is full.
    fn push(&mut self, item: T) -> bool {
        let room = self.length < QUEUE;
        if room {
            self.items[(self.first + self.length) % QUEUE] = Some(item);
            self.length += 1;
        }
        room
    }

    fn pop(&mut self) -> Option<T> {
        if self.length == 0 {
            return None;
        }
        let item = self.items[self.first].take();
        self.first = (self.first + 1) % QUEUE;
        self.length -= 1;
        item
    }

    fn is_empty(&self) -> bool {
        self.length == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TICK: Duration = Duration::from_millis(20);

    fn payload(event: u8, end: bool, duration: u16) -> [u8; 4] {
        let [high, low] = duration.to_be_bytes();
        [event, if end { 0x8a } else { 10 }, high, low]
    }

    #[test]
    fn a_digit_is_reported_once_however_often_its_end_is_repeated() {
        let (mut detector, now) = (DtmfDetector::default(), Instant::now());
        for n in 1..=5u16 {
            assert!(detector.handle_packet(now + TICK * u32::from(n), 8000, &payload(5, false, n * 160)));
            assert_eq!(detector.poll(), None);
        }
        for _ in 0..3 {
            detector.handle_packet(now + TICK * 6, 8000, &payload(5, true, 960));
        }
        assert_eq!(detector.poll(), Some(Dtmf { digit: '5', duration: Duration::from_millis(120) }));
        assert_eq!(detector.poll(), None);
        detector.handle_timeout(now + Duration::from_secs(1));
        assert_eq!(detector.poll(), None);
    }

    #[test]
    fn a_digit_whose_end_was_lost_ends_by_silence_or_by_the_next_digit() {
        let (mut detector, now) = (DtmfDetector::default(), Instant::now());
        detector.handle_packet(now, 100, &payload(10, false, 160));
        detector.handle_timeout(now + Duration::from_millis(100));
        assert_eq!(detector.poll(), None);
        detector.handle_timeout(now + Duration::from_millis(130));
        assert_eq!(detector.poll().map(|d| d.digit), Some('*'));
        detector.handle_packet(now + TICK * 10, 2000, &payload(1, false, 160));
        detector.handle_packet(now + TICK * 12, 2400, &payload(1, false, 160));
        assert_eq!(detector.poll().map(|d| d.digit), Some('1'));
    }

    #[test]
    fn a_straggler_of_the_digit_before_is_no_new_digit() {
        let (mut detector, now) = (DtmfDetector::default(), Instant::now());
        detector.handle_packet(now, 100, &payload(1, true, 800));
        detector.handle_packet(now + TICK, 2000, &payload(2, false, 160));
        detector.handle_packet(now + TICK, 100, &payload(1, true, 800));
        detector.handle_packet(now + TICK * 2, 2000, &payload(2, true, 320));
        let digits: String = std::iter::from_fn(|| detector.poll()).map(|d| d.digit).collect();
        assert_eq!(digits, "12");
    }

    #[test]
    fn what_is_no_digit_is_refused() {
        let mut detector = DtmfDetector::default();
        assert!(!detector.handle_packet(Instant::now(), 0, &[1, 2, 3]));
        assert!(!detector.handle_packet(Instant::now(), 0, &payload(16, true, 800)));
        assert!(!DtmfGenerator::default().dial('x', TICK));
    }

    #[test]
    fn a_dialled_digit_keeps_its_timestamp_grows_and_ends_three_times() {
        let mut generator = DtmfGenerator::default();
        assert!(generator.dial('#', Duration::from_millis(60)));
        let packets: Vec<_> = (0..6u32).filter_map(|n| generator.tick(5000 + n * 160, 8000)).collect();
        assert!(packets.iter().all(|p| p.timestamp == 5000 && p.payload[0] == 11));
        let shape: Vec<_> = packets
            .iter()
            .map(|p| (p.marker, p.payload[1] >> 7, u16::from_be_bytes([p.payload[2], p.payload[3]])))
            .collect();
        assert_eq!(shape, [(true, 0, 160), (false, 0, 320), (false, 1, 480), (false, 1, 480), (false, 1, 480)]);
        assert!(!generator.is_busy());
    }

    #[test]
    fn what_is_dialled_is_detected_even_with_every_third_packet_lost() {
        let (mut generator, mut detector, mut now) =
            (DtmfGenerator::default(), DtmfDetector::default(), Instant::now());
        for digit in "0123456789*#abcd".chars() {
            assert!(generator.dial(digit, Duration::from_millis(100)));
        }
        let mut heard = String::new();
        for n in 0..300u32 {
            if let Some(packet) = generator.tick((u32::MAX - 4000).wrapping_add(n * 160), 8000).filter(|_| n % 3 != 0) {
                detector.handle_packet(now, packet.timestamp, &packet.payload);
            }
            detector.handle_timeout(now);
            heard.extend(detector.poll().map(|d| d.digit));
            now += TICK;
        }
        assert_eq!(heard, "0123456789*#ABCD");
    }
    #[test]
    fn a_long_press_in_segments_is_one_digit_as_long_as_all_of_them() {
        let (mut detector, start) = (DtmfDetector::new(48_000), Instant::now());
        for n in 1..=100u32 {
            let units = n * 960;
            let (segment, duration) = (units / SEGMENT, units % SEGMENT);
            let [high, low] = (duration as u16).to_be_bytes();
            let flags = if n == 100 { 0x80 } else { 0 };
            let payload = [5, flags, high, low];
            assert!(detector.handle_packet(start + PTIME * n, 7000 + segment * SEGMENT, &payload));
        }
        let pressed = detector.poll().unwrap();
        assert_eq!((pressed.digit, pressed.duration, detector.poll()), ('5', Duration::from_secs(2), None));
    }

    #[test]
    fn a_digit_goes_on_as_long_as_it_was_to_be_over_a_change_of_clock() {
        let mut generator = DtmfGenerator::default();
        assert!(generator.dial('5', Duration::from_millis(100)));
        let durations: Vec<u16> = (0..7u32)
            .filter_map(|n| generator.tick(0, if n < 2 { 8000 } else { 48_000 }))
            .map(|packet| u16::from_be_bytes([packet.payload[2], packet.payload[3]]))
            .collect();
        assert_eq!(durations, [160, 320, 2880, 3840, 4800, 4800, 4800]);
    }
}
