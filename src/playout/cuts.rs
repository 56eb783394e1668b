//! Where a clip may be cut without cutting a word: found in the sound, and stored beside the file.
//!
//! Found are pauses that no plosive makes: its closure is silent too, within a word, but hardly ever for so long. That misses the ends of
//! words that run into the next, and never cuts one.

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::pcm::{self, RATE, level};

/// A silence that is shorter may lie within a word.
const SHORTEST_PAUSE: Duration = Duration::from_millis(100);
/// Silence that stays on both sides of a cut: for the last sound to die away, and for the next to begin.
const MARGIN: Duration = Duration::from_millis(20);
/// Distance of the places in one pause at which a clip may be cut.
const STEP: Duration = Duration::from_millis(20);
/// The pieces in which the level is looked at: 5 ms.
const PIECE: usize = RATE as usize / 200;

/// The places in `samples` (16 kHz, matched in level) where no word is cut, ascending, in samples; without the end.
pub(super) fn find(samples: &[i16]) -> Vec<u32> {
    let (margin, step) = (pcm::samples_in(MARGIN) as usize, pcm::samples_in(STEP) as usize);
    pauses(samples)
        .flat_map(|pause| (pause.start + margin..=pause.end - margin).step_by(step))
        .map(|cut| cut as u32)
        .collect()
}

/// Silences between sounds that are long enough to lie between words.
fn pauses(samples: &[i16]) -> impl Iterator<Item = Range<usize>> {
    let pieces = samples.chunks(PIECE).map(|piece| level::rms_dbfs(piece) < level::VOICED_DBFS);
    let mut began = None;
    let mut heard = false;
    pieces.enumerate().filter_map(move |(index, quiet)| match (quiet, began) {
        (true, None) => {
            began = heard.then_some(index * PIECE);
            None
        }
        (true, Some(_)) => None,
        (false, _) => {
            heard = true;
            let pause = began.take()?..index * PIECE;
            (pause.len() as u64 >= pcm::samples_in(SHORTEST_PAUSE)).then_some(pause)
        }
    })
}

/// Cut points as they are stored beside a sound file, `rega.cuts.toml` beside `rega.wav`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Stored {
    /// Samples of the sound file a channel, at its own rate: of another recording the points say nothing.
    pub samples: usize,
    /// From the beginning of the file, ascending; its end needs no entry.
    pub cut_points_ms: Vec<u64>,
}

impl Stored {
    /// Where the cut points of a sound file are.
    pub fn path(sound: &Path) -> PathBuf {
        sound.with_extension("cuts.toml")
    }

    /// What is in such a file; says what is wrong with it.
    pub fn parse(text: &str) -> Result<Self, String> {
        let stored: Self = toml::from_str(text).map_err(|error| error.to_string().trim().to_owned())?;
        if stored.cut_points_ms.is_sorted_by(|a, b| a < b) { Ok(stored) } else { Err("cut_points_ms must rise".into()) }
    }

    /// The file's text.
    pub fn write(&self) -> String {
        let points: Vec<_> = self.cut_points_ms.iter().map(u64::to_string).collect();
        format!(
            "# Where this clip may be cut without cutting a word. Found by `offhook clips --write-cuts`; may be changed by ear.\n\
             samples = {}\ncut_points_ms = [{}]\n",
            self.samples,
            points.join(", ")
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pcm::tone;

    /// Tones of that many milliseconds, apart by silences of that many.
    fn sound(stretches_ms: &[(usize, usize)]) -> Vec<i16> {
        let stretch = |&(tone_ms, silence_ms): &(usize, usize)| {
            [tone::sine(500.0, -20.0, tone_ms * 16), vec![3; silence_ms * 16]].concat()
        };
        stretches_ms.iter().flat_map(stretch).collect()
    }

    #[test]
    fn a_pause_is_where_a_cut_may_be_and_a_plosives_closure_is_not() {
        let found = find(&sound(&[(200, 70), (100, 120), (300, 95), (100, 200)]));
        let ms: Vec<_> = found.iter().map(|cut| cut / 16).collect();
        assert_eq!(ms, [390, 410, 430, 450, 470]);
        assert!(find(&[]).is_empty());
        assert!(find(&sound(&[(0, 300), (200, 0)])).is_empty(), "silence before the first sound");
        assert!(find(&sound(&[(0, 3000)])).is_empty());
    }

    #[test]
    fn what_is_stored_is_read_again_and_what_is_wrong_is_told() {
        let stored = Stored { samples: 4000, cut_points_ms: vec![120, 140] };
        assert_eq!(Stored::parse(&stored.write()), Ok(stored));
        assert!(Stored::parse("samples = 1\ncut_points_ms = [5, 5]\n").unwrap_err().contains("rise"));
        assert!(Stored::parse("samples = 1\ncuts = []\n").unwrap_err().contains("cuts"));
        assert_eq!(Stored::path(Path::new("en/a.wav")), Path::new("en/a.cuts.toml"));
    }
}
