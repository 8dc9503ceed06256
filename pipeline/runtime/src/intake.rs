//! What a source's events become in the log: the platform's verdicts, in the order of PROTOCOL.md §3.
//!
//! Pure: events in, records out. The state that must survive is [`SourceState`], committed with the records.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use rollcall_model::catalog::CatalogEntry;
use rollcall_model::control::{Truncated, Unfound};
use rollcall_model::source::BackfillPlan;
use rollcall_model::{
    BackfillId, CatalogDoc, Change, ChangeRecord, Fault, IdentityKey, Input, NativeId, Page, Partition,
    Position, Precedence, Record, SourceEvent, SourceName, TableRole, Topic, Transaction,
};
use rollcall_platforms::{CatalogDelta, Platform};
use serde::{Deserialize, Serialize};

use crate::outgoing::{Outgoing, not_json};

/// What a source task must remember.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub(crate) struct SourceState {
    /// Everything up to here is in the log.
    pub(crate) position: Option<Position>,
    /// The source's clock there.
    pub(crate) at_us: i64,
    /// Its catalog number.
    pub(crate) catalog_number: u64,
    /// Backfills begun so far; the next one's name.
    pub(crate) backfills: u64,
    /// The one under way.
    pub(crate) backfill: Option<Backfill>,
    /// The last one that came to its end.
    #[serde(default)]
    pub(crate) backfill_done: Option<BackfillId>,
}

impl SourceState {
    /// What the next backfill will be called.
    pub(crate) fn next_backfill(&self, source: &str) -> String {
        format!("{source}-{}", self.backfills + 1)
    }
}

/// A backfill under way.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub(crate) struct Backfill {
    pub(crate) plan: BackfillPlan,
    pub(crate) paused: bool,
    pub(crate) rows: u64,
}

/// Turns events into records.
pub(crate) struct Intake {
    out: Outgoing,
    platform: Platform,
    roles: BTreeMap<&'static str, TableRole>,
    state: SourceState,
}

impl Intake {
    pub(crate) fn new(source: SourceName, partitions: u16, platform: Platform, state: SourceState) -> Self {
        let roles = platform.tables().into_iter().map(|table| (table.name, table.role)).collect();
        Self { out: Outgoing::new(source, partitions), platform, roles, state }
    }

    pub(crate) fn state(&self) -> &SourceState {
        &self.state
    }

    /// The backfill that the source should run now.
    pub(crate) fn plan(&self) -> Option<BackfillPlan> {
        self.state.backfill.as_ref().filter(|b| !b.paused).map(|b| b.plan.clone())
    }

    pub(crate) fn pending(&self) -> usize {
        self.out.len()
    }

    pub(crate) fn drain(&mut self) -> Vec<Record> {
        self.out.drain()
    }

    fn source(&self) -> SourceName {
        self.out.source().clone()
    }

    /// What the status page shows.
    pub(crate) fn facts(&self) -> Vec<(&'static str, serde_json::Value)> {
        let mut facts = vec![
            ("position", self.state.position.as_ref().map(ToString::to_string).into()),
            ("as_of_us", self.state.at_us.into()),
            ("backfill_done", self.state.backfill_done.as_ref().map(|id| id.0.clone()).into()),
        ];
        facts.push((
            "backfill",
            match &self.state.backfill {
                None => serde_json::Value::Null,
                Some(b) => serde_json::json!({
                    "id": b.plan.id.0,
                    "state": if b.paused { "paused" } else { "running" },
                    "done_through": b.plan.next_from.as_ref().map(ToString::to_string),
                    "rows": b.rows,
                }),
            },
        ));
        facts
    }

    /// Begins a whole backfill and says so in every partition; `gap` when the stream does not go on where it stood.
    ///
    /// # Errors
    /// A bug fault when a record can't be written as JSON.
    pub(crate) fn begin_backfill(&mut self, gap: bool) -> Result<String, Fault> {
        let id = self.state.next_backfill(self.out.source().as_str());
        self.state.backfills += 1;
        let plan = BackfillPlan { id: BackfillId(id.clone()), catalog: true, next_from: None };
        self.state.backfill = Some(Backfill { plan, paused: false, rows: 0 });
        let (source, backfill) = (self.source(), BackfillId(id.clone()));
        self.out.control(&Input::Begin { source, backfill, gap })?;
        Ok(id)
    }

    pub(crate) fn pause_backfill(&mut self, pause: bool) -> Option<String> {
        let backfill = self.state.backfill.as_mut()?;
        backfill.paused = pause;
        Some(backfill.plan.id.0.clone())
    }

    /// How far this source has come, for every partition.
    ///
    /// # Errors
    /// A bug fault when a record can't be written as JSON.
    pub(crate) fn watermark(&mut self) -> Result<(), Fault> {
        let Some(position) = &self.state.position else { return Ok(()) };
        let (source, position, at_us) = (self.source(), position.to_string(), self.state.at_us);
        self.out.control(&Input::Watermark { source, position, at_us })
    }

    /// Takes the next event.
    ///
    /// # Errors
    /// A bug fault when a record can't be written as JSON.
    pub(crate) fn take(&mut self, event: SourceEvent) -> Result<(), Fault> {
        match event {
            SourceEvent::Transaction(transaction) => self.transaction(transaction),
            SourceEvent::Catalog(snapshot) => {
                let delta = self.platform.catalog_snapshot(&snapshot.tables);
                self.catalog(delta, &snapshot.position)?;
                if let Some(backfill) = &mut self.state.backfill {
                    backfill.plan.catalog = false;
                }
                self.moved(snapshot.position, snapshot.read_time_us);
                Ok(())
            }
            SourceEvent::Page(page) => self.page(page),
            SourceEvent::Idle { position, at_us } => {
                self.moved(position, at_us);
                Ok(())
            }
        }
    }

