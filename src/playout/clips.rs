//! The clips that are played without asking anybody: greeting, placeholders, apology; ready as frames before the first call.
//!
//! A set is a folder with `manifest.toml` and WAV files; one set is built into the program. Whatever rate and level a file has,
//! here it is brought to the line's: 8 kHz, without direct current, silence trimmed, level matched, edges faded.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;
use thiserror::Error;

use crate::config::{self, Language};
use crate::pcm::{self, FRAME_SAMPLES, Frame, RATE, SILENCE, level, resample, wav};
use crate::tts::shape::{self, Gain};

use super::played::PlayableClip;

/// Larger files are refused; half an hour at 8 kHz is far below.
const MAX_FILE_BYTES: u64 = 32 * 1024 * 1024;
/// Longer clips are refused: nobody can get a word in.
const MAX_CLIP: Duration = Duration::from_secs(60);

/// What a clip is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ClipKind {
    /// Played when a call is answered.
    Greeting,
    /// Bridges the wait for an answer.
    Placeholder,
    /// Bridges a wait that has become long.
    Still,
    /// Asks a silent caller whether anybody is there.
    Prompt,
    /// Played when there will be no answer.
    Apology,
    /// The last words before we hang up.
    Goodbye,
}

impl ClipKind {
    /// Whether it bridges a wait, and gives way to whatever ends it.
    pub fn is_placeholder(self) -> bool {
        matches!(self, Self::Placeholder | Self::Still)
    }
}

/// A clip, ready to be played.
#[derive(Debug, Clone)]
pub struct Clip {
    /// Its name in logs and timelines.
    pub name: String,
    /// The language that is spoken.
    pub language: Language,
    /// What it is for.
    pub kind: ClipKind,
    /// What is said.
    pub text: String,
    /// The sound, the last frame filled up with silence.
    pub frames: Arc<[Frame]>,
    /// Samples of sound in `frames`, without that filling.
    pub voiced_samples: usize,
    /// Where the clip may be stopped without cutting a word, from its start; the last one is its end.
    pub cut_points: Arc<[Duration]>,
    /// The same in samples, for the mixer.
    pub cuts: Arc<[u32]>,
}

impl Clip {
    /// The clip as the mixer takes it, with its place in the list that its owner keeps. Both share the sound: the library outlives the call, so
    /// that the media thread frees nothing.
    pub fn playable(&self, index: u16) -> PlayableClip {
        PlayableClip { kind: self.kind, index, frames: self.frames.clone(), cuts: self.cuts.clone() }
    }
}

/// What is wrong with a set of clips.
#[derive(Debug, Error)]
pub enum ClipError {
    /// A file cannot be read.
    #[error("cannot read the clip file {path}: {cause}; check `placeholder.clips` and `placeholder.clip`, and that the user offhook may read it", path = .path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        cause: std::io::Error,
    },
    /// The manifest is not what it should be.
    #[error("{path}: {note}; audio/manifest.toml of the distribution is an example", path = .path.display())]
    Manifest {
        /// The manifest.
        path: PathBuf,
        /// Line and key.
        note: String,
    },
    /// A file is not usable WAV.
    #[error("{path}: {cause}; convert it with `sox IN -r 8000 -c 1 -b 16 OUT.wav`", path = .path.display())]
    Wav {
        /// The file.
        path: PathBuf,
        /// Why.
        cause: wav::WavError,
    },
    /// A file holds nothing that can be played.
    #[error("{path}: {note}; record or render it again", path = .path.display())]
    Sound {
        /// The file.
        path: PathBuf,
        /// Why.
        note: String,
    },
    /// The set lacks a clip that is needed.
    #[error("{set} has no clip with language = \"{language}\" and kind = \"{kind}\"; add one to its manifest.toml, or leave `placeholder.clips` out to use the built-in set", language = .language.code())]
    Missing {
        /// Where the set comes from.
        set: String,
        /// The language.
        language: Language,
        /// The kind, as the manifest writes it.
        kind: &'static str,
    },
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Manifest {
    #[serde(default)]
    clip: Vec<Entry>,
}

