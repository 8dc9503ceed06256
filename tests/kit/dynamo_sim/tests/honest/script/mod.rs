//! The requests that simulator and emulator are both asked.

use std::collections::HashMap;

use aws_sdk_dynamodb::primitives::Blob;
use aws_sdk_dynamodb::types::{AttributeValue, ReturnConsumedCapacity, ReturnValue, StreamViewType};
use aws_sdk_dynamodbstreams::types::ShardIteratorType;

use crate::clients::Clients;
use crate::transcript::Transcript;

/// The table of the script.
pub(crate) const TABLE: &str = "flagsmith_identities";

type Item = HashMap<String, AttributeValue>;

/// Sends a request and notes its answer under a name; the answer, if it was none of refusal.
macro_rules! ask {
    ($script:ident, $step:expr, $request:expr) => {{
        let answer = $request.send().await;
        $script.transcript.note(&$script.clients, &$step, answer.is_ok());
        answer.ok()
    }};
}

mod streams;
mod tables;

/// A run of the script.
#[derive(Debug)]
pub(crate) struct Script {
    clients: Clients,
    transcript: Transcript,
}

fn s(text: &str) -> AttributeValue {
    AttributeValue::S(text.to_owned())
}

fn n(text: &str) -> AttributeValue {
    AttributeValue::N(text.to_owned())
}

fn key(id: &str) -> Item {
    Item::from([("composite_key".to_owned(), s(id))])
}

fn identity(environment: &str, identifier: &str, extra: &[(&str, AttributeValue)]) -> Item {
    let mut item = key(&format!("{environment}_{identifier}"));
    item.insert("environment_api_key".to_owned(), s(environment));
    item.insert("identifier".to_owned(), s(identifier));
    item.extend(extra.iter().map(|(name, value)| ((*name).to_owned(), value.clone())));
    item
}

impl Script {
    /// Asks everything; the table is empty and has no stream.
    pub(crate) async fn run(clients: Clients) -> Transcript {
        let mut script = Self { clients, transcript: Transcript::default() };
        script.describe("empty").await;
        script.writes().await;
        script.refused_writes().await;
        script.numbers().await;
        script.pages().await;
        script.index().await;
        script.batches().await;
        for view in [
            StreamViewType::KeysOnly,
            StreamViewType::OldImage,
            StreamViewType::NewImage,
            StreamViewType::NewAndOldImages,
        ] {
            script.stream_of(&view).await;
        }
        script.wrong_names().await;
        script.transcript
    }

    async fn describe(&mut self, name: &str) {
        ask!(self, format!("describe {name}"), self.clients.tables.describe_table().table_name(TABLE));
        ask!(self, format!("list streams {name}"), self.clients.streams.list_streams().table_name(TABLE));
    }

    async fn put(&mut self, step: &str, item: Item) {
        let put = self.clients.tables.put_item().table_name(TABLE).set_item(Some(item));
        ask!(self, step, put.return_values(ReturnValue::AllOld));
    }

    async fn delete(&mut self, step: &str, id: &str) {
        let delete = self.clients.tables.delete_item().table_name(TABLE).set_key(Some(key(id)));
        ask!(self, step, delete.return_values(ReturnValue::AllOld));
    }

    async fn get(&mut self, step: &str, id: &str) {
        let get = self.clients.tables.get_item().table_name(TABLE).set_key(Some(key(id)));
        let get = get.consistent_read(true).return_consumed_capacity(ReturnConsumedCapacity::Total);
        ask!(self, step, get);
    }

    async fn writes(&mut self) {
        let every_type = [
            ("n", n("10.50")),
            ("bool", AttributeValue::Bool(true)),
            ("null", AttributeValue::Null(true)),
            ("bytes", AttributeValue::B(Blob::new([0, 1, 255]))),
            ("list", AttributeValue::L(vec![s("x"), n("1e2"), AttributeValue::L(Vec::new())])),
            (
                "map",
                AttributeValue::M(Item::from([("k".to_owned(), n("-0.0")), ("empty".to_owned(), s(""))])),
            ),
            ("texts", AttributeValue::Ss(vec!["b".to_owned(), "a".to_owned()])),
            ("numbers", AttributeValue::Ns(vec!["2.0".to_owned(), "10".to_owned(), "-3".to_owned()])),
        ];
        self.put("put new", identity("env_1", "Zoë", &every_type)).await;
        self.get("get every type", "env_1_Zoë").await;
        self.put("put the same", identity("env_1", "Zoë", &every_type)).await;
        self.put("put other", identity("env_1", "Zoë", &[("n", n("2"))])).await;
        self.delete("delete", "env_1_Zoë").await;
        self.delete("delete what is not there", "env_1_Zoë").await;
        self.get("get what is not there", "env_1_Zoë").await;
        self.put("put without index attributes", key("bare")).await;
        self.delete("delete bare", "bare").await;
    }

