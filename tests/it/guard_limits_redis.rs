//! Limits that several gates share, in a real Redis.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use falgate::guard::{Cost, Dimension, Lasting, Limits, Refusal, Subject, Why};
use falgate::wire::{EndpointId, ToProblem as _};
use serde_json::{Value, json};

use crate::redis_support::{Redis, open, soon};

fn ann() -> Subject {
    Subject {
        address: "203.0.113.1".parse::<IpAddr>().unwrap(),
        caller: Some("ann".into()),
        tier: Some("pro".into()),
        endpoint: EndpointId::parse("fal-ai/lcm"),
    }
}

fn stranger(by: &str) -> Option<Subject> {
    let ann = ann();
    Some(match by {
        "address" => Subject { address: "203.0.113.2".parse().unwrap(), ..ann },
        "caller" => Subject { caller: Some("bob".into()), ..ann },
        "tier" => Subject { tier: Some("free".into()), ..ann },
        "endpoint" => Subject { endpoint: EndpointId::parse("fal-ai/flux"), ..ann },
        _ => return None,
    })
}

/// So much in an hour: nothing comes back while a test runs.
fn rule(of: &str, by: &str, amount: u64) -> Value {
    json!({"name": format!("{of}-{by}"), "of": of, "by": by, "amount": amount, "per_ms": 360_000_000})
}

async fn charge(limits: &Limits, subject: &Subject, cost: Cost) -> Result<(), Refusal> {
    limits.charge_soon(subject, cost, None).await.map(drop)
}

const fn cells(of: Dimension, units: u64) -> Cost {
    Cost::ZERO.with_cells(of, units * of.cells_per_unit())
}

#[tokio::test]
async fn every_dimension_is_limited_by_every_share_across_gates() {
    let Some(redis) = Redis::start(&[]) else { return };
    for of in Dimension::ALL {
        for by in ["address", "caller", "tier", "endpoint", "all"] {
            let tables = json!({"rule": [rule(of.as_str(), by, 3)]});
            let gates = [redis.limits(tables.clone()).await, redis.limits(tables).await];
            let case = format!("{of:?} by {by}");
            for turn in 0..3 {
                charge(&gates[turn % 2], &ann(), cells(of, 1))
                    .await
                    .unwrap_or_else(|refusal| panic!("{case}: {refusal}"));
            }
            for gate in &gates {
                let refusal = charge(gate, &ann(), cells(of, 1)).await.expect_err(&case);
                assert_eq!(refusal.why(), Why::TooFast { of }, "{case}");
                let wait = refusal.wait().unwrap().as_secs();
                assert!((119_000..=120_000).contains(&wait), "{case}: {wait} s of 120000 are left");
                assert_eq!(charge(gate, &ann(), cells(of, 4)).await.unwrap_err().why(), Why::Never { of });
            }
            match stranger(by) {
                Some(other) => charge(&gates[0], &other, cells(of, 3)).await.expect(&case),
                None => drop(charge(&gates[0], &ann(), cells(of, 1)).await.expect_err(&case)),
            }
        }
    }
}

#[tokio::test]
async fn a_refusal_takes_nothing_from_rules_budgets_and_places() {
    let Some(redis) = Redis::start(&[]) else { return };
    for per in ["hour", "day", "month"] {
        let limits = redis
            .limits(json!({
                "redis": {"prefix": per},
                "rule": [rule("pictures", "caller", 9), rule("pictures", "all", 8)],
                "budget": [{"name": "money", "of": "cents", "by": "all", "amount": 5, "per": per}],
                "at_once": [{"name": "calls", "of": "requests", "by": "caller", "most": 1}],
            }))
            .await;
        let call = cells(Dimension::Pictures, 1).with_units(Dimension::Cents, 2.0);
        let held = limits.charge_soon(&ann(), call, Some(Lasting::Requests)).await.unwrap();
        for _ in 0..9 {
            let refusal = limits.charge_soon(&ann(), call, Some(Lasting::Requests)).await.unwrap_err();
            assert_eq!(refusal.why(), Why::AtOnce { of: Lasting::Requests });
        }
        charge(&limits, &ann(), call).await.unwrap();
        for _ in 0..9 {
            let refusal = charge(&limits, &ann(), call).await.unwrap_err();
            assert_eq!((refusal.rule(), refusal.why()), ("money", Why::Spent { of: Dimension::Cents }));
        }
        charge(&limits, &ann(), cells(Dimension::Pictures, 6)).await.expect("two of eight pictures are gone");
        let refusal = charge(&limits, &ann(), cells(Dimension::Pictures, 1)).await.unwrap_err();
        assert_eq!(refusal.rule(), "pictures-all");
        drop(held);
        // The place is given back behind its caller's back.
        let given_back =
            async { while limits.charge_soon(&ann(), Cost::ZERO, Some(Lasting::Requests)).await.is_err() {} };
        soon(given_back).await;
    }
}

