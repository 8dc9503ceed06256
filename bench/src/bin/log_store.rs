//! Which store the embedded log stands on (docs/adr/0001-log-store.md): fjall and redb under the log's own pattern.
//!
//! ```text
//! one writer    batches of small records over the partitions of two topics, with the parts' and a task's state, synced;
//!               after every few batches a compaction step: per record a look into the index of keys, its new entry,
//!               and the removal of the record it replaces
//! three readers follow all partitions from the first record, in order
//! then          the folder is copied as a crash would leave it, opened, and read once from the start
//! ```
//!
//! `log_store STORE BATCHES RECORDS FOLDER` runs one store and prints one line of JSON; `RECORDS` per batch.

use std::collections::BTreeMap;
use std::error::Error;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use fjall::config::FilterPolicy;
use fjall::{Database, Keyspace, KeyspaceCreateOptions, PersistMode};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use redb::{ReadableDatabase, TableDefinition};

type Outcome<T> = Result<T, Box<dyn Error + Send + Sync>>;

const PARTITIONS: u16 = 8;
const KEYS: u64 = 100_000;
const VALUE_BYTES: usize = 300;
const READERS: usize = 3;
/// Batches between two compaction steps.
const STEP_BATCHES: u64 = 20;
const READ_RECORDS_MAX: usize = 500;
const CACHE_BYTES: usize = 32 << 20;

/// What one durable batch does. Tables: the records of each topic, the index of keys, the log's state.
#[derive(Default)]
struct Batch {
    puts: Vec<(usize, Vec<u8>, Vec<u8>)>,
    removals: Vec<(usize, Vec<u8>)>,
}

const TABLES: [&str; 4] = ["identity-changes", "identities", "kept", "meta"];
const COMPACTED: usize = 1;
const KEPT: usize = 2;
const META: usize = 3;

trait Store: Send + Sync {
    fn commit(&self, batch: Batch) -> Outcome<()>;
    fn get(&self, table: usize, key: &[u8]) -> Outcome<Option<Vec<u8>>>;
    /// Keys from one on, below another; answers the last key and the bytes read.
    fn scan(&self, table: usize, from: &[u8], end: &[u8]) -> Outcome<(usize, Option<Vec<u8>>, u64)>;
}

struct Fjall {
    db: Database,
    tables: Vec<Keyspace>,
}

impl Fjall {
    fn open(path: &Path) -> Outcome<Self> {
        let db = Database::builder(path).cache_size(CACHE_BYTES as u64).worker_threads(2).open()?;
        let tables = TABLES.iter().enumerate().map(|(table, name)| {
            let options = || KeyspaceCreateOptions::default().max_memtable_size(8 << 20);
            let in_order = || options().filter_policy(FilterPolicy::disabled());
            if table < KEPT { db.keyspace(name, in_order) } else { db.keyspace(name, options) }
        });
        let tables = tables.collect::<Result<_, _>>()?;
        Ok(Self { db, tables })
    }
}

impl Store for Fjall {
    fn commit(&self, batch: Batch) -> Outcome<()> {
        let mut inner = self.db.batch().durability(Some(PersistMode::SyncData));
        for (table, key, value) in batch.puts {
            inner.insert(&self.tables[table], key, value);
        }
        for (table, key) in batch.removals {
            inner.remove(&self.tables[table], key);
        }
        Ok(inner.commit()?)
    }

    fn get(&self, table: usize, key: &[u8]) -> Outcome<Option<Vec<u8>>> {
        Ok(self.tables[table].get(key)?.map(|value| value.to_vec()))
    }

    fn scan(&self, table: usize, from: &[u8], end: &[u8]) -> Outcome<(usize, Option<Vec<u8>>, u64)> {
        let (mut count, mut last, mut bytes) = (0, None, 0);
        for entry in self.tables[table].range(from..end).take(READ_RECORDS_MAX) {
            let (key, value) = entry.into_inner()?;
            count += 1;
            bytes += value.len() as u64;
            last = Some(key.to_vec());
        }
        Ok((count, last, bytes))
    }
}

struct Redb(redb::Database);

impl Redb {
    fn open(path: &Path) -> Outcome<Self> {
        std::fs::create_dir_all(path)?;
        let db = redb::Database::builder().set_cache_size(CACHE_BYTES).create(path.join("log.redb"))?;
        let tx = db.begin_write()?;
        for name in TABLES {
            tx.open_table(TableDefinition::<&[u8], &[u8]>::new(name))?;
        }
        tx.commit()?;
        Ok(Self(db))
    }
}

