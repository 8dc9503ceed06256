//! Objects of a bucket: S3, and what speaks like it.
//!
//! Each call is one request; [`super::Objects`] repeats what may be repeated. A put carries `If-None-Match: *`: of two
//! writers one is told that the name is taken. A store that doesn't know that condition is refused when a lake is
//! prepared ([`crate::manifest`]).

use std::fs::File;
use std::io::Write as _;
use std::path::Path;
use std::time::Duration;

use aws_sdk_s3::Client;
use aws_sdk_s3::config::timeout::TimeoutConfig;
use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_s3::primitives::{ByteStream, DateTime};
use bytes::Bytes;
use rollcall_aws::{AwsConfig, ServerClock, code, fault, is_access_denied};
use rollcall_model::{Fault, FaultKind};

use super::folder::too_large;
use super::{Failures, Object, Page, Put, spool_fault};
use crate::clock::now_us;

/// A request with a body of a file may take as long on a slow line.
const BODY_TIMEOUT_MS: u64 = 600_000;
/// Names per page of a listing: as many as S3 gives.
const PAGE_OBJECTS_MAX: i32 = 1_000;

/// A prefix of a bucket.
#[derive(Clone, Debug)]
pub(crate) struct Bucket {
    pub(super) client: Client,
    pub(super) bucket: String,
    prefix: String,
    region: String,
    pub(super) part_bytes: u64,
    clock: ServerClock,
}

impl Bucket {
    pub(super) async fn open(
        aws: &AwsConfig,
        bucket: &str,
        prefix: &str,
        part_bytes: u64,
    ) -> Result<Self, Fault> {
        let shared = Box::pin(rollcall_aws::load(aws)).await?;
        let clock = ServerClock::default();
        let settings = aws_sdk_s3::config::Builder::from(&shared)
            .force_path_style(aws.endpoint.is_some())
            .interceptor(clock.clone());
        Ok(Self {
            client: Client::from_conf(settings.build()),
            bucket: bucket.to_owned(),
            prefix: if prefix.is_empty() { String::new() } else { format!("{prefix}/") },
            region: aws.region.clone(),
            part_bytes,
            clock,
        })
    }

    pub(super) fn key(&self, key: &str) -> String {
        format!("{}{key}", self.prefix)
    }

