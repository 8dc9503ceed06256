//! A backfill plan in; whole pages, each with its snapshot and its mark in the WAL, out.
//!
//! ```text
//! barrier ─▶ floor │ catalog ─▶ read ─▶ queue ─▶ mark │ range ─▶ read ─▶ queue ─▶ mark │ …
//! ```
//!
//! * **Barrier.** Retaining has begun before the pager starts. It takes a transaction id and waits until every
//!   transaction up to it has ended: what committed before the retaining began is then seen by every page.
//! * **Read.** One REPEATABLE READ transaction, sent as one message: identities, their parts and
//!   `pg_current_snapshot()` are of one moment.
//! * **Mark.** `pg_logical_emit_message` after the read, as a transaction of its own: whatever the read could see
//!   committed before it, so the stream yields that before the mark. (A message outside of a transaction stands
//!   right too, but waits for the WAL writer to be flushed.) The page is queued before its mark is written.
//!
//! Pages are read one after the other on one connection, so each snapshot sees all that the one before saw; up to
//! `pages_in_flight` of them wait for the stream to reach their marks.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use rollcall_model::source::BackfillPlan;
use rollcall_model::{Cell, Fault, NativeId, Row, TableRole, TableSpec};
use rollcall_postgres_wire::text::{TextClient, TextResult};
use rollcall_postgres_wire::{ConnectConfig, ident, literal};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch};

use crate::cell::{Kind, int};
use crate::config::PostgresSourceConfig;
use crate::heartbeat::PREFIX;
use crate::overlay::Found;
use crate::relation::id_column;
use crate::snapshot::Snapshot;

/// How often the barrier looks again.
const BARRIER_PAUSE_MS: u64 = 20;
/// After so many looks at a barrier that does not open it says why, once.
const BARRIER_LOOKS_QUIET: u32 = 250;

/// Says which page a place in the WAL belongs to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Mark {
    /// The run of the backfill: marks of an earlier one mean nothing.
    pub(crate) run: u64,
    pub(crate) page: u64,
}

impl Mark {
    fn content(&self) -> String {
        format!("page {:x} {}", self.run, self.page)
    }

    /// Reads a message of the stream; `None` when it is no mark.
    pub(crate) fn parse(prefix: &[u8], content: &[u8]) -> Option<Self> {
        if prefix != PREFIX.as_bytes() {
            return None;
        }
        let (run, page) = std::str::from_utf8(content).ok()?.strip_prefix("page ")?.split_once(' ')?;
        Some(Self { run: u64::from_str_radix(run, 16).ok()?, page: page.parse().ok()? })
    }
}

/// What was read.
#[derive(Debug)]
pub(crate) enum Content {
    /// All rows of the catalog tables.
    Catalog(BTreeMap<Arc<str>, Vec<Row>>),
    /// The identities of a range.
    Page { from: Option<i64>, to: Option<i64>, found: BTreeMap<i64, Found> },
}

/// A read that waits for its mark.
#[derive(Debug)]
pub(crate) struct Read {
    pub(crate) mark: Mark,
    pub(crate) snapshot: Snapshot,
    pub(crate) read_time_us: i64,
    pub(crate) content: Content,
    pub(crate) bytes: usize,
    /// Its place among the pages in flight.
    pub(crate) _place: OwnedSemaphorePermit,
}

/// What the pager tells the stream.
#[derive(Debug)]
pub(crate) enum Told {
    /// Every page from now on sees at least this.
    Floor(Snapshot),
    /// A read whose mark comes.
    Read(Box<Read>),
    /// It can't go on.
    Failed(Fault),
}

/// Rounds of retaining: the retained rows were to be, and were, forgotten so many times.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Rounds {
    pub(crate) wanted: u64,
    pub(crate) begun: u64,
}

/// What reading pages takes.
#[derive(Clone, Debug)]
pub(crate) struct Reading {
    pub(crate) connect: ConnectConfig,
    pub(crate) schema: String,
    pub(crate) tables: Arc<[TableSpec]>,
    pub(crate) page_rows: usize,
}

