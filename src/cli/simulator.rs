//! `offhook simulator`: the stand-in for Gemini's interface, alone.

use std::io::{self, Write};
use std::net::SocketAddr;
use std::time::Duration;

use thiserror::Error;
use tokio::signal::unix::{SignalKind, signal};

use crate::config::Language;
use crate::simulator::{Options, Order, Simulator};

/// Runs a stand-in for Gemini's HTTP interface on this machine, with scripted answers.
///
/// It understands nothing and says so. Point `gemini.base_url` at the address that it prints.
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
    /// Answers requests without a key too.
    #[arg(long)]
    pub no_key: bool,
}

/// Why the simulator cannot run.
#[derive(Debug, Error)]
pub enum SimulatorError {
    /// The address cannot be listened on.
    #[error("--listen {address}: {source}; is another program there? Port 0 takes a free one")]
    Listen {
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
    let listen = |source| SimulatorError::Listen { address: args.listen, source };
    let simulator = Simulator::start(options).await.map_err(listen)?;
    if !simulator.local_addr().ip().is_loopback() {
        tracing::warn!(address = %simulator.local_addr(), "the simulator can be reached from other machines");
    }
    let mut out = io::stdout();
    writeln!(out, "listening on {}", simulator.base_url())?;
    out.flush()?;
    let mut terminate = signal(SignalKind::terminate())?;
    tokio::select! {
        interrupted = tokio::signal::ctrl_c() => interrupted?,
        _ = terminate.recv() => {}
    }
    simulator.shutdown().await;
    Ok(())
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
