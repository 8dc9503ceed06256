//! One reader of a stream in shards: records → platform → one commit with how far its shards were read.
//!
//! ```text
//! ShardSource.next ─▶ ShardEvent ─▶ ItemIntake ─▶ Commit { records, Shards } ─▶ ShardSource.saved
//!                                      progress of all ─▶ ShardSource.others     children begin
//! ```
//!
//! The task is fenced like any other: of two workers that both think a reader theirs, only the newer one commits, and
//! what the older one had read is read again from the newer one's progress.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::FutureExt;
use rollcall_model::shards::{SavedShards, ShardEvent, ShardSource, Shards, Stream};
use rollcall_model::{Commit, Fault, FaultKind, Log, Producer, Progress};
use tokio::time::MissedTickBehavior;

use crate::crash;
use crate::item_intake::ItemIntake;
use crate::stream::StreamState;
use crate::stream_task;
use crate::tasks::Reporter;
use crate::wiring::{ItemSourceWiring, ReaderStart};

/// Records of one commit, about.
const COMMIT_RECORDS_MAX: usize = 8_000;
/// How often the progress of the others is looked at, and how far idle shards were read is committed.
const LOOK_EVERY: Duration = Duration::from_millis(if cfg!(test) { 10 } else { 250 });

#[derive(Clone)]
pub(crate) struct ReaderTask {
    pub(crate) log: Arc<dyn Log>,
    pub(crate) wiring: Arc<ItemSourceWiring>,
    pub(crate) index: u16,
}

/// The name of a reader's task.
pub(crate) fn name(source: &str, index: u16) -> String {
    format!("{}/{index}", crate::source_task::name(source))
}

/// What the log says of a source's stream.
pub(crate) struct Known {
    pub(crate) stream: Option<Stream>,
    pub(crate) readers: BTreeMap<u16, Shards>,
}

/// Looks up what the log says of a source's stream.
///
/// # Errors
/// A [`Fault`] of the log; a refused fault when it was written by another version.
pub(crate) async fn look_up(log: &Arc<dyn Log>, source: &str) -> Result<Known, Fault> {
    let mut tasks = log.tasks().await?;
    let owner = tasks.remove(&crate::source_task::name(source));
    let state: StreamState = owner.map_or(Ok(StreamState::default()), |p| read_state(source, p))?;
    let prefix = name(source, 0);
    let prefix = prefix.trim_end_matches('0');
    let mut readers = BTreeMap::new();
    for (task, progress) in tasks {
        if let Some(index) = task.strip_prefix(prefix).and_then(|index| index.parse().ok()) {
            readers.insert(index, read_state(source, progress)?);
        }
    }
    Ok(Known { stream: state.stream, readers })
}

pub(crate) fn read_state<T: serde::de::DeserializeOwned>(
    source: &str,
    progress: Progress,
) -> Result<T, Fault> {
    serde_json::from_value(progress.state).map_err(|e| {
        Fault::refused(format!("the progress of source {source} can't be read"))
            .from_source(e)
            .repair("run the version of rollcall that wrote the log")
    })
}

/// A task's progress, from its state.
pub(crate) fn progress_of(state: &impl serde::Serialize) -> Result<Progress, Fault> {
    let state = serde_json::to_value(state)
        .map_err(|e| Fault::bug("a source's state can't be written as JSON").from_source(e))?;
    Ok(Progress { reads: BTreeMap::new(), state })
}

/// A reader at work.
struct Reading {
    task: ReaderTask,
    source: Box<dyn ShardSource>,
    producer: Box<dyn Producer>,
    intake: ItemIntake,
    own: Shards,
    stream: Stream,
    /// Progress waits that no record goes with.
    moved: bool,
    /// The end of a shard is part of it: others may be waiting for that.
    ended: bool,
    changes: u64,
    reported: Instant,
}

impl ReaderTask {
    pub(crate) async fn run(self, reporter: Reporter) -> Result<(), Fault> {
        let source_name = self.wiring.name.clone();
        let opened = self.log.open(&name(source_name.as_str(), self.index)).await?;
        let own: Shards =
            opened.progress.map_or(Ok(Shards::default()), |p| read_state(source_name.as_str(), p))?;
        let (stream, mut others) = self.stream().await?;
        others.remove(&self.index);
        let start = ReaderStart { stream: stream.clone(), index: self.index, own: own.clone(), others };
        let source = match (self.wiring.start_reader)(start).await {
            Ok(source) => source,
            Err(fault) => return self.end(fault, &stream, &reporter).await,
        };
        let intake = ItemIntake::new(source_name, self.log.partitions(), self.wiring.platform);
        // Of a newer epoch is only what the source says from here on: its first event says what it goes on with.
        let own = Shards { epoch: stream.epoch, ..own };
        let (producer, changes, reported) = (opened.producer, 0, Instant::now());
        let mut reading = Reading {
            task: self.clone(),
            source,
            producer,
            intake,
            own,
            stream: stream.clone(),
            moved: false,
            ended: false,
            changes,
            reported,
        };
        reporter.running();
        match reading.serve(&reporter).await {
            Ok(()) => Ok(()),
            Err(fault) => self.end(fault, &stream, &reporter).await,
        }
    }

