//! The one place from which messages are put into actors' mailboxes.
//!
//! A mailbox's own bound is no back-pressure, so nothing relies on it: what may be under way is bounded by the credits that
//! admission hands out and by one slot for each inner input, and therefore sending always succeeds while the actor lives.

use actix::dev::ToEnvelope;
use actix::{Actor, Addr, Handler, Message};

/// Puts `message` into the actor's mailbox.
#[allow(clippy::disallowed_methods)]
pub(super) fn post<A, M>(actor: &Addr<A>, message: M)
where
    A: Actor + Handler<M>,
    A::Context: ToEnvelope<A, M>,
    M: Message + Send + 'static,
    M::Result: Send,
{
    actor.do_send(message);
}
