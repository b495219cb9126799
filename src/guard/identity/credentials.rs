//! What a request carries that could say who sends it.

use http::header::{AUTHORIZATION, COOKIE, ORIGIN};
use http::{HeaderMap, HeaderValue};

use crate::guard::PageOrigin;

/// Longest cookie header that is looked at, all lines together.
const COOKIE_BYTES: usize = 16 * 1024;

/// The headers that say who calls, taken out of a request: cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct Credentials {
    authorization: Vec<HeaderValue>,
    cookies: Vec<HeaderValue>,
}

/// What stands in `Authorization`.
pub(super) enum Authorization<'a> {
    /// Nothing.
    None,
    /// `Bearer` and a token.
    Bearer(&'a HeaderValue, &'a str),
    /// Something else, or what cannot be read.
    Other(&'a HeaderValue),
    /// More than one.
    Several,
}

impl Credentials {
    /// Those of a request. Cookies count only where no page of another site can have made a browser send them: a request
    /// with an `Origin` must be of a page that was let in (`page`), and one without, as for a picture or a link, must not say
    /// in `Sec-Fetch-Site` that it comes from elsewhere.
    pub(super) fn of(headers: &HeaderMap, page: Option<&PageOrigin>) -> Self {
        let all = |name| headers.get_all(name).iter().cloned().collect::<Vec<HeaderValue>>();
        let site = headers.get("sec-fetch-site").map(HeaderValue::as_bytes);
        let is_own = matches!(site, None | Some(b"same-origin" | b"none"));
        let counts = if headers.contains_key(ORIGIN) { page.is_some() } else { is_own };
        let cookies = if counts { all(COOKIE) } else { Vec::new() };
        Self { authorization: all(AUTHORIZATION), cookies }
    }

    /// Whether there is nothing to look at.
    pub(super) fn is_empty(&self) -> bool {
        self.authorization.is_empty() && self.cookies.is_empty()
    }

    pub(super) fn authorization(&self) -> Authorization<'_> {
        match self.authorization.as_slice() {
            [] => Authorization::None,
            [header] => {
                let bearer = header.to_str().ok().and_then(|text| text.split_once(' '));
                match bearer.filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer")) {
                    Some((_, token)) => Authorization::Bearer(header, token.trim()),
                    None => Authorization::Other(header),
                }
            }
            _ => Authorization::Several,
        }
    }

    /// The values of all cookies of this name, in the order in which they came (RFC 6265 section 5.4).
    pub(super) fn cookies<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        let fits = self.cookies.iter().map(HeaderValue::len).sum::<usize>() <= COOKIE_BYTES;
        let lines = self.cookies.iter().filter(move |_| fits).filter_map(|line| line.to_str().ok());
        let pairs = lines.flat_map(|line| line.split(';')).filter_map(|pair| pair.trim().split_once('='));
        pairs.filter(move |(found, _)| *found == name).map(|(_, value)| value)
    }
}

/// Whether a bearer's text has the form of a JWT, which no access key has to have.
pub(super) fn is_jwt(token: &str) -> bool {
    token.bytes().filter(|byte| *byte == b'.').count() == 2
}

#[cfg(test)]
mod tests {
    use super::*;

    fn credentials(fields: &[(&'static str, &'static str)]) -> Credentials {
        from_page(fields, None)
    }

    fn from_page(fields: &[(&'static str, &'static str)], page: Option<&PageOrigin>) -> Credentials {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(*name, HeaderValue::from_static(value));
        }
        Credentials::of(&headers, page)
    }

    #[test]
    fn cookies_are_found_by_their_whole_name() {
        let found = credentials(&[("cookie", "a=1; ab=2; a=3"), ("cookie", "b; a =4;a=5=6")]);
        assert_eq!(found.cookies("a").collect::<Vec<_>>(), ["1", "3", "5=6"]);
        assert_eq!(found.cookies("b").count(), 0);
    }

    #[test]
    fn a_cookie_that_another_site_makes_a_browser_send_says_nothing() {
        let cookie = ("cookie", "a=1");
        for (site, counts) in [("cross-site", 0), ("same-site", 0), ("same-origin", 1), ("none", 1)] {
            assert_eq!(credentials(&[cookie, ("sec-fetch-site", site)]).cookies("a").count(), counts, "{site}");
        }
        let fields = [cookie, ("sec-fetch-site", "cross-site"), ("origin", "https://draw.example")];
        let page = PageOrigin("https://draw.example".to_owned());
        assert_eq!(from_page(&fields, Some(&page)).cookies("a").count(), 1, "a page that was let in");
        assert_eq!(from_page(&fields, None).cookies("a").count(), 0, "a GET of a page that was not");
        assert_eq!(credentials(&[cookie]).cookies("a").count(), 1, "programs and older browsers do not say");
    }

    #[test]
    fn a_bearer_is_told_from_everything_else() {
        let of = |value| match credentials(&[("authorization", value)]).authorization() {
            Authorization::Bearer(_, token) => format!("bearer {token}"),
            Authorization::Other(_) => "other".to_owned(),
            Authorization::None | Authorization::Several => panic!("one header is one"),
        };
        assert_eq!(of("bEARER  a.b.c "), "bearer a.b.c");
        assert_eq!([of("Key a:b"), of("Bearer"), of("Basic eA==")], ["other", "other", "other"]);
        let two = credentials(&[("authorization", "Bearer a"), ("authorization", "Bearer a")]);
        assert!(matches!(two.authorization(), Authorization::Several));
    }
}
