//! Expressions: CEL text, parsed by the `cel` crate and compiled to a tree that reads Turnstile's values.
//!
//! The tree is evaluated here and not by the `cel` interpreter because rules need what CEL leaves open: a missing value is
//! *unknown* and no error, numbers are exact and mix freely, and what a pending decision needs is reported. Functions of
//! CEL's extension libraries that say nothing about these are the `cel` crate's own ([`library`]).

mod compile;
mod eval;
mod functions;
mod library;
mod names;
mod needs;
mod node;
mod operators;
mod optional;
mod parts;
mod paths;
mod syntax;
mod totality;
mod types;

use std::borrow::Cow;

pub use compile::CompileError;
pub use names::{Member, Roots, Shown};
use node::Node;
pub use parts::Part;
pub use totality::{Known, PartialNegation, Standing};

use crate::model::value::Value;

/// So many steps (nodes visited, elements looped over) an evaluation may take.
pub const EVALUATION_STEPS_MAX: u64 = 2_000_000;

/// A compiled expression.
#[derive(Debug)]
pub struct Expr {
    node: Node,
    reads: Vec<Root>,
}

/// A name an expression reads from outside itself.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Root {
    /// `event.<name>`
    Attribute(Box<str>),
    /// The whole `event`.
    Event,
    /// A member of the entity, by its place among the members given to the compiler.
    Member(usize),
    /// A member of the entity that a reference shows, by the reference's place.
    Seen(usize, Box<str>),
    /// All that a reference shows.
    Reference(usize),
    /// What a decision with one for each element is about.
    Element,
    /// The whole entity.
    Entity,
    /// The entity's `key`.
    Key,
    /// The `body` that a source maps to an event.
    Body,
    /// What a source knows of what it received.
    Meta,
    /// A part of the body that is an event of its own.
    Item,
}

/// Why an expression has no value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Something it reads is not there (yet): which path.
    Missing(String),
    /// It cannot be computed: why.
    Wrong(String),
}

impl Fault {
    /// A fault that waiting does not mend.
    pub fn wrong(message: impl Into<String>) -> Self {
        Fault::Wrong(message.into())
    }
}

/// What names stand for while an expression is evaluated.
pub trait Bindings {
    /// The value of a root.
    ///
    /// # Errors
    /// [`Fault::Missing`] where there is none, [`Fault::Wrong`] where a derived value is wrong.
    fn read(&self, root: &Root) -> Result<Cow<'_, Value>, Fault>;

    /// Whether a root has a value, where that can be told without making it.
    fn is_there(&self, _: &Root) -> Option<bool> {
        None
    }

    /// What stands at the end of a path of members below a root, where it can be had without making all of the root's
    /// value.
    fn select(&self, _: &Root, _: &[&str]) -> Option<Value> {
        None
    }

    /// Whether everything an expression touches is wanted, also what could not change the outcome, and told which member
    /// it found missing.
    fn missing(&self) -> Option<&std::cell::RefCell<std::collections::BTreeSet<String>>> {
        None
    }
}

impl Expr {
    /// Compiles CEL text; names are those of `roots`.
    pub fn compile(text: &str, roots: &Roots<'_>) -> Result<Self, CompileError> {
        let node = syntax::parse_and_compile(text, roots)?;
        let mut reads = Vec::new();
        node.collect_roots(&mut reads);
        reads.sort();
        reads.dedup();
        Ok(Expr { node, reads })
    }

    /// The root the expression is, if it is nothing else.
    pub fn as_root(&self) -> Option<&Root> {
        match &self.node {
            Node::Root(root, ..) => Some(root),
            _ => None,
        }
    }

    /// What the expression reads, sorted.
    pub fn reads(&self) -> &[Root] {
        &self.reads
    }

    /// The type of the outcome, as far as text and declarations tell.
    pub fn kind(&self) -> Option<&'static str> {
        self.node.kind()
    }

    /// Whether the outcome can be a bool, as far as the text tells.
    pub fn may_be_bool(&self) -> bool {
        self.node.kind().is_none_or(|kind| kind == "bool")
    }

    /// The expression's value. An optional without a value is [`Fault::Missing`].
    pub fn evaluate<'e>(&'e self, bindings: &'e dyn Bindings) -> Result<Cow<'e, Value>, Fault> {
        eval::evaluate(&self.node, bindings)
    }

    /// The expression as a condition.
    pub fn test(&self, bindings: &dyn Bindings) -> Result<bool, Fault> {
        match &*self.evaluate(bindings)? {
            Value::Bool(outcome) => Ok(*outcome),
            other => Err(Fault::Wrong(format!("a condition must be a bool, this is {}", other.described()))),
        }
    }
}

#[cfg(test)]
mod tests;
