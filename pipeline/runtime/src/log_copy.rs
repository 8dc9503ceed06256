//! A log moved to another: another folder, another cluster, another kind.
//!
//! ```text
//!  old log, drained, epoch e                              new log: same id, same partitions, a higher epoch
//!  catalog, catalog-rows, identities, memberships,  ────▶ the same records, in order, in bounded commits of the
//!  segment-counts, quarantine                             task `log-copy`, whose progress says how far it is
//!  every task's progress                            ────▶ the same, with the new log's places
//!                                                         last: `log-copy` says that it is done
//! ```
//!
//! Why it is right (PROTOCOL.md §1, Place):
//!
//! - **Nothing is under way.** Every roster has read all changes and every sink all records, or the copy is refused: what
//!   the topics kept by time still hold has had its effect, so they are left behind. A sink that is behind is refused, too,
//!   rather than filled anew from the compacted topics: those say what is, not what has gone since it last wrote. One
//!   that waits for a rebuild goes along as it is, for it will be emptied first.
//! - **Nobody writes meanwhile.** The old log's writers are fenced before anything is looked at, and it must be as it was
//!   when everything has been copied.
//! - **Old places stay old.** Images and quarantine keep the old log's places, which are below every place of the new one,
//!   since a place is compared by its epoch first. States of tasks hold positions, numbers and seqs, and no places.
//! - **All or nothing.** A log with an epoch above the first is a copy, and no worker runs on it before its `log-copy`
//!   says that it is done. A copy cut short is run again: it goes on after its last commit.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use rollcall_model::control::CONTROL_KEY;
use rollcall_model::log::PollLimit;
use rollcall_model::{Commit, Fault, Log, LogId, Partition, Place, Producer, Progress, Record, Topic};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::foreign::own;
use crate::read_to_end::{STALLED_AFTER, has_reached};
use crate::{peers, roster_task, sink_task};

/// The task under which a copy is written.
const TASK: &str = "log-copy";
/// The epoch of a log that is no copy.
const FIRST_EPOCH: u32 = 0;
/// What a new log begins with.
const TOPICS: [Topic; 6] = [
    Topic::Catalog,
    Topic::CatalogRows,
    Topic::Identities,
    Topic::Memberships,
    Topic::SegmentCounts,
    Topic::Quarantine,
];
/// One commit.
const BATCH: PollLimit =
    PollLimit { records_max: 2_000, bytes_max: 4 << 20, wait: Duration::from_millis(500) };
/// Partitions that a refusal names.
const NAMED_MAX: usize = 20;

type Places = BTreeMap<(Topic, Partition), Place>;
type Tasks = BTreeMap<String, Progress>;

/// How far a copy is, in offsets: compaction leaves fewer records.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
pub struct Copying {
    /// What is behind it.
    pub copied: u64,
    /// What there is in all.
    pub total: u64,
}

/// What was copied, in all tries together.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Copied {
    /// Records.
    pub records: u64,
    /// The tasks whose progress went along.
    pub tasks: Vec<String>,
}

/// What a copy will do.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct CopyPlan {
    /// The log that moves, and keeps its id.
    pub log_id: LogId,
    /// Its partitions.
    pub partitions: u16,
    /// Its epoch; the copy's is greater.
    pub epoch: u32,
    /// Topic and offsets to copy: compaction leaves fewer records.
    pub topics: Vec<(Topic, u64)>,
    /// The tasks whose progress goes along.
    pub tasks: Vec<String>,
}

/// What the copy must remember.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
struct CopyState {
    /// The old log's epoch.
    from_epoch: u32,
    /// What has been copied of it, in its own places.
    reached: Vec<(Topic, Partition, Place)>,
    records: u64,
    done: bool,
}

/// Refuses a log whose copy has not come to its end.
///
/// # Errors
/// `Refused`, with what goes on with the copy; a [`Fault`] of the log.
pub async fn refuse_unfinished(log: &dyn Log) -> Result<(), Fault> {
    if log.epoch() == FIRST_EPOCH {
        return Ok(());
    }
    let known = log.tasks().await?.remove(TASK).map(|progress| read(progress.state)).transpose()?;
    if known.is_some_and(|state| state.done) {
        return Ok(());
    }
    Err(Fault::refused(format!("log {} is a copy that has not come to its end", log.id()))
        .repair("run the same `rollcall log copy` again: it goes on where it stopped"))
}

