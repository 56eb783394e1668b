//! The jitter buffer: from packets at uneven times to an even stream of sound.
//!
//! ```text
//! insert ─► packets (by sequence) ─► decoder ─► strip of samples ─► pull
//!    └► arrivals (how late?) ─► target ─► regulate: a period more or less ┘
//! ```
//!
//! Packets are decoded in order into a strip of samples when they are due. Where they go wrong:
//!
//! * A packet that is missing while a later one is there is lost: the hole is bridged from both sides.
//! * A packet that is missing while nothing later is there is not known to be lost: the sound is continued and the position waits, so that
//!   the delay grows by exactly what the late packet needs; if a later packet comes, the wait is taken off the loss.
//! * A timestamp that jumps without a gap in the sequence is a new talkspurt: silence, not loss. So is what follows a comfort noise packet
//!   or a telephone event.
//! * After 60 ms without a packet the talkspurt is over; the next packet begins a new one, with the delay that is wanted then.
//!
//! **The delay.** What a packet's arrival exceeds the fastest one's by asks for a target (see the `arrivals` module). Sound is pulled in
//! frames, and a packet must be there when the frame with its first sample is pulled: delay that moves the packets' bounds away from the
//! frames' is of no use to anybody. So the delay is changed by what brings the bounds back onto the frames' and a whole number of steps,
//! where a step is the greatest common divisor of both. It grows at once when packets come too late, by playing periods again; it shrinks
//! when it has been too long for a while, by leaving periods out; any length will do in silence. On a clean line nothing is changed.
//!
//! Virtual time: the clock is an argument. Nothing is allocated after construction.

mod arrivals;
mod packets;
mod regulation;
mod strip;

use std::time::{Duration, Instant};

use self::arrivals::Arrivals;
use self::packets::{Kind, Packets, Place, Slot};
use self::strip::{Origin, Share, Sound, Strip};
use super::comfort_noise::ComfortNoise;
use super::conceal::{Concealment, FADED_MS};
use crate::codec::{Codec, Decoder};
use crate::pcm::level;

/// Longest payload that is taken, and sent: 60 ms at 64 kbit/s.
pub const MAX_PAYLOAD_BYTES: usize = 480;
/// Sound is never held back for longer than this.
pub const CAP: Duration = Duration::from_millis(200);

const CAP_US: i64 = CAP.as_micros() as i64;
/// The largest target: what is above it is left to chance, and the cap is out of reach of what is done to meet it.
const MOST_US: i64 = CAP_US - 40_000;
/// The largest payload's time, in µs: no packet lasts longer.
const LONGEST_PACKET_US: i64 = 120_000;
/// A hole that is no longer is bridged; after a longer one playout begins anew.
const BRIDGE_US: i64 = CAP_US;
/// A timestamp that is further off than this from when its packet came was set anew.
const IMPLAUSIBLE_US: i64 = 500_000;
/// Least delay beyond the fastest packet: ticks are not on time to the µs.
const LEAST_US: i64 = 3_000;
/// The delay may be so much longer than wanted before it is shortened.
const LONGER_US: i64 = 4_000;
/// The delay may be so much shorter than wanted before it is lengthened, in speech and in silence.
const SHORTER_US: (i64, i64) = (2_500, 1_000);
/// Less than this is not worth a change.
const WORTH_US: i64 = 5_000;
/// The delay must have been too long for so many pulls, in speech and in silence, before it is shortened.
const CALM: (u32, u32) = (100, 25);
/// Time presses when the delay is so much too long.
const PRESSING_US: i64 = 100_000;
/// Pulls between two such changes in speech.
const BETWEEN: u32 = 10;
/// A period of speech, which may be more than what is lacking, in µs.
const PERIOD_US: i64 = 10_000;
/// So much of what follows a hole helps to fill it, in µs.
const HELPFUL_US: i64 = 40_000;
/// The share of lost packets from which on it pays to wait for the packet behind a hole.
const LOSSY: f32 = 0.01;
/// Sound below this is quiet, whatever the background, and above this it never is, in dBFS.
const QUIET_DBFS: (f32, f32) = (-60.0, -42.0);
/// The background is measured at every so many pulls.
const LISTENS: u32 = 4;
/// It is so many dB louder at one measurement than the quietest before.
const BACKGROUND_RISE_DB: f32 = 0.12;
/// A background that is louder was no background, in dBFS.
const BACKGROUND_MOST_DBFS: f32 = -45.0;

