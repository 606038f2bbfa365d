//! Evaluation of compiled expressions. Three-valued: true, false, unknown; reads nothing but its bindings.

use std::borrow::Cow;
use std::cell::Cell;

use smallvec::SmallVec;

use super::needs::path;
use super::node::{Collect, Fold, Node, Presence};
use super::operators::{self, count, member_name};
use super::{Bindings, EVALUATION_STEPS_MAX, Fault, Root};
use crate::model::json;
use crate::model::value::{Map, Value};

/// A value, or an optional around one.
#[derive(Clone, Debug)]
pub(super) enum Item<'e> {
    Value(Cow<'e, Value>),
    Optional(Option<Cow<'e, Value>>),
}

pub(super) type Outcome<'e> = Result<Item<'e>, Fault>;

impl<'e> Item<'e> {
    /// The value; an optional without one is missing.
    pub(super) fn value(self) -> Result<Cow<'e, Value>, Fault> {
        match self {
            Item::Value(value) | Item::Optional(Some(value)) => Ok(value),
            Item::Optional(None) => Err(Fault::Missing("an optional's value".into())),
        }
    }

    fn owned(self) -> Item<'static> {
        match self {
            Item::Value(value) => Item::Value(Cow::Owned(value.into_owned())),
            Item::Optional(value) => Item::Optional(value.map(|value| Cow::Owned(value.into_owned()))),
        }
    }
}

fn own(value: Value) -> Item<'static> {
    Item::Value(Cow::Owned(value))
}

/// The value of a whole expression.
pub(super) fn evaluate<'e>(node: &'e Node, bindings: &'e dyn Bindings) -> Result<Cow<'e, Value>, Fault> {
    // Borrowed straight from the bindings where nothing is computed: the common, hot case.
    let evaluator = Evaluator { bindings, steps: Cell::new(0) };
    evaluator.node(node, None)?.value()
}

pub(super) struct Evaluator<'e> {
    pub bindings: &'e dyn Bindings,
    steps: Cell<u64>,
}

/// Variables of enclosing macros, innermost first.
#[derive(Clone, Copy)]
struct Locals<'l> {
    name: &'l str,
    item: &'l Result<Item<'l>, Fault>,
    outer: Option<&'l Locals<'l>>,
}

impl<'e> Evaluator<'e> {
    fn step(&self) -> Result<(), Fault> {
        self.steps.set(self.steps.get() + 1);
        if self.steps.get() > EVALUATION_STEPS_MAX {
            return Err(Fault::Wrong(format!("the expression takes more than {EVALUATION_STEPS_MAX} steps")));
        }
        Ok(())
    }

