//! An effect's request, with the entity's values in it.

use super::entity_rules::{JsonRules, RequestRules, TemplateRules, TextRules};
use super::expr::{Bindings, Fault};
use crate::model::json;
use crate::model::value::{Map, Value};

/// The request: `method`, `url`, `headers` (those that depend on the entity), and `json` if it has a body.
pub(super) fn rendered(rules: &RequestRules, bindings: &dyn Bindings) -> Result<Value, Fault> {
    let mut request = Map::default();
    request.insert("method", Value::string(&*rules.method));
    request.insert("url", Value::string(text(&rules.url, bindings)?));
    let mut headers = Map::default();
    for (name, value) in &rules.headers {
        let value = text(value, bindings)?;
        if value.bytes().any(|byte| byte < b' ' && byte != b'\t' || byte == 0x7f) {
            return Err(Fault::Wrong(format!("header `{name}` would have a control character")));
        }
        headers.insert(&**name, Value::string(value));
    }
    request.insert("headers", Value::Map(headers));
    if let Some(rules) = &rules.json {
        request.insert("json", document(rules, bindings)?);
    }
    Ok(Value::Map(request))
}

fn text(rules: &TemplateRules, bindings: &dyn Bindings) -> Result<String, Fault> {
    let mut text = String::new();
    for part in &rules.0 {
        match part {
            TextRules::Text(constant) => text.push_str(constant),
            TextRules::Expr(expr) => match &*expr.evaluate(bindings)? {
                Value::String(value) => text.push_str(value),
                Value::Null => return Err(Fault::Missing(String::new())),
                Value::List(_) | Value::Map(_) => {
                    return Err(Fault::wrong("lists and maps cannot be put into text"));
                }
                // A timestamp, duration or number as documents show it.
                other => text.push_str(json::to_string(other).trim_matches('"')),
            },
        }
    }
    Ok(text)
}

fn document(rules: &JsonRules, bindings: &dyn Bindings) -> Result<Value, Fault> {
    Ok(match rules {
        JsonRules::Expr(expr) => expr.evaluate(bindings)?.into_owned(),
        JsonRules::Literal(value) => value.clone(),
        JsonRules::List(items) => {
            Value::List(items.iter().map(|item| document(item, bindings)).collect::<Result<_, _>>()?)
        }
        JsonRules::Table(members) => {
            let mut map = Map::default();
            for (name, rules) in members {
                map.insert(name.clone(), document(rules, bindings)?);
            }
            Value::Map(map)
        }
    })
}
