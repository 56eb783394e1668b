//! Recording a greeting by telephone: the PIN, the recording, listening to it, accepting it.
//!
//! A sans-IO machine: the call's driver speaks, records and keeps what it is told to, and tells it of keys and ends. [`Brake`] is for all
//! calls together: whoever guesses a PIN waits ever longer, however often he calls.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::privacy::Secret;

/// Wrong PINs in a row, in one call or several, after which the caller has to wait.
const WRONG: u32 = 3;
/// Recordings of one call.
const TAKES: u32 = 10;
/// How long a caller who presses nothing is waited for; then he is asked again, once.
const IDLE: Duration = Duration::from_secs(15);
/// A PIN without `#` ends after so long.
const PIN_PAUSE: Duration = Duration::from_secs(5);
/// No PIN is longer.
const PIN_KEYS: usize = 16;
/// The longest call.
const WHOLE: Duration = Duration::from_secs(600);
/// The first wait after too many wrong PINs, and the longest; each wrong PIN doubles it.
const FIRST_WAIT: Duration = Duration::from_secs(60);
const LONGEST_WAIT: Duration = Duration::from_secs(3600);

/// Something that is said to the caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Phrase {
    /// Enter the PIN.
    AskPin,
    /// That was not the PIN.
    WrongPin,
    /// Too many were wrong.
    TooManyWrong,
    /// Speak after the tone; the tone follows.
    Speak,
    /// Nothing was heard.
    NothingHeard,
    /// Listen, again, or accept.
    Choose,
    /// The greeting is in use.
    Kept,
    /// It could not be kept.
    NotKept,
    /// That was all.
    Goodbye,
}

/// Why the call is to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Why {
    /// A greeting was accepted.
    Done,
    /// A wrong PIN, from the third in a row on.
    WrongPin,
    /// Nobody presses anything, or says anything.
    Idle,
    /// It took too long.
    TooLong,
}

/// What is to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Command {
    /// Say this in place of what is being said; [`Machine::said`] when it was said to its end.
    Say(Phrase),
    /// Silence what is being said.
    Hush,
    /// A PIN was right, or not: for the [`Brake`]; [`Machine::refused`] when it was not.
    Tried {
        /// Whether it was right.
        right: bool,
    },
    /// Record from now on; [`Machine::recorded`] when it is over.
    Record,
    /// Let the caller hear what was recorded; [`Machine::said`] when it is over.
    PlayBack,
    /// Keep what was recorded; [`Machine::kept`] when it is done.
    Keep,
    /// End the call.
    HangUp(Why),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Pin,
    /// It is being said how to speak.
    Instructing,
    Recording,
    Choosing,
    Keeping,
    /// The last words.
    Leaving(Why),
    Over,
}

/// One call.
pub struct Machine {
    pin: Secret,
    entered: String,
    takes: u32,
    state: State,
    began: Instant,
    /// Since when nothing happens; `None` while something is said or done.
    idle_since: Option<Instant>,
    asked_again: bool,
    commands: VecDeque<Command>,
}

impl Machine {
    /// A call that is answered now.
    pub fn new(now: Instant, pin: Secret) -> Self {
        Self {
            pin,
            entered: String::new(),
            takes: 0,
            state: State::Pin,
            began: now,
            idle_since: None,
            asked_again: false,
            commands: VecDeque::from([Command::Say(Phrase::AskPin)]),
        }
    }

    /// What is to be done next; drain it after every input.
    pub fn poll(&mut self) -> Option<Command> {
        self.commands.pop_front()
    }

    /// The caller pressed a key.
    pub fn key(&mut self, now: Instant, key: char) {
        self.asked_again = false;
        match (self.state, key) {
            (State::Pin, '#') => self.pin_entered(),
            (State::Pin, '*') => self.entered.clear(),
            (State::Pin, _) => {
                if self.entered.is_empty() {
                    self.commands.push_back(Command::Hush);
                }
                if self.entered.len() < PIN_KEYS {
                    self.entered.push(key);
                }
                self.idle_since = Some(now);
            }
            (State::Choosing, '1') => self.act(Command::PlayBack),
            (State::Choosing, '2') => self.instruct(),
            (State::Choosing, '#') => {
                self.state = State::Keeping;
                self.act(Command::Keep);
            }
            (State::Instructing, '#') => self.record(),
            // Recording ends by `#`, which the recorder takes itself.
            _ => {}
        }
    }

