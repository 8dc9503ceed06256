//! A sink at work: the rosters' topics → bounded batches → `Ok` means durable → progress.
//!
//! ```text
//! fresh, or after a rebuild:  (an archive ─▶) identities + memberships up to their ends ─▶ then live    (bootstrap)
//! live:                       identities + membership-changes (from where they stood when the bootstrap began)
//! ```
//!
//! The compacted topics hold everything, the changes only what retention left; starting from the former and going on
//! with the latter misses nothing, and what both say is the same row with the same version.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rollcall_model::log::PollLimit;
use rollcall_model::sink::CheckRequest;
use rollcall_model::{
    Commit, Consumer, Delivery, Fault, Fetched, Log, OutRecord, Partition, Place, Producer, Progress,
    QuarantineRecord, Record, Seq, Sink, Topic,
};
use rollcall_roster::output::CheckPassed;
use serde::{Deserialize, Serialize};
use tracing::{info, warn};

use crate::archives::Archives;
use crate::bootstrap::{self, Bootstrap};
use crate::crash;
use crate::outgoing::not_json;
use crate::read_to_end::has_reached;
use crate::received::{Received, receive, rejected, to_quarantine};
use crate::replay::Replay;
use crate::tasks::Reporter;
use crate::wiring::{FlushBounds, SinkWiring};

/// Records of one poll.
const POLL_RECORDS_MAX: usize = 10_000;
const POLL_BYTES_MAX: usize = 16 << 20;
const IDLE_WAIT: Duration = Duration::from_secs(1);

/// What a sink task must remember.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub(crate) struct SinkState {
    /// Where the bootstrap ends and where the live topics begin; `None` once live.
    pub(crate) bootstrap: Option<Bootstrap>,
    /// The sink has to be emptied before anything else (`rollcall rebuild`).
    #[serde(default)]
    pub(crate) reset: bool,
    /// The archive that it is filled from then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) from: Option<String>,
    /// The last commit of each partition that a bootstrap brought something of. A check at or before it can't be
    /// answered any more: the sink is past that cut.
    #[serde(default)]
    pub(crate) brought: BTreeMap<Partition, Seq>,
    /// What it was sent back for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) replay: Option<Replay>,
    /// Replays begun so far.
    #[serde(default)]
    pub(crate) replays: u64,
}

impl SinkState {
    /// What the log must know: also where a bootstrap will go on, lest retention drops that meanwhile.
    fn progress(&self, reads: &BTreeMap<(Topic, Partition), Place>) -> Result<Progress, Fault> {
        let mut reads = reads.clone();
        if let Some(bootstrap) = &self.bootstrap {
            let live = (0..).map(Partition).zip(bootstrap.live.iter().copied());
            reads.extend(live.map(|(partition, place)| ((Topic::MembershipChanges, partition), place)));
        }
        Ok(Progress { reads, state: to_json(self)? })
    }
}

#[derive(Clone)]
pub(crate) struct SinkTask {
    pub(crate) log: Arc<dyn Log>,
    pub(crate) wiring: Arc<SinkWiring>,
    pub(crate) archives: Archives,
    pub(crate) tombstone_retention: Duration,
}

/// The name of a sink's task.
pub(crate) fn name(sink: &str) -> String {
    format!("sink/{sink}")
}

pub(crate) struct Running {
    log: Arc<dyn Log>,
    pub(crate) name: String,
    pub(crate) flush: FlushBounds,
    reconcile_every: Option<Duration>,
    sink: Box<dyn Sink>,
    producer: Box<dyn Producer>,
    pub(crate) state: SinkState,
    pub(crate) reads: BTreeMap<(Topic, Partition), Place>,
    pub(crate) buffer: Buffer,
    pub(crate) reporter: Reporter,
}

#[derive(Default)]
pub(crate) struct Buffer {
    pub(crate) deliveries: Vec<Delivery>,
    bytes: usize,
    pub(crate) oldest: Option<Instant>,
    /// Records that could not be read.
    unreadable: Vec<QuarantineRecord>,
}

