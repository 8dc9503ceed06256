//! One shard in, from where its progress stands; its records in order, and at last its end, out.
//!
//! ```text
//!   progress ─▶ GetShardIterator ─▶ GetRecords ─▶ outbox        one call in flight, within the shard's budget
//!                    ▲                  │ next iterator: again, at once when there was something, lazily when not
//!                    └── expired ───────┤
//!                        or unsure      └ none: the end
//! ```
//!
//! An iterator is a hint. What counts is the last record that was passed on: after any failure the iterator is asked for
//! anew from there, so a record comes neither twice nor not at all.
//!
//! An empty answer says that there is nothing only if it was asked at the tip; DynamoDB also gives empty answers on the way
//! to where a shard's records are. Some in a row, from one iterator, count as the tip; from there on each does, until an
//! answer is full or a call fails.

use std::sync::Arc;

use aws_sdk_dynamodbstreams::operation::get_records::GetRecordsOutput;
use aws_sdk_dynamodbstreams::types::ShardIteratorType;
use rollcall_aws::{Backoff, ServerClock, code, fault, is_not_found, is_throttling};
use rollcall_model::shards::{ShardId, ShardProgress, Stream, StreamStart};
use rollcall_model::{Fault, FaultKind, Lane, Point, Sequence};
use tokio::sync::Semaphore;
use tokio::time::{Duration, Instant, sleep, sleep_until};

use crate::begin::stream_resource;
use crate::clients::Clients;
use crate::config::{DynamoSourceConfig, SETTLE_US};
use crate::item::change;
use crate::lag::Lags;
use crate::loss::refusal;
use crate::queue::{Outbox, Parcel};
use crate::tree::{Cause, Loss, RETENTION_US};

/// Records in an answer, at most.
const RECORDS_MAX: u16 = 1_000;
/// So many empty answers in a row from one iterator count as the tip.
const EMPTY_ANSWERS_AT_TIP: u32 = 5;
/// What fails more often in a row is given up; throttling never is.
const TRIES_MAX: u32 = 12;
const PAUSE_MS: u64 = 100;
const PAUSE_MAX_MS: u64 = 5_000;
/// What a record takes in memory beside its image, about.
const RECORD_BYTES: usize = 256;

/// What all shards of a reader share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) config: DynamoSourceConfig,
    pub(crate) stream: Stream,
    pub(crate) clients: Clients,
    pub(crate) outbox: Outbox,
    /// As many calls at once, the shards in turn.
    pub(crate) in_flight: Semaphore,
    pub(crate) lags: Lags,
}

impl Shared {
    pub(crate) fn clock(&self) -> &ServerClock {
        &self.clients.clock
    }

    /// Records written before this are not wanted. A later epoch's time is not when the stream began: what a shard still
    /// holds from before it is read.
    fn wanted_from_us(&self) -> i64 {
        match self.stream.start {
            StreamStart::Latest if self.stream.epoch > 1 => i64::MIN,
            StreamStart::Latest => self.stream.began_us.saturating_sub(self.config.slack_us()),
            StreamStart::TrimHorizon => i64::MIN,
        }
    }
}

/// Why reading a shard stopped.
#[derive(Debug)]
pub(crate) enum Stop {
    /// Its end is in the outbox.
    Finished,
    /// There is no such shard any more.
    Missing,
    /// The source has ended, or told so.
    Closed,
}

/// What a call came to, where it was no answer.
enum Failed {
    /// Ask for an iterator again.
    Iterator,
    /// What follows the last record is not there.
    Trimmed,
    /// The shard is not there.
    Missing,
    /// Fewer calls are asked for; it may take as long as it takes.
    Throttled,
    Fault(Fault),
}

/// Reads one shard.
#[derive(Debug)]
pub(crate) struct ShardReader {
    shared: Arc<Shared>,
    shard: ShardId,
    progress: ShardProgress,
    lane: Lane,
    /// From the oldest record on: what comes up to `progress.after` is in the log already.
    from_oldest: bool,
    empty_answers: u32,
    at_tip: bool,
    /// Everything before this is read, by the records' own times.
    read_us: i64,
    /// Everything before these was read, by the times of the last two answers at the tip.
    tips_us: [i64; 2],
    idle_ms: u64,
    next_call: Instant,
    said_at: Instant,
}