/// What a pull yields.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FrameKind {
    /// Sound that was received.
    Speech,
    /// Sound that should have been received, made up.
    Concealed,
    /// No sound is due.
    Silence,
}

/// What a packet carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Content<'a> {
    /// Sound in this codec; an empty payload is the same as [`Self::Event`].
    Speech(Codec, &'a [u8]),
    /// Comfort noise (RFC 3389).
    ComfortNoise(&'a [u8]),
    /// No sound, and it says that none is due: a telephone event, a keepalive.
    Event,
}

/// What happened to the packets so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct JitterCounters {
    /// Packets offered.
    pub received: u64,
    /// Packets that did not come, not even late.
    pub lost: u64,
    /// Packets that came after their time had passed.
    pub late: u64,
    /// Packets that had already come.
    pub duplicate: u64,
    /// Packets that came after a later one but in time.
    pub reordered: u64,
    /// Packets dropped because more waited than may, and packets that could not be held: too long, of a codec of another rate, or none of their
    /// codec.
    pub overflow: u64,
    /// Frames most of which was made up.
    pub concealed: u64,
    /// Samples made up.
    pub concealed_samples: u64,
    /// Times the delay was lengthened by playing sound again.
    pub stretched: u64,
    /// Samples that this added.
    pub stretched_samples: u64,
    /// Times the delay was shortened by leaving sound out.
    pub shortened: u64,
    /// Samples that this took away.
    pub shortened_samples: u64,
    /// Times the sender's numbering jumped and playout began anew.
    pub restarts: u64,
}

/// The newest packet's timestamp, as sent and extended, and the units it lasts.
#[derive(Debug, Clone, Copy)]
struct Newest {
    sequence: u64,
    timestamp: u32,
    time: i64,
    units: u32,
}

/// The buffer of one source; see the module for its behaviour.
#[derive(Debug)]
pub struct JitterBuffer {
    rate: u32,
    clock_rate: u32,
    packets: Packets,
    arrivals: Arrivals,
    strip: Strip,
    decoder: Decoder,
    /// What was decoded last.
    codec: Codec,
    concealment: Concealment,
    noise: ComfortNoise,
    /// Time is counted from here.
    epoch: Option<Instant>,
    newest: Option<Newest>,
    playing: bool,
    /// The extended timestamp behind the last sample in the strip, while playing.
    position: i64,
    /// Units concealed without letting the position pass.
    waited: i64,
    /// Units concealed since the last packet.
    starved: i64,
    /// Position was let pass without a packet, which is late now if it comes.
    passed: bool,
    /// The sender said that it is silent.
    paused: bool,
    /// … and how loud its background is.
    told: bool,
    /// The delay never falls below this.
    least_us: i64,
    /// Pulls for which the delay was too long.
    calm: u32,
    /// Recent share of packets lost.
    loss: f32,
    /// Units of the last speech packet.
    ptime_units: u32,
    background_dbfs: f32,
    pulls: u32,
    /// The present delay of the fastest packet, for whoever asks.
    delay_us: i64,
    counters: JitterCounters,
    #[cfg(test)]
    received_samples: u64,
}

impl JitterBuffer {
    /// An empty buffer that makes `rate` samples a second of packets whose timestamps count `clock_rate` a second. `delay` is what the
    /// first packet is held back for at most, and less only where frames and network allow it.
    pub fn new(delay: Duration, rate: u32, clock_rate: u32) -> Self {
        Self {
            rate,
            clock_rate,
            packets: Packets::new(),
            arrivals: Arrivals::new(),
            strip: Strip::new(rate),
            decoder: Decoder::default(),
            codec: Codec::Pcmu,
            concealment: Concealment::new(rate),
            noise: ComfortNoise::new(rate),
            epoch: None,
            newest: None,
            playing: false,
            position: 0,
            waited: 0,
            starved: 0,
            passed: false,
            paused: false,
            told: false,
            least_us: (delay.as_micros() as i64 - 20_000).clamp(LEAST_US, MOST_US),
            calm: 0,
            loss: 0.0,
            ptime_units: 0,
            background_dbfs: 0.0,
            pulls: 0,
            delay_us: 0,
            counters: JitterCounters::default(),
            #[cfg(test)]
            received_samples: 0,
        }
    }

    /// Makes what it takes to play `codec`, which nothing is heard in otherwise. Allocates for Opus.
    pub fn prepare(&mut self, codec: Codec) {
        self.decoder.prepare(codec);
    }

