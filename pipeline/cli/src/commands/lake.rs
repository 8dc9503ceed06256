//! `lake`: what a lake holds, whether it is as its manifests say, and fewer files.

use clap::{Args, Subcommand};
use rollcall_model::time::utc;
use rollcall_runtime::topology::SinkConfig;
use rollcall_sink_parquet::{
    CompactStep, CompactWhat, LakeConfig, ListedTable, Progress, VerifyReport, compact, list,
    plan_compaction, verify,
};
use serde_json::json;

use crate::failure::{Failure, Outcome};
use crate::output::{Output, bytes, or_dash};
use crate::settings::Settings;
use crate::wire::worker_folder;
use crate::wire_lake::lake_config;

/// The lake: its files are read by this command itself, no worker has to run
#[derive(Debug, Subcommand)]
pub(super) enum Lake {
    Ls(Ls),
    Verify(Verify),
    Compact(Compact),
}

/// Show what a lake holds, per table and partition
///
/// JSON lines, one per table: {table, log_id, writer, manifest, listed_at_us, schema_version, history_from_us, as_of_us
/// {source: us}, retired, partitions [{partition, first_seq, last_seq, files, rows, bytes}]}.
#[derive(Debug, Args)]
pub(super) struct Ls {
    /// The sink, as the topology names it; of no use where there is one lake
    sink: Option<String>,
}

/// Read every file of a lake and compare it with the manifests
///
/// Every commit must be listed once, every file be there, with its size, its sum and its rows. JSON lines, told apart by
/// `kind`: `table` {table, files, rows, bytes, replaced, strays}, `problem` {table, object, what, repair}, and last
/// `verdict` {sound}. Exits with 1 when something is wrong.
#[derive(Debug, Args)]
pub(super) struct Verify {
    /// The sink, as the topology names it; of no use where there is one lake
    sink: Option<String>,
}

/// Merge the files of a lake and drop what nobody may ask for any more
///
/// Keeps the newest version of each identity, and those of the last `history_days`; what it replaced stays readable for
/// `reader_grace_minutes`. Safe beside the running sink: run it daily, from one place. JSON lines, told apart by `kind`:
/// `step` {table, partition, what, files, rows, bytes, files_after, rows_after}, and last `cleaned` {objects, manifests,
/// strays, uploads}.
#[derive(Debug, Args)]
pub(super) struct Compact {
    /// The sink, as the topology names it; of no use where there is one lake
    sink: Option<String>,
    /// Only say what would be merged and dropped
    #[arg(long)]
    plan: bool,
}

impl Lake {
    /// Does it.
    pub(super) async fn execute(self, settings: &Settings, output: Output) -> Result<Outcome, Failure> {
        match self {
            Self::Ls(command) => show(&lake(settings, command.sink.as_deref())?, output).await,
            Self::Verify(command) => check(&lake(settings, command.sink.as_deref())?, output).await,
            Self::Compact(command) => {
                let config = lake(settings, command.sink.as_deref())?;
                if command.plan { plan(&config, output).await } else { merge(&config, output).await }
            }
        }
    }
}

/// A lake of the topology; the only one, where none is named.
pub(super) fn lake(settings: &Settings, named: Option<&str>) -> Result<LakeConfig, Failure> {
    let topology = settings.topology()?;
    let folder = worker_folder(&topology.log, "lake");
    let mut lakes = topology.sinks.iter().filter_map(|(name, sink)| match sink {
        SinkConfig::Parquet(config) if named.is_none_or(|named| named == name) => Some((name, config)),
        SinkConfig::Parquet(_) | SinkConfig::ClickHouse(_) | SinkConfig::Counts(_) => None,
    });
    match (lakes.next(), lakes.next(), named) {
        (Some((name, config)), None, _) => Ok(lake_config(name, config, &folder)?),
        (Some(_), Some(_), _) => {
            Err(Failure::Use("the topology has several lakes: name the sink".to_owned()))
        }
        (None, _, Some(named)) => {
            Err(Failure::Use(format!("'{named}' is no sink of type parquet in {}", settings.path.display())))
        }
        (None, _, None) => Err(Failure::Use(format!(
            "{} has no lake: add a sink `lake: {{ type: parquet, bucket: … }}`",
            settings.path.display()
        ))),
    }
}

