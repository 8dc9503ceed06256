//! `verify`: whether every store holds the same, at one cut of the log.

use std::collections::BTreeSet;

use clap::Args;
use serde::Serialize;
use serde_json::{Value, json};

use super::Asking;
use crate::api::{Checked, Verified};
use crate::failure::{Failure, Outcome};
use crate::output::{Output, or_dash, text_of};

/// Compare the roster's sets, ClickHouse and Postgres per segment and environment, by count and fingerprint
///
/// The stores are compared at one place of the log while traffic flows. JSON lines, told apart by `kind`: `checked`
/// {segment_id, environment_id, stores}, `difference` {text}, `parked` {key}, `unanswered` {task}, and last `verdict`
/// {equal}. Exits with 1 on a difference, or when a task did not answer.
#[derive(Debug, Args)]
pub(super) struct Verify {
    /// One environment, by id
    #[arg(long)]
    environment: Option<String>,
    /// One segment, by id
    #[arg(long)]
    segment: Option<String>,
    /// Also write what differs again, with cause `repair`
    #[arg(long)]
    repair: bool,
}

#[derive(Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
enum Line<'a> {
    Checked(&'a Checked),
    Difference { text: &'a str },
    Parked { key: &'a Value },
    Unanswered { task: &'a str },
    Verdict { equal: bool },
}

impl Verify {
    /// Asks and prints.
    pub(super) async fn execute(self, asking: &Asking) -> Result<Outcome, Failure> {
        let body = json!({"environment": self.environment, "segment": self.segment, "repair": self.repair});
        let verified: Verified = asking.client.post(&["verify"], &body).await?;
        let equal = verified.equal && verified.unanswered.is_empty();
        if asking.output.json {
            print_json(asking.output, &verified, equal)?;
        } else {
            print(asking.output, &verified, equal, self.repair)?;
        }
        Ok(if equal { Outcome::Done } else { Outcome::Difference })
    }
}

fn print_json(output: Output, verified: &Verified, equal: bool) -> Result<(), Failure> {
    verified.checked.iter().try_for_each(|checked| output.json_line(&Line::Checked(checked)))?;
    verified.differences.iter().try_for_each(|text| output.json_line(&Line::Difference { text }))?;
    verified.parked.iter().try_for_each(|key| output.json_line(&Line::Parked { key }))?;
    verified.unanswered.iter().try_for_each(|task| output.json_line(&Line::Unanswered { task }))?;
    output.json_line(&Line::Verdict { equal })
}

fn print(output: Output, verified: &Verified, equal: bool, repaired: bool) -> Result<(), Failure> {
    let stores: BTreeSet<&str> =
        verified.checked.iter().flat_map(|checked| checked.stores.keys().map(String::as_str)).collect();
    let header: Vec<&str> = ["SEGMENT", "ENVIRONMENT"].into_iter().chain(stores.iter().copied()).collect();
    let rows: Vec<Vec<String>> = verified
        .checked
        .iter()
        .map(|checked| {
            let names = [checked.segment_id.clone(), checked.environment_id.clone()];
            let counts = stores.iter().map(|store| or_dash(checked.stores.get(*store).copied().flatten()));
            names.into_iter().chain(counts).collect()
        })
        .collect();
    output.table(&header, &rows)?;
    verified.differences.iter().try_for_each(|text| output.line(&format!("difference: {text}")))?;
    verified.unanswered.iter().try_for_each(|task| output.line(&format!("no answer in time from {task}")))?;
    for key in &verified.parked {
        output.line(&format!("parked: {} (rollcall quarantine list)", text_of(key)))?;
    }
    let pairs = verified.checked.len();
    output.line(&match (equal, repaired) {
        (true, _) => format!("equal: {pairs} of (segment, environment)"),
        (false, true) => "not equal; what differs was written again: verify once more".to_owned(),
        (false, false) => "not equal; to write again what differs: rollcall verify --repair".to_owned(),
    })
}
