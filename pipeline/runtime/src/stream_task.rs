//! The owner of a stream in shards: it begins the stream, runs backfills beside it, and says how far all have come.
//!
//! ```text
//! progress of the readers ─every 200 ms─▶ read_through ─▶ watermark
//!                                             │
//! ItemPages.next ─▶ held until read_through ≥ until_us ─▶ ItemIntake ─▶ Commit { changes, StreamState }
//! ```
//!
//! A page waits for the stream, so that nothing goes back to what it was before; that it may enter at all follows from
//! times alone, which the roster compares (PROTOCOL.md §4, Backfill beside the stream).

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rollcall_model::shards::{ItemOrigin, ItemPages, Stream};
use rollcall_model::{Commit, Fault, FaultKind, ItemPage, Log, Producer};
use tokio::sync::{mpsc, oneshot};
use tokio::time::MissedTickBehavior;
use tracing::{info, warn};

use crate::crash;
use crate::item_intake::ItemIntake;
use crate::reader_task::{look_up, progress_of, read_state};
use crate::source_task::{BackfillWanted, Commands, SourceCommand, name};
use crate::stream::{BackfillState, ItemBackfill, Needs, StreamState, read_through};
use crate::tasks::Reporter;
use crate::wiring::ItemSourceWiring;

/// Records of one commit, about.
const COMMIT_RECORDS_MAX: usize = 8_000;
/// How often the readers' progress is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(if cfg!(test) { 10 } else { 200 });
/// Pages that wait for the stream: as much as a busy backfill reads while it comes after.
const HELD_BYTES_MAX: u64 = 64 << 20;
const HELD_PAGES_MAX: usize = 1_024;
/// A backfill that met passing trouble is opened again after this.
const AGAIN_AFTER: Duration = Duration::from_millis(if cfg!(test) { 20 } else { 2_000 });

#[derive(Clone)]
pub(crate) struct StreamTask {
    pub(crate) log: Arc<dyn Log>,
    pub(crate) wiring: Arc<ItemSourceWiring>,
    pub(crate) commands: Commands,
}

/// The number of readers is part of what the stream began with: shards fall to readers by it.
pub(crate) fn same_readers(wiring: &ItemSourceWiring, stream: &Stream) -> Result<(), Fault> {
    if wiring.readers == stream.readers {
        return Ok(());
    }
    Err(Fault::config(format!(
        "sources.{0}.readers is {1}, but {2} share the stream since it began: which shard is whose follows from that",
        wiring.name, wiring.readers, stream.readers
    ))
    .repair(format!("set sources.{}.readers to {}", wiring.name, stream.readers)))
}

/// The owner at work.
struct Owning {
    task: StreamTask,
    producer: Box<dyn Producer>,
    intake: ItemIntake,
    state: StreamState,
    pages: Option<Box<dyn ItemPages>>,
    /// When a backfill that met trouble is opened again.
    again: Option<Instant>,
    held: VecDeque<ItemPage>,
    held_bytes: u64,
    items: u64,
    reported: Instant,
}

impl StreamTask {
    pub(crate) async fn run(self, reporter: Reporter) -> Result<(), Fault> {
        let wiring = Arc::clone(&self.wiring);
        let source = wiring.name.as_str();
        let opened = self.log.open(&name(source)).await?;
        let state: StreamState =
            opened.progress.map_or(Ok(StreamState::default()), |p| read_state(source, p))?;
        let intake = ItemIntake::new(wiring.name.clone(), self.log.partitions(), wiring.platform);
        let commands = Arc::clone(&self.commands);
        let mut owning = Owning {
            task: self,
            producer: opened.producer,
            intake,
            state,
            pages: None,
            again: None,
            held: VecDeque::new(),
            held_bytes: 0,
            items: 0,
            reported: Instant::now(),
        };
        match &owning.state.stream {
            Some(stream) => same_readers(&wiring, stream)?,
            None => owning.begin().await?,
        }
        owning.open().await?;
        reporter.running();
        owning.report(&reporter);
        let mut commands = commands.lock().await;
        owning.serve(&mut commands, &reporter).await
    }
}

impl Owning {
    /// The stream begins, and with it the first load: what is written from here on is streamed, what was written before is
    /// found.
    async fn begin(&mut self) -> Result<(), Fault> {
        let wiring = Arc::clone(&self.task.wiring);
        let stream = (wiring.begin)().await?;
        self.state.stream = Some(Stream { epoch: 1, ..stream });
        self.state.needs = Needs::FirstLoad;
        if wiring.loads_by_itself {
            let id = self.state.next_backfill(wiring.name.as_str());
            self.intake.begin(&id, true)?;
            self.state.begin_backfill(id, ItemOrigin::Scan { environment_key: None }, None);
        }
        self.commit().await
    }

