//! What a `[[test]]` expects: of an entity, its conditions, decisions, and what it waits for.

use super::diagnostics::{Expr, Located, Location};
use super::document::{Entry, Node, Value};
use super::entities::{Decision, EntityType, word};
use super::names::suggest;
use super::reader::Context;
use super::test_blocks::{json_of, open};
use crate::model::value::Value as Json;

/// What one entity should look like in the end.
#[derive(Clone, Debug)]
pub struct Expectation {
    pub kind: String,
    pub key: String,
    pub at: Location,
    /// Conditions over the entity.
    pub that: Vec<Expr>,
    pub decisions: Vec<ExpectedDecision>,
    /// The references whose entities are not there, all of them; none where any may be.
    pub waiting_for: Option<Vec<Located<String>>>,
}

/// What a decision should have come to; what is none may be anything.
#[derive(Clone, Debug)]
pub struct ExpectedDecision {
    pub name: String,
    /// Which one, where there is one for each element.
    pub element: Option<String>,
    pub state: Option<DecisionState>,
    pub revision: Option<u32>,
    pub data: Option<Json>,
}

/// A decision's state as documents show it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DecisionState {
    Pending,
    Made,
    Revised,
    Withdrawn,
}

const STATES: [(&str, DecisionState); 4] = [
    ("pending", DecisionState::Pending),
    ("made", DecisionState::Made),
    ("revised", DecisionState::Revised),
    ("withdrawn", DecisionState::Withdrawn),
];

impl DecisionState {
    /// The state's word.
    pub fn name(self) -> &'static str {
        word(&STATES, &self)
    }
}

impl Expectation {
    pub(super) fn read(cx: &mut Context, node: Node, types: Option<&[EntityType]>) -> Option<Expectation> {
        let mut section = open(cx, "test.expect", node)?;
        let (at, peeked) = (section.at, section.peek("entity"));
        section.require("entity", "add entity = \"TYPE/KEY\", or { type = \"…\", key = \"…\" }");
        let entity = section.entry("entity").and_then(|entry| read_entity(section.cx, entry.node));
        let that = section.entry("that").map(|entry| match entry.node {
            Node { value: Value::List(items), .. } => items,
            single => vec![single],
        });
        let that: Vec<Expr> = that.into_iter().flatten().filter_map(|node| section.cx.expr(node, "that")).collect();
        let decisions = section.section("decisions").rest();
        let waiting_for = section.strings("waiting_for");
        section.finish();
        let (kind, key) = entity?;
        let known = match types.map(|types| types.iter().find(|known| known.name.value == kind.value)) {
            Some(None) => {
                let names = types.into_iter().flatten().map(|known| known.name.value.as_str());
                let help = suggest(&kind, names);
                cx.out.error(kind.at, format!("there is no entity type `{}`", kind.value)).help = help;
                return None;
            }
            Some(known) => known,
            None => None,
        };
        for reference in waiting_for.iter().flatten() {
            let names = || known.into_iter().flat_map(|known| &known.references).map(|it| it.name.as_str());
            if known.is_some() && !names().any(|name| name == reference.value) {
                let help = suggest(reference, names());
                cx.out.error(reference.at, format!("there is no reference `{}`", reference.value)).help = help;
            }
        }
        if that.is_empty() && decisions.is_empty() && waiting_for.is_none() {
            cx.out.error(peeked.unwrap_or(at), "nothing is expected of this entity").help("add that = [\"…\"]");
        }
        let known = known.map(|known| known.decisions.as_slice());
        let decisions = decisions.into_iter().filter_map(|entry| read_decision(cx, entry, known)).collect();
        Some(Expectation { kind: kind.value, key, at: kind.at, that, decisions, waiting_for })
    }
}

/// "TYPE/KEY", or both apart.
fn read_entity(cx: &mut Context, node: Node) -> Option<(Located<String>, String)> {
    if matches!(node.value, Value::Table(_)) {
        let mut section = open(cx, "test.expect.entity", node)?;
        let kind = section.required_string("type", "add type = \"…\": the entity type");
        let key = section.required_string("key", "add key = \"…\": which entity of the type");
        section.finish();
        return Some((kind?, key?.value));
    }
    let text = cx.string(node, "entity")?;
    match text.split_once('/') {
        Some((kind, key)) if !kind.is_empty() && !key.is_empty() => {
            Some((Located::new(kind.to_owned(), text.at), key.to_owned()))
        }
        _ => {
            let help = "write entity = \"TYPE/KEY\", such as \"order/order-123\"";
            cx.out.error(text.at, format!("`{}` is no entity", text.value)).help(help);
            None
        }
    }
}

/// "NAME", or "NAME/ELEMENT" where there is one for each element.
fn read_decision(cx: &mut Context, entry: Entry, known: Option<&[Decision]>) -> Option<ExpectedDecision> {
    let written = entry.name.clone();
    let (name, element) = match written.split_once('/') {
        Some((name, element)) => (name.to_owned(), Some(element.to_owned())),
        None => (written.value.clone(), None),
    };
    if let Some(known) = known {
        let Some(decision) = known.iter().find(|decision| decision.name.value == name) else {
            let help = suggest(&name, known.iter().map(|decision| decision.name.as_str()));
            cx.out.error(written.at, format!("there is no decision `{name}`")).help = help;
            return None;
        };
        match (&decision.by, &element) {
            (Some(_), None) => {
                let message = format!("there is one decision `{name}` for each element of its `by`");
                cx.out.error(written.at, message).help(format!("say which one: \"{name}/ELEMENT\""));
                return None;
            }
            (None, Some(_)) => {
                let message = format!("the decision `{name}` has no elements, since it has no `by`");
                cx.out.error(written.at, message).help(format!("write {name}"));
                return None;
            }
            _ => {}
        }
    }
    // A word alone is the state.
    let node = match entry.node {
        node @ Node { value: Value::String(_), .. } => {
            let name = Located::new("state".to_owned(), node.at);
            Node { at: node.at, value: Value::Table(vec![Entry { name, node }]) }
        }
        node => node,
    };
    let mut section = open(cx, &format!("test.expect.decisions.{}", written.value), node)?;
    let state = section.choice("state", &STATES).map(|state| state.value);
    let revision = section.integer("revision", 1..=u64::from(u32::MAX)).map(|revision| revision as u32);
    let data = section.entry("data").and_then(|entry| json_of(section.cx, entry.node));
    section.finish();
    Some(ExpectedDecision { name, element, state, revision, data })
}
