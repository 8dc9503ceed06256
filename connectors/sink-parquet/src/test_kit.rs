//! What tests of several modules share.

use std::collections::BTreeSet;
use std::path::Path;

use rollcall_aws::{AwsConfig, Credentials};
use rollcall_columns::{LAKE_TABLES, LakeTable, lake_records};
use rollcall_model::archive::{Archive, Cut};
use rollcall_model::{
    Cause, CountRecord, CountState, Delivery, Fault, FaultKind, Fingerprint, IdentityRecord, IdentityState,
    Image, LogId, MembershipChange, NativeId, OutRecord, Partition, Place, Seen, Seq, Topic, Traits, Value,
    Version,
};
use rollcall_test_servers::S3;

use crate::config::{Compression, LakeConfig, Location};
use crate::file::FileReader;
use crate::manifest::{Manifest, Tables};
use crate::objects::Objects;
use crate::sink::LakeSink;

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

pub(crate) fn log() -> LogId {
    LogId("log-1".to_owned())
}

pub(crate) fn table(name: &str) -> &'static LakeTable {
    let table = LAKE_TABLES.iter().find(|table| table.name == name).unwrap();
    LakeTable::of(table.topic).unwrap()
}

/// An identity with one trait; deleted if that is empty.
pub(crate) fn identity(seq: u64, version: i64, id: &str, text: &str) -> OutRecord {
    let image = Image {
        environment_id: "1".into(),
        identifier: format!("user-{id}"),
        traits: Traits::from([("t".to_owned(), Value::Str(text.to_owned()))]),
        system_traits: Traits::new(),
    };
    let deleted = text.is_empty();
    OutRecord::Identity(IdentityRecord {
        log_id: log(),
        partition: Partition(0),
        seq: Seq(seq),
        version: Version(version),
        deleted,
        source: "core".into(),
        id: NativeId::Text(id.into()),
        environment_key: Some("env".to_owned()),
        identity_key: Some(format!("env_user-{id}")),
        state: if deleted { IdentityState::Deleted } else { IdentityState::Live(image) },
        left_environment_keys: BTreeSet::new(),
        place: Place { epoch: 0, offset: seq },
        parked: Vec::new(),
        seen: Seen::default(),
    })
}

pub(crate) fn count(seq: u64, partition: u16, segment: &str, count: u64) -> OutRecord {
    OutRecord::Count(CountRecord {
        log_id: log(),
        segment_id: segment.into(),
        environment_id: "1".into(),
        partition: Partition(partition),
        count,
        fingerprint: Fingerprint(count),
        seq: Seq(seq),
        state: CountState::Live,
    })
}

pub(crate) fn change(seq: u64, version: i64, id: &str, at_us: i64) -> OutRecord {
    OutRecord::MembershipChange(MembershipChange {
        event_id: format!("log-1-0-{seq}-{id}"),
        log_id: log(),
        environment_id: "1".into(),
        environment_key: "env".to_owned(),
        source: "core".into(),
        id: NativeId::Text(id.into()),
        identifier: format!("user-{id}"),
        identity_key: format!("env_user-{id}"),
        version: Version(version),
        seq: Seq(seq),
        changed: BTreeSet::new(),
        entered: vec!["s".into()],
        left: Vec::new(),
        cause: Cause::Change,
        at_us,
        position: String::new(),
    })
}

pub(crate) fn cut(topic: Topic, partition: u16, first: u64, last: u64) -> Cut {
    let until = Place { epoch: 0, offset: last };
    Cut { topic, partition: Partition(partition), first: Seq(first), last: Seq(last), until }
}

pub(crate) fn take(sink: &mut LakeSink, topic: Topic, partition: u16, records: &[OutRecord]) {
    for record in records {
        let (partition, place) = (Partition(partition), Place::default());
        sink.take(&Delivery { topic, partition, place, record: record.clone() }).unwrap();
    }
}

/// Uploads and lists cuts.
pub(crate) async fn keep(sink: &mut LakeSink, cuts: &[Cut]) {
    sink.upload(cuts).await.unwrap();
    sink.list(cuts).await.unwrap();
}

/// A sink that was prepared.
pub(crate) async fn prepared(config: &LakeConfig) -> LakeSink {
    let mut sink = LakeSink::new(config.clone());
    sink.prepare(&log(), 4).await.unwrap();
    sink
}

pub(crate) async fn newest(config: &LakeConfig, table: &str) -> Manifest {
    let tables = Tables::new(Objects::open(config).await.unwrap());
    tables.newest(table, None).await.unwrap().unwrap().manifest
}

/// Every record of a table, file by file.
pub(crate) async fn records(config: &LakeConfig, name: &str) -> Vec<OutRecord> {
    let objects = Objects::open(config).await.unwrap();
    let spool = tempfile::TempDir::new().unwrap();
    let mut records = Vec::new();
    for file in newest(config, name).await.files {
        let path = spool.path().join("file");
        assert_eq!(objects.download(&file.object, &path).await.unwrap(), Some(file.bytes), "{}", file.object);
        for batch in FileReader::open(&path, table(name)).unwrap() {
            records.extend(lake_records(table(name), &batch.unwrap()).unwrap());
        }
    }
    records
}
