//! Digest authentication: answers challenges, and makes and checks them (RFC 7616, 8760, 2617; RFC 3261 §22).
//!
//! [`Credentials`] is the client's side: it keeps the last challenge of each realm, so that the next request carries its
//! answer at once. [`Challenger`] is the server's side. Both are pure: header values in, header values out. A header
//! value that cannot be read is an ignored challenge or a refused answer, never a panic.
//!
//! Not implemented: `username*` (RFC 7616 §3.4.1; a name goes out as UTF-8 or, when asked for, as its hash), `rspauth`
//! (the server's proof), and a second realm's password.

mod challenger;
mod grammar;

use std::fmt::Write as _;

use subtle::ConstantTimeEq;

pub(super) use challenger::{Challenger, Verdict};
use grammar::{Parameters, parse_authorization, parse_challenges, parse_parameters, quoted};

use crate::privacy::Secret;

/// Realms whose challenge is remembered; more and the oldest goes.
const MAX_REALMS: usize = 4;
/// A nonce that went stale is answered anew so often within one request.
const MAX_STALE_ROUNDS: usize = 2;
/// Challenges that one request answers in all: its own server and a few proxies.
const MAX_ROUNDS: usize = 6;

/// Who asked: decides which header carries what.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Asker {
    Server,
    Proxy,
}

impl Asker {
    const fn answer_header(self) -> &'static str {
        match self {
            Asker::Server => "Authorization",
            Asker::Proxy => "Proxy-Authorization",
        }
    }

    fn of_header(name: &str) -> Option<Self> {
        if name.eq_ignore_ascii_case("WWW-Authenticate") {
            Some(Asker::Server)
        } else if name.eq_ignore_ascii_case("Proxy-Authenticate") {
            Some(Asker::Proxy)
        } else {
            None
        }
    }
}

/// The hash of an algorithm, weakest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Hash {
    Md5,
    Sha512_256,
    Sha256,
}

impl Hash {
    /// The hash of the parts joined with colons, in lower-case hexadecimal digits.
    fn of(self, parts: &[&[u8]]) -> String {
        fn run<D: md5::Digest>(parts: &[&[u8]]) -> String {
            let mut digest = D::new();
            for (index, part) in parts.iter().enumerate() {
                if index > 0 {
                    digest.update(b":");
                }
                digest.update(part);
            }
            hexadecimal(&digest.finalize())
        }
        match self {
            Hash::Md5 => run::<md5::Md5>(parts),
            Hash::Sha256 => run::<sha2::Sha256>(parts),
            Hash::Sha512_256 => run::<sha2::Sha512_256>(parts),
        }
    }
}

/// `algorithm`: a hash, and whether the password's part is bound to the nonce (`-sess`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Algorithm {
    hash: Hash,
    session: bool,
}

impl Algorithm {
    /// Absent it is MD5 (RFC 7616 §3.3).
    fn parse(name: Option<&str>) -> Option<Self> {
        let name = name.unwrap_or("MD5");
        let (plain, session) = match name.len().checked_sub(5).and_then(|at| name.split_at_checked(at)) {
            Some((plain, suffix)) if suffix.eq_ignore_ascii_case("-sess") => (plain, true),
            _ => (name, false),
        };
        let hash = [("MD5", Hash::Md5), ("SHA-256", Hash::Sha256), ("SHA-512-256", Hash::Sha512_256)]
            .into_iter()
            .find(|(known, _)| known.eq_ignore_ascii_case(plain))?
            .1;
        Some(Self { hash, session })
    }
}

/// What is protected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Quality {
    /// RFC 2069: neither count nor client nonce.
    None,
    Auth,
    /// The body as well.
    AuthInt,
}

/// Everything that the response is computed from.
struct Ingredients<'a> {
    algorithm: Algorithm,
    quality: Quality,
    user: &'a str,
    realm: &'a str,
    password: &'a Secret,
    nonce: &'a str,
    client_nonce: &'a str,
    count: &'a str,
    method: &'a str,
    uri: &'a str,
    body: &'a [u8],
}

