//! Servers that go away and come back under load: tasks retry, say why, and nothing is lost.

use std::time::Duration;

use crate::stage::Stage;

/// ClickHouse killed, Postgres stopped and killed, each while the platform writes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn servers_killed_under_load_cost_nothing() {
    let mut stage = Stage::running(12).await.unwrap();
    stage.churn(60).await.unwrap();

    stage.clickhouse.kill9();
    stage.churn(60).await.unwrap();
    let task = stage.until("sink/clickhouse", "retrying").await.unwrap();
    let address = stage.clickhouse.url().replace("http://", "");
    assert!(task["error"].as_str().unwrap().contains(&address), "{task:#}");
    // The others don't wait for it.
    stage.settle().await.unwrap();
    let expected = stage.truth().await.unwrap();
    for ((segment, environment), members) in &expected {
        let count = format!(
            "SELECT coalesce(max(count), 0) FROM segment_membership_segmentmembershipcount \
             WHERE segment_id = {segment} AND environment_id = {environment}"
        );
        stage.until_number(&count, members.len() as i64).await.unwrap();
    }
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(stage.worker.http_status("healthz").await.unwrap(), 200);
    stage.clickhouse.start_again();
    stage.until("sink/clickhouse", "running").await.unwrap();
    stage.assert_exact().await.unwrap();

    // Stopped in the middle of what the platform writes; the same again as a crash.
    stage.churn(60).await.unwrap();
    stage.postgres.stop();
    for task in ["source/core", "sink/counts"] {
        let task = stage.until(task, "retrying").await.unwrap();
        let error = task["error"].as_str().unwrap();
        assert!(error.contains("127.0.0.1"), "{task:#}");
    }
    stage.postgres.start_again();
    stage.reconnect().await.unwrap();
    stage.churn(60).await.unwrap();
    stage.assert_exact().await.unwrap();

    stage.churn(60).await.unwrap();
    stage.postgres.kill9();
    stage.until("source/core", "retrying").await.unwrap();
    stage.postgres.start_again();
    stage.reconnect().await.unwrap();
    stage.churn(60).await.unwrap();
    stage.assert_exact().await.unwrap();
}

/// The log belongs to one process: a second one names it and goes; the first is none the worse.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_instance_on_one_folder_is_refused_by_pid() {
    let mut stage = Stage::running(13).await.unwrap();
    let pid = stage.worker.pid().unwrap();
    let (code, _, said) = stage.worker.say(&["run"]).await.unwrap();
    assert_eq!(code, 78, "{said}");
    assert!(said.contains(&format!("is in use by process {pid}")), "{said}");
    assert!(said.contains("another log.path"), "{said}");
    stage.churn(30).await.unwrap();
    stage.assert_exact().await.unwrap();
}
