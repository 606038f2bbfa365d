//! Negations of what can be missing. The opposite of unknown is unknown, so such a negation is not true while its operand
//! is missing, which is rarely what its author means.
//!
//! Looked at is what is not there *yet*: fields, what references show, derived values over them. That a value once it is
//! there has a member that is read is for its sender to keep. An operand is fine where its surroundings make sure that
//! it is there (`has(order.payment) && !order.payment.ok`), or need the same to be true at all.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use super::node::Node;
use super::operators::Binary;
use super::optional::OptionalCall;
use super::paths::{Negation, Path};
use super::{Expr, Root};
use crate::model::value::Value;

/// What is known of a root's value.
#[derive(Clone, Copy, Debug)]
pub enum Standing<'a> {
    /// It is always there.
    Always,
    /// It is always there, its members may not be yet.
    Members,
    /// It may not be there yet.
    Sometimes,
    /// It is there when this has a value.
    Derived(&'a Expr),
}

/// What is known of the values of roots.
pub trait Known {
    fn standing(&self, root: &Root) -> Standing<'_>;
}

/// A negation that is unknown while something is missing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartialNegation {
    /// Where it stands in the text, in bytes.
    pub start: usize,
    pub end: usize,
    /// What may be missing.
    pub missing: Vec<String>,
    /// The same, true while that is missing; and the same, false while that is missing. None where neither is simple.
    pub total: Option<(String, String)>,
}

impl Expr {
    /// The negations in it that are unknown while something is missing; `text` is what it was compiled from, and derived
    /// values must not need themselves.
    pub fn partial_negations(&self, text: &str, known: &dyn Known) -> Vec<PartialNegation> {
        let totality = Totality { known, derived: RefCell::default() };
        let mut found = Vec::new();
        totality.walk(&self.node, &Facts::new(), &mut found);
        found.into_iter().map(|(negation, missing)| negation.described(text, missing.values(), known)).collect()
    }
}

/// Stems of paths that are there: of every path the part that may not be there yet.
type Facts = BTreeSet<String>;
/// Paths that may be missing, by their stems.
type Missing<'n> = BTreeMap<String, Path<'n>>;

/// Of what outcome of a condition something follows. Unknown is neither true nor false.
#[derive(Clone, Copy, PartialEq)]
enum If {
    True,
    NotTrue,
    NotFalse,
}

/// What follows from a derived value's expression.
struct Derived {
    missing: Facts,
    read: Facts,
    if_true: Facts,
    if_not_true: Facts,
    if_not_false: Facts,
}

struct Totality<'a> {
    known: &'a dyn Known,
    derived: RefCell<BTreeMap<Root, Rc<Derived>>>,
}

fn both(a: &Facts, b: &Facts) -> Facts {
    a.union(b).cloned().collect()
}

fn either(a: &Facts, b: &Facts) -> Facts {
    a.intersection(b).cloned().collect()
}

