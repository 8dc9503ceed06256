//! A table that is read: what DescribeTable says of it, and what every call on it needs.

use std::time::Duration;

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::types::{KeyType, ScalarAttributeType, TableDescription, TableStatus};
use rollcall_aws::{AwsConfig, Backoff, ServerClock, fault};
use rollcall_model::{Fault, FaultKind};

/// Failures in a row after which the task is told; it goes on where it was.
const FAILURES_MAX: u32 = 9;
const PAUSE_FIRST_MS: u64 = 50;
const PAUSE_MAX_MS: u64 = 2_000;

/// A table, open.
#[derive(Clone, Debug)]
pub(crate) struct Table {
    pub(crate) client: Client,
    pub(crate) clock: ServerClock,
    /// As the topology names it.
    pub(crate) name: String,
    pub(crate) arn: String,
    pub(crate) key: &'static str,
    /// Another with each table of this name.
    pub(crate) id: Option<String>,
    /// As of the last six hours.
    pub(crate) items: u64,
    /// As of the last six hours.
    pub(crate) bytes: u64,
    indexes: Vec<(String, Vec<String>)>,
}

impl Table {
    /// Asks for the table, and refuses one whose key is another. Afterwards the clock is AWS's.
    pub(crate) async fn open(aws: &AwsConfig, name: &str, key: &'static str) -> Result<Self, Fault> {
        let shared = rollcall_aws::load(aws).await?;
        let clock = ServerClock::default();
        let settings = aws_sdk_dynamodb::config::Builder::from(&shared).interceptor(clock.clone()).build();
        let client = Client::from_conf(settings);
        let likely = if name.starts_with("arn:") {
            name.to_owned()
        } else {
            format!("arn:aws:dynamodb:{}:*:table/{name}", aws.region)
        };
        let mut failures = Failures::default();
        let told = loop {
            let asked = Box::pin(client.describe_table().table_name(name).send()).await;
            match asked {
                Ok(told) => break told.table,
                Err(error) => {
                    let what = format!("asking for table {name}");
                    failures.pause(fault(&what, "dynamodb:DescribeTable", &likely, error)).await?;
                }
            }
        };
        let told = told.ok_or_else(|| Fault::retry(format!("DynamoDB said nothing of table {name}")))?;
        check(&told, name, key)?;
        Ok(Self {
            client,
            clock,
            name: name.to_owned(),
            arn: told.table_arn().unwrap_or(&likely).to_owned(),
            key,
            id: told.table_id().map(str::to_owned),
            items: unsigned(told.item_count()),
            bytes: unsigned(told.table_size_bytes()),
            indexes: indexes(&told),
        })
    }

    /// Refuses an index that isn't there, or that another attribute leads.
    pub(crate) fn check_index(&self, index: &str, attribute: &str) -> Result<(), Fault> {
        let found = self.indexes.iter().find(|(name, _)| name == index);
        if found.is_some_and(|(_, keys)| keys.first().is_some_and(|first| first == attribute)) {
            return Ok(());
        }
        let known: Vec<_> =
            self.indexes.iter().map(|(name, keys)| format!("{name} ({})", keys.join(", "))).collect();
        Err(Fault::config(format!(
            "table {} has no index {index} on {attribute}; it has: {}",
            self.name,
            if known.is_empty() { "none".to_owned() } else { known.join(", ") }
        ))
        .repair("scan the whole table instead: leave --environment out"))
    }
}

fn unsigned(number: Option<i64>) -> u64 {
    number.and_then(|number| u64::try_from(number).ok()).unwrap_or_default()
}

fn indexes(told: &TableDescription) -> Vec<(String, Vec<String>)> {
    let keys = |schema: &[aws_sdk_dynamodb::types::KeySchemaElement]| {
        schema.iter().map(|element| element.attribute_name().to_owned()).collect()
    };
    told.global_secondary_indexes()
        .iter()
        .filter_map(|index| Some((index.index_name()?.to_owned(), keys(index.key_schema()))))
        .collect()
}

fn check(told: &TableDescription, name: &str, key: &str) -> Result<(), Fault> {
    if matches!(told.table_status(), Some(TableStatus::Creating)) {
        return Err(Fault::retry(format!("table {name} is being created")));
    }
    let keys = told.key_schema();
    let [only] = keys else {
        let names: Vec<_> = keys.iter().map(|element| element.attribute_name()).collect();
        return Err(other_key(name, key, &names.join(" and ")));
    };
    let text = told.attribute_definitions().iter().any(|attribute| {
        attribute.attribute_name() == only.attribute_name()
            && attribute.attribute_type() == &ScalarAttributeType::S
    });
    if only.attribute_name() == key && only.key_type() == &KeyType::Hash && text {
        return Ok(());
    }
    Err(other_key(name, key, only.attribute_name()))
}

fn other_key(name: &str, key: &str, found: &str) -> Fault {
    Fault::config(format!("table {name} has the key {found}; a table of identities has {key}, a text, alone"))
        .repair("correct `table` of the source in topology.yaml")
}

/// How often it went wrong in a row.
#[derive(Debug)]
pub(crate) struct Failures(Backoff);

impl Default for Failures {
    fn default() -> Self {
        Self(Backoff::new(PAUSE_FIRST_MS, PAUSE_MAX_MS))
    }
}

impl Failures {
    /// Waits, if asking again can help and was not tried too often.
    pub(crate) async fn pause(&mut self, fault: Fault) -> Result<(), Fault> {
        if fault.kind != FaultKind::Retry || self.0.failures() >= FAILURES_MAX {
            return Err(fault);
        }
        let pause_ms = self.0.next_ms(rand::random());
        tracing::debug!(pause_ms, "{}", fault.message());
        tokio::time::sleep(Duration::from_millis(pause_ms)).await;
        Ok(())
    }

    /// It went well, or at least on.
    pub(crate) fn none(&mut self) {
        self.0.reset();
    }
}
