//! Exports as DynamoDB lays them out, by the objects that they put into a bucket.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use flate2::Compression;
use flate2::write::GzEncoder;
use md5::{Digest as _, Md5};
use serde_json::json;

/// The export's id.
pub const ID: &str = "01695097218000-d6299cbd";
/// The prefix that it was asked for with.
pub const PREFIX: &str = "exports/2026";
/// The table.
pub const TABLE: &str = "flagsmith_identities";

/// An export's objects by their keys.
#[derive(Clone, Debug)]
pub struct Export {
    /// What lies in the bucket, by key.
    pub objects: BTreeMap<String, Vec<u8>>,
    summary: serde_json::Value,
    files: Vec<(String, u64)>,
}

/// A whole item, as a full export writes it.
pub fn item(id: &str, n: usize) -> String {
    json!({ "Item": image(id, n) }).to_string()
}

fn image(id: &str, n: usize) -> serde_json::Value {
    json!({
        "composite_key": { "S": id },
        "environment_api_key": { "S": "env" },
        "identifier": { "S": id },
        "django_id": { "NULL": true },
        "identity_traits": { "L": [
            { "M": { "trait_key": { "S": "plan" }, "trait_value": { "S": format!("plan-{}", n % 7) } } },
            { "M": { "trait_key": { "S": "age" }, "trait_value": { "N": (n % 90).to_string() } } },
            { "M": { "trait_key": { "S": "beta" }, "trait_value": { "BOOL": n.is_multiple_of(2) } } }
        ] }
    })
}

/// An item that was written in the window, as an incremental export writes it.
pub fn written(id: &str, n: usize) -> String {
    let mut line = change(id);
    line["NewImage"] = image(id, n);
    line["OldImage"] = image(id, n + 1);
    line.to_string()
}

/// An item that was deleted in the window.
pub fn deleted(id: &str, with_old: bool) -> String {
    let mut line = change(id);
    if with_old {
        line["OldImage"] = image(id, 0);
    }
    line.to_string()
}

fn change(id: &str) -> serde_json::Value {
    json!({
        "Metadata": { "WriteTimestampMicros": { "N": "1695097218000000" } },
        "Keys": { "composite_key": { "S": id } }
    })
}

/// Bytes, compressed.
pub fn gzip(text: &[u8]) -> Vec<u8> {
    let mut gzip = GzEncoder::new(Vec::new(), Compression::default());
    gzip.write_all(text).expect("no disk trouble");
    gzip.finish().expect("no disk trouble")
}

/// A checksum as manifests give it.
pub fn md5(bytes: &[u8]) -> String {
    STANDARD.encode(Md5::digest(bytes))
}

impl Export {
    /// The table as of 2026-11-04T07:28:34.028Z; the lines of each of its files.
    pub fn full(files: &[Vec<String>]) -> Self {
        let mut summary = Self::summary_of("2020-06-30");
        summary["exportTime"] = "2026-11-04T07:28:34.028Z".into();
        Self::of(summary, &format!("{PREFIX}/AWSDynamoDB/{ID}/data"), files)
    }

    /// What was written from seven to eight that morning.
    pub fn incremental(files: &[Vec<String>]) -> Self {
        let mut summary = Self::summary_of("2023-08-01");
        summary["exportFromTime"] = "2026-11-04T07:00:00.000Z".into();
        summary["exportToTime"] = "2026-11-04T08:00:00.000Z".into();
        summary["exportType"] = "INCREMENTAL_EXPORT".into();
        summary["outputView"] = "NEW_AND_OLD_IMAGES".into();
        Self::of(summary, &format!("{PREFIX}/AWSDynamoDB/data"), files)
    }

    fn summary_of(version: &str) -> serde_json::Value {
        let table = format!("arn:aws:dynamodb:eu-west-2:123456789012:table/{TABLE}");
        json!({
            "version": version,
            "exportArn": format!("{table}/export/{ID}"),
            "startTime": "2026-11-04T09:28:34.028Z",
            "endTime": "2026-11-04T09:33:43.897Z",
            "tableArn": table,
            "tableId": "12345a12-abcd-123a-ab12-1234abc12345",
            "s3Bucket": "exports-bucket",
            "s3Prefix": PREFIX,
            "s3SseAlgorithm": "AES256",
            "s3SseKmsKeyId": null,
            "manifestFilesS3Key": format!("{PREFIX}/AWSDynamoDB/{ID}/manifest-files.json"),
            "billedSizeBytes": 0,
            "outputFormat": "DYNAMODB_JSON"
        })
    }

    fn of(summary: serde_json::Value, data: &str, files: &[Vec<String>]) -> Self {
        let mut made = Self { objects: BTreeMap::new(), summary, files: Vec::new() };
        let mut bytes = 0;
        for (n, lines) in files.iter().enumerate() {
            let text: String = lines.iter().map(|line| format!("{line}\n")).collect();
            bytes += text.len();
            let key = format!("{data}/{n:04}mvxyz4ym.json.gz");
            made.objects.insert(key.clone(), gzip(text.as_bytes()));
            made.files.push((key, lines.len() as u64));
        }
        made.summary["billedSizeBytes"] = bytes.into();
        made.objects.insert(made.key("_started"), Vec::new());
        made.seal();
        made
    }

    /// The key of a file of the export's own folder.
    pub fn key(&self, name: &str) -> String {
        format!("{PREFIX}/AWSDynamoDB/{ID}/{name}")
    }

    /// The key of a data file.
    pub fn data(&self, file: usize) -> String {
        self.files[file].0.clone()
    }
    /// Puts other bytes in the place of a data file, as if DynamoDB had written them.
    pub fn rewrite(&mut self, file: usize, bytes: Vec<u8>) {
        self.objects.insert(self.data(file), bytes);
        self.seal();
    }
    /// Changes the summary.
    pub fn say(&mut self, name: &str, value: &str) {
        self.summary[name] = value.into();
        self.seal();
    }

    /// Writes manifests and checksums anew.
    fn seal(&mut self) {
        let list: String = self
            .files
            .iter()
            .map(|(key, items)| {
                let bytes = &self.objects[key];
                let etag = format!("{:x?}-1", Md5::digest(bytes).first());
                let line =
                    json!({ "itemCount": items, "md5Checksum": md5(bytes), "etag": etag, "dataFileS3Key": key });
                format!("{line}\n")
            })
            .collect();
        self.summary["itemCount"] = self.files.iter().map(|(_, items)| items).sum::<u64>().into();
        for (name, bytes) in [
            ("manifest-files", list.into_bytes()),
            ("manifest-summary", self.summary.to_string().into_bytes()),
        ] {
            self.objects.insert(self.key(&format!("{name}.md5")), md5(&bytes).into_bytes());
            self.objects.insert(self.key(&format!("{name}.json")), bytes);
        }
    }

    /// Lays a copy of the bucket down in a folder, and says where the export is in it.
    pub fn write(&self, folder: &Path) -> PathBuf {
        for (key, bytes) in &self.objects {
            let path = folder.join(key);
            fs::create_dir_all(path.parent().expect("no disk trouble")).expect("no disk trouble");
            fs::write(path, bytes).expect("no disk trouble");
        }
        folder.join(PREFIX).join("AWSDynamoDB").join(ID)
    }
}

/// Files of so many items each, named by file and line.
pub fn numbered(sizes: &[usize]) -> Vec<Vec<String>> {
    let file = |(f, size): (usize, &usize)| (0..*size).map(|n| item(&format!("env_{f}-{n}"), n)).collect();
    sizes.iter().enumerate().map(file).collect()
}
