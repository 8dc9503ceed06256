//! A roster store in memory: the double beside the one on disk. It can be lost and filled again from the topics.

use std::collections::BTreeMap;
use std::ops::Bound;

use rollcall_model::{Fault, IdentityKey, IdentityRecord, MembershipRecord};
use rollcall_roster::{Store, Stored};

/// Identities by key.
#[derive(Clone, Debug, Default)]
pub struct MemoryStore {
    /// What is stored.
    pub rows: BTreeMap<Vec<u8>, Stored>,
}

impl MemoryStore {
    /// Takes what a commit made true.
    pub fn write(&mut self, stored: Vec<(Vec<u8>, Option<Stored>)>) {
        for (key, value) in stored {
            match value {
                Some(stored) => drop(self.rows.insert(key, stored)),
                None => drop(self.rows.remove(&key)),
            }
        }
    }

    /// Takes up a record of `identities`.
    pub fn restore_identity(&mut self, record: IdentityRecord) {
        let key = IdentityKey { source: record.source.clone(), id: record.id.clone() };
        self.rows.entry(key.sort_bytes()).or_insert_with(|| Stored::unknown(key)).restore_identity(record);
    }

    /// Takes up a record of `memberships`.
    pub fn restore_membership(&mut self, record: MembershipRecord) {
        let key = IdentityKey { source: record.source.clone(), id: record.id.clone() };
        self.rows.entry(key.sort_bytes()).or_insert_with(|| Stored::unknown(key)).restore_membership(record);
    }
}

impl Store for MemoryStore {
    fn get(&self, key: &[u8]) -> Result<Option<Stored>, Fault> {
        Ok(self.rows.get(key).cloned())
    }

    fn scan(&self, after: Option<&[u8]>, limit: usize) -> Result<Vec<(Vec<u8>, Stored)>, Fault> {
        let start = after.map_or(Bound::Unbounded, Bound::Excluded);
        let rows = self.rows.range::<[u8], _>((start, Bound::Unbounded)).take(limit);
        Ok(rows.map(|(key, stored)| (key.clone(), stored.clone())).collect())
    }
}
