//! `offhook call WHOM`: the test phone.

use std::net::IpAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::{Arg, ArgAction, ArgMatches, Command, FromArgMatches, value_parser};
use thiserror::Error;

use crate::codec::Codec;
use crate::config::{self, ConfigError, Language, SecretError, Voice};
use crate::phone::clips::{ClipRole, KnownClip};
use crate::phone::mouth::{MouthError, Turn, Utterance};
use crate::phone::report::Report;
use crate::phone::run::PhoneThread;
use crate::phone::script::ScriptOptions;
use crate::phone::{CallOptions, PhoneError, PhoneTrunk, known_clips, place};
use crate::playout::clips::{ClipError, Clips};
use crate::sip::SipError;

/// Level that known clips are read at; the comparison does not depend on it.
const CLIP_LEVEL_DBFS: f32 = -20.0;

/// Calls a SIP URI, or a number through a trunk, speaks, listens, and measures what a caller hears.
///
/// With --config and --trunk the call goes to the trunk's servers (outbound proxy, servers, registrar or domain, looked up as RFC 3263
/// says, the next one when one does not answer), from the trunk's user, and challenges are answered with its password. The phone itself
/// does not register: a provider that takes calls only from registered users refuses it.
///
/// Waits for the greeting to end, says its turns one after another, each after the answer to the one before, and hangs up. Every time
/// is taken at the socket (the kernel's receive time), in milliseconds from the caller's last voiced sample.
///
/// Without --say, --play or --dtmf it only listens to the greeting.
#[derive(Debug, Clone, clap::Args)]
#[command(after_help = "\
Examples:
  offhook call sip:offhook@127.0.0.1:5060 --say \"Good morning, do you have a table for two tonight?\"
  offhook call sip:620@192.0.2.10 --say \"I would like [700] to order a taxi\" --say \"Thank you\" --record call.wav
  offhook call sip:620@192.0.2.10 --say \"Tell me a story\" --say \"Stop, please\" --barge-in-ms 1500 --json
  offhook call sip:620@192.0.2.10 --play question.wav --calls 8 --repeat 5
  offhook call +97235551234 --config /etc/offhook/offhook.toml --trunk provider --say \"Hello\"

