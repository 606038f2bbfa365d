//! A shard's outbox: what its entity actors made of the messages they were sent, until the supervisor takes it all at once.

use actix::{Addr, Message};
use tokio::sync::oneshot;

use super::entity::{Entity, Snapshot};
use super::mailbox::post;
use super::supervisor::Supervisor;
use crate::model::ids::{EntityKey, Lsn, Version};
use crate::model::record::DecisionRevision;
use crate::model::refusal::Refusal;
use crate::model::settle::{TakerOutcome, Ticket};
use crate::model::time::Timestamp;
use crate::store::EntityWrite;

/// What came of a message to an entity actor.
pub(super) enum Handled {
    /// A record to be journaled; `pending` is released by its commit.
    Recorded(Recorded),
    /// No record; `pending` waits for the commit of the entity's `version`.
    Unrecorded { entity: EntityKey, version: Version, pending: Pending },
    /// A copy to be stored; its book may lack positions of records that are in it.
    Copied { write: EntityWrite, book_is_behind: bool },
    /// The actor is done with a message, not its last.
    Answered(EntityKey),
    /// The actor has ended.
    Gone(EntityKey, Box<Entity>),
}

/// A record on its way to the journal.
pub(super) struct Recorded {
    pub entity: EntityKey,
    pub version: Version,
    pub bytes: Vec<u8>,
    pub decisions: Vec<DecisionRevision>,
    pub event_time: Option<Timestamp>,
    pub pending: Pending,
}

/// What a commit releases.
pub enum Pending {
    Counted(Ticket),
    Duplicate(Ticket),
    Refused(Ticket, Refusal),
    Progress(oneshot::Sender<Lsn>),
    Snapshot(oneshot::Sender<Option<Snapshot>>, Box<Snapshot>),
}

impl Pending {
    /// Releases it; `lsn` is the position of the record it waited for.
    pub(super) fn release(self, lsn: Lsn) {
        match self {
            Pending::Counted(ticket) => ticket.settle(TakerOutcome::Counted(lsn)),
            Pending::Duplicate(ticket) => ticket.settle(TakerOutcome::Duplicate(lsn)),
            Pending::Refused(ticket, refusal) => ticket.settle(TakerOutcome::Refused(refusal)),
            // Whoever asked may have gone; then nobody needs the answer.
            Pending::Progress(done) => drop(done.send(lsn)),
            Pending::Snapshot(reply, mut snapshot) => {
                if snapshot.lsns.version < snapshot.state.version {
                    let ledger = std::mem::take(&mut snapshot.state.ledger);
                    snapshot.lsns.note(snapshot.state.version, lsn, &ledger);
                    snapshot.state.ledger = ledger;
                }
                // An entity all of whose inputs were refused has an actor, but nothing is known of it.
                drop(reply.send((snapshot.state.version > Version(0)).then_some(*snapshot)));
            }
        }
    }
}

/// Handled messages are taken when so many have gathered, even while others are still unanswered.
const GATHERED_MAX: usize = 512;

/// The outbox.
pub(super) struct Outbox {
    supervisor: Addr<Supervisor>,
    handled: Vec<Handled>,
    /// Messages sent to entity actors and not yet answered.
    outstanding: usize,
    /// The supervisor was asked to take what is here and has not done so yet.
    asked_to_take: bool,
}

impl Outbox {
    pub(super) fn new(supervisor: Addr<Supervisor>) -> Self {
        Outbox { supervisor, handled: Vec::new(), outstanding: 0, asked_to_take: false }
    }

    pub(super) fn put(&mut self, handled: Handled) {
        self.handled.push(handled);
    }

    /// A message was sent to an actor.
    pub(super) fn asked(&mut self) {
        self.outstanding += 1;
    }

    /// An actor has handled a message; everything that came of it was put before.
    pub(super) fn answered(&mut self, entity: &EntityKey) {
        self.handled.push(Handled::Answered(entity.clone()));
        self.done();
    }

    /// An actor has ended. Its slot goes with it, so nothing else may be answered for it.
    pub(super) fn gone(&mut self, key: EntityKey, entity: Entity) {
        self.handled.push(Handled::Gone(key, Box::new(entity)));
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
    pub(super) fn take(&mut self) -> Vec<Handled> {
        self.asked_to_take = false;
        std::mem::take(&mut self.handled)
    }
}

/// Asks the supervisor to take what is in the outbox.
#[derive(Message)]
#[rtype(result = "()")]
pub(super) struct Take;
