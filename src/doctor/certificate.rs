//! What is to be said of the certificate that a server shows.

use std::borrow::Cow;
use std::time::{Duration, SystemTime};

use super::Check;
use crate::sip::{PeerCertificate, TlsError};

/// A certificate that ends sooner should have been renewed.
const SOON: Duration = Duration::from_secs(14 * 86_400);

/// One that was accepted.
pub(super) fn accepted(area: Cow<'static, str>, name: &str, certificate: &PeerCertificate) -> Check {
    let left = certificate.not_after.duration_since(SystemTime::now()).unwrap_or_default();
    let check = Check::ok(area, "certificate", format!("for {name}, {} days left", left.as_secs() / 86_400));
    if left < SOON { check.warning("the other side must renew it: tell its operator") } else { check }
}

/// One that was not; `None` when the fault is another.
pub(super) fn refused(area: Cow<'static, str>, error: &TlsError) -> Option<Check> {
    let remedy = match error {
        TlsError::NotYetValid { .. } => "set the clock of this box: let it reach a time server (timedatectl status)",
        TlsError::Expired { .. } => "tell the server's operator; if the clock of this box is wrong, set it",
        TlsError::WrongName { .. } => "set tls_server_name to the name in the certificate, if that is whom you mean",
        TlsError::UnknownIssuer { .. } => "put the certificate of its CA, or the server's own, into tls_ca_file",
        TlsError::Certificate { .. } => {
            "ask the server's operator; with a CA of your own, look whether tls_ca_file is up to date"
        }
        _ => return None,
    };
    let text = error.to_string();
    // The message ends with a remedy of its own.
    let finding = text.split("; ").next().unwrap_or(&text);
    Some(Check::ok(area, "certificate", finding).failure(remedy))
}
