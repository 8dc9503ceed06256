//! Members' records as DynamoDB has them: ids flow in, items flow out (`rollcall members --enrich`).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use rollcall_aws::AwsConfig;
use rollcall_model::{Fault, Item, NativeId};

use crate::pace::Rate;
use crate::scan_batch::{KEYS_MAX, get};
use crate::scan_table::Table;

/// Read capacity units per second, if nobody says.
pub const DEFAULT_ENRICH_READ_UNITS_PER_S: f64 = 100.0;

/// Reads items by their ids, consistently and at a bounded rate.
#[derive(Debug)]
pub struct Enricher {
    table: Table,
    rate: Arc<Rate>,
}

impl Enricher {
    /// Opens a table whose key is the attribute `key`.
    ///
    /// # Errors
    /// A [`Fault`] when there is no such table, or no right to it.
    pub async fn open(
        aws: &AwsConfig,
        table: &str,
        key: &'static str,
        read_units_per_s: f64,
    ) -> Result<Self, Fault> {
        let rate = Arc::new(Rate::new(Some(read_units_per_s))?);
        Ok(Self { table: Table::open(aws, table, key).await?, rate })
    }

    /// The items of `ids` that there are. An id that comes twice is read once.
    ///
    /// # Errors
    /// A [`Fault`] when DynamoDB answers no more.
    pub async fn get(&self, ids: Vec<NativeId>) -> Result<BTreeMap<NativeId, Item>, Fault> {
        let ids: Vec<NativeId> = ids.into_iter().collect::<BTreeSet<_>>().into_iter().collect();
        let mut found = BTreeMap::new();
        for some in ids.chunks(KEYS_MAX) {
            let keys = some.iter().map(ToString::to_string).collect();
            let mut got = Box::pin(get(&self.table, &self.rate, keys)).await?;
            for id in some {
                if let Some(item) = got.items.remove(&id.to_string()) {
                    found.insert(id.clone(), item);
                }
            }
        }
        Ok(found)
    }
}
