//! Integration tests.

mod annotated_toml;
mod cli;
mod config;
mod config_files;
