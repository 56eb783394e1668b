//! `offhook clips`: what the box says without asking anybody: list it, listen to it, check it, render it, and put recordings of one's own
//! into it, while the box runs.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

use serde::Serialize;

use crate::clips::{About, OwnClips, OwnError, RecordingError, read_recording, spoken};
use crate::config::{Config, Language};
use crate::http::Http;
use crate::loopback::{self, Audition, CardError, Choice};
use crate::pcm::{self, PTIME, RATE, level, wav};
use crate::playout::ClipKind;
use crate::playout::clips::{Clip, ClipError, Clips, Entry, MAX_CLIP, Manifest, Prepared, built_in_file};
use crate::playout::inspection::{Inspection, inspect};
use crate::{daemon, gemini, tts};

use super::evaluate::Bar;
use super::{Exit, Failure, check};

/// What the user typed.
#[derive(Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
    /// A folder with manifest.toml and its clips; left out: the clips built into the program
    folder: Option<PathBuf>,
    /// Find where each clip may be cut and write it beside the clip, as NAME.cuts.toml
    #[arg(long, requires = "folder")]
    write_cuts: bool,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Show each clip that calls play: text, length, level, where it may be cut, and whether it is your own
    List {
        #[command(flatten)]
        configuration: Configuration,
        /// As one JSON list
        #[arg(long)]
        json: bool,
    },
    /// Play a clip as the caller hears it, through a loudspeaker or into a WAV file
    Play {
        /// Its name, as `list` shows it
        id: String,
        /// A WAV file to write, in place of a loudspeaker
        #[arg(long, value_name = "FILE", conflicts_with = "output")]
        to: Option<PathBuf>,
        /// The loudspeaker, as `offhook talk --list` shows it
        #[arg(long, value_name = "DEVICE", default_value = "default")]
        output: Choice,
        #[command(flatten)]
        configuration: Configuration,
    },
    /// Check rate, level, length, leading silence and cut points of each clip's files; ends with 65 when something is wrong
    Check {
        /// A folder with manifest.toml; left out: the clips that the configuration asks for
        folder: Option<PathBuf>,
        #[command(flatten)]
        configuration: Configuration,
    },
    /// Speak clips in the configured voice and put them into your own set
    Render {
        #[command(flatten)]
        own: Own,
        /// Languages, such as en,he; left out: all of them
        #[arg(long, value_delimiter = ',')]
        lang: Vec<Language>,
        /// What to say; left out: the texts of all built-in clips
        #[arg(long, requires_all = ["id", "kind", "lang"])]
        text: Option<String>,
        /// The new clip's name
        #[arg(long, requires = "text")]
        id: Option<String>,
        /// What the new clip is for
        #[arg(long, requires = "text")]
        kind: Option<ClipKind>,
    },
    /// Put a recording (WAV, MP3, Ogg Vorbis, FLAC) into your own set: trimmed, levelled, its cut points found
    Import {
        /// The recording
        file: PathBuf,
        /// The clip's name; one of the same name and language is replaced
        #[arg(long)]
        id: String,
        /// The language that is spoken
        #[arg(long)]
        lang: Language,
        /// What it is for
        #[arg(long, default_value = "placeholder")]
        kind: ClipKind,
        /// What is said; the model is told of it, so that it does not say it again
        #[arg(long, default_value = "")]
        text: String,
        /// Who speaks
        #[arg(long)]
        voice: Option<String>,
        #[command(flatten)]
        own: Own,
    },
    /// Take a clip out of your own set
    Remove {
        /// Its name
        id: String,
        /// Its language, where there are clips of that name in several
        #[arg(long)]
        lang: Option<Language>,
        #[command(flatten)]
        own: Own,
    },
}