    /// A key of the bucket as a key of the lake.
    pub(super) fn relative<'a>(&self, key: &'a str) -> Option<&'a str> {
        key.strip_prefix(&self.prefix)
    }

    pub(super) fn name(&self, key: &str) -> String {
        format!("s3://{}/{}", self.bucket, self.key(key))
    }

    pub(super) fn ahead_us(&self) -> Option<i64> {
        self.clock.offset_us()
    }

    /// What an error means: which right on what, which setting.
    pub(super) fn refused<E>(&self, doing: &str, action: &str, key: &str, error: SdkError<E>) -> Fault
    where
        E: ProvideErrorMetadata + std::error::Error + Send + Sync + 'static,
    {
        let of_bucket = matches!(action, "s3:ListBucket" | "s3:ListBucketMultipartUploads");
        let resource = if of_bucket {
            format!("arn:aws:s3:::{}", self.bucket)
        } else {
            format!("arn:aws:s3:::{}/{}*", self.bucket, self.prefix)
        };
        let said = code(&error).map(str::to_owned);
        let status = error.raw_response().map(|response| response.status().as_u16());
        let mut fault = fault(&format!("{doing} {}", self.name(key)), action, &resource, error);
        match said.as_deref() {
            Some("NoSuchBucket") => {
                let (bucket, region) = (&self.bucket, &self.region);
                fault.repair = Some(format!(
                    "make it: aws s3 mb s3://{bucket} --region {region}; or correct the lake's bucket"
                ));
            }
            Some("PermanentRedirect" | "AuthorizationHeaderMalformed") => {
                fault.kind = FaultKind::Config;
                fault.repair = Some(format!("set the region of the bucket {} for the lake", self.bucket));
            }
            Some("NotImplemented") => {
                fault.kind = FaultKind::Config;
                fault.repair = Some(
                    "take a store that knows conditional writes (If-None-Match) and multipart uploads"
                        .to_owned(),
                );
            }
            // An answer to HEAD has no body, so no code.
            None if status == Some(403) => {
                fault.kind = FaultKind::Config;
                fault.repair = Some(format!("allow {action} on {resource}"));
            }
            denied if is_access_denied(denied) => fault.kind = FaultKind::Config,
            Some(_) | None => {}
        }
        fault
    }

    pub(super) async fn put_if_absent(&self, key: &str, bytes: Bytes) -> Result<Put, Fault> {
        self.put(key, ByteStream::from(bytes)).await
    }

    pub(super) async fn upload_file(&self, key: &str, file: &Path) -> Result<Put, Fault> {
        let about = tokio::fs::metadata(file).await.map_err(|e| spool_fault(file, e))?;
        if about.len() > self.part_bytes() {
            return self.upload_parts(key, file, about.len()).await;
        }
        let body = ByteStream::from_path(file).await.map_err(|e| {
            Fault::retry(format!("can't read the spool file {}", file.display())).from_source(e)
        })?;
        self.put(key, body).await
    }

    async fn put(&self, key: &str, body: ByteStream) -> Result<Put, Fault> {
        let request = self
            .client
            .put_object()
            .bucket(&self.bucket)
            .key(self.key(key))
            .if_none_match("*")
            .body(body)
            .customize()
            .config_override(patient());
        match Box::pin(request.send()).await {
            Ok(_) => Ok(Put::Written),
            Err(error) => self.taken("writing", key, error),
        }
    }

    /// What an answer to a conditional write says, if it is an error.
    pub(super) fn taken<E>(&self, doing: &str, key: &str, error: SdkError<E>) -> Result<Put, Fault>
    where
        E: ProvideErrorMetadata + std::error::Error + Send + Sync + 'static,
    {
        match code(&error) {
            Some("PreconditionFailed") => Ok(Put::AlreadyThere),
            // Another write of this name is under way: one of the two will be there when it is asked again.
            Some("ConditionalRequestConflict") => {
                Err(Fault::retry(format!("{doing} {}: somebody else writes it as well", self.name(key))))
            }
            Some(_) | None => Err(self.refused(doing, "s3:PutObject", key, error)),
        }
    }

    pub(super) async fn get(&self, key: &str, bytes_max: u64) -> Result<Option<Bytes>, Fault> {
        let Some(mut body) = self.body(key, 0).await? else { return Ok(None) };
        let mut bytes = Vec::new();
        while let Some(part) = self.next(&mut body, key).await? {
            bytes.extend_from_slice(&part);
            if bytes.len() as u64 > bytes_max {
                return Err(too_large(&self.name(key), bytes_max));
            }
        }
        Ok(Some(bytes.into()))
    }

    /// Goes on where it broke: an object is never written twice, so it is the same.
    pub(super) async fn download(&self, key: &str, to: &Path) -> Result<Option<u64>, Fault> {
        let mut file = File::create(to).map_err(|e| spool_fault(to, e))?;
        let mut length = 0;
        let mut failures = Failures::default();
        loop {
            let before = length;
            match self.download_on(key, to, &mut file, &mut length).await {
                Ok(true) => return Ok(Some(length)),
                Ok(false) => return Ok(None),
                Err(fault) => {
                    if length > before {
                        failures = Failures::default();
                    }
                    failures.pause(fault).await?;
                }
            }
        }
    }

    async fn download_on(
        &self,
        key: &str,
        to: &Path,
        file: &mut File,
        length: &mut u64,
    ) -> Result<bool, Fault> {
        let Some(mut body) = self.body(key, *length).await? else { return Ok(false) };
        while let Some(part) = self.next(&mut body, key).await? {
            // A page of memory to the kernel: shorter than a switch to another thread.
            file.write_all(&part).map_err(|e| spool_fault(to, e))?;
            *length += part.len() as u64;
        }
        Ok(true)
    }

    async fn next(&self, body: &mut ByteStream, key: &str) -> Result<Option<Bytes>, Fault> {
        body.try_next().await.map_err(|e| {
            Fault::retry(format!("reading {}: the download broke", self.name(key))).from_source(e)
        })
    }

    async fn body(&self, key: &str, from: u64) -> Result<Option<ByteStream>, Fault> {
        let range = (from > 0).then(|| format!("bytes={from}-"));
        let request = self.client.get_object().bucket(&self.bucket).key(self.key(key)).set_range(range);
        match Box::pin(request.send()).await {
            Ok(answer) => Ok(Some(answer.body)),
            Err(error) => match code(&error) {
                Some("NoSuchKey" | "NotFound") => Ok(None),
                // It broke after the last byte.
                Some("InvalidRange") if from > 0 => Ok(Some(ByteStream::default())),
                Some(_) | None => Err(self.refused("reading", "s3:GetObject", key, error)),
            },
        }
    }

    pub(super) async fn head(&self, key: &str) -> Result<Option<Object>, Fault> {
        let request = self.client.head_object().bucket(&self.bucket).key(self.key(key));
        match Box::pin(request.send()).await {
            Ok(answer) => Ok(Some(Object {
                key: key.to_owned(),
                bytes: size(answer.content_length),
                modified_us: time_us(answer.last_modified.as_ref()),
            })),
            Err(error) if error.as_service_error().is_some_and(|e| e.is_not_found()) => Ok(None),
            Err(error) => Err(self.refused("looking at", "s3:GetObject", key, error)),
        }
    }

    pub(super) async fn list(&self, prefix: &str, after: Option<&str>) -> Result<Page, Fault> {
        let request = self
            .client
            .list_objects_v2()
            .bucket(&self.bucket)
            .prefix(self.key(prefix))
            .max_keys(PAGE_OBJECTS_MAX)
            .set_start_after(after.map(|after| self.key(after)));
        let answer = Box::pin(request.send())
            .await
            .map_err(|error| self.refused("listing", "s3:ListBucket", prefix, error))?;
        let keys = answer.contents().iter().filter_map(|object| Some((object, object.key()?)));
        let last = keys.clone().next_back().and_then(|(_, key)| self.relative(key));
        let next = last.filter(|_| answer.is_truncated == Some(true)).map(str::to_owned);
        let objects = keys
            .filter_map(|(object, key)| {
                Some(Object {
                    key: self.relative(key)?.to_owned(),
                    bytes: size(object.size),
                    modified_us: time_us(object.last_modified.as_ref()),
                })
            })
            .collect();
        Ok(Page { objects, next })
    }

    pub(super) async fn delete(&self, key: &str) -> Result<(), Fault> {
        let request = self.client.delete_object().bucket(&self.bucket).key(self.key(key));
        match Box::pin(request.send()).await {
            Ok(_) => Ok(()),
            Err(error) if code(&error) == Some("NoSuchKey") => Ok(()),
            Err(error) => Err(self.refused("removing", "s3:DeleteObject", key, error)),
        }
    }

    pub(super) async fn abort_uploads(&self, prefix: &str, age_us: i64) -> Result<u64, Fault> {
        let begun = self.uploads(prefix).await?;
        let before_us = now_us().saturating_add(self.ahead_us().unwrap_or_default()).saturating_sub(age_us);
        let mut aborted = 0;
        for upload in begun.iter().filter(|upload| upload.initiated_us <= before_us) {
            self.abort(&upload.key, &upload.id).await?;
            aborted += 1;
        }
        Ok(aborted)
    }
}

/// For requests that carry a file.
pub(super) fn patient() -> aws_sdk_s3::config::Builder {
    let timeout = Duration::from_millis(BODY_TIMEOUT_MS);
    let timeouts = TimeoutConfig::builder().read_timeout(timeout).operation_timeout(timeout).build();
    aws_sdk_s3::config::Builder::new().timeout_config(timeouts)
}

fn size(bytes: Option<i64>) -> u64 {
    bytes.and_then(|bytes| u64::try_from(bytes).ok()).unwrap_or_default()
}

pub(super) fn time_us(at: Option<&DateTime>) -> i64 {
    at.and_then(|at| i64::try_from(at.as_nanos() / 1_000).ok()).unwrap_or_default()
}
