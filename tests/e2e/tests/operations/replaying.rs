//! Sinks sent back in the log: they take again what they have taken, and end as they were.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use rollcall_e2e::Failure;
use serde_json::Value;

use crate::rebuilding::rows;
use crate::stage::Stage;

const POLL: Duration = Duration::from_millis(50);
const PATIENCE: Duration = Duration::from_secs(60);
const TABLES: [&str; 3] = ["members_by_segment", "members_by_identity", "IDENTITIES"];

/// Whatever a replay says again changes no row, version or seq; what has gone from the tables meanwhile it brings back,
/// which shows that it says all of it. A check that passed once is not answered again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replayed_sink_ends_as_it_was() {
    let mut stage = Stage::running(21).await.unwrap();
    stage.churn(100).await.unwrap();
    let truth = stage.assert_exact().await.unwrap();
    let (all, seen, ledger) =
        (everything(&stage).await.unwrap(), rows(&stage).await.unwrap(), ledger(&stage).await.unwrap());
    let answers = answers(&stage).await.unwrap();
    assert!(answers > 0, "a check has passed");

    for sink in ["clickhouse", "counts"] {
        let plan = stage.ask(&["replay", sink, "--plan"]).await.unwrap();
        let topics = if sink == "counts" { 1 } else { 2 };
        assert_eq!(plan.len(), 2 * topics, "{plan:#?}");
        assert!(plan.iter().all(|part| part["from"] == 0 && part["records"] == part["until"]), "{plan:#?}");
        assert!(plan.iter().all(|part| sink == "counts" || part["since_us"].is_i64()), "{plan:#?}");
        let lines = stage.ask(&["replay", sink]).await.unwrap();
        let (done, planned) = (done(&lines), sums(&plan));
        // What the source's heartbeat says goes on reaching the counts.
        let is_all = |partition| done.get(partition) == planned.get(partition) || sink == "counts";
        assert!(planned.keys().all(|partition| done[partition] >= planned[partition] && is_all(partition)));
        assert_eq!(everything(&stage).await.unwrap(), all, "after a replay of {sink}");
    }
    assert_eq!(self::ledger(&stage).await.unwrap(), ledger);
    assert_eq!(self::answers(&stage).await.unwrap(), answers, "the old check was answered again");
    assert_eq!(stage.assert_exact().await.unwrap(), truth);

    empty(&stage, "1").await.unwrap();
    stage.ask(&["replay", "clickhouse", "--from", "beginning"]).await.unwrap();
    assert_eq!(rows(&stage).await.unwrap(), seen);
    stage.sql("UPDATE rollcall_count SET seq = 0, fingerprint = repeat('0', 16)").await.unwrap();
    stage.ask(&["replay", "counts"]).await.unwrap();
    assert_eq!(self::ledger(&stage).await.unwrap(), ledger);
    assert_eq!(stage.assert_exact().await.unwrap(), truth);

    let (code, said, _) = stage.worker.say(&["replay", "clickhouse", "--partitions", "1"]).await.unwrap();
    assert_eq!(code, 0);
    for expected in
        ["TOPIC", "membership-changes", "goes back: clickhouse takes", "rows carry a version", "caught up"]
    {
        assert!(said.contains(expected), "{said}");
    }
}

