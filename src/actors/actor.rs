//! The actor of one key: a thin shell around its [`Entity`], which puts what comes of each message into its shard's outbox.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

use actix::{Actor, ActorContext, Context, Handler, Message};
use smallvec::SmallVec;
use tokio::sync::oneshot;

use super::entity::{Entity, Surroundings, Work};
use super::kept::Snapshot;
use super::outbox::{Handled, Outbox, Pending};
use super::slots::SlotId;
use crate::metrics::TypeMetrics;
use crate::model::ids::IdentityHash;
use crate::model::time::Timestamp;

/// The actor.
pub(super) struct EntityActor {
    pub slot: SlotId,
    pub entity: Entity,
    /// None for the system's own entities.
    pub metrics: Option<Arc<TypeMetrics>>,
    pub shared: Rc<Shared>,
}

/// What the entity actors of a shard have in common.
pub(super) struct Shared {
    pub around: Surroundings,
    pub outbox: RefCell<Outbox>,
}

impl Actor for EntityActor {
    type Context = Context<Self>;
}

/// Inputs of one entity, in order; mostly one.
pub(super) type Batch = SmallVec<[Work; 1]>;

/// A batch's inputs for this entity.
#[derive(Message)]
#[rtype(result = "()")]
pub(super) struct Handle {
    pub work: Batch,
    pub now: Timestamp,
}

impl Handler<Handle> for EntityActor {
    type Result = ();

    fn handle(&mut self, message: Handle, _: &mut Self::Context) {
        for work in message.work {
            let handled = self.entity.handle(work, &self.shared.around, self.metrics.as_deref(), message.now);
            self.shared.outbox.borrow_mut().put(self.slot, handled);
        }
        self.shared.outbox.borrow_mut().answered(self.slot);
    }
}

/// Asks for a snapshot.
#[derive(Message)]
#[rtype(result = "()")]
pub(super) struct Read {
    pub reply: oneshot::Sender<Option<Snapshot>>,
}

impl Handler<Read> for EntityActor {
    type Result = ();

    fn handle(&mut self, message: Read, _: &mut Self::Context) {
        let pending = Pending::Snapshot(message.reply, Box::new(self.entity.state().clone()));
        let mut outbox = self.shared.outbox.borrow_mut();
        outbox.put(self.slot, self.entity.unrecorded(pending));
        outbox.answered(self.slot);
    }
}

/// Asks for a copy to be stored.
#[derive(Message)]
#[rtype(result = "()")]
pub(super) struct Copy;

impl Handler<Copy> for EntityActor {
    type Result = ();

    fn handle(&mut self, _: Copy, _: &mut Self::Context) {
        let mut outbox = self.shared.outbox.borrow_mut();
        outbox.put(self.slot, Handled::Copied(Box::new(self.entity.copy())));
        outbox.answered(self.slot);
    }
}

/// Tells the last of the identities that are rows of the store now.
#[derive(Message)]
#[rtype(result = "()")]
pub(super) struct Spilled(pub IdentityHash);

impl Handler<Spilled> for EntityActor {
    type Result = ();

    fn handle(&mut self, Spilled(last): Spilled, _: &mut Self::Context) {
        self.entity.spilled(last);
        self.shared.outbox.borrow_mut().answered(self.slot);
    }
}

/// Ends the actor; it hands over its entity.
#[derive(Message)]
#[rtype(result = "()")]
pub(super) struct Stop;

impl Handler<Stop> for EntityActor {
    type Result = ();

    fn handle(&mut self, _: Stop, context: &mut Self::Context) {
        let entity = std::mem::take(&mut self.entity);
        self.shared.outbox.borrow_mut().gone(self.slot, entity);
        context.stop();
    }
}
