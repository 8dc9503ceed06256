//! The store under the log: which keyspaces there are, and the only code that knows fjall.
//!
//! ```text
//! <topic>             partition · offset ▸ record
//! <topic>.kept        partition · key    ▸ the record that compaction keeps   } compacted topics
//! <topic>.tombstones  partition · offset ▸ when, key                          }
//! meta                log ▸ label, part/<topic>/<partition> ▸ part, task/<name> ▸ task
//! ```
//!
//! A [`Batch`] is in the journal and synced before any of it can be read; after a crash it is there whole or not at
//! all (the journal closes each batch with its checksum and drops an open one).

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use fjall::config::FilterPolicy;
use fjall::{Database, Keyspace, KeyspaceCreateOptions, PersistMode};
use rollcall_model::{Fault, Partition, Retention, Topic};

use crate::codec::{self, Decoded, Kept, Part, Task, Tombstone};
use crate::config::EmbeddedLogConfig;
use crate::folder::{Label, io_fault};
use crate::journal;

/// Per keyspace, of which about twenty exist: what a crash has to read again stays small.
const MEMTABLE_BYTES_MAX: u64 = 8 << 20;
/// One flushes while the other merges; more only take the cores from the rosters.
const WORKER_THREADS: usize = 2;
const LABEL_KEY: &str = "log";

/// An open store.
pub(crate) struct Store {
    path: PathBuf,
    db: Database,
    meta: Keyspace,
    topics: BTreeMap<Topic, TopicSpaces>,
}

struct TopicSpaces {
    records: Keyspace,
    /// Compacted topics alone.
    index: Option<IndexSpaces>,
}

struct IndexSpaces {
    kept: Keyspace,
    tombstones: Keyspace,
}

/// What becomes durable together.
pub(crate) struct Batch<'a> {
    store: &'a Store,
    inner: fjall::OwnedWriteBatch,
}

/// Everything the log keeps in memory of its store.
#[derive(Clone, PartialEq, Debug, Default)]
pub(crate) struct Loaded {
    pub(crate) label: Option<Label>,
    pub(crate) parts: BTreeMap<(Topic, Partition), Part>,
    pub(crate) tasks: BTreeMap<String, Task>,
}

impl Store {
    /// Opens or makes it, and finishes what a crash left: nothing of it is visible before it is durable.
    pub(crate) fn open(path: &Path, config: &EmbeddedLogConfig) -> Result<Self, Fault> {
        let failed = |e| store_fault("can't open the log", path, e);
        let open = || {
            Database::builder(path)
                .cache_size(config.cache_bytes)
                .max_cached_files(Some(config.open_files_max.max(10)))
                .worker_threads(WORKER_THREADS)
                .open()
        };
        let db = match open() {
            // fjall drops a last batch without an end, but not one whose end arrived on disk before its middle.
            Err(error @ fjall::Error::JournalRecovery(_)) => match journal::cut_torn_end(path, &error)? {
                None => Err(error),
                Some(cut) => match open() {
                    Ok(db) => Ok(db),
                    Err(error) => {
                        cut.undo(path)?;
                        Err(error)
                    }
                },
            },
            opened => opened,
        }
        .map_err(failed)?;
        let options = || KeyspaceCreateOptions::default().max_memtable_size(MEMTABLE_BYTES_MAX);
        // Records are read in order, never looked up: a filter would only take memory.
        let in_order = || options().filter_policy(FilterPolicy::disabled());
        let meta = db.keyspace("meta", options).map_err(failed)?;
        let mut topics = BTreeMap::new();
        for topic in Topic::ALL.iter().copied() {
            let name = topic.name();
            let records = db.keyspace(name, in_order).map_err(failed)?;
            let index = match topic.retention() {
                Retention::Time => None,
                Retention::Compacted => Some(IndexSpaces {
                    kept: db.keyspace(&format!("{name}.kept"), options).map_err(failed)?,
                    tombstones: db.keyspace(&format!("{name}.tombstones"), in_order).map_err(failed)?,
                }),
            };
            topics.insert(topic, TopicSpaces { records, index });
        }
        // A killed writer may have left a batch that is written but not synced.
        db.persist(PersistMode::SyncAll).map_err(failed)?;
        Ok(Self { path: path.to_owned(), db, meta, topics })
    }

