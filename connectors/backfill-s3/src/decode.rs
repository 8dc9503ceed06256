//! A file that has the right checksum flows in, batches of its items flow out, one at a time and bounded.
//!
//! Runs on a blocking thread: it unzips and parses without ever waiting for the network, and waits only for room.

use std::io::{self, BufRead, BufReader, Read};

use flate2::bufread::MultiGzDecoder;
use rollcall_model::{Fault, FoundItem};

use crate::config::{LINE_BYTES_MAX, PAGE_BYTES_MAX};
use crate::line::{self, Form};

/// How the lines of a file are read.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reading {
    pub(crate) form: Form,
    pub(crate) key: &'static str,
    pub(crate) page_items: usize,
}

/// Some items of a file, in order.
#[derive(PartialEq, Debug)]
pub(crate) struct Batch {
    pub(crate) items: Vec<FoundItem>,
    /// Lines of the file up to and with these.
    pub(crate) lines: u64,
    /// Bytes of JSON that they took.
    pub(crate) bytes: u64,
    /// Whether the file ends here, as it should.
    pub(crate) last: bool,
}

/// Reads a file whose name for people is `name`, skips the first `skip` lines, and gives the rest to `emit` until that
/// says that nobody listens.
pub(crate) fn decode(
    raw: impl Read,
    name: &str,
    items_said: u64,
    skip: u64,
    reading: Reading,
    mut emit: impl FnMut(Batch) -> bool,
) -> Result<(), Fault> {
    let mut raw = BufReader::with_capacity(1 << 17, raw);
    // A partition without items may be a file without bytes, which is no gzip.
    let empty = raw.fill_buf().map_err(|e| unreadable(name, 0, &e))?.is_empty();
    let mut lines =
        Lines { text: BufReader::with_capacity(1 << 16, MultiGzDecoder::new(raw)), line: Vec::new() };
    let mut batch = Batch { items: Vec::new(), lines: 0, bytes: 0, last: false };
    while !empty && lines.next(name, batch.lines)? {
        batch.lines += 1;
        if batch.lines <= skip {
            continue;
        }
        let at = batch.lines;
        let found = line::read(&lines.line, reading.form, reading.key).map_err(|why| {
            Fault::refused(format!("{name}:{at}: {why}")).repair(
                "copy the file again; if it is as DynamoDB wrote it, the export is not of this table's form",
            )
        })?;
        batch.items.push(found);
        batch.bytes += lines.line.len() as u64;
        if batch.items.len() >= reading.page_items || batch.bytes >= PAGE_BYTES_MAX as u64 {
            let rest = Batch { items: Vec::new(), lines: at, bytes: 0, last: false };
            if !emit(std::mem::replace(&mut batch, rest)) {
                return Ok(());
            }
        }
    }
    if batch.lines != items_said {
        return Err(Fault::refused(format!(
            "{name} has {} items, the manifest says {items_said}: the export is truncated",
            batch.lines
        ))
        .repair("copy the export again; if that doesn't help, export the table again"));
    }
    batch.last = true;
    emit(batch);
    Ok(())
}

struct Lines<R> {
    text: R,
    line: Vec<u8>,
}

impl<R: BufRead> Lines<R> {
    /// Reads the next line, without its end; `before` lines were read.
    fn next(&mut self, name: &str, before: u64) -> Result<bool, Fault> {
        self.line.clear();
        let mut bounded = self.text.by_ref().take(LINE_BYTES_MAX as u64 + 1);
        let read = bounded.read_until(b'\n', &mut self.line).map_err(|e| unreadable(name, before, &e))?;
        if self.line.last() == Some(&b'\n') {
            self.line.pop();
        } else if self.line.len() > LINE_BYTES_MAX {
            return Err(Fault::refused(format!(
                "{name}:{}: a line of more than {LINE_BYTES_MAX} bytes is no item of DynamoDB",
                before + 1
            ))
            .repair("copy the file again"));
        }
        Ok(read > 0)
    }
}

fn unreadable(name: &str, lines: u64, error: &io::Error) -> Fault {
    let again = "copy the export again; if that doesn't help, export the table again";
    if error.kind() == io::ErrorKind::UnexpectedEof {
        return Fault::refused(format!(
            "{name} ends in the middle of its gzip, after line {lines}: it is truncated"
        ))
        .repair(again);
    }
    if matches!(error.kind(), io::ErrorKind::InvalidInput | io::ErrorKind::InvalidData) {
        return Fault::refused(format!("{name} is no sound gzip after line {lines}: {error}")).repair(again);
    }
    Fault::retry(format!("can't read {name}: {error}"))
}

#[cfg(test)]
#[path = "decode_tests.rs"]
mod tests;
