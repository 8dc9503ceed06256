//! Actions of many items.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use rollcall_model::Item;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::tables::{Answer, check_table, read_units, whole_key};
use super::{json as text, parse};
use crate::core::{ApiError, Core};

/// One answer holds at most so much.
const ANSWER_BYTES_MAX: u64 = 16 * 1024 * 1024;

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
struct BatchGetItem {
    request_items: BTreeMap<String, Keys>,
    return_consumed_capacity: Option<String>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
struct Keys {
    keys: Vec<Item>,
    #[serde(skip_serializing_if = "Option::is_none")]
    consistent_read: Option<bool>,
}

pub(super) fn batch_get_item(core: &Core, body: &[u8], leave_some: bool) -> Result<String, ApiError> {
    let asked: BatchGetItem = parse(body)?;
    let count: usize = asked.request_items.values().map(|keys| keys.keys.len()).sum();
    if count > 100 {
        return Err(ApiError::validation("Too many items requested for the BatchGetItem call"));
    }
    if count == 0 {
        return Err(ApiError::validation("The list of keys in RequestItems for BatchGetItem is required"));
    }
    let mut answer = Answer::default();
    let mut responses = BTreeMap::new();
    let mut unprocessed = BTreeMap::new();
    let (mut units, mut bytes) = (0.0, 0);
    for (name, Keys { keys, consistent_read }) in asked.request_items {
        check_table(core, &name)?;
        let consistent = consistent_read.unwrap_or(false);
        let mut items = Vec::new();
        let mut left = Vec::new();
        let mut seen = BTreeSet::new();
        // At least one is done, as DynamoDB does where it answers at all.
        let done = if leave_some { keys.len().div_ceil(2) } else { keys.len() };
        for (nth, key) in keys.into_iter().enumerate() {
            let id = whole_key(core, &key)?;
            if !seen.insert(Arc::clone(&id)) {
                return Err(ApiError::validation("Provided list of item keys contains duplicates"));
            }
            if nth >= done || bytes > ANSWER_BYTES_MAX {
                left.push(key);
                continue;
            }
            let found = core.table.get(&id, consistent);
            units += read_units(found.map_or(1, |stored| stored.bytes), consistent);
            bytes += found.map_or(0, |stored| stored.bytes);
            items.extend(found.map(|stored| stored.json.clone()));
        }
        responses.insert(name.clone(), format!("[{}]", items.join(",")));
        if !left.is_empty() {
            unprocessed.insert(name, Keys { keys: left, consistent_read });
        }
    }
    let responses: Vec<String> =
        responses.iter().map(|(name, items)| format!("{}:{items}", text(name))).collect();
    answer.add("Responses", &format!("{{{}}}", responses.join(",")));
    answer.add("UnprocessedKeys", &text(&unprocessed));
    if matches!(asked.return_consumed_capacity.as_deref(), Some("TOTAL" | "INDEXES")) {
        let capacity = json!([{ "TableName": core.settings.table, "CapacityUnits": units }]);
        answer.add("ConsumedCapacity", &capacity.to_string());
    }
    Ok(answer.done())
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
struct BatchWriteItem {
    request_items: BTreeMap<String, Vec<WriteRequest>>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
enum WriteRequest {
    PutRequest {
        #[serde(rename = "Item")]
        item: Item,
    },
    DeleteRequest {
        #[serde(rename = "Key")]
        key: Item,
    },
}

pub(super) fn batch_write_item(core: &mut Core, body: &[u8], leave_some: bool) -> Result<String, ApiError> {
    let asked: BatchWriteItem = parse(body)?;
    let count: usize = asked.request_items.values().map(Vec::len).sum();
    if !(1..=25).contains(&count) {
        return Err(ApiError::validation("Too many items requested for the BatchWriteItem call"));
    }
    let mut seen = BTreeSet::new();
    for (name, requests) in &asked.request_items {
        check_table(core, name)?;
        for request in requests {
            let key = match request {
                WriteRequest::PutRequest { item } => core.table.key_of(item)?,
                WriteRequest::DeleteRequest { key } => whole_key(core, key)?,
            };
            if !seen.insert(key) {
                return Err(ApiError::validation("Provided list of item keys contains duplicates"));
            }
        }
    }
    let mut unprocessed = BTreeMap::new();
    for (name, requests) in asked.request_items {
        let done = if leave_some { requests.len().div_ceil(2) } else { requests.len() };
        let mut left = Vec::new();
        for (nth, request) in requests.into_iter().enumerate() {
            match request {
                _ if nth >= done => left.push(request),
                WriteRequest::PutRequest { item } => {
                    core.put(item)?;
                }
                WriteRequest::DeleteRequest { key } => {
                    let key = whole_key(core, &key)?;
                    core.delete(&key);
                }
            }
        }
        if !left.is_empty() {
            unprocessed.insert(name, left);
        }
    }
    Ok(format!(r#"{{"UnprocessedItems":{}}}"#, text(&unprocessed)))
}
