//! What a roster remembers of each identity, and the store that keeps it.

use std::collections::BTreeSet;

use rollcall_model::{
    EnvironmentDoc, EnvironmentId, Fault, IdentityKey, IdentityRecord, IdentityState, Image, Member,
    MembershipRecord, Place, Seen, Version, WaitingPatch,
};
use serde::{Deserialize, Serialize};

use crate::catalog::Catalog;

/// What an identity is, as remembered.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum StoredState {
    /// It exists.
    Live(Image),
    /// It existed; kept so that older changes and versions can't bring it back.
    Deleted,
    /// Only parts were seen.
    Pending(Vec<WaitingPatch>),
}

/// An identity as the roster remembers it: its record of `identities` and of `memberships`, in one place.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Stored {
    /// Who it is.
    pub key: IdentityKey,
    /// What it is.
    pub state: StoredState,
    /// The highest version given out for it, in either topic.
    pub version: Version,
    /// The environment's api key as last written, where it was known.
    pub environment_key: Option<String>,
    /// `identity.key` as last written.
    pub identity_key: Option<String>,
    /// Api keys of environments it has left.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub left_environment_keys: BTreeSet<String>,
    /// The last input applied to it.
    pub place: Place,
    /// Places of its quarantined changes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub parked: Vec<Place>,
    /// Who spoke of it last, where that decides between stream and backfill.
    #[serde(default, skip_serializing_if = "Seen::is_nothing")]
    pub seen: Seen,
    /// The environment that its membership is counted in: as last written to `memberships`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub counted_in: Option<EnvironmentId>,
    /// Its segments, in order of id.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub members: Vec<Member>,
}

impl Stored {
    /// An identity nothing is known of.
    #[must_use]
    pub fn unknown(key: IdentityKey) -> Self {
        Self {
            key,
            state: StoredState::Pending(Vec::new()),
            version: Version::default(),
            environment_key: None,
            identity_key: None,
            left_environment_keys: BTreeSet::new(),
            place: Place::default(),
            parked: Vec::new(),
            seen: Seen::default(),
            counted_in: None,
            members: Vec::new(),
        }
    }

    /// Its image, where it exists.
    #[must_use]
    pub fn image(&self) -> Option<&Image> {
        match &self.state {
            StoredState::Live(image) => Some(image),
            StoredState::Deleted | StoredState::Pending(_) => None,
        }
    }

    /// The environment it lives in, as far as the catalog knows it.
    #[must_use]
    pub fn environment<'c>(&self, catalog: &'c Catalog) -> Option<&'c EnvironmentDoc> {
        catalog.environment_of(&self.key.source, &self.image()?.environment_id)
    }

    /// Whether it exists in this environment.
    #[must_use]
    pub fn lives_in(&self, catalog: &Catalog, environment: &EnvironmentId) -> bool {
        self.environment(catalog).is_some_and(|doc| doc.id == *environment)
    }

    /// The environment that it is counted in as a member.
    #[must_use]
    pub fn home(&self) -> Option<&EnvironmentId> {
        // Stores of older versions did not keep it: there was only one name for an environment then.
        self.counted_in.as_ref().or_else(|| self.image().map(|image| &image.environment_id))
    }

    /// Takes up what a record of `identities` says (a store that catches up with its topic).
    pub fn restore_identity(&mut self, record: IdentityRecord) {
        self.state = match record.state {
            IdentityState::Live(image) => StoredState::Live(image),
            IdentityState::Deleted => StoredState::Deleted,
            IdentityState::Pending { patches } => StoredState::Pending(patches),
        };
        self.version = self.version.max(record.version);
        self.environment_key = record.environment_key;
        self.identity_key = record.identity_key;
        self.left_environment_keys = record.left_environment_keys;
        self.place = record.place;
        self.parked = record.parked;
        self.seen = record.seen;
    }

    /// Takes up what a record of `memberships` says.
    pub fn restore_membership(&mut self, record: MembershipRecord) {
        self.version = self.version.max(record.version);
        self.counted_in = Some(record.environment_id);
        self.members = record.segments;
    }
}

/// Where a roster partition keeps its identities: a cache of the topics (DESIGN.md §3.5).
pub trait Store: Send + Sync {
    /// One identity.
    ///
    /// # Errors
    /// A [`Fault`] when the store can't be read.
    fn get(&self, key: &[u8]) -> Result<Option<Stored>, Fault>;
    /// Up to `limit` identities in key order, from the first after `after` (or the first of all).
    ///
    /// # Errors
    /// A [`Fault`] when the store can't be read.
    fn scan(&self, after: Option<&[u8]>, limit: usize) -> Result<Vec<(Vec<u8>, Stored)>, Fault>;
}
