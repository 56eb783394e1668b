//! Tells clips that are known beforehand (placeholder, apology, greeting) from speech, by normalised correlation.
//!
//! Every sound that begins after silence is compared with the beginning of each known clip. While it follows a clip it is that
//! clip; from the frame on where it leaves it, it is judged anew. Everything that is no known clip is speech. A narrow call leaves little of
//! what hisses, so a clip is known by its whole band and by the telephone's.

use crate::pcm::half_band::{Doubler, Halver};
use crate::pcm::{FRAME_SAMPLES, level};

/// What a known clip is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClipRole {
    /// Bridges the wait for an answer.
    Placeholder,
    /// Says that there is no answer.
    Apology,
}

/// A clip that the far side may play.
#[derive(Debug, Clone)]
pub struct KnownClip {
    /// Its name in the report.
    pub name: String,
    /// What it is for.
    pub role: ClipRole,
    /// Its sound, 16 kHz mono.
    samples: Vec<i16>,
    /// What a telephone leaves of it, likewise.
    narrow: Vec<i16>,
    /// Where its first voiced frame begins.
    onset: usize,
}

impl KnownClip {
    /// A clip by its sound (16 kHz mono); `None` when nothing in it is voiced.
    pub fn new(name: impl Into<String>, role: ClipRole, samples: Vec<i16>) -> Option<Self> {
        let frame = samples.chunks(FRAME_SAMPLES).position(|frame| level::rms_dbfs(frame) > level::VOICED_DBFS)?;
        let narrow = narrow(&samples);
        Some(Self { name: name.into(), role, samples, narrow, onset: frame * FRAME_SAMPLES })
    }
}

/// What the leg of a narrow call makes of a sound, without the delay.
fn narrow(samples: &[i16]) -> Vec<i16> {
    let mut sound = samples.to_vec();
    sound.resize((samples.len() + DELAY).next_multiple_of(2), 0);
    let mut halved = vec![0; sound.len() / 2];
    Halver::default().halve(&sound, &mut halved);
    Doubler::default().double(&halved, &mut sound);
    sound[DELAY..DELAY + samples.len()].to_vec()
}

/// What a frame from the far side is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Label {
    /// Below [`level::VOICED_DBFS`], or lost.
    Silent,
    /// Voiced, not yet decided.
    Pending,
    /// Belongs to the known clip of this number.
    Clip(usize),
    /// Voiced, and no known clip.
    Speech,
}

/// Frames of a new sound that are compared at most, and again when these do not match.
const WINDOWS: [usize; 2] = [8, 4];
/// A sound that is shorter is not compared: too many things look alike.
const SHORTEST: usize = 3;
/// A sound that ends sooner than the shorter window is compared without its last frame, which may hold the ramp of a clip that is cut
/// off, if so much is left of it.
const SHORTEST_CUT: usize = 2;
/// So little must be more alike.
const SAME_CUT: f32 = 0.96;
/// A sound that passes into another without a pause before so many frames only began like the clip: a synthetic voice says the
/// same words the same way.
const BEGINS_ALIKE: usize = 15;
/// Silent frames after which the next sound is a new one.
const QUIET: usize = 5;
/// Where a clip may begin in relation to the frame in which its voice is first heard, in samples.
const LAG: isize = 480;
/// By so many samples a sound is late that was halved and doubled.
const DELAY: usize = 54;
/// From here on two sounds are the same.
const SAME: f32 = 0.9;
/// Below this a single frame has left the clip; lower, because a frame may hold the mixer's ramp.
const FRAME_SAME: f32 = 0.7;
/// Only every so many samples are looked at when lags are searched.
const STRIDE: usize = 8;

#[derive(Debug, Clone, Copy)]
enum State {
    Quiet,
    Onset {
        from: usize,
    },
    /// Follows a clip since frame `from`; `origin` is the sample at which the clip began.
    Following {
        clip: usize,
        from: usize,
        origin: isize,
        missed: usize,
    },
    Speech {
        silent: usize,
    },
}

/// One received frame as the labeller sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Frame {
    /// Louder than the threshold.
    Voiced,
    /// Not louder.
    Unvoiced,
    /// Never arrived.
    Lost,
}

/// Labels frames as they come; a label of [`Label::Pending`] is settled within 160 ms.
#[derive(Debug)]
pub struct Labeller {
    clips: std::sync::Arc<[KnownClip]>,
    state: State,
    kinds: Vec<Frame>,
}

