//! What every request begins with, kept on the other side (`cachedContents`, Gemini API v1beta): made beside the requests, and never
//! waited for.
//!
//! It pays from some thousands of tokens on, which the interface demands anyhow. Not implemented: telling the other side to forget it;
//! its time does that.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{Mutex, MutexGuard};
use std::time::{Duration, Instant};

use bytes::Bytes;
use serde::Deserialize;

use super::request;
use crate::model::Ask;

/// Fewest tokens that can be kept, as estimated here.
const FEWEST_TOKENS: usize = 4096;
/// How long before its end it is made anew; it is used until a little before.
const RENEW: Duration = Duration::from_secs(60);
const UNSURE: Duration = Duration::from_secs(10);
/// How long nothing is tried after it could not be made.
const AFTER_FAILURE: Duration = Duration::from_secs(600);

/// What a model is asked to keep.
pub(super) struct Prefix {
    key: u64,
    /// The body of the request that makes it.
    pub(super) body: Bytes,
}

/// The beginning of the requests to a model, when it is long enough to be kept.
pub(super) fn prefix(model: &str, ask: &Ask, ttl: Duration) -> Option<Prefix> {
    if tokens(&ask.system) < FEWEST_TOKENS {
        return None;
    }
    let body = Bytes::from(request::kept(model, ask, ttl));
    let mut hasher = DefaultHasher::new();
    body.hash(&mut hasher);
    Some(Prefix { key: hasher.finish(), body })
}

/// About as many as a text has: four ASCII characters are one, and two of others.
fn tokens(text: &str) -> usize {
    let ascii = text.bytes().filter(u8::is_ascii).count();
    let others = text.chars().filter(|char| !char.is_ascii()).count();
    ascii / 4 + others / 2
}

/// What one model keeps.
#[derive(Debug, Default)]
pub(super) struct Cache(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    kept: Option<Kept>,
    making: bool,
    not_before: Option<Instant>,
}

#[derive(Debug)]
struct Kept {
    key: u64,
    name: String,
    until: Instant,
}

impl Cache {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// What stands for the beginning of a request.
    pub(super) fn name(&self, prefix: &Prefix, now: Instant) -> Option<String> {
        let state = self.state();
        let kept = state.kept.as_ref().filter(|kept| kept.key == prefix.key && now + UNSURE < kept.until)?;
        Some(kept.name.clone())
    }

    /// Whether it is to be made now; whoever is told so makes it and says so by [`made`](Self::made).
    pub(super) fn is_wanted(&self, prefix: &Prefix, now: Instant) -> bool {
        let mut state = self.state();
        let good = state.kept.as_ref().is_some_and(|kept| kept.key == prefix.key && now + RENEW < kept.until);
        let wanted = !good && !state.making && state.not_before.is_none_or(|at| at <= now);
        state.making |= wanted;
        wanted
    }

    /// It was made, or it was not.
    pub(super) fn made(&self, prefix: &Prefix, name: Option<String>, now: Instant, ttl: Duration) {
        let mut state = self.state();
        state.making = false;
        match name {
            Some(name) => state.kept = Some(Kept { key: prefix.key, name, until: now + ttl }),
            None => state.not_before = Some(now + AFTER_FAILURE),
        }
    }

    /// The other side does not know it any more.
    pub(super) fn lost(&self, name: &str) {
        let mut state = self.state();
        if state.kept.as_ref().is_some_and(|kept| kept.name == name) {
            state.kept = None;
        }
    }
}

/// The name in the answer to the request that makes it.
pub(super) fn name_in(body: &[u8]) -> Option<String> {
    #[derive(Deserialize)]
    struct Made {
        name: String,
    }
    serde_json::from_slice::<Made>(body).ok().map(|made| made.name).filter(|name| name.starts_with("cachedContents/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TTL: Duration = Duration::from_secs(600);

    fn prefix_of(system: &str) -> Option<Prefix> {
        prefix("gemini-3.5-flash-lite", &Ask { system: system.into(), contents: vec![], functions: [].into() }, TTL)
    }

    fn long(word: &str) -> Prefix {
        prefix_of(&word.repeat(20_000)).unwrap()
    }

    #[test]
    fn only_what_is_long_enough_is_kept() {
        assert!(prefix_of(&"a".repeat(4 * 4095)).is_none());
        assert!(prefix_of(&"a".repeat(4 * 4096)).is_some());
        assert!(prefix_of(&"ש".repeat(2 * 4096)).is_some());
    }

    #[test]
    fn it_is_made_once_used_until_shortly_before_its_end_and_made_anew_before() {
        let (cache, prefix, now) = (Cache::default(), long("a"), Instant::now());
        assert!(cache.is_wanted(&prefix, now) && !cache.is_wanted(&prefix, now));
        assert_eq!(cache.name(&prefix, now), None);
        cache.made(&prefix, Some("cachedContents/1".into()), now, TTL);
        assert_eq!(cache.name(&prefix, now + TTL - 2 * UNSURE).as_deref(), Some("cachedContents/1"));
        assert!(!cache.is_wanted(&prefix, now + TTL - 2 * RENEW));
        assert!(cache.is_wanted(&prefix, now + TTL - RENEW));
        assert_eq!(cache.name(&prefix, now + TTL - UNSURE), None);
    }

    #[test]
    fn another_beginning_is_another_thing_to_keep() {
        let (cache, now) = (Cache::default(), Instant::now());
        assert!(cache.is_wanted(&long("a"), now));
        cache.made(&long("a"), Some("cachedContents/1".into()), now, TTL);
        assert_eq!(cache.name(&long("b"), now), None);
        assert!(cache.is_wanted(&long("b"), now));
    }

    #[test]
    fn what_could_not_be_made_is_not_tried_again_soon_and_what_is_lost_is_made_anew() {
        let (cache, prefix, now) = (Cache::default(), long("a"), Instant::now());
        assert!(cache.is_wanted(&prefix, now));
        cache.made(&prefix, None, now, TTL);
        assert!(!cache.is_wanted(&prefix, now + AFTER_FAILURE - Duration::from_secs(1)));
        assert!(cache.is_wanted(&prefix, now + AFTER_FAILURE));
        cache.made(&prefix, Some("cachedContents/1".into()), now, TTL);
        cache.lost("cachedContents/0");
        assert!(cache.name(&prefix, now).is_some());
        cache.lost("cachedContents/1");
        assert!(cache.name(&prefix, now).is_none() && cache.is_wanted(&prefix, now + AFTER_FAILURE));
    }

    #[test]
    fn only_a_name_of_something_kept_is_one() {
        assert_eq!(name_in(br#"{"name":"cachedContents/x1","ttl":"600s"}"#).as_deref(), Some("cachedContents/x1"));
        for body in [&b""[..], b"{}", br#"{"name":"models/x"}"#, b"<html>"] {
            assert_eq!(name_in(body), None);
        }
    }
}
