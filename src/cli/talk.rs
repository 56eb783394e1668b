//! `offhook talk`: the whole appliance with microphone and loudspeaker, or with files, as the line. Without a configuration the model is
//! simulated, as in the demo.
//!
//! The call is the same as one that comes over SIP, from the leg on. No trunk is registered and no port is opened to others meanwhile: a
//! service on the same machine goes on undisturbed. Everything is at real time, files too: the box's clocks and the model's are.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use crate::call::{self, Local, LocalEnd};
use crate::config::{self, Config, Language};
use crate::conversation::Phase;
use crate::daemon::Daemon;
use crate::gemini;
use crate::leg::Leg;
use crate::loopback::files::{self, Cue, FileLeg};
use crate::loopback::script::{Script, Step};
use crate::loopback::tape::{Tape, TapeHead, Tracks};
use crate::loopback::{self, CardError, Choice, Duplex, Keeping, Keys, LoopbackLeg, Notice, OpenDevice, Shared};
use crate::record::Cause;
use crate::simulator::{Options as SimulatorOptions, Simulator};
use crate::timeline::TurnReport;

use self::report::{Recording, Report};
use self::terminal::{Pressed, Screen};
use super::{Exit, Failure};

mod report;
mod terminal;

/// What the user typed.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// The configuration, as for `run`; without one the model is simulated
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Language of the call, without a configuration
    #[arg(long, value_enum, default_value = "en", conflicts_with = "config")]
    lang: Language,
    /// Ask Gemini instead of the simulator; the key comes from GEMINI_API_KEY
    #[arg(long, conflicts_with = "config")]
    live: bool,
    /// List the sound devices, and end
    #[arg(long)]
    list: bool,
    /// Microphone: its name, or a part of name or description that no other has
    #[arg(long, value_name = "DEVICE", default_value = "default")]
    input: Choice,
    /// Loudspeaker, in the same way
    #[arg(long, value_name = "DEVICE", default_value = "default")]
    output: Choice,
    /// Record the call: left what is heard, right what is said
    #[arg(long, value_name = "WAV")]
    record: Option<PathBuf>,
    /// Hear only while the space bar is held; where the terminal does not tell, it opens and shuts. Without a terminal: an empty line
    #[arg(long)]
    push_to_talk: bool,
    /// Whether both may be heard at a time: automatic, full (a headset), half (a loudspeaker)
    #[arg(long, value_name = "HOW", default_value = "automatic")]
    duplex: Duplex,
    /// The same as --duplex full
    #[arg(long, conflicts_with = "duplex")]
    headset: bool,
    /// The same as --duplex half
    #[arg(long, conflicts_with_all = ["duplex", "headset"])]
    speaker: bool,
    /// Say this file in place of a microphone, at real time; given again, it is the next question
    #[arg(long, value_name = "WAV", conflicts_with_all = ["input", "output", "push_to_talk", "list"])]
    from: Vec<PathBuf>,
    /// Write what is said to this file
    #[arg(long, value_name = "WAV", requires = "from")]
    to: Option<PathBuf>,
    /// Print what happened as JSON at the end, and nothing else
    #[arg(long)]
    json: bool,
}

/// Devices that do not answer within this are stuck.
const OPENING: Duration = Duration::from_secs(8);
/// How often levels are shown.
const SHOWN: Duration = Duration::from_millis(100);
/// How often a file's script is asked.
const ASKED: Duration = Duration::from_millis(40);
/// Turns and pressed keys that may wait.
const WAITING: usize = 64;

/// Why there was no call, or none to its end: what a person should read, and the exit status by sysexits(3).
#[derive(Debug)]
struct Problem {
    status: u8,
    message: String,
}

impl Problem {
    fn new(exit: Exit, message: impl std::fmt::Display) -> Self {
        Self { status: exit as u8, message: message.to_string() }
    }
}

impl From<CardError> for Problem {
    fn from(error: CardError) -> Self {
        Self { status: error.exit_status(), message: error.to_string() }
    }
}

impl From<Problem> for Failure {
    fn from(problem: Problem) -> Self {
        Self { code: ExitCode::from(problem.status), message: problem.message }
    }
}

