//! The sink: prepares its tables, writes batches, answers checks.

use std::ops::Range;

use arrow_array::RecordBatch;
use rollcall_columns::{MembershipRow, identities_batch, memberships_batch};
use rollcall_model::sink::CheckRequest;
use rollcall_model::{
    CheckReport, Delivery, Fault, Fut, IdentityRecord, LogId, OutRecord, Rejected, Sink, Topic, Written,
};

use crate::check;
use crate::config::ClickHouseSinkConfig;
use crate::insert::insert;
use crate::rebuild;
use crate::supersede::supersede;
use crate::tables::{
    DATABASE, IDENTITIES, Inventory, MEMBERS_BY_IDENTITY, MEMBERS_BY_SEGMENT, Notes, REBUILD_DATABASE,
    TABLES, check_version, create_database, create_notes, create_table, create_views,
};
use crate::wire::{InsertError, REBUILD, Wire};

/// Records per Arrow batch: bounds what is encoded at once.
const RECORDS_PER_BATCH: usize = 8_192;
/// When a server will not take more rows of one batch than this, it is the table that is wrong, not the rows.
const REJECTED_MAX: usize = 100;

/// The columnar mirror (see the crate's page).
///
/// **Rejected rows.** When an insert fails for what stands in a row, the batch is halved until the row is alone; it is
/// named in [`Written::rejected`] and everything else goes in. Inserting a half again changes nothing, since versions
/// decide.
///
/// **Rebuilds.** After [`Sink::reset`] the runtime delivers `identities` and `memberships` from their start beside
/// `membership-changes`; rows go to new tables, and [`Sink::rebuilt`] shows them. Checks read what readers see, so a
/// `verify` during a rebuild tells the old tables.
pub struct ClickHouseSink {
    config: ClickHouseSinkConfig,
    pub(crate) wire: Wire,
    notes: Notes,
    /// Tables of their own that rows go to instead ([`crate::NewTables`]).
    pub(crate) aside: Option<String>,
}

impl std::fmt::Debug for ClickHouseSink {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ClickHouseSink").field("config", &self.config).finish_non_exhaustive()
    }
}

impl ClickHouseSink {
    /// A sink for a server. Talks to it only from [`Sink::prepare`] on.
    ///
    /// # Errors
    /// [`rollcall_model::FaultKind::Config`] when the URL can't be one.
    pub fn connect(config: ClickHouseSinkConfig) -> Result<Self, Fault> {
        let wire = Wire::new(&config)?;
        Ok(Self { config, wire, notes: Notes::default(), aside: None })
    }

    /// The database that rows go to: the one readers see, or the one being filled.
    fn database(&self) -> &str {
        match &self.aside {
            Some(database) => database,
            None if self.notes.rebuild.is_empty() => DATABASE,
            None => REBUILD_DATABASE,
        }
    }

    async fn prepare_tables(&mut self, log: &LogId) -> Result<(), Fault> {
        check_version(&self.wire).await?;
        create_database(&self.wire, DATABASE).await?;
        let shown = Inventory::of(&self.wire, DATABASE).await?;
        self.notes =
            if shown.tables.contains_key("sink") { Notes::read(&self.wire).await? } else { Notes::default() };
        self.refuse_another_log(log, &shown).await?;
        let database = if self.notes.rebuild.is_empty() { DATABASE } else { REBUILD_DATABASE };
        let target =
            if database == DATABASE { shown } else { Inventory::of(&self.wire, REBUILD_DATABASE).await? };
        for table in &TABLES {
            match target.tables.get(table.name) {
                Some(facts) => target.check(table, facts)?,
                None if database == DATABASE => create_table(&self.wire, DATABASE, table.ddl).await?,
                None => {
                    return Err(Fault::refused(format!(
                        "a rebuild was under way and its table {REBUILD_DATABASE}.{} is gone",
                        table.name
                    ))
                    .repair(REBUILD));
                }
            }
        }
        if self.notes.log_id.is_none() {
            create_notes(&self.wire, DATABASE).await?;
            self.notes.log_id = Some(log.clone());
            self.notes.write(&self.wire).await?;
        }
        if database == DATABASE { self.show().await } else { Ok(()) }
    }

    /// Offsets and seqs of two logs say nothing about each other: rows of another log must not be mixed with ours.
    async fn refuse_another_log(&self, log: &LogId, shown: &Inventory) -> Result<(), Fault> {
        match &self.notes.log_id {
            Some(known) if known == log => Ok(()),
            Some(known) => Err(Fault::refused(format!(
                "the ClickHouse tables in database {DATABASE} are fed by log {known}; this is log {log}, so their rows \
                 would be taken for ours"
            ))
            .repair(REBUILD)),
            None => {
                for table in TABLES.iter().filter(|t| shown.tables.contains_key(t.name)) {
                    if check::holds_rows(&self.wire, table).await? {
                        return Err(Fault::refused(format!(
                            "ClickHouse table {DATABASE}.{} holds rows, and nothing says of which log",
                            table.name
                        ))
                        .repair(REBUILD));
                    }
                }
                Ok(())
            }
        }
    }

