//! The operator's rules for inputs: pure, from a body to the body that is sent.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::field_rule::{FieldRule, Verdict};
use crate::wire::{EndpointId, EndpointPattern, FieldError};

/// Rules for the inputs of the endpoints that a pattern names.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct PolicySettings {
    /// The endpoints that are meant, as a glob: `fal-ai/flux/**`.
    pub endpoint: EndpointPattern,
    /// One rule per input field. `a.b` is the field `b` inside the object `a`.
    pub fields: BTreeMap<String, FieldRule>,
}

/// All policies of a gate.
#[derive(Debug, Clone, Default)]
pub struct Policies(Vec<PolicySettings>);

impl Policies {
    /// Takes the policies in the order in which they apply.
    #[must_use]
    pub const fn new(policies: Vec<PolicySettings>) -> Self {
        Self(policies)
    }

    /// Whether some policy concerns this endpoint, so that its bodies must be read.
    #[must_use]
    pub fn concern(&self, endpoint: &EndpointId) -> bool {
        self.0.iter().any(|policy| policy.endpoint.matches(endpoint))
    }

    /// Checks an input and writes the one that is sent.
    ///
    /// What comes out is written from what was checked, so a second key of the same name, an escaped spelling of a key or
    /// a number in a string cannot mean one thing here and another at fal.
    ///
    /// # Errors
    /// fal's list of field errors, one entry per field at fault.
    pub fn apply(&self, endpoint: &EndpointId, query: Option<&str>, body: &[u8]) -> Result<Vec<u8>, Vec<FieldError>> {
        let mut input = read_object(body).map_err(|error| vec![error])?;
        let mut errors = Vec::new();
        for policy in self.0.iter().filter(|policy| policy.endpoint.matches(endpoint)) {
            for (field, rule) in &policy.fields {
                let judged = refuse_in_query(field, query).and_then(|()| apply_rule(&mut input, field, rule));
                errors.extend(judged.err());
            }
        }
        if !errors.is_empty() {
            return Err(errors);
        }
        Ok(serde_json::to_vec(&Value::Object(input)).expect("a JSON value always serialises"))
    }
}

/// Reads a JSON object; an empty body is the empty object.
pub(super) fn read_object(body: &[u8]) -> Result<Map<String, Value>, FieldError> {
    let whole = |kind, msg| FieldError { loc: vec!["body".into()], msg, kind, input: None, ctx: None };
    if body.iter().all(u8::is_ascii_whitespace) {
        return Ok(Map::new());
    }
    match serde_json::from_slice(body) {
        Ok(Value::Object(input)) => Ok(input),
        Ok(_) => Err(whole("dict_type", "Input should be a valid dictionary".to_owned())),
        Err(cause) => {
            Err(whole("json_invalid", format!("JSON decode error at line {}, column {}", cause.line(), cause.column())))
        }
    }
}

/// A field that a rule names may come in the body only, where it is checked.
fn refuse_in_query(field: &str, query: Option<&str>) -> Result<(), FieldError> {
    let name = field.split('.').next().unwrap_or(field);
    let named = query.into_iter().flat_map(|query| query.split(['&', ';'])).any(|pair| {
        let key = pair.split('=').next().unwrap_or_default().replace('+', " ");
        let key = percent_encoding::percent_decode_str(&key).decode_utf8_lossy();
        key.trim().eq_ignore_ascii_case(name)
    });
    if !named {
        return Ok(());
    }
    let mut error = FieldError::at(name, "feature_not_supported", "This input is not allowed in the query");
    error.loc[0] = "query".into();
    Err(error)
}

