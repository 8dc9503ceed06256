//! How far each source has come in what a lake has listed.
//!
//! ```text
//! watermarks of a partition   s3 ── s7 ── s9 ── s12         (commit of the roster; the source's clock there)
//! listed of all its topics    ─────────────┤                 s7 counts; s12 is too young
//! ```
//!
//! In: the watermarks that stand among the counts, and up to which commit everything of a partition is listed. Out: per
//! source a time up to which the lake lacks none of the changes that it said. Right because a watermark's commit comes after
//! those of what the source said before it, and a roster's next commit begins after the last one is readable in every topic.
//! What a backfill finds later, with the time of its reading or of its export, is not promised. Pure.

use std::collections::{BTreeMap, VecDeque};

use rollcall_model::archive::AsOf;
use rollcall_model::{Partition, Seq, SourceName, WatermarkRecord};

/// A transaction takes its time before its place in the WAL, so one that ends at a watermark may say an earlier time; and
/// what is judged after a watermark may say the same.
const SLACK_US: i64 = 1_000_000;
/// Watermarks that wait, of one source in one partition. Of more, every second is dropped.
const WAITING_MAX: usize = 64;

#[derive(Clone, PartialEq, Debug)]
pub(crate) struct LakeAsOf {
    partitions: u16,
    by_source: BTreeMap<SourceName, BTreeMap<Partition, Marks>>,
}

#[derive(Clone, PartialEq, Debug, Default)]
struct Marks {
    waiting: VecDeque<(Seq, i64)>,
    listed_us: Option<i64>,
}

impl LakeAsOf {
    pub(crate) fn new(partitions: u16) -> Self {
        Self { partitions, by_source: BTreeMap::new() }
    }

    /// Takes the watermarks of a partition in the order of its commits.
    pub(crate) fn take(&mut self, record: &WatermarkRecord) {
        let by_partition = self.by_source.entry(record.source.clone()).or_default();
        let waiting = &mut by_partition.entry(record.partition).or_default().waiting;
        if waiting.len() >= WAITING_MAX {
            let mut is_kept = false;
            waiting.retain(|_| {
                is_kept = !is_kept;
                is_kept
            });
        }
        waiting.push_back((record.seq, record.at_us));
    }

    /// Notes that everything of a partition's commits up to one is listed.
    pub(crate) fn listed(&mut self, partition: Partition, last: Seq) {
        for marks in self.by_source.values_mut().filter_map(|of| of.get_mut(&partition)) {
            while let Some((_, at_us)) = marks.waiting.pop_front_if(|(seq, _)| *seq <= last) {
                marks.listed_us = marks.listed_us.max(Some(at_us));
            }
        }
    }

    /// Up to when nothing is missing; without the sources of which some partition doesn't say yet.
    pub(crate) fn as_of(&self) -> AsOf {
        let lowest = |of: &BTreeMap<Partition, Marks>| {
            let partitions = (0..self.partitions).map(Partition);
            partitions.map(|partition| of.get(&partition)?.listed_us).min().flatten()
        };
        let sure = |of| Some(lowest(of)? - SLACK_US);
        self.by_source.iter().filter_map(|(source, of)| Some((source.clone(), sure(of)?))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mark(partition: u16, seq: u64, at_us: i64) -> WatermarkRecord {
        WatermarkRecord {
            source: "core".into(),
            partition: Partition(partition),
            position: String::new(),
            at_us: at_us + SLACK_US,
            seq: Seq(seq),
        }
    }

    #[test]
    fn the_slowest_partition_says_how_far_it_is() {
        let mut as_of = LakeAsOf::new(2);
        for (seq, at_us) in [(3, 30), (7, 70), (9, 90)] {
            as_of.take(&mark(0, seq, at_us));
        }
        as_of.listed(Partition(0), Seq(8));
        assert_eq!(as_of.as_of(), AsOf::new(), "partition 1 has said nothing");
        as_of.take(&mark(1, 100, 20));
        as_of.listed(Partition(1), Seq(99));
        assert_eq!(as_of.as_of(), AsOf::new(), "its commit is not listed");
        as_of.listed(Partition(1), Seq(100));
        assert_eq!(as_of.as_of(), [("core".into(), 20)].into());
        as_of.take(&mark(1, 101, 200));
        as_of.listed(Partition(1), Seq(101));
        assert_eq!(as_of.as_of(), [("core".into(), 70)].into());
    }

    #[test]
    fn what_waits_is_bounded_and_still_moves() {
        let mut as_of = LakeAsOf::new(1);
        for n in 1..=100_000 {
            as_of.take(&mark(0, n, n as i64));
        }
        assert!(as_of.by_source[&SourceName::from("core")][&Partition(0)].waiting.len() <= WAITING_MAX);
        as_of.listed(Partition(0), Seq(99_999));
        assert!(as_of.as_of()[&SourceName::from("core")] > 1);
    }
}
