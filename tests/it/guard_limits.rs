//! Limits: every dimension by every share, over calls and over frames, all or nothing, told truthfully.

use std::net::IpAddr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use falgate::guard::{ANONYMOUS_TIER, Cost, Dimension, Lasting, LimitSettings, Limits, Prices, Refusal, Subject, Why};
use falgate::wire::{CallKind, EndpointId, FalCall, ToProblem as _};
use http::header::RETRY_AFTER;
use serde_json::{Value, json};

/// Settings that keep nothing over a restart, unless they say where.
fn settings(value: Value) -> LimitSettings {
    let settings: LimitSettings = serde_json::from_value(value).unwrap();
    LimitSettings { ledger: Some(settings.ledger.unwrap_or_default()), ..settings }
}

/// Whose a share can be.
const SHARES: [&str; 5] = ["address", "caller", "tier", "endpoint", "all"];

/// A wall clock at midnight, long ago enough to be nobody's.
fn midnight() -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(20_000 * 86_400)
}

fn limits(value: Value) -> Limits {
    Limits::open_at(&settings(value), midnight()).unwrap()
}

fn caller(address: &str, name: Option<&str>, tier: Option<&str>, app: &str) -> Subject {
    Subject {
        address: address.parse::<IpAddr>().unwrap(),
        caller: name.map(Into::into),
        tier: tier.map(Into::into),
        endpoint: EndpointId::parse(app),
    }
}

fn ann() -> Subject {
    caller("203.0.113.1", Some("ann"), Some("pro"), "fal-ai/lcm")
}

/// A caller who differs from [`ann`] only in what the share is by; `None` where nobody can.
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

fn seconds(refusal: &Refusal) -> f64 {
    refusal.wait().expect("it only has to wait").as_secs_f64()
}