    fn slack_us(&self) -> i64 {
        i64::try_from(self.task.wiring.clock_slack_ms.saturating_mul(1_000)).unwrap_or(i64::MAX)
    }

    /// Opens the backfill that goes on, if there is one.
    async fn open(&mut self) -> Result<(), Fault> {
        (self.pages, self.again) = (None, None);
        self.held.clear();
        self.held_bytes = 0;
        let Some(backfill) = self.state.running() else { return Ok(()) };
        let origin = backfill.plan.origin.clone();
        let opened = (self.task.wiring.start_backfill)(backfill.plan.clone()).await;
        let checked = opened.and_then(|pages| {
            self.state.check(&origin, pages.coverage(), self.slack_us())?;
            Ok(pages)
        });
        match checked {
            Ok(pages) => {
                if let Some(backfill) = &mut self.state.backfill {
                    backfill.coverage = Some(pages.coverage());
                }
                self.pages = Some(pages);
                Ok(())
            }
            Err(fault) => self.stumble(fault).await,
        }
    }

    /// A backfill that can't go on stops, and says why; the stream goes on.
    async fn stumble(&mut self, fault: Fault) -> Result<(), Fault> {
        self.pages = None;
        if fault.kind == FaultKind::Retry {
            warn!("the backfill waits: {fault}");
            self.again = Some(Instant::now() + AGAIN_AFTER);
            return Ok(());
        }
        tracing::error!("the backfill stopped: {fault}");
        let (error, repair) = (fault.message(), fault.repair.clone());
        if let Some(backfill) = &mut self.state.backfill {
            backfill.state = BackfillState::Failed { error, repair };
        }
        self.held.clear();
        self.held_bytes = 0;
        self.commit().await
    }

