//! A key in the header of requests. Another one may take its place while requests run.

use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};

use reqwest::header::{HeaderValue, InvalidHeaderValue};

use crate::privacy::Secret;

/// A key, and the value of the header that it is sent in.
pub(crate) struct Key {
    /// The key.
    pub secret: Secret,
    /// What is sent of it.
    pub header: HeaderValue,
}

impl Key {
    fn new(scheme: &str, secret: Secret) -> Result<Self, InvalidHeaderValue> {
        let mut header = HeaderValue::from_str(&format!("{scheme}{}", secret.reveal()))?;
        header.set_sensitive(true);
        Ok(Self { secret, header })
    }
}

/// The key that is sent at present.
pub(crate) struct CurrentKey {
    /// What stands before it in the header.
    scheme: &'static str,
    key: RwLock<Arc<Key>>,
}

impl fmt::Debug for CurrentKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.get().secret.fmt(f)
    }
}

impl CurrentKey {
    /// # Errors
    /// When it cannot stand in a header.
    pub fn new(scheme: &'static str, secret: Secret) -> Result<Self, InvalidHeaderValue> {
        Ok(Self { scheme, key: RwLock::new(Arc::new(Key::new(scheme, secret)?)) })
    }

    /// The key.
    pub fn get(&self) -> Arc<Key> {
        self.key.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Sends this one from now on. False when it is the same, or cannot be sent.
    pub fn replace(&self, secret: Secret) -> bool {
        if secret.reveal() == self.get().secret.reveal() {
            return false;
        }
        let Ok(key) = Key::new(self.scheme, secret) else { return false };
        *self.key.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(key);
        true
    }
}
