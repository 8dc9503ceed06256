//! `setup`, `teardown`: what the databases need before the first run, and what must go after the last.

use clap::Args;
use rollcall_model::SourceName;
use rollcall_postgres_wire::{ConnectConfig, connect, sql_fault};
use rollcall_runtime::topology::{
    ClickHouseSinkConfig, ClickHouseUrl, CountsSinkConfig, ParquetSinkConfig, SinkConfig, SourceConfig,
    Topology,
};
use rollcall_sink_parquet::Location;
use rollcall_source_dynamodb::{DynamoSourceConfig, preflight};
use rollcall_source_postgres::{PostgresSourceConfig, apply_setup, setup_sql, teardown};
use serde::Serialize;
use serde_json::json;

use crate::failure::{Failure, Outcome};
use crate::output::Output;
use crate::settings::Settings;
use crate::wire::{clickhouse_preset, counts_preset, postgres_config, worker_folder};
use crate::wire_dynamodb::DynamoDb;

/// Prepare the databases: publication, replica identities, grants, sink tables
///
/// Looks at what is there and runs the SQL that is still missing, as the users of the topology's URLs; print it for an
/// administrator where they may not. Of a DynamoDB table it only looks at what reading it takes, and names the aws
/// command or IAM statement for each lack; of a lake it shows the IAM policy. Safe to run again. JSON lines: {part, statement} for SQL with --print-sql,
/// {part, left} for what SQL alone can't do. Exits with 1 when something is left, without --print-sql.
#[derive(Debug, Args)]
pub(super) struct Setup {
    /// One source or sink, as the topology names it; without it, all
    part: Option<String>,
    /// Print the SQL instead of running it; for a DynamoDB table, aws commands and IAM statements as comments
    #[arg(long)]
    print_sql: bool,
}

/// Drop replication slots and publications, which would keep WAL for ever
///
/// Stop the instance first. Tables of sinks and the log stay as they are.
#[derive(Debug, Args)]
pub(super) struct Teardown {
    /// One source, as the topology names it; without it, all
    part: Option<String>,
}

/// A JSON line.
#[derive(Serialize)]
#[serde(untagged)]
enum Line<'a> {
    Statement { part: &'a str, statement: &'a str },
    Left { part: &'a str, left: &'a str },
}

impl Setup {
    /// Runs or prints it.
    pub(super) async fn execute(self, settings: &Settings, output: Output) -> Result<Outcome, Failure> {
        let topology = settings.topology()?;
        let wanted = Wanted::new(self.part.as_deref(), &topology)?;
        let mut outcome = Outcome::Done;
        for (name, config) in sources(&topology, &wanted)? {
            let part = format!("sources.{name}");
            if self.print_sql {
                show(&part, &setup_sql(&config).await?, output)?;
            } else if !run_source(&part, &config, output).await? {
                outcome = Outcome::Difference;
            }
        }
        for (name, config) in tables(&topology, &wanted)? {
            let part = format!("sources.{name}");
            let is_ready = look_at_table(&part, &config, self.print_sql, output).await?;
            if !is_ready && !self.print_sql {
                outcome = Outcome::Difference;
            }
        }
        for (name, sink) in topology.sinks.iter().filter(|(name, _)| wanted.has(name)) {
            let part = format!("sinks.{name}");
            match sink {
                SinkConfig::Counts(config) => counts(&part, config, self.print_sql, output).await?,
                SinkConfig::ClickHouse(config) => clickhouse(&part, config, self.print_sql, output)?,
                SinkConfig::Parquet(config) => lake(&part, config, self.print_sql, output)?,
            }
        }
        Ok(outcome)
    }
}

impl Teardown {
    /// Drops them.
    pub(super) async fn execute(self, settings: &Settings, output: Output) -> Result<Outcome, Failure> {
        let topology = settings.topology()?;
        let wanted = Wanted::new(self.part.as_deref(), &topology)?;
        for (name, config) in sources(&topology, &wanted)? {
            teardown(&config).await?;
            if !output.json {
                output.line(&format!(
                    "sources.{name}: slot {} and publication {} are gone",
                    config.slot, config.publication
                ))?;
            }
        }
        Ok(Outcome::Done)
    }
}

