//! What the conversation commands, done.

use std::collections::HashSet;

use super::*;
use crate::call::answer::Attempt;
use crate::call::listening::Wanted;

impl Dialogue {
    pub(super) fn perform(&mut self, command: Command) {
        let language = self.parts.config.conversation.language;
        match command {
            Command::Greet => self.play(ClipKind::Greeting, Input::GreetingEnded),
            Command::Apologise => self.play(ClipKind::Apology, Input::ApologyEnded),
            Command::Prompt => self.play(ClipKind::Prompt, Input::PromptEnded),
            Command::SayGoodbye => self.play(ClipKind::Goodbye, Input::GoodbyeEnded),
            Command::ArmPlaceholder { turn } => {
                let occasion = Occasion { first_reply: turn == 1, after_barge_in: self.cut_off, closing: false };
                let clips = &self.clips;
                let arming = self.placeholders.arm(occasion, clips.placeholders(language), clips.stills(language));
                self.ports.command(media::Command::Arm(arming));
            }
            Command::DisarmPlaceholder => {
                self.ports.command(media::Command::Disarm);
            }
            Command::Generate { generation, turn, speech_end, speculative, history } => {
                self.take_sound();
                self.asked(turn, speech_end, speculative);
                self.asked_in_vain &= !speculative;
                self.open_answer(generation, speculative);
                let now = Instant::now();
                if !self.ask_speech(now, generation, turn) {
                    self.ear.ask(now, Wanted { generation, turn, speech_end, speculative, history });
                    self.listened(now);
                }
            }
            Command::Cancel { generation } => {
                self.ear.cancel(generation);
                self.speech.stop(generation);
                if let Some(open) = self.open.as_ref().filter(|open| open.generation == generation) {
                    open.stop.cancel();
                    if let (false, Some(timeline)) = (open.is_committed(), &mut self.timeline) {
                        timeline.wasted();
                    }
                }
                self.ports.command(media::Command::Cancel(generation));
            }
            Command::StopAsking { generation } => {
                self.speech.stop(generation);
                if let Some(open) = self.open.as_ref().filter(|open| open.generation == generation) {
                    open.stop_asking.cancel();
                }
            }
            Command::Recite { generation, sentence } => self.recite(generation, sentence),
            Command::Bridge => self.bridge(),
            Command::TakeMessage { tone } => self.take_message(tone),
            Command::Commit { generation } => {
                self.mark(Mark::Committed, Instant::now());
                if let Some(open) = self.open.as_mut().filter(|open| open.generation == generation) {
                    open.commit();
                }
                self.ports.command(media::Command::Release(generation));
            }
            Command::Speak { generation, seq, text } => self.speak(generation, seq, text),
            Command::FlushPlayout => {
                self.ports.command(media::Command::Flush);
            }
            Command::ResumePlayout => {
                self.recordings.forget();
                self.ear.forget();
                self.speech.forget();
                self.ports.command(media::Command::Resume);
            }
            Command::HangUp { why } => self.hang_up = Some(why),
            Command::Transfer { to } => self.transfer = Some(to),
            Command::TurnEnded { turn, outcome } => self.turn_ended(turn, outcome),
        }
    }

    /// Plays a clip; where there is none, it is over at once.
    fn play(&mut self, kind: ClipKind, over: Input) {
        let language = self.parts.config.conversation.language;
        let clips = &self.clips;
        let clip = match kind {
            ClipKind::Greeting => clips.greeting(language),
            ClipKind::Prompt => clips.prompt(language),
            ClipKind::Goodbye => clips.goodbye(language),
            _ => clips.apology(language),
        };
        match clip.map(|clip| clip.playable(0)) {
            Some(clip) => drop(self.ports.command(media::Command::Play(clip))),
            None => self.conversation.handle(Instant::now(), over),
        }
    }

    /// The wait for an answer begins where the caller's words ended.
    fn asked(&mut self, turn: Turn, speech_end: Instant, speculative: bool) {
        let timeline = self.timeline.get_or_insert_with(|| TurnTimeline::new(&*self.call, turn));
        timeline.mark(Mark::SpeechEnd, speech_end);
        timeline.asked(speculative);
    }

