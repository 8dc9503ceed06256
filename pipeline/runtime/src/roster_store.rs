//! The roster's store on local disk: a cache of `identities`, `memberships` and `segment-counts`.
//!
//! ```text
//! identities  partition · key ▸ Stored
//! counts      partition · segment/environment ▸ (count, fingerprint)
//! meta        partition ▸ which log, which seq, and from where on the topics know more; an order to rebuild it
//! ```
//!
//! One batch per commit of the log, written after it and not synced: what a crash takes away is read again from the
//! topics, because the same batch says from where. A lost folder is the same with everything missing.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use fjall::{Database, Keyspace, KeyspaceCreateOptions, PersistMode};
use rollcall_model::control::CONTROL_KEY;
use rollcall_model::{
    Committed, Fault, Fetched, Fingerprint, IdentityKey, Log, LogId, OutRecord, Partition, Place, Seq, Topic,
};
use rollcall_roster::counts::{Counts, Pair};
use rollcall_roster::output::Passed;
use rollcall_roster::{Output, Store, Stored};
use serde::{Deserialize, Serialize};
use tokio::task::block_in_place;

use crate::clock::now_us;
use crate::read_to_end::read_to_end;

/// What a store is restored from.
pub(crate) const TOPICS: [Topic; 3] = [Topic::Identities, Topic::Memberships, Topic::SegmentCounts];
const CACHE_BYTES: u64 = 64 << 20;
const OPEN_FILES_MAX: usize = 64;

/// The stores of a worker, in one folder.
#[derive(Clone)]
pub struct RosterStores {
    pub(crate) db: Database,
    identities: Keyspace,
    counts: Keyspace,
    pub(crate) meta: Keyspace,
    orders: Arc<Mutex<()>>,
}

impl std::fmt::Debug for RosterStores {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RosterStores").finish_non_exhaustive()
    }
}

#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct Meta {
    pub(crate) log_id: LogId,
    pub(crate) seq: Seq,
    /// Records from here on may be missing.
    pub(crate) from: Vec<(Topic, Place)>,
    /// When it was last written, by this machine's clock. Older than tombstones are kept, it would keep who was deleted.
    #[serde(default)]
    pub(crate) at_us: i64,
}

impl RosterStores {
    /// Opens the folder, making it when it isn't there.
    ///
    /// # Errors
    /// A config fault when it can't be opened.
    pub fn open(path: &Path) -> Result<Self, Fault> {
        let failed = |e: fjall::Error| {
            Fault::config(format!("the roster store in {} can't be opened", path.display()))
                .from_source(e)
                .repair(format!("if it is damaged: `rm -r {}`; it is rebuilt from the log", path.display()))
        };
        let db = Database::builder(path)
            .cache_size(CACHE_BYTES)
            .max_cached_files(Some(OPEN_FILES_MAX))
            .worker_threads(2)
            .open()
            .map_err(failed)?;
        let keyspace = |name: &str| db.keyspace(name, KeyspaceCreateOptions::default);
        let identities = keyspace("identities").map_err(failed)?;
        let counts = keyspace("counts").map_err(failed)?;
        let meta = keyspace("meta").map_err(failed)?;
        Ok(Self { db, identities, counts, meta, orders: Arc::default() })
    }

