//! The values of the topics, as JSON. `schemas/topics` holds their JSON Schemas.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::change::{Change, Image};
use crate::fingerprint::Fingerprint;
use crate::ids::{EnvironmentId, IdentityKey, NativeId, SegmentId, SourceName};
use crate::place::{LogId, Partition, Place, Seq, Version};

/// `identity-changes`: what a source transaction or page says of one identity.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ChangeRecord {
    /// The source.
    pub source: SourceName,
    /// The identity's id there.
    pub id: NativeId,
    /// What it says.
    #[serde(flatten)]
    pub change: Change,
    /// The source's clock at COMMIT, or when the page was read.
    pub source_time_us: i64,
    /// The source's position, as text.
    pub position: String,
    /// The page's backfill, when it came by one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backfill: Option<crate::source::BackfillId>,
    /// What decides between this and what else is said of the identity.
    #[serde(default, skip_serializing_if = "Precedence::is_place")]
    pub precedence: Precedence,
}

/// What decides between a record and what else is said of its identity (PROTOCOL.md §4, Backfill beside the stream).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Precedence {
    /// Its place in the log alone: a page of Postgres has the stream folded in.
    #[default]
    Place,
    /// Its place; and its time is remembered, for what a backfill finds.
    Streamed,
    /// Found by a backfill as it was at `cut_us` or later, by the source's clock: what the stream said of it since wins.
    Found {
        /// The time, in microseconds.
        cut_us: i64,
    },
}

impl Precedence {
    /// Whether it is the usual one, which is not written.
    #[must_use]
    pub fn is_place(&self) -> bool {
        matches!(self, Self::Place)
    }
}

impl ChangeRecord {
    /// The identity it speaks of.
    #[must_use]
    pub fn key(&self) -> IdentityKey {
        IdentityKey { source: self.source.clone(), id: self.id.clone() }
    }
}

/// What an identity is.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum IdentityState {
    /// It exists.
    Live(Image),
    /// It existed.
    Deleted,
    /// Only parts of it were seen: kept, unjudged, until its page comes (PROTOCOL.md §4, Patch never creates).
    Pending {
        /// The changes, in order.
        patches: Vec<WaitingPatch>,
    },
}

/// A patch that waits for its identity.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct WaitingPatch {
    /// Its place on `identity-changes`.
    pub place: Place,
    /// What came.
    pub change: ChangeRecord,
}

/// `identities`: the merged image, or a tombstone.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct IdentityRecord {
    /// The log.
    pub log_id: LogId,
    /// The roster partition.
    pub partition: Partition,
    /// The commit.
    pub seq: Seq,
    /// The version.
    pub version: Version,
    /// Whether readers should take it as gone (deleted, or never whole).
    pub deleted: bool,
    /// The source.
    pub source: SourceName,
    /// The native id; ClickHouse's `id`.
    pub id: NativeId,
    /// The environment's api key, where the environment is known: ClickHouse's `environment_id`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub environment_key: Option<String>,
    /// `identity.key` as rules see it, where the environment is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub identity_key: Option<String>,
    /// What it is.
    #[serde(flatten)]
    pub state: IdentityState,
    /// Api keys of environments it has left: ClickHouse gets a deleted row for each.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub left_environment_keys: BTreeSet<String>,
    /// The last change applied; changes at or before it are ignored.
    pub place: Place,
    /// Places of its changes that wait in quarantine; while there are any it is parked and later changes follow.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub parked: Vec<Place>,
    /// When the stream last spoke of it and which backfill last saw it, where that decides between the two.
    #[serde(default, skip_serializing_if = "Seen::is_nothing")]
    pub seen: Seen,
}

/// What is remembered of who spoke of an identity last, for sources whose backfills are told from their stream by time.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Seen {
    /// When the stream last wrote or deleted it, by the source's clock, in microseconds; 0 for never.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub streamed_us: i64,
    /// The last backfill that found it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backfill: Option<crate::source::BackfillId>,
}

impl Seen {
    /// Whether nothing is remembered.
    #[must_use]
    pub fn is_nothing(&self) -> bool {
        *self == Self::default()
    }
}

// `serde` hands a reference.
#[allow(clippy::trivially_copy_pass_by_ref)]
fn is_zero(number: &i64) -> bool {
    *number == 0
}

/// One segment an identity is in.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Member {
    /// The segment.
    pub segment_id: SegmentId,
    /// Since when, microseconds; survives replays, re-judging and rebuilds.
    pub since_us: i64,
    /// Why: `rule` in this version.
    pub sources: Vec<String>,
}

/// `memberships`: the current segments of one identity (PROTOCOL.md §7).
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct MembershipRecord {
    /// The log.
    pub log_id: LogId,
    /// The commit.
    pub seq: Seq,
    /// The version.
    pub version: Version,
    /// The source.
    pub source: SourceName,
    /// The native id.
    pub id: NativeId,
    /// The environment.
    pub environment_id: EnvironmentId,
    /// Its api key.
    pub environment_key: String,
    /// The identifier.
    pub identifier: String,
    /// The segments, in order of id.
    pub segments: Vec<Member>,
}

