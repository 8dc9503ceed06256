//! What may be asked of a columnar mirror about rules that are in no catalog: whom a predicate holds for, and what that
//! changes in a segment.
//!
//! ```text
//! Sieve ──sift──────▶ Sifted      counts, and a page of those whose membership it is about
//!       ──candidates▶ Candidates  whole identities, for whoever decides one by one
//! ```

use crate::ids::SegmentId;
use crate::value::Traits;

/// A predicate over the identities of an environment.
#[derive(Clone, PartialEq, Debug)]
pub struct Sieve {
    /// The environment's api key.
    pub environment_key: String,
    /// A boolean expression over `IDENTITIES AS i`, never NULL. Values stand in `params`.
    pub condition: String,
    /// Its bound values by name, as text of the mirror's HTTP interface.
    pub params: Vec<(String, String)>,
    /// The segment whose members are compared with those that the predicate holds for.
    pub segment_id: Option<SegmentId>,
}

/// Which identities are listed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Listed {
    /// Those that the predicate holds for.
    Matching,
    /// Those that it holds for and that are no members.
    Entering,
    /// Members that it doesn't hold for.
    Leaving,
    /// Both of these.
    Moving,
}

impl Listed {
    /// Whether an identity is listed.
    #[must_use]
    pub fn covers(self, holds: bool, is_member: bool) -> bool {
        match self {
            Self::Matching => holds,
            Self::Entering => holds && !is_member,
            Self::Leaving => !holds && is_member,
            Self::Moving => holds != is_member,
        }
    }
}

/// A page of a list, in order of id as text.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ListedPage {
    /// Of whom.
    pub listed: Listed,
    /// At most so many.
    pub limit: u32,
    /// After this id; from the beginning when `None`.
    pub after: Option<String>,
}

/// An identity, and how it stands.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Sighting {
    /// Its native id.
    pub id: String,
    /// Its identifier.
    pub identifier: String,
    /// `identity.key` as rules see it.
    pub identity_key: String,
    /// Whether the predicate holds.
    pub holds: bool,
    /// Whether it is a member of the segment compared with.
    pub is_member: bool,
}

/// How many identities there are of each kind.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct SiftedCounts {
    /// The predicate holds.
    pub matching: u64,
    /// It holds, and they are no members.
    pub entering: u64,
    /// Members for whom it doesn't hold.
    pub leaving: u64,
}

impl SiftedCounts {
    /// Counts one more.
    pub fn add(&mut self, holds: bool, is_member: bool) {
        self.matching += u64::from(holds);
        self.entering += u64::from(Listed::Entering.covers(holds, is_member));
        self.leaving += u64::from(Listed::Leaving.covers(holds, is_member));
    }
}

/// What a predicate keeps.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Sifted {
    /// Of the whole environment, at the same moment as the page; `None` beside a page that is not the first.
    pub counts: Option<SiftedCounts>,
    /// The page.
    pub page: Vec<Sighting>,
}

/// An identity with what rules look at.
#[derive(Clone, PartialEq, Debug)]
pub struct Candidate {
    /// Who it is, and whether the predicate holds.
    pub sighting: Sighting,
    /// Its traits as rules see them: system traits win.
    pub traits: Traits,
}

/// A page of identities that the predicate holds for or that are members, in order of id as text.
#[derive(Clone, PartialEq, Debug)]
pub struct Candidates {
    /// They; empty after the last.
    pub candidates: Vec<Candidate>,
    /// What their traits took on the way.
    pub bytes: u64,
}