impl SinkTask {
    /// Asks a stopped sink task to empty its sink at its next start and to fill it anew, from an archive if one is named.
    ///
    /// # Errors
    /// A [`Fault`] of the log.
    pub(crate) async fn ask_reset(log: &Arc<dyn Log>, sink: &str, from: Option<String>) -> Result<(), Fault> {
        let mut opened = log.open(&name(sink)).await?;
        let state = SinkState { reset: true, from, ..SinkState::default() };
        let progress = state.progress(&BTreeMap::new())?;
        opened.producer.commit(Commit { records: Vec::new(), progress: Some(progress) }).await.map(|_| ())
    }

    pub(crate) async fn run(self, reporter: Reporter) -> Result<(), Fault> {
        let opened = self.log.open(&name(&self.wiring.name)).await?;
        let mut sink = (self.wiring.start)().await?;
        let (mut state, mut reads) = match opened.progress {
            Some(progress) => (read_state(progress.state)?, progress.reads),
            None => (SinkState::default(), BTreeMap::new()),
        };
        let mut producer = opened.producer;
        let (mut reader, mut start) = (None, None);
        if state.reset {
            if let Some(name) = &state.from {
                let topics = sink.reads();
                let opened =
                    bootstrap::open(&self.archives, &*self.log, name, topics, self.tombstone_retention);
                let (opened, begins) = opened.await?;
                (reader, start) = (Some(opened), Some(begins));
            }
            sink.reset(self.log.id()).await?;
            let from = state.from.as_deref().unwrap_or("the log");
            info!(sink = self.wiring.name, from, "emptied; filling it anew");
            state.reset = false;
            reads.clear();
        }
        sink.prepare(self.log.id(), self.log.partitions()).await?;
        if reads.is_empty() {
            (state, reads) = bootstrap::begin(&*self.log, sink.reads(), start.as_ref()).await?;
            let progress = state.progress(&reads)?;
            producer.commit(Commit { records: Vec::new(), progress: Some(progress) }).await?;
        }
        let reading = state.bootstrap.as_ref().and_then(|bootstrap| bootstrap.reading.as_ref());
        if let (None, Some(reading)) = (&reader, reading) {
            reader = Some(self.archives.open(&*self.log, &reading.archive, Some(reading.pin())).await?);
        }
        if state.bootstrap.is_some() {
            // Held, not read.
            reads.retain(|(topic, _), _| *topic != Topic::MembershipChanges);
        }
        let mut running = Running {
            log: self.log,
            name: self.wiring.name.clone(),
            flush: self.wiring.flush,
            reconcile_every: self.wiring.reconcile_every,
            sink,
            producer,
            state,
            reads,
            buffer: Buffer::default(),
            reporter,
        };
        running.reporter.fact("bootstrapping", running.state.bootstrap.is_some());
        running.report_replay();
        running.report_rebuild();
        running.reporter.running();
        if let Some(mut reader) = reader {
            running.read_archive(&mut *reader).await?;
        }
        running.serve().await
    }
}

