//! Admission: who takes an event, and everything about it that can be told from the event alone. What is wrong here is the
//! event's fault and refuses it whole, before any entity took it.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::{Arc, RwLock};

use smallvec::SmallVec;

use super::bindings::EventBindings;
use super::entity_rules::{EntityRules, FieldRules, KeyRules};
use super::expr::{Expr, Fault, Root};
use super::merge::SUM_DIGITS_MAX;
use crate::config::{SERVER_NAME_DEFAULT, glob_matches};
use crate::model::event::{Event, TimeGiven};
use crate::model::ids::{EntityKey, IdentityHash, Incarnation, PayloadHash};
use crate::model::json;
use crate::model::packed::Packed;
use crate::model::record::{EventInput, Merge, MergeValue, Take};
use crate::model::refusal::{Code, Refusal};
use crate::model::time::Timestamp;
use crate::model::value::Value;

/// So many event types are remembered with their takers; more are worked out anew each time.
const ROUTES_MAX: usize = 10_000;

/// All entity types' rules.
#[derive(Debug)]
pub struct Ruleset {
    types: Vec<Arc<EntityRules>>,
    ignore: Vec<String>,
    key_bytes_max: usize,
    server: Arc<str>,
    routes: RwLock<HashMap<Arc<str>, Arc<Route>>>,
}

/// What one entity type makes of an event, before its entity has seen it.
#[derive(Clone, Debug)]
pub struct Taken {
    pub rules: Arc<EntityRules>,
    pub entity: EntityKey,
    pub identity: IdentityHash,
    pub input: EventInput,
    /// Every merge the event asks for, whether it will change anything or not.
    pub merges: Vec<Merge>,
}

/// What each taker makes of an event; most events have one.
pub type Takers = SmallVec<[Box<Taken>; 1]>;

/// The entity types that take an event type, each with the fields that do.
#[derive(Debug)]
struct Route(Vec<(Arc<EntityRules>, Vec<u16>)>);

impl Ruleset {
    /// The rules of `types`; event types matching `ignore` may go to nobody.
    pub fn new(types: Vec<EntityRules>, ignore: &[String], key_bytes_max: usize) -> Self {
        Ruleset {
            types: types.into_iter().map(Arc::new).collect(),
            ignore: ignore.to_vec(),
            key_bytes_max,
            server: SERVER_NAME_DEFAULT.into(),
            routes: RwLock::default(),
        }
    }

    /// The same, on a server of this name.
    #[must_use]
    pub fn on_server(mut self, name: &str) -> Self {
        self.server = name.into();
        self
    }

    /// The server's name, which is part of every decision's source.
    pub fn server(&self) -> &Arc<str> {
        &self.server
    }

    /// Says in which incarnation of the data folder decisions are made; to be called before any is made.
    pub fn begin(&self, incarnation: Incarnation) {
        for rules in &self.types {
            // A second call is the same folder's, with the same incarnation.
            let _ = rules.first_revision.set(incarnation.first_revision());
        }
    }

    /// All entity types.
    pub fn types(&self) -> &[Arc<EntityRules>] {
        &self.types
    }

    /// The entity type called `name`.
    pub fn get(&self, name: &str) -> Option<&Arc<EntityRules>> {
        self.types.iter().find(|rules| &*rules.name == name)
    }

    /// Who takes the event, and what of it. Empty for an event that is ignored.
    ///
    /// # Errors
    /// The refusal, if any taker cannot take it.
    pub fn admit(&self, event: &Event) -> Result<Takers, Refusal> {
        let route = self.route(&event.kind);
        let mut takers = Takers::new();
        let mut shared = None;
        for (rules, fields) in &route.0 {
            let admission = Admission { rules, event, key_bytes_max: self.key_bytes_max };
            takers.extend(admission.take(fields, &mut shared, None)?);
        }
        if takers.is_empty() && !self.ignore.iter().any(|glob| glob_matches(glob, &event.kind)) {
            let message = if route.0.is_empty() {
                format!(
                    "no entity type takes events of type {:?}; declare it in a field's `on`, or list it in [server] ignore",
                    event.kind
                )
            } else {
                format!("every entity type's `if` leaves this event of type {:?} out", event.kind)
            };
            return Err(Refusal::new(Code::Unmatched, message));
        }
        Ok(takers)
    }

