//! Reading streams: lists of shards, iterators, records.

use std::sync::Arc;

use super::Core;
use super::error::{ApiError, ErrorCode};
use super::iterator::{GOOD_FOR_US, IteratorToken, Place};
use super::sequence::SequenceNumber;
use super::shards::{Record, Shard};
use super::stream::Stream;

/// One answer holds at most so much of records.
const ANSWER_BYTES_MAX: usize = 1024 * 1024;
/// And so many of them.
pub(crate) const RECORDS_MAX: usize = 1000;
/// A page of shards.
pub(crate) const SHARDS_MAX: usize = 100;

/// Where an iterator shall begin.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum StartAt {
    TrimHorizon,
    Latest,
    At(SequenceNumber),
    After(SequenceNumber),
    Timestamp(i64),
}

/// What goes wrong on purpose with one reading.
#[derive(Clone, Copy, Default, Debug)]
pub(crate) struct ReadFaults {
    /// The answer is empty although records follow.
    pub(crate) empty: bool,
    /// The end of a closed shard is said with an answer of its own.
    pub(crate) late_end: bool,
}

/// Shards of a stream.
#[derive(Debug)]
pub(crate) struct StreamPage<'a> {
    pub(crate) stream: &'a Stream,
    pub(crate) shards: Vec<&'a Shard>,
    pub(crate) last: Option<Arc<str>>,
}

/// Records of a shard.
#[derive(Debug)]
pub(crate) struct RecordsPage {
    pub(crate) shard: String,
    pub(crate) records: Vec<Arc<str>>,
    pub(crate) next: Option<String>,
}

impl Core {
    fn stream(&self, arn: &str) -> Result<&Stream, ApiError> {
        self.readable_streams().find(|stream| stream.arn == arn).ok_or_else(|| {
            ApiError::not_found(format!("Requested resource not found: Stream: {arn} not found"))
        })
    }

    fn shard<'a>(stream: &'a Stream, id: &str) -> Result<&'a Shard, ApiError> {
        stream.tree.listed(id).ok_or_else(|| {
            ApiError::not_found(format!(
                "Requested resource not found: Shard: {id} in Stream: {} not found",
                stream.arn
            ))
        })
    }

    /// A page of a stream's shards; `repeat` of them were on the page before.
    pub(crate) fn describe_stream(
        &self,
        arn: &str,
        after: Option<&str>,
        limit: usize,
        children_of: Option<&str>,
        repeat: usize,
    ) -> Result<StreamPage<'_>, ApiError> {
        let stream = self.stream(arn)?;
        let before = after.and_then(|id| stream.tree.before(id, repeat));
        let after = before.as_deref().or(after);
        let (shards, more) = stream.tree.page(after, limit, children_of);
        let last = if more { shards.last().map(|shard| Arc::clone(&shard.id)) } else { None };
        Ok(StreamPage { stream, shards, last })
    }

    /// An iterator.
    pub(crate) fn shard_iterator(&self, arn: &str, id: &str, start: StartAt) -> Result<String, ApiError> {
        let stream = self.stream(arn)?;
        let shard = Self::shard(stream, id)?;
        let place = match start {
            StartAt::TrimHorizon => first_of(shard.records.front(), shard),
            StartAt::Latest => Place::After(shard.last),
            StartAt::At(sequence) => {
                Self::check_sequence(shard, sequence)?;
                Place::At(sequence)
            }
            StartAt::After(sequence) => {
                Self::check_sequence(shard, sequence)?;
                Place::After(sequence)
            }
            StartAt::Timestamp(at_us) if at_us > self.now_us => {
                return Err(ApiError::validation("The timestamp must not be in the future"));
            }
            StartAt::Timestamp(at_us) => {
                let nth = shard.records.partition_point(|record| whole_seconds(record.at_us) < at_us);
                first_of(shard.records.get(nth), shard)
            }
        };
        let token =
            IteratorToken { stream_arn: arn.to_owned(), shard: id.to_owned(), place, issued_us: self.now_us };
        Ok(token.encode(self.settings.seed))
    }

    /// A number that is behind the trim point is refused, whether or not anything was behind it.
    fn check_sequence(shard: &Shard, sequence: SequenceNumber) -> Result<(), ApiError> {
        if shard.trimmed_through.is_some_and(|trimmed| sequence <= trimmed) {
            return Err(trimmed());
        }
        if sequence < shard.starting || sequence > shard.last {
            return Err(ApiError::validation(format!(
                "The sequence number {sequence} is not of shard {}",
                shard.id
            )));
        }
        Ok(())
    }

    /// The shard that an iterator is of.
    pub(crate) fn shard_of(&self, iterator: &str) -> Option<String> {
        IteratorToken::decode(iterator, self.settings.seed).map(|token| token.shard)
    }

    /// Records from an iterator on.
    pub(crate) fn get_records(
        &self,
        iterator: &str,
        limit: usize,
        faults: ReadFaults,
    ) -> Result<RecordsPage, ApiError> {
        let token = IteratorToken::decode(iterator, self.settings.seed)
            .ok_or_else(|| ApiError::validation("Invalid ShardIterator"))?;
        let stream = self.stream(&token.stream_arn)?;
        if self.now_us.saturating_sub(token.issued_us) > GOOD_FOR_US {
            return Err(ApiError::new(
                ErrorCode::ExpiredIterator,
                "Iterator expired. It was issued more than 15 minutes ago",
            ));
        }
        let shard = match stream.tree.known(&token.shard) {
            Some(shard) if shard.gone => return Err(trimmed()),
            Some(shard) if token.place.is_trimmed_in(shard) => return Err(trimmed()),
            Some(shard) => shard,
            None => return Err(ApiError::not_found("Requested resource not found: Shard not found")),
        };
        let from = token.place.index_in(shard);
        let mut records = Vec::new();
        let mut bytes = 0;
        let mut place = token.place;
        if !faults.empty {
            for record in shard.records.range(from..).take(limit) {
                bytes += record.json.len();
                if !records.is_empty() && bytes > ANSWER_BYTES_MAX {
                    break;
                }
                records.push(Arc::clone(&record.json));
                place = Place::After(record.sequence);
            }
        }
        let read_all = from + records.len() == shard.records.len();
        let said_later = faults.late_end && !records.is_empty();
        let ended = shard.closed_us.is_some() && read_all && !said_later;
        let next = (!ended).then(|| {
            IteratorToken { place, issued_us: self.now_us, ..token.clone() }.encode(self.settings.seed)
        });
        Ok(RecordsPage { shard: token.shard, records, next })
    }
}

fn first_of(record: Option<&Record>, shard: &Shard) -> Place {
    record.map_or(Place::After(shard.last), |record| Place::At(record.sequence))
}

/// Records say when they were made in whole seconds.
fn whole_seconds(at_us: i64) -> i64 {
    at_us.div_euclid(1_000_000) * 1_000_000
}

fn trimmed() -> ApiError {
    ApiError::new(ErrorCode::TrimmedDataAccess, "The data you are trying to access has been trimmed")
}
