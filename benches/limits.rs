//! What a decision of the limits costs, in memory and on Redis, and what a million callers cost in memory.

use std::hint::black_box;
use std::net::{IpAddr, Ipv6Addr};
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use falgate::guard::{Cost, Dimension, LimitSettings, Limits, RedisStore, Subject};
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
        r#"{},"ledger": "","budget": [{{"name": "day", "of": "cents", "by": "all", "amount": 1000, "per": "day"}}]}}"#,
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

/// A million callers on one core, one rule: decisions a second where each is new, where the memory has been used before,
/// and where each is known; and the memory of ten million against the ceiling of the default settings.
#[expect(clippy::print_stdout, reason = "the bench's answer")]
fn many_keys(_: &mut Criterion) {
    const MILLION: u64 = 1_000_000;
    let before = resident();
    // Who calls once has rested after 36 ms, and after 36 s.
    let (short, long) = (limits(&a_hundred_in(3_600)), limits(&a_hundred_in(3_600_000)));
    let ceiling = LimitSettings::default().memory_bytes.get() / 1024;
    println!("many keys: ceiling {ceiling} KiB, two tables opened {} KiB", resident().saturating_sub(before));
    println!("many keys: new, in memory that was never used: {}", Visits::of(&long, 0..MILLION));
    println!("many keys: memory of a million keys: {} KiB", resident().saturating_sub(before));
    for _ in 0..5 {
        println!("many keys: known: {}", Visits::of(&long, 0..MILLION));
    }
    drop(long);
    for round in 0..6 {
        println!(
            "many keys: new, the {round} million before has rested: {}",
            Visits::of(&short, round * MILLION..(round + 1) * MILLION)
        );
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    drop(short);
    let before = resident();
    let full = limits(ONE);
    println!("many keys: ten million, each remembered for an hour: {}", Visits::of(&full, 0..10 * MILLION));
    let usage = full.usage();
    println!(
        "many keys: {} live of {}, {} KiB more",
        usage.live_keys,
        usage.room_for_keys,
        resident().saturating_sub(before)
    );
}

/// What a Redis on loopback adds to a decision on three rules, by one caller after the other call, with and without leases.
#[expect(clippy::print_stdout, reason = "the bench's answer")]
fn on_redis(_: &mut Criterion) {
    const CALLS: usize = 5000;
    let Some((server, port)) = redis() else {
        return println!("redis: left out, there is no redis-server (Debian's package redis-server)");
    };
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime");
    let url = format!("redis://127.0.0.1:{port}");
    let open = |lease: u32| {
        let tables = format!(
            r#""store": "redis", "redis": {{"url_env": "URL", "hash_key_env": "KEY", "prefix": "bench{lease}", "lease": {{"calls": {lease}}}}}"#
        );
        let settings = format!("{}, {tables}}}", THREE.trim_end_matches('}'));
        let settings: LimitSettings = serde_json::from_str(&settings).expect("fixed settings");
        let key = "an example of 32 bytes, or more of them".to_owned();
        let url = url.clone();
        let look_up = move |name: &str| Some(if name == "URL" { url.clone() } else { key.clone() });
        let store =
            runtime.block_on(RedisStore::connect(&settings, look_up)).expect("it answers").expect("it is wanted");
        Limits::open_shared(&settings, store).expect("settings without faults")
    };
    let ann = caller(1);
    // In turns, so that all see the same machine.
    let cases = [("memory", limits(THREE)), ("redis", open(0)), ("redis, leases of 20 calls", open(20))];
    let mut times = [const { Vec::new() }; 3];
    for round in 0..CALLS {
        for (at, (_, limits)) in cases.iter().enumerate() {
            let begin = Instant::now();
            let charged = runtime.block_on(limits.charge_soon(&ann, call(), None));
            let took = begin.elapsed();
            assert!(charged.is_ok(), "nothing is refused");
            if round >= CALLS / 10 {
                times[at].push(took);
            }
        }
    }
    for ((name, _), times) in cases.iter().zip(&mut times) {
        times.sort_unstable();
        let at = |part: usize| times[times.len() * part / 100];
        println!("three rules in {name}: p50 {:?}, p95 {:?}, p99 {:?}", at(50), at(95), at(99));
    }
    drop(server);
}

/// A `redis-server` that ends when dropped, and its port.
fn redis() -> Option<(Server, u16)> {
    let port = std::net::TcpListener::bind(("127.0.0.1", 0)).ok()?.local_addr().ok()?.port();
    let mut command = Command::new("redis-server");
    command.args(["--bind", "127.0.0.1", "--save", "", "--port", &port.to_string()]).stdout(Stdio::null());
    let server = Server(command.spawn().ok()?);
    let answers = || std::net::TcpStream::connect(("127.0.0.1", port)).is_ok();
    let is_there = (0..200).any(|_| {
        std::thread::sleep(std::time::Duration::from_millis(20));
        answers()
    });
    is_there.then_some((server, port))
}

struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A hundred requests per address in so many milliseconds.
fn a_hundred_in(per_ms: u64) -> String {
    ONE.replace("\"amount\": 1,", "\"amount\": 100,").replace("3600000", &per_ms.to_string())
}

/// Calls of callers, each once.
struct Visits {
    count: usize,
    refused: usize,
    a_second: f64,
}

impl Visits {
    fn of(limits: &Limits, numbers: std::ops::Range<u64>) -> Self {
        // Made before the clock runs, a piece at a time: what a caller is made of is not what is measured.
        let (mut refused, mut took, mut count) = (0, std::time::Duration::ZERO, 0);
        for first in numbers.clone().step_by(1000) {
            let subjects: Vec<Subject> = (first..numbers.end.min(first + 1000)).map(caller).collect();
            count += subjects.len();
            let begin = Instant::now();
            refused += subjects.iter().filter(|subject| limits.charge(subject, call(), None).is_err()).count();
            took += begin.elapsed();
        }
        Self { count, refused, a_second: count as f64 / took.as_secs_f64() }
    }
}

impl std::fmt::Display for Visits {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { count, refused, a_second } = self;
        write!(f, "{a_second:.0} decisions/s, {count} made, {refused} refused")
    }
}

/// The process' memory, in KiB.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|line| line.split_whitespace().next()?.parse().ok()).unwrap_or(0)
}

criterion_group!(benches, many_keys, on_redis, charge);
criterion_main!(benches);
