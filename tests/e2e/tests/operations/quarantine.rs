//! Changes that can't be applied: they wait in quarantine, park their identity alone, and come back.

use rollcall_e2e::Failure;
use serde_json::Value;

use crate::stage::Stage;

/// A value that the platform can't write parks its identity; later changes wait behind it, everybody else goes on. A
/// replay before the repair parks it again, a backfill after the repair makes all of it obsolete.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_parked_identity_waits_until_a_backfill_brings_it_whole() {
    let mut stage = Stage::running(8).await.unwrap();
    stage.assert_exact().await.unwrap();
    let before = stage.clickhouse_members().await.unwrap();
    let sql = "UPDATE environments_identity SET system_traits = '{\"list\": [1, 2]}' WHERE id = 42";
    stage.sql(sql).await.unwrap();
    // These wait behind it: its image does not move.
    stage.sql("DELETE FROM environments_trait WHERE identity_id = 42").await.unwrap();
    stage.sql("UPDATE environments_identity SET system_traits = '{}' WHERE id = 42").await.unwrap();
    stage.settle().await.unwrap();

    let waiting = stage.ask(&["quarantine", "list"]).await.unwrap();
    let of_42: Vec<_> = waiting.iter().filter(|line| line["key"] == "core/42").collect();
    assert_eq!((of_42.len(), waiting.len()), (3, 3), "{waiting:#?}");
    let mut reasons: Vec<_> = of_42.iter().filter_map(|line| line["reason"].as_str()).collect();
    reasons.sort_unstable();
    assert!(reasons[0].contains("an earlier change of this identity waits"), "{reasons:?}");
    assert!(reasons[2].contains("system_traits holds a value that is no text"), "{reasons:?}");
    let bad = of_42.iter().find(|line| line["reason"] == reasons[2]).unwrap();
    let (partition, offset) = (bad["partition"].to_string(), bad["offset"].to_string());
    let whole = stage.ask(&["quarantine", "show", &partition, &offset]).await.unwrap().remove(0);
    assert!(whole["payload"].to_string().contains("list"), "{whole:#}");

    let (code, lines) = stage.worker.ask(&["verify"]).await.unwrap();
    assert!(lines.iter().any(|line| line["kind"] == "parked" && line["key"] == "core/42"), "{lines:#?}");
    assert_eq!(code, 0, "the stores agree with each other; the parked identity is named");
    assert_eq!(stage.clickhouse_members().await.unwrap(), before, "a parked identity does not move");
    assert_eq!(parked(&stage).await.unwrap(), 1);

    // The bad change is as bad as it was: replayed, it parks again, and what waits behind it too.
    let replayed = stage.ask(&["quarantine", "replay", "core/42"]).await.unwrap();
    assert_eq!(replayed[0]["replayed"], 3);
    stage.settle().await.unwrap();
    assert_eq!(stage.ask(&["quarantine", "list"]).await.unwrap().len(), 3);
    assert_eq!(stage.clickhouse_members().await.unwrap(), before);

    stage.churn(40).await.unwrap();
    stage.ask(&["backfill", "core"]).await.unwrap();
    stage.assert_exact().await.unwrap();
    assert_eq!(stage.ask(&["quarantine", "list"]).await.unwrap(), Vec::<Value>::new());
    assert_eq!(parked(&stage).await.unwrap(), 0);
    let (code, _, said) = stage.worker.say(&["quarantine", "replay", "core/42"]).await.unwrap();
    assert_eq!(code, 1);
    assert!(said.contains("nothing of core/42 waits in quarantine"), "{said}");
}

/// A text that Postgres did not send because it did not change, under a key that holds a number by now: only the whole
/// row knows it. A replay after the text was sent at last applies it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_unchanged_text_that_no_image_holds_is_quarantined_and_named() {
    let mut stage = Stage::set(9).await.unwrap();
    // Stored out of line, so that an UPDATE which leaves it alone does not send it.
    stage
        .sql(
            "ALTER TABLE environments_trait ALTER string_value SET STORAGE EXTERNAL;
             DELETE FROM environments_trait WHERE identity_id = 10 AND trait_key = 'essay';
             INSERT INTO environments_trait (trait_key, value_type, string_value, created_date, identity_id)
             VALUES ('essay', 'unicode', repeat('xyz☃', 500), now(), 10), ('essay', 'unicode', repeat('ö', 2000), now(), 11)",
        )
        .await
        .unwrap();
    stage.start().await.unwrap();
    stage.assert_exact().await.unwrap();
    assert_eq!(essay(&stage, 11).await.unwrap(), "ö".repeat(2000));

    // Of 11 the text stays what it was, and the image holds it; of 10 it is hidden behind a number and comes back.
    let touch = "UPDATE environments_trait SET created_date = now() WHERE trait_key = 'essay'";
    stage.sql(touch).await.unwrap();
    stage.settle().await.unwrap();
    assert_eq!(stage.ask(&["quarantine", "list"]).await.unwrap(), Vec::<Value>::new());
    let turn = |kind: &str| {
        format!(
            "UPDATE environments_trait SET value_type = '{kind}', integer_value = 5 \
             WHERE trait_key = 'essay' AND identity_id = 10"
        )
    };
    stage.sql(&turn("int")).await.unwrap();
    stage.sql(&turn("unicode")).await.unwrap();
    stage.settle().await.unwrap();
    let waiting = stage.ask(&["quarantine", "list"]).await.unwrap();
    assert_eq!(waiting.len(), 1, "{waiting:#?}");
    assert_eq!(waiting[0]["key"], "core/10");
    assert!(waiting[0]["reason"].as_str().unwrap().contains("REPLICA IDENTITY FULL"), "{waiting:#?}");

    stage.ask(&["backfill", "core"]).await.unwrap();
    stage.assert_exact().await.unwrap();
    assert_eq!(essay(&stage, 10).await.unwrap(), "xyz☃".repeat(500));
    assert_eq!(stage.ask(&["quarantine", "list"]).await.unwrap(), Vec::<Value>::new());
}

/// The trait `essay` of an identity as ClickHouse shows it.
async fn essay(stage: &Stage, id: i64) -> Result<String, Failure> {
    let query = format!("SELECT traits.essay FROM rollcall.IDENTITIES FINAL WHERE id = '{id}' FORMAT TSVRaw");
    Ok(stage.clickhouse(&query).await?.trim_end_matches('\n').to_owned())
}

async fn parked(stage: &Stage) -> Result<i64, Failure> {
    stage.ask(&["status"]).await?[0]["parked"].as_i64().ok_or_else(|| "no number".into())
}
