//! What a call needs of a line's password: answers to the challenges that requests of ours meet (RFC 3261 §22).

use std::fmt::Debug;
use std::sync::{Arc, Mutex, PoisonError};

use super::digest::{Challenged, Credentials, Exchange};

/// The password of a line; shared by all calls on it.
pub(super) trait Authorizer: Debug + Send + Sync {
    /// Begins one request, from its first sending to its final response.
    fn begin(&self) -> Box<dyn Authorization>;
}

/// One request and the challenges that it met.
pub(super) trait Authorization: Send {
    /// The header fields, name and value, that the request carries at its next sending; before any challenge those of
    /// a nonce that is known already. `uri` is the Request-URI as it is on the wire.
    fn headers(&mut self, method: &str, uri: &str, body: &[u8]) -> Vec<(&'static str, String)>;

    /// Takes the header fields of a 401 or 407. True: send it again, with a higher CSeq and new headers.
    fn challenged(&mut self, headers: &[(&str, &str)]) -> bool;

    /// Takes the header fields of any other final response.
    fn answered(&mut self, headers: &[(&str, &str)]);
}

impl Authorizer for Arc<Mutex<Credentials>> {
    fn begin(&self) -> Box<dyn Authorization> {
        Box::new(ByDigest { credentials: self.clone(), exchange: Exchange::default() })
    }
}

struct ByDigest {
    credentials: Arc<Mutex<Credentials>>,
    exchange: Exchange,
}

impl Authorization for ByDigest {
    fn headers(&mut self, method: &str, uri: &str, body: &[u8]) -> Vec<(&'static str, String)> {
        let mut credentials = self.credentials.lock().unwrap_or_else(PoisonError::into_inner);
        credentials.authorize(&mut self.exchange, method, uri, body)
    }

    fn challenged(&mut self, headers: &[(&str, &str)]) -> bool {
        let mut credentials = self.credentials.lock().unwrap_or_else(PoisonError::into_inner);
        credentials.challenged(&mut self.exchange, headers.iter().copied()) == Challenged::Retry
    }

    fn answered(&mut self, headers: &[(&str, &str)]) {
        let mut credentials = self.credentials.lock().unwrap_or_else(PoisonError::into_inner);
        credentials.answered(headers.iter().copied());
    }
}
