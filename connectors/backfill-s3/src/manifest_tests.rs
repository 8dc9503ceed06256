use super::*;

const TABLE: &str = "arn:aws:dynamodb:eu-west-2:123456789012:table/flagsmith_identities";

/// As AWS documents it for a full export.
const FULL: &str = r#"{
    "version": "2020-06-30",
    "exportArn": "arn:aws:dynamodb:eu-west-2:123456789012:table/flagsmith_identities/export/01234567890123-a1b2c3d4",
    "startTime": "2020-11-04T07:28:34.028Z",
    "endTime": "2020-11-04T07:33:43.897Z",
    "tableArn": "arn:aws:dynamodb:eu-west-2:123456789012:table/flagsmith_identities",
    "tableId": "12345a12-abcd-123a-ab12-1234abc12345",
    "exportTime": "2020-11-04T07:28:34.028Z",
    "s3Bucket": "exports",
    "s3Prefix": "2020-Nov",
    "s3SseAlgorithm": "AES256",
    "s3SseKmsKeyId": null,
    "manifestFilesS3Key": "2020-Nov/AWSDynamoDB/01234567890123-a1b2c3d4/manifest-files.json",
    "billedSizeBytes": 77,
    "itemCount": 8,
    "outputFormat": "DYNAMODB_JSON"
}"#;

fn with(changes: &[(&str, Option<&str>)]) -> Vec<u8> {
    let mut json: serde_json::Value = serde_json::from_str(FULL).unwrap();
    for (name, value) in changes {
        match value {
            Some(text) => json[name] = (*text).into(),
            None => drop(json.as_object_mut().unwrap().remove(*name)),
        }
    }
    serde_json::to_vec(&json).unwrap()
}

fn incremental(changes: &[(&str, Option<&str>)]) -> Vec<u8> {
    let mut all = vec![
        ("exportTime", None),
        ("exportType", Some("INCREMENTAL_EXPORT")),
        ("exportFromTime", Some("2020-11-04T07:00:00.000Z")),
        ("exportToTime", Some("2020-11-04T08:00:00.000Z")),
        ("outputView", Some("NEW_AND_OLD_IMAGES")),
    ];
    all.extend_from_slice(changes);
    with(&all)
}

#[test]
fn a_full_export_is_the_table_as_of_a_time() {
    let summary = summary(FULL.as_bytes(), "s", "flagsmith_identities").unwrap();
    assert_eq!(summary.kind, Kind::Full { at_us: 1_604_474_914_028_000 });
    assert_eq!((summary.items, summary.bytes, summary.id.as_str()), (8, 77, "01234567890123-a1b2c3d4"));
    assert_eq!(summary.files, Beside::Within("manifest-files.json".to_owned()));
    assert_eq!(summary.kind.coverage(5), Coverage::Whole { cut_us: 1_604_474_914_027_995 });
}

#[test]
fn an_incremental_export_is_a_window() {
    let summary = summary(&incremental(&[]), "s", TABLE).unwrap();
    let (from_us, to_us) = (1_604_473_200_000_000, 1_604_476_800_000_000);
    assert_eq!(summary.kind.coverage(5), Coverage::Window { from_us, to_us });
    assert_eq!(summary.kind.as_of_us(), to_us);
    for view in [Some("NEW_IMAGE"), None] {
        assert!(super::summary(&incremental(&[("outputView", view)]), "s", TABLE).is_ok(), "{view:?}");
    }
}

