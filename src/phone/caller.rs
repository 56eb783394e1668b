//! One caller on the line, without sockets or clock: what it sends every 20 ms, what it makes of what comes back.

use std::sync::Arc;
use std::time::{Instant, SystemTime};

use hdrhistogram::Histogram;

use super::clips::KnownClip;
use super::comparison::{EchoReport, compare};
use super::ear::{Ear, Packet};
use super::mouth::{Sent, Utterance};
use super::rtcp::{Rtcp, Told};
use super::script::{Script, ScriptOptions, Step};
use super::trial::Trial;
use super::turn::Spoken;
use crate::codec::{Codec, Encoder, HouseDecoder, TelephoneEvents};
use crate::leg::buffering::Buffering;
use crate::pcm::{FRAME_SAMPLES, PTIME, SILENCE, samples_at, samples_in, telephone, tone};
use crate::rtp::dtmf::{DIGITS, Dtmf, DtmfDetector};
use crate::rtp::packet::{HEADER_BYTES, PacketView, write_packet};
use crate::rtp::sender::SenderFigures;

/// Frames there is room for before the ear must allocate: five minutes.
const ROOM: usize = 15_000;
/// Power of a telephone event in −dBm0 (RFC 4733 §2.3.3).
const EVENT_VOLUME: u8 = 10;
/// The last packet of a telephone event is sent so often (RFC 4733 §2.5.1.4).
const EVENT_ENDS: usize = 3;
/// Longest payload that is sent: a tick at 64 kbit/s.
const LONGEST_PAYLOAD: usize = telephone::FRAME_SAMPLES;
/// Most samples of a packet that are looked at: 120 ms.
const LONGEST_SAMPLES: usize = 6 * FRAME_SAMPLES;

/// What was agreed about the sound.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Agreed {
    /// How sound is encoded, both ways.
    pub codec: Codec,
    /// Telephone events; `None` when the other side takes none.
    pub events: Option<TelephoneEvents>,
}

/// A caller in a call.
#[derive(Debug)]
pub struct Caller {
    agreed: Agreed,
    encoder: Encoder,
    decoder: HouseDecoder,
    utterances: Arc<[Utterance]>,
    script: Script,
    saying: Option<(usize, usize)>,
    current: Option<Spoken>,
    paused: Option<Instant>,
    spoken: Vec<Spoken>,
    ear: Ear,
    keypad: DtmfDetector,
    keys: Vec<Dtmf>,
    said: Vec<i16>,
    answered: Instant,
    first_sent: Option<Instant>,
    sequence: u16,
    timestamp: u32,
    ssrc: u32,
    sent: u64,
    unusable: u64,
    late: Histogram<u64>,
    /// How far the time between two packets is from a ptime, in microseconds.
    interval: Histogram<u64>,
    left: Option<Instant>,
    octets: u32,
    rtcp: Rtcp,
    trial: Trial,
    /// The first timestamp that came.
    first_heard: Option<u32>,
}

/// What is left of a caller when the call is over.
#[derive(Debug)]
pub struct Talked {
    /// What was heard.
    pub ear: Ear,
    /// The keys that the other side pressed, as telephone events.
    pub keys: Vec<Dtmf>,
    /// What was said, by its times; one entry for each turn that was said to its end.
    pub spoken: Vec<Spoken>,
    /// The call's answer.
    pub answered: Instant,
    /// When the media stopped.
    pub ended: Instant,
    /// The samples sent, from `first_sent` on.
    pub said: Vec<i16>,
    /// When the first packet left.
    pub first_sent: Option<Instant>,
    /// Packets sent.
    pub sent: u64,
    /// Datagrams that were no RTP of the agreed codec.
    pub unusable: u64,
    /// How late packets left, in microseconds.
    pub late: Histogram<u64>,
    /// How far the time between two of them was from a ptime, in microseconds.
    pub interval: Histogram<u64>,
    /// What RTCP told.
    pub told: Told,
    /// What a jitter buffer made of what came.
    pub buffering: Option<Buffering>,
}

