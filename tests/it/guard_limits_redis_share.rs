//! One share of limits in a real Redis: how it stands at all gates together, and how it is let off.

use std::net::IpAddr;
use std::time::SystemTime;

use falgate::guard::{Cost, Dimension, Lasting, LimitError, Limits, Standing, Subject};
use serde_json::json;

use crate::redis_support::{Redis, soon};

const HOURS_100: u64 = 360_000_000;
const KEYS: [&str; 5] = ["address:203.0.113.1", "caller:ann", "tier:pro", "endpoint:fal-ai/lcm", "all"];

fn ann() -> Subject {
    Subject {
        address: "203.0.113.1".parse::<IpAddr>().unwrap(),
        caller: Some("ann".into()),
        tier: Some("pro".into()),
        endpoint: falgate::wire::EndpointId::parse("fal-ai/lcm"),
    }
}

fn bob() -> Subject {
    Subject { address: "203.0.113.2".parse().unwrap(), caller: Some("bob".into()), ..ann() }
}

fn units(of: Dimension, units: u64) -> Cost {
    Cost::ZERO.with_cells(of, units * of.cells_per_unit())
}

/// Periods that do not end while a case runs, with their longest in seconds.
fn periods() -> Vec<(&'static str, u64)> {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
    let mut periods = vec![("hour", 3600), ("day", 86_400), ("month", 31 * 86_400)];
    // A month ends with a day.
    periods.retain(|(_, longest)| now % longest.min(&86_400) + 60 < *longest.min(&86_400));
    periods
}

async fn stands(limits: &Limits, key: &str) -> Vec<Standing> {
    limits.standing_soon(key).await.unwrap().unwrap().limits
}

async fn left(limits: &Limits, key: &str) -> Vec<(String, u64)> {
    stands(limits, key).await.into_iter().map(|limit| (limit.name, limit.left)).collect()
}

#[tokio::test]
async fn each_share_of_each_limit_is_shown_exactly_and_reset_alone() {
    let Some(redis) = Redis::start(&[]) else { return };
    for (by, key) in ["address", "caller", "tier", "endpoint", "all"].into_iter().zip(KEYS) {
        for of in Dimension::ALL {
            let of_name = of.as_str();
            let periods = periods();
            let budgets: Vec<_> = periods
                .iter()
                .map(|(per, _)| json!({"name": per, "of": of_name, "by": by, "amount": 9, "per": per}))
                .collect();
            let tables = json!({
                "redis": {"prefix": format!("{by}-{of_name}")},
                "rule": [{"name": "rule", "of": of_name, "by": by, "amount": 5, "per_ms": HOURS_100}],
                "budget": budgets,
            });
            let gates = [redis.limits(tables.clone()).await, redis.limits(tables).await];
            for gate in &gates {
                drop(gate.charge_soon(&ann(), units(of, 2), None).await.unwrap());
            }
            let case = format!("{of_name} by {by}");
            let expected = |rule: u64, budget: u64| -> Vec<(String, u64)> {
                let budgets = periods.iter().map(|(per, _)| ((*per).to_owned(), budget));
                std::iter::once(("rule".to_owned(), rule)).chain(budgets).collect()
            };
            for other in KEYS.iter().filter(|other| **other != key) {
                // Without a name, a caller would be known by the address: such a share is another's.
                let has_limits = by == "caller" && other.starts_with("address:");
                let none = expected(5, 9);
                assert_eq!(
                    left(&gates[0], other).await,
                    none[..if has_limits { none.len() } else { 0 }],
                    "{case}: {other}"
                );
                assert_eq!(gates[0].reset_soon(other).await.unwrap(), Some(0), "{case}: {other}");
            }
            for gate in &gates {
                assert_eq!(left(gate, key).await, expected(1, 5), "{case}");
            }
            let seen = stands(&gates[0], key).await;
            assert!(seen[0].most == 5 && seen[1..].iter().all(|limit| limit.most == 9), "{case}: {seen:?}");
            let whole = seen[0].whole_in_s.unwrap();
            assert!((287_000..=288_000).contains(&whole), "{case}: four of five are back in {whole} s");
            for (limit, (_, longest)) in seen[1..].iter().zip(&periods) {
                assert!((1..=*longest).contains(&limit.whole_in_s.unwrap()), "{case}: {limit:?}");
            }
            assert_eq!(gates[1].reset_soon(key).await.unwrap(), Some(seen.len()), "{case}");
            assert_eq!(gates[0].reset_soon(key).await.unwrap(), Some(0), "{case}: there is nothing left");
            for gate in &gates {
                assert_eq!(left(gate, key).await, expected(5, 9), "{case}");
            }
            drop(gates[0].charge_soon(&ann(), units(of, 5), None).await.expect(&case));
            drop(gates[1].charge_soon(&ann(), units(of, 1), None).await.expect_err(&case));
        }
    }
}

