//! `quarantine`: what could not be processed, and driving it again.

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::Asking;
use crate::api::{Quarantine as Answer, Replayed};
use crate::failure::{Failure, Outcome};
use crate::output::{or_dash, text_of};

/// What could not be processed
#[derive(Debug, Subcommand)]
pub(super) enum Quarantine {
    List(List),
    Show(Show),
    Replay(Replay),
}

/// List what is there
///
/// JSON lines: {partition, offset, key, reason, origin, position}.
#[derive(Debug, Args)]
pub(super) struct List {
    /// At most this many
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    limit: u32,
}

/// Show a record whole, with its payload
#[derive(Debug, Args)]
pub(super) struct Show {
    /// Its partition
    partition: u16,
    /// Its offset
    offset: u64,
}

/// Drive changes again, in order, once what kept them back is repaired
///
/// JSON line: {replayed}.
#[derive(Debug, Args)]
pub(super) struct Replay {
    /// The identity, as `list` shows it: source/id; without it, all
    key: Option<String>,
}

impl Quarantine {
    /// Asks and prints.
    pub(super) async fn execute(self, asking: &Asking) -> Result<Outcome, Failure> {
        match self {
            Self::List(List { limit }) => list(asking, limit).await,
            Self::Show(Show { partition, offset }) => {
                let path = ["quarantine", &partition.to_string(), &offset.to_string()];
                let record: Value = asking.client.get(&path, &[]).await?;
                if asking.output.json {
                    asking.output.json_line(&record)?;
                } else {
                    asking.output.line(&format!("{record:#}"))?;
                }
                Ok(Outcome::Done)
            }
            Self::Replay(Replay { key }) => {
                let done: Replayed =
                    asking.client.post(&["quarantine", "replay"], &json!({ "key": key })).await?;
                if asking.output.json {
                    asking.output.json_line(&done)?;
                } else {
                    asking.output.line(&format!("{} changes driven again", done.replayed))?;
                }
                Ok(Outcome::Done)
            }
        }
    }
}

async fn list(asking: &Asking, limit: u32) -> Result<Outcome, Failure> {
    let answer: Answer = asking.client.get(&["quarantine"], &[("limit", Some(limit.to_string()))]).await?;
    if answer.records.is_empty() && !asking.output.json {
        asking.output.line("the quarantine is empty")?;
        return Ok(Outcome::Done);
    }
    let header = ["PARTITION", "OFFSET", "IDENTITY", "ORIGIN", "POSITION", "REASON"];
    asking.output.list(&answer.records, &header, |record| {
        vec![
            record.partition.to_string(),
            record.offset.to_string(),
            identity(record.key.as_ref()),
            record.origin.clone(),
            or_dash(record.position.as_deref()),
            record.reason.clone(),
        ]
    })?;
    Ok(Outcome::Done)
}

/// `source/id`, whether the key came as text or as its parts.
fn identity(key: Option<&Value>) -> String {
    match key {
        None | Some(Value::Null) => "-".to_owned(),
        Some(key) => match (key.get("source"), key.get("id")) {
            (Some(source), Some(id)) => format!("{}/{}", text_of(source), text_of(id)),
            (Some(_) | None, _) => text_of(key),
        },
    }
}
