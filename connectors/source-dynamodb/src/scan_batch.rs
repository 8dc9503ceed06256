//! Items by their keys: consistent reads of up to a hundred at a time.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use aws_sdk_dynamodb::types::{AttributeValue, ConsumedCapacity, KeysAndAttributes, ReturnConsumedCapacity};
use rollcall_aws::fault;
use rollcall_model::{Fault, Item};

use crate::pace::Rate;
use crate::scan_item::{item, key_text};
use crate::scan_table::{Failures, Table};

/// As many keys as one call takes.
pub(crate) const KEYS_MAX: usize = 100;

/// What was found.
#[derive(Debug, Default)]
pub(crate) struct Got {
    pub(crate) items: BTreeMap<String, Item>,
    pub(crate) units: f64,
}

/// Reads the items of at most [`KEYS_MAX`] different keys. What isn't in the answer isn't in the table. What DynamoDB
/// leaves undone is asked for again, with pauses; it may leave all of it undone only so often in a row.
pub(crate) async fn get(table: &Table, rate: &Arc<Rate>, keys: Vec<String>) -> Result<Got, Fault> {
    let mut got = Got::default();
    let mut failures = Failures::default();
    let mut left = vec![ask(table, keys.iter().map(|id| key(table, id)).collect())?];
    while let Some(asked) = left.pop() {
        // A consistent read of an item up to 4 KB is a unit.
        let expected = asked.keys().len() as f64;
        rate.take(expected).await;
        let called = table
            .client
            .batch_get_item()
            .request_items(&table.name, asked.clone())
            .return_consumed_capacity(ReturnConsumedCapacity::Total);
        let answer = match Box::pin(called.send()).await {
            Ok(answer) => answer,
            Err(error) => {
                rate.settle(expected, 0.0);
                let what = format!("reading items of table {}", table.name);
                failures.pause(fault(&what, "dynamodb:BatchGetItem", &table.arn, error)).await?;
                left.push(asked);
                continue;
            }
        };
        let units = answer.consumed_capacity().iter().filter_map(ConsumedCapacity::capacity_units).sum();
        rate.settle(expected, units);
        got.units += units;
        let before = got.items.len();
        for found in answer.responses.unwrap_or_default().into_values().flatten() {
            let item = item(found);
            let Some(id) = key_text(&item, table.key) else {
                return Err(Fault::bug(format!(
                    "DynamoDB found an item of table {} without a key",
                    table.name
                )));
            };
            got.items.insert(id.to_owned(), item);
        }
        let undone =
            answer.unprocessed_keys.unwrap_or_default().into_values().find(|more| !more.keys().is_empty());
        if let Some(undone) = undone {
            if got.items.len() > before || undone.keys().len() < asked.keys().len() {
                failures.none();
            }
            let what = format!("reading items of table {}: DynamoDB left keys undone", table.name);
            failures.pause(Fault::retry(what)).await?;
            left.push(ask(table, undone.keys().to_vec())?);
        }
    }
    Ok(got)
}

fn key(table: &Table, id: &str) -> HashMap<String, AttributeValue> {
    HashMap::from([(table.key.to_owned(), AttributeValue::S(id.to_owned()))])
}

fn ask(table: &Table, keys: Vec<HashMap<String, AttributeValue>>) -> Result<KeysAndAttributes, Fault> {
    KeysAndAttributes::builder()
        .set_keys(Some(keys))
        .consistent_read(true)
        .build()
        .map_err(|e| Fault::bug(format!("asking table {} for no keys", table.name)).from_source(e))
}
