//! A lake read back: whole, from any cursor, at a pinned moment, filtered; and what is damaged named.

use std::collections::{BTreeMap, BTreeSet};

use rollcall_model::FaultKind;
use rollcall_model::archive::Archive as _;
use tempfile::TempDir;

use super::*;
use crate::compact::compact;
use crate::test_kit::{count, cut, identity, in_folder, keep, log, newest, prepared, says, take};
use rollcall_model::{OutRecord, Seq, Version};

const AT: (Topic, Partition) = (Topic::Identities, Partition(0));

/// Three files of a partition, of some thousand rows, and two counts.
async fn filled(config: &LakeConfig) -> Vec<OutRecord> {
    let mut sink = prepared(config).await;
    let id = |n: u64| format!("id-{:04}", n % 3_000);
    let all: Vec<OutRecord> =
        (1..=9_000).map(|n| identity(n, n as i64, &id(n), if n % 7 == 0 { "" } else { "x" })).collect();
    take(&mut sink, Topic::Identities, 0, &all);
    take(&mut sink, Topic::SegmentCounts, 1, &[count(3, 1, "s", 7), count(9, 1, "s", 8)]);
    for (first, last) in [(1, 10), (11, 6_000), (6_001, 9_000)] {
        keep(&mut sink, &[cut(Topic::Identities, 0, first, last)]).await;
    }
    keep(&mut sink, &[cut(Topic::SegmentCounts, 1, 1, 9)]).await;
    all
}

async fn read(
    reader: &mut LakeReader,
    from: ArchiveCursor,
    filter: &ArchiveFilter,
) -> (Vec<OutRecord>, Vec<(ArchiveCursor, usize)>) {
    let (mut all, mut cursors, mut at) = (Vec::new(), Vec::new(), Some(from));
    while let Some(from) = at {
        cursors.push((from, all.len()));
        let page = reader.read(AT, from, filter).await.unwrap();
        assert!(page.deliveries.iter().all(|d| (d.topic, d.partition) == AT));
        all.extend(page.deliveries.into_iter().map(|delivery| delivery.record));
        at = page.next;
    }
    (all, cursors)
}

fn version(record: &OutRecord) -> (String, i64) {
    let OutRecord::Identity(record) = record else { panic!("{record:?}") };
    (record.id.to_string(), record.version.0)
}

#[tokio::test]
async fn everything_comes_back_from_any_cursor_and_older_versions_first() {
    let folder = TempDir::new().unwrap();
    let config = in_folder(&folder.path().join("lake"));
    let all = filled(&config).await;
    let mut reader = LakeReader::open(&config, None).await.unwrap();
    let held = reader.holds().iter().find(|held| (held.topic, held.partition) == AT).copied().unwrap();
    assert_eq!((held.covered.seq, held.files, held.rows), (Seq(9_000), 3, 9_000));
    let (found, cursors) = read(&mut reader, ArchiveCursor::default(), &ArchiveFilter::default()).await;
    let sorted = |records: &[OutRecord]| records.iter().map(version).collect::<BTreeSet<_>>();
    assert_eq!(found.len(), all.len());
    assert_eq!(sorted(&found), sorted(&all));
    let mut newest: BTreeMap<String, i64> = BTreeMap::new();
    for (id, version) in found.iter().map(version) {
        assert!(newest.insert(id.clone(), version).is_none_or(|before| before < version), "{id} goes back");
    }
    // Killed at any page, another reader goes on with the rest.
    for (cursor, read_before) in cursors {
        let mut again = LakeReader::open(&config, Some(&reader.pin())).await.unwrap();
        let (rest, _) = read(&mut again, cursor, &ArchiveFilter::default()).await;
        assert_eq!(rest, found[read_before..], "{cursor:?}");
    }
}

