//! Evolving: applying a record to a state. The only thing that changes a state, live and in recovery. Evaluates no
//! expression, sees no LSN, and cannot fail: a record that does not fit its state is a bug or damage, and stops the process.

use super::merge;
use crate::model::event::PackedEvent;
use crate::model::identities::Seen;
use crate::model::ids::IdentityHash;
use crate::model::record::{DecisionRevision, Input, Record};
use crate::model::state::{LedgerEntry, State};
use crate::model::system::SystemState;

/// Applies `record`, which must be the state's next.
pub fn evolve(state: &mut State, record: &Record) {
    assert_eq!(record.version, state.version.next(), "a record of {} does not fit its state", record.entity);
    state.version = record.version;
    state.now = record.now;
    state.missing = record.missing;
    match &record.input {
        Input::Event(input) => {
            if state.events == 0 {
                state.correlation = correlation(&input.event);
            }
            state.events += 1;
            if let Some(before) = record.forget_before {
                state.identities.forget_before(before.millis());
            }
            let id = IdentityHash::of(&input.event.source, input.id());
            state.identities.push(Seen { id, payload: input.payload, at_ms: record.now.millis() });
            for merge in &record.merges {
                let slot = usize::from(merge.slot);
                if state.fields.len() <= slot {
                    // No more than is needed: there are as many states as there are live entities.
                    state.fields.reserve_exact(slot + 1 - state.fields.len());
                    state.fields.resize_with(slot + 1, || None);
                }
                merge::apply(&mut state.fields[slot], merge::resolve(merge, input));
            }
        }
        Input::Progress(progress) => state.system = Some(Box::new(SystemState::Progress(progress.clone()))),
        Input::Window(window) => state.system = Some(Box::new(SystemState::Window(window.clone()))),
        Input::DeadLetter(letter) => state.system = Some(Box::new(SystemState::DeadLetter((**letter).clone()))),
        Input::Cursor(cursor) => state.system = Some(Box::new(SystemState::Cursor(cursor.clone()))),
    }
    for decision in &record.decisions {
        note(state, decision);
    }
}

fn note(state: &mut State, decision: &DecisionRevision) {
    let version = state.version;
    let entry = LedgerEntry {
        name: decision.name.clone(),
        element: decision.element.clone(),
        revision: decision.revision,
        state: decision.state,
        data: decision.data.clone(),
        time: decision.time,
        version,
    };
    let same = |known: &&mut LedgerEntry| known.name == entry.name && known.element == entry.element;
    if let Some(known) = state.ledger.iter_mut().find(same) {
        *known = entry;
    } else {
        state.ledger.reserve_exact(1);
        state.ledger.push(entry);
    }
}

/// What correlates what follows from an event: its `correlationid`, else its id.
fn correlation(event: &PackedEvent) -> Box<str> {
    given_correlation(event).unwrap_or_else(|| event.id.clone())
}

/// The event's `correlationid`, if it has one.
pub(super) fn given_correlation(event: &PackedEvent) -> Option<Box<str>> {
    event.extensions.as_ref()?.select(&["correlationid"])?.as_str().map(Box::from)
}
