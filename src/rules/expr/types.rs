//! What types tell at load: operators and calls that cannot work whatever the values, found by trying them on samples.
//! Where a type is not known nothing is said.

use std::borrow::Cow;

use super::Fault;
use super::functions::Function;
use super::node::Node;
use super::operators::{self, Binary};
use crate::model::number::Decimal;
use crate::model::time::{Span, Timestamp};
use crate::model::value::{Map, Value, described};

/// A value of the type; whether an operator works on a type is the same for all its values.
fn sample(kind: &str) -> Option<Value> {
    Some(match kind {
        "null" => Value::Null,
        "bool" => Value::Bool(true),
        "int" => Value::Int(1),
        "double" => Value::Double(1.0),
        "decimal" => Value::decimal(Decimal::from(1)),
        "string" => Value::string(""),
        "timestamp" => Value::Timestamp(Timestamp::default()),
        "duration" => Value::Duration(Span::from_nanos(1)?),
        "list" => Value::List(Vec::new()),
        "map" => Value::Map(Map::default()),
        _ => return None,
    })
}

fn sample_of(node: &Node) -> Option<Value> {
    sample(node.kind()?)
}

/// Whether values of these types are never equal.
fn never_equal(a: &str, b: &str) -> bool {
    let is_number = |kind: &str| matches!(kind, "int" | "double" | "decimal");
    a != b && a != "null" && b != "null" && !(is_number(a) && is_number(b))
}

/// The type of `event.<name>`.
pub(super) fn of_attribute(name: &str) -> Option<&'static str> {
    match name {
        "id" | "type" | "source" | "subject" => Some("string"),
        "time" => Some("timestamp"),
        _ => None,
    }
}

/// The type of what an operator makes of these.
pub(super) fn of_binary(binary: Binary, [a, b]: &[Node; 2]) -> Option<&'static str> {
    binary.kind().or_else(|| Some(binary.apply(&sample_of(a)?, &sample_of(b)?).ok()?.type_name()))
}

/// The type of `-a`.
pub(super) fn of_negation(a: &Node) -> Option<&'static str> {
    Some(operators::negate(&sample_of(a)?).ok()?.type_name())
}

/// Whether the operator can work on these.
///
/// # Errors
/// Why not, and what would be right.
pub(super) fn check_binary(binary: Binary, [a, b]: &[Node; 2]) -> Result<(), (String, Option<String>)> {
    let (Some(left), Some(right)) = (a.kind(), b.kind()) else { return check_container(binary, b) };
    let (Some(a), Some(b)) = (sample(left), sample(right)) else { return Ok(()) };
    let help = match (left, right) {
        ("timestamp", "string") | ("string", "timestamp") => {
            Some("write timestamp('2026-11-20T10:00:00Z') for a time, date(time, 'Europe/Berlin') for its day".into())
        }
        ("duration", "string" | "int") | ("string" | "int", "duration") => Some("write duration('30m')".into()),
        _ => None,
    };
    if matches!(binary, Binary::Equal | Binary::NotEqual) {
        let message = || format!("{} never equals {}", described(left), described(right));
        return if never_equal(left, right) { Err((message(), help)) } else { Ok(()) };
    }
    match binary.apply(&a, &b) {
        Err(Fault::Wrong(message)) => Err((message, help)),
        _ => Ok(()),
    }
}

/// `in` needs something that has elements, whatever is looked for.
fn check_container(binary: Binary, container: &Node) -> Result<(), (String, Option<String>)> {
    match container.kind() {
        Some(kind) if binary == Binary::In && !has_elements(kind) => {
            Err((format!("`in` works on lists and maps, this is {}", described(kind)), None))
        }
        _ => Ok(()),
    }
}

/// Whether `-a` can be.
///
/// # Errors
/// Why not.
pub(super) fn check_negation(a: &Node) -> Result<(), String> {
    match sample_of(a).map(|value| operators::negate(&value)) {
        Some(Err(Fault::Wrong(message))) => Err(message),
        _ => Ok(()),
    }
}

fn has_elements(kind: &str) -> bool {
    matches!(kind, "list" | "map" | "optional")
}

/// Whether `of[…]` can be.
///
/// # Errors
/// Why not.
pub(super) fn check_elements(of: &Node) -> Result<(), String> {
    match of.kind() {
        Some(kind) if !has_elements(kind) => Err(format!("{} has no elements", described(kind))),
        _ => Ok(()),
    }
}

/// Whether a macro can run over this.
///
/// # Errors
/// Why not.
pub(super) fn check_range(range: &Node) -> Result<(), String> {
    match range.kind() {
        Some(kind) if !has_elements(kind) => Err(format!("a list or map is needed, this is {}", described(kind))),
        _ => Ok(()),
    }
}

/// Whether a call can succeed: one of literals alone is tried, one whose first argument has a known type is tried on a
/// sample of it, and zones and formats are tried on a time.
///
/// # Errors
/// Why not.
pub(super) fn check_call(name: &str, function: Function, arguments: &[Node]) -> Result<(), String> {
    let literal = |node: &Node| match node {
        Node::Literal(value) => Some(value.clone()),
        _ => None,
    };
    let [first, others @ ..] = arguments else { return Ok(()) };
    let Some(others) = others.iter().map(literal).collect::<Option<Vec<Value>>>() else { return Ok(()) };
    let attempt = |first: Value| {
        let values: Vec<Cow<'_, Value>> = [first].into_iter().chain(others.clone()).map(Cow::Owned).collect();
        match function.apply(&values) {
            Err(Fault::Wrong(why)) => Err(why),
            _ => Ok(()),
        }
    };
    if let Some(first) = literal(first) {
        return attempt(first);
    }
    if let (Function::Date | Function::Format, None | Some("timestamp" | "string" | "int")) = (function, first.kind()) {
        return attempt(Value::Timestamp(Timestamp::default()));
    }
    if let (Function::Timestamp, [_], None | Some("string")) = (function, others.as_slice(), first.kind()) {
        return attempt(Value::string("2026-11-20T10:00:00"));
    }
    // What a string holds may be right or wrong; every other type is as good as its sample.
    match first.kind().filter(|kind| *kind != "string").and_then(sample).map(attempt) {
        Some(Err(_)) => Err(format!("{name}() does not work on {}", described(first.kind().unwrap_or_default()))),
        _ => Ok(()),
    }
}
