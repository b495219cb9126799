//! Finds secrets that were written where none belong. A configuration names a variable or a file instead.

use toml::{Table, Value};

use super::fault::Fault;
use super::key_path::KeyPath;
use super::overlay::Overlay;

/// Takes out every text that looks like a secret, with a fault that does not repeat it.
pub(super) fn take_out(root: &mut Table, overlay: &Overlay, faults: &mut Vec<Fault>) {
    let mut found = Vec::new();
    for (key, value) in root.iter() {
        search(value, &KeyPath::default().key(key), &mut found);
    }
    // From the back, so that places in lists stay right.
    found.sort();
    for (path, kind) in found.into_iter().rev() {
        let what = format!("this looks like {kind}; put it in an environment variable or a file, and name that here");
        faults.push(overlay.fault(&path, what));
        path.remove(root);
    }
}

fn search(value: &Value, path: &KeyPath, found: &mut Vec<(KeyPath, &'static str)>) {
    match value {
        Value::String(text) => found.extend(kind_of_secret(text).map(|kind| (path.clone(), kind))),
        Value::Array(list) => {
            list.iter().enumerate().for_each(|(index, value)| search(value, &path.at(index), found));
        }
        Value::Table(table) => table.iter().for_each(|(key, value)| search(value, &path.key(key), found)),
        Value::Integer(_) | Value::Float(_) | Value::Boolean(_) | Value::Datetime(_) => {}
    }
}

/// What a text seems to be, if it seems to be a secret.
fn kind_of_secret(text: &str) -> Option<&'static str> {
    let text = text.trim();
    let without_scheme = ["Key ", "Bearer "].iter().find_map(|scheme| text.strip_prefix(scheme));
    if without_scheme.is_some_and(|rest| rest.len() >= 16 && !rest.contains(' ')) {
        return Some("an authorization header");
    }
    if text.contains("PRIVATE KEY-----") {
        return Some("a private key");
    }
    if is_fal_key(text) {
        return Some("a fal key");
    }
    let parts: Vec<&str> = text.split('.').collect();
    if parts.len() == 3 && text.starts_with("eyJ") && parts.iter().all(|part| part.len() >= 10 && is_base64(part)) {
        return Some("a token");
    }
    let vendor = ["sk-", "hf_", "ghp_", "github_pat_", "xoxb-"].iter().any(|prefix| text.starts_with(prefix));
    if vendor && text.len() >= 20 && is_base64(text) {
        return Some("an access key");
    }
    let user_info = text.split_once("://").and_then(|(_, rest)| rest.split(['/', '?']).next()?.split_once('@'));
    user_info.is_some_and(|(user, _)| user.contains(':')).then_some("a URL with a password")
}

/// A UUID, a colon, and 32 hexadecimal digits. A secret half that stands alone is one too.
fn is_fal_key(text: &str) -> bool {
    let is_hex = |part: &str| part.bytes().all(|byte| byte.is_ascii_hexdigit());
    let Some((id, secret)) = text.split_once(':') else {
        return text.len() == 32 && is_hex(text);
    };
    let groups: Vec<usize> = id.split('-').map(str::len).collect();
    groups == [8, 4, 4, 4, 12] && id.split('-').all(is_hex) && secret.len() >= 16 && is_hex(secret)
}

fn is_base64(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_=+/".contains(&byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_known_by_their_looks() {
        let uuid = "01234567-89ab-cdef-0123-456789abcdef";
        let hex = "0123456789abcdef0123456789abcdef";
        for secret in [
            format!("{uuid}:{hex}"),
            format!("Key {uuid}:{hex}"),
            format!("Bearer {hex}"),
            hex.to_owned(),
            format!("sk-{hex}"),
            format!("eyJhbGciOiJI.{hex}.{hex}"),
            "-----BEGIN EC PRIVATE KEY-----\nMH\n-----END EC PRIVATE KEY-----".to_owned(),
            "https://me:secret@proxy.example/".to_owned(),
        ] {
            assert!(kind_of_secret(&secret).is_some(), "{secret}");
        }
    }

    #[test]
    fn plain_settings_are_no_secrets() {
        for plain in [
            "FAL_KEY",
            "/etc/falgate/fal.key",
            "127.0.0.1:8787",
            "https://draw.example:8443",
            "fal-ai/lcm-sd15-i2i",
            "Key",
            "key.pem",
            "https://mail.example/@someone",
            "01234567-89ab-cdef-0123-456789abcdef",
        ] {
            assert_eq!(kind_of_secret(plain), None, "{plain}");
        }
    }
}