/// Why a membership changed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Cause {
    /// The identity changed.
    Change,
    /// A segment or environment changed.
    Definition,
    /// A gate changed.
    Gate,
    /// A person said so.
    Manual,
    /// Its time ran out.
    Expiry,
    /// A store downstream differed.
    Repair,
}

/// `membership-changes`: one record per identity and source transaction that changed it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct MembershipChange {
    /// Unique and the same after a replay: `log-partition-seq-n`.
    pub event_id: String,
    /// The log.
    pub log_id: LogId,
    /// The environment.
    pub environment_id: EnvironmentId,
    /// Its api key.
    pub environment_key: String,
    /// The source.
    pub source: SourceName,
    /// The native id.
    pub id: NativeId,
    /// The identifier.
    pub identifier: String,
    /// `identity.key` as rules see it.
    pub identity_key: String,
    /// The version.
    pub version: Version,
    /// The commit.
    pub seq: Seq,
    /// Trait keys touched.
    pub changed: BTreeSet<String>,
    /// Segments entered.
    pub entered: Vec<SegmentId>,
    /// Segments left.
    pub left: Vec<SegmentId>,
    /// Why.
    pub cause: Cause,
    /// The source's clock at the change.
    pub at_us: i64,
    /// The source's position, as text; empty when no source row changed.
    pub position: String,
}

/// How a count is to be read.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum CountState {
    /// Exact.
    Live,
    /// A fill is running over it.
    Filling,
    /// Not judged, with the reason; no members and no count.
    Unsupported {
        /// Why.
        reason: String,
    },
    /// The segment or environment is gone.
    Removed,
}

/// `segment-counts`: one partition's part of the count of a (segment, environment).
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct CountRecord {
    /// The log.
    pub log_id: LogId,
    /// The segment.
    pub segment_id: SegmentId,
    /// The environment.
    pub environment_id: EnvironmentId,
    /// The partition.
    pub partition: Partition,
    /// Members, absolute.
    pub count: u64,
    /// Their fingerprint.
    pub fingerprint: Fingerprint,
    /// The commit.
    pub seq: Seq,
    /// How to read it.
    #[serde(flatten)]
    pub state: CountState,
}

/// Passed on under `control/watermark/<source>`: how far a source has come in a partition.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct WatermarkRecord {
    /// The source.
    pub source: SourceName,
    /// The partition.
    pub partition: Partition,
    /// Its position, as text.
    pub position: String,
    /// The source's clock there.
    pub at_us: i64,
    /// The commit.
    pub seq: Seq,
}

/// `quarantine`: what could not be processed. Key: `identity key/place`, so that a replay writes it once.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct QuarantineRecord {
    /// The identity, where it is known; it is parked until this is replayed or a whole image replaces it.
    pub key: Option<IdentityKey>,
    /// Why.
    pub reason: String,
    /// Which part put it here: `roster`, `sink-clickhouse`, …
    pub origin: String,
    /// The record as it was on `identity-changes`, or the row a sink would not take.
    pub payload: serde_json::Value,
    /// Its place on `identity-changes`, where it has one.
    pub place: Option<Place>,
    /// The source's position, as text.
    pub position: String,
    /// Whether it parks its identity.
    pub parks: bool,
}

/// `checks`: what one store holds of one partition at one place.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct CheckReport {
    /// Which check.
    pub id: String,
    /// Who answers: `roster`, or the sink's name in the topology.
    pub store: String,
    /// The partition.
    pub partition: Partition,
    /// Per (segment, environment): count and fingerprint. Absent means none.
    pub totals: Vec<CheckTotal>,
    /// For `Buckets`: count and fingerprint per bucket.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub buckets: BTreeMap<u8, (u64, Fingerprint)>,
    /// For `Members`: native ids as text, at most 100,000.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub members: BTreeSet<String>,
    /// Differences a sink found in itself (counts: platform rows against the ledger), a line each.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub differences: Vec<String>,
}

/// `checks`: how an operator's fill went in one partition.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct FillReport {
    /// Which fill.
    pub id: String,
    /// The partition.
    pub partition: Partition,
    /// Identities judged.
    pub identities: u64,
    /// Identities whose set differed.
    pub differed: u64,
}

/// One line of a check.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct CheckTotal {
    /// The segment.
    pub segment_id: SegmentId,
    /// The environment's id. A store that only knows the api key gives that in `environment_key` instead.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub environment_id: Option<EnvironmentId>,
    /// The environment's api key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub environment_key: Option<String>,
    /// Members.
    pub count: u64,
    /// Their fingerprint.
    pub fingerprint: Fingerprint,
}
