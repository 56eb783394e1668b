//! An appliance that says everything in a tone of its own, so that a test can ask who is heard.

use std::path::Path;

use offhook::config::Config;
use offhook::pcm::{FRAME_SAMPLES, RATE, level, tone, wav};

/// A voiced frame belongs to a tone when so much of its power does.
const SHARE: f32 = 0.8;
/// Shorter sounds are the seams between two tones.
const SEAM: usize = 3;

/// What the appliance can be heard saying.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sound {
    Greeting,
    Placeholder,
    Apology,
    /// The question whether anybody is there.
    Prompt,
    Goodbye,
    /// A phrase of the simulator's first answer, or of any but the second.
    Answer,
    /// A phrase of the simulator's second answer.
    Second,
    /// The model that speaks by itself.
    Live,
    /// Anything else that is voiced.
    Other,
}
use Sound::{Answer, Apology, Goodbye, Greeting, Live, Other, Placeholder, Prompt, Second};

/// Pitches that neither share a harmonic nor lie in one another's bin.
const TONES: [(Sound, f32); 8] = [
    (Greeting, 500.0),
    (Placeholder, 690.0),
    (Apology, 910.0),
    (Answer, 1130.0),
    (Prompt, 1290.0),
    (Second, 1610.0),
    (Goodbye, 1930.0),
    (Live, 2430.0),
];
/// How long each lasts.
const LENGTH_MS: [(Sound, usize); 8] = [
    (Greeting, 1000),
    (Placeholder, 400),
    (Apology, 500),
    (Answer, 600),
    (Prompt, 300),
    (Second, 600),
    (Goodbye, 300),
    (Live, 200),
];

/// A stretch of one sound; silence inside it does not end it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stretch {
    pub sound: Sound,
    /// Its voiced frames.
    pub frames: usize,
}

/// A configuration whose clips and voice are tones.
pub fn tones(folder: &Path) -> Config {
    let file = |sound| folder.join(format!("{sound:?}.wav"));
    for ((sound, hz), (_, ms)) in TONES.into_iter().zip(LENGTH_MS) {
        let samples = tone::sine(hz, -17.0, ms * RATE as usize / 1000);
        std::fs::write(file(sound), wav::write(RATE, 1, &samples)).unwrap();
    }
    let clip = |(kind, sound): (&str, Sound)| {
        format!(
            "[[clip]]\nname = \"{kind}\"\nfile = \"{sound:?}.wav\"\nlanguage = \"en\"\nkind = \"{kind}\"\ntext = \"a tone for the {kind}\"\n"
        )
    };
    let kinds = [
        ("greeting", Greeting),
        ("placeholder", Placeholder),
        ("apology", Apology),
        ("prompt", Prompt),
        ("goodbye", Goodbye),
    ];
    let manifest = kinds.map(clip).concat();
    std::fs::write(folder.join("manifest.toml"), manifest).unwrap();
    let mut config = Config::default();
    config.placeholder.clips = Some(folder.to_owned());
    // Every phrase of the simulator's second answer has one of these words in it, and no other answer has.
    let speak = format!(
        "case \"$(cat)\" in *course*|*arrived*|*script*|*words*) cat {:?};; *) cat {:?};; esac",
        file(Second),
        file(Answer)
    );
    config.voice.command = ["sh", "-c", &speak].map(String::from).to_vec();
    config
}

/// What a frame is, when it is voiced.
pub fn sound_of(frame: &[i16]) -> Option<Sound> {
    (level::rms_dbfs(frame) > level::VOICED_DBFS).then(|| {
        let of = TONES.into_iter().find(|(_, hz)| tone::share_of(*hz, frame) > SHARE);
        of.map_or(Other, |(sound, _)| sound)
    })
}

/// Who is heard in a sound.
pub fn stretches(samples: &[i16]) -> Vec<Stretch> {
    let mut runs: Vec<Stretch> = Vec::new();
    let mut before = None;
    for frame in samples.chunks_exact(FRAME_SAMPLES) {
        let sound = sound_of(frame);
        match (sound, runs.last_mut()) {
            (Some(sound), Some(run)) if before == Some(sound) => run.frames += usize::from(run.sound == sound),
            (Some(sound), _) => runs.push(Stretch { sound, frames: 1 }),
            (None, _) => {}
        }
        before = sound;
    }
    runs.retain(|run| run.frames >= SEAM);
    let mut stretches: Vec<Stretch> = Vec::new();
    for run in runs {
        match stretches.last_mut() {
            Some(last) if last.sound == run.sound => last.frames += run.frames,
            _ => stretches.push(run),
        }
    }
    stretches
}
