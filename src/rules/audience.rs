//! Which types a journaled event is offered to again, when rules have changed.

use crate::model::ids::EntityKey;
use crate::model::record::{EventInput, Input};

/// Who is offered the event of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Audience {
    /// Every type: those that took it when it came have a record of it, too, and count it once.
    All,
    /// Everybody but the entity itself, which holds it until it is released.
    Others,
    /// The record's own type: others had it when it was held.
    Own,
}

impl Audience {
    /// The event that a record brings its entity, and who is offered it.
    pub fn of(input: &Input) -> Option<(&EventInput, Audience)> {
        match input {
            Input::Event(input) => Some((input, Audience::All)),
            Input::Held(input) => Some((input, Audience::Others)),
            Input::Released(input) => Some((input, Audience::Own)),
            _ => None,
        }
    }

    /// Whether `taker` is among them, where `entity` has the record.
    pub fn has(self, taker: &EntityKey, entity: &EntityKey) -> bool {
        match self {
            Audience::All => true,
            Audience::Others => taker != entity,
            Audience::Own => taker.kind() == entity.kind(),
        }
    }
}
