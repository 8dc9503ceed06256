//! The lake as others read it: DuckDB and pyarrow by its manifests, and ClickHouse, which fills tables of its own from it by
//! the statements of `schemas/clickhouse/lake`. All of them find what Rollcall's own tables say.

use std::path::Path;
use std::process::{Command, Stdio};

use rollcall_e2e::{Failure, Lake, lake};
use rollcall_test_servers::readers_python;
use serde_json::Value;

use crate::stage::{LOG, Stage};

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/read_lake.py");
const TABLES: [&str; 4] = ["identities", "memberships", "membership_changes", "segment_counts"];
/// Of the sink's inserts: text that looks like a date stays text.
const AS_THE_SINK: &str = "input_format_try_infer_dates=0&input_format_try_infer_datetimes=0";

/// What a reader finds: rows per table, who lives, who is a member.
fn read(reader: &str, folder: &Path) -> Value {
    let output = Command::new(readers_python())
        .args([SCRIPT, reader])
        .arg(folder)
        .stdin(Stdio::null())
        .output()
        .expect("a Python that starts");
    assert!(output.status.success(), "{reader}: {}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("JSON")
}

fn rows_of(lake: &Lake, table: &str) -> u64 {
    let manifest = lake.manifest(table).expect("a manifest");
    manifest["files"].as_array().expect("files").iter().filter_map(|file| file["rows"].as_u64()).sum()
}

/// A database like the sink's, filled by ClickHouse itself from the files that are listed.
async fn fill_by_itself(stage: &Stage, lake: &Lake) -> Result<(), Failure> {
    let clickhouse = &stage.clickhouse;
    lake::query(clickhouse, "", "CREATE DATABASE by_itself").await?;
    for table in ["IDENTITIES", "members_by_segment", "members_by_identity"] {
        lake::query(clickhouse, "", &format!("CREATE TABLE by_itself.{table} AS rollcall.{table}")).await?;
    }
    let identities = include_str!("../../../../schemas/clickhouse/lake/identities.sql");
    let members = include_str!("../../../../schemas/clickhouse/lake/members.sql");
    let columns = "environment_id, id, identifier, identity_key, traits_json, traits_tagged, system_traits, inserted_at, \
                   is_deleted, source, partition, seq, log_id";
    let copy = lake.copy("identities")?;
    let select = identities.replace("{from}", &lake::files_of(copy.path()));
    lake::query(clickhouse, AS_THE_SINK, &format!("INSERT INTO by_itself.IDENTITIES ({columns}) {select}"))
        .await?;
    let copy = lake.copy("membership_changes")?;
    let select = members.replace("{from}", &lake::files_of(copy.path()));
    for table in ["members_by_segment", "members_by_identity"] {
        lake::query(clickhouse, "", &format!("INSERT INTO by_itself.{table} {select}")).await?;
    }
    lake::query(clickhouse, "", "CREATE DATABASE at_first").await?;
    lake::query(clickhouse, "", "CREATE TABLE at_first.members_by_segment AS rollcall.members_by_segment")
        .await?;
    let at_first = include_str!("../../../../schemas/clickhouse/lake/members_at_first.sql");
    let copy = lake.copy("memberships")?;
    let select = at_first.replace("{from}", &lake::files_of(copy.path()));
    lake::query(clickhouse, "", &format!("INSERT INTO at_first.members_by_segment {select}")).await?;
    Ok(())
}

/// Who is in what in a database, and since when.
async fn members_of(stage: &Stage, database: &str) -> Result<String, Failure> {
    let sql = format!(
        "SELECT segment_id, environment_id, platform_environment_id, id, since, source, partition, log_id \
         FROM {database}.members_by_segment FINAL WHERE is_deleted = 0 ORDER BY ALL FORMAT JSONCompactEachRow"
    );
    lake::query(&stage.clickhouse, "", &sql).await
}

/// What readers of a database see, row by row.
async fn seen(stage: &Stage, database: &str) -> Result<Vec<String>, Failure> {
    let mut all = Vec::new();
    for (table, columns) in [
        (
            "IDENTITIES",
            "environment_id, id, identifier, identity_key, traits::String, traits_tagged, system_traits, inserted_at, source, \
             partition, seq",
        ),
        ("members_by_segment", "*"),
        ("members_by_identity", "*"),
    ] {
        let sql = format!(
            "SELECT {columns} FROM {database}.{table} FINAL WHERE is_deleted = 0 ORDER BY ALL FORMAT JSONCompactEachRow"
        );
        let rows = lake::query(&stage.clickhouse, "", &sql).await?;
        assert!(!rows.is_empty(), "{database}.{table} shows nothing");
        all.extend(rows.lines().map(|row| format!("{table} {row}")));
    }
    Ok(all)
}

/// The same rows for everybody, before a compaction and after it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn others_read_what_the_tables_say() {
    let lake = Lake::start();
    let mut stage = Stage::set_beside(71, LOG, Some((&lake, lake.sink(&lake.s3.url())))).await.unwrap();
    stage.start().await.unwrap();
    stage.live().await.unwrap();
    stage.settle().await.unwrap();
    stage.churn(80).await.unwrap();
    stage.assert_exact().await.unwrap();
    Lake::wait_until_listed(&stage.worker).await.unwrap();

    fill_by_itself(&stage, &lake).await.unwrap();
    let (by_itself, by_the_sink) =
        (seen(&stage, "by_itself").await.unwrap(), seen(&stage, "rollcall").await.unwrap());
    for (found, expected) in by_itself.iter().zip(&by_the_sink) {
        assert_eq!(found, expected);
    }
    assert_eq!(by_itself.len(), by_the_sink.len());
    assert_eq!(
        members_of(&stage, "at_first").await.unwrap(),
        members_of(&stage, "rollcall").await.unwrap(),
        "from sets alone"
    );

    let before = read("duckdb", &lake.path());
    for _ in 0..2 {
        let images = lake::clickhouse_images(&stage.clickhouse).await.unwrap();
        let members = lake.members(&stage.clickhouse).await.unwrap();
        let members: usize = members.values().map(|ids| ids.len()).sum();
        for reader in ["duckdb", "pyarrow"] {
            let found = read(reader, &lake.path());
            for table in TABLES {
                assert_eq!(found["rows"][table].as_u64(), Some(rows_of(&lake, table)), "{reader}: {table}");
            }
            let living = found["living"].as_array().expect("a list");
            assert_eq!(living.len(), images.len(), "{reader}");
            for one in living {
                let key = (one[0].as_str().unwrap().to_owned(), one[1].as_str().unwrap().to_owned());
                assert_eq!(
                    one[2].as_str(),
                    images.get(&key).map(|image| image.0.as_str()),
                    "{reader}: {key:?}"
                );
            }
            assert_eq!(found["members"].as_array().map(Vec::len), Some(members), "{reader}");
        }
        stage.ask(&["lake", "compact"]).await.unwrap();
        stage.ask(&["lake", "verify"]).await.unwrap();
    }
    let after = read("duckdb", &lake.path());
    assert_eq!(before["living"], after["living"], "a compaction changes nothing that is seen");
    assert_eq!(before["members"], after["members"]);
}
