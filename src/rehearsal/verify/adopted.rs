//! Which types are by other rules than those some of their events came under, since when, and what they make of those events.

use std::collections::HashMap;
use std::sync::Arc;

use super::world::{VerifyError, World};
use crate::actors::Kept;
use crate::model::ids::{EntityKey, Lsn};
use crate::model::record::Record;
use crate::model::system::{FORGET_KIND, RULES_KIND, SystemState};
use crate::rules::{Audience, EntityRules, HeldBack, Ruleset, Taken};

/// Since when a type is by the rules it has.
#[derive(Clone, Debug)]
struct Adopted {
    rules: Arc<EntityRules>,
    /// Where that was noted: what came before is as these rules say.
    at: Lsn,
    /// Entities were made anew, and the journal has all they were made of.
    is_known: bool,
}

/// The types whose rules were changed.
#[derive(Clone, Debug, Default)]
pub(super) struct AdoptedTypes {
    types: HashMap<Arc<str>, Adopted>,
    /// What was held when they were made anew.
    held: HeldBack,
    /// Somebody is or was to be forgotten: what types were made anew of may be left out then, or blank since.
    pub has_forgotten: bool,
}

/// How a record stands to the rules that its entity's type has now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Under {
    /// It was made under them.
    These,
    /// Its entity was made anew since, from events that are offered again.
    Others,
    /// Its entity keeps values from then, which nothing can be compared with.
    Unknown,
}

impl AdoptedTypes {
    /// As they were noted.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn of(world: &dyn World, ruleset: &Ruleset, first: Lsn) -> Result<Self, VerifyError> {
        let store = world.store();
        let mut types = HashMap::new();
        for rules in ruleset.types() {
            let Some(kept) = Kept::load(store, &EntityKey::new(RULES_KIND, &*rules.name))? else { continue };
            let Some(SystemState::Rules(noted)) = kept.entity.state().system.as_deref() else { continue };
            let is_known = noted.is_rebuilt && first <= Lsn::FIRST;
            types.insert(rules.name.clone(), Adopted { rules: rules.clone(), at: kept.book.last, is_known });
        }
        let has_forgotten =
            !world.unsaved(FORGET_KIND, None, 1).is_empty() || !store.keys(FORGET_KIND, None, "", 1)?.is_empty();
        Ok(AdoptedTypes { types, held: HeldBack::default(), has_forgotten })
    }

    /// How the record at `lsn` stands to the rules that entities of this type have.
    pub fn under(&self, kind: &str, lsn: Lsn) -> Under {
        match self.types.get(kind).filter(|it| lsn < it.at) {
            None => Under::These,
            Some(Adopted { is_known: true, .. }) => Under::Others,
            Some(_) => Under::Unknown,
        }
    }

    /// Notes what an entity held before its type was made anew.
    pub fn hold(&mut self, lsn: Lsn, record: &Record) {
        if self.types.get(record.entity.kind()).is_some_and(|it| it.is_known && lsn < it.at) {
            self.held.note(record);
        }
    }

    /// Whether any type was made anew from what came up to `lsn`.
    pub fn take_again(&self, lsn: Lsn) -> bool {
        self.types.values().any(|it| it.is_known && lsn < it.at)
    }

    /// What types that were made anew since make of a record's event.
    pub fn taken<'a>(
        &'a self,
        ruleset: &'a Ruleset,
        lsn: Lsn,
        record: &'a Record,
    ) -> impl Iterator<Item = Box<Taken>> + use<'a> {
        let entity = &record.entity;
        let counted = Audience::of(&record.input);
        let event = counted.map(|(input, _)| input.event.unpack());
        let takes = move |it: &&Adopted, kind: &str| it.is_known && lsn < it.at && it.rules.takes(kind);
        self.types.values().filter_map(move |it| {
            let (input, audience) = counted?;
            let event = event.as_ref().filter(|event| takes(&it, &event.kind))?;
            // What does not fit the rules counted no more when they were taken.
            let made = ruleset.take_again(&it.rules.name, entity, input, event).ok().flatten()?;
            (audience.has(&made.entity, entity) && !self.held.has(&made)).then_some(made)
        })
    }
}
