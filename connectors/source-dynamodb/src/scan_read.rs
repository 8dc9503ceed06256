//! One page of a segment, or of an environment: as many calls as it takes, at the set rate, with pauses where DynamoDB
//! asks for them.

use std::sync::Arc;

use aws_sdk_dynamodb::types::{AttributeValue, ConsumedCapacity, ReturnConsumedCapacity};
use rollcall_aws::fault;
use rollcall_model::{Fault, FoundItem, Item, ItemState, NativeId};
use tokio::task::JoinSet;

use crate::pace::Rate;
use crate::scan::EnvironmentFilter;
use crate::scan_batch::{Got, KEYS_MAX, get};
use crate::scan_cursor::SegmentAt;
use crate::scan_item::{Key, bytes, item, key, key_text};
use crate::scan_table::{Failures, Table};

/// Calls for the items of one page of an environment, at a time.
const BATCHES_IN_FLIGHT_MAX: usize = 4;
/// `Date` is in whole seconds: the server's clock as we know it is up to this behind.
const DATE_LAG_US: i64 = 1_000_000;

/// What it takes to read a page.
#[derive(Debug)]
pub(crate) struct Reader {
    pub(crate) table: Table,
    pub(crate) rate: Arc<Rate>,
    pub(crate) page_items: i32,
    pub(crate) segments: i32,
    pub(crate) slack_us: i64,
    pub(crate) environment: Option<EnvironmentFilter>,
}

/// A page of a segment.
#[derive(Debug)]
pub(crate) struct Read {
    pub(crate) items: Vec<FoundItem>,
    /// Where the segment goes on.
    pub(crate) next: SegmentAt,
    pub(crate) units: f64,
    pub(crate) bytes: u64,
    pub(crate) cut_us: i64,
    pub(crate) until_us: i64,
}

/// What a call for keys or items gave.
struct Answer {
    items: Vec<Key>,
    last: Option<Key>,
    units: f64,
}

impl Reader {
    /// Reads the page after `at`. `expected` is what a call cost last.
    pub(crate) async fn page(&self, segment: i32, at: &SegmentAt, expected: &mut f64) -> Result<Read, Fault> {
        let after = match at {
            SegmentAt::Begin | SegmentAt::Done => None,
            SegmentAt::After(last) => {
                let asked = key(last).ok_or_else(|| {
                    Fault::refused(format!("segment {segment} goes on after what is no key"))
                        .repair("cancel the backfill and start a new one")
                })?;
                Some(asked)
            }
        };
        match &self.environment {
            None => self.scan(segment, after, expected).await,
            Some(filter) => self.named(filter, after, expected).await,
        }
    }

    async fn scan(&self, segment: i32, after: Option<Key>, expected: &mut f64) -> Result<Read, Fault> {
        let mut failures = Failures::default();
        let (answer, before_us) = loop {
            self.rate.take(*expected).await;
            let before_us = self.table.clock.now_us();
            let called = self
                .table
                .client
                .scan()
                .table_name(&self.table.name)
                .segment(segment)
                .total_segments(self.segments)
                .consistent_read(true)
                .return_consumed_capacity(ReturnConsumedCapacity::Total)
                .limit(self.page_items)
                .set_exclusive_start_key(after.clone());
            match Box::pin(called.send()).await {
                Ok(answer) => {
                    break (
                        self.answered(
                            answer.items,
                            answer.last_evaluated_key,
                            answer.consumed_capacity.as_ref(),
                            expected,
                        ),
                        before_us,
                    );
                }
                Err(error) => {
                    self.rate.settle(*expected, 0.0);
                    let what =
                        format!("scanning table {}, segment {segment} of {}", self.table.name, self.segments);
                    failures.pause(fault(&what, "dynamodb:Scan", &self.table.arn, error)).await?;
                }
            }
        };
        let mut items = Vec::with_capacity(answer.items.len());
        let mut bytes_read = 0;
        for found in answer.items {
            let item = item(found);
            bytes_read += bytes(&item);
            let id = self.id(&item)?;
            items.push(FoundItem { id: NativeId::Text(id.into()), state: ItemState::Present(item) });
        }
        Ok(self.read(items, next(answer.last), answer.units, bytes_read, before_us))
    }

