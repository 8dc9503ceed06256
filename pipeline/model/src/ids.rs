//! Names and keys. Each is its own type, so that a project can't stand where an environment is wanted.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::place::Partition;

macro_rules! name {
    ($(#[$doc:meta])* $ty:ident) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $ty(Arc<str>);

        impl $ty {
            /// The name as text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }
        impl From<&str> for $ty {
            fn from(text: &str) -> Self {
                Self(Arc::from(text))
            }
        }
        impl From<String> for $ty {
            fn from(text: String) -> Self {
                Self(Arc::from(text))
            }
        }
        impl From<i64> for $ty {
            fn from(number: i64) -> Self {
                Self(Arc::from(number.to_string()))
            }
        }
        impl fmt::Display for $ty {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

name!(
    /// A source as topology.yaml names it (`core`, `edge`). Holds no `/`.
    SourceName
);
name!(
    /// The platform's own id of an environment (a number in Postgres), not its api key.
    EnvironmentId
);
name!(
    /// The platform's own id of a project.
    ProjectId
);
name!(
    /// The platform's own id of an organisation.
    OrganisationId
);
name!(
    /// The platform's own id of a segment; it salts percentage splits.
    SegmentId
);

/// The id an identity keeps for life, as its source knows it: a number in Postgres, a composite key in DynamoDB.
///
/// Ordered as the source orders it, so that a page's range means the same here and there.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(untagged)]
pub enum NativeId {
    /// An integer primary key.
    Int(i64),
    /// A text key.
    Text(Arc<str>),
}

impl NativeId {
    /// Bytes that sort as the ids do; the second half of a store key.
    #[must_use]
    pub fn sort_bytes(&self) -> Vec<u8> {
        match self {
            Self::Int(n) => {
                let mut bytes = vec![1];
                bytes.extend_from_slice(&((*n as u64) ^ (1 << 63)).to_be_bytes());
                bytes
            }
            Self::Text(text) => {
                let mut bytes = vec![2];
                bytes.extend_from_slice(text.as_bytes());
                bytes
            }
        }
    }
}

impl fmt::Display for NativeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Int(n) => write!(f, "{n}"),
            Self::Text(text) => f.write_str(text),
        }
    }
}

/// The key of every identity topic: `source/native id`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub struct IdentityKey {
    /// Which source speaks of it.
    pub source: SourceName,
    /// Its id there.
    pub id: NativeId,
}

impl IdentityKey {
    /// The partition it lives in for ever: `xxh64(source/native id) mod partitions` (PROTOCOL.md §1).
    #[must_use]
    pub fn partition(&self, partitions: u16) -> Partition {
        let hash = xxhash_rust::xxh64::xxh64(self.to_string().as_bytes(), 0);
        Partition((hash % u64::from(partitions.max(1))) as u16)
    }

    /// Reads `source/native id` back; digits are an integer id.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (source, id) = text.split_once('/')?;
        let id = match id.parse::<i64>() {
            Ok(number) if number.to_string() == id => NativeId::Int(number),
            Ok(_) | Err(_) => NativeId::Text(Arc::from(id)),
        };
        Some(Self { source: source.into(), id })
    }

    /// Bytes that sort by source, then as the source orders its ids: the key of the roster's store.
    #[must_use]
    pub fn sort_bytes(&self) -> Vec<u8> {
        let mut bytes = self.source.as_str().as_bytes().to_vec();
        bytes.push(0);
        bytes.extend_from_slice(&self.id.sort_bytes());
        bytes
    }
}

impl fmt::Display for IdentityKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.source, self.id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn store_keys_sort_as_the_source_does() {
        let ids = [-5_i64, -1, 0, 1, 9, 10, 2_000_000_000];
        let keys: Vec<_> = ids
            .iter()
            .map(|n| IdentityKey { source: "core".into(), id: NativeId::Int(*n) }.sort_bytes())
            .collect();
        assert!(keys.is_sorted());
    }

    #[test]
    fn an_identity_stays_in_its_partition() {
        let key = IdentityKey { source: "core".into(), id: NativeId::Int(42) };
        assert_eq!(key.partition(8), key.clone().partition(8));
        assert!(key.partition(8).0 < 8);
    }
}
