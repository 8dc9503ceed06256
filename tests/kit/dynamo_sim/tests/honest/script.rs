//! The requests that simulator and emulator are both asked.

use std::collections::HashMap;

use aws_sdk_dynamodb::primitives::Blob;
use aws_sdk_dynamodb::types::{
    AttributeValue, DeleteRequest, KeysAndAttributes, PutRequest, ReturnConsumedCapacity, ReturnValue,
    Select, StreamSpecification, StreamViewType, WriteRequest,
};
use aws_sdk_dynamodbstreams::types::{ShardFilter, ShardFilterType, ShardIteratorType};

use crate::clients::Clients;
use crate::transcript::Transcript;

/// The table of the script.
pub(crate) const TABLE: &str = "flagsmith_identities";
const INDEX: &str = "environment_api_key-identifier-index";

type Item = HashMap<String, AttributeValue>;

/// Sends a request and notes its answer under a name; the answer, if it was none of refusal.
macro_rules! ask {
    ($script:ident, $step:expr, $request:expr) => {{
        let answer = $request.send().await;
        $script.transcript.note(&$script.clients, &$step, answer.is_ok());
        answer.ok()
    }};
}

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

    /// 30 items of 100 KB: three pages.
    async fn pages(&mut self) {
        for nth in 0..30 {
            let environment = if nth % 3 == 0 { "env_a" } else { "env_b" };
            let item = identity(environment, &format!("id_{nth:02}"), &[("text", s(&"x".repeat(100_000)))]);
            let put = self.clients.tables.put_item().table_name(TABLE).set_item(Some(item));
            put.send().await.unwrap();
        }
        let mut seen = Vec::new();
        let mut after = None;
        let mut sizes = Vec::new();
        loop {
            let scan = self.clients.tables.scan().table_name(TABLE).consistent_read(true);
            let page = scan.set_exclusive_start_key(after).send().await.unwrap();
            sizes.push(page.items().len());
            seen.extend(page.items().iter().map(|item| item["composite_key"].as_s().unwrap().clone()));
            after = page.last_evaluated_key;
            if after.is_none() {
                break;
            }
        }
        seen.sort();
        seen.dedup();
        assert_eq!((seen.len(), sizes.as_slice()), (30, [11, 11, 8].as_slice()));
        let tables = self.clients.tables.clone();
        let scan = || tables.scan().table_name(TABLE).return_consumed_capacity(ReturnConsumedCapacity::Total);
        ask!(self, "scan count", scan().select(Select::Count).consistent_read(true));
        ask!(self, "scan count, eventually consistent", scan().select(Select::Count));
        self.describe("with items").await;
        ask!(self, "scan limit 0", scan().limit(0));
        ask!(self, "scan segment beyond", scan().segment(2).total_segments(2));
        ask!(self, "scan segment alone", scan().segment(0));
        ask!(self, "scan segments alone", scan().total_segments(2));
        ask!(self, "scan from a wrong key", scan().exclusive_start_key("other", s("x")));
        let mut by_segments = Vec::new();
        for segment in 0..4 {
            let mut after = None;
            loop {
                let page = scan().segment(segment).total_segments(4).set_exclusive_start_key(after).limit(3);
                let page = page.projection_expression("composite_key").send().await.unwrap();
                by_segments
                    .extend(page.items().iter().map(|item| item["composite_key"].as_s().unwrap().clone()));
                after = page.last_evaluated_key;
                if after.is_none() {
                    break;
                }
            }
        }
        by_segments.sort();
        assert_eq!(by_segments, seen);
        let filter =
            scan().filter_expression("environment_api_key = :e").expression_attribute_values(":e", s("none"));
        ask!(self, "scan with a filter", filter);
        self.last_page(&seen).await;
    }

    /// A page that ends with the last item says so, and the next is empty.
    async fn last_page(&mut self, old: &[String]) {
        for id in old {
            let delete = self.clients.tables.delete_item().table_name(TABLE).set_key(Some(key(id)));
            delete.send().await.unwrap();
        }
        for nth in 0..3 {
            self.put(&format!("put small {nth}"), identity("env_s", &format!("{nth}"), &[])).await;
        }
        let tables = self.clients.tables.clone();
        let scan = || tables.scan().table_name(TABLE).return_consumed_capacity(ReturnConsumedCapacity::Total);
        ask!(self, "scan all", scan());
        let exact =
            scan().limit(3).projection_expression("#i").expression_attribute_names("#i", "identifier");
        let page = ask!(self, "scan exactly all", exact).unwrap();
        let rest = scan().set_exclusive_start_key(page.last_evaluated_key);
        ask!(self, "scan behind the last", rest);
    }

    async fn index(&mut self) {
        for nth in 0..5 {
            self.put(&format!("put for index {nth}"), identity("env_q", &format!("b{nth}"), &[])).await;
        }
        self.put("put without identifier", {
            let mut item = key("env_q_none");
            item.insert("environment_api_key".to_owned(), s("env_q"));
            item
        })
        .await;
        let query = || {
            let query = self.clients.tables.query().table_name(TABLE).index_name(INDEX);
            let query = query.key_condition_expression("environment_api_key = :e");
            query
                .expression_attribute_values(":e", s("env_q"))
                .return_consumed_capacity(ReturnConsumedCapacity::Total)
        };
        ask!(self, "query", query());
        ask!(self, "query consistently", query().consistent_read(true));
        ask!(self, "query backwards", query().scan_index_forward(false).limit(2));
        let first = ask!(self, "query two", query().limit(2)).unwrap();
        ask!(self, "query on", query().set_exclusive_start_key(first.last_evaluated_key));
        let named = query()
            .key_condition_expression("#e = :e AND identifier > :i")
            .expression_attribute_names("#e", "environment_api_key")
            .expression_attribute_values(":i", s("b2"));
        ask!(self, "query from an identifier", named);
        let prefix = query()
            .key_condition_expression("environment_api_key = :e AND begins_with(identifier, :i)")
            .expression_attribute_values(":i", s("b1"));
        ask!(self, "query a prefix", prefix);
        let between = query()
            .key_condition_expression("environment_api_key = :e AND identifier BETWEEN :a AND :b")
            .expression_attribute_values(":a", s("b1"))
            .expression_attribute_values(":b", s("b3"));
        ask!(self, "query a range", between);
        ask!(self, "query count", query().select(Select::Count));
        ask!(self, "query of no such index", query().index_name("other"));
        let missing = query().key_condition_expression("identifier = :e");
        ask!(self, "query without the hash", missing);
        let undefined = query().key_condition_expression("environment_api_key = :none");
        ask!(self, "query with an undefined value", undefined);
    }

    async fn batches(&mut self) {
        let keys = |ids: &[&str]| {
            let keys = ids.iter().map(|id| key(id)).collect();
            KeysAndAttributes::builder().set_keys(Some(keys)).consistent_read(true).build().unwrap()
        };
        let get =
            || self.clients.tables.batch_get_item().return_consumed_capacity(ReturnConsumedCapacity::Total);
        ask!(self, "batch get", get().request_items(TABLE, keys(&["env_q_b1"])));
        ask!(self, "batch get one of two", get().request_items(TABLE, keys(&["env_q_b1", "env_q_absent"])));
        ask!(self, "batch get doubles", get().request_items(TABLE, keys(&["env_q_b1", "env_q_b1"])));
        ask!(self, "batch get of no such table", get().request_items("other", keys(&["x"])));
        let many: Vec<String> = (0..101).map(|nth| format!("k{nth}")).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        ask!(self, "batch get too many", get().request_items(TABLE, keys(&many)));
        let put = |id: &str| {
            let request = PutRequest::builder().set_item(Some(identity("env_w", id, &[]))).build().unwrap();
            WriteRequest::builder().put_request(request).build()
        };
        let delete = |id: &str| {
            let request =
                DeleteRequest::builder().set_key(Some(key(&format!("env_w_{id}")))).build().unwrap();
            WriteRequest::builder().delete_request(request).build()
        };
        let write = |requests| self.clients.tables.batch_write_item().request_items(TABLE, requests);
        ask!(self, "batch write", write(vec![put("a"), put("b"), delete("c")]));
        ask!(self, "batch write doubles", write(vec![put("a"), delete("a")]));
        ask!(self, "batch write too many", write((0..26).map(|nth| put(&nth.to_string())).collect()));
        self.get("get after batch", "env_w_b").await;
    }

    async fn set_stream(&mut self, step: &str, view: Option<StreamViewType>) {
        let specification =
            StreamSpecification::builder().stream_enabled(view.is_some()).set_stream_view_type(view);
        let update = self.clients.tables.update_table().table_name(TABLE);
        ask!(self, step, update.stream_specification(specification.build().unwrap()));
    }

    async fn stream_of(&mut self, view: &StreamViewType) {
        let v = view.as_str();
        self.set_stream(&format!("{v}: enable"), Some(view.clone())).await;
        self.describe(&format!("{v}: enabled")).await;
        self.set_stream(&format!("{v}: enable twice"), Some(view.clone())).await;
        let described = self.clients.tables.describe_table().table_name(TABLE).send().await.unwrap();
        let arn = described.table.unwrap().latest_stream_arn.unwrap();
        let describe = || self.clients.streams.describe_stream().stream_arn(&arn);
        let stream =
            ask!(self, format!("{v}: describe stream"), describe()).unwrap().stream_description.unwrap();
        let shard = stream.shards()[0].shard_id.clone().unwrap();
        let start = |kind: ShardIteratorType| {
            self.clients
                .streams
                .get_shard_iterator()
                .stream_arn(&arn)
                .shard_id(&shard)
                .shard_iterator_type(kind)
        };
        let latest = start(ShardIteratorType::Latest);
        let latest = ask!(self, format!("{v}: latest"), latest).unwrap().shard_iterator.unwrap();

        let person = |plan: &str| identity("env_r", "r", &[("plan", s(plan)), ("n", n("1.0"))]);
        self.put(&format!("{v}: insert"), person("a")).await;
        self.put(&format!("{v}: insert again"), person("a")).await;
        self.put(&format!("{v}: modify"), person("b")).await;
        self.put(
            &format!("{v}: the same number, written otherwise"),
            identity("env_r", "r", &[("plan", s("b")), ("n", n("1"))]),
        )
        .await;
        self.delete(&format!("{v}: remove"), "env_r_r").await;
        self.delete(&format!("{v}: remove again"), "env_r_r").await;

        let records = || self.clients.streams.get_records();
        let from_latest = records().shard_iterator(&latest);
        let read = ask!(self, format!("{v}: records from latest"), from_latest).unwrap();
        let sequences: Vec<String> = read
            .records()
            .iter()
            .map(|record| record.dynamodb().unwrap().sequence_number().unwrap().to_owned())
            .collect();
        let next = read.next_shard_iterator.unwrap();
        ask!(self, format!("{v}: nothing follows"), records().shard_iterator(next));
        let start = |kind: ShardIteratorType| {
            self.clients
                .streams
                .get_shard_iterator()
                .stream_arn(&arn)
                .shard_id(&shard)
                .shard_iterator_type(kind)
        };
        for (name, iterator) in [
            ("from the horizon", start(ShardIteratorType::TrimHorizon)),
            ("at the second", start(ShardIteratorType::AtSequenceNumber).sequence_number(&sequences[1])),
            (
                "after the second",
                start(ShardIteratorType::AfterSequenceNumber).sequence_number(&sequences[1]),
            ),
            ("after the last", start(ShardIteratorType::AfterSequenceNumber).sequence_number(&sequences[2])),
            ("from latest now", start(ShardIteratorType::Latest)),
        ] {
            let iterator =
                ask!(self, format!("{v}: iterator {name}"), iterator).unwrap().shard_iterator.unwrap();
            ask!(self, format!("{v}: records {name}"), records().shard_iterator(&iterator));
            ask!(self, format!("{v}: one record {name}"), records().shard_iterator(&iterator).limit(1));
        }
        if *view == StreamViewType::NewAndOldImages {
            self.stream_refusals(&arn, &shard, &sequences[0]).await;
        }
        self.set_stream(&format!("{v}: disable"), None).await;
        self.describe(&format!("{v}: disabled")).await;
        self.set_stream(&format!("{v}: disable twice"), None).await;
        let describe = self.clients.streams.describe_stream().stream_arn(&arn);
        ask!(self, format!("{v}: describe disabled stream"), describe);
        let iterator = self.clients.streams.get_shard_iterator().stream_arn(&arn).shard_id(&shard);
        let iterator = iterator.shard_iterator_type(ShardIteratorType::TrimHorizon);
        let iterator = ask!(self, format!("{v}: iterator of disabled stream"), iterator).unwrap();
        let read = self.clients.streams.get_records().set_shard_iterator(iterator.shard_iterator);
        ask!(self, format!("{v}: records of disabled stream"), read);
        self.put(&format!("{v}: put without a stream"), identity("env_r", "s", &[])).await;
        self.delete(&format!("{v}: delete without a stream"), "env_r_s").await;
    }

    async fn stream_refusals(&mut self, arn: &str, shard: &str, sequence: &str) {
        let start = || self.clients.streams.get_shard_iterator().stream_arn(arn).shard_id(shard);
        let after = || start().shard_iterator_type(ShardIteratorType::AfterSequenceNumber);
        ask!(self, "iterator without a number", after());
        ask!(self, "iterator after no number", after().sequence_number("x"));
        ask!(self, "iterator after a number before the shard", after().sequence_number("0".repeat(21)));
        ask!(self, "iterator after a number behind the shard", after().sequence_number("9".repeat(30)));
        ask!(self, "iterator after a number too long", after().sequence_number("9".repeat(41)));
        let horizon = || start().shard_iterator_type(ShardIteratorType::TrimHorizon);
        ask!(self, "iterator from the horizon with a number", horizon().sequence_number(sequence));
        ask!(self, "iterator of another type", start().shard_iterator_type(ShardIteratorType::from("OTHER")));
        ask!(self, "iterator of no such shard", horizon().shard_id("shardId-00000000000000000000-00000000"));
        ask!(self, "iterator of a wrong shard name", horizon().shard_id("shard"));
        let iterator = horizon().send().await.unwrap().shard_iterator.unwrap();
        let records = || self.clients.streams.get_records().shard_iterator(&iterator);
        ask!(self, "records limit 0", records().limit(0));
        ask!(self, "records limit 1000", records().limit(1000));
        ask!(self, "records limit 1001", records().limit(1001));
        let mut forged = iterator.clone();
        forged.truncate(forged.len() - 6);
        ask!(self, "records of a cut iterator", records().shard_iterator(forged));
        ask!(self, "records of no iterator", records().shard_iterator("x"));
        let describe = || self.clients.streams.describe_stream().stream_arn(arn);
        ask!(self, "describe stream limit 0", describe().limit(0));
        ask!(self, "describe stream limit 1", describe().limit(1));
        ask!(self, "describe stream limit 101", describe().limit(101));
        ask!(self, "describe stream behind its shard", describe().exclusive_start_shard_id(shard));
        let unknown = "shardId-00000000000000000000-00000000";
        ask!(self, "describe stream behind no shard", describe().exclusive_start_shard_id(unknown));
        let filter = ShardFilter::builder().r#type(ShardFilterType::ChildShards).shard_id(shard).build();
        ask!(self, "describe stream children", describe().shard_filter(filter));
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
