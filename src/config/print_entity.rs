//! Writes entity types back as TOML.

use super::decision_reader::SELF;
use super::diagnostics::{Expr, Located};
use super::entities::{
    DUPLICATES, Data, Deadline, Decision, Effect, EntityType, Expire, Feedback, Field, GUARANTEES, Guarantee, Json,
    KeyRule, POLICIES, Reference, Request, Template, word,
};
use super::print::{Printer, Secrets, inline, list, quote, quote_plain};
use super::retry::format_retry;
use super::units::format_duration;

/// Headers that hold no secret; of others, any text may be a password or token.
const OPEN_HEADERS: [&str; 3] = ["accept", "content-type", "user-agent"];

impl Printer {
    pub fn entity(&mut self, entity: &EntityType) {
        let name = &entity.name.value;
        self.table(&format!("entity.{name}"));
        match &entity.key {
            KeyRule::Expr(expr) => self.text("key", expr),
            KeyRule::ByType(rules) => self.value("key", &inline(rules.iter().map(named))),
        }
        self.expr("id", entity.id.as_ref());
        self.expr("time", entity.time.as_ref());
        self.expr("if", entity.condition.as_ref());
        if let Some(window) = entity.dedupe {
            self.duration("dedupe", window);
        }
        if let Some(Expire { after, decision }) = &entity.expire {
            let after = quote(&format_duration(*after));
            let decision = decision.as_ref().map(|name| format!("decision = {}", quote(name)));
            self.value("expire", &decision.map_or(after.clone(), |it| inline([format!("after = {after}"), it])));
        }
        self.text("duplicates", word(&DUPLICATES, &entity.duplicates));
        self.value("require_time", &entity.require_time.to_string());
        self.table(&format!("entity.{name}.fields"));
        for item in &entity.fields {
            self.value(&item.name, &field(item));
        }
        if !entity.derived.is_empty() {
            self.table(&format!("entity.{name}.derived"));
            entity.derived.iter().for_each(|(name, expr)| self.text(name, expr));
        }
        if !entity.complete.is_empty() {
            self.table(&format!("entity.{name}.complete"));
            self.value("fields", &list(entity.complete.iter().map(|name| &name.value)));
        }
        entity.references.iter().for_each(|reference| self.reference(name, reference));
        entity.deadlines.iter().for_each(|deadline| self.deadline(name, deadline));
        entity.effects.iter().for_each(|effect| self.effect(name, effect));
        entity.decisions.iter().for_each(|decision| self.decision(name, decision));
    }

    fn reference(&mut self, entity: &str, reference: &Reference) {
        self.table(&format!("entity.{entity}.ref.{}", reference.name.value));
        self.text("entity", &reference.entity);
        self.text("key", &reference.key);
    }

    fn deadline(&mut self, entity: &str, deadline: &Deadline) {
        self.table(&format!("entity.{entity}.deadline.{}", deadline.name.value));
        self.text("at", &deadline.at);
        self.expr("unless", deadline.unless.as_ref());
        self.duration("grace", deadline.grace);
    }

    fn effect(&mut self, entity: &str, effect: &Effect) {
        let title = format!("entity.{entity}.effect.{}", effect.name.value);
        self.table(&title);
        self.text("when", effect.when_text());
        self.duration("timeout", effect.timeout);
        self.text("guarantee", word(&GUARANTEES, &effect.guarantee));
        if effect.guarantee == Guarantee::AtLeastOnce {
            let retry = effect.retry;
            self.value("retry", &format_retry(retry.attempts, (retry.backoff_min, retry.backoff_max)));
        }
        self.value("concurrency", &effect.concurrency.to_string());
        self.text("policy", word(&POLICIES, &effect.policy));
        self.table(&format!("{title}.request"));
        self.request(&effect.request);
    }

    fn request(&mut self, request: &Request) {
        self.text("method", &request.method);
        let is_hidden = self.secrets == Secrets::Hidden;
        // What is asked for in a query may be a key.
        let url = if is_hidden { request.url.masked(Some('?')) } else { request.url.text() };
        self.text("url", &url);
        if !request.headers.is_empty() {
            self.value("headers", &inline(request.headers.iter().map(|it| header(it, self.secrets))));
        }
        if let Some(document) = &request.json {
            self.value("json", &json(document));
        }
    }

    fn decision(&mut self, entity: &str, decision: &Decision) {
        self.table(&format!("entity.{entity}.decision.{}", decision.name.value));
        self.text("when", decision.when_text());
        match &decision.data {
            Data::None => {}
            Data::Value(expr) => self.text("data", expr),
            Data::Table(entries) => self.value("data", &inline(entries.iter().map(named))),
        }
        self.text("policy", word(&POLICIES, &decision.policy));
        self.expr("by", decision.by.as_ref());
        if let Some(settle) = decision.settle {
            self.duration("settle", settle);
        }
        if let Some(to) = &decision.to {
            let own = (decision.feedback == Feedback::ToSelf).then(|| SELF.to_owned());
            self.value("to", &list(to.iter().chain(own.as_ref())));
        }
    }
}

fn field(field: &Field) -> String {
    let on = list(field.on.iter().map(|glob| &glob.value));
    let mut parts = vec![format!("on = {on}"), format!("take = {}", quote(field.take.name()))];
    let condition = field.condition.as_ref().map(|expr| expr.as_str());
    let by = field.by.as_ref().map(|expr| expr.as_str());
    let expressions =
        [("value", field.value_text()), ("order_by", field.order_by_text()), ("if", condition), ("by", by)];
    parts.extend(expressions.iter().filter_map(|(name, expr)| Some(format!("{name} = {}", quote((*expr)?)))));
    parts.extend(field.keep.map(|keep| format!("keep = {keep}")));
    inline(parts)
}

fn header((name, value): &(Located<String>, Template), secrets: Secrets) -> String {
    let is_open = OPEN_HEADERS.contains(&name.as_str());
    // One that is always the same means the same whatever it is.
    let is_kept = secrets == Secrets::Kept && value.constant().is_none();
    let shown = if is_open || is_kept { value.text() } else { value.masked(None) };
    format!("{} = {}", quote_plain(name), quote(&shown))
}

fn json(document: &Json) -> String {
    match document {
        Json::Expr(expr) => quote(expr),
        Json::Literal(text) => text.clone(),
        Json::List(items) => format!("[{}]", items.iter().map(json).collect::<Vec<_>>().join(", ")),
        Json::Table(entries) => {
            inline(entries.iter().map(|(name, value)| format!("{} = {}", quote_plain(name), json(value))))
        }
    }
}

/// A quoted name and an expression, as an entry of an inline table.
fn named((name, expr): &(Located<String>, Expr)) -> String {
    format!("{} = {}", quote_plain(name), quote(expr))
}
