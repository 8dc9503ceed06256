//! A lake beside the other sinks: its bucket away, missing or closed, somebody else's lake in its place, the schema of the
//! platform changed while it writes; sent back and begun anew.

use std::net::SocketAddr;
use std::time::Duration;

use rollcall_e2e::{Failure, Lake, Worker, lake};
use rollcall_kit::Proxy;
use rollcall_test_servers::S3;

use crate::stage::{LOG, Stage, start, until, url};

fn address(s3: &S3) -> SocketAddr {
    s3.url().trim_start_matches("http://").parse().unwrap()
}

/// A stage whose lake is reached through a proxy, running and at rest.
async fn staged(seed: u64) -> Result<(Stage, Lake, Proxy), Failure> {
    let lake = Lake::start();
    let proxy = Proxy::start(address(&lake.s3));
    let endpoint = format!("http://{}", proxy.address());
    let mut stage = Stage::set_beside(seed, LOG, Some((&lake, lake.sink(&endpoint)))).await?;
    stage.start().await?;
    stage.live().await?;
    stage.settle().await?;
    Ok((stage, lake, proxy))
}

/// Everything exact, and the lake as exact as the rest.
async fn assert_exact(stage: &mut Stage, lake: &Lake) {
    let expected = stage.assert_exact().await.unwrap();
    Lake::wait_until_listed(&stage.worker).await.unwrap();
    let expected =
        expected.into_iter().map(|(pair, ids)| (pair, ids.iter().map(ToString::to_string).collect()));
    rollcall_e2e::sets::assert_same(
        "the lake",
        &lake.members(&stage.clickhouse).await.unwrap(),
        &expected.collect(),
    );
    let images = lake.images(&stage.clickhouse).await.unwrap();
    lake::assert_same_images(&images, &lake::clickhouse_images(&stage.clickhouse).await.unwrap());
    lake.events(&stage.clickhouse).await.unwrap();
    let (code, lines) = stage.worker.ask(&["lake", "verify"]).await.unwrap();
    assert_eq!(code, 0, "lake verify: {lines:#?}");
}

/// The bucket is slow, then away, while the platform writes and its schema changes: the other sinks go on, the log keeps
/// what is missing. Then the lake is begun anew.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bucket_that_is_away_holds_back_the_lake_alone() {
    let (mut stage, lake, proxy) = staged(31).await.unwrap();
    stage.churn(60).await.unwrap();
    assert_exact(&mut stage, &lake).await;

    proxy.delay(Duration::from_millis(300));
    stage.churn(30).await.unwrap();
    stage.assert_exact().await.unwrap();
    proxy.reset();
    stage.churn(60).await.unwrap();
    let task = stage.until("sink/lake", "retrying").await.unwrap();
    assert!(task["error"].as_str().unwrap().contains("s3://flags/lake"), "{task:#}");
    // The others don't wait for it, and neither does `verify`.
    stage.assert_exact().await.unwrap();
    let rules = r#"[{"type": "ALL", "conditions": [{"operator": "EQUAL", "property": "born", "value": "away"}], "rules": []}]"#;
    stage.add_segment("born while the bucket was away", rules).await.unwrap();
    let trait_of_many = "INSERT INTO environments_trait (trait_key, value_type, string_value, created_date, identity_id) \
                         SELECT 'born', 'unicode', 'away', now(), id FROM environments_identity WHERE id % 3 = 0";
    stage.sql(trait_of_many).await.unwrap();
    stage.churn(60).await.unwrap();
    stage.assert_exact().await.unwrap();
    proxy.pass();
    assert_exact(&mut stage, &lake).await;

    let (code, _, said) = stage.worker.say(&["replay", "lake", "--from", "beginning"]).await.unwrap();
    assert!(
        code == 1 && said.contains("is a lake") && said.contains("rollcall rebuild lake"),
        "{code}: {said}"
    );
    let files = lake.files("identities").unwrap();
    stage.ask(&["rebuild", "lake"]).await.unwrap();
    stage.churn(30).await.unwrap();
    assert_exact(&mut stage, &lake).await;
    let anew = lake.files("identities").unwrap();
    assert!(!anew.is_empty() && anew.iter().all(|file| !files.contains(file)), "{anew:?}");
}

