//! A sink of type parquet as its connector wants it.

use std::path::Path;
use std::time::Duration;

use rollcall_aws::{AwsConfig, Credentials};
use rollcall_model::{Archive, ArchiveReader, Fault};
use rollcall_runtime::topology::ParquetSinkConfig;
use rollcall_runtime::{LakeBounds, LakeWiring, OpenArchive};
use rollcall_sink_parquet::{Compression, LakeConfig, LakeReader, LakeSink, Location};

/// Above so much a file goes up in parts, each of which can fail and be sent again alone.
const PART_BYTES: u64 = 16 << 20;

/// The sink's settings as its connector wants them; `folder` is the worker's own.
pub(crate) fn lake_config(
    name: &str,
    config: &ParquetSinkConfig,
    folder: &Path,
) -> Result<LakeConfig, Fault> {
    let credentials = match (&config.access_key_id, &config.secret_access_key, &config.profile) {
        (Some(id), Some(secret), _) => Credentials::Static {
            access_key_id: id.expose().to_owned(),
            secret_access_key: secret.expose().to_owned(),
            session_token: config.session_token.as_ref().map(|token| token.expose().to_owned()),
        },
        (_, _, Some(profile)) => Credentials::Profile(profile.clone()),
        (_, _, None) => Credentials::Default,
    };
    Ok(LakeConfig {
        name: name.to_owned(),
        location: Location::parse(&config.bucket)?,
        aws: AwsConfig {
            region: config.region.clone().unwrap_or_default(),
            endpoint: config.endpoint.as_ref().map(|endpoint| endpoint.expose().to_owned()),
            credentials,
        },
        spool: folder.join("lake").join(name),
        row_group_rows: config.row_group_rows as usize,
        compression: Compression { zstd_level: i32::from(config.zstd_level) },
        part_bytes: PART_BYTES,
        history_days: config.history_days,
        retention_days: config.retention_days,
        reader_grace_minutes: config.reader_grace_minutes,
    })
}

/// How the runtime starts it.
pub(crate) fn lake(name: &str, config: &ParquetSinkConfig, folder: &Path) -> Result<LakeWiring, Fault> {
    let settings = lake_config(name, config, folder)?;
    Ok(LakeWiring {
        name: name.to_owned(),
        start: Box::new(move || {
            let settings = settings.clone();
            Box::pin(async move { Ok(Box::new(LakeSink::new(settings)) as Box<dyn Archive>) })
        }),
        bounds: LakeBounds {
            age: Duration::from_millis(config.flush_age_ms),
            file_bytes: config.file_bytes,
            buffer_bytes: config.buffer_bytes,
        },
    })
}

/// How the runtime reads it, to rebuild others from it.
pub(crate) fn archive(name: &str, config: &ParquetSinkConfig, folder: &Path) -> Result<OpenArchive, Fault> {
    let settings = lake_config(name, config, folder)?;
    Ok(Box::new(move |pin| {
        let settings = settings.clone();
        Box::pin(async move {
            let reader = Box::pin(LakeReader::open(&settings, pin.as_deref())).await?;
            Ok(Box::new(reader) as Box<dyn ArchiveReader>)
        })
    }))
}
