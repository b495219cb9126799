//! What a decision of the limits costs, and what a million callers cost in memory.

use std::hint::black_box;
use std::net::{IpAddr, Ipv6Addr};
use std::time::Instant;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use falgate::guard::{Cost, Dimension, LimitSettings, Limits, Subject};
use falgate::wire::EndpointId;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Three windows per address, wide enough that nothing is refused: a refusal is not what most calls cost.
const THREE: &str = r#"{"rule": [
    {"name": "second", "of": "requests", "by": "address", "amount": 4000000, "per_ms": 1},
    {"name": "minute", "of": "requests", "by": "address", "amount": 4000000, "per_ms": 1},
    {"name": "pictures", "of": "pictures", "by": "address", "amount": 4000000000, "per_ms": 1}
]}"#;
/// One window per address: who calls once is remembered for an hour.
const ONE: &str = r#"{"rule": [{"name": "hour", "of": "requests", "by": "address", "amount": 1, "per_ms": 3600000}]}"#;

fn limits(json: &str) -> Limits {
    let settings: LimitSettings = serde_json::from_str(json).expect("fixed settings");
    Limits::open(&settings).expect("settings without faults")
}

/// A caller of a network of its own.
fn caller(number: u64) -> Subject {
    let address = IpAddr::V6(Ipv6Addr::from_bits(u128::from(number | 0x2001 << 48) << 64));
    Subject { address, caller: None, tier: None, endpoint: EndpointId::parse("fal-ai/lcm") }
}

fn call() -> Cost {
    Cost::ZERO.with_units(Dimension::Requests, 1.0).with_cells(Dimension::Pictures, 1)
}

fn charge(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("charge");
    group.throughput(Throughput::Elements(1));
    let ann = caller(1);
    let with_budget = format!(
        r#"{},"budget": [{{"name": "day", "of": "cents", "by": "all", "amount": 1000, "per": "day"}}]}}"#,
        THREE.trim_end_matches('}')
    );
    let without_headers = format!(r#"{},"headers": "off"}}"#, THREE.trim_end_matches('}'));
    for (name, json) in [
        ("one rule", ONE.replace("\"amount\": 1", "\"amount\": 4000000").replace("3600000", "1")),
        ("three rules", THREE.to_owned()),
        ("three rules, no headers", without_headers),
        ("three rules and a budget", with_budget),
    ] {
        let limits = limits(&json);
        assert!(limits.charge(&ann, call(), None).is_ok());
        group.bench_function(name, |bencher| bencher.iter(|| limits.charge(black_box(&ann), call(), None)));
    }
    let limits = limits(ONE);
    assert!(limits.charge(&ann, call(), None).is_ok());
    group.bench_function("a refusal", |bencher| bencher.iter(|| limits.charge(black_box(&ann), call(), None)));
    group.finish();
}

/// A million callers and then ten, each new, against the ceiling of the default settings: decisions a second on one core,
/// and the memory that they took.
#[expect(clippy::print_stdout, reason = "the bench's answer")]
fn many_keys(_: &mut Criterion) {
    let before = resident();
    let limits = limits(ONE);
    let ceiling = LimitSettings::default().memory_bytes.get() / 1024;
    println!("many keys: ceiling {ceiling} KiB, opened {} KiB", resident().saturating_sub(before));
    let mut number = 0;
    for millions in [1_u64, 10] {
        let (begin, mut refused, first) = (Instant::now(), 0_u64, number);
        while number < millions * 1_000_000 {
            number += 1;
            refused += u64::from(limits.charge(&caller(number), call(), None).is_err());
        }
        let a_second = (number - first) as f64 / begin.elapsed().as_secs_f64();
        let (usage, more) = (limits.usage(), resident().saturating_sub(before));
        let (live, room) = (usage.live_keys, usage.room_for_keys);
        println!(
            "many keys: {millions} million, {live} live of {room}, {refused} refused, {more} KiB more, \
             {a_second:.0} decisions/s"
        );
    }
}

/// The process' memory, in KiB.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|line| line.split_whitespace().next()?.parse().ok()).unwrap_or(0)
}

criterion_group!(benches, many_keys, charge);
criterion_main!(benches);