    fn value<'l>(&self, node: &'l Node, locals: Option<&'l Locals<'l>>) -> Result<Cow<'l, Value>, Fault>
    where
        'e: 'l,
    {
        self.node(node, locals)?.value()
    }

    fn truth<'l>(&self, node: &'l Node, locals: Option<&'l Locals<'l>>) -> Result<bool, Fault>
    where
        'e: 'l,
    {
        match &*self.value(node, locals)? {
            Value::Bool(truth) => Ok(*truth),
            other => Err(Fault::Wrong(format!("a bool is needed, this is {}", other.described()))),
        }
    }

    fn node<'l>(&self, node: &'l Node, locals: Option<&'l Locals<'l>>) -> Outcome<'l>
    where
        'e: 'l,
    {
        self.step()?;
        match node {
            Node::Literal(value) => Ok(Item::Value(Cow::Borrowed(value))),
            Node::Root(root, label, _) => self.root(root, label),
            Node::Local(name) => local(name, locals),
            Node::Select(of, member) => {
                if let Some(value) = self.direct(node) {
                    return Ok(own(value));
                }
                let missing = || Fault::Missing(path(node));
                let selected = select(self.node(of, locals)?, member)?.ok_or_else(missing);
                self.note_if_missing(&selected, node);
                selected
            }
            Node::OptSelect(of, member) => {
                let of = self.node(of, locals);
                let was_there = !matches!(of, Ok(Item::Optional(None)) | Err(Fault::Missing(_)));
                let selected = opt_select(of, member);
                if was_there {
                    self.note_if_missing(&selected, node);
                }
                selected
            }
            Node::Has(of) if let Some(is_there) = self.is_there(of) => Ok(own(Value::Bool(is_there))),
            Node::Has(of) => match self.node(of, locals) {
                Ok(Item::Optional(value)) => Ok(own(Value::Bool(value.is_some()))),
                Ok(Item::Value(value)) => Ok(own(Value::Bool(!matches!(*value, Value::Null) || !is_select(of)))),
                Err(Fault::Missing(_)) => Ok(own(Value::Bool(false))),
                Err(wrong) => Err(wrong),
            },
            Node::Index(of, at) => {
                let at = self.value(at, locals)?;
                let missing = || Fault::Missing(format!("{}[{}]", path(of), json::to_string(&at)));
                let found = index(self.value(of, locals)?, &at)?.map(Item::Value).ok_or_else(missing);
                if let Err(Fault::Missing(path)) = &found {
                    self.note(path);
                }
                found
            }
            Node::OptIndex(of, at) => self.opt_index(of, at, locals),
            Node::And(a, b) => self.logic(a, b, false, locals),
            Node::Or(a, b) => self.unless_moot(
                |outcome| matches!(outcome, Ok(Item::Value(value)) if **value == Value::Bool(true)),
                || self.logic(a, b, true, locals),
            ),
            Node::Not(a, _) => self.unless_moot(Result::is_ok, || Ok(own(Value::Bool(!self.truth(a, locals)?)))),
            Node::If(parts) => self.node(if self.truth(&parts[0], locals)? { &parts[1] } else { &parts[2] }, locals),
            Node::Negate(a) => operators::negate(&*self.value(a, locals)?).map(own),
            Node::Binary(binary, parts) => {
                let a = self.value(&parts[0], locals);
                if self.bindings.missing().is_some() && a.is_err() {
                    let _ = self.value(&parts[1], locals);
                }
                binary.apply(&*a?, &*self.value(&parts[1], locals)?).map(own)
            }
            Node::List(items) => self.list(items, locals),
            Node::Map(members) => self.map(members, locals),
            Node::Collect(collect) => self.collect(collect, locals),
            Node::Fold(fold) => self.fold(fold, locals),
            Node::Call(function, arguments) => {
                let arguments = self.arguments(arguments, locals)?;
                function.apply(&arguments).map(own)
            }
            Node::Optional(call, arguments) => call.apply(|n| {
                let has_other = n == 0 && call.has_other();
                self.unless_moot(|_| has_other, || self.node(&arguments[n], locals))
            }),
            Node::Library(call, arguments) => {
                let arguments = self.arguments(arguments, locals)?;
                call.apply(&arguments).map(own)
            }
        }
    }

    /// Whether a root is there, if the bindings tell; not while everything that is missing is to be noted.
    fn is_there(&self, node: &Node) -> Option<bool> {
        match node {
            Node::Root(root, ..) if self.bindings.missing().is_none() => self.bindings.is_there(root),
            _ => None,
        }
    }

    /// A plain path's value, if the bindings have it at hand; all else, and what is not there, goes the long way.
    fn direct(&self, node: &Node) -> Option<Value> {
        if self.bindings.missing().is_some() {
            return None;
        }
        let mut path = SmallVec::<[&str; 4]>::new();
        let mut node = node;
        while let Node::Select(of, member) = node {
            path.push(member);
            node = of;
        }
        let Node::Root(root, ..) = node else { return None };
        path.reverse();
        self.bindings.select(root, &path)
    }

    fn arguments<'l>(&self, nodes: &'l [Node], locals: Option<&'l Locals<'l>>) -> Result<Vec<Cow<'l, Value>>, Fault>
    where
        'e: 'l,
    {
        nodes.iter().map(|node| self.value(node, locals)).collect()
    }

    fn root<'l>(&self, root: &Root, label: &str) -> Outcome<'l>
    where
        'e: 'l,
    {
        match self.bindings.read(root) {
            Ok(value) => Ok(Item::Value(value)),
            Err(Fault::Missing(path)) if path.is_empty() => {
                self.note(label);
                Err(Fault::Missing(label.to_owned()))
            }
            Err(fault) => Err(fault),
        }
    }

    /// `&&` (`decides` = false) and `||` (`decides` = true): one side that decides is enough.
    fn logic<'l>(&self, a: &'l Node, b: &'l Node, decides: bool, locals: Option<&'l Locals<'l>>) -> Outcome<'l>
    where
        'e: 'l,
    {
        let left = self.truth(a, locals);
        if left == Ok(decides) && self.bindings.missing().is_none() {
            return Ok(own(Value::Bool(decides)));
        }
        let right = self.truth(b, locals);
        if left == Ok(decides) || right == Ok(decides) {
            return Ok(own(Value::Bool(decides)));
        }
        match (left, right) {
            (Err(wrong @ Fault::Wrong(_)), _) | (_, Err(wrong @ Fault::Wrong(_))) => Err(wrong),
            (Err(missing), _) | (_, Err(missing)) => Err(missing),
            (Ok(_), Ok(_)) => Ok(own(Value::Bool(!decides))),
        }
    }

    fn opt_index<'l>(&self, of: &'l Node, at: &'l Node, locals: Option<&'l Locals<'l>>) -> Outcome<'l>
    where
        'e: 'l,
    {
        let at = self.value(at, locals)?;
        match self.node(of, locals) {
            Ok(Item::Optional(None)) | Err(Fault::Missing(_)) => Ok(Item::Optional(None)),
            Ok(Item::Optional(Some(value)) | Item::Value(value)) => Ok(Item::Optional(index(value, &at)?)),
            Err(wrong) => Err(wrong),
        }
    }

    fn present<'l>(
        &self,
        node: &'l Node,
        presence: Presence,
        locals: Option<&'l Locals<'l>>,
    ) -> Result<Option<Value>, Fault>
    where
        'e: 'l,
    {
        let item = self.unless_moot(|_| presence == Presence::Optional, || self.node(node, locals))?;
        match (item, presence) {
            (Item::Optional(None), Presence::Optional) => Ok(None),
            (item, _) => Ok(Some(item.value()?.into_owned())),
        }
    }

    fn list<'l>(&self, items: &'l [(Node, Presence)], locals: Option<&'l Locals<'l>>) -> Outcome<'l>
    where
        'e: 'l,
    {
        let mut list = Vec::with_capacity(items.len());
        for (item, presence) in items {
            list.extend(self.present(item, *presence, locals)?);
        }
        Ok(own(Value::List(list)))
    }

    fn map<'l>(&self, members: &'l [(Node, Node, Presence)], locals: Option<&'l Locals<'l>>) -> Outcome<'l>
    where
        'e: 'l,
    {
        let mut map = Map::default();
        for (key, value, presence) in members {
            let key = self.value(key, locals)?;
            let name = member_name(&key)
                .ok_or_else(|| Fault::Wrong(format!("a map's keys are strings, not {}", key.type_name())))?;
            if let Some(value) = self.present(value, *presence, locals)? {
                map.insert(name.into_owned(), value);
            }
        }
        Ok(own(Value::Map(map)))
    }

    /// The elements a macro runs over: a list's items, a map's keys.
    fn range<'l>(&self, node: &'l Node, locals: Option<&'l Locals<'l>>) -> Result<Vec<(Value, Value)>, Fault>
    where
        'e: 'l,
    {
        match self.value(node, locals)?.into_owned() {
            Value::List(items) => {
                Ok(items.into_iter().enumerate().map(|(n, item)| (Value::Int(count(n)), item)).collect())
            }
            Value::Map(members) => Ok(members.into_iter().map(|(name, value)| (Value::String(name), value)).collect()),
            other => Err(Fault::Wrong(format!("a list or map is needed, this is {}", other.described()))),
        }
    }

    fn collect<'l>(&self, collect: &'l Collect, locals: Option<&'l Locals<'l>>) -> Outcome<'l>
    where
        'e: 'l,
    {
        let of_map = matches!(&*self.value(&collect.range, locals)?, Value::Map(_));
        let mut list = Vec::new();
        for (key, element) in self.range(&collect.range, locals)? {
            let item = Ok(own(if of_map { key } else { element }));
            let inner = Locals { name: &collect.variable, item: &item, outer: locals };
            let passes = match &collect.filter {
                Some(filter) => self.truth(filter, Some(&inner))?,
                None => true,
            };
            if passes {
                list.push(self.value(&collect.element, Some(&inner))?.into_owned());
            }
        }
        Ok(own(Value::List(list)))
    }

    fn fold<'l>(&self, fold: &'l Fold, locals: Option<&'l Locals<'l>>) -> Outcome<'l>
    where
        'e: 'l,
    {
        let of_map = matches!(&*self.value(&fold.range, locals)?, Value::Map(_));
        // What has no value yet may still be decided by a later element, so the accumulator carries faults along.
        let mut accumulator: Result<Item<'static>, Fault> = self.node(&fold.init, locals).map(Item::owned);
        for (key, element) in self.range(&fold.range, locals)? {
            let (first, second) = match (&fold.second, of_map) {
                (Some(_), _) => (key, Some(element)),
                (None, true) => (key, None),
                (None, false) => (element, None),
            };
            let (first, second) = (Ok(own(first)), second.map(|value| Ok(own(value))));
            let next = {
                let outer = Locals { name: &fold.accumulator, item: &accumulator, outer: locals };
                let inner = Locals { name: &fold.variable, item: &first, outer: Some(&outer) };
                let deepest = match (&fold.second, &second) {
                    (Some(name), Some(item)) => Locals { name, item, outer: Some(&inner) },
                    _ => inner,
                };
                if self.truth(&fold.condition, Some(&deepest)) == Ok(false) {
                    break;
                }
                self.node(&fold.step, Some(&deepest)).map(Item::owned)
            };
            accumulator = next;
        }
        let outer = Locals { name: &fold.accumulator, item: &accumulator, outer: locals };
        self.node(&fold.result, Some(&outer)).map(Item::owned)
    }
}

