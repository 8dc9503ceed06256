//! What goes wrong on purpose, and what is too fast.
//!
//! A fault is drawn from the seed, the action, its shard and how often that was asked, so that a reader which asks each
//! shard in the same order meets the same faults, whatever other readers do meanwhile.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};

use crate::core::{ApiError, ErrorCode, ReadFaults, draw, falls};
use crate::wire::{Action, WireFaults};

/// Faults, each so often in a hundred requests that can meet it.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Faults {
    /// The request comes too fast.
    pub throttled_percent: u8,
    /// The server fails (HTTP 500), having done nothing.
    pub internal_error_percent: u8,
    /// The answer takes up to [`Faults::slow_ms_max`].
    pub slow_percent: u8,
    /// How slow an answer gets, in real milliseconds.
    pub slow_ms_max: u64,
    /// The work is done and the connection closes without an answer.
    pub lost_answer_percent: u8,
    /// A page of DescribeStream says shards of the page before again.
    pub repeated_shards_percent: u8,
    /// GetRecords answers no records although some follow.
    pub empty_records_percent: u8,
    /// A closed shard's last records come with an iterator; the end follows with the next answer.
    pub late_end_percent: u8,
    /// BatchGetItem and BatchWriteItem leave half undone.
    pub unprocessed_percent: u8,
    /// An iterator is expired before its time.
    pub expired_iterator_percent: u8,
    /// What an iterator points to was trimmed (it was not: a reader that goes on from where it was finds it all).
    pub trimmed_iterator_percent: u8,
    /// What the caller has no right to.
    pub denied: BTreeSet<Action>,
}

impl Faults {
    /// Everything that a reader must bear without a word, `percent` of each.
    #[must_use]
    pub fn bearable(percent: u8) -> Self {
        Self {
            throttled_percent: percent,
            internal_error_percent: percent,
            lost_answer_percent: percent,
            repeated_shards_percent: percent,
            empty_records_percent: percent,
            late_end_percent: percent,
            unprocessed_percent: percent,
            expired_iterator_percent: percent,
            ..Self::default()
        }
    }
}

/// What shall become of one request.
#[derive(Debug, Default)]
pub(crate) struct Fate {
    /// It is refused, undone.
    pub(crate) refused: Option<ApiError>,
    /// It is done, and the answer lost.
    pub(crate) lost: bool,
    /// The answer waits so long.
    pub(crate) slow_ms: u64,
    /// What is odd about the answer.
    pub(crate) wire: WireFaults,
}

/// Draws fates.
#[derive(Debug, Default)]
pub(crate) struct FaultPlan {
    pub(crate) faults: Faults,
    seed: u64,
    asked: HashMap<(Action, Option<String>), u64>,
    /// Refusals that are due at the next requests, whatever is drawn.
    next: BTreeMap<Action, VecDeque<ApiError>>,
}

impl FaultPlan {
    pub(crate) fn new(seed: u64) -> Self {
        Self { seed, ..Self::default() }
    }

    /// The next request for `action` is refused.
    pub(crate) fn refuse_next(&mut self, action: Action, error: ApiError) {
        self.next.entry(action).or_default().push_back(error);
    }

