//! `apply`: makes the log agree to a changed topology file.

use clap::Args;
use rollcall_runtime::topology::Agreement;
use serde_json::json;

use super::Asking;
use crate::api::Applied;
use crate::failure::{Failure, Outcome};

/// Make the log agree to the topology file: gates, sources and sinks
///
/// A worker whose file differs from what the log says refuses to start. JSON lines: {key, line, refused?}. Exits with 1
/// when something can't be applied; then nothing is.
#[derive(Debug, Args)]
pub(super) struct Apply {
    /// Only show what would change and what follows from it
    #[arg(long)]
    plan: bool,
}

impl Apply {
    /// Asks and prints.
    pub(super) async fn execute(self, asking: &Asking) -> Result<Outcome, Failure> {
        // Checked here, where the variables of whoever edits the file are; secrets stay here too.
        let agreement = Agreement::of(&asking.settings.topology()?);
        let body = json!({"topology": asking.settings.text, "agreement": agreement, "plan": self.plan});
        let answer: Applied = asking.client.post(&["apply"], &body).await?;
        let refused = answer.differences.iter().any(|difference| difference.refused.is_some());
        for difference in &answer.differences {
            if asking.output.json {
                asking.output.json_line(difference)?;
                continue;
            }
            asking.output.line(&difference.line)?;
            if let Some(why) = &difference.refused {
                asking.output.line(&format!("  refused: {why}"))?;
            }
        }
        if !asking.output.json {
            asking.output.line(match (answer.differences.is_empty(), refused, self.plan) {
                (true, _, _) => "nothing changes",
                (false, true, _) => "nothing was applied",
                (false, false, true) => "to apply it: rollcall apply",
                (false, false, false) => "applied",
            })?;
        }
        Ok(if refused { Outcome::Difference } else { Outcome::Done })
    }
}
