//! The names in an expression: what each of them is, and what is probably meant by one that is nothing.

use cel::common::ast::{Expr as Ast, IdedExpr};

use super::compile::{CompileError, Compiled, Compiler};
use super::functions::closest;
use super::node::Node;
use super::{Root, types};

/// The names an expression may read.
#[derive(Clone, Copy, Debug)]
pub enum Roots<'a> {
    /// `event` only.
    Event,
    /// The entity under its type name with these members, `key`, and what its references show; `element` too for
    /// decisions that have one for each.
    Entity { kind: &'a str, members: &'a [Member<'a>], references: &'a [Shown<'a>], element: bool },
    /// `body`, what a source received.
    Body,
    /// `row`, what a source read from a database.
    Row,
    /// `body`, and `meta`, what is known of it beside.
    Message,
    /// `item`, a part of `body`, with both and `meta`.
    Item,
}

/// A member of an entity type: its name, and the type of its value where the declaration tells.
#[derive(Clone, Copy, Debug)]
pub struct Member<'a> {
    pub name: &'a str,
    pub kind: Option<&'static str>,
}

/// A reference, and the members of the entity type it shows that may be read.
#[derive(Clone, Copy, Debug)]
pub struct Shown<'a> {
    pub name: &'a str,
    pub members: &'a [Member<'a>],
}

/// The parser gives the place of a call's bracket and of a member's dot; people look for the name beside it.
pub(super) fn named(text: &str, start: usize, end: usize) -> (usize, usize) {
    let is_name = |c: char| c.is_alphanumeric() || c == '_';
    let (Some(before), Some(after)) = (text.get(..start), text.get(start..)) else { return (start, end) };
    if after.starts_with('(') {
        let name = before.trim_end_matches(is_name).len();
        return if name < start { (name, start) } else { (start, end) };
    }
    match after.strip_prefix('.') {
        Some(member) => {
            let name = member.trim_start_matches('?').trim_start_matches(is_name);
            (start, text.len() - name.len())
        }
        None => (start, end),
    }
}

impl Compiler<'_> {
    pub(super) fn ident(&self, ast: &IdedExpr, name: &str) -> Compiled {
        if self.locals.iter().any(|local| local == name) {
            return Ok(Node::Local(name.into()));
        }
        let root = match (self.roots, name) {
            (Roots::Event, "event") => Root::Event,
            (Roots::Body | Roots::Message | Roots::Item, "body") | (Roots::Row, "row") => Root::Body,
            (Roots::Message | Roots::Item, "meta") => Root::Meta,
            (Roots::Item, "item") => Root::Item,
            (Roots::Entity { .. }, "key") => Root::Key,
            (Roots::Entity { kind, .. }, name) if name == *kind => Root::Entity,
            (Roots::Entity { element: true, .. }, "element") => Root::Element,
            (Roots::Entity { references, .. }, name) => {
                let at = references.iter().position(|shown| shown.name == name);
                Root::Reference(at.ok_or_else(|| self.unknown_name(ast, name))?)
            }
            _ => return Err(self.unknown_name(ast, name)),
        };
        let kind = (root == Root::Key).then_some("string");
        Ok(Node::Root(root, name.into(), kind))
    }

    fn unknown_name(&self, ast: &IdedExpr, name: &str) -> CompileError {
        let (known, help): (Vec<&str>, _) = match self.roots {
            Roots::Event => (vec!["event"], "this expression reads `event` only".to_owned()),
            Roots::Row => (vec!["row"], "this expression reads `row` only".to_owned()),
            Roots::Body => (vec!["body"], "this expression reads `body` only".to_owned()),
            Roots::Message => (vec!["body", "meta"], "this expression reads `body` and `meta`".to_owned()),
            Roots::Item => (vec!["item", "body", "meta"], "this expression reads `item`, `body` and `meta`".to_owned()),
            Roots::Entity { kind, members, .. } if members.iter().any(|it| it.name == name) => {
                (vec![], format!("write `{kind}.{name}`"))
            }
            Roots::Entity { kind, .. } if name == "event" => (
                vec![],
                format!(
                    "only `key`, `id`, `time`, `if`, `by`, `value`, `order_by` read the event; this one reads `{kind}`"
                ),
            ),
            Roots::Entity { element: false, .. } if name == "element" => {
                (vec![], "only a decision with `by` has one for each `element`".to_owned())
            }
            Roots::Entity { kind, references, .. } => {
                let known: Vec<&str> =
                    [kind, "key"].into_iter().chain(references.iter().map(|shown| shown.name)).collect();
                let named: Vec<String> = known.iter().map(|name| format!("`{name}`")).collect();
                let help = match named.as_slice() {
                    [rest @ .., last] => format!("this expression reads {} and {last}", rest.join(", ")),
                    [] => String::new(),
                };
                (known, help)
            }
        };
        let help = closest(name, known).map_or(help, |near| format!("did you mean `{near}`?"));
        self.error(ast, format!("unknown name `{name}`"), Some(help))
    }

    /// As [`Self::error`], at a member of the entity: `order.member` or `order['member']`.
    fn error_at_member(&self, operand: &IdedExpr, entity: &str, message: String, help: String) -> CompileError {
        let error = self.error(operand, message, Some(help));
        let after = error.start + entity.len();
        let end = match self.text.get(after..).and_then(|rest| rest.starts_with('[').then(|| rest.find(']')).flatten())
        {
            Some(bracket) => after + bracket + 1,
            None => named(self.text, after, after).1,
        };
        CompileError { end, ..error }
    }

    fn no_member(&self, operand: &IdedExpr, of: &str, members: &[Member<'_>], member: &str) -> CompileError {
        let members = members.iter().map(|it| it.name);
        let help = match closest(member, members.clone()) {
            Some(near) => format!("did you mean `{of}.{near}`?"),
            None => format!("`{of}` has: {}", members.collect::<Vec<_>>().join(", ")),
        };
        let message = format!("`{of}` has no field or derived value `{member}`");
        self.error_at_member(operand, of, message, help)
    }

    /// `event.x`, `order.x` and `shipment.x` are roots of their own.
    pub(super) fn root_member(&self, operand: &IdedExpr, member: &str) -> Result<Option<Node>, CompileError> {
        let Ast::Ident(name) = &operand.expr else { return Ok(None) };
        if self.locals.contains(name) {
            return Ok(None);
        }
        let place = |members: &[Member<'_>]| members.iter().position(|known| known.name == member);
        let (root, kind) = match self.roots {
            Roots::Event if name == "event" => (Root::Attribute(member.into()), types::of_attribute(member)),
            Roots::Entity { kind, members, .. } if name == kind => match place(members) {
                Some(at) => (Root::Member(at), members[at].kind),
                None => return Err(self.no_member(operand, kind, members, member)),
            },
            Roots::Entity { references, .. } => match references.iter().position(|shown| shown.name == name) {
                Some(at) => match place(references[at].members) {
                    Some(seen) => (Root::Seen(at, member.into()), references[at].members[seen].kind),
                    None => return Err(self.no_member(operand, name, references[at].members, member)),
                },
                None => return Ok(None),
            },
            _ => return Ok(None),
        };
        Ok(Some(Node::Root(root, format!("{name}.{member}").into(), kind)))
    }
}
