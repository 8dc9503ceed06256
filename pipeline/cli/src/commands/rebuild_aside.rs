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
use rollcall_model::{Delivery, Fault, Topic};
use rollcall_runtime::topology::{ClickHouseUrl, SinkConfig};
use rollcall_runtime::{Reading, Whence};
use rollcall_sink_clickhouse::NewTables;
use rollcall_sink_counts::NewCounts;
use rollcall_sink_parquet::LakeReader;
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

enum Target {
    ClickHouse(NewTables),
    Counts(NewCounts),
}

/// Fills them, or says what that would be.
pub(super) async fn execute(aside: &Aside, asking: &Asking, plan: bool) -> Result<Outcome, Failure> {
    let output = asking.output;
    let config = lake(&asking.settings, Some(&aside.lake))?;
    let kind = Kind::of(aside, &asking.settings)?;
    let topics: &[Topic] = match kind {
        Kind::ClickHouse(_) => &MIRROR,
        Kind::Counts(_) => &COUNTED,
    };
    if plan {
        let reader = Box::pin(LakeReader::open(&config, None)).await?;
        refuse_forgotten(aside, &reader)?;
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
    let (mut target, noted) = Box::pin(kind.open(aside)).await?;
    let known: Option<Reading> = noted
        .map(|text| serde_json::from_str(&text))
        .transpose()
        .map_err(|e| Fault::refused(format!("{} doesn't say how far it is", aside.into)).from_source(e))?;
    let pin = known.as_ref().map(Reading::pin);
    let mut reader = Box::pin(LakeReader::open(&config, pin.as_deref())).await?;
    let mut reading = match known {
        Some(reading) => reading,
        None => {
            refuse_forgotten(aside, &reader)?;
            Reading::of(&aside.lake, &reader, &parts(&reader, topics))
        }
    };
    let mut progress = Progress::new(output);
    let read = Box::pin(fill(aside, &mut target, &mut reader, &mut reading, &mut progress)).await;
    progress.bar.finish_and_clear();
    read?;
    let done = match target {
        Target::ClickHouse(tables) => {
            tables.finish().await?;
            format!("{} is filled: SELECT … FROM {0}.IDENTITIES FINAL, {0}.segment_members", aside.into)
        }
        Target::Counts(mut counts) => format!("{} is filled: {} rows", aside.into, counts.finish().await?),
    };
    say(output, &done)
}

async fn fill(
    aside: &Aside,
    target: &mut Target,
    reader: &mut LakeReader,
    reading: &mut Reading,
    progress: &mut Progress,
) -> Result<(), Failure> {
    let filter = ArchiveFilter { environments: aside.environments.clone(), as_of_us: aside.as_of_us };
    let (mut batch, mut pages) = (Vec::new(), 0);
    while let Some(part) = reading.next() {
        let page = reader.read(part.at(), part.cursor(), &filter).await?;
        reading.advance(page.deliveries.len(), page.next);
        batch.extend(page.deliveries);
        pages += 1;
        if batch.len() >= WRITE_ROWS || pages >= PAGES_MAX || reading.next().is_none() {
            write(target, &batch, reading).await?;
            batch.clear();
            pages = 0;
            let (read, total) = reading.rows();
            progress.show(read, total)?;
        }
    }
    Ok(())
}

async fn write(target: &mut Target, batch: &[Delivery], reading: &Reading) -> Result<(), Failure> {
    let state = serde_json::to_string(reading)
        .map_err(|e| Fault::bug("how far a rebuild is has no JSON").from_source(e))?;
    match target {
        Target::Counts(counts) => counts.write(batch, &state).await?,
        Target::ClickHouse(tables) => {
            let written = tables.write(batch).await?;
            if let Some(first) = written.rejected.first() {
                let what = format!(
                    "ClickHouse would not take {} records; of the first it says: {}",
                    written.rejected.len(),
                    first.reason
                );
                return Err(Failure::job(what));
            }
            tables.note(&state).await?;
        }
    }
    Ok(())
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

/// What was so before the lake's history has been dropped since, or was never in it.
fn refuse_forgotten(aside: &Aside, reader: &LakeReader) -> Result<(), Failure> {
    let from_us = reader.history_from_us();
    match aside.as_of_us {
        Some(as_of) if as_of < from_us => {
            let ms = u64::try_from(from_us).unwrap_or_default().div_ceil(1_000);
            let oldest = Whence::Time(ms);
            Err(Failure::repairable(
                format!(
                    "{} tells what was so from {oldest} on, and that is later than asked for",
                    aside.lake
                ),
                format!("--as-of {oldest}, or later"),
            ))
        }
        Some(_) | None => Ok(()),
    }
}
