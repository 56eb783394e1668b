//! The plug-in point for a model that judges by sound or meaning whether the caller has finished.
//!
//! None is built in: the published turn models know no Hebrew, and cost 12 to 60 ms of a processor for each question.

use super::hint::Hint;
use crate::config::Language;

/// What a model is shown when silence begins.
#[derive(Clone, Copy)]
pub struct Spoken<'a> {
    /// The utterance so far, with its pre-roll: mono, 16 bit, 8 kHz.
    pub samples: &'a [i16],
    /// Its text so far, if a recogniser gives one.
    pub text: Option<&'a str>,
    /// The language of the conversation.
    pub language: Language,
}

/// Neither sound nor text may reach a log.
impl std::fmt::Debug for Spoken<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Spoken")
            .field("samples", &self.samples.len())
            .field("language", &self.language)
            .finish_non_exhaustive()
    }
}

/// Judges whether the caller has finished.
///
/// Asked at a [`Heard::ProbableEnd`](super::Heard::ProbableEnd), off the media thread, on a helper thread that may block; several calls
/// may ask at once. The answer goes to [`Endpointer::hint`](super::Endpointer::hint). One that comes after the hard end, or after the
/// caller went on, is lost, so it should take no more than 300 ms. A model moves the ends within their bounds only: it can neither
/// end a turn by itself nor hold it open for ever.
///
/// ```
/// use offhook::hearing::{EndOfTurn, Hint, Spoken, hint};
///
/// /// By the last word alone.
/// struct LastWord;
///
/// impl EndOfTurn for LastWord {
///     fn judge(&self, spoken: Spoken<'_>) -> Hint {
///         spoken.text.map_or(Hint::Unknown, |text| hint::of_text(spoken.language, text))
///     }
/// }
/// ```
pub trait EndOfTurn: Send + Sync {
    /// Whether what was said sounds finished. A model that fails, or does not know the language, says [`Hint::Unknown`].
    fn judge(&self, spoken: Spoken<'_>) -> Hint;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_model_is_an_object_and_shows_neither_sound_nor_text() {
        struct Loudness;
        impl EndOfTurn for Loudness {
            fn judge(&self, spoken: Spoken<'_>) -> Hint {
                if spoken.samples.last() == Some(&0) { Hint::Closed } else { Hint::Open }
            }
        }
        let model: Box<dyn EndOfTurn> = Box::new(Loudness);
        let spoken = Spoken { samples: &[12_345, 0], text: Some("secret"), language: Language::He };
        assert_eq!(model.judge(spoken), Hint::Closed);
        let shown = format!("{spoken:?}");
        assert!(!shown.contains("secret") && !shown.contains("12345"), "{shown}");
    }
}