impl Caller {
    /// A caller whose call was answered at `now`.
    pub fn new(
        now: Instant,
        agreed: Agreed,
        utterances: Arc<[Utterance]>,
        clips: Arc<[KnownClip]>,
        script: ScriptOptions,
    ) -> Self {
        Self {
            trial: Trial::new(agreed.codec),
            agreed,
            encoder: Encoder::new(agreed.codec),
            decoder: HouseDecoder::new(agreed.codec),
            script: Script::new(now, ScriptOptions { turns: utterances.len(), ..script }),
            saying: None,
            current: None,
            paused: None,
            spoken: Vec::with_capacity(utterances.len()),
            utterances,
            ear: Ear::new(clips, ROOM),
            keypad: agreed.events.map_or_else(DtmfDetector::default, |events| DtmfDetector::new(events.clock_rate)),
            keys: Vec::new(),
            said: Vec::with_capacity(ROOM * FRAME_SAMPLES),
            answered: now,
            first_sent: None,
            sequence: fastrand::u16(..1 << 15),
            timestamp: fastrand::u32(..),
            ssrc: fastrand::u32(..),
            sent: 0,
            unusable: 0,
            late: Histogram::new_with_bounds(1, 60_000_000, 3).expect("these bounds are valid"),
            interval: Histogram::new_with_bounds(1, 60_000_000, 3).expect("these bounds are valid"),
            left: None,
            octets: 0,
            rtcp: Rtcp::new(now, agreed.codec.clock_rate()),
            first_heard: None,
        }
    }

    /// The report of RTCP that is due at `now`, which is `wall`.
    pub fn rtcp_report(&mut self, now: Instant, wall: SystemTime) -> Option<Vec<u8>> {
        let figures = SenderFigures {
            ssrc: self.ssrc,
            packets: self.sent as u32,
            octets: self.octets,
            timestamp: self.timestamp,
            clock_rate: self.agreed.codec.clock_rate(),
        };
        self.rtcp.report(now, wall, &figures)
    }

    /// Takes RTCP that the kernel received at `at`, which was `wall`.
    pub fn receive_rtcp(&mut self, at: Instant, wall: SystemTime, datagram: &[u8]) {
        if !self.rtcp.handle_datagram(at, wall, self.ssrc, datagram) {
            self.unusable += 1;
        }
    }

    /// Sends what is due at `due`; `now` is read just before.
    pub fn tick(&mut self, due: Instant, now: Instant, mut send: impl FnMut(&[u8])) {
        self.trial.tick(now);
        self.late.saturating_record((now.saturating_duration_since(due).as_micros() as u64).max(1));
        self.first_sent.get_or_insert(now);
        if let Some(left) = self.left.replace(now) {
            let off = now.saturating_duration_since(left).abs_diff(PTIME).as_micros() as u64;
            self.interval.saturating_record(off.max(1));
        }
        let mut frame = SILENCE;
        let mut event = None;
        let mut starts = false;
        if let Some((turn, n)) = self.saying {
            let utterance = &self.utterances[turn];
            match utterance.at(n) {
                Some(Sent::Sound(sound)) => frame = *sound,
                Some(Sent::Event(code, pressed, end)) => event = Some((code, pressed, end)),
                None => {}
            }
            starts = n == utterance.first;
            if starts {
                self.current = Some(Spoken { started: now, stopped: now, pauses: Vec::new() });
            }
            if utterance.pauses.iter().any(|(before, _)| *before == n) {
                self.paused = Some(now);
            }
            if let Some(spoken) = &mut self.current
                && utterance.pauses.iter().any(|(_, after)| *after == n)
            {
                spoken.pauses.extend(self.paused.take().map(|paused| (paused, now)));
            }
            if n == utterance.last
                && let Some(mut spoken) = self.current.take()
            {
                spoken.stopped = now;
                self.spoken.push(spoken);
                self.script.handle_spoken(now);
            }
            self.saying = (n + 1 < utterance.len()).then_some((turn, n + 1));
        }
        match (event, self.agreed.events) {
            (Some(event), Some(events)) => self.send_event(event, events, send),
            (event, _) => {
                if let Some((code, pressed, _)) = event {
                    let key = char::from(DIGITS[usize::from(code) % DIGITS.len()]);
                    frame = tone::key_frame(key, (pressed - 1) * FRAME_SAMPLES, pressed * FRAME_SAMPLES);
                }
                let mut payload = [0; LONGEST_PAYLOAD];
                let length = self.encoder.encode(self.agreed.codec, &frame, &mut payload);
                let packet = PacketView {
                    marker: starts,
                    payload_type: self.agreed.codec.payload_type(),
                    sequence: self.sequence,
                    timestamp: self.timestamp,
                    ssrc: self.ssrc,
                    payload: &payload[..length],
                };
                self.octets = self.octets.wrapping_add(length as u32);
                let mut buffer = [0; HEADER_BYTES + LONGEST_PAYLOAD];
                let length = write_packet(&mut buffer, &packet);
                send(&buffer[..length]);
                self.sequence = self.sequence.wrapping_add(1);
                self.sent += 1;
            }
        }
        self.timestamp = self.timestamp.wrapping_add(self.agreed.codec.units(PTIME));
        self.said.extend_from_slice(&frame);
    }

