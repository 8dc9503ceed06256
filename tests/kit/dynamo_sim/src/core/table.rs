//! A table: items by key, and what eventually consistent readers see of them.
//!
//! ```text
//!   write ─▶ items ───────────────────────────────▶ consistent reads
//!              └─ lag ─▶ settled ─▶ index ─▶ eventually consistent reads, and every Query of the index
//! ```

use std::collections::{BTreeMap, VecDeque};
use std::ops::Bound;
use std::sync::Arc;

use rollcall_model::{Attribute, Item};

use super::draw::place;
use super::error::ApiError;
use super::value;

/// What one page reads at most.
pub(crate) const PAGE_BYTES_MAX: u64 = 1024 * 1024;

/// An item and what is derived from it.
#[derive(Debug)]
pub(crate) struct Stored {
    pub(crate) item: Arc<Item>,
    pub(crate) bytes: u64,
    /// The item, as it is sent.
    pub(crate) json: String,
}

/// Items in the order of scans.
type Items = BTreeMap<(u64, Arc<str>), Arc<Stored>>;

/// A write that eventually consistent readers don't see yet.
#[derive(Debug)]
struct Unsettled {
    due_us: i64,
    key: (u64, Arc<str>),
    stored: Option<Arc<Stored>>,
}

/// A table with a key of one text, and an index by two attributes.
#[derive(Debug)]
pub(crate) struct Table {
    pub(crate) key_name: String,
    pub(crate) index: IndexKey,
    items: Items,
    pub(crate) bytes: u64,
    unsettled: VecDeque<Unsettled>,
    settled: Items,
    by_index: BTreeMap<(String, String, Arc<str>), Arc<Stored>>,
}

/// A global secondary index.
#[derive(Clone, Debug)]
pub struct IndexKey {
    /// Its name.
    pub name: String,
    /// The attribute that a Query names.
    pub hash: String,
    /// The attribute that it is ordered by.
    pub range: String,
}

/// Some items.
#[derive(Debug, Default)]
pub(crate) struct Page {
    pub(crate) items: Vec<Arc<Stored>>,
    /// Bytes read for them.
    pub(crate) bytes: u64,
    /// There may be more behind the last.
    pub(crate) cut: bool,
}

impl Page {
    /// Takes items until the page is full.
    fn fill<'a>(items: impl Iterator<Item = &'a Arc<Stored>>, limit: Option<usize>) -> Self {
        let mut page = Self::default();
        for stored in items {
            page.bytes += stored.bytes;
            page.items.push(Arc::clone(stored));
            // The item that passes the limit is the page's last; said even behind the last item of all.
            if page.bytes > PAGE_BYTES_MAX || limit.is_some_and(|limit| page.items.len() >= limit) {
                page.cut = true;
                break;
            }
        }
        page
    }
}

impl Table {
    pub(crate) fn new(key_name: String, index: IndexKey) -> Self {
        Self {
            key_name,
            index,
            items: Items::new(),
            bytes: 0,
            unsettled: VecDeque::new(),
            settled: Items::new(),
            by_index: BTreeMap::new(),
        }
    }

    /// The key of an item.
    pub(crate) fn key_of(&self, item: &Item) -> Result<Arc<str>, ApiError> {
        match item.get(&self.key_name) {
            Some(Attribute::S(key)) if key.is_empty() => Err(ApiError::validation(format!(
                "One or more parameter values are not valid. The AttributeValue for a key attribute cannot contain an empty string value. Key: {}",
                self.key_name
            ))),
            Some(Attribute::S(key)) if key.len() > 2048 => Err(ApiError::validation(
                "One or more parameter values were invalid: Size of hashkey has exceeded the maximum size limit of2048 bytes",
            )),
            Some(Attribute::S(key)) => Ok(Arc::from(key.as_str())),
            Some(other) => Err(ApiError::validation(format!(
                "One or more parameter values were invalid: Type mismatch for key {} expected: S actual: {}",
                self.key_name,
                other.type_name()
            ))),
            None => Err(ApiError::validation(format!(
                "One or more parameter values were invalid: Missing the key {} in the item",
                self.key_name
            ))),
        }
    }

    /// What the index has an opinion on: its attributes, where they are there, are texts and not empty.
    pub(crate) fn check_index_attributes(&self, item: &Item) -> Result<(), ApiError> {
        for name in [&self.index.hash, &self.index.range] {
            match item.get(name) {
                Some(Attribute::S(text)) if !text.is_empty() => {}
                None => {}
                Some(Attribute::S(_)) => {
                    return Err(ApiError::validation(format!(
                        "One or more parameter values are not valid. A value specified for a secondary index key is not supported. The AttributeValue for a key attribute cannot contain an empty string value. IndexName: {}, IndexKey: {name}",
                        self.index.name
                    )));
                }
                Some(other) => {
                    return Err(ApiError::validation(format!(
                        "One or more parameter values were invalid: Type mismatch for Index Key {name} Expected: S Actual: {} IndexName: {}",
                        other.type_name(),
                        self.index.name
                    )));
                }
            }
        }
        Ok(())
    }

