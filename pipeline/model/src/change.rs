//! What a source says of one identity, and what that does to its image.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::ids::EnvironmentId;
use crate::value::{Traits, Value};

/// The merged identity.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Image {
    /// The environment it lives in, as its source calls it ([`crate::EnvironmentDoc::called`]).
    pub environment_id: EnvironmentId,
    /// What the platform's users call it; may be renamed.
    pub identifier: String,
    /// What its owner set.
    pub traits: Traits,
    /// What the platform set; they win over traits of the same key when it is judged.
    #[serde(default, skip_serializing_if = "Traits::is_empty")]
    pub system_traits: Traits,
}

/// A part of an identity: what isn't named stays as it was.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Patch {
    /// The identity moved to this environment.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub environment_id: Option<EnvironmentId>,
    /// It was renamed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub identifier: Option<String>,
    /// Traits set.
    #[serde(default, skip_serializing_if = "Traits::is_empty")]
    pub set: Traits,
    /// Traits removed.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub unset: BTreeSet<String>,
    /// Traits that are text and whose text the source did not send, because it did not change (unchanged TOAST).
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub unchanged: BTreeSet<String>,
    /// The system traits, whole.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub system_traits: Option<Traits>,
}

impl Patch {
    /// Whether it says nothing at all.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// What one source transaction, or one page of a backfill, says of one identity.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(tag = "op", rename_all = "snake_case")]
pub enum Change {
    /// The whole image.
    Upsert {
        /// The image.
        image: Image,
    },
    /// A part of it. Never creates an identity.
    Patch {
        /// The part.
        patch: Patch,
    },
    /// It is gone.
    Delete,
    /// Its rows can't be understood: it goes to quarantine and parks the identity.
    Invalid {
        /// Why.
        reason: String,
        /// The rows as they came, for a person to read.
        raw: String,
    },
}

/// A trait's text was not sent and the image does not hold it as text.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct UnknownText {
    /// The trait.
    pub key: String,
}

impl Image {
    /// The image after a patch.
    ///
    /// # Errors
    /// [`UnknownText`] when an unchanged trait isn't text here.
    pub fn patched(&self, patch: &Patch) -> Result<Self, UnknownText> {
        for key in &patch.unchanged {
            if !matches!(self.traits.get(key), Some(Value::Str(_))) {
                return Err(UnknownText { key: key.clone() });
            }
        }
        let mut image = self.clone();
        if let Some(environment_id) = &patch.environment_id {
            image.environment_id = environment_id.clone();
        }
        if let Some(identifier) = &patch.identifier {
            image.identifier.clone_from(identifier);
        }
        for key in &patch.unset {
            image.traits.remove(key);
        }
        image.traits.extend(patch.set.iter().map(|(k, v)| (k.clone(), v.clone())));
        if let Some(system_traits) = &patch.system_traits {
            image.system_traits.clone_from(system_traits);
        }
        Ok(image)
    }

    /// Keys whose value differs between two images, traits and system traits together, in order.
    #[must_use]
    pub fn changed_keys(&self, other: &Self) -> BTreeSet<String> {
        let mut keys = differing(&self.traits, &other.traits);
        keys.extend(differing(&self.system_traits, &other.system_traits));
        keys
    }
}

fn differing(a: &Traits, b: &Traits) -> BTreeSet<String> {
    a.keys().chain(b.keys()).filter(|key| a.get(*key) != b.get(*key)).cloned().collect()
}
