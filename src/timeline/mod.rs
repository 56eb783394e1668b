//! When what happened in a turn, all of it measured from the caller's last voiced sample.
//!
//! A [`TurnTimeline`] gathers marks while the turn goes on; its [`TurnReport`] is what the log, `timeline.json` and the [waterfall](waterfall_svg) show.

use std::fmt::Write as _;
use std::time::Instant;

use serde::{Deserialize, Serialize};

mod percentiles;
mod waterfall;

pub use percentiles::Percentiles;
pub(crate) use percentiles::nearest_rank;
pub use waterfall::waterfall_svg;

/// How a turn went.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TurnOutcome {
    /// The answer was heard to its end.
    Answered,
    /// The model was cut off; what there was of its answer was heard.
    Truncated,
    /// The caller cut the answer off.
    Interrupted,
    /// There was no answer, and an apology in its place.
    Apologised,
    /// The call ended within the turn.
    HungUp,
}

impl TurnOutcome {
    /// The word that reports use.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Answered => "answered",
            Self::Truncated => "truncated",
            Self::Interrupted => "interrupted",
            Self::Apologised => "apologised",
            Self::HungUp => "hung_up",
        }
    }
}

/// Something that happens once in a turn. Where it can happen more often, the first time counts, except where said.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(usize)]
pub enum Mark {
    /// The caller's last voiced sample arrived: the zero of the timeline. A later one means that the caller went on: the wait starts over, and all other marks are forgotten.
    SpeechEnd,
    /// The endpointer took the caller for finished (soft end).
    EndOfUtterance,
    /// The answer may be heard (hard end).
    Committed,
    /// The first frame of the placeholder left.
    PlaceholderStart,
    /// The last frame of the placeholder left. The last time counts.
    PlaceholderEnd,
    /// The request left.
    GeminiStart,
    /// The first text arrived.
    GeminiFirstToken,
    /// The answer's text was whole. The last time counts.
    GeminiFullResponse,
    /// The cutter gave its first piece.
    FirstClause,
    /// The first piece went to the voice.
    TtsStart,
    /// The voice gave its first sound.
    TtsFirstAudio,
    /// The first voiced frame of anything left: placeholder, answer or apology. When nobody marks it, it is the earlier of [`Mark::PlaceholderStart`] and [`Mark::AnswerStart`].
    FirstSound,
    /// The first voiced frame of the answer left.
    AnswerStart,
    /// The last voiced frame of the answer left. The last time counts.
    AnswerEnd,
}

const MARKS: usize = Mark::AnswerEnd as usize + 1;

impl Mark {
    const fn last_counts(self) -> bool {
        matches!(self, Self::PlaceholderEnd | Self::GeminiFullResponse | Self::AnswerEnd)
    }
}

/// The marks of one turn, while they come in.
#[derive(Debug, Clone)]
pub struct TurnTimeline {
    call: String,
    turn: u32,
    placeholder: Option<String>,
    resumed: u32,
    requests: u32,
    requests_wasted: u32,
    speculative: bool,
    marks: [Option<Instant>; MARKS],
}

impl TurnTimeline {
    /// The timeline of a turn in which nothing has happened.
    pub fn new(call: impl Into<String>, turn: u32) -> Self {
        Self {
            call: call.into(),
            turn,
            placeholder: None,
            resumed: 0,
            requests: 0,
            requests_wasted: 0,
            speculative: false,
            marks: [None; MARKS],
        }
    }

    /// Notes that something happened. Marks may come in any order.
    pub fn mark(&mut self, mark: Mark, at: Instant) {
        let known = self.at(mark);
        if mark == Mark::SpeechEnd && known.is_some_and(|known| at > known) {
            // A pause that was too short for an end was none.
            self.resumed += u32::from(self.at(Mark::EndOfUtterance).is_some());
            self.marks = [None; MARKS];
            self.placeholder = None;
        }
        let kept = match known {
            Some(known) if mark == Mark::SpeechEnd || mark.last_counts() => known.max(at),
            Some(known) => known.min(at),
            None => at,
        };
        self.marks[mark as usize] = Some(kept);
    }