impl Reading {
    pub(crate) fn new(config: &PostgresSourceConfig, connect: &ConnectConfig) -> Self {
        Self {
            connect: connect.clone(),
            schema: config.schema.clone(),
            tables: config.tables.clone().into(),
            page_rows: config.page_rows.max(1),
        }
    }

    fn name(&self, spec: &TableSpec) -> String {
        format!("{}.{}", ident(&self.schema), ident(spec.name))
    }
}

/// Reads the pages of one plan.
pub(crate) struct Pager {
    pub(crate) reading: Reading,
    pub(crate) run: u64,
    pub(crate) queue: mpsc::Sender<Told>,
    pub(crate) places: Arc<Semaphore>,
    pub(crate) rounds: watch::Receiver<Rounds>,
}

/// Nobody listens any more, or it failed.
enum End {
    Closed,
    Failed(Fault),
}

impl From<Fault> for End {
    fn from(fault: Fault) -> Self {
        Self::Failed(fault)
    }
}

impl Pager {
    pub(crate) async fn run(mut self, plan: BackfillPlan) {
        if let Err(End::Failed(fault)) = self.pages(plan).await {
            // A stream that is gone needs no fault.
            drop(self.queue.send(Told::Failed(fault)).await);
        }
    }

    async fn pages(&mut self, plan: BackfillPlan) -> Result<(), End> {
        let mut client = TextClient::connect(&self.reading.connect).await?;
        let mut from = match &plan.next_from {
            None => None,
            Some(NativeId::Int(id)) => Some(*id),
            Some(NativeId::Text(_)) => {
                return Err(Fault::config("a backfill of Postgres goes on at an integer id").into());
            }
        };
        let (mut round, mut catalog, mut page) = (self.barrier(&mut client).await?, plan.catalog, 0);
        loop {
            let place = Arc::clone(&self.places).acquire_owned().await.map_err(|_| End::Closed)?;
            if self.rounds.borrow().wanted != round {
                drop(place);
                round = self.barrier(&mut client).await?;
                continue;
            }
            let (read, next) = if catalog {
                (self.read_catalog(&mut client).await?, Some(from))
            } else {
                let to = self.boundary(&mut client, from).await?;
                (self.read_page(&mut client, from, to).await?, to.map(Some))
            };
            let (snapshot, read_time_us, content, bytes) = read;
            let mark = Mark { run: self.run, page };
            let sql = format!(
                "SELECT pg_catalog.pg_logical_emit_message(true, {}, {})",
                literal(PREFIX),
                literal(&mark.content())
            );
            let read = Read { mark, snapshot, read_time_us, content, bytes, _place: place };
            self.queue.send(Told::Read(Box::new(read))).await.map_err(|_| End::Closed)?;
            client.query(&sql).await?;
            (catalog, page) = (false, page + 1);
            match next {
                Some(next) => from = next,
                None => return Ok(()),
            }
        }
    }

    /// Waits until every transaction that may have been streamed before the retaining began is seen by a new
    /// snapshot. Gives the round that it is good for.
    async fn barrier(&mut self, client: &mut TextClient) -> Result<u64, End> {
        let rounds = self.rounds.wait_for(|rounds| rounds.begun == rounds.wanted).await;
        let round = rounds.map_err(|_| End::Closed)?.begun;
        let xid = single(client.query("SELECT pg_catalog.pg_current_xact_id()::text").await?)?;
        let xid = int(&xid).and_then(|xid| u64::try_from(xid).ok()).ok_or_else(odd)?;
        let mut looks = 0;
        loop {
            let snapshot = single(client.query("SELECT pg_catalog.pg_current_snapshot()::text").await?)?;
            let snapshot = Snapshot::parse(&snapshot)?;
            if snapshot.xmin() > xid {
                self.queue.send(Told::Floor(snapshot)).await.map_err(|_| End::Closed)?;
                return Ok(round);
            }
            looks += 1;
            if looks == BARRIER_LOOKS_QUIET {
                tracing::warn!(
                    oldest = snapshot.xmin(),
                    "the backfill waits for an old transaction to end; \
                     SELECT pid, xact_start, query FROM pg_stat_activity WHERE backend_xid IS NOT NULL ORDER BY xact_start shows it"
                );
            }
            tokio::time::sleep(Duration::from_millis(BARRIER_PAUSE_MS)).await;
        }
    }

