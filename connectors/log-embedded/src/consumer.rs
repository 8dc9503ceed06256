//! A reader of some partitions.
//!
//! ```text
//! poll ─▶ something beyond my places? ──no──▶ sleep until `changed` moves or the time is up
//!              │ yes
//!              ▼
//!         blocking thread: some records of each partition in turn ─▶ places move, records go out
//! ```
//!
//! Right because the places move only when the records are handed out, without another wait in between: a dropped poll
//! loses nothing. What may be read ends where the state says, and the state is one for all partitions.

use std::collections::BTreeMap;
use std::sync::Arc;

use rollcall_model::log::{Fetched, PollLimit};
use rollcall_model::{Consumer, Fault, Fut, Partition, Place, Topic};
use tokio::sync::watch;

use crate::shared::Shared;
use crate::store::Store;

/// Records that one partition gives before it is the next one's turn.
const TURN_RECORDS_MAX: usize = 64;

/// A reader.
pub(crate) struct EmbeddedConsumer {
    shared: Arc<Shared>,
    changed: watch::Receiver<u64>,
    cursors: Vec<Cursor>,
    /// Whose turn it is first.
    turn: usize,
}

#[derive(Clone, Copy, Debug)]
struct Cursor {
    topic: Topic,
    partition: Partition,
    next: u64,
}

/// A cursor with something to read: `[cursor.next, end)`.
#[derive(Clone, Copy, Debug)]
struct Ready {
    index: usize,
    cursor: Cursor,
    end: u64,
}

/// What a read brought, and where it leaves the cursors.
struct Batch {
    records: Vec<Fetched>,
    next: Vec<(usize, u64)>,
    /// Who comes after the last one served.
    turn: usize,
}

impl EmbeddedConsumer {
    pub(crate) fn new(shared: Arc<Shared>, from: BTreeMap<(Topic, Partition), Place>) -> Result<Self, Fault> {
        let mut cursors = Vec::with_capacity(from.len());
        for ((topic, partition), place) in from {
            shared.known(topic, partition)?;
            let part = shared.state().part(topic, partition);
            if place.epoch != shared.epoch || place.offset > part.end {
                return Err(Fault::refused(format!(
                    "offset {} of epoch {} in {}/{partition} is not of this log ({} in {}), which ends at {} of epoch {}",
                    place.offset,
                    place.epoch,
                    topic.name(),
                    shared.id,
                    shared.folder.path().display(),
                    part.end,
                    shared.epoch
                ))
                .repair("give the task its own log back, or rollcall rebuild what it keeps"));
            }
            let cursor = Cursor { topic, partition, next: place.offset };
            still_there(&shared, &cursor)?;
            cursors.push(cursor);
        }
        let changed = shared.changed.subscribe();
        Ok(Self { shared, changed, cursors, turn: 0 })
    }

    /// What can be read now, beginning with whose turn it is.
    fn ready(&self) -> Result<Vec<Ready>, Fault> {
        let state = self.shared.state();
        let count = self.cursors.len();
        let mut ready = Vec::new();
        for index in (0..count).map(|step| (self.turn + step) % count) {
            if let Some(cursor) = self.cursors.get(index).copied() {
                let end = state.part(cursor.topic, cursor.partition).end;
                if cursor.next < end {
                    ready.push(Ready { index, cursor, end });
                }
            }
        }
        drop(state);
        ready.iter().try_for_each(|ready| still_there(&self.shared, &ready.cursor))?;
        Ok(ready)
    }

    async fn poll(&mut self, limit: PollLimit) -> Result<Vec<Fetched>, Fault> {
        let mut time_up = std::pin::pin!(tokio::time::sleep(limit.wait));
        loop {
            // Marked before looking, so that a commit in between is not slept through.
            self.changed.mark_unchanged();
            let ready = self.ready()?;
            if !ready.is_empty() {
                let shared = Arc::clone(&self.shared);
                let read = tokio::task::spawn_blocking(move || {
                    shared.with_store(|store| read(&shared, store, &ready, limit))
                });
                let batch = read.await.map_err(|e| Fault::bug("a read of the log died").from_source(e))??;
                for (index, next) in batch.next {
                    if let Some(cursor) = self.cursors.get_mut(index) {
                        cursor.next = next;
                    }
                }
                self.turn = batch.turn;
                if !batch.records.is_empty() {
                    return Ok(batch.records);
                }
                // Compaction left nothing there: look again.
                continue;
            }
            tokio::select! {
                biased;
                changed = self.changed.changed() => changed.map_err(|_| self.shared.closed())?,
                () = &mut time_up => return Ok(Vec::new()),
            }
        }
    }
}

