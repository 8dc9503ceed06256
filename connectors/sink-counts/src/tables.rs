//! The tables: made where they are missing, looked at before the first write, and whose they are.
//!
//! Everything that is wrong with the tables is said in one fault, with the SQL that repairs it.

use std::collections::BTreeSet;

use rollcall_model::{Fault, LogId};
use rollcall_postgres_wire::ident;
use tokio_postgres::Transaction;
use tokio_postgres::error::SqlState;
use tokio_postgres::types::Type;

use crate::config::Preset;
use crate::faults::fault;
use crate::session::Session;

const LEDGER_DDL: &str = include_str!("../../../schemas/postgres/counts-ledger.sql");
const NATIVE_DDL: &str = include_str!("../../../schemas/postgres/counts-native.sql");
/// Two workers that start at once make the tables one after the other.
const DDL_LOCK: i64 = 0x726f_6c6c_6361_6c6c;

/// What the sink's role must be able to do with a table.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Use {
    /// Read and write all rows.
    Write,
    /// Read all columns.
    Read,
    /// Read these columns and lock rows against deletion, for which Postgres asks the right to update a column.
    Lock,
}

/// A relation that the sink works with.
struct Relation {
    name: &'static str,
    columns: &'static [&'static str],
    usage: Use,
}

const LEDGER: [Relation; 4] = [
    Relation { name: "rollcall_count_log", columns: &["log_id", "partitions"], usage: Use::Write },
    Relation {
        name: "rollcall_count",
        columns: &[
            "log_id",
            "segment_id",
            "environment_id",
            "partition",
            "count",
            "fingerprint",
            "seq",
            "state",
            "reason",
        ],
        usage: Use::Write,
    },
    Relation {
        name: "rollcall_as_of",
        columns: &["log_id", "source", "partition", "position", "at_us", "seq"],
        usage: Use::Write,
    },
    Relation { name: "rollcall_count_as_of", columns: &["as_of"], usage: Use::Read },
];

const NATIVE: [Relation; 2] = [
    Relation {
        name: "rollcall_segment_count",
        columns: &["segment_id", "environment_id", "count", "state", "reason", "updated_at"],
        usage: Use::Write,
    },
    Relation {
        name: "segment_membership",
        columns: &["segment_id", "environment_id", "count", "state", "as_of", "updated_at"],
        usage: Use::Read,
    },
];

const FLAGSMITH: [Relation; 3] = [
    Relation {
        name: "segment_membership_segmentmembershipcount",
        columns: &["segment_id", "environment_id", "count", "last_synced_at"],
        usage: Use::Write,
    },
    Relation { name: "segments_segment", columns: &["id", "deleted_at"], usage: Use::Lock },
    Relation { name: "environments_environment", columns: &["id", "deleted_at"], usage: Use::Lock },
];

/// The ledger belongs to another log.
pub(crate) fn foreign_log(owner: &str, log: &LogId) -> Fault {
    Fault::refused(format!(
        "the counts in Postgres were written from the log '{owner}', and this log is '{log}': \
         its seqs say nothing about the other's"
    ))
    .repair("if this log is the right one, `rollcall rebuild counts` empties the ledger and fills it from this log")
}

/// The ledger's one row is missing.
pub(crate) fn not_prepared() -> Fault {
    Fault::refused("the ledger rollcall_count_log is empty: it was emptied by hand or never made")
        .repair("rollcall rebuild counts")
}

/// The SQL that makes what the sink needs and, for a role, grants the least it needs. Safe to run again.
#[must_use]
pub fn setup_sql(preset: Preset, schema: &str, role: Option<&str>) -> String {
    let mut sql = format!("BEGIN;\nSET LOCAL search_path TO {};\n\n{LEDGER_DDL}", ident(schema));
    match preset {
        Preset::Native => {
            sql.push('\n');
            sql.push_str(NATIVE_DDL);
        }
        Preset::Flagsmith => {}
    }
    if let Some(role) = role {
        sql.push_str(&format!("\nGRANT USAGE ON SCHEMA {} TO {};\n", ident(schema), ident(role)));
        for relation in LEDGER.iter().chain(own_relations(preset)) {
            sql.push_str(&grant(relation, role));
            sql.push('\n');
        }
        if preset == Preset::Flagsmith {
            // Old installations number their rows from a sequence that needs a right of its own.
            sql.push_str(&format!(
                "GRANT USAGE ON SEQUENCE segment_membership_segmentmembershipcount_id_seq TO {};\n",
                ident(role)
            ));
        }
    }
    sql.push_str("COMMIT;\n");
    sql
}

