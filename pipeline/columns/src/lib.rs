//! Arrow in the middle: what rosters decided, column by column, for every columnar store.
//!
//! ```text
//! IdentityRecord ─────▶ identities_batch ──▶ one live or deleted row, and a deleted row per environment left
//! MembershipChange ─┐
//! MembershipRecord ─┴─▶ memberships_batch ─▶ a row per segment entered, left or (rebuild) being in
//! OutRecord ◀──────────▶ lake_batch, lake_records   whole records, which the lake gives back
//! ```
//!
//! Every row carries its version (`inserted_at`), partition, seq and log id, so a store that keeps the highest version
//! per key ends the same whatever order or number of times rows arrive in. Traits travel as JSON text in a form that
//! ClickHouse's JSON type takes without loss; `traits` says what that form is and turns it back.
//!
//! The schemas are contracts: `schemas/arrow/*.v1.json` holds the same columns, and a test compares them. A change is
//! a new version and a new file, with new columns at the end.

mod identities;
mod lake;
mod memberships;
mod schema;
mod traits;

pub use identities::identities_batch;
pub use lake::{LAKE_TABLES, LakeTable, lake_batch, lake_records};
pub use memberships::{MembershipRow, Superseded, memberships_batch};
pub use schema::{Column, ColumnType, IDENTITIES, MEMBERSHIPS, TableSchema};
pub use traits::{TraitTexts, TraitsError, read_traits, trait_texts};
