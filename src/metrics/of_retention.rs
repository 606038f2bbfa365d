//! Metrics of what is given up.

use prometheus::{IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry};

use super::register;

/// What is counted of what is given up, and of what is kept.
pub struct OfRetention {
    pub(super) expired: IntCounterVec,
    pub forgotten: IntCounter,
    pub blanked: IntCounter,
    pub journal_first_lsn: IntGauge,
    pub journal_needed_lsn: IntGaugeVec,
}

impl OfRetention {
    pub(super) fn new(registry: &Registry) -> Self {
        let counter = |name, help| register(registry, IntCounter::new(name, help));
        let expired = Opts::new("turnstile_entities_expired_total", "Entities given up by `expire`.");
        let needed = Opts::new(
            "turnstile_journal_needed_lsn",
            "LSN of the first record that somebody still has to read: `the store`, or a sink.",
        );
        let first = "LSN of the first record that the journal holds.";
        OfRetention {
            expired: register(registry, IntCounterVec::new(expired, &["entity"])),
            forgotten: counter("turnstile_entities_forgotten_total", "Entities forgotten by hand."),
            blanked: counter(
                "turnstile_records_blanked_total",
                "Records of the journal that were made blank, or changed, since an entity was forgotten.",
            ),
            journal_first_lsn: register(registry, IntGauge::new("turnstile_journal_first_lsn", first)),
            journal_needed_lsn: register(registry, IntGaugeVec::new(needed, &["by"])),
        }
    }
}