impl Store for Redb {
    fn commit(&self, batch: Batch) -> Outcome<()> {
        let tx = self.0.begin_write()?;
        for (table, name) in TABLES.iter().enumerate() {
            let mut open = tx.open_table(TableDefinition::<&[u8], &[u8]>::new(name))?;
            for (_, key, value) in batch.puts.iter().filter(|put| put.0 == table) {
                open.insert(key.as_slice(), value.as_slice())?;
            }
            for (_, key) in batch.removals.iter().filter(|removal| removal.0 == table) {
                open.remove(key.as_slice())?;
            }
        }
        Ok(tx.commit()?)
    }

    fn get(&self, table: usize, key: &[u8]) -> Outcome<Option<Vec<u8>>> {
        let open = self.0.begin_read()?.open_table(TableDefinition::<&[u8], &[u8]>::new(TABLES[table]))?;
        Ok(open.get(key)?.map(|value| value.value().to_vec()))
    }

    fn scan(&self, table: usize, from: &[u8], end: &[u8]) -> Outcome<(usize, Option<Vec<u8>>, u64)> {
        let open = self.0.begin_read()?.open_table(TableDefinition::<&[u8], &[u8]>::new(TABLES[table]))?;
        let (mut count, mut last, mut bytes) = (0, None, 0);
        for entry in open.range(from..end)?.take(READ_RECORDS_MAX) {
            let (key, value) = entry?;
            count += 1;
            bytes += value.value().len() as u64;
            last = Some(key.value().to_vec());
        }
        Ok((count, last, bytes))
    }
}

fn open(name: &str, path: &Path) -> Outcome<Box<dyn Store>> {
    match name {
        "fjall" => Ok(Box::new(Fjall::open(path)?)),
        "redb" => Ok(Box::new(Redb::open(path)?)),
        other => Err(format!("'{other}' is neither fjall nor redb").into()),
    }
}

fn place(partition: u16, offset: u64) -> Vec<u8> {
    [&partition.to_be_bytes()[..], &offset.to_be_bytes()[..]].concat()
}

/// The writer's side: offsets, and what compaction has not looked at.
struct Writer<'a> {
    store: &'a dyn Store,
    random: StdRng,
    ends: BTreeMap<(usize, u16), u64>,
    dirty: Vec<(u16, u64, u64)>,
    removed: u64,
}

impl Writer<'_> {
    fn append(&mut self, records: u64) -> Outcome<()> {
        let mut batch = Batch::default();
        for n in 0..records {
            let key = self.random.random_range(0..KEYS);
            let (table, partition) = ((n % 2) as usize, (key % u64::from(PARTITIONS)) as u16);
            let end = self.ends.entry((table, partition)).or_default();
            // Half text that compresses, half that does not: about what images as JSON are.
            let mut value = vec![b'x'; VALUE_BYTES];
            self.random.fill(&mut value[VALUE_BYTES / 2..]);
            batch.puts.push((table, place(partition, *end), value));
            if table == COMPACTED {
                self.dirty.push((partition, *end, key));
            }
            *end += 1;
        }
        for ((table, partition), end) in &self.ends {
            let state = format!("part/{table}/{partition}").into_bytes();
            batch.puts.push((META, state, end.to_be_bytes().repeat(5)));
        }
        batch.puts.push((META, b"task/core".to_vec(), vec![b'p'; 600]));
        self.store.commit(batch)
    }

    fn compact(&mut self) -> Outcome<()> {
        let mut batch = Batch::default();
        let mut newest = BTreeMap::new();
        for (partition, offset, key) in self.dirty.drain(..) {
            let key = place(partition, key);
            let before = match newest.get(&key) {
                Some(before) => Some(*before),
                None => self
                    .store
                    .get(KEPT, &key)?
                    .and_then(|value| Some(u64::from_be_bytes(value.try_into().ok()?))),
            };
            if let Some(before) = before {
                batch.removals.push((COMPACTED, place(partition, before)));
            }
            newest.insert(key, offset);
        }
        self.removed += batch.removals.len() as u64;
        batch.puts.extend(newest.into_iter().map(|(key, offset)| (KEPT, key, offset.to_be_bytes().to_vec())));
        self.store.commit(batch)
    }
}

/// Follows all partitions until nothing comes any more after the writer is done; answers how many records it read.
fn follow(store: &dyn Store, done: &AtomicBool) -> Outcome<u64> {
    let mut next: BTreeMap<(usize, u16), Vec<u8>> = BTreeMap::new();
    let mut total = 0;
    loop {
        let was_done = done.load(Ordering::Acquire);
        let mut found = 0;
        for table in 0..KEPT {
            for partition in 0..PARTITIONS {
                let from = next.entry((table, partition)).or_insert_with(|| place(partition, 0));
                let (count, last, _) = store.scan(table, from, &place(partition + 1, 0))?;
                if let Some(mut last) = last {
                    last.push(0);
                    *from = last;
                }
                found += count;
            }
        }
        total += found as u64;
        match (found, was_done) {
            (0, true) => return Ok(total),
            (0, false) => std::thread::sleep(Duration::from_millis(1)),
            (_, _) => {}
        }
    }
}

