//! The callers' voices: texts spoken by espeak-ng, brought to the telephone's band, each once in a run.

use std::collections::HashMap;
use std::ops::Range;
use std::process::Command;
use std::sync::{Arc, Mutex, PoisonError};

use crate::pcm::telephone::RATE;
use crate::pcm::{level, resample, wav};

use super::{EvaluationError, line};

/// Level of a voice over its voiced parts; a corpus changes it a little from caller to caller.
pub(super) const LEVEL_DBFS: f32 = -23.0;
/// 10 ms: over so long it is judged whether a sound is voice.
pub(super) const HOP: usize = 80;

/// Something that is spoken: what decides how it sounds.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Words {
    /// Voice of espeak-ng.
    pub(super) voice: &'static str,
    /// Words a minute.
    pub(super) rate: u32,
    /// Text, or phonemes in `[[…]]`.
    pub(super) text: String,
}

/// Spoken words: 8 kHz, telephone band, [`LEVEL_DBFS`].
#[derive(Debug)]
pub(super) struct Speech {
    /// The sound, with what is softer than voice at either end.
    pub(super) samples: Vec<i16>,
    /// From its first to its last voiced 10 ms.
    pub(super) voiced: Range<usize>,
}

/// What has been spoken in this run.
#[derive(Debug, Default)]
pub(super) struct Voices {
    spoken: Mutex<HashMap<Words, Arc<Speech>>>,
}

impl Voices {
    /// The sound of these words. Blocks while espeak-ng speaks, the first time.
    pub(super) fn speak(&self, words: &Words) -> Result<Arc<Speech>, EvaluationError> {
        let known = |voices: &Self| {
            let spoken = voices.spoken.lock().unwrap_or_else(PoisonError::into_inner);
            spoken.get(words).cloned()
        };
        if let Some(speech) = known(self) {
            return Ok(speech);
        }
        // Two threads may speak the same words at once: they sound the same.
        let speech = Arc::new(espeak(words)?);
        let mut spoken = self.spoken.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(spoken.entry(words.clone()).or_insert(speech).clone())
    }
}

/// Whether 10 ms of clean sound are voice to whoever listens.
pub(super) fn is_voiced(hop: &[i16]) -> bool {
    level::rms_dbfs(hop) > level::VOICED_DBFS
}

fn espeak(words: &Words) -> Result<Speech, EvaluationError> {
    let failed = |note: String| EvaluationError::Voice { voice: words.voice.to_owned(), note };
    let output = Command::new("espeak-ng")
        .args(["-v", words.voice, "-s", &words.rate.to_string(), "-z", "--stdout", "--", &words.text])
        .output()
        .map_err(EvaluationError::NoVoice)?;
    if !output.status.success() || output.stdout.is_empty() {
        return Err(failed(String::from_utf8_lossy(&output.stderr).trim().to_owned()));
    }
    let mut sound = wav::read(&output.stdout).map_err(|error| failed(error.to_string()))?;
    // Room for the peaks that resampling and filtering make.
    level::apply_gain(&mut sound.samples, -6.0);
    let mut samples = line::telephone_band(&resample::resample(&sound.samples, sound.rate, RATE));
    let active = level::active_dbfs_at(RATE, &samples).ok_or_else(|| failed(format!("{:?} is silent", words.text)))?;
    level::apply_gain(&mut samples, LEVEL_DBFS - active);
    let hops = || samples.chunks(HOP);
    let (Some(first), Some(last)) = (hops().position(is_voiced), hops().rposition(is_voiced)) else {
        return Err(failed(format!("{:?} is silent", words.text)));
    };
    let voiced = first * HOP..((last + 1) * HOP).min(samples.len());
    Ok(Speech { samples, voiced })
}
