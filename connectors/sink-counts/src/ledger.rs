//! The ledger's statements, and what runs them: absolute counts in, differences out.
//!
//! Every statement here runs in a transaction that holds the ledger's lock ([`crate::session`]), so what one of them
//! reads is what the next one finds.

use std::collections::BTreeMap;

use rollcall_model::{CheckTotal, Fault, Fingerprint, Partition};
use tokio_postgres::Transaction;
use tokio_postgres::types::Type;

use crate::batch::{Counts, Pair, Watermarks, columns};
use crate::faults::fault;
use crate::plan::{Changed, State, Target};

/// Takes each count whose seq is greater; says per pair the sum of the differences, and whether a part was new or
/// changed its state. `old` is read in the snapshot of the statement, before it writes.
const TAKE: &str = "
    WITH batch AS (
        SELECT * FROM unnest($2::text[], $3::text[], $4::integer[], $5::bigint[], $6::text[], $7::bigint[],
                             $8::text[], $9::text[])
          AS b (segment_id, environment_id, partition, count, fingerprint, seq, state, reason)
    ), old AS MATERIALIZED (
        SELECT l.segment_id, l.environment_id, l.partition, l.count, l.state
        FROM batch JOIN rollcall_count AS l USING (segment_id, environment_id, partition)
    ), taken AS (
        INSERT INTO rollcall_count AS l
            (log_id, segment_id, environment_id, partition, count, fingerprint, seq, state, reason)
        SELECT $1, segment_id, environment_id, partition, count, fingerprint, seq, state, reason
        FROM batch ORDER BY segment_id, environment_id, partition
        ON CONFLICT (segment_id, environment_id, partition) DO UPDATE
        SET log_id = EXCLUDED.log_id, count = EXCLUDED.count, fingerprint = EXCLUDED.fingerprint,
            seq = EXCLUDED.seq, state = EXCLUDED.state, reason = EXCLUDED.reason
        WHERE l.seq < EXCLUDED.seq
        RETURNING l.segment_id, l.environment_id, l.partition, l.count, l.state
    )
    SELECT t.segment_id, t.environment_id, sum(t.count - coalesce(o.count, 0))::bigint,
           bool_or(o.state IS DISTINCT FROM t.state)
    FROM taken AS t LEFT JOIN old AS o USING (segment_id, environment_id, partition)
    GROUP BY 1, 2";

/// Takes each watermark whose seq is greater.
const TAKE_WATERMARKS: &str = "
    INSERT INTO rollcall_as_of AS w (log_id, source, partition, position, at_us, seq)
    SELECT $1, b.* FROM unnest($2::text[], $3::integer[], $4::text[], $5::bigint[], $6::bigint[]) AS b
    ORDER BY 2, 3
    ON CONFLICT (source, partition) DO UPDATE
    SET log_id = EXCLUDED.log_id, position = EXCLUDED.position, at_us = EXCLUDED.at_us, seq = EXCLUDED.seq
    WHERE w.seq < EXCLUDED.seq";

/// How the parts of pairs add up. A pair is what the most telling of its parts says: the partitions reach a change
/// of the catalog one after the other.
const TARGETS: &str = "
    SELECT l.segment_id, l.environment_id, sum(l.count)::bigint,
           CASE WHEN bool_or(l.state = 'removed') THEN 'removed'
                WHEN bool_or(l.state = 'unsupported') THEN 'unsupported'
                WHEN bool_or(l.state = 'filling') THEN 'filling' ELSE 'live' END,
           min(l.reason) FILTER (WHERE l.state = 'unsupported')
    FROM unnest($1::text[], $2::text[]) AS w (segment_id, environment_id)
    JOIN rollcall_count AS l USING (segment_id, environment_id)
    GROUP BY 1, 2";

/// What one partition holds, as the roster reports it: what it counts in whatever state, and not what is empty.
const TOTALS: &str = "
    SELECT segment_id, environment_id, count, fingerprint FROM rollcall_count
    WHERE partition = $1 AND count > 0
      AND ($2::text IS NULL OR (segment_id = $2 AND environment_id = $3))
    ORDER BY 1, 2";

