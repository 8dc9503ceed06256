//! The sink: one transaction per batch.
//!
//! ```text
//! [Delivery] ─merge─▶ counts, watermarks
//!   BEGIN, lock the ledger
//!     ledger takes what is newer ─▶ difference per (segment, environment)
//!     platform's rows locked, in order ─▶ what they say
//!     ledger's sums, where a difference is not enough
//!     plan (pure) ─▶ set, remove, add
//!   COMMIT
//! ```
//!
//! A replay takes nothing, so it changes nothing; a crash leaves the old state or the new one. `reconcile` goes the
//! same way with no differences: every row that is not what the ledger says takes the ledger's sum.

use std::collections::{BTreeMap, BTreeSet};

use rollcall_model::log::Fut;
use rollcall_model::sink::CheckRequest;
use rollcall_model::{CheckReport, CheckScope, Delivery, Fault, LogId, Partition, Sink, Topic, Written};
use rollcall_postgres_wire::ConnectConfig;
use tokio_postgres::Transaction;
use tokio_postgres::types::Type;

use crate::batch::{Pair, columns, merge};
use crate::config::{CountsSinkConfig, Preset};
use crate::faults::fault;
use crate::plan::{Changed, Existing, NewRow, Plan, needs_target, plan};
use crate::rows::RowSql;
use crate::session::Session;
use crate::{ledger, tables};

/// Rows that one reconcile repairs, and lines that one check shows; more are left to the next.
const DIFFERENCES_ROWS_MAX: i64 = 10_000;

/// Keeps a platform's count rows equal to what the rosters counted.
#[derive(Debug)]
pub struct CountsSink {
    name: String,
    preset: Preset,
    schema: String,
    rows: &'static RowSql,
    session: Session,
    /// The log it was prepared for.
    log: Option<LogId>,
}

impl CountsSink {
    /// Connects; touches no table yet.
    ///
    /// # Errors
    /// A [`Fault`]: `Config` for a wrong url, password or database, `Retry` for a server that can't be reached.
    pub async fn connect(config: CountsSinkConfig) -> Result<Self, Fault> {
        let url = ConnectConfig::parse(&config.url)?;
        Ok(Self {
            session: Session::open(url, config.schema.clone()).await?,
            name: config.name,
            preset: config.preset,
            schema: config.schema,
            rows: RowSql::of(config.preset),
            log: None,
        })
    }

    fn log(&self) -> Result<LogId, Fault> {
        self.log
            .clone()
            .ok_or_else(|| Fault::bug(format!("the sink '{}' was used before prepare", self.name)))
    }

    async fn write_batch(&mut self, deliveries: &[Delivery]) -> Result<Written, Fault> {
        let log = self.log()?;
        let batch = merge(deliveries, &log, self.preset)?;
        let written =
            Written { rows: (deliveries.len() - batch.rejected.len()) as u64, rejected: batch.rejected };
        if batch.counts.is_empty() && batch.watermarks.is_empty() {
            return Ok(written);
        }
        let tx = self.session.begin_owned(&log).await?;
        // First, so that rows written beside them show the time that this batch brings.
        if !batch.watermarks.is_empty() {
            ledger::take_watermarks(&tx, &log.0, &batch.watermarks).await?;
        }
        if !batch.counts.is_empty() {
            let changed = ledger::take(&tx, &log.0, &batch.counts).await?;
            apply(&tx, self.preset, &changed).await?;
        }
        tx.commit().await.map_err(|e| fault("committing a batch of counts", e))?;
        Ok(written)
    }

    async fn reconcile_rows(&mut self) -> Result<Vec<String>, Fault> {
        let log = self.log()?;
        let (preset, table) = (self.preset, self.rows.table);
        let tx = self.session.begin_owned(&log).await?;
        let found = differences(&tx, preset, DIFFERENCES_ROWS_MAX).await?;
        let all = Changed { difference: 0, restated: true };
        let changed = found.iter().map(|d| (d.pair.clone(), all)).collect();
        let applied = apply(&tx, preset, &changed).await?;
        tx.commit().await.map_err(|e| fault("committing repaired counts", e))?;
        let mut lines: Vec<String> = found
            .iter()
            .map(|d| {
                let Pair { segment_id, environment_id } = &d.pair;
                let was = applied.before.get(&d.pair).map_or_else(|| d.actual.clone(), ToString::to_string);
                let now = applied.after.get(&d.pair).map_or_else(|| "absent".to_owned(), ToString::to_string);
                format!(
                    "repaired {table}: segment {segment_id}, environment {environment_id} said {was} \
                     and says {now} now, as the ledger does: another writer had changed it"
                )
            })
            .collect();
        if found.len() as i64 == DIFFERENCES_ROWS_MAX {
            lines.push(format!(
                "{table} differed in {DIFFERENCES_ROWS_MAX} rows or more: the rest is left to the next round"
            ));
        }
        Ok(lines)
    }

