//! The fields of a JSON object, without what no field can be: lists and objects inside of it cost nothing.

use serde::de::{Deserialize, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

use super::MAX_FIELDS;
use crate::wire::{FieldError, json_input};

/// Reads the object. A list or an object inside of it is left as an empty one: no field is either, and a frame of brackets
/// would otherwise become a hundred times its size.
pub(super) fn fields(text: &[u8]) -> Result<Map<String, Value>, Box<FieldError>> {
    json_input::read_object(text, |text| serde_json::from_slice::<Flat>(text).map(|flat| flat.0))
}

/// Either the flat object, or a shallow value that is none.
struct Flat(Value);

/// A value inside of the object.
struct Shallow(Value);

struct FlatVisitor;
struct ShallowVisitor;

macro_rules! scalars {
    ($wrap:path) => {
        fn visit_unit<E>(self) -> Result<Self::Value, E> {
            Ok($wrap(Value::Null))
        }

        fn visit_bool<E>(self, flag: bool) -> Result<Self::Value, E> {
            Ok($wrap(Value::Bool(flag)))
        }

        fn visit_u64<E>(self, number: u64) -> Result<Self::Value, E> {
            Ok($wrap(number.into()))
        }

        fn visit_i64<E>(self, number: i64) -> Result<Self::Value, E> {
            Ok($wrap(number.into()))
        }

        fn visit_f64<E>(self, number: f64) -> Result<Self::Value, E> {
            Ok($wrap(Number::from_f64(number).map_or(Value::Null, Value::Number)))
        }

        fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
            Ok($wrap(text.into()))
        }

        fn visit_string<E>(self, text: String) -> Result<Self::Value, E> {
            Ok($wrap(text.into()))
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
            while list.next_element::<IgnoredAny>()?.is_some() {}
            Ok($wrap(Value::Array(Vec::new())))
        }
    };
}

impl<'de> Deserialize<'de> for Flat {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(FlatVisitor)
    }
}

impl<'de> Visitor<'de> for FlatVisitor {
    type Value = Flat;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("an object")
    }

    scalars!(Flat);

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Flat, A::Error> {
        let mut fields = Map::new();
        while let Some((name, value)) = entries.next_entry::<String, Shallow>()? {
            fields.insert(name, value.0);
            if fields.len() > MAX_FIELDS {
                return Err(A::Error::custom(format_args!("more than {MAX_FIELDS} fields")));
            }
        }
        Ok(Flat(Value::Object(fields)))
    }
}

impl<'de> Deserialize<'de> for Shallow {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ShallowVisitor)
    }
}

impl<'de> Visitor<'de> for ShallowVisitor {
    type Value = Shallow;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a value")
    }

    scalars!(Shallow);

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Shallow, A::Error> {
        while entries.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(Shallow(Value::Object(Map::new())))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn scalars_are_kept_and_the_rest_is_hollow() {
        let text = json!({"a": 1, "b": -2, "c": 0.5, "d": "é", "e": null, "f": true, "g": [1, [2]], "h": {"i": {}}});
        let wanted = json!({"a": 1, "b": -2, "c": 0.5, "d": "é", "e": null, "f": true, "g": [], "h": {}});
        assert_eq!(Value::Object(fields(text.to_string().as_bytes()).unwrap()), wanted);
    }

    #[test]
    fn what_is_no_object_is_refused_in_the_words_of_a_body() {
        let kind = |text: &str| fields(text.as_bytes()).unwrap_err().kind;
        assert_eq!(kind(""), "missing");
        assert_eq!(kind("[1]"), "model_attributes_type");
        assert_eq!(kind("\"x\""), "model_attributes_type");
        assert_eq!(kind("{\"a\":1"), "json_invalid");
        assert_eq!(kind("{\"a\":NaN}"), "json_invalid");
        assert_eq!(kind(&format!("{{\"a\":{}", "[".repeat(100_000))), "json_invalid");
    }

    #[test]
    fn an_object_of_very_many_fields_is_no_input() {
        let many: Vec<String> = (0..=MAX_FIELDS).map(|at| format!("\"{at}\":0")).collect();
        assert_eq!(fields(format!("{{{}}}", many.join(",")).as_bytes()).unwrap_err().kind, "json_invalid");
        assert!(fields(format!("{{{}}}", many[1..].join(",")).as_bytes()).is_ok());
    }
}
