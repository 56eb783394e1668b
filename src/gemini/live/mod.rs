//! Gemini's Live API: one WebSocket for sound in and text or sound out (`BidiGenerateContent`, Gemini API v1beta).
//!
//! [`wire`] is its JSON, shared by the recogniser and the speech-to-speech dialogue. The key stands in the URL, as the API wants it, and the
//! URL is never shown. Not implemented: ephemeral tokens, video, text input, the API's own voice activity detection.

pub(crate) mod wire;
