//! The tree that expressions are compiled to, and what can be told from it alone.

use super::Root;
use super::functions::Function;
use super::library::LibraryCall;
use super::operators::Binary;
use super::optional::OptionalCall;
use super::types;
use crate::model::value::Value;

/// A compiled expression's tree.
#[derive(Debug)]
pub(super) enum Node {
    Literal(Value),
    /// A root, how the text spells it, and the type of its value where the declaration tells.
    Root(Root, Box<str>, Option<&'static str>),
    /// A variable of an enclosing macro.
    Local(Box<str>),
    Select(Box<Node>, Box<str>),
    Has(Box<Node>),
    OptSelect(Box<Node>, Box<str>),
    Index(Box<Node>, Box<Node>),
    OptIndex(Box<Node>, Box<Node>),
    And(Box<Node>, Box<Node>),
    Or(Box<Node>, Box<Node>),
    /// What is negated, and the byte of the text at which the `!` stands.
    Not(Box<Node>, usize),
    If(Box<[Node; 3]>),
    Negate(Box<Node>),
    Binary(Binary, Box<[Node; 2]>),
    /// Elements, each marked if it is left out when it has no value (`[?x]`).
    List(Vec<(Node, Presence)>),
    Map(Vec<(Node, Node, Presence)>),
    /// `map` and `filter`: what an element becomes, if it passes.
    Collect(Box<Collect>),
    Fold(Box<Fold>),
    Call(Function, Vec<Node>),
    Optional(OptionalCall, Vec<Node>),
    Library(Box<LibraryCall>, Vec<Node>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Presence {
    Required,
    Optional,
}

#[derive(Debug)]
pub(super) struct Collect {
    pub range: Node,
    pub variable: Box<str>,
    pub filter: Option<Node>,
    pub element: Node,
}

#[derive(Debug)]
pub(super) struct Fold {
    pub range: Node,
    pub variable: Box<str>,
    pub second: Option<Box<str>>,
    pub accumulator: Box<str>,
    pub init: Node,
    pub condition: Node,
    pub step: Node,
    pub result: Node,
}

impl Node {
    /// The type of its value, where the text alone tells.
    pub(super) fn kind(&self) -> Option<&'static str> {
        match self {
            Node::Literal(value) => Some(value.type_name()),
            Node::Has(_) | Node::And(..) | Node::Or(..) | Node::Not(..) | Node::Optional(OptionalCall::HasValue, _) => {
                Some("bool")
            }
            Node::Binary(binary, operands) => types::of_binary(*binary, operands),
            Node::List(_) | Node::Collect(_) => Some("list"),
            Node::Map(_) => Some("map"),
            Node::Call(function, _) => function.kind(),
            Node::Root(_, _, kind) => *kind,
            Node::Negate(a) => types::of_negation(a),
            Node::If(parts) => parts[1].kind().filter(|kind| parts[2].kind() == Some(kind)),
            _ => None,
        }
    }

    /// All roots read anywhere in it.
    pub(super) fn collect_roots(&self, roots: &mut Vec<Root>) {
        match self {
            Node::Root(root, ..) => roots.push(root.clone()),
            node => node.for_each_child(&mut |child| child.collect_roots(roots)),
        }
    }

    /// Calls `each` with every node directly below, in the order of the text.
    pub(super) fn for_each_child<'n>(&'n self, each: &mut dyn FnMut(&'n Node)) {
        match self {
            Node::Literal(_) | Node::Local(_) | Node::Root(..) => {}
            Node::Select(a, _) | Node::OptSelect(a, _) | Node::Has(a) | Node::Not(a, _) | Node::Negate(a) => each(a),
            Node::Index(a, b) | Node::OptIndex(a, b) | Node::And(a, b) | Node::Or(a, b) => {
                each(a);
                each(b);
            }
            Node::If(parts) => parts.iter().for_each(each),
            Node::Binary(_, parts) => parts.iter().for_each(each),
            Node::List(items) => items.iter().for_each(|(item, _)| each(item)),
            Node::Map(members) => members.iter().for_each(|(key, value, _)| {
                each(key);
                each(value);
            }),
            Node::Collect(collect) => {
                each(&collect.range);
                collect.filter.iter().for_each(&mut *each);
                each(&collect.element);
            }
            Node::Fold(fold) => {
                [&fold.range, &fold.init, &fold.condition, &fold.step, &fold.result].into_iter().for_each(each);
            }
            Node::Call(_, args) | Node::Optional(_, args) | Node::Library(_, args) => args.iter().for_each(each),
        }
    }
}
