//! The sink on a folder and on a real S3 server.

use rollcall_model::FaultKind;
use rollcall_test_servers::S3;
use tempfile::TempDir;

use super::*;
use crate::manifest::FORMAT;
use crate::test_kit::{
    count, cut, identity, in_bucket, in_folder, keep, log, newest, prepared, records, says, take,
};

const IDENTITIES: Topic = Topic::Identities;
const COUNTS: Topic = Topic::SegmentCounts;

fn five() -> Vec<OutRecord> {
    (1..=5).map(|n| identity(n, n as i64 * 10, &format!("id-{n}"), "x")).collect()
}

struct Lakes {
    s3: S3,
    _folder: TempDir,
    configs: [LakeConfig; 2],
}

fn lakes() -> Lakes {
    let (s3, folder) = (S3::start(), TempDir::new().unwrap());
    s3.make_bucket("lakes");
    let configs = [in_bucket(&s3, "lakes", &folder.path().join("a")), in_folder(&folder.path().join("lake"))];
    Lakes { s3, _folder: folder, configs }
}

#[tokio::test]
async fn what_was_taken_is_listed_cut_by_cut_and_comes_back() {
    for config in &lakes().configs {
        let mut sink = LakeSink::new(config.clone());
        assert_eq!(sink.prepare(&log(), 4).await.unwrap(), []);
        take(&mut sink, IDENTITIES, 0, &five());
        take(&mut sink, COUNTS, 1, &[count(2, 1, "s", 7)]);
        assert_eq!(sink.buffered((IDENTITIES, Partition(0))).rows, 5);
        let cuts = [cut(IDENTITIES, 0, 1, 3), cut(COUNTS, 1, 1, 4), cut(COUNTS, 2, 1, 9)];
        assert_eq!(sink.upload(&cuts).await.unwrap(), 4);
        assert_eq!(newest(config, "identities").await.files.len(), 0, "uploaded is not listed");
        sink.list(&cuts).await.unwrap();
        assert_eq!(records(config, "identities").await, five()[..3]);
        assert_eq!(records(config, "segment_counts").await, [count(2, 1, "s", 7)]);
        let counts = newest(config, "segment_counts").await;
        assert_eq!((counts.files.len(), counts.empty.len(), counts.untiled()), (1, 1, vec![]));
        assert_eq!(sink.buffered((IDENTITIES, Partition(0))).rows, 2, "what is above the cut stays");
        assert_eq!(sink.buffered((COUNTS, Partition(1))), Buffered::default());
        keep(&mut sink, &[cut(IDENTITIES, 0, 4, 5)]).await;
        assert_eq!(records(config, "identities").await, five());
        assert_eq!(newest(config, "identities").await.untiled(), []);
        assert!(std::fs::read_dir(sink.spool()).unwrap().next().is_none(), "the spool is empty");

        // A restart knows what is covered, and takes none of it again.
        let mut again = LakeSink::new(config.clone());
        let covered = again.prepare(&log(), 4).await.unwrap();
        let at = |seq| Covered { seq: Seq(seq), until: rollcall_model::Place { epoch: 0, offset: seq } };
        assert_eq!(
            covered,
            [
                ((IDENTITIES, Partition(0)), at(5)),
                ((COUNTS, Partition(1)), at(4)),
                ((COUNTS, Partition(2)), at(9))
            ]
        );
        take(&mut again, IDENTITIES, 0, &five());
        assert_eq!(again.buffered((IDENTITIES, Partition(0))), Buffered::default());
    }
}

/// Of each source the highest that was noted; an heir that has read less takes nothing back, a lake begun anew knows nothing.
#[tokio::test]
async fn how_far_the_sources_are_only_grows() {
    let as_of = |core: i64, edge: i64| AsOf::from([("core".into(), core), ("edge".into(), edge)]);
    for config in &lakes().configs {
        let mut sink = prepared(config).await;
        sink.note(&as_of(30, 5)).await.unwrap();
        let number = list_of(config).await.manifest;
        let mut heir = prepared(config).await;
        heir.note(&as_of(20, 9)).await.unwrap();
        sink.note(&as_of(30, 5)).await.unwrap();
        let listed = list_of(config).await;
        assert_eq!((listed.as_of_us, listed.manifest), (as_of(30, 9), number + 1), "once for what is new");
        assert_eq!(*crate::LakeReader::open(config, None).await.unwrap().as_of(), as_of(30, 9));
        heir.reset(&log()).await.unwrap();
        assert_eq!(list_of(config).await.as_of_us, AsOf::new());
    }
}

