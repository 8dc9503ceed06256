//! What one identity brings to a judgement.

use std::borrow::Cow;

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
    /// The tree as a document gave it; `None` for the one that stored identities have. Only a JSONPath looks at it.
    pub tree: Option<&'a DocumentTree<'a>>,
}

/// A context's tree as a JSON document gave it: the keys of its objects in the document's order, and what stands there
/// that a [`Context`] has no place for. An identity key that was filled in stands where the reference puts it.
#[derive(Debug, Default)]
pub struct DocumentTree<'a> {
    /// `$`.
    pub(crate) root: Vec<(Cow<'a, str>, Slot)>,
    /// `$.environment`.
    pub(crate) environment: Vec<(Cow<'a, str>, Slot)>,
    /// `$.identity`.
    pub(crate) identity: Vec<(Cow<'a, str>, Slot)>,
    /// The keys of `$.identity.traits`.
    pub(crate) traits: Vec<Cow<'a, str>>,
}

/// What stands under a key of a document.
#[derive(Debug)]
pub(crate) enum Slot {
    /// What the context has of that name.
    Known,
    /// A scalar without a place in the context.
    Scalar(Value),
    /// A list or an object without a place in the context, which isn't walked.
    Other,
}

impl DocumentTree<'_> {
    /// Whether there is something that can't be walked.
    pub(crate) fn has_other(&self) -> bool {
        [&self.root, &self.environment, &self.identity]
            .iter()
            .any(|slots| slots.iter().any(|(_, slot)| matches!(slot, Slot::Other)))
    }
}

impl<'a> Context<'a> {
    /// The trait of a key, as the reference sees the two maps merged: a system trait hides a trait, even with null.
    pub(crate) fn trait_value(&self, key: &str) -> Option<&'a Value> {
        if self.system_traits.is_empty() {
            return self.traits.get(key);
        }
        self.system_traits.get(key).or_else(|| self.traits.get(key))
    }

    /// Both maps merged, in key order, or in the document's. Only wildcards and filters of a JSONPath walk them.
    pub(crate) fn merged_traits(&self) -> Vec<(&'a str, &'a Value)> {
        if let Some(tree) = self.tree {
            let value = |key: &'a Cow<'a, str>| self.trait_value(key).map(|value| (&**key, value));
            return tree.traits.iter().filter_map(value).collect();
        }
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
