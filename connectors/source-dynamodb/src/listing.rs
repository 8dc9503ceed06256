//! Pages of DescribeStream in; the shards that there are, each with its parent, out: pure.

use std::collections::{BTreeMap, BTreeSet};

use rollcall_model::shards::ShardId;

/// A shard as the stream lists it.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Listed {
    pub(crate) parent: Option<ShardId>,
    /// Its last sequence number is known: nothing more is written to it.
    pub(crate) closed: bool,
}

/// All shards that a stream lists.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Listing {
    pub(crate) shards: BTreeMap<ShardId, Listed>,
}

impl Listing {
    /// Takes a shard in; a page may come twice, an older one after a newer one.
    pub(crate) fn add(&mut self, id: ShardId, parent: Option<ShardId>, closed: bool) {
        let shard = self.shards.entry(id).or_default();
        shard.closed |= closed;
        if shard.parent.is_none() {
            shard.parent = parent;
        }
    }

    pub(crate) fn has_child(&self, id: &ShardId) -> bool {
        self.shards.values().any(|shard| shard.parent.as_ref() == Some(id))
    }

    pub(crate) fn parent(&self, id: &str) -> Option<&ShardId> {
        self.shards.get(id)?.parent.as_ref()
    }

    /// Closed shards with children, of which one has not ended so: what [`rollcall_model::shards::Stream::ended`] remembers.
    pub(crate) fn ended(&self) -> BTreeSet<ShardId> {
        let parents: BTreeSet<&ShardId> =
            self.shards.values().filter_map(|shard| shard.parent.as_ref()).collect();
        let has_ended =
            |id: &ShardId| self.shards.get(id).is_some_and(|shard| shard.closed) && parents.contains(id);
        let alive = self.shards.iter().filter(|(id, _)| !has_ended(id));
        let before = alive.filter_map(|(_, shard)| shard.parent.clone());
        before.filter(|parent| has_ended(parent)).collect()
    }

    /// `ended` and all listed before them.
    pub(crate) fn with_ancestors<'a>(&'a self, ended: &'a BTreeSet<ShardId>) -> BTreeSet<&'a str> {
        let mut all = BTreeSet::new();
        for id in ended {
            let mut next = Some(id);
            while let Some(id) = next {
                if !all.insert(id.as_str()) {
                    break;
                }
                next = self.parent(id);
            }
        }
        all
    }
}
