//! Links the program with packed relative relocations where this machine can run such a program.
//!
//! A dynamic linker reads every relocation at the start: 650 KB of them stay resident as they are written by default, 20 KB
//! packed (DT_RELR). glibc reads them since 2.36; the linkers of those systems know the option.

use std::process::Command;

/// The first glibc with DT_RELR.
const SINCE: (u32, u32) = (2, 36);

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    if is_for_glibc_of_this_machine() && glibc().is_some_and(|version| version >= SINCE) {
        println!("cargo:rustc-link-arg-bins=-Wl,-z,pack-relative-relocs");
    }
}

fn is_for_glibc_of_this_machine() -> bool {
    let is = |name: &str, wanted: &str| std::env::var(name).is_ok_and(|value| value == wanted);
    let here = std::env::var("HOST").ok();
    here.is_some()
        && here == std::env::var("TARGET").ok()
        && is("CARGO_CFG_TARGET_OS", "linux")
        && is("CARGO_CFG_TARGET_ENV", "gnu")
}

/// `glibc 2.36` as two numbers.
fn glibc() -> Option<(u32, u32)> {
    let said = Command::new("getconf").arg("GNU_LIBC_VERSION").output().ok()?;
    let text = String::from_utf8(said.stdout).ok()?;
    let (major, minor) = text.trim().strip_prefix("glibc ")?.split_once('.')?;
    Some((major.parse().ok()?, minor.split('.').next()?.parse().ok()?))
}