fn local<'l>(name: &str, mut locals: Option<&'l Locals<'l>>) -> Outcome<'l> {
    while let Some(frame) = locals {
        if frame.name == name {
            return match frame.item {
                Ok(Item::Value(value)) => Ok(Item::Value(Cow::Borrowed(value))),
                Ok(Item::Optional(value)) => Ok(Item::Optional(value.as_ref().map(|value| Cow::Borrowed(&**value)))),
                Err(fault) => Err(fault.clone()),
            };
        }
        locals = frame.outer;
    }
    // The compiler resolved every name.
    Err(Fault::Wrong(format!("`{name}` is not bound")))
}

/// A member that is null or behind null counts as absent for `has`, an element that is null does not.
fn is_select(node: &Node) -> bool {
    matches!(node, Node::Select(..) | Node::Root(..))
}

fn select<'l>(of: Item<'l>, member: &str) -> Result<Option<Item<'l>>, Fault> {
    let (of, optional) = match of {
        Item::Value(value) => (value, false),
        Item::Optional(Some(value)) => (value, true),
        Item::Optional(None) => return Ok(Some(Item::Optional(None))),
    };
    let found = match of {
        Cow::Borrowed(Value::Map(members)) => members.get(member).map(Cow::Borrowed),
        Cow::Owned(Value::Map(mut members)) => members.remove(member).map(Cow::Owned),
        other if matches!(*other, Value::Null) => None,
        other => return Err(Fault::Wrong(format!("{} has no members, so not `{member}`", other.described()))),
    };
    Ok(if optional { Some(Item::Optional(found)) } else { found.map(Item::Value) })
}

