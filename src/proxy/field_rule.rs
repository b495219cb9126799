//! One rule about one input field: pure, from a value to a value or an error.

use serde::{Deserialize, Serialize};
use serde_json::{Number, Value};

use crate::wire::FieldError;

/// What happens to a number outside its bounds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Outside {
    /// The call is refused with 422.
    #[default]
    Refuse,
    /// The nearest bound is sent instead.
    Clamp,
}

/// What an input field may hold.
///
/// A field that is absent or `null` means the app's own default to fal, which may lie outside `min` and `max`: set
/// `default` as well where that matters.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct FieldRule {
    /// Smallest number that passes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min: Option<f64>,
    /// Largest number that passes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max: Option<f64>,
    /// What happens to a number outside the bounds: `refuse` or `clamp`.
    pub outside: Outside,
    /// The field may not be given at all.
    pub deny: bool,
    /// This value is sent, whatever the caller gave.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub force: Option<Value>,
    /// This value is sent when the caller gave none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub default: Option<Value>,
}

/// What becomes of a field.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Verdict {
    /// Leave it as it is.
    Keep,
    /// Take it out.
    Remove,
    /// Put this in its place.
    Put(Value),
}

impl FieldRule {
    /// What is wrong with the rule itself.
    pub(super) fn faults(&self) -> Vec<String> {
        let mut faults = Vec::new();
        let bounds = [self.min, self.max];
        if bounds.iter().flatten().any(|bound| !bound.is_finite()) {
            faults.push("min and max must be finite numbers".to_owned());
        }
        if let [Some(min), Some(max)] = bounds
            && min > max
        {
            faults.push(format!("min {min} is larger than max {max}"));
        }
        let bounded = self.min.is_some() || self.max.is_some();
        if self.deny && (bounded || self.force.is_some() || self.default.is_some()) {
            faults.push("deny leaves nothing for the other rules".to_owned());
        }
        if self.force.is_some() && (bounded || self.default.is_some()) {
            faults.push("force leaves nothing for the other rules".to_owned());
        }
        if !bounded && !self.deny && self.force.is_none() && self.default.is_none() {
            faults.push("the rule says nothing: set min, max, deny, force or default".to_owned());
        }
        if bounded
            && let Some(default) = &self.default
            && self.check_bounds("default", default) != Ok(Verdict::Keep)
        {
            faults.push(format!("default {default} is outside min and max"));
        }
        faults
    }

    /// Judges what a caller gave for `field`.
    pub(super) fn judge(&self, field: &str, given: Option<&Value>) -> Result<Verdict, FieldError> {
        if let Some(force) = &self.force {
            return Ok(if given == Some(force) { Verdict::Keep } else { Verdict::Put(force.clone()) });
        }
        match (given, &self.default) {
            (None | Some(Value::Null), Some(default)) => Ok(Verdict::Put(default.clone())),
            (None, None) => Ok(Verdict::Keep),
            (Some(Value::Null), None) => Ok(Verdict::Remove),
            (Some(_), _) if self.deny => {
                Err(FieldError::at(field, "feature_not_supported", "This input is not allowed by this gate"))
            }
            (Some(given), _) => self.check_bounds(field, given),
        }
    }

    fn check_bounds(&self, field: &str, given: &Value) -> Result<Verdict, FieldError> {
        if self.min.is_none() && self.max.is_none() {
            return Ok(Verdict::Keep);
        }
        let number = read_number(given).ok_or_else(|| {
            FieldError::at(field, "float_parsing", "Input should be a valid number, unable to parse string as a number")
        })?;
        let value = number.as_f64().filter(|value| value.is_finite());
        let value = value.ok_or_else(|| FieldError::at(field, "finite_number", "Input should be a finite number"))?;
        let crossed = match (self.min, self.max) {
            (Some(min), _) if value < min => Some((min, "greater_than_equal", "greater than or equal to", "ge")),
            (_, Some(max)) if value > max => Some((max, "less_than_equal", "less than or equal to", "le")),
            _ => None,
        };
        match (crossed, self.outside) {
            // A number in a string goes out as the number that was compared.
            (None, _) if given.is_number() => Ok(Verdict::Keep),
            (None, _) => Ok(Verdict::Put(Value::Number(number))),
            (Some((bound, ..)), Outside::Clamp) => Ok(Verdict::Put(plain_number(bound))),
            (Some((bound, kind, words, key)), Outside::Refuse) => {
                let bound = plain_number(bound);
                let error = FieldError::at(field, kind, format!("Input should be {words} {bound}"));
                Err(error.with_input(Value::Number(number)).with_ctx(serde_json::json!({ key: bound })))
            }
        }
    }
}

