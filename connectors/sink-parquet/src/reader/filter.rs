//! Which records of a lake are read, and as what.
//!
//! ```text
//! version above as_of ─▶ left out
//! of another environment ─▶ left out, unless it left one that is asked for: then it says that it is gone from there
//! ```

use rollcall_model::archive::ArchiveFilter;
use rollcall_model::{IdentityRecord, IdentityState, MembershipRecord, OutRecord};

/// What is left of a record; `None` when it says nothing of what is asked for.
///
/// A set of another environment is read as an empty one: the identity may have been in a set of one that is asked for
/// before, and a set replaces what stood before it.
pub(super) fn passes(record: OutRecord, filter: &ArchiveFilter) -> Option<OutRecord> {
    let is_later = |version: i64| filter.as_of_us.is_some_and(|as_of| version > as_of);
    let all = filter.environments.is_empty();
    match record {
        OutRecord::Identity(record) if is_later(record.version.0) => None,
        OutRecord::Identity(record) if all => Some(OutRecord::Identity(record)),
        OutRecord::Identity(record) => identity(record, filter),
        OutRecord::Membership(set) if is_later(set.version.0) => None,
        OutRecord::Membership(set) if all || filter.environments.contains(&set.environment_key) => {
            Some(OutRecord::Membership(set))
        }
        OutRecord::Membership(set) => {
            Some(OutRecord::Membership(MembershipRecord { segments: Vec::new(), ..set }))
        }
        OutRecord::MembershipChange(change) => {
            let is_asked = all || filter.environments.contains(&change.environment_key);
            (is_asked && !is_later(change.version.0)).then_some(OutRecord::MembershipChange(change))
        }
        OutRecord::Count(count) => {
            let is_asked = all || filter.environments.contains(count.environment_id.as_str());
            is_asked.then_some(OutRecord::Count(count))
        }
        OutRecord::Watermark(watermark) => Some(OutRecord::Watermark(watermark)),
    }
}

fn identity(record: IdentityRecord, filter: &ArchiveFilter) -> Option<OutRecord> {
    let left: std::collections::BTreeSet<String> =
        record.left_environment_keys.intersection(&filter.environments).cloned().collect();
    let lives_there = record.environment_key.as_ref().is_some_and(|key| filter.environments.contains(key));
    let record = IdentityRecord { left_environment_keys: left, ..record };
    if lives_there {
        return Some(OutRecord::Identity(record));
    }
    let gone = !record.left_environment_keys.is_empty();
    gone.then(|| {
        OutRecord::Identity(IdentityRecord {
            deleted: true,
            state: IdentityState::Deleted,
            environment_key: None,
            identity_key: None,
            parked: Vec::new(),
            ..record
        })
    })
}