    pub(crate) fn batch(&self) -> Batch<'_> {
        Batch { store: self, inner: self.db.batch().durability(Some(PersistMode::SyncData)) }
    }

    pub(crate) fn load(&self) -> Result<Loaded, Fault> {
        let mut loaded = Loaded::default();
        for entry in self.meta.iter() {
            let (key, value) = entry.into_inner().map_err(|e| self.fault("can't read the log's state", e))?;
            let text = std::str::from_utf8(&key).ok();
            let known = match text.and_then(|text| text.split_once('/')) {
                Some(("part", rest)) => load_part(rest, &value).map(|(at, part)| {
                    loaded.parts.insert(at, part);
                }),
                Some(("task", name)) => Task::decode(&value).map(|task| {
                    loaded.tasks.insert(name.to_owned(), task);
                }),
                None if text == Some(LABEL_KEY) => {
                    serde_json::from_slice(&value).ok().map(|label| loaded.label = Some(label))
                }
                Some(_) | None => None,
            };
            known.ok_or_else(|| self.unreadable("an entry of its state"))?;
        }
        Ok(loaded)
    }

    /// Records from an offset on, up to another.
    pub(crate) fn records(
        &self,
        topic: Topic,
        partition: Partition,
        from: u64,
        end: u64,
    ) -> impl Iterator<Item = Result<(u64, usize, Decoded), Fault>> {
        let range = codec::offset_key(partition, from)..codec::offset_key(partition, end);
        let found = self.topics.get(&topic).map(|spaces| spaces.records.range(range));
        found.into_iter().flatten().map(move |entry| {
            let (key, value) = entry.into_inner().map_err(|e| self.fault("can't read records", e))?;
            let decoded = codec::decode_record(topic, partition, &value);
            codec::offset_of(&key)
                .zip(decoded)
                .map(|(offset, decoded)| (offset, value.len(), decoded))
                .ok_or_else(|| self.unreadable(&format!("a record of {}/{partition}", topic.name())))
        })
    }

    /// When the records from an offset on, up to another, were written.
    pub(crate) fn times(
        &self,
        topic: Topic,
        partition: Partition,
        from: u64,
        end: u64,
    ) -> impl Iterator<Item = Result<(u64, u64), Fault>> {
        let range = codec::offset_key(partition, from)..codec::offset_key(partition, end);
        let found = self.topics.get(&topic).map(|spaces| spaces.records.range(range));
        found.into_iter().flatten().map(move |entry| {
            let (key, value) = entry.into_inner().map_err(|e| self.fault("can't read records", e))?;
            codec::offset_of(&key)
                .zip(codec::record_time(&value))
                .ok_or_else(|| self.unreadable(&format!("a record of {}/{partition}", topic.name())))
        })
    }

    /// Which record of a key compaction keeps.
    pub(crate) fn kept(&self, topic: Topic, partition: Partition, key: &[u8]) -> Result<Option<Kept>, Fault> {
        let Some(index) = self.index(topic) else { return Ok(None) };
        let found = index.kept.get(codec::index_key(partition, key));
        match found.map_err(|e| self.fault("can't read the index of keys", e))? {
            None => Ok(None),
            Some(value) => Kept::decode(&value)
                .map(Some)
                .ok_or_else(|| self.unreadable(&format!("the index of {}/{partition}", topic.name()))),
        }
    }

    /// Tombstones that compaction keeps, oldest first.
    pub(crate) fn tombstones(
        &self,
        topic: Topic,
        partition: Partition,
    ) -> impl Iterator<Item = Result<(u64, Tombstone), Fault>> {
        let range = codec::offset_key(partition, 0)..=codec::offset_key(partition, u64::MAX);
        let found = self.index(topic).map(|index| index.tombstones.range(range));
        found.into_iter().flatten().map(move |entry| {
            let (key, value) = entry.into_inner().map_err(|e| self.fault("can't read tombstones", e))?;
            codec::offset_of(&key)
                .zip(Tombstone::decode(&value))
                .ok_or_else(|| self.unreadable(&format!("a tombstone of {}/{partition}", topic.name())))
        })
    }

    fn index(&self, topic: Topic) -> Option<&IndexSpaces> {
        self.topics.get(&topic).and_then(|spaces| spaces.index.as_ref())
    }

    fn fault(&self, what: &str, error: fjall::Error) -> Fault {
        store_fault(what, &self.path, error)
    }

    fn unreadable(&self, what: &str) -> Fault {
        damaged(&self.path, &format!("{what} is not in a format known here"))
    }
}