    async fn report(&mut self, request: &CheckRequest) -> Result<CheckReport, Fault> {
        let log = self.log()?;
        let (preset, table) = (self.preset, self.rows.table);
        let only = match &request.scope {
            CheckScope::Totals => None,
            CheckScope::Buckets { segment_id, environment_id }
            | CheckScope::Members { segment_id, environment_id, .. } => Some(Pair {
                segment_id: segment_id.as_str().to_owned(),
                environment_id: environment_id.as_str().to_owned(),
            }),
        };
        let tx = self.session.begin_snapshot(&log).await?;
        let totals = ledger::totals(&tx, request.partition, only.as_ref()).await?;
        // The platform's rows belong to no partition: the first one speaks for them.
        let found = if request.partition == Partition(0) {
            differences(&tx, preset, DIFFERENCES_ROWS_MAX).await?
        } else {
            Vec::new()
        };
        tx.commit().await.map_err(|e| fault("ending a check", e))?;
        let asked = |d: &&Difference| !d.waits && only.as_ref().is_none_or(|pair| *pair == d.pair);
        let differences = found.iter().filter(asked).map(|d| {
            format!(
                "segment {}, environment {}: {table} says {}, the ledger rollcall_count says {}",
                d.pair.segment_id, d.pair.environment_id, d.actual, d.expected
            )
        });
        Ok(CheckReport {
            id: request.id.clone(),
            store: self.name.clone(),
            partition: request.partition,
            totals,
            differences: differences.collect(),
            ..CheckReport::default()
        })
    }
}

impl Sink for CountsSink {
    fn reads(&self) -> &'static [Topic] {
        &[Topic::SegmentCounts]
    }

    fn prepare<'a>(&'a mut self, log: &'a LogId, partitions: u16) -> Fut<'a, ()> {
        Box::pin(async move {
            tables::prepare(&mut self.session, self.preset, &self.schema, log, partitions).await?;
            self.log = Some(log.clone());
            Ok(())
        })
    }

    fn write<'a>(&'a mut self, batch: &'a [Delivery]) -> Fut<'a, Written> {
        Box::pin(self.write_batch(batch))
    }

    /// Totals of the partition from the ledger; with partition 0 also where the platform's rows differ from the
    /// ledger's sums, both read in one snapshot. The sink knows no identities: for buckets and members it gives the
    /// total of the pair.
    fn check<'a>(&'a mut self, request: &'a CheckRequest) -> Fut<'a, CheckReport> {
        Box::pin(self.report(request))
    }

    fn reconcile(&mut self) -> Fut<'_, Vec<String>> {
        Box::pin(self.reconcile_rows())
    }

    /// Also takes the platform's rows of all pairs that the ledger knew.
    fn reset<'a>(&'a mut self, log: &'a LogId) -> Fut<'a, ()> {
        Box::pin(async move {
            tables::reset(&mut self.session, self.preset, &self.schema, self.rows.clear, log).await?;
            self.log = None;
            Ok(())
        })
    }
}

/// What happened to the platform's rows.
#[derive(Debug, Default)]
struct Applied {
    /// What the rows said, where there were any.
    before: BTreeMap<Pair, i64>,
    /// What they say now, where there are any.
    after: BTreeMap<Pair, i64>,
}

/// Brings the platform's rows of changed pairs to what the ledger says.
async fn apply(
    tx: &Transaction<'_>,
    preset: Preset,
    changed: &BTreeMap<Pair, Changed>,
) -> Result<Applied, Fault> {
    if changed.values().all(|change| change.difference == 0 && !change.restated) {
        return Ok(Applied::default());
    }
    let sql = RowSql::of(preset);
    let existing = lock_rows(tx, sql, changed.keys()).await?;
    let asks = |pair: &Pair, change: &Changed| needs_target(*change, existing.get(pair).copied());
    let targets =
        ledger::targets(tx, changed.iter().filter(|(pair, change)| asks(pair, change)).map(|(p, _)| p))
            .await?;
    let plan = plan(preset, changed, &existing, &targets);
    let before: BTreeMap<_, _> = existing.into_iter().map(|(pair, row)| (pair, row.count)).collect();
    let mut after = before.clone();
    run(tx, sql, &plan, &mut after).await?;
    Ok(Applied { before, after })
}

