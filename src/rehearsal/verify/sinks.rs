//! Decisions that were made long ago and that a sink has not delivered.

use super::findings::{Findings, Kind, named};
use super::world::{VerifyError, World};
use crate::config::{self, glob_matches};
use crate::model::ids::{EntityKey, Lsn};
use crate::model::outgoing::decision_event;
use crate::model::record::{DecisionRevision, Record};
use crate::model::system::{SINK_KIND, SinkWindow, SystemState};
use crate::model::time::Timestamp;
use crate::rules::{EventBindings, Expr, Fault, Roots, Ruleset};

/// The sinks of a configuration.
pub(super) struct Sinks {
    all: Vec<Sink>,
    /// What is younger may still be on its way.
    before: Timestamp,
}

struct Sink {
    name: String,
    types: Vec<String>,
    condition: Option<Expr>,
    /// What it has finished.
    done: SinkWindow,
    late: u64,
    oldest: Option<String>,
    /// Where the last one is that is late.
    through: Lsn,
}

impl Sinks {
    /// The sinks as they are; those that have not begun yet are passed over.
    pub fn of(world: &dyn World, declared: &[config::Sink], before: Timestamp) -> Result<Self, VerifyError> {
        let mut all = Vec::new();
        for sink in declared.iter().filter(|sink| !sink.dead_letters) {
            let name = sink.name.value.clone();
            let Some(done) = done(world, &name)? else { continue };
            let types = sink.types.iter().map(|glob| glob.value.clone()).collect();
            // It was compiled before, when the configuration was checked.
            let condition = sink.condition.as_ref().and_then(|text| Expr::compile(text, &Roots::Event).ok());
            all.push(Sink { name, types, condition, done, late: 0, oldest: None, through: Lsn::ZERO });
        }
        Ok(Sinks { all, before })
    }

    /// Tells which sinks have not finished what came before `first`, where the journal begins. It is never trimmed so far.
    ///
    /// # Errors
    /// When it cannot be read how far they are.
    pub fn tell_lost(
        world: &dyn World,
        declared: &[config::Sink],
        first: Lsn,
        findings: &mut Findings,
    ) -> Result<(), VerifyError> {
        for name in declared.iter().map(|sink| &sink.name.value) {
            let Some(done) = done(world, name)?.map(|done| done.delivered()) else { continue };
            if done.next() < first {
                let (from, to) = (done.next(), first.0 - 1);
                let detail = format!("LSN {from} to {to} are gone, and it has not delivered all of them");
                findings.add(Kind::Undeliverable, format!("sink {name}"), detail);
            }
        }
        Ok(())
    }

    /// Looks at a record's decisions.
    pub fn look(&mut self, ruleset: &Ruleset, lsn: Lsn, record: &Record) {
        if record.decisions.is_empty() || record.now > self.before {
            return;
        }
        for sink in &mut self.all {
            let finished = if lsn > sink.done.read { 0 } else { sink.done.open_at(lsn).unwrap_or(u32::MAX) };
            let late = record.decisions.iter().skip(finished as usize);
            let late = late.filter(|decision| sink.takes(ruleset, record, decision)).collect::<Vec<_>>();
            if let Some(first) = late.first() {
                sink.late += late.len() as u64;
                sink.through = lsn.max(sink.through);
                let (entity, name, revision) = (named(&record.entity), &first.name, first.revision.0);
                sink.oldest.get_or_insert_with(|| format!("{name} {revision} of {entity}, made {}", first.time));
            }
        }
    }

    /// Tells what is late, unless it has been delivered meanwhile.
    pub fn tell(self, world: &dyn World, findings: &mut Findings) -> Result<(), VerifyError> {
        for sink in self.all.into_iter().filter(|sink| sink.late > 0) {
            if done(world, &sink.name)?.is_some_and(|done| done.delivered() >= sink.through) {
                continue;
            }
            let detail = format!("not delivered: {}, and others", sink.oldest.unwrap_or_default());
            findings.add_many(Kind::Undelivered, sink.late, format!("sink {}", sink.name), detail);
        }
        Ok(())
    }
}

impl Sink {
    fn takes(&self, ruleset: &Ruleset, record: &Record, decision: &DecisionRevision) -> bool {
        let rules = ruleset.get(record.entity.kind());
        rules.is_none_or(|rules| rules.goes_to(&decision.name, &self.name))
            && (self.types.is_empty() || self.types.iter().any(|glob| glob_matches(glob, &decision.name)))
            && self.condition.as_ref().is_none_or(|condition| {
                let event = decision_event(ruleset.server(), record, decision);
                let passes = condition.test(&EventBindings { event: &event, time: None });
                passes.unwrap_or_else(|fault| matches!(fault, Fault::Wrong(_)))
            })
    }
}

/// What a sink has finished, as it is noted.
fn done(world: &dyn World, name: &str) -> Result<Option<SinkWindow>, VerifyError> {
    let state = world.read(&[EntityKey::new(SINK_KIND, name)])?.pop().flatten();
    Ok(match state.and_then(|read| read.state.system).map(|system| *system) {
        Some(SystemState::Progress(progress)) => Some(SinkWindow::through(progress.delivered)),
        Some(SystemState::Window(window)) => Some(window),
        _ => None,
    })
}
