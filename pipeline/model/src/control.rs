//! What enters a roster partition through `identity-changes`, in order: changes and control records.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::ids::{EnvironmentId, IdentityKey, NativeId, SegmentId, SourceName};
use crate::records::ChangeRecord;
use crate::source::BackfillId;

/// The key under which a control record stands, so that no identity's key can be taken for it.
pub const CONTROL_KEY: &str = "control/";

/// How much a check publishes (PROTOCOL.md §6).
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CheckScope {
    /// Count and fingerprint of every (segment, environment) of the partition.
    Totals,
    /// Count and fingerprint of one, per range of hashed ids: bucket = top 8 bits of `xxh64(id)`.
    Buckets {
        /// The segment.
        segment_id: SegmentId,
        /// The environment.
        environment_id: EnvironmentId,
    },
    /// The members of one in some buckets.
    Members {
        /// The segment.
        segment_id: SegmentId,
        /// The environment.
        environment_id: EnvironmentId,
        /// The buckets.
        buckets: BTreeSet<u8>,
    },
}

/// What a TRUNCATE emptied.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Truncated {
    /// The identities of the source.
    Identities,
    /// Their traits.
    Traits,
}

/// What the end of a backfill says of stored identities that it did not find.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Unfound {
    /// Nothing: its pages said what is gone, or it was only of a part.
    #[default]
    Stay,
    /// It was whole as of this time, by the source's clock, in microseconds: those of which the stream said nothing since
    /// are gone.
    Gone {
        /// The time.
        since_us: i64,
    },
    /// It was of what was written in a window: those of which the stream spoke last in it, by the source's clock, in
    /// microseconds, are gone. If they had lived at its end, they would have been found.
    GoneIfStreamed {
        /// The first time that is surely in the window.
        from_us: i64,
        /// The last one.
        to_us: i64,
    },
}

impl Unfound {
    /// Whether they stay.
    #[must_use]
    pub fn is_stay(&self) -> bool {
        *self == Self::Stay
    }
}

/// One record of `identity-changes`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Input {
    /// What a source says of one identity.
    Change(ChangeRecord),
    /// The catalog of `writer` has reached `number`: go on only with it.
    Catalog {
        /// A source, or `topology`.
        writer: SourceName,
        /// Its number.
        number: u64,
    },
    /// A backfill starts.
    Begin {
        /// The source.
        source: SourceName,
        /// The backfill.
        backfill: BackfillId,
        /// Changes before it may be missing: until it ends, counts can't be called exact.
        #[serde(default)]
        gap: bool,
    },
    /// A page, before its images in the same commit: every stored identity of this source with an id in
    /// `[from, to)` that is not `present` is gone.
    Page {
        /// The source.
        source: SourceName,
        /// The backfill.
        backfill: BackfillId,
        /// First id of the range; `None` is from the first.
        from: Option<NativeId>,
        /// End of the range, exclusive; `None` is open.
        to: Option<NativeId>,
        /// The identities of the page that live in this partition.
        present: BTreeSet<NativeId>,
        /// When the source read it, for versions.
        source_time_us: i64,
    },
    /// A backfill has ended: patches still waiting for their identity go to quarantine.
    End {
        /// The source.
        source: SourceName,
        /// The backfill.
        backfill: BackfillId,
        /// What this says of stored identities that it did not find.
        #[serde(default, skip_serializing_if = "Unfound::is_stay")]
        unfound: Unfound,
    },
    /// A table was emptied; stands before the changes of its transaction.
    Truncate {
        /// The source.
        source: SourceName,
        /// Which table.
        what: Truncated,
        /// Commit time, for versions.
        source_time_us: i64,
    },
    /// Everything the source committed up to here precedes this record.
    Watermark {
        /// The source.
        source: SourceName,
        /// Its position, as text.
        position: String,
        /// The source's clock there.
        at_us: i64,
    },
    /// Publish count and fingerprint at this very place.
    Check {
        /// Which check.
        id: String,
        /// How much.
        scope: CheckScope,
    },
    /// An operator's fill: judge the stored identities again.
    Fill {
        /// Whose report it is.
        id: String,
        /// One segment, or all.
        segment_id: Option<SegmentId>,
        /// One environment, or all.
        environment_id: Option<EnvironmentId>,
    },
    /// Drive the quarantined changes of an identity again, in order.
    Replay {
        /// The identity.
        key: IdentityKey,
    },
    /// A segment raised on an identity of another partition: it is unsupported until it is edited.
    Suspend {
        /// The segment.
        segment_id: SegmentId,
        /// The catalog number of the document that raised; a newer document is judged again.
        number: u64,
        /// Why.
        reason: String,
    },
    /// Say again what is true of these identities in one segment, because a store downstream differs.
    Repair {
        /// The segment.
        segment_id: SegmentId,
        /// The environment.
        environment_id: EnvironmentId,
        /// The identities (empty: only the count).
        ids: Vec<NativeId>,
    },
}