/// From a time, from an offset, of one partition, while the platform writes: what stood before is left alone.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_part_is_replayed_while_live_changes_flow() {
    let mut stage = Stage::running(22).await.unwrap();
    stage.assert_exact().await.unwrap();
    let before_us = stage.number("extract(epoch FROM clock_timestamp()) * 1e6").await.unwrap();
    stage.churn(100).await.unwrap();
    stage.assert_exact().await.unwrap();
    let time = stage.time_of(before_us).await.unwrap();

    let plan =
        stage.ask(&["replay", "clickhouse", "--from", &time, "--partitions", "1", "--plan"]).await.unwrap();
    assert_eq!(plan.len(), 2, "{plan:#?}");
    for part in &plan {
        let topic = part["topic"].as_str().unwrap();
        assert_eq!(part["partition"], 1);
        assert!(part["from"].as_u64() > Some(0) && part["since_us"].as_i64() >= Some(before_us), "{part:#}");
        let tail = ["topic", "tail", topic, "--partition", "1", "--from", &time, "--limit", "1"];
        let first = stage.ask(&tail).await.unwrap().remove(0);
        // Compaction may have come by in between.
        assert!(first["offset"].as_u64() >= part["from"].as_u64(), "{part:#} {first:#}");
        assert!(topic == "identities" || first["offset"] == part["from"], "{part:#} {first:#}");
    }
    let untouched = images(&stage).await.unwrap();
    // Of the other partition, and what stood before the time, nothing is brought back.
    empty(&stage, "partition = 0").await.unwrap();
    let lost = images(&stage).await.unwrap();
    assert!(lost.len() < untouched.len(), "partition 0 holds nobody");
    stage.ask(&["replay", "clickhouse", "--from", &time, "--partitions", "1"]).await.unwrap();
    assert_eq!(images(&stage).await.unwrap(), lost);
    stage.ask(&["replay", "clickhouse", "--partitions", "0"]).await.unwrap();
    assert_eq!(images(&stage).await.unwrap(), untouched);

    let end =
        stage.ask(&["topic", "describe", "segment-counts"]).await.unwrap()[0]["partitions"][0]["end"].clone();
    let plan = stage.ask(&["replay", "counts", "--from", "3", "--partitions", "0", "--plan"]).await.unwrap();
    assert_eq!(plan.len(), 1, "{plan:#?}");
    assert_eq!((&plan[0]["from"], plan[0]["until"].as_u64() <= end.as_u64()), (&Value::from(3), true));
    let replays: [&[&str]; 5] = [
        &["replay", "counts", "--from", "3", "--partitions", "0"],
        &["replay", "clickhouse"],
        &["replay", "clickhouse", "--from", "5", "--topic", "membership-changes"],
        &["replay", "clickhouse", "--from", &time],
        &["replay", "counts", "--from", &time],
    ];
    for arguments in replays {
        let (code, lines) = stage.under_load(async |worker| worker.ask(arguments).await).await.unwrap();
        assert_eq!(code, 0, "{arguments:?}: {lines:#?}");
        let ends = lines.iter().filter(|line| line["done"] == true);
        assert!(ends.clone().all(|line| line["replayed"] == line["total"]), "{lines:#?}");
        assert!(ends.count() > 0, "{arguments:?}: {lines:#?}");
    }
    stage.assert_exact().await.unwrap();
}

/// Killed in its middle, paused, asked again: it goes on where it was, and verify waits for its end.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replay_survives_pauses_and_kills() {
    let mut stage = Stage::running(23).await.unwrap();
    stage.churn(60).await.unwrap();
    stage.assert_exact().await.unwrap();
    let seen = rows(&stage).await.unwrap();
    stage.ask(&["pause", "sink/clickhouse"]).await.unwrap();
    stage.until("sink/clickhouse", "paused").await.unwrap();
    empty(&stage, "1").await.unwrap();
    let (code, said, _) = stage.worker.say(&["replay", "clickhouse"]).await.unwrap();
    assert_eq!(code, 0);
    assert!(said.contains("clickhouse is paused; to go on: rollcall resume sink/clickhouse"), "{said}");
    let started = stage.ask(&["replay", "clickhouse", "--resume"]).await.unwrap();
    assert!(started.iter().all(|part| part["replayed"] == 0 && part["done"] == false), "{started:#?}");
    assert_eq!(started, stage.ask(&["replay", "clickhouse"]).await.unwrap(), "asked again, it is the same");

    let other = ["replay", "clickhouse", "--partitions", "0"];
    let (code, _, said) = stage.worker.say(&other).await.unwrap();
    assert_eq!(code, 1);
    assert!(said.contains("another replay of sink clickhouse, from beginning, is still under way"), "{said}");
    let (code, _, said) = stage.worker.say(&["verify"]).await.unwrap();
    assert_eq!(code, 1);
    assert!(said.contains("sink clickhouse is replaying") && said.contains("--resume"), "{said}");

    // It dies between the first rows of the replay and the progress that says so.
    stage.ask(&["pause", "sink/counts"]).await.unwrap();
    stage.until("sink/counts", "paused").await.unwrap();
    stage.worker.kill9().await.unwrap();
    stage.worker.start(Some("sink-written:1")).unwrap();
    patiently(async || stage.worker.get("status").await.is_ok()).await;
    drop(stage.worker.ask(&["resume", "sink/clickhouse"]).await);
    let started = Instant::now();
    while stage.worker.ended().unwrap().is_none() {
        assert!(started.elapsed() < PATIENCE, "it never dies");
        tokio::time::sleep(POLL).await;
    }
    stage.start().await.unwrap();
    for task in ["sink/counts", "sink/clickhouse"] {
        stage.ask(&["resume", task]).await.unwrap();
    }
    stage.worker.wait_until_ready().await.unwrap();
    stage.ask(&["replay", "clickhouse", "--resume"]).await.unwrap();
    assert_eq!(rows(&stage).await.unwrap(), seen);
    stage.churn(30).await.unwrap();
    stage.assert_exact().await.unwrap();
    let (code, said, _) = stage.worker.say(&["replay", "clickhouse", "--resume"]).await.unwrap();
    assert_eq!((code, said.trim()), (0, "no replay of clickhouse is under way"));
}

