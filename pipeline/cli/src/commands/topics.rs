//! `topic`: the topics of the log, as downstream systems would read them.

use std::collections::BTreeMap;

use clap::{Args, Subcommand};
use rollcall_runtime::Whence;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::Asking;
use crate::api::{TopicDescription, Topics};
use crate::failure::{Failure, Outcome};
use crate::output::{Output, text_of};

/// A record of the log is at most as large as a commit; a longer line is no answer of an instance.
const LINE_BYTES_MAX: usize = 64 << 20;

/// The topics of the log
#[derive(Debug, Subcommand)]
pub(super) enum Topic {
    List(List),
    Describe(Describe),
    Tail(Tail),
}

/// List topics and how much is there
///
/// JSON lines: {name, partitions, records}; with --partitions {name, partition, start, end}. Records are counted in
/// offsets: of a compacted topic there are fewer.
#[derive(Debug, Args)]
pub(super) struct List {
    /// A line per partition, with its first and next offset
    #[arg(long)]
    partitions: bool,
}

/// A topic as a whole.
#[derive(Serialize)]
struct TopicSum {
    name: String,
    partitions: u16,
    records: u64,
}

/// Show what a topic is, what is there of each partition, and which tasks read it
///
/// JSON line: {topic, key, holds, public, schema, retention, partitions [{partition, start, end, records}], readers
/// [{task, behind, partitions [{partition, at, behind}]}]}. `retention` is `compacted` (the newest record per key stays)
/// or `time`. Records are counted in offsets: compaction leaves fewer, and a log keeps some for itself.
#[derive(Debug, Args)]
pub(super) struct Describe {
    /// The topic
    topic: String,
}

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
    /// `beginning`, `end`, an offset, or a time such as 2026-11-27T10:00:00Z
    #[arg(long, default_value = "beginning")]
    from: Whence,
    /// Only records of this key
    #[arg(long)]
    key: Option<String>,
    /// Wait for more
    #[arg(long, short)]
    follow: bool,
    /// At most this many
    #[arg(long)]
    limit: Option<u64>,
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
            Self::List(list) => list.execute(asking).await,
            Self::Describe(describe) => describe.execute(asking).await,
            Self::Tail(tail) => tail.execute(asking).await,
        }
    }
}

impl List {
    async fn execute(self, asking: &Asking) -> Result<Outcome, Failure> {
        let Topics { topics } = asking.client.get(&["topics"], &[]).await?;
        if self.partitions {
            asking.output.list(&topics, &["TOPIC", "PARTITION", "START", "END"], |topic| {
                vec![
                    topic.name.clone(),
                    topic.partition.to_string(),
                    topic.start.to_string(),
                    topic.end.to_string(),
                ]
            })?;
            return Ok(Outcome::Done);
        }
        let mut sums: Vec<TopicSum> = Vec::new();
        for part in topics {
            let records = part.end.saturating_sub(part.start);
            match sums.last_mut().filter(|sum| sum.name == part.name) {
                Some(sum) => {
                    sum.partitions += 1;
                    sum.records += records;
                }
                None => sums.push(TopicSum { name: part.name, partitions: 1, records }),
            }
        }
        asking.output.list(&sums, &["TOPIC", "PARTITIONS", "RECORDS"], |sum| {
            vec![sum.name.clone(), sum.partitions.to_string(), sum.records.to_string()]
        })?;
        Ok(Outcome::Done)
    }
}

impl Describe {
    async fn execute(self, asking: &Asking) -> Result<Outcome, Failure> {
        let topic: TopicDescription = asking.client.get(&["topics", &self.topic], &[]).await?;
        let output = asking.output;
        if output.json {
            output.json_line(&topic)?;
            return Ok(Outcome::Done);
        }
        let whom = if topic.public { "public" } else { "internal" };
        let kept = match topic.retention.as_str() {
            "compacted" => "compacted: the newest record per key stays",
            _ => "by time and size, and whatever a task has not read",
        };
        output.line(&format!("{} ({whom}): {}", topic.topic, topic.holds))?;
        output.line(&format!("key     {}", topic.key))?;
        output.line(&format!("schema  {}", topic.schema))?;
        output.line(&format!("keeps   {kept}\n"))?;
        let rows: Vec<Vec<String>> = topic
            .partitions
            .iter()
            .map(|part| {
                [u64::from(part.partition), part.start, part.end, part.records]
                    .map(|n| n.to_string())
                    .to_vec()
            })
            .collect();
        output.table(&["PARTITION", "START", "END", "RECORDS"], &rows)?;
        if topic.readers.is_empty() {
            output.line("\nno task keeps its place here")?;
            return Ok(Outcome::Done);
        }
        output.line("")?;
        let rows: Vec<Vec<String>> = topic
            .readers
            .iter()
            .map(|reader| {
                let slow: BTreeMap<u16, u64> = reader
                    .partitions
                    .iter()
                    .filter(|place| place.behind > 0)
                    .map(|place| (place.partition, place.behind))
                    .collect();
                let slow: Vec<_> =
                    slow.iter().map(|(partition, behind)| format!("{partition}: {behind}")).collect();
                vec![reader.task.clone(), reader.behind.to_string(), slow.join(", ")]
            })
            .collect();
        output.table(&["READER", "BEHIND", "BY PARTITION"], &rows)?;
        Ok(Outcome::Done)
    }
}

impl Tail {
    async fn execute(self, asking: &Asking) -> Result<Outcome, Failure> {
        let query = [
            ("partition", self.partition.map(|partition| partition.to_string())),
            ("from", Some(self.from.to_string())),
            ("key", self.key),
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
