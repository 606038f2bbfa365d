//! Metrics of verifications.

use prometheus::{Gauge, IntGaugeVec, Opts, Registry};

use super::register;

/// What the last verification came to.
pub struct OfVerify {
    pub findings: IntGaugeVec,
    pub last_success: Gauge,
    pub duration: Gauge,
}

impl OfVerify {
    pub(super) fn new(registry: &Registry) -> Self {
        let gauge = |name: &str, help: &str| register(registry, Gauge::new(name, help));
        let findings = Opts::new("turnstile_verify_findings", "What the last verification found, by kind.");
        OfVerify {
            findings: register(registry, IntGaugeVec::new(findings, &["kind"])),
            last_success: gauge(
                "turnstile_verify_last_success_timestamp_seconds",
                "When a verification last ran to its end, since 1970, whatever it found; 0 if never since the start.",
            ),
            duration: gauge("turnstile_verify_duration_seconds", "How long the last verification took."),
        }
    }
}

/// What is counted of what is given up, and of what is kept.
pub struct OfRetention {
    pub expired: IntCounterVec,
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
