//! The counts sink: what each partition of the rosters counted comes in, absolute; a platform's count rows in Postgres
//! come out, exact.
//!
//! ```text
//! segment-counts ──▶ ledger rollcall_count          one row per (segment, environment, partition), newest seq wins
//!                      │ difference, or sum
//!                      ▼
//!                    platform's rows                flagsmith: segment_membership_segmentmembershipcount
//!                                                   native:    rollcall_segment_count ▶ view segment_membership
//! watermarks ──────▶ rollcall_as_of                 how far each source has come: `as_of` of every count
//! ```
//!
//! Why it is right (PROTOCOL.md §5): a count is absolute and carries the seq of the commit that made it, so the
//! ledger takes it at most once and in order, however often and by whomever it is written; ledger and rows change in
//! one transaction, so the rows are always the ledger's sums. Nothing needs fencing: a zombie finds newer seqs. Only
//! another writer on the rows can make them differ, and [`rollcall_model::Sink::reconcile`] finds and repairs that.
//!
//! A segment whose partitions say different things (they reach a change of the catalog one after the other) shows the
//! most telling one: removed, unsupported, filling, live, in this order.

mod batch;
mod config;
mod faults;
mod ledger;
mod new_counts;
mod plan;
mod rows;
mod session;
mod sink;
mod tables;

pub use config::{CountsSinkConfig, Preset};
pub use new_counts::NewCounts;
pub use sink::CountsSink;
pub use tables::setup_sql;
