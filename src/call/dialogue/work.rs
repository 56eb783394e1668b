//! What the call's own tasks report: the model's words, the voice's phrases, functions.

use super::*;

impl Dialogue {
    /// Takes what one of the call's tasks reports.
    pub fn work(&mut self, work: Work) {
        let now = Instant::now();
        match work {
            Work::Recognised(recognition) => self.recognised(now, recognition),
            Work::Judged { hint } => {
                self.judging = false;
                if hint != Hint::Unknown {
                    self.ports.command(media::Command::Hint(hint));
                }
            }
            Work::GeminiMark { generation, mark, at } if self.is_open(generation) => self.mark(
                match mark {
                    model::Mark::RequestSent => Mark::GeminiStart,
                    model::Mark::FirstToken => Mark::GeminiFirstToken,
                    model::Mark::FullResponse => Mark::GeminiFullResponse,
                },
                at,
            ),
            Work::GeminiMark { .. } => {}
            Work::Token { generation } => self.tell(now, Input::Token { generation }),
            Work::Clause { generation, at, piece } => {
                if let Some(open) = self.open.as_mut().filter(|open| open.generation == generation) {
                    open.add(&piece);
                    self.mark(Mark::FirstClause, at);
                    self.tell(at, Input::Clause { generation, text: piece.text });
                }
            }
            Work::Controlled { generation, control } => self.tell(
                now,
                match control {
                    Control::EndCall => Input::EndCallWanted { generation },
                    Control::Transfer(to) => Input::TransferWanted { generation, to },
                    Control::TakeMessage => Input::MessageWanted { generation },
                },
            ),
            Work::ToolsRun { generation } => self.tell(now, Input::ToolsRun { generation }),
            Work::ToolsDone { generation } => self.tell(now, Input::ToolsDone { generation }),
            Work::Press { keys } => {
                if !self.ports.command(media::Command::Dial(keys)) {
                    warn!("the media thread is behind: keys are left out");
                }
            }
            Work::Aside { generation, piece } => {
                if let Some(open) = self.open.as_mut().filter(|open| open.generation == generation) {
                    open.add(&piece);
                    self.tell(now, Input::Aside { generation, text: piece.text });
                }
            }
            Work::Told(told) => self.told(now, told),
            Work::ErrandsDone { generation, results } => self.errands_done(now, generation, results),
            Work::Used { usage } => self.tally.usage.add(usage),
            Work::AnswerEnded { generation, outcome, fault } => {
                if let Some(fault) = fault {
                    warn!(%fault, ?outcome, "no whole answer");
                }
                self.asked_in_vain |= outcome == Outcome::Failed && self.is_early(generation);
                self.tell(now, Input::GenerationEnded { generation, outcome });
            }
            Work::PhraseStarted { generation, at } => self.mark_open(generation, Mark::TtsStart, at),
            Work::PhraseSounds { generation, at } => self.mark_open(generation, Mark::TtsFirstAudio, at),
            Work::PhraseSpoken { generation, seq, voiced } => {
                if let Some(open) = self.open.as_mut().filter(|open| open.generation == generation) {
                    open.spoken(seq, voiced);
                }
            }
            Work::PhraseFailed { generation, seq, fault } => {
                warn!(%fault, "a phrase was not spoken");
                self.tell(now, Input::PhraseFailed { generation, seq });
            }
        }
    }

    pub(super) fn is_open(&self, generation: Generation) -> bool {
        self.open.as_ref().is_some_and(|open| open.generation == generation)
    }

    /// Whether the answer was asked for early, and the caller may still go on.
    fn is_early(&self, generation: Generation) -> bool {
        let open = self.open.as_ref().filter(|open| open.generation == generation);
        open.is_some_and(|open| open.early && !open.is_committed())
    }
}
