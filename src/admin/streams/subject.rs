//! What a stream is about.

use std::sync::Arc;

use crate::admin::problem::{Problem, known};
use crate::model::ids::EntityKey;
use crate::rules::{EntityRules, Ruleset};

/// What a stream is about.
#[derive(Clone)]
pub(in crate::admin) enum Subject {
    Decisions(DecisionFilter),
    /// Every record of the type's entities.
    Type(Arc<EntityRules>),
    /// Every record of one entity.
    Entity(Arc<EntityRules>, EntityKey),
}

impl Subject {
    /// Every kind there is.
    pub const KINDS: [&str; 3] = ["decisions", "type", "entity"];

    /// The word by which streams about it are counted.
    pub fn kind(&self) -> &'static str {
        let [decisions, type_, entity] = Self::KINDS;
        match self {
            Subject::Decisions(_) => decisions,
            Subject::Type(_) => type_,
            Subject::Entity(..) => entity,
        }
    }
}

/// Which decisions are told of. What is not given restricts nothing.
#[derive(Clone, Debug, Default)]
pub(in crate::admin) struct DecisionFilter {
    kind: Option<String>,
    key: Option<String>,
    decision: Option<String>,
}

impl DecisionFilter {
    /// Decisions of entities of the type `kind`, of those with this `key`, with the name `decision`.
    ///
    /// # Errors
    /// If no such type or decision is declared: nothing would ever come.
    pub fn new(
        ruleset: &Ruleset,
        kind: Option<String>,
        key: Option<String>,
        decision: Option<String>,
    ) -> Result<Self, Problem> {
        let types = ruleset.types();
        if let Some(kind) = &kind {
            known("type: no entity type", kind, types.iter().map(|rules| &*rules.name))?;
        }
        if let Some(decision) = &decision {
            let asked = types.iter().filter(|rules| kind.as_deref().is_none_or(|kind| *kind == *rules.name));
            known("decision: no decision", decision, asked.flat_map(|it| &it.decisions).map(|it| &*it.name))?;
        }
        Ok(DecisionFilter { kind, key, decision })
    }

    /// Whether decisions of this entity may be told of.
    pub fn takes_entity(&self, entity: &EntityKey) -> bool {
        self.kind.as_deref().is_none_or(|kind| kind == entity.kind())
            && self.key.as_deref().is_none_or(|key| key == entity.key())
    }

    /// Whether decisions of this name may be told of.
    pub fn takes_decision(&self, name: &str) -> bool {
        self.decision.as_deref().is_none_or(|decision| decision == name)
    }
}
