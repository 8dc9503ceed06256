//! `replay`: a sink sent back in the log, with its progress shown.
//!
//! The worker does it, and the sink's progress remembers it: this only asks and looks on.

use std::collections::BTreeSet;
use std::io::IsTerminal;
use std::time::{Duration, Instant};

use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use rollcall_runtime::Whence;
use serde_json::json;

use super::Asking;
use crate::api::{PlannedReplay, ReplayUnderway, ReplayedPartition, Replaying};
use crate::failure::{Failure, Outcome};
use crate::output::{Output, or_dash};
use rollcall_model::time::utc;

/// How often progress is asked for.
const POLL_INTERVAL: Duration = Duration::from_millis(200);
/// How often a line is printed where nobody sees a bar.
const LINE_INTERVAL: Duration = Duration::from_secs(2);

/// Send a sink back in the log: it takes again what it has taken, and its tables end as they were
///
/// ClickHouse's `ingested_at` alone moves. Nothing is emptied and live changes keep flowing; `rollcall rebuild` is for tables that must be filled from nothing.
/// Ctrl-C ends the watching, not the replay; the same command again, or --resume, watches on. `rollcall pause
/// sink/SINK` pauses it, `rollcall resume sink/SINK` lets it go on, over restarts too. `rollcall verify` waits until it
/// has ended. JSON lines: {partition, replayed, total, done}, one when a number changes and one at its end; with --plan
/// {topic, partition, from, until, records, since_us}. Records are counted in offsets: compaction leaves fewer.
#[derive(Debug, Args)]
pub(super) struct Replay {
    /// The sink, as the topology names it: counts, clickhouse
    sink: String,
    /// `beginning`, an offset, or a time such as 2026-11-27T10:00:00Z
    #[arg(long, default_value = "beginning", value_parser = from)]
    from: Whence,
    /// These alone, such as 0,3-5; without it, all
    #[arg(long, value_parser = partitions)]
    partitions: Option<Partitions>,
    /// One topic of those that the sink reads; an offset counts in one
    #[arg(long)]
    topic: Option<String>,
    /// Only show what would be done
    #[arg(long)]
    plan: bool,
    /// Show the replay under way, begin none
    #[arg(long, conflicts_with_all = ["from", "partitions", "topic", "plan"])]
    resume: bool,
}

/// Partitions by number.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Partitions(BTreeSet<u16>);

fn from(text: &str) -> Result<Whence, String> {
    match text.parse()? {
        Whence::End => Err("nothing is replayed from the end".to_owned()),
        whence @ (Whence::Beginning | Whence::Offset(_) | Whence::Time(_)) => Ok(whence),
    }
}

fn partitions(text: &str) -> Result<Partitions, String> {
    let bad = |part: &str| format!("'{part}' is neither a partition nor a range such as 3-5");
    let mut chosen = BTreeSet::new();
    for part in text.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let number = |text: &str| text.trim().parse::<u16>().map_err(|_| bad(part));
        let (first, last) = (number(first)?, number(last)?);
        if first > last {
            return Err(bad(part));
        }
        chosen.extend(first..=last);
    }
    Ok(Partitions(chosen))
}

impl Replay {
    /// Asks for it and follows it, or shows what it would do.
    pub(super) async fn execute(self, asking: &Asking) -> Result<Outcome, Failure> {
        let output = asking.output;
        if self.resume {
            let answer: Replaying = asking.client.get(&["replay", &self.sink], &[]).await?;
            return match answer.replay.clone() {
                Some(replay) => self.follow(asking, replay, answer).await,
                None => say(output, &format!("no replay of {} is under way", self.sink)),
            };
        }
        let partitions = self.partitions.as_ref().map(|chosen| &chosen.0);
        let body =
            json!({"from": self.from, "partitions": partitions, "topic": self.topic, "plan": self.plan});
        let answer: Replaying = asking.client.post(&["replay", &self.sink], &body).await?;
        if self.plan || !output.json {
            self.show_plan(output, &answer.plan)?;
        }
        match answer.replay.clone() {
            _ if self.plan => Ok(Outcome::Done),
            Some(replay) => self.follow(asking, replay, answer).await,
            // Begun and ended before it was looked at.
            None if !answer.plan.is_empty() => {
                finish(output, &self.sink, &whole(&answer.plan), &BTreeSet::new())
            }
            None => Ok(Outcome::Done),
        }
    }

    fn show_plan(&self, output: Output, plan: &[PlannedReplay]) -> Result<(), Failure> {
        if plan.is_empty() && output.json {
            return Ok(());
        }
        if plan.is_empty() {
            // Asked of a replay under way, nothing was planned.
            return if self.plan {
                output.line("nothing: the sink has taken no record from there on")
            } else {
                Ok(())
            };
        }
        let header = ["TOPIC", "PARTITION", "FROM", "UNTIL", "RECORDS", "SINCE"];
        output.list(plan, &header, |part| {
            vec![
                part.topic.clone(),
                part.partition.to_string(),
                part.from.to_string(),
                part.until.to_string(),
                part.records.to_string(),
                or_dash(part.since_us.map(utc)),
            ]
        })?;
        if output.json {
            return Ok(());
        }
        let records: u64 = plan.iter().map(|part| part.records).sum();
        output.line(&format!(
            "{} {} takes {records} records again, counted in offsets. Its tables end as they are: rows carry a version \
             and counts a seq, so what is older than what stands there changes nothing.",
            if self.plan { "would go back:" } else { "goes back:" },
            self.sink
        ))
    }

