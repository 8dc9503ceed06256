//! What can be set of an embedded log, and why the defaults are what they are.

use std::fmt;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

/// Eight rosters keep a small machine busy; more partitions cost little, but can't be added later.
pub const DEFAULT_PARTITIONS: u16 = 8;
/// A week: what an operator needs to notice a stopped sink, and to replay from before a bad deployment.
pub const DEFAULT_RETENTION_MS: u64 = 7 * 24 * 3_600_000;
/// Per partition of a time-retained topic: with 8 partitions and two such topics about 64 GiB at most.
pub const DEFAULT_RETENTION_BYTES_MAX: u64 = 4 << 30;
/// When this much is kept the sources stop. Above what retention allows, so that it says that something is wrong.
pub const DEFAULT_BYTES_MAX: u64 = 128 << 30;
/// 36 days: longer than any export lives (PROTOCOL.md §4, Tombstones).
pub const DEFAULT_TOMBSTONE_RETENTION_MS: u64 = 36 * 24 * 3_600_000;
/// The store needs room to flush and merge what it has already promised to keep.
pub const DEFAULT_DISK_FREE_BYTES_MIN: u64 = 512 << 20;
/// Often enough that a pass is small, seldom enough that an idle log costs nothing.
pub const DEFAULT_UPKEEP_INTERVAL_MS: u64 = 10_000;
/// Readers follow the head closely, so that most reads find their blocks here.
pub const DEFAULT_CACHE_BYTES: u64 = 32 << 20;
/// Well below the 1,024 that a shell usually grants a process.
pub const DEFAULT_OPEN_FILES_MAX: usize = 256;

/// A clock in milliseconds since 1970. An argument, so that tests decide what time it is.
#[derive(Clone)]
pub struct Clock(Arc<dyn Fn() -> u64 + Send + Sync>);

impl Clock {
    /// A clock of one's own.
    pub fn new(now_ms: impl Fn() -> u64 + Send + Sync + 'static) -> Self {
        Self(Arc::new(now_ms))
    }

    /// The machine's clock.
    #[must_use]
    pub fn system() -> Self {
        // A clock before 1970 keeps records too long, never too short.
        Self::new(|| SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64))
    }

    pub(crate) fn now_ms(&self) -> u64 {
        (self.0)()
    }
}

impl fmt::Debug for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Clock")
    }
}

/// The settings of an embedded log.
#[derive(Clone, Debug)]
pub struct EmbeddedLogConfig {
    /// Partitions of the identity topics; fixed when the log is made.
    pub partitions: u16,
    /// Records of time-retained topics older than this go, once every task that reads them has.
    pub retention_ms: u64,
    /// The oldest records of a time-retained partition go when it holds more than this, on the same condition.
    pub retention_bytes_max: u64,
    /// When all records together take more than this (before compression), commits of sources fail until there is
    /// room again. Rosters and sinks go on, so that there can be.
    pub bytes_max: u64,
    /// A removed key is remembered this long, so that a reader that was away learns of it.
    pub tombstone_retention_ms: u64,
    /// With less free space on the disk, commits of sources fail; with less than half of it, everybody's.
    pub disk_free_bytes_min: u64,
    /// Pause between two passes of compaction and retention.
    pub upkeep_interval_ms: u64,
    /// Cache for blocks read from disk.
    pub cache_bytes: u64,
    /// Files of the store that are kept open at once.
    pub open_files_max: usize,
    /// What time it is.
    pub clock: Clock,
}

impl Default for EmbeddedLogConfig {
    fn default() -> Self {
        Self {
            partitions: DEFAULT_PARTITIONS,
            retention_ms: DEFAULT_RETENTION_MS,
            retention_bytes_max: DEFAULT_RETENTION_BYTES_MAX,
            bytes_max: DEFAULT_BYTES_MAX,
            tombstone_retention_ms: DEFAULT_TOMBSTONE_RETENTION_MS,
            disk_free_bytes_min: DEFAULT_DISK_FREE_BYTES_MIN,
            upkeep_interval_ms: DEFAULT_UPKEEP_INTERVAL_MS,
            cache_bytes: DEFAULT_CACHE_BYTES,
            open_files_max: DEFAULT_OPEN_FILES_MAX,
            clock: Clock::system(),
        }
    }
}
