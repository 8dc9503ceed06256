//! Reads that wait for their marks and the transactions that they could not see in; pages that are the whole truth
//! of their range at their place in the stream out.
//!
//! Every transaction that the stream brings while a backfill runs is retained until the oldest read in flight sees it
//! — later ones then see it too. When the stream reaches a mark, the retained transactions that its read could not
//! see are folded on what it found, row by row, in commit order. Seeing is decided by transaction id and never by
//! place: a commit stands in the WAL before it is visible.
//!
//! What is retained is bounded: above `retained_bytes_max` no further page is read; when none is in flight all of it
//! is forgotten, and the pager passes its barrier again.

use std::collections::{BTreeMap, VecDeque};
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;

use rollcall_model::source::BackfillPlan;
use rollcall_model::{
    BackfillId, CatalogSnapshot, Fault, Group, NativeId, Page, PageGroup, Position, RowChange, SourceEvent,
    TableRole, TableSpec,
};
use rollcall_postgres_wire::ConnectConfig;
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::task::JoinHandle;

use crate::config::PostgresSourceConfig;
use crate::fold::{Committed, Folded};
use crate::overlay::{CatalogTable, Found};
use crate::page::{Content, Mark, Pager, Read, Reading, Rounds, Told};
use crate::snapshot::Snapshot;
use crate::spill::SpilledRows;

/// What a backfill takes.
#[derive(Clone, Debug)]
pub(crate) struct Pages {
    reading: Reading,
    in_flight: usize,
    retained_bytes_max: usize,
}

impl Pages {
    pub(crate) fn new(config: &PostgresSourceConfig, connect: &ConnectConfig) -> Self {
        Self {
            reading: Reading::new(config, connect),
            in_flight: config.pages_in_flight.max(1),
            retained_bytes_max: config.retained_bytes_max,
        }
    }
}

/// The rows of a retained transaction.
#[derive(Debug)]
enum Kept {
    Groups(Vec<Group>),
    Spilled(Arc<SpilledRows>),
}

#[derive(Debug)]
struct Retained {
    xid: u64,
    truncated: Vec<Arc<str>>,
    catalog: Vec<RowChange>,
    rows: Kept,
    bytes: usize,
}

/// A running backfill. Dropping it stops its pager.
#[derive(Debug)]
pub(crate) struct Backfill {
    id: BackfillId,
    tables: Arc<[TableSpec]>,
    run: u64,
    pager: JoinHandle<()>,
    told: mpsc::Receiver<Told>,
    /// Reads whose marks are still to come, in order.
    waiting: VecDeque<Read>,
    /// What every read in flight and every later one sees.
    floor: Option<Snapshot>,
    retained: VecDeque<Retained>,
    retained_bytes: usize,
    retained_bytes_max: usize,
    places: Arc<Semaphore>,
    in_flight: usize,
    rounds: watch::Sender<Rounds>,
    fault: Option<Fault>,
    finished: bool,
}

impl Backfill {
    /// Begins to retain, and starts the pager after that.
    pub(crate) fn start(pages: &Pages, plan: BackfillPlan) -> Self {
        let (queue, told) = mpsc::channel(pages.in_flight + 1);
        let (rounds, round) = watch::channel(Rounds::default());
        let places = Arc::new(Semaphore::new(pages.in_flight));
        // Differs from that of every other run: of this process and of those before.
        let run = RandomState::new().hash_one(&plan.id);
        let pager =
            Pager { reading: pages.reading.clone(), run, queue, places: Arc::clone(&places), rounds: round };
        Self {
            id: plan.id.clone(),
            tables: Arc::clone(&pages.reading.tables),
            run,
            pager: tokio::spawn(pager.run(plan)),
            told,
            waiting: VecDeque::new(),
            floor: None,
            retained: VecDeque::new(),
            retained_bytes: 0,
            retained_bytes_max: pages.retained_bytes_max,
            places,
            in_flight: pages.in_flight,
            rounds,
            fault: None,
            finished: false,
        }
    }

    /// Whether the last page was yielded.
    pub(crate) fn finished(&self) -> bool {
        self.finished
    }

