//! Files of an export in S3.
//!
//! A data file goes to a spool file, nameless and gone with its handle, as it is downloaded: its checksum is known
//! before it is read, and unzipping never holds a connection open. A download that breaks goes on where it broke, of
//! the same object: an object that changes meanwhile is refused.

use std::fs::File;
use std::io::{Seek as _, Write as _};
use std::path::PathBuf;
use std::time::Duration;

use aws_sdk_s3::Client;
use aws_sdk_s3::error::SdkError;
use aws_sdk_s3::operation::get_object::{GetObjectError, GetObjectOutput};
use aws_sdk_s3::primitives::ByteStream;
use bytes::Bytes;
use md5::{Digest as _, Md5};
use rollcall_aws::{AwsConfig, Backoff, code, fault, is_access_denied};
use rollcall_model::{Fault, FaultKind};

use crate::manifest::{Beside, Checksum, DataFile};
use crate::place::{MANIFEST_BYTES_MAX, missing, same_sum};

/// Failures in a row after which the backfill is told.
const FAILURES_MAX: u32 = 6;
const PAUSE_FIRST_MS: u64 = 200;
const PAUSE_MAX_MS: u64 = 5_000;

/// A prefix that holds an export.
#[derive(Clone, Debug)]
pub(crate) struct Bucket {
    client: Client,
    bucket: String,
    prefix: String,
    spool: PathBuf,
}

/// What an answer with an object is asked for.
struct Wanted<'a> {
    key: &'a str,
    name: &'a str,
    from: u64,
    etag: Option<&'a str>,
}

impl Bucket {
    pub(crate) async fn new(
        aws: &AwsConfig,
        bucket: String,
        prefix: String,
        spool: PathBuf,
    ) -> Result<Self, Fault> {
        let shared = rollcall_aws::load(aws).await?;
        let settings = aws_sdk_s3::config::Builder::from(&shared).force_path_style(aws.endpoint.is_some());
        Ok(Self { client: Client::from_conf(settings.build()), bucket, prefix, spool })
    }

    fn key(&self, file: &Beside) -> String {
        match file {
            Beside::Within(rest) => format!("{}/{rest}", self.prefix),
            Beside::Above(rest) => match self.prefix.rsplit_once('/') {
                Some((above, _)) => format!("{above}/{rest}"),
                None => rest.clone(),
            },
        }
    }

    pub(crate) fn name(&self, file: &Beside) -> String {
        format!("s3://{}/{}", self.bucket, self.key(file))
    }

    pub(crate) async fn small(&self, file: &Beside) -> Result<Option<Vec<u8>>, Fault> {
        let (key, name) = (self.key(file), self.name(file));
        let mut failures = Failures::new();
        loop {
            match self.small_once(&key, &name).await {
                Ok(read) => return Ok(read),
                Err(fault) => failures.pause(fault).await?,
            }
        }
    }

    async fn small_once(&self, key: &str, name: &str) -> Result<Option<Vec<u8>>, Fault> {
        let wanted = Wanted { key, name, from: 0, etag: None };
        let Some(answer) = self.get(&wanted).await? else { return Ok(None) };
        let mut body = answer.body;
        let mut bytes = Vec::new();
        while let Some(part) = next(&mut body, name).await? {
            bytes.extend_from_slice(&part);
            if bytes.len() as u64 > MANIFEST_BYTES_MAX {
                break;
            }
        }
        Ok(Some(bytes))
    }

    pub(crate) async fn checked(&self, file: &DataFile) -> Result<File, Fault> {
        let (key, name) = (self.key(&file.place), self.name(&file.place));
        let mut copy = Copy::new(&self.spool)?;
        let mut failures = Failures::new();
        loop {
            let before = copy.length;
            match self.download(&key, &name, &mut copy).await {
                Ok(()) => break,
                Err(fault) => {
                    if copy.length > before {
                        failures = Failures::new();
                    }
                    failures.pause(fault).await?;
                }
            }
        }
        same_sum(&name, &file.checksum, &Checksum::from(copy.sum.finalize()))?;
        copy.file.rewind().map_err(|e| full(&self.spool, e))?;
        Ok(copy.file)
    }

