//! Merging, case by case.

use rollcall_model::{Fingerprint, Partition, Place, Seq, Topic};

use super::*;

fn log() -> LogId {
    LogId("log".into())
}

fn count(segment: &str, partition: u16, seq: u64, count: u64) -> Delivery {
    Delivery {
        topic: Topic::SegmentCounts,
        partition: Partition(partition),
        place: Place::default(),
        record: OutRecord::Count(CountRecord {
            log_id: log(),
            segment_id: segment.into(),
            environment_id: "1".into(),
            partition: Partition(partition),
            count,
            fingerprint: Fingerprint(count),
            seq: Seq(seq),
            state: CountState::Live,
        }),
    }
}

#[test]
fn the_newest_of_each_ledger_row_remains() {
    let deliveries = [count("2", 0, 5, 50), count("2", 0, 7, 70), count("2", 0, 6, 60), count("2", 1, 1, 10)];
    let batch = merge(&deliveries, &log(), Preset::Flagsmith).expect("merges");
    assert_eq!(batch.counts.counts, [70, 10]);
    assert_eq!(batch.counts.seqs, [7, 1]);
    assert_eq!(batch.counts.partitions, [0, 1]);
    assert!(batch.rejected.is_empty());
}

#[test]
fn what_the_tables_can_not_hold_is_rejected_and_the_rest_goes_on() {
    let deliveries =
        [count("beta", 0, 1, 1), count("007", 0, 1, 1), count("7", 0, 1, u64::MAX), count("7", 0, 2, 3)];
    let batch = merge(&deliveries, &log(), Preset::Flagsmith).expect("merges");
    let rejected: Vec<_> = batch.rejected.iter().map(|r| r.index).collect();
    assert_eq!(rejected, [0, 1, 2]);
    assert!(batch.rejected[0].reason.contains("'beta'"), "{}", batch.rejected[0].reason);
    assert_eq!(batch.counts.counts, [3]);
    let batch = merge(&deliveries, &log(), Preset::Native).expect("merges");
    assert_eq!(batch.rejected.iter().map(|r| r.index).collect::<Vec<_>>(), [2]);
}

#[test]
fn a_count_of_another_log_is_refused() {
    let fault = merge(&[count("7", 0, 1, 1)], &LogId("other".into()), Preset::Native).expect_err("refuses");
    assert_eq!(fault.kind, rollcall_model::FaultKind::Refused);
    assert!(fault.to_string().contains("rollcall rebuild counts"), "{fault}");
}
