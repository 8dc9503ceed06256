//! A change meets the stored identity: what it becomes, what it enters and leaves, and what is said of it.

use std::collections::BTreeSet;

use rollcall_model::{
    Cause, Change, ChangeRecord, Fault, GateMode, IdentityKey, Input, Member, Place, Precedence,
    QuarantineRecord, Seen, SegmentId, Version, WaitingPatch,
};

use crate::catalog::Catalog;
use crate::judge::{Judgement, identity_key, judge};
use crate::output::quarantine_key;
use crate::session::Session;
use crate::store::{Stored, StoredState};

/// An absent identity keeps at most this many patches while a backfill is on its way to it; more go to quarantine.
const PENDING_PATCHES_MAX: usize = 1_000;

/// Why an identity is settled anew.
pub(crate) struct Reason<'a> {
    pub(crate) cause: Cause,
    pub(crate) place: Option<Place>,
    pub(crate) source_time_us: i64,
    pub(crate) position: &'a str,
    /// Whether it makes what waits in quarantine obsolete.
    pub(crate) whole: bool,
    /// The segments judged; the others keep their verdict.
    pub(crate) asked: &'a dyn Fn(&SegmentId) -> bool,
}

/// All segments.
pub(crate) fn every(_: &SegmentId) -> bool {
    true
}

enum Next {
    State(StoredState),
    /// Nothing to do but to remember the place.
    Same,
    Quarantine(String),
}

