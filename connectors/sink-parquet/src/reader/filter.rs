//! Which records of a lake are wanted, and what is wanted of them.

use rollcall_model::archive::ArchiveFilter;
use rollcall_model::{Fault, OutRecord};

/// What a filter leaves of a record; `None` when nothing.
///
/// An identity that left a wanted environment for another is still news there: of its image only the leaving is passed
/// on, and its set is passed on empty, which takes back what an older one said.
pub(super) fn pass(record: OutRecord, filter: &ArchiveFilter) -> Result<Option<OutRecord>, Fault> {
    let is_wanted = |key: &str| filter.environments.is_empty() || filter.environments.contains(key);
    let is_past = |version: i64| filter.as_of_us.is_none_or(|as_of| version <= as_of);
    Ok(match record {
        OutRecord::Identity(mut record) => {
            if !record.environment_key.as_deref().is_some_and(is_wanted) && !filter.environments.is_empty() {
                record.environment_key = None;
            }
            if !filter.environments.is_empty() {
                record.left_environment_keys.retain(|key| is_wanted(key));
            }
            let says = filter.environments.is_empty()
                || record.environment_key.is_some()
                || !record.left_environment_keys.is_empty();
            (says && is_past(record.version.0)).then_some(OutRecord::Identity(record))
        }
        OutRecord::Membership(mut record) => {
            if !is_wanted(&record.environment_key) {
                record.segments.clear();
            }
            is_past(record.version.0).then_some(OutRecord::Membership(record))
        }
        OutRecord::MembershipChange(record) => (is_wanted(&record.environment_key)
            && is_past(record.version.0))
        .then_some(OutRecord::MembershipChange(record)),
        OutRecord::Count(_) if filter.as_of_us.is_some() => {
            return Err(Fault::bug("counts have no time: those of one are counted from memberships"));
        }
        OutRecord::Count(record) => {
            is_wanted(record.environment_id.as_str()).then_some(OutRecord::Count(record))
        }
        OutRecord::Watermark(_) => None,
    })
}
