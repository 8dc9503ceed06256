//! The words of Rollcall: what flows, where it stands, and the contracts between the parts.
//!
//! ```text
//! Source ──SourceEvent──▶ (platform) ──Input──▶ Log ──Input──▶ (roster) ──records──▶ Log ──Delivery──▶ Sink
//!   rows at a Position       changes              Place          image, membership            │
//!     ▲                                                                                        ▼
//!     └────────────── released only with a `Saved`, which only a commit of the log can make ───┘
//! ```
//!
//! Nothing here does I/O, reads a clock or draws a random number. Three kinds of order exist and their types keep
//! them apart: a [`Position`] is a point of one [`Lane`] of a source and can't be compared across lanes, a [`Place`]
//! is a point in one partition of the log, a [`Seq`] counts the commits of one roster partition.

pub mod archive;
pub mod catalog;
pub mod change;
pub mod control;
pub mod fault;
pub mod fingerprint;
pub mod ids;
pub mod item;
pub mod log;
pub mod place;
pub mod position;
pub mod records;
pub mod row;
pub mod shards;
pub mod sieve;
pub mod sink;
pub mod source;
pub mod time;
pub mod topic;
pub mod value;

pub use archive::{Archive, ArchiveReader, Covered, Cut};
pub use catalog::{CatalogDoc, Condition, EnvironmentDoc, GateDoc, GateMode, Rule, RuleType, SegmentDoc};
pub use change::{Change, Image, Patch};
pub use control::{CheckScope, Input};
pub use fault::{Fault, FaultKind};
pub use fingerprint::Fingerprint;
pub use ids::{EnvironmentId, IdentityKey, NativeId, OrganisationId, ProjectId, SegmentId, SourceName};
pub use item::{Attribute, FoundItem, Item, ItemChange, ItemState};
pub use log::{
    Commit, Committed, Consumer, Fetched, Fut, Log, Opened, Producer, Progress, ReadRange, Record, Workers,
};
pub use place::{LogId, Partition, Place, Seq, Version};
pub use position::{Lane, LaneMismatch, Lsn, Point, Position, Sequence};
pub use records::{
    Cause, ChangeRecord, CheckReport, CheckTotal, CountRecord, CountState, FillReport, IdentityRecord,
    IdentityState, Member, MembershipChange, MembershipRecord, Precedence, QuarantineRecord, Seen,
    WaitingPatch, WatermarkRecord,
};
pub use row::{Cell, Row, RowChange, RowOp, TableRole, TableSpec};
pub use shards::{ItemPage, ItemPages, SavedShards, ShardEvent, ShardSource, Shards};
pub use sieve::{Candidate, Candidates, Listed, ListedPage, Sieve, Sifted, SiftedCounts, Sighting};
pub use sink::{Delivery, OutRecord, Rejected, Sink, Written};
pub use source::{
    BackfillId, CatalogSnapshot, Group, Page, PageGroup, Saved, Source, SourceEvent, Transaction,
};
pub use topic::{Retention, Topic, TopicAbout};
pub use value::{NonFinite, Traits, Value};
