//! The tree of shards, and what to do with each: pure.
//!
//! ```text
//!         ┌─▶ B ──▶ D          a split has two children, a roll (every 4 hours) has one
//!    A ───┤                    a child holds later changes of its parent's keys: it begins once the parent's end is
//!         └─▶ C ──▶ E          in the log, whoever reads the parent
//!  (trimmed)                   after 24 hours the oldest are listed no more
//! ```
//!
//! In: which shards are listed, what this reader and the others have in the log. Out: which to read and from where, which
//! to wait for, what to note down, what to forget, and what is lost.
//!
//! Why nothing is lost in silence: a reader notes each shard of its own down when it first sees it, before it reads it. So a
//! shard is one of these: noted by its reader (and then its end is in the log, or it is listed and read, or it has
//! vanished: a loss); ended before the stream began; or not seen yet. A child whose parent is none of these, and gone, proves
//! that the parent came and went unread. And a shard that was noted but is read from its oldest record only after a whole
//! retention may have lost what was before that.
//!
//! A loss is accepted by raising the stream's epoch: a reader that begins an epoch lets go of what has vanished, and reads
//! what there is. Only what was lost until then is accepted ([`Stream::began_us`]): a reader that comes a day later finds
//! losses of its own.

use std::collections::{BTreeMap, BTreeSet};

use rollcall_model::shards::{ShardId, ShardProgress, Stream};
use rollcall_model::{Sequence, Shards};
use xxhash_rust::xxh64::xxh64;

use crate::listing::Listing;

/// How long DynamoDB keeps a record.
pub(crate) const RETENTION_US: i64 = 24 * 3_600 * 1_000_000;

/// Whose a shard is, for as long as the stream has so many readers.
pub(crate) fn owner(shard: &str, readers: u16) -> u16 {
    let readers = u64::from(readers.max(1));
    u16::try_from(xxh64(shard.as_bytes(), 0) % readers).unwrap_or_default()
}

/// A repair covers what may be lost when it is accepted, and a reader has so long to accept it: what it finds lost later was
/// perhaps still there when the repair was decided on.
pub(crate) const ACCEPT_WITHIN_US: i64 = 3_600 * 1_000_000;

/// Everything that decides.
#[derive(Debug)]
pub(crate) struct View<'a> {
    pub(crate) stream: &'a Stream,
    pub(crate) index: u16,
    /// Whether this reader has begun this epoch.
    pub(crate) begun: bool,
    pub(crate) listing: &'a Listing,
    /// This reader's shards: progress as the log has it, and what was noted down since.
    pub(crate) own: &'a BTreeMap<ShardId, ShardProgress>,
    pub(crate) others: &'a BTreeMap<u16, Shards>,
    /// By DynamoDB's clock.
    pub(crate) now_us: i64,
    pub(crate) slack_us: i64,
}

/// What to do.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Plan {
    /// What to note down before anything is read: `None` forgets.
    pub(crate) note: BTreeMap<ShardId, Option<ShardProgress>>,
    /// What to read, from where its progress stands; whoever is reading one already goes on.
    pub(crate) read: BTreeMap<ShardId, ShardProgress>,
    /// What waits for its parent's end, and since when it may hold unread records.
    pub(crate) waiting: BTreeMap<ShardId, i64>,
    /// What can't be read any more.
    pub(crate) losses: Vec<Loss>,
}

/// Records that can't be read any more.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Loss {
    pub(crate) shard: ShardId,
    pub(crate) cause: Cause,
    /// Everything before this is in the log.
    pub(crate) from_us: i64,
    /// Everything from here on can still be read.
    pub(crate) to_us: i64,
    /// The last record in the log.
    pub(crate) after: Option<Sequence>,
}

/// How it came to be lost.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Cause {
    /// The shard is listed no more, and its end is not in the log.
    Vanished,
    /// What follows the last record read was trimmed.
    Trimmed,
    /// It was not read for longer than the stream keeps records.
    Unread,
    /// A loss was accepted, but so long before this reader came that more may be lost.
    Late,
    /// It came from a shard that nobody has read.
    Orphan {
        /// That shard.
        parent: ShardId,
    },
}

/// What is known of a shard's parent.
enum Parent {
    /// The child may begin; where the parent ended, if that is known.
    Over(Option<i64>),
    /// It may not.
    Running,
    /// It came and went.
    Missed(ShardId),
}

