//! What a sink can't take, as records of quarantine, and how records of the log become what it takes.

use rollcall_model::control::CONTROL_KEY;
use rollcall_model::{Delivery, Fault, OutRecord, Partition, Place, QuarantineRecord, Record, Topic};

use crate::outgoing::not_json;

/// A record as sinks take it.
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

/// Who puts something of a partition aside.
pub(crate) fn origin(sink: &str, topic: Topic, partition: Partition) -> String {
    format!("sink-{}/{}/{partition}", sink, topic.name())
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

/// A record that this version can't read.
pub(crate) fn unreadable(
    sink: &str,
    record: &Record,
    value: &[u8],
    place: Place,
    error: &serde_json::Error,
) -> QuarantineRecord {
    QuarantineRecord {
        key: None,
        reason: format!("{} can't be read: {error}", record.topic.name()),
        origin: origin(sink, record.topic, record.partition),
        payload: String::from_utf8_lossy(value).into(),
        place: Some(place),
        position: String::new(),
        parks: false,
    }
}

/// As it goes to quarantine: under one key, however often it is put there.
pub(crate) fn to_record(record: &QuarantineRecord) -> Result<Record, Fault> {
    let place = record.place.unwrap_or_default();
    let name = format!("{}/{}-{}", record.origin, place.epoch, place.offset);
    Ok(Record {
        topic: Topic::Quarantine,
        partition: Partition(0),
        key: name.into_bytes(),
        value: Some(serde_json::to_vec(record).map_err(not_json)?),
        headers: Vec::new(),
    })
}
