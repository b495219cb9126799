//! One entry of fal's 422 list, as pydantic v2 writes it.

use serde::Serialize;
use serde_json::Value;

/// One thing wrong with one field of an input: `{loc, msg, type, input?, ctx?, url?}` (protocol spec 10.2).
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct FieldError {
    /// Where: `["body", "strength"]`. Never empty, or `ValidationError.getFieldErrors` of the JavaScript client fails.
    pub loc: Vec<Value>,
    /// What is wrong, in pydantic's words.
    pub msg: String,
    /// Pydantic's or fal's error type, for example `less_than_equal`.
    #[serde(rename = "type")]
    pub kind: &'static str,
    /// The value at fault, left out where it is large or secret.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub input: Option<Value>,
    /// The bound that was crossed, for example `{"le": 1.0}`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ctx: Option<Value>,
}

impl FieldError {
    /// An error at `body.<field>`.
    #[must_use]
    pub fn at(field: &str, kind: &'static str, msg: impl Into<String>) -> Self {
        Self { loc: vec!["body".into(), field.into()], msg: msg.into(), kind, input: None, ctx: None }
    }

    /// Shows the value at fault.
    #[must_use]
    pub fn with_input(mut self, input: Value) -> Self {
        self.input = Some(input);
        self
    }

    /// Shows the bound that was crossed.
    #[must_use]
    pub fn with_ctx(mut self, ctx: Value) -> Self {
        self.ctx = Some(ctx);
        self
    }

    /// The error as one sentence: `strength: Input should be less than or equal to 1`.
    #[must_use]
    pub fn sentence(&self) -> String {
        match self.loc.last().and_then(Value::as_str) {
            Some(field) => format!("{field}: {}", self.msg),
            None => self.msg.clone(),
        }
    }
}
