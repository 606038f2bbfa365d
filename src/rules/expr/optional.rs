//! CEL's optionals: `a.?b.orValue(c)` and what belongs to it.

use std::borrow::Cow;

use super::Fault;
use super::eval::{Item, Outcome};
use crate::model::value::Value;

/// Calls that make or open optionals.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum OptionalCall {
    /// What its argument is, or none where that is missing.
    OfMaybe,
    Of,
    OfNonZero,
    None,
    HasValue,
    Value,
    Or,
    OrValue,
}

impl OptionalCall {
    /// `optional.<name>(…)`.
    pub(super) fn constructor(name: &str, arguments: usize) -> Option<Self> {
        Some(match (name, arguments) {
            ("of", 1) => OptionalCall::Of,
            ("ofNonZeroValue", 1) => OptionalCall::OfNonZero,
            ("none", 0) => OptionalCall::None,
            _ => return None,
        })
    }

    /// `x.<name>(…)`; `arguments` counts `x`.
    pub(super) fn method(name: &str, arguments: usize) -> Option<Self> {
        Some(match (name, arguments) {
            ("hasValue", 1) => OptionalCall::HasValue,
            ("value", 1) => OptionalCall::Value,
            ("or", 2) => OptionalCall::Or,
            ("orValue", 2) => OptionalCall::OrValue,
            _ => return None,
        })
    }

    /// Whether it goes on with something else where its first argument is none.
    pub(super) fn has_other(self) -> bool {
        matches!(self, OptionalCall::Or | OptionalCall::OrValue)
    }

    /// Applies the call; `argument(n)` evaluates the n-th argument.
    pub(super) fn apply<'e>(self, mut argument: impl FnMut(usize) -> Outcome<'e>) -> Outcome<'e> {
        let opened = |item: Item<'e>| match item {
            Item::Optional(optional) => Ok(optional),
            Item::Value(value) => {
                Err(Fault::Wrong(format!("an optional (`.?`) is needed here, this is {}", value.described())))
            }
        };
        Ok(match self {
            OptionalCall::None => Item::Optional(None),
            OptionalCall::Of => Item::Optional(Some(argument(0)?.value()?)),
            OptionalCall::OfMaybe => match argument(0) {
                Err(Fault::Missing(_)) => Item::Optional(None),
                other => Item::Optional(Some(other?.value()?)),
            },
            OptionalCall::OfNonZero => {
                let value = argument(0)?.value()?;
                Item::Optional((!is_zero(&value)).then_some(value))
            }
            OptionalCall::HasValue => Item::Value(Cow::Owned(Value::Bool(opened(argument(0)?)?.is_some()))),
            OptionalCall::Value => {
                Item::Value(opened(argument(0)?)?.ok_or_else(|| Fault::Missing("an optional's value".into()))?)
            }
            OptionalCall::Or => match opened(argument(0)?)? {
                Some(value) => Item::Optional(Some(value)),
                None => Item::Optional(opened(argument(1)?)?),
            },
            OptionalCall::OrValue => match opened(argument(0)?)? {
                Some(value) => Item::Value(value),
                None => Item::Value(argument(1)?.value()?),
            },
        })
    }
}

fn is_zero(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => true,
        Value::String(text) => text.is_empty(),
        Value::List(items) => items.is_empty(),
        Value::Map(members) => members.is_empty(),
        Value::Duration(span) => span.as_nanos() == 0,
        number => number.to_decimal().is_some_and(|number| number.is_zero()),
    }
}