    /// The index names the items, the table says what they are.
    async fn named(
        &self,
        filter: &EnvironmentFilter,
        after: Option<Key>,
        expected: &mut f64,
    ) -> Result<Read, Fault> {
        let answer = self.query(filter, after, expected).await?;
        let mut names = Vec::with_capacity(answer.items.len());
        for found in answer.items {
            names.push(self.id(&item(found))?);
        }
        let before_us = self.table.clock.now_us();
        let mut got = self.items_of(&names).await?;
        let mut bytes_read = 0;
        let mut items = Vec::with_capacity(names.len());
        for name in names {
            let state = match got.items.remove(&name) {
                Some(item) => {
                    bytes_read += bytes(&item);
                    ItemState::Present(item)
                }
                None => ItemState::Absent,
            };
            items.push(FoundItem { id: NativeId::Text(name.into()), state });
        }
        Ok(self.read(items, next(answer.last), answer.units + got.units, bytes_read, before_us))
    }

    async fn query(
        &self,
        filter: &EnvironmentFilter,
        after: Option<Key>,
        expected: &mut f64,
    ) -> Result<Answer, Fault> {
        let mut failures = Failures::default();
        loop {
            self.rate.take(*expected).await;
            let called = self
                .table
                .client
                .query()
                .table_name(&self.table.name)
                .index_name(filter.index)
                .key_condition_expression("#attribute = :value")
                .projection_expression("#key")
                .expression_attribute_names("#attribute", filter.attribute)
                .expression_attribute_names("#key", self.table.key)
                .expression_attribute_values(":value", AttributeValue::S(filter.value.clone()))
                .return_consumed_capacity(ReturnConsumedCapacity::Total)
                .limit(self.page_items)
                .set_exclusive_start_key(after.clone());
            match Box::pin(called.send()).await {
                Ok(answer) => {
                    return Ok(self.answered(
                        answer.items,
                        answer.last_evaluated_key,
                        answer.consumed_capacity.as_ref(),
                        expected,
                    ));
                }
                Err(error) => {
                    self.rate.settle(*expected, 0.0);
                    let what = format!("asking index {} of table {}", filter.index, self.table.name);
                    let arn = format!("{}/index/{}", self.table.arn, filter.index);
                    failures.pause(fault(&what, "dynamodb:Query", &arn, error)).await?;
                }
            }
        }
    }

    /// The items of so many keys, in several calls at a time.
    async fn items_of(&self, names: &[String]) -> Result<Got, Fault> {
        let mut chunks = names.chunks(KEYS_MAX);
        let mut calls: JoinSet<Result<Got, Fault>> = JoinSet::new();
        let mut all = Got::default();
        loop {
            while calls.len() < BATCHES_IN_FLIGHT_MAX
                && let Some(chunk) = chunks.next()
            {
                let (table, rate, chunk) = (self.table.clone(), Arc::clone(&self.rate), chunk.to_vec());
                calls.spawn(async move { Box::pin(get(&table, &rate, chunk)).await });
            }
            let Some(ended) = calls.join_next().await else { return Ok(all) };
            let got = ended.map_err(|e| Fault::bug("reading items panicked").from_source(e))??;
            all.units += got.units;
            all.items.extend(got.items);
        }
    }

    fn answered(
        &self,
        items: Option<Vec<Key>>,
        last: Option<Key>,
        spent: Option<&ConsumedCapacity>,
        expected: &mut f64,
    ) -> Answer {
        let units = spent.and_then(ConsumedCapacity::capacity_units).unwrap_or_default();
        self.rate.settle(*expected, units);
        *expected = units;
        Answer { items: items.unwrap_or_default(), last: last.filter(|key| !key.is_empty()), units }
    }

    fn read(&self, items: Vec<FoundItem>, next: SegmentAt, units: f64, bytes: u64, before_us: i64) -> Read {
        let until_us = self.table.clock.now_us().saturating_add(DATE_LAG_US);
        Read { items, next, units, bytes, cut_us: before_us.saturating_sub(self.slack_us), until_us }
    }

    fn id(&self, item: &Item) -> Result<String, Fault> {
        key_text(item, self.table.key).map(str::to_owned).ok_or_else(|| {
            Fault::bug(format!("DynamoDB gave an item of table {} without its key", self.table.name))
        })
    }
}

fn next(last: Option<Key>) -> SegmentAt {
    last.map_or(SegmentAt::Done, |key| SegmentAt::After(item(key)))
}