impl Ingredients<'_> {
    /// RFC 7616 §3.4.1 to §3.4.3.
    fn response(&self) -> String {
        let hash = self.algorithm.hash;
        let mut secret = hash.of(&[self.user.as_bytes(), self.realm.as_bytes(), self.password.reveal().as_bytes()]);
        if self.algorithm.session {
            secret = hash.of(&[secret.as_bytes(), self.nonce.as_bytes(), self.client_nonce.as_bytes()]);
        }
        let (method, uri) = (self.method.as_bytes(), self.uri.as_bytes());
        let request = match self.quality {
            Quality::AuthInt => hash.of(&[method, uri, hash.of(&[self.body]).as_bytes()]),
            Quality::None | Quality::Auth => hash.of(&[method, uri]),
        };
        let (secret, nonce, request) = (secret.as_bytes(), self.nonce.as_bytes(), request.as_bytes());
        let quality: &[u8] = match self.quality {
            Quality::None => return hash.of(&[secret, nonce, request]),
            Quality::Auth => b"auth",
            Quality::AuthInt => b"auth-int",
        };
        hash.of(&[secret, nonce, self.count.as_bytes(), self.client_nonce.as_bytes(), quality, request])
    }
}

/// A challenge that can be answered, and how often it was.
#[derive(Debug, Clone)]
struct Challenge {
    asker: Asker,
    realm: String,
    nonce: String,
    opaque: Option<String>,
    /// As the server wrote it, when it did: it is given back so.
    algorithm_name: Option<String>,
    algorithm: Algorithm,
    quality: Quality,
    user_hash: bool,
    stale: bool,
    /// One for each nonce: a `-sess` secret depends on it.
    client_nonce: String,
    count: u32,
}

impl Challenge {
    /// # Errors
    /// What it asks for, as the server named it, when that is not known here.
    fn read(asker: Asker, parameters: &Parameters) -> Result<Option<Self>, String> {
        let algorithm_name = parameters.get("algorithm").map(str::to_owned);
        let Some(algorithm) = Algorithm::parse(algorithm_name.as_deref()) else {
            return Err(algorithm_name.unwrap_or_default());
        };
        let (Some(realm), Some(nonce)) = (parameters.get("realm"), parameters.get("nonce")) else { return Ok(None) };
        let offered = parameters.get("qop").unwrap_or_default();
        let offers = |quality: &str| offered.split(',').any(|word| word.trim().eq_ignore_ascii_case(quality));
        let quality = if offered.trim().is_empty() {
            Quality::None
        } else if offers("auth") {
            Quality::Auth
        } else if offers("auth-int") {
            Quality::AuthInt
        } else {
            return Err(format!("qop={offered}"));
        };
        let is_true = |name| parameters.get(name).is_some_and(|value| value.eq_ignore_ascii_case("true"));
        Ok(Some(Self {
            asker,
            realm: realm.to_owned(),
            nonce: nonce.to_owned(),
            opaque: parameters.get("opaque").map(str::to_owned),
            algorithm_name,
            algorithm,
            quality,
            user_hash: is_true("userhash"),
            stale: is_true("stale"),
            client_nonce: random_token(),
            count: 0,
        }))
    }

    fn concerns(&self, other: &Challenge) -> bool {
        self.asker == other.asker && self.realm == other.realm
    }

