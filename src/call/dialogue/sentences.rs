//! What the box says by itself, in the language of the call.

use crate::config::Language;
use crate::conversation::Sentence;

/// The words.
pub(super) fn of(sentence: Sentence, language: Language) -> &'static str {
    match (sentence, language) {
        (Sentence::NoMoreAnswers, Language::En) => "I am sorry, I cannot answer any more questions today.",
        (Sentence::NoMoreAnswers, Language::He) => "אני מצטערת, היום אני כבר לא יכולה לענות על שאלות נוספות.",
        (Sentence::NoMoreAnswers, Language::Ru) => "К сожалению, сегодня я больше не могу отвечать на вопросы.",
        (Sentence::TimeIsUp, Language::En) => "I am sorry, our time is up.",
        (Sentence::TimeIsUp, Language::He) => "אני מצטערת, הזמן שלנו נגמר.",
        (Sentence::TimeIsUp, Language::Ru) => "К сожалению, наше время истекло.",
        (Sentence::LeaveMessage, Language::En) => "Please leave a message after the tone.",
        (Sentence::LeaveMessage, Language::He) => "אפשר להשאיר הודעה אחרי הצליל.",
        (Sentence::LeaveMessage, Language::Ru) => "Пожалуйста, оставьте сообщение после сигнала.",
    }
}
