//! What becomes of the platform's rows: decided here, without I/O.
//!
//! ```text
//! Changed { difference, restated }  ┐
//! Existing { count, live }          ├──▶ Plan { set, remove, add }
//! Target { count, state }           ┘
//! ```
//!
//! A row follows the ledger by differences, since those cost what changed and not what is stored. Where a difference
//! says nothing, the row takes the ledger's sum instead: a part seen for the first time, a state that changed, a row
//! that is absent, and a row that the difference would bring to zero or below it, which only the sum can tell from
//! one that another writer lowered. So a count is never negative and a row is never deleted on a wrong value.

use std::collections::BTreeMap;

use crate::batch::Pair;
use crate::config::Preset;

/// What the ledger took in of one pair.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Changed {
    /// New parts minus old parts.
    pub(crate) difference: i64,
    /// A part is new or its state changed: the difference alone doesn't say what the row should be.
    pub(crate) restated: bool,
}

/// A row of the platform, locked.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Existing {
    pub(crate) count: i64,
    /// Its segment and its environment still exist.
    pub(crate) live: bool,
}

/// How the parts of a pair add up.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum State {
    Live,
    Filling,
    Unsupported,
    Removed,
}

impl State {
    /// As the tables spell it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Live => "live",
            Self::Filling => "filling",
            Self::Unsupported => "unsupported",
            Self::Removed => "removed",
        }
    }
    /// From the tables' spelling.
    pub(crate) fn by_name(name: &str) -> Option<Self> {
        [Self::Live, Self::Filling, Self::Unsupported, Self::Removed].into_iter().find(|s| s.name() == name)
    }
}

/// What the ledger says of a pair, over all partitions.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Target {
    pub(crate) count: i64,
    pub(crate) state: State,
    pub(crate) reason: Option<String>,
}

/// A row to write.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct NewRow {
    pub(crate) pair: Pair,
    pub(crate) count: i64,
    /// `None` leaves state and reason as they are.
    pub(crate) state: Option<State>,
    pub(crate) reason: Option<String>,
}

/// What to do with the platform's rows.
#[derive(PartialEq, Eq, Debug, Default)]
pub(crate) struct Plan {
    /// Rows to change.
    pub(crate) set: Vec<NewRow>,
    /// Rows to delete.
    pub(crate) remove: Vec<Pair>,
    /// Rows to insert.
    pub(crate) add: Vec<NewRow>,
}

/// Whether the row of a pair takes the ledger's sum.
pub(crate) fn needs_target(changed: Changed, existing: Option<Existing>) -> bool {
    changed.restated || existing.is_none_or(|row| row.live && row.count + changed.difference <= 0)
}

/// Decides. A pair that needs a target and has none is unknown to the ledger: its row goes.
pub(crate) fn plan(
    preset: Preset,
    changed: &BTreeMap<Pair, Changed>,
    existing: &BTreeMap<Pair, Existing>,
    targets: &BTreeMap<Pair, Target>,
) -> Plan {
    let mut plan = Plan::default();
    for (pair, change) in changed {
        let row = existing.get(pair).copied();
        if row.is_some_and(|row| !row.live) {
            plan.remove.push(pair.clone());
        } else if needs_target(*change, row) {
            let target = targets.get(pair).filter(|target| keeps_row(preset, target));
            match (row, target) {
                (Some(_), Some(target)) => plan.set.push(absolute(pair, target)),
                (Some(_), None) => plan.remove.push(pair.clone()),
                (None, Some(target)) => plan.add.push(absolute(pair, target)),
                (None, None) => {}
            }
        } else if let Some(row) = row
            && change.difference != 0
        {
            let count = row.count + change.difference;
            plan.set.push(NewRow { pair: pair.clone(), count, state: None, reason: None });
        }
    }
    plan
}

/// Whether the platform has a row for such a pair.
fn keeps_row(preset: Preset, target: &Target) -> bool {
    match (preset, target.state) {
        (_, State::Removed) | (Preset::Flagsmith, State::Unsupported) => false,
        (Preset::Flagsmith, State::Live | State::Filling) => target.count > 0,
        (Preset::Native, State::Live | State::Filling | State::Unsupported) => true,
    }
}

/// The row as the ledger has it. An unsupported one keeps the sum, so that differences go on applying; readers of the
/// view don't see it.
fn absolute(pair: &Pair, target: &Target) -> NewRow {
    NewRow {
        pair: pair.clone(),
        count: target.count,
        state: Some(target.state),
        reason: target.reason.clone(),
    }
}

#[cfg(test)]
#[path = "plan_tests.rs"]
mod tests;
