//! From which offset on records are of a time or later: read off the records themselves.
//!
//! There is no index of times, and no order to search by: several tasks write, and clocks are set back. A reader of the
//! whole partition is exact, takes seconds per gigabyte, and is only asked for by people.

use rollcall_model::{Fault, Partition, Topic};

use crate::shared::Shared;

/// Records of one step: between two of them the store is let go.
const STEP_RECORDS_MAX: usize = 10_000;

/// The first offset whose record is of `time_ms` or later; the partition's end when all are older. Blocks.
pub(crate) fn offset_at(
    shared: &Shared,
    topic: Topic,
    partition: Partition,
    time_ms: u64,
) -> Result<u64, Fault> {
    let part = shared.state().part(topic, partition);
    let (mut next, end) = (part.start, part.end);
    let mut found = None;
    while next < end && found.is_none() {
        shared.with_store(|store| {
            let mut read = 0;
            for entry in store.times(topic, partition, next, end).take(STEP_RECORDS_MAX) {
                let (offset, at_ms) = entry?;
                if at_ms >= time_ms {
                    found = Some(offset);
                    return Ok(());
                }
                next = offset + 1;
                read += 1;
            }
            if read < STEP_RECORDS_MAX {
                next = end;
            }
            Ok(())
        })?;
    }
    // Retention may have come by meanwhile.
    Ok(found.unwrap_or(end).max(shared.state().part(topic, partition).start))
}
