//! Identities seen through a predicate, for `rollcall preview`: counts, pages, and whole candidates.
//!
//! ```text
//! IDENTITIES FINAL ─ condition ─▶ holds ─┐
//! members_by_segment FINAL ─────▶ member ┴▶ counts and the first page (one query: they agree) │ a later page │ candidates
//! ```
//!
//! Every query reads one environment in the order of the table, so what it holds in memory is a page and the ids of the
//! segment's members. A member without an image is not seen: there is nothing to judge, and the image is on its way.

use clickhouse::Row;
use clickhouse::query::Query;
use rollcall_model::{
    Candidate, Candidates, Fault, Listed, ListedPage, Sieve, Sifted, SiftedCounts, Sighting,
};
use serde::Deserialize;

use crate::reader::{ClickHouseReader, traits_of};

/// A page holds at most this many identities.
const LIMIT_MAX: u32 = 10_001;

/// Who is looked at: `holds` and `is_member` by the sieve's own texts.
fn seen(sieve: &Sieve) -> String {
    format!(
        "SELECT i.id AS id, i.identifier AS identifier, i.identity_key AS identity_key, ({}) AS holds, ({}) AS is_member \
         FROM rollcall.IDENTITIES AS i FINAL \
         WHERE i.environment_id = {{environment:String}} AND i.id > {{after:String}}",
        sieve.condition,
        member(sieve)
    )
}

/// Whether `i` is a member of the segment compared with.
fn member(sieve: &Sieve) -> &'static str {
    match sieve.segment_id {
        Some(_) => {
            "i.id IN (SELECT id FROM rollcall.members_by_segment FINAL \
             WHERE segment_id = {segment:String} AND environment_id = {environment:String})"
        }
        None => "0",
    }
}

/// [`Listed::covers`] in SQL.
fn listed(listed: Listed) -> &'static str {
    match listed {
        Listed::Matching => "holds",
        Listed::Entering => "holds AND NOT is_member",
        Listed::Leaving => "is_member AND NOT holds",
        Listed::Moving => "holds != is_member",
    }
}

#[derive(Row, Deserialize)]
struct StoredSighting {
    id: String,
    identifier: String,
    identity_key: String,
    holds: u8,
    is_member: u8,
}

impl From<StoredSighting> for Sighting {
    fn from(row: StoredSighting) -> Self {
        Self {
            id: row.id,
            identifier: row.identifier,
            identity_key: row.identity_key,
            holds: row.holds != 0,
            is_member: row.is_member != 0,
        }
    }
}

#[derive(Row, Deserialize)]
struct StoredCounts {
    matching: u64,
    entering: u64,
    leaving: u64,
    page: Vec<(String, String, String, u8, u8)>,
}

#[derive(Row, Deserialize)]
struct StoredCandidate {
    id: String,
    identifier: String,
    identity_key: String,
    holds: u8,
    is_member: u8,
    traits_text: String,
    trait_types: Vec<(String, String)>,
    traits_tagged: String,
}

impl ClickHouseReader {
    /// A page of the identities that a sieve is asked about and, with the first page, how many there are.
    ///
    /// # Errors
    /// A [`Fault`] when ClickHouse can't be read, or runs out of time or memory over it.
    pub async fn sift(&self, sieve: &Sieve, page: &ListedPage) -> Result<Sifted, Fault> {
        if page.after.is_some() {
            return Ok(Sifted { counts: None, page: self.later_page(sieve, page).await? });
        }
        let (entering, leaving) = (listed(Listed::Entering), listed(Listed::Leaving));
        let sql = format!(
            "SELECT countIf(holds) AS matching, countIf({entering}) AS entering, countIf({leaving}) AS leaving, \
             groupArraySortedIf({limit})((id, identifier, identity_key, holds, is_member), {listed}) AS page \
             FROM ({seen})",
            // A number of ours: the parameter of an aggregate function can't be bound.
            limit = page.limit.clamp(1, LIMIT_MAX),
            listed = listed(page.listed),
            seen = seen(sieve),
        );
        let rows: Vec<StoredCounts> =
            self.wire().fetch("count a draft's identities", self.bound(&sql, sieve, None)).await?;
        let Some(row) = rows.into_iter().next() else {
            return Err(Fault::bug("ClickHouse counts without an answer"));
        };
        let counts = SiftedCounts { matching: row.matching, entering: row.entering, leaving: row.leaving };
        let sighting = |(id, identifier, identity_key, holds, is_member)| {
            StoredSighting { id, identifier, identity_key, holds, is_member }.into()
        };
        Ok(Sifted { counts: Some(counts), page: row.page.into_iter().map(sighting).collect() })
    }

