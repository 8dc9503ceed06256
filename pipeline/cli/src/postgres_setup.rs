//! What a source's database needs, as SQL. Safe to run again; a person can read it before it runs.
//!
//! Each statement looks at what is there, so the same text serves `rollcall setup` and, printed, an administrator who
//! runs it with more rights than Rollcall has.

use rollcall_model::{TableRole, TableSpec};
use rollcall_postgres_wire::{ident, literal};

/// Whose tables, under which names.
#[derive(Debug)]
pub(crate) struct PostgresSetup<'a> {
    /// The schema of the tables.
    pub(crate) schema: &'a str,
    /// The publication to make.
    pub(crate) publication: &'a str,
    /// The slot, for teardown; the source makes it when it first starts.
    pub(crate) slot: &'a str,
    /// The tables.
    pub(crate) tables: &'a [TableSpec],
}

impl PostgresSetup<'_> {
    /// The publication and the replica identities.
    pub(crate) fn sql(&self) -> Vec<String> {
        let mut all = vec![self.publication_sql()];
        all.extend(self.tables.iter().map(|table| self.replica_identity_sql(table)));
        all
    }

    /// The least that the role needs which the source connects as.
    pub(crate) fn grants(&self, role: &str) -> Vec<String> {
        let role = ident(role);
        vec![
            format!("ALTER ROLE {role} REPLICATION"),
            format!("GRANT USAGE ON SCHEMA {} TO {role}", ident(self.schema)),
            format!("GRANT SELECT ON {} TO {role}", self.table_list()),
        ]
    }

    /// What pins WAL for ever if nobody reads it.
    pub(crate) fn teardown_sql(&self) -> Vec<String> {
        vec![
            format!(
                "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE slot_name = {}",
                literal(self.slot)
            ),
            format!("DROP PUBLICATION IF EXISTS {}", ident(self.publication)),
        ]
    }

    fn qualified(&self, table: &TableSpec) -> String {
        format!("{}.{}", ident(self.schema), ident(table.name))
    }

    fn table_list(&self) -> String {
        self.tables.iter().map(|table| self.qualified(table)).collect::<Vec<_>>().join(", ")
    }

    fn publication_sql(&self) -> String {
        let (name, tables) = (ident(self.publication), self.table_list());
        format!(
            "DO $rollcall$ BEGIN\n  \
             IF EXISTS (SELECT FROM pg_publication WHERE pubname = {}) THEN\n    \
             ALTER PUBLICATION {name} SET TABLE {tables};\n  \
             ELSE\n    \
             CREATE PUBLICATION {name} FOR TABLE {tables};\n  \
             END IF;\n\
             END $rollcall$",
            literal(self.publication)
        )
    }

    /// A DELETE must name what it deletes. Tables with a primary key do so as they are; the parts of an identity need
    /// the identity's id in it, so a unique index over both serves, or the whole row.
    fn replica_identity_sql(&self, table: &TableSpec) -> String {
        let name = self.qualified(table);
        let class = literal(&name);
        match &table.role {
            TableRole::Catalog { .. } | TableRole::Identity { .. } => format!(
                "DO $rollcall$ BEGIN\n  \
                 IF (SELECT relreplident FROM pg_class WHERE oid = {class}::regclass) = 'n' THEN\n    \
                 ALTER TABLE {name} REPLICA IDENTITY DEFAULT;\n  \
                 END IF;\n\
                 END $rollcall$"
            ),
            TableRole::IdentityPart { identity, key } => {
                let mut columns: Vec<&str> = std::iter::once(*identity).chain(key.iter().copied()).collect();
                columns.sort_unstable();
                let columns = columns.iter().map(|column| literal(column)).collect::<Vec<_>>().join(", ");
                format!(
                    "DO $rollcall$ DECLARE usable text; BEGIN\n  \
                     IF (SELECT relreplident FROM pg_class WHERE oid = {class}::regclass) IN ('n', 'd') THEN\n    \
                     SELECT c.relname INTO usable FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid\n    \
                     WHERE i.indrelid = {class}::regclass AND i.indisunique AND i.indisvalid AND i.indimmediate\n    \
                     AND i.indpred IS NULL AND i.indexprs IS NULL AND ARRAY[{columns}] = (\n      \
                     SELECT array_agg(a.attname::text ORDER BY a.attname::text COLLATE \"C\") FILTER (WHERE a.attnotnull)\n      \
                     FROM pg_attribute a WHERE a.attrelid = i.indrelid AND a.attnum = ANY (i.indkey))\n    \
                     LIMIT 1;\n    \
                     IF usable IS NULL THEN\n      \
                     ALTER TABLE {name} REPLICA IDENTITY FULL;\n    \
                     ELSE\n      \
                     EXECUTE format('ALTER TABLE {name} REPLICA IDENTITY USING INDEX %I', usable);\n    \
                     END IF;\n  \
                     END IF;\n\
                     END $rollcall$"
                )
            }
        }
    }
}
