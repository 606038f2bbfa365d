//! The journal's content, frozen.

use super::*;
use crate::model::dealings::{EffectOutcome, EffectStage};
use crate::model::event::TimeGiven;
use crate::model::ids::Lsn;
use crate::model::system::{ForgetStage, Form, OpenRecord, Origin, RulesInForce};

/// A record with every part filled.
fn full() -> Record {
    let time = Timestamp::parse("2026-11-20T10:00:00Z").unwrap();
    Record {
        entity: EntityKey::new("order", "o\0é"),
        version: Version(3),
        now: time,
        input: Input::Event(EventInput {
            event: PackedEvent {
                source: "shop".into(),
                id: "e1".into(),
                kind: "Paid".into(),
                time,
                time_given: TimeGiven::BySender,
                subject: Some("s".into()),
                data: Some(Packed::new(&Value::Int(5))),
                extensions: Some(Packed::new(&Value::Null)),
            },
            payload: PayloadHash(7),
            id: Some("i".into()),
            time: Some(time),
            hops: 1,
            sequence: Some(Box::new(Sequence { source: "t".into(), number: -2 })),
        }),
        merges: vec![Merge {
            slot: 2,
            take: Take::List { keep: Some(3) },
            by: Some("b".into()),
            order: Some(Value::Int(1)),
            value: MergeValue::Inline(Packed::new(&Value::Bool(true))),
        }],
        decisions: vec![DecisionRevision {
            name: "Confirmed".into(),
            element: Some("x".into()),
            revision: Revision(2),
            state: DecisionState::Revised,
            data: Packed::new(&Value::Null),
            time,
            correlation: "c".into(),
        }],
        references: vec![ReferenceSet {
            reference: "r".into(),
            place: 2,
            kind: "k".into(),
            from: Some("a".into()),
            to: Some("b".into()),
        }],
        notices: vec![Notice {
            by: Watch { kind: "c".into(), reference: "p".into() },
            shown: Packed::new(&Value::Null),
        }],
        effects: vec![EffectRequest { name: "call".into(), run: 1, request: Packed::new(&Value::Null) }],
        deadlines: vec![DeadlineSet {
            name: "late".into(),
            to: Some(DeadlineTimes { at: time, due: time, has_passed: true }),
        }],
        settling: vec!["s".into()],
        feedback: vec![0],
        stopped: vec!["x".into()],
        missing: 5,
        forget_before: Some(time),
    }
}

/// The journal's content: a change here makes old folders unreadable.
#[test]
fn stored_form_is_frozen() {
    let bytes = full().encode();
    let hex: String =
        bytes.iter().flat_map(|b| [b >> 4, b & 15]).map(|n| char::from_digit(n.into(), 16).unwrap()).collect();
    assert_eq!(
        hex,
        "03056f72646572046f00c3a903fc403400d600000473686f700265310450616964fc403400d600000101730102020a0101000701016901fc403400d60001010174030102070103010162010202020201010109436f6e6669726d656401017802010100fc403400d600016301017202016b01016101016201016301700100010463616c6c01010001046c61746501fc403400d600fc403400d6000101017301000101780501fc403400d600"
    );
    assert_eq!(Record::decode(&bytes).unwrap(), full());
}

/// If this failed, folders would lose how far their sinks are, or their dead letters.
#[test]
fn stored_forms_of_the_systems_own_inputs_are_frozen() {
    let origin = Origin::Sink { name: "hook".into(), lsn: Lsn(9), place: 1 };
    let letter = DeadLetter {
        origin,
        reason: "exhausted".into(),
        detail: "HTTP 500".into(),
        attempts: 3,
        entity: Some(EntityKey::new("order", "o")),
        id: "order/o/Made/1".into(),
        body: b"{}".to_vec(),
        form: Form::Decision,
        mandate: None,
    };
    let open = vec![OpenRecord { lsn: Lsn(7), finished: 2 }];
    let outcome = EffectOutcome {
        stage: EffectStage::Unknown,
        status: Some(125),
        response: Some(Packed::new(&Value::Int(5))),
        error: Some("o".into()),
    };
    let forget = Forget {
        entity: EntityKey::new("order", "o"),
        mandate: Mandate { by: "b".into(), why: "w".into() },
        asked: full().now,
        stage: ForgetStage::Ended { version: Version(3) },
    };
    let mandate = Mandate { by: "b".into(), why: "w".into() };
    let event = crate::model::pause::Pause::example().held.remove(0).unwrap();
    for (input, expected) in [
        (Input::Progress(SinkProgress { delivered: Lsn(9), offset: 300 }), "0109fb2c01"),
        (Input::Window(SinkWindow { read: Lsn(300), open }), "02fb2c01010702"),
        (
            Input::DeadLetter(Box::new(letter)),
            "030004686f6f6b0901096578686175737465640848545450203530300301056f72646572016f0e6f726465722f6f2f4d6164652f31027b7d0000",
        ),
        (Input::Cursor(SourceCursor { position: Packed::new(&Value::Int(5)) }), "0402020a"),
        (Input::Forgotten(mandate.clone()), "0a01620177"),
        (Input::Forget(Box::new(forget)), "0b056f72646572016f01620177fc403400d6000103"),
        (Input::Rules { fingerprint: [7; 32] }, &format!("14{}", "07".repeat(32))),
        (
            Input::RulesNoted(RulesInForce { fingerprint: [7; 32], is_rebuilt: true }),
            &format!("15{}01", "07".repeat(32)),
        ),
        (Input::Paused(mandate.clone()), "0c01620177"),
        (Input::Resumed(mandate.clone()), "0d01620177"),
        (Input::Held(event.clone()), "0e01730169016bfc403400d600000000000300000000"),
        (Input::Closed(mandate.clone(), Closing::Dropped), "100162017701"),
        (Input::Tried { mandate: mandate.clone(), reason: "r".into(), detail: "d".into() }, "110162017701720164"),
        (
            Input::Resolved { effect: "e".into(), run: 1, outcome: Box::new(outcome), mandate: mandate.clone() },
            "1201650104017d0102020a01016f01620177",
        ),
        (Input::AskedAgain { effect: "e".into(), run: 2, mandate: mandate.clone() }, "1301650201620177"),
        (Input::Released(event), "0f01730169016bfc403400d600000000000300000000"),
    ] {
        let record = Record::of_input(full().entity, Version(3), full().now, input);
        let bytes = record.encode();
        let hex = bytes.iter().fold(String::new(), |hex, byte| hex + &format!("{byte:02x}"));
        assert_eq!(hex, format!("03056f72646572046f00c3a903fc403400d600{expected}0000000000000000000000"));
        assert_eq!(Record::decode(&bytes).unwrap(), record);
    }
}

#[test]
fn another_format_is_refused() {
    let mut bytes = full().encode();
    bytes[0] = 9;
    assert!(matches!(Record::decode(&bytes), Err(CodecError::Format { found: 9, expected: 3 })));
}