/// What a copy would do.
///
/// # Errors
/// `Refused` when the log is not drained; a [`Fault`] of the log.
pub async fn plan(from: &Arc<dyn Log>) -> Result<CopyPlan, Fault> {
    refuse_unfinished(&**from).await?;
    let tasks = from.tasks().await?;
    refuse_undrained(from, &tasks).await?;
    let mut topics = Vec::new();
    for topic in TOPICS {
        let mut records = 0;
        for partition in partitions(&**from, topic) {
            let range = from.range(topic, partition).await?;
            records += range.end.offset - range.start.offset;
        }
        topics.push((topic, records));
    }
    Ok(CopyPlan {
        log_id: from.id().clone(),
        partitions: from.partitions(),
        epoch: from.epoch(),
        topics,
        tasks: moving(&tasks).map(|(name, _)| name.clone()).collect(),
    })
}

/// Copies a drained log into one made for it: with the same id and partitions, and a higher epoch. Run again after it was
/// cut short, it goes on. Writers of the old log are fenced.
///
/// # Errors
/// `Refused` when the old log is not drained or changes meanwhile, or when the new one is another log or finished;
/// a [`Fault`] of either.
pub async fn copy(
    from: &Arc<dyn Log>,
    to: &Arc<dyn Log>,
    mut progress: impl FnMut(Copying),
) -> Result<Copied, Fault> {
    refuse_strangers(&**from, &**to)?;
    refuse_unfinished(&**from).await?;
    for task in from.tasks().await?.keys() {
        drop(from.open(task).await?);
    }
    let tasks = from.tasks().await?;
    let ends = ends(&**from).await?;
    refuse_undrained(from, &tasks).await?;
    let opened = to.open(TASK).await?;
    let mut target = Target { producer: opened.producer, state: begin(from, &**to, opened.progress).await? };
    target.commit(Vec::new()).await?;
    target.copy_records(from, &ends, &mut progress).await?;
    if from.tasks().await? != tasks || self::ends(&**from).await? != ends {
        return Err(Fault::refused("somebody wrote to the log while it was copied")
            .repair("stop every worker of the old log, then run the same command again"));
    }
    let mut names = Vec::new();
    for (name, progress) in moving(&tasks) {
        let mut opened = to.open(name).await?;
        let progress = Progress { reads: live_places(&**to, progress).await?, state: progress.state.clone() };
        opened.producer.commit(Commit { records: Vec::new(), progress: Some(progress) }).await?;
        names.push(name.clone());
    }
    target.state.done = true;
    target.commit(Vec::new()).await?;
    Ok(Copied { records: target.state.records, tasks: names })
}

fn refuse_strangers(from: &dyn Log, to: &dyn Log) -> Result<(), Fault> {
    if from.id() != to.id() || from.partitions() != to.partitions() || from.epoch() >= to.epoch() {
        return Err(Fault::bug(format!(
            "log {} with {} partitions and epoch {} was not made for a copy of log {} with {} and {}",
            to.id(),
            to.partitions(),
            to.epoch(),
            from.id(),
            from.partitions(),
            from.epoch()
        )));
    }
    Ok(())
}

/// Every task whose progress goes along. What workers say of themselves is of those that have stopped.
fn moving(tasks: &Tasks) -> impl Iterator<Item = (&String, &Progress)> {
    tasks.iter().filter(|(name, _)| *name != TASK && !name.starts_with(peers::PREFIX))
}

fn partitions(log: &dyn Log, topic: Topic) -> impl Iterator<Item = Partition> + use<> {
    (0..if topic.is_partitioned() { log.partitions() } else { 1 }).map(Partition)
}

/// Where each partition ends, but those that the log may write to for itself.
async fn ends(log: &dyn Log) -> Result<Places, Fault> {
    let mut ends = Places::new();
    for topic in Topic::ALL.iter().copied().filter(|topic| *topic != Topic::Progress) {
        for partition in partitions(log, topic) {
            ends.insert((topic, partition), log.range(topic, partition).await?.end);
        }
    }
    Ok(ends)
}

