//! The topics of a log: made as they must be, or found to be so.
//!
//! What a setting endangers is refused with its name and the command that sets it right: compaction of a topic whose
//! records all count, retention shorter than what readers may fall behind, fewer partitions than keys were spread over.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use rdkafka::admin::{AdminOptions, NewPartitions, NewTopic, ResourceSpecifier, TopicReplication};
use rdkafka::consumer::Consumer as _;
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};
use rollcall_model::{Fault, Retention, Topic};

use crate::client::{Questions, Serve as _, blocking, fault_of};
use crate::config::KafkaLogConfig;

/// Kafka's word for "for ever".
const NEVER: &str = "-1";
/// What topics are made with where records must be found soon after they were compacted away.
const SEGMENT_MS: u64 = 3_600_000;
/// The part of `progress` that is never compacted is its last segment.
const PROGRESS_SEGMENT_BYTES: u64 = 8 << 20;
/// Below it a record would be cut into hundreds of messages.
const MESSAGE_BYTES_MIN: u64 = 16_384;

/// What is known of the topics once they are as they must be.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Checked {
    /// The largest batch that all of them take.
    pub(crate) message_bytes_max: u64,
}

/// Settings that a topic must have, in Kafka's words.
fn required(config: &KafkaLogConfig, topic: Topic) -> Vec<(&'static str, String)> {
    let mut settings = match topic.retention() {
        Retention::Compacted => vec![
            ("cleanup.policy", "compact".to_owned()),
            ("delete.retention.ms", config.tombstone_retention_ms.to_string()),
            ("segment.ms", SEGMENT_MS.to_string()),
        ],
        // What may go is dropped by us, never before every task has read it.
        Retention::Time => vec![
            ("cleanup.policy", "delete".to_owned()),
            ("retention.ms", NEVER.to_owned()),
            ("retention.bytes", NEVER.to_owned()),
        ],
    };
    if topic == Topic::Progress {
        // Read from its beginning by every worker that starts: each task's newest record, and little more.
        settings.push(("segment.bytes", PROGRESS_SEGMENT_BYTES.to_string()));
        settings.push(("min.cleanable.dirty.ratio", "0.05".to_owned()));
    }
    settings.push(("min.insync.replicas", config.min_insync_replicas.to_string()));
    settings.push(("unclean.leader.election.enable", "false".to_owned()));
    settings
}

/// Makes what is missing and checks all of it.
pub(crate) async fn prepare(questions: &Questions, config: &KafkaLogConfig) -> Result<Checked, Fault> {
    let there = partitions_there(questions, config).await?;
    let missing: Vec<Topic> =
        Topic::ALL.iter().copied().filter(|topic| !there.contains_key(&config.topic(*topic))).collect();
    // What we have no right to see looks like what isn't there.
    for topic in &missing {
        see(questions, config, config.topic(*topic)).await?;
    }
    // One of some is a log that lost a topic, or another's topics: making the rest would hide that.
    if !missing.is_empty() && missing.len() < Topic::ALL.len() {
        let has_progress = there.contains_key(&config.topic(Topic::Progress));
        if has_progress || holds_records(questions, config, &missing).await? {
            return Err(lost(config, &missing));
        }
    }
    // `progress` last: where it is, the others are.
    let mut making = missing;
    making.sort_by_key(|topic| *topic == Topic::Progress);
    for topic in making {
        make(questions, config, topic).await?;
    }
    let names: Vec<_> = Topic::ALL.iter().map(|topic| config.topic(*topic)).collect();
    wait_until_known(questions, config, &names).await?;
    check_partitions(questions, config).await?;
    check_settings(questions, config).await
}

fn lost(config: &KafkaLogConfig, missing: &[Topic]) -> Fault {
    let names: Vec<_> = missing.iter().map(|topic| config.topic(*topic)).collect();
    Fault::refused(format!(
        "the log '{}' at {} has lost its topics {}",
        config.prefix,
        config.brokers,
        names.join(", ")
    ))
    .repair("restore them from a mirror; or take another log.prefix and run rollcall rebuild for every sink")
}

