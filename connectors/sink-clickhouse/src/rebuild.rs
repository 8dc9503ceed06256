//! A rebuild fills new tables beside the old ones and exchanges them, so that readers never see half of one.
//!
//! ```text
//! reset:    rollcall_rebuild.T made empty, its uuids noted ─▶ writes go there, readers go on with rollcall.T
//! rebuilt:  EXCHANGE rollcall.T AND rollcall_rebuild.T ─▶ drop the old ─▶ note taken away
//! ```
//!
//! The noted uuids make every step repeatable: a table that already has the new one's uuid is not exchanged back. A
//! sink that stops in between finds the note in `prepare` and goes on filling.

use std::collections::BTreeMap;

use rollcall_model::{Fault, LogId};

use crate::tables::{
    DATABASE, Inventory, Notes, REBUILD_DATABASE, TABLES, create_database, create_notes, create_table,
};
use crate::wire::Wire;

/// Makes the new tables and notes them, together with the log that will fill them.
pub(crate) async fn begin(wire: &Wire, log: &LogId) -> Result<(), Fault> {
    create_database(wire, DATABASE).await?;
    create_database(wire, REBUILD_DATABASE).await?;
    create_notes(wire, DATABASE).await?;
    for table in TABLES {
        drop_new(wire, table.name).await?;
        create_table(wire, REBUILD_DATABASE, table.ddl).await?;
    }
    let made = Inventory::of(wire, REBUILD_DATABASE).await?;
    let mut rebuild = BTreeMap::new();
    for table in TABLES {
        let Some(facts) = made.tables.get(table.name) else {
            return Err(Fault::retry(format!("{REBUILD_DATABASE}.{} is not there yet", table.name)));
        };
        rebuild.insert(table.name.to_owned(), facts.uuid.clone());
    }
    Notes { log_id: Some(log.clone()), rebuild }.write(wire).await
}

/// Puts the new tables in the place of the old ones.
pub(crate) async fn finish(wire: &Wire, notes: &Notes) -> Result<(), Fault> {
    for (name, uuid) in &notes.rebuild {
        let shown = Inventory::of(wire, DATABASE).await?;
        let statement = match shown.tables.get(name) {
            Some(facts) if facts.uuid == *uuid => None,
            Some(_) => Some(
                "EXCHANGE TABLES {shown:Identifier}.{name:Identifier} AND {new:Identifier}.{name:Identifier}",
            ),
            None => Some(
                "RENAME TABLE {new:Identifier}.{name:Identifier} TO {shown:Identifier}.{name:Identifier}",
            ),
        };
        if let Some(sql) = statement {
            let query =
                wire.query(sql).param("shown", DATABASE).param("new", REBUILD_DATABASE).param("name", name);
            wire.execute("exchange a rebuilt table", query).await?;
        }
        drop_new(wire, name).await?;
    }
    Notes { log_id: notes.log_id.clone(), rebuild: BTreeMap::new() }.write(wire).await
}

/// Drops what stands in the rebuild database: an attempt that was given up, or the old table after the exchange.
async fn drop_new(wire: &Wire, name: &str) -> Result<(), Fault> {
    let query = wire
        .query("DROP TABLE IF EXISTS {new:Identifier}.{name:Identifier} SYNC")
        .param("new", REBUILD_DATABASE)
        .param("name", name);
    wire.execute("drop a table of a rebuild", query).await
}
