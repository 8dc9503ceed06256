//! Sinks and stores rebuilt from the lake while the platform writes, new tables as it was at a time; everything exact at
//! the end.

use std::collections::BTreeMap;

use rollcall_e2e::{Failure, Lake};

use crate::rebuilding::rows;
use crate::stage::{LOG, Members, PATIENCE, POLL, Stage};

/// A stage with a lake, running and at rest.
async fn staged(seed: u64) -> Result<(Stage, Lake), Failure> {
    let lake = Lake::start();
    let sink = lake.sink(&lake.s3.url());
    let mut stage = Stage::set_beside(seed, LOG, Some((&lake, sink))).await?;
    stage.start().await?;
    stage.live().await?;
    stage.settle().await?;
    Ok((stage, lake))
}

/// Asks for a rebuild from the lake and looks on until it is live; how many rows were read.
async fn rebuild(stage: &mut Stage, what: &str) -> u64 {
    let asked = stage.under_load(async |worker| worker.ask(&["rebuild", what, "--from", "lake"]).await);
    let (code, lines) = asked.await.unwrap();
    assert_eq!(code, 0, "rebuild {what}: {lines:#?}\n{}", stage.worker.log_tail());
    lines.iter().filter_map(|line| line["read"].as_u64()).max().unwrap_or_default()
}

/// With changes coming in all the while, sinks and stores rebuilt from the lake are what they were.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_rebuilt_from_the_lake_is_what_it_was() {
    let (mut stage, _lake) = staged(61).await.unwrap();
    stage.churn(100).await.unwrap();
    stage.assert_exact().await.unwrap();
    Lake::wait_until_listed(&stage.worker).await.unwrap();
    for what in ["clickhouse", "counts", "store"] {
        let plan = stage.ask(&["rebuild", what, "--from", "lake", "--plan"]).await.unwrap();
        assert!(plan.iter().map(|part| part["rows"].as_u64().unwrap()).sum::<u64>() > 0, "{what}: {plan:#?}");
        assert!(plan.iter().all(|part| part["log_from"].is_u64()), "{what}: {plan:#?}");
    }
    let before = (rows(&stage).await.unwrap(), stage.counts().await.unwrap());
    for what in ["clickhouse", "counts", "store"] {
        rebuild(&mut stage, what).await;
        stage.assert_exact().await.unwrap();
    }
    // At rest: nothing but what the platform wrote meanwhile has changed.
    let live = (rows(&stage).await.unwrap(), stage.counts().await.unwrap());
    assert_ne!(live.0, before.0, "the platform wrote all the while");
    for what in ["clickhouse", "counts", "store"] {
        let (code, lines) = stage.worker.ask(&["rebuild", what, "--from", "lake"]).await.unwrap();
        assert_eq!(code, 0, "{lines:#?}");
        stage.assert_exact().await.unwrap();
        let after = (rows(&stage).await.unwrap(), stage.counts().await.unwrap());
        assert_eq!(after, live, "after a rebuild of {what}");
    }
    stage.churn(60).await.unwrap();
    stage.assert_exact().await.unwrap();

    // Stores once more, from the log, and one partition of them from the lake.
    stage.ask(&["rebuild", "store"]).await.unwrap();
    stage.ask(&["rebuild", "store", "--from", "lake", "--partition", "1"]).await.unwrap();
    stage.churn(30).await.unwrap();
    stage.assert_exact().await.unwrap();

    // A roster that is paused carries its order out when it is resumed, and the command doesn't say otherwise.
    stage.ask(&["pause", "roster/0"]).await.unwrap();
    stage.until("roster/0", "paused").await.unwrap();
    refused(&stage, &["rebuild", "store", "--from", "lake"], 1, "rollcall resume roster/0").await;
    stage.ask(&["resume", "roster/0"]).await.unwrap();
    stage.churn(30).await.unwrap();
    stage.assert_exact().await.unwrap();
}

/// Killed in the middle of it, a rebuild goes on where it was.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rebuild_from_the_lake_survives_being_killed() {
    let (mut stage, _lake) = staged(62).await.unwrap();
    stage.churn(100).await.unwrap();
    Lake::wait_until_listed(&stage.worker).await.unwrap();
    for (what, point) in
        [("clickhouse", "archive-written:1"), ("counts", "archive-written:1"), ("store", "archive-stored:3")]
    {
        stage.stop().await.unwrap();
        stage.worker.start(Some(point)).unwrap();
        stage.worker.wait_until_ready().await.unwrap();
        // Whoever asks may see it die.
        let _asked = stage.worker.say(&["rebuild", what, "--from", "lake"]).await.unwrap();
        let started = std::time::Instant::now();
        let died = loop {
            if let Some(status) = stage.worker.ended().unwrap() {
                break status;
            }
            assert!(started.elapsed() < PATIENCE, "{what} never meets {point}:\n{}", stage.worker.log_tail());
            tokio::time::sleep(POLL).await;
        };
        assert!(!died.success(), "{what}: {died:?} at {point}");
        stage.churn(30).await.unwrap();
        stage.start().await.unwrap();
        stage.assert_exact().await.unwrap();
    }
}

