//! A voice that is a program: text on its standard input, a WAV file on its standard output.
//!
//! Starting a program costs more than all of its speaking (espeak-ng: 30 ms against 1 ms to the first sound), so that for each
//! language one process waits, started beforehand, with its input open. A process speaks one phrase: the end of its output is the
//! end of the phrase, and killing it is how a phrase is cancelled. If offhook dies, the waiting ones see the end of their input.

use std::pin::pin;
use std::process::{ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::process::{Child, ChildStderr, ChildStdin, ChildStdout, Command};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout, timeout_at};
use tokio_util::sync::CancellationToken;

use crate::config::{self, Language};
use crate::pcm;
use crate::sentence::{Digits, Ends, speakable_with};

use super::levelling::Levelling;
use super::pace::Pace;
use super::stream::{Reader, Trimmer};
use super::{AnswerId, Fault, Fut, Loudness, Say, Synthesizer, known_sentence};

/// No phrase of a telephone answer is longer.
const MAX_PHRASE: Duration = Duration::from_secs(60);
/// How much of the program's standard error is kept.
const MAX_NOTE: usize = 200;

/// The voice of `[voice]`: a pool of one waiting process for each language.
#[derive(Clone)]
pub struct CommandSynthesizer {
    shared: Arc<Shared>,
}

struct Shared {
    voice: config::Voice,
    program: String,
    voices: [PerLanguage; Language::ALL.len()],
    pace: Pace,
}

struct PerLanguage {
    spare: Mutex<Option<Process>>,
    loudness: Loudness,
}

/// A process that waits for its text. Dropping it kills it.
struct Process {
    child: Child,
    stdin: ChildStdin,
    stdout: ChildStdout,
    note: JoinHandle<String>,
}

impl CommandSynthesizer {
    /// The voice that the configuration describes. Starts nothing yet.
    pub fn new(voice: &config::Voice) -> Result<Self, Fault> {
        let program = voice.command.first().filter(|program| !program.is_empty()).ok_or(Fault::NoCommand)?.clone();
        let voices = Language::ALL.map(|language| {
            let identity = format!("{:?} {} {}", voice.command, voice.name(language), language.code());
            PerLanguage { spare: Mutex::default(), loudness: Loudness::of(voice, &identity) }
        });
        Ok(Self { shared: Arc::new(Shared { voice: voice.clone(), program, voices, pace: Pace::default() }) })
    }
}

impl Synthesizer for CommandSynthesizer {
    fn say(&self, say: Say, out: mpsc::Sender<Vec<i16>>, stop: CancellationToken) -> Fut<'static, Result<(), Fault>> {
        let shared = self.shared.clone();
        Box::pin(async move {
            let spoken = shared.speak(&say, &out);
            tokio::select! {
                biased;
                () = stop.cancelled() => {
                    shared.restock(say.language);
                    Ok(())
                }
                result = spoken => result,
            }
        })
    }

    fn identity(&self, language: Language) -> Option<String> {
        // It is quicker than the disk.
        let voice = &self.shared.voice;
        (!self.shared.is_espeak()).then(|| {
            let pauses = (voice.pause_after_clause.as_millis(), voice.pause_after_sentence.as_millis());
            format!(
                "{:?} {} {} {} {pauses:?}",
                voice.command,
                voice.command_answer,
                voice.name(language),
                voice.level_dbfs
            )
        })
    }

    /// Measures the voice's level, too.
    fn check(&self, language: Language) -> Fut<'_, Result<(), Fault>> {
        Box::pin(async move {
            self.shared.warn_of_hebrew(language).await;
            self.shared.measure(language).await
        })
    }

    fn warm(&self, language: Language) -> Fut<'_, Result<(), Fault>> {
        Box::pin(async move {
            let slot = self.shared.slot(language);
            if !slot.loudness.was_heard() {
                self.shared.warn_of_hebrew(language).await;
                self.shared.measure(language).await?;
            }
            self.shared.restock(language);
            Ok(())
        })
    }
}

impl Shared {
    fn slot(&self, language: Language) -> &PerLanguage {
        &self.voices[language as usize]
    }

    /// Tells that espeak-ng before 1.53 is not to be understood in Hebrew.
    async fn warn_of_hebrew(&self, language: Language) {
        if language != Language::He || !self.is_espeak() {
            return;
        }
        let asking = Command::new(&self.program).arg("--version").kill_on_drop(true).output();
        let said = timeout(self.voice.first_audio, asking).await.ok().and_then(Result::ok);
        let said = said.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default();
        let version = said.split_once("text-to-speech: ").and_then(|(_, version)| version.split_whitespace().next());
        if version.is_none_or(|version| is_before(version, (1, 53))) {
            tracing::warn!(
                program = self.program,
                version = version.unwrap_or_default(),
                "this voice cannot read Hebrew without vowel points: answers will be hard to understand; \
                 set voice.command to another one, or a [network_voice]"
            );
        }
    }

