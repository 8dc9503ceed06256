//! Files come back as they were written, in order, or are refused by name.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use arrow_array::RecordBatch;
use arrow_select::concat::concat_batches;
use parquet::file::properties::ReaderProperties;
use parquet::file::reader::{FileReader as _, SerializedFileReader};
use parquet::file::serialized_reader::ReadOptionsBuilder;
use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use rand::{RngExt, SeedableRng};
use rollcall_columns::{Column, ColumnType, LAKE_TABLES, LakeTable, TableSchema, lake_batch, lake_records};
use rollcall_model::{
    Cause, CountRecord, CountState, FaultKind, Fingerprint, IdentityRecord, IdentityState, Image, LogId,
    Member, MembershipChange, MembershipRecord, NativeId, OutRecord, Partition, Place, Seen, Seq, Topic,
    Traits, Value, Version,
};

use super::{FileFacts, FileReader, FileSettings, FileWriter, check_file, write_sorted};

const SETTINGS: FileSettings = FileSettings { row_group_rows: 1_000, zstd_level: 3 };

fn table(topic: Topic) -> &'static LakeTable {
    LakeTable::of(topic).unwrap()
}

fn record(topic: Topic, n: i64) -> OutRecord {
    let (log_id, seq, version) = (LogId("log".into()), Seq(n as u64 + 1), Version(1_000_000 + n));
    let (id, key) = (NativeId::Int(n % 700), format!("env{}", n % 5));
    match topic {
        Topic::Identities => OutRecord::Identity(IdentityRecord {
            log_id,
            partition: Partition(3),
            seq,
            version,
            deleted: false,
            source: "core".into(),
            id,
            identity_key: Some(format!("{key}_user{n}")),
            environment_key: Some(key),
            state: IdentityState::Live(Image {
                environment_id: "1".into(),
                identifier: format!("user{n}"),
                traits: Traits::from([("n".into(), Value::Int(n)), ("x".into(), Value::Float(f64::NAN))]),
                system_traits: Traits::new(),
            }),
            left_environment_keys: BTreeSet::from(["old".to_owned()]),
            place: Place { epoch: 0, offset: n as u64 },
            parked: Vec::new(),
            seen: Seen::default(),
        }),
        Topic::Memberships => OutRecord::Membership(MembershipRecord {
            log_id,
            seq,
            version,
            source: "core".into(),
            id,
            environment_id: "1".into(),
            environment_key: key,
            identifier: format!("user{n}"),
            segments: (0..n % 3)
                .map(|s| Member { segment_id: s.into(), since_us: n, sources: vec!["rule".into()] })
                .collect(),
        }),
        Topic::MembershipChanges => OutRecord::MembershipChange(MembershipChange {
            event_id: format!("log-3-{n}-0"),
            log_id,
            environment_id: "1".into(),
            environment_key: key,
            source: "core".into(),
            id,
            identifier: format!("user{n}"),
            identity_key: format!("user{n}"),
            version,
            seq,
            changed: BTreeSet::from(["n".to_owned()]),
            entered: (0..n % 3).map(Into::into).collect(),
            left: Vec::new(),
            cause: Cause::Change,
            at_us: 5_000_000 - n,
            position: "0/1".into(),
        }),
        Topic::SegmentCounts => OutRecord::Count(CountRecord {
            log_id,
            segment_id: (n % 7).into(),
            environment_id: (n % 5).into(),
            partition: Partition(3),
            count: n as u64,
            fingerprint: Fingerprint(u64::MAX - n as u64),
            seq,
            state: CountState::Live,
        }),
        Topic::IdentityChanges
        | Topic::Catalog
        | Topic::CatalogRows
        | Topic::Quarantine
        | Topic::Progress
        | Topic::Checks => unreachable!("no table of the lake"),
    }
}

/// Batches of records in a random order.
fn shuffled(topic: Topic, records: i64) -> Vec<RecordBatch> {
    let mut records: Vec<_> = (0..records).map(|n| record(topic, n)).collect();
    records.shuffle(&mut StdRng::seed_from_u64(7));
    records.chunks(97).map(|records| lake_batch(table(topic), Partition(3), records).unwrap()).collect()
}

fn read(path: &Path, table: &LakeTable) -> RecordBatch {
    let batches: Vec<_> = FileReader::open(path, table).unwrap().map(Result::unwrap).collect();
    concat_batches(&table.schema.arrow(), &batches).unwrap()
}

