//! What is made of the caller's words: hints to the ear, and the requests that waited for them.

use super::*;
use crate::call::listening::Step;
use crate::recogniser::Recognition;

impl Dialogue {
    /// Takes what the recogniser tells.
    pub(super) fn recognised(&mut self, now: Instant, recognition: Recognition) {
        self.ear.recognised(recognition);
        self.listened(now);
    }

    /// Does what follows from what was recognised, or from the wait for it.
    pub(super) fn listened(&mut self, now: Instant) {
        while let Some(step) = self.ear.poll() {
            match step {
                Step::Hint(hint) => drop(self.ports.command(media::Command::Hint(hint))),
                Step::Ask { wanted, text } => {
                    let contents = self.recordings.contents(wanted.turn, &wanted.history, text);
                    self.generate(wanted.generation, wanted.turn, contents);
                }
                Step::Otherwise { generation } => self.tell(now, Input::HeardOtherwise { generation }),
            }
        }
    }
}