/// Which clips are meant.
#[derive(Debug, clap::Args)]
struct Configuration {
    /// The configuration that says which clips are played; left out: the built-in ones
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

impl Configuration {
    fn load(&self) -> Result<Config, Failure> {
        self.config.as_deref().map_or_else(|| Ok(Config::default()), check::load)
    }
}

/// Which set of one's own is meant.
#[derive(Debug, clap::Args)]
struct Own {
    /// The configuration that names the folder
    #[arg(long, value_name = "FILE", required_unless_present = "folder")]
    config: Option<PathBuf>,
    /// The folder of sets, in place of the configuration's
    #[arg(long, value_name = "DIR")]
    folder: Option<PathBuf>,
    /// The set, in place of the configuration's: one for each persona
    #[arg(long)]
    set: Option<String>,
}

impl Own {
    fn open(&self) -> Result<(Config, OwnClips), Failure> {
        let mut config = self.config.as_deref().map_or_else(|| Ok(Config::default()), check::load)?;
        if let Some(folder) = &self.folder {
            config.clips.folder = Some(folder.clone());
        }
        if let Some(set) = &self.set {
            if !crate::config::OwnClips::is_name(set) {
                let note = format!("{set:?} is no name of a set; take up to 32 of a to z, 0 to 9 and -");
                return Err(Failure::new(Exit::Usage, note));
            }
            config.clips.set.clone_from(set);
        }
        let own = OwnClips::of(&config.clips).ok_or_else(|| {
            Failure::new(Exit::Config, "the configuration names no folder for your own clips; set folder in [clips]")
        })?;
        Ok((config, own))
    }
}

/// Does what was asked for.
pub async fn run(arguments: Arguments) -> Result<ExitCode, Failure> {
    match arguments.command {
        None => list_folder(arguments.folder.as_deref(), arguments.write_cuts),
        Some(Command::List { configuration, json }) => {
            let clips = Clips::configured(&configuration.load()?)?;
            list(&clips, json);
            Ok(ExitCode::SUCCESS)
        }
        Some(Command::Play { id, to, output, configuration }) => {
            let clips = Clips::configured(&configuration.load()?)?;
            let clip = clips.iter().find(|clip| clip.name == id).ok_or_else(|| {
                Failure::new(Exit::NoInput, format!("there is no clip {id}; `offhook clips list` shows all of them"))
            })?;
            match to {
                Some(to) => write(&to, &wav::write(RATE, 1, &sound(clip))),
                None => play(&output, sound(clip)),
            }
        }
        Some(Command::Check { folder, configuration }) => check_all(folder.as_deref(), &configuration.load()?),
        Some(Command::Render { own, lang, text, id, kind }) => {
            let (config, own) = own.open()?;
            let wanted = match (text, id, kind) {
                (Some(text), Some(id), Some(kind)) => {
                    lang.iter().map(|&language| wanted(&id, language, kind, &text)).collect::<Vec<_>>()
                }
                _ => {
                    let of = |entry: &Entry| lang.is_empty() || lang.contains(&entry.language);
                    let entries = Manifest::built_in().clip;
                    let entries = entries.iter().filter(|entry| of(entry));
                    entries.map(|entry| wanted(&entry.name, entry.language, entry.kind, &entry.text)).collect()
                }
            };
            render(&config, &own, wanted).await
        }
        Some(Command::Import { file, id, lang, kind, text, voice, own }) => {
            let (_, own) = own.open()?;
            let prepared = Prepared::new(&file, read_recording(&file, MAX_CLIP)?)?;
            let name = file.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
            let made = format!("imported from {name}");
            put(&own, &About { id, language: lang, kind, text, voice, made }, &prepared)
        }
        Some(Command::Remove { id, lang, own }) => {
            own.open()?.1.remove(&id, lang)?;
            Ok(ExitCode::SUCCESS)
        }
    }
}

fn list_folder(folder: Option<&Path>, write_cuts: bool) -> Result<ExitCode, Failure> {
    let level_dbfs = Config::default().voice.level_dbfs;
    let clips = match folder {
        Some(folder) => {
            if write_cuts {
                Clips::write_cuts(folder)?;
            }
            Clips::load(folder, level_dbfs)?
        }
        None => Clips::embedded(level_dbfs),
    };
    list(&clips, false);
    Ok(ExitCode::SUCCESS)
}

/// A clip as a program reads of it.
#[derive(Serialize)]
struct Listed<'a> {
    id: &'a str,
    language: Language,
    kind: ClipKind,
    text: &'a str,
    from: &'static str,
    length_ms: u64,
    level_dbfs: Option<f32>,
    cut_points_ms: Vec<u64>,
}

