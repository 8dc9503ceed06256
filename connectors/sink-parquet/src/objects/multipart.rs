//! A large file in parts: nothing is there until the last request, which gives it its name.
//!
//! ```text
//! abort what a kill left of this key ─▶ create ─▶ part 1 … n ─▶ complete, if the name is free
//!                                                  └─ a failure ─▶ abort
//! ```
//!
//! Parts that are never completed cost money and show in no listing of objects; so they are ended here, by whoever makes
//! the same object again, or when they are an hour old ([`super::Objects::abort_uploads`]). Two that upload the same
//! object at once may end each other's upload: both have the same content, and each looks whether it is there before it
//! begins anew.

use std::path::Path;

use aws_sdk_s3::primitives::{ByteStream, Length};
use aws_sdk_s3::types::{CompletedMultipartUpload, CompletedPart};
use rollcall_aws::code;
use rollcall_model::Fault;

use super::Put;
use super::bucket::{Bucket, patient, time_us};

/// The least that S3 takes as a part that isn't the last.
const PART_BYTES_MIN: u64 = 5 << 20;
/// The most parts that S3 takes.
const PARTS_MAX: u64 = 10_000;

/// An upload that was begun.
#[derive(Debug)]
pub(super) struct Upload {
    /// Its object's key.
    pub(super) key: String,
    pub(super) id: String,
    pub(super) initiated_us: i64,
}

impl Bucket {
    pub(super) fn part_bytes(&self) -> u64 {
        self.part_bytes.max(PART_BYTES_MIN)
    }

    pub(super) async fn upload_parts(&self, key: &str, file: &Path, bytes: u64) -> Result<Put, Fault> {
        if self.head(key).await?.is_some() {
            return Ok(Put::AlreadyThere);
        }
        for upload in self.uploads(key).await?.into_iter().filter(|upload| upload.key == key) {
            self.abort(key, &upload.id).await?;
        }
        let request = self.client.create_multipart_upload().bucket(&self.bucket).key(self.key(key));
        let created = Box::pin(request.send())
            .await
            .map_err(|error| self.refused("uploading", "s3:PutObject", key, error))?;
        let id = created.upload_id.ok_or_else(|| {
            Fault::retry(format!("uploading {}: the store began an upload without an id", self.name(key)))
        })?;
        let done = match self.send_parts(key, &id, file, bytes).await {
            Ok(parts) => self.complete(key, &id, parts, bytes).await,
            Err(fault) => Err(fault),
        };
        if !matches!(done, Ok(Put::Written))
            && let Err(fault) = self.abort(key, &id).await
        {
            tracing::debug!("an upload stays until it is an hour old: {}", fault.message());
        }
        done
    }

    pub(super) async fn send_parts(
        &self,
        key: &str,
        id: &str,
        file: &Path,
        bytes: u64,
    ) -> Result<Vec<CompletedPart>, Fault> {
        let part_bytes = self.part_bytes().max(bytes.div_ceil(PARTS_MAX));
        let mut parts = Vec::new();
        let mut from = 0;
        while from < bytes {
            let length = part_bytes.min(bytes - from);
            let number = i32::try_from(parts.len() + 1).unwrap_or(i32::MAX);
            let etag = super::patiently(|| self.send_part(key, id, number, (file, from, length))).await?;
            parts.push(CompletedPart::builder().part_number(number).set_e_tag(etag).build());
            from += length;
        }
        Ok(parts)
    }

    async fn send_part(
        &self,
        key: &str,
        id: &str,
        number: i32,
        (file, from, length): (&Path, u64, u64),
    ) -> Result<Option<String>, Fault> {
        let body =
            ByteStream::read_from().path(file).offset(from).length(Length::Exact(length)).build().await;
        let body = body.map_err(|e| {
            Fault::retry(format!("can't read the spool file {}", file.display())).from_source(e)
        })?;
        let request = self
            .client
            .upload_part()
            .bucket(&self.bucket)
            .key(self.key(key))
            .upload_id(id)
            .part_number(number)
            .body(body)
            .customize()
            .config_override(patient());
        let sent = Box::pin(request.send()).await;
        let sent = sent.map_err(|error| match code(&error) {
            Some("NoSuchUpload") => self.ended(key),
            Some(_) | None => self.refused("uploading", "s3:PutObject", key, error),
        })?;
        Ok(sent.e_tag)
    }

    fn ended(&self, key: &str) -> Fault {
        Fault::retry(format!("uploading {}: somebody ended the upload", self.name(key)))
    }

    pub(super) async fn complete(
        &self,
        key: &str,
        id: &str,
        parts: Vec<CompletedPart>,
        bytes: u64,
    ) -> Result<Put, Fault> {
        let parts = CompletedMultipartUpload::builder().set_parts(Some(parts)).build();
        super::patiently(|| self.complete_once(key, id, parts.clone(), bytes)).await
    }

    async fn complete_once(
        &self,
        key: &str,
        id: &str,
        parts: CompletedMultipartUpload,
        bytes: u64,
    ) -> Result<Put, Fault> {
        let request = self
            .client
            .complete_multipart_upload()
            .bucket(&self.bucket)
            .key(self.key(key))
            .upload_id(id)
            .if_none_match("*")
            .multipart_upload(parts)
            .customize()
            .config_override(patient());
        match Box::pin(request.send()).await {
            Ok(_) => Ok(Put::Written),
            // The answer to an earlier try was lost, or another ended it.
            Err(error) if code(&error) == Some("NoSuchUpload") => match self.head(key).await? {
                Some(object) if object.bytes == bytes => Ok(Put::Written),
                Some(_) => Ok(Put::AlreadyThere),
                None => Err(self.ended(key)),
            },
            Err(error) => self.taken("uploading", key, error),
        }
    }

    /// Uploads that were begun and neither completed nor aborted.
    pub(super) async fn uploads(&self, prefix: &str) -> Result<Vec<Upload>, Fault> {
        let mut begun = Vec::new();
        let (mut key_marker, mut id_marker) = (None, None);
        loop {
            let request = self
                .client
                .list_multipart_uploads()
                .bucket(&self.bucket)
                .prefix(self.key(prefix))
                .set_key_marker(key_marker)
                .set_upload_id_marker(id_marker);
            let answer = Box::pin(request.send()).await.map_err(|error| {
                self.refused("listing uploads of", "s3:ListBucketMultipartUploads", prefix, error)
            })?;
            begun.extend(answer.uploads().iter().filter_map(|upload| {
                Some(Upload {
                    key: self.relative(upload.key()?)?.to_owned(),
                    id: upload.upload_id()?.to_owned(),
                    initiated_us: time_us(upload.initiated()),
                })
            }));
            if answer.is_truncated != Some(true) || answer.next_key_marker.is_none() {
                return Ok(begun);
            }
            (key_marker, id_marker) = (answer.next_key_marker, answer.next_upload_id_marker);
        }
    }

    /// Ends an upload; that there is none is fine.
    pub(super) async fn abort(&self, key: &str, id: &str) -> Result<(), Fault> {
        let request =
            self.client.abort_multipart_upload().bucket(&self.bucket).key(self.key(key)).upload_id(id);
        match Box::pin(request.send()).await {
            Ok(_) => Ok(()),
            Err(error) if code(&error) == Some("NoSuchUpload") => Ok(()),
            Err(error) => Err(self.refused("ending the upload of", "s3:AbortMultipartUpload", key, error)),
        }
    }
}