#[tokio::test]
async fn two_gates_enforce_one_limit_under_load_also_while_one_restarts() {
    let Some(redis) = Redis::start(&[]) else { return };
    let tables = || json!({"rule": [rule("pictures", "all", 500)]});
    let one = redis.limits(tables()).await;
    let load = |limits: Limits, calls: usize| async move {
        let mut passed = 0;
        for _ in 0..calls {
            passed += usize::from(charge(&limits, &ann(), cells(Dimension::Pictures, 1)).await.is_ok());
        }
        passed
    };
    let steady: Vec<_> = (0..4).map(|_| tokio::spawn(load(one.clone(), 200))).collect();
    let mut passed = 0;
    for _ in 0..8 {
        // A gate that starts, works and goes, again and again.
        let other = redis.limits(tables()).await;
        passed += load(other, 100).await;
    }
    for task in steady {
        passed += task.await.unwrap();
    }
    assert_eq!(passed, 500, "1600 calls asked for 500 places");
}

#[tokio::test]
async fn two_gates_keep_one_pace_within_one_percent() {
    let Some(redis) = Redis::start(&[]) else { return };
    let tables =
        json!({"rule": [{"name": "pace", "of": "frames", "by": "all", "amount": 400, "per_ms": 1000, "burst": 20}]});
    let gates = [redis.limits(tables.clone()).await, redis.limits(tables).await];
    let started = Instant::now();
    let run = |limits: Limits| async move {
        let mut passed = 0_u32;
        while started.elapsed() < Duration::from_secs(2) {
            passed += u32::from(charge(&limits, &ann(), cells(Dimension::Frames, 1)).await.is_ok());
        }
        passed
    };
    let [one, other] = gates.map(|gate| tokio::spawn(run(gate)));
    let passed = f64::from(one.await.unwrap() + other.await.unwrap());
    let most = 20.0 + 400.0 * started.elapsed().as_secs_f64();
    assert!(passed <= most * 1.01, "{passed} passed, {most} may");
}

#[tokio::test]
async fn an_estimate_is_settled_where_all_gates_see_it() {
    let Some(redis) = Redis::start(&[]) else { return };
    let tables = json!({
        "rule": [rule("gpu_ms", "caller", 100)],
        "budget": [{"name": "gpu", "of": "gpu_ms", "by": "all", "amount": 1000, "per": "month"}],
    });
    let gates = [redis.limits(tables.clone()).await, redis.limits(tables).await];
    let of = Dimension::GpuMs;
    let mut receipt = gates[0].charge_soon(&ann(), cells(of, 100), None).await.unwrap();
    receipt.settle(cells(of, 40));
    soon(async { while charge(&gates[1], &ann(), cells(of, 60)).await.is_err() {} }).await;
    let refusal = charge(&gates[1], &ann(), cells(of, 1)).await.unwrap_err();
    assert_eq!(refusal.rule(), "gpu_ms-caller", "40 and 60 of 100 are gone");
    let bob = stranger("caller").unwrap();
    let mut receipt = gates[0].charge_soon(&bob, cells(of, 1), None).await.unwrap();
    receipt.settle(cells(of, 850));
    soon(async { while charge(&gates[1], &bob, cells(of, 1)).await.is_ok() {} }).await;
    let eve = Subject { caller: Some("eve".into()), ..ann() };
    let refusal = charge(&gates[0], &eve, cells(of, 60)).await.unwrap_err();
    assert_eq!(refusal.rule(), "gpu", "40, 60 and 850 of 1000 are gone");
}

#[tokio::test]
async fn a_stalled_redis_refuses_within_the_timeout_and_local_rules_go_on() {
    let Some(redis) = Redis::start(&[]) else { return };
    let tables = |down: &str| {
        let mut row = rule("pictures", "caller", 5);
        row["when_store_is_down"] = down.into();
        json!({"rule": [row], "redis": {"timeout_ms": 200, "prefix": down}})
    };
    let (firm, local) = (redis.limits(tables("refuse")).await, redis.limits(tables("local")).await);
    let call = cells(Dimension::Pictures, 1);
    charge(&firm, &ann(), call).await.unwrap();
    redis.signal("STOP");
    let asked = Instant::now();
    let refusal = charge(&firm, &ann(), call).await.unwrap_err();
    assert!(asked.elapsed() < Duration::from_secs(5), "{:?}", asked.elapsed());
    assert_eq!((refusal.why(), refusal.to_problem().status().as_u16()), (Why::NoStore, 503));
    for _ in 0..5 {
        charge(&local, &ann(), call).await.expect("it is counted here meanwhile");
    }
    assert_eq!(charge(&local, &ann(), call).await.unwrap_err().why(), Why::TooFast { of: Dimension::Pictures });
    redis.signal("CONT");
    // Charged or exhausted, but decided: it recovers by itself.
    let decided =
        async { while charge(&firm, &ann(), call).await.is_err_and(|refusal| refusal.why() == Why::NoStore) {} };
    soon(decided).await;
}

