//! What the names in rules over an entity stand for: its members, its key, and what its references show.

use std::borrow::Cow;
use std::cell::{OnceCell, RefCell};
use std::collections::BTreeSet;

use super::entity_rules::EntityRules;
use super::expr::{Bindings, Fault, Root};
use crate::model::dealings::{Dealings, Effect};
use crate::model::number::Decimal;
use crate::model::packed::Packed;
use crate::model::record::Take;
use crate::model::state::{FieldState, State};
use crate::model::value::{Map, Value};

/// The entity under its type's name, and `key`. Values are unpacked, and derived values computed, when they are first read.
pub struct EntityBindings<'a> {
    rules: &'a EntityRules,
    state: &'a State,
    /// Fields as they will be once the input being decided has evolved the state.
    changed: &'a [(u16, FieldState)],
    dealings: Option<&'a Dealings>,
    key: &'a str,
    members: Vec<OnceCell<Member>>,
    missing: Option<RefCell<BTreeSet<String>>>,
}

/// A member's value, and what was found missing while it was computed.
struct Member {
    value: Result<Value, Fault>,
    missing: BTreeSet<String>,
}

impl<'a> EntityBindings<'a> {
    /// The entity `key` with `state`.
    pub fn new(rules: &'a EntityRules, key: &'a str, state: &'a State) -> Self {
        let members = (0..rules.members()).map(|_| OnceCell::new()).collect();
        EntityBindings { rules, state, changed: &[], dealings: state.dealings.as_deref(), key, members, missing: None }
    }

    /// The same, of which these are newer.
    #[must_use]
    pub fn changed(mut self, fields: &'a [(u16, FieldState)], dealings: Option<&'a Dealings>) -> Self {
        self.changed = fields;
        self.dealings = dealings;
        self
    }

    /// The same, noting what is found missing, and looking at everything.
    #[must_use]
    pub fn explaining(mut self) -> Self {
        self.missing = Some(RefCell::default());
        self
    }

    /// What was found missing since the last call, as the text of rules spells it.
    pub fn take_missing(&self) -> BTreeSet<String> {
        self.missing.as_ref().map(RefCell::take).unwrap_or_default()
    }

    /// A field's merged state.
    pub fn field(&self, slot: usize) -> Option<&FieldState> {
        match self.changed.iter().find(|(changed, _)| usize::from(*changed) == slot) {
            Some((_, field)) => Some(field),
            None => self.state.fields.get(slot).and_then(Option::as_ref),
        }
    }

    /// The value of a member, by its place.
    pub fn member(&self, at: usize) -> Result<&Value, Fault> {
        let member = self.members[at].get_or_init(|| match at.checked_sub(self.rules.fields.len()) {
            None => Member { value: self.field_value(at), missing: BTreeSet::new() },
            Some(derived) if derived < self.rules.derived.len() => self.derived(derived),
            Some(other) => Member { value: self.dealing(other - self.rules.derived.len()), missing: BTreeSet::new() },
        });
        if let Some(missing) = &self.missing {
            // Whoever reads it again needs the same.
            missing.borrow_mut().extend(member.missing.iter().cloned());
        }
        member.value.as_ref().map_err(Fault::clone)
    }

    fn derived(&self, at: usize) -> Member {
        let derived = &self.rules.derived[at];
        let before = self.take_missing();
        let value = derived.expr.evaluate(self).map(Cow::into_owned);
        let mut missing = self.missing.as_ref().map(|missing| missing.replace(before)).unwrap_or_default();
        if self.missing.is_some() && missing.is_empty() && matches!(value, Err(Fault::Missing(_))) {
            missing.insert(format!("{}.{}", self.rules.name, derived.name));
        }
        Member { value, missing }
    }

    /// The value of a deadline or an effect, by its place among both.
    fn dealing(&self, at: usize) -> Result<Value, Fault> {
        let missing = || Fault::Missing(String::new());
        let dealings = self.dealings.ok_or_else(missing)?;
        if let Some(rules) = self.rules.deadlines.get(at) {
            let deadline = dealings.deadline(&rules.name).filter(|deadline| deadline.times.has_passed);
            return deadline.map(|deadline| Value::Timestamp(deadline.times.at)).ok_or_else(missing);
        }
        let rules = &self.rules.effects[at - self.rules.deadlines.len()];
        dealings.effect(&rules.name).map(effect_value).ok_or_else(missing)
    }

    /// All that a reference shows; empty while the entity it refers to is not there.
    fn reference(&self, at: usize) -> Value {
        let name = &self.rules.references[at].name;
        let view = self.dealings.and_then(|dealings| dealings.view(name));
        view.and_then(|view| view.content.as_ref()).map_or_else(|| Value::Map(Map::default()), Packed::unpack)
    }

