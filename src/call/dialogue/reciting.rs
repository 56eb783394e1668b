//! What is said without a model: words of ours, and clips over a wait.

use super::*;
use crate::conversation::Sentence;
use crate::sentence::{Cutter, Options};

impl Dialogue {
    /// Says a sentence of ours as if a model had written it.
    pub(super) fn recite(&mut self, generation: Generation, sentence: Sentence) {
        let now = Instant::now();
        self.open_answer(generation, false);
        let mut cutter = Cutter::new(Options::default());
        cutter.push(now, sentences::of(sentence, self.parts.config.conversation.language));
        cutter.finish();
        while let Some(piece) = cutter.poll() {
            if let Some(open) = &mut self.open {
                open.add(&piece);
            }
            self.conversation.handle(now, Input::Clause { generation, text: piece.text });
        }
        self.conversation.handle(now, Input::GenerationEnded { generation, outcome: Outcome::Complete });
    }

    /// Tells the caller that somebody is still there, in other words than the last time.
    pub(super) fn bridge(&mut self) {
        let language = self.parts.config.conversation.language;
        let clips = &self.clips;
        let all = match clips.stills(language) {
            [] => clips.placeholders(language),
            stills => stills,
        };
        self.bridges += 1;
        let Some(clip) = all.get(self.bridges % all.len().max(1)) else { return };
        let index = u16::try_from(self.bridges % all.len().max(1)).unwrap_or_default();
        self.ports.command(media::Command::Play(clip.playable(index)));
    }
}
