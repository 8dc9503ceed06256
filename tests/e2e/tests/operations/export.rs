//! Exports of the table as DynamoDB makes them, in a local folder.

use std::fs;
use std::path::{Path, PathBuf};

use rollcall_dynamo_sim::export::Export;
use rollcall_e2e::Table;
use rollcall_model::Item;
use serde_json::json;

use crate::edge_stage::{EdgeStage, emulator};
use crate::stage::start;

/// Items of a data file.
const FILE_ITEMS: usize = 70;

/// A full export: these items as they were at a time (`2026-11-04T07:28:34.028Z`). Gives its own folder.
fn export(bucket: &Path, id: &str, items: &[Item], at: &str) -> PathBuf {
    let line = |item: &Item| json!({ "Item": item }).to_string();
    let files: Vec<Vec<String>> =
        items.chunks(FILE_ITEMS).map(|items| items.iter().map(line).collect()).collect();
    let mut export = Export::full(&files);
    export.say("exportTime", at);
    export.write(&bucket.join(id))
}

/// An export is the first load: what the stream wrote and deleted after it wins. One from before the stream began is
/// refused, and so is one of which a file is not what its checksum says.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_export_is_the_first_load() {
    let dynamodb = emulator();
    let mut stage = EdgeStage::set(68, Table::new(&dynamodb.url()), "first_load: by_hand").await.unwrap();
    let bucket = tempfile::tempdir().unwrap();
    let items = stage.table.items().await.unwrap();
    // Longer before the stream's beginning than clocks may differ, however soon the worker starts.
    let old = stage.time_of(stage.now_us().await.unwrap() - 60_000_000).await.unwrap();
    let old = export(bucket.path(), "old", &items, &old);
    start(&mut stage.worker).await.unwrap();
    stage.until("source/edge", "running").await.unwrap();
    stage.churn(30).await.unwrap();
    // The slack lies between them.
    stage.until_edge_as_of(stage.now_us().await.unwrap() + 2_000_000).await.unwrap();
    assert_eq!(stage.edge().await.unwrap()["missing"], "nothing was loaded yet");

    let (code, _, said) = stage.worker.say(&["backfill", "edge", "--from", path(&old)]).await.unwrap();
    assert!(code == 1 && said.contains("the stream is read from"), "{said}");
    let at = stage.time_of(stage.now_us().await.unwrap()).await.unwrap();
    let items = stage.table.items().await.unwrap();
    let broken = export(bucket.path(), "broken", &items, &at);
    let second = fs::read_dir(broken.join("data")).unwrap().map(|entry| entry.unwrap().path());
    let second = second.max().expect("data files");
    fs::write(&second, b"no gzip").unwrap();
    let second = second.file_name().and_then(|name| name.to_str()).expect("a name").to_owned();
    let sound = export(bucket.path(), "sound", &items, &at);
    stage.churn(60).await.unwrap();
    let (code, _, said) = stage.worker.say(&["backfill", "edge", "--from", path(&broken)]).await.unwrap();
    assert!(code == 1 && said.contains(&second), "{said}");
    let plan = stage.ask(&["backfill", "edge", "--from", path(&sound), "--plan"]).await.unwrap().remove(0);
    assert_eq!(plan["items"], items.len(), "{plan:#}");
    stage.ask(&["backfill", "edge", "--from", path(&sound)]).await.unwrap();
    stage.assert_exact().await.unwrap();
    assert!(stage.edge().await.unwrap()["missing"].is_null());
}

fn path(path: &Path) -> &str {
    path.to_str().expect("a path in UTF-8")
}
