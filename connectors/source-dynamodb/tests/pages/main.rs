//! Scans, environments and single items, of a real DynamoDB (DynamoDB Local).
#![allow(clippy::unwrap_used, clippy::wildcard_enum_match_arm)]

mod changing;
mod environment;
mod items;
mod scan;
mod simulated;
mod table;

use rollcall_aws::{AwsConfig, Credentials};
use rollcall_model::shards::Cursor;
use rollcall_model::{Attribute, Fault, ItemPage, ItemPages, ItemState};
use rollcall_source_dynamodb::{Scan, ScanConfig};

/// All pages from a cursor on.
async fn pages(config: &ScanConfig, cursor: Option<Cursor>) -> Result<Vec<ItemPage>, Fault> {
    let mut scan = Scan::start(config, cursor).await?;
    let mut pages = Vec::new();
    loop {
        let page = scan.next().await?;
        let done = page.done;
        pages.push(page);
        if done {
            return Ok(pages);
        }
    }
}

/// The ids of pages, sorted; one that comes twice is there twice.
fn ids(pages: &[ItemPage]) -> Vec<String> {
    let mut ids: Vec<_> =
        pages.iter().flat_map(|page| page.items.iter().map(|item| item.id.to_string())).collect();
    ids.sort();
    ids
}

fn config(url: &str, table: &str) -> ScanConfig {
    ScanConfig {
        table: table.to_owned(),
        key: "composite_key",
        aws: AwsConfig {
            region: "eu-west-2".to_owned(),
            endpoint: Some(url.to_owned()),
            credentials: Credentials::Static {
                access_key_id: "test".to_owned(),
                secret_access_key: "test".to_owned(),
                session_token: None,
            },
        },
        segments: 4,
        read_units_per_s: None,
        page_items: 50,
        pages_in_flight_max: 4,
        environment: None,
        clock_slack_ms: 5_000,
    }
}

/// The number of an item, which its writers count up.
fn number(state: &ItemState) -> Option<u64> {
    match state {
        ItemState::Present(item) => match &item["n"] {
            Attribute::N(digits) => Some(digits.parse().unwrap()),
            other => panic!("n is {other:?}"),
        },
        ItemState::Absent => None,
        ItemState::Broken(why) => panic!("{why}"),
    }
}