    /// The value of the header that answers it; counts the nonce's use.
    fn answer(&mut self, user: &str, password: &Secret, method: &str, uri: &str, body: &[u8]) -> String {
        self.count += 1;
        let count = format!("{:08x}", self.count);
        let ingredients = Ingredients {
            algorithm: self.algorithm,
            quality: self.quality,
            user,
            realm: &self.realm,
            password,
            nonce: &self.nonce,
            client_nonce: &self.client_nonce,
            count: &count,
            method,
            uri,
            body,
        };
        let response = ingredients.response();
        let shown_user = match self.user_hash {
            true => self.algorithm.hash.of(&[user.as_bytes(), self.realm.as_bytes()]),
            false => user.to_owned(),
        };
        let mut value = format!(
            "Digest username={}, realm={}, nonce={}, uri={}, response=\"{response}\"",
            quoted(&shown_user),
            quoted(&self.realm),
            quoted(&self.nonce),
            quoted(uri),
        );
        // Writing to a `String` cannot fail.
        if let Some(name) = &self.algorithm_name {
            let _ = write!(value, ", algorithm={name}");
        }
        if self.quality != Quality::None || self.algorithm.session {
            let _ = write!(value, ", cnonce=\"{}\"", self.client_nonce);
        }
        match self.quality {
            Quality::None => {}
            Quality::Auth => _ = write!(value, ", qop=auth, nc={count}"),
            Quality::AuthInt => _ = write!(value, ", qop=auth-int, nc={count}"),
        }
        if let Some(opaque) = &self.opaque {
            let _ = write!(value, ", opaque={}", quoted(opaque));
        }
        if self.user_hash {
            value.push_str(", userhash=true");
        }
        value
    }
}

/// What came of a 401 or 407.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Challenged {
    /// Send the request again, with a higher CSeq and what [`Credentials::authorize`] gives.
    Retry,
    /// The answer to a fresh nonce was refused: user or password is wrong.
    Rejected,
    /// Nothing that was asked for is known here: the algorithms, schemes or qualities that were.
    Unsupported(Vec<String>),
    /// No challenge could be read, or there are more of them than one request answers.
    Unanswerable,
}

/// What one request has been through, from its first sending to its final response. A new one for each request.
#[derive(Debug, Clone, Default)]
pub(super) struct Exchange {
    /// Challenges that this request itself was given, and answered.
    answered: Vec<(Asker, String)>,
    stale_rounds: usize,
    rounds: usize,
    /// Nonces that its last sending used.
    used: Vec<(Asker, String, String)>,
}

/// User, password and the challenges that they answer: one for each trunk, shared by all of its requests.
#[derive(Debug)]
pub(super) struct Credentials {
    user: String,
    password: Secret,
    challenges: Vec<Challenge>,
}

impl Credentials {
    /// `user` is the name that goes with the password.
    pub(super) fn new(user: impl Into<String>, password: Secret) -> Self {
        Self { user: user.into(), password, challenges: Vec::new() }
    }

    /// The headers, name and value, that a request carries: one for each realm that ever asked; none before that.
    ///
    /// `uri` is the Request-URI as it is written on the wire. Each call counts the nonces up: call it once for each
    /// sending with a new CSeq, and not for what the transaction sends again.
    pub(super) fn authorize(
        &mut self,
        exchange: &mut Exchange,
        method: &str,
        uri: &str,
        body: &[u8],
    ) -> Vec<(&'static str, String)> {
        self.challenges.retain(|challenge| challenge.count < u32::MAX);
        exchange.used.clear();
        let mut headers = Vec::with_capacity(self.challenges.len());
        for challenge in &mut self.challenges {
            let value = challenge.answer(&self.user, &self.password, method, uri, body);
            exchange.used.push((challenge.asker, challenge.realm.clone(), challenge.nonce.clone()));
            headers.push((challenge.asker.answer_header(), value));
        }
        headers
    }

