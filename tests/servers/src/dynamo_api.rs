//! What tests ask of any DynamoDB in its own words (JSON over HTTP), without an SDK: its servers check no signature.

use std::io::Result;

use crate::http::{Answer, ask};

/// Any key will do, of letters and digits.
const AUTHORIZATION: &str = "AWS4-HMAC-SHA256 Credential=test/20260101/us-east-1/dynamodb/aws4_request, \
                             SignedHeaders=host, Signature=0";

/// Asks for an operation of DynamoDB's tables or of its streams, which are an API of their own.
pub(crate) fn request(port: u16, operation: &str, body: &str) -> Result<Answer> {
    let is_of_streams =
        ["ListStreams", "DescribeStream", "GetShardIterator", "GetRecords"].contains(&operation);
    let api = if is_of_streams { "DynamoDBStreams_20120810" } else { "DynamoDB_20120810" };
    let target = format!("{api}.{operation}");
    let headers = [
        ("X-Amz-Target", target.as_str()),
        ("Content-Type", "application/x-amz-json-1.0"),
        ("Authorization", AUTHORIZATION),
    ];
    ask(port, "POST", "/", &headers, body)
}

/// The same of a server that is up, for what must succeed.
pub(crate) fn demand(port: u16, operation: &str, body: &str) -> String {
    let answer = request(port, operation, body).unwrap_or_else(|error| panic!("{operation}: {error}"));
    assert_eq!(answer.status, 200, "{operation} of {body}: {}", answer.body);
    answer.body
}

/// Whether a server takes requests.
pub(crate) fn is_up(port: u16) -> bool {
    request(port, "ListTables", "{}").is_ok_and(|answer| answer.status == 200)
}

/// What a server says as it refuses an operation.
pub(crate) fn refusal(port: u16, operation: &str, body: &str) -> String {
    let answer = request(port, operation, body).unwrap_or_else(|error| panic!("{operation}: {error}"));
    assert_eq!(answer.status, 400, "{operation} of {body} is not refused: {}", answer.body);
    answer.body
}

/// Makes a table of identities as Flagsmith has it, and says what its stream is called.
pub(crate) fn create_identities_table(port: u16, name: &str) -> String {
    let body = IDENTITIES_TABLE.replace("NAME", name);
    let answer = demand(port, "CreateTable", &body);
    text_at(&answer, "LatestStreamArn").unwrap_or_else(|| panic!("the table has no stream: {answer}"))
}

/// The first text under a key, of an answer whose text needs no escapes.
fn text_at(json: &str, key: &str) -> Option<String> {
    let after = json.split_once(&format!("\"{key}\""))?.1.trim_start().strip_prefix(':')?;
    let text = after.trim_start().strip_prefix('"')?;
    Some(text.split_once('"')?.0.to_owned())
}

/// `flagsmith_identities` of Flagsmith's own deployment, keys and indexes: no attribute beside them is declared.
const IDENTITIES_TABLE: &str = r#"{
  "TableName": "NAME",
  "AttributeDefinitions": [
    {"AttributeName": "composite_key", "AttributeType": "S"},
    {"AttributeName": "environment_api_key", "AttributeType": "S"},
    {"AttributeName": "identifier", "AttributeType": "S"},
    {"AttributeName": "identity_uuid", "AttributeType": "S"},
    {"AttributeName": "dashboard_alias", "AttributeType": "S"}
  ],
  "KeySchema": [{"AttributeName": "composite_key", "KeyType": "HASH"}],
  "GlobalSecondaryIndexes": [
    {
      "IndexName": "environment_api_key-identifier-index",
      "KeySchema": [
        {"AttributeName": "environment_api_key", "KeyType": "HASH"},
        {"AttributeName": "identifier", "KeyType": "RANGE"}
      ],
      "Projection": {"ProjectionType": "ALL"}
    },
    {
      "IndexName": "identity_uuid-index",
      "KeySchema": [{"AttributeName": "identity_uuid", "KeyType": "HASH"}],
      "Projection": {"ProjectionType": "ALL"}
    },
    {
      "IndexName": "environment_api_key-dashboard_alias-index-v2",
      "KeySchema": [
        {"AttributeName": "environment_api_key", "KeyType": "HASH"},
        {"AttributeName": "dashboard_alias", "KeyType": "RANGE"}
      ],
      "Projection": {"ProjectionType": "INCLUDE", "NonKeyAttributes": ["identifier"]}
    }
  ],
  "BillingMode": "PAY_PER_REQUEST",
  "StreamSpecification": {"StreamEnabled": true, "StreamViewType": "NEW_AND_OLD_IMAGES"}
}"#;