/// A bucket that isn't there and a key that opens nothing: the task says what to do, the others go on, and a resume is
/// enough. A second log on the same prefix is refused, and the first is none the worse.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bucket_that_can_not_be_the_lakes_is_told_and_mended() {
    let lake = Lake::start();
    let sink = Lake::sink_in(&lake.s3.url(), "not-there-yet", "lake");
    let mut stage = Stage::set_beside(32, LOG, Some((&lake, sink))).await.unwrap();
    stage.start().await.unwrap();
    let task = stage.until("sink/lake", "failed").await.unwrap();
    assert!(task["error"].as_str().unwrap().contains("not-there-yet"), "{task:#}");
    assert!(task["repair"].as_str().is_some_and(|repair| !repair.is_empty()), "{task:#}");
    stage.churn(30).await.unwrap();
    stage.assert_exact().await.unwrap();
    lake.s3.make_bucket("not-there-yet");
    stage.ask(&["resume", "sink/lake"]).await.unwrap();
    stage.until("sink/lake", "running").await.unwrap();

    let key = stage.worker.variable("LAKE_SECRET").unwrap_or_default();
    stage.stop().await.unwrap();
    stage.worker.set_variable("LAKE_SECRET", "opens-nothing");
    stage.start().await.unwrap();
    let task = stage.until("sink/lake", "failed").await.unwrap();
    assert!(task["repair"].as_str().is_some_and(|repair| !repair.is_empty()), "{task:#}");
    assert!(!format!("{task}").contains("opens-nothing"), "{task:#}");
    stage.stop().await.unwrap();
    stage.worker.set_variable("LAKE_SECRET", &key);
    stage.start().await.unwrap();
    stage.until("sink/lake", "running").await.unwrap();
    Lake::wait_until_listed(&stage.worker).await.unwrap();

    let mut other = Worker::new(&format!(
        "rollcall: 1\n\
         log: {{ type: embedded, path: ./data, partitions: 2 }}\n\
         sources:\n  core: {{ type: postgres, platform: flagsmith, url: \"{}\", slot: other, publication: other }}\n\
         sinks:\n{}\
         http: {{ listen: \"HTTP\" }}\n",
        url(&stage.postgres),
        Lake::sink_in(&lake.s3.url(), "not-there-yet", "lake")
    ))
    .unwrap();
    lake.let_in(&mut other);
    let (code, _, said) = other.say(&["setup"]).await.unwrap();
    assert_eq!(code, 0, "{said}");
    start(&mut other).await.unwrap();
    let task = until(&other, "sink/lake", "failed").await.unwrap();
    assert!(task["error"].as_str().unwrap().contains("holds records of the log"), "{task:#}");
    assert!(task["repair"].as_str().unwrap().contains("another bucket or prefix"), "{task:#}");
    stage.churn(30).await.unwrap();
    stage.assert_exact().await.unwrap();
    Lake::wait_until_listed(&stage.worker).await.unwrap();
    assert_eq!(stage.task("sink/lake").await.unwrap()["state"], "running");
}

/// A file that somebody removed and one that was cut short: each is named, nothing is filled from them, and the log has all of it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_that_is_gone_or_cut_short_is_named_and_costs_nothing() {
    let (mut stage, lake, _proxy) = staged(33).await.unwrap();
    stage.churn(60).await.unwrap();
    assert_exact(&mut stage, &lake).await;
    stage.ask(&["pause", "sink/lake"]).await.unwrap();
    stage.until("sink/lake", "paused").await.unwrap();
    let (gone, cut) =
        (lake.files("identities").unwrap().remove(0), lake.files("memberships").unwrap().remove(0));
    std::fs::remove_file(&gone).unwrap();
    let half = std::fs::metadata(&cut).unwrap().len() / 2;
    std::fs::OpenOptions::new().write(true).open(&cut).unwrap().set_len(half).unwrap();

    let (code, lines) = stage.worker.ask(&["lake", "verify"]).await.unwrap();
    let problems: Vec<_> = lines.iter().filter(|line| line["kind"] == "problem").collect();
    assert_eq!((code, problems.len()), (1, 2), "{lines:#?}");
    for (problem, file) in problems.iter().zip([&gone, &cut]) {
        let name = file.file_name().and_then(|name| name.to_str()).unwrap();
        assert!(problem["object"].as_str().is_some_and(|object| object.ends_with(name)), "{problem:#}");
        assert!(problem["repair"].as_str().is_some_and(|repair| !repair.is_empty()), "{problem:#}");
    }
    let (code, _, said) = stage.worker.say(&["rebuild", "clickhouse", "--from", "lake"]).await.unwrap();
    assert!(code == 1 && said.contains("is listed and not there"), "{code}: {said}");
    assert!(said.contains("rollcall lake verify"), "{said}");
    stage.ask(&["rebuild", "clickhouse"]).await.unwrap();
    stage.churn(30).await.unwrap();
    stage.assert_exact().await.unwrap();
    stage.ask(&["rebuild", "lake"]).await.unwrap();
    stage.until("sink/lake", "running").await.unwrap();
    stage.churn(30).await.unwrap();
    assert_exact(&mut stage, &lake).await;
}
