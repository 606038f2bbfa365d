//! Functions of CEL's standard and extension libraries (strings, math, lists, date parts), as the `cel` crate has them.
//! Values are converted on the way in and out; decimals go in as doubles.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::{Arc, LazyLock};

use cel::common::ast::{CallExpr, Expr as Ast, IdedExpr};
use cel::objects::Key;
use cel::parser::Parser;
use cel::{Context, Env, ExecutionError, Value as Cel};

use super::Fault;
use super::compile::EXPRESSION_DEPTH_MAX;
use crate::model::time::{Span, Timestamp};
use crate::model::value::Value;

/// The library functions that expressions may call, namespaces included.
pub(super) const NAMES: &[&str] = &[
    "matches",
    "charAt",
    "indexOf",
    "lastIndexOf",
    "join",
    "lowerAscii",
    "upperAscii",
    "replace",
    "reverse",
    "split",
    "substring",
    "trim",
    "format",
    "slice",
    "flatten",
    "distinct",
    "sort",
    "@sortByAssociatedKeys",
    "getFullYear",
    "getMonth",
    "getDate",
    "getDayOfMonth",
    "getDayOfWeek",
    "getDayOfYear",
    "getHours",
    "getMinutes",
    "getSeconds",
    "getMilliseconds",
    "math.ceil",
    "math.floor",
    "math.round",
    "math.trunc",
    "math.abs",
    "math.sign",
    "math.sqrt",
    "math.isNaN",
    "math.isInf",
    "math.isFinite",
    "math.bitAnd",
    "math.bitOr",
    "math.bitXor",
    "math.bitNot",
    "math.bitShiftLeft",
    "math.bitShiftRight",
    "lists.range",
    "strings.quote",
];

/// The longest list that `lists.range` makes.
const RANGE_MAX: i64 = 100_000;

static ENVIRONMENT: LazyLock<Arc<Env>> = LazyLock::new(|| {
    let mut env = Env::stdlib();
    for extension in [cel::extensions::strings, cel::extensions::math, cel::extensions::lists] {
        env.add_extension(extension).expect("the crate's own extensions do not clash");
    }
    Arc::new(env)
});

/// A parser that knows the libraries' macros and the optional syntax.
pub(super) fn parser() -> Parser {
    ENVIRONMENT.parser().enable_optional_syntax(true).max_recursion_depth(4 * EXPRESSION_DEPTH_MAX)
}

/// Whether `name` is a prefix of library functions, such as `math`.
pub(super) fn is_namespace(name: &str) -> bool {
    matches!(name, "math" | "lists" | "strings" | "optional")
}

/// A call of a library function.
#[derive(Debug)]
pub(super) struct LibraryCall {
    name: String,
    call: IdedExpr,
}

impl LibraryCall {
    /// The call, with its arguments (the target first) replaced by variables; `None` for a function that is not offered.
    pub(super) fn new(call: &CallExpr, namespace: Option<&str>, arguments: usize) -> Option<Self> {
        let name = namespace.map_or_else(|| call.func_name.clone(), |space| format!("{space}.{}", call.func_name));
        if !NAMES.contains(&name.as_str()) {
            return None;
        }
        let mut variables = (0..arguments).map(|n| IdedExpr { id: 0, expr: Ast::Ident(variable(n)) });
        let target = match (&call.target, namespace) {
            (Some(_), None) => variables.next().map(Box::new),
            (target, _) => target.clone(),
        };
        let call = CallExpr { func_name: call.func_name.clone(), target, args: variables.collect() };
        Some(LibraryCall { name, call: IdedExpr { id: 0, expr: Ast::Call(call) } })
    }

    /// What steps do not bound: a list as long as an event says.
    fn check_size(&self, arguments: &[Cow<'_, Value>]) -> Result<(), Fault> {
        match arguments.first().map(|argument| &**argument) {
            Some(Value::Int(length)) if self.name == "lists.range" && *length > RANGE_MAX => {
                Err(Fault::Wrong(format!("lists.range({length}) is longer than {RANGE_MAX} items")))
            }
            _ => Ok(()),
        }
    }

    /// The function's value.
    pub(super) fn apply(&self, arguments: &[Cow<'_, Value>]) -> Result<Value, Fault> {
        self.check_size(arguments)?;
        let mut context = Context::with_env(ENVIRONMENT.clone());
        for (n, argument) in arguments.iter().enumerate() {
            context.add_variable_from_value(variable(n), to_cel(argument));
        }
        let outcome = Cel::resolve(&self.call, &context).map_err(|error| match error {
            ExecutionError::NoSuchOverload(_) => {
                let types: Vec<_> = arguments.iter().map(|argument| argument.type_name()).collect();
                Fault::Wrong(format!("{}() does not work on {}", self.name, types.join(", ")))
            }
            other => Fault::Wrong(format!("{}(): {other}", self.name)),
        })?;
        from_cel(&outcome).ok_or_else(|| Fault::Wrong(format!("{}() gives something rules cannot hold", self.name)))
    }
}

fn variable(n: usize) -> String {
    format!("a{n}")
}

fn to_cel(value: &Value) -> Cel {
    match value {
        Value::Null => Cel::Null,
        Value::Bool(truth) => Cel::Bool(*truth),
        Value::Int(int) => Cel::Int(*int),
        Value::Double(double) => Cel::Float(*double),
        Value::Decimal(decimal) => Cel::Float(decimal.to_double()),
        Value::String(text) => Cel::String(Arc::new(text.to_string())),
        Value::Timestamp(time) => Cel::Timestamp(time.to_chrono().fixed_offset()),
        Value::Duration(span) => {
            let nanos = i64::try_from(span.as_nanos()).unwrap_or(i64::MAX);
            Cel::Duration(chrono::TimeDelta::nanoseconds(nanos))
        }
        Value::List(items) => Cel::List(Arc::new(items.iter().map(to_cel).collect())),
        Value::Map(members) => {
            Cel::from(members.iter().map(|(name, value)| (name.to_owned(), to_cel(value))).collect::<HashMap<_, _>>())
        }
    }
}

fn from_cel(value: &Cel) -> Option<Value> {
    Some(match value {
        Cel::Null => Value::Null,
        Cel::Bool(truth) => Value::Bool(*truth),
        Cel::Int(int) => Value::Int(*int),
        Cel::UInt(int) => Value::Int(i64::try_from(*int).ok()?),
        Cel::Float(double) => Value::Double(*double),
        Cel::String(text) => Value::string(text.as_str()),
        Cel::Timestamp(time) => Value::Timestamp(Timestamp::from_chrono(time.to_utc())),
        Cel::Duration(span) => Value::Duration(Span::from_nanos(i128::from(span.num_nanoseconds()?))?),
        Cel::List(items) => Value::List(items.iter().map(from_cel).collect::<Option<_>>()?),
        Cel::Map(members) => Value::Map(
            members
                .map
                .iter()
                .map(|(key, value)| {
                    let name = match key {
                        Key::String(text) => text.to_string(),
                        Key::Int(int) => int.to_string(),
                        Key::Uint(int) => int.to_string(),
                        Key::Bool(truth) => truth.to_string(),
                    };
                    Some((name.into_boxed_str(), from_cel(value)?))
                })
                .collect::<Option<_>>()?,
        ),
        _ => return None,
    })
}