impl Running {
    async fn serve(&mut self) -> Result<(), Fault> {
        let mut consumer = self.log.consumer(self.reads.clone()).await?;
        let mut reconciled = Instant::now();
        let (mut rows, mut since) = (0_u64, Instant::now());
        loop {
            if self.has_bootstrapped(&*consumer) {
                self.go_live().await?;
                consumer = self.log.consumer(self.reads.clone()).await?;
            }
            let room =
                self.flush.rows.saturating_sub(self.buffer.deliveries.len()).clamp(1, POLL_RECORDS_MAX);
            let limit =
                PollLimit { records_max: room, bytes_max: POLL_BYTES_MAX, wait: self.wait(reconciled) };
            for fetched in consumer.poll(limit).await? {
                rows += 1;
                self.take(fetched).await?;
            }
            if self.is_due() {
                self.write().await?;
            }
            if self.state.replay.is_some() && self.buffer.oldest.is_none() {
                self.end_replay(&consumer.reached()).await?;
            }
            if let Some(every) = self.reconcile_every
                && reconciled.elapsed() >= every
            {
                self.write().await?;
                for line in self.sink.reconcile().await? {
                    warn!(sink = self.name, "reconcile repaired what another writer changed: {line}");
                    metrics::counter!("rollcall_reconcile_repairs_total", "sink" => self.name.clone())
                        .increment(1);
                }
                reconciled = Instant::now();
            }
            if since.elapsed() >= IDLE_WAIT {
                self.report(rows, since.elapsed(), consumer.reached()).await?;
                (rows, since) = (0, Instant::now());
            }
        }
    }

    async fn report(
        &mut self,
        rows: u64,
        elapsed: Duration,
        reached: BTreeMap<(Topic, Partition), Place>,
    ) -> Result<(), Fault> {
        self.reporter.fact("records_per_second", (rows as f64 / elapsed.as_secs_f64()).round());
        let mut lag = 0;
        for ((topic, partition), place) in reached {
            lag += self.log.range(topic, partition).await?.end.offset.saturating_sub(place.offset);
        }
        lag += self.buffer.deliveries.len() as u64;
        self.reporter.fact("lag_records", lag);
        self.reporter.fact("bootstrapping", self.state.bootstrap.is_some());
        self.report_replay();
        Ok(())
    }

    /// How long a poll may wait: until the buffer is due, or a reconcile, or the next look around.
    fn wait(&self, reconciled: Instant) -> Duration {
        let mut wait = IDLE_WAIT;
        if let Some(oldest) = self.buffer.oldest {
            wait = wait.min(self.flush.age.saturating_sub(oldest.elapsed()));
        }
        if let Some(every) = self.reconcile_every {
            wait = wait.min(every.saturating_sub(reconciled.elapsed()));
        }
        wait
    }

    fn is_due(&self) -> bool {
        self.buffer.deliveries.len() >= self.flush.rows
            || self.buffer.bytes >= self.flush.bytes
            || self.buffer.oldest.is_some_and(|oldest| oldest.elapsed() >= self.flush.age)
    }

    /// Whether the compacted topics have been read to where they stood when the bootstrap began.
    fn has_bootstrapped(&self, consumer: &dyn Consumer) -> bool {
        let Some(bootstrap) = &self.state.bootstrap else { return false };
        let ends =
            bootstrap.ends.iter().map(|(topic, partition, end)| ((*topic, *partition), *end)).collect();
        has_reached(consumer, &ends)
    }

    /// From the compacted topics to the live ones.
    async fn go_live(&mut self) -> Result<(), Fault> {
        self.write().await?;
        self.sink.rebuilt().await?;
        let Some(bootstrap) = self.state.bootstrap.take() else { return Ok(()) };
        self.reads.retain(|(topic, _), _| *topic != Topic::Memberships);
        for (partition, place) in (0..self.log.partitions()).map(Partition).zip(bootstrap.live) {
            self.reads.insert((Topic::MembershipChanges, partition), place);
        }
        self.commit(Vec::new()).await?;
        self.reporter.fact("bootstrapping", false);
        info!(sink = self.name, "live");
        Ok(())
    }