    /// Timestamp units a second.
    pub fn clock_rate(&self) -> u32 {
        self.clock_rate
    }

    /// Timestamps count so many units a second from now on: forgets the source, not the counters.
    pub fn set_clock_rate(&mut self, clock_rate: u32) {
        self.reset();
        self.clock_rate = clock_rate;
    }

    /// What happened so far, in samples of the buffer.
    pub fn counters(&self) -> JitterCounters {
        self.counters
    }

    /// What happened so far, in samples at `rate`.
    pub fn counters_at(&self, rate: u32) -> JitterCounters {
        let at = |samples: u64| samples * u64::from(rate) / u64::from(self.rate);
        JitterCounters {
            concealed_samples: at(self.counters.concealed_samples),
            stretched_samples: at(self.counters.stretched_samples),
            shortened_samples: at(self.counters.shortened_samples),
            ..self.counters
        }
    }

    /// Speech that waits to be played.
    pub fn depth(&self) -> Duration {
        let samples = self.strip.len() as u64 * 1_000_000 / u64::from(self.rate);
        Duration::from_micros(samples + self.us(i64::from(self.packets.waiting_units())) as u64)
    }

    /// The delay that the network asks for at present: by so much later than the fastest packet one may come and still be heard.
    pub fn target(&self) -> Duration {
        Duration::from_micros(self.target_us() as u64)
    }

    /// The delay at the last pull: between the arrival of the fastest packet and its playing.
    pub fn delay(&self) -> Duration {
        Duration::from_micros(self.delay_us.max(0) as u64)
    }

    /// Forgets the source, not the counters: for a new SSRC.
    pub fn reset(&mut self) {
        self.packets.clear();
        self.decoder.reset();
        self.begin_anew();
    }

    /// Forgets the source and goes on with the counters of `before`; timestamps count `clock_rate` a second from now on.
    pub fn succeed(&mut self, before: &mut Self, clock_rate: u32) {
        self.set_clock_rate(clock_rate);
        self.counters = before.counters_at(self.rate);
        before.counters = JitterCounters::default();
    }

    /// Takes a packet. A sequence number far off is believed at once: whoever calls has had it confirmed.
    pub fn insert(&mut self, sequence: u16, timestamp: u32, content: Content<'_>, arrival: Instant) {
        self.counters.received += 1;
        let (kind, payload) = match content {
            Content::Speech(_, []) | Content::Event => (Kind::Event, &[][..]),
            Content::Speech(codec, payload) => (Kind::Speech(codec), payload),
            Content::ComfortNoise(payload) => (Kind::Noise, payload),
        };
        if matches!(kind, Kind::Speech(codec) if codec.rate() != self.rate) {
            self.counters.overflow += 1;
            return;
        }
        let units = match kind {
            Kind::Speech(codec) => Decoder::units(codec, payload),
            Kind::Noise | Kind::Event => 0,
        };
        let of_no_length = matches!(kind, Kind::Speech(_)) && units == 0;
        if payload.len() > MAX_PAYLOAD_BYTES || self.us(i64::from(units)) > LONGEST_PACKET_US || of_no_length {
            self.counters.overflow += 1;
            return;
        }
        let arrival_us = self.clock(arrival);
        let (extended, place) = self.packets.place(sequence, &mut self.counters);
        match place {
            Place::Duplicate => self.counters.duplicate += 1,
            Place::Late => {
                self.counters.late += 1;
                self.counters.lost = self.counters.lost.saturating_sub(1);
                if kind != Kind::Event {
                    let time = self.time_of(extended, timestamp, arrival_us);
                    let late_us = self.arrivals.packet(arrival_us - self.us(time), arrival_us);
                    self.arrivals.missed(late_us);
                }
            }
            Place::WaitsAlone | Place::Waits { .. } => {
                if place == Place::WaitsAlone {
                    self.begin_anew();
                }
                let time = self.time_of(extended, timestamp, arrival_us);
                let transit_us = arrival_us - self.us(time);
                if kind != Kind::Event {
                    let late_us = self.arrivals.packet(transit_us, arrival_us);
                    if self.playing && self.waited > 0 {
                        self.arrivals.missed(late_us);
                    }
                }
                if place == (Place::Waits { newest: false }) {
                    self.counters.reordered += 1;
                } else {
                    self.newest = Some(Newest { sequence: extended, timestamp, time, units });
                }
                self.packets.put(extended, time, units, transit_us, kind, payload);
            }
        }
    }

