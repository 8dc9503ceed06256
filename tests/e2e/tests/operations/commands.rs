//! What operators ask and order.

use std::collections::BTreeSet;

use rollcall_e2e::Failure;
use serde_json::Value;

use crate::stage::Stage;

/// A paused task stands still while the others go on; resumed, it catches up. SIGTERM ends it all with 0, and a pause
/// outlives it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn paused_tasks_stand_still_and_catch_up() {
    let mut stage = Stage::running(1).await.unwrap();
    stage.assert_exact().await.unwrap();
    for task in ["source/core", "roster/1", "sink/counts", "sink/clickhouse"] {
        pause_and_resume(&mut stage, task).await.unwrap();
    }
    stage.ask(&["pause", "sink/counts"]).await.unwrap();
    stage.stop().await.unwrap();
    stage.start().await.unwrap();
    stage.until("source/core", "running").await.unwrap();
    stage.until("sink/counts", "paused").await.unwrap();
    stage.ask(&["resume", "sink/counts"]).await.unwrap();
    stage.assert_exact().await.unwrap();
    let (code, _, said) = stage.worker.say(&["pause", "sink/lake"]).await.unwrap();
    assert_eq!(code, 1, "{said}");
    assert!(said.contains("there is no task 'sink/lake'") && said.contains("sink/counts"), "{said}");
}

async fn pause_and_resume(stage: &mut Stage, task: &str) -> Result<(), Failure> {
    stage.ask(&["pause", task]).await?;
    stage.until(task, "paused").await?;
    let before = (stage.counts().await?, stage.clickhouse_members().await?);
    stage.churn(60).await?;
    let after = stage.truth().await?;
    match task {
        "source/core" => {
            tokio::time::sleep(std::time::Duration::from_millis(500)).await;
            // But for those of deleted segments, which reconcile takes away whatever the source does.
            let counts = stage.counts().await?;
            assert!(counts.iter().all(|(pair, count)| before.0.get(pair) == Some(count)), "{counts:?}");
            assert_eq!(stage.clickhouse_members().await?, before.1);
        }
        "sink/counts" => {
            stage.settle().await?;
            until_clickhouse(stage, &after).await?;
            assert_eq!(stage.counts().await?, before.0);
        }
        "sink/clickhouse" => {
            stage.settle().await?;
            for ((segment, environment), members) in &after {
                let sql = format!(
                    "SELECT coalesce(max(count), 0) FROM segment_membership_segmentmembershipcount \
                     WHERE segment_id = {segment} AND environment_id = {environment}"
                );
                stage.until_number(&sql, members.len() as i64).await?;
            }
            assert_eq!(stage.clickhouse_members().await?, before.1);
        }
        _ => {}
    }
    stage.ask(&["resume", task]).await?;
    stage.until(task, "running").await?;
    stage.assert_exact().await?;
    Ok(())
}

async fn until_clickhouse(stage: &Stage, expected: &crate::stage::Members) -> Result<(), Failure> {
    let started = std::time::Instant::now();
    while stage.clickhouse_members().await? != *expected {
        assert!(started.elapsed().as_secs() < 60, "ClickHouse does not go on");
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    Ok(())
}

/// The stores are compared at one cut: however much is written meanwhile, nothing differs.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn verify_is_equal_while_the_platform_writes() {
    let mut stage = Stage::running(15).await.unwrap();
    assert_eq!(stage.verify_under_load(12).await.unwrap(), Vec::<Value>::new());
    stage.assert_exact().await.unwrap();
}

/// A store that does not answer is named, and is not called different.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn verify_names_a_store_that_does_not_answer() {
    let stage = Stage::running(16).await.unwrap();
    stage.ask(&["pause", "sink/clickhouse"]).await.unwrap();
    let (code, lines) = stage.worker.ask(&["verify"]).await.unwrap();
    assert_eq!(code, 1);
    let silent: Vec<_> = lines.iter().filter(|line| line["kind"] == "unanswered").collect();
    assert_eq!(silent.len(), 1, "{lines:#?}");
    assert!(silent[0]["task"].as_str().unwrap().contains("clickhouse"), "{silent:?}");
    assert!(lines.iter().all(|line| line["kind"] != "difference"), "{lines:#?}");
    stage.ask(&["resume", "sink/clickhouse"]).await.unwrap();
    stage.live().await.unwrap();
    let (code, lines) = stage.worker.ask(&["verify"]).await.unwrap();
    assert_eq!(code, 0, "the abandoned check is skipped: {lines:#?}");
}

