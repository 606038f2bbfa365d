//! What the names in rules stand for: the event at admission, the entity afterwards.

use std::borrow::Cow;
use std::cell::{OnceCell, RefCell};
use std::collections::BTreeSet;

use super::compile::EntityRules;
use super::expr::{Bindings, Fault, Root};
use crate::model::event::Event;
use crate::model::number::Decimal;
use crate::model::record::Take;
use crate::model::state::{FieldState, State};
use crate::model::time::Timestamp;
use crate::model::value::{Map, Value};

/// `event`, and nothing else.
pub struct EventBindings<'a> {
    pub event: &'a Event,
    /// What the entity type's `time` made of the event time.
    pub time: Option<Timestamp>,
}

impl Bindings for EventBindings<'_> {
    fn read(&self, root: &Root) -> Result<Cow<'_, Value>, Fault> {
        match root {
            Root::Attribute(name) if &**name == "data" => {
                self.event.data.as_ref().map(Cow::Borrowed).ok_or(Fault::Missing(String::new()))
            }
            Root::Attribute(name) if &**name == "time" => {
                Ok(Cow::Owned(Value::Timestamp(self.time.unwrap_or(self.event.time))))
            }
            Root::Attribute(name) => self.event.attribute(name).map(Cow::Owned).ok_or(Fault::Missing(String::new())),
            Root::Event => {
                let mut map = self.event.extensions.clone();
                for name in ["id", "source", "type", "time", "subject", "data"] {
                    if let Some(value) = self.event.attribute(name) {
                        map.insert(name, value);
                    }
                }
                Ok(Cow::Owned(Value::Map(map)))
            }
            _ => Err(Fault::wrong("only `event` can be read here")),
        }
    }
}

/// What a source received, as `body`; a part of it, as `item`; what it knows of it beside, as `meta`.
pub struct BodyBindings<'a> {
    pub body: &'a Value,
    pub item: Option<&'a Value>,
    pub meta: Option<&'a Value>,
}

impl Bindings for BodyBindings<'_> {
    fn read(&self, root: &Root) -> Result<Cow<'_, Value>, Fault> {
        let read = match root {
            Root::Meta => self.meta,
            Root::Item => self.item,
            _ => Some(self.body),
        };
        read.map(Cow::Borrowed).ok_or(Fault::Missing(String::new()))
    }
}

/// The entity under its type's name, and `key`. Values are unpacked, and derived values computed, when they are first read.
pub struct EntityBindings<'a> {
    rules: &'a EntityRules,
    state: &'a State,
    /// Fields as they will be once the input being decided has evolved the state.
    changed: &'a [(u16, FieldState)],
    key: &'a str,
    members: Vec<OnceCell<Member>>,
    missing: Option<RefCell<BTreeSet<String>>>,
}

/// A field's or derived value's value, and what was found missing while it was computed.
struct Member {
    value: Result<Value, Fault>,
    missing: BTreeSet<String>,
}

impl<'a> EntityBindings<'a> {
    /// The entity `key` with `state`, of which `changed` fields are newer.
    pub fn new(rules: &'a EntityRules, key: &'a str, state: &'a State, changed: &'a [(u16, FieldState)]) -> Self {
        let members = (0..rules.members()).map(|_| OnceCell::new()).collect();
        EntityBindings { rules, state, changed, key, members, missing: None }
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

    /// The value of a field or derived value, by its place among the members.
    pub fn member(&self, at: usize) -> Result<&Value, Fault> {
        let member = self.members[at].get_or_init(|| match at.checked_sub(self.rules.fields.len()) {
            None => Member { value: self.field_value(at), missing: BTreeSet::new() },
            Some(derived) => self.derived(derived),
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
            _ => None,
        }
    }

    fn missing(&self) -> Option<&RefCell<BTreeSet<String>>> {
        self.missing.as_ref()
    }
}
