//! Files as a leg: questions are read into memory beforehand and said when they are due, answers go to a tape. Everything at real time, as the
//! clocks of the box and of the model are.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, Instant};

use thiserror::Error;

use crate::leg::{Dtmf, FrameKind, Leg, LegMedia};
use crate::pcm::wav::{self, WavError};
use crate::pcm::{FRAME_SAMPLES, Frame, RATE, SILENCE, resample};

use super::tape::TapeHead;

/// The longest question. A caller who spoke for longer without a pause would be cut, too.
const LONGEST: Duration = Duration::from_secs(10 * 60);
/// The largest file that is read: 10 minutes in stereo at 48 kHz are 115 MB.
const LARGEST_BYTES: u64 = 200_000_000;
/// What stands before the samples is looked for in so many bytes.
const HEAD_BYTES: u64 = 1 << 16;
/// Softer than this from one end to the other is no question: −60 dBFS.
const AUDIBLE: u16 = 32;

/// Why a file cannot be said.
#[derive(Debug, Error)]
pub enum FileError {
    /// It cannot be read.
    #[error("{}: {cause}; --from takes a WAV file that can be read", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system says.
        cause: std::io::Error,
    },
    /// It is no WAV file, or a broken one.
    #[error("{}: {cause}; convert it with `ffmpeg -i IN -ac 1 -ar 16000 OUT.wav`", path.display())]
    Wav {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        cause: WavError,
    },
    /// It is too long.
    #[error(
        "{}: {minutes} minutes; --from takes up to {} minutes, one question a file: cut it with `ffmpeg -i IN -ss 0 -t 60 OUT.wav`",
        path.display(), LONGEST.as_secs() / 60
    )]
    TooLong {
        /// The file.
        path: PathBuf,
        /// Its length.
        minutes: u64,
    },
    /// Nothing is on it.
    #[error("{}: there is no sound on it; record it anew, louder than -60 dBFS", path.display())]
    Silent {
        /// The file.
        path: PathBuf,
    },
}

impl FileError {
    /// The exit status, by sysexits(3).
    pub fn exit_status(&self) -> u8 {
        match self {
            Self::Read { .. } => 66,
            Self::Wav { .. } | Self::TooLong { .. } | Self::Silent { .. } => 65,
        }
    }
}

/// Reads a question at the house's rate.
///
/// # Errors
/// When it is no sound that can be said.
pub fn read(path: &Path) -> Result<Vec<i16>, FileError> {
    let failed = |cause| FileError::Read { path: path.to_owned(), cause };
    let broken = |cause| FileError::Wav { path: path.to_owned(), cause };
    let mut file = File::open(path).map_err(failed)?;
    let there = file.metadata().map_err(failed)?.len();
    let mut bytes = Vec::new();
    file.by_ref().take(HEAD_BYTES).read_to_end(&mut bytes).map_err(failed)?;
    let head = wav::header(&bytes).map_err(broken)?.ok_or(WavError::Missing("data")).map_err(broken)?;
    let sound = there.max(bytes.len() as u64).min(head.data_bytes as u64 + head.data_at as u64);
    let seconds = sound / (u64::from(head.rate) * u64::from(head.channels) * 2);
    if seconds > LONGEST.as_secs() || sound > LARGEST_BYTES {
        return Err(FileError::TooLong { path: path.to_owned(), minutes: seconds / 60 });
    }
    file.take(LARGEST_BYTES).read_to_end(&mut bytes).map_err(failed)?;
    let sound = wav::read(&bytes).map_err(broken)?;
    let samples = resample::resample(&sound.samples, sound.rate, RATE);
    if samples.iter().all(|sample| sample.unsigned_abs() <= AUDIBLE) {
        return Err(FileError::Silent { path: path.to_owned() });
    }
    Ok(samples)
}

/// How far the questions are.
#[derive(Debug, Default)]
pub struct Cue {
    /// So many may be said.
    go: AtomicUsize,
    /// So many were said.
    said: AtomicUsize,
}

impl Cue {
    /// Has this question said, counted from 0.
    pub fn say(&self, question: usize) {
        self.go.store(question + 1, Relaxed);
    }

    /// How many were said.
    pub fn said(&self) -> usize {
        self.said.load(Relaxed)
    }
}

/// The way in of one call over files.
pub struct FileLeg {
    questions: Vec<Vec<i16>>,
    cue: Arc<Cue>,
    question: usize,
    sample: usize,
    tapes: Vec<TapeHead>,
    heard: Instant,
}

impl FileLeg {
    /// A leg that says these; each tape records it.
    pub fn new(now: Instant, questions: Vec<Vec<i16>>, tapes: Vec<TapeHead>) -> (Self, Arc<Cue>) {
        let cue = Arc::<Cue>::default();
        (Self { questions, cue: cue.clone(), question: 0, sample: 0, tapes, heard: now }, cue)
    }