impl Totality<'_> {
    fn walk<'n>(&self, node: &'n Node, facts: &Facts, found: &mut Vec<(Negation<'n>, Missing<'n>)>) {
        let beside = |other: &Node, outcome: If| both(facts, &self.there(other, outcome));
        match node {
            Node::Not(operand, start) => {
                let missing = self.missing(operand, facts);
                if missing.is_empty() {
                    self.walk(operand, facts, found);
                } else {
                    found.push((Negation { operand, start: *start }, missing));
                }
            }
            // One side makes a difference only where the other does not decide.
            Node::And(a, b) => {
                self.walk(a, &beside(b, If::True), found);
                self.walk(b, &beside(a, If::True), found);
            }
            Node::Or(a, b) => {
                self.walk(a, &beside(b, If::NotTrue), found);
                self.walk(b, &beside(a, If::NotTrue), found);
            }
            Node::If(parts) => {
                self.walk(&parts[0], facts, found);
                self.walk(&parts[1], &beside(&parts[0], If::True), found);
                self.walk(&parts[2], &beside(&parts[0], If::NotTrue), found);
            }
            node => node.for_each_child(&mut |child| self.walk(child, facts, found)),
        }
    }

    /// What may be missing, given these facts, so that the node has no value.
    fn missing<'n>(&self, node: &'n Node, facts: &Facts) -> Missing<'n> {
        if let Some(path) = Path::of(node) {
            let stem = path.stem(self.known).filter(|stem| self.may_be_missing(stem, &path, facts));
            return stem.map(|stem| (stem, path)).into_iter().collect();
        }
        let beside = |other: &Node, outcome: If| both(facts, &self.there(other, outcome));
        let mut missing = Missing::new();
        let mut add = |node: &'n Node, facts: &Facts| {
            for (stem, path) in self.missing(node, facts) {
                missing.entry(stem).and_modify(|known: &mut Path<'n>| known.shorten_to(&path)).or_insert(path);
            }
        };
        match node {
            Node::Has(_) | Node::Optional(OptionalCall::HasValue, _) => {}
            Node::And(a, b) => {
                add(a, &beside(b, If::NotFalse));
                add(b, &beside(a, If::NotFalse));
            }
            Node::Or(a, b) => {
                add(a, &beside(b, If::NotTrue));
                add(b, &beside(a, If::NotTrue));
            }
            Node::If(parts) => {
                add(&parts[0], facts);
                add(&parts[1], &beside(&parts[0], If::True));
                add(&parts[2], &beside(&parts[0], If::NotTrue));
            }
            Node::Optional(call, arguments) if call.has_other() => add(&arguments[1], facts),
            node => node.for_each_child(&mut |child| add(child, facts)),
        }
        missing
    }

    fn may_be_missing(&self, stem: &String, path: &Path<'_>, facts: &Facts) -> bool {
        !facts.contains(stem)
            && match self.known.standing(path.root) {
                Standing::Derived(expr) => !self.derived(path.root, expr).missing.is_subset(facts),
                _ => true,
            }
    }

    /// What is there if a condition has this outcome.
    fn there(&self, node: &Node, outcome: If) -> Facts {
        let of = |node: &Node| self.there(node, outcome);
        match (node, outcome) {
            (Node::And(a, b), If::True | If::NotFalse) | (Node::Or(a, b), If::NotTrue) => both(&of(a), &of(b)),
            (Node::Or(a, b), If::True | If::NotFalse) | (Node::And(a, b), If::NotTrue) => either(&of(a), &of(b)),
            (Node::Not(a, _), If::NotTrue) => self.there(a, If::NotFalse),
            // Not what the operand reads: the negation may itself be one that is missing something.
            (Node::Not(a, _), If::True | If::NotFalse) => self.there(a, If::NotTrue),
            (Node::Root(root, ..), _) if let Standing::Derived(expr) = self.known.standing(root) => {
                let derived = self.derived(root, expr);
                match outcome {
                    If::True => both(&derived.if_true, &self.read(node)),
                    If::NotTrue => derived.if_not_true.clone(),
                    If::NotFalse => derived.if_not_false.clone(),
                }
            }
            (_, If::NotTrue) => Facts::new(),
            (_, If::NotFalse) => self.asked_for(node),
            (_, If::True) => both(&self.asked_for(node), &self.read(node)),
        }
    }

    /// What a condition asks for that is false without it.
    fn asked_for(&self, node: &Node) -> Facts {
        let asked = match node {
            Node::Has(of) => Path::of(of),
            Node::Optional(OptionalCall::HasValue, arguments) => Path::of(&arguments[0]),
            Node::Optional(OptionalCall::OrValue, arguments) => match &arguments[1] {
                Node::Literal(Value::Bool(false)) => Path::of(&arguments[0]),
                _ => None,
            },
            Node::Binary(Binary::Equal, operands) => match &**operands {
                [Node::Optional(OptionalCall::OrValue, arguments), Node::Literal(value)] => match &arguments[1] {
                    Node::Literal(default) if default != value => Path::of(&arguments[0]),
                    _ => None,
                },
                _ => None,
            },
            Node::Binary(Binary::In, operands) => match &**operands {
                [Node::Literal(Value::String(name)), of] => Path::of(of).map(|path| path.member(name)),
                _ => None,
            },
            _ => None,
        };
        asked.and_then(|path| path.stem(self.known)).into_iter().collect()
    }

    /// What a node reads without which it has no value.
    fn read(&self, node: &Node) -> Facts {
        if let Some(path) = Path::of(node) {
            let mut facts = match self.known.standing(path.root) {
                Standing::Derived(expr) => self.derived(path.root, expr).read.clone(),
                _ => Facts::new(),
            };
            facts.extend(path.stem(self.known));
            return facts;
        }
        let mut facts = Facts::new();
        let mut add = |node: &Node| facts.extend(self.read(node));
        match node {
            Node::Select(of, _) => add(of),
            Node::Index(..) | Node::Binary(..) | Node::Negate(_) | Node::Call(..) | Node::Library(..) => {
                node.for_each_child(&mut add);
            }
            Node::Collect(collect) => add(&collect.range),
            Node::Fold(fold) => add(&fold.range),
            Node::If(parts) => add(&parts[0]),
            _ => {}
        }
        facts
    }

    fn derived(&self, root: &Root, expr: &Expr) -> Rc<Derived> {
        if let Some(known) = self.derived.borrow().get(root) {
            return known.clone();
        }
        let node = &expr.node;
        let derived = Rc::new(Derived {
            missing: self.missing(node, &Facts::new()).into_keys().collect(),
            read: self.read(node),
            if_true: self.there(node, If::True),
            if_not_true: self.there(node, If::NotTrue),
            if_not_false: self.there(node, If::NotFalse),
        });
        self.derived.borrow_mut().insert(root.clone(), derived.clone());
        derived
    }
}
