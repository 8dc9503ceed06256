//! The SQL form of segments on the real engine.
//!
//! ```text
//! cases ─┬─ identities ──▶ rollcall-sink-clickhouse ──▶ rollcall.IDENTITIES ─┐
//!        ├─ segments ────▶ predicate(Scope of the case) ──▶ one SELECT, a ───┴─▶ SQL verdict ─┐
//!        │                 column each, over the identities of the group                      ├─▶ holds? ─▶ Violation
//!        └─ segments × identities ──▶ evaluator ─────────────────────────────▶ verdict ───────┘
//! ```
//!
//! Every segment of a group is asked of every identity of the group, in the environment of the segment's case: so a few
//! queries compare a lot. `Exact` must equal the evaluator, `Superset` must be true where the evaluator is, wherever
//! the evaluator answers; `Unsupported` must be what the evaluator calls so.

mod ask;
mod compare;
mod server;
mod tally;

pub use ask::Verdict;
pub use compare::{Comparison, GROUP_CASES, Kind, Violation, compare, first_violation};
pub use server::Server;
pub use tally::Tally;
