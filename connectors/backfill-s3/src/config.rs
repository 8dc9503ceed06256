//! What reading an export takes, and where it lies.

use std::path::PathBuf;

use rollcall_aws::AwsConfig;
use rollcall_model::Fault;

/// Items of a page, if the topology says nothing.
pub const DEFAULT_PAGE_ITEMS: usize = 1_000;
/// Files read at a time, if the topology says nothing: one per core of a small machine, and one that downloads.
pub const DEFAULT_FILES_IN_FLIGHT_MAX: usize = 3;
/// A page ends with the line that reaches this.
pub const PAGE_BYTES_MAX: usize = 4 << 20;
/// A longer line is no item of DynamoDB: those have at most 400 KB, twice in an incremental export, and JSON may write
/// a byte as six.
pub const LINE_BYTES_MAX: usize = 8 << 20;

/// What reading an export takes.
#[derive(Clone, Debug)]
pub struct ExportConfig {
    /// `s3://bucket/prefix/AWSDynamoDB/<export id>`, or a local copy of that folder, as a path or `file://`.
    pub location: String,
    /// How to reach S3. With an endpoint of one's own, buckets are addressed by path.
    pub aws: AwsConfig,
    /// The table that it must be of: a name, or an ARN.
    pub table: String,
    /// The attribute that is the table's key.
    pub key: &'static str,
    /// Items of a page, at most.
    pub page_items: usize,
    /// Files read at a time, at most.
    pub files_in_flight_max: usize,
    /// What DynamoDB's clocks may differ by.
    pub clock_slack_ms: u64,
    /// Where files from S3 lie while they are read.
    pub spool: PathBuf,
}

/// Where an export lies.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Location {
    /// A folder here.
    Folder(PathBuf),
    /// Keys under `prefix`, which ends without a slash.
    Bucket { bucket: String, prefix: String },
}

impl Location {
    /// Reads what a person wrote: also with a slash at the end, or with the name of the manifest.
    pub(crate) fn parse(text: &str) -> Result<Self, Fault> {
        let wrong = |why: &str| {
            Fault::config(format!("'{text}' is no place of an export: {why}")).repair(
                "give s3://BUCKET/PREFIX/AWSDynamoDB/EXPORT-ID, or the path of a local copy of that folder",
            )
        };
        let folder = text.trim();
        let folder = folder.strip_suffix("manifest-summary.json").unwrap_or(folder);
        if folder.is_empty() {
            return Err(wrong("it is empty"));
        }
        if let Some(rest) = folder.strip_prefix("s3://") {
            return match rest.trim_end_matches('/').split_once('/') {
                Some((bucket, prefix)) if !bucket.is_empty() && !prefix.is_empty() => {
                    Ok(Self::Bucket { bucket: bucket.to_owned(), prefix: prefix.to_owned() })
                }
                Some(_) | None => Err(wrong("it names a bucket but no export in it")),
            };
        }
        if let Some(path) = folder.strip_prefix("file://") {
            return if path.starts_with('/') {
                Ok(Self::folder(path))
            } else {
                Err(wrong("a file:// address has an absolute path"))
            };
        }
        match folder.split_once("://") {
            Some((scheme, _)) => Err(wrong(&format!("{scheme}:// is not known"))),
            None => Ok(Self::folder(folder)),
        }
    }

    fn folder(path: &str) -> Self {
        let bare = path.trim_end_matches('/');
        Self::Folder(PathBuf::from(if bare.is_empty() { path } else { bare }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_a_bucket_with_a_prefix_or_a_folder() {
        let bucket = Location::Bucket { bucket: "b".to_owned(), prefix: "p/AWSDynamoDB/01-a".to_owned() };
        for text in [
            "s3://b/p/AWSDynamoDB/01-a",
            "s3://b/p/AWSDynamoDB/01-a/",
            "s3://b/p/AWSDynamoDB/01-a/manifest-summary.json",
        ] {
            assert_eq!(Location::parse(text).unwrap(), bucket, "{text}");
        }
        for text in ["/x/y", "file:///x/y", "/x/y/", "/x/y/manifest-summary.json"] {
            assert_eq!(Location::parse(text).unwrap(), Location::Folder(PathBuf::from("/x/y")), "{text}");
        }
        assert_eq!(Location::parse("x").unwrap(), Location::Folder(PathBuf::from("x")));
        for text in ["", "s3://", "s3://b", "s3://b/", "s3:///p", "https://b/p", "file://x"] {
            let fault = Location::parse(text).unwrap_err();
            assert!(fault.repair.unwrap().contains("AWSDynamoDB/EXPORT-ID"), "{text}");
        }
    }
}
