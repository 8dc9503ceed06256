//! A table of identities of a test's own.

use std::collections::HashMap;

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::types::{AttributeValue, PutRequest, WriteRequest};
use rollcall_source_dynamodb::ScanConfig;
use rollcall_test_servers::DynamoDb;
use tokio::task::JoinSet;

pub(crate) const TABLE: &str = "flagsmith_identities";

/// A server with the table.
pub(crate) struct Table {
    pub(crate) server: DynamoDb,
    pub(crate) client: Client,
}

/// An identity's item with a number.
pub(crate) fn identity(environment: &str, identifier: &str, n: u64) -> HashMap<String, AttributeValue> {
    let s = |text: &str| AttributeValue::S(text.to_owned());
    let a_trait = HashMap::from([
        ("trait_key".to_owned(), s("plan")),
        ("trait_value".to_owned(), AttributeValue::S(format!("plan-{}", n % 7))),
    ]);
    HashMap::from([
        ("composite_key".to_owned(), AttributeValue::S(format!("{environment}_{identifier}"))),
        ("environment_api_key".to_owned(), s(environment)),
        ("identifier".to_owned(), s(identifier)),
        ("identity_uuid".to_owned(), AttributeValue::S(format!("uuid-{environment}-{identifier}"))),
        ("identity_traits".to_owned(), AttributeValue::L(vec![AttributeValue::M(a_trait)])),
        ("n".to_owned(), AttributeValue::N(n.to_string())),
    ])
}

impl Table {
    pub(crate) async fn start() -> Self {
        let server = DynamoDb::start();
        server.create_identities_table(TABLE);
        let shared = rollcall_aws::load(&crate::config(&server.url(), TABLE).aws).await.unwrap();
        Self { client: Client::new(&shared), server }
    }

    pub(crate) fn config(&self) -> ScanConfig {
        crate::config(&self.server.url(), TABLE)
    }

    /// Writes so many items of an environment, numbered, and says their ids, sorted.
    pub(crate) async fn fill(&self, environment: &str, count: usize) -> Vec<String> {
        let mut tasks = JoinSet::new();
        let numbers: Vec<usize> = (0..count).collect();
        for chunk in numbers.chunks(25) {
            let puts: Vec<_> = chunk
                .iter()
                .map(|n| {
                    let item = identity(environment, &format!("{n:06}"), *n as u64);
                    let put = PutRequest::builder().set_item(Some(item)).build().unwrap();
                    WriteRequest::builder().put_request(put).build()
                })
                .collect();
            if tasks.len() >= 8 {
                tasks.join_next().await.unwrap().unwrap();
            }
            let written = self.client.batch_write_item().request_items(TABLE, puts).send();
            tasks.spawn(async move {
                assert!(written.await.unwrap().unprocessed_items.is_none_or(|i| i.is_empty()))
            });
        }
        while let Some(ended) = tasks.join_next().await {
            ended.unwrap();
        }
        (0..count).map(|n| format!("{environment}_{n:06}")).collect()
    }

    pub(crate) async fn put(&self, item: HashMap<String, AttributeValue>) {
        self.client.put_item().table_name(TABLE).set_item(Some(item)).send().await.unwrap();
    }

    pub(crate) async fn delete(&self, id: &str) {
        let key = AttributeValue::S(id.to_owned());
        self.client.delete_item().table_name(TABLE).key("composite_key", key).send().await.unwrap();
    }
}
