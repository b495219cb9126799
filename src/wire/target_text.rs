//! The text of a target: read once, and written anew in one normal form.

use std::fmt::Write as _;

use http::Uri;
use http::uri::PathAndQuery;

use super::endpoint::split_dash_form;
use super::{FalCall, TargetRefusal};

const MAX_TARGET_BYTES: usize = 8 * 1024;

/// Checks everything about a target but its path; gives the URL and its host in lower case.
pub(super) fn parse_target(header: &[u8]) -> Result<(Uri, String), TargetRefusal> {
    if header.len() > MAX_TARGET_BYTES {
        return Err(TargetRefusal::Invalid("it is longer than 8192 bytes"));
    }
    if !header.iter().all(|byte| byte.is_ascii_graphic() && !br##"\"#<>^`{|}"##.contains(byte)) {
        return Err(TargetRefusal::Invalid("it holds a character that no URL has"));
    }
    let uri = Uri::try_from(header).map_err(|_| TargetRefusal::Invalid("it is no URL"))?;
    if uri.scheme_str() != Some("https") {
        return Err(TargetRefusal::Invalid("it is no https URL"));
    }
    let authority = uri.authority().ok_or(TargetRefusal::Invalid("it names no host"))?;
    let host = authority.host().to_ascii_lowercase();
    let rest = &authority.as_str()[host.len().min(authority.as_str().len())..];
    if authority.as_str().contains('@') {
        return Err(TargetRefusal::Invalid("it holds user info"));
    }
    if !matches!(rest, "" | ":443") {
        return Err(TargetRefusal::Invalid("it names a port"));
    }
    Ok((uri, host))
}

/// Decodes a path once. What is left must be plain: encoded separators, dots and anything exotic are refused.
pub(super) fn decode_path(path: &str) -> Result<String, TargetRefusal> {
    let decoded = percent_encoding::percent_decode_str(path)
        .decode_utf8()
        .map_err(|_| TargetRefusal::Invalid("its path is not UTF-8"))?;
    let separators = |text: &str| text.bytes().filter(|byte| *byte == b'/').count();
    if separators(&decoded) != separators(path) {
        return Err(TargetRefusal::Invalid("its path holds an encoded slash"));
    }
    if decoded.split('/').any(|segment| segment == "." || segment == "..") {
        return Err(TargetRefusal::Invalid("its path holds dot segments"));
    }
    if !decoded.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"/._~@+:-".contains(&byte)) {
        return Err(TargetRefusal::Invalid("its path holds a character that no endpoint has"));
    }
    Ok(decoded.into_owned())
}

pub(super) fn names_a_webhook(query: &str) -> bool {
    query.split(['&', ';']).any(|pair| {
        let key = pair.split('=').next().unwrap_or_default().replace('+', " ");
        percent_encoding::percent_decode_str(&key).decode_utf8_lossy().trim().eq_ignore_ascii_case("fal_webhook")
    })
}

/// Writes the path that will be sent: the endpoint's own spelling, slashes collapsed, a trailing slash kept.
pub(super) fn write_path(
    call: &FalCall,
    segments: &[&str],
    trailing_slash: bool,
    query: Option<&str>,
) -> Result<PathAndQuery, TargetRefusal> {
    let mut text = String::with_capacity(96);
    let mut rest = segments;
    if let (Some(_), Some((first, after))) = (&call.endpoint, segments.split_first())
        && let Some((owner, alias)) = split_dash_form(first)
    {
        let _ = write!(text, "/{owner}/{alias}");
        rest = after;
    }
    for segment in rest {
        text.push('/');
        text.push_str(segment);
    }
    // fal's own token route answers only with its slash, and no client sends one anywhere else.
    if trailing_slash && call.endpoint.is_none() {
        text.push('/');
    }
    if let Some(query) = query {
        text.push('?');
        text.push_str(query);
    }
    PathAndQuery::try_from(text).map_err(|_| TargetRefusal::Invalid("its query holds a character that no URL has"))
}
