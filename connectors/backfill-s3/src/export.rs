//! An export as a backfill: files ahead on blocking threads, pages in the manifest's order.

use std::collections::VecDeque;
use std::future::pending;

use rollcall_model::shards::{BackfillEstimate, Coverage, Cursor};
use rollcall_model::{Fault, Fut, ItemPage, ItemPages};
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::config::ExportConfig;
use crate::decode::{Batch, Reading, decode};
use crate::line::Form;
use crate::manifest::{self, Beside, DataFile, Kind, Summary};
use crate::place::{Place, blocking};

const SUMMARY: &str = "manifest-summary";

/// Where a backfill goes on.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
struct At {
    /// The export's ARN: a cursor means nothing in another one.
    export: String,
    /// Files done.
    file: usize,
    /// Lines of the next one done.
    line: u64,
}

/// A file that is being read.
#[derive(Debug)]
struct Ahead {
    file: usize,
    batches: mpsc::Receiver<Result<Batch, Fault>>,
    task: JoinHandle<()>,
}

impl Drop for Ahead {
    fn drop(&mut self) {
        // Ends a download; one that decodes finds that nobody listens.
        self.task.abort();
    }
}

/// A running backfill from an export.
#[derive(Debug)]
pub struct Export {
    place: Place,
    kind: Kind,
    files: Vec<DataFile>,
    reading: Reading,
    in_flight_max: usize,
    slack_us: i64,
    /// Behind the last page that was given out.
    at: At,
    /// The files from `at` on, in order.
    ahead: VecDeque<Ahead>,
    ended: bool,
}

impl Export {
    /// Opens an export and goes on at `cursor`.
    ///
    /// # Errors
    /// A [`Fault`] when there is no sound export of this table, or when the cursor is of another one.
    pub async fn open(config: &ExportConfig, cursor: Option<Cursor>) -> Result<Self, Fault> {
        let place = Place::of(config).await?;
        let summary = read_summary(&place, config).await?;
        let files = read_files(&place, &summary).await?;
        let form = match summary.kind {
            Kind::Full { .. } => Form::Full,
            Kind::Incremental { .. } => Form::Incremental,
        };
        let fresh = cursor.is_none();
        let at = match cursor {
            None => At { export: summary.arn, file: 0, line: 0 },
            Some(cursor) => resume(cursor, &summary.arn, &config.location)?,
        };
        Ok(Self {
            ended: !fresh && at.file >= files.len(),
            place,
            kind: summary.kind,
            files,
            reading: Reading { form, key: config.key, page_items: config.page_items.max(1) },
            in_flight_max: config.files_in_flight_max.max(1),
            slack_us: slack_us(config.clock_slack_ms),
            at,
            ahead: VecDeque::new(),
        })
    }

    /// Starts reading as many files as may be read at a time.
    fn look_ahead(&mut self) {
        while self.ahead.len() < self.in_flight_max {
            let file = self.ahead.back().map_or(self.at.file, |last| last.file + 1);
            let Some(data) = self.files.get(file) else { return };
            let skip = if file == self.at.file { self.at.line } else { 0 };
            let (send, batches) = mpsc::channel(1);
            let (place, data, reading) = (self.place.clone(), data.clone(), self.reading);
            let task = tokio::spawn(async move {
                if let Err(fault) = Box::pin(read_file(place, data, skip, reading, send.clone())).await {
                    // Nobody listens any more, or hears it.
                    send.send(Err(fault)).await.ok();
                }
            });
            self.ahead.push_back(Ahead { file, batches, task });
        }
    }

    async fn page(&mut self) -> Result<ItemPage, Fault> {
        loop {
            if self.ended {
                return pending().await;
            }
            if self.files.is_empty() {
                self.ended = true;
                return Ok(self.page_of(Batch { items: Vec::new(), lines: 0, bytes: 0, last: true }));
            }
            self.look_ahead();
            let Some(first) = self.ahead.front_mut() else {
                return Err(Fault::bug("an export that hasn't ended has no file to read"));
            };
            let heard = first.batches.recv().await;
            let batch = match heard {
                Some(Ok(batch)) => batch,
                Some(Err(fault)) => {
                    // Asked again, it begins where the last page ended.
                    self.ahead.clear();
                    return Err(fault);
                }
                None => {
                    self.ahead.clear();
                    return Err(Fault::bug("reading a file of an export ended without a word"));
                }
            };
            if batch.last {
                self.ahead.pop_front();
                (self.at.file, self.at.line) = (self.at.file + 1, 0);
                self.ended = self.at.file == self.files.len();
            } else {
                self.at.line = batch.lines;
            }
            // Partitions without items have files too.
            if !batch.items.is_empty() || self.ended {
                return Ok(self.page_of(batch));
            }
        }
    }