#[tokio::test(start_paused = true)]
async fn every_dimension_is_limited_by_every_share_for_calls_and_frames() {
    let prices = settings(json!({"cost": [{"endpoints": ["**"], "pictures": 2, "cents": 0.5, "gpu_ms": 30}]}));
    let prices = Prices::new(&prices);
    for of in Dimension::ALL {
        for by in ["address", "caller", "tier", "endpoint", "all"] {
            for over in ["call", "frame"] {
                let cost = |subject: &Subject| match over {
                    "call" => {
                        let call =
                            FalCall { kind: CallKind::Run, endpoint: subject.endpoint.clone(), request_id: None };
                        prices.call(&call, 100)
                    }
                    _ => prices.frame(subject.endpoint.as_ref(), 1),
                };
                let one = cost(&ann()).cells(of);
                if one == 0 {
                    assert!(matches!(
                        (of, over),
                        (Dimension::Requests | Dimension::Bytes, "frame") | (Dimension::Frames, "call")
                    ));
                    continue;
                }
                // Room for exactly three, one of which comes back each second.
                let units = (one * 3).div_ceil(of.cells_per_unit());
                let amount = one.div_ceil(of.cells_per_unit());
                let scale = amount * of.cells_per_unit() / one;
                let rule = json!({"name": "r", "of": of.as_str(), "by": by,
                    "amount": amount, "per_ms": 1000 * scale, "burst": units});
                let limits = limits(json!({"rule": [rule]}));
                let case = format!("{of:?} by {by} over {over}");
                let room = units * of.cells_per_unit() / one;
                for _ in 0..room {
                    limits.charge(&ann(), cost(&ann()), None).unwrap_or_else(|refusal| panic!("{case}: {refusal}"));
                }
                let refusal = limits.charge(&ann(), cost(&ann()), None).expect_err(&case);
                assert_eq!(refusal.why(), Why::TooFast { of }, "{case}");
                assert!(refusal.wait().unwrap() <= Duration::from_millis(1001), "{case}");
                match stranger(by) {
                    Some(other) => drop(limits.charge(&other, cost(&other), None).expect(&case)),
                    None => {
                        drop(limits.charge(&caller("::1", None, None, "a/b"), cost(&ann()), None).expect_err(&case));
                    }
                }
                tokio::time::advance(refusal.wait().unwrap()).await;
                limits.charge(&ann(), cost(&ann()), None).unwrap_or_else(|refusal| panic!("{case}: {refusal}"));
                limits.charge(&ann(), cost(&ann()), None).expect_err(&case);
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn budgets_of_every_dimension_by_every_share_start_anew_with_their_period() {
    // It is the fourth of an October.
    for (per, until) in [("hour", 3600), ("day", 86_400), ("month", 28 * 86_400)] {
        for (of, by) in Dimension::ALL.into_iter().flat_map(|of| SHARES.map(|by| (of, by))) {
            let budget = json!({"name": "b", "of": of.as_str(), "by": by, "amount": 5, "per": per});
            let limits = limits(json!({"budget": [budget]}));
            let units = |count: u64| Cost::ZERO.with_cells(of, count * of.cells_per_unit());
            let charge = |subject: &Subject, count: u64| limits.charge(subject, units(count), None);
            let case = format!("{of:?} by {by} per {per}");
            assert!(charge(&ann(), 4).is_ok(), "{case}");
            let refusal = charge(&ann(), 2).unwrap_err();
            assert_eq!(refusal.why(), Why::Spent { of }, "{case}");
            assert!((seconds(&refusal) - f64::from(until)).abs() < 2.0, "{case}: until its end");
            assert!(charge(&ann(), 1).is_ok(), "{case}: a refusal takes nothing");
            assert_eq!(charge(&ann(), 6).unwrap_err().why(), Why::Never { of }, "{case}");
            assert_eq!(stranger(by).is_some(), stranger(by).is_some_and(|other| charge(&other, 5).is_ok()), "{case}");
            tokio::time::advance(refusal.wait().unwrap()).await;
            assert!(charge(&ann(), 5).is_ok(), "{case}: the next one has a budget of its own");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn what_lasts_is_limited_at_once_by_every_share() {
    for (of, lasting) in [("requests", Lasting::Requests), ("sockets", Lasting::Sockets)] {
        for by in ["address", "caller", "tier", "endpoint", "all"] {
            let limits = limits(json!({"at_once": [{"name": "a", "of": of, "by": by, "most": 2}]}));
            let take = |subject: &Subject| limits.charge(subject, Cost::ZERO, Some(lasting));
            let (first, _second) = (take(&ann()).unwrap(), take(&ann()).unwrap());
            assert_eq!(take(&ann()).unwrap_err().why(), Why::AtOnce { of: lasting });
            assert_eq!(stranger(by).is_some(), stranger(by).is_some_and(|other| take(&other).is_ok()));
            drop(first);
            assert!(take(&ann()).is_ok(), "a place is given back with its receipt");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_refusal_by_the_last_limit_takes_nothing_from_the_others() {
    let limits = limits(json!({
        "rule": [
            {"name": "wide", "of": "requests", "by": "all", "amount": 4, "per_ms": 4000},
            {"name": "narrow", "of": "pictures", "by": "caller", "amount": 1, "per_ms": 60_000},
        ],
        "at_once": [{"name": "places", "of": "requests", "by": "all", "most": 2}],
        "budget": [{"name": "day", "of": "pictures", "by": "all", "amount": 3, "per": "day"}],
    }));
    let run = Cost::ZERO.with_units(Dimension::Requests, 1.0).with_cells(Dimension::Pictures, 1);
    let bob = caller("203.0.113.9", Some("bob"), None, "fal-ai/lcm");
    drop(limits.charge(&ann(), run, Some(Lasting::Requests)).unwrap());
    for _ in 0..20 {
        let refusal = limits.charge(&ann(), run, Some(Lasting::Requests)).unwrap_err();
        assert_eq!((refusal.rule(), seconds(&refusal).ceil()), ("narrow", 60.0));
    }
    drop(limits.charge(&bob, run, Some(Lasting::Requests)).unwrap());
    let eve = caller("203.0.113.10", Some("eve"), None, "fal-ai/lcm");
    drop(limits.charge(&eve, run, Some(Lasting::Requests)).unwrap());
    let zoe = caller("203.0.113.11", Some("zoe"), None, "fal-ai/lcm");
    let refusal = limits.charge(&zoe, run, Some(Lasting::Requests)).unwrap_err();
    assert_eq!(refusal.rule(), "day", "three pictures are spent, and no more than three");
    let poll = Cost::ZERO.with_units(Dimension::Requests, 1.0);
    assert!(limits.charge(&zoe, poll, None).is_ok(), "the fourth request is still there");
}

#[tokio::test(start_paused = true)]
async fn a_caller_without_a_place_is_told_of_the_limit_that_lets_it_wait_longest() {
    let limits = limits(json!({
        "rule": [{"name": "hour", "of": "requests", "by": "caller", "amount": 1, "per_ms": 3_600_000}],
        "at_once": [{"name": "places", "of": "requests", "by": "caller", "most": 1}],
        "budget": [{"name": "day", "of": "requests", "by": "caller", "amount": 1, "per": "day"}],
    }));
    let mut registry = prometheus_client::registry::Registry::default();
    limits.register(&mut registry);
    let call = Cost::ZERO.with_units(Dimension::Requests, 1.0);
    let held = limits.charge(&ann(), call, Some(Lasting::Requests)).unwrap();
    let refusal = limits.charge(&ann(), call, Some(Lasting::Requests)).unwrap_err();
    assert_eq!(refusal.rule(), "day");
    assert!(seconds(&refusal) > 86_000.0, "not the second in which the place may be free");
    assert!(http::Response::from(refusal.to_problem()).headers().contains_key("ratelimit"));
    drop(held);
    let refusal = limits.charge(&ann(), call, Some(Lasting::Requests)).unwrap_err();
    assert_eq!(refusal.rule(), "day");
    let mut text = String::new();
    prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
    let counts =
        [r#"passed_total{limit="places"} 1"#, r#"refused_total{limit="places"} 1"#, r#"refused_total{limit="hour"} 2"#];
    assert!(counts.iter().all(|line| text.contains(line)), "{text}");
}

#[tokio::test(start_paused = true)]
async fn a_newcomer_whom_no_memory_is_left_for_is_told_so_and_nothing_of_others() {
    let limits = limits(json!({
        "memory_bytes": 1,
        "rule": [{"name": "hour", "of": "requests", "by": "address", "amount": 1, "per_ms": 3_600_000}],
    }));
    let call = Cost::ZERO.with_units(Dimension::Requests, 1.0);
    let at = |number: u32| Subject { address: std::net::Ipv4Addr::from_bits(number).into(), ..ann() };
    let refusal = (0..).find_map(|number| limits.charge(&at(number), call, None).err()).unwrap();
    assert_eq!((refusal.rule(), refusal.why()), ("hour", Why::NoRoom));
    assert_eq!(seconds(&refusal).ceil(), 3600.0, "until somebody is forgotten");
    let answer = http::Response::from(refusal.to_problem());
    assert!(!answer.headers().contains_key("ratelimit"), "whose numbers would those be");
}

#[tokio::test(start_paused = true)]
async fn whoever_waits_as_told_is_let_through_and_the_headers_say_the_truth() {
    let limits = limits(json!({"rule": [
        {"name": "rps", "of": "requests", "by": "address", "amount": 10, "per_ms": 10_000, "burst": 3},
        {"name": "minute", "of": "requests", "by": "address", "amount": 4, "per_ms": 60_000},
    ]}));
    let call = Cost::ZERO.with_units(Dimension::Requests, 1.0);
    let told = |answer: &http::HeaderMap, name: &str| answer[name].to_str().unwrap().to_owned();
    let mut headers = http::HeaderMap::new();
    limits.charge(&ann(), call, None).unwrap().tell(&mut headers);
    assert_eq!(told(&headers, "ratelimit-policy"), r#""rps";q=3;w=3, "minute";q=4;w=60"#);
    assert_eq!(told(&headers, "ratelimit"), r#""rps";r=2;t=1, "minute";r=3;t=15"#);
    let mut passed = 1;
    loop {
        match limits.charge(&ann(), call, None) {
            Ok(_) => passed += 1,
            Err(refusal) => {
                let problem = refusal.to_problem();
                let answer: http::Response<falgate::wire::Body> = problem.into();
                let after: u64 = told(answer.headers(), RETRY_AFTER.as_str()).parse().unwrap();
                assert!(Duration::from_secs(after) >= refusal.wait().unwrap(), "never earlier than the truth");
                assert!(answer.headers().contains_key("ratelimit"));
                tokio::time::advance(refusal.wait().unwrap()).await;
                limits.charge(&ann(), call, None).expect("whoever waits as told passes");
                passed += 1;
            }
        }
        if passed > 12 {
            break;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn an_estimate_is_put_right_in_rules_and_budgets() {
    let limits = limits(json!({
        "rule": [{"name": "gpu", "of": "gpu_ms", "by": "caller", "amount": 1000, "per_ms": 10_000}],
        "budget": [{"name": "cents", "of": "cents", "by": "all", "amount": 1, "per": "day"}],
    }));
    let estimate = Cost::ZERO.with_cells(Dimension::GpuMs, 400).with_units(Dimension::Cents, 0.5);
    let mut first = limits.charge(&ann(), estimate, None).unwrap();
    first.settle_without_work();
    let mut second = limits.charge(&ann(), estimate, None).unwrap();
    second.settle(Cost::ZERO.with_cells(Dimension::GpuMs, 1400).with_units(Dimension::Cents, 0.9));
    let refusal = limits.charge(&ann(), Cost::ZERO.with_cells(Dimension::GpuMs, 1), None).unwrap_err();
    assert!(seconds(&refusal) > 4.0, "400 ms beyond the burst are a debt of 4 s");
    let other = caller("203.0.113.9", Some("bob"), None, "fal-ai/lcm");
    let cents = |units: f64| limits.charge(&other, Cost::ZERO.with_units(Dimension::Cents, units), None);
    assert_eq!(cents(0.2).unwrap_err().rule(), "cents");
    assert!(cents(0.1).is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_dry_run_counts_and_lets_everybody_through() {
    let limits = limits(json!({
        "rule": [{"name": "r", "of": "requests", "by": "all", "amount": 1, "per_ms": 1000, "dry_run": true}],
        "at_once": [{"name": "a", "of": "requests", "by": "all", "most": 1, "dry_run": true}],
        "budget": [{"name": "b", "of": "requests", "by": "all", "amount": 1, "per": "day", "dry_run": true}],
    }));
    let mut registry = prometheus_client::registry::Registry::default();
    limits.register(&mut registry);
    let call = Cost::ZERO.with_units(Dimension::Requests, 1.0);
    let held: Vec<_> = (0..3).map(|_| limits.charge(&ann(), call, Some(Lasting::Requests)).unwrap()).collect();
    drop(held);
    let mut text = String::new();
    prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
    for limit in ["r", "a", "b"] {
        assert!(text.contains(&format!(r#"falgate_limit_would_refuse_total{{limit="{limit}"}} 2"#)), "{text}");
    }
    assert!(!text.contains("refused_total{limit=\"r\"} 1"));
}

#[tokio::test(start_paused = true)]
async fn a_limit_for_one_tier_or_endpoint_leaves_the_others_alone() {
    let limits = limits(json!({"rule": [
        {"name": "free", "of": "requests", "by": "all", "amount": 1, "per_ms": 60_000, "tiers": [ANONYMOUS_TIER]},
        {"name": "flux", "of": "requests", "by": "all", "amount": 1, "per_ms": 60_000, "endpoints": ["fal-ai/flux"]},
    ]}));
    let call = Cost::ZERO.with_units(Dimension::Requests, 1.0);
    let nobody = caller("203.0.113.1", None, None, "fal-ai/lcm");
    let painter = caller("203.0.113.1", Some("ann"), Some("pro"), "fal-ai/flux");
    assert!(limits.charge(&nobody, call, None).is_ok() && limits.charge(&painter, call, None).is_ok());
    assert_eq!(limits.charge(&nobody, call, None).unwrap_err().rule(), "free");
    assert_eq!(limits.charge(&painter, call, None).unwrap_err().rule(), "flux");
    assert!((0..9).all(|_| limits.charge(&ann(), call, None).is_ok()));
}

#[test]
fn budgets_are_kept_over_a_restart_unless_that_is_switched_off() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("state/limits.redb");
    let budget = json!({"name": "day", "of": "requests", "by": "all", "amount": 1, "per": "month"});
    let run = |settings: Value, amount| {
        let settings: LimitSettings = serde_json::from_value(settings).unwrap();
        let limits = Limits::open_at(&settings, midnight()).unwrap();
        let call = Cost::ZERO.with_units(Dimension::Requests, 1.0);
        (0..amount).map(|_| limits.charge(&ann(), call, None).is_ok()).collect::<Vec<_>>()
    };
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let _inside = runtime.enter();
    assert_eq!(run(json!({"ledger": "", "budget": [budget]}), 2), [true, false]);
    assert_eq!(run(json!({"ledger": file, "budget": [budget]}), 2), [true, false], "nothing was kept");
    assert_eq!(run(json!({"ledger": file, "budget": [budget]}), 1), [false], "and now it was");
    // Limits that begin without a budget get their ledger with the first.
    let settings: LimitSettings = serde_json::from_value(json!({"ledger": file, "rule": []})).unwrap();
    let limits = Limits::open_at(&settings, midnight()).unwrap();
    limits.replace(&LimitSettings { budget: vec![serde_json::from_value(budget).unwrap()], ..settings }).unwrap();
    assert!(limits.charge(&ann(), Cost::ZERO.with_units(Dimension::Requests, 1.0), None).is_err());
}

#[test]
fn limits_that_cannot_be_kept_stop_the_start() {
    let refused = |value: Value| Limits::open(&settings(value)).unwrap_err().to_string();
    let rule =
        |name: &str, amount: u64| json!({"name": name, "of": "bytes", "by": "all", "amount": amount, "per_ms": 1});
    assert!(refused(json!({"rule": [rule("a b", 1)]})).contains("rule[0].name"));
    assert!(refused(json!({"rule": [rule("a", 1), rule("a", 1)]})).contains("rule[1].name"));
    let many: Vec<_> = (0..17).map(|at| rule(&format!("r{at}"), 1)).collect();
    assert!(refused(json!({ "rule": many })).contains("more than 16"));
    assert!(refused(json!({"ledger": "/no/such/folder/ledger.redb"})).contains("limits.ledger"));
    assert!(serde_json::from_value::<LimitSettings>(json!({"rule": [rule("a", 0)]})).is_err());
}

#[tokio::test(start_paused = true)]
async fn an_operator_sees_what_was_spent_and_lets_one_caller_off() {
    let limits = limits(json!({
        "rule": [{"name": "rps", "of": "requests", "by": "caller", "amount": 1, "per_ms": 60_000}],
        "budget": [{"name": "day", "of": "requests", "by": "caller", "amount": 1, "per": "day"}],
    }));
    let call = Cost::ZERO.with_units(Dimension::Requests, 1.0);
    let bob = stranger("caller").unwrap();
    for subject in [&ann(), &bob] {
        assert!(limits.charge(subject, call, None).is_ok() && limits.charge(subject, call, None).is_err());
    }
    let usage = serde_json::to_value(limits.usage()).unwrap();
    assert_eq!(
        usage["limits"][0],
        json!({"name": "rps", "kind": "rule", "of": "requests", "amount": 1, "per_ms": 60_000, "burst": 1,
               "by": "caller", "dry_run": false, "passed": 2, "refused": 2, "would_refuse": 0})
    );
    let until = 20_001 * 86_400;
    assert_eq!(usage["limits"][1]["spent"], 2, "of all callers together");
    assert_eq!(
        usage["spent"],
        json!([
            {"budget": "day", "key": "caller:ann", "units": 1, "until": until},
            {"budget": "day", "key": "caller:bob", "units": 1, "until": until},
        ])
    );
    let called = |key: &str| json!({"key": key, "calls": 2, "refused": 1, "overstated": 0});
    assert_eq!(usage["top"]["this_hour"], json!([called("caller:ann"), called("caller:bob")]));
    let standing = serde_json::to_value(limits.standing("caller:ann").unwrap()).unwrap();
    assert_eq!(
        standing["limits"],
        json!([
            {"name": "rps", "left": 0, "most": 1, "whole_in_s": 60},
            {"name": "day", "left": 0, "most": 1, "whole_in_s": 86_399},
        ])
    );
    assert_eq!(limits.standing("caller:eve").unwrap().limits[0].left, 1, "who never called has all of it");
    assert_eq!(usage["live_keys"], 2);
    assert_eq!(limits.reset("caller:ann"), Some(2));
    assert_eq!((limits.reset("caller:ann"), limits.reset("caller:eve"), limits.reset("ann")), (Some(0), Some(0), None));
    assert!(limits.charge(&ann(), call, None).is_ok() && limits.charge(&bob, call, None).is_err());
}
