//! `pipeline/rules/tests/fuzz_bodies` says what is tried.
#![no_main]

#[path = "../../../pipeline/rules/tests/fuzz_bodies/mod.rs"]
#[allow(dead_code, reason = "each target calls one of the bodies")]
mod fuzz_bodies;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| fuzz_bodies::line(bytes));