    /// The stream, once its owner has begun it, and what all readers have read.
    async fn stream(&self) -> Result<(Stream, BTreeMap<u16, Shards>), Fault> {
        loop {
            let known = look_up(&self.log, self.wiring.name.as_str()).await?;
            if let Some(stream) = known.stream {
                stream_task::same_readers(&self.wiring, &stream)?;
                return Ok((stream, known.readers));
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// A loss is repaired by the owner of the stream, who begins a new epoch: then it goes on by itself, wherever it runs.
    async fn end(&self, fault: Fault, stream: &Stream, reporter: &Reporter) -> Result<(), Fault> {
        if fault.kind != FaultKind::Refused {
            return Err(fault);
        }
        reporter.waits_for_repair(&fault);
        loop {
            tokio::time::sleep(LOOK_EVERY).await;
            let known = look_up(&self.log, self.wiring.name.as_str()).await?;
            if known.stream.is_some_and(|now| now.epoch != stream.epoch) {
                return Ok(());
            }
        }
    }
}

impl Reading {
    /// Reads until the stream has a new epoch.
    async fn serve(&mut self, reporter: &Reporter) -> Result<(), Fault> {
        let mut look = tokio::time::interval(LOOK_EVERY);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                biased;
                _ = look.tick() => {
                    if self.moved {
                        self.commit().await?;
                    }
                    if self.look().await? {
                        return Ok(());
                    }
                    self.report(reporter);
                }
                event = self.source.next() => {
                    let event = event?;
                    self.take(event)?;
                    let taken = self.take_more();
                    if self.intake.pending() > 0 || self.ended {
                        self.commit().await?;
                    }
                    taken?;
                }
            }
        }
    }

    /// Events that are there already share a commit; nothing waits for more.
    fn take_more(&mut self) -> Result<(), Fault> {
        while self.intake.pending() < COMMIT_RECORDS_MAX {
            let Some(more) = self.source.next().now_or_never() else { break };
            self.take(more?)?;
        }
        Ok(())
    }

    fn take(&mut self, event: ShardEvent) -> Result<(), Fault> {
        self.changes += event.changes.len() as u64;
        for change in event.changes {
            self.intake.streamed(change)?;
        }
        for (shard, progress) in event.progress {
            match progress {
                Some(progress) => {
                    self.ended |= progress.finished;
                    self.own.shards.insert(shard, progress)
                }
                None => self.own.shards.remove(&shard),
            };
        }
        self.moved = true;
        Ok(())
    }

    async fn commit(&mut self) -> Result<(), Fault> {
        crash::here("source-decided");
        let records = self.intake.drain();
        metrics::counter!("rollcall_source_records_total").increment(records.len() as u64);
        let progress = Some(progress_of(&self.own)?);
        let committed = self.producer.commit(Commit { records, progress }).await?;
        crash::here("source-committed");
        (self.moved, self.ended) = (false, false);
        self.source.saved(&SavedShards::by(&committed, self.own.clone()))?;
        crash::here("source-released");
        Ok(())
    }

    /// Says to the source what the others have read. Answers whether the stream has a new epoch.
    async fn look(&mut self) -> Result<bool, Fault> {
        let mut known = look_up(&self.task.log, self.task.wiring.name.as_str()).await?;
        if known.stream.is_none_or(|now| now.epoch != self.stream.epoch) {
            return Ok(true);
        }
        known.readers.remove(&self.task.index);
        self.source.others(&known.readers)?;
        Ok(false)
    }

    fn report(&mut self, reporter: &Reporter) {
        if self.reported.elapsed() < Duration::from_secs(1) {
            return;
        }
        let rate = self.changes as f64 / self.reported.elapsed().as_secs_f64();
        (self.changes, self.reported) = (0, Instant::now());
        reporter.fact("records_per_second", rate.round());
        let open = self.own.shards.values().filter(|shard| !shard.finished).count();
        reporter.fact("shards_open", open);
        reporter.fact("shards_known", self.own.shards.len());
        let oldest = self.source.oldest_unread();
        reporter.fact("oldest_unread_ms", oldest.as_ref().map(|(_, age_ms)| *age_ms));
        reporter.fact("oldest_unread_shard", oldest.map(|(shard, _)| shard));
    }
}
