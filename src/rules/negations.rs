//! Warnings of conditions that negate what can be missing.

use super::entity_rules::EntityRules;
use super::expr::{Expr, Known, PartialNegation, Root, Standing};
use crate::config::{Diagnostics, EntityType, Expr as Text, Files};
use crate::model::record::Take;

/// Attributes that every event has.
const ATTRIBUTES_ALWAYS: [&str; 4] = ["id", "type", "source", "time"];

/// Warns of the negations in the conditions of an entity type whose derived values do not need themselves.
pub(super) fn warn(rules: &EntityRules, declared: &EntityType, files: &Files, diagnostics: &mut Diagnostics) {
    for (text, expr) in conditions(rules, declared) {
        for negation in expr.partial_negations(&text.value, &Members(rules)) {
            let PartialNegation { start, end, missing, total } = negation;
            let missing: Vec<String> = missing.iter().map(|path| format!("`{path}`")).collect();
            let message = format!(
                "this is not true while {} is missing: the opposite of unknown is unknown",
                missing.join(" or ")
            );
            let help = match total {
                Some((total, waiting)) => format!("`{total}` is true then; if it is to wait, write `{waiting}`"),
                None => "say what missing means: read it with `.?` or `[?…]` and `.orValue(…)`".to_owned(),
            };
            diagnostics.warning(text.at.within(files, start, end), message).help(help);
        }
    }
}

/// Every condition as it is declared and compiled, and every derived value, which may be one.
fn conditions<'a>(rules: &'a EntityRules, declared: &'a EntityType) -> Vec<(&'a Text, &'a Expr)> {
    let mut found: Vec<(Option<&Text>, Option<&Expr>)> = vec![(declared.condition.as_ref(), rules.condition.as_ref())];
    for it in &rules.fields {
        let text = declared.fields.iter().find(|field| *field.name.value == *it.name);
        found.push((text.and_then(|field| field.condition.as_ref()), it.condition.as_ref()));
    }
    for it in &rules.derived {
        let text = declared.derived.iter().find(|(name, _)| *name.value == *it.name);
        found.push((text.map(|(_, text)| text), Some(&it.expr)));
    }
    for it in &rules.deadlines {
        let text = declared.deadlines.iter().find(|deadline| *deadline.name.value == *it.name);
        found.push((text.and_then(|deadline| deadline.unless.as_ref()), it.unless.as_ref()));
    }
    for it in &rules.effects {
        let text = declared.effects.iter().find(|effect| *effect.name.value == *it.name);
        found.push((text.and_then(|effect| effect.when.as_ref()), it.when.as_ref()));
    }
    for it in &rules.decisions {
        let text = declared.decisions.iter().find(|decision| *decision.name.value == *it.name);
        found.push((text.and_then(|decision| decision.when.as_ref()), it.when.as_ref()));
    }
    found.into_iter().filter_map(|(text, expr)| text.zip(expr)).collect()
}

struct Members<'a>(&'a EntityRules);

impl Known for Members<'_> {
    fn standing(&self, root: &Root) -> Standing<'_> {
        match root {
            Root::Attribute(name) if ATTRIBUTES_ALWAYS.contains(&&**name) => Standing::Always,
            Root::Attribute(name) if &**name == "data" => Standing::Members,
            Root::Attribute(_) | Root::Seen(..) => Standing::Sometimes,
            Root::Member(at) => {
                let fields = self.0.fields.len();
                match (self.0.fields.get(*at), at.checked_sub(fields).and_then(|at| self.0.derived.get(at))) {
                    (Some(field), _) if field.by.is_some() => Standing::Members,
                    (Some(field), _) => match field.take {
                        Take::First | Take::Latest | Take::Min | Take::Max => Standing::Sometimes,
                        Take::Sum | Take::Count | Take::Set | Take::List { .. } => Standing::Always,
                    },
                    (None, Some(derived)) => Standing::Derived(&derived.expr),
                    // A deadline that has not passed, an effect that was not asked for.
                    (None, None) => Standing::Sometimes,
                }
            }
            _ => Standing::Always,
        }
    }
}
