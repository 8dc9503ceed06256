//! `log copy`: a log moved to another folder, another prefix, another kind, while no worker runs on it.
//!
//! Both logs are opened here: the lock of an embedded one says that no worker has it. How the copy is made, and why it is
//! right, is `rollcall_runtime::log_copy`.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::{Args, Subcommand};
use indicatif::{ProgressBar, ProgressStyle};
use rollcall_log_embedded::{EmbeddedLog, EmbeddedLogConfig};
use rollcall_log_kafka::{KafkaLog, KafkaLogConfig};
use rollcall_model::{Fault, LogId};
use rollcall_runtime::log_copy::{self, CopyPlan, Copying};
use rollcall_runtime::topology::LogConfig;
use serde_json::json;

use crate::failure::{Failure, Outcome};
use crate::output::Output;
use crate::settings::Settings;
use crate::wire;
use crate::wire_kafka::kafka_config;

/// How often JSON says how far it is.
const LINE_INTERVAL: Duration = Duration::from_secs(1);

/// The log itself, while no worker runs on it
#[derive(Debug, Subcommand)]
pub(super) enum Log {
    Copy(Copy),
}

/// Move a drained log to another place: another folder, or a Kafka
///
/// The copy keeps the log's id and partitions, so sinks and slots go on where they are; nothing is read from the source
/// again. First `rollcall pause` every source, wait until nobody is behind (`rollcall topic describe identity-changes`),
/// and stop rollcall. How a Kafka is spoken to (TLS, SASL, copies) comes from topology.yaml where its log is one. Cut
/// short, it is run again and goes on. Then name the new place in topology.yaml. JSON lines:
/// {copied, total, done}, and last {records, tasks, done}; with --plan {log_id, partitions, epoch, topics, tasks}.
/// Records are counted in offsets: compaction leaves fewer.
#[derive(Debug, Args)]
pub(super) struct Copy {
    /// embedded:PATH (as log.path names it) or kafka:BROKERS/PREFIX
    #[arg(long, value_name = "LOG")]
    from: Address,
    /// embedded:PATH or kafka:BROKERS/PREFIX, where no log is yet
    #[arg(long, value_name = "LOG")]
    to: Address,
    /// Only check that it can be done, and show what would be copied
    #[arg(long)]
    plan: bool,
}

/// Where a log is.
#[derive(Clone, PartialEq, Eq, Debug)]
enum Address {
    Embedded(PathBuf),
    Kafka { brokers: String, prefix: String },
}

impl FromStr for Address {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let bad = || format!("'{text}' is neither embedded:PATH nor kafka:BROKERS/PREFIX");
        match text.split_once(':') {
            Some(("embedded", path)) if !path.is_empty() => Ok(Self::Embedded(path.into())),
            Some(("kafka", rest)) => {
                let (brokers, prefix) = rest.rsplit_once('/').ok_or_else(bad)?;
                if brokers.is_empty() || prefix.is_empty() {
                    return Err(bad());
                }
                Ok(Self::Kafka { brokers: brokers.to_owned(), prefix: prefix.to_owned() })
            }
            Some(_) | None => Err(bad()),
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Embedded(path) => write!(f, "embedded:{}", path.display()),
            Self::Kafka { brokers, prefix } => write!(f, "kafka:{brokers}/{prefix}"),
        }
    }
}

/// How logs of each kind are opened; what an address doesn't say comes from the topology.
#[derive(Debug)]
struct Opener {
    embedded: EmbeddedLogConfig,
    /// Brokers and prefix are the address's.
    kafka: KafkaLogConfig,
}

type Opened = Arc<dyn rollcall_model::Log>;

impl Opener {
    fn of(settings: &Settings) -> Result<Self, Failure> {
        let log = settings.topology()?.log;
        let (mut embedded, mut kafka) =
            (EmbeddedLogConfig::default(), KafkaLogConfig::new("", "", log.partitions()));
        match &log {
            LogConfig::Embedded(config) => embedded = wire::embedded_config(config),
            LogConfig::Kafka(config) => kafka = kafka_config(config),
        }
        Ok(Self { embedded, kafka })
    }

    fn kafka(&self, brokers: &str, prefix: &str, partitions: u16) -> KafkaLogConfig {
        KafkaLogConfig {
            brokers: brokers.to_owned(),
            prefix: prefix.to_owned(),
            partitions,
            ..self.kafka.clone()
        }
    }

    async fn existing(&self, address: &Address) -> Result<Opened, Fault> {
        match address {
            Address::Embedded(path) => {
                let (path, config) = (path.join(wire::LOG_FOLDER), self.embedded.clone());
                blocking(move || EmbeddedLog::open_existing(path, config)).await
            }
            Address::Kafka { brokers, prefix } => {
                let config = self.kafka(brokers, prefix, self.kafka.partitions);
                Ok(Arc::new(KafkaLog::open_existing(config).await?))
            }
        }
    }

