//! What was asked, and what was sent.

use std::collections::BTreeMap;

use crate::wire::Action;

/// Requests and records, counted since the start.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Counts {
    /// Requests, refused ones included, by action.
    pub by_action: BTreeMap<Action, u64>,
    /// Requests of GetRecords and GetShardIterator, by shard and action.
    pub by_shard: BTreeMap<String, BTreeMap<Action, u64>>,
    /// Records that GetRecords sent, by shard.
    pub records_by_shard: BTreeMap<String, u64>,
}

impl Counts {
    /// How often an action was asked for.
    #[must_use]
    pub fn of(&self, action: Action) -> u64 {
        self.by_action.get(&action).copied().unwrap_or(0)
    }

    /// Records that GetRecords sent.
    #[must_use]
    pub fn records_read(&self) -> u64 {
        self.records_by_shard.values().sum()
    }

    pub(crate) fn asked(&mut self, action: Action, shard: Option<&str>) {
        *self.by_action.entry(action).or_default() += 1;
        if let Some(shard) = shard {
            *self.by_shard.entry(shard.to_owned()).or_default().entry(action).or_default() += 1;
        }
    }

    pub(crate) fn sent(&mut self, shard: &str, records: u64) {
        match self.records_by_shard.get_mut(shard) {
            Some(sent) => *sent += records,
            None => drop(self.records_by_shard.insert(shard.to_owned(), records)),
        }
    }
}
