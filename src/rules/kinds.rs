//! Types that declarations give: of members, and of what each place needs.

use super::expr::{Expr, Member, Roots};
use crate::config::{Diagnostics, EntityType, Expr as Text, Field, Take};
use crate::model::value::described;

/// A place that takes values of some types only.
#[derive(Clone, Copy)]
pub(super) enum Place {
    /// A key, or an identity.
    Key,
    /// The time of an event.
    EventTime,
    /// What names an entry of a map.
    By,
    OrderBy,
    Value(Take),
    /// The elements of a decision.
    Elements,
    DeadlineAt,
    /// A part of a request's text.
    Text,
}

impl Place {
    /// The types it takes, and what to do about another. What a value becomes that is null or missing is another matter.
    fn takes(self) -> Option<(&'static [&'static str], &'static str)> {
        const SCALARS: &[&str] = &["bool", "int", "double", "decimal", "string", "timestamp", "duration"];
        Some(match self {
            Place::Key => (&["string", "int", "decimal"], "make it a string or an integer"),
            Place::EventTime => (&["timestamp", "string"], "write timestamp(…)"),
            Place::By => (&["string", "int", "decimal", "bool"], "make it a string, integer or bool"),
            Place::Value(Take::Sum) => (&["int", "double", "decimal"], "only numbers can be summed"),
            Place::OrderBy | Place::Value(Take::Min | Take::Max) => (SCALARS, "lists and maps have no order"),
            Place::Elements => (&["list", "map"], "give a list, or a map for its names"),
            Place::DeadlineAt => (&["timestamp"], "write timestamp(…), or a time + duration('30m')"),
            Place::Text => (SCALARS, "lists and maps cannot be put into text; the leaves of `json` can be any value"),
            Place::Value(_) => return None,
        })
    }

    /// Whether the expression can be here, as far as types are known; else that is reported.
    pub(super) fn accepts(self, expr: &Expr, text: &Text, diagnostics: &mut Diagnostics) -> bool {
        let (Some((types, help)), Some(kind)) = (self.takes(), expr.kind()) else { return true };
        let fits = types.contains(&kind) || matches!(kind, "null" | "optional");
        if !fits {
            diagnostics.error(text.at, format!("this cannot be {}", described(kind))).help(help);
        }
        fits
    }
}

/// The members that rules read of an entity type, each group in the order of names.
pub(super) fn members(declared: &EntityType) -> Vec<Member<'_>> {
    let mut members = sorted(declared.fields.iter().map(|it| (it.name.as_str(), of_field(it))));
    // One that needs another derived value, or a reference, is of whatever type.
    let roots = Roots::Entity { kind: &declared.name.value, members: &members, references: &[], element: false };
    let derived = sorted(declared.derived.iter().map(|(name, text)| (name.as_str(), of(text, &roots))));
    members.extend(derived);
    members.extend(sorted(declared.deadlines.iter().map(|it| (it.name.as_str(), Some("timestamp")))));
    members.extend(sorted(declared.effects.iter().map(|it| (it.name.as_str(), Some("map")))));
    members
}

fn sorted<'a>(members: impl Iterator<Item = (&'a str, Option<&'static str>)>) -> Vec<Member<'a>> {
    let mut members: Vec<_> = members.map(|(name, kind)| Member { name, kind }).collect();
    members.sort_unstable_by_key(|member| member.name);
    members
}

fn of(text: &Text, roots: &Roots<'_>) -> Option<&'static str> {
    Expr::compile(&text.value, roots).ok()?.kind()
}

/// The type of a field's value, while it has one.
fn of_field(field: &Field) -> Option<&'static str> {
    if field.by.is_some() {
        return Some("map");
    }
    match field.take {
        Take::Count => Some("int"),
        Take::Sum => Some("decimal"),
        Take::Set | Take::List => Some("list"),
        Take::First | Take::Latest | Take::Min | Take::Max => of(field.value.as_ref()?, &Roots::Event),
    }
}
