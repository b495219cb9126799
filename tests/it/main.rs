//! Integration tests, a file for each behaviour.
//!
//! `cfg(test)` is always on here; it tells clippy that what stands outside of `#[test]` is a test too.

#[cfg(test)]
mod annotated_toml;
#[cfg(test)]
mod cli;
#[cfg(test)]
mod cli_limits;
#[cfg(test)]
mod config;
#[cfg(test)]
mod config_checks;
#[cfg(test)]
mod config_files;
#[cfg(test)]
mod demo_model;
#[cfg(test)]
mod edge_agrees;
#[cfg(test)]
mod edge_deadlines;
#[cfg(test)]
mod edge_framing;
#[cfg(test)]
mod edge_http2;
#[cfg(test)]
mod edge_http2_floods;
#[cfg(test)]
mod edge_http2_rules;
#[cfg(test)]
mod edge_limits;
#[cfg(test)]
mod edge_nginx;
#[cfg(test)]
mod edge_probe;
#[cfg(test)]
mod edge_quick;
#[cfg(test)]
mod embed_examples;
#[cfg(test)]
mod engine_admission;
#[cfg(test)]
mod engine_batches;
#[cfg(test)]
mod engine_failures;
#[cfg(test)]
mod engine_fleet;
#[cfg(test)]
mod engine_joining;
#[cfg(test)]
mod engine_life;
#[cfg(test)]
mod engine_mixed;
#[cfg(test)]
mod engine_noise;
#[cfg(test)]
mod engine_safety;
#[cfg(test)]
mod engine_schedule;
#[cfg(test)]
mod engine_simulation;
#[cfg(test)]
mod engine_steps;
#[cfg(test)]
mod engine_support;
#[cfg(test)]
mod framing_corpus;
#[cfg(test)]
mod fuzz_corpus;
#[cfg(test)]
mod gate_addresses;
#[cfg(test)]
mod gate_bad_input;
#[cfg(test)]
mod gate_bodies;
#[cfg(test)]
mod gate_canary;
#[cfg(test)]
mod gate_doors;
#[cfg(test)]
mod gate_identity;
#[cfg(test)]
mod gate_identity_start;
#[cfg(test)]
mod gate_life;
#[cfg(test)]
mod gate_limits;
#[cfg(test)]
mod gate_limits_admin;
#[cfg(test)]
mod gate_limits_redis;
#[cfg(test)]
mod gate_limits_reload;
#[cfg(test)]
mod gate_memory;
#[cfg(test)]
mod gate_pages;
#[cfg(test)]
mod gate_process;
#[cfg(test)]
mod gate_public_demo;
#[cfg(test)]
mod gate_sessions;
#[cfg(test)]
mod gate_steer;
#[cfg(test)]
mod gate_support;
#[cfg(test)]
mod gate_tokens;
#[cfg(test)]
mod gate_visitors;
#[cfg(test)]
mod guard_bytes;
#[cfg(test)]
mod guard_jwt;
#[cfg(test)]
mod guard_keys;
#[cfg(test)]
mod guard_limits;
#[cfg(test)]
mod guard_limits_props;
#[cfg(test)]
mod guard_limits_redis;
#[cfg(test)]
mod guard_limits_redis_lease;
#[cfg(test)]
mod guard_limits_redis_share;
#[cfg(test)]
mod guard_limits_replace;
#[cfg(test)]
mod guard_origins;
#[cfg(test)]
mod host_bad_input;
#[cfg(test)]
mod host_deadline;
#[cfg(test)]
mod host_desk;
#[cfg(test)]
mod host_fetch;
#[cfg(test)]
mod host_pictures;
#[cfg(test)]
mod host_run;
#[cfg(test)]
mod host_safety;
#[cfg(test)]
mod host_storage;
#[cfg(test)]
mod http2_wire;
#[cfg(test)]
mod identity_canary;
#[cfg(test)]
mod onnx_edit;
#[cfg(test)]
mod onnx_folders;
#[cfg(test)]
mod onnx_golden;
#[cfg(test)]
mod onnx_layouts;
#[cfg(test)]
mod onnx_mixed;
#[cfg(test)]
mod onnx_pipeline;
#[cfg(test)]
mod onnx_safety;
#[cfg(test)]
mod onnx_support;
#[cfg(test)]
mod playground;
#[cfg(test)]
mod proxy_abuse;
#[cfg(test)]
mod proxy_canary;
#[cfg(test)]
mod proxy_conformance;
#[cfg(test)]
mod proxy_policy;
#[cfg(test)]
mod realtime_close;
#[cfg(test)]
mod realtime_costs;
#[cfg(test)]
mod realtime_door;
#[cfg(test)]
mod realtime_latest;
#[cfg(test)]
mod realtime_messages;
#[cfg(test)]
mod realtime_soak;
#[cfg(test)]
mod realtime_support;
#[cfg(test)]
mod redis_support;
#[cfg(test)]
mod relay_again;
#[cfg(test)]
mod relay_backpressure;
#[cfg(test)]
mod relay_close;
#[cfg(test)]
mod relay_frames;
#[cfg(test)]
mod relay_gates;
#[cfg(test)]
mod relay_limits;
#[cfg(test)]
mod relay_open;
#[cfg(test)]
mod support;
#[cfg(test)]
mod telemetry_lines;
#[cfg(test)]
mod tokens;
#[cfg(test)]
mod upstream_faults;
#[cfg(test)]
mod upstream_keys;
#[cfg(test)]
mod upstream_streams;
#[cfg(test)]
mod upstream_tls;
#[cfg(test)]
mod waiting_room;
