//! `rebuild`: a sink or the rosters' stores emptied and filled anew; or new tables beside them, from a lake alone.
//!
//! The worker does the former, and its progress remembers it: this asks and looks on. The latter is this command's own
//! work ([`super::rebuild_aside`]).

use std::collections::BTreeSet;
use std::io::IsTerminal;
use std::time::{Duration, Instant};

use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use rollcall_model::time::parse_utc;
use serde_json::json;

use super::Asking;
use super::rebuild_aside::{self, Aside};
use crate::api::{PlannedRebuild, Rebuilding, Status, TaskStatus};
use crate::failure::{Failure, Outcome};
use crate::output::{Output, bytes, or_dash};

/// How often progress is asked for.
const POLL_INTERVAL: Duration = Duration::from_millis(200);
/// How often a line is printed where nobody sees a bar.
const LINE_INTERVAL: Duration = Duration::from_secs(2);
/// The rosters' stores, among the names of sinks.
const STORE: &str = "store";

/// Empty a sink or the rosters' stores and fill them again, from the log or from a lake; or fill new tables
///
/// From the log, the compacted topics are read; from a lake, its files, and then the log from where they end. Either way it
/// goes on live, and nothing is left out or counted twice. Readers of ClickHouse see the old tables until the new ones are
/// full. With --from it is followed until the sink is live; Ctrl-C ends the watching, not the rebuild, and `rollcall
/// status` shows it. A kill costs nothing: it goes on where it was.
///
/// With --into, new tables are filled from the lake alone, by this command, as they were at a time or of some
/// environments; the same command again goes on where it was killed. Nothing feeds them afterwards.
///
/// JSON lines: with --plan {topic, partition, files, rows, bytes, covered_seq, log_from?, log_until?}; while it runs {read,
/// total}.
#[derive(Debug, Args)]
pub(super) struct Rebuild {
    /// A sink, as the topology names it, or `store`: what rosters keep on their workers' disks
    what: String,
    /// The lake to read, as the topology names it; without it, the log
    #[arg(long, value_name = "LAKE")]
    from: Option<String>,
    /// Of the store: this partition alone (may be repeated)
    #[arg(long, value_name = "N")]
    partition: Vec<u16>,
    /// Only show what would be read and written
    #[arg(long)]
    plan: bool,
    /// Fill new tables instead: a database of ClickHouse, or a table of Postgres (counts)
    #[arg(long, value_name = "NAME")]
    into: Option<String>,
    /// Into new tables: only of this environment, by its api key (may be repeated)
    #[arg(long, value_name = "KEY")]
    environment: Vec<String>,
    /// Into new tables: as it was at this time, such as 2026-11-27T10:00:00Z
    #[arg(long, value_name = "TIME", value_parser = as_of_us)]
    as_of: Option<i64>,
}

fn as_of_us(text: &str) -> Result<i64, String> {
    parse_utc(text).ok_or_else(|| format!("'{text}' is no time such as 2026-11-27T10:00:00Z"))
}

impl Rebuild {
    /// Orders it and looks on, or does it.
    pub(super) async fn execute(self, asking: &Asking) -> Result<Outcome, Failure> {
        self.refuse_what_contradicts()?;
        if let (Some(lake), Some(into)) = (&self.from, &self.into) {
            let aside = Aside {
                sink: self.what,
                lake: lake.clone(),
                into: into.clone(),
                environments: self.environment.into_iter().collect(),
                as_of_us: self.as_of,
            };
            return Box::pin(rebuild_aside::execute(&aside, asking, self.plan)).await;
        }
        let partitions: Option<BTreeSet<u16>> =
            (!self.partition.is_empty()).then(|| self.partition.iter().copied().collect());
        let body = json!({"from": self.from, "partitions": partitions, "plan": self.plan});
        let answer: Rebuilding = asking.client.post(&["rebuild", &self.what], &body).await?;
        let plan = answer.plan.unwrap_or_default();
        if self.plan {
            return self.show_plan(asking.output, &plan);
        }
        match &self.from {
            None => say(asking.output, &format!("{} is being rebuilt; how far: rollcall status", self.what)),
            Some(_) => self.follow(asking, partitions.as_ref()).await,
        }
    }

    fn refuse_what_contradicts(&self) -> Result<(), Failure> {
        let wrong = |text: &str| Err(Failure::Use(text.to_owned()));
        let is_part = !self.environment.is_empty() || self.as_of.is_some();
        if self.what == STORE && (is_part || self.into.is_some()) {
            return wrong(
                "a store is what rosters judge by: it holds every identity, as it is now; --environment, --as-of and \
                 --into are for ClickHouse and counts",
            );
        }
        if is_part && self.into.is_none() {
            return wrong(
                "--environment and --as-of fill new tables, since a sink holds everything, as it is now: add --into NAME",
            );
        }
        if self.into.is_some() && self.from.is_none() {
            return wrong("new tables are filled from a lake: add --from LAKE");
        }
        if !self.partition.is_empty() && self.what != STORE {
            return wrong("--partition is for the store; a sink is rebuilt whole");
        }
        Ok(())
    }

