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
}
