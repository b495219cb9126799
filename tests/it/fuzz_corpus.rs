//! The checks of the fuzz targets over their seeds, among them every input that a fuzzer ever found a fault with.

#[path = "../../fuzz/checks.rs"]
mod checks;

use std::path::Path;

fn each_seed(target: &str, check: fn(&[u8])) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/seeds").join(target);
    let mut seeds = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        println!("{}", path.display());
        check(&std::fs::read(&path).unwrap());
        seeds += 1;
    }
    assert!(seeds > 5, "{target} has {seeds} seeds");
}

#[test]
fn no_seed_breaks_what_must_hold() {
    each_seed("endpoint", checks::endpoint);
    each_seed("http1_chunks", checks::http1_chunks);
    each_seed("http1_head", checks::http1_head);
    each_seed("http1_messages", checks::http1_messages);
    each_seed("target_url", checks::target_url);
}

/// The seeds cut at every byte, which fuzzers only come to by chance.
#[test]
fn no_cut_of_a_seed_breaks_what_must_hold() {
    for (target, check) in [("http1_chunks", checks::http1_chunks as fn(&[u8])), ("http1_head", checks::http1_head)] {
        each_seed(target, |_| {});
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/seeds").join(target);
        for entry in std::fs::read_dir(folder).unwrap() {
            let mut seed = std::fs::read(entry.unwrap().path()).unwrap();
            for cut in 0..seed.len().saturating_sub(2).min(512) {
                seed[..2].copy_from_slice(&u16::try_from(cut).unwrap().to_be_bytes());
                check(&seed);
            }
        }
    }
}
