//! What the test phone hears: every received packet put into its place in time, and labelled as silence, known clip or speech.
//!
//! All times are those of arrival at the socket. A frame counts as voiced by [`level::VOICED_DBFS`].

use std::sync::Arc;
use std::time::Instant;

use super::clips::{ClipRole, Frame, KnownClip, Label, Labeller};
use super::packets::{Arrival, Packets, Place};
use crate::pcm::telephone::{FRAME_SAMPLES as STEP, WIDER};
use crate::pcm::{FRAME_SAMPLES, PTIME, level};

/// Frames that a missing one is waited for before it counts as lost.
const REORDER: usize = 3;
/// A jump in the timestamp by more frames than this does not move the sound; the time of arrival says where it belongs.
const JUMP: i64 = 250;
/// Longest call that is listened to, in frames.
const LONGEST: usize = 50 * 3600;

/// One received packet.
#[derive(Debug, Clone, Copy)]
pub struct Packet<'a> {
    /// When the kernel received it.
    pub at: Instant,
    /// Sequence number.
    pub sequence: u16,
    /// RTP timestamp, 8 kHz clock.
    pub timestamp: u32,
    /// Synchronisation source.
    pub ssrc: u32,
    /// Its decoded sound.
    pub sound: &'a [i16],
}

/// One frame of what was heard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Heard {
    /// When it arrived; for a lost one, when it should have.
    pub at: Instant,
    /// What it is.
    pub label: Label,
}

/// What the script asks of the ear.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct BotSound {
    /// First voiced frame of anything.
    pub first: Option<Instant>,
    /// Last voiced frame of anything.
    pub last: Option<Instant>,
    /// First frame of speech that is no known clip, or of an apology: all the answer there will be.
    pub answer: Option<Instant>,
}

/// The ear.
#[derive(Debug)]
pub struct Ear {
    clips: Arc<[KnownClip]>,
    packets: Packets,
    labeller: Labeller,
    /// Timestamp of frame `anchor.1`.
    anchor: (u32, usize),
    /// Frames up to here are labelled.
    head: usize,
    arrived: Vec<Option<Instant>>,
    samples: Vec<i16>,
    labels: Vec<Label>,
    heard: Vec<Heard>,
    unusable: u64,
}

impl Ear {
    /// An ear that knows these clips and has room for so many frames before it must allocate.
    pub fn new(clips: Arc<[KnownClip]>, frames: usize) -> Self {
        Self {
            labeller: Labeller::new(clips.clone(), frames),
            clips,
            packets: Packets::default(),
            anchor: (0, 0),
            head: 0,
            arrived: Vec::with_capacity(frames),
            samples: Vec::with_capacity(frames * FRAME_SAMPLES),
            labels: Vec::with_capacity(frames),
            heard: Vec::with_capacity(frames),
            unusable: 0,
        }
    }

    /// Takes a packet, in the order of arrival.
    pub fn hear(&mut self, packet: Packet<'_>) {
        let frames = packet.sound.len() / FRAME_SAMPLES;
        if frames == 0 || !packet.sound.len().is_multiple_of(FRAME_SAMPLES) {
            self.unusable += 1;
            return;
        }
        let place = self.packets.take(Arrival {
            at: packet.at,
            sequence: packet.sequence,
            timestamp: packet.timestamp,
            ssrc: packet.ssrc,
            units: packet.sound.len() as u32 / WIDER as u32,
        });
        let slot = match place {
            Place::Duplicate => return,
            Place::Restarts => self.restart(packet),
            Place::Continues(_) => {
                let ticks = i64::from(packet.timestamp.wrapping_sub(self.anchor.0) as i32);
                let slot = self.anchor.1 as i64 + ticks.div_euclid(STEP as i64);
                if slot > self.arrived.len() as i64 + JUMP || slot < self.head as i64 - JUMP {
                    self.restart(packet)
                } else if slot < self.head as i64 {
                    return; // Too late: it was counted as reordered, and its place passed as lost.
                } else {
                    slot as usize
                }
            }
        };
        if slot + frames > LONGEST {
            self.unusable += 1;
            return;
        }
        if self.arrived.len() < slot + frames {
            self.arrived.resize(slot + frames, None);
            self.samples.resize((slot + frames) * FRAME_SAMPLES, 0);
        }
        // A new anchor now and then keeps the difference of timestamps far from its sign bit.
        self.anchor = if slot >= self.anchor.1 { (packet.timestamp, slot) } else { self.anchor };
        self.samples[slot * FRAME_SAMPLES..][..packet.sound.len()].copy_from_slice(packet.sound);
        self.arrived[slot..slot + frames].fill(Some(packet.at));
        while self.head < self.arrived.len()
            && (self.arrived[self.head].is_some() || self.arrived.len() - self.head > REORDER)
        {
            self.advance();
        }
    }