#[tokio::test]
async fn a_pin_reads_what_was_listed_then_whatever_is_listed_since() {
    let folder = TempDir::new().unwrap();
    let config = LakeConfig { history_days: 0, ..in_folder(&folder.path().join("lake")) };
    let all = filled(&config).await;
    let pin = LakeReader::open(&config, None).await.unwrap().pin();
    compact(&config, &mut |_| {}).await.unwrap();
    let mut then = LakeReader::open(&config, Some(&pin)).await.unwrap();
    let (found, _) = read(&mut then, ArchiveCursor::default(), &ArchiveFilter::default()).await;
    assert_eq!(found.len(), all.len(), "the grace is not over");
    let mut now = LakeReader::open(&config, None).await.unwrap();
    let (found, _) = read(&mut now, ArchiveCursor::default(), &ArchiveFilter::default()).await;
    assert_eq!(found.len(), 3_000, "one row per identity");
    assert!(now.history_from_us() > then.history_from_us());
    let fault = LakeReader::open(&config, Some(r#"{"identities":99}"#)).await.unwrap_err();
    says(&fault, FaultKind::Refused, "manifest 99", "begin again");
}

#[tokio::test]
async fn a_filter_leaves_what_was_so_and_where() {
    let folder = TempDir::new().unwrap();
    let config = in_folder(&folder.path().join("lake"));
    filled(&config).await;
    let mut reader = LakeReader::open(&config, None).await.unwrap();
    let as_of = ArchiveFilter { as_of_us: Some(4_500), ..ArchiveFilter::default() };
    let (found, _) = read(&mut reader, ArchiveCursor::default(), &as_of).await;
    assert_eq!(found.len(), 4_500);
    let elsewhere = ArchiveFilter { environments: BTreeSet::from(["other".to_owned()]), ..as_of };
    assert_eq!(read(&mut reader, ArchiveCursor::default(), &elsewhere).await.0, []);

    let OutRecord::Identity(mut moved) = identity(1, 1, "a", "x") else { panic!() };
    moved.left_environment_keys = BTreeSet::from(["other".to_owned(), "third".to_owned()]);
    let passed =
        filter::pass(OutRecord::Identity(moved), &ArchiveFilter { as_of_us: None, ..elsewhere }).unwrap();
    let Some(OutRecord::Identity(passed)) = passed else { panic!("{passed:?}") };
    assert_eq!((passed.environment_key, passed.version), (None, Version(1)));
    assert_eq!(passed.left_environment_keys, BTreeSet::from(["other".to_owned()]));
}

#[tokio::test]
async fn a_file_that_is_gone_or_altered_is_named() {
    let folder = TempDir::new().unwrap();
    let config = in_folder(&folder.path().join("lake"));
    filled(&config).await;
    let files = newest(&config, "identities").await.files;
    let path = folder.path().join("lake").join(&files[1].object);
    let mut bytes = std::fs::read(&path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&path, bytes).unwrap();
    let mut reader = LakeReader::open(&config, None).await.unwrap();
    let second = ArchiveCursor { file: 1, row: 0 };
    let fault = reader.read(AT, second, &ArchiveFilter::default()).await.unwrap_err();
    says(&fault, FaultKind::Refused, &files[1].object, "rollcall lake verify");
    std::fs::remove_file(&path).unwrap();
    let fault = reader.read(AT, second, &ArchiveFilter::default()).await.unwrap_err();
    says(&fault, FaultKind::Refused, &files[1].object, "rollcall lake verify");
    // Listed no more: nobody damaged anything.
    prepared(&config).await.reset(&log()).await.unwrap();
    let fault = reader.read(AT, second, &ArchiveFilter::default()).await.unwrap_err();
    says(&fault, FaultKind::Refused, "after the grace of readers", "begin again");
}

/// Whoever only looks makes nothing, wherever he looks.
#[tokio::test]
async fn a_place_that_is_no_lake_is_left_as_it_is() {
    let folder = TempDir::new().unwrap();
    let config = in_folder(&folder.path().join("mistyped"));
    let fault = LakeReader::open(&config, None).await.unwrap_err();
    says(&fault, FaultKind::Refused, "there is no lake at", "correct its bucket");
    assert!(!folder.path().join("mistyped").exists());
}

#[tokio::test]
async fn a_page_is_bounded_in_bytes_and_each_record_of_it_stands_somewhere_else() {
    let folder = TempDir::new().unwrap();
    let config = in_folder(&folder.path().join("lake"));
    let mut sink = prepared(&config).await;
    let text = "x".repeat(1 << 20);
    let large: Vec<_> = (1..=40).map(|n| identity(n, n as i64, &format!("{n:02}"), &text)).collect();
    take(&mut sink, Topic::Identities, 0, &large);
    keep(&mut sink, &[cut(Topic::Identities, 0, 1, 40)]).await;
    let mut reader = LakeReader::open(&config, None).await.unwrap();
    let (mut next, mut found, mut places) = (Some(ArchiveCursor::default()), Vec::new(), BTreeSet::new());
    while let Some(from) = next {
        let page = reader.read(AT, from, &ArchiveFilter::default()).await.unwrap();
        assert!((1..=8).contains(&page.deliveries.len()), "{} rows of 1 MiB", page.deliveries.len());
        places.extend(page.deliveries.iter().map(|delivery| delivery.place));
        found.extend(page.deliveries.into_iter().map(|delivery| delivery.record));
        next = page.next;
    }
    assert_eq!((found, places.len()), (large, 40));
}