/// Locks the rows of pairs, in order.
async fn lock_rows(
    tx: &Transaction<'_>,
    sql: &RowSql,
    pairs: impl Iterator<Item = &Pair>,
) -> Result<BTreeMap<Pair, Existing>, Fault> {
    let doing = |e| fault(&format!("locking rows of {}", sql.table), e);
    let (segments, environments) = columns(pairs);
    let rows = tx
        .query_typed(sql.lock, &[(&segments, Type::TEXT_ARRAY), (&environments, Type::TEXT_ARRAY)])
        .await
        .map_err(doing)?;
    rows.iter()
        .map(|row| Ok((ledger::pair(row)?, Existing { count: row.try_get(2)?, live: row.try_get(3)? })))
        .collect::<Result<_, tokio_postgres::Error>>()
        .map_err(doing)
}

/// Carries a plan out and keeps `after` in step.
async fn run(
    tx: &Transaction<'_>,
    sql: &RowSql,
    plan: &Plan,
    after: &mut BTreeMap<Pair, i64>,
) -> Result<(), Fault> {
    let doing = |e| fault(&format!("writing rows of {}", sql.table), e);
    if !plan.set.is_empty() {
        NewRows::of(&plan.set).query(tx, sql.set).await.map_err(doing)?;
        after.extend(plan.set.iter().map(|row| (row.pair.clone(), row.count)));
    }
    if !plan.remove.is_empty() {
        let (segments, environments) = columns(plan.remove.iter());
        tx.execute_typed(sql.remove, &[(&segments, Type::TEXT_ARRAY), (&environments, Type::TEXT_ARRAY)])
            .await
            .map_err(doing)?;
        for pair in &plan.remove {
            after.remove(pair);
        }
    }
    if !plan.add.is_empty() {
        let rows = NewRows::of(&plan.add).query(tx, sql.add).await.map_err(doing)?;
        let added: BTreeSet<Pair> = rows.iter().map(ledger::pair).collect::<Result<_, _>>().map_err(doing)?;
        let stands = plan.add.iter().filter(|row| added.contains(&row.pair));
        after.extend(stands.map(|row| (row.pair.clone(), row.count)));
    }
    Ok(())
}

/// Rows as array parameters.
struct NewRows<'a> {
    segments: Vec<&'a str>,
    environments: Vec<&'a str>,
    counts: Vec<i64>,
    states: Vec<Option<&'static str>>,
    reasons: Vec<Option<&'a str>>,
}

impl<'a> NewRows<'a> {
    fn of(rows: &'a [NewRow]) -> Self {
        let (segments, environments) = columns(rows.iter().map(|row| &row.pair));
        Self {
            segments,
            environments,
            counts: rows.iter().map(|row| row.count).collect(),
            states: rows.iter().map(|row| row.state.map(|state| state.name())).collect(),
            reasons: rows.iter().map(|row| row.reason.as_deref()).collect(),
        }
    }

    async fn query(
        &self,
        tx: &Transaction<'_>,
        sql: &str,
    ) -> Result<Vec<tokio_postgres::Row>, tokio_postgres::Error> {
        tx.query_typed(
            sql,
            &[
                (&self.segments, Type::TEXT_ARRAY),
                (&self.environments, Type::TEXT_ARRAY),
                (&self.counts, Type::INT8_ARRAY),
                (&self.states, Type::TEXT_ARRAY),
                (&self.reasons, Type::TEXT_ARRAY),
            ],
        )
        .await
    }
}

/// A row that is not what the ledger says.
struct Difference {
    pair: Pair,
    actual: String,
    expected: String,
    /// The platform has deleted its segment or environment and the record that takes the row is on its way: nothing
    /// that a check should be alarmed by.
    waits: bool,
}

async fn differences(tx: &Transaction<'_>, preset: Preset, rows_max: i64) -> Result<Vec<Difference>, Fault> {
    let sql = RowSql::of(preset);
    let doing = |e| fault(&format!("comparing {} with the ledger rollcall_count", sql.table), e);
    let rows = tx.query_typed(sql.differences, &[(&rows_max, Type::INT8)]).await.map_err(doing)?;
    rows.iter()
        .map(|row| {
            Ok(Difference {
                pair: ledger::pair(row)?,
                actual: row.try_get(2)?,
                expected: row.try_get(3)?,
                waits: row.try_get(4)?,
            })
        })
        .collect::<Result<_, tokio_postgres::Error>>()
        .map_err(doing)
}
