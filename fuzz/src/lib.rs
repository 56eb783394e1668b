//! What is done with hostile input, one function a target: each takes any bytes, reads from them what is to happen, lets it happen, and
//! checks what must hold whatever the bytes were.
//!
//! The binaries beside this file let libFuzzer look for bytes that break something; `tests/fuzz.rs` shows the same functions a fixed
//! number of inputs in every test run. Time is an argument of all that is fuzzed, so that a day passes in a microsecond.

pub mod jitter;
pub mod receiver;
pub mod rtcp;
pub mod sdp;
pub mod sip;
pub mod srtp;
pub mod telephone_event;
pub mod wav;

/// A target.
pub type Target = fn(&[u8]);

/// All of them, by the name of their binary.
pub const ALL: [(&str, Target); 8] = [
    ("jitter", jitter::fuzz),
    ("receiver", receiver::fuzz),
    ("rtcp", rtcp::fuzz),
    ("sdp", sdp::fuzz),
    ("sip", sip::fuzz),
    ("srtp", srtp::fuzz),
    ("telephone_event", telephone_event::fuzz),
    ("wav", wav::fuzz),
];
