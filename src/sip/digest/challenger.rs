//! The server's side of digest: makes challenges and checks their answers (RFC 7616 §3.3 to §3.4, RFC 8760 §2.6).
//!
//! A nonce carries its own age and a seal, so that a challenge costs no memory. Only the nonces of answers that were
//! right are kept, to find an answer that is shown twice; they are bounded, and what is pushed out counts as stale.
//! Not implemented: `auth-int`, `-sess`, `userhash`.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use sha2::Digest as _;

use super::{
    Algorithm, Hash, Ingredients, Parameters, Quality, equal_in_constant_time, hexadecimal, parse_authorization,
    quoted, random_bytes,
};
use crate::privacy::Secret;

/// How long a nonce may be used.
const NONCE_LIFETIME: Duration = Duration::from_secs(300);
/// Nonces in use of which the count is known.
const MAX_NONCES_IN_USE: usize = 1024;
/// Authorization headers of one request that are looked at.
const MAX_ANSWERS: usize = 4;

/// What an incoming request's credentials are worth.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in super::super) enum Verdict {
    /// They are right.
    Accepted,
    /// There are none for our realm: challenge it with `stale` false.
    Absent,
    /// They would be right, but the nonce is too old, used up or not ours: challenge it with `stale` true.
    Stale,
    /// User or password is wrong, or they belong to another request. Challenge it with `stale` false, or refuse it.
    Wrong,
}

/// Makes challenges for one realm, and checks what answers them.
pub(in super::super) struct Challenger {
    realm: String,
    key: [u8; 32],
    started_at: Instant,
    made: u64,
    /// By the nonce's number: the highest count seen.
    in_use: BTreeMap<u64, u32>,
    /// Nonces up to this number are not taken any more.
    forgotten: u64,
}

impl Challenger {
    /// `realm` is what the caller's telephone shows or looks its password up by, as a rule the domain.
    pub(in super::super) fn new(realm: impl Into<String>, now: Instant) -> Self {
        Self {
            realm: realm.into(),
            key: random_bytes(),
            started_at: now,
            made: 0,
            in_use: BTreeMap::new(),
            forgotten: 0,
        }
    }

    /// The values of the WWW-Authenticate headers of a 401, the strongest first: one header for each.
    pub(in super::super) fn challenge(&mut self, now: Instant, stale: bool) -> [String; 2] {
        self.made += 1;
        let nonce = self.nonce(now.saturating_duration_since(self.started_at).as_secs(), self.made);
        let realm = quoted(&self.realm);
        let stale = if stale { ", stale=true" } else { "" };
        ["SHA-256", "MD5"]
            .map(|name| format!("Digest realm={realm}, nonce=\"{nonce}\", algorithm={name}, qop=\"auth\"{stale}"))
    }

    /// Checks the values of a request's Authorization headers.
    ///
    /// `uri` is the Request-URI; its parameters are not compared, since hops change them. The time that it takes does
    /// not depend on where an answer differs from the right one.
    pub(in super::super) fn verify<'a>(
        &mut self,
        now: Instant,
        method: &str,
        uri: &str,
        answers: impl IntoIterator<Item = &'a str>,
        user: &str,
        password: &Secret,
    ) -> Verdict {
        let ours = |answer: &Parameters| answer.get("realm") == Some(&self.realm);
        let Some(answer) = answers.into_iter().take(MAX_ANSWERS).filter_map(parse_authorization).find(ours) else {
            return Verdict::Absent;
        };
        let Some(checked) = self.check(&answer, method, uri, user, password) else { return Verdict::Wrong };
        let Checked { nonce, count } = checked;
        let Some((made_after, number)) = self.open(nonce) else { return Verdict::Stale };
        let age = now.saturating_duration_since(self.started_at + Duration::from_secs(made_after));
        if age > NONCE_LIFETIME || number <= self.forgotten {
            return Verdict::Stale;
        }
        if self.in_use.get(&number).is_some_and(|&highest| count <= highest) {
            return Verdict::Stale;
        }
        self.in_use.insert(number, count);
        if self.in_use.len() > MAX_NONCES_IN_USE
            && let Some((oldest, _)) = self.in_use.pop_first()
        {
            self.forgotten = oldest;
        }
        Verdict::Accepted
    }

    /// Whether the response is that of the password; says nothing of the nonce.
    fn check<'a>(
        &self,
        answer: &'a Parameters,
        method: &str,
        uri: &str,
        user: &str,
        password: &Secret,
    ) -> Option<Checked<'a>> {
        let algorithm = Algorithm::parse(answer.get("algorithm"))?;
        if algorithm.session || algorithm.hash == Hash::Sha512_256 {
            return None;
        }
        let (nonce, signed_uri, response) = (answer.get("nonce")?, answer.get("uri")?, answer.get("response")?);
        let (quality, count, client_nonce) = match answer.get("qop") {
            None => (Quality::None, "", ""),
            Some(qop) if qop.eq_ignore_ascii_case("auth") => (Quality::Auth, answer.get("nc")?, answer.get("cnonce")?),
            Some(_) => return None,
        };
        // Without a count a nonce serves once.
        let number = match quality {
            Quality::None => u32::MAX,
            _ if count.len() == 8 && count.bytes().all(|digit| digit.is_ascii_hexdigit()) => {
                u32::from_str_radix(count, 16).ok()?
            }
            _ => return None,
        };
        let ingredients = Ingredients {
            algorithm,
            quality,
            user,
            realm: &self.realm,
            password,
            nonce,
            client_nonce,
            count,
            method,
            uri: signed_uri,
            body: b"",
        };
        let right = equal_in_constant_time(&ingredients.response(), &response.to_ascii_lowercase());
        let named = equal_in_constant_time(user, answer.get("username")?);
        (right & named && same_resource(signed_uri, uri)).then_some(Checked { nonce, count: number })
    }

    fn nonce(&self, made_after: u64, number: u64) -> String {
        format!("{made_after:016x}{number:016x}{}", self.seal(made_after, number))
    }

    /// When a nonce of ours was made, in seconds from the start, and its number.
    fn open(&self, nonce: &str) -> Option<(u64, u64)> {
        let (made_after, rest) = nonce.split_at_checked(16)?;
        let (number, seal) = rest.split_at_checked(16)?;
        let (made_after, number) = (u64::from_str_radix(made_after, 16).ok()?, u64::from_str_radix(number, 16).ok()?);
        equal_in_constant_time(&self.seal(made_after, number), seal).then_some((made_after, number))
    }

    /// The fixed length of what is hashed, and the cut, leave no way to extend it.
    fn seal(&self, made_after: u64, number: u64) -> String {
        let mut digest = sha2::Sha256::new();
        digest.update(self.key);
        digest.update(made_after.to_be_bytes());
        digest.update(number.to_be_bytes());
        hexadecimal(&digest.finalize()[..16])
    }
}

impl std::fmt::Debug for Challenger {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Challenger").field("realm", &self.realm).field("made", &self.made).finish_non_exhaustive()
    }
}

/// An answer whose response is right.
struct Checked<'a> {
    nonce: &'a str,
    count: u32,
}

/// Whether two URIs name the same user at the same host, whatever their parameters.
fn same_resource(one: &str, other: &str) -> bool {
    let bare = |uri: &str| uri.split([';', '?']).next().unwrap_or_default().to_ascii_lowercase();
    bare(one) == bare(other)
}