fn own_relations(preset: Preset) -> &'static [Relation] {
    match preset {
        Preset::Native => &NATIVE,
        Preset::Flagsmith => &FLAGSMITH,
    }
}

/// A right asked of Postgres: on a column, or on the whole.
struct Need {
    relation: &'static str,
    column: Option<&'static str>,
    right: &'static str,
}

fn needs(relation: &Relation) -> Vec<Need> {
    let need = |column, right| Need { relation: relation.name, column, right };
    match relation.usage {
        Use::Write => ["SELECT", "INSERT", "UPDATE", "DELETE"].map(|right| need(None, right)).into(),
        Use::Read => vec![need(None, "SELECT")],
        Use::Lock => {
            let reads = relation.columns.iter().map(|column| need(Some(*column), "SELECT"));
            reads.chain([need(Some(relation.columns[0]), "UPDATE")]).collect()
        }
    }
}

fn grant(relation: &Relation, role: &str) -> String {
    let columns = relation.columns.join(", ");
    let rights = match relation.usage {
        Use::Write => "SELECT, INSERT, UPDATE, DELETE".to_owned(),
        Use::Read => "SELECT".to_owned(),
        Use::Lock => format!("SELECT ({columns}), UPDATE ({})", relation.columns[0]),
    };
    format!("GRANT {rights} ON {} TO {};", relation.name, ident(role))
}

/// Makes what is missing of our own tables, then checks all that the sink works with, and takes the ledger for `log`.
pub(crate) async fn prepare(
    session: &mut Session,
    preset: Preset,
    schema: &str,
    log: &LogId,
    partitions: u16,
) -> Result<(), Fault> {
    make(session, preset, schema).await?;
    let tx = session.begin().await?;
    check_platform(&tx, preset, schema).await?;
    check_rights(&tx, preset, schema).await?;
    take(&tx, log, partitions).await?;
    tx.commit().await.map_err(|e| fault("taking the ledger rollcall_count_log", e))
}

/// Makes our own tables where one is missing.
pub(crate) async fn make(session: &mut Session, preset: Preset, schema: &str) -> Result<(), Fault> {
    let doing = |e| fault("making the ledger's tables", e);
    let tx = session.begin().await?;
    let own: &[Relation] = match preset {
        Preset::Native => &NATIVE,
        Preset::Flagsmith => &[],
    };
    // Waiting for another worker's DDL takes as long as it takes.
    tx.batch_execute(&format!("SET LOCAL lock_timeout = 0; SELECT pg_advisory_xact_lock({DDL_LOCK})"))
        .await
        .map_err(doing)?;
    let names: Vec<&str> = LEDGER.iter().chain(own).map(|r| r.name).collect();
    let missing: bool = tx
        .query_typed_one(
            "SELECT bool_or(to_regclass(n) IS NULL) FROM unnest($1::text[]) AS n",
            &[(&names, Type::TEXT_ARRAY)],
        )
        .await
        .and_then(|row| row.try_get(0))
        .map_err(doing)?;
    if missing {
        let ddl = match preset {
            Preset::Native => format!("{LEDGER_DDL}{NATIVE_DDL}"),
            Preset::Flagsmith => LEDGER_DDL.to_owned(),
        };
        if let Err(error) = tx.batch_execute(&ddl).await {
            return Err(ddl_fault(error, preset, schema));
        }
    }
    tx.commit().await.map_err(doing)
}

fn ddl_fault(error: tokio_postgres::Error, preset: Preset, schema: &str) -> Fault {
    match error.code() {
        Some(code) if *code == SqlState::INSUFFICIENT_PRIVILEGE => Fault::config(format!(
            "this role may not make the ledger's tables in schema '{schema}'"
        ))
        .repair(format!(
            "let an administrator of the database run (`rollcall setup --print-sql` prints it with the \
                 grants):\n{}",
            setup_sql(preset, schema, None)
        )),
        Some(code) if *code == SqlState::INVALID_SCHEMA_NAME => {
            Fault::config(format!("there is no schema '{schema}'"))
                .repair("correct `schema` of the counts sink in topology.yaml")
        }
        Some(code) if *code == SqlState::WRONG_OBJECT_TYPE => Fault::refused(format!(
            "schema '{schema}' holds something else under a name that the counts sink uses: {}",
            error.as_db_error().map_or("", |db| db.message())
        ))
        .repair("give the counts sink a schema of its own: `schema:` in topology.yaml"),
        Some(_) | None => fault("making the ledger's tables", error),
    }
}