impl Consumer for EmbeddedConsumer {
    fn poll(&mut self, limit: PollLimit) -> Fut<'_, Vec<Fetched>> {
        Box::pin(self.poll(limit))
    }

    fn reached(&self) -> BTreeMap<(Topic, Partition), Place> {
        let epoch = self.shared.epoch;
        let at = |cursor: &Cursor| Place { epoch, offset: cursor.next };
        self.cursors.iter().map(|cursor| ((cursor.topic, cursor.partition), at(cursor))).collect()
    }
}

/// That nothing between a place and what is left of its partition was dropped by retention.
fn still_there(shared: &Shared, cursor: &Cursor) -> Result<(), Fault> {
    let Cursor { topic, partition, next } = *cursor;
    let state = shared.state();
    let start = state.part(topic, partition).start;
    if next >= start {
        return Ok(());
    }
    let stand_here = |task: &&String| {
        let progress = state.tasks().get(*task).and_then(|task| task.progress.as_ref());
        progress
            .and_then(|progress| progress.reads.get(&(topic, partition)))
            .is_some_and(|at| at.offset == next)
    };
    let tasks: Vec<&str> = state.tasks().keys().filter(stand_here).map(String::as_str).collect();
    let whose = match tasks.as_slice() {
        [] => "a reader".to_owned(),
        tasks => format!("task '{}'", tasks.join("', '")),
    };
    Err(Fault::refused(format!(
        "{whose} stands at offset {next} of {}/{partition}, whose records before {start} are past their retention",
        topic.name()
    ))
    .repair("rollcall rebuild the sink that reads it (rollcall rebuild counts|clickhouse): it starts anew from the \
             compacted topics"))
}

/// Reads from each partition in turn until the limit is reached or nothing is left.
fn read(shared: &Shared, store: &Store, ready: &[Ready], limit: PollLimit) -> Result<Batch, Fault> {
    let mut open: Vec<_> = ready
        .iter()
        .map(|ready| {
            let Cursor { topic, partition, next } = ready.cursor;
            (ready, store.records(topic, partition, next, ready.end), next)
        })
        .collect();
    let records_max = limit.records_max.max(1);
    let turn_records_max = (records_max / ready.len().max(1)).clamp(1, TURN_RECORDS_MAX);
    let mut batch = Batch { records: Vec::new(), next: Vec::new(), turn: 0 };
    let mut bytes = 0;
    let mut is_full = false;
    while !open.is_empty() && !is_full {
        let mut still_open = Vec::with_capacity(open.len());
        for (ready, mut records, mut next) in open {
            let mut left = turn_records_max;
            let mut is_dry = false;
            while left > 0 && !is_full {
                let Some(entry) = records.next() else {
                    next = ready.end;
                    is_dry = true;
                    break;
                };
                let (offset, value_len, decoded) = entry?;
                if !batch.records.is_empty() && bytes + value_len > limit.bytes_max {
                    is_full = true;
                    break;
                }
                bytes += value_len;
                left -= 1;
                next = offset + 1;
                batch.turn = ready.index + 1;
                let place = Place { epoch: shared.epoch, offset };
                batch.records.push(Fetched { place, record: decoded.record, foreign: false });
                is_full = batch.records.len() >= records_max;
            }
            if is_dry || is_full {
                batch.next.push((ready.index, next));
            } else {
                still_open.push((ready, records, next));
            }
        }
        open = still_open;
    }
    batch.next.extend(open.iter().map(|(ready, _, next)| (ready.index, *next)));
    // Retention raises the start before it removes: a hole that this read may have seen shows now.
    ready.iter().try_for_each(|ready| still_there(shared, &ready.cursor))?;
    Ok(batch)
}
