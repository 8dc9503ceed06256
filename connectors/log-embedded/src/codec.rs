//! How records, partitions and tasks look on disk. Every value begins with its format.
//!
//! ```text
//! record     1 · at_ms u64 · flags · key len u32 · key · headers u16 · (name len u32 · name · text len u32 · text)* · value
//! part       1 · start · end · records · bytes · cleaned                         (u64 each)
//! task       1 · writer u64 · progress as JSON, or nothing
//! kept       1 · offset u64 · bytes u32 · flags                    by key: the record that compaction keeps
//! tombstone  1 · at_ms u64 · key                                   by offset: the tombstones among these
//! ```
//!
//! Numbers are big-endian, so that keys sort as the offsets do.

use rollcall_model::{Fault, Partition, Progress, Record, Topic};

const FORMAT: u8 = 1;
const HAS_VALUE: u8 = 1;
/// The store's limit is 65,535 bytes for a key with its topic and partition.
pub(crate) const KEY_BYTES_MAX: usize = 60_000;
/// Offsets, lengths and index entries that a record costs beside its own bytes.
const RECORD_OVERHEAD_BYTES: u64 = 11;

/// A record ready to be written.
#[derive(Debug)]
pub(crate) struct Encoded {
    pub(crate) topic: Topic,
    pub(crate) partition: Partition,
    pub(crate) value: Vec<u8>,
}

impl Encoded {
    /// Refuses what could not be read back.
    pub(crate) fn new(record: &Record, at_ms: u64) -> Result<Self, Fault> {
        let name = record.topic.name();
        if record.key.len() > KEY_BYTES_MAX {
            return Err(Fault::bad_record(format!(
                "a key of {} bytes for {name}/{}: the embedded log takes {KEY_BYTES_MAX}",
                record.key.len(),
                record.partition
            )));
        }
        let too_long =
            || Fault::bad_record(format!("a record for {name}/{} is beyond 4 GiB", record.partition));
        let body = record.value.as_deref().unwrap_or_default();
        let mut value = Vec::with_capacity(32 + record.key.len() + body.len());
        value.push(FORMAT);
        value.extend_from_slice(&at_ms.to_be_bytes());
        value.push(if record.value.is_some() { HAS_VALUE } else { 0 });
        put_bytes(&mut value, &record.key).ok_or_else(too_long)?;
        let headers = u16::try_from(record.headers.len()).map_err(|_| too_long())?;
        value.extend_from_slice(&headers.to_be_bytes());
        for (name, text) in &record.headers {
            put_bytes(&mut value, name.as_bytes()).ok_or_else(too_long)?;
            put_bytes(&mut value, text.as_bytes()).ok_or_else(too_long)?;
        }
        value.extend_from_slice(body);
        u32::try_from(value.len()).map_err(|_| too_long())?;
        Ok(Self { topic: record.topic, partition: record.partition, value })
    }

    pub(crate) fn cost_bytes(&self) -> u64 {
        cost_bytes(self.value.len())
    }
}

/// What a record of this many bytes counts for.
pub(crate) fn cost_bytes(value_len: usize) -> u64 {
    value_len as u64 + RECORD_OVERHEAD_BYTES
}

/// A record read back.
#[derive(Debug)]
pub(crate) struct Decoded {
    pub(crate) at_ms: u64,
    pub(crate) record: Record,
}

/// `None` when the bytes are not a record of a format known here.
pub(crate) fn decode_record(topic: Topic, partition: Partition, bytes: &[u8]) -> Option<Decoded> {
    let mut rest = Reader::of_format_1(bytes)?;
    let at_ms = rest.u64()?;
    let flags = rest.u8()?;
    let key = rest.bytes()?.to_vec();
    let count = rest.u16()?;
    let mut headers = Vec::with_capacity(usize::from(count));
    for _ in 0..count {
        let name = String::from_utf8(rest.bytes()?.to_vec()).ok()?;
        let text = String::from_utf8(rest.bytes()?.to_vec()).ok()?;
        headers.push((name, text));
    }
    let value = (flags & HAS_VALUE != 0).then(|| rest.0.to_vec());
    Some(Decoded { at_ms, record: Record { topic, partition, key, value, headers } })
}

/// When a record was written, without reading the rest of it.
pub(crate) fn record_time(bytes: &[u8]) -> Option<u64> {
    Reader::of_format_1(bytes)?.u64()
}

/// What is there of a partition.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Part {
    /// The first offset that may be read.
    pub(crate) start: u64,
    /// The offset of the next record.
    pub(crate) end: u64,
    /// Records kept.
    pub(crate) records: u64,
    /// Their cost.
    pub(crate) bytes: u64,
    /// Compaction has been here: below it, one record per key is left.
    pub(crate) cleaned: u64,
}

impl Part {
    pub(crate) fn encode(self) -> Vec<u8> {
        let mut value = vec![FORMAT];
        for number in [self.start, self.end, self.records, self.bytes, self.cleaned] {
            value.extend_from_slice(&number.to_be_bytes());
        }
        value
    }

    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        let mut rest = Reader::of_format_1(bytes)?;
        Some(Self {
            start: rest.u64()?,
            end: rest.u64()?,
            records: rest.u64()?,
            bytes: rest.u64()?,
            cleaned: rest.u64()?,
        })
    }
}

/// A task, as the log knows it.
#[derive(Clone, PartialEq, Debug, Default)]
pub(crate) struct Task {
    /// The number of its newest writer; it stays when the task is forgotten, so that an old writer stays fenced.
    pub(crate) writer: u64,
    /// What it last committed.
    pub(crate) progress: Option<Progress>,
}

