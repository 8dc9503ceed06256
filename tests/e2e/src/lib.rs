//! A complete Rollcall under test: the binary `rollcall` on real servers, started, asked, killed and started again.

pub mod worker;

pub use worker::{Failure, Worker};
