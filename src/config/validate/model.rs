//! What `[chat]`, `[price]`, `[persona]` and the levels of thinking must mean.

use super::super::{Chat, Gemini, GeminiApi, Persona, Price};
use super::Complaints;

const LEVELS: [&str; 4] = ["minimal", "low", "medium", "high"];

pub(super) fn thinking(found: &mut Complaints, gemini: &Gemini) {
    super::one_of(found, "thinking_level", gemini.thinking_level.as_deref(), &LEVELS);
    for (model, level) in &gemini.thinking_levels {
        super::one_of(found, "thinking_levels", Some(level), &LEVELS);
        found.unless(gemini.models.contains(model), "gemini", "thinking_levels", || {
            format!("{model:?} is none of the models ({}); write its name as it stands there", gemini.models.join(", "))
        });
    }
}

pub(super) fn cache(found: &mut Complaints, gemini: &Gemini) {
    found.unless(!gemini.cache || gemini.api == GeminiApi::Generate, "gemini", "cache", || {
        "api = \"interactions\" has nothing that keeps the beginning of requests; take cache = false or api = \"generate\"".into()
    });
    let seconds = gemini.cache_ttl.as_secs();
    found.unless((120..=86_400).contains(&seconds), "gemini", "cache_ttl_s", || {
        format!("{seconds} is out of range; take 120 to 86400 (seconds)")
    });
}

pub(super) fn chat(found: &mut Complaints, chat: &Chat) {
    if let Some(Err(message)) = chat.base_url.as_deref().map(|url| super::base_url(url, true)) {
        found.unless(false, "chat", "base_url", || message);
    }
    let named = chat.model.as_deref().is_some_and(|model| !model.trim().is_empty());
    found.unless(named || chat.base_url.is_none(), "chat", "model", || {
        "a model needs a name; write it as the server lists it under /v1/models".into()
    });
    let tokens = chat.max_output_tokens;
    found.unless((1..=8192).contains(&tokens), "chat", "max_output_tokens", || {
        format!("{tokens} is out of range; take 1 to 8192")
    });
}

pub(super) fn price(found: &mut Complaints, price: &Price) {
    for (key, value) in [
        ("input_per_million", price.input_per_million),
        ("audio_per_million", price.audio_per_million),
        ("cached_per_million", price.cached_per_million),
        ("output_per_million", price.output_per_million),
        ("voice_per_million_characters", price.voice_per_million_characters),
        ("recogniser_per_hour", price.recogniser_per_hour),
    ] {
        found.unless((0.0..=1e6).contains(&value), "price", key, || {
            format!("{value} is out of range; take 0 to 1000000")
        });
    }
}

pub(super) fn persona(found: &mut Complaints, persona: &Persona) {
    let most = persona.facts_max_chars;
    found.unless((100..=100_000).contains(&most), "persona", "facts_max_chars", || {
        format!("{most} is out of range; take 100 to 100000")
    });
    for (key, text) in [("business", &persona.business), ("character", &persona.character), ("facts", &persona.facts)] {
        let chars = text.chars().count();
        found.unless(chars <= 100_000, "persona", key, || {
            format!("{chars} characters are too many; take 100000 at most")
        });
    }
}
