//! A log, an archive and a sink whose every step can be the last one.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rollcall_kit::MemoryLog;
use rollcall_model::archive::{ArchiveCursor, ArchiveFilter, ArchivePage, ArchiveReader, Archived};
use rollcall_model::sink::CheckRequest;
use rollcall_model::{
    CheckReport, Commit, Committed, Consumer, Delivery, Fault, Fut, Log, LogId, Opened, OutRecord, Partition,
    Place, Producer, Progress, ReadRange, Sink, Topic, Written,
};
use tokio::sync::Notify;

/// Counts steps down; at the last one nothing goes on any more, as in a killed process.
#[derive(Clone, Default)]
pub(super) struct Steps {
    left: Arc<Mutex<Option<u64>>>,
    pub(super) met: Arc<Notify>,
}

impl Steps {
    /// Stops at the nth step from here; never when `None`.
    pub(super) fn stop_at(&self, left: Option<u64>) {
        *lock(&self.left) = left;
    }

    async fn step(&self) {
        let is_last = {
            let mut left = lock(&self.left);
            let is_last = *left == Some(0);
            *left = left.map(|left| left.saturating_sub(1));
            is_last
        };
        if is_last {
            self.met.notify_one();
            std::future::pending::<()>().await;
        }
    }
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A log whose commits are steps, before and after.
pub(super) struct StepLog {
    pub(super) inner: MemoryLog,
    pub(super) steps: Steps,
}

impl Log for StepLog {
    fn id(&self) -> &LogId {
        self.inner.id()
    }
    fn epoch(&self) -> u32 {
        self.inner.epoch()
    }
    fn partitions(&self) -> u16 {
        self.inner.partitions()
    }
    fn open<'a>(&'a self, task: &'a str) -> Fut<'a, Opened> {
        Box::pin(async move {
            let Opened { producer, progress } = self.inner.open(task).await?;
            let producer = Box::new(StepProducer { inner: producer, steps: self.steps.clone() });
            Ok(Opened { producer, progress })
        })
    }
    fn consumer(&self, from: BTreeMap<(Topic, Partition), Place>) -> Fut<'_, Box<dyn Consumer>> {
        self.inner.consumer(from)
    }
    fn range(&self, topic: Topic, partition: Partition) -> Fut<'_, ReadRange> {
        self.inner.range(topic, partition)
    }
    fn offset_at(&self, topic: Topic, partition: Partition, time_ms: u64) -> Fut<'_, Place> {
        self.inner.offset_at(topic, partition, time_ms)
    }
    fn tasks(&self) -> Fut<'_, BTreeMap<String, Progress>> {
        self.inner.tasks()
    }
    fn forget<'a>(&'a self, task: &'a str) -> Fut<'a, ()> {
        self.inner.forget(task)
    }
}

struct StepProducer {
    inner: Box<dyn Producer>,
    steps: Steps,
}

impl Producer for StepProducer {
    fn commit(&mut self, commit: Commit) -> Fut<'_, Committed> {
        Box::pin(async move {
            self.steps.step().await;
            let committed = self.inner.commit(commit).await;
            self.steps.step().await;
            committed
        })
    }
}

/// Files of one part.
type Files = Vec<Vec<Delivery>>;

/// An archive in memory.
#[derive(Clone)]
pub(super) struct MemoryArchive {
    pub(super) log_id: LogId,
    pub(super) files: BTreeMap<(Topic, Partition), Files>,
    pub(super) holds: Vec<Archived>,
    pub(super) steps: Steps,
}

const PAGE_ROWS: usize = 3;

impl ArchiveReader for MemoryArchive {
    fn log_id(&self) -> &LogId {
        &self.log_id
    }
    fn pin(&self) -> String {
        "1".to_owned()
    }
    fn holds(&self) -> &[Archived] {
        &self.holds
    }
    fn read<'a>(
        &'a mut self,
        at: (Topic, Partition),
        from: ArchiveCursor,
        _filter: &'a ArchiveFilter,
    ) -> Fut<'a, ArchivePage> {
        Box::pin(async move {
            self.steps.step().await;
            let files = self.files.get(&at).ok_or_else(|| Fault::bug("a part that it doesn't hold"))?;
            let file = &files[from.file as usize];
            let rest = &file[usize::try_from(from.row).unwrap_or(usize::MAX)..];
            let deliveries = rest[..rest.len().min(PAGE_ROWS)].to_vec();
            let row = from.row + deliveries.len() as u64;
            let next = match (row == file.len() as u64, from.file as usize + 1 < files.len()) {
                (false, _) => Some(ArchiveCursor { row, ..from }),
                (true, true) => Some(ArchiveCursor { file: from.file + 1, row: 0 }),
                (true, false) => None,
            };
            Ok(ArchivePage { deliveries, next })
        })
    }
}

