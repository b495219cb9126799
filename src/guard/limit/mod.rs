//! How often and how much: limits that are charged together or not at all.

mod cost;
mod gcra;
mod table;

pub use cost::{Cost, Dimension};
pub use gcra::{Pace, Verdict};