fn keys(table: &LakeTable, batch: &RecordBatch) -> Vec<Vec<u8>> {
    let rows = super::sort::keys(table, std::slice::from_ref(batch)).unwrap();
    rows[0].iter().map(|row| row.as_ref().to_vec()).collect()
}

fn file() -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.parquet");
    (folder, path)
}

#[test]
fn every_table_comes_back_in_order_with_its_facts() {
    for table in &LAKE_TABLES {
        let (_folder, path) = file();
        let facts = write_sorted(&path, table, &shuffled(table.topic, 3_500), &SETTINGS).unwrap();
        let back = read(&path, table);
        assert_eq!(back.num_rows() as u64, facts.rows);
        assert!(keys(table, &back).is_sorted(), "{}", table.name);
        let mut records = lake_records(table, &back).unwrap();
        let seq = |record: &OutRecord| match record {
            OutRecord::Identity(r) => r.seq,
            OutRecord::Membership(r) => r.seq,
            OutRecord::MembershipChange(r) => r.seq,
            OutRecord::Count(r) => r.seq,
            OutRecord::Watermark(r) => r.seq,
        };
        records.sort_by_key(seq);
        let written: Vec<_> = (0..3_500).map(|n| record(table.topic, n)).collect();
        assert_eq!(records, written);

        assert_eq!(facts.bytes, std::fs::metadata(&path).unwrap().len());
        check_file(&path, facts.bytes, &facts.sha256).unwrap();
        assert_eq!((facts.min_seq, facts.max_seq), (1, 3_500));
        let versions = if table.topic == Topic::SegmentCounts { (1, 3_500) } else { (1_000_000, 1_003_499) };
        assert_eq!((facts.min_version, facts.max_version), versions);
        let events = (table.topic == Topic::MembershipChanges).then_some((5_000_000 - 3_499, 5_000_000));
        assert_eq!(facts.min_event_us.zip(facts.max_event_us), events);
    }
}

#[test]
fn the_same_rows_are_the_same_bytes() {
    for table in &LAKE_TABLES {
        let (folder, path) = file();
        let batches = shuffled(table.topic, 500);
        let facts = write_sorted(&path, table, &batches, &SETTINGS).unwrap();
        // Cut otherwise by the time it is made again.
        let whole = concat_batches(&table.schema.arrow(), &batches).unwrap();
        let again = write_sorted(&folder.path().join("b"), table, &[whole], &SETTINGS).unwrap();
        assert_eq!(facts, again);
    }
}

#[test]
fn a_file_has_what_readers_skip_by() {
    let table = table(Topic::Identities);
    let (_folder, path) = file();
    write_sorted(&path, table, &shuffled(Topic::Identities, 3_500), &SETTINGS).unwrap();
    let blooms = ReaderProperties::builder().set_read_bloom_filter(true).build();
    let options = ReadOptionsBuilder::new().with_page_index().with_reader_properties(blooms).build();
    let file = SerializedFileReader::new_with_options(std::fs::File::open(&path).unwrap(), options).unwrap();
    let metadata = file.metadata();
    // 3,500 identities, each with the row of an environment left.
    assert_eq!(metadata.num_row_groups(), 7);
    let noted: BTreeSet<_> = metadata
        .file_metadata()
        .key_value_metadata()
        .into_iter()
        .flatten()
        .filter(|entry| entry.key.starts_with("rollcall."))
        .map(|entry| (entry.key.as_str(), entry.value.as_deref().unwrap_or_default()))
        .collect();
    let wanted =
        [("rollcall.log_id", "log"), ("rollcall.schema_version", "1"), ("rollcall.table", "identities")];
    assert_eq!(noted, BTreeSet::from(wanted));
    for group in metadata.row_groups() {
        let sorted: Vec<_> = group
            .sorting_columns()
            .unwrap()
            .iter()
            .map(|column| group.column(column.column_idx as usize).column_path().string())
            .collect();
        assert_eq!(sorted, table.sort);
        for column in group.columns() {
            assert!(column.statistics().is_some(), "{}", column.column_path());
            assert!(column.column_index_offset().is_some(), "{}", column.column_path());
            let is_id = column.column_path().string() == "id";
            assert_eq!(column.bloom_filter_offset().is_some(), is_id, "{}", column.column_path());
        }
    }
    let group = file.get_row_group(0).unwrap();
    let bloom = group.get_column_bloom_filter(1).expect("of id");
    assert!(bloom.check(&"0"));
    assert!((10_000..10_100).filter(|n| bloom.check(&n.to_string().as_str())).count() < 20);
}