    async fn later_page(&self, sieve: &Sieve, page: &ListedPage) -> Result<Vec<Sighting>, Fault> {
        let sql = format!(
            "SELECT id, identifier, identity_key, holds, is_member FROM ({}) \
             WHERE {} ORDER BY id LIMIT {{limit:UInt32}}",
            seen(sieve),
            listed(page.listed)
        );
        let query =
            self.bound(&sql, sieve, page.after.as_deref()).param("limit", page.limit.clamp(1, LIMIT_MAX));
        let rows: Vec<StoredSighting> = self.wire().fetch("list a draft's identities", query).await?;
        Ok(rows.into_iter().map(Sighting::from).collect())
    }

    /// The next identities after `after`, at most `limit` (and 10,001), that the predicate holds for or that are
    /// members of the segment compared with, with their traits.
    ///
    /// # Errors
    /// A [`Fault`] when ClickHouse can't be read, or runs out of time or memory over it.
    pub async fn candidates(
        &self,
        sieve: &Sieve,
        after: Option<&str>,
        limit: u32,
    ) -> Result<Candidates, Fault> {
        let sql = format!(
            "SELECT i.id AS id, i.identifier AS identifier, i.identity_key AS identity_key, ({condition}) AS holds, \
             ({member}) AS is_member, CAST(i.traits, 'String') AS traits_text, \
             JSONAllPathsWithTypes(i.traits) AS trait_types, i.traits_tagged AS traits_tagged \
             FROM rollcall.IDENTITIES AS i FINAL \
             WHERE i.environment_id = {{environment:String}} AND i.id > {{after:String}} AND (holds OR is_member) \
             ORDER BY i.id LIMIT {{limit:UInt32}}",
            condition = sieve.condition,
            member = member(sieve),
        );
        let query = self.bound(&sql, sieve, after).param("limit", limit.clamp(1, LIMIT_MAX));
        let rows: Vec<StoredCandidate> = self.wire().fetch("read a draft's candidates", query).await?;
        let bytes = rows.iter().map(|row| (row.traits_text.len() + row.traits_tagged.len()) as u64).sum();
        let candidates = rows.into_iter().map(candidate).collect::<Result<_, _>>()?;
        Ok(Candidates { candidates, bytes })
    }

    fn bound(&self, sql: &str, sieve: &Sieve, after: Option<&str>) -> Query {
        let mut query = self
            .wire()
            .costly_query(sql)
            .param("environment", &sieve.environment_key)
            .param("after", after.unwrap_or_default());
        if let Some(segment) = &sieve.segment_id {
            query = query.param("segment", segment.as_str());
        }
        // Their values are written as the HTTP interface takes them already.
        sieve
            .params
            .iter()
            .fold(query, |query, (name, text)| query.with_setting(format!("param_{name}"), text))
    }
}

fn candidate(row: StoredCandidate) -> Result<Candidate, Fault> {
    let traits = traits_of(&row.id, &row.traits_text, row.trait_types, &row.traits_tagged)?;
    let (holds, is_member) = (row.holds, row.is_member);
    let sighting = StoredSighting {
        id: row.id,
        identifier: row.identifier,
        identity_key: row.identity_key,
        holds,
        is_member,
    };
    Ok(Candidate { sighting: sighting.into(), traits })
}