/// Stores the counts of a batch that are newer than the ledger's; says what that changed, pair by pair.
pub(crate) async fn take(
    tx: &Transaction<'_>,
    log_id: &str,
    counts: &Counts,
) -> Result<BTreeMap<Pair, Changed>, Fault> {
    let rows = tx
        .query_typed(
            TAKE,
            &[
                (&log_id, Type::TEXT),
                (&counts.segment_ids, Type::TEXT_ARRAY),
                (&counts.environment_ids, Type::TEXT_ARRAY),
                (&counts.partitions, Type::INT4_ARRAY),
                (&counts.counts, Type::INT8_ARRAY),
                (&counts.fingerprints, Type::TEXT_ARRAY),
                (&counts.seqs, Type::INT8_ARRAY),
                (&counts.states, Type::TEXT_ARRAY),
                (&counts.reasons, Type::TEXT_ARRAY),
            ],
        )
        .await
        .map_err(|e| fault("storing counts in the ledger rollcall_count", e))?;
    rows.iter()
        .map(|row| Ok((pair(row)?, Changed { difference: row.try_get(2)?, restated: row.try_get(3)? })))
        .collect::<Result<_, tokio_postgres::Error>>()
        .map_err(|e| fault("reading what the ledger rollcall_count took", e))
}

/// Stores the watermarks of a batch that are newer.
pub(crate) async fn take_watermarks(
    tx: &Transaction<'_>,
    log_id: &str,
    watermarks: &Watermarks,
) -> Result<(), Fault> {
    tx.execute_typed(
        TAKE_WATERMARKS,
        &[
            (&log_id, Type::TEXT),
            (&watermarks.sources, Type::TEXT_ARRAY),
            (&watermarks.partitions, Type::INT4_ARRAY),
            (&watermarks.positions, Type::TEXT_ARRAY),
            (&watermarks.at_us, Type::INT8_ARRAY),
            (&watermarks.seqs, Type::INT8_ARRAY),
        ],
    )
    .await
    .map_err(|e| fault("storing watermarks in rollcall_as_of", e))?;
    Ok(())
}

/// What the ledger says of pairs; those it doesn't know are left out.
pub(crate) async fn targets(
    tx: &Transaction<'_>,
    pairs: impl Iterator<Item = &Pair>,
) -> Result<BTreeMap<Pair, Target>, Fault> {
    let (segments, environments) = columns(pairs);
    if segments.is_empty() {
        return Ok(BTreeMap::new());
    }
    let rows = tx
        .query_typed(TARGETS, &[(&segments, Type::TEXT_ARRAY), (&environments, Type::TEXT_ARRAY)])
        .await
        .map_err(|e| fault("summing the ledger rollcall_count", e))?;
    let mut targets = BTreeMap::new();
    for row in rows {
        let read = || -> Result<_, tokio_postgres::Error> {
            Ok((pair(&row)?, row.try_get(2)?, row.try_get::<_, String>(3)?, row.try_get(4)?))
        };
        let (pair, count, state, reason) = read().map_err(|e| fault("reading sums of the ledger", e))?;
        let state = State::by_name(&state)
            .ok_or_else(|| Fault::bug(format!("the ledger rollcall_count holds a state '{state}'")))?;
        targets.insert(pair, Target { count, state, reason });
    }
    Ok(targets)
}

/// What the ledger holds of a partition, or of one pair in it.
pub(crate) async fn totals(
    tx: &Transaction<'_>,
    partition: Partition,
    only: Option<&Pair>,
) -> Result<Vec<CheckTotal>, Fault> {
    let (segment, environment) = only.map(|p| (p.segment_id.as_str(), p.environment_id.as_str())).unzip();
    let rows = tx
        .query_typed(
            TOTALS,
            &[(&i32::from(partition.0), Type::INT4), (&segment, Type::TEXT), (&environment, Type::TEXT)],
        )
        .await
        .map_err(|e| fault("reading the ledger rollcall_count", e))?;
    let mut totals = Vec::with_capacity(rows.len());
    for row in rows {
        let read = || -> Result<_, tokio_postgres::Error> {
            Ok((pair(&row)?, row.try_get::<_, i64>(2)?, row.try_get::<_, String>(3)?))
        };
        let (pair, count, fingerprint) = read().map_err(|e| fault("reading the ledger rollcall_count", e))?;
        totals.push(CheckTotal {
            segment_id: pair.segment_id.into(),
            environment_id: Some(pair.environment_id.into()),
            environment_key: None,
            count: count.unsigned_abs(),
            fingerprint: Fingerprint::try_from(fingerprint)
                .map_err(|e| Fault::bug(format!("the ledger rollcall_count: {e}")))?,
        });
    }
    Ok(totals)
}

/// The first two columns of a row.
pub(crate) fn pair(row: &tokio_postgres::Row) -> Result<Pair, tokio_postgres::Error> {
    Ok(Pair { segment_id: row.try_get(0)?, environment_id: row.try_get(1)? })
}
