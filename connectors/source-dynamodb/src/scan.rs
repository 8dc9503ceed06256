//! A table as a backfill: consistent reads of its segments, several at a time, pages out.
//!
//! ```text
//!   segment 0 ─ Scan ─▶ page ┐
//!   segment 1 ─ Scan ─▶ page ├─▶ at most pages_in_flight_max ─▶ next(): page, and the cursor of all segments behind it
//!   …                        │        ▲
//!   segment n ─ Scan ─▶ page ┘        └─ rate: read capacity units per second, over all of them
//! ```
//!
//! Why it is right:
//! - A consistent read shows every write that was answered before it began. So an item is as it was at the page's cut or
//!   later, and what the stream has said of it since the cut is at least as new: the stream wins. Once every shard is in
//!   the log up to the page's end, nothing older than the page can follow it.
//! - The cursor of a page holds the last key of every segment among the pages given out, and not those read ahead: going
//!   on reads again what was only read.
//! - The whole table is as of the very first start, which the cursor keeps: what was deleted while the scan stood still
//!   was deleted after that, and the stream says so.
//!
//! An environment is read through its index, which follows the table with a delay and promises nothing. It stays exact
//! because the index only *names* items: each is then read from the table by its key, consistently, in the same page. One
//! that the index still names and the table no longer has is [`ItemState::Absent`](rollcall_model::ItemState::Absent);
//! one that has moved to another environment comes as it is. One that the index does not name yet was written within the
//! index's delay, so the stream brings it if it began that much earlier; therefore a stream's first load is the whole
//! table. Nothing is concluded for items that were not named ([`Coverage::Part`]).

use std::future::pending;
use std::sync::Arc;

use rollcall_aws::AwsConfig;
use rollcall_model::shards::{Coverage, Cursor};
use rollcall_model::{Fault, Fut, ItemPage, ItemPages};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::task::JoinSet;

use crate::pace::Rate;
use crate::scan_cursor::{At, SegmentAt};
use crate::scan_read::{Read, Reader};
use crate::scan_table::Table;

/// Segments, if the topology says nothing.
pub const DEFAULT_SEGMENTS: u16 = 4;
/// Items of a page, at most: one answer of DynamoDB is one page.
pub const PAGE_ITEMS_MAX: usize = 1_000;
/// Segments, at most: each has its place in every cursor.
pub const SEGMENTS_MAX: u16 = 1_000;

/// An index that names the items of one environment.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct EnvironmentFilter {
    /// The index.
    pub index: &'static str,
    /// The attribute that leads it.
    pub attribute: &'static str,
    /// The environment's api key.
    pub value: String,
}

/// What a scan takes.
#[derive(Clone, PartialEq, Debug)]
pub struct ScanConfig {
    /// The table: a name, or an ARN.
    pub table: String,
    /// The attribute that is its key.
    pub key: &'static str,
    /// How to reach it.
    pub aws: AwsConfig,
    /// How many parts it is cut into, read side by side.
    pub segments: u16,
    /// Read capacity units per second; `None` is as fast as the table gives them.
    pub read_units_per_s: Option<f64>,
    /// Items of a page, at most [`PAGE_ITEMS_MAX`].
    pub page_items: usize,
    /// Pages read ahead, at most.
    pub pages_in_flight_max: usize,
    /// Only the items of one environment.
    pub environment: Option<EnvironmentFilter>,
    /// What DynamoDB's clocks may differ by.
    pub clock_slack_ms: u64,
}

/// What a segment's task says; the permit is its place among the pages read ahead.
type Told = Result<(usize, Read, OwnedSemaphorePermit), Fault>;

/// Segments that are being read. Dropping it stops them.
#[derive(Debug)]
struct Running {
    told: mpsc::Receiver<Told>,
    _tasks: JoinSet<()>,
}

/// A running scan.
#[derive(Debug)]
pub struct Scan {
    reader: Arc<Reader>,
    pages_in_flight_max: usize,
    /// Behind the last page that was given out.
    at: At,
    running: Option<Running>,
    /// The latest end of a page so far, empty ones included.
    until_us: i64,
    /// What empty pages cost.
    units: f64,
    ended: bool,
}

