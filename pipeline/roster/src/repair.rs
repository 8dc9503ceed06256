//! A verify found that a store says something else: what is true of the identities it named is said again.
//!
//! The roster's set stays as it is; the record has a new version, so it wins over whatever the store holds.

use std::collections::BTreeSet;

use rollcall_model::{Cause, EnvironmentId, Fault, IdentityKey, NativeId, SegmentId, Version};

use crate::change::{Reason, every};
use crate::say::{Home, Moves};
use crate::session::Session;
use crate::store::Stored;

impl Session<'_> {
    /// Says again what is true of an identity in one segment: also of one that is gone, lives elsewhere or never was,
    /// since a store may hold it all the same.
    pub(crate) fn repair(
        &mut self,
        segment_id: &SegmentId,
        environment_id: &EnvironmentId,
        id: &NativeId,
    ) -> Result<(), Fault> {
        let environment = self.roster.catalog.environment(environment_id);
        let known = environment.map(|e| (e.owner.clone(), e.key.clone()));
        let Some((source, environment_key)) = known else { return Ok(()) };
        let key = IdentityKey { source, id: id.clone() };
        let found = self.get(&key.sort_bytes())?;
        let remembered = found.is_some();
        let mut stored = found.unwrap_or_else(|| Stored::unknown(key));
        stored.version =
            Version::next(stored.version, self.roster.state.version_floor, self.roster.state.clock_us);
        if remembered {
            self.write_identity(&stored);
        }
        let lives_here = stored.lives_in(&self.roster.catalog, environment_id);
        let here = stored.image().filter(|_| lives_here).cloned();
        let member = stored.members.iter().find(|m| here.is_some() && m.segment_id == *segment_id);
        let since_us = member.map(|member| member.since_us);
        let (entered, left) = if member.is_some() {
            (vec![segment_id.clone()], vec![])
        } else {
            (vec![], vec![segment_id.clone()])
        };
        let reason = Reason {
            cause: Cause::Repair,
            place: None,
            // Said again as it was: `since` must not move.
            source_time_us: since_us.unwrap_or(self.roster.state.clock_us),
            position: "",
            whole: false,
            asked: &every,
        };
        if let Some(image) = &here {
            stored.counted_in = Some(environment_id.clone());
            self.write_membership(&stored, image);
        }
        let identifier = here.map(|image| image.identifier).unwrap_or_default();
        let home = Home { id: environment_id, key: &environment_key };
        let moves = Moves { changed: BTreeSet::new(), entered, left };
        self.write_change(&stored, &identifier, home, stored.version, moves, &reason);
        if remembered {
            self.put(stored);
        }
        Ok(())
    }
}
