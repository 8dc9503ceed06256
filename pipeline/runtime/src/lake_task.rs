//! A lake at work: the rosters' topics → buffers of an [`Archive`] → files of whole commits → progress.
//!
//! ```text
//!  poll ─▶ take ─▶ due? ─▶ cuts in progress ─▶ upload ─▶ list ─▶ reads = until in progress
//!                             (planned)       (uploaded) (listed)
//!  restart: cuts in progress that aren't covered are read again, up to where they end, and made again
//! ```
//!
//! Right because a file's range is in the log before the file is: whatever was lost on the way, the next start makes the
//! same ranges, and what is listed already is skipped. Reads move only past what is listed, so the log keeps the rest. While
//! files are made nothing is polled: a slow or dead store holds back this task alone, and its buffers don't grow.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use rollcall_model::archive::AsOf;
use rollcall_model::log::PollLimit;
use rollcall_model::{
    Archive, Commit, Covered, Cut, Delivery, Fault, Fetched, Log, OutRecord, Partition, Place, Producer,
    Progress, QuarantineRecord, Retention, Seq, Topic,
};
use serde::{Deserialize, Serialize};
use tokio::time::Instant;
use tracing::info;

use crate::clock::now_us;
use crate::crash;
use crate::cuts::{At, Cuts, Due};
use crate::lake_as_of::LakeAsOf;
use crate::outgoing::not_json;
use crate::read_to_end::{STALLED_AFTER, has_reached};
use crate::received::{Received, receive, to_quarantine};
use crate::sink_task;
use crate::tasks::Reporter;
use crate::wiring::LakeWiring;

/// Records of one poll.
const POLL_RECORDS_MAX: usize = 10_000;
const POLL_BYTES_MAX: usize = 16 << 20;
const IDLE_WAIT: Duration = Duration::from_secs(1);
/// When it is time for a file whose last commit isn't known to be whole.
const ALMOST: Duration = Duration::from_millis(20);

/// What a lake task must remember. No places but those of cuts under way: a log that is copied has none.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub(crate) struct LakeState {
    /// The lake has to be begun anew before anything else (`rollcall rebuild`, as other sinks remember it).
    #[serde(default)]
    reset: bool,
    /// The last commits that are listed.
    #[serde(default)]
    covered: Vec<(Topic, Partition, Seq)>,
    /// What is about to be listed.
    #[serde(default)]
    pending: Vec<Cut>,
}

#[derive(Clone)]
pub(crate) struct LakeTask {
    pub(crate) log: Arc<dyn Log>,
    pub(crate) wiring: Arc<LakeWiring>,
}

struct Running {
    log: Arc<dyn Log>,
    name: String,
    archive: Box<dyn Archive>,
    producer: Box<dyn Producer>,
    cuts: Cuts,
    as_of: LakeAsOf,
    noted: AsOf,
    began: Instant,
    bad: Vec<QuarantineRecord>,
    reporter: Reporter,
}

impl LakeTask {
    pub(crate) async fn run(self, reporter: Reporter) -> Result<(), Fault> {
        let name = self.wiring.name.clone();
        let opened = self.log.open(&sink_task::name(&name)).await?;
        let producer = opened.producer;
        let progress = opened.progress.unwrap_or_default();
        let (mut state, mut reads) = (read_state(&name, progress.state)?, progress.reads);
        let mut archive = (self.wiring.start)().await?;
        if state.reset {
            archive.reset(self.log.id()).await?;
            info!(sink = name, "begun anew; filling it from the log");
            (state, reads) = (LakeState::default(), BTreeMap::new());
        }
        let covered: BTreeMap<At, Covered> =
            archive.prepare(self.log.id(), self.log.partitions()).await?.into_iter().collect();
        refuse_less(&name, &state.covered, &covered)?;
        let pending = unlisted(&name, &state.pending, &covered)?;
        // What a start that failed after listing has left: it is listed, but the reads don't say so.
        for cut in state.pending.iter().filter(|cut| !pending.contains(cut)) {
            reads.insert((cut.topic, cut.partition), cut.until);
        }
        let from = begin(&self.log, &name, archive.reads(), &reads, &covered).await?;
        let as_of = LakeAsOf::new(self.log.partitions());
        let mut running = Running {
            log: self.log,
            name,
            archive,
            producer,
            cuts: Cuts::new(self.wiring.bounds, from),
            as_of,
            noted: AsOf::new(),
            began: Instant::now(),
            bad: Vec::new(),
            reporter,
        };
        running.reporter.fact("bootstrapping", false);
        running.make_again(&pending).await?;
        running.reporter.running();
        running.serve().await
    }
}

