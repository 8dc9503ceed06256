//! The rules engine beside its reference and beside its SQL form, on cases made to tell them apart.
//!
//! ```text
//!                         ┌─▶ reference.py with the pinned release ─┐
//!                         ├─▶ reference.py with the newest release ─┤
//! seed ──generate──▶ Case ┼─▶ rollcall-rules: evaluator ────────────┼─▶ equal? ── no ──▶ shrink ──▶ printed
//!                         └─▶ rollcall-rules: predicate ──┐         │
//!                             identities, by our sink ────┴─▶ ClickHouse
//! ```
//!
//! A case is one segment and one identity. Each is made from its seed and number alone, so any can be made again.
//! This crate is for tests alone, so it panics where a test should fail.

pub mod case;
pub mod features;
pub mod generate;
pub mod reference;
pub mod run;
pub mod shrink;
pub mod sql;

pub use case::{Answer, Case};
pub use reference::{Reference, References, Release};
pub use run::Run;
