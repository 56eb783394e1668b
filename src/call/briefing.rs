//! What is looked up for the call, put beside what the caller said.

use crate::context::Briefing;
use crate::model::Content;

/// Adds the facts of this moment to the caller's last contribution. `said`: its text, where somebody wrote it down.
pub(super) fn add_facts(briefing: &Briefing, said: Option<&str>, contents: &mut [Content]) {
    let Some(Content::Caller { text, .. }) = contents.last_mut() else { return };
    let Some(facts) = briefing.facts(said) else { return };
    *text = Some(match text.take() {
        Some(before) => format!("{facts}\n{before}"),
        None => facts,
    });
}
