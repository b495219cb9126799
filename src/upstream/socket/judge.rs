//! Holds one socket's inputs to the rules, in whichever dialect they come.

use std::sync::Arc;

use serde_json::{Map, Number, Value};

use super::rules::InputRules;
use crate::wire::frame::Opcode;
use crate::wire::{EndpointId, FieldError};

/// How deep an input may be nested.
const DEPTH: usize = 64;

/// The rules that concern one socket.
#[derive(Debug, Clone)]
pub(super) struct Judge {
    rules: Arc<dyn InputRules>,
    endpoint: EndpointId,
    query: Option<String>,
    /// In front of the number that stands for a value that JSON has not. No caller knows it.
    mark: String,
}

/// An input that may not go on.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Refusal {
    pub(super) reason: String,
    /// The input's own `request_id`, where it has one.
    pub(super) request_id: Option<String>,
}

impl Refusal {
    fn plain(reason: &str) -> Self {
        Self { reason: reason.to_owned(), request_id: None }
    }
}

impl Judge {
    /// The rules for sockets of `endpoint`; `None` where they have nothing to say.
    pub(super) fn new(rules: &Arc<dyn InputRules>, endpoint: &EndpointId, query: Option<&str>) -> Option<Self> {
        rules.concern(endpoint).then(|| Self {
            rules: Arc::clone(rules),
            endpoint: endpoint.clone(),
            query: query.map(str::to_owned),
            mark: format!("\u{0}{:032x}:", rand::random::<u128>()),
        })
    }

    /// Checks a message and writes the one that is sent, in the same dialect.
    pub(super) fn judge(&self, opcode: Opcode, message: &[u8]) -> Result<Vec<u8>, Refusal> {
        if opcode == Opcode::Text {
            return self.apply(message).map_err(|errors| refusal(&errors, || serde_json::from_slice(message).ok()));
        }
        let mut rest = message;
        let value = rmpv::decode::read_value_with_max_depth(&mut rest, DEPTH).ok().filter(|_| rest.is_empty());
        let Some(rmpv::Value::Map(fields)) = value else {
            return Err(Refusal::plain("Input should be a valid dictionary"));
        };
        let mut kept = Vec::new();
        let input = self.object(fields, &mut kept).ok_or_else(|| Refusal::plain("Keys should be strings"))?;
        let text = serde_json::to_vec(&input).expect("a JSON value always serialises");
        let sent = self.apply(&text).map_err(|errors| refusal(&errors, || Some(Value::Object(input))))?;
        let sent = serde_json::from_slice(&sent).map_err(|_| Refusal::plain("the input cannot be checked"))?;
        let mut out = Vec::with_capacity(message.len());
        rmpv::encode::write_value(&mut out, &self.plain(sent, &mut kept)).expect("a vector takes every byte");
        Ok(out)
    }

    fn apply(&self, input: &[u8]) -> Result<Vec<u8>, Vec<FieldError>> {
        self.rules.apply(&self.endpoint, self.query.as_deref(), input)
    }

    /// As JSON. What that has not (bytes, extensions, numbers that are none) goes into `kept`, with a mark in its place.
    fn object(
        &self,
        fields: Vec<(rmpv::Value, rmpv::Value)>,
        kept: &mut Vec<rmpv::Value>,
    ) -> Option<Map<String, Value>> {
        let mut object = Map::new();
        for (key, value) in fields {
            let rmpv::Value::String(key) = key else { return None };
            object.insert(key.into_str()?, self.json(value, kept)?);
        }
        Some(object)
    }

    fn json(&self, value: rmpv::Value, kept: &mut Vec<rmpv::Value>) -> Option<Value> {
        Some(match value {
            rmpv::Value::Nil => Value::Null,
            rmpv::Value::Boolean(yes) => Value::Bool(yes),
            rmpv::Value::Integer(number) => match (number.as_u64(), number.as_i64()) {
                (Some(number), _) => Value::from(number),
                (None, number) => Value::from(number?),
            },
            rmpv::Value::F32(number) if number.is_finite() => Value::from(number),
            rmpv::Value::F64(number) if number.is_finite() => Value::from(number),
            rmpv::Value::String(text) if text.is_str() => Value::String(text.into_str()?),
            rmpv::Value::Array(values) => {
                Value::Array(values.into_iter().map(|value| self.json(value, kept)).collect::<Option<_>>()?)
            }
            rmpv::Value::Map(fields) => Value::Object(self.object(fields, kept)?),
            other => {
                let mark = format!("{}{}", self.mark, kept.len());
                kept.push(other);
                Value::String(mark)
            }
        })
    }

    /// As msgpack, with what was kept in the place of its marks.
    fn plain(&self, value: Value, kept: &mut [rmpv::Value]) -> rmpv::Value {
        match value {
            Value::Null => rmpv::Value::Nil,
            Value::Bool(yes) => rmpv::Value::Boolean(yes),
            Value::Number(number) => integer(&number).unwrap_or_else(|| {
                rmpv::Value::F64(number.as_f64().expect("a number that is no integer is a fraction"))
            }),
            Value::String(text) => {
                let index = text.strip_prefix(&self.mark).and_then(|index| index.parse::<usize>().ok());
                match index.and_then(|index| kept.get_mut(index)) {
                    Some(kept) => std::mem::replace(kept, rmpv::Value::Nil),
                    None => rmpv::Value::from(text),
                }
            }
            Value::Array(values) => {
                rmpv::Value::Array(values.into_iter().map(|value| self.plain(value, kept)).collect())
            }
            Value::Object(fields) => {
                let fields = fields.into_iter().map(|(key, value)| (rmpv::Value::from(key), self.plain(value, kept)));
                rmpv::Value::Map(fields.collect())
            }
        }
    }
}

