//! A source at work: rows → platform → one commit of the log → upstream may forget.
//!
//! ```text
//! Source.next ─▶ SourceEvent ─▶ Intake (platform, catalog number, backfill) ─▶ Commit ─▶ producer
//!      ▲                                                                          │
//!      └────────────────────────── Source.release(Saved) ◀────────────────────────┘
//! ```
//!
//! One commit holds catalog documents and rows first, then control records, then changes, and the position
//! (PROTOCOL.md §3). Events that are there already share a commit; nothing waits for more.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::FutureExt;
use rollcall_model::catalog::CatalogEntry;
use rollcall_model::{
    CatalogDoc, Commit, Fault, Log, Partition, Producer, Progress, Saved, Source, SourceEvent, Topic,
};
use rollcall_platforms::Platform;
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;
use tracing::info;

use crate::crash;
use crate::intake::{Intake, SourceState};
use crate::read_to_end::read_all;
use crate::tasks::Reporter;
use crate::wiring::SourceWiring;

/// Records of one commit, about: enough to share a sync, little enough to stay prompt.
const COMMIT_RECORDS_MAX: usize = 8_000;
/// Watermarks go out at most this often while changes flow.
const WATERMARK_EVERY: Duration = Duration::from_millis(50);

/// What an operator asks of a source.
#[derive(Debug)]
pub(crate) enum SourceCommand {
    /// Start a backfill; answers its id.
    Backfill(BackfillWanted, Answer),
    /// Pause or go on with the backfill under way.
    PauseBackfill(bool, Answer),
}

/// How who asked is told.
pub(crate) type Answer = tokio::sync::oneshot::Sender<Result<String, Fault>>;

/// Which backfill an operator wants.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub(crate) struct BackfillWanted {
    /// An export to read, instead of the source itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) from: Option<String>,
    /// Only one environment, by its api key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) environment: Option<String>,
    /// Records that are lost are accepted as lost, and this backfill brings what they said.
    #[serde(default)]
    pub(crate) repair: bool,
}

impl SourceCommand {
    /// Whether nobody waits for the answer any more.
    pub(crate) fn is_given_up(&self) -> bool {
        match self {
            Self::Backfill(_, answer) | Self::PauseBackfill(_, answer) => answer.is_closed(),
        }
    }
}

/// Commands outlive a restart of the task.
pub(crate) type Commands = Arc<tokio::sync::Mutex<mpsc::Receiver<SourceCommand>>>;

#[derive(Clone)]
pub(crate) struct SourceTask {
    pub(crate) log: Arc<dyn Log>,
    pub(crate) wiring: Arc<SourceWiring>,
    pub(crate) commands: Commands,
}

/// The name of a source's task.
pub(crate) fn name(source: &str) -> String {
    format!("source/{source}")
}

impl SourceTask {
    /// Lets a source that can't go on where it stood begin anew: it forgets its position, and a whole backfill brings
    /// everything up to the truth. For a source that does not run.
    ///
    /// # Errors
    /// A [`Fault`] of the log.
    pub(crate) async fn begin_anew(log: &Arc<dyn Log>, source: &str) -> Result<String, Fault> {
        let mut opened = log.open(&name(source)).await?;
        let mut state =
            opened.progress.map_or(Ok(SourceState::default()), |p| read_state(source, p.state))?;
        state.position = None;
        state.backfill = None;
        let id = state.next_backfill(source);
        let progress = Progress { reads: BTreeMap::new(), state: to_json(&state)? };
        opened.producer.commit(Commit { records: Vec::new(), progress: Some(progress) }).await?;
        Ok(id)
    }

