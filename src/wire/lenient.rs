//! Reads loosely typed JSON fields as pydantic v2 does in its lax mode, and words refusals as it words them.
//!
//! Every reader takes its field out of the object, gives `None` for an absent or null one, and writes what is wrong into
//! a list, so that one answer names all faults.

use serde_json::{Map, Number, Value, json};

use super::FieldError;

/// Longest string that is shown back in a refusal, in bytes.
const SHOWN_INPUT: usize = 200;
/// 2⁶⁴, the first integer that a `u64` does not hold.
const TWO_POW_64: f64 = 18_446_744_073_709_551_616.0;

/// An object that is being read, and what was wrong with it so far.
pub(super) struct LaxObject {
    fields: Map<String, Value>,
    faults: Vec<FieldError>,
}

/// An integer of any size, as a caller wrote it.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct BigInt {
    /// As it is echoed. Past 64 bits it is the nearest floating-point number.
    pub(super) shown: Number,
    /// Its lowest 64 bits, in two's complement.
    pub(super) low_bits: u64,
}

enum IntFault {
    Type,
    Parsing,
    Fraction,
}

impl LaxObject {
    pub(super) const fn new(fields: Map<String, Value>) -> Self {
        Self { fields, faults: Vec::new() }
    }

    pub(super) fn fault(&mut self, fault: FieldError) {
        self.faults.push(fault);
    }

    /// Ends the reading: the faults, none if all was well.
    pub(super) fn into_faults(self) -> Vec<FieldError> {
        self.faults
    }

    pub(super) fn take(&mut self, field: &str) -> Option<Value> {
        self.fields.remove(field).filter(|value| !value.is_null())
    }

    pub(super) fn missing(&mut self, field: &str) {
        self.fault(FieldError::at(field, "missing", "Field required"));
    }

    /// A text of at most so many characters; one that is longer is a fault, and is not kept.
    pub(super) fn no_longer(&mut self, field: &str, text: Option<String>, most: usize) -> Option<String> {
        let text = text?;
        // A character is at most four bytes: what is short enough is not counted.
        if text.len() > most && text.chars().nth(most).is_some() {
            let msg = format!("String should have at most {most} characters");
            self.fault(FieldError::at(field, "string_too_long", msg).with_ctx(json!({ "max_length": most })));
            return None;
        }
        Some(text)
    }

    pub(super) fn string(&mut self, field: &str) -> Option<String> {
        match self.take(field)? {
            Value::String(text) => Some(text),
            other => {
                self.fault(at(field, "string_type", "Input should be a valid string", &other));
                None
            }
        }
    }

    /// A string that must be there; null is no string here.
    pub(super) fn required_string(&mut self, field: &str) -> Option<String> {
        match self.fields.get(field) {
            None => {
                self.missing(field);
                None
            }
            Some(Value::Null) => {
                self.fault(at(field, "string_type", "Input should be a valid string", &Value::Null));
                None
            }
            Some(_) => self.string(field),
        }
    }

    pub(super) fn boolean(&mut self, field: &str) -> Option<bool> {
        let value = self.take(field)?;
        match lax_bool(&value) {
            Ok(flag) => Some(flag),
            Err(kind) => {
                let msg = match kind {
                    "bool_parsing" => "Input should be a valid boolean, unable to interpret input",
                    _ => "Input should be a valid boolean",
                };
                self.fault(at(field, kind, msg, &value));
                None
            }
        }
    }

    pub(super) fn integer(&mut self, field: &str) -> Option<BigInt> {
        let value = self.take(field)?;
        match lax_int(&value) {
            Ok(number) => Some(number),
            Err(fault) => {
                let (kind, msg) = match fault {
                    IntFault::Type => ("int_type", "Input should be a valid integer"),
                    IntFault::Parsing => {
                        ("int_parsing", "Input should be a valid integer, unable to parse string as an integer")
                    }
                    IntFault::Fraction => {
                        ("int_from_float", "Input should be a valid integer, got a number with a fractional part")
                    }
                };
                self.fault(at(field, kind, msg, &value));
                None
            }
        }
    }

    pub(super) fn integer_within(&mut self, field: &str, low: u32, high: u32) -> Option<u32> {
        let shown = self.fields.get(field).cloned().unwrap_or_default();
        let number = self.integer(field)?;
        let value = number.shown.as_f64().unwrap_or(f64::NAN);
        if let Some(crossed) = Bound::crossed_by(value, f64::from(low), f64::from(high)) {
            let ctx = json!({ crossed.key: crossed.bound as i64 });
            self.fault(crossed.fault(field, &shown).with_ctx(ctx));
            return None;
        }
        u32::try_from(number.low_bits).ok()
    }