/// Refuses an archive that lacks what is known to have been listed.
fn refuse_less(
    name: &str,
    listed: &[(Topic, Partition, Seq)],
    covered: &BTreeMap<At, Covered>,
) -> Result<(), Fault> {
    for (topic, partition, seq) in listed {
        let found = covered.get(&(*topic, *partition)).map_or(Seq(0), |covered| covered.seq);
        if found < *seq {
            return Err(Fault::refused(format!(
                "lake {name} holds {}/{partition} up to commit {}, and it has listed up to commit {}: manifests were \
                 taken away, or it is another place",
                topic.name(),
                found.0,
                seq.0
            ))
            .repair(format!("put back what is missing, or begin the lake anew: rollcall rebuild {name}")));
        }
    }
    Ok(())
}

/// The cuts of a start before that are still to be listed.
fn unlisted(name: &str, pending: &[Cut], covered: &BTreeMap<At, Covered>) -> Result<Vec<Cut>, Fault> {
    let mut left = Vec::new();
    for cut in pending {
        let (topic, partition) = (cut.topic, cut.partition);
        let found = covered.get(&(topic, partition)).map_or(Seq(0), |covered| covered.seq);
        if found < cut.last && Seq(found.0 + 1) != cut.first {
            return Err(Fault::refused(format!(
                "lake {name} holds {}/{partition} up to commit {}, in the middle of the file of {} to {}: it has \
                 another writer",
                topic.name(),
                found.0,
                cut.first.0,
                cut.last.0
            ))
            .repair(format!(
                "stop the other writer, or give each a prefix of its own; then rollcall rebuild {name}"
            )));
        }
        if found < cut.last {
            left.push(*cut);
        }
    }
    Ok(left)
}

/// Where each partition goes on: as progress says, else after what is listed, else where the log begins.
async fn begin(
    log: &Arc<dyn Log>,
    name: &str,
    topics: &[Topic],
    reads: &BTreeMap<At, Place>,
    covered: &BTreeMap<At, Covered>,
) -> Result<Vec<(At, (Seq, Place))>, Fault> {
    let mut from = Vec::new();
    for partition in (0..log.partitions()).map(Partition) {
        for topic in topics.iter().copied() {
            let at = (topic, partition);
            let covered = covered.get(&at).copied().unwrap_or_default();
            let place = match reads.get(&at) {
                Some(place) => *place,
                None => anew(log, name, at, covered).await?,
            };
            from.push((at, (covered.seq, place)));
        }
    }
    Ok(from)
}

/// Where a partition that progress doesn't know goes on. What is listed already is skipped by its seq, so earlier than
/// needed is as right; later is not.
async fn anew(log: &Arc<dyn Log>, name: &str, at: At, covered: Covered) -> Result<Place, Fault> {
    let start = log.range(at.0, at.1).await?.start;
    if covered.seq == Seq(0) || covered.until.epoch != start.epoch {
        return Ok(start);
    }
    if covered.until < start && at.0.retention() == Retention::Time {
        return Err(Fault::refused(format!(
            "lake {name} goes on at offset {} of {}/{}, and the log begins at {}: what was between is past its retention",
            covered.until.offset,
            at.0.name(),
            at.1,
            start.offset
        ))
        .repair(format!("rollcall rebuild {name}")));
    }
    Ok(covered.until.max(start))
}

impl Running {
    /// Reads what belongs to cuts of a start before, and makes their files.
    async fn make_again(&mut self, pending: &[Cut]) -> Result<(), Fault> {
        let ends: BTreeMap<At, Place> =
            pending.iter().map(|cut| ((cut.topic, cut.partition), cut.until)).collect();
        let mut from = self.cuts.next();
        from.retain(|at, _| ends.contains_key(at));
        if !from.is_empty() {
            let mut consumer = self.log.consumer(from).await?;
            let mut moved = Instant::now();
            while !has_reached(&*consumer, &ends) {
                for fetched in consumer.poll(self.limit()).await? {
                    moved = Instant::now();
                    let at = (fetched.record.topic, fetched.record.partition);
                    if ends.get(&at).is_some_and(|end| fetched.place < *end) {
                        self.take(fetched)?;
                    }
                }
                if moved.elapsed() > STALLED_AFTER {
                    return Err(Fault::retry("the log brings nothing more, but says that there is more"));
                }
            }
            // They went to quarantine before the cuts were planned.
            self.bad.clear();
        }
        self.make(pending).await
    }

