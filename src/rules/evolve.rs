//! Evolving: applying a record to a state. The only thing that changes a state, live and in recovery. Evaluates no
//! expression, sees no LSN, and cannot fail: a record that does not fit its state is a bug or damage, and stops the process.

use super::conclude::is_noise;
use super::merge;
use crate::model::dealings::{Dealings, Watch};
use crate::model::event::PackedEvent;
use crate::model::identities::Seen;
use crate::model::ids::IdentityHash;
use crate::model::mandate::Mandate;
use crate::model::pause::ByHand;
use crate::model::record::{Content, DecisionRevision, EventInput, Input, Received, Record};
use crate::model::state::{LedgerEntry, State};
use crate::model::system::{Closed, Closing, DeadLetter, PAUSE_KIND, SystemState, TypePause};

/// Applies `record`, which must be the state's next.
pub fn evolve(state: &mut State, record: &Record) {
    assert_eq!(record.version, state.version.next(), "a record of {} does not fit its state", record.entity);
    state.version = record.version;
    state.now = record.now;
    state.missing = record.missing;
    match &record.input {
        input if input.ending().is_some() => end(state, input),
        Input::Event(input) => {
            recognize(state, record, input);
            merge_event(state, record, input);
        }
        Input::Held(input) => {
            recognize(state, record, input);
            state.dealings.get_or_insert_default().hold(input.clone());
        }
        Input::Released(input) => {
            state.dealings.get_or_insert_default().release();
            merge_event(state, record, input);
        }
        Input::Paused(_) | Input::Resumed(_) if record.entity.kind() == PAUSE_KIND => note_type(state, record),
        Input::Paused(mandate) => state.dealings.get_or_insert_default().pause(mandate.clone(), record.now),
        Input::Resumed(_) => state.dealings.get_or_insert_default().resume(),
        Input::Forget(forget) => state.system = Some(Box::new(SystemState::Forget((**forget).clone()))),
        Input::Progress(progress) => state.system = Some(Box::new(SystemState::Progress(progress.clone()))),
        Input::Window(window) => state.system = Some(Box::new(SystemState::Window(window.clone()))),
        Input::DeadLetter(letter) => state.system = Some(Box::new(SystemState::DeadLetter((**letter).clone()))),
        Input::Cursor(cursor) => state.system = Some(Box::new(SystemState::Cursor(cursor.clone()))),
        Input::Rules { .. } => {}
        Input::RulesNoted(rules) => state.system = Some(Box::new(SystemState::Rules(rules.clone()))),
        Input::Closed(mandate, how) => close(state, record, mandate, *how),
        Input::Tried { mandate, reason, detail } => {
            if let Some(SystemState::DeadLetter(letter)) = state.system.as_deref_mut() {
                letter.attempts = letter.attempts.saturating_add(1);
                letter.reason.clone_from(reason);
                letter.detail.clone_from(detail);
                letter.mandate = Some(mandate.clone());
            }
        }
        Input::Message(_)
        | Input::Due { .. }
        | Input::Started { .. }
        | Input::Ended { .. }
        | Input::Quiet { .. }
        | Input::Forgotten(_)
        | Input::Resolved { .. }
        | Input::AskedAgain { .. } => {
            handle(state.dealings.get_or_insert_default(), record);
        }
    }
    for decision in &record.decisions {
        note(state, decision);
    }
    if changes_dealings(record) || state.dealings.is_some() {
        deal(state.dealings.get_or_insert_default(), record);
        if state.dealings.as_deref().is_some_and(Dealings::is_empty) {
            state.dealings = None;
        }
    }
}

fn end(state: &mut State, input: &Input) {
    // Nothing outlives the system's own entities.
    if state.system.take().is_none()
        && let Some(how) = input.ending()
    {
        state.end_life(how);
    }
}

/// Whether an entity type is paused.
fn note_type(state: &mut State, record: &Record) {
    let (Input::Paused(mandate) | Input::Resumed(mandate)) = &record.input else { return };
    let by_hand = ByHand { mandate: mandate.clone(), since: record.now };
    let is_paused = matches!(record.input, Input::Paused(_));
    state.system = Some(Box::new(SystemState::TypePause(TypePause { is_paused, by_hand })));
}

