//! The lake's objects: a prefix of a bucket, or a folder, told apart nowhere above this.
//!
//! ```text
//! key ─▶ Objects ─┬─ Bucket: S3 and what speaks like it   put if absent: If-None-Match: *
//!                 └─ Folder: a file per object            put if absent: a whole file gets a name that nobody has
//! ```
//!
//! Keys are relative to the lake (`identities/partition=0/…`), so a lake can be copied elsewhere as it is. An object is
//! never written twice: what is put under a name that is taken is [`Put::AlreadyThere`], also when it is we who took it
//! and the answer was lost. Whoever puts decides what that means: for an object named by its content it is done.
//!
//! Failures that may pass are tried again here, a bounded number of times; what comes out is a `Fault` that names the
//! object and what repairs it.

mod bucket;
mod folder;
mod multipart;

use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use rollcall_aws::Backoff;
use rollcall_model::{Fault, FaultKind};

use crate::clock::now_us;
use crate::config::{LakeConfig, Location};

pub(crate) use bucket::Bucket;
pub(crate) use folder::Folder;

/// Failures in a row after which the caller is told.
const FAILURES_MAX: u32 = 5;
const PAUSE_FIRST_MS: u64 = 200;
const PAUSE_MAX_MS: u64 = 5_000;
/// An upload that was begun so long ago, by the store's clock, is no living writer's.
const ABANDONED_AGE_US: i64 = 3_600_000_000;

/// What became of a put.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Put {
    /// It is there now, whole and durable.
    Written,
    /// Something has that name; it was left as it is.
    AlreadyThere,
}

/// An object that is there.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Object {
    /// Its key, relative to the lake.
    pub(crate) key: String,
    /// Its size.
    pub(crate) bytes: u64,
    /// When it was written, by the store's clock, in microseconds since 1970.
    pub(crate) modified_us: i64,
}

/// Some objects, in the order of their keys.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Page {
    /// The objects; may be none although more follow.
    pub(crate) objects: Vec<Object>,
    /// After which key the next page begins; `None` after the last.
    pub(crate) next: Option<String>,
}

/// Where a lake's objects lie. Clones share their connections.
#[derive(Clone, Debug)]
pub(crate) enum Objects {
    /// S3.
    Bucket(Bucket),
    /// A folder.
    Folder(Folder),
}

impl Objects {
    /// Opens the lake's place. A folder is made where there is none; a bucket has to be there at the first use.
    pub(crate) async fn open(config: &LakeConfig) -> Result<Self, Fault> {
        Ok(match &config.location {
            Location::Bucket { bucket, prefix } => {
                Self::Bucket(Bucket::open(&config.aws, bucket, prefix, config.part_bytes).await?)
            }
            Location::Folder(path) => Self::Folder(Folder::open(path).await?),
        })
    }

    /// Opens it to be read: where there is no folder, none is made.
    pub(crate) async fn look(config: &LakeConfig) -> Result<Self, Fault> {
        match &config.location {
            Location::Bucket { .. } => Self::open(config).await,
            Location::Folder(path) => Ok(Self::Folder(Folder::look(path))),
        }
    }

    /// What people call it: `s3://bucket/prefix/key`, or a path.
    pub(crate) fn name(&self, key: &str) -> String {
        match self {
            Self::Bucket(bucket) => bucket.name(key),
            Self::Folder(folder) => folder.name(key),
        }
    }

    /// Writes a small object, unless there is one of that name.
    pub(crate) async fn put_if_absent(&self, key: &str, bytes: Bytes) -> Result<Put, Fault> {
        match self {
            Self::Bucket(bucket) => patiently(|| bucket.put_if_absent(key, bytes.clone())).await,
            Self::Folder(folder) => patiently(|| folder.put_if_absent(key, bytes.clone())).await,
        }
    }

    /// Writes a file as an object that is named by its content. One of that name must have the file's size.
    pub(crate) async fn upload_file(&self, key: &str, file: &Path) -> Result<Put, Fault> {
        let put = match self {
            Self::Bucket(bucket) => patiently(|| bucket.upload_file(key, file)).await?,
            Self::Folder(folder) => patiently(|| folder.upload_file(key, file)).await?,
        };
        if put == Put::AlreadyThere {
            self.same_size(key, file).await?;
        }
        Ok(put)
    }

    async fn same_size(&self, key: &str, file: &Path) -> Result<(), Fault> {
        let local = tokio::fs::metadata(file).await.map_err(|e| spool_fault(file, e))?.len();
        let name = self.name(key);
        match self.head(key).await?.map(|object| object.bytes) {
            Some(there) if there == local => Ok(()),
            Some(there) => Err(Fault::refused(format!(
                "{name} is named by its content, which has {local} bytes, but is {there} bytes: something else changed it"
            ))
            .repair(format!("see who writes there, and remove it: it is made again; {name}"))),
            // A compaction took it for a stray.
            None => Err(Fault::retry(format!("{name} was there and is gone"))),
        }
    }

