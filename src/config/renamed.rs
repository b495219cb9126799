//! Keys that have another name, so that the error can say which.

use toml::Table;

use super::fault::Fault;
use super::key_path::KeyPath;
use super::overlay::Overlay;

/// Old key, new key. A row is never dropped, so that an old file always hears where its key went.
const RENAMED: [(&str, &str); 5] = [
    // The names of fal's own proxy, for people who come from there.
    ("proxy.allowed_endpoints", "proxy.targets.endpoints"),
    ("proxy.targets.allowed_endpoints", "proxy.targets.endpoints"),
    ("engine.device", "engine.devices"),
    ("routes", "route"),
    ("server", "gate"),
];

/// Takes out keys that are called otherwise now.
pub(super) fn take_out(root: &mut Table, overlay: &Overlay, faults: &mut Vec<Fault>) {
    for (old, new) in RENAMED {
        let path = KeyPath::keys(old);
        if path.remove(root).is_some() {
            faults.push(overlay.fault(&path, format!("this key is now `{new}`")));
        }
    }
}
