//! What came of a call of `offhook talk`, for a program and for a person.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use serde::Serialize;

use crate::call::LocalEnd;
use crate::loopback::tape::Recorded;
use crate::loopback::{LaneFigures, OpenDevice};
use crate::pcm::PTIME;
use crate::record::{Cause, EndedBy};
use crate::timeline::{TurnOutcome, TurnReport};

use super::{End, status_of};

/// What happened.
#[derive(Debug, Default, Serialize)]
pub(super) struct Report {
    /// The exit status, by sysexits(3).
    pub exit: u8,
    /// What went wrong, with the remedy.
    pub problems: Vec<String>,
    /// Who ended the call.
    pub ended_by: Option<EndedBy>,
    /// Why.
    pub cause: Option<Cause>,
    /// How long it was.
    pub seconds: f64,
    /// Whether the model was the simulator.
    pub simulated: bool,
    /// The turns.
    pub turns: Vec<TurnReport>,
    /// The devices that it began with.
    pub devices: Vec<OpenDevice>,
    /// The microphone's direction.
    pub input: Option<LaneFigures>,
    /// The loudspeaker's.
    pub output: Option<LaneFigures>,
    /// Whether both could be heard at a time in the end.
    pub full_duplex: Option<bool>,
    /// Files that were written.
    pub recordings: Vec<Recording>,
}

/// A file that was written.
#[derive(Debug, Serialize)]
pub(super) struct Recording {
    file: PathBuf,
    seconds: f64,
    lost_frames: u64,
}

impl Recording {
    pub fn new(file: PathBuf, recorded: Recorded) -> Self {
        Self { file, seconds: recorded.frames as f64 * PTIME.as_secs_f64(), lost_frames: recorded.lost }
    }
}

impl Report {
    /// A turn is over.
    pub fn turn(&mut self, turn: &TurnReport) {
        self.turns.push(turn.clone());
    }

    /// Something went wrong; the first that is told is the exit status.
    pub fn fail(&mut self, status: u8, message: String) {
        if self.exit == 0 {
            self.exit = status;
        }
        self.problems.push(message);
    }

    /// The call is over, in which so many questions were to be answered.
    pub fn ended(&mut self, end: LocalEnd, time: Duration, questions: usize) {
        (self.ended_by, self.cause) = (Some(end.by), Some(end.cause));
        self.seconds = (time.as_secs_f64() * 10.0).round() / 10.0;
        if let Some((status, message)) = status_of(end.cause) {
            self.fail(status, message.to_owned());
        }
        let answered = |turn: &&TurnReport| {
            matches!(turn.outcome, TurnOutcome::Answered | TurnOutcome::Truncated | TurnOutcome::Interrupted)
        };
        let answered = self.turns.iter().filter(answered).count();
        if answered < questions {
            let message = format!(
                "{answered} of {questions} questions were answered; look at the turns, and whether a question is loud enough"
            );
            self.fail(69, message);
        }
    }

    /// What the card had to tell.
    pub fn card(&mut self, end: &End) {
        if let End::Card { shared, devices, .. } = end {
            self.devices.clone_from(devices);
            (self.input, self.output) = (Some(shared.input.figures()), Some(shared.output.figures()));
            self.full_duplex = Some(shared.desk.is_full_duplex());
        }
    }
}

/// A turn in one line; milliseconds from the caller's last voiced sample.
pub(super) fn line(turn: &TurnReport) -> String {
    let mut line = format!("turn {}: {}", turn.turn, turn.outcome.name());
    let times = [
        ("end decided", turn.end_of_utterance_ms),
        ("placeholder", turn.placeholder_start_ms),
        ("first sound", turn.first_sound_ms),
        ("first token", turn.gemini_first_token_ms),
        ("answer", turn.answer_start_ms),
        ("answer over", turn.answer_end_ms),
    ];
    for (name, ms) in times {
        if let Some(ms) = ms {
            line += &format!(", {name} {ms:.0} ms");
        }
    }
    line
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let by = self.ended_by.map_or("nobody", EndedBy::name);
        let cause = self.cause.map_or("unknown", Cause::name);
        writeln!(f, "ended by {by} ({cause}) after {:.1} s, {} turns", self.seconds, self.turns.len())?;
        for (name, lane) in [("microphone", self.input), ("loudspeaker", self.output)] {
            let Some(lane) = lane else { continue };
            writeln!(
                f,
                "{name}: {:.1} ms in the box, clock off by {} ppm, {} gaps, {} jumps, {} xruns",
                lane.delay_ms, -lane.correction_ppm, lane.starved, lane.jumps, lane.xruns
            )?;
        }
        for Recording { file, seconds, lost_frames } in &self.recordings {
            let lost = if *lost_frames > 0 { format!(", {lost_frames} frames lost") } else { String::new() };
            writeln!(f, "{}: {seconds:.1} s{lost}", file.display())?;
        }
        for problem in &self.problems {
            writeln!(f, "! {problem}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::timeline::TurnTimeline;

    #[test]
    fn the_status_says_whether_every_question_was_answered_and_what_went_wrong_first() {
        let end = |cause| LocalEnd { by: EndedBy::Us, cause, turns: 1 };
        let report = |cause, outcomes: &[TurnOutcome], questions| {
            let mut report = Report::default();
            for (n, outcome) in outcomes.iter().enumerate() {
                report.turn(&TurnTimeline::new("talk", n as u32 + 1).report(*outcome));
            }
            report.ended(end(cause), Duration::from_secs(3), questions);
            (report.exit, report.problems.len())
        };
        assert_eq!(report(Cause::HungUp, &[TurnOutcome::Answered], 1), (0, 0));
        assert_eq!(report(Cause::HungUp, &[], 0), (0, 0));
        assert_eq!(report(Cause::HungUp, &[TurnOutcome::Apologised], 1), (69, 1));
        assert_eq!(report(Cause::Fault, &[], 1), (70, 2));
        assert_eq!(report(Cause::MediaTimeout, &[], 0), (69, 1));
    }
}
