//! What the names in rules stand for before an entity is asked: the event at admission, the body at its source.

use std::borrow::Cow;

use super::expr::{Bindings, Fault, Root};
use crate::model::event::Event;
use crate::model::time::Timestamp;
use crate::model::value::Value;

/// `event`, and nothing else.
pub struct EventBindings<'a> {
    pub event: &'a Event,
    /// What the entity type's `time` made of the event time.
    pub time: Option<Timestamp>,
}

impl Bindings for EventBindings<'_> {
    fn read(&self, root: &Root) -> Result<Cow<'_, Value>, Fault> {
        match root {
            Root::Attribute(name) if &**name == "data" => {
                self.event.data.as_ref().map(Cow::Borrowed).ok_or(Fault::Missing(String::new()))
            }
            Root::Attribute(name) if &**name == "time" => {
                Ok(Cow::Owned(Value::Timestamp(self.time.unwrap_or(self.event.time))))
            }
            Root::Attribute(name) => self.event.attribute(name).map(Cow::Owned).ok_or(Fault::Missing(String::new())),
            Root::Event => {
                let mut map = self.event.extensions.clone();
                for name in ["id", "source", "type", "time", "subject", "data"] {
                    if let Some(value) = self.event.attribute(name) {
                        map.insert(name, value);
                    }
                }
                Ok(Cow::Owned(Value::Map(map)))
            }
            _ => Err(Fault::wrong("only `event` can be read here")),
        }
    }
}

/// What a source received, as `body`; a part of it, as `item`; what it knows of it beside, as `meta`.
pub struct BodyBindings<'a> {
    pub body: &'a Value,
    pub item: Option<&'a Value>,
    pub meta: Option<&'a Value>,
}

impl Bindings for BodyBindings<'_> {
    fn read(&self, root: &Root) -> Result<Cow<'_, Value>, Fault> {
        let read = match root {
            Root::Meta => self.meta,
            Root::Item => self.item,
            _ => Some(self.body),
        };
        read.map(Cow::Borrowed).ok_or(Fault::Missing(String::new()))
    }
}