fn integer(number: &Number) -> Option<rmpv::Value> {
    number.as_u64().map(rmpv::Value::from).or_else(|| number.as_i64().map(rmpv::Value::from))
}

fn refusal(errors: &[FieldError], input: impl FnOnce() -> Option<Value>) -> Refusal {
    let reason = errors.iter().map(FieldError::sentence).collect::<Vec<_>>().join("; ");
    let request_id = input().and_then(|input| input["request_id"].as_str().map(str::to_owned));
    Refusal { reason, request_id: request_id.filter(|id| id.len() <= 100) }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// Lets `steps` be 8 at most, and puts a seed in.
    #[derive(Debug)]
    struct AtMostEight;

    impl InputRules for AtMostEight {
        fn concern(&self, endpoint: &EndpointId) -> bool {
            endpoint.as_str() == "fal-ai/lcm"
        }

        fn apply(&self, _: &EndpointId, _: Option<&str>, input: &[u8]) -> Result<Vec<u8>, Vec<FieldError>> {
            let mut input: Value = serde_json::from_slice(input).unwrap();
            if input["steps"].as_u64() > Some(8) {
                return Err(vec![FieldError::at("steps", "less_than_equal", "Input should be at most 8")]);
            }
            input["seed"] = json!(42);
            Ok(input.to_string().into_bytes())
        }
    }

    fn judge() -> Judge {
        let rules: Arc<dyn InputRules> = Arc::new(AtMostEight);
        Judge::new(&rules, &EndpointId::parse("fal-ai/lcm").unwrap(), None).unwrap()
    }

    fn packed(value: &rmpv::Value) -> Vec<u8> {
        let mut out = Vec::new();
        rmpv::encode::write_value(&mut out, value).unwrap();
        out
    }

    fn map(fields: &[(&str, rmpv::Value)]) -> rmpv::Value {
        rmpv::Value::Map(fields.iter().map(|(key, value)| ((*key).into(), value.clone())).collect())
    }

    #[test]
    fn a_text_input_is_checked_and_stays_text() {
        let sent = judge().judge(Opcode::Text, br#"{"steps":4}"#).unwrap();
        assert_eq!(serde_json::from_slice::<Value>(&sent).unwrap(), json!({"steps": 4, "seed": 42}));
        let refused = judge().judge(Opcode::Text, br#"{"steps":9,"request_id":"a"}"#).unwrap_err();
        assert_eq!(refused.request_id.as_deref(), Some("a"));
        assert!(refused.reason.contains("steps"), "{}", refused.reason);
    }

    #[test]
    fn bytes_and_numbers_of_msgpack_come_through_as_they_are() {
        let odd = rmpv::Value::Ext(-1, vec![0, 0, 0, 1]);
        let fields = [
            ("image_bytes", rmpv::Value::Binary(vec![0, 255, 3])),
            ("steps", 4.into()),
            ("low", (-5).into()),
            ("large", u64::MAX.into()),
            ("strength", 0.5.into()),
            ("when", odd),
            ("nested", rmpv::Value::Array(vec![rmpv::Value::Binary(vec![1]), rmpv::Value::Nil, true.into()])),
        ];
        let sent = judge().judge(Opcode::Binary, &packed(&map(&fields))).unwrap();
        let sent = rmpv::decode::read_value(&mut sent.as_slice()).unwrap();
        for (key, value) in &fields {
            assert_eq!(&sent[*key], value, "{key}");
        }
        assert_eq!(sent["seed"], 42.into());
    }

    #[test]
    fn what_is_no_dictionary_is_refused() {
        let double = packed(&map(&[("steps", 4.into())])).repeat(2);
        let cyclic = [&[0x91; 500][..], &[0xC0]].concat();
        let numbered = packed(&rmpv::Value::Map(vec![(1.into(), 1.into())]));
        let huge = [0xDF, 0xFF, 0xFF, 0xFF, 0xFF];
        for bad in [&b""[..], b"\xC1", &packed(&"a text".into()), &double, &cyclic, &numbered, &huge] {
            assert!(judge().judge(Opcode::Binary, bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_second_key_of_the_same_name_cannot_be_smuggled() {
        let twice = packed(&map(&[("steps", 9.into()), ("steps", 4.into())]));
        let sent = judge().judge(Opcode::Binary, &twice).unwrap();
        assert_eq!(sent.windows(5).filter(|part| part == b"steps").count(), 1);
        let other = packed(&map(&[("steps", 4.into()), ("steps", 9.into())]));
        assert!(judge().judge(Opcode::Binary, &other).is_err());
    }

    #[test]
    fn rules_that_do_not_concern_an_endpoint_leave_it_alone() {
        let rules: Arc<dyn InputRules> = Arc::new(AtMostEight);
        assert!(Judge::new(&rules, &EndpointId::parse("fal-ai/flux").unwrap(), None).is_none());
    }
}
