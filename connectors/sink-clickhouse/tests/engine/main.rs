//! The sink on the real ClickHouse engine.
#![allow(clippy::unwrap_used)]

mod faults;
mod kit;
mod new_tables;
mod rebuild;
mod refuse;
mod replay;
mod sieve;
mod values;