#[tokio::test]
async fn what_cannot_wait_is_counted_here_and_owed_at_all_gates() {
    let Some(redis) = Redis::start(&[]) else { return };
    for tables in [
        json!({"redis": {"prefix": "rule"}, "rule": [rule("bytes", "caller", 5)]}),
        json!({"redis": {"prefix": "spent"}, "budget": [{"name": "b", "of": "bytes", "by": "caller", "amount": 5, "per": "month"}]}),
    ] {
        let gates = [redis.limits(tables.clone()).await, redis.limits(tables).await];
        let byte = cells(Dimension::Bytes, 1);
        let mut receipt = gates[0].charge(&ann(), byte, None).expect("nobody has to wait");
        // What an answer shows to have been more becomes a debt here and there.
        receipt.settle(cells(Dimension::Bytes, 5));
        assert!(gates[0].charge(&ann(), byte, None).is_err(), "this gate has counted them itself");
        let exhausted =
            async { while charge(&gates[1], &ann(), Cost::ZERO.with_cells(Dimension::Bytes, 5)).await.is_ok() {} };
        soon(exhausted).await;
        assert!(charge(&gates[0], &ann(), byte).await.is_err());
        assert!(gates[1].charge(&stranger("caller").unwrap(), byte, None).is_ok());
    }
}

