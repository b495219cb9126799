//! Targets that were admitted before: a page asks for the same few again and again.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use http::{HeaderValue, Method};

use crate::wire::{AllowedTargets, TargetRefusal, TargetUrl};

/// Targets that are remembered. When there are more, all are forgotten.
const MAX_KEPT: usize = 256;
/// Longest target that is remembered, in bytes.
const MAX_BYTES: usize = 256;

/// Remembers what one [`AllowedTargets`] admits. Admission reads nothing but the header and the method, so that what it
/// said once holds for good; refusals are worked out each time.
#[derive(Debug, Default)]
pub(super) struct AdmittedTargets(Mutex<HashMap<Asked, TargetUrl>>);

#[derive(Debug, PartialEq, Eq, Hash)]
struct Asked {
    header: HeaderValue,
    method: Method,
}

impl AdmittedTargets {
    /// Admits as `allowed` does, which must always be the same.
    pub(super) fn admit(
        &self,
        allowed: &AllowedTargets,
        header: Option<&HeaderValue>,
        method: &Method,
    ) -> Result<TargetUrl, TargetRefusal> {
        // What has a query or names a queued request is seldom asked twice.
        let kept = header.filter(|header| header.len() <= MAX_BYTES && !header.as_bytes().contains(&b'?'));
        let Some(header) = kept else { return allowed.admit(header, method) };
        let asked = Asked { header: header.clone(), method: method.clone() };
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner).get(&asked).cloned();
        if let Some(target) = known {
            return Ok(target);
        }
        let target = allowed.admit(Some(header), method)?;
        if target.call().request_id.is_none() {
            let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            if kept.len() >= MAX_KEPT {
                kept.clear();
            }
            // The header that came is a slice of all that was read with it; it must not keep that from going.
            if let Ok(header) = HeaderValue::from_bytes(asked.header.as_bytes()) {
                kept.insert(Asked { header, method: asked.method }, target.clone());
            }
        }
        Ok(target)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::{EndpointPattern, TargetSettings};

    fn open() -> AllowedTargets {
        let endpoints = vec![EndpointPattern::parse("fal-ai/**").unwrap()];
        AllowedTargets::new(TargetSettings { endpoints, ..TargetSettings::default() })
    }

    #[test]
    fn a_target_is_admitted_for_the_method_that_asked() {
        let (allowed, admitted) = (open(), AdmittedTargets::default());
        let header = HeaderValue::from_static("https://queue.fal.run/fal-ai/flux");
        for _ in 0..2 {
            let target = admitted.admit(&allowed, Some(&header), &Method::POST).unwrap();
            assert_eq!(target.path_and_query(), "/fal-ai/flux");
            assert!(admitted.admit(&allowed, Some(&header), &Method::PUT).is_err());
            assert!(admitted.admit(&allowed, None, &Method::POST).is_err());
        }
        assert_eq!(admitted.0.lock().unwrap().len(), 1);
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let (allowed, admitted) = (open(), AdmittedTargets::default());
        for n in 0..MAX_KEPT * 2 + 10 {
            let header = HeaderValue::try_from(format!("https://fal.run/fal-ai/app-{n}")).unwrap();
            assert!(admitted.admit(&allowed, Some(&header), &Method::POST).is_ok());
            assert!(admitted.0.lock().unwrap().len() <= MAX_KEPT);
        }
        let status = HeaderValue::from_static("https://queue.fal.run/fal-ai/flux/requests/abc/status");
        let before = admitted.0.lock().unwrap().len();
        assert!(admitted.admit(&allowed, Some(&status), &Method::GET).is_ok());
        assert_eq!(admitted.0.lock().unwrap().len(), before);
    }
}
