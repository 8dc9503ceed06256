//! Sinks of type parquet.
#![allow(clippy::unwrap_used)]

use super::*;

const EXAMPLE: &str = r#"
rollcall: 1
log: { type: embedded, path: ./data }
sources:
  core: { type: postgres, platform: flagsmith, url: "${CORE_URL}" }
sinks:
  lake: { type: parquet, bucket: "s3://flags/lake/", region: eu-west-2 }
"#;
const FOLDER: &str = "bucket: \"s3://flags/lake/\", region: eu-west-2";

fn env(name: &str) -> Option<String> {
    match name {
        "CORE_URL" => Some("postgres://reader:hunter2@db.example/flags".to_owned()),
        "KEY" => Some("AKIDEXAMPLE".to_owned()),
        "SECRET" => Some("hunter2".to_owned()),
        _ => None,
    }
}

fn lake(text: &str) -> ParquetSinkConfig {
    let topology = Topology::parse(text, &env).unwrap().rooted_at(Path::new("/srv"));
    let SinkConfig::Parquet(lake) = &topology.sinks["lake"] else { panic!("a lake") };
    (**lake).clone()
}

fn with(more: &str) -> String {
    EXAMPLE.replace("region: eu-west-2", &format!("region: eu-west-2, {more}"))
}

fn faults(text: &str) -> String {
    let faults = Topology::parse(text, &env).expect_err("has faults");
    faults.iter().map(|fault| format!("{fault}\n")).collect()
}

#[test]
fn it_is_read_with_its_defaults_and_shows_no_secret() {
    let least = lake(EXAMPLE);
    assert_eq!((least.bucket.as_str(), least.region.as_deref()), ("s3://flags/lake/", Some("eu-west-2")));
    assert_eq!((least.flush_age_ms, least.retention_days, least.history_days), (600_000, 0, 30));
    assert!(
        least.endpoint.is_none() && least.access_key_id.is_none() && least.file_bytes < least.buffer_bytes
    );
    let full = lake(&with(
        "endpoint: \"http://127.0.0.1:9000\", access_key_id: \"${KEY}\", secret_access_key: \"${SECRET}\", \
         flush_age_ms: 50, file_bytes: 4096, buffer_bytes: 16384, row_group_rows: 1000, zstd_level: 1, history_days: 0, \
         retention_days: 400, reader_grace_minutes: 5",
    ));
    assert_eq!(full.secret_access_key.as_ref().unwrap().expose(), "hunter2");
    assert_eq!((full.zstd_level, full.history_days, full.reader_grace_minutes), (1, 0, 5));
    assert!(!format!("{full:?}").contains("hunter2"));
}

#[test]
fn a_folder_stands_beside_the_file() {
    let folder = |path: &str| lake(&EXAMPLE.replace(FOLDER, &format!("bucket: {path}"))).bucket;
    assert_eq!(folder("./lake"), "/srv/lake");
    assert_eq!(folder("/var/lake"), "/var/lake");
}

#[test]
fn what_does_not_go_together_is_said_at_its_line() {
    for (old, new, says) in [
        (FOLDER, "region: eu-west-2", "7:3: sinks.lake.bucket: 'bucket' is missing"),
        (FOLDER, "bucket: \"s3://flags\"", "7:3: sinks.lake.region: 'region' is missing"),
        (FOLDER, "bucket: \"s3:///lake\", region: x", "7:3: sinks.lake.bucket: the bucket has no name"),
        (FOLDER, "bucket: \"gs://flags\"", "sinks.lake.bucket: is no place for a lake"),
        (FOLDER, "bucket: ./lake, region: eu-west-2", "sinks.lake.region: is of a bucket"),
        (FOLDER, "bucket: ./lake, endpoint: \"http://h\"", "sinks.lake.endpoint: is of a bucket"),
        (
            "eu-west-2",
            "eu-west-2, access_key_id: \"${KEY}\"",
            "sinks.lake.secret_access_key: 'secret_access_key'",
        ),
        (
            "eu-west-2",
            "eu-west-2, secret_access_key: \"${SECRET}\"",
            "sinks.lake.access_key_id: 'access_key_id'",
        ),
        ("eu-west-2", "eu-west-2, secret_access_key: hunter2", "a secret does not stand in the file"),
        (
            "eu-west-2",
            "eu-west-2, session_token: \"${SECRET}\"",
            "sinks.lake.session_token: is of a temporary key",
        ),
        ("eu-west-2", "eu-west-2, buffer_bytes: 4096", "sinks.lake.buffer_bytes: is less than file_bytes"),
        ("eu-west-2", "eu-west-2, zstd_level: 23", "sinks.lake.zstd_level: '23' is out of range: 1 to 22"),
        ("eu-west-2", "eu-west-2, flush_rows: 1", "sinks.lake.flush_rows: unknown key 'flush_rows'"),
    ] {
        let said = faults(&EXAMPLE.replace(old, new));
        assert!(said.contains(says), "{new}: {said}");
        assert!(!said.contains("hunter2"), "{said}");
    }
}

#[test]
fn a_lake_has_one_writer_and_a_log_on_kafka_a_bucket() {
    let more = |lake: &str| format!("{EXAMPLE}  other: {{ type: parquet, {lake} }}\n");
    let same = faults(&more("bucket: \"s3://flags/lake\", region: eu-west-2"));
    assert!(same.contains("sinks.other.bucket: sinks.lake lies there already"), "{same}");
    assert!(Topology::parse(&more("bucket: \"s3://flags/other\", region: eu-west-2"), &env).is_ok());
    let kafka = EXAMPLE.replace("{ type: embedded, path: ./data }", "{ type: kafka, brokers: \"k:9092\" }");
    let topology = Topology::parse(&kafka, &env).unwrap();
    assert_eq!(
        Agreement::of(&topology).sinks["lake"].place.as_deref(),
        Some("s3.eu-west-2.amazonaws.com:443/flags/lake"),
        "workers must mean the same bucket"
    );
    let said = faults(&kafka.replace(FOLDER, "bucket: ./lake"));
    assert!(said.contains("a folder is one machine's"), "{said}");
}