    fn send_event(
        &mut self,
        (code, pressed, end): (u8, usize, bool),
        events: TelephoneEvents,
        mut send: impl FnMut(&[u8]),
    ) {
        let before = (pressed as u32 - 1) * self.agreed.codec.units(PTIME);
        let duration = samples_at(events.clock_rate, PTIME * pressed as u32).min(u64::from(u16::MAX)) as u16;
        let duration = duration.to_be_bytes();
        let payload = [code, u8::from(end) << 7 | EVENT_VOLUME, duration[0], duration[1]];
        for _ in 0..if end { EVENT_ENDS } else { 1 } {
            let packet = PacketView {
                marker: pressed == 1,
                payload_type: events.payload_type,
                sequence: self.sequence,
                timestamp: self.timestamp.wrapping_sub(before),
                ssrc: self.ssrc,
                payload: &payload,
            };
            let mut buffer = [0; HEADER_BYTES + 4];
            let length = write_packet(&mut buffer, &packet);
            send(&buffer[..length]);
            self.sequence = self.sequence.wrapping_add(1);
            self.sent += 1;
        }
    }

    /// The timestamp as if 8000 were a second, as the ear counts.
    fn in_telephone_band(&mut self, timestamp: u32) -> u32 {
        let faster = (self.agreed.codec.clock_rate() / telephone::RATE) as i32;
        let first = *self.first_heard.get_or_insert(timestamp);
        (timestamp.wrapping_sub(first) as i32).div_euclid(faster) as u32
    }

    /// Takes a datagram that the kernel received at `at`.
    pub fn receive(&mut self, at: Instant, datagram: &[u8]) {
        match PacketView::parse(datagram) {
            Ok(packet) if packet.payload_type == self.agreed.codec.payload_type() => {
                let mut sound = [0; LONGEST_SAMPLES];
                let length = self.decoder.decode(self.agreed.codec, packet.payload, &mut sound);
                let PacketView { sequence, timestamp, ssrc, .. } = packet;
                self.rtcp.packet(ssrc, sequence, timestamp, at);
                self.trial.packet(ssrc, sequence, timestamp, packet.payload, at);
                let timestamp = self.in_telephone_band(timestamp);
                self.ear.hear(Packet { at, sequence, timestamp, ssrc, sound: &sound[..length] });
            }
            Ok(packet) if self.agreed.events.is_some_and(|events| events.payload_type == packet.payload_type) => {
                let known = self.keypad.handle_packet(at, packet.timestamp, packet.payload);
                self.unusable += u64::from(!known);
                self.keys.extend(std::iter::from_fn(|| self.keypad.poll()));
            }
            _ => self.unusable += 1,
        }
    }

