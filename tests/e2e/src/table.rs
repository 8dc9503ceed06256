//! A table at the edge, as tests write and read it: DynamoDB's own JSON over HTTP. Items are in that form anyway, and
//! neither the emulator nor the simulator checks a signature, so this needs no SDK.

use futures_util::{StreamExt, TryStreamExt, stream};
use rollcall_model::{Attribute, Item};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::Failure;

/// What the table of identities is called.
pub const TABLE: &str = "flagsmith_identities";
/// Items that DynamoDB takes at a time.
const BATCH_ITEMS_MAX: usize = 25;
/// Calls under way at a time.
const CALLS_MAX: usize = 8;
/// Parts of a scan, read one beside the other.
const SCAN_SEGMENTS: usize = 4;
const AUTHORIZATION: &str = "AWS4-HMAC-SHA256 Credential=test/20260101/us-east-1/dynamodb/aws4_request, \
                             SignedHeaders=host, Signature=0";

/// A table, and a way to it.
#[derive(Clone, Debug)]
pub struct Table {
    url: String,
    name: String,
    http: reqwest::Client,
    /// UpdateItem is taken.
    updates: bool,
}

/// A request of a batch, in DynamoDB's words.
#[derive(Serialize)]
enum Write<'a> {
    PutRequest {
        #[serde(rename = "Item")]
        item: &'a Item,
    },
    DeleteRequest {
        #[serde(rename = "Key")]
        key: Value,
    },
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Got {
    item: Option<Item>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Scanned {
    items: Vec<Item>,
    last_evaluated_key: Option<Value>,
}

impl Table {
    /// The table of identities of a server.
    #[must_use]
    pub fn new(url: &str) -> Self {
        Self { url: url.to_owned(), name: TABLE.to_owned(), http: reqwest::Client::new(), updates: true }
    }

    /// The same of the simulator, which takes no UpdateItem: an item is read and written whole instead.
    #[must_use]
    pub fn simulated(url: &str) -> Self {
        Self { updates: false, ..Self::new(url) }
    }

    /// Where its server is.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Asks for an operation of tables; an error holds what the server says.
    ///
    /// # Errors
    /// When it is refused, or nobody answers.
    pub async fn ask(&self, operation: &str, body: &impl Serialize) -> Result<String, Failure> {
        let request =
            self.http.post(&self.url).header("X-Amz-Target", format!("DynamoDB_20120810.{operation}"));
        let request = request.header("Authorization", AUTHORIZATION);
        let request = request.header("Content-Type", "application/x-amz-json-1.0");
        let answer = request.body(serde_json::to_vec(body)?).send().await?;
        let is_done = answer.status().is_success();
        let text = answer.text().await?;
        if is_done { Ok(text) } else { Err(format!("{operation}: {text}").into()) }
    }

    /// Writes an item whole.
    ///
    /// # Errors
    /// As [`Table::ask`].
    pub async fn put(&self, item: &Item) -> Result<(), Failure> {
        self.ask("PutItem", &json!({"TableName": self.name, "Item": item})).await.map(drop)
    }

    /// Deletes an item, whether or not it is there.
    ///
    /// # Errors
    /// As [`Table::ask`].
    pub async fn delete(&self, key: &str) -> Result<(), Failure> {
        self.ask("DeleteItem", &json!({"TableName": self.name, "Key": key_of(key)})).await.map(drop)
    }

    /// Sets an attribute of an item, or takes it away; whether the item was there.
    ///
    /// # Errors
    /// As [`Table::ask`].
    pub async fn update(&self, key: &str, name: &str, value: Option<&Attribute>) -> Result<bool, Failure> {
        if !self.updates {
            return self.rewrite(key, name, value).await;
        }
        let mut body = json!({
            "TableName": self.name,
            "Key": key_of(key),
            "UpdateExpression": if value.is_some() { "SET #name = :value" } else { "REMOVE #name" },
            "ConditionExpression": "attribute_exists(composite_key)",
            "ExpressionAttributeNames": {"#name": name},
        });
        if let Some(value) = value {
            body["ExpressionAttributeValues"] = json!({":value": value});
        }
        match self.ask("UpdateItem", &body).await {
            Ok(_) => Ok(true),
            Err(error) if error.to_string().contains("ConditionalCheckFailedException") => Ok(false),
            Err(error) => Err(error),
        }
    }

    async fn rewrite(&self, key: &str, name: &str, value: Option<&Attribute>) -> Result<bool, Failure> {
        let answer = self.ask("GetItem", &json!({"TableName": self.name, "Key": key_of(key)})).await?;
        let Got { item: Some(mut item) } = serde_json::from_str(&answer)? else { return Ok(false) };
        item.remove(name);
        item.extend(value.map(|value| (name.to_owned(), value.clone())));
        self.put(&item).await?;
        Ok(true)
    }

    /// Writes these and deletes those, no key twice, in batches of which some are under way at a time.
    ///
    /// # Errors
    /// As [`Table::ask`].
    pub async fn write(&self, puts: &[Item], deletes: &[String]) -> Result<(), Failure> {
        let puts = puts.iter().map(|item| Write::PutRequest { item });
        let deletes = deletes.iter().map(|key| Write::DeleteRequest { key: key_of(key) });
        let writes: Vec<_> = puts.chain(deletes).collect();
        let batches = writes.chunks(BATCH_ITEMS_MAX).map(|batch| self.write_batch(batch)).collect::<Vec<_>>();
        stream::iter(batches).buffer_unordered(CALLS_MAX).try_collect().await
    }

    async fn write_batch(&self, batch: &[Write<'_>]) -> Result<(), Failure> {
        #[derive(Serialize)]
        #[serde(rename_all = "PascalCase")]
        struct Body<T> {
            request_items: T,
        }
        let request_items = std::collections::BTreeMap::from([(&self.name, batch)]);
        let mut answer = self.ask("BatchWriteItem", &Body { request_items }).await?;
        loop {
            let left = serde_json::from_str::<Value>(&answer)?["UnprocessedItems"].take();
            if left.as_object().is_none_or(serde_json::Map::is_empty) {
                return Ok(());
            }
            answer = self.ask("BatchWriteItem", &Body { request_items: left }).await?;
        }
    }

    /// Every item, as it stands now.
    ///
    /// # Errors
    /// As [`Table::ask`].
    pub async fn items(&self) -> Result<Vec<Item>, Failure> {
        let parts = (0..SCAN_SEGMENTS).map(|segment| self.scan(segment));
        let parts: Vec<Vec<Item>> = stream::iter(parts).buffer_unordered(SCAN_SEGMENTS).try_collect().await?;
        Ok(parts.into_iter().flatten().collect())
    }

    async fn scan(&self, segment: usize) -> Result<Vec<Item>, Failure> {
        let mut items = Vec::new();
        let mut body = json!({
            "TableName": self.name, "ConsistentRead": true, "Segment": segment, "TotalSegments": SCAN_SEGMENTS,
        });
        loop {
            let page: Scanned = serde_json::from_str(&self.ask("Scan", &body).await?)?;
            items.extend(page.items);
            let Some(last) = page.last_evaluated_key else { return Ok(items) };
            body["ExclusiveStartKey"] = last;
        }
    }
}

/// The key of an item by its text.
fn key_of(key: &str) -> Value {
    json!({"composite_key": {"S": key}})
}