fn list(clips: &Clips, json: bool) {
    let ms = |samples: u64| u64::try_from(pcm::duration(samples).as_millis()).unwrap_or(u64::MAX);
    let listed: Vec<_> = clips
        .iter()
        .map(|clip| Listed {
            id: &clip.name,
            language: clip.language,
            kind: clip.kind,
            text: &clip.text,
            from: match clips.is_own(clip.language, clip.kind) {
                true => "own",
                false if clips.is_built_in() => "built in",
                false => "folder",
            },
            length_ms: ms(clip.voiced_samples as u64),
            level_dbfs: level::active_dbfs(&sound(clip)),
            cut_points_ms: clip.cuts.iter().map(|&cut| ms(u64::from(cut))).collect(),
        })
        .collect();
    let mut out = std::io::stdout().lock();
    if json {
        let _ = writeln!(out, "{}", serde_json::to_string_pretty(&listed).unwrap_or_default());
        return;
    }
    for clip in listed {
        let cuts: Vec<_> = clip.cut_points_ms.iter().map(u64::to_string).collect();
        // A reader that has closed its end has read enough.
        let _ = writeln!(
            out,
            "{} {:<11} {:<26} {:>5} ms {:>6.1} dBFS  {:<8} {}\n    may be cut after {} ms",
            clip.language.code(),
            clip.kind.name(),
            clip.id,
            clip.length_ms,
            clip.level_dbfs.unwrap_or(-120.0),
            clip.from,
            clip.text,
            cuts.join(", ")
        );
    }
}

fn sound(clip: &Clip) -> Vec<i16> {
    clip.frames.concat()[..clip.voiced_samples].to_vec()
}

/// Plays it through a loudspeaker.
fn play(output: &Choice, sound: Vec<i16>) -> Result<ExitCode, Failure> {
    let heard = || -> Result<(), CardError> {
        let mut card = loopback::cards()?;
        let began = Instant::now();
        let mut audition = Audition::open(card.as_mut(), output, sound, began)?;
        let mut due = began;
        while audition.tick(Instant::now())? {
            due += PTIME;
            std::thread::sleep(due.saturating_duration_since(Instant::now()));
        }
        Ok(())
    };
    heard()
        .map(|()| ExitCode::SUCCESS)
        .map_err(|error| Failure { code: ExitCode::from(error.exit_status()), message: error.to_string() })
}

fn write(path: &Path, bytes: &[u8]) -> Result<ExitCode, Failure> {
    std::fs::write(path, bytes)
        .map(|()| ExitCode::SUCCESS)
        .map_err(|error| Failure::new(Exit::CannotCreate, format!("cannot write {}: {error}", path.display())))
}

/// Checks what there is in a folder, or else all that the configuration asks for.
fn check_all(folder: Option<&Path>, config: &Config) -> Result<ExitCode, Failure> {
    let mut faults = 0;
    let mut clips = 0;
    let mut set = |from: Option<&Path>| -> Result<(), Failure> {
        let manifest = from.map_or_else(|| Ok(Manifest::built_in()), Manifest::read)?;
        for entry in &manifest.clip {
            let found = match from {
                Some(folder) => inspect(entry, &folder.join(&entry.file), |path| std::fs::read(path)),
                None => inspect(entry, &entry.file, built_in_file),
            };
            show(entry, &found);
            clips += 1;
            faults += found.faults.len();
        }
        Ok(())
    };
    match folder {
        Some(folder) => set(Some(folder))?,
        None => {
            set(config.placeholder.clips.as_deref())?;
            if let Some(own) = config.clips.set_folder().filter(|folder| Manifest::path(folder).exists()) {
                set(Some(&own))?;
            }
            // What no single clip tells: whether there are all that a call needs.
            Clips::configured(config)?;
        }
    }
    println!("{clips} clips, {faults} faults");
    Ok(if faults == 0 { ExitCode::SUCCESS } else { ExitCode::from(Exit::Data as u8) })
}

fn show(entry: &Entry, found: &Inspection) {
    let level = found.level_dbfs.map_or_else(|| "     -".into(), |level| format!("{level:>6.1}"));
    println!(
        "{} {:<26} {:>5} Hz {:>6} ms {level} dBFS {:>3} ms before, {:>2} cut points  {}",
        entry.language.code(),
        entry.name,
        found.rate,
        found.length.as_millis(),
        found.leading.as_millis(),
        found.cuts,
        if found.faults.is_empty() { "good" } else { "FAULT" }
    );
    for fault in &found.faults {
        println!("    {fault}");
    }
}

fn wanted(id: &str, language: Language, kind: ClipKind, text: &str) -> About {
    let voice = None;
    About { id: id.into(), language, kind, text: text.into(), voice, made: "rendered by `offhook clips render`".into() }
}

