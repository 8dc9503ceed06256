//! What a table is, and whether it has a stream.

use serde::Deserialize;
use serde_json::{Value, json};

use super::{parse, seconds};
use crate::core::{ApiError, Core, ViewType};

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
struct DescribeTable {
    table_name: String,
}

pub(super) fn describe_table(core: &Core, body: &[u8]) -> Result<String, ApiError> {
    let asked: DescribeTable = parse(body)?;
    check_table(core, &asked.table_name)?;
    Ok(json!({ "Table": description(core) }).to_string())
}

fn check_table(core: &Core, name: &str) -> Result<(), ApiError> {
    super::tables::check_table(core, name)
        .map_err(|_| ApiError::not_found(format!("Requested resource not found: Table: {name} not found")))
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
struct UpdateTable {
    table_name: String,
    stream_specification: StreamSpecification,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
struct StreamSpecification {
    stream_enabled: bool,
    stream_view_type: Option<ViewType>,
}

/// Of all that it can be asked, only to begin or end the stream.
pub(super) fn update_table(core: &mut Core, body: &[u8]) -> Result<String, ApiError> {
    let asked: UpdateTable = parse(body)?;
    check_table(core, &asked.table_name)?;
    let specification = asked.stream_specification;
    let done = match (specification.stream_enabled, specification.stream_view_type) {
        (true, Some(view)) => core.enable_stream(view),
        (true, None) => {
            return Err(ApiError::validation("StreamViewType is required when StreamEnabled is true"));
        }
        (false, None) => core.disable_stream(),
        (false, Some(_)) => {
            return Err(ApiError::validation(
                "StreamViewType cannot be specified when StreamEnabled is false",
            ));
        }
    };
    if !done {
        let state = if specification.stream_enabled { "an enabled" } else { "no enabled" };
        return Err(ApiError::validation(format!("Table already has {state} stream: {}", asked.table_name)));
    }
    Ok(json!({ "TableDescription": description(core) }).to_string())
}

fn description(core: &Core) -> Value {
    let index = &core.table.index;
    let arn = core.table_arn();
    let size = core.table.bytes;
    let count = core.table.len();
    let (indexed, indexed_bytes) = core.table.indexed();
    let throughput = json!({ "NumberOfDecreasesToday": 0, "ReadCapacityUnits": 0, "WriteCapacityUnits": 0 });
    let mut table = json!({
        "AttributeDefinitions": [
            { "AttributeName": core.settings.key_name, "AttributeType": "S" },
            { "AttributeName": index.hash, "AttributeType": "S" },
            { "AttributeName": index.range, "AttributeType": "S" },
        ],
        "TableName": core.settings.table,
        "KeySchema": [{ "AttributeName": core.settings.key_name, "KeyType": "HASH" }],
        "TableStatus": "ACTIVE",
        "CreationDateTime": serde_json::from_str::<Value>(&seconds(core.created_us)).unwrap_or_default(),
        "ProvisionedThroughput": throughput,
        "TableSizeBytes": size,
        "ItemCount": count,
        "TableArn": arn,
        "BillingModeSummary": { "BillingMode": "PAY_PER_REQUEST" },
        "GlobalSecondaryIndexes": [{
            "IndexName": index.name,
            "KeySchema": [
                { "AttributeName": index.hash, "KeyType": "HASH" },
                { "AttributeName": index.range, "KeyType": "RANGE" },
            ],
            "Projection": { "ProjectionType": "ALL" },
            "IndexStatus": "ACTIVE",
            "ProvisionedThroughput": throughput,
            "IndexSizeBytes": indexed_bytes,
            "ItemCount": indexed,
            "IndexArn": format!("{arn}/index/{}", index.name),
        }],
        "DeletionProtectionEnabled": false,
    });
    if let Some(stream) = core.enabled() {
        table["StreamSpecification"] = json!({ "StreamEnabled": true, "StreamViewType": stream.view });
    }
    if let Some(stream) = core.streams.last() {
        table["LatestStreamLabel"] = json!(stream.label);
        table["LatestStreamArn"] = json!(stream.arn);
    }
    table
}
