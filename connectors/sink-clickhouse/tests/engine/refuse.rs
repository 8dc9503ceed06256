//! What the sink refuses, and what it says.

use rollcall_model::{Fault, FaultKind, LogId, Sink, Traits};
use rollcall_sink_clickhouse::{ClickHouseSink, ClickHouseSinkConfig, Preset, setup_sql};
use rollcall_test_servers::ClickHouse;

use crate::kit::*;

async fn refused(server: &ClickHouse) -> String {
    let fault = sink(server).prepare(&log_id(), PARTITIONS).await.unwrap_err();
    assert_eq!(fault.kind, FaultKind::Refused, "{fault}");
    fault.to_string()
}

fn assert_says(fault: &str, words: &[&str]) {
    for word in words {
        assert!(fault.contains(word), "'{word}' is not in: {fault}");
    }
}

#[tokio::test]
async fn tables_that_would_lose_rows() {
    let server = ClickHouse::temporary();
    drop(prepared(&server).await);
    let good: Vec<String> = rows(
        &server,
        "SELECT replaceRegexpOne(create_table_query, ' SETTINGS .*$', '') FROM system.tables \
         WHERE database = 'rollcall' AND name = 'IDENTITIES'",
    )
    .await;
    let version_key = "ReplacingMergeTree(inserted_at, is_deleted)";
    let cases = [
        (
            "ORDER BY (environment_id, id)",
            "ORDER BY (environment_id, identifier)",
            "ORDER BY (environment_id, identifier)",
        ),
        ("ORDER BY (environment_id, id)", "ORDER BY environment_id", "ORDER BY (environment_id)"),
        ("ORDER BY (environment_id, id)", "ORDER BY (environment_id, lower(id))", "lower(id)"),
        ("ORDER BY (environment_id, id)", "ORDER BY (environment_id, id, source)", "id, source"),
        ("ORDER BY", "PARTITION BY toYYYYMM(inserted_at) ORDER BY", "PARTITION BY something of inserted_at"),
        (version_key, "MergeTree", "engine MergeTree"),
        (version_key, "ReplacingMergeTree(inserted_at)", "deletion mark"),
        (version_key, "ReplacingMergeTree(ingested_at)", "version"),
        ("`traits_tagged` String, ", "", "no column traits_tagged"),
        ("`seq` UInt64", "`seq` UInt32", "column seq UInt32"),
        ("String EPHEMERAL '{}'", "String", "looks like a date"),
        (
            "CAST(traits_json, 'JSON(max_dynamic_paths = 256)')",
            "CAST(traits_json, 'JSON')",
            "the same type twice",
        ),
    ];
    for (from, to, said) in cases {
        run(&server, "DROP TABLE rollcall.IDENTITIES SYNC").await;
        assert!(good[0].contains(from), "{from} is not in {}", good[0]);
        run(&server, &good[0].replace(from, to)).await;
        assert_says(&refused(&server).await, &["rollcall.IDENTITIES", said, "rollcall rebuild clickhouse"]);
    }
}

#[tokio::test]
async fn an_operators_own_storage_choices_are_kept() {
    let server = ClickHouse::temporary();
    run(&server, "CREATE DATABASE rollcall").await;
    let setup = setup_sql(Preset::Native, "default")
        .replace("max_dynamic_paths = 256", "max_dynamic_paths = 8, plan String");
    let setup = setup.replace(
        "ORDER BY (environment_id, id)",
        "PARTITION BY sipHash64(environment_id) % 4 ORDER BY (environment_id, id)",
    );
    for statement in
        setup.split(";\n").map(str::trim).filter(|s| s.starts_with("--") && s.contains("IDENTITIES\n("))
    {
        run(&server, &statement.replace("NOT EXISTS IDENTITIES", "NOT EXISTS rollcall.IDENTITIES")).await;
    }
    let mut sink = prepared(&server).await;
    sink.write(&[of_identity(live(1, "env1", 1, Traits::new()))]).await.unwrap();
    let kept: Vec<String> = rows(
        &server,
        "SELECT type FROM system.columns WHERE database = 'rollcall' AND table = 'IDENTITIES' AND name = 'traits'",
    )
    .await;
    assert_eq!(kept, ["JSON(max_dynamic_paths=8, plan String)"]);
}

