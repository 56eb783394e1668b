//! Callers who must know a password (RFC 3261 §22.2): those whose address is allowed but is no trunk's.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use super::digest::{Challenger, Verdict};
use super::head::Head;
use super::nameaddr::{parameter, split_list};
use crate::privacy::Secret;

/// Users with their passwords, as the file `sip.inbound_users_file` lists them.
#[derive(Clone, Default)]
pub struct InboundUsers(HashMap<String, Secret>);

/// What is wrong with a list of users.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InboundUsersError {
    /// A line that is not `user:password`. The line itself is not shown, since it may hold a password.
    #[error("line {line}: not of the form user:password; empty lines and lines that start with # are allowed")]
    Line {
        /// From 1.
        line: usize,
    },
    /// Two lines for one user.
    #[error("line {line}: a user who was named before; remove one of the two lines")]
    Repeated {
        /// From 1.
        line: usize,
    },
    /// No user at all: nobody could call.
    #[error("no user in it; write one line user:password for each, or remove the key sip.inbound_users_file")]
    Empty,
}

impl InboundUsers {
    /// Reads `user:password` lines. Passwords may hold colons; users may not (RFC 7617 says the same of its own).
    ///
    /// # Errors
    /// As [`InboundUsersError`] lists them.
    pub fn parse(text: &str) -> Result<Self, InboundUsersError> {
        let mut users = HashMap::new();
        for (index, line) in text.lines().enumerate() {
            let (line, content) = (index + 1, line.trim());
            if content.is_empty() || content.starts_with('#') {
                continue;
            }
            let (user, password) = content.split_once(':').ok_or(InboundUsersError::Line { line })?;
            let (user, password) = (user.trim(), Secret::new(password));
            if user.is_empty() || password.is_empty() {
                return Err(InboundUsersError::Line { line });
            }
            if users.insert(user.to_owned(), password).is_some() {
                return Err(InboundUsersError::Repeated { line });
            }
        }
        if users.is_empty() { Err(InboundUsersError::Empty) } else { Ok(Self(users)) }
    }
}

impl fmt::Debug for InboundUsers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "InboundUsers({})", self.0.len())
    }
}

/// Challenges callers and checks what they answer.
pub(super) struct Inbound {
    users: InboundUsers,
    challenger: Mutex<Challenger>,
    /// For users who do not exist, so that a wrong name takes as long as a wrong password.
    nobody: Secret,
}

impl Inbound {
    pub(super) fn new(users: InboundUsers, realm: &str, now: Instant) -> Self {
        let nobody = Secret::new(format!("{:x}", fastrand::u128(..)));
        Self { users, challenger: Mutex::new(Challenger::new(realm, now)), nobody }
    }

    /// Whether the request's credentials are right.
    ///
    /// # Errors
    /// The header lines that challenge the caller.
    pub(super) fn check(&self, head: &Head<'_>, now: Instant) -> Result<(), Vec<String>> {
        let mut challenger = self.challenger.lock().unwrap_or_else(PoisonError::into_inner);
        let text = |bytes| std::str::from_utf8(bytes).ok();
        let mut words = head.start.split(u8::is_ascii_whitespace).filter_map(text);
        let (method, uri) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        let answers = || head.values("authorization").filter_map(text);
        let user = answers().find_map(user_of).unwrap_or_default();
        let password = self.users.0.get(&user);
        let verdict = challenger.verify(now, method, uri, answers(), &user, password.unwrap_or(&self.nobody));
        if verdict == Verdict::Accepted && password.is_some() {
            return Ok(());
        }
        let lines = challenger.challenge(now, verdict == Verdict::Stale);
        Err(lines.iter().map(|line| format!("WWW-Authenticate: {line}")).collect())
    }
}

/// The user that an Authorization header names.
fn user_of(authorization: &str) -> Option<String> {
    let (_scheme, parameters) = authorization.trim_start().split_once(char::is_whitespace)?;
    split_list(parameters).find_map(|part| parameter(part, "username"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_are_read_line_by_line_and_a_fault_names_its_line() {
        let users = InboundUsers::parse("# door phones\n\nanna:geheim:1\n bob : x \n").unwrap();
        assert_eq!(users.0["anna"].reveal(), "geheim:1");
        assert_eq!(users.0["bob"].reveal(), "x");
        assert_eq!(format!("{users:?}"), "InboundUsers(2)");
        let fault = |text: &str| InboundUsers::parse(text).unwrap_err();
        assert_eq!(fault("a:b\nnonsense"), InboundUsersError::Line { line: 2 });
        assert_eq!(fault("a:"), InboundUsersError::Line { line: 1 });
        assert_eq!(fault("a:b\na:c"), InboundUsersError::Repeated { line: 2 });
        assert_eq!(fault("# none\n"), InboundUsersError::Empty);
    }
}