#[test]
fn reading_goes_on_after_any_row() {
    let table = table(Topic::SegmentCounts);
    let (_folder, path) = file();
    write_sorted(&path, table, &shuffled(Topic::SegmentCounts, 2_500), &SETTINGS).unwrap();
    let whole = read(&path, table);
    for rows in [0, 1, 999, 1_000, 2_001, 2_499, 2_500, 9_999] {
        let reader = FileReader::open_at(&path, table, rows).unwrap();
        assert_eq!((reader.rows(), reader.log_id()), (2_500, Some("log")));
        let batches: Vec<_> = reader.map(Result::unwrap).collect();
        let rest = concat_batches(&table.schema.arrow(), &batches).unwrap();
        let from = (rows as usize).min(2_500);
        assert_eq!(rest, whole.slice(from, 2_500 - from));
    }
}

#[test]
fn a_stream_and_no_rows_are_files_too() {
    let table = table(Topic::MembershipChanges);
    let (_folder, path) = file();
    let facts = FileWriter::create(&path, table, &SETTINGS).unwrap().finish().unwrap();
    let empty = FileFacts { bytes: facts.bytes, sha256: facts.sha256.clone(), ..FileFacts::default() };
    assert_eq!(facts, empty);
    assert_eq!(read(&path, table).num_rows(), 0);

    let mut writer = FileWriter::create(&path, table, &SETTINGS).unwrap();
    let batches = shuffled(Topic::MembershipChanges, 2_000);
    batches.iter().for_each(|batch| writer.push(batch).unwrap());
    assert_eq!(writer.finish().unwrap().rows, 2_000);
    assert_eq!(read(&path, table), concat_batches(&table.schema.arrow(), &batches).unwrap());
}

#[test]
fn what_is_no_row_of_the_file_is_refused() {
    let (_folder, path) = file();
    let mut writer = FileWriter::create(&path, table(Topic::Identities), &SETTINGS).unwrap();
    let fault = writer.push(&shuffled(Topic::Memberships, 1)[0]).unwrap_err();
    assert_eq!(fault.kind, FaultKind::Bug);
    writer.push(&shuffled(Topic::Identities, 1)[0]).unwrap();
    let OutRecord::Identity(mut other) = record(Topic::Identities, 1) else { unreachable!() };
    other.log_id = LogId("other".into());
    let batch = lake_batch(table(Topic::Identities), Partition(3), &[OutRecord::Identity(other)]).unwrap();
    let fault = writer.push(&batch).unwrap_err();
    assert!(fault.to_string().contains("the logs log and other"), "{fault}");
    let wrong = FileSettings { zstd_level: 99, ..SETTINGS };
    let fault = FileWriter::create(&path, table(Topic::Identities), &wrong).unwrap_err();
    assert_eq!(fault.kind, FaultKind::Config);
    let nowhere = Path::new("/nowhere/a.parquet");
    let fault = FileWriter::create(nowhere, table(Topic::Identities), &SETTINGS).unwrap_err();
    assert!(fault.kind == FaultKind::Retry && fault.to_string().contains("/nowhere"), "{fault}");
}

/// All rows, or the fault that reading ended with.
fn all(path: &Path, table: &LakeTable) -> Result<u64, rollcall_model::Fault> {
    FileReader::open(path, table)?.try_fold(0, |rows, batch| Ok(rows + batch?.num_rows() as u64))
}

