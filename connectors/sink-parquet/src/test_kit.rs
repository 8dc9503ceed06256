//! What tests of several modules share.

use std::path::Path;

use rollcall_aws::{AwsConfig, Credentials};
use rollcall_model::{Fault, FaultKind};
use rollcall_test_servers::S3;

use crate::config::{Compression, LakeConfig, Location};

/// A lake in a folder, its spool beside it.
pub(crate) fn in_folder(lake: &Path) -> LakeConfig {
    LakeConfig {
        name: "lake".to_owned(),
        location: Location::Folder(lake.to_owned()),
        aws: AwsConfig { region: "us-east-1".to_owned(), endpoint: None, credentials: Credentials::Default },
        spool: lake.with_extension("spool"),
        row_group_rows: 1_000,
        compression: Compression { zstd_level: 1 },
        part_bytes: 8 << 20,
        history_days: 7,
        retention_days: 0,
        reader_grace_minutes: 60,
    }
}

/// A lake in a bucket.
pub(crate) fn in_bucket(s3: &S3, bucket: &str, spool: &Path) -> LakeConfig {
    let credentials = Credentials::Static {
        access_key_id: s3.access_key().to_owned(),
        secret_access_key: s3.secret_key().to_owned(),
        session_token: None,
    };
    LakeConfig {
        location: Location::Bucket { bucket: bucket.to_owned(), prefix: "deep/lake".to_owned() },
        aws: AwsConfig { region: "us-east-1".to_owned(), endpoint: Some(s3.url()), credentials },
        ..in_folder(spool)
    }
}

/// A fault of a kind, that says what and what repairs it.
pub(crate) fn says(fault: &Fault, kind: FaultKind, what: &str, repair: &str) {
    assert_eq!(fault.kind, kind, "{fault}");
    assert!(fault.message().contains(what), "'{what}' in: {fault}");
    assert!(fault.repair.as_deref().is_some_and(|text| text.contains(repair)), "'{repair}' in: {fault}");
}
