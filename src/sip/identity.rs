//! Who calls, and whom they wanted first: From, P-Asserted-Identity (RFC 3325), Remote-Party-ID, Privacy (RFC 3323),
//! Diversion (RFC 5806), History-Info (RFC 7044).
//!
//! Anybody can write anything into From; the others are taken from a trunk only. Not implemented: Identity (RFC 8224),
//! which signs the From; several P-Preferred-Identity values.

use std::fmt;

use super::nameaddr::{NameAddr, UriParts, split_list};
use crate::config::IdentityHeader;
use crate::number::{Country, normalise};
use crate::privacy::redact_number;

/// Who calls. Nothing of it is verified, except as [`Caller::asserted`] says.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Caller {
    /// The telephone number: E.164 with a plus where the trunk's country makes that certain, else as the peer wrote it,
    /// such as an extension. None when it is withheld, or the caller has an address that is no number.
    pub number: Option<String>,
    /// The user part of the address as it came, escapes resolved; empty when there is none or it is withheld.
    pub user: String,
    /// The display name; none when absent, empty, or only a word for "withheld".
    pub display: Option<String>,
    /// A trunk answers for the number, not the caller alone.
    pub asserted: bool,
    /// The caller does not want to be shown: the number, if there is one, may serve the call but not be told on.
    pub private: bool,
    /// Whom the caller wanted to reach before the call was forwarded here: a number as in [`Caller::number`], else a user part.
    pub diverted_from: Option<String>,
}

impl fmt::Debug for Caller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Caller")
            .field("number", &self.number.as_deref().map(redact_number))
            .field("display", &self.display.is_some())
            .field("asserted", &self.asserted)
            .field("private", &self.private)
            .field("diverted", &self.diverted_from.is_some())
            .finish_non_exhaustive()
    }
}

/// How callers of one peer are identified.
#[derive(Debug, Clone, Copy)]
pub(super) struct Identification<'a> {
    /// Which headers say who calls, most trusted first.
    pub(super) headers: &'a [IdentityHeader],
    /// Whether headers other than From are believed.
    pub(super) trusted: bool,
    pub(super) country: Option<&'a Country>,
}

/// One address that a header names.
struct Claim {
    number: Option<String>,
    user: String,
    display: Option<String>,
    asserted: bool,
    private: bool,
}

/// Words that stand for a caller who is withheld.
const WITHHELD: [&str; 7] = ["anonymous", "restricted", "unavailable", "private", "withheld", "unknown", "blocked"];

fn is_withheld(word: &str) -> bool {
    WITHHELD.iter().any(|withheld| word.eq_ignore_ascii_case(withheld))
}

impl Identification<'_> {
    /// Reads the headers of an INVITE, each as name and value. Never fails: what cannot be read is left out.
    pub(super) fn caller<'h>(&self, headers: impl Iterator<Item = (&'h str, &'h str)> + Clone) -> Caller {
        // Every value of every header of one name, in their order.
        let values = |name: &'static str, compact: &'static str| {
            let named = headers.clone().filter(move |(header, _)| {
                header.eq_ignore_ascii_case(name) || (!compact.is_empty() && header.eq_ignore_ascii_case(compact))
            });
            named.flat_map(|(_, value)| split_list(value))
        };
        let privacy = values("Privacy", "")
            .flat_map(|value| value.split(';'))
            .any(|word| ["id", "user", "header", "full"].iter().any(|kind| word.trim().eq_ignore_ascii_case(kind)));
        let mut caller = Caller { private: privacy, ..Caller::default() };
        let mut chosen = false;
        for header in self.headers {
            let claims: Vec<Claim> = match header {
                IdentityHeader::PAssertedIdentity if self.trusted => {
                    values("P-Asserted-Identity", "").filter_map(|value| self.claim(value, true)).collect()
                }
                IdentityHeader::RemotePartyId if self.trusted => {
                    values("Remote-Party-ID", "").filter_map(|value| self.remote_party(value)).collect()
                }
                // One value: a comma is part of a display name that should have been quoted.
                IdentityHeader::From => {
                    let from = headers
                        .clone()
                        .find(|(name, _)| name.eq_ignore_ascii_case("From") || name.eq_ignore_ascii_case("f"));
                    from.and_then(|(_, value)| self.claim(value, false)).into_iter().collect()
                }
                _ => continue,
            };
            for claim in claims {
                caller.private |= claim.private;
                if !chosen && (claim.number.is_some() || !claim.user.is_empty()) {
                    chosen = true;
                    caller.number = claim.number;
                    caller.user = claim.user;
                    caller.asserted = claim.asserted;
                }
                // A name may stand in another header or value than the number.
                caller.display = caller.display.take().or(claim.display);
            }
        }
        if !chosen {
            // Nobody says who calls: From's silence is as good as a word for it.
            caller.private = true;
        }
        if self.trusted {
            caller.diverted_from = self.diverted_from(values("Diversion", ""), values("History-Info", ""));
        }
        caller
    }

    fn claim(&self, value: &str, asserted: bool) -> Option<Claim> {
        let address = NameAddr::read(value)?;
        let uri = UriParts::read(address.uri);
        let withheld = uri.user.is_empty() || is_withheld(&uri.user) || uri.host.ends_with("anonymous.invalid");
        let shy = is_withheld(&address.display);
        let display = Some(address.display).filter(|display| !display.is_empty() && !shy);
        if withheld {
            // A gateway's own host without a user says nothing; a word says that the caller is withheld.
            return Some(Claim { number: None, user: String::new(), display, asserted: false, private: true });
        }
        let number = normalise(&uri.user, uri.phone_context.as_deref(), self.country);
        Some(Claim { number, user: uri.user, display, asserted, private: shy })
    }

    /// `…;party=calling;screen=yes;privacy=off`.
    fn remote_party(&self, value: &str) -> Option<Claim> {
        let address = NameAddr::read(value)?;
        if address.parameter("party").is_some_and(|party| !party.eq_ignore_ascii_case("calling")) {
            return None;
        }
        let screened = !address.parameter("screen").is_some_and(|screen| screen.eq_ignore_ascii_case("no"));
        let mut claim = self.claim(value, screened)?;
        claim.private |= address.parameter("privacy").is_some_and(|privacy| !privacy.eq_ignore_ascii_case("off"));
        Some(claim)
    }

    /// Whom the caller wanted: the oldest Diversion (each one that diverts puts its own on top), else the first entry of the history.
    fn diverted_from<'h>(
        &self,
        diversions: impl Iterator<Item = &'h str>,
        mut history: impl Iterator<Item = &'h str>,
    ) -> Option<String> {
        let first = diversions.last().or_else(|| {
            let first = history.next()?;
            // An entry alone is the call to us.
            history.next().map(|_| first)
        })?;
        let uri = UriParts::read(NameAddr::read(first)?.uri);
        let number = normalise(&uri.user, uri.phone_context.as_deref(), self.country);
        number.or(Some(uri.user)).filter(|user| !user.is_empty() && !is_withheld(user))
    }
}

#[cfg(test)]
mod tests;