    async fn refused_writes(&mut self) {
        let wrong: Vec<(&str, Item)> = vec![
            ("no key", Item::from([("x".to_owned(), s("y"))])),
            ("an empty key", key("")),
            ("a key of another type", Item::from([("composite_key".to_owned(), n("1"))])),
            ("an index attribute of another type", {
                let mut item = key("k");
                item.insert("identifier".to_owned(), n("1"));
                item
            }),
            ("an empty index attribute", identity("env_1", "", &[])),
            ("an empty set", identity("env_1", "x", &[("set", AttributeValue::Ss(Vec::new()))])),
            (
                "a set with doubles",
                identity("env_1", "x", &[("set", AttributeValue::Ss(vec!["a".into(), "a".into()]))]),
            ),
            ("too large", identity("env_1", "x", &[("text", s(&"x".repeat(400 * 1024)))])),
            (
                "too deep",
                identity(
                    "env_1",
                    "x",
                    &[("deep", (0..40).fold(s("x"), |inner, _| AttributeValue::L(vec![inner])))],
                ),
            ),
            ("a key too long", key(&"k".repeat(2049))),
        ];
        for (name, item) in wrong {
            self.put(&format!("put {name}"), item).await;
        }
        let two = Item::from([("composite_key".to_owned(), s("k")), ("other".to_owned(), s("x"))]);
        let get = self.clients.tables.get_item().table_name(TABLE).set_key(Some(two));
        ask!(self, "get by two attributes", get);
        let other = Item::from([("other".to_owned(), s("k"))]);
        let get = self.clients.tables.get_item().table_name(TABLE).set_key(Some(other));
        ask!(self, "get by another attribute", get);
    }

    async fn numbers(&mut self) {
        let long = "1".repeat(38);
        let longer = "1".repeat(39);
        for text in [
            "0",
            "-0",
            "0.0",
            "007",
            "1.50",
            "10.0",
            "100",
            "1e3",
            "1E+3",
            "1.5e-3",
            "-12.30",
            ".5",
            "5.",
            "+7",
            "1e125",
            "9.9e125",
            "1e126",
            "1e-130",
            "1e-131",
            "123456789012345678901234567890.12345678",
            &long,
            &longer,
            "",
            "x",
            "NaN",
            "Infinity",
            "1e",
            "0x10",
            " 1",
            "1_000",
        ] {
            self.put(&format!("number '{text}'"), identity("env_n", "n", &[("n", n(text))])).await;
            self.get(&format!("number '{text}' as kept"), "env_n_n").await;
        }
        self.delete("delete numbers", "env_n_n").await;
    }

    async fn wrong_names(&mut self) {
        let tables = &self.clients.tables;
        ask!(self, "describe no such table", tables.describe_table().table_name("other"));
        ask!(self, "scan no such table", tables.scan().table_name("other"));
        ask!(self, "get of no such table", tables.get_item().table_name("other").set_key(Some(key("x"))));
        ask!(self, "put to no such table", tables.put_item().table_name("other").set_item(Some(key("x"))));
        let streams = &self.clients.streams;
        let arn =
            format!("arn:aws:dynamodb:eu-west-2:000000000000:table/{TABLE}/stream/2015-01-01T00:00:00.000");
        ask!(self, "describe no such stream", streams.describe_stream().stream_arn(&arn));
        ask!(self, "describe no ARN", streams.describe_stream().stream_arn("x".repeat(40)));
        let iterator =
            streams.get_shard_iterator().stream_arn(&arn).shard_id("shardId-00000000000000000000-00000000");
        ask!(self, "iterator of no such stream", iterator.shard_iterator_type(ShardIteratorType::Latest));
        ask!(self, "list streams of no such table", streams.list_streams().table_name("other"));
    }
}
