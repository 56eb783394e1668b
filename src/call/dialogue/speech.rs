//! Turns with a model that hears and speaks by itself: what it is told, what becomes of its sound, and who answers when it is gone.

use super::*;
use crate::call::speech::Step;
use crate::conversation::Phase;
use crate::gemini::live::Told;
use crate::limits::Cost;
use crate::model::{FunctionCall, FunctionResult};
use crate::pcm::RATE;
use crate::tools::Sorted;

impl Dialogue {
    /// Tells the model of the caller's voice once it is sure that it is meant.
    pub(super) fn speech_settles(&mut self) {
        let Some(from) = self.speech.is_due() else { return };
        if self.conversation.phase() == Phase::Listening && !self.conversation.is_in_doubt() {
            self.begin_speech();
            let (sound, end) = self.recordings.since(from);
            self.speech.start(&sound, end);
        }
    }

    /// Begins the conversation with the model, with what is known of the caller and the business, unless it has begun.
    fn begin_speech(&mut self) {
        if self.speech.begins_at().is_some() {
            self.speech.begin(self.briefing.facts(None));
        }
    }

    /// Asks the model that speaks, if it is there. False when somebody else has to answer.
    pub(super) fn ask_speech(&mut self, now: Instant, generation: Generation, turn: Turn) -> bool {
        if !self.speech.is_there() {
            return false;
        }
        if self.recordings.is_keyed() {
            // It takes no text: what is keyed in can only be told in writing, and what is said of it then, too.
            self.speech.leave();
            self.conversation.speculate(self.parts.config.conversation.speculation);
            return false;
        }
        self.recordings.keep_turn(turn);
        if self.allowance.request().is_err() {
            self.speech.leave();
            self.conversation.handle(now, Input::GenerationEnded { generation, outcome: Outcome::Unaffordable });
            return true;
        }
        self.begin_speech();
        if let Some(from) = self.speech.owes(self.recordings.turn_onset()) {
            let (sound, end) = self.recordings.since(from);
            self.speech.start(&sound, end);
        }
        self.speech.ask(now, generation);
        self.mark(Mark::GeminiStart, now);
        true
    }

    /// Takes what the model tells.
    pub(super) fn told(&mut self, now: Instant, told: Told) {
        let step = self.speech.told(told);
        self.speech_step(now, step);
    }

    pub(super) fn speech_timeout(&mut self, now: Instant) {
        if self.speech.begins_at().is_some_and(|at| at <= now) {
            self.begin_speech();
        }
        let step = self.speech.handle_timeout(now);
        self.speech_step(now, step);
    }

    fn speech_step(&mut self, now: Instant, step: Step) {
        match step {
            Step::Nothing => {}
            Step::Sound { generation, samples } => self.sound(now, generation, samples),
            Step::Said { generation, text } => self.tell(now, Input::Said { generation, text }),
            Step::Reveals { generation } => self.withhold(now, generation),
            Step::Calls { generation, calls } => self.run_errands(now, generation, calls),
            Step::Ended { generation, outcome } => {
                if outcome == Outcome::Complete {
                    self.mark_open(generation, Mark::GeminiFullResponse, now);
                } else {
                    warn!(?outcome, "no whole answer");
                }
                self.tell(now, Input::GenerationEnded { generation, outcome });
            }
            Step::Lost { generation } => {
                self.conversation.speculate(self.parts.config.conversation.speculation);
                if let Some(generation) = generation {
                    self.tell(now, Input::AnswererLost { generation });
                    // What the caller hears of it already is all there is.
                    self.tell(now, Input::GenerationEnded { generation, outcome: Outcome::Truncated });
                }
            }
            Step::Used(usage) => {
                self.allowance.charge(Cost::of(&usage));
                self.tally.usage.add(usage);
            }
        }
    }

    /// Sound of the answer.
    fn sound(&mut self, now: Instant, generation: Generation, samples: Vec<i16>) {
        self.mark_open(generation, Mark::GeminiFirstToken, now);
        self.mark_open(generation, Mark::FirstClause, now);
        let Some(open) = self.open.as_mut().filter(|open| open.generation == generation) else { return };
        if self.speech.open_mouth() {
            open.add_sound();
        }
        let length = Duration::from_secs_f64(samples.len() as f64 / f64::from(RATE));
        self.tell(now, Input::Sound { generation, length });
        if !self.is_open(generation) {
            return;
        }
        match (self.speech.speak(samples), &mut self.open) {
            (Some(samples), Some(open)) => open.sounded(&samples),
            _ => {
                self.speech.stop(generation);
                self.tell(now, Input::GenerationEnded { generation, outcome: Outcome::Truncated });
            }
        }
    }

    /// Cuts off an answer that says what nobody is to hear.
    fn withhold(&mut self, now: Instant, generation: Generation) {
        warn!("an answer that repeats the system instruction is cut off: [limits] guarded_words");
        let Some(open) = self.open.as_ref().filter(|open| open.generation == generation) else { return };
        open.stop.cancel();
        let phrases = open.phrases();
        self.ports.command(media::Command::Cancel(generation));
        for seq in 0..phrases {
            self.tell(now, Input::PhraseFailed { generation, seq });
        }
        self.tell(now, Input::GenerationEnded { generation, outcome: Outcome::Refused });
    }

    /// Runs the functions that the model called.
    fn run_errands(&mut self, now: Instant, generation: Generation, calls: Vec<FunctionCall>) {
        let Some(open) = self.open.as_ref().filter(|open| open.generation == generation) else { return };
        let mut errands = self.errands(open, self.conversation.turn());
        let stop = open.stop_asking.clone();
        if calls.iter().any(|call| matches!(self.parts.tools.sort(call), Sorted::Control(_))) {
            self.speech.controls(generation);
        }
        self.tell(now, Input::ToolsRun { generation });
        let running = async move {
            let mut called = answer::Calls::default();
            for call in calls {
                errands.called(&mut called, call, 0).await;
            }
            let results = tokio::select! {
                // What changes nothing is dropped; what has side effects is done to its end.
                () = stop.cancelled() => return,
                results = errands.run(&mut called) => results,
            };
            errands.report(Work::ErrandsDone { generation, results }).await;
        };
        tokio::spawn(running.instrument(error_span!("turn", n = self.conversation.turn())));
    }

    /// What came of them.
    pub(super) fn errands_done(&mut self, now: Instant, generation: Generation, results: Vec<FunctionResult>) {
        if self.speech.results(now, generation, results) {
            // It is paid for with the turn: the model goes on by itself.
            let _ = self.allowance.request();
            self.tell(now, Input::ToolsDone { generation });
        }
    }
}
