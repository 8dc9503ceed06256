//! The heart: (stored identity, change, catalog) → (image, membership, delta).
//!
//! ```text
//!              identity-changes, one partition, in order
//!                         │ Input at its Place
//!                         ▼
//!   Store ──Stored──▶  Session  ◀──judge── Catalog (segments, environments, gates)
//!     ▲                   │ Output
//!     │                   ▼
//!     └── after ◀── ONE commit of the log: identities, memberships, membership-changes, segment-counts,
//!                   quarantine, checks, progress
//! ```
//!
//! Single-threaded per partition and pure: time comes with the inputs, state with the store. Everything that follows
//! from an input is in one [`Output`]; the store is written after the commit and only remembers what the topics say,
//! so a crash anywhere leaves nothing half (PROTOCOL.md §4).

pub mod catalog;
mod change;
pub mod counts;
mod fill;
mod judge;
pub mod output;
mod repair;
mod say;
pub mod session;
pub mod state;
pub mod store;
mod sweep;

pub use catalog::{Catalog, CatalogBuilder};
pub use output::Output;
pub use session::{Roster, Session, Turn};
pub use state::RosterState;
pub use store::{Store, Stored, StoredState};
