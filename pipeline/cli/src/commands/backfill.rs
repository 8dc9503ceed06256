//! `backfill`, `fill`: long work, with its progress shown.

use std::time::Duration;

use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use rollcall_model::shards::ItemOrigin;
use rollcall_model::{SourceName, TableRole};
use rollcall_platforms::Platform;
use rollcall_postgres_wire::{ConnectConfig, connect};
use rollcall_runtime::topology::{DynamoDbSourceConfig, PostgresSourceConfig, SourceConfig};
use serde::Serialize;
use serde_json::json;

use super::Asking;
use crate::api::{BackfillStarted, Filled, Status};
use crate::failure::{Failure, Outcome};
use crate::output::{Output, bytes};
use crate::wire_dynamodb::DynamoDb;

/// How often progress is asked for.
const POLL_INTERVAL: Duration = Duration::from_millis(200);

/// Read a source whole beside its stream, page by page: a first load, a re-load or a repair
///
/// Live changes keep flowing; it can be paused with `rollcall pause`, goes on after a restart and can be run at any
/// time. JSON lines: {id}, and at its end {id, state}; with --plan {table, rows_estimated, pages_estimated?}, of a
/// DynamoDB source {items, bytes, read_units, seconds?, basis}. Exits with 1 when it fails.
#[derive(Debug, Args)]
pub(super) struct Backfill {
    /// The source, as the topology names it
    source: String,
    /// Only show what would be read and written
    #[arg(long)]
    plan: bool,
    /// DynamoDB: what the stream lost is lost; go on with what it has, and bring what is missing by this backfill
    #[arg(long)]
    repair: bool,
    /// DynamoDB: read this export instead of the table: s3://BUCKET/PREFIX/AWSDynamoDB/ID, or a local copy of that folder
    #[arg(long, value_name = "LOCATION")]
    from: Option<String>,
    /// DynamoDB: only this environment, by its api key
    #[arg(long, value_name = "KEY", conflicts_with = "from")]
    environment: Option<String>,
    /// Don't wait for its end
    #[arg(long, conflicts_with = "plan")]
    detach: bool,
}

/// A table that a backfill would read.
#[derive(Serialize)]
struct PlannedTable {
    table: String,
    /// What the server's statistics say; nothing where it has none yet.
    rows_estimated: Option<i64>,
    /// Pages of identities.
    #[serde(skip_serializing_if = "Option::is_none")]
    pages_estimated: Option<i64>,
}

impl Backfill {
    /// Starts it and follows it, or shows what it would do.
    pub(super) async fn execute(self, asking: &Asking) -> Result<Outcome, Failure> {
        if self.plan {
            return self.show_plan(asking).await;
        }
        // The worker reads it, whose folder is another.
        let from = self.from.as_deref().map(absolute).transpose()?;
        let body = json!({
            "source": self.source, "repair": self.repair, "from": from, "environment": self.environment,
        });
        let started: BackfillStarted = asking.client.post(&["backfill"], &body).await?;
        if asking.output.json {
            asking.output.json_line(&started)?;
        } else {
            asking.output.line(&format!("backfill {} of {} has started", started.id, self.source))?;
        }
        if self.detach {
            return Ok(Outcome::Done);
        }
        self.follow(asking, &started).await
    }

    /// Until the source says that it is done: however long it takes to start, and however quick it was.
    async fn follow(&self, asking: &Asking, started: &BackfillStarted) -> Result<Outcome, Failure> {
        let bar = spinner(asking.output);
        let mut seen = false;
        loop {
            tokio::time::sleep(POLL_INTERVAL).await;
            let status: Status = asking.client.get(&["status"], &[]).await?;
            let task = status.tasks.iter().find(|task| task.task == format!("source/{}", self.source));
            if let Some(task) = task.filter(|task| task.state == "failed") {
                bar.finish_and_clear();
                let what = task.error.clone().unwrap_or_else(|| format!("source {} has failed", self.source));
                return Err(Failure::Job { what, repair: task.repair.clone() });
            }
            let source = status.sources.into_iter().find(|source| source.name == self.source);
            let Some(source) = source else { continue };
            if source.backfill_done.as_ref() == Some(&started.id) {
                bar.finish_and_clear();
                return report(asking.output, started);
            }
            match source.backfill {
                Some(backfill) if backfill.id == started.id && backfill.state == "failed" => {
                    bar.finish_and_clear();
                    let what =
                        backfill.error.unwrap_or_else(|| format!("backfill {} has failed", started.id));
                    return Err(Failure::Job { what, repair: backfill.repair });
                }
                Some(backfill) if backfill.id == started.id => {
                    bar.set_message(format!("{}: {} identities", backfill.state, backfill.rows));
                    seen = true;
                }
                // Begun when the source could not go on with ours.
                Some(other) if seen => {
                    bar.finish_and_clear();
                    return Err(Failure::job(format!(
                        "backfill {} took the place of {}",
                        other.id, started.id
                    )));
                }
                Some(_) | None => {}
            }
        }
    }

