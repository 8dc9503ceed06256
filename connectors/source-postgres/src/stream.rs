//! The loop: chunks of the replication stream in, events out, in commit order.
//!
//! ```text
//! ReplicationStream ──chunk──▶ decode ──row──▶ fold ──COMMIT──▶ Transaction │ pieces ──▶ outbox ──▶ Source::next
//!        ▲                        │                                │
//!     Standby ◀── release         │ mark of a page                 ▼
//!                                 └──────────────────▶ backfill (retained rows folded on the page) ──▶ Page
//! ```
//!
//! **Progress.** A position is the end of a commit record, or how far the server says it has sent with nothing open:
//! in both cases every transaction that committed before it was yielded before it. The server is told only what
//! [`rollcall_model::Saved`] proves, so a crash anywhere loses nothing: what was not saved is sent again, and what
//! was saved is skipped here by its position.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rollcall_model::source::BackfillPlan;
use rollcall_model::{Fault, Group, Lane, Lsn, NativeId, Point, Position, SourceEvent, Transaction};
use rollcall_postgres_wire::replication::{Event, ReplicationStream};
use tokio::sync::{mpsc, watch};
use tokio::time::MissedTickBehavior;

use crate::backfill::{Backfill, Pages};
use crate::decode::Message;
use crate::fold::{Committed, Fold, Folded, rubbish};
use crate::outbox::{Closed, Outbox};
use crate::page::Mark;
use crate::relation::Relations;
use crate::spill::SpilledRows;

/// How often a position without rows is yielded at most: often enough for `as_of`, cheap for the log.
const IDLE_INTERVAL_MS: u64 = 100;
/// Pieces of a large transaction made ahead of the consumer.
const PIECES_AHEAD_MAX: usize = 1;

/// How far things are, for the lag; shared with the source and the heartbeat.
#[derive(Debug, Default)]
pub(crate) struct Reached {
    /// Where the last yielded event stands.
    pub(crate) yielded: AtomicU64,
    /// How far the server's WAL is, as last heard.
    pub(crate) server: AtomicU64,
}

/// Why the loop ended.
enum End {
    Closed,
    Fault(Fault),
}

impl From<Closed> for End {
    fn from(_: Closed) -> Self {
        Self::Closed
    }
}

impl From<Fault> for End {
    fn from(fault: Fault) -> Self {
        Self::Fault(fault)
    }
}

/// The transaction being read.
#[derive(Debug)]
struct Open {
    xid: u32,
    commit_us: i64,
    /// It is in the log already.
    skip: bool,
    bytes: usize,
    marks: Vec<Mark>,
}

/// The state of the loop.
#[derive(Debug)]
pub(crate) struct Stream {
    pub(crate) replication: ReplicationStream,
    pub(crate) relations: Relations,
    pub(crate) fold: Fold,
    pub(crate) outbox: Outbox,
    pub(crate) lane: Lane,
    /// What is in the log already.
    pub(crate) done: (Lsn, Option<i64>),
    pub(crate) piece_rows: usize,
    pub(crate) reached: Arc<Reached>,
    pub(crate) plans: watch::Receiver<Option<BackfillPlan>>,
    pub(crate) pages: Pages,
    /// A 64-bit transaction id near those of the stream.
    pub(crate) near_xid: u64,
}

#[derive(Debug, Default)]
struct State {
    open: Option<Open>,
    /// A position to yield when nothing else comes.
    idle: Option<(Lsn, i64)>,
    backfill: Option<Backfill>,
}

impl Stream {
    /// Runs until the consumer goes or something fails.
    pub(crate) async fn run(mut self) {
        let mut state = State::default();
        let end = self.turns(&mut state).await;
        if let End::Fault(fault) = end {
            self.outbox.end(fault).await;
        }
    }

    async fn turns(&mut self, state: &mut State) -> End {
        let mut idle = tokio::time::interval(Duration::from_millis(IDLE_INTERVAL_MS));
        idle.set_missed_tick_behavior(MissedTickBehavior::Delay);
        self.plans.mark_changed();
        loop {
            let turn = tokio::select! {
                biased;
                // 1. nobody listens any more
                () = self.outbox.closed() => return End::Closed,
                // 2. a backfill starts, goes on or is paused
                changed = self.plans.changed() => match changed {
                    Ok(()) => { self.plan(state); Ok(()) }
                    Err(_) => return End::Closed,
                },
                // 3. a position without rows, often enough
                _ = idle.tick(), if state.idle.is_some() && state.open.is_none() => self.idle(state).await,
                // 4. a backfill that can't read its pages
                fault = failed(&mut state.backfill) => return End::Fault(fault),
                // 5. new input
                chunk = self.replication.next() => match chunk {
                    Ok(mut chunk) => loop {
                        match chunk.next_event() {
                            Ok(Some(event)) => if let Err(end) = self.event(state, event).await { break Err(end) },
                            Ok(None) => break Ok(()),
                            Err(fault) => break Err(End::Fault(fault)),
                        }
                    },
                    Err(fault) => Err(End::Fault(fault)),
                },
            };
            if let Err(end) = turn {
                return end;
            }
        }
    }

