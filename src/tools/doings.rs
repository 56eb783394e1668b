//! What was done for one caller: nothing twice, nothing too often, nothing that needs a yes without one.

use std::sync::{Arc, Mutex, PoisonError};

use serde_json::Value;
use tokio::sync::watch;

use crate::conversation::Turn;

/// Doings of a call that are remembered; there are fewer, since each counts.
const REMEMBERED: usize = 100;

/// A result that may still be on its way.
type Pending = watch::Receiver<Option<Value>>;

/// The functions with side effects of one call.
#[derive(Debug)]
pub struct Doings {
    most: u32,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    effects: u32,
    done: Vec<Done>,
    asked: Vec<Asked>,
}

#[derive(Debug)]
struct Done {
    name: String,
    args: Value,
    result: Pending,
}

/// The caller is to be asked, or was.
#[derive(Debug)]
struct Asked {
    name: String,
    args: Value,
    turn: Turn,
    /// The answer with the question was heard.
    heard: bool,
}

/// Whether something is to be done.
pub(super) enum Permission {
    /// Once: the result goes here.
    Granted(watch::Sender<Option<Value>>, Pending),
    /// It was, or is being.
    Done(Pending),
    /// The caller has to agree first.
    AskFirst,
    /// Enough was done in this call.
    TooMuch,
}

impl Doings {
    /// Of a call in which at most so many things may be done.
    pub fn new(most: u32) -> Arc<Self> {
        Arc::new(Self { most, state: Mutex::default() })
    }

    /// Asks for permission to do something in a turn. `confirm`: the caller must have agreed, in a later turn than it was asked for.
    pub(super) fn permit(&self, turn: Turn, name: &str, args: &Value, confirm: bool) -> Permission {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let failed = |done: &Done| {
            let result = done.result.borrow();
            // A sender that is gone has not told of anything either.
            result.as_ref().map_or(done.result.has_changed().is_err(), |result| result.get("error").is_some())
        };
        if let Some(at) = state.done.iter().position(|done| done.name == name && done.args == *args) {
            if !failed(&state.done[at]) {
                return Permission::Done(state.done[at].result.clone());
            }
            state.done.remove(at);
        } else if confirm {
            let agreed = |asked: &Asked| asked.name == name && asked.args == *args && asked.heard && asked.turn < turn;
            match state.asked.iter().position(agreed) {
                Some(at) => drop(state.asked.remove(at)),
                None => {
                    state.asked.retain(|asked| asked.name != name);
                    state.asked.push(Asked { name: name.into(), args: args.clone(), turn, heard: false });
                    return Permission::AskFirst;
                }
            }
        }
        if state.effects >= self.most || state.done.len() >= REMEMBERED {
            return Permission::TooMuch;
        }
        state.effects += 1;
        let (sender, receiver) = watch::channel(None);
        state.done.push(Done { name: name.into(), args: args.clone(), result: receiver.clone() });
        Permission::Granted(sender, receiver)
    }

    /// A turn is over, and its answer was heard, or was not.
    pub fn turn_over(&self, turn: Turn, heard: bool) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.asked.retain(|asked| asked.turn != turn || heard);
        state.asked.iter_mut().filter(|asked| asked.turn == turn).for_each(|asked| asked.heard = true);
    }

    /// What the model is to know of it in later turns; the history does not have it.
    pub fn so_far(&self) -> Option<String> {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let done = state
            .done
            .iter()
            .filter(|done| done.result.borrow().as_ref().is_some_and(|result| result.get("error").is_none()));
        let told: Vec<String> = done.map(|done| format!("{} {:.200}", done.name, done.args.to_string())).collect();
        (!told.is_empty()).then(|| format!("(Already done in this call: {}.)", told.join("; ")))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn granted(doings: &Doings, turn: Turn, args: &Value, confirm: bool) -> Option<watch::Sender<Option<Value>>> {
        match doings.permit(turn, "book", args, confirm) {
            Permission::Granted(sender, _) => Some(sender),
            _ => None,
        }
    }

    #[test]
    fn the_same_is_done_once_and_again_only_when_it_failed() {
        let (doings, monday) = (Doings::new(5), json!({"day": "monday"}));
        let result = granted(&doings, 1, &monday, false).unwrap();
        assert!(matches!(doings.permit(1, "book", &monday, false), Permission::Done(_)));
        result.send_replace(Some(json!({"error": "timeout"})));
        assert_eq!(doings.so_far(), None);
        let result = granted(&doings, 2, &monday, false).unwrap();
        result.send_replace(Some(json!({"output": "ok"})));
        let Permission::Done(done) = doings.permit(3, "book", &monday, false) else { panic!() };
        assert_eq!(*done.borrow(), Some(json!({"output": "ok"})));
        assert!(granted(&doings, 3, &json!({"day": "friday"}), false).is_some());
        assert_eq!(doings.so_far().unwrap(), "(Already done in this call: book {\"day\":\"monday\"}.)");
    }

    #[test]
    fn what_needs_a_yes_is_done_in_a_later_turn_than_the_question_that_was_heard() {
        let (doings, monday) = (Doings::new(5), json!({"day": "monday"}));
        for turn in [1, 1] {
            assert!(matches!(doings.permit(turn, "book", &monday, true), Permission::AskFirst));
        }
        // The question was never heard.
        doings.turn_over(1, false);
        assert!(granted(&doings, 2, &monday, true).is_none());
        doings.turn_over(2, true);
        // Another thing than the one that was asked for.
        assert!(granted(&doings, 3, &json!({"day": "friday"}), true).is_none());
        doings.turn_over(3, true);
        assert!(granted(&doings, 4, &monday, true).is_none());
        doings.turn_over(4, true);
        assert!(granted(&doings, 5, &monday, true).is_some());
    }

    #[test]
    fn a_question_that_is_still_being_asked_has_no_answer_yet_and_what_was_lost_may_be_done_again() {
        let (doings, monday) = (Doings::new(5), json!({"day": "monday"}));
        assert!(granted(&doings, 1, &monday, true).is_none());
        assert!(granted(&doings, 2, &monday, true).is_none(), "nobody has heard the question");
        doings.turn_over(2, true);
        assert!(granted(&doings, 2, &monday, true).is_none(), "the yes is for a later turn");
        doings.turn_over(2, true);
        // It was lost on the way: the sender is gone, and nothing was told.
        drop(granted(&doings, 3, &monday, true).unwrap());
        assert!(granted(&doings, 4, &monday, false).is_some());
    }

    #[test]
    fn no_more_is_done_than_a_call_may_have_done() {
        let doings = Doings::new(2);
        for n in 0..2 {
            assert!(granted(&doings, 1, &json!({"n": n}), false).is_some());
        }
        assert!(matches!(doings.permit(1, "book", &json!({"n": 2}), false), Permission::TooMuch));
    }
}