    /// A wrong PIN was tried; `closed`: the [`Brake`] lets nobody in for a while, and so nobody goes on guessing in this call.
    pub fn refused(&mut self, closed: bool) {
        if self.state != State::Pin {
            return;
        }
        if closed {
            self.leave(Phrase::TooManyWrong, Why::WrongPin);
        } else {
            self.act(Command::Say(Phrase::WrongPin));
        }
    }

    /// What was to be said, or played, is over.
    pub fn said(&mut self, now: Instant) {
        match self.state {
            State::Instructing => self.record(),
            State::Leaving(why) => {
                self.state = State::Over;
                self.commands.push_back(Command::HangUp(why));
            }
            State::Pin | State::Choosing => self.idle_since = Some(now),
            State::Recording | State::Keeping | State::Over => {}
        }
    }

    /// The recording is over; `usable`: somebody spoke.
    pub fn recorded(&mut self, usable: bool) {
        if self.state != State::Recording {
            return;
        }
        if usable {
            self.state = State::Choosing;
            self.act(Command::Say(Phrase::Choose));
        } else if self.takes >= TAKES || std::mem::replace(&mut self.asked_again, true) {
            self.leave(Phrase::Goodbye, Why::Idle);
        } else {
            self.state = State::Instructing;
            self.act(Command::Say(Phrase::NothingHeard));
        }
    }

    /// What was accepted is kept, or cannot be.
    pub fn kept(&mut self, kept: bool) {
        if self.state != State::Keeping {
            return;
        }
        if kept {
            self.leave(Phrase::Kept, Why::Done);
        } else {
            self.state = State::Choosing;
            self.act(Command::Say(Phrase::NotKept));
        }
    }

    /// When something is due.
    pub fn poll_timeout(&self) -> Option<Instant> {
        if self.state == State::Over {
            return None;
        }
        let patience = if self.state == State::Pin && !self.entered.is_empty() { PIN_PAUSE } else { IDLE };
        let idle = self.idle_since.map(|since| since + patience);
        idle.into_iter().chain([self.began + WHOLE]).min()
    }

    /// Does what is due at `now`.
    pub fn handle_timeout(&mut self, now: Instant) {
        if self.poll_timeout().is_none_or(|at| at > now) {
            return;
        }
        if now >= self.began + WHOLE {
            self.state = State::Over;
            self.commands.push_back(Command::HangUp(Why::TooLong));
        } else if self.state == State::Pin && !self.entered.is_empty() {
            self.pin_entered();
        } else if std::mem::replace(&mut self.asked_again, true) {
            self.leave(Phrase::Goodbye, Why::Idle);
        } else {
            self.act(Command::Say(if self.state == State::Pin { Phrase::AskPin } else { Phrase::Choose }));
        }
    }

    fn pin_entered(&mut self) {
        let entered = std::mem::take(&mut self.entered);
        let right = same(entered.as_bytes(), self.pin.reveal().as_bytes());
        self.act(Command::Tried { right });
        if right {
            self.instruct();
        }
    }

    fn instruct(&mut self) {
        self.state = State::Instructing;
        self.act(Command::Say(Phrase::Speak));
    }

    fn record(&mut self) {
        self.state = State::Recording;
        self.takes += 1;
        self.commands.push_back(Command::Hush);
        self.act(Command::Record);
    }

    fn leave(&mut self, phrase: Phrase, why: Why) {
        self.state = State::Leaving(why);
        self.act(Command::Say(phrase));
    }

    fn act(&mut self, command: Command) {
        self.idle_since = None;
        self.commands.push_back(command);
    }
}

/// Whether two texts are the same, in a time that does not tell where they differ.
fn same(a: &[u8], b: &[u8]) -> bool {
    let differ = a.iter().zip(b).fold(0, |differ, (a, b)| differ | (a ^ b));
    a.len() == b.len() && differ == 0
}

/// Keeps whoever guesses PINs waiting: after three wrong ones in a row, however many calls they came in, nobody is let in for a minute, and
/// for twice as long after each further one, an hour at most: one guess a wait. The right PIN forgets it all.
#[derive(Debug, Default)]
pub struct Brake {
    wrong: u32,
    closed_until: Option<Instant>,
}