    /// Fills `out` with what comes next: one frame, always of the same length, at the pace at which they are played.
    pub fn pull(&mut self, now: Instant, out: &mut [i16]) -> FrameKind {
        let now_us = self.clock(now);
        if !self.playing && !self.start(now_us, out.len()) {
            return self.idle(out);
        }
        self.trim();
        self.fill(out.len());
        if !self.playing && self.strip.len() == 0 && self.start(now_us, out.len()) {
            self.fill(out.len());
        }
        if self.strip.len() >= out.len() {
            self.regulate(now_us, out.len());
        }
        if self.strip.len() < out.len() {
            self.starve(now_us, out.len());
        }
        let share = self.strip.pop(out);
        self.listen(out, share);
        let kind = if share.silence * 2 > out.len() {
            FrameKind::Silence
        } else if share.concealed * 2 >= out.len() {
            self.counters.concealed += 1;
            FrameKind::Concealed
        } else {
            FrameKind::Speech
        };
        #[cfg(test)]
        {
            self.received_samples += share.received as u64;
        }
        self.counters.concealed_samples += share.concealed as u64;
        if !self.playing {
            // The last frame of a talkspurt has gone with what was left of it.
            self.strip.clear();
        }
        kind
    }

    /// µs since the first thing that happened.
    fn clock(&mut self, at: Instant) -> i64 {
        let epoch = *self.epoch.get_or_insert(at);
        match at.checked_duration_since(epoch) {
            Some(since) => since.as_micros() as i64,
            None => -(epoch.duration_since(at).as_micros() as i64),
        }
    }

    fn us(&self, units: i64) -> i64 {
        units * 1_000_000 / i64::from(self.clock_rate)
    }

    fn units(&self, samples: usize) -> i64 {
        samples as i64 * i64::from(self.clock_rate) / i64::from(self.rate)
    }

    fn samples(&self, units: i64) -> usize {
        (units.max(0) * i64::from(self.rate) / i64::from(self.clock_rate)) as usize
    }

    fn samples_of_us(&self, us: i64) -> usize {
        (us.max(0) * i64::from(self.rate) / 1_000_000) as usize
    }

    fn us_of(&self, samples: usize) -> i64 {
        samples as i64 * 1_000_000 / i64::from(self.rate)
    }

    /// The timestamp, extended. One that cannot be true was set anew by the sender, and goes on from where its sequence says.
    fn time_of(&self, sequence: u64, timestamp: u32, arrival_us: i64) -> i64 {
        let Some(newest) = self.newest else { return i64::from(timestamp) };
        let time = newest.time + i64::from(timestamp.wrapping_sub(newest.timestamp) as i32);
        let ahead = sequence as i64 - newest.sequence as i64;
        let step = i64::from(if newest.units > 0 { newest.units } else { self.ptime_units });
        let expected = newest.time + ahead * step;
        let off_us = arrival_us - self.us(time) - self.arrivals.base_us().unwrap_or(arrival_us - self.us(time));
        if time != expected && ahead > 0 && off_us.abs() > IMPLAUSIBLE_US { expected } else { time }
    }

    fn target_us(&self) -> i64 {
        let wanted = self.arrivals.target_us(self.least_us);
        let wanted = if self.loss > LOSSY {
            // The packet behind a hole is there, then.
            wanted.max(self.us(i64::from(self.ptime_units)) + LEAST_US)
        } else {
            wanted
        };
        wanted.min(MOST_US)
    }

    /// The numbers from here on have nothing to do with those before. What was heard fades.
    fn begin_anew(&mut self) {
        self.newest = None;
        self.arrivals.rebase(None);
        if self.playing {
            self.concealment.begin(self.strip.before(self.strip.len()));
            self.strip.clear();
        }
        self.stop();
    }

    fn stop(&mut self) {
        self.playing = false;
        self.waited = 0;
        self.starved = 0;
        self.calm = 0;
    }

    /// The time by which frames' and packets' bounds can be moved against one another, and the frame's own, in µs.
    fn step_us(&self, frame: usize, units: u32) -> (i64, i64) {
        let (frame, packet) = (self.us_of(frame), self.us(i64::from(units)));
        (gcd(frame, packet.max(1)).max(1), frame)
    }