fn disk_bytes(path: &Path) -> Outcome<u64> {
    use std::os::unix::fs::MetadataExt;
    let mut bytes = 0;
    for entry in std::fs::read_dir(path)? {
        let entry = entry?;
        let metadata = entry.metadata()?;
        bytes += if metadata.is_dir() { disk_bytes(&entry.path())? } else { metadata.blocks() * 512 };
    }
    Ok(bytes)
}

fn copy(from: &Path, to: &Path) -> Outcome<()> {
    std::fs::create_dir_all(to)?;
    for entry in std::fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.metadata()?.is_dir() {
            copy(&entry.path(), &target)?;
        } else {
            std::fs::copy(entry.path(), target)?;
        }
    }
    Ok(())
}

/// A line of `/proc/self/<file>`, as a number.
fn proc_value(file: &str, name: &str) -> Option<u64> {
    let text = std::fs::read_to_string(Path::new("/proc/self").join(file)).ok()?;
    let line = text.lines().find(|line| line.starts_with(name))?;
    line.split_whitespace().nth(1)?.parse().ok()
}

fn quantile_us(sorted: &[Duration], q: f64) -> u128 {
    let index = ((sorted.len() as f64 * q) as usize).min(sorted.len().saturating_sub(1));
    sorted.get(index).map_or(0, Duration::as_micros)
}

fn main() -> Outcome<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [name, batches, records, folder] = args.as_slice() else {
        return Err("usage: log_store fjall|redb BATCHES RECORDS FOLDER".into());
    };
    let (batches, records): (u64, u64) = (batches.parse()?, records.parse()?);
    let path = PathBuf::from(folder).join(name);
    let store = open(name, &path)?;
    let (done, read) = (AtomicBool::new(false), AtomicU64::new(0));
    let mut writer = Writer {
        store: &*store,
        random: StdRng::seed_from_u64(7),
        ends: BTreeMap::new(),
        dirty: Vec::new(),
        removed: 0,
    };
    let start = Instant::now();
    let mut times = Vec::new();
    let written = std::thread::scope(|scope| -> Outcome<Duration> {
        let readers: Vec<_> = (0..READERS).map(|_| scope.spawn(|| follow(&*store, &done))).collect();
        let mut work = || -> Outcome<()> {
            for n in 1..=batches {
                let began = Instant::now();
                writer.append(records)?;
                times.push(began.elapsed());
                if n % STEP_BATCHES == 0 {
                    writer.compact()?;
                }
            }
            Ok(())
        };
        let worked = work();
        let written = start.elapsed();
        done.store(true, Ordering::Release);
        for reader in readers {
            let count = reader.join().map_err(|_| "a reader panicked")??;
            read.fetch_add(count, Ordering::Relaxed);
        }
        worked.map(|()| written)
    })?;
    let all = start.elapsed();
    let removed = writer.removed;
    let disk = disk_bytes(&path)?;
    let written_bytes = proc_value("io", "write_bytes:");
    let peak_kb = proc_value("status", "VmHWM:");
    // As kill -9 would leave it: no clean close.
    let crashed = path.with_extension("crashed");
    copy(&path, &crashed)?;
    drop(store);
    let began = Instant::now();
    let store = open(name, &crashed)?;
    let recovery = began.elapsed();
    let began = Instant::now();
    let left = follow(&*store, &AtomicBool::new(true))?;
    let scan = began.elapsed();
    drop(store);
    times.sort_unstable();
    let total = batches * records;
    let user_bytes = total * VALUE_BYTES as u64;
    println!(
        "{}",
        serde_json::json!({
            "store": name, "batches": batches, "records_per_batch": records, "value_bytes": VALUE_BYTES,
            "commits_per_s": (batches as f64 / written.as_secs_f64()).round(),
            "records_per_s": (total as f64 / written.as_secs_f64()).round(),
            "commit_p50_us": quantile_us(&times, 0.5) as u64, "commit_p99_us": quantile_us(&times, 0.99) as u64,
            "commit_max_us": quantile_us(&times, 1.0) as u64,
            "followed_records_per_s": (read.load(Ordering::Relaxed) as f64 / all.as_secs_f64()).round(),
            "removed_by_compaction": removed, "records_left": left,
            "scan_records_per_s": (left as f64 / scan.as_secs_f64()).round(),
            "recovery_ms": recovery.as_millis() as u64,
            "disk_bytes": disk, "written_bytes_per_user_byte": written_bytes.map(|bytes| bytes as f64 / user_bytes as f64),
            "peak_resident_kb": peak_kb,
        })
    );
    std::fs::remove_dir_all(&path)?;
    std::fs::remove_dir_all(&crashed)?;
    Ok(())
}