impl Labeller {
    /// A labeller that knows these clips and has room for so many frames.
    pub fn new(clips: std::sync::Arc<[KnownClip]>, frames: usize) -> Self {
        Self { clips, state: State::Quiet, kinds: Vec::with_capacity(frames) }
    }

    /// Takes the next frame, which is the last one in `labels`; `heard` are all samples so far.
    pub fn take(&mut self, kind: Frame, heard: &[i16], labels: &mut [Label]) {
        let n = self.kinds.len();
        self.kinds.push(kind);
        self.step(n, heard, labels);
    }

    /// Settles what is pending with what there is.
    pub fn finish(&mut self, heard: &[i16], labels: &mut [Label]) {
        for _ in 0..self.kinds.len() {
            match self.state {
                State::Onset { from } => self.decide(from, self.kinds.len(), heard, labels),
                // A frame that had missed the clip once, at the very end.
                State::Following { missed: 1, .. } => {
                    let last = self.kinds.len() - 1;
                    self.state = State::Quiet;
                    self.step(last, heard, labels);
                }
                _ => return,
            }
        }
    }

    fn step(&mut self, n: usize, heard: &[i16], labels: &mut [Label]) {
        let voiced = self.kinds[n] == Frame::Voiced;
        labels[n] = if voiced { Label::Pending } else { Label::Silent };
        match self.state {
            State::Quiet if voiced => {
                self.state = State::Onset { from: n };
            }
            State::Quiet => {}
            State::Onset { from } => {
                let silent = self.kinds[from..=n].iter().rev().take_while(|kind| **kind != Frame::Voiced).count();
                if n + 1 - from >= WINDOWS[0] || silent >= SHORTEST {
                    self.decide(from, n + 1, heard, labels);
                }
            }
            State::Following { clip, from, origin, missed } => {
                let at = (n * FRAME_SAMPLES) as isize - origin;
                if at >= self.clips[clip].samples.len() as isize {
                    self.state = State::Quiet;
                    return self.step(n, heard, labels);
                }
                if self.follows(n, clip, at, heard) {
                    if voiced {
                        labels[n] = Label::Clip(clip);
                    }
                    if missed > 0 && self.kinds[n - 1] == Frame::Voiced {
                        labels[n - 1] = Label::Clip(clip);
                    }
                    self.state = State::Following { clip, from, origin, missed: 0 };
                } else if missed == 0 {
                    self.state = State::Following { clip, from, origin, missed: 1 };
                } else {
                    let left = n - 1;
                    if self.kinds[left] == Frame::Voiced && !voiced {
                        // Nothing that is said lasts one frame: it is the ramp of a clip that was cut off.
                        labels[left] = Label::Clip(clip);
                        self.state = State::Quiet;
                        return;
                    }
                    let passes = self.kinds[left.saturating_sub(1)..=n].iter().all(|kind| *kind == Frame::Voiced);
                    self.state = State::Quiet;
                    if passes && left - from < BEGINS_ALIKE {
                        labels[from..left].iter_mut().filter(|l| **l != Label::Silent).for_each(|l| *l = Label::Speech);
                        self.state = State::Speech { silent: 0 };
                    }
                    self.step(left, heard, labels);
                    self.step(n, heard, labels);
                }
            }
            State::Speech { silent } => {
                if voiced {
                    labels[n] = Label::Speech;
                    self.state = State::Speech { silent: 0 };
                } else {
                    self.state = if silent + 1 >= QUIET { State::Quiet } else { State::Speech { silent: silent + 1 } };
                }
            }
        }
    }

    fn follows(&self, n: usize, clip: usize, at: isize, heard: &[i16]) -> bool {
        let frame = &heard[n * FRAME_SAMPLES..(n + 1) * FRAME_SAMPLES];
        let mut expected = [0i16; FRAME_SAMPLES];
        [&self.clips[clip].samples, &self.clips[clip].narrow].into_iter().any(|samples| {
            copy_from(samples, at, &mut expected);
            match self.kinds[n] {
                Frame::Lost => true,
                Frame::Unvoiced if level::rms_dbfs(&expected) <= level::VOICED_DBFS => true,
                _ => correlation(frame, &expected) >= FRAME_SAME,
            }
        })
    }