    /// The model is asked, before the soft end when `speculative`. Forgets the marks of an earlier request of the same turn, which was
    /// taken back.
    pub fn asked(&mut self, speculative: bool) {
        use Mark::{FirstClause, GeminiFirstToken, GeminiFullResponse, GeminiStart, TtsFirstAudio, TtsStart};
        for mark in [GeminiStart, GeminiFirstToken, GeminiFullResponse, FirstClause, TtsStart, TtsFirstAudio] {
            self.marks[mark as usize] = None;
        }
        self.requests += 1;
        self.speculative = speculative;
    }

    /// A request was taken back before its answer could be heard.
    pub fn wasted(&mut self) {
        self.requests_wasted += 1;
    }

    /// Names the placeholder clip that started.
    pub fn placeholder(&mut self, clip: impl Into<String>) {
        self.placeholder = Some(clip.into());
    }

    /// When something happened, if it did.
    pub fn at(&self, mark: Mark) -> Option<Instant> {
        self.marks[mark as usize]
    }

    /// Everything in milliseconds from the end of speech. Without that end nothing can be measured, and all times are absent.
    pub fn report(&self, outcome: TurnOutcome) -> TurnReport {
        let zero = self.at(Mark::SpeechEnd);
        let ms = |mark| Some(tenths(self.at(mark)?, zero?));
        let [placeholder_start_ms, answer_start_ms] = [ms(Mark::PlaceholderStart), ms(Mark::AnswerStart)];
        let first_sound_ms = ms(Mark::FirstSound)
            .or_else(|| placeholder_start_ms.into_iter().chain(answer_start_ms).min_by(f64::total_cmp));
        TurnReport {
            call: self.call.clone(),
            turn: self.turn,
            outcome,
            placeholder: self.placeholder.clone(),
            resumed: self.resumed,
            requests: self.requests,
            requests_wasted: self.requests_wasted,
            speculative: self.speculative && self.requests > self.requests_wasted,
            end_of_utterance_ms: ms(Mark::EndOfUtterance),
            committed_ms: ms(Mark::Committed),
            placeholder_start_ms,
            placeholder_end_ms: ms(Mark::PlaceholderEnd),
            gemini_start_ms: ms(Mark::GeminiStart),
            gemini_first_token_ms: ms(Mark::GeminiFirstToken),
            gemini_full_response_ms: ms(Mark::GeminiFullResponse),
            first_clause_ms: ms(Mark::FirstClause),
            tts_start_ms: ms(Mark::TtsStart),
            tts_first_audio_ms: ms(Mark::TtsFirstAudio),
            first_sound_ms,
            answer_start_ms,
            answer_end_ms: ms(Mark::AnswerEnd),
            total_ms: answer_start_ms,
        }
    }
}

/// Milliseconds from `zero` to `at`, rounded to a tenth; negative when it was before.
fn tenths(at: Instant, zero: Instant) -> f64 {
    let ms = match at.checked_duration_since(zero) {
        Some(after) => after.as_secs_f64() * 1e3,
        None => -zero.duration_since(at).as_secs_f64() * 1e3,
    };
    (ms * 10.0).round() / 10.0
}