/// Talks, and reports.
pub async fn run(arguments: Arguments) -> Result<ExitCode, Failure> {
    if arguments.list {
        return Ok(list(arguments.json).map(|()| ExitCode::SUCCESS)?);
    }
    let json = arguments.json;
    match talk(arguments).await {
        Ok(report) => {
            if json {
                println!("{}", serde_json::to_string_pretty(&report).expect("a report is plain data"));
            } else {
                print!("{report}");
            }
            Ok(ExitCode::from(report.exit))
        }
        Err(problem) if json => {
            println!("{}", serde_json::json!({ "exit": problem.status, "problems": [problem.message] }));
            Err(problem.into())
        }
        Err(problem) => Err(problem.into()),
    }
}

fn list(json: bool) -> Result<(), Problem> {
    let devices = loopback::cards()?.list()?;
    if json {
        println!("{}", serde_json::to_string_pretty(&devices).expect("devices are plain data"));
        return Ok(());
    }
    if devices.is_empty() {
        return Err(CardError::NoDevice { direction: loopback::Direction::Input }.into());
    }
    for device in &devices {
        let shape =
            device.shape.map_or("does not say".to_owned(), |shape| format!("{} Hz, {} ch", shape.rate, shape.channels));
        let mark = if device.default { "*" } else { " " };
        println!("{mark} {:<7} {:<28} {shape:<16} {}", device.direction, device.name, device.description);
    }
    println!("* is taken where none is named");
    Ok(())
}

/// What the call's other end is.
enum End {
    /// A sound card.
    Card { keeping: Keeping, notices: mpsc::Receiver<Notice>, shared: Shared, keys: Keys, devices: Vec<OpenDevice> },
    /// Files.
    Files { cue: Arc<Cue>, script: Script },
}

async fn talk(arguments: Arguments) -> Result<Report, Problem> {
    let questions: Vec<Vec<i16>> = arguments
        .from
        .iter()
        .map(|path| files::read(path))
        .collect::<Result<_, _>>()
        .map_err(|error| Problem { status: error.exit_status(), message: error.to_string() })?;
    let (mut recordings, mut heads) = (Vec::new(), Vec::new());
    for (path, tracks) in [(&arguments.record, Tracks::Both), (&arguments.to, Tracks::Said)] {
        let Some(path) = path else { continue };
        let (tape, head) = Tape::start(path, tracks).map_err(|error| Problem::new(Exit::CannotCreate, error))?;
        recordings.push((path.clone(), tape));
        heads.push(head);
    }
    let (leg, mut end) = open(&arguments, questions, heads).await?;
    let ended = serve(&arguments, leg, &mut end).await;
    let mut report = match ended {
        Ok(report) => report,
        Err(problem) => {
            close(end).await;
            return Err(problem);
        }
    };
    report.card(&end);
    close(end).await;
    for (path, tape) in recordings {
        let written = tokio::task::spawn_blocking(move || tape.finish()).await;
        match written {
            Ok(Ok(recorded)) => report.recordings.push(Recording::new(path, recorded)),
            Ok(Err(error)) => report.fail(Exit::CannotCreate as u8, error.to_string()),
            Err(error) => report.fail(Exit::Software as u8, error.to_string()),
        }
    }
    Ok(report)
}

/// The leg, and its other end.
async fn open(
    arguments: &Arguments,
    questions: Vec<Vec<i16>>,
    heads: Vec<TapeHead>,
) -> Result<(Box<dyn Leg>, End), Problem> {
    let now = Instant::now();
    if !questions.is_empty() {
        let script = Script::new(now, questions.len());
        let (leg, cue) = FileLeg::new(now, questions, heads);
        return Ok((Box::new(leg), End::Files { cue, script }));
    }
    let duplex = match arguments {
        Arguments { headset: true, .. } => Duplex::Full,
        Arguments { speaker: true, .. } => Duplex::Half,
        _ => arguments.duplex,
    };
    let (leg, side, keys) = LoopbackLeg::new(now, duplex, heads.into_iter().next());
    let shared = side.shared();
    if arguments.push_to_talk {
        shared.desk.talk_key(false);
    }
    let choices = [arguments.input.clone(), arguments.output.clone()];
    let (keeping, mut notices) =
        Keeping::start(loopback::cards, choices, side).map_err(|error| Problem::new(Exit::Os, error))?;
    let mut devices = Vec::new();
    let opening = tokio::time::sleep(OPENING);
    tokio::pin!(opening);
    while devices.len() < 2 {
        let notice = tokio::select! {
            notice = notices.recv() => notice,
            () = &mut opening => None,
        };
        let error = match notice {
            Some(Notice::Opened(device)) => {
                devices.push(device);
                continue;
            }
            Some(Notice::Lost { error, .. }) => error,
            None => CardError::Stuck { device: "the sound card".to_owned(), seconds: OPENING.as_secs() },
        };
        keeping.end().await;
        return Err(error.into());
    }
    Ok((Box::new(leg), End::Card { keeping, notices, shared, keys, devices }))
}