    /// Decides what the sound is that began at frame `from`, knowing the frames up to `end`.
    fn decide(&mut self, from: usize, end: usize, heard: &[i16], labels: &mut [Label]) {
        let voiced_end = (from..end).rev().find(|n| self.kinds[*n] == Frame::Voiced).map_or(from + 1, |n| n + 1);
        let length = voiced_end - from;
        let windows = WINDOWS.map(|window| (window.min(length), SHORTEST, SAME));
        let cut = (voiced_end < end && length <= WINDOWS[1]).then_some((length - 1, SHORTEST_CUT, SAME_CUT));
        let found = windows.into_iter().chain(cut).find_map(|(frames, shortest, same)| {
            if frames < shortest {
                return None;
            }
            let sound = &heard[from * FRAME_SAMPLES..(from + frames) * FRAME_SAMPLES];
            let (clip, at) = self.find(sound, &self.kinds[from..from + frames], same)?;
            Some((frames, clip, (from * FRAME_SAMPLES) as isize - at))
        });
        let mut accepted = 0;
        self.state = match found {
            Some((frames, clip, origin)) => {
                // The clip may have been left within the window; its first frame is taken, so that every decision gets on.
                let at = |n: usize| (n * FRAME_SAMPLES) as isize - origin;
                accepted = frames;
                while accepted > 1 && !self.follows(from + accepted - 1, clip, at(from + accepted - 1), heard) {
                    accepted -= 1;
                }
                let matched = from..from + accepted;
                for (label, kind) in labels[matched.clone()].iter_mut().zip(&self.kinds[matched]) {
                    *label = if *kind == Frame::Voiced { Label::Clip(clip) } else { Label::Silent };
                }
                State::Following { clip, from, origin, missed: 0 }
            }
            None => State::Speech { silent: 0 },
        };
        for n in from + accepted..end {
            self.step(n, heard, labels);
        }
    }

    /// The clip that `sound` is the voiced beginning of, and where in the clip it begins.
    fn find(&self, sound: &[i16], kinds: &[Frame], same: f32) -> Option<(usize, isize)> {
        let mut expected = [0i16; WINDOWS[0] * FRAME_SAMPLES];
        let expected = &mut expected[..sound.len()];
        // A lost frame says nothing for or against a clip.
        let copy_heard = |samples: &[i16], at: isize, expected: &mut [i16]| {
            copy_from(samples, at, expected);
            for (frame, kind) in expected.chunks_mut(FRAME_SAMPLES).zip(kinds) {
                if *kind == Frame::Lost {
                    frame.fill(0);
                }
            }
        };
        let searched = Searched::new(sound, kinds);
        let mut best: Option<(f32, usize, isize)> = None;
        for (clip, known) in self.clips.iter().enumerate() {
            let mut at = known.onset as isize;
            let mut likeness_at = |at| {
                [&known.samples, &known.narrow].into_iter().fold(f32::MIN, |best, samples| {
                    copy_heard(samples, at, expected);
                    best.max(correlation(sound, expected))
                })
            };
            let mut likeness = likeness_at(at);
            if likeness < same {
                // Every so many samples are looked at: of both, the telephone band is what these tell most of.
                at += searched.most_alike(&known.narrow, at - LAG) - LAG;
                likeness = likeness_at(at);
            }
            if likeness >= same && best.is_none_or(|(than, ..)| likeness > than) {
                best = Some((likeness, clip, at));
            }
        }
        best.map(|(_, clip, at)| (clip, at))
    }
}

/// Lags that are searched.
const LAGS: usize = 2 * LAG as usize + 1;
/// Samples that are looked at in a frame, and in the longest window.
const LOOKED_AT: usize = FRAME_SAMPLES / STRIDE;
const MOST_LOOKED_AT: usize = WINDOWS[0] * LOOKED_AT;

/// A sound whose place in clips is searched: every so many samples of it, as numbers that are quick to multiply. A phone that searched for
/// long would keep the others on its thread from speaking.
struct Searched<'a> {
    looked_at: [f32; MOST_LOOKED_AT],
    kinds: &'a [Frame],
}

impl<'a> Searched<'a> {
    fn new(sound: &[i16], kinds: &'a [Frame]) -> Self {
        let mut looked_at = [0.0; MOST_LOOKED_AT];
        for (to, from) in looked_at.iter_mut().zip(sound.iter().step_by(STRIDE)) {
            *to = f32::from(*from);
        }
        Self { looked_at, kinds }
    }

