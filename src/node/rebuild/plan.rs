//! Which types' rules are others than those the stored states were made by.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::model::ids::Lsn;
use crate::rules::{EntityRules, Ruleset};
use crate::store::{Store, StoreError, TypeMark};

/// What has to be done before a data folder is what its rules say.
#[derive(Debug)]
pub struct Plan {
    /// Types with new rules, types that are new or came back among them.
    pub changed: Vec<Arc<EntityRules>>,
    /// Types that those refer to: what is seen of them may be more, or less.
    pub referred: Vec<Arc<EntityRules>>,
    /// The marks of all types as they are.
    pub known: BTreeMap<String, TypeMark>,
    /// The marks as they will be. Types without rules keep one, so that they are made anew should they come back: they will
    /// have missed events.
    pub marks: BTreeMap<String, TypeMark>,
}

impl Plan {
    /// Compares the rules with the store's marks; where nothing has to be done the marks are set.
    ///
    /// # Errors
    /// What the store says.
    pub fn of(store: &Store, last: Lsn, ruleset: &Ruleset) -> Result<Option<Self>, StoreError> {
        let known = if last == Lsn::ZERO { BTreeMap::new() } else { store.fingerprints()? };
        let settled = |rules: &Arc<EntityRules>| {
            (rules.name.to_string(), TypeMark::settled(rules.fingerprint, rules.slot_names()))
        };
        let mut marks: BTreeMap<String, TypeMark> = ruleset.types().iter().map(settled).collect();
        let is_changed = |rules: &&Arc<EntityRules>| known.get(&*rules.name) != marks.get(&*rules.name);
        let changed: Vec<_> = ruleset.types().iter().filter(is_changed).cloned().collect();
        for (kind, mark) in known.iter().filter(|(kind, _)| ruleset.get(kind).is_none()) {
            let mark = TypeMark { fingerprint: TypeMark::UNSETTLED, layouts: mark.layouts.clone() };
            marks.insert(kind.clone(), mark);
        }
        if last == Lsn::ZERO || changed.is_empty() {
            if store.fingerprints()? != marks {
                store.set_fingerprints(&marks)?;
            }
            return Ok(None);
        }
        let is_changed = |kind: &str| changed.iter().any(|rules| &*rules.name == kind);
        let is_seen = |rules: &&Arc<EntityRules>| {
            let by_changed = rules.watches.iter().any(|watch| is_changed(&watch.by.kind));
            by_changed && !is_changed(&rules.name)
        };
        let referred = ruleset.types().iter().filter(is_seen).cloned().collect();
        Ok(Some(Plan { changed, referred, known, marks }))
    }

    /// The names of the types with new rules.
    pub fn names(&self) -> Vec<String> {
        self.changed.iter().map(|rules| rules.name.to_string()).collect()
    }
}
