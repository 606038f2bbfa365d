//! Which entity types are paused, as every shard sees it. What is said here is journaled before, as a small entity of the
//! system.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::Mutex;

use super::shards::Shards;
use crate::model::ids::EntityKey;
use crate::model::record::Input;
use crate::model::system::{PAUSE_KIND, SystemState, TypePause};
use crate::rules::Ruleset;

/// The types that are paused.
pub struct Pauses {
    types: HashMap<Arc<str>, AtomicBool>,
    /// Asked for each event: mostly there is none.
    is_any: AtomicBool,
    /// Since the start all entities were looked at that may be paused themselves, or hold events.
    is_known: AtomicBool,
    /// One change at a time, so that what is said last in the journal is what holds.
    changing: Mutex<()>,
}

impl Pauses {
    /// None of the types is paused yet.
    pub fn new(ruleset: &Ruleset) -> Self {
        let types = ruleset.types().iter().map(|rules| (rules.name.clone(), AtomicBool::new(false))).collect();
        Pauses { types, is_any: AtomicBool::new(false), is_known: AtomicBool::new(false), changing: Mutex::default() }
    }

    /// Takes over what the journal says. To be called before anything is delivered.
    pub async fn load(&self, shards: &Shards) {
        for kind in self.types.keys() {
            if let Some(said) = self.said(shards, kind).await {
                self.set(kind, said.is_paused);
            }
        }
    }

    /// All entities that are stored as paused, or as holding events, were looked at.
    pub fn are_known(&self) {
        self.is_known.store(true, Ordering::Release);
    }

    /// Whether what shards know of paused entities is all there is.
    pub fn is_known(&self) -> bool {
        self.is_known.load(Ordering::Acquire)
    }

    /// Whether events of the type are held.
    pub fn is_paused(&self, kind: &str) -> bool {
        self.is_any.load(Ordering::Acquire)
            && self.types.get(kind).is_some_and(|is_paused| is_paused.load(Ordering::Acquire))
    }

    /// Journals that a type is paused or resumed, then has it so; returns what holds now. `None` if the node is about to end
    /// or nothing was ever said of the type.
    pub async fn change(&self, shards: &Shards, kind: &str, input: Input) -> Option<TypePause> {
        let _alone = self.changing.lock().await;
        shards.note(EntityKey::new(PAUSE_KIND, kind), input).await.ok()?;
        let said = self.said(shards, kind).await?;
        self.set(kind, said.is_paused);
        Some(said)
    }

    /// What was last said of a type.
    pub async fn said(&self, shards: &Shards, kind: &str) -> Option<TypePause> {
        match shards.read(&EntityKey::new(PAUSE_KIND, kind)).await?.state.system.as_deref() {
            Some(SystemState::TypePause(said)) => Some(said.clone()),
            _ => None,
        }
    }

    fn set(&self, kind: &str, is_paused: bool) {
        if let Some(known) = self.types.get(kind) {
            known.store(is_paused, Ordering::Release);
        }
        self.is_any.store(self.types.values().any(|it| it.load(Ordering::Acquire)), Ordering::Release);
    }
}
