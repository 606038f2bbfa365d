//! Tickets: how the sender of an event learns what became of it, once all its takers are done.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};

use super::ids::Lsn;
use super::refusal::Refusal;

/// What became of an event at one taker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TakerOutcome {
    /// Counted, and durable at this position.
    Counted(Lsn),
    /// Counted before; what is known of the entity is durable up to here.
    Duplicate(Lsn),
    Refused(Refusal),
}

/// What became of an event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EventOutcome {
    Accepted(Lsn),
    /// Every taker had counted it before.
    Duplicate(Lsn),
    /// Some taker refused it; the others keep it.
    Refused(Refusal),
}

/// Whoever sent events and waits for what becomes of them.
pub trait Acknowledge: Send + Sync {
    /// Tells the outcome of the event that the sender knows as `line`. Must not block.
    fn settled(&self, line: u64, outcome: EventOutcome);
}

/// One taker's duty to tell what became of an event.
pub struct Ticket {
    sender: Arc<dyn Acknowledge>,
    line: u64,
    shared: Option<Arc<Shared>>,
}

/// An event with several takers is settled when the last of them is.
struct Shared {
    remaining: AtomicU32,
    outcome: Mutex<Option<EventOutcome>>,
}

impl Ticket {
    /// One ticket for each of an event's `takers`.
    pub fn issue(sender: &Arc<dyn Acknowledge>, line: u64, takers: usize) -> impl Iterator<Item = Ticket> {
        let shared = (takers > 1)
            .then(|| Arc::new(Shared { remaining: AtomicU32::new(takers as u32), outcome: Mutex::new(None) }));
        (0..takers).map(move |_| Ticket { sender: sender.clone(), line, shared: shared.clone() })
    }

    /// Tells what became of the event at this taker.
    pub fn settle(self, outcome: TakerOutcome) {
        let outcome = match outcome {
            TakerOutcome::Counted(lsn) => EventOutcome::Accepted(lsn),
            TakerOutcome::Duplicate(lsn) => EventOutcome::Duplicate(lsn),
            TakerOutcome::Refused(refusal) => EventOutcome::Refused(refusal),
        };
        let Some(shared) = &self.shared else { return self.sender.settled(self.line, outcome) };
        let mut so_far = shared.outcome.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        *so_far = Some(match so_far.take() {
            Some(before) => worse(before, outcome),
            None => outcome,
        });
        if shared.remaining.fetch_sub(1, Ordering::AcqRel) == 1
            && let Some(outcome) = so_far.take()
        {
            drop(so_far);
            self.sender.settled(self.line, outcome);
        }
    }
}

/// The one answer for two takers: a refusal outweighs, then having counted; the later position is told.
fn worse(a: EventOutcome, b: EventOutcome) -> EventOutcome {
    use EventOutcome::{Accepted, Duplicate, Refused};
    match (a, b) {
        (Refused(refusal), _) | (_, Refused(refusal)) => Refused(refusal),
        (Duplicate(a), Duplicate(b)) => Duplicate(a.max(b)),
        (Accepted(a) | Duplicate(a), Accepted(b) | Duplicate(b)) => Accepted(a.max(b)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::refusal::Code;

    #[derive(Default)]
    struct Told(Mutex<Vec<(u64, EventOutcome)>>);

    impl Acknowledge for Told {
        fn settled(&self, line: u64, outcome: EventOutcome) {
            self.0.lock().unwrap().push((line, outcome));
        }
    }

    #[test]
    fn the_sender_hears_once_after_the_last_taker() {
        let refused = || TakerOutcome::Refused(Refusal::new(Code::Conflict, "x"));
        for (outcomes, expected) in [
            (vec![TakerOutcome::Duplicate(Lsn(1))], EventOutcome::Duplicate(Lsn(1))),
            (vec![TakerOutcome::Counted(Lsn(5)), TakerOutcome::Duplicate(Lsn(9))], EventOutcome::Accepted(Lsn(9))),
            (vec![TakerOutcome::Duplicate(Lsn(3)), TakerOutcome::Duplicate(Lsn(2))], EventOutcome::Duplicate(Lsn(3))),
            (
                vec![TakerOutcome::Counted(Lsn(5)), refused(), TakerOutcome::Counted(Lsn(6))],
                EventOutcome::Refused(Refusal::new(Code::Conflict, "x")),
            ),
        ] {
            let told = Arc::new(Told::default());
            let sender: Arc<dyn Acknowledge> = told.clone();
            let mut tickets = Ticket::issue(&sender, 7, outcomes.len());
            for outcome in outcomes {
                assert!(told.0.lock().unwrap().is_empty());
                tickets.next().unwrap().settle(outcome);
            }
            assert_eq!(*told.0.lock().unwrap(), [(7, expected)]);
        }
    }
}
