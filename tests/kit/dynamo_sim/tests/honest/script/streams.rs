//! A stream of each view, from its beginning to its end, and what is refused of it.

use aws_sdk_dynamodb::primitives::DateTime;
use aws_sdk_dynamodb::types::{StreamSpecification, StreamViewType};
use aws_sdk_dynamodbstreams::types::{ShardFilter, ShardFilterType, ShardIteratorType};

use super::{Script, TABLE, identity, n, s};

impl Script {
    async fn set_stream(&mut self, step: &str, view: Option<StreamViewType>) {
        let specification =
            StreamSpecification::builder().stream_enabled(view.is_some()).set_stream_view_type(view);
        let update = self.clients.tables.update_table().table_name(TABLE);
        ask!(self, step, update.stream_specification(specification.build().unwrap()));
    }

    pub(super) async fn stream_of(&mut self, view: &StreamViewType) {
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
        self.end_stream(v, &arn, &shard).await;
    }

    async fn end_stream(&mut self, v: &str, arn: &str, shard: &str) {
        self.set_stream(&format!("{v}: disable"), None).await;
        self.describe(&format!("{v}: disabled")).await;
        self.set_stream(&format!("{v}: disable twice"), None).await;
        let describe = self.clients.streams.describe_stream().stream_arn(arn);
        ask!(self, format!("{v}: describe disabled stream"), describe);
        let iterator = self.clients.streams.get_shard_iterator().stream_arn(arn).shard_id(shard);
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
        let at = |seconds| {
            let iterator = start().shard_iterator_type(ShardIteratorType::AtTimestamp);
            iterator.timestamp(DateTime::from_secs(seconds))
        };
        ask!(self, "iterator at a time", at(1));
        ask!(self, "iterator at a time to come", at(4_000_000_000));
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
}
