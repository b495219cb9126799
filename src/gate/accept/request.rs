//! A request as hyper parsed it, checked once more: what HTTP/2 can carry and must not, and what every request sheds.

use http::header::{
    AUTHORIZATION, CONNECTION, CONTENT_LENGTH, COOKIE, HOST, HeaderMap, HeaderName, HeaderValue, TE, TRANSFER_ENCODING,
    UPGRADE,
};
use http::request::Parts;

use super::framing::{HeadFault, HeadLimits, is_host, is_taken};

/// Checks an HTTP/2 request; on success it has exactly one `Host`, as an HTTP/1 request would.
pub(super) fn check_http2(parts: &mut Parts, limits: &HeadLimits) -> Result<(), HeadFault> {
    if !is_taken(parts.method.as_str().as_bytes()) {
        return Err(HeadFault::Method);
    }
    if parts.headers.len() > limits.fields {
        return Err(HeadFault::TooManyFields);
    }
    let path = parts.uri.path_and_query().map_or("", |path| path.as_str());
    if path.len() > limits.target_bytes {
        return Err(HeadFault::TargetTooLong);
    }
    if !path.starts_with('/') && path != "*" {
        return Err(HeadFault::Target);
    }
    let forbidden = [CONNECTION, TRANSFER_ENCODING, UPGRADE, KEEP_ALIVE, PROXY_CONNECTION];
    if forbidden.iter().any(|name| parts.headers.contains_key(name)) {
        return Err(HeadFault::FieldName);
    }
    if parts.headers.get_all(TE).iter().any(|value| !value.as_bytes().eq_ignore_ascii_case(b"trailers")) {
        return Err(HeadFault::FieldValue);
    }
    if parts.headers.get_all(CONTENT_LENGTH).iter().count() > 1 {
        return Err(HeadFault::ContentLength);
    }
    host_of_http2(parts)
}

const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
const PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");

fn host_of_http2(parts: &mut Parts) -> Result<(), HeadFault> {
    let mut hosts = parts.headers.get_all(HOST).iter();
    let (host, second) = (hosts.next(), hosts.next());
    let authority = parts.uri.authority().map(|authority| authority.as_str());
    let named = match (authority, host) {
        _ if second.is_some() => None,
        (Some(authority), Some(host)) if !host.as_bytes().eq_ignore_ascii_case(authority.as_bytes()) => None,
        (Some(authority), _) => HeaderValue::from_str(authority).ok(),
        (None, host) => host.cloned(),
    };
    let named = named.filter(|value| is_host(value.as_bytes())).ok_or(HeadFault::Host)?;
    parts.headers.insert(HOST, named);
    Ok(())
}

/// Drops fields with `_` in their names: servers behind may read it as `-` and take `x_forwarded_for` for the real one.
pub(super) fn drop_underscores(headers: &mut HeaderMap) {
    let twins: Vec<HeaderName> = headers.keys().filter(|name| name.as_str().contains('_')).cloned().collect();
    for name in twins {
        headers.remove(name);
    }
}

/// Marks what no log may show and no header compression may keep.
pub(super) fn mark_secrets(headers: &mut HeaderMap) {
    for name in [AUTHORIZATION, COOKIE] {
        if let http::header::Entry::Occupied(mut entry) = headers.entry(name) {
            for value in entry.iter_mut() {
                value.set_sensitive(true);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use http::{Request, Version};

    use super::*;

    const LIMITS: HeadLimits = HeadLimits { bytes: 1024, target_bytes: 64, fields: 3 };

    fn check(build: impl FnOnce(http::request::Builder) -> http::request::Builder) -> Result<HeaderMap, HeadFault> {
        let request = build(Request::builder().version(Version::HTTP_2)).body(()).unwrap();
        let (mut parts, ()) = request.into_parts();
        check_http2(&mut parts, &LIMITS).map(|()| parts.headers)
    }

    #[test]
    fn the_authority_becomes_the_host() {
        let headers = check(|request| request.uri("https://gate.test:8443/a")).unwrap();
        assert_eq!(headers[HOST], "gate.test:8443");
        let headers = check(|request| request.uri("/a").header(HOST, "gate.test")).unwrap();
        assert_eq!(headers[HOST], "gate.test");
    }

    #[test]
    fn requests_get_the_fault_they_have() {
        let at = |request: http::request::Builder| request.uri("https://gate.test/");
        assert_eq!(check(|request| at(request).method("TRACE")), Err(HeadFault::Method));
        assert_eq!(check(|request| request.uri("/a")), Err(HeadFault::Host));
        assert_eq!(check(|request| request.uri("https://u@gate.test/")), Err(HeadFault::Host));
        assert_eq!(check(|request| at(request).header(HOST, "other.test")), Err(HeadFault::Host));
        assert_eq!(
            check(|request| at(request).header(HOST, "gate.test").header(HOST, "gate.test")),
            Err(HeadFault::Host)
        );
        assert_eq!(check(|request| at(request).header(TE, "gzip")), Err(HeadFault::FieldValue));
        assert_eq!(check(|request| at(request).header(TRANSFER_ENCODING, "chunked")), Err(HeadFault::FieldName));
        assert_eq!(check(|request| at(request).header("keep-alive", "1")), Err(HeadFault::FieldName));
        assert_eq!(
            check(|request| (0..4).fold(at(request), |request, n| request.header("a", n))),
            Err(HeadFault::TooManyFields)
        );
        let long = format!("https://gate.test/{}", "a".repeat(64));
        assert_eq!(check(|request| request.uri(long)), Err(HeadFault::TargetTooLong));
    }

    #[test]
    fn secrets_are_not_shown_by_debug() {
        let mut headers = HeaderMap::new();
        headers.append(AUTHORIZATION, HeaderValue::from_static("Key canary"));
        headers.append(COOKIE, HeaderValue::from_static("a=canary"));
        headers.append(COOKIE, HeaderValue::from_static("b=canary"));
        mark_secrets(&mut headers);
        assert!(!format!("{headers:?}").contains("canary"));
    }

    #[test]
    fn underscore_twins_are_dropped() {
        let mut headers = HeaderMap::new();
        for name in ["x_forwarded_for", "x-forwarded-for", "x-fal_target-url"] {
            headers.insert(HeaderName::from_static(name), HeaderValue::from_static("1"));
        }
        drop_underscores(&mut headers);
        assert_eq!(headers.keys().collect::<Vec<_>>(), ["x-forwarded-for"]);
    }
}