/// Everything that only looks: explain, members, counts, topics, status, a fill that finds nothing to do.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn commands_show_what_is() {
    let mut stage = Stage::running(2).await.unwrap();
    let truth = stage.assert_exact().await.unwrap();

    let filled = stage.ask(&["fill", "--environment", "all", "--segment", "all"]).await.unwrap();
    assert_eq!((&filled[0]["differed"], &filled[0]["identities"]), (&Value::from(0), &Value::from(200)));

    let ((segment, environment), members) = truth.iter().max_by_key(|(_, members)| members.len()).unwrap();
    let (segment, environment) = (segment.to_string(), environment.to_string());
    assert_eq!(list_members(&stage, &segment, &environment, 3, None).await.unwrap(), *members);
    assert_eq!(list_members(&stage, &segment, &environment, 1_000, None).await.unwrap(), *members);
    let key = format!("env-key-{environment}");
    assert_eq!(list_members(&stage, &segment, &key, 1_000, None).await.unwrap(), *members, "by api key");
    let with_7 = members.iter().copied().filter(|id| format!("user-{id}").contains('7')).collect();
    assert_eq!(list_members(&stage, &segment, &environment, 2, Some("7")).await.unwrap(), with_7);
    let nobody = list_members(&stage, &segment, &environment, 2, Some("%")).await.unwrap();
    assert_eq!(nobody, BTreeSet::new(), "a query is text, not a pattern");

    explain_every_identity(&stage, &segment, &environment, members).await.unwrap();
    let one = stage.ask(&["counts", "--segment", &segment, "--environment", &environment]).await.unwrap();
    assert_eq!(one.len(), 1);
    assert_eq!((&one[0]["count"], &one[0]["state"]), (&Value::from(members.len()), &Value::from("live")));
    topics_hold_what_was_written(&stage).await.unwrap();

    let status = stage.ask(&["status"]).await.unwrap();
    assert_eq!(status[0]["kind"], "log");
    assert_eq!(status[0]["partitions"], 2);
    let mut tasks: Vec<_> = status.iter().filter(|line| line["kind"] == "task").collect();
    tasks.sort_by_key(|task| task["task"].to_string());
    let names: Vec<_> = tasks.iter().filter_map(|task| task["task"].as_str()).collect();
    let expected =
        ["catalog", "counts", "roster/0", "roster/1", "sink/clickhouse", "sink/counts", "source/core"];
    assert_eq!(names, expected);
    assert!(tasks.iter().all(|task| task["state"] == "running"), "{tasks:#?}");
}

/// All pages of `rollcall members`.
async fn list_members(
    stage: &Stage,
    segment: &str,
    environment: &str,
    limit: u32,
    query: Option<&str>,
) -> Result<BTreeSet<i64>, Failure> {
    let limit = limit.to_string();
    let mut found = BTreeSet::new();
    let mut cursor: Option<String> = None;
    loop {
        let mut arguments =
            vec!["members", "--segment", segment, "--environment", environment, "--limit", &limit];
        arguments.extend(query.iter().flat_map(|query| ["--query", query]));
        arguments.extend(cursor.iter().flat_map(|cursor| ["--cursor", cursor]));
        let lines = stage.ask(&arguments).await?;
        let (rows, cursors): (Vec<_>, Vec<_>) = lines.iter().partition(|line| line["cursor"].is_null());
        assert!(rows.len() as u32 <= limit.parse()?, "{rows:#?}");
        for row in &rows {
            let id = row["id"].as_i64().or_else(|| row["id"].as_str()?.parse().ok()).ok_or("no id")?;
            assert_eq!(row["identifier"], format!("user-{id}"));
            assert!(found.insert(id), "{id} stands on two pages");
        }
        cursor = cursors.first().and_then(|line| line["cursor"].as_str()).map(str::to_owned);
        if cursor.is_none() {
            return Ok(found);
        }
    }
}

async fn explain_every_identity(
    stage: &Stage,
    segment: &str,
    environment: &str,
    members: &BTreeSet<i64>,
) -> Result<(), Failure> {
    let of_environment = |(_, of): &&(i32, i32)| of.to_string() == environment;
    for (number, (id, _)) in stage.world.identities.iter().filter(of_environment).take(12).enumerate() {
        // By identifier and by number in turn.
        let name = if number % 2 == 0 { format!("user-{id}") } else { id.to_string() };
        let arguments =
            ["explain", "--segment", segment, "--environment", environment, "--identity", name.as_str()];
        let answer = stage.ask(&arguments).await?.remove(0);
        let member = members.contains(&i64::from(*id));
        assert_eq!(answer["member"], member, "{name}: {answer:#}");
        assert_eq!(answer["judged"]["verdict"], member, "{name}: {answer:#}");
    }
    let arguments = ["explain", "--segment", segment, "--environment", environment, "--identity", "nobody"];
    let (code, _, said) = stage.worker.say(&arguments).await?;
    assert_eq!(code, 1);
    assert!(said.contains("there is no identity 'nobody'"), "{said}");
    Ok(())
}

/// Every record that `topic list` says is there comes with `topic tail`, and `identities` are the 200.
async fn topics_hold_what_was_written(stage: &Stage) -> Result<(), Failure> {
    let topics = stage.ask(&["topic", "list"]).await?;
    let names: BTreeSet<_> = topics.iter().filter_map(|topic| topic["name"].as_str()).collect();
    for name in ["identity-changes", "identities", "memberships", "membership-changes", "segment-counts"] {
        assert!(names.contains(name), "{names:?}");
    }
    let records = stage.ask(&["topic", "tail", "identities"]).await?;
    let ids: BTreeSet<i64> = records.iter().filter_map(|record| record["value"]["id"].as_i64()).collect();
    assert_eq!(ids, (1..=200).collect());
    let one = stage.ask(&["topic", "tail", "identities", "--partition", "1", "--limit", "1"]).await?;
    assert_eq!((one.len(), &one[0]["partition"]), (1, &Value::from(1)));
    let (code, _, said) = stage.worker.say(&["topic", "tail", "identity"]).await?;
    assert_eq!(code, 1);
    assert!(said.contains("there is no topic 'identity'") && said.contains("identities"), "{said}");
    Ok(())
}