    async fn show_plan(&self, asking: &Asking) -> Result<Outcome, Failure> {
        let topology = asking.settings.topology()?;
        let name = SourceName::from(self.source.as_str());
        let source = match topology.sources.get(&name) {
            Some(SourceConfig::Postgres(source)) => source,
            Some(SourceConfig::DynamoDb(source)) => return self.show_items(asking, &name, source).await,
            None => {
                let names: Vec<&str> = topology.sources.keys().map(SourceName::as_str).collect();
                return Err(Failure::repairable(
                    format!("the topology has no source '{}'", self.source),
                    format!("use one of: {}", names.join(", ")),
                ));
            }
        };
        let tables = estimate(&name, source).await?;
        let header = ["TABLE", "ROWS (ABOUT)", "PAGES (ABOUT)"];
        let unknown = |number: Option<i64>| number.map_or_else(|| "unknown".to_owned(), |n| n.to_string());
        asking.output.list(&tables, &header, |table| {
            let pages = table.pages_estimated.map_or_else(String::new, |pages| pages.to_string());
            vec![table.table.clone(), unknown(table.rows_estimated), pages]
        })?;
        if !asking.output.json {
            asking.output.line(&format!(
                "reads these tables once, {} identities a page, {} pages ahead; writes one record per identity to \
                 identity-changes, and to the other topics and sinks only what differs",
                source.page_rows, source.pages_in_flight
            ))?;
        }
        Ok(Outcome::Done)
    }
}

impl Backfill {
    async fn show_items(
        &self,
        asking: &Asking,
        name: &SourceName,
        config: &DynamoDbSourceConfig,
    ) -> Result<Outcome, Failure> {
        let source = DynamoDb::new(name, config, &std::env::temp_dir())?;
        let origin = match &self.from {
            Some(location) => ItemOrigin::Export { location: location.clone() },
            None => ItemOrigin::Scan { environment_key: self.environment.clone() },
        };
        let estimate = source.estimate(origin).await?;
        if asking.output.json {
            asking.output.json_line(&estimate)?;
            return Ok(Outcome::Done);
        }
        let takes = estimate.seconds.map_or_else(
            || "as fast as it is given; read_units_per_s sets a rate".to_owned(),
            |seconds| format!("{seconds:.0} s at the set rate"),
        );
        let units = if estimate.read_units > 0.0 {
            format!("{:.0} read capacity units, ", estimate.read_units)
        } else {
            String::new()
        };
        asking.output.line(&format!(
            "about {} items, {}; {units}{takes}\nby {}\nwrites one record per item to identity-changes, and to the other \
             topics and sinks only what differs",
            estimate.items,
            bytes(estimate.bytes),
            estimate.basis
        ))?;
        Ok(Outcome::Done)
    }
}

/// A local folder as the worker has to be told of it; what is in S3 stays as it is.
fn absolute(location: &str) -> Result<String, Failure> {
    if location.contains("://") {
        return Ok(location.to_owned());
    }
    let path = std::path::absolute(location)
        .map_err(|error| Failure::job(format!("'{location}' is no path: {error}")))?;
    Ok(path.display().to_string())
}

