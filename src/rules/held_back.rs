//! Events that entities hold while rules change: they are applied when they are released, and not before, although another
//! entity that took the same event has applied it long ago.

use std::collections::{HashMap, HashSet};

use super::admit::Taken;
use crate::model::ids::{EntityKey, IdentityHash};
use crate::model::record::{EventInput, Input, Record};

/// What is held, by whom; as far as the journal's records were noted, in their order.
#[derive(Clone, Debug, Default)]
pub struct HeldBack(HashMap<EntityKey, HashSet<IdentityHash>>);

impl HeldBack {
    /// Notes a record.
    pub fn note(&mut self, record: &Record) {
        match &record.input {
            Input::Held(input) => {
                self.0.entry(record.entity.clone()).or_default().insert(given(input));
            }
            Input::Released(input) => {
                if let Some(held) = self.0.get_mut(&record.entity) {
                    held.remove(&given(input));
                }
            }
            input if input.ending().is_some() => drop(self.0.remove(&record.entity)),
            _ => {}
        }
    }

    /// Whether the entity that takes an event holds it.
    pub fn has(&self, taken: &Taken) -> bool {
        self.0.get(&taken.entity).is_some_and(|held| held.contains(&given(&taken.input)))
    }
}

/// The identity that the sender gave, whatever rules make of it.
fn given(input: &EventInput) -> IdentityHash {
    IdentityHash::of(&input.event.source, &input.event.id)
}
