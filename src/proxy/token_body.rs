//! What a caller may ask of fal's token routes: tokens for allowed apps only, and short ones.

use std::num::NonZeroU32;

use serde_json::{Map, Value};

use super::policy::read_object;
use crate::wire::{AllowedTargets, EndpointId, FieldError};

const APPS: &str = "allowed_apps";
const LIFE_FIELDS: [&str; 2] = ["token_expiration", "duration"];

/// Checks the body of a token call and writes the one that is sent: known fields only.
///
/// A wish without an app would be a token for every app, so it is refused.
pub(super) fn check(body: &[u8], allowed: &AllowedTargets, longest: NonZeroU32) -> Result<Vec<u8>, Vec<FieldError>> {
    let mut asked = read_object(body).map_err(|error| vec![error])?;
    let mut sent = Map::new();
    let mut errors = Vec::new();
    if let Some(app) = asked.remove("app") {
        check_app("app", &app, allowed, &mut errors);
        sent.insert("app".to_owned(), app);
    }
    match asked.remove(APPS) {
        Some(Value::Array(apps)) if !apps.is_empty() => {
            for app in &apps {
                check_app(APPS, app, allowed, &mut errors);
            }
            sent.insert(APPS.to_owned(), Value::Array(apps));
        }
        None if !sent.is_empty() => {}
        None => errors.push(FieldError::at(APPS, "missing", "Field required")),
        Some(_) => errors.push(FieldError::at(APPS, "list_type", "Input should be a list of app aliases")),
    }
    let mut timed = false;
    for field in LIFE_FIELDS {
        if let Some(life) = asked.remove(field).filter(|life| !life.is_null()) {
            match shorten(field, &life, longest) {
                Ok(life) => drop(sent.insert(field.to_owned(), life)),
                Err(error) => errors.push(error),
            }
            timed = true;
        }
    }
    if !timed {
        let field = if sent.contains_key("app") { LIFE_FIELDS[1] } else { LIFE_FIELDS[0] };
        sent.insert(field.to_owned(), Value::from(longest.get().min(120)));
    }
    if !errors.is_empty() {
        return Err(errors);
    }
    Ok(serde_json::to_vec(&Value::Object(sent)).expect("a JSON value always serialises"))
}

/// An app is named by its alias, or on one route by its whole path.
fn check_app(field: &'static str, app: &Value, allowed: &AllowedTargets, errors: &mut Vec<FieldError>) {
    let endpoint = app.as_str().filter(|app| app.contains('/')).and_then(EndpointId::parse);
    let alias = match (&endpoint, app.as_str()) {
        (Some(endpoint), _) => Some(endpoint.alias()),
        (None, Some(app)) if !app.is_empty() && !app.contains(['/', '*', '?']) => Some(app),
        _ => None,
    };
    match alias {
        None => errors.push(FieldError::at(field, "string_type", "Input should be an app alias")),
        Some(alias) if !allowed.allows_alias(alias) => {
            let msg = "A token for this app is not allowed by this gate";
            errors.push(FieldError::at(field, "value_error", msg).with_input(app.clone()));
        }
        Some(_) => {}
    }
}

fn shorten(field: &'static str, life: &Value, longest: NonZeroU32) -> Result<Value, FieldError> {
    let error = || FieldError::at(field, "int_parsing", "Input should be a valid integer, in seconds");
    let seconds = match life {
        Value::Number(number) => number.as_f64(),
        Value::String(text) => text.trim().parse::<u32>().ok().map(f64::from),
        _ => None,
    };
    let seconds = seconds.filter(|seconds| seconds.is_finite() && *seconds >= 1.0).ok_or_else(error)?;
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "between 1 and a u32")]
    let seconds = seconds.min(f64::from(longest.get())) as u32;
    Ok(Value::from(seconds))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::wire::{EndpointPattern, TargetSettings};

    fn ask(body: &Value) -> Result<Value, Vec<FieldError>> {
        let endpoints = vec![EndpointPattern::parse("fal-ai/lcm-sd15-i2i").unwrap()];
        let allowed = AllowedTargets::new(TargetSettings { endpoints, tokens: true, ..TargetSettings::default() });
        let sent = check(body.to_string().as_bytes(), &allowed, NonZeroU32::new(300).unwrap())?;
        Ok(serde_json::from_slice(&sent).unwrap())
    }

    #[test]
    fn a_token_for_an_allowed_app_is_asked_as_it_came() {
        let body = json!({"allowed_apps":["lcm-sd15-i2i"],"token_expiration":120});
        assert_eq!(ask(&body), Ok(body));
    }

    #[test]
    fn a_long_life_is_shortened_and_unknown_fields_go() {
        let sent = ask(&json!({"allowed_apps":["lcm-sd15-i2i"],"token_expiration":"86400","scope":"admin"}));
        assert_eq!(sent, Ok(json!({"allowed_apps":["lcm-sd15-i2i"],"token_expiration":300})));
        let sent = ask(&json!({"app":"fal-ai/lcm-sd15-i2i/realtime","duration":1e300}));
        assert_eq!(sent, Ok(json!({"app":"fal-ai/lcm-sd15-i2i/realtime","duration":300})));
        let sent = ask(&json!({"allowed_apps":["lcm-sd15-i2i"]}));
        assert_eq!(sent, Ok(json!({"allowed_apps":["lcm-sd15-i2i"],"token_expiration":120})));
    }

    #[test]
    fn tokens_for_other_apps_or_for_all_are_refused() {
        for body in [
            json!({}),
            json!({"allowed_apps":[]}),
            json!({"allowed_apps":["*"]}),
            json!({"allowed_apps":["flux"]}),
            json!({"allowed_apps":["lcm-sd15-i2i","flux"]}),
            json!({"allowed_apps":"lcm-sd15-i2i"}),
            json!({"allowed_apps":[1]}),
            json!({"allowed_apps":["../lcm-sd15-i2i"]}),
            json!({"app":"fal-ai/flux/realtime"}),
            json!({"app":"fal-ai/lcm-sd15-i2i","allowed_apps":["flux"]}),
            json!({"allowed_apps":["lcm-sd15-i2i"],"token_expiration":-1}),
            json!({"allowed_apps":["lcm-sd15-i2i"],"token_expiration":"forever"}),
        ] {
            assert!(ask(&body).is_err(), "{body}");
        }
    }
}
