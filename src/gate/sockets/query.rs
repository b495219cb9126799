//! The token in the query of a socket's URL, and the query without it.

use http::Uri;
use http::uri::PathAndQuery;
use secrecy::SecretString;

/// Where fal's clients put their token.
const TOKEN: &str = "fal_jwt_token";

/// What a query says of tokens.
pub(super) enum Shown {
    /// No token.
    Nothing,
    /// One token.
    Token(SecretString),
    /// Several, or none that could be read.
    Confused,
}

/// Takes the token out of a URL, so that nothing further in can log or forward it.
pub(super) fn take_token(uri: &mut Uri) -> Shown {
    let Some(query) = uri.query() else { return Shown::Nothing };
    let is_token = |pair: &&str| {
        let name = pair.split('=').next().unwrap_or_default();
        percent_encoding::percent_decode_str(name).decode_utf8_lossy() == TOKEN
    };
    let mut shown = Shown::Nothing;
    for pair in query.split('&').filter(is_token) {
        let value = pair.split_once('=').map_or("", |(_, value)| value);
        shown = match (shown, percent_encoding::percent_decode_str(value).decode_utf8()) {
            // A page that has no token yet may send an empty one.
            (Shown::Nothing, Ok(token)) if token.is_empty() => Shown::Nothing,
            (Shown::Nothing, Ok(token)) => Shown::Token(SecretString::from(token.into_owned())),
            _ => Shown::Confused,
        };
    }
    let rest: Vec<&str> = query.split('&').filter(|pair| !is_token(pair) && !pair.is_empty()).collect();
    let text = match rest.is_empty() {
        true => uri.path().to_owned(),
        false => format!("{}?{}", uri.path(), rest.join("&")),
    };
    let mut parts = std::mem::take(uri).into_parts();
    parts.path_and_query = Some(PathAndQuery::try_from(text).expect("parts of a URL are one"));
    *uri = Uri::from_parts(parts).expect("a URL without some of its query is one");
    shown
}

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret as _;

    use super::*;

    fn take(uri: &str) -> (String, String) {
        let mut uri: Uri = uri.parse().unwrap();
        let shown = match take_token(&mut uri) {
            Shown::Nothing => "nothing".to_owned(),
            Shown::Token(token) => token.expose_secret().to_owned(),
            Shown::Confused => "confused".to_owned(),
        };
        (shown, uri.to_string())
    }

    #[test]
    fn a_token_is_taken_out_wherever_it_stands() {
        for (uri, token, rest) in [
            ("/a/b/realtime", "nothing", "/a/b/realtime"),
            ("/a/b/realtime?x=1", "nothing", "/a/b/realtime?x=1"),
            ("/a/b/ws?fal_jwt_token=e.y.z", "e.y.z", "/a/b/ws"),
            ("/a/b/ws?max_buffering=2&fal_jwt_token=e.y.z&x", "e.y.z", "/a/b/ws?max_buffering=2&x"),
            ("/a/b/ws?fal_jwt_token=e%2Ey%2ez", "e.y.z", "/a/b/ws"),
            ("/a/b/ws?fal%5Fjwt_token=e", "e", "/a/b/ws"),
            ("/a/b/ws?fal_jwt_token=&x=1", "nothing", "/a/b/ws?x=1"),
            ("/a/b/ws?fal_jwt_token", "nothing", "/a/b/ws"),
            ("/a/b/ws?fal_jwt_token=a&fal_jwt_token=b", "confused", "/a/b/ws"),
            ("/a/b/ws?fal_jwt_token=%ff", "confused", "/a/b/ws"),
            ("https://gate.test/a/b/ws?fal_jwt_token=a", "a", "https://gate.test/a/b/ws"),
        ] {
            assert_eq!(take(uri), (token.to_owned(), rest.to_owned()), "{uri}");
        }
    }
}
