//! When the test phone speaks, keeps silent and hangs up: a turn machine without sockets or clock.

use std::time::{Duration, Instant};

use super::ear::BotSound;

/// The caller's manners.
#[derive(Debug, Clone)]
pub struct ScriptOptions {
    /// How many turns the caller has.
    pub turns: usize,
    /// Without a sound for so long after the 200 there is no greeting.
    pub greeting_wait: Duration,
    /// The greeting has ended when it is silent for so long.
    pub greeting_quiet: Duration,
    /// An answer has ended when it is silent for so long.
    pub answer_quiet: Duration,
    /// An answer that has not begun by then is not waited for.
    pub answer_wait: Duration,
    /// A greeting or an answer that still goes on by then is not listened to any longer.
    pub longest_sound: Duration,
    /// Speak over the answer before this turn (or the greeting, for turn 0), so long after it has begun.
    pub barge_in: Option<(usize, Duration)>,
}

impl Default for ScriptOptions {
    fn default() -> Self {
        Self {
            turns: 1,
            greeting_wait: Duration::from_millis(2000),
            greeting_quiet: Duration::from_millis(600),
            answer_quiet: Duration::from_millis(1200),
            answer_wait: Duration::from_millis(15_000),
            longest_sound: Duration::from_millis(60_000),
            barge_in: None,
        }
    }
}

/// What the caller does next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Says the turn of this number, from 0. [`Script::handle_spoken`] is due when it is said.
    Say(usize),
    /// Ends the call.
    HangUp,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Listening to what comes before turn 0.
    Greeting,
    Saying(usize),
    /// Listening to the answer to this turn.
    Listening(usize),
    Done,
}

/// The turn machine. It is asked once a ptime.
#[derive(Debug)]
pub struct Script {
    options: ScriptOptions,
    state: State,
    since: Instant,
}

impl Script {
    /// The call was answered at `now`.
    pub fn new(now: Instant, options: ScriptOptions) -> Self {
        Self { options, state: State::Greeting, since: now }
    }

    /// From when on it wants to know what the far side did.
    pub fn since(&self) -> Instant {
        self.since
    }

    /// The last voiced sample of the turn was sent.
    pub fn handle_spoken(&mut self, now: Instant) {
        if let State::Saying(turn) = self.state {
            self.state = State::Listening(turn);
            self.since = now;
        }
    }

    /// What to do at `now`, when the far side has done `bot` since [`Self::since`].
    pub fn poll(&mut self, now: Instant, bot: BotSound) -> Option<Step> {
        let options = &self.options;
        let waited = now.saturating_duration_since(self.since);
        let silent_for = |quiet| bot.last.is_some_and(|last| now.saturating_duration_since(last) >= quiet);
        let (next, begun, ended) = match self.state {
            State::Saying(_) | State::Done => return None,
            State::Greeting => {
                let ended = if bot.first.is_some() {
                    silent_for(options.greeting_quiet) || waited >= options.longest_sound
                } else {
                    waited >= options.greeting_wait
                };
                (0, bot.first, ended)
            }
            State::Listening(turn) => {
                let ended = if bot.answer.is_some() {
                    silent_for(options.answer_quiet) || waited >= options.longest_sound
                } else {
                    waited >= options.answer_wait
                };
                (turn + 1, bot.answer, ended)
            }
        };
        let over = options.barge_in.is_some_and(|(turn, after)| {
            turn == next && begun.is_some_and(|begun| now.saturating_duration_since(begun) >= after)
        });
        if !ended && !over {
            return None;
        }
        if next < options.turns {
            self.state = State::Saying(next);
            Some(Step::Say(next))
        } else {
            self.state = State::Done;
            Some(Step::HangUp)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pcm::PTIME;

    /// A far side that makes sounds from and to these milliseconds; `true` marks an answer.
    struct Bot(Instant, Vec<(u64, u64, bool)>);

    impl Bot {
        fn since(&self, since: Instant, now: Instant) -> BotSound {
            let mut sound = BotSound::default();
            for (from, to, answer) in &self.1 {
                let mut at = self.0 + Duration::from_millis(*from);
                while at < self.0 + Duration::from_millis(*to) && at <= now {
                    if at > since {
                        sound.first = sound.first.or(Some(at));
                        sound.last = Some(at);
                        sound.answer = sound.answer.or(answer.then_some(at));
                    }
                    at += PTIME;
                }
            }
            sound
        }
    }

    /// When each step is taken, in ms, when every turn takes one second to say.
    fn play(options: ScriptOptions, sounds: &[(u64, u64, bool)]) -> Vec<(u64, Step)> {
        let start = Instant::now();
        let bot = Bot(start, sounds.to_vec());
        let mut script = Script::new(start, options);
        let (mut steps, mut said) = (Vec::new(), None);
        for tick in 0..5000u32 {
            let now = start + PTIME * tick;
            if said == Some(now) {
                script.handle_spoken(now);
            }
            if let Some(step) = script.poll(now, bot.since(script.since(), now)) {
                steps.push(((now - start).as_millis() as u64, step));
                said = Some(now + Duration::from_secs(1));
            }
        }
        steps
    }

    #[test]
    fn the_caller_waits_for_the_greeting_and_each_answer_and_hangs_up() {
        let options = ScriptOptions { turns: 2, ..Default::default() };
        let steps = play(options, &[(100, 1500, true), (3500, 5000, true), (8000, 9000, true)]);
        assert_eq!(steps, [(2080, Step::Say(0)), (6180, Step::Say(1)), (10_180, Step::HangUp)]);
    }

    #[test]
    fn a_line_without_a_greeting_is_spoken_to_after_the_wait() {
        let steps = play(ScriptOptions::default(), &[(3500, 4000, true)]);
        assert_eq!(steps, [(2000, Step::Say(0)), (5180, Step::HangUp)]);
    }

    #[test]
    fn a_placeholder_is_no_answer_and_a_missing_answer_is_not_waited_for_forever() {
        let steps = play(ScriptOptions::default(), &[(3500, 4000, false)]);
        assert_eq!(steps, [(2000, Step::Say(0)), (18_000, Step::HangUp)]);
    }

    #[test]
    fn an_answer_without_end_is_left() {
        let steps = play(ScriptOptions::default(), &[(3500, 90_000, true)]);
        assert_eq!(steps, [(2000, Step::Say(0)), (63_000, Step::HangUp)]);
    }

    #[test]
    fn a_barge_in_begins_so_long_after_the_answer_has_begun() {
        let options = ScriptOptions { turns: 2, barge_in: Some((1, Duration::from_millis(700))), ..Default::default() };
        let steps = play(options, &[(3400, 3900, false), (4000, 9000, true)]);
        assert_eq!(steps[..2], [(2000, Step::Say(0)), (4700, Step::Say(1))]);
    }

    #[test]
    fn the_greeting_too_can_be_spoken_over() {
        let options = ScriptOptions { barge_in: Some((0, Duration::from_millis(500))), ..Default::default() };
        assert_eq!(play(options, &[(100, 5000, true)])[0], (600, Step::Say(0)));
    }
}