    /// Makes the request of the open answer.
    pub(super) fn generate(&mut self, generation: Generation, turn: Turn, mut contents: Vec<Content>) {
        let said = match contents.last() {
            Some(Content::Caller { text, .. }) => text.clone(),
            _ => None,
        };
        if let (Some(clip), Some(Content::Caller { text, .. })) = (&self.acknowledged, contents.last_mut()) {
            let note =
                format!("(The caller has just heard you say \"{clip}\" while you were thinking; do not say it again.)");
            *text = Some(match text.take() {
                Some(said) => format!("{said}\n{note}"),
                None => note,
            });
        }
        briefing::add_facts(&self.briefing, said.as_deref(), &mut contents);
        if let (Some(done), Some(Content::Caller { text, .. })) = (self.doings.so_far(), contents.last_mut()) {
            *text = Some(text.take().map_or_else(|| done.clone(), |text| format!("{text}\n{done}")));
        }
        let ask = Ask { system: self.system.clone(), contents, functions: self.parts.tools.functions() };
        let Some(open) = self.open.as_ref().filter(|open| open.generation == generation) else { return };
        let fetching = answer::fetch(answer::Fetch {
            model: self.parts.model.clone(),
            ask,
            stop: open.stop_asking.clone(),
            allowance: self.allowance.clone(),
            attempt: match (self.asked_in_vain, open.early) {
                (true, _) => Attempt::Repeated,
                (false, true) => Attempt::Early,
                (false, false) => Attempt::Due,
            },
            errands: self.errands(open, turn),
            guard: self.guard.clone(),
        });
        tokio::spawn(fetching.instrument(error_span!("turn", n = turn)));
    }

    /// Where the model's keys are pressed.
    fn keypad(&self) -> tools::Press {
        let work = self.work.clone();
        Arc::new(move |keys| work.try_send(Work::Press { keys }).is_ok())
    }

    /// With what the functions of an answer are run.
    pub(super) fn errands(&self, open: &Open, turn: Turn) -> answer::Errands {
        answer::Errands {
            generation: open.generation,
            work: self.work.clone(),
            committed: open.commitment(),
            toolbox: self.parts.tools.clone(),
            occasion: tools::Occasion {
                from: self.from.clone(),
                turn,
                doings: self.doings.clone(),
                press: self.keypad(),
            },
            said: HashSet::new(),
        }
    }

    fn speak(&mut self, generation: Generation, seq: Seq, text: String) {
        let sound = if text.is_empty() { self.speech.take_sound() } else { None };
        let Some(open) = self.open.as_ref().filter(|open| open.generation == generation) else { return };
        let language = self.parts.config.conversation.language;
        let characters = text.chars().count() as u64;
        let say = Say { text: text.into(), language, ends: open.ends(seq), answer: AnswerId::default() };
        let phrase = Phrase { generation, seq, say, stop: open.stop.clone(), sound };
        if self.phrases.try_send(phrase).is_err() {
            warn!(waiting = PHRASES, "too many phrases wait to be spoken; one is left out");
            self.conversation.handle(Instant::now(), Input::PhraseFailed { generation, seq });
            return;
        }
        self.characters += characters;
    }

    fn turn_ended(&mut self, turn: Turn, outcome: TurnOutcome) {
        self.speech_used();
        self.cut_off = outcome == TurnOutcome::Interrupted;
        self.recordings.turn_over(turn);
        let heard = self.speech.turn_over();
        if let Some(text) = self.ear.turn_over().or(heard) {
            self.recordings.said(turn, text);
        }
        let heard = !matches!(outcome, TurnOutcome::Apologised | TurnOutcome::HungUp);
        self.doings.turn_over(turn, heard);
        self.close_answer();
        self.acknowledged = None;
        self.asked_in_vain = false;
        let Some(timeline) = self.timeline.take() else { return };
        let report = timeline.report(outcome);
        report.log();
        self.tally.add(&report);
        if self.parts.reports.try_send(report).is_err() {
            warn!(turn, "the turn's report was dropped: too many wait to be written");
        }
    }
}