Exit status: 0 all calls completed, 64 usage, 65 sound that cannot be used, 66 a file that cannot be read, 68 the host cannot be
found, 69 refused or not answered, 70 internal error, 73 the recording cannot be written, 75 busy: try again later, 77 the trunk's password
is not taken, 78 a configuration that cannot be used.")]
pub struct Args {
    /// Who to call: as in sip:620@192.0.2.10:5060, or with --trunk a number, as in +97235551234.
    #[arg(value_name = "WHOM")]
    pub uri: String,
    /// The configuration that has the trunk.
    #[arg(long, value_name = "FILE", requires = "trunk")]
    pub config: Option<PathBuf>,
    /// Call through this trunk of the configuration.
    #[arg(long, value_name = "NAME", requires = "config")]
    pub trunk: Option<String>,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub turns: Turns,
    /// Language: chooses the caller's voice and which placeholder clips are known.
    #[arg(long, value_enum, default_value = "en")]
    pub lang: Language,
    /// A voice of espeak-ng for --say, instead of the language's.
    #[arg(long, value_name = "NAME")]
    pub voice: Option<String>,
    /// Speak over the answer, so long after it has begun, with the last turn. Below 200 the caller needs longer to know that it is the
    /// answer and no placeholder.
    #[arg(long, value_name = "MS")]
    pub barge_in_ms: Option<u64>,
    /// Speak over with this turn instead of the last; 1 speaks over the greeting.
    #[arg(long, value_name = "TURN", requires = "barge_in_ms", value_parser = value_parser!(u32).range(1..))]
    pub barge_in_turn: Option<u32>,
    /// A WAV file that the other side may play as placeholder (repeatable); without it the built-in clips are known.
    #[arg(long, value_name = "WAV")]
    pub clip: Vec<PathBuf>,
    /// A folder of clips with manifest.toml that the other side may play, instead of the built-in ones.
    #[arg(long, value_name = "DIR", conflicts_with = "clip")]
    pub clips: Option<PathBuf>,
    /// Record the call: stereo, 16 kHz, left the caller, right the other side. With several calls a number is put into the name.
    #[arg(long, value_name = "WAV")]
    pub record: Option<PathBuf>,
    /// Print JSON instead of a table.
    #[arg(long)]
    pub json: bool,
    /// Place so many calls at once.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = value_parser!(u32).range(1..=200))]
    pub calls: u32,
    /// Do so many times, one after another.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = value_parser!(u32).range(1..=100_000))]
    pub repeat: u32,
    /// Offer only this codec: g722, opus, pcmu or pcma.
    #[arg(long, value_name = "NAME", value_parser = codec)]
    pub codec: Option<Codec>,
    /// The far side echoes (its `sip.echo_number`): compare what comes back with what was said.
    #[arg(long)]
    pub echo: bool,
    /// Offer SRTP, and nothing else. The keys are in the SDP, which goes over UDP in the clear: for tests.
    #[arg(long)]
    pub srtp: bool,
    /// Take no telephone events: keys are pressed as tones
    #[arg(long)]
    pub tone_keys: bool,
    /// Local address to call from; without it the one that the system routes from.
    #[arg(long, value_name = "IP")]
    pub bind: Option<IpAddr>,
    /// User part of the caller's own address.
    #[arg(long, value_name = "USER", default_value = "caller")]
    pub from: String,
    /// Give up when nobody answers for so long.
    #[arg(long, value_name = "MS", default_value_t = 30_000)]
    pub ring_ms: u64,
    /// Without a sound for so long after the answer there is no greeting.
    #[arg(long, value_name = "MS", default_value_t = 2000)]
    pub greeting_wait_ms: u64,
    /// A greeting has ended when it is silent for so long.
    #[arg(long, value_name = "MS", default_value_t = 600)]
    pub greeting_quiet_ms: u64,
    /// An answer has ended when it is silent for so long.
    #[arg(long, value_name = "MS", default_value_t = 1200)]
    pub answer_quiet_ms: u64,
    /// An answer that has not begun after so long is not waited for.
    #[arg(long, value_name = "MS", default_value_t = 15_000)]
    pub answer_wait_ms: u64,
}

/// How long an echo may be under way at the end of the call.
const ECHO_WAIT_MS: u64 = 600;

fn codec(name: &str) -> Result<Codec, String> {
    Codec::named(name).ok_or_else(|| {
        let known = Codec::ALL.map(|codec| codec.name().to_ascii_lowercase()).join(", ");
        format!("the phone speaks {known}")
    })
}

/// The turns in the order in which they stand on the command line.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Turns(pub Vec<Turn>);

