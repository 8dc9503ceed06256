//! The topics of the log (DESIGN.md §5, PROTOCOL.md §2).

use serde::{Deserialize, Serialize};

/// What happens to old records of a topic.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Retention {
    /// The newest record per key stays; a record with a null value removes the key.
    Compacted,
    /// Records go by age and size, never before every task that reads them has.
    Time,
}

macro_rules! topics {
    ($($(#[$doc:meta])* $variant:ident = $name:literal, $retention:ident, $spread:literal;)*) => {
        /// A topic of the log.
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
        #[serde(rename_all = "kebab-case")]
        pub enum Topic {
            $($(#[$doc])* $variant,)*
        }
        impl Topic {
            /// Every topic.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];
            /// Its name, without the prefix.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }
            /// What happens to its old records.
            #[must_use]
            pub const fn retention(self) -> Retention {
                match self { $(Self::$variant => Retention::$retention,)* }
            }
            /// Whether it has one partition per roster partition (else one in all).
            #[must_use]
            pub const fn is_partitioned(self) -> bool {
                match self { $(Self::$variant => $spread,)* }
            }
        }
    };
}

topics! {
    /// What sources said, and control records.
    IdentityChanges = "identity-changes", Time, true;
    /// Segments, environments, gates: whole documents.
    Catalog = "catalog", Compacted, false;
    /// The raw rows from which a source rebuilds its joins.
    CatalogRows = "catalog-rows", Compacted, false;
    /// The merged images.
    Identities = "identities", Compacted, true;
    /// The current segments of each identity.
    Memberships = "memberships", Compacted, true;
    /// Who entered and left what.
    MembershipChanges = "membership-changes", Time, true;
    /// Absolute counts per segment, environment and partition.
    SegmentCounts = "segment-counts", Compacted, true;
    /// What could not be processed.
    Quarantine = "quarantine", Compacted, true;
    /// Where each task stands.
    Progress = "progress", Compacted, false;
    /// Answers to checks.
    Checks = "checks", Time, false;
}

impl Topic {
    /// The topic of a name.
    #[must_use]
    pub fn by_name(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|topic| topic.name() == name)
    }

    /// What it is, for people.
    #[must_use]
    pub const fn about(self) -> TopicAbout {
        let (is_public, key, holds) = match self {
            Self::IdentityChanges => (false, "source/id, control/", "what sources said, and control records"),
            Self::Catalog => {
                (true, "segment/ID, environment/ID, gate, gate/ID", "segments, environments and gates, whole")
            }
            Self::CatalogRows => {
                (false, "source/table/primary key", "the rows from which a source rebuilds its joins")
            }
            Self::Identities => (true, "source/id", "the merged image of each identity, or its tombstone"),
            Self::Memberships => (true, "source/id", "the current segments of each identity"),
            Self::MembershipChanges => (true, "source/id", "who entered and left what"),
            Self::SegmentCounts => {
                (true, "segment/environment/partition", "each partition's part of each count")
            }
            Self::Quarantine => (true, "source/id/origin/place", "what could not be processed, and why"),
            Self::Progress => (false, "task", "where each task stands"),
            Self::Checks => {
                (false, "check/store/partition, fill/fill/partition", "answers to checks, reports of fills")
            }
        };
        TopicAbout { key, holds, is_public }
    }

    /// The JSON Schema of its values, in this repository.
    #[must_use]
    pub fn schema_file(self) -> String {
        format!("schemas/topics/{}.v1.json", self.name())
    }
}

/// What a topic is, for people.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TopicAbout {
    /// What its keys look like.
    pub key: &'static str,
    /// What its records say.
    pub holds: &'static str,
    /// Whether it is made for readers outside.
    pub is_public: bool,
}
