//! A worker: topology → tasks, and the HTTP side by which they are watched and asked.
//!
//! ```text
//!            ┌ source/… ─┐   ┌ roster/0 … roster/N-1 ┐   ┌ sink/… ─┐
//! outside ─▶ │ intake    │─▶ │ session → one commit  │─▶ │ batches │─▶ outside
//!            └───────────┘   └───────────▲───────────┘   └─────────┘
//!                              catalog feed, store          counts feed ─▶ API
//! ```
//!
//! Every arrow is the log. A task that fails stops nobody else; a task that is dropped lost nothing.

pub mod admin;
mod archives;
mod bootstrap;
mod catalog_feed;
mod clock;
pub mod counts_feed;
mod crash;
mod cuts;
mod foreign;
mod http;
mod intake;
mod item_intake;
mod lake_as_of;
mod lake_task;
pub mod log_copy;
mod outgoing;
mod peers;
mod preview;
mod read_to_end;
mod reader_task;
#[cfg(test)]
mod rebuild_tests;
mod received;
mod replay;
pub mod roster_store;
mod roster_task;
mod sink_task;
mod source_task;
mod spread;
mod store_rebuild;
mod stream;
mod stream_task;
#[cfg(test)]
mod stream_tests;
pub mod tasks;
pub mod topology;
pub mod verify;
mod whence;
pub mod wiring;
mod worker;

pub use archives::{Part, Reading};
pub use whence::Whence;
pub use wiring::{
    AcceptLoss, BeginStream, FlushBounds, ItemSourceWiring, JoinWorkers, LakeBounds, LakeWiring, ListMembers,
    MembersRequest, Mirror, OpenArchive, ReadCandidates, ReaderStart, SiftIdentities, SinkWiring,
    SourceWiring, StartArchive, StartBackfill, StartReader, StartSink, StartSource, Wiring,
};
pub use worker::{Shutdown, run};
