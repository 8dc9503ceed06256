//! A current set replaces what stood before it.
//!
//! `memberships` holds the last set of each identity, but a log that has not compacted yet also delivers earlier ones.
//! A set names the segments an identity is in, not those it is no longer in; so after sets were inserted, what the
//! table still holds of these identities at a lower version is gone, and gets a deleted row at the set's version.
//!
//! So sets have to come older first, as a topic and the files of a lake bring them. To begin again at any earlier one is as
//! good: what an old set names is below the deleted rows that the newer ones left. An old set that comes for the first time
//! after a newer one would bring back who had left; nothing reads in that order.

use std::collections::BTreeMap;

use clickhouse::Row;
use rollcall_columns::{MembershipRow, Superseded, memberships_batch};
use rollcall_model::{Delivery, Fault, MembershipRecord, OutRecord, Partition};
use serde::Deserialize;

use crate::insert::insert;
use crate::tables::{MEMBERS_BY_IDENTITY, MEMBERS_BY_SEGMENT};
use crate::wire::{InsertError, Wire};

/// Identities asked for at once.
const IDENTITIES_PER_QUERY: usize = 5_000;

#[derive(Row, Deserialize, Debug)]
struct Standing {
    source: String,
    id: String,
    segment_id: String,
    environment_id: String,
    platform_environment_id: String,
    version: i64,
}

/// Takes away what the sets of a batch, already inserted, leave behind. Returns the rows acknowledged.
pub(crate) async fn supersede(wire: &Wire, database: &str, batch: &[Delivery]) -> Result<u64, InsertError> {
    let newest: Vec<_> = newest_sets(batch).into_iter().collect();
    let mut rows = 0;
    for sets in newest.chunks(IDENTITIES_PER_QUERY) {
        let ids: Vec<&str> = sets.iter().map(|((_, id), _)| id.as_str()).collect();
        let standing = standing(wire, database, ids).await?;
        let sets: BTreeMap<_, _> = sets.iter().map(|(key, set)| (key, *set)).collect();
        let gone = standing.iter().filter_map(|row| {
            let (partition, set) = sets.get(&(row.source.clone(), row.id.clone()))?;
            let superseded = Superseded {
                segment_id: &row.segment_id,
                environment_id: &row.platform_environment_id,
                environment_key: &row.environment_id,
            };
            (row.version < set.version.0).then_some(MembershipRow::Superseded(*partition, set, superseded))
        });
        let gone = [memberships_batch(gone)?];
        for table in [&MEMBERS_BY_SEGMENT, &MEMBERS_BY_IDENTITY] {
            rows += insert(wire, database, table, &gone).await?;
        }
    }
    Ok(rows)
}

/// The newest set of each identity, by source and id as text.
fn newest_sets(batch: &[Delivery]) -> BTreeMap<(String, String), (Partition, &MembershipRecord)> {
    let mut newest: BTreeMap<_, (Partition, &MembershipRecord)> = BTreeMap::new();
    for delivery in batch {
        let OutRecord::Membership(set) = &delivery.record else { continue };
        let entry =
            newest.entry((set.source.to_string(), set.id.to_string())).or_insert((delivery.partition, set));
        if entry.1.version < set.version {
            *entry = (delivery.partition, set);
        }
    }
    newest
}

async fn standing(wire: &Wire, database: &str, ids: Vec<&str>) -> Result<Vec<Standing>, Fault> {
    let sql = format!(
        "SELECT source, id, segment_id, environment_id, platform_environment_id, \
         toUnixTimestamp64Micro(inserted_at) AS version FROM {database}.{} FINAL WHERE id IN {{ids:Array(String)}}",
        MEMBERS_BY_IDENTITY.name
    );
    wire.fetch("look for members of earlier sets", wire.query(&sql).param("ids", ids)).await
}
