//! One question to the CRM in time: when its answer is late, and when nobody waits for it any longer. No clock, no socket.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::crm::{Answer, CrmFault, Customer};

/// What is worth a line in the log. Not `Debug` for what it knows: it knows nothing of the customer.
#[derive(Debug)]
pub enum Note {
    /// There is a customer.
    Known {
        /// Since the INVITE.
        after: Duration,
        /// After the time in which it was expected.
        late: bool,
    },
    /// There is none.
    Unknown {
        /// Since the INVITE.
        after: Duration,
    },
    /// There is not exactly one.
    Unsure {
        /// Since the INVITE.
        after: Duration,
    },
    /// Nothing came in the time in which it was expected.
    Late,
    /// There was no answer.
    Failed {
        /// Since the INVITE.
        after: Duration,
        /// Why.
        fault: CrmFault,
    },
    /// It is not waited for any longer.
    GivenUp {
        /// Since the INVITE.
        after: Duration,
    },
}

/// The question.
pub struct Inquiry {
    begun: Instant,
    expected: Instant,
    given_up: Instant,
    late: bool,
    over: bool,
    customer: Option<Customer>,
    notes: VecDeque<Note>,
}

impl Inquiry {
    /// A question that leaves at `begun`, is answered within `join` usually, and forgotten after `give_up`.
    pub fn new(begun: Instant, join: Duration, give_up: Duration) -> Self {
        Self {
            begun,
            expected: begun + join.min(give_up),
            given_up: begun + give_up,
            late: false,
            over: false,
            customer: None,
            notes: VecDeque::new(),
        }
    }

    /// An answer came, or will not come. A second one changes nothing.
    pub fn handle_answer(&mut self, now: Instant, answer: Result<Answer, CrmFault>) {
        self.handle_timeout(now);
        if std::mem::replace(&mut self.over, true) {
            return;
        }
        let after = now.saturating_duration_since(self.begun);
        self.notes.push_back(match answer {
            Ok(Answer::Known(customer)) => {
                self.customer = Some(customer);
                Note::Known { after, late: self.late }
            }
            Ok(Answer::Unknown) => Note::Unknown { after },
            Ok(Answer::Unsure) => Note::Unsure { after },
            Err(fault) => Note::Failed { after, fault },
        });
    }

    /// When something is due; none when it is over.
    pub fn poll_timeout(&self) -> Option<Instant> {
        (!self.over).then_some(if self.late { self.given_up } else { self.expected })
    }

    /// Time has passed.
    pub fn handle_timeout(&mut self, now: Instant) {
        if !self.over && !self.late && now >= self.expected {
            self.late = true;
            self.notes.push_back(Note::Late);
        }
        if !self.over && now >= self.given_up {
            self.over = true;
            self.notes.push_back(Note::GivenUp { after: now.saturating_duration_since(self.begun) });
        }
    }

    /// The next note; drain until there is none.
    pub fn poll(&mut self) -> Option<Note> {
        self.notes.pop_front()
    }

    /// The customer, once.
    pub fn take_customer(&mut self) -> Option<Customer> {
        self.customer.take()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const JOIN: Duration = Duration::from_millis(600);
    const GIVE_UP: Duration = Duration::from_secs(10);

    fn notes(inquiry: &mut Inquiry) -> Vec<&'static str> {
        std::iter::from_fn(|| inquiry.poll())
            .map(|note| match note {
                Note::Known { late: false, .. } => "known",
                Note::Known { late: true, .. } => "known late",
                Note::Unknown { .. } => "unknown",
                Note::Unsure { .. } => "unsure",
                Note::Late => "late",
                Note::Failed { .. } => "failed",
                Note::GivenUp { .. } => "given up",
            })
            .collect()
    }

    fn known() -> Result<Answer, CrmFault> {
        Ok(Answer::Known(Customer { fields: vec![("name".into(), "Dana".into())] }))
    }

    #[test]
    fn an_answer_in_time_is_the_end_of_it() {
        let begun = Instant::now();
        let mut inquiry = Inquiry::new(begun, JOIN, GIVE_UP);
        assert_eq!(inquiry.poll_timeout(), Some(begun + JOIN));
        inquiry.handle_answer(begun + JOIN / 2, known());
        assert_eq!(notes(&mut inquiry), ["known"]);
        assert!(inquiry.poll_timeout().is_none() && inquiry.take_customer().is_some());
        inquiry.handle_timeout(begun + GIVE_UP * 2);
        inquiry.handle_answer(begun + GIVE_UP * 2, known());
        assert!(notes(&mut inquiry).is_empty() && inquiry.take_customer().is_none());
    }

    #[test]
    fn a_late_answer_counts_until_it_is_given_up() {
        let begun = Instant::now();
        let mut inquiry = Inquiry::new(begun, JOIN, GIVE_UP);
        inquiry.handle_timeout(begun + JOIN);
        assert_eq!((notes(&mut inquiry), inquiry.poll_timeout()), (vec!["late"], Some(begun + GIVE_UP)));
        inquiry.handle_answer(begun + GIVE_UP - Duration::from_millis(1), known());
        assert_eq!(notes(&mut inquiry), ["known late"]);
        assert!(inquiry.take_customer().is_some());
    }

    #[test]
    fn after_it_was_given_up_nothing_counts() {
        let begun = Instant::now();
        let mut inquiry = Inquiry::new(begun, JOIN, GIVE_UP);
        inquiry.handle_answer(begun + GIVE_UP, known());
        assert_eq!(notes(&mut inquiry), ["late", "given up"]);
        assert!(inquiry.take_customer().is_none() && inquiry.poll_timeout().is_none());
    }

    #[test]
    fn a_fault_and_a_doubt_are_noted_and_give_nobody() {
        for (answer, note) in [
            (Err(CrmFault::Status { status: 500 }), "failed"),
            (Ok(Answer::Unsure), "unsure"),
            (Ok(Answer::Unknown), "unknown"),
        ] {
            let begun = Instant::now();
            let mut inquiry = Inquiry::new(begun, JOIN, GIVE_UP);
            inquiry.handle_answer(begun, answer);
            assert_eq!(notes(&mut inquiry), [note]);
            assert!(inquiry.take_customer().is_none());
        }
    }
}
