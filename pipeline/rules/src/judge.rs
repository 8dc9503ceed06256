//! A compiled segment's verdict on one identity.
//!
//! Groups are decided in the reference's order and no further than needed, so that a condition which raises does so
//! exactly for the identities on which the reference reaches it.

use std::fmt;

use crate::compile::{CompiledCondition, CompiledRule, CompiledSegment, GroupType};
use crate::context::Context;
use crate::steps::Steps;
use crate::subject::Subject;

/// The reference raises on this identity (or, for a regular expression, would go on for too long).
///
/// Most raising conditions are known before ([`CompiledSegment::unsupported`]). What can't be, because it takes an
/// identity that most projects never have:
/// - regular expressions and JSONPaths that need more than [`crate::JUDGEMENT_STEPS_MAX`] steps together;
/// - MODULO of an int beyond the range of floats (OverflowError);
/// - a number of more than 4,300 digits, which Python neither reads nor writes (ValueError).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Raised {
    /// What raised; names the rule's text, never the identity's values.
    pub reason: String,
    /// Who doesn't answer.
    pub by: Raiser,
}

/// Who doesn't answer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Raiser {
    /// The reference: that is its answer.
    Reference,
    /// This version, which doesn't know what the reference would answer.
    Rollcall,
    /// The bound of steps or memory: the reference would go on, perhaps for years.
    Bound,
}

impl Raised {
    pub(crate) fn new(reason: impl Into<String>) -> Self {
        Self { reason: reason.into(), by: Raiser::Reference }
    }

    /// What would take more than the bound.
    pub(crate) fn beyond_bound(reason: impl Into<String>) -> Self {
        Self { reason: reason.into(), by: Raiser::Bound }
    }

    /// What this version can't answer.
    pub(crate) fn unknown(reason: impl Into<String>) -> Self {
        Self { reason: reason.into(), by: Raiser::Rollcall }
    }
}

impl fmt::Display for Raised {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.reason)
    }
}

impl std::error::Error for Raised {}

impl CompiledSegment {
    /// Whether the identity is in the segment. A segment without rules has no members.
    ///
    /// Answers as the reference does even where [`Self::unsupported`] says why this segment must not be judged: the
    /// caller decides.
    ///
    /// # Errors
    /// [`Raised`] where the reference raises.
    pub fn judge(&self, context: &Context<'_>) -> Result<bool, Raised> {
        if let Some(unreadable) = self.unreadable() {
            return Err(Raised::new(unreadable));
        }
        let steps = Steps::new();
        for rule in self.rules() {
            if !rule.holds(context, &steps)? {
                return Ok(false);
            }
        }
        Ok(!self.rules().is_empty())
    }
}

impl CompiledRule {
    /// Both groups must hold. An empty group holds, whatever the rule's type; the sub-rules are only looked at when
    /// the reference does, which is always.
    fn holds(&self, context: &Context<'_>, steps: &Steps) -> Result<bool, Raised> {
        let conditions =
            decide(&self.group_type, &self.conditions, |condition| condition.holds(context, steps))?;
        let rules = decide(&self.group_type, &self.rules, |rule| rule.holds(context, steps))?;
        Ok(conditions && rules)
    }
}

impl CompiledCondition {
    pub(crate) fn holds(&self, context: &Context<'_>, steps: &Steps) -> Result<bool, Raised> {
        self.operator.holds(&self.subject(context, steps)?, steps)
    }

    pub(crate) fn subject<'a>(&self, context: &Context<'a>, steps: &Steps) -> Result<Subject<'a>, Raised> {
        self.property.resolve(context, steps)
    }
}

fn decide<T>(
    group_type: &GroupType,
    items: &[T],
    mut holds: impl FnMut(&T) -> Result<bool, Raised>,
) -> Result<bool, Raised> {
    if items.is_empty() {
        return Ok(true);
    }
    let (stop_at, verdict) = match group_type {
        GroupType::All => (false, false),
        GroupType::Any => (true, true),
        GroupType::None => (true, false),
        GroupType::Unknown(name) => {
            return Err(Raised::new(match &**name {
                "" => "a rule without a type raises in the reference".to_owned(),
                name => format!("the rule type '{name}' raises in the reference"),
            }));
        }
    };
    for item in items {
        if holds(item)? == stop_at {
            return Ok(verdict);
        }
    }
    Ok(!verdict)
}