    async fn serve(&mut self) -> Result<(), Fault> {
        let mut consumer = self.log.consumer(self.cuts.next()).await?;
        let (mut rows, mut since) = (0_u64, Instant::now());
        loop {
            for fetched in consumer.poll(self.limit()).await? {
                rows += 1;
                self.take(fetched)?;
            }
            if !self.bad.is_empty() {
                self.commit(&[]).await?;
            }
            match self.cuts.due(self.began.elapsed(), |at| self.archive.buffered(at)) {
                Due::Nothing => {}
                Due::All => self.make_all(&consumer.reached()).await?,
                Due::Some(chosen) => {
                    let open: Vec<At> = chosen.iter().copied().filter(|at| self.cuts.is_open(*at)).collect();
                    let ends = self.at_end(&open, &consumer.reached()).await?;
                    self.make_files(&chosen, &ends).await?;
                }
            }
            if since.elapsed() >= IDLE_WAIT {
                self.report(rows, since.elapsed(), consumer.reached()).await?;
                (rows, since) = (0, Instant::now());
            }
        }
    }

    /// How much a poll may bring, and how long it may wait: until something is due.
    fn limit(&self) -> PollLimit {
        let due = self.cuts.due_in(self.began.elapsed()).map_or(IDLE_WAIT, |wait| wait.max(ALMOST));
        PollLimit { records_max: POLL_RECORDS_MAX, bytes_max: POLL_BYTES_MAX, wait: due.min(IDLE_WAIT) }
    }

    fn take(&mut self, fetched: Fetched) -> Result<(), Fault> {
        let (place, topic, partition) = (fetched.place, fetched.record.topic, fetched.record.partition);
        let (at, now) = ((topic, partition), self.began.elapsed());
        match receive(&self.name, &fetched) {
            Received::Record(record) => {
                let (seq, is_row) = match &record {
                    OutRecord::Identity(record) => (record.seq, true),
                    OutRecord::Membership(record) => (record.seq, true),
                    OutRecord::MembershipChange(record) => (record.seq, true),
                    OutRecord::Count(record) => (record.seq, true),
                    OutRecord::Watermark(record) => {
                        self.as_of.take(record);
                        (record.seq, false)
                    }
                };
                if self.cuts.pass(at, place, seq, is_row, now)? {
                    self.archive.take(&Delivery { topic, partition, place, record })?;
                }
            }
            // Files are looked at by `rollcall lake verify`; no check waits for them.
            Received::Check(passed) => drop(self.cuts.pass(at, place, passed.seq, false, now)?),
            Received::Removed => self.cuts.pass_over(at, place, now)?,
            Received::Bad(record) => {
                self.bad.push(*record);
                self.cuts.pass_over(at, place, now)?;
            }
        }
        Ok(())
    }

    /// Makes files of everything, and notes how far the sources have come in what is listed then.
    async fn make_all(&mut self, reached: &BTreeMap<At, Place>) -> Result<(), Fault> {
        let all = self.cuts.all();
        let ends = self.at_end(&all, reached).await?;
        let partitions = (0..self.log.partitions()).map(Partition);
        let whole: Vec<_> =
            partitions.map(|partition| (partition, self.cuts.whole(partition, &ends))).collect();
        self.make_files(&all, &ends).await?;
        for (partition, last) in whole {
            self.as_of.listed(partition, last);
        }
        let as_of = self.as_of.as_of();
        if as_of != self.noted {
            self.archive.note(&as_of).await?;
            self.noted = as_of;
        }
        Ok(())
    }