/// One part of the topology, or all.
struct Wanted<'a>(Option<&'a str>);

impl<'a> Wanted<'a> {
    fn new(part: Option<&'a str>, topology: &Topology) -> Result<Self, Failure> {
        let known = |part: &str| {
            topology.sources.contains_key(&SourceName::from(part)) || topology.sinks.contains_key(part)
        };
        match part {
            Some(part) if !known(part) => Err(Failure::repairable(
                format!("the topology has no source or sink '{part}'"),
                "name one of its sources or sinks, or none for all",
            )),
            Some(_) | None => Ok(Self(part)),
        }
    }

    fn has(&self, name: &str) -> bool {
        self.0.is_none_or(|part| part == name)
    }
}

fn sources<'t>(
    topology: &'t Topology,
    wanted: &Wanted<'_>,
) -> Result<Vec<(&'t SourceName, PostgresSourceConfig)>, Failure> {
    let folder = worker_folder(&topology.log, "setup");
    let mut found = Vec::new();
    for (name, source) in topology.sources.iter().filter(|(name, _)| wanted.has(name.as_str())) {
        if let SourceConfig::Postgres(config) = source {
            found.push((name, postgres_config(name, config, &folder)?));
        }
    }
    Ok(found)
}

fn tables<'t>(
    topology: &'t Topology,
    wanted: &Wanted<'_>,
) -> Result<Vec<(&'t SourceName, DynamoSourceConfig)>, Failure> {
    let folder = worker_folder(&topology.log, "setup");
    let mut found = Vec::new();
    for (name, source) in topology.sources.iter().filter(|(name, _)| wanted.has(name.as_str())) {
        if let SourceConfig::DynamoDb(config) = source {
            found.push((name, DynamoDb::new(name, config, &folder)?.stream()));
        }
    }
    Ok(found)
}

/// Whether nothing is left to do.
async fn run_source(part: &str, config: &PostgresSourceConfig, output: Output) -> Result<bool, Failure> {
    let findings = apply_setup(config).await?;
    show_left(part, findings.iter().map(|finding| (finding.what.as_str(), finding.then.as_deref())), output)?;
    Ok(findings.is_empty())
}

/// Whether nothing is left to do. Whoever reads a table need not be allowed to change it, so nothing is run.
async fn look_at_table(
    part: &str,
    config: &DynamoSourceConfig,
    print: bool,
    output: Output,
) -> Result<bool, Failure> {
    let findings = Box::pin(preflight(config)).await?;
    let left = findings.iter().map(|finding| (finding.what.as_str(), finding.repair.as_deref()));
    if print && !output.json {
        show_comments(part, left, output)?;
    } else {
        show_left(part, left, output)?;
    }
    Ok(findings.is_empty())
}

/// What is left to do, and what repairs it.
fn show_left<'a>(
    part: &str,
    left: impl Iterator<Item = (&'a str, Option<&'a str>)>,
    output: Output,
) -> Result<(), Failure> {
    let mut is_ready = true;
    for (what, then) in left {
        is_ready = false;
        let text = then.map_or_else(|| what.to_owned(), |then| format!("{what}; {then}"));
        if output.json {
            output.json_line(&Line::Left { part, left: &text })?;
        } else {
            output.line(&format!("{part}: left to do: {text}"))?;
        }
    }
    if is_ready && !output.json { output.line(&format!("{part}: ready")) } else { Ok(()) }
}

/// The same, where SQL is printed that may go on into a database.
fn show_comments<'a>(
    part: &str,
    left: impl Iterator<Item = (&'a str, Option<&'a str>)>,
    output: Output,
) -> Result<(), Failure> {
    let mut left = left.peekable();
    if left.peek().is_none() {
        return output.line(&format!("-- {part}: nothing is missing"));
    }
    output.line(&format!("-- {part}: for AWS, not for a database"))?;
    for (what, repair) in left {
        for line in [Some(what), repair].into_iter().flatten().flat_map(str::lines) {
            output.line(&format!("-- {line}"))?;
        }
    }
    Ok(())
}

