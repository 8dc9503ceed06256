//! The segment of a line.
//!
//! The reference asks for `rules`, then for each rule's parts as it comes to them; a part that is falsy is an empty
//! group. What it never asks for may be anything.

use std::borrow::Cow;

use super::LineError;
use crate::compile::{CompiledSegment, ConditionSource, Given, RuleSource};
use crate::operators::PERCENTAGE_SPLIT;
use crate::python::{Int, Json, Text, write_float};

/// Compiles a segment.
pub(super) fn compile(segment: &Json<'_>) -> Result<CompiledSegment, LineError> {
    let entries = entries(segment, "segment")?;
    let key = match field(entries, "key") {
        None => None,
        Some(Json::Text(Text::Whole(key))) => Some(Cow::Borrowed(&**key)),
        Some(number @ (Json::Int(_) | Json::Float(_))) => number.text().map(Cow::Owned),
        Some(
            json @ (Json::Null
            | Json::Bool(_)
            | Json::Text(Text::Halves(_))
            | Json::List { .. }
            | Json::Object(_)),
        ) => return Err(LineError::unfit("segment.key", json, "text or a number")),
    };
    let rules = rules(entries, "segment")?;
    let invalid = match (field(entries, "rules"), &key) {
        (None, _) => Some("a segment without rules raises in the reference"),
        (Some(_), None) if !rules.is_empty() => Some("a segment without a key raises in the reference"),
        (Some(_), _) => None,
    };
    let id = key.unwrap_or_default().as_ref().into();
    Ok(CompiledSegment::of_source(id, &rules, invalid.map(str::to_owned)))
}

type Entries<'j, 'l> = &'j [(Text<'l>, Json<'l>)];

fn entries<'j, 'l>(json: &'j Json<'l>, path: &str) -> Result<Entries<'j, 'l>, LineError> {
    match json {
        Json::Object(entries) => Ok(entries),
        Json::Null | Json::Bool(_) | Json::Int(_) | Json::Float(_) | Json::Text(_) | Json::List { .. } => {
            Err(LineError::unfit(path, json, "an object"))
        }
    }
}

fn field<'j, 'l>(entries: Entries<'j, 'l>, name: &str) -> Option<&'j Json<'l>> {
    let named = |key: &Text<'_>| matches!(key, Text::Whole(key) if key == name);
    entries.iter().find(|(key, _)| named(key)).map(|(_, value)| value)
}

/// The items of a group, which may be absent or null.
fn group<'j, 'l>(entries: Entries<'j, 'l>, name: &str, parent: &str) -> Result<&'j [Json<'l>], LineError> {
    match field(entries, name) {
        None | Some(Json::Null) => Ok(&[]),
        Some(Json::List { items, .. }) => Ok(items),
        Some(json @ (Json::Bool(_) | Json::Int(_) | Json::Float(_) | Json::Text(_) | Json::Object(_))) => {
            Err(LineError::unfit(&format!("{parent}.{name}"), json, "a list"))
        }
    }
}

fn rules<'j>(parent: Entries<'j, '_>, path: &str) -> Result<Vec<RuleSource<'j>>, LineError> {
    group(parent, "rules", path)?
        .iter()
        .enumerate()
        .map(|(at, json)| rule(json, &format!("{path}.rules[{at}]")))
        .collect()
}

fn rule<'j>(json: &'j Json<'_>, path: &str) -> Result<RuleSource<'j>, LineError> {
    let entries = entries(json, path)?;
    let rule_type = match field(entries, "type") {
        Some(Json::Null) => None,
        json => text(json, path, "type")?,
    };
    let conditions = group(entries, "conditions", path)?
        .iter()
        .enumerate()
        .map(|(at, json)| condition(json, &format!("{path}.conditions[{at}]")))
        .collect::<Result<_, _>>()?;
    Ok(RuleSource { rule_type, conditions, rules: rules(entries, path)? })
}

fn condition<'j>(json: &'j Json<'_>, path: &str) -> Result<ConditionSource<'j>, LineError> {
    let entries = entries(json, path)?;
    let operator = text(field(entries, "operator"), path, "operator")?;
    let property = match field(entries, "property") {
        Some(Json::Null) => Given::Null,
        json => text(json, path, "property")?.map_or(Given::Absent, |text| Given::Text(text.into())),
    };
    let value = match field(entries, "value") {
        None => Given::Absent,
        Some(json) => value(json, operator.unwrap_or_default(), path)?,
    };
    Ok(ConditionSource { operator, property, value })
}

/// An operand. What each operator does with text is its own business; of what isn't text, a list has its own text as
/// an operand of IN, which reads the same list from it, and a split takes numbers as `float()` does.
fn value<'j>(json: &'j Json<'_>, operator: &str, path: &str) -> Result<Given<'j>, LineError> {
    let wanted = match (operator, json) {
        (_, Json::Null) | ("IS_SET" | "IS_NOT_SET", _) => return Ok(Given::Null),
        (_, Json::Text(Text::Whole(text))) => return Ok(Given::Text(Cow::Borrowed(text))),
        ("IN", Json::List { raw, .. }) => return Ok(Given::Text(Cow::Borrowed(raw))),
        (PERCENTAGE_SPLIT, Json::Int(Int::Small(n))) => return Ok(Given::Text(n.to_string().into())),
        (PERCENTAGE_SPLIT, Json::Float(x)) => {
            let mut text = String::new();
            return write_float(*x, &mut text)
                .map(|()| Given::Text(text.into()))
                .map_err(|_| LineError::unfit(&format!("{path}.value"), json, "text"));
        }
        ("IN", _) => "text or a list",
        (PERCENTAGE_SPLIT, _) => "text or a number",
        (_, _) => "text or null",
    };
    Err(LineError::unfit(&format!("{path}.value"), json, wanted))
}

/// Text, or nothing where the key is absent.
fn text<'j>(json: Option<&'j Json<'_>>, path: &str, name: &str) -> Result<Option<&'j str>, LineError> {
    match json {
        None => Ok(None),
        Some(Json::Text(Text::Whole(text))) => Ok(Some(text)),
        Some(
            json @ (Json::Null
            | Json::Bool(_)
            | Json::Int(_)
            | Json::Float(_)
            | Json::Text(Text::Halves(_))
            | Json::List { .. }
            | Json::Object(_)),
        ) => Err(LineError::unfit(&format!("{path}.{name}"), json, "text")),
    }
}
