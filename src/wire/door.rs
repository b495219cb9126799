//! Which of fal's hosts a request at the gate is meant for, by its host name and path (protocol spec 1.4).

use super::HostClass;
use super::endpoint::split_dash_form;

/// Reads the host class off a request that came straight to the gate.
///
/// `host` may carry a port. A first label of `{n}-{alias}` is a legacy gateway host and is given back as the second value;
/// `queue.` and `rest.` in front name their class, as Python's client derives them from `FAL_RUN_HOST`; token and storage
/// paths belong to the REST host whatever the name. All else is the run host.
#[must_use]
pub fn host_class<'a>(host: &'a str, path: &str) -> (HostClass, Option<&'a str>) {
    let name = host.rsplit_once(':').map_or(host, |(name, _)| name);
    let (label, rest) = name.split_once('.').unwrap_or((name, ""));
    if !rest.is_empty() && split_dash_form(label).is_some() {
        return (HostClass::Run, Some(label));
    }
    let path = path.trim_start_matches('/');
    let is_rest = ["tokens", "storage/", ".well-known/jwks.json"].iter().any(|prefix| path.starts_with(prefix));
    let class = match label {
        "rest" => HostClass::Rest,
        _ if is_rest => HostClass::Rest,
        "queue" if !rest.is_empty() => HostClass::Queue,
        _ => HostClass::Run,
    };
    (class, None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn host_names_and_paths_pick_the_class() {
        let cases = [
            ("localhost:8787", "/fal-ai/lcm", HostClass::Run, None),
            ("queue.gate.test:443", "/fal-ai/lcm", HostClass::Queue, None),
            ("rest.gate.test", "/tokens/", HostClass::Rest, None),
            ("gate.test", "/tokens/", HostClass::Rest, None),
            ("gate.test", "/storage/upload/initiate", HostClass::Rest, None),
            ("110602490-lcm-sd15-i2i.gateway.gate.test:8443", "/", HostClass::Run, Some("110602490-lcm-sd15-i2i")),
            ("127.0.0.1:80", "/a/b", HostClass::Run, None),
            ("[::1]:80", "/a/b", HostClass::Run, None),
        ];
        for (host, path, class, label) in cases {
            assert_eq!(host_class(host, path), (class, label), "{host}{path}");
        }
    }
}
