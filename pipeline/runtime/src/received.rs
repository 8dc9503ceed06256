//! What a record of the rosters' topics is to whoever keeps it: decoded, or on its way to quarantine.

use rollcall_model::control::CONTROL_KEY;
use rollcall_model::{Delivery, Fault, Fetched, OutRecord, Partition, QuarantineRecord, Record, Topic};
use rollcall_roster::output::CheckPassed;
use tracing::warn;

use crate::foreign::foreign_record;
use crate::outgoing::not_json;

/// What a record turned out to be.
// There is one at a time, and it is taken apart at once.
#[allow(clippy::large_enum_variant)]
#[derive(Debug)]
pub(crate) enum Received {
    /// What a roster passed on.
    Record(OutRecord),
    /// A check that passes by.
    Check(CheckPassed),
    /// The key is gone: nothing to keep.
    Removed,
    /// It can't be read, or somebody else wrote it.
    Bad(Box<QuarantineRecord>),
}

/// Decodes a record for a sink.
pub(crate) fn receive(sink: &str, fetched: &Fetched) -> Received {
    let record = &fetched.record;
    if fetched.foreign {
        return Received::Bad(Box::new(foreign_record(
            origin(sink, record.topic, record.partition),
            fetched,
        )));
    }
    let Some(value) = &record.value else { return Received::Removed };
    let check = format!("{CONTROL_KEY}check");
    if record.key == check.as_bytes()
        && let Ok(passed) = serde_json::from_slice(value)
    {
        return Received::Check(passed);
    }
    match decode(record, value) {
        Ok(record) => Received::Record(record),
        Err(e) => Received::Bad(Box::new(QuarantineRecord {
            key: None,
            reason: format!("{} can't be read: {e}", record.topic.name()),
            origin: origin(sink, record.topic, record.partition),
            payload: String::from_utf8_lossy(value).into(),
            place: Some(fetched.place),
            position: String::new(),
            parks: false,
        })),
    }
}

/// Which sink put a record into quarantine, and where it had read it.
pub(crate) fn origin(sink: &str, topic: Topic, partition: Partition) -> String {
    format!("sink-{sink}/{}/{partition}", topic.name())
}

/// A record that a sink would not take.
pub(crate) fn rejected(sink: &str, delivery: &Delivery, reason: String) -> Result<QuarantineRecord, Fault> {
    let payload = match &delivery.record {
        OutRecord::Identity(record) => serde_json::to_value(record),
        OutRecord::Membership(record) => serde_json::to_value(record),
        OutRecord::MembershipChange(record) => serde_json::to_value(record),
        OutRecord::Count(record) => serde_json::to_value(record),
        OutRecord::Watermark(record) => serde_json::to_value(record),
    };
    Ok(QuarantineRecord {
        key: None,
        reason,
        origin: origin(sink, delivery.topic, delivery.partition),
        payload: payload.map_err(not_json)?,
        place: Some(delivery.place),
        position: String::new(),
        parks: false,
    })
}

/// Bad records as they are committed to quarantine.
pub(crate) fn to_quarantine(sink: &str, bad: Vec<QuarantineRecord>) -> Result<Vec<Record>, Fault> {
    let mut records = Vec::new();
    for record in bad {
        warn!(sink, reason = record.reason, "a record went to quarantine");
        let place = record.place.unwrap_or_default();
        let name = format!("{}/{}-{}", record.origin, place.epoch, place.offset);
        records.push(Record {
            topic: Topic::Quarantine,
            partition: Partition(0),
            key: name.into_bytes(),
            value: Some(serde_json::to_vec(&record).map_err(not_json)?),
            headers: Vec::new(),
        });
    }
    Ok(records)
}

pub(crate) fn decode(record: &Record, value: &[u8]) -> Result<OutRecord, serde_json::Error> {
    if record.key.starts_with(CONTROL_KEY.as_bytes()) {
        return serde_json::from_slice(value).map(OutRecord::Watermark);
    }
    match record.topic {
        Topic::Identities => serde_json::from_slice(value).map(OutRecord::Identity),
        Topic::Memberships => serde_json::from_slice(value).map(OutRecord::Membership),
        Topic::MembershipChanges => serde_json::from_slice(value).map(OutRecord::MembershipChange),
        Topic::SegmentCounts
        | Topic::IdentityChanges
        | Topic::Catalog
        | Topic::CatalogRows
        | Topic::Quarantine
        | Topic::Progress
        | Topic::Checks => serde_json::from_slice(value).map(OutRecord::Count),
    }
}
