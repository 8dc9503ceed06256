//! A lake on an S3 of a test's own, read as anybody would read it: by its manifests, and its files by ClickHouse.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rollcall_test_servers::{ClickHouse, S3};
use serde_json::Value;
use tempfile::TempDir;
use tokio::time::sleep;

use crate::sets::Members;
use crate::{Failure, Worker};

const BUCKET: &str = "flags";
const PREFIX: &str = "lake";
/// Of the sink's inserts: text that looks like a date or a number stays text.
const AS_THE_SINK: &str = "input_format_try_infer_dates=0&input_format_try_infer_datetimes=0\
                           &input_format_json_try_infer_numbers_from_strings=0";
const POLL: Duration = Duration::from_millis(100);
/// How long anything that should happen may take.
const PATIENCE: Duration = Duration::from_secs(120);

/// An S3 with a bucket for a lake.
#[derive(Debug)]
pub struct Lake {
    /// The server.
    pub s3: S3,
}

/// The newest row of an identity in an environment, in ClickHouse's words.
pub type Images = BTreeMap<(String, String), (String, String, String)>;

impl Lake {
    /// Starts one, with the bucket.
    #[must_use]
    pub fn start() -> Self {
        let s3 = S3::start();
        s3.make_bucket(BUCKET);
        Self { s3 }
    }

    /// Its line among the sinks of a topology; files are small and come often. `endpoint` is the server's, or a proxy's.
    #[must_use]
    pub fn sink(&self, endpoint: &str) -> String {
        Self::sink_in(endpoint, BUCKET, PREFIX)
    }

    /// The same in another place.
    #[must_use]
    pub fn sink_in(endpoint: &str, bucket: &str, prefix: &str) -> String {
        format!(
            "  lake: {{ type: parquet, bucket: \"s3://{bucket}/{prefix}\", region: us-east-1, endpoint: \"{endpoint}\", \
             access_key_id: \"${{LAKE_KEY_ID}}\", secret_access_key: \"${{LAKE_SECRET}}\", flush_age_ms: 250, \
             file_bytes: 65536, buffer_bytes: 262144, row_group_rows: 1000, zstd_level: 1 }}\n"
        )
    }

    /// What topology.yaml takes from the environment.
    pub fn let_in(&self, worker: &mut Worker) {
        worker.set_variable("LAKE_KEY_ID", self.s3.access_key());
        worker.set_variable("LAKE_SECRET", self.s3.secret_key());
    }

