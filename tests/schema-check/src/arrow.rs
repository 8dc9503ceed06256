//! Schemas of columns: files of the lake and tables are read by place and name, so nothing of a released one moves.
//!
//! A new column is a new version, which begins with the columns of the one before: older files read as it with empty
//! columns at the end, and readers of the older form find theirs where they were.

use serde_json::Value;

use crate::Found;

/// How far a schema may differ from the other.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Step {
    /// The same version: not at all.
    Same,
    /// The next version: columns at the end.
    Next,
}

struct Column {
    name: String,
    column_type: String,
}

/// What of `new` isn't where readers of `old` look for it.
pub(crate) fn compare(old: &str, new: &str, step: Step) -> Result<Found, String> {
    let (old, new) = (columns(old)?, columns(new)?);
    let mut found = Found::new();
    for (place, was) in old.iter().enumerate() {
        let mut say = |rule: String| found.insert((was.name.clone(), rule));
        match new.iter().position(|column| column.name == was.name) {
            None => {
                say("a column may not be removed or renamed".to_owned());
            }
            Some(now) => {
                if new[now].column_type != was.column_type {
                    let (was, is) = (&was.column_type, &new[now].column_type);
                    say(format!("a column keeps its type: it was {was} and is {is}"));
                }
                if now != place {
                    say(format!("a column keeps its place: it was number {place} and is {now}"));
                }
            }
        }
    }
    if step == Step::Same {
        for column in new.iter().filter(|column| old.iter().all(|was| was.name != column.name)) {
            found.insert((column.name.clone(), "a new column is a new version, at its end".to_owned()));
        }
    }
    Ok(found)
}

/// What of a schema alone is wrong: what its file says of itself.
pub(crate) fn alone(text: &str, name: &str, version: u32) -> Found {
    let mut found = Found::new();
    let schema: Value = match serde_json::from_str(text) {
        Ok(schema) => schema,
        Err(error) => return Found::from([(String::new(), format!("is no JSON: {error}"))]),
    };
    let mut say = |field: &str, rule: &str| found.insert((field.to_owned(), rule.to_owned()));
    if schema["name"] != name {
        say("name", "isn't the file's");
    }
    if schema["version"] != version {
        say("version", "isn't the file's");
    }
    let mut names = Vec::new();
    for column in schema["columns"].as_array().into_iter().flatten() {
        let name = column["name"].as_str().unwrap_or_default();
        if column["doc"].as_str().unwrap_or_default().is_empty() {
            say(name, "has no doc");
        }
        if names.contains(&name) {
            say(name, "stands there twice");
        }
        names.push(name);
    }
    found
}

fn columns(text: &str) -> Result<Vec<Column>, String> {
    let schema: Value = serde_json::from_str(text).map_err(|e| format!("is no JSON: {e}"))?;
    let columns = schema["columns"].as_array().ok_or("has no columns")?;
    let text = |column: &Value, key: &str| column[key].as_str().map(str::to_owned);
    let column = |column: &Value| {
        let (name, column_type) = (text(column, "name"), text(column, "type"));
        name.zip(column_type).map(|(name, column_type)| Column { name, column_type })
    };
    columns
        .iter()
        .map(|c| column(c).ok_or_else(|| format!("has a column without name or type: {c}")))
        .collect()
}
