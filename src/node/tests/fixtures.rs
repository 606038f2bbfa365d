//! Rules and events for these tests, and folders whose copies are what a crash leaves.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use tempfile::TempDir;

use crate::config::{self, Diagnostics, Tuning};
use crate::model::event::{Event, TimeGiven};
use crate::model::ids::{EntityKey, PayloadHash};
use crate::model::json;
use crate::model::state::State;
use crate::model::time::Timestamp;
use crate::model::value::Map;
use crate::rules::{self, Ruleset, Taken, Verdict, compile};

/// `order` and `tally` take the same events; `recent` forgets identities after an hour, `brief` after a second.
pub(super) const RULES: &str = r#"
[entity.order]
key = "event.data.key"
[entity.order.fields]
last = { on = "Added", take = "latest", value = "event.data.n" }
total = { on = "Added", take = "sum", value = "event.data.n" }
[entity.order.complete]
fields = ["last"]
[entity.order.decision.Large]
when = "order.total > 100"
data = { total = "order.total" }
[entity.order.decision.Seen]
data = { last = "order.last" }
[entity.tally]
key = "event.data.key"
[entity.tally.fields]
times = { on = "Added", take = "count" }
[entity.recent]
key = "event.data.recent"
dedupe = "1h"
[entity.recent.fields]
times = { on = "Heard", take = "count" }
[entity.brief]
key = "event.data.brief"
dedupe = "1s"
[entity.brief.fields]
times = { on = "Mentioned", take = "count" }
"#;

/// Decides as the rules do, but panics in `order` for events whose id begins with `panic`.
pub(super) fn decide(state: &State, taken: Box<Taken>, prior: Option<PayloadHash>, now: Timestamp) -> Verdict {
    assert!(!(taken.input.event.id.starts_with("panic") && taken.entity.kind() == "order"), "a rule went wrong");
    rules::decide(state, taken, prior, now)
}

/// The order with this key.
pub(super) fn order(key: &str) -> EntityKey {
    EntityKey::new("order", key)
}

/// An event of type `Added`.
pub(super) fn added(id: &str, key: &str, n: i64) -> Event {
    event(id, "Added", &format!(r#"{{"key":"{key}","n":{n}}}"#))
}

/// An event of this type.
pub(super) fn event(id: &str, kind: &str, data: &str) -> Event {
    Event {
        source: "test".into(),
        id: id.into(),
        kind: kind.into(),
        time: Timestamp::parse("2026-11-20T10:00:00Z").unwrap(),
        time_given: TimeGiven::BySender,
        subject: None,
        data: Some(json::parse(data.as_bytes(), 8).unwrap()),
        extensions: Map::default(),
    }
}

/// Rules from a configuration text.
pub(super) fn ruleset(text: &str) -> Arc<Ruleset> {
    let (config, types) = compiled(text);
    Arc::new(Ruleset::new(types, &config.server.ignore, 1024))
}

fn compiled(text: &str) -> (config::Config, Vec<rules::EntityRules>) {
    let loaded = config::load_str(text, &|_| None);
    let config = loaded.config.unwrap_or_else(|| panic!("{}", loaded.diagnostics.render(&loaded.files)));
    let mut diagnostics = Diagnostics::default();
    let types = compile(&config.entities, &loaded.files, &mut diagnostics).unwrap_or_default();
    assert!(!diagnostics.has_errors(), "{}", diagnostics.render(&loaded.files));
    (config, types)
}

/// Tuning as it is without any setting.
pub(in crate::node) fn tuning() -> Tuning {
    compiled(RULES).0.tuning
}

/// A data folder; copies of it are what a crash leaves.
pub(super) struct Folder(TempDir);

impl Folder {
    pub fn new() -> Self {
        Folder(tempfile::tempdir().unwrap())
    }

    pub fn path(&self) -> &Path {
        self.0.path()
    }

    /// What is on the disk now. Nothing may be writing.
    pub fn copy(&self) -> Folder {
        let copy = Folder::new();
        copy_into(self.path(), copy.path());
        copy
    }
}

fn copy_into(from: &Path, to: &Path) {
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target: PathBuf = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            std::fs::create_dir(&target).unwrap();
            copy_into(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}