    /// How many samples behind `from` the clip is most like the sound, of [`LAGS`].
    fn most_alike(&self, clip: &[i16], from: isize) -> isize {
        const LENGTH: usize = LAGS / STRIDE + 1 + MOST_LOOKED_AT;
        let mut region = [0i16; LENGTH * STRIDE];
        copy_from(clip, from, &mut region);
        // One after the other the samples that are looked at together.
        let mut strides = [[0f32; LENGTH]; STRIDE];
        for (n, sample) in region.iter().enumerate() {
            strides[n % STRIDE][n / STRIDE] = f32::from(*sample);
        }
        let mut best = (f32::MIN, 0);
        for lag in 0..LAGS {
            let there = &strides[lag % STRIDE][lag / STRIDE..];
            let (mut both, mut power) = (0.0, 0.0);
            for (n, _) in self.kinds.iter().enumerate().filter(|(_, kind)| **kind != Frame::Lost) {
                let frame = n * LOOKED_AT..(n + 1) * LOOKED_AT;
                both += product(&self.looked_at[frame.clone()], &there[frame.clone()]);
                power += product(&there[frame.clone()], &there[frame]);
            }
            let alike = if power > 0.0 { both / power.sqrt() } else { 0.0 };
            if alike > best.0 {
                best = (alike, lag);
            }
        }
        best.1 as isize
    }
}

/// The sum of the products, in eight sums so that eight are added at a time.
fn product(a: &[f32], b: &[f32]) -> f32 {
    let mut sums = [0f32; 8];
    for (a, b) in a.chunks_exact(8).zip(b.chunks_exact(8)) {
        for (sum, (a, b)) in sums.iter_mut().zip(a.iter().zip(b)) {
            *sum += a * b;
        }
    }
    sums.iter().sum()
}
const _: () = assert!(LOOKED_AT.is_multiple_of(8), "no sample of a frame is left over");

/// Fills `out` with the samples from `at` on; what is outside is silence.
fn copy_from(samples: &[i16], at: isize, out: &mut [i16]) {
    out.fill(0);
    let skip = usize::try_from(-at).unwrap_or(0).min(out.len());
    let start = usize::try_from(at).unwrap_or(0).min(samples.len());
    let length = (out.len() - skip).min(samples.len() - start);
    out[skip..skip + length].copy_from_slice(&samples[start..start + length]);
}

