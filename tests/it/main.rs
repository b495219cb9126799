//! Integration tests.

mod host_desk;
mod host_run;
