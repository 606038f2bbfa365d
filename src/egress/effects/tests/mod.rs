//! The runner against entities in memory: `running` with calls that answer as the test says, in simulated time; `calling`
//! with calls to a server on this machine that behaves badly in every way one does.

mod calling;
mod running;
mod server;

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::{Notify, oneshot};

use super::NoteStep;
use crate::config::{self, Limits};
use crate::model::dealings::Call;
use crate::model::dealings::{Dealings, EffectOutcome};
use crate::model::ids::{EntityKey, Lsn};
use crate::model::json;
use crate::model::packed::Packed;
use crate::model::record::Input;
use crate::model::settle::Noted;
use crate::model::time::Timestamp;
use crate::rules::{Ruleset, compile};

/// Rules with one effect, `application.pull`, and limits.
fn configured(effect: &str) -> (Ruleset, Limits) {
    let text = format!(
        "[limits]\neffect_response_bytes_max = \"1KiB\"\n\
         [entity.application]\nkey = \"event.data.id\"\nfields.asked = {{ on = \"Asked\", take = \"latest\" }}\n\
         [entity.application.effect.pull]\n{effect}\n\
         [entity.application.effect.pull.request]\nurl = \"http://bureau/\"\n\
         headers = {{ authorization = \"Bearer secret\" }}\n"
    );
    let mut loaded = config::load_str(&text, &|_| None);
    let config = loaded.config.take().unwrap_or_else(|| panic!("{}", loaded.diagnostics.render(&loaded.files)));
    let types = compile(&config.entities, &loaded.files, &mut loaded.diagnostics).unwrap_or_default();
    assert!(!loaded.diagnostics.has_errors(), "{}\n{text}", loaded.diagnostics.render(&loaded.files));
    (Ruleset::new(types, &[], 512), config.tuning.limits)
}

/// The request of the application `key`, of which so many attempts were begun.
fn call(key: &str, attempts: u32, url: &str) -> Call {
    let request =
        format!(r#"{{"method":"POST","url":"{url}","headers":{{"x-key":"{key}"}},"json":{{"b":1.50,"a":"ü"}}}}"#);
    Call {
        entity: EntityKey::new("application", key),
        effect: "pull".into(),
        run: 1,
        request: Packed::new(&json::parse(request.as_bytes(), 8).unwrap()),
        attempts,
        correlation: "c".into(),
        trace: None,
    }
}

/// What entities record of effects.
#[derive(Default)]
struct Entities {
    known: Mutex<Known>,
    changed: Notify,
}

#[derive(Default)]
struct Known {
    dealings: HashMap<Box<str>, Dealings>,
    /// What is recorded, in words.
    steps: Vec<String>,
    outcomes: Vec<(Box<str>, EffectOutcome)>,
    /// Steps are not answered but kept here.
    held: Option<Vec<(EntityKey, Input, oneshot::Sender<Noted>)>>,
}

impl Entities {
    /// Records that a call is asked for, with what was begun of it.
    fn ask(&self, call: &Call) {
        let mut known = self.known.lock().unwrap();
        let dealings = known.dealings.entry(call.entity.key().into()).or_default();
        dealings.request(&call.effect, call.run, call.request.clone(), Timestamp::now());
        for attempt in 1..=call.attempts {
            assert!(dealings.start(&call.effect, call.run, attempt));
        }
    }

    fn note_step(self: &Arc<Self>) -> NoteStep {
        let entities = self.clone();
        Arc::new(move |entity, input| {
            let (told, noted) = oneshot::channel();
            let mut known = entities.known.lock().unwrap();
            if let Some(held) = &mut known.held {
                held.push((entity, input, told));
            } else {
                let _ = told.send(known.take(&entity, &input));
            }
            drop(known);
            entities.changed.notify_one();
            noted
        })
    }

    fn hold(&self) {
        self.known.lock().unwrap().held = Some(Vec::new());
    }

    /// Answers what was held, and holds nothing any more.
    fn release(&self) {
        let mut known = self.known.lock().unwrap();
        for (entity, input, told) in known.held.take().unwrap_or_default() {
            let _ = told.send(known.take(&entity, &input));
        }
        drop(known);
        self.changed.notify_one();
    }

    fn steps(&self) -> Vec<String> {
        self.known.lock().unwrap().steps.clone()
    }

    /// Waits until so much is known.
    async fn until(&self, what: impl Fn(&Known) -> bool) {
        let known = async {
            while !what(&self.known.lock().unwrap()) {
                self.changed.notified().await;
            }
        };
        let known = tokio::time::timeout(Duration::from_mins(10), known).await;
        assert!(known.is_ok(), "what should have been recorded was not: {:?}", self.steps());
    }

    /// Waits until so many requests are over, and returns what became of them.
    async fn outcomes(&self, count: usize) -> HashMap<Box<str>, EffectOutcome> {
        self.until(|known| known.outcomes.len() >= count).await;
        self.known.lock().unwrap().outcomes.iter().cloned().collect()
    }
}

impl Known {
    fn take(&mut self, entity: &EntityKey, input: &Input) -> Noted {
        let key = entity.key();
        let dealings = self.dealings.entry(key.into()).or_default();
        let (is_new, step) = match input {
            Input::Started { effect, run, attempt } => {
                (dealings.start(effect, *run, *attempt), format!("{key} started {attempt}"))
            }
            Input::Ended { effect, run, outcome } => {
                let is_new = dealings.end(effect, *run, outcome, Timestamp::now());
                if is_new {
                    self.outcomes.push((key.into(), (**outcome).clone()));
                }
                (is_new, format!("{key} {}", outcome.stage.as_str()))
            }
            other => panic!("{other:?} is no step of an effect"),
        };
        if !is_new {
            return Noted::Nothing;
        }
        self.steps.push(step);
        Noted::Recorded(Lsn(self.steps.len() as u64))
    }
}
