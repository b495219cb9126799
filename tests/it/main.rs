//! Integration tests.

mod annotated_toml;
mod cli;
mod config;
mod config_checks;
mod config_files;