    async fn show(&self) -> Result<(), Fault> {
        create_views(&self.wire, self.config.preset, &self.config.database).await
    }

    pub(crate) async fn write_batch(&self, batch: &[Delivery]) -> Result<Written, Fault> {
        let mut written = Written::default();
        // Halves still to insert, the first last.
        let mut ranges: Vec<Range<usize>> = Vec::new();
        ranges.push(0..batch.len());
        while let Some(range) = ranges.pop() {
            match self.insert_range(&batch[range.clone()]).await {
                Ok(rows) => written.rows += rows,
                Err(InsertError::Fault(fault)) => return Err(fault),
                Err(InsertError::Row(reason)) if range.len() == 1 => {
                    written.rejected.push(Rejected { index: range.start, reason });
                    if written.rejected.len() > REJECTED_MAX {
                        return Err(Fault::refused(format!(
                            "ClickHouse will not take more than {REJECTED_MAX} rows of one batch: its tables are not as \
                             they were when the sink started (a constraint, a changed column)"
                        ))
                        .repair(REBUILD));
                    }
                }
                Err(InsertError::Row(_)) => {
                    let middle = range.start + range.len() / 2;
                    ranges.push(middle..range.end);
                    ranges.push(range.start..middle);
                }
            }
        }
        Ok(written)
    }

    async fn insert_range(&self, batch: &[Delivery]) -> Result<u64, InsertError> {
        let (identities, memberships) = to_arrow(batch)?;
        let database = self.database();
        let mut rows = insert(&self.wire, database, &IDENTITIES, &identities).await?;
        for table in [&MEMBERS_BY_SEGMENT, &MEMBERS_BY_IDENTITY] {
            rows += insert(&self.wire, database, table, &memberships).await?;
        }
        rows += supersede(&self.wire, database, batch).await?;
        Ok(rows)
    }
}

/// The rows of a batch, by schema.
fn to_arrow(batch: &[Delivery]) -> Result<(Vec<RecordBatch>, Vec<RecordBatch>), Fault> {
    let mut identities: Vec<&IdentityRecord> = Vec::new();
    let mut memberships: Vec<MembershipRow<'_>> = Vec::new();
    for delivery in batch {
        match &delivery.record {
            OutRecord::Identity(record) => identities.push(record),
            OutRecord::MembershipChange(change) => {
                memberships.push(MembershipRow::Change(delivery.partition, change));
            }
            OutRecord::Membership(record) => {
                memberships.push(MembershipRow::Current(delivery.partition, record));
            }
            // Not of the topics that it reads.
            OutRecord::Count(_) | OutRecord::Watermark(_) => (),
        }
    }
    let identities = identities.chunks(RECORDS_PER_BATCH).map(|c| identities_batch(c.iter().copied()));
    let memberships = memberships.chunks(RECORDS_PER_BATCH).map(|c| memberships_batch(c.iter().copied()));
    Ok((identities.collect::<Result<_, _>>()?, memberships.collect::<Result<_, _>>()?))
}

impl Sink for ClickHouseSink {
    fn reads(&self) -> &'static [Topic] {
        &[Topic::Identities, Topic::MembershipChanges]
    }

    fn prepare<'a>(&'a mut self, log: &'a LogId, _partitions: u16) -> Fut<'a, ()> {
        Box::pin(self.prepare_tables(log))
    }

    fn write<'a>(&'a mut self, batch: &'a [Delivery]) -> Fut<'a, Written> {
        Box::pin(self.write_batch(batch))
    }

    fn check<'a>(&'a mut self, request: &'a CheckRequest) -> Fut<'a, CheckReport> {
        Box::pin(check::check(&self.wire, &self.config.name, request))
    }

    fn reconcile(&mut self) -> Fut<'_, Vec<String>> {
        // Nobody else writes these tables; `check` would see it.
        Box::pin(async { Ok(Vec::new()) })
    }

    fn reset<'a>(&'a mut self, log: &'a LogId) -> Fut<'a, ()> {
        Box::pin(async move {
            check_version(&self.wire).await?;
            rebuild::begin(&self.wire, log).await?;
            self.notes = Notes::read(&self.wire).await?;
            Ok(())
        })
    }

    fn rebuilt(&mut self) -> Fut<'_, ()> {
        Box::pin(async move {
            if !self.notes.rebuild.is_empty() {
                rebuild::finish(&self.wire, &self.notes).await?;
                self.notes.rebuild.clear();
                self.show().await?;
            }
            Ok(())
        })
    }
}
