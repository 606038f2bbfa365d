//! What is said on a socket, in both directions: JSON documents, one a message.

use serde::Deserialize;
use serde_json::{Value, json};

use super::end::End;
use super::feed::Item;
use super::start::Start;
use super::subject::{DecisionFilter, Subject};
use crate::admin::position::Position;
use crate::admin::problem::{Problem, suggest};
use crate::model::ids::EntityKey;
use crate::model::json::write_string;
use crate::rules::Ruleset;

/// Longest name of a subscription.
const NAME_BYTES_MAX: usize = 100;

/// What a client asks for.
pub(super) enum Asked {
    Subscribe { name: String, subject: Subject, start: Start },
    Unsubscribe { name: String },
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Message {
    subscribe: Option<String>,
    unsubscribe: Option<String>,
    to: Option<To>,
    /// Of subscriptions to decisions.
    filter: Option<Filter>,
    after: Option<String>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum To {
    Decisions(DecisionsWord),
    Entities(Entities),
}

#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum DecisionsWord {
    Decisions,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Entities {
    r#type: String,
    key: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Filter {
    r#type: Option<String>,
    key: Option<String>,
    decision: Option<String>,
}

impl Asked {
    /// Reads a client's message.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(text: &str, ruleset: &Ruleset) -> Result<Self, Problem> {
        let message: Message = serde_json::from_str(text).map_err(|error| {
            Problem::invalid(format!(
                "the message is wrong: {error}; write {{\"subscribe\":NAME,\"to\":\"decisions\"}}, \
                 {{\"subscribe\":NAME,\"to\":{{\"type\":TYPE,\"key\":KEY}}}} or {{\"unsubscribe\":NAME}}"
            ))
        })?;
        match message {
            Message { subscribe: Some(name), unsubscribe: None, to: Some(to), filter, after } => {
                if name.is_empty() || name.len() > NAME_BYTES_MAX {
                    return Err(Problem::invalid(format!("subscribe: a name has 1 to {NAME_BYTES_MAX} bytes")));
                }
                let subject = subject(to, filter, ruleset)?;
                Ok(Asked::Subscribe { name, subject, start: Start::after(after.as_deref())? })
            }
            Message { subscribe: None, unsubscribe: Some(name), to: None, filter: None, after: None } => {
                Ok(Asked::Unsubscribe { name })
            }
            _ => Err(Problem::invalid("a message says either `subscribe` and `to`, or `unsubscribe`")),
        }
    }
}

/// The name of the subscription that a message is about, even if something else in it is wrong.
pub(super) fn name(text: &str) -> Option<String> {
    let message: Value = serde_json::from_str(text).ok()?;
    let name = message.get("subscribe").or_else(|| message.get("unsubscribe"))?.as_str()?;
    (name.len() <= NAME_BYTES_MAX).then(|| name.to_owned())
}

fn subject(to: To, filter: Option<Filter>, ruleset: &Ruleset) -> Result<Subject, Problem> {
    let Entities { r#type, key } = match to {
        To::Decisions(DecisionsWord::Decisions) => {
            let Filter { r#type, key, decision } = filter.unwrap_or_default();
            return Ok(Subject::Decisions(DecisionFilter::new(ruleset, r#type, key, decision)?));
        }
        To::Entities(_) if filter.is_some() => {
            return Err(Problem::invalid("`filter` is for subscriptions to decisions"));
        }
        To::Entities(entities) => entities,
    };
    let rules = ruleset.get(&r#type).cloned().ok_or_else(|| {
        let known = ruleset.types().iter().map(|rules| &*rules.name);
        Problem::not_found(format!("no entity type is called {:.80?}{}", r#type, suggest(&r#type, known)))
    })?;
    Ok(match key {
        Some(key) => {
            let entity = EntityKey::new(&rules.name, key);
            Subject::Entity(rules, entity)
        }
        None => Subject::Type(rules),
    })
}

/// The subscription `name` begins after `position`.
pub(super) fn subscribed(name: &str, position: Position) -> String {
    json!({ "subscribed": name, "id": position.to_string() }).to_string()
}

/// The subscription is over, because the client wants it so.
pub(super) fn unsubscribed(name: &str, position: Position) -> String {
    json!({ "unsubscribed": name, "id": position.to_string() }).to_string()
}

/// Nothing that the subscription wants lies before `position`.
pub(super) fn passed(name: &str, position: Position) -> String {
    json!({ "passed": name, "id": position.to_string() }).to_string()
}

/// The subscription is over; go on after `position`.
pub(super) fn ended(name: &str, position: Position, end: &End) -> String {
    json!({ "ended": name, "id": position.to_string(), "code": end.code, "detail": end.detail }).to_string()
}

/// The last message.
pub(super) fn end(end: &End) -> String {
    json!({ "end": end.document() }).to_string()
}

/// What was asked for cannot be done.
pub(super) fn error(name: Option<&str>, problem: &Problem) -> String {
    let mut document = json!({ "error": problem.document() });
    if let Some(name) = name {
        document["subscription"] = Value::from(name);
    }
    document.to_string()
}

/// An item of a subscription.
pub(super) fn item(name: &str, item: &Item) -> String {
    let mut out = b"{\"subscription\":".to_vec();
    write_string(&mut out, name);
    out.extend_from_slice(format!(r#","event":"{}","id":"{}","data":"#, item.event, item.position).as_bytes());
    out.extend_from_slice(&item.json);
    out.push(b'}');
    // JSON is UTF-8: nothing is lost.
    String::from_utf8_lossy(&out).into_owned()
}
