//! Records that somebody else wrote into the log's topics.
//!
//! Nothing follows from them, however much they look like ours: what is kept of a topic is kept in quarantine, and whoever
//! only looks passes them over.

use rollcall_model::{Fetched, QuarantineRecord};
use tracing::warn;

/// Longer payloads are cut: quarantine is for looking at, not for keeping.
const PAYLOAD_BYTES_MAX: usize = 64 << 10;

/// A foreign record as quarantine keeps it.
pub(crate) fn foreign_record(origin: String, fetched: &Fetched) -> QuarantineRecord {
    let record = &fetched.record;
    let value = record.value.as_deref().unwrap_or_default();
    let shown = value.get(..PAYLOAD_BYTES_MAX).unwrap_or(value);
    QuarantineRecord {
        key: None,
        reason: format!(
            "a record of {}/{} with the key '{}' was not written by rollcall",
            record.topic.name(),
            record.partition,
            String::from_utf8_lossy(record.key.get(..256).unwrap_or(&record.key))
        ),
        origin,
        payload: String::from_utf8_lossy(shown).into(),
        place: Some(fetched.place),
        position: String::new(),
        parks: false,
    }
}

/// Our own of these records.
pub(crate) fn own(records: Vec<Fetched>) -> impl Iterator<Item = Fetched> {
    records.into_iter().filter(|fetched| {
        if fetched.foreign {
            let record = &fetched.record;
            warn!(
                topic = record.topic.name(),
                partition = record.partition.0,
                offset = fetched.place.offset,
                "a record that rollcall did not write is passed over"
            );
            metrics::counter!("rollcall_foreign_records_total", "topic" => record.topic.name()).increment(1);
        }
        !fetched.foreign
    })
}