impl Batch<'_> {
    pub(crate) fn put_label(&mut self, label: &Label) -> Result<(), Fault> {
        let value =
            serde_json::to_vec(label).map_err(|e| Fault::bug("a label has no JSON").from_source(e))?;
        self.inner.insert(&self.store.meta, LABEL_KEY, value);
        Ok(())
    }

    pub(crate) fn put_part(&mut self, topic: Topic, partition: Partition, part: Part) {
        self.inner.insert(&self.store.meta, format!("part/{}/{partition}", topic.name()), part.encode());
    }

    pub(crate) fn put_task(&mut self, name: &str, task: &Task) -> Result<(), Fault> {
        let value = task
            .encode()
            .map_err(|e| Fault::bug(format!("the progress of task '{name}' has no JSON")).from_source(e))?;
        self.inner.insert(&self.store.meta, format!("task/{name}"), value);
        Ok(())
    }

    pub(crate) fn put_record(&mut self, topic: Topic, partition: Partition, offset: u64, value: Vec<u8>) {
        if let Some(spaces) = self.store.topics.get(&topic) {
            self.inner.insert(&spaces.records, codec::offset_key(partition, offset), value);
        }
    }

    pub(crate) fn remove_record(&mut self, topic: Topic, partition: Partition, offset: u64) {
        if let Some(spaces) = self.store.topics.get(&topic) {
            self.inner.remove(&spaces.records, codec::offset_key(partition, offset));
        }
    }

    /// Sets or removes which record of a key compaction keeps.
    pub(crate) fn set_kept(&mut self, topic: Topic, partition: Partition, key: &[u8], kept: Option<Kept>) {
        if let Some(index) = self.store.index(topic) {
            let key = codec::index_key(partition, key);
            match kept {
                Some(kept) => self.inner.insert(&index.kept, key, kept.encode()),
                None => self.inner.remove(&index.kept, key),
            }
        }
    }

    /// Sets or removes a tombstone.
    pub(crate) fn set_tombstone(
        &mut self,
        topic: Topic,
        partition: Partition,
        offset: u64,
        tombstone: Option<&Tombstone>,
    ) {
        if let Some(index) = self.store.index(topic) {
            let key = codec::offset_key(partition, offset);
            match tombstone {
                Some(tombstone) => self.inner.insert(&index.tombstones, key, tombstone.encode()),
                None => self.inner.remove(&index.tombstones, key),
            }
        }
    }

    /// Makes it durable, then visible. After an error it may be there after the store was opened again.
    pub(crate) fn commit(self) -> Result<(), Fault> {
        self.inner.commit().map_err(|e| self.store.fault("can't write to the log", e))
    }
}

fn load_part(rest: &str, value: &[u8]) -> Option<((Topic, Partition), Part)> {
    let (name, partition) = rest.rsplit_once('/')?;
    Some(((Topic::by_name(name)?, Partition(partition.parse().ok()?)), Part::decode(value)?))
}

fn damaged(path: &Path, what: &str) -> Fault {
    let place = path.display();
    Fault::refused(format!("the log in {place} can't be read: {what}")).repair(format!(
        "restore {place} from a backup; or set it aside, start anew and run rollcall rebuild for every sink"
    ))
}

#[expect(clippy::wildcard_enum_match_arm, reason = "the store's errors are foreign and open")]
fn store_fault(what: &str, path: &Path, error: fjall::Error) -> Fault {
    match error {
        fjall::Error::Io(error) | fjall::Error::Storage(fjall::LsmError::Io(error)) => {
            io_fault(what, path, error)
        }
        fjall::Error::InvalidVersion(_) | fjall::Error::Storage(fjall::LsmError::InvalidVersion(_)) => {
            Fault::refused(format!("{what}: the store in {} has a format not known here", path.display()))
                .repair("run the rollcall that made it, or set another log.path")
                .from_source(error)
        }
        fjall::Error::Poisoned | fjall::Error::Locked => {
            Fault::retry(format!("{what} in {}", path.display()))
                .repair(format!(
                    "look at the disk that holds {} (dmesg); Rollcall tries again",
                    path.display()
                ))
                .from_source(error)
        }
        // Errors of the store that name no I/O say that its files are not what was written.
        error => damaged(path, what).from_source(error),
    }
}
