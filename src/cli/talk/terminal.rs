//! The terminal of `offhook talk`: a line with both levels, lines for what happens, and the keys. Without a terminal lines are read.

use std::io::{BufRead, IsTerminal, Write, stderr, stdin, stdout};
use std::time::Duration;

use crossterm::event::{
    self, Event, KeyCode, KeyEvent, KeyEventKind, KeyModifiers, KeyboardEnhancementFlags, PopKeyboardEnhancementFlags,
    PushKeyboardEnhancementFlags,
};
use crossterm::{execute, terminal};
use tokio::sync::mpsc;

use crate::conversation::Phase;
use crate::loopback::Shared;

/// What the person at the terminal wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Pressed {
    /// To talk, or to have talked; `None` where only pressing is known.
    Talk(Option<bool>),
    /// A telephone's key.
    Key(char),
    /// To hang up.
    HangUp,
}

/// Keys that may wait.
const WAITING: usize = 16;
/// How long is waited for a key before it is looked whether anybody still wants it.
const PATIENCE: Duration = Duration::from_millis(200);
/// Signs of a level, from −60 dBFS to full scale.
const SIGNS: usize = 16;

/// How keys come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Keyboard {
    /// One by one.
    Keys {
        /// It is told when one is let go of.
        released: bool,
    },
    /// By the line.
    Lines,
}

/// Where it is shown.
pub(super) struct Screen {
    /// Nothing is shown.
    quiet: bool,
    /// Keys come one by one, and there is a line of levels.
    raw: bool,
    /// The terminal tells when a key is let go of.
    enhanced: bool,
}

impl Screen {
    /// Takes the terminal, if there is one and something is to be shown.
    pub fn open(quiet: bool) -> Self {
        let raw = !quiet && stdin().is_terminal() && stderr().is_terminal() && terminal::enable_raw_mode().is_ok();
        let enhanced = raw
            && terminal::supports_keyboard_enhancement().unwrap_or(false)
            && execute!(stderr(), PushKeyboardEnhancementFlags(KeyboardEnhancementFlags::REPORT_EVENT_TYPES)).is_ok();
        Self { quiet, raw, enhanced }
    }

    /// How keys come.
    pub fn keyboard(&self) -> Keyboard {
        if self.raw { Keyboard::Keys { released: self.enhanced } } else { Keyboard::Lines }
    }

    /// A line that stays.
    pub fn say(&self, line: &str) {
        if self.quiet {
        } else if self.raw {
            let _ = write!(stderr(), "\r\x1b[2K{line}\r\n");
        } else {
            let _ = writeln!(stdout(), "{line}");
        }
    }

    /// The line of levels.
    pub fn meter(&self, shared: &Shared, phase: Phase) {
        let [heard, spoken] = shared.desk.take_peaks();
        if !self.raw {
            return;
        }
        let microphone = if shared.desk.is_shut() { "shut" } else { "open" };
        let duplex = if shared.desk.is_full_duplex() { "full duplex" } else { "half duplex" };
        let line = format!(
            "\r\x1b[2Kmicrophone {} {microphone}  loudspeaker {}  {duplex}  {}",
            bar(heard),
            bar(spoken),
            name(phase)
        );
        let _ = stderr().write_all(line.as_bytes());
        let _ = stderr().flush();
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        if self.enhanced {
            let _ = execute!(stderr(), PopKeyboardEnhancementFlags);
        }
        if self.raw {
            let _ = write!(stderr(), "\r\x1b[2K");
            let _ = terminal::disable_raw_mode();
        }
    }
}

/// A peak as a bar and in dBFS.
fn bar(peak: u16) -> String {
    let dbfs = 20.0 * (f32::from(peak.max(1)) / 32768.0).log10();
    let signs = ((dbfs + 60.0) / 60.0 * SIGNS as f32).round().clamp(0.0, SIGNS as f32) as usize;
    format!("[{:<SIGNS$}] {:>4.0} dBFS", "#".repeat(signs), dbfs.max(-90.0))
}

const fn name(phase: Phase) -> &'static str {
    match phase {
        Phase::Ringing => "starting",
        Phase::Greeting => "greeting",
        Phase::Listening => "listening",
        Phase::Thinking => "thinking",
        Phase::Speaking => "speaking",
        Phase::Apologising => "apologising",
        Phase::Prompting => "asking whether you are there",
        Phase::Closing => "saying goodbye",
        Phase::Transferring => "handing over",
        Phase::Messaging => "taking a message",
        Phase::Ended => "over",
    }
}

