//! `[status]`: what is told to whoever asks.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

/// `[status]`
#[derive(Debug, Clone, Default, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Status {
    /// TCP address where `/metrics` and `/healthz` are served; absent: nowhere.
    pub listen: Option<SocketAddr>,
}
