//! What a roster partition must remember beside its identities: its state in `progress`.

use std::collections::{BTreeMap, BTreeSet};

use rollcall_model::{BackfillId, Cause, EnvironmentId, SegmentId, Seq, SourceName, Version};
use serde::{Deserialize, Serialize};

/// Everything a restart needs to go on where the last commit stood.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct RosterState {
    /// The last commit.
    pub seq: Seq,
    /// The highest version among tombstones that were dropped.
    pub version_floor: Version,
    /// The highest source time met, in microseconds: the time of what has no time of its own (fills).
    pub clock_us: i64,
    /// Catalog numbers reached, per writer.
    pub catalog: BTreeMap<SourceName, u64>,
    /// Backfills under way, per source.
    pub backfills: BTreeMap<SourceName, BackfillId>,
    /// Sources of which one whole backfill has ended: their counts are exact from then on.
    pub loaded: BTreeSet<SourceName>,
    /// Segments that raised on an identity: the document's catalog number and the reason.
    pub suspended: BTreeMap<SegmentId, (u64, String)>,
    /// Fills under way, and where their common cursor stands.
    pub fills: Fills,
    /// When tombstones were last swept, in source time.
    pub tombstones_swept_us: i64,
}

/// The fills of a partition: one cursor goes round the store, each job rides from where it joined to there again
/// (PROTOCOL.md §4, Fill).
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Fills {
    /// The last key visited, in hex; `None` at the start of a round.
    #[serde(with = "hex_key")]
    pub cursor: Option<Vec<u8>>,
    /// The jobs aboard.
    pub jobs: Vec<FillJob>,
}

/// One fill.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct FillJob {
    /// What is judged again.
    pub scope: FillScope,
    /// Why.
    pub cause: Cause,
    /// The cursor when it joined.
    #[serde(with = "hex_key")]
    pub joined: Option<Vec<u8>>,
    /// Whether the cursor has gone past the end since.
    pub wrapped: bool,
    /// Who waits for its report.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub report: Option<String>,
    /// Identities judged.
    pub identities: u64,
    /// Identities whose set differed.
    pub differed: u64,
}

/// What a fill judges again: all segments in `environments`, and `segments` everywhere else.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct FillScope {
    /// Segments judged again wherever they are judged.
    pub segments: BTreeSet<SegmentId>,
    /// Environments judged again whole.
    pub environments: BTreeSet<EnvironmentId>,
    /// Every segment in every environment.
    #[serde(default)]
    pub everything: bool,
    /// Only the identities of this environment (an operator's fill of one segment in one environment).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub only: Option<EnvironmentId>,
}

impl FillScope {
    /// Whether nothing is to be judged.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        !self.everything && self.segments.is_empty() && self.environments.is_empty()
    }

    /// Whether it judges this segment in this environment.
    #[must_use]
    pub fn covers(&self, segment: &SegmentId, environment: &EnvironmentId) -> bool {
        self.only.as_ref().is_none_or(|only| only == environment)
            && (self.everything || self.environments.contains(environment) || self.segments.contains(segment))
    }
}

mod hex_key {
    use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error};

    // `serde(with)` hands a reference to the whole field.
    #[allow(clippy::ref_option)]
    pub(super) fn serialize<S: Serializer>(key: &Option<Vec<u8>>, s: S) -> Result<S::Ok, S::Error> {
        key.as_ref().map(|k| k.iter().map(|b| format!("{b:02x}")).collect::<String>()).serialize(s)
    }
    pub(super) fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<Option<Vec<u8>>, D::Error> {
        let Some(text) = Option::<String>::deserialize(d)? else { return Ok(None) };
        let bytes = text
            .as_bytes()
            .chunks(2)
            .map(|pair| std::str::from_utf8(pair).ok().and_then(|p| u8::from_str_radix(p, 16).ok()));
        bytes.collect::<Option<Vec<u8>>>().map(Some).ok_or_else(|| D::Error::custom("not a key in hex"))
    }
}
