//! A clip's file brought to what the line wants: 16 kHz, without direct current, silence trimmed, level matched, edges faded.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use crate::config::Language;
use crate::pcm::{self, FRAME_SAMPLES, Frame, RATE, SILENCE, level, resample, wav};
use crate::tts::shape::{self, Gain};

use super::clips::{Clip, ClipError, ClipKind, FINDING_DBFS};
use super::cuts::{self, Stored};

/// Longer clips are refused: nobody can get a word in.
pub const MAX_CLIP: Duration = Duration::from_secs(60);

/// A file's sound, as the line wants it.
pub(super) struct Shaped {
    frames: Arc<[Frame]>,
    samples: usize,
    /// Places between words, in samples.
    cuts: Vec<u32>,
    /// Samples that the file has.
    file_samples: usize,
    /// Silence that was trimmed off the front.
    trimmed: Duration,
}

impl Shaped {
    /// Shapes the content of a WAV file; `path` is for complaints.
    pub fn new(path: &Path, bytes: &[u8], level_dbfs: f32) -> Result<Self, ClipError> {
        let sound = wav::read(bytes).map_err(|cause| ClipError::Wav { path: path.to_owned(), cause })?;
        Self::of(path, sound, level_dbfs)
    }

    /// Shapes a sound; `path` is for complaints.
    pub fn of(path: &Path, mut sound: wav::Sound, level_dbfs: f32) -> Result<Self, ClipError> {
        let unusable = |note: String| ClipError::Sound { path: path.to_owned(), note };
        if sound.samples.len() as u64 > MAX_CLIP.as_secs() * u64::from(sound.rate) {
            return Err(unusable(format!("longer than {} s", MAX_CLIP.as_secs())));
        }
        let file_samples = sound.samples.len();
        // Before the resampler, which would ring at the steps that direct current makes at both ends.
        remove_direct_current(&mut sound.samples);
        let mut samples = resample::resample(&sound.samples, sound.rate, RATE);
        // Level first, so that the silence threshold means the same for a soft recording.
        let gain = Gain::matching(&samples, level_dbfs)
            .ok_or_else(|| unusable(format!("no sound above {} dBFS", level::VOICED_DBFS)))?;
        gain.apply(&mut samples);
        let audible = shape::audible(&samples);
        let trimmed = pcm::duration(audible.start as u64);
        let mut samples = samples[audible].to_vec();
        shape::fade_edges(&mut samples);
        let frames = samples
            .chunks(FRAME_SAMPLES)
            .map(|chunk| {
                let mut frame = SILENCE;
                frame[..chunk.len()].copy_from_slice(chunk);
                frame
            })
            .collect();
        Ok(Self { frames, samples: samples.len(), cuts: cuts::find(&samples), file_samples, trimmed })
    }

    /// Samples that the file has, by which it is known again.
    pub fn file_samples(&self) -> usize {
        self.file_samples
    }

    /// The cut points that were found, as they are stored.
    pub fn found(&self) -> Stored {
        let ms = |&cut: &u32| (pcm::duration(u64::from(cut)) + self.trimmed).as_millis() as u64;
        Stored { samples: self.file_samples, cut_points_ms: self.cuts.iter().map(ms).collect() }
    }

    /// The clip, with the cut points that are known from elsewhere (from the beginning of the file), or those that were found.
    pub fn clip(
        &self,
        name: String,
        language: Language,
        kind: ClipKind,
        text: String,
        cut_points_ms: Option<&[u64]>,
    ) -> Clip {
        let known = |&ms: &u64| {
            let at = Duration::from_millis(ms.min(MAX_CLIP.as_millis() as u64)).checked_sub(self.trimmed)?;
            Some(pcm::samples_in(at) as u32)
        };
        let cuts = cut_points_ms.map_or_else(|| self.cuts.clone(), |points| points.iter().filter_map(known).collect());
        let end = self.samples as u32;
        let cuts: Arc<[u32]> = cuts.into_iter().filter(|&cut| cut < end).chain([end]).collect();
        let frames = self.frames.clone();
        Clip { name, language, kind, text, frames, voiced_samples: self.samples, cuts }
    }
}

/// A sound made into a clip, as its two files hold it.
#[derive(Debug)]
pub struct Prepared {
    /// A WAV file at the house's rate: without direct current, silence trimmed, level matched.
    pub wav: Vec<u8>,
    /// Where it may be cut.
    pub cuts: String,
    /// Its length.
    pub duration: Duration,
}

impl Prepared {
    /// Makes a clip of a sound; `path` is for complaints.
    ///
    /// # Errors
    /// When it is silent or too long.
    pub fn new(path: &Path, sound: wav::Sound) -> Result<Self, ClipError> {
        let shaped = Shaped::of(path, sound, FINDING_DBFS)?;
        let wav = wav::write(RATE, 1, &shaped.frames.concat()[..shaped.samples]);
        let duration = pcm::duration(shaped.samples as u64);
        // Found in what is stored, as whoever loads it would find them.
        let cuts = Shaped::new(path, &wav, FINDING_DBFS)?.found().write();
        Ok(Self { wav, cuts, duration })
    }
}

fn remove_direct_current(samples: &mut [i16]) {
    let mean = samples.iter().map(|&s| i64::from(s)).sum::<i64>() / samples.len().max(1) as i64;
    for sample in samples {
        *sample = (i64::from(*sample) - mean).clamp(i64::from(i16::MIN), i64::from(i16::MAX)) as i16;
    }
}
