//! The fields of a MessagePack map, as flat as those of a JSON object, with bytes kept apart.

use bytes::Bytes;
use rmpv::{Integer, ValueRef};
use serde_json::{Map, Number, Value};

use super::MAX_FIELDS;
use crate::wire::FieldError;

/// What a frame holds.
#[derive(Debug)]
pub(super) struct Fields {
    /// Every field but those that are bytes.
    pub(super) fields: Map<String, Value>,
    /// The bytes, each a part of the frame.
    pub(super) bytes: Vec<(String, Bytes)>,
}

/// Reads the map. Nothing is allocated for a length that is only announced, lists and maps inside are passed by without
/// recursion and left as empty maps: no field is either.
pub(super) fn fields(frame: &Bytes) -> Result<Fields, Box<FieldError>> {
    let mut rest: &[u8] = frame;
    let first = head(rest).ok_or_else(broken)?;
    let Kind::Map = first.kind else {
        let msg = "Input should be a valid dictionary or object to extract fields from";
        // A frame that goes on behind its first value is garbage, not a value of the wrong type.
        let whole = length(rest) == Some(rest.len());
        return Err(if whole { at_body("model_attributes_type", msg) } else { broken() });
    };
    rest = rest.get(first.bytes..).ok_or_else(broken)?;
    let pairs = first.children / 2;
    if pairs > MAX_FIELDS as u64 {
        return Err(at_body("msgpack_invalid", "MessagePack decode error: more than 256 fields"));
    }
    let (mut fields, mut bytes) = (Map::new(), Vec::new());
    for _ in 0..pairs {
        let name = take(&mut rest).ok_or_else(broken)?;
        let value = take(&mut rest).ok_or_else(broken)?;
        // Names that are no text are nobody's.
        let Some(ValueRef::String(name)) = scalar(name) else { continue };
        let name = name.as_str().ok_or_else(broken)?.to_owned();
        match scalar(value) {
            Some(ValueRef::Binary(part)) => bytes.push((name, frame.slice_ref(part))),
            value => {
                fields.insert(name, plain(value.as_ref()).ok_or_else(broken)?);
            }
        }
    }
    if rest.is_empty() { Ok(Fields { fields, bytes }) } else { Err(broken()) }
}

fn at_body(kind: &'static str, msg: &str) -> Box<FieldError> {
    Box::new(FieldError { loc: vec!["body".into()], msg: msg.to_owned(), kind, input: None, ctx: None })
}

fn broken() -> Box<FieldError> {
    at_body("msgpack_invalid", "MessagePack decode error")
}

/// A value as JSON has it; `None` for text that is not UTF-8.
fn plain(value: Option<&ValueRef<'_>>) -> Option<Value> {
    Some(match value {
        Some(ValueRef::Nil) => Value::Null,
        Some(ValueRef::Boolean(flag)) => Value::Bool(*flag),
        Some(ValueRef::Integer(number)) => integer(*number),
        Some(ValueRef::F32(number)) => float(f64::from(*number)),
        Some(ValueRef::F64(number)) => float(*number),
        Some(ValueRef::String(text)) => text.as_str()?.into(),
        Some(ValueRef::Binary(_) | ValueRef::Array(_)) => Value::Array(Vec::new()),
        Some(ValueRef::Map(_) | ValueRef::Ext(..)) | None => Value::Object(Map::new()),
    })
}

fn integer(number: Integer) -> Value {
    match (number.as_u64(), number.as_i64()) {
        (Some(number), _) => number.into(),
        (None, Some(number)) => number.into(),
        (None, None) => Value::Null,
    }
}

/// JSON has no word for what is not finite; as text the reader of numbers still refuses it for what it is.
fn float(number: f64) -> Value {
    Number::from_f64(number).map_or_else(|| Value::String(number.to_string()), Value::Number)
}

/// The scalar that a whole value is, `None` for a list, a map or an extension.
fn scalar(value: &[u8]) -> Option<ValueRef<'_>> {
    let mut value = value;
    match head(value)?.kind {
        Kind::Scalar => rmpv::decode::read_value_ref(&mut value).ok(),
        Kind::List | Kind::Map | Kind::Extension => None,
    }
}

/// Takes a whole value off the front.
fn take<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let (value, after) = rest.split_at_checked(length(rest)?)?;
    *rest = after;
    Some(value)
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Scalar,
    List,
    Map,
    Extension,
}

/// A value without the values inside of it.
struct Head {
    kind: Kind,
    /// Its marker, its length and its data.
    bytes: usize,
    /// Values that follow and belong to it.
    children: u64,
}

/// Bytes of the whole value at the front, all within `bytes`.
fn length(bytes: &[u8]) -> Option<usize> {
    let (mut at, mut wanted) = (0_usize, 1_u64);
    // Every turn passes at least one byte, so a length that lies ends with the frame.
    while wanted > 0 {
        let head = head(bytes.get(at..)?)?;
        at = at.checked_add(head.bytes).filter(|at| *at <= bytes.len())?;
        wanted = (wanted - 1).checked_add(head.children)?;
    }
    Some(at)
}

