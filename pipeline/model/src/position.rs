//! Where a source stands. A [`Position`] belongs to a [`Lane`] and has no order of its own:
//!
//! ```compile_fail
//! # fn f(a: rollcall_model::Position, b: rollcall_model::Position) {
//! let later = if a < b { b } else { a }; // positions of two lanes say nothing about each other
//! # }
//! ```

use std::cmp::Ordering;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::ids::{NativeId, SourceName};

/// One totally ordered stream of a source: a replication slot, a shard, a snapshot.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub struct Lane {
    /// The source.
    pub source: SourceName,
    /// The slot or shard.
    pub stream: String,
    /// Changes when the slot or stream is recreated: its points say nothing about the old one's.
    pub epoch: u64,
}

impl fmt::Display for Lane {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}@{}", self.source, self.stream, self.epoch)
    }
}

/// A Postgres log sequence number, written `16/B374D848`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Lsn(pub u64);

impl fmt::Display for Lsn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:X}/{:X}", self.0 >> 32, self.0 & 0xffff_ffff)
    }
}

impl FromStr for Lsn {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let bad = || format!("'{text}' is not a Postgres LSN such as 16/B374D848");
        let (high, low) = text.split_once('/').ok_or_else(bad)?;
        let half = |part: &str| u32::from_str_radix(part, 16).map_err(|_| bad());
        Ok(Self(u64::from(half(high)?) << 32 | u64::from(half(low)?)))
    }
}

impl From<Lsn> for String {
    fn from(lsn: Lsn) -> Self {
        lsn.to_string()
    }
}

impl TryFrom<String> for Lsn {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

/// A sequence number of a shard: a whole number of up to 40 digits, more than 128 bits hold.
///
/// Ordered as numbers, whatever zeros they are written with.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Sequence(Arc<str>);

impl Sequence {
    /// Its digits, without leading zeros.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Ord for Sequence {
    fn cmp(&self, other: &Self) -> Ordering {
        self.0.len().cmp(&other.0.len()).then_with(|| self.0.cmp(&other.0))
    }
}

impl PartialOrd for Sequence {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl fmt::Display for Sequence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for Sequence {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let digits = (1..=40).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit());
        if !digits {
            return Err(format!("'{text}' is not a sequence number: a whole number of up to 40 digits"));
        }
        let number = text.trim_start_matches('0');
        Ok(Self(Arc::from(if number.is_empty() { "0" } else { number })))
    }
}

impl From<Sequence> for String {
    fn from(sequence: Sequence) -> Self {
        sequence.0.to_string()
    }
}

impl TryFrom<String> for Sequence {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

/// A point inside a lane, in the terms of its kind of source.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Point {
    /// Everything of the transactions that committed before `commit` is in the log; of the one that committed at
    /// `commit`, everything when `done` is `None`, else its identities up to and including `done` (PROTOCOL.md §3).
    Postgres {
        /// The end of the commit record (what `START_REPLICATION` and `pg_replication_slots` speak of).
        commit: Lsn,
        /// The last identity of a large transaction that is in the log.
        done: Option<NativeId>,
    },
    /// Everything of the shard up to and including this record.
    Dynamodb {
        /// The record.
        sequence: Sequence,
    },
}

impl Point {
    /// `None` for points of two kinds of source, which one lane never has.
    fn compare(&self, other: &Self) -> Option<Ordering> {
        match (self, other) {
            (Self::Postgres { commit: a, done: x }, Self::Postgres { commit: b, done: y }) => {
                Some(a.cmp(b).then_with(|| match (x, y) {
                    (None, None) => Ordering::Equal,
                    (None, Some(_)) => Ordering::Greater,
                    (Some(_), None) => Ordering::Less,
                    (Some(x), Some(y)) => x.cmp(y),
                }))
            }
            (Self::Dynamodb { sequence: a }, Self::Dynamodb { sequence: b }) => Some(a.cmp(b)),
            (Self::Postgres { .. }, Self::Dynamodb { .. })
            | (Self::Dynamodb { .. }, Self::Postgres { .. }) => None,
        }
    }
}

/// A point in a lane.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Position {
    /// The lane.
    pub lane: Lane,
    /// The point in it.
    pub point: Point,
}

/// Two positions of different lanes were compared.
#[derive(Debug, thiserror::Error)]
#[error("positions of different lanes can't be compared: {0} and {1}")]
pub struct LaneMismatch(pub Lane, pub Lane);

impl Position {
    /// Which of two positions of one lane is further.
    ///
    /// # Errors
    /// [`LaneMismatch`] when the lanes differ.
    pub fn compare(&self, other: &Self) -> Result<Ordering, LaneMismatch> {
        let same_lane = self.lane == other.lane;
        let order = same_lane.then(|| self.point.compare(&other.point)).flatten();
        order.ok_or_else(|| LaneMismatch(self.lane.clone(), other.lane.clone()))
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.point {
            Point::Postgres { commit, done: None } => write!(f, "{commit}"),
            Point::Postgres { commit, done: Some(id) } => write!(f, "{commit}+{id}"),
            Point::Dynamodb { sequence } => write!(f, "{}:{sequence}", self.lane.stream),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(epoch: u64, commit: u64, done: Option<i64>) -> Position {
        Position {
            lane: Lane { source: "core".into(), stream: "slot".into(), epoch },
            point: Point::Postgres { commit: Lsn(commit), done: done.map(NativeId::Int) },
        }
    }

    #[test]
    fn a_whole_transaction_is_further_than_a_part_of_it() {
        assert_eq!(at(1, 7, Some(3)).compare(&at(1, 7, None)).ok(), Some(Ordering::Less));
        assert_eq!(at(1, 7, None).compare(&at(1, 8, Some(0))).ok(), Some(Ordering::Less));
        assert!(at(1, 7, None).compare(&at(2, 7, None)).is_err());
    }

    #[test]
    fn sequence_numbers_are_numbers_and_not_text() {
        let number = |text: &str| text.parse::<Sequence>().expect("a sequence number");
        assert!(number("900000000000000000000") < number("1000000000000000000000"));
        assert_eq!(number("000000000000000000042"), number("42"));
        assert!(number(&"9".repeat(39)) < number(&format!("1{}", "0".repeat(39))));
        for text in ["", "-1", "1.0", "0x1", " 1", &"1".repeat(41)] {
            assert!(text.parse::<Sequence>().is_err(), "{text}");
        }
    }

    #[test]
    fn lsn_text_round_trips() {
        let lsn: Lsn = "16/B374D848".parse().expect("an LSN");
        assert_eq!(lsn.to_string(), "16/B374D848");
        assert!("16B374D848".parse::<Lsn>().is_err());
    }
}
