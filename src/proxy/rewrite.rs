//! Which headers pass, in both directions: pure.

use http::header::{self, HeaderMap, HeaderName, HeaderValue};

/// Request headers of fal's that a caller may set (protocol spec 2.1 and 3).
const FAL_REQUEST: [&str; 11] = [
    "x-fal-queue-priority",
    "x-fal-runner-hint",
    "x-fal-request-timeout",
    "x-fal-request-start-timeout",
    "x-fal-object-lifecycle",
    "x-fal-object-lifecycle-preference",
    "x-fal-store-io",
    "x-fal-no-retry",
    "x-fal-retry-config",
    "x-fal-tags",
    "x-app-fal-disable-fallback",
];

/// Headers that belong to one connection (RFC 9110, section 7.6.1).
fn is_hop_by_hop(name: &str) -> bool {
    matches!(
        name,
        "connection"
            | "keep-alive"
            | "proxy-connection"
            | "proxy-authenticate"
            | "te"
            | "trailer"
            | "transfer-encoding"
            | "upgrade"
    )
}

/// Response headers that would act on the application's own origin or tell about fal's account.
fn is_kept_from_browsers(name: &str) -> bool {
    name.starts_with("access-control-")
        || matches!(
            name,
            "set-cookie"
                | "set-cookie2"
                | "content-length"
                | "location"
                | "content-location"
                | "refresh"
                | "server"
                | "via"
                | "alt-svc"
                | "www-authenticate"
                | "strict-transport-security"
                | "public-key-pins"
                | "x-powered-by"
                | "clear-site-data"
                | "nel"
                | "report-to"
                | "reporting-endpoints"
                | "service-worker-allowed"
                | "x-fal-cdn-token"
        )
}

const JSON: HeaderValue = HeaderValue::from_static("application/json");
const CLIENT_PROXY: HeaderName = HeaderName::from_static("x-fal-client-proxy");
const THIS_PROXY: HeaderValue = HeaderValue::from_static(concat!("falgate/", env!("CARGO_PKG_VERSION")));

/// Whether the call carries an input, and so a content type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sends {
    /// POST and PUT, whose content type is always JSON, with a body or without.
    Json,
    /// GET.
    Nothing,
}

/// The headers that fal sees, from those that a caller sent.
///
/// It is an allow list: fal's own request headers by name, `accept` and `user-agent`. All else stays here: the caller's
/// `authorization` and cookies, origin, referer, forwarded addresses, spellings with `_`, and whatever `Connection` lists.
/// fal is asked for bytes without a content coding, because they pass through unchanged.
#[must_use]
pub fn rewrite_request(from: &HeaderMap, sends: Sends) -> HeaderMap {
    let mut to = HeaderMap::with_capacity(12);
    for (name, value) in from {
        let is_fals = || name.as_str().starts_with("x-") && FAL_REQUEST.contains(&name.as_str());
        let passes = *name == header::ACCEPT || *name == header::USER_AGENT || is_fals();
        if passes && !to.contains_key(name) && !listed_in_connection(from, name) {
            to.insert(name.clone(), value.clone());
        }
    }
    to.entry(header::ACCEPT).or_insert(JSON);
    to.insert(header::ACCEPT_ENCODING, HeaderValue::from_static("identity"));
    to.insert(CLIENT_PROXY, THIS_PROXY);
    if sends == Sends::Json {
        to.insert(header::CONTENT_TYPE, JSON);
    }
    to
}

/// Takes out of an answer what must not reach the caller.
///
/// Status and body are not touched. `content-encoding` stays if fal sent one unasked, because the bytes stay as well;
/// `content-length` is written anew from what is really sent. `location` goes: nothing is followed, by nobody.
pub fn rewrite_response(headers: &mut HeaderMap) {
    if headers.contains_key(header::CONNECTION) {
        let listed: Vec<HeaderName> =
            connection_options(headers).filter_map(|option| HeaderName::from_bytes(option.as_bytes()).ok()).collect();
        for name in listed {
            headers.remove(name);
        }
    }
    // An answer has few headers: looking at each is cheaper than looking for all that it might have.
    let unwanted = |name: &&HeaderName| is_hop_by_hop(name.as_str()) || is_kept_from_browsers(name.as_str());
    while let Some(name) = headers.keys().find(unwanted).cloned() {
        headers.remove(name);
    }
}

