//! Counts per (segment, environment) of one partition: absolute, kept as members come and go.

use std::collections::{BTreeMap, BTreeSet};

use rollcall_model::{EnvironmentId, Fault, Fingerprint, SegmentId};

/// A segment in an environment.
pub type Pair = (SegmentId, EnvironmentId);

/// Count and fingerprint of each pair that has members, and the pairs whose record must be written again.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Counts {
    parts: BTreeMap<Pair, (u64, Fingerprint)>,
    dirty: BTreeSet<Pair>,
}

impl Counts {
    /// Takes up a part as the topic or the store has it.
    pub fn restore(&mut self, pair: Pair, count: u64, fingerprint: Fingerprint) {
        if count == 0 {
            self.parts.remove(&pair);
        } else {
            self.parts.insert(pair, (count, fingerprint));
        }
    }

    /// A member came.
    pub fn enter(&mut self, pair: &Pair, native_id: &str) {
        let (count, fingerprint) = self.parts.entry(pair.clone()).or_default();
        *count += 1;
        fingerprint.add(native_id);
        self.dirty.insert(pair.clone());
    }

    /// A member went.
    ///
    /// # Errors
    /// A bug fault when nobody was counted: the count would go below zero.
    pub fn leave(&mut self, pair: &Pair, native_id: &str) -> Result<(), Fault> {
        let Some((count, fingerprint)) = self.parts.get_mut(pair) else {
            return Err(Fault::bug(format!(
                "identity {native_id} leaves segment {} in environment {}, where nobody is counted",
                pair.0, pair.1
            )));
        };
        *count -= 1;
        fingerprint.remove(native_id);
        if *count == 0 {
            self.parts.remove(pair);
        }
        self.dirty.insert(pair.clone());
        Ok(())
    }

    /// The part of a pair.
    #[must_use]
    pub fn get(&self, pair: &Pair) -> (u64, Fingerprint) {
        self.parts.get(pair).copied().unwrap_or_default()
    }

    /// Every pair that has members.
    pub fn iter(&self) -> impl Iterator<Item = (&Pair, &(u64, Fingerprint))> {
        self.parts.iter()
    }

    /// Asks for a pair's record to be written again.
    pub fn touch(&mut self, pair: Pair) {
        self.dirty.insert(pair);
    }

    /// Whether any record must be written.
    #[must_use]
    pub fn is_dirty(&self) -> bool {
        !self.dirty.is_empty()
    }

    /// The pairs to write, once.
    pub fn take_dirty(&mut self) -> BTreeSet<Pair> {
        std::mem::take(&mut self.dirty)
    }
}
