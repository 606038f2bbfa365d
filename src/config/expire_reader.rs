//! Reads `expire` of an entity type: how long after its last event, or after a decision, an entity is given up.

use std::ops::RangeInclusive;
use std::time::Duration;

use super::diagnostics::Diagnostics;
use super::entities::{Decision, Expire};
use super::names::suggest;
use super::reader::Section;
use super::tuning::DURATION_MAX;

const RANGE: RangeInclusive<Duration> = Duration::from_secs(1)..=DURATION_MAX;
const AFTER_HELP: &str = "add after = \"30d\": how long after the decision";

impl Expire {
    pub(super) fn read(section: &mut Section) -> Option<Expire> {
        section.peek("expire")?;
        if section.is_table("expire") {
            let mut section = section.section("expire");
            section.require("after", AFTER_HELP);
            let after = section.duration("after", RANGE);
            let decision = section.string("decision");
            section.finish();
            return Some(Expire { after: after?, decision });
        }
        Some(Expire { after: section.duration("expire", RANGE)?, decision: None })
    }

    /// Reports a decision that the type does not make.
    pub(super) fn check(&self, decisions: &[Decision], out: &mut Diagnostics) {
        let Some(name) = &self.decision else { return };
        if !decisions.iter().any(|decision| decision.name.value == name.value) {
            let help = suggest(name, decisions.iter().map(|decision| decision.name.as_str()));
            out.error(name.at, format!("`{}` is not a decision of this type", name.value)).help = help;
        }
    }
}
