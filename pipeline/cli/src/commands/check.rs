//! `check`: the topology file alone, without asking anybody.

use clap::Args;
use rollcall_runtime::topology::{Agreement, json_schema};

use crate::failure::{Failure, Outcome};
use crate::output::Output;
use crate::settings::Settings;

/// Check the topology file: every fault at once, with line and column
///
/// Reads nothing but the file and the environment. Exits with 78 when there is a fault.
#[derive(Debug, Args)]
pub(super) struct Check {
    /// Print every key as a JSON Schema instead
    #[arg(long)]
    schema: bool,
}

impl Check {
    /// Whether only the schema is wanted, for which no file is needed.
    pub(super) fn wants_schema(&self) -> bool {
        self.schema
    }

    /// Prints the schema.
    #[expect(clippy::unused_self, reason = "the command that was given")]
    pub(super) fn schema(&self, output: Output) -> Result<Outcome, Failure> {
        let text = serde_json::to_string_pretty(&json_schema())
            .map_err(|error| Failure::job(format!("can't write the schema: {error}")))?;
        output.line(&text)?;
        Ok(Outcome::Done)
    }

    /// Checks the file.
    #[expect(clippy::unused_self, reason = "the command that was given")]
    pub(super) fn check(&self, settings: &Settings, output: Output) -> Result<Outcome, Failure> {
        let agreement = Agreement::of(&settings.topology()?);
        if output.json {
            output.json_line(&agreement)?;
        } else {
            let names =
                |names: Vec<&str>| if names.is_empty() { "none".to_owned() } else { names.join(", ") };
            output.line(&format!(
                "{}: no faults; {} partitions, sources: {}, sinks: {}",
                settings.path.display(),
                agreement.partitions,
                names(agreement.sources.keys().map(rollcall_model::SourceName::as_str).collect()),
                names(agreement.sinks.keys().map(String::as_str).collect()),
            ))?;
        }
        Ok(Outcome::Done)
    }
}
