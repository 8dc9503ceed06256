//! Exports, laid out as DynamoDB does it, read from a folder and from a real S3 server.
#![allow(clippy::unwrap_used, clippy::wildcard_enum_match_arm)]

mod bad;
mod local;
mod s3;

use std::path::Path;

use rollcall_aws::{AwsConfig, Credentials};
use rollcall_backfill_s3::{Export, ExportConfig};
use rollcall_model::shards::Cursor;
use rollcall_model::{Fault, ItemPage, ItemPages};

/// Reads an export at `location` with small pages.
fn config(location: &str) -> ExportConfig {
    ExportConfig {
        location: location.to_owned(),
        aws: AwsConfig {
            region: "eu-west-2".to_owned(),
            endpoint: None,
            credentials: Credentials::Static {
                access_key_id: "key".to_owned(),
                secret_access_key: "secret".to_owned(),
                session_token: None,
            },
        },
        table: rollcall_dynamo_sim::export::TABLE.to_owned(),
        key: "composite_key",
        page_items: 3,
        files_in_flight_max: 3,
        clock_slack_ms: 5_000,
        spool: std::env::temp_dir(),
    }
}

fn at(folder: &Path) -> ExportConfig {
    config(&folder.display().to_string())
}

/// All pages from a cursor on.
async fn pages(config: &ExportConfig, cursor: Option<Cursor>) -> Result<Vec<ItemPage>, Fault> {
    let mut export = Export::open(config, cursor).await?;
    let mut pages = Vec::new();
    loop {
        let page = export.next().await?;
        let done = page.done;
        pages.push(page);
        if done {
            return Ok(pages);
        }
    }
}

fn ids(pages: &[ItemPage]) -> Vec<String> {
    pages.iter().flat_map(|page| page.items.iter().map(|item| item.id.to_string())).collect()
}
