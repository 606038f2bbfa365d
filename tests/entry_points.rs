//! Bytes that nobody vouches for, at every place where Turnstile takes some: what is generated here is refused or read,
//! and never makes it panic. The same functions run under libFuzzer in `tests/fuzz`, which finds more in an hour than
//! this does in a second; this is what every test run affords.

use proptest::collection::vec;
use proptest::prelude::*;
use turnstile::fuzzing;
use turnstile::model::codec;
use turnstile::model::identities::{Identities, Seen};
use turnstile::model::ids::{IdentityHash, PayloadHash, Version};
use turnstile::model::outbox::Outgoing;
use turnstile::model::packed::Packed;
use turnstile::model::state::{FieldState, LsnBook, State};
use turnstile::model::value::Value;

const EVENT: &[u8] =
    br#"{"specversion":"1.0","id":"p-1","source":"shop","type":"PaymentProcessed","time":"2026-11-20T10:00:03.25Z","subject":"o","data":{"orderId":"o-1","status":"successful","amount":49.9,"items":["a",{"n":-1e3}]}}"#;
const BODY: &[u8] =
    br#"{"type":"OrderCreated","time":"2026-11-20T10:00:03+01:00","data":{"orderId":18446744073709551616}}"#;
const XML: &[u8] =
    b"<?xml version='1.0'?>\n<s:a xmlns:s='u'><b c='&lt;1'>x&#65;</b><b/><d><![CDATA[<e>]]></d><!-- f --></s:a>";
const RULES: &str = include_str!("../examples/orders/rules.toml");
const TIMESHEETS: &str = include_str!("../examples/timesheets/rules.toml");

/// A change to sound bytes: deeper in than bytes at random come.
#[derive(Clone, Debug)]
enum Edit {
    Set(prop::sample::Index, u8),
    Insert(prop::sample::Index, Vec<u8>),
    Remove(prop::sample::Index, usize),
    Repeat(prop::sample::Index, usize, usize),
}

fn edits() -> impl Strategy<Value = Vec<Edit>> {
    let at = any::<prop::sample::Index>;
    let piece = prop_oneof![
        vec(any::<u8>(), 1..9),
        prop::sample::select(vec!["{", "[", "\"", "\\u0000", "1e400", "null", "\n", "'", "''", ".?", "(", "= {"])
            .prop_map(|text| text.as_bytes().to_vec()),
    ];
    let edit = prop_oneof![
        (at(), any::<u8>()).prop_map(|(at, byte)| Edit::Set(at, byte)),
        (at(), piece).prop_map(|(at, bytes)| Edit::Insert(at, bytes)),
        (at(), 1..40usize).prop_map(|(at, count)| Edit::Remove(at, count)),
        (at(), 1..60usize, 1..200usize).prop_map(|(at, count, times)| Edit::Repeat(at, count, times)),
    ];
    vec(edit, 0..6)
}

fn edited(sound: &[u8], edits: &[Edit]) -> Vec<u8> {
    let mut bytes = sound.to_vec();
    for edit in edits {
        let place = |at: &prop::sample::Index| at.index(bytes.len() + 1);
        match edit {
            Edit::Set(at, byte) => {
                let at = place(at);
                bytes.splice(at..(at + 1).min(bytes.len()), [*byte]);
            }
            Edit::Insert(at, piece) => {
                let at = place(at);
                bytes.splice(at..at, piece.iter().copied());
            }
            Edit::Remove(at, count) => {
                let at = place(at);
                bytes.drain(at..(at + count).min(bytes.len()));
            }
            Edit::Repeat(at, count, times) => {
                let at = place(at);
                let again = bytes[at..(at + count).min(bytes.len())].repeat(*times);
                bytes.splice(at..at, again);
            }
        }
    }
    bytes
}

/// A block whose records are these, its checksums left out: `fuzzing::block` makes them fit.
fn block(records: &[Vec<u8>]) -> Vec<u8> {
    let mut bytes = vec![0; 28];
    bytes[0] = 2;
    bytes[4..8].copy_from_slice(&(records.len() as u32).to_le_bytes());
    bytes[8] = 1;
    for record in records {
        bytes.extend((record.len() as u32).to_le_bytes());
        bytes.extend(record);
    }
    bytes
}

fn entity() -> Vec<u8> {
    let mut identities = Identities::default();
    identities.push(Seen { id: IdentityHash([1; 16]), payload: PayloadHash(2), at_ms: 3 });
    let value = Packed::new(&Value::Int(1));
    let list = FieldState::List(vec![(Box::new([1]), value.clone()), (Box::new([2]), value)]);
    let fields = vec![None, Some(FieldState::Count(4)), Some(FieldState::By(vec![("b".into(), list)]))];
    let state = State { version: Version(3), fields, identities, ..State::default() };
    codec::encode(3, &(state, LsnBook::default(), Vec::<Outgoing>::new()))
}

/// Were these refused, then what is made of them would not come far.
#[test]
fn what_is_changed_below_is_sound() {
    assert_eq!((fuzzing::frames(EVENT), fuzzing::frames(BODY)), (2, 1));
    assert_eq!(fuzzing::block(&block(&[b"a".to_vec(), b"".to_vec()])), 1);
    assert_eq!((fuzzing::state(&entity()), fuzzing::xml(XML)), (1, 1));
    for rules in [RULES, TIMESHEETS] {
        // Their tests name a file of events, and what reads files is left out.
        let rules = rules.split("[[test]]").next().unwrap_or_default();
        assert_eq!(fuzzing::configuration(rules.as_bytes()), 1);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn frames(bytes in vec(any::<u8>(), 0..300), edits in edits()) {
        fuzzing::frames(&bytes);
        fuzzing::frames(&edited(EVENT, &edits));
        fuzzing::frames(&edited(BODY, &edits));
    }

    #[test]
    fn xml(text in "[<>a-c/&;'\"=#x1 !?\\[\\]-]{0,80}", edits in edits()) {
        fuzzing::xml(text.as_bytes());
        fuzzing::xml(&edited(XML, &edits));
    }

    #[test]
    fn blocks(bytes in vec(any::<u8>(), 0..300), records in vec(vec(any::<u8>(), 0..40), 1..5), edits in edits()) {
        fuzzing::block(&bytes);
        fuzzing::block(&edited(&block(&records), &edits));
    }

    #[test]
    fn states(bytes in vec(any::<u8>(), 0..300), edits in edits()) {
        fuzzing::state(&bytes);
        fuzzing::state(&[&[1][..], &bytes].concat());
        fuzzing::state(&edited(&entity(), &edits));
    }
}

proptest! {
    // Compiling rules takes a hundred times what the others do.
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn configurations(text in "[a-z.\\[\\]={}\"'\n0-9 ]{0,200}", edits in edits()) {
        fuzzing::configuration(text.as_bytes());
        fuzzing::configuration(&edited(RULES.as_bytes(), &edits));
        fuzzing::configuration(&edited(TIMESHEETS.as_bytes(), &edits));
    }
}
