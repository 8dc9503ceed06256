//! The shard tree of one stream: the key space, shared by the open shards; each shard's records, in order.
//!
//! ```text
//!   key space  0 ────────────────────────────────── 2⁶⁴
//!              ├────── a ──────┤├────── b ──────────┤     open: records go to the shard that holds the key's place
//!   split a    ├── c ──┤├─ d ──┤├────── b ──────────┤     a is closed; c and d come from a
//!   roll b     ├── c ──┤├─ d ──┤├────── e ──────────┤     b is closed; e comes from b
//! ```
//!
//! A child begins where its parent's numbers end, so the records of one key grow along the lineage. What is older than
//! the retention goes: first records, then closed shards as a whole. Their children still name them.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::ops::Bound;
use std::sync::Arc;

use super::draw::{draw, falls};
use super::sequence::SequenceNumber;

/// How a tree changes by itself.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TreeRules {
    /// How many shards there are at first.
    pub(crate) roots: u32,
    /// How long a shard stays open; `None` is for ever.
    pub(crate) roll_us: Option<i64>,
    /// How many of a hundred shards split where they would roll.
    pub(crate) split_percent: u8,
    /// Whether shards are listed in an order of no meaning.
    pub(crate) shuffled: bool,
}

/// More open shards than this don't split by themselves.
const OPEN_SHARDS_MAX: usize = 4096;

/// A record, as it is sent.
#[derive(Debug)]
pub(crate) struct Record {
    pub(crate) sequence: SequenceNumber,
    pub(crate) at_us: i64,
    pub(crate) json: Arc<str>,
}

/// A shard.
#[derive(Debug)]
pub(crate) struct Shard {
    pub(crate) id: Arc<str>,
    pub(crate) parent: Option<Arc<str>>,
    /// The places that are its own, both ends included.
    pub(crate) from: u64,
    pub(crate) to: u64,
    pub(crate) opened_us: i64,
    pub(crate) closed_us: Option<i64>,
    pub(crate) starting: SequenceNumber,
    pub(crate) ending: Option<SequenceNumber>,
    /// The newest number given out, by a record or not.
    pub(crate) last: SequenceNumber,
    pub(crate) records: VecDeque<Record>,
    pub(crate) written: u64,
    /// The newest record that is no longer there.
    pub(crate) trimmed_through: Option<SequenceNumber>,
    /// It is no longer listed.
    pub(crate) gone: bool,
    roll_due_us: Option<i64>,
}

/// Shards and who came from whom.
#[derive(Debug)]
pub(crate) struct ShardTree {
    seed: u64,
    rules: TreeRules,
    shards: Vec<Shard>,
    by_id: HashMap<Arc<str>, usize>,
    /// The open ones, by their first place.
    open: BTreeMap<u64, usize>,
    /// The listed ones, in the order of lists.
    listing: BTreeMap<(u64, Arc<str>), usize>,
    roll_due: BTreeSet<(i64, usize)>,
    /// Nothing is to be trimmed of what was written later than this.
    oldest_us: i64,
}

impl ShardTree {
    pub(crate) fn new(seed: u64, rules: TreeRules, now_us: i64) -> Self {
        let mut tree = Self {
            seed,
            rules,
            shards: Vec::new(),
            by_id: HashMap::new(),
            open: BTreeMap::new(),
            listing: BTreeMap::new(),
            roll_due: BTreeSet::new(),
            oldest_us: i64::MAX,
        };
        let roots = u64::from(rules.roots.max(1));
        let width = u64::MAX / roots;
        for nth in 0..roots {
            let to = if nth + 1 == roots { u64::MAX } else { (nth + 1) * width - 1 };
            let first = SequenceNumber::first(seed, nth);
            tree.add(None, (nth * width, to), first, now_us);
        }
        tree
    }

