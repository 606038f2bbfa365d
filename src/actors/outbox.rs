//! A shard's outbox: what its entity actors made of the messages they were sent, until the supervisor takes it all at once.

use actix::{Addr, Message};
use tokio::sync::oneshot;

use super::aftermath::Aftermath;
use super::entity::{Entity, Work};
use super::kept::{Copied, Snapshot};
use super::mailbox::post;
use super::slots::SlotId;
use super::supervisor::Supervisor;
use crate::model::ids::{EntityKey, Lsn, Version};
use crate::model::outbox::{Outgoing, Receipt};
use crate::model::refusal::Refusal;
use crate::model::settle::{Noted, Settled, TakerOutcome, Ticket};
use crate::model::state::{LsnBook, State};
use crate::telemetry::{About, Committing, tell};

/// What came of a message to an entity actor.
pub(super) enum Handled {
    /// A record to be journaled; `pending` and `aftermath` are released by its commit, `letters` wait for it. `standing` as
    /// in [`LsnBook::note`].
    Recorded {
        version: Version,
        bytes: Vec<u8>,
        standing: Option<Box<[Version]>>,
        /// Whether the entity is there itself.
        exists: bool,
        pending: Pending,
        letters: Vec<Outgoing>,
        aftermath: Option<Box<Aftermath>>,
    },
    /// No record; `pending` waits for the commit of the entity's `version`.
    Unrecorded { version: Version, pending: Pending },
    /// A copy to be stored.
    Copied(Box<Copied>),
    /// The actor is done with a message, not its last.
    Answered,
    /// The actor has ended.
    Gone(Box<Entity>),
}

/// What a commit releases.
pub enum Pending {
    Counted(Ticket),
    Duplicate(Ticket),
    Refused(Ticket, Box<Refusal>),
    Noted(oneshot::Sender<Lsn>),
    Snapshot(oneshot::Sender<Option<Snapshot>>, Box<State>),
    /// An input from inside that somebody waits for.
    Step(oneshot::Sender<Noted>),
    /// One that made no record.
    NoStep(oneshot::Sender<Noted>),
    /// A letter, of which `sender` has the receipt.
    Arrived {
        sender: EntityKey,
        receipt: Box<Receipt>,
    },
    /// Something that is part of a trace.
    Traced(Box<(Pending, Committing)>),
    /// Something is to be done.
    Act(Box<Aftermath>),
    Nothing,
}

/// Whoever waits for what becomes of an event.
pub(super) enum Asker {
    Sender(Ticket),
    /// The entity itself, whose decision it was, and the decision's id.
    Entity(Pending, Box<str>),
}

impl Asker {
    pub fn counted(self) -> Pending {
        match self {
            Asker::Sender(ticket) => Pending::Counted(ticket),
            Asker::Entity(pending, _) => pending,
        }
    }

    pub fn duplicate(self) -> Pending {
        match self {
            Asker::Sender(ticket) => Pending::Duplicate(ticket),
            Asker::Entity(pending, _) => pending,
        }
    }

    pub fn refused(self, refusal: Refusal) -> Pending {
        match self {
            Asker::Sender(ticket) => Pending::Refused(ticket, Box::new(refusal)),
            Asker::Entity(pending, event_id) => {
                if let Pending::Arrived { sender, .. } = &pending {
                    let about = About { event_id: Some(&event_id), ..About::entity(sender) };
                    tell!(warn, about, "a decision does not count as an event to its entity: {}", refusal.message);
                }
                pending
            }
        }
    }
}

/// What commits release, gathered until it is told.
#[derive(Default)]
pub(super) struct Released {
    pub settled: Settled,
    /// For other entities.
    pub work: Vec<Work>,
    /// To be done, of the entity whose record it was.
    pub acts: Vec<(SlotId, Box<Aftermath>)>,
}

impl Pending {
    /// For whoever waits for an input from inside.
    pub(super) fn step(done: Option<oneshot::Sender<Noted>>) -> Pending {
        done.map_or(Pending::Nothing, Pending::Step)
    }

    /// The same, of an input that makes no record.
    pub(super) fn said_nothing(self) -> Pending {
        match self {
            Pending::Step(done) => Pending::NoStep(done),
            other => other,
        }
    }

    /// Releases it; `book` is that of the entity in `slot`, as of the record it waited for.
    pub(super) fn release(self, slot: SlotId, book: &LsnBook, released: &mut Released) {
        let settled = &mut released.settled;
        match self {
            Pending::Counted(ticket) => ticket.settle(TakerOutcome::Counted(book.last), settled),
            Pending::Duplicate(ticket) => ticket.settle(TakerOutcome::Duplicate(book.last), settled),
            Pending::Refused(ticket, refusal) => ticket.settle(TakerOutcome::Refused(*refusal), settled),
            Pending::Step(done) => drop(done.send(Noted::Recorded(book.last))),
            Pending::NoStep(done) => drop(done.send(Noted::Nothing)),
            Pending::Arrived { sender, receipt } => released.work.push(Work::Receipt { sender, receipt }),
            Pending::Act(aftermath) => released.acts.push((slot, aftermath)),
            Pending::Traced(traced) => {
                let (pending, committing) = *traced;
                // The book is as of this very record.
                committing.committed(book.last);
                pending.release(slot, book, released);
            }
            Pending::Nothing => {}
            // Whoever asked may have gone; then nobody needs the answer.
            Pending::Noted(done) => drop(done.send(book.last)),
            Pending::Snapshot(reply, state) => {
                // An entity all of whose inputs were refused has an actor, but nothing is known of it.
                let is_known = state.version > Version(0);
                drop(reply.send(is_known.then(|| Snapshot { state: *state, lsns: book.clone() })));
            }
        }
    }
}

/// Handled messages are taken when so many have gathered, even while others are still unanswered.
const GATHERED_MAX: usize = 512;

/// The outbox.
pub(super) struct Outbox {
    supervisor: Addr<Supervisor>,
    handled: Vec<(SlotId, Handled)>,
    /// Messages sent to entity actors and not yet answered.
    outstanding: usize,
    /// The supervisor was asked to take what is here and has not done so yet.
    asked_to_take: bool,
}

impl Outbox {
    pub(super) fn new(supervisor: Addr<Supervisor>) -> Self {
        Outbox { supervisor, handled: Vec::new(), outstanding: 0, asked_to_take: false }
    }

    pub(super) fn put(&mut self, slot: SlotId, handled: Handled) {
        self.handled.push((slot, handled));
    }

    /// A message was sent to an actor.
    pub(super) fn asked(&mut self) {
        self.outstanding += 1;
    }

    /// An actor has handled a message; everything that came of it was put before.
    pub(super) fn answered(&mut self, slot: SlotId) {
        self.handled.push((slot, Handled::Answered));
        self.done();
    }

    /// An actor has ended. Its slot goes with it, so nothing else may be answered for it.
    pub(super) fn gone(&mut self, slot: SlotId, entity: Entity) {
        self.handled.push((slot, Handled::Gone(Box::new(entity))));
        self.done();
    }

    fn done(&mut self) {
        self.outstanding -= 1;
        if (self.outstanding == 0 || self.handled.len() >= GATHERED_MAX) && !self.asked_to_take {
            self.asked_to_take = true;
            post(&self.supervisor, Take);
        }
    }

    /// Everything put so far, in order.
    pub(super) fn take(&mut self) -> Vec<(SlotId, Handled)> {
        self.asked_to_take = false;
        std::mem::take(&mut self.handled)
    }
}

/// Asks the supervisor to take what is in the outbox.
#[derive(Message)]
#[rtype(result = "()")]
pub(super) struct Take;