impl View<'_> {
    pub(crate) fn plan(&self) -> Plan {
        let look = Look::new(self);
        let mut plan = Plan::default();
        if !self.begun && self.stream.epoch > 1 && self.now_us - self.stream.began_us > ACCEPT_WITHIN_US {
            plan.losses.push(self.late());
            return plan;
        }
        for id in self.listing.shards.keys() {
            if owner(id, self.stream.readers) == self.index {
                look.listed(id, &mut plan);
            }
        }
        for (id, progress) in self.own {
            if !self.listing.shards.contains_key(id) {
                look.unlisted(id, progress, &mut plan);
            }
        }
        plan
    }

    fn late(&self) -> Loss {
        let from_us = self.own.values().map(|progress| progress.through_us).min();
        Loss {
            shard: self.stream.name.clone(),
            cause: Cause::Late,
            from_us: from_us.unwrap_or(self.began_us()),
            to_us: self.now_us - RETENTION_US,
            after: None,
        }
    }

    /// What was written before this is not this epoch's concern.
    fn began_us(&self) -> i64 {
        self.stream.began_us - self.slack_us
    }

    /// What of this shard and those before it is the last that is known.
    fn through_us(&self, id: &str) -> i64 {
        let began = self.began_us();
        let mut next = Some(id);
        // A cycle can only come of a broken listing; the bound keeps it from holding us.
        for _ in 0..self.listing.shards.len().saturating_add(1) {
            let Some(id) = next else { break };
            if let Some(progress) = self.progress(id) {
                return progress.through_us.max(began);
            }
            next = self.listing.parent(id).map(String::as_str);
        }
        began
    }

    fn progress(&self, id: &str) -> Option<&ShardProgress> {
        let owner = owner(id, self.stream.readers);
        if owner == self.index { self.own.get(id) } else { self.others.get(&owner)?.shards.get(id) }
    }

    /// Whether another reader, that a shard is of, has noted down what it saw when the epoch began.
    fn owner_begun(&self, id: &str) -> bool {
        let owner = owner(id, self.stream.readers);
        self.others.get(&owner).is_some_and(|shards| shards.epoch >= self.stream.epoch)
    }
}

struct Look<'a> {
    view: &'a View<'a>,
    ended: BTreeSet<&'a str>,
    children: BTreeMap<&'a str, Vec<&'a ShardId>>,
}

impl<'a> Look<'a> {
    fn new(view: &'a View<'a>) -> Self {
        let mut children: BTreeMap<&str, Vec<&ShardId>> = BTreeMap::new();
        for (id, shard) in &view.listing.shards {
            if let Some(parent) = &shard.parent {
                children.entry(parent).or_default().push(id);
            }
        }
        Self { view, ended: view.listing.with_ancestors(&view.stream.ended), children }
    }

    fn listed(&self, id: &ShardId, plan: &mut Plan) {
        let view = self.view;
        let accepting = !view.begun && view.stream.epoch > 1;
        let noted = view.own.get(id);
        if let Some(progress) = noted.filter(|progress| progress.finished) {
            // They are listed at one time, and not before its end.
            let children = self.children.get(id.as_str()).map(Vec::as_slice).unwrap_or_default();
            if progress.children.is_empty() && !children.is_empty() {
                let children = children.iter().copied().cloned().collect();
                plan.note.insert(id.clone(), Some(ShardProgress { children, ..progress.clone() }));
            }
            return;
        }
        if noted.is_none() && (self.ended.contains(id.as_str()) || self.child_has_begun(id)) {
            return;
        }
        let parent = self.parent(id, noted.is_some());
        if let Parent::Missed(parent) = parent {
            plan.losses.push(self.orphan(id, parent));
            return;
        }
        let mut progress = noted.cloned().unwrap_or_else(|| ShardProgress {
            parent: view.listing.parent(id).cloned(),
            after: None,
            through_us: view.through_us(id),
            finished: false,
            children: BTreeSet::new(),
        });
        if accepting && progress.after.is_none() {
            progress.through_us = progress.through_us.max(view.began_us());
        }
        if noted != Some(&progress) {
            plan.note.insert(id.clone(), Some(progress.clone()));
        }
        match parent {
            Parent::Running if progress.after.is_none() => {
                plan.waiting.insert(id.clone(), progress.through_us);
                return;
            }
            Parent::Over(Some(through_us)) => progress.through_us = progress.through_us.max(through_us),
            Parent::Over(None) | Parent::Running | Parent::Missed(_) => {}
        }
        if progress.after.is_none() && progress.through_us < view.now_us - RETENTION_US {
            plan.losses.push(Loss {
                shard: id.clone(),
                cause: Cause::Unread,
                from_us: progress.through_us,
                to_us: view.now_us - RETENTION_US,
                after: None,
            });
            return;
        }
        plan.read.insert(id.clone(), progress);
    }

    /// Whether a child may begin. `noted`: it was noted down before, when its parent was there or gone by right.
    fn parent(&self, id: &ShardId, noted: bool) -> Parent {
        let view = self.view;
        let Some(parent) = view.listing.parent(id) else { return Parent::Over(None) };
        if let Some(progress) = view.progress(parent) {
            let vanished = !view.listing.shards.contains_key(parent);
            let let_go = vanished && !view.begun && owner(parent, view.stream.readers) == view.index;
            return match (progress.finished, let_go) {
                (true, _) => Parent::Over(Some(progress.through_us)),
                (false, true) => Parent::Over(None),
                (false, false) => Parent::Running,
            };
        }
        if self.ended.contains(parent.as_str()) || view.stream.ended.contains(parent) {
            return Parent::Over(None);
        }
        if view.listing.shards.contains_key(parent) {
            // Its reader will note it down, or knows better: what has a child that began is over.
            return if self.child_has_begun(parent) { Parent::Over(None) } else { Parent::Running };
        }
        // Gone: it was so when the epoch began; or it is forgotten, or let go, by its own reader. That one has to have begun
        // before it is said to know nothing of it: it may be about to say what it read.
        let mine = owner(parent, view.stream.readers) == view.index;
        if !mine && !view.owner_begun(parent) {
            Parent::Running
        } else if noted || !view.begun || self.child_has_begun(parent) {
            Parent::Over(None)
        } else {
            Parent::Missed(parent.clone())
        }
    }

