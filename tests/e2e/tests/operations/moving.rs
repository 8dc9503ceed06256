//! A log moved to another place, with the slot kept and nothing read anew.

use std::time::{Duration, Instant};

use rollcall_e2e::Failure;
use serde_json::Value;

use crate::stage::Stage;

/// Drained, copied, named in the topology: everything goes on where it was, twice over.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_moved_log_goes_on_where_it_was() {
    let mut stage = Stage::running(26).await.unwrap();
    stage.churn(80).await.unwrap();
    stage.assert_exact().await.unwrap();
    let before = identity(&stage).await.unwrap();

    let (code, _, said) = copy(&stage, "data", "data2", &[]).await.unwrap();
    assert_eq!(code, 78, "{said}");
    assert!(said.contains("is in use by process"), "{said}");
    stage.ask(&["pause", "sink/counts"]).await.unwrap();
    stage.until("sink/counts", "paused").await.unwrap();
    stage.churn(40).await.unwrap();
    drain(&mut stage, &["sink/counts"]).await.unwrap();
    let (code, _, said) = copy(&stage, "data", "data2", &["--plan"]).await.unwrap();
    assert_eq!(code, 1, "{said}");
    for expected in [
        "the log is not drained",
        "sink/counts is",
        "behind on segment-counts/",
        "rollcall pause source/core",
    ] {
        assert!(said.contains(expected), "{said}");
    }
    stage.start().await.unwrap();
    stage.ask(&["resume", "sink/counts"]).await.unwrap();
    quiet(&stage, &[]).await.unwrap();
    stage.stop().await.unwrap();

    let (code, said, err) = copy(&stage, "data", "data2", &["--plan"]).await.unwrap();
    assert_eq!(code, 0, "{err}");
    assert!(said.contains("nothing is under way in it") && said.contains("epoch 1"), "{said}");
    assert!(!stage.worker.folder().join("data2").exists(), "a plan makes nothing");
    for (number, (from, to)) in [("data", "data2"), ("data2", "data3")].into_iter().enumerate() {
        // While it is copied, the platform goes on.
        stage.churn(30).await.unwrap();
        let (code, said, err) = copy(&stage, from, to, &[]).await.unwrap();
        assert_eq!(code, 0, "{err}");
        assert!(said.contains(&format!("to {}", place(&stage, to))), "{said}");
        let (code, _, said) = copy(&stage, from, to, &[]).await.unwrap();
        assert_eq!(code, 1);
        assert!(said.contains("is there already, and finished"), "{said}");
        name_log(&stage, from, to).unwrap();
        stage.start().await.unwrap();
        // As it was left.
        stage.until("source/core", "paused").await.unwrap();
        stage.ask(&["resume", "source/core"]).await.unwrap();
        stage.assert_exact().await.unwrap();
        assert_eq!(identity(&stage).await.unwrap(), before, "a backfill, or another log");
        let images = stage.ask(&["topic", "tail", "identities", "--limit", "1"]).await.unwrap();
        assert_eq!(images[0]["value"]["place"]["epoch"], 0, "images keep their places");
        stage.churn(40).await.unwrap();
        stage.assert_exact().await.unwrap();
        let changes = stage.ask(&["topic", "tail", "identities"]).await.unwrap();
        let newest = changes.iter().filter_map(|record| record["value"]["place"]["epoch"].as_u64()).max();
        assert_eq!(newest, Some(number as u64 + 1), "new places are above the old ones");
        for sink in ["clickhouse", "counts"] {
            stage.ask(&["replay", sink]).await.unwrap();
        }
        stage.assert_exact().await.unwrap();
        drain(&mut stage, &[]).await.unwrap();
    }
    let (code, _, said) = copy(&stage, "nowhere", "data4", &[]).await.unwrap();
    assert_eq!(code, 78);
    assert!(said.contains("there is no log in"), "{said}");
}

/// The log's id, and the backfills that there were.
async fn identity(stage: &Stage) -> Result<(Value, Value), Failure> {
    let status = stage.worker.get("status").await?;
    Ok((status["log_id"].clone(), status["sources"][0]["backfill_done"].clone()))
}

/// Stops the source, lets everybody but some catch up, stops the worker.
async fn drain(stage: &mut Stage, but: &[&str]) -> Result<(), Failure> {
    stage.settle().await?;
    stage.ask(&["pause", "source/core"]).await?;
    stage.until("source/core", "paused").await?;
    quiet(stage, but).await?;
    stage.stop().await
}

/// Waits until nobody but some has anything left to read.
async fn quiet(stage: &Stage, but: &[&str]) -> Result<(), Failure> {
    let started = Instant::now();
    loop {
        let mut behind = 0;
        for topic in ["identity-changes", "identities", "membership-changes", "segment-counts"] {
            let described = stage.ask(&["topic", "describe", topic]).await?.remove(0);
            let readers = described["readers"].as_array().cloned().unwrap_or_default();
            let waited_for =
                readers.iter().filter(|r| !but.contains(&r["task"].as_str().unwrap_or_default()));
            behind += waited_for.filter_map(|reader| reader["behind"].as_u64()).sum::<u64>();
        }
        if behind == 0 {
            return Ok(());
        }
        assert!(started.elapsed() < Duration::from_secs(60), "never drained:\n{}", stage.worker.log_tail());
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

fn place(stage: &Stage, name: &str) -> String {
    format!("embedded:{}", stage.worker.folder().join(name).display())
}

async fn copy(stage: &Stage, from: &str, to: &str, more: &[&str]) -> Result<(i32, String, String), Failure> {
    let (from, to) = (place(stage, from), place(stage, to));
    stage.worker.say(&[&["log", "copy", "--from", &from, "--to", &to], more].concat()).await
}

fn name_log(stage: &Stage, from: &str, to: &str) -> Result<(), Failure> {
    let config = stage.worker.config();
    let text = std::fs::read_to_string(&config)?;
    let named = text.replace(&format!("path: ./{from},"), &format!("path: ./{to},"));
    assert_ne!(named, text);
    Ok(std::fs::write(config, named)?)
}