    /// Takes the challenges of a 401 or 407 to what `authorize` gave; other headers in `headers` are not looked at.
    pub(super) fn challenged<'a>(
        &mut self,
        exchange: &mut Exchange,
        headers: impl IntoIterator<Item = (&'a str, &'a str)>,
    ) -> Challenged {
        let mut chosen: Vec<Challenge> = Vec::new();
        let mut unknown = Vec::new();
        let asked = headers.into_iter().filter_map(|(name, value)| Some((Asker::of_header(name)?, value)));
        let mut seen = 0;
        for (asker, (scheme, parameters)) in
            asked.flat_map(|(asker, value)| parse_challenges(value).into_iter().map(move |found| (asker, found)))
        {
            seen += 1;
            if seen > grammar::MAX_CHALLENGES {
                break;
            }
            if !scheme.eq_ignore_ascii_case("Digest") {
                unknown.push(scheme);
                continue;
            }
            match Challenge::read(asker, &parameters) {
                Err(what) => unknown.push(what),
                Ok(None) => {}
                Ok(Some(challenge)) => match chosen.iter_mut().find(|other| other.concerns(&challenge)) {
                    // The first listed is the server's favourite among equals (RFC 8760 §2.4).
                    Some(other) if other.algorithm.hash >= challenge.algorithm.hash => {}
                    Some(other) => *other = challenge,
                    None => chosen.push(challenge),
                },
            }
        }
        if chosen.is_empty() {
            return if unknown.is_empty() { Challenged::Unanswerable } else { Challenged::Unsupported(unknown) };
        }
        exchange.rounds += 1;
        if exchange.rounds > MAX_ROUNDS {
            return Challenged::Unanswerable;
        }
        for challenge in &chosen {
            let place = (challenge.asker, challenge.realm.clone());
            let same_nonce = (challenge.asker, challenge.realm.clone(), challenge.nonce.clone());
            if challenge.stale {
                exchange.stale_rounds += 1;
                if exchange.stale_rounds > MAX_STALE_ROUNDS {
                    return Challenged::Unanswerable;
                }
            } else if exchange.answered.contains(&place) || exchange.used.contains(&same_nonce) {
                // A refused nonce is not shown to the server once more.
                self.challenges.retain(|known| !known.concerns(challenge));
                return Challenged::Rejected;
            }
            exchange.answered.push(place);
        }
        for challenge in chosen {
            self.challenges.retain(|known| !known.concerns(&challenge));
            if self.challenges.len() >= MAX_REALMS {
                self.challenges.remove(0);
            }
            self.challenges.push(challenge);
        }
        Challenged::Retry
    }

    /// Takes the headers of a response that was no challenge: `nextnonce` of Authentication-Info (RFC 7616 §3.5).
    ///
    /// It has no realm, so it is taken only where there is no doubt: one realm of that kind has asked.
    pub(super) fn answered<'a>(&mut self, headers: impl IntoIterator<Item = (&'a str, &'a str)>) {
        for (name, value) in headers {
            let asker = if name.eq_ignore_ascii_case("Authentication-Info") {
                Asker::Server
            } else if name.eq_ignore_ascii_case("Proxy-Authentication-Info") {
                Asker::Proxy
            } else {
                continue;
            };
            let Some(nonce) = parse_parameters(value).get("nextnonce").map(str::to_owned) else { continue };
            let mut asked = self.challenges.iter_mut().filter(|challenge| challenge.asker == asker);
            if let (Some(challenge), None) = (asked.next(), asked.next())
                && challenge.nonce != nonce
            {
                challenge.nonce = nonce;
                challenge.count = 0;
                challenge.client_nonce = random_token();
            }
        }
    }
}

/// Compares without telling by the time it takes where two texts differ.
fn equal_in_constant_time(one: &str, other: &str) -> bool {
    one.as_bytes().ct_eq(other.as_bytes()).into()
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// 128 random bits of the system, in hexadecimal digits.
fn random_token() -> String {
    hexadecimal(&random_bytes::<16>())
}

fn random_bytes<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    if rustls::crypto::ring::default_provider().secure_random.fill(&mut bytes).is_err() {
        // The system's source does not fail once it has been seeded; a nonce only has to be new.
        fastrand::fill(&mut bytes);
    }
    bytes
}

#[cfg(test)]
mod tests;