/// Speaks all of them in the configured voice: the network's where there is one, and no other in its place.
async fn render(config: &Config, own: &OwnClips, wanted: Vec<About>) -> Result<ExitCode, Failure> {
    let unusable = |error: &dyn std::fmt::Display| Failure::new(Exit::Config, error.to_string());
    let http = Http::new(config.gemini.connect).map_err(|error| unusable(&error))?;
    // The models may have no key: only a voice of the same provider takes it.
    let key = gemini::key(&config.gemini).ok().flatten();
    let key = daemon::voice_key(config, key.as_ref()).map_err(|error| unusable(&error))?;
    let network =
        tts::network::open(&config.network_voice, &config.voice, key, &http).map_err(|error| unusable(&error))?;
    let voice = match network {
        Some(voice) => voice,
        None => std::sync::Arc::new(tts::CommandSynthesizer::new(&config.voice).map_err(|error| unusable(&error))?),
    };
    let bar = Bar::default();
    let mut failed = 0;
    for (done, about) in wanted.iter().enumerate() {
        bar.show("rendering", done, wanted.len());
        let source = PathBuf::from(format!("{} ({})", about.id, about.language.code()));
        let made = match spoken(&*voice, &about.text, about.language).await {
            Ok(samples) => {
                Prepared::new(&source, wav::Sound { rate: RATE, samples }).map_err(|error| error.to_string())
            }
            Err(error) => Err(error.to_string()),
        };
        match made {
            Ok(prepared) => drop(own.put(about, &prepared)?),
            Err(error) => {
                failed += 1;
                eprintln!("offhook: {} is not rendered: {error}", source.display());
            }
        }
    }
    bar.show("rendering", wanted.len(), wanted.len());
    println!("{} clips in {}", wanted.len() - failed, own.folder().display());
    if failed == 0 { Ok(ExitCode::SUCCESS) } else { Ok(ExitCode::from(Exit::Unavailable as u8)) }
}

fn put(own: &OwnClips, about: &About, prepared: &Prepared) -> Result<ExitCode, Failure> {
    let path = own.put(about, prepared)?;
    println!(
        "{} ({} ms): a box that runs takes it up for its next call",
        path.display(),
        prepared.duration.as_millis()
    );
    Ok(ExitCode::SUCCESS)
}

fn exit_of(error: &ClipError) -> Exit {
    match error {
        ClipError::Write { .. } => Exit::CannotCreate,
        ClipError::Manifest { .. } | ClipError::Wav { .. } | ClipError::Sound { .. } | ClipError::Cuts { .. } => {
            Exit::Data
        }
        ClipError::Read { .. } | ClipError::Missing { .. } => Exit::NoInput,
    }
}

impl From<ClipError> for Failure {
    fn from(error: ClipError) -> Self {
        Self::new(exit_of(&error), error)
    }
}

impl From<RecordingError> for Failure {
    fn from(error: RecordingError) -> Self {
        let exit = if matches!(error, RecordingError::Read { .. }) { Exit::NoInput } else { Exit::Data };
        Self::new(exit, error)
    }
}

impl From<OwnError> for Failure {
    fn from(error: OwnError) -> Self {
        let exit = match &error {
            OwnError::Write { .. } | OwnError::Full { .. } => Exit::CannotCreate,
            OwnError::Name { .. } | OwnError::Ambiguous { .. } => Exit::Usage,
            OwnError::Clips(error) => exit_of(error),
            OwnError::Unknown { .. } => Exit::NoInput,
        };
        Self::new(exit, error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_file_holds_and_that_it_cannot_be_read_end_differently_whoever_reads_it() {
        let (path, note) = (PathBuf::from("manifest.toml"), String::from("line 3"));
        let gone = || ClipError::Read { path: path.clone(), cause: std::io::ErrorKind::NotFound.into() };
        let wrong = || ClipError::Manifest { path: path.clone(), note: note.clone() };
        let wav = wav::read(b"no sound").unwrap_err();
        for (error, exit) in [
            (gone(), Exit::NoInput),
            (wrong(), Exit::Data),
            (ClipError::Cuts { path: path.clone(), note: note.clone() }, Exit::Data),
            (ClipError::Sound { path: path.clone(), note: note.clone() }, Exit::Data),
            (ClipError::Wav { path: path.clone(), cause: wav }, Exit::Data),
        ] {
            assert_eq!(Failure::from(error).code, ExitCode::from(exit as u8));
        }
        assert_eq!(Failure::from(OwnError::from(wrong())).code, ExitCode::from(Exit::Data as u8));
        assert_eq!(Failure::from(OwnError::from(gone())).code, ExitCode::from(Exit::NoInput as u8));
    }
}