    fn is_espeak(&self) -> bool {
        self.program.rsplit('/').next().is_some_and(|name| name.starts_with("espeak"))
    }

    /// espeak-ng before 1.53 is silent where Hebrew has digits.
    fn digits(&self) -> Digits {
        if self.is_espeak() { Digits::Words } else { Digits::Kept }
    }

    /// Starts a process that waits for its text.
    fn start(&self, language: Language) -> Result<Process, Fault> {
        let name = self.voice.name(language);
        let mut command = Command::new(&self.program);
        command
            .args(self.voice.command[1..].iter().map(|argument| argument.replace("{voice}", name)))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .env_remove("GEMINI_API_KEY")
            .env_remove("OFFHOOK_VOICE_KEY")
            .kill_on_drop(true);
        let mut child = command.spawn().map_err(|cause| match cause.kind() {
            std::io::ErrorKind::NotFound => Fault::Missing { program: self.program.clone() },
            _ => Fault::Start { program: self.program.clone(), cause },
        })?;
        let gone = || self.broken(std::io::ErrorKind::BrokenPipe.into());
        let stdin = child.stdin.take().ok_or_else(gone)?;
        let stdout = child.stdout.take().ok_or_else(gone)?;
        let note = tokio::spawn(tail_of(child.stderr.take().ok_or_else(gone)?));
        Ok(Process { child, stdin, stdout, note })
    }

    /// Sees to it that a process waits for the next phrase. A failure shows when that phrase is spoken.
    fn restock(&self, language: Language) {
        let mut spare = self.slot(language).spare.lock().unwrap_or_else(PoisonError::into_inner);
        if !spare.as_mut().is_some_and(Process::waits) {
            *spare = self.start(language).ok();
        }
    }

    /// A process that has its text: the waiting one, or if that died, a new one.
    async fn begin(&self, language: Language, text: &str) -> Result<(Child, ChildStdout, JoinHandle<String>), Fault> {
        let spare = self.slot(language).spare.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(mut process) = spare
            && process.waits()
            && process.stdin.write_all(text.as_bytes()).await.is_ok()
        {
            return Ok((process.child, process.stdout, process.note));
        }
        let mut process = self.start(language)?;
        match process.stdin.write_all(text.as_bytes()).await {
            // A program that ended without reading says why by its exit status, which is looked at when its output ends.
            Err(cause) if cause.kind() != std::io::ErrorKind::BrokenPipe => Err(self.broken(cause)),
            _ => Ok((process.child, process.stdout, process.note)),
        }
    }

    async fn speak(&self, say: &Say, out: &mpsc::Sender<Vec<i16>>) -> Result<(), Fault> {
        let Some(text) = speakable_with(&say.text, say.language, self.digits()) else { return Ok(()) };
        let pause = match say.ends {
            Ends::Clause => self.voice.pause_after_clause,
            Ends::Sentence => self.voice.pause_after_sentence,
        };
        let loudness = &self.slot(say.language).loudness;
        let levelling = Levelling::new(loudness, self.voice.level_dbfs).needed_at(self.pace.lasts_until(say.answer));
        let mut trimmer = Trimmer::new(levelling);
        let mut begun = false;
        let mut sound = Vec::new();
        let mut reading = self.read(say.language, &text).await?;
        loop {
            let goes_on = {
                let mut next = pin!(reading.next(self, &mut sound));
                match trimmer.decides_at() {
                    Some(at) => match timeout_at(at.into(), &mut next).await {
                        Ok(goes_on) => goes_on?,
                        Err(_) => {
                            trimmer.decide();
                            if !self.pass_on(&mut trimmer, say.answer, out).await {
                                return Ok(());
                            }
                            next.await?
                        }
                    },
                    None => next.await?,
                }
            };
            trimmer.push(Instant::now().into(), std::mem::take(&mut sound));
            if !goes_on {
                break;
            }
            if !self.pass_on(&mut trimmer, say.answer, out).await {
                return Ok(());
            }
            if !std::mem::replace(&mut begun, true) {
                self.restock(say.language);
            }
        }
        self.restock(say.language);
        let silent = || Fault::Silent { program: self.program.clone() };
        let rest = trimmer.finish(Instant::now().into(), pcm::samples_in(pause) as usize).ok_or_else(silent)?;
        for piece in rest {
            self.pace.sent(Instant::now().into(), say.answer, piece.len());
            if out.send(piece).await.is_err() {
                break;
            }
        }
        Ok(())
    }

    /// Sends what is ready; false when nobody wants it.
    async fn pass_on(&self, trimmer: &mut Trimmer, answer: AnswerId, out: &mpsc::Sender<Vec<i16>>) -> bool {
        while let Some(piece) = trimmer.piece() {
            self.pace.sent(Instant::now().into(), answer, piece.len());
            if out.send(piece).await.is_err() {
                return false;
            }
        }
        true
    }