/// Reads keys on a thread of its own, as long as somebody wants them; it ends with the process.
pub(super) fn listen(keyboard: Keyboard) -> mpsc::Receiver<Pressed> {
    let (pressed_in, pressed) = mpsc::channel(WAITING);
    let read = move || match keyboard {
        Keyboard::Keys { released } => read_keys(&pressed_in, released),
        Keyboard::Lines => read_lines(&pressed_in),
    };
    // Without a thread there are no keys, and the call goes on.
    let _ = std::thread::Builder::new().name("offhook-keys".into()).spawn(read);
    pressed
}

fn read_keys(pressed: &mpsc::Sender<Pressed>, released: bool) {
    while !pressed.is_closed() {
        match event::poll(PATIENCE).and_then(|there| if there { event::read().map(Some) } else { Ok(None) }) {
            Ok(Some(Event::Key(key))) => {
                if let Some(wanted) = key_of(key, released) {
                    let _ = pressed.try_send(wanted);
                }
            }
            Ok(_) => {}
            Err(_) => return,
        }
    }
}

fn key_of(key: KeyEvent, released: bool) -> Option<Pressed> {
    let is_released = key.kind == KeyEventKind::Release;
    match key.code {
        KeyCode::Char(' ') => match key.kind {
            KeyEventKind::Press if !released => Some(Pressed::Talk(None)),
            KeyEventKind::Press => Some(Pressed::Talk(Some(true))),
            KeyEventKind::Release => Some(Pressed::Talk(Some(false))),
            KeyEventKind::Repeat => None,
        },
        _ if is_released => None,
        KeyCode::Char('c') if key.modifiers.contains(KeyModifiers::CONTROL) => Some(Pressed::HangUp),
        KeyCode::Char('q') | KeyCode::Esc => Some(Pressed::HangUp),
        KeyCode::Char(key @ ('0'..='9' | '*' | '#')) => Some(Pressed::Key(key)),
        _ => None,
    }
}

/// Lines: an empty one opens and shuts the microphone, `q` hangs up, what else there is are keys. The end of input means nothing: who is
/// started by a service has none.
fn read_lines(pressed: &mpsc::Sender<Pressed>) {
    for line in stdin().lock().lines().map_while(Result::ok) {
        for wanted in of_line(&line) {
            if pressed.blocking_send(wanted).is_err() {
                return;
            }
        }
    }
}

fn of_line(line: &str) -> Vec<Pressed> {
    match line.trim() {
        "" => vec![Pressed::Talk(None)],
        "q" => vec![Pressed::HangUp],
        keys => keys.chars().filter(|key| matches!(key, '0'..='9' | '*' | '#')).map(Pressed::Key).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_a_terminal_lines_are_the_keys() {
        assert_eq!(of_line(""), [Pressed::Talk(None)]);
        assert_eq!(of_line("q"), [Pressed::HangUp]);
        assert_eq!(of_line(" 1x#"), [Pressed::Key('1'), Pressed::Key('#')]);
    }

    #[test]
    fn a_level_is_shown_from_nothing_to_full_scale() {
        assert_eq!(bar(0), format!("[{}]  -90 dBFS", " ".repeat(SIGNS)));
        assert!(bar(32767).starts_with(&format!("[{}]", "#".repeat(SIGNS))));
        assert!(bar(1036).contains("-30 dBFS") && bar(1036).matches('#').count() == SIGNS / 2);
    }

    #[test]
    fn keys_of_a_telephone_are_pressed_and_ctrl_c_hangs_up() {
        let key = |code, modifiers| key_of(KeyEvent::new(code, modifiers), true);
        assert_eq!(key(KeyCode::Char('#'), KeyModifiers::SHIFT), Some(Pressed::Key('#')));
        assert_eq!(key(KeyCode::Char('c'), KeyModifiers::CONTROL), Some(Pressed::HangUp));
        assert_eq!(key(KeyCode::Char('c'), KeyModifiers::NONE), None);
        let space =
            |kind, released| key_of(KeyEvent::new_with_kind(KeyCode::Char(' '), KeyModifiers::NONE, kind), released);
        assert_eq!(space(KeyEventKind::Press, true), Some(Pressed::Talk(Some(true))));
        assert_eq!(space(KeyEventKind::Release, true), Some(Pressed::Talk(Some(false))));
        assert_eq!(space(KeyEventKind::Press, false), Some(Pressed::Talk(None)));
        assert_eq!(key(KeyCode::Esc, KeyModifiers::NONE), Some(Pressed::HangUp));
    }
}