    fn add(
        &mut self,
        parent: Option<usize>,
        range: (u64, u64),
        starting: SequenceNumber,
        now_us: i64,
    ) -> usize {
        let nth = self.shards.len();
        let id: Arc<str> = shard_id(self.seed, nth, now_us).into();
        let roll_due_us = self.rules.roll_us.map(|roll_us| {
            // Up to a tenth earlier: shards don't roll all at once.
            let early = draw(self.seed, "roll", nth as u64) % u64::try_from(roll_us / 10 + 1).unwrap_or(1);
            now_us.saturating_add(roll_us).saturating_sub_unsigned(early)
        });
        if let Some(due_us) = roll_due_us {
            self.roll_due.insert((due_us, nth));
        }
        self.by_id.insert(Arc::clone(&id), nth);
        self.open.insert(range.0, nth);
        self.listing.insert(self.listed_at(&id), nth);
        self.shards.push(Shard {
            id,
            parent: parent.map(|parent| Arc::clone(&self.shards[parent].id)),
            from: range.0,
            to: range.1,
            opened_us: now_us,
            closed_us: None,
            starting,
            ending: None,
            last: starting,
            records: VecDeque::new(),
            written: 0,
            trimmed_through: None,
            gone: false,
            roll_due_us,
        });
        nth
    }

    fn listed_at(&self, id: &Arc<str>) -> (u64, Arc<str>) {
        let place = if self.rules.shuffled { draw(self.seed, id, 1) } else { 0 };
        (place, Arc::clone(id))
    }

    /// Adds a record to the shard that is open for `place`.
    pub(crate) fn append(
        &mut self,
        place: u64,
        now_us: i64,
        render: impl FnOnce(SequenceNumber) -> String,
    ) -> Option<(Arc<str>, SequenceNumber)> {
        let (_, index) = self.open.range(..=place).next_back()?;
        let shard = self.shards.get_mut(*index)?;
        let sequence = shard.last.next(self.seed, draw(0, &shard.id, shard.written));
        shard.last = sequence;
        shard.written += 1;
        shard.records.push_back(Record { sequence, at_us: now_us, json: render(sequence).into() });
        self.oldest_us = self.oldest_us.min(now_us);
        Some((Arc::clone(&shard.id), sequence))
    }

    fn close(&mut self, index: usize, now_us: i64) {
        let seed = self.seed;
        let shard = &mut self.shards[index];
        // Beyond the last record: whoever waits for a record of this number waits for ever.
        shard.last = shard.last.next(seed, draw(1, &shard.id, shard.written));
        shard.ending = Some(shard.last);
        shard.closed_us = Some(now_us);
        if let Some(due_us) = shard.roll_due_us.take() {
            self.roll_due.remove(&(due_us, index));
        }
        let from = shard.from;
        self.open.remove(&from);
        self.oldest_us = self.oldest_us.min(now_us);
    }

    /// Closes a shard; `ways` shards follow it. Which, or `None` when it is not open or too narrow.
    pub(crate) fn replace(&mut self, id: &str, ways: u8, now_us: i64) -> Option<Vec<Arc<str>>> {
        let index = *self.by_id.get(id)?;
        let shard = &self.shards[index];
        let (from, to) = (shard.from, shard.to);
        if shard.closed_us.is_some() || to - from < 1 {
            return None;
        }
        self.close(index, now_us);
        let middle = from + (to - from) / 2;
        let ranges = if ways == 1 { vec![(from, to)] } else { vec![(from, middle), (middle + 1, to)] };
        let last = self.shards[index].last;
        Some(
            ranges
                .into_iter()
                .map(|range| {
                    let starting = last.next(self.seed, range.0);
                    let child = self.add(Some(index), range, starting, now_us);
                    Arc::clone(&self.shards[child].id)
                })
                .collect(),
        )
    }

    /// Closes all; nothing follows.
    pub(crate) fn close_all(&mut self, now_us: i64) {
        let open: Vec<usize> = self.open.values().copied().collect();
        for index in open {
            self.close(index, now_us);
        }
    }

    /// What is due by itself up to `now_us`: rolls and splits, each at its time.
    pub(crate) fn roll_until(&mut self, now_us: i64) {
        while let Some((due_us, index)) =
            self.roll_due.first().copied().filter(|(due_us, _)| *due_us <= now_us)
        {
            let id = Arc::clone(&self.shards[index].id);
            let splits = self.open.len() < OPEN_SHARDS_MAX
                && falls(self.seed, "split", index as u64, self.rules.split_percent);
            if self.replace(&id, if splits { 2 } else { 1 }, due_us).is_none() {
                self.roll_due.remove(&(due_us, index));
            }
        }
    }