    /// A datagram came from elsewhere, or is not authentic.
    pub fn unusable(&mut self) {
        self.unusable += 1;
    }

    /// Thinks about what was heard; false when the caller hangs up.
    pub fn stay(&mut self, now: Instant) -> bool {
        match self.script.poll(now, self.ear.since(self.script.since())) {
            Some(Step::Say(turn)) => {
                self.saying = Some((turn, 0));
                true
            }
            Some(Step::HangUp) => false,
            None => true,
        }
    }

    /// The call is over.
    pub fn finish(mut self, now: Instant) -> Talked {
        self.ear.finish();
        self.keypad.reset();
        self.keys.extend(std::iter::from_fn(|| self.keypad.poll()));
        Talked {
            unusable: self.unusable + self.ear.unusable(),
            ear: self.ear,
            keys: self.keys,
            spoken: self.spoken,
            answered: self.answered,
            ended: now,
            said: self.said,
            first_sent: self.first_sent,
            sent: self.sent,
            late: self.late,
            interval: self.interval,
            told: self.rtcp.told(),
            buffering: self.trial.buffering(),
        }
    }
}

impl Talked {
    /// What was said against what came back of it.
    pub fn echo(&self) -> Option<EchoReport> {
        let arrived: Vec<Instant> = self.ear.heard().iter().map(|heard| heard.at).collect();
        compare(&self.said, self.first_sent?, self.ear.samples(), &arrived)
    }

