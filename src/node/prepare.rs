//! From a configuration to what runs it: every expression compiled. Used by `run` and `check` alike.

use std::collections::HashMap;
use std::sync::Arc;

use crate::config::{self, Config, Diagnostics, Files, SourceKind};
use crate::ingress::{Decoder, Inbox, Mapping};
use crate::rules::{Expr, Roots, Ruleset, compile, compile_text};

/// A configuration's rules and decoders.
pub struct Prepared {
    pub ruleset: Arc<Ruleset>,
    /// By source.
    pub decoders: HashMap<String, Decoder>,
    /// The sources that are paths of HTTP.
    pub inboxes: Vec<Inbox>,
    /// What numbers the events of a source, by source.
    pub sequences: HashMap<String, Expr>,
    /// What decisions must be to go to a sink, by sink.
    pub conditions: HashMap<String, Expr>,
}

/// Compiles every expression of the configuration; what is wrong is added to `diagnostics`, and then nothing is returned.
pub fn prepare(config: &Config, files: &Files, diagnostics: &mut Diagnostics) -> Option<Prepared> {
    let limits = &config.tuning.limits;
    let limit = |n: u64| usize::try_from(n).unwrap_or(usize::MAX);
    let types = compile(&config.entities, files, diagnostics).unwrap_or_default();
    let (mut decoders, mut inboxes, mut sequences) = (HashMap::new(), Vec::new(), HashMap::new());
    for source in &config.sources {
        let roots = match &source.kind {
            SourceKind::Http | SourceKind::Tcp { .. } => Roots::Body,
            SourceKind::Sql(_) => Roots::Row,
            SourceKind::Nats(_) => Roots::Message,
            SourceKind::Inbox(inbox) if inbox.each.is_none() => Roots::Message,
            SourceKind::Inbox(_) => Roots::Item,
        };
        let mapping = source.event.as_ref().map(|mapping| Mapping::compile(mapping, &roots, files, diagnostics));
        let decoder = Decoder::new(mapping, limit(limits.event_bytes_max), limit(limits.json_depth_max));
        let name = &source.name.value;
        let sequence = source.sequence.as_ref();
        let sequence = sequence.and_then(|text| compile_text(text, &Roots::Event, files, diagnostics));
        sequences.extend(sequence.map(|expr| (name.clone(), expr)));
        if let SourceKind::Inbox(inbox) = &source.kind {
            let each = inbox.each.as_ref().and_then(|text| compile_text(text, &Roots::Message, files, diagnostics));
            inboxes.push(Inbox::new(name, inbox, each, decoder, limits));
        } else {
            decoders.insert(name.clone(), decoder);
        }
    }
    let conditions = config.sinks.iter().filter_map(|sink| {
        let condition = compile_condition(sink.condition.as_ref()?, files, diagnostics)?;
        Some((sink.name.value.clone(), condition))
    });
    let conditions = conditions.collect();
    if diagnostics.has_errors() {
        return None;
    }
    let ruleset = Ruleset::new(types, &config.server.ignore, limit(limits.key_bytes_max));
    let ruleset = Arc::new(ruleset.on_server(&config.server.name));
    Some(Prepared { ruleset, decoders, inboxes, sequences, conditions })
}

/// Compiles the `if` of a sink, which reads the decision as `event`.
fn compile_condition(text: &config::Expr, files: &Files, diagnostics: &mut Diagnostics) -> Option<Expr> {
    let condition = compile_text(text, &Roots::Event, files, diagnostics)?;
    if !condition.may_be_bool() {
        diagnostics.error(text.at, "a condition must be true or false").help("compare it: `… == …`");
        return None;
    }
    Some(condition)
}