    /// Forgets records older than `before_us`, and shards that were closed before it.
    pub(crate) fn trim(&mut self, before_us: i64) {
        if self.oldest_us >= before_us {
            return;
        }
        let mut oldest_us = i64::MAX;
        let mut gone = Vec::new();
        for index in self.listing.values().copied() {
            let shard = &mut self.shards[index];
            while shard.records.front().is_some_and(|record| record.at_us < before_us) {
                shard.trimmed_through = shard.records.pop_front().map(|record| record.sequence);
            }
            if shard.closed_us.is_some_and(|closed_us| closed_us < before_us) {
                gone.push(index);
            } else {
                let oldest = shard.records.front().map(|record| record.at_us).or(shard.closed_us);
                oldest_us = oldest_us.min(oldest.unwrap_or(i64::MAX));
            }
        }
        for index in gone {
            self.forget(index);
        }
        self.oldest_us = oldest_us;
    }

    fn forget(&mut self, index: usize) {
        let id = Arc::clone(&self.shards[index].id);
        let place = self.listed_at(&id);
        self.listing.remove(&place);
        let shard = &mut self.shards[index];
        if let Some(record) = shard.records.back() {
            shard.trimmed_through = Some(record.sequence);
        }
        shard.records.clear();
        shard.gone = true;
    }

    /// Forgets a closed shard before its time; `false` when it is open or not there.
    pub(crate) fn vanish(&mut self, id: &str) -> bool {
        let closed = self.by_id.get(id).copied().filter(|index| {
            let shard = &self.shards[*index];
            shard.closed_us.is_some() && !shard.gone
        });
        closed.inspect(|index| self.forget(*index)).is_some()
    }

    /// Forgets all closed shards; which.
    pub(crate) fn vanish_closed(&mut self) -> Vec<String> {
        let listed: Vec<Arc<str>> = self.listing.keys().map(|(_, id)| Arc::clone(id)).collect();
        listed.iter().filter(|id| self.vanish(id)).map(ToString::to_string).collect()
    }

    /// A shard that is listed.
    pub(crate) fn listed(&self, id: &str) -> Option<&Shard> {
        self.known(id).filter(|shard| !shard.gone)
    }

    /// A shard, listed or not.
    pub(crate) fn known(&self, id: &str) -> Option<&Shard> {
        self.by_id.get(id).map(|index| &self.shards[*index])
    }

    /// All that ever were, in the order of their making.
    pub(crate) fn all(&self) -> &[Shard] {
        &self.shards
    }

    /// The listed ones from behind `after`, from the start without it, of which `wanted` holds; one shard more than
    /// fits says that there are more.
    pub(crate) fn page(
        &self,
        after: Option<&str>,
        limit: usize,
        parent: Option<&str>,
    ) -> (Vec<&Shard>, bool) {
        let start = match after {
            Some(id) => Bound::Excluded(self.listed_at(&Arc::from(id))),
            None => Bound::Unbounded,
        };
        let mut found = self
            .listing
            .range((start, Bound::Unbounded))
            .map(|(_, index)| &self.shards[*index])
            .filter(|shard| parent.is_none() || shard.parent.as_deref() == parent);
        let page: Vec<&Shard> = found.by_ref().take(limit).collect();
        (page, found.next().is_some())
    }

    /// The shard `back` places before `id` in the list: a page that begins there says some shards again.
    pub(crate) fn before(&self, id: &str, back: usize) -> Option<Arc<str>> {
        let here = self.listed_at(&Arc::from(id));
        self.listing.range(..here).rev().nth(back.checked_sub(1)?).map(|((_, id), _)| Arc::clone(id))
    }
}

/// As AWS names them: 20 digits of time in milliseconds, eight of chance.
fn shard_id(seed: u64, nth: usize, now_us: i64) -> String {
    let chance = draw(seed, "shard", nth as u64) as u32 ^ u32::try_from(nth).unwrap_or(0).rotate_left(16);
    format!("shardId-{:020}-{chance:08x}", now_us / 1000)
}
