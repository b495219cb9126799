//! What is asked of fal's token routes (protocol spec 9.1 and 9.2).

use std::num::NonZeroU32;

use serde_json::{Map, Value};

use super::{EndpointId, FieldError, fields_of_json};

const APP: &str = "app";
const APPS: &str = "allowed_apps";
/// Names of the life that is wished for: of `/tokens/`, and of `/tokens/realtime`.
const LIFE: [&str; 2] = ["token_expiration", "duration"];
/// What fal's clients ask for, in seconds.
const USUAL_LIFE_S: u32 = 120;
/// More apps than any page uses.
const MOST_APPS: usize = 32;

/// A wish for a token: some apps and a life.
///
/// Apps come as aliases, as fal's clients send them, or as whole ids, as its documentation shows them for
/// `/tokens/realtime`. A wish without an app would be one for all of them and is none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenWish {
    apps: Vec<WishedApp>,
    life_s: Vec<(&'static str, u32)>,
}

/// An app that a token is wished for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WishedApp {
    field: &'static str,
    text: String,
    endpoint: Option<EndpointId>,
}

impl WishedApp {
    /// Reads an alias, or an id with its owner.
    fn read(field: &'static str, text: &Value) -> Option<Self> {
        let text = text.as_str()?;
        let endpoint = EndpointId::parse(text);
        let is_alias = || !text.contains('/') && EndpointId::parse(&format!("any/{text}")).is_some();
        (endpoint.is_some() || is_alias()).then(|| Self { field, text: text.to_owned(), endpoint })
    }

    /// The alias, which is all that a token names.
    #[must_use]
    pub fn alias(&self) -> &str {
        self.endpoint.as_ref().map_or(&self.text, EndpointId::alias)
    }

    /// The whole id, where that was given.
    #[must_use]
    pub const fn endpoint(&self) -> Option<&EndpointId> {
        self.endpoint.as_ref()
    }

    /// An error at the field that named the app, which it shows.
    #[must_use]
    pub fn error(&self, kind: &'static str, msg: &'static str) -> FieldError {
        FieldError::at(self.field, kind, msg).with_input(self.text.clone().into())
    }
}

impl TokenWish {
    /// Reads the body of a token call. Unknown fields are passed over, numbers may be text.
    ///
    /// # Errors
    /// fal's list of what is wrong with it.
    pub fn read(body: &[u8]) -> Result<Self, Vec<FieldError>> {
        let mut asked = fields_of_json(body).map_err(|error| vec![*error])?;
        let mut errors = Vec::new();
        let mut apps = Vec::new();
        let named = asked.remove(APP).into_iter().map(|app| (APP, app)).collect::<Vec<_>>();
        let listed = match asked.remove(APPS) {
            Some(Value::Array(listed)) if !listed.is_empty() => listed,
            None if !named.is_empty() => Vec::new(),
            None => {
                errors.push(FieldError::at(APPS, "missing", "Field required"));
                Vec::new()
            }
            Some(_) => {
                errors.push(FieldError::at(APPS, "list_type", "Input should be a list of app aliases"));
                Vec::new()
            }
        };
        if listed.len() > MOST_APPS {
            errors.push(FieldError::at(APPS, "too_long", format!("List should have at most {MOST_APPS} items")));
        }
        for (field, app) in named.into_iter().chain(listed.into_iter().take(MOST_APPS).map(|app| (APPS, app))) {
            match WishedApp::read(field, &app) {
                Some(app) => apps.push(app),
                None => errors.push(FieldError::at(field, "string_type", "Input should be an app alias")),
            }
        }
        let mut life_s = Vec::new();
        for field in LIFE {
            if let Some(life) = asked.remove(field).filter(|life| !life.is_null()) {
                match seconds(&life) {
                    Some(life) => life_s.push((field, life)),
                    None => {
                        let msg = "Input should be a valid integer, in seconds";
                        errors.push(FieldError::at(field, "int_parsing", msg));
                    }
                }
            }
        }
        if errors.is_empty() { Ok(Self { apps, life_s }) } else { Err(errors) }
    }

    /// The apps, at least one.
    #[must_use]
    pub fn apps(&self) -> &[WishedApp] {
        &self.apps
    }

    /// The life that is wished for, in seconds; the shortest where there are two.
    #[must_use]
    pub fn life_s(&self) -> Option<u32> {
        self.life_s.iter().map(|(_, life)| *life).min()
    }

