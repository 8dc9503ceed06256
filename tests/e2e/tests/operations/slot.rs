//! The replication slot, lost or moved by another hand: changes are missing, so the source refuses to guess, and a
//! backfill finds what the gap changed and deleted.

use rollcall_e2e::Failure;
use serde_json::Value;

use crate::stage::Stage;

/// Dropped while the source reads it, dropped while nobody reads, read past our position by another.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slot_without_our_changes_is_refused_and_a_backfill_repairs() {
    let mut stage = Stage::running(7).await.unwrap();
    stage.assert_exact().await.unwrap();

    // Dropped under a running source: the connection is cut first, as Postgres demands.
    let cut =
        "SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots WHERE slot_name = 'rollcall'";
    drop_slot(&stage, cut).await.unwrap();
    gap(&mut stage).await.unwrap();
    let task = stage.until("source/core", "failed").await.unwrap();
    says(&task, "the replication slot \"rollcall\" is gone");
    repair(&mut stage).await.unwrap();

    // Dropped while nobody reads it.
    stage.stop().await.unwrap();
    drop_slot(&stage, "SELECT 1").await.unwrap();
    gap(&mut stage).await.unwrap();
    stage.start().await.unwrap();
    says(&stage.until("source/core", "failed").await.unwrap(), "the replication slot \"rollcall\" is gone");
    repair(&mut stage).await.unwrap();

    // Read on by another hand: it stands past our position.
    stage.stop().await.unwrap();
    gap(&mut stage).await.unwrap();
    stage.sql("SELECT pg_replication_slot_advance('rollcall', pg_current_wal_lsn())").await.unwrap();
    stage.start().await.unwrap();
    says(&stage.until("source/core", "failed").await.unwrap(), "past our position");
    let (code, _, said) = stage.worker.say(&["resume", "source/core"]).await.unwrap();
    assert_eq!(code, 0, "{said}");
    stage.until("source/core", "failed").await.unwrap();
    repair(&mut stage).await.unwrap();
}

/// Cuts the reader and drops the slot before it comes back.
async fn drop_slot(stage: &Stage, cut: &str) -> Result<(), Failure> {
    let drop = "SELECT pg_drop_replication_slot('rollcall')";
    for _ in 0..200 {
        stage.sql(cut).await?;
        if stage.sql(drop).await.is_ok() {
            return Ok(());
        }
    }
    Err("the slot is always in use".into())
}

/// Changes of every kind that no stream will bring.
async fn gap(stage: &mut Stage) -> Result<(), Failure> {
    stage.churn(80).await?;
    let sql = "SELECT max(id) FROM environments_identity";
    let last = stage.number(sql).await?;
    let first = stage.number("SELECT min(id) FROM environments_identity").await?;
    for id in [first, last] {
        stage
            .sql(&format!(
                "DELETE FROM environments_trait WHERE identity_id = {id}; DELETE FROM environments_identity WHERE id = {id}"
            ))
            .await?;
    }
    stage.sql("INSERT INTO environments_identity (identifier, created_date, environment_id, system_traits) VALUES \
               ('in the gap', now(), 1, '{}') ON CONFLICT DO NOTHING").await
}

fn says(task: &Value, what: &str) {
    let error = task["error"].as_str().unwrap();
    assert!(error.contains(what), "{task:#}");
    assert!(task["repair"].as_str().unwrap().contains("rollcall backfill core"), "{task:#}");
}

/// The one command that the refusal names.
async fn repair(stage: &mut Stage) -> Result<(), Failure> {
    let said = stage.ask(&["backfill", "core"]).await?;
    assert_eq!(said.last().map(|line| &line["state"]), Some(&Value::from("done")));
    stage.until("source/core", "running").await?;
    stage.assert_exact().await?;
    // And live again.
    stage.churn(30).await?;
    stage.assert_exact().await?;
    Ok(())
}
