//! What a lake is told by the topology.

use std::path::PathBuf;

use rollcall_aws::AwsConfig;
use rollcall_model::Fault;

/// Where a lake lies.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Location {
    /// A bucket and a prefix in it, without slashes at its ends; it may be empty.
    Bucket {
        /// The bucket.
        bucket: String,
        /// The prefix.
        prefix: String,
    },
    /// A folder of this machine.
    Folder(PathBuf),
}

impl Location {
    /// Reads `s3://bucket/prefix`, or the path of a folder.
    ///
    /// # Errors
    /// A [`Fault`] of kind `Config` when there is no bucket's name or it is a URL of another kind.
    pub fn parse(text: &str) -> Result<Self, Fault> {
        let wrong = |why: &str| {
            Fault::config(format!("'{text}' is no place for a lake: {why}"))
                .repair("bucket: s3://BUCKET/PREFIX, or the path of a folder")
        };
        if let Some(rest) = text.strip_prefix("s3://") {
            let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
            if bucket.is_empty() {
                return Err(wrong("the bucket has no name"));
            }
            let prefix = prefix.trim_matches('/').to_owned();
            return Ok(Self::Bucket { bucket: bucket.to_owned(), prefix });
        }
        if text.contains("://") {
            return Err(wrong("only s3:// is known"));
        }
        if text.is_empty() {
            return Err(wrong("it is empty"));
        }
        Ok(Self::Folder(PathBuf::from(text)))
    }
}

/// How pages of a file are compressed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Compression {
    /// zstd's level.
    pub zstd_level: i32,
}

/// A lake.
#[derive(Clone, Debug)]
pub struct LakeConfig {
    /// The sink's name in the topology.
    pub name: String,
    /// Where it lies.
    pub location: Location,
    /// How S3 is reached; of no use for a folder.
    pub aws: AwsConfig,
    /// Where files are made before they are uploaded, and old ones merged.
    pub spool: PathBuf,
    /// Rows of a row group at most.
    pub row_group_rows: usize,
    /// How pages are compressed.
    pub compression: Compression,
    /// Above so many bytes a file is uploaded in parts of that size.
    pub part_bytes: u64,
    /// Older versions that were replaced longer ago than so many days are dropped by a compaction.
    pub history_days: u32,
    /// Files of membership changes go after so many days; never when 0.
    pub retention_days: u32,
    /// What a compaction replaced stays readable for so long.
    pub reader_grace_minutes: u32,
}