async fn list_of(config: &LakeConfig) -> crate::ListedTable {
    let tables = crate::list(config).await.unwrap();
    tables.into_iter().find(|table| table.table == "segment_counts").expect("it is listed")
}

#[tokio::test]
async fn a_cut_that_is_made_again_is_the_same_file_listed_once() {
    for config in &lakes().configs {
        let cuts = [cut(IDENTITIES, 0, 1, 3)];
        // Killed after the upload; the heir, and one that was thought dead, do all of it again and again.
        let mut killed = prepared(config).await;
        take(&mut killed, IDENTITIES, 0, &five());
        killed.upload(&cuts).await.unwrap();
        let mut zombie = prepared(config).await;
        take(&mut zombie, IDENTITIES, 0, &five());
        let mut heir = prepared(config).await;
        take(&mut heir, IDENTITIES, 0, &five());
        for _ in 0..2 {
            assert_eq!(heir.upload(&cuts).await.unwrap(), 3);
        }
        keep(&mut heir, &cuts).await;
        keep(&mut heir, &cuts).await;
        keep(&mut zombie, &cuts).await;
        keep(&mut zombie, &[cut(IDENTITIES, 0, 4, 4)]).await;
        let manifest = newest(config, "identities").await;
        assert_eq!((manifest.files.len(), manifest.untiled()), (2, vec![]));
        let objects = Objects::open(config).await.unwrap();
        let there = objects.list("identities/partition=", None).await.unwrap().objects;
        assert_eq!(there.len(), 2, "one object per cut: {there:?}");
        assert_eq!(records(config, "identities").await, five()[..4]);
        // The heir's next cut does not go on where the other's ended.
        let next = [cut(IDENTITIES, 0, 4, 5)];
        heir.upload(&next).await.unwrap();
        let fault = heir.list(&next).await.unwrap_err();
        says(&fault, FaultKind::Refused, "another writer", "rollcall rebuild lake");
    }
}

#[tokio::test]
async fn another_log_another_sink_and_a_newer_format_are_refused() {
    for config in &lakes().configs {
        let mut sink = prepared(config).await;
        take(&mut sink, IDENTITIES, 0, &five());
        keep(&mut sink, &[cut(IDENTITIES, 0, 1, 5)]).await;
        let other = LogId("log-2".to_owned());
        let fault = LakeSink::new(config.clone()).prepare(&other, 4).await.unwrap_err();
        says(&fault, FaultKind::Refused, "log-1, and this log is log-2", "rollcall rebuild lake");
        let second = LakeConfig { name: "second".to_owned(), ..config.clone() };
        let fault = LakeSink::new(second.clone()).prepare(&log(), 4).await.unwrap_err();
        says(&fault, FaultKind::Refused, "written by the sink lake, and this is second", "of its own");
        let tables = Tables::new(Objects::open(config).await.unwrap());
        assert_eq!(newest(config, "identities").await.files.len(), 1, "nothing was changed");

        // A rebuild begins it anew, for whoever says so; the old files stay for readers that have begun.
        let mut taker = LakeSink::new(second.clone());
        taker.reset(&other).await.unwrap();
        assert_eq!(taker.prepare(&other, 4).await.unwrap(), []);
        let anew = newest(config, "identities").await;
        assert_eq!((anew.files.len(), anew.retired.len(), anew.writer.as_str()), (0, 1, "second"));
        let next = [cut(IDENTITIES, 0, 6, 6)];
        take(&mut sink, IDENTITIES, 0, &[identity(6, 60, "late", "x")]);
        sink.upload(&next).await.unwrap();
        let fault = sink.list(&next).await.unwrap_err();
        says(&fault, FaultKind::Refused, "taken over by the sink second", "of its own");

        let newer =
            |current: Option<&Manifest>| Ok(current.map(|m| Manifest { format: FORMAT + 1, ..m.clone() }));
        tables.change("memberships", None, newer).await.unwrap();
        let fault = taker.prepare(&other, 4).await.unwrap_err();
        says(&fault, FaultKind::Refused, "memberships/manifests", "newer one");
    }
}