impl Session<'_> {
    /// A change at its place.
    pub(crate) fn apply_change(&mut self, place: Place, change: &ChangeRecord) -> Result<(), Fault> {
        self.see_time(change.source_time_us);
        let key = change.key();
        let stored = self.get(&key.sort_bytes())?;
        if stored.as_ref().is_some_and(|stored| place <= stored.place) {
            return Ok(());
        }
        let stored = stored.unwrap_or_else(|| Stored::unknown(key));
        if let Precedence::Found { cut_us } = change.precedence
            && stored.seen.streamed_us > cut_us
        {
            // The stream has brought it whole since: what a backfill found may be older.
            return Ok(());
        }
        self.drive(place, stored, change, place)
    }

    /// Applies a change whatever its place, and remembers `place`; `origin` is where it stands in the log.
    fn drive(
        &mut self,
        place: Place,
        mut stored: Stored,
        change: &ChangeRecord,
        origin: Place,
    ) -> Result<(), Fault> {
        let whole = matches!(change.change, Change::Upsert { .. } | Change::Delete);
        let before = stored.clone();
        see(&mut stored.seen, change);
        let next = if !stored.parked.is_empty() && !whole {
            Next::Quarantine("an earlier change of this identity waits in quarantine".to_owned())
        } else {
            self.next_state(origin, &stored, change)
        };
        match next {
            Next::Quarantine(reason) => self.park(place, stored, change, origin, reason),
            Next::Same => {
                stored.place = place;
                if stored.seen != before.seen {
                    let floor = self.roster.state.version_floor;
                    stored.version = Version::next(stored.version, floor, change.source_time_us);
                    self.write_identity(&stored);
                }
                self.put(stored);
                Ok(())
            }
            Next::State(state) => {
                let reason = Reason {
                    cause: Cause::Change,
                    place: Some(place),
                    source_time_us: change.source_time_us,
                    position: &change.position,
                    whole,
                    asked: &every,
                };
                self.settle(before, Stored { state, ..stored }, &reason).map(|_| ())
            }
        }
    }

    fn next_state(&self, place: Place, stored: &Stored, change: &ChangeRecord) -> Next {
        match (&stored.state, &change.change) {
            (_, Change::Invalid { reason, .. }) => Next::Quarantine(reason.clone()),
            (_, Change::Upsert { image }) => Next::State(StoredState::Live(image.clone())),
            (StoredState::Live(image), Change::Patch { patch }) => match image.patched(patch) {
                Ok(image) => Next::State(StoredState::Live(image)),
                Err(unknown) => Next::Quarantine(format!(
                    "trait '{}' came without its text (unchanged TOAST) and the stored image does not hold it as \
                     text; `ALTER TABLE environments_trait REPLICA IDENTITY FULL` prevents this, a backfill repairs it",
                    unknown.key
                )),
            },
            (StoredState::Deleted, Change::Patch { .. }) => Next::Same,
            (StoredState::Pending(patches), Change::Patch { .. }) => {
                if !self.roster.state.backfills.contains_key(&change.source) {
                    return Next::Quarantine("it changes an identity that was never seen whole".to_owned());
                }
                if patches.len() >= PENDING_PATCHES_MAX {
                    return Next::Quarantine(format!(
                        "more than {PENDING_PATCHES_MAX} changes wait for a page of this identity"
                    ));
                }
                let mut patches = patches.clone();
                patches.push(WaitingPatch { place, change: change.clone() });
                Next::State(StoredState::Pending(patches))
            }
            // What waits in quarantine is gone with it.
            (_, Change::Delete) if !stored.parked.is_empty() => Next::State(StoredState::Deleted),
            // Nothing was ever said of it downstream: nothing is to be taken back. Where only time tells the stream from a
            // backfill, a tombstone has to keep what the backfill found before it was deleted from coming in.
            (StoredState::Pending(patches), Change::Delete)
                if patches.is_empty() && change.precedence != Precedence::Streamed =>
            {
                Next::Same
            }
            (StoredState::Live(_) | StoredState::Pending(_), Change::Delete) => {
                Next::State(StoredState::Deleted)
            }
            (StoredState::Deleted, Change::Delete) => Next::Same,
        }
    }

    fn park(
        &mut self,
        place: Place,
        mut stored: Stored,
        change: &ChangeRecord,
        origin: Place,
        reason: String,
    ) -> Result<(), Fault> {
        let payload = serde_json::to_value(Input::Change(change.clone()))
            .map_err(|e| Fault::bug("a change can't be written as JSON").from_source(e))?;
        self.out.quarantined.push(QuarantineRecord {
            key: Some(stored.key.clone()),
            reason,
            origin: "roster".to_owned(),
            payload,
            place: Some(origin),
            position: change.position.clone(),
            parks: true,
        });
        stored.place = place;
        stored.parked.push(origin);
        stored.version =
            Version::next(stored.version, self.roster.state.version_floor, change.source_time_us);
        self.write_identity(&stored);
        self.put(stored);
        Ok(())
    }

    /// A patch kept for an identity that never came.
    pub(crate) fn park_waiting(
        &mut self,
        place: Place,
        key: &IdentityKey,
        patch: &WaitingPatch,
    ) -> Result<(), Fault> {
        let stored = self.get(&key.sort_bytes())?.unwrap_or_else(|| Stored::unknown(key.clone()));
        let reason = "its identity never came, although a whole backfill has ended".to_owned();
        self.park(place, stored, &patch.change, patch.place, reason)
    }

    pub(crate) fn replay_parked(
        &mut self,
        place: Place,
        key: &IdentityKey,
        records: &[QuarantineRecord],
    ) -> Result<(), Fault> {
        let Some(mut stored) = self.get(&key.sort_bytes())? else { return Ok(()) };
        if place <= stored.place {
            return Ok(());
        }
        let parked: BTreeSet<_> = std::mem::take(&mut stored.parked).into_iter().collect();
        self.put(stored);
        let mut waiting: Vec<_> =
            records.iter().filter(|r| r.place.is_some_and(|place| parked.contains(&place))).collect();
        waiting.sort_by_key(|record| record.place);
        for record in waiting {
            let origin = record.place.unwrap_or(place);
            let input: Input = serde_json::from_value(record.payload.clone()).map_err(|e| {
                Fault::bad_record(format!("quarantine of {key} can't be read")).from_source(e)
            })?;
            let Input::Change(change) = input else { continue };
            self.out.settled.push(quarantine_key(record));
            let stored = self.get(&key.sort_bytes())?.unwrap_or_else(|| Stored::unknown(key.clone()));
            self.drive(place, stored, &change, origin)?;
        }
        // Written again for the parked list alone, should nothing else have changed.
        if let Some(mut stored) = self.get(&key.sort_bytes())? {
            stored.place = place;
            stored.version = Version::next(stored.version, self.roster.state.version_floor, 0);
            self.write_identity(&stored);
            self.put(stored);
        }
        // What parked again during the replay keeps its record.
        let again: BTreeSet<_> = self.out.quarantined.iter().map(quarantine_key).collect();
        self.out.settled.retain(|settled| !again.contains(settled));
        Ok(())
    }

    fn settle_quarantine(&mut self, key: &IdentityKey, place: Place) {
        self.out.settled.push(format!("{key}/roster/{}-{}", place.epoch, place.offset));
    }

    /// The centre: an identity goes from `before` to what `after` says it is; judges it, keeps `since` of what stays,
    /// and writes what differs. Answers whether its set differed.
    pub(crate) fn settle(
        &mut self,
        before: Stored,
        mut after: Stored,
        reason: &Reason<'_>,
    ) -> Result<bool, Fault> {
        let catalog = std::sync::Arc::clone(&self.roster.catalog);
        exclude(&catalog, &mut after);
        if let Some(place) = reason.place {
            after.place = place;
        }
        if reason.whole {
            for parked in std::mem::take(&mut after.parked) {
                self.settle_quarantine(&before.key, parked);
            }
        }
        let moved = relocate(&catalog, &before, &mut after);
        let asked = |id: &SegmentId| moved || (reason.asked)(id);
        let judgement = match after.image() {
            Some(image) => judge(&catalog, &self.roster.state, &before.key, image, &asked),
            None => Judgement { environment: None, segments: Vec::new(), raised: Vec::new() },
        };
        self.raised.extend(judgement.raised.iter().cloned());
        let judged = judgement.environment.is_some();
        self.out.unowned += u64::from(!judged && is_of_another(&catalog, &after));
        after.version = Version::next(before.version, self.roster.state.version_floor, reason.source_time_us);
        let since_us = reason.source_time_us;
        let (entered, left) = merge_members(&mut after, judgement, moved, &asked, since_us);
        let speaks = judged || !before.members.is_empty();
        // Where it lives; where it was counted, when that is no longer known.
        let lives = after.environment(&catalog).map(|doc| doc.id.clone());
        let home = lives.or_else(|| before.home().cloned()).or_else(|| after.home().cloned());
        let differed = !entered.is_empty() || !left.is_empty();
        let same_identity = is_same_identity(&before, &after);
        if same_identity && !differed {
            after.version = before.version;
            if before != after {
                self.put(after);
            }
            return Ok(false);
        }
        if let Some(home) = home {
            self.count(&before, &home, &entered, &left)?;
            let renamed = match (before.image(), after.image()) {
                (Some(old), Some(new)) => old.identifier != new.identifier,
                (Some(_) | None, _) => false,
            };
            if speaks && (differed || before.state != after.state) {
                self.say(&before, &mut after, &home, moved, (entered, left), reason);
            }
            if differed || ((moved || renamed) && !after.members.is_empty()) {
                after.counted_in = Some(home);
                if let Some(image) = after.image().or(before.image()) {
                    self.write_membership(&after, image);
                }
            }
        }
        if !same_identity {
            self.write_identity(&after);
        }
        self.put(after);
        Ok(differed)
    }

    pub(crate) fn put(&mut self, stored: Stored) {
        self.written.insert(stored.key.sort_bytes(), Some(stored));
    }
}