/// New tables as it was at a time, and of one environment; and what can't be.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn new_tables_are_as_it_was_then() {
    let (mut stage, lake) = staged(63).await.unwrap();
    stage.churn(60).await.unwrap();
    let then = stage.assert_exact().await.unwrap();
    let images = images(&stage, "rollcall").await.unwrap();
    // Versions follow the platform's clock, or are a microsecond more each.
    tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    let now = stage.number("extract(epoch FROM clock_timestamp()) * 1e6").await.unwrap();
    let as_of = stage.time_of(now).await.unwrap();
    stage.churn(100).await.unwrap();
    let later = stage.assert_exact().await.unwrap();
    assert_ne!(later, then);
    Lake::wait_until_listed(&stage.worker).await.unwrap();
    lake.wait_until_as_of("core", now).await.unwrap();

    let from = ["--from", "lake", "--as-of", &as_of];
    let plan =
        stage.ask(&[&["rebuild", "clickhouse", "--into", "as_it_was", "--plan"], &from[..]].concat()).await;
    assert!(!plan.unwrap().is_empty());
    stage.ask(&[&["rebuild", "clickhouse", "--into", "as_it_was"], &from[..]].concat()).await.unwrap();
    assert_eq!(stage.members_in("as_it_was").await.unwrap(), then);
    assert_eq!(self::images(&stage, "as_it_was").await.unwrap(), images);
    stage.ask(&[&["rebuild", "counts", "--into", "counts_then"], &from[..]].concat()).await.unwrap();
    assert_eq!(counts_in(&stage, "counts_then").await.unwrap(), crate::stage::sizes(&then));

    // Of one environment, as it is.
    let key = stage.text("SELECT api_key FROM environments_environment ORDER BY id LIMIT 1").await.unwrap();
    let id = stage.number("SELECT min(id) FROM environments_environment").await.unwrap();
    let one = ["--from", "lake", "--environment", &key];
    stage.ask(&[&["rebuild", "clickhouse", "--into", "one"], &one[..]].concat()).await.unwrap();
    stage.ask(&[&["rebuild", "counts", "--into", "counts_one"], &one[..]].concat()).await.unwrap();
    let own: Members = later.iter().filter(|(pair, _)| pair.1 == id).map(|(p, m)| (*p, m.clone())).collect();
    assert!(!own.is_empty());
    assert_eq!(stage.members_in("one").await.unwrap(), own);
    assert_eq!(counts_in(&stage, "counts_one").await.unwrap(), crate::stage::sizes(&own));
    assert_eq!(stage.assert_exact().await.unwrap(), later, "the sinks' own tables are as they were");

    refused(&stage, &["rebuild", "counts", "--into", "counts_one", "--from", "lake"], 1, "DROP TABLE").await;
    let typo = ["rebuild", "clickhouse", "--into", "typo", "--from", "lake", "--environment", "mistyped"];
    refused(&stage, &typo, 1, "lake holds nobody of mistyped").await;
    refused(&stage, &["rebuild", "clickhouse", "--into", "one", "--from", "lake"], 1, "DROP DATABASE one")
        .await;
    refused(&stage, &[&["rebuild", "clickhouse", "--into", "one"], &one[..]].concat(), 1, "has filled").await;
    let early = ["--from", "lake", "--as-of", "2100-01-01T00:00:00Z"];
    for what in ["clickhouse", "counts"] {
        let words = [&["rebuild", what, "--into", "too_early"], &early[..]].concat();
        refused(&stage, &words, 1, "holds everything that core wrote up to 20").await;
    }
    let old = ["--from", "lake", "--as-of", "2020-01-01T00:00:00Z"];
    for what in ["clickhouse", "counts"] {
        let words = [&["rebuild", what, "--into", "too_old"], &old[..]].concat();
        refused(&stage, &words, 1, "tells what was so from 20").await;
        refused(&stage, &[&words[..], &["--plan"]].concat(), 1, "tells what was so from 20").await;
    }
    let made = stage.clickhouse("SELECT name FROM system.databases WHERE name LIKE 'too_%'").await.unwrap();
    assert_eq!(made, "", "what is refused makes nothing");
    refused(&stage, &[&["rebuild", "store", "--into", "x"], &old[..]].concat(), 2, "rosters judge by").await;
    refused(&stage, &[&["rebuild", "counts"], &old[..]].concat(), 2, "--into NAME").await;
    refused(&stage, &["rebuild", "counts", "--from", "clickhouse"], 1, "no lake of this topology").await;
    refused(&stage, &["rebuild", "lake", "--from", "lake"], 1, "is a lake").await;
}

async fn refused(stage: &Stage, words: &[&str], code: i32, text: &str) {
    let (found, _, said) = stage.worker.say(words).await.unwrap();
    assert!(said.contains(text), "{}: {said}", words.join(" "));
    assert_eq!(found, code, "{}: {said}", words.join(" "));
}

async fn images(stage: &Stage, database: &str) -> Result<String, Failure> {
    stage
        .clickhouse(&format!(
            "SELECT environment_id, id, identifier, identity_key, traits, system_traits, inserted_at \
             FROM {database}.IDENTITIES FINAL ORDER BY ALL FORMAT TSV"
        ))
        .await
}

async fn counts_in(stage: &Stage, table: &str) -> Result<BTreeMap<(i64, i64), i64>, Failure> {
    let sql = format!("SELECT coalesce(jsonb_agg(t), '[]') FROM {table} AS t");
    let rows: Vec<serde_json::Value> = serde_json::from_str(&stage.text(&sql).await?)?;
    let number = |row: &serde_json::Value, name: &str| -> Result<i64, Failure> {
        Ok(row[name].as_str().ok_or("no text")?.parse()?)
    };
    rows.iter()
        .map(|row| {
            let pair = (number(row, "segment_id")?, number(row, "environment_id")?);
            Ok((pair, row["count"].as_i64().ok_or("no number")?))
        })
        .collect()
}