#[tokio::test]
async fn a_lake_that_begins_anew_with_the_same_log_takes_the_same_files_back() {
    for config in &lakes().configs {
        let cuts = [cut(IDENTITIES, 0, 1, 5)];
        let mut sink = prepared(config).await;
        for _ in 0..2 {
            sink.reset(&log()).await.unwrap();
            assert_eq!(sink.prepare(&log(), 4).await.unwrap(), []);
            take(&mut sink, IDENTITIES, 0, &five());
            keep(&mut sink, &cuts).await;
            let manifest = newest(config, "identities").await;
            assert_eq!((manifest.files.len(), manifest.retired.len()), (1, 0));
            assert_eq!(records(config, "identities").await, five());
        }
    }
}

#[tokio::test]
async fn a_file_that_is_removed_before_it_is_listed_is_made_again() {
    for config in &lakes().configs {
        let mut sink = prepared(config).await;
        take(&mut sink, IDENTITIES, 0, &five());
        let cuts = [cut(IDENTITIES, 0, 1, 5)];
        sink.upload(&cuts).await.unwrap();
        let objects = Objects::open(config).await.unwrap();
        let there = objects.list("identities/partition=", None).await.unwrap().objects;
        objects.delete(&there[0].key).await.unwrap();
        let fault = sink.list(&cuts).await.unwrap_err();
        assert_eq!(fault.kind, FaultKind::Retry, "{fault}");
        assert!(fault.message().contains(&there[0].key), "{fault}");
        assert_eq!(newest(config, "identities").await.files, []);
        assert_eq!(sink.upload(&cuts).await.unwrap(), 5);
        sink.list(&cuts).await.unwrap();
        assert_eq!(records(config, "identities").await, five());
    }
}

#[tokio::test]
async fn while_the_store_is_away_nothing_is_lost() {
    let mut lakes = lakes();
    let config = lakes.configs[0].clone();
    let mut sink = prepared(&config).await;
    take(&mut sink, IDENTITIES, 0, &five());
    let cuts = [cut(IDENTITIES, 0, 1, 5)];
    lakes.s3.kill9();
    let fault = sink.upload(&cuts).await.unwrap_err();
    assert_eq!(fault.kind, FaultKind::Retry, "{fault}");
    assert_eq!(sink.buffered((IDENTITIES, Partition(0))).rows, 5);
    lakes.s3.start_again();
    sink.upload(&cuts).await.unwrap();
    lakes.s3.kill9();
    let fault = sink.list(&cuts).await.unwrap_err();
    assert_eq!(fault.kind, FaultKind::Retry, "{fault}");
    lakes.s3.start_again();
    sink.list(&cuts).await.unwrap();
    assert_eq!(records(&config, "identities").await, five());
}

#[tokio::test]
async fn a_lake_that_can_not_be_says_so_before_anything_is_taken() {
    let lakes = lakes();
    let mut missing = lakes.configs[0].clone();
    missing.location = crate::config::Location::parse("s3://nowhere/lake").unwrap();
    let fault = LakeSink::new(missing).prepare(&log(), 4).await.unwrap_err();
    says(&fault, FaultKind::Config, "NoSuchBucket", "aws s3 mb s3://nowhere");
    let mut spool = lakes.configs[1].clone();
    spool.spool = std::path::PathBuf::from("/dev/null/spool");
    let fault = LakeSink::new(spool).prepare(&log(), 4).await.unwrap_err();
    says(&fault, FaultKind::Retry, "/dev/null/spool", "spool");
}

#[tokio::test]
async fn a_table_that_vanishes_under_the_sink_is_not_begun_again() {
    let lakes = lakes();
    let config = &lakes.configs[1];
    let mut sink = prepared(config).await;
    take(&mut sink, IDENTITIES, 0, &five());
    let crate::config::Location::Folder(folder) = &config.location else { panic!("a folder") };
    std::fs::remove_dir_all(folder.join("identities")).unwrap();
    let cuts = [cut(IDENTITIES, 0, 1, 5)];
    sink.upload(&cuts).await.unwrap();
    let fault = sink.list(&cuts).await.unwrap_err();
    says(&fault, FaultKind::Refused, "identities is there no more", "rollcall rebuild lake");
}
