//! What works and is probably not meant.

use crate::config::Config;
use crate::guard::ShareBy;

/// Says what of a configuration is probably a mistake, a sentence each with the keys that it is about.
#[must_use]
pub fn cautions(config: &Config) -> Vec<&'static str> {
    let (gate, guard) = (&config.gate, &config.guard);
    let is_public = !gate.listen.ip().is_loopback();
    let is_behind = !guard.address.trusted_proxies.is_empty();
    let cases = [
        (
            is_behind && gate.public_url.is_none() && config.engine.enabled,
            "guard.address.trusted_proxies names a proxy, but gate.public_url is not set: URLs of pictures begin with the \
             Host of each request and the scheme of the gate's own listener",
        ),
        (
            is_public && gate.tls.is_none() && !is_behind,
            "gate.listen is reachable from other machines, without gate.tls and without guard.address.trusted_proxies: \
             prompts and pictures are sent in the clear, or all callers share the address of what is in front",
        ),
        (
            is_public && config.engine.enabled && !guard.names_callers() && guard.human.is_none(),
            "gate.listen is reachable from other machines, and there is nothing to know callers by (guard.keys, guard.jwt, \
             guard.session, guard.human): whoever reaches the gate may use its engine",
        ),
        (
            guard.visitors.enabled && guard.human.is_none() && !counts_addresses(config),
            "guard.visitors.enabled is true, and no row of limits counts by address or all together: whoever collects cookies \
             collects shares of every limit",
        ),
        (
            gate.admin.is_some_and(|admin| !admin.ip().is_loopback() && admin.ip().is_unspecified()),
            "gate.admin listens on every address: metrics are for whoever reaches it",
        ),
    ];
    cases.into_iter().filter(|(holds, _)| *holds).map(|(_, sentence)| sentence).collect()
}

/// Whether something bounds an address, or everybody: what visitors cannot multiply.
fn counts_addresses(config: &Config) -> bool {
    let fits = |by: &ShareBy| matches!(by, ShareBy::Address | ShareBy::Site | ShareBy::All);
    let limits = &config.limits;
    limits.rule.iter().any(|rule| fits(&rule.by)) || limits.budget.iter().any(|budget| fits(&budget.by))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Environment;

    fn about(text: &str, key: &str) -> bool {
        let config = Config::load(text, &Environment::default()).unwrap_or_else(|faults| panic!("{faults}"));
        cautions(&config).iter().any(|sentence| sentence.contains(key))
    }

    const ENGINE: &str =
        "engine = { enabled = true, model = \"m\" }\nroute = [{ endpoint = \"a/b\", to = \"engine\" }]\n";

    #[test]
    fn what_is_probably_not_meant_is_said() {
        let behind = "[guard.address]\ntrusted_proxies = [\"10.0.0.0/8\"]\n";
        assert!(about(&format!("{ENGINE}{behind}"), "gate.public_url"));
        assert!(!about(&format!("{ENGINE}gate.public_url = \"https://draw.example\"\n{behind}"), "gate.public_url"));
        assert!(!about(behind, "gate.public_url"), "without an engine no URL is handed out");
        let open = "gate.listen = \"0.0.0.0:80\"\n";
        assert!(about(open, "in the clear") && about(&format!("{ENGINE}{open}"), "guard.keys"));
        let visitors = "guard.visitors.enabled = true\n";
        let rule = "[[limits.rule]]\nname = \"a\"\nof = \"requests\"\nby = \"address\"\namount = 1\nper_ms = 1\n";
        assert!(about(visitors, "collects cookies") && !about(&format!("{visitors}{rule}"), "collects cookies"));
        assert!(about("gate.admin = \"0.0.0.0:9090\"", "gate.admin"));
        assert_eq!(cautions(&Config::default()), Vec::<&str>::new());
    }
}
