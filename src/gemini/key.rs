//! Where the API key comes from: the configured file, the systemd credential `gemini.key`, the variable `GEMINI_API_KEY`.

use crate::config::{self, SecretError, Wanted};
use crate::privacy::Secret;

/// Finds the key. `None` when there is none anywhere, which is enough for a base URL on loopback.
///
/// # Errors
/// When there is one that cannot be used.
pub fn key(config: &config::Gemini) -> Result<Option<Secret>, SecretError> {
    Wanted {
        what: "gemini key",
        key: "api_key_file",
        file: config.api_key_file.as_deref(),
        credential: "gemini.key",
        variable: "GEMINI_API_KEY",
        ascii: true,
    }
    .find()
}
