//! Reading a lake back, in a folder: every record, in order, from any cursor, pinned, filtered; what was damaged is named.

use std::collections::BTreeSet;

use rollcall_model::{FaultKind, IdentityState, Member, MembershipRecord, NativeId, Version};
use tempfile::TempDir;

use super::*;
use crate::compact;
use crate::sink::LakeSink;
use crate::test_kit::{count, cut, identity, in_folder, keep, log, newest, prepared, records, says, take};

const IDENTITIES: Topic = Topic::Identities;
const MEMBERSHIPS: Topic = Topic::Memberships;
const FIRST: (Topic, Partition) = (IDENTITIES, Partition(0));

/// Versions of ten identities in five files, and nothing after them.
async fn lake(folder: &TempDir) -> (LakeConfig, LakeSink) {
    let config = in_folder(&folder.path().join("lake"));
    let mut sink = prepared(&config).await;
    for file in 0..5_u64 {
        let (first, last) = (file * 10 + 1, file * 10 + 10);
        let records: Vec<_> = (first..=last)
            .map(|seq| identity(seq, 1_000 * seq.cast_signed(), &format!("id-{}", seq % 10), "x"))
            .collect();
        take(&mut sink, IDENTITIES, 0, &records);
        keep(&mut sink, &[cut(IDENTITIES, 0, first, last)]).await;
    }
    (config, sink)
}

async fn all(reader: &mut LakeReader, at: (Topic, Partition), filter: &ArchiveFilter) -> Vec<OutRecord> {
    let mut read = Vec::new();
    let mut next = Some(ArchiveCursor::default());
    while let Some(cursor) = next {
        let page = reader.read(at, cursor, filter).await.unwrap();
        read.extend(page.deliveries.into_iter().map(|delivery| delivery.record));
        next = page.next;
    }
    read
}

#[tokio::test]
async fn every_record_comes_back_in_order_and_from_any_cursor() {
    let folder = TempDir::new().unwrap();
    let (config, _sink) = lake(&folder).await;
    let mut reader = LakeReader::open(&config, None).await.unwrap();
    assert_eq!(reader.log_id(), &log());
    let covered = Covered { seq: Seq(50), until: Place { epoch: 0, offset: 50 } };
    let [held] = reader.holds() else { panic!("{:?}", reader.holds()) };
    assert_eq!(
        (held.topic, held.partition, held.covered, held.files, held.rows),
        (IDENTITIES, Partition(0), covered, 5, 50)
    );
    let everything = ArchiveFilter::default();
    let whole = all(&mut reader, FIRST, &everything).await;
    assert_eq!(whole, records(&config, "identities").await);

    // In the middle of a file, by a reader that has not read what is before it.
    let pin = reader.pin();
    for row in 0..10 {
        let mut fresh = LakeReader::open(&config, Some(&pin)).await.unwrap();
        let page = fresh.read(FIRST, ArchiveCursor { file: 2, row }, &everything).await.unwrap();
        let rows: Vec<_> = page.deliveries.into_iter().map(|delivery| delivery.record).collect();
        assert_eq!(rows, whole[20 + row as usize..30]);
        assert_eq!(page.next, Some(ArchiveCursor { file: 3, row: 0 }));
    }
    let nothing =
        reader.read((MEMBERSHIPS, Partition(3)), ArchiveCursor::default(), &everything).await.unwrap();
    assert_eq!(nothing, ArchivePage { deliveries: vec![], next: None });
    drop(reader);
    let left = std::fs::read_dir(&config.spool)
        .unwrap()
        .filter(|entry| entry.as_ref().unwrap().file_name().to_string_lossy().starts_with("read-"));
    assert_eq!(left.count(), 0, "the spool is empty");
}

