//! An `offhook run` that answers with tones in a network of its own, beside which another's telephone can run.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Stdio;

use offhook::config::Config;
use offhook::pcm::RATE;
use offhook::phone::mouth::{Sent, Turn, Utterance};

use super::network::{Network, Running};
use super::service::{self, Service};
use super::tones;

/// The one address in the namespace besides loopback; from the range for benchmarks (RFC 2544).
pub const ADDRESS: &str = "198.18.0.1";
const SET_UP: &str = "ip link add oh0 type veth peer name oh1 && ip address add 198.18.0.1/24 dev oh0 \
    && ip link set oh0 up && ip link set oh1 up";

/// The network with the service in it.
pub struct Answering {
    pub network: Network,
    pub service: Service,
    _simulator: Running,
}

impl Answering {
    /// Starts it in `folder`, `configured` beyond what it takes to answer.
    pub fn start(folder: &Path, configured: impl FnOnce(&mut Config)) -> Self {
        let network = Network::new(SET_UP);
        let offhook = env!("CARGO_BIN_EXE_offhook");
        let mut simulator = network.command(offhook);
        simulator.arg("simulator").stdout(Stdio::piped());
        let mut simulator = Running::start(&mut simulator, "apt-get install util-linux");
        let said = simulator.first_line();

        let mut config: Config = tones::tones(folder);
        config.sip.listen = SocketAddr::new(ADDRESS.parse().unwrap(), 0);
        config.sip.allowed_peers = vec!["198.18.0.0/24".parse().unwrap()];
        config.gemini.base_url = said.strip_prefix("listening on ").unwrap().trim().to_owned();
        configured(&mut config);
        let config = service::write_config(folder, &toml::to_string(&config).unwrap());
        let mut run = network.command(offhook);
        run.args(["run", "--config", config.to_str().unwrap()]);
        let service = Service::start(run);
        Self { network, service, _simulator: simulator }
    }
}

/// What the caller says: nothing for as long as the greeting lasts, a question, and nothing more.
pub fn question() -> Vec<i16> {
    let question = Utterance::prepare(&Turn::Say("Are you open on Friday?".into()), "en-us").unwrap();
    let frames = (0..question.len()).flat_map(|n| match question.at(n) {
        Some(Sent::Sound(frame)) => frame.to_vec(),
        _ => Vec::new(),
    });
    let silence = |seconds: usize| std::iter::repeat_n(0, seconds * RATE as usize);
    silence(2).chain(frames).chain(silence(30)).collect()
}
