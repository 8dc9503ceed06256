//! A table in; the stream that is read from it, or what keeps it from being read, out.

use std::collections::{BTreeMap, BTreeSet};

use aws_sdk_dynamodb::types::{KeyType, ScalarAttributeType, StreamViewType, TableDescription};
use rollcall_aws::{code, fault, is_not_found};
use rollcall_model::shards::{Stream, StreamStart};
use rollcall_model::{Fault, Shards};

use crate::clients::Clients;
use crate::config::DynamoSourceConfig;
use crate::list::Lister;
use crate::tree::missing_from_us;

/// What is wrong with a table, and the command that repairs it.
pub(crate) struct Wrong {
    pub(crate) what: String,
    pub(crate) repair: String,
}

impl From<Wrong> for Fault {
    fn from(wrong: Wrong) -> Self {
        Self::config(wrong.what).repair(wrong.repair)
    }
}

/// Begins the table's stream: the first record that counts is one written from now on, or the oldest that is still there.
///
/// What has ended is listed before the time is taken: whatever is written later stands in a shard that is not in the list.
/// (So `Latest` is a time and no iterator: a reader that starts a minute later would miss what was written meanwhile.)
///
/// # Errors
/// A [`Fault`] when there is no such table, its key or its stream can't be read, a permission is missing, or AWS can't be
/// reached.
pub async fn begin_stream(config: &DynamoSourceConfig) -> Result<Stream, Fault> {
    let clients = Clients::new(&config.aws).await?;
    let table = describe(&clients, config).await?;
    if let Some(wrong) = wrong(config, &table).into_iter().next() {
        return Err(wrong.into());
    }
    let name = stream_name(&table).ok_or_else(|| no_stream(config))?.to_owned();
    let listed = Lister::new(&clients, config, name.clone()).list().await?;
    let ended = match config.start {
        StreamStart::Latest => listed.listing.ended(),
        StreamStart::TrimHorizon => BTreeSet::new(),
    };
    Ok(Stream {
        name,
        epoch: 1,
        start: config.start,
        began_us: clients.clock.now_us(),
        readers: config.readers.max(1),
        ended,
    })
}

/// A stream whose losses are accepted.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Raised {
    /// Its next epoch.
    pub stream: Stream,
    /// What was written before this is in the log; what was written from here until [`Stream::began_us`] may be missing,
    /// and a backfill has to bring it back. By DynamoDB's clock, in microseconds.
    pub missing_from_us: i64,
}

/// Accepts what a stream has lost until now: its next epoch, or the first of the stream that the table has instead. The
/// window is that of all readers together, for a raised epoch accepts the losses of all. `all` is their progress.
///
/// # Errors
/// As [`begin_stream`].
pub async fn raise_epoch(
    config: &DynamoSourceConfig,
    stream: &Stream,
    all: &BTreeMap<u16, Shards>,
) -> Result<Raised, Fault> {
    let clients = Clients::new(&config.aws).await?;
    let listed = Box::pin(Lister::new(&clients, config, stream.name.clone()).list()).await?;
    let missing_from_us = missing_from_us(stream, &listed.listing, all, config.slack_us());
    let begun = Box::pin(begin_stream(config)).await?;
    let epoch = stream.epoch.saturating_add(1);
    let stream = if begun.name == stream.name {
        Stream { epoch, began_us: begun.began_us, ..stream.clone() }
    } else {
        Stream { epoch, readers: stream.readers, ..begun }
    };
    Ok(Raised { stream, missing_from_us })
}

/// The stream that a table has now, by the name it has in [`Stream::name`]; `None` where it has none that goes on.
///
/// # Errors
/// A [`Fault`] when there is no such table, a permission is missing, or AWS can't be reached.
pub async fn current_stream(config: &DynamoSourceConfig) -> Result<Option<String>, Fault> {
    let clients = Clients::new(&config.aws).await?;
    current(&clients, config).await
}