/// Reads a number as pydantic does: numbers, booleans as 0 and 1, numbers in strings.
fn read_number(value: &Value) -> Option<Number> {
    match value {
        Value::Number(number) => Some(number.clone()),
        Value::Bool(yes) => Some(Number::from(u8::from(*yes))),
        Value::String(text) => {
            let text = text.trim();
            let plain = text.bytes().all(|byte| byte.is_ascii_digit() || b"+-.eE".contains(&byte));
            let whole = text.parse::<i64>().ok().map(Number::from);
            whole.or_else(|| text.parse::<f64>().ok().and_then(Number::from_f64)).filter(|_| plain)
        }
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}

/// Writes `8` and not `8.0`, which an integer field of pydantic takes too but a reader stumbles over.
fn plain_number(value: f64) -> Value {
    const EXACT: f64 = 9_007_199_254_740_992.0;
    if value.fract() == 0.0 && value.abs() < EXACT {
        #[expect(clippy::cast_possible_truncation, reason = "a whole number below 2^53 fits")]
        let whole = value as i64;
        return Value::from(whole);
    }
    Value::from(value)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn at_most_8(outside: Outside) -> FieldRule {
        FieldRule { min: Some(1.0), max: Some(8.0), outside, ..FieldRule::default() }
    }

    #[test]
    fn a_number_in_a_string_is_compared_and_sent_as_a_number() {
        let rule = at_most_8(Outside::Refuse);
        for (given, verdict) in [
            (json!("4"), Verdict::Put(json!(4))),
            (json!(" 4.5 "), Verdict::Put(json!(4.5))),
            (json!(4), Verdict::Keep),
            (json!(true), Verdict::Put(json!(1))),
        ] {
            assert_eq!(rule.judge("steps", Some(&given)), Ok(verdict), "{given}");
        }
    }

    #[test]
    fn what_is_no_number_within_the_bounds_is_refused() {
        let rule = at_most_8(Outside::Refuse);
        for given in [
            json!(9),
            json!("9"),
            json!("0x9"),
            json!("1_0"),
            json!("inf"),
            json!("nan"),
            json!("1e400"),
            json!([1]),
            json!({"a": 1}),
            json!(""),
            json!(0.5),
            json!(-1),
            json!("9e0"),
            json!("٤"),
        ] {
            assert!(rule.judge("steps", Some(&given)).is_err(), "{given}");
        }
    }

    #[test]
    fn clamping_sends_the_nearest_bound() {
        let rule = at_most_8(Outside::Clamp);
        assert_eq!(rule.judge("steps", Some(&json!("50"))), Ok(Verdict::Put(json!(8))));
        assert_eq!(rule.judge("steps", Some(&json!(0))), Ok(Verdict::Put(json!(1))));
    }

    #[test]
    fn force_default_and_deny_say_what_is_sent() {
        let force = FieldRule { force: Some(json!(true)), ..FieldRule::default() };
        assert_eq!(force.judge("safe", Some(&json!(false))), Ok(Verdict::Put(json!(true))));
        assert_eq!(force.judge("safe", None), Ok(Verdict::Put(json!(true))));
        let default = FieldRule { default: Some(json!(4)), ..FieldRule::default() };
        assert_eq!(default.judge("steps", Some(&Value::Null)), Ok(Verdict::Put(json!(4))));
        assert_eq!(default.judge("steps", Some(&json!(5))), Ok(Verdict::Keep));
        let deny = FieldRule { deny: true, ..FieldRule::default() };
        assert!(deny.judge("loras", Some(&json!([]))).is_err());
        assert_eq!(deny.judge("loras", Some(&Value::Null)), Ok(Verdict::Remove));
        assert_eq!(deny.judge("loras", None), Ok(Verdict::Keep));
    }

    #[test]
    fn a_rule_that_contradicts_itself_is_a_fault() {
        let faulty = [
            FieldRule::default(),
            FieldRule { min: Some(2.0), max: Some(1.0), ..FieldRule::default() },
            FieldRule { deny: true, max: Some(1.0), ..FieldRule::default() },
            FieldRule { max: Some(1.0), default: Some(json!(2)), ..FieldRule::default() },
            FieldRule { max: Some(f64::NAN), ..FieldRule::default() },
        ];
        for rule in faulty {
            assert!(!rule.faults().is_empty(), "{rule:?}");
        }
        assert!(at_most_8(Outside::Clamp).faults().is_empty());
    }
}
