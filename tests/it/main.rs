//! Integration tests.

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
