//! One roster partition at work: `identity-changes` → [`Roster`] → one commit → store.
//!
//! A commit takes as many inputs as are there, up to a bound, so that a busy partition pays one sync for many
//! changes and an idle one answers at once. Fills take their turn between inputs. Judging and the store keep a thread
//! busy for as long as a commit's inputs take: they say so (`block_in_place`), and HTTP answers meanwhile.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rollcall_model::control::CONTROL_KEY;
use rollcall_model::log::PollLimit;
use rollcall_model::{
    Commit, Fault, Fetched, IdentityKey, Input, Log, Partition, Place, Producer, Progress, QuarantineRecord,
    Topic,
};
use rollcall_roster::{Catalog, Output, Roster, RosterState, Turn};
use tokio::sync::watch;
use tokio::task::block_in_place;
use tracing::info;

use crate::archives::Archives;
use crate::crash;
use crate::foreign::foreign_record;
use crate::read_to_end::read_all;
use crate::roster_store::{PartitionStore, RosterStores};
use crate::store_rebuild::Rebuilding;
use crate::tasks::Reporter;

/// Inputs of one commit.
const INPUTS_MAX: usize = 2_000;
const INPUT_BYTES_MAX: usize = 8 << 20;
/// How long an idle partition waits for input.
const IDLE_WAIT: Duration = Duration::from_secs(1);

/// What a roster task needs.
#[derive(Clone)]
pub(crate) struct RosterTask {
    pub(crate) log: Arc<dyn Log>,
    pub(crate) stores: RosterStores,
    pub(crate) partition: Partition,
    pub(crate) catalog: watch::Receiver<Arc<Catalog>>,
    pub(crate) tombstone_retention: Duration,
    pub(crate) archives: Archives,
}

struct Running<'t> {
    task: &'t RosterTask,
    producer: Box<dyn Producer>,
    roster: Roster,
    store: PartitionStore,
    next: Place,
    catalog: watch::Receiver<Arc<Catalog>>,
    reporter: Reporter,
}

/// The name of a roster partition's task.
pub(crate) fn name(partition: Partition) -> String {
    format!("roster/{partition}")
}

impl RosterTask {
    pub(crate) async fn run(self, reporter: Reporter) -> Result<(), Fault> {
        let at = (Topic::IdentityChanges, self.partition);
        let mut opened = self.log.open(&name(self.partition)).await?;
        let (state, next) = match opened.progress {
            Some(progress) => {
                let state: RosterState = serde_json::from_value(progress.state).map_err(|e| {
                    Fault::refused(format!(
                        "the progress of roster partition {} can't be read",
                        self.partition
                    ))
                    .from_source(e)
                    .repair("run the version of rollcall that wrote the log")
                })?;
                (state, progress.reads.get(&at).copied())
            }
            None => (RosterState::default(), None),
        };
        let next = match next {
            Some(next) => next,
            None => {
                let start = self.log.range(at.0, at.1).await?.start;
                hold(&mut *opened.producer, at, start, &state).await?;
                start
            }
        };
        let with = Rebuilding {
            log: &*self.log,
            archives: &self.archives,
            seq: state.seq,
            tombstone_retention: self.tombstone_retention,
        };
        let shown = |rebuild| reporter.fact("rebuild", rebuild);
        self.stores.rebuild_if_ordered(self.partition, &with, shown).await?;
        let (store, restored) = PartitionStore::open(
            self.stores.clone(),
            &self.log,
            self.partition,
            state.seq,
            self.tombstone_retention,
            |records| reporter.fact("restored_records", records),
        )
        .await?;
        if restored > 0 {
            info!(partition = self.partition.0, records = restored, "store caught up with its topics");
        }
        let retention_us = i64::try_from(self.tombstone_retention.as_micros()).unwrap_or(i64::MAX);
        let mut roster =
            Roster::new(self.log.id().clone(), self.partition, state, store.counts()?, retention_us);
        let mut catalog = self.catalog.clone();
        // The channel begins with an empty catalog: judged by that, everybody would leave.
        if catalog.changed().await.is_err() {
            return Err(Fault::retry("the catalog feed ended"));
        }
        roster.set_catalog(Arc::clone(&catalog.borrow_and_update()));
        let mut running =
            Running { task: &self, producer: opened.producer, roster, store, next, catalog, reporter };
        running.reporter.running();
        running.serve().await
    }
}