/// A turn that is over, as it is written down. Times are milliseconds from the end of speech; what did not happen is `null`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TurnReport {
    /// Name of the call.
    pub call: String,
    /// The turn, from 1.
    pub turn: u32,
    /// How it went.
    pub outcome: TurnOutcome,
    /// The placeholder clip that started.
    pub placeholder: Option<String>,
    /// How often the caller went on within a pause.
    pub resumed: u32,
    /// How often the model was asked.
    #[serde(default)]
    pub requests: u32,
    /// How many of those requests were taken back because the caller went on.
    #[serde(default)]
    pub requests_wasted: u32,
    /// Whether the answer came from a request that left before the soft end.
    #[serde(default)]
    pub speculative: bool,
    /// [`Mark::EndOfUtterance`]
    pub end_of_utterance_ms: Option<f64>,
    /// [`Mark::Committed`]
    pub committed_ms: Option<f64>,
    /// [`Mark::PlaceholderStart`]
    pub placeholder_start_ms: Option<f64>,
    /// [`Mark::PlaceholderEnd`]
    pub placeholder_end_ms: Option<f64>,
    /// [`Mark::GeminiStart`]
    pub gemini_start_ms: Option<f64>,
    /// [`Mark::GeminiFirstToken`]
    pub gemini_first_token_ms: Option<f64>,
    /// [`Mark::GeminiFullResponse`]
    pub gemini_full_response_ms: Option<f64>,
    /// [`Mark::FirstClause`]
    pub first_clause_ms: Option<f64>,
    /// [`Mark::TtsStart`]
    pub tts_start_ms: Option<f64>,
    /// [`Mark::TtsFirstAudio`]
    pub tts_first_audio_ms: Option<f64>,
    /// [`Mark::FirstSound`]
    pub first_sound_ms: Option<f64>,
    /// [`Mark::AnswerStart`]
    pub answer_start_ms: Option<f64>,
    /// [`Mark::AnswerEnd`]
    pub answer_end_ms: Option<f64>,
    /// The caller's last word to the first of the answer: what the old system's log called the total.
    pub total_ms: Option<f64>,
}

impl TurnReport {
    /// The times with their keys, in the order in which they usually happen.
    pub fn times(&self) -> [(&'static str, Option<f64>); 14] {
        [
            ("end_of_utterance_ms", self.end_of_utterance_ms),
            ("gemini_start_ms", self.gemini_start_ms),
            ("placeholder_start_ms", self.placeholder_start_ms),
            ("first_sound_ms", self.first_sound_ms),
            ("committed_ms", self.committed_ms),
            ("gemini_first_token_ms", self.gemini_first_token_ms),
            ("first_clause_ms", self.first_clause_ms),
            ("tts_start_ms", self.tts_start_ms),
            ("tts_first_audio_ms", self.tts_first_audio_ms),
            ("placeholder_end_ms", self.placeholder_end_ms),
            ("answer_start_ms", self.answer_start_ms),
            ("total_ms", self.total_ms),
            ("gemini_full_response_ms", self.gemini_full_response_ms),
            ("answer_end_ms", self.answer_end_ms),
        ]
    }

    /// One line of `key=value`; what did not happen is left out.
    pub fn summary_line(&self) -> String {
        let mut line = format!("call={} turn={} outcome={}", self.call, self.turn, self.outcome.name());
        if let Some(clip) = &self.placeholder {
            let _ = write!(line, " placeholder={clip}");
        }
        if self.resumed > 0 {
            let _ = write!(line, " resumed={}", self.resumed);
        }
        if self.requests_wasted > 0 {
            let _ = write!(line, " requests={} requests_wasted={}", self.requests, self.requests_wasted);
        }
        if self.speculative {
            line.push_str(" speculative=true");
        }
        for (key, ms) in self.times() {
            if let Some(ms) = ms {
                let _ = write!(line, " {key}={ms}");
            }
        }
        line
    }

    /// Writes the turn's line into the log at INFO, each value a field.
    pub fn log(&self) {
        tracing::info!(
            call = self.call,
            turn = self.turn,
            outcome = self.outcome.name(),
            placeholder = self.placeholder,
            resumed = self.resumed,
            requests = self.requests,
            requests_wasted = self.requests_wasted,
            speculative = self.speculative,
            end_of_utterance_ms = self.end_of_utterance_ms,
            gemini_start_ms = self.gemini_start_ms,
            placeholder_start_ms = self.placeholder_start_ms,
            first_sound_ms = self.first_sound_ms,
            committed_ms = self.committed_ms,
            gemini_first_token_ms = self.gemini_first_token_ms,
            first_clause_ms = self.first_clause_ms,
            tts_start_ms = self.tts_start_ms,
            tts_first_audio_ms = self.tts_first_audio_ms,
            placeholder_end_ms = self.placeholder_end_ms,
            answer_start_ms = self.answer_start_ms,
            total_ms = self.total_ms,
            gemini_full_response_ms = self.gemini_full_response_ms,
            answer_end_ms = self.answer_end_ms,
            "turn"
        );
    }
}

#[cfg(test)]
mod tests;
