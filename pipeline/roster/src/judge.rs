//! Image → the segments it is in, by the newest catalog.

use rollcall_model::{EnvironmentDoc, GateMode, IdentityKey, Image, SegmentId};
use rollcall_rules::Context;

use crate::catalog::Catalog;
use crate::state::RosterState;
use crate::store::Stored;

/// A segment raised on an identity.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct RaisedOn {
    pub(crate) segment_id: SegmentId,
    pub(crate) number: u64,
    pub(crate) reason: String,
}

/// What the catalog says of an image.
#[derive(Debug)]
pub(crate) struct Judgement<'c> {
    /// Its environment, where its identities are judged.
    pub(crate) environment: Option<&'c EnvironmentDoc>,
    /// The segments it is in, of those asked for, in order of id.
    pub(crate) segments: Vec<SegmentId>,
    pub(crate) raised: Vec<RaisedOn>,
}

/// `identity.key` as rules see it.
pub(crate) fn identity_key(environment: &EnvironmentDoc, key: &IdentityKey, image: &Image) -> String {
    if environment.composite_identity_key {
        format!("{}_{}", environment.key, image.identifier)
    } else {
        key.id.to_string()
    }
}

/// Judges an image by the segments that `asked` for.
pub(crate) fn judge<'c>(
    catalog: &'c Catalog,
    state: &RosterState,
    key: &IdentityKey,
    image: &Image,
    asked: &dyn Fn(&SegmentId) -> bool,
) -> Judgement<'c> {
    let mut judgement = Judgement { environment: None, segments: Vec::new(), raised: Vec::new() };
    let environment = catalog.environment_of(&key.source, &image.environment_id);
    let Some(environment) = environment.filter(|doc| catalog.judges(doc, &key.source)) else {
        return judgement;
    };
    judgement.environment = Some(environment);
    let identity_key = identity_key(environment, key, image);
    let context = Context {
        environment_key: &environment.key,
        environment_name: &environment.name,
        identifier: &image.identifier,
        identity_key: &identity_key,
        traits: &image.traits,
        system_traits: &image.system_traits,
        tree: None,
    };
    for segment in catalog.segments_of(&environment.project_id) {
        let id = &segment.doc.id;
        let suspended = state.suspended.get(id).is_some_and(|(number, _)| *number >= segment.number);
        if suspended || segment.compiled.unsupported().is_some() || !asked(id) {
            continue;
        }
        match segment.compiled.judge(&context) {
            Ok(true) => judgement.segments.push(id.clone()),
            Ok(false) => {}
            Err(raised) => judgement.raised.push(RaisedOn {
                segment_id: id.clone(),
                number: segment.number,
                reason: format!("{} (first met on identity {key})", raised.reason),
            }),
        }
    }
    judgement
}

/// Whether an identity is stored just as the catalog would have it, of the segments that `asked` for: then there is
/// nothing to settle.
pub(crate) fn stands(
    catalog: &Catalog,
    state: &RosterState,
    stored: &Stored,
    asked: &dyn Fn(&SegmentId) -> bool,
) -> bool {
    let Some(image) = stored.image() else { return true };
    let Some(environment) = catalog.environment_of(&stored.key.source, &image.environment_id) else {
        return stored.members.is_empty();
    };
    let excluded = catalog.gate(&environment.organisation_id) == GateMode::Exclude;
    let owned = environment.owner == stored.key.source;
    let key = owned.then_some(environment.key.as_str());
    if excluded || stored.environment_key.as_deref() != key {
        return false;
    }
    if stored.identity_key.as_deref() != Some(identity_key(environment, &stored.key, image).as_str()) {
        return false;
    }
    let judgement = judge(catalog, state, &stored.key, image, asked);
    if judgement.environment.is_none() {
        return stored.members.is_empty();
    }
    let known = stored.members.iter().map(|member| &member.segment_id).filter(|id| asked(id));
    judgement.raised.is_empty() && known.eq(judgement.segments.iter())
}
