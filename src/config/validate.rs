//! What a configuration must mean, beyond the types of its values.

use std::borrow::Cow;
use std::net::IpAddr;
use std::time::Duration;

use crate::codec::Codec;

use super::{Config, Gemini, Hearing, HostPort, Rtp, Sip, VoicePreset, is_private_host};

mod model;
mod context;
mod trunk;

/// The most calls that one box takes.
const MAX_CALLS: usize = 256;

/// A value that cannot be used.
#[derive(Debug)]
pub(super) struct Complaint {
    pub(super) section: Cow<'static, str>,
    pub(super) key: &'static str,
    /// Complaint and remedy.
    pub(super) message: String,
}

pub(super) struct Complaints(Vec<Complaint>);

impl Complaints {
    pub(super) fn unless(
        &mut self,
        good: bool,
        section: impl Into<Cow<'static, str>>,
        key: &'static str,
        message: impl FnOnce() -> String,
    ) {
        if !good {
            self.0.push(Complaint { section: section.into(), key, message: message() });
        }
    }

    pub(super) fn within(
        &mut self,
        section: &'static str,
        key: &'static str,
        value: Duration,
        ms: std::ops::RangeInclusive<u64>,
    ) {
        let good = (Duration::from_millis(*ms.start())..=Duration::from_millis(*ms.end())).contains(&value);
        self.unless(good, section, key, || {
            format!("{} ms is out of range; take {} to {} (milliseconds)", value.as_millis(), ms.start(), ms.end())
        });
    }
}

/// Everything that cannot be used in a configuration.
pub(super) fn complaints(config: &Config) -> Vec<Complaint> {
    let mut found = Complaints(Vec::new());
    sip(&mut found, &config.sip, config.trunk.is_empty());
    trunk::trunks(&mut found, config.trunk.iter());
    rtp(&mut found, &config.rtp, config.sip.max_calls);
    hearing(&mut found, &config.hearing);
    found.within("placeholder", "grace_ms", config.placeholder.grace, 0..=460);
    found.within("placeholder", "second_after_ms", config.placeholder.second_after, 0..=20_000);
    gemini(&mut found, &config.gemini);
    super::live::check(&mut found, config);
    super::recogniser::check(&mut found, &config.recogniser);
    model::chat(&mut found, &config.chat);
    model::price(&mut found, &config.price);
    model::persona(&mut found, &config.persona);
    voice(&mut found, &config.voice);
    network_voice(&mut found, &config.network_voice);
    let exchanges = config.conversation.history_exchanges;
    found.unless(exchanges <= 200, "conversation", "history_exchanges", || {
        format!("{exchanges} is too many; take at most 200")
    });
    found.within("conversation", "barge_in_ms", config.conversation.barge_in, 0..=3000);
    if !config.conversation.silence_prompt.is_zero() {
        found.within("conversation", "silence_prompt_ms", config.conversation.silence_prompt, 2000..=120_000);
    }
    transfer(&mut found, config);
    context::context(&mut found, config);
    super::tools::complaints(&mut found, config);
    super::ladder::complaints(&mut found, config);
    super::limits::complaints(&mut found, config);
    super::log::complaints(&mut found, config);
    super::clips::complaints(&mut found, config);
    super::greeting::complaints(&mut found, config);
    found.0
}

fn transfer(found: &mut Complaints, config: &Config) {
    let key = config.conversation.transfer_key;
    found.unless("0123456789*#ABCD".contains(key), "conversation", "transfer_key", || {
        format!("{key:?} is no key of a telephone; take one of 0 to 9, * or #")
    });
    let Some(to) = config.conversation.transfer_to.as_deref() else { return };
    let good = is_dialable(to);
    found.unless(good, "conversation", "transfer_to", || {
        "neither a number nor a SIP URI; write it as in \"+97235551234\" or \"sip:620@192.168.1.1\"".into()
    });
    found.unless(!good || to.starts_with("sip:") || !config.trunk.is_empty(), "conversation", "transfer_to", || {
        "a number is called through a trunk, and there is none; write a SIP URI, as in \"sip:620@192.168.1.1\"".into()
    });
}

