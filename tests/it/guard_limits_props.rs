//! Limits under any schedule: never more than a limit allows in any window, all or nothing, and nothing lost by a restart.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use falgate::guard::{Cost, Dimension, LimitSettings, Limits, Subject};
use falgate::wire::EndpointId;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use serde_json::{Value, json};

/// Settings that keep nothing over a restart, unless they say where.
fn settings(value: Value) -> LimitSettings {
    let settings: LimitSettings = serde_json::from_value(value).unwrap();
    LimitSettings { ledger: Some(settings.ledger.unwrap_or_default()), ..settings }
}

fn midnight() -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(20_000 * 86_400)
}

fn visitor(number: u8) -> Subject {
    let endpoint = EndpointId::parse("fal-ai/lcm");
    Subject { address: [203, 0, 113, number].into(), caller: None, tier: None, endpoint }
}

/// A call, or an input on a socket: they count in other dimensions and share the rest.
fn cost(is_frame: bool, pictures: u64) -> Cost {
    let of = if is_frame { Dimension::Frames } else { Dimension::Requests };
    Cost::ZERO.with_units(of, 1.0).with_cells(Dimension::Pictures, pictures)
}

/// Runs so many cases under a paused clock.
fn run<S: Strategy>(cases: u32, strategy: S, check: impl AsyncFn(S::Value)) {
    let mut runner = TestRunner::new(Config { cases, failure_persistence: None, ..Config::default() });
    let tested = runner.run(&strategy, |case| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        runtime.block_on(check(case));
        Ok(())
    });
    tested.unwrap();
}

/// Pauses in milliseconds, who calls, whether it is a frame, and how many pictures it asks for.
fn schedule() -> impl Strategy<Value = Vec<(u64, u8, bool, u64)>> {
    prop::collection::vec((0_u64..700, 0_u8..3, any::<bool>(), 1_u64..4), 1..80)
}

#[test]
fn no_window_of_any_length_sees_more_than_the_limit() {
    let cases = (schedule(), 1_u64..5, 100_u64..2000, 3_u64..9);
    run(64, cases, async |(calls, amount, per_ms, burst)| {
        let rule =
            json!({"name": "r", "of": "pictures", "by": "address", "amount": amount, "per_ms": per_ms, "burst": burst});
        let limits = Limits::open_at(&settings(json!({"rule": [rule]})), midnight()).unwrap();
        // When each visitor was given how many pictures.
        let (mut at, mut given) = (0, Vec::new());
        for (pause, who, is_frame, pictures) in calls {
            tokio::time::advance(Duration::from_millis(pause)).await;
            at += pause;
            if limits.charge(&visitor(who), cost(is_frame, pictures), None).is_ok() {
                given.push((at, who, pictures));
            }
        }
        for (first, (begin, who, _)) in given.iter().enumerate() {
            let mut sum = 0;
            for (end, _, pictures) in given[first..].iter().filter(|(_, other, _)| other == who) {
                sum += pictures;
                let most = burst + (end - begin) * amount / per_ms;
                assert!(sum <= most, "{sum} pictures within {} ms, at most {most}", end - begin);
            }
        }
    });
}

#[test]
fn a_call_takes_from_every_limit_or_from_none() {
    run(64, (schedule(), 1_u64..6, 1_u64..6, 3_u64..30), async |(calls, first, second, budget)| {
        let rules = json!([
            {"name": "one", "of": "pictures", "by": "address", "amount": first, "per_ms": 3000, "burst": first + 2},
            {"name": "two", "of": "pictures", "by": "all", "amount": second, "per_ms": 1000, "burst": second + 2},
        ]);
        let budgets = json!([{"name": "day", "of": "pictures", "by": "all", "amount": budget, "per": "day"}]);
        let both = settings(json!({"rule": rules, "budget": budgets}));
        let limits = Limits::open_at(&both, midnight()).unwrap();
        let mut spent = 0;
        for (pause, who, is_frame, pictures) in calls {
            tokio::time::advance(Duration::from_millis(pause)).await;
            let left = || {
                let of = |key: &str| limits.standing(key).unwrap().limits;
                let address = of(&format!("address:203.0.113.{who}"));
                let all = of("all");
                [address[0].left, all[0].left, all[1].left]
            };
            let before = left();
            let passes = limits.charge(&visitor(who), cost(is_frame, pictures), None).is_ok();
            assert_eq!(passes, before.iter().all(|left| *left >= pictures), "{before:?} for {pictures}");
            let taken = if passes { pictures } else { 0 };
            assert_eq!(left(), before.map(|left| left - taken), "each the same, or none");
            spent += taken;
        }
        let seen = limits.usage().spent.iter().map(|account| account.units).sum::<u64>();
        assert_eq!(seen, spent);
    });
}

#[test]
fn a_restart_keeps_what_was_spent_of_budgets() {
    // Few: a restart waits for the disk.
    run(12, (schedule(), 5_u64..40, 1_usize..20), async |(calls, amount, every)| {
        let folder = tempfile::tempdir().unwrap();
        let ledger = folder.path().join("ledger.redb");
        let rows = json!({"ledger": ledger, "budget": [
            {"name": "all", "of": "pictures", "by": "all", "amount": amount, "per": "month"},
            {"name": "each", "of": "pictures", "by": "address", "amount": amount / 2, "per": "month"},
        ]});
        let restarted = || Limits::open_at(&settings(rows.clone()), midnight()).unwrap();
        let (mut limits, mut all, mut each) = (restarted(), 0, [0_u64; 3]);
        for (at, (_, who, is_frame, pictures)) in calls.into_iter().enumerate() {
            if at % every == every - 1 {
                drop(limits);
                limits = restarted();
            }
            let own = &mut each[usize::from(who)];
            let fits = all + pictures <= amount && *own + pictures <= amount / 2;
            assert_eq!(limits.charge(&visitor(who), cost(is_frame, pictures), None).is_ok(), fits);
            if fits {
                (all, *own) = (all + pictures, *own + pictures);
            }
        }
    });
}

#[tokio::test(start_paused = true)]
async fn a_flood_of_addresses_stays_under_the_ceiling_and_lets_nobody_off() {
    const CEILING: u64 = 1 << 20;
    let rule = json!({"name": "r", "of": "requests", "by": "address", "amount": 1, "per_ms": 3_600_000});
    let limits = Limits::open_at(&settings(json!({"rule": [rule], "memory_bytes": CEILING})), midnight()).unwrap();
    let call = cost(false, 1);
    assert!(limits.charge(&visitor(7), call, None).is_ok());
    let network = |number: u64| Subject {
        address: std::net::Ipv6Addr::from_bits(u128::from(number | 0x2001 << 48) << 64).into(),
        ..visitor(0)
    };
    let refused = (0..100_000).filter(|number| limits.charge(&network(*number), call, None).is_err()).count();
    let usage = limits.usage();
    assert!(usage.live_keys as u64 * 24 <= CEILING, "24 bytes a key");
    assert!(refused > 100_000 - usage.room_for_keys, "whoever found no room was refused, not forgotten");
    assert!(limits.charge(&visitor(7), call, None).is_err(), "and who was exhausted still is");
    assert!(usage.top.this_hour.len() <= 128 && serde_json::to_string(&usage).unwrap().len() < 64 * 1024);
    tokio::time::advance(Duration::from_secs(3600)).await;
    assert!(limits.charge(&visitor(7), call, None).is_ok());
}
