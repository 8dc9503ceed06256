//! What the tables hold, as readers see it: counts and order-free fingerprints (PROTOCOL.md §6).

use clickhouse::Row;
use rollcall_model::records::CheckTotal;
use rollcall_model::sink::CheckRequest;
use rollcall_model::{CheckReport, CheckScope, Fault, Fingerprint};
use serde::Deserialize;

use crate::tables::{MEMBERS_BY_IDENTITY, MEMBERS_BY_SEGMENT, Table};
use crate::wire::Wire;

/// A report names at most this many members.
const MEMBERS_MAX: u64 = 100_000;

/// Answers a check of one partition.
pub(crate) async fn check(wire: &Wire, store: &str, request: &CheckRequest) -> Result<CheckReport, Fault> {
    let mut report = CheckReport {
        id: request.id.clone(),
        store: store.to_owned(),
        partition: request.partition,
        ..CheckReport::default()
    };
    match &request.scope {
        CheckScope::Totals => {
            let by_segment = totals(wire, &MEMBERS_BY_SEGMENT, request).await?;
            let by_identity = totals(wire, &MEMBERS_BY_IDENTITY, request).await?;
            report.differences = differences(&by_segment, &by_identity);
            report.totals = by_segment.into_iter().map(Total::into_line).collect();
        }
        CheckScope::Buckets { segment_id, environment_id } => {
            let query = wire
                .query(
                    "SELECT toUInt8(bitShiftRight(xxHash64(id), 56)) AS bucket, count() AS members, \
                     sumWithOverflow(xxHash64(id)) AS fingerprint FROM rollcall.members_by_segment FINAL \
                     WHERE partition = {partition:UInt16} AND segment_id = {segment:String} \
                     AND platform_environment_id = {environment:String} GROUP BY bucket",
                )
                .param("partition", request.partition.0)
                .param("segment", segment_id.as_str())
                .param("environment", environment_id.as_str());
            let buckets: Vec<Bucket> = wire.fetch("count members by bucket", query).await?;
            report.buckets =
                buckets.into_iter().map(|b| (b.bucket, (b.members, Fingerprint(b.fingerprint)))).collect();
        }
        CheckScope::Members { segment_id, environment_id, buckets } => {
            let query = wire
                .query(
                    "SELECT id FROM rollcall.members_by_segment FINAL \
                     WHERE partition = {partition:UInt16} AND segment_id = {segment:String} \
                     AND platform_environment_id = {environment:String} \
                     AND has({buckets:Array(UInt8)}, toUInt8(bitShiftRight(xxHash64(id), 56))) \
                     ORDER BY id LIMIT {limit:UInt64}",
                )
                .param("partition", request.partition.0)
                .param("segment", segment_id.as_str())
                .param("environment", environment_id.as_str())
                .param("buckets", buckets.iter().copied().collect::<Vec<u8>>())
                .param("limit", MEMBERS_MAX);
            let members: Vec<MemberId> = wire.fetch("list members", query).await?;
            report.members = members.into_iter().map(|m| m.id).collect();
        }
    }
    Ok(report)
}

/// Whether a table that readers see holds anything at all.
pub(crate) async fn holds_rows(wire: &Wire, table: &Table) -> Result<bool, Fault> {
    #[derive(Row, Deserialize)]
    struct Found {
        found: u64,
    }
    let sql = format!("SELECT count() AS found FROM (SELECT 1 FROM rollcall.{} LIMIT 1)", table.name);
    let found: Vec<Found> = wire.fetch("look whether a table is empty", wire.query(&sql)).await?;
    Ok(found.first().is_some_and(|f| f.found > 0))
}

#[derive(Row, Deserialize)]
struct Bucket {
    bucket: u8,
    members: u64,
    fingerprint: u64,
}

#[derive(Row, Deserialize)]
struct MemberId {
    id: String,
}

#[derive(Row, Deserialize, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Total {
    segment_id: String,
    platform_environment_id: String,
    environment_id: String,
    members: u64,
    fingerprint: u64,
}

impl Total {
    fn into_line(self) -> CheckTotal {
        CheckTotal {
            segment_id: self.segment_id.into(),
            environment_id: Some(self.platform_environment_id.into()),
            environment_key: Some(self.environment_id),
            count: self.members,
            fingerprint: Fingerprint(self.fingerprint),
        }
    }
}

async fn totals(wire: &Wire, table: &Table, request: &CheckRequest) -> Result<Vec<Total>, Fault> {
    let sql = format!(
        "SELECT segment_id, platform_environment_id, environment_id, count() AS members, \
         sumWithOverflow(xxHash64(id)) AS fingerprint FROM rollcall.{} FINAL \
         WHERE partition = {{partition:UInt16}} \
         GROUP BY segment_id, platform_environment_id, environment_id \
         ORDER BY segment_id, platform_environment_id, environment_id",
        table.name
    );
    wire.fetch("count members", wire.query(&sql).param("partition", request.partition.0)).await
}

/// Both directions are filled from the same rows: where they differ, one of them lost some.
fn differences(by_segment: &[Total], by_identity: &[Total]) -> Vec<String> {
    let line = |total: &Total, holder: &str, other: &str| {
        format!(
            "segment {} environment {}: rollcall.{holder} holds {} members, rollcall.{other} differs",
            total.segment_id, total.environment_id, total.members
        )
    };
    let (a, b) = (MEMBERS_BY_SEGMENT.name, MEMBERS_BY_IDENTITY.name);
    let here = by_segment.iter().filter(|t| !by_identity.contains(t)).map(|t| line(t, a, b));
    let there = by_identity.iter().filter(|t| !by_segment.contains(t)).map(|t| line(t, b, a));
    here.chain(there).collect()
}
