//! What the HTTP API answers under `/api/v1`, and what `--json` prints: one of these per line.

mod log;
mod rebuild;

use serde::{Deserialize, Serialize};

pub(crate) use log::{PlannedReplay, ReplayUnderway, ReplayedPartition, Replaying, TopicDescription, Topics};
pub(crate) use rebuild::{PlannedRebuild, RebuildSum, Rebuilding};

/// `GET /status`.
#[derive(Debug, Deserialize)]
pub(crate) struct Status {
    /// The log.
    pub(crate) log_id: String,
    /// Its partitions.
    pub(crate) partitions: u16,
    /// What runs.
    pub(crate) tasks: Vec<TaskStatus>,
    /// How far sources have come.
    #[serde(default)]
    pub(crate) sources: Vec<SourceStatus>,
    /// Fills that run.
    #[serde(default)]
    pub(crate) fills: Vec<FillStatus>,
    /// Identities with a change in quarantine.
    #[serde(default)]
    pub(crate) parked: u64,
}

/// A task.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct TaskStatus {
    /// Its name: `source/core`, `roster/3`, `sink/counts`.
    pub(crate) task: String,
    /// `starting`, `running`, `paused`, `retrying` or `failed`; `unassigned` while it runs nowhere.
    pub(crate) state: String,
    /// The worker that runs it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) worker: Option<String>,
    /// Why it retries or failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) error: Option<String>,
    /// What repairs that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) repair: Option<String>,
    /// Where it stands.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) position: Option<serde_json::Value>,
    /// What lies before it, in bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) lag_bytes: Option<u64>,
    /// What lies before it, in seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) lag_seconds: Option<f64>,
    /// What lies before it, in records (a log's own marks among them).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) lag_records: Option<u64>,
    /// What its store has been filled with from the topics.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) restored_records: Option<u64>,
    /// Records per second, lately.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) records_per_second: Option<f64>,
    /// What a lake has read that is in no file yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) buffered_bytes: Option<u64>,
    /// When a lake last listed files, since it started; microseconds since 1970.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) listed_at_us: Option<i64>,
    /// Whether a sink is being filled, for the first time or anew.
    #[serde(default, skip_serializing)]
    pub(crate) bootstrapping: Option<bool>,
    /// What is read of a lake to fill it anew.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) rebuild: Option<RebuildSum>,
    /// The replay of a sink.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) replay: Option<ReplaySum>,
}

/// How far a replay is, over all partitions.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct ReplaySum {
    /// What is behind it.
    pub(crate) replayed: u64,
    /// What there is in all.
    pub(crate) total: u64,
}

/// A source.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct SourceStatus {
    /// Its name.
    pub(crate) name: String,
    /// Everything it committed up to this time is applied in every partition; microseconds since 1970.
    #[serde(default)]
    pub(crate) as_of_us: Option<i64>,
    /// The backfill under way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) backfill: Option<BackfillStatus>,
    /// The last backfill that came to its end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) backfill_done: Option<String>,
    /// What a backfill has to bring before counts are exact.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) missing: Option<String>,
}

/// A backfill.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct BackfillStatus {
    /// Its id.
    pub(crate) id: String,
    /// `running`, `paused`, `done` or `failed`.
    pub(crate) state: String,
    /// The last identity of the pages in the log.
    #[serde(default)]
    pub(crate) done_through: Option<serde_json::Value>,
    /// Identities read.
    #[serde(default)]
    pub(crate) rows: u64,
    /// Why it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) error: Option<String>,
    /// What repairs that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) repair: Option<String>,
}

/// A fill of one partition.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct FillStatus {
    /// The partition.
    pub(crate) partition: u16,
    /// Fills that run there.
    pub(crate) jobs: u64,
}

/// `GET /counts`.
#[derive(Debug, Deserialize)]
pub(crate) struct Counts {
    /// Everything the sources committed up to here is counted.
    #[serde(default)]
    pub(crate) as_of_us: Option<i64>,
    /// One per segment and environment.
    pub(crate) counts: Vec<Count>,
}

