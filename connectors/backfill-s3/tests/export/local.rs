//! Sound exports in a folder.

use std::future::Future;
use std::pin::pin;
use std::task::{Context, Poll, Waker};
use std::time::Instant;

use proptest::prelude::*;
use rollcall_backfill_s3::{Export, estimate};
use rollcall_model::shards::Coverage;
use rollcall_model::{FaultKind, FoundItem, ItemPages, ItemState};

use crate::{at, ids, pages};
use rollcall_dynamo_sim::export::{Export as Made, deleted, numbered, written};

const AT_US: i64 = 1_793_777_314_028_000;
const SLACK_US: i64 = 5_000_000;

#[tokio::test]
async fn a_full_export_is_the_whole_table_in_the_manifests_order() {
    let folder = tempfile::tempdir().unwrap();
    let export = Made::full(&numbered(&[4, 0, 7, 3])).write(folder.path());
    let read = pages(&at(&export), None).await.unwrap();
    let wanted: Vec<_> = [(0, 4), (2, 7), (3, 3)]
        .iter()
        .flat_map(|(f, size)| (0..*size).map(move |n| format!("env_{f}-{n}")))
        .collect();
    assert_eq!(ids(&read), wanted);
    assert!(read.iter().all(|page| page.items.len() <= 3 && page.read_units == 0.0));
    assert!(read.iter().all(|page| (page.cut_us, page.until_us) == (AT_US - SLACK_US, AT_US + SLACK_US)));
    assert!(read.iter().all(|page| page.done || !page.items.is_empty()));
    let opened = Export::open(&at(&export), None).await.unwrap();
    assert_eq!(opened.coverage(), Coverage::Whole { cut_us: AT_US - SLACK_US });
}

#[tokio::test]
async fn an_incremental_export_is_a_window_with_its_deletes() {
    let folder = tempfile::tempdir().unwrap();
    let files = vec![vec![written("a", 1), deleted("b", true)], vec![deleted("c", false), written("d", 2)]];
    let export = Made::incremental(&files).write(folder.path());
    let opened = Export::open(&at(&export), None).await.unwrap();
    let (from_us, to_us) = (AT_US - 1_714_028_000, AT_US + 1_885_972_000);
    assert_eq!(opened.coverage(), Coverage::Window { from_us, to_us });
    let read = pages(&at(&export), None).await.unwrap();
    let items: Vec<&FoundItem> = read.iter().flat_map(|page| &page.items).collect();
    let absent: Vec<_> =
        items.iter().filter(|i| i.state == ItemState::Absent).map(|i| i.id.to_string()).collect();
    assert_eq!(absent, ["b", "c"]);
    let ItemState::Present(item) = &items[0].state else { panic!("present") };
    assert_eq!(item.len(), 5, "the new image, not the old one");
    assert!(read.iter().all(|page| (page.cut_us, page.until_us) == (to_us - SLACK_US, to_us + SLACK_US)));
}

#[tokio::test]
async fn an_empty_export_is_one_page_that_says_so() {
    for sizes in [&[][..], &[0, 0]] {
        let folder = tempfile::tempdir().unwrap();
        let export = Made::full(&numbered(sizes)).write(folder.path());
        let read = pages(&at(&export), None).await.unwrap();
        assert_eq!((read.len(), read[0].items.len(), read[0].done), (1, 0, true));
        // Going on after the end waits, as does asking again.
        let mut again = Export::open(&at(&export), Some(read[0].next.clone())).await.unwrap();
        let mut next = pin!(again.next());
        assert!(matches!(next.as_mut().poll(&mut Context::from_waker(Waker::noop())), Poll::Pending));
    }
}

#[tokio::test]
async fn a_folder_may_have_any_name_and_be_said_in_any_way() {
    let folder = tempfile::tempdir().unwrap();
    let export = Made::full(&numbered(&[2])).write(folder.path());
    let moved = folder.path().join("copy");
    std::fs::rename(&export, &moved).unwrap();
    for location in [moved.display().to_string(), format!("file://{}/", moved.display())] {
        let read = pages(&crate::config(&location), None).await.unwrap();
        assert_eq!(ids(&read), ["env_0-0", "env_0-1"]);
    }
}