async fn show(config: &LakeConfig, output: Output) -> Result<Outcome, Failure> {
    let tables = Box::pin(list(config)).await?;
    if output.json {
        tables.iter().try_for_each(|table| output.json_line(table))?;
        return Ok(Outcome::Done);
    }
    let header = ["TABLE", "PARTITION", "COMMITS", "FILES", "ROWS", "BYTES"];
    output.table(&header, &tables.iter().flat_map(rows).collect::<Vec<_>>())?;
    for table in &tables {
        output.line(&format!(
            "{}: manifest {} of {}, history from {}",
            table.table,
            table.manifest,
            utc(table.listed_at_us),
            utc(table.history_from_us)
        ))?;
        for (source, at_us) in &table.as_of_us {
            output.line(&format!("all that {source} streamed is in it up to {}", utc(*at_us)))?;
        }
    }
    Ok(Outcome::Done)
}

fn rows(table: &ListedTable) -> impl Iterator<Item = Vec<String>> {
    table.partitions.iter().map(|partition| {
        vec![
            table.table.clone(),
            partition.partition.to_string(),
            format!("{}-{}", partition.first_seq.0, partition.last_seq.0),
            partition.files.to_string(),
            partition.rows.to_string(),
            bytes(partition.bytes),
        ]
    })
}

async fn check(config: &LakeConfig, output: Output) -> Result<Outcome, Failure> {
    let mut said = std::time::Instant::now();
    let mut tell = |at: Progress| {
        if !output.json && said.elapsed() >= std::time::Duration::from_secs(5) {
            said = std::time::Instant::now();
            eprintln!("{} of {} files, {} of {}", at.files, at.files_of, bytes(at.bytes), bytes(at.bytes_of));
        }
    };
    let report = Box::pin(verify(config, &mut tell)).await?;
    if output.json {
        let tables = report.tables.iter().map(|table| with_kind("table", table));
        let problems = report.problems.iter().map(|problem| with_kind("problem", problem));
        tables.chain(problems).try_for_each(|line| output.json_line(&line?))?;
        output.json_line(&json!({"kind": "verdict", "sound": report.is_sound()}))?;
    } else {
        print(&report, output)?;
    }
    Ok(if report.is_sound() { Outcome::Done } else { Outcome::Difference })
}

fn with_kind(kind: &str, of: &impl serde::Serialize) -> Result<serde_json::Value, Failure> {
    let mut line = serde_json::to_value(of)
        .map_err(|error| Failure::job(format!("can't write the answer as JSON: {error}")))?;
    line["kind"] = kind.into();
    Ok(line)
}

fn print(report: &VerifyReport, output: Output) -> Result<(), Failure> {
    output.list(&report.tables, &["TABLE", "FILES", "ROWS", "BYTES", "STRAYS"], |table| {
        vec![
            table.table.clone(),
            table.files.to_string(),
            table.rows.to_string(),
            bytes(table.bytes),
            table.strays.to_string(),
        ]
    })?;
    for problem in &report.problems {
        let object = problem.object.as_ref().map(|object| format!(" {object}")).unwrap_or_default();
        output
            .line(&format!("{}:{object}: {}\n  repair: {}", problem.table, problem.what, problem.repair))?;
    }
    if report.problems_unnamed > 0 {
        output.line(&format!("and {} more", report.problems_unnamed))?;
    }
    output.line(if report.is_sound() {
        "sound: every commit is there once, every file as it was written"
    } else {
        "not sound"
    })
}

async fn plan(config: &LakeConfig, output: Output) -> Result<Outcome, Failure> {
    let steps = Box::pin(plan_compaction(config)).await?;
    let header = ["TABLE", "PARTITION", "WHAT", "FILES", "ROWS", "BYTES"];
    output.list(&steps, &header, |step| {
        vec![
            step.table.clone(),
            step.partition.to_string(),
            what(step).to_owned(),
            step.files.to_string(),
            step.rows.to_string(),
            bytes(step.bytes),
        ]
    })?;
    Ok(Outcome::Done)
}

async fn merge(config: &LakeConfig, output: Output) -> Result<Outcome, Failure> {
    let mut failed = Ok(());
    let mut tell = |step: &CompactStep| {
        let told = if output.json {
            with_kind("step", step).and_then(|line| output.json_line(&line))
        } else {
            output.line(&format!(
                "{}/{}: {} {} files, {} rows → {} files, {} rows",
                step.table,
                step.partition,
                what(step),
                step.files,
                step.rows,
                or_dash(step.files_after),
                or_dash(step.rows_after)
            ))
        };
        if told.is_err() {
            failed = told;
        }
    };
    let cleaned = Box::pin(compact(config, &mut tell)).await?;
    failed?;
    if output.json {
        output.json_line(&with_kind("cleaned", &cleaned)?)?;
    } else {
        output.line(&format!("removed: {} objects, {} manifests", cleaned.objects, cleaned.manifests))?;
    }
    Ok(Outcome::Done)
}

fn what(step: &CompactStep) -> &'static str {
    match step.what {
        CompactWhat::Merge => "merge",
        CompactWhat::Drop => "drop",
    }
}
