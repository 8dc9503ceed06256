//! The statements that touch the platform's count rows: one set per preset, with the same parameters and results, all
//! over arrays. Table names are without schema: the search path is set in every transaction.

use crate::config::Preset;

/// The statements of a preset. `$1` and `$2` are always segment and environment ids as text, in equal positions.
#[derive(Debug)]
pub(crate) struct RowSql {
    /// The table, as messages name it.
    pub(crate) table: &'static str,
    /// Locks the rows of pairs in order: segment, environment, count, live.
    pub(crate) lock: &'static str,
    /// Sets rows. `$3` counts, `$4` states, `$5` reasons; a NULL state leaves both.
    pub(crate) set: &'static str,
    /// Deletes the rows of pairs.
    pub(crate) remove: &'static str,
    /// Inserts rows, parameters as `set`. Says which came to stand: segment, environment.
    pub(crate) add: &'static str,
    /// Rows that differ from the ledger: segment, environment, what the row says, what it should say, and whether it
    /// only waits for the record that takes what the platform has just deleted. `$1` is how many at most.
    pub(crate) differences: &'static str,
    /// Deletes the rows that the ledger knows.
    pub(crate) clear: &'static str,
}

impl RowSql {
    /// The statements of a preset.
    pub(crate) fn of(preset: Preset) -> &'static Self {
        match preset {
            Preset::Native => &NATIVE,
            Preset::Flagsmith => &FLAGSMITH,
        }
    }
}

/// Flagsmith's own rows. Its ids are integers; zero is no row; `last_synced_at` is the time of the source up to which
/// the count is complete, and the time of writing only as long as no such time is known.
///
/// Only `add` needs segment and environment to exist, and locks them against a hard delete until COMMIT: the foreign
/// keys are deferred, so a missing one would be noticed at COMMIT and stop the sink there for ever. They are locked
/// after the count rows, in the order in which a deleting platform does.
static FLAGSMITH: RowSql = RowSql {
    table: "segment_membership_segmentmembershipcount",
    lock: "
        SELECT p.segment_id::text, p.environment_id::text, p.count::bigint, s.id IS NOT NULL AND e.id IS NOT NULL
        FROM unnest($1::text[], $2::text[]) AS w (segment_id, environment_id)
        JOIN segment_membership_segmentmembershipcount AS p
          ON p.segment_id = w.segment_id::integer AND p.environment_id = w.environment_id::integer
        LEFT JOIN segments_segment AS s ON s.id = p.segment_id AND s.deleted_at IS NULL
        LEFT JOIN environments_environment AS e ON e.id = p.environment_id AND e.deleted_at IS NULL
        ORDER BY p.segment_id, p.environment_id
        FOR UPDATE OF p",
    set: "
        UPDATE segment_membership_segmentmembershipcount AS p
        SET count = w.count, last_synced_at = coalesce((SELECT as_of FROM rollcall_count_as_of), now())
        FROM unnest($1::text[], $2::text[], $3::bigint[], $4::text[], $5::text[])
          AS w (segment_id, environment_id, count, state, reason)
        WHERE p.segment_id = w.segment_id::integer AND p.environment_id = w.environment_id::integer",
    remove: "
        DELETE FROM segment_membership_segmentmembershipcount AS p
        USING unnest($1::text[], $2::text[]) AS w (segment_id, environment_id)
        WHERE p.segment_id = w.segment_id::integer AND p.environment_id = w.environment_id::integer",
    add: "
        WITH wanted AS MATERIALIZED (
            SELECT w.segment_id::integer, w.environment_id::integer, w.count
            FROM unnest($1::text[], $2::text[], $3::bigint[], $4::text[], $5::text[])
              AS w (segment_id, environment_id, count, state, reason)
        ), segments AS MATERIALIZED (
            SELECT id FROM segments_segment
            WHERE id IN (SELECT segment_id FROM wanted) AND deleted_at IS NULL
            ORDER BY id FOR KEY SHARE
        ), environments AS MATERIALIZED (
            SELECT id FROM environments_environment
            WHERE id IN (SELECT environment_id FROM wanted) AND deleted_at IS NULL
            ORDER BY id FOR KEY SHARE
        )
        INSERT INTO segment_membership_segmentmembershipcount AS p
            (segment_id, environment_id, count, last_synced_at)
        SELECT w.segment_id, w.environment_id, w.count, coalesce((SELECT as_of FROM rollcall_count_as_of), now())
        FROM wanted AS w
        JOIN segments AS s ON s.id = w.segment_id
        JOIN environments AS e ON e.id = w.environment_id
        ORDER BY w.segment_id, w.environment_id
        ON CONFLICT (segment_id, environment_id)
        DO UPDATE SET count = EXCLUDED.count, last_synced_at = EXCLUDED.last_synced_at
        RETURNING p.segment_id::text, p.environment_id::text",
    differences: "
        WITH sums AS (
            SELECT segment_id::integer, environment_id::integer, sum(count) AS count
            FROM rollcall_count
            GROUP BY 1, 2
            HAVING sum(count) > 0 AND NOT bool_or(state IN ('unsupported', 'removed'))
        ), expected AS (
            SELECT l.segment_id, l.environment_id, l.count, s.id IS NOT NULL AND e.id IS NOT NULL AS live
            FROM sums AS l
            LEFT JOIN segments_segment AS s ON s.id = l.segment_id AND s.deleted_at IS NULL
            LEFT JOIN environments_environment AS e ON e.id = l.environment_id AND e.deleted_at IS NULL
        )
        SELECT segment_id::text, environment_id::text, coalesce(p.count::text, 'absent'),
               CASE WHEN x.live THEN x.count::text ELSE 'absent' END,
               coalesce(NOT x.live AND p.count = x.count, false)
        FROM expected AS x
        FULL JOIN segment_membership_segmentmembershipcount AS p USING (segment_id, environment_id)
        WHERE p.count IS DISTINCT FROM CASE WHEN x.live THEN x.count END
        ORDER BY segment_id, environment_id
        LIMIT $1",
    clear: "
        DELETE FROM segment_membership_segmentmembershipcount AS p
        USING (SELECT DISTINCT segment_id::integer, environment_id::integer FROM rollcall_count) AS l
        WHERE p.segment_id = l.segment_id AND p.environment_id = l.environment_id",
};