    /// While it is held, nobody else orders or finishes a rebuild.
    pub(crate) fn orders(&self) -> MutexGuard<'_, ()> {
        self.orders.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The store of one partition.
#[derive(Clone, Debug)]
pub struct PartitionStore {
    stores: RosterStores,
    partition: Partition,
    meta: Meta,
}

pub(crate) fn failed(e: fjall::Error) -> Fault {
    Fault::retry("the roster store on disk failed")
        .from_source(e)
        .repair("free disk space, or check the disk")
}

pub(crate) fn unreadable(e: serde_json::Error) -> Fault {
    Fault::refused("the roster store holds what this version can't read")
        .from_source(e)
        .repair("stop rollcall and remove the folder `store` beside the log; it is rebuilt from the log")
}

impl PartitionStore {
    /// Opens a partition and brings it to where the log stands; a store of another log, or one that is ahead, is
    /// filled anew. Answers how many records it took.
    ///
    /// # Errors
    /// A [`Fault`] of the disk or the log.
    pub async fn open(
        stores: RosterStores,
        log: &Arc<dyn Log>,
        partition: Partition,
        seq: Seq,
        tombstone_retention: Duration,
        restored: impl FnMut(u64),
    ) -> Result<(Self, u64), Fault> {
        let known = stores.meta.get(partition.0.to_be_bytes()).map_err(failed)?;
        let known: Option<Meta> = known.and_then(|bytes| serde_json::from_slice(&bytes).ok());
        let now_us = now_us();
        let fresh = Meta { log_id: log.id().clone(), seq: Seq::default(), from: Vec::new(), at_us: now_us };
        let oldest_us =
            now_us.saturating_sub(i64::try_from(tombstone_retention.as_micros()).unwrap_or(i64::MAX));
        let is_usable = |meta: &Meta| {
            // A place of an earlier epoch is of another log's records (PROTOCOL.md §1, Place).
            let is_of_epoch = meta.from.iter().all(|(_, place)| place.epoch == log.epoch());
            // One that is where the log is has missed nothing, however old it is.
            let is_young = meta.at_us >= oldest_us || meta.seq == seq;
            meta.log_id == *log.id() && meta.seq <= seq && is_of_epoch && is_young
        };
        let usable = known.filter(is_usable);
        let mut store = match usable {
            Some(meta) => Self { stores, partition, meta },
            None => {
                let mut store = Self { stores, partition, meta: fresh };
                store.clear()?;
                store
            }
        };
        if store.meta.seq == seq {
            return Ok((store, 0));
        }
        let taken = store.catch_up(log, seq, restored).await?;
        Ok((store, taken))
    }

    /// The partition as it is on disk, for reading beside its roster.
    #[must_use]
    pub fn view(stores: RosterStores, partition: Partition) -> Self {
        let meta = Meta { log_id: LogId(String::new()), seq: Seq::default(), from: Vec::new(), at_us: 0 };
        Self { stores, partition, meta }
    }

    fn prefix(&self) -> [u8; 2] {
        self.partition.0.to_be_bytes()
    }

    fn key(&self, rest: &[u8]) -> Vec<u8> {
        [&self.prefix(), rest].concat()
    }

    pub(crate) fn clear(&mut self) -> Result<(), Fault> {
        for keyspace in [&self.stores.identities, &self.stores.counts] {
            for entry in keyspace.prefix(self.prefix()) {
                keyspace.remove(entry.key().map_err(failed)?).map_err(failed)?;
            }
        }
        Ok(())
    }

    async fn catch_up(
        &mut self,
        log: &Arc<dyn Log>,
        seq: Seq,
        mut restored: impl FnMut(u64),
    ) -> Result<u64, Fault> {
        let mut from = BTreeMap::new();
        for topic in TOPICS {
            let start = log.range(topic, self.partition).await?.start;
            let known = self.meta.from.iter().find(|(t, _)| *t == topic).map(|(_, place)| *place);
            from.insert((topic, self.partition), known.unwrap_or(start).max(start));
        }
        let mut taken = 0;
        let at = read_to_end(log, from, |records| {
            taken += records.len() as u64;
            restored(taken);
            block_in_place(|| self.restore(&records))
        })
        .await?;
        self.meta.seq = seq;
        self.meta.at_us = now_us();
        self.meta.from = at.into_iter().map(|((topic, _), place)| (topic, place)).collect();
        let meta = serde_json::to_vec(&self.meta).map_err(unreadable)?;
        self.stores.meta.insert(self.prefix(), meta).map_err(failed)?;
        Ok(taken)
    }