/// The member, if what it is a member of is there and has it.
fn opt_select<'l>(of: Outcome<'l>, member: &str) -> Outcome<'l> {
    match of {
        Ok(Item::Optional(None)) | Err(Fault::Missing(_)) => Ok(Item::Optional(None)),
        Ok(Item::Optional(Some(value)) | Item::Value(value)) => {
            select(Item::Optional(Some(value)), member).map(|found| found.unwrap_or(Item::Optional(None)))
        }
        wrong => wrong,
    }
}

/// An element of a list or map; `None` where there is none.
fn index<'l>(of: Cow<'l, Value>, at: &Value) -> Result<Option<Cow<'l, Value>>, Fault> {
    let position = |length: usize| match at {
        Value::Int(n) => Ok(usize::try_from(*n).ok().filter(|n| *n < length)),
        other => Err(Fault::Wrong(format!("a list's index is an int, not {}", other.type_name()))),
    };
    let named =
        || member_name(at).ok_or_else(|| Fault::Wrong(format!("a map's keys are strings, not {}", at.type_name())));
    Ok(match of {
        Cow::Borrowed(Value::List(items)) => position(items.len())?.map(|n| Cow::Borrowed(&items[n])),
        Cow::Owned(Value::List(mut items)) => position(items.len())?.map(|n| Cow::Owned(items.swap_remove(n))),
        Cow::Borrowed(Value::Map(members)) => members.get(&named()?).map(Cow::Borrowed),
        Cow::Owned(Value::Map(mut members)) => members.remove(&named()?).map(Cow::Owned),
        other if matches!(*other, Value::Null) => None,
        other => return Err(Fault::Wrong(format!("{} has no elements", other.described()))),
    })
}
