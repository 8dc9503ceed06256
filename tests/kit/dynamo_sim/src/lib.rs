//! A simulator of DynamoDB and its streams, for tests of what reads them.
//!
//! ```text
//!   test ─▶ DynamoSim: put, split, roll, advance, trim, faults … ─┐
//!                                                                 ▼
//!   AWS SDK ─HTTP─▶ server ─▶ wire (JSON 1.0) ─▶ core: table, history, streams ─▶ shard tree ─▶ records
//!                     │ faults, rates, counts         pure; virtual time
//! ```
//!
//! What emulators lack is here: a shard tree that splits, rolls and is trimmed, by a clock that a test puts forward, with
//! the refusals, delays and lost answers of the real service, all from one seed. What emulators have is compared with one
//! (`tests/honest`), so that what a reader learns here holds there.
//!
//! This crate is for tests alone, so it panics where a test should fail.

mod core;
mod counts;
pub mod export;
mod faults;
mod handle;
mod history;
mod identities;
mod server;
mod settings;
mod wire;

pub use core::{ApiError, Clock, ErrorCode, IndexKey, SequenceNumber, ViewType, Written};

pub use counts::Counts;
pub use faults::Faults;
pub use handle::{DynamoSim, ShardView};
pub use history::{History, Step};
pub use identities::{IdentityBody, IdentityName, identity_item};
pub use settings::SimSettings;
pub use wire::Action;
