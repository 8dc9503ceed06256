//! A source of type dynamodb as its connectors want it: the stream's readers, scans, exports, and items by their ids.

use std::path::{Path, PathBuf};

use rollcall_aws::{AwsConfig, Credentials};
use rollcall_backfill_s3::{DEFAULT_FILES_IN_FLIGHT_MAX, Export, ExportConfig};
use rollcall_model::shards::{BackfillEstimate, ItemBackfillPlan, ItemOrigin, StreamStart};
use rollcall_model::{Fault, ItemPages, ShardSource, SourceName};
use rollcall_platforms::ItemPlatform;
use rollcall_runtime::ItemSourceWiring;
use rollcall_runtime::topology::{DynamoDbSourceConfig, Secret};
use rollcall_source_dynamodb::{
    DynamoShards, DynamoSourceConfig, EnvironmentFilter, Scan, ScanConfig, begin_stream, raise_epoch,
};

/// Pages that a scan reads ahead of the log.
const PAGES_IN_FLIGHT_MAX: usize = 16;

/// The source's settings, in the words of each connector.
#[derive(Clone, Debug)]
pub(crate) struct DynamoDb {
    name: SourceName,
    config: DynamoDbSourceConfig,
    platform: ItemPlatform,
    spool: PathBuf,
}

impl DynamoDb {
    /// Reads the section; `folder` is the worker's own.
    pub(crate) fn new(
        name: &SourceName,
        config: &DynamoDbSourceConfig,
        folder: &Path,
    ) -> Result<Self, Fault> {
        let platform = ItemPlatform::by_name(config.platform.name()).ok_or_else(|| {
            Fault::config(format!("this version reads no items of platform '{}'", config.platform.name()))
        })?;
        let spool = folder.join("exports").join(name.as_str());
        Ok(Self { name: name.clone(), config: config.clone(), platform, spool })
    }

    fn aws(&self, endpoint: Option<&Secret>) -> AwsConfig {
        let config = &self.config;
        let credentials = match (&config.access_key_id, &config.secret_access_key, &config.profile) {
            (Some(id), Some(secret), _) => Credentials::Static {
                access_key_id: id.expose().to_owned(),
                secret_access_key: secret.expose().to_owned(),
                session_token: config.session_token.as_ref().map(|token| token.expose().to_owned()),
            },
            (_, _, Some(profile)) => Credentials::Profile(profile.clone()),
            (_, _, None) => Credentials::Default,
        };
        let endpoint = endpoint.map(|endpoint| endpoint.expose().to_owned());
        AwsConfig { region: config.region.clone(), endpoint, credentials }
    }

    /// The table, for whoever reads it by keys.
    pub(crate) fn table(&self) -> (AwsConfig, &str, &'static str) {
        (self.aws(self.config.endpoint.as_ref()), &self.config.table, self.platform.key())
    }

    /// The stream's settings.
    pub(crate) fn stream(&self) -> DynamoSourceConfig {
        let config = &self.config;
        let (aws, table, key) = self.table();
        let start =
            if config.start == "trim_horizon" { StreamStart::TrimHorizon } else { StreamStart::Latest };
        DynamoSourceConfig {
            start,
            readers: config.readers,
            idle_poll_ms: config.idle_poll_ms,
            idle_poll_max_ms: config.idle_poll_max_ms,
            clock_slack_ms: config.clock_slack_ms,
            ..DynamoSourceConfig::new(self.name.clone(), table, key, aws)
        }
    }

    fn scan(&self, environment_key: Option<String>) -> ScanConfig {
        let (aws, table, key) = self.table();
        let (attribute, index) = self.platform.environment();
        ScanConfig {
            table: table.to_owned(),
            key,
            aws,
            segments: self.config.scan_segments,
            read_units_per_s: self.config.read_units_per_s.map(f64::from),
            page_items: self.config.page_items as usize,
            pages_in_flight_max: PAGES_IN_FLIGHT_MAX,
            environment: environment_key.map(|value| EnvironmentFilter { index, attribute, value }),
            clock_slack_ms: self.config.clock_slack_ms,
        }
    }

    fn export(&self, location: String) -> ExportConfig {
        ExportConfig {
            location,
            aws: self.aws(self.config.s3_endpoint.as_ref()),
            table: self.config.table.clone(),
            key: self.platform.key(),
            page_items: self.config.page_items as usize,
            files_in_flight_max: DEFAULT_FILES_IN_FLIGHT_MAX,
            clock_slack_ms: self.config.clock_slack_ms,
            spool: self.spool.clone(),
        }
    }

    /// What a backfill will take.
    pub(crate) async fn estimate(&self, origin: ItemOrigin) -> Result<BackfillEstimate, Fault> {
        match origin {
            ItemOrigin::Scan { environment_key } => {
                Box::pin(rollcall_source_dynamodb::estimate(&self.scan(environment_key))).await
            }
            ItemOrigin::Export { location } => {
                Box::pin(rollcall_backfill_s3::estimate(&self.export(location))).await
            }
        }
    }

    async fn backfill(self, plan: ItemBackfillPlan) -> Result<Box<dyn ItemPages>, Fault> {
        Ok(match plan.origin {
            ItemOrigin::Scan { environment_key } => {
                Box::new(Box::pin(Scan::start(&self.scan(environment_key), plan.cursor)).await?)
            }
            ItemOrigin::Export { location } => {
                Box::new(Box::pin(Export::open(&self.export(location), plan.cursor)).await?)
            }
        })
    }

    /// How the runtime starts it.
    pub(crate) fn wiring(self) -> ItemSourceWiring {
        let (begins, raises, reads, fills) = (self.clone(), self.clone(), self.clone(), self.clone());
        ItemSourceWiring {
            name: self.name.clone(),
            platform: self.platform,
            readers: self.config.readers,
            clock_slack_ms: self.config.clock_slack_ms,
            loads_by_itself: self.config.first_load == "scan",
            begin: Box::new(move || {
                let stream = begins.stream();
                Box::pin(async move { Box::pin(begin_stream(&stream)).await })
            }),
            accept_loss: Box::new(move |stream, readers| {
                let config = raises.stream();
                Box::pin(async move {
                    let raised = Box::pin(raise_epoch(&config, &stream, &readers)).await?;
                    Ok((raised.stream, raised.missing_from_us))
                })
            }),
            start_reader: Box::new(move |start| {
                let config = reads.stream();
                Box::pin(async move {
                    let reader =
                        DynamoShards::start(config, start.stream, start.index, start.own, start.others);
                    Ok(Box::new(Box::pin(reader).await?) as Box<dyn ShardSource>)
                })
            }),
            start_backfill: Box::new(move |plan| Box::pin(fills.clone().backfill(plan))),
        }
    }
}
