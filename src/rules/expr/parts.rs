//! What an expression is made of, for people: every path it reads, with the value found there.

use super::eval::evaluate;
use super::needs::path;
use super::node::Node;
use super::{Bindings, Expr, Fault};
use crate::model::value::Value;

/// A path as the text spells it, and what it leads to.
pub type Part = (String, Result<Value, Fault>);

impl Expr {
    /// The paths the expression reads, each once and as far as it goes, in the order of the text.
    pub fn parts(&self, bindings: &dyn Bindings) -> Vec<Part> {
        let mut paths = Vec::new();
        collect(&self.node, &mut paths);
        let mut parts: Vec<Part> = Vec::new();
        for node in paths {
            let label = path(node);
            if parts.iter().all(|(known, _)| *known != label) {
                let value = evaluate(node, bindings).map(std::borrow::Cow::into_owned);
                parts.push((label, value));
            }
        }
        parts
    }
}

fn collect<'n>(node: &'n Node, paths: &mut Vec<&'n Node>) {
    if is_path(node) {
        paths.push(node);
    } else {
        node.for_each_child(&mut |child| collect(child, paths));
    }
}

fn is_path(node: &Node) -> bool {
    match node {
        Node::Root(..) => true,
        Node::Select(of, _) | Node::OptSelect(of, _) => is_path(of),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use std::borrow::Cow;

    use super::*;
    use crate::model::json;
    use crate::rules::expr::{Root, Roots};

    struct Body(Value);

    impl Bindings for Body {
        fn read(&self, _: &Root) -> Result<Cow<'_, Value>, Fault> {
            Ok(Cow::Borrowed(&self.0))
        }
    }

    /// If this failed, a test that fails would not show why.
    #[test]
    fn paths_are_told_once_and_whole() {
        let body = Body(json::parse(br#"{"a":{"b":1},"l":[1,2]}"#, 9).unwrap());
        for (text, expected) in [
            ("body.a.b > 0 && body.a.b < 5", "body.a.b=1"),
            ("has(body.a.c) || size(body.l) > 2", "body.a.c=? body.l=[1,2]"),
            ("body.l.exists(x, x > body.a.b)", "body.l=[1,2] body.a.b=1"),
            ("body.?x.?y.orValue(1) == body.l[0]", "body.x.y=? body.l=[1,2]"),
            ("true", ""),
        ] {
            let expr = Expr::compile(text, &Roots::Body).unwrap();
            let parts = expr.parts(&body);
            let shown = parts.iter().map(|(path, value)| {
                let value = value.as_ref().map_or("?".to_owned(), json::to_string);
                format!("{path}={value}")
            });
            assert_eq!(shown.collect::<Vec<_>>().join(" "), expected, "{text}");
        }
    }
}