/// Normalised correlation of two sounds of the same length, −1 to 1.
fn correlation(a: &[i16], b: &[i16]) -> f32 {
    let (mut ab, mut aa, mut bb) = (0i64, 0i64, 0i64);
    for (&a, &b) in a.iter().zip(b) {
        let (a, b) = (i64::from(a), i64::from(b));
        ab += a * b;
        aa += a * a;
        bb += b * b;
    }
    if aa == 0 || bb == 0 { 0.0 } else { (ab as f64 / (aa as f64 * bb as f64).sqrt()) as f32 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::phone::testing::voice;

    fn label(clips: &[&[i16]], heard: &[i16]) -> Vec<Label> {
        let clips: Vec<KnownClip> = clips
            .iter()
            .enumerate()
            .map(|(n, clip)| KnownClip::new(format!("clip{n}"), ClipRole::Placeholder, clip.to_vec()).unwrap())
            .collect();
        let mut heard = heard.to_vec();
        heard.resize(heard.len().next_multiple_of(FRAME_SAMPLES), 0);
        let mut labeller = Labeller::new(clips.into(), 0);
        let mut labels = Vec::new();
        for n in 0..heard.len() / FRAME_SAMPLES {
            labels.push(Label::Pending);
            let so_far = &heard[..(n + 1) * FRAME_SAMPLES];
            let voiced = level::rms_dbfs(&so_far[n * FRAME_SAMPLES..]) > level::VOICED_DBFS;
            labeller.take(if voiced { Frame::Voiced } else { Frame::Unvoiced }, so_far, &mut labels);
        }
        labeller.finish(&heard, &mut labels);
        assert!(!labels.contains(&Label::Pending));
        labels
    }

    fn count(labels: &[Label], what: Label) -> usize {
        labels.iter().filter(|label| **label == what).count()
    }

    #[test]
    fn a_clip_is_known_by_its_sound_and_the_answer_that_follows_is_not() {
        let (one, two, answer) = (voice(1, 50), voice(2, 50), voice(3, 100));
        let heard = [&vec![0; 10 * FRAME_SAMPLES][..], &two, &[0; 5 * FRAME_SAMPLES], &answer].concat();
        let labels = label(&[&one, &two], &heard);
        assert_eq!(count(&labels[..10], Label::Silent), 10);
        assert_eq!(count(&labels[10..60], Label::Clip(1)), 50);
        assert_eq!(count(&labels[65..], Label::Speech), 100);
        assert_eq!(count(&labels, Label::Clip(0)), 0);
    }

    #[test]
    fn an_answer_without_a_pause_after_the_clip_begins_at_its_own_first_frame() {
        let (clip, answer) = (voice(1, 40), voice(3, 60));
        let labels = label(&[&clip], &[&clip[..], &answer].concat());
        assert_eq!(count(&labels[..40], Label::Clip(0)), 40);
        assert_eq!(count(&labels[40..], Label::Speech), 60);
    }

    #[test]
    fn a_clip_that_is_cut_short_ends_where_the_answer_begins() {
        let (clip, answer) = (voice(1, 50), voice(3, 60));
        for cut in [16, 30, 44] {
            let labels = label(&[&clip], &[&clip[..cut * FRAME_SAMPLES], &answer].concat());
            assert_eq!(count(&labels[..cut], Label::Clip(0)), cut, "cut after {cut} frames");
            assert_eq!(count(&labels[cut..], Label::Speech), 60, "cut after {cut} frames");
        }
    }

    #[test]
    fn speech_that_only_begins_like_a_clip_is_speech() {
        let (clip, answer) = (voice(1, 50), voice(3, 60));
        for alike in [5, 8, 14] {
            let labels = label(&[&clip], &[&clip[..alike * FRAME_SAMPLES], &answer].concat());
            assert_eq!(count(&labels, Label::Speech), alike + 60, "{alike} frames alike");
        }
    }

    #[test]
    fn a_clip_that_is_cut_into_silence_is_followed_by_silence() {
        let clip = voice(1, 50);
        let labels = label(&[&clip], &[&clip[..4 * FRAME_SAMPLES], &[0; 50 * FRAME_SAMPLES]].concat());
        assert_eq!(count(&labels, Label::Clip(0)), 4);
        assert_eq!(count(&labels, Label::Silent), 50);
    }

    #[test]
    fn a_clip_that_is_cut_with_a_ramp_into_silence_is_no_speech_however_short_it_was() {
        let clip = voice(1, 50);
        for cut in 2..30 {
            let played = &clip[..cut * FRAME_SAMPLES];
            let ramp = played.iter().rev().take(40).zip((0..40).rev()).map(|(s, n)| (i32::from(*s) * n / 40) as i16);
            let heard = [&vec![0; 10 * FRAME_SAMPLES][..], played, &ramp.collect::<Vec<_>>(), &[0; 50 * FRAME_SAMPLES]]
                .concat();
            let labels = label(&[&clip], &heard);
            assert_eq!(count(&labels, Label::Speech), 0, "{cut} frames: {labels:?}");
            assert!(count(&labels, Label::Clip(0)) >= cut, "{cut} frames: {labels:?}");
        }
    }

    #[test]
    fn a_short_sound_that_is_no_clip_is_speech() {
        let clip = voice(1, 50);
        for (seed, frames) in (2..20).flat_map(|seed| (2..6).map(move |frames| (seed, frames))) {
            let labels = label(
                &[&clip],
                &[&vec![0; 10 * FRAME_SAMPLES][..], &voice(seed, frames), &[0; 50 * FRAME_SAMPLES]].concat(),
            );
            assert_eq!(count(&labels, Label::Speech), frames, "voice {seed}, {frames} frames: {labels:?}");
        }
    }

    #[test]
    fn a_clip_off_the_frame_grid_softer_and_through_mu_law_is_still_known() {
        let clip = voice(1, 50);
        let mut heard = vec![0; 10 * FRAME_SAMPLES + 77];
        heard.extend(clip.iter().map(|s| ((s / 2) / 16) * 16));
        let labels = label(&[&clip], &heard);
        assert!(count(&labels, Label::Clip(0)) >= 49, "{labels:?}");
        assert_eq!(count(&labels, Label::Speech), 0);
    }

    #[test]
    fn a_pause_inside_a_clip_belongs_to_it() {
        let (first, second) = (voice(1, 15), voice(2, 15));
        let clip = [&first[..], &[0; 3200], &second].concat();
        let labels = label(&[&clip], &[&clip[..], &[0; 3200]].concat());
        assert_eq!(count(&labels, Label::Clip(0)), 30);
        assert_eq!(count(&labels, Label::Speech), 0);
    }

    #[test]
    fn without_known_clips_all_is_speech() {
        let labels = label(&[], &voice(1, 30));
        assert_eq!(count(&labels, Label::Speech), 30);
    }
}