    fn plan(&mut self, state: &mut State) {
        let plan = self.plans.borrow_and_update().clone();
        // Pages in flight of an earlier plan are dropped: their ranges are not in the log, so `next_from` has them.
        state.backfill = None;
        if let Some(plan) = plan {
            state.backfill = Some(Backfill::start(&self.pages, plan));
        }
    }

    async fn event(&mut self, state: &mut State, event: Event) -> Result<(), End> {
        match event {
            Event::Keepalive { end, at_us } => {
                self.reached.server.fetch_max(end.0, Ordering::AcqRel);
                if state.open.is_none() {
                    state.idle = Some((end, at_us));
                }
                Ok(())
            }
            Event::Data { payload, .. } => {
                // A future of its own, so that this one stays small.
                let message = Message::parse(&payload).map_err(rubbish)?;
                self.message(state, message, &payload).await
            }
        }
    }

    async fn message(&mut self, state: &mut State, message: Message<'_>, payload: &[u8]) -> Result<(), End> {
        match message {
            Message::Begin { commit, commit_us, xid } => {
                // The record of a commit at or before what is done starts below it.
                let skip = self.done.1.is_none() && commit < self.done.0.0;
                state.open = Some(Open { xid, commit_us, skip, bytes: 0, marks: Vec::new() });
            }
            Message::Commit { end } => {
                let open = state
                    .open
                    .take()
                    .ok_or_else(|| Fault::retry("the stream ended a transaction that it did not begin"))?;
                return Box::pin(self.commit(state, open, Lsn(end))).await;
            }
            Message::Relation(relation) => self.relations.announce(&relation)?,
            Message::Insert { oid, new }
            | Message::Update { oid, new, .. }
            | Message::Delete { oid, old: (_, new) } => {
                let Some(open) = state.open.as_mut().filter(|open| !open.skip) else { return Ok(()) };
                let Some(table) = self.relations.table(oid)? else { return Ok(()) };
                if new.len() != table.width() {
                    return Err(
                        Fault::retry("the stream brought a row of another width than its table").into()
                    );
                }
                open.bytes += payload.len();
                self.fold.row(table, &message, payload).await?;
            }
            Message::Truncate { oids } => {
                if state.open.as_ref().is_some_and(|open| !open.skip) {
                    for oid in oids {
                        if let Some(table) = self.relations.table(oid)? {
                            self.fold.truncate(table);
                        }
                    }
                }
            }
            Message::Emitted { prefix, content } => {
                if let (Some(open), Some(mark)) = (state.open.as_mut(), Mark::parse(prefix, content)) {
                    open.marks.push(mark);
                }
            }
            Message::Other => {}
        }
        Ok(())
    }

    /// The 64-bit id of a transaction of the stream: the one nearest to the last one known.
    fn xid(&mut self, xid: u32) -> u64 {
        let ahead = xid.wrapping_sub(self.near_xid as u32) as i32;
        let full = self.near_xid.wrapping_add_signed(i64::from(ahead));
        self.near_xid = self.near_xid.max(full);
        full
    }

    fn position(&self, commit: Lsn, done: Option<NativeId>) -> Position {
        Position { lane: self.lane.clone(), point: Point::Postgres { commit, done } }
    }

    async fn commit(&mut self, state: &mut State, open: Open, end: Lsn) -> Result<(), End> {
        let (done, part) = (self.done.0, self.done.1);
        if open.skip || end < done || (end == done && part.is_none()) {
            self.fold.clear();
            return Ok(());
        }
        let part = part.filter(|_| end == done);
        let xid = self.xid(open.xid);
        let mut committed = self.fold.commit().await?;
        if let Some(backfill) = &mut state.backfill {
            backfill.retain(xid, &committed, open.bytes);
        }
        if let Some(part) = part {
            // The first piece, with these, is in the log.
            committed.truncated.clear();
            committed.catalog.clear();
            if let Folded::Small(groups) = &mut committed.rows {
                groups.retain(|group| group.id > NativeId::Int(part));
            }
        }
        self.transaction(state, &open, end, committed, part).await?;
        for mark in &open.marks {
            self.mark(state, mark, end).await?;
        }
        Ok(())
    }

