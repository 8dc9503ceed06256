//! Exports that must not be read, and what is said of them.

use rollcall_backfill_s3::Export;
use rollcall_model::{Fault, FaultKind, ItemPages, ItemState};

use crate::{at, pages};
use rollcall_dynamo_sim::export::{Export as Made, ID, deleted, gzip, item, numbered};

/// What is said of an export.
async fn fault(made: &Made) -> Fault {
    let folder = tempfile::tempdir().unwrap();
    pages(&at(&made.write(folder.path())), None).await.expect_err("it can't be read")
}

fn says(fault: &Fault, kind: FaultKind, what: &str, repair: &str) {
    assert_eq!(fault.kind, kind, "{fault}");
    assert!(fault.what.contains(what), "'{what}' in: {fault}");
    assert!(fault.repair.as_deref().is_some_and(|text| text.contains(repair)), "'{repair}' in: {fault}");
}

#[tokio::test]
async fn what_is_no_export_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let fault = Export::open(&at(folder.path()), None).await.unwrap_err();
    says(&fault, FaultKind::Refused, "no DynamoDB export at", "EXPORT-ID");
    let fault = Export::open(&at(&folder.path().join("away")), None).await.unwrap_err();
    says(&fault, FaultKind::Refused, "no DynamoDB export at", "EXPORT-ID");
    let fault = Export::open(&crate::config("https://x/y"), None).await.unwrap_err();
    says(&fault, FaultKind::Config, "https:// is not known", "s3://BUCKET");
}

#[tokio::test]
async fn a_running_export_says_so() {
    let mut made = Made::full(&numbered(&[2]));
    for name in ["manifest-summary.json", "manifest-summary.md5", "manifest-files.json", "manifest-files.md5"]
    {
        made.objects.remove(&made.key(name));
    }
    says(&fault(&made).await, FaultKind::Refused, "still running, or failed", "describe-export");
}

#[tokio::test]
async fn other_kinds_of_exports_are_refused() {
    let mut made = Made::full(&numbered(&[2]));
    made.say("outputFormat", "ION");
    says(&fault(&made).await, FaultKind::Refused, "in ION", "DYNAMODB_JSON");
    let mut made = Made::full(&numbered(&[2]));
    made.say("tableArn", "arn:aws:dynamodb:eu-west-2:123456789012:table/other");
    says(&fault(&made).await, FaultKind::Refused, "table/other", "topology.yaml");
    let mut made = Made::incremental(&[vec![deleted("a", false)]]);
    made.say("outputView", "OLD_IMAGE");
    says(&fault(&made).await, FaultKind::Refused, "OLD_IMAGE", "NEW_AND_OLD_IMAGES");
}

#[tokio::test]
async fn manifests_have_their_checksums() {
    for name in ["manifest-summary", "manifest-files"] {
        let mut made = Made::full(&numbered(&[2]));
        made.objects.get_mut(&made.key(&format!("{name}.json"))).unwrap().push(b' ');
        says(
            &fault(&made).await,
            FaultKind::Refused,
            &format!("{name}.json doesn't have the checksum"),
            "copy",
        );
        // As AWS's text calls it.
        let sum = made.objects.remove(&made.key(&format!("{name}.md5"))).unwrap();
        made.objects.insert(made.key(&format!("{name}.checksum")), sum);
        says(
            &fault(&made).await,
            FaultKind::Refused,
            &format!("{name}.json doesn't have the checksum"),
            "copy",
        );
    }
    let mut made = Made::full(&numbered(&[2]));
    made.objects.remove(&made.key("manifest-files.json"));
    says(&fault(&made).await, FaultKind::Refused, "manifest-files.json is not there", "copy");
}

#[tokio::test]
async fn a_missing_file_is_named() {
    let mut made = Made::full(&numbered(&[2, 2, 2]));
    made.objects.remove(&made.data(2));
    let fault = fault(&made).await;
    says(&fault, FaultKind::Refused, "0002mvxyz4ym.json.gz is in the manifest but not there", "copy");
    let mut shared = Made::incremental(&[vec![deleted("a", false)]]);
    shared.objects.remove(&shared.data(0));
    says(
        &crate::bad::fault(&shared).await,
        FaultKind::Refused,
        "0000mvxyz4ym.json.gz is in the manifest",
        "copy",
    );
}

