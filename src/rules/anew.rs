//! What an entity comes to by its fields alone, computed anew: for those who check what is stored against it.
//!
//! Only what must follow from the fields is told: decisions that are revised at once, and the completeness. What reads a
//! reference, a deadline or an effect depends on when that was, and what settles depends on rests.

use std::collections::BTreeMap;

use super::conclude::missing;
use super::decision::{Standing, elements, standing};
use super::entity_bindings::{ElementBindings, EntityBindings};
use super::entity_rules::{DecisionRules, EntityRules, Unit};
use crate::config::Policy;
use crate::model::packed::Packed;
use crate::model::state::State;

/// What stands of a decision: its content, by element.
pub type Content = BTreeMap<Option<Box<str>>, Packed>;

/// What follows from an entity's fields.
#[derive(Debug)]
pub struct Anew<'r> {
    /// As in [`crate::model::record::Record::missing`]; none where it reads more than fields.
    pub missing: Option<u64>,
    /// The decisions that follow from the fields alone, but those that go wrong, which stay as they were.
    pub decisions: Vec<(&'r str, Content)>,
}

/// What follows from the fields of a state.
pub fn anew<'r>(rules: &'r EntityRules, key: &str, state: &State) -> Anew<'r> {
    let bindings = EntityBindings::new(rules, key, state);
    let by_fields = |reads: &[Unit]| reads.iter().all(|unit| usize::from(*unit) < rules.fields.len());
    let at_once = |it: &&DecisionRules| it.policy == Policy::Revise && it.settle.is_none() && by_fields(&it.reads);
    let decisions = rules.decisions.iter().filter(at_once);
    Anew {
        missing: by_fields(&rules.complete_reads).then(|| missing(rules, &bindings)),
        decisions: decisions.filter_map(|it| Some((&*it.name, content(it, &bindings).ok()?))).collect(),
    }
}

fn content(decision: &DecisionRules, bindings: &EntityBindings<'_>) -> Result<Content, String> {
    let mut content = Content::new();
    let Some(by) = &decision.by else {
        if let Standing::Holds(data) = standing(decision, bindings)? {
            content.insert(None, Packed::new(&data));
        }
        return Ok(content);
    };
    for (name, element) in elements(by, bindings)?.unwrap_or_default() {
        let of_element = ElementBindings { entity: bindings, element: &element };
        if let Standing::Holds(data) = standing(decision, &of_element)? {
            content.insert(Some(name), Packed::new(&data));
        }
    }
    Ok(content)
}
