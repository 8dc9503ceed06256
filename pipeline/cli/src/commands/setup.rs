//! `setup`, `teardown`: what the databases need before the first run, and what must go after the last.

use clap::Args;
use rollcall_model::{SourceName, TableSpec};
use rollcall_platforms::Platform;
use rollcall_postgres_wire::{ConnectConfig, connect};
use rollcall_runtime::topology::{
    ClickHouseUrl, PostgresSourceConfig, Secret, SinkConfig, SourceConfig, Topology,
};
use serde::Serialize;

use crate::failure::{Failure, Outcome};
use crate::output::Output;
use crate::postgres_setup::PostgresSetup;
use crate::settings::Settings;
use crate::wire::{clickhouse_preset, counts_preset};

/// Prepare the databases: publication, replica identities, grants, sink tables
///
/// Runs the SQL as the users of the topology's URLs; print it for an administrator where they may not. Safe to run
/// again. JSON lines: {part, statement}.
#[derive(Debug, Args)]
pub(super) struct Setup {
    /// One source or sink, as the topology names it; without it, all
    part: Option<String>,
    /// Print the SQL, with the grants of least privilege, instead of running it
    #[arg(long)]
    print_sql: bool,
}

/// Drop replication slots and publications, which would keep WAL for ever
///
/// Stop the instance first. Tables of sinks and the log stay as they are. JSON lines: {part, statement}.
#[derive(Debug, Args)]
pub(super) struct Teardown {
    /// One source, as the topology names it; without it, all
    part: Option<String>,
    /// Print the SQL instead of running it
    #[arg(long)]
    print_sql: bool,
}

/// What one part of the topology needs.
struct Script {
    part: String,
    /// Where it runs; nothing when Rollcall makes it at its start and only an administrator would run it before.
    url: Option<Secret>,
    statements: Vec<String>,
    /// For an administrator alone: the role itself can't give it to itself.
    grants: Vec<String>,
}

/// A JSON line.
#[derive(Serialize)]
struct Line<'a> {
    part: &'a str,
    statement: &'a str,
}

impl Setup {
    /// Runs or prints it.
    pub(super) async fn execute(self, settings: &Settings, output: Output) -> Result<Outcome, Failure> {
        let topology = settings.topology()?;
        let mut scripts = Vec::new();
        for (name, source) in &topology.sources {
            let SourceConfig::Postgres(config) = source;
            let tables = tables(name, config)?;
            let setup = postgres_setup(config, &tables);
            let role = ConnectConfig::parse(config.url.expose())?.user;
            scripts.push(Script {
                part: format!("sources.{name}"),
                url: Some(config.url.clone()),
                statements: setup.sql(),
                grants: setup.grants(&role),
            });
        }
        for (name, sink) in &topology.sinks {
            scripts.extend(sink_script(name, sink)?);
        }
        execute(wanted(scripts, self.part.as_deref(), &topology)?, self.print_sql, output).await
    }
}

impl Teardown {
    /// Runs or prints it.
    pub(super) async fn execute(self, settings: &Settings, output: Output) -> Result<Outcome, Failure> {
        let topology = settings.topology()?;
        let mut scripts = Vec::new();
        for (name, source) in &topology.sources {
            let SourceConfig::Postgres(config) = source;
            scripts.push(Script {
                part: format!("sources.{name}"),
                url: Some(config.url.clone()),
                statements: postgres_setup(config, &[]).teardown_sql(),
                grants: Vec::new(),
            });
        }
        execute(wanted(scripts, self.part.as_deref(), &topology)?, self.print_sql, output).await
    }
}

fn tables(name: &SourceName, config: &PostgresSourceConfig) -> Result<Vec<TableSpec>, Failure> {
    let platform = config.platform.name();
    Platform::by_name(platform, name.clone(), None)
        .map(|platform| platform.tables())
        .ok_or_else(|| Failure::job(format!("this version knows no platform '{platform}'")))
}

fn postgres_setup<'a>(config: &'a PostgresSourceConfig, tables: &'a [TableSpec]) -> PostgresSetup<'a> {
    PostgresSetup { schema: &config.schema, publication: &config.publication, slot: &config.slot, tables }
}

/// `None` for an embedded engine: it is Rollcall's own.
fn sink_script(name: &str, sink: &SinkConfig) -> Result<Option<Script>, Failure> {
    let part = format!("sinks.{name}");
    Ok(match sink {
        SinkConfig::Counts(config) => {
            let role = ConnectConfig::parse(config.url.expose())?.user;
            let sql =
                |role| rollcall_sink_counts::setup_sql(counts_preset(config.preset), &config.schema, role);
            Some(Script {
                part,
                url: Some(config.url.clone()),
                statements: vec![sql(None)],
                grants: vec![sql(Some(&role))],
            })
        }
        SinkConfig::ClickHouse(config) => match config.url {
            ClickHouseUrl::Embedded => None,
            ClickHouseUrl::Http(_) => {
                let preset = clickhouse_preset(config.preset);
                Some(Script {
                    part,
                    url: None,
                    statements: vec![rollcall_sink_clickhouse::setup_sql(preset, &config.database)],
                    grants: Vec::new(),
                })
            }
        },
    })
}

/// The scripts of one part, or all.
fn wanted(scripts: Vec<Script>, part: Option<&str>, topology: &Topology) -> Result<Vec<Script>, Failure> {
    let Some(part) = part else { return Ok(scripts) };
    let known =
        topology.sources.keys().any(|name| name.as_str() == part) || topology.sinks.contains_key(part);
    if !known {
        return Err(Failure::repairable(
            format!("the topology has no source or sink '{part}'"),
            "name one of its sources or sinks, or none for all",
        ));
    }
    Ok(scripts.into_iter().filter(|script| script.part.split('.').nth(1) == Some(part)).collect())
}

async fn execute(scripts: Vec<Script>, print: bool, output: Output) -> Result<Outcome, Failure> {
    for script in scripts {
        if print {
            show(&script, output)?;
            continue;
        }
        let Some(url) = &script.url else {
            if !output.json {
                output.line(&format!(
                    "{}: its tables are made when rollcall starts; for an administrator: rollcall setup --print-sql",
                    script.part
                ))?;
            }
            continue;
        };
        run(&script, url, output).await?;
    }
    Ok(Outcome::Done)
}

fn show(script: &Script, output: Output) -> Result<(), Failure> {
    let statements = script.statements.iter().chain(&script.grants);
    if output.json {
        return statements
            .map(|statement| Line { part: &script.part, statement })
            .try_for_each(|line| output.json_line(&line));
    }
    output.line(&format!("-- {}", script.part))?;
    for statement in statements {
        let statement = statement.trim_end().trim_end_matches(';');
        output.line(&format!("{statement};\n"))?;
    }
    Ok(())
}

async fn run(script: &Script, url: &Secret, output: Output) -> Result<(), Failure> {
    let config = ConnectConfig::parse(url.expose())?;
    let client = connect(&config).await?;
    for statement in &script.statements {
        client.batch_execute(statement).await.map_err(|error| {
            let fault = rollcall_postgres_wire::sql_fault(&config, "preparing the database", error);
            let repair = format!(
                "{}as an administrator: rollcall setup --print-sql | psql …",
                fault.repair.as_ref().map_or_else(String::new, |repair| format!("{repair}; or "))
            );
            Failure::repairable(format!("{}: {}", script.part, fault.message()), repair)
        })?;
        if output.json {
            output.json_line(&Line { part: &script.part, statement })?;
        }
    }
    if !output.json {
        output.line(&format!("{}: {} statements done", script.part, script.statements.len()))?;
    }
    Ok(())
}
