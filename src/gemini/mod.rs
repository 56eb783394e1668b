//! Gemini over HTTP.
