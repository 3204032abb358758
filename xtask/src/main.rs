//! Set-up, build, test, bench and run of Gatehouse.
fn main() {}
