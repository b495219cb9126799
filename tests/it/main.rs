//! Integration tests.

mod cli;
mod config;