    /// Writes the wish for fal: known fields only, no longer than `longest`, and aliases where fal wants them.
    #[must_use]
    pub fn write(&self, longest: NonZeroU32) -> Vec<u8> {
        let mut fields = Map::new();
        let mut listed = Vec::new();
        for app in &self.apps {
            if app.field == APP {
                fields.insert(APP.to_owned(), app.text.clone().into());
            } else {
                listed.push(Value::from(app.alias()));
            }
        }
        if !listed.is_empty() {
            fields.insert(APPS.to_owned(), listed.into());
        }
        for (field, life) in &self.life_s {
            fields.insert((*field).to_owned(), (*life).min(longest.get()).into());
        }
        if self.life_s.is_empty() {
            let field = if fields.contains_key(APP) { LIFE[1] } else { LIFE[0] };
            fields.insert(field.to_owned(), longest.get().min(USUAL_LIFE_S).into());
        }
        serde_json::to_vec(&Value::Object(fields)).expect("a JSON value always serialises")
    }
}

/// Whole seconds, at least one; more than a `u32` holds is as much as it holds.
fn seconds(life: &Value) -> Option<u32> {
    let seconds = match life {
        Value::Number(number) => number.as_f64(),
        Value::String(text) => text.trim().parse::<f64>().ok(),
        _ => None,
    };
    let seconds = seconds.filter(|seconds| seconds.is_finite() && *seconds >= 1.0)?;
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "between 1 and a u32")]
    let seconds = seconds.min(f64::from(u32::MAX)) as u32;
    Some(seconds)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(body: &Value) -> Result<TokenWish, Vec<FieldError>> {
        TokenWish::read(body.to_string().as_bytes())
    }

    #[test]
    fn every_spelling_of_a_wish_is_understood() {
        for (body, life) in [
            (json!({"allowed_apps":["lcm-sd15-i2i"],"token_expiration":120}), Some(120)),
            (json!({"allowed_apps":["110602490-lcm-sd15-i2i"],"duration":"90"}), Some(90)),
            (json!({"allowed_apps":["fal-ai/lcm-sd15-i2i/realtime"],"duration":7.9}), Some(7)),
            (json!({"app":"fal-ai/lcm-sd15-i2i/realtime","token_expiration":null,"scope":"all"}), None),
            (json!({"app":"lcm-sd15-i2i","duration":1e300,"token_expiration":"60.0"}), Some(60)),
        ] {
            let wish = read(&body).unwrap();
            assert_eq!(wish.apps().iter().map(WishedApp::alias).collect::<Vec<_>>(), ["lcm-sd15-i2i"], "{body}");
            assert_eq!(wish.life_s(), life, "{body}");
        }
        let both = read(&json!({"app":"a/b","allowed_apps":["c"]})).unwrap();
        assert_eq!(both.apps().iter().map(WishedApp::alias).collect::<Vec<_>>(), ["b", "c"]);
    }

    #[test]
    fn what_names_no_app_or_no_time_is_no_wish() {
        for body in [
            json!({}),
            json!([]),
            json!({"allowed_apps":[]}),
            json!({"allowed_apps":null}),
            json!({"allowed_apps":["*"]}),
            json!({"allowed_apps":"lcm-sd15-i2i"}),
            json!({"allowed_apps":[1]}),
            json!({"allowed_apps":[""]}),
            json!({"allowed_apps":["../lcm-sd15-i2i"]}),
            json!({"allowed_apps":vec!["lcm"; 33]}),
            json!({"app":null}),
            json!({"allowed_apps":["lcm"],"token_expiration":-1}),
            json!({"allowed_apps":["lcm"],"token_expiration":0}),
            json!({"allowed_apps":["lcm"],"duration":"forever"}),
            json!({"allowed_apps":["lcm"],"duration":true}),
        ] {
            assert!(read(&body).is_err(), "{body}");
        }
        assert_eq!(TokenWish::read(b"nonsense").unwrap_err()[0].kind, "json_invalid");
    }

    #[test]
    fn fal_is_asked_for_known_fields_and_a_short_life() {
        let longest = NonZeroU32::new(300).unwrap();
        let written = |body: &Value| -> Value { serde_json::from_slice(&read(body).unwrap().write(longest)).unwrap() };
        let plain = json!({"allowed_apps":["lcm-sd15-i2i"],"token_expiration":120});
        assert_eq!(written(&plain), plain);
        let long = json!({"allowed_apps":["fal-ai/lcm-sd15-i2i"],"token_expiration":"86400","scope":"admin"});
        assert_eq!(written(&long), json!({"allowed_apps":["lcm-sd15-i2i"],"token_expiration":300}));
        let endless = json!({"app":"fal-ai/lcm-sd15-i2i/realtime","duration":1e300});
        assert_eq!(written(&endless), json!({"app":"fal-ai/lcm-sd15-i2i/realtime","duration":300}));
        assert_eq!(written(&json!({"allowed_apps":["lcm"]})), json!({"allowed_apps":["lcm"],"token_expiration":120}));
    }
}