/// Rollcall's own rows: zero is a row, and the state stands in it.
static NATIVE: RowSql = RowSql {
    table: "rollcall_segment_count",
    lock: "
        SELECT p.segment_id, p.environment_id, p.count, true
        FROM unnest($1::text[], $2::text[]) AS w (segment_id, environment_id)
        JOIN rollcall_segment_count AS p USING (segment_id, environment_id)
        ORDER BY p.segment_id, p.environment_id
        FOR UPDATE OF p",
    set: "
        UPDATE rollcall_segment_count AS p
        SET count = w.count, updated_at = now(), state = coalesce(w.state, p.state),
            reason = CASE WHEN w.state IS NULL THEN p.reason ELSE w.reason END
        FROM unnest($1::text[], $2::text[], $3::bigint[], $4::text[], $5::text[])
          AS w (segment_id, environment_id, count, state, reason)
        WHERE p.segment_id = w.segment_id AND p.environment_id = w.environment_id",
    remove: "
        DELETE FROM rollcall_segment_count AS p
        USING unnest($1::text[], $2::text[]) AS w (segment_id, environment_id)
        WHERE p.segment_id = w.segment_id AND p.environment_id = w.environment_id",
    add: "
        INSERT INTO rollcall_segment_count AS p (segment_id, environment_id, count, state, reason)
        SELECT w.segment_id, w.environment_id, w.count, w.state, w.reason
        FROM unnest($1::text[], $2::text[], $3::bigint[], $4::text[], $5::text[])
          AS w (segment_id, environment_id, count, state, reason)
        ORDER BY w.segment_id, w.environment_id
        ON CONFLICT (segment_id, environment_id)
        DO UPDATE SET count = EXCLUDED.count, state = EXCLUDED.state, reason = EXCLUDED.reason, updated_at = now()
        RETURNING p.segment_id, p.environment_id",
    differences: "
        WITH expected AS (
            SELECT segment_id, environment_id,
                   sum(count) AS count,
                   CASE WHEN bool_or(state = 'unsupported') THEN 'unsupported'
                        WHEN bool_or(state = 'filling') THEN 'filling' ELSE 'live' END AS state
            FROM rollcall_count
            GROUP BY 1, 2
            HAVING NOT bool_or(state = 'removed')
        )
        SELECT segment_id, environment_id,
               coalesce(p.count || ' ' || p.state, 'absent'), coalesce(x.count || ' ' || x.state, 'absent'), false
        FROM expected AS x
        FULL JOIN rollcall_segment_count AS p USING (segment_id, environment_id)
        WHERE p.count IS DISTINCT FROM x.count OR p.state IS DISTINCT FROM x.state
        ORDER BY segment_id, environment_id
        LIMIT $1",
    clear: "DELETE FROM rollcall_segment_count",
};