#[tokio::test]
async fn nothing_of_a_damaged_file_is_a_page() {
    let mut made = Made::full(&numbered(&[4, 50]));
    let key = made.data(1);
    // The last byte of the gzip's length: all lines can be read before it shows.
    *made.objects.get_mut(&key).unwrap().last_mut().unwrap() ^= 1;
    let folder = tempfile::tempdir().unwrap();
    let mut export = Export::open(&at(&made.write(folder.path())), None).await.unwrap();
    let mut items = 0;
    let fault = loop {
        match export.next().await {
            Ok(page) => items += page.items.len(),
            Err(fault) => break fault,
        }
    };
    says(&fault, FaultKind::Refused, "has the md5", "copy the file again");
    assert_eq!(items, 4, "only those of the sound file");
    // Asked again it says the same, and begins nothing anew.
    says(&export.next().await.unwrap_err(), FaultKind::Refused, "has the md5", "copy the file again");
}

#[tokio::test]
async fn a_file_put_right_is_read_from_where_it_was_refused() {
    let made = Made::full(&numbered(&[4, 50]));
    let folder = tempfile::tempdir().unwrap();
    let path = made.write(folder.path());
    let data = folder.path().join(made.data(1));
    std::fs::write(&data, b"damaged").unwrap();
    let mut export = Export::open(&at(&path), None).await.unwrap();
    let mut seen = Vec::new();
    loop {
        match export.next().await {
            Ok(page) => {
                seen.extend(page.items.iter().map(|item| item.id.to_string()));
                if page.done {
                    break;
                }
            }
            Err(_) => std::fs::write(&data, &made.objects[&made.data(1)]).unwrap(),
        }
    }
    assert_eq!(seen.len(), 54);
    assert_eq!(seen[4], "env_1-0");
}

#[tokio::test]
async fn damage_that_dynamodb_itself_wrote_is_refused_too() {
    let sound = numbered(&[50]);
    let text: String = sound[0].iter().map(|line| format!("{line}\n")).collect();
    let whole = gzip(text.as_bytes());
    let cases = [
        (b"no gzip at all".to_vec(), "is no sound gzip"),
        (whole[..whole.len() / 2].to_vec(), "in the middle of its gzip"),
        (gzip(text.trim_end().rsplit_once('\n').unwrap().0.as_bytes()), "49 items, the manifest says 50"),
        (gzip(format!("{text}not JSON\n").as_bytes()), ":51: it is no JSON"),
        (
            gzip(text.replace("composite_key", "key").as_bytes()),
            ":1: the item has no key attribute 'composite_key'",
        ),
        (gzip(text.replace("\"Item\"", "\"Row\"").as_bytes()), ":1: it has no 'Item'"),
        (Vec::new(), "0 items, the manifest says 50"),
    ];
    for (bytes, what) in cases {
        let mut made = Made::full(&sound);
        made.rewrite(0, bytes);
        let fault = fault(&made).await;
        says(&fault, FaultKind::Refused, what, "copy");
        assert!(fault.what.contains(&format!("{ID}/data/0000mvxyz4ym.json.gz")), "{fault}");
    }
}

#[tokio::test]
async fn one_unreadable_item_goes_to_quarantine_and_the_rest_goes_on() {
    let broken = item("env_b", 1).replace("\"BOOL\":false", "\"BOOL\":\"no\"");
    let newer = item("env_n", 1).replace("\"BOOL\":false", "\"TIMESTAMP\":\"no\"");
    let made = Made::full(&[vec![item("env_a", 0), broken, newer]]);
    let folder = tempfile::tempdir().unwrap();
    let read = pages(&at(&made.write(folder.path())), None).await.unwrap();
    let states: Vec<_> = read.iter().flat_map(|page| &page.items).map(|item| &item.state).collect();
    assert!(matches!(states[0], ItemState::Present(_)));
    assert!(matches!(states[1], ItemState::Broken(_)));
    assert!(matches!(states[2], ItemState::Present(_)), "a type of tomorrow passes");
}

#[tokio::test]
async fn a_manifest_can_not_lead_out_of_the_export() {
    let mut made = Made::full(&numbered(&[2]));
    made.say("manifestFilesS3Key", "AWSDynamoDB/../../../etc/passwd");
    says(&fault(&made).await, FaultKind::Refused, "leads out of the export", "copy");
}
