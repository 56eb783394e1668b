//! The text of an utterance as it is put together from what an engine tells: pieces that stand, words that may change, and when it is whole.
//!
//! Sans-IO. Not implemented: telling late words of the utterance before from those of the next; engines do not say.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::{Recognised, Recognition};

/// After the end, when everything that was told stands and nothing more comes: some engines do not confirm an end behind which there was
/// nothing left to do.
const SETTLES: Duration = Duration::from_millis(400);
/// After the end, when nothing comes: what there is, is all.
const GIVES_UP: Duration = Duration::from_secs(3);
/// Longest text; an engine that tells more is cut.
const LONGEST_BYTES: usize = 16 * 1024;

/// What is known of the utterance's end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// There is none.
    None,
    Spoken,
    /// It has ended then, and the whole text is awaited.
    Ended {
        at: Instant,
    },
    /// Its whole text was told.
    Told,
}

/// The utterance that is being recognised. Not `Debug`: it holds what people said.
pub(super) struct Transcript {
    utterance: u32,
    state: State,
    settled: String,
    interim: String,
    language: Option<String>,
    /// Ends that the engine has not confirmed.
    unconfirmed: u32,
    last_heard: Option<Instant>,
    told: VecDeque<Recognition>,
}

impl Transcript {
    pub(super) fn new() -> Self {
        Self {
            utterance: 0,
            state: State::None,
            settled: String::new(),
            interim: String::new(),
            language: None,
            unconfirmed: 0,
            last_heard: None,
            told: VecDeque::new(),
        }
    }

    /// Another utterance begins.
    pub(super) fn started(&mut self, utterance: u32) {
        self.utterance = utterance;
        self.again();
        self.state = State::Spoken;
    }

    /// All of the utterance is said again, over another connection.
    pub(super) fn again(&mut self) {
        self.settled.clear();
        self.interim.clear();
        self.language = None;
        self.unconfirmed = 0;
        if let State::Ended { .. } = self.state {
            self.unconfirmed = 1;
        }
    }

    /// The utterance goes on.
    pub(super) fn went_on(&mut self) {
        if self.state != State::None {
            self.state = State::Spoken;
        }
    }

    pub(super) fn ended(&mut self, now: Instant) {
        if self.state != State::None {
            self.state = State::Ended { at: now };
            self.unconfirmed += 1;
            self.last_heard = None;
        }
    }

    /// Words that replace the last that might change.
    pub(super) fn interim(&mut self, now: Instant, text: &str) {
        self.last_heard = Some(now);
        let text = clipped(text.trim());
        if self.state == State::None || text == self.interim {
            return;
        }
        self.interim = text.to_owned();
        self.changed();
    }

    /// Words that stand.
    pub(super) fn settled(&mut self, now: Instant, text: &str, language: Option<String>) {
        self.last_heard = Some(now);
        self.interim.clear();
        let text = text.trim();
        if self.state == State::None || text.is_empty() {
            return;
        }
        if !self.settled.is_empty() {
            self.settled.push(' ');
        }
        self.settled.push_str(text);
        self.settled.truncate(clipped(&self.settled).len());
        self.language = language.or(self.language.take());
        self.changed();
    }

    /// The engine has told everything up to an end.
    pub(super) fn confirmed(&mut self, now: Instant) {
        self.last_heard = Some(now);
        self.unconfirmed = self.unconfirmed.saturating_sub(1);
        if matches!(self.state, State::Ended { .. }) && self.unconfirmed == 0 {
            self.tell_whole();
        }
    }

    /// The next thing that was recognised; drain until `None`.
    pub(super) fn poll(&mut self) -> Option<Recognition> {
        self.told.pop_front()
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        let State::Ended { at } = self.state else { return None };
        let settled = self.interim.is_empty() && !self.settled.is_empty();
        let settles = settled.then(|| self.last_heard.unwrap_or(at).max(at) + SETTLES);
        Some(settles.unwrap_or(at + GIVES_UP).min(at + GIVES_UP))
    }

    /// What is due. True when the engine has said nothing at all since the end.
    pub(super) fn handle_timeout(&mut self, now: Instant) -> bool {
        if self.poll_timeout().is_none_or(|at| now < at) {
            return false;
        }
        let mute = self.last_heard.is_none() && self.settled.is_empty() && self.interim.is_empty();
        self.unconfirmed = 0;
        self.tell_whole();
        mute
    }

    /// Whether something of an utterance is still to be told.
    pub(super) fn is_open(&self) -> bool {
        matches!(self.state, State::Spoken | State::Ended { .. })
    }

    /// Whether it is over, as far as is known.
    pub(super) fn is_ended(&self) -> bool {
        matches!(self.state, State::Ended { .. })
    }

    fn changed(&mut self) {
        match self.state {
            // Something came after all.
            State::Told => self.tell_whole(),
            _ => {
                let what = Recognised::Interim(self.text());
                self.told.push_back(Recognition { utterance: self.utterance, what });
            }
        }
    }

    fn tell_whole(&mut self) {
        self.state = State::Told;
        let what = Recognised::Final { text: self.text(), language: self.language.clone() };
        self.told.push_back(Recognition { utterance: self.utterance, what });
    }

