//! What is to be said about a clip's file: its rate, level, length, leading silence, and the places where it may be cut.

use std::path::Path;
use std::time::Duration;

use crate::pcm::{RATE, duration_at, level, resample, wav};
use crate::tts::shape;

use super::clips::{ClipKind, Entry, FINDING_DBFS, MAX_CLIP};
use super::cuts::Stored;

/// How far a clip's level may be off.
const LEVEL_OFF_DB: f32 = 1.0;
/// More silence before the first sound delays every turn.
const LEADING: Duration = Duration::from_millis(20);
/// A longer placeholder keeps an answer waiting, unless it can be cut.
const PLACEHOLDER: Duration = Duration::from_secs(3);
/// Louder than this a cut is heard.
const CUT_DBFS: f32 = -40.0;

/// What was found in one clip's files.
#[derive(Debug)]
pub struct Inspection {
    /// Samples a second of the file; 0 when it is none.
    pub rate: u32,
    /// Its length.
    pub length: Duration,
    /// Over its voiced parts.
    pub level_dbfs: Option<f32>,
    /// Silence before its first sound.
    pub leading: Duration,
    /// How many places there are, besides its end, where it may be cut.
    pub cuts: usize,
    /// What is wrong, each with its remedy.
    pub faults: Vec<String>,
}