    pub(super) fn float_within(&mut self, field: &str, low: f64, high: f64) -> Option<f64> {
        let value = self.take(field)?;
        let number = match lax_float(&value) {
            Ok(number) if number.is_finite() => number,
            Ok(_) => {
                self.fault(at(field, "finite_number", "Input should be a finite number", &value));
                return None;
            }
            Err("float_parsing") => {
                let msg = "Input should be a valid number, unable to parse string as a number";
                self.fault(at(field, "float_parsing", msg, &value));
                return None;
            }
            Err(kind) => {
                self.fault(at(field, kind, "Input should be a valid number", &value));
                return None;
            }
        };
        if let Some(crossed) = Bound::crossed_by(number, low, high) {
            let ctx = json!({ crossed.key: crossed.bound });
            self.fault(crossed.fault(field, &value).with_ctx(ctx));
            return None;
        }
        Some(number)
    }
}

/// A bound that a value crossed, in pydantic's words.
struct Bound {
    kind: &'static str,
    words: &'static str,
    key: &'static str,
    bound: f64,
}

impl Bound {
    fn crossed_by(value: f64, low: f64, high: f64) -> Option<Self> {
        if value > high {
            Some(Self { kind: "less_than_equal", words: "less than or equal to", key: "le", bound: high })
        } else if value < low {
            Some(Self { kind: "greater_than_equal", words: "greater than or equal to", key: "ge", bound: low })
        } else {
            None
        }
    }

    fn fault(&self, field: &str, shown: &Value) -> FieldError {
        at(field, self.kind, &format!("Input should be {} {}", self.words, self.bound), shown)
    }
}

/// A fault that shows its input, unless that is long: pictures are not echoed.
fn at(field: &str, kind: &'static str, msg: &str, input: &Value) -> FieldError {
    let fault = FieldError::at(field, kind, msg);
    let short = match input {
        Value::String(text) => text.len() <= SHOWN_INPUT,
        Value::Array(_) | Value::Object(_) => false,
        Value::Null | Value::Bool(_) | Value::Number(_) => true,
    };
    if short { fault.with_input(input.clone()) } else { fault }
}

fn lax_bool(value: &Value) -> Result<bool, &'static str> {
    match value {
        Value::Bool(flag) => Ok(*flag),
        Value::Number(number) => match number.as_f64() {
            Some(0.0) => Ok(false),
            Some(1.0) => Ok(true),
            _ if number.is_f64() => Err("bool_type"),
            _ => Err("bool_parsing"),
        },
        Value::String(text) => match text.trim().to_ascii_lowercase().as_str() {
            "1" | "true" | "t" | "yes" | "y" | "on" => Ok(true),
            "0" | "false" | "f" | "no" | "n" | "off" => Ok(false),
            _ => Err("bool_parsing"),
        },
        Value::Null | Value::Array(_) | Value::Object(_) => Err("bool_type"),
    }
}

fn lax_float(value: &Value) -> Result<f64, &'static str> {
    match value {
        Value::Number(number) => number.as_f64().ok_or("float_type"),
        Value::Bool(flag) => Ok(f64::from(u8::from(*flag))),
        Value::String(text) => {
            let text = text.trim();
            // Rust also reads the words, as Python does; both are refused as not finite.
            let plain = without_underscores(text).ok_or("float_parsing")?;
            plain.parse().map_err(|_| "float_parsing")
        }
        Value::Null | Value::Array(_) | Value::Object(_) => Err("float_type"),
    }
}

fn lax_int(value: &Value) -> Result<BigInt, IntFault> {
    match value {
        Value::Bool(flag) => Ok(BigInt { shown: u64::from(*flag).into(), low_bits: u64::from(*flag) }),
        Value::Number(number) => from_number(number),
        Value::String(text) => parse_int(text.trim()),
        Value::Null | Value::Array(_) | Value::Object(_) => Err(IntFault::Type),
    }
}

fn from_number(number: &Number) -> Result<BigInt, IntFault> {
    if let Some(small) = number.as_u64() {
        return Ok(BigInt { shown: small.into(), low_bits: small });
    }
    if let Some(negative) = number.as_i64() {
        return Ok(BigInt { shown: negative.into(), low_bits: negative.cast_unsigned() });
    }
    let float = number.as_f64().filter(|float| float.is_finite()).ok_or(IntFault::Type)?;
    if float.fract() != 0.0 {
        return Err(IntFault::Fraction);
    }
    // An exact integer whose lowest 64 bits are wanted: the remainder of a float by a power of two is exact.
    let magnitude = (float.abs() % TWO_POW_64) as u64;
    let low_bits = if float < 0.0 { magnitude.wrapping_neg() } else { magnitude };
    let shown = if float.abs() < 9.0e15 { Number::from(float as i64) } else { number.clone() };
    Ok(BigInt { shown, low_bits })
}