async fn counts(part: &str, config: &CountsSinkConfig, print: bool, output: Output) -> Result<(), Failure> {
    let connect_config = ConnectConfig::parse(config.url.expose())?;
    let sql = |role| rollcall_sink_counts::setup_sql(counts_preset(config.preset), &config.schema, role);
    if print {
        // The grants are for an administrator: a role can't give itself what it lacks.
        return show(part, &[sql(Some(connect_config.user.as_str()))], output);
    }
    let client = connect(&connect_config).await?;
    client.batch_execute(&sql(None)).await.map_err(|error| {
        let fault = sql_fault(&connect_config, &format!("preparing {part}"), error);
        let repair = "as an administrator: rollcall setup --print-sql | psql …";
        Failure::repairable(fault.message(), fault.repair.unwrap_or_else(|| repair.to_owned()))
    })?;
    if output.json { Ok(()) } else { output.line(&format!("{part}: ready")) }
}

fn clickhouse(part: &str, config: &ClickHouseSinkConfig, print: bool, output: Output) -> Result<(), Failure> {
    match (&config.url, print) {
        // The engine is Rollcall's own, and its tables are made with it.
        (ClickHouseUrl::Embedded, _) => Ok(()),
        (ClickHouseUrl::Http(_), true) => {
            let sql = rollcall_sink_clickhouse::setup_sql(clickhouse_preset(config.preset), &config.database);
            show(part, &[sql], output)
        }
        (ClickHouseUrl::Http(_), false) if output.json => Ok(()),
        (ClickHouseUrl::Http(_), false) => output.line(&format!(
            "{part}: its tables are made when rollcall starts; for an administrator: rollcall setup --print-sql"
        )),
    }
}

/// What a lake takes: nothing is made in a bucket that is somebody else's, so the rights are only shown.
fn lake(part: &str, config: &ParquetSinkConfig, print: bool, output: Output) -> Result<(), Failure> {
    let Location::Bucket { bucket, prefix } = Location::parse(&config.bucket)? else { return Ok(()) };
    if !print {
        let text = format!(
            "{part}: writes to s3://{bucket}/{prefix} when rollcall starts; the rights it needs: rollcall setup --print-sql"
        );
        return if output.json { Ok(()) } else { output.line(&text) };
    }
    let policy = lake_policy(&bucket, &prefix)
        .map_err(|error| Failure::job(format!("can't write a policy: {error}")))?;
    if output.json {
        output.json_line(&Line::Left { part, left: &policy })
    } else {
        show_comments(
            part,
            std::iter::once((
                "the IAM policy of whoever writes and compacts the lake:",
                Some(policy.as_str()),
            )),
            output,
        )
    }
}

/// The least that a writer of a lake needs, as AWS writes it.
fn lake_policy(bucket: &str, prefix: &str) -> Result<String, serde_json::Error> {
    let below = if prefix.is_empty() { "*".to_owned() } else { format!("{prefix}/*") };
    serde_json::to_string_pretty(&json!({
        "Version": "2012-10-17",
        "Statement": [
            {
                "Effect": "Allow",
                "Action": ["s3:GetObject", "s3:PutObject", "s3:DeleteObject", "s3:AbortMultipartUpload"],
                "Resource": format!("arn:aws:s3:::{bucket}/{below}"),
            },
            {
                "Effect": "Allow",
                "Action": ["s3:ListBucket", "s3:ListBucketMultipartUploads"],
                "Resource": format!("arn:aws:s3:::{bucket}"),
            },
        ],
    }))
}

fn show(part: &str, statements: &[String], output: Output) -> Result<(), Failure> {
    if output.json {
        let mut lines = statements.iter().map(|statement| Line::Statement { part, statement });
        return lines.try_for_each(|line| output.json_line(&line));
    }
    if statements.is_empty() {
        return output.line(&format!("-- {part}: nothing is missing"));
    }
    output.line(&format!("-- {part}"))?;
    for statement in statements {
        output.line(&format!("{};", statement.trim_end().trim_end_matches(';')))?;
    }
    Ok(())
}
