//! A stream in; all its shards out: every page of DescribeStream, in whatever order and however often they say a shard.

use std::time::Duration;

use aws_sdk_dynamodbstreams::types::StreamStatus;
use rollcall_aws::{Backoff, code, fault, is_not_found};
use rollcall_model::{Fault, FaultKind};
use tokio::time::{Instant, sleep, sleep_until};

use crate::begin::stream_resource;
use crate::clients::Clients;
use crate::config::DynamoSourceConfig;
use crate::listing::Listing;

/// DescribeStream takes so many calls in a second, of all readers together.
const CALLS_PER_S: u64 = 10;
/// What fails more often in a row is given up.
const TRIES_MAX: u32 = 12;
const PAUSE_MS: u64 = 100;
const PAUSE_MAX_MS: u64 = 5_000;
/// At 100 shards a page, far beyond what a stream can hold; a listing that goes on is broken.
const PAGES_MAX: usize = 10_000;

/// What a stream lists.
#[derive(Debug)]
pub(crate) struct Listed {
    pub(crate) listing: Listing,
    pub(crate) status: Status,
}

/// Whether a stream goes on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Status {
    Open,
    /// Nothing is written to it any more; what it holds can be read until it is trimmed.
    Disabled,
    /// There is no such stream.
    Gone,
}

/// Lists the shards of one stream, within its share of the calls.
#[derive(Clone, Debug)]
pub(crate) struct Lister {
    clients: Clients,
    stream: String,
    resource: String,
    spacing: Duration,
    next: Instant,
}

impl Lister {
    pub(crate) fn new(clients: &Clients, config: &DynamoSourceConfig, stream: String) -> Self {
        Self {
            clients: clients.clone(),
            stream,
            resource: stream_resource(config),
            spacing: Duration::from_millis(1_000 * u64::from(config.readers.max(1)) / CALLS_PER_S),
            next: Instant::now(),
        }
    }

    pub(crate) async fn list(&mut self) -> Result<Listed, Fault> {
        let mut listing = Listing::default();
        let mut status = Status::Open;
        let mut from: Option<String> = None;
        for _ in 0..PAGES_MAX {
            let Some(page) = self.page(from.as_deref()).await? else {
                return Ok(Listed { listing, status: Status::Gone });
            };
            if matches!(page.stream_status, Some(StreamStatus::Disabled | StreamStatus::Disabling)) {
                status = Status::Disabled;
            }
            for shard in page.shards.unwrap_or_default() {
                let closed =
                    shard.sequence_number_range.is_some_and(|range| range.ending_sequence_number.is_some());
                if let Some(id) = shard.shard_id {
                    listing.add(id, shard.parent_shard_id, closed);
                }
            }
            match page.last_evaluated_shard_id {
                Some(last) if from.as_ref() != Some(&last) => from = Some(last),
                // A page that leads to itself would go on for ever.
                Some(last) => {
                    return Err(Fault::retry(format!(
                        "listing the shards of {}: the page after {last} leads to itself",
                        self.stream
                    )));
                }
                None => return Ok(Listed { listing, status }),
            }
        }
        Err(Fault::refused(format!("{} lists more than {PAGES_MAX} pages of shards", self.stream)))
    }

    /// `None` when there is no such stream.
    async fn page(
        &mut self,
        from: Option<&str>,
    ) -> Result<Option<aws_sdk_dynamodbstreams::types::StreamDescription>, Fault> {
        let mut backoff = Backoff::new(PAUSE_MS, PAUSE_MAX_MS);
        loop {
            sleep_until(self.next).await;
            self.next = Instant::now() + self.spacing;
            let call = self.clients.streams.describe_stream().stream_arn(&self.stream);
            let answer = call.set_exclusive_start_shard_id(from.map(str::to_owned)).send().await;
            let fault = match answer {
                Ok(output) => match output.stream_description {
                    Some(page) => return Ok(Some(page)),
                    None => Fault::retry(format!("listing the shards of {}: an empty answer", self.stream)),
                },
                Err(error) if is_not_found(code(&error)) => return Ok(None),
                Err(error) => {
                    let doing = format!("listing the shards of {}", self.stream);
                    fault(&doing, "dynamodb:DescribeStream", &self.resource, error)
                }
            };
            if fault.kind != FaultKind::Retry || backoff.failures() >= TRIES_MAX {
                return Err(fault);
            }
            metrics::counter!("rollcall_dynamodb_retries_total", "call" => "DescribeStream").increment(1);
            sleep(Duration::from_millis(backoff.next_ms(rand::random()))).await;
        }
    }
}
