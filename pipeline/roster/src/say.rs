//! What is said downstream of an identity that changed: its image, its set, who entered and left, and the counts.

use std::collections::BTreeSet;

use rollcall_model::{
    EnvironmentId, Fault, IdentityRecord, IdentityState, Image, MembershipChange, MembershipRecord,
    SegmentId, Version,
};

use crate::change::Reason;
use crate::output::Passed;
use crate::session::Session;
use crate::store::{Stored, StoredState};

/// An environment, as it is shown to whoever reads `membership-changes`.
#[derive(Clone, Copy)]
pub(crate) struct Home<'a> {
    pub(crate) id: &'a EnvironmentId,
    pub(crate) key: &'a str,
}

/// What one record of `membership-changes` says.
pub(crate) struct Moves {
    /// Trait keys touched.
    pub(crate) changed: BTreeSet<String>,
    pub(crate) entered: Vec<SegmentId>,
    pub(crate) left: Vec<SegmentId>,
}

impl Session<'_> {
    /// Says who entered and left: one record, or two of an identity that moved.
    pub(crate) fn say(
        &mut self,
        before: &Stored,
        after: &mut Stored,
        home: &EnvironmentId,
        moved: bool,
        (entered, left): (Vec<SegmentId>, Vec<SegmentId>),
        reason: &Reason<'_>,
    ) {
        let Some(image) = after.image().or(before.image()) else { return };
        let identifier = image.identifier.clone();
        let changed = touched(before.image(), after.image());
        let old_key = before.environment_key.clone().unwrap_or_default();
        if let (true, Some(old_image), Some(old_home)) =
            (moved && !left.is_empty(), before.image(), before.home())
        {
            let moves = Moves { changed: BTreeSet::new(), entered: Vec::new(), left };
            let place = Home { id: old_home, key: &old_key };
            self.write_change(before, &old_image.identifier, place, after.version, moves, reason);
            after.version = Version(after.version.0 + 1);
            // Where nobody is shown, nobody arrives.
            if let Some(key) = &after.environment_key {
                let moves = Moves { changed, entered, left: Vec::new() };
                let place = Home { id: home, key };
                self.write_change(after, &identifier, place, after.version, moves, reason);
            }
        } else {
            let key = after.environment_key.clone().unwrap_or(old_key);
            let moves = Moves { changed, entered, left };
            let place = Home { id: home, key: &key };
            self.write_change(after, &identifier, place, after.version, moves, reason);
        }
    }

    pub(crate) fn count(
        &mut self,
        before: &Stored,
        home: &EnvironmentId,
        entered: &[SegmentId],
        left: &[SegmentId],
    ) -> Result<(), Fault> {
        let id = before.key.id.to_string();
        let old_home = before.home().unwrap_or(home);
        for segment in left {
            self.roster.counts.leave(&(segment.clone(), old_home.clone()), &id)?;
        }
        for segment in entered {
            self.roster.counts.enter(&(segment.clone(), home.clone()), &id);
        }
        Ok(())
    }

    pub(crate) fn write_change(
        &mut self,
        stored: &Stored,
        identifier: &str,
        home: Home<'_>,
        version: Version,
        Moves { changed, entered, left }: Moves,
        reason: &Reason<'_>,
    ) {
        self.events += 1;
        let (log_id, partition, seq) = (&self.roster.log_id, self.roster.partition, self.out.seq);
        let change = MembershipChange {
            event_id: format!("{log_id}-{partition}-{}-{}", seq.0, self.events),
            log_id: log_id.clone(),
            environment_id: home.id.clone(),
            environment_key: home.key.to_owned(),
            source: stored.key.source.clone(),
            id: stored.key.id.clone(),
            identifier: identifier.to_owned(),
            identity_key: stored.identity_key.clone().unwrap_or_default(),
            version,
            seq,
            changed,
            entered,
            left,
            cause: reason.cause,
            at_us: reason.source_time_us,
            position: reason.position.to_owned(),
        };
        self.out.changes.push(Passed::Record(change));
    }

    pub(crate) fn write_membership(&mut self, stored: &Stored, image: &Image) {
        self.out.memberships.push(MembershipRecord {
            log_id: self.roster.log_id.clone(),
            seq: self.out.seq,
            version: stored.version,
            source: stored.key.source.clone(),
            id: stored.key.id.clone(),
            environment_id: stored.home().unwrap_or(&image.environment_id).clone(),
            environment_key: stored.environment_key.clone().unwrap_or_default(),
            identifier: image.identifier.clone(),
            segments: stored.members.clone(),
        });
    }

    pub(crate) fn write_identity(&mut self, stored: &Stored) {
        self.out.identities.push(IdentityRecord {
            log_id: self.roster.log_id.clone(),
            partition: self.roster.partition,
            seq: self.out.seq,
            version: stored.version,
            deleted: stored.image().is_none(),
            source: stored.key.source.clone(),
            id: stored.key.id.clone(),
            environment_key: stored.environment_key.clone(),
            identity_key: stored.identity_key.clone(),
            state: match &stored.state {
                StoredState::Live(image) => IdentityState::Live(image.clone()),
                StoredState::Deleted => IdentityState::Deleted,
                StoredState::Pending(patches) => IdentityState::Pending { patches: patches.clone() },
            },
            left_environment_keys: stored.left_environment_keys.clone(),
            place: stored.place,
            parked: stored.parked.clone(),
            seen: stored.seen.clone(),
        });
    }
}

/// Trait keys that an event names.
fn touched(before: Option<&Image>, after: Option<&Image>) -> BTreeSet<String> {
    let all = |image: &Image| image.traits.keys().chain(image.system_traits.keys()).cloned().collect();
    match (before, after) {
        (Some(a), Some(b)) => a.changed_keys(b),
        (Some(image), None) | (None, Some(image)) => all(image),
        (None, None) => BTreeSet::new(),
    }
}