/// Columns, and for Flagsmith the uniqueness that its rows rest on.
async fn check_platform(tx: &Transaction<'_>, preset: Preset, schema: &str) -> Result<(), Fault> {
    let doing = |e| fault("looking at the tables", e);
    let relations = || LEDGER.iter().chain(own_relations(preset));
    let (tables, columns): (Vec<&str>, Vec<&str>) =
        relations().flat_map(|r| r.columns.iter().map(|c| (r.name, *c))).unzip();
    let rows = tx
        .query_typed(
            "SELECT w.relation, CASE WHEN to_regclass(w.relation) IS NOT NULL THEN w.attribute END
             FROM unnest($1::text[], $2::text[]) AS w (relation, attribute)
             WHERE NOT EXISTS (SELECT FROM pg_attribute AS a WHERE a.attrelid = to_regclass(w.relation)
                               AND a.attname = w.attribute AND NOT a.attisdropped)",
            &[(&tables, Type::TEXT_ARRAY), (&columns, Type::TEXT_ARRAY)],
        )
        .await
        .map_err(doing)?;
    let mut missing: Vec<String> = Vec::new();
    for row in rows {
        let read = || -> Result<_, tokio_postgres::Error> {
            Ok((row.try_get::<_, String>(0)?, row.try_get::<_, Option<String>>(1)?))
        };
        let (table, column) = read().map_err(doing)?;
        let name =
            column.map_or_else(|| format!("table {table}"), |column| format!("column {table}.{column}"));
        if !missing.contains(&name) {
            missing.push(name);
        }
    }
    if !missing.is_empty() {
        return Err(Fault::refused(format!("schema '{schema}' has no {}", missing.join(", no "))).repair(
            match preset {
                Preset::Native => "drop or rename the foreign tables, or give the counts sink another `schema`",
                Preset::Flagsmith => {
                    "preset flagsmith needs Flagsmith's tables with its segment membership migrations applied: \
                     check `url` and `schema` of the counts sink, or use `preset: native`"
                }
            },
        ));
    }
    match preset {
        Preset::Native => Ok(()),
        Preset::Flagsmith => check_unique(tx, schema).await,
    }
}

/// Inserts rest on one row per (segment, environment). Flagsmith names the constraint
/// `segment_membership_count_unique_segment_environment`; another one over the same columns does as well.
async fn check_unique(tx: &Transaction<'_>, schema: &str) -> Result<(), Fault> {
    let unique: bool = tx
        .query_typed_one(
            "SELECT EXISTS (
                SELECT FROM pg_index AS i
                WHERE i.indrelid = 'segment_membership_segmentmembershipcount'::regclass
                  AND i.indisunique AND i.indisvalid AND i.indimmediate
                  AND i.indpred IS NULL AND i.indexprs IS NULL AND i.indnkeyatts = 2
                  AND (SELECT array_agg(a.attname::text ORDER BY a.attname) FROM pg_attribute AS a
                       WHERE a.attrelid = i.indrelid AND a.attnum = ANY (i.indkey))
                      = ARRAY['environment_id', 'segment_id'])",
            &[],
        )
        .await
        .and_then(|row| row.try_get(0))
        .map_err(|e| fault("looking at the count table's constraints", e))?;
    if unique {
        return Ok(());
    }
    Err(Fault::refused(format!(
        "{schema}.segment_membership_segmentmembershipcount has no unique constraint over (segment_id, \
         environment_id): rows could double"
    ))
    .repair(
        "apply Flagsmith's migrations, or: ALTER TABLE segment_membership_segmentmembershipcount ADD CONSTRAINT \
         segment_membership_count_unique_segment_environment UNIQUE (segment_id, environment_id)",
    ))
}