impl ShardReader {
    pub(crate) fn new(shared: Arc<Shared>, shard: ShardId, progress: ShardProgress) -> Self {
        let lane =
            Lane { source: shared.config.name.clone(), stream: shard.clone(), epoch: shared.stream.epoch };
        Self {
            from_oldest: progress.after.is_none(),
            idle_ms: shared.config.idle_poll_ms,
            shared,
            shard,
            lane,
            empty_answers: 0,
            at_tip: false,
            read_us: progress.through_us,
            tips_us: [progress.through_us; 2],
            progress,
            next_call: Instant::now(),
            said_at: Instant::now(),
        }
    }

    /// Reads to the end of the shard.
    pub(crate) async fn run(mut self) -> Stop {
        let mut backoff = Backoff::new(PAUSE_MS, PAUSE_MAX_MS);
        let mut iterator: Option<String> = None;
        loop {
            let asked = match iterator.take() {
                Some(iterator) => Box::pin(self.records(iterator)).await,
                None => match Box::pin(self.iterator()).await {
                    Ok(new) => {
                        iterator = Some(new);
                        continue;
                    }
                    Err(failed) => Err(failed),
                },
            };
            let failed = match asked {
                Ok(Some(next)) => {
                    backoff.reset();
                    iterator = Some(next);
                    continue;
                }
                Ok(None) => {
                    self.shared.lags.remove(&self.shard);
                    return Stop::Finished;
                }
                Err(failed) => failed,
            };
            self.empty_answers = 0;
            self.at_tip = false;
            match failed {
                Failed::Iterator | Failed::Throttled => {}
                Failed::Missing => return Stop::Missing,
                Failed::Trimmed => {
                    if let Err(fault) = self.trimmed() {
                        self.shared.outbox.fail(fault).await;
                        return Stop::Closed;
                    }
                }
                Failed::Fault(fault) => {
                    if fault.kind != FaultKind::Retry || backoff.failures() >= TRIES_MAX {
                        self.shared.outbox.fail(fault).await;
                        return Stop::Closed;
                    }
                }
            }
            sleep(Duration::from_millis(backoff.next_ms(rand::random()))).await;
        }
    }

    /// What follows the last record is trimmed, or the oldest was while it was asked for. Nothing is lost if all that was
    /// written in the last day, and more, is still unread by right: then it goes on from the oldest.
    fn trimmed(&mut self) -> Result<(), Fault> {
        let now_us = self.shared.clock().now_us();
        let kept_us = now_us - RETENTION_US;
        if self.progress.through_us >= kept_us {
            self.from_oldest = true;
            return Ok(());
        }
        let cause = if self.progress.after.is_some() { Cause::Trimmed } else { Cause::Unread };
        let loss = Loss {
            shard: self.shard.clone(),
            cause,
            from_us: self.progress.through_us,
            to_us: kept_us,
            after: self.progress.after.clone(),
        };
        Err(refusal(&self.shared.config, &self.shared.stream, &[loss], now_us))
    }

    /// Waits for the shard's budget.
    async fn budget(&mut self) {
        sleep_until(self.next_call).await;
        let calls = u64::from(self.shared.config.calls_per_shard_per_s.max(1));
        self.next_call = Instant::now() + Duration::from_micros(1_000_000 / calls);
    }

    async fn iterator(&mut self) -> Result<String, Failed> {
        // A shard that is begun anew after so long may have lost what it held.
        if self.progress.after.is_none()
            && self.progress.through_us < self.shared.clock().now_us() - RETENTION_US
        {
            return Err(Failed::Trimmed);
        }
        if self.progress.after.is_none() {
            self.from_oldest = true;
        }
        let after = self.progress.after.as_ref().filter(|_| !self.from_oldest);
        get_iterator(&self.shared, &self.shard, after).await
    }