    /// The first id after the page; `None` when it is the last one.
    async fn boundary(&self, client: &mut TextClient, from: Option<i64>) -> Result<Option<i64>, Fault> {
        let (spec, id) = self.identity()?;
        let sql = format!(
            "SELECT {id} FROM {} WHERE {} ORDER BY {id} LIMIT 1 OFFSET {}",
            self.reading.name(spec),
            range(&id, from, None),
            self.reading.page_rows,
        );
        let rows = client.query(&sql).await?.pop().unwrap_or_default().rows;
        rows.first()
            .map(|row| row.first()?.as_deref().and_then(int))
            .map_or(Ok(None), |id| id.ok_or_else(odd).map(Some))
    }

    fn identity(&self) -> Result<(&TableSpec, String), Fault> {
        let is_identity = |spec: &&TableSpec| matches!(spec.role, TableRole::Identity { .. });
        let spec = self.reading.tables.iter().find(is_identity);
        let spec = spec.ok_or_else(|| Fault::bug("the platform names no identity table"))?;
        Ok((spec, ident(id_column(&spec.role).unwrap_or_default())))
    }

    /// The wanted columns that each table has now, by table in the order of the specs.
    async fn columns(&self, client: &mut TextClient) -> Result<Vec<Vec<&'static str>>, Fault> {
        let sql: Vec<_> = self.reading.tables.iter().map(|spec| {
            let name = literal(&self.reading.name(spec));
            format!("SELECT attname FROM pg_catalog.pg_attribute WHERE attrelid = {name}::regclass AND attnum > 0 AND NOT attisdropped")
        }).collect();
        let results = client.query(&sql.join(";")).await?;
        let there = |result: &TextResult, name: &str| {
            result
                .rows
                .iter()
                .any(|row| row.first().is_some_and(|cell| cell.as_deref() == Some(name.as_bytes())))
        };
        let pick = |(spec, result): (&TableSpec, &TextResult)| {
            let optional = spec.optional.iter().copied().filter(|name| there(result, name));
            spec.columns.iter().copied().chain(optional).collect()
        };
        Ok(self.reading.tables.iter().zip(&results).map(pick).collect())
    }

    async fn read(
        &self,
        client: &mut TextClient,
        selects: &[String],
    ) -> Result<(Snapshot, i64, Vec<TextResult>), Fault> {
        let sql = format!(
            "BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY; \
             SELECT pg_catalog.pg_current_snapshot()::text, (extract(epoch FROM pg_catalog.clock_timestamp()) * 1000000)::bigint; \
             {}; COMMIT",
            selects.join("; ")
        );
        let mut results = client.query(&sql).await?.into_iter();
        let head = results.next().unwrap_or_default().rows;
        let row = head.first().ok_or_else(odd)?;
        let cell = |n: usize| row.get(n).and_then(Option::as_deref).ok_or_else(odd);
        let snapshot = Snapshot::parse(cell(0)?)?;
        let read_time_us = int(cell(1)?).ok_or_else(odd)?;
        Ok((snapshot, read_time_us, results.collect()))
    }

    async fn read_catalog(&self, client: &mut TextClient) -> Result<(Snapshot, i64, Content, usize), Fault> {
        let columns = self.columns(client).await?;
        let specs = self.reading.tables.iter().zip(&columns);
        let catalog: Vec<_> =
            specs.filter(|(spec, _)| matches!(spec.role, TableRole::Catalog { .. })).collect();
        let select = |(spec, columns): &(&TableSpec, &Vec<&str>)| {
            format!("SELECT {} FROM {}", list(columns), self.reading.name(spec))
        };
        let selects: Vec<_> = catalog.iter().map(select).collect();
        // Without a catalog table the list would be empty, and the statement wrong.
        let selects = if selects.is_empty() { vec!["SELECT 1 WHERE false".to_owned()] } else { selects };
        let (snapshot, read_time_us, results) = self.read(client, &selects).await?;
        let (mut tables, mut bytes) = (BTreeMap::new(), 0);
        for ((spec, _), result) in catalog.iter().zip(results) {
            let (rows, size) = rows(result);
            bytes += size;
            tables.insert(Arc::from(spec.name), rows);
        }
        Ok((snapshot, read_time_us, Content::Catalog(tables), bytes))
    }

    async fn read_page(
        &self,
        client: &mut TextClient,
        from: Option<i64>,
        to: Option<i64>,
    ) -> Result<(Snapshot, i64, Content, usize), Fault> {
        let columns = self.columns(client).await?;
        let (mut selects, mut specs) = (Vec::new(), Vec::new());
        for (spec, columns) in self.reading.tables.iter().zip(&columns) {
            let Some(id) = id_column(&spec.role).map(ident) else { continue };
            let (name, range) = (self.reading.name(spec), range(&id, from, to));
            selects.push(format!("SELECT {} FROM {name} WHERE {range}", list(columns)));
            specs.push(spec);
        }
        let (snapshot, read_time_us, results) = self.read(client, &selects).await?;
        let (mut found, mut bytes) = (BTreeMap::<i64, Found>::new(), 0);
        for (spec, result) in specs.into_iter().zip(results) {
            let (rows, size) = rows(result);
            bytes += size;
            let (name, id): (Arc<str>, _) = (Arc::from(spec.name), id_column(&spec.role).unwrap_or_default());
            for row in rows {
                let Some(Cell::Int(id)) = row.get(id) else { continue };
                let found = found.entry(*id).or_default();
                match spec.role {
                    TableRole::Identity { .. } => found.identity = Some(row),
                    TableRole::IdentityPart { .. } => {
                        found.parts.entry(Arc::clone(&name)).or_default().push(row)
                    }
                    TableRole::Catalog { .. } => {}
                }
            }
        }
        Ok((snapshot, read_time_us, Content::Page { from, to, found }, bytes))
    }
}