    fn moved(&mut self, position: Position, at_us: i64) {
        self.state.position = Some(position);
        self.state.at_us = self.state.at_us.max(at_us);
    }

    fn transaction(&mut self, transaction: Transaction) -> Result<(), Fault> {
        let Transaction { position, commit_time_us, truncated, catalog, groups, complete } = transaction;
        if !catalog.is_empty() || !truncated.is_empty() {
            let delta = self.platform.catalog(&catalog, &truncated);
            self.catalog(delta, &position)?;
        }
        for table in &truncated {
            self.truncate(table, commit_time_us)?;
        }
        for group in &groups {
            if let Some(change) = self.platform.change(group) {
                self.change(group.id.clone(), change, commit_time_us, &position, None)?;
            }
        }
        // `as_of` reaches a commit only with its last piece.
        let at_us = if complete { commit_time_us } else { self.state.at_us };
        self.moved(position, at_us);
        Ok(())
    }

    fn truncate(&mut self, table: &Arc<str>, source_time_us: i64) -> Result<(), Fault> {
        let what = match self.roles.get(&**table) {
            Some(TableRole::Identity { .. }) => Truncated::Identities,
            Some(TableRole::IdentityPart { .. }) => Truncated::Traits,
            Some(TableRole::Catalog { .. }) | None => return Ok(()),
        };
        self.out.control(&Input::Truncate { source: self.source(), what, source_time_us })
    }

    fn catalog(&mut self, delta: CatalogDelta, position: &Position) -> Result<(), Fault> {
        for row in delta.rows {
            let value = row.row.as_ref().map(serde_json::to_vec).transpose().map_err(not_json)?;
            self.out.shared(Topic::CatalogRows, format!("{}/{}", self.out.source(), row.key), value);
        }
        for (nth, rejected) in delta.rejected.into_iter().enumerate() {
            let name = format!("{position}/{nth}");
            self.out.quarantine(&name, rejected.reason, rejected.raw, position.to_string())?;
        }
        self.documents(delta.docs)
    }

    /// What the kept rows say otherwise than before, although none of them changed.
    ///
    /// # Errors
    /// A bug fault when a record can't be written as JSON.
    pub(crate) fn catch_up(&mut self, delta: CatalogDelta) -> Result<(), Fault> {
        self.documents(delta.docs)
    }

    fn documents(&mut self, docs: Vec<CatalogDoc>) -> Result<(), Fault> {
        if docs.is_empty() {
            return Ok(());
        }
        self.state.catalog_number += 1;
        let number = self.state.catalog_number;
        for doc in docs {
            let entry = CatalogEntry { writer: self.source(), number, doc };
            let value = serde_json::to_vec(&entry).map_err(not_json)?;
            self.out.shared(Topic::Catalog, entry.doc.key(), Some(value));
        }
        self.out.control(&Input::Catalog { writer: self.source(), number })
    }

    fn page(&mut self, page: Page) -> Result<(), Fault> {
        let Page { backfill, from, to, position, read_time_us, groups, broken } = page;
        let mut present: Vec<BTreeSet<NativeId>> = vec![BTreeSet::new(); usize::from(self.out.partitions())];
        let ids = groups.iter().map(|group| &group.id).chain(broken.iter().map(|(id, _)| id));
        for id in ids {
            let partition = self.key(id).partition(self.out.partitions());
            if let Some(set) = present.get_mut(usize::from(partition.0)) {
                set.insert(id.clone());
            }
        }
        for (partition, present) in (0..self.out.partitions()).map(Partition).zip(present) {
            let input = Input::Page {
                source: self.source(),
                backfill: backfill.clone(),
                from: from.clone(),
                to: to.clone(),
                present,
                source_time_us: read_time_us,
            };
            self.out.control_in(partition, &input)?;
        }
        if let Some(running) = &mut self.state.backfill {
            running.rows += groups.len() as u64;
            running.plan.next_from.clone_from(&to);
        }
        for group in &groups {
            let change = self.platform.page_change(group);
            self.change(group.id.clone(), change, read_time_us, &position, Some(&backfill))?;
        }
        for (id, reason) in broken {
            let change = Change::Invalid { reason, raw: String::new() };
            self.change(id, change, read_time_us, &position, Some(&backfill))?;
        }
        if to.is_none() {
            self.state.backfill = None;
            self.state.backfill_done = Some(backfill.clone());
            self.out.control(&Input::End { source: self.source(), backfill, unfound: Unfound::Stay })?;
        }
        self.moved(position, read_time_us);
        Ok(())
    }

    fn key(&self, id: &NativeId) -> IdentityKey {
        IdentityKey { source: self.source(), id: id.clone() }
    }

    fn change(
        &mut self,
        id: NativeId,
        change: Change,
        source_time_us: i64,
        position: &Position,
        backfill: Option<&BackfillId>,
    ) -> Result<(), Fault> {
        let record = ChangeRecord {
            source: self.source(),
            id,
            change,
            source_time_us,
            position: position.to_string(),
            backfill: backfill.cloned(),
            precedence: Precedence::Place,
        };
        self.out.change(record, position.lane.to_string())
    }
}