    /// Begins a talkspurt when its first packet has waited long enough.
    fn start(&mut self, now_us: i64, frame: usize) -> bool {
        let (time, units, transit_us) = loop {
            let Some(&Slot { sequence, time, units, transit_us, kind, .. }) = self.packets.head() else { return false };
            match kind {
                Kind::Speech(_) => break (time, units, transit_us),
                Kind::Noise => self.take_noise(sequence),
                Kind::Event => {}
            }
            self.finish(sequence);
        };
        let mut base = self.arrivals.base_us().unwrap_or(transit_us);
        if transit_us - base > CAP_US {
            // Its clock stood still while it was silent, or the network did: what was fast before says nothing.
            base = self.packets.fastest().unwrap_or(transit_us);
            self.arrivals.rebase(Some(base));
        }
        let (step, frame_us) = self.step_us(frame, units);
        let lacking = self.target_us() + frame_us - step - (now_us - base - self.us(time));
        // Where packets' bounds can lie within a frame, the first one may.
        let lead = if lacking > 0 { (lacking + step - 1) / step * step } else { 0 };
        if lead >= frame_us {
            return false;
        }
        self.position = time;
        self.ptime_units = units;
        self.playing = true;
        self.passed = false;
        self.paused = false;
        self.waited = 0;
        self.starved = 0;
        self.calm = 0;
        self.strip.clear();
        if !self.packets.fresh() {
            self.concealment.begin(self.strip.before(0));
        }
        if lead > 0 {
            self.be_silent(self.samples_of_us(lead));
        }
        true
    }

    /// Between talkspurts: comfort noise, if the line ever had any.
    fn idle(&mut self, out: &mut [i16]) -> FrameKind {
        self.noise.fill(out);
        self.concealment.fade_into(out);
        self.strip.played(out);
        FrameKind::Silence
    }

    fn take_noise(&mut self, sequence: u64) {
        if let Some(slot) = self.packets.waiting(sequence) {
            self.noise.handle_payload(slot.payload());
            self.told = true;
        }
    }

    fn finish(&mut self, sequence: u64) {
        let missing = self.packets.finish(sequence);
        self.counters.lost += missing;
        for _ in 0..=missing.min(20) {
            self.loss *= 0.99;
        }
        self.loss += 0.01 * missing.min(20) as f32;
    }

    /// Decodes packets until `need` samples wait, or none is due.
    fn fill(&mut self, need: usize) {
        while self.strip.len() < need {
            let Some(&Slot { sequence, time, units, kind, .. }) = self.packets.head() else { return };
            if self.strip.room() < self.samples(i64::from(units)) + need {
                return;
            }
            match kind {
                Kind::Noise | Kind::Event => {
                    if kind == Kind::Noise {
                        self.take_noise(sequence);
                    }
                    self.finish(sequence);
                    self.paused = true;
                }
                Kind::Speech(_) => {
                    let missing = sequence - self.packets.next();
                    let gap = time - self.position;
                    if self.passed && gap < 0 {
                        self.counters.late += 1;
                        self.finish(sequence);
                        continue;
                    }
                    if gap > 0 && (missing > 0 || self.paused || gap >= i64::from(units)) {
                        if self.us(gap) > BRIDGE_US {
                            return self.stop();
                        }
                        if missing > 0 && !self.paused && gap <= missing as i64 * i64::from(units.max(self.ptime_units))
                        {
                            self.bridge(gap, sequence, time);
                            continue;
                        }
                        // The sender was silent. What was concealed in the meantime is taken off.
                        self.position += std::mem::take(&mut self.waited).min(gap);
                        let silence = self.samples(time - self.position).min(need - self.strip.len());
                        self.be_silent(silence);
                        self.position += self.units(silence).max(1);
                        continue;
                    }
                    let begins = self.strip.ends_silent() && !self.packets.fresh();
                    if gap != 0 || begins || self.concealment.fading() {
                        // Timestamps set anew: what was sent last is right. Or sound begins where there was none.
                        self.concealment.begin(self.strip.before(0));
                    }
                    self.position = time;
                    let samples = self.decode(sequence);
                    self.concealment.fade_into(self.strip.tail_mut(samples));
                }
            }
        }
    }

    /// Decodes packets that follow without a gap until `need` samples wait; loses nothing that may still come.
    fn fetch(&mut self, need: usize) {
        while self.strip.len() < need {
            let Some(slot) = self.packets.waiting(self.packets.next()) else { return };
            let (sequence, samples) = (slot.sequence, self.samples(i64::from(slot.units)));
            if !matches!(slot.kind, Kind::Speech(_)) || slot.time != self.position || self.strip.room() < samples {
                return;
            }
            self.decode(sequence);
        }
    }