    /// Both sides as the socket saw them: stereo, left the caller, right the far side, interleaved, 16 kHz.
    pub fn recording(&self) -> Vec<i16> {
        let at = |when: Option<Instant>| {
            let offset = when.map_or(0, |when| samples_in(when.saturating_duration_since(self.answered)));
            (offset as usize).min(self.said.len() + ROOM * FRAME_SAMPLES)
        };
        let said_at = at(self.first_sent);
        let heard_at = at(self.ear.heard().first().map(|heard| heard.at));
        let heard = self.ear.samples();
        let length = (said_at + self.said.len()).max(heard_at + heard.len());
        let mut both = vec![0; 2 * length];
        for (n, sample) in self.said.iter().enumerate() {
            both[2 * (said_at + n)] = *sample;
        }
        for (n, sample) in heard.iter().enumerate() {
            both[2 * (heard_at + n) + 1] = *sample;
        }
        both
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::pcm::tone;
    use crate::phone::clips::ClipRole;
    use crate::phone::mouth::Turn;
    use crate::phone::testing::voice;
    use crate::phone::turn::measure;

    const AGREED: Agreed = Agreed {
        codec: Codec::Pcmu,
        events: Some(TelephoneEvents { payload_type: 101, clock_rate: 8000, narrow: None }),
    };

    /// Answers each packet by a function of how many frames the caller has been silent after speaking.
    fn call(turns: Vec<Utterance>, mut bot: impl FnMut(u32, &PacketView<'_>) -> Option<Vec<i16>>) -> (Instant, Talked) {
        let clip = KnownClip::new("wait", ClipRole::Placeholder, voice(1, 30)).unwrap();
        let (start, mut encoder) = (Instant::now(), Encoder::new(Codec::Pcmu));
        let mut caller = Caller::new(start, AGREED, turns.into(), [clip].into_iter().collect(), Default::default());
        for n in 0..10_000u32 {
            let due = start + PTIME * n;
            let mut back = Vec::new();
            caller.tick(due, due, |datagram| back.push(bot(n, &PacketView::parse(datagram).unwrap())));
            for sound in back.into_iter().flatten() {
                let mut payload = [0; 160];
                encoder.encode(Codec::Pcmu, &sound, &mut payload);
                let mut buffer = [0; 200];
                let packet = PacketView {
                    marker: false,
                    payload_type: 0,
                    sequence: n as u16,
                    timestamp: n * 160,
                    ssrc: 9,
                    payload: &payload,
                };
                let length = write_packet(&mut buffer, &packet);
                caller.receive(due + Duration::from_millis(1), &buffer[..length]);
            }
            if !caller.stay(due + Duration::from_millis(2)) {
                return (start, caller.finish(due));
            }
        }
        panic!("the caller never hung up");
    }

    #[test]
    fn a_whole_call_is_measured_in_virtual_time() {
        let question = Utterance::from_sound(&tone::sine(400.0, -12.0, crate::pcm::RATE as usize), "tone").unwrap();
        let (clip, answer) = (voice(1, 30), voice(2, 60));
        let reply = [
            &vec![0; 19 * FRAME_SAMPLES][..],
            &clip,
            &[0; 5 * FRAME_SAMPLES],
            &answer,
            &vec![0; 2 * crate::pcm::RATE as usize],
        ]
        .concat();
        let reply: Vec<Vec<i16>> = reply.chunks(FRAME_SAMPLES).map(<[i16]>::to_vec).collect();
        let (mut spoke, mut at) = (false, 0);
        let (start, talked) = call(vec![question.clone(), question], |_, packet| {
            // The filter's end reaches into the packet behind the last one of the tone.
            let loud = packet.payload.iter().any(|byte| *byte != crate::codec::g711::Law::Mu.silence());
            (spoke, at) = if loud { (true, 0) } else { (spoke, at + 1) };
            Some(if spoke && !loud { reply[at - 1].clone() } else { vec![0; FRAME_SAMPLES] })
        });
        assert_eq!(talked.spoken.len(), 2);
        for (n, spoken) in talked.spoken.iter().enumerate() {
            let until = talked.spoken.get(n + 1).map(|next| next.started);
            let turn = measure(n + 1, spoken, until, &talked.ear);
            assert_eq!(turn.spoken_ms, 980.0);
            assert_eq!((turn.first_sound_ms, turn.answer_start_ms), (Some(421.0), Some(1121.0)));
            assert_eq!(turn.placeholder.as_deref(), Some("wait"));
        }
        assert!(talked.spoken[0].started >= start + Duration::from_secs(2));
        let both = talked.recording();
        let loud = |side: usize| both.iter().skip(side).step_by(2).position(|s| s.unsigned_abs() > 1000).unwrap();
        let ms = |instant: Instant| (instant - start).as_millis() as usize;
        assert!((loud(0) / 16).abs_diff(ms(talked.spoken[0].started)) < 2);
        assert!((loud(1) / 16).abs_diff(ms(talked.spoken[0].stopped) + 421) < 6);
    }

    #[test]
    fn a_key_is_a_telephone_event_with_three_ends() {
        let keys = Utterance::prepare(&Turn::Dtmf("5".into()), "en").unwrap();
        let mut events = Vec::new();
        let (_, talked) = call(vec![keys], |_, packet| {
            if packet.payload_type == 101 {
                events.push((packet.marker, packet.timestamp, packet.payload.to_vec()));
            }
            None
        });
        assert_eq!(events.len(), 7);
        assert!(events.iter().all(|event| event.1 == events[0].1 && event.2[0] == 5));
        assert_eq!(events.iter().filter(|event| event.2[1] & 0x80 != 0).count(), 3);
        assert_eq!((events[0].0, events[6].2[2..].to_vec()), (true, vec![3, 32]));
        assert_eq!(talked.spoken.len(), 1);
    }

    #[test]
    fn hostile_datagrams_are_counted() {
        let start = Instant::now();
        let mut caller = Caller::new(start, AGREED, [].into(), [].into(), Default::default());
        let mut random = fastrand::Rng::with_seed(5);
        for n in 0..5000 {
            let length = random.usize(..1500);
            let bytes: Vec<u8> = (0..length).map(|_| random.u8(..)).collect();
            caller.receive(start + Duration::from_millis(n), &bytes);
        }
        assert!(caller.finish(start).unusable > 4000);
    }
}