#[test]
fn other_exports_are_refused_with_what_to_do() {
    let cases: Vec<(Vec<u8>, &str, &str)> = vec![
        (b"{".to_vec(), "not the summary", "copy the export again"),
        (b"{\"itemCount\": 8}".to_vec(), "not the summary", "copy the export again"),
        (with(&[("outputFormat", Some("ION"))]), "in ION", "DYNAMODB_JSON"),
        (with(&[("exportTime", None)]), "exportTime is ''", "copy the export again"),
        (with(&[("exportTime", Some("yesterday"))]), "'yesterday'", "copy the export again"),
        (with(&[("exportType", Some("PARTIAL_EXPORT"))]), "PARTIAL_EXPORT", "FULL_EXPORT"),
        (incremental(&[("outputView", Some("OLD_IMAGE"))]), "OLD_IMAGE", "NEW_AND_OLD_IMAGES"),
        (incremental(&[("exportToTime", None)]), "exportToTime", "copy the export again"),
        (incremental(&[("exportToTime", Some("2020-11-04T07:00:00.000Z"))]), "before it begins", "copy"),
        (with(&[("manifestFilesS3Key", Some("AWSDynamoDB/../../etc/passwd"))]), "leads out", "copy"),
        (
            with(&[("tableArn", Some(&TABLE.replace("identities", "identities2")))]),
            "identities2",
            "an export of",
        ),
    ];
    for (json, said, repair) in cases {
        let fault = summary(&json, "the-file", "flagsmith_identities").unwrap_err();
        assert_eq!(fault.kind, rollcall_model::FaultKind::Refused, "{fault}");
        assert!(fault.what.contains(said) && fault.what.contains("the-file"), "{said}: {fault}");
        assert!(fault.repair.as_deref().unwrap().contains(repair), "{repair}: {fault}");
    }
    // An ARN names the account and the region too.
    assert!(summary(FULL.as_bytes(), "s", &TABLE.replace("eu-west-2", "eu-west-1")).is_err());
}

#[test]
fn the_list_of_files_is_read_whole_or_not_at_all() {
    let summary = summary(FULL.as_bytes(), "s", TABLE).unwrap();
    // AWS's own example of a line.
    let line = r#"{"itemCount":8,"md5Checksum":"sQMSpEILNgoQmarvDFonGQ==","etag":"af83d6f217c19b8b0fff8023d8ca4716-1","dataFileS3Key":"2020-Nov/AWSDynamoDB/01234567890123-a1b2c3d4/data/asdl123dasas.json.gz"}"#;
    let shared = line.replace("8,", "0,").replace("01234567890123-a1b2c3d4/", "");
    let read = files(format!("{line}\n{shared}\n").as_bytes(), "f", &summary).unwrap();
    assert_eq!(read[0].place, Beside::Within("data/asdl123dasas.json.gz".to_owned()));
    assert_eq!(read[1].place, Beside::Above("data/asdl123dasas.json.gz".to_owned()));
    assert_eq!(write_checksum(&read[0].checksum), "sQMSpEILNgoQmarvDFonGQ==");

    for (text, said) in [
        (String::new(), "0 items, the export has 8"),
        (format!("{line}\n{line}"), "16 items, the export has 8"),
        (format!("{line}\n{{"), "f:2 doesn't describe a file"),
        (line.replace("sQMS", ""), "f:1: '"),
        (line.replace("data/", "data//"), "leads out"),
        (line.replace("data/", "../"), "leads out"),
    ] {
        let fault = files(text.as_bytes(), "f", &summary).unwrap_err();
        assert!(fault.what.contains(said), "{said}: {fault}");
    }
}

#[test]
fn checksums_are_base64_or_hexadecimal() {
    let sum = Checksum::from(Md5::digest(b"x"));
    assert_eq!(read_checksum(b"9dd4e461268c8034f5c8564e155c67a6\n"), Some(sum));
    assert_eq!(read_checksum(write_checksum(&sum).as_bytes()), Some(sum));
    assert_eq!(read_checksum(b"9dd4e461268c8034f5c8564e155c67ax"), None);
    assert_eq!(read_checksum("éééééééééééééééé".as_bytes()), None);
    assert!(check(b"x", write_checksum(&sum).as_bytes(), "f").is_ok());
    assert!(check(b"y", write_checksum(&sum).as_bytes(), "f").is_err());
}