fn parse_int(text: &str) -> Result<BigInt, IntFault> {
    let (negative, digits) = match text.as_bytes().first() {
        Some(b'-') => (true, &text[1..]),
        Some(b'+') => (false, &text[1..]),
        _ => (false, text),
    };
    // Pydantic takes "2.0" for an integer, but no other fraction.
    let digits = match digits.split_once('.') {
        Some((whole, zeros)) if !zeros.is_empty() && zeros.bytes().all(|byte| byte == b'0') => whole,
        Some(_) => return Err(IntFault::Parsing),
        None => digits,
    };
    let digits = without_underscores(digits).ok_or(IntFault::Parsing)?;
    if digits.is_empty() || digits.len() > 4300 || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(IntFault::Parsing);
    }
    let magnitude = digits.bytes().fold(0_u64, |sum, digit| sum.wrapping_mul(10).wrapping_add(u64::from(digit - b'0')));
    let low_bits = if negative { magnitude.wrapping_neg() } else { magnitude };
    let signed = if negative { format!("-{digits}") } else { digits };
    let shown = match (signed.parse::<u64>(), signed.parse::<i64>()) {
        (Ok(number), _) => number.into(),
        (_, Ok(number)) => number.into(),
        _ => signed.parse().ok().and_then(Number::from_f64).ok_or(IntFault::Parsing)?,
    };
    Ok(BigInt { shown, low_bits })
}

/// Drops single underscores between digits, as Python's literals have them; `None` for any other underscore.
fn without_underscores(text: &str) -> Option<String> {
    let bytes = text.as_bytes();
    for (at, byte) in bytes.iter().enumerate() {
        let digit = |at: Option<usize>| at.and_then(|at| bytes.get(at)).is_some_and(u8::is_ascii_digit);
        if *byte == b'_' && !(digit(at.checked_sub(1)) && digit(Some(at + 1))) {
            return None;
        }
    }
    Some(text.replace('_', ""))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn int(value: &Value) -> Option<(Number, u64)> {
        lax_int(value).ok().map(|number| (number.shown, number.low_bits))
    }

    #[test]
    fn integers_are_read_as_pydantic_reads_them() {
        assert_eq!(int(&json!("2")), Some((2.into(), 2)));
        assert_eq!(int(&json!(" +1_000 ")), Some((1000.into(), 1000)));
        assert_eq!(int(&json!("2.00")), Some((2.into(), 2)));
        assert_eq!(int(&json!(4.0)), Some((4.into(), 4)));
        assert_eq!(int(&json!(true)), Some((1.into(), 1)));
        assert_eq!(int(&json!(-1)), Some(((-1).into(), u64::MAX)));
        for wrong in
            [json!("2.5"), json!("two"), json!(""), json!(2.5), json!([1]), json!({}), json!("1__0"), json!("_1")]
        {
            assert_eq!(int(&wrong), None, "{wrong}");
        }
    }

    #[test]
    fn a_seed_of_any_size_keeps_its_low_bits() {
        assert_eq!(int(&json!("18446744073709551617")).unwrap().1, 1);
        assert_eq!(int(&json!(u64::MAX)).unwrap(), (u64::MAX.into(), u64::MAX));
        assert_eq!(int(&json!(1e20)).unwrap().1, 100_000_000_000_000_000_000_u128 as u64);
        assert_eq!(int(&json!("-18446744073709551617")).unwrap().1, u64::MAX);
    }

    #[test]
    fn booleans_are_read_as_pydantic_reads_them() {
        for yes in [json!(true), json!(1), json!(1.0), json!("true"), json!("ON"), json!("1"), json!("y")] {
            assert_eq!(lax_bool(&yes), Ok(true), "{yes}");
        }
        for no in [json!(false), json!(0), json!("False"), json!("off"), json!("0")] {
            assert_eq!(lax_bool(&no), Ok(false), "{no}");
        }
        assert_eq!(lax_bool(&json!(2)), Err("bool_parsing"));
        assert_eq!(lax_bool(&json!("maybe")), Err("bool_parsing"));
        assert_eq!(lax_bool(&json!([])), Err("bool_type"));
    }
}