    /// What an entity makes of one of its own decisions that comes back to it as an event; `None` if its rules do not take
    /// it.
    ///
    /// # Errors
    /// The refusal, where the decision does not fit the rules.
    pub fn take_back(&self, entity: &EntityKey, event: &Event, hops: u8) -> Result<Option<Box<Taken>>, Refusal> {
        let route = self.route(&event.kind);
        let Some((rules, fields)) = route.0.iter().find(|(rules, _)| *rules.name == *entity.kind()) else {
            return Ok(None);
        };
        let admission = Admission { rules, event, key_bytes_max: self.key_bytes_max };
        let mut taken = admission.take(fields, &mut None, Some(entity.key()))?;
        if let Some(taken) = &mut taken {
            taken.input.hops = hops;
        }
        Ok(taken)
    }

    /// What an entity type makes of an event that counted for some entity when it came; `None` if it does not take it.
    ///
    /// # Errors
    /// The refusal, where the event does not fit the type's rules.
    pub fn take_again(
        &self,
        kind: &str,
        entity: &EntityKey,
        counted: &EventInput,
        event: &Event,
    ) -> Result<Option<Box<Taken>>, Refusal> {
        let route = self.route(&event.kind);
        let Some((rules, fields)) = route.0.iter().find(|(rules, _)| *rules.name == *kind) else { return Ok(None) };
        // What an entity decided itself came back to it, and to nobody else.
        let own = (counted.hops > 0).then(|| entity.key());
        if own.is_some() && entity.kind() != kind {
            return Ok(None);
        }
        let admission = Admission { rules, event, key_bytes_max: self.key_bytes_max };
        let mut taken = admission.take(fields, &mut Some((counted.event.clone(), counted.payload)), own)?;
        if let Some(taken) = &mut taken {
            taken.input.hops = counted.hops;
        }
        Ok(taken)
    }

    fn route(&self, kind: &Arc<str>) -> Arc<Route> {
        let known = self.routes.read().unwrap_or_else(std::sync::PoisonError::into_inner).get(kind).cloned();
        known.unwrap_or_else(|| {
            let taking = self.types.iter().filter_map(|rules| {
                let fields = rules.fields.iter().enumerate().filter(|(_, field)| field.takes(kind));
                let fields: Vec<u16> = fields.map(|(slot, _)| slot as u16).collect();
                (!fields.is_empty()).then(|| (rules.clone(), fields))
            });
            let route = Arc::new(Route(taking.collect()));
            let mut routes = self.routes.write().unwrap_or_else(std::sync::PoisonError::into_inner);
            if routes.len() < ROUTES_MAX {
                routes.insert(kind.clone(), route.clone());
            }
            route
        })
    }
}

/// What a field wants of an event whose type it takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Asked {
    /// That a value is merged, whether that changes anything or not.
    Merge,
    /// Nothing, says its `if`.
    Filtered,
    /// Nothing, since the event has no value for it.
    Nothing,
}

/// What the field in `slot` wanted of an event that was taken; `time` is what the entity type's `time` made of it.
pub(super) fn asked(rules: &Arc<EntityRules>, event: &Event, time: Option<Timestamp>, slot: u16) -> Asked {
    let (field, bindings) = (&rules.fields[usize::from(slot)], EventBindings { event, time });
    let admission = Admission { rules, event, key_bytes_max: usize::MAX };
    match (admission.is_for(field, &bindings), admission.merge(slot, field, &bindings)) {
        (Ok(false), _) => Asked::Filtered,
        (_, Ok(Some(_))) => Asked::Merge,
        _ => Asked::Nothing,
    }
}

/// One entity type looking at one event.
struct Admission<'a> {
    rules: &'a Arc<EntityRules>,
    event: &'a Event,
    key_bytes_max: usize,
}

type Shared = Option<(crate::model::event::PackedEvent, PayloadHash)>;

