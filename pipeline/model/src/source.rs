//! What a source is: it yields committed rows in order, and upstream forgets only what the log has.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::fault::Fault;
use crate::ids::NativeId;
use crate::log::{Committed, Fut};
use crate::position::Position;
use crate::row::{Row, RowChange};

/// A backfill, unique in a log.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub struct BackfillId(pub String);

/// All rows of one identity in one transaction, in order.
#[derive(Clone, PartialEq, Debug)]
pub struct Group {
    /// The identity.
    pub id: NativeId,
    /// Its rows.
    pub rows: Vec<RowChange>,
}

/// A committed transaction, or a bounded piece of a large one. Pieces come in order of identity.
#[derive(Clone, PartialEq, Debug)]
pub struct Transaction {
    /// Where the source stands once this piece is in the log.
    pub position: Position,
    /// The source's clock at COMMIT.
    pub commit_time_us: i64,
    /// Tables emptied, in the first piece; they stand before the other rows, and what the transaction did to these
    /// tables earlier is left out.
    pub truncated: Vec<Arc<str>>,
    /// Rows of catalog tables, in order, in the first piece.
    pub catalog: Vec<RowChange>,
    /// Rows of identities, one group each, in order of id.
    pub groups: Vec<Group>,
    /// Whether this is the last piece.
    pub complete: bool,
}

/// The whole catalog at one point of the stream; starts a backfill.
#[derive(Clone, PartialEq, Debug)]
pub struct CatalogSnapshot {
    /// The backfill.
    pub backfill: BackfillId,
    /// Where the source stands.
    pub position: Position,
    /// When it was read, by the source's clock.
    pub read_time_us: i64,
    /// All rows of each catalog table.
    pub tables: BTreeMap<Arc<str>, Vec<Row>>,
}

/// The rows of one identity as a page found them.
#[derive(Clone, PartialEq, Debug)]
pub struct PageGroup {
    /// The identity.
    pub id: NativeId,
    /// Its row in the identity table.
    pub identity: Row,
    /// Its rows in the other tables, by table.
    pub parts: BTreeMap<Arc<str>, Vec<Row>>,
}

/// A page of a backfill: the whole truth of its range at its place in the stream.
#[derive(Clone, PartialEq, Debug)]
pub struct Page {
    /// The backfill.
    pub backfill: BackfillId,
    /// First id; `None` from the first.
    pub from: Option<NativeId>,
    /// End, exclusive; `None` is the last page.
    pub to: Option<NativeId>,
    /// Where the source stands.
    pub position: Position,
    /// When it was read, by the source's clock.
    pub read_time_us: i64,
    /// Its identities in order of id.
    pub groups: Vec<PageGroup>,
    /// Identities whose rows can't be put together (an unchanged TOAST value without its text), with the reason.
    pub broken: Vec<(NativeId, String)>,
}

/// What a source says next.
#[derive(Clone, PartialEq, Debug)]
pub enum SourceEvent {
    /// A transaction, or a piece of one.
    Transaction(Transaction),
    /// The catalog, whole.
    Catalog(CatalogSnapshot),
    /// A page of identities.
    Page(Page),
    /// Nothing new up to here: the position moves all the same, so that upstream can forget.
    Idle {
        /// Where the source stands.
        position: Position,
        /// The source's clock.
        at_us: i64,
    },
}

/// Proof that a position is durable in the log. Only [`Saved::by`] makes one.
#[derive(Clone, PartialEq, Debug)]
pub struct Saved {
    position: Position,
}

impl Saved {
    /// The position that `committed` made durable.
    #[must_use]
    pub fn by(_committed: &Committed, position: Position) -> Self {
        Self { position }
    }
    /// The position.
    #[must_use]
    pub fn position(&self) -> &Position {
        &self.position
    }
}

/// A change stream.
///
/// Contract: events come in commit order; after a restart at a saved position nothing is missing and what comes again
/// is whole; pages come in order of their ranges, each after every transaction that its read could see was yielded.
pub trait Source: Send {
    /// Waits for the next event. Cancel-safe: a dropped future loses nothing.
    fn next(&mut self) -> Fut<'_, SourceEvent>;
    /// Upstream may forget what is saved.
    fn release<'a>(&'a mut self, saved: &'a Saved) -> Fut<'a, ()>;
    /// Starts a backfill, or goes on with one at `next_from`; a paused one is stopped with `None`.
    ///
    /// # Errors
    /// A [`Fault`] when the source can't read pages.
    fn backfill(&mut self, plan: Option<BackfillPlan>) -> Result<(), Fault>;
    /// How far upstream is ahead, in its own unit (bytes of WAL), as last heard.
    fn lag_bytes(&self) -> Option<u64>;
}

/// A backfill to run beside the stream.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct BackfillPlan {
    /// Its id.
    pub id: BackfillId,
    /// Whether the catalog still has to be read.
    pub catalog: bool,
    /// The first id not yet in the log; `None` is from the first.
    pub next_from: Option<NativeId>,
}
