//! `offhook demo`: the whole main job on this machine. A simulator stands in for Gemini, the appliance answers, a test phone calls it over
//! real SIP and RTP on loopback, and the call is left to listen to and to look at.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::config::{Config, Language, Voice};
use crate::daemon::Daemon;
use crate::gemini;
use crate::phone::mouth::{Turn, Utterance};
use crate::phone::report::CallReport;
use crate::phone::{CallOptions, known_clips, place};
use crate::playout::clips::Clips;
use crate::simulator::{Options as SimulatorOptions, Simulator};
use crate::timeline::TurnReport;
use crate::timeline::waterfall_svg;

use super::{Exit, Failure};

/// What the user typed.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Language of the call
    #[arg(long, value_enum, default_value = "en")]
    lang: Language,
    /// Folder for call.wav, timeline.json and latency.svg
    #[arg(long, value_name = "DIR", default_value = "demo-out")]
    out: PathBuf,
    /// Ask Gemini instead of the simulator; the key comes from GEMINI_API_KEY
    #[arg(long)]
    live: bool,
    /// Time to the simulator's first token
    #[arg(long, value_name = "MS", default_value_t = 500, conflicts_with = "live")]
    first_token_ms: u64,
    /// Tokens a second of the simulator
    #[arg(long, value_name = "RATE", default_value_t = 60.0, conflicts_with = "live")]
    tokens_per_second: f64,
}

/// How long into the second answer the caller speaks over it.
const BARGE_IN: Duration = Duration::from_millis(1200);

/// What the caller says: opening hours, the way, thanks. Hebrew is given as phonemes, because espeak-ng 1.51 cannot read it.
fn lines(language: Language) -> [&'static str; 3] {
    match language {
        Language::En => [
            "Good morning. Are you open on Friday afternoon?",
            "And could you tell me how I find you, please?",
            "Thank you, that is all I wanted to know.",
        ],
        Language::He => [
            "[[Sal'om _: ha?'im ?at'em ptuX'im bej'om SiS'i]]",
            "[['ejX ?an'i mag'i?a ?elejX'em bevakaS'a]]",
            "[[tod'a Q\"ab'a _: z'e hak'ol]]",
        ],
        Language::Ru => [
            "Доброе утро. Вы работаете в пятницу после обеда?",
            "А как до вас доехать, скажите пожалуйста?",
            "Спасибо, это всё, что я хотел узнать.",
        ],
    }
}

/// Places the call and writes what came of it.
pub async fn run(arguments: Arguments) -> Result<ExitCode, Failure> {
    let simulator = if arguments.live { None } else { Some(simulator(&arguments).await?) };
    let config = config(&arguments, simulator.as_ref())?;
    std::fs::create_dir_all(&arguments.out)
        .map_err(|error| Failure::new(Exit::CannotCreate, format!("{}: {error}", arguments.out.display())))?;
    let model = match &simulator {
        Some(_) => "Gemini is SIMULATED here: the answers are scripted and know nothing of the questions.".to_owned(),
        None => format!("The model is {}, live.", config.gemini.models.join(", ")),
    };
    println!("offhook answers a call on this machine. {model}");
    let clips = Clips::open(&config.placeholder, config.voice.level_dbfs)
        .map_err(|error| Failure::new(Exit::NoInput, error))?;
    let daemon = Daemon::start(config).await?;
    let address = daemon.sip_address();
    let stop = daemon.stopper();
    let turns = Arc::new(Mutex::new(Vec::new()));
    let seen = turns.clone();
    let service = tokio::spawn(daemon.serve(move |report| {
        seen.lock().unwrap_or_else(PoisonError::into_inner).push(report.clone());
    }));
    let heard = call(&arguments, address, &clips, &stop).await;
    stop.cancel();
    let served = service.await.map_err(|error| Failure::new(Exit::Software, error))?;
    served.map_err(|error| Failure::new(Exit::Software, error))?;
    let heard = heard?;
    let turns = std::mem::take(&mut *turns.lock().unwrap_or_else(PoisonError::into_inner));
    write(&arguments.out, &turns, &model)?;
    print!("{}", table(&turns, &heard));
    println!(
        "\nListen to {0}/call.wav (left the caller, right offhook); look at {0}/latency.svg; {0}/timeline.json has the figures.",
        arguments.out.display()
    );
    if simulator.is_some() {
        println!(
            "With the real model: GEMINI_API_KEY=… offhook demo --live --lang {}   (a key: https://aistudio.google.com/apikey)",
            arguments.lang.code()
        );
    }
    Ok(ExitCode::SUCCESS)
}