impl clap::Args for Turns {
    fn augment_args(command: Command) -> Command {
        let turn = |name: &'static str, value: &'static str, help: &'static str| {
            Arg::new(name).long(name).value_name(value).help(help).action(ArgAction::Append)
        };
        command
            .arg(turn(
                "say",
                "TEXT",
                "Say a text by espeak-ng; [700] in it is a pause of 700 ms, [[…]] are phonemes (repeatable, one turn each)",
            ))
            .arg(turn("play", "WAV", "Play a WAV file as a turn").value_parser(value_parser!(PathBuf)))
            .arg(turn("dtmf", "KEYS", "Press keys as a turn, as in 123#"))
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl FromArgMatches for Turns {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        fn given<T: Clone + Send + Sync + 'static>(
            matches: &ArgMatches,
            name: &str,
            turn: fn(T) -> Turn,
        ) -> Vec<(usize, Turn)> {
            let values = matches.get_many::<T>(name).into_iter().flatten().cloned().map(turn);
            matches.indices_of(name).into_iter().flatten().zip(values).collect()
        }
        let mut turns = given(matches, "say", Turn::Say);
        turns.extend(given(matches, "play", Turn::Play));
        turns.extend(given(matches, "dtmf", Turn::Dtmf));
        turns.sort_by_key(|(index, _)| *index);
        Ok(Self(turns.into_iter().map(|(_, turn)| turn).collect()))
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

/// Why no call was placed.
#[derive(Debug, Error)]
pub enum CallError {
    /// Something to say is not usable.
    #[error(transparent)]
    Mouth(#[from] MouthError),
    /// A clip is not usable.
    #[error(transparent)]
    Clip(#[from] ClipError),
    /// A turn that does not exist.
    #[error("--barge-in-turn {turn}: there are only {turns} turns")]
    NoSuchTurn {
        /// The turn asked for.
        turn: u32,
        /// How many there are.
        turns: usize,
    },
    /// The configuration is not usable.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The password is not usable.
    #[error(transparent)]
    Secret(#[from] SecretError),
    /// A trunk that the configuration does not have.
    #[error("--trunk {name}: the configuration has no such trunk; it has {known}")]
    NoSuchTrunk {
        /// The name asked for.
        name: String,
        /// Those that there are.
        known: String,
    },
    /// `--barge-in-ms` without anything to say.
    #[error("--barge-in-ms needs a turn to speak over with: add --say, --play or --dtmf")]
    NothingToSay,
}

impl CallError {
    /// The exit status, by sysexits.
    pub fn exit_code(&self) -> ExitCode {
        ExitCode::from(match self {
            Self::NoSuchTurn { .. } | Self::NothingToSay | Self::NoSuchTrunk { .. } => 64,
            Self::Config(ConfigError::Read { .. }) => 66,
            Self::Config(_) | Self::Secret(_) => 78,
            Self::Mouth(MouthError::Pause { .. } | MouthError::Key(_)) => 64,
            Self::Mouth(MouthError::Read { .. }) | Self::Clip(ClipError::Read { .. }) => 66,
            Self::Mouth(MouthError::NoVoice(_) | MouthError::Voice { .. }) => 69,
            Self::Mouth(_) | Self::Clip(_) => 65,
        })
    }
}

/// Places the calls and prints the report. Returns the exit status; calls that fail are in the report and in the status.
pub async fn run(args: Args) -> Result<ExitCode, CallError> {
    let options = prepare(&args)?;
    let (mut done, mut failed, mut status) = (Vec::new(), Vec::new(), 0u8);
    for round in 0..args.repeat {
        let calls: Vec<_> = (0..args.calls)
            .map(|n| {
                let number = u64::from(round) * u64::from(args.calls) + u64::from(n) + 1;
                let one = args.repeat == 1 && args.calls == 1;
                let record = args.record.clone().map(|path| if one { path } else { numbered(path, number) });
                tokio::spawn(place(CallOptions { record, ..options.clone() }))
            })
            .collect();
        for call in calls {
            match call.await {
                Ok(Ok(report)) => done.push(report),
                Ok(Err(error)) => {
                    status = status.max(exit_status(&error));
                    failed.push(error.to_string());
                }
                Err(panic) => {
                    status = status.max(70);
                    failed.push(panic.to_string());
                }
            }
        }
    }
    let report = Report::new(done, failed);
    if args.json {
        println!("{}", serde_json::to_string_pretty(&report).expect("a report is plain data"));
    } else {
        print!("{report}");
    }
    for failed in &report.failed {
        eprintln!("offhook call: {failed}");
    }
    Ok(ExitCode::from(status))
}

/// The trunk that the call goes through, with its password.
fn trunk(args: &Args) -> Result<Option<Arc<PhoneTrunk>>, CallError> {
    let (Some(file), Some(name)) = (&args.config, &args.trunk) else { return Ok(None) };
    let mut config = config::load(file)?;
    let Some(trunk) = config.trunk.remove(name) else {
        let known: Vec<String> = config.trunk.into_keys().collect();
        let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
        return Err(CallError::NoSuchTrunk { name: name.clone(), known });
    };
    let password = trunk.password(name)?;
    Ok(Some(Arc::new(PhoneTrunk { name: name.clone(), trunk, password })))
}

fn prepare(args: &Args) -> Result<CallOptions, CallError> {
    let voices = Voice::default();
    let voice = args.voice.as_deref().unwrap_or_else(|| voices.name(args.lang));
    let utterances: Arc<[Utterance]> =
        args.turns.0.iter().map(|turn| Utterance::prepare(turn, voice)).collect::<Result<_, _>>()?;
    let barge_in = match (args.barge_in_ms, args.barge_in_turn) {
        (None, _) => None,
        (Some(_), _) if utterances.is_empty() => return Err(CallError::NothingToSay),
        (Some(ms), None) => Some((utterances.len() - 1, Duration::from_millis(ms))),
        (Some(ms), Some(turn)) if turn as usize <= utterances.len() => {
            Some((turn as usize - 1, Duration::from_millis(ms)))
        }
        (Some(_), Some(turn)) => return Err(CallError::NoSuchTurn { turn, turns: utterances.len() }),
    };
    let clips: Arc<[KnownClip]> = match &args.clips {
        // What comes back is what was said: there is nothing to tell from it.
        _ if args.echo => Arc::new([]),
        Some(folder) => known_clips(&Clips::load(folder, CLIP_LEVEL_DBFS)?, args.lang),
        None if args.clip.is_empty() => known_clips(&Clips::embedded(CLIP_LEVEL_DBFS), args.lang),
        None => {
            let mut known = Vec::new();
            for file in &args.clip {
                let set = Clips::embedded(CLIP_LEVEL_DBFS).single_placeholder(file, CLIP_LEVEL_DBFS)?;
                let placeholder = known_clips(&set, args.lang);
                known.extend(placeholder.iter().filter(|clip| clip.role == ClipRole::Placeholder).cloned());
            }
            let built_in = known_clips(&Clips::embedded(CLIP_LEVEL_DBFS), args.lang);
            known.extend(built_in.iter().filter(|clip| clip.role == ClipRole::Apology).cloned());
            known.into()
        }
    };
    let ms = Duration::from_millis;
    // An echo has nothing to say of its own: there is neither a greeting to wait for nor an answer.
    let [greeting_wait_ms, answer_wait_ms] =
        [args.greeting_wait_ms, args.answer_wait_ms].map(|wait| if args.echo { wait.min(ECHO_WAIT_MS) } else { wait });
    Ok(CallOptions {
        srtp: args.srtp,
        tone_keys: args.tone_keys,
        echo: args.echo,
        uri: args.uri.clone(),
        trunk: trunk(args)?,
        from: args.from.clone(),
        bind: args.bind,
        ring: ms(args.ring_ms),
        codecs: args.codec.map_or_else(|| Codec::ALL.to_vec(), |codec| vec![codec]),
        utterances,
        clips,
        script: ScriptOptions {
            greeting_wait: ms(greeting_wait_ms),
            greeting_quiet: ms(args.greeting_quiet_ms),
            answer_quiet: ms(args.answer_quiet_ms),
            answer_wait: ms(answer_wait_ms),
            barge_in,
            ..ScriptOptions::default()
        },
        record: None,
        // Without one each call tries for itself, and says why not.
        thread: PhoneThread::start().ok().map(Arc::new),
    })
}

/// `call.wav` becomes `call-3.wav`.
fn numbered(path: PathBuf, number: u64) -> PathBuf {
    let part = |part: Option<&std::ffi::OsStr>| part.unwrap_or_default().to_string_lossy().into_owned();
    let (stem, extension) = (part(path.file_stem()), part(path.extension()));
    let dot = if extension.is_empty() { "" } else { "." };
    path.with_file_name(format!("{stem}-{number}{dot}{extension}"))
}

fn exit_status(error: &PhoneError) -> u8 {
    match error {
        PhoneError::Busy { .. } => 75,
        PhoneError::Uri(_) => 64,
        PhoneError::Host { .. } | PhoneError::Trunk(_) | PhoneError::Sip(SipError::NoTarget { .. }) => 68,
        PhoneError::Sip(SipError::Credentials { .. }) => 77,
        PhoneError::Sip(SipError::Uri { .. }) => 64,
        PhoneError::Record { .. } => 73,
        PhoneError::Refused { .. } | PhoneError::NoAnswer { .. } | PhoneError::Sdp(_) | PhoneError::Sip(_) => 69,
        PhoneError::Socket(_) | PhoneError::Thread => 70,
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Program {
        #[command(flatten)]
        args: Args,
    }

    fn parse(line: &[&str]) -> Result<Args, clap::Error> {
        Program::try_parse_from([&["call", "sip:1@127.0.0.1"], line].concat()).map(|program| program.args)
    }

    #[test]
    fn turns_are_taken_in_the_order_in_which_they_are_written() {
        let args = parse(&["--say", "one", "--dtmf", "2#", "--play", "three.wav", "--say", "four"]).unwrap();
        assert_eq!(
            args.turns.0,
            [
                Turn::Say("one".into()),
                Turn::Dtmf("2#".into()),
                Turn::Play("three.wav".into()),
                Turn::Say("four".into())
            ]
        );
        assert_eq!(parse(&[]).unwrap().turns, Turns::default());
    }

    #[test]
    fn a_barge_in_is_with_the_last_turn_unless_another_is_named() {
        let barge_in = |line: &[&str]| prepare(&parse(line).unwrap()).map(|options| options.script.barge_in);
        let ms = Duration::from_millis;
        let two = ["--dtmf", "1", "--dtmf", "2", "--barge-in-ms", "700"];
        assert_eq!(barge_in(&two).unwrap(), Some((1, ms(700))));
        assert_eq!(barge_in(&[&two[..], &["--barge-in-turn", "1"]].concat()).unwrap(), Some((0, ms(700))));
        assert!(matches!(
            barge_in(&[&two[..], &["--barge-in-turn", "3"]].concat()),
            Err(CallError::NoSuchTurn { turn: 3, turns: 2 })
        ));
        assert!(matches!(barge_in(&["--barge-in-ms", "700"]), Err(CallError::NothingToSay)));
        assert!(parse(&["--barge-in-turn", "1"]).is_err());
    }

    #[test]
    fn a_trunk_is_taken_from_a_configuration_that_has_it() {
        let folder = tempfile::tempdir().unwrap();
        let (file, password) = (folder.path().join("offhook.toml"), folder.path().join("password"));
        std::fs::write(&password, "secret").unwrap();
        let text = format!(
            "[trunk.main]\ndomain = \"sip.example\"\nuser = \"100\"\npassword_file = {:?}\n",
            password.to_str().unwrap()
        );
        std::fs::write(&file, text).unwrap();
        let file = file.to_str().unwrap();
        let trunk = prepare(&parse(&["--config", file, "--trunk", "main"]).unwrap()).unwrap().trunk.unwrap();
        assert_eq!((trunk.trunk.user.as_str(), trunk.password.as_ref().unwrap().reveal()), ("100", "secret"));
        let error = prepare(&parse(&["--config", file, "--trunk", "spare"]).unwrap()).unwrap_err();
        assert_eq!(error.to_string(), "--trunk spare: the configuration has no such trunk; it has main");
        assert!(parse(&["--trunk", "main"]).is_err());
    }

    #[test]
    fn what_cannot_be_said_names_the_reason() {
        let error = prepare(&parse(&["--play", "/nonexistent.wav"]).unwrap()).unwrap_err();
        assert!(error.to_string().contains("/nonexistent.wav"));
        let error = prepare(&parse(&["--dtmf", "12x"]).unwrap()).unwrap_err();
        assert!(error.to_string().contains("'x'"));
        assert!(parse(&["--codec", "g729"]).is_err());
        assert_eq!(parse(&["--codec", "opus"]).unwrap().codec, Codec::named("opus"));
        assert_eq!(parse(&["--codec", "pcma"]).unwrap().codec, Some(Codec::Pcma));
    }

    #[test]
    fn recordings_of_several_calls_are_numbered() {
        assert_eq!(numbered("/tmp/a.b/call.wav".into(), 3), PathBuf::from("/tmp/a.b/call-3.wav"));
        assert_eq!(numbered("call".into(), 3), PathBuf::from("call-3"));
    }
}
