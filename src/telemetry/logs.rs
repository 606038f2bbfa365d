//! Logs: one line for each thing a person may act on, to standard error. Lines about an entity or an event name them by the
//! same members everywhere: `type`, `key`, `lsn`, `event_id`, `correlationid`, as far as they are known.

use tracing_subscriber::EnvFilter;

use crate::model::ids::{EntityKey, Lsn};
use crate::model::record::Record;

/// How log lines look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    Text,
    Json,
}

/// Starts logging. `RUST_LOG` overrules `level`, such as `info`.
pub fn start(level: &str, format: Format) {
    let filter = EnvFilter::try_from_default_env()
        .unwrap_or_else(|_| EnvFilter::new(format!("{level},actix_server=warn,actix_http=off,async_nats=off")));
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_target(false);
    // A second start in one process (tests) changes nothing.
    let _ = match format {
        Format::Text => builder.with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr())).try_init(),
        Format::Json => builder.json().flatten_event(true).try_init(),
    };
}

/// What a line is about.
#[derive(Clone, Copy, Debug)]
pub struct About<'a> {
    pub entity: &'a EntityKey,
    pub lsn: Option<Lsn>,
    pub event_id: Option<&'a str>,
    pub correlationid: Option<&'a str>,
}

impl<'a> About<'a> {
    /// An entity, as long as nothing else is known.
    pub fn entity(entity: &'a EntityKey) -> Self {
        About { entity, lsn: None, event_id: None, correlationid: None }
    }

    /// A record.
    pub fn record(record: &'a Record) -> Self {
        let event_id = record.input.event().map(|input| &*input.event.id);
        let correlationid = record.decisions.first().map(|decision| &*decision.correlation);
        About { event_id, correlationid, ..About::entity(&record.entity) }
    }

    /// What is correlated by this, if it is known.
    #[must_use]
    pub fn correlated(self, correlationid: &'a str) -> Self {
        About { correlationid: (!correlationid.is_empty()).then_some(correlationid), ..self }
    }
}

/// Logs a line about an entity: `tell!(warn, About::record(&record), sink = %name, "not delivered: {why}")`.
macro_rules! tell {
    ($level:ident, $about:expr, $($line:tt)+) => {{
        let about = $about;
        tracing::$level!(
            "type" = about.entity.kind(),
            key = about.entity.key(),
            lsn = about.lsn.map(|lsn| lsn.0),
            event_id = about.event_id,
            correlationid = about.correlationid,
            $($line)+
        )
    }};
}

pub(crate) use tell;