fn odd() -> Fault {
    Fault::retry("Postgres gave an answer that can't be read")
}

fn single(results: Vec<TextResult>) -> Result<Vec<u8>, Fault> {
    let cell = || results.first()?.rows.first()?.first()?.as_deref().map(<[u8]>::to_vec);
    cell().ok_or_else(odd)
}

fn range(id: &str, from: Option<i64>, to: Option<i64>) -> String {
    match (from, to) {
        (None, None) => "true".to_owned(),
        (Some(from), None) => format!("{id} >= {from}"),
        (None, Some(to)) => format!("{id} < {to}"),
        (Some(from), Some(to)) => format!("{id} >= {from} AND {id} < {to}"),
    }
}

fn list(columns: &[&str]) -> String {
    columns.iter().map(|name| ident(name)).collect::<Vec<_>>().join(", ")
}

/// Rows by name, and how many bytes their values have.
fn rows(result: TextResult) -> (Vec<Row>, usize) {
    let kinds: Vec<_> = result.columns.iter().map(|column| Kind::of(column.type_oid)).collect();
    let names: Arc<[Arc<str>]> =
        result.columns.iter().map(|column| Arc::from(column.name.as_str())).collect();
    let mut bytes = 0;
    let mut read = |(kind, cell): (&Kind, Option<bytes::Bytes>)| {
        cell.map_or(Cell::Null, |cell| {
            bytes += cell.len();
            kind.cell(&cell)
        })
    };
    let rows = result.rows.into_iter().map(|row| Row {
        columns: Arc::clone(&names),
        cells: kinds.iter().zip(row).map(&mut read).collect(),
    });
    let rows = rows.collect();
    (rows, bytes)
}