    fn restore(&self, records: &[Fetched]) -> Result<(), Fault> {
        let mut restoring = self.restoring();
        for fetched in records {
            let record = &fetched.record;
            let bad = |e| {
                let name = record.topic.name();
                Fault::refused(format!(
                    "{name}/{} at offset {} can't be read",
                    self.partition, fetched.place.offset
                ))
                .from_source(e)
                .repair("run the version of rollcall that wrote the log")
            };
            if record.key.starts_with(CONTROL_KEY.as_bytes()) {
                continue;
            }
            let Some(value) = &record.value else {
                // A tombstone past its retention went for good.
                let key = std::str::from_utf8(&record.key).ok().and_then(IdentityKey::parse);
                if let (Topic::Identities, Some(key)) = (record.topic, key) {
                    restoring.rows.insert(key.sort_bytes(), None);
                }
                continue;
            };
            let out = match record.topic {
                Topic::Identities => serde_json::from_slice(value).map(OutRecord::Identity),
                Topic::Memberships => serde_json::from_slice(value).map(OutRecord::Membership),
                Topic::SegmentCounts => serde_json::from_slice(value).map(OutRecord::Count),
                Topic::IdentityChanges
                | Topic::Catalog
                | Topic::CatalogRows
                | Topic::MembershipChanges
                | Topic::Quarantine
                | Topic::Progress
                | Topic::Checks => continue,
            };
            restoring.take(out.map_err(bad)?)?;
        }
        restoring.batch()?.commit().map_err(failed)
    }

    fn restoring(&self) -> Restoring<'_> {
        Restoring { store: self, rows: BTreeMap::new(), batch: self.stores.db.batch() }
    }

    /// What records of an archive make of the store, to be committed: images in any order, everything else in its topic's.
    pub(crate) fn archived(
        &self,
        records: impl IntoIterator<Item = OutRecord>,
    ) -> Result<fjall::OwnedWriteBatch, Fault> {
        let mut restoring = self.restoring();
        for record in records {
            if let OutRecord::Identity(image) = &record {
                let key = IdentityKey { source: image.source.clone(), id: image.id.clone() };
                if restoring.row(key)?.version > image.version {
                    continue;
                }
            }
            restoring.take(record)?;
        }
        restoring.batch()
    }

    fn put_count(
        &self,
        batch: &mut fjall::OwnedWriteBatch,
        pair: &Pair,
        count: u64,
        fingerprint: Fingerprint,
    ) -> Result<(), Fault> {
        let name = serde_json::to_vec(pair).map_err(unreadable)?;
        let key = self.key(&name);
        if count == 0 {
            batch.remove(&self.stores.counts, key);
        } else {
            let value = serde_json::to_vec(&(count, fingerprint)).map_err(unreadable)?;
            batch.insert(&self.stores.counts, key, value);
        }
        Ok(())
    }

    /// The counts it holds.
    ///
    /// # Errors
    /// A [`Fault`] of the disk.
    pub fn counts(&self) -> Result<Counts, Fault> {
        let mut counts = Counts::default();
        for entry in self.stores.counts.prefix(self.prefix()) {
            let (key, value) = entry.into_inner().map_err(failed)?;
            let pair: Pair = serde_json::from_slice(key.get(2..).unwrap_or_default()).map_err(unreadable)?;
            let (count, fingerprint): (u64, Fingerprint) =
                serde_json::from_slice(&value).map_err(unreadable)?;
            counts.restore(pair, count, fingerprint);
        }
        Ok(counts)
    }

