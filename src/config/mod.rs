//! What the operator wrote, checked as a whole: TOML in, a [`Config`] or a list of all problems out.
//!
//! Expressions stay text here: that they are CEL and fit the event types is for the rules to say, who report through the
//! same [`Diagnostics`]. Nothing here listens, creates a file or looks at the data; the only I/O is reading the named
//! files, and the environment is passed in.

mod address;
mod deadline_reader;
mod decision_reader;
mod diagnostics;
mod document;
mod door;
mod effect_reader;
mod entities;
mod entity_reader;
mod expire_reader;
mod field_reader;
mod fingerprint;
mod interpolate;
mod load;
mod names;
mod nats;
mod print;
mod print_entity;
mod reader;
mod reference_reader;
mod render;
mod request_reader;
mod retry;
mod secret;
mod server;
mod shadow;
mod sink_nats;
mod sink_webhook;
mod sinks;
mod source_http;
mod source_nats;
mod source_sql;
mod sources;
mod sql_query;
mod telemetry;
mod template;
mod test_answers;
mod test_blocks;
mod test_expectations;
mod tuning;
mod units;

#[cfg(test)]
mod reaction_tests;
#[cfg(test)]
mod tests;

pub use address::Address;
pub use diagnostics::{Diagnostic, Diagnostics, Expr, FileId, Files, Located, Location, Severity};
pub use door::{Door, Token};
pub use entities::{
    COMPLETE_FIELDS_MAX, Data, Deadline, Decision, Duplicates, Effect, EntityType, Expire, Feedback, Field, Guarantee,
    Json, KEEP_MAX, KeyRule, ORDER_BY_DEFAULT, Policy, Reference, Request, Retry, Take, Template, TemplatePart,
    VALUE_DEFAULT, WHEN_DEFAULT,
};
pub use interpolate::Env;
pub use load::{FILE_BYTES_MAX, load, load_rules, load_sent, load_str, load_with, read_text};
pub use names::{NAME_CHARS_MAX, TYPE_BYTES_MAX, glob_matches};
pub use nats::{NatsAuth, NatsConnection, SecretFile};
pub use print::{print, print_rules};
pub use secret::Secret;
pub use server::{DATA_DIR_DEFAULT, HTTP_DEFAULT, SERVER_NAME_DEFAULT, Server};
pub use sink_nats::{NatsDelivery, NatsSink, SubjectPart};
pub use sink_webhook::{WebhookSecret, WebhookSink};
pub use sinks::{From, Sink, SinkKind};
pub use source_http::{BodyFormat, Inbox, Respond, SignedWith};
pub use source_nats::{NatsFrom, NatsSource};
pub use source_sql::{Database, Growth, PAGE_ROWS_MAX, SqlSource};
pub use sources::{EventMapping, HTTP_SOURCE, Source, SourceKind};
pub use sql_query::{Place, SqlQuery};
pub use telemetry::Telemetry;
pub use test_answers::Answer;
pub use test_blocks::{EventsOfTest, Step, Test};
pub use test_expectations::{DecisionState, Expectation, ExpectedDecision};
pub use tuning::{Actors, Checkpoint, Journal, Limits, Log, LogFormat, LogLevel, Tuning};
pub use units::parse_size;

/// A configuration without errors.
#[derive(Clone, Debug)]
pub struct Config {
    pub server: Server,
    pub sources: Vec<Source>,
    pub sinks: Vec<Sink>,
    pub entities: Vec<EntityType>,
    /// `[[test]]`: what `turnstile test` runs; a server has no use for them.
    pub tests: Vec<Test>,
    pub tuning: Tuning,
    /// `[telemetry]`, if traces are wanted.
    pub telemetry: Option<Telemetry>,
}

/// What came of loading: the files, for showing problems; the problems; and the configuration, if none is an error. Else
/// the entity types that nothing is wrong with so far, so that their expressions can be looked at all the same.
#[derive(Debug)]
pub struct Loaded {
    pub files: Files,
    pub diagnostics: Diagnostics,
    pub config: Option<Config>,
    pub sound_entities: Vec<EntityType>,
}