    /// Reads a small object; `None` where there is none.
    pub(crate) async fn get(&self, key: &str, bytes_max: u64) -> Result<Option<Bytes>, Fault> {
        match self {
            Self::Bucket(bucket) => patiently(|| bucket.get(key, bytes_max)).await,
            Self::Folder(folder) => patiently(|| folder.get(key, bytes_max)).await,
        }
    }

    /// Brings an object to a new local file; its size, or `None` where there is none.
    pub(crate) async fn download(&self, key: &str, to: &Path) -> Result<Option<u64>, Fault> {
        match self {
            Self::Bucket(bucket) => bucket.download(key, to).await,
            Self::Folder(folder) => patiently(|| folder.download(key, to)).await,
        }
    }

    /// Looks at an object; `None` where there is none.
    pub(crate) async fn head(&self, key: &str) -> Result<Option<Object>, Fault> {
        match self {
            Self::Bucket(bucket) => patiently(|| bucket.head(key)).await,
            Self::Folder(folder) => patiently(|| folder.head(key)).await,
        }
    }

    /// Objects whose key begins with `prefix` and is greater than `after`, a page of them.
    pub(crate) async fn list(&self, prefix: &str, after: Option<&str>) -> Result<Page, Fault> {
        match self {
            Self::Bucket(bucket) => patiently(|| bucket.list(prefix, after)).await,
            Self::Folder(folder) => patiently(|| folder.list(prefix, after)).await,
        }
    }

    /// Removes an object; that there is none is fine.
    pub(crate) async fn delete(&self, key: &str) -> Result<(), Fault> {
        match self {
            Self::Bucket(bucket) => patiently(|| bucket.delete(key)).await,
            Self::Folder(folder) => patiently(|| folder.delete(key)).await,
        }
    }

    /// Ends uploads under a prefix that a killed writer left, those older than an hour by the store's clock: a living
    /// writer may have younger ones. How many.
    pub(crate) async fn abort_uploads(&self, prefix: &str) -> Result<u64, Fault> {
        match self {
            Self::Bucket(bucket) => patiently(|| bucket.abort_uploads(prefix, ABANDONED_AGE_US)).await,
            Self::Folder(folder) => patiently(|| folder.abort_uploads(prefix, ABANDONED_AGE_US)).await,
        }
    }

    /// How far the store's clock is ahead of this machine's, in microseconds, by its last answer; up to a second off.
    /// `None` before the first answer.
    pub(crate) fn ahead_us(&self) -> Option<i64> {
        match self {
            Self::Bucket(bucket) => bucket.ahead_us(),
            Self::Folder(folder) => Some(folder.ahead_us()),
        }
    }

    /// The time by the store's clock, in microseconds since 1970; by this machine's before the first answer.
    pub(crate) fn now_us(&self) -> i64 {
        now_us().saturating_add(self.ahead_us().unwrap_or_default())
    }
}

/// Tries until it goes well, may not pass, or went wrong too often.
async fn patiently<T, F>(mut attempt: impl FnMut() -> F) -> Result<T, Fault>
where
    F: Future<Output = Result<T, Fault>>,
{
    let mut failures = Failures::default();
    loop {
        match Box::pin(attempt()).await {
            Ok(value) => return Ok(value),
            Err(fault) => failures.pause(fault).await?,
        }
    }
}

/// How often it went wrong in a row.
struct Failures(Backoff);

impl Default for Failures {
    fn default() -> Self {
        Self(Backoff::new(PAUSE_FIRST_MS, PAUSE_MAX_MS))
    }
}

impl Failures {
    /// Waits, if asking again can help and was not tried too often.
    async fn pause(&mut self, fault: Fault) -> Result<(), Fault> {
        if fault.kind != FaultKind::Retry || self.0.failures() >= FAILURES_MAX {
            return Err(fault);
        }
        let pause_ms = self.0.next_ms(rand::random());
        tracing::debug!(pause_ms, "{}", fault.message());
        tokio::time::sleep(Duration::from_millis(pause_ms)).await;
        Ok(())
    }
}

/// A file of the spool folder that can't be written or read.
pub(crate) fn spool_fault(path: &Path, error: std::io::Error) -> Fault {
    Fault::retry(format!("can't use the spool file {}", path.display()))
        .repair("make room there, or name another folder as spool; it must be writable")
        .from_source(error)
}

#[cfg(test)]
mod tests;
