//! What a manifest says of a file, gathered while it is written and checked before it is read.

use std::fs::File;
use std::io::{self, BufWriter, Read, Write};
use std::path::Path;

use arrow_array::RecordBatch;
use arrow_array::cast::AsArray;
use arrow_array::types::{TimestampMicrosecondType, UInt64Type};
use rollcall_columns::LakeTable;
use rollcall_model::Fault;
use sha2::{Digest, Sha256};

/// What repairs a lake whose files are not what was written.
pub(super) const VERIFY: &str = "rollcall lake verify";

const READ_BYTES: usize = 1 << 20;

/// What is known of a file. The ranges are 0 when it has no rows.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct FileFacts {
    /// Rows.
    pub rows: u64,
    /// Its bytes.
    pub bytes: u64,
    /// Its sha256, 64 hexadecimal digits.
    pub sha256: String,
    /// The lowest value of the table's version column.
    pub min_version: i64,
    /// The highest.
    pub max_version: i64,
    /// The lowest seq.
    pub min_seq: u64,
    /// The highest.
    pub max_seq: u64,
    /// The earliest time of an event, where the table holds events.
    pub min_event_us: Option<i64>,
    /// The latest.
    pub max_event_us: Option<i64>,
}

impl FileFacts {
    /// Takes in the rows of a batch.
    pub(super) fn take(&mut self, table: &LakeTable, batch: &RecordBatch) -> Result<(), Fault> {
        if batch.num_rows() == 0 {
            return Ok(());
        }
        let seqs = range(batch, "seq")?;
        let versions = range(batch, table.version)?;
        let first = self.rows == 0;
        let within = |old: (i64, i64), new: (i64, i64)| {
            if first { new } else { (old.0.min(new.0), old.1.max(new.1)) }
        };
        (self.min_version, self.max_version) = within((self.min_version, self.max_version), versions);
        let seqs = within((self.min_seq.cast_signed(), self.max_seq.cast_signed()), seqs);
        (self.min_seq, self.max_seq) = (seqs.0.cast_unsigned(), seqs.1.cast_unsigned());
        if let Some(event) = table.event {
            let events = range(batch, event)?;
            let old = (self.min_event_us.unwrap_or_default(), self.max_event_us.unwrap_or_default());
            let events = within(old, events);
            (self.min_event_us, self.max_event_us) = (Some(events.0), Some(events.1));
        }
        self.rows += batch.num_rows() as u64;
        Ok(())
    }
}

/// The lowest and highest value of a column of times or seqs; seqs count commits from 1 and stay far below 2^63.
fn range(batch: &RecordBatch, name: &str) -> Result<(i64, i64), Fault> {
    let wrong = || Fault::bug(format!("rows of the lake have no numbers in {name}"));
    let column = batch.column_by_name(name).ok_or_else(wrong)?;
    let range = if let Some(seqs) = column.as_primitive_opt::<UInt64Type>() {
        ends(seqs.values().iter().map(|n| n.cast_signed()))
    } else if let Some(times) = column.as_primitive_opt::<TimestampMicrosecondType>() {
        ends(times.values().iter().copied())
    } else {
        None
    };
    range.ok_or_else(wrong)
}

fn ends(mut values: impl Iterator<Item = i64>) -> Option<(i64, i64)> {
    let first = values.next()?;
    Some(values.fold((first, first), |(min, max), n| (min.min(n), max.max(n))))
}

/// A file that is hashed as it is written.
pub(super) struct HashedFile {
    file: BufWriter<File>,
    sha256: Sha256,
    bytes: u64,
}

impl HashedFile {
    pub(super) fn create(path: &Path) -> io::Result<Self> {
        Ok(Self { file: BufWriter::new(File::create(path)?), sha256: Sha256::new(), bytes: 0 })
    }

    /// Its bytes and their hash, once everything is with the operating system.
    pub(super) fn finish(mut self) -> io::Result<(u64, String)> {
        self.file.flush()?;
        Ok((self.bytes, hex(self.sha256)))
    }
}

impl Write for HashedFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.file.write(bytes)?;
        self.sha256.update(&bytes[..written]);
        self.bytes += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

fn hex(sha256: Sha256) -> String {
    sha256.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Refuses a file that isn't the one of which `bytes` and `sha256` were written down.
///
/// # Errors
/// A [`Fault`] of kind `Refused` that names it; of kind `Retry` when it can't be read now.
pub fn check_file(path: &Path, bytes: u64, sha256: &str) -> Result<(), Fault> {
    let unreadable = |e: io::Error| Fault::retry(format!("can't read {}", path.display())).from_source(e);
    let mut file = File::open(path).map_err(unreadable)?;
    let mut hash = Sha256::new();
    let mut buffer = vec![0; READ_BYTES];
    let mut found = 0;
    loop {
        match file.read(&mut buffer).map_err(unreadable)? {
            0 => break,
            read => {
                hash.update(&buffer[..read]);
                found += read as u64;
            }
        }
    }
    let altered = |why: String| {
        Fault::refused(format!("{} isn't the file that was written: {why}", path.display())).repair(VERIFY)
    };
    if found != bytes {
        return Err(altered(format!("it has {found} bytes instead of {bytes}")));
    }
    match hex(hash) {
        hash if hash == sha256 => Ok(()),
        hash => Err(altered(format!("its sha256 is {hash} instead of {sha256}"))),
    }
}
