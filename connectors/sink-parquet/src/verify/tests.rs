//! Damage of every kind is named.

use std::path::PathBuf;

use rollcall_model::Topic;
use tempfile::TempDir;

use super::*;
use crate::test_kit::{count, cut, identity, in_folder, keep, newest, prepared, take};

struct Lake {
    folder: TempDir,
    config: LakeConfig,
}

/// Two files of identities, three of counts in two partitions, and ranges without rows.
async fn lake() -> Lake {
    let folder = TempDir::new().unwrap();
    let config = in_folder(&folder.path().join("lake"));
    let mut sink = prepared(&config).await;
    let identities: Vec<_> =
        (1..=300).map(|n| identity(n, n as i64, &format!("id-{}", n % 50), "some text")).collect();
    take(&mut sink, Topic::Identities, 0, &identities);
    let counts: Vec<_> = (1..=9).map(|n| count(n, 2, "s", n)).collect();
    take(&mut sink, Topic::SegmentCounts, 2, &counts);
    let first = [
        cut(Topic::Identities, 0, 1, 200),
        cut(Topic::Identities, 1, 1, 9),
        cut(Topic::SegmentCounts, 2, 1, 5),
    ];
    keep(&mut sink, &first).await;
    keep(&mut sink, &[cut(Topic::Identities, 0, 201, 300), cut(Topic::SegmentCounts, 2, 6, 9)]).await;
    Lake { folder, config }
}

impl Lake {
    async fn file(&self, table: &str, n: usize) -> PathBuf {
        self.folder.path().join("lake").join(&newest(&self.config, table).await.files[n].object)
    }

    async fn report(&self) -> VerifyReport {
        verify(&self.config, &mut |_| {}).await.unwrap()
    }

    /// The one thing that is wrong.
    async fn problem(&self) -> Problem {
        let report = self.report().await;
        let [problem] = report.problems.as_slice() else { panic!("{report:?}") };
        assert!(!report.is_sound());
        problem.clone()
    }

    async fn edit(&self, table: &str, mut edit: impl FnMut(&mut Manifest) + Send) {
        let tables = Tables::new(Objects::open(&self.config).await.unwrap());
        let change = tables.change(table, None, |current| {
            let mut next = current.unwrap().clone();
            edit(&mut next);
            Ok(Some(next))
        });
        change.await.unwrap();
    }
}

#[tokio::test]
async fn a_sound_lake_is_sound() {
    let lake = lake().await;
    let mut seen = Vec::new();
    let report = verify(&lake.config, &mut |progress| seen.push(progress)).await.unwrap();
    assert!(report.is_sound(), "{report:?}");
    let rows: Vec<_> =
        report.tables.iter().map(|table| (table.table.as_str(), table.files, table.rows)).collect();
    assert_eq!(
        rows,
        [
            ("identities", 2, 300),
            ("memberships", 0, 0),
            ("membership_changes", 0, 0),
            ("segment_counts", 2, 9)
        ]
    );
    let last = seen.last().unwrap();
    assert_eq!((seen.len(), last.files, last.bytes), (4, last.files_of, last.bytes_of));
    assert!(std::fs::read_dir(&lake.config.spool).unwrap().all(|entry| entry.unwrap().file_name() == "cuts"));
}

#[tokio::test]
async fn a_file_that_is_gone_cut_short_or_altered_is_named() {
    let lake = lake().await;
    let file = lake.file("identities", 1).await;
    let sound = std::fs::read(&file).unwrap();
    let name = file.display().to_string();
    let half = sound[..sound.len() / 2].to_vec();
    let mut altered = sound.clone();
    altered[sound.len() / 3] ^= 1;
    let damages: [(Option<Vec<u8>>, &str); 4] = [
        (None, "is listed but not there"),
        (Some(half), "bytes instead of"),
        (Some(altered), "sha256"),
        (Some(Vec::new()), "0 bytes instead of"),
    ];
    for (damage, what) in damages {
        match damage {
            Some(bytes) => std::fs::write(&file, bytes).unwrap(),
            None => std::fs::remove_file(&file).unwrap(),
        }
        let problem = lake.problem().await;
        assert_eq!(problem.object.as_deref(), Some(name.as_str()));
        assert!(problem.what.contains(what) && !problem.what.contains("verify-"), "{problem:?}");
        assert!(
            problem.repair.contains("rollcall rebuild lake") && problem.repair.contains(&name),
            "{problem:?}"
        );
    }
    std::fs::write(&file, sound).unwrap();
    assert!(lake.report().await.is_sound());
}

#[tokio::test]
async fn a_manifest_that_says_other_than_its_files_is_told() {
    type Edit = fn(&mut Manifest);
    let edits: [(Edit, &str); 7] = [
        (|m| m.files[0].rows += 1, "it has 5 rows, and the manifest says 6"),
        (|m| m.files[0].max_version += 1, "lowest and highest version"),
        (|m| m.files[0].range.first_seq.0 = 2, "commits 1 to 1 of partition 2 are in no file"),
        (|m| drop(m.files.remove(0)), "commits 1 to 5 of partition 2 are in no file"),
        (|m| m.files[1].range.first_seq.0 = 5, "commits 5 to 5 of partition 2 are in more than one"),
        (|m| m.covered.clear(), "not among those covered"),
        (|m| m.files[1].parts = 2, "have not all of their files"),
    ];
    for (edit, what) in edits {
        let lake = lake().await;
        lake.edit("segment_counts", edit).await;
        let report = lake.report().await;
        assert!(report.problems.iter().any(|problem| problem.what.contains(what)), "'{what}' in {report:?}");
    }
}

#[tokio::test]
async fn rows_that_belong_elsewhere_are_told() {
    let lake = lake().await;
    lake.edit("segment_counts", |m| {
        for file in &mut m.files {
            file.range.partition.0 = 1;
        }
        let reach = m.covered.remove(&rollcall_model::Partition(2)).unwrap();
        m.covered.insert(rollcall_model::Partition(1), reach);
    })
    .await;
    let report = lake.report().await;
    assert_eq!(report.problems.len(), 2, "{report:?}");
    assert!(
        report.problems.iter().all(|problem| problem.what.contains("a row of partition 2")),
        "{report:?}"
    );
}

#[tokio::test]
async fn tables_that_don_t_belong_together_and_strays_are_told() {
    let lake = lake().await;
    let stray = lake.file("identities", 0).await.with_file_name("stray.parquet");
    std::fs::write(stray, "x").unwrap();
    let report = lake.report().await;
    assert_eq!(
        (report.is_sound(), report.tables[0].strays),
        (true, 1),
        "a stray is nobody's, and harms nobody"
    );
    std::fs::remove_dir_all(lake.folder.path().join("lake/memberships")).unwrap();
    assert!(lake.problem().await.what.contains("has no manifest"));
    lake.edit("segment_counts", |m| m.log_id.0.push('x')).await;
    let report = lake.report().await;
    assert!(
        report.problems.iter().any(|p| p.table == "segment_counts" && p.what.contains("log-1x")),
        "{report:?}"
    );
}

#[tokio::test]
async fn no_lake_is_no_sound_lake() {
    let folder = TempDir::new().unwrap();
    let fault = verify(&in_folder(&folder.path().join("lake")), &mut |_| {}).await.unwrap_err();
    crate::test_kit::says(&fault, FaultKind::Refused, "there is no lake", "start the sink lake");
}