    /// One call: its records go to the outbox. `None` is the end.
    async fn records(&mut self, iterator: String) -> Result<Option<String>, Failed> {
        self.budget().await;
        let shared = Arc::clone(&self.shared);
        let turn = shared.in_flight.acquire().await;
        let asked_us = shared.clock().now_us();
        let answer = get_records(&shared, &self.shard, iterator, RECORDS_MAX).await?;
        let GetRecordsOutput { records, next_shard_iterator, .. } = answer;
        let records = records.unwrap_or_default();
        let count = records.len();
        let mut bytes = 0;
        let mut changes = Vec::with_capacity(count);
        let unsaid_us = self.progress.through_us;
        let wanted_from_us = shared.wanted_from_us();
        let mut last: Option<(Sequence, i64)> = None;
        for record in records {
            let size = record.dynamodb.as_ref().and_then(|record| record.size_bytes);
            let change = change(record, &self.lane, shared.config.key, unsaid_us).map_err(Failed::Fault)?;
            let Point::Dynamodb { sequence } = &change.position.point else { continue };
            let known = last.as_ref().map(|(sequence, _)| sequence).or(self.progress.after.as_ref());
            if known.is_some_and(|known| sequence <= known) {
                continue;
            }
            last = Some((sequence.clone(), change.at_us));
            if change.at_us >= wanted_from_us {
                bytes += RECORD_BYTES + size.and_then(|size| usize::try_from(size).ok()).unwrap_or_default();
                changes.push(change);
            }
        }
        let source = shared.config.name.to_string();
        metrics::counter!("rollcall_dynamodb_records_total", "source" => source).increment(count as u64);
        let finished = next_shard_iterator.is_none();
        self.advance(last, count, asked_us, finished);
        self.progress.finished = finished;
        self.say(changes, bytes, finished).await?;
        drop(turn);
        if count > 0 {
            self.idle_ms = shared.config.idle_poll_ms;
        } else if !finished {
            sleep(Duration::from_millis(self.idle_ms)).await;
            self.idle_ms = self.idle_ms.saturating_mul(2).clamp(1, shared.config.idle_poll_max_ms.max(1));
        }
        Ok(next_shard_iterator)
    }

    /// How far an answer brings the shard.
    ///
    /// At the tip that is the time of the call. But a shard that has ended brings its end with the next answer only, and
    /// what is written meanwhile stands in its children, which go on from here: what the last two answers said of it does
    /// not count once it has ended.
    fn advance(&mut self, last: Option<(Sequence, i64)>, count: usize, asked_us: i64, ended: bool) {
        if let Some((sequence, at_us)) = last {
            // Its time is in whole seconds: others of the same second may follow.
            self.read_us = self.read_us.max(at_us - at_us.rem_euclid(1_000_000));
            self.progress.after = Some(sequence);
            self.from_oldest = false;
        }
        if count > 0 {
            self.empty_answers = 0;
            // As much as an answer holds: there is more.
            self.at_tip &= count < usize::from(RECORDS_MAX);
        } else {
            self.empty_answers = self.empty_answers.saturating_add(1);
            self.at_tip |= self.empty_answers >= EMPTY_ANSWERS_AT_TIP;
        }
        let [before_last, last] = self.tips_us;
        if ended {
            self.progress.through_us = self.read_us.max(before_last);
        } else {
            let tip_us = if self.at_tip { asked_us.saturating_sub(SETTLE_US) } else { last };
            self.tips_us = [last, tip_us];
            self.progress.through_us = self.progress.through_us.max(self.read_us).max(tip_us);
        }
        self.shared.lags.set(&self.shard, self.progress.through_us);
    }

    async fn say(
        &mut self,
        changes: Vec<rollcall_model::ItemChange>,
        bytes: usize,
        finished: bool,
    ) -> Result<(), Failed> {
        let now = Instant::now();
        let due = self.said_at + Duration::from_millis(self.shared.config.progress_ms) <= now;
        if changes.is_empty() && !finished && !due {
            return Ok(());
        }
        self.said_at = now;
        let progress = vec![(self.shard.clone(), Some(self.progress.clone()))];
        let put = self.shared.outbox.put(Parcel::new(changes, progress, finished), bytes).await;
        put.map_err(|_| Failed::Fault(Fault::retry("the DynamoDB source has ended")))
    }
}

