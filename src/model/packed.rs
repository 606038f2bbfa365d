//! Values in their stored, compact form: what states and records hold. They are unpacked only as far as somebody reads them.

use bincode::{Decode, Encode};

use super::codec::{self, CodecError};
use super::number::Decimal;
use super::time::{Span, Timestamp};
use super::value::Value;

/// A value in its stored, compact form: what states and records hold.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
pub struct Packed(Box<[u8]>);

impl Packed {
    /// Packs a value.
    pub fn new(value: &Value) -> Self {
        let mut bytes = Vec::new();
        codec::encode_into(&mut bytes, value);
        Packed(bytes.into())
    }

    /// The value.
    ///
    /// # Errors
    /// When the bytes were not made by [`Packed::new`].
    pub fn try_unpack(&self) -> Result<Value, CodecError> {
        codec::decode_bare(&self.0)
    }

    /// The value of bytes that were checked when they were read (records and rows carry checksums).
    pub fn unpack(&self) -> Value {
        self.try_unpack().expect("packed values are made by `Packed::new` and guarded by checksums")
    }

    /// Whether it is null.
    pub fn is_null(&self) -> bool {
        // The variant's number, and nothing else.
        *self.0 == [NULL]
    }

    /// The member at the end of `path`, without unpacking what stands beside it; `None` where there is none, and where
    /// something on the way is no map.
    pub fn select(&self, path: &[&str]) -> Option<Value> {
        let mut rest = &*self.0;
        for name in path {
            enter(&mut rest, name).ok().filter(|found| *found)?;
        }
        codec::decode_front(&mut rest).ok()
    }

    /// Size in bytes.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Never true: even null takes a byte. Present because `len` is.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// The numbers of [`Value`]'s variants, as they are encoded.
const NULL: u8 = 0;
const BOOL: u8 = 1;
const INT: u8 = 2;
const DOUBLE: u8 = 3;
const DECIMAL: u8 = 4;
const STRING: u8 = 5;
const TIMESTAMP: u8 = 6;
const DURATION: u8 = 7;
const LIST: u8 = 8;
const MAP: u8 = 9;

/// Moves `rest` from a map to the value of its member `name`; whether there is one.
fn enter(rest: &mut &[u8], name: &str) -> Result<bool, CodecError> {
    if codec::decode_front::<u8>(rest)? != MAP {
        return Ok(false);
    }
    for _ in 0..codec::decode_front::<u64>(rest)? {
        let member: &str = codec::decode_front(rest)?;
        if member == name {
            return Ok(true);
        }
        skip(rest)?;
    }
    Ok(false)
}

/// Moves `rest` behind a value.
fn skip(rest: &mut &[u8]) -> Result<(), CodecError> {
    match codec::decode_front::<u8>(rest)? {
        BOOL => codec::decode_front::<bool>(rest).map(drop),
        INT => codec::decode_front::<i64>(rest).map(drop),
        DOUBLE => codec::decode_front::<f64>(rest).map(drop),
        DECIMAL => codec::decode_front::<Decimal>(rest).map(drop),
        STRING => codec::decode_front::<&str>(rest).map(drop),
        TIMESTAMP => codec::decode_front::<Timestamp>(rest).map(drop),
        DURATION => codec::decode_front::<Span>(rest).map(drop),
        LIST => (0..codec::decode_front::<u64>(rest)?).try_for_each(|_| skip(rest)),
        MAP => (0..codec::decode_front::<u64>(rest)?).try_for_each(|_| {
            codec::decode_front::<&str>(rest)?;
            skip(rest)
        }),
        // NULL, and nothing else: packed values are guarded by checksums.
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::json;

    /// Packed values are part of every record and state.
    #[test]
    fn packed_form_is_frozen() {
        let value = Value::Map(
            [
                (Box::from("a"), Value::List(vec![Value::Null, Value::Bool(true), Value::Int(-3), Value::Double(0.5)])),
                (Box::from("t"), Value::Timestamp(Timestamp::parse("1970-01-01T00:00:01.5Z").unwrap())),
                (Box::from("d"), Value::Duration(Span::parse("2s").unwrap())),
                (Box::from("s"), Value::string("x")),
                (Box::from("n"), Value::decimal(Decimal::from(7))),
            ]
            .into_iter()
            .collect(),
        );
        let packed = Packed::new(&value);
        let golden = [
            9, 5, 1, 97, 8, 4, 0, 1, 1, 2, 5, 3, 0, 0, 0, 0, 0, 0, 224, 63, 1, 100, 7, 4, 0, 1, 110, 4, 1, 7, 0, 1,
            115, 5, 1, 120, 1, 116, 6, 2, 252, 0, 101, 205, 29,
        ];
        assert_eq!(*packed.0, golden);
        assert_eq!(packed.unpack(), value);
    }

    /// If this failed, rules would read something else from a field than what was merged into it.
    #[test]
    fn a_member_is_found_behind_values_of_every_kind() {
        let inner = json::parse(
            br#"{"a":{"x":[1,{"y":null}],"z":1.5},"b":12345678901234567890,"c":{"d":{"e":"\u00e9"}},"n":null}"#,
            8,
        );
        let Value::Map(mut map) = inner.unwrap() else { panic!() };
        map.insert("bb", Value::Timestamp(Timestamp::parse("2026-11-20T10:00:00Z").unwrap()));
        map.insert("bc", Value::Duration(Span::parse("2s").unwrap()));
        map.insert("bd", Value::Bool(true));
        map.insert("be", Value::Int(-70_000));
        let packed = Packed::new(&Value::Map(map.clone()));
        for (name, value) in map.iter() {
            assert_eq!(packed.select(&[name]).as_ref(), Some(value), "{name}");
        }
        assert_eq!(packed.select(&["c", "d", "e"]), Some(Value::string("é")));
        for absent in [&["d"][..], &["a", "y"], &["b", "b"], &["c", "d", "e", "f"], &["n", "x"]] {
            assert_eq!(packed.select(absent), None, "{absent:?}");
        }
        assert_eq!(packed.select(&[]), Some(Value::Map(map)));
    }

    #[test]
    fn null_is_told_without_unpacking() {
        for (value, is_null) in [
            (Value::Null, true),
            (Value::Int(0), false),
            (Value::string(""), false),
            (Value::Bool(false), false),
            (Value::List(Vec::new()), false),
        ] {
            assert_eq!(Packed::new(&value).is_null(), is_null, "{value:?}");
        }
    }
}
