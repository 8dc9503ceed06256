//! What Kafka's errors mean to whoever runs the log.

use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};
use rollcall_model::{Fault, FaultKind};

use crate::config::{KafkaLogConfig, SaslConfig};

/// The code in an error, if it has one.
pub(crate) fn code_of(error: &KafkaError) -> Option<Code> {
    if let KafkaError::Transaction(error) = error {
        return Some(error.code());
    }
    if let KafkaError::AdminOp(code) = error { Some(*code) } else { error.rdkafka_error_code() }
}

/// An error of the client or a broker, as what to do about it. `doing` says at what it came: "can't read …".
pub(crate) fn fault(config: &KafkaLogConfig, doing: &str, error: KafkaError) -> Fault {
    let brokers = &config.brokers;
    let prefix = &config.prefix;
    let named = |kind, what: String| Fault::new(kind, what);
    let found = match code_of(&error) {
        Some(Code::Fenced | Code::ProducerFenced | Code::InvalidProducerEpoch) => {
            named(FaultKind::Fenced, format!("{doing}: a newer writer has this task, or a commit took longer than log.transaction_timeout_ms"))
        }
        Some(Code::TopicAuthorizationFailed) => {
            let rights = "Create, Read, Write, Describe, DescribeConfigs, Alter and Delete";
            named(FaultKind::Config, format!("{doing}: the brokers at {brokers} don't let us, {rights} are needed on the topics {prefix}.*"))
                .repair(acl(config, &format!("--topic {prefix}. --resource-pattern-type prefixed --operation Read --operation Write --operation Describe --operation DescribeConfigs --operation Alter --operation Delete --operation Create")))
        }
        Some(Code::GroupAuthorizationFailed) => {
            named(FaultKind::Config, format!("{doing}: the brokers at {brokers} don't let us read in group {}", config.group()))
                .repair(acl(config, &format!("--group {} --operation Read --operation Describe", config.group())))
        }
        Some(Code::TransactionalIdAuthorizationFailed) => {
            named(FaultKind::Config, format!("{doing}: the brokers at {brokers} don't let us write in transactions named {prefix}.*"))
                .repair(acl(config, &format!("--transactional-id {prefix}. --resource-pattern-type prefixed --operation Write --operation Describe")))
        }
        Some(Code::ClusterAuthorizationFailed) => {
            named(FaultKind::Config, format!("{doing}: the brokers at {brokers} don't let us make topics"))
                .repair(acl(config, &format!("--topic {prefix}. --resource-pattern-type prefixed --operation Create")))
        }
        // A token that ran out is refused like a wrong one, and there is a new one soon.
        Some(Code::SaslAuthenticationFailed | Code::Authentication)
            if matches!(config.sasl, Some(SaslConfig::OauthBearer(_))) =>
        {
            named(FaultKind::Retry, format!("{doing}: the brokers at {brokers} refused our token"))
                .repair("wait for a new one; if it stays so, check log.sasl: whether the brokers take tokens of its token_url and scope")
        }
        Some(Code::SaslAuthenticationFailed | Code::Authentication) => {
            named(FaultKind::Config, format!("{doing}: the brokers at {brokers} refused who we say we are"))
                .repair("check log.sasl: mechanism, user and password")
        }
        Some(Code::UnsupportedSASLMechanism) => {
            named(FaultKind::Config, format!("{doing}: the brokers at {brokers} don't know this way of saying who we are"))
                .repair("set log.sasl.mechanism to one that the listener has enabled (sasl.enabled.mechanisms)")
        }
        Some(Code::SSL) => {
            named(FaultKind::Config, format!("{doing}: TLS with the brokers at {brokers} failed"))
                .repair("check log.tls.ca_file, and that the listener of log.brokers speaks TLS")
        }
        // For a moment there is no leader: its broker went away, or was taken for dead.
        Some(Code::UnknownPartition) => {
            named(FaultKind::Retry, format!("{doing}: no broker at {brokers} leads it"))
                .repair(format!("wait: Rollcall asks again; if it stays so, start the brokers that hold it: kafka-topics.sh --bootstrap-server {brokers} --describe --unavailable-partitions"))
        }
        Some(Code::UnknownTopicOrPartition | Code::UnknownTopic) => {
            named(FaultKind::Refused, format!("{doing}: the topic is no longer there"))
                .repair(format!("a log that lost a topic is lost: restore {prefix}.* from a mirror, or take another log.prefix and run rollcall rebuild for every sink"))
        }
        Some(Code::AutoOffsetReset | Code::OffsetOutOfRange) => {
            named(FaultKind::Refused, format!("{doing}: what stood at this place is past its retention"))
                .repair("rollcall rebuild the sink that reads it (rollcall rebuild counts|clickhouse): it starts anew from the compacted topics")
        }
        Some(Code::InvalidTransactionTimeout) => {
            named(FaultKind::Config, format!("{doing}: log.transaction_timeout_ms {} is more than the brokers allow", config.transaction_timeout_ms))
                .repair("lower log.transaction_timeout_ms, or raise transaction.max.timeout.ms of the brokers")
        }
        Some(Code::MessageSizeTooLarge) => {
            named(FaultKind::Refused, format!("{doing}: something is larger than the topics' max.message.bytes and can't be cut, such as a task's progress"))
                .repair(format!("kafka-configs.sh --bootstrap-server {brokers} --alter --entity-type topics --entity-name {prefix}.progress --add-config max.message.bytes=10485760, the same for the other topics {prefix}.*, and start again"))
        }
        Some(Code::InvalidTopic) => {
            named(FaultKind::Config, format!("{doing}: '{prefix}' is nothing that topics' names may begin with"))
                .repair("set log.prefix to letters, digits, '.', '_' and '-'")
        }
        Some(Code::UnsupportedVersion | Code::UnsupportedFeature) => {
            named(FaultKind::Config, format!("{doing}: the brokers at {brokers} are too old"))
                .repair("Rollcall needs Apache Kafka 2.5 or newer")
        }
        // Everything else passes: brokers come back, elections end.
        _ => named(FaultKind::Retry, format!("{doing} at {brokers}")),
    };
    match (code_of(&error), &error) {
        // It says the same twice.
        (Some(code), other) if !matches!(other, KafkaError::Transaction(_)) => found.from_source(code),
        _ => found.from_source(error),
    }
}

fn acl(config: &KafkaLogConfig, rest: &str) -> String {
    format!(
        "kafka-acls.sh --bootstrap-server {} --add --allow-principal User:<log.sasl.user> {rest}",
        config.brokers
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_partition_without_a_leader_is_waited_for_and_a_topic_that_is_gone_is_not() {
        let config = KafkaLogConfig::new("broker:9092", "rollcall", 1);
        let of = |code| fault(&config, "can't read", KafkaError::MetadataFetch(code));
        // librdkafka says so of a partition whose broker was taken for dead a moment ago.
        let waits = of(Code::UnknownPartition);
        assert_eq!(waits.kind, FaultKind::Retry);
        assert!(waits.repair.is_some_and(|repair| repair.contains("--unavailable-partitions")));
        for code in [Code::UnknownTopicOrPartition, Code::UnknownTopic] {
            assert_eq!(of(code).kind, FaultKind::Refused);
        }
    }
}
