//! The rows of a transaction in the order of the WAL in; at COMMIT, the same rows by identity out.
//!
//! ```text
//! Insert │ Update │ Delete ──id──▶ entry (id, seq, raw message)      kept raw: decoded once, at COMMIT
//!                                    │ above the threshold
//!                                    ▼
//!                                  sorted run in the spill file
//! COMMIT ──▶ Folded::Small(groups)   or   Folded::Large(runs to merge)
//! ```
//!
//! Protocol version 1 sends only what committed, so whatever was rolled back never gets here. An UPDATE that moves a
//! row to another identity becomes a delete of the one and an insert of the other. TRUNCATE leaves out what the
//! transaction did to the table before it.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use rollcall_model::{Fault, Group, NativeId, RowChange, RowOp, TableRole};

use crate::decode::{Message, Rubbish};
use crate::relation::Table;
use crate::spill::{Spill, SpilledRows};

/// Which part of a message an entry stands for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Side {
    /// All of it.
    Whole,
    /// The old row of an UPDATE that left this identity.
    Left,
    /// The new row of an UPDATE that came to this identity.
    Came,
}

/// A row of the transaction; its message stands in the arena.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Entry {
    pub(crate) id: i64,
    pub(crate) seq: u64,
    pub(crate) table: u16,
    pub(crate) side: Side,
    pub(crate) at: usize,
    pub(crate) len: usize,
}

/// From where on a transaction is spilled, and where to.
#[derive(Clone, Debug)]
pub(crate) struct Limits {
    pub(crate) rows: usize,
    pub(crate) bytes: usize,
    pub(crate) spill_dir: PathBuf,
}

/// What a committed transaction did.
#[derive(Debug)]
pub(crate) struct Committed {
    pub(crate) truncated: Vec<Arc<str>>,
    pub(crate) catalog: Vec<RowChange>,
    pub(crate) rows: Folded,
}

/// Its rows by identity.
pub(crate) enum Folded {
    Small(Vec<Group>),
    Large(Arc<SpilledRows>),
}

impl fmt::Debug for Folded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Small(groups) => write!(f, "Small({})", groups.len()),
            Self::Large(_) => f.write_str("Large"),
        }
    }
}

/// Rows in memory, not yet sorted.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    pub(crate) arena: Vec<u8>,
    pub(crate) entries: Vec<Entry>,
}

impl Batch {
    pub(crate) fn sort(&mut self) {
        self.entries.sort_unstable_by_key(|entry| (entry.id, entry.seq));
    }

    pub(crate) fn payload(&self, entry: &Entry) -> &[u8] {
        self.arena.get(entry.at..entry.at + entry.len).unwrap_or_default()
    }
}

/// The transaction being read.
#[derive(Debug)]
pub(crate) struct Fold {
    limits: Limits,
    batch: Batch,
    tables: Vec<Arc<Table>>,
    catalog: Vec<RowChange>,
    /// The last TRUNCATE of each table.
    truncated: BTreeMap<Arc<str>, u64>,
    seq: u64,
    spill: Option<Spill>,
}

/// Reads an entry's message again, as a row change.
pub(crate) fn change(table: &Table, side: Side, payload: &[u8]) -> Result<RowChange, Rubbish> {
    Ok(match Message::parse(payload)? {
        Message::Insert { new, .. } => table.change(RowOp::Insert(table.row(&new))),
        Message::Update { old, new, .. } => match (side, old) {
            (Side::Left, Some((kind, old))) => table.change(RowOp::Delete(table.old_row(kind, &old))),
            (Side::Came, old) => table.change(RowOp::Insert(table.moved_row(old, &new))),
            (Side::Whole | Side::Left, old) => table.update(old, &new),
        },
        Message::Delete { old: (kind, old), .. } => table.change(RowOp::Delete(table.old_row(kind, &old))),
        Message::Begin { .. }
        | Message::Commit { .. }
        | Message::Relation(_)
        | Message::Truncate { .. }
        | Message::Emitted { .. }
        | Message::Other => return Err(Rubbish::no_row(payload)),
    })
}

/// A fault for a message that can't be read.
pub(crate) fn rubbish(error: Rubbish) -> Fault {
    Fault::retry("the replication stream can't be read").from_source(error)
}

impl Fold {
    pub(crate) fn new(limits: Limits) -> Self {
        Self {
            limits,
            batch: Batch::default(),
            tables: Vec::new(),
            catalog: Vec::new(),
            truncated: BTreeMap::new(),
            seq: 0,
            spill: None,
        }
    }

