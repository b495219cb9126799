//! The embedded files, and the headers that each is served with.

use bytes::Bytes;
use http::header::{
    ACCESS_CONTROL_ALLOW_ORIGIN, CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, ETAG, HeaderMap, HeaderName,
    HeaderValue, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS,
};
use sha2::{Digest as _, Sha256};

use super::PlaygroundSettings;

const HTML: &str = "text/html; charset=utf-8";
const CSS: &str = "text/css; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";
const SVG: &str = "image/svg+xml";
/// Declarations are read by editors and compilers, which take any text.
const TYPES: &str = "text/plain; charset=utf-8";

/// Only what the gate itself serves, and pictures that the page makes or gets. `connect-src 'self'` includes sockets.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; \
                      connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

const RESOURCE_POLICY: HeaderName = HeaderName::from_static("cross-origin-resource-policy");
const OPENER_POLICY: HeaderName = HeaderName::from_static("cross-origin-opener-policy");

/// The shim's files.
const SHIM: [(&str, &str, &str); 3] = [
    ("/falgate.js", SCRIPT, include_str!("static/falgate.js")),
    ("/falgate.classic.js", SCRIPT, include_str!("static/falgate.classic.js")),
    ("/falgate.d.ts", TYPES, include_str!("static/falgate.d.ts")),
];

/// The page's files. The first holds marks for the settings.
const PAGE: [(&str, &str, &str); 10] = [
    ("/", HTML, include_str!("static/page.html")),
    ("/playground/page.css", CSS, include_str!("static/page.css")),
    ("/playground/page.js", SCRIPT, include_str!("static/page.js")),
    ("/playground/board.js", SCRIPT, include_str!("static/board.js")),
    ("/playground/doodle.js", SCRIPT, include_str!("static/doodle.js")),
    ("/playground/frames.js", SCRIPT, include_str!("static/frames.js")),
    ("/playground/line.js", SCRIPT, include_str!("static/line.js")),
    ("/playground/pace.js", SCRIPT, include_str!("static/pace.js")),
    ("/playground/words.js", SCRIPT, include_str!("static/words.js")),
    ("/playground/icon.svg", SVG, include_str!("static/icon.svg")),
];

/// One file, ready to be sent.
#[derive(Debug)]
pub(super) struct Asset {
    pub(super) path: &'static str,
    pub(super) body: Bytes,
    pub(super) etag: HeaderValue,
    /// All that an answer with this file carries, `etag` too.
    pub(super) headers: HeaderMap,
}

/// The files that the settings ask for.
pub(super) fn chosen(settings: &PlaygroundSettings) -> Vec<Asset> {
    let mut assets = Vec::new();
    if settings.shim {
        assets.extend(SHIM.iter().map(|(path, kind, text)| shim(path, kind, text)));
    }
    if settings.enabled {
        assets.extend(PAGE.iter().map(|(path, kind, text)| page(path, kind, &filled(text, settings))));
    }
    assets
}

/// A file of the shim: any page may load it, and a new gate's shim is there within minutes.
fn shim(path: &'static str, kind: &'static str, text: &str) -> Asset {
    let mut asset = asset(path, kind, text);
    let headers = &mut asset.headers;
    headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
    headers.insert(RESOURCE_POLICY, HeaderValue::from_static("cross-origin"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("public, max-age=300"));
    asset
}

/// A file of the page, for the gate's own origin. Asked for again each time, so that its parts are of one version.
fn page(path: &'static str, kind: &'static str, text: &str) -> Asset {
    let mut asset = asset(path, kind, text);
    let headers = &mut asset.headers;
    headers.insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY));
    headers.insert(RESOURCE_POLICY, HeaderValue::from_static("same-origin"));
    headers.insert(OPENER_POLICY, HeaderValue::from_static("same-origin"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    asset
}

fn asset(path: &'static str, kind: &'static str, text: &str) -> Asset {
    let mut tag = String::from("\"");
    for byte in &Sha256::digest(text)[..12] {
        tag.push_str(&format!("{byte:02x}"));
    }
    tag.push('"');
    let etag = HeaderValue::from_str(&tag).expect("hexadecimal digits in quotes are a header value");
    let mut headers = HeaderMap::with_capacity(8);
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(ETAG, etag.clone());
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    Asset { path, body: Bytes::from(text.to_owned()), etag, headers }
}

/// Puts the settings into the page's marks.
fn filled(text: &str, settings: &PlaygroundSettings) -> String {
    text.replace("{{endpoint}}", &escaped(&settings.endpoint))
        .replace("{{prompt}}", &escaped(&settings.prompt))
        .replace("{{side}}", &settings.side_px.to_string())
        .replace("{{steps}}", &settings.steps.to_string())
}

fn escaped(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            '\'' => safe.push_str("&#39;"),
            // So that a prompt that looks like a mark is not filled in a second time.
            '{' => safe.push_str("&#123;"),
            other => safe.push(other),
        }
    }
    safe
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_are_text_in_the_page_and_nothing_more() {
        let prompt = "<script>\"'&{{side}}".to_owned();
        let settings = PlaygroundSettings { prompt, ..PlaygroundSettings::default() };
        let filled = filled("content=\"{{prompt}}\" data-side={{side}}", &settings);
        assert_eq!(filled, "content=\"&lt;script&gt;&quot;&#39;&amp;&#123;&#123;side}}\" data-side=512");
    }

    #[test]
    fn the_page_is_whole_and_has_nothing_inline() {
        let settings = PlaygroundSettings { enabled: true, ..PlaygroundSettings::default() };
        let assets = chosen(&settings);
        let texts: Vec<String> = assets.iter().map(|asset| String::from_utf8_lossy(&asset.body).into_owned()).collect();
        let html = assets.iter().zip(&texts).find(|(asset, _)| asset.path == "/").expect("there is a page").1;
        assert!(
            !html.contains("{{")
                && !html.contains("<style")
                && !html.contains(" style=")
                && !html.contains("javascript:")
        );
        let handler = |word: &str| word.starts_with("on") && word.contains('=');
        assert!(!html.split_whitespace().any(handler), "no handler is written into the page");
        assert_eq!(html.matches("<script").count(), html.matches("<script type=\"module\" src=\"/").count());
        // What a file names, it finds: pages by absolute path, modules beside them.
        for text in &texts {
            let named = text.split(['"', '\'']).filter_map(|word| {
                let file = word.strip_prefix("./").map(|file| format!("/playground/{file}"));
                file.or_else(|| word.starts_with("/playground/").then(|| word.to_owned()))
            });
            for path in named.filter(|path| path.contains('.') && path != "/playground/falgate.js") {
                assert!(assets.iter().any(|asset| asset.path == path), "{path}");
            }
        }
    }
}