    /// The folder that the server keeps it in.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        self.s3.folder().join(BUCKET).join(PREFIX)
    }

    fn folder(&self, table: &str) -> PathBuf {
        self.path().join(table)
    }

    /// Waits until the task `sink/lake` of one of the workers has listed everything.
    ///
    /// # Errors
    /// When that takes too long; with what it says of itself.
    pub async fn wait_until_listed(worker: &Worker) -> Result<(), Failure> {
        let started = Instant::now();
        // What it said before everything had been written counts for nothing.
        sleep(Duration::from_millis(1_500)).await;
        loop {
            let status = worker.get("status").await?;
            let tasks = status["tasks"].as_array().cloned().unwrap_or_default();
            let task = tasks.into_iter().find(|task| task["task"] == "sink/lake").unwrap_or_default();
            if task["state"] == "running" && task["lag_records"] == 0 {
                return Ok(());
            }
            if started.elapsed() > PATIENCE {
                return Err(format!("the lake is behind: {task:#}\n{}", worker.log_tail()).into());
            }
            sleep(POLL).await;
        }
    }

    /// Waits until it says that nothing of a source is missing up to a time.
    ///
    /// # Errors
    /// When that takes too long.
    pub async fn wait_until_as_of(&self, source: &str, at_us: i64) -> Result<(), Failure> {
        let started = Instant::now();
        loop {
            let as_of = self.manifest("segment_counts")?["as_of_us"].clone();
            if as_of[source].as_i64() >= Some(at_us) {
                return Ok(());
            }
            if started.elapsed() > PATIENCE {
                return Err(format!("the lake says {as_of} of {source}, and never {at_us}").into());
            }
            sleep(POLL).await;
        }
    }

    /// The newest manifest of a table.
    ///
    /// # Errors
    /// When there is none, or it can't be read.
    pub fn manifest(&self, table: &str) -> Result<Value, Failure> {
        let folder = self.folder(table).join("manifests");
        let names = std::fs::read_dir(&folder)?.collect::<Result<Vec<_>, _>>()?;
        let newest = names.into_iter().map(|entry| entry.path()).max().ok_or("there is no manifest")?;
        Ok(serde_json::from_slice(&std::fs::read(newest)?)?)
    }

    /// The files that a table lists, each with the first and the last commit, per partition in order.
    ///
    /// # Errors
    /// When the manifest can't be read.
    pub fn files(&self, table: &str) -> Result<Vec<PathBuf>, Failure> {
        let manifest = self.manifest(table)?;
        let root = self.path();
        let files = manifest["files"].as_array().ok_or("a manifest lists no files")?;
        files.iter().map(|file| Ok(root.join(file["object"].as_str().ok_or("no object")?))).collect()
    }

    /// Copies of the files that a table lists, in a folder of their own.
    ///
    /// # Errors
    /// When one of them isn't there.
    pub fn copy(&self, table: &str) -> Result<TempDir, Failure> {
        let copy = TempDir::with_prefix("rollcall-lake-")?;
        for (number, file) in self.files(table)?.iter().enumerate() {
            std::fs::copy(file, copy.path().join(format!("{number}.parquet")))
                .map_err(|error| format!("{}: {error}", file.display()))?;
        }
        Ok(copy)
    }

    /// Who is in which segment, by the newest set of each identity.
    ///
    /// # Errors
    /// When ClickHouse can't read the files.
    pub async fn members(&self, clickhouse: &ClickHouse) -> Result<Members, Failure> {
        let copy = self.copy("memberships")?;
        let rows = query(
            clickhouse,
            "",
            &format!(
                "SELECT s, newest.1, id FROM (SELECT id, argMax((platform_environment_id, \
                 arrayMap(s -> s.segment_id, segments)), inserted_at) AS newest FROM {} GROUP BY id, source) \
                 ARRAY JOIN newest.2 AS s FORMAT JSONCompactEachRow",
                files_of(copy.path())
            ),
        )
        .await?;
        let mut members = Members::new();
        for line in rows.lines() {
            let (segment, environment, id): (String, String, String) = serde_json::from_str(line)?;
            let fresh = members.entry((segment.parse()?, environment.parse()?)).or_default().insert(id);
            assert!(fresh, "the lake lists {line} twice");
        }
        Ok(members)
    }

    /// The newest image of each identity that is there: environment's key, id; identifier, traits, version.
    ///
    /// # Errors
    /// When ClickHouse can't read the files.
    pub async fn images(&self, clickhouse: &ClickHouse) -> Result<Images, Failure> {
        let copy = self.copy("identities")?;
        images(
            clickhouse,
            &format!(
                "SELECT environment_id, id, n.1, CAST(n.2, 'JSON(max_dynamic_paths = 256)')::String, toString(n.3) FROM (SELECT environment_id, id, \
                 argMax((identifier, traits, inserted_at, is_deleted), inserted_at) AS n FROM {} \
                 GROUP BY environment_id, id) WHERE n.4 = 0 FORMAT JSONCompactEachRow",
                files_of(copy.path())
            ),
        )
        .await
    }

    /// Events that stand in the files of `membership_changes`, and how often each.
    ///
    /// # Errors
    /// When ClickHouse can't read the files.
    pub async fn events(&self, clickhouse: &ClickHouse) -> Result<BTreeSet<String>, Failure> {
        let copy = self.copy("membership_changes")?;
        let rows =
            query(clickhouse, "", &format!("SELECT event_id FROM {} FORMAT TSV", files_of(copy.path())))
                .await?;
        let mut events = BTreeSet::new();
        for event in rows.lines() {
            assert!(events.insert(event.to_owned()), "event {event} stands in the lake twice");
        }
        Ok(events)
    }
}

/// The images that readers of ClickHouse's own table see, in the same words.
///
/// # Errors
/// When it doesn't answer.
pub async fn clickhouse_images(clickhouse: &ClickHouse) -> Result<Images, Failure> {
    images(
        clickhouse,
        "SELECT environment_id, id, identifier, traits::String, toString(inserted_at) FROM rollcall.IDENTITIES FINAL \
         WHERE is_deleted = 0 FORMAT JSONCompactEachRow",
    )
    .await
}

async fn images(clickhouse: &ClickHouse, sql: &str) -> Result<Images, Failure> {
    let mut images = Images::new();
    for line in query(clickhouse, AS_THE_SINK, sql).await?.lines() {
        let (environment, id, identifier, traits, version): (String, String, String, String, String) =
            serde_json::from_str(line)?;
        let fresh = images.insert((environment, id), (identifier, traits, version)).is_none();
        assert!(fresh, "{line} stands there twice");
    }
    Ok(images)
}

/// A folder of Parquet files as a table of ClickHouse.
#[must_use]
pub fn files_of(folder: &Path) -> String {
    format!("file('{}/*.parquet', Parquet)", folder.display())
}

/// What ClickHouse answers; `settings` of the query as a URL has them, `a=1&b=2`.
///
/// # Errors
/// What it says against it.
pub async fn query(clickhouse: &ClickHouse, settings: &str, sql: &str) -> Result<String, Failure> {
    let url = format!("{}/?session_timezone=UTC&{settings}", clickhouse.url());
    let answer = reqwest::Client::new().post(url).body(sql.to_owned()).send().await?;
    let status = answer.status();
    let text = answer.text().await?;
    if status.is_success() { Ok(text) } else { Err(format!("{text}\n{sql}").into()) }
}

/// Compares images one by one, and names who differs.
///
/// # Panics
/// When some do.
pub fn assert_same_images(found: &Images, expected: &Images) {
    let keys: BTreeSet<_> = found.keys().chain(expected.keys()).collect();
    let differ: Vec<_> = keys.into_iter().filter(|key| found.get(*key) != expected.get(*key)).collect();
    let shown: Vec<_> = differ.iter().take(5).map(|key| (key, found.get(*key), expected.get(*key))).collect();
    assert!(differ.is_empty(), "{} images differ in the lake and in ClickHouse: {shown:#?}", differ.len());
}