    /// Makes files of some partitions as far as they hold whole commits, and commits what was read.
    async fn make_files(&mut self, chosen: &[At], ends: &BTreeSet<At>) -> Result<(), Fault> {
        let cut = |at: &At| self.cuts.cut(*at, ends.contains(at));
        let cuts: Vec<Cut> = chosen.iter().filter_map(cut).collect();
        if !cuts.is_empty() {
            self.commit(&cuts).await?;
            crash::here("lake-planned");
        } else if self.cuts.is_known() {
            self.cuts.none_is_whole(self.began.elapsed());
            return Ok(());
        }
        self.make(&cuts).await
    }

    /// Of which of these everything that is decided was read. Asked after it was read: a commit of which a part was read is
    /// decided, so its end is below what is stable now.
    async fn at_end(&mut self, of: &[At], reached: &BTreeMap<At, Place>) -> Result<BTreeSet<At>, Fault> {
        let mut ends = BTreeSet::new();
        for at in of {
            let stable = self.log.range(at.0, at.1).await?.stable;
            if reached.get(at).is_some_and(|place| *place >= stable) {
                ends.insert(*at);
            }
        }
        Ok(ends)
    }

    /// Makes the files of cuts that are in progress, and commits that they are listed.
    async fn make(&mut self, cuts: &[Cut]) -> Result<(), Fault> {
        if !cuts.is_empty() {
            let started = Instant::now();
            let rows = self.archive.upload(cuts).await?;
            crash::here("lake-uploaded");
            self.archive.list(cuts).await?;
            crash::here("lake-listed");
            metrics::counter!("rollcall_sink_rows_total", "sink" => self.name.clone()).increment(rows);
            metrics::histogram!("rollcall_sink_write_seconds", "sink" => self.name.clone())
                .record(started.elapsed().as_secs_f64());
            self.reporter.fact("listed_at_us", now_us());
        }
        for cut in cuts {
            self.cuts.listed(cut)?;
        }
        self.commit(&[]).await
    }

    /// Commits what was read, what is about to be listed, and what can't be kept.
    async fn commit(&mut self, pending: &[Cut]) -> Result<(), Fault> {
        let records = to_quarantine(&self.name, std::mem::take(&mut self.bad))?;
        let state = LakeState { reset: false, covered: self.cuts.covered(), pending: pending.to_vec() };
        let state = serde_json::to_value(state).map_err(not_json)?;
        let progress = Some(Progress { reads: self.cuts.reads(), state });
        self.producer.commit(Commit { records, progress }).await?;
        self.cuts.committed();
        Ok(())
    }

    async fn report(
        &mut self,
        rows: u64,
        elapsed: Duration,
        reached: BTreeMap<At, Place>,
    ) -> Result<(), Fault> {
        self.reporter.fact("records_per_second", (rows as f64 / elapsed.as_secs_f64()).round());
        let mut lag = 0;
        for ((topic, partition), place) in reached {
            lag += self.log.range(topic, partition).await?.end.offset.saturating_sub(place.offset);
        }
        let (mut buffered_rows, mut buffered_bytes) = (0, 0);
        for at in self.cuts.all() {
            let buffered = self.archive.buffered(at);
            buffered_rows += buffered.rows;
            buffered_bytes += buffered.bytes;
        }
        // What is in no file yet is behind, as it is with other sinks.
        self.reporter.fact("lag_records", lag + buffered_rows);
        self.reporter.fact("buffered_rows", buffered_rows);
        self.reporter.fact("buffered_bytes", buffered_bytes);
        metrics::gauge!("rollcall_lake_buffered_bytes", "sink" => self.name.clone())
            .set(buffered_bytes as f64);
        Ok(())
    }
}

/// Up to which commit a lake has listed a partition of a topic, as its progress says.
pub(crate) fn covered(state: &serde_json::Value, at: At) -> Option<Seq> {
    let state: LakeState = serde_json::from_value(state.clone()).ok()?;
    let listed = state.covered.into_iter().find(|(topic, partition, _)| (*topic, *partition) == at);
    listed.map(|(_, _, seq)| seq)
}

fn read_state(name: &str, state: serde_json::Value) -> Result<LakeState, Fault> {
    if state.is_null() {
        return Ok(LakeState::default());
    }
    serde_json::from_value(state).map_err(|e| {
        Fault::refused(format!("the progress of lake {name} can't be read"))
            .from_source(e)
            .repair(format!("rollcall rebuild {name}"))
    })
}

#[cfg(test)]
#[path = "lake_tests/mod.rs"]
mod tests;
