//! A transaction too large for memory in, its rows in order of identity out, a bounded piece at a time.
//!
//! ```text
//! Batch ──sorted by (id, seq)──▶ run 1 ┐
//! Batch ──sorted by (id, seq)──▶ run 2 ├─ one file without a name ──merge──▶ (id, row) … ──▶ pieces
//! Batch ──sorted by (id, seq)──▶ run 3 ┘
//! ```
//!
//! Nothing reads the file after a crash: the transaction is sent again, and the position says how far it came. Hence
//! the file has no name and goes with its last owner. Each run remembers where every [`INDEX_ROWS`]th row stands, so
//! that a backfill page finds its range without reading the rest.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rollcall_model::{Fault, Group, NativeId, RowChange};

use crate::fold::{Batch, Entry, Side, change, push_row, rubbish};
use crate::relation::Table;

/// How many rows lie between two places that a run remembers.
const INDEX_ROWS: usize = 1_024;
/// How much memory all runs together get for reading.
const READ_BYTES_MAX: usize = 8 << 20;
/// The least a run reads at once.
const READ_BYTES_MIN: usize = 4 << 10;
/// id, seq, table, side, length.
const HEADER_BYTES: usize = 8 + 8 + 2 + 1 + 4;

#[derive(Debug)]
struct Run {
    start: u64,
    end: u64,
    /// The id of every [`INDEX_ROWS`]th row, and where it stands.
    index: Vec<(i64, u64)>,
}

/// A spill file that is being written.
#[derive(Debug)]
pub(crate) struct Spill {
    file: Arc<File>,
    dir: PathBuf,
    end: u64,
    runs: Vec<Run>,
}

fn failed(dir: &Path, error: io::Error) -> Fault {
    Fault::retry(format!("a large transaction can't be spilled to {}", dir.display()))
        .repair("free space in that folder, or set spill_dir to another one")
        .from_source(error)
}

fn task_failed(error: tokio::task::JoinError) -> Fault {
    Fault::bug("a task of the spill ended before its work").from_source(error)
}

impl Spill {
    pub(crate) fn create(dir: &Path) -> Result<Self, Fault> {
        let made = std::fs::create_dir_all(dir).and_then(|()| tempfile::tempfile_in(dir));
        let file = made.map_err(|error| failed(dir, error))?;
        Ok(Self { file: Arc::new(file), dir: dir.to_owned(), end: 0, runs: Vec::new() })
    }

    /// Writes a batch as a run; gives the batch back, emptied.
    pub(crate) async fn write(self, batch: Batch) -> Result<(Self, Batch), Fault> {
        tokio::task::spawn_blocking(move || self.write_now(batch)).await.map_err(task_failed)?
    }

    fn write_now(mut self, mut batch: Batch) -> Result<(Self, Batch), Fault> {
        batch.sort();
        let (start, mut index) = (self.end, Vec::new());
        let mut out = Vec::with_capacity(1 << 20);
        for (n, entry) in batch.entries.iter().enumerate() {
            if n % INDEX_ROWS == 0 {
                index.push((entry.id, self.end + out.len() as u64));
            }
            write_entry(&mut out, entry, batch.payload(entry));
            if out.len() >= 1 << 20 {
                self.flush(&mut out)?;
            }
        }
        self.flush(&mut out)?;
        self.runs.push(Run { start, end: self.end, index });
        batch.entries.clear();
        batch.arena.clear();
        Ok((self, batch))
    }

    fn flush(&mut self, out: &mut Vec<u8>) -> Result<(), Fault> {
        self.file.write_all_at(out, self.end).map_err(|error| failed(&self.dir, error))?;
        self.end += out.len() as u64;
        out.clear();
        Ok(())
    }

    pub(crate) fn finish(self, tables: Vec<Arc<Table>>, truncated: BTreeMap<Arc<str>, u64>) -> SpilledRows {
        SpilledRows { file: self.file, dir: self.dir, runs: self.runs, tables, truncated }
    }
}

fn write_entry(out: &mut Vec<u8>, entry: &Entry, payload: &[u8]) {
    out.extend_from_slice(&entry.id.to_be_bytes());
    out.extend_from_slice(&entry.seq.to_be_bytes());
    out.extend_from_slice(&entry.table.to_be_bytes());
    out.push(match entry.side {
        Side::Whole => 0,
        Side::Left => 1,
        Side::Came => 2,
    });
    // A payload comes from one message, which is below 1 GiB.
    out.extend_from_slice(&(payload.len() as u32).to_be_bytes());
    out.extend_from_slice(payload);
}

/// The rows of a large committed transaction.
#[derive(Debug)]
pub(crate) struct SpilledRows {
    file: Arc<File>,
    dir: PathBuf,
    runs: Vec<Run>,
    tables: Vec<Arc<Table>>,
    truncated: BTreeMap<Arc<str>, u64>,
}

/// Reads a run from some id on.
struct RunReader {
    at: u64,
    end: u64,
    buffer: Vec<u8>,
    taken: usize,
    read_bytes: usize,
}

/// A row as it stands in a run.
struct Stored {
    id: i64,
    seq: u64,
    table: u16,
    side: Side,
    payload: Vec<u8>,
}

