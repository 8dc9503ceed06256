//! The simulator beside DynamoDB Local: the same requests, the same answers.

use aws_sdk_dynamodb::types::{
    AttributeDefinition, BillingMode, GlobalSecondaryIndex, KeySchemaElement, KeyType, Projection,
    ProjectionType, ScalarAttributeType,
};
use rollcall_dynamo_sim::{DynamoSim, SimSettings};
use rollcall_test_servers::DynamoDb;

use crate::clients::Clients;
use crate::script::{Script, TABLE};
use crate::transcript::{Exception, check, differences};

/// Where the simulator does as AWS says and the emulator does not, or where neither is bound.
const EXCEPTIONS: &[Exception] = &[
    Exception { step: "", path: "/awsRegion", why: "the emulator has a region of its own, ddblocal" },
    Exception {
        step: "",
        path: "/LastUpdateToPayPerRequestDateTime",
        why: "no reader wants to know when a table was last billed otherwise",
    },
    Exception {
        step: "",
        path: "/ProvisionedThroughput/LastDecreaseDateTime",
        why: "AWS leaves it out where there was none; the emulator says 1970",
    },
    Exception {
        step: "",
        path: "/ProvisionedThroughput/LastIncreaseDateTime",
        why: "AWS leaves it out where there was none; the emulator says 1970",
    },
    Exception {
        step: "",
        path: "/GlobalSecondaryIndexes/0/ProvisionedThroughput",
        why: "AWS says zeros for an index of a table that pays per request; the emulator leaves it out",
    },
    Exception {
        step: "",
        path: "/GlobalSecondaryIndexes/0/IndexSizeBytes",
        why: "the emulator counts items that are not in the index, though it leaves them out of ItemCount",
    },
    Exception {
        step: "delete what is not there",
        path: "/ConsumedCapacity",
        why: "the emulator says what a delete of nothing consumed though nobody asked",
    },
    Exception {
        step: "remove again",
        path: "/ConsumedCapacity",
        why: "the emulator says what a delete of nothing consumed though nobody asked",
    },
    Exception {
        step: "batch get one of two",
        path: "/CapacityUnits",
        why: "AWS: reading an item that doesn't exist consumes a unit (ProvisionedThroughput guide); the emulator counts none",
    },
    Exception {
        step: "scan behind the last",
        path: "/CapacityUnits",
        why: "AWS: a page without items consumes the least there is; the emulator counts none",
    },
    Exception {
        step: "describe stream children",
        path: "/Shards",
        why: "the emulator ignores ShardFilter, which is newer than it",
    },
    Exception {
        step: "",
        path: "/L/1/N",
        why: "the emulator keeps nested numbers as they are written; AWS normalises them all (data types guide)",
    },
    Exception {
        step: "",
        path: "/M/k/N",
        why: "the emulator keeps nested numbers as they are written; AWS normalises them all (data types guide)",
    },
    Exception {
        step: "scan",
        path: "/LastEvaluatedKey/composite_key/S",
        why: "the order of a scan is the hash's, of which nothing is said",
    },
    Exception {
        step: "behind the shard",
        path: "",
        why: "the emulator fails with a number that is none of the shard's; AWS says nothing of it, and a refusal is plain",
    },
    Exception {
        step: "iterator at a time",
        path: "",
        why: "the emulator fails with AT_TIMESTAMP, which is newer than it",
    },
    Exception {
        step: "iterator of another type",
        path: "",
        why: "the emulator fails; the API reference has a closed list, which AWS checks as every other",
    },
    Exception {
        step: "records limit 1001",
        path: "/refused",
        why: "the API reference: LimitExceededException where the limit is more than 1000",
    },
    Exception {
        step: "records of a cut iterator",
        path: "/refused",
        why: "the emulator takes any iterator that it can't decode for an old one; what was never an iterator, it refuses as we do",
    },
];

/// The simulator's table, made in the emulator.
async fn create_table(clients: &Clients) {
    let attribute = |name: &str| {
        let attribute = AttributeDefinition::builder().attribute_name(name);
        attribute.attribute_type(ScalarAttributeType::S).build().unwrap()
    };
    let key = |name: &str, kind: KeyType| {
        KeySchemaElement::builder().attribute_name(name).key_type(kind).build().unwrap()
    };
    let index = GlobalSecondaryIndex::builder()
        .index_name("environment_api_key-identifier-index")
        .key_schema(key("environment_api_key", KeyType::Hash))
        .key_schema(key("identifier", KeyType::Range))
        .projection(Projection::builder().projection_type(ProjectionType::All).build());
    let table = clients.tables.create_table().table_name(TABLE).billing_mode(BillingMode::PayPerRequest);
    table
        .attribute_definitions(attribute("composite_key"))
        .attribute_definitions(attribute("environment_api_key"))
        .attribute_definitions(attribute("identifier"))
        .key_schema(key("composite_key", KeyType::Hash))
        .global_secondary_indexes(index.build().unwrap())
        .send()
        .await
        .unwrap();
    drop(clients.heard());
}

#[tokio::test]
async fn simulator_and_emulator_answer_alike() {
    let emulator = DynamoDb::start();
    let theirs = Clients::new(&emulator.url());
    create_table(&theirs).await;
    let theirs = Box::pin(Script::run(theirs)).await;
    let sim = DynamoSim::start(SimSettings { shards: 1, view: None, roll: None, ..SimSettings::default() });
    let ours = Box::pin(Script::run(Clients::new(&sim.url()))).await;
    check(&differences(&ours, &theirs), EXCEPTIONS);
}