/// A number or a SIP URI.
pub(super) fn is_dialable(to: &str) -> bool {
    match to.strip_prefix("sip:") {
        Some(uri) => {
            let host = uri.rsplit('@').next().unwrap_or_default().split([';', '?']).next().unwrap_or_default();
            host.parse::<HostPort>().is_ok() && !to.contains([' ', '<', '>', '"', '?'])
        }
        None => {
            let is_number = |char: char| char.is_ascii_digit() || "+*# -.()/".contains(char);
            to.contains(|char: char| char.is_ascii_digit()) && to.chars().all(is_number)
        }
    }
}

fn sip(found: &mut Complaints, sip: &Sip, no_trunks: bool) {
    found.unless(sip.public_address.is_none_or(|address| !address.is_unspecified()), "sip", "public_address", || {
        "an unspecified address reaches nobody; write the address at which peers reach this box, or leave the line out".into()
    });
    found.unless(!no_trunks || !sip.allowed_peers.is_empty(), "sip", "allowed_peers", || {
        "empty, so nobody could call; list the addresses or networks of the trunk or PBX".into()
    });
    found.unless((1..=MAX_CALLS).contains(&sip.max_calls), "sip", "max_calls", || {
        format!("{} is out of range; take 1 to {MAX_CALLS}", sip.max_calls)
    });
    let rate = sip.max_calls_per_second;
    found.unless((1..=1000).contains(&rate), "sip", "max_calls_per_second", || {
        format!("{rate} is out of range; take 1 to 1000")
    });
    let connections = sip.max_connections;
    found.unless((1..=1024).contains(&connections), "sip", "max_connections", || {
        format!("{connections} is out of range; take 1 to 1024")
    });
    let certificate = sip.tls_certificate_file.is_some() && sip.tls_key_file.is_some();
    found.unless(sip.listen_tls.is_none() || certificate, "sip", "listen_tls", || {
        "TLS needs a certificate; set tls_certificate_file and tls_key_file (PEM), or leave listen_tls out".into()
    });
    let neither = sip.tls_certificate_file.is_some() == sip.tls_key_file.is_some();
    found.unless(neither, "sip", "tls_key_file", || {
        "a certificate and its private key go together; set tls_certificate_file and tls_key_file, or neither".into()
    });
}

fn rtp(found: &mut Complaints, rtp: &Rtp, max_calls: usize) {
    let Rtp { port_min, port_max, .. } = *rtp;
    found.unless(port_min >= 1024, "rtp", "port_min", || format!("{port_min} needs privileges; take 1024 or above"));
    if port_min >= port_max {
        found.unless(false, "rtp", "port_max", || {
            format!("{port_max} is not above port_min ({port_min}); take at least {}", port_min.saturating_add(1))
        });
    } else {
        // A call takes an even port and the odd one above it.
        let first = usize::from(port_min).next_multiple_of(2);
        let pairs = (usize::from(port_max) + 1).saturating_sub(first) / 2;
        found.unless(pairs >= max_calls || max_calls > MAX_CALLS, "rtp", "port_max", || {
            format!(
                "ports {port_min} to {port_max} are enough for {pairs} calls and max_calls is {max_calls}; take at least {}, or fewer calls",
                first + 2 * max_calls - 1
            )
        });
    }
    found.within("rtp", "jitter_ms", rtp.jitter, 0..=200);
    let twice = |(n, codec): (usize, &Codec)| rtp.codecs[..n].contains(codec);
    let each_once = !rtp.codecs.is_empty() && !rtp.codecs.iter().enumerate().any(twice);
    found.unless(each_once, "rtp", "codecs", || {
        "it names no codec, or one of them twice; take some of g722, opus, pcmu, pcma".into()
    });
    found.within("rtp", "media_timeout_ms", rtp.media_timeout, 1000..=600_000);
}

