//! `counts`, `members`, `explain`: who is in what, and why.

use std::borrow::Cow;

use clap::Args;

use super::Asking;
use crate::api::{
    ConditionExplanation, Counts as CountsAnswer, Explained, Members as MembersAnswer, RuleExplanation,
};
use crate::failure::{Failure, Outcome};
use crate::output::{Output, or_dash, text_of};
use crate::wire_dynamodb::DynamoDb;
use rollcall_model::time::utc;
use rollcall_model::{NativeId, SourceName};
use rollcall_runtime::topology::SourceConfig;
use rollcall_source_dynamodb::Enricher;

/// Operands and values are shown to people up to this length; `--json` has them whole.
const SHOWN_CHARACTERS_MAX: usize = 200;

/// Show the count of each segment in each environment
///
/// JSON lines: {segment_id, segment_name, environment_id, environment_key, count, state, reason?}. An unsupported
/// segment has no count, and says why.
#[derive(Debug, Args)]
pub(super) struct Counts {
    /// One segment, by id
    #[arg(long)]
    segment: Option<String>,
    /// One environment, by id
    #[arg(long)]
    environment: Option<String>,
}

impl Counts {
    /// Asks and prints.
    pub(super) async fn execute(self, asking: &Asking) -> Result<Outcome, Failure> {
        let query = [("segment", self.segment), ("environment", self.environment)];
        let answer: CountsAnswer = asking.client.get(&["counts"], &query).await?;
        let header = ["SEGMENT", "NAME", "ENVIRONMENT", "KEY", "COUNT", "STATE"];
        asking.output.list(&answer.counts, &header, |count| {
            let state = match &count.reason {
                Some(reason) => format!("{}: {reason}", count.state),
                None => count.state.clone(),
            };
            vec![
                count.segment_id.clone(),
                or_dash(count.segment_name.as_deref()),
                count.environment_id.clone(),
                or_dash(count.environment_key.as_deref()),
                or_dash(count.count),
                state,
            ]
        })?;
        if !asking.output.json {
            asking.output.line(&format!("as of {}", or_dash(answer.as_of_us.map(utc))))?;
        }
        Ok(Outcome::Done)
    }
}

/// Show the members of a segment in an environment
///
/// JSON lines: {id, identifier, identity_key, since_us, item?}; where more follow, a last line {cursor}. `item` comes with
/// --enrich: the record in DynamoDB's JSON, null where the table has none.
#[derive(Debug, Args)]
pub(super) struct Members {
    /// The segment, by id
    #[arg(long)]
    segment: String,
    /// The environment, by id
    #[arg(long)]
    environment: String,
    /// Only identifiers that hold this text
    #[arg(long)]
    query: Option<String>,
    /// At most this many
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    limit: u32,
    /// Where to go on: what the page before gave
    #[arg(long)]
    cursor: Option<String>,
    /// Add the record of each as its DynamoDB table has it now (BatchGetItem)
    #[arg(long)]
    enrich: bool,
    /// With --enrich: read capacity units spent in a second, at most
    #[arg(long, default_value_t = 100, requires = "enrich", value_parser = clap::value_parser!(u32).range(1..))]
    read_units_per_s: u32,
}

impl Members {
    /// Asks and prints.
    pub(super) async fn execute(self, asking: &Asking) -> Result<Outcome, Failure> {
        let query = [
            ("segment", Some(self.segment)),
            ("environment", Some(self.environment)),
            ("query", self.query),
            ("limit", Some(self.limit.to_string())),
            ("cursor", self.cursor),
        ];
        let mut answer: MembersAnswer = asking.client.get(&["members"], &query).await?;
        let mut header = vec!["ID", "IDENTIFIER", "SINCE"];
        if self.enrich {
            Box::pin(enrich(asking, &mut answer, self.read_units_per_s)).await?;
            header.push("ITEM");
        }
        asking.output.list(&answer.members, &header, |member| {
            let mut row = vec![text_of(&member.id), member.identifier.clone(), utc(member.since_us)];
            row.extend(member.item.as_ref().map(|item| shortened(&item.to_string()).into_owned()));
            row
        })?;
        match answer.cursor {
            Some(cursor) if asking.output.json => {
                asking.output.json_line(&serde_json::json!({ "cursor": cursor }))?;
            }
            Some(cursor) => asking.output.line(&format!("more: --cursor '{cursor}'"))?,
            None => {}
        }
        Ok(Outcome::Done)
    }
}

