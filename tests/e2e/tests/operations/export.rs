//! Exports of the table as DynamoDB makes them, in a local folder.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use flate2::Compression;
use flate2::write::GzEncoder;
use md5::{Digest as _, Md5};
use rollcall_e2e::{Failure, TABLE, Table};
use rollcall_model::Item;
use serde_json::json;

use crate::edge_stage::{EdgeStage, emulator};
use crate::stage::start;

/// Items of a data file.
const FILE_ITEMS: usize = 70;

/// A full export: these items as they were at a time (`2026-11-04T07:28:34.028Z`). Gives its own folder.
fn export(bucket: &Path, id: &str, items: &[Item], at: &str) -> Result<PathBuf, Failure> {
    let folder = bucket.join("AWSDynamoDB").join(id);
    fs::create_dir_all(folder.join("data"))?;
    let mut list = String::new();
    for (number, items) in items.chunks(FILE_ITEMS).enumerate() {
        let mut gzip = GzEncoder::new(Vec::new(), Compression::fast());
        for item in items {
            writeln!(gzip, "{}", json!({ "Item": item }))?;
        }
        let bytes = gzip.finish()?;
        let key = format!("AWSDynamoDB/{id}/data/{number:04}.json.gz");
        list += &json!({ "itemCount": items.len(), "md5Checksum": md5(&bytes), "etag": "e-1", "dataFileS3Key": key })
            .to_string();
        list += "\n";
        fs::write(bucket.join(key), bytes)?;
    }
    let table = format!("arn:aws:dynamodb:us-east-1:000000000000:table/{TABLE}");
    let summary = json!({
        "version": "2020-06-30", "exportArn": format!("{table}/export/{id}"), "startTime": at, "endTime": at,
        "tableArn": table, "tableId": "12345a12-abcd-123a-ab12-1234abc12345", "exportTime": at,
        "s3Bucket": "exports", "s3Prefix": null, "s3SseAlgorithm": "AES256", "s3SseKmsKeyId": null,
        "manifestFilesS3Key": format!("AWSDynamoDB/{id}/manifest-files.json"), "billedSizeBytes": 1,
        "itemCount": items.len(), "outputFormat": "DYNAMODB_JSON",
    });
    for (name, text) in [("manifest-files", list), ("manifest-summary", summary.to_string())] {
        fs::write(folder.join(format!("{name}.md5")), md5(text.as_bytes()))?;
        fs::write(folder.join(format!("{name}.json")), text)?;
    }
    Ok(folder)
}

fn md5(bytes: &[u8]) -> String {
    STANDARD.encode(Md5::digest(bytes))
}

/// An export is the first load: what the stream wrote and deleted after it wins. One from before the stream began is
/// refused, and so is one of which a file is not what its checksum says.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_export_is_the_first_load() {
    let dynamodb = emulator();
    let mut stage = EdgeStage::set(68, Table::new(&dynamodb.url()), "first_load: by_hand").await.unwrap();
    let bucket = tempfile::tempdir().unwrap();
    let items = stage.table.items().await.unwrap();
    let now_us = stage.now_us().await.unwrap();
    let old = stage.time_of(now_us).await.unwrap();
    let old = export(bucket.path(), "old", &items, &old).unwrap();
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
    let broken = export(bucket.path(), "broken", &items, &at).unwrap();
    fs::write(broken.join("data/0001.json.gz"), b"no gzip").unwrap();
    let sound = export(bucket.path(), "sound", &items, &at).unwrap();
    stage.churn(60).await.unwrap();
    let (code, _, said) = stage.worker.say(&["backfill", "edge", "--from", path(&broken)]).await.unwrap();
    assert!(code == 1 && said.contains("0001.json.gz"), "{said}");
    let plan = stage.ask(&["backfill", "edge", "--from", path(&sound), "--plan"]).await.unwrap().remove(0);
    assert_eq!(plan["items"], items.len(), "{plan:#}");
    stage.ask(&["backfill", "edge", "--from", path(&sound)]).await.unwrap();
    stage.assert_exact().await.unwrap();
    assert!(stage.edge().await.unwrap()["missing"].is_null());
}

fn path(path: &Path) -> &str {
    path.to_str().expect("a path in UTF-8")
}
