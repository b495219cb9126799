//! falgate
fn main() {}