    pub(crate) async fn run(self, reporter: Reporter) -> Result<(), Fault> {
        let source_name = self.wiring.name.clone();
        let opened = self.log.open(&name(source_name.as_str())).await?;
        let state = match opened.progress {
            Some(progress) => read_state(source_name.as_str(), progress.state)?,
            None => SourceState::default(),
        };
        let fresh = state.position.is_none() && state.backfill.is_none();
        let mut platform = self.platform().await?;
        let differs = platform.catch_up(&self.emitted().await?);
        let mut intake = Intake::new(source_name, self.log.partitions(), platform, state);
        let mut producer = opened.producer;
        if !differs.is_empty() {
            info!(
                documents = differs.docs.len(),
                "the kept rows say something else by this topology or version"
            );
            intake.catch_up(differs)?;
            commit(&mut *producer, &mut intake).await?;
        }
        if fresh {
            // The first backfill begins before the first change, so that patches of identities not yet read wait.
            intake.begin_backfill(true)?;
            commit(&mut *producer, &mut intake).await?;
        }
        let (position, plan) = (intake.state().position.clone(), intake.plan());
        let mut source = (self.wiring.start)(position, plan).await?;
        reporter.running();
        report(&*source, &intake, &reporter);
        let mut commands = self.commands.lock().await;
        serve(&mut *source, &mut *producer, &mut intake, &mut commands, &reporter).await
    }

    /// The documents that this source has on `catalog`.
    async fn emitted(&self) -> Result<Vec<CatalogDoc>, Fault> {
        let mut newest: BTreeMap<Vec<u8>, Option<Vec<u8>>> = BTreeMap::new();
        for fetched in read_all(&self.log, Topic::Catalog, [Partition(0)]).await? {
            newest.insert(fetched.record.key, fetched.record.value);
        }
        let mut docs = Vec::new();
        for value in newest.into_values().flatten() {
            let entry: CatalogEntry = serde_json::from_slice(&value).map_err(|e| {
                Fault::refused("a document of the catalog can't be read")
                    .from_source(e)
                    .repair("run the version of rollcall that wrote the log")
            })?;
            if entry.writer == self.wiring.name {
                docs.push(entry.doc);
            }
        }
        Ok(docs)
    }

    /// The platform with the rows it has kept.
    async fn platform(&self) -> Result<Platform, Fault> {
        let wiring = &self.wiring;
        let platform = Platform::by_name(wiring.platform, wiring.name.clone(), wiring.edge.clone());
        let mut platform = platform.ok_or_else(|| {
            Fault::config(format!(
                "platform '{}' is not one of {}",
                wiring.platform,
                Platform::NAMES.join(", ")
            ))
        })?;
        let prefix = format!("{}/", wiring.name);
        let mut newest: BTreeMap<String, Option<Vec<u8>>> = BTreeMap::new();
        for fetched in read_all(&self.log, Topic::CatalogRows, [Partition(0)]).await? {
            let key = String::from_utf8_lossy(&fetched.record.key).into_owned();
            if let Some(rest) = key.strip_prefix(&prefix) {
                newest.insert(rest.to_owned(), fetched.record.value);
            }
        }
        for (key, value) in newest {
            let (Some(value), Some((table, id))) = (value, key.split_once('/')) else { continue };
            let row = serde_json::from_slice(&value).map_err(|e| {
                Fault::refused(format!("the catalog row '{key}' can't be read"))
                    .from_source(e)
                    .repair("run the version of rollcall that wrote the log")
            })?;
            platform.restore(table, id, row);
        }
        Ok(platform)
    }
}

