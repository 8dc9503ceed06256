//! Records above what a topic takes in one message, in pieces.
//!
//! ```text
//! key K, value abcde  ─▶  K ␀piece␀ 0 ▸ ab     K ␀piece␀ 1 ▸ cd     K ▸ e   (header rollcall-pieces: ID/2)
//!                                                                   ▲ the head: stands last, carries K itself
//! ```
//!
//! All of them stand in one commit, so a reader sees all or none; between them may stand another task's records. A
//! piece has a key of its own, or compaction would keep the last alone. A writer remembers which keys it cut up (in its
//! progress), and takes the pieces back when it writes the key again.

use std::collections::{BTreeMap, HashMap};

use rollcall_model::{Partition, Record, Topic};
use serde::{Deserialize, Serialize};

/// Header of a piece: `ID/number`.
pub(crate) const PIECE: &str = "rollcall-piece";
/// Header of a head: `ID/how many pieces stand before it`.
pub(crate) const PIECES: &str = "rollcall-pieces";
const SEPARATOR: &[u8] = b"\0piece\0";
/// What a message carries beside key, value and headers, generously.
const OVERHEAD_BYTES: usize = 4_096;
/// Keys in pieces that a writer remembers, per task. A source of records that large by the thousand is a fault.
const REMEMBERED_MAX: usize = 10_000;

/// Of each key in a compacted topic that was cut up: how many pieces it has.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct CutKeys(BTreeMap<String, u32>);

fn name(topic: Topic, partition: Partition, key: &[u8]) -> String {
    format!("{}/{partition}/{}", topic.name(), String::from_utf8_lossy(key))
}

fn piece_key(key: &[u8], number: u32) -> Vec<u8> {
    [key, SEPARATOR, number.to_string().as_bytes()].concat()
}

impl CutKeys {
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// What is written for a record: itself, or its pieces and its head; and what takes older pieces back.
    ///
    /// # Errors
    /// The record, when it would have to be remembered and nothing more can be.
    pub(crate) fn cut(
        &mut self,
        record: Record,
        message_bytes_max: usize,
        id: u64,
        out: &mut Vec<Record>,
    ) -> Result<(), Record> {
        let headers: usize = record.headers.iter().map(|(name, text)| name.len() + text.len() + 10).sum();
        let room = message_bytes_max.saturating_sub(OVERHEAD_BYTES + record.key.len() * 2 + headers).max(1);
        let size = record.value.as_ref().map_or(0, Vec::len);
        let is_compacted = record.topic.retention() == rollcall_model::Retention::Compacted;
        let needed = if size > room { u32::try_from(size.div_ceil(room) - 1).unwrap_or(u32::MAX) } else { 0 };
        if needed == 0 && (self.0.is_empty() || !is_compacted) {
            out.push(record);
            return Ok(());
        }
        let name = name(record.topic, record.partition, &record.key);
        if needed > 0 && is_compacted && self.0.len() >= REMEMBERED_MAX && !self.0.contains_key(&name) {
            return Err(record);
        }
        let before = if is_compacted { self.0.remove(&name).unwrap_or(0) } else { 0 };
        let piece = |number, value| Record {
            topic: record.topic,
            partition: record.partition,
            key: piece_key(&record.key, number),
            value,
            headers: vec![(PIECE.to_owned(), format!("{id:016x}/{number}"))],
        };
        out.extend((needed..before).map(|number| piece(number, None)));
        if needed == 0 {
            out.push(record);
            return Ok(());
        }
        let value = record.value.clone().unwrap_or_default();
        let mut parts = value.chunks(room).map(<[u8]>::to_vec);
        for number in 0..needed {
            out.push(piece(number, parts.next()));
        }
        if is_compacted {
            self.0.insert(name, needed);
        }
        let mut head = Record { value: parts.next(), ..record };
        head.headers.push((PIECES.to_owned(), format!("{id:016x}/{needed}")));
        out.push(head);
        Ok(())
    }
}

/// What a record is, as its headers say.
pub(crate) enum Part {
    /// A record of its own.
    Whole,
    /// A piece of one that comes.
    Piece,
    /// The end of one whose pieces came before.
    Head {
        /// Shared with its pieces.
        id: String,
        /// How many.
        pieces: u32,
    },
}

/// Reads what a record is, and takes the header off.
pub(crate) fn part_of(headers: &mut Vec<(String, String)>) -> Part {
    if headers.iter().any(|(name, _)| name == PIECE) {
        return Part::Piece;
    }
    let Some(at) = headers.iter().position(|(name, _)| name == PIECES) else { return Part::Whole };
    let (_, text) = headers.remove(at);
    match text.split_once('/').and_then(|(id, pieces)| Some((id.to_owned(), pieces.parse().ok()?))) {
        Some((id, pieces)) => Part::Head { id, pieces },
        None => Part::Whole,
    }
}

