//! Sweeps: what a page, a TRUNCATE or the end of a backfill proves gone leaves, a bounded chunk per commit.
//!
//! A sweep blocks its input: the next one comes only when it is through. It keeps no state of its own: after a crash
//! the same input starts it again, and what is already gone stays gone.

use std::collections::BTreeSet;

use rollcall_model::control::{Truncated, Unfound};
use rollcall_model::{BackfillId, Cause, Fault, IdentityKey, NativeId, Patch, Place, SourceName, Version};

use crate::change::{Reason, every};
use crate::session::{Session, Turn};
use crate::store::{Stored, StoredState};

/// Tombstones are looked for this often, in source time.
const TOMBSTONE_SWEEP_EVERY_US: i64 = 24 * 3_600 * 1_000_000;

/// A scan of a key range that removes or changes what it meets.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Sweep {
    after: Option<Vec<u8>>,
    until: Option<Vec<u8>>,
    /// The first key itself is part of the range, `after` is exclusive.
    first: Option<Vec<u8>>,
    kind: SweepKind,
    source_time_us: i64,
}

#[derive(Clone, PartialEq, Eq, Debug)]
enum SweepKind {
    Absent(BTreeSet<NativeId>),
    Identities,
    Traits,
    /// The end of a backfill: patches that still wait, and whom it had to find and did not.
    End {
        backfill: BackfillId,
        unfound: Unfound,
    },
    Tombstones {
        before: Version,
    },
}

impl Sweep {
    /// Identities of a page's range that the page doesn't hold.
    pub(crate) fn page(
        source: &SourceName,
        from: Option<&NativeId>,
        to: Option<&NativeId>,
        present: &BTreeSet<NativeId>,
        source_time_us: i64,
    ) -> Self {
        let key = |id: &NativeId| IdentityKey { source: source.clone(), id: id.clone() }.sort_bytes();
        let (start, end) = source_range(source);
        Self {
            after: Some(from.map_or(start, &key)),
            first: from.map(&key),
            until: Some(to.map_or(end, &key)),
            kind: SweepKind::Absent(present.clone()),
            source_time_us,
        }
    }

    pub(crate) fn truncate(source: &SourceName, what: Truncated, source_time_us: i64) -> Self {
        let kind = match what {
            Truncated::Identities => SweepKind::Identities,
            Truncated::Traits => SweepKind::Traits,
        };
        Self::whole(source, kind, source_time_us)
    }

    fn whole(source: &SourceName, kind: SweepKind, source_time_us: i64) -> Self {
        let (start, end) = source_range(source);
        Self { after: Some(start), first: None, until: Some(end), kind, source_time_us }
    }
}

/// Every key of a source lies strictly between these.
fn source_range(source: &SourceName) -> (Vec<u8>, Vec<u8>) {
    let mut start = source.as_str().as_bytes().to_vec();
    let mut end = start.clone();
    start.push(0);
    end.push(1);
    (start, end)
}

/// Whether an identity that a backfill did not find went while nobody looked. What the stream said of it after what the
/// backfill is of is newer; what it said before a window says nothing, for whoever lives on untouched is not found there
/// either. One that is parked has been spoken of, by whatever waits in quarantine.
fn is_unseen(stored: &Stored, backfill: &BackfillId, unfound: Unfound) -> bool {
    let streamed_us = stored.seen.streamed_us;
    let had_to_be_found = match unfound {
        Unfound::Stay => false,
        Unfound::Gone { since_us } => streamed_us <= since_us,
        Unfound::GoneIfStreamed { from_us, to_us } => (from_us..=to_us).contains(&streamed_us),
    };
    let found = stored.seen.backfill.as_ref() == Some(backfill);
    had_to_be_found && !found && stored.image().is_some() && stored.parked.is_empty()
}