async fn serve(
    source: &mut dyn Source,
    producer: &mut dyn Producer,
    intake: &mut Intake,
    commands: &mut mpsc::Receiver<SourceCommand>,
    reporter: &Reporter,
) -> Result<(), Fault> {
    let mut watermark_at = Instant::now();
    let mut reported = Instant::now();
    let mut changes: u64 = 0;
    loop {
        let event = tokio::select! {
            biased;
            Some(command) = commands.recv() => {
                obey(command, source, producer, intake).await?;
                report(source, intake, reporter);
                continue;
            }
            event = source.next() => event?,
        };
        let loading = intake.state().backfill.is_some();
        let idle = matches!(event, SourceEvent::Idle { .. });
        intake.take(event)?;
        while intake.pending() < COMMIT_RECORDS_MAX {
            let Some(more) = source.next().now_or_never() else { break };
            intake.take(more?)?;
        }
        if idle || watermark_at.elapsed() >= WATERMARK_EVERY {
            intake.watermark()?;
            watermark_at = Instant::now();
        }
        changes += intake.pending() as u64;
        commit_and_release(source, producer, intake).await?;
        if reported.elapsed() >= Duration::from_secs(1) {
            let rate = changes as f64 / reported.elapsed().as_secs_f64();
            reporter.fact("records_per_second", rate.round());
            (changes, reported) = (0, Instant::now());
            report(source, intake, reporter);
        } else if loading != intake.state().backfill.is_some() {
            report(source, intake, reporter);
        }
    }
}

fn report(source: &dyn Source, intake: &Intake, reporter: &Reporter) {
    if let Some(lag) = source.lag_bytes() {
        reporter.fact("lag_bytes", lag);
    }
    for (name, value) in intake.facts() {
        reporter.fact(name, value);
    }
}

async fn commit(
    producer: &mut dyn Producer,
    intake: &mut Intake,
) -> Result<rollcall_model::Committed, Fault> {
    let records = intake.drain();
    metrics::counter!("rollcall_source_records_total").increment(records.len() as u64);
    let state = to_json(intake.state())?;
    let progress = Progress { reads: BTreeMap::new(), state };
    producer.commit(Commit { records, progress: Some(progress) }).await
}

async fn commit_and_release(
    source: &mut dyn Source,
    producer: &mut dyn Producer,
    intake: &mut Intake,
) -> Result<(), Fault> {
    crash::here("source-decided");
    let committed = commit(producer, intake).await?;
    crash::here("source-committed");
    if let Some(position) = intake.state().position.clone() {
        source.release(&Saved::by(&committed, position)).await?;
        crash::here("source-released");
    }
    Ok(())
}

async fn obey(
    command: SourceCommand,
    source: &mut dyn Source,
    producer: &mut dyn Producer,
    intake: &mut Intake,
) -> Result<(), Fault> {
    // Who asked was told that the source does not run, and has gone: nothing begins behind their back.
    if command.is_given_up() {
        return Ok(());
    }
    let (answer, said) = match command {
        SourceCommand::Backfill(wanted, answer) => match intake.state().backfill.as_ref() {
            _ if wanted != BackfillWanted::default() => {
                let what = "a Postgres source is read whole: it has no exports, no environments apart, and no repair but that";
                (
                    answer,
                    Err(Fault::refused(what).repair("rollcall backfill SOURCE, without further options")),
                )
            }
            Some(running) => {
                (answer, Err(Fault::refused(format!("backfill {} is still under way", running.plan.id.0))))
            }
            None => {
                let id = intake.begin_backfill(false)?;
                commit_and_release(source, producer, intake).await?;
                source.backfill(intake.plan())?;
                info!(backfill = id, "backfill started");
                (answer, Ok(id))
            }
        },
        SourceCommand::PauseBackfill(pause, answer) => match intake.pause_backfill(pause) {
            None => (answer, Err(Fault::refused("no backfill is under way"))),
            Some(id) => {
                commit_and_release(source, producer, intake).await?;
                source.backfill(intake.plan())?;
                (answer, Ok(id))
            }
        },
    };
    // Who asked may have gone; the answer is then nobody's.
    let _ = answer.send(said);
    Ok(())
}

fn read_state(source: &str, state: serde_json::Value) -> Result<SourceState, Fault> {
    serde_json::from_value(state).map_err(|e| {
        Fault::refused(format!("the progress of source {source} can't be read"))
            .from_source(e)
            .repair("run the version of rollcall that wrote the log")
    })
}

fn to_json(state: &SourceState) -> Result<serde_json::Value, Fault> {
    serde_json::to_value(state)
        .map_err(|e| Fault::bug("the source's state can't be written as JSON").from_source(e))
}