impl RunReader {
    fn fill(&mut self, file: &File, wanted: usize) -> io::Result<bool> {
        let there = self.buffer.len() - self.taken;
        if there >= wanted {
            return Ok(true);
        }
        let left = usize::try_from(self.end - self.at).unwrap_or(usize::MAX);
        if there + left < wanted {
            return Ok(false);
        }
        self.buffer.drain(..self.taken);
        self.taken = 0;
        let more = (wanted - there).max(self.read_bytes).min(left);
        let from = self.buffer.len();
        self.buffer.resize(from + more, 0);
        file.read_exact_at(&mut self.buffer[from..], self.at)?;
        self.at += more as u64;
        Ok(true)
    }

    fn next(&mut self, file: &File) -> io::Result<Option<Stored>> {
        if !self.fill(file, HEADER_BYTES)? {
            return Ok(None);
        }
        let mut header = [0; HEADER_BYTES];
        header.copy_from_slice(&self.buffer[self.taken..self.taken + HEADER_BYTES]);
        self.taken += HEADER_BYTES;
        let [i0, i1, i2, i3, i4, i5, i6, i7, s0, s1, s2, s3, s4, s5, s6, s7, t0, t1, side, l0, l1, l2, l3] =
            header;
        let len = u32::from_be_bytes([l0, l1, l2, l3]) as usize;
        if !self.fill(file, len)? {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let payload = self.buffer[self.taken..self.taken + len].to_vec();
        self.taken += len;
        Ok(Some(Stored {
            id: i64::from_be_bytes([i0, i1, i2, i3, i4, i5, i6, i7]),
            seq: u64::from_be_bytes([s0, s1, s2, s3, s4, s5, s6, s7]),
            table: u16::from_be_bytes([t0, t1]),
            side: match side {
                0 => Side::Whole,
                1 => Side::Left,
                _ => Side::Came,
            },
            payload,
        }))
    }
}

/// The runs, merged: rows in order of (id, seq).
pub(crate) struct Merge {
    rows: Arc<SpilledRows>,
    readers: Vec<RunReader>,
    heads: Vec<Option<Stored>>,
    order: BinaryHeap<Reverse<(i64, u64, usize)>>,
    from: Option<i64>,
    /// Bytes of the messages given out.
    bytes: usize,
}

impl SpilledRows {
    /// The rows from an id on.
    pub(crate) fn merge(self: &Arc<Self>, from: Option<i64>) -> Result<Merge, Fault> {
        let read_bytes = (READ_BYTES_MAX / self.runs.len().max(1)).max(READ_BYTES_MIN);
        let readers = self.runs.iter().map(|run| {
            // Rows of one id may reach back before the remembered row of that id.
            let before = run.index.partition_point(|(id, _)| Some(*id) < from).checked_sub(1);
            let at = before.and_then(|n| run.index.get(n)).map_or(run.start, |(_, at)| *at);
            RunReader { at, end: run.end, buffer: Vec::new(), taken: 0, read_bytes }
        });
        let mut merge = Merge {
            readers: readers.collect(),
            rows: Arc::clone(self),
            heads: Vec::new(),
            order: BinaryHeap::new(),
            from,
            bytes: 0,
        };
        merge.heads.resize_with(merge.readers.len(), || None);
        for run in 0..merge.readers.len() {
            merge.advance(run)?;
        }
        Ok(merge)
    }
}

impl Merge {
    fn advance(&mut self, run: usize) -> Result<(), Fault> {
        let (Some(reader), Some(head)) = (self.readers.get_mut(run), self.heads.get_mut(run)) else {
            return Ok(());
        };
        loop {
            *head = reader.next(&self.rows.file).map_err(|error| failed(&self.rows.dir, error))?;
            match head {
                Some(row) if Some(row.id) < self.from => {}
                Some(row) => {
                    self.order.push(Reverse((row.id, row.seq, run)));
                    return Ok(());
                }
                None => return Ok(()),
            }
        }
    }

    /// The id of the next row.
    fn peek(&self) -> Option<i64> {
        self.order.peek().map(|Reverse((id, ..))| *id)
    }

    /// The next row.
    pub(crate) fn next(&mut self) -> Result<Option<(i64, RowChange)>, Fault> {
        while let Some(Reverse((id, seq, run))) = self.order.pop() {
            let stored = self.heads.get_mut(run).and_then(Option::take);
            self.advance(run)?;
            let Some(stored) = stored else { continue };
            let Some(table) = self.rows.tables.get(usize::from(stored.table)) else { continue };
            if self.rows.truncated.get(&table.name).is_some_and(|at| seq < *at) {
                continue;
            }
            self.bytes += stored.payload.len();
            return Ok(Some((id, change(table, stored.side, &stored.payload).map_err(rubbish)?)));
        }
        Ok(None)
    }

    /// The next groups, about `rows_max` rows, an identity always whole, with the bytes of their messages; empty at
    /// the end.
    pub(crate) fn piece(&mut self, rows_max: usize) -> Result<(Vec<Group>, usize), Fault> {
        let (mut groups, mut rows, before) = (Vec::new(), 0, self.bytes);
        loop {
            let last = groups.last().map(|group: &Group| group.id.clone());
            let full = rows >= rows_max && self.peek().map(NativeId::Int) != last;
            let next = if full { None } else { self.next()? };
            let Some((id, row)) = next else { return Ok((groups, self.bytes - before)) };
            push_row(&mut groups, id, row);
            rows += 1;
        }
    }
}