pub(crate) async fn current(clients: &Clients, config: &DynamoSourceConfig) -> Result<Option<String>, Fault> {
    Ok(stream_name(&describe(clients, config).await?).map(str::to_owned))
}

pub(crate) async fn describe(
    clients: &Clients,
    config: &DynamoSourceConfig,
) -> Result<TableDescription, Fault> {
    let table = &config.table;
    let doing = format!("looking at the table {table}");
    let missing = || {
        let region = &config.aws.region;
        Fault::config(format!("{doing}: there is no table {table} in {region}"))
            .repair("correct the source's table, region or account")
    };
    let answer = clients.tables.describe_table().table_name(table).send().await;
    match answer {
        Ok(output) => output.table.ok_or_else(missing),
        Err(error) if is_not_found(code(&error)) => Err(missing()),
        Err(error) => Err(fault(&doing, "dynamodb:DescribeTable", &table_resource(config), error)),
    }
}

/// The table as a policy names it, in any account.
pub(crate) fn table_resource(config: &DynamoSourceConfig) -> String {
    format!("arn:aws:dynamodb:{}:*:table/{}", config.aws.region, config.table)
}

/// Its streams as a policy names them.
pub(crate) fn stream_resource(config: &DynamoSourceConfig) -> String {
    format!("{}/stream/*", table_resource(config))
}

/// The stream that goes on: AWS names a disabled one too.
fn stream_name(table: &TableDescription) -> Option<&str> {
    table.stream_specification.as_ref().filter(|stream| stream.stream_enabled)?;
    table.latest_stream_arn.as_deref()
}

/// Everything about the table that keeps its stream from being read.
pub(crate) fn wrong(config: &DynamoSourceConfig, table: &TableDescription) -> Vec<Wrong> {
    let mut all: Vec<_> = wrong_key(config, table).into_iter().collect();
    let name = &config.table;
    let view = table.stream_specification.as_ref().and_then(|stream| stream.stream_view_type.as_ref());
    if stream_name(table).is_none() {
        all.push(no_stream(config));
    } else if let Some(view) =
        view.filter(|view| !matches!(view, StreamViewType::NewAndOldImages | StreamViewType::NewImage))
    {
        // A stream's view type is fixed: it is made anew, and what the old one holds is lost or read first.
        let off = format!(
            "aws dynamodb update-table --region {} --table-name {name} --stream-specification StreamEnabled=false",
            config.aws.region
        );
        all.push(Wrong {
            what: format!(
                "the stream of the table {name} has the view type {}: it does not say what an item became",
                view.as_str()
            ),
            repair: format!("{off} && {}", config.enable_stream()),
        });
    }
    all
}

fn no_stream(config: &DynamoSourceConfig) -> Wrong {
    Wrong { what: format!("the table {} has no stream", config.table), repair: config.enable_stream() }
}

fn wrong_key(config: &DynamoSourceConfig, table: &TableDescription) -> Option<Wrong> {
    let schema = table.key_schema.as_deref().unwrap_or_default();
    let is_hash = |name: &str| matches!(schema, [only] if only.key_type == KeyType::Hash && only.attribute_name == name);
    let definitions = table.attribute_definitions.as_deref().unwrap_or_default();
    let is_text = |name: &str| {
        definitions
            .iter()
            .any(|one| one.attribute_name == name && one.attribute_type == ScalarAttributeType::S)
    };
    if is_hash(config.key) && is_text(config.key) {
        return None;
    }
    let has: Vec<_> = schema
        .iter()
        .map(|part| {
            let definition = definitions.iter().find(|one| one.attribute_name == part.attribute_name);
            let kind = definition.map_or("?", |one| one.attribute_type.as_str());
            format!("{} ({} {kind})", part.attribute_name, part.key_type.as_str())
        })
        .collect();
    Some(Wrong {
        what: format!(
            "the key of the table {} is {}, not {} (HASH S) alone",
            config.table,
            has.join(", "),
            config.key
        ),
        repair: "correct the source's table: this is not the platform's table of identities".to_owned(),
    })
}