/// Sizes as the server's own statistics have them: a plan should not read the tables.
async fn estimate(name: &SourceName, source: &PostgresSourceConfig) -> Result<Vec<PlannedTable>, Failure> {
    let specs = Platform::by_name(source.platform.name(), name.clone(), None)
        .ok_or_else(|| Failure::job(format!("this version knows no platform {}", source.platform.name())))?
        .tables();
    let client = connect(&ConnectConfig::parse(source.url.expose())?).await?;
    let names: Vec<&str> = specs.iter().map(|spec| spec.name).collect();
    let sql = "SELECT c.relname::text, c.reltuples::bigint FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace \
               WHERE n.nspname = $1 AND c.relname = ANY($2)";
    let rows = client
        .query(sql, &[&source.schema, &names])
        .await
        .map_err(|error| Failure::job(format!("the source's tables can't be looked at: {error}")))?;
    let mut tables = Vec::with_capacity(rows.len());
    for row in rows {
        let read = |error: tokio_postgres::Error| Failure::job(format!("the answer can't be read: {error}"));
        let (table, estimate): (String, i64) = (row.try_get(0).map_err(read)?, row.try_get(1).map_err(read)?);
        // -1: never analysed.
        let rows_estimated = Some(estimate).filter(|rows| *rows >= 0);
        let is_identity =
            specs.iter().any(|spec| spec.name == table && matches!(spec.role, TableRole::Identity { .. }));
        let pages = rows_estimated.map(|rows| rows.div_euclid(i64::from(source.page_rows)) + 1);
        tables.push(PlannedTable { table, rows_estimated, pages_estimated: pages.filter(|_| is_identity) });
    }
    tables.sort_by(|a, b| a.table.cmp(&b.table));
    Ok(tables)
}

fn report(output: Output, started: &BackfillStarted) -> Result<Outcome, Failure> {
    if output.json {
        output.json_line(&json!({"id": started.id, "state": "done"}))?;
    } else {
        output.line(&format!("backfill {} is done", started.id))?;
    }
    Ok(Outcome::Done)
}

/// Judge stored identities again, and print what was not as judged: nothing, unless something was wrong
///
/// JSON line: {id, differed, identities}. Exits with 1 when something differed; it is right now.
#[derive(Debug, Args)]
pub(super) struct Fill {
    /// One environment by id, or `all`
    #[arg(long)]
    environment: String,
    /// One segment by id, or `all`
    #[arg(long)]
    segment: String,
}

impl Fill {
    /// Orders it and waits for its end.
    pub(super) async fn execute(self, asking: &Asking) -> Result<Outcome, Failure> {
        let one = |name: String| Some(name).filter(|name| name != "all");
        let body = json!({"segment": one(self.segment), "environment": one(self.environment)});
        let bar = spinner(asking.output);
        let work = asking.client.post::<Filled>(&["fill"], &body);
        tokio::pin!(work);
        let filled = loop {
            tokio::select! {
                filled = &mut work => break filled,
                () = tokio::time::sleep(POLL_INTERVAL) => bar.set_message(progress(asking).await),
            }
        };
        bar.finish_and_clear();
        let filled = filled?;
        if asking.output.json {
            asking.output.json_line(&filled)?;
        } else {
            let verdict = if filled.differed == 0 { "nothing differed" } else { "repaired now" };
            asking.output.line(&format!(
                "{} identities judged, {} memberships differed: {verdict}",
                filled.identities, filled.differed
            ))?;
        }
        Ok(if filled.differed == 0 { Outcome::Done } else { Outcome::Difference })
    }
}

/// How far the fills are; only for show, so what goes wrong here is not told.
async fn progress(asking: &Asking) -> String {
    match asking.client.get::<Status>(&["status"], &[]).await {
        Ok(status) if status.fills.is_empty() => "judging".to_owned(),
        Ok(status) => format!("judging in {} of {} partitions", status.fills.len(), status.partitions),
        Err(_) => "judging".to_owned(),
    }
}

/// Shown on a terminal, on the error stream; programs see nothing of it.
pub(super) fn spinner(output: Output) -> ProgressBar {
    if output.json {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::new_spinner();
    if let Ok(style) = ProgressStyle::with_template("{spinner} {elapsed} {msg}") {
        bar.set_style(style);
    }
    bar.enable_steady_tick(Duration::from_millis(120));
    bar
}
