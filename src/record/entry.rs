//! The record of one call, as it stands in the file. docs/operation.md says the same to whoever reads the file.

use serde::{Deserialize, Serialize};

/// Rises when a field changes its meaning or goes; new fields may come without.
pub const SCHEMA_VERSION: u32 = 1;

/// Declares an enum whose variants have one word each, in the file and in labels of metrics.
macro_rules! words {
    ($(#[$doc:meta])* $name:ident { $($(#[$each:meta])* $variant:ident => $word:literal,)+ }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
        pub enum $name {
            $($(#[$each])* #[serde(rename = $word)] $variant,)+
        }

        impl $name {
            /// The word that stands in the file.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $word,)+
                }
            }
        }
    };
}

words! {
    /// Who called whom.
    Direction {
        /// The caller called us.
        In => "in",
        /// We called.
        Out => "out",
    }
}

words! {
    /// What the call was for.
    Kind {
        /// A conversation.
        Conversation => "conversation",
        /// The caller heard what he said: the echo number.
        Echo => "echo",
        /// A greeting was to be recorded: the number of `[greeting_by_phone]`.
        Greeting => "greeting",
    }
}

words! {
    /// How far the call came.
    Outcome {
        /// It was answered.
        Answered => "answered",
        /// It was refused: by us when it came in, by the other side when it went out.
        Refused => "refused",
        /// Whoever called gave up before the answer.
        Cancelled => "cancelled",
        /// It was neither answered nor refused, or it could not be held.
        Failed => "failed",
    }
}

words! {
    /// Who ended it.
    EndedBy {
        /// The other side.
        Peer => "peer",
        /// This box.
        Us => "us",
    }
}

words! {
    /// Why it ended.
    Cause {
        /// The other side hung up.
        HungUp => "hung_up",
        /// The caller gave up before the answer.
        Cancelled => "cancelled",
        /// All permitted calls were in progress, or the places on the media thread were taken (486).
        Busy => "busy",
        /// The media could not be agreed on (488, or a BYE after a late offer).
        NotAcceptable => "not_acceptable",
        /// No ports or descriptors were left (503).
        NoResources => "no_resources",
        /// The called side refused.
        Refused => "refused",
        /// No packet came for too long.
        MediaTimeout => "media_timeout",
        /// Everything was said.
        Goodbye => "goodbye",
        /// The caller said nothing for too long.
        Silence => "silence",
        /// The caller could not be answered.
        Trouble => "trouble",
        /// A message was left, or the chance to leave one.
        Message => "message",
        /// The call had lasted as long as it may.
        TooLong => "too_long",
        /// The caller was handed over.
        Transferred => "transferred",
        /// No ACK came for the answer.
        NoAck => "no_ack",
        /// The session timer ran out.
        SessionExpired => "session_expired",
        /// Signalling gave up.
        Signalling => "signalling",
        /// The caller did not know the PIN.
        WrongPin => "wrong_pin",
        /// The service was stopped.
        Stopped => "stopped",
        /// A fault of this box.
        Fault => "fault",
    }
}

/// A call that is over. What did not happen or is not known is `null`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CallRecord {
    /// [`SCHEMA_VERSION`]
    pub version: u32,
    /// Its Call-ID, as in the log and in the timeline.
    pub call: String,
    /// The trunk that it went over; `null` for a peer that is no trunk's.
    pub trunk: Option<String>,
    /// Who called whom.
    pub direction: Direction,
    /// What the call was for.
    pub kind: Kind,
    /// The caller's number, masked unless `calls_file_numbers` is on; empty when we called, or when the caller gave none.
    pub caller: String,
    /// The number that was called, masked in the same way when it is another's.
    pub called: String,
    /// When the INVITE came or left, RFC 3339 in UTC.
    pub start: String,
    /// From then to the answer, or to the end of a call that was not answered.
    pub ring_ms: u64,
    /// From the answer to the end.
    pub talk_ms: Option<u64>,
    /// Both together.
    pub duration_ms: u64,
    /// How far it came.
    pub outcome: Outcome,
    /// Who ended it.
    pub ended_by: EndedBy,
    /// Why.
    pub cause: Cause,
    /// The SIP status of a refusal.
    pub status: Option<u16>,
    /// The codec that was agreed on last.
    pub codec: Option<String>,
    /// Whether the media were encrypted.
    pub srtp: bool,
    /// The caller's turns.
    pub turns: u32,
    /// Requests to the model.
    pub requests: u32,
    /// Those that were taken back because the caller went on.
    pub requests_wasted: u32,
    /// Tokens that were sent, sound included.
    pub prompt_tokens: u32,
    /// The part of them that was sound.
    pub audio_tokens: u32,
    /// The part of them that the server remembered.
    pub cached_tokens: u32,
    /// Tokens of answers.
    pub answer_tokens: u32,
    /// Tokens of thought.
    pub thought_tokens: u32,
    /// What all of it cost, voice and recogniser included, in the currency of `[price]`; `null` without prices.
    pub price: Option<f64>,
    /// From the caller's last voiced sample to the first sound of anything: the median over the turns.
    pub first_sound_p50_ms: Option<f64>,
    /// The longest.
    pub first_sound_max_ms: Option<f64>,
    /// How often it was tried to hand the caller over.
    pub transfers: u32,
    /// Messages that the caller left.
    pub messages: u32,
    /// The line, when there were media. After a handover it is the line that the call ended on.
    pub line: Option<LineRecord>,
}

