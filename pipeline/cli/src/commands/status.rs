//! `status`: what each task does, where it stands and what lies before it.

use clap::Args;
use serde::Serialize;

use super::Asking;
use crate::api::{FillStatus, SourceStatus, Status as Answer, TaskStatus};
use crate::failure::{Failure, Outcome};
use crate::output::{Output, bytes, or_dash, text_of};
use rollcall_model::time::utc;

/// Show what each task does, where it stands and how far it is behind
///
/// JSON lines, told apart by `kind`: `log` {log_id, partitions, parked}; `task` {task, state, worker?, error?,
/// repair?, position?, lag_bytes?, lag_seconds?, lag_records?, restored_records?, records_per_second?, buffered_bytes?, listed_at_us?,
/// replay? {replayed, total}}; `source` {name, as_of_us, backfill? {id, state,
/// done_through, rows}, backfill_done?}; `fill` {partition, jobs}. Exits with 1 when a task has failed.
#[derive(Debug, Args)]
pub(super) struct Status {}

/// A JSON line.
#[derive(Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
enum Line<'a> {
    Log { log_id: &'a str, partitions: u16, parked: u64 },
    Task(&'a TaskStatus),
    Source(&'a SourceStatus),
    Fill(&'a FillStatus),
}

impl Status {
    /// Asks and prints.
    pub(super) async fn execute(self, asking: &Asking) -> Result<Outcome, Failure> {
        let status: Answer = asking.client.get(&["status"], &[]).await?;
        if asking.output.json {
            print_json(asking.output, &status)?;
        } else {
            print(asking.output, &status)?;
        }
        let failed = status.tasks.iter().any(|task| task.state == "failed");
        Ok(if failed { Outcome::Difference } else { Outcome::Done })
    }
}

fn print_json(output: Output, status: &Answer) -> Result<(), Failure> {
    let log = Line::Log { log_id: &status.log_id, partitions: status.partitions, parked: status.parked };
    output.json_line(&log)?;
    status.tasks.iter().try_for_each(|task| output.json_line(&Line::Task(task)))?;
    status.sources.iter().try_for_each(|source| output.json_line(&Line::Source(source)))?;
    status.fills.iter().try_for_each(|fill| output.json_line(&Line::Fill(fill)))
}

fn print(output: Output, status: &Answer) -> Result<(), Failure> {
    output.line(&format!("log {}, {} partitions\n", status.log_id, status.partitions))?;
    let rows: Vec<Vec<String>> = status.tasks.iter().map(task_row).collect();
    output.table(&["TASK", "WORKER", "STATE", "POSITION", "LAG", "BEHIND", "RECORDS/S"], &rows)?;
    for task in status.tasks.iter().filter(|task| task.error.is_some()) {
        output.line(&format!("\n{} is {}: {}", task.task, task.state, or_dash(task.error.as_deref())))?;
        if let Some(repair) = &task.repair {
            output.line(&format!("  repair: {repair}"))?;
        }
    }
    for (task, rebuild) in status.tasks.iter().filter_map(|task| Some((&task.task, task.rebuild.as_ref()?))) {
        let from = rebuild.from.as_deref().unwrap_or("the log");
        output.line(&format!(
            "\n{task} is filled anew from {from}: {} of {} rows",
            rebuild.read, rebuild.total
        ))?;
    }
    for (task, replay) in status.tasks.iter().filter_map(|task| Some((&task.task, task.replay.as_ref()?))) {
        output.line(&format!("\n{task} is replaying: {} of {} records", replay.replayed, replay.total))?;
    }
    for (task, waiting) in status.tasks.iter().filter_map(|task| Some((task, task.buffered_bytes?))) {
        let (waiting, listed) = (bytes(waiting), or_dash(task.listed_at_us.map(utc)));
        output.line(&format!("\n{}: {waiting} wait to become files; last listed {listed}", task.task))?;
    }
    for source in &status.sources {
        output.line(&format!("\nsource {}: as of {}", source.name, or_dash(source.as_of_us.map(utc))))?;
        if let Some(missing) = &source.missing {
            output.line(&format!("  missing: {missing}"))?;
        }
        if let Some(backfill) = &source.backfill {
            let through = or_dash(backfill.done_through.as_ref().filter(|id| !id.is_null()).map(text_of));
            output.line(&format!(
                "  backfill {} {}: {} identities, through id {through}",
                backfill.id, backfill.state, backfill.rows
            ))?;
            if let Some(error) = &backfill.error {
                output.line(&format!("  {error}\n  repair: {}", or_dash(backfill.repair.as_deref())))?;
            }
        }
    }
    for fill in &status.fills {
        output.line(&format!("partition {}: {} fills under way", fill.partition, fill.jobs))?;
    }
    if status.parked > 0 {
        output.line(&format!("{} identities are parked: rollcall quarantine list", status.parked))?;
    }
    Ok(())
}

fn task_row(task: &TaskStatus) -> Vec<String> {
    vec![
        task.task.clone(),
        or_dash(task.worker.as_deref()),
        match task.restored_records.filter(|_| task.state == "starting") {
            Some(records) => format!("starting, {records} records restored"),
            None => task.state.clone(),
        },
        or_dash(task.position.as_ref().map(text_of)),
        or_dash(task.lag_bytes.map(bytes).or_else(|| task.lag_records.map(|lag| format!("{lag} records")))),
        or_dash(task.lag_seconds.map(|seconds| format!("{seconds:.1} s"))),
        or_dash(task.records_per_second.map(|rate| format!("{rate:.0}"))),
    ]
}
