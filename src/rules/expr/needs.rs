//! What an evaluation finds missing, and of that what waiting for would help. Kept only by bindings that want to explain.

use super::Fault;
use super::eval::{Evaluator, Item, Outcome};
use super::node::Node;
use super::optional::OptionalCall;

impl Evaluator<'_> {
    /// Notes that the rules miss something.
    pub(super) fn note(&self, path: &str) {
        if let Some(missing) = self.bindings.missing() {
            missing.borrow_mut().insert(path.to_owned());
        }
    }

    /// Notes what `node` reads, if `outcome` says that it is not there.
    pub(super) fn note_if_missing(&self, outcome: &Outcome<'_>, node: &Node) {
        if self.bindings.missing().is_some() && matches!(outcome, Ok(Item::Optional(None)) | Err(Fault::Missing(_))) {
            self.note(&path(node));
        }
    }

    /// Evaluates, and forgets what was found missing meanwhile if the outcome shows that nothing is gained by it: what has
    /// a default, a negation that is already known, an alternative that is already true.
    pub(super) fn unless_moot<'l>(
        &self,
        is_moot: impl FnOnce(&Outcome<'l>) -> bool,
        evaluate: impl FnOnce() -> Outcome<'l>,
    ) -> Outcome<'l> {
        let Some(missing) = self.bindings.missing() else { return evaluate() };
        let before = missing.take();
        let outcome = evaluate();
        let found = missing.replace(before);
        if !is_moot(&outcome) {
            missing.borrow_mut().extend(found);
        }
        outcome
    }
}

/// How the text spells a chain of members.
pub(super) fn path(node: &Node) -> String {
    match node {
        Node::Root(_, label, _) => label.to_string(),
        Node::Local(name) => name.to_string(),
        Node::Select(of, member) | Node::OptSelect(of, member) => format!("{}.{member}", path(of)),
        Node::Optional(OptionalCall::OfMaybe, of) => of.first().map(path).unwrap_or_default(),
        _ => "…".to_owned(),
    }
}
