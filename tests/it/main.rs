//! Integration tests.

mod edge_framing;
mod edge_probe;
