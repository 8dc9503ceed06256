//! What happens in the demo, in order: first load, traffic with counts as they move, verify, the lake's files.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use serde_json::Value;
use tokio::time::sleep;
use tokio_postgres::Client;

use crate::load::Writers;
use crate::stage::{Stage, tasks};
use crate::{Args, Failure, Teller};

const SHOW_EVERY: Duration = Duration::from_secs(3);
const POLL: Duration = Duration::from_secs(1);
/// How many counts that moved are shown at a time.
const MOVED_MAX: usize = 4;
/// How long the first load, and the catching up after the traffic, may take.
const WAIT_SECONDS_MAX: u64 = 180;
/// Runs it; whether `verify` found everything equal, and `lake verify` every file whole.
pub(crate) async fn drive(stage: &mut Stage, args: &Args, teller: &Teller) -> Result<bool, Failure> {
    stage.wait_until_ready().await?;
    first_load(stage, args, teller).await?;
    let counts = stage.connect().await?;
    let before = read_counts(&counts).await?;
    teller.tell(&format!("the platform's count table has {} rows", before.len()));
    traffic(stage, args, teller, &counts, before).await?;
    caught_up(stage, &counts, teller).await?;
    let equal = stage.run("verify").await?;
    if !stage.has_lake() {
        return Ok(equal);
    }
    println!();
    listed(stage, teller).await?;
    Ok(stage.run("lake verify").await? && equal)
}

/// Waits until every roster has taken the whole backfill and judged it.
async fn first_load(stage: &mut Stage, args: &Args, teller: &Teller) -> Result<(), Failure> {
    let began = Instant::now();
    let (mut told, mut told_at) = (String::new(), None::<Instant>);
    loop {
        let status = stage.status().await?;
        let rosters = || {
            tasks(&status)
                .filter(|task| task["task"].as_str().is_some_and(|name| name.starts_with("roster/")))
        };
        let sources = status["sources"].as_array().map_or(0, Vec::len);
        let loaded =
            rosters().filter(|task| task["loaded"].as_array().is_some_and(|loaded| loaded.len() == sources));
        let (loaded, all) = (loaded.count(), rosters().count());
        let read = progress(&status, args);
        let now =
            format!("first load: {read}complete in {loaded} of {all} partitions, {} fills", fills(&status));
        if now != told && (read.is_empty() || told_at.is_none_or(|at| at.elapsed() >= SHOW_EVERY)) {
            teller.tell(&now);
            (told, told_at) = (now, Some(Instant::now()));
        }
        if all > 0 && loaded == all && fills(&status) == 0 {
            return Ok(());
        }
        if began.elapsed() > Duration::from_secs(WAIT_SECONDS_MAX) {
            return Err(format!("the first load is not done after {WAIT_SECONDS_MAX} s").into());
        }
        sleep(POLL).await;
    }
}

/// How far each source's backfill is, while it runs.
fn progress(status: &Value, args: &Args) -> String {
    let (in_postgres, at_edge) = args.shares();
    let sources = status["sources"].as_array().into_iter().flatten();
    let read = sources.filter_map(|source| {
        let rows = source["backfill"]["rows"].as_u64()?;
        Some(match source["name"].as_str()? {
            "edge" => format!("{rows} of {at_edge} items of DynamoDB read, "),
            _ => format!("{rows} of {in_postgres} identities of Postgres read, "),
        })
    });
    read.collect()
}

/// Fills that run.
fn fills(status: &Value) -> usize {
    status["fills"].as_array().map_or(0, Vec::len)
}

async fn traffic(
    stage: &mut Stage,
    args: &Args,
    teller: &Teller,
    counts: &Client,
    mut before: BTreeMap<(i32, i32), i32>,
) -> Result<(), Failure> {
    let writers = Writers::start(stage, args).await?;
    teller.tell(&format!("{} for {} s", writers.who(), args.seconds));
    let until = Instant::now() + Duration::from_secs(args.seconds);
    let mut to_kill = Some(Instant::now() + Duration::from_secs(args.seconds / 3));
    while Instant::now() < until {
        if to_kill.is_some_and(|at| Instant::now() > at) {
            to_kill = None;
            stage.kill_one(teller).await?;
        }
        sleep(SHOW_EVERY).await;
        let now = read_counts(counts).await?;
        teller.tell(&format!("{}; {}", writers.done(), moved(&before, &now)));
        before = now;
    }
    writers.stop().await
}

async fn read_counts(client: &Client) -> Result<BTreeMap<(i32, i32), i32>, Failure> {
    let sql = "SELECT segment_id, environment_id, count FROM segment_membership_segmentmembershipcount";
    let rows = client.query(sql, &[]).await?;
    Ok(rows.iter().map(|row| ((row.get(0), row.get(1)), row.get(2))).collect())
}

/// The counts that moved most, as a line.
fn moved(before: &BTreeMap<(i32, i32), i32>, now: &BTreeMap<(i32, i32), i32>) -> String {
    let count = |counts: &BTreeMap<(i32, i32), i32>, pair| counts.get(pair).copied().unwrap_or(0);
    let mut moved: Vec<_> = now
        .keys()
        .chain(before.keys().filter(|pair| !now.contains_key(pair)))
        .map(|pair| (pair, count(now, pair), count(now, pair) - count(before, pair)))
        .filter(|(_, _, delta)| *delta != 0)
        .collect();
    let all = moved.len();
    moved.sort_by_key(|(_, _, delta)| -delta.abs());
    let shown: Vec<String> = moved
        .iter()
        .take(MOVED_MAX)
        .map(|((segment, environment), count, delta)| format!("{segment}/{environment}: {count} ({delta:+})"))
        .collect();
    format!("{all} counts moved, segment/environment {}", shown.join(", "))
}

/// Waits until everything decided is in files of the lake.
async fn listed(stage: &mut Stage, teller: &Teller) -> Result<(), Failure> {
    let began = Instant::now();
    loop {
        let status = stage.status().await?;
        let lake = tasks(&status).find(|task| task["task"] == "sink/lake");
        if lake.is_some_and(|lake| lake["state"] == "running" && lake["lag_records"] == 0) {
            teller.tell("everything decided is in the lake's files");
            return Ok(());
        }
        if began.elapsed() > Duration::from_secs(WAIT_SECONDS_MAX) {
            return Err(format!("the lake is not done after {WAIT_SECONDS_MAX} s").into());
        }
        sleep(POLL).await;
    }
}

/// Waits until everything written is counted.
async fn caught_up(stage: &mut Stage, client: &Client, teller: &Teller) -> Result<(), Failure> {
    let sql = "SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint";
    let written_us: i64 = client.query_one(sql, &[]).await?.get(0);
    let began = Instant::now();
    loop {
        let status = stage.status().await?;
        let sources = status["sources"].as_array().into_iter().flatten();
        let as_of_us = sources.map(|source| source["as_of_us"].as_i64().unwrap_or(0)).min().unwrap_or(0);
        if as_of_us >= written_us && fills(&status) == 0 {
            teller.tell(&format!(
                "everything written is counted, {} ms after the last write",
                began.elapsed().as_millis()
            ));
            return Ok(());
        }
        if began.elapsed() > Duration::from_secs(WAIT_SECONDS_MAX) {
            return Err(format!("not caught up after {WAIT_SECONDS_MAX} s").into());
        }
        sleep(POLL).await;
    }
}
