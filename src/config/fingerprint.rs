//! The canonical text of an entity type: the same for declarations that mean the same, whatever order or file they are
//! written in and whether defaults are spelled out.

use std::fmt::Write;

use super::diagnostics::{Expr, Located};
use super::entities::{
    DUPLICATES, Data, Deadline, Decision, Effect, EntityType, Expire, Feedback, Field, GUARANTEES, Json, KeyRule,
    POLICIES, Reference, Request, word,
};

/// Changes when this text would come out differently for the same declaration.
const FORMAT: u32 = 1;

impl EntityType {
    /// Everything in this declaration as canonical text, for a caller to hash and compare with what data was stored under.
    pub fn fingerprint_text(&self) -> String {
        let mut lines = Vec::new();
        match &self.key {
            KeyRule::Expr(expr) => lines.push(format!("key {:?}", expr.value)),
            KeyRule::ByType(rules) => lines.extend(rules.iter().map(|(glob, e)| format!("key {:?} {:?}", **glob, **e))),
        }
        for (name, expr) in [("id", &self.id), ("time", &self.time), ("if", &self.condition)] {
            lines.extend(expr.as_ref().map(|expr| format!("{name} {:?}", expr.value)));
        }
        lines.extend(self.dedupe.map(|window| format!("dedupe {}ms", window.as_millis())));
        if let Some(Expire { after, decision }) = &self.expire {
            let decision = decision.as_ref().map_or(String::new(), |name| format!(" {}", name.value));
            lines.push(format!("expire {}ms{decision}", after.as_millis()));
        }
        lines.push(format!("duplicates {}", word(&DUPLICATES, &self.duplicates)));
        lines.push(format!("require_time {}", self.require_time));
        lines.extend(self.fields.iter().map(field));
        lines.extend(self.derived.iter().map(|(name, expr)| format!("derived {} {:?}", **name, **expr)));
        lines.extend(self.complete.iter().map(|name| format!("complete {}", name.value)));
        lines.extend(self.references.iter().map(reference));
        lines.extend(self.deadlines.iter().map(deadline));
        lines.extend(self.effects.iter().map(effect));
        lines.extend(self.decisions.iter().map(decision));
        lines.sort();
        format!("format {FORMAT}\nentity {}\n{}\n", self.name.value, lines.join("\n"))
    }
}

fn field(field: &Field) -> String {
    let mut text = format!("field {} take {} on {}", *field.name, field.take.name(), sorted(&field.on));
    let by = field.by.as_ref().map(|expr| expr.as_str());
    let condition = field.condition.as_ref().map(|expr| expr.as_str());
    let parts = [("value", field.value_text()), ("order_by", field.order_by_text()), ("if", condition), ("by", by)];
    for (name, expr) in parts {
        if let Some(expr) = expr {
            let _ = write!(text, " {name} {expr:?}");
        }
    }
    if let Some(keep) = field.keep {
        let _ = write!(text, " keep {keep}");
    }
    text
}

fn reference(Reference { name, entity, key }: &Reference) -> String {
    format!("ref {} entity {} key {:?}", **name, **entity, **key)
}

fn deadline(deadline: &Deadline) -> String {
    let mut text = format!("deadline {} at {:?}", *deadline.name, *deadline.at);
    if let Some(unless) = &deadline.unless {
        let _ = write!(text, " unless {:?}", unless.value);
    }
    let _ = write!(text, " grace {}ms", deadline.grace.as_millis());
    text
}

/// Without how and how often it is called, and without the texts of headers that are always the same: a token may be
/// replaced.
fn effect(effect: &Effect) -> String {
    let guarantee = word(&GUARANTEES, &effect.guarantee);
    let policy = word(&POLICIES, &effect.policy);
    let request = request(&effect.request);
    format!("effect {} policy {policy} guarantee {guarantee} when {:?} {request}", *effect.name, effect.when_text())
}

fn request(request: &Request) -> String {
    let mut text = format!("request {} {:?}", request.method, request.url.text());
    let mut headers: Vec<_> = request.headers.iter().collect();
    headers.sort_by_key(|(name, _)| name.as_str());
    for (name, value) in headers {
        let _ = write!(text, " header {}", name.value);
        if value.constant().is_none() {
            let _ = write!(text, " {:?}", value.text());
        }
    }
    if let Some(document) = &request.json {
        let _ = write!(text, " json {}", json(document));
    }
    text
}

fn json(document: &Json) -> String {
    match document {
        Json::Expr(expr) => format!("{:?}", expr.value),
        Json::Literal(text) => text.clone(),
        Json::List(items) => format!("[{}]", items.iter().map(json).collect::<Vec<_>>().join(" ")),
        Json::Table(entries) => {
            let mut entries: Vec<String> =
                entries.iter().map(|(name, value)| format!("{:?} {}", **name, json(value))).collect();
            entries.sort();
            format!("{{{}}}", entries.join(" "))
        }
    }
}

fn decision(decision: &Decision) -> String {
    let policy = word(&POLICIES, &decision.policy);
    let mut text = format!("decision {} policy {policy} when {:?}", *decision.name, decision.when_text());
    match &decision.data {
        Data::None => {}
        Data::Value(expr) => {
            let _ = write!(text, " value {:?}", expr.value);
        }
        Data::Table(entries) => {
            let mut entries: Vec<String> =
                entries.iter().map(|(name, expr)| format!("{:?} {:?}", **name, **expr)).collect();
            entries.sort();
            let _ = write!(text, " data {}", entries.join(" "));
        }
    }
    if let Some(to) = &decision.to {
        let mut to = to.clone();
        to.sort();
        let _ = write!(text, " to {to:?}");
    }
    if let Some(by) = &decision.by {
        let _ = write!(text, " by {:?}", by.value);
    }
    if let Some(settle) = decision.settle {
        let _ = write!(text, " settle {}ms", settle.as_millis());
    }
    if decision.feedback == Feedback::ToSelf {
        text.push_str(" self");
    }
    text
}

fn sorted(names: &[Located<String>]) -> String {
    let mut names: Vec<&str> = names.iter().map(|name| name.as_str()).collect();
    names.sort_unstable();
    names.dedup();
    format!("{names:?}")
}

/// The order in which globs are tried: exact types first, then by how much text they fix, then by name.
pub(super) fn by_specificity(rules: &mut [(Located<String>, Expr)]) {
    rules.sort_by_key(|(glob, _)| {
        let fixed = glob.len() - glob.matches('*').count();
        (glob.contains('*'), std::cmp::Reverse(fixed), glob.value.clone())
    });
}