fn apply_rule(input: &mut Map<String, Value>, field: &str, rule: &FieldRule) -> Result<(), FieldError> {
    let Some((outer, inner)) = field.split_once('.') else {
        match rule.judge(field, input.get(field))? {
            Verdict::Keep => {}
            Verdict::Remove => drop(input.remove(field)),
            Verdict::Put(value) => drop(input.insert(field.to_owned(), value)),
        }
        return Ok(());
    };
    let nested = |mut error: FieldError| {
        error.loc.insert(1, outer.into());
        error
    };
    match input.get_mut(outer) {
        Some(Value::Object(object)) => apply_rule(object, inner, rule).map_err(nested),
        Some(Value::Null) | None => {
            let mut object = Map::new();
            apply_rule(&mut object, inner, rule).map_err(nested)?;
            if !object.is_empty() {
                input.insert(outer.to_owned(), Value::Object(object));
            }
            Ok(())
        }
        Some(_) => Err(FieldError::at(outer, "dict_type", "Input should be a valid dictionary")),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn policies() -> Policies {
        let settings = json!([{
            "endpoint": "fal-ai/flux/**",
            "fields": {
                "num_images": {"max": 1},
                "num_inference_steps": {"max": 8, "outside": "clamp", "default": 4},
                "loras": {"deny": true},
                "safety.enabled": {"force": true},
            },
        }]);
        Policies::new(serde_json::from_value(settings).unwrap())
    }

    fn apply(body: &str) -> Result<Value, Vec<FieldError>> {
        let endpoint = EndpointId::parse("fal-ai/flux/dev").unwrap();
        let sent = policies().apply(&endpoint, None, body.as_bytes())?;
        Ok(serde_json::from_slice(&sent).unwrap())
    }

    #[test]
    fn an_input_within_the_rules_is_sent_with_what_the_rules_add() {
        let sent = apply(r#"{"prompt":"a cat","num_images":1}"#).unwrap();
        let wanted = json!({"prompt":"a cat","num_images":1,"num_inference_steps":4,"safety":{"enabled":true}});
        assert_eq!(sent, wanted);
    }

    #[test]
    fn a_second_key_of_the_same_name_cannot_be_smuggled() {
        let sent = apply(r#"{"num_images":9,"num_images":1}"#).unwrap();
        assert_eq!(sent["num_images"], 1);
        let endpoint = EndpointId::parse("fal-ai/flux/dev").unwrap();
        let raw = policies().apply(&endpoint, None, br#"{"num_images":9,"num_images":1}"#).unwrap();
        assert_eq!(String::from_utf8(raw).unwrap().matches("num_images").count(), 1);
        assert!(apply(r#"{"num_images":1,"num_images":9}"#).is_err());
        assert!(apply("{\"num\\u005fimages\":9}").is_err());
    }

    #[test]
    fn every_field_at_fault_is_named() {
        let errors = apply(r#"{"num_images":4,"loras":[{"path":"x"}],"safety":[]}"#).unwrap_err();
        let fields: Vec<_> = errors.iter().map(|error| error.loc.last().unwrap().as_str().unwrap()).collect();
        assert_eq!(fields, ["loras", "num_images", "safety"]);
    }

    #[test]
    fn what_is_no_object_is_refused() {
        for body in ["[1]", "\"a\"", "1", "{", "{\"a\":1}x", "nul", "{\"num_images\":1e999}"] {
            assert!(apply(body).is_err(), "{body}");
        }
        assert!(apply(&format!("{}{}", "[".repeat(200), "]".repeat(200))).is_err());
        assert_eq!(apply(" ").unwrap()["num_inference_steps"], 4);
    }

    #[test]
    fn a_checked_field_may_not_come_in_the_query() {
        let endpoint = EndpointId::parse("fal-ai/flux/dev").unwrap();
        for query in ["num_images=9", "a=1&num%5Fimages=9", "a=1;NUM_IMAGES=9"] {
            assert!(policies().apply(&endpoint, Some(query), b"{}").is_err(), "{query}");
        }
        assert!(policies().apply(&endpoint, Some("fal_max_queue_length=1"), b"{}").is_ok());
    }

    #[test]
    fn a_policy_concerns_only_the_endpoints_that_it_names() {
        let concern = |id: &str| policies().concern(&EndpointId::parse(id).unwrap());
        assert!(concern("fal-ai/flux/dev"));
        assert!(!concern("fal-ai/lcm"));
    }
}