    /// Where a packet belongs whose numbers have nothing to do with those before: after them, as far as time has passed.
    fn restart(&mut self, packet: Packet<'_>) -> usize {
        let passed =
            match self.arrived.iter().rposition(Option::is_some).and_then(|n| self.arrived[n].map(|at| (n, at))) {
                None => 0,
                Some((n, last)) => {
                    let frames =
                        packet.at.saturating_duration_since(last).as_millis() as usize / PTIME.as_millis() as usize;
                    n + frames.max(1)
                }
            };
        let slot = passed.max(self.arrived.len());
        self.anchor = (packet.timestamp, slot);
        slot
    }

    fn advance(&mut self) {
        let n = self.head;
        let at = match (self.arrived[n], self.heard.last()) {
            (Some(at), _) => at,
            (None, Some(before)) => before.at + PTIME,
            (None, None) => return self.head += 1,
        };
        let sound = &self.samples[n * FRAME_SAMPLES..(n + 1) * FRAME_SAMPLES];
        let kind = match self.arrived[n] {
            None => Frame::Lost,
            Some(_) if level::rms_dbfs(sound) > level::VOICED_DBFS => Frame::Voiced,
            Some(_) => Frame::Unvoiced,
        };
        self.labels.push(Label::Pending);
        self.heard.push(Heard { at, label: Label::Pending });
        self.labeller.take(kind, &self.samples, &mut self.labels);
        self.head += 1;
        // Only the newest frames can change their label.
        let settled = self.labels.len().saturating_sub(32);
        for (heard, label) in self.heard[settled..].iter_mut().zip(&self.labels[settled..]) {
            heard.label = *label;
        }
    }

    /// Settles what is not decided yet: no more packets will come.
    pub fn finish(&mut self) {
        while self.head < self.arrived.len() {
            self.advance();
        }
        self.labeller.finish(&self.samples, &mut self.labels);
        for (heard, label) in self.heard.iter_mut().zip(&self.labels) {
            heard.label = *label;
        }
    }

    /// All frames heard, in the order of the sound.
    pub fn heard(&self) -> &[Heard] {
        &self.heard
    }

    /// Their samples, 320 each.
    pub fn samples(&self) -> &[i16] {
        &self.samples[..self.heard.len() * FRAME_SAMPLES]
    }

    /// The clips it knows.
    pub fn clips(&self) -> &[KnownClip] {
        &self.clips
    }

    /// The packets' figures.
    pub fn packets(&self) -> &Packets {
        &self.packets
    }

    /// Packets whose payload was no whole number of frames, or that came after the longest call.
    pub fn unusable(&self) -> u64 {
        self.unusable
    }

    /// The last voiced frame after `since` and before `until`.
    pub fn last_voiced(&self, since: Instant, until: Option<Instant>) -> Option<Instant> {
        let voiced = |heard: &&Heard| heard.label != Label::Silent && until.is_none_or(|until| heard.at < until);
        self.heard.iter().rev().find(voiced).map(|heard| heard.at).filter(|at| *at > since)
    }

