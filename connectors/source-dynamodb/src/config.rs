//! What a DynamoDB source is told.

use rollcall_aws::AwsConfig;
use rollcall_model::SourceName;
use rollcall_model::shards::StreamStart;

/// Tasks that share a stream's shards.
pub const READERS: u16 = 4;
/// The first pause after an empty answer.
pub const IDLE_POLL_MS: u64 = 250;
/// The longest pause after empty answers.
pub const IDLE_POLL_MAX_MS: u64 = 1_000;
/// Between two looks at which shards there are.
pub const DISCOVER_MS: u64 = 10_000;
/// What DynamoDB allows one shard's readers together.
pub const CALLS_PER_SHARD_PER_S: u32 = 5;
/// What two clocks of DynamoDB, and its whole seconds, may differ by.
pub const CLOCK_SLACK_MS: u64 = 5_000;
/// A record can be read this long after it was written, and AWS's clock is told in whole seconds.
pub(crate) const SETTLE_US: i64 = 2_000_000;
/// Shards that a reader asks at one time.
pub const SHARDS_IN_FLIGHT_MAX: usize = 64;
/// Between two words of how far idle shards have been read.
pub const PROGRESS_MS: u64 = 1_000;
/// What waits in memory for the log.
pub const QUEUE_BYTES_MAX: usize = 64 << 20;

/// A table whose stream is read.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct DynamoSourceConfig {
    /// Its name in the topology.
    pub name: SourceName,
    /// The table.
    pub table: String,
    /// Its hash key, a text: what an item is known by.
    pub key: &'static str,
    /// Region, endpoint, credentials.
    pub aws: AwsConfig,
    /// Where the stream begins, the first time.
    pub start: StreamStart,
    /// Tasks that share its shards; fixed once the stream has begun.
    pub readers: u16,
    /// The first pause after an empty answer; it doubles.
    pub idle_poll_ms: u64,
    /// The longest pause after empty answers.
    pub idle_poll_max_ms: u64,
    /// Between two looks at which shards there are.
    pub discover_ms: u64,
    /// Calls to one shard in a second, at most.
    pub calls_per_shard_per_s: u32,
    /// What clocks may differ by.
    pub clock_slack_ms: u64,
    /// Shards that a reader asks at one time; the others take their turns.
    pub shards_in_flight_max: usize,
    /// Between two words of how far idle shards have been read.
    pub progress_ms: u64,
    /// What waits in memory for the log, about.
    pub queue_bytes_max: usize,
}

impl DynamoSourceConfig {
    /// The usual settings.
    #[must_use]
    pub fn new(name: SourceName, table: impl Into<String>, key: &'static str, aws: AwsConfig) -> Self {
        Self {
            name,
            table: table.into(),
            key,
            aws,
            start: StreamStart::Latest,
            readers: READERS,
            idle_poll_ms: IDLE_POLL_MS,
            idle_poll_max_ms: IDLE_POLL_MAX_MS,
            discover_ms: DISCOVER_MS,
            calls_per_shard_per_s: CALLS_PER_SHARD_PER_S,
            clock_slack_ms: CLOCK_SLACK_MS,
            shards_in_flight_max: SHARDS_IN_FLIGHT_MAX,
            progress_ms: PROGRESS_MS,
            queue_bytes_max: QUEUE_BYTES_MAX,
        }
    }

    pub(crate) fn slack_us(&self) -> i64 {
        i64::try_from(self.clock_slack_ms).unwrap_or(i64::MAX).saturating_mul(1_000)
    }

    /// The command that gives the table a stream this source can read.
    #[must_use]
    pub(crate) fn enable_stream(&self) -> String {
        format!(
            "aws dynamodb update-table --region {} --table-name {} --stream-specification \
             StreamEnabled=true,StreamViewType=NEW_AND_OLD_IMAGES",
            self.aws.region, self.table
        )
    }

    /// The command that brings back what a stream no longer holds.
    #[must_use]
    pub(crate) fn repair(&self) -> String {
        format!("rollcall backfill {} --repair", self.name)
    }
}
