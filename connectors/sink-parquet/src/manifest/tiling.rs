//! Whether every commit is listed exactly once.

use std::collections::BTreeSet;
use std::fmt;

use rollcall_model::{Partition, Seq};

use super::{ListedFile, Manifest, Range};

/// Where a manifest doesn't list every commit exactly once.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Untiled {
    /// Nothing holds these.
    Missing(Range),
    /// What these hold, something before them holds as well.
    Twice(Range),
    /// Some of a range's files are not listed, or twice.
    Parts(Range),
    /// It lies beyond what is covered, or before what is kept.
    Outside(Range),
}

impl fmt::Display for Untiled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (range, what) = match self {
            Self::Missing(range) => (range, "are in no file"),
            Self::Twice(range) => (range, "are in more than one range of files"),
            Self::Parts(range) => (range, "have not all of their files listed once"),
            Self::Outside(range) => (range, "are listed, but not among those covered"),
        };
        let Range { partition, first_seq, last_seq } = range;
        write!(f, "commits {} to {} of partition {partition} {what}", first_seq.0, last_seq.0)
    }
}

impl Manifest {
    /// Everything that is wrong with the ranges listed; nothing when every commit covered is in exactly one of them.
    pub(crate) fn untiled(&self) -> Vec<Untiled> {
        let listed = self.files.iter().map(|file| file.range).chain(self.empty.iter().copied());
        let partitions: BTreeSet<Partition> =
            listed.map(|range| range.partition).chain(self.covered.keys().copied()).collect();
        partitions.into_iter().flat_map(|partition| self.untiled_in(partition)).collect()
    }

    fn untiled_in(&self, partition: Partition) -> Vec<Untiled> {
        let reach = self.covered(partition);
        let mut wrong = Vec::new();
        let mut ranges: Vec<Range> =
            self.empty.iter().copied().filter(|range| range.partition == partition).collect();
        let mut files: Vec<&ListedFile> = self.files_of(partition).collect();
        files.sort_by_key(|file| (file.range, file.part));
        for parts in files.chunk_by(|a, b| a.range == b.range) {
            let complete = parts
                .iter()
                .enumerate()
                .all(|(n, file)| usize::from(file.part) == n && usize::from(file.parts) == parts.len());
            if !complete {
                wrong.push(Untiled::Parts(parts[0].range));
            }
            ranges.push(parts[0].range);
        }
        ranges.sort();
        let mut next = reach.first.0;
        for range in ranges {
            let Range { first_seq, last_seq, .. } = range;
            if first_seq < reach.first || last_seq > reach.seq || first_seq > last_seq {
                wrong.push(Untiled::Outside(range));
            }
            if first_seq.0 > next {
                wrong.push(missing(partition, next, first_seq.0 - 1));
            } else if first_seq.0 < next {
                let last_seq = last_seq.min(Seq(next - 1));
                wrong.push(Untiled::Twice(Range { last_seq, ..range }));
            }
            next = next.max(last_seq.0.saturating_add(1));
        }
        if next <= reach.seq.0 {
            wrong.push(missing(partition, next, reach.seq.0));
        }
        wrong
    }
}

fn missing(partition: Partition, first: u64, last: u64) -> Untiled {
    Untiled::Missing(Range { partition, first_seq: Seq(first), last_seq: Seq(last) })
}