    /// Takes what a commit made true.
    ///
    /// # Errors
    /// A [`Fault`] of the disk; the store must be opened again then.
    pub fn write(&mut self, output: Output, committed: &Committed) -> Result<(), Fault> {
        let mut batch = self.stores.db.batch();
        for passed in &output.counts {
            if let Passed::Record(record) = passed {
                let pair = (record.segment_id.clone(), record.environment_id.clone());
                self.put_count(&mut batch, &pair, record.count, record.fingerprint)?;
            }
        }
        for (key, stored) in output.stored {
            let key = self.key(&key);
            match stored {
                Some(stored) => {
                    let value = serde_json::to_vec(&stored).map_err(unreadable)?;
                    batch.insert(&self.stores.identities, key, value);
                }
                None => batch.remove(&self.stores.identities, key),
            }
        }
        self.meta.seq = output.seq;
        self.meta.at_us = now_us();
        for topic in TOPICS {
            // The commit's own records are taken again after a crash: they say what is, so that changes nothing.
            if let Some(first) = committed.first.get(&(topic, self.partition)) {
                self.meta.from.retain(|(t, _)| *t != topic);
                self.meta.from.push((topic, *first));
            }
        }
        batch.insert(&self.stores.meta, self.prefix(), serde_json::to_vec(&self.meta).map_err(unreadable)?);
        batch.durability(Some(PersistMode::Buffer)).commit().map_err(failed)
    }
}

/// Records on their way into a store.
struct Restoring<'s> {
    store: &'s PartitionStore,
    rows: BTreeMap<Vec<u8>, Option<Stored>>,
    batch: fjall::OwnedWriteBatch,
}

impl Restoring<'_> {
    /// Takes the next record of its topic.
    fn take(&mut self, record: OutRecord) -> Result<(), Fault> {
        match record {
            OutRecord::Identity(record) => {
                let key = IdentityKey { source: record.source.clone(), id: record.id.clone() };
                self.row(key)?.restore_identity(record);
            }
            OutRecord::Membership(record) => {
                let key = IdentityKey { source: record.source.clone(), id: record.id.clone() };
                self.row(key)?.restore_membership(record);
            }
            OutRecord::Count(record) => {
                let pair = (record.segment_id, record.environment_id);
                self.store.put_count(&mut self.batch, &pair, record.count, record.fingerprint)?;
            }
            // A store keeps neither.
            OutRecord::MembershipChange(_) | OutRecord::Watermark(_) => {}
        }
        Ok(())
    }

    fn row(&mut self, key: IdentityKey) -> Result<&mut Stored, Fault> {
        let bytes = key.sort_bytes();
        if !self.rows.contains_key(&bytes) {
            self.rows.insert(bytes.clone(), self.store.get(&bytes)?);
        }
        Ok(self.rows.entry(bytes).or_default().get_or_insert_with(|| Stored::unknown(key)))
    }

    /// All of it in one batch.
    fn batch(mut self) -> Result<fjall::OwnedWriteBatch, Fault> {
        for (key, stored) in self.rows {
            let key = self.store.key(&key);
            match stored {
                Some(stored) => {
                    let value = serde_json::to_vec(&stored).map_err(unreadable)?;
                    self.batch.insert(&self.store.stores.identities, key, value);
                }
                None => self.batch.remove(&self.store.stores.identities, key),
            }
        }
        Ok(self.batch)
    }
}

impl Store for PartitionStore {
    fn get(&self, key: &[u8]) -> Result<Option<Stored>, Fault> {
        let value = self.stores.identities.get(self.key(key)).map_err(failed)?;
        value.map(|bytes| serde_json::from_slice(&bytes).map_err(unreadable)).transpose()
    }

    fn scan(&self, after: Option<&[u8]>, limit: usize) -> Result<Vec<(Vec<u8>, Stored)>, Fault> {
        use std::ops::Bound;
        let start =
            after.map_or(Bound::Included(self.prefix().to_vec()), |after| Bound::Excluded(self.key(after)));
        let end = match self.partition.0.checked_add(1) {
            Some(next) => Bound::Excluded(next.to_be_bytes().to_vec()),
            None => Bound::Unbounded,
        };
        let rows = self.stores.identities.range::<Vec<u8>, _>((start, end)).take(limit);
        rows.map(|entry| {
            let (key, value) = entry.into_inner().map_err(failed)?;
            let stored = serde_json::from_slice(&value).map_err(unreadable)?;
            Ok((key.get(2..).unwrap_or_default().to_vec(), stored))
        })
        .collect()
    }
}
