//! The one shared HTTP client.