    async fn copy_of(&self, log: &dyn rollcall_model::Log, address: &Address) -> Result<Opened, Fault> {
        let (id, epoch, partitions): (LogId, _, _) = (log.id().clone(), log.epoch() + 1, log.partitions());
        match address {
            Address::Embedded(path) => {
                let path = path.join(wire::LOG_FOLDER);
                let config = EmbeddedLogConfig { partitions, ..self.embedded.clone() };
                blocking(move || EmbeddedLog::create_copy(path, config, id, epoch)).await
            }
            Address::Kafka { brokers, prefix } => {
                let config = self.kafka(brokers, prefix, partitions);
                Ok(Arc::new(KafkaLog::create_copy(config, id, epoch).await?))
            }
        }
    }
}

/// Opening reads what a crash left, which may take a while.
async fn blocking(
    open: impl FnOnce() -> Result<EmbeddedLog, Fault> + Send + 'static,
) -> Result<Opened, Fault> {
    let opened = tokio::task::spawn_blocking(open).await;
    Ok(Arc::new(opened.map_err(|error| Fault::bug("opening the log broke off").from_source(error))??))
}

impl Log {
    /// Does it.
    pub(super) async fn execute(self, settings: &Settings, output: Output) -> Result<Outcome, Failure> {
        let Self::Copy(copy) = self;
        if copy.from == copy.to {
            return Err(Failure::Use("--from and --to name the same place".to_owned()));
        }
        let opener = Opener::of(settings)?;
        let from = opener.existing(&copy.from).await?;
        if copy.plan {
            return copy.show(output, &log_copy::plan(&from).await?);
        }
        let to = opener.copy_of(&*from, &copy.to).await?;
        copy.run(output, &from, &to).await
    }
}

impl Copy {
    fn show(&self, output: Output, plan: &CopyPlan) -> Result<Outcome, Failure> {
        if output.json {
            output.json_line(plan)?;
            return Ok(Outcome::Done);
        }
        output.line(&format!(
            "log {}, {} partitions, epoch {}: nothing is under way in it",
            plan.log_id, plan.partitions, plan.epoch
        ))?;
        let rows: Vec<_> = plan
            .topics
            .iter()
            .map(|(topic, records)| vec![topic.name().to_owned(), records.to_string()])
            .collect();
        output.table(&["TOPIC", "RECORDS"], &rows)?;
        output.line(&format!("and where these tasks stand: {}", plan.tasks.join(", ")))?;
        output.line(&format!(
            "would be copied to {}, with epoch {}. What topics kept by time hold (changes that everybody has read) \
             stays behind.",
            self.to,
            plan.epoch + 1
        ))?;
        Ok(Outcome::Done)
    }

    async fn run(&self, output: Output, from: &Opened, to: &Opened) -> Result<Outcome, Failure> {
        let bar = if output.json { ProgressBar::hidden() } else { ProgressBar::new(0) };
        if let Ok(style) = ProgressStyle::with_template("{elapsed} {wide_bar} {pos} of {len} {per_sec} {eta}")
        {
            bar.set_style(style);
        }
        let mut said: Option<Instant> = None;
        let mut closed = None;
        let copied = log_copy::copy(from, to, |Copying { copied, total }| {
            bar.set_length(total);
            bar.set_position(copied);
            if output.json && said.is_none_or(|at| at.elapsed() >= LINE_INTERVAL) {
                said = Some(Instant::now());
                let line = json!({"copied": copied, "total": total, "done": false});
                // Whoever looked on has gone: the copy goes on without them.
                closed = output.json_line(&line).err();
            }
        })
        .await;
        bar.finish_and_clear();
        drop(closed);
        let copied = copied?;
        if output.json {
            output.json_line(&json!({"records": copied.records, "tasks": copied.tasks, "done": true}))?;
            return Ok(Outcome::Done);
        }
        output.line(&format!(
            "copied {} records and where {} tasks stand to {}",
            copied.records,
            copied.tasks.len(),
            self.to
        ))?;
        output.line(&format!(
            "name it in topology.yaml under `log:` and start rollcall, then resume what was paused; keep {} until \
             `rollcall verify` is equal, and start nothing on it",
            self.from
        ))?;
        Ok(Outcome::Done)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_name_a_kind_and_a_place() {
        let kafka = |brokers: &str| Address::Kafka { brokers: brokers.into(), prefix: "rollcall".into() };
        for (text, address) in [
            ("embedded:./data", Address::Embedded("./data".into())),
            ("embedded:/a:b", Address::Embedded("/a:b".into())),
            ("kafka:a:9092,b:9092/rollcall", kafka("a:9092,b:9092")),
        ] {
            assert_eq!(text.parse(), Ok(address.clone()), "{text}");
            assert_eq!(address.to_string(), text);
        }
        for bad in ["", "./data", "embedded:", "kafka:a:9092", "kafka:/rollcall", "kafka:a:9092/", "nats:a/b"]
        {
            assert!(bad.parse::<Address>().is_err(), "{bad}");
        }
    }
}