    /// Completes when the pager can't go on. Cancel-safe.
    pub(crate) async fn failed(&mut self) -> Fault {
        loop {
            if let Some(fault) = self.fault.take() {
                return fault;
            }
            match self.told.recv().await {
                Some(told) => self.hear(told),
                None => return std::future::pending().await,
            }
        }
    }

    fn hear(&mut self, told: Told) {
        match told {
            Told::Floor(snapshot) => {
                if self.waiting.is_empty() {
                    self.rise(snapshot);
                }
            }
            Told::Read(read) => {
                if self.waiting.is_empty() {
                    self.rise(read.snapshot.clone());
                }
                self.waiting.push_back(*read);
            }
            Told::Failed(fault) => self.fault = Some(fault),
        }
    }

    fn hear_all(&mut self) {
        while let Ok(told) = self.told.try_recv() {
            self.hear(told);
        }
    }

    /// Everything still to come sees at least this: forget what it sees.
    fn rise(&mut self, floor: Snapshot) {
        self.retained.retain(|retained| !floor.sees(retained.xid));
        self.retained_bytes = self.retained.iter().map(|retained| retained.bytes).sum();
        self.floor = Some(floor);
    }

    /// Keeps a transaction that the stream has brought, if some page may need it.
    pub(crate) fn retain(&mut self, xid: u64, committed: &Committed, bytes: usize) {
        self.hear_all();
        if self.floor.as_ref().is_some_and(|floor| floor.sees(xid)) {
            return;
        }
        let rows = match &committed.rows {
            Folded::Small(groups) => Kept::Groups(groups.clone()),
            Folded::Large(rows) => Kept::Spilled(Arc::clone(rows)),
        };
        let empty = matches!(&rows, Kept::Groups(groups) if groups.is_empty());
        if empty && committed.truncated.is_empty() && committed.catalog.is_empty() {
            return;
        }
        // Spilled rows lie on disk.
        let bytes = if matches!(rows, Kept::Spilled(_)) { 0 } else { bytes };
        let (truncated, catalog) = (committed.truncated.clone(), committed.catalog.clone());
        self.retained.push_back(Retained { xid, truncated, catalog, rows, bytes });
        self.retained_bytes += bytes;
        self.bound();
    }

    /// Keeps what is retained within its bound.
    fn bound(&mut self) {
        let rounds = *self.rounds.borrow();
        if self.retained_bytes > self.retained_bytes_max && rounds.wanted == rounds.begun {
            self.rounds.send_modify(|rounds| rounds.wanted += 1);
        }
        let waits = self.rounds.borrow().wanted != self.rounds.borrow().begun;
        // With every place free nothing is being read and nothing is in flight; a pager that takes a place from now
        // on sees that another round is wanted.
        if waits && self.places.available_permits() == self.in_flight {
            self.retained.clear();
            self.retained_bytes = 0;
            self.floor = None;
            self.rounds.send_modify(|rounds| rounds.begun = rounds.wanted);
        }
    }

    /// The stream has reached a mark at `position`: gives what enters there, and its bytes.
    pub(crate) async fn reached(
        &mut self,
        mark: &Mark,
        position: Position,
    ) -> Result<Option<(SourceEvent, usize)>, Fault> {
        if mark.run != self.run {
            return Ok(None);
        }
        self.hear_all();
        let Some(read) = self.waiting.pop_front().filter(|read| read.mark == *mark) else {
            return Err(Fault::bug("the mark of a page came before the page"));
        };
        let Read { snapshot, read_time_us, content, bytes, _place: place, .. } = read;
        let event = match content {
            Content::Catalog(tables) => SourceEvent::Catalog(CatalogSnapshot {
                backfill: self.id.clone(),
                position,
                read_time_us,
                tables: self.fold_catalog(&snapshot, tables),
            }),
            Content::Page { from, to, mut found } => {
                self.fold_page(&snapshot, from, to, &mut found).await?;
                self.finished = to.is_none();
                let (groups, broken) = groups(found);
                let (from, to) = (from.map(NativeId::Int), to.map(NativeId::Int));
                let backfill = self.id.clone();
                SourceEvent::Page(Page { backfill, from, to, position, read_time_us, groups, broken })
            }
        };
        self.rise(self.waiting.front().map_or(snapshot, |next| next.snapshot.clone()));
        drop(place);
        self.bound();
        Ok(Some((event, bytes)))
    }