    pub(super) fn utterance(&self) -> u32 {
        self.utterance
    }

    fn text(&self) -> String {
        match (self.settled.as_str(), self.interim.as_str()) {
            ("", text) | (text, "") => text.to_owned(),
            (settled, interim) => format!("{settled} {interim}"),
        }
    }
}

fn clipped(text: &str) -> &str {
    &text[..text.floor_char_boundary(LONGEST_BYTES)]
}

#[cfg(test)]
mod tests {
    use super::*;

    const SEC: Duration = Duration::from_secs(1);

    /// Texts told so far; a final one has a full stop behind it.
    fn told(transcript: &mut Transcript) -> Vec<String> {
        std::iter::from_fn(|| transcript.poll())
            .map(|recognition| match recognition.what {
                Recognised::Interim(text) => text,
                Recognised::Final { text, .. } => format!("{text}."),
                Recognised::Lost(fault) => panic!("{fault}"),
            })
            .collect()
    }

    fn begun() -> (Transcript, Instant) {
        let mut transcript = Transcript::new();
        transcript.started(1);
        (transcript, Instant::now())
    }

    #[test]
    fn interim_words_replace_each_other_and_settled_ones_stand() {
        let (mut transcript, now) = begun();
        transcript.interim(now, "where");
        transcript.interim(now, "where");
        transcript.interim(now, "where is");
        transcript.settled(now, "Where is", Some("en".into()));
        transcript.interim(now, "my order");
        assert_eq!(told(&mut transcript), ["where", "where is", "Where is", "Where is my order"]);
        transcript.ended(now);
        transcript.settled(now, "my order", None);
        transcript.confirmed(now);
        let recognition = std::iter::from_fn(|| transcript.poll()).last().unwrap();
        let wanted = Recognised::Final { text: "Where is my order".into(), language: Some("en".into()) };
        assert_eq!(recognition, Recognition { utterance: 1, what: wanted });
    }

    #[test]
    fn an_end_that_was_taken_back_makes_nothing_final() {
        let (mut transcript, now) = begun();
        transcript.ended(now);
        transcript.went_on();
        transcript.settled(now, "one", None);
        transcript.confirmed(now);
        assert_eq!(told(&mut transcript), ["one"]);
        // Two ends, of which the first is confirmed late.
        transcript.ended(now);
        transcript.went_on();
        transcript.ended(now);
        transcript.confirmed(now);
        assert_eq!(told(&mut transcript), [""; 0]);
        transcript.settled(now, "two", None);
        transcript.confirmed(now);
        assert_eq!(told(&mut transcript), ["one two", "one two."]);
    }

    #[test]
    fn an_engine_that_does_not_confirm_is_waited_for_shortly_when_all_words_stand_and_longer_otherwise() {
        let (mut transcript, now) = begun();
        transcript.settled(now, "yes", None);
        transcript.ended(now + SEC);
        assert_eq!(transcript.poll_timeout(), Some(now + SEC + SETTLES));
        assert!(!transcript.handle_timeout(now + SEC));
        assert!(!transcript.handle_timeout(now + SEC + SETTLES), "it had said something");
        assert_eq!(told(&mut transcript), ["yes", "yes."]);
        transcript.started(2);
        transcript.interim(now, "per");
        transcript.ended(now);
        assert_eq!(transcript.poll_timeout(), Some(now + GIVES_UP));
        transcript.handle_timeout(now + GIVES_UP);
        assert_eq!(told(&mut transcript), ["per", "per."]);
        transcript.started(3);
        transcript.ended(now);
        assert!(transcript.handle_timeout(now + GIVES_UP), "it was mute");
        assert_eq!(told(&mut transcript), ["."]);
        assert_eq!(transcript.poll_timeout(), None);
    }

    #[test]
    fn words_that_come_late_make_the_whole_anew_and_a_repetition_does_not_double_them() {
        let (mut transcript, now) = begun();
        transcript.settled(now, "five", None);
        transcript.ended(now);
        transcript.confirmed(now);
        transcript.settled(now, "six", None);
        assert_eq!(told(&mut transcript), ["five", "five.", "five six."]);
        transcript.started(2);
        transcript.settled(now, "seven", None);
        transcript.ended(now);
        transcript.again();
        transcript.settled(now, "seven", None);
        transcript.confirmed(now);
        assert_eq!(told(&mut transcript), ["seven", "seven", "seven."]);
    }

    #[test]
    fn without_an_utterance_nothing_is_told_and_no_text_grows_without_end() {
        let mut transcript = Transcript::new();
        let now = Instant::now();
        transcript.interim(now, "x");
        transcript.settled(now, "x", None);
        transcript.ended(now);
        transcript.confirmed(now);
        assert_eq!((told(&mut transcript).len(), transcript.poll_timeout()), (0, None));
        transcript.started(1);
        for _ in 0..100 {
            transcript.settled(now, &"ש".repeat(1000), None);
        }
        assert!(transcript.settled.len() <= LONGEST_BYTES);
    }
}
