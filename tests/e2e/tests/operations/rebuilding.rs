//! Sinks emptied and filled anew; a log that was lost.

use rollcall_e2e::Failure;

use crate::stage::Stage;

/// A rebuild ends with the tables as they were, with changes coming in all the while.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rebuilt_sink_is_what_it_was() {
    let mut stage = Stage::running(5).await.unwrap();
    stage.churn(100).await.unwrap();
    stage.assert_exact().await.unwrap();
    let before = (rows(&stage).await.unwrap(), stage.counts().await.unwrap());

    for sink in ["counts", "clickhouse"] {
        stage.ask(&["rebuild", sink]).await.unwrap();
        stage.assert_exact().await.unwrap();
        let after = (rows(&stage).await.unwrap(), stage.counts().await.unwrap());
        assert_eq!(after, before, "after a rebuild of {sink}");
    }
    // While it is under way, and with one on the heels of the other.
    for sink in ["counts", "clickhouse", "clickhouse", "counts"] {
        stage.ask(&["rebuild", sink]).await.unwrap();
        stage.churn(30).await.unwrap();
    }
    stage.assert_exact().await.unwrap();
    let (code, _, said) = stage.worker.say(&["rebuild", "lake"]).await.unwrap();
    assert_eq!(code, 1);
    assert!(said.contains("there is no sink 'lake'; there are clickhouse, counts"), "{said}");
}

/// The data folder goes, the tables stay: offsets restart, so each sink refuses what it would wrongly skip, and says
/// which command makes it right.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_log_is_refused_by_the_sinks_until_they_are_rebuilt() {
    let mut stage = Stage::running(6).await.unwrap();
    let before = stage.assert_exact().await.unwrap();
    stage.stop().await.unwrap();
    std::fs::remove_dir_all(stage.worker.folder().join("data")).unwrap();
    stage.churn(60).await.unwrap();

    stage.start().await.unwrap();
    for sink in ["counts", "clickhouse"] {
        let task = stage.until(&format!("sink/{sink}"), "failed").await.unwrap();
        let repair = task["repair"].as_str().unwrap();
        assert!(repair.contains(&format!("rollcall rebuild {sink}")), "{task:#}");
    }
    let (code, said, _) = stage.worker.say(&["status"]).await.unwrap();
    assert_eq!(code, 1, "a failed task is a failed status");
    assert!(said.contains("repair: ") && said.contains("rollcall rebuild counts"), "{said}");
    assert_eq!(stage.clickhouse_members().await.unwrap(), before, "a refusing sink leaves its tables");

    for sink in ["counts", "clickhouse"] {
        stage.ask(&["rebuild", sink]).await.unwrap();
    }
    stage.assert_exact().await.unwrap();
}

/// Every row that readers see, both directions and the images, with `since`. A member's version is left out: it is that
/// of the change that entered it, and after a rebuild that of the set it stands in.
pub(crate) async fn rows(stage: &Stage) -> Result<Vec<String>, Failure> {
    let mut rows = Vec::new();
    for query in [
        "SELECT segment_id, environment_id, id, identifier, identity_key, since FROM rollcall.segment_members",
        "SELECT segment_id, environment_id, id, identifier, identity_key, since FROM rollcall.identity_segments",
        "SELECT environment_id, id, identifier, identity_key, traits, system_traits, inserted_at, source \
         FROM rollcall.IDENTITIES FINAL",
    ] {
        rows.push(stage.clickhouse(&format!("{query} ORDER BY ALL FORMAT TSV")).await?);
    }
    Ok(rows)
}
