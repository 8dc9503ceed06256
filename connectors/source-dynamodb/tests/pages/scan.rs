//! Whole tables.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

use rollcall_model::shards::{Coverage, Cursor};
use rollcall_model::{FaultKind, ItemPages};
use rollcall_source_dynamodb::{Scan, estimate};

use crate::table::Table;
use crate::{ids, pages};

fn now_us() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_micros() as i64
}

#[tokio::test]
async fn however_it_is_cut_every_item_comes_once() {
    let table = Table::start().await;
    let wanted = table.fill("env", 1_000).await;
    let mut config = table.config();
    let mut units = Vec::new();
    for (segments, pages_in_flight_max) in [(1, 1), (4, 2), (100, 8)] {
        (config.segments, config.pages_in_flight_max) = (segments, pages_in_flight_max);
        let before_us = now_us();
        let read = pages(&config, None).await.unwrap();
        let after_us = now_us();
        assert_eq!(ids(&read), wanted, "{segments} segments");
        assert!(read.iter().all(|page| page.items.len() <= 50 && (page.done || !page.items.is_empty())));
        for page in &read {
            // `Date` has whole seconds, and the slack is five.
            assert!((before_us - 7_000_000..=after_us - 5_000_000).contains(&page.cut_us), "{}", page.cut_us);
            assert!((before_us..=after_us + 2_000_000).contains(&page.until_us), "{}", page.until_us);
        }
        units.push(read.iter().map(|page| page.read_units).sum::<f64>());
    }
    // Consistently read, 4 KB are a unit; each answer is rounded up.
    assert!(units[0] >= 1_000.0 * 150.0 / 4_096.0 && units[0] <= 200.0, "{units:?}");
}

#[tokio::test]
async fn after_any_page_exactly_the_rest_is_left() {
    let table = Table::start().await;
    let wanted = table.fill("env", 60).await;
    let mut config = table.config();
    (config.segments, config.page_items) = (3, 7);
    let all = pages(&config, None).await.unwrap();
    let coverage = Scan::start(&config, Some(all[0].next.clone())).await.unwrap().coverage();
    let Coverage::Whole { cut_us } = coverage else { panic!("{coverage:?}") };
    assert!(all.iter().all(|page| cut_us <= page.cut_us), "it began before its pages");
    // As another worker would, with other settings: how the table is cut stays.
    (config.segments, config.page_items) = (17, 11);
    for (n, page) in all.iter().enumerate().filter(|(_, page)| !page.done) {
        let going_on = Scan::start(&config, Some(page.next.clone())).await.unwrap();
        assert_eq!(going_on.coverage(), coverage, "it is as of its first start");
        let rest = pages(&config, Some(page.next.clone())).await.unwrap();
        let mut both = [ids(&all[..=n]), ids(&rest)].concat();
        both.sort();
        assert_eq!(both, wanted, "after page {n}");
    }
}

#[tokio::test]
async fn an_empty_table_is_one_page_that_says_so() {
    let table = Table::start().await;
    let read = pages(&table.config(), None).await.unwrap();
    assert_eq!((read.len(), read[0].items.len(), read[0].done), (1, 0, true));
}

#[tokio::test]
async fn wrong_tables_and_settings_are_refused_with_what_to_do() {
    let table = Table::start().await;
    table.fill("env", 30).await;
    let sound = table.config();
    let mut other = sound.clone();
    other.table = "no_such_table".to_owned();
    let fault = Scan::start(&other, None).await.unwrap_err();
    assert_eq!(fault.kind, FaultKind::Config, "{fault}");
    assert!(fault.what.contains("no_such_table"), "{fault}");
    other = sound.clone();
    other.key = "id";
    let fault = Scan::start(&other, None).await.unwrap_err();
    assert!(fault.what.contains("has the key composite_key") && fault.kind == FaultKind::Config, "{fault}");
    for segments in [0, 1_001] {
        other = sound.clone();
        other.segments = segments;
        assert_eq!(Scan::start(&other, None).await.unwrap_err().kind, FaultKind::Config);
    }
    other = sound.clone();
    other.read_units_per_s = Some(0.0);
    assert_eq!(Scan::start(&other, None).await.unwrap_err().kind, FaultKind::Config);
    let strange = Cursor(serde_json::json!({ "export": "x", "file": 1, "line": 2 }));
    assert_eq!(Scan::start(&sound, Some(strange)).await.unwrap_err().kind, FaultKind::Refused);
}

#[tokio::test]
async fn a_server_that_went_away_is_a_fault_that_passes() {
    let mut table = Table::start().await;
    table.fill("env", 200).await;
    let mut config = table.config();
    config.pages_in_flight_max = 1;
    let mut scan = Scan::start(&config, None).await.unwrap();
    scan.next().await.unwrap();
    table.server.kill9();
    let fault = loop {
        match scan.next().await {
            Ok(page) => assert!(!page.done),
            Err(fault) => break fault,
        }
    };
    assert_eq!(fault.kind, FaultKind::Retry, "{fault}");
}

#[tokio::test]
async fn the_estimate_is_what_dynamodb_says() {
    let table = Table::start().await;
    table.fill("env", 100).await;
    let mut config = table.config();
    config.read_units_per_s = Some(2.0);
    let told = estimate(&config).await.unwrap();
    assert_eq!(told.items, 100);
    assert!(told.bytes >= 10_000, "{}", told.bytes);
    assert_eq!(told.seconds, Some(told.read_units / 2.0));
    assert!(told.basis.contains("six hours"), "{}", told.basis);
    config.table = "no_such_table".to_owned();
    assert_eq!(estimate(&config).await.unwrap_err().kind, FaultKind::Config);
}

/// Says how fast it is, for the record; it claims nothing.
#[tokio::test]
async fn how_fast_a_scan_is() {
    let table = Table::start().await;
    table.fill("env", 5_000).await;
    let mut config = table.config();
    config.page_items = 1_000;
    for segments in [1, 4] {
        config.segments = segments;
        let began = Instant::now();
        let read = pages(&config, None).await.unwrap();
        assert_eq!(ids(&read).len(), 5_000);
        let per_s = 5_000.0 / began.elapsed().as_secs_f64();
        println!("scan of DynamoDB Local, {segments} segments: {per_s:.0} items/s");
    }
    // An unknown server is no table.
    let nobody = crate::config("http://127.0.0.1:9", "t");
    assert_eq!(Scan::start(&nobody, None).await.unwrap_err().kind, FaultKind::Retry);
}
