//! The driver without its counterparts.

use super::*;
use crate::clips::Library;
use crate::config::{self, Config};
use crate::gemini::Gemini;
use crate::hearing::Endpointer;
use crate::http::Http;
use crate::leg::testing::Nobody;
use crate::media::{Line, MediaThread};
use crate::playout::Mixer;
use crate::tts::CommandSynthesizer;

#[tokio::test(start_paused = true)]
async fn a_call_ends_even_if_the_media_thread_does_not_answer() {
    let config = Config {
        gemini: config::Gemini { base_url: "http://127.0.0.1:9".into(), ..Default::default() },
        ..Default::default()
    };
    let ip = std::net::IpAddr::from([127, 0, 0, 1]);
    let parts = Parts {
        clips: Arc::new(Library::new(Clips::configured(&config).unwrap())),
        greeting_desk: None,
        model: Arc::new(Gemini::new(&config.gemini, None, &Http::new(config.gemini.connect).unwrap()).unwrap()),
        tools: Arc::new(tools::Toolbox::new(&config, &Http::new(config.gemini.connect).unwrap(), None, None).unwrap()),
        voicemail: None,
        day: crate::limits::Day::open(None).unwrap(),
        voice: Arc::new(CommandSynthesizer::new(&config.voice).unwrap()),
        sources: Arc::default(),
        media: Arc::new(MediaThread::start(1).unwrap()),
        forecast: crate::playout::SharedForecast::default(),
        end_of_turn: None,
        recogniser: None,
        speech: None,
        speech_loudness: Default::default(),
        media_address: ip,
        bind_address: ip,
        reports: mpsc::channel(1).0,
        records: crate::record::Ledger::new(1, false).0,
        config,
    };
    let endpointer = Endpointer::new(crate::hearing::Limits::from(&parts.config.hearing));
    // Kept from the media thread.
    let (_line, ports) = Line::new(Box::new(Nobody), endpointer, Mixer::new(Duration::ZERO), LET_GO).unwrap();
    let (phrases, work) = (mpsc::channel(1).0, mpsc::channel(1).0);
    let briefing = Briefing::without_caller(&parts.sources);
    let mut dialogue = Dialogue::new(Arc::new(parts), "call".into(), "620".into(), briefing, ports, phrases, work);
    let ended = tokio::time::timeout(LET_GO * 2, dialogue.hung_up(Instant::now())).await;
    assert!(ended.is_ok());
}
