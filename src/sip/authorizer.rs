//! What a call needs of a line's password: answers to the challenges that requests of ours meet (RFC 3261 §22).

use std::fmt::Debug;

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