#[tokio::test]
async fn a_pinned_reader_sees_the_lake_as_it_was() {
    let folder = TempDir::new().unwrap();
    let (config, mut sink) = lake(&folder).await;
    let config = LakeConfig { history_days: 0, ..config };
    let mut reader = LakeReader::open(&config, None).await.unwrap();
    let (pin, everything) = (reader.pin(), ArchiveFilter::default());
    let before = all(&mut reader, FIRST, &everything).await;
    take(&mut sink, IDENTITIES, 0, &[identity(51, 99_000, "id-1", "y")]);
    keep(&mut sink, &[cut(IDENTITIES, 0, 51, 51)]).await;
    compact(&config, &mut |_| {}).await.unwrap();
    assert!(newest(&config, "identities").await.files.len() < 5, "compacted");
    assert_eq!(all(&mut reader, FIRST, &everything).await, before);
    let mut pinned = LakeReader::open(&config, Some(&pin)).await.unwrap();
    assert_eq!((all(&mut pinned, FIRST, &everything).await, pinned.pin()), (before, pin.clone()));
    let mut now = LakeReader::open(&config, None).await.unwrap();
    assert_ne!(now.pin(), pin);
    let newest: BTreeSet<_> = all(&mut now, FIRST, &everything).await.iter().map(version).collect();
    assert!(newest.contains(&99_000) && !newest.contains(&1_000), "{newest:?}");

    let gone = pin.replace("identities=", "identities=9");
    says(
        &LakeReader::open(&config, Some(&gone)).await.unwrap_err(),
        FaultKind::Refused,
        "is gone",
        "lake verify",
    );
    let bad = LakeReader::open(&config, Some("identities")).await.unwrap_err();
    assert_eq!(bad.kind, FaultKind::Refused, "{bad}");
}