impl Scan {
    /// Opens the table and goes on at `cursor`.
    ///
    /// # Errors
    /// A [`Fault`] when there is no such table or index, no right to it, or when the cursor is of another one.
    pub async fn start(config: &ScanConfig, cursor: Option<Cursor>) -> Result<Self, Fault> {
        let rate = Arc::new(Rate::new(config.read_units_per_s)?);
        if !(1..=SEGMENTS_MAX).contains(&config.segments) {
            return Err(Fault::config(format!("a table can't be read in {} segments", config.segments))
                .repair(format!("set 1 to {SEGMENTS_MAX} segments")));
        }
        let table = Box::pin(Table::open(&config.aws, &config.table, config.key)).await?;
        if let Some(environment) = &config.environment {
            table.check_index(environment.index, environment.attribute)?;
        }
        let slack_us = i64::try_from(config.clock_slack_ms.saturating_mul(1_000)).unwrap_or(i64::MAX);
        let environment = config.environment.as_ref().map(|filter| filter.value.as_str());
        let fresh = cursor.is_none();
        let at = match cursor {
            Some(cursor) => At::resume(cursor, &config.table, table.id.as_deref(), environment)?,
            None => At {
                table_id: table.id.clone(),
                environment: environment.map(str::to_owned),
                cut_us: table.clock.now_us().saturating_sub(slack_us),
                segments: vec![
                    SegmentAt::Begin;
                    if environment.is_some() { 1 } else { usize::from(config.segments) }
                ],
            },
        };
        let segments = i32::try_from(at.segments.len())
            .map_err(|e| Fault::refused("the backfill's cursor has too many segments").from_source(e))?;
        let page_items = i32::try_from(config.page_items.clamp(1, PAGE_ITEMS_MAX)).unwrap_or(1);
        Ok(Self {
            ended: !fresh && at.done(),
            reader: Arc::new(Reader {
                table,
                rate,
                page_items,
                segments,
                slack_us,
                environment: config.environment.clone(),
            }),
            pages_in_flight_max: config.pages_in_flight_max.max(1),
            at,
            running: None,
            until_us: i64::MIN,
            units: 0.0,
        })
    }

    /// Starts a task for every segment that isn't done.
    fn run(&self) -> Running {
        // One more, so that a fault finds room while all places are taken.
        let (send, told) = mpsc::channel(self.pages_in_flight_max + 1);
        let places = Arc::new(Semaphore::new(self.pages_in_flight_max));
        let mut tasks = JoinSet::new();
        for (segment, at) in self.at.segments.iter().enumerate() {
            if *at != SegmentAt::Done {
                let (reader, places, send) = (Arc::clone(&self.reader), Arc::clone(&places), send.clone());
                tasks.spawn(Box::pin(read_segment(reader, segment, at.clone(), places, send)));
            }
        }
        Running { told, _tasks: tasks }
    }

    async fn page(&mut self) -> Result<ItemPage, Fault> {
        loop {
            if self.ended {
                return pending().await;
            }
            if self.running.is_none() {
                self.running = Some(self.run());
            }
            let Some(running) = &mut self.running else { continue };
            let read = match running.told.recv().await {
                Some(Ok((segment, read, place))) => {
                    if let Some(at) = self.at.segments.get_mut(segment) {
                        *at = read.next.clone();
                    }
                    drop(place);
                    read
                }
                Some(Err(fault)) => {
                    // Asked again, it begins where the last page ended.
                    self.running = None;
                    return Err(fault);
                }
                None => {
                    self.running = None;
                    return Err(Fault::bug("reading a segment ended without a word"));
                }
            };
            self.until_us = self.until_us.max(read.until_us);
            self.units += read.units;
            self.ended = self.at.done();
            if read.items.is_empty() && !self.ended {
                continue;
            }
            return Ok(ItemPage {
                items: read.items,
                next: self.at.cursor()?,
                done: self.ended,
                // AWS's clock as we know it may step back by a second: the start stays before.
                cut_us: read.cut_us.max(self.at.cut_us),
                until_us: self.until_us,
                read_units: std::mem::take(&mut self.units),
                bytes: read.bytes,
            });
        }
    }
}

impl ItemPages for Scan {
    fn coverage(&self) -> Coverage {
        match self.at.environment {
            None => Coverage::Whole { cut_us: self.at.cut_us },
            Some(_) => Coverage::Part,
        }
    }
    fn next(&mut self) -> Fut<'_, ItemPage> {
        Box::pin(self.page())
    }
}

async fn read_segment(
    reader: Arc<Reader>,
    segment: usize,
    mut at: SegmentAt,
    places: Arc<Semaphore>,
    send: mpsc::Sender<Told>,
) {
    // Items of a kilobyte, until an answer says better.
    let mut expected = (f64::from(reader.page_items) / 4.0).max(1.0);
    let number = i32::try_from(segment).unwrap_or(i32::MAX);
    while at != SegmentAt::Done {
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
        let read = Box::pin(reader.page(number, &at, &mut expected)).await;
        let told = match read {
            Ok(read) => {
                at = read.next.clone();
                Ok((segment, read, place))
            }
            Err(fault) => {
                at = SegmentAt::Done;
                Err(fault)
            }
        };
        if send.send(told).await.is_err() {
            return;
        }
    }
}
