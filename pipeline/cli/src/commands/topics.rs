//! `topic`: the topics of the log, as downstream systems would read them.

use clap::{Args, Subcommand};
use serde::Deserialize;
use serde_json::Value;

use super::Asking;
use crate::api::Topics;
use crate::failure::{Failure, Outcome};
use crate::output::{Output, text_of};

/// A record of the log is at most as large as a commit; a longer line is no answer of an instance.
const LINE_BYTES_MAX: usize = 64 << 20;

/// The topics of the log
#[derive(Debug, Subcommand)]
pub(super) enum Topic {
    List(List),
    Tail(Tail),
}

/// List topics and what is there of each partition
///
/// JSON lines: {name, partition, start, end}.
#[derive(Debug, Args)]
pub(super) struct List {}

/// Print the records of a topic
///
/// JSON lines: {topic, partition, offset, key, value, headers}.
#[derive(Debug, Args)]
pub(super) struct Tail {
    /// The topic
    topic: String,
    /// One partition; without it, all
    #[arg(long)]
    partition: Option<u16>,
    /// `beginning`, `end` or an offset
    #[arg(long, default_value = "beginning", value_parser = from)]
    from: String,
    /// Wait for more
    #[arg(long, short)]
    follow: bool,
    /// At most this many
    #[arg(long)]
    limit: Option<u64>,
}

fn from(text: &str) -> Result<String, String> {
    match text {
        "beginning" | "end" => Ok(text.to_owned()),
        offset if offset.parse::<u64>().is_ok() => Ok(offset.to_owned()),
        other => Err(format!("'{other}' is neither 'beginning' nor 'end' nor an offset")),
    }
}

/// A record as the instance sends it.
#[derive(Deserialize)]
struct Line {
    topic: String,
    partition: u16,
    offset: u64,
    key: Value,
    value: Value,
}

impl Topic {
    /// Asks and prints.
    pub(super) async fn execute(self, asking: &Asking) -> Result<Outcome, Failure> {
        match self {
            Self::List(List {}) => {
                let answer: Topics = asking.client.get(&["topics"], &[]).await?;
                asking.output.list(&answer.topics, &["TOPIC", "PARTITION", "START", "END"], |topic| {
                    vec![
                        topic.name.clone(),
                        topic.partition.to_string(),
                        topic.start.to_string(),
                        topic.end.to_string(),
                    ]
                })?;
                Ok(Outcome::Done)
            }
            Self::Tail(tail) => tail.execute(asking).await,
        }
    }
}

impl Tail {
    async fn execute(self, asking: &Asking) -> Result<Outcome, Failure> {
        let query = [
            ("partition", self.partition.map(|partition| partition.to_string())),
            ("from", Some(self.from)),
            ("follow", Some(self.follow.to_string())),
            ("limit", self.limit.map(|limit| limit.to_string())),
        ];
        let mut response = asking.client.stream(&["topics", &self.topic, "tail"], &query).await?;
        // Pieces of the stream end anywhere: a line is printed once its end has come.
        let mut pending: Vec<u8> = Vec::new();
        while let Some(piece) = response.chunk().await.map_err(|error| asking.client.unreachable(&error))? {
            pending.extend_from_slice(&piece);
            let whole = pending.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
            let lines: Vec<u8> = pending.drain(..whole).collect();
            lines.split(|byte| *byte == b'\n').try_for_each(|line| print(asking.output, line))?;
            if pending.len() > LINE_BYTES_MAX {
                return Err(Failure::job(format!("a record longer than {LINE_BYTES_MAX} bytes came")));
            }
        }
        print(asking.output, &pending)?;
        Ok(Outcome::Done)
    }
}

fn print(output: Output, line: &[u8]) -> Result<(), Failure> {
    if line.is_empty() {
        return Ok(());
    }
    let text = String::from_utf8_lossy(line);
    if output.json {
        return output.line(&text);
    }
    let line: Line = serde_json::from_str(&text)
        .map_err(|error| Failure::job(format!("the instance sent what is no record: {error}")))?;
    output.line(&format!(
        "{}/{} @{}  {}  {}",
        line.topic,
        line.partition,
        line.offset,
        text_of(&line.key),
        line.value
    ))
}
