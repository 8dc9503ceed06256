//! A sink sent back in the log, to take again what it has taken before.
//!
//! ```text
//!            from                 until (where it stood)         end
//!  partition ──┼───── said again ────┼──── what is new ───────────┼──▶
//! ```
//!
//! In: a sink's progress and what an operator wants. Out: the progress, rewound. Right because a sink keeps no count of
//! what it has taken: rows carry a version and counts a seq, so what is said again changes nothing that is newer, and the
//! tables end as they were. The replay is part of the sink's progress: a pause, a kill or a restart lose nothing of it.
//! Checks that pass on the way were answered when they passed first; now the tables are ahead of them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use rollcall_model::log::PollLimit;
use rollcall_model::{Commit, Fault, Log, Partition, Place, Progress, Topic};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tracing::info;

use crate::sink_task::{self, Running, SinkState};
use crate::whence::Whence;

/// Of so many partitions a plan says from when their first record is: each takes a reader of its own.
const DATED_MAX: usize = 64;
const FIRST: PollLimit = PollLimit { records_max: 1, bytes_max: 1 << 20, wait: Duration::from_millis(200) };

type Reads = BTreeMap<(Topic, Partition), Place>;

/// What an operator wants replayed.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct Wanted {
    /// From where on.
    pub(crate) from: Whence,
    /// Of these partitions; of all when `None`.
    #[serde(default)]
    pub(crate) partitions: Option<BTreeSet<Partition>>,
    /// Of this topic; of all that the sink reads when `None`.
    #[serde(default)]
    pub(crate) topic: Option<Topic>,
}

/// A replay under way, as the sink remembers it.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub(crate) struct Replay {
    /// The how manieth of its sink.
    pub(crate) number: u64,
    /// What was asked for.
    pub(crate) wanted: Wanted,
    /// What is said again.
    pub(crate) stretches: Vec<Stretch>,
}

/// A part of a partition that is said again.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct Stretch {
    /// The topic.
    pub(crate) topic: Topic,
    /// The partition.
    pub(crate) partition: Partition,
    /// Its first place.
    pub(crate) from: Place,
    /// Where the sink stood: from here on, what comes is new.
    pub(crate) until: Place,
}

/// How far a partition is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
pub(crate) struct PartitionReplay {
    pub(crate) partition: Partition,
    /// Offsets behind it.
    pub(crate) replayed: u64,
    /// Offsets in all: compaction leaves fewer records.
    pub(crate) total: u64,
    pub(crate) done: bool,
}

/// A stretch as a plan shows it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub(crate) struct Planned {
    topic: &'static str,
    partition: Partition,
    from: u64,
    until: u64,
    /// Offsets between: compaction leaves fewer records.
    records: u64,
    /// The time of the first, microseconds since 1970, where it says one.
    since_us: Option<i64>,
}

impl Replay {
    /// Whether a place is said again.
    pub(crate) fn covers(&self, at: (Topic, Partition), place: Place) -> bool {
        self.stretches.iter().any(|s| (s.topic, s.partition) == at && place < s.until)
    }

    /// Whether everything has been brought again.
    pub(crate) fn is_over(&self, reached: &Reads) -> bool {
        self.stretches.iter().all(|s| reached.get(&(s.topic, s.partition)).is_some_and(|at| *at >= s.until))
    }

    /// How far each partition is.
    pub(crate) fn shown(&self, reads: &Reads) -> Vec<PartitionReplay> {
        let mut shown: BTreeMap<Partition, PartitionReplay> = BTreeMap::new();
        for s in &self.stretches {
            let at = reads.get(&(s.topic, s.partition)).map_or(s.from, |at| (*at).clamp(s.from, s.until));
            let partition = PartitionReplay { partition: s.partition, replayed: 0, total: 0, done: false };
            let sum = shown.entry(s.partition).or_insert(partition);
            sum.replayed += at.offset - s.from.offset;
            sum.total += s.until.offset - s.from.offset;
            sum.done = sum.replayed == sum.total;
        }
        shown.into_values().collect()
    }
}

impl Running {
    pub(crate) fn report_replay(&self) {
        let shown = self.state.replay.as_ref().map(|replay| replay.shown(&self.reads));
        let sum = |of: fn(&PartitionReplay) -> u64| shown.iter().flatten().map(of).sum::<u64>();
        let fact = shown
            .is_some()
            .then(|| serde_json::json!({ "replayed": sum(|p| p.replayed), "total": sum(|p| p.total) }));
        self.reporter.fact("replay", fact);
    }