async fn get_iterator(shared: &Shared, shard: &ShardId, after: Option<&Sequence>) -> Result<String, Failed> {
    let stream = &shared.stream.name;
    let call = shared.clients.streams.get_shard_iterator().stream_arn(stream).shard_id(shard);
    let call = match after {
        None => call.shard_iterator_type(ShardIteratorType::TrimHorizon),
        Some(after) => call
            .shard_iterator_type(ShardIteratorType::AfterSequenceNumber)
            .sequence_number(format!("{:0>21}", after.as_str())),
    };
    match call.send().await {
        Ok(output) => output
            .shard_iterator
            .ok_or_else(|| Failed::Fault(Fault::retry(format!("the shard {shard} gave no iterator")))),
        Err(error) => Err(match code(&error) {
            Some("TrimmedDataAccessException") => Failed::Trimmed,
            code if is_not_found(code) => Failed::Missing,
            _ => failed(shared, shard, "dynamodb:GetShardIterator", "GetShardIterator", error),
        }),
    }
}

async fn get_records(
    shared: &Shared,
    shard: &ShardId,
    iterator: String,
    limit: u16,
) -> Result<GetRecordsOutput, Failed> {
    let call = shared.clients.streams.get_records().shard_iterator(iterator).limit(i32::from(limit));
    match call.send().await {
        Ok(output) => Ok(output),
        Err(error) => Err(match code(&error) {
            Some("ExpiredIteratorException") => Failed::Iterator,
            Some("TrimmedDataAccessException") => Failed::Trimmed,
            code if is_not_found(code) => Failed::Missing,
            _ => failed(shared, shard, "dynamodb:GetRecords", "GetRecords", error),
        }),
    }
}

fn failed<E>(
    shared: &Shared,
    shard: &ShardId,
    action: &str,
    call: &'static str,
    error: aws_sdk_dynamodbstreams::error::SdkError<
        E,
        aws_smithy_runtime_api::client::orchestrator::HttpResponse,
    >,
) -> Failed
where
    E: aws_smithy_types::error::metadata::ProvideErrorMetadata + std::error::Error + Send + Sync + 'static,
{
    let throttled = is_throttling(code(&error));
    let cause = if throttled { "throttled" } else { "failed" };
    let source = shared.config.name.to_string();
    metrics::counter!("rollcall_dynamodb_retries_total", "source" => source, "call" => call, "cause" => cause)
        .increment(1);
    if throttled {
        return Failed::Throttled;
    }
    let doing = format!("reading the shard {shard} of the table {}", shared.config.table);
    Failed::Fault(fault(&doing, action, &stream_resource(&shared.config), error))
}

/// Whether what follows a record is still there; asked where a loss has been accepted.
pub(crate) async fn is_trimmed(shared: &Shared, shard: &ShardId, after: &Sequence) -> Result<bool, Fault> {
    let mut backoff = Backoff::new(PAUSE_MS, PAUSE_MAX_MS);
    loop {
        let asked = match get_iterator(shared, shard, Some(after)).await {
            Ok(iterator) => get_records(shared, shard, iterator, 1).await.map(|_| ()),
            Err(failed) => Err(failed),
        };
        match asked {
            Ok(()) => return Ok(false),
            Err(Failed::Trimmed) => return Ok(true),
            // Whoever reads it will find the same.
            Err(Failed::Missing) => return Ok(false),
            Err(Failed::Iterator | Failed::Throttled) => {}
            Err(Failed::Fault(fault)) if fault.kind == FaultKind::Retry && backoff.failures() < TRIES_MAX => {
            }
            Err(Failed::Fault(fault)) => return Err(fault),
        }
        sleep(Duration::from_millis(backoff.next_ms(rand::random()))).await;
    }
}
