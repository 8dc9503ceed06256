//! The binary `rollcall`.
fn main() {}
