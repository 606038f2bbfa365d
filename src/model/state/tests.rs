//! The store's content, frozen.

use std::sync::Arc;

use super::*;
use crate::model::dealings::{
    Deadline, DeadlineTimes, Effect, EffectOutcome, EffectStage, View, Watch, Watched, Watcher,
};
use crate::model::identities::Seen;
use crate::model::ids::{EntityKey, IdentityHash, Lsn, PayloadHash};
use crate::model::life::{End, Ending, Past, PastDecision};
use crate::model::system::{Closed, Closing, DeadLetter, Form, OpenRecord, Origin, SinkProgress, SinkWindow};

fn key(byte: u8) -> SortKey {
    Box::new([byte])
}

fn int(value: i64) -> Packed {
    Packed::new(&Value::Int(value))
}

/// A state with every part filled.
fn full() -> State {
    let time = Timestamp::parse("2026-11-20T10:00:00Z").unwrap();
    let mut identities = Identities::default();
    identities.push(Seen { id: IdentityHash([1; 16]), payload: PayloadHash(2), at_ms: 3 });
    identities.push(Seen { id: IdentityHash([4; 16]), payload: PayloadHash(u64::MAX), at_ms: -5 });
    identities.spill_through(IdentityHash([1; 16]));
    State {
        version: Version(300),
        now: time,
        events: 299,
        correlation: "c\0é".into(),
        fields: vec![
            None,
            Some(FieldState::Register { stamp: key(1), value: int(1) }),
            Some(FieldState::Extreme { key: key(2), value: int(2) }),
            Some(FieldState::Sum(Decimal::from(-12))),
            Some(FieldState::Count(4)),
            Some(FieldState::Set(vec![(key(5), int(5))])),
            Some(FieldState::List(vec![(key(6), int(6))])),
            Some(FieldState::By(vec![("b".into(), FieldState::Count(7))])),
        ],
        ledger: vec![LedgerEntry {
            name: "Confirmed".into(),
            element: Some("x".into()),
            revision: Revision(2),
            state: DecisionState::Withdrawn,
            data: int(8),
            time,
            version: Version(9),
        }],
        missing: 5,
        identities,
        dealings: Some(Box::new(dealings())),
        system: Some(Box::new(SystemState::Progress(SinkProgress { delivered: Lsn(9), offset: 300 }))),
    }
}

fn dealings() -> Dealings {
    let time = Timestamp::parse("2026-11-20T10:00:00Z").unwrap();
    let outcome = EffectOutcome {
        stage: EffectStage::Failed,
        status: Some(500),
        response: Some(int(1)),
        error: Some("e".into()),
    };
    Dealings {
        views: vec![View {
            reference: "r".into(),
            place: 2,
            kind: "q".into(),
            to: "k".into(),
            since: time,
            version: Version(2),
            content: Some(int(3)),
        }],
        watched: vec![Watched {
            by: Watch { kind: "t".into(), reference: "r".into() },
            content: Some(int(4)),
            version: Version(5),
            watchers: vec![Watcher { key: "w".into(), version: Version(6), is_watching: true }],
        }],
        deadlines: vec![Deadline { name: "d".into(), times: DeadlineTimes { at: time, due: time, has_passed: true } }],
        effects: vec![Effect {
            name: "e".into(),
            run: 1,
            request: int(7),
            stage: EffectStage::Failed,
            attempts: 2,
            at: time,
            outcome: Some(outcome),
        }],
        settling: vec!["s".into()],
        noise: Version(8),
        stopped: vec!["x".into()],
        past: Some(Box::new(Past {
            ended: Version(10),
            end: Some(End { at: time, how: Ending::Forgotten }),
            decisions: vec![PastDecision { name: "P".into(), element: Some("e".into()), revision: Revision(11), time }],
        })),
        paused: Some(Arc::new(Pause::example())),
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |hex, byte| hex + &format!("{byte:02x}"))
}

/// The store's content: a change here makes old folders unreadable.
#[test]
fn stored_form_is_frozen() {
    let bytes = full().encode();
    assert_eq!(
        hex(&bytes),
        "03fb2c01fc403400d600fb2b01046300c3a908000100010102020201010102020204010201f400010304010401010502020a010501010602020c010601016203070109436f6e6669726d65640101780202020210fc403400d60009050104040404040404040404040404040404fdffffffffffffffff090101010172020171016bfc403400d6000201020206010174017201020208050101770601010164fc403400d600fc403400d600010101650102020e0302fc403400d600010301fbf4010102020201016501017308010178010a01fc403400d600010101500101650bfc403400d600010101620177fc403400d6000101730169016bfc403400d600000000000300000000010009fb2c01"
    );
    assert_eq!(State::decode(&bytes).unwrap(), full());
    assert_eq!(hex(&State::default().encode()), "03000000000000000000000000");
    let open = vec![OpenRecord { lsn: Lsn(7), finished: 2 }];
    let of = |system| State { system: Some(Box::new(system)), ..State::default() };
    let window = of(SystemState::Window(SinkWindow { read: Lsn(9), open }));
    assert_eq!(hex(&window.encode()), "030000000000000000000000010109010702");
    assert_eq!(State::decode(&window.encode()).unwrap(), window);
    let letter = DeadLetter {
        origin: Origin::Sink { name: "h".into(), lsn: Lsn(9), place: 1 },
        reason: "r".into(),
        detail: "d".into(),
        attempts: 3,
        entity: Some(EntityKey::new("t", "k")),
        id: "i".into(),
        body: b"{}".to_vec(),
        form: Form::Message { subject: "s".into() },
        mandate: None,
    };
    let by_hand = Pause::example().by_hand.unwrap();
    let closed =
        of(SystemState::ClosedLetter(Closed { letter: letter.clone(), how: Closing::Dropped, by_hand }.into()));
    assert_eq!(State::decode(&closed.encode()).unwrap(), closed);
    assert!(hex(&closed.encode()).ends_with("020173000101620177fc403400d600"));
    let letter = of(SystemState::DeadLetter(letter));
    assert_eq!(hex(&letter.encode()), "030000000000000000000000010200016809010172016403010174016b0169027b7d02017300");
    assert_eq!(State::decode(&letter.encode()).unwrap(), letter);
}

/// If this failed, what only the system's entities have would cost memory in every live entity.
#[test]
fn what_the_system_has_takes_one_word() {
    assert_eq!(size_of::<Option<Box<SystemState>>>(), size_of::<usize>());
    assert!(size_of::<State>() <= 168, "{}", size_of::<State>());
}

/// If this failed, bytes that nobody vouches for could end the process: each level takes its part of the stack.
#[test]
fn entries_of_by_hold_no_others() {
    let one = codec::encode(STATE_FORMAT, &FieldState::By(vec![("b".into(), FieldState::Count(7))]));
    assert!(codec::decode::<FieldState>(STATE_FORMAT, &one).is_ok());
    let nested = [&[STATE_FORMAT][..], &[6, 1, 1, b'b'].repeat(100_000), &[3, 7]].concat();
    assert!(codec::decode::<FieldState>(STATE_FORMAT, &nested).is_err());
}

/// If this failed, a damaged row could be taken for another state.
#[test]
fn what_is_cut_short_or_has_more_behind_it_is_refused() {
    let bytes = full().encode();
    for length in 0..bytes.len() {
        assert!(State::decode(&bytes[..length]).is_err(), "cut to {length}");
    }
    assert!(matches!(State::decode(&[&bytes[..], &[0]].concat()), Err(CodecError::Trailing(1))));
}
