//! Whether the schemas of topics and columns still say what the last release said.
//!
//! ```text
//! schemas/topics/T.vN.json    ┐           ┌ json.rs  both ways for public topics, old records for internal ones
//! schemas/avro/T.vN.avsc      ├─ check ──▶┤ avro.rs  both ways (Confluent's FULL)
//! schemas/arrow/T.vN.json     │           └ arrow.rs the same columns; a new version adds some at the end
//! schemas/released/{topics,avro,arrow}/… ┘
//!                                              ▼
//!                                    findings: file, field, rule
//! ```
//!
//! A schema may say more than its released form, never something else: the records of old releases are in the log and
//! must be read (backward), and consumers were written for the old form (forward), knowing that they have to pass over
//! fields that they don't know. A change that can't keep to this is a new version, `T.v2`, beside the old file.
//!
//! A release copies `topics`, `avro` and `arrow` into `released` (CONTRIBUTING.md); nothing else writes there. A topic is public
//! if it has an Avro schema.

mod arrow;
mod avro;
mod json;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::Path;

use arrow::Step;

/// The folders of schemas, and how their files end.
const KINDS: [(&str, &str); 3] = [("topics", "json"), ("avro", "avsc"), ("arrow", "json")];

/// What must not be.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Finding {
    /// The file, from the folder of schemas on.
    pub file: String,
    /// The field, with dots between and `[]` for what is in a list; empty for the record as a whole.
    pub field: String,
    /// What is not kept.
    pub rule: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let field = if self.field.is_empty() { "the record" } else { &self.field };
        write!(f, "schemas/{}: {field}: {}", self.file, self.rule)
    }
}

/// What a comparison found: field and rule.
pub(crate) type Found = BTreeSet<(String, String)>;

/// Whose reading must not break.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Readers {
    /// This release reads what the last one wrote.
    Ours,
    /// And consumers of the last release read what this one writes.
    All,
}

/// Compares every schema under `schemas` with its released form.
///
/// # Errors
/// A folder can't be read.
pub fn check(schemas: &Path) -> std::io::Result<Vec<Finding>> {
    let mut findings = Vec::new();
    let public: BTreeSet<String> = folder(&schemas.join("avro"))?
        .keys()
        .filter_map(|file| Some(version_of(file)?.0.to_owned()))
        .collect();
    for (kind, ending) in KINDS {
        let now = folder(&schemas.join(kind))?;
        let released = folder(&schemas.join("released").join(kind))?;
        let mut find = |file: &str, field: String, rule: String| {
            findings.push(Finding { file: format!("{kind}/{file}"), field, rule });
        };
        if released.is_empty() {
            find("", String::new(), "there is no released form to compare with".to_owned());
        }
        for (file, text) in &now {
            match version_of(file) {
                Some((topic, version, end)) if end == ending => {
                    let wanted = format!("urn:rollcall:topics:{topic}:v{version}");
                    if kind == "topics" && !text.contains(&format!("\"$id\": \"{wanted}\"")) {
                        find(file, "$id".to_owned(), format!("is not {wanted}"));
                    }
                    if kind == "arrow" {
                        for (field, rule) in columns_of(&now, topic, version) {
                            find(file, field, rule);
                        }
                    }
                }
                _ => find(file, String::new(), format!("is not named TOPIC.vN.{ending}")),
            }
        }
        for (file, old) in &released {
            let Some(new) = now.get(file) else {
                find(file, String::new(), "a released schema stays, also beside a newer version".to_owned());
                continue;
            };
            let readers = match version_of(file) {
                Some((topic, ..)) if !public.contains(topic) => Readers::Ours,
                _ => Readers::All,
            };
            let compared = match kind {
                "topics" => json::compare(old, new, readers),
                "avro" => avro::compare(old, new),
                _ => arrow::compare(old, new, Step::Same),
            };
            match compared {
                Ok(found) => found.into_iter().for_each(|(field, rule)| find(file, field, rule)),
                Err(what) => find(file, String::new(), what),
            }
        }
    }
    findings.sort();
    Ok(findings)
}

/// What is wrong with a schema of columns: by itself, or after the version before it.
fn columns_of(files: &BTreeMap<String, String>, name: &str, version: u32) -> Found {
    let file = |version: u32| files.get(&format!("{name}.v{version}.json"));
    let Some(text) = file(version) else { return Found::new() };
    let mut found = arrow::alone(text, name, version);
    if version > 1 {
        match file(version - 1).map(|old| arrow::compare(old, text, Step::Next)) {
            Some(Ok(differences)) => found.extend(differences),
            Some(Err(what)) => {
                found.insert((String::new(), what));
            }
            None => {
                found.insert((String::new(), format!("version {} is missing", version - 1)));
            }
        }
    }
    found
}

/// `memberships.v1.json`: topic, version, ending.
fn version_of(file: &str) -> Option<(&str, u32, &str)> {
    let (stem, ending) = file.rsplit_once('.')?;
    let (topic, version) = stem.rsplit_once(".v")?;
    Some((topic, version.parse().ok().filter(|version| *version > 0)?, ending))
}

/// The files of a folder by name, with what they say.
fn folder(path: &Path) -> std::io::Result<BTreeMap<String, String>> {
    let mut files = BTreeMap::new();
    for entry in std::fs::read_dir(path)
        .map_err(|e| std::io::Error::new(e.kind(), format!("{}: {e}", path.display())))?
    {
        let entry = entry?;
        files
            .insert(entry.file_name().to_string_lossy().into_owned(), std::fs::read_to_string(entry.path())?);
    }
    Ok(files)
}