    /// Writes or removes an item; what was there.
    pub(crate) fn write(&mut self, key: &Arc<str>, item: Option<Item>, due_us: i64) -> Option<Arc<Stored>> {
        let at = (place(key), Arc::clone(key));
        let stored = item.map(|item| {
            let json = value::rendered(&[Some(&item)], || serde_json::to_string(&item).unwrap_or_default());
            Arc::new(Stored { bytes: value::size(&item), item: Arc::new(item), json })
        });
        let old = match &stored {
            Some(stored) => {
                self.bytes += stored.bytes;
                self.items.insert(at.clone(), Arc::clone(stored))
            }
            None => self.items.remove(&at),
        };
        self.bytes -= old.as_ref().map_or(0, |old| old.bytes);
        self.unsettled.push_back(Unsettled { due_us, key: at, stored });
        old
    }

    /// Eventually consistent readers now see what is due.
    pub(crate) fn settle(&mut self, now_us: i64) {
        while self.unsettled.front().is_some_and(|write| write.due_us <= now_us) {
            let Some(Unsettled { key, stored, .. }) = self.unsettled.pop_front() else { return };
            let old = match &stored {
                Some(stored) => self.settled.insert(key.clone(), Arc::clone(stored)),
                None => self.settled.remove(&key),
            };
            if let Some(entry) = old.and_then(|old| self.index_entry(&old.item, &key.1)) {
                self.by_index.remove(&entry);
            }
            if let Some(stored) = stored
                && let Some(entry) = self.index_entry(&stored.item, &key.1)
            {
                self.by_index.insert(entry, stored);
            }
        }
    }

    fn index_entry(&self, item: &Item, key: &Arc<str>) -> Option<(String, String, Arc<str>)> {
        match (item.get(&self.index.hash)?, item.get(&self.index.range)?) {
            (Attribute::S(hash), Attribute::S(range)) => Some((hash.clone(), range.clone(), Arc::clone(key))),
            _ => None,
        }
    }

    fn items(&self, consistent: bool) -> &Items {
        if consistent { &self.items } else { &self.settled }
    }

    /// One item.
    pub(crate) fn get(&self, key: &str, consistent: bool) -> Option<&Arc<Stored>> {
        self.items(consistent).get(&(place(key), Arc::from(key)))
    }

    /// All items as they are.
    pub(crate) fn truth(&self) -> impl Iterator<Item = (&Arc<str>, &Arc<Stored>)> {
        self.items.iter().map(|((_, key), stored)| (key, stored))
    }

    pub(crate) fn len(&self) -> usize {
        self.items.len()
    }

    /// How many items the index holds, and their bytes.
    pub(crate) fn indexed(&self) -> (usize, u64) {
        (self.by_index.len(), self.by_index.values().map(|stored| stored.bytes).sum())
    }

    /// A page of segment `segment` of `segments`, from behind `after`.
    pub(crate) fn scan(
        &self,
        (segment, segments): (u32, u32),
        after: Option<&str>,
        limit: Option<usize>,
        consistent: bool,
    ) -> Page {
        let bound = |nth: u32| {
            u64::try_from((u128::from(nth) << 64) / u128::from(segments.max(1))).unwrap_or(u64::MAX)
        };
        let start = match after {
            Some(key) => Bound::Excluded((place(key), Arc::from(key))),
            None => Bound::Included((bound(segment), Arc::from(""))),
        };
        let last = segment + 1 == segments;
        let items = self
            .items(consistent)
            .range((start, Bound::Unbounded))
            .take_while(|((place, _), _)| last || *place < bound(segment + 1));
        Page::fill(items.map(|(_, stored)| stored), limit)
    }

    /// A page of the index under `hash`, from behind `after` (range and key), of which `wanted` holds.
    pub(crate) fn query(
        &self,
        hash: &str,
        after: Option<(&str, &str)>,
        limit: Option<usize>,
        forward: bool,
        wanted: impl Fn(&str) -> bool,
    ) -> Page {
        let entry = |range: &str, key: &str| (hash.to_owned(), range.to_owned(), Arc::from(key));
        let first = Bound::Included(entry("", ""));
        let (from, to) = match after {
            Some((range, key)) if forward => (Bound::Excluded(entry(range, key)), Bound::Unbounded),
            Some((range, key)) => (first, Bound::Excluded(entry(range, key))),
            None => (first, Bound::Unbounded),
        };
        let found = self.by_index.range((from, to));
        let its_own = |((own, range, _), stored): (&'_ (String, String, Arc<str>), &'_ Arc<Stored>)| {
            (own == hash && wanted(range)).then(|| Arc::clone(stored))
        };
        // Entries are ordered by hash first: what follows the hash's own are other hashes'.
        let own: Vec<Arc<Stored>> =
            found.take_while(|((own, _, _), _)| own == hash).filter_map(its_own).collect();
        if forward { Page::fill(own.iter(), limit) } else { Page::fill(own.iter().rev(), limit) }
    }
}
