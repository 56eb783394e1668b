//! What the caller says, made ready before the call: texts spoken by espeak-ng, WAV files, pauses, DTMF digits (RFC 4733).

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use thiserror::Error;

use crate::pcm::{FRAME_SAMPLES, Frame, RATE, level, resample, samples_in, wav};
use crate::tts::shape;

/// Level of what the caller says over its voiced parts.
const LEVEL_DBFS: f32 = -20.0;
/// A stretch of the caller's silence counts as a pause from so many frames on.
const PAUSE: usize = 10;
/// Sound is judged voiced in pieces of 5 ms, so that a voice at a frame's edge is seen.
const PIECE: usize = 80;
/// Longest thing to say.
const LONGEST: Duration = Duration::from_secs(300);
/// How long a DTMF digit is pressed, and released, in frames.
const DIGIT: usize = 5;

/// One turn of the caller's, as asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Turn {
    /// Speaks a text; `[700]` in it is a pause of 700 ms, `[[…]]` are phonemes in espeak-ng's own notation.
    Say(String),
    /// Plays a WAV file as it is.
    Play(PathBuf),
    /// Presses keys: `0`-`9`, `*`, `#`, `A`-`D`.
    Dtmf(String),
}

/// Why something cannot be said.
#[derive(Debug, Error)]
pub enum MouthError {
    /// The voice program does not start.
    #[error("espeak-ng cannot be started ({0}); install it (`apt install espeak-ng`) or use --play with a WAV file")]
    NoVoice(std::io::Error),
    /// The voice program refuses.
    #[error("espeak-ng failed with voice {voice:?}: {note}")]
    Voice {
        /// The voice asked for.
        voice: String,
        /// What it said.
        note: String,
    },
    /// A file cannot be read.
    #[error("{}: {cause}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        cause: std::io::Error,
    },
    /// A file, or what the voice program wrote, is not usable WAV.
    #[error("{what}: {cause}")]
    Wav {
        /// Whose sound it is.
        what: String,
        /// Why.
        cause: wav::WavError,
    },
    /// There is nothing to hear in it.
    #[error("{0}: nothing in it is louder than {limit} dBFS, so no end of speech can be measured", limit = level::VOICED_DBFS)]
    Silent(String),
    /// A text with a bad pause.
    #[error(
        "{text:?}: {pause:?} is no pause; write milliseconds between brackets, at most 60000, as in \"I would [700] like\""
    )]
    Pause {
        /// The text.
        text: String,
        /// What stands between the brackets.
        pause: String,
    },
    /// A key that no telephone has.
    #[error("{0:?} is no telephone key; use 0-9, *, #, A-D")]
    Key(char),
    /// Nobody listens so long.
    #[error("{0} is longer than {limit} s", limit = LONGEST.as_secs())]
    TooLong(String),
}

/// What is sent in one ptime.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Sent<'a> {
    /// A frame of sound.
    Sound(&'a Frame),
    /// A telephone event: its code, how long it has been pressed in frames (from 1), and whether it ends here.
    Event(u8, usize, bool),
}

/// Something ready to be said, frame by frame.
#[derive(Debug, Clone, PartialEq)]
pub struct Utterance {
    frames: Vec<Frame>,
    /// Event codes, each [`DIGIT`] frames pressed and as long released.
    digits: Vec<u8>,
    /// First voiced frame.
    pub first: usize,
    /// Last voiced frame.
    pub last: usize,
    /// Pauses: the last voiced frame before, the first voiced frame after.
    pub pauses: Vec<(usize, usize)>,
}

impl Utterance {
    /// Makes a turn ready; `voice` is a voice of espeak-ng. Blocks while the voice program runs.
    pub fn prepare(turn: &Turn, voice: &str) -> Result<Self, MouthError> {
        match turn {
            Turn::Say(text) => {
                let mut sound = Vec::new();
                for piece in pieces(text)? {
                    match piece {
                        Piece::Words(words) => sound.extend(speak(&words, voice)?),
                        Piece::Pause(pause) => sound.resize(sound.len() + samples_in(pause) as usize, 0),
                    }
                }
                Self::from_sound(&sound, text)
            }
            Turn::Play(path) => Self::from_sound(&play(path)?, &path.display().to_string()),
            Turn::Dtmf(keys) => Self::from_keys(keys),
        }
    }