/// Adds the items of members to them.
async fn enrich(asking: &Asking, answer: &mut MembersAnswer, read_units_per_s: u32) -> Result<(), Failure> {
    let topology = asking.settings.topology()?;
    let name = SourceName::from(answer.source.as_deref().unwrap_or_default());
    let Some(SourceConfig::DynamoDb(config)) = topology.sources.get(&name) else {
        return Err(Failure::repairable(
            format!("the members of this environment are of source '{name}', which is no DynamoDB table"),
            "leave --enrich out: `rollcall explain` shows what is stored of an identity",
        ));
    };
    let source = DynamoDb::new(&name, config, &std::env::temp_dir())?;
    let (aws, table, key) = source.table();
    let enricher = Enricher::open(&aws, table, key, f64::from(read_units_per_s)).await?;
    let ids = answer.members.iter().map(|member| NativeId::Text(text_of(&member.id).into())).collect();
    let items = enricher.get(ids).await?;
    for member in &mut answer.members {
        let item = items.get(&NativeId::Text(text_of(&member.id).into()));
        let item = serde_json::to_value(item)
            .map_err(|error| Failure::job(format!("an item can't be written as JSON: {error}")))?;
        member.item = Some(item);
    }
    Ok(())
}

/// Show why an identity is or is not in a segment, condition by condition
///
/// JSON line: {member, unsupported?, parked, judged}; `judged` is the rule tree with the value found, its type, the operand
/// as it was cast to that type, and the verdict of each condition.
#[derive(Debug, Args)]
pub(super) struct Explain {
    /// The segment, by id
    #[arg(long)]
    segment: String,
    /// The environment, by id
    #[arg(long)]
    environment: String,
    /// The identity, by identifier
    #[arg(long)]
    identity: String,
}

impl Explain {
    /// Asks and prints.
    pub(super) async fn execute(self, asking: &Asking) -> Result<Outcome, Failure> {
        let title = format!("{} in segment {}", self.identity, self.segment);
        let query = [
            ("segment", Some(self.segment)),
            ("environment", Some(self.environment)),
            ("identity", Some(self.identity)),
        ];
        let answer: Explained = asking.client.get(&["explain"], &query).await?;
        if asking.output.json {
            asking.output.json_line(&answer)?;
        } else {
            let is = if answer.member { "is" } else { "is not" };
            asking.output.line(&format!("{title}: {is} a member"))?;
            if let Some(reason) = &answer.unsupported {
                asking.output.line(&format!("  the segment is not judged: {reason}"))?;
            }
            if answer.parked {
                asking.output.line("  a change of the identity waits: rollcall quarantine list")?;
            }
            print_rules(asking.output, &answer.judged.rules, 1)?;
        }
        Ok(Outcome::Done)
    }
}

/// A line per rule and condition: its verdict, what it asks, what it found.
fn print_rules(output: Output, rules: &[RuleExplanation], depth: usize) -> Result<(), Failure> {
    let indent = "  ".repeat(depth);
    for rule in rules {
        output.line(&format!("{indent}{} {} of", mark(rule.verdict), rule.rule_type))?;
        for condition in &rule.conditions {
            output.line(&format!("{indent}  {}", describe(condition)))?;
        }
        print_rules(output, &rule.rules, depth + 1)?;
    }
    Ok(())
}

fn describe(condition: &ConditionExplanation) -> String {
    let property =
        condition.property.as_deref().filter(|name| !name.is_empty()).unwrap_or("the identity's key");
    let operand =
        condition.operand.as_deref().map_or_else(String::new, |operand| format!(" '{}'", shortened(operand)));
    let found = match (&condition.found, &condition.found_type) {
        (Some(found), Some(kind)) => format!("found '{}' ({kind})", shortened(found)),
        (Some(found), None) => format!("found '{}'", shortened(found)),
        (None, _) => "found nothing".to_owned(),
    };
    let cast = match (&condition.operand_cast, &condition.found_type) {
        (Some(cast), _) => format!(", operand as {}", shortened(cast)),
        (None, Some(kind)) if condition.found.is_some() && casts(&condition.operator) => {
            format!(", the operand is no {kind}")
        }
        (None, _) => String::new(),
    };
    let raised = condition.raised.as_ref().map_or_else(String::new, |raised| format!("; raises: {raised}"));
    format!("{} {property} {}{operand}: {found}{cast}{raised}", mark(condition.verdict), condition.operator)
}

/// Whether the operator casts its operand to the type of what is found.
fn casts(operator: &str) -> bool {
    const COMPARISONS: [&str; 6] =
        ["EQUAL", "NOT_EQUAL", "GREATER_THAN", "GREATER_THAN_INCLUSIVE", "LESS_THAN", "LESS_THAN_INCLUSIVE"];
    COMPARISONS.contains(&operator)
}

/// Text that fits beside others in a line.
fn shortened(text: &str) -> Cow<'_, str> {
    match text.char_indices().nth(SHOWN_CHARACTERS_MAX) {
        None => Cow::Borrowed(text),
        Some((end, _)) => {
            let more = text[end..].chars().count();
            Cow::Owned(format!("{}… ({more} characters more)", &text[..end]))
        }
    }
}

fn mark(verdict: Option<bool>) -> &'static str {
    match verdict {
        Some(true) => "yes",
        Some(false) => "no ",
        None => "?  ",
    }
}