    /// Takes a row. `payload` is what `message` was read from.
    pub(crate) async fn row(
        &mut self,
        table: &Arc<Table>,
        message: &Message<'_>,
        payload: &[u8],
    ) -> Result<(), Fault> {
        self.seq += 1;
        if let TableRole::Catalog { .. } = table.role {
            self.catalog.push(change(table, Side::Whole, payload).map_err(rubbish)?);
            return Ok(());
        }
        let (left, id) = match message {
            Message::Insert { new, .. } => (None, table.id(new)),
            Message::Update { old, new, .. } => {
                let id = table.id(new);
                let old = old.as_ref().and_then(|(_, old)| table.id(old));
                (old.filter(|old| Some(*old) != id), id)
            }
            Message::Delete { old: (_, old), .. } => (None, table.id(old)),
            Message::Begin { .. }
            | Message::Commit { .. }
            | Message::Relation(_)
            | Message::Truncate { .. }
            | Message::Emitted { .. }
            | Message::Other => return Ok(()),
        };
        if let Some(left) = left {
            self.push(left, Side::Left, table, payload)?;
        }
        match id {
            Some(id) => {
                let side = if left.is_some() { Side::Came } else { Side::Whole };
                self.push(id, side, table, payload)?;
            }
            None if left.is_none() => {
                tracing::warn!(table = %table.name, "a row that belongs to no identity is left out")
            }
            None => {}
        }
        if self.batch.entries.len() >= self.limits.rows || self.batch.arena.len() >= self.limits.bytes {
            self.spill().await?;
        }
        Ok(())
    }

    fn push(&mut self, id: i64, side: Side, table: &Arc<Table>, payload: &[u8]) -> Result<(), Fault> {
        // Nearly always the table of the row before.
        let known = self.tables.iter().rposition(|known| Arc::ptr_eq(known, table));
        let index = known.unwrap_or(self.tables.len());
        if known.is_none() {
            self.tables.push(Arc::clone(table));
        }
        let table =
            u16::try_from(index).map_err(|_| Fault::retry("a transaction changes tables too often"))?;
        let (at, len) = (self.batch.arena.len(), payload.len());
        self.batch.arena.extend_from_slice(payload);
        self.batch.entries.push(Entry { id, seq: self.seq, table, side, at, len });
        Ok(())
    }

    /// Takes a TRUNCATE of a table.
    pub(crate) fn truncate(&mut self, table: &Table) {
        self.seq += 1;
        self.truncated.insert(Arc::clone(&table.name), self.seq);
        self.catalog.retain(|row| row.table != table.name);
    }

    async fn spill(&mut self) -> Result<(), Fault> {
        let spill = match self.spill.take() {
            Some(spill) => spill,
            None => Spill::create(&self.limits.spill_dir)?,
        };
        let (spill, emptied) = spill.write(std::mem::take(&mut self.batch)).await?;
        self.spill = Some(spill);
        self.batch = emptied;
        Ok(())
    }

    /// Ends the transaction and makes room for the next one.
    pub(crate) async fn commit(&mut self) -> Result<Committed, Fault> {
        if self.spill.is_some() && !self.batch.entries.is_empty() {
            self.spill().await?;
        }
        let truncated = std::mem::take(&mut self.truncated);
        let tables = std::mem::take(&mut self.tables);
        let catalog = std::mem::take(&mut self.catalog);
        let names = truncated.keys().cloned().collect();
        let rows = match self.spill.take() {
            Some(spill) => Folded::Large(Arc::new(spill.finish(tables, truncated))),
            None => Folded::Small(self.groups(&tables, &truncated)?),
        };
        self.clear();
        Ok(Committed { truncated: names, catalog, rows })
    }

    /// Forgets the transaction (one that is already in the log).
    pub(crate) fn clear(&mut self) {
        self.batch.entries.clear();
        self.batch.arena.clear();
        // A transaction just below the threshold shall not keep its memory for ever.
        self.batch.arena.shrink_to(1 << 20);
        self.tables.clear();
        self.catalog.clear();
        self.truncated.clear();
        self.seq = 0;
        self.spill = None;
    }

    fn groups(
        &mut self,
        tables: &[Arc<Table>],
        truncated: &BTreeMap<Arc<str>, u64>,
    ) -> Result<Vec<Group>, Fault> {
        self.batch.sort();
        let mut groups: Vec<Group> = Vec::new();
        for entry in &self.batch.entries {
            let Some(table) = tables.get(usize::from(entry.table)) else { continue };
            if truncated.get(&table.name).is_some_and(|seq| entry.seq < *seq) {
                continue;
            }
            let row = change(table, entry.side, self.batch.payload(entry)).map_err(rubbish)?;
            push_row(&mut groups, entry.id, row);
        }
        Ok(groups)
    }
}

/// Adds a row to the last group, or begins one.
pub(crate) fn push_row(groups: &mut Vec<Group>, id: i64, row: RowChange) {
    match groups.last_mut() {
        Some(group) if group.id == NativeId::Int(id) => group.rows.push(row),
        _ => groups.push(Group { id: NativeId::Int(id), rows: vec![row] }),
    }
}