    /// What the far side did after `since`.
    pub fn since(&self, since: Instant) -> BotSound {
        let mut sound = BotSound::default();
        for heard in self.heard.iter().rev().take_while(|heard| heard.at > since) {
            if heard.label == Label::Silent {
                continue;
            }
            sound.first = Some(heard.at);
            sound.last = sound.last.or(Some(heard.at));
            let is_answer = match heard.label {
                Label::Clip(clip) => self.clips[clip].role == ClipRole::Apology,
                label => label == Label::Speech,
            };
            if is_answer {
                sound.answer = Some(heard.at);
            }
        }
        sound
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::phone::testing::voice;

    struct Line {
        start: Instant,
        ear: Ear,
    }

    impl Line {
        fn new(clips: &[&[i16]]) -> Self {
            Self::knowing(ClipRole::Placeholder, clips)
        }

        fn knowing(role: ClipRole, clips: &[&[i16]]) -> Self {
            let clips: Vec<_> = clips.iter().map(|c| KnownClip::new("clip", role, c.to_vec()).unwrap()).collect();
            Self { start: Instant::now(), ear: Ear::new(clips.into(), 100) }
        }

        fn at(&self, n: usize) -> Instant {
            self.start + PTIME * n as u32
        }

        fn packet(&mut self, n: usize, sound: &[i16]) {
            let at = self.at(n);
            self.ear.hear(Packet {
                at,
                sequence: 65_500u16.wrapping_add(n as u16),
                timestamp: 0xffff_f000u32.wrapping_add(160 * n as u32),
                ssrc: 1,
                sound,
            });
        }

        fn labels(&self) -> Vec<Label> {
            self.ear.heard().iter().map(|heard| heard.label).collect()
        }
    }

    #[test]
    fn first_sound_and_answer_have_the_time_of_their_packets_over_the_wrap() {
        let (clip, answer) = (voice(1, 30), voice(2, 50));
        let mut line = Line::new(&[&clip]);
        let sound =
            [&vec![0; 100 * FRAME_SAMPLES][..], &clip, &[0; 5 * FRAME_SAMPLES], &answer, &[0; 20 * FRAME_SAMPLES]]
                .concat();
        for (n, frame) in sound.chunks(FRAME_SAMPLES).enumerate() {
            line.packet(n, frame);
        }
        let bot = line.ear.since(line.at(50));
        assert_eq!((bot.first, bot.answer, bot.last), (Some(line.at(100)), Some(line.at(135)), Some(line.at(184))));
        assert_eq!(line.ear.since(line.at(184)), BotSound::default());
    }

    #[test]
    fn an_apology_is_all_the_answer_there_will_be() {
        let clip = voice(1, 30);
        let mut line = Line::knowing(ClipRole::Apology, &[&clip]);
        for (n, frame) in clip.chunks(FRAME_SAMPLES).chain([&[0; FRAME_SAMPLES][..]; 20]).enumerate() {
            line.packet(n, frame);
        }
        let bot = line.ear.since(line.at(0) - PTIME);
        assert_eq!((bot.first, bot.answer), (Some(line.at(0)), Some(line.at(0))));
    }

    #[test]
    fn reordered_packets_do_not_hide_a_clip_and_a_lost_one_does_not_end_it() {
        let clip = voice(1, 40);
        let mut line = Line::new(&[&clip]);
        let frames: Vec<&[i16]> = clip.chunks(FRAME_SAMPLES).collect();
        for n in 0..40 {
            match n {
                10 => {}
                20 => line.packet(21, frames[21]),
                21 => line.packet(20, frames[20]),
                n => line.packet(n, frames[n]),
            }
        }
        line.ear.finish();
        let labels = line.labels();
        assert_eq!(labels.len(), 40);
        assert_eq!(labels[10], Label::Silent);
        assert_eq!(labels.iter().filter(|label| **label == Label::Clip(0)).count(), 39);
        let report = line.ear.packets().report();
        assert_eq!((report.lost, report.reordered), (1, 1));
    }

    #[test]
    fn a_clip_is_known_although_half_of_its_beginning_is_lost() {
        let clip = voice(1, 40);
        let mut line = Line::new(&[&clip]);
        for (n, frame) in clip.chunks(FRAME_SAMPLES).enumerate().filter(|(n, _)| ![1, 3, 4, 6].contains(n)) {
            line.packet(n, frame);
        }
        line.ear.finish();
        assert_eq!(line.labels().iter().filter(|label| **label == Label::Clip(0)).count(), 36);
    }

    #[test]
    fn a_new_source_goes_on_where_time_has_got_to() {
        let mut line = Line::new(&[]);
        for n in 0..10 {
            line.packet(n, &[0; FRAME_SAMPLES]);
        }
        for n in 0..10 {
            let at = line.at(20 + n);
            let packet = Packet {
                at,
                sequence: n as u16,
                timestamp: 5 + 160 * n as u32,
                ssrc: 99,
                sound: &[3000; FRAME_SAMPLES],
            };
            line.ear.hear(packet);
        }
        line.ear.finish();
        assert_eq!(line.ear.since(line.start).first, Some(line.at(20)));
        assert_eq!(line.labels().len(), 30);
    }

    #[test]
    fn payloads_of_other_lengths_and_wild_headers_are_survived() {
        let mut line = Line::new(&[&voice(1, 20)]);
        let mut random = fastrand::Rng::with_seed(3);
        for n in 0..5000 {
            let sound = vec![random.i16(..); [0, 1, 160, 320, 480, 640][random.usize(..6)]];
            let packet = Packet {
                at: line.at(n),
                sequence: if random.bool() { n as u16 } else { random.u16(..) },
                timestamp: if random.bool() { n as u32 * 160 } else { random.u32(..) },
                ssrc: random.u32(..2),
                sound: &sound,
            };
            line.ear.hear(packet);
        }
        line.ear.finish();
        assert!(line.ear.unusable() > 0);
    }
}
