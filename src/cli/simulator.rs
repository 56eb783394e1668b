//! `offhook simulator`: the stand-in for Gemini's interface, and for the others that the box can use.

use std::io::{self, Write};
use std::net::SocketAddr;
use std::time::Duration;

use thiserror::Error;
use tokio::signal::unix::{SignalKind, signal};

use crate::config::Language;
use crate::simulator::faces::AllFaces;
use crate::simulator::{Options, Order, Simulator};

/// Runs a stand-in for Gemini's HTTP interface on this machine, with scripted answers.
///
/// It understands nothing and says so. Point `gemini.base_url` at the address that it prints. With --faces it stands in for recognisers, voices, a
/// CRM and the rest as well, and prints the lines of the configuration for each.
#[derive(Debug, Clone, clap::Args)]
pub struct Args {
    /// Address to listen on; port 0 takes a free one.
    #[arg(long, default_value = "127.0.0.1:0", value_name = "ADDRESS:PORT")]
    pub listen: SocketAddr,
    /// Time from a request to the first token.
    #[arg(long, default_value_t = 500, value_name = "MS")]
    pub first_token_ms: u64,
    /// Tokens a second after the first.
    #[arg(long, default_value_t = 60.0, value_name = "RATE", value_parser = positive)]
    pub tokens_per_second: f64,
    /// Language of the answers.
    #[arg(long, value_enum, default_value = "en")]
    pub lang: Language,
    /// What goes wrong: S1 to S14, S8b, end-call, end-call-only, empty, hang, reset, 400-key, 403, 404, 429, 500, 503, 503-html, 504, …;
    /// `2:S9` only in the second request, `S11=4000` with a time. May be given several times.
    #[arg(long = "fault", value_name = "[REQUEST:]NAME[=MS]")]
    pub faults: Vec<Order>,
    /// Decides where tokens are cut.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Stands in for the other interfaces too, and prints the configuration of each: OpenAI's chat, Deepgram, Azure, Wyoming, a CRM, … Without
    /// an address on free ports of this machine; else on this port and, for Wyoming, the two above it.
    #[arg(long, value_name = "ADDRESS:PORT", num_args = 0..=1, require_equals = true, default_missing_value = "127.0.0.1:0")]
    pub faces: Option<SocketAddr>,
    /// Answers requests without a key too.
    #[arg(long)]
    pub no_key: bool,
}

/// Why the simulator cannot run.
#[derive(Debug, Error)]
pub enum SimulatorError {
    /// The address cannot be listened on.
    #[error("{option} {address}: {source}; is another program there? Port 0 takes a free one")]
    Listen {
        /// Which of the options names it.
        option: &'static str,
        /// The address.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// Standard output or the signals failed.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// Serves until it is interrupted.
pub async fn run(args: Args) -> Result<(), SimulatorError> {
    let options = Options {
        listen: args.listen,
        first_token: Duration::from_millis(args.first_token_ms),
        tokens_per_second: args.tokens_per_second,
        language: args.lang,
        faults: args.faults,
        seed: args.seed,
        key_required: !args.no_key,
        ..Options::default()
    };
    let simulator = Simulator::start(options).await;
    let simulator =
        simulator.map_err(|source| SimulatorError::Listen { option: "--listen", address: args.listen, source })?;
    let faces = match args.faces {
        Some(address) => {
            let faces = AllFaces::start(address, args.lang).await;
            Some(faces.map_err(|source| SimulatorError::Listen { option: "--faces", address, source })?)
        }
        None => None,
    };
    for address in [Some(simulator.local_addr()), args.faces].into_iter().flatten() {
        if !address.ip().is_loopback() {
            tracing::warn!(%address, "the simulator can be reached from other machines");
        }
    }
    let mut out = io::stdout();
    writeln!(out, "listening on {}", simulator.base_url())?;
    if let Some(faces) = &faces {
        write!(out, "{}", configuration(&simulator, faces))?;
    }
    out.flush()?;
    let mut terminate = signal(SignalKind::terminate())?;
    tokio::select! {
        interrupted = tokio::signal::ctrl_c() => interrupted?,
        _ = terminate.recv() => {}
    }
    simulator.shutdown().await;
    Ok(())
}

/// What an installer pastes, interface by interface.
fn configuration(simulator: &Simulator, faces: &AllFaces) -> String {
    let gemini = format!("[gemini]\nbase_url = \"{}\"\n", simulator.base_url());
    let mut text = "\n# One section of each name goes into the configuration. Any key will do but \"invalid\":\n\
                    # export GEMINI_API_KEY=any DEEPGRAM_API_KEY=any OPENAI_API_KEY=any OFFHOOK_VOICE_KEY=any\n"
        .to_owned();
    for (name, lines) in [("Gemini, the model", gemini)].into_iter().chain(faces.lines()) {
        text += &format!("\n# {name}\n{lines}");
    }
    text
}

fn positive(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(rate) if rate > 0.0 => Ok(rate),
        _ => Err("a number above 0 is needed".into()),
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::simulator::Fault;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        args: Args,
    }

    fn parsed(words: &[&str]) -> Result<Args, clap::Error> {
        Line::try_parse_from(["simulator"].iter().chain(words)).map(|line| line.args)
    }

    #[test]
    fn without_options_it_listens_on_loopback_only_with_the_delays_of_the_figures() {
        let args = parsed(&[]).unwrap();
        assert!(args.listen.ip().is_loopback() && args.listen.port() == 0);
        assert_eq!((args.first_token_ms, args.tokens_per_second, args.lang), (500, 60.0, Language::En));
        assert_eq!(args.faces, None);
    }

    #[test]
    fn the_other_faces_are_on_loopback_unless_they_are_told_where() {
        assert_eq!(parsed(&["--faces"]).unwrap().faces, Some(([127, 0, 0, 1], 0).into()));
        assert_eq!(parsed(&["--faces=192.0.2.1:8090"]).unwrap().faces, Some(([192, 0, 2, 1], 8090).into()));
        assert!(parsed(&["--faces", "192.0.2.1:8090"]).is_err());
    }

    #[test]
    fn faults_are_ordered_by_name_and_request() {
        let args = parsed(&["--lang", "he", "--fault", "S5", "--fault", "2:S11=4000"]).unwrap();
        let stall = Order { request: Some(2), fault: Fault::Stall(Duration::from_secs(4)) };
        assert_eq!(args.faults, [Order { request: None, fault: Fault::PromptBlocked }, stall]);
        let error = parsed(&["--fault", "S99"]).unwrap_err().to_string();
        assert!(error.contains("S99") && error.contains("503-html"), "{error}");
        assert!(parsed(&["--tokens-per-second", "0"]).is_err());
    }
}