    /// Sound to say, 16 kHz mono; `what` names it in errors.
    pub fn from_sound(sound: &[i16], what: &str) -> Result<Self, MouthError> {
        if sound.len() as u64 > samples_in(LONGEST) {
            return Err(MouthError::TooLong(what.to_owned()));
        }
        let frames: Vec<Frame> = sound
            .chunks(FRAME_SAMPLES)
            .map(|chunk| {
                let mut frame = [0; FRAME_SAMPLES];
                frame[..chunk.len()].copy_from_slice(chunk);
                frame
            })
            .collect();
        let voiced: Vec<usize> = (0..frames.len())
            .filter(|n| frames[*n].chunks(PIECE).any(|piece| level::rms_dbfs(piece) > level::VOICED_DBFS))
            .collect();
        let (Some(first), Some(last)) = (voiced.first(), voiced.last()) else {
            return Err(MouthError::Silent(what.to_owned()));
        };
        let pauses =
            voiced.windows(2).filter(|pair| pair[1] - pair[0] > PAUSE).map(|pair| (pair[0], pair[1])).collect();
        Ok(Self { first: *first, last: *last, pauses, frames, digits: Vec::new() })
    }

    fn from_keys(keys: &str) -> Result<Self, MouthError> {
        let digits: Vec<u8> = keys
            .chars()
            .map(|key| {
                let code = "0123456789*#ABCD".find(key.to_ascii_uppercase()).ok_or(MouthError::Key(key))?;
                Ok(code as u8)
            })
            .collect::<Result<_, MouthError>>()?;
        if digits.is_empty() || digits.len() > 64 {
            return Err(MouthError::TooLong(format!("a row of {} keys (1-64)", digits.len())));
        }
        let last = (digits.len() * 2 - 1) * DIGIT - 1;
        Ok(Self { frames: Vec::new(), first: 0, last, pauses: Vec::new(), digits })
    }

    /// How many ptimes it lasts.
    pub fn len(&self) -> usize {
        if self.digits.is_empty() { self.frames.len() } else { self.digits.len() * 2 * DIGIT }
    }