    fn show_plan(&self, output: Output, plan: &[PlannedRebuild]) -> Result<Outcome, Failure> {
        if self.from.is_some() {
            show(output, plan)?;
        }
        let emptied = match self.what.as_str() {
            STORE => {
                "the stores of these rosters are emptied; they judge nothing until theirs is full".to_owned()
            }
            sink => format!("{sink} is emptied (ClickHouse: once the new tables are full) and filled"),
        };
        let then = match &self.from {
            Some(lake) => format!("from {lake}, then from the log; it goes on live"),
            None => "from the compacted topics of the log; it goes on live".to_owned(),
        };
        say(output, &format!("would be done: {emptied}, {then}"))
    }

    /// Until it is live again, or no longer runs.
    async fn follow(&self, asking: &Asking, partitions: Option<&BTreeSet<u16>>) -> Result<Outcome, Failure> {
        let output = asking.output;
        let is_one = |task: &TaskStatus| match self.what.as_str() {
            STORE => task.task.strip_prefix("roster/").is_some_and(|number| {
                partitions.is_none_or(|chosen| number.parse().is_ok_and(|number| chosen.contains(&number)))
            }),
            sink => task.task.strip_prefix("sink/") == Some(sink),
        };
        let mut progress = Progress::new(output);
        say(output, "Ctrl-C ends the watching, not the rebuild; how far: rollcall status")?;
        loop {
            let status: Status = asking.client.get(&["status"], &[]).await?;
            let tasks: Vec<_> = status.tasks.into_iter().filter(is_one).collect();
            if let Some(failed) = tasks.iter().find(|task| task.state == "failed") {
                progress.bar.finish_and_clear();
                let what = failed.error.clone().unwrap_or_else(|| format!("{} has failed", failed.task));
                return Err(Failure::Job { what, repair: failed.repair.clone() });
            }
            let sum = |of: fn(&crate::api::RebuildSum) -> u64| {
                tasks.iter().filter_map(|task| task.rebuild.as_ref()).map(of).sum::<u64>()
            };
            progress.show(sum(|r| r.read), sum(|r| r.total))?;
            let is_over = |task: &TaskStatus| {
                task.state == "running" && task.rebuild.is_none() && task.bootstrapping != Some(true)
            };
            // A roster that somebody has paused finds its order when it is resumed.
            let is_paused = |task: &&TaskStatus| task.state == "paused" && self.what == STORE;
            if !tasks.is_empty() && tasks.iter().all(|task| is_over(task) || is_paused(&task)) {
                progress.bar.finish_and_clear();
                let paused: Vec<&str> =
                    tasks.iter().filter(is_paused).map(|task| task.task.as_str()).collect();
                if let Some(first) = paused.first() {
                    return Err(Failure::repairable(
                        format!("not rebuilt yet, since they are paused: {}", paused.join(", ")),
                        format!("rollcall resume {first}, and the others; each is rebuilt as it begins"),
                    ));
                }
                return say(output, &format!("{} is filled and live", self.what));
            }
            tokio::time::sleep(POLL_INTERVAL).await;
        }
    }
}

/// What is read of a lake, a line per partition of a topic.
pub(super) fn show(output: Output, plan: &[PlannedRebuild]) -> Result<(), Failure> {
    let header =
        ["TOPIC", "PARTITION", "FILES", "ROWS", "BYTES", "UP TO COMMIT", "THEN THE LOG FROM", "UNTIL"];
    output.list(plan, &header, |part| {
        vec![
            part.topic.clone(),
            part.partition.to_string(),
            part.files.to_string(),
            part.rows.to_string(),
            bytes(part.bytes),
            part.covered_seq.to_string(),
            or_dash(part.log_from),
            or_dash(part.log_until),
        ]
    })?;
    let sum = |of: fn(&PlannedRebuild) -> u64| plan.iter().map(of).sum::<u64>();
    let files = sum(|part| part.files.into());
    say(
        output,
        &format!("would be read: {files} files, {} rows, {}", sum(|p| p.rows), bytes(sum(|p| p.bytes))),
    )
    .map(drop)
}

/// A bar on a terminal, lines otherwise.
pub(super) struct Progress {
    output: Output,
    pub(super) bar: ProgressBar,
    lines: bool,
    line_at: Option<Instant>,
    shown: Option<(u64, u64)>,
}

impl Progress {
    pub(super) fn new(output: Output) -> Self {
        let lines = !output.json && !std::io::stderr().is_terminal();
        let bar = if output.json || lines { ProgressBar::hidden() } else { ProgressBar::new(0) };
        if let Ok(style) = ProgressStyle::with_template("{elapsed} {wide_bar} {pos} of {len} {per_sec} {eta}")
        {
            bar.set_style(style);
        }
        Self { output, bar, lines, line_at: None, shown: None }
    }

    pub(super) fn show(&mut self, read: u64, total: u64) -> Result<(), Failure> {
        if total == 0 || self.shown == Some((read, total)) {
            return Ok(());
        }
        self.shown = Some((read, total));
        self.bar.set_length(total);
        self.bar.set_position(read);
        if self.output.json {
            return self.output.json_line(&json!({"read": read, "total": total}));
        }
        if self.lines && self.line_at.is_none_or(|at| at.elapsed() >= LINE_INTERVAL) {
            self.line_at = Some(Instant::now());
            self.output.line(&format!("{read} of {total} rows"))?;
        }
        Ok(())
    }
}

/// For people; programs read the lines and the exit code.
pub(super) fn say(output: Output, text: &str) -> Result<Outcome, Failure> {
    if !output.json {
        output.line(text)?;
    }
    Ok(Outcome::Done)
}