/// Pieces whose head has not come, of one partition.
#[derive(Debug, Default)]
pub(crate) struct Pending {
    pieces: HashMap<String, BTreeMap<u32, Vec<u8>>>,
}

impl Pending {
    /// Keeps a piece.
    pub(crate) fn keep(&mut self, headers: &[(String, String)], value: Option<Vec<u8>>) {
        let header = headers.iter().find(|(name, _)| name == PIECE).map(|(_, text)| text.as_str());
        let parsed =
            header.and_then(|text| text.split_once('/')).and_then(|(id, n)| Some((id, n.parse().ok()?)));
        if let (Some((id, number)), Some(value)) = (parsed, value) {
            self.pieces.entry(id.to_owned()).or_default().insert(number, value);
        }
    }

    /// The whole value of a head, if all its pieces are there; else the head's own part comes back, and they stay.
    pub(crate) fn join(&mut self, id: &str, pieces: u32, last: Vec<u8>) -> Result<Vec<u8>, Vec<u8>> {
        let is_whole = self.pieces.get(id).is_some_and(|parts| parts.keys().copied().eq(0..pieces));
        if !is_whole {
            return Err(last);
        }
        let mut whole: Vec<u8> =
            self.pieces.remove(id).into_iter().flatten().flat_map(|(_, part)| part).collect();
        whole.extend(last);
        Ok(whole)
    }

    /// Gives up on the pieces of a head.
    pub(crate) fn forget(&mut self, id: &str) {
        self.pieces.remove(id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(topic: Topic, value: Option<&[u8]>) -> Record {
        Record {
            topic,
            partition: Partition(1),
            key: b"core/1".to_vec(),
            value: value.map(<[u8]>::to_vec),
            headers: vec![("lane".to_owned(), "x".to_owned())],
        }
    }

    fn join(cut: &[Record]) -> Vec<Record> {
        let mut pending = Pending::default();
        let mut whole = Vec::new();
        for record in cut {
            let mut record = record.clone();
            match part_of(&mut record.headers) {
                Part::Whole => whole.push(record),
                Part::Piece => pending.keep(&record.headers, record.value),
                Part::Head { id, pieces } => {
                    let value = pending.join(&id, pieces, record.value.unwrap_or_default());
                    whole.push(Record { value: Some(value.expect("all pieces")), ..record });
                }
            }
        }
        whole
    }

    #[test]
    fn what_is_cut_is_joined_again_at_every_size() {
        for size in [0_usize, 1, 99, 100, 101, 199, 200, 201, 1_000] {
            let value: Vec<u8> = (0..size).map(|n| (n % 251) as u8).collect();
            let whole = record(Topic::IdentityChanges, Some(&value));
            let mut out = Vec::new();
            let limit = OVERHEAD_BYTES + 12 + 15 + 100;
            CutKeys::default().cut(whole.clone(), limit, 7, &mut out).expect("it is cut");
            assert_eq!(out.len(), size.div_ceil(100).max(1), "{size}");
            assert!(out.iter().all(|r| r.value.as_ref().is_some_and(|v| v.len() <= 100)));
            assert_eq!(join(&out), [whole]);
        }
    }

    #[test]
    fn pieces_of_a_compacted_key_go_when_it_is_written_again() {
        let mut keys = CutKeys::default();
        let limit = OVERHEAD_BYTES + 12 + 15 + 100;
        let mut write = |value: Option<&[u8]>| {
            let mut out = Vec::new();
            keys.cut(record(Topic::Identities, value), limit, 7, &mut out).expect("it is cut");
            let null = |r: &Record| r.value.is_none();
            (out.len(), out.iter().filter(|r| null(r)).count(), keys.is_empty())
        };
        assert_eq!(write(Some(&[1; 350])), (4, 0, false));
        assert_eq!(
            write(Some(&[2; 250])),
            (4, 1, false),
            "one piece fewer: its tombstone, two pieces, the head"
        );
        assert_eq!(write(None), (3, 3, true), "two pieces and the key itself");
        assert_eq!(write(Some(&[3; 50])), (1, 0, true));
    }

    #[test]
    fn a_head_without_its_pieces_is_not_whole() {
        let mut out = Vec::new();
        let limit = OVERHEAD_BYTES + 12 + 15 + 100;
        let whole = record(Topic::Identities, Some(&[1; 350]));
        CutKeys::default().cut(whole, limit, 7, &mut out).expect("it is cut");
        let mut pending = Pending::default();
        pending.keep(&out[0].headers, out[0].value.clone());
        pending.keep(&out[2].headers, out[2].value.clone());
        let Part::Head { id, pieces } = part_of(&mut out[3].headers) else { panic!("a head") };
        assert!(pending.join(&id, pieces, vec![]).is_err());
        assert!(!pending.pieces.is_empty(), "they are held on to");
        pending.forget(&id);
        assert!(pending.pieces.is_empty());
    }
}
