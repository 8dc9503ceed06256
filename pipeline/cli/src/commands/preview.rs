//! `preview`: a draft's matches and, beside a segment, who would enter and leave, before anybody saves it.

use std::io::Read;
use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};
use rollcall_platforms::flagsmith::read_draft;
use serde::Serialize;
use serde_json::value::RawValue;

use super::Asking;
use super::backfill::spinner;
use crate::api::{Preview as PreviewAnswer, PreviewedIdentity};
use crate::failure::{Failure, Outcome};
use crate::output::{Output, or_dash};
use rollcall_model::time::utc;

/// Show how many and which identities a draft rule would match; beside a segment, who would enter and who would leave
///
/// FILE is JSON: a segment as the platform's API gives it ({"rules": […]}, with "key" or "id" where it has percentage
/// splits), or the bare list of rules. Nothing is changed. JSON lines, told apart by `kind`: `preview` {environment,
/// segment?, key, class, reason?, matching?, entering?, leaving?, staying?, candidates?, raised?, as_of_us, notes},
/// `identity` {id, identifier, identity_key, change?: enter|leave}, and where more follow `more` {cursor}. `class` is
/// `exact` (counted by ClickHouse), `superset` (each of `candidates` decided by the evaluator, for `reason`) or
/// `unsupported` (no numbers, for `reason`); a page after the first has no counts. Exits with 1 when the draft would
/// not be judged: it is unsupported, or judging raises on some identity (`raised` {identities, id, identifier,
/// reason}).
#[derive(Debug, Args)]
pub(super) struct Preview {
    /// The draft; `-` for the standard input
    #[arg(long, value_name = "FILE")]
    rule: PathBuf,
    /// The environment, by id
    #[arg(long)]
    environment: String,
    /// The segment that the draft would replace, by id
    #[arg(long)]
    segment: Option<String>,
    /// List only those who would enter, or only those who would leave
    #[arg(long, requires = "segment")]
    only: Option<Only>,
    /// At most this many
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    limit: u32,
    /// Where to go on: what the page before gave
    #[arg(long)]
    cursor: Option<String>,
}

#[derive(Clone, Copy, Debug, Serialize, ValueEnum)]
#[serde(rename_all = "snake_case")]
enum Only {
    Enter,
    Leave,
}

#[derive(Serialize)]
struct Body {
    rules: Box<RawValue>,
    environment: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    segment: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    only: Option<Only>,
    limit: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    cursor: Option<String>,
}

#[derive(Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
enum Line<'a> {
    Preview(&'a PreviewAnswer),
    Identity(&'a PreviewedIdentity),
    More { cursor: &'a str },
}

impl Preview {
    /// Asks and prints.
    pub(super) async fn execute(self, asking: &Asking) -> Result<Outcome, Failure> {
        let body = Body {
            rules: read_rules(&self.rule)?,
            environment: self.environment,
            segment: self.segment,
            only: self.only,
            limit: self.limit,
            cursor: self.cursor,
        };
        let bar = spinner(asking.output);
        bar.set_message("looking at identities");
        let answer = asking.client.post::<PreviewAnswer>(&["preview"], &body).await;
        bar.finish_and_clear();
        let answer = answer?;
        if asking.output.json {
            print_json(asking.output, &answer)?;
        } else {
            print(asking.output, &answer)?;
        }
        let is_judged = answer.class != "unsupported" && answer.raised.is_none();
        Ok(if is_judged { Outcome::Done } else { Outcome::Difference })
    }
}

/// The file as it stands, once it is known to be a draft: its faults are told with their place in it.
fn read_rules(path: &Path) -> Result<Box<RawValue>, Failure> {
    let is_stdin = path == Path::new("-");
    let name = if is_stdin { "the standard input".to_owned() } else { path.display().to_string() };
    let mut text = String::new();
    let read = if is_stdin {
        std::io::stdin().read_to_string(&mut text)
    } else {
        std::fs::File::open(path).and_then(|mut file| file.read_to_string(&mut text))
    };
    read.map_err(|error| Failure::Use(format!("can't read the draft from {name}: {error}")))?;
    read_draft(&text).map_err(|fault| {
        Failure::Use(format!(
            "{name}: {fault}\nrepair: write a segment with \"rules\" as the platform's API gives it, or the list of its rules: \
             [{{\"type\": \"ALL\", \"conditions\": [{{\"property\": \"plan\", \"operator\": \"EQUAL\", \"value\": \"pro\"}}]}}]"
        ))
    })?;
    RawValue::from_string(text).map_err(|error| Failure::Use(format!("{name}: {error}")))
}

fn print_json(output: Output, answer: &PreviewAnswer) -> Result<(), Failure> {
    output.json_line(&Line::Preview(answer))?;
    answer.identities.iter().try_for_each(|identity| output.json_line(&Line::Identity(identity)))?;
    answer.cursor.iter().try_for_each(|cursor| output.json_line(&Line::More { cursor }))
}

fn print(output: Output, answer: &PreviewAnswer) -> Result<(), Failure> {
    let environment = &answer.environment;
    let place = format!("environment {} ({})", environment.id, environment.name);
    match &answer.segment {
        None => output.line(&format!("draft in {place}"))?,
        Some(segment) => {
            let reason = segment.reason.as_ref().map_or_else(String::new, |reason| format!(": {reason}"));
            output.line(&format!("draft against segment {} ({}) in {place}", segment.id, segment.name))?;
            output.line(&format!("the segment is {}{reason}", segment.state))?;
        }
    }
    counts(answer).iter().try_for_each(|line| output.line(line))?;
    answer.notes.iter().try_for_each(|note| output.line(&format!("note: {note}")))?;
    let is_compared = answer.segment.is_some();
    if !answer.identities.is_empty() {
        let header: &[&str] =
            if is_compared { &["CHANGE", "ID", "IDENTIFIER"] } else { &["ID", "IDENTIFIER"] };
        output.list(&answer.identities, header, |identity| {
            let change = identity.change.clone().filter(|_| is_compared);
            change.into_iter().chain([identity.id.clone(), identity.identifier.clone()]).collect()
        })?;
    }
    if let Some(cursor) = &answer.cursor {
        output.line(&format!("more: --cursor '{cursor}'"))?;
    }
    output.line(&format!("as of {}", or_dash(answer.as_of_us.map(utc))))
}

/// What was found, and how.
fn counts(answer: &PreviewAnswer) -> Vec<String> {
    let reason = answer.reason.as_deref().unwrap_or_default();
    if answer.class == "unsupported" {
        return vec![format!("the draft can't be judged: {reason}")];
    }
    let Some(matching) = answer.matching else { return Vec::new() };
    let how = match answer.candidates {
        Some(candidates) => format!("{candidates} candidates decided one by one ({reason})"),
        None => "counted by ClickHouse".to_owned(),
    };
    let mut lines = vec![format!("{matching} match: {how}")];
    if let (Some(entering), Some(leaving), Some(staying)) = (answer.entering, answer.leaving, answer.staying)
    {
        lines.push(format!("{entering} would enter, {leaving} would leave, {staying} would stay"));
    }
    if let Some(raised) = &answer.raised {
        lines.push(format!(
            "judging raises on {} of them, for example on {} ({}): {}; such a segment would be suspended, with no members",
            raised.identities, raised.identifier, raised.id, raised.reason
        ));
    }
    lines
}
