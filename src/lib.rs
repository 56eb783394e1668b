//! offhook answers the telephone.
//!
//! A small box on the premises takes calls from a SIP trunk or PBX, hears when the caller has finished, makes a sound at once,
//! and answers with what Gemini says, clause by clause, while Gemini is still writing.
//!
//! The modules stand in the order in which a call flows through them; a module knows only modules above it. Only [`call`] is wide.

// the ground
pub mod codec;
pub mod number;
pub mod config;
pub mod pcm;
pub mod privacy;
pub mod timeline;
// the line
pub mod sip;
pub mod sdp;
pub mod rtp;
// hearing
pub mod hearing;
// deciding
pub mod conversation;
// answering
pub mod http;
pub mod websocket;
pub mod model;
pub mod gemini;
pub mod knowledge;
pub mod crm;
pub mod recogniser;
pub mod chat;
pub mod context;
pub mod sentence;
pub mod tts;
pub mod voicemail;
pub mod limits;
pub mod tools;
// speaking
pub mod playout;
pub mod clips;
pub mod leg;
pub mod media;
// ways in besides SIP
pub mod loopback;
// assembly
pub mod record;
pub mod call;
pub mod status;
pub mod daemon;
pub mod simulator;
pub mod phone;
pub mod evaluate;
pub mod doctor;
pub mod cli;
