//! The order-free fingerprint of a set of identities.

use serde::{Deserialize, Serialize};

/// The wrapping sum of `xxh64(native id as text, seed 0)` over the members of a set.
///
/// ClickHouse computes the same with `sumWithOverflow(xxHash64(id))`. Adding and removing commute, so a set reached
/// in any order, through any replay, has one fingerprint.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Fingerprint(pub u64);

impl Fingerprint {
    /// The hash of one member.
    #[must_use]
    pub fn of(native_id: &str) -> u64 {
        xxhash_rust::xxh64::xxh64(native_id.as_bytes(), 0)
    }
    /// A member came.
    pub fn add(&mut self, native_id: &str) {
        self.0 = self.0.wrapping_add(Self::of(native_id));
    }
    /// A member went.
    pub fn remove(&mut self, native_id: &str) {
        self.0 = self.0.wrapping_sub(Self::of(native_id));
    }
}

impl From<Fingerprint> for String {
    fn from(fingerprint: Fingerprint) -> Self {
        format!("{:016x}", fingerprint.0)
    }
}

impl TryFrom<String> for Fingerprint {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        u64::from_str_radix(&text, 16).map(Self).map_err(|e| format!("'{text}' is not a fingerprint: {e}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn order_does_not_matter_and_removal_undoes() {
        let mut a = Fingerprint::default();
        for id in ["1", "2", "3"] {
            a.add(id);
        }
        a.remove("2");
        let mut b = Fingerprint::default();
        b.add("3");
        b.add("1");
        assert_eq!(a, b);
    }
}
