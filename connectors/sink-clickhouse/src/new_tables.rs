//! Tables in a database of their own, filled once from records that are kept elsewhere: an environment, a moment.
//!
//! ```text
//! open:  NAME made, with the sink's tables ─▶ NAME.sink notes what for ─▶ write, note how far ─▶ … ─▶ views
//! ```
//!
//! In: records, older first. Out: the tables that the sink would have. Nothing of the sink's own is touched, and no log
//! feeds them afterwards. What was noted says where to go on; what is written twice changes nothing.

use rollcall_model::{Delivery, Fault, Written};

use crate::config::ClickHouseSinkConfig;
use crate::sink::ClickHouseSink;
use crate::tables::{
    DATABASE, Inventory, REBUILD_DATABASE, TABLES, check_version, create_database, create_notes,
    create_own_views, create_table, database_exists, read_notes, write_note,
};
use crate::wire::Wire;

/// What they are filled with.
const JOB: &str = "job";
/// How far that is.
const STATE: &str = "job_state";
/// Once it is done.
const DONE: &str = "job_done";
const NAME_CHARS_MAX: usize = 100;

/// New tables beside the sink's.
#[derive(Debug)]
pub struct NewTables {
    sink: ClickHouseSink,
    database: String,
}

impl NewTables {
    /// Makes the database with its tables, or goes on where an earlier start of the same job stood: then answers what was
    /// noted last.
    ///
    /// # Errors
    /// A [`Fault`]: `Config` for a name that can't be one; `Refused` when there is a database of that name that is full or has
    /// anything else in it.
    pub async fn open(
        config: ClickHouseSinkConfig,
        database: &str,
        job: &str,
    ) -> Result<(Self, Option<String>), Fault> {
        refuse_name(database, &config.database)?;
        let mut sink = ClickHouseSink::connect(config)?;
        sink.aside = Some(database.to_owned());
        let wire = &sink.wire;
        check_version(wire).await?;
        let state = if database_exists(wire, database).await? {
            earlier(wire, database, job).await?
        } else {
            create_database(wire, database).await?;
            None
        };
        create_notes(wire, database).await?;
        write_note(wire, database, JOB, job).await?;
        for table in &TABLES {
            create_table(wire, database, table.ddl).await?;
        }
        Ok((Self { sink, database: database.to_owned() }, state))
    }

    /// Makes records durable.
    ///
    /// # Errors
    /// A [`Fault`] of the server.
    pub async fn write(&self, batch: &[Delivery]) -> Result<Written, Fault> {
        self.sink.write_batch(batch).await
    }

    /// Notes how far it is: what was written until now need not be written again.
    ///
    /// # Errors
    /// A [`Fault`] of the server.
    pub async fn note(&self, state: &str) -> Result<(), Fault> {
        write_note(&self.sink.wire, &self.database, STATE, state).await
    }

    /// Everything has been written: makes the views by which it is read.
    ///
    /// # Errors
    /// A [`Fault`] of the server.
    pub async fn finish(&self) -> Result<(), Fault> {
        create_own_views(&self.sink.wire, &self.database).await?;
        write_note(&self.sink.wire, &self.database, DONE, "yes").await
    }
}

/// What an earlier start noted; refused when it was another job's, or nobody's.
async fn earlier(wire: &Wire, database: &str, job: &str) -> Result<Option<String>, Fault> {
    let inventory = Inventory::of(wire, database).await?;
    if inventory.tables.is_empty() {
        return Ok(None);
    }
    let mut notes = Vec::new();
    if inventory.tables.contains_key("sink") {
        notes = read_notes(wire, database).await?;
    }
    let noted = |key: &str| notes.iter().find(|note| note.key == key).map(|note| note.value.clone());
    match noted(JOB) {
        Some(_) if noted(DONE).is_some() => Err(taken(database, "what such a command has filled")),
        Some(known) if known == job => Ok(noted(STATE)),
        // Killed before it had noted anything.
        None if inventory.tables.len() == 1 && inventory.tables.contains_key("sink") => Ok(None),
        Some(known) => Err(taken(database, &format!("what another command filled: {known}"))),
        None => Err(taken(database, "tables that no such command made")),
    }
}

fn taken(database: &str, what: &str) -> Fault {
    Fault::refused(format!("ClickHouse has a database {database} already, with {what}"))
        .repair(format!("choose another name; or, if nobody needs it: DROP DATABASE {database}"))
}

fn refuse_name(database: &str, platform: &str) -> Result<(), Fault> {
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let wrong =
        |why: &str| Err(Fault::config(format!("'{database}' can't be the name of a new database: {why}")));
    if database.is_empty() || database.len() > NAME_CHARS_MAX || !database.chars().all(plain) {
        return wrong("it has letters, digits and '_', at most 100");
    }
    if database.starts_with(|c: char| c.is_ascii_digit()) {
        return wrong("it begins with a digit");
    }
    let known = [DATABASE, REBUILD_DATABASE, platform, "system", "default", "information_schema"];
    if known.iter().any(|known| known.eq_ignore_ascii_case(database)) {
        return wrong("it is one that is used already");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_spliced_into_no_statement() {
        for bad in ["", "a b", "a;b", "a`b", "1a", "rollcall", "SYSTEM", "flags", &"a".repeat(101)] {
            assert!(refuse_name(bad, "flags").is_err(), "{bad}");
        }
        for good in ["then", "As_Of_2026", "_x"] {
            assert!(refuse_name(good, "flags").is_ok(), "{good}");
        }
    }
}
