//! A database and what the platform reads in; everything that is not as it must be out, each with its SQL.
//!
//! All of it at once: whoever sets a source up shall not meet one refusal after the other.

use rollcall_model::{Fault, TableRole, TableSpec};
use rollcall_postgres_wire::{ConnectConfig, connect, ident, sql_fault};
use tokio_postgres::Client;
use tokio_postgres::types::ToSql;

use crate::config::PostgresSourceConfig;
use crate::relation::{id_column, identity_columns, is_integer};

/// The oldest version whose pgoutput passes messages, which marks and heartbeats are.
const VERSION_MIN: i32 = 140_000;

/// Something that is not as it must be.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Finding {
    /// What, and where.
    pub what: String,
    /// The SQL that repairs it, statement by statement; empty where no SQL can.
    pub sql: Vec<String>,
    /// What else is to be done.
    pub then: Option<String>,
}

impl Finding {
    fn new(what: impl Into<String>, sql: impl IntoIterator<Item = String>) -> Self {
        Self { what: what.into(), sql: sql.into_iter().collect(), then: None }
    }

    fn then(mut self, what: &str) -> Self {
        self.then = Some(what.to_owned());
        self
    }
}

/// All findings as one fault; `None` when all is well.
pub(crate) fn fault(config: &PostgresSourceConfig, findings: &[Finding]) -> Option<Fault> {
    if findings.is_empty() {
        return None;
    }
    let what: Vec<_> = findings.iter().map(|finding| finding.what.as_str()).collect();
    let steps = findings
        .iter()
        .flat_map(|finding| finding.sql.iter().map(|sql| format!("{sql};")).chain(finding.then.clone()));
    let steps: Vec<_> = steps.collect();
    let sql = findings.iter().any(|finding| !finding.sql.is_empty());
    let lead =
        if sql { format!("rollcall setup {} does what follows:\n    ", config.name) } else { String::new() };
    Some(
        Fault::config(format!("source {} is not set up: {}", config.name, what.join("; ")))
            .repair(format!("{lead}{}", steps.join("\n    "))),
    )
}

/// Looks at everything that a source needs, and changes nothing.
///
/// # Errors
/// A [`Fault`] when the database can't be reached or asked.
pub async fn preflight(config: &PostgresSourceConfig) -> Result<Vec<Finding>, Fault> {
    let connect_config = ConnectConfig::parse(&config.url)?;
    let client = connect(&connect_config).await?;
    look(config, &connect_config, &client).await
}

pub(crate) async fn look(
    config: &PostgresSourceConfig,
    connect: &ConnectConfig,
    client: &Client,
) -> Result<Vec<Finding>, Fault> {
    let look = Look { config, connect, client };
    let mut findings = look.server().await?;
    let mut there = Vec::new();
    for spec in &config.tables {
        if let Some(more) = look.table(spec).await? {
            there.push(spec);
            findings.extend(more);
        } else {
            let what = format!("there is no table {}.{}", config.schema, spec.name);
            let then = "correct the url or the schema: is this the platform's database?";
            findings.push(Finding::new(what, []).then(then));
        }
    }
    findings.extend(look.publication(&there).await?);
    Ok(findings)
}

struct Look<'a> {
    config: &'a PostgresSourceConfig,
    connect: &'a ConnectConfig,
    client: &'a Client,
}