    fn say(&mut self, frame: &mut Frame) -> FrameKind {
        let Some(question) = self.questions.get(self.question).filter(|_| self.question < self.cue.go.load(Relaxed))
        else {
            return FrameKind::Silence;
        };
        let rest = question.get(self.sample..).unwrap_or_default();
        let samples = rest.len().min(FRAME_SAMPLES);
        frame[..samples].copy_from_slice(&rest[..samples]);
        self.sample += samples;
        if self.sample >= question.len() {
            (self.question, self.sample) = (self.question + 1, 0);
            self.cue.said.store(self.question, Relaxed);
        }
        FrameKind::Speech
    }
}

impl Leg for FileLeg {
    fn hear(&mut self, now: Instant, frame: &mut Frame) -> FrameKind {
        self.heard = now;
        *frame = SILENCE;
        let kind = self.say(frame);
        for tape in &mut self.tapes {
            tape.heard(frame);
        }
        kind
    }

    fn is_wide(&self) -> bool {
        true
    }

    fn speak(&mut self, _: Instant, frame: &Frame, _: bool) {
        for tape in &mut self.tapes {
            tape.spoken(frame);
        }
    }

    fn skip(&mut self) {}

    fn poll_dtmf(&mut self) -> Option<Dtmf> {
        None
    }

    fn renegotiate(&mut self, _: &LegMedia) {}

    fn last_received(&self) -> Instant {
        self.heard
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::loopback::tape::{Tape, Tracks};
    use crate::pcm::{PTIME, tone};

    #[test]
    fn a_file_that_cannot_be_said_says_why_and_what_to_do() {
        let folder = tempfile::tempdir().unwrap();
        let file = |name: &str, bytes: &[u8]| {
            let path = folder.path().join(name);
            std::fs::write(&path, bytes).unwrap();
            read(&path).map(|samples| samples.len())
        };
        let good = wav::write(8000, 2, &tone::sine_at(8000, 440.0, -10.0, 16_000));
        assert_eq!(file("good.wav", &good).unwrap(), RATE as usize);
        assert!(file("cut.wav", &good[..good.len() / 2]).unwrap().abs_diff(RATE as usize / 2) < 30, "what there is");
        let told = |result: Result<usize, FileError>, status: u8, words: &str| {
            let error = result.unwrap_err();
            assert_eq!(error.exit_status(), status);
            assert!(error.to_string().contains(words), "{error}");
        };
        told(file("text.wav", b"this is no sound"), 65, "ffmpeg");
        told(file("head.wav", &good[..30]), 65, "truncated");
        told(file("empty.wav", &wav::write(8000, 1, &[])), 65, "no sound");
        told(file("silent.wav", &wav::write(8000, 1, &[3; 8000])), 65, "no sound");
        told(read(&folder.path().join("none.wav")).map(|samples| samples.len()), 66, "none.wav");
        // Two hours, of which nothing is on the disk but the header.
        let long = folder.path().join("long.wav");
        std::fs::write(&long, &{
            let mut head = good[..44].to_vec();
            head[40..44].copy_from_slice(&(2 * 3600 * 8000 * 4u32).to_le_bytes());
            head
        })
        .unwrap();
        File::options().write(true).open(&long).unwrap().set_len(44 + 2 * 3600 * 8000 * 4).unwrap();
        told(read(&long).map(|samples| samples.len()), 65, "120 minutes");
    }

    #[test]
    fn a_question_is_said_when_it_is_due_and_what_is_answered_is_on_the_tape() {
        let folder = tempfile::tempdir().unwrap();
        let answer = folder.path().join("answer.wav");
        let (tape, head) = Tape::start(&answer, Tracks::Said).unwrap();
        let questions = vec![vec![5; FRAME_SAMPLES + 10], vec![7; FRAME_SAMPLES]];
        let start = Instant::now();
        let (mut leg, cue) = FileLeg::new(start, questions, vec![head]);
        let mut kinds = Vec::new();
        for n in 0..8i16 {
            match n {
                2 => cue.say(0),
                6 => cue.say(1),
                _ => {}
            }
            let mut frame = SILENCE;
            kinds.push((leg.hear(start + PTIME * n as u32, &mut frame) == FrameKind::Speech, frame[9], frame[10]));
            leg.speak(start, &[n; FRAME_SAMPLES], true);
            assert_eq!(cue.said(), [0, 0, 0, 1, 1, 1, 2, 2][n as usize]);
        }
        let silent = (false, 0, 0);
        assert_eq!(kinds, [silent, silent, (true, 5, 5), (true, 5, 0), silent, silent, (true, 7, 7), silent]);
        assert_eq!(tape.finish().unwrap().frames, 8);
        let samples: Vec<i16> = hound::WavReader::open(&answer).unwrap().samples().map(Result::unwrap).collect();
        assert!(samples.chunks(FRAME_SAMPLES).enumerate().all(|(n, frame)| frame[0] == n as i16));
    }
}
