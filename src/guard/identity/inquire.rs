//! Questions to others: the application, and whoever checks for humans.

use std::pin::Pin;

use bytes::Bytes;
use http::{Request, Response};

/// Sends one request and reads the whole answer. The guard dials nobody itself: the gate gives it this.
pub trait Inquire: Send + Sync {
    /// Sends a request with an absolute URL, and follows no redirect. The answer's bytes and time are bounded by whoever
    /// implements this; whoever asks has a shorter deadline of its own.
    fn inquire(&self, request: Request<Bytes>) -> Inquiry;
}

/// An answer under way.
pub type Inquiry =
    Pin<Box<dyn Future<Output = Result<Response<Bytes>, Box<dyn std::error::Error + Send + Sync>>> + Send>>;

/// Whether a URL is one to send secrets to: https, or plain http to this machine.
pub(super) fn is_private_url(url: &str) -> bool {
    let Ok(uri) = url.parse::<http::Uri>() else { return false };
    let host = uri.host().unwrap_or_default().trim_start_matches('[').trim_end_matches(']');
    let is_local = host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback());
    match uri.scheme_str() {
        Some("https") => !host.is_empty(),
        Some("http") => is_local,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_go_over_tls_or_stay_on_this_machine() {
        for (url, fine) in [
            ("https://login.example/keys", true),
            ("http://127.0.0.1:8080/keys", true),
            ("http://127.8.9.1/keys", true),
            ("http://[::1]:80/keys", true),
            ("http://localhost:3000/auth", true),
            ("http://login.example/keys", false),
            ("http://localhost.evil.example/", false),
            ("http://127.0.0.1@evil.example/", false),
            ("http://127.0.0.1.evil.example/", false),
            ("ftp://127.0.0.1/", false),
            ("/keys", false),
            ("", false),
        ] {
            assert_eq!(is_private_url(url), fine, "{url}");
        }
    }
}