#[tokio::test]
async fn the_estimate_is_the_manifests() {
    let folder = tempfile::tempdir().unwrap();
    let export = Made::full(&numbered(&[4, 0, 7])).write(folder.path());
    let told = estimate(&at(&export)).await.unwrap();
    assert_eq!((told.items, told.read_units, told.seconds), (11, 0.0, None));
    let read = pages(&at(&export), None).await.unwrap();
    let bytes: u64 = read.iter().map(|page| page.bytes).sum();
    assert!(bytes <= told.bytes && told.bytes <= bytes + 11, "{bytes}, {}", told.bytes);
    assert!(told.basis.contains("2026-11-04T07:28:34Z") && told.basis.contains("3 files"), "{}", told.basis);
}

#[tokio::test]
async fn a_cursor_of_another_export_is_refused() {
    let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let first = Made::full(&numbered(&[4])).write(one.path());
    let mut other = Made::full(&numbered(&[4]));
    other.say("exportArn", "arn:aws:dynamodb:eu-west-2:123456789012:table/flagsmith_identities/export/02-b");
    other.say("manifestFilesS3Key", "exports/2026/AWSDynamoDB/02-b/manifest-files.json");
    let read = pages(&at(&first), None).await.unwrap();
    let fault = Export::open(&at(&other.write(two.path())), Some(read[0].next.clone())).await.unwrap_err();
    assert_eq!(fault.kind, FaultKind::Refused);
    assert!(fault.what.contains("d6299cbd") && fault.what.contains("02-b"), "{fault}");
    let strange = rollcall_model::shards::Cursor(serde_json::json!({ "segment": 3 }));
    assert!(Export::open(&at(&first), Some(strange)).await.is_err());
}

#[tokio::test]
async fn a_dropped_wait_loses_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let export = Made::full(&numbered(&[40, 25])).write(folder.path());
    let mut opened = Export::open(&at(&export), None).await.unwrap();
    let mut seen = Vec::new();
    loop {
        // Polled once and dropped, again and again.
        let polled = {
            let mut next = pin!(opened.next());
            next.as_mut().poll(&mut Context::from_waker(Waker::noop()))
        };
        match polled {
            Poll::Pending => tokio::task::yield_now().await,
            Poll::Ready(page) => {
                let page = page.unwrap();
                seen.extend(page.items.iter().map(|item| item.id.to_string()));
                if page.done {
                    break;
                }
            }
        }
    }
    assert_eq!(seen, ids(&pages(&at(&export), None).await.unwrap()));
}

/// Says how fast it is, for the record; it claims nothing.
#[tokio::test]
async fn how_fast_an_export_is() {
    let folder = tempfile::tempdir().unwrap();
    let made = Made::full(&numbered(&[20_000]));
    let zipped = made.objects[&made.data(0)].len();
    let mut config = at(&made.write(folder.path()));
    (config.page_items, config.files_in_flight_max) = (1_000, 1);
    let began = Instant::now();
    let read = pages(&config, None).await.unwrap();
    let seconds = began.elapsed().as_secs_f64();
    let bytes: u64 = read.iter().map(|page| page.bytes).sum();
    assert_eq!(ids(&read).len(), 20_000);
    println!(
        "export, one file at a time: {:.0} lines/s, {:.0} MB/s of JSON, {:.1} bytes of gzip a line",
        20_000.0 / seconds,
        bytes as f64 / 1e6 / seconds,
        zipped as f64 / 20_000.0
    );
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    /// However files and pages are cut, and wherever it stops: what came before and what comes after are all of it.
    #[test]
    fn going_on_at_any_cursor_gives_exactly_the_rest(
        sizes in prop::collection::vec(0_usize..9, 0..6),
        page_items in 1_usize..6,
        in_flight in 1_usize..4,
    ) {
        let folder = tempfile::tempdir().unwrap();
        let export = Made::full(&numbered(&sizes)).write(folder.path());
        let mut config = at(&export);
        (config.page_items, config.files_in_flight_max) = (page_items, in_flight);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let all = pages(&config, None).await.unwrap();
            let items: Vec<_> = sizes.iter().enumerate()
                .flat_map(|(f, size)| (0..*size).map(move |n| format!("env_{f}-{n}"))).collect();
            assert_eq!(ids(&all), items);
            for (n, page) in all.iter().enumerate().filter(|(_, page)| !page.done) {
                config.page_items = page_items + n;
                let rest = pages(&config, Some(page.next.clone())).await.unwrap();
                assert_eq!([ids(&all[..=n]), ids(&rest)].concat(), items, "after page {n}");
            }
        });
    }
}