    /// Brings what is still missing of an object.
    async fn download(&self, key: &str, name: &str, copy: &mut Copy) -> Result<(), Fault> {
        let etag = copy.etag.clone();
        let wanted = Wanted { key, name, from: copy.length, etag: etag.as_deref() };
        let Some(answer) = self.get(&wanted).await? else { return Err(missing(name)) };
        copy.etag = answer.e_tag.filter(|etag| !etag.is_empty()).or(copy.etag.take());
        let mut body = answer.body;
        while let Some(part) = next(&mut body, name).await? {
            // A page of memory to the kernel: shorter than a switch to another thread.
            copy.file.write_all(&part).map_err(|e| full(&self.spool, e))?;
            copy.sum.update(&part);
            copy.length += part.len() as u64;
        }
        Ok(())
    }

    /// Asks for an object; `None` where there is none.
    async fn get(&self, wanted: &Wanted<'_>) -> Result<Option<GetObjectOutput>, Fault> {
        let range = (wanted.from > 0).then(|| format!("bytes={}-", wanted.from));
        let asked = self
            .client
            .get_object()
            .bucket(&self.bucket)
            .key(wanted.key)
            .set_range(range)
            .set_if_match(wanted.etag.map(str::to_owned));
        match Box::pin(asked.send()).await {
            Ok(answer) => Ok(Some(answer)),
            Err(error) => match code(&error) {
                Some("NoSuchKey" | "NotFound") => Ok(None),
                // It broke after the last byte.
                Some("InvalidRange") if wanted.from > 0 => Ok(Some(GetObjectOutput::builder().build())),
                Some("PreconditionFailed") => {
                    Err(Fault::refused(format!("{} changed while it was read", wanted.name))
                        .repair("start the backfill again when nothing writes to the export"))
                }
                said => Err(self.refused(wanted.name, said.map(str::to_owned).as_deref(), error)),
            },
        }
    }

    fn refused(&self, name: &str, code: Option<&str>, error: SdkError<GetObjectError>) -> Fault {
        let resource = format!("arn:aws:s3:::{}/{}/*", self.bucket, self.prefix);
        let mut fault = fault(&format!("reading {name}"), "s3:GetObject", &resource, error);
        if is_access_denied(code) {
            // Without the right to list, S3 says the same of what is not there.
            let bucket = &self.bucket;
            fault.what.push_str(
                "; S3 says the same of an object that isn't there to those who may not list the bucket",
            );
            fault.repair = Some(format!(
                "allow s3:GetObject on {resource} and s3:ListBucket on arn:aws:s3:::{bucket}, or correct the location"
            ));
        }
        if code == Some("PermanentRedirect") || code == Some("AuthorizationHeaderMalformed") {
            fault.kind = FaultKind::Config;
            fault.repair = Some(format!("set the region of the bucket {} for the export", self.bucket));
        }
        fault
    }
}

/// A download as far as it came.
struct Copy {
    file: File,
    sum: Md5,
    length: u64,
    etag: Option<String>,
}

impl Copy {
    fn new(spool: &PathBuf) -> Result<Self, Fault> {
        let file = tempfile::tempfile_in(spool).map_err(|e| full(spool, e))?;
        Ok(Self { file, sum: Md5::new(), length: 0, etag: None })
    }
}

async fn next(body: &mut ByteStream, name: &str) -> Result<Option<Bytes>, Fault> {
    body.try_next()
        .await
        .map_err(|e| Fault::retry(format!("reading {name}: the download broke")).from_source(e))
}

fn full(spool: &std::path::Path, error: std::io::Error) -> Fault {
    Fault::retry(format!("can't write to the spool folder {}", spool.display()))
        .repair(
            "make room there or name another folder; one file of the export at a time and reader must fit",
        )
        .from_source(error)
}

/// How often it went wrong without any progress.
struct Failures(Backoff);

impl Failures {
    fn new() -> Self {
        Self(Backoff::new(PAUSE_FIRST_MS, PAUSE_MAX_MS))
    }

    /// Waits, if asking again can help and was not tried too often.
    async fn pause(&mut self, fault: Fault) -> Result<(), Fault> {
        if fault.kind != FaultKind::Retry || self.0.failures() >= FAILURES_MAX {
            return Err(fault);
        }
        let pause_ms = self.0.next_ms(rand::random());
        tracing::debug!(pause_ms, "{}", fault.message());
        tokio::time::sleep(Duration::from_millis(pause_ms)).await;
        Ok(())
    }
}