impl Session<'_> {
    /// Goes on with the sweep of this input, or starts it.
    pub(crate) fn sweep(&mut self, place: Place, start: impl FnOnce() -> Sweep) -> Result<Turn, Fault> {
        let going = self.roster.sweep.take().filter(|(of, _)| *of == place);
        let mut sweep = going.map_or_else(start, |(_, sweep)| sweep);
        let mut rows = Vec::new();
        if let Some(first) = sweep.first.take()
            && let Some(stored) = self.get(&first)?
        {
            rows.push((first, stored));
        }
        let (scanned, next) = self.scan(sweep.after.as_deref(), self.roster.scan_rows)?;
        rows.extend(scanned);
        let mut through = next.is_none();
        for (key, stored) in rows {
            if sweep.until.as_ref().is_some_and(|until| key >= *until) {
                through = true;
                break;
            }
            self.sweep_one(place, stored, &sweep)?;
        }
        if through {
            return Ok(Turn::Done);
        }
        sweep.after = next;
        self.roster.sweep = Some((place, sweep));
        Ok(Turn::Unfinished)
    }

    fn sweep_one(&mut self, place: Place, stored: Stored, sweep: &Sweep) -> Result<(), Fault> {
        let reason = Reason {
            cause: Cause::Change,
            place: Some(place),
            source_time_us: sweep.source_time_us,
            position: "",
            whole: matches!(sweep.kind, SweepKind::Absent(_) | SweepKind::Identities),
            asked: &every,
        };
        // Of one that is gone, what waits in quarantine is gone too.
        let exists = stored.state != StoredState::Deleted || !stored.parked.is_empty();
        // What was applied at this place or later is newer than what the sweep knows.
        let older = stored.place < place;
        let next = match &sweep.kind {
            SweepKind::Absent(present) if exists && older && !present.contains(&stored.key.id) => {
                Some(StoredState::Deleted)
            }
            SweepKind::Identities if exists && older => Some(StoredState::Deleted),
            SweepKind::Traits if older => stored.image().map(|image| {
                let unset = image.traits.keys().cloned().collect();
                let bare = image.patched(&Patch { unset, ..Patch::default() });
                StoredState::Live(bare.unwrap_or_else(|_| image.clone()))
            }),
            SweepKind::End { backfill, unfound }
                if exists && older && is_unseen(&stored, backfill, *unfound) =>
            {
                Some(StoredState::Deleted)
            }
            SweepKind::End { .. } => return self.quarantine_waiting(place, stored),
            SweepKind::Tombstones { before } => {
                self.drop_tombstone(stored, *before);
                return Ok(());
            }
            SweepKind::Absent(_) | SweepKind::Identities | SweepKind::Traits => None,
        };
        match next {
            Some(state) => {
                let after = Stored { state, ..stored.clone() };
                self.settle(stored, after, &reason).map(|_| ())
            }
            None => Ok(()),
        }
    }

    /// Patches whose identity never came, although the backfill is through.
    fn quarantine_waiting(&mut self, place: Place, stored: Stored) -> Result<(), Fault> {
        let StoredState::Pending(patches) = &stored.state else { return Ok(()) };
        // A log read again from an older place meets the ends of older backfills: what came after them still waits.
        let (waited, newer): (Vec<_>, Vec<_>) =
            patches.iter().cloned().partition(|patch| patch.place < place);
        if waited.is_empty() {
            return Ok(());
        }
        self.put(Stored { state: StoredState::Pending(newer), ..stored.clone() });
        for patch in waited {
            self.park_waiting(place, &stored.key, &patch)?;
        }
        Ok(())
    }

    fn drop_tombstone(&mut self, stored: Stored, before: Version) {
        if stored.state == StoredState::Deleted && stored.version < before && stored.parked.is_empty() {
            let floor = &mut self.roster.state.version_floor;
            *floor = (*floor).max(stored.version);
            self.written.insert(stored.key.sort_bytes(), None);
            self.out.dropped.push(stored.key);
        }
    }

    pub(crate) fn end_backfill(
        &mut self,
        place: Place,
        source: &SourceName,
        backfill: &BackfillId,
        unfound: Unfound,
    ) -> Result<Turn, Fault> {
        if self.roster.sweep.is_none() && self.roster.state.backfills.get(source) != Some(backfill) {
            return Ok(Turn::Done);
        }
        self.roster.state.backfills.remove(source);
        let clock_us = self.roster.state.clock_us;
        let turn = self.sweep(place, || {
            Sweep::whole(source, SweepKind::End { backfill: backfill.clone(), unfound }, clock_us)
        })?;
        if turn == Turn::Done && self.roster.state.loaded.insert(source.clone()) {
            self.touch_everything();
        }
        if turn == Turn::Unfinished {
            self.roster.state.backfills.insert(source.clone(), backfill.clone());
        }
        Ok(turn)
    }

    /// Once a day of source time, tombstones older than the retention go for good.
    pub(crate) fn sweep_tombstones(&mut self, place: Place) -> Result<Turn, Fault> {
        let state = &self.roster.state;
        let clock_us = state.clock_us;
        let due = clock_us - state.tombstones_swept_us >= TOMBSTONE_SWEEP_EVERY_US;
        if self.roster.sweep.is_none() && !due {
            return Ok(Turn::Done);
        }
        let before = Version(clock_us - self.roster.tombstone_retention_us);
        let all = || Sweep {
            after: None,
            until: None,
            first: None,
            kind: SweepKind::Tombstones { before },
            source_time_us: clock_us,
        };
        let turn = self.sweep(place, all)?;
        if turn == Turn::Done {
            self.roster.state.tombstones_swept_us = clock_us;
        }
        Ok(turn)
    }
}