fn listed_in_connection(headers: &HeaderMap, name: &HeaderName) -> bool {
    headers.contains_key(header::CONNECTION)
        && connection_options(headers).any(|option| option.eq_ignore_ascii_case(name.as_str()))
}

fn connection_options(headers: &HeaderMap) -> impl Iterator<Item = &str> {
    headers
        .get_all(header::CONNECTION)
        .into_iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(str::trim)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(HeaderName::from_bytes(name.as_bytes()).unwrap(), HeaderValue::from_str(value).unwrap());
        }
        headers
    }

    #[test]
    fn only_listed_request_headers_pass() {
        let sent = rewrite_request(
            &headers(&[
                ("host", "gate.test"),
                ("authorization", "Key x:y"),
                ("cookie", "session=1"),
                ("x-forwarded-for", "1.2.3.4"),
                ("x_forwarded_for", "1.2.3.4"),
                ("forwarded", "for=1.2.3.4"),
                ("x-real-ip", "1.2.3.4"),
                ("origin", "https://page.test"),
                ("referer", "https://page.test/"),
                ("content-length", "12"),
                ("transfer-encoding", "chunked"),
                ("te", "trailers"),
                ("upgrade", "websocket"),
                ("proxy-authorization", "Basic eA=="),
                ("accept-encoding", "gzip, br"),
                ("x-fal-target-url", "https://fal.run/a/b"),
                ("x-fal-client-proxy", "@fal-ai/server-proxy/express"),
                ("x-fal-webhook", "https://evil.test"),
                ("x_fal_queue_priority", "low"),
                ("x-fal-queue-priority", "low"),
                ("user-agent", "page/1"),
            ]),
            Sends::Nothing,
        );
        let mut names: Vec<_> = sent.keys().map(HeaderName::as_str).collect();
        names.sort_unstable();
        let wanted = ["accept", "accept-encoding", "user-agent", "x-fal-client-proxy", "x-fal-queue-priority"];
        assert_eq!(names, wanted);
        assert_eq!(sent["accept-encoding"], "identity");
        assert!(sent["x-fal-client-proxy"].to_str().unwrap().starts_with("falgate/"));
    }

    #[test]
    fn headers_that_connection_lists_belong_to_the_connection() {
        let sent = rewrite_request(
            &headers(&[
                ("connection", "close, X-Fal-Runner-Hint"),
                ("connection", "accept"),
                ("x-fal-runner-hint", "a"),
                ("accept", "text/event-stream"),
            ]),
            Sends::Json,
        );
        assert!(!sent.contains_key("x-fal-runner-hint"));
        assert_eq!(sent["accept"], "application/json");
        assert_eq!(sent["content-type"], "application/json");
    }

    #[test]
    fn an_answer_loses_what_acts_on_the_application_and_keeps_the_rest() {
        let mut answer = headers(&[
            ("set-cookie", "a=1"),
            ("set-cookie", "b=2"),
            ("access-control-allow-origin", "*"),
            ("access-control-expose-headers", "*"),
            ("server", "x"),
            ("x-powered-by", "y"),
            ("location", "https://evil.test/"),
            ("content-length", "3"),
            ("connection", "keep-alive, x-internal"),
            ("x-internal", "1"),
            ("x-fal-cdn-token", "secret"),
            ("x-fal-request-id", "id"),
            ("x-fal-billable-units", "1"),
            ("content-type", "application/json"),
            ("content-encoding", "gzip"),
        ]);
        rewrite_response(&mut answer);
        let mut names: Vec<_> = answer.keys().map(HeaderName::as_str).collect();
        names.sort_unstable();
        assert_eq!(names, ["content-encoding", "content-type", "x-fal-billable-units", "x-fal-request-id"]);
    }
}
