//! What one identity brings to a judgement.

use rollcall_model::{Traits, Value};

/// One identity in one environment, as rules see it.
#[derive(Clone, Copy, Debug)]
pub struct Context<'a> {
    /// `$.environment.key`.
    pub environment_key: &'a str,
    /// `$.environment.name`.
    pub environment_name: &'a str,
    /// `$.identity.identifier`.
    pub identifier: &'a str,
    /// `$.identity.key`; what a percentage split with a blank property hashes.
    pub identity_key: &'a str,
    /// What the identity's owner set.
    pub traits: &'a Traits,
    /// What the platform set; these win over traits of the same key.
    pub system_traits: &'a Traits,
}

impl<'a> Context<'a> {
    /// The trait of a key, as the reference sees the two maps merged: a system trait hides a trait, even with null.
    pub(crate) fn trait_value(&self, key: &str) -> Option<&'a Value> {
        if self.system_traits.is_empty() {
            return self.traits.get(key);
        }
        self.system_traits.get(key).or_else(|| self.traits.get(key))
    }

    /// Both maps merged, in key order. Only wildcards and filters of a JSONPath walk them.
    pub(crate) fn merged_traits(&self) -> Vec<(&'a str, &'a Value)> {
        let mut merged: Vec<(&str, &Value)> =
            self.traits.iter().filter(|(key, _)| !self.system_traits.contains_key(*key)).map(entry).collect();
        merged.extend(self.system_traits.iter().map(entry));
        merged.sort_unstable_by_key(|(key, _)| *key);
        merged
    }
}

fn entry<'a>((key, value): (&'a String, &'a Value)) -> (&'a str, &'a Value) {
    (key, value)
}
