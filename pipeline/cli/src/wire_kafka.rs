//! The section `log` of type kafka as its connector wants it.

use std::sync::Arc;

use rollcall_log_kafka::{KafkaLog, OauthConfig, SaslConfig, TlsConfig};
use rollcall_model::Workers;
use rollcall_runtime::JoinWorkers;
use rollcall_runtime::topology::{KafkaLogConfig, KafkaSasl, Secret};

const DAY_MS: u64 = 24 * 3_600_000;

/// The connector's settings.
pub(crate) fn kafka_config(config: &KafkaLogConfig) -> rollcall_log_kafka::KafkaLogConfig {
    let keys = &config.keys;
    rollcall_log_kafka::KafkaLogConfig {
        replication_factor: keys.replication_factor,
        min_insync_replicas: keys.min_insync_replicas,
        retention_ms: keys.retention_ms,
        tombstone_retention_ms: u64::from(keys.tombstone_retention_days) * DAY_MS,
        transaction_timeout_ms: keys.transaction_timeout_ms,
        session_timeout_ms: keys.session_timeout_ms,
        tls: config.tls.as_ref().map(|tls| TlsConfig {
            ca_file: tls.ca_file.clone(),
            certificate_file: tls.certificate_file.clone(),
            key_file: tls.key_file.clone(),
        }),
        sasl: config.sasl.as_ref().map(sasl),
        schema_registry: config.schema_registry.as_ref().map(|registry| {
            let mut settings = rollcall_schema_registry::RegistryConfig::new(registry.url.expose());
            settings.user.clone_from(&registry.user);
            settings.password = registry.password.as_ref().map(|password| password.expose().to_owned());
            settings
        }),
        client: config.client.clone(),
        topic_settings: config.topic_settings.clone(),
        ..rollcall_log_kafka::KafkaLogConfig::new(&keys.brokers, &keys.prefix, keys.partitions)
    }
}

fn sasl(sasl: &KafkaSasl) -> SaslConfig {
    let (user, password) = (sasl.user.clone(), sasl.password.expose().to_owned());
    match sasl.mechanism.as_str() {
        "oauthbearer" => SaslConfig::OauthBearer(OauthConfig {
            token_url: sasl.token_url.as_ref().map(Secret::expose).unwrap_or_default().to_owned(),
            client_id: user,
            client_secret: password,
            scope: sasl.scope.clone(),
        }),
        "plain" => SaslConfig::Plain { user, password },
        mechanism => SaslConfig::Scram { sha_512: mechanism == "scram-sha-512", user, password },
    }
}

/// How a worker joins the others.
pub(crate) fn join(log: Arc<KafkaLog>, worker: String) -> JoinWorkers {
    Box::new(move |tasks| {
        let (log, worker) = (Arc::clone(&log), worker.clone());
        Box::pin(async move { Ok(Box::new(log.join(&worker, tasks).await?) as Box<dyn Workers>) })
    })
}
