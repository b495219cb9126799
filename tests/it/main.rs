//! Integration tests.

mod host_bad_input;
mod host_desk;
mod host_fetch;
mod host_pictures;
mod host_run;
mod host_storage;