impl Task {
    pub(crate) fn encode(&self) -> Result<Vec<u8>, serde_json::Error> {
        let mut value = vec![FORMAT];
        value.extend_from_slice(&self.writer.to_be_bytes());
        if let Some(progress) = &self.progress {
            serde_json::to_writer(&mut value, progress)?;
        }
        Ok(value)
    }

    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        let mut rest = Reader::of_format_1(bytes)?;
        let writer = rest.u64()?;
        let progress = if rest.0.is_empty() { None } else { Some(serde_json::from_slice(rest.0).ok()?) };
        Some(Self { writer, progress })
    }
}

/// Which record of a key compaction keeps.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Kept {
    pub(crate) offset: u64,
    pub(crate) bytes: u32,
    pub(crate) is_tombstone: bool,
}

impl Kept {
    pub(crate) fn encode(self) -> Vec<u8> {
        let mut value = vec![FORMAT];
        value.extend_from_slice(&self.offset.to_be_bytes());
        value.extend_from_slice(&self.bytes.to_be_bytes());
        value.push(u8::from(self.is_tombstone));
        value
    }

    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        let mut rest = Reader::of_format_1(bytes)?;
        Some(Self { offset: rest.u64()?, bytes: rest.u32()?, is_tombstone: rest.u8()? != 0 })
    }
}

/// A tombstone that compaction keeps for a while.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Tombstone {
    pub(crate) at_ms: u64,
    pub(crate) key: Vec<u8>,
}

impl Tombstone {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut value = vec![FORMAT];
        value.extend_from_slice(&self.at_ms.to_be_bytes());
        value.extend_from_slice(&self.key);
        value
    }

    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        let mut rest = Reader::of_format_1(bytes)?;
        Some(Self { at_ms: rest.u64()?, key: rest.0.to_vec() })
    }
}

/// `partition · offset`: where a record stands inside its topic's keyspace.
pub(crate) fn offset_key(partition: Partition, offset: u64) -> [u8; 10] {
    let mut key = [0; 10];
    key[..2].copy_from_slice(&partition.0.to_be_bytes());
    key[2..].copy_from_slice(&offset.to_be_bytes());
    key
}

/// The offset of an [`offset_key`].
pub(crate) fn offset_of(key: &[u8]) -> Option<u64> {
    Some(u64::from_be_bytes(key.get(2..10)?.try_into().ok()?))
}

/// `partition · key`: where a key stands inside its topic's index.
pub(crate) fn index_key(partition: Partition, key: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(2 + key.len());
    bytes.extend_from_slice(&partition.0.to_be_bytes());
    bytes.extend_from_slice(key);
    bytes
}

fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) -> Option<()> {
    out.extend_from_slice(&u32::try_from(bytes.len()).ok()?.to_be_bytes());
    out.extend_from_slice(bytes);
    Some(())
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn of_format_1(bytes: &'a [u8]) -> Option<Self> {
        let (format, rest) = bytes.split_first()?;
        (*format == FORMAT).then_some(Self(rest))
    }

    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (head, tail) = self.0.split_at_checked(count)?;
        self.0 = tail;
        Some(head)
    }

    fn u8(&mut self) -> Option<u8> {
        self.take(1)?.first().copied()
    }

    fn u16(&mut self) -> Option<u16> {
        Some(u16::from_be_bytes(self.take(2)?.try_into().ok()?))
    }

    fn u32(&mut self) -> Option<u32> {
        Some(u32::from_be_bytes(self.take(4)?.try_into().ok()?))
    }

    fn u64(&mut self) -> Option<u64> {
        Some(u64::from_be_bytes(self.take(8)?.try_into().ok()?))
    }

    fn bytes(&mut self) -> Option<&'a [u8]> {
        let count = self.u32()? as usize;
        self.take(count)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn record(value: Option<&[u8]>) -> Record {
        Record {
            topic: Topic::Identities,
            partition: Partition(3),
            key: b"core/1\0\xff".to_vec(),
            value: value.map(<[u8]>::to_vec),
            headers: vec![("lane".into(), "core/slot@1".into()), (String::new(), "é".into())],
        }
    }

    #[test]
    fn records_come_back_as_they_were() {
        for value in [None, Some(&b""[..]), Some(&b"{}"[..])] {
            let encoded = Encoded::new(&record(value), 7).unwrap();
            let decoded = decode_record(Topic::Identities, Partition(3), &encoded.value).unwrap();
            assert_eq!(decoded.record, record(value));
            assert_eq!(decoded.at_ms, 7);
        }
    }

    #[test]
    fn every_cut_of_the_fixed_part_and_every_newer_format_is_refused() {
        let mut encoded = Encoded::new(&record(None), 7).unwrap().value;
        for end in 0..encoded.len() {
            assert!(
                decode_record(Topic::Identities, Partition(3), &encoded[..end]).is_none(),
                "cut at {end}"
            );
        }
        encoded[0] = 2;
        assert!(decode_record(Topic::Identities, Partition(3), &encoded).is_none());
    }

    #[test]
    fn a_key_beyond_the_store_s_limit_is_a_bad_record() {
        let record = Record { key: vec![0; KEY_BYTES_MAX + 1], ..record(None) };
        assert_eq!(Encoded::new(&record, 0).unwrap_err().kind, rollcall_model::FaultKind::BadRecord);
    }
}