impl Admission<'_> {
    fn refusal(&self, code: Code, what: &str, why: &str) -> Refusal {
        Refusal::new(code, format!("{} of entity type `{}`: {why}", what, self.rules.name))
    }

    fn wrong(&self, what: &str, fault: &str) -> Refusal {
        self.refusal(Code::InvalidValue, what, fault)
    }

    /// An expression's value; `None` where it is missing.
    fn value<'e>(
        &self,
        what: &str,
        expr: &'e Expr,
        bindings: &'e EventBindings<'e>,
    ) -> Result<Option<Cow<'e, Value>>, Refusal> {
        match expr.evaluate(bindings) {
            Ok(value) => Ok(Some(value)),
            Err(Fault::Missing(_)) => Ok(None),
            Err(Fault::Wrong(why)) => Err(self.wrong(what, &why)),
        }
    }

    fn test(&self, what: &str, expr: &Expr, bindings: &EventBindings<'_>) -> Result<bool, Refusal> {
        match expr.test(bindings) {
            Ok(truth) => Ok(truth),
            Err(Fault::Missing(_)) => Ok(false),
            Err(Fault::Wrong(why)) => Err(self.wrong(what, &why)),
        }
    }

    /// What the entity type makes of the event; `None` where its `if` leaves it out. `key` is known of what comes back.
    fn take(&self, fields: &[u16], shared: &mut Shared, key: Option<&str>) -> Result<Option<Box<Taken>>, Refusal> {
        let plain = EventBindings { event: self.event, time: None };
        if let Some(condition) = &self.rules.condition
            && !self.test("`if`", condition, &plain)?
        {
            return Ok(None);
        }
        let time = self.rules.time.as_ref().map(|expr| self.time(expr, &plain)).transpose()?;
        if self.rules.require_time && time.is_none() && self.event.time_given == TimeGiven::AtReceipt {
            return Err(Refusal::new(
                Code::MissingTime,
                format!("entity type `{}` requires every event to carry a `time` (RFC 3339)", self.rules.name),
            ));
        }
        let bindings = EventBindings { event: self.event, time };
        let key = key.map_or_else(|| self.key(&bindings), |key| Ok(key.into()))?;
        let id = self.rules.id.as_ref().map(|expr| self.id(expr, &bindings)).transpose()?;
        let mut merges = Vec::with_capacity(fields.len());
        for slot in fields {
            merges.extend(self.merge(*slot, &self.rules.fields[usize::from(*slot)], &bindings)?);
        }
        let (packed, payload) = shared.get_or_insert_with(|| (self.event.packed(), self.event.payload_hash())).clone();
        let input = EventInput { event: packed, payload, id, time, hops: 0, sequence: None };
        Ok(Some(Box::new(Taken {
            rules: self.rules.clone(),
            entity: EntityKey::new(&self.rules.name, key),
            identity: IdentityHash::of(&self.event.source, input.id()),
            input,
            merges,
        })))
    }

    fn time(&self, expr: &Expr, bindings: &EventBindings<'_>) -> Result<Timestamp, Refusal> {
        match self.value("`time`", expr, bindings)?.as_deref() {
            Some(Value::Timestamp(time)) => Ok(*time),
            Some(Value::String(text)) => Timestamp::parse(text)
                .ok_or_else(|| self.refusal(Code::InvalidTime, "`time`", &format!("{text:?} is no RFC 3339 time"))),
            Some(other) => Err(self.refusal(Code::InvalidTime, "`time`", &format!("{} is no time", other.described()))),
            None => Err(self.refusal(Code::MissingTime, "`time`", "the event does not have it")),
        }
    }

    fn key(&self, bindings: &EventBindings<'_>) -> Result<Arc<str>, Refusal> {
        let expr = match &self.rules.key {
            KeyRules::Expr(expr) => Some(expr),
            KeyRules::ByType(table) => {
                table.iter().find(|(glob, _)| glob_matches(glob, &self.event.kind)).map(|(_, expr)| expr)
            }
        };
        let missing = |why: &str| self.refusal(Code::MissingKey, "`key`", why);
        let expr = expr.ok_or_else(|| missing(&format!("no entry for events of type {:?}", self.event.kind)))?;
        let key = match expr.evaluate(bindings) {
            Ok(key) => key,
            Err(Fault::Missing(path)) => return Err(missing(&format!("the event has no {path}"))),
            Err(Fault::Wrong(why)) => return Err(self.refusal(Code::InvalidKey, "`key`", &why)),
        };
        let key: Arc<str> = match &*key {
            Value::String(text) => (&**text).into(),
            Value::Null => return Err(missing("it is null")),
            other => other.whole_text().map(Arc::from).ok_or_else(|| {
                let why = format!("a key is a string or an integer, this is {}", other.described());
                self.refusal(Code::InvalidKey, "`key`", &why)
            })?,
        };
        if key.is_empty() {
            return Err(self.refusal(Code::InvalidKey, "`key`", "it is empty"));
        }
        if key.len() > self.key_bytes_max {
            let why = format!("{} bytes are more than limits.key_bytes_max = {}", key.len(), self.key_bytes_max);
            return Err(self.refusal(Code::InvalidKey, "`key`", &why));
        }
        Ok(key)
    }

    fn id(&self, expr: &Expr, bindings: &EventBindings<'_>) -> Result<Box<str>, Refusal> {
        match self.value("`id`", expr, bindings)?.as_deref() {
            Some(Value::String(text)) if !text.is_empty() => Ok(text.clone()),
            None | Some(Value::Null | Value::String(_)) => {
                Err(self.refusal(Code::MissingId, "`id`", "the event does not have it"))
            }
            Some(other) => other.whole_text().ok_or_else(|| {
                self.wrong("`id`", &format!("an id is a string or an integer, this is {}", other.described()))
            }),
        }
    }

    /// Whether a field's `if` lets the event in.
    fn is_for(&self, field: &FieldRules, bindings: &EventBindings<'_>) -> Result<bool, Refusal> {
        let what = || format!("`if` of field `{}`", field.name);
        field.condition.as_ref().map_or(Ok(true), |condition| self.test(&what(), condition, bindings))
    }

    /// The merge a field asks for; `None` where it is left alone.
    fn merge(&self, slot: u16, field: &FieldRules, bindings: &EventBindings<'_>) -> Result<Option<Merge>, Refusal> {
        let what = |part: &str| format!("`{part}` of field `{}`", field.name);
        if !self.is_for(field, bindings)? {
            return Ok(None);
        }
        let by = match &field.by {
            None => None,
            Some(expr) => match self.value(&what("by"), expr, bindings)?.as_deref() {
                None | Some(Value::Null) => return Ok(None),
                Some(Value::String(text)) => Some(text.clone()),
                Some(Value::Bool(truth)) => Some(truth.to_string().into()),
                Some(other) => Some(other.whole_text().ok_or_else(|| {
                    let why = format!("a string, integer or bool is needed, this is {}", other.described());
                    self.wrong(&what("by"), &why)
                })?),
            },
        };
        let order = match &field.order_by {
            None => None,
            Some(expr) if expr.as_root() == Some(&Root::Attribute("time".into())) => None,
            Some(expr) => match self.value(&what("order_by"), expr, bindings)?.as_deref() {
                None | Some(Value::Null) => return Ok(None),
                Some(Value::List(_) | Value::Map(_)) => {
                    return Err(self.wrong(&what("order_by"), "lists and maps have no order"));
                }
                Some(order) => Some(order.clone()),
            },
        };
        let value = match field.take {
            Take::Count => MergeValue::Inline(Packed::new(&Value::Null)),
            _ => match self.merged_value(field, bindings)? {
                Some(value) => value,
                None => return Ok(None),
            },
        };
        Ok(Some(Merge { slot, take: field.take, by, order, value }))
    }

    fn merged_value(&self, field: &FieldRules, bindings: &EventBindings<'_>) -> Result<Option<MergeValue>, Refusal> {
        let what = || format!("`value` of field `{}`", field.name);
        let root = field.value.as_ref().map(Expr::as_root);
        let is_data = root.is_none_or(|root| root == Some(&Root::Attribute("data".into())));
        let value = match &field.value {
            Some(expr) => self.value(&what(), expr, bindings)?,
            None => self.event.data.as_ref().map(Cow::Borrowed),
        };
        let Some(value) = value else { return Ok(None) };
        if matches!(&*value, Value::Null) && field.take != Take::Latest {
            return Ok(None);
        }
        check_value(field.take, &value).map_err(|why| self.wrong(&what(), &why))?;
        Ok(Some(match &*value {
            _ if is_data => MergeValue::Data,
            Value::Timestamp(_) if root == Some(Some(&Root::Attribute("time".into()))) => MergeValue::Time,
            value => MergeValue::Inline(Packed::new(value)),
        }))
    }
}

/// Whether the operator can merge the value; else why not.
fn check_value(take: Take, value: &Value) -> Result<(), String> {
    match take {
        Take::Sum => match value.to_decimal() {
            Some(number) if number.fits(SUM_DIGITS_MAX) => Ok(()),
            Some(_) => Err(format!("a summand has at most {SUM_DIGITS_MAX} digits before and after the point")),
            None => Err(format!("only numbers can be summed, {} is {}", json::to_string(value), value.described())),
        },
        Take::Min | Take::Max => match value {
            Value::List(_) | Value::Map(_) => {
                Err(format!("{} has no order, so no smallest or largest", value.described()))
            }
            Value::Double(double) if double.is_nan() => Err("not a number".to_owned()),
            _ => Ok(()),
        },
        _ => Ok(()),
    }
}
