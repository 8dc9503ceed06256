//! What goes wrong at AWS, by the simulator: rights that are missing, and a stream that forgot what was not read.

use std::time::Duration;

use rollcall_dynamo_sim::{Action, DynamoSim, Faults, SimSettings};
use rollcall_e2e::edge::key_of;
use rollcall_e2e::{Failure, Table};
use rollcall_model::Attribute;
use serde_json::Value;

use crate::edge::tells;
use crate::edge_stage::EdgeStage;
use crate::stage::{POLL, start};

/// More than DynamoDB keeps.
const AWAY: Duration = Duration::from_secs(30 * 3_600);

/// A world whose time is ours.
fn simulator() -> DynamoSim {
    let since = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap();
    DynamoSim::start(SimSettings {
        start_us: since.as_micros() as i64,
        region: "us-east-1".to_owned(),
        speed: 1,
        roll: None,
        ..SimSettings::default()
    })
}

/// A key that AWS doesn't know, then each right that is missing: named, one after the other, and mended without a restart.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wrong_key_and_missing_permissions_are_named() {
    let sim = simulator();
    let mut stage = EdgeStage::set(66, Table::simulated(&sim.url()), "").await.unwrap();
    let deny = |denied: &[Action]| {
        sim.set_faults(Faults { denied: denied.iter().copied().collect(), ..Faults::default() });
    };
    sim.set_access_key_id(Some("another".to_owned()));
    start(&mut stage.worker).await.unwrap();
    let told = stage.until("source/edge", "failed").await.unwrap();
    tells(&told, "credentials", "AWS_ACCESS_KEY_ID");
    assert!(!stage.worker.log_tail().contains("hunter2"), "a secret was shown");

    sim.set_access_key_id(None);
    for action in [Action::DescribeTable, Action::DescribeStream] {
        deny(&[action]);
        stage.ask(&["resume", "source/edge"]).await.unwrap();
        until_told(&stage, "source/edge", action).await.unwrap();
    }
    deny(&[Action::GetShardIterator, Action::Scan]);
    stage.ask(&["resume", "source/edge"]).await.unwrap();
    let reader = some_reader_told(&stage, Action::GetShardIterator).await.unwrap();
    let backfill = loop {
        let backfill = stage.edge().await.unwrap()["backfill"].take();
        if backfill["state"] == "failed" {
            break backfill;
        }
        tokio::time::sleep(POLL).await;
    };
    tells(&backfill, "dynamodb:Scan", "dynamodb:Scan");
    deny(&[Action::GetRecords]);
    stage.ask(&["resume", &reader]).await.unwrap();
    until_told(&stage, &reader, Action::GetRecords).await.unwrap();

    deny(&[]);
    for reader in ["source/edge/0", "source/edge/1"] {
        stage.ask(&["resume", reader]).await.unwrap();
    }
    stage.ask(&["resume", "backfill/edge"]).await.unwrap();
    stage.assert_exact().await.unwrap();
}

/// Waits until a task has failed for want of this permission.
async fn until_told(stage: &EdgeStage, task: &str, action: Action) -> Result<(), Failure> {
    let permission = format!("dynamodb:{}", action.name());
    for _ in 0..1_200 {
        let told = stage.until(task, "failed").await?;
        if told["error"].as_str().is_some_and(|error| error.contains(&permission)) {
            tells(&told, &permission, &permission);
            return Ok(());
        }
        tokio::time::sleep(POLL).await;
    }
    Err(format!("{task} never says {permission}: {:#}", stage.worker.get("status").await?).into())
}

/// The first reader that has failed for want of this permission: a shard is read by one of them.
async fn some_reader_told(stage: &EdgeStage, action: Action) -> Result<String, Failure> {
    let permission = format!("dynamodb:{}", action.name());
    for _ in 0..1_200 {
        let status = stage.worker.get("status").await?;
        let tasks = status["tasks"].as_array().cloned().unwrap_or_default();
        let failed = tasks.iter().find(|task| {
            task["state"] == "failed"
                && task["error"].as_str().is_some_and(|error| error.contains(&permission))
        });
        if let Some(name) = failed.and_then(|task| task["task"].as_str()) {
            return Ok(name.to_owned());
        }
        tokio::time::sleep(POLL).await;
    }
    Err(format!("no reader says {permission}: {:#}", stage.worker.get("status").await?).into())
}

/// A worker that was away for longer than DynamoDB keeps records: it refuses, says what is missing and the command; the
/// command brings it back, with what was written, changed and deleted meanwhile.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_that_was_trimmed_unread_is_refused_and_repaired() {
    let sim = simulator();
    let mut stage = EdgeStage::set(67, Table::simulated(&sim.url()), "").await.unwrap();
    start(&mut stage.worker).await.unwrap();
    let before = stage.assert_exact().await.unwrap();
    assert_eq!(stage.worker.terminate().await.unwrap().code(), Some(0));

    let items = stage.table.items().await.unwrap();
    for (number, item) in items.iter().enumerate() {
        let mut item = item.clone();
        match number % 4 {
            0 => stage.table.delete(&key_of(&item)).await.unwrap(),
            1 => {
                item.insert("identity_traits".to_owned(), Attribute::L(Vec::new()));
                stage.table.put(&item).await.unwrap();
            }
            _ => {}
        }
    }
    sim.advance(AWAY);
    stage.ahead_us = AWAY.as_micros() as i64;
    start(&mut stage.worker).await.unwrap();
    let told = refusing_reader(&stage).await.unwrap();
    tells(&told, "shard", "rollcall backfill edge --repair");
    let (code, said, _) = stage.worker.say(&["status"]).await.unwrap();
    assert!(code == 1 && said.contains("rollcall backfill edge --repair"), "{said}");

    stage.ask(&["backfill", "edge", "--repair"]).await.unwrap();
    let after = stage.assert_exact().await.unwrap();
    assert_ne!(before, after, "what was missed changes nothing");
}

/// The reader that refuses to go on.
async fn refusing_reader(stage: &EdgeStage) -> Result<Value, Failure> {
    for _ in 0..1_200 {
        let status = stage.worker.get("status").await?;
        let tasks = status["tasks"].as_array().cloned().unwrap_or_default();
        let refuses = |task: &Value| {
            task["repair"].as_str().is_some_and(|repair| repair.contains("--repair"))
                && task["task"].as_str().is_some_and(|name| name.starts_with("source/edge/"))
        };
        if let Some(task) = tasks.into_iter().find(refuses) {
            return Ok(task);
        }
        tokio::time::sleep(POLL).await;
    }
    Err(format!("nobody refuses: {:#}", stage.worker.get("status").await?).into())
}