    /// The fate of a request for `action` about `shard`.
    pub(crate) fn fate(&mut self, action: Action, shard: Option<&str>) -> Fate {
        let asked = self.asked.entry((action, shard.map(str::to_owned))).or_default();
        let nth = *asked;
        *asked += 1;
        let name = shard.unwrap_or("");
        let (seed, faults) = (self.seed, &self.faults);
        let drawn = |what: &str, percent: u8| {
            percent > 0 && falls(seed, &format!("{what} {} {name}", action.name()), nth, percent)
        };
        let due = self.next.get_mut(&action).and_then(VecDeque::pop_front);
        let refused = due.or_else(|| {
            if faults.denied.contains(&action) {
                Some(denied(action))
            } else if drawn("throttled", faults.throttled_percent) {
                Some(too_fast(action))
            } else if drawn("internal", faults.internal_error_percent) {
                Some(ApiError::new(ErrorCode::InternalServerError, "Internal server error"))
            } else if action == Action::GetRecords && drawn("expired", faults.expired_iterator_percent) {
                Some(ApiError::new(ErrorCode::ExpiredIterator, "Iterator expired"))
            } else if action == Action::GetRecords && drawn("trimmed", faults.trimmed_iterator_percent) {
                Some(ApiError::new(
                    ErrorCode::TrimmedDataAccess,
                    "The data you are trying to access has been trimmed",
                ))
            } else {
                None
            }
        });
        let slow = drawn("slow", faults.slow_percent);
        Fate {
            refused,
            lost: drawn("lost", faults.lost_answer_percent),
            slow_ms: if slow { draw(seed, "slow", nth) % (faults.slow_ms_max + 1) } else { 0 },
            wire: WireFaults {
                read: ReadFaults {
                    empty: drawn("empty", faults.empty_records_percent),
                    late_end: drawn("late end", faults.late_end_percent),
                },
                repeated_shards: if drawn("repeated", faults.repeated_shards_percent) { 10 } else { 0 },
                unprocessed: drawn("unprocessed", faults.unprocessed_percent),
            },
        }
    }
}

fn denied(action: Action) -> ApiError {
    ApiError::new(
        ErrorCode::AccessDenied,
        format!(
            "User: arn:aws:iam::000000000000:user/rollcall is not authorized to perform: dynamodb:{} because no identity-based policy allows the dynamodb:{} action",
            action.name(),
            action.name()
        ),
    )
}

/// The refusal of what comes too fast. Streams say ThrottlingException, which the API reference doesn't list but the
/// service sends (the Kinesis adapter translates it: `AmazonServiceExceptionTransformer`); tables have a name of their own.
fn too_fast(action: Action) -> ApiError {
    if action.is_of_streams() || matches!(action, Action::DescribeTable | Action::UpdateTable) {
        ApiError::new(ErrorCode::Throttling, "Rate exceeded")
    } else {
        ApiError::new(
            ErrorCode::ProvisionedThroughputExceeded,
            "The level of configured provisioned throughput for the table was exceeded. Consider increasing your provisioning level with the UpdateTable API.",
        )
    }
}

/// How often a second GetRecords may be asked of one shard.
const GET_RECORDS_A_SECOND: u32 = 5;
/// How often a second DescribeStream may be asked.
const DESCRIBE_STREAM_A_SECOND: u32 = 10;

/// Counts requests of each second of real time, since those who wait do so in real time.
#[derive(Debug, Default)]
pub(crate) struct Rates {
    seen: HashMap<String, (u64, u32)>,
}

impl Rates {
    /// Counts a request; the refusal if it is one too many.
    pub(crate) fn count(
        &mut self,
        action: Action,
        shard: Option<&str>,
        real_us: u64,
    ) -> Result<(), ApiError> {
        let most = match action {
            Action::GetRecords => GET_RECORDS_A_SECOND,
            Action::DescribeStream => DESCRIBE_STREAM_A_SECOND,
            Action::BatchGetItem
            | Action::BatchWriteItem
            | Action::DeleteItem
            | Action::DescribeTable
            | Action::GetItem
            | Action::GetShardIterator
            | Action::ListStreams
            | Action::PutItem
            | Action::Query
            | Action::Scan
            | Action::UpdateTable => return Ok(()),
        };
        let second = real_us / 1_000_000;
        let key = format!("{} {}", action.name(), shard.unwrap_or(""));
        let seen = self.seen.entry(key).or_insert((second, 0));
        if seen.0 != second {
            *seen = (second, 0);
        }
        seen.1 += 1;
        if seen.1 > most { Err(too_fast(action)) } else { Ok(()) }
    }
}