#[tokio::test]
async fn a_reset_lets_off_nobody_else_and_leaves_places_taken() {
    let Some(redis) = Redis::start(&[]) else { return };
    let tables = json!({
        "rule": [{"name": "rule", "of": "pictures", "by": "caller", "amount": 3, "per_ms": HOURS_100}],
        "at_once": [{"name": "calls", "of": "requests", "by": "caller", "most": 2}],
    });
    let gates = [redis.limits(tables.clone()).await, redis.limits(tables).await];
    let call = units(Dimension::Pictures, 1);
    let held = gates[0].charge_soon(&ann(), call, Some(Lasting::Requests)).await.unwrap();
    drop(gates[0].charge_soon(&bob(), call, None).await.unwrap());
    let named = |rule: u64, calls: u64| vec![("rule".to_owned(), rule), ("calls".to_owned(), calls)];
    assert_eq!(left(&gates[1], "caller:ann").await, named(2, 1));
    assert_eq!(gates[1].reset_soon("caller:ann").await.unwrap(), Some(1));
    assert_eq!(left(&gates[1], "caller:ann").await, named(3, 1), "what lasts goes on");
    assert_eq!(left(&gates[1], "caller:bob").await, named(2, 2));
    assert_eq!(stands(&gates[1], "caller:ann").await[1].whole_in_s, None);
    drop(held);
    let given_back = async { while left(&gates[1], "caller:ann").await != named(3, 2) {} };
    soon(given_back).await;
}

#[tokio::test]
async fn a_reset_also_forgets_what_this_gate_counted_for_itself() {
    let Some(redis) = Redis::start(&[]) else { return };
    let tables = json!({"rule": [{"name": "rule", "of": "bytes", "by": "caller", "amount": 3, "per_ms": HOURS_100}]});
    let limits = redis.limits(tables).await;
    let call = units(Dimension::Bytes, 3);
    drop(limits.charge(&ann(), call, None).unwrap());
    drop(limits.charge(&ann(), call, None).expect_err("all three are gone here"));
    let owed = async { while left(&limits, "caller:ann").await[0].1 != 0 {} };
    soon(owed).await;
    assert_eq!(limits.reset_soon("caller:ann").await.unwrap(), Some(1), "one limit, counted here and there");
    drop(limits.charge(&ann(), call, None).expect("all three are back here"));
}

#[tokio::test]
async fn a_store_that_is_gone_neither_shows_nor_resets() {
    let Some(mut redis) = Redis::start(&[]) else { return };
    let tables = json!({"rule": [{"name": "rule", "of": "requests", "by": "all", "amount": 1, "per_ms": HOURS_100}]});
    let limits = redis.limits(tables).await;
    assert_eq!(limits.standing_soon("ann").await.unwrap(), None);
    assert_eq!(limits.reset_soon("caller:%FF").await.unwrap(), None);
    redis.kill();
    assert!(matches!(limits.standing_soon("all").await, Err(LimitError::Store(_))));
    assert!(matches!(limits.reset_soon("all").await, Err(LimitError::Store(_))));
}