/// Images of an excluded organisation are not kept: a tombstone stands for them, on which later patches fall unheard,
/// and a backfill brings them back when the gate opens (PROTOCOL.md §4, Gate).
fn exclude(catalog: &Catalog, stored: &mut Stored) {
    match stored.environment(catalog).map(|e| catalog.gate(&e.organisation_id)) {
        Some(GateMode::Exclude) => stored.state = StoredState::Deleted,
        Some(GateMode::On | GateMode::Off) | None => {}
    }
}

/// Whether it lives in an environment that another source owns: kept, and judged by nobody (PROTOCOL.md §1, Owner).
fn is_of_another(catalog: &Catalog, stored: &Stored) -> bool {
    stored.environment(catalog).is_some_and(|doc| !doc.deleted && doc.owner != stored.key.source)
}

/// Whether `identities` says the same of both.
fn is_same_identity(a: &Stored, b: &Stored) -> bool {
    a.state == b.state
        && a.environment_key == b.environment_key
        && a.identity_key == b.identity_key
        && a.left_environment_keys == b.left_environment_keys
        && a.parked == b.parked
        && a.seen == b.seen
}

/// Remembers who spoke of an identity, where that decides between stream and backfill.
fn see(seen: &mut Seen, change: &ChangeRecord) {
    match change.precedence {
        Precedence::Place => {}
        Precedence::Streamed => seen.streamed_us = seen.streamed_us.max(change.source_time_us),
        Precedence::Found { .. } => seen.backfill.clone_from(&change.backfill),
    }
}