/// Asks Postgres for every right the sink will use, so that a missing one shows at start and not at the first row.
async fn check_rights(tx: &Transaction<'_>, preset: Preset, schema: &str) -> Result<(), Fault> {
    let doing = |e| fault("looking at the role's rights", e);
    let role: String = tx
        .query_typed_one("SELECT current_user::text", &[])
        .await
        .and_then(|row| row.try_get(0))
        .map_err(doing)?;
    let relations = || LEDGER.iter().chain(own_relations(preset));
    let needs: Vec<_> = relations().flat_map(needs).collect();
    let tables: Vec<&str> = needs.iter().map(|need| need.relation).collect();
    let columns: Vec<Option<&str>> = needs.iter().map(|need| need.column).collect();
    let rights: Vec<&str> = needs.iter().map(|need| need.right).collect();
    let rows = tx
        .query_typed(
            "SELECT DISTINCT w.relation FROM unnest($1::text[], $2::text[], $3::text[]) AS w (relation, attribute, p)
             WHERE NOT CASE WHEN w.attribute IS NULL THEN has_table_privilege(w.relation, w.p)
                            ELSE has_column_privilege(w.relation, w.attribute, w.p) END",
            &[(&tables, Type::TEXT_ARRAY), (&columns, Type::TEXT_ARRAY), (&rights, Type::TEXT_ARRAY)],
        )
        .await
        .map_err(doing)?;
    let mut lacking = BTreeSet::new();
    for row in rows {
        lacking.insert(row.try_get::<_, String>(0).map_err(doing)?);
    }
    let mut missing: Vec<String> =
        relations().filter(|r| lacking.contains(r.name)).map(|r| grant(r, &role)).collect();
    if preset == Preset::Flagsmith {
        // An identity column needs no right on its sequence; a serial one does.
        let sequence: Option<String> = tx
            .query_typed_opt(
                "SELECT s FROM pg_get_serial_sequence('segment_membership_segmentmembershipcount', 'id') AS s
                 JOIN pg_attribute AS a ON a.attname = 'id' AND a.attidentity = ''
                  AND a.attrelid = 'segment_membership_segmentmembershipcount'::regclass
                 WHERE NOT has_sequence_privilege(s, 'USAGE')",
                &[],
            )
            .await
            .and_then(|row| row.map(|row| row.try_get(0)).transpose())
            .map_err(doing)?;
        missing.extend(sequence.map(|s| format!("GRANT USAGE ON SEQUENCE {s} TO {};", ident(&role))));
    }
    if missing.is_empty() {
        return Ok(());
    }
    Err(Fault::config(format!("the role '{role}' lacks rights that the counts sink needs")).repair(format!(
        "let an administrator of the database run:\nSET search_path TO {};\n{}",
        ident(schema),
        missing.join("\n")
    )))
}

/// Takes the ledger for a log, if it is nobody's or already its own.
async fn take(tx: &Transaction<'_>, log: &LogId, partitions: u16) -> Result<(), Fault> {
    let doing = |e| fault("taking the ledger rollcall_count_log", e);
    tx.execute_typed(
        "INSERT INTO rollcall_count_log AS l (log_id, partitions) VALUES ($1, $2)
         ON CONFLICT (only_row) DO UPDATE SET partitions = EXCLUDED.partitions
         WHERE l.log_id = EXCLUDED.log_id AND l.partitions IS NULL",
        &[(&log.0, Type::TEXT), (&i32::from(partitions), Type::INT4)],
    )
    .await
    .map_err(doing)?;
    let row =
        tx.query_typed_one("SELECT log_id, partitions FROM rollcall_count_log", &[]).await.map_err(doing)?;
    let (owner, known): (String, Option<i32>) =
        (row.try_get(0).map_err(doing)?, row.try_get(1).map_err(doing)?);
    if owner != log.0 {
        return Err(foreign_log(&owner, log));
    }
    match known {
        Some(known) if known == i32::from(partitions) => Ok(()),
        Some(_) | None => Err(Fault::refused(format!(
            "the ledger was filled from {} partitions of the log '{log}', which now has {partitions}",
            known.unwrap_or_default()
        ))
        .repair("rollcall rebuild counts")),
    }
}

/// Empties the ledger and the rows it knows, and gives it to `log`, whoever had it. Waits for a writer that is at it.
pub(crate) async fn reset(
    session: &mut Session,
    preset: Preset,
    schema: &str,
    clear_rows: &str,
    log: &LogId,
) -> Result<(), Fault> {
    make(session, preset, schema).await?;
    let doing = |e| fault("emptying the ledger rollcall_count", e);
    let tx = session.begin().await?;
    check_platform(&tx, preset, schema).await?;
    check_rights(&tx, preset, schema).await?;
    tx.execute_typed(
        "INSERT INTO rollcall_count_log AS l (log_id) VALUES ($1)
         ON CONFLICT (only_row) DO UPDATE SET log_id = EXCLUDED.log_id, partitions = NULL",
        &[(&log.0, Type::TEXT)],
    )
    .await
    .map_err(doing)?;
    for sql in [clear_rows, "DELETE FROM rollcall_count", "DELETE FROM rollcall_as_of"] {
        tx.execute_typed(sql, &[]).await.map_err(doing)?;
    }
    tx.commit().await.map_err(doing)
}
