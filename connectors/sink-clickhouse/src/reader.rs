//! Reading the members of a segment, page by page, for `rollcall members` and the HTTP API.

use std::collections::BTreeMap;

use clickhouse::Row;
use rollcall_columns::read_traits;
use rollcall_model::{Fault, SegmentId, Traits};
use serde::{Deserialize, Serialize};

use crate::config::ClickHouseSinkConfig;
use crate::wire::{REBUILD, Wire};

/// A page holds at most this many members.
const LIMIT_MAX: u32 = 10_000;

/// Reads what the sink wrote.
#[derive(Clone)]
pub struct ClickHouseReader {
    wire: Wire,
}

impl std::fmt::Debug for ClickHouseReader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ClickHouseReader").finish_non_exhaustive()
    }
}

/// A member.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct MemberRow {
    /// Its native id.
    pub id: String,
    /// Its identifier.
    pub identifier: String,
    /// `identity.key` as rules see it.
    pub identity_key: String,
    /// Since when, microseconds.
    pub since_us: i64,
    /// Its traits as rules see them: system traits win.
    pub traits: Traits,
}

/// A page of members in order of id as text.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct MembersPage {
    /// The members.
    pub members: Vec<MemberRow>,
    /// Where the next page begins; `None` after the last.
    pub next_cursor: Option<String>,
}

#[derive(Row, Deserialize)]
struct StoredMember {
    id: String,
    since_us: i64,
    identifier: String,
    identity_key: String,
    traits: String,
    trait_types: Vec<(String, String)>,
    traits_tagged: String,
}

/// The page's ids come first, from the order of the table; only for these are images read.
const MEMBERS: &str = "WITH page AS (
    SELECT id, since FROM rollcall.members_by_segment FINAL
    WHERE segment_id = {segment:String} AND environment_id = {environment:String} AND id > {cursor:String}
    ORDER BY id LIMIT {limit:UInt32}
)";
/// The same among those whose identifier contains a text, whatever its case.
const MATCHING_MEMBERS: &str = "WITH page AS (
    SELECT id, since FROM rollcall.members_by_segment FINAL
    WHERE segment_id = {segment:String} AND environment_id = {environment:String} AND id > {cursor:String}
        AND id IN (
            SELECT id FROM rollcall.IDENTITIES FINAL
            WHERE environment_id = {environment:String} AND positionCaseInsensitiveUTF8(identifier, {query:String}) > 0
        )
    ORDER BY id LIMIT {limit:UInt32}
)";
const PAGE: &str = "
SELECT
    p.id AS id, toUnixTimestamp64Micro(p.since) AS since_us,
    i.identifier AS identifier, i.identity_key AS identity_key,
    i.traits AS traits, i.trait_types AS trait_types, i.traits_tagged AS traits_tagged
FROM page AS p
LEFT ANY JOIN (
    SELECT
        id, identifier, identity_key, CAST(traits, 'String') AS traits,
        JSONAllPathsWithTypes(IDENTITIES.traits) AS trait_types, traits_tagged
    FROM rollcall.IDENTITIES FINAL
    WHERE environment_id = {environment:String} AND id IN (SELECT id FROM page)
) AS i ON i.id = p.id
ORDER BY id";

impl ClickHouseReader {
    /// A reader of a server. Talks to it only when asked.
    ///
    /// # Errors
    /// [`rollcall_model::FaultKind::Config`] when the URL can't be one.
    pub fn connect(config: &ClickHouseSinkConfig) -> Result<Self, Fault> {
        Ok(Self { wire: Wire::new(config)? })
    }

    pub(crate) fn wire(&self) -> &Wire {
        &self.wire
    }

    /// A page of the members of a segment in an environment, named by its api key: those whose identifier contains
    /// `query`, after `cursor`, at most `limit` (and 10,000).
    ///
    /// # Errors
    /// A [`Fault`] when ClickHouse can't be read.
    pub async fn members(
        &self,
        segment_id: &SegmentId,
        environment_key: &str,
        query: Option<&str>,
        limit: u32,
        cursor: Option<&str>,
    ) -> Result<MembersPage, Fault> {
        let limit = limit.clamp(1, LIMIT_MAX);
        let select = match query {
            Some(text) => self.wire.query(&format!("{MATCHING_MEMBERS}{PAGE}")).param("query", text),
            None => self.wire.query(&format!("{MEMBERS}{PAGE}")),
        }
        .param("segment", segment_id.as_str())
        .param("environment", environment_key)
        .param("cursor", cursor.unwrap_or_default())
        .param("limit", limit + 1);
        let mut rows: Vec<StoredMember> = self.wire.fetch("list members", select).await?;
        // One more than asked for says whether there is a next page.
        let has_more = rows.len() > limit as usize;
        rows.truncate(limit as usize);
        let members = rows.into_iter().map(member).collect::<Result<Vec<_>, _>>()?;
        let next_cursor = members.last().filter(|_| has_more).map(|m| m.id.clone());
        Ok(MembersPage { members, next_cursor })
    }

    /// How many members a segment has in an environment, named by its api key.
    ///
    /// # Errors
    /// A [`Fault`] when ClickHouse can't be read.
    pub async fn count(&self, segment_id: &SegmentId, environment_key: &str) -> Result<u64, Fault> {
        #[derive(Row, Deserialize)]
        struct Count {
            members: u64,
        }
        let query = self
            .wire
            .query(
                "SELECT count() AS members FROM rollcall.members_by_segment FINAL \
                 WHERE segment_id = {segment:String} AND environment_id = {environment:String}",
            )
            .param("segment", segment_id.as_str())
            .param("environment", environment_key);
        let counts: Vec<Count> = self.wire.fetch("count members", query).await?;
        Ok(counts.first().map_or(0, |c| c.members))
    }
}

fn member(row: StoredMember) -> Result<MemberRow, Fault> {
    let traits = traits_of(&row.id, &row.traits, row.trait_types, &row.traits_tagged)?;
    Ok(MemberRow {
        id: row.id,
        identifier: row.identifier,
        identity_key: row.identity_key,
        since_us: row.since_us,
        traits,
    })
}

/// The traits of a row of `IDENTITIES`: the JSON column as text, its paths' types, the tagged rest.
pub(crate) fn traits_of(
    id: &str,
    text: &str,
    types: Vec<(String, String)>,
    tagged: &str,
) -> Result<Traits, Fault> {
    let types: BTreeMap<String, String> = types.into_iter().collect();
    // A member whose image is not there yet has no text at all.
    let text = if text.is_empty() { "{}" } else { text };
    read_traits(text, &types, tagged).map_err(|e| {
        Fault::refused(format!("rollcall.IDENTITIES holds a row of id {id} that this sink did not write"))
            .from_source(e)
            .repair(REBUILD)
    })
}
