//! Chains of members, and negations over them, as text: what people would write instead.

use super::Root;
use super::node::Node;
use super::optional::OptionalCall;
use super::totality::{Known, PartialNegation, Standing};
use crate::model::value::Value;

/// A chain of members below a root, whether or not they are read as optional.
#[derive(Clone, Debug)]
pub(super) struct Path<'n> {
    pub root: &'n Root,
    label: &'n str,
    members: Vec<&'n str>,
}

/// `!operand`, and where in the text the `!` is.
#[derive(Clone, Copy)]
pub(super) struct Negation<'n> {
    pub operand: &'n Node,
    pub start: usize,
}

fn is_identifier(name: &str) -> bool {
    name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') && !name.starts_with(|c: char| c.is_ascii_digit())
}

impl<'n> Path<'n> {
    /// The path that a node is, if it is one.
    pub(super) fn of(node: &'n Node) -> Option<Self> {
        match node {
            Node::Root(root, label, _) => Some(Path { root, label, members: Vec::new() }),
            Node::Select(of, member) | Node::OptSelect(of, member) => Some(Path::of(of)?.member(member)),
            Node::Index(of, at) | Node::OptIndex(of, at) => match &**at {
                Node::Literal(Value::String(member)) => Some(Path::of(of)?.member(member)),
                _ => None,
            },
            Node::Optional(OptionalCall::OfMaybe, of) => Path::of(of.first()?),
            _ => None,
        }
    }

    /// A member of it.
    pub(super) fn member(mut self, name: &'n str) -> Self {
        self.members.push(name);
        self
    }

    /// Leaves what it has in common with another path below the same root.
    pub(super) fn shorten_to(&mut self, other: &Path<'_>) {
        let common = self.members.iter().zip(&other.members).take_while(|(a, b)| a == b).count();
        self.members.truncate(common);
    }

    /// The part of it that may not be there yet, if any; what it has below is there with it.
    pub(super) fn stem(&self, known: &dyn Known) -> Option<String> {
        match known.standing(self.root) {
            Standing::Always => None,
            Standing::Members => self.members.first().map(|name| format!("{}.{name}", self.label)),
            Standing::Sometimes | Standing::Derived(_) => Some(self.label.to_owned()),
        }
    }

    fn text(&self) -> String {
        let mut text = self.label.to_owned();
        for name in &self.members {
            push(&mut text, "", name);
        }
        text
    }

    /// The same, none where it is missing.
    fn optional_text(&self, known: &dyn Known) -> String {
        let mut text = match (known.standing(self.root), self.label.split_once('.')) {
            (Standing::Members, _) | (_, None) => self.label.to_owned(),
            (_, Some((of, root))) => format!("{of}.?{root}"),
        };
        for name in &self.members {
            push(&mut text, "?", name);
        }
        text
    }

    /// The question whether it is there; `has` takes names only.
    fn question(&self) -> Option<String> {
        self.members.last().is_none_or(|last| is_identifier(last)).then(|| format!("has({})", self.text()))
    }
}

/// Adds a member; `mark` says how it is read.
fn push(text: &mut String, mark: &str, name: &str) {
    let parts = if is_identifier(name) {
        [".", mark, name, ""].map(str::to_owned)
    } else {
        let quoted = name.replace('\\', r"\\").replace('\'', r"\'");
        ["[".to_owned(), mark.to_owned(), format!("'{quoted}'"), "]".to_owned()]
    };
    text.extend(parts);
}

/// Whether the paths in it may be asked for beside it: not where one of them may do without the others.
fn is_strict(node: &Node) -> bool {
    if matches!(node, Node::Or(..) | Node::If(_) | Node::Collect(_) | Node::Fold(_)) {
        return false;
    }
    let mut is_strict_below = true;
    node.for_each_child(&mut |child| is_strict_below &= is_strict(child));
    is_strict_below
}

impl Negation<'_> {
    pub(super) fn described<'n>(
        self,
        text: &str,
        missing: impl Iterator<Item = &'n Path<'n>> + Clone,
        known: &dyn Known,
    ) -> PartialNegation {
        let end = operand_end(text, self.start + 1);
        let operand = text.get(self.start + 1..end).unwrap_or_default().trim();
        let questions: Option<Vec<String>> = missing.clone().map(Path::question).collect();
        let questions = questions.filter(|_| is_strict(self.operand)).map(|questions| questions.join(" && "));
        let total = questions.map(|questions| {
            let total = match Path::of(self.operand) {
                Some(path) => format!("!{}.orValue(false)", path.optional_text(known)),
                None => format!("!({questions} && {})", unbracketed(operand, self.operand)),
            };
            (total, format!("{questions} && !{operand}"))
        });
        PartialNegation { start: self.start, end, missing: missing.map(Path::text).collect(), total }
    }
}

/// An operator's text without the brackets around it: beside `&&` nothing in it needs them that is strict.
fn unbracketed<'t>(operand: &'t str, node: &Node) -> &'t str {
    let inner = operand.strip_prefix('(').and_then(|inner| inner.strip_suffix(')'));
    inner.filter(|_| matches!(node, Node::Binary(..) | Node::And(..))).map_or(operand, str::trim)
}

/// Where the operand ends that begins at `start`: names and literals, with whatever is in brackets.
fn operand_end(text: &str, start: usize) -> usize {
    let Some(operand) = text.get(start..) else { return text.len() };
    let (mut depth, mut quote, mut escaped, mut before) = (0_usize, None, false, ' ');
    for (at, next) in operand.char_indices() {
        match (next, quote) {
            _ if escaped => escaped = false,
            ('\\', Some(_)) => escaped = true,
            (next, Some(open)) if next == open => quote = None,
            (_, Some(_)) => {}
            ('\'' | '"', None) => quote = Some(next),
            ('(' | '[' | '{', None) => depth += 1,
            (')' | ']' | '}', None) if depth == 0 => return start + at,
            (')' | ']' | '}', None) => depth -= 1,
            _ if depth > 0 => {}
            ('?', None) if before == '.' => {}
            ('.' | '_', None) => {}
            (next, None) if next.is_alphanumeric() => {}
            (next, None) if (next.is_whitespace() || next == '!') && operand[..at].trim_matches(is_lead).is_empty() => {
            }
            _ => return start + at,
        }
        before = next;
    }
    text.len()
}

/// What may stand before an operand.
fn is_lead(c: char) -> bool {
    c.is_whitespace() || c == '!'
}

#[cfg(test)]
mod tests {
    use super::*;

    /// If this failed, the form that is offered instead would lack a part of what was written, or have too much.
    #[test]
    fn an_operand_ends_where_it_ends() {
        for (text, expected) in [
            ("!a.b && c", "a.b"),
            ("! (a || ')') == c", " (a || ')')"),
            ("!a.?b.orValue(f(1)) || c", "a.?b.orValue(f(1))"),
            ("!a['x\\'] '].b ? 1 : 2", "a['x\\'] '].b"),
            ("!!!a)", "!!a"),
            ("!größe", "größe"),
            ("!a\n&& b", "a"),
        ] {
            assert_eq!(&text[1..operand_end(text, 1)], expected, "{text}");
        }
    }
}
