//! What entity types see of each other: each reference is noted with the type it is to, with what it reads there.

use std::collections::BTreeSet;

use super::entity_rules::{EntityRules, WatchRules};
use super::expr::Root;
use super::reads::{Reads, Seen, all_roots};
use crate::config::{Diagnostics, EntityType};
use crate::model::dealings::Watch;

/// Notes with every type what others see of it. Returns false, having said why, if types that refer to each other in a
/// circle see more of each other than fields: what is computed could then go round for ever.
pub(super) fn connect(types: &mut [EntityRules], declared: &[EntityType], diagnostics: &mut Diagnostics) -> bool {
    let mut found: Vec<(usize, WatchRules)> = Vec::new();
    let mut are_sound = true;
    for rules in &*types {
        let reads = Reads::new(rules);
        let roots = all_roots(rules);
        for (at, reference) in rules.references.iter().enumerate() {
            let Some((to, parent)) = types.iter().enumerate().find(|(_, other)| other.name == reference.kind) else {
                continue;
            };
            let names: Vec<&str> = parent.member_names().collect();
            let is_circular = reaches(types, parent, &rules.name);
            let seen: Vec<usize> = match reads.seen_through(at, &roots) {
                // In a circle all of it is all of its fields.
                Seen::All if is_circular => (0..parent.fields.len()).collect(),
                Seen::All => (0..names.len()).collect(),
                Seen::Members(seen) => {
                    names.iter().enumerate().filter(|(_, name)| seen.contains(**name)).map(|(at, _)| at).collect()
                }
            };
            if is_circular && let Some(computed) = seen.iter().find(|at| **at >= parent.fields.len()) {
                are_sound = false;
                report(rules, &reference.name, names[*computed], declared, diagnostics);
            }
            let members: Vec<Root> = seen.iter().map(|at| Root::Member(*at)).collect();
            let by = Watch { kind: (&*rules.name).into(), reference: reference.name.clone() };
            found.push((to, WatchRules { by, shown: seen, reads: Reads::new(parent).units_of(&members) }));
        }
    }
    for (to, watch) in found {
        types[to].watches.push(watch);
    }
    are_sound
}

/// Whether references lead from `from` to the type called `to`.
fn reaches(types: &[EntityRules], from: &EntityRules, to: &str) -> bool {
    let mut seen = BTreeSet::new();
    let mut open = vec![&*from.name];
    while let Some(name) = open.pop() {
        if name == to {
            return true;
        }
        if seen.insert(name) {
            let rules = types.iter().filter(|rules| &*rules.name == name);
            open.extend(rules.flat_map(|rules| &rules.references).map(|reference| &*reference.kind));
        }
    }
    false
}

fn report(rules: &EntityRules, reference: &str, member: &str, declared: &[EntityType], diagnostics: &mut Diagnostics) {
    let declared = declared.iter().find(|declared| declared.name.value == *rules.name);
    let Some(it) = declared.and_then(|declared| declared.references.iter().find(|it| it.name.value == reference))
    else {
        return;
    };
    let message = format!(
        "`{}` and `{}` refer to each other, so rules may not read `{reference}.{member}`, which is computed",
        rules.name, it.entity.value
    );
    diagnostics
        .error(it.name.at, message)
        .help("types that refer to each other in a circle see only each other's fields");
}