    async fn serve(
        &mut self,
        commands: &mut mpsc::Receiver<SourceCommand>,
        reporter: &Reporter,
    ) -> Result<(), Fault> {
        let mut look = tokio::time::interval(LOOK_EVERY);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let has_room = self.held_bytes < HELD_BYTES_MAX && self.held.len() < HELD_PAGES_MAX;
            tokio::select! {
                biased;
                Some(command) = commands.recv() => {
                    self.obey(command).await?;
                    self.report(reporter);
                }
                _ = look.tick() => {
                    if self.again.is_some_and(|again| again <= Instant::now()) {
                        self.open().await?;
                    }
                    self.look().await?;
                    self.report(reporter);
                }
                page = next_page(&mut self.pages), if has_room => match page {
                    Ok(page) => {
                        self.held_bytes += page.bytes;
                        self.held.push_back(page);
                    }
                    Err(fault) => self.stumble(fault).await?,
                },
            }
        }
    }

    /// Sees how far the readers have come, says so, and lets pages in that waited for it.
    async fn look(&mut self) -> Result<(), Fault> {
        let Some(stream) = self.state.stream.clone() else { return Ok(()) };
        let known = look_up(&self.task.log, self.task.wiring.name.as_str()).await?;
        let Some(through_us) = read_through(&stream, &known.readers) else { return Ok(()) };
        let moved = through_us > self.state.at_us;
        self.state.at_us = self.state.at_us.max(through_us);
        let ended = self.state.backfill_done.clone();
        while self.held.front().is_some_and(|page| page.until_us <= through_us) {
            self.enter()?;
            if self.intake.pending() >= COMMIT_RECORDS_MAX {
                self.commit().await?;
            }
        }
        if moved {
            self.intake.watermark(self.state.at_us, format!("{}@{}", stream.name, stream.epoch))?;
        }
        if self.intake.pending() > 0 {
            self.commit().await?;
        }
        if self.state.backfill_done != ended {
            self.pages = None;
        }
        Ok(())
    }

    /// The next page becomes records.
    fn enter(&mut self) -> Result<(), Fault> {
        let Some(page) = self.held.pop_front() else { return Ok(()) };
        self.held_bytes = self.held_bytes.saturating_sub(page.bytes);
        let Some(backfill) = &self.state.backfill else { return Ok(()) };
        let id = backfill.plan.id.clone();
        let coverage = backfill.coverage.ok_or_else(|| Fault::bug("a page came before what it covers"))?;
        let (items, done) = (page.items.len() as u64, page.done);
        self.state.paged(items, &page);
        self.intake.page(&id, page, coverage)?;
        self.items += items;
        if done {
            info!(backfill = id.0, "backfill done");
            (self.state.backfill, self.state.backfill_done) = (None, Some(id));
            self.state.needs = Needs::Nothing;
        }
        Ok(())
    }

    async fn commit(&mut self) -> Result<(), Fault> {
        crash::here("source-decided");
        let records = self.intake.drain();
        let progress = Some(progress_of(&self.state)?);
        self.producer.commit(Commit { records, progress }).await?;
        crash::here("source-committed");
        Ok(())
    }

    async fn obey(&mut self, command: SourceCommand) -> Result<(), Fault> {
        if command.is_given_up() {
            return Ok(());
        }
        let (answer, said) = match command {
            SourceCommand::Backfill(wanted, answer) => (answer, self.backfill(wanted).await),
            SourceCommand::PauseBackfill(pause, answer) => (answer, self.pause(pause).await),
        };
        answer_with(answer, said)
    }

    /// Starts a backfill that an operator wants; what can't be is a fault for them, not for the task.
    async fn backfill(&mut self, wanted: BackfillWanted) -> Result<String, Fault> {
        // A repair takes the place of what is under way: its pages wait for a stream that has lost something again.
        let holds = |b: &&ItemBackfill| !wanted.repair && !matches!(b.state, BackfillState::Failed { .. });
        if let Some(running) = self.state.backfill.as_ref().filter(holds) {
            return Err(Fault::refused(format!("backfill {} is still under way", running.plan.id.0)));
        }
        let wiring = Arc::clone(&self.task.wiring);
        let mut next = self.state.clone();
        if wanted.repair {
            let old = next.stream.clone().ok_or_else(|| Fault::retry("the stream has not begun yet"))?;
            let known = look_up(&self.task.log, wiring.name.as_str()).await?;
            let (stream, from_us) = (wiring.accept_loss)(old, known.readers).await?;
            next.accept_loss(stream, from_us);
        }
        let id = next.next_backfill(wiring.name.as_str());
        let origin = match wanted.from {
            Some(location) => ItemOrigin::Export { location },
            None => ItemOrigin::Scan { environment_key: wanted.environment },
        };
        next.begin_backfill(id.clone(), origin, None);
        let plan = next.backfill.as_ref().map(|b| b.plan.clone()).ok_or_else(|| Fault::bug("no plan"))?;
        let origin = plan.origin.clone();
        let pages = (wiring.start_backfill)(plan).await?;
        next.check(&origin, pages.coverage(), self.slack_us())?;
        if let Some(backfill) = &mut next.backfill {
            backfill.coverage = Some(pages.coverage());
        }
        let missing = next.needs != Needs::Nothing;
        self.intake.begin(&id, missing)?;
        (self.state, self.pages, self.again) = (next, Some(pages), None);
        self.held.clear();
        self.held_bytes = 0;
        self.commit().await?;
        info!(backfill = id.0, "backfill started");
        Ok(id.0)
    }

    async fn pause(&mut self, pause: bool) -> Result<String, Fault> {
        let Some(backfill) = &mut self.state.backfill else {
            return Err(Fault::refused("no backfill is under way"));
        };
        let id = backfill.plan.id.0.clone();
        backfill.state = if pause { BackfillState::Paused } else { BackfillState::Running };
        self.commit().await?;
        self.open().await?;
        Ok(id)
    }

    fn report(&mut self, reporter: &Reporter) {
        for (name, value) in self.state.facts() {
            reporter.fact(name, value);
        }
        reporter.fact("pages_held", self.held.len());
        if self.reported.elapsed() >= Duration::from_secs(1) {
            let rate = self.items as f64 / self.reported.elapsed().as_secs_f64();
            (self.items, self.reported) = (0, Instant::now());
            reporter.fact("records_per_second", rate.round());
        }
    }
}

async fn next_page(pages: &mut Option<Box<dyn ItemPages>>) -> Result<ItemPage, Fault> {
    match pages {
        Some(pages) => pages.next().await,
        None => std::future::pending().await,
    }
}

/// Tells who asked. What the log refuses ends the task; what the operator's wish met is theirs alone.
fn answer_with(
    answer: oneshot::Sender<Result<String, Fault>>,
    said: Result<String, Fault>,
) -> Result<(), Fault> {
    let log_failed =
        said.as_ref().err().filter(|fault| matches!(fault.kind, FaultKind::Fenced | FaultKind::Bug));
    let ends = log_failed.map(|fault| Fault::new(fault.kind, fault.message()));
    // Who asked may have gone; the answer is then nobody's.
    drop(answer.send(said));
    ends.map_or(Ok(()), Err)
}