#[test]
fn a_truncated_or_altered_file_is_named() {
    let table = table(Topic::Memberships);
    let (_folder, path) = file();
    let facts = write_sorted(&path, table, &shuffled(Topic::Memberships, 2_000), &SETTINGS).unwrap();
    let bytes = std::fs::read(&path).unwrap();
    let name = path.display().to_string();
    let check = || check_file(&path, facts.bytes, &facts.sha256);
    for kept in [0, 3, 12, bytes.len() / 2, bytes.len() - 1] {
        std::fs::write(&path, &bytes[..kept]).unwrap();
        for fault in [all(&path, table).unwrap_err(), check().unwrap_err()] {
            assert_eq!(fault.kind, FaultKind::Refused);
            assert!(fault.to_string().contains(&name), "{fault}");
        }
    }
    let seed = rand::random();
    println!("seed {seed}");
    let mut random = StdRng::seed_from_u64(seed);
    for _ in 0..200 {
        let mut altered = bytes.clone();
        let place = random.random_range(0..altered.len());
        altered[place] ^= 1 << random.random_range(0..8);
        std::fs::write(&path, &altered).unwrap();
        // The hash sees every bit. Without it some are read as other values, but nothing panics.
        assert!(check().unwrap_err().to_string().contains(&name));
        if let Err(fault) = all(&path, table) {
            assert_eq!(fault.kind, FaultKind::Refused);
            assert!(fault.to_string().contains(&name), "{fault}");
        }
    }
    std::fs::remove_file(&path).unwrap();
    assert_eq!(all(&path, table).unwrap_err().kind, FaultKind::Retry);
    std::fs::write(&path, &bytes).unwrap();
    check().unwrap();
    assert_eq!(all(&path, table).unwrap(), 2_000);
}

/// A table whose schema has the given columns.
fn with_columns(version: u32, columns: &'static [Column]) -> LakeTable {
    let base = *table(Topic::SegmentCounts);
    LakeTable { schema: TableSchema { name: base.schema.name, version, columns }, ..base }
}

#[test]
fn a_file_of_an_older_version_reads_with_empty_columns_and_of_a_newer_one_not() {
    let old = table(Topic::SegmentCounts);
    let mut columns = old.schema.columns.to_vec();
    for (name, column_type) in [
        ("a", ColumnType::Utf8),
        ("b", ColumnType::UInt8),
        ("c", ColumnType::TimestampUs),
        ("d", ColumnType::List(&ColumnType::Utf8)),
        ("e", ColumnType::Struct(&[Column { name: "f", column_type: ColumnType::UInt64 }])),
    ] {
        columns.push(Column { name, column_type });
    }
    let new = with_columns(2, columns.leak());
    let (_folder, path) = file();
    let batches = shuffled(Topic::SegmentCounts, 1_500);
    write_sorted(&path, old, &batches, &SETTINGS).unwrap();
    let wide = read(&path, &new);
    assert_eq!(wide.num_rows(), 1_500);
    let narrow: Vec<_> = (0..old.schema.columns.len()).collect();
    assert_eq!(wide.project(&narrow).unwrap(), read(&path, old));
    for (place, column) in new.schema.columns.iter().enumerate().skip(narrow.len()) {
        assert_eq!(wide.column(place), &column.column_type.absent(1_500), "{}", column.name);
    }
    // Written wide it comes back wide: lists and structs too.
    write_sorted(&path, &new, std::slice::from_ref(&wide), &SETTINGS).unwrap();
    assert_eq!(read(&path, &new), wide);
    let fault = all(&path, old).unwrap_err();
    assert!(
        fault.to_string().contains("version 2 of the schema") && fault.kind == FaultKind::Refused,
        "{fault}"
    );

    // Another table, and columns that no version had.
    let fault = all(&path, table(Topic::Identities)).unwrap_err();
    assert!(fault.to_string().contains("holds segment_counts instead of identities"), "{fault}");
    let mut swapped = old.schema.columns.to_vec();
    swapped.swap(0, 1);
    write_sorted(&path, old, &batches, &SETTINGS).unwrap();
    let fault = all(&path, &with_columns(1, swapped.leak())).unwrap_err();
    assert!(fault.to_string().contains("are not those of lake_segment_counts"), "{fault}");
}

#[test]
fn a_parquet_file_of_somebody_else_is_refused() {
    let (_folder, path) = file();
    let batch = &shuffled(Topic::SegmentCounts, 1)[0];
    let file = std::fs::File::create(&path).unwrap();
    let mut writer = parquet::arrow::ArrowWriter::try_new(file, batch.schema(), None).unwrap();
    writer.write(batch).unwrap();
    writer.close().unwrap();
    let fault = all(&path, table(Topic::SegmentCounts)).unwrap_err();
    assert!(fault.to_string().contains("no file that Rollcall wrote"), "{fault}");
}
