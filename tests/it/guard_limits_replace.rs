//! Limits that are replaced while they are in use: what callers did stays, whatever the new rows say.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use falgate::guard::{Cost, Dimension, Lasting, LimitSettings, Limits, Prices, Receipt, Refusal, Subject};
use falgate::wire::{CallKind, EndpointId, FalCall};
use prometheus_client::encoding::text::encode;
use prometheus_client::registry::Registry;
use serde_json::{Value, json};

/// Settings that keep nothing over a restart, unless they say where.
fn settings(value: Value) -> LimitSettings {
    let settings: LimitSettings = serde_json::from_value(value).unwrap();
    LimitSettings { ledger: Some(settings.ledger.unwrap_or_default()), ..settings }
}

fn midnight() -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(20_000 * 86_400)
}

fn ann() -> Subject {
    let endpoint = EndpointId::parse("fal-ai/lcm");
    Subject { address: "203.0.113.1".parse().unwrap(), caller: Some("ann".into()), tier: None, endpoint }
}

fn rule(name: &str, of: &str, amount: u32) -> Value {
    json!({"name": name, "of": of, "by": "caller", "amount": amount, "per_ms": 60_000})
}

fn ask(limits: &Limits) -> Result<Receipt, Refusal> {
    let cost = Cost::ZERO.with_units(Dimension::Requests, 1.0).with_cells(Dimension::Pictures, 1);
    limits.charge(&ann(), cost, Some(Lasting::Requests))
}

#[tokio::test(start_paused = true)]
async fn a_rule_that_keeps_its_name_keeps_its_standing() {
    let limits = Limits::open_at(&settings(json!({"rule": [rule("a", "requests", 3)]})), midnight()).unwrap();
    assert!((0..3).all(|_| ask(&limits).is_ok()) && ask(&limits).is_err());
    // The same at another place of the list, beside a new one.
    let rows = json!({"rule": [rule("first", "requests", 9), rule("a", "requests", 3)]});
    assert_eq!(limits.replace(&settings(rows)).unwrap(), Vec::<&str>::new());
    let refusal = ask(&limits).unwrap_err();
    assert_eq!((refusal.rule(), refusal.wait().unwrap().as_secs_f64().ceil()), ("a", 20.0));
    // A tighter one does not let anybody off, a wider one gives at once what it allows more.
    limits.replace(&settings(json!({"rule": [rule("a", "requests", 1)]}))).unwrap();
    assert!(ask(&limits).is_err());
    limits.replace(&settings(json!({"rule": [rule("a", "requests", 6)]}))).unwrap();
    assert!(ask(&limits).unwrap_err().wait().unwrap() <= Duration::from_secs(10), "no longer than as it was spent");
    // Gone and back: what was not charged meanwhile is not owed, what was is.
    limits.replace(&settings(json!({}))).unwrap();
    assert!(limits.are_off() && (0..9).all(|_| ask(&limits).is_ok()));
    limits.replace(&settings(json!({"rule": [rule("a", "requests", 3)]}))).unwrap();
    assert!(ask(&limits).is_err(), "a minute has not passed since");
    tokio::time::advance(Duration::from_secs(60)).await;
    assert!((0..3).all(|_| ask(&limits).is_ok()) && ask(&limits).is_err());
}

#[tokio::test(start_paused = true)]
async fn a_rule_that_counts_something_else_begins_anew() {
    let limits = Limits::open_at(&settings(json!({"rule": [rule("a", "requests", 1)]})), midnight()).unwrap();
    assert!(ask(&limits).is_ok() && ask(&limits).is_err());
    limits.replace(&settings(json!({"rule": [rule("a", "pictures", 1)]}))).unwrap();
    assert!(ask(&limits).is_ok() && ask(&limits).is_err());
}

#[tokio::test(start_paused = true)]
async fn budgets_keep_what_was_spent() {
    let budget = |amount: u32| json!({"name": "b", "of": "pictures", "by": "caller", "amount": amount, "per": "day"});
    let limits = Limits::open_at(&settings(json!({"budget": [budget(3)]})), midnight()).unwrap();
    assert!((0..3).all(|_| ask(&limits).is_ok()) && ask(&limits).is_err());
    limits.replace(&settings(json!({"budget": [budget(2)]}))).unwrap();
    assert!(ask(&limits).is_err());
    limits.replace(&settings(json!({"budget": [budget(5)]}))).unwrap();
    assert!((0..2).all(|_| ask(&limits).is_ok()) && ask(&limits).is_err());
    assert_eq!(limits.usage().spent[0].units, 5);
}