fn hearing(found: &mut Complaints, hearing: &Hearing) {
    found.within("hearing", "soft_end_ms", hearing.soft_end, 60..=3000);
    found.within("hearing", "soft_end_min_ms", hearing.soft_end_min, 60..=3000);
    found.within("hearing", "soft_end_max_ms", hearing.soft_end_max, 60..=3000);
    found.within("hearing", "hard_end_ms", hearing.hard_end, 60..=5000);
    found.within("hearing", "hard_end_min_ms", hearing.hard_end_min, 60..=5000);
    found.within("hearing", "hard_end_max_ms", hearing.hard_end_max, 60..=5000);
    found.unless(hearing.soft_end < hearing.hard_end, "hearing", "hard_end_ms", || {
        let soft = hearing.soft_end.as_millis();
        format!("not longer than soft_end_ms ({soft}); take more, usually {}", soft + 500)
    });
    found.within("hearing", "minimum_speech_ms", hearing.minimum_speech, 0..=1000);
    found.within("hearing", "pre_roll_ms", hearing.pre_roll, 0..=1000);
    found.within("hearing", "max_utterance_ms", hearing.max_utterance, 2000..=120_000);
    let threshold = hearing.vad_threshold;
    found.unless(threshold > 0.0 && threshold < 1.0, "hearing", "vad_threshold", || {
        format!("{threshold} is not between 0 and 1; take 0.5, more in noisy places")
    });
}

fn gemini(found: &mut Complaints, gemini: &Gemini) {
    if let Err(message) = base_url(&gemini.base_url, false) {
        found.unless(false, "gemini", "base_url", || message);
    }
    found.unless(!gemini.models.is_empty(), "gemini", "models", || "empty; name at least one model".into());
    for model in &gemini.models {
        let plain =
            !model.is_empty() && model.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._".contains(&byte));
        found.unless(plain, "gemini", "models", || {
            format!("{model:?} is not a model's name; write it as in \"gemini-3.5-flash-lite\", without \"models/\"")
        });
    }
    model::thinking(found, gemini);
    one_of(found, "service_tier", gemini.service_tier.as_deref(), &["standard", "flex", "priority"]);
    let tokens = gemini.max_output_tokens;
    found.unless((1..=8192).contains(&tokens), "gemini", "max_output_tokens", || {
        format!("{tokens} is out of range; take 1 to 8192")
    });
    let turns = gemini.history_audio_turns;
    found.unless(turns <= 32, "gemini", "history_audio_turns", || format!("{turns} is too many; take at most 32"));
    found.within("gemini", "connect_ms", gemini.connect, 50..=10_000);
    found.within("gemini", "first_token_ms", gemini.first_token, 100..=60_000);
    model::cache(found, gemini);
    found.within("gemini", "hedge_ms", gemini.hedge, 0..=60_000);
    found.within("gemini", "between_tokens_ms", gemini.between_tokens, 100..=60_000);
    found.within("gemini", "whole_answer_ms", gemini.whole_answer, 500..=300_000);
    found.unless(gemini.first_token <= gemini.whole_answer, "gemini", "whole_answer_ms", || {
        format!("shorter than first_token_ms ({}); take more", gemini.first_token.as_millis())
    });
}

fn one_of(found: &mut Complaints, key: &'static str, value: Option<&str>, allowed: &[&str]) {
    found.unless(value.is_none_or(|value| allowed.contains(&value)), "gemini", key, || {
        format!(
            "{:?} is none of {}; take one of them, or leave the line out",
            value.unwrap_or_default(),
            allowed.join(", ")
        )
    });
}