async fn simulator(arguments: &Arguments) -> Result<Simulator, Failure> {
    Simulator::start(SimulatorOptions {
        first_token: Duration::from_millis(arguments.first_token_ms),
        tokens_per_second: arguments.tokens_per_second,
        language: arguments.lang,
        ..SimulatorOptions::default()
    })
    .await
    .map_err(|error| Failure::new(Exit::Os, format!("the simulator cannot listen on loopback: {error}")))
}

/// The defaults, with a free SIP port, and the simulator where there is one.
fn config(arguments: &Arguments, simulator: Option<&Simulator>) -> Result<Config, Failure> {
    let mut config = Config::default();
    config.conversation.language = arguments.lang;
    config.sip.listen = SocketAddr::from(([127, 0, 0, 1], 0));
    match simulator {
        Some(simulator) => config.gemini.base_url = simulator.base_url(),
        None => {
            let key = gemini::key(&config.gemini).map_err(|error| Failure::new(Exit::NoInput, error))?;
            if key.is_none() {
                return Err(Failure::new(Exit::Config, "--live needs a key: set GEMINI_API_KEY"));
            }
        }
    }
    Ok(config)
}

async fn call(
    arguments: &Arguments,
    address: SocketAddr,
    clips: &Clips,
    stop: &CancellationToken,
) -> Result<CallReport, Failure> {
    let voice = Voice::default();
    let utterances = lines(arguments.lang)
        .iter()
        .map(|line| Utterance::prepare(&Turn::Say((*line).to_owned()), voice.name(arguments.lang)))
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| Failure::new(Exit::Unavailable, error))?;
    let mut options = CallOptions::new(format!("sip:offhook@{address}"), utterances);
    options.clips = known_clips(clips, arguments.lang);
    options.script.barge_in = Some((lines(arguments.lang).len() - 1, BARGE_IN));
    options.record = Some(arguments.out.join("call.wav"));
    options.bind = Some(address.ip());
    tokio::select! {
        report = place(options) => report.map_err(|error| Failure::new(Exit::Unavailable, format!("the test phone: {error}"))),
        () = stop.cancelled() => Err(Failure::new(Exit::Software, "the service ended under the call")),
    }
}

fn write(out: &Path, turns: &[TurnReport], model: &str) -> Result<(), Failure> {
    let timeline = serde_json::json!({ "turns": turns });
    let text = serde_json::to_string_pretty(&timeline).map_err(|error| Failure::new(Exit::Software, error))?;
    let picture = waterfall_svg("offhook demo: where the time of each turn goes", turns, &[model]);
    for (name, content) in [("timeline.json", text + "\n"), ("latency.svg", picture)] {
        let path = out.join(name);
        std::fs::write(&path, content)
            .map_err(|error| Failure::new(Exit::CannotCreate, format!("{}: {error}", path.display())))?;
    }
    Ok(())
}

/// What the caller heard and what the box says of itself, turn by turn; milliseconds from the caller's last voiced sample.
fn table(turns: &[TurnReport], heard: &CallReport) -> String {
    let ms = |value: Option<f64>| value.map_or("–".to_owned(), |ms| format!("{ms:.0}"));
    let mut table = format!(
        "\n{:<6}{:>14}{:>14}{:>14}{:>16}{:>16}{:>14}  {}\n",
        "turn", "end decided", "first sound", "first token", "answer starts", "answer ends", "barge-in", "how it went"
    );
    for (n, heard) in heard.turns.iter().enumerate() {
        let own = turns.get(n);
        table += &format!(
            "{:<6}{:>14}{:>14}{:>14}{:>16}{:>16}{:>14}  {}\n",
            heard.turn,
            ms(own.and_then(|own| own.end_of_utterance_ms)),
            ms(heard.first_sound_ms),
            ms(own.and_then(|own| own.gemini_first_token_ms)),
            ms(heard.answer_start_ms),
            ms(heard.answer_end_ms),
            ms(heard.barge_in_stop_ms),
            own.map_or("no report", |own| own.outcome.name()),
        );
    }
    table += "milliseconds from the caller's last voiced sample, as heard at the caller's socket; end decided and first token by the box's own clock.\n";
    table + "barge-in: from the caller's first voiced sample over the answer to the box's last voiced packet.\n"
}