    /// Appends silence, or comfort noise.
    fn be_silent(&mut self, samples: usize) {
        self.concealment.fade_from(self.strip.before(0));
        let out = self.strip.push(samples, Origin::Silence);
        self.noise.fill(out);
        self.concealment.fade_into(out);
    }

    /// Appends the packet of this number, which waits; returns how many samples it was.
    fn decode(&mut self, sequence: u64) -> usize {
        let Some(slot) = self.packets.waiting(sequence) else { return 0 };
        let (units, Kind::Speech(codec)) = (slot.units, slot.kind) else { return 0 };
        let samples = self.samples(i64::from(units));
        // A packet of Opus that says nothing but its length: the sender is silent, and may send no more for a while.
        let pauses = matches!(codec, Codec::Opus(_)) && slot.payload().len() <= 2;
        let out = self.strip.push(samples, Origin::Received);
        let decoded = self.decoder.decode(codec, slot.payload(), out);
        let samples = out.len();
        if decoded < samples {
            // It looked like one of its codec and was none.
            if self.decoder.concealable(codec, samples) == Some(samples) {
                self.decoder.conceal(None, out);
            } else {
                out[decoded..].fill(0);
            }
            self.strip.made_up(samples);
        }
        self.codec = codec;
        self.position += i64::from(units);
        self.ptime_units = units;
        self.waited = 0;
        self.starved = 0;
        self.passed = false;
        self.paused = pauses;
        self.told = false;
        self.finish(sequence);
        samples
    }

    /// Fills the hole of `gap` units before the packet `sequence`, which begins at `time`, and decodes that packet.
    fn bridge(&mut self, gap: i64, sequence: u64, time: i64) {
        let hole = self.samples(gap - self.waited.min(gap));
        if let Some(filled) = self.decoder.concealable(self.codec, hole) {
            let next = self.packets.waiting(sequence).map(Slot::payload);
            let out = self.strip.push(filled, Origin::Concealed);
            self.decoder.conceal(next, out);
            self.position = time;
            self.decode(sequence);
            return;
        }
        let from = self.strip.before(0).len();
        self.concealment.begin(self.strip.before(0));
        self.strip.push(hole, Origin::Concealed).fill(0);
        self.position = time;
        self.decode(sequence);
        // The more is known of what follows, the better its period is.
        self.fetch(hole + self.samples_of_us(HELPFUL_US));
        self.concealment.bridge(self.strip.all_mut(), from, hole);
    }

    /// Nothing to play: the next packet is late, lost, or will not come.
    fn starve(&mut self, now_us: i64, need: usize) {
        let missing = need - self.strip.len();
        let head = self.position - self.units(self.strip.len());
        let patience = i64::from(self.clock_rate) * FADED_MS as i64 / 1000;
        if self.paused || !self.playing || self.starved >= patience {
            if !self.told {
                // The line goes on as it was when nobody spoke.
                let known = self.background_dbfs <= BACKGROUND_MOST_DBFS;
                self.noise.set_level(if known { 32768.0 * 10f32.powf(self.background_dbfs / 20.0) } else { 0.0 });
            }
            self.be_silent(missing);
            return self.stop();
        }
        let missing = match self.decoder.concealable(self.codec, missing) {
            Some(filled) => {
                let out = self.strip.push(filled, Origin::Concealed);
                self.decoder.conceal(None, out);
                out.len()
            }
            None => {
                self.concealment.begin(self.strip.before(0));
                let out = self.strip.push(missing, Origin::Concealed);
                self.concealment.extend(out);
                missing
            }
        };
        self.calm = 0;
        if self.arrivals.base_us().is_some_and(|base_us| now_us - base_us - self.us(head) >= CAP_US) {
            // There is no waiting for what is so late.
            self.position += self.units(missing);
            self.passed = true;
        } else {
            self.waited += self.units(missing);
        }
        self.starved += self.units(missing);
    }

    /// Follows the background of what is heard.
    fn listen(&mut self, out: &[i16], share: Share) {
        self.pulls = self.pulls.wrapping_add(1);
        if share.received < out.len() || !self.pulls.is_multiple_of(LISTENS) {
            return;
        }
        self.background_dbfs = level::rms_dbfs(out).min(self.background_dbfs + BACKGROUND_RISE_DB);
    }
}

fn gcd(mut a: i64, mut b: i64) -> i64 {
    while b != 0 {
        (a, b) = (b, a % b);
    }
    a
}

#[cfg(test)]
mod tests;