/// Where the copy goes on; a new one begins in an empty log.
async fn begin(from: &Arc<dyn Log>, to: &dyn Log, known: Option<Progress>) -> Result<CopyState, Fault> {
    if let Some(known) = known {
        let state = read(known.state)?;
        if state.done {
            return Err(Fault::refused(format!(
                "the copy of log {} is there already, and finished",
                to.id()
            ))
            .repair("name it in topology.yaml and start rollcall; for another copy, name another place"));
        }
        if state.from_epoch == from.epoch() {
            return Ok(state);
        }
        return Err(Fault::refused(format!(
            "a copy of epoch {} of log {} was begun there, this is its epoch {}",
            state.from_epoch,
            to.id(),
            from.epoch()
        ))
        .repair("copy to another place, or delete what is there"));
    }
    for ((topic, partition), end) in ends(to).await? {
        if end.offset > 0 {
            return Err(Fault::refused(format!(
                "{}/{partition} of the new log holds records that no copy has written",
                topic.name()
            ))
            .repair("copy to another place, or delete what is there"));
        }
    }
    let mut reached = Vec::new();
    for topic in TOPICS {
        for partition in partitions(to, topic) {
            reached.push((topic, partition, from.range(topic, partition).await?.start));
        }
    }
    Ok(CopyState { from_epoch: from.epoch(), reached, records: 0, done: false })
}

/// Where a task goes on in the new log: what was copied it has read, what comes is new.
async fn live_places(to: &dyn Log, progress: &Progress) -> Result<Places, Fault> {
    let mut reads = Places::new();
    for at in progress.reads.keys() {
        reads.insert(*at, to.range(at.0, at.1).await?.stable);
    }
    Ok(reads)
}

struct Target {
    producer: Box<dyn Producer>,
    state: CopyState,
}

impl Target {
    async fn commit(&mut self, records: Vec<Record>) -> Result<(), Fault> {
        let state = serde_json::to_value(&self.state)
            .map_err(|e| Fault::bug("a copy's progress can't be written as JSON").from_source(e))?;
        let progress = Some(Progress { reads: BTreeMap::new(), state });
        self.producer.commit(Commit { records, progress }).await.map(|_| ())
    }

    async fn copy_records(
        &mut self,
        from: &Arc<dyn Log>,
        ends: &Places,
        progress: &mut impl FnMut(Copying),
    ) -> Result<(), Fault> {
        let mut reached: Places = self.state.reached.iter().map(|(t, p, at)| ((*t, *p), *at)).collect();
        let ends: Places =
            ends.iter().filter(|(at, _)| reached.contains_key(*at)).map(|(k, v)| (*k, *v)).collect();
        let mut starts = Places::new();
        for (topic, partition) in reached.keys() {
            starts.insert((*topic, *partition), from.range(*topic, *partition).await?.start);
        }
        let offsets = |to: &Places| -> u64 {
            let start = |at| starts.get(at).map_or(0, |start| start.offset);
            to.iter().map(|(at, place)| place.offset.saturating_sub(start(at))).sum()
        };
        let total = offsets(&ends);
        let mut consumer = from.consumer(reached.clone()).await?;
        let mut moved = tokio::time::Instant::now();
        progress(Copying { copied: offsets(&reached).min(total), total });
        while !has_reached(&*consumer, &ends) {
            let fetched = consumer.poll(BATCH).await?;
            if fetched.is_empty() {
                if moved.elapsed() > STALLED_AFTER {
                    return Err(Fault::retry("the log brings nothing more, but says that there is more"));
                }
                continue;
            }
            moved = tokio::time::Instant::now();
            let mut records = Vec::with_capacity(fetched.len());
            for fetched in own(fetched) {
                let next = Place { offset: fetched.place.offset + 1, ..fetched.place };
                reached.insert((fetched.record.topic, fetched.record.partition), next);
                // A check was of the stores as they were, and nobody waits for its answer any more.
                if fetched.record.key != format!("{CONTROL_KEY}check").as_bytes() {
                    records.push(fetched.record);
                }
            }
            self.state.reached = reached.iter().map(|((t, p), at)| (*t, *p, *at)).collect();
            self.state.records += records.len() as u64;
            self.commit(records).await?;
            progress(Copying { copied: offsets(&reached).min(total), total });
        }
        progress(Copying { copied: total, total });
        Ok(())
    }
}

