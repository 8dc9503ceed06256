//! The independent oracle: Python with the platform's pinned reference engine reads the rows that stand in Postgres, and
//! the items that stand at the edge, and says who is in which segment.
//!
//! ```text
//! Postgres ──row_to_json, one snapshot──▶ oracle.py (flagsmith-flag-engine) ──▶ Verdict { members, at_edge, raised, unread }
//! items in DynamoDB's JSON ─────────────▶     │
//!                                             └─ alone: how each item is read ─▶ ItemReading
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::env;
use std::error::Error;
use std::path::PathBuf;
use std::process::Stdio;

use futures_util::{StreamExt, pin_mut};
use rollcall_model::{Item, Traits};
use serde::Deserialize;
use tokio::io::AsyncWriteExt;
use tokio::process::Command;
use tokio_postgres::{Client, IsolationLevel};

/// What goes to Python; no file has to be found.
const SCRIPT: &str = include_str!("oracle.py");

/// The tables it reads.
const TABLES: [&str; 8] = [
    "organisations_organisation",
    "projects_project",
    "environments_environment",
    "segments_segment",
    "segments_segmentrule",
    "segments_condition",
    "environments_identity",
    "environments_trait",
];

/// Why there is no verdict.
pub type Failure = Box<dyn Error + Send + Sync>;

/// What the reference says.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Verdict {
    /// Identities by (segment, environment), also where there are none. Not for segments in `raised`.
    pub members: BTreeMap<(i64, i64), BTreeSet<i64>>,
    /// The same of environments whose project lives at the edge: the composite keys of items.
    pub at_edge: BTreeMap<(i64, i64), BTreeSet<String>>,
    /// Segments on which it raised for some identity, or whose rules it can't be given, with the reason.
    pub raised: BTreeMap<i64, String>,
    /// Items that can't be read, by composite key (empty where that is what is missing), with the reason.
    pub unread: BTreeMap<String, String>,
}

