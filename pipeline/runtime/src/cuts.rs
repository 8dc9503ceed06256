//! Where the records of a topic's partition become a file: between two commits, and when it is time.
//!
//! ```text
//!  covered          whole            open
//! ────────┤ commit … commit ┊ the newest commit ┊ next ─▶      its end is known once a later commit has come,
//!  listed │     a cut ends here, or here ────────┘             or nothing more is left to read
//!    reads (progress)
//! ```
//!
//! In: what was taken of each partition of a topic, with the time. Out: [`Cut`]s, and the places that progress may name.
//! Right because a seq is one commit and a commit is atomic: what one partition holds of it lies in one piece, and ends
//! where the next seq begins or where everything decided has been read. A place is named as read only when nothing below it
//! is still buffered. Pure: time comes in.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use rollcall_model::archive::Buffered;
use rollcall_model::{Cut, Fault, Partition, Place, Seq, Topic};

use crate::wiring::LakeBounds;

pub(crate) type At = (Topic, Partition);

/// How long the rest of a commit is waited for, at most, before it is looked for again.
const NOT_WHOLE_WAIT_MAX: Duration = Duration::from_secs(1);

/// What is known of one partition of a topic.
#[derive(Clone, Copy, PartialEq, Debug)]
struct Track {
    /// The last commit that is listed.
    covered: Seq,
    /// Everything below was read.
    next: Place,
    /// Where the first that is buffered stands.
    start: Place,
    /// The commits before the newest.
    whole: Whole,
    /// The newest commit.
    open: Open,
    /// When the oldest that progress doesn't know yet was read.
    since: Option<Duration>,
}

#[derive(Clone, Copy, PartialEq, Debug, Default)]
struct Whole {
    /// The last of them.
    seq: Seq,
    /// Where the newest begins.
    until: Place,
    /// Whether something of them is buffered.
    has_rows: bool,
}

#[derive(Clone, Copy, PartialEq, Debug, Default)]
struct Open {
    seq: Seq,
    has_rows: bool,
    /// When its first record was read.
    since: Duration,
}

/// What was read, and what of it is buffered.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct Cuts {
    bounds: LakeBounds,
    tracks: BTreeMap<At, Track>,
    /// What progress names.
    known: BTreeMap<At, Place>,
    /// Nothing is due before: the commits that it was time for were not whole.
    not_before: Duration,
}

/// What it is time for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Due {
    /// Nothing.
    Nothing,
    /// Something has waited long enough: everything becomes files, so that a table's manifest moves once.
    All,
    /// These take too much room.
    Some(Vec<At>),
}

impl Cuts {
    /// Begins: each partition of a topic with the last commit that is listed, and where it is read from.
    pub(crate) fn new(bounds: LakeBounds, from: impl IntoIterator<Item = (At, (Seq, Place))>) -> Self {
        let track = |(covered, next)| Track {
            covered,
            next,
            start: next,
            whole: Whole { seq: covered, until: next, has_rows: false },
            open: Open { seq: covered, ..Open::default() },
            since: None,
        };
        let tracks = from.into_iter().map(|(at, from)| (at, track(from))).collect();
        Self { bounds, tracks, known: BTreeMap::new(), not_before: Duration::ZERO }
    }

    fn track(&mut self, at: At) -> Result<&mut Track, Fault> {
        let unknown = || Fault::bug(format!("{}/{} is not read by this lake", at.0.name(), at.1));
        self.tracks.get_mut(&at).ok_or_else(unknown)
    }

    /// Notes a record of a commit. Answers whether it is to be kept: what is listed already is not.
    ///
    /// # Errors
    /// Refused when seqs don't grow: then no range of them is a file.
    pub(crate) fn pass(
        &mut self,
        at: At,
        place: Place,
        seq: Seq,
        is_row: bool,
        now: Duration,
    ) -> Result<bool, Fault> {
        let track = self.track(at)?;
        let next = Place { offset: place.offset + 1, ..place };
        track.since.get_or_insert(now);
        track.next = next;
        if seq <= track.covered {
            return Ok(false);
        }
        if seq < track.open.seq {
            return Err(Fault::refused(format!(
                "{}/{} at offset {}: commit {} comes after commit {}",
                at.0.name(),
                at.1,
                place.offset,
                seq.0,
                track.open.seq.0
            ))
            .repair(
                "rollcall topic describe; records that rollcall did not write have come into this topic",
            ));
        }
        if seq > track.open.seq {
            let has_rows = track.whole.has_rows || track.open.has_rows;
            track.whole = Whole { seq: track.open.seq, until: place, has_rows };
            track.open = Open { seq, has_rows: false, since: now };
        }
        if is_row && !track.has_rows() {
            track.start = place;
        }
        track.open.has_rows |= is_row;
        Ok(is_row)
    }

    /// Notes something that belongs to no commit and is not kept.
    pub(crate) fn pass_over(&mut self, at: At, place: Place, now: Duration) -> Result<(), Fault> {
        let track = self.track(at)?;
        track.since.get_or_insert(now);
        track.next = Place { offset: place.offset + 1, ..place };
        Ok(())
    }

    /// When the oldest that progress doesn't know yet was read.
    fn oldest(&self) -> Option<Duration> {
        self.tracks.values().filter_map(|track| track.since).min()
    }

