//! Counts of a moment or of some environments, in a table of their own: counted from sets, since a count says no time.
//!
//! ```text
//! sets, older first ─▶ NAME_sets: the newest of each identity ─▶ NAME (segment_id, environment_id, count)
//!                      its comment: what for, and how far
//! ```
//!
//! In: records of `memberships`. Out: a table, once everything was read; none of the sink's own is touched. Right because a
//! set says all that an identity is in at its version: of each the one with the highest version counts. How far it is
//! stands in the transaction that took it that far. Memory is a batch; what there is of identities lies in Postgres.

use std::collections::BTreeMap;

use rollcall_model::{Delivery, Fault, MembershipRecord, OutRecord};
use rollcall_postgres_wire::{ConnectConfig, ident, literal};
use tokio_postgres::Transaction;
use tokio_postgres::types::Type;

use crate::config::CountsSinkConfig;
use crate::faults::fault;
use crate::session::Session;

/// So that the longest name of ours stays one of Postgres' 63 bytes.
const NAME_BYTES_MAX: usize = 50;
/// In the comment, between what for and how far.
const BREAK: char = '\n';

/// A new table of counts.
#[derive(Debug)]
pub struct NewCounts {
    session: Session,
    schema: String,
    table: String,
    job: String,
}

impl NewCounts {
    /// Begins the table, or goes on where an earlier start of the same job stood: then answers what was noted last.
    ///
    /// # Errors
    /// A [`Fault`]: `Config` for a name that can't be one, or a right that is missing; `Refused` when there is a table of
    /// that name, or another job's beginning of one.
    pub async fn open(
        config: &CountsSinkConfig,
        table: &str,
        job: &str,
    ) -> Result<(Self, Option<String>), Fault> {
        refuse_name(table)?;
        if job.contains(BREAK) {
            return Err(Fault::bug("a job of counts has two lines"));
        }
        let session = Session::open(ConnectConfig::parse(&config.url)?, config.schema.clone()).await?;
        let (schema, table, job) = (config.schema.clone(), table.to_owned(), job.to_owned());
        let mut new = Self { session, schema, table, job };
        let state = new.begin().await?;
        Ok((new, state))
    }

    fn sets(&self) -> String {
        format!("{}_sets", self.table)
    }

    async fn begin(&mut self) -> Result<Option<String>, Fault> {
        let (table, sets, job) = (self.table.clone(), self.sets(), self.job.clone());
        let taken = |what: &str| {
            let (schema, name) = (ident(&self.schema), ident(what));
            Fault::refused(format!("there is a table {schema}.{name} already"))
                .repair(format!("choose another name; or, if nobody needs it: DROP TABLE {schema}.{name}"))
        };
        let taken_fault = (taken(&table), taken(&sets));
        let tx = self.session.begin().await?;
        let doing = |e| fault("looking for the new table of counts", e);
        if comment(&tx, &table).await.map_err(doing)?.is_some() {
            return Err(taken_fault.0);
        }
        if let Some(comment) = comment(&tx, &sets).await.map_err(doing)? {
            return match comment.split_once(BREAK) {
                Some((known, state)) if known == job => Ok((!state.is_empty()).then(|| state.to_owned())),
                Some(_) | None => Err(taken_fault.1),
            };
        }
        let doing = |e| fault("making the new table of counts", e);
        let name = ident(&sets);
        tx.batch_execute(&format!(
            "CREATE TABLE {name} (identity text PRIMARY KEY, version bigint NOT NULL, environment_id text NOT NULL, \
             segments jsonb NOT NULL); COMMENT ON TABLE {name} IS {}",
            literal(&format!("{job}{BREAK}"))
        ))
        .await
        .map_err(doing)?;
        tx.commit().await.map_err(doing)?;
        Ok(None)
    }

    /// Takes sets, and notes with them how far it is: what was taken until now need not be taken again.
    ///
    /// # Errors
    /// A [`Fault`] of the server; `Bug` for any other record.
    pub async fn write(&mut self, batch: &[Delivery], state: &str) -> Result<(), Fault> {
        let rows = Rows::of(&newest(batch)?)?;
        let name = ident(&self.sets());
        let note = literal(&format!("{}{BREAK}{state}", self.job));
        let doing = |e| fault("taking sets to be counted", e);
        let tx = self.session.begin().await?;
        let sql = format!(
            "INSERT INTO {name} AS s SELECT identity, version, environment_id, segments::jsonb \
             FROM unnest($1::text[], $2::int8[], $3::text[], $4::text[]) AS n (identity, version, environment_id, segments) \
             ON CONFLICT (identity) DO UPDATE SET version = excluded.version, \
             environment_id = excluded.environment_id, segments = excluded.segments WHERE s.version < excluded.version"
        );
        tx.execute_typed(
            &sql,
            &[
                (&rows.identities, Type::TEXT_ARRAY),
                (&rows.versions, Type::INT8_ARRAY),
                (&rows.environments, Type::TEXT_ARRAY),
                (&rows.segments, Type::TEXT_ARRAY),
            ],
        )
        .await
        .map_err(doing)?;
        tx.batch_execute(&format!("COMMENT ON TABLE {name} IS {note}")).await.map_err(doing)?;
        tx.commit().await.map_err(doing)
    }

