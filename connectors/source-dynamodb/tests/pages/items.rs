//! Single items by their keys.

use std::sync::Arc;

use rollcall_model::{Attribute, FaultKind, NativeId};
use rollcall_source_dynamodb::{DEFAULT_ENRICH_READ_UNITS_PER_S, Enricher};

use crate::table::{TABLE, Table};

fn text(id: &str) -> NativeId {
    NativeId::Text(Arc::from(id))
}

#[tokio::test]
async fn the_items_that_there_are_come_by_their_ids() {
    let table = Table::start().await;
    let ids = table.fill("env", 250).await;
    let aws = table.config().aws;
    let enricher = Enricher::open(&aws, TABLE, "composite_key", 100_000.0).await.unwrap();
    let mut asked: Vec<_> = ids.iter().map(|id| text(id)).collect();
    asked.extend([text("env_000007"), text("env_nobody"), NativeId::Int(7)]);
    let found = enricher.get(asked).await.unwrap();
    assert_eq!(found.len(), 250);
    for (n, id) in ids.iter().enumerate() {
        assert_eq!(found[&text(id)]["n"], Attribute::N(n.to_string()));
    }
    assert!(enricher.get(Vec::new()).await.unwrap().is_empty());
}

#[tokio::test]
async fn no_table_and_no_rate_are_faults() {
    let table = Table::start().await;
    let aws = table.config().aws;
    for (name, rate) in [("no_such_table", DEFAULT_ENRICH_READ_UNITS_PER_S), (TABLE, 0.0)] {
        assert_eq!(
            Enricher::open(&aws, name, "composite_key", rate).await.unwrap_err().kind,
            FaultKind::Config
        );
    }
}
