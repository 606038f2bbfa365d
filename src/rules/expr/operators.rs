//! Operators on values: exact comparison, checked arithmetic, numbers of all kinds mixed by promotion (an int with a double
//! is a double, anything with a decimal is a decimal).

use std::cmp::Ordering;

use cel::common::ast::operators as op;

use super::Fault;
use crate::model::number::Decimal;
use crate::model::value::Value;

/// Operators with two operands, both of which must have a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Binary {
    Add,
    Subtract,
    Multiply,
    Divide,
    Modulo,
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
    In,
}

impl Binary {
    /// The operator CEL's parser calls `name`.
    pub(super) fn named(name: &str) -> Option<Self> {
        Some(match name {
            op::ADD => Binary::Add,
            op::SUBSTRACT => Binary::Subtract,
            op::MULTIPLY => Binary::Multiply,
            op::DIVIDE => Binary::Divide,
            op::MODULO => Binary::Modulo,
            op::EQUALS => Binary::Equal,
            op::NOT_EQUALS => Binary::NotEqual,
            op::LESS => Binary::Less,
            op::LESS_EQUALS => Binary::LessOrEqual,
            op::GREATER => Binary::Greater,
            op::GREATER_EQUALS => Binary::GreaterOrEqual,
            op::IN => Binary::In,
            _ => return None,
        })
    }

    /// The type of the outcome, where the operator alone tells.
    pub(super) fn kind(self) -> Option<&'static str> {
        match self {
            Binary::Add | Binary::Subtract | Binary::Multiply | Binary::Divide | Binary::Modulo => None,
            _ => Some("bool"),
        }
    }

    fn symbol(self) -> &'static str {
        match self {
            Binary::Add => "+",
            Binary::Subtract => "-",
            Binary::Multiply => "*",
            Binary::Divide => "/",
            Binary::Modulo => "%",
            Binary::Equal => "==",
            Binary::NotEqual => "!=",
            Binary::Less => "<",
            Binary::LessOrEqual => "<=",
            Binary::Greater => ">",
            Binary::GreaterOrEqual => ">=",
            Binary::In => "in",
        }
    }

    /// Applies the operator.
    pub(super) fn apply(self, a: &Value, b: &Value) -> Result<Value, Fault> {
        let ordered = |accept: fn(Ordering) -> bool| match a.compare(b) {
            Some(order) => Ok(Value::Bool(accept(order))),
            // NaN is unordered; other kinds cannot be compared at all.
            None if matches!((a, b), (Value::Double(_), Value::Double(_))) => Ok(Value::Bool(false)),
            None => Err(self.no_such(a, b)),
        };
        match self {
            Binary::Equal => Ok(Value::Bool(a.equals(b))),
            Binary::NotEqual => Ok(Value::Bool(!a.equals(b))),
            Binary::Less => ordered(Ordering::is_lt),
            Binary::LessOrEqual => ordered(Ordering::is_le),
            Binary::Greater => ordered(Ordering::is_gt),
            Binary::GreaterOrEqual => ordered(Ordering::is_ge),
            Binary::In => match b {
                Value::List(items) => Ok(Value::Bool(items.iter().any(|item| item.equals(a)))),
                Value::Map(members) => Ok(Value::Bool(member_name(a).is_some_and(|name| members.get(&name).is_some()))),
                _ => Err(self.no_such(a, b)),
            },
            _ => self.arithmetic(a, b),
        }
    }

    fn no_such(self, a: &Value, b: &Value) -> Fault {
        Fault::Wrong(format!("`{}` does not work on {} and {}", self.symbol(), a.type_name(), b.type_name()))
    }

    fn arithmetic(self, a: &Value, b: &Value) -> Result<Value, Fault> {
        match (a, b) {
            (Value::Int(a), Value::Int(b)) => self.ints(*a, *b),
            (Value::Decimal(_), _) | (_, Value::Decimal(_)) => match (a.to_decimal(), b.to_decimal()) {
                (Some(a), Some(b)) => self.decimals(&a, &b),
                _ => Err(self.no_such(a, b)),
            },
            (Value::Double(a), Value::Double(b)) => self.doubles(*a, *b),
            (Value::Int(a), Value::Double(b)) => self.doubles(*a as f64, *b),
            (Value::Double(a), Value::Int(b)) => self.doubles(*a, *b as f64),
            _ => self.others(a, b),
        }
    }

    fn ints(self, a: i64, b: i64) -> Result<Value, Fault> {
        if b == 0 && matches!(self, Binary::Divide | Binary::Modulo) {
            return Err(division_by_zero());
        }
        match self {
            Binary::Add => a.checked_add(b),
            Binary::Subtract => a.checked_sub(b),
            Binary::Multiply => a.checked_mul(b),
            Binary::Divide => a.checked_div(b),
            _ => a.checked_rem(b),
        }
        .map(Value::Int)
        .ok_or_else(|| Fault::Wrong(format!("{a} {} {b} is beyond 64 bits; use decimal()", self.symbol())))
    }

    fn doubles(self, a: f64, b: f64) -> Result<Value, Fault> {
        let outcome = match self {
            Binary::Add => a + b,
            Binary::Subtract => a - b,
            Binary::Multiply => a * b,
            Binary::Divide | Binary::Modulo if b == 0.0 => return Err(division_by_zero()),
            Binary::Divide => a / b,
            _ => a % b,
        };
        if outcome.is_finite() {
            Ok(Value::Double(outcome))
        } else {
            Err(Fault::Wrong(format!("{a} {} {b} is beyond what a double holds", self.symbol())))
        }
    }

    fn decimals(self, a: &Decimal, b: &Decimal) -> Result<Value, Fault> {
        let outcome = match self {
            Binary::Add => a.plus(b),
            Binary::Subtract => a.minus(b),
            Binary::Multiply => a.times(b),
            Binary::Divide => a.over(b).ok_or_else(division_by_zero)?,
            _ => a.modulo(b).ok_or_else(division_by_zero)?,
        };
        outcome.map(Value::decimal).map_err(|error| Fault::Wrong(error.to_string()))
    }

    fn others(self, a: &Value, b: &Value) -> Result<Value, Fault> {
        let outcome = match (self, a, b) {
            (Binary::Add, Value::String(a), Value::String(b)) => Some(Value::string(format!("{a}{b}"))),
            (Binary::Add, Value::List(a), Value::List(b)) => Some(Value::List(a.iter().chain(b).cloned().collect())),
            (Binary::Add, Value::Timestamp(time), Value::Duration(span))
            | (Binary::Add, Value::Duration(span), Value::Timestamp(time)) => time.plus(*span).map(Value::Timestamp),
            (Binary::Subtract, Value::Timestamp(a), Value::Timestamp(b)) => Some(Value::Duration(a.since(*b))),
            (Binary::Subtract, Value::Timestamp(time), Value::Duration(span)) => {
                crate::model::time::Span::from_nanos(-span.as_nanos())
                    .and_then(|span| time.plus(span))
                    .map(Value::Timestamp)
            }
            (Binary::Add, Value::Duration(a), Value::Duration(b)) => spans(a.as_nanos() + b.as_nanos()),
            (Binary::Subtract, Value::Duration(a), Value::Duration(b)) => spans(a.as_nanos() - b.as_nanos()),
            (Binary::Multiply, Value::Duration(span), Value::Int(n))
            | (Binary::Multiply, Value::Int(n), Value::Duration(span)) => {
                span.as_nanos().checked_mul(i128::from(*n)).and_then(spans)
            }
            (Binary::Divide, Value::Duration(_), Value::Int(0)) => return Err(division_by_zero()),
            (Binary::Divide, Value::Duration(span), Value::Int(n)) => spans(span.as_nanos() / i128::from(*n)),
            _ => return Err(self.no_such(a, b)),
        };
        outcome.ok_or_else(|| Fault::wrong("a time or duration out of range"))
    }
}