fn head(bytes: &[u8]) -> Option<Head> {
    let big_endian = |count: usize| -> Option<usize> {
        let digits = bytes.get(1..1 + count)?;
        Some(digits.iter().fold(0, |number, digit| number << 8 | usize::from(*digit)))
    };
    let scalar = |bytes| Head { kind: Kind::Scalar, bytes, children: 0 };
    let data = |digits: usize| Some(scalar(1 + digits + big_endian(digits)?));
    let extension = |bytes| Head { kind: Kind::Extension, bytes, children: 0 };
    let list = |bytes, count: usize| Head { kind: Kind::List, bytes, children: count as u64 };
    let map = |bytes, count: usize| Head { kind: Kind::Map, bytes, children: 2 * count as u64 };
    let marker = *bytes.first()?;
    Some(match marker {
        0x00..=0x7f | 0xc0 | 0xc2 | 0xc3 | 0xe0..=0xff => scalar(1),
        0x80..=0x8f => map(1, usize::from(marker & 0x0f)),
        0x90..=0x9f => list(1, usize::from(marker & 0x0f)),
        0xa0..=0xbf => scalar(1 + usize::from(marker & 0x1f)),
        0xc1 => return None,
        0xc4 | 0xd9 => data(1)?,
        0xc5 | 0xda => data(2)?,
        0xc6 | 0xdb => data(4)?,
        0xc7 => extension(3 + big_endian(1)?),
        0xc8 => extension(4 + big_endian(2)?),
        0xc9 => extension(6 + big_endian(4)?),
        0xcc | 0xd0 => scalar(2),
        0xcd | 0xd1 => scalar(3),
        0xca | 0xce | 0xd2 => scalar(5),
        0xcb | 0xcf | 0xd3 => scalar(9),
        0xd4..=0xd8 => extension(2 + (1 << (marker - 0xd4))),
        0xdc => list(3, big_endian(2)?),
        0xdd => list(5, big_endian(4)?),
        0xde => map(3, big_endian(2)?),
        0xdf => map(5, big_endian(4)?),
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rmpv::Value as Pack;

    use super::*;

    fn kind(frame: &[u8]) -> &'static str {
        fields(&Bytes::copy_from_slice(frame)).unwrap_err().kind
    }

    #[test]
    fn a_huge_announced_length_costs_nothing() {
        for bomb in [
            &[0xdf, 0xff, 0xff, 0xff, 0xff][..],
            &[0xdd, 0xff, 0xff, 0xff, 0xff, 0xc0],
            &[0x81, 0xa1, b'a', 0xc6, 0xff, 0xff, 0xff, 0xff],
            &[0x81, 0xa1, b'a', 0xdb, 0xff, 0xff, 0xff, 0xff],
            &[0x81, 0xa1, b'a', 0xc9, 0xff, 0xff, 0xff, 0xff, 0],
            &[0xde, 0x01, 0x01],
        ] {
            assert_eq!(kind(bomb), "msgpack_invalid", "{bomb:x?}");
        }
    }

    #[test]
    fn nesting_without_end_is_passed_by_without_recursion() {
        let mut deep = vec![0x81, 0xa1, b'a'];
        deep.extend(std::iter::repeat_n(0x91, 1_000_000));
        deep.push(0xc0);
        let read = fields(&deep.into()).unwrap();
        assert_eq!(Value::Object(read.fields), serde_json::json!({"a": {}}));
        assert_eq!(kind(&[0x91; 1_000_000]), "msgpack_invalid");
    }

    #[test]
    fn what_is_no_map_is_refused() {
        for (value, wanted) in [
            (Pack::from("a prompt"), "model_attributes_type"),
            (Pack::Nil, "model_attributes_type"),
            (Pack::Array(vec![Pack::Nil]), "model_attributes_type"),
        ] {
            let mut frame = Vec::new();
            rmpv::encode::write_value(&mut frame, &value).unwrap();
            assert_eq!(kind(&frame), wanted, "{value}");
        }
        for garbage in [&b""[..], b"\xc1", b"\xff\xd8\xff\xe0", b"\x81\xa1a", b"\x80\x00", b"\x81\xa1\xff\xc0"] {
            assert_eq!(kind(garbage), "msgpack_invalid", "{garbage:x?}");
        }
    }

    #[test]
    fn a_number_that_is_none_is_still_refused_for_what_it_is() {
        let mut frame = Vec::new();
        let map = vec![(Pack::from("strength"), Pack::F64(f64::NAN))];
        rmpv::encode::write_value(&mut frame, &Pack::Map(map)).unwrap();
        assert_eq!(fields(&frame.into()).unwrap().fields["strength"], "NaN");
    }

    fn any_value() -> impl Strategy<Value = Pack> {
        let leaf = prop_oneof![
            Just(Pack::Nil),
            any::<bool>().prop_map(Pack::from),
            any::<i64>().prop_map(Pack::from),
            any::<u64>().prop_map(Pack::from),
            any::<f32>().prop_map(Pack::F32),
            any::<f64>().prop_map(Pack::F64),
            ".{0,40}".prop_map(Pack::from),
            prop::collection::vec(any::<u8>(), 0..300).prop_map(Pack::Binary),
            (any::<i8>(), prop::collection::vec(any::<u8>(), 0..40)).prop_map(|(kind, data)| Pack::Ext(kind, data)),
        ];
        leaf.prop_recursive(4, 40, 20, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..20).prop_map(Pack::Array),
                prop::collection::vec((inner.clone(), inner), 0..20).prop_map(Pack::Map),
            ]
        })
    }

    proptest! {
        #[test]
        fn a_values_length_is_what_was_written(value in any_value(), noise in prop::collection::vec(any::<u8>(), 0..9)) {
            let mut frame = Vec::new();
            rmpv::encode::write_value(&mut frame, &value).unwrap();
            let written = frame.len();
            frame.extend(noise);
            prop_assert_eq!(length(&frame), Some(written));
            for cut in 0..written {
                prop_assert_eq!(length(&frame[..cut]), None);
            }
        }

        #[test]
        fn no_bytes_are_a_reason_to_panic(frame in prop::collection::vec(any::<u8>(), 0..200)) {
            drop(fields(&frame.into()));
        }
    }
}