/// What can't be replayed is refused with what there is, and nothing is begun.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_can_not_be_replayed_is_refused() {
    let mut stage = Stage::running(24).await.unwrap();
    stage.assert_exact().await.unwrap();
    let refusals: [(&[&str], &[&str]); 6] = [
        (&["lake"], &["there is no sink 'lake'; there are clickhouse, counts"]),
        (&["counts", "--partitions", "0,7"], &["there is no partition 7; there are 0 to 1"]),
        (&["counts", "--from", "99999999"], &["segment-counts/0 ends at offset", "99999999 is beyond it"]),
        (
            &["clickhouse", "--from", "5"],
            &[
                "an offset counts in one topic",
                "identities and membership-changes",
                "--topic identities|membership",
            ],
        ),
        (&["counts", "--topic", "identities"], &["does not read identities; it reads segment-counts"]),
        (&["counts", "--topic", "lake"], &["there is no topic 'lake'"]),
    ];
    for (arguments, expected) in refusals {
        for plan in [&["--plan"][..], &[]] {
            let arguments = [&["replay"], arguments, plan].concat();
            let (code, _, said) = stage.worker.say(&arguments).await.unwrap();
            assert_eq!(code, 1, "{arguments:?}: {said}");
            assert!(expected.iter().all(|text| said.contains(text)), "{arguments:?}: {said}");
        }
    }
    for arguments in [["--from", "end"], ["--from", "yesterday"], ["--partitions", "3-1"]] {
        let arguments = [&["replay", "counts"], &arguments[..]].concat();
        assert_eq!(stage.worker.say(&arguments).await.unwrap().0, 2, "{arguments:?}");
    }
    let future = ["replay", "counts", "--from", "2999-01-01T00:00:00Z"];
    assert_eq!(stage.ask(&future).await.unwrap(), Vec::<Value>::new());
    for sink in ["clickhouse", "counts"] {
        assert_eq!(stage.worker.get(&format!("replay/{sink}")).await.unwrap()["replay"], Value::Null);
    }
    stage.assert_exact().await.unwrap();
}

async fn patiently(holds: impl AsyncFn() -> bool) {
    let started = Instant::now();
    while !holds().await {
        assert!(started.elapsed() < PATIENCE);
        tokio::time::sleep(POLL).await;
    }
}

/// The last line of each partition: how much was replayed.
fn done(lines: &[Value]) -> BTreeMap<u64, u64> {
    let done = lines.iter().filter(|line| line["done"] == true);
    let pairs: Vec<_> =
        done.map(|line| (line["partition"].as_u64().unwrap(), line["replayed"].as_u64().unwrap())).collect();
    let map: BTreeMap<_, _> = pairs.iter().copied().collect();
    assert_eq!(map.len(), pairs.len(), "one last line each: {lines:#?}");
    map
}

/// What a plan says of each partition.
fn sums(plan: &[Value]) -> BTreeMap<u64, u64> {
    let mut sums = BTreeMap::new();
    for part in plan {
        *sums.entry(part["partition"].as_u64().unwrap()).or_default() += part["records"].as_u64().unwrap();
    }
    sums
}

/// Takes rows from every table of ours.
async fn empty(stage: &Stage, condition: &str) -> Result<(), Failure> {
    for table in TABLES {
        stage.clickhouse(&format!("DELETE FROM rollcall.{table} WHERE {condition}")).await?;
    }
    Ok(())
}

/// Every row of every table as it counts, with version, seq and all, but for when ClickHouse took it.
async fn everything(stage: &Stage) -> Result<Vec<String>, Failure> {
    let mut all = Vec::new();
    for table in TABLES {
        all.push(
            stage
                .clickhouse(&format!(
                    "SELECT * EXCEPT (ingested_at) FROM rollcall.{table} FINAL ORDER BY ALL FORMAT TSV"
                ))
                .await?,
        );
    }
    Ok(all)
}

async fn images(stage: &Stage) -> Result<Vec<String>, Failure> {
    let query = "SELECT * EXCEPT (ingested_at) FROM rollcall.IDENTITIES FINAL ORDER BY ALL FORMAT TSV";
    Ok(stage.clickhouse(query).await?.lines().map(str::to_owned).collect())
}

async fn ledger(stage: &Stage) -> Result<String, Failure> {
    let rows = "SELECT md5(string_agg(c::text, ',' ORDER BY segment_id, environment_id, partition)) FROM rollcall_count c";
    stage.text(rows).await
}

/// Answers of sinks to checks.
async fn answers(stage: &Stage) -> Result<usize, Failure> {
    let records = stage.ask(&["topic", "tail", "checks"]).await?;
    Ok(records
        .iter()
        .filter(|record| record["value"]["store"] == "clickhouse" || record["value"]["store"] == "counts")
        .count())
}