    /// Never true: an utterance has something to hear in it.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// What is sent in ptime `n`; `None` in its silence and after its end.
    pub fn at(&self, n: usize) -> Option<Sent<'_>> {
        let (digit, since) = (n / (2 * DIGIT), n % (2 * DIGIT));
        match self.digits.get(digit) {
            Some(code) if since < DIGIT => Some(Sent::Event(*code, since + 1, since + 1 == DIGIT)),
            Some(_) => None,
            None => self.frames.get(n).map(Sent::Sound),
        }
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Piece {
    Words(String),
    Pause(Duration),
}

fn pieces(text: &str) -> Result<Vec<Piece>, MouthError> {
    let mut pieces = Vec::new();
    let mut words = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('[') {
        words.push_str(before);
        if let Some((phonemes, after)) = after.strip_prefix('[').and_then(|after| after.split_once("]]")) {
            words.extend(["[[", phonemes, "]]"]);
            rest = after;
            continue;
        }
        let (pause, after) = after.split_once(']').unwrap_or((after, ""));
        let Ok(ms @ 0..=60_000) = pause.trim().parse() else {
            return Err(MouthError::Pause { text: text.to_owned(), pause: pause.to_owned() });
        };
        say(&mut pieces, &mut words);
        pieces.push(Piece::Pause(Duration::from_millis(ms)));
        rest = after;
    }
    words.push_str(rest);
    say(&mut pieces, &mut words);
    Ok(pieces)
}

/// What was collected of a text becomes a piece, if it is more than white space.
fn say(pieces: &mut Vec<Piece>, words: &mut String) {
    let words = std::mem::take(words);
    if !words.trim().is_empty() {
        pieces.push(Piece::Words(words.trim().to_owned()));
    }
}

/// A text as espeak-ng says it: trimmed, at the caller's level.
fn speak(text: &str, voice: &str) -> Result<Vec<i16>, MouthError> {
    let output = Command::new("espeak-ng")
        .args(["-v", voice, "-z", "--stdout", "--", text])
        .output()
        .map_err(MouthError::NoVoice)?;
    if !output.status.success() || output.stdout.is_empty() {
        let note = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        return Err(MouthError::Voice { voice: voice.to_owned(), note });
    }
    let sound = wav::read(&output.stdout).map_err(|cause| MouthError::Wav { what: "espeak-ng".into(), cause })?;
    let mut samples = resample::resample(&sound.samples, sound.rate, RATE);
    if let Some(gain) = shape::Gain::matching(&samples, LEVEL_DBFS) {
        gain.apply(&mut samples);
    }
    let voiced = voiced(&samples);
    samples.truncate(voiced.end);
    samples.drain(..voiced.start);
    Ok(samples)
}

/// From the first to the last voiced piece.
fn voiced(samples: &[i16]) -> Range<usize> {
    let mut voiced = 0..0;
    for (n, piece) in samples.chunks(PIECE).enumerate() {
        if level::rms_dbfs(piece) > level::VOICED_DBFS {
            let start = if voiced.is_empty() { n * PIECE } else { voiced.start };
            voiced = start..n * PIECE + piece.len();
        }
    }
    voiced
}

fn play(path: &Path) -> Result<Vec<i16>, MouthError> {
    let bytes = std::fs::read(path).map_err(|cause| MouthError::Read { path: path.to_owned(), cause })?;
    let sound = wav::read(&bytes).map_err(|cause| MouthError::Wav { what: path.display().to_string(), cause })?;
    Ok(resample::resample(&sound.samples, sound.rate, RATE))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pcm::tone;

    #[test]
    fn a_pause_in_a_text_is_written_in_brackets() {
        let ms = Duration::from_millis;
        assert_eq!(
            pieces("I would like [700] to order[20]").unwrap(),
            [
                Piece::Words("I would like".into()),
                Piece::Pause(ms(700)),
                Piece::Words("to order".into()),
                Piece::Pause(ms(20))
            ]
        );
        assert_eq!(pieces("plain").unwrap(), [Piece::Words("plain".into())]);
        assert_eq!(
            pieces("so [[Sal'om]] and[700]on").unwrap(),
            [Piece::Words("so [[Sal'om]] and".into()), Piece::Pause(ms(700)), Piece::Words("on".into())]
        );
        for bad in ["a [x] b", "a [] b", "a [700 b", "a [60001]", "["] {
            assert!(matches!(pieces(bad), Err(MouthError::Pause { .. })), "{bad}");
        }
    }

    #[test]
    fn the_first_and_last_voiced_frame_and_the_pauses_are_known() {
        let tone = tone::sine(400.0, -12.0, 1600);
        let sound = [&[0; 660][..], &tone, &[0; 11_200], &tone, &[0; 1600]].concat();
        let said = Utterance::from_sound(&sound, "x").unwrap();
        assert_eq!((said.first, said.last), (2, 15_058 / FRAME_SAMPLES));
        assert_eq!(said.pauses, [(2258 / FRAME_SAMPLES, 13_460 / FRAME_SAMPLES)]);
        assert_eq!(said.len(), sound.len().div_ceil(FRAME_SAMPLES));
        assert!(matches!(said.at(2), Some(Sent::Sound(_))) && said.at(said.len()).is_none());
    }

    #[test]
    fn silence_and_endless_sound_are_refused() {
        assert!(matches!(Utterance::from_sound(&[3; 8000], "x"), Err(MouthError::Silent(_))));
        assert!(matches!(Utterance::from_sound(&[], "x"), Err(MouthError::Silent(_))));
        assert!(matches!(
            Utterance::from_sound(&vec![9000; samples_in(LONGEST) as usize + 1], "x"),
            Err(MouthError::TooLong(_))
        ));
    }

    #[test]
    fn keys_are_pressed_for_a_hundred_ms_and_released_as_long() {
        let keys = Utterance::prepare(&Turn::Dtmf("5#".into()), "en").unwrap();
        assert_eq!((keys.first, keys.last, keys.len()), (0, 14, 20));
        assert_eq!(keys.at(0), Some(Sent::Event(5, 1, false)));
        assert_eq!(keys.at(4), Some(Sent::Event(5, 5, true)));
        assert_eq!(keys.at(5), None);
        assert_eq!(keys.at(10), Some(Sent::Event(11, 1, false)));
        assert!(matches!(Utterance::prepare(&Turn::Dtmf("5x".into()), "en"), Err(MouthError::Key('x'))));
    }

    #[test]
    fn a_spoken_text_begins_and_ends_voiced_and_has_its_pause() {
        let said = Utterance::prepare(&Turn::Say("Good morning [700] table for two".into()), "en-us").unwrap();
        assert_eq!((said.first, said.last + 1), (0, said.len()));
        let longest = said.pauses.iter().map(|(from, to)| to - from).max().unwrap();
        assert!((35..=37).contains(&longest), "{:?}", said.pauses);
    }
}
