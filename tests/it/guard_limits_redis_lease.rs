//! Cells that gates take from one Redis ahead of their calls: how many pass, what lapses, and what stays exact.

use std::net::IpAddr;

use falgate::guard::{Cost, Dimension, Lasting, LimitSettings, Limits, Receipt, Refusal, Subject, Why};
use falgate::wire::EndpointId;
use http::HeaderMap;
use serde_json::{Value, json};

use crate::engine_support::within;
use crate::redis_support::Redis;

const DAY: u32 = 86_400_000;

fn ann() -> Subject {
    let address: IpAddr = "203.0.113.1".parse().unwrap();
    Subject { address, caller: Some("ann".into()), tier: None, endpoint: EndpointId::parse("fal-ai/lcm") }
}

/// One frame, of which nothing comes back while a test runs.
fn frame() -> Cost {
    Cost::ZERO.with_cells(Dimension::Frames, 1)
}

fn rule(name: &str, by: &str, amount: u32) -> Value {
    json!({"name": name, "of": "frames", "by": by, "amount": amount, "per_ms": DAY})
}

fn leasing(calls: u32, rows: &Value) -> Value {
    let mut all = json!({"redis": {"lease": {"calls": calls, "keep_ms": 600_000}}});
    all.as_object_mut().unwrap().extend(rows.as_object().unwrap().clone());
    all
}

async fn charge(limits: &Limits) -> Result<Receipt, Refusal> {
    within(limits.charge_soon(&ann(), frame(), None)).await
}

/// Calls that needed no round trip.
fn leased(limits: &Limits) -> u64 {
    let mut registry = prometheus_client::registry::Registry::default();
    limits.register(&mut registry);
    let mut text = String::new();
    prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix("falgate_limit_leased_total ")).unwrap();
    line.parse().unwrap()
}

