//! What a caller may ask of fal's token routes: tokens for allowed apps only, and short ones.

use std::num::NonZeroU32;

use crate::wire::{AllowedTargets, FieldError, Reach, TokenIssuer, TokenWish};

/// Checks the body of a token call; says who signs the token, and writes the body that is sent.
pub(super) fn check(
    body: &[u8],
    (allowed, reach): (&AllowedTargets, Reach),
    longest: NonZeroU32,
) -> Result<(TokenIssuer, Vec<u8>), Vec<FieldError>> {
    let wish = TokenWish::read(body)?;
    let mut errors = Vec::new();
    let mut signs = None;
    for app in wish.apps() {
        match (allowed.issuer(app, reach), signs) {
            (None, _) => errors.push(app.error("value_error", "A token for this app is not allowed by this gate")),
            (Some(issuer), None) => signs = Some(issuer),
            (Some(issuer), Some(before)) if issuer == before => {}
            (Some(_), Some(_)) => {
                let msg =
                    "A token cannot be for this app and for the ones before it: fal signs one and this gate the other";
                errors.push(app.error("value_error", msg));
            }
        }
    }
    match signs {
        Some(TokenIssuer::Fal) if errors.is_empty() => Ok((TokenIssuer::Fal, wish.write(longest))),
        // Its service reads the wish anew, and has bounds of its own.
        Some(TokenIssuer::Gate) if errors.is_empty() => Ok((TokenIssuer::Gate, body.to_owned())),
        _ => Err(errors),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::wire::{EndpointPattern, TargetSettings};

    fn pattern(text: &str) -> EndpointPattern {
        EndpointPattern::parse(text).unwrap()
    }

    fn allowed(endpoints: &[&str]) -> AllowedTargets {
        let endpoints = endpoints.iter().map(|text| pattern(text)).collect();
        AllowedTargets::new(TargetSettings { endpoints, tokens: true, ..TargetSettings::default() })
    }

    fn ask(allowed: &AllowedTargets, body: &Value) -> Result<(TokenIssuer, Value), Vec<FieldError>> {
        let longest = NonZeroU32::new(300).unwrap();
        let (issuer, sent) = check(body.to_string().as_bytes(), (allowed, Reach::Fal), longest)?;
        Ok((issuer, serde_json::from_slice(&sent).unwrap()))
    }

    #[test]
    fn a_token_for_an_allowed_app_is_asked_as_it_came() {
        let body = json!({"allowed_apps":["lcm-sd15-i2i"],"token_expiration":120});
        assert_eq!(ask(&allowed(&["fal-ai/lcm-sd15-i2i"]), &body), Ok((TokenIssuer::Fal, body)));
    }

    #[test]
    fn a_long_life_is_shortened_and_unknown_fields_go() {
        let allowed = allowed(&["fal-ai/lcm-sd15-i2i"]);
        let (_, sent) =
            ask(&allowed, &json!({"allowed_apps":["lcm-sd15-i2i"],"token_expiration":"86400","scope":"admin"}))
                .unwrap();
        assert_eq!(sent, json!({"allowed_apps":["lcm-sd15-i2i"],"token_expiration":300}));
    }

    #[test]
    fn tokens_for_other_apps_or_for_all_are_refused() {
        let allowed = allowed(&["fal-ai/lcm-sd15-i2i"]);
        for body in [
            json!({}),
            json!({"allowed_apps":["*"]}),
            json!({"allowed_apps":["flux"]}),
            json!({"allowed_apps":["lcm-sd15-i2i","flux"]}),
            json!({"app":"fal-ai/flux/realtime"}),
            json!({"app":"me/lcm-sd15-i2i"}),
            json!({"app":"fal-ai/lcm-sd15-i2i","allowed_apps":["flux"]}),
        ] {
            assert!(ask(&allowed, &body).is_err(), "{body}");
        }
    }

    #[test]
    fn the_row_that_matches_first_says_who_signs() {
        let rows = [(pattern("fal-ai/lcm"), Some(Reach::Here)), (pattern("**"), None)];
        let issuers = [(pattern("fal-ai/flux/**"), TokenIssuer::Fal), (pattern("**"), TokenIssuer::Gate)];
        let allowed = allowed(&["fal-ai/flux/**", "fal-ai/sana"]).with_rows(rows).with_issuers(issuers);
        let signs = |body: &Value| ask(&allowed, body).map(|(issuer, _)| issuer);
        assert_eq!(signs(&json!({"allowed_apps":["lcm"]})), Ok(TokenIssuer::Gate));
        assert_eq!(signs(&json!({"allowed_apps":["lcm", "sana"]})), Ok(TokenIssuer::Gate));
        assert_eq!(signs(&json!({"allowed_apps":["flux"]})), Ok(TokenIssuer::Fal));
        assert_eq!(signs(&json!({"app":"fal-ai/flux/dev/realtime"})), Ok(TokenIssuer::Fal));
        assert!(signs(&json!({"allowed_apps":["other"]})).is_err());
        let near = |body: &Value| {
            let longest = NonZeroU32::new(300).unwrap();
            check(body.to_string().as_bytes(), (&allowed, Reach::Here), longest).map(|(issuer, _)| issuer)
        };
        assert_eq!(near(&json!({"allowed_apps":["lcm"]})), Ok(TokenIssuer::Gate));
        assert!(near(&json!({"allowed_apps":["sana"]})).is_err(), "not hosted here");
        assert!(near(&json!({"allowed_apps":["flux"]})).is_err(), "not hosted here");
        let mixed = signs(&json!({"allowed_apps":["lcm", "flux"]})).unwrap_err();
        assert_eq!(mixed.len(), 1);
        assert!(mixed[0].msg.contains("fal signs one"), "{mixed:?}");
    }

    #[test]
    fn fal_signs_nothing_where_its_tokens_are_switched_off() {
        let endpoints = vec![pattern("fal-ai/flux")];
        let allowed = AllowedTargets::new(TargetSettings { endpoints, ..TargetSettings::default() })
            .with_issuers([(pattern("fal-ai/flux"), TokenIssuer::Fal)]);
        assert!(ask(&allowed, &json!({"allowed_apps":["flux"]})).is_err());
    }
}
