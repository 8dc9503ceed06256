//! A table in; everything that keeps it from being read out, each with what repairs it.
//!
//! All of it at once: whoever sets a source up shall not meet one refusal after the other. So every call that reading takes
//! is made once, and changes nothing.

use aws_sdk_dynamodb::types::ReturnConsumedCapacity;
use aws_sdk_dynamodbstreams::types::ShardIteratorType;
use rollcall_aws::{code, fault};
use rollcall_model::{Fault, FaultKind};

use crate::begin::{describe, stream_resource, table_resource, wrong};
use crate::clients::Clients;
use crate::config::DynamoSourceConfig;

/// Something that is not as it must be.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Finding {
    /// What, and where.
    pub what: String,
    /// The command or setting that repairs it.
    pub repair: Option<String>,
}

impl From<Fault> for Finding {
    fn from(fault: Fault) -> Self {
        Self { what: fault.message(), repair: fault.repair }
    }
}

/// Looks at everything that reading the stream and a Scan need.
///
/// # Errors
/// A [`Fault`] when AWS can't be reached.
pub async fn preflight(config: &DynamoSourceConfig) -> Result<Vec<Finding>, Fault> {
    let clients = Clients::new(&config.aws).await?;
    let mut findings = Vec::new();
    let table = match Box::pin(describe(&clients, config)).await {
        Ok(table) => Some(table),
        Err(fault) => {
            take(&mut findings, fault)?;
            None
        }
    };
    let stream = table.as_ref().and_then(|table| {
        findings.extend(wrong(config, table).into_iter().map(|wrong| Finding::from(Fault::from(wrong))));
        table.latest_stream_arn.clone()
    });
    if let Some(stream) = &stream {
        Box::pin(look_at_stream(&clients, config, stream, &mut findings)).await?;
    }
    if table.is_some() {
        Box::pin(look_at_items(&clients, config, &mut findings)).await?;
    }
    Ok(findings)
}

/// What may pass is no finding.
fn take(findings: &mut Vec<Finding>, fault: Fault) -> Result<(), Fault> {
    match fault.kind {
        FaultKind::Retry => Err(fault),
        FaultKind::BadRecord
        | FaultKind::Config
        | FaultKind::Refused
        | FaultKind::Fenced
        | FaultKind::Bug => {
            findings.push(fault.into());
            Ok(())
        }
    }
}

async fn look_at_stream(
    clients: &Clients,
    config: &DynamoSourceConfig,
    stream: &str,
    findings: &mut Vec<Finding>,
) -> Result<(), Fault> {
    let resource = stream_resource(config);
    let doing = format!("looking at the stream of the table {}", config.table);
    let streams = &clients.streams;
    let shard = match streams.describe_stream().stream_arn(stream).send().await {
        Ok(output) => output
            .stream_description
            .and_then(|stream| stream.shards?.pop()?.shard_id)
            .unwrap_or_else(|| NO_SHARD.to_owned()),
        Err(error) => {
            take(findings, fault(&doing, "dynamodb:DescribeStream", &resource, error))?;
            NO_SHARD.to_owned()
        }
    };
    let call = streams.get_shard_iterator().stream_arn(stream).shard_id(shard);
    let iterator = match call.shard_iterator_type(ShardIteratorType::TrimHorizon).send().await {
        Ok(output) => output.shard_iterator,
        // Whoever may not, is told so before the shard is looked for.
        Err(error) if is_about_what_was_asked(code(&error)) => None,
        Err(error) => {
            take(findings, fault(&doing, "dynamodb:GetShardIterator", &resource, error))?;
            None
        }
    };
    let iterator = iterator.unwrap_or_else(|| format!("{stream}|1|none"));
    match streams.get_records().shard_iterator(iterator).limit(1).send().await {
        Ok(_) => Ok(()),
        Err(error) if is_about_what_was_asked(code(&error)) => Ok(()),
        Err(error) => take(findings, fault(&doing, "dynamodb:GetRecords", &resource, error)),
    }
}

/// A name that no shard has, of the length that names have.
const NO_SHARD: &str = "shardId-00000000000000000000-00000000";

fn is_about_what_was_asked(code: Option<&str>) -> bool {
    matches!(
        code,
        Some(
            "ResourceNotFoundException"
                | "ValidationException"
                | "TrimmedDataAccessException"
                | "ExpiredIteratorException"
        )
    )
}

async fn look_at_items(
    clients: &Clients,
    config: &DynamoSourceConfig,
    findings: &mut Vec<Finding>,
) -> Result<(), Fault> {
    let call = clients.tables.scan().table_name(&config.table).limit(1).consistent_read(true);
    match call.return_consumed_capacity(ReturnConsumedCapacity::None).send().await {
        Ok(_) => Ok(()),
        Err(error) => {
            let doing = format!("reading the table {}", config.table);
            take(findings, fault(&doing, "dynamodb:Scan", &table_resource(config), error))
        }
    }
}
