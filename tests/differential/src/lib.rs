//! The rules engine beside its reference, on cases made to tell them apart.
//!
//! ```text
//! seed ──generate──▶ Case ─┬─▶ rollcall-rules ─────────────┐
//!                          └─▶ reference.py (flag_engine) ─┴─▶ equal? ── no ──▶ shrink ──▶ printed
//! ```
//!
//! A case is one segment and one identity. Each is made from its seed and number alone, so any can be made again.
//! This crate is for tests alone, so it panics where a test should fail.

pub mod case;
pub mod generate;
pub mod reference;
pub mod shrink;

pub use case::{Answer, Case};
pub use reference::Reference;