    async fn measure(&self, language: Language) -> Result<(), Fault> {
        let mut sound = Vec::new();
        let mut reading = self.read(language, known_sentence(language)).await?;
        let mut levelling = Levelling::new(&self.slot(language).loudness, self.voice.level_dbfs);
        let mut nobody = Vec::new();
        while reading.next(self, &mut sound).await? {
            levelling.push(Instant::now().into(), std::mem::take(&mut sound), &mut nobody);
        }
        levelling.push(Instant::now().into(), sound, &mut nobody);
        match levelling.finish(Instant::now().into(), &mut nobody) {
            true => Ok(()),
            false => Err(Fault::Silent { program: self.program.clone() }),
        }
    }

    async fn read(&self, language: Language, text: &str) -> Result<Reading, Fault> {
        let limit = self.voice.first_audio;
        let begun = Instant::now();
        let (child, stdout, note) = timeout(limit, self.begin(language, text))
            .await
            .map_err(|_| Fault::Late { program: self.program.clone(), limit })??;
        let first_by = begun + limit;
        Ok(Reading {
            child,
            stdout,
            note,
            reader: Reader::new(self.voice.command_answer),
            first_by: Some(first_by),
            samples: 0,
            bytes: vec![0; 8192],
        })
    }

    fn broken(&self, cause: std::io::Error) -> Fault {
        Fault::Pipe { program: self.program.clone(), cause }
    }
}

impl Process {
    /// Whether it is still there. One that ended is useless, whatever it wrote.
    fn waits(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }
}

/// A phrase that is being spoken. Dropping it kills the process.
struct Reading {
    child: Child,
    stdout: ChildStdout,
    note: JoinHandle<String>,
    reader: Reader,
    /// Until the first sample has come: by when it must.
    first_by: Option<Instant>,
    samples: usize,
    bytes: Vec<u8>,
}

impl Reading {
    /// Appends to `sound` what the program wrote next; false at the end of the phrase, when the tail has been appended.
    async fn next(&mut self, voice: &Shared, sound: &mut Vec<i16>) -> Result<bool, Fault> {
        let program = || voice.program.clone();
        let stall = voice.voice.stall;
        let read = self.stdout.read(&mut self.bytes);
        let count = match self.first_by {
            Some(by) => timeout_at(by, read)
                .await
                .map_err(|_| Fault::Late { program: program(), limit: voice.voice.first_audio })?,
            None => timeout(stall, read).await.map_err(|_| Fault::Stalled { program: program(), limit: stall })?,
        }
        .map_err(|cause| voice.broken(cause))?;
        let before = sound.len();
        let result = match count {
            0 => self.reader.finish(sound),
            _ => self.reader.push(&self.bytes[..count], sound),
        };
        self.samples += sound.len() - before;
        if self.samples > 0 {
            self.first_by = None;
        }
        if self.samples as u64 > pcm::samples_in(MAX_PHRASE) {
            return Err(Fault::TooLong { program: program(), limit: MAX_PHRASE });
        }
        if count > 0 {
            return result.map(|()| true).map_err(|cause| Fault::NotSound { program: program(), cause });
        }
        let status = timeout(stall, self.child.wait())
            .await
            .map_err(|_| Fault::Stalled { program: program(), limit: stall })?
            .map_err(|cause| voice.broken(cause))?;
        if !status.success() {
            return Err(self.exit(program(), status, stall).await);
        }
        result.map(|()| false).map_err(|cause| Fault::NotSound { program: program(), cause })
    }

    async fn exit(&mut self, program: String, status: ExitStatus, patience: Duration) -> Fault {
        // A grandchild may hold standard error open.
        let note = timeout(patience, &mut self.note).await.ok().and_then(Result::ok).unwrap_or_default();
        Fault::Exit { program, status: status.to_string(), note }
    }
}

/// Reads a program's standard error to its end and keeps the last of it.
async fn tail_of(mut stderr: ChildStderr) -> String {
    let mut tail = Vec::new();
    let mut bytes = [0; 512];
    while let Ok(count @ 1..) = stderr.read(&mut bytes).await {
        tail.extend_from_slice(&bytes[..count]);
        let surplus = tail.len().saturating_sub(MAX_NOTE);
        tail.drain(..surplus);
    }
    String::from_utf8_lossy(&tail).trim().to_owned()
}

/// Whether a version such as `1.51` or `1.52.0` is an older one. One that cannot be read is.
fn is_before(version: &str, (major, minor): (u32, u32)) -> bool {
    let mut numbers = version.split('.').map(|number| number.parse::<u32>().unwrap_or(0));
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0)) < (major, minor)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_compared_by_their_numbers() {
        assert!(is_before("1.51", (1, 53)) && is_before("1.52.0", (1, 53)) && is_before("dev", (1, 53)));
        assert!(!is_before("1.53", (1, 53)) && !is_before("2.0", (1, 53)) && !is_before("1.100", (1, 53)));
    }
}
