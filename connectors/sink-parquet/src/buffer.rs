//! Rows of one partition of a table on their way to a file.
//!
//! ```text
//! records ─▶ tail ─▶ chunks of Arrow rows, in the order of their seqs ─▶ what a cut holds
//!            (few)   └────────────── above a cut: they stay ──────────┘
//! ```
//!
//! Records become columns in chunks, so that what waits is compact and its size is known.

use std::collections::VecDeque;

use arrow_array::RecordBatch;
use arrow_array::cast::AsArray;
use arrow_array::types::UInt64Type;
use rollcall_columns::{LakeTable, lake_batch};
use rollcall_model::archive::Buffered;
use rollcall_model::{Fault, IdentityState, OutRecord, Partition, Seq, Traits, Value};

/// Records that become columns together.
const CHUNK_RECORDS: usize = 1_024;
/// Fewer, when they are large.
const CHUNK_BYTES: u64 = 1 << 20;
/// What a record takes beside its texts.
const RECORD_BYTES: u64 = 256;

/// The rows.
#[derive(Debug)]
pub(crate) struct Buffer {
    table: &'static LakeTable,
    partition: Partition,
    tail: Vec<OutRecord>,
    tail_bytes: u64,
    chunks: VecDeque<RecordBatch>,
    chunks_hold: Buffered,
}

impl Buffer {
    /// Of a partition of a table.
    pub(crate) fn new(table: &'static LakeTable, partition: Partition) -> Self {
        let (tail, chunks) = (Vec::new(), VecDeque::new());
        Self { table, partition, tail, tail_bytes: 0, chunks, chunks_hold: Buffered::default() }
    }

    /// Takes a record in; its seq is not below that of the one before.
    pub(crate) fn take(&mut self, record: &OutRecord) -> Result<(), Fault> {
        self.tail_bytes += weight(record);
        self.tail.push(record.clone());
        if self.tail.len() >= CHUNK_RECORDS || self.tail_bytes >= CHUNK_BYTES {
            self.settle()?;
        }
        Ok(())
    }

    /// What waits.
    pub(crate) fn holds(&self) -> Buffered {
        Buffered {
            rows: self.chunks_hold.rows + self.tail.len() as u64,
            bytes: self.chunks_hold.bytes + self.tail_bytes,
        }
    }

    fn settle(&mut self) -> Result<(), Fault> {
        if self.tail.is_empty() {
            return Ok(());
        }
        let chunk = lake_batch(self.table, self.partition, &self.tail)?;
        self.tail.clear();
        self.tail_bytes = 0;
        if chunk.num_rows() > 0 {
            self.chunks.push_back(chunk);
            self.count();
        }
        Ok(())
    }

    fn count(&mut self) {
        let rows = self.chunks.iter().map(|chunk| chunk.num_rows() as u64).sum();
        let bytes = self.chunks.iter().map(|chunk| chunk.get_array_memory_size() as u64).sum();
        self.chunks_hold = Buffered { rows, bytes };
    }

    /// The rows of commits up to `last`; they stay until they are dropped.
    pub(crate) fn up_to(&mut self, last: Seq) -> Result<Vec<RecordBatch>, Fault> {
        self.settle()?;
        let mut rows = Vec::new();
        for chunk in &self.chunks {
            let within = rows_up_to(chunk, last)?;
            if within > 0 {
                rows.push(chunk.slice(0, within));
            }
            if within < chunk.num_rows() {
                break;
            }
        }
        Ok(rows)
    }

    /// Forgets the rows of commits up to `last`.
    pub(crate) fn drop_up_to(&mut self, last: Seq) -> Result<(), Fault> {
        self.settle()?;
        while let Some(chunk) = self.chunks.pop_front() {
            let within = rows_up_to(&chunk, last)?;
            if within < chunk.num_rows() {
                self.chunks.push_front(chunk.slice(within, chunk.num_rows() - within));
                break;
            }
        }
        self.count();
        Ok(())
    }
}

fn rows_up_to(chunk: &RecordBatch, last: Seq) -> Result<usize, Fault> {
    let seqs = chunk.column_by_name("seq").and_then(|column| column.as_primitive_opt::<UInt64Type>());
    let seqs = seqs.ok_or_else(|| Fault::bug("rows of the lake have no column seq"))?.values();
    Ok(seqs.partition_point(|seq| *seq <= last.0))
}

/// About what a record takes.
fn weight(record: &OutRecord) -> u64 {
    let texts = match record {
        OutRecord::Identity(identity) => match &identity.state {
            IdentityState::Live(image) => of_traits(&image.traits) + of_traits(&image.system_traits),
            IdentityState::Deleted => 0,
            IdentityState::Pending { patches } => patches.len() as u64 * RECORD_BYTES,
        },
        OutRecord::Membership(set) => set.segments.len() as u64 * RECORD_BYTES / 4,
        OutRecord::MembershipChange(change) => {
            (change.changed.len() + change.entered.len() + change.left.len()) as u64 * RECORD_BYTES / 8
        }
        OutRecord::Count(_) | OutRecord::Watermark(_) => 0,
    };
    RECORD_BYTES + texts
}

fn of_traits(traits: &Traits) -> u64 {
    let text = |value: &Value| match value {
        Value::Str(text) => text.len() as u64,
        Value::Null | Value::Bool(_) | Value::Int(_) | Value::BigInt(_) | Value::Float(_) => 16,
    };
    traits.iter().map(|(key, value)| key.len() as u64 + text(value)).sum()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::test_kit::{count, table};

    fn seqs(rows: &[RecordBatch]) -> Vec<u64> {
        rows.iter().flat_map(|rows| rows["seq"].as_primitive::<UInt64Type>().values().to_vec()).collect()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn a_cut_holds_its_commits_whole_and_the_rest_stays(
            commits in prop::collection::vec(1..900_usize, 1..12),
            last in 0..14_u64,
        ) {
            let mut buffer = Buffer::new(table("segment_counts"), Partition(3));
            let taken: Vec<u64> =
                commits.iter().enumerate().flat_map(|(n, rows)| vec![n as u64 + 1; *rows]).collect();
            for seq in &taken {
                buffer.take(&count(*seq, 3, "s", 1)).unwrap();
            }
            prop_assert_eq!(buffer.holds().rows as usize, taken.len());
            let (below, above): (Vec<u64>, Vec<u64>) = taken.iter().partition(|seq| **seq <= last);
            for _ in 0..2 {
                prop_assert_eq!(&seqs(&buffer.up_to(Seq(last)).unwrap()), &below);
            }
            buffer.drop_up_to(Seq(last)).unwrap();
            prop_assert_eq!(buffer.holds().rows as usize, above.len());
            prop_assert_eq!(buffer.holds().bytes > 0, !above.is_empty());
            prop_assert_eq!(seqs(&buffer.up_to(Seq(u64::MAX)).unwrap()), above);
        }
    }

    #[test]
    fn large_records_are_counted_as_they_come() {
        let mut buffer = Buffer::new(table("identities"), Partition(0));
        let large = crate::test_kit::identity(1, 1, "a", &"x".repeat(300_000));
        for _ in 0..3 {
            buffer.take(&large).unwrap();
        }
        assert!(buffer.holds().bytes > 900_000, "{:?}", buffer.holds());
        buffer.take(&large).unwrap();
        assert!(buffer.tail.is_empty(), "a chunk of large records is short");
    }
}