fn voice(found: &mut Complaints, voice: &super::Voice) {
    found.unless(voice.command.first().is_some_and(|program| !program.is_empty()), "voice", "command", || {
        "empty; name a program and its arguments, such as [\"espeak-ng\", \"-v\", \"{voice}\", \"-z\", \"--stdin\", \"--stdout\"]".into()
    });
    for (key, name) in [("en", &voice.en), ("he", &voice.he), ("ru", &voice.ru)] {
        found.unless(!name.is_empty() && !name.starts_with('-'), "voice", key, || {
            format!("{name:?} is not a voice's name; `espeak-ng --voices={key}` lists them")
        });
    }
    let level = voice.level_dbfs;
    found.unless((-40.0..=-3.0).contains(&level), "voice", "level_dbfs", || {
        format!("{level} is out of range; take -40 to -3")
    });
    found.within("voice", "pause_after_clause_ms", voice.pause_after_clause, 0..=2000);
    found.within("voice", "pause_after_sentence_ms", voice.pause_after_sentence, 0..=2000);
    found.within("voice", "first_audio_ms", voice.first_audio, 50..=30_000);
    found.within("voice", "stall_ms", voice.stall, 50..=10_000);
    let size = voice.cache_mb;
    found.unless(size <= 10_240, "voice", "cache_mb", || format!("{size} is too much; take at most 10240"));
    let phrases = &voice.cache_phrases;
    found.unless(
        phrases.len() <= 500 && phrases.iter().all(|phrase| phrase.len() <= 1000),
        "voice",
        "cache_phrases",
        || "more than 500 phrases, or one of more than 1000 bytes; take fewer or shorter ones".into(),
    );
}

fn network_voice(found: &mut Complaints, voice: &super::NetworkVoice) {
    const SECTION: &str = "network_voice";
    let needs_url = matches!(voice.preset, Some(VoicePreset::Wyoming | VoicePreset::Custom));
    found.unless(!needs_url || voice.url.is_some(), SECTION, "url", || {
        "this preset has no address of its own; write one, such as \"tcp://127.0.0.1:10200\" for wyoming".into()
    });
    let headers = voice.headers.iter().map(|header| ("headers", header));
    let templates = [("url", &voice.url), ("body", &voice.body)];
    let templates = templates.into_iter().filter_map(|(key, template)| Some((key, template.as_ref()?)));
    for (key, template) in templates.chain(headers) {
        if let Some(message) = super::voice::template_fault(template) {
            found.unless(false, SECTION, key, || message);
        }
    }
    let named = |header: &String| {
        header.split_once(':').is_some_and(|(name, _)| {
            !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
        })
    };
    found.unless(voice.headers.iter().all(named), SECTION, "headers", || {
        "not all are headers; write each as in \"Content-Type: application/json\", keys as {{key}}".into()
    });
    let plain = |region: &String| region.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
    found.unless(voice.region.as_ref().is_none_or(plain), SECTION, "region", || {
        "not the name of a region; take letters, digits and hyphens, such as \"westeurope\"".into()
    });
    let parallel = voice.parallel;
    found.unless((1..=8).contains(&parallel), SECTION, "parallel", || {
        format!("{parallel} is out of range; take 1 to 8")
    });
    found.within(SECTION, "first_audio_ms", voice.first_audio, 50..=30_000);
    found.within(SECTION, "stall_ms", voice.stall, 50..=10_000);
    found.within(SECTION, "rest_ms", voice.rest, 1000..=3_600_000);
}

/// `https` anywhere, `http` on this machine (and, if `private`, in private networks) only, and nothing but scheme, host, port and path.
pub(super) fn base_url(text: &str, private: bool) -> Result<(), String> {
    let url =
        reqwest::Url::parse(text).map_err(|error| format!("not a URL ({error}); write it as in \"https://host\""))?;
    // The text itself is not repeated: somebody may have put a key into it.
    if url.query().is_some() || url.fragment().is_some() || !url.username().is_empty() || url.password().is_some() {
        return Err("has more than scheme, host, port and path; a key belongs into api_key_file".into());
    }
    let host = url.host_str().unwrap_or_default();
    let address = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
    let loopback = host == "localhost" || address.is_ok_and(|address| address.is_loopback());
    match url.scheme() {
        "https" => Ok(()),
        "http" if loopback || private && is_private_host(host) => Ok(()),
        "http" => {
            Err(format!("plain http to {host} would send the key and the callers' voices in the clear; write https"))
        }
        scheme => Err(format!("{scheme} is not a scheme for this; write https")),
    }
}
