//! New tables from a lake alone: no worker, no log.
//!
//! ```text
//! lake, at one moment ─▶ records as of a time, of some environments ─▶ a database of ClickHouse, or a table of counts
//!                                                                      its notes: what for, and how far
//! ```
//!
//! The tables themselves remember how far they are, so the same command goes on after a kill, at the moment of the lake
//! that it began with.

use std::collections::BTreeSet;

use rollcall_model::archive::{ArchiveFilter, ArchiveReader, Archived};
use rollcall_model::time::utc;
use rollcall_model::{Delivery, Fault, FaultKind, OutRecord, Rejected, SourceName, Topic};
use rollcall_runtime::Reading;
use rollcall_runtime::topology::{ClickHouseUrl, SinkConfig};
use rollcall_sink_clickhouse::NewTables;
use rollcall_sink_counts::NewCounts;
use rollcall_sink_parquet::LakeReader;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::Asking;
use super::lake::lake;
use super::rebuild::{Progress, say, show};
use crate::api::PlannedRebuild;
use crate::failure::{Failure, Outcome};
use crate::settings::Settings;
use crate::wire::{clickhouse_at, counts};

/// Records that are written at once, about: a page more.
const WRITE_ROWS: usize = 50_000;
/// Pages that are held at once: each is bounded in bytes.
const PAGES_MAX: usize = 16;
const MIRROR: [Topic; 2] = [Topic::Identities, Topic::Memberships];
/// A count says no time; a set does.
const COUNTED: [Topic; 1] = [Topic::Memberships];

/// What is to be filled with what.
#[derive(Debug)]
pub(super) struct Aside {
    /// The sink beside whose tables the new ones are.
    pub(super) sink: String,
    pub(super) lake: String,
    pub(super) into: String,
    pub(super) environments: BTreeSet<String>,
    pub(super) as_of_us: Option<i64>,
}

/// How far it is: what the new tables remember.
#[derive(Debug, Serialize, Deserialize)]
struct State {
    reading: Reading,
    /// Records that ClickHouse would not take.
    rejected: u64,
    /// Environments of which there was anything.
    found: BTreeSet<String>,
}

enum Target {
    ClickHouse(NewTables),
    Counts(NewCounts),
}

/// Fills them, or says what that would be.
pub(super) async fn execute(aside: &Aside, asking: &Asking, plan: bool) -> Result<Outcome, Failure> {
    let output = asking.output;
    let config = lake(&asking.settings, Some(&aside.lake))?;
    let kind = Kind::of(aside, &asking.settings)?;
    // One that was taken out of the topology says nothing new, and holds nobody back.
    let topology = asking.settings.topology()?;
    let sources: Vec<SourceName> = topology.sources.keys().cloned().collect();
    let topics: &[Topic] = match kind {
        Kind::ClickHouse(_) => &MIRROR,
        Kind::Counts(_) => &COUNTED,
    };
    // Before anything is made: what is refused leaves no empty tables behind.
    let mut reader = Box::pin(LakeReader::open(&config, None)).await?;
    refuse_unknown(aside, &reader, &sources)?;
    if plan {
        show(output, &parts(&reader, topics).iter().map(planned).collect::<Vec<_>>())?;
        let what = match kind {
            Kind::ClickHouse(_) => "a new database of ClickHouse",
            Kind::Counts(_) => "a new table of Postgres",
        };
        return say(
            output,
            &format!("would be written: {what}, {}; nothing feeds it afterwards", aside.into),
        );
    }
    let anew = kind.anew(aside);
    let (mut target, noted) = Box::pin(kind.open(aside)).await?;
    let known: Option<State> = noted
        .map(|text| serde_json::from_str(&text))
        .transpose()
        .map_err(|e| Fault::refused(format!("{} doesn't say how far it is", aside.into)).from_source(e))?;
    let mut state = match known {
        Some(state) => {
            let pinned = Box::pin(LakeReader::open(&config, Some(&state.reading.pin()))).await;
            reader = pinned.map_err(|fault| forgetting(fault, &anew))?;
            state
        }
        None => {
            let reading = Reading::of(&aside.lake, &reader, &parts(&reader, topics));
            State { reading, rejected: 0, found: BTreeSet::new() }
        }
    };
    let mut progress = Progress::new(output);
    let read = Box::pin(fill(aside, &mut target, &mut reader, &mut state, &mut progress)).await;
    progress.bar.finish_and_clear();
    read.map_err(|end| match end {
        Ended::Reading(fault) => forgetting(fault, &anew).into(),
        Ended::Writing(failure) => failure,
    })?;
    let done = match target {
        Target::ClickHouse(tables) => {
            tables.finish().await?;
            format!("{} is filled: SELECT … FROM {0}.IDENTITIES FINAL, {0}.segment_members", aside.into)
        }
        Target::Counts(mut counts) => format!("{} is filled: {} rows", aside.into, counts.finish().await?),
    };
    lacks(aside, &state, &done)?;
    say(output, &done)
}