fn spans(nanos: i128) -> Option<Value> {
    crate::model::time::Span::from_nanos(nanos).map(Value::Duration)
}

fn division_by_zero() -> Fault {
    Fault::wrong("division by zero")
}

/// A number of things in memory, as rules see it.
pub(super) fn count(things: usize) -> i64 {
    i64::try_from(things).unwrap_or(i64::MAX)
}

/// The sign changed.
pub(super) fn negate(value: &Value) -> Result<Value, Fault> {
    match value {
        Value::Int(int) => int.checked_neg().map(Value::Int).ok_or_else(|| Fault::wrong("an integer beyond 64 bits")),
        Value::Double(double) => Ok(Value::Double(-double)),
        Value::Decimal(decimal) => Ok(Value::decimal(decimal.negated())),
        Value::Duration(span) => spans(-span.as_nanos()).ok_or_else(|| Fault::wrong("a duration out of range")),
        other => Err(Fault::Wrong(format!("`-` does not work on {}", other.type_name()))),
    }
}

/// How a value names a map's member: text as it is, ints and bools written out.
pub(super) fn member_name(value: &Value) -> Option<std::borrow::Cow<'_, str>> {
    match value {
        Value::String(text) => Some((&**text).into()),
        Value::Int(int) => Some(int.to_string().into()),
        Value::Bool(truth) => Some(truth.to_string().into()),
        _ => None,
    }
}
