//! Everything that follows from one turn of a roster, and its one commit.

use rollcall_model::control::CONTROL_KEY;
use rollcall_model::{
    CheckReport, CheckScope, Commit, CountRecord, Fault, FillReport, IdentityKey, IdentityRecord, Input,
    MembershipChange, MembershipRecord, Partition, Progress, QuarantineRecord, Record, Seq, Topic,
    WatermarkRecord,
};
use serde::{Deserialize, Serialize};

use crate::store::Stored;

/// A check on its way to the sinks, under `control/check`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct CheckPassed {
    /// Which check.
    pub id: String,
    /// How much it publishes.
    pub scope: CheckScope,
    /// The commit.
    pub seq: Seq,
}

/// What a session decided. Nothing of it is true before its commit.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Output {
    /// The commit's number.
    pub seq: Seq,
    /// New images and tombstones.
    pub identities: Vec<IdentityRecord>,
    /// New sets.
    pub memberships: Vec<MembershipRecord>,
    /// Who entered and left, and checks, in order.
    pub changes: Vec<Passed<MembershipChange>>,
    /// Counts, and checks after them.
    pub counts: Vec<Passed<CountRecord>>,
    /// How far sources have come.
    pub watermarks: Vec<WatermarkRecord>,
    /// Answers to checks.
    pub reports: Vec<CheckReport>,
    /// Finished operators' fills.
    pub fill_reports: Vec<FillReport>,
    /// What could not be applied.
    pub quarantined: Vec<QuarantineRecord>,
    /// Quarantine records that are settled: their keys.
    pub settled: Vec<String>,
    /// Tombstones that go for good.
    pub dropped: Vec<IdentityKey>,
    /// Control records for every other partition.
    pub broadcast: Vec<Input>,
    /// Changes of identities that another source owns: kept, judged by nobody.
    pub unowned: u64,
    /// What the store takes after the commit.
    pub stored: Vec<(Vec<u8>, Option<Stored>)>,
}

/// A record for sinks, or a check that keeps its place among them.
#[derive(Clone, PartialEq, Debug)]
pub enum Passed<T> {
    /// A record.
    Record(T),
    /// A check.
    Check(CheckPassed),
}

impl Output {
    /// Whether anything but progress would be committed.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        let (seq, unowned, stored) = (self.seq, self.unowned, self.stored.clone());
        *self == Self { seq, unowned, stored, ..Self::default() }
    }

    /// The log's commit: every record of the turn and the progress that it brings.
    ///
    /// # Errors
    /// A bug fault when a record can't be serialised.
    pub fn to_commit(
        &self,
        partition: Partition,
        partitions: u16,
        progress: Progress,
    ) -> Result<Commit, Fault> {
        let mut records = Vec::new();
        let mut put = |topic, key: String, value: Option<Vec<u8>>, headers| {
            records.push(Record { topic, partition, key: key.into_bytes(), value, headers });
        };
        // Before the images: an identity that came back after its tombstone was dropped must stay.
        for key in &self.dropped {
            put(Topic::Identities, key.to_string(), None, Vec::new());
            put(Topic::Memberships, key.to_string(), None, Vec::new());
        }
        for identity in &self.identities {
            let key = IdentityKey { source: identity.source.clone(), id: identity.id.clone() };
            put(Topic::Identities, key.to_string(), json(identity)?, version_header(identity.version.0));
        }
        for membership in &self.memberships {
            let key = IdentityKey { source: membership.source.clone(), id: membership.id.clone() };
            put(Topic::Memberships, key.to_string(), json(membership)?, version_header(membership.version.0));
        }
        for passed in &self.changes {
            match passed {
                Passed::Record(change) => {
                    let key = IdentityKey { source: change.source.clone(), id: change.id.clone() };
                    let mut headers = version_header(change.version.0);
                    headers.push(("position".to_owned(), change.position.clone()));
                    put(Topic::MembershipChanges, key.to_string(), json(change)?, headers);
                }
                Passed::Check(check) => {
                    put(Topic::MembershipChanges, format!("{CONTROL_KEY}check"), json(check)?, Vec::new());
                }
            }
        }
        for passed in &self.counts {
            match passed {
                Passed::Record(count) => {
                    let key = format!("{}/{}/{}", count.segment_id, count.environment_id, count.partition);
                    put(Topic::SegmentCounts, key, json(count)?, Vec::new());
                }
                Passed::Check(check) => {
                    put(Topic::SegmentCounts, format!("{CONTROL_KEY}check"), json(check)?, Vec::new());
                }
            }
        }
        // Behind the counts, so that a count is never older than the watermark a sink has taken.
        for watermark in &self.watermarks {
            let key = format!("{CONTROL_KEY}watermark/{}", watermark.source);
            put(Topic::SegmentCounts, key, json(watermark)?, Vec::new());
        }
        for record in &self.quarantined {
            put(Topic::Quarantine, quarantine_key(record), json(record)?, Vec::new());
        }
        for key in &self.settled {
            put(Topic::Quarantine, key.clone(), None, Vec::new());
        }
        self.put_shared(&mut records)?;
        self.put_broadcast(&mut records, partition, partitions)?;
        Ok(Commit { records, progress: Some(progress) })
    }

    /// Answers to those who asked.
    fn put_shared(&self, records: &mut Vec<Record>) -> Result<(), Fault> {
        for report in &self.reports {
            let key = format!("{}/{}/{}", report.id, report.store, report.partition);
            records.push(shared(Topic::Checks, key, json(report)?));
        }
        for report in &self.fill_reports {
            records.push(shared(
                Topic::Checks,
                format!("{}/fill/{}", report.id, report.partition),
                json(report)?,
            ));
        }
        Ok(())
    }

    /// Control records for the other partitions.
    fn put_broadcast(&self, records: &mut Vec<Record>, own: Partition, partitions: u16) -> Result<(), Fault> {
        for input in &self.broadcast {
            for other in (0..partitions).map(Partition).filter(|other| *other != own) {
                let key = CONTROL_KEY.as_bytes().to_vec();
                let value = json(input)?;
                records.push(Record {
                    topic: Topic::IdentityChanges,
                    partition: other,
                    key,
                    value,
                    headers: vec![],
                });
            }
        }
        Ok(())
    }
}

/// The key of a quarantine record: the identity's, then the place, so that a replay writes it once.
#[must_use]
pub fn quarantine_key(record: &QuarantineRecord) -> String {
    let key = record.key.as_ref().map_or_else(|| "unknown".to_owned(), IdentityKey::to_string);
    let place = record.place.unwrap_or_default();
    format!("{key}/{}/{}-{}", record.origin, place.epoch, place.offset)
}

fn version_header(version: i64) -> Vec<(String, String)> {
    vec![("version".to_owned(), version.to_string())]
}

fn shared(topic: Topic, key: String, value: Option<Vec<u8>>) -> Record {
    Record { topic, partition: Partition(0), key: key.into_bytes(), value, headers: Vec::new() }
}

fn json<T: Serialize>(value: &T) -> Result<Option<Vec<u8>>, Fault> {
    serde_json::to_vec(value)
        .map(Some)
        .map_err(|e| Fault::bug("a record can't be written as JSON").from_source(e))
}