impl Look<'_> {
    async fn ask(
        &self,
        sql: &str,
        values: &[&(dyn ToSql + Sync)],
    ) -> Result<Vec<tokio_postgres::Row>, Fault> {
        let rows = self.client.query(sql, values).await;
        rows.map_err(|error| sql_fault(self.connect, "looking at what is set up", error))
    }

    fn name(&self, spec: &TableSpec) -> String {
        format!("{}.{}", ident(&self.config.schema), ident(spec.name))
    }

    async fn server(&self) -> Result<Vec<Finding>, Fault> {
        let sql = "SELECT pg_catalog.current_setting('wal_level'), \
                   pg_catalog.current_setting('server_version_num')::int, pg_catalog.getdatabaseencoding()::text, \
                   (SELECT rolreplication OR rolsuper FROM pg_catalog.pg_roles WHERE rolname = current_user) \
                   OR EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname = 'rds_replication' \
                              AND pg_catalog.pg_has_role(current_user, oid, 'member'))";
        let rows = self.ask(sql, &[]).await?;
        let row = rows.first().ok_or_else(|| Fault::retry("Postgres gave no settings"))?;
        let (wal_level, version, encoding): (String, i32, String) = (row.get(0), row.get(1), row.get(2));
        let mut findings = Vec::new();
        if wal_level != "logical" {
            let sql = "ALTER SYSTEM SET wal_level = logical".to_owned();
            let finding = Finding::new(format!("wal_level is {wal_level}, not logical"), [sql]);
            findings.push(finding.then("restart Postgres"));
        }
        if version < VERSION_MIN {
            let finding = Finding::new("Postgres is older than 14", []);
            findings.push(finding.then("upgrade to Postgres 14 or later"));
        }
        if encoding == "SQL_ASCII" {
            let finding =
                Finding::new("the database's encoding is SQL_ASCII: its texts have no known meaning", []);
            findings.push(finding.then("dump and restore it into a database with an encoding"));
        }
        if !row.get::<_, Option<bool>>(3).unwrap_or_default() {
            let role = ident(&self.connect.user);
            let sql = format!("ALTER ROLE {role} REPLICATION");
            findings.push(Finding::new(format!("the role {role} may not replicate"), [sql]));
        }
        Ok(findings)
    }

    /// `None` when there is no such table.
    async fn table(&self, spec: &TableSpec) -> Result<Option<Vec<Finding>>, Fault> {
        let name = self.name(spec);
        let sql = "SELECT c.oid, c.relreplident::text, \
                   pg_catalog.has_table_privilege(current_user, c.oid, 'SELECT') \
                       AND pg_catalog.has_schema_privilege(current_user, c.relnamespace, 'USAGE'), \
                   EXISTS (SELECT FROM pg_catalog.pg_index WHERE indrelid = c.oid AND indisprimary) \
                   FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
                   WHERE n.nspname = $1 AND c.relname = $2 AND c.relkind IN ('r', 'p')";
        let rows = self.ask(sql, &[&self.config.schema, &spec.name]).await?;
        let Some(row) = rows.first() else { return Ok(None) };
        let (oid, identity): (u32, String) = (row.get(0), row.get(1));
        let mut findings = self.columns(spec, oid).await?;
        if !row.get::<_, bool>(2) {
            let role = ident(&self.connect.user);
            let usage = format!("GRANT USAGE ON SCHEMA {} TO {role}", ident(&self.config.schema));
            let select = format!("GRANT SELECT ON TABLE {name} TO {role}");
            findings.push(Finding::new(format!("the role {role} may not read {name}"), [usage, select]));
        }
        if !row.get::<_, bool>(3) {
            let finding = Finding::new(format!("the table {name} has no primary key"), []);
            findings.push(finding.then(&format!("ALTER TABLE {name} ADD PRIMARY KEY (…)")));
        }
        findings.extend(self.replica_identity(spec, oid, &identity).await?);
        Ok(Some(findings))
    }

    async fn columns(&self, spec: &TableSpec, oid: u32) -> Result<Vec<Finding>, Fault> {
        let sql = "SELECT attname::text, atttypid FROM pg_catalog.pg_attribute \
                   WHERE attrelid = $1 AND attnum > 0 AND NOT attisdropped";
        let columns: Vec<(String, u32)> =
            self.ask(sql, &[&oid]).await?.iter().map(|row| (row.get(0), row.get(1))).collect();
        let find = |wanted: &str| columns.iter().find(|(name, _)| name == wanted);
        let name = self.name(spec);
        let missing = spec.columns.iter().filter(|column| find(column).is_none());
        let mut findings: Vec<_> = missing
            .map(|column| {
                let finding = Finding::new(format!("the table {name} has no column {column}"), []);
                finding.then("this version of the platform is not known: upgrade the platform or Rollcall")
            })
            .collect();
        if let Some((column, _)) = id_column(&spec.role).and_then(find).filter(|(_, oid)| !is_integer(*oid)) {
            let finding = Finding::new(format!("the id {column} of the table {name} is no integer"), []);
            findings.push(finding.then("this shape of the platform is not supported"));
        }
        Ok(findings)
    }

    async fn replica_identity(
        &self,
        spec: &TableSpec,
        oid: u32,
        identity: &str,
    ) -> Result<Option<Finding>, Fault> {
        // Every index that could serve: unique, not deferrable, not partial, on columns that are never NULL.
        let sql = "SELECT i.indexrelid::regclass::text, ic.relname::text, i.indisprimary, i.indisreplident, \
                   array_agg(a.attname::text) \
                   FROM pg_catalog.pg_index i JOIN pg_catalog.pg_class ic ON ic.oid = i.indexrelid \
                   JOIN pg_catalog.pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = ANY (i.indkey) \
                   WHERE i.indrelid = $1 AND i.indisunique AND i.indimmediate AND i.indisvalid \
                     AND i.indpred IS NULL AND i.indexprs IS NULL \
                   GROUP BY 1, 2, 3, 4 HAVING bool_and(a.attnotnull) ORDER BY count(*), 1";
        let rows = self.ask(sql, &[&oid]).await?;
        let wanted = identity_columns(&spec.role);
        let holds = |row: &tokio_postgres::Row| {
            let columns: Vec<String> = row.get(4);
            wanted.iter().all(|column| columns.iter().any(|has| has == column))
        };
        let right = match identity {
            "f" => true,
            "d" => rows.iter().any(|row| row.get::<_, bool>(2) && holds(row)),
            "i" => rows.iter().any(|row| row.get::<_, bool>(3) && holds(row)),
            _ => false,
        };
        if right {
            return Ok(None);
        }
        let name = self.name(spec);
        let sql = if rows.iter().any(|row| row.get::<_, bool>(2) && holds(row)) {
            format!("ALTER TABLE {name} REPLICA IDENTITY DEFAULT")
        } else if let Some(index) = rows.iter().find(|row| holds(row)) {
            format!("ALTER TABLE {name} REPLICA IDENTITY USING INDEX {}", ident(index.get(1)))
        } else {
            format!("ALTER TABLE {name} REPLICA IDENTITY FULL")
        };
        let what = format!("the replica identity of {name} does not hold {}", wanted.join(" and "));
        Ok(Some(Finding::new(what, [sql])))
    }

    async fn publication(&self, there: &[&TableSpec]) -> Result<Vec<Finding>, Fault> {
        let publication = ident(&self.config.publication);
        let list =
            |specs: &[&TableSpec]| specs.iter().map(|spec| self.name(spec)).collect::<Vec<_>>().join(", ");
        let sql = "SELECT pubinsert AND pubupdate AND pubdelete AND pubtruncate FROM pg_catalog.pg_publication \
                   WHERE pubname = $1";
        let rows = self.ask(sql, &[&self.config.publication]).await?;
        let Some(row) = rows.first() else {
            let sql = format!("CREATE PUBLICATION {publication} FOR TABLE {}", list(there));
            let sql = if there.is_empty() { vec![] } else { vec![sql] };
            return Ok(vec![Finding::new(format!("there is no publication {publication}"), sql)]);
        };
        let mut findings = Vec::new();
        if !row.get::<_, bool>(0) {
            let sql =
                format!("ALTER PUBLICATION {publication} SET (publish = 'insert, update, delete, truncate')");
            findings.push(Finding::new(
                format!("the publication {publication} leaves kinds of changes out"),
                [sql],
            ));
        }
        let sql = "SELECT tablename::text FROM pg_catalog.pg_publication_tables WHERE pubname = $1 AND schemaname = $2";
        let rows = self.ask(sql, &[&self.config.publication, &self.config.schema]).await?;
        let has = |spec: &&&TableSpec| rows.iter().any(|row| row.get::<_, String>(0) == spec.name);
        let missing: Vec<_> = there.iter().filter(|spec| !has(spec)).copied().collect();
        if !missing.is_empty() {
            let sql = format!("ALTER PUBLICATION {publication} ADD TABLE {}", list(&missing));
            findings
                .push(Finding::new(format!("the publication {publication} lacks {}", list(&missing)), [sql]));
        }
        findings.extend(self.filters(there).await?);
        Ok(findings)
    }

    /// Row filters and column lists, which Postgres has from version 15 on.
    async fn filters(&self, there: &[&TableSpec]) -> Result<Vec<Finding>, Fault> {
        let sql = "SELECT c.relname::text FROM pg_catalog.pg_publication_rel r \
                   JOIN pg_catalog.pg_publication p ON p.oid = r.prpubid JOIN pg_catalog.pg_class c ON c.oid = r.prrelid \
                   JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
                   WHERE p.pubname = $1 AND n.nspname = $2 \
                     AND coalesce(pg_catalog.to_jsonb(r) -> 'prqual', 'null') <> 'null'::jsonb \
                      OR p.pubname = $1 AND n.nspname = $2 \
                     AND coalesce(pg_catalog.to_jsonb(r) -> 'prattrs', 'null') <> 'null'::jsonb";
        let rows = self.ask(sql, &[&self.config.publication, &self.config.schema]).await?;
        let filtered = rows.iter().filter_map(|row| {
            let table: String = row.get(0);
            there.iter().find(|spec| spec.name == table)
        });
        Ok(filtered
            .map(|spec| {
                let (publication, name) = (ident(&self.config.publication), self.name(spec));
                let drop = format!("ALTER PUBLICATION {publication} DROP TABLE {name}");
                let add = format!("ALTER PUBLICATION {publication} ADD TABLE {name}");
                Finding::new(
                    format!("the publication {publication} shows only a part of {name}"),
                    [drop, add],
                )
            })
            .collect())
    }
}

/// Whether the platform's tables make sense to this source at all.
pub(crate) fn one_identity_table(config: &PostgresSourceConfig) -> Result<(), Fault> {
    let is_identity = |spec: &&TableSpec| matches!(spec.role, TableRole::Identity { .. });
    match config.tables.iter().filter(is_identity).count() {
        1 => Ok(()),
        n => Err(Fault::bug(format!("the platform of source {} names {n} identity tables", config.name))),
    }
}