    /// Ends the replay once everything it was sent back for has been brought, and written: nothing is in the buffer.
    pub(crate) async fn end_replay(
        &mut self,
        reached: &BTreeMap<(Topic, Partition), Place>,
    ) -> Result<(), Fault> {
        let Some(replay) = self.state.replay.take_if(|replay| replay.is_over(reached)) else { return Ok(()) };
        for stretch in &replay.stretches {
            // The last of it may have been compacted away: no record has led up to there.
            let read = self.reads.entry((stretch.topic, stretch.partition)).or_insert(stretch.until);
            *read = stretch.until.max(*read);
        }
        self.commit(Vec::new()).await?;
        self.report_replay();
        info!(sink = self.name, "replayed");
        Ok(())
    }
}

/// The replays under way, by sink, with where each stands.
pub(crate) async fn underway(log: &dyn Log) -> Result<BTreeMap<String, (Replay, Reads)>, Fault> {
    let mut found = BTreeMap::new();
    for (task, progress) in log.tasks().await? {
        let Some(sink) = task.strip_prefix("sink/") else { continue };
        if let Some(replay) = sink_task::read_state(progress.state)?.replay {
            found.insert(sink.to_owned(), (replay, progress.reads));
        }
    }
    Ok(found)
}

/// What a replay would do, without doing it.
pub(crate) async fn plan(log: &Arc<dyn Log>, sink: &str, wanted: &Wanted) -> Result<Vec<Stretch>, Fault> {
    let progress = log.tasks().await?.remove(&sink_task::name(sink));
    let (_, progress) = ready(sink, progress)?;
    stretches(&**log, sink, &progress.reads, wanted).await
}

/// Rewinds a stopped sink; `None` when there is nothing to say again.
pub(crate) async fn begin(log: &Arc<dyn Log>, sink: &str, wanted: &Wanted) -> Result<Option<Replay>, Fault> {
    let mut opened = log.open(&sink_task::name(sink)).await?;
    let (mut state, before) = ready(sink, opened.progress)?;
    let stretches = stretches(&**log, sink, &before.reads, wanted).await?;
    if stretches.is_empty() {
        return Ok(None);
    }
    state.replays += 1;
    let replay = Replay { number: state.replays, wanted: wanted.clone(), stretches };
    state.replay = Some(replay.clone());
    let mut reads = before.reads.clone();
    reads.extend(replay.stretches.iter().map(|s| ((s.topic, s.partition), s.from)));
    let progress = Some(Progress { reads, state: sink_task::to_json(&state)? });
    opened.producer.commit(Commit { records: Vec::new(), progress }).await?;
    // From here on nothing of it goes; what went before is found out now.
    for s in &replay.stretches {
        let start = log.range(s.topic, s.partition).await?.start;
        if start > s.from {
            opened.producer.commit(Commit { records: Vec::new(), progress: Some(before) }).await?;
            return Err(gone(sink, s.topic, s.partition, start));
        }
    }
    Ok(Some(replay))
}

/// A sink that has taken everything once, and that nobody has sent back yet.
fn ready(sink: &str, progress: Option<Progress>) -> Result<(SinkState, Progress), Fault> {
    let filling = || {
        Fault::refused(format!(
            "sink {sink} is still being filled from the log: there is nothing to replay yet"
        ))
        .repair("wait until `rollcall status` no longer shows it behind")
    };
    let progress = progress.ok_or_else(filling)?;
    let state = sink_task::read_state(progress.state.clone())?;
    if state.reset || state.bootstrap.is_some() || progress.reads.is_empty() {
        return Err(filling());
    }
    if let Some(replay) = &state.replay {
        return Err(Fault::refused(format!(
            "another replay of sink {sink}, from {}, is still under way",
            replay.wanted.from
        ))
        .repair(format!(
            "`rollcall replay {sink} --resume` shows how far it is; begin the next when it has ended"
        )));
    }
    Ok((state, progress))
}

