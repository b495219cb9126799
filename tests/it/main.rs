//! Integration tests.

mod embed_examples;
mod proxy_abuse;
mod proxy_canary;
mod proxy_conformance;
mod proxy_policy;
mod support;
mod upstream_faults;
mod upstream_keys;
mod upstream_streams;
mod upstream_tls;