async fn close(end: End) {
    if let End::Card { keeping, .. } = end
        && !keeping.end().await
    {
        eprintln!("offhook: a sound device does not close; it is left to the system");
    }
}

/// Starts the appliance, holds the call, and ends both.
async fn serve(arguments: &Arguments, leg: Box<dyn Leg>, end: &mut End) -> Result<Report, Problem> {
    let simulator = simulator(arguments).await?;
    let config = config(arguments, simulator.as_ref())?;
    let model = match &simulator {
        Some(_) => "Gemini is SIMULATED here: the answers are scripted and know nothing of the questions.".to_owned(),
        None => format!("The model is {}.", config.gemini.models.join(", ")),
    };
    let daemon = Daemon::start(config).await.map_err(|error| Problem::new(super::exit_of(&error), error))?;
    let (parts, stop) = (daemon.parts(), daemon.stopper());
    let (turn_in, turns) = mpsc::channel(WAITING);
    let service = tokio::spawn(daemon.serve(move |turn| {
        let _ = turn_in.try_send(turn.clone());
    }));
    let (phase_in, phase) = watch::channel(Phase::Ringing);
    let hang_up = CancellationToken::new();
    let name = format!("talk-{:08x}", fastrand::u32(..));
    let local = Local { name, leg, phase: phase_in, hang_up: hang_up.clone() };
    let began = Instant::now();
    let call = tokio::spawn(call::talk(parts, local, stop.child_token()));
    let screen = Screen::open(arguments.json);
    screen.say(&model);
    let mut run = Running { screen, report: Report::default(), phase, turns, hang_up };
    let ended = run.run(arguments, end, call).await;
    let Running { screen, mut report, mut turns, .. } = run;
    stop.cancel();
    let _ = service.await;
    while let Ok(turn) = turns.try_recv() {
        report.turn(&turn);
    }
    drop(screen);
    report.simulated = simulator.is_some();
    report.ended(
        ended.map_err(|message| Problem::new(Exit::Software, message))?,
        began.elapsed(),
        arguments.from.len(),
    );
    Ok(report)
}

/// A call that goes on, and what is shown of it.
struct Running {
    screen: Screen,
    report: Report,
    phase: watch::Receiver<Phase>,
    turns: mpsc::Receiver<TurnReport>,
    hang_up: CancellationToken,
}

impl Running {
    /// Follows the call to its end.
    async fn run(
        &mut self,
        arguments: &Arguments,
        end: &mut End,
        mut call: tokio::task::JoinHandle<Result<LocalEnd, call::Unanswered>>,
    ) -> Result<LocalEnd, String> {
        let (mut interrupt, mut terminate) = match (signal(SignalKind::interrupt()), signal(SignalKind::terminate())) {
            (Ok(interrupt), Ok(terminate)) => (interrupt, terminate),
            (Err(error), _) | (_, Err(error)) => return Err(format!("signals cannot be heard: {error}")),
        };
        let mut pressed = match end {
            End::Card { .. } => terminal::listen(self.screen.keyboard()),
            End::Files { .. } => mpsc::channel(1).1,
        };
        if let End::Card { devices, .. } = end {
            for device in devices.iter() {
                let OpenDevice { direction, name, shape } = device;
                self.screen.say(&format!("{direction}: {name}, {} Hz, {} channels", shape.rate, shape.channels));
            }
            let how = if arguments.push_to_talk { "hold or press the space bar to talk; " } else { "" };
            self.screen.say(&format!("{how}0-9 * # are the keys of a telephone; q hangs up"));
        }
        let mut shown = tokio::time::interval(SHOWN);
        let mut asked = tokio::time::interval(ASKED);
        loop {
            tokio::select! {
                ended = &mut call => return match ended {
                    Ok(ended) => ended.map_err(|error| error.to_string()),
                    Err(error) => Err(error.to_string()),
                },
                Some(turn) = self.turns.recv() => {
                    self.screen.say(&report::line(&turn));
                    self.report.turn(&turn);
                }
                Some(notice) = notice(end) => self.notice(notice),
                Some(key) = pressed.recv() => self.pressed(key, arguments.push_to_talk, end),
                _ = shown.tick() => if let End::Card { shared, .. } = end {
                    self.screen.meter(shared, *self.phase.borrow());
                },
                _ = asked.tick() => if let End::Files { cue, script } = end {
                    let phase = *self.phase.borrow();
                    match script.poll(Instant::now(), phase, cue.said()) {
                        Some(Step::Say(question)) => cue.say(question),
                        Some(Step::HangUp) => self.hang_up.cancel(),
                        None => {}
                    }
                },
                _ = interrupt.recv() => self.hang_up.cancel(),
                _ = terminate.recv() => self.hang_up.cancel(),
            }
        }
    }