async fn stretches(log: &dyn Log, sink: &str, reads: &Reads, wanted: &Wanted) -> Result<Vec<Stretch>, Fault> {
    let topics = chosen(sink, reads, wanted)?;
    let count = log.partitions();
    if let Some(unknown) = wanted.partitions.iter().flatten().find(|partition| partition.0 >= count) {
        return Err(Fault::config(format!("there is no partition {unknown}; there are 0 to {}", count - 1)));
    }
    let mut stretches = Vec::new();
    for ((topic, partition), until) in reads {
        let (topic, partition, until) = (*topic, *partition, *until);
        let is_chosen = wanted.partitions.as_ref().is_none_or(|chosen| chosen.contains(&partition));
        if !is_chosen || !topics.contains(&topic) {
            continue;
        }
        let range = log.range(topic, partition).await?;
        let from = wanted.from.place(log, topic, partition).await?;
        let is_there = match wanted.from {
            Whence::Beginning | Whence::End => true,
            Whence::Offset(_) => {
                refuse_ahead(sink, topic, partition, from, until, range.end)?;
                from >= range.start
            }
            // What was written at that time or later and before the first that is left may have gone.
            Whence::Time(_) => range.start.offset == 0 || from > range.start,
        };
        if !is_there {
            return Err(gone(sink, topic, partition, range.start));
        }
        if from < until {
            stretches.push(Stretch { topic, partition, from, until });
        }
    }
    Ok(stretches)
}

/// The topics to go back in.
fn chosen(sink: &str, reads: &Reads, wanted: &Wanted) -> Result<BTreeSet<Topic>, Fault> {
    let live: BTreeSet<Topic> = reads.keys().map(|(topic, _)| *topic).collect();
    let names: Vec<_> = live.iter().map(|topic| topic.name()).collect();
    match wanted.topic {
        Some(topic) if live.contains(&topic) => Ok(BTreeSet::from([topic])),
        Some(topic) => Err(Fault::config(format!(
            "sink {sink} does not read {}; it reads {}",
            topic.name(),
            names.join(" and ")
        ))),
        None if matches!(wanted.from, Whence::Offset(_)) && live.len() > 1 => Err(Fault::config(format!(
            "an offset counts in one topic, and sink {sink} reads {}",
            names.join(" and ")
        ))
        .repair(format!("say which: --topic {}; or replay from a time", names.join("|")))),
        None => Ok(live),
    }
}

/// A replay goes back: going forward would leave out what nobody has taken.
fn refuse_ahead(
    sink: &str,
    topic: Topic,
    partition: Partition,
    from: Place,
    until: Place,
    end: Place,
) -> Result<(), Fault> {
    let name = topic.name();
    let what = if from > end {
        format!("{name}/{partition} ends at offset {}: {} is beyond it", end.offset, from.offset)
    } else if from > until {
        format!(
            "sink {sink} stands at offset {} of {name}/{partition}: {} would leave out what it has not taken",
            until.offset, from.offset
        )
    } else {
        return Ok(());
    };
    Err(Fault::config(what)
        .repair("`rollcall topic describe` shows each partition; --partitions chooses some"))
}

fn gone(sink: &str, topic: Topic, partition: Partition, start: Place) -> Fault {
    Fault::refused(format!(
        "{}/{partition} begins at offset {}: the replay would begin before that, with what is past its retention",
        topic.name(),
        start.offset
    ))
    .repair(format!(
        "--from beginning replays what is there; rollcall rebuild {sink} fills it anew from the compacted topics"
    ))
}

/// A plan as it is shown.
pub(crate) async fn planned(log: &dyn Log, stretches: &[Stretch]) -> Result<Vec<Planned>, Fault> {
    let mut planned = Vec::new();
    for (number, s) in stretches.iter().enumerate() {
        let since_us = if number < DATED_MAX { since_us(log, s).await? } else { None };
        planned.push(Planned {
            topic: s.topic.name(),
            partition: s.partition,
            from: s.from.offset,
            until: s.until.offset,
            records: s.until.offset - s.from.offset,
            since_us,
        });
    }
    Ok(planned)
}

/// What the first record says of its time: the source's clock, or its version, which follows that.
async fn since_us(log: &dyn Log, stretch: &Stretch) -> Result<Option<i64>, Fault> {
    let from = BTreeMap::from([((stretch.topic, stretch.partition), stretch.from)]);
    let first = log.consumer(from).await?.poll(FIRST).await?;
    Ok(first.into_iter().find(|fetched| !fetched.foreign).and_then(|fetched| {
        let value: Option<Value> =
            fetched.record.value.as_deref().and_then(|value| serde_json::from_slice(value).ok());
        let at_us = value.and_then(|value| value.get("at_us")?.as_i64());
        let version = fetched.record.headers.iter().find(|(name, _)| name == "version");
        at_us.or_else(|| version?.1.parse().ok())
    }))
}

#[cfg(test)]
#[path = "replay_tests.rs"]
mod tests;