#[tokio::test]
async fn another_log() {
    let server = ClickHouse::temporary();
    drop(prepared(&server).await);
    let fault = sink(&server).prepare(&LogId("log-b".into()), PARTITIONS).await.unwrap_err();
    assert_eq!(fault.kind, FaultKind::Refused);
    assert_says(&fault.to_string(), &["log-a", "log-b", "rollcall rebuild clickhouse"]);
    // The same log goes on.
    drop(prepared(&server).await);
}

#[tokio::test]
async fn rows_of_nobody_knows_which_log() {
    let server = ClickHouse::temporary();
    let mut sink = prepared(&server).await;
    sink.write(&[of_identity(live(1, "env1", 1, Traits::new()))]).await.unwrap();
    run(&server, "DROP TABLE rollcall.sink SYNC").await;
    assert_says(&refused(&server).await, &["IDENTITIES", "which log", "rollcall rebuild clickhouse"]);
}

#[tokio::test]
async fn the_platforms_own_table_stands_where_the_view_belongs() {
    let server = ClickHouse::temporary();
    run(
        &server,
        "CREATE TABLE default.IDENTITIES (environment_id String, identifier String, inserted_at DateTime) \
         ENGINE = ReplacingMergeTree(inserted_at) ORDER BY (environment_id, identifier)",
    )
    .await;
    let fault = refused(&server).await;
    let repair = "RENAME TABLE `default`.IDENTITIES TO `default`.IDENTITIES_before_rollcall";
    assert_says(&fault, &["ReplacingMergeTree", repair, "writers off"]);
    run(&server, repair).await;
    drop(prepared(&server).await);
    // And the view is its own afterwards.
    drop(prepared(&server).await);
}

#[tokio::test]
async fn settings_that_can_not_be() {
    let server = ClickHouse::temporary();
    let kind = |fault: Fault| (fault.kind, fault.to_string());
    for url in ["localhost:8123", "ftp://h", "http://user:secret@h:8123", ""] {
        let fault = ClickHouseSink::connect(ClickHouseSinkConfig::new("ch", url)).unwrap_err();
        let (kind, text) = kind(fault);
        assert_eq!(kind, FaultKind::Config);
        assert!(!text.contains("secret"), "{text}");
    }
    for (database, said) in [("nowhere", "CREATE DATABASE `nowhere`"), ("rollcall", "can't be rollcall")] {
        let mut config = config(&server, Preset::Flagsmith);
        config.database = database.into();
        let mut sink = ClickHouseSink::connect(config).unwrap();
        let (kind, text) = kind(sink.prepare(&log_id(), PARTITIONS).await.unwrap_err());
        assert_eq!(kind, FaultKind::Config, "{text}");
        assert_says(&text, &[said]);
    }
}

/// What `setup --print-sql` prints is what `prepare` would make.
#[tokio::test]
async fn the_printed_setup_is_taken_as_it_is() {
    let (printed, prepared_by_us) = (ClickHouse::temporary(), ClickHouse::temporary());
    let mut database = "default".to_owned();
    for statement in
        setup_sql(Preset::Flagsmith, "default").split(";\n").map(str::trim).filter(|s| !s.is_empty())
    {
        match statement.strip_prefix("USE ") {
            Some(name) => database = name.trim_matches('`').to_owned(),
            None => {
                let client = clickhouse::Client::default().with_url(printed.url()).with_database(&database);
                client.query_raw(statement).execute().await.unwrap();
            }
        }
    }
    let tables = "SELECT database, name, create_table_query FROM system.tables \
                  WHERE database IN ('rollcall', 'default') ORDER BY database, name";
    drop(prepared(&prepared_by_us).await);
    let ours: Vec<(String, String, String)> = rows(&prepared_by_us, tables).await;
    assert_eq!(rows::<(String, String, String)>(&printed, tables).await, ours);
    assert_eq!(ours.len(), 7);
    drop(prepared(&printed).await);
}
