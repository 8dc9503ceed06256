//! What there is to do about a table. Pure.

use rollcall_columns::LakeTable;
use rollcall_model::{Partition, Seq};

use super::{CompactStep, CompactWhat};
use crate::manifest::{ListedFile, Manifest, Range};

/// How old and how large things may be; times in microseconds since 1970, by the store's clock.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Limits {
    pub(super) now_us: i64,
    /// What was so since then can be asked for.
    pub(super) history_from_us: i64,
    /// Events since then are kept; all, if `None`.
    pub(super) events_from_us: Option<i64>,
    /// Readers began after it, or have ended.
    pub(super) readers_until_us: i64,
    /// About how large a file becomes.
    pub(super) file_bytes: u64,
    /// Files merged at once.
    pub(super) fan_in: usize,
}

impl Limits {
    /// A row goes when a newer one of its key has a version up to this; `None` for events, which replace nothing.
    pub(super) fn dropped_until(&self, table: &LakeTable) -> Option<i64> {
        if table.key.is_empty() {
            return None;
        }
        // Counts have no time: the newest is the one that counts.
        Some(if table.version == "seq" { i64::MAX } else { self.history_from_us })
    }
}

/// Something to do.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Step {
    /// Put one range of merged files in the place of these, which are all of it.
    Merge { range: Range, files: Vec<ListedFile> },
    /// List these no more, which are all up to the end of the range.
    Drop { range: Range, files: Vec<ListedFile> },
}

impl Step {
    /// As people are told; `after` is what came of it.
    pub(super) fn told(&self, table: &LakeTable, after: Option<&[ListedFile]>) -> CompactStep {
        let (what, Range { partition, .. }, files) = match self {
            Self::Merge { range, files } => (CompactWhat::Merge, *range, files),
            Self::Drop { range, files } => (CompactWhat::Drop, *range, files),
        };
        let rows = |files: &[ListedFile]| files.iter().map(|file| file.rows).sum();
        let bytes = |files: &[ListedFile]| files.iter().map(|file| file.bytes).sum();
        CompactStep {
            table: table.name.to_owned(),
            partition,
            what,
            files: files.len() as u64,
            rows: rows(files),
            bytes: bytes(files),
            files_after: after.map(|files| files.len() as u64),
            rows_after: after.map(rows),
            bytes_after: after.map(bytes),
        }
    }
}

/// Files of one range, in order of part.
type Ranged<'a> = (Range, Vec<&'a ListedFile>);

/// What there is to do.
pub(super) fn steps(table: &LakeTable, manifest: &Manifest, limits: &Limits) -> Vec<Step> {
    let mut partitions: Vec<Partition> = manifest.covered.keys().copied().collect();
    partitions.dedup();
    let of = |partition: Partition| {
        let ranges: Vec<Ranged<'_>> =
            manifest.by_range().into_iter().filter(|(range, _)| range.partition == partition).collect();
        let first = manifest.covered(partition).first;
        if table.key.is_empty() { of_events(&ranges, first, limits) } else { of_keys(&ranges, first) }
    };
    partitions.into_iter().flat_map(of).collect()
}

/// All of a partition becomes one range, which ends where its last file does: what is empty after it may still grow.
fn of_keys(ranges: &[Ranged<'_>], first: Seq) -> Vec<Step> {
    if ranges.len() < 2 { Vec::new() } else { vec![merge(ranges, first)] }
}

fn merge(ranges: &[Ranged<'_>], first: Seq) -> Step {
    let (range, files) = all_of(ranges, first);
    Step::Merge { range, files }
}

fn all_of(ranges: &[Ranged<'_>], first_seq: Seq) -> (Range, Vec<ListedFile>) {
    let last = ranges.last().map_or(Seq(0), |(range, _)| range.last_seq);
    let partition = ranges.first().map_or(Partition(0), |(range, _)| range.partition);
    let files = ranges.iter().flat_map(|(_, files)| files.iter().map(|file| (*file).clone())).collect();
    (Range { partition, first_seq, last_seq: last }, files)
}

/// The oldest go; of what stays, neighbours that are small become one.
fn of_events(ranges: &[Ranged<'_>], first: Seq, limits: &Limits) -> Vec<Step> {
    let is_old = |(_, files): &&Ranged<'_>| {
        let Some(from_us) = limits.events_from_us else { return false };
        files.iter().all(|file| file.max_event_us.is_some_and(|newest_us| newest_us < from_us))
    };
    let old = ranges.iter().take_while(is_old).count();
    let (old, kept) = ranges.split_at(old);
    let mut steps = Vec::new();
    if !old.is_empty() {
        let (range, files) = all_of(old, first);
        steps.push(Step::Drop { range, files });
    }
    let bytes = |(_, files): &Ranged<'_>| files.iter().map(|file| file.bytes).sum::<u64>();
    let mut from = 0;
    while from < kept.len() {
        let (mut to, mut together) = (from, 0);
        // One that is large already would be written again for a few rows each time.
        while to < kept.len()
            && bytes(&kept[to]) < limits.file_bytes / 2
            && together + bytes(&kept[to]) <= limits.file_bytes
        {
            together += bytes(&kept[to]);
            to += 1;
        }
        if to - from > 1 {
            steps.push(merge(&kept[from..to], kept[from].0.first_seq));
        }
        from = to.max(from + 1);
    }
    steps
}
