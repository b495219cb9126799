//! Integration tests.

// `cfg(test)` is always on here; it tells clippy that helpers outside of `#[test]` are tests too.
#[cfg(test)]
mod engine_admission;
#[cfg(test)]
mod engine_batches;
#[cfg(test)]
mod engine_failures;
#[cfg(test)]
mod engine_life;
#[cfg(test)]
mod engine_noise;
#[cfg(test)]
mod engine_schedule;
#[cfg(test)]
mod engine_support;
#[cfg(test)]
mod host_bad_input;
#[cfg(test)]
mod host_desk;
#[cfg(test)]
mod host_fetch;
#[cfg(test)]
mod host_pictures;
#[cfg(test)]
mod host_run;
#[cfg(test)]
mod host_storage;