/// Refuses a topic that is there, but not for us.
async fn see(questions: &Questions, config: &KafkaLogConfig, name: String) -> Result<(), Fault> {
    let reader = questions.reader()?;
    let timeout = config.request_timeout();
    let doing = format!("can't see the topic {name}");
    let asked = blocking(move || Ok(reader.fetch_metadata(Some(&name), timeout))).await?;
    let metadata = asked.map_err(|e| questions.fault(&doing, e))?;
    match metadata.topics().first().and_then(|topic| topic.error()).map(Code::from) {
        Some(Code::TopicAuthorizationFailed) => {
            Err(questions.fault(&doing, KafkaError::Global(Code::TopicAuthorizationFailed)))
        }
        Some(Code::InvalidTopic) => Err(questions.fault(&doing, KafkaError::Global(Code::InvalidTopic))),
        // Not there, or on its way.
        Some(_) | None => Ok(()),
    }
}

/// Whether a log has been in the topics that are there: one that is being made holds nothing before it is whole.
async fn holds_records(
    questions: &Questions,
    config: &KafkaLogConfig,
    missing: &[Topic],
) -> Result<bool, Fault> {
    for topic in Topic::ALL.iter().copied().filter(|topic| !missing.contains(topic)) {
        for partition in 0..config.partitions_of(topic) {
            if questions.offsets(config.topic(topic), partition.into()).await?.end > 0 {
                return Ok(true);
            }
        }
    }
    Ok(false)
}

/// Whether a log has been made with this prefix: its `progress` comes last.
pub(crate) async fn is_there(questions: &Questions, config: &KafkaLogConfig) -> Result<bool, Fault> {
    Ok(partitions_there(questions, config).await?.contains_key(&config.topic(Topic::Progress)))
}

/// The partition counts and fewest copies of the topics with our prefix.
async fn partitions_there(
    questions: &Questions,
    config: &KafkaLogConfig,
) -> Result<BTreeMap<String, (usize, usize)>, Fault> {
    let reader = questions.reader()?;
    let timeout = config.request_timeout();
    let asked = Arc::clone(&reader);
    let doing = "can't reach the brokers";
    let said = config.clone();
    let metadata = blocking(move || {
        asked.serve();
        if let Some(trouble) = asked.context().health.no_token() {
            return Err(fault_of(&said, doing, trouble));
        }
        let metadata = asked.fetch_metadata(None, timeout);
        asked.serve();
        Ok(metadata)
    })
    .await?;
    let metadata = metadata.map_err(|e| {
        let named = questions.fault(doing, e);
        let repair = format!(
            "start Kafka, or set log.brokers to where it is: {}; where it is up, check log.tls and log.sasl",
            config.brokers
        );
        if named.repair.is_some() { named } else { named.repair(repair) }
    })?;
    let prefix = format!("{}.", config.prefix);
    let own = metadata.topics().iter().filter(|topic| topic.name().starts_with(&prefix));
    Ok(own
        .map(|topic| {
            let copies = topic.partitions().iter().map(|p| p.replicas().len()).min();
            (topic.name().to_owned(), (topic.partitions().len(), copies.unwrap_or_default()))
        })
        .collect())
}

async fn make(questions: &Questions, config: &KafkaLogConfig, topic: Topic) -> Result<(), Fault> {
    let name = config.topic(topic);
    let settings = required(config, topic);
    let mut new = NewTopic::new(
        &name,
        i32::from(config.partitions_of(topic)),
        TopicReplication::Fixed(i32::from(config.replication_factor)),
    );
    for (key, value) in &settings {
        if !config.topic_settings.contains_key(*key) {
            new = new.set(key, value);
        }
    }
    for (key, value) in &config.topic_settings {
        new = new.set(key, value);
    }
    create(questions, config, &name, new).await
}

async fn create(
    questions: &Questions,
    config: &KafkaLogConfig,
    name: &str,
    new: NewTopic<'_>,
) -> Result<(), Fault> {
    let options = AdminOptions::new()
        .operation_timeout(Some(config.request_timeout()))
        .request_timeout(Some(config.request_timeout()));
    let doing = format!("can't make the topic {name}");
    let made = questions.admin().await?.create_topics([&new], &options).await;
    match made.map_err(|e| questions.fault(&doing, e))?.into_iter().next() {
        // Another worker was quicker.
        None | Some(Ok(_) | Err((_, Code::TopicAlreadyExists))) => Ok(()),
        Some(Err((_, Code::InvalidConfig))) => {
            let given: Vec<_> = config.topic_settings.iter().map(|(k, v)| format!("{k}={v}")).collect();
            Err(Fault::config(format!(
                "{doing}: the brokers don't know or don't take one of its settings ({})",
                given.join(", ")
            ))
            .repair("correct log.topic_settings; Kafka's documentation lists them under Topic Configs"))
        }
        Some(Err((_, Code::InvalidReplicationFactor))) => Err(Fault::config(format!(
            "{doing}: there are fewer brokers than log.replication_factor {}",
            config.replication_factor
        ))
        .repair("start more brokers, or lower log.replication_factor (and log.min_insync_replicas)")),
        Some(Err((_, Code::PolicyViolation))) => Err(Fault::config(format!(
            "{doing}: a policy of the brokers forbids it (create.topic.policy.class.name)"
        ))
        .repair(format!("make the topic as docs/topics.md describes it, or have {name} excepted"))),
        Some(Err((_, code))) => Err(questions.fault(&doing, KafkaError::AdminOp(code))),
    }
}