/// A clip as the manifest describes it. The fields behind `cut_points_ms` are for people.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    name: String,
    file: PathBuf,
    language: Language,
    kind: ClipKind,
    text: String,
    #[serde(default)]
    cut_points_ms: Vec<u64>,
    #[serde(rename = "phonemes")]
    _phonemes: Option<String>,
    #[serde(rename = "voice")]
    _voice: Option<String>,
    #[serde(rename = "made")]
    _made: Option<String>,
    #[serde(rename = "licence")]
    _licence: Option<String>,
    #[serde(rename = "duration_ms")]
    _duration_ms: Option<u64>,
}

/// The clips of all languages.
#[derive(Debug, Clone)]
pub struct Clips {
    set: String,
    clips: HashMap<(Language, ClipKind), Vec<Clip>>,
}

macro_rules! embedded {
    ($($file:literal),* $(,)?) => {
        &[$(($file, include_bytes!(concat!("../../audio/", $file)))),*]
    };
}

const EMBEDDED_MANIFEST: &str = include_str!("../../audio/manifest.toml");
const EMBEDDED: &[(&str, &[u8])] = embedded![
    "en/greeting.wav",
    "en/one-sec.wav",
    "en/a-moment.wav",
    "en/let-me-see.wav",
    "en/apology.wav",
    "ru/greeting.wav",
    "ru/sekundu.wav",
    "ru/minutku.wav",
    "ru/moment.wav",
    "ru/apology.wav",
    "he/greeting.wav",
    "he/rega.wav",
    "he/shniya.wav",
    "he/daka.wav",
    "he/apology.wav",
];

impl Clips {
    /// The set that the configuration asks for, matched to `level_dbfs` over the voiced parts.
    pub fn open(placeholder: &config::Placeholder, level_dbfs: f32) -> Result<Self, ClipError> {
        let clips = match &placeholder.clips {
            Some(folder) => Self::load(folder, level_dbfs)?,
            None => Self::embedded(level_dbfs),
        };
        match &placeholder.clip {
            Some(file) => clips.single_placeholder(file, level_dbfs),
            None => Ok(clips),
        }
    }

    /// The set built into the program.
    pub fn embedded(level_dbfs: f32) -> Self {
        let read = |file: &Path| {
            let found = EMBEDDED.iter().find(|(name, _)| Path::new(name) == file);
            found.map(|(_, bytes)| bytes.to_vec()).ok_or_else(|| std::io::ErrorKind::NotFound.into())
        };
        Self::from_manifest("the built-in set", Path::new(""), EMBEDDED_MANIFEST, level_dbfs, read)
            .expect("a test loads the built-in clips")
    }

    /// The set in a folder.
    pub fn load(folder: &Path, level_dbfs: f32) -> Result<Self, ClipError> {
        let path = folder.join("manifest.toml");
        let manifest = read_file(&path).map_err(|cause| ClipError::Read { path: path.clone(), cause })?;
        let manifest = String::from_utf8(manifest)
            .map_err(|_| ClipError::Manifest { path: path.clone(), note: "not UTF-8".into() })?;
        Self::from_manifest(&folder.display().to_string(), folder, &manifest, level_dbfs, read_file)
    }

    /// This set, with one WAV file in place of the placeholders of every language.
    pub fn single_placeholder(mut self, file: &Path, level_dbfs: f32) -> Result<Self, ClipError> {
        let bytes = read_file(file).map_err(|cause| ClipError::Read { path: file.to_owned(), cause })?;
        let shaped = Shaped::new(file, &bytes, level_dbfs)?;
        let name = file.file_stem().map_or_else(|| "clip".into(), |stem| stem.to_string_lossy().into_owned());
        for language in Language::ALL {
            let clip = shaped.clip(name.clone(), language, ClipKind::Placeholder, String::new(), &[]);
            self.clips.insert((language, ClipKind::Placeholder), vec![clip]);
        }
        Ok(self)
    }

