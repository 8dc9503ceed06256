//! `rollcall-schema-check [FOLDER]`: compares the schemas with their released forms; a line for each finding, exit 1 if
//! there is any. The folder is `schemas` of this tree unless another is given.

use std::path::PathBuf;
use std::process::ExitCode;

fn main() -> ExitCode {
    let folder = std::env::args_os()
        .nth(1)
        .map_or_else(|| PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../schemas")), PathBuf::from);
    match rollcall_schema_check::check(&folder) {
        Ok(findings) if findings.is_empty() => {
            println!("schemas: each goes with its released form");
            ExitCode::SUCCESS
        }
        Ok(findings) => {
            for finding in &findings {
                eprintln!("{finding}");
            }
            eprintln!("A change that readers would notice is a new version, TOPIC.v2, beside the old file.");
            ExitCode::FAILURE
        }
        Err(error) => {
            eprintln!("the schemas can't be read: {error}");
            ExitCode::FAILURE
        }
    }
}