    /// How long it is until something has waited long enough.
    pub(crate) fn due_in(&self, now: Duration) -> Option<Duration> {
        self.oldest().map(|oldest| (oldest + self.bounds.age).max(self.not_before).saturating_sub(now))
    }

    /// What it is time for.
    pub(crate) fn due(&self, now: Duration, buffered: impl Fn(At) -> Buffered) -> Due {
        if now < self.not_before {
            return Due::Nothing;
        }
        if self.oldest().is_some_and(|oldest| now.saturating_sub(oldest) >= self.bounds.age) {
            return Due::All;
        }
        let mut sizes: Vec<(u64, At)> = self.tracks.keys().map(|at| (buffered(*at).bytes, *at)).collect();
        sizes.sort_by(|a, b| b.cmp(a));
        let mut total: u64 = sizes.iter().map(|(bytes, _)| bytes).sum();
        // Down to half, or every further record would make another small file.
        let too_much = total >= self.bounds.buffer_bytes;
        let mut chosen = Vec::new();
        for (bytes, at) in sizes.into_iter().filter(|(bytes, _)| *bytes > 0) {
            if bytes >= self.bounds.file_bytes || (too_much && total > self.bounds.buffer_bytes / 2) {
                chosen.push(at);
                total -= bytes;
            }
        }
        if chosen.is_empty() { Due::Nothing } else { Due::Some(chosen) }
    }

    /// It was time for a file and there was no whole commit for one: the rest of it is waited for.
    pub(crate) fn none_is_whole(&mut self, now: Duration) {
        self.not_before = now + (self.bounds.age / 4).min(NOT_WHOLE_WAIT_MAX);
    }

    /// Whether progress names all that it may.
    pub(crate) fn is_known(&self) -> bool {
        self.known == self.reads()
    }

    /// Whether more of a partition could be cut if it were known that its newest commit is whole.
    pub(crate) fn is_open(&self, at: At) -> bool {
        self.tracks.get(&at).is_some_and(|track| track.open.has_rows)
    }

    /// Where each partition is read on from.
    pub(crate) fn next(&self) -> BTreeMap<At, Place> {
        self.tracks.iter().map(|(at, track)| (*at, track.next)).collect()
    }

    /// The partitions that are read.
    pub(crate) fn all(&self) -> Vec<At> {
        self.tracks.keys().copied().collect()
    }

    /// The cut of what is buffered of a partition, as far as its commits are whole; `is_at_end` when everything decided
    /// has been read, so that the newest commit is whole, too.
    pub(crate) fn cut(&self, at: At, is_at_end: bool) -> Option<Cut> {
        let track = self.tracks.get(&at)?;
        let (last, until) = if is_at_end && track.open.has_rows {
            (track.open.seq, track.next)
        } else if track.whole.has_rows {
            (track.whole.seq, track.whole.until)
        } else {
            return None;
        };
        Some(Cut { topic: at.0, partition: at.1, first: Seq(track.covered.0 + 1), last, until })
    }

    /// Up to which commit everything of a partition will be listed when all its cuts are; `ends` are those of which everything
    /// decided has been read. Not the newest commit: some topic may not show it yet.
    pub(crate) fn whole(&self, partition: Partition, ends: &BTreeSet<At>) -> Seq {
        let tracks = || self.tracks.iter().filter(|(at, _)| at.1 == partition);
        let newest = tracks().map(|(_, track)| track.open.seq).max().unwrap_or_default();
        let seen = tracks().map(|(at, track)| if ends.contains(at) { newest } else { track.open.seq }).min();
        Seq(seen.unwrap_or_default().0.saturating_sub(1))
    }

    /// Notes that a cut is listed.
    pub(crate) fn listed(&mut self, cut: &Cut) -> Result<(), Fault> {
        let track = self.track((cut.topic, cut.partition))?;
        track.covered = cut.last;
        track.start = cut.until;
        track.next = cut.until.max(track.next);
        track.since = Some(track.open.since);
        if cut.last >= track.open.seq {
            track.open.has_rows = false;
        }
        track.whole = Whole { seq: cut.last, until: cut.until, has_rows: false };
        Ok(())
    }

    /// Up to where everything is listed or was nothing to keep: what progress may name.
    pub(crate) fn reads(&self) -> BTreeMap<At, Place> {
        self.tracks.iter().map(|(at, track)| (*at, track.read())).collect()
    }

    /// Notes that progress knows [`Cuts::reads`] now.
    pub(crate) fn committed(&mut self) {
        self.known = self.reads();
        for track in self.tracks.values_mut().filter(|track| !track.has_rows()) {
            track.since = None;
        }
    }

    /// The last commits that are listed.
    pub(crate) fn covered(&self) -> Vec<(Topic, Partition, Seq)> {
        let listed = self.tracks.iter().filter(|(_, track)| track.covered > Seq(0));
        listed.map(|((topic, partition), track)| (*topic, *partition, track.covered)).collect()
    }
}

impl Track {
    fn has_rows(&self) -> bool {
        self.whole.has_rows || self.open.has_rows
    }

    fn read(&self) -> Place {
        if self.has_rows() { self.start } else { self.next }
    }
}

#[cfg(test)]
#[path = "cuts_tests.rs"]
mod tests;