/// A count.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Count {
    /// The segment.
    pub(crate) segment_id: String,
    /// Its name.
    #[serde(default)]
    pub(crate) segment_name: Option<String>,
    /// The environment.
    pub(crate) environment_id: String,
    /// Its api key.
    #[serde(default)]
    pub(crate) environment_key: Option<String>,
    /// Members; nothing where the segment is unsupported.
    #[serde(default)]
    pub(crate) count: Option<u64>,
    /// `live`, `filling`, `unsupported` or `parked`.
    pub(crate) state: String,
    /// Why it is unsupported.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) reason: Option<String>,
}

/// `GET /members`.
#[derive(Debug, Deserialize)]
pub(crate) struct Members {
    /// A page of them.
    pub(crate) members: Vec<Member>,
    /// The source that they are of.
    #[serde(default)]
    pub(crate) source: Option<String>,
    /// Where the next page starts.
    #[serde(default)]
    pub(crate) cursor: Option<String>,
}

/// A member.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Member {
    /// The native id.
    pub(crate) id: serde_json::Value,
    /// What the platform's users call it.
    pub(crate) identifier: String,
    /// `identity.key` as rules see it.
    #[serde(default)]
    pub(crate) identity_key: Option<String>,
    /// Since when, microseconds since 1970.
    pub(crate) since_us: i64,
    /// With --enrich: the item as its table has it; null where it has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) item: Option<serde_json::Value>,
}

/// `GET /explain`.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Explained {
    /// Whether it is in the stored set.
    pub(crate) member: bool,
    /// Why the segment has no members, if it is not judged at all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) unsupported: Option<String>,
    /// Whether a change of the identity waits in quarantine.
    #[serde(default)]
    pub(crate) parked: bool,
    /// The rule tree with the value and verdict of each condition.
    pub(crate) judged: Explanation,
}

/// A segment's rule tree, judged on one identity.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Explanation {
    /// Whether the identity is in it; nothing where the reference raises.
    pub(crate) verdict: Option<bool>,
    /// What raised.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) raised: Option<String>,
    /// The top-level rules; all must hold.
    pub(crate) rules: Vec<RuleExplanation>,
}

/// A rule.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct RuleExplanation {
    /// `ALL`, `ANY` or `NONE`.
    #[serde(rename = "type")]
    pub(crate) rule_type: String,
    /// Whether it holds.
    pub(crate) verdict: Option<bool>,
    /// Its conditions.
    pub(crate) conditions: Vec<ConditionExplanation>,
    /// Its sub-rules.
    pub(crate) rules: Vec<RuleExplanation>,
}

/// A condition.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct ConditionExplanation {
    /// Where it looks; nothing for the identity's key.
    pub(crate) property: Option<String>,
    /// The operator.
    pub(crate) operator: String,
    /// The operand as it is stored.
    pub(crate) operand: Option<String>,
    /// What was found there.
    pub(crate) found: Option<String>,
    /// Its type: `none`, `bool`, `int`, `float` or `str`.
    pub(crate) found_type: Option<String>,
    /// What the operand becomes beside that type.
    pub(crate) operand_cast: Option<String>,
    /// Whether it holds.
    pub(crate) verdict: Option<bool>,
    /// What raised.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) raised: Option<String>,
}

/// `POST /preview`.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Preview {
    /// Where.
    pub(crate) environment: PreviewPlace,
    /// The segment compared with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) segment: Option<PreviewSegment>,
    /// What percentage splits hashed.
    pub(crate) key: String,
    /// `exact`, `superset` or `unsupported`.
    pub(crate) class: String,
    /// Why it is not `exact`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) reason: Option<String>,
    /// Identities that match.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) matching: Option<u64>,
    /// Of these, who is no member yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) entering: Option<u64>,
    /// Members that don't match.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) leaving: Option<u64>,
    /// Members that match.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) staying: Option<u64>,
    /// Identities that were decided one by one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) candidates: Option<u64>,
    /// Those on which the reference raises.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) raised: Option<PreviewRaised>,
    /// Everything the sources committed up to here was judged when it was asked.
    #[serde(default)]
    pub(crate) as_of_us: Option<i64>,
    /// What to know about the numbers.
    #[serde(default)]
    pub(crate) notes: Vec<String>,
    /// A page of those who match or, beside a segment, who enter or leave.
    #[serde(default, skip_serializing)]
    pub(crate) identities: Vec<PreviewedIdentity>,
    /// Where the next page starts.
    #[serde(default, skip_serializing)]
    pub(crate) cursor: Option<String>,
}