fn left(receipt: &Receipt, rule: &str) -> u64 {
    let mut headers = HeaderMap::new();
    receipt.tell(&mut headers);
    let text = headers["ratelimit"].to_str().unwrap();
    let (_, rest) = text.split_once(&format!("\"{rule}\";r=")).unwrap();
    rest.split(';').next().unwrap().parse().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_gates_with_leases_never_let_more_through_and_ask_for_few_of_them() {
    let Some(redis) = Redis::start(&[]) else { return };
    let rows = leasing(50, &json!({"rule": [rule("hour", "caller", 2000), rule("all", "all", 5000)]}));
    let gates = [redis.limits(rows.clone()).await, redis.limits(rows).await];
    let run = |limits: Limits| async move {
        let mut passed = 0_u64;
        for _ in 0..1500 {
            match charge(&limits).await {
                Ok(_) => passed += 1,
                Err(refusal) => {
                    assert_eq!((refusal.rule(), refusal.why()), ("hour", Why::TooFast { of: Dimension::Frames }));
                }
            }
        }
        passed
    };
    let tasks: Vec<_> =
        gates.iter().cloned().flat_map(|gate| [tokio::spawn(run(gate.clone())), tokio::spawn(run(gate))]).collect();
    let mut passed = 0;
    for task in tasks {
        passed += task.await.unwrap();
    }
    let without_asking: u64 = gates.iter().map(leased).sum();
    // A share of a day gives back one frame in 43 s; what is leased and never spent is below a tenth of what was left.
    assert!((1990..=2002).contains(&passed), "{passed} of 2000 passed");
    assert!(without_asking * 10 > passed * 8, "{without_asking} of {passed} needed no round trip");
}

#[tokio::test]
async fn what_is_left_is_told_truly_with_and_without_a_lease() {
    let Some(redis) = Redis::start(&[]) else { return };
    let limits = redis.limits(leasing(5, &json!({"rule": [rule("hour", "caller", 100)]}))).await;
    let other = redis.limits(json!({"rule": [rule("hour", "caller", 100)]})).await;
    for expected in (80..100).rev() {
        assert_eq!(left(&charge(&limits).await.unwrap(), "hour"), expected);
    }
    assert_eq!(leased(&limits), 16, "four asked, and took four times five ahead");
    assert_eq!(left(&charge(&other).await.unwrap(), "hour"), 75, "what is leased is gone for the others");
    for name in ["caller:ann", "caller:bob"] {
        assert_eq!(limits.standing_soon(name).await.unwrap().unwrap().limits[0].most, 100);
    }
}

#[tokio::test]
async fn calls_that_meet_more_than_rules_always_ask() {
    let Some(redis) = Redis::start(&[]) else { return };
    let cents = json!({"name": "day", "of": "frames", "by": "all", "amount": 1000, "per": "month"});
    let places = json!({"name": "places", "of": "requests", "by": "caller", "most": 9});
    let mut dry = rule("dry", "caller", 1000);
    dry["dry_run"] = json!(true);
    for (at, rows) in [
        json!({"rule": [rule("r", "caller", 1000)], "budget": [cents]}),
        json!({"rule": [rule("r", "caller", 1000)], "at_once": [places]}),
        json!({"rule": [rule("r", "caller", 1000), dry]}),
    ]
    .into_iter()
    .enumerate()
    {
        let mut rows = leasing(9, &rows);
        rows["redis"]["prefix"] = json!(format!("p{at}"));
        let limits = redis.limits(rows).await;
        for expected in [999, 998, 997] {
            let receipt = within(limits.charge_soon(&ann(), frame(), Some(Lasting::Requests))).await.unwrap();
            assert_eq!(left(&receipt, "r"), expected);
        }
        assert_eq!(leased(&limits), 0);
    }
}

#[tokio::test]
async fn a_dry_run_on_redis_counts_and_lets_everybody_through() {
    let Some(redis) = Redis::start(&[]) else { return };
    let mut dry = rule("r", "all", 1);
    dry["dry_run"] = json!(true);
    let places = json!({"name": "a", "of": "requests", "by": "all", "most": 1, "dry_run": true});
    let budget = json!({"name": "b", "of": "frames", "by": "all", "amount": 1, "per": "month", "dry_run": true});
    let limits = redis.limits(json!({"rule": [dry], "at_once": [places], "budget": [budget]})).await;
    let mut held = Vec::new();
    for _ in 0..3 {
        held.push(within(limits.charge_soon(&ann(), frame(), Some(Lasting::Requests))).await.unwrap());
    }
    let mut registry = prometheus_client::registry::Registry::default();
    limits.register(&mut registry);
    let mut text = String::new();
    prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
    for limit in ["r", "a", "b"] {
        assert!(text.contains(&format!(r#"falgate_limit_would_refuse_total{{limit="{limit}"}} 2"#)), "{text}");
    }
}

#[tokio::test]
async fn a_limit_that_is_nearly_used_up_is_decided_call_by_call() {
    let Some(redis) = Redis::start(&[]) else { return };
    let limits = redis.limits(leasing(1000, &json!({"rule": [rule("hour", "caller", 30)]}))).await;
    let mut passed = 0;
    for _ in 0..40 {
        passed += u32::from(charge(&limits).await.is_ok());
    }
    assert_eq!((passed, leased(&limits)), (30, 12), "at most a tenth of what is left is taken ahead");
}

#[tokio::test]
async fn letting_a_caller_off_and_reading_rules_again_ends_what_was_taken_ahead() {
    let Some(redis) = Redis::start(&[]) else { return };
    let rows = leasing(20, &json!({"rule": [rule("hour", "caller", 1000)]}));
    let limits = redis.limits(rows.clone()).await;
    charge(&limits).await.unwrap();
    charge(&limits).await.unwrap();
    assert_eq!(leased(&limits), 1);
    assert_eq!(limits.reset_soon("caller:ann").await.unwrap(), Some(1));
    assert_eq!(left(&charge(&limits).await.unwrap(), "hour"), 999, "asked, and rested");
    assert_eq!(leased(&limits), 1);
    charge(&limits).await.unwrap();
    assert_eq!(leased(&limits), 2);
    let mut settings: Value = json!({"store": "redis", "redis": {"url_env": "URL", "hash_key_env": "KEY"}});
    settings["rule"] = json!([rule("hour", "caller", 500)]);
    let settings: LimitSettings = serde_json::from_value(settings).unwrap();
    limits.replace(&settings).unwrap();
    charge(&limits).await.unwrap();
    assert_eq!(leased(&limits), 2, "nothing of the old pace is spent");
}

#[tokio::test]
async fn what_was_taken_ahead_may_be_spent_while_the_store_is_away() {
    let Some(mut redis) = Redis::start(&[]) else { return };
    let mut rows = leasing(3, &json!({"rule": [rule("hour", "caller", 100)]}));
    rows["redis"]["timeout_ms"] = json!(200);
    let limits = redis.limits(rows).await;
    charge(&limits).await.unwrap();
    redis.kill();
    for _ in 0..3 {
        charge(&limits).await.unwrap();
    }
    assert_eq!(charge(&limits).await.unwrap_err().why(), Why::NoStore);
}