    async fn transaction(
        &mut self,
        state: &mut State,
        open: &Open,
        end: Lsn,
        committed: Committed,
        part: Option<i64>,
    ) -> Result<(), End> {
        let Committed { truncated, catalog, rows } = committed;
        let groups = match rows {
            Folded::Large(rows) => {
                let first = (truncated, catalog);
                return self.pieces(state, open, end, first, (rows, part)).await;
            }
            Folded::Small(groups) => groups,
        };
        if truncated.is_empty() && catalog.is_empty() && groups.is_empty() && part.is_none() {
            state.idle = Some((end, open.commit_us));
            return Ok(());
        }
        let position = self.position(end, None);
        let commit_time_us = open.commit_us;
        let transaction =
            Transaction { position, commit_time_us, truncated, catalog, groups, complete: true };
        self.put(state, SourceEvent::Transaction(transaction), open.bytes, end).await
    }

    async fn pieces(
        &mut self,
        state: &mut State,
        open: &Open,
        end: Lsn,
        (truncated, catalog): (Vec<Arc<str>>, Vec<rollcall_model::RowChange>),
        (rows, part): (Arc<SpilledRows>, Option<i64>),
    ) -> Result<(), End> {
        let mut pieces = make_pieces(rows, part, self.piece_rows);
        let mut first = Some((truncated, catalog));
        while let Some(piece) = pieces.recv().await {
            let Piece { groups, bytes, complete } = piece?;
            let (truncated, catalog) = first.take().unwrap_or_default();
            let last = groups.last().map(|group| group.id.clone()).filter(|_| !complete);
            let position = self.position(end, last);
            let commit_time_us = open.commit_us;
            let transaction = Transaction { position, commit_time_us, truncated, catalog, groups, complete };
            self.put(state, SourceEvent::Transaction(transaction), bytes, end).await?;
            if complete {
                return Ok(());
            }
        }
        Err(Fault::bug("the spilled rows of a large transaction ended before their end").into())
    }

    async fn put(&mut self, state: &mut State, event: SourceEvent, bytes: usize, at: Lsn) -> Result<(), End> {
        state.idle = None;
        self.outbox.put(event, bytes).await?;
        self.reached.yielded.fetch_max(at.0, Ordering::AcqRel);
        Ok(())
    }

    async fn idle(&mut self, state: &mut State) -> Result<(), End> {
        let Some((at, at_us)) = state.idle.take() else { return Ok(()) };
        if at.0 <= self.reached.yielded.load(Ordering::Acquire) || at < self.done.0 {
            return Ok(());
        }
        let event = SourceEvent::Idle { position: self.position(at, None), at_us };
        self.put(state, event, 1, at).await
    }

    /// The stream has reached the mark of a page: it may enter.
    async fn mark(&mut self, state: &mut State, mark: &Mark, end: Lsn) -> Result<(), End> {
        let position = self.position(end, None);
        let Some(backfill) = &mut state.backfill else { return Ok(()) };
        let reached = backfill.reached(mark, position).await?;
        if backfill.finished() {
            state.backfill = None;
        }
        if let Some((event, bytes)) = reached {
            self.put(state, event, bytes, end).await?;
        }
        Ok(())
    }
}

async fn failed(backfill: &mut Option<Backfill>) -> Fault {
    match backfill {
        Some(backfill) => backfill.failed().await,
        None => std::future::pending().await,
    }
}

struct Piece {
    groups: Vec<Group>,
    bytes: usize,
    complete: bool,
}

/// Merges the runs on a thread where waiting for the disk holds nobody up.
fn make_pieces(
    rows: Arc<SpilledRows>,
    part: Option<i64>,
    piece_rows: usize,
) -> mpsc::Receiver<Result<Piece, Fault>> {
    let (queue, pieces) = mpsc::channel(PIECES_AHEAD_MAX);
    tokio::task::spawn_blocking(move || {
        let made = || {
            let mut merge = rows.merge(part.map(|part| part.saturating_add(1)))?;
            let mut piece = merge.piece(piece_rows)?;
            loop {
                // The last piece is known to be the last one by what follows it.
                let next = merge.piece(piece_rows)?;
                let complete = next.0.is_empty();
                let (groups, bytes) = std::mem::replace(&mut piece, next);
                if queue.blocking_send(Ok(Piece { groups, bytes, complete })).is_err() || complete {
                    return Ok(());
                }
            }
        };
        if let Err(fault) = made() {
            // A consumer that is gone needs no fault.
            drop(queue.blocking_send(Err(fault)));
        }
    });
    pieces
}
