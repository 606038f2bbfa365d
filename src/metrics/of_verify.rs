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