/// How an item is read: what the engine is given of it.
#[derive(Clone, PartialEq, Eq, Debug, Deserialize)]
#[serde(untagged)]
pub enum ItemReading {
    /// An identity.
    Identity {
        /// The api key of its environment.
        environment_key: String,
        /// What the platform's users call it.
        identifier: String,
        /// `identity.key`.
        identity_key: String,
        /// Its traits, with the system traits over them.
        traits: Traits,
    },
    /// None, with the reason.
    Unread {
        /// The composite key, where there is one.
        unread: String,
        /// Why.
        reason: String,
    },
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Line {
    Raised { raised: i64, reason: String },
    Unread { unread: String, reason: String },
    Members { segment: i64, environment: i64, members: BTreeSet<i64> },
    Keys { segment: i64, environment: i64, keys: BTreeSet<String> },
}

/// The interpreter with the reference engine: `ROLLCALL_REFERENCE_PYTHON`, or the one that `make servers` makes.
///
/// # Panics
/// When there is none: a test that needs it fails, and says what to do.
#[must_use]
pub fn reference_python() -> PathBuf {
    let python = env::var_os("ROLLCALL_REFERENCE_PYTHON").map_or_else(
        || {
            let cache = env::var_os("ROLLCALL_SERVERS").map_or_else(
                || PathBuf::from(env::var_os("HOME").unwrap_or_default()).join(".cache/rollcall/servers"),
                PathBuf::from,
            );
            cache.join("venv/bin/python")
        },
        PathBuf::from,
    );
    assert!(
        python.exists(),
        "no Python with the reference engine at {}: run `make servers`, or set ROLLCALL_REFERENCE_PYTHON",
        python.display()
    );
    python
}

/// Judges everything that stands in the database now; nothing stands at the edge.
///
/// # Errors
/// When Postgres can't be read or the script fails; its own words are in the error.
pub async fn judge(client: &mut Client) -> Result<Verdict, Failure> {
    judge_with_items(client, &[]).await
}

/// Judges everything that stands in the database now, and these items of the edge.
///
/// # Errors
/// As [`judge`].
pub async fn judge_with_items(client: &mut Client, items: &[Item]) -> Result<Verdict, Failure> {
    let mut lines = dump(client).await?;
    for item in items {
        serde_json::to_writer(&mut lines, &BTreeMap::from([("item", item)]))?;
        lines.push(b'\n');
    }
    judge_lines(lines).await
}

/// How the platform reads each of these items.
///
/// # Errors
/// When the script fails; its own words are in the error.
pub async fn read_items(items: &[Item]) -> Result<Vec<ItemReading>, Failure> {
    let mut lines = Vec::new();
    for item in items {
        serde_json::to_writer(&mut lines, item)?;
        lines.push(b'\n');
    }
    let output = ask(&["items"], lines).await?;
    let readings: Vec<_> = lines_of(&output).map(serde_json::from_slice).collect::<Result<_, _>>()?;
    if readings.len() != items.len() {
        return Err(format!("{} items were given, {} readings came", items.len(), readings.len()).into());
    }
    Ok(readings)
}

/// The rows of one snapshot, as JSON lines.
async fn dump(client: &mut Client) -> Result<Vec<u8>, tokio_postgres::Error> {
    let transaction = client
        .build_transaction()
        .isolation_level(IsolationLevel::RepeatableRead)
        .read_only(true)
        .start()
        .await?;
    let mut rows = Vec::new();
    for table in TABLES {
        let sql = format!(
            "SELECT json_build_object('table', '{table}', 'row', row_to_json(t))::text FROM {table} t"
        );
        let stream = transaction.query_raw(&sql, std::iter::empty::<i32>()).await?;
        pin_mut!(stream);
        while let Some(row) = stream.next().await {
            rows.extend_from_slice(row?.get::<_, &str>(0).as_bytes());
            rows.push(b'\n');
        }
    }
    transaction.commit().await?;
    Ok(rows)
}

async fn judge_lines(lines: Vec<u8>) -> Result<Verdict, Failure> {
    let output = ask(&[], lines).await?;
    let mut verdict = Verdict::default();
    for line in lines_of(&output) {
        match serde_json::from_slice(line)? {
            Line::Raised { raised, reason } => {
                verdict.raised.insert(raised, reason);
            }
            Line::Unread { unread, reason } => {
                verdict.unread.insert(unread, reason);
            }
            Line::Members { segment, environment, members } => {
                verdict.members.insert((segment, environment), members);
            }
            Line::Keys { segment, environment, keys } => {
                verdict.at_edge.insert((segment, environment), keys);
            }
        }
    }
    Ok(verdict)
}

fn lines_of(output: &[u8]) -> impl Iterator<Item = &[u8]> {
    output.split(|byte| *byte == b'\n').filter(|line| !line.is_empty())
}

/// Runs the script over `input`; what it prints.
async fn ask(arguments: &[&str], input: Vec<u8>) -> Result<Vec<u8>, Failure> {
    let mut python = Command::new(reference_python())
        .args(["-c", SCRIPT])
        .args(arguments)
        .env("PYTHONIOENCODING", "utf-8")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()?;
    let mut stdin = python.stdin.take().ok_or("the oracle has no stdin")?;
    // It may read all before it answers, and answer more than a pipe holds: both at once. Should it die while
    // reading, its own words below say more than the broken pipe.
    let (written, output) = tokio::join!(
        async move {
            let written = stdin.write_all(&input).await;
            drop(stdin);
            written
        },
        python.wait_with_output()
    );
    let output = output?;
    if !output.status.success() {
        return Err(format!("the oracle failed: {}", String::from_utf8_lossy(&output.stderr)).into());
    }
    written?;
    Ok(output.stdout)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use serde_json::{Value as Json, json};

    use super::*;

    fn row(table: &str, row: Json) -> Json {
        json!({"table": table, "row": row})
    }
    fn segment(id: i64, condition: Json) -> Json {
        let rules = json!([{"type": "ALL", "rules": [], "conditions": [condition]}]);
        row(
            "segments_segment",
            json!({"id": id, "version_of_id": id, "name": "s", "project_id": 2, "deleted_at": null, "rules_data": rules}),
        )
    }
    fn item(identifier: &str, key: &str, traits: &Json, system_traits: &Json) -> Json {
        json!({"item": {
            "composite_key": {"S": format!("{key}_{identifier}")}, "environment_api_key": {"S": key},
            "identifier": {"S": identifier}, "identity_traits": traits, "system_traits": system_traits
        }})
    }

    #[tokio::test]
    async fn items_are_judged_where_the_project_lives_at_the_edge_and_nowhere_else() {
        let plan = |value: Json| json!({"M": {"trait_key": {"S": "plan"}, "trait_value": value}});
        let (growth, free) = (plan(json!({"S": "growth"})), plan(json!({"S": "free"})));
        let none = json!({"NULL": true});
        let environment = |id: i64, project: i64, key: &str| {
            let row =
                json!({"id": id, "project_id": project, "api_key": key, "name": "n", "deleted_at": null});
            self::row("environments_environment", row)
        };
        let project = |id: i64, edge: bool| {
            let row = json!({"id": id, "organisation_id": 1, "enable_dynamo_db": edge, "deleted_at": null});
            self::row("projects_project", row)
        };
        let equal = |value: &str| json!({"property": "plan", "operator": "EQUAL", "value": value});
        let lines = [
            row("organisations_organisation", json!({"id": 1, "deleted_at": null})),
            project(2, true),
            project(20, false),
            environment(3, 2, "k"),
            environment(30, 20, "core"),
            segment(5, equal("growth")),
            segment(6, equal("1e1")),
            segment(7, json!({"property": "$.identity.key", "operator": "IN", "value": "k_a,k_b"})),
            segment(8, json!({"property": "plan", "operator": "MODULO", "value": "0|1"})),
            // The last of a key counts, and a system trait over it.
            item("a", "k", &json!({"L": [free, growth]}), &none),
            item("b", "k", &json!({"L": [growth, free]}), &none),
            item("c", "k", &json!({"L": [growth]}), &json!({"M": {"plan": {"S": "free"}}})),
            item(
                "d",
                "k",
                &json!({"L": [plan(json!({"N": "10.5"}))]}),
                &json!({"M": {"plan": {"N": "10.0"}}}),
            ),
            item("e", "k", &json!({"S": "no list"}), &none),
            item("f", "core", &json!({"L": [growth]}), &none),
        ];
        let lines: Vec<String> = lines.iter().map(Json::to_string).collect();
        let verdict = judge_lines(lines.join("\n").into_bytes()).await.unwrap();
        let keys = |keys: &[&str]| keys.iter().map(|key| (*key).to_owned()).collect::<BTreeSet<_>>();
        // 10.0 comes back as 10, an int, which `1e1` can't be compared with.
        assert_eq!(
            verdict.at_edge,
            [((5, 3), keys(&["k_a"])), ((6, 3), keys(&[])), ((7, 3), keys(&["k_a", "k_b"]))].into()
        );
        assert!(verdict.members.is_empty());
        assert_eq!(verdict.raised.keys().collect::<Vec<_>>(), [&8]);
        assert_eq!(verdict.unread.keys().collect::<Vec<_>>(), ["k_e"]);
    }
}
