//! The independent oracle: Python with the platform's pinned reference engine reads the rows that stand in Postgres
//! and says who is in which segment.
//!
//! ```text
//! Postgres ──row_to_json, one snapshot──▶ oracle.py (flagsmith-flag-engine) ──▶ Verdict { members, raised }
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::env;
use std::error::Error;
use std::path::PathBuf;
use std::process::Stdio;

use futures_util::{StreamExt, pin_mut};
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

/// What the reference says.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Verdict {
    /// Identities by (segment, environment), also where there are none. Not for segments in `raised`.
    pub members: BTreeMap<(i64, i64), BTreeSet<i64>>,
    /// Segments on which it raised for some identity, or whose rules it can't be given, with the reason.
    pub raised: BTreeMap<i64, String>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Line {
    Raised { raised: i64, reason: String },
    Members { segment: i64, environment: i64, members: BTreeSet<i64> },
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

/// Judges everything that stands in the database now.
///
/// # Errors
/// When Postgres can't be read or the script fails; its own words are in the error.
pub async fn judge(client: &mut Client) -> Result<Verdict, Box<dyn Error + Send + Sync>> {
    let rows = dump(client).await?;
    judge_rows(rows).await
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

async fn judge_rows(rows: Vec<u8>) -> Result<Verdict, Box<dyn Error + Send + Sync>> {
    let mut python = Command::new(reference_python())
        .args(["-c", SCRIPT])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()?;
    let mut stdin = python.stdin.take().ok_or("the oracle has no stdin")?;
    // It reads all before it answers, and may answer more than a pipe holds: both at once. Should it die while
    // reading, its own words below say more than the broken pipe.
    let (written, output) = tokio::join!(
        async move {
            let written = stdin.write_all(&rows).await;
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
    let mut verdict = Verdict::default();
    for line in output.stdout.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
        match serde_json::from_slice(line)? {
            Line::Raised { raised, reason } => {
                verdict.raised.insert(raised, reason);
            }
            Line::Members { segment, environment, members } => {
                verdict.members.insert((segment, environment), members);
            }
        }
    }
    Ok(verdict)
}