    async fn take(&mut self, fetched: Fetched) -> Result<(), Fault> {
        let (place, topic, partition) = (fetched.place, fetched.record.topic, fetched.record.partition);
        let at = (topic, partition);
        let next = Place { offset: place.offset + 1, ..place };
        let bytes = fetched.record.key.len() + fetched.record.value.as_ref().map_or(0, Vec::len);
        match receive(&self.name, &fetched) {
            Received::Check(passed) => {
                let is_past = self.state.replay.as_ref().is_some_and(|replay| replay.covers(at, place))
                    || self.state.brought.get(&partition).is_some_and(|seq| passed.seq <= *seq);
                if !is_past {
                    return self.check(at, next, passed).await;
                }
                // Not answered, but read: that is to be known, too.
            }
            Received::Record(record) => {
                if let OutRecord::Membership(set) = &record {
                    let seq = self.state.brought.entry(partition).or_default();
                    *seq = set.seq.max(*seq);
                }
                self.buffer.bytes += bytes;
                self.buffer.deliveries.push(Delivery { topic, partition, place, record });
            }
            Received::Removed => self.buffer.bytes += bytes,
            Received::Bad(record) => {
                self.buffer.bytes += bytes;
                self.buffer.unreadable.push(*record);
            }
        }
        self.buffer.oldest.get_or_insert_with(Instant::now);
        self.reads.insert(at, next);
        if self.is_due() {
            self.write().await?;
        }
        Ok(())
    }

    /// Everything before the check is written, nothing after it: the answer stands at one cut.
    async fn check(&mut self, at: (Topic, Partition), next: Place, passed: CheckPassed) -> Result<(), Fault> {
        self.write().await?;
        let request = CheckRequest { id: passed.id, partition: at.1, scope: passed.scope };
        let mut report = self.sink.check(&request).await?;
        report.id.clone_from(&request.id);
        report.store.clone_from(&self.name);
        report.partition = at.1;
        self.reads.insert(at, next);
        let key = format!("{}/{}/{}", report.id, report.store, report.partition);
        let value = serde_json::to_vec(&report).map_err(not_json)?;
        let record = Record {
            topic: Topic::Checks,
            partition: Partition(0),
            key: key.into_bytes(),
            value: Some(value),
            headers: Vec::new(),
        };
        self.commit(vec![record]).await
    }

    /// Writes the buffer; what the sink won't take goes to quarantine in the commit that moves on.
    pub(crate) async fn write(&mut self) -> Result<(), Fault> {
        if self.buffer.oldest.is_none() {
            return Ok(());
        }
        let started = Instant::now();
        let mut quarantined = std::mem::take(&mut self.buffer.unreadable);
        if !self.buffer.deliveries.is_empty() {
            let written = self.sink.write(&self.buffer.deliveries).await?;
            crash::here("sink-written");
            metrics::counter!("rollcall_sink_rows_total", "sink" => self.name.clone())
                .increment(written.rows);
            // What comes from a lake stands there, not in the log.
            let reading = self.state.bootstrap.as_ref().and_then(|bootstrap| bootstrap.reading.as_ref());
            let by = reading.map(|reading| format!("{}@{}", self.name, reading.archive));
            for row in written.rejected {
                let Some(delivery) = self.buffer.deliveries.get(row.index) else { continue };
                quarantined.push(rejected(by.as_deref().unwrap_or(&self.name), delivery, row.reason)?);
            }
        }
        metrics::histogram!("rollcall_sink_write_seconds", "sink" => self.name.clone())
            .record(started.elapsed().as_secs_f64());
        self.buffer.deliveries.clear();
        self.buffer.bytes = 0;
        self.buffer.oldest = None;
        self.commit(to_quarantine(&self.name, quarantined)?).await
    }

    pub(crate) async fn commit(&mut self, records: Vec<Record>) -> Result<(), Fault> {
        let progress = self.state.progress(&self.reads)?;
        self.producer.commit(Commit { records, progress: Some(progress) }).await.map(|_| ())
    }
}

pub(crate) fn to_json(state: &SinkState) -> Result<serde_json::Value, Fault> {
    serde_json::to_value(state).map_err(not_json)
}

pub(crate) fn read_state(state: serde_json::Value) -> Result<SinkState, Fault> {
    serde_json::from_value(state).map_err(|e| {
        Fault::refused("a sink's progress can't be read").from_source(e).repair("rollcall rebuild SINK")
    })
}