    /// Until the sink says that it is over, or no longer runs.
    async fn follow(
        &self,
        asking: &Asking,
        replay: ReplayUnderway,
        mut answer: Replaying,
    ) -> Result<Outcome, Failure> {
        let output = asking.output;
        let mut progress = Progress::new(output);
        let mut last = replay.partitions.clone();
        say(output, "Ctrl-C ends the watching, not the replay; to watch again: --resume")?;
        loop {
            match answer.replay {
                Some(now) if now.number == replay.number => {
                    last = now.partitions;
                    progress.show(&last)?;
                }
                Some(_) | None => {
                    progress.bar.finish_and_clear();
                    let said = &progress.done;
                    return finish(output, &self.sink, &last, said);
                }
            }
            if answer.paused {
                progress.bar.finish_and_clear();
                return say(output, &format!("{0} is paused; to go on: rollcall resume sink/{0}", self.sink));
            }
            if answer.state.as_deref() == Some("failed") {
                progress.bar.finish_and_clear();
                let what = answer.error.unwrap_or_else(|| format!("sink {} has failed", self.sink));
                return Err(Failure::Job { what, repair: answer.repair });
            }
            tokio::time::sleep(POLL_INTERVAL).await;
            answer = asking.client.get(&["replay", &self.sink], &[]).await?;
        }
    }
}

/// A plan's partitions, as if they were done.
fn whole(plan: &[PlannedReplay]) -> Vec<ReplayedPartition> {
    let numbers: BTreeSet<u16> = plan.iter().map(|part| part.partition).collect();
    let sum = |number| plan.iter().filter(|part| part.partition == number).map(|part| part.records).sum();
    numbers
        .into_iter()
        .map(|partition| {
            let total = sum(partition);
            ReplayedPartition { partition, replayed: total, total, done: true }
        })
        .collect()
}

/// The last line of each partition, and the end.
fn finish(
    output: Output,
    sink: &str,
    partitions: &[ReplayedPartition],
    said: &BTreeSet<u16>,
) -> Result<Outcome, Failure> {
    if output.json {
        for part in partitions.iter().filter(|part| !said.contains(&part.partition)) {
            output.json_line(&ReplayedPartition { replayed: part.total, done: true, ..part.clone() })?;
        }
    }
    let total: u64 = partitions.iter().map(|part| part.total).sum();
    say(output, &format!("{sink} has caught up again: {total} records replayed"))
}

/// A bar on a terminal, lines otherwise.
struct Progress {
    output: Output,
    bar: ProgressBar,
    lines: bool,
    shown: Vec<ReplayedPartition>,
    line_at: Option<Instant>,
    /// Partitions of which JSON has said that they are done.
    done: BTreeSet<u16>,
}

impl Progress {
    fn new(output: Output) -> Self {
        let lines = !output.json && !std::io::stderr().is_terminal();
        let bar = if output.json || lines { ProgressBar::hidden() } else { ProgressBar::new(0) };
        if let Ok(style) = ProgressStyle::with_template("{elapsed} {wide_bar} {pos} of {len} {per_sec} {eta}")
        {
            bar.set_style(style);
        }
        Self { output, bar, lines, shown: Vec::new(), line_at: None, done: BTreeSet::new() }
    }

    fn show(&mut self, partitions: &[ReplayedPartition]) -> Result<(), Failure> {
        let sum = |of: fn(&ReplayedPartition) -> u64| partitions.iter().map(of).sum::<u64>();
        let (replayed, total) = (sum(|part| part.replayed), sum(|part| part.total));
        self.bar.set_length(total);
        self.bar.set_position(replayed);
        if self.output.json {
            // What is brought is not yet known to be over: that line comes once, at the end.
            for part in partitions.iter().filter(|part| !self.shown.contains(part)) {
                if !self.done.contains(&part.partition) {
                    self.output.json_line(part)?;
                }
                if part.done {
                    self.done.insert(part.partition);
                }
            }
        } else if self.lines && self.line_at.is_none_or(|at| at.elapsed() >= LINE_INTERVAL) {
            self.line_at = Some(Instant::now());
            self.output.line(&format!("{replayed} of {total} records"))?;
        }
        self.shown = partitions.to_vec();
        Ok(())
    }
}

/// For people; programs read the lines and the exit code.
fn say(output: Output, text: &str) -> Result<Outcome, Failure> {
    if !output.json {
        output.line(text)?;
    }
    Ok(Outcome::Done)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn partitions_are_numbers_and_ranges() {
        let chosen = |text: &str| partitions(text).map(|chosen| chosen.0.into_iter().collect::<Vec<_>>());
        assert_eq!(chosen("0,3-5"), Ok(vec![0, 3, 4, 5]));
        assert_eq!(chosen("7"), Ok(vec![7]));
        assert_eq!(chosen("1-2,2-3, 9"), Ok(vec![1, 2, 3, 9]));
        for bad in ["", "a", "5-3", "1-", "-1", "0,,1", "65536"] {
            assert!(chosen(bad).is_err(), "{bad}");
        }
    }
}