    fn spec(&self, table: &str) -> Option<&TableSpec> {
        self.tables.iter().find(|spec| spec.name == table)
    }

    fn fold_catalog(
        &self,
        snapshot: &Snapshot,
        tables: BTreeMap<Arc<str>, Vec<rollcall_model::Row>>,
    ) -> BTreeMap<Arc<str>, Vec<rollcall_model::Row>> {
        let keyed = |(name, rows): (Arc<str>, _)| {
            let TableRole::Catalog { key } = self.spec(&name)?.role else { return None };
            Some((name, CatalogTable::new(key, rows)))
        };
        let mut tables: BTreeMap<_, _> = tables.into_iter().filter_map(keyed).collect();
        for unseen in self.retained.iter().filter(|retained| !snapshot.sees(retained.xid)) {
            for name in &unseen.truncated {
                if let Some(table) = tables.get_mut(name) {
                    table.truncate();
                }
            }
            for change in &unseen.catalog {
                if let Some(table) = tables.get_mut(&change.table) {
                    table.apply(&change.op);
                }
            }
        }
        tables.into_iter().map(|(name, table)| (name, table.into_rows())).collect()
    }

    async fn fold_page(
        &self,
        snapshot: &Snapshot,
        from: Option<i64>,
        to: Option<i64>,
        found: &mut BTreeMap<i64, Found>,
    ) -> Result<(), Fault> {
        for unseen in self.retained.iter().filter(|retained| !snapshot.sees(retained.xid)) {
            for spec in unseen.truncated.iter().filter_map(|name| self.spec(name)) {
                found.values_mut().for_each(|found| found.truncate(spec));
            }
            let mut apply = |id: i64, change: &RowChange| {
                if let Some(spec) = self.spec(&change.table) {
                    found.entry(id).or_default().apply(spec, change);
                }
            };
            match &unseen.rows {
                Kept::Groups(groups) => {
                    let start = groups
                        .partition_point(|group| from.is_some_and(|from| group.id < NativeId::Int(from)));
                    let before_end = |group: &&Group| to.is_none_or(|to| group.id < NativeId::Int(to));
                    for group in groups.iter().skip(start).take_while(before_end) {
                        let NativeId::Int(id) = group.id else { continue };
                        group.rows.iter().for_each(|row| apply(id, row));
                    }
                }
                Kept::Spilled(rows) => {
                    for (id, row) in spilled(Arc::clone(rows), from, to).await? {
                        apply(id, &row);
                    }
                }
            }
        }
        Ok(())
    }
}

impl Drop for Backfill {
    fn drop(&mut self) {
        self.pager.abort();
    }
}

/// The rows of a range, read where waiting for the disk holds nobody up.
async fn spilled(
    rows: Arc<SpilledRows>,
    from: Option<i64>,
    to: Option<i64>,
) -> Result<Vec<(i64, RowChange)>, Fault> {
    let read = move || {
        let (mut merge, mut found) = (rows.merge(from)?, Vec::new());
        while let Some((id, row)) = merge.next()? {
            if to.is_some_and(|to| id >= to) {
                break;
            }
            found.push((id, row));
        }
        Ok(found)
    };
    let task = tokio::task::spawn_blocking(read).await;
    task.map_err(|error| Fault::bug("reading spilled rows ended before its end").from_source(error))?
}

/// Whole identities in order of id; those that can't be put together apart.
fn groups(found: BTreeMap<i64, Found>) -> (Vec<PageGroup>, Vec<(NativeId, String)>) {
    let (mut groups, mut broken) = (Vec::with_capacity(found.len()), Vec::new());
    for (id, found) in found {
        let id = NativeId::Int(id);
        let Some(identity) = found.identity else { continue };
        match found.broken {
            Some(reason) => broken.push((id, reason)),
            None => groups.push(PageGroup { id, identity, parts: found.parts }),
        }
    }
    (groups, broken)
}