/// What readers see: who is there, who is in what, and how many.
pub(super) type Seen<'a> = (Vec<&'a str>, Vec<(&'a str, &'a str)>, BTreeMap<(&'a str, u16), u64>);

/// What a sink's tables hold, as the real ones decide it: by version, or by seq.
#[derive(Clone, PartialEq, Debug, Default)]
pub(super) struct Tables {
    /// Version, whether it is gone.
    identities: BTreeMap<String, (i64, bool)>,
    /// By segment and id: version, whether it is gone.
    members: BTreeMap<(String, String), (i64, bool)>,
    /// By segment and partition: seq, count.
    counts: BTreeMap<(String, u16), (u64, u64)>,
}

impl Tables {
    fn member(&mut self, segment: &str, id: &str, version: i64, gone: bool) {
        let row = self.members.entry((segment.to_owned(), id.to_owned())).or_insert((version, gone));
        if row.0 <= version {
            *row = (version, gone);
        }
    }

    fn take(&mut self, batch: &[Delivery]) {
        for delivery in batch {
            match &delivery.record {
                OutRecord::Identity(record) => {
                    let new = (record.version.0, record.deleted);
                    let row = self.identities.entry(record.id.to_string()).or_insert(new);
                    *row = new.max(*row);
                }
                OutRecord::MembershipChange(change) => {
                    let (id, version) = (change.id.to_string(), change.version.0);
                    change.entered.iter().for_each(|s| self.member(s.as_str(), &id, version, false));
                    change.left.iter().for_each(|s| self.member(s.as_str(), &id, version, true));
                }
                OutRecord::Membership(set) => {
                    let (id, version) = (set.id.to_string(), set.version.0);
                    set.segments.iter().for_each(|m| self.member(m.segment_id.as_str(), &id, version, false));
                }
                OutRecord::Count(count) => {
                    let new = (count.seq.0, count.count);
                    let key = (count.segment_id.to_string(), count.partition.0);
                    let row = self.counts.entry(key).or_insert(new);
                    *row = new.max(*row);
                }
                OutRecord::Watermark(_) => {}
            }
        }
        // What older sets left behind.
        for delivery in batch {
            let OutRecord::Membership(set) = &delivery.record else { continue };
            let id = set.id.to_string();
            for ((_, member), row) in &mut self.members {
                if *member == id && row.0 < set.version.0 {
                    *row = (set.version.0, true);
                }
            }
        }
    }

    /// What readers see.
    pub(super) fn seen(&self) -> Seen<'_> {
        let identities = self.identities.iter().filter(|(_, row)| !row.1).map(|(id, _)| id.as_str());
        let members = self.members.iter().filter(|(_, row)| !row.1);
        let members = members.map(|((segment, id), _)| (segment.as_str(), id.as_str()));
        let counts = self.counts.iter().filter(|(_, row)| row.1 > 0);
        let counts = counts.map(|((segment, partition), row)| ((segment.as_str(), *partition), row.1));
        (identities.collect(), members.collect(), counts.collect())
    }
}

/// What a sink keeps over restarts.
#[derive(Clone, Default)]
pub(super) struct Kept {
    pub(super) shown: Tables,
    /// What a rebuild fills beside it.
    pub(super) filling: Option<Tables>,
    pub(super) log: Option<LogId>,
    pub(super) resets: u32,
}

/// A sink in memory.
#[derive(Clone)]
pub(super) struct MemorySink {
    pub(super) reads: &'static [Topic],
    pub(super) kept: Arc<Mutex<Kept>>,
    pub(super) steps: Steps,
}

impl Sink for MemorySink {
    fn reads(&self) -> &'static [Topic] {
        self.reads
    }
    fn prepare<'a>(&'a mut self, log: &'a LogId, _partitions: u16) -> Fut<'a, ()> {
        Box::pin(async move {
            let known = lock(&self.kept).log.get_or_insert_with(|| log.clone()).clone();
            if known == *log { Ok(()) } else { Err(Fault::refused("another log")) }
        })
    }
    fn write<'a>(&'a mut self, batch: &'a [Delivery]) -> Fut<'a, Written> {
        Box::pin(async move {
            self.steps.step().await;
            {
                let kept = &mut *lock(&self.kept);
                kept.filling.as_mut().unwrap_or(&mut kept.shown).take(batch);
            }
            self.steps.step().await;
            Ok(Written { rows: batch.len() as u64, rejected: Vec::new() })
        })
    }
    fn check<'a>(&'a mut self, _request: &'a CheckRequest) -> Fut<'a, CheckReport> {
        Box::pin(async { Ok(CheckReport::default()) })
    }
    fn reconcile(&mut self) -> Fut<'_, Vec<String>> {
        Box::pin(async { Ok(Vec::new()) })
    }
    fn reset<'a>(&'a mut self, log: &'a LogId) -> Fut<'a, ()> {
        Box::pin(async move {
            self.steps.step().await;
            {
                let kept = &mut *lock(&self.kept);
                kept.filling = Some(Tables::default());
                kept.log = Some(log.clone());
                kept.resets += 1;
            }
            self.steps.step().await;
            Ok(())
        })
    }
    fn rebuilt(&mut self) -> Fut<'_, ()> {
        Box::pin(async move {
            self.steps.step().await;
            {
                let kept = &mut *lock(&self.kept);
                if let Some(filled) = kept.filling.take() {
                    kept.shown = filled;
                }
            }
            self.steps.step().await;
            Ok(())
        })
    }
}