    fn from_manifest(
        set: &str,
        folder: &Path,
        manifest: &str,
        level_dbfs: f32,
        read: impl Fn(&Path) -> std::io::Result<Vec<u8>>,
    ) -> Result<Self, ClipError> {
        let manifest_path = folder.join("manifest.toml");
        let wrong = |note: String| ClipError::Manifest { path: manifest_path.clone(), note };
        let manifest: Manifest = toml::from_str(manifest).map_err(|error| wrong(error.to_string().trim().into()))?;
        let mut clips: HashMap<(Language, ClipKind), Vec<Clip>> = HashMap::new();
        for entry in manifest.clip {
            if entry.cut_points_ms.windows(2).any(|pair| pair[0] >= pair[1]) {
                return Err(wrong(format!("clip \"{}\": cut_points_ms must rise", entry.name)));
            }
            let path = folder.join(&entry.file);
            let bytes = read(&path).map_err(|cause| ClipError::Read { path: path.clone(), cause })?;
            let shaped = Shaped::new(&path, &bytes, level_dbfs)?;
            let clip = shaped.clip(entry.name, entry.language, entry.kind, entry.text, &entry.cut_points_ms);
            clips.entry((clip.language, clip.kind)).or_default().push(clip);
        }
        Ok(Self { set: set.to_owned(), clips })
    }

    /// The placeholders of a language, in the order of the manifest; may be empty.
    pub fn placeholders(&self, language: Language) -> &[Clip] {
        self.of(language, ClipKind::Placeholder)
    }

    /// The greeting of a language.
    pub fn greeting(&self, language: Language) -> Option<&Clip> {
        self.of(language, ClipKind::Greeting).first()
    }

    /// The second placeholders of a language, for a wait that has become long; may be empty.
    pub fn stills(&self, language: Language) -> &[Clip] {
        self.of(language, ClipKind::Still)
    }

    /// What is asked of a silent caller; may be missing.
    pub fn prompt(&self, language: Language) -> Option<&Clip> {
        self.of(language, ClipKind::Prompt).first()
    }

    /// The last words before we hang up; may be missing.
    pub fn goodbye(&self, language: Language) -> Option<&Clip> {
        self.of(language, ClipKind::Goodbye).first()
    }

    /// The apology of a language.
    pub fn apology(&self, language: Language) -> Option<&Clip> {
        self.of(language, ClipKind::Apology).first()
    }

    /// Says which clip is missing that a call in `language` needs.
    pub fn check(&self, language: Language) -> Result<(), ClipError> {
        let kinds =
            [(ClipKind::Greeting, "greeting"), (ClipKind::Placeholder, "placeholder"), (ClipKind::Apology, "apology")];
        match kinds.into_iter().find(|(kind, _)| self.of(language, *kind).is_empty()) {
            Some((_, kind)) => Err(ClipError::Missing { set: self.set.clone(), language, kind }),
            None => Ok(()),
        }
    }

    fn of(&self, language: Language, kind: ClipKind) -> &[Clip] {
        self.clips.get(&(language, kind)).map_or(&[], Vec::as_slice)
    }
}

fn read_file(path: &Path) -> std::io::Result<Vec<u8>> {
    let metadata = std::fs::metadata(path)?;
    if !metadata.is_file() || metadata.len() > MAX_FILE_BYTES {
        return Err(std::io::Error::other(format!("not a regular file of at most {MAX_FILE_BYTES} bytes")));
    }
    std::fs::read(path)
}

/// A file's sound, as the line wants it.
struct Shaped {
    frames: Arc<[Frame]>,
    samples: usize,
    /// Silence that was trimmed off the front.
    trimmed: Duration,
}

impl Shaped {
    fn new(path: &Path, bytes: &[u8], level_dbfs: f32) -> Result<Self, ClipError> {
        let unusable = |note: String| ClipError::Sound { path: path.to_owned(), note };
        let mut sound = wav::read(bytes).map_err(|cause| ClipError::Wav { path: path.to_owned(), cause })?;
        if sound.samples.len() as u64 > MAX_CLIP.as_secs() * u64::from(sound.rate) {
            return Err(unusable(format!("longer than {} s", MAX_CLIP.as_secs())));
        }
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
        Ok(Self { frames, samples: samples.len(), trimmed })
    }

