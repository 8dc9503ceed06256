//! Actions of DynamoDB Streams.

use serde::Deserialize;
use serde_json::json;

use super::{Done, json as text, parse, seconds};
use crate::core::{
    ApiError, Core, ErrorCode, RECORDS_MAX, ReadFaults, SHARDS_MAX, SequenceNumber, Shard, StartAt,
};

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
struct DescribeStream {
    stream_arn: String,
    limit: Option<usize>,
    exclusive_start_shard_id: Option<String>,
    shard_filter: Option<ShardFilter>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
struct ShardFilter {
    #[serde(rename = "Type")]
    kind: Option<String>,
    shard_id: Option<String>,
}

pub(super) fn describe_stream(core: &Core, body: &[u8], repeat: usize) -> Result<String, ApiError> {
    let asked: DescribeStream = parse(body)?;
    let limit = asked.limit.unwrap_or(SHARDS_MAX);
    if !(1..=SHARDS_MAX).contains(&limit) {
        return Err(out_of_bounds("limit", limit, SHARDS_MAX));
    }
    let parent = match &asked.shard_filter {
        None => None,
        Some(ShardFilter { kind: Some(kind), shard_id: Some(id) }) if kind == "CHILD_SHARDS" => {
            Some(id.as_str())
        }
        Some(_) => {
            return Err(ApiError::validation("ShardFilter needs the Type CHILD_SHARDS and a ShardId"));
        }
    };
    let after = asked.exclusive_start_shard_id.as_deref();
    let page = core.describe_stream(&asked.stream_arn, after, limit, parent, repeat.min(limit - 1))?;
    let shards: Vec<String> = page.shards.iter().map(|shard| shard_json(shard)).collect();
    let stream = page.stream;
    let mut description = format!(
        r#"{{"StreamArn":{},"StreamLabel":{},"StreamStatus":"{}","StreamViewType":{},"CreationRequestDateTime":{},"TableName":{},"KeySchema":[{{"AttributeName":{},"KeyType":"HASH"}}],"Shards":[{}]"#,
        text(&stream.arn),
        text(&stream.label),
        if stream.disabled_us.is_some() { "DISABLED" } else { "ENABLED" },
        text(&stream.view),
        seconds(stream.created_us),
        text(&core.settings.table),
        text(&core.settings.key_name),
        shards.join(","),
    );
    if let Some(last) = page.last {
        description.push_str(&format!(r#","LastEvaluatedShardId":"{last}""#));
    }
    Ok(format!(r#"{{"StreamDescription":{description}}}}}"#))
}

fn shard_json(shard: &Shard) -> String {
    let ending =
        shard.ending.map_or(String::new(), |ending| format!(r#","EndingSequenceNumber":"{ending}""#));
    let parent = shard.parent.as_ref().map_or(String::new(), |id| format!(r#","ParentShardId":"{id}""#));
    format!(
        r#"{{"ShardId":"{}","SequenceNumberRange":{{"StartingSequenceNumber":"{}"{ending}}}{parent}}}"#,
        shard.id, shard.starting
    )
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
struct GetShardIterator {
    stream_arn: String,
    shard_id: String,
    shard_iterator_type: String,
    sequence_number: Option<String>,
    timestamp: Option<f64>,
}

pub(super) fn get_shard_iterator(core: &Core, body: &[u8]) -> Result<String, ApiError> {
    let asked: GetShardIterator = parse(body)?;
    let sequence = || -> Result<SequenceNumber, ApiError> {
        let number = asked.sequence_number.as_deref().ok_or_else(|| {
            ApiError::validation(
                "One or more parameter values were invalid: SequenceNumber must be specified for this type",
            )
        })?;
        number.parse().map_err(|()| ApiError::validation(format!("Invalid SequenceNumber: {number}")))
    };
    let start = match asked.shard_iterator_type.as_str() {
        "TRIM_HORIZON" => StartAt::TrimHorizon,
        "LATEST" => StartAt::Latest,
        "AT_SEQUENCE_NUMBER" => StartAt::At(sequence()?),
        "AFTER_SEQUENCE_NUMBER" => StartAt::After(sequence()?),
        "AT_TIMESTAMP" => {
            let at = asked.timestamp.ok_or_else(|| ApiError::validation("Timestamp must be specified"))?;
            // A float of seconds: exact to the microsecond in this century.
            StartAt::Timestamp((at * 1_000_000.0) as i64)
        }
        other => {
            return Err(ApiError::validation(format!(
                "1 validation error detected: Value '{other}' at 'shardIteratorType' failed to satisfy constraint: Member must satisfy enum value set"
            )));
        }
    };
    if asked.sequence_number.is_some() && matches!(start, StartAt::TrimHorizon | StartAt::Latest) {
        return Err(ApiError::validation(format!(
            "One or more parameter values were invalid: SequenceNumber must not be specified for {}",
            asked.shard_iterator_type
        )));
    }
    let iterator = core.shard_iterator(&asked.stream_arn, &asked.shard_id, start)?;
    Ok(json!({ "ShardIterator": iterator }).to_string())
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
struct GetRecords {
    shard_iterator: String,
    limit: Option<usize>,
}

pub(super) fn get_records(core: &Core, body: &[u8], faults: ReadFaults) -> Result<Done, ApiError> {
    let asked: GetRecords = parse(body)?;
    let limit = asked.limit.unwrap_or(RECORDS_MAX);
    if limit > RECORDS_MAX {
        return Err(ApiError::new(
            ErrorCode::LimitExceeded,
            format!("GetRecords was called with a limit of {limit}, which is more than {RECORDS_MAX}"),
        ));
    }
    if limit == 0 {
        return Err(out_of_bounds("limit", limit, RECORDS_MAX));
    }
    let page = core.get_records(&asked.shard_iterator, limit, faults)?;
    let length = page.records.iter().map(|record| record.len() + 1).sum::<usize>();
    let mut answer = String::with_capacity(length + 512);
    answer.push_str(r#"{"Records":["#);
    for (nth, record) in page.records.iter().enumerate() {
        if nth > 0 {
            answer.push(',');
        }
        answer.push_str(record);
    }
    answer.push(']');
    if let Some(next) = &page.next {
        answer.push_str(r#","NextShardIterator":"#);
        answer.push_str(&text(next));
    }
    answer.push('}');
    Ok(Done { body: answer, records: Some((page.shard, page.records.len() as u64)) })
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
struct ListStreams {
    table_name: Option<String>,
    #[serde(rename = "Limit")]
    _limit: Option<usize>,
    exclusive_start_stream_arn: Option<String>,
}

/// All in one page: a table has few streams.
pub(super) fn list_streams(core: &Core, body: &[u8]) -> Result<String, ApiError> {
    let asked: ListStreams = parse(body)?;
    let table = &core.settings.table;
    let wanted = asked.table_name.as_ref().is_none_or(|name| name == table);
    let streams: Vec<_> = core
        .readable_streams()
        .filter(|stream| {
            wanted && asked.exclusive_start_stream_arn.as_ref().is_none_or(|arn| stream.arn > *arn)
        })
        .map(|stream| json!({ "StreamArn": stream.arn, "StreamLabel": stream.label, "TableName": table }))
        .collect();
    Ok(json!({ "Streams": streams }).to_string())
}

fn out_of_bounds(name: &str, value: usize, most: usize) -> ApiError {
    ApiError::validation(format!(
        "1 validation error detected: Value '{value}' at '{name}' failed to satisfy constraint: Member must have value between 1 and {most}"
    ))
}