impl Brake {
    /// Whether a call is let in.
    pub fn is_open(&self, now: Instant) -> bool {
        self.closed_until.is_none_or(|until| now >= until)
    }

    /// A PIN was tried. Gives the wait that begins with it.
    pub fn tried(&mut self, now: Instant, right: bool) -> Option<Duration> {
        if right {
            *self = Self::default();
            return None;
        }
        self.wrong = self.wrong.saturating_add(1);
        let doublings = self.wrong.checked_sub(WRONG)?;
        let wait = FIRST_WAIT.saturating_mul(2u32.saturating_pow(doublings)).min(LONGEST_WAIT);
        self.closed_until = now.checked_add(wait);
        Some(wait)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Call {
        machine: Machine,
        now: Instant,
        brake: Brake,
    }

    impl Call {
        fn new() -> Self {
            let now = Instant::now();
            Self { machine: Machine::new(now, Secret::new("473920")), now, brake: Brake::default() }
        }

        fn does(&mut self) -> Vec<Command> {
            let mut done = Vec::new();
            while let Some(command) = self.machine.poll() {
                if let Tried { right } = command {
                    let wait = self.brake.tried(self.now, right);
                    if !right {
                        self.machine.refused(wait.is_some());
                    }
                }
                done.push(command);
            }
            done
        }

        fn keys(&mut self, keys: &str) -> Vec<Command> {
            for key in keys.chars() {
                self.machine.key(self.now, key);
            }
            self.does()
        }

        fn said(&mut self) -> Vec<Command> {
            self.machine.said(self.now);
            self.does()
        }

        fn waits(&mut self) -> (Duration, Vec<Command>) {
            let at = self.machine.poll_timeout().unwrap();
            self.machine.handle_timeout(at - Duration::from_millis(1));
            assert_eq!(self.does(), []);
            self.machine.handle_timeout(at);
            let waited = at - std::mem::replace(&mut self.now, at);
            (waited, self.does())
        }

        fn at_choice() -> Self {
            let mut call = Self::new();
            call.keys("473920#");
            call.said();
            call.machine.recorded(true);
            call.does();
            call
        }
    }

    use Command::{HangUp, Hush, Keep, PlayBack, Record, Say, Tried};

    #[test]
    fn who_knows_the_pin_speaks_listens_speaks_again_and_accepts() {
        let mut call = Call::new();
        assert_eq!(call.does(), [Say(Phrase::AskPin)]);
        assert_eq!(call.keys("473920#"), [Hush, Tried { right: true }, Say(Phrase::Speak)]);
        assert_eq!(call.said(), [Hush, Record]);
        call.machine.recorded(true);
        assert_eq!(call.does(), [Say(Phrase::Choose)]);
        assert_eq!(call.keys("1"), [PlayBack]);
        assert_eq!(call.said(), []);
        assert_eq!(call.keys("2"), [Say(Phrase::Speak)]);
        assert_eq!(call.keys("#"), [Hush, Record], "who knows how it goes need not hear it out");
        call.machine.recorded(true);
        assert_eq!(call.does(), [Say(Phrase::Choose)]);
        assert_eq!(call.keys("#"), [Keep]);
        assert_eq!(call.keys("12#"), [], "it is being kept");
        call.machine.kept(true);
        assert_eq!(call.does(), [Say(Phrase::Kept)]);
        assert_eq!(call.said(), [HangUp(Why::Done)]);
        assert_eq!(call.machine.poll_timeout(), None);
    }

    #[test]
    fn three_wrong_pins_end_the_call() {
        let mut call = Call::new();
        call.does();
        assert_eq!(call.keys("111111#"), [Hush, Tried { right: false }, Say(Phrase::WrongPin)]);
        // Half of it, all of it and more, nothing.
        assert_eq!(call.keys("4739#"), [Hush, Tried { right: false }, Say(Phrase::WrongPin)]);
        assert_eq!(call.keys("4739201#"), [Hush, Tried { right: false }, Say(Phrase::TooManyWrong)]);
        assert_eq!(call.keys("473920#"), [], "too late");
        assert_eq!(call.said(), [HangUp(Why::WrongPin)]);
    }

    #[test]
    fn a_call_ends_with_the_wrong_pin_that_closes_the_brake_whichever_call_the_others_were_tried_in() {
        let mut first = Call::new();
        first.does();
        first.keys("111111#");
        first.keys("222222#");
        let mut call = Call { brake: first.brake, ..Call::new() };
        call.does();
        assert_eq!(call.keys("333333#"), [Hush, Tried { right: false }, Say(Phrase::TooManyWrong)]);
        assert_eq!(call.keys("473920#"), [], "nobody goes on guessing");
        assert_eq!(call.said(), [HangUp(Why::WrongPin)]);
        let now = call.now + FIRST_WAIT;
        assert!(call.brake.is_open(now));
        let mut call = Call { brake: call.brake, now, ..Call::new() };
        call.does();
        assert_eq!(call.keys("444444#"), [Hush, Tried { right: false }, Say(Phrase::TooManyWrong)], "one guess a wait");
        let now = now + 2 * FIRST_WAIT;
        let mut call = Call { brake: call.brake, now, ..Call::new() };
        call.does();
        assert_eq!(call.keys("473920#"), [Hush, Tried { right: true }, Say(Phrase::Speak)]);
    }

    #[test]
    fn a_pin_ends_by_a_pause_too_and_a_star_begins_it_anew() {
        let mut call = Call::new();
        call.does();
        assert_eq!(call.keys("99*473920"), [Hush, Hush]);
        assert_eq!(call.waits(), (PIN_PAUSE, vec![Tried { right: true }, Say(Phrase::Speak)]));
    }

    #[test]
    fn who_does_nothing_is_asked_once_more_and_then_let_go() {
        let mut call = Call::new();
        call.does();
        call.said();
        assert_eq!(call.waits(), (IDLE, vec![Say(Phrase::AskPin)]));
        call.said();
        assert_eq!(call.waits(), (IDLE, vec![Say(Phrase::Goodbye)]));
        assert_eq!(call.said(), [HangUp(Why::Idle)]);
        let mut call = Call::at_choice();
        call.said();
        assert_eq!(call.waits().1, [Say(Phrase::Choose)]);
        call.said();
        assert_eq!(call.waits().1, [Say(Phrase::Goodbye)], "nothing is kept that was not accepted");
    }

    #[test]
    fn a_silent_recording_is_made_again_once_and_a_disk_that_is_full_loses_nothing() {
        let mut call = Call::new();
        call.keys("473920#");
        call.said();
        call.machine.recorded(false);
        assert_eq!(call.does(), [Say(Phrase::NothingHeard)]);
        assert_eq!(call.said(), [Hush, Record]);
        call.machine.recorded(false);
        assert_eq!(call.does(), [Say(Phrase::Goodbye)]);
        let mut call = Call::at_choice();
        assert_eq!(call.keys("#"), [Keep]);
        call.machine.kept(false);
        assert_eq!(call.does(), [Say(Phrase::NotKept)]);
        assert_eq!(call.keys("#"), [Keep]);
    }

    #[test]
    fn a_call_does_not_last_for_ever() {
        let mut call = Call::at_choice();
        let began = call.now;
        for _ in 0..100 {
            if call.now - began >= WHOLE - IDLE {
                break;
            }
            call.keys("1");
            call.said();
            call.now += Duration::from_secs(10);
        }
        call.machine.handle_timeout(began + WHOLE);
        assert!(call.does().contains(&HangUp(Why::TooLong)));
    }

    #[test]
    fn guessing_over_many_calls_takes_ever_longer_and_the_right_pin_forgets_it() {
        let (mut brake, mut now) = (Brake::default(), Instant::now());
        assert_eq!([brake.tried(now, false), brake.tried(now, false)], [None, None]);
        assert!(brake.is_open(now));
        for minutes in [1, 2, 4, 8, 16, 32, 60, 60] {
            let wait = Duration::from_secs(minutes * 60);
            assert_eq!(brake.tried(now, false), Some(wait));
            assert!(!brake.is_open(now + wait - Duration::from_millis(1)));
            now += wait;
            assert!(brake.is_open(now));
        }
        assert_eq!(brake.tried(now, true), None);
        assert_eq!(brake.tried(now, false), None);
    }
}
