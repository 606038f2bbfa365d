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

/// What became of an input from inside, once that is durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Noted {
    /// It is recorded there.
    Recorded(Lsn),
    /// It said nothing new, and made no record.
    Nothing,
}

/// What became of events, each by what its sender knows as its line.
pub type Outcomes = Vec<(u64, EventOutcome)>;

/// Whoever sent events and waits for what becomes of them.
pub trait Acknowledge: Send + Sync {
    /// Tells the outcomes of events. Must not block.
    fn settled(&self, outcomes: Outcomes);
}

/// What became of events, by sender, until it is told: each sender hears of many at once.
#[derive(Default)]
pub struct Settled(Vec<(Arc<dyn Acknowledge>, Outcomes)>);

impl Settled {
    fn add(&mut self, sender: Arc<dyn Acknowledge>, line: u64, outcome: EventOutcome) {
        let same = |known: &Arc<dyn Acknowledge>| std::ptr::addr_eq(Arc::as_ptr(known), Arc::as_ptr(&sender));
        // There are few senders, and mostly it is the last one.
        match self.0.iter_mut().rev().find(|(known, _)| same(known)) {
            Some((_, outcomes)) => outcomes.push((line, outcome)),
            None => self.0.push((sender, vec![(line, outcome)])),
        }
    }

    /// Tells everybody.
    pub fn tell(self) {
        for (sender, outcomes) in self.0 {
            sender.settled(outcomes);
        }
    }
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

    /// Notes what became of the event at this taker.
    pub fn settle(self, outcome: TakerOutcome, settled: &mut Settled) {
        let outcome = match outcome {
            TakerOutcome::Counted(lsn) => EventOutcome::Accepted(lsn),
            TakerOutcome::Duplicate(lsn) => EventOutcome::Duplicate(lsn),
            TakerOutcome::Refused(refusal) => EventOutcome::Refused(refusal),
        };
        let Some(shared) = &self.shared else { return settled.add(self.sender, self.line, outcome) };
        let mut so_far = shared.outcome.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        *so_far = Some(match so_far.take() {
            Some(before) => worse(before, outcome),
            None => outcome,
        });
        if shared.remaining.fetch_sub(1, Ordering::AcqRel) == 1
            && let Some(outcome) = so_far.take()
        {
            settled.add(self.sender.clone(), self.line, outcome);
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
        fn settled(&self, outcomes: Outcomes) {
            self.0.lock().unwrap().extend(outcomes);
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
                let mut settled = Settled::default();
                tickets.next().unwrap().settle(outcome, &mut settled);
                settled.tell();
            }
            assert_eq!(*told.0.lock().unwrap(), [(7, expected)]);
        }
    }
}