/// Brings environment key and identity key up to the catalog. Answers whether the identity left an environment, or
/// its environment took another key: both are a leave there and an enter here. In an environment that another source
/// owns it has no key: it is kept, and shown to nobody (PROTOCOL.md §1, Owner).
fn relocate(catalog: &Catalog, before: &Stored, after: &mut Stored) -> bool {
    let Some(image) = after.image() else { return false };
    let mut moved = before.image().is_some_and(|old| old.environment_id != image.environment_id);
    // Of an environment not yet known nothing is said but that the old one was left; its arrival fills.
    let Some(environment) = catalog.environment_of(&before.key.source, &image.environment_id) else {
        if moved {
            after.left_environment_keys.extend(after.environment_key.take());
            after.identity_key = None;
        }
        return moved;
    };
    let owned = environment.owner == before.key.source;
    let environment_key = owned.then(|| environment.key.clone());
    after.identity_key = Some(identity_key(environment, &before.key, image));
    if after.environment_key != environment_key {
        moved |= before.image().is_some() && after.environment_key.is_some();
        after.left_environment_keys.extend(after.environment_key.take());
        if let Some(new) = &environment_key {
            after.left_environment_keys.remove(new);
        }
        after.environment_key = environment_key;
    }
    moved
}

/// Replaces the judged part of the set; answers who was entered and left, in order of id.
fn merge_members(
    after: &mut Stored,
    judgement: Judgement<'_>,
    moved: bool,
    asked: &dyn Fn(&SegmentId) -> bool,
    since_us: i64,
) -> (Vec<SegmentId>, Vec<SegmentId>) {
    let judged = judgement.environment.is_some();
    let mut wanted: BTreeSet<SegmentId> = judgement.segments.into_iter().collect();
    let old = std::mem::take(&mut after.members);
    let mut left = Vec::new();
    let mut kept = Vec::new();
    for member in old {
        let stays = if moved || !judged {
            false
        } else {
            !asked(&member.segment_id) || wanted.contains(&member.segment_id)
        };
        if stays {
            wanted.remove(&member.segment_id);
            kept.push(member);
        } else {
            left.push(member.segment_id);
        }
    }
    let entered: Vec<_> = wanted.into_iter().collect();
    kept.extend(entered.iter().map(|segment_id| Member {
        segment_id: segment_id.clone(),
        since_us,
        sources: vec!["rule".to_owned()],
    }));
    kept.sort_by(|a, b| a.segment_id.cmp(&b.segment_id));
    after.members = kept;
    (entered, left)
}