/// The line of a call, both ways.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct LineRecord {
    /// What we heard; `null` when nothing came.
    pub heard: Option<SideRecord>,
    /// What the far side heard, if its RTCP told.
    pub said: Option<SideRecord>,
    /// Mean of the round trips that RTCP measured.
    pub round_trip_ms: Option<f64>,
    /// What the jitter buffer did; `null` when nothing came, and in records of before.
    pub buffer: Option<BufferRecord>,
    /// Packets that came.
    pub received: u64,
    /// Packets that never came.
    pub lost: u64,
    /// Packets that came after their time.
    pub late: u64,
    /// Packets that we sent.
    pub sent: u64,
    /// Ticks of the media thread: frames of 20 ms.
    pub frames: u64,
    /// Frames that were concealed.
    pub concealed: u64,
    /// Ticks that the media thread came too late for: nothing was sent in them.
    pub skipped: u64,
    /// Ticks in which a phrase ran dry.
    pub underruns: u64,
    /// What was dropped because a ring was full.
    pub dropped: DroppedOnRings,
}

/// What the jitter buffer did.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct BufferRecord {
    /// How long the fastest packets were held back: the mean.
    pub delay_ms: f64,
    /// The longest that the network asked for.
    pub target_ms: f64,
    /// Times that sound was played again, so that the delay grew.
    pub stretched: u64,
    /// How much sound that was.
    pub stretched_ms: f64,
    /// Times that sound was left out, so that the delay shrank.
    pub shortened: u64,
    /// How much sound that was.
    pub shortened_ms: f64,
}

/// What was dropped because a ring between the media thread and the call was full.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DroppedOnRings {
    /// Events.
    pub events: u64,
    /// Frames that were heard.
    pub heard: u64,
    /// Commands.
    pub commands: u64,
    /// Keys to be pressed.
    pub keys: u64,
}

impl DroppedOnRings {
    /// Each ring's name and count.
    pub const fn by_ring(self) -> [(&'static str, u64); 4] {
        [("events", self.events), ("heard", self.heard), ("commands", self.commands), ("keys", self.keys)]
    }
}

/// One direction of the line.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct SideRecord {
    /// Packets that should have come.
    pub packets: u64,
    /// Share of them that were not played: lost, or too late.
    pub loss_percent: f64,
    /// Interarrival jitter (RFC 3550 §6.4.1) when it was last measured.
    pub jitter_ms: f64,
    /// The transmission rating R (ITU-T G.107), 0 to 93.
    pub r: f64,
    /// The mean opinion score that follows from it, 1 to 4.5.
    pub mos: f64,
}

/// Rounded to what a reader can use.
pub(super) fn rounded(value: f64, digits: i32) -> f64 {
    let scale = 10f64.powi(digits);
    (value * scale).round() / scale
}