    /// A member of what a reference shows.
    fn seen(&self, at: usize, path: &[&str]) -> Option<Value> {
        self.dealings?.view(&self.rules.references[at].name)?.content.as_ref()?.select(path)
    }

    fn field_value(&self, slot: usize) -> Result<Value, Fault> {
        let rules = &self.rules.fields[slot];
        let value = match self.field(slot) {
            Some(field) => field.value(),
            None if rules.by.is_some() => Some(Value::Map(Map::default())),
            None => match rules.take {
                Take::Count => Some(Value::Int(0)),
                Take::Sum => Some(Value::decimal(Decimal::zero())),
                Take::Set | Take::List { .. } => Some(Value::List(Vec::new())),
                Take::First | Take::Latest | Take::Min | Take::Max => None,
            },
        };
        value.ok_or(Fault::Missing(String::new()))
    }

    /// Whether a member counts as present for the completeness: something was merged into it and is still there.
    pub fn is_present(&self, at: usize) -> bool {
        match at.checked_sub(self.rules.fields.len()) {
            Some(_) => self.member(at).is_ok_and(|value| !matches!(value, Value::Null)),
            None => self.field(at).is_some_and(FieldState::is_present),
        }
    }

    fn whole(&self) -> Result<Value, Fault> {
        let mut map = Map::default();
        for (at, name) in self.rules.member_names().enumerate() {
            match self.member(at) {
                Ok(value) => map.insert(name, value.clone()),
                Err(Fault::Missing(_)) => {}
                Err(wrong) => return Err(wrong),
            }
        }
        Ok(Value::Map(map))
    }
}

impl Bindings for EntityBindings<'_> {
    fn read(&self, root: &Root) -> Result<Cow<'_, Value>, Fault> {
        match root {
            Root::Member(at) => self.member(*at).map(Cow::Borrowed),
            Root::Key => Ok(Cow::Owned(Value::string(self.key))),
            Root::Entity => self.whole().map(Cow::Owned),
            Root::Reference(at) => Ok(Cow::Owned(self.reference(*at))),
            Root::Seen(at, name) => self.seen(*at, &[name]).map(Cow::Owned).ok_or(Fault::Missing(String::new())),
            _ => Err(Fault::wrong("only the entity can be read here")),
        }
    }

    fn is_there(&self, root: &Root) -> Option<bool> {
        let Root::Member(at) = root else { return None };
        let rules = self.rules.fields.get(*at)?;
        Some(match self.field(*at) {
            Some(field) => rules.by.is_some() || field.is_present(),
            None => rules.by.is_some() || !matches!(rules.take, Take::First | Take::Latest | Take::Min | Take::Max),
        })
    }

    fn select(&self, root: &Root, path: &[&str]) -> Option<Value> {
        match root {
            Root::Member(at) if *at < self.rules.fields.len() && self.members[*at].get().is_none() => {
                self.field(*at)?.packed()?.select(path)
            }
            Root::Seen(at, name) => {
                let path: Vec<&str> = [&**name].into_iter().chain(path.iter().copied()).collect();
                self.seen(*at, &path)
            }
            _ => None,
        }
    }

    fn missing(&self) -> Option<&RefCell<BTreeSet<String>>> {
        self.missing.as_ref()
    }
}

/// An effect as rules and documents see it.
pub(super) fn effect_value(effect: &Effect) -> Value {
    let mut shown = Map::default();
    shown.insert("state", Value::string(effect.stage.as_str()));
    shown.insert("attempts", Value::Int(i64::from(effect.attempts)));
    shown.insert("at", Value::Timestamp(effect.at));
    if let Some(outcome) = &effect.outcome {
        if let Some(status) = outcome.status {
            shown.insert("status", Value::Int(i64::from(status)));
        }
        if let Some(response) = &outcome.response {
            shown.insert("response", response.unpack());
        }
        if let Some(error) = &outcome.error {
            shown.insert("error", Value::string(&**error));
        }
    }
    Value::Map(shown)
}

/// The entity, and one element of a decision's `by`.
pub(super) struct ElementBindings<'a, 'b> {
    pub entity: &'a EntityBindings<'b>,
    pub element: &'a Value,
}

impl Bindings for ElementBindings<'_, '_> {
    fn read(&self, root: &Root) -> Result<Cow<'_, Value>, Fault> {
        match root {
            Root::Element => Ok(Cow::Borrowed(self.element)),
            root => self.entity.read(root),
        }
    }

    fn is_there(&self, root: &Root) -> Option<bool> {
        self.entity.is_there(root)
    }

    fn select(&self, root: &Root, path: &[&str]) -> Option<Value> {
        self.entity.select(root, path)
    }

    fn missing(&self) -> Option<&RefCell<BTreeSet<String>>> {
        self.entity.missing()
    }
}
