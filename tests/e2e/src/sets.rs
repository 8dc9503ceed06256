//! Who is in what, as each store tells it, in one form.

use std::collections::{BTreeMap, BTreeSet};

use rollcall_kit::oracle::Verdict;
use rollcall_test_servers::ClickHouse;
use tokio_postgres::Client;

use crate::{Failure, Worker};

/// Identities by (segment, environment): numbers of rows and keys of items alike, as text.
pub type Members = BTreeMap<(i64, i64), BTreeSet<String>>;

/// What the reference says, but of environments that are gated off, and of those who have nobody.
#[must_use]
pub fn expected(verdict: Verdict, gated: &BTreeSet<i64>) -> Members {
    let rows = verdict
        .members
        .into_iter()
        .map(|(pair, members)| (pair, members.iter().map(ToString::to_string).collect()));
    rows.chain(verdict.at_edge)
        .filter(|((_, environment), members): &(_, BTreeSet<_>)| {
            !gated.contains(environment) && !members.is_empty()
        })
        .collect()
}

/// What readers of ClickHouse see; `keys` are the environments by their api keys.
///
/// # Errors
/// When it doesn't answer, or names an environment that nobody knows.
///
/// # Panics
/// When it lists a member twice.
pub async fn clickhouse_members(
    clickhouse: &ClickHouse,
    keys: &BTreeMap<&str, i64>,
) -> Result<Members, Failure> {
    let query = "SELECT segment_id, environment_id, id::String FROM rollcall.segment_members FORMAT JSONCompactEachRow";
    let text = reqwest::Client::new().post(clickhouse.url()).body(query).send().await?;
    let text = text.error_for_status()?.text().await?;
    let mut members = Members::new();
    for line in text.lines() {
        let (segment, key, id): (String, String, String) = serde_json::from_str(line)?;
        let environment = *keys.get(&*key).ok_or_else(|| format!("unknown environment {key}"))?;
        let fresh = members.entry((segment.parse()?, environment)).or_default().insert(id);
        assert!(fresh, "ClickHouse lists {line} twice");
    }
    Ok(members)
}

/// Replays the whole topic: entered and left take turns, and what remains is the membership (C02).
///
/// # Errors
/// When it can't be read.
///
/// # Panics
/// When an event stands twice, or says what can't be.
pub async fn sum_of_changes(worker: &Worker) -> Result<Members, Failure> {
    let (_, lines) = worker.ask(&["topic", "tail", "membership-changes", "--from", "beginning"]).await?;
    let mut members = Members::new();
    let mut events = BTreeSet::new();
    for line in &lines {
        let value = &line["value"];
        let Some(event) = value["event_id"].as_str() else { continue };
        assert!(events.insert(event.to_owned()), "event {event} stands twice");
        let environment: i64 = value["environment_id"].as_str().ok_or("no environment")?.parse()?;
        let number = || value["id"].as_i64().map(|id| id.to_string());
        let id = value["id"].as_str().map(str::to_owned).or_else(number).ok_or("no id")?;
        let ids = |field: &str| -> Result<Vec<i64>, Failure> {
            let list = value[field].as_array().ok_or("no list")?;
            list.iter().map(|id| Ok(id.as_str().ok_or("no id")?.parse()?)).collect()
        };
        for segment in ids("left")? {
            let there = members.get_mut(&(segment, environment)).is_some_and(|set| set.remove(&id));
            assert!(there, "left without having entered: {value}");
        }
        for segment in ids("entered")? {
            let fresh = members.entry((segment, environment)).or_default().insert(id.clone());
            assert!(fresh, "entered twice: {value}");
        }
    }
    members.retain(|_, set| !set.is_empty());
    Ok(members)
}

/// The platform's count rows.
///
/// # Errors
/// What Postgres says.
pub async fn platform_counts(client: &Client) -> Result<BTreeMap<(i64, i64), i64>, Failure> {
    let sql = "SELECT segment_id::int8, environment_id::int8, count::int8 \
               FROM segment_membership_segmentmembershipcount";
    let rows = client.query(sql, &[]).await?;
    Ok(rows.iter().map(|row| ((row.get(0), row.get(1)), row.get(2))).collect())
}

/// Compares sets pair by pair, and names who is too many and who is missing.
///
/// # Panics
/// When they differ.
pub fn assert_same(name: &str, found: &Members, expected: &Members) {
    let pairs: BTreeSet<_> = found.keys().chain(expected.keys()).collect();
    let none = BTreeSet::new();
    for pair in pairs {
        let (found, expected) = (found.get(pair).unwrap_or(&none), expected.get(pair).unwrap_or(&none));
        let extra: Vec<_> = found.difference(expected).take(10).collect();
        let missing: Vec<_> = expected.difference(found).take(10).collect();
        assert!(
            extra.is_empty() && missing.is_empty(),
            "{name}, (segment, environment) {pair:?}: should not have {extra:?}, lacks {missing:?}"
        );
    }
}