    fn clip(&self, name: String, language: Language, kind: ClipKind, text: String, cut_points_ms: &[u64]) -> Clip {
        let end = pcm::duration(self.samples as u64);
        let cut_points: Arc<[Duration]> = cut_points_ms
            .iter()
            .map(|&ms| Duration::from_millis(ms).saturating_sub(self.trimmed))
            .filter(|&at| at < end)
            .chain([end])
            .collect();
        let cuts = cut_points.iter().map(|&at| pcm::samples_in(at) as u32).collect();
        let frames = self.frames.clone();
        Clip { name, language, kind, text, frames, voiced_samples: self.samples, cut_points, cuts }
    }
}

fn remove_direct_current(samples: &mut [i16]) {
    let mean = samples.iter().map(|&s| i64::from(s)).sum::<i64>() / samples.len().max(1) as i64;
    for sample in samples {
        *sample = (i64::from(*sample) - mean).clamp(i64::from(i16::MIN), i64::from(i16::MAX)) as i16;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pcm::tone;

    fn sound(clip: &Clip) -> Vec<i16> {
        clip.frames.concat()[..clip.voiced_samples].to_vec()
    }

    fn tone_wav(rate: u32, dbfs: f32) -> Vec<u8> {
        let mut samples = vec![300i16; 4000];
        samples.extend(tone::sine(500.0 * RATE as f32 / rate as f32, dbfs, rate as usize / 2).iter().map(|s| s + 300));
        samples.extend([300; 5000]);
        wav::write(rate, 1, &samples)
    }

    const MANIFEST: &str =
        "[[clip]]\nname = \"a\"\nfile = \"a.wav\"\nlanguage = \"en\"\nkind = \"placeholder\"\ntext = \"x\"\n";

    #[test]
    fn every_language_of_the_built_in_set_is_complete_level_and_tight() {
        let clips = Clips::embedded(-20.0);
        for language in Language::ALL {
            clips.check(language).unwrap();
            assert!(clips.placeholders(language).len() >= 3);
            let mut all: Vec<&Clip> = clips.placeholders(language).iter().collect();
            all.extend(clips.greeting(language));
            all.extend(clips.apology(language));
            for clip in all {
                let sound = sound(clip);
                let level = level::active_dbfs(&sound).unwrap();
                assert!((level + 20.0).abs() < 1.0, "{}: {level}", clip.name);
                assert!(level::peak_dbfs(&sound) < -0.5, "{}", clip.name);
                let lead = sound.iter().position(|s| s.unsigned_abs() > shape::EDGE).unwrap();
                assert!(lead <= 80, "{}: {lead} samples of silence", clip.name);
                assert_eq!(clip.frames.len(), sound.len().div_ceil(FRAME_SAMPLES));
                assert_eq!(*clip.cut_points.last().unwrap(), pcm::duration(sound.len() as u64));
                assert!(!clip.text.is_empty());
            }
        }
    }

    #[test]
    fn a_built_in_placeholder_is_over_before_a_quick_answer_is_ready_and_no_two_say_the_same() {
        let clips = Clips::embedded(-20.0);
        for language in Language::ALL {
            let placeholders = clips.placeholders(language);
            for clip in placeholders {
                let audible = pcm::duration(clip.voiced_samples as u64).as_millis();
                assert!((350..=480).contains(&audible), "{}: {audible} ms", clip.name);
                assert!(clip.cut_points[0].as_millis().abs_diff(audible) <= 1, "{}: one phrase", clip.name);
            }
            let texts: std::collections::HashSet<_> = placeholders.iter().map(|clip| &clip.text).collect();
            assert_eq!(texts.len(), placeholders.len());
        }
    }

    #[test]
    fn the_manifest_of_the_built_in_set_describes_its_files_and_each_of_them() {
        let manifest: Manifest = toml::from_str(EMBEDDED_MANIFEST).unwrap();
        assert_eq!(manifest.clip.len(), EMBEDDED.len());
        for entry in &manifest.clip {
            let (_, bytes) = EMBEDDED.iter().find(|(file, _)| Path::new(file) == entry.file).unwrap();
            let sound = wav::read(bytes).unwrap();
            let length = pcm::duration(sound.samples.len() as u64).as_millis() as u64;
            let (says, last_cut) = (entry._duration_ms.unwrap(), *entry.cut_points_ms.last().unwrap());
            assert_eq!(sound.rate, RATE);
            assert!(says.abs_diff(length) <= 1 && last_cut == says, "{}: {length} ms, not {says}", entry.name);
            let made = [&entry._voice, &entry._made, &entry._licence];
            assert!(made.iter().all(|field| field.as_deref().is_some_and(|text| !text.is_empty())), "{}", entry.name);
        }
    }

    #[test]
    fn a_foreign_recording_is_brought_to_the_lines_rate_level_and_edges() {
        for (rate, dbfs) in [(8000, -3.0), (22050, -30.0), (48000, -12.0)] {
            let shaped = Shaped::new(Path::new("x.wav"), &tone_wav(rate, dbfs), -20.0).unwrap();
            let clip = shaped.clip("x".into(), Language::En, ClipKind::Greeting, String::new(), &[]);
            let sound = sound(&clip);
            assert!(sound.len().abs_diff(4000) < 200, "{}", sound.len());
            assert!((level::active_dbfs(&sound).unwrap() + 20.0).abs() < 1.0);
            assert!(tone::share_of(500.0, &sound[200..3800]) > 0.99);
            let mean = sound.iter().map(|&s| i32::from(s)).sum::<i32>() / sound.len() as i32;
            assert!(mean.abs() < 20, "direct current {mean}");
        }
    }

    #[test]
    fn one_file_replaces_the_placeholders_of_every_language_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("beep.wav");
        std::fs::write(&file, tone_wav(16000, -10.0)).unwrap();
        let placeholder = config::Placeholder { clip: Some(file), ..Default::default() };
        let clips = Clips::open(&placeholder, -20.0).unwrap();
        for language in Language::ALL {
            assert_eq!(clips.placeholders(language).len(), 1);
            assert_eq!(clips.placeholders(language)[0].name, "beep");
            clips.check(language).unwrap();
        }
    }

    #[test]
    fn what_is_wrong_with_a_folder_names_the_file_and_the_remedy() {
        let folder = tempfile::tempdir().unwrap();
        let error = |folder: &Path| Clips::load(folder, -20.0).unwrap_err().to_string();
        assert!(error(folder.path()).contains("manifest.toml"), "{}", error(folder.path()));
        std::fs::write(folder.path().join("manifest.toml"), MANIFEST).unwrap();
        assert!(error(folder.path()).contains("a.wav"));
        for (bytes, says) in [
            (b"garbage".to_vec(), "not a WAV file"),
            (wav::write(8000, 1, &[0; 8000]), "no sound"),
            (wav::write(8000, 1, &[]), "no sound"),
            (wav::write(8000, 1, &vec![9000; 8000 * 61]), "longer than 60 s"),
        ] {
            std::fs::write(folder.path().join("a.wav"), bytes).unwrap();
            assert!(error(folder.path()).contains(says) && error(folder.path()).contains("a.wav"), "{says}");
        }
        std::fs::write(folder.path().join("a.wav"), tone_wav(8000, -10.0)).unwrap();
        let clips = Clips::load(folder.path(), -20.0).unwrap();
        let missing = clips.check(Language::En).unwrap_err().to_string();
        assert!(missing.contains("kind = \"greeting\"") && missing.contains("language = \"en\""), "{missing}");
        std::fs::write(folder.path().join("manifest.toml"), format!("{MANIFEST}txet = 1\n")).unwrap();
        assert!(error(folder.path()).contains("txet"));
        std::fs::write(folder.path().join("manifest.toml"), format!("{MANIFEST}cut_points_ms = [5, 5]\n")).unwrap();
        assert!(error(folder.path()).contains("cut_points_ms"));
    }

    #[test]
    fn cut_points_move_with_the_trimmed_silence() {
        let shaped = Shaped::new(Path::new("x.wav"), &tone_wav(8000, -10.0), -20.0).unwrap();
        let clip = shaped.clip("x".into(), Language::En, ClipKind::Placeholder, String::new(), &[700, 5000]);
        assert!(clip.cut_points[0] >= Duration::from_millis(203) && clip.cut_points[0] <= Duration::from_millis(206));
        assert_eq!(clip.cut_points.len(), 2);
    }
}