#[tokio::test]
async fn what_cannot_wait_is_refused_while_the_store_is_down_and_goes_on_by_itself() {
    let Some(redis) = Redis::start(&[]) else { return };
    let tables = |down: &str| {
        let mut row = rule("bytes", "caller", 1000);
        row["when_store_is_down"] = down.into();
        json!({"rule": [row], "redis": {"timeout_ms": 200, "prefix": down}})
    };
    let (firm, local) = (redis.limits(tables("refuse")).await, redis.limits(tables("local")).await);
    let byte = cells(Dimension::Bytes, 1);
    redis.signal("STOP");
    for limits in [&firm, &local] {
        // Whoever waits for the store notices that it is gone.
        let _ = charge(limits, &ann(), byte).await;
    }
    assert_eq!(firm.charge(&ann(), byte, None).unwrap_err().why(), Why::NoStore);
    assert!(local.charge(&ann(), byte, None).is_ok());
    redis.signal("CONT");
    // Nobody but those who cannot wait asks for it.
    soon(async {
        while firm.charge(&ann(), byte, None).is_err() {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

#[tokio::test]
async fn a_redis_that_is_killed_loses_at_most_its_persistence() {
    let Some(mut redis) = Redis::start(&["--appendonly", "yes", "--appendfsync", "always"]) else { return };
    let limits =
        redis.limits(json!({"budget": [{"name": "b", "of": "pictures", "by": "all", "amount": 9, "per": "month"}]}));
    let limits = limits.await;
    charge(&limits, &ann(), cells(Dimension::Pictures, 9)).await.unwrap();
    redis.kill();
    assert_eq!(charge(&limits, &ann(), cells(Dimension::Pictures, 1)).await.unwrap_err().why(), Why::NoStore);
    redis.start_again();
    let decided = async {
        loop {
            match charge(&limits, &ann(), cells(Dimension::Pictures, 1)).await {
                Err(refusal) if refusal.why() == Why::NoStore => {}
                other => return other,
            }
        }
    };
    let refusal = soon(decided).await.unwrap_err();
    assert_eq!(refusal.why(), Why::Spent { of: Dimension::Pictures }, "the budget survived");
}

#[tokio::test]
async fn a_redis_over_tls_with_a_password_is_reached_and_no_other() {
    let folder = tempfile::tempdir().unwrap();
    let pair = rcgen::generate_simple_self_signed(vec!["127.0.0.1".to_owned(), "localhost".to_owned()]).unwrap();
    std::fs::write(folder.path().join("cert.pem"), pair.cert.pem()).unwrap();
    std::fs::write(folder.path().join("key.pem"), pair.signing_key.serialize_pem()).unwrap();
    let ca = folder.path().join("cert.pem");
    let arguments = "--tls-cert-file cert.pem --tls-key-file key.pem --tls-auth-clients no --requirepass example";
    let Some(redis) = Redis::start_in(folder, arguments.split(' ').map(str::to_owned).collect()) else { return };
    let tables = json!({"rule": [rule("pictures", "caller", 1)], "redis": {"ca_file": ca, "connect_ms": 5000}});
    let limits = open(&format!("rediss://:example@127.0.0.1:{}", redis.port), tables.clone()).await.unwrap();
    charge(&limits, &ann(), cells(Dimension::Pictures, 1)).await.unwrap();
    assert!(charge(&limits, &ann(), cells(Dimension::Pictures, 1)).await.is_err());
    let untrusted = json!({"rule": [rule("pictures", "caller", 1)]});
    for (url, tables) in [
        (format!("rediss://:wrong@127.0.0.1:{}", redis.port), tables.clone()),
        (format!("rediss://:example@127.0.0.1:{}", redis.port), untrusted),
        ("redis://127.0.0.1:1".to_owned(), tables.clone()),
        ("no url, but a password".to_owned(), tables),
    ] {
        let error = open(&url, tables).await.unwrap_err();
        assert!(!format!("{error} {error:?}").contains("password"), "{error:?}");
    }
}

#[tokio::test]
async fn places_of_a_gate_that_died_return_and_those_of_one_that_lives_stay() {
    let Some(redis) = Redis::start(&[]) else { return };
    let tables = json!({"redis": {"place_lease_ms": 1500},
        "at_once": [{"name": "sockets", "of": "sockets", "by": "caller", "most": 1}]});
    let url = redis.url();
    let theirs = tables.clone();
    let (held, rest) = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let receipt = runtime.block_on(async {
            let limits = open(&url, theirs).await.unwrap();
            limits.charge_soon(&ann(), Cost::ZERO, Some(Lasting::Sockets)).await.unwrap()
        });
        (receipt, runtime)
    })
    .join()
    .unwrap();
    let other = redis.limits(tables).await;
    let who = ann();
    let ask = || other.charge_soon(&who, Cost::ZERO, Some(Lasting::Sockets));
    let taken = Instant::now();
    while taken.elapsed() < Duration::from_secs(3) {
        assert!(ask().await.is_err(), "its gate lives and renews it");
    }
    rest.shutdown_background();
    soon(async { while ask().await.is_err() {} }).await;
    drop(held);
}

#[tokio::test]
async fn keys_show_nobody_and_end_when_they_have_rested() {
    let Some(redis) = Redis::start(&[]) else { return };
    let limits = redis
        .limits(json!({
            "rule": [rule("pictures", "caller", 5), rule("pictures", "address", 5)],
            "budget": [{"name": "b", "of": "pictures", "by": "endpoint", "amount": 9, "per": "day"}],
            "at_once": [{"name": "a", "of": "requests", "by": "tier", "most": 9}],
        }))
        .await;
    let _held = limits.charge_soon(&ann(), cells(Dimension::Pictures, 1), Some(Lasting::Requests)).await.unwrap();
    let mut connection = redis::Client::open(redis.url()).unwrap().get_multiplexed_async_connection().await.unwrap();
    let keys: Vec<String> = redis::cmd("KEYS").arg("*").query_async(&mut connection).await.unwrap();
    assert_eq!(keys.len(), 4, "{keys:?}");
    for key in keys {
        let ends: i64 = redis::cmd("PTTL").arg(&key).query_async(&mut connection).await.unwrap();
        assert!(ends > 0, "{key} ends in {ends} ms");
        assert!(key.starts_with("{falgate}:"), "{key}: one slot of a cluster");
        assert!(!["ann", "203.0", "lcm", "pro"].iter().any(|word| key.contains(word)), "{key}");
    }
}

#[tokio::test]
async fn the_scripts_calendar_is_the_gates() {
    let Some(redis) = Redis::start(&[]) else { return };
    let script = include_str!("../../src/guard/limit/redis/charge.lua");
    let from = script.find("local function end_of_month").unwrap();
    let function = &script[from..script.find("local passes").unwrap()];
    let script = redis::Script::new(&format!("{function}\nreturn end_of_month(tonumber(ARGV[1]))"));
    let mut connection = redis::Client::open(redis.url()).unwrap().get_multiplexed_async_connection().await.unwrap();
    for (second, end) in [
        (0_u64, 2_678_400_u64),
        (951_782_399, 951_868_800),
        (1_709_251_199, 1_709_251_200),
        (1_709_251_200, 1_711_929_600),
        (1_767_225_599, 1_767_225_600),
        (4_107_542_399, 4_107_542_400),
    ] {
        let said: u64 = script.prepare_invoke().arg(second).invoke_async(&mut connection).await.unwrap();
        assert_eq!(said, end, "the month of {second}");
    }
}