/// A partition that has committed nothing yet says where it stands, so that retention keeps what it has not read.
async fn hold(
    producer: &mut dyn Producer,
    at: (Topic, Partition),
    start: Place,
    state: &RosterState,
) -> Result<(), Fault> {
    let progress = Progress { reads: BTreeMap::from([(at, start)]), state: state_json(state)? };
    producer.commit(Commit { records: Vec::new(), progress: Some(progress) }).await.map(|_| ())
}

fn state_json(state: &RosterState) -> Result<serde_json::Value, Fault> {
    serde_json::to_value(state)
        .map_err(|e| Fault::bug("the roster's state can't be written as JSON").from_source(e))
}

impl Running<'_> {
    async fn serve(&mut self) -> Result<(), Fault> {
        let at = (Topic::IdentityChanges, self.task.partition);
        let mut consumer = self.task.log.consumer(BTreeMap::from([(at, self.next)])).await?;
        let mut applied: u64 = 0;
        let mut since = Instant::now();
        loop {
            let wait = if self.roster.is_filling() { Duration::ZERO } else { IDLE_WAIT };
            let limit = PollLimit { records_max: INPUTS_MAX, bytes_max: INPUT_BYTES_MAX, wait };
            let fetched = consumer.poll(limit).await?;
            applied += fetched.len() as u64;
            self.take_catalog();
            self.apply_all(&fetched).await?;
            if self.roster.is_filling() {
                self.fill().await?;
            }
            if since.elapsed() >= IDLE_WAIT {
                let rate = applied as f64 / since.elapsed().as_secs_f64();
                self.reporter.fact("records_per_second", rate.round());
                let reached = consumer.reached().get(&at).map_or(0, |place| place.offset);
                let range = self.task.log.range(at.0, at.1).await?;
                self.report(range.end.offset.saturating_sub(reached));
                (applied, since) = (0, Instant::now());
            }
        }
    }

    fn report(&self, lag_records: u64) {
        let state = self.roster.state();
        self.reporter.fact("lag_records", lag_records);
        self.reporter.fact("seq", state.seq.0);
        self.reporter.fact("fills", state.fills.jobs.len());
        self.reporter.fact("suspended", state.suspended.keys().map(ToString::to_string).collect::<Vec<_>>());
        self.reporter.fact("loaded", state.loaded.iter().map(ToString::to_string).collect::<Vec<_>>());
    }

    fn take_catalog(&mut self) {
        if self.catalog.has_changed().unwrap_or(false) {
            let catalog = Arc::clone(&self.catalog.borrow_and_update());
            self.roster.set_catalog(catalog);
        }
    }

    /// Applies inputs and commits; an input that needs something first is handed in again.
    async fn apply_all(&mut self, fetched: &[Fetched]) -> Result<(), Fault> {
        let mut at = 0;
        while at < fetched.len() {
            let (output, need) = block_in_place(|| self.apply_some(fetched, &mut at))?;
            let reached = match at.checked_sub(1).and_then(|last| fetched.get(last)) {
                Some(last) => Place { offset: last.place.offset + 1, ..last.place },
                None => self.next,
            };
            self.commit(output, reached).await?;
            match need {
                None => {}
                Some(Need::Catalog(writer, number)) => {
                    let there = |catalog: &Arc<Catalog>| catalog.number(&writer) >= number;
                    let ended = self.catalog.wait_for(there).await.is_err();
                    if ended {
                        return Err(Fault::retry("the catalog feed ended"));
                    }
                    let catalog = Arc::clone(&self.catalog.borrow_and_update());
                    self.roster.set_catalog(catalog);
                }
                Some(Need::Quarantine(place, key)) => {
                    let records = self.quarantined(&key).await?;
                    let output = block_in_place(|| self.replay(place, &key, &records))?;
                    at += 1;
                    self.commit(output, Place { offset: place.offset + 1, ..place }).await?;
                }
            }
        }
        Ok(())
    }

    /// One turn: from `at` on, as far as it goes without a commit.
    fn apply_some(&mut self, fetched: &[Fetched], at: &mut usize) -> Result<(Output, Option<Need>), Fault> {
        let mut session = self.roster.session(&self.store);
        let mut need = None;
        while let Some(next) = fetched.get(*at) {
            if next.foreign {
                session.set_aside(foreign_record("roster".to_owned(), next));
                *at += 1;
                continue;
            }
            match session.apply(next.place, &read_input(next)?)? {
                Turn::Done => *at += 1,
                Turn::Unfinished => break,
                Turn::NeedsCatalog { writer, number } => {
                    need = Some(Need::Catalog(writer, number));
                    break;
                }
                Turn::NeedsQuarantine { key } => {
                    need = Some(Need::Quarantine(next.place, key));
                    break;
                }
            }
        }
        Ok((session.finish(), need))
    }

    fn replay(
        &mut self,
        place: Place,
        key: &IdentityKey,
        records: &[QuarantineRecord],
    ) -> Result<Output, Fault> {
        let mut session = self.roster.session(&self.store);
        session.replay(place, key, records)?;
        Ok(session.finish())
    }

    async fn fill(&mut self) -> Result<(), Fault> {
        let output = block_in_place(|| self.fill_some())?;
        self.commit(output, self.next).await
    }

    fn fill_some(&mut self) -> Result<Output, Fault> {
        let mut session = self.roster.session(&self.store);
        session.fill_some()?;
        Ok(session.finish())
    }

    /// Durable first, then the store.
    async fn commit(&mut self, output: Output, reached: Place) -> Result<(), Fault> {
        let state = state_json(self.roster.state())?;
        let reads = BTreeMap::from([((Topic::IdentityChanges, self.task.partition), reached)]);
        let commit =
            output.to_commit(self.task.partition, self.task.log.partitions(), Progress { reads, state })?;
        metrics::counter!("rollcall_roster_commits_total").increment(1);
        metrics::counter!("rollcall_roster_membership_changes_total").increment(output.changes.len() as u64);
        metrics::counter!("rollcall_quarantined_total", "origin" => "roster")
            .increment(output.quarantined.len() as u64);
        metrics::counter!("rollcall_unowned_changes_total").increment(output.unowned);
        crash::here("roster-decided");
        let committed = self.producer.commit(commit).await?;
        crash::here("roster-committed");
        self.next = reached;
        block_in_place(|| self.store.write(output, &committed))?;
        crash::here("roster-stored");
        Ok(())
    }

    /// Everything of an identity that waits in quarantine.
    async fn quarantined(&mut self, key: &IdentityKey) -> Result<Vec<QuarantineRecord>, Fault> {
        let at = (Topic::Quarantine, self.task.partition);
        let records = read_all(&self.task.log, at.0, [at.1]).await?;
        let prefix = format!("{key}/");
        let own = records.into_iter().filter(|f| f.record.key.starts_with(prefix.as_bytes()));
        let mut newest: BTreeMap<Vec<u8>, QuarantineRecord> = BTreeMap::new();
        for fetched in own {
            match &fetched.record.value {
                Some(value) => {
                    let record = serde_json::from_slice(value).map_err(|e| {
                        Fault::bad_record(format!("quarantine of {key} can't be read")).from_source(e)
                    })?;
                    newest.insert(fetched.record.key, record);
                }
                None => drop(newest.remove(&fetched.record.key)),
            }
        }
        Ok(newest.into_values().collect())
    }
}

enum Need {
    Catalog(rollcall_model::SourceName, u64),
    Quarantine(Place, IdentityKey),
}

fn read_input(fetched: &Fetched) -> Result<Input, Fault> {
    let value = fetched.record.value.as_deref().unwrap_or_default();
    serde_json::from_slice(value).map_err(|e| {
        let kind =
            if fetched.record.key.starts_with(CONTROL_KEY.as_bytes()) { "control record" } else { "change" };
        Fault::refused(format!(
            "a {kind} of identity-changes/{} at offset {} can't be read",
            fetched.record.partition, fetched.place.offset
        ))
        .from_source(e)
        .repair("run the version of rollcall that wrote it")
    })
}