/// Brokers learn of a new topic one after another.
async fn wait_until_known(
    questions: &Questions,
    config: &KafkaLogConfig,
    names: &[String],
) -> Result<(), Fault> {
    let until = tokio::time::Instant::now() + config.request_timeout();
    loop {
        let there = partitions_there(questions, config).await?;
        let is_known = |name: &&String| there.get(*name).is_some_and(|(count, _)| *count > 0);
        let Some(unknown) = names.iter().find(|name| !is_known(name)) else { return Ok(()) };
        if tokio::time::Instant::now() > until {
            return Err(Fault::retry(format!(
                "the topic {unknown} was made, but the brokers at {} don't know it yet",
                config.brokers
            ))
            .repair("wait: Rollcall asks again; if it stays so, look at the brokers' logs"));
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// A changed count would send an identity's next record elsewhere than its last.
async fn check_partitions(questions: &Questions, config: &KafkaLogConfig) -> Result<(), Fault> {
    let there = partitions_there(questions, config).await?;
    for topic in Topic::ALL.iter().copied() {
        let name = config.topic(topic);
        let wanted = usize::from(config.partitions_of(topic));
        let (found, copies) = there.get(&name).copied().unwrap_or_default();
        if found != wanted {
            let log = format!("kafka:{}/{}", config.brokers, config.prefix);
            return Err(Fault::refused(format!(
                "the topic {name} has {found} partitions, the log has {wanted}: their number is fixed when a log is \
                 made, or identities would change their order"
            ))
            .repair(format!(
                "set log.partitions to what the log was made with; if the topic was altered, move the log to new \
                 topics: rollcall log copy --from {log} --to {log}-2, then set log.prefix"
            )));
        }
        if copies < usize::from(config.replication_factor) {
            return Err(Fault::config(format!(
                "the topic {name} has {copies} copies, log.replication_factor is {}",
                config.replication_factor
            ))
            .repair(format!(
                "kafka-reassign-partitions.sh gives it more; or set log.replication_factor: {copies}"
            )));
        }
    }
    Ok(())
}

async fn check_settings(questions: &Questions, config: &KafkaLogConfig) -> Result<Checked, Fault> {
    let names: Vec<(Topic, String)> = Topic::ALL.iter().map(|topic| (*topic, config.topic(*topic))).collect();
    let resources: Vec<_> = names.iter().map(|(_, name)| ResourceSpecifier::Topic(name)).collect();
    let options = AdminOptions::new().request_timeout(Some(config.request_timeout()));
    let doing = "can't read the settings of the topics";
    let answers = questions.admin().await?.describe_configs(&resources, &options).await;
    let answers = answers.map_err(|e| questions.fault(doing, e))?;
    let mut message_bytes_max = u64::MAX;
    for ((topic, name), answer) in names.iter().zip(answers) {
        let resource = answer.map_err(|code| questions.fault(doing, KafkaError::AdminOp(code)))?;
        // rust-rdkafka passes over why an answer is empty; a topic that is there has settings.
        if resource.entries.is_empty() {
            let doing = format!("can't read the settings of the topic {name}");
            return Err(questions.fault(&doing, KafkaError::AdminOp(Code::TopicAuthorizationFailed)));
        }
        let found = |key: &str| resource.get(key).and_then(|entry| entry.value.clone()).unwrap_or_default();
        for (key, wanted) in required(config, *topic) {
            check_setting(config, name, key, &wanted, &found(key))?;
        }
        let bytes: u64 = found("max.message.bytes").parse().unwrap_or(u64::MAX);
        if bytes < MESSAGE_BYTES_MIN {
            return Err(Fault::config(format!(
                "the topic {name} has max.message.bytes={bytes}, and needs {MESSAGE_BYTES_MIN}: records would fall into \
                 crumbs"
            ))
            .repair(alter(config, name, "max.message.bytes", "1048588")));
        }
        message_bytes_max = message_bytes_max.min(bytes);
    }
    Ok(Checked { message_bytes_max })
}

fn check_setting(
    config: &KafkaLogConfig,
    topic: &str,
    key: &str,
    wanted: &str,
    found: &str,
) -> Result<(), Fault> {
    let number = |text: &str| text.parse::<i128>().ok();
    let (is_good, why, right) = match key {
        "cleanup.policy" => (found == wanted, "records would go that count, or never go", wanted.to_owned()),
        "delete.retention.ms" => (
            number(found) >= number(wanted),
            "a store that was away would not learn of deletes (log.tombstone_retention_days)",
            wanted.to_owned(),
        ),
        "retention.ms" => (
            found == NEVER || number(found) >= Some(config.retention_ms.into()),
            "records would go before log.retention_ms, the window in which tasks may be replayed",
            NEVER.to_owned(),
        ),
        "retention.bytes" => {
            (found == NEVER, "records would go before every task has read them", NEVER.to_owned())
        }
        "min.insync.replicas" => (
            number(found) >= number(wanted),
            "a commit would count as written with fewer copies than log.min_insync_replicas",
            wanted.to_owned(),
        ),
        "unclean.leader.election.enable" => {
            (found != "true", "a broker that missed commits could become the leader", wanted.to_owned())
        }
        // How often a segment is rolled only sets when it is compacted.
        _ => (true, "", wanted.to_owned()),
    };
    if is_good {
        return Ok(());
    }
    Err(Fault::config(format!("the topic {topic} has {key}={found}, and needs {right}: {why}"))
        .repair(alter(config, topic, key, &right)))
}

fn alter(config: &KafkaLogConfig, topic: &str, key: &str, value: &str) -> String {
    format!(
        "kafka-configs.sh --bootstrap-server {} --alter --entity-type topics --entity-name {topic} --add-config \
         {key}={value}",
        config.brokers
    )
}

/// The empty topic whose partitions are the tasks: at least so many.
pub(crate) async fn prepare_tasks(
    questions: &Questions,
    config: &KafkaLogConfig,
    tasks: u16,
) -> Result<(), Fault> {
    let name = config.tasks_topic();
    let wanted = usize::from(tasks.max(1));
    let found = partitions_there(questions, config).await?.get(&name).map(|(partitions, _)| *partitions);
    match found {
        None => {
            let count = i32::from(tasks.max(1));
            let copies = TopicReplication::Fixed(i32::from(config.replication_factor));
            see(questions, config, name.clone()).await?;
            create(questions, config, &name, NewTopic::new(&name, count, copies)).await?;
        }
        Some(found) if found < wanted => {
            let options = AdminOptions::new().request_timeout(Some(config.request_timeout()));
            let more = NewPartitions::new(&name, wanted);
            let made = questions.admin().await?.create_partitions([&more], &options).await;
            let doing = format!("can't give the topic {name} {wanted} partitions, one for each task");
            match made.map_err(|e| questions.fault(&doing, e))?.into_iter().next() {
                // Another worker was quicker.
                None | Some(Ok(_) | Err((_, Code::InvalidPartitions))) => {}
                Some(Err((_, code))) => return Err(questions.fault(&doing, KafkaError::AdminOp(code))),
            }
        }
        Some(_) => return Ok(()),
    }
    // Who joins a group over a topic that its broker doesn't know is told that it is gone.
    wait_until_known(questions, config, &[name]).await
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One node can't have fewer in-sync copies than one; the other settings are tested on it.
    #[test]
    fn fewer_copies_than_a_commit_needs_are_refused() {
        let config = KafkaLogConfig::new("broker:9092", "rollcall", 1);
        let check = |found| check_setting(&config, "rollcall.catalog", "min.insync.replicas", "2", found);
        assert!(check("2").is_ok() && check("3").is_ok());
        for found in ["1", "", "?"] {
            let Err(fault) = check(found) else { panic!("{found} copies are too few") };
            assert_eq!(fault.kind, rollcall_model::FaultKind::Config);
            assert!(fault.what.contains("log.min_insync_replicas"), "{fault}");
            let repair = fault.repair.unwrap_or_default();
            let names = "--entity-name rollcall.catalog --add-config min.insync.replicas=2";
            assert!(repair.contains("kafka-configs.sh") && repair.contains(names), "{repair}");
        }
    }
}