    fn page_of(&self, batch: Batch) -> ItemPage {
        let at = &self.at;
        let as_of_us = self.kind.as_of_us();
        ItemPage {
            items: batch.items,
            next: Cursor(serde_json::json!({ "export": at.export, "file": at.file, "line": at.line })),
            done: self.ended,
            cut_us: as_of_us.saturating_sub(self.slack_us),
            until_us: as_of_us.saturating_add(self.slack_us),
            read_units: 0.0,
            bytes: batch.bytes,
        }
    }
}

impl ItemPages for Export {
    fn coverage(&self) -> Coverage {
        self.kind.coverage(self.slack_us)
    }
    fn next(&mut self) -> Fut<'_, ItemPage> {
        Box::pin(self.page())
    }
}

/// What reading an export will take, by its manifest.
///
/// # Errors
/// A [`Fault`] when there is no sound export of this table.
pub async fn estimate(config: &ExportConfig) -> Result<BackfillEstimate, Fault> {
    let place = Place::of(config).await?;
    let summary = read_summary(&place, config).await?;
    let files = read_files(&place, &summary).await?;
    let what = match summary.kind {
        Kind::Full { at_us } => format!("the table as of {}", rollcall_aws::iso_time(at_us)),
        Kind::Incremental { from_us, to_us } => format!(
            "what was written from {} to {}",
            rollcall_aws::iso_time(from_us),
            rollcall_aws::iso_time(to_us)
        ),
    };
    Ok(BackfillEstimate {
        items: summary.items,
        bytes: summary.bytes,
        read_units: 0.0,
        seconds: None,
        basis: format!(
            "the export's manifest: {what}, {} files; bytes as AWS billed them, before compression; the table is not read",
            files.len()
        ),
    })
}

fn slack_us(slack_ms: u64) -> i64 {
    i64::try_from(slack_ms.saturating_mul(1_000)).unwrap_or(i64::MAX)
}

fn resume(cursor: Cursor, export: &str, location: &str) -> Result<At, Fault> {
    let at: At = serde_json::from_value(cursor.0)
        .map_err(|e| Fault::refused(format!("the backfill's cursor is none of an export: {e}")))?;
    if at.export == export {
        return Ok(at);
    }
    Err(Fault::refused(format!("the backfill began with {}, but {location} is {export}", at.export))
        .repair("put the export back that it began with, or cancel the backfill and start a new one"))
}

async fn read_summary(place: &Place, config: &ExportConfig) -> Result<Summary, Fault> {
    let file = Beside::Within(format!("{SUMMARY}.json"));
    let name = place.name(&file);
    let Some(json) = place.small(&file).await? else {
        // AWS writes this first, and the summary last.
        let started = place.small(&Beside::Within("_started".to_owned())).await?.is_some();
        return Err(if started {
            Fault::refused(format!(
                "{} has begun but has no {SUMMARY}.json: the export is still running, or failed",
                config.location
            ))
            .repair(
                "aws dynamodb describe-export --export-arn … says which; wait for COMPLETED, or export again",
            )
        } else {
            Fault::refused(format!("there is no DynamoDB export at {}: no {SUMMARY}.json", config.location))
                .repair("name the folder AWSDynamoDB/EXPORT-ID of an export, or copy it whole")
        });
    };
    check_sum(place, SUMMARY, &json, &name).await?;
    manifest::summary(&json, &name, &config.table)
}

async fn read_files(place: &Place, summary: &Summary) -> Result<Vec<DataFile>, Fault> {
    let name = place.name(&summary.files);
    let Some(json) = place.small(&summary.files).await? else {
        return Err(Fault::refused(format!("{name} is not there, which the summary names"))
            .repair("copy the export again, with all of its files"));
    };
    check_sum(place, "manifest-files", &json, &name).await?;
    manifest::files(&json, &name, summary)
}

/// Compares a manifest with the checksum beside it. AWS's text and its files differ in how that is called.
async fn check_sum(place: &Place, stem: &str, json: &[u8], name: &str) -> Result<(), Fault> {
    for ending in ["md5", "checksum"] {
        if let Some(sum) = place.small(&Beside::Within(format!("{stem}.{ending}"))).await? {
            return manifest::check(json, &sum, name);
        }
    }
    tracing::warn!("{name} has no checksum beside it: it is taken as it is, its data files are checked");
    Ok(())
}

async fn read_file(
    place: Place,
    data: DataFile,
    skip: u64,
    reading: Reading,
    send: mpsc::Sender<Result<Batch, Fault>>,
) -> Result<(), Fault> {
    let file = place.checked(&data).await?;
    let name = place.name(&data.place);
    blocking(move || {
        decode(file, &name, data.items, skip, reading, |batch| send.blocking_send(Ok(batch)).is_ok())
    })
    .await
}
