//! Which entities have to do with each other: those that refer to each other at any time while all events come in the order
//! given.

use std::collections::HashMap;
use std::sync::Arc;

use crate::model::ids::EntityKey;
use crate::rules::{Around, Came, Decided, Machine, Ruleset, Taken};

/// Entities and what ties them.
#[derive(Debug)]
pub struct Ties {
    machine: Machine,
    tied: Tied,
}

/// Each entity leads to another one of its group, or to itself.
#[derive(Debug, Default)]
pub struct Tied(HashMap<EntityKey, EntityKey>);

impl Ties {
    /// Ties under these rules; none where no type refers to another, so that every entity is alone.
    pub fn of(ruleset: &Arc<Ruleset>) -> Option<Ties> {
        let refers = ruleset.types().iter().any(|rules| !rules.references.is_empty());
        refers.then(|| Ties { machine: Machine::new(ruleset.clone()), tied: Tied::default() })
    }

    /// An event comes.
    pub fn follow(&mut self, taken: Box<Taken>) {
        let now = self.machine.now().max(taken.input.time());
        self.machine.advance(now, &mut self.tied);
        if let Came::Counted(decided) = self.machine.apply(taken, now) {
            self.tied.hear(&decided);
        }
        self.machine.advance(now, &mut self.tied);
    }

    /// What is tied once all that is due later has happened.
    pub fn finish(mut self) -> Tied {
        self.machine.finish(&mut self.tied);
        self.tied
    }
}

impl Tied {
    /// The one that stands for an entity's group.
    pub fn group_of(&mut self, entity: &EntityKey) -> EntityKey {
        let mut at = entity.clone();
        while let Some(next) = self.0.get(&at).filter(|next| **next != at).cloned() {
            // The next time the way is half as long.
            if let Some(beyond) = self.0.get(&next).cloned() {
                self.0.insert(at, beyond);
            }
            at = next;
        }
        at
    }
}

impl Around for Tied {
    fn hear(&mut self, decided: &Decided) {
        let record = &decided.record;
        for set in &record.references {
            let Some(to) = &set.to else { continue };
            let to = EntityKey::new(&set.kind, &**to);
            let [one, other] = [&record.entity, &to].map(|entity| self.group_of(entity));
            self.0.entry(other.clone()).or_insert(other.clone());
            self.0.insert(one, other);
        }
    }
}
