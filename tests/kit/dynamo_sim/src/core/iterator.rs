//! Iterators: where in a shard reading goes on, and since when they are good.
//!
//! A token holds all of it, so that the server remembers none; a check number makes forged ones invalid.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::draw::draw;
use super::sequence::SequenceNumber;
use super::shards::Shard;

/// How long an iterator is good.
pub(crate) const GOOD_FOR_US: i64 = 15 * 60 * 1_000_000;

/// Where reading goes on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Place {
    /// With this record.
    At(SequenceNumber),
    /// With the one behind it.
    After(SequenceNumber),
}

impl Place {
    /// The first record to send, among those that the shard holds.
    pub(crate) fn index_in(self, shard: &Shard) -> usize {
        shard.records.partition_point(|record| match self {
            Self::At(sequence) => record.sequence < sequence,
            Self::After(sequence) => record.sequence <= sequence,
        })
    }

    /// Whether a record that it would send is no longer there.
    pub(crate) fn is_trimmed_in(self, shard: &Shard) -> bool {
        shard.trimmed_through.is_some_and(|trimmed| match self {
            Self::At(sequence) => sequence <= trimmed,
            Self::After(sequence) => sequence < trimmed,
        })
    }
}

/// What a token says.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct IteratorToken {
    pub(crate) stream_arn: String,
    pub(crate) shard: String,
    pub(crate) place: Place,
    pub(crate) issued_us: i64,
}

impl IteratorToken {
    pub(crate) fn encode(&self, seed: u64) -> String {
        let (kind, sequence) = match self.place {
            Place::At(sequence) => ("at", sequence),
            Place::After(sequence) => ("after", sequence),
        };
        let inner = format!("{}/{kind}/{sequence}/{}", self.shard, self.issued_us);
        let check = draw(seed, &inner, 2);
        format!("{}|1|{}", self.stream_arn, STANDARD.encode(format!("{inner}/{check:016x}")))
    }

    /// `None` for what this server never said.
    pub(crate) fn decode(text: &str, seed: u64) -> Option<Self> {
        let (stream_arn, rest) = text.split_once("|1|")?;
        let decoded = String::from_utf8(STANDARD.decode(rest).ok()?).ok()?;
        let (inner, check) = decoded.rsplit_once('/')?;
        if check != format!("{:016x}", draw(seed, inner, 2)) {
            return None;
        }
        let mut parts = inner.split('/');
        let (shard, kind) = (parts.next()?, parts.next()?);
        let sequence = parts.next()?.parse().ok()?;
        Some(Self {
            stream_arn: stream_arn.to_owned(),
            shard: shard.to_owned(),
            place: if kind == "at" { Place::At(sequence) } else { Place::After(sequence) },
            issued_us: parts.next()?.parse().ok()?,
        })
    }
}