/// Inspects a clip; `read` gives the bytes of its files, by path.
pub fn inspect(entry: &Entry, path: &Path, read: impl Fn(&Path) -> std::io::Result<Vec<u8>>) -> Inspection {
    let mut found = Inspection {
        rate: 0,
        length: Duration::ZERO,
        level_dbfs: None,
        leading: Duration::ZERO,
        cuts: 0,
        faults: Vec::new(),
    };
    let sound = match read(path).map_err(|error| error.to_string()).and_then(|bytes| {
        wav::read(&bytes).map_err(|error| format!("{error}; `offhook clips import` takes any WAV, MP3, OGG or FLAC"))
    }) {
        Ok(sound) => sound,
        Err(fault) => {
            found.faults.push(fault);
            return found;
        }
    };
    let length = duration_at(sound.rate, sound.samples.len() as u64);
    (found.rate, found.length) = (sound.rate, length);
    let mut fault = |wrong: bool, note: String| {
        if wrong {
            found.faults.push(note);
        }
    };
    let rate = sound.rate;
    fault(rate != RATE, format!("{rate} Hz, and the house has {RATE}; import it again"));
    fault(length > MAX_CLIP, format!("{} s long, and {} are the most; cut it", length.as_secs(), MAX_CLIP.as_secs()));
    if length > MAX_CLIP {
        return found;
    }
    let samples = resample::resample(&sound.samples, rate, RATE);
    let Some(level_dbfs) = level::active_dbfs(&samples) else {
        found.faults.push("silent; record or render it again".into());
        return found;
    };
    fault(
        (level_dbfs - FINDING_DBFS).abs() > LEVEL_OFF_DB,
        format!("{level_dbfs:.1} dBFS where {FINDING_DBFS:.0} is the level; import it again"),
    );
    let lead = samples.iter().position(|sample| sample.unsigned_abs() > shape::EDGE).unwrap_or(samples.len());
    let leading = duration_at(RATE, lead as u64);
    fault(leading > LEADING, format!("{} ms of silence before its first sound; import it again", leading.as_millis()));
    let stored = match read(&Stored::path(path)) {
        Ok(bytes) => Stored::parse(&String::from_utf8_lossy(&bytes)).map(Some),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error.to_string()),
    };
    let points = match (&entry.cut_points_ms, stored) {
        (Some(by_hand), _) => by_hand.clone(),
        (None, Ok(Some(stored))) => {
            let other = stored.samples != sound.samples.len();
            fault(other, "its cut points are another recording's; `offhook clips FOLDER --write-cuts`".into());
            stored.cut_points_ms
        }
        (None, Ok(None)) => {
            fault(true, "no cut points are stored beside it; `offhook clips FOLDER --write-cuts`".into());
            Vec::new()
        }
        (None, Err(note)) => {
            fault(true, format!("its cut points cannot be read: {note}; `offhook clips FOLDER --write-cuts`"));
            Vec::new()
        }
    };
    let around = RATE as usize / 200;
    for &ms in &points {
        let at = usize::try_from(ms * u64::from(RATE) / 1000).unwrap_or(usize::MAX);
        let inside = at.checked_sub(around).and_then(|from| samples.get(from..at.saturating_add(around)));
        let loud = inside.is_some_and(|sound| level::rms_dbfs(sound) > CUT_DBFS);
        fault(loud, format!("it is not silent at its cut point {ms} ms; move it, or find them anew with --write-cuts"));
        fault(at > samples.len(), format!("its cut point {ms} ms is behind its end"));
    }
    let waits = entry.kind == ClipKind::Placeholder && length > PLACEHOLDER && points.is_empty();
    fault(
        waits,
        format!("{:.1} s long, without a pause to cut it in: answers would wait for it", length.as_secs_f32()),
    );
    (found.level_dbfs, found.leading, found.cuts) = (Some(level_dbfs), leading, points.len());
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Language;
    use crate::pcm::tone;
    use crate::playout::clips::{Manifest, built_in_file};

    fn entry(kind: ClipKind) -> Entry {
        let text =
            format!("name = \"a\"\nfile = \"a.wav\"\nlanguage = \"en\"\nkind = \"{}\"\ntext = \"x\"", kind.name());
        toml::from_str(&text).unwrap()
    }

    fn faults(entry: &Entry, wav: Vec<u8>, cuts: Option<&str>) -> String {
        let read = |path: &Path| match path.extension().is_some_and(|extension| extension == "wav") {
            true => Ok(wav.clone()),
            false => cuts.map(|cuts| cuts.as_bytes().to_vec()).ok_or_else(|| std::io::ErrorKind::NotFound.into()),
        };
        inspect(entry, Path::new("a.wav"), read).faults.join("\n")
    }

    #[test]
    fn nothing_is_wrong_with_the_built_in_clips() {
        for entry in Manifest::built_in().clip {
            let found = inspect(&entry, &entry.file, built_in_file);
            assert!(found.faults.is_empty(), "{}: {:?}", entry.name, found.faults);
            assert!(found.rate == RATE && found.level_dbfs.is_some() && entry.language.code().len() == 2);
        }
        assert_eq!(Language::ALL.len(), 3);
    }

    #[test]
    fn each_fault_of_a_clip_is_named() {
        let word = |rate: u32, dbfs| tone::sine_at(rate, 500.0, dbfs, rate as usize);
        let greeting = entry(ClipKind::Greeting);
        let good = "samples = 16000\ncut_points_ms = []\n";
        assert_eq!(faults(&greeting, wav::write(RATE, 1, &word(RATE, -17.0)), Some(good)), "");
        let late = [vec![0; 800], word(RATE, -17.0)].concat();
        for (wav, cuts, part) in [
            (b"ID3nonsense".to_vec(), None, "not a WAV file"),
            (wav::write(8000, 1, &word(8000, -17.0)), None, "8000 Hz"),
            (wav::write(RATE, 1, &word(RATE, -30.0)), None, "-33.0 dBFS"),
            (wav::write(RATE, 1, &late), None, "50 ms of silence before"),
            (wav::write(RATE, 1, &[0; 16000]), None, "silent"),
            (wav::write(RATE, 1, &vec![9000; 16000 * 61]), None, "61 s long"),
            (wav::write(RATE, 1, &word(RATE, -17.0)), None, "no cut points are stored"),
            (wav::write(RATE, 1, &word(RATE, -17.0)), Some("samples = 1\ncut_points_ms = []"), "another recording's"),
            (wav::write(RATE, 1, &word(RATE, -17.0)), Some("samples = x"), "cannot be read"),
            (wav::write(RATE, 1, &word(RATE, -17.0)), Some("samples = 16000\ncut_points_ms = [500]"), "not silent at"),
            (
                wav::write(RATE, 1, &word(RATE, -17.0)),
                Some("samples = 16000\ncut_points_ms = [5000]"),
                "behind its end",
            ),
        ] {
            let said = faults(&greeting, wav, cuts);
            assert!(said.contains(part), "{part} is not in {said}");
        }
        let long = [&word(RATE, -17.0)[..]; 4].concat();
        let cuts = "samples = 64000\ncut_points_ms = []\n";
        assert!(faults(&entry(ClipKind::Placeholder), wav::write(RATE, 1, &long), Some(cuts)).contains("would wait"));
    }
}