/// The environment of a preview.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct PreviewPlace {
    /// Its id.
    pub(crate) id: String,
    /// Its api key.
    pub(crate) key: String,
    /// Its name.
    pub(crate) name: String,
}

/// The segment of a preview.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct PreviewSegment {
    /// Its id.
    pub(crate) id: String,
    /// Its name.
    pub(crate) name: String,
    /// `live`, `filling` or `unsupported`.
    pub(crate) state: String,
    /// Why it is unsupported.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) reason: Option<String>,
}

/// What a draft raises on.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct PreviewRaised {
    /// How many.
    pub(crate) identities: u64,
    /// The first of them.
    pub(crate) id: String,
    /// What the platform's users call it.
    pub(crate) identifier: String,
    /// Why.
    pub(crate) reason: String,
}

/// An identity of a preview.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct PreviewedIdentity {
    /// The native id.
    pub(crate) id: String,
    /// What the platform's users call it.
    pub(crate) identifier: String,
    /// `identity.key` as rules see it.
    pub(crate) identity_key: String,
    /// `enter` or `leave`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) change: Option<String>,
}

/// `POST /verify`.
#[derive(Debug, Deserialize)]
pub(crate) struct Verified {
    /// Whether every store that answered holds the same.
    pub(crate) equal: bool,
    /// Every (segment, environment).
    pub(crate) checked: Vec<Checked>,
    /// What differs, a line each.
    #[serde(default)]
    pub(crate) differences: Vec<String>,
    /// Identities with a change in quarantine.
    #[serde(default)]
    pub(crate) parked: Vec<serde_json::Value>,
    /// Tasks that did not answer in time.
    #[serde(default)]
    pub(crate) unanswered: Vec<String>,
}

/// One (segment, environment) of a verify.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Checked {
    /// The segment.
    pub(crate) segment_id: String,
    /// The environment.
    pub(crate) environment_id: String,
    /// Members by store.
    pub(crate) stores: std::collections::BTreeMap<String, Option<u64>>,
}

/// `POST /backfill`.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct BackfillStarted {
    /// The backfill.
    pub(crate) id: String,
}

/// `POST /fill`.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Filled {
    /// The fill.
    pub(crate) id: String,
    /// Memberships that were not as judged: none, unless something was wrong.
    pub(crate) differed: u64,
    /// Identities judged.
    pub(crate) identities: u64,
}

/// `GET /quarantine`.
#[derive(Debug, Deserialize)]
pub(crate) struct Quarantine {
    /// What is there.
    pub(crate) records: Vec<Quarantined>,
}

/// A record in quarantine.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Quarantined {
    /// Its partition.
    pub(crate) partition: u16,
    /// Its offset there.
    pub(crate) offset: u64,
    /// The identity.
    #[serde(default)]
    pub(crate) key: Option<serde_json::Value>,
    /// Why it is there.
    pub(crate) reason: String,
    /// Who put it there.
    pub(crate) origin: String,
    /// The source's position.
    #[serde(default)]
    pub(crate) position: Option<String>,
}

/// `POST /quarantine/replay`.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Replayed {
    /// Changes driven again.
    pub(crate) replayed: u64,
}

/// `POST /apply`.
#[derive(Debug, Deserialize)]
pub(crate) struct Applied {
    /// What the log now agrees on that it didn't before (or would, with `plan`).
    #[serde(default)]
    pub(crate) differences: Vec<AppliedDifference>,
}

/// One difference.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct AppliedDifference {
    /// The key of the file.
    pub(crate) key: String,
    /// What changes and what follows from it.
    pub(crate) line: String,
    /// Why it can't be applied, if so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) refused: Option<String>,
}

/// What every failed request answers.
#[derive(Debug, Deserialize)]
pub(crate) struct ApiError {
    /// What is wrong.
    pub(crate) error: String,
    /// What repairs it.
    #[serde(default)]
    pub(crate) repair: Option<String>,
}