    fn notice(&mut self, notice: Notice) {
        match notice {
            Notice::Opened(device) => self.screen.say(&format!("{}: {} is back", device.direction, device.name)),
            Notice::Lost { direction, error } => {
                self.screen.say(&format!("{direction}: {error}"));
                if error.may_pass() {
                    self.report.problems.push(error.to_string());
                } else {
                    self.report.fail(error.exit_status(), error.to_string());
                    self.hang_up.cancel();
                }
            }
        }
    }

    fn pressed(&mut self, pressed: Pressed, push_to_talk: bool, end: &mut End) {
        let End::Card { shared, keys, .. } = end else { return };
        match pressed {
            Pressed::HangUp => self.hang_up.cancel(),
            Pressed::Key(key) => {
                keys.press(key);
            }
            Pressed::Talk(_) if !push_to_talk => {}
            Pressed::Talk(Some(down)) => shared.desk.talk_key(down),
            Pressed::Talk(None) => shared.desk.talk_key(shared.desk.key() != Some(true)),
        }
    }
}

async fn notice(end: &mut End) -> Option<Notice> {
    match end {
        End::Card { notices, .. } => notices.recv().await,
        End::Files { .. } => None,
    }
}

async fn simulator(arguments: &Arguments) -> Result<Option<Simulator>, Problem> {
    if arguments.config.is_some() || arguments.live {
        return Ok(None);
    }
    let options = SimulatorOptions { language: arguments.lang, ..SimulatorOptions::default() };
    let started = Simulator::start(options).await;
    started
        .map(Some)
        .map_err(|error| Problem::new(Exit::Os, format!("the simulator cannot listen on loopback: {error}")))
}

/// The configuration without anything that a service on the same machine may have: trunks, ports, files that it writes, secrets of the line.
fn config(arguments: &Arguments, simulator: Option<&Simulator>) -> Result<Config, Problem> {
    let mut config = match &arguments.config {
        Some(path) => config::load(path).map_err(|error| {
            let is_read = matches!(error, config::ConfigError::Read { .. });
            Problem::new(if is_read { Exit::NoInput } else { Exit::Config }, error)
        })?,
        None => Config::default(),
    };
    config.trunk.clear();
    config.status.listen = None;
    let sip = &mut config.sip;
    sip.listen = SocketAddr::from(([127, 0, 0, 1], 0));
    (sip.listen_tcp, sip.listen_tls, sip.public_address) = (None, None, None);
    sip.inbound_users_file = None;
    config.greeting_by_phone.number = None;
    (config.voicemail.enabled, config.voicemail.always) = (false, false);
    (config.log.calls_file, config.log.timeline_file) = (None, None);
    config.limits.state_file = None;
    if arguments.config.is_some() {
        return Ok(config);
    }
    config.conversation.language = arguments.lang;
    match simulator {
        Some(simulator) => config.gemini.base_url = simulator.base_url(),
        None => {
            let key = gemini::key(&config.gemini).map_err(|error| Problem::new(Exit::NoInput, error))?;
            if key.is_none() {
                return Err(Problem::new(Exit::Config, "--live needs a key: set GEMINI_API_KEY"));
            }
        }
    }
    Ok(config)
}

/// The exit status of a call that ended for this reason, and what to do about it.
fn status_of(cause: Cause) -> Option<(u8, &'static str)> {
    match cause {
        Cause::MediaTimeout => Some((69, "the microphone gave no sound for too long; see that it is plugged in")),
        Cause::Trouble => Some((69, "the model or the voice did not answer; `offhook doctor` says what is wrong")),
        Cause::Fault => Some((70, "a fault of this program ended the call; OFFHOOK_LOG=debug shows more")),
        _ => None,
    }
}