#[tokio::test(start_paused = true)]
async fn receipts_are_settled_by_the_rows_that_charged_them() {
    let rows = json!({"rule": [rule("gone", "pictures", 9), rule("kept", "pictures", 4)],
        "budget": [{"name": "b", "of": "pictures", "by": "caller", "amount": 4, "per": "day"}],
        "at_once": [{"name": "one", "of": "requests", "by": "caller", "most": 1}]});
    let limits = Limits::open_at(&settings(rows), midnight()).unwrap();
    let four = Cost::ZERO.with_cells(Dimension::Pictures, 4);
    let mut receipt = limits.charge(&ann(), four, Some(Lasting::Requests)).unwrap();
    let rows = json!({"rule": [rule("kept", "pictures", 4), rule("new", "pictures", 4)],
        "budget": [{"name": "b", "of": "pictures", "by": "caller", "amount": 4, "per": "day"}],
        "at_once": [{"name": "one", "of": "requests", "by": "caller", "most": 1}]});
    limits.replace(&settings(rows)).unwrap();
    let second = limits.charge(&ann(), Cost::ZERO, Some(Lasting::Requests)).unwrap_err();
    assert_eq!(second.rule(), "one", "the call is under way under the new rows too");
    receipt.settle(four.with_cells(Dimension::Pictures, 1));
    drop(receipt);
    let left = |limits: &Limits| {
        let standing = limits.standing("caller:ann").unwrap();
        standing.limits.into_iter().map(|limit| (limit.name, limit.left)).collect::<Vec<_>>()
    };
    let named = |name: &str, left: u64| (name.to_owned(), left);
    assert_eq!(left(&limits), [named("kept", 3), named("new", 4), named("one", 1), named("b", 3)]);
    // What had begun before the replacing and is more than was estimated is a debt of the same share.
    let mut receipt = limits.charge(&ann(), four.with_cells(Dimension::Pictures, 1), None).unwrap();
    limits.replace(&settings(json!({"rule": [rule("kept", "pictures", 4)]}))).unwrap();
    receipt.settle(four);
    assert_eq!(left(&limits), [named("kept", 0)]);
}

#[tokio::test(start_paused = true)]
async fn rows_with_faults_and_what_needs_a_start_change_nothing() {
    let limits = Limits::open_at(&settings(json!({"rule": [rule("a", "requests", 1)]})), midnight()).unwrap();
    let fault = limits.replace(&settings(json!({"rule": [rule("", "requests", 1)]}))).unwrap_err();
    assert!(fault.to_string().starts_with("limits.rule[0].name "), "{fault}");
    assert!(ask(&limits).is_ok() && ask(&limits).is_err(), "the old rule holds");
    let other = json!({"memory_bytes": 1, "ipv6_prefix": 48, "ledger": "x", "ledger_write_ms": 1, "ledger_entries": 1});
    let fixed = limits.replace(&settings(other)).unwrap();
    assert_eq!(fixed, ["memory_bytes", "ipv6_prefix", "ledger", "ledger_write_ms", "ledger_entries"]);
}

#[tokio::test(start_paused = true)]
async fn prices_are_replaced_for_everybody_who_shares_them() {
    let cost = |cents: f64| settings(json!({"cost": [{"endpoints": ["**"], "cents": cents}]}));
    let prices = Prices::new(&cost(1.0));
    let theirs = prices.clone();
    prices.replace(&cost(2.5));
    let run = FalCall { kind: CallKind::Run, endpoint: EndpointId::parse("fal-ai/lcm"), request_id: None };
    assert_eq!(theirs.call(&run, 0).cells(Dimension::Cents), 2500);
}

#[test]
fn metrics_of_limits_that_are_gone_are_not_shown() {
    let limits = Limits::open(&settings(json!({"rule": [rule("old", "requests", 1)]}))).unwrap();
    let mut registry = Registry::default();
    limits.register(&mut registry);
    limits.replace(&settings(json!({"rule": [rule("new", "requests", 1)]}))).unwrap();
    let mut text = String::new();
    encode(&mut text, &registry).unwrap();
    assert!(text.contains("limit=\"new\"") && !text.contains("limit=\"old\""), "{text}");
}