/// What was asked for and is not in them.
fn lacks(aside: &Aside, state: &State, done: &str) -> Result<(), Failure> {
    let unknown: Vec<&str> = aside.environments.difference(&state.found).map(String::as_str).collect();
    if !unknown.is_empty() {
        let (lake, unknown) = (&aside.lake, unknown.join(", "));
        return Err(Failure::job(format!(
            "{done}; but {lake} holds nobody of {unknown}: is that an environment's api key?"
        )));
    }
    if state.rejected > 0 {
        let rejected = state.rejected;
        return Err(Failure::job(format!("{done}; but {rejected} records were not taken, as said above")));
    }
    Ok(())
}

/// The tables remember the moment of the lake that they were begun at, so the same command would meet the same again.
fn forgetting(mut fault: Fault, anew: &str) -> Fault {
    if fault.kind == FaultKind::Refused {
        let repair = fault.repair.take().map_or_else(String::new, |repair| format!("{repair}; "));
        fault.repair = Some(format!("{repair}to begin again: {anew}, or another --into"));
    }
    fault
}

/// What ended the filling.
enum Ended {
    Reading(Fault),
    Writing(Failure),
}

async fn fill(
    aside: &Aside,
    target: &mut Target,
    reader: &mut LakeReader,
    state: &mut State,
    progress: &mut Progress,
) -> Result<(), Ended> {
    let filter = ArchiveFilter { environments: aside.environments.clone(), as_of_us: aside.as_of_us };
    let (mut batch, mut pages) = (Vec::new(), 0);
    while let Some(part) = state.reading.next() {
        let page = reader.read(part.at(), part.cursor(), &filter).await.map_err(Ended::Reading)?;
        state.found.extend(page.deliveries.iter().filter_map(environment).map(str::to_owned));
        state.reading.advance(page.deliveries.len(), page.next);
        batch.extend(page.deliveries);
        pages += 1;
        if batch.len() >= WRITE_ROWS || pages >= PAGES_MAX || state.reading.next().is_none() {
            write(target, &batch, state).await.map_err(Ended::Writing)?;
            batch.clear();
            pages = 0;
            let (read, total) = state.reading.rows();
            progress.show(read, total).map_err(Ended::Writing)?;
        }
    }
    Ok(())
}

/// The environment that a record is of.
fn environment(delivery: &Delivery) -> Option<&str> {
    match &delivery.record {
        OutRecord::Identity(record) => record.environment_key.as_deref(),
        OutRecord::Membership(record) => Some(&record.environment_key),
        OutRecord::MembershipChange(_) | OutRecord::Count(_) | OutRecord::Watermark(_) => None,
    }
}

async fn write(target: &mut Target, batch: &[Delivery], state: &mut State) -> Result<(), Failure> {
    let text = |state: &State| {
        serde_json::to_string(state)
            .map_err(|e| Fault::bug("how far a rebuild is has no JSON").from_source(e))
    };
    match target {
        Target::Counts(counts) => counts.write(batch, &text(state)?).await?,
        Target::ClickHouse(tables) => {
            let rejected = tables.write(batch).await?.rejected;
            rejected.iter().for_each(|rejected| tell(batch, rejected));
            state.rejected += rejected.len() as u64;
            tables.note(&text(state)?).await?;
        }
    }
    Ok(())
}

/// The rest goes on without it: the live table lacks it, too, and has it in quarantine.
fn tell(batch: &[Delivery], rejected: &Rejected) {
    let whose = match batch.get(rejected.index).map(|delivery| &delivery.record) {
        Some(OutRecord::Identity(record)) => format!("{}/{}", record.source, record.id),
        Some(OutRecord::Membership(record)) => format!("{}/{}", record.source, record.id),
        Some(OutRecord::MembershipChange(_) | OutRecord::Count(_) | OutRecord::Watermark(_)) | None => {
            "a record".to_owned()
        }
    };
    eprintln!("ClickHouse would not take {whose}: {}", rejected.reason);
}