    /// A child begins only after its parent's end: one that has begun says that the parent is over, though no progress
    /// does any more.
    fn child_has_begun(&self, id: &str) -> bool {
        let children = self.children.get(id).map(Vec::as_slice).unwrap_or_default();
        children.iter().any(|child| {
            let progress = self.view.progress(child);
            progress.is_some_and(|progress| progress.finished || progress.after.is_some())
        })
    }

    fn orphan(&self, id: &ShardId, parent: ShardId) -> Loss {
        let view = self.view;
        // The lost shard came from one that was read to its end, no further than the earliest of those which no child is
        // known of.
        let all = view.own.iter().chain(view.others.values().flat_map(|shards| &shards.shards));
        let all: Vec<_> = all.collect();
        let parents: BTreeSet<_> = all.iter().filter_map(|(_, progress)| progress.parent.as_ref()).collect();
        let last = all.iter().filter(|(id, progress)| progress.finished && !parents.contains(*id));
        let from_us = last.map(|(_, progress)| progress.through_us).min();
        Loss {
            shard: id.clone(),
            cause: Cause::Orphan { parent },
            from_us: from_us.unwrap_or(view.began_us()),
            to_us: view.now_us,
            after: None,
        }
    }

    fn unlisted(&self, id: &ShardId, progress: &ShardProgress, plan: &mut Plan) {
        let view = self.view;
        if !progress.finished {
            // Accepted, but for what was written since.
            let from_us =
                if view.begun { progress.through_us } else { progress.through_us.max(view.began_us()) };
            if view.begun || from_us < view.now_us - RETENTION_US {
                plan.losses.push(Loss {
                    shard: id.clone(),
                    cause: Cause::Vanished,
                    from_us,
                    to_us: view.now_us - RETENTION_US,
                    after: progress.after.clone(),
                });
            } else {
                plan.note.insert(id.clone(), None);
            }
            return;
        }
        // It is needed until each child is noted down; and it must be gone for good, not only from one answer.
        let children = self.children.get(id.as_str()).map(Vec::as_slice).unwrap_or_default();
        let known = children.iter().all(|child| view.progress(child).is_some());
        if known && progress.through_us < view.now_us - RETENTION_US {
            plan.note.insert(id.clone(), None);
        }
    }
}

/// Everything that was written before this is in the log, by DynamoDB's clock, if `listing` was made after that time:
/// the least of all that is listed and not over, and of what vanished.
pub(crate) fn all_through_us(
    stream: &Stream,
    listing: &Listing,
    all: &BTreeMap<u16, Shards>,
    slack_us: i64,
) -> Option<i64> {
    let none = BTreeMap::new();
    // No reader has this index: all are others.
    let view = View {
        stream,
        index: u16::MAX,
        begun: true,
        listing,
        own: &none,
        others: all,
        now_us: i64::MAX,
        slack_us,
    };
    let look = Look::new(&view);
    let listed = listing.shards.keys().filter_map(|id| match view.progress(id) {
        Some(progress) if progress.finished => None,
        Some(progress) => Some(progress.through_us),
        None if look.ended.contains(id.as_str()) || look.child_has_begun(id) => None,
        None => Some(view.through_us(id)),
    });
    let unlisted = all.values().flat_map(|shards| &shards.shards).filter_map(|(id, progress)| {
        let gone = !progress.finished && !listing.shards.contains_key(id);
        gone.then_some(progress.through_us)
    });
    listed.chain(unlisted).min()
}

/// Everything that was written before this is in the log, whatever a stream has lost: where a repair has to begin.
/// `listing` is empty if the stream is no more.
pub(crate) fn missing_from_us(
    stream: &Stream,
    listing: &Listing,
    all: &BTreeMap<u16, Shards>,
    slack_us: i64,
) -> i64 {
    // What was written after the end of a shard that no child is known of may be missing too.
    let known = all.values().flat_map(|shards| &shards.shards);
    let parents: BTreeSet<_> = known.clone().filter_map(|(_, progress)| progress.parent.as_ref()).collect();
    let last = known.filter(|(id, _)| !parents.contains(*id)).map(|(_, progress)| progress.through_us);
    let began = stream.began_us - slack_us;
    let ends = last.min().unwrap_or(began);
    all_through_us(stream, listing, all, slack_us).map_or(ends, |through_us| through_us.min(ends))
}

#[cfg(test)]
#[path = "tree_tests.rs"]
mod tests;

#[cfg(test)]
#[path = "tree_model.rs"]
mod model;
