//! What an entity makes of an event, as spans of the event's trace.

use super::outbox::{Handled, Pending};
use crate::telemetry::Deciding;

impl Handled {
    /// Ends the span in which this was decided; that of a record's commit begins, and ends with it.
    pub(super) fn traced(mut self, deciding: Option<Deciding>) -> Handled {
        let Some(deciding) = deciding else { return self };
        match &mut self {
            Handled::Recorded { version, pending, .. } => {
                let committing = deciding.recorded(*version, "recorded");
                let waits = std::mem::replace(pending, Pending::Nothing);
                *pending = Pending::Traced(Box::new((waits, committing)));
            }
            Handled::Unrecorded { pending: Pending::Refused(_, refusal), .. } => deciding.ended(refusal.code.as_str()),
            Handled::Unrecorded { .. } | Handled::Copied(_) | Handled::Answered | Handled::Gone(_) => {
                deciding.ended("duplicate");
            }
        }
        self
    }
}