fn read(state: Value) -> Result<CopyState, Fault> {
    serde_json::from_value(state).map_err(|e| {
        Fault::refused("how far the copy of the log is can't be read")
            .from_source(e)
            .repair("run the version of rollcall that began it; or delete the copy and begin again")
    })
}

/// Refuses while a change has not had its whole effect: who is behind, on what, and what to do about it.
async fn refuse_undrained(from: &Arc<dyn Log>, tasks: &Tasks) -> Result<(), Fault> {
    let mut behind = Vec::new();
    for partition in partitions(&**from, Topic::IdentityChanges) {
        let name = roster_task::name(partition);
        if !tasks.contains_key(&name) {
            let range = from.range(Topic::IdentityChanges, partition).await?;
            let nowhere = Places::from([((Topic::IdentityChanges, partition), range.start)]);
            behind.extend(unread(from, &name, &nowhere).await?);
        }
    }
    for (name, progress) in moving(tasks) {
        let is_sink = name.starts_with("sink/");
        if !is_sink && !name.starts_with("roster/") && !progress.reads.is_empty() {
            return Err(Fault::refused(format!("task {name} of the log is of a kind not known here"))
                .repair("copy with the version of rollcall that wrote the log"));
        }
        if is_sink && let Some(why) = sink_in_between(name, progress)? {
            behind.push(why);
            continue;
        }
        behind.extend(unread(from, name, &progress.reads).await?);
    }
    if behind.is_empty() {
        return Ok(());
    }
    let more = behind.len().saturating_sub(NAMED_MAX);
    behind.truncate(NAMED_MAX);
    if more > 0 {
        behind.push(format!("and {more} more"));
    }
    let sources: Vec<_> = tasks.keys().filter(|name| name.starts_with("source/")).cloned().collect();
    let pauses: Vec<_> = sources.iter().map(|name| format!("`rollcall pause {name}`")).collect();
    Err(Fault::refused(format!("the log is not drained: {}", behind.join("; "))).repair(format!(
        "start rollcall on it; {}; resume what is paused (`rollcall resume TASK`); when `rollcall topic describe \
         identity-changes`, and of each topic named, shows nobody behind, stop it and copy again. A sink whose server \
         is gone: take it out of the topology, or `rollcall rebuild` it and copy while it waits",
        pauses.join(", ")
    )))
}

/// A sink whose tables are not what its places say.
fn sink_in_between(name: &str, progress: &Progress) -> Result<Option<String>, Fault> {
    let state = sink_task::read_state(progress.state.clone())?;
    Ok(if state.bootstrap.is_some() {
        Some(format!("{name} is still being filled"))
    } else if state.replay.is_some() {
        Some(format!("{name} is replaying"))
    } else {
        None
    })
}

/// Where a task has not read everything. A log's own marks behind the last record are nothing to read.
async fn unread(from: &Arc<dyn Log>, task: &str, reads: &Places) -> Result<Vec<String>, Fault> {
    let mut left = Places::new();
    let mut ends = Places::new();
    for (at, place) in reads {
        let end = from.range(at.0, at.1).await?.end;
        if *place < end {
            left.insert(*at, *place);
            ends.insert(*at, end);
        }
    }
    if left.is_empty() {
        return Ok(Vec::new());
    }
    let mut found: BTreeMap<(Topic, Partition), u64> = BTreeMap::new();
    let mut consumer = from.consumer(left.clone()).await?;
    let mut moved = tokio::time::Instant::now();
    // The first poll that brings something says enough, but names only the partitions it came from: one of each.
    let limit = PollLimit { records_max: left.len(), ..BATCH };
    while found.is_empty() && !has_reached(&*consumer, &ends) {
        for fetched in consumer.poll(limit).await? {
            let at = (fetched.record.topic, fetched.record.partition);
            let end = ends.get(&at).map_or(0, |end| end.offset);
            found.entry(at).or_insert(end.saturating_sub(fetched.place.offset));
            moved = tokio::time::Instant::now();
        }
        if moved.elapsed() > STALLED_AFTER {
            return Err(Fault::retry("the log brings nothing more, but says that there is more"));
        }
    }
    let lines = found.into_iter().map(|((topic, partition), records)| {
        format!("{task} is {records} behind on {}/{partition}", topic.name())
    });
    Ok(lines.collect())
}