/// A dead letter is dealt with; its bytes stay in the journal alone.
fn close(state: &mut State, record: &Record, mandate: &Mandate, how: Closing) {
    if let Some(SystemState::DeadLetter(letter)) = state.system.as_deref() {
        let by_hand = ByHand { mandate: mandate.clone(), since: record.now };
        let letter = DeadLetter { body: Vec::new(), ..letter.clone() };
        state.system = Some(Box::new(SystemState::ClosedLetter(Box::new(Closed { letter, how, by_hand }))));
    }
}

/// The event's identity counts from now on.
fn recognize(state: &mut State, record: &Record, input: &EventInput) {
    if let Some(before) = record.forget_before {
        state.identities.forget_before(before.millis());
    }
    let id = IdentityHash::of(&input.event.source, input.id());
    state.identities.push(Seen { id, payload: input.payload, at_ms: record.now.millis() });
}

fn merge_event(state: &mut State, record: &Record, input: &EventInput) {
    if state.events == 0 {
        state.correlation = correlation(&input.event);
        state.begin_life();
    }
    state.events += 1;
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

/// What an input from inside does to an entity's dealings, before anything is concluded from it. Returns whether it says
/// anything new.
pub(super) fn handle(dealings: &mut Dealings, record: &Record) -> bool {
    match &record.input {
        Input::Message(received) => hear(dealings, received),
        Input::Due { name, at } => dealings.pass(name, *at),
        Input::Started { effect, run, attempt } => dealings.start(effect, *run, *attempt),
        Input::Ended { effect, run, outcome } => dealings.end(effect, *run, outcome, record.now),
        Input::Resolved { effect, run, outcome, .. } => dealings.resolve(effect, *run, outcome, record.now),
        Input::AskedAgain { effect, run, .. } => dealings.ask_again(effect, *run, record.now),
        Input::Quiet { decision, since } => dealings.settling.contains(decision) && dealings.noise == *since,
        _ => false,
    }
}

fn hear(dealings: &mut Dealings, received: &Received) -> bool {
    let Received { from, version, content, .. } = received;
    let watch = |dealings: &mut Dealings, reference: &str, is_watching| {
        let by = Watch { kind: from.kind().into(), reference: reference.into() };
        dealings.watch(&by, from.key(), *version, is_watching)
    };
    match content {
        Content::Watch { reference } => watch(dealings, reference, true),
        Content::Unwatch { reference } => watch(dealings, reference, false),
        Content::Notice { reference, shown } => dealings.see(reference, from, *version, shown),
        Content::Gone { reference } => dealings.miss(reference, from, *version),
    }
}

fn changes_dealings(record: &Record) -> bool {
    !(record.references.is_empty()
        && record.deadlines.is_empty()
        && record.effects.is_empty()
        && record.notices.is_empty()
        && record.settling.is_empty()
        && record.stopped.is_empty())
}

/// What was concluded, in the order in which it was.
fn deal(dealings: &mut Dealings, record: &Record) {
    for set in &record.references {
        dealings.refer(set, record.now);
    }
    for set in &record.deadlines {
        dealings.set_deadline(&set.name, set.to);
    }
    for effect in &record.effects {
        dealings.request(&effect.name, effect.run, effect.request.clone(), record.now);
    }
    for notice in &record.notices {
        dealings.show(&notice.by, notice.shown.clone(), record.version);
    }
    dealings.settling.clone_from(&record.settling);
    if is_noise(&record.input) {
        dealings.noise = record.version;
    }
    for name in &record.stopped {
        if !dealings.stopped.contains(name) {
            dealings.stopped.push(name.clone());
        }
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
pub fn given_correlation(event: &PackedEvent) -> Option<Box<str>> {
    event.extensions.as_ref()?.select(&["correlationid"])?.as_str().map(Box::from)
}
