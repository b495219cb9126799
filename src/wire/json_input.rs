//! A request's input as an object of fields: a JSON body, or the fields of a query.

use serde_json::{Map, Value, json};

use super::FieldError;

const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// Reads a JSON body into its fields.
///
/// # Errors
/// One fault at `body`, as FastAPI words it: no body, no JSON, or no object.
pub fn fields_of_json(body: &[u8]) -> Result<Map<String, Value>, Box<FieldError>> {
    read_object(body, |body| serde_json::from_slice(body))
}

/// Reads a JSON object with a reader of the caller's choice.
pub(super) fn read_object(
    body: &[u8],
    read: impl FnOnce(&[u8]) -> serde_json::Result<Value>,
) -> Result<Map<String, Value>, Box<FieldError>> {
    let body = body.strip_prefix(BYTE_ORDER_MARK).unwrap_or(body);
    if body.iter().all(u8::is_ascii_whitespace) {
        return Err(Box::new(at_body("missing", "Field required").with_input(Value::Null)));
    }
    match read(body) {
        Ok(Value::Object(fields)) => Ok(fields),
        Ok(_) => {
            let msg = "Input should be a valid dictionary or object to extract fields from";
            Err(Box::new(at_body("model_attributes_type", msg)))
        }
        Err(error) => Err(Box::new(no_json(body, &error))),
    }
}

/// Reads the fields of a query, `prompt=a+cat&seed=42`; the last of a repeated field counts.
///
/// Every value is text. What JavaScript writes for an absent value (`null`, `undefined`) and empty text of a field that
/// is not text itself are left out.
#[must_use]
pub fn fields_of_query(query: &str) -> Map<String, Value> {
    let decode =
        |text: &str| percent_encoding::percent_decode_str(&text.replace('+', " ")).decode_utf8_lossy().into_owned();
    let mut fields = Map::new();
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let (name, value) = (decode(name), decode(value));
        let is_text = matches!(name.as_str(), "prompt" | "negative_prompt" | "request_id");
        if !is_text && matches!(value.as_str(), "" | "null" | "undefined") {
            continue;
        }
        fields.insert(name, Value::String(value));
    }
    fields
}

fn at_body(kind: &'static str, msg: &str) -> FieldError {
    FieldError { loc: vec!["body".into()], msg: msg.to_owned(), kind, input: None, ctx: None }
}

fn no_json(body: &[u8], error: &serde_json::Error) -> FieldError {
    let before: usize =
        body.split_inclusive(|byte| *byte == b'\n').take(error.line().saturating_sub(1)).map(<[u8]>::len).sum();
    let position = (before + error.column().saturating_sub(1)).min(body.len());
    let mut fault = at_body("json_invalid", "JSON decode error");
    fault.loc.push(position.into());
    fault.with_input(json!({})).with_ctx(json!({ "error": in_pythons_words(&error.to_string()) }))
}

/// What is wrong, as Python's parser would put it where the two have a word for the same thing.
fn in_pythons_words(said: &str) -> String {
    let said = said.split(" at line ").next().unwrap_or(said);
    let known = [
        ("EOF while parsing a string", "Unterminated string starting at"),
        ("expected value", "Expecting value"),
        ("EOF while parsing a value", "Expecting value"),
        ("expected `,` or", "Expecting ',' delimiter"),
        ("EOF while parsing", "Expecting ',' delimiter"),
        ("key must be a string", "Expecting property name enclosed in double quotes"),
        ("expected `:`", "Expecting ':' delimiter"),
        ("trailing characters", "Extra data"),
        ("trailing comma", "Illegal trailing comma"),
        ("control character", "Invalid control character at"),
        ("invalid escape", "Invalid \\escape"),
    ];
    known
        .iter()
        .find(|(ours, _)| said.starts_with(ours))
        .map_or_else(|| said.to_owned(), |(_, theirs)| (*theirs).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_object_is_refused_in_fastapis_words() {
        let kind = |body: &str| fields_of_json(body.as_bytes()).unwrap_err().kind;
        assert_eq!(kind(""), "missing");
        assert_eq!(kind(" \n"), "missing");
        assert_eq!(kind("[1]"), "model_attributes_type");
        assert_eq!(kind("\"x\""), "model_attributes_type");
        assert_eq!(kind("{\"a\":"), "json_invalid");
        assert_eq!(kind("{\"a\":NaN}"), "json_invalid");
        assert_eq!(kind("{\"a\":1e999}"), "json_invalid");
        assert_eq!(kind(&"[".repeat(10_000)), "json_invalid");
    }

    #[test]
    fn broken_json_says_where_and_what() {
        let fault = fields_of_json(b"{\n\"a\":1,,}").unwrap_err();
        assert_eq!(serde_json::to_value(&fault.loc).unwrap(), json!(["body", 8]));
        assert_eq!(fault.ctx, Some(json!({"error": "Expecting property name enclosed in double quotes"})));
    }

    #[test]
    fn a_byte_order_mark_is_no_fault() {
        assert!(fields_of_json(b"\xef\xbb\xbf{}").unwrap().is_empty());
    }

    #[test]
    fn query_fields_are_text_and_blank_numbers_are_absent() {
        let fields = fields_of_query("prompt=a+cat%21&seed=&strength=null&num_images=2&&x");
        assert_eq!(Value::Object(fields), json!({"prompt": "a cat!", "num_images": "2"}));
    }
}