fn version(record: &OutRecord) -> i64 {
    match record {
        OutRecord::Identity(record) => record.version.0,
        OutRecord::Membership(record) => record.version.0,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn what_was_damaged_or_taken_away_is_named() {
    let folder = TempDir::new().unwrap();
    let (config, _sink) = lake(&folder).await;
    let files = newest(&config, "identities").await.files;
    let path = |n: usize| folder.path().join("lake").join(&files[n].object);
    let mut bytes = std::fs::read(path(1)).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(path(1), &bytes).unwrap();
    std::fs::write(path(2), &bytes[..middle]).unwrap();
    std::fs::remove_file(path(3)).unwrap();
    let mut reader = LakeReader::open(&config, None).await.unwrap();
    let everything = ArchiveFilter::default();
    for (n, what) in [(1, "sha256"), (2, "bytes instead of"), (3, "is gone")] {
        let cursor = ArchiveCursor { file: n, row: 0 };
        let fault = reader.read(FIRST, cursor, &everything).await.unwrap_err();
        says(&fault, FaultKind::Refused, what, "rollcall lake verify");
        assert!(fault.message().contains(&files[n as usize].object), "{fault}");
    }
    assert!(
        reader.read(FIRST, ArchiveCursor { file: 4, row: 0 }, &everything).await.is_ok(),
        "the others are read"
    );
}

#[tokio::test]
async fn a_page_is_bounded_in_bytes_too() {
    let folder = TempDir::new().unwrap();
    let config = in_folder(&folder.path().join("lake"));
    let mut sink = prepared(&config).await;
    let text = "x".repeat(1 << 20);
    let large: Vec<_> =
        (1..=40).map(|seq| identity(seq, seq.cast_signed(), &format!("{seq:02}"), &text)).collect();
    take(&mut sink, IDENTITIES, 0, &large);
    keep(&mut sink, &[cut(IDENTITIES, 0, 1, 40)]).await;
    let mut reader = LakeReader::open(&config, None).await.unwrap();
    let everything = ArchiveFilter::default();
    let (mut next, mut read) = (Some(ArchiveCursor::default()), Vec::new());
    while let Some(cursor) = next {
        let page = reader.read(FIRST, cursor, &everything).await.unwrap();
        assert!((1..=8).contains(&page.deliveries.len()), "{} rows of 1 MiB", page.deliveries.len());
        read.extend(page.deliveries.into_iter().map(|delivery| delivery.record));
        next = page.next;
    }
    assert_eq!(read, large);
}

fn set(seq: u64, version: i64, environment: &str, segments: &[&str]) -> MembershipRecord {
    let member = |segment: &&str| Member {
        segment_id: (*segment).into(),
        since_us: 1,
        sources: vec!["rule".to_owned()],
    };
    MembershipRecord {
        log_id: log(),
        seq: Seq(seq),
        version: Version(version),
        source: "core".into(),
        id: NativeId::Int(1),
        environment_id: environment.into(),
        environment_key: environment.to_owned(),
        identifier: "anna".to_owned(),
        segments: segments.iter().map(member).collect(),
    }
}

#[test]
fn what_left_an_environment_is_gone_from_there() {
    let one = ArchiveFilter { environments: BTreeSet::from(["a".to_owned()]), as_of_us: None };
    let there = OutRecord::Membership(set(1, 1, "a", &["1"]));
    assert_eq!(filter::passes(there.clone(), &one), Some(there.clone()));
    let elsewhere = filter::passes(OutRecord::Membership(set(2, 2, "b", &["1"])), &one);
    assert_eq!(elsewhere, Some(OutRecord::Membership(set(2, 2, "b", &[]))));

    let OutRecord::Identity(image) = identity(3, 3, "x", "text") else { panic!("an identity") };
    let moved = rollcall_model::IdentityRecord {
        left_environment_keys: BTreeSet::from(["a".to_owned(), "c".to_owned()]),
        ..image.clone()
    };
    let Some(OutRecord::Identity(gone)) = filter::passes(OutRecord::Identity(moved), &one) else {
        panic!("it says that it is gone")
    };
    assert_eq!((&gone.state, gone.deleted, gone.environment_key), (&IdentityState::Deleted, true, None));
    assert_eq!(gone.left_environment_keys, BTreeSet::from(["a".to_owned()]));
    assert_eq!(filter::passes(OutRecord::Identity(image), &one), None);
    assert_eq!(filter::passes(count(1, 0, "s", 1), &one), None);

    let then = ArchiveFilter { environments: BTreeSet::new(), as_of_us: Some(2) };
    assert_eq!(filter::passes(there.clone(), &then), Some(there));
    assert_eq!(filter::passes(OutRecord::Membership(set(3, 3, "a", &["1"])), &then), None);
}

#[tokio::test]
async fn a_time_before_the_history_is_refused_and_later_files_are_not_even_brought() {
    let folder = TempDir::new().unwrap();
    let config = in_folder(&folder.path().join("lake"));
    let mut sink = prepared(&config).await;
    let from = newest(&config, "identities").await.history_from_us;
    for (seq, version) in [(1, from - 5), (2, from + 5), (3, from + 50)] {
        take(&mut sink, IDENTITIES, 0, &[identity(seq, version, "id", "x")]);
        keep(&mut sink, &[cut(IDENTITIES, 0, seq, seq)]).await;
    }
    let last = newest(&config, "identities").await.files.pop().unwrap();
    std::fs::remove_file(folder.path().join("lake").join(last.object)).unwrap();
    let mut reader = LakeReader::open(&config, None).await.unwrap();
    assert_eq!(reader.history_from_us(&[IDENTITIES]), from);
    let as_of = |us| ArchiveFilter { as_of_us: Some(us), ..ArchiveFilter::default() };
    let then = all(&mut reader, FIRST, &as_of(from + 10)).await;
    assert_eq!(then.iter().map(version).collect::<Vec<_>>(), [from - 5, from + 5]);
    let fault = reader.read(FIRST, ArchiveCursor::default(), &as_of(from - 1)).await.unwrap_err();
    says(&fault, FaultKind::Refused, "is older", &rollcall_model::time::utc(from));
}
