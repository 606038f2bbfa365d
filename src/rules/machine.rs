//! Entities in memory, and the rules at work on them: inputs in, states changed, what came of it out. What the actors do
//! between a mailbox and the journal, without either; tests of rules and shuffles run on it.

use std::collections::BTreeMap;

use super::admit::Taken;
use super::decide::{Decided, Verdict, decide};
use super::evolve::evolve;
use crate::model::codec::CodecError;
use crate::model::ids::EntityKey;
use crate::model::state::State;
use crate::model::time::Timestamp;

/// What came of an input.
#[derive(Debug)]
pub enum Came {
    Counted(Box<Decided>),
    Duplicate,
    Conflict,
}

/// States of entities; those that nothing was heard of have none.
#[derive(Debug, Default)]
pub struct Machine {
    states: BTreeMap<EntityKey, State>,
}

impl Machine {
    /// Has the entity handle what it takes of an event.
    pub fn apply(&mut self, taken: Box<Taken>, now: Timestamp) -> Came {
        let state = self.states.entry(taken.entity.clone()).or_default();
        let prior = state.identities.get(taken.identity).map(|seen| seen.payload);
        match decide(state, taken, prior, now) {
            Verdict::Record(decided) => {
                evolve(state, &decided.record);
                Came::Counted(decided)
            }
            Verdict::Duplicate => Came::Duplicate,
            Verdict::Conflict => Came::Conflict,
        }
    }

    /// All entities.
    pub fn states(&self) -> &BTreeMap<EntityKey, State> {
        &self.states
    }

    /// Brings every state to its stored form and back, as passivation and a restart do.
    ///
    /// # Errors
    /// When a state is not read as it was written.
    pub fn reload(&mut self) -> Result<(), CodecError> {
        for state in self.states.values_mut() {
            *state = State::decode(&state.encode())?;
        }
        Ok(())
    }
}