    /// Everything was taken: counts it, and puts the table in the place of what it was counted from. How many rows.
    ///
    /// # Errors
    /// A [`Fault`] of the server.
    pub async fn finish(&mut self) -> Result<u64, Fault> {
        let (name, sets) = (ident(&self.table), ident(&self.sets()));
        let doing = |e| fault("counting", e);
        let tx = self.session.begin().await?;
        // It takes as long as there are identities.
        tx.batch_execute("SET LOCAL statement_timeout = 0").await.map_err(doing)?;
        tx.batch_execute(&format!(
            "CREATE TABLE {name} (segment_id text NOT NULL, environment_id text NOT NULL, count bigint NOT NULL, \
             PRIMARY KEY (segment_id, environment_id)); COMMENT ON TABLE {name} IS {}",
            literal(&self.job)
        ))
        .await
        .map_err(doing)?;
        let sql = format!(
            "INSERT INTO {name} SELECT segment_id, environment_id, count(*) \
             FROM {sets}, jsonb_array_elements_text(segments) AS segment_id GROUP BY 1, 2"
        );
        let rows = tx.execute_typed(&sql, &[]).await.map_err(doing)?;
        tx.batch_execute(&format!("DROP TABLE {sets}")).await.map_err(doing)?;
        tx.commit().await.map_err(doing)?;
        Ok(rows)
    }
}

/// The comment of a table; `None` where there is no such table.
async fn comment(tx: &Transaction<'_>, table: &str) -> Result<Option<String>, tokio_postgres::Error> {
    let row = tx
        .query_typed_one(
            "SELECT CASE WHEN to_regclass($1) IS NOT NULL THEN coalesce(obj_description(to_regclass($1)), '') END",
            &[(&ident(table), Type::TEXT)],
        )
        .await?;
    row.try_get(0)
}

/// The newest set of each identity in a batch.
fn newest(batch: &[Delivery]) -> Result<BTreeMap<String, &MembershipRecord>, Fault> {
    let mut newest: BTreeMap<String, &MembershipRecord> = BTreeMap::new();
    for delivery in batch {
        let OutRecord::Membership(set) = &delivery.record else {
            return Err(Fault::bug(format!("counts are counted from sets, not {}", delivery.topic.name())));
        };
        // As JSON, where no sign is one that Postgres can't store.
        let name = serde_json::json!([set.source, set.id]).to_string();
        let known = newest.entry(name).or_insert(set);
        if known.version < set.version {
            *known = set;
        }
    }
    Ok(newest)
}

/// Sets, column by column.
#[derive(Debug, Default)]
struct Rows {
    identities: Vec<String>,
    versions: Vec<i64>,
    environments: Vec<String>,
    segments: Vec<String>,
}

impl Rows {
    fn of(sets: &BTreeMap<String, &MembershipRecord>) -> Result<Self, Fault> {
        let mut rows = Self::default();
        for (identity, set) in sets {
            let ids: Vec<&str> = set.segments.iter().map(|member| member.segment_id.as_str()).collect();
            let environment = set.environment_id.as_str();
            if ids.iter().chain([&environment]).any(|id| id.contains('\0')) {
                return Err(Fault::refused(
                    "an id of a segment or environment holds a NUL, which Postgres can't store",
                ));
            }
            rows.identities.push(identity.clone());
            rows.versions.push(set.version.0);
            rows.environments.push(environment.to_owned());
            rows.segments.push(serde_json::json!(ids).to_string());
        }
        Ok(rows)
    }
}

fn refuse_name(table: &str) -> Result<(), Fault> {
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
    if table.is_empty()
        || table.len() > NAME_BYTES_MAX
        || !table.chars().all(plain)
        || table.starts_with(|c: char| c.is_ascii_digit())
    {
        return Err(Fault::config(format!(
            "'{table}' can't be the name of a new table: it has small letters, digits and '_', at most {NAME_BYTES_MAX}, \
             and begins with no digit"
        )));
    }
    Ok(())
}