/// The sink's settings.
enum Kind {
    ClickHouse(rollcall_sink_clickhouse::ClickHouseSinkConfig),
    Counts(rollcall_sink_counts::CountsSinkConfig),
}

impl Kind {
    fn of(aside: &Aside, settings: &Settings) -> Result<Self, Failure> {
        let topology = settings.topology()?;
        let name = aside.sink.as_str();
        match topology.sinks.get(name) {
            Some(SinkConfig::ClickHouse(config)) => {
                let url = match (&config.url, config.listen) {
                    (ClickHouseUrl::Http(url), _) => url.expose().to_owned(),
                    (ClickHouseUrl::Embedded, Some(listen)) => format!("http://{listen}"),
                    (ClickHouseUrl::Embedded, None) => {
                        return Err(Failure::Use(format!(
                            "the embedded engine of {name} listens at a port that only its worker knows: give \
                             sinks.{name}.listen an address, and start the worker again"
                        )));
                    }
                };
                Ok(Self::ClickHouse(clickhouse_at(name, config, url)))
            }
            Some(SinkConfig::Counts(config)) => Ok(Self::Counts(counts(name, config))),
            Some(SinkConfig::Parquet(_)) => Err(Failure::Use(format!(
                "{name} is a lake: new tables are made beside ClickHouse or counts"
            ))),
            None => {
                let names: Vec<_> = topology.sinks.keys().map(String::as_str).collect();
                Err(Failure::Use(format!("there is no sink '{name}'; there are {}", names.join(", "))))
            }
        }
    }

    /// What removes an unfinished one.
    fn anew(&self, aside: &Aside) -> String {
        match self {
            Self::ClickHouse(_) => format!("DROP DATABASE {}", aside.into),
            Self::Counts(_) => format!("DROP TABLE {}_sets", aside.into),
        }
    }

    async fn open(self, aside: &Aside) -> Result<(Target, Option<String>), Fault> {
        let job = json!({
            "lake": aside.lake, "environments": aside.environments, "as_of_us": aside.as_of_us,
        })
        .to_string();
        Ok(match self {
            Self::ClickHouse(config) => {
                let (tables, noted) = Box::pin(NewTables::open(config, &aside.into, &job)).await?;
                (Target::ClickHouse(tables), noted)
            }
            Self::Counts(config) => {
                let (counts, noted) = Box::pin(NewCounts::open(&config, &aside.into, &job)).await?;
                (Target::Counts(counts), noted)
            }
        })
    }
}

fn parts(reader: &LakeReader, topics: &[Topic]) -> Vec<Archived> {
    reader.holds().iter().filter(|held| topics.contains(&held.topic)).copied().collect()
}

fn planned(part: &Archived) -> PlannedRebuild {
    PlannedRebuild {
        topic: part.topic.name().to_owned(),
        partition: part.partition.0,
        files: part.files,
        rows: part.rows,
        bytes: part.bytes,
        covered_seq: part.covered.seq.0,
        log_from: None,
        log_until: None,
    }
}

/// What was so before the lake's history has been dropped since, or was never in it; and what comes after its last listing is
/// not in it yet.
fn refuse_unknown(aside: &Aside, reader: &LakeReader, sources: &[SourceName]) -> Result<(), Failure> {
    let Some(asked_us) = aside.as_of_us else { return Ok(()) };
    let lake = &aside.lake;
    let wrong = |what: String, repair: String| Err(Failure::repairable(what, repair));
    let from_us = reader.history_from_us();
    if asked_us < from_us {
        return wrong(
            format!("{lake} tells what was so from {} on, and that is later than asked for", utc(from_us)),
            format!("--as-of '{}', or later", utc(from_us)),
        );
    }
    let mut slowest: Option<(&SourceName, i64)> = None;
    for source in sources {
        let Some(at_us) = reader.as_of().get(source).copied() else {
            return wrong(
                format!("{lake} doesn't say yet up to when it holds what {source} wrote"),
                "ask again when the sink has run for some flush_age_ms, or leave --as-of out".to_owned(),
            );
        };
        if slowest.is_none_or(|(_, slowest_us)| at_us < slowest_us) {
            slowest = Some((source, at_us));
        }
    }
    match slowest {
        Some((source, at_us)) if at_us < asked_us => wrong(
            format!(
                "{lake} holds everything that {source} wrote up to {}, and that is earlier than asked for",
                utc(at_us)
            ),
            format!("ask again later, or for that time: --as-of '{}'", utc(at_us)),
        ),
        Some(_) | None => Ok(()),
    }
}
